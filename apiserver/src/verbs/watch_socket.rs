//! A watch over a WebSocket, as browsers and old clients ask for it: every event is one text message.

use axum::response::Response;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::Extensions;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::context::Context;
use crate::status::ApiResult;
use crate::websocket;

/// Clients have nothing to say on a watch.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Agrees to the upgrade; `frames` are lines of events, as on an ordinary watch.
pub(super) fn upgrade(
    context: &Context,
    extensions: &mut Extensions,
    frames: BoxStream<'static, Bytes>,
) -> ApiResult<Response> {
    // A browser that offers protocols gives up unless one of them is chosen.
    let offered = websocket::protocols(&context.headers);
    let protocol = offered.split(", ").find(|name| !name.is_empty());
    let (client, response) = websocket::accept(context, extensions, protocol)?;
    let stopping = context.server.stopping.clone();
    // Ends with the watch, with the client, or with the server.
    tokio::spawn(async move {
        let serve = async {
            let client = TokioIo::new(client.await.map_err(std::io::Error::other)?);
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
            let (sink, stream) = socket.split();
            carry(frames, sink, stream).await
        };
        tokio::select! {
            outcome = serve => if let Err(error) = outcome {
                tracing::debug!(%error, "a watch over a WebSocket broke");
            },
            () = stopping.cancelled() => {}
        }
    });
    Ok(response)
}

async fn carry(
    mut frames: BoxStream<'static, Bytes>,
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    mut stream: impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
) -> Result<(), tungstenite::Error> {
    loop {
        tokio::select! {
            frame = frames.next() => {
                let Some(frame) = frame else {
                    return sink.close().await;
                };
                for line in frame.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let text = Utf8Bytes::try_from(frame.slice_ref(line))
                        .map_err(std::io::Error::other)?;
                    sink.feed(Message::Text(text)).await?;
                }
                sink.flush().await?;
            }
            message = stream.next() => match message {
                None => return Ok(()),
                // The library has queued the answer to it.
                Some(Ok(Message::Close(_))) => return sink.flush().await,
                Some(message) => drop(message?),
            }
        }
    }
}

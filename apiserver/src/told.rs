//! A WebSocket on which only the server speaks: each piece of a stream is a few messages. Watches and logs are told so
//! to browsers and to old clients.

use std::time::Duration;

use axum::response::Response;
use futures::stream::BoxStream;
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::Extensions;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::context::Context;
use crate::status::ApiResult;
use crate::websocket;

/// Clients have nothing to say.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// For a client to take a piece.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// The messages of each piece of a stream, or why it broke.
pub(crate) type Pieces = BoxStream<'static, std::io::Result<Vec<Message>>>;

/// Agrees to the upgrade with `protocol`, and tells `pieces` until they end, until the client goes, or until the
/// deadline: a client that does not read would hold what is over for as long as its connection stands.
pub(crate) fn upgrade(
    context: &Context,
    extensions: &mut Extensions,
    protocol: Option<&str>,
    pieces: Pieces,
    deadline: Option<Instant>,
) -> ApiResult<Response> {
    let (client, response) = websocket::accept(context, extensions, protocol)?;
    let stopping = context.server.stopping.clone();
    tokio::spawn(async move {
        let client = async {
            client
                .await
                .map(TokioIo::new)
                .map_err(std::io::Error::other)
        };
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            outcome = serve(client, pieces, deadline) => if let Err(error) = outcome {
                tracing::debug!(%error, "a stream told over a WebSocket broke");
            },
        }
    });
    Ok(response)
}

async fn serve<C: AsyncRead + AsyncWrite + Unpin>(
    client: impl Future<Output = std::io::Result<C>>,
    pieces: Pieces,
    deadline: Option<Instant>,
) -> Result<(), tungstenite::Error> {
    let carried = async {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let client = client.await?;
        let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
        let (sink, stream) = socket.split();
        carry(pieces, sink, stream).await
    };
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, carried)
            .await
            .unwrap_or_else(|_| Err(not_read())),
        None => carried.await,
    }
}

fn not_read() -> tungstenite::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the client did not read").into()
}

async fn carry(
    mut pieces: Pieces,
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    mut stream: impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
) -> Result<(), tungstenite::Error> {
    loop {
        tokio::select! {
            // A client that goes is heard also while there is always more to tell.
            biased;
            message = stream.next() => match message {
                None => return Ok(()),
                // The library has queued the answer to it.
                Some(Ok(Message::Close(_))) => return sink.flush().await,
                Some(message) => drop(message?),
            },
            piece = pieces.next() => {
                let Some(piece) = piece else {
                    return sink.close().await;
                };
                let messages = piece?;
                let sent = async {
                    for message in messages {
                        sink.feed(message).await?;
                    }
                    sink.flush().await
                };
                let sent = tokio::time::timeout(TAKEN_WITHIN, sent).await;
                sent.unwrap_or_else(|_| Err(not_read()))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_left_at_the_end() {
        // Nobody reads the other end, and more is to be sent than fits.
        let (_client, near) = tokio::io::duplex(64);
        let piece = || Ok(vec![Message::Binary(Bytes::from(vec![b'x'; 1 << 14]))]);
        let pieces = futures::stream::repeat_with(piece).boxed();
        let connected = std::future::ready(Ok(near));
        let deadline = Instant::now() + Duration::from_millis(100);
        let served = serve(connected, pieces, Some(deadline));
        let served = tokio::time::timeout(Duration::from_secs(30), served).await;
        let error = served.expect("the stream ends").expect_err("not in peace");
        assert!(error.to_string().contains("did not read"), "{error}");
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_all_and_a_close() {
        let (far, near) = tokio::io::duplex(64);
        let piece = vec![Message::text("a"), Message::text("b")];
        let pieces = futures::stream::iter([Ok(piece)]).boxed();
        let connected = std::future::ready(Ok(near));
        let reader = async {
            let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            let mut messages = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                messages.push(message);
            }
            messages
        };
        let (served, messages) = tokio::join!(serve(connected, pieces, None), reader);
        served.expect("in peace");
        let expected = [Message::text("a"), Message::text("b"), Message::Close(None)];
        assert_eq!(messages, expected);
    }
}

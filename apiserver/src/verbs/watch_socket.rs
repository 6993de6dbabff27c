//! A watch over a WebSocket, as browsers and old clients ask for it: every event is one message, of
//! text or of protobuf.

use std::str::Utf8Error;
use std::time::Duration;

use axum::response::Response;
use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::Extensions;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::context::Context;
use crate::negotiate::Encoding;
use crate::status::ApiResult;
use crate::websocket;

/// Clients have nothing to say on a watch.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// For a client to take a frame.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// How long after its end a watch waits for a client that has not read everything yet.
const CLOSING_MAX: Duration = Duration::from_secs(10);

/// Agrees to the upgrade; `frames` hold events as on an ordinary watch, which is over at `end`.
pub(super) fn upgrade(
    context: &Context,
    extensions: &mut Extensions,
    frames: BoxStream<'static, Bytes>,
    end: Instant,
) -> ApiResult<Response> {
    // A browser that offers protocols gives up unless one of them is chosen.
    let offered = websocket::protocols(&context.headers);
    let protocol = offered.split(", ").find(|name| !name.is_empty());
    let (client, response) = websocket::accept(context, extensions, protocol)?;
    let stopping = context.server.stopping.clone();
    let encoding = context.output.encoding;
    tokio::spawn(async move {
        let client = async {
            client
                .await
                .map(TokioIo::new)
                .map_err(std::io::Error::other)
        };
        tokio::select! {
            outcome = serve(client, (encoding, frames), end + CLOSING_MAX) => if let Err(error) = outcome {
                tracing::debug!(%error, "a watch over a WebSocket broke");
            },
            () = stopping.cancelled() => {}
        }
    });
    Ok(response)
}

/// Ends with the watch, with the client, or at the deadline: a client that does not read would hold a watch that is
/// over for as long as its connection stands.
async fn serve<C: AsyncRead + AsyncWrite + Unpin>(
    client: impl Future<Output = std::io::Result<C>>,
    frames: (Encoding, BoxStream<'static, Bytes>),
    deadline: Instant,
) -> Result<(), tungstenite::Error> {
    let carried = async {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let client = client.await?;
        let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
        let (sink, stream) = socket.split();
        carry(frames, sink, stream).await
    };
    match tokio::time::timeout_at(deadline, carried).await {
        Ok(outcome) => outcome,
        Err(_) => Err(not_read()),
    }
}

fn not_read() -> tungstenite::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the client did not read").into()
}

/// The events of a frame: lines of text, or messages that follow their length.
fn messages(encoding: Encoding, mut frame: Bytes) -> Result<Vec<Message>, Utf8Error> {
    let mut messages = Vec::new();
    if encoding == Encoding::Protobuf {
        while frame.len() > 4 {
            let length = frame.get_u32() as usize;
            messages.push(Message::Binary(frame.split_to(length.min(frame.len()))));
        }
        return Ok(messages);
    }
    for line in frame
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        messages.push(Message::Text(Utf8Bytes::try_from(frame.slice_ref(line))?));
    }
    Ok(messages)
}

async fn carry(
    (encoding, mut frames): (Encoding, BoxStream<'static, Bytes>),
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    mut stream: impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
) -> Result<(), tungstenite::Error> {
    loop {
        tokio::select! {
            frame = frames.next() => {
                let Some(frame) = frame else {
                    return sink.close().await;
                };
                let messages = messages(encoding, frame).map_err(std::io::Error::other)?;
                let sent = async {
                    for message in messages {
                        sink.feed(message).await?;
                    }
                    sink.flush().await
                };
                let sent = tokio::time::timeout(TAKEN_WITHIN, sent).await;
                sent.unwrap_or_else(|_| Err(not_read()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_protobuf_are_told_apart_by_their_lengths() {
        let frame = Bytes::from_static(b"\0\0\0\x03a\nb\0\0\0\x01c");
        let messages = messages(Encoding::Protobuf, frame).unwrap();
        assert_eq!(
            messages,
            [Message::binary(&b"a\nb"[..]), Message::binary(&b"c"[..])]
        );
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_left_at_the_end() {
        // Nobody reads the other end, and more is to be sent than fits.
        let (_client, near) = tokio::io::duplex(64);
        let frame = Bytes::from(vec![b'x'; 4 * MESSAGE_BYTES_MAX]);
        let frames = futures::stream::repeat(frame).boxed();
        let connected = std::future::ready(Ok(near));
        let deadline = Instant::now() + Duration::from_millis(100);
        let served = serve(connected, (Encoding::Json, frames), deadline);
        let served = tokio::time::timeout(Duration::from_secs(30), served).await;
        let error = served.expect("the watch ends").expect_err("not in peace");
        assert!(error.to_string().contains("did not read"), "{error}");
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_all_and_a_close() {
        let (far, near) = tokio::io::duplex(64);
        let frames = futures::stream::iter([Bytes::from_static(b"a\nb\n")]).boxed();
        let connected = std::future::ready(Ok(near));
        let deadline = Instant::now() + Duration::from_secs(30);
        let reader = async {
            let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            let mut messages = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                messages.push(message);
            }
            messages
        };
        let (served, messages) =
            tokio::join!(serve(connected, (Encoding::Json, frames), deadline), reader);
        served.expect("in peace");
        let expected = [Message::text("a"), Message::text("b"), Message::Close(None)];
        assert_eq!(messages, expected);
    }
}

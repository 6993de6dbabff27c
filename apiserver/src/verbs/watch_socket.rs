//! A watch over a WebSocket, as browsers and old clients ask for it: every event is one message, of
//! text or of protobuf.

use std::str::Utf8Error;
use std::time::Duration;

use axum::response::Response;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::Extensions;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::context::Context;
use crate::negotiate::Encoding;
use crate::status::ApiResult;
use crate::{told, websocket};

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
    let encoding = context.output.encoding;
    let pieces = frames.map(move |frame| messages(encoding, frame).map_err(std::io::Error::other));
    let deadline = Some(end + CLOSING_MAX);
    told::upgrade(context, extensions, protocol, pieces.boxed(), deadline)
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

    #[test]
    fn events_of_text_are_lines() {
        let messages = messages(Encoding::Json, Bytes::from_static(b"a\nb\n")).unwrap();
        assert_eq!(messages, [Message::text("a"), Message::text("b")]);
    }
}

//! The watch wire format: one JSON object a line, `{"type": .., "object": ..}`.

mod lean;

pub use lean::{Lean, MANAGED_FIELDS, Part, Unread, Without, tree, without};

use crate::client::Body;
use crate::error::ApiError;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::marker::PhantomData;

/// A line longer than this ends the watch: an object cannot be so large.
const LINE_BYTES_MAX: usize = 32 << 20;

/// One event, with the object as JSON.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    pub kind: String,
    /// The object.
    pub object: Value,
}

/// An open watch.
pub struct WatchStream {
    body: Body,
    /// Of the last piece that came: its lines are parts of it, and not copied.
    rest: Bytes,
    /// The beginning of a line whose end has not come.
    begun: BytesMut,
}

impl WatchStream {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            begun: BytesMut::new(),
        }
    }

    /// The next line. `None` when the server ended the watch. Safe to drop and call again.
    pub(crate) async fn line(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some(end) = line_end(&self.rest) {
                let mut line = self.rest.split_to(end + 1);
                if !self.begun.is_empty() {
                    self.begun.extend_from_slice(&line);
                    line = self.begun.split().freeze();
                }
                if line.len() > 1 {
                    return Ok(Some(line));
                }
                continue;
            }
            self.begun
                .extend_from_slice(&std::mem::take(&mut self.rest));
            if self.begun.len() > LINE_BYTES_MAX {
                return Err(ApiError::malformed("watch: a line is too long"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ApiError::transport(format!("watch: {error}"))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest = data;
                    }
                }
            }
        }
    }

    /// The next event. `None` when the server ended the watch; an `ERROR` event is an error.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ApiError> {
        let Some(line) = self.line().await? else {
            return Ok(None);
        };
        match decode_line::<Value>(&line)? {
            Line::Object(kind, object) => Ok(Some(WatchEvent { kind, object })),
            Line::Bookmark(object) => Ok(Some(WatchEvent {
                kind: "BOOKMARK".into(),
                object,
            })),
            Line::Error(error) => Err(error),
        }
    }
}

/// Where the first line of a text ends. Blocks are first asked for whether there is an end at all, which the processor finds for
/// many bytes at once.
fn line_end(text: &[u8]) -> Option<usize> {
    const BLOCK: usize = 64;
    let blocks = text.chunks_exact(BLOCK);
    let from = BLOCK * blocks.take_while(|block| !has_line_end(block)).count();
    let at = text[from..].iter().position(|byte| *byte == b'\n')?;
    Some(from + at)
}

fn has_line_end(block: &[u8]) -> bool {
    let ends = block.iter().map(|byte| u8::from(*byte == b'\n'));
    ends.fold(0, |any, end| any | end) != 0
}

/// A decoded line.
pub(crate) enum Line<T> {
    /// `ADDED`, `MODIFIED` or `DELETED` and the object.
    Object(String, T),
    Bookmark(Value),
    Error(ApiError),
}

/// Decodes a line without building a tree for objects whose type is known: `type` comes first on the wire, so that the
/// visitor knows what `object` is when it gets there (the other order works too, through a tree).
pub(crate) fn decode_line<T: DeserializeOwned>(line: &[u8]) -> Result<Line<T>, ApiError> {
    // All at once: else each string is looked at on its own.
    let text = std::str::from_utf8(line);
    let text = text.map_err(|e| ApiError::malformed(format!("watch event: {e}")))?;
    let mut decoder = serde_json::Deserializer::from_str(text);
    let event = decoder
        .deserialize_map(EventVisitor(PhantomData))
        .map_err(|e| ApiError::malformed(format!("watch event: {e}")))?;
    Ok(event)
}

struct EventVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for EventVisitor<T> {
    type Value = Line<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a watch event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line<T>, A::Error> {
        use serde::de::Error;
        let mut kind: Option<String> = None;
        let mut tree: Option<Value> = None;
        let mut object: Option<T> = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => kind = Some(map.next_value()?),
                "object" if matches!(kind.as_deref(), Some("ADDED" | "MODIFIED" | "DELETED")) => {
                    object = Some(map.next_value()?)
                }
                "object" => tree = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (kind.as_deref(), object, tree) {
            (Some("BOOKMARK"), _, Some(tree)) => Ok(Line::Bookmark(tree)),
            (Some("ERROR"), _, Some(tree)) => Ok(Line::Error(ApiError::from_status(&tree))),
            (Some(_), Some(object), _) => Ok(Line::Object(kind.unwrap_or_default(), object)),
            (Some("ADDED" | "MODIFIED" | "DELETED"), None, Some(tree)) => {
                let object = serde_json::from_value(tree).map_err(A::Error::custom)?;
                Ok(Line::Object(kind.unwrap_or_default(), object))
            }
            _ => Err(A::Error::custom("without type or object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::BoxError;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt, Full, StreamBody};

    #[tokio::test]
    async fn lines_are_split_wherever_frames_end() {
        let text = "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n\n{\"object\":{\"a\":2},\"type\":\"MODIFIED\"}\n{\"type\":\"BOOKMARK\",\"object\":{}}\n";
        let body = Full::new(Bytes::from(text))
            .map_err(|never| match never {})
            .boxed_unsync();
        let mut stream = WatchStream::new(body);
        let mut seen = Vec::new();
        while let Some(event) = stream.next().await.unwrap() {
            seen.push(format!("{} {}", event.kind, event.object));
        }
        assert_eq!(
            seen,
            ["ADDED {\"a\":1}", "MODIFIED {\"a\":2}", "BOOKMARK {}"]
        );
    }

    #[tokio::test]
    async fn lines_are_the_same_in_whatever_pieces_they_come() {
        let line = format!("{}\n", "x".repeat(70));
        let text = format!("\n{line}\n\nab\n{line}c\nunfinished");
        let expected = [line.as_str(), "ab\n", line.as_str(), "c\n"];
        for first in 0..text.len() {
            for second in [first, first + 1, first + 64, text.len()] {
                let second = second.min(text.len());
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                let frames: Vec<Result<Frame<Bytes>, BoxError>> = pieces
                    .iter()
                    .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece.as_bytes()))))
                    .collect();
                let mut stream =
                    WatchStream::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
                let mut lines = Vec::new();
                while let Some(line) = stream.line().await.unwrap() {
                    lines.push(String::from_utf8(line.to_vec()).unwrap());
                }
                assert_eq!(lines, expected, "{first} {second}");
            }
        }
    }

    #[test]
    fn a_line_ends_where_its_end_is() {
        for length in 0..200 {
            let mut text = vec![b'x'; length];
            assert_eq!(line_end(&text), None);
            text.push(b'\n');
            text.extend([b'y'; 70]);
            assert_eq!(line_end(&text), Some(length));
            text.push(b'\n');
            assert_eq!(line_end(&text), Some(length));
        }
    }

    #[tokio::test]
    async fn managed_fields_are_passed_over_by_whoever_does_not_read_them() {
        let text =
            r#"{"type":"ADDED","object":{"metadata":{"managedFields":[{}],"name":"a"},"x":1}}"#;
        let body = Full::new(Bytes::from(format!("{text}\n")))
            .map_err(|never| match never {})
            .boxed_unsync();
        let mut stream = WatchStream::new(body);
        let whole = stream.next().await.unwrap().unwrap();
        let Ok(Line::Object(kind, Lean(lean))) = decode_line(text.as_bytes()) else {
            panic!("no object");
        };
        assert_eq!(
            whole.object["metadata"]["managedFields"],
            serde_json::json!([{}])
        );
        assert_eq!(
            (kind.as_str(), lean.to_string().as_str()),
            ("ADDED", r#"{"metadata":{"name":"a"},"x":1}"#)
        );
    }

    #[test]
    fn an_error_event_is_an_error() {
        let line = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        assert!(matches!(decode_line::<Value>(line), Ok(Line::Error(error)) if error.is_gone()));
        assert!(decode_line::<Value>(b"{}").is_err());
    }
}

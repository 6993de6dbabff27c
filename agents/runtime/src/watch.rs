//! The watch wire format: one JSON object a line, `{"type": .., "object": ..}`.

mod lean;

pub use lean::{Lean, MANAGED_FIELDS, Part, Unread, without};

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
    buffer: BytesMut,
    /// Bytes of `buffer` that hold no line end.
    scanned: usize,
}

impl WatchStream {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            scanned: 0,
        }
    }

    /// The next line. `None` when the server ended the watch. Safe to drop and call again.
    pub(crate) async fn line(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some(end) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.scanned + end + 1).freeze();
                self.scanned = 0;
                if line.len() > 1 {
                    return Ok(Some(line));
                }
                continue;
            }
            self.scanned = self.buffer.len();
            if self.scanned > LINE_BYTES_MAX {
                return Err(ApiError::malformed("watch: a line is too long"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ApiError::transport(format!("watch: {error}"))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// The next event. `None` when the server ended the watch; an `ERROR` event is an error.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ApiError> {
        self.next_as(|object: Value| object).await
    }

    /// The same, its object without `metadata.managedFields`.
    pub async fn next_lean(&mut self) -> Result<Option<WatchEvent>, ApiError> {
        self.next_as(|Lean(object): Lean| object).await
    }

    async fn next_as<T: DeserializeOwned>(
        &mut self,
        value_of: fn(T) -> Value,
    ) -> Result<Option<WatchEvent>, ApiError> {
        let Some(line) = self.line().await? else {
            return Ok(None);
        };
        match decode_line::<T>(&line)? {
            Line::Object(kind, object) => {
                let object = value_of(object);
                Ok(Some(WatchEvent { kind, object }))
            }
            Line::Bookmark(object) => Ok(Some(WatchEvent {
                kind: "BOOKMARK".into(),
                object,
            })),
            Line::Error(error) => Err(error),
        }
    }
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
    use http_body_util::{BodyExt, Full};

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
    async fn managed_fields_are_passed_over_by_whoever_does_not_read_them() {
        let text =
            r#"{"type":"ADDED","object":{"metadata":{"managedFields":[{}],"name":"a"},"x":1}}"#;
        let lines = format!("{text}\n{text}\n");
        let body = Full::new(Bytes::from(lines))
            .map_err(|never| match never {})
            .boxed_unsync();
        let mut stream = WatchStream::new(body);
        let whole = stream.next().await.unwrap().unwrap();
        let lean = stream.next_lean().await.unwrap().unwrap();
        assert_eq!(
            whole.object["metadata"]["managedFields"],
            serde_json::json!([{}])
        );
        assert_eq!(
            (lean.kind.as_str(), lean.object.to_string().as_str()),
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

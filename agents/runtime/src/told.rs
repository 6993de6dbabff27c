//! Events of a watch whose objects are read as the type that the reader wants, straight from their text: who needs little of them
//! builds no tree of all.

use crate::error::ApiError;
use crate::watch::WatchStream;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub enum Told<T> {
    /// `ADDED` or `MODIFIED`: the object is like this now.
    Is(T),
    /// `DELETED`: it was like this.
    Gone(T),
    /// `BOOKMARK`: nothing else has happened until the version of this object.
    Bookmark(Value),
}

impl WatchStream {
    /// The next event, its object read as `T`, which may keep slices of the text while it reads ([`RawValue`]). `None` when the
    /// server ended the watch. Safe to drop and call again.
    ///
    /// # Errors
    /// The connection broke, the line is no event, its object is no `T`, or it is an `ERROR` event.
    pub async fn next_told<T: DeserializeOwned>(&mut self) -> Result<Option<Told<T>>, ApiError> {
        match self.line().await? {
            Some(line) => decode(&line).map(Some),
            None => Ok(None),
        }
    }
}

fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<Told<T>, ApiError> {
    // All at once: else each string is looked at on its own.
    let text = std::str::from_utf8(line);
    let text = text.map_err(|error| ApiError::malformed(format!("watch event: {error}")))?;
    let malformed = |error: serde_json::Error| ApiError::malformed(format!("watch event: {error}"));
    let mut decoder = serde_json::Deserializer::from_str(text);
    let event = decoder.deserialize_map(Event(PhantomData));
    let (kind, object) = event.map_err(malformed)?;
    match kind.as_str() {
        "ADDED" | "MODIFIED" => object.read().map(Told::Is).map_err(malformed),
        "DELETED" => object.read().map(Told::Gone).map_err(malformed),
        "BOOKMARK" => object.tree().map(Told::Bookmark).map_err(malformed),
        "ERROR" => Err(ApiError::from_status(&object.tree().map_err(malformed)?)),
        other => Err(ApiError::malformed(format!(
            "watch event: of the unknown type {other:?}"
        ))),
    }
}

fn is_change(kind: &str) -> bool {
    matches!(kind, "ADDED" | "MODIFIED" | "DELETED")
}

/// The object of an event: read at once where its type came first, as it does from our servers.
enum Object<'de, T> {
    Read(T),
    Text(&'de RawValue),
}

impl<T: DeserializeOwned> Object<'_, T> {
    fn read(self) -> serde_json::Result<T> {
        match self {
            Object::Read(object) => Ok(object),
            Object::Text(text) => serde_json::from_str(text.get()),
        }
    }

    /// Of what is no change.
    fn tree(self) -> serde_json::Result<Value> {
        match self {
            Object::Read(_) => Ok(Value::Null),
            Object::Text(text) => serde_json::from_str(text.get()),
        }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Type,
    Object,
    #[serde(other)]
    Other,
}

struct Event<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Event<T> {
    type Value = (String, Object<'de, T>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a watch event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut object) = (None::<String>, None);
        while let Some(member) = members.next_key::<Member>()? {
            match member {
                Member::Type => kind = Some(members.next_value()?),
                Member::Object if kind.as_deref().is_some_and(is_change) => {
                    object = Some(Object::Read(members.next_value()?));
                }
                Member::Object => object = Some(Object::Text(members.next_value()?)),
                Member::Other => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        kind.zip(object)
            .ok_or_else(|| A::Error::custom("without type or object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Named {
        name: String,
    }

    fn told(line: &str) -> Result<Told<Named>, ApiError> {
        decode(line.as_bytes())
    }

    fn named(name: &str) -> Named {
        let name = name.to_owned();
        Named { name }
    }

    #[test]
    fn objects_are_read_as_what_is_wanted_wherever_the_type_stands() {
        for (line, expected) in [
            (
                r#"{"type":"ADDED","object":{"name":"a","x":[1]}}"#,
                Told::Is(named("a")),
            ),
            (
                r#"{"object":{"name":"b"},"more":{},"type":"MODIFIED"}"#,
                Told::Is(named("b")),
            ),
            (
                r#"{"type":"DELETED","object":{"name":"c"}}"#,
                Told::Gone(named("c")),
            ),
            (
                r#"{"type":"BOOKMARK","object":{"v":"7"}}"#,
                Told::Bookmark(json!({"v": "7"})),
            ),
        ] {
            assert_eq!(told(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_event_is_an_error_and_an_error_is_one() {
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        assert!(told(gone).unwrap_err().is_gone());
        for line in [
            "",
            "[]",
            "{}",
            r#"{"type":"ADDED"}"#,
            r#"{"type":"ADDED","object":{}}"#,
            r#"{"type":"RENAMED","object":{"name":"a"}}"#,
            r#"{"object":{"name":"a"}}"#,
        ] {
            let error = told(line).unwrap_err();
            assert!(error.message.starts_with("watch event: "), "{line}");
        }
        assert!(decode::<Named>(b"\xff").is_err());
    }

    #[tokio::test]
    async fn a_watch_tells_one_after_the_other_until_it_ends() {
        let lines = "{\"type\":\"ADDED\",\"object\":{\"name\":\"a\"}}\n{\"type\":\"DELETED\",\"object\":{\"name\":\"a\"}}\n";
        let body = Full::new(bytes::Bytes::from(lines))
            .map_err(|never| match never {})
            .boxed_unsync();
        let mut stream = WatchStream::new(body);
        let mut seen = Vec::new();
        while let Some(event) = stream.next_told::<Named>().await.unwrap() {
            seen.push(event);
        }
        assert_eq!(seen, [Told::Is(named("a")), Told::Gone(named("a"))]);
    }
}

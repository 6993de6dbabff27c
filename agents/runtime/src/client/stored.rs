//! Little of the answer to a write.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

/// What the answer to a write says of the object, for those who want no more of it: to read all of it takes a tenth of
/// what its write takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Stored {
    #[serde(default)]
    metadata: StoredMeta,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredMeta {
    uid: String,
    resource_version: String,
}

impl Stored {
    /// Reads an answer as far as it says this: what is behind its metadata is the larger part.
    ///
    /// # Errors
    /// Until there it is not JSON, or not an object.
    pub(super) fn read(answer: &[u8]) -> Result<Stored, serde_json::Error> {
        let mut metadata = None;
        let mut reader = serde_json::Deserializer::from_slice(answer);
        let outcome = reader.deserialize_map(Head(&mut metadata));
        match metadata {
            Some(metadata) => Ok(Stored { metadata }),
            None => outcome.map(|()| Stored::default()),
        }
    }

    /// Identity of the incarnation; empty where the answer has none.
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// The version that the write made; of one that changed nothing, the version that was there.
    pub fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// The same as a number; 0 where it is none.
    pub fn revision(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Metadata,
    #[serde(other)]
    Other,
}

/// Reads an object until its metadata is there, and puts that into its place. The reader can only be stopped by an error.
struct Head<'a>(&'a mut Option<StoredMeta>);

impl<'de> Visitor<'de> for Head<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(member) = members.next_key::<Member>()? {
            match member {
                Member::Metadata => {
                    *self.0 = Some(members.next_value()?);
                    return Err(A::Error::custom("the rest is not read"));
                }
                Member::Other => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_far_as_it_says_what_is_asked() {
        for answer in [
            r#"{"apiVersion": "v1", "metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}, "spec": {"a": [{}]}}"#,
            r#"{"spec": {"metadata": {"uid": "other"}}, "metadata": {"resourceVersion": "8", "labels": {"uid": "l"}}}"#,
            r#"{"metadata": {}}"#,
            r#"{"kind": "Status"}"#,
            "{}",
            "",
            "[]",
            "7",
            "{",
            r#"{"kind": }"#,
            r#"{"metadata": 7}"#,
            r#"{"metadata": {"uid": 7}}"#,
            r#"{"metadata": {"uid": "u"}"#,
        ] {
            let whole: Option<Stored> = serde_json::from_str(answer).ok();
            let read = Stored::read(answer.as_bytes()).ok();
            // An object that breaks off behind its metadata says all that is asked. A list is no object.
            match answer {
                r#"{"metadata": {"uid": "u"}"# => assert_eq!(read.unwrap().uid(), "u"),
                "[]" => assert_eq!(read, None),
                _ => assert_eq!(read, whole, "{answer}"),
            }
        }
    }
}

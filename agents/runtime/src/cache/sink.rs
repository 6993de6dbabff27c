//! How a cache takes what the reflector reads.

use super::objects::Held;
use super::{Cache, Key, lock};
use crate::error::ApiError;
use crate::kinds::Kind;
use crate::reflector::{Parsed, Sink};
use crate::watch::{Line, decode_line};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Deserialize)]
struct ListPage {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default, deserialize_with = "crate::kinds::nullable")]
    items: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

impl<T: Kind> Sink for Cache<T> {
    fn begin(&self) {
        lock(&self.staged).clear();
    }

    fn page(&self, bytes: &[u8]) -> Result<(String, String), ApiError> {
        let page: ListPage = serde_json::from_slice(bytes)
            .map_err(|e| ApiError::malformed(format!("list of {}: {e}", self.resource)))?;
        let mut staged = lock(&self.staged);
        for item in page.items {
            match serde_json::from_value::<T>(item) {
                Ok(object) => {
                    staged.replace(Held::of(Arc::new(object)));
                }
                Err(error) => {
                    tracing::warn!(resource = %self.resource, %error, "an object of an unexpected form is left out")
                }
            }
        }
        Ok((page.metadata.continue_token, page.metadata.resource_version))
    }

    fn commit(&self, revision: &str) {
        let staged = std::mem::take(&mut *lock(&self.staged));
        self.replace(staged);
        self.bump(|v| {
            v.synced = true;
            v.revision = revision.parse().unwrap_or(v.revision).max(v.revision);
        });
    }

    fn line(&self, line: &[u8], staging: bool) -> Result<Parsed, ApiError> {
        let (kind, object) = match decode_line::<T>(line) {
            Ok(Line::Object(kind, object)) => (kind, object),
            Ok(Line::Error(error)) => return Err(error),
            Ok(Line::Bookmark(object)) => {
                let revision = object
                    .pointer("/metadata/resourceVersion")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                let initial_end = object
                    .pointer("/metadata/annotations/k8s.io~1initial-events-end")
                    .and_then(Value::as_str)
                    == Some("true");
                if !staging {
                    self.bump(|v| v.revision = revision.parse().unwrap_or(0).max(v.revision));
                }
                return Ok(Parsed {
                    revision,
                    initial_end,
                });
            }
            Err(error) => {
                // One object of an unexpected form must not stop the others; a line that is not JSON must.
                let Line::Object(_, tree) = decode_line::<Value>(line)? else {
                    return Err(error);
                };
                tracing::warn!(resource = %self.resource, %error, "an object of an unexpected form is left out");
                let text = |field: &str| {
                    tree.pointer(field)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                };
                // What cannot be read is not there: an older form of it must not stay for ever.
                let key = Key::new(text("/metadata/namespace"), text("/metadata/name"));
                let revision = text("/metadata/resourceVersion").to_owned();
                self.take_line(&key, None, &revision, staging);
                return Ok(Parsed {
                    revision,
                    initial_end: false,
                });
            }
        };
        let revision = object.identity().resource_version.to_owned();
        let held = Held::of(Arc::new(object));
        let object = (kind != "DELETED").then(|| held.object.clone());
        self.take_line(&held, object, &revision, staging);
        Ok(Parsed {
            revision,
            initial_end: false,
        })
    }
}

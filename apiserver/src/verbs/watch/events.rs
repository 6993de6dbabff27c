//! Changes as events, in the form and the encoding that the client takes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use schema::Object;
use schema::protobuf::Encoder;
use serde_json::{Value, json};

use super::Watcher;
use crate::cache::{Change, FrameOf};
use crate::entry::{self, Entry};
use crate::negotiate::{self, Encoding, Form};
use crate::status::{self, ApiError};

impl Watcher {
    /// The events of these changes that are for this client; none where there are none.
    pub(super) fn frame_of(&mut self, changes: &[Arc<Change>]) -> Option<Bytes> {
        if let [change] = changes {
            self.sent = change.revision;
            return self.event(change).filter(|event| !event.is_empty());
        }
        let mut events = Vec::with_capacity(changes.len());
        for change in changes {
            self.sent = change.revision;
            events.extend(self.event(change));
        }
        joined(events)
    }

    /// An object that starts or stops to match is added or deleted for this client.
    fn event(&mut self, change: &Change) -> Option<Bytes> {
        let old = change
            .old
            .as_ref()
            .filter(|entry| self.selection.matches(entry));
        let new = change
            .new
            .as_ref()
            .filter(|entry| self.selection.matches(entry));
        let event = match (old, new) {
            (None, Some(new)) => Some(self.framed(change, "ADDED", None, new)),
            (Some(_), Some(new)) => Some(self.framed(change, "MODIFIED", None, new)),
            (Some(old), None) => {
                let gone = change.gone.as_deref().cloned();
                let gone = gone.unwrap_or_else(|| old.encoded.with_revision(change.revision));
                Some(self.framed(change, "DELETED", Some(gone), old))
            }
            (None, None) => None,
        };
        event.inspect(|event| self.sent_events.event(event.len()))
    }

    /// One event, of the JSON that is in the place of the entry's own if there is any. Rows of a Table are of this moment and
    /// this client, all else is the same for others.
    fn framed(
        &mut self,
        change: &Change,
        kind: &'static str,
        json: Option<Bytes>,
        entry: &Arc<Entry>,
    ) -> Bytes {
        let (encoding, form) = (self.output.encoding, self.output.form);
        let of = FrameOf {
            kind,
            encoding,
            form,
            group: self.resource.group.clone(),
            version: self.resource.version.clone(),
        };
        let make = || {
            let json = json.unwrap_or_else(|| entry.json());
            let mut frame = BytesMut::new();
            self.write(&mut frame, kind, &json, entry, &mut Encoder::default());
            frame.freeze()
        };
        match form {
            Form::Table { .. } => make(),
            Form::Object | Form::Partial { .. } => change.frame(of, make),
        }
    }

    pub(super) fn write(
        &mut self,
        frame: &mut BytesMut,
        kind: &str,
        json: &[u8],
        entry: &Arc<Entry>,
        encoder: &mut Encoder,
    ) {
        let plain = self.output.encoding == Encoding::Json
            && self.output.form == Form::Object
            && entry.is_as(&self.resource);
        if plain {
            write_event(frame, kind, json);
            return;
        }
        if let Some(written) = &self.protobuf
            && let Some(made) = written.frame(encoder, kind, json)
        {
            // An object that is gone is shown in another version than its entry has.
            if kind != "DELETED" {
                written.keep_length(encoder, entry);
            }
            frame.extend_from_slice(&made);
            return;
        }
        let value = schema::read::json(json).unwrap_or_default();
        let Ok(mut object) = Object::new(value) else {
            return;
        };
        entry::from_storage(&self.resource, &mut object);
        let value = self.shape(object);
        write_value(self.output.encoding, frame, kind, &value);
    }

    fn shape(&mut self, object: Object) -> Value {
        match self.output.form {
            Form::Object => object.into_value(),
            Form::Partial { version, .. } => negotiate::partial(&object, version),
            Form::Table { version, include } => {
                let metadata = json!({ "resourceVersion": object.resource_version() });
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let now = crate::clock::unix_seconds();
                negotiate::table(
                    &self.resource,
                    &[object],
                    metadata,
                    (version, include),
                    columns,
                    now,
                )
            }
        }
    }

    pub(super) fn write_bookmark(
        &mut self,
        frame: &mut BytesMut,
        revision: i64,
        ends_initial: bool,
    ) {
        let mut metadata =
            json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let value = match self.output.form {
            Form::Object => {
                json!({ "kind": &self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata })
            }
            Form::Partial { version, .. } => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata })
            }
            Form::Table { version, .. } => {
                let object = json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata });
                json!({
                    "kind": "Table", "apiVersion": version, "metadata": { "resourceVersion": revision.to_string() },
                    "columnDefinitions": null,
                    "rows": [{ "cells": vec![Value::Null; self.resource.columns.len()], "object": object }]
                })
            }
        };
        let before = frame.len();
        write_value(self.output.encoding, frame, "BOOKMARK", &value);
        self.sent_events.event(frame.len() - before);
    }

    pub(super) fn write_error(&self, frame: &mut BytesMut, error: &ApiError) {
        write_value(self.output.encoding, frame, "ERROR", &error.to_status());
    }
}

/// Events one after the other; none where there is nothing in them. One by itself stays where it is, shared with other watches.
fn joined(mut events: Vec<Bytes>) -> Option<Bytes> {
    events.retain(|event| !event.is_empty());
    if events.len() < 2 {
        return events.pop();
    }
    let mut frame = BytesMut::with_capacity(events.iter().map(Bytes::len).sum());
    // Each goes as soon as it is copied: hundreds may be of a megabyte.
    for event in events {
        frame.extend_from_slice(&event);
    }
    Some(frame.freeze())
}

pub(super) fn write_value(encoding: Encoding, frame: &mut BytesMut, kind: &str, object: &Value) {
    if encoding != Encoding::Protobuf {
        let text = match status::in_order(object) {
            Some(status) => serde_json::to_string(&status).unwrap_or_default(),
            None => object.to_string(),
        };
        write_event(frame, kind, text.as_bytes());
        return;
    }
    match schema::protobuf::encode_any(object) {
        Ok(encoded) => {
            frame.extend_from_slice(&schema::protobuf::watch_frame(kind, &encoded));
        }
        // Nothing that is stored fails to encode; if it did, skipping it would leave the client with a hole.
        Err(error) => {
            let status = ApiError::internal(error.to_string()).to_status();
            let status = schema::protobuf::encode_any(&status).unwrap_or_default();
            frame.extend_from_slice(&schema::protobuf::watch_frame("ERROR", &status));
        }
    }
}

fn write_event(frame: &mut BytesMut, kind: &str, object: &[u8]) {
    frame.reserve(object.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_joined_and_one_is_shared() {
        let of = |texts: &[&'static str]| {
            let events = texts.iter().map(|text| Bytes::from_static(text.as_bytes()));
            joined(events.collect())
        };
        assert_eq!((of(&[]), of(&["", ""])), (None, None));
        assert_eq!(of(&["a", "", "bc"]).unwrap(), "abc");
        let one = Bytes::from(b"alone".to_vec());
        let shared = joined(vec![Bytes::new(), one.clone()]).unwrap();
        assert_eq!(shared.as_ptr(), one.as_ptr());
    }
}

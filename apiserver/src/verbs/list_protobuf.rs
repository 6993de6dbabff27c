//! Lists in protobuf. How long all items are together stands before the first of them, so that each is counted first: it is
//! written for that once, and its entry keeps the number for the lists to come. Then items are written one by one as they
//! are sent. Such a list takes as little memory as one in JSON.

use std::iter::Zip;
use std::sync::Arc;
use std::vec::IntoIter;

use axum::response::Response;
use bytes::Bytes;
use resources::{Handle, Resource};
use schema::protobuf::{Encoder, ProtobufError, Shown};
use serde_json::Value;

use super::list::Page;
use super::list_body::{FRAME_BYTES, send};
use crate::context::Context;
use crate::entry::Entry;
use crate::negotiate::{self, Form};
use crate::packed::Room;
use crate::protobuf;
use crate::status::ApiResult;

/// Items that are counted in one step: some milliseconds, if each has to be written for it.
const COUNTED_AT_ONCE: usize = 256;
/// Before each item stands about so much.
const HEAD_BYTES: usize = 4;

/// The list in its own kind, or of mere metadata. An error where it has no message.
pub(super) async fn respond(
    context: &Context,
    resource: &Handle,
    page: Page,
) -> ApiResult<Response> {
    let form = context.output.form;
    let (api_version, kind) = head(form, resource);
    let fails = |error: ProtobufError| negotiate::not_marshalable(&api_version, &kind)(error);
    let unknown = || ProtobufError::UnknownKind {
        api_version: api_version.clone(),
        kind: kind.clone(),
    };
    let shown = protobuf::shown(form, resource).ok_or_else(|| fails(unknown()))?;
    let mut items = Items {
        is_converted: protobuf::is_converted(resource),
        resource: resource.clone(),
        shown,
        encoder: Encoder::default(),
        room: Room::default(),
    };
    let counted = items.count(&page.entries).await.map_err(fails)?;
    let lengths = counted.iter().map(|length| *length as usize);
    let about = lengths.clone().map(|length| length + HEAD_BYTES).sum();
    let around = schema::protobuf::list_around(&api_version, &kind, &page.metadata(), lengths);
    let (before, after) = around.map_err(fails)?;
    let frames = Frames {
        items,
        rest: page.entries.into_iter().zip(counted),
        before,
        after,
    };
    Ok(send(context, negotiate::PROTOBUF, about, frames))
}

/// `apiVersion` and `kind` of the list.
fn head(form: Form, resource: &Resource) -> (String, String) {
    match form {
        Form::Partial { version, .. } => {
            (version.to_owned(), "PartialObjectMetadataList".to_owned())
        }
        Form::Object | Form::Table { .. } => {
            (resource.api_version(), resource.list_kind.to_string())
        }
    }
}

/// Writes items, one after the other in the same room.
struct Items {
    resource: Handle,
    shown: Shown,
    /// Stored in another shape, so that each has to be made an object first.
    is_converted: bool,
    encoder: Encoder,
    room: Room,
}

impl Items {
    /// Appends an item's message.
    fn write(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        if self.is_converted {
            return self.write_converted(entry, out);
        }
        let json = match self.shown {
            Shown::Object(_) => entry.encoded.json.read(&mut self.room),
            Shown::Metadata => entry.encoded.metadata(&mut self.room),
        };
        self.encoder.message(self.shown, json, out)
    }

    fn write_converted(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        let object = entry.object_as(&self.resource);
        match self.shown {
            Shown::Object(ty) => {
                let message = schema::protobuf::encode_message(ty, object.value())?;
                out.extend_from_slice(&message);
                Ok(())
            }
            Shown::Metadata => {
                let metadata = Value::Object(object.metadata().cloned().unwrap_or_default());
                let json = metadata.to_string();
                self.encoder.message(self.shown, json.as_bytes(), out)
            }
        }
    }

    /// The lengths of all items.
    async fn count(&mut self, entries: &[Arc<Entry>]) -> Result<Vec<u32>, ProtobufError> {
        let mut lengths = Vec::with_capacity(entries.len());
        let mut message = Vec::new();
        for some in entries.chunks(COUNTED_AT_ONCE) {
            for entry in some {
                lengths.push(self.length(entry, &mut message)?);
            }
            // Where one was written for it, others may have their turn.
            if !message.is_empty() {
                message.clear();
                tokio::task::yield_now().await;
            }
        }
        Ok(lengths)
    }

    fn length(&mut self, entry: &Entry, message: &mut Vec<u8>) -> Result<u32, ProtobufError> {
        let is_kept = matches!(self.shown, Shown::Object(_)) && !self.is_converted;
        if let Some(known) = entry.protobuf_len().filter(|_| is_kept) {
            return Ok(known);
        }
        message.clear();
        self.write(entry, message)?;
        let length = u32::try_from(message.len());
        let length = length.map_err(|error| ProtobufError::Value(error.to_string()))?;
        if is_kept {
            entry.keep_protobuf_len(length);
        }
        Ok(length)
    }
}

/// The bytes of a list, in frames.
struct Frames {
    items: Items,
    /// What is still to be sent, with the length that was counted.
    rest: Zip<IntoIter<Arc<Entry>>, IntoIter<u32>>,
    /// Empty once they are sent.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Iterator for Frames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut frame = Vec::with_capacity(FRAME_BYTES + 8 * 1024);
        frame.append(&mut self.before);
        while frame.len() < FRAME_BYTES {
            let Some((entry, length)) = self.rest.next() else {
                frame.append(&mut self.after);
                break;
            };
            schema::protobuf::list_item_head(length as usize, &mut frame);
            let start = frame.len();
            let written = self.items.write(&entry, &mut frame);
            if written.is_err() || frame.len() - start != length as usize {
                // The same bytes make the same message; were it not so, a list that breaks off is better than one that
                // says something else.
                tracing::error!(
                    key = entry.key(),
                    "an item of a list has changed its length"
                );
                self.rest = Vec::new().into_iter().zip(Vec::new());
                self.after.clear();
                return None;
            }
        }
        (!frame.is_empty()).then(|| Bytes::from(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::Opened;
    use crate::packed::Packer;
    use serde_json::json;

    fn pod(at: usize) -> Arc<Entry> {
        let (name, image) = (format!("web-{at}"), "registry.example.com/web:1".repeat(60));
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
            "spec": {"containers": [{"name": "web", "image": image}]}});
        let stored = Opened::from(crate::codec::encode(&pod));
        let key = format!("/registry/pods/n/{name}");
        let entry = Entry::new(&key, "/registry/pods/".len(), &stored, 7, &[], None);
        Arc::new(entry.unwrap())
    }

    fn items(form: Form) -> Items {
        let resource = Handle::from(resources::find("", "v1", "pods").unwrap());
        Items {
            shown: protobuf::shown(form, &resource).unwrap(),
            is_converted: false,
            resource,
            encoder: Encoder::default(),
            room: Room::default(),
        }
    }

    async fn listed(form: Form, entries: Vec<Arc<Entry>>) -> Vec<u8> {
        let mut items = items(form);
        let counted = items.count(&entries).await.unwrap();
        let (api_version, kind) = head(form, &items.resource);
        let metadata = json!({"resourceVersion": "7"});
        let lengths = counted.iter().map(|length| *length as usize);
        let around = schema::protobuf::list_around(&api_version, &kind, &metadata, lengths);
        let (before, after) = around.unwrap();
        let frames = Frames {
            items,
            rest: entries.into_iter().zip(counted),
            before,
            after,
        };
        frames.flatten().collect()
    }

    const PARTIAL: Form = Form::Partial {
        version: "meta.k8s.io/v1",
        of_list: true,
    };

    #[tokio::test]
    async fn a_list_says_what_its_objects_say_whether_they_are_at_rest_or_not() {
        let plain: Vec<Arc<Entry>> = (0..200).map(pod).collect();
        let mut packer = Packer::default();
        let at_rest = plain
            .iter()
            .map(|one| one.packed(&mut packer).map_or(one.clone(), Arc::new));
        let at_rest: Vec<Arc<Entry>> = at_rest.collect();
        for form in [Form::Object, PARTIAL] {
            let bytes = listed(form, plain.clone()).await;
            assert!(bytes == listed(form, at_rest.clone()).await);
            // Lengths are known now.
            assert!(bytes == listed(form, plain.clone()).await);
            let list = schema::protobuf::decode(&bytes).unwrap();
            let (_, kind) = head(form, &items(form).resource);
            assert_eq!(list["kind"], kind);
            assert_eq!(list["metadata"]["resourceVersion"], "7");
            let names = list["items"].as_array().unwrap().iter();
            let names = names.map(|item| item["metadata"]["name"].as_str().unwrap());
            assert!(names.eq(plain.iter().map(|entry| entry.name())));
            let specs = list["items"][199].get("spec").is_some();
            assert_eq!(specs, form == Form::Object);
        }
        assert!(plain.iter().all(|entry| entry.protobuf_len().is_some()));
        assert_eq!(
            pod(0).packed(&mut packer).map(|one| one.protobuf_len()),
            Some(None)
        );
    }

    #[tokio::test]
    async fn a_list_breaks_off_rather_than_say_something_else() {
        let entries = vec![pod(0), pod(1)];
        entries[1].keep_protobuf_len(5);
        assert!(listed(Form::Object, entries).await.is_empty());
        assert!(!listed(Form::Object, Vec::new()).await.is_empty());
    }
}

//! Lists in JSON. Objects are sent as the bytes they are kept in, so a list of any size costs little memory and no encoding.

use std::sync::Arc;

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use resources::{Handle, Resource};

use super::list::Page;
use super::list_body::{FRAME_BYTES, send};
use crate::context::Context;
use crate::entry::{self, Entry};
use crate::negotiate;
use crate::packed::Room;

pub(super) fn respond(context: &Context, resource: &Handle, page: Page) -> Response {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
        resource.list_kind,
        resource.api_version(),
        page.metadata_of(resource)
    );
    let about: usize = page.entries.iter().map(|entry| entry.json_len() + 1).sum();
    let frames = Frames {
        resource: resource.clone(),
        entries: page.entries.into_iter(),
        first: true,
        head: Some(head),
        done: false,
        room: Room::default(),
    };
    send(context, negotiate::JSON, about, frames)
}

/// The items of a list without their `kind` and `apiVersion`, as Kubernetes sends them; custom resources keep both.
fn write_item(frame: &mut BytesMut, resource: &Resource, entry: &Entry, room: &mut Room) {
    if resource.custom.is_some() && entry.is_as(resource) {
        frame.extend_from_slice(entry.encoded.json.read(room));
        return;
    }
    if resource.custom.is_none() && !entry::is_converted(resource) {
        frame.extend_from_slice(b"{");
        frame.extend_from_slice(entry.encoded.list_item_tail(room));
        return;
    }
    let mut object = entry.object_as(resource);
    if resource.custom.is_none() {
        object.remove(&["kind"]);
        object.remove(&["apiVersion"]);
    }
    let json = serde_json::to_vec(object.value()).expect("a JSON value always encodes");
    frame.extend_from_slice(&json);
}

/// The bytes of a list, in frames.
struct Frames {
    resource: Handle,
    entries: std::vec::IntoIter<Arc<Entry>>,
    first: bool,
    head: Option<String>,
    done: bool,
    /// Objects at rest are unpacked here, one after the other.
    room: Room,
}

impl Iterator for Frames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut frame = BytesMut::with_capacity(FRAME_BYTES + 8 * 1024);
        if let Some(head) = self.head.take() {
            frame.extend_from_slice(head.as_bytes());
        }
        while frame.len() < FRAME_BYTES {
            let Some(entry) = self.entries.next() else {
                frame.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                frame.extend_from_slice(b",");
            }
            write_item(&mut frame, &self.resource, &entry, &mut self.room);
        }
        Some(frame.freeze())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::encryption::Opened;
    use crate::packed::Packer;

    fn pod(at: usize) -> Entry {
        let (name, image) = (format!("web-{at}"), "registry.example.com/web:1".repeat(60));
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
            "spec": {"containers": [{"name": "web", "image": image}]}});
        let stored = Opened::from(crate::codec::encode(&pod));
        let key = format!("/registry/pods/n/{name}");
        Entry::new(&key, "/registry/pods/".len(), &stored, 7, &[], None).unwrap()
    }

    fn listed(resource: &Handle, entries: Vec<Arc<Entry>>) -> Vec<u8> {
        let frames = Frames {
            resource: resource.clone(),
            entries: entries.into_iter(),
            first: true,
            head: Some("{\"items\":[".to_owned()),
            done: false,
            room: Room::default(),
        };
        frames.flatten().collect()
    }

    #[test]
    fn a_list_of_objects_at_rest_is_the_same_as_of_others() {
        let pods = Handle::from(resources::find("", "v1", "pods").unwrap());
        let plain: Vec<Arc<Entry>> = (0..200).map(|at| Arc::new(pod(at))).collect();
        let mut packer = Packer::default();
        let mut count = 0;
        let at_rest = plain.iter().map(|one| match one.packed(&mut packer) {
            Some(packed) => {
                count += 1;
                Arc::new(packed)
            }
            None => one.clone(),
        });
        let at_rest: Vec<Arc<Entry>> = at_rest.collect();
        assert_eq!(count, 199, "all but the one that they are packed against");
        let of_plain = listed(&pods, plain);
        assert!(of_plain == listed(&pods, at_rest));
        let list: Value = serde_json::from_slice(&of_plain).unwrap();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 200);
        assert_eq!(items[199]["metadata"]["name"], "web-199");
        assert_eq!(items[199]["metadata"]["resourceVersion"], "7");
        assert_eq!(items[199].get("kind"), None);
    }
}

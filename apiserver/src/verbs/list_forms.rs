//! Lists as Tables and as mere metadata. Of the metadata of an object its bytes are sent as they are kept, and a row is
//! written by itself, when its turn comes: such a list needs no object as a whole, and never all of them at once.

use std::sync::{Arc, LazyLock};

use axum::response::Response;
use bytes::Bytes;
use resources::{Handle, Resource};
use schema::Object;
use schema::pick::Pick;
use serde_json::Value;

use super::list::Page;
use super::list_body::{Joined, send};
use crate::context::Context;
use crate::entry::{self, Entry};
use crate::negotiate::{self, Encoding, Form, Include};
use crate::packed::Room;

/// What cells of built-in kinds are made of: nobody shows who manages which fields.
static SHOWN: LazyLock<Pick> = LazyLock::new(|| Pick::without(["metadata.managedFields"]));
/// The cells of a row are about so long.
const CELLS_BYTES: usize = 256;

/// The list in the form that was asked for; none where it can only be made from whole objects.
pub(super) fn respond(context: &Context, resource: &Handle, page: &Page) -> Option<Response> {
    let output = &context.output;
    // What is stored in another shape may have other metadata there.
    let is_converted = resource.custom.is_none() && entry::is_converted(resource);
    if output.encoding != Encoding::Json || is_converted {
        return None;
    }
    match output.form {
        Form::Partial { version, .. } => Some(partial(context, page, version)),
        Form::Table {
            version,
            include: Include::Metadata,
        } => Some(table(context, resource, page, version)),
        Form::Table { .. } | Form::Object => None,
    }
}

fn partial(context: &Context, page: &Page, version: &'static str) -> Response {
    let about = about(&page.entries, 80);
    let head = format!("{{\"apiVersion\":\"{version}\",\"items\":[");
    let tail = format!(
        "],\"kind\":\"PartialObjectMetadataList\",\"metadata\":{}}}\n",
        page.metadata()
    );
    let mut room = Room::default();
    let entries = page.entries.clone().into_iter().enumerate();
    let items = entries.map(move |(index, entry)| {
        let part = entry.encoded.metadata(&mut room);
        let mut item = Vec::with_capacity(part.len() + 96);
        item.extend_from_slice(comma(index));
        write_partial(&mut item, part, version);
        Bytes::from(item)
    });
    let pieces = around(head, items, tail);
    send(context, negotiate::JSON, about, Joined { pieces })
}

fn table(context: &Context, resource: &Handle, page: &Page, version: &'static str) -> Response {
    let about = about(&page.entries, CELLS_BYTES);
    // Everything but the rows, which come last.
    let (metadata, form) = (page.metadata(), (version, Include::Metadata));
    let frame = negotiate::table(resource, &[], metadata, form, true, context.now).to_string();
    let (head, tail) = frame.split_at(frame.len() - "]}".len());
    let (head, tail) = (head.to_owned(), format!("{tail}\n"));
    let (resource, now) = (resource.clone(), context.now);
    let mut room = Room::default();
    let entries = page.entries.clone().into_iter().enumerate();
    let rows = entries.map(move |(index, entry)| {
        let object = shown(&resource, &entry);
        let cells = Value::Array(resources::table(&resource, &object, now));
        row(entry.encoded.metadata(&mut room), &cells, index, version)
    });
    let pieces = around(head, rows, tail);
    send(context, negotiate::JSON, about, Joined { pieces })
}

/// What the cells of a row are made of.
fn shown(resource: &Resource, entry: &Entry) -> Object {
    match resource.custom {
        Some(_) => entry.object_as(resource),
        None => entry.part(&SHOWN),
    }
}

fn row(part: &[u8], cells: &Value, index: usize, version: &'static str) -> Bytes {
    let mut row = Vec::with_capacity(part.len() + CELLS_BYTES);
    row.extend_from_slice(comma(index));
    row.extend_from_slice(b"{\"cells\":");
    serde_json::to_writer(&mut row, cells).expect("writing to memory cannot fail");
    row.extend_from_slice(b",\"object\":");
    write_partial(&mut row, part, version);
    row.push(b'}');
    Bytes::from(row)
}

/// About how many bytes the metadata of all these take, each with so many around it. Which answers are small is known
/// exactly; of more the rest is taken to be like the first, so that not everything at rest is unpacked for it.
fn about(entries: &[Arc<Entry>], around: usize) -> usize {
    let mut room = Room::default();
    let (mut bytes, mut seen) = (0, 0);
    for entry in entries {
        if bytes > negotiate::GZIP_BYTES_MIN {
            break;
        }
        bytes += entry.encoded.metadata(&mut room).len() + around;
        seen += 1;
    }
    (bytes * entries.len()).checked_div(seen).unwrap_or(0)
}

fn write_partial(out: &mut Vec<u8>, metadata: &[u8], version: &str) {
    out.extend_from_slice(b"{\"apiVersion\":\"");
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(b"\",\"kind\":\"PartialObjectMetadata\",\"metadata\":");
    out.extend_from_slice(metadata);
    out.push(b'}');
}

fn comma(index: usize) -> &'static [u8] {
    if index == 0 { b"" } else { b"," }
}

fn around(
    head: String,
    items: impl Iterator<Item = Bytes>,
    tail: String,
) -> impl Iterator<Item = Bytes> {
    let one = |text: String| std::iter::once(Bytes::from(text));
    one(head).chain(items).chain(one(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Vec<Arc<Entry>> {
        let entry = |at| Arc::new(Entry::for_test(&format!("/registry/pods/n/{at:05}"), 7));
        (0..count).map(entry).collect()
    }

    #[test]
    fn how_large_an_answer_is_is_known_of_small_ones_and_guessed_of_large_ones() {
        let one = r#"{"resourceVersion":"7"}"#.len() + 80;
        for count in [0, 1, 100, 2_000, 50_000] {
            assert_eq!(about(&entries(count), 80), count * one, "all are alike");
        }
    }
}

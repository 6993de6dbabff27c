//! Lists as Tables and as mere metadata. Of the metadata of an object its bytes are sent as they are kept, and a row is
//! written by itself, when its turn comes: such a list needs no object as a whole, and never all of them at once.

use std::sync::{Arc, LazyLock};

use axum::response::Response;
use bytes::Bytes;
use resources::{Handle, Resource};
use schema::Object;
use schema::pick::Pick;
use serde_json::Value;

use super::list::{Joined, Page, send};
use crate::context::Context;
use crate::entry::{self, Entry};
use crate::negotiate::{self, Encoding, Form, Include};

/// What cells of built-in kinds are made of: nobody shows who manages which fields.
static SHOWN: LazyLock<Pick> = LazyLock::new(|| Pick::without(["metadata.managedFields"]));
/// The cells of a row are about so long.
const CELLS_BYTES: usize = 256;

/// The list in the form that was asked for; none where it can only be made from whole objects.
pub(super) fn respond(context: &Context, resource: &Handle, page: &Page) -> Option<Response> {
    let output = &context.output;
    // What is stored in another shape may have other metadata there.
    let is_converted = resource.custom.is_none() && entry::is_converted(resource);
    if output.encoding != Encoding::Json || output.pretty || is_converted {
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
    let parts: Vec<Bytes> = page.entries.iter().map(|entry| metadata(entry)).collect();
    let about = parts.iter().map(|part| part.len() + 80).sum();
    let head = format!("{{\"apiVersion\":\"{version}\",\"items\":[");
    let tail = format!(
        "],\"kind\":\"PartialObjectMetadataList\",\"metadata\":{}}}\n",
        page.metadata()
    );
    let items = parts.into_iter().enumerate().map(move |(index, part)| {
        let mut item = Vec::with_capacity(part.len() + 96);
        item.extend_from_slice(comma(index));
        write_partial(&mut item, &part, version);
        Bytes::from(item)
    });
    let pieces = around(head, items, tail);
    send(context, negotiate::JSON, about, Joined { pieces })
}

fn table(context: &Context, resource: &Handle, page: &Page, version: &'static str) -> Response {
    let about = page.entries.iter();
    let about = about.map(|entry| metadata(entry).len() + CELLS_BYTES).sum();
    // Everything but the rows, which come last.
    let (metadata, form) = (page.metadata(), (version, Include::Metadata));
    let frame = negotiate::table(resource, &[], metadata, form, true, context.now).to_string();
    let (head, tail) = frame.split_at(frame.len() - "]}".len());
    let (head, tail) = (head.to_owned(), format!("{tail}\n"));
    let (resource, now) = (resource.clone(), context.now);
    let entries = page.entries.clone().into_iter().enumerate();
    let rows = entries.map(move |(index, entry)| row(&resource, &entry, index, version, now));
    let pieces = around(head, rows, tail);
    send(context, negotiate::JSON, about, Joined { pieces })
}

fn row(
    resource: &Resource,
    entry: &Arc<Entry>,
    index: usize,
    version: &'static str,
    now: i64,
) -> Bytes {
    let object: Object = match resource.custom {
        Some(_) => entry.object_as(resource),
        None => entry.part(&SHOWN),
    };
    let cells = Value::Array(resources::table(resource, &object, now));
    let part = metadata(entry);
    let mut row = Vec::with_capacity(part.len() + CELLS_BYTES);
    row.extend_from_slice(comma(index));
    row.extend_from_slice(b"{\"cells\":");
    serde_json::to_writer(&mut row, &cells).expect("writing to memory cannot fail");
    row.extend_from_slice(b",\"object\":");
    write_partial(&mut row, &part, version);
    row.push(b'}');
    Bytes::from(row)
}

fn metadata(entry: &Entry) -> Bytes {
    entry.encoded.metadata()
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

//! JSON to protobuf in one pass over the text: no value is made of it, and nothing is kept of it but what is written.
//!
//! JSON has its members by their names and protobuf by their tags, and a message has its length before it. So members are
//! written as they come, lengths are put in when a message ends, and a message whose members came in another order is put
//! in order then. What the pass does not know its way in is left to [`super::write`], which reads a value; both write the
//! same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::scan::{Odd, Scanner, Text, unescape};
use super::wire::{bytes, close, double, number, open};
use super::{DEPTH_MAX, ProtobufError, write};
use crate::time;
use crate::types::{Container, Element, Field, Form, Type, type_by_id, type_named};

/// What a JSON text is of an object.
#[derive(Debug, Clone, Copy)]
pub enum Shown {
    /// The whole of it.
    Object(&'static Type),
    /// The value of `metadata`, which is all there is in a `PartialObjectMetadata`.
    Metadata,
}

/// The tag of `metadata` in every kind.
const METADATA: u32 = 1;

/// Writes the messages of objects from their JSON, one after the other. It holds nothing but room, which serves for many.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The members of the messages that are open, those of the innermost last.
    parts: Vec<Part>,
    /// Where a message is copied to that is put in order.
    room: Vec<u8>,
    depth: usize,
    /// Bytes of the last message.
    written: usize,
}

/// One member of a message in what is written.
#[derive(Debug, Clone, Copy)]
struct Part {
    tags: &'static [u32],
    start: usize,
    end: usize,
}

impl Encoder {
    /// Appends the message of an object, without an envelope. After an error, `out` is as before.
    pub fn message(
        &mut self,
        shown: Shown,
        json: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ProtobufError> {
        let start = out.len();
        if self.pass(shown, json, out).is_err() {
            out.truncate(start);
            slow_message(shown, json, out).inspect_err(|_| out.truncate(start))?;
        }
        self.written = out.len() - start;
        Ok(())
    }

    /// How long the last message was, without what stands around it.
    pub fn written(&self) -> usize {
        self.written
    }

    /// An object as a body, with its envelope.
    pub fn body(
        &mut self,
        shown: Shown,
        (api_version, kind): (&str, &str),
        json: &[u8],
    ) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Vec::with_capacity(json.len());
        self.enveloped(shown, (api_version, kind), json, &mut out)?;
        Ok(out)
    }

    /// One frame of a watch, as [`super::watch_frame`] makes it of a body.
    pub fn watch_frame(
        &mut self,
        event_type: &str,
        shown: Shown,
        head: (&str, &str),
        json: &[u8],
    ) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Vec::with_capacity(json.len());
        out.extend_from_slice(&[0; 4]);
        bytes(1, event_type.as_bytes(), &mut out);
        let extension = open(2, &mut out);
        let raw = open(1, &mut out);
        self.enveloped(shown, head, json, &mut out)?;
        close(raw, &mut out);
        close(extension, &mut out);
        let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_be_bytes());
        Ok(out)
    }

    fn enveloped(
        &mut self,
        shown: Shown,
        (api_version, kind): (&str, &str),
        json: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ProtobufError> {
        write::envelope_head(api_version, kind, out);
        let raw = open(write::RAW, out);
        self.message(shown, json, out)?;
        close(raw, out);
        write::envelope_tail(out);
        Ok(())
    }

    /// The message in one pass; where that does not go, something of it may be written.
    fn pass(&mut self, shown: Shown, json: &[u8], out: &mut Vec<u8>) -> Result<(), Odd> {
        self.parts.clear();
        self.depth = 0;
        let text = std::str::from_utf8(json).map_err(|_| Odd)?;
        let mut scanner = Scanner::new(text);
        match shown {
            Shown::Object(ty) => self.object(&mut scanner, ty, out)?,
            Shown::Metadata => {
                let start = open(METADATA, out);
                self.object(&mut scanner, object_meta(), out)?;
                close(start, out);
            }
        }
        scanner.end()
    }

    fn object(
        &mut self,
        scanner: &mut Scanner<'_>,
        ty: &'static Type,
        out: &mut Vec<u8>,
    ) -> Result<(), Odd> {
        self.depth += 1;
        // `serde_json` reads no more objects in each other either.
        if self.depth >= DEPTH_MAX {
            return Err(Odd);
        }
        let (first, base) = (self.parts.len(), out.len());
        let mut more = scanner.enter(b'{', b'}')?;
        while more {
            match ty.field(scanner.name()?).filter(|f| !f.tags.is_empty()) {
                Some(field) => {
                    let start = out.len();
                    if !scanner.null() {
                        self.field(scanner, field, out)?;
                    }
                    self.parts.push(Part {
                        tags: &field.tags,
                        start,
                        end: out.len(),
                    });
                }
                None => {
                    scanner.skip()?;
                }
            }
            more = scanner.goes_on(b'}')?;
        }
        self.put_in_order(first, base, out);
        self.depth -= 1;
        Ok(())
    }

    /// Gives the members since the `first` their order, which are what is written from `base` on. Of a member that came
    /// more than once, the last counts.
    fn put_in_order(&mut self, first: usize, base: usize, out: &mut Vec<u8>) {
        let parts = &mut self.parts[first..];
        let is_flat = parts.iter().all(|part| part.tags.len() == 1);
        if !(is_flat && parts.is_sorted_by(|a, b| a.tags < b.tags)) {
            parts.sort_by(|a, b| a.tags.cmp(b.tags));
            self.room.clear();
            self.room.extend_from_slice(&out[base..]);
            out.truncate(base);
            put(parts, 0, (self.room.as_slice(), base), out);
        }
        self.parts.truncate(first);
    }

    fn field(
        &mut self,
        scanner: &mut Scanner<'_>,
        field: &'static Field,
        out: &mut Vec<u8>,
    ) -> Result<(), Odd> {
        let tag = *field.tags.last().ok_or(Odd)?;
        let of = field.ty.element;
        match field.ty.container {
            Container::One => self.element(scanner, of, tag, out),
            Container::List => {
                let mut more = scanner.enter(b'[', b']')?;
                while more {
                    self.item(scanner, of, tag, out)?;
                    more = scanner.goes_on(b']')?;
                }
                Ok(())
            }
            Container::Map => {
                let mut before: Option<&str> = None;
                let mut more = scanner.enter(b'{', b'}')?;
                while more {
                    let key = scanner.name()?;
                    // Keys are sorted, in what this server writes as in what Kubernetes does.
                    if before.is_some_and(|before| before >= key) {
                        return Err(Odd);
                    }
                    before = Some(key);
                    let entry = open(tag, out);
                    bytes(1, key.as_bytes(), out);
                    self.item(scanner, of, 2, out)?;
                    close(entry, out);
                    more = scanner.goes_on(b'}')?;
                }
                Ok(())
            }
        }
    }

    /// An item of a list or a map, where null stands for the zero value: nothing is read as just that.
    fn item(
        &mut self,
        scanner: &mut Scanner<'_>,
        of: Element,
        tag: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Odd> {
        if !scanner.null() {
            return self.element(scanner, of, tag, out);
        }
        match of {
            Element::String | Element::Bytes | Element::StringList | Element::Message(_) => {
                bytes(tag, b"", out);
                Ok(())
            }
            _ => Err(Odd),
        }
    }

    fn element(
        &mut self,
        scanner: &mut Scanner<'_>,
        of: Element,
        tag: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Odd> {
        match of {
            Element::String => text(scanner, tag, out)?,
            Element::Bool => number(tag, u64::from(scanner.boolean()?), out),
            Element::Int32 | Element::Int64 => number(tag, scanner.integer()? as u64, out),
            Element::Double => double(tag, scanner.double()?, out),
            Element::Bytes => {
                let start = open(tag, out);
                let read = BASE64.decode_vec(scanner.plain()?, out);
                read.map_err(|_| Odd)?;
                close(start, out);
            }
            Element::Duration => {
                let nanos = time::parse_duration(scanner.plain()?).ok_or(Odd)?;
                let start = open(tag, out);
                number(1, nanos as u64, out);
                close(start, out);
            }
            Element::StringList | Element::Verbs => {
                let start = open(tag, out);
                texts(scanner, 1, out)?;
                close(start, out);
            }
            Element::Message(id) => {
                let start = open(tag, out);
                self.form(scanner, type_by_id(id), out)?;
                close(start, out);
            }
        }
        Ok(())
    }

    /// The inside of a message whose JSON is in the form of its type.
    fn form(
        &mut self,
        scanner: &mut Scanner<'_>,
        ty: &'static Type,
        out: &mut Vec<u8>,
    ) -> Result<(), Odd> {
        match ty.form {
            Form::Object => return self.object(scanner, ty, out),
            Form::Time | Form::MicroTime => {
                let (seconds, nanos) = time::parse_nanos(scanner.plain()?).ok_or(Odd)?;
                number(1, seconds as u64, out);
                number(2, u64::from(nanos), out);
            }
            Form::Quantity => bytes(1, scanner.plain()?.as_bytes(), out),
            Form::IntOrString if scanner.peek() == Some(b'"') => {
                number(1, 1, out);
                number(2, 0, out);
                text(scanner, 3, out)?;
            }
            Form::IntOrString => {
                number(1, 0, out);
                number(2, scanner.integer()? as u64, out);
                bytes(3, b"", out);
            }
            // As it stands there, in its own order.
            Form::RawExtension | Form::FieldsV1 | Form::Json => {
                bytes(1, scanner.skip()?.as_bytes(), out);
            }
            Form::SchemaOrArray | Form::SchemaOrBool | Form::SchemaOrStringArray => {
                return self.schema_or(scanner, ty.form, out);
            }
        }
        Ok(())
    }

    /// A JSON schema, or what may be in its place.
    fn schema_or(
        &mut self,
        scanner: &mut Scanner<'_>,
        form: Form,
        out: &mut Vec<u8>,
    ) -> Result<(), Odd> {
        match (form, scanner.peek()) {
            (Form::SchemaOrBool, Some(b't' | b'f')) => {
                number(1, u64::from(scanner.boolean()?), out);
                Ok(())
            }
            (Form::SchemaOrBool, _) => {
                // Go sets `allows` beside a schema.
                number(1, 1, out);
                self.schema(scanner, 2, out)
            }
            (Form::SchemaOrArray, Some(b'[')) => {
                let mut more = scanner.enter(b'[', b']')?;
                while more {
                    self.schema(scanner, 2, out)?;
                    more = scanner.goes_on(b']')?;
                }
                Ok(())
            }
            (Form::SchemaOrStringArray, Some(b'[')) => texts(scanner, 2, out),
            _ => self.schema(scanner, 1, out),
        }
    }

    fn schema(
        &mut self,
        scanner: &mut Scanner<'_>,
        tag: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Odd> {
        let start = open(tag, out);
        self.object(scanner, write::json_schema(), out)?;
        close(start, out);
        Ok(())
    }
}

/// Writes sorted members, those of one nested message into it. The tags up to `depth` are the same in all of them;
/// `written` is what they are parts of, and where that began.
fn put(parts: &[Part], depth: usize, written: (&[u8], usize), out: &mut Vec<u8>) {
    for alike in parts.chunk_by(|a, b| a.tags.get(depth) == b.tags.get(depth)) {
        let Some((last, tag)) = alike
            .last()
            .and_then(|last| Some((last, *last.tags.get(depth)?)))
        else {
            continue;
        };
        if last.tags.len() == depth + 1 {
            let (bytes, base) = written;
            out.extend_from_slice(&bytes[last.start - base..last.end - base]);
            continue;
        }
        let start = out.len();
        let inner = open(tag, out);
        put(alike, depth + 1, written, out);
        match out.len() == inner {
            true => out.truncate(start),
            false => close(inner, out),
        }
    }
}

fn text(scanner: &mut Scanner<'_>, tag: u32, out: &mut Vec<u8>) -> Result<(), Odd> {
    match scanner.string()? {
        Text::Plain(text) => bytes(tag, text.as_bytes(), out),
        Text::Escaped(inner) => {
            let start = open(tag, out);
            unescape(inner, out)?;
            close(start, out);
        }
    }
    Ok(())
}

fn texts(scanner: &mut Scanner<'_>, tag: u32, out: &mut Vec<u8>) -> Result<(), Odd> {
    let mut more = scanner.enter(b'[', b']')?;
    while more {
        text(scanner, tag, out)?;
        more = scanner.goes_on(b']')?;
    }
    Ok(())
}

fn slow_message(shown: Shown, json: &[u8], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
    let value: Value =
        serde_json::from_slice(json).map_err(|error| ProtobufError::Json(error.to_string()))?;
    match shown {
        Shown::Object(ty) => write::object(ty, &value, out),
        Shown::Metadata => {
            let mut metadata = Vec::new();
            write::object(object_meta(), &value, &mut metadata)?;
            bytes(METADATA, &metadata, out);
            Ok(())
        }
    }
}

fn object_meta() -> &'static Type {
    type_named("meta.ObjectMeta").expect("it is in the table")
}

#[cfg(test)]
mod tests;

//! JSON on many lines, for people: written anew piece by piece, so that a list of any size costs little memory.

use bytes::{BufMut, Bytes, BytesMut};

/// Pieces of one JSON text, which come as they go, on many lines.
pub(super) struct Indented<I> {
    pieces: I,
    place: Place,
}

impl<I> Indented<I> {
    pub(super) fn new(pieces: I) -> Indented<I> {
        let place = Place::default();
        Indented { pieces, place }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Indented<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next()?;
        // Half of what people are shown is indentation.
        let mut out = BytesMut::with_capacity(piece.len() * 5 / 2);
        self.place.write(&piece, &mut out);
        Some(out.freeze())
    }
}

/// Where in the text we are.
#[derive(Default)]
struct Place {
    depth: usize,
    /// Behind the bracket that opens something, of which nothing has come.
    is_empty: bool,
    in_string: bool,
    /// Behind a backslash.
    is_escaped: bool,
}

impl Place {
    fn write(&mut self, mut piece: &[u8], out: &mut BytesMut) {
        while let Some((&byte, rest)) = piece.split_first() {
            if self.in_string {
                let (inside, rest) = piece.split_at(self.rest_of_string(piece));
                out.extend_from_slice(inside);
                piece = rest;
                continue;
            }
            piece = rest;
            match byte {
                b'{' | b'[' => {
                    self.begin(out);
                    out.put_u8(byte);
                    self.depth += 1;
                    self.is_empty = true;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.is_empty) {
                        self.new_line(out);
                    }
                    out.put_u8(byte);
                }
                b',' => {
                    out.put_u8(byte);
                    self.new_line(out);
                }
                b':' => out.extend_from_slice(b": "),
                b'\n' if self.depth == 0 => out.put_u8(byte),
                b' ' | b'\t' | b'\r' | b'\n' => {}
                other => {
                    self.begin(out);
                    out.put_u8(other);
                    self.in_string = other == b'"';
                }
            }
        }
    }

    /// A value or a name begins, or goes on.
    fn begin(&mut self, out: &mut BytesMut) {
        if std::mem::take(&mut self.is_empty) {
            self.new_line(out);
        }
    }

    fn new_line(&self, out: &mut BytesMut) {
        out.put_u8(b'\n');
        out.put_bytes(b' ', 2 * self.depth);
    }

    /// How much of a piece belongs to the string that we are in.
    fn rest_of_string(&mut self, piece: &[u8]) -> usize {
        for (at, byte) in piece.iter().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.in_string = false;
                    return at + 1;
                }
                _ => {}
            }
        }
        piece.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn indented(json: &str, piece: usize) -> String {
        let pieces = json.as_bytes().chunks(piece).map(Bytes::copy_from_slice);
        let all: Vec<u8> = Indented::new(pieces).flatten().collect();
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn it_looks_as_kubernetes_shows_it() {
        let list =
            r#"{"kind":"List","metadata":{},"items":[{"a":[],"b":"x, y: {\"z\\"},1.5,null]}"#;
        let shown = r#"{
  "kind": "List",
  "metadata": {},
  "items": [
    {
      "a": [],
      "b": "x, y: {\"z\\"
    },
    1.5,
    null
  ]
}
"#;
        for piece in [1, 2, 3, 7, 1_000] {
            assert_eq!(indented(&format!("{list}\n"), piece), shown);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
            "[\"\\\\{}:,\n ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let map = prop::collection::btree_map(".{0,3}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                map.prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_in_any_pieces_is_as_if_it_were_written_at_once(value in any_json(), piece in 1_usize..9) {
            let wanted = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(indented(&value.to_string(), piece), wanted);
        }
    }
}

//! The fields of protobuf messages as bytes.

/// The tag and wire type that open a field.
pub(crate) fn key(tag: u32, wire_type: u64, out: &mut Vec<u8>) {
    varint(u64::from(tag) << 3 | wire_type, out);
}

/// A field that is a number.
pub(crate) fn number(tag: u32, value: u64, out: &mut Vec<u8>) {
    key(tag, 0, out);
    varint(value, out);
}

/// A field that is a floating point number.
pub(crate) fn double(tag: u32, value: f64, out: &mut Vec<u8>) {
    key(tag, 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A field that has a length: bytes, text, a message.
pub(crate) fn bytes(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    head(tag, value.len(), out);
    out.extend_from_slice(value);
}

/// What stands before a value of so many bytes.
pub(crate) fn head(tag: u32, length: usize, out: &mut Vec<u8>) {
    key(tag, 2, out);
    varint(length as u64, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

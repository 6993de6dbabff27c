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

/// Begins a field whose length is known when [`close`] ends it: what is written until then is its value, which begins at
/// the place that is the answer.
pub(super) fn open(tag: u32, out: &mut Vec<u8>) -> usize {
    key(tag, 2, out);
    // Most lengths are one byte, for which room is left.
    out.push(0);
    out.len()
}

/// Ends the field whose value begins at `start`.
pub(super) fn close(start: usize, out: &mut Vec<u8>) {
    let (mut length, end) = (out.len() - start, out.len());
    let more = (usize::BITS - length.leading_zeros()).div_ceil(7).max(1) as usize - 1;
    if more > 0 {
        out.resize(end + more, 0);
        out.copy_within(start..end, start + more);
    }
    for byte in &mut out[start - 1..start - 1 + more] {
        *byte = length as u8 | 0x80;
        length >>= 7;
    }
    out[start - 1 + more] = length as u8;
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_comes_later_is_the_same() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 2_097_152] {
            let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
            for tag in [1, 16, 1000] {
                let (mut now, mut later) = (b"before".to_vec(), b"before".to_vec());
                bytes(tag, &value, &mut now);
                let start = open(tag, &mut later);
                later.extend_from_slice(&value);
                close(start, &mut later);
                assert!(now == later, "{length} bytes under {tag}");
            }
        }
    }
}

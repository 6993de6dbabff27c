//! How far a string in a JSON text goes on as it is. Eight bytes are looked at together: most of an object is in its strings,
//! and each object is gone through when it enters a cache.

const ONES: u64 = 0x0101_0101_0101_0101;

/// How many bytes stand before the first quote or backslash.
#[inline]
pub fn plain_len(bytes: &[u8]) -> usize {
    len_before(
        bytes,
        |word| equal(word, b'"') | equal(word, b'\\'),
        |byte| matches!(byte, b'"' | b'\\'),
    )
}

/// How many bytes stand before the first quote, backslash, or control character, which no string may have.
#[inline]
pub fn printable_len(bytes: &[u8]) -> usize {
    len_before(
        bytes,
        |word| equal(word, b'"') | equal(word, b'\\') | zeros(word & (ONES * 0xe0)),
        |byte| matches!(byte, b'"' | b'\\' | 0..0x20),
    )
}

/// The highest bit of each byte that is zero, and maybe of ones behind the first of these.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// As [`zeros`], of the bytes that are this one.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    zeros(word ^ (ONES * u64::from(byte)))
}

/// `found` marks bytes of a word as [`zeros`] does.
#[inline]
fn len_before(bytes: &[u8], found: impl Fn(u64) -> u64, is_end: impl Fn(u8) -> bool) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = found(u64::from_le_bytes(*word));
        if found != 0 {
            return index * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let end = tail.iter().position(|byte| is_end(*byte));
    words.len() * 8 + end.unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_find_what_bytes_find(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a'), 0x1e..0x24_u8, 0x5b..0x5e_u8], 0..40)) {
            let before = |is_end: fn(&u8) -> bool| bytes.iter().position(is_end).unwrap_or(bytes.len());
            prop_assert_eq!(plain_len(&bytes), before(|byte| matches!(byte, b'"' | b'\\')));
            prop_assert_eq!(printable_len(&bytes), before(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)));
        }
    }
}

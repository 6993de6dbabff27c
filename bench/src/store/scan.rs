//! A look at a message of protobuf without decoding it: with a thousand watchers the load generator has to look at a
//! hundred thousand events a second, and needs eight bytes of each.

/// The fields of a message that have a length, each with its number; ends early where the message is damaged.
pub(crate) fn parts(message: &[u8]) -> Parts<'_> {
    Parts { rest: message }
}

pub(crate) struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = self.varint()?;
            match key & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    return Some((key >> 3, self.take(length)?));
                }
                5 => drop(self.take(4)?),
                _ => return None,
            }
        }
    }
}

impl<'a> Parts<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(part)
    }
}

/// The part with this number.
pub(crate) fn part(message: &[u8], number: u64) -> Option<&[u8]> {
    parts(message)
        .find(|(found, _)| *found == number)
        .map(|(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv::{Event, KeyValue, RangeResponse};
    use prost::Message;

    #[test]
    fn parts_are_found_between_numbers() {
        let event = Event {
            kv: KeyValue {
                key: "k".into(),
                mod_revision: 1 << 40,
                value: vec![7; 300].into(),
                ..Default::default()
            },
            ..Default::default()
        };
        let bytes = event.encode_to_vec();
        let pair = part(&bytes, 2).unwrap();
        assert_eq!(part(pair, 1).unwrap(), b"k");
        assert_eq!(part(pair, 5).unwrap(), [7; 300]);
        assert_eq!(part(pair, 6), None);
    }

    #[test]
    fn what_is_cut_off_is_not_counted() {
        let answer = RangeResponse {
            kvs: vec![KeyValue::default(); 3],
            more: false,
            count: 3,
        };
        let bytes = answer.encode_to_vec();
        assert_eq!(parts(&bytes).count(), 3);
        let mut long = RangeResponse::default();
        long.kvs.push(KeyValue {
            value: vec![1; 50].into(),
            ..Default::default()
        });
        let bytes = long.encode_to_vec();
        assert_eq!(parts(&bytes[..bytes.len() - 1]).count(), 0);
        assert_eq!(parts(&[0xff; 20]).count(), 0);
    }
}

//! Where the fields of a type are, by name. Decoding, managed fields and patches look up every name of every object, so it
//! is one hash and mostly one comparison. The names are those of the table: nobody can choose them so that they collide.

use super::Field;

/// Slots of an open hash table, a power of two of them, less than half of which are taken.
#[derive(Debug)]
pub(super) struct Places(Box<[u16]>);

/// The slot of no field; others are one more than the field's index.
const FREE: u16 = 0;

impl Places {
    pub(super) fn of(fields: &[Field]) -> Places {
        let mut slots = vec![FREE; (fields.len() * 2 + 1).next_power_of_two()];
        for (i, field) in fields.iter().enumerate() {
            let mut at = first_slot(field.name, slots.len());
            while slots[at] != FREE {
                at = (at + 1) % slots.len();
            }
            slots[at] = u16::try_from(i + 1).expect("a type has fewer than 65535 fields");
        }
        Places(slots.into_boxed_slice())
    }

    pub(super) fn find<'f>(&self, fields: &'f [Field], name: &str) -> Option<&'f Field> {
        let slots = &self.0;
        let mut at = first_slot(name, slots.len());
        // Some slot is always free.
        while slots[at] != FREE {
            let field = &fields[usize::from(slots[at]) - 1];
            if field.name == name {
                return Some(field);
            }
            at = (at + 1) & (slots.len() - 1);
        }
        None
    }
}

/// Where the search for a name begins: its length and both its ends tell nearly all names of a type apart.
fn first_slot(name: &str, slots: usize) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (head, tail) = ends(name.as_bytes());
    let mixed = (head ^ tail.rotate_left(29) ^ name.len() as u64).wrapping_mul(ODD);
    // The highest bits, to which every bit of the name has come.
    mixed.rotate_left(slots.trailing_zeros()) as usize & (slots - 1)
}

/// The first and the last eight bytes, as numbers; of a shorter name both are the whole name. They are read in pieces of fixed
/// sizes, for which no copy of so many bytes is called.
fn ends(name: &[u8]) -> (u64, u64) {
    if let (Some(head), Some(tail)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        return (u64::from_le_bytes(*head), u64::from_le_bytes(*tail));
    }
    let whole = match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (Some(head), Some(tail)) => {
            let (head, tail) = (u32::from_le_bytes(*head), u32::from_le_bytes(*tail));
            // What both have of a name of less than eight bytes is the same in both.
            u64::from(head) | (u64::from(tail) << (8 * (name.len() - 4)))
        }
        _ => name
            .iter()
            .rev()
            .fold(0_u64, |whole, byte| (whole << 8) | u64::from(*byte)),
    };
    (whole, whole)
}

#[cfg(test)]
mod tests {
    use crate::types::all;

    #[test]
    fn every_field_is_found_and_nothing_else() {
        for ty in all() {
            for field in &ty.fields {
                let found = ty.field(field.name);
                assert!(found.is_some_and(|found| std::ptr::eq(found, field)));
                let longer = format!("{}x", field.name);
                let is_there = ty.fields.iter().any(|field| field.name == longer);
                assert_eq!(ty.field(&longer).is_some(), is_there, "{longer}");
            }
            assert!(ty.field("").is_none());
            assert!(ty.field("no such field of any type").is_none());
        }
    }

    #[test]
    fn the_ends_of_a_name_are_its_bytes() {
        for name in [
            "",
            "a",
            "ab",
            "abc",
            "abcd",
            "abcdefg",
            "abcdefgh",
            "abcdefghi",
            "a long name of a field",
        ] {
            let bytes = name.as_bytes();
            let end = bytes.len().min(8);
            let (mut head, mut tail) = ([0; 8], [0; 8]);
            head[..end].copy_from_slice(&bytes[..end]);
            tail[..end].copy_from_slice(&bytes[bytes.len() - end..]);
            let expected = (u64::from_le_bytes(head), u64::from_le_bytes(tail));
            assert_eq!(super::ends(bytes), expected, "{name}");
        }
    }

    #[test]
    fn a_search_looks_at_few_fields() {
        let (mut fields, mut steps) = (0, 0);
        for ty in all() {
            let slots = &ty.places.0;
            for field in &ty.fields {
                let mut at = super::first_slot(field.name, slots.len());
                steps += 1;
                while ty.fields[usize::from(slots[at]) - 1].name != field.name {
                    at = (at + 1) % slots.len();
                    steps += 1;
                }
            }
            fields += ty.fields.len();
        }
        assert!(steps * 2 < fields * 3, "{steps} steps for {fields} fields");
    }
}

//! Where a name is in a list of names. A decoder asks that of every field of every object, so it is a table of hashes with one
//! look at one name, and not a search along the list.

/// The positions of names by their hashes: one more than the position, or zero for a free slot. At most half of the slots are
/// taken, so that a search ends soon.
#[derive(Debug)]
pub(super) struct Lookup(Box<[u8]>);

impl Lookup {
    pub(super) fn of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Lookup {
        let mut slots = vec![0_u8; (2 * names.len()).next_power_of_two()];
        let mask = slots.len() - 1;
        for (i, name) in names.enumerate() {
            let mut at = hash(name) & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = u8::try_from(i + 1).expect("no type has that many fields");
        }
        Lookup(slots.into_boxed_slice())
    }

    /// The position of a name; `named` answers which name has a position.
    pub(super) fn find<'a>(
        &self,
        name: &str,
        named: impl Fn(usize) -> Option<&'a str>,
    ) -> Option<usize> {
        let mask = self.0.len() - 1;
        let mut at = hash(name) & mask;
        loop {
            let position = usize::from(self.0[at & mask]).checked_sub(1)?;
            if named(position) == Some(name) {
                return Some(position);
            }
            at += 1;
        }
    }
}

/// Names differ in how they begin and end, and in how long they are.
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let ends = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(head), Some(tail)) => {
            u64::from_le_bytes(*head) ^ u64::from_le_bytes(*tail).rotate_left(29)
        }
        _ => bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte)),
    };
    let mixed = (ends ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let names = [
            "a",
            "b",
            "ab",
            "ba",
            "",
            "metadata",
            "metadata2",
            "preferredDuringScheduling",
            "requiredDuringScheduling",
        ];
        let lookup = Lookup::of(names.iter().copied());
        for (i, name) in names.iter().enumerate() {
            assert_eq!(lookup.find(name, |i| names.get(i).copied()), Some(i));
        }
        for name in ["c", "metadata3", "preferredDuringSchedulinG", "é"] {
            assert_eq!(lookup.find(name, |i| names.get(i).copied()), None);
        }
        let none = Lookup::of(std::iter::empty());
        assert_eq!(none.find("a", |_| None), None);
    }

    #[test]
    fn names_of_the_table_are_found_at_the_first_looks() {
        let (mut looks, mut names) = (0, 0);
        for ty in crate::types::all() {
            for field in &ty.fields {
                names += 1;
                let counted = |i: usize| ty.fields.get(i).map(|f| f.name);
                let count = std::cell::Cell::new(0);
                let found = ty.lookup.find(field.name, |i| {
                    count.set(count.get() + 1);
                    counted(i)
                });
                assert!(found.is_some() && count.get() <= 16, "{}", field.name);
                looks += count.get();
            }
        }
        assert!(looks * 2 < names * 3, "{looks} looks for {names} names");
    }
}

//! What is alike for many is kept once: the last of each group is remembered, and whoever comes with the same gets that one.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;

/// So many groups are told apart.
const GROUPS: usize = 256;

/// See the module head. What is forgotten here stays with those that have it.
pub(super) struct Interned<T>(Vec<Arc<T>>);

impl<T: Default + PartialEq> Interned<T> {
    pub(super) const fn new() -> Interned<T> {
        Interned(Vec::new())
    }

    /// This value, in memory once for all of a group that come with the same one after the other.
    pub(super) fn share(&mut self, group: u64, value: T) -> Arc<T> {
        if self.0.is_empty() {
            self.0.resize_with(GROUPS, Arc::default);
        }
        let latest = &mut self.0[group as usize % GROUPS];
        if **latest != value {
            *latest = Arc::new(value);
        }
        latest.clone()
    }
}

/// The group of those that have this in common.
pub(super) fn group(of: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_is_kept_once_also_after_something_else() {
        let mut interned = Interned::new();
        let first = interned.share(7, "a".to_owned());
        assert!(Arc::ptr_eq(&first, &interned.share(7, "a".to_owned())));
        assert_eq!(*interned.share(7, "b".to_owned()), "b");
        assert_eq!((&**first, &**interned.share(7, "a".to_owned())), ("a", "a"));
    }

    proptest! {
        #[test]
        fn everybody_gets_what_he_came_with(values in prop::collection::vec((0..3_u64, 0..4_u8), 0..50)) {
            let mut interned = Interned::new();
            for (group, value) in values {
                prop_assert_eq!(*interned.share(group, value), value);
            }
        }
    }
}

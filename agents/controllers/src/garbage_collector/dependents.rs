//! Who depends on an object: on most of a hundred thousand nobody does, and then it takes one word.

use std::collections::{BTreeSet, btree_set};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The uids of those who depend on an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Dependents(Option<Box<Block>>);

/// In a block of its own.
#[derive(Clone, Debug, Default)]
struct Block(BTreeSet<Arc<str>>);

static NONE: BTreeSet<Arc<str>> = BTreeSet::new();

impl Deref for Dependents {
    type Target = BTreeSet<Arc<str>>;

    fn deref(&self) -> &BTreeSet<Arc<str>> {
        self.0.as_ref().map_or(&NONE, |block| &block.0)
    }
}

impl DerefMut for Dependents {
    fn deref_mut(&mut self) -> &mut BTreeSet<Arc<str>> {
        &mut self.0.get_or_insert_default().0
    }
}

impl From<BTreeSet<Arc<str>>> for Dependents {
    fn from(all: BTreeSet<Arc<str>>) -> Self {
        Self((!all.is_empty()).then(|| Box::new(Block(all))))
    }
}

impl<'a> IntoIterator for &'a Dependents {
    type Item = &'a Arc<str>;
    type IntoIter = btree_set::Iter<'a, Arc<str>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_set_that_takes_one_word() {
        assert_eq!(size_of::<Dependents>(), size_of::<usize>());
        let mut dependents = Dependents::default();
        assert!(dependents.is_empty() && dependents.iter().next().is_none());
        assert!(dependents.insert("b".into()) && dependents.insert("a".into()));
        assert!(!dependents.insert("a".into()));
        let all: Vec<&Arc<str>> = Vec::from_iter(&dependents);
        assert_eq!((&**all[0], &**all[1], all.len()), ("a", "b", 2));
        assert!(dependents.remove("a") && !dependents.remove("a"));
        assert_eq!(dependents.len(), 1);
        let again = Dependents::from(BTreeSet::clone(&dependents));
        assert_eq!(*again, *dependents);
        assert!(Dependents::from(BTreeSet::new()).0.is_none());
    }
}

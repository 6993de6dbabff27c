//! The pods of one node by their uids: some dozens on each of thousands of nodes.

use super::world::Uid;

/// A set in the order of the uids, in one block of its size.
#[derive(Debug, Clone, Default)]
pub(super) struct Uids(Vec<Uid>);

impl Uids {
    pub(super) fn insert(&mut self, uid: Uid) {
        if let Err(at) = self.0.binary_search(&uid) {
            self.0.reserve_exact(1);
            self.0.insert(at, uid);
        }
    }

    pub(super) fn remove(&mut self, uid: &Uid) {
        if let Ok(at) = self.0.binary_search(uid) {
            self.0.remove(at);
        }
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Uid> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Uids {
    type Item = &'a Uid;
    type IntoIter = std::slice::Iter<'a, Uid>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_set_in_order(changes in prop::collection::vec(("[a-f]{1,2}", any::<bool>()), 0..60)) {
            let (mut uids, mut set) = (Uids::default(), BTreeSet::new());
            for (uid, is_new) in changes {
                let uid = Uid::from(uid);
                match is_new {
                    true => {
                        uids.insert(uid.clone());
                        set.insert(uid);
                    }
                    false => {
                        uids.remove(&uid);
                        set.remove(&uid);
                    }
                }
                prop_assert!(uids.iter().eq(&set));
            }
        }
    }
}

//! An ordered map of cached objects with free snapshots: a sorted run of shared chunks, copied on write.
//!
//! A snapshot is one reference count; a write copies at most one chunk of 128 pointers, and only while a snapshot
//! still holds it. That is what lets a list of any size run without a lock against writers. A search looks at the keys of two
//! entries or so: what tells the others apart stands beside them ([`Sorted`]).

mod sorted;

use std::sync::Arc;

use crate::entry::Entry;
use sorted::Sorted;

const CHUNK_MAX: usize = 128;
/// Of a chunk that is filled at once: some may come between.
const CHUNK_FILLED: usize = CHUNK_MAX * 3 / 4;

/// So many words, of sixteen bytes, of the first key of each chunk stand side by side: a namespace and the beginning of a name, ..
const CHUNK_HEAD: usize = 2;
/// .. and of each key in a chunk, behind what its neighbours have in common with it.
const ENTRY_HEAD: usize = 1;

/// Never empty.
type Chunk = Arc<Sorted<Arc<Entry>, ENTRY_HEAD>>;

/// Objects by storage key. Cloning is the snapshot.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    chunks: Arc<Sorted<Chunk, CHUNK_HEAD>>,
    len: usize,
}

impl Tree {
    /// Of many entries; quickly where they come in the order of their keys.
    pub(crate) fn of(entries: Vec<Arc<Entry>>) -> Tree {
        if !entries.is_sorted_by(|one, next| one.key() < next.key()) {
            let mut tree = Tree::default();
            for entry in entries {
                tree.insert(entry);
            }
            return tree;
        }
        let len = entries.len();
        let mut chunks: Vec<Chunk> = Vec::with_capacity(len.div_ceil(CHUNK_FILLED));
        let mut rest = entries.into_iter();
        loop {
            let chunk: Vec<_> = rest.by_ref().take(CHUNK_FILLED).collect();
            if chunk.is_empty() {
                break;
            }
            chunks.push(Arc::new(Sorted::of(chunk)));
        }
        Tree {
            chunks: Arc::new(Sorted::of(chunks)),
            len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        let chunk = self.chunks.items().get(self.chunk_of(key)?)?;
        let at = chunk.find(key).ok()?;
        chunk.items().get(at)
    }

    /// What is under `key` and beside it, as far as it is in one chunk.
    pub(crate) fn around(&self, key: &str) -> &[Arc<Entry>] {
        let index = self.chunk_of(key);
        let Some(chunk) = index.and_then(|index| self.chunks.items().get(index)) else {
            return &[];
        };
        let (at, chunk) = (chunk.rank(key), chunk.items());
        &chunk[at.saturating_sub(1)..chunk.len().min(at + 2)]
    }

    /// The last chunk that starts at or before `key`, or the first chunk; none where the map is empty.
    fn chunk_of(&self, key: &str) -> Option<usize> {
        if self.chunks.items().is_empty() {
            return None;
        }
        Some(match self.chunks.find(key) {
            Ok(at) => at,
            Err(after) => after.saturating_sub(1),
        })
    }

    /// Answers the entry that was there before.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let Some(index) = self.chunk_of(entry.key()) else {
            *self = Tree::of(vec![entry]);
            return None;
        };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(chunks.item_mut(index));
        let at = match chunk.find(entry.key()) {
            Ok(at) => return Some(std::mem::replace(chunk.item_mut(at), entry)),
            Err(at) => at,
        };
        chunk.insert(at, entry);
        let is_full = chunk.items().len() > CHUNK_MAX;
        let tail = is_full.then(|| chunk.split_off(CHUNK_MAX / 2));
        if at == 0 {
            chunks.rekeyed(index);
        }
        if let Some(tail) = tail {
            chunks.insert(index + 1, Arc::new(tail));
        }
        self.len += 1;
        None
    }

    /// Puts `new` in the place of `old`, which has the same key, if that is still there.
    pub(crate) fn replace(&mut self, old: &Arc<Entry>, new: &Arc<Entry>) {
        let Some(index) = self.chunk_of(old.key()) else {
            return;
        };
        let chunk = &self.chunks.items()[index];
        let Ok(at) = chunk.find(old.key()) else {
            return;
        };
        if Arc::ptr_eq(&chunk.items()[at], old) {
            let chunks = Arc::make_mut(&mut self.chunks);
            *Arc::make_mut(chunks.item_mut(index)).item_mut(at) = new.clone();
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Entry>> {
        let index = self.chunk_of(key)?;
        let at = self.chunks.items()[index].find(key).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(chunks.item_mut(index));
        let removed = chunk.remove(at);
        if chunk.items().is_empty() {
            chunks.remove(index);
        } else if at == 0 {
            chunks.rekeyed(index);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Entries from `start` on, in key order.
    pub(crate) fn iter_from<'a>(&'a self, start: &str) -> impl Iterator<Item = &'a Arc<Entry>> {
        let index = self.chunk_of(start).unwrap_or(0);
        let chunks = self.chunks.items().get(index..).unwrap_or_default();
        let skip = chunks.first().map_or(0, |chunk| chunk.rank(start));
        chunks.iter().flat_map(|chunk| chunk.items()).skip(skip)
    }

    /// How many keys are below `key`, counted by chunks.
    fn rank(&self, key: &str) -> usize {
        let Some(index) = self.chunk_of(key) else {
            return 0;
        };
        let chunks = self.chunks.items();
        let before: usize = chunks[..index]
            .iter()
            .map(|chunk| chunk.items().len())
            .sum();
        before + chunks[index].rank(key)
    }

    /// How many keys begin with `prefix`, which ends with a slash.
    pub(crate) fn count_prefix(&self, prefix: &str) -> usize {
        // `0` follows the slash.
        let end = format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix));
        self.rank(&end).saturating_sub(self.rank(prefix))
    }

    /// Entries whose key begins with `prefix`.
    pub(crate) fn iter_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.iter_from(prefix)
            .take_while(move |entry| entry.key().starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound;

    type Model = BTreeMap<String, i64>;

    /// Keys of several places: alike for long, and one the beginning of another.
    fn keys() -> impl Strategy<Value = String> {
        "/registry/pods/(a/|default/|kube-system-of-a-name-that-is-long/)(a-name-that-is-alike-for-long-)?[0-9a-c]{0,3}"
    }

    /// Whether a tree says of a key, and of all places that it is in, what the model says.
    fn agrees(tree: &Tree, model: &Model, key: &str) {
        let told = |entry: &Arc<Entry>| entry.revision;
        assert_eq!(tree.len(), model.len());
        assert_eq!(tree.get(key).map(told), model.get(key).copied(), "{key}");
        let from = (Bound::Included(key), Bound::Unbounded);
        let from = model.range::<str, _>(from).map(|(_, revision)| *revision);
        assert!(tree.iter_from(key).map(told).eq(from), "from {key}");
        let around = tree.around(key);
        assert_eq!(around.is_empty(), model.is_empty(), "{key}");
        assert!(around.is_sorted_by(|one, next| one.key() < next.key()));
        let is_around = around.iter().any(|entry| entry.key() == key);
        assert_eq!(is_around, model.contains_key(key), "{key}");
        for (at, _) in key.match_indices('/') {
            let prefix = &key[..=at];
            let below = model.iter().filter(|(known, _)| known.starts_with(prefix));
            let below: Vec<i64> = below.map(|(_, revision)| *revision).collect();
            assert_eq!(tree.count_prefix(prefix), below.len(), "{prefix}");
            assert!(tree.iter_prefix(prefix).map(told).eq(below), "{prefix}");
        }
    }

    #[test]
    fn many_at_once_are_as_one_after_the_other() {
        let key = |at: usize| format!("/registry/pods/{at:05}");
        let entry = |at: usize| Arc::new(Entry::for_test(&key(at), at as i64));
        for count in [0, 1, CHUNK_FILLED, CHUNK_FILLED + 1, 1_000] {
            let sorted: Vec<_> = (0..count).map(entry).collect();
            let turned = sorted.iter().rev().cloned().collect();
            for mut tree in [Tree::of(sorted), Tree::of(turned)] {
                assert_eq!(tree.len(), count);
                let revisions = tree.iter_from("").map(|entry| entry.revision);
                assert!(revisions.eq(0..count as i64));
                assert!((0..count).all(|at| tree.get(&key(at)).is_some()));
                let before = tree.insert(entry(count / 2));
                assert_eq!((before.is_some(), tree.len()), (count > 0, count.max(1)));
            }
        }
        let twice = Tree::of(vec![entry(1), entry(1)]);
        assert_eq!(twice.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn keys_of_all_sorts_are_as_in_a_list_in_order(
            pool in prop::collection::vec(keys(), 1..500),
            ops in prop::collection::vec((0..500_usize, prop::bool::weighted(0.8)), 0..1000),
        ) {
            let (mut tree, mut model) = (Tree::default(), Model::new());
            let mut snapshots = vec![(tree.clone(), model.clone())];
            for (turn, (at, put)) in ops.into_iter().enumerate() {
                let (key, revision) = (&pool[at % pool.len()], turn as i64);
                let (before, expected) = match put {
                    true => {
                        let entry = Arc::new(Entry::for_test(key, revision));
                        (tree.insert(entry), model.insert(key.clone(), revision))
                    }
                    false => (tree.remove(key), model.remove(key)),
                };
                assert_eq!(before.map(|entry| entry.revision), expected);
                if turn % 250 == 249 {
                    snapshots.push((tree.clone(), model.clone()));
                }
            }
            // What others replace is another entry by then, and stays.
            let last = tree.iter_from("").last().cloned();
            if let Some(old) = last {
                let new = |revision| Arc::new(Entry::for_test(old.key(), revision));
                tree.replace(&new(-1), &new(-1));
                agrees(&tree, &model, old.key());
                tree.replace(&old, &new(-2));
                model.insert(old.key().to_owned(), -2);
            }
            // The first ones of all chunks go, and at last every chunk.
            for (turn, key) in pool.iter().enumerate() {
                assert_eq!(tree.remove(key).map(|entry| entry.revision), model.remove(key));
                if turn % 50 == 0 {
                    agrees(&tree, &model, key);
                }
            }
            agrees(&tree, &model, &pool[0]);
            prop_assert_eq!(tree.len(), 0);
            for (tree, model) in &snapshots {
                let some = pool.iter().step_by(50).map(String::as_str);
                some.chain(["", "/", "~"]).for_each(|key| agrees(tree, model, key));
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_btree_map(ops in proptest::collection::vec((0u16..600, proptest::bool::weighted(0.7)), 0..1500)) {
            let mut tree = Tree::default();
            let mut model = BTreeMap::new();
            let mut old = (Tree::default(), BTreeMap::new());
            for (turn, (key, put)) in ops.into_iter().enumerate() {
                let key = format!("/registry/pods/{key:05}");
                if put {
                    let before = tree.insert(Arc::new(Entry::for_test(&key, turn as i64)));
                    assert_eq!(before.map(|e| e.revision), model.insert(key, turn as i64));
                } else {
                    assert_eq!(tree.remove(&key).map(|e| e.revision), model.remove(&key));
                }
                if turn == 300 {
                    old = (tree.clone(), model.clone());
                }
            }
            for (tree, model) in [(&tree, &model), (&old.0, &old.1)] {
                assert_eq!(tree.len(), model.len());
                let start = "/registry/pods/00300";
                let got: Vec<_> = tree.iter_from(start).map(|e| (e.key().to_owned(), e.revision)).collect();
                let want: Vec<_> = model.range(start.to_owned()..).map(|(k, v)| (k.clone(), *v)).collect();
                assert_eq!(got, want);
                assert!(model.iter().all(|(k, v)| tree.get(k).is_some_and(|e| e.revision == *v)));
                assert_eq!(tree.count_prefix("/registry/pods/"), model.len());
                assert_eq!(tree.count_prefix("/registry/nodes/"), 0);
                let around = tree.around(start);
                assert!(around.len() <= 3 && around.is_empty() == model.is_empty());
                let found = around.iter().any(|entry| entry.key() == start);
                assert_eq!(found, model.contains_key(start));
            }
        }
    }
}

//! An ordered map of cached objects with free snapshots: a sorted run of shared chunks, copied on write.
//!
//! A snapshot is one reference count; a write copies at most one chunk of 128 pointers, and only while a snapshot
//! still holds it. That is what lets a list of any size run without a lock against writers.

use std::sync::Arc;

use crate::entry::Entry;

const CHUNK_MAX: usize = 128;
/// Of a chunk that is filled at once: some may come between.
const CHUNK_FILLED: usize = CHUNK_MAX * 3 / 4;

type Chunk = Arc<Vec<Arc<Entry>>>;

/// Objects by storage key. Cloning is the snapshot.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    chunks: Arc<Vec<Chunk>>,
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
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK_FILLED));
        let mut rest = entries.into_iter();
        loop {
            let chunk: Vec<_> = rest.by_ref().take(CHUNK_FILLED).collect();
            if chunk.is_empty() {
                break;
            }
            chunks.push(Arc::new(chunk));
        }
        Tree {
            chunks: Arc::new(chunks),
            len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        let chunk = self.chunks.get(self.chunk_of(key)?)?;
        let at = chunk.binary_search_by(|entry| entry.key().cmp(key)).ok()?;
        chunk.get(at)
    }

    /// What is under `key` and beside it, as far as it is in one chunk.
    pub(crate) fn around(&self, key: &str) -> &[Arc<Entry>] {
        let Some(chunk) = self.chunk_of(key).and_then(|index| self.chunks.get(index)) else {
            return &[];
        };
        let at = chunk.partition_point(|entry| entry.key() < key);
        &chunk[at.saturating_sub(1)..chunk.len().min(at + 2)]
    }

    /// The last chunk that starts at or before `key`, or the first chunk; none where the map is empty.
    fn chunk_of(&self, key: &str) -> Option<usize> {
        if self.chunks.is_empty() {
            return None;
        }
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|first| first.key() <= key));
        Some(after.saturating_sub(1))
    }

    /// Answers the entry that was there before.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let chunks = Arc::make_mut(&mut self.chunks);
        let after = chunks.partition_point(|chunk| {
            chunk
                .first()
                .is_some_and(|first| first.key() <= entry.key())
        });
        let index = after.saturating_sub(1);
        let Some(chunk) = chunks.get_mut(index) else {
            chunks.push(Arc::new(vec![entry]));
            self.len += 1;
            return None;
        };
        let chunk = Arc::make_mut(chunk);
        match chunk.binary_search_by(|other| other.key().cmp(entry.key())) {
            Ok(at) => Some(std::mem::replace(&mut chunk[at], entry)),
            Err(at) => {
                chunk.insert(at, entry);
                if chunk.len() > CHUNK_MAX {
                    let tail = chunk.split_off(CHUNK_MAX / 2);
                    chunks.insert(index + 1, Arc::new(tail));
                }
                self.len += 1;
                None
            }
        }
    }

    /// Puts `new` in the place of `old`, if that is still there.
    pub(crate) fn replace(&mut self, old: &Arc<Entry>, new: &Arc<Entry>) {
        let Some(index) = self.chunk_of(old.key()) else {
            return;
        };
        let found = self.chunks[index].binary_search_by(|entry| entry.key().cmp(old.key()));
        let Ok(at) = found else {
            return;
        };
        if Arc::ptr_eq(&self.chunks[index][at], old) {
            let chunks = Arc::make_mut(&mut self.chunks);
            Arc::make_mut(&mut chunks[index])[at] = new.clone();
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Entry>> {
        let index = self.chunk_of(key)?;
        let at = self.chunks[index]
            .binary_search_by(|entry| entry.key().cmp(key))
            .ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[index]);
        let removed = chunk.remove(at);
        if chunk.is_empty() {
            chunks.remove(index);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Entries from `start` on, in key order.
    pub(crate) fn iter_from<'a>(&'a self, start: &str) -> impl Iterator<Item = &'a Arc<Entry>> {
        let index = self.chunk_of(start).unwrap_or(0);
        let skip = self.chunks.get(index).map_or(0, |chunk| {
            chunk.partition_point(|entry| entry.key() < start)
        });
        self.chunks[index.min(self.chunks.len())..]
            .iter()
            .flat_map(|chunk| chunk.iter())
            .skip(skip)
    }

    /// How many keys are below `key`, counted by chunks.
    fn rank(&self, key: &str) -> usize {
        let Some(index) = self.chunk_of(key) else {
            return 0;
        };
        let before: usize = self.chunks[..index].iter().map(|chunk| chunk.len()).sum();
        before + self.chunks[index].partition_point(|entry| entry.key() < key)
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
    use std::collections::BTreeMap;

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

    proptest::proptest! {
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

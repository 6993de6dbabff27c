//! Objects that this server has just written, as it had them in hand: whoever changes one of them next need not parse it.
//! Most objects change several times within a second after they were made, and then for long no more, so what is kept is
//! little, and not for long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schema::Object;
use tokio::time::Instant;

/// So much is kept at most: bytes, by estimate, and objects.
const BYTES_MAX: usize = 16 << 20;
const TREES_MAX: usize = 4_096;
/// Larger objects are not kept. In bytes of JSON.
const JSON_BYTES_MAX: usize = 64 << 10;
/// How much more room a tree takes than its JSON.
const BYTES_PER_JSON_BYTE: usize = 6;
/// Who has not changed an object by then comes too late.
const AGE_MAX: Duration = Duration::from_secs(10);

/// By storage key, each at one revision.
#[derive(Default)]
pub(crate) struct Trees(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_key: HashMap<Arc<str>, Tree>,
    /// As they came. Those that another revision replaced are still in it.
    order: VecDeque<Mark>,
    bytes: usize,
}

struct Tree {
    object: Arc<Object>,
    revision: i64,
    bytes: usize,
}

struct Mark {
    key: Arc<str>,
    revision: i64,
    since: Instant,
}

impl Trees {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object under `key`, where it is kept as of this revision.
    pub(crate) fn get(&self, key: &str, revision: i64) -> Option<Arc<Object>> {
        let kept = self.lock();
        let tree = kept.by_key.get(key)?;
        (tree.revision == revision).then(|| tree.object.clone())
    }

    /// Keeps an object that takes `json_bytes` in JSON. It has to be what is stored at this revision, with its version.
    pub(crate) fn put(
        &self,
        key: &str,
        revision: i64,
        object: Arc<Object>,
        json_bytes: usize,
        now: Instant,
    ) {
        let mut kept = self.lock();
        let replaced = kept.put(key, revision, object, json_bytes, now);
        let dropped = kept.shrink(now);
        drop(kept);
        // Freeing a tree takes a while, for which nobody has to wait.
        drop((replaced, dropped));
    }

    /// Lets go of what is too old.
    pub(crate) fn age(&self, now: Instant) {
        let mut kept = self.lock();
        let dropped = kept.shrink(now);
        if kept.by_key.is_empty() {
            *kept = Kept::default();
        }
        drop(kept);
        drop(dropped);
    }
}

impl Kept {
    fn put(
        &mut self,
        key: &str,
        revision: i64,
        object: Arc<Object>,
        json_bytes: usize,
        now: Instant,
    ) -> Option<Tree> {
        let known = self.by_key.get(key);
        if known.is_some_and(|known| known.revision >= revision) {
            return None;
        }
        let replaced = self.remove(key);
        if json_bytes > JSON_BYTES_MAX {
            return replaced;
        }
        let key: Arc<str> = key.into();
        let bytes = json_bytes * BYTES_PER_JSON_BYTE + key.len();
        self.bytes += bytes;
        self.order.push_back(Mark {
            key: key.clone(),
            revision,
            since: now,
        });
        let tree = Tree {
            object,
            revision,
            bytes,
        };
        self.by_key.insert(key, tree);
        replaced
    }

    fn remove(&mut self, key: &str) -> Option<Tree> {
        let removed = self.by_key.remove(key)?;
        self.bytes -= removed.bytes;
        Some(removed)
    }

    /// Takes out the oldest ones, as far as they are too old or too many.
    fn shrink(&mut self, now: Instant) -> Vec<Tree> {
        let mut dropped = Vec::new();
        while let Some(first) = self.order.front() {
            let tree = self.by_key.get(&first.key);
            let is_kept = tree.is_some_and(|tree| tree.revision == first.revision);
            let is_over = self.bytes > BYTES_MAX
                || self.by_key.len() > TREES_MAX
                || self.order.len() > 2 * TREES_MAX
                || now.saturating_duration_since(first.since) >= AGE_MAX;
            if is_kept && !is_over {
                break;
            }
            if let Some(first) = self.order.pop_front()
                && is_kept
            {
                dropped.extend(self.remove(&first.key));
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(revision: i64) -> Arc<Object> {
        let mut object = Object::empty("v1", "Pod");
        object.set_resource_version(&revision.to_string());
        Arc::new(object)
    }

    fn put(trees: &Trees, key: &str, revision: i64, json_bytes: usize, now: Instant) {
        trees.put(key, revision, object(revision), json_bytes, now);
    }

    fn revisions(trees: &Trees, key: &str, upto: i64) -> Vec<i64> {
        let kept = |revision: &i64| trees.get(key, *revision).is_some();
        (0..=upto).filter(kept).collect()
    }

    #[test]
    fn an_object_is_kept_as_of_its_newest_revision_only() {
        let (trees, now) = (Trees::default(), Instant::now());
        put(&trees, "a", 5, 100, now);
        put(&trees, "a", 7, 100, now);
        // The answer to this write was slower.
        put(&trees, "a", 6, 100, now);
        put(&trees, "b", 6, 100, now);
        assert_eq!(revisions(&trees, "a", 9), [7]);
        assert_eq!(trees.get("a", 7).unwrap().resource_version(), "7");
        assert_eq!(revisions(&trees, "b", 9), [6]);
        assert!(revisions(&trees, "c", 9).is_empty());
        // What takes its place is too large.
        put(&trees, "a", 8, JSON_BYTES_MAX + 1, now);
        assert!(revisions(&trees, "a", 9).is_empty());
    }

    #[test]
    fn objects_are_kept_for_a_while() {
        let (trees, now) = (Trees::default(), Instant::now());
        put(&trees, "a", 1, 100, now);
        put(&trees, "b", 2, 100, now + AGE_MAX / 2);
        trees.age(now + AGE_MAX);
        assert!(revisions(&trees, "a", 9).is_empty());
        assert_eq!(revisions(&trees, "b", 9), [2]);
        put(&trees, "b", 3, 100, now + AGE_MAX);
        trees.age(now + AGE_MAX * 3 / 2);
        assert_eq!(revisions(&trees, "b", 9), [3]);
        trees.age(now + AGE_MAX * 2);
        assert!(revisions(&trees, "b", 9).is_empty());
        assert_eq!(trees.lock().bytes, 0);
        assert_eq!(trees.lock().order.capacity(), 0);
    }

    #[test]
    fn the_oldest_go_first_where_there_are_too_many() {
        let (trees, now) = (Trees::default(), Instant::now());
        let many = TREES_MAX as i64 + 10;
        for revision in 1..=many {
            put(&trees, &revision.to_string(), revision, 1, now);
        }
        assert_eq!(trees.lock().by_key.len(), TREES_MAX);
        assert!(trees.get("10", 10).is_none());
        assert!(trees.get("11", 11).is_some());
        let large = Trees::default();
        for revision in 1..=1_000 {
            put(&large, &revision.to_string(), revision, JSON_BYTES_MAX, now);
        }
        assert!(large.lock().bytes <= BYTES_MAX);
        assert!(large.get("1", 1).is_none());
        assert!(large.get("1000", 1_000).is_some());
    }

    #[test]
    fn an_object_that_changes_all_the_time_takes_no_more_room() {
        let (trees, now) = (Trees::default(), Instant::now());
        put(&trees, "quiet", 1, 100, now);
        for revision in 2..50_000 {
            put(&trees, "busy", revision, 100, now);
        }
        let kept = trees.lock();
        assert!(kept.order.len() <= 2 * TREES_MAX + 1);
        let bytes: usize = kept.by_key.values().map(|tree| tree.bytes).sum();
        assert_eq!(kept.bytes, bytes);
        drop(kept);
        assert_eq!(revisions(&trees, "busy", 50_000), [49_999]);
    }
}

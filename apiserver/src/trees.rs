//! Objects that this server has just written, as it had them in hand: whoever changes one of them next need not parse it.
//! Most objects change several times within a second after they were made, and then for long no more, so what is kept is
//! little, and not for long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schema::Object;
use schema::renew::renew;
use serde_json::Value;
use tokio::time::Instant;

/// So much is kept at most: bytes, by estimate, and objects.
const BYTES_MAX: usize = 32 << 20;
const TREES_MAX: usize = 4_096;
/// Larger objects are not kept. In bytes of JSON.
const JSON_BYTES_MAX: usize = 64 << 10;
/// What a map takes for its first entries: room for some more of them. A map of one short entry takes fifty times its JSON.
const BYTES_OF_MAP: usize = 640;
/// So many entries more need as much again.
const ENTRIES_OF_ROOM: usize = 6;
/// What a text takes besides its letters.
const BYTES_OF_TEXT: usize = 16;
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
    /// Whether somebody made a copy to change that.
    is_copied: bool,
    /// What it was before, to be made into what it will be next: whoever copies and changes an object does so again, and in
    /// few places at a time.
    spare: Option<Spare>,
}

/// A tree that nobody will ask for.
struct Spare {
    object: Arc<Object>,
    bytes: usize,
}

impl Tree {
    /// With what it was before.
    fn all_bytes(&self) -> usize {
        self.bytes + self.spare.as_ref().map_or(0, |spare| spare.bytes)
    }
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

    /// A copy of an `object` under `key`, to be changed: the one of its past becomes it where there is one, which takes less
    /// than a new tree.
    pub(crate) fn copy(&self, key: &str, object: &Object) -> Object {
        let Some(mut copy) = self.spare(key, object.resource_version()) else {
            return object.clone();
        };
        renew(copy.value_mut(), object.value());
        debug_assert_eq!(copy, *object, "{key} is renewed");
        copy
    }

    /// Takes the past of an object of this version, unless somebody still holds it.
    fn spare(&self, key: &str, version: &str) -> Option<Object> {
        let revision: i64 = version.parse().ok()?;
        let mut guard = self.lock();
        let kept = &mut *guard;
        let tree = kept.by_key.get_mut(key)?;
        if tree.revision != revision {
            return None;
        }
        tree.is_copied = true;
        let spare = tree.spare.take()?;
        kept.bytes -= spare.bytes;
        drop(guard);
        Arc::try_unwrap(spare.object).ok()
    }

    /// Lets go of the object under `key`, where it is kept as of this revision: nobody changes it any more.
    pub(crate) fn take(&self, key: &str, revision: i64) -> Option<Arc<Object>> {
        let mut kept = self.lock();
        let known = kept.by_key.get(key)?;
        let is_it = known.revision == revision;
        let taken = if is_it { kept.remove(key) } else { None };
        drop(kept);
        taken.map(|tree| tree.object)
    }

    /// Keeps an object that takes `json_bytes` in JSON, and comes with its [`room`]. It has to be what is stored at this
    /// revision, with its version.
    pub(crate) fn put(
        &self,
        key: &str,
        revision: i64,
        (object, room): (Arc<Object>, usize),
        json_bytes: usize,
        now: Instant,
    ) {
        let bytes = (json_bytes <= JSON_BYTES_MAX).then(|| room + key.len());
        let mut kept = self.lock();
        let replaced = kept.put(key, revision, object, bytes, now);
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

/// About how many bytes of memory hang on a value.
pub(crate) fn room(value: &Value) -> usize {
    let below: usize = match value {
        Value::Array(list) => list.iter().map(room).sum(),
        Value::Object(map) => {
            let below = map.iter();
            below
                .map(|(key, value)| room_of_text(key) + room(value))
                .sum()
        }
        _ => 0,
    };
    own_room(value) + below
}

/// The same without what is below it: its keys and values.
pub(crate) fn own_room(value: &Value) -> usize {
    match value {
        Value::String(text) => room_of_text(text),
        Value::Array(list) => size_of_val(list.as_slice()),
        Value::Object(map) if !map.is_empty() => BYTES_OF_MAP * (1 + map.len() / ENTRIES_OF_ROOM),
        _ => 0,
    }
}

/// About how many bytes a text takes, or a key.
pub(crate) fn room_of_text(text: &str) -> usize {
    BYTES_OF_TEXT + text.len()
}

impl Kept {
    /// Takes an object of so many bytes; none of one that is too large, which only ends what was known before.
    fn put(
        &mut self,
        key: &str,
        revision: i64,
        object: Arc<Object>,
        bytes: Option<usize>,
        now: Instant,
    ) -> Option<Tree> {
        let known = self.by_key.get(key);
        if known.is_some_and(|known| known.revision >= revision) {
            return None;
        }
        let replaced = self.remove(key);
        let Some(bytes) = bytes else {
            return replaced;
        };
        let copied = replaced.as_ref().filter(|was| was.is_copied);
        let spare = copied.map(|was| Spare {
            object: was.object.clone(),
            bytes: was.bytes,
        });
        let key: Arc<str> = key.into();
        self.order.push_back(Mark {
            key: key.clone(),
            revision,
            since: now,
        });
        let tree = Tree {
            object,
            revision,
            bytes,
            is_copied: false,
            spare,
        };
        self.bytes += tree.all_bytes();
        self.by_key.insert(key, tree);
        replaced
    }

    fn remove(&mut self, key: &str) -> Option<Tree> {
        let removed = self.by_key.remove(key)?;
        self.bytes -= removed.all_bytes();
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
    use serde_json::json;

    fn object(revision: i64) -> Arc<Object> {
        let mut object = Object::empty("v1", "Pod");
        object.set_resource_version(&revision.to_string());
        Arc::new(object)
    }

    fn put(trees: &Trees, key: &str, revision: i64, json_bytes: usize, now: Instant) {
        let object = object(revision);
        let room = room(object.value());
        trees.put(key, revision, (object, room), json_bytes, now);
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
    fn the_past_of_an_object_becomes_its_copy() {
        let (trees, now) = (Trees::default(), Instant::now());
        let at = |object: &Object| object.resource_version().as_ptr();
        let objects: Vec<Arc<Object>> = (1..=6).map(object).collect();
        let mut objects = objects.into_iter();
        let mut put = |revision: i64| {
            let object = objects.next().unwrap();
            let place = at(&object);
            trees.put("a", revision, (object, 100), 100, now);
            place
        };
        let first = put(1);
        // There is nothing before it.
        assert_ne!(at(&trees.copy("a", &object(1))), first);
        let second = put(2);
        assert_eq!(trees.lock().bytes, 202);
        // It is not the newest any more.
        assert_eq!(*object(1), trees.copy("a", &object(1)));
        assert_eq!(*object(2), trees.copy("b", &object(2)));
        let mut newer = Object::clone(&object(2));
        newer.set(&["spec", "a"], 1);
        let copy = trees.copy("a", &newer);
        assert_eq!((at(&copy), &copy), (first, &newer));
        assert_eq!(trees.lock().bytes, 101);
        // It is there once.
        assert_eq!(*object(2), trees.copy("a", &object(2)));
        put(3);
        assert_eq!(at(&trees.copy("a", &object(3))), second);
        let held = trees.get("a", 3);
        put(4);
        assert_eq!(trees.lock().bytes, 202);
        let copy = trees.copy("a", &object(4));
        assert_eq!(copy, *object(4));
        assert_ne!(at(&copy), at(&held.unwrap()));
        put(5);
        // Nobody copied that.
        put(6);
        assert_eq!(trees.lock().bytes, 101);
        assert_eq!(trees.take("a", 6).unwrap().resource_version(), "6");
        assert_eq!(trees.lock().bytes, 0);
    }

    #[test]
    fn what_is_gone_is_kept_no_longer() {
        let (trees, now) = (Trees::default(), Instant::now());
        put(&trees, "a", 5, 100, now);
        assert!(trees.take("a", 4).is_none());
        assert!(trees.take("b", 5).is_none());
        assert_eq!(trees.take("a", 5).unwrap().resource_version(), "5");
        assert!(revisions(&trees, "a", 9).is_empty());
        assert_eq!(trees.lock().bytes, 0);
        // Its mark goes with the next ones, and is not taken for that of another object of the name.
        put(&trees, "a", 7, 100, now);
        assert_eq!(revisions(&trees, "a", 9), [7]);
        trees.age(now + AGE_MAX);
        assert_eq!(trees.lock().order.capacity(), 0);
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
    }

    #[test]
    fn many_small_maps_are_not_taken_for_little() {
        let mut object = Object::empty("v1", "ServiceAccount");
        object.set(&["secrets"], vec![json!({ "name": "a" }); 1_000]);
        let json_bytes = object.value().to_string().len();
        assert!(json_bytes < JSON_BYTES_MAX);
        let room = room(object.value());
        assert!(room > 40 * json_bytes);
        let (trees, now, object) = (Trees::default(), Instant::now(), Arc::new(object));
        for revision in 1..=100 {
            let key = revision.to_string();
            trees.put(&key, revision, (object.clone(), room), json_bytes, now);
        }
        assert!(trees.lock().bytes <= BYTES_MAX);
        assert!(trees.get("1", 1).is_none());
        assert!(trees.get("100", 100).is_some());
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
        let bytes: usize = kept.by_key.values().map(Tree::all_bytes).sum();
        assert_eq!(kept.bytes, bytes);
        drop(kept);
        assert_eq!(revisions(&trees, "busy", 50_000), [49_999]);
    }
}

//! The cache of one resource: its objects now, and its latest changes.
//!
//! Lists take a snapshot of the tree; watches hold a cursor into the ring of changes. A watcher has no buffer of its
//! own: one that reads too slowly finds its cursor gone from the ring and gets 410, so memory is bounded by the ring
//! whatever clients do.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use host::watch;
use resources::Handle;
use schema::pick::Pick;

use crate::encryption::{Opened, Unreadable};
use crate::entry::{self, Entry};
use crate::status::{ApiError, ApiResult};
use crate::tree::Tree;
use crate::world::KeyChange;

/// Changes kept for watches that resume or lag.
const RING_LEN_MAX: usize = 16_384;
/// Bytes of superseded states that the ring may hold on to.
const RING_BYTES_MAX: usize = 64 << 20;

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) old: Option<Arc<Entry>>,
    pub(crate) new: Option<Arc<Entry>>,
    /// `old` as of this revision: what a DELETED event shows.
    pub(crate) gone: Option<Bytes>,
}

impl Change {
    fn new(revision: i64, old: Option<Arc<Entry>>, new: Option<Arc<Entry>>) -> Change {
        let gone = match (&old, &new) {
            (Some(old), None) => Some(old.encoded.with_revision(revision)),
            _ => None,
        };
        Change {
            revision,
            old,
            new,
            gone,
        }
    }

    fn bytes(&self) -> usize {
        self.old.as_ref().map_or(0, |entry| entry.json().len())
    }
}

/// Everything of one resource as of one revision.
pub(crate) struct Snapshot {
    pub(crate) tree: Tree,
    pub(crate) revision: i64,
    /// Where a watch that continues from this snapshot starts.
    pub(crate) cursor: u64,
    /// Revision of the last change that this resource saw.
    pub(crate) changed: i64,
    unreadable: Arc<BTreeMap<String, Unreadable>>,
}

impl Snapshot {
    /// An error where something under `prefix` cannot be read: a list without it would say that it is not there.
    pub(crate) fn check_readable(&self, prefix: &str) -> ApiResult<()> {
        check_readable(&self.unreadable, prefix)
    }
}

fn check_readable(unreadable: &BTreeMap<String, Unreadable>, prefix: &str) -> ApiResult<()> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    match unreadable.range::<str, _>(from).next() {
        Some((key, one)) if key.starts_with(prefix) => {
            Err(ApiError::unreadable_in_list(key, &one.why))
        }
        _ => Ok(()),
    }
}

/// A cursor or a revision that the ring no longer covers; carries the oldest revision that it does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooOld(pub(crate) i64);

pub(crate) struct Cache {
    /// All API shapes of the stored objects, the stored one first.
    pub(crate) shapes: Vec<Handle>,
    /// What of an object its entry is made of.
    needed: Option<Pick>,
    /// Storage prefix, with its slash.
    pub(crate) prefix: String,
    state: RwLock<State>,
    wake: watch::Sender<u64>,
    /// Another cache took its place, or its kind is gone: watches end.
    closed: AtomicBool,
    /// Watches by the namespace that they see, all being the empty one. Those that see one object or one node's are left
    /// out: few writes are for them.
    watches: Mutex<BTreeMap<String, u32>>,
}

/// Counted until it is dropped.
pub(crate) struct Watched {
    cache: Arc<Cache>,
    namespace: String,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut watches = self.cache.watches();
        if let Some(count) = watches.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                watches.remove(&self.namespace);
            }
        }
    }
}

struct State {
    tree: Tree,
    /// What is stored and cannot be decrypted, by key. None of it is in the tree.
    unreadable: Arc<BTreeMap<String, Unreadable>>,
    changed: i64,
    ring: VecDeque<Arc<Change>>,
    /// Sequence number of the ring's first change.
    first: u64,
    /// Changes after this revision are all in the ring.
    floor: i64,
    bytes: usize,
    /// Of all objects in the tree, as JSON.
    tree_bytes: usize,
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Forgets all changes up to `revision`: cursors from before point below `first` and so learn that they missed
    /// something.
    fn expire(&mut self, revision: i64) {
        self.first = self.next() + 1;
        self.ring.clear();
        self.bytes = 0;
        self.changed = revision;
        self.floor = revision;
    }

    fn push(&mut self, change: Change) {
        self.changed = change.revision;
        self.bytes += change.bytes();
        self.ring.push_back(Arc::new(change));
        while self.ring.len() > RING_LEN_MAX || (self.bytes > RING_BYTES_MAX && self.ring.len() > 1)
        {
            if let Some(dropped) = self.ring.pop_front() {
                self.bytes -= dropped.bytes();
                self.first += 1;
                self.floor = dropped.revision;
            }
        }
    }
}

impl Cache {
    pub(crate) fn new(shapes: Vec<Handle>, prefix: String) -> Cache {
        let state = State {
            tree: Tree::default(),
            unreadable: Arc::default(),
            changed: 0,
            ring: VecDeque::new(),
            first: 0,
            floor: 0,
            bytes: 0,
            tree_bytes: 0,
        };
        Cache {
            needed: entry::needed(&shapes),
            shapes,
            prefix,
            state: RwLock::new(state),
            wake: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            watches: Mutex::default(),
        }
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a watch of everything in a namespace (of all, where it is empty).
    pub(crate) fn watched(self: &Arc<Self>, namespace: &str) -> Watched {
        *self.watches().entry(namespace.to_owned()).or_default() += 1;
        Watched {
            cache: self.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// How many watches see the objects of a namespace.
    pub(crate) fn watches_of(&self, namespace: &str) -> u32 {
        let watches = self.watches();
        let of = |namespace| watches.get(namespace).copied().unwrap_or(0);
        match namespace {
            "" => of(""),
            namespace => of("") + of(namespace),
        }
    }

    /// How many objects there are under a prefix, and how large one of this cache is on average.
    pub(crate) fn size(&self, prefix: &str) -> (usize, usize) {
        let state = self.read();
        let all = state.tree.len();
        let count = match prefix == self.prefix {
            true => all,
            false => state.tree.count_prefix(prefix),
        };
        (count, state.tree_bytes.checked_div(all).unwrap_or(0))
    }

    /// An empty cache that knows what comes after `revision`.
    pub(crate) fn since(shapes: Vec<Handle>, prefix: String, revision: i64) -> Cache {
        let cache = Cache::new(shapes, prefix);
        cache.write().floor = revision;
        cache
    }

    /// The same objects in other shapes. What is `alike` is taken over as it is, with the changes of before; else every
    /// object is read again, and watches begin at `revision`.
    pub(crate) fn reshaped(&self, shapes: Vec<Handle>, alike: bool, revision: i64) -> Cache {
        let cache = Cache::new(shapes, self.prefix.clone());
        let old = self.read();
        let unreadable = old.unreadable.clone();
        if alike {
            let mut state = cache.write();
            state.unreadable = unreadable;
            state.tree = old.tree.clone();
            state.changed = old.changed;
            state.ring = old.ring.clone();
            state.first = old.first;
            state.floor = old.floor;
            state.bytes = old.bytes;
            state.tree_bytes = old.tree_bytes;
            drop(state);
            return cache;
        }
        let tree = old.tree.clone();
        drop(old);
        let again = |entry: &Arc<Entry>| cache.entry(entry.key(), &entry.opened(), entry.revision);
        let entries: Vec<_> = tree.iter_from("").filter_map(again).collect();
        cache.reset(entries, revision);
        cache.write().unreadable = unreadable;
        cache
    }

    /// Ends the watches of this cache.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.send_modify(|_| {});
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Group and plural of the resource as which its objects are stored.
    pub(crate) fn resource(&self) -> (&str, &str) {
        match self.shapes.first() {
            Some(shape) => (&shape.group, &shape.plural),
            // Custom resources have their group in the prefix.
            None => {
                let mut parts = self.prefix.trim_matches('/').split('/').skip(1);
                let group = parts.next().unwrap_or_default();
                (group, parts.next().unwrap_or_default())
            }
        }
    }

    /// Builds the entry of a stored value. None where the value is not an object.
    pub(crate) fn entry(&self, key: &str, stored: &Opened, revision: i64) -> Option<Arc<Entry>> {
        let (names_at, needed) = (self.prefix.len(), self.needed.as_ref());
        let entry = Entry::new(key, names_at, stored, revision, &self.shapes, needed);
        if entry.is_none() {
            tracing::warn!(
                key,
                revision,
                "stored value is not an object; it is left out"
            );
        }
        entry.map(Arc::new)
    }

    /// Replaces everything: at start, and after the store compacted what this cache had not read yet.
    pub(crate) fn reset(&self, entries: Vec<Arc<Entry>>, revision: i64) {
        let mut state = self.write();
        state.unreadable = Arc::default();
        let mut tree = Tree::default();
        let mut changed = 0;
        let mut tree_bytes = 0;
        for entry in entries {
            changed = changed.max(entry.revision);
            tree_bytes += entry.json().len();
            tree.insert(entry);
        }
        state.expire(revision);
        state.tree = tree;
        state.tree_bytes = tree_bytes;
        // A deletion may have come after the last put, so the load's revision is the safe answer.
        state.changed = if changed == 0 { 0 } else { revision };
        let next = state.next();
        drop(state);
        self.wake.send_replace(next);
    }

    /// What came at `revision` under `key` cannot be read. Whoever watches ends, for it cannot be told what it is.
    pub(crate) fn lose(&self, key: &str, revision: i64, unreadable: Unreadable) {
        let mut state = self.write();
        state.tree.remove(key);
        Arc::make_mut(&mut state.unreadable).insert(key.to_owned(), unreadable);
        state.expire(revision);
        let next = state.next();
        drop(state);
        self.wake.send_replace(next);
    }

    /// How many of its objects cannot be read, with the first of them.
    pub(crate) fn unreadables(&self) -> Option<(usize, String, Unreadable)> {
        let state = self.read();
        let (key, first) = state.unreadable.iter().next()?;
        Some((state.unreadable.len(), key.clone(), first.clone()))
    }

    /// An error where something under `prefix` cannot be read.
    pub(crate) fn check_readable(&self, prefix: &str) -> ApiResult<()> {
        check_readable(&self.read().unreadable, prefix)
    }

    /// Applies the changes of one revision together: (key, new state or none for a deletion).
    pub(crate) fn apply(&self, revision: i64, changes: Vec<KeyChange>) {
        let mut state = self.write();
        for (key, new) in changes {
            if state.unreadable.contains_key(&key) {
                Arc::make_mut(&mut state.unreadable).remove(&key);
                state.expire(revision);
            }
            let old = match &new {
                Some(entry) => state.tree.insert(entry.clone()),
                None => state.tree.remove(&key),
            };
            let bytes =
                |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |one| one.json().len());
            state.tree_bytes = (state.tree_bytes + bytes(&new)).saturating_sub(bytes(&old));
            if old.is_some() || new.is_some() {
                state.push(Change::new(revision, old, new));
            }
        }
        let next = state.next();
        drop(state);
        self.wake.send_replace(next);
    }

    /// `applied` is a revision that every cache has reached (read before this call).
    pub(crate) fn snapshot(&self, applied: i64) -> Snapshot {
        let state = self.read();
        Snapshot {
            tree: state.tree.clone(),
            revision: applied.max(state.changed),
            cursor: state.next(),
            changed: state.changed,
            unreadable: state.unreadable.clone(),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.read().tree.get(key).cloned()
    }

    /// As [`Cache::get`]; an error where it is there and cannot be read.
    pub(crate) fn find(&self, key: &str) -> ApiResult<Option<Arc<Entry>>> {
        let state = self.read();
        match state.unreadable.get(key) {
            Some(unreadable) => Err(ApiError::internal(&unreadable.why)),
            None => Ok(state.tree.get(key).cloned()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.read().tree.len()
    }

    /// The cursor of the first change after `revision`.
    pub(crate) fn cursor_after(&self, revision: i64) -> Result<u64, TooOld> {
        let state = self.read();
        if revision < state.floor {
            return Err(TooOld(state.floor));
        }
        let skip = state
            .ring
            .partition_point(|change| change.revision <= revision);
        Ok(state.first + skip as u64)
    }

    /// Up to `max` changes from `cursor` on, which is moved past them.
    pub(crate) fn read_changes(
        &self,
        cursor: &mut u64,
        max: usize,
    ) -> Result<Vec<Arc<Change>>, TooOld> {
        let state = self.read();
        if *cursor < state.first {
            return Err(TooOld(state.floor));
        }
        let skip = (*cursor - state.first) as usize;
        let changes: Vec<_> = state.ring.iter().skip(skip).take(max).cloned().collect();
        *cursor += changes.len() as u64;
        Ok(changes)
    }

    /// Wakes when there are changes that its holder has not seen.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, revision: i64) -> Arc<Entry> {
        Arc::new(Entry::for_test(&format!("/registry/pods/{name}"), revision))
    }

    fn put(cache: &Cache, name: &str, revision: i64) {
        cache.apply(
            revision,
            vec![(
                format!("/registry/pods/{name}"),
                Some(entry(name, revision)),
            )],
        );
    }

    #[test]
    fn cursors_resume_and_expire() {
        let cache = Cache::new(Vec::new(), "/registry/pods/".into());
        cache.reset(vec![entry("a", 3)], 5);
        assert_eq!(cache.cursor_after(4), Err(TooOld(5)));
        let mut cursor = cache.cursor_after(5).unwrap();
        for revision in 6..=8 {
            put(&cache, "b", revision);
        }
        assert_eq!(cache.cursor_after(7).unwrap(), cursor + 2);
        let changes = cache.read_changes(&mut cursor, 2).unwrap();
        assert_eq!(
            changes.iter().map(|c| c.revision).collect::<Vec<_>>(),
            [6, 7]
        );
        assert!(changes[0].old.is_none() && changes[1].old.as_ref().unwrap().revision == 6);
        assert_eq!(cache.read_changes(&mut cursor, 9).unwrap().len(), 1);
        for revision in 9..9 + RING_LEN_MAX as i64 + 1 {
            put(&cache, "b", revision);
        }
        assert_eq!(cache.read_changes(&mut cursor, 1).err(), Some(TooOld(9)));
        cache.reset(Vec::new(), 99_999);
        assert_eq!(cache.cursor_after(99_998), Err(TooOld(99_999)));
    }

    #[test]
    fn a_deletion_shows_the_last_state_at_its_own_revision() {
        let cache = Cache::new(Vec::new(), "/registry/pods/".into());
        put(&cache, "a", 2);
        let mut cursor = cache.cursor_after(2).unwrap();
        cache.apply(
            4,
            vec![
                ("/registry/pods/a".into(), None),
                ("/registry/pods/ghost".into(), None),
            ],
        );
        let changes = cache.read_changes(&mut cursor, 9).unwrap();
        assert_eq!(changes.len(), 1);
        let gone: serde_json::Value =
            serde_json::from_slice(changes[0].gone.as_ref().unwrap()).unwrap();
        assert_eq!(gone["metadata"]["resourceVersion"], "4");
        assert_eq!((cache.len(), cache.snapshot(3).revision), (0, 4));
        assert_eq!(cache.size("/registry/pods/"), (0, 0));
    }

    #[test]
    fn it_knows_how_much_there_is_and_who_sees_it() {
        let cache = Arc::new(Cache::new(Vec::new(), "/registry/pods/".into()));
        let bytes = entry("n/a", 3).json().len();
        cache.reset(vec![entry("n/a", 3), entry("n/b", 4), entry("na/c", 5)], 5);
        assert_eq!(cache.size("/registry/pods/"), (3, bytes));
        assert_eq!(cache.size("/registry/pods/n/"), (2, bytes));
        put(&cache, "n/a", 6);
        assert_eq!(cache.size("/registry/pods/n/"), (2, bytes));
        let (all, some) = (cache.watched(""), cache.watched("n"));
        let of = |namespace| cache.watches_of(namespace);
        assert_eq!((of("n"), of("m"), of("")), (2, 1, 1));
        drop((all, some));
        assert_eq!((of("n"), cache.watches().len()), (0, 0));
    }
}

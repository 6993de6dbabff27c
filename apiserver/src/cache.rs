//! The cache of one resource: its objects now, and its latest changes.
//!
//! Lists take a snapshot of the tree; watches hold a cursor into the ring of changes. A watcher has no buffer of its
//! own: one that reads too slowly finds its cursor gone from the ring and gets 410, so memory is bounded by the ring
//! whatever clients do.

mod at_rest;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use at_rest::Looks;
use bytes::Bytes;
use host::watch;
use resources::{Handle, Text};
use schema::Object;
use schema::pick::Pick;

use crate::encryption::{Opened, Unreadable};
use crate::entry::{self, Entry};
use crate::facts::{ByText, Facts};
use crate::foreseen::Foreseen;
use crate::interest::{Group, Groups, Interest};
use crate::negotiate::{Encoding, Form};
use crate::status::{ApiError, ApiResult};
use crate::tree::Tree;
use crate::world::KeyChange;

/// Changes kept for watches that resume or lag: as many as there are objects, within these bounds. Whoever is further behind
/// than that gets all objects in less than the changes would be.
const RING_LEN_MIN: usize = 4_096;
const RING_LEN_MAX: usize = 16_384;
/// Bytes of superseded states that the ring may hold on to.
const RING_BYTES_MAX: usize = 64 << 20;

/// How much of what is older than something stays.
#[derive(Clone, Copy, Debug)]
struct Kept {
    changes: usize,
    /// Of superseded states among them.
    bytes: usize,
}

/// However old it is.
const AGED: Kept = Kept {
    changes: 100,
    bytes: 1 << 20,
};

/// Of what nobody needs who was not away: what came in a storm is let go of when that is over.
const CALMED: Kept = Kept {
    changes: 1_024,
    bytes: 4 << 20,
};

/// Definitions may be as large as the schemas that they are of. Each is read when it changes, and hardly ever after that.
const PACKED_AT_ONCE_OF: &str = "/registry/customresourcedefinitions/";

/// The latest changes keep their events as they were sent, where these are not long: whoever reads in time sends the same.
const FRAMES_MAX: usize = 64;
const FRAME_BYTES_MAX: usize = 64 << 10;

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    /// The state before. It is `new` itself where none is shown but that ([`Cache::apply`]).
    pub(crate) old: Option<Arc<Entry>>,
    pub(crate) new: Option<Arc<Entry>>,
    /// `old` as of this revision: what a DELETED event shows. None of a change of some time ago, for which it is made anew.
    /// Few changes are deletions: in a block of its own it takes less room in all others.
    pub(crate) gone: Option<Box<Bytes>>,
    /// Bytes of the state before, where that is not `old` and an earlier change in the ring has it. They are counted here: when
    /// that change came, what it has was there anyway.
    superseded: u32,
    frames: Mutex<Frames>,
}

/// The event of a change as watches of the same sort send it, made by the first of them.
#[derive(Debug, Default)]
enum Frames {
    Kept(Vec<(FrameOf, Bytes)>),
    /// The change is of long ago, or it is of a large object.
    #[default]
    NotKept,
}

/// For which watches an event is written alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameOf {
    /// ADDED, MODIFIED or DELETED.
    pub(crate) kind: &'static str,
    pub(crate) encoding: Encoding,
    pub(crate) form: Form,
    pub(crate) group: Text,
    pub(crate) version: Text,
}

impl Change {
    fn new(revision: i64, old: Option<Arc<Entry>>, new: Option<Arc<Entry>>) -> Change {
        let gone = match (&old, &new) {
            (Some(old), None) => Some(old.encoded.with_revision(revision)),
            _ => None,
        };
        let shown = new.as_ref().or(old.as_ref());
        let is_small = shown.is_some_and(|entry| entry.json_len() <= FRAME_BYTES_MAX);
        let frames = match is_small {
            true => Frames::Kept(Vec::new()),
            false => Frames::NotKept,
        };
        Change {
            frames: Mutex::new(frames),
            ..Change::as_shown(revision, old, new, gone)
        }
    }

    /// A change in a form of its own, which no other watch sends.
    pub(crate) fn as_shown(
        revision: i64,
        old: Option<Arc<Entry>>,
        new: Option<Arc<Entry>>,
        gone: Option<Bytes>,
    ) -> Change {
        Change {
            revision,
            old,
            new,
            gone: gone.map(Box::new),
            superseded: 0,
            frames: Mutex::default(),
        }
    }

    /// The event as it is written for such watches.
    pub(crate) fn frame(&self, of: FrameOf, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let Frames::Kept(kept) = &mut *frames else {
            drop(frames);
            return make();
        };
        if let Some((_, frame)) = kept.iter().find(|(known, _)| *known == of) {
            return frame.clone();
        }
        let frame = make();
        kept.push((of, frame.clone()));
        frame
    }

    fn drop_frames(&self) {
        *self.frames.lock().unwrap_or_else(PoisonError::into_inner) = Frames::NotKept;
    }

    /// The state that stands for both.
    fn one(&self) -> Option<&Arc<Entry>> {
        let (Some(old), Some(new)) = (&self.old, &self.new) else {
            return None;
        };
        Arc::ptr_eq(old, new).then_some(new)
    }

    /// Those that a selector may tell from each other.
    fn states(&self) -> (Option<&Entry>, Option<&Entry>) {
        let old = self.old.as_deref().filter(|_| self.one().is_none());
        (old, self.new.as_deref())
    }

    /// What the ring holds on to since this change, and nobody else.
    fn bytes(&self) -> usize {
        let (old, _) = self.states();
        let old = old.map_or(self.superseded as usize, Entry::json_len);
        old + self.gone.as_deref().map_or(0, Bytes::len)
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
    /// How that is found without a tree of the object, where it can be.
    by_text: Option<ByText>,
    /// What this server is about to write.
    foreseen: Foreseen,
    /// Storage prefix, with its slash.
    pub(crate) prefix: String,
    /// Large objects are packed as soon as they come.
    packs_at_once: bool,
    state: RwLock<State>,
    wake: watch::Sender<u64>,
    /// Locked after the state.
    groups: Mutex<Groups>,
    /// Another cache took its place, or its kind is gone: watches end.
    closed: AtomicBool,
    /// Objects up to this revision are packed, if they are alike.
    packed: AtomicI64,
    /// Changes before this sequence number are packed.
    packed_changes: AtomicU64,
    looks: Mutex<Looks>,
    /// Watches by the namespace that they see, all being the empty one. Those that see one object or one node's are left
    /// out: few writes are for them.
    watches: Mutex<BTreeMap<String, u32>>,
}

fn lock(groups: &Mutex<Groups>) -> MutexGuard<'_, Groups> {
    groups.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watch's place among those of the same interest, until it is dropped.
pub(crate) struct Member {
    cache: Arc<Cache>,
    group: Arc<Group>,
}

impl Member {
    /// Wakes when there are changes for the watch that it has not seen, and when the cache is closed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.group.subscribe()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        lock(&self.cache.groups).leave(&self.group);
    }
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
    seen: Seen,
}

/// What a cache has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Changes, each of which watches could see.
    pub(crate) changes: u64,
    /// How often its objects were read as a whole.
    pub(crate) loads: u64,
}

/// Changes that are kept at most of so many objects.
pub(crate) fn ring_len_max(objects: usize) -> usize {
    objects.clamp(RING_LEN_MIN, RING_LEN_MAX)
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Forgets all changes up to `revision`: cursors from before point below `first` and so learn that they missed
    /// something.
    fn expire(&mut self, revision: i64, groups: &Mutex<Groups>) {
        self.first = self.next() + 1;
        lock(groups).forget(self.first);
        self.ring.clear();
        self.bytes = 0;
        self.changed = revision;
        self.floor = revision;
    }

    fn push(&mut self, change: Change) {
        self.seen.changes += 1;
        self.changed = change.revision;
        self.bytes += change.bytes();
        self.ring.push_back(Arc::new(change));
        let aged = self.ring.len().checked_sub(FRAMES_MAX + 1);
        if let Some(aged) = aged.and_then(|index| self.ring.get(index)) {
            aged.drop_frames();
        }
        let len_max = ring_len_max(self.tree.len());
        while self.ring.len() > len_max || (self.bytes > RING_BYTES_MAX && self.ring.len() > 1) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) -> Option<Arc<Change>> {
        let dropped = self.ring.pop_front()?;
        self.bytes -= dropped.bytes();
        self.first += 1;
        self.floor = dropped.revision;
        Some(dropped)
    }

    /// Whether there is more than is to be kept, and some of it came up to a revision.
    fn is_aged(&self, revision: i64, kept: Kept) -> bool {
        let first = self.ring.front();
        first.is_some_and(|first| first.revision <= revision)
            && (self.ring.len() > kept.changes || self.bytes > kept.bytes)
    }

    /// Drops the changes up to a revision but for the latest few, and gives them back.
    fn age(&mut self, revision: i64, kept: Kept) -> Vec<Arc<Change>> {
        let mut dropped = Vec::new();
        while self.is_aged(revision, kept) {
            dropped.extend(self.drop_first());
        }
        let aged = self.ring.iter();
        aged.take_while(|change| change.revision <= revision)
            .for_each(|change| change.drop_frames());
        if self.ring.capacity() / 4 > self.ring.len() {
            self.ring.shrink_to(self.ring.len() * 2);
        }
        dropped
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
            seen: Seen::default(),
        };
        let needed = entry::needed(&shapes);
        Cache {
            by_text: needed.as_ref().and_then(|_| ByText::of(&shapes)),
            needed,
            foreseen: Foreseen::default(),
            shapes,
            packs_at_once: prefix.ends_with(PACKED_AT_ONCE_OF),
            prefix,
            state: RwLock::new(state),
            wake: watch::Sender::new(0),
            groups: Mutex::default(),
            closed: AtomicBool::new(false),
            packed: AtomicI64::new(i64::MIN),
            packed_changes: AtomicU64::new(0),
            looks: Mutex::default(),
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
        let mut state = cache.write();
        state.floor = revision;
        state.seen.loads = 1;
        drop(state);
        cache
    }

    /// The same objects in other shapes. What is `alike` is taken over as it is, with the changes of before; else every
    /// object is read again, and watches begin at `revision`.
    pub(crate) fn reshaped(&self, shapes: Vec<Handle>, alike: bool, revision: i64) -> Cache {
        let cache = Cache::new(shapes, self.prefix.clone());
        let old = self.read();
        cache.write().seen = old.seen;
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
        self.rouse();
    }

    /// Has all watches of this cache look whether they are to end.
    pub(crate) fn rouse(&self) {
        let next = *self.wake.borrow();
        self.wake_all(next);
    }

    fn wake_all(&self, next: u64) {
        self.wake.send_replace(next);
        let groups: Vec<Arc<Group>> = lock(&self.groups).all().cloned().collect();
        groups.iter().for_each(|group| group.wake());
    }

    /// Enters a watch among those of its interest: from now on it is told what is for it.
    pub(crate) fn join(self: &Arc<Self>, interest: &Interest) -> Member {
        let state = self.read();
        Member {
            cache: self.clone(),
            group: lock(&self.groups).join(interest, state.next()),
        }
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
        self.entry_with(key, stored, revision, None)
    }

    /// The same of a value that comes as a change: what this server wrote itself is known already.
    pub(crate) fn changed(&self, key: &str, stored: &Opened, revision: i64) -> Option<Arc<Entry>> {
        let facts = self.foreseen.take(key, &stored.value);
        self.entry_with(key, stored, revision, facts)
    }

    fn entry_with(
        &self,
        key: &str,
        stored: &Opened,
        revision: i64,
        facts: Option<Facts>,
    ) -> Option<Arc<Entry>> {
        let (names_at, needed) = (self.prefix.len(), self.needed.as_ref());
        let entry = match (facts, &self.by_text) {
            (Some(facts), _) => Entry::with_facts(key, names_at, stored, revision, |_| Some(facts)),
            (None, Some(by_text)) => {
                Entry::with_facts(key, names_at, stored, revision, |json| by_text.read(json))
            }
            (None, None) => Entry::new(key, names_at, stored, revision, &self.shapes, needed),
        };
        if entry.is_none() {
            tracing::warn!(
                key,
                revision,
                "stored value is not an object; it is left out"
            );
        }
        let entry = entry.map(|entry| match self.packs_at_once {
            true => entry.packed_alone(),
            false => entry,
        });
        entry.map(Arc::new)
    }

    /// Gets to know an object that is about to be stored as `stored`, where all there is to know of it is in there.
    pub(crate) fn foresee(&self, key: &str, stored: &Bytes, object: &Object) {
        if self.needed.is_some() {
            let shapes = self.shapes.iter().map(|shape| &**shape);
            let facts = || Facts::of(object, shapes);
            self.foreseen.note(key, stored, facts);
        }
    }

    /// What was foreseen did not come.
    pub(crate) fn forget(&self, key: &str, stored: &Bytes) {
        self.foreseen.forget(key, stored);
    }

    /// Replaces everything: at start, and after the store compacted what this cache had not read yet.
    pub(crate) fn reset(&self, entries: Vec<Arc<Entry>>, revision: i64) {
        let changed = entries.iter().map(|entry| entry.revision).max();
        let tree_bytes: usize = entries.iter().map(|entry| entry.json_len()).sum();
        let tree = Tree::of(entries);
        let mut state = self.write();
        state.unreadable = Arc::default();
        state.expire(revision, &self.groups);
        self.foreseen.forget_all();
        self.packed.store(i64::MIN, Ordering::Relaxed);
        state.tree = tree;
        state.tree_bytes = tree_bytes;
        state.seen.loads += 1;
        // A deletion may have come after the last put, so the load's revision is the safe answer.
        state.changed = if changed.is_some() { revision } else { 0 };
        let next = state.next();
        drop(state);
        self.wake_all(next);
    }

    /// What came at `revision` under `key` cannot be read. Whoever watches ends, for it cannot be told what it is.
    pub(crate) fn lose(&self, key: &str, revision: i64, unreadable: Unreadable) {
        let mut state = self.write();
        state.tree.remove(key);
        Arc::make_mut(&mut state.unreadable).insert(key.to_owned(), unreadable);
        state.expire(revision, &self.groups);
        let next = state.next();
        drop(state);
        self.wake_all(next);
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
        let mut woken: Vec<Arc<Group>> = Vec::new();
        for (key, new) in changes {
            if state.unreadable.contains_key(&key) {
                Arc::make_mut(&mut state.unreadable).remove(&key);
                state.expire(revision, &self.groups);
                woken.extend(lock(&self.groups).all().cloned());
            }
            let old = match &new {
                Some(entry) => state.tree.insert(entry.clone()),
                None => state.tree.remove(&key),
            };
            let bytes = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |one| one.json_len());
            state.tree_bytes = (state.tree_bytes + bytes(&new)).saturating_sub(bytes(&old));
            if old.is_some() || new.is_some() {
                let is_in_ring = old.as_ref().is_some_and(|old| old.revision > state.floor);
                let superseded = if is_in_ring { bytes(&old) } else { 0 };
                let kept = self.kept_of(old, new.as_ref());
                let change = Change {
                    superseded: u32::try_from(superseded).unwrap_or(u32::MAX),
                    ..Change::new(revision, kept, new)
                };
                let (number, first) = (state.next(), state.first);
                for group in lock(&self.groups).note(change.states(), number, first) {
                    if !woken.iter().any(|known| Arc::ptr_eq(known, group)) {
                        woken.push(group.clone());
                    }
                }
                state.push(change);
            }
        }
        let next = state.next();
        drop(state);
        self.wake.send_replace(next);
        woken.iter().for_each(|group| group.wake());
    }

    /// What a change keeps of the state before it. Where whoever sees the one sees the other, nobody is shown the old one: that
    /// there was one is all there is to know, and the new one stands for it. Only of definitions more is asked.
    fn kept_of(&self, old: Option<Arc<Entry>>, new: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        match (old, new) {
            (Some(old), Some(new)) if !self.packs_at_once && old.is_selected_as(new) => {
                Some(new.clone())
            }
            (old, _) => old,
        }
    }

    /// Forgets what came up to a revision, but for the latest few changes: nobody is promised to resume from so long ago,
    /// and a server at rest gives the memory back.
    pub(crate) fn age(&self, revision: i64) {
        self.age_to(revision, AGED);
    }

    /// The same of what is no longer fresh, of which somewhat more stays until it is old.
    pub(crate) fn calm(&self, revision: i64) {
        // This is asked every few seconds, and mostly there is nothing to do.
        if self.read().is_aged(revision, CALMED) {
            self.age_to(revision, CALMED);
        }
    }

    fn age_to(&self, revision: i64, kept: Kept) {
        let mut state = self.write();
        let dropped = state.age(revision, kept);
        lock(&self.groups).age(state.first);
        drop(state);
        // Freeing many states takes a while; readers need not wait for it.
        drop(dropped);
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

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.read().seen
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

    /// Up to `max` changes from `cursor` on that may be for a watch, which is moved past them and past those before them
    /// that are not.
    pub(crate) fn changes_for(
        &self,
        member: &Member,
        cursor: &mut u64,
        max: usize,
    ) -> Result<Vec<Arc<Change>>, TooOld> {
        let state = self.read();
        let Some(numbers) = member.group.changes(*cursor, max) else {
            drop(state);
            return self.read_changes(cursor, max);
        };
        let at = |number: &u64| {
            let index = number.checked_sub(state.first)?;
            state.ring.get(index as usize).cloned()
        };
        let changes: Option<Vec<_>> = numbers.iter().map(at).collect();
        let changes = changes.ok_or(TooOld(state.floor))?;
        *cursor = match numbers.last() {
            Some(last) if numbers.len() == max => last + 1,
            _ => state.next(),
        };
        Ok(changes)
    }

    /// Wakes when there are changes that its holder has not seen.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }
}

#[cfg(test)]
mod tests;

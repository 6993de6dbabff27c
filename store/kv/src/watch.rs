//! Watching: each event is filtered once for each distinct range and shared by all its watchers.
//!
//! Watchers of one range form a group. Recent deliveries, already filtered, stand in the group's ring. A watcher is
//! nothing but a cursor, the next revision it wants: in the ring it takes from the ring, below it it reads the event
//! log in chunks until it has caught up. So a slow or resuming watcher costs a cursor and cannot lose, repeat or reorder
//! anything: what it gets is a function of the cursor. Only one below the compacted revision is told so and ends.
//!
//! What is held is bounded for all watchers together, not for each: the oldest deliveries leave the rings, and a chunk
//! of history goes back to being a cursor where its watcher does not take it while others read (see [`HubLimits`]).
//!
//! An event costs those whom it concerns, whoever else there is: groups are found by their keys ([`Routes`]), and progress
//! marks go to watchers that have caught up when somebody asks for them ([`Hub::request_progress`], which linearizable
//! reads do), not on each revision.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::events::Events;
use crate::keys::KeyRange;
use crate::message::Event;
use crate::mutants::{Bug, planted};
use crate::routes::{RouteId, Routes};
use crate::store::{WatchItem, WatchRequest};

/// The retained events, as far as a catching-up watcher needs them.
pub trait EventLog: Send + Sync {
    /// Events of `range` with revisions from `from` to at most `to`, ascending and whole: never a part of a revision.
    /// May stop early, after any revision.
    fn read(&self, range: &KeyRange, from: i64, to: i64) -> Result<LogChunk, LogError>;
}

/// A part of the log.
#[derive(Clone, Debug, Default)]
pub struct LogChunk {
    pub revisions: Vec<(i64, Arc<[Event]>)>,
    /// Every event up to and including this revision has been looked at. At least `from`.
    pub scanned: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// `from` is below this revision.
    Compacted(i64),
    /// The log cannot be read: this member is about to stop.
    Broken,
}

/// Bounds of what is held for all watchers together.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    /// Deliveries in the rings.
    pub revisions: usize,
    /// Memory of the deliveries in the rings, roughly.
    pub bytes: usize,
    /// The same where the oldest have been taken by all who watch, as they have soon: who comes later reads the log.
    pub taken_bytes: usize,
    /// Memory of chunks of history that wait for their watchers.
    pub history_bytes: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        HubLimits {
            revisions: 32_768,
            bytes: 32 << 20,
            // Little: the memory of what goes is soon used again for what comes, while it is in the processor's cache.
            taken_bytes: 1 << 20,
            history_bytes: 32 << 20,
        }
    }
}

/// Of so many watchers of a range it is found out who has taken what.
const LOOKED_AT_MAX: usize = 16;

/// All watchers of one member.
pub struct Hub {
    state: Mutex<State>,
    limits: HubLimits,
    log: Mutex<Option<Arc<dyn EventLog>>>,
}

struct State {
    /// Newest revision whose events are out.
    published: i64,
    routes: Routes,
    groups: BTreeMap<RouteId, Group>,
    /// What stands in the rings of all groups, oldest first.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Who holds a chunk of history, the one that has waited longest first.
    holders: BTreeMap<u64, WatcherId>,
    holders_bytes: usize,
    next_turn: u64,
    /// Largest revision up to which anybody wants a progress mark.
    wanted: i64,
    next_id: u64,
    closed: bool,
}

/// A delivery in the ring of a group, or one that was there until the group ended.
struct Kept {
    group: RouteId,
    revision: i64,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WatcherId {
    group: RouteId,
    watcher: u64,
}

struct Group {
    ring: VecDeque<(i64, Events)>,
    /// The ring holds every matching event above this revision.
    floor: i64,
    watchers: BTreeMap<u64, Watcher>,
}

#[derive(Default)]
struct Watcher {
    waker: Option<Waker>,
    /// Next revision to deliver, behind `history`.
    cursor: i64,
    /// Read from the log, not delivered yet: at most one chunk.
    history: VecDeque<(i64, Events)>,
    history_bytes: usize,
    /// Its place among the holders, while there is history.
    turn: u64,
    /// What the consumer knows to have seen everything up to, by an event or a mark.
    told: i64,
    /// The consumer wants to know that it has seen everything up to here.
    wanted: i64,
}

impl Hub {
    /// `revision` is the newest of the store; the log is set before the first watch.
    pub fn new(revision: i64, limits: HubLimits) -> Arc<Hub> {
        let state = State {
            published: revision,
            routes: Routes::default(),
            groups: BTreeMap::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            holders: BTreeMap::new(),
            holders_bytes: 0,
            next_turn: 0,
            wanted: 0,
            next_id: 0,
            closed: false,
        };
        Arc::new(Hub {
            state: Mutex::new(state),
            limits,
            log: Mutex::new(None),
        })
    }

    pub fn set_log(&self, log: Arc<dyn EventLog>) {
        *lock(&self.log) = Some(log);
    }

    /// Newest revision whose events are out.
    pub fn published(&self) -> i64 {
        lock(&self.state).published
    }

    /// Starts a watch. A start in the future stays silent until the store has come so far.
    pub fn watch(self: &Arc<Self>, request: &WatchRequest) -> Watch {
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut state = lock(&self.state);
        let published = state.published;
        let cursor = if request.start_revision > 0 {
            match planted(Bug::FutureWatchStartsNow) {
                true => request.start_revision.min(published + 1),
                false => request.start_revision,
            }
        } else {
            published + 1
        };
        // The first mark tells a resuming watcher that it has caught up with the moment of its creation.
        let watcher = Watcher {
            cursor,
            told: cursor - 1,
            wanted: published,
            ..Watcher::default()
        };
        let id = state.add(&range, watcher);
        Watch {
            hub: self.clone(),
            range,
            id,
            ended: false,
        }
    }

    /// Hands out the events of a batch, then its newest revision. Revisions must grow.
    pub fn publish(&self, revisions: &[(i64, Arc<[Event]>)], newest: i64) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            let before = state.published;
            let mut touched = BTreeSet::new();
            for (revision, events) in revisions {
                assert!(
                    *revision > state.published,
                    "revisions are published in order"
                );
                state.published = *revision;
                state.push(*revision, events, &mut touched);
            }
            state.published = state.published.max(newest);
            state.trim(&self.limits);
            if state.wanted > before {
                wakers.extend(state.wake_the_unsure());
            }
            for group in touched {
                let watchers = state
                    .groups
                    .get_mut(&group)
                    .map(|group| &mut group.watchers);
                let watchers = watchers.into_iter().flat_map(BTreeMap::values_mut);
                wakers.extend(watchers.filter_map(|watcher| watcher.waker.take()));
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Every watcher that has caught up with `revision` says so.
    pub fn request_progress(&self, revision: i64) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            state.wanted = state.wanted.max(revision);
            let watchers = state.groups.values_mut();
            for watcher in watchers.flat_map(|group| group.watchers.values_mut()) {
                watcher.wanted = watcher.wanted.max(revision);
            }
            wakers.extend(state.wake_the_unsure());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The state was replaced by a snapshot of this revision: what lies between is not known here event by event, and
    /// watchers find in the log, which came with the snapshot, whether they can go on.
    pub fn jump(&self, revision: i64) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            let before = state.published;
            state.published = state.published.max(revision);
            let floor = state.published;
            state.kept.clear();
            state.kept_bytes = 0;
            for group in state.groups.values_mut() {
                group.ring.clear();
                group.floor = floor;
                for watcher in group.watchers.values_mut() {
                    if planted(Bug::JumpStartsWatches) {
                        watcher.cursor = watcher.cursor.min(before + 1);
                    }
                    if planted(Bug::JumpSkipsEvents) {
                        watcher.cursor = watcher.cursor.max(floor + 1);
                    }
                }
            }
            wakers.extend(state.wake_all());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all watches, now and later.
    pub fn close(&self) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            state.closed = true;
            wakers.extend(state.wake_all());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Watches that are open.
    pub fn watchers(&self) -> usize {
        let state = lock(&self.state);
        state
            .groups
            .values()
            .map(|group| group.watchers.len())
            .sum()
    }
}

impl State {
    fn add(&mut self, range: &KeyRange, watcher: Watcher) -> WatcherId {
        let group = self.routes.get(range).unwrap_or_else(|| {
            let id = self.next_id;
            self.next_id += 1;
            self.routes.insert(range, id);
            let group = Group {
                ring: VecDeque::new(),
                floor: self.published,
                watchers: BTreeMap::new(),
            };
            self.groups.insert(id, group);
            id
        });
        let id = self.next_id;
        self.next_id += 1;
        let watchers = self.groups.get_mut(&group).map(|group| &mut group.watchers);
        watchers.map(|watchers| watchers.insert(id, watcher));
        WatcherId { group, watcher: id }
    }

    fn remove(&mut self, range: &KeyRange, id: WatcherId) {
        self.put_back(id);
        let Some(group) = self.groups.get_mut(&id.group) else {
            return;
        };
        group.watchers.remove(&id.watcher);
        if group.watchers.is_empty() {
            self.groups.remove(&id.group);
            self.routes.remove(range);
        }
    }

    fn watcher(&mut self, id: WatcherId) -> Option<&mut Watcher> {
        self.groups
            .get_mut(&id.group)?
            .watchers
            .get_mut(&id.watcher)
    }

    /// Puts the events of a revision into the rings of those whom they concern.
    fn push(&mut self, revision: i64, events: &Arc<[Event]>, touched: &mut BTreeSet<RouteId>) {
        let mut places: BTreeMap<RouteId, Vec<usize>> = BTreeMap::new();
        for (place, event) in events.iter().enumerate() {
            self.routes.of_key(&event.kv.key, |group| {
                places.entry(group).or_default().push(place);
            });
        }
        let mut all = None;
        for (id, places) in places {
            let (events, bytes) = if places.len() < events.len() {
                let some: Arc<[Event]> = places.iter().map(|at| events[*at].clone()).collect();
                let some = Events::from(some);
                let bytes = kept_bytes(&some);
                (some, bytes)
            } else if let Some(all) = &all {
                // In the ring of another group already, and counted there.
                (Events::clone(all), size_of::<Kept>())
            } else {
                let whole = all.insert(Events::from(events.clone()));
                (whole.clone(), kept_bytes(whole))
            };
            if let Some(group) = self.groups.get_mut(&id) {
                group.ring.push_back((revision, events));
                self.kept_bytes += bytes;
                self.kept.push_back(Kept {
                    group: id,
                    revision,
                    bytes,
                });
                touched.insert(id);
            }
        }
    }

    /// Takes the oldest out of the rings until the bounds are kept.
    fn trim(&mut self, limits: &HubLimits) {
        while self.kept.len() > limits.revisions
            || self.kept_bytes > limits.bytes
            || self.kept_bytes > limits.taken_bytes && self.is_oldest_taken()
        {
            let Some(kept) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= kept.bytes;
            if let Some(group) = self.groups.get_mut(&kept.group) {
                group.ring.pop_front();
                if !planted(Bug::SlowWatchLosesEvents) {
                    group.floor = kept.revision;
                }
            }
        }
    }

    /// Whether nobody who watches wants the oldest of what is kept any more, as far as that is quickly found out.
    fn is_oldest_taken(&self) -> bool {
        let Some(kept) = self.kept.front() else {
            return false;
        };
        self.groups.get(&kept.group).is_none_or(|group| {
            let mut watchers = group.watchers.values();
            watchers.len() <= LOOKED_AT_MAX
                && watchers.all(|watcher| watcher.cursor > kept.revision)
        })
    }

    /// Gives a watcher what was read for it; `scanned` is up to where.
    fn hold(&mut self, id: WatcherId, history: VecDeque<(i64, Events)>, scanned: i64) {
        let turn = self.next_turn;
        let Some(watcher) = self.watcher(id) else {
            return;
        };
        watcher.cursor = scanned + 1;
        if history.is_empty() {
            return;
        }
        let bytes = history.iter().map(|(_, events)| kept_bytes(events)).sum();
        (watcher.history, watcher.history_bytes, watcher.turn) = (history, bytes, turn);
        self.holders_bytes += bytes;
        self.holders.insert(turn, id);
        self.next_turn += 1;
    }

    /// The next of what was read for a watcher.
    fn take(&mut self, id: WatcherId) -> Option<(i64, Events)> {
        let turn = self.next_turn;
        let watcher = self.watcher(id)?;
        let next = watcher.history.pop_front()?;
        watcher.told = next.0;
        let (old, done) = (watcher.turn, watcher.history.is_empty());
        watcher.turn = turn;
        let bytes = if done {
            std::mem::take(&mut watcher.history_bytes)
        } else {
            0
        };
        self.holders.remove(&old);
        self.holders_bytes -= bytes;
        if !done {
            self.holders.insert(turn, id);
            self.next_turn += 1;
        }
        Some(next)
    }

    /// Makes a watcher's history a cursor again: it is read anew when it is wanted.
    fn put_back(&mut self, id: WatcherId) {
        let Some(watcher) = self.watcher(id) else {
            return;
        };
        let Some((first, _)) = watcher.history.front() else {
            return;
        };
        watcher.cursor = *first;
        watcher.history = VecDeque::new();
        let (turn, bytes) = (watcher.turn, std::mem::take(&mut watcher.history_bytes));
        self.holders.remove(&turn);
        self.holders_bytes -= bytes;
    }

    /// Has those who have waited longest give their history back until the bound is kept.
    fn trim_history(&mut self, limits: &HubLimits) {
        while self.holders_bytes > limits.history_bytes {
            let Some((_, id)) = self.holders.first_key_value() else {
                break;
            };
            self.put_back(*id);
        }
    }

    /// Who has to be told how far it is.
    fn wake_the_unsure(&mut self) -> Vec<Waker> {
        let published = self.published;
        let watchers = self.groups.values_mut();
        watchers
            .flat_map(|group| group.watchers.values_mut())
            .filter(|watcher| watcher.told < watcher.wanted.min(published))
            .filter_map(|watcher| watcher.waker.take())
            .collect()
    }

    fn wake_all(&mut self) -> Vec<Waker> {
        let watchers = self.groups.values_mut();
        watchers
            .flat_map(|group| group.watchers.values_mut())
            .filter_map(|watcher| watcher.waker.take())
            .collect()
    }
}

/// The events, and as much again for their encoding.
fn kept_bytes(events: &Events) -> usize {
    2 * events.memory_bytes() + size_of::<Kept>()
}

/// One watcher. Dropping it ends the watch.
pub struct Watch {
    hub: Arc<Hub>,
    range: KeyRange,
    id: WatcherId,
    ended: bool,
}

/// What a look at the hub told a watcher.
enum Look {
    Item(WatchItem),
    ReadLog { from: i64, to: i64 },
    Wait,
    End,
}

impl Watch {
    fn look(&mut self, context: &Context<'_>) -> Look {
        let mut state = lock(&self.hub.state);
        if state.closed {
            return Look::End;
        }
        if let Some((revision, events)) = state.take(self.id) {
            return Look::Item(WatchItem::Events { revision, events });
        }
        let published = state.published;
        let Some(group) = state.groups.get_mut(&self.id.group) else {
            return Look::End;
        };
        let Some(watcher) = group.watchers.get_mut(&self.id.watcher) else {
            return Look::End;
        };
        if planted(Bug::ProgressAheadOfEvents) && watcher.told < watcher.wanted.min(published) {
            watcher.told = published;
            return Look::Item(WatchItem::Progress {
                revision: published,
            });
        }
        if watcher.cursor <= group.floor {
            return Look::ReadLog {
                from: watcher.cursor,
                to: group.floor,
            };
        }
        let place = group
            .ring
            .partition_point(|(revision, _)| *revision < watcher.cursor);
        if let Some((revision, events)) = group.ring.get(place) {
            let again = planted(Bug::TxnDeliveredTwice) && events.len() > 1;
            let is_first = watcher.told < *revision;
            watcher.cursor = revision + i64::from(!(again && is_first));
            watcher.told = *revision;
            return Look::Item(WatchItem::Events {
                revision: *revision,
                events: events.clone(),
            });
        }
        if watcher.told < watcher.wanted.min(published) {
            watcher.cursor = published + 1;
            watcher.told = published;
            return Look::Item(WatchItem::Progress {
                revision: published,
            });
        }
        watcher.waker = Some(context.waker().clone());
        Look::Wait
    }

    /// Reads on in the log; answers the first of what it has found, so that every read gets the watcher on, whoever
    /// else reads.
    fn read_log(&mut self, from: i64, to: i64) -> Result<Option<WatchItem>, LogError> {
        let log = lock(&self.hub.log).clone().ok_or(LogError::Broken)?;
        let chunk = log.read(&self.range, from, to)?;
        assert!(chunk.scanned >= from, "a read of the log gets on");
        let revisions = chunk.revisions.into_iter();
        let history = revisions.map(|(revision, events)| (revision, Events::from(events)));
        let mut state = lock(&self.hub.state);
        state.hold(self.id, history.collect(), chunk.scanned);
        let first = state.take(self.id);
        state.trim_history(&self.hub.limits);
        Ok(first.map(|(revision, events)| WatchItem::Events { revision, events }))
    }
}

impl Stream for Watch {
    type Item = WatchItem;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        // A watcher far behind with nothing for it in the log gives way to others now and then.
        for _ in 0..8 {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.look(context) {
                Look::Item(item) => return Poll::Ready(Some(item)),
                Look::Wait => return Poll::Pending,
                Look::End => self.ended = true,
                Look::ReadLog { from, to } => match self.read_log(from, to) {
                    Ok(Some(item)) => return Poll::Ready(Some(item)),
                    Ok(None) => {}
                    Err(LogError::Compacted(compact_revision)) => {
                        self.ended = true;
                        return Poll::Ready(Some(WatchItem::Compacted { compact_revision }));
                    }
                    Err(LogError::Broken) => self.ended = true,
                },
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// At least what has been read for it: whoever serves several takes that before it turns to the next.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let mut state = lock(&self.hub.state);
        let held = state
            .watcher(self.id)
            .map_or(0, |watcher| watcher.history.len());
        (held, None)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.hub.state).remove(&self.range, self.id);
    }
}

/// A panic elsewhere while the lock was held leaves a state that is still consistent: each update is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{EventKind, KeyValue};

    /// A log of one event for each revision from 2 on, in chunks of a few.
    struct Log {
        newest: i64,
        chunk: i64,
    }

    fn events(revision: i64) -> Arc<[Event]> {
        let event = Event {
            kind: EventKind::Put as i32,
            kv: KeyValue {
                key: Bytes::from_static(b"/a/k"),
                mod_revision: revision,
                value: vec![b'x'; 100].into(),
                ..KeyValue::default()
            },
            prev_kv: None,
        };
        Arc::new([event])
    }

    impl EventLog for Log {
        fn read(&self, range: &KeyRange, from: i64, to: i64) -> Result<LogChunk, LogError> {
            let scanned = to.min(from + self.chunk - 1).min(self.newest);
            let found = (from..=scanned).map(|revision| (revision, events(revision)));
            let concerned = range.contains(b"/a/k");
            Ok(LogChunk {
                revisions: found.filter(|_| concerned).collect(),
                scanned,
            })
        }
    }

    fn request(key: &'static str, end: &'static str, start_revision: i64) -> WatchRequest {
        WatchRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            start_revision,
        }
    }

    fn next(watch: &mut Watch) -> Option<WatchItem> {
        match Pin::new(watch).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    fn next_events(watch: &mut Watch) -> Option<(i64, Events)> {
        loop {
            match next(watch)? {
                WatchItem::Events { revision, events } => return Some((revision, events)),
                WatchItem::Progress { .. } => {}
                WatchItem::Compacted { .. } => return None,
            }
        }
    }

    #[test]
    fn all_whom_all_of_a_revision_concerns_share_it() {
        let hub = Hub::new(1, HubLimits::default());
        let ranges = [("/a/", "/a0"), ("/a/", "/a0"), ("/a/k", ""), ("\0", "\0")];
        let mut watches: Vec<Watch> = ranges
            .iter()
            .map(|(key, end)| hub.watch(&request(key, end, 2)))
            .collect();
        let mut other = hub.watch(&request("/b/", "/b0", 2));
        hub.publish(&[(2, events(2))], 2);
        let got: Vec<Events> = watches
            .iter_mut()
            .map(|watch| next_events(watch).unwrap().1)
            .collect();
        assert!(got.iter().all(|events| events.is_shared_with(&got[0])));
        assert!(next_events(&mut other).is_none());
    }

    #[test]
    fn what_everybody_has_taken_goes_before_what_somebody_still_wants() {
        let limits = HubLimits {
            taken_bytes: 0,
            ..HubLimits::default()
        };
        let hub = Hub::new(1, limits);
        hub.set_log(Arc::new(Log {
            newest: 5,
            chunk: 7,
        }));
        let watch = |from| hub.watch(&request("/a/", "/a0", from));
        let publish = |revision| hub.publish(&[(revision, events(revision))], revision);
        let kept = || lock(&hub.state).kept.len();
        let (mut quick, mut slow) = (watch(2), watch(2));
        let takes = |watch: &mut Watch| next_events(watch).map(|(revision, _)| revision);
        publish(2);
        publish(3);
        assert_eq!((takes(&mut quick), takes(&mut quick)), (Some(2), Some(3)));
        publish(4);
        assert_eq!(kept(), 3, "the other wants them");
        assert_eq!((takes(&mut slow), takes(&mut slow)), (Some(2), Some(3)));
        publish(5);
        assert_eq!(kept(), 2);
        let mut late = watch(2);
        for revision in 4..=5 {
            assert_eq!(takes(&mut quick), Some(revision));
            assert_eq!(takes(&mut slow), Some(revision));
        }
        let all: Vec<i64> = std::iter::from_fn(|| takes(&mut late)).collect();
        assert_eq!(all, [2, 3, 4, 5], "who comes later reads the log");
    }

    #[test]
    fn what_waits_for_watchers_is_bounded_for_all_together() {
        let limits = HubLimits {
            revisions: 50,
            bytes: 10_000,
            history_bytes: 10_000,
            ..HubLimits::default()
        };
        let newest = 400;
        let hub = Hub::new(newest, limits);
        hub.set_log(Arc::new(Log {
            newest: 1000,
            chunk: 7,
        }));
        let mut watches: Vec<(Watch, Vec<i64>)> = (0..30)
            .map(|_| (hub.watch(&request("/a/", "/a0", 2)), Vec::new()))
            .collect();
        let held = |hub: &Hub| {
            let state = lock(&hub.state);
            let all = state
                .groups
                .values()
                .flat_map(|group| group.watchers.values());
            let bytes: usize = all
                .flat_map(|watcher| watcher.history.iter())
                .map(|(_, events)| kept_bytes(events))
                .sum();
            assert!(bytes <= state.holders_bytes && state.holders_bytes <= limits.history_bytes);
            assert!(state.kept.len() <= limits.revisions && state.kept_bytes <= limits.bytes);
            state.holders.len()
        };
        let mut most = 0;
        for revision in newest + 1..=newest + 300 {
            hub.publish(&[(revision, events(revision))], revision);
            for (watch, seen) in &mut watches {
                seen.extend(next_events(watch).map(|(revision, _)| revision));
                most = most.max(held(&hub));
            }
        }
        assert!(most > 1 && most < 30, "{most} held history at once");
        for (watch, seen) in &mut watches {
            while let Some((revision, _)) = next_events(watch) {
                seen.push(revision);
                held(&hub);
            }
            assert!(
                seen.iter().copied().eq(2..=newest + 300),
                "nothing is lost or told twice"
            );
        }
        drop(watches);
        let state = lock(&hub.state);
        assert!(state.groups.is_empty() && state.holders.is_empty() && state.holders_bytes == 0);
    }
}

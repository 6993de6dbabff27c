//! Watching: each event is filtered once for each distinct range and shared by all its watchers.
//!
//! Watchers of one range form a group. The group keeps a bounded ring of recent, already filtered deliveries. A watcher
//! is nothing but a cursor, the next revision it wants: in the ring it takes from the ring, below it it reads the
//! event log in chunks until it has caught up. So a slow or resuming watcher costs a cursor, never memory, and
//! cannot lose, repeat or reorder anything: what it gets is a function of the cursor. Only one below the compacted
//! revision is told so and ends.
//!
//! Progress marks go to watchers that have caught up when somebody asks for them ([`Hub::request_progress`], which
//! linearizable reads do), not on each revision: a write to one prefix must not wake the watchers of all others.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::keys::KeyRange;
use crate::message::Event;
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

/// Bounds of one group's ring.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    pub revisions: usize,
    pub bytes: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        HubLimits {
            revisions: 512,
            bytes: 1024 * 1024,
        }
    }
}

/// All watchers of one member.
pub struct Hub {
    state: Mutex<State>,
    limits: HubLimits,
    log: Mutex<Option<Arc<dyn EventLog>>>,
}

struct State {
    /// Newest revision whose events are out.
    published: i64,
    groups: BTreeMap<KeyRange, Group>,
    /// Largest revision up to which anybody wants a progress mark.
    wanted: i64,
    next_id: u64,
    closed: bool,
}

#[derive(Default)]
struct Group {
    ring: VecDeque<(i64, Arc<[Event]>)>,
    bytes: usize,
    /// The ring holds every matching event above this revision.
    floor: i64,
    watchers: BTreeMap<u64, Watcher>,
}

#[derive(Default)]
struct Watcher {
    waker: Option<Waker>,
    /// Next revision to deliver.
    cursor: i64,
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
            groups: BTreeMap::new(),
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
            request.start_revision
        } else {
            published + 1
        };
        let id = state.next_id;
        state.next_id += 1;
        let group = state.groups.entry(range.clone()).or_default();
        if group.watchers.is_empty() {
            *group = Group {
                floor: published,
                ..Group::default()
            };
        }
        // The first mark tells a resuming watcher that it has caught up with the moment of its creation.
        let watcher = Watcher {
            waker: None,
            cursor,
            told: cursor - 1,
            wanted: published,
        };
        group.watchers.insert(id, watcher);
        Watch {
            hub: self.clone(),
            range,
            id,
            pending: VecDeque::new(),
            ended: false,
        }
    }

    /// Hands out the events of a batch, then its newest revision. Revisions must grow.
    pub fn publish(&self, revisions: &[(i64, Arc<[Event]>)], newest: i64) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            let before = state.published;
            for (revision, events) in revisions {
                assert!(
                    *revision > state.published,
                    "revisions are published in order"
                );
                state.published = *revision;
                for (range, group) in &mut state.groups {
                    group.push(range, *revision, events, &self.limits);
                }
            }
            state.published = state.published.max(newest);
            let marks_wanted = state.wanted > before;
            for group in state.groups.values_mut() {
                let newest_event = group.newest_event();
                if newest_event <= before && !marks_wanted {
                    continue;
                }
                for watcher in group.watchers.values_mut() {
                    if watcher.cursor <= newest_event || watcher.told < watcher.wanted {
                        wakers.extend(watcher.waker.take());
                    }
                }
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
            let published = state.published;
            for watcher in state
                .groups
                .values_mut()
                .flat_map(|group| group.watchers.values_mut())
            {
                watcher.wanted = watcher.wanted.max(revision);
                if watcher.told < watcher.wanted.min(published) {
                    wakers.extend(watcher.waker.take());
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The state was replaced by a snapshot of this revision: what lies between is not known here event by event, and
    /// watchers find in the log, which came with the snapshot, whether they can go on.
    pub fn jump(&self, revision: i64) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            state.published = state.published.max(revision);
            let floor = state.published;
            for group in state.groups.values_mut() {
                group.ring.clear();
                group.bytes = 0;
                group.floor = floor;
                wakers.extend(
                    group
                        .watchers
                        .values_mut()
                        .filter_map(|watcher| watcher.waker.take()),
                );
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all watches, now and later.
    pub fn close(&self) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            state.closed = true;
            for group in state.groups.values_mut() {
                wakers.extend(
                    group
                        .watchers
                        .values_mut()
                        .filter_map(|watcher| watcher.waker.take()),
                );
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Watches that are open.
    pub fn watchers(&self) -> usize {
        lock(&self.state)
            .groups
            .values()
            .map(|group| group.watchers.len())
            .sum()
    }
}

impl Group {
    /// Revision of the newest event of the group, or a larger one below which the log has to be asked.
    fn newest_event(&self) -> i64 {
        self.ring
            .back()
            .map_or(self.floor, |(revision, _)| *revision)
    }

    fn push(&mut self, range: &KeyRange, revision: i64, events: &Arc<[Event]>, limits: &HubLimits) {
        let Some(events) = filter(range, events) else {
            return;
        };
        self.bytes += size(&events);
        self.ring.push_back((revision, events));
        while self.ring.len() > limits.revisions || self.bytes > limits.bytes {
            let Some((revision, events)) = self.ring.pop_front() else {
                break;
            };
            self.bytes -= size(&events);
            self.floor = revision;
        }
    }
}

/// The events of a range; shared as they are where all match, `None` where none does.
fn filter(range: &KeyRange, events: &Arc<[Event]>) -> Option<Arc<[Event]>> {
    let matching = events
        .iter()
        .filter(|event| range.contains(&event.kv.key))
        .count();
    if matching == events.len() {
        return (matching > 0).then(|| events.clone());
    }
    let some = || {
        events
            .iter()
            .filter(|event| range.contains(&event.kv.key))
            .cloned()
            .collect()
    };
    (matching > 0).then(some)
}

fn size(events: &[Event]) -> usize {
    let one = |event: &Event| {
        let prev = event.prev_kv.as_ref().map_or(0, |prev| prev.value.len());
        event.kv.key.len() + event.kv.value.len() + prev + 128
    };
    events.iter().map(one).sum()
}

/// One watcher. Dropping it ends the watch.
pub struct Watch {
    hub: Arc<Hub>,
    range: KeyRange,
    id: u64,
    /// Read from the log, not delivered yet. Bounded by one chunk.
    pending: VecDeque<(i64, Arc<[Event]>)>,
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
        let published = state.published;
        let Some(group) = state.groups.get_mut(&self.range) else {
            return Look::End;
        };
        let Some(watcher) = group.watchers.get_mut(&self.id) else {
            return Look::End;
        };
        if let Some((revision, events)) = self.pending.pop_front() {
            watcher.told = revision;
            return Look::Item(WatchItem::Events { revision, events });
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
            watcher.cursor = revision + 1;
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

    fn read_log(&mut self, from: i64, to: i64) -> Result<(), LogError> {
        let log = lock(&self.hub.log).clone().ok_or(LogError::Broken)?;
        let chunk = log.read(&self.range, from, to)?;
        assert!(chunk.scanned >= from, "a read of the log gets on");
        self.pending = chunk.revisions.into();
        let mut state = lock(&self.hub.state);
        let watcher = state
            .groups
            .get_mut(&self.range)
            .and_then(|group| group.watchers.get_mut(&self.id));
        if let Some(watcher) = watcher {
            watcher.cursor = chunk.scanned + 1;
        }
        Ok(())
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
                    Ok(()) => {}
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
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = lock(&self.hub.state);
        if let Some(group) = state.groups.get_mut(&self.range) {
            group.watchers.remove(&self.id);
            if group.watchers.is_empty() {
                state.groups.remove(&self.range);
            }
        }
    }
}

/// A panic elsewhere while the lock was held leaves a state that is still consistent: each update is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

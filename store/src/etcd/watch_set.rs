//! The watchers of one stream, polled in turn and never more than a few at a time.
//!
//! A watcher that is behind holds a piece of history while it is handed out, so what a stream may hold is bounded by
//! how many watchers are in the middle of something: [`ACTIVE_MAX`]. One stays active until it has nothing more to
//! say; the others wait as nothing but a cursor. The active ones take turns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use kv::{WatchItem, WatchStream};

/// Watchers that may hold a piece of history.
const ACTIVE_MAX: usize = 8;
/// Items of one watcher before another has its turn.
const TURN: usize = 64;

/// See the module head.
#[derive(Default)]
pub(super) struct WatchSet {
    watchers: BTreeMap<i64, Entry>,
    active: VecDeque<i64>,
    taken: usize,
    ready: Arc<Ready>,
}

struct Entry {
    stream: WatchStream,
    signal: Arc<Signal>,
}

/// Watchers that have been woken, and who polls the set.
#[derive(Default)]
struct Ready {
    ids: Mutex<VecDeque<i64>>,
    poller: AtomicWaker,
}

struct Signal {
    id: i64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.ready.ids).push_back(self.id);
            self.ready.poller.wake();
        }
    }
}

impl WatchSet {
    pub(super) fn len(&self) -> usize {
        self.watchers.len()
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.watchers.contains_key(&id)
    }

    pub(super) fn add(&mut self, id: i64, stream: WatchStream) {
        let signal = Arc::new(Signal {
            id,
            queued: AtomicBool::new(false),
            ready: self.ready.clone(),
        });
        signal.clone().wake();
        self.watchers.insert(id, Entry { stream, signal });
    }

    pub(super) fn remove(&mut self, id: i64) -> bool {
        self.active.retain(|active| *active != id);
        self.watchers.remove(&id).is_some()
    }

    /// What a watcher has to say next; `None` where it ended by itself.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<(i64, Option<WatchItem>)> {
        self.ready.poller.register(context.waker());
        let mut silent = 0;
        loop {
            self.activate();
            let Some(id) = self.active.front().copied() else {
                return Poll::Pending;
            };
            // One that reads history in which there is nothing for it wakes itself to go on: others have a turn first.
            if silent == ACTIVE_MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(entry) = self.watchers.get_mut(&id) else {
                self.active.pop_front();
                continue;
            };
            let waker = Waker::from(entry.signal.clone());
            match entry
                .stream
                .as_mut()
                .poll_next(&mut Context::from_waker(&waker))
            {
                Poll::Ready(Some(item)) => {
                    self.taken += 1;
                    if self.taken >= TURN {
                        self.taken = 0;
                        self.active.rotate_left(1);
                    }
                    return Poll::Ready((id, Some(item)));
                }
                Poll::Ready(None) => {
                    self.remove(id);
                    return Poll::Ready((id, None));
                }
                Poll::Pending => {
                    silent += 1;
                    self.taken = 0;
                    self.active.pop_front();
                }
            }
        }
    }

    fn activate(&mut self) {
        while self.active.len() < ACTIVE_MAX {
            let Some(id) = lock(&self.ready.ids).pop_front() else {
                return;
            };
            // One that was removed may still be named here.
            if let Some(entry) = self.watchers.get(&id) {
                entry.signal.queued.store(false, Ordering::Release);
                if !self.active.contains(&id) {
                    self.active.push_back(id);
                }
            }
        }
    }
}

/// Each update of the list is one step, so a panic elsewhere leaves it whole.
fn lock(ids: &Mutex<VecDeque<i64>>) -> MutexGuard<'_, VecDeque<i64>> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn poll(set: &mut WatchSet) -> Option<(i64, Option<i64>)> {
        match set.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((id, Some(WatchItem::Progress { revision }))) => Some((id, Some(revision))),
            Poll::Ready((id, _)) => Some((id, None)),
            Poll::Pending => None,
        }
    }

    fn marks(count: i64) -> WatchStream {
        let marks = stream::iter((1..=count).map(|revision| WatchItem::Progress { revision }));
        Box::pin(futures::StreamExt::chain(marks, stream::pending()))
    }

    #[test]
    fn active_watchers_take_turns_and_the_others_wait_until_one_is_done() {
        let mut set = WatchSet::default();
        for id in 0..20 {
            set.add(id, marks(TURN as i64 + 10));
        }
        let mut first_seen = Vec::new();
        let mut last_mark = BTreeMap::new();
        while let Some((id, mark)) = poll(&mut set) {
            if !first_seen.contains(&id) {
                first_seen.push(id);
                let unfinished = last_mark
                    .values()
                    .filter(|mark| **mark < Some(TURN as i64 + 10))
                    .count();
                assert!(unfinished < ACTIVE_MAX, "{unfinished} are in the middle");
            }
            last_mark.insert(id, mark);
        }
        assert_eq!(first_seen.len(), 20);
        assert!(
            last_mark
                .values()
                .all(|mark| *mark == Some(TURN as i64 + 10))
        );
    }

    #[test]
    fn one_poll_ends_although_a_watcher_wakes_itself_again_and_again() {
        let mut looks = 0;
        let busy = stream::poll_fn(move |context| {
            looks += 1;
            if looks > 1000 {
                return Poll::Ready(Some(WatchItem::Progress { revision: looks }));
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let mut set = WatchSet::default();
        set.add(1, Box::pin(busy));
        let woken = Arc::new(Woken::default());
        let mut polls = 0;
        loop {
            polls += 1;
            woken.0.store(false, Ordering::Release);
            match set.poll(&mut Context::from_waker(&Waker::from(woken.clone()))) {
                Poll::Ready((id, _)) => break assert_eq!(id, 1),
                Poll::Pending => assert!(woken.0.load(Ordering::Acquire), "it goes on"),
            }
        }
        assert!(polls > 100, "{polls}");
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn a_removed_watcher_says_nothing_and_its_number_can_be_used_again() {
        let mut set = WatchSet::default();
        set.add(7, marks(3));
        assert_eq!(poll(&mut set), Some((7, Some(1))));
        assert!(set.remove(7));
        assert!(!set.remove(7));
        set.add(7, marks(1));
        assert_eq!(poll(&mut set), Some((7, Some(1))));
        assert_eq!(poll(&mut set), None);
        set.add(8, Box::pin(stream::empty()));
        assert_eq!(poll(&mut set), Some((8, None)));
        assert_eq!(set.len(), 1);
    }
}

//! The watchers of one stream, served in rounds.
//!
//! Whoever was woken waits in line. The first one is served until it has nothing more to say or its turn is over; then
//! it goes to the end of the line, so that one to whom everything happens does not keep the others waiting. A turn lasts
//! as long as the watcher has history in its hands: only one watcher of a stream holds a piece of it at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::Stream;
use futures::task::AtomicWaker;
use kv::{WatchItem, WatchStream};

/// Items of one watcher before another has its turn.
const TURN: usize = 64;
/// Watchers that may be asked in vain in one poll.
const SILENT_MAX: usize = 8;
/// Watchers that were removed and may still stand in line.
const STALE_MAX: usize = 64;

/// See the module head.
#[derive(Default)]
pub(super) struct WatchSet {
    watchers: BTreeMap<i64, Entry>,
    /// Whose turn it is, and how much it has said.
    current: Option<(i64, usize)>,
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

impl Signal {
    fn queue(&self) -> bool {
        let new = !self.queued.swap(true, Ordering::AcqRel);
        if new {
            lock(&self.ready.ids).push_back(self.id);
        }
        new
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        if self.queue() {
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
        self.current.take_if(|(current, _)| *current == id);
        let removed = self.watchers.remove(&id).is_some();
        let mut ids = lock(&self.ready.ids);
        // Of those who came and went before they had a turn.
        if ids.len() > 2 * self.watchers.len() + STALE_MAX {
            ids.retain(|id| self.watchers.contains_key(id));
        }
        removed
    }

    /// What a watcher has to say next; `None` where it ended by itself.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<(i64, Option<WatchItem>)> {
        self.ready.poller.register(context.waker());
        for _ in 0..SILENT_MAX {
            let Some((id, said)) = self.current.take().or_else(|| self.next()) else {
                return Poll::Pending;
            };
            let Some(entry) = self.watchers.get_mut(&id) else {
                continue;
            };
            let waker = Waker::from(entry.signal.clone());
            let mut inner = Context::from_waker(&waker);
            match entry.stream.as_mut().poll_next(&mut inner) {
                Poll::Ready(Some(item)) => {
                    let over = said + 1 >= TURN && entry.stream.size_hint().0 == 0;
                    match over {
                        true => drop(entry.signal.queue()),
                        false => self.current = Some((id, said + 1)),
                    }
                    return Poll::Ready((id, Some(item)));
                }
                Poll::Ready(None) => {
                    self.watchers.remove(&id);
                    return Poll::Ready((id, None));
                }
                Poll::Pending => {}
            }
        }
        // One that reads history in which there is nothing for it wakes itself to go on: other streams have a turn first.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The first in line. One that was removed may still be named there.
    fn next(&self) -> Option<(i64, usize)> {
        loop {
            let id = lock(&self.ready.ids).pop_front()?;
            if let Some(entry) = self.watchers.get(&id) {
                entry.signal.queued.store(false, Ordering::Release);
                return Some((id, 0));
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

    /// One that always has something to say.
    fn endless() -> WatchStream {
        Box::pin(stream::poll_fn(|_| {
            Poll::Ready(Some(WatchItem::Progress { revision: 1 }))
        }))
    }

    #[test]
    fn busy_watchers_take_turns_and_quiet_ones_have_theirs() {
        let mut set = WatchSet::default();
        for id in 0..20 {
            set.add(id, endless());
        }
        for id in 20..40 {
            set.add(id, marks(1));
        }
        let mut said = BTreeMap::new();
        for _ in 0..20 * TURN + 20 {
            let (id, _) = poll(&mut set).unwrap();
            *said.entry(id).or_insert(0) += 1;
        }
        assert!(said.values().take(20).all(|said| *said == TURN));
        assert_eq!(said.len(), 40, "all have had their turn");
    }

    #[test]
    fn who_has_history_in_its_hands_hands_it_out_first() {
        let mut set = WatchSet::default();
        let many = 3 * TURN as i64;
        set.add(1, marks(many));
        set.add(2, marks(1));
        for revision in 1..=many {
            assert_eq!(poll(&mut set), Some((1, Some(revision))));
        }
        assert_eq!(poll(&mut set), Some((2, Some(1))));
        assert_eq!(poll(&mut set), None);
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
    fn who_comes_and_goes_without_a_turn_leaves_nothing_behind() {
        let mut set = WatchSet::default();
        set.add(1, marks(1));
        for n in 2..10_000 {
            set.add(n, marks(1));
            assert!(set.remove(n));
        }
        assert!(lock(&set.ready.ids).len() <= STALE_MAX + 3);
        assert_eq!(poll(&mut set), Some((1, Some(1))));
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

//! A work queue with the semantics of client-go: a key that is added while it is worked on is worked on again
//! afterwards, never by two workers at once; failures come back with a growing delay of their own.
//!
//! A queue with a name is counted and shown in `metrics`.
//!
//! The queue is bounded by the number of distinct keys, since a key is in it at most once.

use crate::metrics::{self, QueueTally, Working};
use host::HashMap;
use prometheus::IntCounter;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1000);
/// Nothing comes later: what users ask for may be more than a time can be added to.
const AFTER_MAX: Duration = Duration::from_secs(1 << 31);
/// So many resting keys are looked through for those whose rest is over.
const RESTING_MANY: usize = 256;

/// See the module head.
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    /// None where nobody looks.
    tally: Option<QueueTally>,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that are ready, or will be once they are given back, and since when.
    dirty: HashMap<K, Instant>,
    /// Keys that are worked on, and since when.
    processing: HashMap<K, Instant>,
    /// When each delayed key is due; the heap may hold outdated entries, this map is the truth.
    due: HashMap<K, Instant>,
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Keys of the heap entries by their sequence number.
    sequence: HashMap<u64, K>,
    next_sequence: u64,
    failures: HashMap<K, u32>,
    /// Keys that are not to be worked on before a time.
    resting: HashMap<K, Instant>,
    closed: bool,
    adds: Option<IntCounter>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashMap::default(),
            processing: HashMap::default(),
            due: HashMap::default(),
            delayed: BinaryHeap::new(),
            sequence: HashMap::default(),
            next_sequence: 0,
            failures: HashMap::default(),
            resting: HashMap::default(),
            closed: false,
            adds: None,
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            tally: None,
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Queue<K> {
    /// An empty queue that is counted under this name.
    pub fn named(name: &'static str) -> Arc<Self> {
        let mut queue = Self::default();
        let tally = QueueTally::new(name);
        let state = queue
            .state
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        state.adds = Some(tally.adds.clone());
        queue.tally = Some(tally);
        let queue = Arc::new(queue);
        let shown: Weak<Self> = Arc::downgrade(&queue);
        metrics::show_queue(name, shown);
        queue
    }
}

impl<K: Clone + Eq + Hash + Send> Working for Queue<K> {
    fn depth(&self) -> usize {
        self.len()
    }

    fn under_way(&self) -> Vec<Duration> {
        let now = Instant::now();
        let elapsed = |begun: &Instant| now.saturating_duration_since(*begun);
        self.lock().processing.values().map(elapsed).collect()
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key to be worked on now, or when its [rest](Queue::rest) is over.
    pub fn add(&self, key: K) {
        if self.lock().add(key, Instant::now()) {
            self.wake.notify_one();
        }
    }

    /// Adds a key like [`Queue::add`], and says whether it was not to be worked on now or again anyway.
    pub fn add_new(&self, key: K) -> bool {
        let mut state = self.lock();
        let is_new = !state.dirty.contains_key(&key);
        let wakes = state.add(key, Instant::now());
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
        is_new
    }

    fn count(&self, count: impl Fn(&QueueTally)) {
        if let Some(tally) = &self.tally {
            count(tally);
        }
    }

    /// Adds a key to be worked on after a while; an earlier time that is pending already wins.
    pub fn add_after(&self, key: K, after: Duration) {
        self.count(|tally| tally.retries.inc());
        if after.is_zero() {
            return self.add(key);
        }
        let due = Instant::now() + after.min(AFTER_MAX);
        if self.lock().add_at(key, due) {
            self.wake.notify_one();
        }
    }

    /// Adds a key after a delay that doubles with each call until [`Queue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = backoff(*failures);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(key, delay);
    }

    /// Ends the growing delay of a key.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// How often the key failed since it was forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Number of keys that are ready.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key, when there is one; `None` once the queue is closed. The key must be given back by [`Queue::done`].
    pub async fn next(&self) -> Option<K> {
        loop {
            let (taken, until) = {
                let mut state = self.lock();
                if state.closed {
                    // Passed on, so that every waiter hears of it.
                    self.wake.notify_one();
                    return None;
                }
                let now = Instant::now();
                state.release_due(now);
                let taken = state.take(now);
                let more = !state.ready.is_empty() || !state.delayed.is_empty();
                if taken.is_some() && more {
                    // The next waiter takes over the watch of what is left.
                    self.wake.notify_one();
                }
                (taken, state.delayed.peek().map(|Reverse((due, _))| *due))
            };
            if let Some((key, waited)) = taken {
                self.count(|tally| tally.waited.observe(waited.as_secs_f64()));
                return Some(key);
            }
            match until {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, self.wake.notified()).await;
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// A key that is being worked on is not worked on again for a while, whoever adds it.
    pub fn rest(&self, key: &K, pause: Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        // A key that never comes again leaves nothing behind for long.
        if state.resting.len() >= RESTING_MANY {
            state.resting.retain(|_, until| *until > now);
        }
        state.resting.insert(key.clone(), now + pause);
    }

    /// Gives a key back after work; it is queued again if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let now = Instant::now();
        let mut state = self.lock();
        let begun = state.processing.remove(key);
        let dirty = state.dirty.remove(key);
        if dirty.is_some_and(|since| state.add_since(key.clone(), since, now)) {
            self.wake.notify_one();
        }
        drop(state);
        if let Some(begun) = begun {
            let worked = now.saturating_duration_since(begun).as_secs_f64();
            self.count(|tally| tally.worked.observe(worked));
        }
    }

    /// Ends the queue: waiters get `None`.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether a waiter should wake.
    fn add(&mut self, key: K, now: Instant) -> bool {
        self.add_since(key, now, now)
    }

    /// The same of a key that has been waiting since a time.
    fn add_since(&mut self, key: K, since: Instant, now: Instant) -> bool {
        if self.closed || self.dirty.contains_key(&key) {
            return false;
        }
        if self.processing.contains_key(&key) {
            self.dirty.insert(key, since);
            return false;
        }
        match self.resting.get(&key).copied() {
            Some(until) if until > now => return self.add_at(key, until),
            Some(_) => drop(self.resting.remove(&key)),
            None => {}
        }
        if let Some(adds) = &self.adds {
            adds.inc();
        }
        self.dirty.insert(key.clone(), since);
        self.ready.push_back(key);
        true
    }

    /// Whether a waiter should wake.
    fn add_at(&mut self, key: K, due: Instant) -> bool {
        if self.closed || self.due.get(&key).is_some_and(|pending| *pending <= due) {
            return false;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.due.insert(key.clone(), due);
        self.sequence.insert(sequence, key);
        self.delayed.push(Reverse((due, sequence)));
        true
    }

    /// The next key, and for how long it was ready.
    fn take(&mut self, now: Instant) -> Option<(K, Duration)> {
        let key = self.ready.pop_front()?;
        let since = self.dirty.remove(&key).unwrap_or(now);
        self.processing.insert(key.clone(), now);
        Some((key, now.saturating_duration_since(since)))
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(Reverse((due, sequence))) = self.delayed.peek().copied() {
            let Some(key) = self.sequence.get(&sequence).cloned() else {
                self.delayed.pop();
                continue;
            };
            let current = self.due.get(&key) == Some(&due);
            if current && due > now {
                return;
            }
            self.delayed.pop();
            self.sequence.remove(&sequence);
            if current {
                self.due.remove(&key);
                self.add(key, now);
            }
        }
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST
        .saturating_mul(1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX))
        .min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_key_is_never_worked_on_twice_at_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn who_adds_learns_whether_a_key_was_waiting() {
        let queue = Queue::new();
        assert!(queue.add_new("a") && !queue.add_new("a") && queue.add_new("b"));
        assert_eq!(queue.next().await, Some("a"));
        assert!(queue.add_new("a"), "it may have looked too early");
        assert!(!queue.add_new("a"));
        queue.done(&"a");
        assert!(!queue.add_new("a") && !queue.add_new("b"));
        assert_eq!(queue.len(), 2);
    }

    #[tokio::test]
    async fn a_delay_without_end_is_one() {
        let queue = Queue::new();
        queue.add_after("never", Duration::MAX);
        queue.add_after("soon", Duration::from_millis(1));
        assert_eq!(queue.next().await, Some("soon"));
    }

    #[tokio::test]
    async fn delays_are_kept_and_the_earliest_wins() {
        let queue = Arc::new(Queue::new());
        let start = Instant::now();
        queue.add_after("late", Duration::from_millis(10_000));
        queue.add_after("early", Duration::from_millis(20));
        queue.add_after("late", Duration::from_millis(60));
        queue.add_after("late", Duration::from_millis(50_000));
        let mut seen = Vec::new();
        for _ in 0..2 {
            let key = queue.next().await.unwrap();
            seen.push((
                key,
                start.elapsed().as_millis() >= if key == "early" { 20 } else { 60 },
            ));
            queue.done(&key);
        }
        assert_eq!(seen, [("early", true), ("late", true)]);
        let waiter = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        queue.close();
        assert_eq!(waiter.await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_rests_comes_once_when_its_rest_is_over() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add("a");
        queue.next().await;
        queue.add("a");
        queue.rest(&"a", Duration::from_secs(3));
        queue.done(&"a");
        queue.add("a");
        queue.add_after("a", Duration::from_secs(1));
        queue.add("b");
        assert_eq!(queue.next().await, Some("b"));
        queue.done(&"b");
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        assert!(queue.is_empty());
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn rests_that_are_over_are_forgotten() {
        let queue = Queue::new();
        for key in 0..10 * RESTING_MANY {
            queue.rest(&key, Duration::from_millis(1));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(queue.lock().resting.len() <= RESTING_MANY);
    }

    #[tokio::test]
    async fn two_waiters_share_delayed_keys() {
        let queue = Arc::new(Queue::new());
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.add_after(1, Duration::from_millis(10));
        queue.add_after(2, Duration::from_millis(20));
        let mut got = Vec::new();
        for waiter in waiters {
            got.push(waiter.await.unwrap().unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    }

    #[tokio::test]
    async fn failures_double_the_delay_until_forgotten() {
        let queue = Queue::new();
        let start = Instant::now();
        for _ in 0..3 {
            queue.add_rate_limited("a");
            queue.next().await;
            queue.done(&"a");
        }
        assert!(start.elapsed() >= Duration::from_millis(35));
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
        assert_eq!(backoff(60), BACKOFF_MAX);
    }
}

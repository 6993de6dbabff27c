//! A value and whoever waits for its changes: `tokio::sync::watch`, except that waiters are woken in an order that
//! follows from what happened before. tokio draws lots, and then a run cannot be repeated.
//!
//! A wait is a place in one of a few queues, so that many waiters do not meet at one lock. A receiver keeps its queue.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;
use tokio::task::coop::cooperative;

const QUEUES: usize = 8;
/// In [`Shared::version`]: there is no sender any more. Changes count in steps of two.
const CLOSED: usize = 1;
const STEP: usize = 2;

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    version: AtomicUsize,
    queues: [Queue; QUEUES],
    /// Receivers that ever were: the next one's queue.
    made: AtomicUsize,
    receivers: AtomicUsize,
    senders: AtomicUsize,
}

/// Some of those who wait. Most values have nobody in most queues, and a queue is locked to be told.
#[derive(Debug, Default)]
struct Queue {
    told: Notify,
    /// Who waits, or is about to: counted before it looks at the version.
    waiting: AtomicUsize,
}

impl Queue {
    /// After the version was changed. Who is not counted yet will see that it has.
    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.told.notify_waiters();
        }
    }

    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }
}

/// Somebody who is counted in a queue.
struct Waiting<'a>(&'a Queue);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.queues.iter().for_each(Queue::tell);
    }

    fn receiver(self: &Arc<Self>, seen: usize) -> Receiver<T> {
        self.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver {
            shared: self.clone(),
            seen,
            queue: self.made.fetch_add(1, Ordering::Relaxed) % QUEUES,
        }
    }

    fn version(&self) -> usize {
        self.version.load(Ordering::SeqCst) & !CLOSED
    }

    /// Whether there is a change, which then counts as seen, or can be none any more.
    fn look(&self, seen: &mut usize) -> Option<Result<(), Closed>> {
        let now = self.version.load(Ordering::SeqCst);
        if now & !CLOSED != *seen {
            *seen = now & !CLOSED;
            return Some(Ok(()));
        }
        (now & CLOSED != 0).then_some(Err(Closed))
    }

    async fn changed(&self, queue: usize, seen: &mut usize) -> Result<(), Closed> {
        if let Some(known) = self.look(seen) {
            return known;
        }
        let waiting = self.queues[queue].wait();
        loop {
            // Before the look, so that no change falls between the two.
            let told = waiting.0.told.notified();
            if let Some(known) = self.look(seen) {
                return known;
            }
            told.await;
        }
    }
}

/// All senders are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Changes the value.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// Sees the value, and waits for changes that it has not seen.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: usize,
    queue: usize,
}

/// The value, which cannot be changed meanwhile: not to be kept.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A value with one who changes it and one who has seen it.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Sender::new(T::default())
    }
}

impl<T> Sender<T> {
    pub fn new(value: T) -> Sender<T> {
        Sender(Arc::new(Shared {
            value: RwLock::new(value),
            version: AtomicUsize::new(0),
            queues: std::array::from_fn(|_| Queue::default()),
            made: AtomicUsize::new(0),
            receivers: AtomicUsize::new(0),
            senders: AtomicUsize::new(1),
        }))
    }

    /// For what changes from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receiver(self.0.version())
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.read())
    }

    /// Changes the value, and tells whoever waits if the answer is that it has changed.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let shared = &self.0;
        {
            let mut value = shared.value.write().unwrap_or_else(PoisonError::into_inner);
            if !modify(&mut value) {
                return false;
            }
            shared.version.fetch_add(STEP, Ordering::SeqCst);
        }
        shared.tell();
        true
    }

    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Answers what was there.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|current| std::mem::swap(current, &mut value));
        value
    }

    /// As [`Sender::send_replace`], where somebody can see it.
    ///
    /// # Errors
    /// The value, where there is no receiver.
    pub fn send(&self, value: T) -> Result<(), T> {
        if self.0.receivers.load(Ordering::SeqCst) == 0 {
            return Err(value);
        }
        self.send_replace(value);
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.version.fetch_or(CLOSED, Ordering::SeqCst);
            self.0.tell();
        }
    }
}

impl<T> Receiver<T> {
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    /// And takes note of what it is.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        self.seen = self.shared.version();
        Ref(value)
    }

    /// Whether there is a change that was not seen.
    ///
    /// # Errors
    /// There is none, and never will be.
    pub fn has_changed(&self) -> Result<bool, Closed> {
        let now = self.shared.version.load(Ordering::SeqCst);
        match (now & !CLOSED != self.seen, now & CLOSED != 0) {
            (true, _) => Ok(true),
            (false, true) => Err(Closed),
            (false, false) => Ok(false),
        }
    }

    /// What there is now counts as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.version();
    }

    /// What there is now counts as not seen.
    pub fn mark_changed(&mut self) {
        self.seen = self.shared.version().wrapping_sub(STEP);
    }

    /// Returns when there is a change that was not seen, which then counts as seen.
    ///
    /// # Errors
    /// There is none, and never will be.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        cooperative(self.shared.changed(self.queue, &mut self.seen)).await
    }

    /// Returns when the value is as wanted, maybe at once.
    ///
    /// # Errors
    /// It is not, and never will be.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        let shared = &*self.shared;
        loop {
            {
                let value = shared.read();
                self.seen = shared.version();
                if wanted(&value) {
                    return Ok(Ref(value));
                }
            }
            cooperative(shared.changed(self.queue, &mut self.seen)).await?;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receiver(self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once_and_an_end_is_told_after_it() {
        let (sender, mut receiver) = channel(1);
        sender.send_replace(2);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(*receiver.borrow(), 2);
        assert!(!sender.send_if_modified(|_| false));
        assert_eq!(receiver.has_changed(), Ok(false));
        receiver.mark_changed();
        assert_eq!(receiver.has_changed(), Ok(true));
        receiver.mark_unchanged();
        assert_eq!(receiver.has_changed(), Ok(false));
        sender.send_modify(|value| *value += 1);
        drop(sender);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(*receiver.borrow_and_update(), 3);
        assert_eq!(receiver.changed().await, Err(Closed));
        assert_eq!(*receiver.wait_for(|value| *value == 3).await.unwrap(), 3);
        assert!(receiver.wait_for(|value| *value == 4).await.is_err());
    }

    #[tokio::test]
    async fn who_subscribes_waits_for_what_comes_after() {
        let sender = Sender::new(1);
        assert_eq!(sender.send(2), Err(2), "nobody could see it");
        sender.send_replace(2);
        let mut receiver = sender.subscribe();
        let (told, ()) = tokio::join!(receiver.changed(), async {
            sender.send_replace(3);
        });
        assert_eq!((told, *receiver.borrow()), (Ok(()), 3));
        assert_eq!(sender.send(4), Ok(()));
        assert_eq!(
            *receiver
                .clone()
                .wait_for(|value| *value == 4)
                .await
                .unwrap(),
            4
        );
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_not_told() {
        let sender = Sender::new(0);
        let mut receiver = sender.subscribe();
        let waiting = |sender: &Sender<i32>| -> usize {
            let queues = sender.0.queues.iter();
            queues
                .map(|queue| queue.waiting.load(Ordering::SeqCst))
                .sum()
        };
        {
            let mut wait = std::pin::pin!(receiver.changed());
            assert!(futures::poll!(&mut wait).is_pending());
            assert_eq!(waiting(&sender), 1);
        }
        assert_eq!(waiting(&sender), 0);
        sender.send_replace(1);
        assert_eq!(receiver.changed().await, Ok(()));
        let (told, ()) = tokio::join!(receiver.changed(), async {
            assert_eq!(waiting(&sender), 1);
            sender.send_replace(2);
        });
        assert_eq!((told, waiting(&sender)), (Ok(()), 0));
    }

    /// Of many threads that wait for the values one after the other, none misses the last one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_change_is_missed() {
        const LAST: u32 = 20_000;
        let sender = Sender::new(0);
        let waits = (0..20).map(|_| {
            let mut receiver = sender.subscribe();
            tokio::spawn(async move {
                let mut last = 0;
                while last < LAST {
                    receiver.changed().await.unwrap();
                    let now = *receiver.borrow();
                    assert!(now >= last);
                    last = now;
                }
            })
        });
        let waits: Vec<_> = waits.collect();
        for value in 1..=LAST {
            sender.send_replace(value);
            if value % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for wait in waits {
            wait.await.unwrap();
        }
    }

    #[tokio::test]
    async fn waiters_go_on_in_the_same_order_every_time() {
        async fn order() -> Vec<usize> {
            let (sender, woken) = (Sender::new(0), Arc::new(Mutex::new(Vec::new())));
            let waits: Vec<_> = (0..50)
                .map(|number| {
                    let (mut receiver, woken) = (sender.subscribe(), woken.clone());
                    tokio::spawn(async move {
                        receiver.changed().await.unwrap();
                        woken.lock().unwrap().push(number);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            sender.send_replace(1);
            for wait in waits {
                wait.await.unwrap();
            }
            woken.lock().unwrap().clone()
        }
        let first = order().await;
        for _ in 0..20 {
            assert_eq!(order().await, first);
        }
    }
}

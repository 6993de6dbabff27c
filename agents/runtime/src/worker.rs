//! Workers: tasks that take keys from a queue and call an async function for each.

use crate::queue::Queue;
use futures::FutureExt;
use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What to do with a key after one reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Done,
    /// Again after a while.
    After(Duration),
    /// Again after this key's growing delay.
    Backoff,
}

/// What came of one reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What to do with the key.
    pub next: Next,
    /// How long it took to decide, without what was waited for.
    pub decided_in: Duration,
}

impl From<Next> for Turn {
    fn from(next: Next) -> Self {
        Self {
            next,
            decided_in: Duration::ZERO,
        }
    }
}

/// A key rests so many times as long as its decision took, so that an owner of thousands does not keep a processor busy by itself
/// while each of them changes: it is decided about all that has changed meanwhile at once.
const REST_FACTOR: u32 = 19;
const REST_MAX: Duration = Duration::from_secs(1);
/// Decisions that are quicker need no rest.
const QUICK: Duration = Duration::from_micros(200);

/// The pause after a decision that took so long.
fn rest_after(decided_in: Duration) -> Option<Duration> {
    (decided_in > QUICK).then(|| (decided_in * REST_FACTOR).min(REST_MAX))
}

/// Runs `workers` tasks until `stop` is cancelled, then waits for the reconciles under way (they hold no lock and all
/// their calls have deadlines, but a leader that lost its lease must not go on: the tasks are dropped at once).
pub async fn run<K, F, Fut, T>(
    queue: Arc<Queue<K>>,
    workers: usize,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(K) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = T> + Send + 'static,
    T: Into<Turn> + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tasks.spawn(host::here(async move {
            while let Some(key) = queue.next().await {
                let outcome = AssertUnwindSafe(reconcile(key.clone()))
                    .catch_unwind()
                    .await;
                let turn = outcome.map_or_else(
                    |_| {
                        tracing::error!(%key, "a reconcile panicked");
                        Turn::from(Next::Backoff)
                    },
                    Into::into,
                );
                if let Some(rest) = rest_after(turn.decided_in) {
                    queue.rest(&key, rest);
                }
                match turn.next {
                    Next::Done => queue.forget(&key),
                    Next::After(delay) => {
                        queue.forget(&key);
                        queue.add_after(key.clone(), delay);
                    }
                    Next::Backoff => queue.add_rate_limited(key.clone()),
                }
                queue.done(&key);
            }
        }));
    }
    stop.cancelled().await;
    queue.close();
    tasks.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_costs_a_twentieth_of_the_time_at_most() {
        assert_eq!(rest_after(Duration::from_micros(150)), None);
        let rest = rest_after(Duration::from_millis(4));
        assert_eq!(rest, Some(Duration::from_millis(76)));
        assert_eq!(rest_after(Duration::from_secs(5)), Some(REST_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_whose_decision_took_long_rests() {
        let queue = Arc::new(Queue::new());
        queue.add("a");
        let stop = CancellationToken::new();
        let turns = Arc::new(std::sync::Mutex::new(Vec::new()));
        let begun = tokio::time::Instant::now();
        let (work, end) = (queue.clone(), stop.clone());
        let seen = turns.clone();
        run(queue, 2, stop, move |key| {
            let (work, end, seen) = (work.clone(), end.clone(), seen.clone());
            async move {
                // Changes come in while it is decided.
                work.add(key);
                let mut seen = seen.lock().unwrap();
                seen.push(begun.elapsed().as_millis());
                if seen.len() == 3 {
                    end.cancel();
                }
                Turn {
                    next: Next::Done,
                    decided_in: Duration::from_millis(10),
                }
            }
        })
        .await;
        assert_eq!(*turns.lock().unwrap(), [0, 190, 380]);
    }
}

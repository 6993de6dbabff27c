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

/// Runs `workers` tasks until `stop` is cancelled, then waits for the reconciles under way (they hold no lock and all
/// their calls have deadlines, but a leader that lost its lease must not go on: the tasks are dropped at once).
pub async fn run<K, F, Fut>(
    queue: Arc<Queue<K>>,
    workers: usize,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(K) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Next> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tasks.spawn(host::here(async move {
            while let Some(key) = queue.next().await {
                let outcome = AssertUnwindSafe(reconcile(key.clone()))
                    .catch_unwind()
                    .await;
                let next = outcome.unwrap_or_else(|_| {
                    tracing::error!(%key, "a reconcile panicked");
                    Next::Backoff
                });
                match next {
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

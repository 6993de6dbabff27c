//! Packs the objects that nobody has changed for some time, and lets go of most of the changes that came in a storm.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::ApiServer;

/// An object is packed so long after its change is forgotten, at most, and a change when it is four times as old.
const INTERVAL: Duration = Duration::from_secs(5);

/// Somewhat longer than a watch goes without a bookmark: whoever was not away has seen what came before. Kubernetes' watch cache
/// keeps changes for as long at least.
const FRESH: Duration = Duration::from_secs(75);
const FRESH_TICKS: usize = (FRESH.as_secs() / INTERVAL.as_secs()) as usize;

/// How far the caches were at each of the latest ticks, the oldest first.
#[derive(Debug, Default)]
struct Past(VecDeque<i64>);

impl Past {
    /// Takes note of one more; answers how far they were [`FRESH`] before, if that is known.
    fn tick(&mut self, now: i64) -> Option<i64> {
        self.0.push_back(now);
        if self.0.len() > FRESH_TICKS {
            self.0.pop_front()
        } else {
            None
        }
    }
}

pub(crate) async fn run(server: Arc<ApiServer>) {
    let mut past = Past::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        server.trees.age(now);
        server.twins.age(now);
        if let Some(revision) = past.tick(server.world.revision()) {
            server.world.calm(revision);
        }
        for cache in server.world.caches() {
            let Some(mut rest) = cache.at_rest() else {
                continue;
            };
            while cache.pack(&mut rest) {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_fresh_is_what_there_was_so_many_ticks_before() {
        let mut past = Past::default();
        for now in 0..FRESH_TICKS as i64 {
            assert_eq!(past.tick(now), None);
        }
        let later = (0..40).map(|at| past.tick(FRESH_TICKS as i64 + at));
        assert!(later.eq((0..40).map(Some)));
        assert_eq!(INTERVAL * FRESH_TICKS as u32, FRESH);
    }
}

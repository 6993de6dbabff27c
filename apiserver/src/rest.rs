//! Packs the objects that nobody has changed for some time.

use std::sync::Arc;
use std::time::Duration;

use crate::ApiServer;

/// An object is packed so long after its change is forgotten, at most, and a change when it is four times as old.
const INTERVAL: Duration = Duration::from_secs(5);

pub(crate) async fn run(server: Arc<ApiServer>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        server.trees.age(now);
        server.twins.age(now);
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

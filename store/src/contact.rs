//! Whether this member still hears from the leader that it knows of. Raft itself goes on naming a leader that has
//! fallen silent until there is another one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::Instant;
use openraft::async_runtime::watch::WatchReceiver;

use crate::core::Core;

/// When the leader was last heard from, in milliseconds of the monotonic clock.
#[derive(Debug, Default)]
pub struct Heard(AtomicU64);

impl Heard {
    fn set(&self, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_max(now, Ordering::Relaxed);
    }

    fn within(&self, now: Duration, silence: Duration) -> bool {
        let heard = Duration::from_millis(self.0.load(Ordering::Relaxed));
        now.saturating_sub(heard) < silence
    }
}

impl Core {
    /// An append or a heartbeat has come.
    pub fn hear(&self) {
        self.heard.set(self.config.clock.monotonic());
    }

    /// The leader, unless it has been silent for an election; this member itself only with a quorum behind it.
    pub fn leader_in_touch(&self) -> Option<u64> {
        let leader = self.leadership.borrow().leader?;
        let silence = self.config.limits.election_max;
        let in_touch = if leader == self.config.member_id {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let alone = metrics.membership_config.voter_ids().count() == 1;
            let acked = metrics.last_quorum_acked.as_ref();
            alone || acked.is_some_and(|acked| acked.elapsed() < silence)
        } else {
            self.heard.within(self.config.clock.monotonic(), silence)
        };
        in_touch.then_some(leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_word() {
        let heard = Heard::default();
        let (second, silence) = (Duration::from_secs(1), Duration::from_secs(2));
        heard.set(10 * second);
        heard.set(9 * second);
        assert!(heard.within(11 * second, silence));
        assert!(!heard.within(12 * second, silence));
        assert!(heard.within(8 * second, silence));
    }
}

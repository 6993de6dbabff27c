//! Room for a critical pod: those in whose place it is taken are told to end.

use std::time::Duration;

use super::Agent;
use crate::pod::admission;

/// What a pod has to stop where it does not say, and what is waited for at the most.
const GRACE_SECONDS: u64 = 30;
const GRACE_SECONDS_MAX: u64 = 3_600;
/// It is always waited so long.
const PATIENCE_SECONDS: u64 = 10;

impl Agent {
    /// Ends these pods. Says how long to wait for that at the longest: half as long again as they have to stop.
    pub(crate) fn preempt(&self, victims: &[String]) -> Duration {
        let pods = self.pods();
        let entries = victims.iter().filter_map(|uid| pods.by_uid.get(uid));
        let graces = entries.map(|entry| {
            entry.desired.preempt();
            let object = entry.desired.object();
            let grace = object["spec"]["terminationGracePeriodSeconds"].as_u64();
            grace.unwrap_or(GRACE_SECONDS)
        });
        patience(graces)
    }

    /// Pods that wait for more than they have look again: there may be room now.
    pub(crate) fn wake_deferred(&self) {
        let deferred = self.admitted().deferred();
        if deferred.is_empty() {
            return;
        }
        let pods = self.pods();
        let entries = deferred.iter().filter_map(|uid| pods.by_uid.get(uid));
        entries.for_each(|entry| entry.desired.wake.notify_one());
    }

    /// Whether the pod is here and has not ended.
    pub(crate) fn is_occupied_by(&self, uid: &str) -> bool {
        let pods = self.pods();
        let entry = pods.by_uid.get(uid);
        let entry = entry.filter(|entry| !entry.desired.is_removed());
        entry.is_some_and(|entry| !admission::has_ended(&entry.desired.object()))
    }
}

fn patience(graces: impl Iterator<Item = u64>) -> Duration {
    let longest = graces.max().unwrap_or(0).min(GRACE_SECONDS_MAX);
    Duration::from_secs((longest + longest / 2).max(PATIENCE_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_is_waited_for_but_not_for_ever() {
        let seconds = |graces: &[u64]| patience(graces.iter().copied()).as_secs();
        assert_eq!(seconds(&[]), 10);
        assert_eq!(seconds(&[1, 40, 0]), 60);
        assert_eq!(seconds(&[u64::MAX]), 5_400);
    }
}

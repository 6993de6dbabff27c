//! When leases run out. Only a leader that hears from a quorum keeps this clock; its decisions are proposals.
//!
//! A lease ends for one reason: a leader that was in touch with a quorum did not hear of it for its whole time to
//! live. A new leader starts every lease anew, because it does not know what its predecessor was told. Renewals are not
//! replicated; what orders them and ends is this clock. A lease whose end has been proposed is not renewed until the
//! fate of that proposal is known, however long that takes: a proposal that is merely late may still be committed. A
//! proposal of an earlier term that is still in the log is decided before the new leader renews anything, since a
//! leader renews only after it has applied an entry of its own term; and one that gets into the log of a later term
//! counts for nothing (see [`kv::LeaseExpire`]). So a renewal that was acknowledged is never overtaken.
//!
//! Plain functions over the clock that comes in; the shell asks every so often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module head. Times are of [`crate::env::Clock::monotonic`].
#[derive(Debug, Default)]
pub(crate) struct LeaseClock {
    term: u64,
    deadlines: BTreeMap<i64, Duration>,
    /// Their end has been proposed.
    ending: BTreeSet<i64>,
}

/// Answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    Renewed,
    /// Its end is being proposed: ask again, it will be gone or, if the proposal failed, still there.
    Ending,
}

fn ttl(seconds: i64) -> Duration {
    Duration::from_secs(seconds.max(1) as u64)
}

impl LeaseClock {
    /// Follows what leases there are, in this term; answers those that have run out, at most `limit`, and regards
    /// them as ending.
    pub(crate) fn tick(
        &mut self,
        term: u64,
        now: Duration,
        leases: impl Iterator<Item = (i64, i64)>,
        limit: usize,
    ) -> Vec<i64> {
        self.enter(term);
        if term < self.term {
            return Vec::new();
        }
        let mut followed = BTreeMap::new();
        let mut due = Vec::new();
        for (id, ttl_seconds) in leases {
            let deadline = self
                .deadlines
                .get(&id)
                .copied()
                .unwrap_or(now + ttl(ttl_seconds));
            if deadline <= now && due.len() < limit && !self.ending.contains(&id) {
                due.push(id);
            }
            followed.insert(id, deadline);
        }
        self.deadlines = followed;
        self.ending.extend(&due);
        due
    }

    /// Forgets what was known in an earlier term.
    fn enter(&mut self, term: u64) {
        if term > self.term {
            *self = LeaseClock {
                term,
                ..LeaseClock::default()
            };
        }
    }

    /// The proposal of this term to end these has been decided, one way or the other. Not to be said of one that is
    /// only late.
    pub(crate) fn settled(&mut self, term: u64, ids: &[i64]) {
        if term != self.term {
            return;
        }
        for id in ids {
            self.ending.remove(id);
        }
    }

    /// Renews a lease that the state has, in this term.
    pub(crate) fn renew(&mut self, term: u64, id: i64, ttl_seconds: i64, now: Duration) -> Renewal {
        self.enter(term);
        // A leader of an earlier term that has not noticed yet acknowledges nothing.
        if term < self.term || self.ending.contains(&id) {
            return Renewal::Ending;
        }
        self.deadlines.insert(id, now + ttl(ttl_seconds));
        Renewal::Renewed
    }

    /// Whole seconds left of a lease that the state has.
    pub(crate) fn left_seconds(&self, id: i64, ttl_seconds: i64, now: Duration) -> i64 {
        let left = self
            .deadlines
            .get(&id)
            .map_or(ttl(ttl_seconds), |deadline| deadline.saturating_sub(now));
        i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_ends_once_and_after_its_time() {
        let mut clock = LeaseClock::default();
        let leases = || [(1, 5), (2, 50)].into_iter();
        assert!(clock.tick(1, at(100), leases(), 9).is_empty());
        assert!(clock.tick(1, at(104), leases(), 9).is_empty());
        assert_eq!(clock.left_seconds(1, 5, at(104)), 1);
        assert_eq!(clock.tick(1, at(105), leases(), 9), [1]);
        assert!(
            clock.tick(1, at(106), leases(), 9).is_empty(),
            "proposed once"
        );
        assert_eq!(clock.renew(1, 1, 5, at(106)), Renewal::Ending);
        clock.settled(1, &[1]);
        assert_eq!(
            clock.tick(1, at(107), leases(), 9),
            [1],
            "the proposal failed: again"
        );
    }

    #[test]
    fn a_proposal_of_an_old_term_says_nothing_of_one_of_this_term() {
        let mut clock = LeaseClock::default();
        let leases = || [(1, 5)].into_iter();
        clock.tick(1, at(100), leases(), 9);
        assert_eq!(clock.tick(1, at(105), leases(), 9), [1]);
        // Lost and won again: the lease starts anew, and runs out again.
        assert!(clock.tick(2, at(106), leases(), 9).is_empty());
        assert_eq!(clock.tick(2, at(111), leases(), 9), [1]);
        // Now the first proposal is found to be void.
        clock.settled(1, &[1]);
        assert_eq!(clock.renew(2, 1, 5, at(112)), Renewal::Ending);
        clock.settled(2, &[1]);
        assert_eq!(clock.renew(2, 1, 5, at(112)), Renewal::Renewed);
        // A renewal may come before the first tick of a term.
        assert_eq!(clock.tick(2, at(117), leases(), 9), [1]);
        assert_eq!(clock.renew(3, 1, 5, at(118)), Renewal::Renewed);
        assert!(clock.tick(3, at(122), leases(), 9).is_empty());
        assert_eq!(clock.tick(3, at(123), leases(), 9), [1]);
        assert_eq!(clock.renew(2, 1, 5, at(123)), Renewal::Ending);
        assert!(clock.tick(2, at(123), leases(), 9).is_empty());
    }

    #[test]
    fn renewals_and_new_leaders_extend() {
        let mut clock = LeaseClock::default();
        let leases = || [(1, 5)].into_iter();
        clock.tick(1, at(100), leases(), 9);
        assert_eq!(clock.renew(1, 1, 5, at(104)), Renewal::Renewed);
        assert!(clock.tick(1, at(108), leases(), 9).is_empty());
        assert!(
            clock.tick(2, at(110), leases(), 9).is_empty(),
            "a new term starts anew"
        );
        assert_eq!(clock.tick(2, at(115), leases(), 9), [1]);
        assert!(clock.tick(3, at(200), leases(), 9).is_empty());
        assert_eq!(
            clock.renew(3, 1, 5, at(200)),
            Renewal::Renewed,
            "what ended in an old term does not count"
        );
    }
}

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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::mutants::{Bug, planted};

/// A lease of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) id: i64,
    pub(crate) ttl_seconds: i64,
    /// Another one for a lease that was granted again under the same id ([`kv::LeaseRecord`]).
    pub(crate) grant: u64,
}

/// The clock of a member, and how it is used beside the state: whoever looks into the state, whose lock writers queue
/// for, does so before or after this lock is held and never meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<LeaseClock>);

impl Leases {
    fn clock(&self) -> MutexGuard<'_, LeaseClock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews a lease that `look` finds in the state; answers its time to live, 0 where it is not there, and nothing
    /// where its end is under way. What is acknowledged here holds: an end that was decided before is either still
    /// marked as ending, or has been applied, and then the second look does not find the lease any more.
    pub(crate) fn keep_alive(
        &self,
        term: u64,
        now: Duration,
        look: impl Fn() -> Option<Granted>,
    ) -> Option<i64> {
        let Some(lease) = look() else {
            return Some(0);
        };
        let renewed = self.clock().renew(term, lease, now);
        match renewed {
            Renewal::Renewed => Some(look().map_or(0, |lease| lease.ttl_seconds)),
            Renewal::Ending => None,
        }
    }

    /// Whole seconds left; -1 of a lease that `look` does not find.
    pub(crate) fn left(&self, now: Duration, look: impl Fn() -> Option<Granted>) -> i64 {
        match look() {
            None => -1,
            Some(lease) => self.clock().left_seconds(lease, now),
        }
    }

    /// See [`LeaseClock::tick`]; `list` names the leases of the state.
    pub(crate) fn tick(
        &self,
        term: u64,
        now: Duration,
        list: impl FnOnce() -> Vec<Granted>,
        limit: usize,
    ) -> Vec<i64> {
        let leases = list();
        self.clock().tick(term, now, leases.into_iter(), limit)
    }

    /// See [`LeaseClock::settled`].
    pub(crate) fn settled(&self, term: u64, ids: &[i64]) {
        self.clock().settled(term, ids);
    }
}

/// See the module head. Times are of [`crate::env::Clock::monotonic`].
#[derive(Debug, Default)]
struct LeaseClock {
    term: u64,
    /// With the grant that they are of: one under the same id starts anew.
    deadlines: BTreeMap<i64, (u64, Duration)>,
    /// Their end has been proposed.
    ending: BTreeSet<i64>,
}

/// Answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
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
    fn tick(
        &mut self,
        term: u64,
        now: Duration,
        leases: impl Iterator<Item = Granted>,
        limit: usize,
    ) -> Vec<i64> {
        self.enter(term);
        if term < self.term {
            return Vec::new();
        }
        let mut followed = BTreeMap::new();
        let mut due = Vec::new();
        for lease in leases {
            let id = lease.id;
            let deadline = self.deadline(lease).unwrap_or(now + ttl(lease.ttl_seconds));
            if deadline <= now && due.len() < limit && !self.ending.contains(&id) {
                due.push(id);
            }
            followed.insert(id, (lease.grant, deadline));
        }
        self.deadlines = followed;
        self.ending.extend(&due);
        due
    }

    fn deadline(&self, lease: Granted) -> Option<Duration> {
        let (grant, deadline) = self.deadlines.get(&lease.id)?;
        (*grant == lease.grant).then_some(*deadline)
    }

    /// Forgets what was known in an earlier term.
    fn enter(&mut self, term: u64) {
        if term > self.term {
            let deadlines = match planted(Bug::OldDeadlinesKept) {
                true => std::mem::take(&mut self.deadlines),
                false => BTreeMap::new(),
            };
            *self = LeaseClock {
                term,
                deadlines,
                ..LeaseClock::default()
            };
        }
    }

    /// The proposal of this term to end these has been decided, one way or the other. Not to be said of one that is
    /// only late.
    fn settled(&mut self, term: u64, ids: &[i64]) {
        if term != self.term {
            return;
        }
        for id in ids {
            self.ending.remove(id);
        }
    }

    /// Renews a lease that the state has, in this term.
    fn renew(&mut self, term: u64, lease: Granted, now: Duration) -> Renewal {
        self.enter(term);
        // A leader of an earlier term that has not noticed yet acknowledges nothing.
        let is_ending = self.ending.contains(&lease.id) && !planted(Bug::RenewsWhatEnds);
        if term < self.term || is_ending {
            return Renewal::Ending;
        }
        let deadline = now + ttl(lease.ttl_seconds);
        self.deadlines.insert(lease.id, (lease.grant, deadline));
        Renewal::Renewed
    }

    /// Whole seconds left of a lease that the state has.
    fn left_seconds(&self, lease: Granted, now: Duration) -> i64 {
        let left = self
            .deadline(lease)
            .map_or(ttl(lease.ttl_seconds), |deadline| {
                deadline.saturating_sub(now)
            });
        i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lease(id: i64, ttl_seconds: i64) -> Granted {
        Granted {
            id,
            ttl_seconds,
            grant: 1,
        }
    }

    /// A renewal, a tick and a writer of the state that each wait for the next one's lock would wait for ever.
    #[test]
    fn the_state_is_never_looked_into_while_the_clock_is_locked() {
        let leases = Leases::default();
        let look = || {
            assert!(leases.0.try_lock().is_ok(), "the clock is locked");
            Some(lease(1, 5))
        };
        let list = || look().into_iter().collect();
        assert!(leases.tick(1, at(100), list, 9).is_empty());
        assert_eq!(leases.keep_alive(1, at(103), look), Some(5));
        assert_eq!(leases.left(at(104), look), 4);
        assert_eq!(leases.tick(1, at(108), list, 9), [1]);
        assert_eq!(leases.keep_alive(1, at(108), look), None);
        leases.settled(1, &[1]);
        assert_eq!(leases.keep_alive(1, at(109), || None), Some(0));
        assert_eq!(leases.left(at(109), || None), -1);
    }

    #[test]
    fn a_lease_that_is_granted_again_starts_anew() {
        let mut clock = LeaseClock::default();
        let again = Granted {
            grant: 2,
            ..lease(1, 5)
        };
        clock.tick(1, at(100), [lease(1, 5)].into_iter(), 9);
        assert_eq!(clock.left_seconds(again, at(104)), 5);
        assert!(clock.tick(1, at(106), [again].into_iter(), 9).is_empty());
        assert!(clock.tick(1, at(110), [again].into_iter(), 9).is_empty());
        // Renewed before a tick has seen that it is another one.
        let third = Granted { grant: 3, ..again };
        assert_eq!(clock.renew(1, third, at(110)), Renewal::Renewed);
        assert!(clock.tick(1, at(114), [third].into_iter(), 9).is_empty());
        assert_eq!(clock.tick(1, at(115), [third].into_iter(), 9), [1]);
    }

    #[test]
    fn a_lease_ends_once_and_after_its_time() {
        let mut clock = LeaseClock::default();
        let leases = || [lease(1, 5), lease(2, 50)].into_iter();
        assert!(clock.tick(1, at(100), leases(), 9).is_empty());
        assert!(clock.tick(1, at(104), leases(), 9).is_empty());
        assert_eq!(clock.left_seconds(lease(1, 5), at(104)), 1);
        assert_eq!(clock.tick(1, at(105), leases(), 9), [1]);
        assert!(
            clock.tick(1, at(106), leases(), 9).is_empty(),
            "proposed once"
        );
        assert_eq!(clock.renew(1, lease(1, 5), at(106)), Renewal::Ending);
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
        let leases = || [lease(1, 5)].into_iter();
        clock.tick(1, at(100), leases(), 9);
        assert_eq!(clock.tick(1, at(105), leases(), 9), [1]);
        // Lost and won again: the lease starts anew, and runs out again.
        assert!(clock.tick(2, at(106), leases(), 9).is_empty());
        assert_eq!(clock.tick(2, at(111), leases(), 9), [1]);
        // Now the first proposal is found to be void.
        clock.settled(1, &[1]);
        assert_eq!(clock.renew(2, lease(1, 5), at(112)), Renewal::Ending);
        clock.settled(2, &[1]);
        assert_eq!(clock.renew(2, lease(1, 5), at(112)), Renewal::Renewed);
        // A renewal may come before the first tick of a term.
        assert_eq!(clock.tick(2, at(117), leases(), 9), [1]);
        assert_eq!(clock.renew(3, lease(1, 5), at(118)), Renewal::Renewed);
        assert!(clock.tick(3, at(122), leases(), 9).is_empty());
        assert_eq!(clock.tick(3, at(123), leases(), 9), [1]);
        assert_eq!(clock.renew(2, lease(1, 5), at(123)), Renewal::Ending);
        assert!(clock.tick(2, at(123), leases(), 9).is_empty());
    }

    #[test]
    fn renewals_and_new_leaders_extend() {
        let mut clock = LeaseClock::default();
        let leases = || [lease(1, 5)].into_iter();
        clock.tick(1, at(100), leases(), 9);
        assert_eq!(clock.renew(1, lease(1, 5), at(104)), Renewal::Renewed);
        assert!(clock.tick(1, at(108), leases(), 9).is_empty());
        assert!(
            clock.tick(2, at(110), leases(), 9).is_empty(),
            "a new term starts anew"
        );
        assert_eq!(clock.tick(2, at(115), leases(), 9), [1]);
        assert!(clock.tick(3, at(200), leases(), 9).is_empty());
        assert_eq!(
            clock.renew(3, lease(1, 5), at(200)),
            Renewal::Renewed,
            "what ended in an old term does not count"
        );
    }
}

//! Exponential back-off as nodes apply it to crashing containers and failing image pulls.
//!
//! Pure: time comes in. The first failure is free, the second waits 10 s, then twice as long each time up to five
//! minutes; ten quiet minutes (twice the cap) forget everything.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

pub(crate) const INITIAL: Duration = Duration::seconds(10);
pub(crate) const MAX: Duration = Duration::minutes(5);

/// Whether a moment until which something is held is yet to come. What is longer than the cap away was set before the
/// clock was set back, and holds nothing.
pub(crate) fn is_ahead(until: OffsetDateTime, now: OffsetDateTime) -> bool {
    until > now && until - now <= MAX
}

/// Back-off state by key (a container name, an image).
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Backoffs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    delay: Duration,
    updated_at: OffsetDateTime,
}

impl Backoffs {
    /// The end of the waiting time after a failure at `failed_at`, and its length, while `now` still lies within it. Nobody
    /// waits for what failed long after now, by a clock that has been set back since.
    pub(crate) fn waiting(
        &self,
        key: &str,
        failed_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Option<(OffsetDateTime, Duration)> {
        let entry = self.entries.get(key)?;
        if expired(failed_at, entry) || !(-entry.delay..entry.delay).contains(&(now - failed_at)) {
            return None;
        }
        Some((failed_at + entry.delay, entry.delay))
    }

    /// Notes a new try after a failure at `failed_at`: the next failure waits longer.
    pub(crate) fn next(&mut self, key: &str, failed_at: OffsetDateTime, now: OffsetDateTime) {
        let delay = match self.entries.get(key) {
            Some(entry) if !expired(failed_at, entry) => (entry.delay * 2_i32).min(MAX),
            _ => INITIAL,
        };
        self.entries.insert(
            key.to_owned(),
            Entry {
                delay,
                updated_at: now,
            },
        );
    }

    /// Forgets a key, after success.
    pub(crate) fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

fn expired(failed_at: OffsetDateTime, entry: &Entry) -> bool {
    failed_at - entry.updated_at > MAX * 2_i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_and_forgets_after_quiet_time() {
        let mut backoffs = Backoffs::default();
        let mut now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(
            backoffs.waiting("c", now, now),
            None,
            "the first restart is immediate"
        );
        let mut delays = Vec::new();
        for _ in 0..7 {
            backoffs.next("c", now, now);
            let (until, delay) = backoffs.waiting("c", now, now).unwrap();
            delays.push(delay.whole_seconds());
            assert_eq!(backoffs.waiting("c", now, until), None);
            now = until;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        let later = now + Duration::minutes(11);
        assert_eq!(backoffs.waiting("c", later, later), None);
        backoffs.next("c", later, later);
        assert_eq!(backoffs.waiting("c", later, later).unwrap().1, INITIAL);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_waiting() {
        let mut backoffs = Backoffs::default();
        let failed_at = OffsetDateTime::UNIX_EPOCH + Duration::hours(5);
        backoffs.next("c", failed_at, failed_at);
        assert!(backoffs.waiting("c", failed_at, failed_at).is_some());
        let set_back = failed_at - Duration::hours(1);
        assert_eq!(backoffs.waiting("c", failed_at, set_back), None);
        assert!(is_ahead(failed_at + MAX, failed_at) && !is_ahead(failed_at, failed_at));
        assert!(!is_ahead(failed_at, set_back));
    }
}

//! Which scheduled time is due, and when to look for the next one.

use super::schedule::Schedule;
use agent_runtime::timestamp::{Micros, seconds};
use jiff::tz::TimeZone;
use std::time::Duration;

/// Beyond so many missed times somebody should know.
const MISSED_MAX: i64 = 100;
/// Times that are tried one by one after the first guess; irregular schedules need a few.
const STEPS_MAX: usize = 10_000;

/// The last scheduled time that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Micros,
    pub(super) missed: Missed,
}

/// How many times have passed since the last one that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// This one only.
    One,
    Few,
    Many,
}

/// The last time after `from` that has passed. Years of missed times cost no more than a few: they are counted by the
/// distance of the first two.
pub(super) fn last_due(
    schedule: &Schedule,
    zone: &TimeZone,
    from: Micros,
    now: Micros,
) -> Result<Option<Due>, String> {
    let never = || "time difference between two schedules is less than 1 second".to_owned();
    let first = schedule.next(from, zone).ok_or_else(never)?;
    if now < first {
        return Ok(None);
    }
    let Some(second) = schedule.next(first, zone).filter(|second| *second <= now) else {
        return Ok(Some(Due {
            at: first,
            missed: Missed::One,
        }));
    };
    let distance = (second - first).max(seconds(1));
    let count = (now - first) / distance + 1;
    let missed = if count > MISSED_MAX {
        Missed::Many
    } else {
        Missed::Few
    };
    let guess = first + (count - 2).max(0) * distance;
    let at = last_before(schedule, zone, guess.max(first), now).or_else(|| {
        // Times that are farther apart now than the first two: from the beginning.
        last_before(schedule, zone, first, now)
    });
    Ok(Some(Due {
        at: at.unwrap_or(first),
        missed,
    }))
}

/// The last time after `from` and not after `now`.
fn last_before(schedule: &Schedule, zone: &TimeZone, from: Micros, now: Micros) -> Option<Micros> {
    let mut last = None;
    let mut at = from;
    for _ in 0..STEPS_MAX {
        match schedule.next(at, zone).filter(|next| *next <= now) {
            Some(next) => {
                last = Some(next);
                at = next;
            }
            None => break,
        }
    }
    last
}

/// How long until the next time. A clock that was set back does not make a time come round again: `since` is the last one.
pub(super) fn next_look(
    schedule: &Schedule,
    zone: &TimeZone,
    since: Micros,
    now: Micros,
) -> Option<Duration> {
    let next = match schedule.is_every() {
        // Counted from the last time that was kept.
        true => match last_due(schedule, zone, since, now).ok()? {
            Some(due) => schedule.next(due.at, zone)?,
            None => schedule.next(since, zone)?,
        },
        false => schedule.next(since.max(now), zone)?,
    };
    let wait = next.saturating_sub(now).max(0);
    Some(Duration::from_micros(u64::try_from(wait).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::timestamp::{parse, time};

    fn due(schedule: &str, from: &str, now: &str) -> Option<(String, Missed)> {
        let schedule = Schedule::parse(schedule).unwrap();
        let (from, now) = (parse(from).unwrap(), parse(now).unwrap());
        let due = last_due(&schedule, &TimeZone::UTC, from, now).unwrap()?;
        Some((time(due.at), due.missed))
    }

    #[test]
    fn only_the_last_of_the_missed_times_is_due() {
        for (schedule, from, now, expected) in [
            (
                "0 * * * *",
                "2026-01-01T10:00:00Z",
                "2026-01-01T10:59:59Z",
                None,
            ),
            (
                "0 * * * *",
                "2026-01-01T10:00:00Z",
                "2026-01-01T11:00:00Z",
                Some(("2026-01-01T11:00:00Z", Missed::One)),
            ),
            (
                "0 * * * *",
                "2026-01-01T10:00:00Z",
                "2026-01-01T13:30:00Z",
                Some(("2026-01-01T13:00:00Z", Missed::Few)),
            ),
            (
                "* * * * *",
                "2026-01-01T10:00:00Z",
                "2026-01-01T11:40:00Z",
                Some(("2026-01-01T11:40:00Z", Missed::Few)),
            ),
            (
                "* * * * *",
                "2026-01-01T10:00:00Z",
                "2026-01-01T11:41:00Z",
                Some(("2026-01-01T11:41:00Z", Missed::Many)),
            ),
            (
                "* * * * *",
                "2016-01-01T10:00:00Z",
                "2026-01-01T11:41:07Z",
                Some(("2026-01-01T11:41:00Z", Missed::Many)),
            ),
            (
                "@every 90s",
                "2026-01-01T10:00:07Z",
                "2026-01-01T10:05:00Z",
                Some(("2026-01-01T10:04:37Z", Missed::Few)),
            ),
            // Friday's last and Monday's first are farther apart than two of a day.
            (
                "30 6-16/4 * * 1-5",
                "2026-01-02T06:30:00Z",
                "2026-01-05T07:00:00Z",
                Some(("2026-01-05T06:30:00Z", Missed::Few)),
            ),
            (
                "30 6-16/4 * * 1-5",
                "2026-01-02T06:30:00Z",
                "2026-01-05T05:00:00Z",
                Some(("2026-01-02T14:30:00Z", Missed::Few)),
            ),
            (
                "0 0 1 1 *",
                "2020-06-01T00:00:00Z",
                "2026-06-01T00:00:00Z",
                Some(("2026-01-01T00:00:00Z", Missed::Few)),
            ),
            // A clock that was set back.
            (
                "* * * * *",
                "2026-01-01T10:00:00Z",
                "2025-01-01T10:00:00Z",
                None,
            ),
        ] {
            let expected = expected.map(|(at, missed)| (at.to_owned(), missed));
            assert_eq!(
                due(schedule, from, now),
                expected,
                "{schedule} {from} {now}"
            );
        }
    }

    #[test]
    fn the_next_look_is_at_the_next_time() {
        for (schedule, since, now, wait) in [
            (
                "0 * * * *",
                "2026-01-01T10:00:00Z",
                "2026-01-01T10:59:00Z",
                60,
            ),
            (
                "0 * * * *",
                "2026-01-01T08:00:00Z",
                "2026-01-01T10:59:00Z",
                60,
            ),
            (
                "@every 100s",
                "2026-01-01T10:00:00Z",
                "2026-01-01T10:05:10Z",
                90,
            ),
            (
                "@every 100s",
                "2026-01-01T10:00:00Z",
                "2026-01-01T10:00:10Z",
                90,
            ),
            (
                "0 * * * *",
                "2026-01-01T10:00:00Z",
                "2026-01-01T09:30:00Z",
                5400,
            ),
        ] {
            let schedule = Schedule::parse(schedule).unwrap();
            let (since, now) = (parse(since).unwrap(), parse(now).unwrap());
            let look = next_look(&schedule, &TimeZone::UTC, since, now);
            assert_eq!(look, Some(Duration::from_secs(wait)));
        }
    }

    #[test]
    fn a_schedule_without_times_is_an_error() {
        let schedule = Schedule::parse("0 0 31 2 *").unwrap();
        let due = last_due(&schedule, &TimeZone::UTC, 0, seconds(1_800_000_000));
        assert!(due.unwrap_err().starts_with("time difference"));
    }
}

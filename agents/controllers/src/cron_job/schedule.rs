//! Cron schedules: when they come round next. How they are written is `cron`'s matter.
//!
//! A schedule is a set of moments: those whose wall clock, in the schedule's time zone, shows what the fields say. A wall
//! clock that leaps over a time skips its run, and one that shows it twice runs it twice, as in Kubernetes.

use agent_runtime::timestamp::{Micros, seconds};
use cron::Fields;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// Beyond so many years nothing is looked for.
const YEARS_MAX: i16 = 5;

/// When something is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule(cron::Schedule);

impl Schedule {
    /// Reads a schedule.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        cron::parse(text).map(Self)
    }

    /// Whether it is a span, so that it comes round as counted from some last time.
    pub(super) fn is_every(&self) -> bool {
        matches!(self.0, cron::Schedule::Every(_))
    }

    /// The first time after this one; `None` if there is none within five years.
    pub(super) fn next(&self, after: Micros, zone: &TimeZone) -> Option<Micros> {
        let second = after.div_euclid(seconds(1));
        match &self.0 {
            cron::Schedule::Every(every) => seconds(second).checked_add(seconds(*every)),
            cron::Schedule::Fields(fields) => next(fields, second, zone).map(seconds),
        }
    }
}

fn next(fields: &Fields, after: i64, zone: &TimeZone) -> Option<i64> {
    let after = Timestamp::from_second(after).ok()?;
    let start = after.to_zoned(zone.clone());
    let year_max = start.year().saturating_add(YEARS_MAX);
    // From the beginning of the next minute on. Zones are off by whole minutes, but were not always.
    let step = 60 - i64::from(start.second());
    let mut at = start.checked_add(step.seconds()).ok()?;
    loop {
        if at.year() > year_max {
            return None;
        }
        at = if !has(fields.months, at.month()) {
            let month = at.date().first_of_month().checked_add(1.month()).ok()?;
            begin(month, zone)?
        } else if !allows_day(fields, &at) {
            begin(at.date().tomorrow().ok()?, zone)?
        } else if !has(fields.hours, at.hour()) {
            let step = 3600 - i64::from(at.minute()) * 60 - i64::from(at.second());
            at.checked_add(step.seconds()).ok()?
        } else if !has(fields.minutes, at.minute()) {
            at.checked_add((60 - i64::from(at.second())).seconds())
                .ok()?
        } else {
            return Some(at.timestamp().as_second());
        };
    }
}

fn allows_day(fields: &Fields, at: &Zoned) -> bool {
    let day = has(fields.days, at.day());
    let weekday = has(fields.weekdays, at.weekday().to_sunday_zero_offset());
    if fields.any_day {
        day && weekday
    } else {
        day || weekday
    }
}

/// The first moment of a day.
fn begin(date: Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_zoned(zone.clone()).ok()
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron_job::zone::find;
    use agent_runtime::timestamp::{parse, time};
    use proptest::prelude::*;

    /// The next so many times.
    fn times(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), find(zone).unwrap());
        let mut at = parse(after).unwrap();
        let mut times = Vec::new();
        while times.len() < count
            && let Some(next) = schedule.next(at, &zone)
        {
            assert!(next > at, "{next} after {at}");
            times.push(time(next));
            at = next;
        }
        times
    }

    #[test]
    fn fields_names_ranges_and_steps_are_followed() {
        for (schedule, after, expected) in [
            (
                "* * * * *",
                "2026-01-01T10:00:00Z",
                ["2026-01-01T10:01:00Z", "2026-01-01T10:02:00Z"],
            ),
            (
                "* * * * *",
                "2026-01-01T09:59:59.5Z",
                ["2026-01-01T10:00:00Z", "2026-01-01T10:01:00Z"],
            ),
            (
                "*/20 * * * ?",
                "2026-01-01T10:30:00Z",
                ["2026-01-01T10:40:00Z", "2026-01-01T11:00:00Z"],
            ),
            (
                "5/25 10 * * *",
                "2026-01-01T10:30:00Z",
                ["2026-01-01T10:55:00Z", "2026-01-02T10:05:00Z"],
            ),
            (
                "0 0 1 JAN-mar *",
                "2026-02-15T00:00:00Z",
                ["2026-03-01T00:00:00Z", "2027-01-01T00:00:00Z"],
            ),
            (
                "0 9 * * Mon,fri",
                "2026-01-01T10:00:00Z",
                ["2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z"],
            ),
            (
                "30 6-16/4 * * 1-5",
                "2026-01-02T14:30:00Z",
                ["2026-01-05T06:30:00Z", "2026-01-05T10:30:00Z"],
            ),
            (
                "0 0 29 2 *",
                "2026-01-01T00:00:00Z",
                ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
            ),
            // Either field of days, unless one is a star; a star with a step is none.
            (
                "0 0 13 * 5",
                "2026-02-07T00:00:00Z",
                ["2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z"],
            ),
            (
                "0 0 */9 * 0",
                "2026-01-02T00:00:00Z",
                ["2026-01-04T00:00:00Z", "2026-01-10T00:00:00Z"],
            ),
            (
                "0 0 */1 * 0",
                "2026-01-02T00:00:00Z",
                ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
            ),
            (
                "@yearly",
                "2026-01-01T00:00:00Z",
                ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"],
            ),
            (
                "@monthly",
                "2026-01-31T00:00:00Z",
                ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"],
            ),
            (
                "@weekly",
                "2026-01-01T00:00:00Z",
                ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"],
            ),
            (
                "@midnight",
                "2026-01-01T00:00:00Z",
                ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"],
            ),
            (
                "@hourly",
                "2026-01-01T23:10:00Z",
                ["2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z"],
            ),
            (
                "@every 90s",
                "2026-01-01T00:00:10.7Z",
                ["2026-01-01T00:01:40Z", "2026-01-01T00:03:10Z"],
            ),
            (
                "@every 1.5h",
                "2026-01-01T00:00:00Z",
                ["2026-01-01T01:30:00Z", "2026-01-01T03:00:00Z"],
            ),
            (
                "@every 1ms",
                "2026-01-01T00:00:00Z",
                ["2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"],
            ),
        ] {
            assert_eq!(times(schedule, "UTC", after, 2), expected, "{schedule}");
        }
    }

    #[test]
    fn wall_clocks_that_leap_skip_and_those_that_go_back_repeat() {
        // New York leaps from 2:00 to 3:00 on 8 March and falls back from 2:00 to 1:00 on 1 November 2026.
        let york = |schedule, after, count| times(schedule, "America/New_York", after, count);
        let night = york("30 2 * * *", "2026-03-07T00:00:00Z", 2);
        assert_eq!(night, ["2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"]);
        let twice = york("30 1 * * *", "2026-11-01T00:00:00Z", 3);
        assert_eq!(
            twice,
            [
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:30:00Z",
                "2026-11-02T06:30:00Z"
            ]
        );
        let hourly = york("0 * * * *", "2026-03-08T06:00:00Z", 2);
        assert_eq!(hourly, ["2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"]);
        // Half an hour on Lord Howe Island, from 2:00 to 2:30 on 4 October 2026.
        let howe = times(
            "15,45 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03T15:00:00Z",
            3,
        );
        assert_eq!(
            howe,
            [
                "2026-10-03T15:15:00Z",
                "2026-10-03T15:45:00Z",
                "2026-10-03T16:15:00Z"
            ]
        );
        // Midnight is leapt over in Beirut on 29 March 2026: that day has no run at midnight.
        let beirut = times("0 0 * * *", "Asia/Beirut", "2026-03-27T23:00:00Z", 2);
        assert_eq!(beirut, ["2026-03-29T21:00:00Z", "2026-03-30T21:00:00Z"]);
        // Nepal is off by three quarters of an hour.
        assert_eq!(
            times("0 6 * * *", "Asia/Kathmandu", "2026-01-01T00:00:00Z", 1),
            ["2026-01-01T00:15:00Z"]
        );
    }

    #[test]
    fn what_never_comes_is_given_up() {
        for schedule in ["0 0 31 2 *", "0 0 30 feb *", "59 23 31 4,6,9,11 *"] {
            assert_eq!(
                times(schedule, "UTC", "2026-01-01T00:00:00Z", 1),
                Vec::<String>::new()
            );
        }
        let ages = Schedule::parse("@every 2562047h").unwrap();
        assert!(ages.next(0, &TimeZone::UTC).is_some());
        assert_eq!(ages.next(i64::MAX, &TimeZone::UTC), None);
        let minutes = Schedule::parse("* * * * *").unwrap();
        for far in [i64::MAX, i64::MIN] {
            assert_eq!(minutes.next(far, &TimeZone::UTC), None);
        }
    }

    #[test]
    fn bad_schedules_say_what_is_wrong() {
        for (bad, message) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            (
                "* * * * * *",
                "expected exactly 5 fields, found 6: [* * * * * *]",
            ),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            (
                "5-1 * * * *",
                "beginning of range (5) beyond end of range (1): 5-1",
            ),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("@never", "unrecognized descriptor: @never"),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
            (
                "@every 99999999999999h",
                "failed to parse duration @every 99999999999999h: time: invalid duration \"99999999999999h\"",
            ),
        ] {
            assert_eq!(Schedule::parse(bad), Err(message.to_owned()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[-0-9*/,?@a-z .]{0,40}|(@every [0-9.hmsnu]{0,30})", at in -4_000_000_000i64..40_000_000_000) {
            if let Ok(schedule) = Schedule::parse(&text) {
                let at = seconds(at);
                let next = schedule.next(at, &TimeZone::UTC);
                prop_assert!(next.is_none_or(|next| next > at));
            }
        }

        #[test]
        fn the_next_time_is_the_first_that_fits(minute in 0u32..60, step in 1u32..24, start in 1_767_225_600i64..1_798_761_600, zone in prop::sample::select(vec!["UTC", "America/New_York", "Australia/Lord_Howe", "Europe/Berlin", "America/Havana"])) {
            let schedule = Schedule::parse(&format!("{minute} */{step} * * *")).unwrap();
            let zone = find(zone).unwrap();
            let fits = |second: i64| {
                let at = Timestamp::from_second(second).unwrap().to_zoned(zone.clone());
                i64::from(at.minute()) == i64::from(minute) && (at.hour() as u32).is_multiple_of(step)
            };
            let mut first = (start / 60 + 1) * 60;
            while !fits(first) {
                first += 60;
            }
            prop_assert_eq!(schedule.next(seconds(start), &zone), Some(seconds(first)));
        }
    }
}

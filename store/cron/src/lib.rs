//! The notation of cron schedules, and the messages about wrong ones, which are those of the library that Kubernetes reads
//! schedules with, and the names of time zones. The API server checks with it what the controller will read; when a
//! schedule comes round next is the controller's matter. Architecture invariant: no clock.

mod duration;
mod field;
pub mod zone;

use field::{DAYS, HOURS, MINUTES, MONTHS, WEEKDAYS, field};

/// When something is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// So many seconds after the last time, at least one.
    Every(i64),
    /// Whenever the wall clock shows this.
    Fields(Fields),
}

/// Allowed values, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// From 0 to 59.
    pub minutes: u64,
    /// From 0 to 23.
    pub hours: u64,
    /// From 1 to 31.
    pub days: u64,
    /// From 1 to 12.
    pub months: u64,
    /// From 0, which is Sunday, to 6.
    pub weekdays: u64,
    /// Whether one of the two fields of days leaves the choice to the other. Else a day that either allows will do.
    pub any_day: bool,
}

/// Reads a schedule: five fields, an `@` name, or `@every` with a duration.
pub fn parse(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".into());
    }
    if let Some(every) = text.strip_prefix("@every ") {
        let nanos = duration::parse(every)
            .map_err(|error| format!("failed to parse duration {text}: {error}"))?;
        return Ok(Schedule::Every((nanos / 1_000_000_000).max(1)));
    }
    let text = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        text if text.starts_with('@') => return Err(format!("unrecognized descriptor: {text}")),
        text => text,
    };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else {
        let (count, all) = (fields.len(), fields.join(" "));
        return Err(format!("expected exactly 5 fields, found {count}: [{all}]"));
    };
    let (minutes, hours) = (field(minutes, &MINUTES)?, field(hours, &HOURS)?);
    let (days, months) = (field(days, &DAYS)?, field(months, &MONTHS)?);
    let weekdays = field(weekdays, &WEEKDAYS)?;
    Ok(Schedule::Fields(Fields {
        minutes: minutes.bits,
        hours: hours.bits,
        days: days.bits,
        months: months.bits,
        weekdays: weekdays.bits,
        any_day: days.any || weekdays.any,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn schedules_are_read() {
        for good in [
            "* * * * *",
            "*/5 0-23/2 1,15 JAN-dec sun",
            "@hourly",
            "@every 1h30m",
            "? * * * ?",
            "5/10 * * * *",
            // Parts that are empty do not count.
            "1,,2, * * * *",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let Ok(Schedule::Fields(fields)) = parse("58/1,0 */12 31 feb-Mar sat") else {
            panic!("five fields")
        };
        assert_eq!(fields.minutes, 1 << 58 | 1 << 59 | 1);
        assert_eq!(fields.hours, 1 | 1 << 12);
        assert_eq!(fields.days, 1 << 31);
        assert_eq!((fields.months, fields.weekdays), (0b1100, 1 << 6));
        assert!(!fields.any_day);
    }

    #[test]
    fn a_span_is_of_whole_seconds_and_at_least_one() {
        for (text, seconds) in [
            ("@every 90s", 90),
            ("@every 1.5h", 5400),
            ("@every 1ms", 1),
            ("@every 2s999ms", 2),
            ("@every -5m", 1),
            ("@every 0", 1),
        ] {
            assert_eq!(parse(text), Ok(Schedule::Every(seconds)), "{text}");
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
            (
                "5000000000 * * * *",
                "end of range (5000000000) above maximum (59): 5000000000",
            ),
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
                "99999999999999999999 * * * *",
                "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            // The ends are looked at before the step.
            (
                "60/0 * * * *",
                "beginning of range (60) beyond end of range (59): 60/0",
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
            assert_eq!(parse(bad), Err(message.to_owned()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[-0-9*/,?@a-z .]{0,40}|(@every [-+0-9.hmsnu]{0,30})|\\PC{0,20}") {
            if let Ok(Schedule::Every(seconds)) = parse(&text) {
                prop_assert!(seconds > 0);
            }
        }
    }
}

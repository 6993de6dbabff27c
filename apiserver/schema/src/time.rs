//! Points in time as Kubernetes writes them: RFC 3339, in UTC, to the second (`Time`) or to the
//! microsecond (`MicroTime`). The clock itself is the caller's.

mod duration;
mod layout;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

pub use duration::{duration_text, parse_duration};
pub(crate) use layout::{Layout, read, settled};

/// The zero of Go's times in seconds since 1970: the year 1.
pub(crate) const GO_ZERO: i64 = -62_135_596_800;

/// `Time`: seconds since 1970 as `2026-11-21T02:16:31Z`. Out of range (before the year 0 or after
/// 9999) is clamped, since such a time never comes from a clock.
pub fn now_rfc3339(unix_seconds: i64) -> String {
    let t = date(unix_seconds);
    let mut text = String::with_capacity("2026-11-21T02:16:31Z".len());
    let mut write = |number: u32, digits: u32, after: char| {
        for place in (0..digits).rev() {
            text.extend(char::from_digit(number / 10u32.pow(place) % 10, 10));
        }
        text.push(after);
    };
    write(t.year().unsigned_abs(), 4, '-');
    write(u8::from(t.month()).into(), 2, '-');
    write(t.day().into(), 2, 'T');
    write(t.hour().into(), 2, ':');
    write(t.minute().into(), 2, ':');
    write(t.second().into(), 2, 'Z');
    text
}

/// `MicroTime`: microseconds since 1970 as `2026-11-21T02:16:31.000042Z`.
pub fn now_rfc3339_micro(unix_micros: i64) -> String {
    let mut text = now_rfc3339(unix_micros.div_euclid(1_000_000));
    text.pop();
    text + &format!(".{:06}Z", unix_micros.rem_euclid(1_000_000))
}

/// A point given with its nanoseconds, as a field of this layout has it.
pub(crate) fn text_of(unix_seconds: i64, nanos: u32, layout: Layout) -> String {
    match layout {
        Layout::Seconds => now_rfc3339(unix_seconds),
        Layout::Micros => now_rfc3339_micro_of(unix_seconds, nanos),
    }
}

/// `MicroTime` of a point given with its nanoseconds.
pub(crate) fn now_rfc3339_micro_of(unix_seconds: i64, nanos: u32) -> String {
    let micros = unix_seconds.saturating_mul(1_000_000);
    now_rfc3339_micro(micros.saturating_add(i64::from(nanos / 1000)))
}

/// Seconds since 1970 of an RFC 3339 text (any offset, any fraction); `None` for other text.
pub fn parse(text: &str) -> Option<i64> {
    Some(parse_nanos(text)?.0)
}

/// Seconds since 1970 and nanoseconds of an RFC 3339 text. A time that has no such text in UTC, since it is in another year
/// there, is none: what is stored has to be read again.
pub fn parse_nanos(text: &str) -> Option<(i64, u32)> {
    if let Some(found) = canonical(text) {
        return Some(found);
    }
    let t = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    // Go's format knows only the upper-case letters.
    if text.contains(['t', 'z', ' ']) {
        return None;
    }
    let t = t.checked_to_offset(UtcOffset::UTC)?;
    let has_a_text = (0..=9999).contains(&t.year());
    has_a_text.then(|| (t.unix_timestamp(), t.nanosecond()))
}

/// The same of a text as this module writes it, which nearly all are.
fn canonical(text: &str) -> Option<(i64, u32)> {
    let (point, fraction) = text.as_bytes().split_first_chunk::<19>()?;
    let between = [point[4], point[7], point[10], point[13], point[16]];
    if between != *b"--T::" {
        return None;
    }
    let (year, month, day) = (
        number(&point[..4])?,
        number(&point[5..7])?,
        number(&point[8..10])?,
    );
    let (hour, minute, second) = (
        number(&point[11..13])?,
        number(&point[14..16])?,
        number(&point[17..])?,
    );
    let nanos = match fraction {
        b"Z" => 0,
        [b'.', micros @ .., b'Z'] if micros.len() == 6 => number(micros)? * 1000,
        _ => return None,
    };
    if day == 0 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    Some((days_since_1970(year, month, day) * 86_400 + seconds, nanos))
}

/// A number of few digits; none where one is no digit.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, digit| {
        let is_digit = digit.is_ascii_digit();
        is_digit.then(|| number * 10 + u32::from(digit - b'0'))
    })
}

/// How many days a month has; none where there is no such month.
fn days_in(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => 0,
    }
}

/// Years are counted from March, so that a leap day is the last of its year.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    const UNTIL_1970: i64 = 719_468;
    let year = i64::from(year) - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day - 1);
    let of_era = year * 365 + year / 4 - year / 100 + of_year;
    era * 146_097 + of_era - UNTIL_1970
}

fn date(unix_seconds: i64) -> OffsetDateTime {
    const YEAR_0: i64 = -62_167_219_200;
    const YEAR_9999_END: i64 = 253_402_300_799;
    OffsetDateTime::from_unix_timestamp(unix_seconds.clamp(YEAR_0, YEAR_9999_END))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_short_way_reads_what_the_library_reads(
            (year, month, day) in (0..=9999, 0..=13, 0..=32),
            (hour, minute, second) in (0..=24, 0..=60, 0..=60),
            fraction in "(\\.[0-9]{6})?",
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z");
            let read = OffsetDateTime::parse(&text, &Rfc3339).ok();
            let read = read.map(|t| (t.unix_timestamp(), t.nanosecond()));
            match canonical(&text) {
                // What is rare is left to the library.
                None => prop_assert!(read.is_none() || second == 60, "{}", text),
                found => prop_assert_eq!(found, read, "{}", text),
            }
        }

        #[test]
        fn what_is_settled_is_written_again(
            (year, month, day) in (0..=9999, 0..=13, 0..=32),
            (hour, minute, second) in (0..=24, 0..=60, 0..=60),
            fraction in "(\\.[0-9]{0,7})?",
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z");
            for layout in [Layout::Seconds, Layout::Micros] {
                if let Some((seconds, nanos)) = settled(&text, layout) {
                    prop_assert_eq!(Ok((seconds, nanos)), read(&text, layout));
                    prop_assert_eq!(&text_of(seconds, nanos, layout), &text);
                }
            }
        }

        #[test]
        fn the_short_way_takes_any_text(text in "[0-9T:.Z-]{17,30}|\\PC{0,30}") {
            let _ = canonical(&text);
        }
    }

    #[test]
    fn formats_and_parses() {
        assert_eq!(now_rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(now_rfc3339(1_795_227_391), "2026-11-21T02:16:31Z");
        assert_eq!(now_rfc3339_micro(42), "1970-01-01T00:00:00.000042Z");
        assert_eq!(now_rfc3339_micro(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(now_rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(parse("2026-11-21T02:16:31Z"), Some(1_795_227_391));
        assert_eq!(parse("2026-11-21T03:16:31+01:00"), Some(1_795_227_391));
        assert_eq!(
            parse_nanos("1970-01-01T00:00:01.5Z"),
            Some((1, 500_000_000))
        );
        for bad in [
            "",
            "now",
            "2026-11-21",
            "2026-13-21T02:16:31Z",
            "2026-11-21t02:16:31z",
            // These are in the year 10000 and in the one before 0.
            "9999-12-31T23:59:30-12:00",
            "0000-01-01T00:00:00+00:01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for edge in ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(parse(edge).map(now_rfc3339).as_deref(), Some(edge));
        }
    }
}

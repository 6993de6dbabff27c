//! Points in time as Kubernetes writes them: RFC 3339, in UTC, to the second (`Time`) or to the
//! microsecond (`MicroTime`). The clock itself is the caller's.

mod duration;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

pub use duration::{duration_text, parse_duration};

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

/// `Time` of a point given with its nanoseconds, which it drops.
pub(crate) fn now_rfc3339_of(unix_seconds: i64, _nanos: u32) -> String {
    now_rfc3339(unix_seconds)
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
    let t = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    // Go's format knows only the upper-case letters.
    if text.contains(['t', 'z', ' ']) {
        return None;
    }
    let t = t.checked_to_offset(UtcOffset::UTC)?;
    let has_a_text = (0..=9999).contains(&t.year());
    has_a_text.then(|| (t.unix_timestamp(), t.nanosecond()))
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

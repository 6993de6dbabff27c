//! Kubernetes timestamps: RFC 3339 with seconds (`Time`) or microseconds (`MicroTime`), always UTC.
//!
//! What is written down is told by the wall clock, which somebody may set and which differs from that of other machines. How
//! long something lasts is measured by the other clock of a [`Moment`].

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use tokio::time::Instant;

/// Microseconds since the Unix epoch: the unit in which agents reckon with time.
pub type Micros = i64;

/// The wall clock now. The shells call it; pure code gets the value as an argument.
pub fn now() -> Micros {
    i64::try_from(host::since_1970().as_micros()).unwrap_or(i64::MAX)
}

/// One moment by both clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For what others read.
    pub wall: Micros,
    /// For how long something lasts: nobody sets this one, and it means nothing to other machines.
    pub steady: Instant,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self {
            wall: now(),
            steady: Instant::now(),
        }
    }
}

/// Reads a `Time` or `MicroTime`. `None` for what is not RFC 3339.
pub fn parse(text: &str) -> Option<Micros> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1000).ok()
}

fn moment(micros: Micros) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .to_offset(UtcOffset::UTC)
}

/// `2026-01-02T03:04:05Z`.
pub fn time(micros: Micros) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    moment(micros)
        .format(&format)
        .unwrap_or_else(|_| "1970-01-01T00:00:00Z".into())
}

/// `2026-01-02T03:04:05.000000Z`.
pub fn micro_time(micros: Micros) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    moment(micros)
        .format(&format)
        .unwrap_or_else(|_| "1970-01-01T00:00:00.000000Z".into())
}

/// Whole seconds as [`Micros`]; what is too long to be counted is as long as can be.
pub const fn seconds(seconds: i64) -> Micros {
    seconds.saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_survive_a_round_trip() {
        let micros = parse("2026-11-21T02:16:31.123456Z").unwrap();
        assert_eq!(micro_time(micros), "2026-11-21T02:16:31.123456Z");
        assert_eq!(time(micros), "2026-11-21T02:16:31Z");
        assert_eq!(
            parse("2026-11-21T03:16:31+01:00"),
            parse("2026-11-21T02:16:31Z")
        );
        assert_eq!(parse("yesterday"), None);
    }
}

//! Times as the API writes them.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// Now, cut to what is worth keeping; the one place where this crate's shells read the wall clock.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// `2026-01-02T03:04:05Z`
pub(crate) fn format(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time.to_offset(UtcOffset::UTC)
        .format(format)
        .unwrap_or_default()
}

/// `2026-01-02T03:04:05.000006Z`
pub(crate) fn format_micro(time: OffsetDateTime) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    time.to_offset(UtcOffset::UTC)
        .format(format)
        .unwrap_or_default()
}

/// In UTC, in which it is written; none where it has no year there.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    time.checked_to_offset(UtcOffset::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_can_be_written() {
        let written = |text: &str| parse(text).map(format);
        assert_eq!(
            written("2026-01-02T04:04:05+01:00").as_deref(),
            Some("2026-01-02T03:04:05Z")
        );
        assert_eq!(written("9999-12-31T23:59:30-12:00"), None);
        assert_eq!(written("now"), None);
    }
}

//! Time zones by their names. The data is in the binary, so that every server knows the same zones.

use agent_runtime::timestamp::Micros;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::sync::LazyLock;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of a name, which is written exactly so.
pub(super) fn find(name: &str) -> Result<TimeZone, String> {
    let unknown = || format!("unknown time zone {name}");
    if matches!(name, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    let zone = ZONES.get(name).map_err(|_| unknown())?;
    if zone.iana_name() == Some(name) {
        Ok(zone)
    } else {
        Err(unknown())
    }
}

/// RFC 3339, as the wall clocks of the zone show it.
pub(super) fn local_time(at: Micros, zone: &TimeZone) -> String {
    let Ok(at) = Timestamp::from_microsecond(at) else {
        return String::new();
    };
    let at = at.to_zoned(zone.clone());
    let offset = at.offset().seconds();
    let local = at.datetime().strftime("%Y-%m-%dT%H:%M:%S");
    if offset == 0 {
        return format!("{local}Z");
    }
    let sign = if offset < 0 { '-' } else { '+' };
    let minutes = offset.abs() / 60;
    format!("{local}{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::timestamp::parse;

    #[test]
    fn zones_are_those_of_the_database_and_written_as_there() {
        for (name, shown) in [
            ("UTC", "2026-07-01T12:00:00Z"),
            ("Etc/UTC", "2026-07-01T12:00:00Z"),
            ("Europe/Berlin", "2026-07-01T14:00:00+02:00"),
            ("America/St_Johns", "2026-07-01T09:30:00-02:30"),
        ] {
            let zone = find(name).unwrap();
            assert_eq!(
                local_time(parse("2026-07-01T12:00:00Z").unwrap(), &zone),
                shown
            );
        }
        for name in ["Mars/Olympus", "europe/berlin", "../etc/passwd", "Local"] {
            assert_eq!(find(name), Err(format!("unknown time zone {name}")));
        }
    }
}

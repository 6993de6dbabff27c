//! What the wall clocks of a time zone show.

use agent_runtime::timestamp::Micros;
use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) use cron::zone::find;

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

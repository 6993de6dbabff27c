//! Time zones by their names. The data is in the binary, so that every server knows the same zones.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of a name, which is written exactly so.
///
/// # Errors
/// `unknown time zone` and the name, as Kubernetes says it.
pub fn find(name: &str) -> Result<TimeZone, String> {
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

//! The one place that reads the wall clock.

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    host::since_1970().as_secs() as i64
}

/// Microseconds since 1970.
pub(crate) fn unix_micros() -> i64 {
    host::since_1970().as_micros() as i64
}

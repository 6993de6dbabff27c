//! A member's clocks: virtual time, with an error of its own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use store::env::Clock;
use tokio::time::Instant;

/// Virtual time begins here, milliseconds since 1970: so that a minute begins while a run has its faults.
pub const BEGAN_UNIX_MS: i64 = FIRST_MINUTE_MS - 7_000;
/// The first minute that begins in a run: 2023-11-14 22:14 UTC.
pub const FIRST_MINUTE_MS: i64 = 1_700_000_040_000;

/// One machine's clock.
pub struct SimClock {
    start: Instant,
    /// Parts in a million that it goes too fast.
    drift: i64,
    /// Milliseconds that the wall clock was set off by.
    off: AtomicI64,
}

impl SimClock {
    pub fn new(start: Instant, drift: i64) -> SimClock {
        SimClock {
            start,
            drift,
            off: AtomicI64::new(0),
        }
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, ms: i64) {
        self.off.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn unix_ms(&self) -> i64 {
        let since = i64::try_from(self.monotonic().as_millis()).unwrap_or(0);
        BEGAN_UNIX_MS + since + self.off.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        let true_time = self.start.elapsed();
        let nanos = i64::try_from(true_time.as_nanos()).unwrap_or(0);
        // Never before zero: it starts when the run does.
        Duration::from_nanos((nanos + nanos / 1_000_000 * self.drift).max(0) as u64)
    }
}

//! What a priority level wants over time: the average of the seats in use and waited for, how far they stray from it, and
//! their highest point. Pure; time comes in.

use super::shares;

/// How much of an old high stays with each period: a level that was busy keeps its seats for a while.
const SMOOTHING: f64 = 0.977;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    now: u32,
    since_ns: u64,
    begun_ns: u64,
    highest: u32,
    /// Integrals over the period, in seats and seats squared by nanoseconds.
    sum: f64,
    squares: f64,
    smoothed: f64,
}

/// One period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) average: f64,
    pub(crate) deviation: f64,
    pub(crate) demand: shares::Demand,
}

impl Meter {
    pub(crate) fn set(&mut self, now_ns: u64, seats: u32) {
        let elapsed = now_ns.saturating_sub(self.since_ns) as f64;
        let before = f64::from(self.now);
        self.sum += before * elapsed;
        self.squares += before * before * elapsed;
        self.since_ns = self.since_ns.max(now_ns);
        self.now = seats;
        self.highest = self.highest.max(seats);
    }

    /// Ends the period and begins the next.
    pub(crate) fn turn(&mut self, now_ns: u64) -> Seen {
        self.set(now_ns, self.now);
        let length = (now_ns.saturating_sub(self.begun_ns) as f64).max(1.0);
        let average = self.sum / length;
        let deviation = (self.squares / length - average * average).max(0.0).sqrt();
        let envelope = average + deviation;
        let slow = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope;
        let smoothed = envelope.max(slow);
        let seen = Seen {
            average,
            deviation,
            demand: shares::Demand {
                highest: self.highest,
                smoothed,
            },
        };
        *self = Meter {
            now: self.now,
            since_ns: now_ns,
            begun_ns: now_ns,
            highest: self.now,
            smoothed,
            ..Meter::default()
        };
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_counts_how_long() {
        let mut meter = Meter::default();
        meter.set(0, 10);
        meter.set(250, 0);
        meter.set(500, 10);
        meter.set(750, 0);
        let seen = meter.turn(1_000);
        assert_eq!((seen.average, seen.deviation), (5.0, 5.0));
        assert_eq!((seen.demand.highest, seen.demand.smoothed), (10, 10.0));
        // Silence: what was wanted is forgotten slowly, and the highest point at once.
        let seen = meter.turn(2_000);
        assert_eq!((seen.average, seen.demand.highest), (0.0, 0));
        assert!(seen.demand.smoothed > 9.0 && seen.demand.smoothed < 10.0);
    }
}

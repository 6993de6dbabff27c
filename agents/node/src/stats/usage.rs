//! Measurements of one container or of the node, and the rate that two of them make.

use std::time::Duration;

use time::OffsetDateTime;

use crate::runtime::{Identity, SANDBOX};

/// Between measurements that are closer the counters say little.
const WINDOW_MIN: Duration = Duration::from_secs(1);
/// A container that began this short before its first measurement is averaged since then.
const FIRST_WINDOW_MIN: Duration = Duration::from_secs(2);
const FIRST_WINDOW_MAX: Duration = Duration::from_secs(60);

/// What a container had used at a time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Used {
    /// Identifier within the runtime.
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) started_at: OffsetDateTime,
    pub(crate) at: OffsetDateTime,
    /// Since the container began.
    pub(crate) cpu_nanos: u64,
    pub(crate) memory: Memory,
    /// Of a sandbox with a network of its own.
    pub(crate) network: Option<Network>,
    /// Where it is known without a second measurement.
    pub(crate) rate: Option<Rate>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) received_bytes: u64,
    pub(crate) receive_errors: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) send_errors: u64,
}

/// Processor time per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) nanocores: u64,
    pub(crate) window: Duration,
}

/// The last measurement with its rate, once there is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    pub(crate) used: Used,
    pub(crate) rate: Option<Rate>,
}

impl Measured {
    pub(crate) fn is_sandbox(&self) -> bool {
        self.used.identity.container == SANDBOX
    }
}

/// The measurements of one container that matter: the last one and what it was compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Series {
    last: Option<Measured>,
}

impl Series {
    pub(crate) fn push(&mut self, used: Used) {
        let before = self.last.take();
        let rate = used.rate.or_else(|| match &before {
            Some(before) => {
                let (then, now) = (&before.used, &used);
                let between = rate(then.at, then.cpu_nanos, now.at, now.cpu_nanos, WINDOW_MIN);
                // What was true a moment ago still is.
                between.or(before.rate.filter(|_| now.at - then.at < WINDOW_MIN))
            }
            None => first_rate(&used),
        });
        self.last = Some(Measured { used, rate });
    }

    pub(crate) fn measured(&self) -> Option<Measured> {
        self.last.clone()
    }
}

/// The counter of a container began at zero when it did.
fn first_rate(used: &Used) -> Option<Rate> {
    let since = rate(
        used.started_at,
        0,
        used.at,
        used.cpu_nanos,
        FIRST_WINDOW_MIN,
    )?;
    (since.window <= FIRST_WINDOW_MAX).then_some(since)
}

/// None where the clock or the counter went back, or where too little time is between.
fn rate(
    then: OffsetDateTime,
    cpu_then: u64,
    now: OffsetDateTime,
    cpu_now: u64,
    window_min: Duration,
) -> Option<Rate> {
    let window = Duration::try_from(now - then).ok()?;
    if window < window_min {
        return None;
    }
    let spent = u128::from(cpu_now.checked_sub(cpu_then)?);
    let nanocores = spent * 1_000_000_000 / window.as_nanos().max(1);
    let nanocores = u64::try_from(nanocores).unwrap_or(u64::MAX);
    Some(Rate { nanocores, window })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn used(started: u64, millis: u64, cpu_millis: u64) -> Used {
        Used {
            id: "c".into(),
            identity: Identity {
                pod_name: "p".into(),
                pod_namespace: "d".into(),
                pod_uid: "u".into(),
                container: "c".into(),
                attempt: 0,
            },
            started_at: at(started),
            at: at(millis),
            cpu_nanos: cpu_millis * 1_000_000,
            memory: Memory::default(),
            network: None,
            rate: None,
        }
    }

    fn rates(measurements: &[(u64, u64, u64)]) -> Vec<Option<(u64, u128)>> {
        let mut series = Series::default();
        let one = |(started, millis, cpu): &(u64, u64, u64)| {
            series.push(used(*started, *millis, *cpu));
            let rate = series.measured()?.rate?;
            Some((rate.nanocores / 1_000_000, rate.window.as_millis()))
        };
        measurements.iter().map(one).collect()
    }

    #[test]
    fn rates_are_of_two_measurements_or_of_the_first_since_the_start() {
        // Long after the start the first says nothing.
        assert_eq!(
            rates(&[(0, 100_000, 5_000), (0, 110_000, 7_500)]),
            [None, Some((250, 10_000))]
        );
        assert_eq!(rates(&[(0, 5_000, 1_000)]), [Some((200, 5_000))]);
        assert_eq!(rates(&[(0, 1_500, 1_000)]), [None]);
        // Two requests within a second see the same rate.
        assert_eq!(
            rates(&[(0, 10_000, 1_000), (0, 10_500, 1_400)])[1],
            Some((100, 10_000))
        );
    }

    #[test]
    fn clocks_and_counters_that_go_back_make_no_rate() {
        assert_eq!(rates(&[(0, 100_000, 5_000), (0, 110_000, 4_000)])[1], None);
        assert_eq!(rates(&[(0, 100_000, 5_000), (0, 90_000, 6_000)])[1], None);
        assert_eq!(rates(&[(0, 100_000, 5_000), (0, 99_999, 6_000)])[1], None);
    }
}

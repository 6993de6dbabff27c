//! Many times in few numbers: plain functions.

use std::time::Duration;

/// A write that was acknowledged. Times are those of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The member whose client it was.
    pub home: usize,
    pub called: Duration,
    pub at: Duration,
}

/// From a moment to the first acknowledgement of a write that was asked for after it.
pub fn first_after(acks: &[Ack], moment: Duration) -> Option<Duration> {
    let later = acks.iter().filter(|ack| ack.called >= moment);
    Some(later.map(|ack| ack.at).min()? - moment)
}

/// The longest time without an acknowledgement that reaches into the time between these two.
pub fn longest_gap(acks: &[Ack], from: Duration, until: Duration) -> Option<Duration> {
    let mut times: Vec<Duration> = acks.iter().map(|ack| ack.at).collect();
    times.sort_unstable();
    let before = times.iter().rev().find(|at| **at <= from).copied()?;
    let within = times.iter().filter(|at| **at > from && **at < until);
    let points: Vec<Duration> = std::iter::once(before)
        .chain(within.copied())
        .chain([until])
        .collect();
    points.windows(2).map(|pair| pair[1] - pair[0]).max()
}

/// The smallest that at least this share of them does not exceed. Nothing where there are none.
pub fn quantile(values: &[Duration], share: f64) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// What times should not exceed.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    pub median: Duration,
    pub p99: Option<Duration>,
}

/// In one line: how many, median, 99th percentile, extremes, and whether that is what is aimed at.
pub fn summary(what: &str, values: &[Duration], aim: Option<Aim>) -> String {
    let of = |share| quantile(values, share).unwrap_or_default();
    let (median, p99) = (of(0.5), of(0.99));
    let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    let mut line = format!(
        "{what}: median {}, p99 {}, {} to {}, of {}",
        ms(median),
        ms(p99),
        ms(of(0.0)),
        ms(of(1.0)),
        values.len()
    );
    if let Some(aim) = aim {
        let met = median <= aim.median && aim.p99.is_none_or(|most| p99 <= most);
        let p99 = aim
            .p99
            .map_or(String::new(), |most| format!(", p99 {}", ms(most)));
        let word = if met { "met" } else { "missed" };
        line.push_str(&format!(" (aim: median {}{p99}: {word})", ms(aim.median)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn ack(called: u64, at: u64) -> Ack {
        Ack {
            home: 0,
            called: ms(called),
            at: ms(at),
        }
    }

    #[test]
    fn an_answer_that_was_on_its_way_does_not_end_a_failover() {
        let acks = [ack(0, 4), ack(98, 101), ack(100, 900), ack(110, 890)];
        assert_eq!(first_after(&acks, ms(100)), Some(ms(790)));
        assert_eq!(first_after(&acks, ms(111)), None);
    }

    #[test]
    fn a_gap_begins_before_the_moment_and_may_last_to_the_end() {
        let acks = [
            ack(0, 10),
            ack(0, 95),
            ack(0, 160),
            ack(0, 170),
            ack(0, 400),
        ];
        assert_eq!(longest_gap(&acks, ms(100), ms(180)), Some(ms(65)));
        assert_eq!(longest_gap(&acks, ms(100), ms(300)), Some(ms(130)));
        assert_eq!(longest_gap(&acks, ms(5), ms(300)), None, "nothing before");
    }

    #[test]
    fn quantiles_are_values() {
        let values: Vec<Duration> = (1..=100).rev().map(ms).collect();
        assert_eq!(quantile(&values, 0.5), Some(ms(50)));
        assert_eq!(quantile(&values, 0.99), Some(ms(99)));
        assert_eq!(quantile(&values, 1.0), Some(ms(100)));
        assert_eq!(quantile(&values, 0.0), Some(ms(1)));
        assert_eq!(quantile(&values[..50], 0.99), Some(ms(100)));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn an_aim_is_met_or_missed() {
        let aim = |p99| {
            let p99 = Some(ms(p99));
            Some(Aim { median: ms(5), p99 })
        };
        let values = [ms(3), ms(5), ms(9)];
        assert!(summary("x", &values, aim(9)).ends_with("(aim: median 5 ms, p99 9 ms: met)"));
        assert!(summary("x", &values, aim(8)).ends_with("missed)"));
        let plain = summary("x", &values, None);
        assert_eq!(plain, "x: median 5 ms, p99 9 ms, 3 ms to 9 ms, of 3");
    }
}

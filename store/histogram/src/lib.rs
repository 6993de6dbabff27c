//! Counts of values by their order of magnitude, as openraft takes them of its batches and latencies.
//!
//! openraft needs the crate `base2histogram`, which makes tables for sixteen precisions at the first value that it counts and
//! keeps them: 32 MB, of which openraft uses 2 kB. That was a third of the memory of an idle server. This crate has its
//! name and what openraft calls of it, and no tables.

use std::fmt;
use std::marker::PhantomData;

/// Values that have so many bits in common, from the first that is set, are counted together.
const BITS: u32 = 3;
/// Buckets for values with the same first bit.
const GROUP: u64 = 1 << (BITS - 1);
const BUCKETS: usize = (GROUP * (u64::BITS as u64 + 2 - BITS as u64)) as usize;

/// How often which values came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Vec<u64>,
    total: u64,
    data: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Histogram<T> {
        Histogram::new()
    }
}

impl<T> Histogram<T> {
    /// One that has counted nothing.
    pub fn new() -> Histogram<T> {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            data: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that came so many times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = &mut self.counts[bucket_of(value)];
        *bucket = bucket.saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// About the value that this share of all values does not exceed; 0 where there are none.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            let upto = below.saturating_add(*count);
            if *count > 0 && upto >= rank {
                return within(bucket, rank - below, *count);
            }
            below = upto;
        }
        0
    }

    /// The shares that are told of.
    pub fn percentile_stats(&self) -> PercentileStats {
        let at = |share| self.percentile(share);
        PercentileStats {
            samples: self.total,
            p0_1: at(0.001),
            p1: at(0.01),
            p5: at(0.05),
            p10: at(0.1),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
        }
    }
}

fn bucket_of(value: u64) -> usize {
    if value < GROUP {
        return value as usize;
    }
    let group = u64::from(u64::BITS - value.leading_zeros() - BITS);
    let place = (value >> group) & (GROUP - 1);
    (GROUP + group * GROUP + place) as usize
}

/// The least value of a bucket.
fn least_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match bucket.checked_sub(GROUP) {
        None => bucket,
        Some(above) => (GROUP + above % GROUP) << (above / GROUP),
    }
}

/// Where the value of a rank among the `count` of a bucket is, were they spread evenly.
fn within(bucket: usize, rank: u64, count: u64) -> u64 {
    let least = least_of(bucket);
    let end = match bucket + 1 {
        BUCKETS => u64::MAX,
        next => least_of(next),
    };
    let share = u128::from(end - least) * u128::from(rank.saturating_sub(1)) / u128::from(count);
    least + share as u64
}

/// Values at some places of the order of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many there are.
    pub samples: u64,
    /// At a thousandth of them.
    pub p0_1: u64,
    /// At a hundredth.
    pub p1: u64,
    /// At a twentieth.
    pub p5: u64,
    /// At a tenth.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// What nine of ten do not exceed.
    pub p90: u64,
    /// What 99 of a hundred do not exceed.
    pub p99: u64,
    /// What 999 of a thousand do not exceed.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[samples: {}, P0.1: {}, P1: {}, P5: {}, P10: {}, P50: {}, P90: {}, P99: {}, P99.9: {}]",
            self.samples,
            self.p0_1,
            self.p1,
            self.p5,
            self.p10,
            self.p50,
            self.p90,
            self.p99,
            self.p99_9
        )
    }
}

/// Several histograms, one below the other.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// An empty one.
    pub fn new() -> AsciiChart {
        AsciiChart::default()
    }

    /// With one more.
    #[must_use]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> AsciiChart {
        self.lines.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.lines.iter();
        lines.try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_bucket_that_begins_at_or_below_it() {
        let near = (0..64).flat_map(|bit| [0, 1, 2, 3].map(|near| (1_u64 << bit) + near));
        for value in near.chain([0, 7, 9, 1_000_000, u64::MAX - 1, u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS && least_of(bucket) <= value, "{value}");
            assert!(
                bucket + 1 == BUCKETS || value < least_of(bucket + 1),
                "{value}"
            );
        }
        assert_eq!((BUCKETS, bucket_of(u64::MAX)), (252, 251));
        assert_eq!([12, 14, 1024].map(bucket_of), [10, 11, 36]);
    }

    #[test]
    fn percentiles_are_right_to_an_eighth() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        (1..=1_000).for_each(|value| histogram.record(value));
        histogram.record_n(100_000, 1);
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1_001);
        for (found, wanted) in [(stats.p10, 100), (stats.p50, 500), (stats.p90, 900)] {
            assert!(
                (wanted * 7 / 8..=wanted * 9 / 8).contains(&found),
                "{found}"
            );
        }
        assert!(histogram.percentile(1.0) > 80_000);
    }

    #[test]
    fn counts_never_overflow() {
        let mut histogram = Histogram::<()>::default();
        histogram.record_n(u64::MAX, u64::MAX);
        histogram.record_n(u64::MAX, 2);
        assert!(histogram.percentile(0.5) >= least_of(BUCKETS - 1));
        let chart = AsciiChart::new().add("all", histogram).to_string();
        assert!(chart.starts_with("all: [samples: 18446744073709551615"));
    }
}

//! When pods were made and when they had a node, and what follows from it. Pure but for the counters.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use crate::median;
use crate::store::load::Latencies;

/// Of each measured pod, when it was asked for and when a watch saw it bound: milliseconds and a bit since the beginning.
pub(super) struct Times {
    began: Instant,
    /// In tens of microseconds; 0 is not yet.
    created: Vec<AtomicU32>,
    bound: Vec<AtomicU32>,
    count: AtomicUsize,
}

const TICKS_PER_SECOND: f64 = 100_000.0;

impl Times {
    pub(super) fn of(pods: usize) -> Times {
        let empty = || (0..pods).map(|_| AtomicU32::new(0)).collect();
        Times {
            began: Instant::now(),
            created: empty(),
            bound: empty(),
            count: AtomicUsize::new(0),
        }
    }

    fn now(&self) -> u32 {
        let ticks = self.began.elapsed().as_micros() / 10;
        u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
    }

    pub(super) fn create(&self, pod: usize) {
        if let Some(created) = self.created.get(pod) {
            created.store(self.now(), Ordering::Relaxed);
        }
    }

    pub(super) fn bind(&self, pod: usize) {
        let Some(bound) = self.bound.get(pod) else {
            return;
        };
        if bound.swap(self.now(), Ordering::Relaxed) == 0 {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn bound(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Of the pods that were bound; the latency counts only where pods were made while others were bound.
    pub(super) fn rates(&self, from_creation: bool) -> Rates {
        let read = |ticks: &AtomicU32| match ticks.load(Ordering::Relaxed) {
            0 => None,
            ticks => Some(f64::from(ticks) / TICKS_PER_SECOND),
        };
        let bound: Vec<f64> = self.bound.iter().filter_map(read).collect();
        let waits = self.created.iter().zip(&self.bound).filter_map(|(c, b)| {
            let wait = (read(b)? - read(c)?).max(0.0) * 1e6;
            Some(wait as u32)
        });
        let waits = match from_creation {
            true => waits.collect(),
            false => Vec::new(),
        };
        Rates::of(bound, Latencies::new(waits))
    }
}

/// Pods a second and how long they waited.
#[derive(Debug)]
pub(super) struct Rates {
    /// Median of whole seconds, as Kubernetes samples; not a number where there are too few of them.
    pub(super) median: f64,
    /// From the first pod to the last.
    pub(super) overall: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) samples: usize,
}

impl Rates {
    /// From the seconds at which pods were bound.
    fn of(mut bound: Vec<f64>, waits: Latencies) -> Rates {
        bound.sort_by(f64::total_cmp);
        let samples = samples(&bound);
        let overall = match (bound.first(), bound.last()) {
            (Some(first), Some(last)) if last > first => (bound.len() - 1) as f64 / (last - first),
            _ => f64::NAN,
        };
        Rates {
            median: median(&samples),
            overall,
            p50_ms: waits.quantile_ms(0.5),
            p99_ms: waits.quantile_ms(0.99),
            samples: samples.len(),
        }
    }
}

/// Pods of each whole second since the first one. A second without any counts with the one after it, as Kubernetes counts,
/// and the rest at the end not at all.
fn samples(bound: &[f64]) -> Vec<f64> {
    let Some(first) = bound.first() else {
        return Vec::new();
    };
    let mut counts: Vec<usize> = Vec::new();
    for at in bound {
        let second = (at - first) as usize;
        counts.resize(counts.len().max(second + 1), 0);
        counts[second] += 1;
    }
    counts.pop();
    let mut empty = 0;
    let mut samples = Vec::new();
    for count in counts {
        match count {
            0 => empty += 1,
            count => {
                samples.push(count as f64 / f64::from(empty + 1));
                empty = 0;
            }
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_samples_and_empty_ones_count_with_the_next() {
        let bound = [0.0, 0.5, 0.9, 1.0, 1.9, 4.1, 4.2, 4.3, 5.0];
        assert_eq!(samples(&bound), [3.0, 2.0, 1.0]);
        assert!(samples(&[]).is_empty() && samples(&[7.0, 7.9]).is_empty());
    }

    #[test]
    fn rates_are_of_what_was_bound() {
        let times = Times::of(4);
        for pod in [0, 1, 2] {
            times.create(pod);
            times.bind(pod);
            times.bind(pod);
        }
        times.bind(9);
        assert_eq!(times.bound(), 3);
        let rates = times.rates(true);
        assert!(rates.p50_ms < 1_000.0 && rates.median.is_nan() && rates.samples == 0);
        assert!(times.rates(false).p50_ms.is_nan());
        let even = Rates::of(vec![3.0, 1.0, 2.0], Latencies::default());
        assert_eq!((even.overall, even.median), (1.0, 1.0));
    }
}

//! How long each plugin of admission takes. Some thirty of them are asked with every write, so their handles are looked up
//! once, and each thread counts by itself: at one place the processors would wait for each other's caches. What they have
//! counted is put together when somebody asks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::local::LocalHistogram;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

use super::calls::STEP_BUCKETS;
use crate::admission::Operation;

/// Room for as many plugins; one beyond them is looked up each time.
const PLUGINS_MAX: usize = 64;
const OPERATIONS: usize = 4;
const STEPS: usize = 2;

const PLACES: usize = PLUGINS_MAX * OPERATIONS * STEPS;
/// More threads than these share their counts.
const SHARDS: usize = 8;

#[derive(Clone)]
pub(crate) struct Plugins {
    durations: HistogramVec,
    passed: Arc<Passed>,
}

/// Of those that let a write pass.
#[derive(Default)]
struct Passed([Shard; SHARDS]);

/// What a thread has counted, by plugin, operation and step. No two are in one line of a processor's cache.
#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<Vec<Option<LocalHistogram>>>);

thread_local! {
    /// Where this thread counts.
    static SHARD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<LocalHistogram>>> {
        // Counts are right after a panic, but for the one that it came with.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passed {
    fn observe(&self, at: usize, seconds: f64, look_up: impl FnOnce() -> Histogram) {
        let mut counts = self.0[SHARD.with(|shard| *shard)].lock();
        if counts.len() <= at {
            counts.resize_with(at + 1, || None);
        }
        let local = counts[at].get_or_insert_with(|| look_up().local());
        local.observe(seconds);
    }

    fn put_together(&self) {
        for shard in &self.0 {
            let counts = shard.lock();
            counts.iter().flatten().for_each(LocalHistogram::flush);
        }
    }
}

impl Collector for Plugins {
    fn desc(&self) -> Vec<&Desc> {
        self.durations.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.passed.put_together();
        self.durations.collect()
    }
}

/// A plugin at work: its place among all of them, its name, and what it is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) place: usize,
    pub(crate) name: &'static str,
    /// `admit` or `validate`.
    pub(crate) step: &'static str,
    pub(crate) operation: Operation,
}

impl Plugins {
    pub(super) fn new(registry: &Registry) -> Plugins {
        const VALID: &str = "names and labels are constants, and registered once";
        let options = HistogramOpts::new(
            "apiserver_admission_controller_admission_duration_seconds",
            "Time that a plugin of admission takes for a write, and whether it refuses it.",
        );
        let labels = ["name", "type", "operation", "rejected"];
        let options = options.buckets(STEP_BUCKETS.to_vec());
        let durations = HistogramVec::new(options, &labels).expect(VALID);
        let passed = Arc::default();
        let plugins = Plugins { durations, passed };
        registry.register(Box::new(plugins.clone())).expect(VALID);
        plugins
    }

    pub(crate) fn took(&self, asked: Asked, rejected: bool, took: Duration) {
        let Asked {
            place,
            name,
            step,
            operation,
        } = asked;
        let look_up = |rejected: &str| {
            let labels = [name, step, operation.as_str(), rejected];
            self.durations.with_label_values(&labels)
        };
        let at = (place * OPERATIONS + operation as usize) * STEPS + usize::from(step == "admit");
        let seconds = took.as_secs_f64();
        match (rejected, at < PLACES) {
            (true, _) => look_up("true").observe(seconds),
            (false, true) => self.passed.observe(at, seconds, || look_up("false")),
            (false, false) => look_up("false").observe(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn what_threads_have_counted_is_put_together() {
        let registry = Registry::new();
        let plugins = Plugins::new(&registry);
        let asked = Asked {
            place: 3,
            name: "A",
            step: "admit",
            operation: Operation::Create,
        };
        let counted = || {
            let families = registry.gather();
            let histogram = families[0].get_metric()[0].get_histogram();
            (histogram.get_sample_count(), histogram.get_sample_sum())
        };
        // Asked in between, none is lost or counted twice.
        for round in 1..=3_u32 {
            std::thread::scope(|scope| {
                for _ in 0..2 * SHARDS {
                    scope.spawn(|| plugins.took(asked, false, Duration::from_millis(500)));
                }
            });
            let all = round * 2 * SHARDS as u32;
            assert_eq!(counted(), (u64::from(all), 0.5 * f64::from(all)));
        }
    }

    #[test]
    fn plugins_are_told_apart_and_so_are_their_refusals() {
        let registry = Registry::new();
        let plugins = Plugins::new(&registry);
        let asked =
            |place: usize, name: &'static str, step: &'static str, operation: Operation| Asked {
                place,
                name,
                step,
                operation,
            };
        let took = Duration::from_millis(1);
        plugins.took(asked(0, "A", "admit", Operation::Create), false, took);
        plugins.took(asked(0, "A", "validate", Operation::Create), false, took);
        plugins.took(asked(0, "A", "validate", Operation::Delete), false, took);
        plugins.took(asked(1, "B", "admit", Operation::Create), false, took);
        plugins.took(asked(1, "B", "admit", Operation::Create), true, took);
        plugins.took(asked(1_000, "C", "admit", Operation::Connect), false, took);
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        let name = "apiserver_admission_controller_admission_duration_seconds_count";
        for (plugin, operation, rejected, step) in [
            ("A", "CREATE", false, "admit"),
            ("A", "CREATE", false, "validate"),
            ("A", "DELETE", false, "validate"),
            ("B", "CREATE", false, "admit"),
            ("B", "CREATE", true, "admit"),
            ("C", "CONNECT", false, "admit"),
        ] {
            let line = format!(
                "{name}{{name=\"{plugin}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\"}} 1"
            );
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}

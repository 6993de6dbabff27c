//! How long each plugin of admission takes. They are asked with every write, so their handles are looked up once.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

use super::calls::STEP_BUCKETS;
use crate::admission::Operation;

/// Room for as many plugins; one beyond them is looked up each time.
const PLUGINS_MAX: usize = 64;
const OPERATIONS: usize = 4;
const STEPS: usize = 2;

pub(crate) struct Plugins {
    durations: HistogramVec,
    /// Of those that let a write pass, by plugin, operation and step.
    passed: Vec<OnceLock<Histogram>>,
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
        registry.register(Box::new(durations.clone())).expect(VALID);
        let mut passed = Vec::new();
        passed.resize_with(PLUGINS_MAX * OPERATIONS * STEPS, OnceLock::new);
        Plugins { durations, passed }
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
        match self.passed.get(at).filter(|_| !rejected) {
            Some(handle) => handle.get_or_init(|| look_up("false")).observe(seconds),
            None => look_up(if rejected { "true" } else { "false" }).observe(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

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

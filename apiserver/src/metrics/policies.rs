//! What came of asking admission policies, and how long it took. Labels are names of policies and bindings, which only who may
//! write those can make.

use std::time::Duration;

use cel::admission::Trouble;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Kubernetes' buckets.
const SECONDS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];

pub(crate) struct Policies {
    validating: Figures,
    mutating: Figures,
}

struct Figures {
    checks: IntCounterVec,
    durations: HistogramVec,
}

/// A policy and the binding by which it was asked.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    pub(crate) policy: &'a str,
    pub(crate) binding: &'a str,
}

impl Figures {
    fn new(registry: &Registry, names: [&str; 2], help: [&str; 2], labels: &[&str]) -> Figures {
        const VALID: &str = "names and labels are constants, and registered once";
        let checks = Opts::new(names[0], help[0]);
        let checks = IntCounterVec::new(checks, labels).expect(VALID);
        let durations = HistogramOpts::new(names[1], help[1]).buckets(SECONDS.to_vec());
        let durations = HistogramVec::new(durations, labels).expect(VALID);
        registry.register(Box::new(checks.clone())).expect(VALID);
        registry.register(Box::new(durations.clone())).expect(VALID);
        Figures { checks, durations }
    }

    fn count(&self, labels: &[&str], took: Duration) {
        self.checks.with_label_values(labels).inc();
        let durations = self.durations.with_label_values(labels);
        durations.observe(took.as_secs_f64());
    }
}

impl Policies {
    pub(super) fn new(registry: &Registry) -> Policies {
        let of_both = ["policy", "policy_binding", "error_type"];
        let of_validating = [&of_both[..], &["enforcement_action"]].concat();
        let validating = [
            "apiserver_validating_admission_policy_check_total",
            "apiserver_validating_admission_policy_check_duration_seconds",
        ];
        let mutating = [
            "apiserver_mutating_admission_policy_check_total",
            "apiserver_mutating_admission_policy_check_duration_seconds",
        ];
        Policies {
            validating: Figures::new(
                registry,
                validating,
                [
                    "Validations of policies that did not hold or went wrong, and what was done about it.",
                    "Time to ask a policy of which a validation did not hold or went wrong.",
                ],
                &of_validating,
            ),
            mutating: Figures::new(
                registry,
                mutating,
                [
                    "Mutations of policies, and whether they went wrong.",
                    "Time of a mutation of a policy.",
                ],
                &of_both,
            ),
        }
    }

    /// Counts a validation that did not hold, or that went wrong; `action` is `deny`, `audit`, `warn`, or `allow` where what went
    /// wrong does not count.
    pub(crate) fn validated(
        &self,
        asked: Bound<'_>,
        action: &'static str,
        trouble: Option<Trouble>,
        took: Duration,
    ) {
        let labels = [asked.policy, asked.binding, error_type(trouble), action];
        self.validating.count(&labels, took);
    }

    /// Counts a mutation.
    pub(crate) fn mutated(&self, asked: Bound<'_>, trouble: Option<Trouble>, took: Duration) {
        let labels = [asked.policy, asked.binding, error_type(trouble)];
        self.mutating.count(&labels, took);
    }
}

/// Kubernetes' words.
fn error_type(trouble: Option<Trouble>) -> &'static str {
    match trouble {
        None => "no_error",
        Some(Trouble::Compilation) => "compile_error",
        Some(Trouble::Evaluation) => "invalid_error",
        Some(Trouble::Budget) => "out_of_budget",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn labels_are_those_of_kubernetes() {
        let registry = Registry::new();
        let policies = Policies::new(&registry);
        let asked = Bound {
            policy: "p",
            binding: "b",
        };
        let took = Duration::from_millis(5);
        policies.validated(asked, "deny", None, took);
        policies.validated(asked, "allow", Some(Trouble::Budget), took);
        policies.mutated(asked, Some(Trouble::Compilation), took);
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        let name = "apiserver_validating_admission_policy_check";
        for line in [
            format!(
                "{name}_total{{enforcement_action=\"deny\",error_type=\"no_error\",policy=\"p\",policy_binding=\"b\"}} 1"
            ),
            format!(
                "{name}_duration_seconds_bucket{{enforcement_action=\"allow\",error_type=\"out_of_budget\",policy=\"p\",policy_binding=\"b\",le=\"0.001\"}} 0"
            ),
            "apiserver_mutating_admission_policy_check_total{error_type=\"compile_error\",policy=\"p\",policy_binding=\"b\"} 1".to_owned(),
            "apiserver_mutating_admission_policy_check_duration_seconds_bucket{error_type=\"compile_error\",policy=\"p\",policy_binding=\"b\",le=\"0.01\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}

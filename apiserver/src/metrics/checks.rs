//! What the checks of `/healthz`, `/livez` and `/readyz` said, for service levels: also at `/metrics/slis`, which is read
//! more often than everything.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

pub(crate) struct Checks {
    /// Of these alone.
    pub(super) registry: Registry,
    last: IntGaugeVec,
    total: IntCounterVec,
}

impl Checks {
    /// They are shown among all others, too.
    pub(super) fn new(all: &Registry) -> Checks {
        const VALID: &str = "names and labels are constants, and registered once";
        let last = Opts::new(
            "kubernetes_healthcheck",
            "What a check of health said last: 1 is well.",
        );
        let last = IntGaugeVec::new(last, &["name", "type"]).expect(VALID);
        let total = Opts::new(
            "kubernetes_healthchecks_total",
            "Checks of health that were made, and what they said.",
        );
        let total = IntCounterVec::new(total, &["name", "type", "status"]).expect(VALID);
        let registry = Registry::new();
        for registry in [all, &registry] {
            registry.register(Box::new(last.clone())).expect(VALID);
            registry.register(Box::new(total.clone())).expect(VALID);
        }
        Checks {
            registry,
            last,
            total,
        }
    }

    /// A check of this endpoint was made.
    pub(crate) fn made(&self, name: &str, endpoint: &str, passes: bool) {
        let last = self.last.with_label_values(&[name, endpoint]);
        last.set(i64::from(passes));
        let status = if passes { "success" } else { "error" };
        let labels = [name, endpoint, status];
        self.total.with_label_values(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn checks_are_shown_by_themselves_and_among_all() {
        let all = Registry::new();
        let checks = Checks::new(&all);
        checks.made("etcd", "readyz", true);
        checks.made("etcd", "readyz", false);
        for registry in [&all, &checks.registry] {
            let text = TextEncoder::new().encode_to_string(&registry.gather());
            let text = text.unwrap();
            for line in [
                "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 0",
                "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"readyz\"} 1",
                "kubernetes_healthchecks_total{name=\"etcd\",status=\"error\",type=\"readyz\"} 1",
            ] {
                assert!(text.lines().any(|one| one == line), "{line}\n{text}");
            }
        }
    }
}

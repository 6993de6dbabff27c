//! What the audit log was told, and what it lost. The log counts; here it is copied when somebody asks.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::audit::Auditor;

pub(super) struct Audited {
    events: IntCounter,
    levels: IntCounterVec,
    lost: IntCounterVec,
}

impl Audited {
    pub(super) fn new(registry: &Registry) -> Audited {
        const VALID: &str = "names and labels are constants, and registered once";
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        Audited {
            events: counters(
                "apiserver_audit_event_total",
                "Events of the audit log.",
                &[],
            )
            .with_label_values::<&str>(&[]),
            levels: counters(
                "apiserver_audit_level_total",
                "Requests by how much the audit policy tells of them.",
                &["level"],
            ),
            lost: counters(
                "apiserver_audit_error_total",
                "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
                &["plugin"],
            ),
        }
    }

    /// Only one may show at a time: two would add the same twice.
    pub(super) fn show(&self, auditor: &Auditor) {
        let raise =
            |counter: &IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        raise(&self.events, auditor.events());
        for (level, judged) in auditor.levels() {
            raise(&self.levels.with_label_values(&[level]), judged);
        }
        for (plugin, lost) in auditor.lost() {
            raise(&self.lost.with_label_values(&[plugin]), lost);
        }
    }
}

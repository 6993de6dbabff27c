//! `/metrics/resource`: the same measurements as text for Prometheus and metrics-server.

use std::collections::BTreeMap;
use std::fmt::Write;

use time::OffsetDateTime;

use super::Snapshot;
use super::usage::Measured;

pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: &'static str,
}

const CONTAINER_CPU: Family = Family {
    name: "container_cpu_usage_seconds_total",
    help: "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    kind: "counter",
};
const CONTAINER_MEMORY: Family = Family {
    name: "container_memory_working_set_bytes",
    help: "[STABLE] Current working set of the container in bytes",
    kind: "gauge",
};
const CONTAINER_START: Family = Family {
    name: "container_start_time_seconds",
    help: "[STABLE] Start time of the container since unix epoch in seconds",
    kind: "gauge",
};
const NODE_CPU: Family = Family {
    name: "node_cpu_usage_seconds_total",
    help: "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    kind: "counter",
};
const NODE_MEMORY: Family = Family {
    name: "node_memory_working_set_bytes",
    help: "[STABLE] Current working set of the node in bytes",
    kind: "gauge",
};
const POD_CPU: Family = Family {
    name: "pod_cpu_usage_seconds_total",
    help: "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    kind: "counter",
};
const POD_MEMORY: Family = Family {
    name: "pod_memory_working_set_bytes",
    help: "[STABLE] Current working set of the pod in bytes",
    kind: "gauge",
};

/// The text; without a snapshot it says that measuring failed.
pub(crate) fn exposition(snapshot: Option<&Snapshot>) -> String {
    let mut text = String::new();
    let none = Vec::new();
    let all = snapshot.map_or(&none, |snapshot| &snapshot.containers);
    let containers = || all.iter().filter(|one| !one.is_sandbox());
    let of_containers = |value: fn(&Measured) -> f64| {
        containers().map(move |one| (container_labels(one), value(one), one.used.at))
    };
    let node = snapshot.and_then(|snapshot| snapshot.node.as_ref());
    let of_node = |value: fn(&Measured) -> f64| {
        node.into_iter()
            .map(move |one| (String::new(), value(one), one.used.at))
    };
    let pods = pods(all);
    family(&mut text, &CONTAINER_CPU, of_containers(cpu));
    family(&mut text, &CONTAINER_MEMORY, of_containers(memory));
    family(&mut text, &CONTAINER_START, of_containers(start));
    family(&mut text, &NODE_CPU, of_node(cpu));
    family(&mut text, &NODE_MEMORY, of_node(memory));
    let of_pods = pods
        .iter()
        .map(|(labels, pod)| (labels.clone(), pod.cpu, pod.at));
    family(&mut text, &POD_CPU, of_pods);
    let of_pods = pods
        .iter()
        .map(|(labels, pod)| (labels.clone(), pod.memory, pod.at));
    family(&mut text, &POD_MEMORY, of_pods);
    let failed = u8::from(snapshot.is_none());
    let _ = write!(
        text,
        "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n\
         # TYPE resource_scrape_error gauge\nresource_scrape_error {failed}\n"
    );
    text
}

pub(super) fn cpu(one: &Measured) -> f64 {
    one.used.cpu_nanos as f64 / 1e9
}

pub(super) fn memory(one: &Measured) -> f64 {
    one.used.memory.working_set as f64
}

pub(super) fn start(one: &Measured) -> f64 {
    one.used.started_at.unix_timestamp_nanos() as f64 / 1e9
}

struct Pod {
    cpu: f64,
    memory: f64,
    at: OffsetDateTime,
}

/// The sums over containers and sandbox, by labels.
fn pods(all: &[Measured]) -> BTreeMap<String, Pod> {
    let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
    for one in all {
        let identity = &one.used.identity;
        let labels = format!(
            "{{namespace=\"{}\",pod=\"{}\"}}",
            identity.pod_namespace, identity.pod_name
        );
        let pod = pods.entry(labels).or_insert(Pod {
            cpu: 0.0,
            memory: 0.0,
            at: one.used.at,
        });
        pod.cpu += cpu(one);
        pod.memory += memory(one);
        pod.at = pod.at.max(one.used.at);
    }
    pods
}

fn container_labels(one: &Measured) -> String {
    let identity = &one.used.identity;
    format!(
        "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
        identity.container, identity.pod_namespace, identity.pod_name
    )
}

/// A family that has no samples is left out.
pub(super) fn family(
    text: &mut String,
    family: &Family,
    samples: impl Iterator<Item = (String, f64, OffsetDateTime)>,
) {
    let Family { name, help, kind } = family;
    let mut is_first = true;
    for (labels, value, at) in samples {
        if std::mem::take(&mut is_first) {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        let millis = at.unix_timestamp_nanos() / 1_000_000;
        let _ = writeln!(text, "{name}{labels} {value} {millis}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SANDBOX;
    use crate::stats::summary::tests::{measured, snapshot};

    #[test]
    fn the_text_is_that_of_kubernetes_node_agent() {
        let all = vec![measured(SANDBOX, None), measured("a", Some(7))];
        let text = exposition(Some(&snapshot(all)));
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"d\",pod=\"web\"} 1.5 1767225600500",
            "container_memory_working_set_bytes{container=\"a\",namespace=\"d\",pod=\"web\"} 20 1767225600500",
            "container_start_time_seconds{container=\"a\",namespace=\"d\",pod=\"web\"} 1767225570.5 1767225600500",
            "node_cpu_usage_seconds_total 1.5 1767225600500",
            "pod_cpu_usage_seconds_total{namespace=\"d\",pod=\"web\"} 3 1767225600500",
            "pod_memory_working_set_bytes{namespace=\"d\",pod=\"web\"} 40 1767225600500",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(!text.contains("container=\"POD\""));
    }

    #[test]
    fn a_failure_is_said() {
        let text = exposition(None);
        assert!(
            text.ends_with("resource_scrape_error 1\n") && !text.contains("node_cpu"),
            "{text}"
        );
    }
}

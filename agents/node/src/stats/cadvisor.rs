//! `/metrics/cadvisor`: the same measurements once more, under the labels by which dashboards of containers select. What has
//! no image is the machine as a whole, with the id `/`; dashboards leave it out of the sums over containers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value;

use super::exposition::{Family, cpu, family, memory, start};
use super::usage::{Measured, Network};
use super::{Memory, Snapshot};

/// The image of a sandbox, which no pod names.
const SANDBOX_IMAGE: &str = "pause";

/// Images by pod UID and container.
type Images = BTreeMap<(String, String), String>;

const CPU: Family = Family {
    name: "container_cpu_usage_seconds_total",
    help: "Processor time used.",
    kind: "counter",
};
const WORKING_SET: Family = Family {
    name: "container_memory_working_set_bytes",
    help: "Memory in use that cannot be taken back at once.",
    kind: "gauge",
};
const USAGE: Family = Family {
    name: "container_memory_usage_bytes",
    help: "Memory in use.",
    kind: "gauge",
};
const RSS: Family = Family {
    name: "container_memory_rss",
    help: "Memory in use that no file stands behind.",
    kind: "gauge",
};
const FAULTS: Family = Family {
    name: "container_memory_failures_total",
    help: "Page faults.",
    kind: "counter",
};
const START: Family = Family {
    name: "container_start_time_seconds",
    help: "When the container began.",
    kind: "gauge",
};
const LAST_SEEN: Family = Family {
    name: "container_last_seen",
    help: "When the container was last measured.",
    kind: "gauge",
};

/// A figure of memory.
type OfMemory = fn(&Memory) -> u64;
/// A figure of a network, its name and what it tells.
type OfNetwork = (&'static str, &'static str, fn(&Network) -> u64);

const NETWORK: [OfNetwork; 4] = [
    (
        "container_network_receive_bytes_total",
        "Bytes received.",
        |network| network.received_bytes,
    ),
    (
        "container_network_receive_errors_total",
        "Errors while receiving.",
        |network| network.receive_errors,
    ),
    (
        "container_network_transmit_bytes_total",
        "Bytes sent.",
        |network| network.sent_bytes,
    ),
    (
        "container_network_transmit_errors_total",
        "Errors while sending.",
        |network| network.send_errors,
    ),
];

/// The text; without a snapshot it says that measuring failed. `pods` are the pods of the node, for the images.
pub(crate) fn cadvisor(
    snapshot: Option<&Snapshot>,
    pods: &[Arc<Value>],
    cpu_count: Option<i64>,
) -> String {
    let mut text = String::new();
    if let Some(snapshot) = snapshot {
        let images = images(pods);
        let containers = snapshot.containers.iter();
        let all: Vec<(String, &Measured)> = containers
            .map(|one| (labels(one, &images), one))
            .chain(snapshot.node.as_ref().map(|node| (MACHINE.into(), node)))
            .collect();
        write(&mut text, &all);
        let machine = [
            (
                "machine_memory_bytes",
                "Memory of the machine.",
                i64::try_from(snapshot.memory_bytes).ok(),
            ),
            ("machine_cpu_cores", "Processors of the machine.", cpu_count),
        ];
        for (name, help, value) in machine {
            if let Some(value) = value {
                gauge(&mut text, name, help, value);
            }
        }
    }
    let failed = i64::from(snapshot.is_none());
    let help = "1 if containers could not be measured, 0 otherwise.";
    gauge(&mut text, "container_scrape_error", help, failed);
    text
}

const MACHINE: &str = "container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"";

fn write(text: &mut String, all: &[(String, &Measured)]) {
    let each = |value: fn(&Measured) -> f64| {
        all.iter()
            .map(move |(labels, one)| (format!("{{{labels}}}"), value(one), one.used.at))
    };
    let total = all.iter().map(|(labels, one)| {
        let labels = format!("{{{labels},cpu=\"total\"}}");
        (labels, cpu(one), one.used.at)
    });
    family(text, &CPU, total);
    family(text, &WORKING_SET, each(memory));
    family(text, &USAGE, each(|one| one.used.memory.usage as f64));
    family(text, &RSS, each(|one| one.used.memory.rss as f64));
    let kinds: [(&str, OfMemory); 2] = [
        ("pgfault", |memory| memory.page_faults),
        ("pgmajfault", |memory| memory.major_page_faults),
    ];
    let faults = all.iter().flat_map(|(labels, one)| {
        kinds.map(|(kind, of)| {
            let labels = format!("{{{labels},failure_type=\"{kind}\",scope=\"container\"}}");
            (labels, of(&one.used.memory) as f64, one.used.at)
        })
    });
    family(text, &FAULTS, faults);
    family(text, &START, each(start));
    let seen = |one: &Measured| one.used.at.unix_timestamp_nanos() as f64 / 1e9;
    family(text, &LAST_SEEN, each(seen));
    for (name, help, of) in NETWORK {
        let one_of = Family {
            name,
            help,
            kind: "counter",
        };
        let with_network = all.iter().filter_map(|(labels, one)| {
            let network = one.used.network?;
            let labels = format!("{{{labels},interface=\"eth0\"}}");
            Some((labels, of(&network) as f64, one.used.at))
        });
        family(text, &one_of, with_network);
    }
}

pub(super) fn gauge(text: &mut String, name: &str, help: &str, value: i64) {
    let _ = write!(
        text,
        "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
    );
}

fn labels(one: &Measured, images: &Images) -> String {
    let identity = &one.used.identity;
    let key = (identity.pod_uid.clone(), identity.container.clone());
    let image = match one.is_sandbox() {
        true => SANDBOX_IMAGE,
        false => images.get(&key).map_or("", String::as_str),
    };
    let id = format!("/kubepods/pod{}/{}", identity.pod_uid, one.used.id);
    format!(
        "container=\"{}\",id=\"{}\",image=\"{}\",name=\"{}\",namespace=\"{}\",pod=\"{}\"",
        identity.container,
        quoted(&id),
        quoted(image),
        quoted(&one.used.id),
        identity.pod_namespace,
        identity.pod_name
    )
}

/// What a label's value may hold.
pub(super) fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn images(pods: &[Arc<Value>]) -> Images {
    let mut images = Images::new();
    for pod in pods {
        let text = |value: &Value, path: &str| {
            let found = value.pointer(path).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let uid = text(pod, "/metadata/uid");
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            let containers = pod.pointer(&format!("/spec/{list}"));
            let containers = containers.and_then(Value::as_array);
            for container in containers.into_iter().flatten() {
                let key = (uid.clone(), text(container, "/name"));
                images.insert(key, text(container, "/image"));
            }
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::SANDBOX;
    use crate::stats::summary::tests::{measured, snapshot};

    #[test]
    fn containers_have_the_labels_of_cadvisor() {
        let pod = json!({"metadata": {"uid": "u"}, "spec": {"containers": [{"name": "a", "image": "q\"x:1"}]}});
        let all = vec![measured(SANDBOX, None), measured("a", Some(7))];
        let text = cadvisor(Some(&snapshot(all)), &[Arc::new(pod)], Some(4));
        let a = "container=\"a\",id=\"/kubepods/podu/a\",image=\"q\\\"x:1\",name=\"a\",namespace=\"d\",pod=\"web\"";
        let sandbox = "container=\"POD\",id=\"/kubepods/podu/POD\",image=\"pause\",name=\"POD\",namespace=\"d\",pod=\"web\"";
        let at = "1767225600500";
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
            format!("container_cpu_usage_seconds_total{{{a},cpu=\"total\"}} 1.5 {at}"),
            format!("container_cpu_usage_seconds_total{{{MACHINE},cpu=\"total\"}} 1.5 {at}"),
            format!("container_memory_working_set_bytes{{{a}}} 20 {at}"),
            format!("container_memory_usage_bytes{{{a}}} 30 {at}"),
            format!("container_memory_rss{{{a}}} 10 {at}"),
            format!(
                "container_memory_failures_total{{{a},failure_type=\"pgmajfault\",scope=\"container\"}} 0 {at}"
            ),
            format!("container_network_receive_bytes_total{{{sandbox},interface=\"eth0\"}} 5 {at}"),
            format!("container_start_time_seconds{{{a}}} 1767225570.5 {at}"),
            "machine_memory_bytes 100".to_owned(),
            "machine_cpu_cores 4".to_owned(),
            "container_scrape_error 0".to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_failure_is_said() {
        let text = cadvisor(None, &[], None);
        assert!(text.ends_with("container_scrape_error 1\n"), "{text}");
        assert!(!text.contains("container_cpu"), "{text}");
    }
}

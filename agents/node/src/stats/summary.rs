//! `/stats/summary`, in the shape of Kubernetes' node agent.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::usage::Measured;
use super::{Memory, Network, Snapshot};
use crate::clock;

/// The summary; `starts` has when each pod began, by UID. With `only_cpu_and_memory` it has nothing else.
pub(crate) fn summary(
    snapshot: &Snapshot,
    starts: &BTreeMap<String, String>,
    only_cpu_and_memory: bool,
) -> Value {
    let mut node = Map::new();
    node.insert("nodeName".into(), snapshot.node_name.as_str().into());
    if let Some(booted) = snapshot.booted_at {
        node.insert("startTime".into(), clock::format(booted).into());
    }
    if let Some(measured) = &snapshot.node {
        node.insert("cpu".into(), cpu(measured));
        let free = snapshot.memory_bytes;
        let free = free.saturating_sub(measured.used.memory.working_set);
        let mut memory = memory(measured.used.at, &measured.used.memory);
        memory["availableBytes"] = free.into();
        node.insert("memory".into(), memory);
    }
    let mut pods: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
    for one in &snapshot.containers {
        pods.entry(&one.used.identity.pod_uid)
            .or_default()
            .push(one);
    }
    let pods = pods.into_values().map(|all| {
        let mut value = pod(&all, starts);
        let network = all.iter().find_map(|one| one.used.network);
        if let Some(network) = network.filter(|_| !only_cpu_and_memory) {
            let at = all[0].used.at;
            value["network"] = interface(at, &network);
        }
        value
    });
    json!({"node": node, "pods": pods.collect::<Vec<_>>()})
}

/// One pod from its containers, of which there is at least one.
fn pod(all: &[&Measured], starts: &BTreeMap<String, String>) -> Value {
    let identity = &all[0].used.identity;
    let container = |one: &&&Measured| {
        json!({
            "name": one.used.identity.container, "startTime": clock::format(one.used.started_at),
            "cpu": cpu(one), "memory": memory(one.used.at, &one.used.memory),
        })
    };
    let containers = all.iter().filter(|one| !one.is_sandbox());
    let began = all.iter().map(|one| one.used.started_at).min();
    let started = starts.get(&identity.pod_uid).filter(|at| !at.is_empty());
    let started = started.cloned();
    let started = started
        .or_else(|| began.map(clock::format))
        .unwrap_or_default();
    json!({
        "podRef": {"name": identity.pod_name, "namespace": identity.pod_namespace, "uid": identity.pod_uid},
        "startTime": started,
        "containers": containers.map(|one| container(&one)).collect::<Vec<_>>(),
        "cpu": pod_cpu(all),
        "memory": pod_memory(all),
    })
}

fn cpu(measured: &Measured) -> Value {
    let mut value = json!({
        "time": clock::format_micro(measured.used.at),
        "usageCoreNanoSeconds": measured.used.cpu_nanos,
    });
    if let Some(rate) = measured.rate {
        value["usageNanoCores"] = rate.nanocores.into();
        // Not of Kubernetes, whose readers guess it.
        let window = u64::try_from(rate.window.as_nanos()).unwrap_or(u64::MAX);
        value["usageWindowNanoSeconds"] = window.into();
    }
    value
}

fn memory(at: OffsetDateTime, memory: &Memory) -> Value {
    json!({
        "time": clock::format_micro(at), "usageBytes": memory.usage, "workingSetBytes": memory.working_set,
        "rssBytes": memory.rss, "pageFaults": memory.page_faults, "majorPageFaults": memory.major_page_faults,
    })
}

/// The sandbox counts, too.
fn pod_cpu(all: &[&Measured]) -> Value {
    let spent = all.iter().map(|one| one.used.cpu_nanos);
    let at = all.iter().map(|one| one.used.at).max();
    let mut value = json!({
        "time": at.map(clock::format_micro),
        "usageCoreNanoSeconds": spent.fold(0, u64::saturating_add),
    });
    let rates: Option<Vec<u64>> = all
        .iter()
        .filter(|one| !one.is_sandbox() || one.rate.is_some())
        .map(|one| one.rate.map(|rate| rate.nanocores))
        .collect();
    if let Some(rates) = rates {
        value["usageNanoCores"] = rates.into_iter().fold(0, u64::saturating_add).into();
    }
    value
}

fn pod_memory(all: &[&Measured]) -> Value {
    let sum = |of: fn(&Memory) -> u64| {
        let each = all.iter().map(|one| of(&one.used.memory));
        each.fold(0, u64::saturating_add)
    };
    let total = Memory {
        usage: sum(|memory| memory.usage),
        working_set: sum(|memory| memory.working_set),
        rss: sum(|memory| memory.rss),
        page_faults: sum(|memory| memory.page_faults),
        major_page_faults: sum(|memory| memory.major_page_faults),
    };
    let at = all.iter().map(|one| one.used.at).max();
    memory(at.unwrap_or(OffsetDateTime::UNIX_EPOCH), &total)
}

fn interface(at: OffsetDateTime, network: &Network) -> Value {
    let figures = json!({
        "name": "eth0", "rxBytes": network.received_bytes, "rxErrors": network.receive_errors,
        "txBytes": network.sent_bytes, "txErrors": network.send_errors,
    });
    let mut value = figures.clone();
    value["time"] = clock::format_micro(at).into();
    value["interfaces"] = json!([figures]);
    value
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::runtime::{Identity, SANDBOX};
    use crate::stats::{Rate, Used};
    use std::time::Duration;

    pub(crate) fn measured(container: &str, nanocores: Option<u64>) -> Measured {
        let at = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_500);
        let identity = Identity {
            pod_name: "web".into(),
            pod_namespace: "d".into(),
            pod_uid: "u".into(),
            container: container.into(),
            attempt: 0,
        };
        let memory = Memory {
            usage: 30,
            working_set: 20,
            rss: 10,
            ..Memory::default()
        };
        let used = Used {
            id: container.into(),
            identity,
            started_at: at - Duration::from_secs(30),
            at,
            cpu_nanos: 1_500_000_000,
            memory,
            network: (container == SANDBOX).then_some(Network {
                received_bytes: 5,
                ..Network::default()
            }),
            rate: None,
        };
        let rate = nanocores.map(|nanocores| Rate {
            nanocores,
            window: Duration::from_secs(10),
        });
        Measured { used, rate }
    }

    pub(crate) fn snapshot(containers: Vec<Measured>) -> Snapshot {
        Snapshot {
            node_name: "n".into(),
            memory_bytes: 100,
            booted_at: Some(OffsetDateTime::UNIX_EPOCH),
            node: Some(measured("", Some(9))),
            containers,
        }
    }

    #[test]
    fn pods_are_the_sum_of_their_containers_and_sandbox() {
        let all = vec![
            measured(SANDBOX, None),
            measured("a", Some(7)),
            measured("b", Some(8)),
        ];
        let starts = BTreeMap::from([("u".to_owned(), "2026-01-01T00:00:00Z".to_owned())]);
        let value = summary(&snapshot(all), &starts, false);
        assert_eq!(value["node"]["memory"]["availableBytes"], 80);
        assert_eq!(value["node"]["cpu"]["usageNanoCores"], 9);
        let pod = &value["pods"][0];
        assert_eq!(
            pod["podRef"],
            json!({"name": "web", "namespace": "d", "uid": "u"})
        );
        assert_eq!(pod["startTime"], "2026-01-01T00:00:00Z");
        assert_eq!(pod["cpu"]["usageNanoCores"], 15);
        assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 4_500_000_000_u64);
        assert_eq!(pod["memory"]["workingSetBytes"], 60);
        assert_eq!(pod["network"]["rxBytes"], 5);
        let containers = pod["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 2);
        assert_eq!(containers[0]["name"], "a");
        assert_eq!(containers[0]["cpu"]["time"], "2026-01-01T00:00:00.500000Z");
        assert_eq!(
            containers[0]["cpu"]["usageWindowNanoSeconds"],
            10_000_000_000_u64
        );
    }

    #[test]
    fn a_container_that_was_measured_once_has_no_rate() {
        let all = vec![measured("a", None), measured("b", Some(8))];
        let value = summary(&snapshot(all), &BTreeMap::new(), true);
        let pod = &value["pods"][0];
        assert_eq!(pod["containers"][0]["cpu"].get("usageNanoCores"), None);
        assert_eq!(pod["cpu"].get("usageNanoCores"), None);
        assert_eq!(pod.get("network"), None);
        assert_eq!(pod["startTime"], "2025-12-31T23:59:30Z");
    }
}

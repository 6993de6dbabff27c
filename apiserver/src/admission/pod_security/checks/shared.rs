//! What a pod shares with its host.

use std::collections::BTreeSet;

use serde_json::Value;

use super::words::{plural, quoted, setters, those};
use super::{Pod, Violation, flag, list, text};

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostIPC", "hostNetwork", "hostPID"]
        .into_iter()
        .filter(|field| pod.spec.get(field).and_then(Value::as_bool) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() {
        return None;
    }
    Violation::new("host namespaces", shared.join(", "))
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let ports: Vec<String> = list(container, "ports")
            .iter()
            .filter_map(|port| port.get("hostPort")?.as_i64())
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        let any = !ports.is_empty();
        bad.extend(ports);
        any
    });
    if names.is_empty() {
        return None;
    }
    let (uses, word) = (
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", bad.len()),
    );
    let ports: Vec<String> = bad.into_iter().collect();
    Violation::new(
        "hostPort",
        format!("{} {uses} {word} {}", those(&names), ports.join(", ")),
    )
}

pub(super) fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: &[&str] = &[
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let mut any = false;
        for handler in HANDLERS {
            for kind in ["httpGet", "tcpSocket"] {
                let host = text(container, &format!("{handler}/{kind}/host"));
                if !host.is_empty() {
                    any = true;
                    bad.insert(host.to_owned());
                }
            }
        }
        any
    });
    if names.is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = names.into_iter().collect();
    let names: Vec<&str> = names.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let word = plural(
        "probe or lifecycle host",
        "probe or lifecycle hosts",
        bad.len(),
    );
    Violation::new(
        "probe or lifecycle host",
        format!("{} {uses} {word} {}", those(&names), quoted(bad)),
    )
}

pub(super) fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad =
        |value: &Value| flag(value, "/securityContext/windowsOptions/hostProcess") == Some(true);
    let (of_pod, names) = (is_bad(pod.spec), pod.named(is_bad));
    if !of_pod && names.is_empty() {
        return None;
    }
    Violation::new(
        "hostProcess",
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters(of_pod, &names)
        ),
    )
}

//! What a pod sees and changes of the kernel.

use std::collections::BTreeSet;

use serde_json::Value;

use super::words::{quoted, those};
use super::{Pod, Violation, list, text};

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let kind = text(container, "/securityContext/procMount");
        let is_bad = !matches!(kind, "" | "Default");
        if is_bad {
            bad.insert(kind.to_owned());
        }
        is_bad
    });
    if names.is_empty() {
        return None;
    }
    let (who, what) = (those(&names), quoted(bad));
    Violation::new(
        "procMount",
        format!("{who} must not set securityContext.procMount to {what}"),
    )
}

pub(super) fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    /// Allowed ones, and since which minor version of the standard.
    const ALLOWED: &[(&str, u32)] = &[
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let context = pod.spec.get("securityContext").unwrap_or(&Value::Null);
    let bad: Vec<&str> = list(context, "sysctls")
        .iter()
        .map(|sysctl| text(sysctl, "/name"))
        .filter(|name| {
            !ALLOWED
                .iter()
                .any(|(allowed, since)| allowed == name && *since <= pod.minor)
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", bad.join(", "))
}

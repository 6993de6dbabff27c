//! What the Pod Security Standards forbid. One function a rule; [`CHECKS`] is the list, in the order in which violations are
//! told. Pure.

mod kernel;
mod profiles;
mod rights;
mod shared;
mod volumes;
mod words;

use serde_json::Value;

use super::Level;
use kernel::{proc_mount, sysctls};
use profiles::{app_armor, se_linux, seccomp_baseline, seccomp_restricted};
use rights::{
    capabilities_baseline, capabilities_restricted, privilege_escalation, privileged,
    run_as_non_root, run_as_user,
};
use shared::{host_namespaces, host_ports, host_probes, windows_host_process};
use volumes::{host_path_volumes, volume_types};

/// A pod, or what pods will be made from.
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
    /// Minor version of the standard; the largest number for the latest one.
    pub(super) minor: u32,
}

/// What a pod violates: the rule, and who does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    detail: String,
}

impl Violation {
    fn new(reason: &str, detail: String) -> Option<Violation> {
        Some(Violation {
            reason: reason.to_owned(),
            detail,
        })
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.reason, self.detail)
    }
}

/// One rule.
struct Check {
    level: Level,
    /// The minor version of the standard that brought it.
    since: u32,
    /// The stricter rule that takes its place in the restricted level, from that version on.
    replaced_since: Option<u32>,
    run: fn(&Pod<'_>) -> Option<Violation>,
}

const fn baseline(run: fn(&Pod<'_>) -> Option<Violation>) -> Check {
    Check {
        level: Level::Baseline,
        since: 0,
        replaced_since: None,
        run,
    }
}

const fn restricted(since: u32, run: fn(&Pod<'_>) -> Option<Violation>) -> Check {
    Check {
        level: Level::Restricted,
        since,
        ..baseline(run)
    }
}

const CHECKS: &[Check] = &[
    baseline(app_armor),
    Check {
        replaced_since: Some(22),
        ..baseline(capabilities_baseline)
    },
    baseline(host_namespaces),
    Check {
        replaced_since: Some(0),
        ..baseline(host_path_volumes)
    },
    baseline(host_ports),
    Check {
        since: 34,
        ..baseline(host_probes)
    },
    baseline(privileged),
    baseline(proc_mount),
    baseline(se_linux),
    Check {
        since: 19,
        replaced_since: Some(19),
        ..baseline(seccomp_baseline)
    },
    baseline(sysctls),
    baseline(windows_host_process),
    restricted(8, privilege_escalation),
    restricted(22, capabilities_restricted),
    restricted(0, volume_types),
    restricted(0, run_as_non_root),
    restricted(23, run_as_user),
    restricted(19, seccomp_restricted),
];

/// Everything in which the pod violates the level.
pub(super) fn violations(pod: &Pod<'_>, level: Level) -> Vec<Violation> {
    CHECKS
        .iter()
        .filter(|check| check.level <= level && check.since <= pod.minor)
        .filter(|check| {
            level < Level::Restricted || check.replaced_since.is_none_or(|since| since > pod.minor)
        })
        .filter_map(|check| (check.run)(pod))
        .collect()
}

impl<'a> Pod<'a> {
    fn list(&self, field: &str) -> &'a [Value] {
        list(self.spec, field)
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|field| self.list(field))
    }

    /// Names of the containers of which that holds.
    fn named(&self, mut holds: impl FnMut(&Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| holds(container))
            .map(|container| text(container, "/name"))
            .collect()
    }

    /// Settings for Windows are not those of this standard since 1.25.
    fn is_windows(&self) -> bool {
        self.minor >= 25 && text(self.spec, "/os/name") == "windows"
    }

    /// Since 1.35 root in a user namespace of its own is no root.
    fn has_own_users(&self) -> bool {
        self.minor >= 35 && flag(self.spec, "/hostUsers") == Some(false)
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    let list = value.get(field).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_default()
}

fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer).and_then(Value::as_bool)
}

#[cfg(test)]
mod tests;

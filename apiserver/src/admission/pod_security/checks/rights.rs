//! What processes of a pod may do: as whom they run, and with which capabilities.

use std::collections::BTreeSet;

use serde_json::Value;

use super::words::{quoted, setters, those};
use super::{Pod, Violation, flag, list};

/// The containers that add capabilities besides the allowed ones, and those capabilities.
fn added<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<String>) {
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let capabilities = container.pointer("/securityContext/capabilities");
        let before = list(capabilities.unwrap_or(&Value::Null), "add")
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !allowed.contains(name));
        let mut any = false;
        for name in before {
            any = true;
            bad.insert(name.to_owned());
        }
        any
    });
    (names, bad)
}

pub(super) fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (names, bad) = added(pod, ALLOWED);
    if names.is_empty() {
        return None;
    }
    let (who, what) = (those(&names), quoted(bad));
    Violation::new(
        "non-default capabilities",
        format!("{who} must not include {what} in securityContext.capabilities.add"),
    )
}

pub(super) fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let keeping = pod.named(|container| {
        let capabilities = container.pointer("/securityContext/capabilities");
        !list(capabilities.unwrap_or(&Value::Null), "drop")
            .iter()
            .any(|name| name == "ALL")
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = those(&keeping);
        details.push(format!(
            "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    let (adding, bad) = added(pod, &["NET_BIND_SERVICE"]);
    if !adding.is_empty() {
        let (who, what) = (those(&adding), quoted(bad));
        details.push(format!(
            "{who} must not include {what} in securityContext.capabilities.add"
        ));
    }
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| flag(container, "/securityContext/privileged") == Some(true));
    if names.is_empty() {
        return None;
    }
    Violation::new(
        "privileged",
        format!(
            "{} must not set securityContext.privileged=true",
            those(&names)
        ),
    )
}

pub(super) fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let names = pod.named(|container| {
        flag(container, "/securityContext/allowPrivilegeEscalation") != Some(false)
    });
    if names.is_empty() {
        return None;
    }
    Violation::new(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            those(&names)
        ),
    )
}

pub(super) fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const FIELD: &str = "/securityContext/runAsNonRoot";
    const REASON: &str = "runAsNonRoot != true";
    if pod.has_own_users() {
        return None;
    }
    let of_pod = flag(pod.spec, FIELD);
    let as_root = pod.named(|container| flag(container, FIELD) == Some(false));
    if of_pod == Some(false) || !as_root.is_empty() {
        let who = setters(of_pod == Some(false), &as_root);
        return Violation::new(
            REASON,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let silent = pod.named(|container| flag(container, FIELD).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    let who = those(&silent);
    Violation::new(
        REASON,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

pub(super) fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    let is_root = |value: &Value| {
        let user = value.pointer("/securityContext/runAsUser");
        user.and_then(Value::as_i64) == Some(0)
    };
    let (of_pod, names) = (is_root(pod.spec), pod.named(is_root));
    if !of_pod && names.is_empty() {
        return None;
    }
    let who = setters(of_pod, &names);
    Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

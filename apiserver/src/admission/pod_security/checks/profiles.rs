//! The profiles that confine a pod: AppArmor, SELinux and seccomp.

use std::collections::BTreeSet;

use serde_json::Value;

use super::words::{plural, quoted, setters, those};
use super::{Pod, Violation, text};

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut bad = BTreeSet::new();
    let mut is_bad = |value: &Value| {
        let kind = text(value, "/securityContext/appArmorProfile/type");
        let is_bad = !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        if is_bad {
            bad.insert(kind.to_owned());
        }
        is_bad
    };
    let of_pod = is_bad(pod.spec);
    let names = pod.named(is_bad);
    let annotations = pod.metadata.get("annotations").and_then(Value::as_object);
    let by_annotation: BTreeSet<String> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(ANNOTATION))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| {
            !matches!(*value, "" | "runtime/default") && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}=\"{value}\""))
        .collect();
    let mut who = setters(of_pod, &names);
    if !by_annotation.is_empty() {
        let word = plural("annotation", "annotations", by_annotation.len());
        who = if who.is_empty() {
            word.to_owned()
        } else {
            format!("{who} and {word}")
        };
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = bad.into_iter().chain(by_annotation).collect();
    Violation::new(
        plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        format!(
            "{who} must not set AppArmor profile type to {}",
            quoted(values)
        ),
    )
}

pub(super) fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let minor = pod.minor;
    let mut is_bad = |value: &Value| {
        let of = |field: &str| text(value, &format!("/securityContext/seLinuxOptions/{field}"));
        let kind = of("type");
        let known = matches!(
            kind,
            "" | "container_t" | "container_init_t" | "container_kvm_t"
        ) || (minor >= 31 && kind == "container_engine_t");
        if !known {
            types.insert(kind.to_owned());
        }
        user |= !of("user").is_empty();
        role |= !of("role").is_empty();
        !known || !of("user").is_empty() || !of("role").is_empty()
    };
    let of_pod = is_bad(pod.spec);
    let names = pod.named(is_bad);
    if !of_pod && names.is_empty() {
        return None;
    }
    let mut bad = Vec::new();
    if !types.is_empty() {
        let word = plural("type", "types", types.len());
        bad.push(format!("{word} {}", quoted(types)));
    }
    if user {
        bad.push("user may not be set".to_owned());
    }
    if role {
        bad.push("role may not be set".to_owned());
    }
    Violation::new(
        "seLinuxOptions",
        format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            setters(of_pod, &names),
            bad.join("; ")
        ),
    )
}

const SECCOMP: &str = "/securityContext/seccompProfile/type";

fn has_seccomp(value: &Value) -> bool {
    value
        .pointer("/securityContext/seccompProfile")
        .is_some_and(|profile| !profile.is_null())
}

pub(super) fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let mut is_bad = |value: &Value| {
        let kind = text(value, SECCOMP);
        let is_bad = has_seccomp(value) && !matches!(kind, "RuntimeDefault" | "Localhost");
        if is_bad {
            bad.insert(kind.to_owned());
        }
        is_bad
    };
    let of_pod = is_bad(pod.spec);
    let names = pod.named(is_bad);
    if !of_pod && names.is_empty() {
        return None;
    }
    let (who, what) = (setters(of_pod, &names), quoted(bad));
    Violation::new(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {what}"),
    )
}

pub(super) fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    if let Some(explicit) = seccomp_baseline(pod) {
        return Some(explicit);
    }
    if has_seccomp(pod.spec) {
        return None;
    }
    let names = pod.named(|container| !has_seccomp(container));
    if names.is_empty() {
        return None;
    }
    Violation::new(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            those(&names)
        ),
    )
}

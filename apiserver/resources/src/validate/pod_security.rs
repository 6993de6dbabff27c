//! Who a pod and its containers are on their node, and what they may do there.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::pod_volume::descending;
use super::{filled, items, optional_one_of};
use crate::look::{Look, whole};

/// Profiles of seccomp and AppArmor.
const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
/// Bytes of the name of an AppArmor profile: the longest path.
const PROFILE_BYTES_MAX: usize = 4095;

/// The settings of the pod.
pub(crate) fn of_pod(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some((context, path)) = filled(spec, "securityContext", path) {
        ids(
            context,
            &["fsGroup", "runAsUser", "runAsGroup"],
            &path,
            errors,
        );
        for (path, group) in items(context, "supplementalGroups", &path) {
            for message in names::is_valid_id(whole(group).unwrap_or(-1)) {
                errors.push(FieldError::invalid(&path, group.clone(), message));
            }
        }
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let path = path.child("securityContext").child("shareProcessNamespace");
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path, true, detail));
    }
    let Some((context, path)) = filled(spec, "securityContext", path) else {
        return;
    };
    sysctls(spec, context, &path, errors);
    let policies = ["Always", "OnRootMismatch"];
    optional_one_of(context, "fsGroupChangePolicy", &policies, &path, errors);
    seccomp(
        context.at("seccompProfile"),
        &path.child("seccompProfile"),
        errors,
    );
    app_armor(
        context.at("appArmorProfile"),
        &path.child("appArmorProfile"),
        errors,
    );
    let policies = ["Merge", "Strict"];
    optional_one_of(
        context,
        "supplementalGroupsPolicy",
        &policies,
        &path,
        errors,
    );
    let policies = ["MountOption", "Recursive"];
    optional_one_of(context, "seLinuxChangePolicy", &policies, &path, errors);
}

fn ids(context: &Value, fields: &[&str], path: &Path, errors: &mut ErrorList) {
    for field in fields {
        let Some(id) = context.int(field) else {
            continue;
        };
        for message in names::is_valid_id(id) {
            errors.push(FieldError::invalid(&path.child(field), id, message));
        }
    }
}

/// The settings of a container. `own_users`: its pod does not share the users of the node.
pub(crate) fn of_container(context: &Value, own_users: bool, path: &Path, errors: &mut ErrorList) {
    ids(context, &["runAsUser", "runAsGroup"], path, errors);
    if context.has("procMount") {
        let (kind, path) = (context.text("procMount"), path.child("procMount"));
        let kinds = ["Default", "Unmasked"];
        if !kinds.contains(&kind) {
            errors.push(FieldError::not_supported(&path, kind, &kinds));
        }
        if kind == "Unmasked" && !own_users {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&path, kind, detail));
        }
    }
    seccomp(
        context.at("seccompProfile"),
        &path.child("seccompProfile"),
        errors,
    );
    if context.at("allowPrivilegeEscalation").as_bool() == Some(false) {
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
        let added = context.at("capabilities").texts("add");
        if added.contains(&"CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
    }
    app_armor(
        context.at("appArmorProfile"),
        &path.child("appArmorProfile"),
        errors,
    );
}

/// Which calls of the kernel are allowed.
fn seccomp(profile: &Value, path: &Path, errors: &mut ErrorList) {
    if profile.is_null() {
        return;
    }
    kind_of_profile(profile, "seccompProfile", path, errors);
    let path = path.child("localhostProfile");
    match (profile.text("type"), profile.has("localhostProfile")) {
        ("Localhost", false) => {
            let detail = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(&path, detail));
        }
        ("Localhost", true) => descending(profile.text("localhostProfile"), &path, errors),
        (_, true) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&path, profile.clone(), detail));
        }
        (_, false) => {}
    }
}

fn kind_of_profile(profile: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    let (kind, path) = (profile.text("type"), path.child("type"));
    if kind.is_empty() {
        let detail = format!("type is required when {field} is set");
        errors.push(FieldError::required(&path, detail));
    } else if !PROFILES.contains(&kind) {
        errors.push(FieldError::not_supported(&path, kind, PROFILES));
    }
}

/// Which files are, and more.
fn app_armor(profile: &Value, path: &Path, errors: &mut ErrorList) {
    if profile.is_null() {
        return;
    }
    let (name, is_named) = (
        profile.text("localhostProfile"),
        profile.has("localhostProfile"),
    );
    let place = path.child("localhostProfile");
    match profile.text("type") {
        "Localhost" if name.is_empty() => {
            let detail = "must be set when AppArmor type is Localhost";
            errors.push(FieldError::required(&place, detail));
        }
        "Localhost" => {
            if name.trim() != name {
                let detail = "must not be padded with whitespace";
                errors.push(FieldError::invalid(&place, name, detail));
            }
            if name.len() > PROFILE_BYTES_MAX {
                errors.push(FieldError::too_long(&place, PROFILE_BYTES_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" if is_named => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.push(FieldError::invalid(&place, name, detail));
        }
        _ => kind_of_profile(profile, "appArmorProfile", path, errors),
    }
}

fn sysctls(spec: &Value, context: &Value, path: &Path, errors: &mut ErrorList) {
    const PATTERN: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen = BTreeSet::new();
    for (path, sysctl) in items(context, "sysctls", path) {
        let name = sysctl.text("name");
        let path = path.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if name.len() > 253 || !is_sysctl(name) {
            let detail = format!("must have at most 253 characters and match regex {PATTERN}");
            errors.push(FieldError::invalid(&path, name, detail));
        } else if seen.contains(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        seen.insert(name);
        let detail = match namespace_of_sysctl(&name.replace('/', ".")) {
            Some("net") if spec.flag("hostNetwork") => {
                "may not be specified when 'hostNetwork' is true"
            }
            Some("ipc") if spec.flag("hostIPC") => "may not be specified when 'hostIPC' is true",
            _ => continue,
        };
        errors.push(FieldError::invalid(&path, name, detail));
    }
}

/// The namespace of the kernel that a setting belongs to.
fn namespace_of_sysctl(name: &str) -> Option<&'static str> {
    let is_ipc = name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    match name {
        _ if is_ipc => Some("ipc"),
        _ if name.starts_with("net.") => Some("net"),
        _ => None,
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.split(['.', '/']).all(|part| {
        part.starts_with(edge)
            && part.ends_with(edge)
            && part.chars().all(|c| edge(c) || c == '-' || c == '_')
    })
}

/// A pod with users of its own shares nothing else with the node.
pub(crate) fn own_users(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if spec.at("hostUsers").as_bool() != Some(false) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (field, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.flag(field) {
            errors.push(FieldError::forbidden(&path.child(shown), detail));
        }
    }
    every_container(spec, path, |container, path| {
        if !container.list("volumeDevices").is_empty() {
            errors.push(FieldError::forbidden(&path.child("volumeDevices"), detail));
        }
    });
}

/// Calls the function for all containers, in the order in which Kubernetes visits them.
fn every_container(spec: &Value, path: &Path, mut visit: impl FnMut(&Value, &Path)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (path, container) in items(spec, list, path) {
            visit(container, &path);
        }
    }
}

/// Settings of a pod that Windows has no idea of; those of its security context first.
const NOT_OF_WINDOWS: [(bool, &str); 15] = [
    (true, "appArmorProfile"),
    (true, "seLinuxOptions"),
    (false, "hostUsers"),
    (false, "hostPID"),
    (false, "hostIPC"),
    (true, "seccompProfile"),
    (true, "fsGroup"),
    (true, "fsGroupChangePolicy"),
    (true, "sysctls"),
    (false, "shareProcessNamespace"),
    (true, "runAsUser"),
    (true, "runAsGroup"),
    (true, "supplementalGroups"),
    (true, "supplementalGroupsPolicy"),
    (true, "seLinuxChangePolicy"),
];

/// The same of a container.
const NOT_OF_WINDOWS_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// What goes with the operating system that the pod names.
pub(crate) fn operating_system(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let system = spec.at("os");
    if system.is_null() {
        return;
    }
    match system.text("name") {
        "" => {
            let path = path.child("os").child("name");
            errors.push(FieldError::required(&path, ""));
        }
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        other => {
            let systems = ["linux", "windows"];
            errors.push(FieldError::not_supported(
                &path.child("os"),
                other,
                &systems,
            ));
        }
    }
}

fn linux(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut check = |context: &Value, path: &Path| {
        if context.has("windowsOptions") {
            let path = path.child("securityContext").child("windowsOptions");
            let detail = "windows options cannot be set for a linux pod";
            errors.push(FieldError::forbidden(&path, detail));
        }
    };
    check(spec.at("securityContext"), path);
    every_container(spec, path, |container, path| {
        check(container.at("securityContext"), path);
    });
}

fn windows(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let detail = "cannot be set for a windows pod";
    let context = spec.at("securityContext");
    for (is_of_context, field) in NOT_OF_WINDOWS {
        let value = match is_of_context {
            true => context.at(field),
            false => spec.at(field),
        };
        // Of the plain switches, off is the same as not said.
        let is_plain = matches!(field, "hostPID" | "hostIPC");
        if value.is_null() || (is_plain && value.as_bool() == Some(false)) {
            continue;
        }
        let path = match is_of_context {
            true => path.child("securityContext").child(field),
            false => path.child(field),
        };
        errors.push(FieldError::forbidden(&path, detail));
    }
    every_container(spec, path, |container, path| {
        let context = container.at("securityContext");
        for field in NOT_OF_WINDOWS_CONTAINERS
            .into_iter()
            .filter(|field| context.has(field))
        {
            let path = path.child("securityContext").child(field);
            errors.push(FieldError::forbidden(&path, detail));
        }
    });
}

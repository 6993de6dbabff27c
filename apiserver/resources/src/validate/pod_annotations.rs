//! Annotations of pods that are more than notes.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path, go_quote};
use serde_json::Value;

use super::pod_volume::descending;
use crate::look::Look;

/// Marks the picture of a pod that its node runs from a file.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The annotations by themselves. `path` is that of the object with the annotations.
pub(crate) fn annotations(metadata: &Value, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("annotations");
    for (key, value) in metadata.entries("annotations") {
        let value = value.as_str().unwrap_or("");
        let place = || path.key(key);
        match key {
            MIRROR if spec.text("nodeName").is_empty() => {
                let detail = "must set spec.nodeName if mirror pod annotation is set";
                errors.push(FieldError::invalid(&place(), value, detail));
            }
            DELETION_COST if !is_cost(value) => {
                let detail = "must be a 32bit integer";
                errors.push(FieldError::invalid(&place(), value, detail));
            }
            _ if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) => {
                seccomp(value, &path.child(key), errors);
            }
            _ => {}
        }
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            app_armor(name, value, spec, &place(), errors);
        }
    }
}

/// A number without a plus and without zeros before it.
fn is_cost(value: &str) -> bool {
    let starts_well =
        value == "0" || value.starts_with(|c: char| c == '-' || ('1'..='9').contains(&c));
    starts_well && value.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: &Path, errors: &mut ErrorList) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(name) => descending(name, path, errors),
        None => {
            let detail = "must be a valid seccomp profile";
            errors.push(FieldError::invalid(path, profile, detail));
        }
    }
}

fn app_armor(name: &str, profile: &str, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let mut containers = lists.iter().flat_map(|list| spec.list(list));
    if !containers.any(|container| container.text("name") == name) {
        errors.push(FieldError::invalid(path, name, "container not found"));
    }
    let is_known = matches!(profile, "" | "runtime/default" | "unconfined");
    if !is_known && !profile.starts_with("localhost/") {
        let detail = format!("invalid AppArmor profile name: {}", go_quote(profile));
        errors.push(FieldError::invalid(path, profile, detail));
    }
}

/// What annotations and fields say of security profiles is the same. `path` is that of the spec.
pub(crate) fn agreement(metadata: &Value, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let annotations = metadata.at("annotations");
    if annotations
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        return;
    }
    let of_pod = spec.at("securityContext");
    let place = path.child("securityContext").child("seccompProfile");
    let said = annotations.at(SECCOMP_POD);
    agree("seccomp", said, of_pod.at("seccompProfile"), &place, errors);
    let is_windows = spec.at("os").text("name") == "windows";
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, container) in spec.list(list).iter().enumerate() {
            let (name, context) = (container.text("name"), container.at("securityContext"));
            let place = |field: &str| {
                let path = path.child(list).index(at);
                path.child("securityContext").child(field)
            };
            let said = annotations.at(&format!("{SECCOMP_CONTAINER}{name}"));
            let profile = context.at("seccompProfile");
            agree("seccomp", said, profile, &place("seccompProfile"), errors);
            if is_windows {
                continue;
            }
            let profile = match context.has("appArmorProfile") {
                true => context.at("appArmorProfile"),
                false => of_pod.at("appArmorProfile"),
            };
            let said = annotations.at(&format!("{APP_ARMOR}{name}"));
            agree("apparmor", said, profile, &place("appArmorProfile"), errors);
        }
    }
}

fn agree(what: &str, said: &Value, profile: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(said) = said.as_str() else {
        return;
    };
    if profile.is_null() {
        return;
    }
    let is_same_type = match profile.text("type") {
        "Unconfined" => said == "unconfined",
        "RuntimeDefault" => {
            said == "runtime/default" || (what == "seccomp" && said == "docker/default")
        }
        "Localhost" => match said.strip_prefix("localhost/") {
            Some(name) if name == profile.text("localhostProfile") => true,
            Some(_) => {
                let path = path.child("localhostProfile");
                let detail = format!("{what} profile in annotation and field must match");
                errors.push(FieldError::forbidden(&path, detail));
                return;
            }
            None => false,
        },
        _ => true,
    };
    if !is_same_type {
        let detail = format!("{what} type in annotation and field must match");
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
}

/// Annotations that a pod keeps as they are.
pub(crate) fn update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("metadata").child("annotations");
    let kind = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    for (key, value) in old.annotations() {
        if new.annotation(key) == Some(value) {
            continue;
        }
        if let Some(what) = kind(key) {
            let detail = format!("may not remove or update {what}");
            errors.push(FieldError::forbidden(&path.key(key), detail));
        }
    }
    for (key, _) in new.annotations() {
        if old.annotation(key).is_some() {
            continue;
        }
        if let Some(what) = kind(key) {
            let detail = format!("may not add {what}");
            errors.push(FieldError::forbidden(&path.key(key), detail));
        }
    }
}

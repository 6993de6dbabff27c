//! Warnings: things that are allowed and probably not meant.

use std::collections::BTreeSet;

use schema::Object;
use serde_json::Value;

use crate::look::{Look, spec};

/// A pod.
pub(crate) fn pod(object: &Object) -> Vec<String> {
    pod_spec(spec(object), "spec")
}

/// A workload: its template.
pub(crate) fn workload(object: &Object) -> Vec<String> {
    if object.kind() == "CronJob" {
        let template = spec(object)
            .at("jobTemplate")
            .at("spec")
            .at("template")
            .at("spec");
        return pod_spec(template, "spec.jobTemplate.spec.template.spec");
    }
    pod_spec(spec(object).at("template").at("spec"), "spec.template.spec")
}

fn pod_spec(spec: &Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for key in spec.entries("nodeSelector").map(|(key, _)| key) {
        let instead = match key {
            "beta.kubernetes.io/arch" => "kubernetes.io/arch",
            "beta.kubernetes.io/os" => "kubernetes.io/os",
            "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
            "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
            _ => continue,
        };
        warnings.push(format!(
            "{path}.nodeSelector[{key}]: deprecated since v1.14; use \"{instead}\" instead"
        ));
    }
    for (at, volume) in spec.list("volumes").iter().enumerate() {
        if volume.has("gitRepo") {
            warnings.push(format!("{path}.volumes[{at}].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"));
        }
    }
    if spec
        .int("terminationGracePeriodSeconds")
        .is_some_and(|seconds| seconds < 0)
    {
        warnings.push(format!("{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    for list in ["initContainers", "containers"] {
        for (at, container) in spec.list(list).iter().enumerate() {
            duplicate_env(container, &format!("{path}.{list}[{at}]"), &mut warnings);
        }
    }
    warnings
}

fn duplicate_env(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (at, variable) in container.list("env").iter().enumerate() {
        let name = variable.text("name");
        // A value that refers to the earlier one of its name is an extension of it.
        let extends = variable.text("value").contains(&format!("$({name})"));
        if !seen.insert(name) && !extends {
            warnings.push(format!(
                "{path}.env[{at}]: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
    }
}

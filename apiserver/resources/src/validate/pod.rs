//! Pods and the pod templates of workloads.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::container::{Role, containers, profile, resources};
use super::pod_volume::volumes;
use super::{
    affinity, amount, complain, complain_of, filled, items, label_selector, one_of,
    optional_one_of, require,
};
use crate::look::{Look, spec};
use crate::meta;

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// A pod, new or updated.
pub(crate) fn pod(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    pod_spec(spec(object), &path, errors);
    // Objects that come in for creation have no version yet.
    if object.resource_version().is_empty() && !spec(object).list("ephemeralContainers").is_empty()
    {
        errors.push(FieldError::forbidden(
            &path.child("ephemeralContainers"),
            "cannot be set on create",
        ));
    }
}

/// A pod template: `{metadata, spec}`.
pub(crate) fn template(template: &Value, path: &Path, errors: &mut ErrorList) {
    meta::validate_template(template.at("metadata"), &path.child("metadata"), errors);
    let path = path.child("spec");
    pod_spec(template.at("spec"), &path, errors);
    if !template.at("spec").list("ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(
            &path.child("ephemeralContainers"),
            detail,
        ));
    }
}

/// The spec of a pod or of a template.
pub(crate) fn pod_spec(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let volumes = volumes(spec, path, errors);
    let mut seen = BTreeSet::new();
    containers(
        spec,
        "containers",
        Role::App,
        &volumes,
        &mut seen,
        path,
        errors,
    );
    containers(
        spec,
        "initContainers",
        Role::Init,
        &volumes,
        &mut seen,
        path,
        errors,
    );
    containers(
        spec,
        "ephemeralContainers",
        Role::Ephemeral,
        &volumes,
        &mut seen,
        path,
        errors,
    );
    one_of(spec, "restartPolicy", RESTART_POLICIES, path, errors);
    dns(spec, path, errors);
    if let Some((selector, path)) = filled(spec, "nodeSelector", path) {
        meta::labels(selector, &path, errors);
    }
    security_context(spec, path, errors);
    if let Some((affinity, path)) = filled(spec, "affinity", path) {
        affinity::affinity(affinity, &path, errors);
    }
    affinity::topology_spread(spec, path, errors);
    affinity::tolerations(spec, path, errors);
    names_of(spec, path, errors);
    if let Some((all, path)) = filled(spec, "resources", path) {
        resources(all, &path, errors);
    }
    if let Some(seconds) = spec.int("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = names::inclusive_range_error(1, i64::from(i32::MAX));
        errors.push(FieldError::invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            detail,
        ));
    }
    optional_one_of(
        spec,
        "preemptionPolicy",
        &["PreemptLowerPriority", "Never"],
        path,
        errors,
    );
    for (name, value) in spec.entries("overhead") {
        amount(value, &path.child("overhead").key(name), errors);
    }
    gates(spec, path, errors);
    host_aliases(spec, path, errors);
    if spec.has("os") {
        one_of(
            spec.at("os"),
            "name",
            &["linux", "windows"],
            &path.child("os"),
            errors,
        );
    }
    let mut claims = BTreeSet::new();
    for (path, claim) in items(spec, "resourceClaims", path) {
        if require(claim, "name", &path, errors) && !claims.insert(claim.text("name")) {
            errors.push(FieldError::duplicate(
                &path.child("name"),
                claim.text("name"),
            ));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"]
            .iter()
            .filter(|name| claim.has(name))
            .count();
        if sources != 1 {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.push(FieldError::invalid(&path, claim.clone(), detail));
        }
    }
}

fn names_of(spec: &Value, path: &Path, errors: &mut ErrorList) {
    type Rule = fn(&str) -> Vec<String>;
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::is_dns1123_subdomain),
        ("nodeName", names::is_dns1123_subdomain),
        ("hostname", names::is_dns1123_label),
        ("subdomain", names::is_dns1123_label),
        ("priorityClassName", names::is_dns1123_subdomain),
        ("runtimeClassName", names::is_dns1123_subdomain),
    ];
    for (field, rule) in rules {
        let name = spec.text(field);
        if !name.is_empty() {
            complain_of(rule(name), field, path, name, errors);
        }
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut ErrorList) {
    one_of(spec, "dnsPolicy", DNS_POLICIES, path, errors);
    let config = spec.at("dnsConfig");
    let servers = config.texts("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("dnsConfig"), detail));
            return;
        }
        if servers.is_empty() {
            let path = path.child("dnsConfig").child("nameservers");
            errors.push(FieldError::required(
                &path,
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ));
        }
    }
    let Some((config, path)) = filled(spec, "dnsConfig", path) else {
        return;
    };
    if servers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        errors.push(FieldError::invalid(
            &path.child("nameservers"),
            config.at("nameservers").clone(),
            detail,
        ));
    }
    for (at, server) in servers.into_iter().enumerate() {
        complain(
            names::is_valid_ip(server),
            &path.child("nameservers").index(at),
            server,
            errors,
        );
    }
    for (at, search) in config.texts("searches").into_iter().enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search);
        if search != "." {
            complain(
                names::is_dns1123_subdomain_with_underscore(name),
                &path.child("searches").index(at),
                search,
                errors,
            );
        }
    }
    for (path, option) in items(config, "options", &path) {
        if option.text("name").is_empty() {
            errors.push(FieldError::required(&path, "must not be empty"));
        }
    }
}

fn security_context(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(
            &path.child("shareProcessNamespace"),
            true,
            detail,
        ));
    }
    let Some((context, path)) = filled(spec, "securityContext", path) else {
        return;
    };
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = context.int(field) {
            for message in names::is_valid_id(id) {
                errors.push(FieldError::invalid(&path.child(field), id, message));
            }
        }
    }
    for (path, group) in items(context, "supplementalGroups", &path) {
        for message in names::is_valid_id(crate::look::whole(group).unwrap_or(-1)) {
            errors.push(FieldError::invalid(&path, group.clone(), message));
        }
    }
    optional_one_of(
        context,
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
        &path,
        errors,
    );
    optional_one_of(
        context,
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
        &path,
        errors,
    );
    for field in ["seccompProfile", "appArmorProfile"] {
        profile(context, field, &path, errors);
    }
    sysctls(spec, context, &path, errors);
}

fn sysctls(spec: &Value, context: &Value, path: &Path, errors: &mut ErrorList) {
    const PATTERN: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen = BTreeSet::new();
    for (path, sysctl) in items(context, "sysctls", path) {
        let name = sysctl.text("name");
        let path = path.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if name.len() > 253 || !is_sysctl(name) {
            let detail = format!("must have at most 253 characters and match regex {PATTERN}");
            errors.push(FieldError::invalid(&path, name, detail));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        let dotted = name.replace('/', ".");
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            errors.push(FieldError::invalid(
                &path,
                name,
                "may not be specified when 'hostNetwork' is true",
            ));
        }
        if spec.flag("hostIPC")
            && (dotted.starts_with("kernel.shm")
                || dotted.starts_with("kernel.msg")
                || dotted.starts_with("fs.mqueue.")
                || dotted == "kernel.sem")
        {
            errors.push(FieldError::invalid(
                &path,
                name,
                "may not be specified when 'hostIPC' is true",
            ));
        }
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

fn gates(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, gate) in items(spec, "readinessGates", path) {
        let kind = gate.text("conditionType");
        complain(
            names::is_qualified_name(kind),
            &path.child("conditionType"),
            kind,
            errors,
        );
    }
    let mut seen = BTreeSet::new();
    for (path, gate) in items(spec, "schedulingGates", path) {
        let name = gate.text("name");
        complain(names::is_qualified_name(name), &path, name, errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
    if !spec.list("schedulingGates").is_empty() && !spec.text("nodeName").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, alias) in items(spec, "hostAliases", path) {
        complain(
            names::is_valid_ip(alias.text("ip")),
            &path.child("ip"),
            alias.text("ip"),
            errors,
        );
        for name in alias.texts("hostnames") {
            complain(
                names::is_dns1123_subdomain(name),
                &path.child("hostnames"),
                name,
                errors,
            );
        }
    }
}

/// A selector that has to find the pods of a template.
pub(crate) fn selector_matches_template(
    selector: &Value,
    template: &Value,
    path: &Path,
    errors: &mut ErrorList,
) {
    label_selector(selector, &path.child("selector"), errors);
    let labels = template.at("metadata").at("labels");
    let pairs: Vec<(&str, &str)> = template
        .at("metadata")
        .entries("labels")
        .filter_map(|(k, v)| Some((k, v.as_str()?)))
        .collect();
    let parsed = schema::selector::LabelSelector::from_object(Some(selector));
    if parsed.is_ok_and(|selector| !selector.is_empty() && !selector.matches(pairs.iter().copied()))
    {
        errors.push(FieldError::invalid(
            &path.child("template").child("metadata").child("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        ));
    }
}

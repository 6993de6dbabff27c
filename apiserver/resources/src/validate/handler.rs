//! Probes and hooks of containers: what they do, and how often.

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{not_negative, port_number_of, port_of, require};
use crate::look::Look;

const PROBES: &[&str] = &["livenessProbe", "readinessProbe", "startupProbe"];

/// Everything of a container that has a handler. `grace`: seconds that its pod has to end.
pub(crate) fn handlers(container: &Value, grace: Option<i64>, path: &Path, errors: &mut ErrorList) {
    let lifecycle = container.at("lifecycle");
    for hook in ["postStart", "preStop"] {
        if lifecycle.has(hook) {
            let kinds = &["exec", "httpGet", "tcpSocket", "sleep"];
            let path = path.child("lifecycle").child(hook);
            handler(lifecycle.at(hook), kinds, grace, &path, errors);
        }
    }
    for name in PROBES {
        if container.has(name) {
            probe(container.at(name), name, &path.child(name), errors);
        }
    }
}

/// What a container that runs to its end cannot have.
pub(crate) fn no_handlers(container: &Value, path: &Path, errors: &mut ErrorList) {
    let fields = ["lifecycle"].iter().chain(PROBES);
    for field in fields.filter(|field| container.has(field)) {
        let detail = "may not be set for init containers without restartPolicy=Always";
        errors.push(FieldError::forbidden(&path.child(field), detail));
    }
}

fn probe(probe: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    let kinds = &["exec", "httpGet", "tcpSocket", "grpc"];
    handler(probe, kinds, None, path, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(probe, field, path, errors);
    }
    let grace = probe.int("terminationGracePeriodSeconds");
    let grace_path = || path.child("terminationGracePeriodSeconds");
    if let Some(grace) = grace.filter(|grace| *grace <= 0) {
        let detail = "must be greater than 0";
        errors.push(FieldError::invalid(&grace_path(), grace, detail));
    }
    let threshold = probe.int("successThreshold").unwrap_or(1);
    match (name, grace) {
        ("readinessProbe", Some(grace)) => {
            let detail = "must not be set for readinessProbes";
            errors.push(FieldError::invalid(&grace_path(), grace, detail));
        }
        ("readinessProbe", None) => {}
        _ if threshold != 1 => {
            let path = path.child("successThreshold");
            errors.push(FieldError::invalid(&path, threshold, "must be 1"));
        }
        _ => {}
    }
}

fn handler(
    handler: &Value,
    kinds: &[&str],
    grace: Option<i64>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let mut given = kinds.iter().filter(|kind| handler.has(kind));
    match given.next() {
        Some(kind) => action(kind, handler.at(kind), grace, &path.child(kind), errors),
        None => errors.push(FieldError::required(path, "must specify a handler type")),
    }
    for kind in given {
        let detail = "may not specify more than 1 handler type";
        errors.push(FieldError::forbidden(&path.child(kind), detail));
    }
}

fn action(kind: &str, action: &Value, grace: Option<i64>, path: &Path, errors: &mut ErrorList) {
    match kind {
        "exec" if action.list("command").is_empty() => {
            errors.push(FieldError::required(&path.child("command"), ""));
        }
        "httpGet" => http_get(action, path, errors),
        "tcpSocket" => port_of(action, "port", path, errors),
        "grpc" => port_number_of(action.int("port").unwrap_or(0), "port", path, errors),
        "sleep" => {
            let seconds = action.int("seconds").unwrap_or(0);
            if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                let detail = format!(
                    "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                );
                errors.push(FieldError::invalid(path, seconds, detail));
            }
        }
        _ => {}
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut ErrorList) {
    require(action, "path", path, errors);
    port_of(action, "port", path, errors);
    let (scheme, schemes) = (action.text("scheme"), ["HTTP", "HTTPS"]);
    if !schemes.contains(&scheme) {
        let path = path.child("scheme");
        errors.push(FieldError::not_supported(&path, scheme, &schemes));
    }
    for header in action.list("httpHeaders") {
        let name = header.text("name");
        super::complain_of(
            names::is_http_header_name(name),
            "httpHeaders",
            path,
            name,
            errors,
        );
    }
}

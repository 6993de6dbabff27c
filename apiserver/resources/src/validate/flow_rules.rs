//! Whom and what a flow schema is about.

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::one_of;
use crate::look::Look;

/// The verbs that requests have.
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// A user, a group or an account: the field of its kind, and no other one.
pub(super) fn subject(subject: &Value, path: &Path, errors: &mut ErrorList) {
    let kinds = ["Group", "ServiceAccount", "User"];
    one_of(subject, "kind", &kinds, path, errors);
    let own = subject.text("kind");
    if !kinds.contains(&own) {
        return;
    }
    for (kind, field) in kinds.iter().zip(["group", "serviceAccount", "user"]) {
        let at = path.child(field);
        match (*kind == own, subject.has(field)) {
            (true, false) => {
                let detail = format!("{field} is required when subject kind is '{kind}'");
                errors.push(FieldError::required(&at, detail));
            }
            (false, true) => {
                let detail = format!("{field} is forbidden when subject kind is not '{kind}'");
                errors.push(FieldError::forbidden(&at, detail));
            }
            (true, true) => named(subject.at(field), own, &at, errors),
            (false, false) => {}
        }
    }
}

fn named(subject: &Value, kind: &str, path: &Path, errors: &mut ErrorList) {
    if subject.text("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    if kind == "ServiceAccount" && subject.text("namespace").is_empty() {
        let detail = "must specify namespace for service account";
        errors.push(FieldError::required(&path.child("namespace"), detail));
    }
}

/// Requests for objects.
pub(super) fn resources(rule: &Value, path: &Path, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let group = "resource rules must supply at least one api group";
    all_or_some(rule, "apiGroups", (group, "api groups"), path, errors);
    let resource = "resource rules must supply at least one resource";
    all_or_some(rule, "resources", (resource, "resources"), path, errors);
    if rule.flag("clusterScope") && rule.list("namespaces").is_empty() {
        return;
    }
    let namespace = "resource rules that are not cluster scoped must supply at least one namespace";
    all_or_some(rule, "namespaces", (namespace, "namespaces"), path, errors);
    for (at, name) in rule.texts("namespaces").into_iter().enumerate() {
        if name == "*" {
            continue;
        }
        for problem in names::is_dns1123_label(name) {
            let path = path.child("namespaces").index(at);
            let intro = "each member of this list must be '*' or a DNS-1123 label; ";
            errors.push(FieldError::invalid(
                &path,
                name,
                format!("{intro}{problem}"),
            ));
        }
    }
}

/// Requests for other paths.
pub(super) fn urls(rule: &Value, path: &Path, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let url = "nonResourceURLs must contain at least one value";
    let what = (url, "non-resource URLs");
    all_or_some(rule, "nonResourceURLs", what, path, errors);
    for (at, url) in rule.texts("nonResourceURLs").into_iter().enumerate() {
        let path = path.child("nonResourceURLs").index(at);
        let detail = match url {
            "" => "must not be empty",
            "/" | "*" => continue,
            _ if !url.starts_with('/') => "must start with slash",
            _ if url.contains(' ') => "must not contain white-space",
            _ if url.contains("//") => "must not contain double slash",
            _ if url.trim_end_matches('*').contains('*') || url.ends_with("**") => {
                "wildcard can only do suffix matching"
            }
            _ if url.ends_with('*') && !url.ends_with("/*") => {
                "wildcard can only do suffix matching"
            }
            _ => continue,
        };
        errors.push(FieldError::invalid(&path, url, detail));
    }
}

fn verbs(rule: &Value, path: &Path, errors: &mut ErrorList) {
    let required = "verbs must contain at least one value";
    all_or_some(rule, "verbs", (required, "verbs"), path, errors);
    let verbs = rule.texts("verbs");
    let is_known = |verb: &&str| *verb == "*" || VERBS.contains(verb);
    if !verbs.iter().all(is_known) && !verbs.contains(&"*") {
        let all = rule.at("verbs").clone();
        errors.push(FieldError::not_supported(&path.child("verbs"), all, VERBS));
    }
}

/// A list that has something, and where `*` is in it nothing else.
fn all_or_some(
    rule: &Value,
    field: &str,
    (required, others): (&str, &str),
    path: &Path,
    errors: &mut ErrorList,
) {
    let list = rule.texts(field);
    let path = path.child(field);
    if list.is_empty() {
        errors.push(FieldError::required(&path, required));
    } else if list.contains(&"*") && list.len() > 1 {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.push(FieldError::invalid(&path, rule.at(field).clone(), detail));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(check: fn(&Value, &Path, &mut ErrorList), value: Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        check(&value, &Path::new("r"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_subject_has_the_field_of_its_kind() {
        let user = json!({"kind": "User", "user": {"name": "a"}});
        assert!(said(subject, user).is_empty());
        assert_eq!(
            said(
                subject,
                json!({"kind": "ServiceAccount", "user": {"name": "a"}})
            ),
            [
                "r.serviceAccount: Required value: serviceAccount is required when subject kind is 'ServiceAccount'",
                "r.user: Forbidden: user is forbidden when subject kind is not 'User'"
            ]
        );
    }

    #[test]
    fn rules_say_all_or_some() {
        let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true});
        assert!(said(resources, everything).is_empty());
        assert_eq!(
            said(
                resources,
                json!({"verbs": ["get", "*"], "apiGroups": [""], "resources": []})
            ),
            [
                "r.verbs: Invalid value: [\"get\",\"*\"]: if '*' is present, must not specify other verbs",
                "r.resources: Required value: resource rules must supply at least one resource",
                "r.namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace"
            ]
        );
        let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/a/*", "b"]});
        assert_eq!(
            said(urls, paths),
            ["r.nonResourceURLs[2]: Invalid value: \"b\": must start with slash"]
        );
    }
}

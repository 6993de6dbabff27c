//! Webhook configurations and admission policies. Expressions are compiled, and
//! checked against what they may name, by the crate `cel`.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, items, label_selector, one_of, optional_one_of, require};
use crate::look::{Look, spec};

const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
/// Versions of AdmissionReview that the server speaks.
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const MATCH_CONDITIONS_MAX: usize = 64;
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

fn rules(parent: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    for (path, rule) in items(parent, field, path) {
        words_of(rule, "operations", "operations", &path, errors);
        for (at, operation) in rule.texts("operations").into_iter().enumerate() {
            if !OPERATIONS.contains(&operation) {
                errors.push(FieldError::not_supported(
                    &path.child("operations").index(at),
                    operation,
                    OPERATIONS,
                ));
            }
        }
        words_of(rule, "apiGroups", "API groups", &path, errors);
        words_of(rule, "apiVersions", "API versions", &path, errors);
        for (at, version) in rule.texts("apiVersions").into_iter().enumerate() {
            if version.is_empty() {
                errors.push(FieldError::required(
                    &path.child("apiVersions").index(at),
                    "",
                ));
            }
        }
        resources(&rule.texts("resources"), &path.child("resources"), errors);
        resource_names(
            &rule.texts("resourceNames"),
            &path.child("resourceNames"),
            errors,
        );
        optional_one_of(
            rule,
            "scope",
            &["*", "Cluster", "Namespaced"],
            &path,
            errors,
        );
    }
}

/// The names in a rule, which only policies have.
fn resource_names(names: &[&str], path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let path = path.index(at);
        for message in schema::names::is_valid_path_segment_name(name) {
            errors.push(FieldError::invalid(&path, *name, message));
        }
        if !seen.insert(*name) {
            errors.push(FieldError::duplicate(&path, *name));
        }
    }
}

/// A list that is `*` alone, or words.
fn words_of(rule: &Value, field: &str, words: &str, path: &Path, errors: &mut ErrorList) {
    let (values, path) = (rule.texts(field), path.child(field));
    if values.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if values.contains(&"*") && values.len() > 1 {
        let detail = format!("if '*' is present, must not specify other {words}");
        errors.push(FieldError::invalid(&path, values, detail));
    }
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*`, `*/*`: none that another one contains.
fn resources(values: &[&str], path: &Path, errors: &mut ErrorList) {
    if values.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut all_of, mut of_all) = (BTreeSet::new(), BTreeSet::new());
    for (at, value) in values.iter().enumerate() {
        if value.is_empty() {
            errors.push(FieldError::required(&path.index(at), ""));
        }
        let Some((resource, subresource)) = value.split_once('/') else {
            continue;
        };
        for (is_there, which) in [
            (all_of.contains(resource), format!("{resource}/*")),
            (of_all.contains(subresource), format!("*/{subresource}")),
        ] {
            if is_there {
                let detail = format!("if '{which}' is present, must not specify {value}");
                errors.push(FieldError::invalid(&path.index(at), *value, detail));
            }
        }
        if subresource == "*" {
            all_of.insert(resource);
        }
        if resource == "*" {
            of_all.insert(subresource);
        }
    }
    let list = || Value::from(values.to_vec());
    if values.len() > 1 && values.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, list(), detail));
    }
    let plain = |value: &&str| !value.is_empty() && *value != "*" && !value.contains('/');
    if values.contains(&"*") && values.iter().any(plain) {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, list(), detail));
    }
}

/// `params` tells whether the expressions may name parameters.
fn match_conditions(parent: &Value, params: bool, path: &Path, errors: &mut ErrorList) {
    let count = parent.list("matchConditions").len();
    if count > MATCH_CONDITIONS_MAX {
        let path = path.child("matchConditions");
        errors.push(FieldError::too_many(&path, count, MATCH_CONDITIONS_MAX));
    }
    let mut seen = BTreeSet::new();
    for (path, condition) in items(parent, "matchConditions", path) {
        if require(condition, "expression", &path, errors) {
            let source = condition.text("expression");
            let path = path.child("expression");
            cel::admission::check_condition(source, params, &path, errors);
        }
        if require(condition, "name", &path, errors) {
            let name = condition.text("name");
            complain(
                names::is_qualified_name(name),
                &path.child("name"),
                name,
                errors,
            );
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
    }
}

/// Mutating and validating webhook configurations.
pub(crate) fn webhooks(object: &Object, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, hook) in items(object, "webhooks", &Path::root()) {
        let name = hook.text("name");
        for message in names::is_fully_qualified_name(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, message));
        }
        rules(hook, "rules", &path, errors);
        optional_one_of(hook, "failurePolicy", &["Fail", "Ignore"], &path, errors);
        optional_one_of(hook, "matchPolicy", &["Equivalent", "Exact"], &path, errors);
        if hook.has("sideEffects") {
            one_of(hook, "sideEffects", SIDE_EFFECTS, &path, errors);
        } else {
            let detail = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
            errors.push(FieldError::required(&path.child("sideEffects"), detail));
        }
        optional_one_of(
            hook,
            "reinvocationPolicy",
            &["IfNeeded", "Never"],
            &path,
            errors,
        );
        if let Some(seconds) = hook
            .int("timeoutSeconds")
            .filter(|seconds| !(1..=30).contains(seconds))
        {
            let detail = "the timeout value must be between 1 and 30 seconds";
            errors.push(FieldError::invalid(
                &path.child("timeoutSeconds"),
                seconds,
                detail,
            ));
        }
        for field in ["namespaceSelector", "objectSelector"] {
            label_selector(hook.at(field), &path.child(field), errors);
        }
        client_config(hook.at("clientConfig"), &path.child("clientConfig"), errors);
        match_conditions(hook, false, &path, errors);
        review_versions(
            &hook.texts("admissionReviewVersions"),
            &path.child("admissionReviewVersions"),
            errors,
        );
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
}

/// The server has to speak one of the versions that the webhook reads.
fn review_versions(versions: &[&str], path: &Path, errors: &mut ErrorList) {
    if versions.is_empty() {
        let detail = format!("must specify one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::required(path, detail));
        return;
    }
    let mut seen = BTreeSet::new();
    for (at, version) in versions.iter().enumerate() {
        if seen.insert(version) {
            complain(
                names::is_dns1035_label(version),
                &path.index(at),
                version,
                errors,
            );
        } else {
            errors.push(FieldError::invalid(
                &path.index(at),
                *version,
                "duplicate version",
            ));
        }
    }
    if !versions
        .iter()
        .any(|version| REVIEW_VERSIONS.contains(version))
    {
        let detail = format!(
            "must include at least one of {}",
            REVIEW_VERSIONS.join(", ")
        );
        errors.push(FieldError::invalid(path, versions.to_vec(), detail));
    }
}

/// Where a webhook is.
pub(super) fn client_config(config: &Value, path: &Path, errors: &mut ErrorList) {
    match (config.has("url"), config.has("service")) {
        (true, false) => webhook_url(config.text("url"), &path.child("url"), errors),
        (false, true) => webhook_service(config.at("service"), &path.child("service"), errors),
        _ => {
            let detail = "exactly one of url or service is required";
            errors.push(FieldError::required(path, detail));
        }
    }
}

fn webhook_url(url: &str, path: &Path, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, scheme, detail));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        let detail = format!("host must be specified{FORM}");
        errors.push(FieldError::invalid(path, host, detail));
    }
    for (value, detail) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !value.is_empty() {
            errors.push(FieldError::invalid(path, value, detail));
        }
    }
}

fn webhook_service(service: &Value, path: &Path, errors: &mut ErrorList) {
    for field in ["name", "namespace"] {
        if service.text(field).is_empty() {
            let detail = format!("service {field} is required");
            errors.push(FieldError::required(&path.child(field), detail));
        }
    }
    if let Some(number) = service.int("port") {
        let problems = names::is_valid_port_num(number);
        if !problems.is_empty() {
            let detail = format!("port is not valid: {}", problems.join(", "));
            errors.push(FieldError::invalid(&path.child("port"), number, detail));
        }
    }
    let (text, path) = (service.text("path"), path.child("path"));
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        let detail = "segment[0] may not be empty";
        errors.push(FieldError::invalid(&path, text, detail));
        return;
    }
    if !text.starts_with('/') {
        errors.push(FieldError::invalid(&path, text, "must start with a '/'"));
    }
    // Without its first letter, whatever that is.
    let steps: String = text.chars().skip(1).collect();
    let steps = steps.strip_suffix('/').unwrap_or(&steps);
    for (at, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            let detail = format!("segment[{at}] may not be empty");
            errors.push(FieldError::invalid(&path, text, detail));
            continue;
        }
        for problem in names::is_dns1123_subdomain(step) {
            let detail = format!("segment[{at}]: {problem}");
            errors.push(FieldError::invalid(&path, text, detail));
        }
    }
}

/// The kind of what parameters are read from.
fn param_kind(kind: &Value, path: &Path, errors: &mut ErrorList) {
    if require(kind, "apiVersion", path, errors) {
        group_version(kind.text("apiVersion"), &path.child("apiVersion"), errors);
    }
    if require(kind, "kind", path, errors) {
        let name = kind.text("kind");
        let messages = names::is_dns1035_label(&name.to_lowercase());
        if !messages.is_empty() {
            let detail = format!(
                "may have mixed case, but should otherwise match: {}",
                messages.join(",")
            );
            errors.push(FieldError::invalid(&path.child("kind"), name, detail));
        }
    }
}

fn group_version(text: &str, path: &Path, errors: &mut ErrorList) {
    let (group, version) = match text.split('/').collect::<Vec<_>>()[..] {
        [version] => ("", version),
        [group, version] => (group, version),
        _ => {
            let detail = format!("unexpected GroupVersion string: {text}");
            errors.push(FieldError::invalid(path, text, detail));
            return;
        }
    };
    let of_group = match group.is_empty() {
        true => Vec::new(),
        false => names::is_dns1123_subdomain(group),
    };
    let of_version = match version.is_empty() {
        true => vec!["version must be specified".to_owned()],
        false => names::is_dns1035_label(version),
    };
    for (part, messages) in [(group, of_group), (version, of_version)] {
        if !messages.is_empty() {
            errors.push(FieldError::invalid(path, part, messages.join(",")));
        }
    }
}

fn policy(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    optional_one_of(spec, "failurePolicy", &["Fail", "Ignore"], &path, errors);
    let kind = spec.at("paramKind");
    if kind.is_object() {
        param_kind(kind, &path.child("paramKind"), errors);
    }
    let (constraints, constraints_path) =
        (spec.at("matchConstraints"), path.child("matchConstraints"));
    if constraints.is_null() {
        errors.push(FieldError::required(&constraints_path, ""));
    } else {
        if constraints.list("resourceRules").is_empty() {
            errors.push(FieldError::required(
                &constraints_path.child("resourceRules"),
                "",
            ));
        }
        match_resources(constraints, &constraints_path, errors);
    }
    match_conditions(spec, kind.is_object(), &path, errors);
    let mut seen = BTreeSet::new();
    for (path, variable) in items(spec, "variables", &path) {
        require(variable, "expression", &path, errors);
        if require(variable, "name", &path, errors) {
            let name = variable.text("name");
            complain(
                names::is_c_identifier(name),
                &path.child("name"),
                name,
                errors,
            );
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
    }
}

fn match_resources(resources: &Value, path: &Path, errors: &mut ErrorList) {
    rules(resources, "resourceRules", path, errors);
    rules(resources, "excludeResourceRules", path, errors);
    optional_one_of(
        resources,
        "matchPolicy",
        &["Equivalent", "Exact"],
        path,
        errors,
    );
    for field in ["namespaceSelector", "objectSelector"] {
        label_selector(resources.at(field), &path.child(field), errors);
    }
}

/// ValidatingAdmissionPolicy.
pub(crate) fn validating_policy(object: &Object, errors: &mut ErrorList) {
    policy(object, errors);
    let (spec, path) = (spec(object), Path::new("spec"));
    cel::admission::check_validating(spec, &path, errors);
    if spec.list("validations").is_empty() && spec.list("auditAnnotations").is_empty() {
        let detail = "validations or auditAnnotations must be non-empty";
        errors.push(FieldError::required(&path.child("validations"), detail));
    }
    for (path, validation) in items(spec, "validations", &path) {
        if validation.text("expression").trim().is_empty() {
            errors.push(FieldError::required(
                &path.child("expression"),
                "expression is not specified",
            ));
        }
        texts_of_validation(validation, &path, errors);
    }
    audit_annotations(object.name(), spec, &path, errors);
}

/// Annotations of the audit log are called after the policy.
fn audit_annotations(policy: &str, spec: &Value, path: &Path, errors: &mut ErrorList) {
    const MAX: usize = 20;
    if spec.list("auditAnnotations").len() > MAX {
        let value = spec.at("auditAnnotations").clone();
        let detail = format!("must not have more than {MAX} auditAnnotations");
        let path = path.child("auditAnnotations");
        errors.push(FieldError::invalid(&path, value, detail));
    }
    let mut seen = BTreeSet::new();
    for (path, annotation) in items(spec, "auditAnnotations", path) {
        let key = annotation.text("key");
        let (name, key_path) = (format!("{policy}/{key}"), path.child("key"));
        if policy.is_empty() {
            let detail = "requires metadata.name be non-empty";
            errors.push(FieldError::invalid(&key_path, key, detail));
        } else {
            complain(names::is_qualified_name(&name), &key_path, &name, errors);
        }
        if annotation.text("valueExpression").trim().is_empty() {
            let path = path.child("valueExpression");
            let detail = "valueExpression is not specified";
            errors.push(FieldError::required(&path, detail));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&key_path, key));
        }
    }
}

const REASONS: &[&str] = &[
    "Forbidden",
    "Invalid",
    "RequestEntityTooLarge",
    "Unauthorized",
];

/// What a validation says when it does not hold.
fn texts_of_validation(validation: &Value, path: &Path, errors: &mut ErrorList) {
    for field in ["message", "messageExpression"] {
        let text = validation.text(field);
        if !text.is_empty() && text.trim().is_empty() {
            let detail = format!("{field} must be non-empty if specified");
            errors.push(FieldError::invalid(&path.child(field), text, detail));
        }
    }
    let message = validation.text("message");
    if message.trim().contains('\n') {
        let detail = "message must not contain line breaks";
        errors.push(FieldError::invalid(&path.child("message"), message, detail));
    }
    if message.is_empty() && validation.text("expression").trim().contains('\n') {
        let detail = "message must be specified if expression contains line breaks";
        errors.push(FieldError::required(&path.child("message"), detail));
    }
    optional_one_of(validation, "reason", REASONS, path, errors);
}

const MUTATING_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];

/// MutatingAdmissionPolicy.
pub(crate) fn mutating_policy(object: &Object, errors: &mut ErrorList) {
    policy(object, errors);
    let (spec, path) = (spec(object), Path::new("spec"));
    // Nothing is left to change of what is deleted.
    for rule in spec.at("matchConstraints").list("resourceRules") {
        for operation in rule.texts("operations") {
            if !MUTATING_OPERATIONS.contains(&operation) {
                let path = path.child("operations");
                let error = FieldError::not_supported(&path, operation, MUTATING_OPERATIONS);
                errors.push(error);
            }
        }
    }
    cel::admission::check_mutating(spec, &path, errors);
    if spec.list("mutations").is_empty() {
        errors.push(FieldError::required(
            &path.child("mutations"),
            "mutations must contain at least one item",
        ));
    }
    for (path, mutation) in items(spec, "mutations", &path) {
        one_of(
            mutation,
            "patchType",
            &["ApplyConfiguration", "JSONPatch"],
            &path,
            errors,
        );
        let (field, other) = match mutation.text("patchType") {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            _ => continue,
        };
        if mutation.has(other) {
            let detail = format!(
                "must not be specified when patchType is {}",
                mutation.text("patchType")
            );
            let shown = format!("{{{other}}}");
            errors.push(FieldError::invalid(&path.child(other), shown, detail));
        }
        if !mutation.has(field) {
            let detail = format!(
                "must be specified when patchType is {}",
                mutation.text("patchType")
            );
            errors.push(FieldError::required(&path.child(field), detail));
        } else if mutation.at(field).text("expression").trim().is_empty() {
            let path = path.child(field).child("expression");
            errors.push(FieldError::required(&path, "expression is not specified"));
        }
    }
    one_of(
        spec,
        "reinvocationPolicy",
        &["IfNeeded", "Never"],
        &path,
        errors,
    );
}

fn binding(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    require(spec, "policyName", &path, errors);
    match_resources(
        spec.at("matchResources"),
        &path.child("matchResources"),
        errors,
    );
    let (reference, path) = (spec.at("paramRef"), path.child("paramRef"));
    if reference.is_object() {
        match (reference.text("name").is_empty(), reference.has("selector")) {
            (true, false) => {
                errors.push(FieldError::required(
                    &path,
                    "one of name or selector must be specified",
                ));
            }
            (false, true) => {
                let detail = "name and selector are mutually exclusive";
                errors.push(FieldError::forbidden(&path.child("name"), detail));
            }
            _ => {}
        }
        label_selector(reference.at("selector"), &path.child("selector"), errors);
        one_of(
            reference,
            "parameterNotFoundAction",
            &["Allow", "Deny"],
            &path,
            errors,
        );
    }
}

/// ValidatingAdmissionPolicyBinding.
pub(crate) fn validating_binding(object: &Object, errors: &mut ErrorList) {
    binding(object, errors);
    let path = Path::new("spec").child("validationActions");
    let actions = spec(object).texts("validationActions");
    if actions.is_empty() {
        errors.push(FieldError::required(
            &path,
            "at least one validation action is required",
        ));
    }
    let mut seen = BTreeSet::new();
    for (at, action) in actions.iter().enumerate() {
        if !["Audit", "Deny", "Warn"].contains(action) {
            errors.push(FieldError::not_supported(
                &path.index(at),
                *action,
                &["Audit", "Deny", "Warn"],
            ));
        }
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(&path.index(at), *action));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(
            &path,
            spec(object).at("validationActions").clone(),
            detail,
        ));
    }
}

/// MutatingAdmissionPolicyBinding.
pub(crate) fn mutating_binding(object: &Object, errors: &mut ErrorList) {
    binding(object, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn complaints(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut hook = json!({
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": "n", "name": "s", "port": 443}},
            "rules": [{"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]
        });
        change(&mut hook);
        let object = Object::new(json!({ "webhooks": [hook] })).unwrap();
        let mut errors = ErrorList::new();
        webhooks(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_of_audit_annotations_are_qualified_by_their_policy() {
        for (key, good) in [("count", true), ("a b", false), ("", false), ("x/y", false)] {
            let policy = json!({"metadata": {"name": "p.example.com"}, "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["*"], "resources": ["pods"]}]},
                "auditAnnotations": [{"key": key, "valueExpression": "'x'"}]}});
            let mut errors = ErrorList::new();
            validating_policy(&Object::new(policy).unwrap(), &mut errors);
            assert_eq!(errors.is_empty(), good, "{key:?}: {errors:?}");
            let path = "spec.auditAnnotations[0].key: Invalid value: \"p.example.com/";
            let all = errors.iter().map(ToString::to_string);
            assert!(all.into_iter().all(|text| text.starts_with(path)));
        }
    }

    #[test]
    fn names_in_rules_are_names_and_stand_once() {
        let mut errors = ErrorList::new();
        let path = Path::new("resourceNames");
        resource_names(&["a", "b", "a", "c/d"], &path, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "resourceNames[2]: Duplicate value: \"a\"",
                "resourceNames[3]: Invalid value: \"c/d\": may not contain '/'"
            ]
        );
    }

    #[test]
    fn webhooks_are_what_kubernetes_takes() {
        assert_eq!(complaints(|_| {}), Vec::<String>::new());
        for (path, value, text) in [
            (
                "/name",
                json!("a"),
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
            ),
            (
                "/sideEffects",
                json!(null),
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            ),
            (
                "/sideEffects",
                json!("Some"),
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                "/admissionReviewVersions",
                json!([]),
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ),
            (
                "/admissionReviewVersions",
                json!(["v2"]),
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
            ),
            (
                "/admissionReviewVersions",
                json!(["v1", "v1"]),
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
            ),
            (
                "/rules/0/operations",
                json!(["*", "CREATE"]),
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            ),
            (
                "/rules/0/apiGroups",
                json!(["*", "a"]),
                "webhooks[0].rules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups",
            ),
            (
                "/rules/0/apiVersions",
                json!([""]),
                "webhooks[0].rules[0].apiVersions[0]: Required value",
            ),
            (
                "/rules/0/resources",
                json!([]),
                "webhooks[0].rules[0].resources: Required value",
            ),
            (
                "/rules/0/resources",
                json!(["*/*", "a"]),
                "webhooks[0].rules[0].resources: Invalid value: [\"*/*\",\"a\"]: if '*/*' is present, must not specify other resources",
            ),
            (
                "/rules/0/resources",
                json!(["*", "a"]),
                "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources without subresources",
            ),
            (
                "/rules/0/resources",
                json!(["a/*", "a/x"]),
                "webhooks[0].rules[0].resources[1]: Invalid value: \"a/x\": if 'a/*' is present, must not specify a/x",
            ),
            (
                "/rules/0/resources",
                json!(["*/a", "x/a"]),
                "webhooks[0].rules[0].resources[1]: Invalid value: \"x/a\": if '*/a' is present, must not specify x/a",
            ),
            (
                "/clientConfig",
                json!({}),
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                "/clientConfig",
                json!({"url": "http://a"}),
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                "/clientConfig",
                json!({"url": "https://"}),
                "webhooks[0].clientConfig.url: Invalid value: \"\": host must be specified; desired format: https://host[/path]",
            ),
            (
                "/clientConfig",
                json!({"url": "https://u:p@a/x"}),
                "webhooks[0].clientConfig.url: Invalid value: \"u:p\": user information is not permitted in the URL",
            ),
            (
                "/clientConfig",
                json!({"url": "https://a?b=c"}),
                "webhooks[0].clientConfig.url: Invalid value: \"b=c\": query parameters are not permitted in the URL",
            ),
            (
                "/clientConfig/service/name",
                json!(""),
                "webhooks[0].clientConfig.service.name: Required value: service name is required",
            ),
            (
                "/clientConfig/service/port",
                json!(0),
                "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ),
        ] {
            let complained = complaints(|hook| *hook.pointer_mut(path).unwrap() = value);
            assert_eq!(complained, [text], "{path}");
        }
    }

    #[test]
    fn paths_of_services() {
        let complained = |path: &str| {
            let path = path.to_owned();
            complaints(|hook| hook["clientConfig"]["service"]["path"] = path.into()).len()
        };
        for (path, count) in [
            ("", 0),
            ("/", 0),
            ("//", 1),
            ("/a/b", 0),
            ("/a/b/", 0),
            ("a/b", 2),
            ("/a//b", 1),
            ("/A", 1),
        ] {
            assert_eq!(complained(path), count, "{path}");
        }
    }
}

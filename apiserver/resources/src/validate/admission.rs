//! Webhook configurations and admission policies. Expressions are compiled where they are run.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, items, label_selector, one_of, optional_one_of, require};
use crate::look::{Look, spec};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

fn rules(parent: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    for (path, rule) in items(parent, field, path) {
        for field in ["apiGroups", "apiVersions", "resources", "operations"] {
            let values = rule.texts(field);
            if values.is_empty() {
                errors.push(FieldError::required(&path.child(field), ""));
            } else if values.contains(&"*") && values.len() > 1 && field != "resources" {
                let detail = "if '*' is present, must not specify other";
                errors.push(FieldError::invalid(
                    &path.child(field),
                    rule.at(field).clone(),
                    format!("{detail} {}", words(field)),
                ));
            }
        }
        for (at, operation) in rule.texts("operations").into_iter().enumerate() {
            if !OPERATIONS.contains(&operation) {
                errors.push(FieldError::not_supported(
                    &path.child("operations").index(at),
                    operation,
                    OPERATIONS,
                ));
            }
        }
        optional_one_of(
            rule,
            "scope",
            &["*", "Cluster", "Namespaced"],
            &path,
            errors,
        );
    }
}

fn words(field: &str) -> &str {
    match field {
        "apiGroups" => "API groups",
        "apiVersions" => "API versions",
        other => other,
    }
}

fn match_conditions(parent: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, condition) in items(parent, "matchConditions", path) {
        require(condition, "expression", &path, errors);
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
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if hook.list("admissionReviewVersions").is_empty() {
            let detail = "must specify one of v1, v1beta1";
            errors.push(FieldError::required(
                &path.child("admissionReviewVersions"),
                detail,
            ));
        }
        rules(hook, "rules", &path, errors);
        one_of(
            hook,
            "sideEffects",
            &["None", "NoneOnDryRun"],
            &path,
            errors,
        );
        optional_one_of(hook, "failurePolicy", &["Fail", "Ignore"], &path, errors);
        optional_one_of(hook, "matchPolicy", &["Equivalent", "Exact"], &path, errors);
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
        match_conditions(hook, &path, errors);
        client_config(hook.at("clientConfig"), &path.child("clientConfig"), errors);
    }
}

fn client_config(config: &Value, path: &Path, errors: &mut ErrorList) {
    match (config.has("url"), config.has("service")) {
        (true, false) => {
            let url = config.text("url");
            if !url.starts_with("https://") {
                let detail = "'https' is the only allowed URL scheme";
                errors.push(FieldError::invalid(&path.child("url"), url, detail));
            }
        }
        (false, true) => {
            let (service, path) = (config.at("service"), path.child("service"));
            require(service, "name", &path, errors);
            require(service, "namespace", &path, errors);
            let text = service.text("path");
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(FieldError::invalid(
                    &path.child("path"),
                    text,
                    "must start with a '/'",
                ));
            }
            if let Some(number) = service.int("port")
                && !names::is_valid_port_num(number).is_empty()
            {
                let detail = "port is not valid: must be between 1 and 65535, inclusive";
                errors.push(FieldError::invalid(&path.child("port"), number, detail));
            }
        }
        _ => {
            let detail = "exactly one of url or service is required";
            errors.push(FieldError::required(path, detail));
        }
    }
}

fn policy(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    optional_one_of(spec, "failurePolicy", &["Fail", "Ignore"], &path, errors);
    let kind = spec.at("paramKind");
    if kind.is_object() {
        require(kind, "apiVersion", &path.child("paramKind"), errors);
        require(kind, "kind", &path.child("paramKind"), errors);
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
    match_conditions(spec, &path, errors);
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
    }
    for (path, annotation) in items(spec, "auditAnnotations", &path) {
        require(annotation, "key", &path, errors);
        require(annotation, "valueExpression", &path, errors);
    }
}

/// MutatingAdmissionPolicy.
pub(crate) fn mutating_policy(object: &Object, errors: &mut ErrorList) {
    policy(object, errors);
    let (spec, path) = (spec(object), Path::new("spec"));
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

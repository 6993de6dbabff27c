//! API services, and the outer form of custom resource definitions.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, immutable, one_of, optional_one_of, require, versions};
use crate::look::{Look, spec};

/// APIService.
pub(crate) fn api_service(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let (group, version) = (spec.text("group"), spec.text("version"));
    let wanted = format!("{version}.{group}");
    if object.name() != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: \"{wanted}\"");
        errors.push(FieldError::invalid(
            &Path::new("metadata").child("name"),
            object.name(),
            detail,
        ));
    }
    if !group.is_empty() {
        complain(
            names::is_dns1123_subdomain(group),
            &path.child("group"),
            group,
            errors,
        );
    }
    complain(
        names::is_dns1035_label(version),
        &path.child("version"),
        version,
        errors,
    );
    for (field, most) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
        let priority = spec.int(field).unwrap_or(0);
        if priority <= 0 || priority > most {
            let detail = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(&path.child(field), priority, detail));
        }
    }
    let service = spec.at("service");
    if service.is_object() {
        for field in ["namespace", "name"] {
            require(service, field, &path.child("service"), errors);
        }
        if spec.flag("insecureSkipTLSVerify") && !spec.text("caBundle").is_empty() {
            let detail = "may not be true if caBundle is present";
            errors.push(FieldError::invalid(
                &path.child("insecureSkipTLSVerify"),
                true,
                detail,
            ));
        }
    } else if spec.flag("insecureSkipTLSVerify") {
        let detail = "local APIServices may not set insecureSkipTLSVerify";
        errors.push(FieldError::invalid(
            &path.child("insecureSkipTLSVerify"),
            true,
            detail,
        ));
    }
}

/// CustomResourceDefinition: names and versions. Its schemas are read where custom resources are served.
pub(crate) fn definition(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let group = spec.text("group");
    if require(spec, "group", &path, errors) {
        complain(
            names::is_dns1123_subdomain(group),
            &path.child("group"),
            group,
            errors,
        );
        if !group.contains('.') {
            let detail = "should be a domain with at least one dot";
            errors.push(FieldError::invalid(&path.child("group"), group, detail));
        }
    }
    one_of(spec, "scope", &["Cluster", "Namespaced"], &path, errors);
    let (kinds, names_path) = (spec.at("names"), path.child("names"));
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = kinds.text(field);
        let path = names_path.child(field);
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if matches!(field, "plural" | "singular") {
            complain(names::is_dns1035_label(name), &path, name, errors);
            continue;
        }
        let wrong = names::is_dns1035_label(&name.to_lowercase());
        if !wrong.is_empty() {
            let wrong = wrong.join(",");
            let detail = format!("may have mixed case, but should otherwise match: {wrong}");
            errors.push(FieldError::invalid(&path, name, detail));
        }
    }
    for field in ["shortNames", "categories"] {
        for (at, name) in kinds.texts(field).into_iter().enumerate() {
            let path = names_path.child(field).index(at);
            complain(names::is_dns1035_label(name), &path, name, errors);
        }
    }
    if !kinds.text("kind").is_empty() && kinds.text("kind") == kinds.text("listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(
            &names_path.child("listKind"),
            kinds.text("listKind"),
            detail,
        ));
    }
    let wanted = format!("{}.{group}", kinds.text("plural"));
    if object.name() != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(
            &Path::new("metadata").child("name"),
            object.name(),
            detail,
        ));
    }
    if spec.flag("preserveUnknownFields") {
        let path = path.child("preserveUnknownFields");
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&path, true, detail));
    }
    versions::check_all(object, errors);
    let annotations = Path::new("metadata").child("annotations");
    let annotation = annotations.key("api-approved.kubernetes.io");
    errors.extend(crate::definition::approval_problem(object, &annotation));
    let conversion = spec.at("conversion");
    optional_one_of(
        conversion,
        "strategy",
        &["None", "Webhook"],
        &path.child("conversion"),
        errors,
    );
    if conversion.text("strategy") == "Webhook" {
        let config = conversion.at("webhook").at("clientConfig");
        // As below, the field is named as it was in the older form.
        let path = path.child("conversion").child("webhookClientConfig");
        if config.is_object() {
            super::admission::client_config(config, &path, errors);
        } else {
            let detail = "required when strategy is set to Webhook";
            errors.push(FieldError::required(&path, detail));
        }
    }
    if conversion.text("strategy") == "Webhook" {
        review_versions(conversion, &path.child("conversion"), errors);
    } else {
        no_webhook(conversion.at("webhook"), &path.child("conversion"), errors);
    }
}

/// What only a webhook has.
fn no_webhook(webhook: &Value, path: &Path, errors: &mut ErrorList) {
    let detail = "should not be set when strategy is not set to Webhook";
    if webhook.at("clientConfig").is_object() {
        let path = path.child("webhookClientConfig");
        errors.push(FieldError::forbidden(&path, detail));
    }
    if !webhook.list("conversionReviewVersions").is_empty() {
        let path = path.child("conversionReviewVersions");
        errors.push(FieldError::forbidden(&path, detail));
    }
}

/// The versions of a review that a converter understands.
fn review_versions(conversion: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("conversionReviewVersions");
    // The error names the field as it was before `webhook` was around it, as in Kubernetes.
    let webhook = conversion.at("webhook");
    let versions = webhook.texts("conversionReviewVersions");
    if versions.is_empty() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (at, version) in versions.iter().enumerate() {
        let path = path.index(at);
        if seen.insert(version) {
            complain(names::is_dns1035_label(version), &path, version, errors);
        } else {
            errors.push(FieldError::invalid(&path, *version, "duplicate version"));
        }
    }
    if !versions.contains(&"v1") && !versions.contains(&"v1beta1") {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(&path, versions, detail));
    }
}

/// Names, group and scope of a definition stay, since stored objects live under them.
pub(crate) fn definition_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    for field in ["group", "scope"] {
        immutable(now.at(field), before.at(field), &path.child(field), errors);
    }
    for field in ["plural", "kind"] {
        let path = path.child("names").child(field);
        immutable(
            now.at("names").at(field),
            before.at("names").at(field),
            &path,
            errors,
        );
    }
    stored_versions(new, errors);
}

/// Versions in which objects may still be stored stay.
fn stored_versions(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("status").child("storedVersions");
    let versions = spec(object).list("versions");
    let stored = object.at("status").texts("storedVersions");
    for (at, name) in stored.into_iter().enumerate() {
        if versions.iter().any(|version| version.text("name") == name) {
            continue;
        }
        let detail = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until \
             a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        );
        errors.push(FieldError::invalid(&path.index(at), name, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cron() -> Value {
        let version = |name: &str, storage: bool| {
            json!({"name": name, "served": true, "storage": storage,
                "schema": {"openAPIV3Schema": {"type": "object"}}})
        };
        json!({"metadata": {"name": "crons.x.io"}, "spec": {"group": "x.io", "scope": "Namespaced",
            "names": {"plural": "crons", "singular": "cron", "kind": "Cron", "listKind": "CronList"},
            "versions": [version("v1", true), version("v2", false)]}, "status": {"storedVersions": ["v1"]}})
    }

    fn texts(check: impl FnOnce(&mut ErrorList)) -> Vec<String> {
        let mut errors = ErrorList::new();
        check(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn errors(value: Value) -> Vec<String> {
        texts(|errors| definition(&Object::new(value).unwrap(), errors))
    }

    #[test]
    fn short_names_and_categories_are_labels() {
        let mut value = cron();
        value["spec"]["names"]["shortNames"] = json!(["cr", "C R"]);
        value["spec"]["names"]["categories"] = json!(["All"]);
        let errors = errors(value);
        let wanted = [
            "spec.names.shortNames[1]: Invalid value: \"C R\": a DNS-1035",
            "spec.names.categories[0]: Invalid value: \"All\": a DNS-1035",
        ];
        assert_eq!(errors.len(), wanted.len(), "{errors:?}");
        for (error, wanted) in errors.iter().zip(wanted) {
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn a_converter_says_what_reviews_it_understands() {
        for (versions, wanted) in [
            (json!(["v2", "v1"]), None),
            (json!(null), Some(": Required value")),
            (
                json!(["v2"]),
                Some(": Invalid value: [\"v2\"]: must include at least one of v1, v1beta1"),
            ),
            (
                json!(["v1", "v1"]),
                Some("[1]: Invalid value: \"v1\": duplicate version"),
            ),
        ] {
            let mut value = cron();
            value["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook":
                {"conversionReviewVersions": versions, "clientConfig": {"url": "https://x.io"}}});
            let path = "spec.conversion.conversionReviewVersions";
            let wanted = wanted.map(|text| format!("{path}{text}"));
            assert_eq!(errors(value), Vec::from_iter(wanted));
        }
    }

    #[test]
    fn only_a_webhook_has_what_is_a_webhooks() {
        let mut value = cron();
        value["spec"]["conversion"] = json!({"strategy": "None", "webhook":
            {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://x.io"}}});
        let text = "Forbidden: should not be set when strategy is not set to Webhook";
        let wanted = ["webhookClientConfig", "conversionReviewVersions"]
            .map(|field| format!("spec.conversion.{field}: {text}"));
        assert_eq!(errors(value), wanted);
    }

    #[test]
    fn what_versions_have_in_common_is_told_once() {
        let mut value = cron();
        for version in value["spec"]["versions"].as_array_mut().unwrap() {
            version["schema"]["openAPIV3Schema"]["properties"] = json!({"a": {}});
            version["additionalPrinterColumns"] = json!([{"name": "A", "type": "string"}]);
        }
        let own = |value: &mut Value| {
            value["spec"]["versions"][1]["schema"]["openAPIV3Schema"] = json!({"type": "object"});
        };
        let schema = |place: &str| {
            format!(
                "{place}.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields"
            )
        };
        let column = "spec.additionalPrinterColumns[0].JSONPath: Required value".to_owned();
        let both = errors(value.clone());
        assert_eq!(both, [schema("spec.validation"), column.clone()]);
        own(&mut value);
        assert_eq!(errors(value), [schema("spec.versions[0].schema"), column]);
    }

    #[test]
    fn kinds_may_have_capitals_and_names_may_not() {
        let mut value = cron();
        value["spec"]["names"]["kind"] = json!("A()b");
        value["spec"]["names"]["singular"] = json!("Cron");
        let errors = errors(value);
        let wanted = [
            "spec.names.singular: Invalid value: \"Cron\": a DNS-1035 label",
            "spec.names.kind: Invalid value: \"A()b\": may have mixed case, but should otherwise match: a DNS-1035 label",
        ];
        assert_eq!(errors.len(), wanted.len(), "{errors:?}");
        for (error, wanted) in errors.iter().zip(wanted) {
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn kubernetes_own_groups_want_an_approval() {
        for (annotation, wanted) in [
            (None, Some("Required value: protected groups")),
            (
                Some("yes"),
                Some("Invalid value: \"yes\": protected groups"),
            ),
            (Some("unapproved, a trial"), None),
            (Some("https://x.io/1"), None),
        ] {
            let mut value = cron();
            value["metadata"]["name"] = json!("crons.x.k8s.io");
            value["spec"]["group"] = json!("x.k8s.io");
            if let Some(text) = annotation {
                value["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": text});
            }
            let errors = errors(value);
            assert_eq!(errors.len(), usize::from(wanted.is_some()), "{errors:?}");
            let path = "metadata.annotations[api-approved.kubernetes.io]: ";
            for (error, wanted) in errors.iter().zip(wanted) {
                assert!(error.starts_with(&format!("{path}{wanted}")), "{error}");
            }
        }
    }

    #[test]
    fn a_converter_is_called_by_https() {
        for (config, wanted) in [
            (json!({"url": "https://x.io/convert"}), None),
            (
                json!(null),
                Some(": Required value: required when strategy is set to Webhook"),
            ),
            (
                json!({}),
                Some(": Required value: exactly one of url or service is required"),
            ),
            (
                json!({"url": "http://x.io"}),
                Some(
                    ".url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ),
            ),
            (
                json!({"service": {"name": "s"}}),
                Some(".service.namespace: Required value: service namespace is required"),
            ),
        ] {
            let mut value = cron();
            value["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook":
                {"conversionReviewVersions": ["v1"], "clientConfig": config}});
            let wanted = wanted.map(|text| format!("spec.conversion.webhookClientConfig{text}"));
            assert_eq!(errors(value), Vec::from_iter(wanted));
        }
    }

    #[test]
    fn what_is_said_of_deprecated_versions_can_be_a_header() {
        let long = "x".repeat(257);
        for (deprecated, text, wanted) in [
            (true, "Use something else.", None),
            (true, "é", None),
            (false, "x", Some("can only be set for deprecated versions")),
            (true, "", Some("must not be an empty string")),
            (true, &*long, Some("must be <= 256 characters long")),
            (
                true,
                "a\nb",
                Some(
                    "must only contain printable UTF-8 characters; non-printable character found at index 1",
                ),
            ),
        ] {
            let mut value = cron();
            let version = &mut value["spec"]["versions"][0];
            version["deprecated"] = json!(deprecated);
            version["deprecationWarning"] = json!(text);
            let wanted = wanted.map(|detail| {
                format!("spec.versions[0].deprecationWarning: Invalid value: {text:?}: {detail}")
            });
            assert_eq!(errors(value), Vec::from_iter(wanted));
        }
    }

    #[test]
    fn versions_in_which_objects_may_be_stored_stay() {
        let without = |at: usize| {
            let mut new = cron();
            new["spec"]["versions"].as_array_mut().unwrap().remove(at);
            let (new, old) = (Object::new(new).unwrap(), Object::new(cron()).unwrap());
            texts(|errors| definition_update(&new, &old, errors))
        };
        let wanted = "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a \
            storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted \
            in v1 and removes v1 from status.storedVersions";
        assert_eq!(without(0), [wanted]);
        assert_eq!(without(1), [] as [&str; 0]);
    }
}

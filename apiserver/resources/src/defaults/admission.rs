//! Defaults of webhook configurations and admission policies.

use schema::Object;
use serde_json::{Map, Value};

use super::empty;
use crate::look::{each_map, fill, fill_zero, map_in, with_map};

/// Webhooks that may change objects run once unless they ask for more.
pub(crate) fn mutating_webhook(object: &mut Object) {
    each_map(object.fields_mut(), "webhooks", |hook| {
        webhook(hook);
        fill(hook, "reinvocationPolicy", "Never");
    });
}

/// Webhooks that judge.
pub(crate) fn validating_webhook(object: &mut Object) {
    each_map(object.fields_mut(), "webhooks", webhook);
}

fn webhook(hook: &mut Map<String, Value>) {
    fill(hook, "failurePolicy", "Fail");
    fill(hook, "timeoutSeconds", 10);
    match_rules(hook);
    each_map(hook, "rules", |rule| fill(rule, "scope", "*"));
    if let Some(service) = map_in(hook, "clientConfig").and_then(|config| map_in(config, "service"))
    {
        fill(service, "port", 443);
    }
}

fn match_rules(rules: &mut Map<String, Value>) {
    fill(rules, "matchPolicy", "Equivalent");
    fill(rules, "namespaceSelector", empty());
    fill(rules, "objectSelector", empty());
    for list in ["resourceRules", "excludeResourceRules"] {
        each_map(rules, list, |rule| fill(rule, "scope", "*"));
    }
}

/// Policies fail closed.
pub(crate) fn policy(object: &mut Object) {
    with_map(object, &["spec"], |spec| {
        fill(spec, "failurePolicy", "Fail");
        if let Some(constraints) = map_in(spec, "matchConstraints") {
            match_rules(constraints);
        }
    });
}

/// Bindings match everything that their policy matches.
pub(crate) fn binding(object: &mut Object) {
    with_map(object, &["spec", "matchResources"], match_rules);
    with_map(object, &["spec", "paramRef"], |reference| {
        if reference.get("selector").is_some() {
            fill_zero(reference, "parameterNotFoundAction", "Deny");
        }
    });
}

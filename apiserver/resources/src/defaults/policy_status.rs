//! The status of ValidatingAdmissionPolicies: what is wrong with their expressions for the kinds that they name. It is there with
//! the answer to the write, so that nobody writes the policy a second time.

use cel::Type;
use cel::admission::{table_type, type_check};
use schema::Object;
use serde_json::{Value, json};

/// Kinds that the expressions of one policy are checked for, as in Kubernetes.
const KINDS_MAX: usize = 10;

/// A new policy.
pub(crate) fn create(object: &mut Object) {
    object.remove(&["status"]);
    check(object, 1);
}

/// A policy whose spec may have changed.
pub(crate) fn update(new: &mut Object, old: &Object) {
    if new.get(&["spec"]) != old.get(&["spec"]) {
        check(new, old.generation() + 1);
    }
}

fn check(policy: &mut Object, generation: i64) {
    let found = checked(policy);
    policy.set(&["status", "observedGeneration"], generation);
    policy.set(&["status", "typeChecking"], found);
}

/// `status.typeChecking` of a policy.
fn checked(policy: &Object) -> Value {
    let spec = policy.get(&["spec"]).cloned().unwrap_or_default();
    let params = spec.get("paramKind").and_then(|kind| {
        let text = |field: &str| kind.get(field).and_then(Value::as_str);
        schema::types::type_of_api_version(text("apiVersion")?, text("kind")?)
    });
    let params = params.map(table_type);
    let warnings = type_check(&spec, &kinds(&spec), params.as_ref());
    if warnings.is_empty() {
        return json!({});
    }
    let warnings = warnings
        .into_iter()
        .map(|(field, warning)| json!({ "fieldRef": field, "warning": warning }));
    json!({ "expressionWarnings": warnings.collect::<Vec<Value>>() })
}

/// The built-in kinds that the rules of a policy name, without wildcards and subresources.
fn kinds(spec: &Value) -> Vec<(String, Type)> {
    let rules = spec.pointer("/matchConstraints/resourceRules");
    let mut found: Vec<(String, Type)> = Vec::new();
    for rule in rules.and_then(Value::as_array).into_iter().flatten() {
        let words = |field: &str| -> Vec<&str> {
            let words = rule.get(field).and_then(Value::as_array);
            words
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        };
        for group in words("apiGroups") {
            for version in words("apiVersions") {
                for plural in words("resources") {
                    let Some(resource) = crate::find(group, version, plural) else {
                        continue;
                    };
                    let name = format!("{group}/{version}, Kind={}", resource.kind);
                    let ty = schema::type_of(group, version, &resource.kind);
                    if let Some(ty) = ty.filter(|_| !found.iter().any(|(known, _)| *known == name))
                    {
                        found.push((name, table_type(ty)));
                    }
                }
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.truncate(KINDS_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_that_are_named_without_wildcards() {
        let spec = json!({"matchConstraints": {"resourceRules": [
            {"apiGroups": ["apps", "*"], "apiVersions": ["v1"], "resources": ["statefulsets", "deployments", "deployments/status", "*"]},
            {"apiGroups": [""], "apiVersions": ["*"], "resources": ["pods"]},
            {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods", "pods"]},
        ]}});
        let names: Vec<String> = kinds(&spec).into_iter().map(|(name, _)| name).collect();
        let expected = [
            "/v1, Kind=Pod",
            "apps/v1, Kind=Deployment",
            "apps/v1, Kind=StatefulSet",
        ];
        assert_eq!(names, expected);
    }
}

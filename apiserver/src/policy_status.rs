//! The status of ValidatingAdmissionPolicies: what is wrong with their expressions for the kinds that they name.
//!
//! It stands here and not among the controllers since only here the types of the kinds are known. Every server looks; the
//! first one writes.

use std::sync::Arc;
use std::time::Duration;

use cel::Type;
use cel::admission::{table_type, type_check};
use schema::Object;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::entry::Entry;
use crate::write::{Extra, Step};

const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
/// Kinds that the expressions of one policy are checked for, as in Kubernetes.
const KINDS_MAX: usize = 10;
/// After a status that could not be written.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(crate) async fn run(server: Arc<ApiServer>) {
    server.started.wait().await;
    let Some(cache) = server.world.named(GROUP, PLURAL) else {
        return;
    };
    let mut wake = cache.subscribe();
    loop {
        wake.mark_unchanged();
        let mut all_written = true;
        for entry in server.world.list(GROUP, PLURAL, "") {
            all_written &= look(&server, &entry).await;
        }
        if !all_written {
            tokio::time::sleep(AGAIN_AFTER).await;
        } else if wake.changed().await.is_err() {
            return;
        }
    }
}

/// Whether the status of a policy is about its newest generation.
fn is_current(policy: &Object) -> bool {
    policy.get_i64(&["status", "observedGeneration"]) >= Some(policy.generation())
}

/// Writes the status of one policy where it is old; false where that failed.
async fn look(server: &Arc<ApiServer>, entry: &Entry) -> bool {
    let policy = entry.object();
    let Some(resource) = resources::find(GROUP, "v1", PLURAL) else {
        return true;
    };
    if is_current(&policy) {
        return true;
    }
    let mut decide = |old: &Object| {
        if is_current(old) {
            return Ok(Step::Keep(old.clone()));
        }
        let mut new = old.clone();
        new.set(&["status", "observedGeneration"], old.generation());
        new.set(&["status", "typeChecking"], checked(old));
        Ok(Step::Write(new, Extra::default()))
    };
    let written = server.change(resource, "", policy.name(), false, &mut decide);
    match written.await {
        // It was deleted.
        Err(error) if error.code == 404 => true,
        Err(error) => {
            let message = error.message;
            tracing::debug!(
                policy = policy.name(),
                message,
                "the status of a policy is written later"
            );
            false
        }
        Ok(_) => true,
    }
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
                    let Some(resource) = resources::find(group, version, plural) else {
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

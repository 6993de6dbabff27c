//! Fields of features that are off in Kubernetes 1.36: an object that did not have one does not get it, and one that has it
//! keeps it. `spec.schedulingGroup` of pods is off there too, but groups of pods are a feature of this scheduler.

use schema::Object;
use serde_json::Value;

/// The fields that go with one feature; `*` stands for every item of a list.
type Gate = &'static [&'static [&'static str]];

/// ClusterTrustBundleProjection, PodCertificateRequest and ContainerStopSignals, below the spec of a pod.
static OF_PODS: &[Gate] = &[
    &[&[
        "volumes",
        "*",
        "projected",
        "sources",
        "*",
        "clusterTrustBundle",
    ]],
    &[&[
        "volumes",
        "*",
        "projected",
        "sources",
        "*",
        "podCertificate",
    ]],
    &[
        &["containers", "*", "lifecycle", "stopSignal"],
        &["initContainers", "*", "lifecycle", "stopSignal"],
    ],
];

/// MaxUnavailableStatefulSet, below the spec of a stateful set.
static OF_STATEFUL_SETS: &[Gate] = &[&[&["updateStrategy", "rollingUpdate", "maxUnavailable"]]];

const TEMPLATE: &[&str] = &["spec", "template", "spec"];

/// Where a kind has such fields: below which path those of which features.
static KINDS: &[(&str, &str, &[&str], &[Gate])] = &[
    ("", "Pod", &["spec"], OF_PODS),
    ("", "PodTemplate", &["template", "spec"], OF_PODS),
    ("", "ReplicationController", TEMPLATE, OF_PODS),
    ("apps", "DaemonSet", TEMPLATE, OF_PODS),
    ("apps", "Deployment", TEMPLATE, OF_PODS),
    ("apps", "ReplicaSet", TEMPLATE, OF_PODS),
    ("apps", "StatefulSet", TEMPLATE, OF_PODS),
    ("apps", "StatefulSet", &["spec"], OF_STATEFUL_SETS),
    ("batch", "Job", TEMPLATE, OF_PODS),
    (
        "batch",
        "CronJob",
        &["spec", "jobTemplate", "spec", "template", "spec"],
        OF_PODS,
    ),
];

/// Takes the fields of features that are off out of an object of a built-in kind, where `old` has none of the feature.
pub(crate) fn drop_disabled(group: &str, kind: &str, new: &mut Object, old: Option<&Object>) {
    for (_, _, place, gates) in KINDS
        .iter()
        .filter(|(of_group, of_kind, ..)| *of_group == group && *of_kind == kind)
    {
        let before = old.and_then(|old| old.get(place));
        let Some(part) = new.get_mut(place) else {
            continue;
        };
        for gate in *gates {
            let has_any = |part: &Value| gate.iter().any(|field| has(part, field));
            if !has_any(part) || before.is_some_and(has_any) {
                continue;
            }
            for field in *gate {
                remove(part, field);
            }
        }
    }
}

fn has(value: &Value, path: &[&str]) -> bool {
    match path {
        [] => !value.is_null(),
        ["*", rest @ ..] => {
            let mut items = value.as_array().into_iter().flatten();
            items.any(|item| has(item, rest))
        }
        [field, rest @ ..] => value.get(*field).is_some_and(|value| has(value, rest)),
    }
}

/// Removes a field, and the object that it was alone in: Kubernetes leaves no empty `lifecycle` behind.
fn remove(value: &mut Value, path: &[&str]) {
    match path {
        [] => {}
        ["*", rest @ ..] => {
            for item in value.as_array_mut().into_iter().flatten() {
                remove(item, rest);
            }
        }
        [field, rest @ ..] => {
            let Some(fields) = value.as_object_mut() else {
                return;
            };
            let Some(below) = fields.get_mut(*field) else {
                return;
            };
            remove(below, rest);
            let is_left_empty = below.as_object().is_some_and(serde_json::Map::is_empty);
            if rest.is_empty() || is_left_empty {
                fields.remove(*field);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is left of an object that had, or had not, the same fields before.
    fn left(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Value {
        let of = |value: &Value| Object::new(value.clone()).unwrap();
        let (mut new, old) = (of(object), old.map(of));
        drop_disabled(group, kind, &mut new, old.as_ref());
        new.into_value()
    }

    fn pod_spec() -> Value {
        json!({"containers": [{"name": "c", "lifecycle": {"stopSignal": "SIGINT"}},
                {"name": "d", "lifecycle": {"stopSignal": "SIGINT", "preStop": {"sleep": {"seconds": 1}}}}],
            "volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "a"}},
                {"podCertificate": {"keyType": "ED25519"}}, {"secret": {"name": "s"}}]}}, {"name": "w", "emptyDir": {}}]})
    }

    fn without(spec: Value) -> Value {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c"}, {"name": "d", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]);
        spec["volumes"][0]["projected"]["sources"] = json!([{}, {}, {"secret": {"name": "s"}}]);
        spec
    }

    #[test]
    fn pods_and_templates_get_no_field_of_a_feature_that_is_off() {
        for (group, kind, place, _) in KINDS {
            if (*kind, place.len()) == ("StatefulSet", 1) {
                continue;
            }
            let at = |spec: Value| {
                place
                    .iter()
                    .rev()
                    .fold(spec, |below, field| json!({ *field: below }))
            };
            let (whole, rest) = (at(pod_spec()), at(without(pod_spec())));
            assert_eq!(left(group, kind, &whole, None), rest, "{kind}");
            assert_eq!(left(group, kind, &whole, Some(&rest)), rest, "{kind}");
            assert_eq!(left(group, kind, &whole, Some(&whole)), whole, "{kind}");
            assert_eq!(left(group, kind, &rest, Some(&whole)), rest, "{kind}");
        }
        let spec = json!({ "spec": pod_spec() });
        assert_eq!(left("g.example.com", "Pod", &spec, None), spec);
    }

    #[test]
    fn features_are_told_apart() {
        let whole = json!({ "spec": pod_spec() });
        let mut old = json!({ "spec": without(pod_spec()) });
        old["spec"]["containers"][0]["lifecycle"] = json!({"stopSignal": "SIGHUP"});
        let found = left("", "Pod", &whole, Some(&old));
        assert_eq!(found["spec"]["containers"], whole["spec"]["containers"]);
        assert_eq!(found["spec"]["volumes"], old["spec"]["volumes"]);
    }

    #[test]
    fn a_stateful_set_replaces_one_pod_at_a_time() {
        let set = |rolling: Value| json!({"spec": {"updateStrategy": {"rollingUpdate": rolling}}});
        let [asked, plain] = [
            set(json!({"partition": 0, "maxUnavailable": 2})),
            set(json!({"partition": 0})),
        ];
        assert_eq!(left("apps", "StatefulSet", &asked, None), plain);
        assert_eq!(left("apps", "StatefulSet", &asked, Some(&asked)), asked);
        assert_eq!(left("apps", "DaemonSet", &asked, None), asked);
    }
}

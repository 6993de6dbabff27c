//! The four sorts of patches, and who owns what afterwards.

use crate::{Target, samples};
use schema::apply::{self, Who};
use schema::decode::{self, FieldValidation};
use schema::patch::{json, merge, strategic};
use schema::{Type, type_of};
use serde_json::{Value, json};

pub(crate) const JSON_PATCH: Target = Target {
    name: "json-patch",
    help: "a JSON patch of a pod: its result passes a test for itself",
    seeds: || {
        samples::texts(&[
            r#"[{"op":"add","path":"/spec/containers/-","value":{"name":"d"}},{"op":"copy","from":"/spec","path":"/metadata/a~1b~0"},
                {"op":"test","path":"/kind","value":"Pod"},{"op":"move","from":"/metadata/labels","path":"/x"},
                {"op":"replace","path":"","value":{}},{"op":"remove","path":"/spec/containers/0"}]"#,
            r#"[{"op":"copy","from":"","path":"/a"},{"op":"copy","from":"","path":"/a/a"},{"op":"copy","from":"","path":"/b"}]"#,
        ])
    },
    run: |bytes| {
        if let Ok(patched) = json::apply(&samples::pod(), bytes) {
            let test = json!([{"op": "test", "path": "", "value": patched}]);
            assert!(json::apply_value(&patched, &test).is_ok(), "{patched}");
        }
    },
};

pub(crate) const MERGE_PATCH: Target = Target {
    name: "merge-patch",
    help: "a JSON merge patch of a pod: to merge it once more changes nothing",
    seeds: || {
        samples::bytes([
            samples::pod(),
            json!({"metadata": {"labels": null, "x": {"y": null}}, "spec": 3}),
        ])
    },
    run: |bytes| {
        if let Ok(patched) = merge::apply_bytes(&samples::pod(), bytes) {
            let again = merge::apply_bytes(&patched, bytes).expect("it could be merged before");
            assert_eq!(again, patched);
        }
    },
};

pub(crate) const STRATEGIC_PATCH: Target = Target {
    name: "strategic-patch",
    help: "a strategic merge patch of a pod, with and without its type",
    seeds: || {
        samples::bytes([
            samples::pod(),
            json!({"spec": {"containers": [{"name": "c", "$patch": "delete"}, {"name": "d", "image": "j"}],
                "$setElementOrder/containers": [{"name": "d"}, {"name": "c"}], "volumes": [{"$patch": "replace"}, {"name": "w"}],
                "tolerations": null, "$retainKeys": ["containers"]},
                "metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/hold"], "labels": {"$patch": "replace", "a": "b"}}}),
        ])
    },
    run: |bytes| {
        if let Ok(patch) = serde_json::from_slice::<Value>(bytes) {
            let _ = strategic::apply(pod(), &samples::pod(), &patch);
            let _ = strategic::apply(None, &samples::pod(), &patch);
            // What is stored may be as odd as the patch.
            let _ = strategic::apply(pod(), &patch, &samples::pod());
        }
    },
};

pub(crate) const APPLY: Target = Target {
    name: "apply",
    help: "a configuration that is applied to a pod: to apply it once more changes nothing, and without force no field of another manager changes",
    seeds: || {
        samples::bytes([
            samples::pod(),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "labels": {"b": "c"}},
                "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}]}]}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"app": "other"}}}),
        ])
    },
    run: |bytes| {
        let (Some(ty), Ok(mut config)) = (pod(), serde_json::from_slice::<Value>(bytes)) else {
            return;
        };
        // The server refuses a configuration with managed fields before it gets so far.
        if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let live = samples::pod();
        for force in [false, true] {
            let Ok(applied) = apply::apply(ty, &live, &config, &who(), force) else {
                continue;
            };
            let again = apply::apply(ty, &applied, &config, &who(), force);
            let again = again.expect("what was applied can be applied again");
            assert_eq!(again, applied, "applied twice");
            for path in ["/metadata/labels/app", "/spec/containers/0/image"] {
                if !force && config.pointer("/spec/containers/1").is_none() {
                    assert_eq!(
                        applied.pointer(path),
                        live.pointer(path),
                        "{path} is kubectl's"
                    );
                }
            }
        }
    },
};

pub(crate) const MANAGED_FIELDS: Target = Target {
    name: "managed-fields",
    help: "managed fields that a client sends with an update: what comes of them can be read again",
    seeds: || {
        let sent = samples::pod().pointer("/metadata/managedFields").cloned();
        samples::bytes([
            sent.unwrap_or_default(),
            json!([{}]),
            json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "subresource": "status",
                "fieldsV1": {"f:spec": {"f:tolerations": {}, "f:volumes": {"k:{\"name\":\"v\"}": {".": {}}, "v:\"x\"": {}, "i:0": {}}}}}]),
        ])
    },
    run: |bytes| {
        let (Some(ty), Ok(sent)) = (pod(), serde_json::from_slice::<Value>(bytes)) else {
            return;
        };
        let old = samples::pod();
        let mut new = old.clone();
        new["metadata"]["managedFields"] = sent;
        // What is no list of entries does not get past the decoder.
        let Ok(decoded) = decode::value(ty, new, FieldValidation::Ignore) else {
            return;
        };
        let mut new = decoded.value;
        let sent = new["metadata"]["managedFields"].take();
        new["spec"]["terminationGracePeriodSeconds"] = json!(5);
        let Some(managers) = apply::updated(ty, &old, &new, Some(sent), &who()) else {
            return;
        };
        new["metadata"]["managedFields"] = managers.clone();
        // Nothing changes any more: neither do the entries.
        let after = apply::updated(ty, &new, &new, Some(managers.clone()), &who());
        assert_eq!(after.as_ref(), Some(&managers));
        let decoded = decode::value(ty, new, FieldValidation::Strict);
        assert!(decoded.is_ok(), "{decoded:?}");
    },
};

fn pod() -> Option<&'static Type> {
    type_of("", "v1", "Pod")
}

fn who() -> Who<'static> {
    Who {
        manager: "fuzz",
        api_version: "v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        reset: &[],
        versions: None,
    }
}

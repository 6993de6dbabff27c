//! Autoscalers, storage, configuration, quotas, namespaces, events and classes.

use super::*;

#[test]
fn autoscalers_are_refused_in_words() {
    let scaler = |extra: Value| {
        let mut spec =
            json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}});
        for (field, value) in extra.as_object().unwrap() {
            spec[field] = value.clone();
        }
        errors(
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"}, "spec": spec}),
        )
    };
    let at = "spec.metrics[0]";
    for (metric, expected) in [
        (
            json!({"type": "Pods"}),
            vec![format!(
                "{at}.pods: Required value: must populate information for the given metric source"
            )],
        ),
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Value"}}}),
            vec![format!(
                "{at}.resource.target.averageUtilization: Required value: must set either a target raw value or a target \
                 utilization"
            )],
        ),
        (
            json!({"type": "External", "external": {"metric": {"name": "m"},
                "target": {"type": "Much", "value": "0", "averageValue": "1"}}}),
            vec![
                format!(
                    "{at}.external.target.type: Invalid value: \"Much\": must be either Utilization, Value, or AverageValue"
                ),
                format!("{at}.external.target.value: Invalid value: \"0\": must be positive"),
                format!(
                    "{at}.external.target.value: Forbidden: may not set both a target value for metric and a per-pod target"
                ),
            ],
        ),
        (
            json!({"type": "Object", "object": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}},
                "pods": {}}),
            vec![
                format!("{at}.object.describedObject.kind: Required value"),
                format!("{at}.object.describedObject.name: Required value"),
                format!("{at}.pods: Forbidden: must populate the given metric source only"),
            ],
        ),
    ] {
        assert_eq!(scaler(json!({ "metrics": [metric] })), expected, "{metric}");
    }
    let policies = json!([{"type": "Nodes", "value": 0, "periodSeconds": 1801}]);
    let behavior =
        json!({"scaleUp": {"policies": policies, "tolerance": "-1", "selectPolicy": "Any"}});
    let at = "spec.behavior.scaleUp";
    assert_eq!(
        scaler(json!({ "behavior": behavior })),
        [
            format!(
                "{at}.selectPolicy: Unsupported value: \"Any\": supported values: \"Disabled\", \"Max\", \"Min\""
            ),
            format!("{at}.tolerance: Invalid value: \"-1\": must be greater than or equal to 0"),
            format!(
                "{at}.policies[0].type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\""
            ),
            format!("{at}.policies[0].value: Invalid value: 0: must be greater than zero"),
            format!(
                "{at}.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800"
            ),
        ]
    );
}

#[test]
fn storage_is_refused_in_words() {
    let of = |kind: &str, fields: Value| {
        let mut object =
            json!({"apiVersion": "storage.k8s.io/v1", "kind": kind, "metadata": {"name": "s"}});
        for (field, value) in fields.as_object().unwrap() {
            object[field] = value.clone();
        }
        object
    };
    let label = json!({"key": "zone", "values": ["a", "a"]});
    let term = json!({"matchLabelExpressions": [label]});
    assert_eq!(
        errors(of(
            "StorageClass",
            json!({"provisioner": "a.b/c", "allowedTopologies": [term, term]})
        )),
        [
            "allowedTopologies.matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            "allowedTopologies.matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
        ]
    );
    assert_eq!(
        errors(of(
            "CSIDriver",
            json!({"spec": {"nodeAllocatableUpdatePeriodSeconds": 5, "tokenRequests": [{"audience": "a", "expirationSeconds": 1}]}})
        )),
        [
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 5: must be greater than or equal to 10 seconds",
        ]
    );
    let node = || {
        of(
            "CSINode",
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}}),
        )
    };
    let driver = |field: &'static str, value: Value| {
        move |new: &mut Object| new.value_mut()["spec"]["drivers"][0][field] = value
    };
    assert_eq!(
        update_errors(node(), driver("nodeID", "other".into())),
        ["CSINodeDriver: Invalid value: {\"name\":\"d\",\"nodeID\":\"other\"}: field is immutable"]
    );
    assert_eq!(
        update_errors(node(), driver("allocatable", json!({"count": 5}))),
        none()
    );
}

#[test]
fn configuration_and_classes_are_refused_in_words() {
    let both = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"},
        "data": {"a": "b"}, "binaryData": {"a": "Yg=="}});
    assert_eq!(
        errors(both),
        [
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
            "binaryData[a]: Invalid value: \"a\": duplicate of key present in data"
        ]
    );
    let class = |name: &str, value: i64| {
        errors(
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value}),
        )
    };
    let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error:";
    assert_eq!(
        class("system-x", 1),
        [format!(
            "{reserved} system-x is not a known system priority class"
        )]
    );
    assert_eq!(
        class("system-node-critical", 1),
        [format!(
            "{reserved} value of system-node-critical PriorityClass must be 2000001000"
        )]
    );
    assert_eq!(class("system-node-critical", 2_000_001_000), none());
}

#[test]
fn nodes_signers_and_policies_are_refused_in_words() {
    let node = |spec: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": spec});
    assert_eq!(
        errors(node(json!({"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}))),
        [
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP \
             family"
        ]
    );
    let request = |signer: &str| {
        errors(
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "r"},
            "spec": {"request": SIGNING_REQUEST, "signerName": signer, "usages": ["client auth"]}}),
        )
    };
    assert_eq!(
        request("a.b/c/d"),
        [
            "spec.signerName: Invalid value: \"a.b/c/d\": must be a fully qualified domain and path of the form \
             'example.com/signer-name'"
        ]
    );
    assert_eq!(
        request("local/c"),
        [
            "spec.signerName: Invalid value: \"local\": should be a domain with at least two segments separated by dots"
        ]
    );
    let policy = errors(
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": {"paramKind": {"apiVersion": "a/b/c", "kind": "Kind"},
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "operations": ["CREATE"]}]},
            "auditAnnotations": [{"key": "k", "valueExpression": "'a'"}, {"key": "k", "valueExpression": " "}]}}),
    );
    for text in [
        "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
        "spec.auditAnnotations[1].valueExpression: Required value: valueExpression is not specified",
    ] {
        assert!(policy.iter().any(|error| error == text), "{policy:?}");
    }
}

#[test]
fn a_quota_counts_only_what_can_be_in_its_scopes() {
    let quota = |hard: Value, more: Value| {
        let mut quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": more});
        quota["spec"]["hard"] = hard;
        errors(quota)
    };
    let scopes = |scopes: Value| json!({"scopes": scopes});
    let term = |scope: &str, operator: &str| json!({"scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator}]}});
    assert_eq!(
        quota(json!({"pods": "1"}), scopes(json!(["BestEffort"]))),
        none()
    );
    assert_eq!(
        quota(json!({"requests.cpu": "1"}), scopes(json!(["BestEffort"]))),
        ["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"]
    );
    let computed = json!({"requests.cpu": "1", "limits.memory": "1Gi", "requests.example.com/gpu": "1", "count/jobs.batch": "1"});
    assert_eq!(
        quota(computed, scopes(json!(["NotBestEffort", "Terminating"]))),
        none(),
        "resources of others go with any scope"
    );
    assert_eq!(
        quota(json!({"services": "1"}), term("PriorityClass", "Exists")).len(),
        1
    );
    assert_eq!(
        quota(
            json!({"requests.storage": "1Gi"}),
            term("VolumeAttributesClass", "Exists")
        ),
        none()
    );
    assert_eq!(
        quota(
            json!({"pods": "1"}),
            scopes(json!(["Terminating", "NotTerminating"]))
        ),
        ["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"]
    );
    let without_values = quota(json!({"pods": "1"}), term("Terminating", "DoesNotExist"));
    assert!(
        without_values.len() == 1
            && without_values[0].contains("must be 'Exists' when scope is any of"),
        "{without_values:?}"
    );
}

#[test]
fn configuration() {
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    let found = errors(map(json!({"": "x"})));
    assert!(
        found[0].starts_with("data[]: Invalid value: \"\": a valid config key must consist of"),
        "{found:?}"
    );
    assert_eq!(
        errors(map(json!({"a": "x".repeat(1_100_000)}))),
        ["[]: Too long: may not be more than 1048576 bytes"]
    );
    let frozen = || {
        let mut value = map(json!({"a": "b"}));
        value["immutable"] = true.into();
        value
    };
    assert_eq!(
        update_errors(frozen(), |new| {
            new.set(&["data", "a"], "c");
            new.remove(&["immutable"]);
        }),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set"
        ]
    );
    let secret = |extra: Value| {
        let mut value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
        for (key, field) in extra.as_object().unwrap() {
            value[key] = field.clone();
        }
        value
    };
    let object = created(secret(
        json!({"data": {"a": "YQ=="}, "stringData": {"b": "b"}}),
    ));
    assert_eq!(
        object.get(&["data"]),
        Some(&json!({"a": "YQ==", "b": "Yg=="}))
    );
    assert_eq!(
        (object.get(&["stringData"]), object.get_str(&["type"])),
        (None, Some("Opaque"))
    );
    assert_eq!(
        errors(secret(json!({"type": "kubernetes.io/tls"}))),
        [
            "data[tls.crt]: Required value",
            "data[tls.key]: Required value"
        ]
    );
    assert_eq!(
        update_errors(secret(json!({})), |new| new.set(&["type"], "other")),
        ["type: Invalid value: \"other\": field is immutable"]
    );
}

#[test]
fn a_namespace_has_the_phase_that_its_deletion_says() {
    let namespaces = by_kind("", "v1", "Namespace").unwrap();
    let mut old = created(json!({"apiVersion": "v1", "kind": "Namespace"}));
    old.set_resource_version("1");
    let texts = |subresource: &str, new: &Object| -> Vec<String> {
        let errors = namespaces.validate_subresource_update(subresource, new, &old);
        errors.iter().map(ToString::to_string).collect()
    };
    let mut new = old.clone();
    new.set(&["status", "phase"], "Terminating");
    assert_eq!(
        texts("status", &new),
        [
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        ]
    );
    let mut new = old.clone();
    new.set(&["spec", "finalizers"], json!(["kubernetes", "abc"]));
    assert_eq!(
        texts("finalize", &new),
        [
            "spec.finalizers[1]: Invalid value: \"abc\": name is neither a standard finalizer name nor is it fully qualified"
        ]
    );
}

#[test]
fn of_an_event_only_the_series_goes_on() {
    let event = || {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a",
            "reason": "r", "type": "Normal", "note": "n", "reportingController": "c", "reportingInstance": "i",
            "regarding": {"namespace": "default"}})
    };
    let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
    assert_eq!(
        update_errors(event(), |new| new.set(&["series"], series)),
        none()
    );
    assert_eq!(
        update_errors(event(), |new| new.set(&["note"], "other")),
        ["message: Invalid value: \"other\": field is immutable"]
    );
    let mut older = event();
    older["reportingInstance"] = "".into();
    older["eventTime"] = Value::Null;
    assert_eq!(
        update_errors(older, |new| {
            new.remove(&["reportingInstance"]);
        }),
        none()
    );
    let mut long = event();
    long["note"] = "x".repeat(1025).into();
    long["type"] = "Odd".into();
    assert_eq!(
        errors(long),
        [
            "message: Invalid value: \"\": can have at most 1024 characters",
            "type: Invalid value: \"\": has invalid value: Odd"
        ]
    );
}

//! Validation as data: an object, and the errors that a client reads. Objects are defaulted and prepared first, as the
//! server does, so these tables also hold the defaults to account.

mod networks;
mod others;
mod pod_parts;
mod pods;
mod services;
mod workloads;

use schema::Object;
use serde_json::{Value, json};

use crate::{Resource, by_kind};

/// A certificate request of jane, of the organization dev, with a key of P-256; PEM in base64.
pub(super) const SIGNING_REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIV01IOENBUUF3SFRFTU1Bb0dBMVVFQ2d3RFpHVjJNUTB3Q3dZRFZRUUREQVJxWVc1bE1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVZcDlPUitrK01jT3hpeWNJRlo2NUdmdGloVm1zaHN3dzY3SXlWRjFhCjlRUmhKV1EwZ05oRU9RWkRZS084dnNkVC9EdENUV1FDRXRFbzlXU1lSTWJjZHFBQU1Bb0dDQ3FHU000OUJBTUMKQTBjQU1FUUNJRHNnM09NVk1OQUkxeExkZWZnMVpoTUpObmEzNnQyekEzK25FZU9DaFZZa0FpQlQzVWtEY1FybQozSFkzVm4zLy8rL2tQbFF2RkMxaWFDSkFvQ0ZTNE9PRVhBPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";

fn resource(object: &Object) -> &'static Resource {
    by_kind(object.group(), object.version(), object.kind()).unwrap()
}

/// What a create does to the object before it is stored.
fn created(value: Value) -> Object {
    let mut object = Object::new(value).unwrap();
    let resource = resource(&object);
    // Reviews have neither.
    if !resource.is_virtual() {
        if object.name().is_empty() {
            object.set_name("sample");
        }
        object.set_uid("0a1b");
    }
    if resource.namespaced && object.namespace().is_empty() {
        object.set_namespace("default");
    }
    resource.default(&mut object);
    resource.prepare_create(&mut object);
    object
}

fn errors(value: Value) -> Vec<String> {
    let object = created(value);
    resource(&object)
        .validate(&object)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn update_errors(old: Value, change: impl FnOnce(&mut Object)) -> Vec<String> {
    let mut old = created(old);
    old.set_resource_version("1");
    let mut new = old.clone();
    change(&mut new);
    let resource = resource(&new);
    resource.default(&mut new);
    resource.prepare_update(&mut new, &old);
    resource
        .validate_update(&new, &old)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn none() -> Vec<String> {
    Vec::new()
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

/// A pod with one container that has these fields too.
fn container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "busybox"});
    for (key, value) in fields.as_object().unwrap() {
        container[key] = value.clone();
    }
    pod(json!({"containers": [container]}))
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1.27"}]}}}})
}

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
}

#[test]
fn finalizers_of_built_in_kinds_say_whose_they_are() {
    let told = |at: usize, name: &str| {
        format!(
            "metadata.finalizers[{at}]: Invalid value: \"{name}\": name is neither a standard finalizer name nor is it fully qualified"
        )
    };
    let map = |finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": finalizers}});
    assert_eq!(
        errors(map(json!(["kubernetes", "orphan", "a.b/c"]))),
        none()
    );
    assert_eq!(errors(map(json!(["a.b/c", "foo"]))), [told(1, "foo")]);
    // Held by what an older server let in, it can still be changed.
    assert_eq!(
        update_errors(map(json!(["foo"])), |new| new
            .set_finalizers(&["foo", "bar"])),
        [told(1, "bar")]
    );
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "a", "namespace": "default", "finalizers": ["foo"]}});
    assert_eq!(errors(lease), none());
}

#[test]
fn metadata() {
    let with = |metadata: Value| {
        errors(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
    };
    assert_eq!(with(json!({"name": "a.b-c"})), none());
    assert_eq!(
        with(json!({"name": "A"})),
        [
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
          characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
          validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
    let errors = with(
        json!({"name": "a", "annotations": {"x": "y".repeat(300_000)}, "labels": {"a b": "c"},
        "finalizers": ["orphan", "foregroundDeletion"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "", "controller": true},
            {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "u", "controller": true}]}),
    );
    let starts: Vec<&str> = errors
        .iter()
        .map(|error| error.split(':').next().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "metadata.labels",
            "metadata.annotations",
            "metadata.ownerReferences.uid",
            "metadata.ownerReferences",
            "metadata.finalizers"
        ]
    );
    assert_eq!(
        errors[2],
        "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"
    );
    let map = || json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    assert_eq!(
        update_errors(map(), |new| new.set_uid("other")),
        ["metadata.uid: Invalid value: \"other\": field is immutable"]
    );
    assert_eq!(
        update_errors(map(), |new| new
            .set_deletion_timestamp(Some("2026-01-01T00:00:00Z"))),
        ["metadata.deletionTimestamp: Invalid value: \"2026-01-01T00:00:00Z\": field is immutable"]
    );
    assert_eq!(update_errors(map(), |new| new.set_uid("")), none());
    let named = |kind: &str, name: &str| {
        let mut object = match kind {
            "Service" => service(json!({"ports": [{"port": 80}]})),
            _ => deployment(),
        };
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        super::tests::errors(object)
    };
    assert_eq!(
        named("Service", "1a"),
        none(),
        "names may start with digits"
    );
    for kind in ["Service", "StatefulSet"] {
        assert_eq!(
            named(kind, "a.b"),
            ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
        );
    }
    let namespaced =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "namespace": "x"}});
    assert_eq!(
        super::tests::errors(namespaced),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
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
fn services() {
    let object = created(service(
        json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}),
    ));
    assert_eq!(
        object.get(&["spec"]),
        Some(
            &json!({"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
        )
    );
    assert_eq!(object.get(&["status"]), Some(&json!({"loadBalancer": {}})));
    let cases = [
        (json!({}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"type": "Magic", "ports": [{"port": 80}]}),
            "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}),
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"type": "ExternalName"}),
            "spec.externalName: Required value",
        ),
        (
            json!({"clusterIP": "x", "ports": [{"port": 80}]}),
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
    ];
    for (spec, error) in cases {
        let found = errors(service(spec.clone()));
        assert!(found.iter().any(|text| text == error), "{spec}: {found:?}");
    }
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"type": "LoadBalancer", "ports": [{"port": 80, "targetPort": "http"}], "sessionAffinity": "ClientIP"}),
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}], "externalTrafficPolicy": "Local"}),
        json!({"type": "ExternalName", "externalName": "example.com"}),
    ] {
        assert_eq!(errors(service(spec.clone())), none(), "{spec}");
    }
    let allocated = || {
        service(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]}),
        )
    };
    assert_eq!(
        update_errors(allocated(), |new| {
            new.set(&["spec", "clusterIP"], "10.0.0.2");
            new.set(&["spec", "clusterIPs"], json!(["10.0.0.2"]));
        }),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
    assert_eq!(
        update_errors(allocated(), |new| {
            new.remove(&["spec", "clusterIP"]);
            new.remove(&["spec", "clusterIPs"]);
        }),
        none()
    );
    assert_eq!(
        update_errors(allocated(), |new| new.set(&["spec", "type"], "NodePort")),
        none()
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
fn roles_and_bindings() {
    let kind = |kind: &str, extra: Value| {
        let mut value = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "system:x"}});
        for (key, field) in extra.as_object().unwrap() {
            value[key] = field.clone();
        }
        value
    };
    assert_eq!(
        errors(kind(
            "Role",
            json!({"rules": [{"verbs": []}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]})
        )),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
        ]
    );
    let binding = || {
        kind(
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        )
    };
    assert_eq!(errors(binding()), none());
    assert_eq!(
        update_errors(binding(), |new| new.set(&["roleRef", "name"], "edit")),
        [
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"}: cannot change roleRef"
        ]
    );
    assert_eq!(
        errors(kind(
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "x"}})
        )),
        ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
    );
}

#[test]
fn everyday_objects_are_valid() {
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount"}),
        json!({"apiVersion": "v1", "kind": "Node", "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
            "status": {"capacity": {"cpu": "2", "memory": "4Gi"}}}),
        json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e.1"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e.1"}, "involvedObject": {"kind": "Node", "name": "p"}}),
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a", "reason": "r",
            "type": "Normal", "reportingController": "kontiki.io/x", "reportingInstance": "i", "regarding": {"kind": "Pod", "namespace": "default"}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n"}], "ports": [{"port": 80}]}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"holderIdentity": "x", "leaseDurationSeconds": 15}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}}),
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "kontiki.io/local"}),
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "10", "requests.cpu": "1", "count/deployments.apps": "3"}}}),
        json!({"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]}}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}}),
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"rules": [{"host": "a.b", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}, "ingress": [{"from": [
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80, "endPort": 90}]}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "spec": {"cidrs": ["10.96.0.0/16"]}}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}}),
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": {}, "revision": 1}),
        json!({"apiVersion": "v1", "kind": "PodTemplate", "template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}),
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "spec": {"request": SIGNING_REQUEST, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}}),
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "webhooks": [{"name": "a.b.c", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "s", "namespace": "n"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]}]}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "crons.stable.example.com"},
            "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "crons", "kind": "Cron"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.apps"},
            "spec": {"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15}}),
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "spec": {"priorityLevelConfiguration": {"name": "x"}}}),
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}}),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {"verb": "get"}}}),
    ];
    for object in objects {
        assert_eq!(errors(object.clone()), none(), "{object}");
        assert_eq!(
            update_errors(object.clone(), |_| {}),
            none(),
            "update of {object}"
        );
    }
}

#[test]
fn reviews_have_no_metadata() {
    let said = |kind: &str, metadata: Value| {
        let asked = json!({"verb": "get", "namespace": metadata["namespace"]});
        let spec = json!({"user": "jane", "resourceAttributes": asked});
        errors(
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}),
        )
    };
    let (own, local) = ("SelfSubjectAccessReview", "LocalSubjectAccessReview");
    for kind in [own, "SubjectAccessReview"] {
        for empty in [
            Value::Null,
            json!({}),
            json!({"name": "", "creationTimestamp": null, "labels": {}, "ownerReferences": [], "generation": 0}),
            json!({"managedFields": [{"manager": "kubectl"}]}),
        ] {
            assert_eq!(said(kind, empty.clone()), none(), "{kind} {empty}");
        }
    }
    let invalid = "metadata: Invalid value:";
    assert_eq!(
        said(own, json!({"name": "x"})),
        [format!("{invalid} {{\"name\":\"x\"}}: must be empty")]
    );
    for (kind, metadata) in [
        ("SubjectAccessReview", json!({"generateName": "x"})),
        ("SubjectAccessReview", json!({"labels": {"a": "b"}})),
        (own, json!({"finalizers": ["a/b"]})),
    ] {
        let text = format!("{invalid} {metadata}: must be empty");
        assert_eq!(said(kind, metadata), [text]);
    }
    assert_eq!(said(local, json!({"namespace": "n"})), none());
    let metadata = json!({"namespace": "n", "annotations": {"a": "b"}});
    let text = format!("{invalid} {metadata}: must be empty except for namespace");
    assert_eq!(said(local, metadata), [text]);
}

#[test]
fn selectors_of_reviews_say_one_thing_or_the_other() {
    let said = |attributes: Value| {
        errors(
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "jane", "resourceAttributes": attributes}}),
        )
    };
    let fields = |selector: Value| said(json!({ "fieldSelector": selector }));
    let at = "spec.resourceAttributes.fieldSelector";
    assert_eq!(
        fields(json!({})),
        [format!(
            "{at}.requirements: Required value: when {at} is specified, requirements or rawSelector is required"
        )]
    );
    let term = json!({"key": "a", "operator": "In", "values": ["b"]});
    assert_eq!(
        fields(json!({"rawSelector": "foo", "requirements": [term]})),
        [format!(
            "{at}.rawSelector: Invalid value: \"foo\": may not specified at the same time as requirements"
        )]
    );
    assert_eq!(
        fields(json!({"requirements": [{"key": "", "operator": "NotIn"}]})),
        [
            format!("{at}.requirements[0].key: Required value: must be specified"),
            format!(
                "{at}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            )
        ]
    );
    // A newer client may know more operators, and keys of fields are no labels.
    for good in [
        json!({"rawSelector": "foo"}),
        json!({"requirements": [{"key": "a[b]", "operator": "Near"}]}),
    ] {
        assert_eq!(fields(good), none());
    }
    let labels = said(
        json!({"labelSelector": {"requirements": [{"key": "a b", "operator": "Exists", "values": ["c"]}]}}),
    );
    assert_eq!(labels.len(), 2, "{labels:?}");
}

#[test]
fn warnings_speak_of_what_is_probably_not_meant() {
    let object = created(container(
        json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
    ));
    assert_eq!(
        resource(&object).warnings(&object),
        [
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply"
        ]
    );
}

#[test]
fn scale_reads_and_writes() {
    let mut object = created(deployment());
    object.set(&["status", "replicas"], 2);
    let deployments = resource(&object);
    assert_eq!(
        deployments.scale_of(&object).unwrap(),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "default", "uid": "0a1b"},
            "spec": {"replicas": 1}, "status": {"replicas": 2, "selector": "app=web"}})
    );
    assert!(deployments.apply_scale(&mut object, 5));
    assert_eq!(object.get_i64(&["spec", "replicas"]), Some(5));
}

#[test]
fn it_is_known_which_kinds_have_no_defaults() {
    let has = |group, version, kind| by_kind(group, version, kind).unwrap().has_defaults();
    assert!(has("", "v1", "Pod") && has("apps", "v1", "Deployment"));
    assert!(!has("coordination.k8s.io", "v1", "Lease") && !has("", "v1", "ConfigMap"));
}

#[test]
fn what_has_no_spec_is_judged_with_its_defaults() {
    assert_eq!(
        errors(json!({"apiVersion": "v1", "kind": "Pod"})),
        ["spec.containers: Required value"]
    );
    assert_eq!(
        errors(json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver"})),
        none()
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
fn a_signing_request_holds_a_request_for_known_uses() {
    let of = |request: &str, usages: Value| {
        errors(
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "spec": {"request": request, "signerName": "a.b/c", "usages": usages}}),
        )
    };
    assert_eq!(
        of("YQ==", json!(["client auth"])),
        ["spec.request: Invalid value: \"YQ==\": PEM block type must be CERTIFICATE REQUEST"]
    );
    let head_alone = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
    assert_eq!(of(head_alone, json!(["client auth"])).len(), 1);
    let found = of(
        SIGNING_REQUEST,
        json!(["client auth", "flying", "client auth"]),
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with(
            "spec.usages[1]: Unsupported value: \"flying\": supported values: \"any\", \"cert sign\", "
        ),
        "{found:?}"
    );
    assert_eq!(found[1], "spec.usages[2]: Duplicate value: \"client auth\"");
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

#[test]
fn a_definition_does_not_keep_unknown_fields_as_a_whole() {
    let found = errors(
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "crons.stable.example.com"},
            "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "crons", "kind": "Cron"},
            "preserveUnknownFields": true,
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
    );
    assert_eq!(
        found,
        [
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        ]
    );
}

#[test]
fn mutating_policies_mutate_in_one_way_and_nothing_that_is_deleted() {
    let policy = |operation: &str, mutation: Value| {
        errors(
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "p"}, "spec": {"reinvocationPolicy": "Never", "mutations": [mutation],
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": [operation], "resources": ["pods"]}]}}}),
        )
    };
    let apply = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
    assert_eq!(policy("CREATE", apply.clone()), [""; 0]);
    assert_eq!(
        policy("DELETE", apply.clone()),
        [
            r#"spec.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE""#
        ]
    );
    let mut both = apply;
    both["jsonPatch"] = json!({"expression": "[]"});
    assert_eq!(
        policy("CREATE", both),
        [
            r#"spec.mutations[0].jsonPatch: Invalid value: "{jsonPatch}": must not be specified when patchType is ApplyConfiguration"#
        ]
    );
}

#[test]
fn what_becomes_of_a_signing_request_is_checked() {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let request = |status: Value| {
        let value = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "r", "resourceVersion": "1"}, "status": status});
        Object::new(value).unwrap()
    };
    let update = |old: Value, new: Value| -> Vec<String> {
        let (old, new) = (request(old), request(new));
        let errors = resource(&new).validate_subresource_update("approval", &new, &old);
        errors.iter().map(ToString::to_string).collect()
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    let good =
        json!({"certificate": encode(certificate), "conditions": [condition("Approved", "True")]});
    assert_eq!(update(json!({}), good.clone()), none());
    for (new, expected) in [
        (
            json!({"conditions": [condition("Approved", "False"), condition("", "")]}),
            &[
                r#"status.conditions[0].status: Unsupported value: "False": supported values: "True""#,
                "status.conditions[1].type: Required value",
                "status.conditions[1].status: Required value",
            ][..],
        ),
        (
            json!({"conditions": [condition("Denied", "True"), condition("Approved", "True"), condition("Denied", "True")]}),
            &[
                r#"status.conditions: Invalid value: "Approved": Approved and Denied conditions are mutually exclusive"#,
                r#"status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#,
                r#"status.conditions[2].type: Duplicate value: "Denied""#,
            ],
        ),
        (
            json!({"certificate": encode("nothing")}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block"#,
            ],
        ),
        (
            json!({"certificate": encode(&certificate.replace("CERTIFICATE", "KEY"))}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": only CERTIFICATE PEM blocks are allowed, found "KEY""#,
            ],
        ),
        (
            json!({"certificate": encode(&certificate.replace("MAMC", "a: b\n\nMAMC"))}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": no PEM block headers are permitted"#,
            ],
        ),
        (
            json!({"certificate": encode(&certificate.replace("MAMC", "MAQC"))}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": x509: malformed certificate"#,
            ],
        ),
    ] {
        assert_eq!(update(json!({}), new.clone()), expected, "{new}");
    }
    let other = json!({"certificate": encode(&certificate.replace("CAQA", "CAQE"))});
    assert_eq!(
        update(good, other),
        [
            r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#,
            "status.certificate: Forbidden: updates may not modify existing certificate content",
        ]
    );
}

#[test]
fn claims_of_devices_name_what_there_is() {
    let claim = |devices: Value| {
        errors(
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c"},
            "spec": {"devices": devices}}),
        )
    };
    let requests = json!([{"name": "a", "exactly": {"deviceClassName": "gpu"}},
        {"name": "b", "firstAvailable": [{"name": "big", "deviceClassName": "gpu"}]}]);
    let with = |field: &str, value: Value| {
        let mut devices = json!({"requests": requests});
        devices[field] = value;
        claim(devices)
    };
    let fine = json!([{"requests": ["a", "b/big"], "matchAttribute": "example.com/numa"}]);
    assert_eq!(with("constraints", fine), none());
    let named = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    assert_eq!(
        with(
            "constraints",
            json!([{"requests": ["c", "b/small", "a"], "matchAttribute": "numa"}, {}])
        ),
        [
            format!("spec.devices.constraints[0].requests[0]: Invalid value: \"c\": {named}"),
            format!("spec.devices.constraints[0].requests[1]: Invalid value: \"b/small\": {named}"),
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": must include a domain".to_owned(),
            "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set".to_owned(),
        ]
    );
    assert_eq!(
        with("config", json!([{"requests": ["a"]}])),
        ["spec.devices.config[0].opaque: Required value"]
    );
    let selected = |selector: Value| {
        errors(
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "c"},
            "spec": {"selectors": [selector]}}),
        )
    };
    let stands_for = |resource: &str| {
        errors(
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "c"},
            "spec": {"extendedResourceName": resource}}),
        )
    };
    assert_eq!(stands_for("example.com/gpu"), none());
    for wrong in [
        "gpu",
        "kubernetes.io/gpu",
        "requests.example.com/gpu",
        "example.com/g p u",
    ] {
        let words = "must be a valid extended resource name";
        assert_eq!(
            stands_for(wrong),
            [format!(
                "spec.extendedResourceName: Invalid value: {wrong:?}: {words}"
            )]
        );
    }
    let fine = json!({"cel": {"expression": "device.driver == 'x' && device.attributes['x'].big"}});
    assert_eq!(selected(fine), none());
    assert_eq!(
        selected(json!({})),
        ["spec.selectors[0].cel: Required value"]
    );
    let broken = selected(json!({"cel": {"expression": "device."}}));
    assert!(
        broken[0].starts_with(
            "spec.selectors[0].cel.expression: Invalid value: \"device.\": compilation failed: ERROR: <input>:1:8: Syntax error"
        ),
        "{broken:?}"
    );
}

#[test]
fn a_claim_is_reserved_where_it_has_devices() {
    let claim = |status: Value| {
        let object = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {}}]}}, "status": status});
        Object::new(object).unwrap()
    };
    let told = |old: &Object, new: Value| {
        let mut new = claim(new);
        let resource = resource(old);
        resource.prepare_subresource_update("status", &mut new, old);
        let errors = resource.validate_subresource_update("status", &new, old);
        let shown: Vec<String> = errors.iter().map(|error| error.body()).collect();
        (shown, new)
    };
    let result = |device: &str| json!({"driver": "d", "pool": "p", "device": device});
    let devices =
        |names: &[&str]| -> Vec<Value> { names.iter().map(|name| result(name)).collect() };
    let allocation = |names: &[&str]| {
        let mut results = devices(names);
        results
            .iter_mut()
            .for_each(|result| result["request"] = "r".into());
        json!({"devices": {"results": results}})
    };
    let user = |uid: &str| json!({"resource": "pods", "name": uid, "uid": uid});
    let (free, held) = (
        claim(json!({})),
        claim(json!({"allocation": allocation(&["a", "b"]), "devices": devices(&["a", "b"])})),
    );

    let both = json!({"allocation": allocation(&["a"]), "reservedFor": [user("x"), user("y")]});
    assert_eq!(told(&free, both).0, none());
    assert_eq!(
        told(&free, json!({"reservedFor": [user("x")]})).0,
        ["Forbidden: may not be specified when `allocated` is not set"]
    );
    let twice = json!({"allocation": allocation(&["a"]), "reservedFor": [user("x"), user("x")]});
    assert_eq!(told(&free, twice).0, ["Duplicate value: \"x\""]);
    let many: Vec<Value> = (0..257).map(|n| user(&n.to_string())).collect();
    let many = json!({"allocation": allocation(&["a"]), "reservedFor": many});
    assert_eq!(told(&free, many).0.len(), 1);
    let too_many = json!({"allocation": allocation(&["a"; 33])});
    assert_eq!(
        told(&free, too_many).0,
        ["Too many: 33: must have at most 32 items"]
    );
    assert_eq!(
        told(&free, json!({"allocation": allocation(&["a"; 32])})).0,
        none()
    );
    let other = json!({"allocation": allocation(&["a"])});
    assert!(told(&held, other).0[0].ends_with("field is immutable"));

    let (errors, freed) = told(&held, json!({"devices": devices(&["a", "b"])}));
    assert_eq!(errors, none());
    assert_eq!(freed.get(&["status", "devices"]), None, "nobody has them");
    let kept = json!({"allocation": allocation(&["a", "b"]), "devices": devices(&["b"])});
    let (errors, kept) = told(&held, kept);
    assert_eq!(errors, none());
    assert_eq!(
        kept.get(&["status", "devices"]),
        Some(&devices(&["b"]).into())
    );

    let stray = json!({"allocation": allocation(&["a", "b"]), "devices": devices(&["c"])});
    assert_eq!(
        told(&held, stray.clone()).0,
        ["Invalid value: \"d/p/c\": must be an allocated device in the claim"]
    );
    let older = claim(stray.clone());
    let mut used = stray;
    used["reservedFor"] = json!([user("x")]);
    assert_eq!(told(&older, used).0, none(), "it is as wrong as it was");

    let mut going = held.clone();
    going.metadata_mut().insert(
        "deletionTimestamp".to_owned(),
        "2026-01-01T00:00:00Z".into(),
    );
    let late = json!({"allocation": allocation(&["a", "b"]), "reservedFor": [user("x")]});
    assert_eq!(
        told(&going, late).0,
        [
            "Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        ]
    );
}

#[test]
fn a_pod_gets_no_field_of_a_feature_that_is_off() {
    let told = || container(json!({"lifecycle": {"stopSignal": "SIGINT"}}));
    let at = "/spec/containers/0/lifecycle";
    let old = created(told());
    assert_eq!(old.value().pointer(at), None);
    let mut new = Object::new(told()).unwrap();
    resource(&new).prepare_update(&mut new, &old);
    assert_eq!(new.value().pointer(at), None);
}

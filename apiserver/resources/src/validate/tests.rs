//! Validation as data: an object, and the errors that a client reads. Objects are defaulted and prepared first, as the
//! server does, so these tables also hold the defaults to account.

mod access;
mod devices;
mod extensions;
mod jobs;
mod metadata;
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

//! What of a pod means nothing to the scheduler. It reads a hundred thousand of them, each in some four states: these fields are
//! passed over instead of being made a tree that nobody asks.

use agent_runtime::watch::Part::{Of, Whole};
use agent_runtime::watch::Unread;

/// Of an API object: [`Pod::compile`](super::Pod::compile) makes the same of it with them and without.
#[cfg(test)]
pub(crate) const POD_UNREAD: Unread = &[
    ("metadata", Of(METADATA)),
    ("spec", Of(SPEC)),
    ("status", Of(STATUS)),
];

pub(super) const METADATA: Unread = &[
    ("managedFields", Whole),
    ("generateName", Whole),
    ("ownerReferences", Of(OWNER)),
];

const OWNER: Unread = &[
    ("apiVersion", Whole),
    ("kind", Whole),
    ("name", Whole),
    ("blockOwnerDeletion", Whole),
];

pub(super) const SPEC: Unread = &[
    ("containers", Of(CONTAINER)),
    ("initContainers", Of(CONTAINER)),
    ("ephemeralContainers", Whole),
    ("volumes", Of(VOLUME)),
    ("restartPolicy", Whole),
    ("terminationGracePeriodSeconds", Whole),
    ("dnsPolicy", Whole),
    ("dnsConfig", Whole),
    ("serviceAccountName", Whole),
    ("serviceAccount", Whole),
    ("securityContext", Whole),
    ("enableServiceLinks", Whole),
    ("imagePullSecrets", Whole),
    ("hostAliases", Whole),
];

const CONTAINER: Unread = &[
    ("command", Whole),
    ("args", Whole),
    ("env", Whole),
    ("envFrom", Whole),
    ("volumeMounts", Whole),
    ("livenessProbe", Whole),
    ("readinessProbe", Whole),
    ("startupProbe", Whole),
    ("lifecycle", Whole),
    ("securityContext", Whole),
    ("terminationMessagePath", Whole),
    ("terminationMessagePolicy", Whole),
    ("imagePullPolicy", Whole),
];

pub(super) const VOLUME: Unread = &[
    ("projected", Whole),
    ("configMap", Whole),
    ("secret", Whole),
    ("downwardAPI", Whole),
    ("emptyDir", Whole),
    ("hostPath", Whole),
];

pub(super) const STATUS: Unread = &[
    ("conditions", Of(CONDITION)),
    ("containerStatuses", Of(CONTAINER_STATUS)),
    ("initContainerStatuses", Of(CONTAINER_STATUS)),
    ("ephemeralContainerStatuses", Whole),
    ("podIP", Whole),
    ("podIPs", Whole),
    ("hostIP", Whole),
    ("hostIPs", Whole),
    ("qosClass", Whole),
];

const CONDITION: Unread = &[
    ("lastProbeTime", Whole),
    ("lastTransitionTime", Whole),
    ("observedGeneration", Whole),
];

const CONTAINER_STATUS: Unread = &[
    ("state", Whole),
    ("lastState", Whole),
    ("ready", Whole),
    ("started", Whole),
    ("restartCount", Whole),
    ("image", Whole),
    ("imageID", Whole),
    ("containerID", Whole),
    ("volumeMounts", Whole),
];

#[cfg(test)]
mod tests {
    use super::super::Pod;
    use super::*;
    use agent_runtime::watch::{Part, without};
    use serde_json::{Value, json};

    fn container(name: &str, more: Value) -> Value {
        let container = json!({
            "name": name, "image": "web", "command": ["c"], "args": ["a"], "env": [{"name": "E", "value": "v"}],
            "envFrom": [{"prefix": "p"}], "volumeMounts": [{"name": "data", "mountPath": "/d"}],
            "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"httpGet": {"port": 80}},
            "startupProbe": {"httpGet": {"port": 80}}, "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
            "securityContext": {"privileged": true}, "terminationMessagePath": "/t",
            "terminationMessagePolicy": "File", "imagePullPolicy": "Always",
            "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1", "protocol": "UDP"}],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi", "example.com/gpu": "2"}, "limits": {"cpu": "2"}},
        });
        with(container, &more)
    }

    fn container_status(name: &str) -> Value {
        json!({
            "name": name, "state": {"running": {"startedAt": "1970-01-01T00:00:03Z"}}, "lastState": {"terminated": {"exitCode": 1}},
            "ready": true, "started": true, "restartCount": 3, "image": "web:9", "imageID": "i", "containerID": "c",
            "volumeMounts": [{"name": "data"}], "allocatedResources": {"cpu": "3"},
            "resources": {"requests": {"cpu": "4", "memory": "3Gi"}},
        })
    }

    fn condition(kind: &str, status: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "r", "message": "m", "lastProbeTime": null,
            "lastTransitionTime": "1970-01-01T00:00:04Z", "observedGeneration": 2})
    }

    fn spec() -> Value {
        let expression = json!({"key": "k", "operator": "In", "values": ["v"]});
        let term = json!({"topologyKey": "zone", "labelSelector": {"matchExpressions": [expression]}, "namespaces": ["n"]});
        let terms = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": [term],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 3, "podAffinityTerm": term}],
        });
        let nodes = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 2, "preference": {"matchExpressions": [expression]}}],
        });
        json!({
            "nodeName": "n1", "schedulerName": "s", "priority": 5, "preemptionPolicy": "Never", "activeDeadlineSeconds": 30,
            "schedulingGates": [{"name": "gate"}], "nodeSelector": {"disk": "ssd"}, "overhead": {"cpu": "100m"},
            "tolerations": [{"key": "t", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "affinity": {"nodeAffinity": nodes, "podAffinity": terms, "podAntiAffinity": terms},
            "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["app"]}],
            "resourceClaims": [{"name": "made", "resourceClaimTemplateName": "t"}, {"name": "named", "resourceClaimName": "c"}],
            "initContainers": [container("first", json!({})), container("side", json!({"restartPolicy": "Always"}))],
            "containers": [container("web", json!({})), container("log", json!({"image": "log:1"}))],
            "volumes": volumes(),
        })
    }

    fn volumes() -> Value {
        json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}}, {"name": "own", "ephemeral": {}},
            {"name": "model", "image": {"reference": "model:1"}}, {"name": "e", "iscsi": {"iqn": "i", "readOnly": true}},
            {"name": "token", "projected": {"sources": []}}, {"name": "c", "configMap": {"name": "c"}},
            {"name": "s", "secret": {"secretName": "s"}}, {"name": "d", "downwardAPI": {"items": []}},
            {"name": "t", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/"}},
        ])
    }

    fn unread_of_spec() -> Value {
        json!({
            "ephemeralContainers": [{"name": "debug", "image": "sh"}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "Default", "dnsConfig": {"searches": []},
            "serviceAccountName": "a", "serviceAccount": "a", "securityContext": {"runAsUser": 1}, "enableServiceLinks": true,
            "imagePullSecrets": [{"name": "s"}], "hostAliases": [{"ip": "10.0.0.2"}],
        })
    }

    fn metadata() -> Value {
        json!({
            "name": "p", "generateName": "g", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
            "labels": {"app": "web", "scheduling.kontiki.io/pod-group": "set"},
            "annotations": {"scheduling.kontiki.io/pod-group-min-count": "2", "scheduling.kontiki.io/pressure-sensitivity": "cpu=3"},
            "creationTimestamp": "1970-01-01T00:00:01Z", "deletionTimestamp": "1970-01-01T00:00:09Z",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "other", "blockOwnerDeletion": true},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "set", "controller": true},
            ],
            "managedFields": [{"manager": "m"}],
        })
    }

    fn status() -> Value {
        json!({
            "phase": "Running", "startTime": "1970-01-01T00:00:02Z", "nominatedNodeName": "n2",
            "conditions": [condition("Ready", "True"), condition("PodScheduled", "False")],
            "containerStatuses": [container_status("web"), container_status("log")],
            "initContainerStatuses": [container_status("side")],
            "ephemeralContainerStatuses": [container_status("debug")],
            "resourceClaimStatuses": [{"name": "made", "resourceClaimName": "made-1"}],
            "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}], "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}],
            "qosClass": "Burstable",
        })
    }

    /// One that says something everywhere.
    fn pod() -> Value {
        let spec = with(spec(), &unread_of_spec());
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(), "spec": spec, "status": status()})
    }

    /// The object with more fields, or other ones.
    fn with(mut object: Value, more: &Value) -> Value {
        for (name, value) in more.as_object().into_iter().flatten() {
            object[name.as_str()] = value.clone();
        }
        object
    }

    /// The fields that the value, or each one of a list, has of those.
    fn met<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
        match value {
            Value::Array(values) => values.iter().filter_map(|value| value.get(name)).collect(),
            value => value.get(name).into_iter().collect(),
        }
    }

    fn assert_says_all(value: &Value, unread: Unread) {
        for (name, part) in unread {
            let fields = met(value, name);
            assert!(!fields.is_empty(), "the test says nothing of {name}");
            if let Part::Of(unread) = part {
                for field in fields {
                    assert_says_all(field, unread);
                }
            }
        }
    }

    #[test]
    fn a_pod_is_the_same_without_what_is_not_read() {
        let whole = pod();
        assert_says_all(&whole, POD_UNREAD);
        for phase in ["Running", "Succeeded"] {
            for kind in ["PodScheduled", "PodResizePending"] {
                let mut object = whole.clone();
                object["status"]["phase"] = phase.into();
                object["status"]["conditions"][1]["type"] = kind.into();
                object["status"]["conditions"][1]["reason"] = "Infeasible".into();
                let read = without(POD_UNREAD, object.clone()).unwrap();
                assert!(read.to_string().len() < object.to_string().len());
                assert_eq!(Pod::compile(&read), Pod::compile(&object));
            }
        }
    }

    #[test]
    fn an_odd_pod_is_the_same_without_what_is_not_read() {
        for odd in [
            json!({"spec": 5, "status": null, "metadata": []}),
            json!({"spec": {"containers": {"command": 1}, "volumes": null}, "metadata": {"ownerReferences": "x"}}),
            json!({"status": {"conditions": [1, [condition("PodScheduled", "False")], condition("PodScheduled", "False")]}}),
        ] {
            let read = without(POD_UNREAD, odd.clone()).unwrap();
            assert_eq!(Pod::compile(&read), Pod::compile(&odd));
        }
    }
}

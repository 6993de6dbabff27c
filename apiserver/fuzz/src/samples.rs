//! Objects that say a little of everything, to start from.

use serde_json::{Value, json};

/// A certificate request; PEM in base64.
const SIGNING_REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIV01IOENBUUF3SFRFTU1Bb0dBMVVFQ2d3RFpHVjJNUTB3Q3dZRFZRUUREQVJxWVc1bE1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVZcDlPUitrK01jT3hpeWNJRlo2NUdmdGloVm1zaHN3dzY3SXlWRjFhCjlRUmhKV1EwZ05oRU9RWkRZS084dnNkVC9EdENUV1FDRXRFbzlXU1lSTWJjZHFBQU1Bb0dDQ3FHU000OUJBTUMKQTBjQU1FUUNJRHNnM09NVk1OQUkxeExkZWZnMVpoTUpObmEzNnQyekEzK25FZU9DaFZZa0FpQlQzVWtEY1FybQozSFkzVm4zLy8rL2tQbFF2RkMxaWFDSkFvQ0ZTNE9PRVhBPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";

/// A pod with most of what a pod may have.
pub fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-0", "namespace": "default", "uid": "1f6d1f0e-0000-4000-8000-000000000001", "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"}, "annotations": {"note": "x"},
            "finalizers": ["example.com/hold"],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u1", "controller": true}],
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:containers": {
                    "k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}],
        },
        "spec": {
            "nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "serviceAccountName": "default",
            "nodeSelector": {"disk": "ssd"}, "hostNetwork": false,
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]}},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}],
            "initContainers": [{"name": "i", "image": "busybox", "restartPolicy": "Always"}],
            "containers": [{
                "name": "c", "image": "busybox:1", "command": ["sh", "-c"], "args": ["a", "b"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
                "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}]}},
                {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    })
}

/// One object of many kinds, each with what its kind is particular about.
pub fn kinds() -> Vec<Value> {
    let template = || json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let once =
        || json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let selector = || json!({"matchLabels": {"app": "web"}});
    let object = |api_version: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "one", "namespace": "default"}});
        if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
            object.extend(rest);
        }
        object
    };
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]});
    vec![
        pod(),
        object(
            "v1",
            "Service",
            json!({"spec": {"type": "NodePort", "selector": {"app": "web"}, "clusterIP": "10.96.0.9",
            "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080, "name": "a"}], "sessionAffinity": "ClientIP",
            "ipFamilies": ["IPv4"], "externalTrafficPolicy": "Local"}}),
        ),
        object(
            "v1",
            "ConfigMap",
            json!({"data": {"a": "b"}, "binaryData": {"c": "AAEC"}, "immutable": true}),
        ),
        object(
            "v1",
            "Secret",
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}, "stringData": {"a": "b"}}),
        ),
        object(
            "v1",
            "Node",
            json!({"spec": {"podCIDR": "10.1.0.0/24", "taints": [{"key": "a", "effect": "NoSchedule"}]},
            "status": {"capacity": {"cpu": "4", "pods": "110"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
        ),
        object(
            "v1",
            "Namespace",
            json!({"spec": {"finalizers": ["kubernetes"]}}),
        ),
        object(
            "v1",
            "ResourceQuota",
            json!({"spec": {"hard": {"pods": "3", "requests.cpu": "2"}, "scopes": ["NotTerminating"],
            "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}}),
        ),
        object(
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]}}),
        ),
        object(
            "v1",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/data"}, "claimRef": {"name": "c", "namespace": "default"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}}),
        ),
        object(
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        object(
            "v1",
            "ServiceAccount",
            json!({"secrets": [{"name": "s"}], "automountServiceAccountToken": false}),
        ),
        object(
            "v1",
            "Event",
            json!({"involvedObject": {"kind": "Pod", "namespace": "default", "name": "web-0"}, "reason": "Started",
            "message": "x", "type": "Normal", "count": 1, "firstTimestamp": "2026-01-01T00:00:00Z"}),
        ),
        object(
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 3, "selector": selector(), "template": template(),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}}),
        ),
        object(
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"serviceName": "web", "selector": selector(), "template": template(),
            "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}], "ordinals": {"start": 1}}}),
        ),
        object(
            "apps/v1",
            "DaemonSet",
            json!({"spec": {"selector": selector(), "template": template()}}),
        ),
        object(
            "apps/v1",
            "ReplicaSet",
            json!({"spec": {"selector": selector(), "template": template(), "minReadySeconds": 1}}),
        ),
        object(
            "batch/v1",
            "Job",
            json!({"spec": {"completions": 3, "parallelism": 2, "completionMode": "Indexed", "template": once(),
            "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]},
            "successPolicy": {"rules": [{"succeededIndexes": "0-1,2"}]}}}),
        ),
        object(
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "*/5 1-3 * JAN MON", "timeZone": "Europe/Berlin",
            "jobTemplate": {"spec": {"template": once()}}}}),
        ),
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 5,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}}}),
        ),
        object(
            "autoscaling/v1",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 70,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}),
        ),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": "50%", "selector": selector()}}),
        ),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"rules": [{"host": "*.example.com", "http": {"paths": [
            {"path": "/a", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}],
            "tls": [{"hosts": ["a.example.com"], "secretName": "s"}]}}),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": selector(), "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80, "endPort": 90}]}]}}),
        ),
        object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
            "aggregationRule": {"clusterRoleSelectors": [selector()]}}),
        ),
        object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({"subjects": [{"kind": "User", "name": "a",
            "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}}),
        ),
        object(
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "example.com/disk", "parameters": {"a": "b"},
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]}),
        ),
        object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"],
            "conditions": {"ready": true}}], "ports": [{"name": "http", "port": 80}]}),
        ),
        object(
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15,
            "renewTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        object(
            "certificates.k8s.io/v1",
            "CertificateSigningRequest",
            json!({"spec": {"request": SIGNING_REQUEST, "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client", "expirationSeconds": 3600}}),
        ),
        object(
            "scheduling.k8s.io/v1",
            "PriorityClass",
            json!({"value": 1000, "globalDefault": false, "preemptionPolicy": "Never"}),
        ),
        object(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [{"name": "a.example.com",
            "clientConfig": {"url": "https://example.com/"}, "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "matchConditions": [{"name": "m", "expression": "object.metadata.name != 'x'"}]}]}),
        ),
        object(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({"spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]}, "variables": [{"name": "n", "expression": "object.spec.replicas"}],
            "validations": [{"expression": "variables.n < 5", "messageExpression": "'has ' + string(variables.n)"}]}}),
        ),
        object(
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            json!({"spec": {"matchingPrecedence": 100,
            "priorityLevelConfiguration": {"name": "global-default"}, "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [{"kind": "Group", "group": {"name": "g"}}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}]}}),
        ),
        object(
            "apiregistration.k8s.io/v1",
            "APIService",
            json!({"spec": {"group": "g.example.com", "version": "v1",
            "groupPriorityMinimum": 10, "versionPriority": 10, "service": {"name": "s", "namespace": "n", "port": 443}}}),
        ),
        definition(),
    ]
}

/// A definition with the schema of [`schema`].
pub fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Boat", "plural": "boats", "singular": "boat", "shortNames": ["bt"], "listKind": "BoatList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema()},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.crew"}},
                "additionalPrinterColumns": [{"name": "Crew", "type": "integer", "jsonPath": ".spec.crew"}],
                "selectableFields": [{"jsonPath": ".spec.name"}]}]}})
}

/// A schema with a little of everything that one may say.
pub fn schema() -> Value {
    json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 20, "default": "raft"},
            "crew": {"type": "integer", "minimum": 1, "maximum": 6, "multipleOf": 1, "default": 6, "format": "int32"},
            "sort": {"type": "string", "enum": ["log", "reed"], "nullable": true},
            "logs": {"type": "array", "maxItems": 9, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 9},
                    "length": {"x-kubernetes-int-or-string": true}}}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "cargo": {"type": "object", "additionalProperties": {"type": "number"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            "born": {"type": "string", "format": "date-time"}},
            "x-kubernetes-validations": [{"rule": "self.name != 'titanic'", "message": "no"},
                {"rule": "!has(self.crew) || self.crew < 7", "fieldPath": ".crew"}],
            "oneOf": [{"required": ["crew"]}, {"required": ["sort"]}]},
        "status": {"type": "object", "properties": {"crew": {"type": "integer"}}}}})
}

/// As seeds.
pub fn bytes(values: impl IntoIterator<Item = Value>) -> Vec<Vec<u8>> {
    let values = values.into_iter();
    values.map(|value| value.to_string().into_bytes()).collect()
}

/// The same of texts.
pub fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

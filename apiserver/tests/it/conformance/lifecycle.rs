//! "Should support the API operations" of a kind: one walk through all of them, for a table of kinds.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::server::{Answer, Events, Server};

/// A kind, and an object of it that is valid.
struct Case {
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    root: &'static str,
    plural: &'static str,
    namespaced: bool,
    object: Value,
    /// What is written to `status`, where the kind has one, and read back.
    status: Value,
    /// What the three objects of a walk are called, in the order of a list.
    names: [&'static str; 3],
}

fn case(root: &'static str, plural: &'static str, namespaced: bool, object: Value) -> Case {
    Case {
        root,
        plural,
        namespaced,
        object,
        status: Value::Null,
        names: ["walk-a", "walk-b", "walk-c"],
    }
}

impl Case {
    fn with_status(mut self, status: Value) -> Case {
        self.status = status;
        self
    }

    fn with_names(mut self, names: [&'static str; 3]) -> Case {
        self.names = names;
        self
    }

    fn collection(&self) -> String {
        let (root, plural) = (self.root, self.plural);
        if self.namespaced {
            format!("{root}/namespaces/default/{plural}")
        } else {
            format!("{root}/{plural}")
        }
    }

    fn one(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        object["metadata"]["name"] = name.into();
        object["metadata"]["labels"]["walk"] = "this".into();
        object
    }
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}

fn job_template() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    template
}

fn condition() -> Value {
    json!([{"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

fn workloads() -> Vec<Case> {
    let apps = "/apis/apps/v1";
    let selected = || json!({"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template()});
    let mut stateful = selected();
    stateful["serviceName"] = "s".into();
    let daemon = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template()});
    vec![
        case(apps, "deployments", true, json!({"kind": "Deployment", "spec": selected()}))
            .with_status(json!({"conditions": condition()})),
        case(apps, "replicasets", true, json!({"kind": "ReplicaSet", "spec": selected()}))
            .with_status(json!({"conditions": condition(), "replicas": 1})),
        case(apps, "statefulsets", true, json!({"kind": "StatefulSet", "spec": stateful}))
            .with_status(json!({"conditions": condition(), "replicas": 1})),
        case(apps, "daemonsets", true, json!({"kind": "DaemonSet", "spec": daemon})).with_status(
            json!({"conditions": condition(), "currentNumberScheduled": 1,
                "numberMisscheduled": 0, "desiredNumberScheduled": 1, "numberReady": 0}),
        ),
        case(apps, "controllerrevisions", true,
            json!({"kind": "ControllerRevision", "revision": 1, "data": {"spec": {"a": 1}}})),
        case("/apis/batch/v1", "jobs", true,
            json!({"kind": "Job", "spec": {"template": job_template(), "suspend": true}}))
            .with_status(json!({"conditions": condition(), "startTime": "2026-01-01T00:00:00Z"})),
        case("/apis/batch/v1", "cronjobs", true,
            json!({"kind": "CronJob", "spec": {"schedule": "* */1 * * *", "concurrencyPolicy": "Allow",
                "jobTemplate": {"spec": {"template": job_template()}}}}))
            .with_status(json!({"lastScheduleTime": "2026-01-01T00:00:00Z"})),
        case("/api/v1", "replicationcontrollers", true,
            json!({"kind": "ReplicationController", "spec": {"replicas": 1, "selector": {"app": "a"}, "template": template()}}))
            .with_status(json!({"replicas": 1, "conditions": condition()})),
        case("/api/v1", "podtemplates", true, json!({"kind": "PodTemplate", "template": template()})),
        case("/apis/autoscaling/v2", "horizontalpodautoscalers", true,
            json!({"kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}))
            .with_status(json!({"desiredReplicas": 2})),
        case("/apis/policy/v1", "poddisruptionbudgets", true,
            json!({"kind": "PodDisruptionBudget", "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}))
            .with_status(json!({"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2})),
    ]
}

fn network() -> Vec<Case> {
    let networking = "/apis/networking.k8s.io/v1";
    vec![
        case("/api/v1", "services", true,
            json!({"kind": "Service", "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]}}))
            .with_status(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}]}})),
        case("/api/v1", "endpoints", true,
            json!({"kind": "Endpoints", "subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]}]})),
        case("/apis/discovery.k8s.io/v1", "endpointslices", true,
            json!({"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}]})),
        case(networking, "ingresses", true,
            json!({"kind": "Ingress", "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}))
            .with_status(json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}})),
        case(networking, "ingressclasses", false,
            json!({"kind": "IngressClass", "spec": {"controller": "example.com/controller"}})),
        case(networking, "networkpolicies", true,
            json!({"kind": "NetworkPolicy", "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})),
        case(networking, "ipaddresses", false,
            json!({"kind": "IPAddress", "spec": {"parentRef": {"group": "example.com", "resource": "things",
                "namespace": "default", "name": "thing"}}}))
            .with_names(["192.0.2.1", "255.255.255.255", "fe80::42:1dff:fe84:f9e2"]),
        case(networking, "servicecidrs", false,
            json!({"kind": "ServiceCIDR", "spec": {"cidrs": ["10.240.1.0/24"]}}))
            .with_status(json!({"conditions": condition()})),
    ]
}

fn configuration() -> Vec<Case> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let subjects = json!([{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]);
    let reference =
        |kind: &str| json!({"kind": kind, "name": "view", "apiGroup": "rbac.authorization.k8s.io"});
    vec![
        case("/api/v1", "configmaps", true, json!({"kind": "ConfigMap", "data": {"a": "1"}})),
        case("/api/v1", "secrets", true, json!({"kind": "Secret", "data": {"a": "MQ=="}})),
        case("/api/v1", "serviceaccounts", true, json!({"kind": "ServiceAccount"})),
        case("/api/v1", "limitranges", true,
            json!({"kind": "LimitRange", "spec": {"limits": [{"type": "Container", "default": {"cpu": "500m"}}]}})),
        case("/api/v1", "resourcequotas", true,
            json!({"kind": "ResourceQuota", "spec": {"hard": {"services": "10"}}}))
            .with_status(json!({"hard": {"services": "10"}, "used": {"services": "1"}})),
        case("/api/v1", "events", true,
            json!({"kind": "Event", "reason": "Test", "message": "m", "type": "Normal",
                "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}})),
        case("/apis/events.k8s.io/v1", "events", true,
            json!({"kind": "Event", "reason": "Test", "note": "n", "type": "Normal", "action": "Do",
                "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "test-controller",
                "reportingInstance": "test-node", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}})),
        case("/apis/coordination.k8s.io/v1", "leases", true,
            json!({"kind": "Lease", "spec": {"holderIdentity": "holder", "leaseDurationSeconds": 30,
                "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:05.000000Z", "leaseTransitions": 0}})),
        case(rbac, "roles", true, json!({"kind": "Role", "rules": rules})),
        case(rbac, "clusterroles", false, json!({"kind": "ClusterRole", "rules": rules})),
        case(rbac, "rolebindings", true,
            json!({"kind": "RoleBinding", "subjects": subjects, "roleRef": reference("ClusterRole")})),
        case(rbac, "clusterrolebindings", false,
            json!({"kind": "ClusterRoleBinding", "subjects": subjects, "roleRef": reference("ClusterRole")})),
        case("/apis/scheduling.k8s.io/v1", "priorityclasses", false,
            json!({"kind": "PriorityClass", "value": 7, "description": "d"})),
        case("/apis/node.k8s.io/v1", "runtimeclasses", false, json!({"kind": "RuntimeClass", "handler": "h"})),
        case("/apis/flowcontrol.apiserver.k8s.io/v1", "flowschemas", false,
            json!({"kind": "FlowSchema", "spec": {"matchingPrecedence": 10000,
                "priorityLevelConfiguration": {"name": "global-default"}, "distinguisherMethod": {"type": "ByUser"},
                "rules": [{"subjects": [{"kind": "User", "user": {"name": "u"}}],
                    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}]}}))
            .with_status(json!({"conditions": [
                // What the server says itself; else it would write at the same time.
                {"type": "Dangling", "status": "False", "reason": "Found", "lastTransitionTime": "2026-01-01T00:00:00Z",
                    "message": "This FlowSchema references the PriorityLevelConfiguration object named \"global-default\" and it exists"},
                {"type": "StatusUpdate", "status": "True", "reason": "r", "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]})),
        case("/apis/flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", false,
            json!({"kind": "PriorityLevelConfiguration", "spec": {"type": "Limited",
                "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}}))
            .with_status(json!({"conditions": [{"type": "X", "status": "True", "reason": "r", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})),
        case("/apis/certificates.k8s.io/v1", "certificatesigningrequests", false,
            json!({"kind": "CertificateSigningRequest", "spec": {"request": csr(), "signerName": "example.com/e2e",
                "usages": ["digital signature", "key encipherment", "server auth"]}}))
            .with_status(json!({"conditions": [{"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "m",
                "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})),
    ]
}

/// A request for a certificate, in PEM, in base64.
fn csr() -> String {
    use base64::Engine;
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    base64::engine::general_purpose::STANDARD.encode(pem)
}

fn storage() -> Vec<Case> {
    let storage = "/apis/storage.k8s.io/v1";
    vec![
        case(storage, "storageclasses", false, json!({"kind": "StorageClass", "provisioner": "example.com/p"})),
        case(storage, "csidrivers", false, json!({"kind": "CSIDriver", "spec": {"attachRequired": false}})),
        case(storage, "csinodes", false,
            json!({"kind": "CSINode", "spec": {"drivers": [{"name": "d.example.com", "nodeID": "n", "topologyKeys": ["a"]}]}})),
        case(storage, "csistoragecapacities", true,
            json!({"kind": "CSIStorageCapacity", "storageClassName": "s", "nodeTopology": {}, "capacity": "1Gi"})),
        case(storage, "volumeattributesclasses", false,
            json!({"kind": "VolumeAttributesClass", "driverName": "d.example.com", "parameters": {"a": "b"}})),
        case(storage, "volumeattachments", false,
            json!({"kind": "VolumeAttachment", "spec": {"attacher": "a.example.com", "nodeName": "n",
                "source": {"persistentVolumeName": "pv"}}}))
            .with_status(json!({"attached": true})),
        case("/api/v1", "persistentvolumes", false,
            json!({"kind": "PersistentVolume", "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": "d.example.com", "volumeHandle": "v"}}}))
            .with_status(json!({"phase": "Available", "message": "StatusUpdate"})),
        case("/api/v1", "persistentvolumeclaims", true,
            json!({"kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
            .with_status(json!({"phase": "Pending", "conditions": condition()})),
    ]
}

fn devices() -> Vec<Case> {
    let resource = "/apis/resource.k8s.io/v1";
    let requests =
        json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    vec![
        case(
            resource,
            "deviceclasses",
            false,
            json!({"kind": "DeviceClass", "spec": {}}),
        ),
        case(
            resource,
            "resourceclaims",
            true,
            json!({"kind": "ResourceClaim", "spec": requests}),
        )
        .with_status(json!({"allocation": {"devices": {"results": [
                {"request": "r", "driver": "d.example.com", "pool": "p", "device": "one"}]}}})),
        case(
            resource,
            "resourceclaimtemplates",
            true,
            json!({"kind": "ResourceClaimTemplate", "spec": {"spec": requests}}),
        ),
        case(
            resource,
            "resourceslices",
            false,
            json!({"kind": "ResourceSlice", "spec": {"driver": "d.example.com", "nodeName": "n",
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "one"}]}}),
        ),
    ]
}

fn admission() -> Vec<Case> {
    let root = "/apis/admissionregistration.k8s.io/v1";
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]);
    let client = json!({"url": "https://webhook.example.com/x"});
    let webhooks = json!([{"name": "w.example.com", "clientConfig": client, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
        "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothing"]}]}]);
    vec![
        case(root, "validatingwebhookconfigurations", false,
            json!({"kind": "ValidatingWebhookConfiguration", "webhooks": webhooks})),
        case(root, "mutatingwebhookconfigurations", false,
            json!({"kind": "MutatingWebhookConfiguration", "webhooks": webhooks})),
        case(root, "validatingadmissionpolicies", false,
            json!({"kind": "ValidatingAdmissionPolicy", "spec": {"matchConstraints": {"resourceRules": rules},
                "validations": [{"expression": "object.spec.replicas <= 100"}], "failurePolicy": "Ignore"}}))
            .with_status(json!({"conditions": condition()})),
        case(root, "validatingadmissionpolicybindings", false,
            json!({"kind": "ValidatingAdmissionPolicyBinding", "spec": {"policyName": "none", "validationActions": ["Deny"]}})),
        case(root, "mutatingadmissionpolicies", false,
            json!({"kind": "MutatingAdmissionPolicy", "spec": {"matchConstraints": {"resourceRules": rules},
                "reinvocationPolicy": "Never", "failurePolicy": "Ignore",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}})),
        case(root, "mutatingadmissionpolicybindings", false,
            json!({"kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": "none"}})),
    ]
}

#[tokio::test]
async fn workloads_support_all_operations() {
    walk_all(workloads()).await;
}

#[tokio::test]
async fn network_kinds_support_all_operations() {
    walk_all(network()).await;
}

#[tokio::test]
async fn configuration_supports_all_operations() {
    walk_all(configuration()).await;
}

#[tokio::test]
async fn storage_kinds_support_all_operations() {
    walk_all(storage()).await;
}

#[tokio::test]
async fn device_kinds_support_all_operations() {
    walk_all(devices()).await;
}

#[tokio::test]
async fn admission_kinds_support_all_operations() {
    walk_all(admission()).await;
}

async fn walk_all(cases: Vec<Case>) {
    let server = Server::start().await;
    server.account("default").await;
    for case in cases {
        discovered(&server, &case).await;
        walk(&server, &case).await;
    }
}

/// The kind stands in its group, its version, and the list of resources.
async fn discovered(server: &Server, case: &Case) {
    let parts: Vec<&str> = case.root.split('/').collect();
    if let ["", "apis", group, version] = parts[..] {
        let groups = server.get("/apis").await.ok();
        let found = groups["groups"]
            .as_array()
            .unwrap()
            .iter()
            .find(|g| g["name"] == group);
        let versions = &found.expect("the group is listed")["versions"];
        let wanted = format!("{group}/{version}");
        assert!(
            versions
                .as_array()
                .unwrap()
                .iter()
                .any(|v| v["groupVersion"] == *wanted)
        );
        let one = server.get(&format!("/apis/{group}")).await.ok();
        assert_eq!(one["name"], group);
    }
    let resources = server.get(case.root).await.ok();
    let find = |name: &str| {
        let list = resources["resources"].as_array().unwrap();
        list.iter()
            .find(|resource| resource["name"] == name)
            .cloned()
    };
    let resource = find(case.plural).expect("the resource is listed");
    assert_eq!(resource["namespaced"], case.namespaced, "{}", case.plural);
    assert_eq!(resource["kind"], case.object["kind"]);
    for verb in [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ] {
        assert!(
            resource["verbs"].as_array().unwrap().contains(&verb.into()),
            "{verb}"
        );
    }
    let has_status = find(&format!("{}/status", case.plural)).is_some();
    assert!(has_status || case.status.is_null(), "{}", case.plural);
}

async fn expect(events: &mut Events, kind: &str, name: &str) -> Value {
    loop {
        let event = events.next().await.expect("the watch goes on");
        let same = event["object"]["metadata"]["name"] == name && event["type"] == kind;
        if same {
            return event["object"].clone();
        }
    }
}

/// What the watch tells of this very version of an object: the server itself may have written others.
async fn told(events: &mut Events, object: &Value) -> Value {
    let name = object["metadata"]["name"].as_str().unwrap();
    loop {
        let told = expect(events, "MODIFIED", name).await;
        if told["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"] {
            return told;
        }
    }
}

/// The server writes the status of a new quota, a moment later, and would do so in the midst of the walk.
async fn settled(server: &Server, case: &Case) {
    if case.plural != "resourcequotas" {
        return;
    }
    let settling = async {
        for name in case.names {
            while server.get(&case.one(name)).await.ok()["status"]["used"].is_null() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(60), settling);
    settled.await.expect("the server counts");
}

/// What objects have besides metadata and status.
const PARTS: [&str; 6] = ["spec", "data", "template", "subsets", "rules", "webhooks"];

/// Sends the object as the suite's clients do, and reads the answer in JSON.
async fn in_protobuf(
    server: &Server,
    (method, uri): (Method, &str),
    root: &str,
    mut object: Value,
) -> Answer {
    let version = root.trim_start_matches("/apis/");
    let version = version.trim_start_matches("/api/");
    object["apiVersion"] = version.into();
    let kind = object["kind"].as_str().unwrap();
    let ty = schema::types::type_of_api_version(version, kind).expect(kind);
    let body = schema::protobuf::encode(ty, &object).unwrap();
    let request = server
        .request(method, uri)
        .header("content-type", "application/vnd.kubernetes.protobuf");
    server.read(request.body(body.into()).unwrap()).await
}

async fn walk(server: &Server, case: &Case) {
    let plural = case.plural;
    let all = format!("{}?labelSelector=walk%3Dthis", case.collection());
    let list = server.get(&all).await.ok();
    assert_eq!(list["items"], json!([]), "{plural}");
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = server
        .watch(&format!("{all}&watch=1&resourceVersion={from}"))
        .await;

    let mut uids = Vec::new();
    let collection = case.collection();
    let [first, second, _] = case.names;
    for name in case.names {
        let made = if name == second {
            let to = (Method::POST, collection.as_str());
            in_protobuf(server, to, case.root, case.named(name)).await
        } else {
            server.post(&collection, case.named(name)).await
        };
        assert_eq!(made.code, 201, "{plural}: {}", made.text);
        let made = made.ok();
        assert_eq!(made["kind"], case.object["kind"]);
        uids.push(made["metadata"]["uid"].clone());
        let got = server.get(&case.one(name)).await.ok();
        assert_eq!(got, made, "{plural}");
        assert_eq!(expect(&mut events, "ADDED", name).await, made, "{plural}");
    }
    let again = server.post(&collection, case.named(first)).await;
    assert_eq!(again.refused().1, "AlreadyExists", "{plural}");

    let mut lists = vec![all.clone()];
    if case.namespaced {
        lists.push(format!("{}/{plural}?labelSelector=walk%3Dthis", case.root));
    }
    for uri in lists {
        let list = server.get(&uri).await.ok();
        let found: Vec<&Value> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| &item["metadata"]["uid"])
            .collect();
        assert_eq!(found, uids.iter().collect::<Vec<_>>(), "{uri}");
    }

    settled(server, case).await;
    patched(server, case, &mut events).await;
    updated(server, case, &mut events).await;
    if !case.status.is_null() {
        status(server, case).await;
    }
    deleted(server, case, &mut events).await;
}

const APPLY: &str = "?fieldManager=walk&force=true";

/// What is applied says of which object it is.
fn of(live: &Value, mut applied: Value) -> Value {
    for field in ["apiVersion", "kind"] {
        applied[field] = live[field].clone();
    }
    for field in ["name", "uid"] {
        applied["metadata"][field] = live["metadata"][field].clone();
    }
    applied
}

/// A patch may name the uid of the object that it means.
async fn patched(server: &Server, case: &Case, events: &mut Events) {
    let [name, ..] = case.names;
    let uri = case.one(name);
    let live = server.get(&uri).await.ok();
    let uid = &live["metadata"]["uid"];
    let annotate =
        |value: &str| json!({"metadata": {"uid": uid, "annotations": {"patched": value}}});
    let patches = [
        ("merge-patch+json", annotate("merge")),
        ("strategic-merge-patch+json", annotate("strategic")),
        (
            "json-patch+json",
            json!([{"op": "replace", "path": "/metadata/annotations/patched", "value": "json"}]),
        ),
        ("apply-patch+yaml", of(&live, annotate("apply"))),
    ];
    for (kind, patch) in patches {
        let force = match kind {
            "apply-patch+yaml" => APPLY,
            _ => "",
        };
        let uri = format!("{uri}{force}");
        let patched = server.patch(&uri, kind, patch).await.ok();
        let said = &patched["metadata"]["annotations"]["patched"];
        assert!(
            kind.starts_with(said.as_str().unwrap()),
            "{}: {said}",
            case.plural
        );
        assert_eq!(&patched["metadata"]["uid"], uid, "{}", case.plural);
        assert_eq!(told(events, &patched).await, patched, "{}", case.plural);
    }
}

async fn updated(server: &Server, case: &Case, events: &mut Events) {
    let [_, name, _] = case.names;
    let uri = case.one(name);
    let mut object = server.get(&uri).await.ok();
    object["metadata"]["annotations"]["updated"] = "true".into();
    let to = (Method::PUT, uri.as_str());
    let updated = in_protobuf(server, to, case.root, object.clone())
        .await
        .ok();
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    for part in PARTS {
        assert_eq!(updated.get(part), object.get(part), "{}", case.plural);
    }
    assert_eq!(told(events, &updated).await, updated, "{}", case.plural);
    object["metadata"]["annotations"]["updated"] = "again".into();
    let stale = server.put(&uri, object).await;
    assert_eq!(stale.refused().1, "Conflict", "{}", case.plural);
}

/// Status is read, patched and replaced through its own door, and nothing else passes there.
async fn status(server: &Server, case: &Case) {
    let object = case.one(case.names[1]);
    let uri = format!("{object}/status");
    let before = server.get(&uri).await.ok();
    let patch = json!({"status": case.status});
    let patched = server.patch(&uri, "merge-patch+json", patch).await;
    assert!(
        patched.code.is_success(),
        "{}: {}",
        case.plural,
        patched.text
    );
    let patched = patched.ok();
    contains(&patched["status"], &case.status, case.plural);
    for part in PARTS {
        assert_eq!(patched.get(part), before.get(part), "{}", case.plural);
    }
    let applied = of(&before, json!({"status": case.status}));
    let apply = format!("{uri}{APPLY}");
    let applied = server.patch(&apply, "apply-patch+yaml", applied).await.ok();
    contains(&applied["status"], &case.status, case.plural);
    let read = server.get(&uri).await.ok();
    let updated = server.put(&uri, read).await.ok();
    contains(&updated["status"], &case.status, case.plural);
    let whole = server.get(&object).await.ok();
    assert_eq!(whole["status"], updated["status"]);
    // The door of the object leaves status alone.
    let ignored = server
        .patch(&object, "merge-patch+json", json!({"status": null}))
        .await
        .ok();
    assert_eq!(ignored["status"], whole["status"], "{}", case.plural);
}

/// Everything of `wanted` is in `found`, however much more that has.
fn contains(found: &Value, wanted: &Value, about: &str) {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            for (key, value) in wanted {
                contains(found.get(key).unwrap_or(&Value::Null), value, about);
            }
        }
        (Value::Array(found), Value::Array(wanted)) => {
            assert_eq!(found.len(), wanted.len(), "{about}: {found:?}");
            found
                .iter()
                .zip(wanted)
                .for_each(|(found, wanted)| contains(found, wanted, about));
        }
        (found, wanted) => assert_eq!(found, wanted, "{about}"),
    }
}

async fn deleted(server: &Server, case: &Case, events: &mut Events) {
    let [first, rest @ ..] = case.names;
    let uri = case.one(first);
    server.delete(&uri, Value::Null).await.ok();
    released(server, &uri).await;
    expect(events, "DELETED", first).await;
    assert_eq!(
        server.get(&uri).await.refused().1,
        "NotFound",
        "{}",
        case.plural
    );

    let uri = format!("{}?labelSelector=walk%3Dthis", case.collection());
    server.call(Method::DELETE, &uri, Value::Null).await.ok();
    for name in rest {
        released(server, &case.one(name)).await;
    }
    let list = server.get(&uri).await.ok();
    assert_eq!(list["items"], json!([]), "{}", case.plural);
}

/// What a finalizer still holds is let go, as a controller would.
async fn released(server: &Server, uri: &str) {
    let object = server.get(uri).await;
    if object.code.is_success() {
        let object = object.ok();
        assert!(object["metadata"]["deletionTimestamp"].is_string(), "{uri}");
        let release = json!({"metadata": {"finalizers": null}});
        server.patch(uri, "merge-patch+json", release).await.ok();
    }
}

/// Every stored kind that supports all operations has a case: one that comes later is walked, too.
#[test]
fn no_kind_is_forgotten() {
    let all = [
        workloads(),
        network(),
        configuration(),
        storage(),
        devices(),
        admission(),
    ];
    let all: Vec<Case> = all.into_iter().flatten().collect();
    let cases: Vec<(String, &str)> = all
        .iter()
        .map(|case| (case.root.to_owned(), case.plural))
        .collect();
    // These have tests of their own.
    let own = [
        "namespaces",
        "nodes",
        "pods",
        "customresourcedefinitions",
        "apiservices",
    ];
    for resource in resources::ALL.iter() {
        let root = match resource.api_version() {
            version if resource.group.is_empty() => format!("/api/{version}"),
            version => format!("/apis/{version}"),
        };
        let older = resource.plural == "horizontalpodautoscalers" && resource.version == "v1";
        if resource.is_virtual() || older || own.contains(&&*resource.plural) {
            continue;
        }
        assert!(
            cases
                .iter()
                .any(|(r, p)| *r == root && *p == resource.plural),
            "{root}/{}",
            resource.plural
        );
    }
}

//! Admission webhooks behind a Service: the server dials their endpoints itself. The webhook is a small HTTPS server whose
//! paths behave differently.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use kv::{PutRequest, RequestOp, Store, TxnRequest};
use serde_json::{Value, json};

use crate::definitions::{DEFINITIONS, WIDGETS, definition, widget};
use crate::listener::Listener;
use crate::server::{Answer, MAPS, PODS, Server, config_map, pod};

const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1";

/// The webhook, and the cluster that it is installed in.
struct Cluster {
    server: Server,
    listener: Listener,
    reviews: Reviews,
}

/// Every review that came, with its path.
#[derive(Clone, Default)]
struct Reviews(Arc<Mutex<Vec<(String, Value)>>>);

impl Reviews {
    /// The reviews since the last look.
    fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn paths(&self) -> Vec<String> {
        self.take().into_iter().map(|(path, _)| path).collect()
    }
}

fn allow(uid: &Value) -> Value {
    json!({"uid": uid, "allowed": true})
}

fn patch(uid: &Value, operations: &Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
}

async fn serve(State(reviews): State<Reviews>, uri: Uri, body: Bytes) -> Response {
    let review: Value = serde_json::from_slice(&body).unwrap();
    let path = uri.path().to_owned();
    let request = review["request"].clone();
    reviews.0.lock().unwrap().push((path.clone(), review));
    let uid = &request["uid"];
    let labels = &request["object"]["metadata"]["labels"];
    let add = |name: &str| {
        if labels.is_null() {
            json!([{"op": "add", "path": "/metadata/labels", "value": {name: "yes"}}])
        } else {
            json!([{"op": "add", "path": format!("/metadata/labels/{name}"), "value": "yes"}])
        }
    };
    let response = match path.as_str() {
        "/deny" => {
            json!({"uid": uid, "allowed": false, "status": {"message": "not here", "code": 403, "reason": "Forbidden"}})
        }
        "/not-found" => {
            json!({"uid": uid, "allowed": false, "status": {"message": "not here", "code": 404, "reason": "NotFound"}})
        }
        "/never" => std::future::pending().await,
        "/broken" => return (StatusCode::INTERNAL_SERVER_ERROR, "oh no").into_response(),
        "/other-uid" => json!({"uid": "other", "allowed": true}),
        "/warn" => {
            json!({"uid": uid, "allowed": true, "warnings": ["careful \"now\"", "and later"]})
        }
        "/warn-and-deny" => {
            json!({"uid": uid, "allowed": false, "warnings": ["später\t\"nicht\""]})
        }
        "/chatter" => {
            let warnings: Vec<String> = (0..100_000).map(|index| format!("w{index}")).collect();
            json!({"uid": uid, "allowed": true, "warnings": warnings})
        }
        "/deep" => return ("[".repeat(1 << 20)).into_response(),
        "/large" => return ("x".repeat(9 << 20)).into_response(),
        "/doubling" => {
            let mut operations = vec![
                json!({"op": "add", "path": "/data", "value": {"a": {"b": "x".repeat(1_000)}}}),
            ];
            for _ in 0..30 {
                operations.push(json!({"op": "copy", "from": "/data", "path": "/data/a/b"}));
            }
            patch(uid, &json!(operations))
        }
        "/close" => {
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": allow(uid)});
            return ([("connection", "close")], review.to_string()).into_response();
        }
        "/label-a" => patch(uid, &add("a")),
        "/label-b" => patch(uid, &add("b")),
        "/image" => patch(
            uid,
            &json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "busybox:latest"}]),
        ),
        "/account" => patch(
            uid,
            &json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "busybox"}}]),
        ),
        "/unknown-field" => patch(
            uid,
            &json!([{"op": "add", "path": "/data/added", "value": "x"}, {"op": "add", "path": "/nonsense", "value": 1}]),
        ),
        "/managed" => patch(
            uid,
            &json!([{"op": "add", "path": "/data/added", "value": "x"}, {"op": "replace", "path": "/metadata/managedFields/0/operation", "value": "Odd"}]),
        ),
        "/color" => patch(
            uid,
            &json!([{"op": "add", "path": "/spec/color", "value": "blue"}, {"op": "add", "path": "/spec/lost", "value": 1}]),
        ),
        "/container" => patch(
            uid,
            &json!([{"op": "add", "path": "/container", "value": "other"}]),
        ),
        "/no-patch" => {
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": "ew=="})
        }
        "/bad-patch" => patch(uid, &json!([{"op": "remove", "path": "/no/such/path"}])),
        "/other-kind" => patch(
            uid,
            &json!([{"op": "replace", "path": "/kind", "value": "Secret"}]),
        ),
        "/replicas" => patch(
            uid,
            &json!([{"op": "replace", "path": "/spec/replicas", "value": 7}]),
        ),
        _ => allow(uid),
    };
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    review.to_string().into_response()
}

impl Cluster {
    async fn start() -> Cluster {
        let server = Server::start().await;
        server.account("default").await;
        let reviews = Reviews::default();
        let router = Router::new().fallback(serve).with_state(reviews.clone());
        let listener = Listener::start("hook.default.svc", router).await;
        let cluster = Cluster {
            server,
            listener,
            reviews,
        };
        cluster.service(cluster.listener.port).await;
        cluster
    }

    /// The Service `hook`: one endpoint where nobody listens, one that is not ready, and the webhook.
    async fn service(&self, port: u16) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": "https"}]}});
        let services = "/api/v1/namespaces/default/services";
        self.server.post(services, service).await.ok();
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "hook-1", "namespace": "default", "uid": "u", "labels": {"kubernetes.io/service-name": "hook"}},
            "endpoints": [
                {"addresses": ["127.0.0.9"], "conditions": {"ready": true}},
                {"addresses": ["127.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["192.0.2.1"], "conditions": {"ready": false}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
        // Not through the API, which takes no loopback addresses.
        self.write("/registry/endpointslices/default/hook-1", slice)
            .await;
    }

    async fn write(&self, key: &str, object: Value) {
        let put = PutRequest {
            key: Bytes::from(key.to_owned()),
            value: Bytes::from(object.to_string()),
            ..PutRequest::default()
        };
        let op = RequestOp {
            request: Some(kv::Request::Put(put)),
        };
        let request = TxnRequest {
            success: vec![op],
            ..TxnRequest::default()
        };
        self.server.store.txn(request).await.unwrap();
    }

    fn hook(&self, path: &str, extra: Value) -> Value {
        let bundle = base64::engine::general_purpose::STANDARD.encode(&self.listener.ca);
        let mut hook = json!({
            "name": format!("{}.example.com", &path[1..]),
            "clientConfig": {"service": {"namespace": "default", "name": "hook", "path": path}, "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps", "pods"], "operations": ["*"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        for (field, value) in extra.as_object().unwrap() {
            hook[field] = value.clone();
        }
        hook
    }

    async fn install(&self, kind: &str, name: &str, hooks: Value) {
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{kind}WebhookConfiguration"), "metadata": {"name": name}, "webhooks": hooks});
        let uri = format!("{HOOKS}/{}webhookconfigurations", kind.to_lowercase());
        self.server.post(&uri, configuration).await.ok();
        self.see().await;
    }

    async fn validating(&self, hooks: Value) {
        self.install("Validating", "v", hooks).await;
    }

    async fn mutating(&self, hooks: Value) {
        self.install("Mutating", "m", hooks).await;
    }

    /// Waits until the server's caches show what was written.
    async fn see(&self) {
        self.server.get(MAPS).await.ok();
    }

    async fn uninstall(&self, kind: &str) {
        let uri = format!("{HOOKS}/{}webhookconfigurations", kind.to_lowercase());
        self.server.delete(&uri, json!(null)).await.ok();
        self.see().await;
    }
}

fn refusal(answer: &Answer) -> (u16, String) {
    let (code, _, message) = answer.refused();
    (code, message.to_owned())
}

#[tokio::test]
async fn a_validating_webhook_denies_what_its_rules_name() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    server.post(MAPS, config_map("before", "1")).await.ok();
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps", "pods"],
        "operations": ["CREATE", "UPDATE", "DELETE"]}]);
    cluster
        .validating(json!([cluster.hook("/deny", json!({"rules": rules}))]))
        .await;
    let text = "admission webhook \"deny.example.com\" denied the request: not here";
    let denied = (403, text.to_owned());
    let made = server.post(MAPS, config_map("a", "1")).await;
    assert_eq!(refusal(&made), denied);
    assert_eq!(made.body["reason"], "Forbidden");
    assert_eq!(refusal(&server.post(PODS, pod("p")).await), denied);
    let uri = format!("{MAPS}/before");
    assert_eq!(
        refusal(&server.put(&uri, config_map("before", "2")).await),
        denied
    );
    let body = json!({"data": {"key": "3"}});
    let patched = server.patch(&uri, "merge-patch+json", body).await;
    assert_eq!(refusal(&patched), denied);
    assert_eq!(refusal(&server.delete(&uri, json!(null)).await), denied);
    assert_eq!(refusal(&server.delete(MAPS, json!(null)).await), denied);
    // Others pass.
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.post(accounts, account).await.ok();
    // Other rules count from now on, and so does their removal.
    let uri = format!("{HOOKS}/validatingwebhookconfigurations/v");
    let rules =
        json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["DELETE"]}]);
    server.patch(&uri, "json-patch+json", rules).await.ok();
    cluster.see().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let uri = format!("{MAPS}/before");
    assert_eq!(refusal(&server.delete(&uri, json!(null)).await), denied);
    cluster.uninstall("Validating").await;
    server.delete(&uri, json!(null)).await.ok();
}

#[tokio::test]
async fn a_review_tells_everything() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster
        .mutating(json!([cluster.hook("/allow", json!({}))]))
        .await;
    cluster
        .validating(json!([cluster.hook("/check", json!({}))]))
        .await;
    let uri = format!("{MAPS}?fieldManager=me&fieldValidation=Strict");
    let mut map = config_map("a", "1");
    map["metadata"] = json!({"generateName": "a-"});
    let name = server.post(&uri, map).await.ok()["metadata"]["name"].clone();
    let reviews = cluster.reviews.take();
    assert_eq!(reviews.len(), 2);
    let review = &reviews[0].1;
    assert_eq!(
        (&review["apiVersion"], &review["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    let request = &review["request"];
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    assert_eq!((&request["kind"], &request["requestKind"]), (&kind, &kind));
    assert_eq!(
        (&request["resource"], &request["requestResource"]),
        (&resource, &resource)
    );
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["namespace"], "default");
    assert_eq!(request["userInfo"]["username"], "system:apiserver");
    assert_eq!(request["dryRun"], false);
    assert_eq!(request["oldObject"], json!(null));
    let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me", "fieldValidation": "Strict"});
    assert_eq!(request["options"], options);
    // The name is generated and the uid drawn after everybody could change the object.
    assert_eq!(request.get("name"), None);
    assert_eq!(request["object"]["metadata"].get("uid"), None);
    assert_eq!(request["object"]["metadata"]["generateName"], "a-");
    assert_eq!(reviews[1].0, "/check");
    assert_eq!(reviews[1].1["request"]["name"], name);
    assert!(reviews[1].1["request"]["object"]["metadata"]["uid"].is_string());

    let uri = format!("{MAPS}/{}", name.as_str().unwrap());
    let body = json!({"data": {"key": "2"}});
    server
        .patch(&format!("{uri}?dryRun=All"), "merge-patch+json", body)
        .await
        .ok();
    let reviews = cluster.reviews.take();
    let request = &reviews[1].1["request"];
    assert_eq!(request["operation"], "UPDATE");
    assert_eq!(request["oldObject"]["data"]["key"], "1");
    assert_eq!(request["object"]["data"]["key"], "2");
    assert_eq!(request["dryRun"], true);
    assert_eq!(request["options"]["kind"], "UpdateOptions");
    assert_eq!(request["options"]["dryRun"], json!(["All"]));

    let body = json!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 3});
    server.delete(&uri, body).await.ok();
    let reviews = cluster.reviews.take();
    let request = &reviews[0].1["request"];
    assert_eq!(request["operation"], "DELETE");
    assert_eq!(request["object"], json!(null));
    assert_eq!(request["oldObject"]["metadata"]["name"], name);
    assert_eq!(request["options"]["propagationPolicy"], "Foreground");
    assert_eq!(request["options"]["gracePeriodSeconds"], 3);
}

#[tokio::test]
async fn mutations_are_defaulted_and_belong_to_nobody() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster
        .mutating(json!([
            cluster.hook("/unknown-field", json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]})),
            cluster.hook("/account", json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]}))
        ]))
        .await;
    let map = server.post(MAPS, config_map("a", "1")).await.ok();
    assert_eq!(map["data"], json!({"key": "1", "added": "x"}));
    assert_eq!(map.get("nonsense"), None);
    let fields = map["metadata"]["managedFields"].to_string();
    assert!(
        fields.contains("f:key") && !fields.contains("f:added"),
        "{fields}"
    );
    let mut changed = config_map("a", "2");
    changed["data"]["added"] = "y".into();
    let map = server.put(&format!("{MAPS}/a"), changed).await.ok();
    assert_eq!(map["data"], json!({"key": "2", "added": "x"}));
    // A container that a webhook adds is as any other: it gets its defaults, and the plugins run again.
    let pod = server.post(PODS, pod("p")).await.ok();
    let added = &pod["spec"]["containers"][1];
    assert_eq!(added["terminationMessagePath"], "/dev/termination-log");
    let mount = &added["volumeMounts"][0]["mountPath"];
    assert_eq!(mount, "/var/run/secrets/kubernetes.io/serviceaccount");
}

#[tokio::test]
async fn managed_fields_that_a_webhook_breaks_are_put_back() {
    let cluster = Cluster::start().await;
    cluster
        .mutating(json!([cluster.hook("/managed", json!({}))]))
        .await;
    let made = cluster.server.post(MAPS, config_map("a", "1")).await;
    let warning = made.headers["warning"].to_str().unwrap().to_owned();
    assert!(
        warning.contains("invalid state after admission"),
        "{warning}"
    );
    let map = made.ok();
    assert_eq!(map["data"]["added"], "x");
    assert_eq!(map["metadata"]["managedFields"][0]["operation"], "Update");
}

#[tokio::test]
async fn webhooks_are_asked_in_order_and_once_more_where_they_wish() {
    let cluster = Cluster::start().await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    cluster
        .install(
            "Mutating",
            "a",
            json!([
                cluster.hook("/label-a", again.clone()),
                cluster.hook("/first", json!({}))
            ]),
        )
        .await;
    cluster
        .install(
            "Mutating",
            "b",
            json!([
                cluster.hook("/label-b", again.clone()),
                cluster.hook("/last", again)
            ]),
        )
        .await;
    let map = cluster.server.post(MAPS, config_map("m", "1")).await.ok();
    assert_eq!(map["metadata"]["labels"], json!({"a": "yes", "b": "yes"}));
    // The last one has seen everything: nobody changed the object after it.
    assert_eq!(
        cluster.reviews.paths(),
        ["/label-a", "/first", "/label-b", "/last", "/label-a"]
    );
}

#[tokio::test]
async fn failures_close_or_are_left_out() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let make = async |hook: Value| {
        cluster.mutating(json!([hook])).await;
        let made = server.post(MAPS, config_map("a", "1")).await;
        cluster.uninstall("Mutating").await;
        made
    };
    let url = "https://hook.default.svc:443";
    for (path, reason) in [
        (
            "/broken",
            "failed to call webhook: an error on the server (\"oh no\") has prevented the request from succeeding",
        ),
        (
            "/other-uid",
            "received invalid webhook response: expected response.uid=",
        ),
        (
            "/never",
            &format!(
                "failed to call webhook: Post \"{url}/never?timeout=1s\": context deadline exceeded"
            ),
        ),
    ] {
        let made = make(cluster.hook(path, json!({"timeoutSeconds": 1}))).await;
        let (code, text) = refusal(&made);
        let wanted = format!(
            "Internal error occurred: failed calling webhook \"{}.example.com\": {reason}",
            &path[1..]
        );
        assert!(code == 500 && text.starts_with(&wanted), "{code} {text}");
        assert_eq!(made.body["reason"], "InternalError");
    }
    let service = |name: &str, port: u16| {
        json!({"timeoutSeconds": 5, "clientConfig": {"service": {"namespace": "default", "name": name, "port": port},
            "caBundle": base64::engine::general_purpose::STANDARD.encode(&cluster.listener.ca)}})
    };
    let mut untrusted = cluster.hook("/allow", json!({"timeoutSeconds": 5}));
    untrusted["clientConfig"]["caBundle"].take();
    for (hook, reason) in [
        (
            cluster.hook("/x", service("none", 443)),
            "Post \"https://none.default.svc:443/?timeout=5s\": service \"none\" not found",
        ),
        (
            cluster.hook("/x", service("hook", 444)),
            "Post \"https://hook.default.svc:444/?timeout=5s\": no service port 444 found for service \"hook\"",
        ),
        (
            cluster.hook("/x", service("kubernetes", 443)),
            "failed to call webhook: Post",
        ),
        (
            untrusted,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
    ] {
        let (code, text) = refusal(&make(hook).await);
        assert!(code == 500 && text.contains(reason), "{code} {text}");
    }
    let (code, text) = refusal(&make(cluster.hook("/bad-patch", json!({}))).await);
    assert!(
        code == 500 && text.starts_with("Internal error occurred: "),
        "{code} {text}"
    );
    let other = make(cluster.hook("/other-kind", json!({}))).await;
    let wanted = "converting (v1.Secret) to (core.ConfigMap): unknown conversion";
    assert_eq!(other.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(other.body["message"], wanted);
    let (code, text) = refusal(&make(cluster.hook("/no-patch", json!({}))).await);
    let wanted = "failed calling webhook \"no-patch.example.com\": received undecodable patch in webhook response: unexpected end of JSON input";
    assert!(code == 500 && text.ends_with(wanted), "{code} {text}");
    let ignored = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
    for path in ["/broken", "/never", "/no-patch"] {
        make(cluster.hook(path, ignored.clone())).await.ok();
        let uri = format!("{MAPS}/a");
        server.delete(&uri, json!(null)).await.ok();
    }
    // A word against the request counts whatever the policy for failures.
    let denied = make(cluster.hook("/deny", ignored)).await;
    assert_eq!(denied.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn dry_runs_ask_only_webhooks_without_side_effects() {
    let cluster = Cluster::start().await;
    let hooks = json!([cluster.hook("/allow", json!({"sideEffects": "Some"}))]);
    let key = "/registry/validatingwebhookconfigurations/old";
    let old = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "old", "uid": "u"}, "webhooks": hooks});
    cluster.write(key, old).await;
    cluster.see().await;
    let uri = format!("{MAPS}?dryRun=All");
    let refused = cluster.server.post(&uri, config_map("a", "1")).await;
    let text = "admission webhook \"allow.example.com\" does not support dry run";
    assert_eq!(refused.refused(), (400, "BadRequest", text));
    assert!(cluster.reviews.take().is_empty());
    cluster.server.post(MAPS, config_map("a", "1")).await.ok();
}

#[tokio::test]
async fn configurations_of_webhooks_are_nobodys_to_judge() {
    let cluster = Cluster::start().await;
    let rules = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}]);
    cluster
        .validating(json!([
            cluster.hook("/deny", json!({"rules": rules.clone()}))
        ]))
        .await;
    cluster
        .mutating(json!([cluster.hook("/label-a", json!({"rules": rules}))]))
        .await;
    let uri = format!("{HOOKS}/validatingwebhookconfigurations/v");
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    let patched = cluster
        .server
        .patch(&uri, "merge-patch+json", label)
        .await
        .ok();
    assert_eq!(patched["metadata"]["labels"], json!({"x": "y"}));
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let refused = cluster.server.post(accounts, account).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    cluster.server.delete(&uri, json!(null)).await.ok();
}

#[tokio::test]
async fn match_conditions_choose_by_what_is_written() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let condition = |policy: &str, expression: &str| {
        json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
            "failurePolicy": policy, "matchConditions": [{"name": "c", "expression": expression}]})
    };
    let named = "object.metadata.name == 'named' && request.userInfo.username != 'nobody'";
    cluster
        .validating(json!([
            cluster.hook("/deny", condition("Fail", named)),
            cluster.hook("/object", condition("Ignore", "object.missing == 1")),
        ]))
        .await;
    let refused = server.post(MAPS, config_map("named", "x")).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(cluster.reviews.paths(), ["/deny"]);
    server.post(MAPS, config_map("other", "x")).await.ok();
    assert!(cluster.reviews.paths().is_empty());
    cluster.uninstall("Validating").await;
    cluster
        .validating(json!([
            cluster.hook("/deny", condition("Fail", "object.missing == 1"))
        ]))
        .await;
    let refused = server.post(MAPS, config_map("third", "x")).await;
    let text = "configmaps \"third\" is forbidden: expression 'object.missing == 1' resulted in error: no such key: missing";
    assert_eq!(refused.refused(), (403, "Forbidden", text));
    assert!(cluster.reviews.paths().is_empty());
}

#[tokio::test]
async fn selectors_choose_by_labels_of_namespace_and_object() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps", "namespaces", "nodes"], "operations": ["CREATE", "UPDATE"]}]);
    let by_namespace =
        json!({"rules": rules, "namespaceSelector": {"matchLabels": {"guarded": "yes"}}});
    let by_object = json!({"rules": rules, "objectSelector": {"matchLabels": {"guarded": "yes"}}});
    cluster
        .validating(json!([
            cluster.hook("/deny", by_namespace),
            cluster.hook("/object", by_object)
        ]))
        .await;
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    server
        .post("/api/v1/namespaces", namespace("free", json!({})))
        .await
        .ok();
    let guarded = namespace("guarded", json!({"guarded": "yes"}));
    let refused = server.post("/api/v1/namespaces", guarded).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    // Updates into the label too.
    let label = json!({"metadata": {"labels": {"guarded": "yes"}}});
    let uri = "/api/v1/namespaces/free";
    let refused = server.patch(uri, "merge-patch+json", label).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    // Cluster-wide objects are in no namespace that could be left out.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    assert_eq!(
        server.post("/api/v1/nodes", node).await.code,
        StatusCode::FORBIDDEN
    );
    cluster.reviews.take();
    server.post(MAPS, config_map("plain", "1")).await.ok();
    assert!(cluster.reviews.take().is_empty());
    let mut map = config_map("labelled", "1");
    map["metadata"]["labels"] = json!({"guarded": "yes"});
    server.post(MAPS, map).await.ok();
    assert_eq!(cluster.reviews.paths(), ["/object"]);
    // The label of before counts as well.
    server
        .put(&format!("{MAPS}/labelled"), config_map("labelled", "2"))
        .await
        .ok();
    assert_eq!(cluster.reviews.paths(), ["/object"]);
}

#[tokio::test]
async fn events_match_under_either_name_unless_exactly_one_is_meant() {
    let cluster = Cluster::start().await;
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["events"], "operations": ["CREATE"]}]);
    cluster
        .validating(json!([
            cluster.hook("/equivalent", json!({"rules": rules})),
            cluster.hook("/deny", json!({"rules": rules, "matchPolicy": "Exact"}))
        ]))
        .await;
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
        "action": "a", "reason": "r", "type": "Normal", "note": "words",
        "regarding": {"kind": "ConfigMap", "namespace": "default", "name": "x"}});
    let uri = "/apis/events.k8s.io/v1/namespaces/default/events";
    cluster.server.post(uri, event).await.ok();
    let reviews = cluster.reviews.take();
    assert_eq!(reviews.len(), 1);
    let request = &reviews[0].1["request"];
    assert_eq!(request["kind"]["group"], "");
    assert_eq!(request["requestKind"]["group"], "events.k8s.io");
    assert_eq!(request["object"]["apiVersion"], "v1");
    assert_eq!(request["object"]["message"], "words");
}

#[tokio::test]
async fn warnings_reach_the_client() {
    let cluster = Cluster::start().await;
    cluster
        .validating(json!([cluster.hook("/warn", json!({}))]))
        .await;
    let made = cluster.server.post(MAPS, config_map("a", "1")).await;
    let warnings: Vec<_> = made.headers.get_all("warning").iter().collect();
    assert_eq!(
        warnings,
        ["299 - \"careful \\\"now\\\"\"", "299 - \"and later\""]
    );
}

#[tokio::test]
async fn refusals_warn_too_and_in_any_language() {
    let cluster = Cluster::start().await;
    cluster
        .validating(json!([cluster.hook("/warn-and-deny", json!({}))]))
        .await;
    let refused = cluster.server.post(MAPS, config_map("a", "1")).await;
    assert!(refused.code.is_client_error(), "{}", refused.text);
    let warnings = refused.headers.get_all("warning").iter();
    let warnings: Vec<_> = warnings.map(|value| value.as_bytes()).collect();
    assert_eq!(warnings, ["299 - \"später \\\"nicht\\\"\"".as_bytes()]);
}

#[tokio::test]
async fn a_hostile_webhook_harms_nobody() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    for (path, reason) in [
        ("/deep", "couldn't get version/kind; json parse error"),
        ("/large", "the answer is larger than"),
        ("/doubling", "Internal error occurred: "),
    ] {
        cluster
            .mutating(json!([cluster.hook(path, json!({}))]))
            .await;
        let (code, text) = refusal(&server.post(MAPS, config_map("a", "1")).await);
        assert!(code == 500 && text.contains(reason), "{path} {code} {text}");
        cluster.uninstall("Mutating").await;
    }
    cluster
        .validating(json!([cluster.hook("/chatter", json!({}))]))
        .await;
    let made = server.post(MAPS, config_map("a", "1")).await;
    assert_eq!(made.headers.get_all("warning").iter().count(), 256);
    made.ok();
}

#[tokio::test]
async fn a_dead_endpoint_is_no_failure() {
    let cluster = Cluster::start().await;
    cluster
        .validating(json!([cluster.hook("/close", json!({}))]))
        .await;
    // Each needs a connection of its own.
    for index in 0..8 {
        let map = config_map(&format!("m{index}"), "1");
        cluster.server.post(MAPS, map).await.ok();
    }
}

#[tokio::test]
async fn subresources_have_webhooks_of_their_own() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let rules = |group: &str, resources: &[&str]| json!({"rules": [{"apiGroups": [group], "apiVersions": ["v1"], "resources": resources, "operations": ["*"]}]});
    server.post(PODS, pod("p")).await.ok();
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    server.post(deployments, deployment).await.ok();
    cluster
        .mutating(json!([
            cluster.hook("/replicas", rules("apps", &["deployments/scale"]))
        ]))
        .await;
    cluster
        .validating(json!([
            cluster.hook(
                "/pods",
                rules(
                    "",
                    &[
                        "pods/status",
                        "pods/binding",
                        "pods/eviction",
                        "pods/exec",
                        "serviceaccounts/token"
                    ]
                )
            ),
            cluster.hook("/deny", rules("", &["pods/attach"]))
        ]))
        .await;
    let scale = json!({"spec": {"replicas": 3}});
    let uri = format!("{deployments}/d/scale");
    let scaled = server.patch(&uri, "merge-patch+json", scale).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 7);
    let reviews = cluster.reviews.take();
    let request = &reviews[0].1["request"];
    assert_eq!(request["kind"]["kind"], "Scale");
    assert_eq!(request["resource"]["resource"], "deployments");
    assert_eq!(request["subResource"], "scale");
    assert_eq!(request["object"]["spec"]["replicas"], 3);
    assert_eq!(request["oldObject"]["spec"]["replicas"], 1);

    let status = json!({"status": {"message": "hello"}});
    let uri = format!("{PODS}/p/status");
    server.patch(&uri, "merge-patch+json", status).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    server
        .post(&format!("{PODS}/p/binding"), binding)
        .await
        .ok();
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    server
        .post(&format!("{PODS}/p/eviction"), eviction)
        .await
        .ok();
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let uri = "/api/v1/namespaces/default/serviceaccounts/default/token";
    server.post(uri, token).await.ok();
    let exec = format!("{PODS}/p/exec?command=ls&stdout=true&container=main");
    server.call(Method::POST, &exec, Value::Null).await;
    let told: Vec<(String, String, String)> = cluster
        .reviews
        .take()
        .iter()
        .map(|(_, review)| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let request = &review["request"];
            (
                text(&request["operation"]),
                text(&request["subResource"]),
                text(&request["kind"]["kind"]),
            )
        })
        .collect();
    let wanted = [
        ("UPDATE", "status", "Pod"),
        ("CREATE", "binding", "Binding"),
        ("CREATE", "eviction", "Eviction"),
        ("CREATE", "token", "TokenRequest"),
        ("CONNECT", "exec", "PodExecOptions"),
    ];
    let wanted = wanted.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(told, wanted);
    let attach = format!("{PODS}/p/attach?stdin=true");
    let refused = server.call(Method::POST, &attach, Value::Null).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_external_name_is_looked_up() {
    let cluster = Cluster::start().await;
    let slice = cluster
        .server
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/hook-1")
        .await
        .ok();
    let port = slice["ports"][0]["port"].clone();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "away"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    let services = "/api/v1/namespaces/default/services";
    cluster.server.post(services, service).await.ok();
    let mut hook = cluster.hook("/allow", json!({}));
    hook["clientConfig"]["service"] = json!({"namespace": "default", "name": "away", "port": port});
    cluster.validating(json!([hook])).await;
    // It answers, under another name than the one that is called.
    let refused = cluster.server.post(MAPS, config_map("a", "1")).await;
    assert!(
        refused.refused().2.contains("x509: certificate"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn custom_resources_are_mutated_pruned_and_denied() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "color": {"type": "string"}, "size": {"type": "integer", "default": 3}}}}});
    let mut widgets = definition("example.com", "Widget", schema.clone());
    let versions = widgets["spec"]["versions"].as_array_mut().unwrap();
    versions.push(json!({"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": schema}}));
    server.post(DEFINITIONS, widgets).await.ok();
    let rules = |operations: &[&str]| json!({"rules": [{"apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["widgets"], "operations": operations}]});
    cluster
        .mutating(json!([cluster.hook("/color", rules(&["CREATE"]))]))
        .await;
    // Asked about version 2, though it is version 1 that is written.
    let made = server.post(WIDGETS, widget("a", json!({}))).await.ok();
    assert_eq!(made["apiVersion"], "example.com/v1");
    assert_eq!(made["spec"], json!({"color": "blue", "size": 3}));
    let reviews = cluster.reviews.take();
    let request = &reviews[0].1["request"];
    assert_eq!(request["kind"]["version"], "v2");
    assert_eq!(request["requestKind"]["version"], "v1");
    assert_eq!(request["object"]["apiVersion"], "example.com/v2");
    cluster
        .validating(json!([cluster.hook("/deny", rules(&["UPDATE", "DELETE"]))]))
        .await;
    let uri = format!("{WIDGETS}/a");
    let body = json!({"spec": {"size": 4}});
    let refused = server.patch(&uri, "merge-patch+json", body).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(
        server.delete(&uri, json!(null)).await.code,
        StatusCode::FORBIDDEN
    );
    cluster.uninstall("Validating").await;
    server.delete(&uri, json!(null)).await.ok();
}

#[tokio::test]
async fn a_definition_can_be_denied() {
    let cluster = Cluster::start().await;
    let rules = json!({"rules": [{"apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["*"], "resources": ["customresourcedefinitions"], "operations": ["CREATE"]}]});
    cluster
        .validating(json!([cluster.hook("/deny", rules)]))
        .await;
    let widgets = definition("example.com", "Widget", json!({"type": "object"}));
    let refused = cluster.server.post(DEFINITIONS, widgets).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_denial_with_404_is_no_absence() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let events = "/api/v1/namespaces/default/events";
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "words",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
    server.post(events, event.clone()).await.ok();
    server.post(MAPS, config_map("a", "1")).await.ok();
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps", "events"], "operations": ["*"]}]);
    cluster
        .validating(json!([cluster.hook("/not-found", json!({"rules": rules}))]))
        .await;
    let mut other = event;
    other["message"] = "other words".into();
    let put = server.put(&format!("{events}/e"), other).await;
    let applied = server
        .patch(
            &format!("{MAPS}/a?fieldManager=m&force=true"),
            "apply-patch+yaml",
            config_map("a", "2"),
        )
        .await;
    for answer in [put, applied] {
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{}", answer.text);
    }
    let reviews = cluster.reviews.take();
    let mut operations: Vec<_> = reviews
        .iter()
        .map(|(_, review)| review["request"]["operation"].as_str().unwrap())
        .collect();
    operations.dedup();
    assert_eq!(operations, ["UPDATE"]);
}

#[tokio::test]
async fn a_webhook_that_cannot_answer_keeps_no_server_from_getting_ready() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let rules = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["CREATE", "UPDATE"]}]);
    cluster
        .validating(json!([
            cluster.hook("/broken", json!({"rules": rules.clone()}))
        ]))
        .await;
    cluster
        .mutating(json!([cluster.hook("/broken", json!({"rules": rules}))]))
        .await;
    let made = server.post(MAPS, config_map("a", "1")).await;
    assert!(made.code.is_server_error(), "{}", made.text);
    let viewer = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:basic-user";
    server.delete(viewer, json!(null)).await.ok();
    let next = Server::over(server.store.clone()).await;
    next.get(viewer).await.ok();
}

#[tokio::test]
async fn what_a_webhook_makes_of_a_connection_is_what_is_opened() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    server.post(PODS, pod("p")).await.ok();
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"], "operations": ["CONNECT"]}]);
    cluster
        .mutating(json!([cluster.hook("/container", json!({"rules": rules}))]))
        .await;
    let exec = format!("{PODS}/p/exec?command=ls&stdout=true&container=main");
    let refused = server.call(Method::POST, &exec, Value::Null).await;
    let text = "container other is not valid for pod p";
    assert_eq!(refused.refused(), (400, "BadRequest", text));
    let attach = format!("{PODS}/p/attach?stdin=true&container=none");
    let refused = server.call(Method::POST, &attach, Value::Null).await;
    assert_eq!(refused.refused().2, "container none is not valid for pod p");
}

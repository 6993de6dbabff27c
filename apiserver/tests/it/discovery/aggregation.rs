//! Group versions that another server serves: a small one on this machine, behind a Service, which believes whoever shows a
//! certificate of the front proxy's authority.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver::FrontProxy;
use auth::User;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use kv::mem::MemStore;
use kv::{PutRequest, RequestOp, Store, TxnRequest};
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::definitions::{DEFINITIONS, any, definition};
use crate::server::{PODS, Server};
use crate::subresources::proxy::{Backend, Ca};

const DEADLINE: Duration = Duration::from_secs(60);
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";
const ROOT: &str = "/apis/wardle.example.com/v1alpha1";

/// What the other server does; broken while the flag is set.
async fn other(State(broken): State<Arc<AtomicBool>>, request: Request) -> Response {
    if broken.load(Ordering::SeqCst) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "broken").into_response();
    }
    let (parts, body) = request.into_parts();
    let json =
        |value: Value| ([("content-type", "application/json")], value.to_string()).into_response();
    match parts.uri.path() {
        ROOT => json(
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"]},
                {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]}]}),
        ),
        "/openapi/v3" => json(json!({"paths": {
            "apis/wardle.example.com/v1alpha1": {"serverRelativeURL": format!("/openapi/v3{ROOT}?hash=ABC")}}})),
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => {
            json(json!({"openapi": "3.0.0", "theirs": true}))
        }
        "/openapi/v2" => json(
            json!({"swagger": "2.0", "paths": {format!("{ROOT}/flunders"): {"get": {"schema": {"$ref": "#/definitions/F"}}}},
            "definitions": {"F": {"type": "object"}, "Unused": {}}}),
        ),
        path if path.ends_with("/away") => (
            StatusCode::FOUND,
            [("location", "https://example.com/")],
            "",
        )
            .into_response(),
        path if path.ends_with("/stalled") => {
            let begun = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("begun"))]);
            let endless = futures::StreamExt::chain(begun, futures::stream::pending());
            Body::from_stream(endless).into_response()
        }
        path if path.ends_with("/refused") => (StatusCode::FORBIDDEN, "not you").into_response(),
        _ if parts.uri.query() == Some("watch=1") => {
            let events = futures::stream::unfold(0, async |number| {
                tokio::task::yield_now().await;
                let event =
                    json!({"type": "ADDED", "object": {"metadata": {"name": number.to_string()}}});
                Some((
                    Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n"))),
                    number + 1,
                ))
            });
            Body::from_stream(events).into_response()
        }
        _ => {
            let headers: Vec<(String, String)> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            let body = body.collect().await.unwrap().to_bytes();
            json(
                json!({"method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
                "body": String::from_utf8_lossy(&body)}),
            )
        }
    }
}

struct Cluster {
    server: Server,
    broken: Arc<AtomicBool>,
    ca: Ca,
    proxy_ca_pem: String,
    _backend: Backend,
}

impl Cluster {
    async fn start() -> Cluster {
        let proxy_ca = Ca::new();
        let (certificate, key) = proxy_ca.issue(&["front-proxy-client"]);
        let store = MemStore::new();
        let server = Server::told(store.clone(), store, "CA".to_owned(), |config| {
            config.front_proxy = Some(FrontProxy {
                ca_pem: proxy_ca.0.pem(),
                certificate_pem: certificate.pem(),
                key_pem: key.serialize_pem(),
            });
        });
        timeout(DEADLINE, server.api.ready())
            .await
            .expect("the server gets ready");
        let broken = Arc::new(AtomicBool::new(false));
        let ca = Ca::new();
        let router = Router::new().fallback(other).with_state(broken.clone());
        let tls = ca.server(&["wardle.default.svc"], Some(&proxy_ca));
        let backend = Backend::serve(router, Some(tls)).await;
        let cluster = Cluster {
            server,
            broken,
            ca,
            proxy_ca_pem: proxy_ca.0.pem(),
            _backend: backend,
        };
        cluster.serve(cluster._backend.port).await;
        cluster
    }

    async fn serve(&self, port: u16) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"},
            "spec": {"ports": [{"name": "https", "port": 443}]}});
        self.server
            .post("/api/v1/namespaces/default/services", service)
            .await
            .ok();
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "wardle", "namespace": "default", "uid": "u", "labels": {"kubernetes.io/service-name": "wardle"}},
            "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
        // Not through the API, which takes no loopback addresses.
        let put = PutRequest {
            key: Bytes::from("/registry/endpointslices/default/wardle"),
            value: Bytes::from(slice.to_string()),
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

    async fn register(&self, bundle: &str) {
        let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
        let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME},
            "spec": {"group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
                "caBundle": bundle, "service": {"namespace": "default", "name": "wardle"}}});
        self.server.post(SERVICES, object).await.ok();
    }

    /// Waits for a reason of the condition; the condition.
    async fn until(&self, reason: &str) -> Value {
        let look = async {
            loop {
                let object = self.server.get(&format!("{SERVICES}/{NAME}")).await.ok();
                let condition = object["status"]["conditions"][0].clone();
                if condition["reason"] == reason {
                    return condition;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, look)
            .await
            .expect("the condition in time")
    }
}

fn groups(list: &Value) -> Vec<&str> {
    let groups = list["groups"].as_array().unwrap();
    groups
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_registered_version_is_served_by_its_server() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster.register(&cluster.ca.0.pem()).await;
    let condition = cluster.until("Passed").await;
    assert_eq!(
        (&condition["status"], &condition["message"]),
        (&json!("True"), &json!("all checks passed"))
    );
    let mut jane = User::new("jane", ["dev", "system:masters"]);
    jane.uid = "u1".to_owned();
    jane.extra.insert("scopes".to_owned(), vec!["a".to_owned()]);
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(format!("{ROOT}/namespaces/default/flunders?dryRun=All"))
        .extension(jane)
        .header("authorization", "Bearer secret")
        .header("x-remote-user", "root")
        .header("x-remote-group", "system:masters")
        .header("accept", "application/vnd.odd")
        .body(Body::from("content"))
        .unwrap();
    let seen = server.read(request).await.ok();
    assert_eq!(seen["method"], "POST");
    assert_eq!(
        seen["uri"],
        format!("{ROOT}/namespaces/default/flunders?dryRun=All")
    );
    assert_eq!(seen["body"], "content");
    let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
    let named = |name: &str| -> Vec<&str> {
        let own = headers.iter().filter(|(own, _)| own == name);
        own.map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(named("x-remote-user"), ["jane"]);
    assert_eq!(named("x-remote-group"), ["dev", "system:masters"]);
    assert_eq!(named("x-remote-uid"), ["u1"]);
    assert_eq!(named("x-remote-extra-scopes"), ["a"]);
    assert_eq!(named("host"), ["wardle.default.svc"]);
    assert_eq!(named("accept"), ["application/vnd.odd"]);
    assert!(named("authorization").is_empty());
    let list = server.get(ROOT).await.ok();
    assert_eq!(list["resources"][0]["name"], "flunders");
    let mut events = server.watch(&format!("{ROOT}/flunders?watch=1")).await;
    assert_eq!(events.line().await, "ADDED 0");
    assert_eq!(events.line().await, "ADDED 1");
    let refused = server.get(&format!("{ROOT}/refused")).await;
    assert_eq!(
        (refused.code, refused.text.as_str()),
        (StatusCode::FORBIDDEN, "not you")
    );
    let odd = format!("{ROOT}/namespaces/default/flunders/f%2Fstatus");
    assert_eq!(server.get(&odd).await.refused().0, 400);
    let away = server.get(&format!("{ROOT}/away")).await;
    let text = "the backend attempted to redirect this request, which is not permitted\n";
    assert_eq!(
        (away.code, away.text.as_str()),
        (StatusCode::BAD_GATEWAY, text)
    );
}

#[tokio::test]
async fn an_answer_that_stalls_ends_with_the_time_of_its_request() {
    let cluster = Cluster::start().await;
    cluster.register(&cluster.ca.0.pem()).await;
    cluster.until("Passed").await;
    let uri = format!("{ROOT}/namespaces/default/flunders/stalled?timeout=5s");
    let request = cluster.server.request(Method::GET, &uri);
    let request = request.body(Body::empty()).unwrap();
    let response = cluster.server.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let begun = body.frame().await.unwrap().unwrap();
    assert_eq!(begun.into_data().unwrap(), "begun");
    let end = timeout(DEADLINE, body.frame()).await;
    assert!(end.expect("an end in time").unwrap().is_err());
}

#[tokio::test]
async fn discovery_and_openapi_show_what_others_serve() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    server
        .post(DEFINITIONS, definition("example.com", "Widget", any()))
        .await
        .ok();
    cluster.register(&cluster.ca.0.pem()).await;
    cluster.until("Passed").await;
    let list = server.get("/apis").await.ok();
    let names = groups(&list);
    let at = |name: &str| names.iter().position(|one| *one == name).unwrap();
    assert!(
        at("flowcontrol.apiserver.k8s.io") < at("wardle.example.com"),
        "{names:?}"
    );
    assert!(at("wardle.example.com") < at("example.com"), "{names:?}");
    let group = server.get("/apis/wardle.example.com").await.ok();
    assert_eq!(
        group["preferredVersion"]["groupVersion"],
        "wardle.example.com/v1alpha1"
    );
    let aggregated = async || {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let request = server
            .request(Method::GET, "/apis")
            .header("accept", accept);
        let list = server.read(request.body(Body::empty()).unwrap()).await.ok();
        let items = list["items"].as_array().unwrap().clone();
        let found = items
            .into_iter()
            .find(|item| item["metadata"]["name"] == "wardle.example.com");
        found
            .map(|item| item["versions"][0].clone())
            .unwrap_or_default()
    };
    let shown = aggregated().await;
    assert_eq!(shown["freshness"], "Current");
    assert_eq!(shown["resources"][0]["resource"], "flunders");
    assert_eq!(
        shown["resources"][0]["subresources"][0]["subresource"],
        "status"
    );
    let index = server.get("/openapi/v3").await.ok();
    let url = &index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"];
    let url = url.as_str().expect("an entry in the index");
    assert_eq!(server.get(url).await.ok()["theirs"], true);
    let v2 = server.get("/openapi/v2").await.ok();
    assert!(v2["paths"][format!("{ROOT}/flunders")].is_object());
    assert!(v2["definitions"]["F"].is_object() && v2["definitions"]["Unused"].is_null());
    // The server breaks: what it said is shown on, as old.
    cluster.broken.store(true, Ordering::SeqCst);
    let service = json!({"metadata": {"labels": {"touched": "yes"}}});
    let uri = "/api/v1/namespaces/default/services/wardle";
    server.patch(uri, "merge-patch+json", service).await.ok();
    let condition = cluster.until("FailedDiscoveryCheck").await;
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.ends_with(&format!(
            "bad status from https://wardle.default.svc:443{ROOT}: 500"
        )),
        "{message}"
    );
    let old = aggregated().await;
    assert_eq!(
        (&old["freshness"], &old["resources"]),
        (&json!("Stale"), &shown["resources"])
    );
    let refused = server.get(&format!("{ROOT}/flunders")).await;
    assert_eq!(
        (refused.code, refused.text.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n")
    );
    // It comes back, and then its registration goes.
    cluster.broken.store(false, Ordering::SeqCst);
    cluster.until("Passed").await;
    assert_eq!(aggregated().await["freshness"], "Current");
    server
        .delete(&format!("{SERVICES}/{NAME}"), Value::Null)
        .await
        .ok();
    server.get(PODS).await.ok();
    assert_eq!(server.get(ROOT).await.code, StatusCode::NOT_FOUND);
    assert!(aggregated().await.is_null());
    assert!(!groups(&server.get("/apis").await.ok()).contains(&"wardle.example.com"));
}

#[tokio::test]
async fn conditions_say_what_is_missing() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    // Somebody else's certificate.
    cluster.register(&Ca::new().0.pem()).await;
    let condition = cluster.until("FailedDiscoveryCheck").await;
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.contains("tls: failed to verify certificate: x509: "),
        "{message}"
    );
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    server
        .delete(&format!("{slices}/wardle"), Value::Null)
        .await
        .ok();
    cluster.until("EndpointsNotFound").await;
    server
        .delete("/api/v1/namespaces/default/services/wardle", Value::Null)
        .await
        .ok();
    let condition = cluster.until("ServiceNotFound").await;
    assert_eq!(
        condition["message"],
        "service/wardle in \"default\" is not present"
    );
    assert_eq!(condition["status"], "False");
}

#[tokio::test]
async fn what_this_server_serves_is_registered_by_itself() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    server
        .post(DEFINITIONS, definition("example.com", "Widget", any()))
        .await
        .ok();
    let wait = async |name: &str, is_it: fn(&Value) -> bool| {
        let look = async {
            loop {
                let object = server.get(&format!("{SERVICES}/{name}")).await.body;
                if is_it(&object) {
                    return object;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, look)
            .await
            .unwrap_or_else(|_| panic!("{name} in time"))
    };
    const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
    for (name, label, priority) in [
        ("v1.", "onstart", 18_000),
        ("v2.autoscaling", "onstart", 17_500),
        ("v1.example.com", "true", 1_000),
    ] {
        let object = wait(name, |object| object["kind"] == "APIService").await;
        assert_eq!(object["metadata"]["labels"][LABEL], label);
        assert_eq!(object["spec"]["groupPriorityMinimum"], priority);
        let condition = &object["status"]["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!("Local"))
        );
        assert!(condition["lastTransitionTime"].is_string());
    }
    // Bent and deleted ones come back.
    let bent = json!({"spec": {"versionPriority": 3}});
    server
        .patch(&format!("{SERVICES}/v1.apps"), "merge-patch+json", bent)
        .await
        .ok();
    wait("v1.apps", |object| object["spec"]["versionPriority"] == 15).await;
    let uid =
        wait("v1.batch", |object| object["kind"] == "APIService").await["metadata"]["uid"].clone();
    server
        .delete(&format!("{SERVICES}/v1.batch"), Value::Null)
        .await
        .ok();
    let again = wait("v1.batch", |object| object["kind"] == "APIService").await;
    assert_ne!(again["metadata"]["uid"], uid);
    // That of a definition goes with it.
    server
        .delete(&format!("{DEFINITIONS}/widgets.example.com"), Value::Null)
        .await
        .ok();
    wait("v1.example.com", |object| object["kind"] == "Status").await;
}

#[tokio::test]
async fn no_registration_takes_what_this_server_cannot_do_without() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.rbac.authorization.k8s.io"},
        "spec": {"group": "rbac.authorization.k8s.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "wardle"}}});
    let uri = format!("{SERVICES}/v1.rbac.authorization.k8s.io");
    // Whichever is first; either way it stays with this server.
    let answer = server.post(SERVICES, object.clone()).await;
    if answer.code == StatusCode::CONFLICT {
        server
            .patch(
                &uri,
                "merge-patch+json",
                json!({"metadata": {"labels": null}, "spec": object["spec"]}),
            )
            .await
            .ok();
    }
    server.get(PODS).await.ok();
    let list = server
        .get("/apis/rbac.authorization.k8s.io/v1/clusterroles")
        .await
        .ok();
    assert_eq!(list["kind"], "ClusterRoleList");
}

#[tokio::test]
async fn other_servers_find_how_to_know_clients() {
    let cluster = Cluster::start().await;
    let uri = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let data = cluster.server.get(uri).await.ok()["data"].clone();
    let wanted = json!({
        "client-ca-file": "CA",
        "requestheader-client-ca-file": cluster.proxy_ca_pem,
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
        "requestheader-username-headers": "[\"X-Remote-User\"]",
        "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]"
    });
    assert_eq!(data, wanted);
    assert!(
        rustls_pki_types::CertificateDer::from_pem_slice(cluster.proxy_ca_pem.as_bytes()).is_ok()
    );
    // One that a server of before had made gets what it lacks.
    let store = cluster.server.store.clone();
    let other = Server::told(store.clone(), store, "CA".to_owned(), |config| {
        config.front_proxy = Some(FrontProxy {
            ca_pem: "NEW".to_owned(),
            certificate_pem: String::new(),
            key_pem: String::new(),
        });
    });
    timeout(DEADLINE, other.api.ready())
        .await
        .expect("the server gets ready");
    assert_eq!(
        other.get(uri).await.ok()["data"]["requestheader-client-ca-file"],
        "NEW"
    );
}

//! Versions of custom resources that a webhook converts. The webhook is a small HTTPS server; `v1` has one field for what
//! `v2` has two for, as in Kubernetes' conformance tests.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::definitions::{DEFINITIONS, until};
use crate::listener::Listener;
use crate::server::{Answer, MAPS, Server, config_map};

const V1: &str = "/apis/example.com/v1/namespaces/default/hosts";
const V2: &str = "/apis/example.com/v2/namespaces/default/hosts";
const MERGE: &str = "merge-patch+json";
const FAILED: &str = "conversion webhook for example.com/v1, Kind=Host failed: an error on the server (\"oh no\") has prevented the request from succeeding";

/// How the webhook behaves.
#[derive(Clone, Default)]
enum Mode {
    #[default]
    Converts,
    Broken,
    /// Answers when it is told to.
    Waits(Arc<Notify>),
    /// Answers something else.
    Odd(fn(&mut Value)),
}

#[derive(Clone, Default)]
struct Hook(Arc<Mutex<(Mode, Vec<Value>)>>);

impl Hook {
    fn set(&self, mode: Mode) {
        self.0.lock().unwrap().0 = mode;
    }

    /// The reviews since the last look.
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }

    /// Their objects' names, and the version that they should have.
    fn asked(&self) -> Vec<(String, Vec<String>)> {
        let reviews = self.take();
        let reviews = reviews.iter().map(|review| &review["request"]);
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        let asked = reviews.map(|request| {
            let objects = request["objects"].as_array().unwrap();
            let version = request["desiredAPIVersion"].as_str().unwrap().to_owned();
            (version, objects.iter().map(name).collect())
        });
        asked.collect()
    }
}

fn convert(object: &Value, desired: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = desired.clone();
    let fields = object.as_object_mut().unwrap();
    if desired == "example.com/v1" {
        let host = fields.remove("host").unwrap_or_default();
        let port = fields.remove("port").unwrap_or_default();
        let both = [host, port].map(|part| part.as_str().unwrap_or_default().to_owned());
        fields.insert("hostPort".into(), both.join(":").into());
    } else if let Some(both) = fields.remove("hostPort") {
        let (host, port) = both.as_str().unwrap().split_once(':').unwrap();
        fields.insert("host".into(), host.into());
        fields.insert("port".into(), port.into());
    }
    object["metadata"]["labels"]["seen"] = desired.as_str().unwrap()[12..].into();
    object
}

async fn serve(State(hook): State<Hook>, body: Bytes) -> Response {
    let review: Value = serde_json::from_slice(&body).unwrap();
    let mode = {
        let mut state = hook.0.lock().unwrap();
        state.1.push(review.clone());
        state.0.clone()
    };
    let request = &review["request"];
    let objects = request["objects"].as_array().unwrap().iter();
    let converted: Vec<Value> = objects
        .map(|object| convert(object, &request["desiredAPIVersion"]))
        .collect();
    let mut answer = json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": {
        "uid": request["uid"], "convertedObjects": converted, "result": {"status": "Success"}}});
    match mode {
        Mode::Converts => {}
        Mode::Broken => return (StatusCode::INTERNAL_SERVER_ERROR, "oh no").into_response(),
        Mode::Waits(go) => go.notified().await,
        Mode::Odd(change) => change(&mut answer["response"]),
    }
    answer.to_string().into_response()
}

struct Cluster {
    server: Server,
    hook: Hook,
    listener: Listener,
}

/// A schema of texts.
fn texts(names: &[&str]) -> Value {
    let property = |name: &&str| ((*name).to_owned(), json!({"type": "string"}));
    let properties: serde_json::Map<String, Value> = names.iter().map(property).collect();
    json!({"openAPIV3Schema": {"type": "object", "properties": properties}})
}

impl Cluster {
    async fn start() -> Cluster {
        Cluster::with(|_| {}).await
    }

    async fn with(change: impl Fn(&mut Value)) -> Cluster {
        let hook = Hook::default();
        let router = Router::new().fallback(serve).with_state(hook.clone());
        let listener = Listener::start("localhost", router).await;
        let cluster = Cluster {
            server: Server::start().await,
            hook,
            listener,
        };
        let mut definition = cluster.definition();
        change(&mut definition);
        cluster.server.post(DEFINITIONS, definition).await.ok();
        cluster
    }

    /// Stored in v1.
    fn definition(&self) -> Value {
        let bundle = base64::engine::general_purpose::STANDARD.encode(&self.listener.ca);
        let url = format!("https://localhost:{}/convert", self.listener.port);
        let columns = |path: &str| json!([{"name": "Host", "type": "string", "jsonPath": path}]);
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "hosts.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"},
                "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1", "v1beta1"],
                    "clientConfig": {"url": url, "caBundle": bundle}}},
                "versions": [
                    {"name": "v1", "served": true, "storage": true, "schema": texts(&["hostPort", "old"]),
                        "selectableFields": [{"jsonPath": ".hostPort"}], "additionalPrinterColumns": columns(".hostPort")},
                    {"name": "v2", "served": true, "storage": false, "schema": texts(&["host", "port", "new"]),
                        "subresources": {"status": {}},
                        "selectableFields": [{"jsonPath": ".host"}], "additionalPrinterColumns": columns(".host")}]}})
    }

    async fn v1(&self, name: &str) -> Value {
        self.server.post(V1, host_port(name)).await.ok()
    }

    async fn v2(&self, name: &str) -> Value {
        self.server.get(&format!("{V2}/{name}")).await.ok()
    }

    /// From now on objects are stored in v2.
    async fn move_storage(&self) {
        let patch = json!([{"op": "replace", "path": "/spec/versions/0/storage", "value": false},
            {"op": "replace", "path": "/spec/versions/1/storage", "value": true}]);
        let uri = format!("{DEFINITIONS}/hosts.example.com");
        let moved = self.server.patch(&uri, "json-patch+json", patch).await.ok();
        assert_eq!(moved["status"]["storedVersions"], json!(["v1", "v2"]));
    }

    async fn get_as(&self, uri: &str, form: &str) -> Answer {
        let accept = format!("application/json;as={form};g=meta.k8s.io;v=v1");
        let request = self.server.request(Method::GET, uri);
        let request = request.header(header::ACCEPT, accept);
        self.server
            .read(request.body(axum::body::Body::empty()).unwrap())
            .await
    }
}

fn host_port(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Host", "metadata": {"name": name}, "hostPort": "a:1"})
}

fn host(name: &str) -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Host", "metadata": {"name": name}, "host": "b", "port": "2"})
}

/// Code and message of a refusal; of a webhook's there is no reason.
fn refusal(answer: &Answer) -> (u16, &str) {
    assert_eq!(answer.body["status"], "Failure", "{}", answer.text);
    let message = answer.body["message"].as_str().unwrap();
    (answer.code.as_u16(), message)
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn an_object_is_had_in_every_version() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster.v1("a").await;
    assert!(cluster.hook.take().is_empty(), "stored as it came");
    let v2 = cluster.v2("a").await;
    assert_eq!(
        (&v2["apiVersion"], &v2["host"], &v2["port"]),
        (&json!("example.com/v2"), &json!("a"), &json!("1"))
    );
    assert_eq!(v2.get("hostPort"), None);
    assert_eq!(v2["metadata"]["labels"], json!({"seen": "v2"}));
    let review = cluster.hook.take().pop().unwrap();
    assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(review["request"]["desiredAPIVersion"], "example.com/v2");
    assert_eq!(review["request"]["objects"][0]["hostPort"], "a:1");
    // What was made once is there; it changes with the object.
    cluster.v2("a").await;
    assert!(cluster.hook.take().is_empty());
    let table = cluster.get_as(&format!("{V2}/a"), "Table").await.ok();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "a"]));

    let created = server.post(V2, host("b")).await.ok();
    assert_eq!(
        (&created["host"], &created["port"]),
        (&json!("b"), &json!("2"))
    );
    let asked = cluster.hook.asked();
    let both = ["example.com/v1", "example.com/v2"]
        .map(|version| (version.to_owned(), vec!["b".to_owned()]));
    assert_eq!(asked, both, "stored, and shown as it is read again");
    assert_eq!(server.get(&format!("{V1}/b")).await.ok()["hostPort"], "b:2");
    let (uri, port) = (format!("{V2}/b"), json!({"port": "3"}));
    let patched = server.patch(&uri, MERGE, port).await.ok();
    assert_eq!(patched["port"], "3");
    assert_eq!(server.get(&format!("{V1}/b")).await.ok()["hostPort"], "b:3");
    let mut put = cluster.v2("b").await;
    put["host"] = "c".into();
    assert_eq!(server.put(&format!("{V2}/b"), put).await.ok()["host"], "c");
    let applied = json!({"apiVersion": "example.com/v2", "kind": "Host", "host": "d"});
    let uri = format!("{V2}/b?fieldManager=me&force=true");
    let applied = server.patch(&uri, "apply-patch+yaml", applied).await.ok();
    assert_eq!(
        (&applied["host"], &applied["port"]),
        (&json!("d"), &json!("3"))
    );
    assert_eq!(server.get(&format!("{V1}/b")).await.ok()["hostPort"], "d:3");
    let dry = server
        .post(&format!("{V2}?dryRun=All"), host("c"))
        .await
        .ok();
    assert_eq!(dry["host"], "b");
    server.delete(&format!("{V2}/b"), json!(null)).await.ok();
    assert_eq!(names(&server.get(V1).await.ok()), ["a"]);
}

#[tokio::test]
async fn a_list_of_several_stored_versions() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster.v1("a").await;
    cluster.v1("b").await;
    cluster.move_storage().await;
    server.post(V2, host("c")).await.ok();
    assert!(cluster.hook.take().is_empty());
    let list = server.get(V2).await.ok();
    assert_eq!(list["apiVersion"], "example.com/v2");
    let hosts: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["host"])
        .collect();
    assert_eq!(hosts, ["a", "a", "b"]);
    // All that needed it, in one call.
    let wanted = vec![(
        "example.com/v2".to_owned(),
        vec!["a".to_owned(), "b".to_owned()],
    )];
    assert_eq!(cluster.hook.asked(), wanted);
    let list = server.get(V1).await.ok();
    let hosts: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["hostPort"])
        .collect();
    assert_eq!(hosts, ["a:1", "a:1", "b:2"]);
    let wanted = vec![("example.com/v1".to_owned(), vec!["c".to_owned()])];
    assert_eq!(cluster.hook.asked(), wanted);
    // Page by page only what is on the page is asked for.
    let mut put = server.get(&format!("{V1}/b")).await.ok();
    put["hostPort"] = "z:9".into();
    server.put(&format!("{V1}/b"), put).await.ok();
    cluster.hook.take();
    let page = server.get(&format!("{V1}?limit=1")).await.ok();
    assert_eq!(names(&page), ["a"]);
    assert!(cluster.hook.take().is_empty());
    let token = page["metadata"]["continue"].as_str().unwrap();
    let page = server
        .get(&format!("{V1}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&page), ["b", "c"]);
    assert_eq!(page["items"][0]["hostPort"], "z:9");
}

#[tokio::test]
async fn what_is_stored_keeps_its_fields_until_it_moves() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let mut object = host_port("a");
    object["old"] = "kept".into();
    server.post(V1, object).await.ok();
    let before = server.get(&format!("{V1}/a")).await.ok();
    cluster.move_storage().await;
    let uri = format!("{V1}/a");
    assert_eq!(
        server.get(&uri).await.ok(),
        before,
        "the new schema has no say"
    );
    assert!(cluster.hook.take().is_empty());
    // An update that changes nothing moves it, and what the new version does not have is gone then.
    let put = server
        .put(&format!("{V2}/a"), cluster.v2("a").await)
        .await
        .ok();
    assert_ne!(
        put["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    let after = server.get(&uri).await.ok();
    assert_eq!(
        (&after["hostPort"], after.get("old")),
        (&json!("a:1"), None)
    );
    // Once more there is nothing to move.
    let again = server
        .put(&format!("{V2}/a"), cluster.v2("a").await)
        .await
        .ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        put["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn watches_see_every_change_once_and_in_order() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster.v1("a").await;
    let uri = format!(
        "{V2}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let (mut first, mut second) = (server.watch(&uri).await, server.watch(&uri).await);
    for events in [&mut first, &mut second] {
        let event = events.next().await.unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["host"]),
            (&json!("ADDED"), &json!("a"))
        );
        let event = events.next().await.unwrap();
        assert_eq!(event["type"], "BOOKMARK");
        assert_eq!(event["object"]["apiVersion"], "example.com/v2");
    }
    assert_eq!(cluster.hook.take().len(), 1, "both got one conversion");
    let waits = Arc::new(Notify::new());
    cluster.hook.set(Mode::Waits(waits.clone()));
    for name in ["b", "c"] {
        cluster.v1(name).await;
    }
    server.delete(&format!("{V1}/a"), json!(null)).await.ok();
    // The stored version does not wait, nor does anything else.
    let mut stored = server
        .watch(&format!("{V1}?watch=1&resourceVersion=0"))
        .await;
    assert_eq!(stored.line().await, "ADDED b");
    server.post(MAPS, config_map("m", "1")).await.ok();
    cluster.hook.set(Mode::Converts);
    let release = async {
        loop {
            waits.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        for events in [&mut first, &mut second] {
            let lines = [events.line().await, events.line().await];
            assert_eq!(lines, ["ADDED b", "ADDED c"]);
            let event = events.next().await.unwrap();
            assert_eq!(event["type"], "DELETED");
            assert_eq!(event["object"]["host"], "a");
        }
    };
    tokio::select! {
        () = read => {}
        () = release => unreachable!("it has no end"),
    }
}

#[tokio::test]
async fn objects_are_selected_by_what_the_version_shows() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster.v1("a").await;
    server.post(V2, host("b")).await.ok();
    let list = async |uri: String| server.get(&uri).await.ok();
    assert_eq!(
        names(&list(format!("{V2}?fieldSelector=host%3Db")).await),
        ["b"]
    );
    assert_eq!(
        names(&list(format!("{V2}?fieldSelector=host%21%3Db&limit=1")).await),
        ["a"]
    );
    assert_eq!(
        names(&list(format!("{V1}?fieldSelector=hostPort%3Db:2")).await),
        ["b"]
    );
    assert_eq!(
        names(&list(format!("{V2}?labelSelector=seen%3Dv2")).await),
        ["a", "b"]
    );
    assert_eq!(
        names(&list(format!("{V1}?labelSelector=seen%3Dv2")).await).len(),
        0
    );
    let unknown = server
        .get(&format!("{V2}?fieldSelector=hostPort%3Da"))
        .await;
    assert_eq!(unknown.code, 400);
    let mut events = server
        .watch(&format!("{V2}?watch=1&fieldSelector=host%3Db"))
        .await;
    assert_eq!(events.line().await, "ADDED b");
    server.post(V2, host("c")).await.ok();
    assert_eq!(events.line().await, "ADDED c");
    let patch = json!({"host": "other"});
    server.patch(&format!("{V2}/c"), MERGE, patch).await.ok();
    assert_eq!(events.line().await, "DELETED c");
    server.delete(&format!("{V1}/b"), json!(null)).await.ok();
    assert_eq!(events.line().await, "DELETED b");
}

#[tokio::test]
async fn the_past_is_converted_too() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let then = cluster.v1("a").await["metadata"]["resourceVersion"].clone();
    let patch = json!({"hostPort": "z:9"});
    server.patch(&format!("{V1}/a"), MERGE, patch).await.ok();
    let exact = format!(
        "resourceVersion={}&resourceVersionMatch=Exact",
        then.as_str().unwrap()
    );
    let list = server.get(&format!("{V2}?{exact}")).await.ok();
    assert_eq!(list["items"][0]["host"], "a");
    let object = server.get(&format!("{V2}/a?{exact}")).await.ok();
    assert_eq!(object["host"], "a");
    assert_eq!(cluster.v2("a").await["host"], "z");
    let mut events = server
        .watch(&format!(
            "{V2}?watch=1&resourceVersion={}",
            then.as_str().unwrap()
        ))
        .await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["host"]),
        (&json!("MODIFIED"), &json!("z"))
    );
}

#[tokio::test]
async fn a_dead_webhook_stands_in_nobodys_way() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    cluster.v1("a").await;
    cluster.v1("b").await;
    cluster.hook.set(Mode::Broken);
    let one = format!("{V2}/a");
    for answer in [
        server.get(&one).await,
        server.get(V2).await,
        cluster.get_as(V2, "Table").await,
        server.get(&format!("{V2}?fieldSelector=host%3Da")).await,
        server.patch(&one, MERGE, json!({"host": "x"})).await,
    ] {
        assert_eq!(refusal(&answer), (500, FAILED));
        assert_eq!(answer.body.get("reason"), None);
    }
    let text = FAILED.replace("/v1,", "/v2,");
    let created = server.post(V2, host("c")).await;
    assert_eq!(refusal(&created), (500, text.as_str()));
    let mut events = server.watch(&format!("{V2}?watch=1")).await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["message"]),
        (&json!("ERROR"), &json!(FAILED))
    );
    assert_eq!(events.next().await, None);
    // The stored version, metadata, and whatever takes objects away need no webhook.
    assert_eq!(names(&server.get(V1).await.ok()), ["a", "b"]);
    cluster.hook.take();
    let metadata = cluster.get_as(V2, "PartialObjectMetadataList").await.ok();
    assert_eq!(names(&metadata), ["a", "b"]);
    let metadata = cluster.get_as(&one, "PartialObjectMetadata").await.ok();
    assert_eq!(metadata["metadata"]["name"], "a");
    assert!(cluster.hook.take().is_empty());
    server.delete(&one, json!(null)).await.ok();
    cluster.v1("c").await;
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    server.patch(&format!("{V1}/c"), MERGE, held).await.ok();
    server.delete(V2, json!(null)).await.ok();
    let left = server.get(V1).await.ok();
    assert_eq!(names(&left), ["c"]);
    assert!(left["items"][0]["metadata"]["deletionTimestamp"].is_string());
    let free = json!({"metadata": {"finalizers": null}});
    server.patch(&format!("{V1}/c"), MERGE, free).await.ok();
    cluster.v1("d").await;
    cluster.move_storage().await;
    let uri = format!("{DEFINITIONS}/hosts.example.com");
    server.delete(&uri, json!(null)).await.ok();
    until(server, &uri, |answer| answer.code == 404).await;
}

#[tokio::test]
async fn a_webhook_that_comes_back_is_asked_again() {
    let cluster = Cluster::start().await;
    cluster.v1("a").await;
    cluster.hook.set(Mode::Broken);
    assert_eq!(cluster.server.get(V2).await.code, 500);
    cluster.hook.set(Mode::Converts);
    assert_eq!(names(&cluster.server.get(V2).await.ok()), ["a"]);
    let metrics = cluster.server.get("/metrics").await.text;
    for line in [
        "apiserver_conversion_webhook_request_total{failure_type=\"\",result=\"success\"} 1",
        "apiserver_conversion_webhook_request_total{failure_type=\"conversion_webhook_call_failure\",result=\"failure\"} 1",
        "apiserver_crd_conversion_webhook_duration_seconds_count{crd_name=\"hosts.example.com\",from_version=\"v1\",succeeded=\"true\",to_version=\"v2\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn so_many_requests_wait_for_a_webhook_and_no_more() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    for at in 0..70 {
        cluster.v1(&format!("a{at}")).await;
    }
    let waits = Arc::new(Notify::new());
    cluster.hook.set(Mode::Waits(waits));
    let mut gets: futures::stream::FuturesUnordered<_> = (0..70)
        .map(|at| async move { server.get(&format!("{V2}/a{at}")).await.code })
        .collect();
    // Those that find no place are told at once; the others wait.
    for _ in 0..6 {
        let code = futures::StreamExt::next(&mut gets).await;
        assert_eq!(code, Some(StatusCode::TOO_MANY_REQUESTS));
    }
    drop(gets);
    cluster.hook.set(Mode::Converts);
    assert_eq!(
        cluster.v2("a0").await["host"],
        "a",
        "those who left are forgotten"
    );
}

#[tokio::test]
async fn answers_are_checked() {
    let cluster = Cluster::start().await;
    cluster.v1("a").await;
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 5] = [
        (
            |response| response["convertedObjects"] = json!([]),
            "returned 0 objects, expected 1",
        ),
        (
            |response| response["result"] = json!({"status": "Failed", "message": "cannot"}),
            "failed: cannot",
        ),
        (
            |response| response["uid"] = "".into(),
            "failed: expected response.uid=",
        ),
        (
            |response| response["convertedObjects"][0]["apiVersion"] = "example.com/v3".into(),
            "returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)",
        ),
        (
            |response| response["convertedObjects"][0]["metadata"]["uid"] = "x".into(),
            "returned invalid object: must have the same UID: ",
        ),
    ];
    for (change, text) in cases {
        cluster.hook.set(Mode::Odd(change));
        let answer = cluster.server.get(&format!("{V2}/a")).await;
        let (code, message) = refusal(&answer);
        let wanted = format!("conversion webhook for example.com/v1, Kind=Host {text}");
        assert!(message.starts_with(&wanted), "{message}");
        assert_eq!(code, 500);
    }
    // What the webhook does to the rest of the metadata does not count, nor do fields that the version lacks.
    cluster.hook.set(Mode::Odd(|response| {
        let object = &mut response["convertedObjects"][0];
        object["metadata"]["finalizers"] = json!(["x"]);
        object["metadata"]["annotations"] = json!({"was": "v1"});
        object["lost"] = 1.into();
    }));
    let object = cluster.v2("a").await;
    assert_eq!(object["metadata"].get("finalizers"), None);
    assert_eq!(object["metadata"]["annotations"]["was"], "v1");
    assert_eq!(object.get("lost"), None);
}

#[tokio::test]
async fn the_old_version_of_the_review() {
    let cluster = Cluster::with(|definition| {
        definition["spec"]["conversion"]["webhook"]["conversionReviewVersions"] =
            json!(["v9", "v1beta1", "v1"]);
    })
    .await;
    cluster.v1("a").await;
    assert_eq!(cluster.v2("a").await["host"], "a");
    let review = cluster.hook.take().pop().unwrap();
    assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1beta1");
}

#[tokio::test]
async fn policies_see_the_version_that_they_name() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["hosts"]}]},
            "validations": [{"expression": "object.hostPort != 'b:2'", "message": "not this one"}]}});
    server
        .post(&format!("{admission}/validatingadmissionpolicies"), policy)
        .await
        .ok();
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    server
        .post(
            &format!("{admission}/validatingadmissionpolicybindings"),
            binding,
        )
        .await
        .ok();
    server.get(MAPS).await.ok();
    let denied = server.post(V2, host("b")).await;
    assert!(denied.text.contains("not this one"), "{}", denied.text);
    // Nothing is admitted unseen.
    cluster.hook.set(Mode::Broken);
    assert!(!server.post(V2, host("b")).await.code.is_success());
}

#[tokio::test]
async fn the_status_is_written_in_its_version() {
    let cluster = Cluster::with(|definition| {
        let any = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            version["schema"] = any.clone();
            version["subresources"] = json!({"status": {}, "scale": {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count"}});
            version["selectableFields"] = json!([]);
        }
    })
    .await;
    let server = &cluster.server;
    let mut object = host_port("a");
    object["spec"] = json!({"count": 2});
    server.post(V1, object).await.ok();
    let patch = json!({"status": {"count": 7}, "host": "lost"});
    let uri = format!("{V2}/a");
    let patched = server
        .patch(&format!("{uri}/status"), MERGE, patch)
        .await
        .ok();
    assert_eq!(
        (&patched["status"]["count"], &patched["host"]),
        (&json!(7), &json!("a"))
    );
    let scale = server.get(&format!("{uri}/scale")).await.ok();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["replicas"]),
        (&json!(2), &json!(7))
    );
    let patch = json!({"spec": {"replicas": 5}});
    server
        .patch(&format!("{uri}/scale"), MERGE, patch)
        .await
        .ok();
    let stored = server.get(&format!("{V1}/a")).await.ok();
    assert_eq!(
        (&stored["spec"]["count"], &stored["hostPort"]),
        (&json!(5), &json!("a:1"))
    );
}

#[tokio::test]
async fn managers_of_another_version_own_what_the_webhook_makes_of_their_fields() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let apply = async |version: &str, manager: &str, fields: Value| {
        let mut config = json!({"apiVersion": format!("example.com/{version}"), "kind": "Host",
            "metadata": {"name": "a"}});
        for (key, value) in fields.as_object().unwrap() {
            config[key] = value.clone();
        }
        let uri = match version {
            "v1" => V1,
            _ => V2,
        };
        let uri = format!("{uri}/a?fieldManager={manager}");
        server.patch(&uri, "apply-patch+yaml", config).await
    };
    let fields_of = |object: &Value, manager: &str| -> String {
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let found = entries.iter().find(|entry| entry["manager"] == manager);
        found.map_or(String::new(), |entry| {
            format!("{} {}", entry["apiVersion"], entry["fieldsV1"])
        })
    };
    apply("v1", "one", json!({"hostPort": "a:1", "old": "x"}))
        .await
        .ok();
    cluster.hook.take();
    // The same value in another version is no conflict, another value is.
    let shared = apply("v2", "two", json!({"host": "a"})).await.ok();
    assert!(fields_of(&shared, "one").contains("f:hostPort"));
    assert_eq!(
        fields_of(&shared, "two"),
        "\"example.com/v2\" {\"f:host\":{}}"
    );
    let refused = apply("v2", "two", json!({"host": "b"})).await;
    let text = "Apply failed with 1 conflict: conflict with \"one\": .hostPort";
    assert_eq!(refused.refused(), (409, "Conflict", text));
    // An update takes it.
    let patch = json!({"host": "c"});
    let patched = server
        .patch(&format!("{V2}/a?fieldManager=edit"), MERGE, patch)
        .await
        .ok();
    assert_eq!(
        fields_of(&patched, "one"),
        "\"example.com/v1\" {\"f:old\":{}}"
    );
    assert_eq!(fields_of(&patched, "two"), "");
    assert!(fields_of(&patched, "edit").contains("f:host"));
    assert_eq!(server.get(&format!("{V1}/a")).await.ok()["hostPort"], "c:1");

    // In the stored version nobody has to wait for a webhook that is dead, except who applies.
    cluster.hook.set(Mode::Broken);
    let patch = json!({"old": "y"});
    let patched = server
        .patch(&format!("{V1}/a?fieldManager=late"), MERGE, patch)
        .await
        .ok();
    assert!(fields_of(&patched, "late").contains("f:old"));
    let refused = apply("v1", "one", json!({"hostPort": "d:1"})).await;
    assert_eq!(refused.code, 500, "{}", refused.text);
    assert!(
        refused.text.contains("failed to convert"),
        "{}",
        refused.text
    );
}

//! What the audit log tells of requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::{AuditPolicy, AuditSink, Auditing};
use auth::User;
use axum::body::Body;
use http::{Method, Request};
use kv::mem::MemStore;
use serde_json::{Value, json};

use crate::server::{MAPS, Server, config_map};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

#[derive(Default)]
struct Told(Mutex<Vec<Value>>);

impl AuditSink for Told {
    fn take(&self, line: Vec<u8>) {
        assert_eq!(line.last(), Some(&b'\n'));
        let event = serde_json::from_slice(&line).unwrap();
        self.0.lock().unwrap().push(event);
    }

    fn lost(&self) -> u64 {
        0
    }
}

impl Told {
    /// What was told of the request with this id.
    fn of(&self, id: &str) -> Vec<Value> {
        let events = self.0.lock().unwrap();
        let own = events.iter().filter(|event| event["auditID"] == id);
        own.cloned().collect()
    }

    /// The only event of that request.
    fn one(&self, id: &str) -> Value {
        let events = self.of(id);
        assert_eq!(events.len(), 1, "{id}: {events:?}");
        events.into_iter().next().unwrap()
    }
}

async fn start(policy: AuditPolicy) -> (Server, Arc<Told>) {
    let (store, told) = (MemStore::new(), Arc::new(Told::default()));
    let sink = told.clone();
    let server = Server::told(store.clone(), store, "CA".into(), |config| {
        config.auditing = Some(Auditing { policy, sink });
    });
    let ready = tokio::time::timeout(Duration::from_secs(30), server.api.ready());
    ready.await.expect("the server gets ready");
    (server, told)
}

fn policy(rules: &str) -> AuditPolicy {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    AuditPolicy::parse(&format!("{head}{rules}")).unwrap()
}

fn request(method: Method, uri: &str, id: &str, body: &Value) -> http::request::Request<Body> {
    let body = match body {
        Value::Null => Body::empty(),
        body => Body::from(body.to_string()),
    };
    Request::builder()
        .method(method)
        .uri(uri)
        .extension(User::loopback())
        .header("content-type", "application/json")
        .header("audit-id", id)
        .header("user-agent", "a test")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn a_write_is_told_with_who_what_and_what_became_of_it() {
    let (server, told) = start(AuditPolicy::default_policy()).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"k": "canary"}});
    let answer = server
        .read(request(Method::POST, SECRETS, "one", &secret))
        .await;
    assert_eq!(answer.headers["audit-id"], "one");
    let event = told.one("one");
    assert_eq!(
        (
            &event["level"],
            &event["stage"],
            &event["verb"],
            &event["requestURI"]
        ),
        (
            &json!("Metadata"),
            &json!("ResponseComplete"),
            &json!("create"),
            &json!(SECRETS)
        )
    );
    assert_eq!(event["user"]["username"], "system:apiserver");
    assert_eq!(event["userAgent"], "a test");
    assert_eq!(
        event["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(
        event["responseStatus"],
        json!({"metadata": {}, "code": 201})
    );
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        "allow"
    );
    assert!(!event.to_string().contains("canary") && event.get("requestObject").is_none());
    // Again: it is there already.
    server
        .read(request(Method::POST, SECRETS, "two", &secret))
        .await;
    let status = told.one("two")["responseStatus"].clone();
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(409), &json!("AlreadyExists"))
    );
    // Reads of secrets are told, others are not.
    server
        .read(request(Method::GET, SECRETS, "three", &Value::Null))
        .await;
    assert_eq!(told.one("three")["verb"], "list");
    let pods = "/api/v1/namespaces/default/pods";
    server
        .read(request(Method::GET, pods, "four", &Value::Null))
        .await;
    assert!(told.of("four").is_empty());
}

#[tokio::test]
async fn refusals_say_who_was_refused_and_why() {
    let (server, told) = start(policy(
        "rules: [{level: Metadata}]\nomitStages: [RequestReceived]",
    ))
    .await;
    let with = |token: &str, id: &str, more: Option<(&str, &str)>| {
        let mut request = request(Method::GET, MAPS, id, &Value::Null);
        request.extensions_mut().clear();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        if let Some((name, value)) = more {
            headers.insert(
                http::HeaderName::try_from(name).unwrap(),
                value.parse().unwrap(),
            );
        }
        request
    };
    server.read(with("jane-token", "one", None)).await;
    let event = told.one("one");
    assert_eq!(event["user"]["username"], "jane");
    assert_eq!(event["responseStatus"]["code"], 403);
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    server.read(with("nobodys", "two", None)).await;
    let event = told.one("two");
    assert_eq!(
        (&event["stage"], &event["responseStatus"]["code"]),
        (&json!("ResponseStarted"), &json!(401))
    );
    assert_eq!(
        event["responseStatus"]["message"],
        "Authentication failed, attempted: bearer"
    );
    // In the name of somebody else, by whoever may do everything.
    let mut request = request(Method::GET, MAPS, "three", &Value::Null);
    request
        .headers_mut()
        .insert("impersonate-user", "ann".parse().unwrap());
    server.read(request).await;
    let event = told.one("three");
    assert_eq!(event["user"]["username"], "system:apiserver");
    assert_eq!(event["impersonatedUser"]["username"], "ann");
}

#[tokio::test]
async fn bodies_are_told_where_the_policy_says_so() {
    let rules = "omitManagedFields: true\nrules: [{level: RequestResponse, verbs: [create]}, {level: Request, verbs: [patch]}]";
    let (server, told) = start(policy(rules)).await;
    server
        .read(request(Method::POST, MAPS, "one", &config_map("a", "sent")))
        .await
        .ok();
    let events = told.of("one");
    let stages: Vec<&Value> = events.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    assert_eq!(events[1]["requestObject"]["data"]["key"], "sent");
    assert_eq!(events[1]["responseObject"]["metadata"]["name"], "a");
    assert!(
        events[1]["responseObject"]["metadata"]
            .get("managedFields")
            .is_none()
    );
    let mut patch = request(
        Method::PATCH,
        &format!("{MAPS}/a"),
        "two",
        &json!({"data": {"key": "b"}}),
    );
    patch.headers_mut().insert(
        "content-type",
        "application/merge-patch+json".parse().unwrap(),
    );
    server.read(patch).await.ok();
    let last = told.of("two").pop().unwrap();
    assert_eq!(last["requestObject"], json!({"data": {"key": "b"}}));
    assert!(last.get("responseObject").is_none());
}

#[tokio::test]
async fn a_watch_is_told_when_it_begins_and_when_it_ends() {
    let (server, told) = start(policy("rules: [{level: Metadata}]")).await;
    let uri = format!("{MAPS}?watch=true");
    let answer = server
        .send(request(Method::GET, &uri, "one", &Value::Null))
        .await;
    let stages = || -> Vec<String> {
        let events = told.of("one");
        let stage = |event: &Value| event["stage"].as_str().unwrap().to_owned();
        events.iter().map(stage).collect()
    };
    assert_eq!(stages(), ["RequestReceived", "ResponseStarted"]);
    drop(answer);
    assert_eq!(
        stages(),
        ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    );
}

#[tokio::test]
async fn whoever_hangs_up_is_told_of() {
    let (server, told) = start(policy(
        "rules: [{level: Metadata}]\nomitStages: [RequestReceived]",
    ))
    .await;
    // A body that never comes.
    let body = Body::from_stream(futures::stream::pending::<
        Result<bytes::Bytes, std::io::Error>,
    >());
    let mut request = request(Method::POST, MAPS, "one", &Value::Null);
    *request.body_mut() = body;
    let waiting = tokio::time::timeout(Duration::from_millis(200), server.send(request));
    assert!(waiting.await.is_err());
    let event = told.one("one");
    assert_eq!(
        event["responseStatus"]["message"],
        "Connection closed early"
    );
}

//! What the audit log tells of requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::{AuditBatches, AuditPolicy, AuditSink, Auditing};
use auth::User;
use axum::body::Body;
use http::{Method, Request};
use kv::mem::MemStore;
use serde_json::{Value, json};

use crate::outside::Outside;
use crate::server::{MAPS, PODS, Server, config_map, pod};

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
        let sink: Option<Arc<dyn AuditSink>> = Some(sink);
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

/// The old version of the review does not look at the uid, which an answer that is always the same does not have.
#[tokio::test]
async fn what_webhooks_say_and_do_is_told() {
    use base64::Engine;
    let outside = Outside::start().await;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let answer = |response: Value| json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": response});
    let operations = r#"[{"op":"add","path":"/data/hooked","value":"yes"}]"#;
    outside.answer(
        "/change",
        &answer(json!({"allowed": true, "patch": encode(operations),
            "auditAnnotations": {"why": "because", "not a key": "x"}})),
    );
    outside.fail("/broken", 500);
    let (server, told) = start(policy("rules: [{level: Request}]")).await;
    let hook = |path: &str| {
        json!({"name": format!("{}.example.com", &path[1..]), "sideEffects": "None", "admissionReviewVersions": ["v1beta1"],
            "failurePolicy": "Ignore",
            "clientConfig": {"url": format!("{}{path}", outside.url), "caBundle": encode(&outside.ca)},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]})
    };
    for kind in ["Mutating", "Validating"] {
        let hooks = match kind {
            "Mutating" => json!([hook("/broken"), hook("/change")]),
            _ => json!([hook("/broken")]),
        };
        let uri = format!(
            "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations",
            kind.to_lowercase()
        );
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{kind}WebhookConfiguration"), "metadata": {"name": "c"}, "webhooks": hooks});
        server.post(&uri, configuration).await.ok();
    }
    server.get(MAPS).await.ok();
    let made = request(Method::POST, MAPS, "one", &config_map("a", "1"));
    assert_eq!(server.read(made).await.ok()["data"]["hooked"], "yes");
    let events = told.of("one");
    let annotations = &events.last().unwrap()["annotations"];
    let end = "webhook.admission.k8s.io/round_0_index";
    for (key, value) in [
        ("change.example.com/why".to_owned(), "because".to_owned()),
        (
            format!("failed-open.mutation.{end}_0"),
            "broken.example.com".into(),
        ),
        (
            format!("failed-open.validating.{end}_0"),
            "broken.example.com".into(),
        ),
        (
            format!("mutation.{end}_0"),
            r#"{"configuration":"c","webhook":"broken.example.com","mutated":false}"#.into(),
        ),
        (
            format!("mutation.{end}_1"),
            r#"{"configuration":"c","webhook":"change.example.com","mutated":true}"#.into(),
        ),
        (
            format!("patch.{end}_1"),
            format!(
                r#"{{"configuration":"c","webhook":"change.example.com","patch":{operations},"patchType":"JSONPatch"}}"#
            ),
        ),
    ] {
        assert_eq!(annotations[&key], value, "{key}: {annotations}");
    }
    assert!(!annotations.to_string().contains("not a key"));
}

#[tokio::test]
async fn a_status_that_is_the_answer_is_told() {
    let rules = "rules: [{level: Metadata, verbs: [delete]}]\nomitStages: [RequestReceived]";
    let (server, told) = start(policy(rules)).await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    let deletion = request(Method::DELETE, &format!("{MAPS}/a"), "one", &options);
    server.read(deletion).await.ok();
    let status = told.one("one")["responseStatus"].clone();
    assert_eq!(
        (&status["status"], &status["code"]),
        (&json!("Success"), &json!(200))
    );
    assert_eq!(status["details"]["name"], "a");
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
    let figures = async |wanted: &[&str]| {
        let text = server.get("/metrics").await.text;
        for line in wanted {
            assert!(text.contains(line), "{line}\n{text}");
        }
    };
    let judged = "apiserver_audit_level_total{level=\"Metadata\"} ";
    figures(&[judged, "apiserver_audit_event_total "]).await;
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
    assert_eq!(
        event["authenticationMetadata"],
        json!({"impersonationConstraint": "impersonate:user-info"})
    );
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

#[tokio::test]
async fn another_policy_holds_for_what_comes_after_it() {
    let (server, told) = start(policy("rules:\n- level: None\n")).await;
    let read = async |id: &str| {
        let request = request(Method::GET, MAPS, id, &Value::Null);
        server.read(request).await.ok()
    };
    read("one").await;
    assert!(told.of("one").is_empty());
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  omitStages: [RequestReceived]\n";
    server.api.take_audit_policy(text).unwrap();
    read("two").await;
    assert_eq!(told.one("two")["level"], "Metadata");
    // One that does not hold changes nothing.
    let broken = text.replace("Metadata", "Everything");
    assert!(server.api.take_audit_policy(&broken).is_err());
    read("three").await;
    assert_eq!(told.one("three")["level"], "Metadata");
}

/// Events that came to a webhook since the last look.
fn delivered(outside: &Outside) -> Vec<Value> {
    let lists = outside.asked("/audit").into_iter();
    let events = lists.flat_map(|list| {
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&json!("EventList"), &json!("audit.k8s.io/v1"))
        );
        list["items"].as_array().unwrap().clone()
    });
    events.collect()
}

#[tokio::test]
async fn a_webhook_is_told_the_same_and_nobody_waits_for_it() {
    let outside = Outside::start().await;
    outside.answer("/audit", &json!({}));
    let rules = "rules:\n- level: Metadata\n  verbs: [create]\n  omitStages: [RequestReceived]\n";
    let (server, told) = start(policy(rules)).await;
    let batches = AuditBatches {
        batch_events: 1,
        initial_backoff: Duration::from_millis(1),
        ..AuditBatches::default()
    };
    let file = outside.kubeconfig("/audit");
    server.api.audit_to(&file, batches).unwrap();
    let write = async |id: &str| {
        let request = request(Method::POST, MAPS, id, &config_map(id, "1"));
        server.read(request).await.ok()
    };
    write("one").await;
    let came = async || loop {
        let events = delivered(&outside);
        if !events.is_empty() {
            return events;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let wait = Duration::from_secs(30);
    let events = tokio::time::timeout(wait, came()).await.expect("it comes");
    assert_eq!(events, [told.one("one")]);
    // What it refuses is lost, and counted; what it cannot take now comes again, and is lost in the end.
    let lost = async |wanted: u64| {
        let line = format!("apiserver_audit_error_total{{plugin=\"webhook\"}} {wanted}\n");
        let seen = async {
            while !server.get("/metrics").await.text.contains(&line) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(wait, seen).await.expect(&line);
    };
    outside.fail("/audit", 403);
    write("two").await;
    lost(1).await;
    assert_eq!(delivered(&outside).len(), 1);
    outside.fail("/audit", 503);
    write("three").await;
    lost(2).await;
    assert_eq!(delivered(&outside).len(), 5);
    // Nobody waits for one that does not answer.
    outside.hang("/audit");
    for at in 0..20 {
        write(&format!("late-{at}")).await;
    }
}

#[tokio::test]
async fn what_waits_for_a_webhook_is_sent_at_the_end() {
    let outside = Outside::start().await;
    outside.answer("/audit", &json!({}));
    let rules = "rules:\n- level: Metadata\n  verbs: [create]\n  omitStages: [RequestReceived]\n";
    let (server, _) = start(policy(rules)).await;
    let batches = AuditBatches {
        batch_wait: Duration::from_secs(3_600),
        ..AuditBatches::default()
    };
    // It moves before anything is sent.
    server
        .api
        .audit_to(&outside.kubeconfig("/before"), batches)
        .unwrap();
    let file = outside.kubeconfig("/audit");
    server.api.audit_anew_to(&file).unwrap();
    std::fs::write(&file, "[").unwrap();
    assert!(server.api.audit_anew_to(&file).is_err());
    for id in ["one", "two"] {
        let request = request(Method::POST, MAPS, id, &config_map(id, "1"));
        server.read(request).await.ok();
    }
    assert!(delivered(&outside).is_empty());
    let closing = server.api.close_audit();
    let closed = tokio::time::timeout(Duration::from_secs(30), closing).await;
    closed.expect("it ends");
    let ids: Vec<Value> = delivered(&outside)
        .iter()
        .map(|event| event["auditID"].clone())
        .collect();
    assert_eq!(ids, ["one", "two"]);
}

#[tokio::test]
async fn each_binding_of_many_is_told_of_like_one_that_came_alone() {
    let rules = "omitStages: [RequestReceived]\nrules:\n- level: Request\n  resources: [{group: '', resources: [pods/binding]}]\n";
    let (server, told) = start(policy(rules)).await;
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    let binding = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": "default"},
            "target": {"kind": "Node", "name": "n"}})
    };
    let body = json!({"items": [binding("p"), binding("absent")]});
    let all = request(Method::POST, "/kontiki/v1/bindings", "all", &body);
    server.read(all).await.ok();
    // The policy has no rule for the whole.
    assert!(told.of("all").is_empty());
    let events = told.0.lock().unwrap().clone();
    let mut seen: Vec<_> = events
        .iter()
        .map(|event| {
            assert_eq!(event["verb"], "create");
            assert_eq!(event["objectRef"]["subresource"], "binding");
            assert_eq!(event["annotations"]["kontiki.io/part-of"], "all");
            assert_eq!(event["requestObject"]["target"]["name"], "n");
            let name = event["objectRef"]["name"].as_str().unwrap();
            (name, event["responseStatus"]["code"].as_u64().unwrap())
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [("absent", 404), ("p", 201)]);
}

//! Priority and fairness: the objects that configure it, where requests belong, and what happens to those that are too
//! many.

use std::sync::Arc;
use std::time::Duration;

use auth::User;
use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kv::mem::MemStore;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::{Answer, MAPS, Server, config_map};
use crate::stalled_store::Stalled;

const DEADLINE: Duration = Duration::from_secs(30);
const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const CONFIG_MAPS: &str = "/registry/configmaps/";
const UIDS: [&str; 2] = [
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
];

fn user(name: &str) -> User {
    User::new(name, ["dev"]).authenticated()
}

fn asked_by(user: User, method: Method, uri: &str, body: &Value) -> Request<Body> {
    let body = match body {
        Value::Null => Body::empty(),
        body => Body::from(body.to_string()),
    };
    Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", "application/json")
        .extension(user)
        .body(body)
        .unwrap()
}

async fn get_as(server: &Server, name: &str, uri: &str) -> Answer {
    let request = asked_by(user(name), Method::GET, uri, &Value::Null);
    server.read(request).await
}

/// Lets everybody of the group `dev` do everything.
async fn admit(server: &Server) {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "dev"},
        "subjects": [{"kind": "Group", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}});
    let uri = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    server.post(uri, binding).await.ok();
    server.get(uri).await.ok();
}

/// A level `tiny` with three seats, and a schema that puts the group `dev` there.
async fn squeeze(server: &Server, response: Value) {
    admit(server).await;
    let level = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "tiny"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1,
        "borrowingLimitPercent": 0, "limitResponse": response}}});
    server.post(LEVELS, level).await.ok();
    let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true});
    let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "tiny"},
        "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "tiny"},
        "distinguisherMethod": {"type": "ByUser"}, "rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "dev"}}], "resourceRules": [everything]}]}});
    server.post(SCHEMAS, schema).await.ok();
    server.get(SCHEMAS).await.ok();
}

fn queued(length: u32) -> Value {
    json!({"type": "Queue", "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": length}})
}

/// The value of a metric.
async fn metric(server: &Server, line: &str) -> f64 {
    let text = server.get("/metrics").await.text;
    let found = text.lines().find_map(|one| one.strip_prefix(line));
    let value = found.unwrap_or_else(|| panic!("{line} is not among {text}"));
    value.trim().parse().unwrap()
}

/// Asks until the metric says so.
async fn until(server: &Server, line: &str, expected: f64) {
    let waited = async {
        while metric(server, line).await != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, waited).await.expect(line);
}

#[tokio::test]
async fn the_objects_of_a_fresh_cluster_are_those_of_kubernetes() {
    let server = Server::start().await;
    let schemas = server.get(SCHEMAS).await.ok();
    let mut lines: Vec<String> = Vec::new();
    for item in schemas["items"].as_array().unwrap() {
        let spec = &item["spec"];
        assert_eq!(
            item["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"],
            "true"
        );
        lines.push(format!(
            "{:05} {} {}",
            spec["matchingPrecedence"].as_u64().unwrap(),
            item["metadata"]["name"].as_str().unwrap(),
            spec["priorityLevelConfiguration"]["name"].as_str().unwrap(),
        ));
    }
    lines.sort();
    let expected = [
        "00001 exempt exempt",
        "00002 probes exempt",
        "00100 system-leader-election leader-election",
        "00150 endpoint-controller workload-high",
        "00200 workload-leader-election leader-election",
        "00400 system-node-high node-high",
        "00500 system-nodes system",
        "00800 kube-controller-manager workload-high",
        "00800 kube-scheduler workload-high",
        "00900 kube-system-service-accounts workload-high",
        "09000 service-accounts workload-low",
        "09900 global-default global-default",
        "10000 catch-all catch-all",
    ];
    assert_eq!(lines, expected);
    let levels = server.get(LEVELS).await.ok();
    let shares: Vec<String> = levels["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let spec = &item["spec"];
            let part = if spec["type"] == "Exempt" {
                "exempt"
            } else {
                "limited"
            };
            let part = &spec[part];
            let name = item["metadata"]["name"].as_str().unwrap();
            let (shares, lent) = (&part["nominalConcurrencyShares"], &part["lendablePercent"]);
            let queuing = &part["limitResponse"]["queuing"];
            format!(
                "{name} {shares} {lent} {} {}",
                queuing["queues"], queuing["handSize"]
            )
        })
        .collect();
    let expected = [
        "catch-all 5 0 null null",
        "exempt 0 0 null null",
        "global-default 20 50 128 6",
        "leader-election 10 0 16 4",
        "node-high 40 25 64 6",
        "system 30 33 64 6",
        "workload-high 40 50 128 6",
        "workload-low 100 90 128 6",
    ];
    assert_eq!(shares, expected);
}

#[tokio::test]
async fn a_schema_says_whether_its_level_is_there() {
    let server = Server::start().await;
    let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "x"},
        "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "later"}}});
    server.post(SCHEMAS, schema).await.ok();
    let said = async |expected: &str| {
        let told = async {
            loop {
                let schema = server.get(&format!("{SCHEMAS}/x")).await.ok();
                let condition = &schema["status"]["conditions"][0];
                if condition["reason"] == expected {
                    return condition.clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, told).await.expect(expected)
    };
    let condition = said("NotFound").await;
    assert_eq!(
        (&condition["type"], &condition["status"]),
        (&json!("Dangling"), &json!("True"))
    );
    let level = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "later"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
    server.post(LEVELS, level).await.ok();
    let condition = said("Found").await;
    assert_eq!(
        condition["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"later\" and it exists"
    );
}

#[tokio::test]
async fn the_last_resort_cannot_be_changed_and_the_rest_is_put_right() {
    let store = MemStore::new();
    let server = Server::over(store.clone()).await;
    let mut level = server.get(&format!("{LEVELS}/catch-all")).await.ok();
    level["spec"]["limited"]["nominalConcurrencyShares"] = 50.into();
    let refused = server.put(&format!("{LEVELS}/catch-all"), level).await;
    let (code, _, message) = refused.refused();
    assert_eq!(code, 422);
    assert!(
        message.ends_with("spec of 'catch-all' must equal the fixed value"),
        "{message}"
    );
    let mut level = server.get(&format!("{LEVELS}/exempt")).await.ok();
    level["spec"]["exempt"]["nominalConcurrencyShares"] = 7.into();
    level["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] = "false".into();
    server.put(&format!("{LEVELS}/exempt"), level).await.ok();
    server
        .delete(&format!("{SCHEMAS}/probes"), Value::Null)
        .await
        .ok();
    let shares = |shares: u32| json!({"spec": {"limited": {"nominalConcurrencyShares": shares}}});
    let own = json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}});
    let kind = "merge-patch+json";
    server
        .patch(&format!("{LEVELS}/system"), kind, shares(99))
        .await
        .ok();
    server
        .patch(&format!("{LEVELS}/workload-low"), kind, shares(99))
        .await
        .ok();
    server
        .patch(&format!("{LEVELS}/workload-low"), kind, own)
        .await
        .ok();
    let left = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "old", "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "system"}}});
    server.post(SCHEMAS, left).await.ok();
    // What a server does when it starts, it also does every minute.
    let next = Server::over(store).await;
    let of = async |uri: String, pointer: &str| next.get(&uri).await.ok().pointer(pointer).cloned();
    let limited = "/spec/limited/nominalConcurrencyShares";
    assert_eq!(
        of(format!("{LEVELS}/system"), limited).await,
        Some(json!(30))
    );
    assert_eq!(
        of(format!("{LEVELS}/workload-low"), limited).await,
        Some(json!(99))
    );
    let exempt = "/spec/exempt/nominalConcurrencyShares";
    assert_eq!(of(format!("{LEVELS}/exempt"), exempt).await, Some(json!(7)));
    let precedence = "/spec/matchingPrecedence";
    assert_eq!(
        of(format!("{SCHEMAS}/probes"), precedence).await,
        Some(json!(2))
    );
    let gone = async {
        while next.get(&format!("{SCHEMAS}/old")).await.code != StatusCode::NOT_FOUND {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, gone)
        .await
        .expect("what nobody knows goes");
}

#[tokio::test]
async fn answers_say_where_the_request_belonged() {
    let server = Server::start().await;
    admit(&server).await;
    let uids = async |schema: &str, level: &str| {
        let of = async |uri: String| {
            let object = server.get(&uri).await.ok();
            object["metadata"]["uid"].as_str().unwrap().to_owned()
        };
        [
            of(format!("{SCHEMAS}/{schema}")).await,
            of(format!("{LEVELS}/{level}")).await,
        ]
    };
    let said = |answer: &Answer| UIDS.map(|name| answer.headers[name].to_str().unwrap().to_owned());
    let jane = get_as(&server, "jane", MAPS).await;
    assert_eq!(said(&jane), uids("global-default", "global-default").await);
    let master = server.get(MAPS).await;
    assert_eq!(said(&master), uids("exempt", "exempt").await);
    // Also where the request is refused.
    let nobody = asked_by(User::anonymous(), Method::GET, MAPS, &Value::Null);
    let nobody = server.read(nobody).await;
    assert_eq!(nobody.code, StatusCode::FORBIDDEN);
    assert_eq!(
        said(&nobody),
        uids("global-default", "global-default").await
    );
    for path in ["dump_priority_levels", "dump_queues"] {
        let dump = server
            .get(&format!("/debug/api_priority_and_fairness/{path}"))
            .await;
        assert!(
            dump.text.starts_with("PriorityLevelName, "),
            "{}",
            dump.text
        );
        assert!(dump.text.contains("\nworkload-low, "), "{}", dump.text);
    }
    let limit = "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"}";
    assert_eq!(metric(&server, limit).await, 245.0);
}

/// A server whose writes under a prefix wait until they may go on.
async fn stalled(prefix: &'static str) -> (Server, Arc<Stalled>) {
    let store = MemStore::new();
    let stalled = Stalled::over(store.clone(), prefix);
    let server = Server::behind(stalled.clone(), store, "CA".to_owned()).await;
    (server, stalled)
}

/// Sends a request that may take long.
fn send(server: &Server, request: Request<Body>) -> JoinHandle<Response> {
    let front = server.front();
    tokio::spawn(async move { tower::ServiceExt::oneshot(front, request).await.unwrap() })
}

fn write(server: &Server, name: &str, object: &str) -> JoinHandle<Response> {
    let map = config_map(object, "1");
    send(server, asked_by(user(name), Method::POST, MAPS, &map))
}

async fn answered(sent: JoinHandle<Response>) -> Response {
    timeout(DEADLINE, sent).await.expect("in time").unwrap()
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_others_go_on() {
    let (server, store) = stalled(CONFIG_MAPS).await;
    squeeze(&server, json!({"type": "Reject"})).await;
    store.stall();
    let slow: Vec<_> = (0..3)
        .map(|at| write(&server, "jane", &format!("m{at}")))
        .collect();
    store.arrived(3).await;
    let refused = answered(write(&server, "jane", "late")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(
        refused.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    assert!(
        UIDS.iter()
            .all(|name| refused.headers().contains_key(*name))
    );
    let text = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "Too many requests, please try again later.\n");
    // Others have their own level, probes and administrators need none.
    server.get(MAPS).await.ok();
    let probe = asked_by(user("jane"), Method::GET, "/livez/ping", &Value::Null);
    assert_eq!(server.read(probe).await.code, StatusCode::OK);
    let other = asked_by(User::node("n"), Method::GET, "/version", &Value::Null);
    assert_eq!(server.read(other).await.code, StatusCode::OK);
    let labels = "{flow_schema=\"tiny\",priority_level=\"tiny\",reason=\"concurrency-limit\"}";
    let rejected = format!("apiserver_flowcontrol_rejected_requests_total{labels}");
    assert_eq!(metric(&server, &rejected).await, 1.0);
    let labels = "{flow_schema=\"tiny\",priority_level=\"tiny\"}";
    let running = format!("apiserver_flowcontrol_current_executing_requests{labels}");
    assert_eq!(metric(&server, &running).await, 3.0);
    store.go_on();
    for sent in slow {
        assert_eq!(answered(sent).await.status(), StatusCode::CREATED);
    }
    assert_eq!(metric(&server, &running).await, 0.0);
    assert_eq!(get_as(&server, "jane", MAPS).await.code, StatusCode::OK);
}

#[tokio::test]
async fn what_waits_gets_its_turn_and_who_leaves_is_forgotten() {
    let (server, store) = stalled(CONFIG_MAPS).await;
    squeeze(&server, queued(2)).await;
    store.stall();
    let first: Vec<_> = (0..3)
        .map(|at| write(&server, "jane", &format!("a{at}")))
        .collect();
    store.arrived(3).await;
    let labels = "{flow_schema=\"tiny\",priority_level=\"tiny\"}";
    let waiting = format!("apiserver_flowcontrol_current_inqueue_requests{labels}");
    let mut later: Vec<_> = (0..5)
        .map(|at| write(&server, "jane", &format!("b{at}")))
        .collect();
    until(&server, &waiting, 5.0).await;
    let seats = format!("apiserver_flowcontrol_current_inqueue_seats{labels}");
    until(&server, &seats, 5.0).await;
    let dump = "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1";
    let dump = server.get(dump).await.text;
    let rows: Vec<Vec<&str>> = dump
        .lines()
        .map(|line| line.split(',').map(str::trim).collect())
        .collect();
    assert_eq!(rows[0][9..12], ["StartTime", "UserName", "Verb"]);
    let of_jane = rows.iter().filter(|row| row[..2] == ["tiny", "tiny"]);
    let (running, queued): (Vec<_>, Vec<_>) = of_jane.partition(|row| row[3] == "-1");
    assert_eq!((running.len(), queued.len()), (3, 5), "{dump}");
    for row in &queued {
        assert_eq!(row[9], "0001-01-01T00:00:00Z");
        let details = ["create", MAPS, "default", "", "v1", "configmaps", ""];
        assert_eq!(row[10..], [&["jane"][..], &details[..]].concat());
    }
    assert!(running.iter().all(|row| row[9] != queued[0][9]));
    // Whoever looks is there, too, and has no queue.
    let own = rows.iter().filter(|row| row[0] == "exempt");
    assert_eq!(own.map(|row| row[2]).collect::<Vec<_>>(), ["-1"]);
    // One who leaves makes room.
    later.pop().unwrap().abort();
    until(&server, &waiting, 4.0).await;
    let other = write(&server, "ann", "c");
    until(&server, &waiting, 5.0).await;
    store.go_on();
    for sent in first.into_iter().chain(later).chain([other]) {
        assert_eq!(answered(sent).await.status(), StatusCode::CREATED);
    }
    assert_eq!(metric(&server, &waiting).await, 0.0);
    let gone = server.get(&format!("{MAPS}/b4")).await;
    assert_eq!(gone.code, StatusCode::NOT_FOUND);
    let labels = "{flow_schema=\"tiny\",priority_level=\"tiny\",reason=\"cancelled\"}";
    let cancelled = format!("apiserver_flowcontrol_rejected_requests_total{labels}");
    assert_eq!(metric(&server, &cancelled).await, 1.0);
}

#[tokio::test]
async fn signs_of_life_wait_for_nobody() {
    let (server, store) = stalled("/registry/leases/kube-node-lease/").await;
    // A level for nodes that one request fills.
    let level = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "none"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0,
        "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}});
    server.post(LEVELS, level).await.ok();
    let own = json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}});
    let to_it = json!({"spec": {"priorityLevelConfiguration": {"name": "none"}}});
    for patch in [own, to_it] {
        let uri = format!("{SCHEMAS}/system-node-high");
        server.patch(&uri, "merge-patch+json", patch).await.ok();
    }
    server.get(SCHEMAS).await.ok();
    store.stall();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n"},
        "spec": {"holderIdentity": "n"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let sent: Vec<_> = (0..3)
        .map(|_| {
            send(
                &server,
                asked_by(User::node("n"), Method::POST, leases, &lease),
            )
        })
        .collect();
    // All of them get through, and keep others waiting.
    store.arrived(3).await;
    let other = asked_by(
        User::node("n"),
        Method::GET,
        "/api/v1/nodes/n",
        &Value::Null,
    );
    assert_eq!(server.read(other).await.code, StatusCode::TOO_MANY_REQUESTS);
    store.go_on();
    let mut codes = Vec::new();
    for sent in sent {
        codes.push(answered(sent).await.status().as_u16());
    }
    codes.sort_unstable();
    assert_eq!(codes, [201, 409, 409]);
}

/// Lists of 1.2 MB in a level that may have 2.6 MB on their way, and a flow a quarter of it.
#[tokio::test]
async fn large_lists_of_one_user_wait_for_each_other_and_not_for_others() {
    let server = Server::start().await;
    squeeze(&server, queued(10)).await;
    for at in 0..4 {
        let map = config_map(&format!("m{at}"), &"x".repeat(300_000));
        server.post(MAPS, map).await.ok();
    }
    let list = |name: &str| {
        let request = asked_by(user(name), Method::GET, MAPS, &Value::Null);
        send(&server, request)
    };
    let first = answered(list("jane")).await;
    let second = list("jane");
    let labels = "{flow_schema=\"tiny\",priority_level=\"tiny\"}";
    until(
        &server,
        &format!("apiserver_flowcontrol_current_inqueue_requests{labels}"),
        1.0,
    )
    .await;
    // A small request of the same user, and a large one of another.
    let small = get_as(&server, "jane", &format!("{MAPS}/none")).await;
    assert_eq!(small.code, StatusCode::NOT_FOUND);
    let other = answered(list("ann")).await;
    assert!(!second.is_finished());
    let bytes = "apiserver_flowcontrol_response_bytes{priority_level=\"tiny\"}";
    assert!(metric(&server, bytes).await > 2_000_000.0);
    for whole in [first, other] {
        let text = whole.into_body().collect().await.unwrap().to_bytes();
        let list: Value = serde_json::from_slice(&text).unwrap();
        // The root certificates of the namespace may be there too.
        assert!(list["items"].as_array().unwrap().len() >= 4);
    }
    let second = answered(second).await;
    drop(second);
    assert_eq!(metric(&server, bytes).await, 0.0);
}

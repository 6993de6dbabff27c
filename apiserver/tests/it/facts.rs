//! What admission knows of other objects counts as soon as they change.

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const RANGES: &str = "/api/v1/namespaces/default/limitranges";

async fn start() -> Server {
    let server = Server::start().await;
    server.account("default").await;
    server
}

/// The spec of a pod that is made now; `list` is what the caches have to show first.
async fn made(server: &Server, list: &str, pod: Value) -> Value {
    server.get(list).await.ok();
    let created = server.post(PODS, pod).await.ok();
    created["spec"].clone()
}

fn class(value: i64, is_default: bool) -> Value {
    json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"},
        "value": value, "globalDefault": is_default})
}

#[tokio::test]
async fn a_priority_class_that_is_made_anew_has_its_new_value() {
    let server = start().await;
    for value in [7, 8] {
        server.post(CLASSES, class(value, false)).await.ok();
        let mut named = pod(&format!("p{value}"));
        named["spec"]["priorityClassName"] = "high".into();
        let spec = made(&server, CLASSES, named).await;
        assert_eq!(spec["priority"], value);
        let uri = format!("{CLASSES}/high");
        server.delete(&uri, Value::Null).await.ok();
    }
    let spec = made(&server, CLASSES, pod("plain")).await;
    assert_eq!(spec["priority"], 0);
}

#[tokio::test]
async fn a_class_is_the_default_for_as_long_as_it_says_so() {
    let server = start().await;
    server.post(CLASSES, class(9, true)).await.ok();
    let spec = made(&server, CLASSES, pod("a")).await;
    let found = (&spec["priority"], &spec["priorityClassName"]);
    assert_eq!(found, (&json!(9), &json!("high")));
    let change = json!({"globalDefault": false});
    let uri = format!("{CLASSES}/high");
    server.patch(&uri, "merge-patch+json", change).await.ok();
    let spec = made(&server, CLASSES, pod("b")).await;
    let found = (&spec["priority"], &spec["priorityClassName"]);
    assert_eq!(found, (&json!(0), &Value::Null));
}

#[tokio::test]
async fn an_account_that_wants_no_tokens_any_more_gets_none() {
    let server = start().await;
    let spec = made(&server, ACCOUNTS, pod("a")).await;
    assert_eq!(spec["volumes"].as_array().map(Vec::len), Some(1));
    let change =
        json!({"automountServiceAccountToken": false, "imagePullSecrets": [{"name": "s"}]});
    let uri = format!("{ACCOUNTS}/default");
    server.patch(&uri, "merge-patch+json", change).await.ok();
    let spec = made(&server, ACCOUNTS, pod("b")).await;
    assert_eq!(spec["volumes"], Value::Null);
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "s"}]));
}

#[tokio::test]
async fn a_limit_range_fills_in_what_it_says_now() {
    let server = start().await;
    let limits = |cpu: &str| json!({"limits": [{"type": "Container", "default": {"cpu": cpu}}]});
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": limits("1")});
    server.post(RANGES, range).await.ok();
    let cpu = |spec: Value| spec["containers"][0]["resources"]["limits"]["cpu"].clone();
    assert_eq!(cpu(made(&server, RANGES, pod("a")).await), "1");
    let change = json!({ "spec": limits("2") });
    let uri = format!("{RANGES}/l");
    server.patch(&uri, "merge-patch+json", change).await.ok();
    assert_eq!(cpu(made(&server, RANGES, pod("b")).await), "2");
    server.delete(&uri, Value::Null).await.ok();
    assert_eq!(cpu(made(&server, RANGES, pod("c")).await), Value::Null);
}

//! ClusterRoles that hold the rules of others.

use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};

use crate::server::{PODS, Server};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// A role that gathers the rules of those with one label, and has another label itself.
fn gathering(name: &str, of: &str, label: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": {label: "true"}},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {of: "true"}}]}, "rules": []})
}

/// A role that may list something.
fn listing(name: &str, label: &str, resource: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": {label: "true"}},
        "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["list"]}]})
}

/// Asks until it is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), asking).await;
    asked.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// Waits until a role may list these resources, in this order.
async fn gathers(server: &Server, name: &str, resources: &[&str]) {
    until(&format!("{name} gathers {resources:?}"), async || {
        let role = server.get(&format!("{ROLES}/{name}")).await.ok();
        let rules = role["rules"].as_array().map_or(&[] as &[_], Vec::as_slice);
        let gathered = rules
            .iter()
            .map(|rule| rule["resources"][0].as_str().unwrap());
        gathered.eq(resources.iter().copied())
    })
    .await;
}

/// The code that Jane gets for a list of pods.
async fn jane_lists_pods(server: &Server) -> u16 {
    let request = Request::builder()
        .method(Method::GET)
        .uri(PODS)
        .header("authorization", "Bearer jane-token");
    let request = request.body(axum::body::Body::empty()).unwrap();
    server.read(request).await.code.as_u16()
}

#[tokio::test]
async fn a_role_holds_the_rules_of_the_roles_that_it_selects_as_they_come_and_go() {
    let server = Server::start().await;
    // The upper one gathers what the lower one has gathered.
    for role in [
        gathering("upper", "to-upper", "x"),
        gathering("lower", "to-lower", "to-upper"),
        listing("b", "to-lower", "pods"),
        listing("a", "to-lower", "nodes"),
        listing("c", "to-nobody", "secrets"),
    ] {
        server.post(ROLES, role).await.ok();
    }
    let binding = json!({"metadata": {"name": "jane"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "upper"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]});
    server.post(BINDINGS, binding).await.ok();
    gathers(&server, "lower", &["nodes", "pods"]).await;
    gathers(&server, "upper", &["nodes", "pods"]).await;
    until("Jane may", async || jane_lists_pods(&server).await == 200).await;

    // What somebody writes into it does not stay.
    let path = format!("{ROLES}/lower");
    let patch =
        json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]});
    server.patch(&path, "merge-patch+json", patch).await.ok();
    gathers(&server, "lower", &["nodes", "pods"]).await;

    let path = format!("{ROLES}/b");
    let patch = json!({"metadata": {"labels": {"to-lower": null}}});
    server.patch(&path, "merge-patch+json", patch).await.ok();
    gathers(&server, "upper", &["nodes"]).await;
    until("Jane may not", async || {
        jane_lists_pods(&server).await == 403
    })
    .await;
    let path = format!("{ROLES}/a");
    server.delete(&path, Value::Null).await.ok();
    gathers(&server, "lower", &[]).await;
    gathers(&server, "upper", &[]).await;
}

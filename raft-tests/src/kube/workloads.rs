//! Clients that want things to run (W13): Deployments that change, pods with fixed names that are made again whenever they
//! go, services, namespaces that come and go, and somebody who binds pods beside the scheduler and against himself.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::history::{Verb, key};
use super::kubelet::node;
use super::rest::{Document, Plan, Rest, Shared};

pub const NODES: u32 = 3;
/// Where all of it is.
const NAMESPACE: &str = "default";
/// Pods with fixed names, as a StatefulSet has them.
pub const ORDINALS: [&str; 2] = ["web-0", "web-1"];
const DEPLOYMENTS: [&str; 2] = ["one", "two"];
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const THINK_MAX: Duration = Duration::from_millis(700);

fn pod_spec(image: &str) -> Value {
    json!({"containers": [{"name": "main", "image": image}], "terminationGracePeriodSeconds": 5})
}

fn pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

async fn ask(
    rest: &mut Rest,
    method: Method,
    path: &str,
    body: Option<(&str, &Value)>,
) -> Option<Document> {
    let answered = rest.ask(method, path, body).await.ok();
    if !matches!(answered, Some((..500, _))) {
        rest.hop();
    }
    answered
}

/// Creates Deployments, and changes how many pods of which image they want.
pub async fn operate(shared: Arc<Shared>, client: u32, rng: SmallRng) {
    let mut rest = Rest::new(shared, client, rng);
    let all = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    while !rest.shared.is_over() {
        if rest.member == 0 || rest.rng.random_bool(0.1) {
            rest.hop();
        }
        let name = DEPLOYMENTS[rest.rng.random_range(0..DEPLOYMENTS.len())];
        let (replicas, image) = (
            rest.rng.random_range(0..5),
            format!("i{}", rest.rng.random_range(0..3)),
        );
        let labels = json!({"app": name});
        let template = json!({"metadata": {"labels": labels}, "spec": pod_spec(&image)});
        match rest.rng.random_range(0..10) {
            0..3 => {
                let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
                let metadata = json!({"name": name});
                let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
                ask(&mut rest, Method::POST, &all, Some((JSON, &body))).await;
            }
            3..6 => {
                let body = json!({"spec": {"replicas": replicas}});
                ask(
                    &mut rest,
                    Method::PATCH,
                    &format!("{all}/{name}"),
                    Some((MERGE, &body)),
                )
                .await;
            }
            6..8 => {
                let body = json!({"spec": {"template": template}});
                ask(
                    &mut rest,
                    Method::PATCH,
                    &format!("{all}/{name}"),
                    Some((MERGE, &body)),
                )
                .await;
            }
            8 => {
                ask(&mut rest, Method::DELETE, &format!("{all}/{name}"), None).await;
            }
            _ => delete_some_pod(&mut rest).await,
        }
        rest.pause(THINK_MAX).await;
    }
}

/// In good order, by the node's agent where it has one.
async fn delete_some_pod(rest: &mut Rest) {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let Some((200, list)) = ask(rest, Method::GET, &pods, None).await else {
        return;
    };
    let names = list["items"].as_array().into_iter().flatten();
    let names: Vec<&str> = names
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    if !names.is_empty() {
        let path = format!("{pods}/{}", names[rest.rng.random_range(0..names.len())]);
        ask(rest, Method::DELETE, &path, None).await;
    }
}

/// Wants pods of fixed names to be there, and deletes one now and then: what a StatefulSet does.
pub async fn keep_ordinals(shared: Arc<Shared>, client: u32, rng: SmallRng) {
    let mut rest = Rest::new(shared, client, rng);
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    while !rest.shared.is_over() {
        if rest.member == 0 || rest.rng.random_bool(0.3) {
            rest.hop();
        }
        let name = ORDINALS[rest.rng.random_range(0..ORDINALS.len())];
        match rest.rng.random_bool(0.8) {
            true => {
                let body = pod(name, pod_spec("set"));
                ask(&mut rest, Method::POST, &pods, Some((JSON, &body))).await;
            }
            false => {
                ask(&mut rest, Method::DELETE, &format!("{pods}/{name}"), None).await;
            }
        }
        rest.pause(THINK_MAX).await;
    }
}

/// Creates pods that the scheduler leaves alone, and has two at a time bind each of them.
pub async fn bind(shared: Arc<Shared>, client: u32, rng: SmallRng) {
    let mut rest = Rest::new(shared.clone(), client, rng);
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let mut made = 0;
    while !shared.is_over() {
        rest.hop();
        made += 1;
        let name = format!("bound-{client}-{made}");
        let mut spec = pod_spec("bound");
        spec["schedulerName"] = "nobody".into();
        let body = pod(&name, spec);
        let created = ask(&mut rest, Method::POST, &pods, Some((JSON, &body))).await;
        if matches!(created, Some((201, _))) {
            let mut other = Rest::new(
                shared.clone(),
                client + 1,
                rand::SeedableRng::seed_from_u64(rest.rng.random()),
            );
            other.hop();
            tokio::join!(bind_once(&mut rest, &name), bind_once(&mut other, &name));
            rest.pause(THINK_MAX).await;
            ask(&mut rest, Method::DELETE, &format!("{pods}/{name}"), None).await;
        }
        rest.pause(THINK_MAX).await;
    }
}

async fn bind_once(rest: &mut Rest, name: &str) {
    rest.pause(Duration::from_millis(5)).await;
    let target = node(rest.rng.random_range(0..NODES));
    let body = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"kind": "Node", "name": target}
    });
    let plan = Plan {
        verb: Verb::Bind,
        kind: "pods",
        key: key("pods", NAMESPACE, name),
        method: Method::POST,
        path: format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding"),
        body: Some((JSON, &body)),
        node: target.clone(),
        ..Plan::default()
    };
    rest.call(plan).await;
}

/// Services with an address and a node port of their own, from the few that there are.
pub async fn serve(shared: Arc<Shared>, client: u32, rng: SmallRng) {
    let mut rest = Rest::new(shared, client, rng);
    let all = format!("/api/v1/namespaces/{NAMESPACE}/services");
    while !rest.shared.is_over() {
        if rest.member == 0 || rest.rng.random_bool(0.3) {
            rest.hop();
        }
        let name = format!("s{}", rest.rng.random_range(0..6));
        if rest.rng.random_bool(0.6) {
            let mut port = json!({"port": 80, "protocol": "TCP"});
            let mut spec = json!({"selector": {"app": "one"}, "type": "NodePort"});
            if rest.rng.random_bool(0.6) {
                port["nodePort"] = rest.rng.random_range(30_000..30_004).into();
            }
            if rest.rng.random_bool(0.6) {
                spec["clusterIP"] = format!("10.96.0.{}", rest.rng.random_range(10..14)).into();
            }
            spec["ports"] = json!([port]);
            let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
            ask(&mut rest, Method::POST, &all, Some((JSON, &body))).await;
        } else {
            ask(&mut rest, Method::DELETE, &format!("{all}/{name}"), None).await;
        }
        rest.pause(THINK_MAX).await;
    }
}

/// Namespaces that come with something in them and go.
pub async fn come_and_go(shared: Arc<Shared>, client: u32, rng: SmallRng) {
    let mut rest = Rest::new(shared, client, rng);
    let mut made = 0;
    while !rest.shared.is_over() {
        rest.hop();
        made += 1;
        let name = format!("t{made}");
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ask(
            &mut rest,
            Method::POST,
            "/api/v1/namespaces",
            Some((JSON, &body)),
        )
        .await;
        let inside = format!("/api/v1/namespaces/{name}/secrets");
        for number in 0..rest.rng.random_range(0..3) {
            let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{number}")}});
            ask(&mut rest, Method::POST, &inside, Some((JSON, &body))).await;
        }
        rest.pause(4 * THINK_MAX).await;
        ask(
            &mut rest,
            Method::DELETE,
            &format!("/api/v1/namespaces/{name}"),
            None,
        )
        .await;
        rest.pause(4 * THINK_MAX).await;
    }
}

//! Clients that want things to run (W13): Deployments, StatefulSets and a DaemonSet that change, Jobs, CronJobs, pods with
//! fixed names that are made again whenever they go, services, namespaces that come and go, more objects than a quota has room for, and
//! somebody who binds pods beside the scheduler and against himself.

use std::time::Duration;

use http::Method;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::history::{Verb, key};
use super::kubelet::node;
use super::rest::{Document, Plan, Rest};
use super::schedule::Turn;

pub const NODES: u32 = 3;
/// Where all of it is.
const NAMESPACE: &str = "default";
/// Pods with fixed names, as a StatefulSet has them.
pub const ORDINALS: [&str; 2] = ["web-0", "web-1"];
const DEPLOYMENTS: [&str; 2] = ["one", "two"];
const SETS: &str = "ordered";
const DAEMONS: &str = "everywhere";
const CRON_JOBS: [&str; 3] = ["morning", "noon", "night"];
/// When CronJobs come due: in the minute of [`FIRST_MINUTE_MS`](crate::sim::clock::FIRST_MINUTE_MS), once a year.
pub const DUE: &str = "14 22 14 11 *";
/// The finalizer of a Job's pod, until it is counted.
pub const TRACKED: &str = "batch.kubernetes.io/job-tracking";
/// The image of a pod that ends by itself, and well.
pub const ENDS: &str = "ends";
/// Where there may be only so many services.
const NARROW: &str = "narrow";
const ROOM: u32 = 3;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// Within a turn.
const PAUSE_MAX: Duration = Duration::from_millis(700);

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

/// Creates a Deployment, or changes how many pods of which image it wants.
pub async fn operate(rest: &mut Rest) {
    let all = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    let name = DEPLOYMENTS[rest.rng.random_range(0..DEPLOYMENTS.len())];
    let one = format!("{all}/{name}");
    let replicas = rest.rng.random_range(0..5);
    let image = format!("i{}", rest.rng.random_range(0..3));
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": pod_spec(&image)});
    let (method, path, content, body) = match rest.rng.random_range(0..10) {
        0..3 => {
            let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
            let metadata = json!({"name": name});
            let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
            (Method::POST, &all, JSON, body)
        }
        3..6 => {
            let body = json!({"spec": {"replicas": replicas}});
            (Method::PATCH, &one, MERGE, body)
        }
        6..8 => {
            let body = json!({"spec": {"template": template}});
            (Method::PATCH, &one, MERGE, body)
        }
        8 => {
            ask(rest, Method::DELETE, &one, None).await;
            return;
        }
        _ => return delete_some_pod(rest).await,
    };
    ask(rest, method, path, Some((content, &body))).await;
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
pub async fn keep_ordinals(rest: &mut Rest) {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let name = ORDINALS[rest.rng.random_range(0..ORDINALS.len())];
    match rest.rng.random_bool(0.8) {
        true => {
            let body = pod(name, pod_spec("set"));
            ask(rest, Method::POST, &pods, Some((JSON, &body))).await;
        }
        false => {
            ask(rest, Method::DELETE, &format!("{pods}/{name}"), None).await;
        }
    }
}

/// Creates a pod that the scheduler leaves alone, and has two bind it at a time.
pub async fn bind(rest: &mut Rest, turn: &Turn) {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let name = format!("bound-{}-{}", rest.client, turn.at_ms);
    let mut spec = pod_spec("bound");
    spec["schedulerName"] = "nobody".into();
    let body = pod(&name, spec);
    let created = ask(rest, Method::POST, &pods, Some((JSON, &body))).await;
    if !matches!(created, Some((201, _))) {
        return;
    }
    let own = SmallRng::seed_from_u64(rest.rng.random());
    let mut other = Rest::new(rest.shared.clone(), rest.client + 1, own);
    other.hop();
    tokio::join!(bind_once(rest, &name), bind_once(&mut other, &name));
    rest.pause(PAUSE_MAX).await;
    ask(rest, Method::DELETE, &format!("{pods}/{name}"), None).await;
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

/// A service with an address and a node port of its own, from the few that there are.
pub async fn serve(rest: &mut Rest) {
    let all = format!("/api/v1/namespaces/{NAMESPACE}/services");
    let name = format!("s{}", rest.rng.random_range(0..6));
    if rest.rng.random_bool(0.4) {
        ask(rest, Method::DELETE, &format!("{all}/{name}"), None).await;
        return;
    }
    let mut port = json!({"port": 80, "protocol": "TCP"});
    let mut spec = json!({"selector": {"app": "one"}, "type": "NodePort"});
    if rest.rng.random_bool(0.6) {
        port["nodePort"] = rest.rng.random_range(30_000..30_004).into();
    }
    if rest.rng.random_bool(0.6) {
        spec["clusterIP"] = format!("10.96.0.{}", rest.rng.random_range(10..14)).into();
    }
    spec["ports"] = json!([port]);
    let metadata = json!({"name": name});
    let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
    ask(rest, Method::POST, &all, Some((JSON, &body))).await;
}

/// A namespace that comes with something in it and goes.
pub async fn come_and_go(rest: &mut Rest, turn: &Turn) {
    let name = format!("t{}-{}", rest.client, turn.at_ms);
    let all = "/api/v1/namespaces";
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    ask(rest, Method::POST, all, Some((JSON, &body))).await;
    let inside = format!("{all}/{name}/secrets");
    for number in 0..rest.rng.random_range(0..3) {
        let metadata = json!({"name": format!("s{number}")});
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
        ask(rest, Method::POST, &inside, Some((JSON, &body))).await;
    }
    rest.pause(4 * PAUSE_MAX).await;
    ask(rest, Method::DELETE, &format!("{all}/{name}"), None).await;
}

/// A StatefulSet that grows, shrinks, changes and goes, and a DaemonSet that changes.
pub async fn keep_sets(rest: &mut Rest) {
    let all = format!("/apis/apps/v1/namespaces/{NAMESPACE}");
    let image = format!("i{}", rest.rng.random_range(0..3));
    let (plural, kind, name) = match rest.rng.random_bool(0.7) {
        true => ("statefulsets", "StatefulSet", SETS),
        false => ("daemonsets", "DaemonSet", DAEMONS),
    };
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": pod_spec(&image)});
    let replicas: Option<u32> = match kind {
        "StatefulSet" => Some(rest.rng.random_range(0..4)),
        _ => None,
    };
    let (all, one) = (format!("{all}/{plural}"), format!("{all}/{plural}/{name}"));
    match rest.rng.random_range(0..10) {
        0..4 => {
            let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
            if let Some(replicas) = replicas {
                spec["replicas"] = replicas.into();
                spec["serviceName"] = name.into();
            }
            let metadata = json!({"name": name});
            let body =
                json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec});
            ask(rest, Method::POST, &all, Some((JSON, &body))).await;
        }
        4..7 => {
            let mut spec = json!({});
            match replicas {
                Some(replicas) => spec["replicas"] = replicas.into(),
                None => spec["template"] = template,
            }
            let body = json!({"spec": spec});
            ask(rest, Method::PATCH, &one, Some((MERGE, &body))).await;
        }
        7..9 => {
            let body = json!({"spec": {"template": template}});
            ask(rest, Method::PATCH, &one, Some((MERGE, &body))).await;
        }
        _ => {
            ask(rest, Method::DELETE, &one, None).await;
        }
    }
}

/// Creates a Job whose pods end by themselves; some are deleted before or after.
pub async fn do_once(rest: &mut Rest, turn: &Turn) {
    let all = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs");
    let name = format!("job-{}-{}", rest.client, turn.at_ms);
    let mut pod = pod_spec(ENDS);
    pod["restartPolicy"] = "Never".into();
    let mut spec = json!({
        "completions": rest.rng.random_range(1..4), "parallelism": rest.rng.random_range(1..3),
        "backoffLimit": 100,
        "template": {"spec": pod}
    });
    if rest.rng.random_bool(0.5) {
        spec["completionMode"] = "Indexed".into();
    }
    let metadata = json!({"name": name});
    let body = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec});
    ask(rest, Method::POST, &all, Some((JSON, &body))).await;
    if rest.rng.random_bool(0.2) {
        rest.pause(4 * PAUSE_MAX).await;
        let one = format!("{all}/{name}?propagationPolicy=Background");
        ask(rest, Method::DELETE, &one, None).await;
    }
}

/// Creates a CronJob that comes due while faults are on, suspends it, goes on with it, or deletes it.
pub async fn plan_ahead(rest: &mut Rest) {
    let all = format!("/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs");
    let name = CRON_JOBS[rest.rng.random_range(0..CRON_JOBS.len())];
    let one = format!("{all}/{name}");
    match rest.rng.random_range(0..10) {
        0..6 => {
            let mut pod = pod_spec(ENDS);
            pod["restartPolicy"] = "Never".into();
            let policies = ["Allow", "Forbid", "Replace"];
            let policy = policies[rest.rng.random_range(0..policies.len())];
            let job =
                json!({"spec": {"backoffLimit": 100, "completions": 1, "template": {"spec": pod}}});
            let spec = json!({"schedule": DUE, "timeZone": "Etc/UTC", "concurrencyPolicy": policy, "jobTemplate": job});
            let metadata = json!({"name": name});
            let body = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec});
            ask(rest, Method::POST, &all, Some((JSON, &body))).await;
        }
        6..9 => {
            let body = json!({"spec": {"suspend": rest.rng.random_bool(0.4)}});
            ask(rest, Method::PATCH, &one, Some((MERGE, &body))).await;
        }
        _ => {
            let one = format!("{one}?propagationPolicy=Background");
            ask(rest, Method::DELETE, &one, None).await;
        }
    }
}

/// Creates services where a quota has room for a few, and deletes some. Nothing is created before the member that is asked
/// knows the quota: until then it has nothing to obey.
pub async fn fill(rest: &mut Rest) {
    let inside = format!("/api/v1/namespaces/{NARROW}");
    let quota = format!("{inside}/resourcequotas");
    let asked = ask(rest, Method::GET, &format!("{quota}/few"), None).await;
    match asked {
        Some((200, quota)) if quota["status"]["used"]["services"].is_string() => {}
        Some((200, _)) => return,
        _ => {
            let body =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NARROW}});
            ask(
                rest,
                Method::POST,
                "/api/v1/namespaces",
                Some((JSON, &body)),
            )
            .await;
            let hard = json!({"services": ROOM.to_string()});
            let body = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}});
            ask(rest, Method::POST, &quota, Some((JSON, &body))).await;
            return;
        }
    }
    let all = format!("{inside}/services");
    let name = format!("q{}", rest.rng.random_range(0..8));
    if rest.rng.random_bool(0.4) {
        ask(rest, Method::DELETE, &format!("{all}/{name}"), None).await;
        return;
    }
    let spec = json!({"ports": [{"port": 80}]});
    let body =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    ask(rest, Method::POST, &all, Some((JSON, &body))).await;
}

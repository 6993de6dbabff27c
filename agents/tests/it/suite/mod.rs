//! What Kubernetes' conformance suite looks for where controllers and the scheduler are there and nodes are hollow, done in
//! the way of its tests; `docs/conformance.md` says which test stands for which behaviour.

mod budgets;
mod daemons;
mod endpoints;
mod garbage;
mod placement;
mod pods;
mod quotas;
mod replicas;
mod revisions;
mod rollouts;
mod volumes;
mod workloads;

use crate::cluster::{Cluster, PATIENCE};
use agent_runtime::kinds::Pod;
use agent_runtime::{PatchType, ResourceRef};
use agents::hollow::HollowNodes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at an object.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The names of the hollow nodes of a cluster of these tests.
const NODES_HERE: [&str; 2] = ["hollow-00000", "hollow-00001"];

/// A cluster as the suite needs one: two nodes that take pods.
async fn start() -> Cluster {
    Cluster::with_hollow(HollowNodes::new(2), None).await
}

/// Looks at an object of `default`, or of the cluster, until it is as `wanted`.
async fn becomes(
    cluster: &Cluster,
    resource: &ResourceRef,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let looking = async {
        loop {
            let read = cluster
                .client
                .get(resource, namespace_of(resource), name)
                .await;
            match read {
                Ok(object) if wanted(&object) => return object,
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => panic!("{what}: {error:?}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("waited in vain for {what} of {name}"))
}

/// Looks for an object until there is none.
async fn goes(cluster: &Cluster, resource: &ResourceRef, name: &str) {
    let looking = async {
        loop {
            let read = cluster
                .client
                .get(resource, namespace_of(resource), name)
                .await;
            match read {
                Err(error) if error.is_not_found() => return,
                Err(error) => panic!("the end of {name}: {error:?}"),
                Ok(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    let gone = tokio::time::timeout(PATIENCE, looking).await;
    gone.unwrap_or_else(|_| panic!("waited in vain for the end of {name}"));
}

fn namespace_of(resource: &ResourceRef) -> &'static str {
    if resource.namespaced { "default" } else { "" }
}

async fn create(cluster: &Cluster, resource: &ResourceRef, body: &Value) -> Value {
    let namespace = namespace_of(resource);
    let made = cluster.client.create(resource, namespace, body).await;
    made.unwrap()
}

async fn patch(cluster: &Cluster, resource: &ResourceRef, name: &str, body: &Value) -> Value {
    let (namespace, form) = (namespace_of(resource), PatchType::Strategic);
    let patched = cluster
        .client
        .patch(resource, namespace, name, form, body)
        .await;
    patched.unwrap()
}

/// Reads an object, changes it, and writes it as a whole; once more where somebody else was faster. With a subresource only
/// that is written.
async fn update(
    cluster: &Cluster,
    resource: &ResourceRef,
    (name, sub): (&str, Option<&str>),
    change: impl Fn(&mut Value),
) -> Value {
    let (client, namespace) = (&cluster.client, namespace_of(resource));
    loop {
        let mut object = client.get(resource, namespace, name).await.unwrap();
        change(&mut object);
        let written = match sub {
            Some(sub) => {
                let write = client.update_sub(resource, namespace, name, sub, &object);
                write.await
            }
            None => client.update(resource, namespace, name, &object).await,
        };
        match written {
            Err(error) if error.is_conflict() => {}
            other => return other.unwrap(),
        }
    }
}

/// A pod that runs until it is stopped.
fn pod(name: &str, spec: Value) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"name": name}},
        "spec": {"containers": [{"name": "c", "image": "pause"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        body["spec"][field] = value.clone();
    }
    body
}

async fn runs(cluster: &Cluster, name: &str) -> Arc<Pod> {
    cluster.pod("the pod to run", name, Pod::is_ready).await
}

/// The pods of `default` with this label `name` that are there to stay, once they are so many and all ready.
async fn ready_pods(cluster: &Cluster, name: &str, count: usize) -> Vec<Arc<Pod>> {
    ready_pods_without(cluster, name, count, "").await
}

/// The same when the pod of this uid is none of them: one that was just made to go may be in the cache as it was.
async fn ready_pods_without(
    cluster: &Cluster,
    name: &str,
    count: usize,
    lost: &str,
) -> Vec<Arc<Pod>> {
    cluster
        .until("pods that are ready", &cluster.pods, |pods| {
            let mut pods = pods.in_namespace("default");
            pods.retain(|pod| {
                let label = pod.metadata.labels.get("name");
                label.is_some_and(|label| label == name) && !pod.metadata.is_deleting()
            });
            let stays = |pod: &Arc<Pod>| pod.is_ready() && pod.metadata.uid != lost;
            (pods.len() == count && pods.iter().all(stays)).then_some(pods)
        })
        .await
}

/// A template of pods with this label.
fn template(name: &str) -> Value {
    json!({"metadata": {"labels": {"name": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "one"}]}})
}

/// A set of so many pods with this label, in the words of its kind.
fn set(resource: &ResourceRef, name: &str, replicas: u32) -> Value {
    let mut body = json!({"apiVersion": resource.api_version(), "kind": &*resource.kind,
        "metadata": {"name": name, "namespace": "default", "labels": {"set": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"name": name}}, "template": template(name)}});
    match &*resource.kind {
        "ReplicationController" => body["spec"]["selector"] = json!({"name": name}),
        "StatefulSet" => body["spec"]["serviceName"] = name.into(),
        "DaemonSet" => {
            if let Some(spec) = body["spec"].as_object_mut() {
                spec.remove("replicas");
            }
        }
        _ => {}
    }
    body
}

/// The set has so many replicas, all of them ready, and says so of its newest spec.
fn has_ready(object: &Value, replicas: u32) -> bool {
    let status = &object["status"];
    status["observedGeneration"] == object["metadata"]["generation"]
        && status["replicas"] == replicas
        && status["readyReplicas"] == replicas
}

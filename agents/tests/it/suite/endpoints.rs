//! Endpoints and EndpointSlices of pods whose ports have one name and two numbers.

use super::{create, pod, runs, start};
use crate::cluster::Cluster;
use agent_runtime::kinds::{EndpointSlice, Endpoints, Labels, ObjectReference, Pod};
use agent_runtime::resource_ref::{ENDPOINT_SLICES, SERVICES};
use agent_runtime::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn service(name: &str, selector: Value, target: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, "publishNotReadyAddresses": true,
            "ports": [{"name": "http", "port": 80, "targetPort": target, "protocol": "TCP"}]}})
}

async fn served(cluster: &Cluster, name: &str, ports: Value) -> Arc<Pod> {
    let mut body = pod(name, json!({}));
    body["metadata"]["labels"] = json!({"name": name, "shared": "on"});
    body["spec"]["containers"][0]["ports"] = ports;
    cluster.create_pod(&body).await;
    runs(cluster, name).await
}

/// Address, name of the port, its number, and the pod that is named.
type Lines = BTreeMap<String, (String, i32, String)>;

fn pod_of(reference: Option<&ObjectReference>) -> String {
    let reference = reference.expect("a reference to the pod");
    assert_eq!(
        (&*reference.kind, &*reference.namespace),
        ("Pod", "default")
    );
    reference.uid.clone()
}

fn of_endpoints(endpoints: &Endpoints) -> Lines {
    let mut lines = Lines::new();
    for subset in &endpoints.subsets {
        assert_eq!(subset.ports.len(), 1, "{subset:?}");
        for address in subset.addresses.iter().chain(&subset.not_ready_addresses) {
            let (port, uid) = (&subset.ports[0], pod_of(address.target_ref.as_ref()));
            lines.insert(address.ip.clone(), (port.name.clone(), port.port, uid));
        }
    }
    lines
}

fn of_slices(slices: &[Arc<EndpointSlice>]) -> Lines {
    let mut lines = Lines::new();
    for slice in slices {
        assert_eq!(slice.ports.len(), 1, "{slice:?}");
        for endpoint in &slice.endpoints {
            let (port, uid) = (&slice.ports[0], pod_of(endpoint.target_ref.as_ref()));
            let name = port.name.clone().unwrap_or_default();
            let line = (name, port.port.unwrap_or(0), uid);
            lines.insert(endpoint.addresses[0].clone(), line);
        }
    }
    lines
}

fn expected(pods: &[(&Arc<Pod>, i32)]) -> Lines {
    let line = |(pod, port): &(&Arc<Pod>, i32)| {
        let uid = pod.metadata.uid.clone();
        (
            pod.status.pod_ip.to_string(),
            ("http".to_owned(), *port, uid),
        )
    };
    pods.iter().map(line).collect()
}

/// Waits until the service has as many subsets and slices as pods that differ, and compares them.
async fn has(cluster: &Cluster, service: &str, wanted: &Lines) {
    let all = cluster.hub.cache::<Endpoints>();
    let endpoints = cluster
        .until("the subsets", &all, |all| {
            let endpoints = all.get("default", service)?;
            (endpoints.subsets.len() == wanted.len()).then_some(endpoints)
        })
        .await;
    assert_eq!(of_endpoints(&endpoints), *wanted);
    let labels: Labels = [("kubernetes.io/service-name".to_owned(), service.to_owned())].into();
    let slices = cluster
        .until("the slices", &cluster.slices, |slices| {
            let slices = slices.with_labels("default", &labels);
            let count: usize = slices.iter().map(|slice| slice.endpoints.len()).sum();
            (slices.len() == wanted.len() && count == wanted.len()).then_some(slices)
        })
        .await;
    assert_eq!(of_slices(&slices), *wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_differ_in_the_number_of_a_port_are_apart() {
    let cluster = start().await;
    let named = |number: i32| json!({"name": "example", "containerPort": number});
    let one = served(&cluster, "one", json!([named(3000)])).await;
    let other = json!({"name": "other", "containerPort": 3002});
    let two = served(&cluster, "two", json!([named(3001), other])).await;
    let by_number = service("by-number", json!({"name": "one"}), json!(3000));
    create(&cluster, &SERVICES, &by_number).await;
    let by_name = service("by-name", json!({"shared": "on"}), json!("example"));
    create(&cluster, &SERVICES, &by_name).await;
    has(&cluster, "by-number", &expected(&[(&one, 3000)])).await;
    let both = expected(&[(&one, 3000), (&two, 3001)]);
    has(&cluster, "by-name", &both).await;

    // Slices that somebody deletes are made again.
    let of_service = ListParams {
        label_selector: "kubernetes.io/service-name=by-name".into(),
        ..ListParams::default()
    };
    let list = cluster
        .client
        .list(&ENDPOINT_SLICES, "default", &of_service)
        .await;
    let first: Vec<Value> = list.unwrap()["items"].as_array().cloned().unwrap();
    let all = DeleteParams::default();
    let deleted = cluster
        .client
        .delete_collection(&ENDPOINT_SLICES, "default", &of_service, &all)
        .await;
    deleted.unwrap();
    cluster
        .until("other slices", &cluster.slices, |slices| {
            let slices = slices.in_namespace("default");
            let is_old = |old: &Value| {
                let uid = old["metadata"]["uid"].as_str();
                slices.iter().any(|s| Some(s.metadata.uid.as_str()) == uid)
            };
            (!first.iter().any(is_old)).then_some(())
        })
        .await;
    has(&cluster, "by-name", &both).await;
}

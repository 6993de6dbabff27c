//! A replica whose node has no room for it, and comes back until it has.

use super::{NODES_HERE, create, goes, pod, runs, set, start};
use agent_runtime::DeleteParams;
use agent_runtime::resource_ref::{PODS, STATEFUL_SETS};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_its_node_refuses_is_made_anew_until_it_fits() {
    let cluster = start().await;
    // No scheduler is asked where a spec names its node.
    let here = |spec: &mut Value| {
        spec["nodeName"] = NODES_HERE[0].into();
        spec["containers"][0]["ports"] =
            json!([{"name": "conflict", "hostPort": 21017, "containerPort": 21017}]);
    };
    let mut first = pod("first", json!({}));
    here(&mut first["spec"]);
    cluster.create_pod(&first).await;
    runs(&cluster, "first").await;

    let refused = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = refused.clone();
    cluster.pods.subscribe(move |change| {
        let pod = change.latest();
        if pod.metadata.name == "s-0" && pod.status.reason == "NodePorts" {
            seen.lock().unwrap().insert(pod.metadata.uid.clone());
        }
    });
    let mut body = set(&STATEFUL_SETS, "s", 1);
    here(&mut body["spec"]["template"]["spec"]);
    create(&cluster, &STATEFUL_SETS, &body).await;
    cluster
        .until("two refusals", &cluster.pods, |_| {
            (refused.lock().unwrap().len() >= 2).then_some(())
        })
        .await;

    let params = DeleteParams::default();
    let deleted = cluster
        .client
        .delete(&PODS, "default", "first", &params)
        .await;
    deleted.unwrap();
    goes(&cluster, &PODS, "first").await;
    let placed = runs(&cluster, "s-0").await;
    assert!(!refused.lock().unwrap().contains(&placed.metadata.uid));
}

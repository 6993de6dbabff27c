//! What a change of leaders in the middle of the work leaves behind.

use crate::cluster::Cluster;
use agent_runtime::AgentContext;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_changes_hands_makes_no_pod_twice() {
    const WANTED: i32 = 40;
    let (cluster, context) = Cluster::without_controllers().await;
    let made = Arc::new(Mutex::new(BTreeSet::new()));
    let names = made.clone();
    cluster.pods.subscribe(move |change| {
        if let Some(pod) = &change.new {
            names.lock().unwrap().insert(pod.metadata.name.clone());
        }
    });
    let start = |identity: &str| {
        let stop = CancellationToken::new();
        let context = AgentContext {
            identity: identity.into(),
            stop: stop.clone(),
            ..context.clone()
        };
        (stop, tokio::spawn(controllers::run(context)))
    };
    let (stop_first, first) = start("first");
    cluster.create_deployment(WANTED, "one").await;
    cluster
        .until("the first pods", &cluster.pods, |pods| {
            (pods.len() > 2).then_some(())
        })
        .await;
    stop_first.cancel();
    first.await.unwrap();
    let (stop_second, second) = start("second");
    cluster
        .rolled_out("the rollout by the second", WANTED)
        .await;
    assert_eq!(made.lock().unwrap().len(), 40);
    assert_eq!(cluster.pods.len(), 40);
    stop_second.cancel();
    second.await.unwrap();
}

//! The runtime against a real API: caches that resume, elections that pass on.

use crate::cluster::{api_server, client_of};
use agent_runtime::kinds::ConfigMap;
use agent_runtime::resource_ref::{CONFIG_MAPS, LEASES};
use agent_runtime::{Elector, ElectorConfig, Hub};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_follows_and_knows_how_far_it_is() {
    let (api, _tasks) = api_server().await;
    let client = client_of(&api);
    let hub = Hub::new(client.clone(), &CancellationToken::new());
    let cache = hub.cache::<ConfigMap>();
    let selected = hub.cache_where::<ConfigMap>("metadata.name=two");
    tokio::time::timeout(PATIENCE, hub.wait_synced())
        .await
        .unwrap();
    let mut last = 0;
    for name in ["one", "two"] {
        let stored = client.create(&CONFIG_MAPS, "default", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})).await.unwrap();
        last = stored["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
    }
    tokio::time::timeout(PATIENCE, cache.wait_revision(last))
        .await
        .unwrap();
    assert!(cache.get("default", "one").is_some() && cache.get("default", "two").is_some());
    tokio::time::timeout(PATIENCE, selected.wait_revision(last))
        .await
        .unwrap();
    assert_eq!(selected.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_passes_on_when_the_leader_stops() {
    let (api, _tasks) = api_server().await;
    let client = client_of(&api);
    let leading = Arc::new(tokio::sync::Mutex::new(Vec::<String>::new()));
    let changed = Arc::new(Notify::new());
    let start = |name: &str| {
        let stop = CancellationToken::new();
        let mut config = ElectorConfig::new("kube-system", "test", name);
        config.retry = Duration::from_millis(200);
        let (log, changed, name) = (leading.clone(), changed.clone(), name.to_owned());
        let elector = Elector::new(client.clone(), config);
        let token = stop.clone();
        let task = tokio::spawn(async move {
            elector
                .run(token, |leading| {
                    let (log, changed, name) = (log.clone(), changed.clone(), name.clone());
                    async move {
                        log.lock().await.push(name);
                        changed.notify_one();
                        leading.cancelled().await;
                    }
                })
                .await;
        });
        (stop, task)
    };
    let (stop_first, first) = start("first");
    tokio::time::timeout(PATIENCE, changed.notified())
        .await
        .expect("the first leads");
    let (stop_second, second) = start("second");
    stop_first.cancel();
    first.await.unwrap();
    // The lease was given back, so that the second need not wait for its end.
    tokio::time::timeout(Duration::from_secs(12), changed.notified())
        .await
        .expect("the second leads");
    assert_eq!(*leading.lock().await, ["first", "second"]);
    let lease = client.get(&LEASES, "kube-system", "test").await.unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "second");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    stop_second.cancel();
    second.await.unwrap();
}

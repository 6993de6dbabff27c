//! A program written against kube-rs with typed objects, as users of the Rust ecosystem write them.

use crate::cluster::{Cluster, Runtime};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

async fn client(cluster: &Cluster) -> Client {
    let kubeconfig =
        Kubeconfig::read_from(cluster.kubeconfig()).expect("the kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("the kubeconfig is good")).expect("a client")
}

#[test]
fn a_typed_client_works() {
    // kube leaves the choice of the cryptography to the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::start(3, Runtime::Hollow);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = client(&cluster).await;
        assert!(
            client
                .apiserver_version()
                .await
                .expect("a version")
                .git_version
                .starts_with("v1.36")
        );
        deployment(client.clone()).await;
        watches(client).await;
    });
}

async fn deployment(client: Client) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);
    let wanted: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "typed"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "typed"}},
            "template": {
                "metadata": {"labels": {"app": "typed"}},
                "spec": {"containers": [{"name": "c", "image": "typed:1"}]},
            },
        },
    }))
    .expect("a deployment");
    let created = deployments
        .create(&PostParams::default(), &wanted)
        .await
        .expect("created");
    assert_eq!(
        created.spec.as_ref().and_then(|spec| spec.replicas),
        Some(2)
    );
    let ready = await_condition(
        deployments.clone(),
        "typed",
        conditions::is_deployment_completed(),
    );
    tokio::time::timeout(SOON, ready)
        .await
        .expect("ready in time")
        .expect("no error");
    let scaled = json!({"spec": {"replicas": 3}});
    deployments
        .patch("typed", &PatchParams::default(), &Patch::Merge(&scaled))
        .await
        .expect("patched");
    let selected = ListParams::default().labels("app=typed");
    let all_running = async {
        loop {
            let list = pods.list(&selected).await.expect("a list");
            let running = list.items.iter().filter(|pod| {
                pod.status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref())
                    == Some("Running")
            });
            if running.count() == 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, all_running)
        .await
        .expect("three pods run in time");
    deployments
        .delete("typed", &DeleteParams::foreground())
        .await
        .expect("deleted");
    let gone = async {
        while !pods.list(&selected).await.expect("a list").items.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, gone)
        .await
        .expect("the pods go with it");
}

/// The three ways to watch that kube-rs has: a plain watch, list and watch, and the streaming list.
async fn watches(client: Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let map = |name: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}})).expect("a map")
    };
    let version = maps
        .list(&ListParams::default())
        .await
        .expect("a list")
        .metadata
        .resource_version
        .expect("a version");
    let mut plain = maps
        .watch(&WatchParams::default(), &version)
        .await
        .expect("a watch")
        .boxed();
    let listing = watcher(maps.clone(), watcher::Config::default()).applied_objects();
    let streaming =
        watcher(maps.clone(), watcher::Config::default().streaming_lists()).applied_objects();
    maps.create(&PostParams::default(), &map("seen"))
        .await
        .expect("created");

    let first = tokio::time::timeout(SOON, plain.try_next())
        .await
        .expect("an event in time")
        .expect("no error");
    assert!(
        matches!(first, Some(WatchEvent::Added(map)) if map.metadata.name.as_deref() == Some("seen"))
    );
    for stream in [listing.boxed(), streaming.boxed()] {
        let mut seen = stream
            .try_filter(|map| std::future::ready(map.metadata.name.as_deref() == Some("seen")))
            .boxed();
        let found = tokio::time::timeout(SOON, seen.try_next())
            .await
            .expect("an object in time");
        assert!(found.expect("no error").is_some());
    }
}

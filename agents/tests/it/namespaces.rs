//! Namespaces: what they are born with, and how they go.

use crate::cluster::Cluster;
use agent_runtime::kinds::condition;
use agent_runtime::resource_ref::{
    CONFIG_MAPS, ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, PODS, SERVICE_ACCOUNTS, SERVICES,
};
use agent_runtime::{DeleteParams, ListParams, PatchType};
use serde_json::json;

async fn namespace(cluster: &Cluster, name: &str) {
    cluster
        .client
        .create(
            &NAMESPACES,
            "",
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_gets_its_account_and_its_certificate_again_and_again() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "a").await;
    let account = cluster
        .until("the account", &cluster.accounts, |c| c.get("a", "default"))
        .await;
    let map = cluster
        .until("the certificate", &cluster.config_maps, |c| {
            c.get("a", "kube-root-ca.crt")
        })
        .await;
    assert_eq!(map.data["ca.crt"], "CA");
    cluster
        .client
        .delete(&SERVICE_ACCOUNTS, "a", "default", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .client
        .delete(
            &CONFIG_MAPS,
            "a",
            "kube-root-ca.crt",
            &DeleteParams::default(),
        )
        .await
        .unwrap();
    cluster
        .until("a new account", &cluster.accounts, |c| {
            c.get("a", "default")
                .filter(|new| new.metadata.uid != account.metadata.uid)
        })
        .await;
    cluster
        .until("a new certificate", &cluster.config_maps, |c| {
            c.get("a", "kube-root-ca.crt")
                .filter(|new| new.metadata.uid != map.metadata.uid)
        })
        .await;
    cluster
        .client
        .patch(
            &CONFIG_MAPS,
            "a",
            "kube-root-ca.crt",
            PatchType::Merge,
            &json!({"data": {"ca.crt": "forged"}}),
        )
        .await
        .unwrap();
    cluster
        .until("the repair", &cluster.config_maps, |c| {
            c.get("a", "kube-root-ca.crt").filter(|m| {
                m.metadata.version() > map.metadata.version() + 3 && m.data["ca.crt"] == "CA"
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_everything_in_it_and_pods_go_first() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "b").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "b", "finalizers": ["test.example/hold"]}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster
        .until("the account", &cluster.accounts, |c| c.get("b", "default"))
        .await;
    cluster.client.create(&PODS, "b", &pod).await.unwrap();
    cluster.client.create(&CONFIG_MAPS, "b", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "b"}})).await.unwrap();
    cluster
        .client
        .delete(&NAMESPACES, "", "b", &DeleteParams::default())
        .await
        .unwrap();
    let held = cluster.until("the pod to hold the namespace", &cluster.namespaces, |c| {
        c.get("", "b").filter(|n| {
            n.status
                .conditions
                .iter()
                .any(|c| c.kind == "NamespaceFinalizersRemaining" && c.is_true())
        })
    });
    let held = held.await;
    assert_eq!(held.status.phase, "Terminating");
    // It is said of every pass whether content could be deleted, so that one can tell that there was a pass.
    let failure = condition(&held.status.conditions, "NamespaceDeletionContentFailure");
    assert!(failure.is_some_and(|c| c.status == "False"), "{held:?}");
    assert!(
        cluster.config_maps.get("b", "m").is_some(),
        "what pods use stays while they do"
    );
    cluster
        .client
        .patch(
            &PODS,
            "b",
            "p",
            PatchType::Merge,
            &json!({"metadata": {"finalizers": null}}),
        )
        .await
        .unwrap();
    cluster
        .until("the namespace to go", &cluster.namespaces, |c| {
            c.get("", "b").is_none().then_some(())
        })
        .await;
    cluster
        .until("its content to be gone", &cluster.config_maps, |c| {
            c.in_namespace("b").is_empty().then_some(())
        })
        .await;
    // The name is free again.
    namespace(&cluster, "b").await;
    cluster
        .until("the account of the new one", &cluster.accounts, |c| {
            c.get("b", "default")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_takes_its_services_with_it() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "c").await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "c"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let made = cluster.client.create(&SERVICES, "c", &service).await;
    made.unwrap();
    cluster
        .until("the slice of the service", &cluster.slices, |slices| {
            slices.in_namespace("c").first().cloned()
        })
        .await;
    let deleted = cluster
        .client
        .delete(&NAMESPACES, "", "c", &DeleteParams::default())
        .await;
    deleted.unwrap();
    cluster
        .until("the namespace to go", &cluster.namespaces, |c| {
            c.get("", "c").is_none().then_some(())
        })
        .await;
    namespace(&cluster, "c").await;
    for resource in [SERVICES, ENDPOINTS, ENDPOINT_SLICES] {
        let left = cluster
            .client
            .list(&resource, "c", &ListParams::default())
            .await;
        assert_eq!(left.unwrap()["items"], json!([]), "{resource}");
    }
}

//! Claims of pods on devices, from their templates to the end of the pods.

use crate::cluster::Cluster;
use agent_runtime::kinds::ResourceClaim;
use agent_runtime::resource_ref::{PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS};
use agent_runtime::{DeleteParams, PatchType};
use serde_json::json;

const PROTECTION: &str = "resource.kubernetes.io/delete-protection";

/// The pod has its node from the beginning, so that the scheduler has no part in it but that which the test plays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_begins_when_its_claim_is_reserved_and_takes_it_along() {
    let cluster = Cluster::with_nodes(&["n"]).await;
    let client = &cluster.client;
    let claims = cluster.hub.cache::<ResourceClaim>();
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "n", "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
            "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}]}});
    let pod = cluster.create_pod(&body).await;
    // The template comes later than the pod.
    let requests = json!([{"name": "r", "exactly": {"deviceClassName": "gpu.example.com"}}]);
    let template = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "one-gpu", "namespace": "default"},
        "spec": {"metadata": {"labels": {"from": "template"}}, "spec": {"devices": {"requests": requests}}}});
    let made = client
        .create(&RESOURCE_CLAIM_TEMPLATES, "default", &template)
        .await;
    made.unwrap();

    let name = cluster.until("the name of the claim", &cluster.pods, |pods| {
        let pod = pods.get("default", "p")?;
        let status = pod.status.resource_claim_statuses.first()?;
        status.resource_claim_name.clone()
    });
    let name = name.await;
    assert!(name.starts_with("p-gpu-"), "{name}");
    let claim = client
        .get(&RESOURCE_CLAIMS, "default", &name)
        .await
        .unwrap();
    let meta = &claim["metadata"];
    assert_eq!(meta["ownerReferences"][0]["uid"], pod["metadata"]["uid"]);
    assert_eq!(meta["labels"]["from"], "template");
    assert_eq!(claim["spec"]["devices"]["requests"][0]["name"], "r");

    let protect = json!({"metadata": {"finalizers": [PROTECTION]}});
    let protected = client
        .patch(
            &RESOURCE_CLAIMS,
            "default",
            &name,
            PatchType::Merge,
            &protect,
        )
        .await;
    protected.unwrap();
    let result = json!({"request": "r", "driver": "gpu.example.com", "pool": "n", "device": "one"});
    let allocate = json!({"status": {"allocation": {"devices": {"results": [result]}}}});
    let allocated = client
        .patch_status(
            &RESOURCE_CLAIMS,
            "default",
            &name,
            PatchType::Merge,
            &allocate,
        )
        .await;
    allocated.unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let reserved = cluster.until("the reservation", &claims, |claims| {
        let claim = claims.get("default", &name)?;
        claim.is_reserved_for(uid).then_some(())
    });
    reserved.await;
    let ready = cluster.until("the pod to run", &cluster.pods, |pods| {
        pods.get("default", "p").filter(|pod| pod.is_ready())
    });
    ready.await;

    let now = DeleteParams::default();
    client.delete(&PODS, "default", "p", &now).await.unwrap();
    let gone = cluster.until("the claim to go", &claims, |claims| {
        claims.get("default", &name).is_none().then_some(())
    });
    gone.await;
}

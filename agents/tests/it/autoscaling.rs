//! What pods use, from the nodes that simulate it to the autoscaler that follows it.

use crate::cluster::Cluster;
use agent_runtime::PatchType;
use agent_runtime::kinds::{HorizontalPodAutoscaler, condition};
use agent_runtime::resource_ref::{DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS};
use serde_json::{Value, json};

/// A Deployment whose pods use so much.
fn deployment(cpu: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "web"}, "annotations": {"kontiki.io/usage-cpu": cpu, "kontiki.io/usage-memory": "64Mi"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}})
}

fn autoscaler(behavior: Value) -> Value {
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 3,
            "metrics": [cpu], "behavior": behavior}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_pods_get_company_up_to_the_maximum() {
    let cluster = Cluster::with_nodes(&["n1"]).await;
    let autoscalers = cluster.hub.cache::<HorizontalPodAutoscaler>();
    let made = deployment("120m");
    cluster
        .client
        .create(&DEPLOYMENTS, "default", &made)
        .await
        .unwrap();
    cluster.rolled_out("one pod", 1).await;
    let made = autoscaler(json!({"scaleUp": {"stabilizationWindowSeconds": 0}}));
    let resource = &HORIZONTAL_POD_AUTOSCALERS;
    cluster
        .client
        .create(resource, "default", &made)
        .await
        .unwrap();
    // 120 of 100 at a target of 50 is three times as many.
    cluster.rolled_out("three pods", 3).await;
    let seen = cluster
        .until("its status", &autoscalers, |all| {
            let one = all.get("default", "web")?;
            (one.status.desired_replicas == 3).then_some(one)
        })
        .await;
    let of = |kind: &str| {
        condition(&seen.status.conditions, kind)
            .unwrap()
            .reason
            .clone()
    };
    assert_eq!(of("AbleToScale"), "SucceededRescale");
    assert_eq!(of("ScalingActive"), "ValidMetricFound");
    assert!(seen.status.last_scale_time.is_some());
    let current = &seen.status.current_metrics[0]["resource"]["current"];
    assert_eq!(
        *current,
        json!({"averageUtilization": 120, "averageValue": "120m"})
    );

    let usage = cluster
        .client
        .get_path("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods")
        .await
        .unwrap();
    let items = usage["items"].as_array().unwrap();
    assert!(!items.is_empty(), "{usage}");
    let used = json!({"cpu": "120m", "memory": "64Mi"});
    for pod in items {
        assert_eq!(pod["containers"], json!([{"name": "c", "usage": used}]));
    }
    let node = cluster
        .client
        .get_path("/apis/metrics.k8s.io/v1beta1/nodes/n1")
        .await
        .unwrap();
    assert_eq!(node["kind"], "NodeMetrics");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_pods_go_as_fast_as_the_behavior_lets_them() {
    let cluster = Cluster::with_nodes(&["n1"]).await;
    let mut made = deployment("1m");
    made["spec"]["replicas"] = 3.into();
    cluster
        .client
        .create(&DEPLOYMENTS, "default", &made)
        .await
        .unwrap();
    cluster.rolled_out("three pods", 3).await;
    let made = autoscaler(json!({"scaleDown": {"stabilizationWindowSeconds": 0}}));
    let resource = &HORIZONTAL_POD_AUTOSCALERS;
    cluster
        .client
        .create(resource, "default", &made)
        .await
        .unwrap();
    cluster.rolled_out("one pod", 1).await;
    // Out of the bounds it is brought back without any measure.
    let patch = json!({"spec": {"minReplicas": 2}});
    cluster
        .client
        .patch(resource, "default", "web", PatchType::Merge, &patch)
        .await
        .unwrap();
    cluster.rolled_out("two pods", 2).await;
}

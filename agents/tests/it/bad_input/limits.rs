//! Quotas below what is used, and sources of figures that cannot be trusted.

use super::{Line, QUIET, Scene, Terms, play, template, uid};
use agent_runtime::ResourceRef;
use agent_runtime::kinds::HorizontalPodAutoscaler;
use agent_runtime::resource_ref::{DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS};
use serde_json::{Value, json};
use std::time::Duration;

fn quotas() -> ResourceRef {
    ResourceRef::new("", "v1", "resourcequotas", "ResourceQuota", true)
}

#[tokio::test(start_paused = true)]
async fn a_quota_below_its_use_takes_nothing_and_holds_up_nothing_once_it_is_raised() {
    play(async |scene| {
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
            "spec": {"hard": {"pods": "10"}}});
        scene.create(&quotas(), quota).await;
        counted(&scene, "10").await;
        scene.cluster.create_deployment(10, "i").await;
        let first = scene.lead("first", Terms::off_after("pods", 6));
        first.is_off().await;
        let second = scene.lead("second", Terms::default());
        scene.cluster.until_rolled_out("web", 10).await;
        scene.patch(&quotas(), "q", json!({"spec": {"hard": {"pods": "4"}}})).await;
        counted(&scene, "4").await;
        scene.cluster.patch_deployment(json!({"spec": {"replicas": 14}})).await;
        let refused = |sets: &agent_runtime::Cache<agent_runtime::kinds::ReplicaSet>| {
            let set = sets.list().into_iter().next()?;
            let failure = set.status.conditions.iter().find(|c| c.kind == "ReplicaFailure")?;
            (failure.reason == "FailedCreate").then_some(())
        };
        scene.until("the refusal", &scene.cluster.sets, refused).await;
        assert_eq!(scene.cluster.pods.len(), 10, "nobody is evicted");
        second.switch_off();
        scene.lead("third", Terms::default());
        let lines = scene.pass(QUIET * 2).await;
        // Again after delays that double: the refusals of ten minutes can be counted.
        let tries = lines.iter().filter(|line| line.is_of("pods") && line.is_write()).count();
        assert!((1..=25).contains(&tries), "{tries}");
        let others = lines.iter().filter(|line| line.is_write() && !line.is_of("pods")).count();
        assert!(others <= 10, "{others}");
        let events = lines.iter().filter(|line| line.is_event()).count();
        assert!(events <= 40, "{events}");
        scene.patch(&quotas(), "q", json!({"spec": {"hard": {"pods": "20"}}})).await;
        scene.cluster.until_rolled_out("web", 14).await;
        scene.rests().await;
        assert_eq!(scene.ever().len(), 14);
    })
    .await;
}

/// Waits until the server goes by this limit.
async fn counted(scene: &Scene, pods: &str) {
    let looking = async {
        loop {
            let client = &scene.cluster.client;
            let quota = client.get(&quotas(), "default", "q").await.unwrap();
            if quota["status"]["hard"]["pods"] == pods {
                return;
            }
            scene.pass(Duration::from_millis(100)).await;
        }
    };
    let looked = tokio::time::timeout(super::PATIENCE, looking).await;
    looked.expect("the server counts");
}

const USAGE: &str = "/apis/metrics.k8s.io/";

/// A usage of all pods that anybody could have, said of pods that nobody has.
fn usage(cpu: Value) -> (u16, Value) {
    let pod = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "default"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
            "containers": [{"name": "c", "usage": {"cpu": cpu}}]})
    };
    (
        200,
        json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": [pod("nobody"), pod("")]}),
    )
}

fn silent(path: &str) -> Option<(u16, Value)> {
    path.starts_with(USAGE)
        .then(|| (503, json!({"kind": "Status", "code": 503, "message": "no"})))
}

fn nonsense(path: &str) -> Option<(u16, Value)> {
    path.starts_with(USAGE)
        .then(|| (200, json!([{"items": {"cpu": [null]}}])))
}

fn about_nobody(path: &str) -> Option<(u16, Value)> {
    path.starts_with(USAGE).then(|| usage("1".into()))
}

fn unreadable(path: &str) -> Option<(u16, Value)> {
    path.starts_with(USAGE).then(|| usage("much".into()))
}

fn enormous(path: &str) -> Option<(u16, Value)> {
    custom(path, "9e99")
}

fn negative(path: &str) -> Option<(u16, Value)> {
    custom(path, "-5")
}

fn custom(path: &str, value: &str) -> Option<(u16, Value)> {
    const GROUP: &str = "/apis/external.metrics.k8s.io/v1beta1";
    let item = json!({"metricName": "m", "metricLabels": {}, "timestamp": "2026-01-01T00:00:00Z", "value": value});
    path.starts_with(GROUP).then(|| (200, json!({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "items": [item]})))
}

#[tokio::test(start_paused = true)]
async fn a_source_of_figures_that_lies_or_is_silent_moves_nothing_out_of_its_bounds() {
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let external = json!({"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
    let cases: [(super::Lie, &Value, std::ops::RangeInclusive<i32>); 6] = [
        (silent, &cpu, 3..=3),
        (nonsense, &cpu, 3..=3),
        (about_nobody, &cpu, 3..=3),
        (unreadable, &cpu, 3..=3),
        (enormous, &external, 6..=6),
        (negative, &external, 2..=3),
    ];
    for (number, (lie, metric, sizes)) in cases.into_iter().enumerate() {
        play(async |scene| {
            let mut template = template(&json!({"app": "web"}), "i");
            template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
            let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
            scene.create(&DEPLOYMENTS, deployment).await;
            let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "default"},
                "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 6, "metrics": [metric]}});
            let made = scene.create(&HORIZONTAL_POD_AUTOSCALERS, autoscaler).await;
            assert!(!uid(&made).is_empty());
            let lied_to = Terms { lie: Some(lie), ..Terms::default() };
            let first = scene.lead("first", Terms { off_after: Some(("horizontalpodautoscalers", 1)), ..lied_to });
            first.is_off().await;
            scene.lead("second", lied_to);
            let autoscalers = scene.cache::<HorizontalPodAutoscaler>().await;
            scene
                .until("a verdict", &autoscalers, |all| {
                    let one = all.get("default", "web")?;
                    one.status.conditions.iter().any(|c| c.kind == "ScalingActive").then_some(())
                })
                .await;
            scene.pass(QUIET * 2).await;
            let lines = scene.pass(QUIET).await;
            let about = |line: &&Line| line.is_write() && !line.is_of("pods");
            let writes: Vec<_> = lines.iter().filter(about).collect();
            // Every look may say something new of what it found, and there are twenty of them.
            assert!(writes.len() <= 25, "case {number}: {writes:#?}");
            let events = lines.iter().filter(|line| line.is_event()).count();
            assert!(events <= 10, "case {number}: {events}");
            let web = scene.cluster.deployments.get("default", "web").unwrap();
            let size = web.spec.replicas.unwrap();
            assert!(sizes.contains(&size), "case {number}: {size}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_autoscalers_of_one_deployment_do_not_fight() {
    play(async |scene| {
        scene.cluster.create_deployment(3, "i").await;
        for (name, low, high) in [("one", 1, 3), ("two", 3, 9)] {
            let external = json!({"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
            let body = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name, "namespace": "default"},
                "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": low, "maxReplicas": high, "metrics": [external]}});
            scene.create(&HORIZONTAL_POD_AUTOSCALERS, body).await;
        }
        let terms = Terms { lie: Some(enormous), off_after: Some(("horizontalpodautoscalers", 3)), ..Terms::default() };
        let first = scene.lead("first", terms);
        first.is_off().await;
        scene.lead("second", Terms { off_after: None, ..terms });
        scene.pass(QUIET * 2).await;
        let scaled = scene.lines(|line| line.is_write() && line.is_of("scale"));
        // A leader that has looked at one of them only may follow it; then each knows of the other.
        assert!(scaled.len() <= 4, "{scaled:#?}");
        let lines = scene.pass(Duration::from_secs(600)).await;
        assert!(!lines.iter().any(|line| line.is_write() && line.is_of("scale")), "{lines:#?}");
    })
    .await;
}

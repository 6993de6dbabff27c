//! Hollow nodes of one process, as the scheduler, the controllers and clients see them.

use std::collections::BTreeSet;
use std::time::Duration;

use agent_runtime::kinds::{Node, Pod};
use agent_runtime::resource_ref::{DEPLOYMENTS, JOBS, NODES, PODS, ResourceRef};
use agent_runtime::{DeleteParams, PatchType, Propagation};
use agents::hollow::{HollowNodes, Stages, Watches};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::{Cluster, PATIENCE};
use crate::machines::identities;

fn running(pods: &[std::sync::Arc<Pod>]) -> usize {
    let runs = |pod: &&std::sync::Arc<Pod>| pod.is_ready() && !pod.metadata.is_deleting();
    pods.iter().filter(runs).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_nodes_run_a_deployment_answer_for_it_and_let_it_go() {
    let (server, asker) = identities();
    let mut nodes = HollowNodes::new(50);
    nodes.zones = 5;
    nodes.server = Some((
        ([127, 0, 0, 1], 0).into(),
        watch::Sender::new(server).subscribe(),
    ));
    let cluster = Cluster::with_hollow(nodes, Some(&asker)).await;
    let node = cluster
        .client
        .get(&NODES, "", "hollow-00007")
        .await
        .unwrap();
    assert_eq!(node["metadata"]["labels"]["type"], "hollow");
    assert_eq!(
        node["metadata"]["labels"]["topology.kubernetes.io/zone"],
        "zone-3"
    );
    assert_eq!(node["spec"]["podCIDR"], "100.64.7.0/24");

    cluster.create_deployment(100, "i").await;
    cluster.rolled_out("a hundred pods", 100).await;
    let pods = cluster.pods.in_namespace("default");
    let ips: BTreeSet<&str> = pods.iter().map(|pod| pod.status.pod_ip.as_str()).collect();
    assert_eq!(ips.len(), 100, "each pod has an address of its own");

    let name = &pods[0].metadata.name;
    let (status, log) = cluster
        .text(&format!("/api/v1/namespaces/default/pods/{name}/log"))
        .await;
    assert_eq!(status, 200, "{log}");
    assert!(
        log.contains("simulated") && log.contains(&format!("default/{name}")),
        "{log}"
    );
    let usage = cluster
        .client
        .get_path("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods")
        .await
        .unwrap();
    assert_eq!(usage["items"].as_array().unwrap().len(), 100);

    let how = DeleteParams {
        propagation: Some(Propagation::Background),
        ..DeleteParams::default()
    };
    cluster
        .client
        .delete(&DEPLOYMENTS, "default", "web", &how)
        .await
        .unwrap();
    cluster
        .until("all pods to go", &cluster.pods, |pods| {
            pods.list().is_empty().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_watches_of_their_own_come_back_when_they_are_deleted_and_complete_jobs() {
    let mut nodes = HollowNodes::new(5);
    nodes.watches = Watches::PerNode;
    let cluster = Cluster::with_hollow(nodes, None).await;
    let name = "hollow-00002";
    let before = cluster.client.get(&NODES, "", name).await.unwrap();
    cluster
        .client
        .delete(&NODES, "", name, &DeleteParams::default())
        .await
        .unwrap();
    let cache = cluster.hub.cache::<Node>();
    let is_new = |node: &std::sync::Arc<Node>| {
        before["metadata"]["uid"] != *node.metadata.uid && node.is_ready()
    };
    cluster
        .until("the node to come back", &cache, |nodes| {
            nodes.get("", name).filter(is_new)
        })
        .await;

    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "perl"}]}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "default"},
        "spec": {"completions": 4, "parallelism": 4, "template": template}});
    cluster.client.create(&JOBS, "default", &job).await.unwrap();
    cluster
        .until("the job's pods to succeed", &cluster.pods, |pods| {
            let done = pods
                .list()
                .iter()
                .filter(|pod| pod.status.phase == "Succeeded")
                .count();
            (done == 4).then_some(())
        })
        .await;
}

/// In virtual time: it takes a minute until a node counts as lost.
#[tokio::test(start_paused = true)]
async fn a_silent_node_is_lost_and_its_pods_are_replaced_until_it_speaks_again() {
    let cluster = Cluster::with_hollow(HollowNodes::new(3), None).await;
    let tolerations = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"tolerations": tolerations, "containers": [{"name": "c", "image": "i"}]}});
    let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 9, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    cluster
        .client
        .create(&DEPLOYMENTS, "default", &body)
        .await
        .unwrap();
    let all = |pods: &agent_runtime::cache::Cache<Pod>| (running(&pods.list()) == 9).then_some(());
    cluster.until("nine pods", &cluster.pods, all).await;

    let say = async |behaviour: &str| {
        let patch =
            json!({"metadata": {"annotations": {"kontiki.io/hollow-behaviour": behaviour}}});
        cluster
            .client
            .patch(&NODES, "", "hollow-00001", PatchType::Merge, &patch)
            .await
            .unwrap();
    };
    let cache = cluster.hub.cache::<Node>();
    let is_ready = |ready: bool| {
        move |nodes: &agent_runtime::cache::Cache<Node>| {
            let node = nodes.get("", "hollow-00001")?;
            (node.is_ready() == ready).then_some(())
        }
    };
    say("silent").await;
    // It takes 50 s of simulated time.
    let patience = Duration::from_secs(120);
    cluster
        .until_within(patience, "the node to be lost", &cache, is_ready(false))
        .await;
    cluster
        .until("nine pods elsewhere", &cluster.pods, |pods| {
            let elsewhere: Vec<_> = pods
                .list()
                .into_iter()
                .filter(|pod| pod.spec.node_name != "hollow-00001")
                .collect();
            (running(&elsewhere) == 9).then_some(())
        })
        .await;
    let left = |pods: &agent_runtime::cache::Cache<Pod>| {
        pods.list()
            .iter()
            .filter(|pod| pod.spec.node_name == "hollow-00001")
            .count()
    };
    assert_eq!(
        left(&cluster.pods),
        3,
        "what a silent node was told to end stays"
    );

    say("steady").await;
    cluster
        .until("the node to be ready", &cache, is_ready(true))
        .await;
    cluster
        .until("its old pods to go", &cluster.pods, |pods| {
            (left(pods) == 0).then_some(())
        })
        .await;
}

/// Looks until an object is as `wanted`.
async fn shown(
    cluster: &Cluster,
    (resource, namespace, name): (&ResourceRef, &str, &str),
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let looking = async {
        loop {
            let object = cluster.client.get(resource, namespace, name).await.unwrap();
            if wanted(&object) {
                return object;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_gives_a_node_is_allocatable_until_it_is_taken_away() {
    let (server, asker) = identities();
    let mut nodes = HollowNodes::new(2);
    nodes.server = Some((
        ([127, 0, 0, 1], 0).into(),
        watch::Sender::new(server).subscribe(),
    ));
    let cluster = Cluster::with_hollow(nodes, Some(&asker)).await;
    let name = "hollow-00001";
    let give = async |amount: Value| {
        let patch = json!({"status": {"capacity": {"example.com/lens": amount}}});
        cluster
            .client
            .patch_status(&NODES, "", name, PatchType::Merge, &patch)
            .await
            .unwrap();
    };
    let has = |node: &Value| node["status"]["allocatable"]["example.com/lens"].clone();
    give(json!("3")).await;
    let resource = NODES;
    let place = (&resource, "", name);
    shown(&cluster, place, "lenses", |node| has(node) == "3").await;
    give(Value::Null).await;
    let node = shown(&cluster, place, "no lenses", |node| has(node).is_null()).await;
    assert!(node["status"]["allocatable"]["cpu"].is_string());
    let info = &node["status"]["nodeInfo"];
    for id in ["machineID", "systemUUID", "bootID"] {
        assert!(info[id].as_str().is_some_and(|id| !id.is_empty()), "{info}");
    }
    let path = format!("/api/v1/nodes/{name}/proxy/configz");
    let (status, settings) = cluster.text(&path).await;
    assert!(
        status == 200 && settings.contains("\"maxPods\":110"),
        "{status}: {settings}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_resized_as_far_as_there_is_room() {
    let mut nodes = HollowNodes::new(1);
    nodes.cpu_count = 4;
    let cluster = Cluster::with_hollow(nodes, None).await;
    for (name, policy) in [
        ("one", "NotRequired"),
        ("other", "NotRequired"),
        ("anew", "RestartContainer"),
    ] {
        let policies = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
        let container = json!({"name": "c", "image": "i", "resizePolicy": policies, "resources": {"requests": {"cpu": "500m"}}});
        let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [container]}});
        cluster.create_pod(&body).await;
        cluster.pod("a pod to run", name, Pod::is_ready).await;
    }
    let resize = async |name: &str, cpu: &str| {
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
        let patch = json!({"spec": {"containers": containers}});
        let kind = PatchType::Strategic;
        cluster
            .client
            .patch_sub(&PODS, "default", name, "resize", kind, &patch)
            .await
            .unwrap();
    };
    let has = |pod: &Value, cpu: &str| {
        let status = &pod["status"]["containerStatuses"][0];
        let conditions = pod["status"]["conditions"].as_array();
        let mut types = conditions.into_iter().flatten().map(|one| &one["type"]);
        status["allocatedResources"]["cpu"] == cpu
            && status["resources"]["requests"]["cpu"] == cpu
            && !types.any(|kind| *kind == "PodResizePending" || *kind == "PodResizeInProgress")
    };
    let waits = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        all.any(|one| one["type"] == "PodResizePending" && one["reason"] == "Deferred")
    };
    let pods = PODS;
    let of = |name| (&pods, "default", name);
    resize("one", "2").await;
    shown(&cluster, of("one"), "two cores", |pod| has(pod, "2")).await;
    resize("other", "3").await;
    shown(&cluster, of("other"), "one that waits", waits).await;
    resize("one", "250m").await;
    let other = shown(&cluster, of("other"), "three cores", |pod| has(pod, "3")).await;
    assert_eq!(other["status"]["containerStatuses"][0]["restartCount"], 0);
    resize("anew", "600m").await;
    let anew = shown(&cluster, of("anew"), "one anew", |pod| has(pod, "600m")).await;
    assert_eq!(anew["status"]["containerStatuses"][0]["restartCount"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_that_cannot_begin_or_are_unwell_are_told_of() {
    let (server, asker) = identities();
    let mut nodes = HollowNodes::new(1);
    nodes.server = Some((
        ([127, 0, 0, 1], 0).into(),
        watch::Sender::new(server).subscribe(),
    ));
    let stages = "stages: [{name: sick, select: {labels: {is: sick}}, probes: {liveness: {}}}]";
    nodes.stages = Stages::read(stages).unwrap();
    let cluster = Cluster::with_hollow(nodes, Some(&asker)).await;
    let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    let mount = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(WHO)"}]);
    for (name, container) in [
        (
            "never",
            json!({"name": "c", "image": "x:1", "imagePullPolicy": "Never"}),
        ),
        ("misnamed", json!({"name": "c", "image": "No/Name"})),
        (
            "nameless",
            json!({"name": "c", "image": "i", "volumeMounts": mount}),
        ),
        (
            "sick",
            json!({"name": "c", "image": "i", "livenessProbe": probe}),
        ),
    ] {
        let body = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"is": name}},
            "spec": {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}});
        cluster.create_pod(&body).await;
    }
    let pods = PODS;
    for (name, reason) in [
        ("never", "ErrImageNeverPull"),
        ("misnamed", "InvalidImageName"),
        ("nameless", "CreateContainerConfigError"),
        ("sick", "CrashLoopBackOff"),
    ] {
        let waits = |pod: &Value| {
            let state = &pod["status"]["containerStatuses"][0]["state"];
            state["waiting"]["reason"] == reason
        };
        shown(&cluster, (&pods, "default", name), reason, waits).await;
    }
    for (path, part) in [
        ("healthz", "ok"),
        ("pods", "misnamed"),
        ("runningpods/", "PodList"),
        ("stats/summary", "hollow-00000"),
        ("metrics/resource", "resource_scrape_error 0"),
        ("metrics/probes", ""),
    ] {
        let path = format!("/api/v1/nodes/hollow-00000/proxy/{path}");
        let (status, text) = cluster.text(&path).await;
        assert!(status == 200 && text.contains(part), "{path}: {text}");
    }
}

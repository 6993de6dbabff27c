//! Where pods go, who has to leave for them, and what drives them out again.

use crate::cluster::{Cluster, PATIENCE};
use agent_runtime::kinds::{Node, PersistentVolume, Pod, condition};
use agent_runtime::resource_ref::{
    NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, PRIORITY_CLASSES, REPLICA_SETS,
    STORAGE_CLASSES,
};
use agent_runtime::{ListParams, PatchType};
use scheduler::config::Config;
use scheduler::explain::{AsOf, Explanation, Picture};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// A resource that no node has until a test says so.
const CHIPS: &str = "example.com/chips";

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"name": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{"name": "c", "image": "pause"}]}});
    for (key, value) in spec.as_object().unwrap() {
        body["spec"][key] = value.clone();
    }
    body
}

fn containers(chips: u32) -> Value {
    let amount = json!({CHIPS: chips.to_string()});
    json!([{"name": "c", "image": "pause", "resources": {"requests": amount, "limits": amount}}])
}

/// Gives a node chips, and classes of the priorities 1 to 4.
async fn chips_and_classes(cluster: &Cluster, node: &str, chips: u32) {
    let amount = json!({CHIPS: chips.to_string()});
    let status = json!({"status": {"capacity": amount, "allocatable": amount}});
    let form = PatchType::Strategic;
    let patched = cluster
        .client
        .patch_status(&NODES, "", node, form, &status)
        .await;
    patched.unwrap();
    for priority in 1..=4 {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": format!("p{priority}")}, "value": priority});
        let made = cluster.client.create(&PRIORITY_CLASSES, "", &class).await;
        made.unwrap();
    }
    // A read of the newest state: what comes after it knows the classes.
    let read = cluster.client.get(&PRIORITY_CLASSES, "", "p4").await;
    read.unwrap();
}

async fn running(cluster: &Cluster, name: &str) -> Arc<Pod> {
    let runs = |pod: &Pod| pod.is_ready();
    cluster.pod("the pod to run", name, runs).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_without_taints_take_pods() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    let list = ListParams {
        field_selector: "spec.unschedulable=false".into(),
        ..ListParams::default()
    };
    let nodes = cluster.client.list_as::<Node>(&NODES, "", &list).await;
    let nodes = nodes.unwrap();
    let free = |node: &&Node| node.is_ready() && node.spec.taints.is_empty();
    assert_eq!(nodes.iter().filter(free).count(), 2);
    for node in ["one", "two"] {
        cluster.create_pod(&pod(node, node, json!({}))).await;
        assert_eq!(running(&cluster, node).await.spec.node_name, node);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_sets_are_preempted_as_little_as_possible() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    chips_and_classes(&cluster, "one", 1000).await;
    // Every pod that ever was, by the name of its set.
    let seen = Arc::new(Mutex::new(BTreeMap::<String, BTreeSet<String>>::new()));
    let seeing = seen.clone();
    cluster.pods.subscribe(move |change| {
        let meta = &change.latest().metadata;
        let set = meta.labels.get("name").cloned().unwrap_or_default();
        let mut seen = seeing.lock().unwrap();
        seen.entry(set).or_default().insert(meta.uid.clone());
    });
    for (priority, chips) in [(1, 200), (2, 300), (3, 450)] {
        let name = format!("rs-{priority}");
        let spec =
            json!({"priorityClassName": format!("p{priority}"), "containers": containers(chips)});
        let template = pod(&name, "one", spec);
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"name": name}},
                "template": {"metadata": {"labels": {"name": name}}, "spec": template["spec"]}}});
        let made = cluster.client.create(&REPLICA_SETS, "default", &set).await;
        made.unwrap();
        cluster
            .until("the set to run", &cluster.sets, |sets| {
                let set = sets.get("default", &name);
                set.filter(|set| set.status.available_replicas == 1)
            })
            .await;
    }
    // 50 are free; 500 come from the two that matter least, and the third need not go.
    let spec = json!({"priorityClassName": "p4", "containers": containers(500)});
    cluster.create_pod(&pod("preemptor", "one", spec)).await;
    running(&cluster, "preemptor").await;
    // The sets replace what they lost, and those find no room and take none from anybody.
    let waiting = |pod: &Arc<Pod>| {
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        scheduled.is_some_and(|c| c.reason == "Unschedulable")
    };
    cluster
        .until("both to be replaced", &cluster.pods, |pods| {
            let all = pods.in_namespace("default");
            (all.len() == 4 && all.iter().filter(|pod| waiting(pod)).count() == 2).then_some(())
        })
        .await;
    let counts = |set: &str| seen.lock().unwrap()[set].len();
    let names = ["rs-1", "rs-2", "rs-3", "preemptor"];
    assert_eq!(names.map(counts), [2, 2, 1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_preempted_is_told_why() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    chips_and_classes(&cluster, "one", 1).await;
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["one"]}]}]}}});
    let with = |name: &str, class: &str| {
        let spec =
            json!({"priorityClassName": class, "containers": containers(1), "affinity": affinity});
        pod(name, "one", spec)
    };
    let mut victim = with("victim", "p1");
    victim["metadata"]["finalizers"] = json!(["test.example/hold"]);
    cluster.create_pod(&victim).await;
    running(&cluster, "victim").await;
    cluster.create_pod(&with("preemptor", "p4")).await;
    let leaving = |pod: &Pod| pod.metadata.is_deleting();
    let victim = cluster.pod("the victim to leave", "victim", leaving).await;
    let told = condition(&victim.status.conditions, "DisruptionTarget");
    let told = told.expect("a condition of the disruption");
    assert!(told.is_true());
    assert_eq!(told.reason, "PreemptionByScheduler");
    assert_eq!(
        told.message,
        "default-scheduler: preempting to accommodate a higher priority pod"
    );
    let free = json!({"metadata": {"finalizers": null}});
    let form = PatchType::Merge;
    let patched = cluster
        .client
        .patch(&PODS, "default", "victim", form, &free)
        .await;
    patched.unwrap();
    running(&cluster, "preemptor").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taint_that_goes_in_time_evicts_nobody() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let tolerates = |key: &str, seconds: Option<u32>| {
        let mut toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
        if let Some(seconds) = seconds {
            toleration["tolerationSeconds"] = seconds.into();
        }
        toleration
    };
    // That the first one goes says that the taints were seen; that the last one goes, that the time of `stays`, which
    // is shorter, would be over.
    let pods = [
        ("goes", vec![]),
        ("stays", vec![tolerates("a", Some(3)), tolerates("b", None)]),
        ("later", vec![tolerates("a", None), tolerates("b", Some(4))]),
    ];
    for (name, tolerations) in &pods {
        let body = pod(name, "one", json!({"tolerations": tolerations}));
        cluster.create_pod(&body).await;
    }
    for (name, _) in &pods {
        running(&cluster, name).await;
    }
    let taint = async |keys: &[&str]| {
        let of = |key: &&str| json!({"key": key, "value": "evict", "effect": "NoExecute"});
        let taints: Vec<Value> = keys.iter().map(of).collect();
        let body = json!({"spec": {"taints": taints}});
        let patched = cluster
            .client
            .patch(&NODES, "", "one", PatchType::Merge, &body)
            .await;
        patched.unwrap();
    };
    taint(&["a", "b"]).await;
    cluster.pod_gone("goes").await;
    taint(&["b"]).await;
    cluster.pod_gone("later").await;
    let stays = running(&cluster, "stays").await;
    assert!(!stays.metadata.is_deleting());
    assert!(condition(&stays.status.conditions, "DisruptionTarget").is_none());
}

/// The uid of the claim that a volume is given to, once it is.
async fn given_to(cluster: &Cluster, volume: &str) -> Value {
    let mut version = cluster.hub.cache::<PersistentVolume>().version();
    let given = async {
        loop {
            version.mark_unchanged();
            let read = cluster.client.get(&PERSISTENT_VOLUMES, "", volume).await;
            let uid = read.unwrap()["spec"]["claimRef"]["uid"].take();
            if uid.is_string() {
                return uid;
            }
            version.changed().await.unwrap();
        }
    };
    let given = tokio::time::timeout(PATIENCE, given).await;
    given.expect("the volume is given to a claim")
}

/// What the controller does when a volume was given to a claim. Where it runs it may be first.
async fn complete_binding(cluster: &Cluster, claim: &str, volume: &str) {
    let annotations = json!({"pv.kubernetes.io/bind-completed": "yes"});
    let bound = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume}});
    let (resource, form) = (&PERSISTENT_VOLUME_CLAIMS, PatchType::Merge);
    let patch = cluster
        .client
        .patch(resource, "default", claim, form, &bound);
    patch.await.unwrap();
    let status = json!({"status": {"phase": "Bound"}});
    let patch = cluster
        .client
        .patch_status(resource, "default", claim, form, &status);
    patch.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_goes_where_the_volume_is_that_its_claim_gets() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"});
    let made = cluster.client.create(&STORAGE_CLASSES, "", &class).await;
    made.unwrap();
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let resource = &PERSISTENT_VOLUME_CLAIMS;
    let made = cluster.client.create(resource, "default", &claim).await;
    let claim_uid = made.unwrap()["metadata"]["uid"].clone();
    let mut body = pod("p", "two", json!({}));
    body["spec"]["nodeSelector"] = Value::Null;
    body["spec"]["volumes"] =
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    cluster.create_pod(&body).await;
    let refused = |pod: &Pod| {
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        scheduled.is_some_and(|c| {
            c.message.starts_with(
                "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
            )
        })
    };
    cluster.pod("the pod to be refused", "p", refused).await;

    // A volume at one of the nodes: the pod is woken, and the claim gets it.
    let at_two = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["two"]});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"},
            "local": {"path": "/data"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [at_two]}]}}}});
    let made = cluster
        .client
        .create(&PERSISTENT_VOLUMES, "", &volume)
        .await;
    made.unwrap();
    let available = json!({"status": {"phase": "Available"}});
    let form = PatchType::Merge;
    let patched = cluster
        .client
        .patch_status(&PERSISTENT_VOLUMES, "", "v", form, &available)
        .await;
    patched.unwrap();
    assert_eq!(given_to(&cluster, "v").await, claim_uid);
    let waiting = cluster.client.get(&PODS, "default", "p").await.unwrap();
    let read = cluster
        .client
        .get(resource, "default", "data")
        .await
        .unwrap();
    if read["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"].is_null() {
        assert_eq!(
            waiting["spec"]["nodeName"],
            Value::Null,
            "volumes come first"
        );
        complete_binding(&cluster, "data", "v").await;
    }
    let placed = |pod: &Pod| !pod.spec.node_name.is_empty();
    let placed = cluster.pod("the pod to be placed", "p", placed).await;
    assert_eq!(placed.spec.node_name, "two");
}

/// What the scheduler would think of a pod, as of some revision, with these nodes beside those that are there.
async fn explained(cluster: &Cluster, pod: &Value, as_of: AsOf, nodes: &[Value]) -> Explanation {
    let mut picture = Picture::new(Config::default());
    let read = picture.read(&cluster.client, as_of).await;
    read.unwrap();
    for node in nodes {
        picture.add(&NODES, node);
    }
    picture.explain(pod).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_explained_is_what_the_scheduler_does() {
    let cluster = Cluster::with_nodes(&["one", "two", "three"]).await;
    // The first node has no chips, and of the others one is liked.
    for node in ["two", "three"] {
        let amount = json!({CHIPS: "4"});
        let status = json!({"status": {"capacity": amount, "allocatable": amount}});
        let form = PatchType::Strategic;
        let patched = cluster
            .client
            .patch_status(&NODES, "", node, form, &status)
            .await;
        patched.unwrap();
    }
    let liked = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["one", "three"]}]});
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": liked}]}});
    let mut body = pod(
        "p",
        "",
        json!({"containers": containers(3), "affinity": affinity}),
    );
    body["spec"]["nodeSelector"] = Value::Null;
    // As `kontiki explain` asks for a pod of a file.
    let stored = cluster.client.create_dry_run(&PODS, "default", &body).await;
    let before = explained(&cluster, &stored.unwrap(), AsOf::Now, &[]).await;
    assert_eq!(before.best, ["three"]);
    let one = before.nodes.iter().find(|node| node.node == "one").unwrap();
    let refusing = one.filters.iter().filter(|f| !f.reasons.is_empty());
    let refusing: Vec<_> = refusing.map(|f| (&*f.plugin, f.reasons.clone())).collect();
    let reason = format!("Insufficient {CHIPS}");
    assert_eq!(refusing, [("NodeResourcesFit", vec![reason])]);

    cluster.create_pod(&body).await;
    let placed = |pod: &Pod| !pod.spec.node_name.is_empty();
    let placed = cluster.pod("the pod to be placed", "p", placed).await;
    assert_eq!(placed.spec.node_name, "three");

    // The same as of right before it was bound, and now as if it were not there.
    let stored = cluster.client.get(&PODS, "default", "p").await.unwrap();
    let versions: u64 = placed.metadata.resource_version.parse().unwrap();
    for as_of in [AsOf::Revision(versions - 1), AsOf::Now] {
        let told = explained(&cluster, &stored, as_of, &[]).await;
        assert_eq!(told.best, ["three"], "{as_of:?}");
        assert_eq!(told.node.as_deref(), Some("three"), "{as_of:?}");
    }

    // One that no node takes, and a node that would.
    let mut huge = stored;
    huge["metadata"]["uid"] = "what-if".into();
    huge["spec"]["nodeName"] = Value::Null;
    huge["spec"]["containers"] = containers(5);
    let told = explained(&cluster, &huge, AsOf::Now, &[]).await;
    assert!(told.best.is_empty());
    assert_eq!(
        told.message.as_deref(),
        Some(
            "0/3 nodes are available: 3 Insufficient example.com/chips. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        )
    );
    let big = json!({"metadata": {"name": "big"}, "status": {"allocatable":
        {"cpu": "4", "memory": "8Gi", "pods": "110", CHIPS: "8"}}});
    let told = explained(&cluster, &huge, AsOf::Now, &[big]).await;
    assert_eq!((told.best, told.message), (vec!["big".to_owned()], None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_scheduled_by_the_profile_that_it_names_and_by_no_other() {
    let config = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: only-two
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms:
          - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [two]}]
";
    let cluster = Cluster::with_nodes_and_profiles(&["one", "two"], config).await;
    let asks = |name: &str, scheduler: &str, node: &str| {
        let mut body = pod(name, node, json!({"schedulerName": scheduler}));
        if node.is_empty() {
            body["spec"]["nodeSelector"] = Value::Null;
        }
        body
    };
    cluster.create_pod(&asks("stranger", "nobody", "one")).await;
    for name in ["a", "b", "c"] {
        cluster.create_pod(&asks(name, "only-two", "")).await;
    }
    cluster.create_pod(&asks("not", "only-two", "one")).await;
    cluster
        .create_pod(&asks("usual", "default-scheduler", "one"))
        .await;
    for name in ["a", "b", "c"] {
        assert_eq!(running(&cluster, name).await.spec.node_name, "two");
    }
    assert_eq!(running(&cluster, "usual").await.spec.node_name, "one");
    let refused = |pod: &Pod| {
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        scheduled.is_some_and(|c| {
            c.message
                .contains("1 node(s) didn't match scheduler-enforced node affinity")
        })
    };
    cluster.pod("the pod to be refused", "not", refused).await;
    // The oldest of all, and nobody has looked at it.
    let stranger = cluster.client.get(&PODS, "default", "stranger").await;
    let stranger = stranger.unwrap();
    assert_eq!(stranger["spec"]["nodeName"], Value::Null);
    assert_eq!(stranger["status"]["conditions"], Value::Null);
}

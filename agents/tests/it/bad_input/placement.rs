//! Schedulers that are switched off while they bind pods, make room, and bind volumes.

use super::{Line, QUIET, Scene, Terms, play_unscheduled, uid, workload};
use agent_runtime::kinds::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use agent_runtime::resource_ref::{
    self, PERSISTENT_VOLUMES, PRIORITY_CLASSES, REPLICA_SETS, STATEFUL_SETS, STORAGE_CLASSES,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const NODES: u32 = 3;
/// Processors of a hollow node.
const PROCESSORS: usize = 32;

/// A set of pods each of which takes so many processors.
fn set(name: &str, replicas: usize, processors: usize) -> Value {
    let labels = json!({"app": name});
    let replicas = i64::try_from(replicas).unwrap();
    let mut body = workload("ReplicaSet", name, replicas, &labels, "i");
    let requests = json!({"requests": {"cpu": processors.to_string()}});
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = requests;
    body
}

/// Waits for nodes that take pods, which the controllers open.
async fn open_nodes(scene: &Scene) {
    let nodes = scene.cache::<Node>().await;
    let is_open = |node: &Node| node.is_ready() && node.spec.taints.is_empty();
    scene
        .until("nodes that take pods", &nodes, |nodes| {
            let nodes = nodes.list();
            let open = nodes.iter().filter(|node| is_open(node)).count();
            (open == NODES as usize).then_some(())
        })
        .await;
}

/// Waits until there are so many pods, whether they have a node or not.
async fn pods(scene: &Scene, count: usize) {
    let is_so = |pods: &agent_runtime::Cache<Pod>| (pods.len() == count).then_some(());
    scene.until("the pods", &scene.cluster.pods, is_so).await;
}

/// No leader does anything to pods any more.
async fn pods_rest(scene: &Scene) {
    let lines = scene.pass(QUIET).await;
    let about_pods =
        |line: &&Line| line.is_write() && (line.is_of("pods") || line.is_of("bindings"));
    let lines: Vec<_> = lines.iter().filter(about_pods).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn pods_that_others_have_begun_to_bind_are_bound_once() {
    const PROCESSORS_A_POD: usize = 2;
    const PODS_A_NODE: usize = PROCESSORS / PROCESSORS_A_POD;
    const PODS: usize = NODES as usize * PODS_A_NODE;
    // The schedulers that are switched off with their first request to bind: one pod, or several that have come together meanwhile.
    let cases: [&[usize]; 2] = [&[1], &[1, 1]];
    for switched_off in cases {
        play_unscheduled(NODES, async |scene| {
            scene.lead("0", Terms::default());
            open_nodes(&scene).await;
            let body = set("a", PODS, PROCESSORS_A_POD);
            let set = uid(&scene.create(&REPLICA_SETS, body).await);
            pods(&scene, PODS).await;
            for (number, requests) in switched_off.iter().copied().enumerate() {
                let name = format!("off-{number}");
                // No clock of theirs is right, nor do they agree.
                let terms = Terms {
                    clock_wrong_seconds: [3600, -3600][number],
                    ..Terms::off_after("binding", requests)
                };
                let scheduler = scene.schedule(&name, terms);
                scheduler.is_off().await;
            }
            scene.schedule("last", Terms::default());
            scene.settled(&[(&set, PODS)]).await;
            pods_rest(&scene).await;
            // A node refuses what it has no room for, and the set would have another one.
            let ever = scene.ever();
            assert_eq!(ever.len(), PODS);
            assert!(ever.iter().all(|pod| pod.nodes.len() == 1));
            for number in 0..NODES {
                let node = format!("hollow-{number:05}");
                let there = scene.cluster.pods.on_node(&node).len();
                assert_eq!(there, PODS_A_NODE, "{node} is full");
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_others_have_begun_to_make_is_made_once() {
    const LOW_A_NODE: usize = 4;
    const LOW: usize = NODES as usize * LOW_A_NODE;
    // On each node there is to be room for one more.
    const HIGH: usize = NODES as usize;
    // In the middle of the notes of where room is made, the marks on those who go, and their deletions.
    for off_after in [1, 3, 6] {
        play_unscheduled(NODES, async |scene| {
            let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000});
            scene.create(&PRIORITY_CLASSES, class).await;
            // A read of the newest state: what comes after it knows the class.
            let read = scene.cluster.client.get(&PRIORITY_CLASSES, "", "high").await;
            read.unwrap();
            scene.lead("0", Terms::default());
            open_nodes(&scene).await;
            let body = set("low", LOW, PROCESSORS / LOW_A_NODE);
            let low = uid(&scene.create(&REPLICA_SETS, body).await);
            let before = scene.schedule("before", Terms::default());
            scene.settled(&[(&low, LOW)]).await;
            before.switch_off();

            let mut body = set("high", HIGH, PROCESSORS / LOW_A_NODE);
            body["spec"]["template"]["spec"]["priorityClassName"] = "high".into();
            let high = uid(&scene.create(&REPLICA_SETS, body).await);
            pods(&scene, LOW + HIGH).await;
            let first = scene.schedule("first", Terms::off_after("pods", off_after));
            first.is_off().await;
            scene.schedule("second", Terms::default());
            scene.settled(&[(&high, HIGH)]).await;
            pods_rest(&scene).await;

            let (mut went, mut waiting) = (0, 0);
            for pod in scene.ever() {
                assert!(pod.nodes.len() <= 1, "{}", pod.name);
                let is_low = pod.controllers.contains(&low);
                assert!(is_low || !pod.left, "{} makes room for nobody", pod.name);
                went += usize::from(pod.left);
                waiting += usize::from(is_low && pod.nodes.is_empty());
            }
            assert_eq!((went, waiting), (HIGH, HIGH), "one for each");
            assert_eq!(scene.ever().len(), LOW + 2 * HIGH);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn volumes_that_others_have_begun_to_bind_are_bound_once() {
    // The scheduler is off with the promise of the first volume, the controllers when the claim has it and when that is told.
    for off_after in [1, 2] {
        play_unscheduled(NODES, async |scene| {
            let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
                "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"});
            scene.create(&STORAGE_CLASSES, class).await;
            for number in 0..NODES {
                let here = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [format!("hollow-{number:05}")]}]});
                let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("v{number}")},
                    "spec": {"storageClassName": "local", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                        "hostPath": {"path": format!("/tmp/v{number}")}, "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}}}});
                scene.create(&PERSISTENT_VOLUMES, volume).await;
            }
            let before = scene.lead("0", Terms::default());
            open_nodes(&scene).await;
            let mut body = workload("StatefulSet", "s", i64::from(NODES), &json!({"app": "s"}), "i");
            body["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
                "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
            let set = uid(&scene.create(&STATEFUL_SETS, body).await);
            pods(&scene, NODES as usize).await;
            let volumes = scene.cache::<PersistentVolume>().await;
            let free = |volumes: &agent_runtime::Cache<PersistentVolume>| {
                let volumes = volumes.list();
                let free = volumes.iter().all(|volume| volume.status.phase == "Available");
                free.then_some(())
            };
            scene.until("the volumes to be free", &volumes, free).await;
            before.switch_off();

            let first = scene.schedule("first", Terms::off_after("persistentvolumes", 1));
            first.is_off().await;
            let controllers = scene.lead("1", Terms::off_after("persistentvolumeclaims", off_after));
            controllers.is_off().await;
            scene.lead("2", Terms::default());
            scene.schedule("second", Terms::default());
            scene.settled(&[(&set, NODES as usize)]).await;
            pods_rest(&scene).await;

            let ever = scene.ever();
            assert_eq!(ever.len(), NODES as usize);
            assert!(ever.iter().all(|pod| pod.nodes.len() == 1));
            let claims = scene.cache::<PersistentVolumeClaim>().await;
            let mut taken = BTreeSet::new();
            for claim in claims.list() {
                let volume = volumes.get("", &claim.spec.volume_name).unwrap();
                let of = volume.spec.claim_ref.as_ref().unwrap();
                assert_eq!(of.uid, claim.metadata.uid, "{} is its", volume.metadata.name);
                assert_eq!((&*claim.status.phase, &*volume.status.phase), ("Bound", "Bound"));
                taken.insert(volume.metadata.name.clone());
            }
            assert_eq!(taken.len(), NODES as usize, "each claim has one of its own");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_no_node_takes_are_told_so_once_and_cost_little_more() {
    const PODS: usize = 100;
    play_unscheduled(NODES, async |scene| {
        scene.lead("0", Terms::default());
        open_nodes(&scene).await;
        scene
            .create(&REPLICA_SETS, set("a", PODS, PROCESSORS + 1))
            .await;
        pods(&scene, PODS).await;
        let first = scene.schedule("first", Terms::off_after("pods", PODS / 4));
        first.is_off().await;
        scene.schedule("second", Terms::default());
        let told = |pods: &agent_runtime::Cache<Pod>| {
            let pods = pods.list();
            let told = |pod: &&std::sync::Arc<Pod>| {
                let scheduled = pod.condition("PodScheduled");
                scheduled.is_some_and(|told| told.reason == "Unschedulable")
            };
            (pods.iter().filter(told).count() == PODS).then_some(())
        };
        scene
            .until("each to be told", &scene.cluster.pods, told)
            .await;
        scene.pass(super::SETTLING).await;
        let writes =
            scene.count(|line| line.is_write() && line.is_of("pods") && line.leader != "0");
        assert!(
            writes <= PODS,
            "what one has said the next does not repeat: {writes}"
        );
        // Each is looked at again when it has waited for five minutes, and nothing new is to be said of it.
        let lines = scene.pass(QUIET * 2).await;
        let writes: Vec<_> = lines
            .iter()
            .filter(|line| line.is_write() && line.is_of("pods"))
            .collect();
        assert!(writes.is_empty(), "{writes:#?}");
        let events = lines.iter().filter(|line| line.is_event()).count();
        assert!(events <= 3 * PODS, "{events}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_group_is_torn_by_a_scheduler_that_is_switched_off() {
    const GROUPS: usize = 6;
    const MEMBERS: usize = 4;
    const CONFIG: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
        - plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}\n";
    play_unscheduled(NODES, async |mut scene| {
        scene.context.scheduler_config = CONFIG.into();
        scene.lead("0", Terms::default());
        open_nodes(&scene).await;
        for number in 0..GROUPS * MEMBERS {
            let group = format!("g{}", number % GROUPS);
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                    "name": format!("{group}-{number}"), "namespace": "default", "labels": {"group": group},
                    "annotations": {"scheduling.kontiki.io/pod-group-min-count": MEMBERS.to_string()}},
                "spec": {"schedulingGroup": {"podGroupName": group}, "containers": [
                    {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}});
            scene.create(&resource_ref::PODS, pod).await;
        }
        let first = scene.schedule("first", Terms::off_after("bindings", 1));
        first.is_off().await;
        // What was stored is told.
        scene.pass(Duration::from_secs(1)).await;
        let placed = |group: usize| {
            let pods = scene.cluster.pods.list();
            let of_group = |pod: &&std::sync::Arc<Pod>| {
                let of = pod.metadata.labels.get("group");
                of.is_some_and(|of| *of == format!("g{group}")) && !pod.spec.node_name.is_empty()
            };
            pods.iter().filter(of_group).count()
        };
        let counts: Vec<usize> = (0..GROUPS).map(placed).collect();
        assert!(counts.iter().all(|count| [0, MEMBERS].contains(count)), "{counts:?}");
        scene.schedule("second", Terms::default());
        let all_run = |pods: &agent_runtime::Cache<Pod>| {
            let pods = pods.list();
            (pods.iter().filter(|pod| pod.is_ready()).count() == GROUPS * MEMBERS).then_some(())
        };
        scene.until("all groups to run", &scene.cluster.pods, all_run).await;
        pods_rest(&scene).await;
        let ever = scene.ever();
        assert_eq!(ever.len(), GROUPS * MEMBERS);
        assert!(ever.iter().all(|pod| pod.nodes.len() == 1));
    })
    .await;
}

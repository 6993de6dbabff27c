//! Deletes pods from nodes with a NoExecute taint that they do not tolerate, or tolerate for a limited time.
//!
//! The time runs from when this controller first saw the taint on the node of the pod, by the clock that nobody sets, as in
//! Kubernetes. When the taint was added, by the clock of who did, does not count: it would drive out at once whom a machine with
//! another clock has tainted, or who has just come. Another leader begins anew.

use crate::driven_out::{Words, drive_out};
use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::{Node, Pod, Taint};
use agent_runtime::plan::Plan;
use agent_runtime::timestamp::Micros;
use agent_runtime::{Change, Key, Queue};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    help: "evicts pods from nodes with NoExecute taints",
    workers: 8,
    body: Body::Keyed { wire, reconcile },
};

/// Who may stay for longer is looked at again after this time.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(86_400);

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let tainted_nodes = Arc::<TaintedNodes>::default();
    let (pods, keys, tainted) = (caches.pods.clone(), queue.clone(), tainted_nodes.clone());
    caches.nodes.subscribe(move |change| {
        let taints = |side: &Option<Arc<Node>>| {
            side.as_ref()
                .map(|node| no_execute(&node.spec.taints).cloned().collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let taints_now = taints(&change.new);
        if taints(&change.old) != taints_now {
            // Before its pods are looked at, so that who comes to it meanwhile finds it here.
            note(&tainted, change, !taints_now.is_empty());
            pods.on_node(&change.latest().metadata.name)
                .iter()
                .for_each(|pod| keys.add(Key::of(&pod.metadata)));
        }
    });
    let keys = queue.clone();
    caches.pods.subscribe(move |change| {
        let Some(pod) = &change.new else {
            // What has been seen of it is forgotten.
            return keys.add(Key::of(&change.latest().metadata));
        };
        let moved = change.old.as_ref().is_none_or(|old| {
            old.metadata.uid != pod.metadata.uid
                || old.spec.node_name != pod.spec.node_name
                || old.spec.tolerations != pod.spec.tolerations
        });
        if moved && lock(&tainted_nodes).contains(pod.spec.node_name.as_str()) {
            keys.add(Key::of(&pod.metadata));
        }
    });
}

/// The names of nodes with taints that drive pods out. There is hardly any, where each of a hundred thousand pods that come to
/// their nodes would be held against one of thousands.
type TaintedNodes = Mutex<BTreeSet<String>>;

/// Takes down whether a node has such taints now.
fn note(nodes: &TaintedNodes, change: &Change<Node>, is_tainted: bool) {
    let name = &change.latest().metadata.name;
    let mut nodes = lock(nodes);
    if is_tainted {
        nodes.insert(name.clone());
    } else {
        nodes.remove(name);
    }
}

fn lock(nodes: &TaintedNodes) -> MutexGuard<'_, BTreeSet<String>> {
    nodes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_execute(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some((pod, taints)) = tainted(key, world) else {
        world.ages(key, &[]);
        return Plan::none();
    };
    let sighting = |taint: &Taint| format!("{} {}={}", pod.metadata.uid, taint.key, taint.value);
    let sightings: Vec<String> = taints.iter().map(sighting).collect();
    let ages = world.ages(key, &sightings);
    match left(&pod, &taints, &ages) {
        None => Plan::none(),
        Some(Duration::ZERO) => evict(&pod, world.now),
        Some(left) => {
            let mut plan = Plan::none();
            plan.again(left.min(LOOK_AGAIN_MAX) + Duration::from_millis(1));
            plan
        }
    }
}

/// A pod that runs, and the taints of its node that may drive it out.
fn tainted(key: &Key, world: &World) -> Option<(Arc<Pod>, Vec<Taint>)> {
    let pod = world.caches.pods.by_key(key)?;
    let node = world.caches.nodes.get("", &pod.spec.node_name)?;
    let taints = no_execute(&node.spec.taints).cloned().collect();
    (!pod.metadata.is_deleting()).then_some((pod, taints))
}

/// For how long the pod may still stay with taints that have been seen for so long; `None`: for ever.
fn left(pod: &Pod, taints: &[Taint], ages: &[Duration]) -> Option<Duration> {
    let mut least: Option<Duration> = None;
    for (taint, age) in taints.iter().zip(ages) {
        // The first toleration that covers a taint counts, as in Kubernetes; one without seconds holds for ever.
        let mut tolerations = pod.spec.tolerations.iter();
        let Some(toleration) = tolerations.find(|t| t.tolerates(taint)) else {
            return Some(Duration::ZERO);
        };
        let Some(seconds) = toleration.toleration_seconds else {
            continue;
        };
        let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let left = whole.saturating_sub(*age);
        least = Some(least.map_or(left, |least| least.min(left)));
    }
    least
}

fn evict(pod: &Pod, now: Micros) -> Plan {
    const WORDS: Words = Words {
        reason: "DeletionByTaintManager",
        message: "Taint manager: deleting due to NoExecute taint",
        event: "TaintManagerEviction",
    };
    let note = format!(
        "Marking for deletion Pod {}/{}",
        pod.metadata.namespace, pod.metadata.name
    );
    drive_out(pod, &WORDS, note, now)
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, world};
    use agent_runtime::timestamp::seconds;

    /// A world in which a pod with these tolerations runs on a node with this taint.
    fn scene(taint: &str, tolerations: &str) -> World {
        world(&format!(
            "kind: Node\nmetadata: {{name: n}}\nspec: {{taints: [{taint}]}}\n---\nkind: Pod\nmetadata: {{name: p, namespace: a, uid: u}}\nspec: {{nodeName: n, tolerations: [{tolerations}]}}\n"
        ))
    }

    fn look(world: &World) -> Vec<String> {
        reconcile(&Key::new("a", "p"), world).lines()
    }

    fn plan(taint: &str, tolerations: &str) -> Vec<String> {
        look(&scene(taint, tolerations))
    }

    const TAINT: &str = "{key: node.kubernetes.io/unreachable, effect: NoExecute, timeAdded: '2025-12-31T00:00:00Z'}";

    fn tolerate(seconds: &str) -> String {
        format!(
            "{{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute{seconds}}}"
        )
    }

    #[test]
    fn the_toleration_decides_when() {
        assert_eq!(plan(TAINT, "")[2], "delete pods a/p");
        assert_eq!(
            plan(TAINT, &tolerate(", tolerationSeconds: 0"))[2],
            "delete pods a/p"
        );
        assert!(plan(TAINT, &tolerate("")).is_empty());
        let both = [tolerate(""), tolerate(", tolerationSeconds: 120")];
        assert!(plan(TAINT, &both.join(", ")).is_empty(), "the first counts");
        assert_eq!(
            plan(TAINT, &tolerate(", tolerationSeconds: 9223372036854775807")),
            ["again in 86400.001s"]
        );
        assert_eq!(
            plan(TAINT, &tolerate(", tolerationSeconds: -1"))[2],
            "delete pods a/p"
        );
        assert!(plan("{key: k, effect: NoSchedule}", "").is_empty());
    }

    #[test]
    fn the_time_runs_from_when_the_taint_was_seen_whatever_clocks_say() {
        let mut world = scene(TAINT, &tolerate(", tolerationSeconds: 300"));
        assert_eq!(look(&world), ["again in 300.001s"]);
        world.steady += Duration::from_secs(120);
        for jump in [750, -1500] {
            world.now += seconds(jump);
            assert_eq!(look(&world), ["again in 180.001s"]);
        }
        world.steady += Duration::from_secs(180);
        assert_eq!(look(&world)[2], "delete pods a/p");
    }

    #[test]
    fn whoever_comes_to_a_node_that_drives_out_is_looked_at() {
        let caches = scene(TAINT, "").caches;
        let queue = Arc::new(Queue::new());
        wire(&caches, &queue);
        assert_eq!(queue.len(), 1, "who is there already");
        let come = |name: &str, node: &str| {
            caches.pods.apply(object(&format!(
                "metadata: {{name: {name}, namespace: a, uid: {name}}}\nspec: {{nodeName: '{node}'}}\n"
            )));
            queue.len()
        };
        let taint = |node: &str, taints: &str| {
            caches.nodes.apply(object(&format!(
                "metadata: {{name: {node}}}\nspec: {{taints: [{taints}]}}\n"
            )));
            queue.len()
        };
        assert_eq!(come("x", "n"), 2);
        assert_eq!((come("y", ""), come("y", "m"), taint("m", "")), (2, 2, 2));
        assert_eq!(taint("m", "{key: k, effect: NoSchedule}"), 2);
        assert_eq!((taint("m", TAINT), come("z", "m")), (3, 4));
        // Its pods are in the queue already.
        assert_eq!((taint("m", ""), come("v", "m")), (4, 4));
        caches.nodes.remove(&Key::new("", "n"));
        assert_eq!(come("w", "n"), 4);
    }

    #[test]
    fn what_was_seen_of_a_pod_goes_with_it() {
        let mut world = scene(TAINT, &tolerate(", tolerationSeconds: 300"));
        look(&world);
        world.steady += Duration::from_secs(120);
        let mut pod = Pod::clone(&world.caches.pods.get("a", "p").unwrap());
        pod.metadata.uid = "another".into();
        world.caches.pods.apply(pod);
        assert_eq!(look(&world), ["again in 300.001s"]);
        let mut node = Node::clone(&world.caches.nodes.get("", "n").unwrap());
        let taints = std::mem::take(&mut node.spec.taints);
        world.caches.nodes.apply(node.clone());
        assert!(look(&world).is_empty());
        node.spec.taints = taints;
        world.caches.nodes.apply(node);
        world.steady += Duration::from_secs(120);
        assert_eq!(look(&world), ["again in 300.001s"]);
    }
}

//! Deletes pods from nodes with a NoExecute taint that they do not tolerate, or tolerate for a limited time.
//!
//! The time runs from when the taint was added, which the taint itself says: a restart does not start it anew.

use crate::manager::{Body, Controller};
use crate::patches;
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::{Pod, Taint};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::PODS;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{EventType, Key, PatchType, Queue};
use serde_json::json;
use std::sync::Arc;
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
    let (pods, keys) = (caches.pods.clone(), queue.clone());
    caches.nodes.subscribe(move |change| {
        let taints = |side: &Option<Arc<agent_runtime::kinds::Node>>| {
            side.as_ref()
                .map(|node| no_execute(&node.spec.taints).cloned().collect::<Vec<_>>())
                .unwrap_or_default()
        };
        if taints(&change.old) != taints(&change.new) {
            pods.on_node(&change.latest().metadata.name)
                .iter()
                .for_each(|pod| keys.add(Key::of(&pod.metadata)));
        }
    });
    let (nodes, keys) = (caches.nodes.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        let Some(pod) = &change.new else { return };
        let moved = change.old.as_ref().is_none_or(|old| {
            old.spec.node_name != pod.spec.node_name || old.spec.tolerations != pod.spec.tolerations
        });
        let tainted = nodes
            .get("", &pod.spec.node_name)
            .is_some_and(|node| no_execute(&node.spec.taints).next().is_some());
        if moved && tainted {
            keys.add(Key::of(&pod.metadata));
        }
    });
}

fn no_execute(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(pod) = world
        .caches
        .pods
        .by_key(key)
        .filter(|pod| !pod.metadata.is_deleting())
    else {
        return Plan::none();
    };
    let Some(node) = world.caches.nodes.get("", &pod.spec.node_name) else {
        return Plan::none();
    };
    let taints: Vec<Taint> = no_execute(&node.spec.taints).cloned().collect();
    let Some(due) = due(&pod, &taints, world.now) else {
        return Plan::none();
    };
    if due > world.now {
        let mut plan = Plan::none();
        plan.again(
            Duration::from_micros(u64::try_from(due - world.now).unwrap_or(0)).min(LOOK_AGAIN_MAX)
                + Duration::from_millis(1),
        );
        return plan;
    }
    evict(&pod, world.now)
}

/// When the pod has to go; `None` while it may stay.
fn due(pod: &Pod, taints: &[Taint], now: Micros) -> Option<Micros> {
    let mut earliest: Option<Micros> = None;
    for taint in taints {
        // The first toleration that covers a taint counts, as in Kubernetes; one without seconds holds for ever.
        let mut tolerations = pod.spec.tolerations.iter();
        let Some(toleration) = tolerations.find(|t| t.tolerates(taint)) else {
            return Some(now);
        };
        let Some(seconds) = toleration.toleration_seconds else {
            continue;
        };
        // The node lifecycle controller dates taints that come without a date; it will be back in a moment.
        let added = taint
            .time_added
            .as_deref()
            .and_then(timestamp::parse)
            .unwrap_or(now);
        let due = added.saturating_add(timestamp::seconds(seconds.max(0)));
        earliest = Some(earliest.map_or(due, |e| e.min(due)));
    }
    earliest
}

fn evict(pod: &Pod, now: Micros) -> Plan {
    let message = format!(
        "Marking for deletion Pod {}/{}",
        pod.metadata.namespace, pod.metadata.name
    );
    let condition = patches::condition(
        "DisruptionTarget",
        "True",
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
        now,
    );
    let mark = Op::Patch {
        resource: PODS,
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        subresource: Some("status"),
        form: PatchType::Strategic,
        body: json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}}),
    };
    let report = Report {
        regarding: reference(&PODS, &pod.metadata),
        kind: EventType::Normal,
        reason: "TaintManagerEviction",
        message,
    };
    Plan::of(vec![
        Op::Event(Box::new(report)),
        mark,
        Op::delete(&PODS, &pod.metadata),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    fn plan(taint: &str, tolerations: &str) -> Vec<String> {
        let text = format!(
            "kind: Node\nmetadata: {{name: n}}\nspec: {{taints: [{taint}]}}\n---\nkind: Pod\nmetadata: {{name: p, namespace: a}}\nspec: {{nodeName: n, tolerations: [{tolerations}]}}\n"
        );
        reconcile(&Key::new("a", "p"), &world(&text)).lines()
    }

    #[test]
    fn the_toleration_decides_when() {
        let taint = "{key: node.kubernetes.io/unreachable, effect: NoExecute, timeAdded: '2026-01-01T09:58:00Z'}";
        let tolerate = |seconds: &str| {
            format!(
                "{{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute{seconds}}}"
            )
        };
        assert_eq!(plan(taint, "")[2], "delete pods a/p");
        assert_eq!(
            plan(taint, &tolerate(", tolerationSeconds: 300")),
            ["again in 180.001s"]
        );
        assert_eq!(
            plan(taint, &tolerate(", tolerationSeconds: 120"))[2],
            "delete pods a/p"
        );
        assert!(plan(taint, &tolerate("")).is_empty());
        let both = [tolerate(""), tolerate(", tolerationSeconds: 120")];
        assert!(plan(taint, &both.join(", ")).is_empty(), "the first counts");
        assert_eq!(
            plan(taint, &tolerate(", tolerationSeconds: 9223372036854775807")),
            ["again in 86400.001s"]
        );
        assert_eq!(
            plan(taint, &tolerate(", tolerationSeconds: -1"))[2],
            "delete pods a/p"
        );
        assert!(plan("{key: k, effect: NoSchedule}", "").is_empty());
    }
}

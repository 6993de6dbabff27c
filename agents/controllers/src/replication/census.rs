//! What the pods of a target amount to: by looking at each, or, where nothing is to be done but to tell of them, by what is
//! counted as they change.

use super::Target;
use crate::world::World;
use agent_runtime::kinds::{Labels, Pod};
use agent_runtime::selector::contains_all;
use serde::Deserialize;
use std::sync::Arc;

/// Numbers for a status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Pods that count: neither ended nor going.
    pub(super) active: usize,
    /// Those of them with all the labels of the template.
    pub(super) labelled: usize,
    /// Those of them that are ready.
    pub(super) ready: usize,
    /// Those of them that have been for long enough.
    pub(super) available: usize,
    /// Pods that are going and have not ended.
    pub(super) going: usize,
}

fn template_labels(target: &Target<'_>) -> Labels {
    let labels = target.template.pointer("/metadata/labels");
    labels
        .and_then(|labels| Labels::deserialize(labels).ok())
        .unwrap_or_default()
}

impl Census {
    /// Of the pods that count, and the number of those that are going.
    pub(super) fn of(target: &Target<'_>, pods: &[Arc<Pod>], going: usize, world: &World) -> Self {
        let template = template_labels(target);
        let mut found = Self {
            active: pods.len(),
            going,
            ..Self::default()
        };
        // One pass: there may be tens of thousands, and each look at one of them waits for memory.
        for pod in pods {
            found.labelled += usize::from(contains_all(&pod.metadata.labels, &template));
            found.ready += usize::from(pod.is_ready());
            found.available += usize::from(pod.is_available(target.min_ready_seconds, world.now));
        }
        found
    }

    /// The same without a look at any pod. None where there is more to do than to tell: a pod may have to be made, deleted, adopted
    /// or released, or becomes available by the passing of time alone.
    pub(super) fn at_a_glance(target: &Target<'_>, world: &World) -> Option<Self> {
        if target.min_ready_seconds != 0 {
            return None;
        }
        let (meta, pods) = (target.meta, &world.caches.pods);
        let template = template_labels(target);
        let (mut found, mut all, mut is_to_release) = (Self::default(), 0, false);
        let tally = &world.caches.pod_tally;
        tally.visit(&meta.namespace, &meta.uid, |labels, counts| {
            let active = counts.active();
            all += counts.all();
            is_to_release |= active > 0 && !target.selector.matches(labels);
            found.active += active;
            found.going += counts.going;
            found.ready += counts.ready;
            if contains_all(labels, &template) {
                found.labelled += active;
            }
        });
        found.available = found.ready;
        let wanted = usize::try_from(target.replicas).unwrap_or(0);
        let is_as_wanted = meta.is_deleting() || found.active == wanted;
        // More that name it: in another namespace, without its being their controller, or what is counted in a moment only.
        let is_all = || all == pods.count_owned_by(&meta.uid);
        let is_to_adopt =
            || pods.has_uncontrolled(&meta.namespace, |pod| target.selector.matches(&pod.labels));
        (is_as_wanted && !is_to_release && is_all() && !is_to_adopt()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::{by_pods, reconcile};
    use crate::testing::world_of;
    use agent_runtime::Key;
    use agent_runtime::kinds::ReplicaSet;
    use agent_runtime::resource_ref::REPLICA_SETS;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn set(replicas: i32, delay: i32, is_going: bool) -> Value {
        let going = is_going.then_some("2026-01-01T00:00:00Z");
        json!({
            "kind": "ReplicaSet",
            "metadata": {"name": "web", "namespace": "a", "uid": "rs", "generation": 2, "deletionTimestamp": going},
            "spec": {"replicas": replicas, "minReadySeconds": delay, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web", "tier": "x"}}, "spec": {"containers": []}}},
        })
    }

    /// A state of a pod by what is rolled for each of its sides; the first ones are the usual ones.
    fn pod(name: u8, incarnation: u8, sides: [u8; 5]) -> Value {
        let [place, owner, labels, going, state] = sides;
        let owner = match owner {
            0..6 => json!([{"kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]),
            6 => json!([{"kind": "ReplicaSet", "name": "web", "uid": "other", "controller": true}]),
            7 => json!([{"kind": "ReplicaSet", "name": "web", "uid": "rs"}]),
            8 => json!([{"kind": "DaemonSet", "name": "web", "uid": "rs", "controller": true}]),
            _ => json!([]),
        };
        let labels = match labels {
            0..7 => json!({"app": "web", "tier": "x"}),
            7..9 => json!({"app": "web"}),
            _ => json!({"app": "other"}),
        };
        let going = (going > 7).then_some("2026-01-01T00:00:00Z");
        let (phase, ready) = match state {
            0..5 => ("Running", "True"),
            5 => ("Running", "False"),
            6 => ("Pending", "False"),
            7 => ("Failed", "False"),
            8 => ("Failed", "True"),
            _ => ("Succeeded", "False"),
        };
        json!({
            "metadata": {"name": format!("p{name}"), "namespace": if place < 9 { "a" } else { "b" }, "uid": format!("p{name}-{incarnation}"),
                "labels": labels, "ownerReferences": owner, "deletionTimestamp": going},
            "spec": {},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T09:59:50Z"}]},
        })
    }

    /// What the short way decides, if it does, and what the long one does.
    fn both(set: &Value, world: &World) -> (Option<Vec<String>>, Vec<String>) {
        let set: ReplicaSet = serde_json::from_value(set.clone()).unwrap();
        let target = Target {
            resource: REPLICA_SETS,
            meta: &set.metadata,
            replicas: set.spec.replicas.unwrap_or(1).into(),
            min_ready_seconds: set.spec.min_ready_seconds.into(),
            selector: set.spec.selector.clone().unwrap(),
            template: &set.spec.template,
            status: &set.status,
            related_owners: &Vec::<String>::new,
            reports_terminating: true,
        };
        let short = Census::at_a_glance(&target, world).map(|_| reconcile(&target, world).lines());
        (short, by_pods(&target, world).lines())
    }

    #[test]
    fn what_is_only_to_be_told_is_decided_without_a_look_at_the_pods() {
        let world = world_of(&[]);
        let put = |name: u8, sides: [u8; 5]| {
            let pod = serde_json::from_value(pod(name, 0, sides)).unwrap();
            world.caches.pods.apply(pod);
        };
        for name in 0..3 {
            put(name, [0, 0, 0, 0, 0]);
        }
        put(3, [0, 0, 0, 0, 7]);
        put(4, [0, 0, 0, 9, 0]);
        let (short, long) = both(&set(3, 0, false), &world);
        assert_eq!(short, Some(long.clone()));
        assert!(
            long[0].contains("\"readyReplicas\":3")
                && long[0].contains("\"terminatingReplicas\":1"),
            "{long:#?}"
        );
        assert!(
            both(&set(4, 0, false), &world).0.is_none(),
            "one is missing"
        );
        assert!(both(&set(3, 9, false), &world).0.is_none(), "time counts");
        put(5, [0, 9, 0, 0, 0]);
        assert!(both(&set(3, 0, false), &world).0.is_none(), "one is free");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
        #[test]
        fn the_short_way_is_the_long_way(
            steps in prop::collection::vec((0..6u8, 0..2u8, any::<bool>(), prop::array::uniform5(0..10u8)), 1..40),
            delay in prop_oneof![4 => Just(0), 1 => Just(30)],
            is_going in prop::bool::weighted(0.2),
        ) {
            let world = world_of(&[]);
            for (name, incarnation, is_there, sides) in steps {
                let pod = pod(name, incarnation, sides);
                if is_there || name < 4 {
                    world.caches.pods.apply(serde_json::from_value(pod).unwrap());
                } else {
                    world.caches.pods.remove(&Key::new("a", &format!("p{name}")));
                }
                for replicas in 0..6 {
                    let (short, long) = both(&set(replicas, delay, is_going), &world);
                    prop_assert!(short.is_none_or(|short| short == long));
                }
            }
        }
    }
}

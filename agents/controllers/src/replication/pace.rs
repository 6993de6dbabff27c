//! How often an owner of many pods tells that some more of them are ready. Each time costs several writes, its own and those of
//! whoever follows it, and is out of date a moment later while hundreds become ready one after the other.

use super::Target;
use crate::world::World;
use agent_runtime::Key;
use agent_runtime::kinds::ReplicaSetStatus;
use std::time::Duration;
use tokio::time::Instant;

/// Who wants fewer pods tells of each change at once.
const MANY: i64 = 100;
/// Who wants more tells of the next pods when they are this part of those that were missing..
const PART: i64 = 4;
/// ..or when it has told nothing for so long. The last one that was missing is told at once.
const WITHIN: Duration = Duration::from_secs(1);

/// When a status was last decided on.
#[derive(Default)]
struct Told(Option<Instant>);

/// How long a new status can wait; none where it is to be written now.
pub(super) fn wait(target: &Target<'_>, new: &ReplicaSetStatus, world: &World) -> Option<Duration> {
    if target.replicas < MANY {
        return None;
    }
    let key = Key::of(target.meta);
    let Told(last) = world.take_kept(&key);
    let passed = last.map(|last| world.steady.saturating_duration_since(last));
    let left = passed.and_then(|passed| WITHIN.checked_sub(passed));
    let left = left.filter(|left| {
        !left.is_zero()
            && world.last_failure.is_none()
            && is_small_step(target.status, new, target.replicas)
    });
    let last = match left {
        Some(_) => last,
        None => Some(world.steady),
    };
    world.keep(&key, Told(last));
    left
}

/// Whether nothing has changed but that a few more of many pods are ready.
fn is_small_step(old: &ReplicaSetStatus, new: &ReplicaSetStatus, wanted: i64) -> bool {
    let is_small = |old: i32, new: i32| {
        let (old, new) = (i64::from(old), i64::from(new));
        new == old || (new > old && new < wanted && (new - old) * PART < wanted - old)
    };
    let otherwise = ReplicaSetStatus {
        ready_replicas: old.ready_replicas,
        available_replicas: old.available_replicas,
        ..new.clone()
    };
    otherwise == *old
        && is_small(old.ready_replicas, new.ready_replicas)
        && is_small(old.available_replicas, new.available_replicas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica_set::reconcile;
    use crate::testing::world_of;
    use serde_json::{Value, json};

    fn status(ready: i32, available: i32) -> ReplicaSetStatus {
        ReplicaSetStatus {
            replicas: 1000,
            fully_labeled_replicas: 1000,
            ready_replicas: ready,
            available_replicas: available,
            ..ReplicaSetStatus::default()
        }
    }

    #[test]
    fn only_a_few_more_of_many_can_wait() {
        for (old, new, expected) in [
            ((0, 0), (1, 1), true),
            ((0, 0), (249, 249), true),
            ((0, 0), (250, 250), false),
            ((900, 900), (924, 924), true),
            ((900, 900), (925, 925), false),
            ((996, 996), (997, 997), false),
            ((999, 999), (1000, 1000), false),
            ((10, 10), (9, 9), false),
            ((10, 10), (11, 9), false),
            ((10, 0), (11, 0), true),
            ((1000, 500), (1000, 501), true),
            ((999, 500), (1000, 501), false),
        ] {
            let (old, new) = (status(old.0, old.1), status(new.0, new.1));
            assert_eq!(is_small_step(&old, &new, 1000), expected, "{old:?} {new:?}");
            let generation = ReplicaSetStatus {
                observed_generation: 1,
                ..new
            };
            assert!(!is_small_step(&old, &generation, 1000));
        }
    }

    fn set(ready: i32) -> Value {
        json!({
            "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "a", "uid": "rs", "generation": 1},
            "spec": {"replicas": 100, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}},
            "status": {"replicas": 100, "fullyLabeledReplicas": 100, "readyReplicas": ready, "availableReplicas": ready,
                "terminatingReplicas": 0, "observedGeneration": 1},
        })
    }

    fn pod(number: usize, ready: &str) -> Value {
        json!({
            "kind": "Pod",
            "metadata": {"name": format!("p{number}"), "namespace": "a", "uid": format!("p{number}"), "labels": {"app": "web"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    #[test]
    fn the_next_few_are_told_together_and_bad_news_at_once() {
        let pods = (0..100).map(|number| pod(number, if number < 10 { "True" } else { "False" }));
        let documents: Vec<Value> = [set(9)].into_iter().chain(pods).collect();
        let mut world = world_of(&documents);
        let look = |world: &World| reconcile(&Key::new("a", "web"), world).lines();
        let put_set = |world: &World, ready: i32| {
            let set = serde_json::from_value(set(ready)).unwrap();
            world.caches.replica_sets.apply(set);
        };
        let put_pod = |world: &World, number: usize, ready: &str| {
            let pod = serde_json::from_value(pod(number, ready)).unwrap();
            world.caches.pods.apply(pod);
        };
        let is_told = |lines: Vec<String>, ready: u32| {
            let expected = format!("\"readyReplicas\":{ready}");
            assert!(
                lines.len() == 1 && lines[0].contains(&expected),
                "{lines:#?}"
            );
        };
        is_told(look(&world), 10);
        put_set(&world, 10);
        assert!(look(&world).is_empty());
        put_pod(&world, 10, "True");
        assert_eq!(look(&world), ["again in 1s"]);
        world.steady += Duration::from_millis(300);
        put_pod(&world, 11, "True");
        assert_eq!(look(&world), ["again in 700ms"]);
        world.steady += Duration::from_millis(700);
        is_told(look(&world), 12);
        put_set(&world, 12);
        put_pod(&world, 0, "False");
        is_told(look(&world), 11);
        put_set(&world, 11);
        (12..100).for_each(|number| put_pod(&world, number, "True"));
        put_pod(&world, 0, "True");
        is_told(look(&world), 100);
    }
}

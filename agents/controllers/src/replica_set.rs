//! ReplicaSets: keep the wanted number of pods of one template.

use crate::manager::{Body, Controller};
use crate::replication::{self, Target, counts_as_before, enqueue_owners};
use crate::world::{Caches, World};
use agent_runtime::kinds::{Pod, ReplicaSet};
use agent_runtime::plan::Plan;
use agent_runtime::resource_ref::REPLICA_SETS;
use agent_runtime::{Key, Queue};
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    help: "creates and deletes the pods of ReplicaSets",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .replica_sets
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let (sets, keys) = (caches.replica_sets.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        if counts_as_before(change) {
            return;
        }
        enqueue_owners(
            &keys,
            "ReplicaSet",
            [change.old.as_ref(), change.new.as_ref()],
            |pod: &Pod| {
                let (namespace, labels) = (&pod.metadata.namespace, &pod.metadata.labels);
                let sets = sets.might_select(namespace, labels).into_iter();
                sets.filter(|set| {
                    set.spec
                        .selector
                        .as_ref()
                        .is_some_and(|s| s.matches(&pod.metadata.labels))
                })
                .map(|set| Key::of(&set.metadata))
                .collect()
            },
        );
    });
}

pub(crate) fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(set) = world.caches.replica_sets.by_key(key) else {
        world.forget(key);
        return Plan::none();
    };
    // An absent or empty selector would select the whole namespace; the API refuses it.
    let Some(selector) = set.spec.selector.clone().filter(|s| !s.is_empty()) else {
        return Plan::none();
    };
    let target = Target {
        resource: REPLICA_SETS,
        meta: &set.metadata,
        replicas: set.spec.replicas.unwrap_or(1).into(),
        min_ready_seconds: set.spec.min_ready_seconds.into(),
        selector,
        template: &set.spec.template,
        status: &set.status,
        related_owners: &|| related(&set, world),
        reports_terminating: true,
    };
    replication::reconcile(&target, world)
}

/// The uids of the ReplicaSets that share this one's controller, itself included.
fn related(set: &ReplicaSet, world: &World) -> Vec<String> {
    match set.metadata.controller() {
        Some(owner) => world
            .caches
            .replica_sets
            .owned_by(&owner.uid)
            .iter()
            .map(|s| s.metadata.uid.clone())
            .collect(),
        None => vec![set.metadata.uid.clone()],
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;
    use agent_runtime::{ApiError, Op};
    use serde_json::json;

    const SET: &str = "
kind: ReplicaSet
metadata: {name: web, namespace: a, uid: rs, generation: 2}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
";

    fn pod(name: &str, owner: &str, labels: &str, status: &str) -> String {
        let owners = if owner.is_empty() {
            String::new()
        } else {
            format!(
                ", ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: {owner}, controller: true}}]"
            )
        };
        format!(
            "---\nkind: Pod\nmetadata: {{name: {name}, namespace: a, uid: {name}, labels: {{{labels}}}{owners}}}\nspec: {{nodeName: n}}\nstatus: {{{status}}}\n"
        )
    }

    fn plan(text: &str) -> Vec<String> {
        reconcile(&Key::new("a", "web"), &world(text)).lines()
    }

    const READY: &str = "phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z'}]";

    #[test]
    fn missing_pods_are_created_with_names_of_our_own() {
        let lines = plan(SET);
        assert!(
            lines[0].starts_with("patch replicasets.apps/status a/web"),
            "{lines:#?}"
        );
        assert!(
            lines[1].starts_with("create pods a/web-")
                && lines[3].starts_with("create pods a/web-"),
            "{lines:#?}"
        );
        assert!(
            lines[2].starts_with("  then event Normal a/web SuccessfulCreate: Created pod: web-"),
            "{lines:#?}"
        );
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn pods_that_are_created_together_differ_in_their_names() {
        let plan = reconcile(&Key::new("a", "web"), &world(SET));
        let creates = plan.ops.iter().find_map(|op| match op {
            Op::SlowStart(creates) => Some(creates),
            _ => None,
        });
        let mut names = Vec::new();
        for create in creates.unwrap() {
            let Op::Reported { op, .. } = create else {
                panic!("{create:?}")
            };
            let Op::CreateLike { name, object, .. } = &**op else {
                panic!("{op:?}")
            };
            let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs",
                "controller": true, "blockOwnerDeletion": true});
            let pod = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "generateName": "web-", "namespace": "a", "labels": {"app": "web"},
                    "ownerReferences": [owner]},
                "spec": {"containers": [{"name": "c", "image": "i"}]}});
            assert_eq!(object.text(name), pod.to_string());
            names.push(name);
        }
        assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    }

    #[test]
    fn the_surplus_goes_the_unready_first_and_the_ended_do_not_count() {
        let text = [
            SET,
            &pod("p1", "rs", "app: web", READY),
            &pod("p2", "rs", "app: web", "phase: Running"),
            &pod("p3", "rs", "app: web", READY),
            &pod("p4", "rs", "app: web", "phase: Failed"),
        ]
        .concat();
        let lines = plan(&text);
        assert_eq!(
            lines[0],
            "patch replicasets.apps/status a/web {\"status\":{\"availableReplicas\":2,\"conditions\":null,\"fullyLabeledReplicas\":3,\"observedGeneration\":2,\"readyReplicas\":2,\"replicas\":3,\"terminatingReplicas\":0}}"
        );
        assert_eq!(lines[1], "delete pods a/p2");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn orphans_are_adopted_after_a_live_look_and_strangers_released() {
        let text = [
            SET,
            &pod("orphan", "", "app: web", READY),
            &pod("stray", "rs", "app: other", READY),
            &pod("foreign", "someone", "app: web", READY),
        ]
        .concat();
        let lines = plan(&text);
        assert_eq!(
            lines[0],
            "patch pods a/stray {\"metadata\":{\"ownerReferences\":null}}"
        );
        assert_eq!(lines[1], "confirm replicasets.apps a/web");
        assert!(
            lines[2].starts_with("patch pods a/orphan") && lines[2].contains("\"uid\":\"rs\""),
            "{lines:#?}"
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_pod_is_adopted_once_and_only_in_its_namespace() {
        let half = pod("half", "rs", "app: web", READY).replace(", controller: true", "");
        let lines = plan(&[SET, &half].concat());
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(
            lines[1].matches("\"uid\":\"rs\"").count() == 1
                && lines[1].contains("\"controller\":true"),
            "{lines:#?}"
        );
        let elsewhere = pod("p1", "rs", "app: web", READY).replace("namespace: a", "namespace: b");
        let lines = plan(&[SET, &elsewhere].concat());
        assert!(!lines[0].contains("\"replicas\":1"), "{lines:#?}");
        assert_eq!(lines.len(), 5, "two are made: {lines:#?}");
    }

    #[test]
    fn a_server_that_cannot_answer_now_is_no_failure_of_replicas() {
        for code in [0, 429, 503, 504] {
            let mut world = world(SET);
            world.last_failure = Some(ApiError {
                code,
                ..ApiError::default()
            });
            let lines = reconcile(&Key::new("a", "web"), &world).lines();
            assert!(!lines[0].contains("FailedCreate"), "{lines:#?}");
        }
    }

    #[test]
    fn a_refused_create_becomes_a_condition() {
        let mut world = world(SET);
        world.last_failure = Some(ApiError {
            code: 403,
            reason: "Forbidden".into(),
            message: "exceeded quota".into(),
            ..ApiError::default()
        });
        let lines = reconcile(&Key::new("a", "web"), &world).lines();
        assert!(
            lines[0].contains("\"reason\":\"FailedCreate\"") && lines[0].contains("exceeded quota"),
            "{lines:#?}"
        );
    }

    #[test]
    fn pods_that_fail_as_fast_as_they_are_made_are_made_ever_more_slowly() {
        // All made at ten o'clock, which is now.
        let failed = |count: usize| {
            let pods = (0..count).map(|n| {
                pod(&format!("p{n}"), "rs", "app: web", "phase: Failed").replace(
                    "uid: p",
                    "creationTimestamp: '2026-01-01T10:00:00Z', uid: p",
                )
            });
            [SET.to_owned()].into_iter().chain(pods).collect::<String>()
        };
        let look = |text: &str, seconds: u64| {
            let mut world = world(text);
            world.now = crate::testing::after(seconds).wall;
            let plan = reconcile(&Key::new("a", "web"), &world);
            let made = plan
                .lines()
                .iter()
                .filter(|l| l.starts_with("create"))
                .count();
            (made, plan.again_in.map(|wait| wait.as_secs()))
        };
        assert_eq!(look(SET, 0), (2, None));
        assert_eq!(look(&failed(1), 0), (2, None), "no more than one of two");
        assert_eq!(look(&failed(2), 0), (0, Some(1)));
        assert_eq!(look(&failed(2), 1), (2, None));
        assert_eq!(look(&failed(8), 1), (0, Some(7)));
        assert_eq!(look(&failed(8), 8), (2, None));
        assert_eq!(look(&failed(100), 0), (0, Some(256)));
        assert_eq!(look(&failed(100), 256), (2, None));
        let ahead = failed(100).replace("2026-01-01T10", "2026-01-01T13");
        assert_eq!(look(&ahead, 0), (0, Some(256)), "of a clock that is ahead");
        let long_ago = failed(100).replace("2026-01-01T10", "2026-01-01T09");
        assert_eq!(look(&long_ago, 0), (2, None));
    }

    #[test]
    fn whoever_is_not_woken_by_a_change_would_have_done_the_same() {
        let set = SET.replace("spec:\n", "spec:\n  minReadySeconds: 30\n");
        let going = "deletionTimestamp: '2026-01-01T00:00:00Z'";
        let cheap = "annotations: {controller.kubernetes.io/pod-deletion-cost: '7'}";
        let ready = |status: &str, at: &str| {
            format!(
                "phase: Running, conditions: [{{type: Ready, status: '{status}', lastTransitionTime: '2026-01-01T{at}Z'}}]"
            )
        };
        let statuses = [
            "phase: Pending".to_owned(),
            "phase: Running".to_owned(),
            "phase: Running, podIP: 10.0.0.1, observedGeneration: 3".to_owned(),
            "phase: Running, containerStatuses: [{name: c, restartCount: 5}]".to_owned(),
            ready("True", "09:00:00"),
            ready("True", "09:59:50"),
            format!("{}, podIP: 10.0.0.1", ready("True", "09:59:50")),
            ready("False", "09:59:50"),
            "phase: Failed".to_owned(),
            "phase: Succeeded".to_owned(),
        ];
        let mut seen = Vec::new();
        for owner in ["rs", "someone", ""] {
            for labels in ["app: web", "app: web, tier: x", "app: other"] {
                for more in ["generation: 1", going, cheap] {
                    for (status, node) in statuses.iter().zip(["n", ""].iter().cycle()) {
                        let pod = pod("p", owner, labels, status)
                            .replace("uid: p,", &format!("uid: p, {more},"))
                            .replace("nodeName: n", &format!("nodeName: '{node}'"));
                        let world = world(&[set.as_str(), &pod].concat());
                        let lines = reconcile(&Key::new("a", "web"), &world).lines();
                        seen.push((world.caches.pods.get("a", "p"), lines));
                    }
                }
            }
        }
        let mut alike = 0;
        for (old, before) in &seen {
            for (new, after) in &seen {
                let (old, new) = (old.clone(), new.clone());
                let change = agent_runtime::Change { old, new };
                if counts_as_before(&change) {
                    assert_eq!(before, after, "{:?} -> {:?}", change.old, change.new);
                    alike += 1;
                }
            }
        }
        assert!(alike > seen.len(), "more than each with itself");
    }

    #[test]
    fn a_set_that_is_deleted_does_not_act() {
        let text = SET.replace(
            "generation: 2",
            "generation: 2, deletionTimestamp: '2026-01-01T00:00:00Z'",
        );
        assert_eq!(plan(&text).len(), 1);
    }
}

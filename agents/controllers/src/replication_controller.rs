//! ReplicationControllers: the older form of ReplicaSets.

use crate::manager::{Body, Controller};
use crate::replication::{self, Target, counts_as_before, enqueue_owners};
use crate::world::{Caches, World};
use agent_runtime::kinds::{LabelSelector, Pod};
use agent_runtime::plan::Plan;
use agent_runtime::resource_ref::REPLICATION_CONTROLLERS;
use agent_runtime::selector::contains_all;
use agent_runtime::{Key, Queue};
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replication-controller",
    help: "creates and deletes the pods of ReplicationControllers",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .replication_controllers
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let (all, keys) = (caches.replication_controllers.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        if counts_as_before(change) {
            return;
        }
        enqueue_owners(
            &keys,
            "ReplicationController",
            [change.old.as_ref(), change.new.as_ref()],
            |pod: &Pod| {
                let (namespace, labels) = (&pod.metadata.namespace, &pod.metadata.labels);
                let all = all.might_select(namespace, labels).into_iter();
                all.filter(|rc| {
                    !rc.spec.selector.is_empty()
                        && contains_all(&pod.metadata.labels, &rc.spec.selector)
                })
                .map(|rc| Key::of(&rc.metadata))
                .collect()
            },
        );
    });
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(rc) = world.caches.replication_controllers.by_key(key) else {
        world.forget(key);
        return Plan::none();
    };
    if rc.spec.selector.is_empty() {
        return Plan::none();
    }
    let target = Target {
        resource: REPLICATION_CONTROLLERS,
        meta: &rc.metadata,
        replicas: rc.spec.replicas.unwrap_or(1).into(),
        min_ready_seconds: rc.spec.min_ready_seconds.into(),
        selector: LabelSelector {
            match_labels: rc.spec.selector.clone(),
            ..LabelSelector::default()
        },
        template: &rc.spec.template,
        status: &rc.status,
        related_owners: &|| vec![rc.metadata.uid.clone()],
        reports_terminating: false,
    };
    replication::reconcile(&target, world)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn pods_are_made_for_the_controller() {
        let text = "
kind: ReplicationController
metadata: {name: web, namespace: a, uid: rc}
spec: {replicas: 1, selector: {app: web}, template: {metadata: {labels: {app: web}}, spec: {containers: []}}}
status: {replicas: 0}
";
        let plan = reconcile(&Key::new("a", "web"), &world(text));
        let lines = plan.lines();
        assert!(lines[0].starts_with("create pods a/web-"), "{lines:#?}");
        assert!(format!("{plan:?}").contains("ReplicationController"));
    }
}

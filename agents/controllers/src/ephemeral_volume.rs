//! Claims for the ephemeral volumes of pods. A pod owns its claims, so that they go with it.

use crate::manager::{Body, Controller};
use crate::pod_control::controller_reference;
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::{PersistentVolumeClaim, Pod, Volume};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PODS};
use agent_runtime::{EventType, Key, Queue};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "ephemeral_volume",
    help: "makes the claims of pods' ephemeral volumes",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.pods.subscribe(move |change| {
        // The volumes of a pod never change.
        if change.old.is_none() && ephemeral(change.latest()).next().is_some() {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
    let keys = queue.clone();
    caches.claims.subscribe(move |change| {
        let meta = &change.latest().metadata;
        let owner = meta.controller().filter(|owner| owner.kind == "Pod");
        if let (None, Some(owner)) = (&change.new, owner) {
            keys.add(Key::new(&meta.namespace, &owner.name));
        }
    });
}

fn ephemeral(pod: &Pod) -> impl Iterator<Item = (&Volume, &Value)> {
    let volumes = pod.spec.volumes.iter();
    volumes.filter_map(|volume| Some((volume, volume.ephemeral.as_ref()?)))
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(pod) = world.caches.pods.by_key(key) else {
        return Plan::none();
    };
    if pod.metadata.is_deleting() {
        return Plan::none();
    }
    let mut plan = Plan::none();
    for (volume, source) in ephemeral(&pod) {
        let name = format!("{}-{}", pod.metadata.name, volume.name);
        match world.caches.claims.get(&key.namespace, &name) {
            None => plan.push(create(&pod, &name, source, &volume.name)),
            Some(claim) => plan.ops.extend(conflict(&pod, &claim, &volume.name)),
        }
    }
    plan
}

fn failure(pod: &Pod, volume: &str, text: &str) -> Report {
    Report {
        regarding: reference(&PODS, &pod.metadata),
        kind: EventType::Warning,
        reason: "FailedBinding",
        message: format!("ephemeral volume {volume}: {text}"),
    }
}

fn create(pod: &Pod, name: &str, source: &Value, volume: &str) -> Op {
    let template = &source["volumeClaimTemplate"];
    let metadata = json!({
        "name": name, "namespace": pod.metadata.namespace,
        "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"],
        "ownerReferences": [controller_reference(&PODS, &pod.metadata)],
    });
    let body = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]});
    Op::Refused {
        op: Box::new(Op::create(
            &PERSISTENT_VOLUME_CLAIMS,
            &pod.metadata.namespace,
            body,
        )),
        failure: Box::new(failure(pod, volume, &format!("create PVC {name}: "))),
    }
}

/// Somebody else has a claim of that name: it must not be used, and the pod waits.
fn conflict(pod: &Pod, claim: &PersistentVolumeClaim, volume: &str) -> Option<Op> {
    if claim.metadata.is_controlled_by(&pod.metadata.uid) {
        return None;
    }
    let (claim, owner) = (&claim.metadata, &pod.metadata);
    let text = format!(
        "PVC {}/{} was not created for pod {}/{} (pod is not owner)",
        claim.namespace, claim.name, owner.namespace, owner.name
    );
    Some(Op::Event(Box::new(failure(pod, volume, &text))))
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const POD: &str = "kind: Pod\nmetadata: {name: p, namespace: a, uid: pu}\nspec: {volumes: [{name: plain, emptyDir: {}}, {name: v, ephemeral: {volumeClaimTemplate: {metadata: {labels: {l: x}}, spec: {accessModes: [ReadWriteOnce]}}}}]}\n";

    fn plan(text: &str) -> Plan {
        reconcile(&Key::new("a", "p"), &world(text))
    }

    #[test]
    fn a_pod_gets_the_claims_of_its_templates() {
        let made = plan(POD);
        assert_eq!(made.lines(), ["create persistentvolumeclaims a/p-v"]);
        let Op::Refused { op, failure } = &made.ops[0] else {
            panic!("{made:?}")
        };
        let Op::Create { body, .. } = &**op else {
            panic!("{made:?}")
        };
        assert_eq!(body["metadata"]["labels"]["l"], "x");
        assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "pu");
        assert_eq!(body["spec"]["accessModes"][0], "ReadWriteOnce");
        assert_eq!(failure.message, "ephemeral volume v: create PVC p-v: ");
        assert_eq!(plan(&format!("{POD}---\n{body}\n")), Plan::none());
        let going = POD.replace(
            "uid: pu",
            "uid: pu, deletionTimestamp: '2026-01-01T00:00:00Z'",
        );
        assert_eq!(plan(&going), Plan::none());
    }

    #[test]
    fn the_claim_of_somebody_else_is_not_used() {
        let claim = "---\nkind: PersistentVolumeClaim\nmetadata: {name: p-v, namespace: a}\n";
        assert_eq!(
            plan(&[POD, claim].concat()).lines(),
            [
                "event Warning a/p FailedBinding: ephemeral volume v: PVC a/p-v was not created for pod a/p (pod is not owner)"
            ]
        );
    }

    #[test]
    fn a_claim_that_is_deleted_wakes_its_pod() {
        let claim = "---\nkind: PersistentVolumeClaim\nmetadata: {name: p-v, namespace: a, ownerReferences: [{kind: Pod, name: p, uid: pu, controller: true}]}\n";
        let world = world(claim);
        let queue = Arc::new(Queue::new());
        wire(&world.caches, &queue);
        assert!(queue.is_empty());
        world.caches.claims.remove(&Key::new("a", "p-v"));
        assert_eq!(queue.len(), 1);
    }
}

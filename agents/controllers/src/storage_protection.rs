//! Claims and volumes that are in use are not deleted: they keep a finalizer, which goes when nobody uses them any more.
//! Admission puts it on new ones; here it is put on those that lack it, too.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::{Mention, ObjectMeta};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, ResourceRef};
use agent_runtime::{Key, Queue};
use serde_json::json;
use std::sync::Arc;

pub(crate) const CLAIMS: Controller = Controller {
    name: "persistentvolumeclaim-protection-controller",
    help: "lets claims go when no pod uses them",
    workers: 1,
    body: Body::Keyed {
        wire: wire_claims,
        reconcile: reconcile_claim,
    },
};

pub(crate) const VOLUMES: Controller = Controller {
    name: "persistentvolume-protection-controller",
    help: "lets volumes go when no claim is bound to them",
    workers: 1,
    body: Body::Keyed {
        wire: wire_volumes,
        reconcile: reconcile_volume,
    },
};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

fn wire_claims(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .claims
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let keys = queue.clone();
    caches.pods.subscribe(move |change| {
        // Only a pod that goes, or loses its node, can be the last one.
        if change
            .new
            .as_ref()
            .is_none_or(|pod| pod.spec.node_name.is_empty())
        {
            let pod = change.latest();
            for claim in pod.volume_claims() {
                keys.add(Key::new(&pod.metadata.namespace, &claim));
            }
        }
    });
}

fn wire_volumes(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .volumes
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
}

fn reconcile_claim(key: &Key, world: &World) -> Plan {
    let Some(claim) = world.caches.claims.by_key(key) else {
        return Plan::none();
    };
    let meta = &claim.metadata;
    // A pod without a node is not started any more once the claim is being deleted.
    let in_use = || {
        let users = world.caches.pods.mentioning(&Mention::Claim(key.clone()));
        users.iter().any(|pod| !pod.spec.node_name.is_empty())
    };
    protect(&PERSISTENT_VOLUME_CLAIMS, meta, CLAIM_FINALIZER, in_use)
}

fn reconcile_volume(key: &Key, world: &World) -> Plan {
    let Some(volume) = world.caches.volumes.by_key(key) else {
        return Plan::none();
    };
    let in_use = || volume.status.phase == "Bound";
    protect(
        &PERSISTENT_VOLUMES,
        &volume.metadata,
        VOLUME_FINALIZER,
        in_use,
    )
}

/// Puts the finalizer on what lives, and takes it from what is to go and nobody uses.
fn protect(
    resource: &ResourceRef,
    meta: &ObjectMeta,
    finalizer: &str,
    in_use: impl FnOnce() -> bool,
) -> Plan {
    let is_protected = meta.finalizers.iter().any(|name| name == finalizer);
    let mut finalizers: Vec<&str> = meta.finalizers.iter().map(String::as_str).collect();
    match (meta.is_deleting(), is_protected) {
        (true, true) if !in_use() => finalizers.retain(|name| *name != finalizer),
        (false, false) => finalizers.push(finalizer),
        _ => return Plan::none(),
    }
    // The version makes sure that no finalizer of somebody else is lost.
    let body =
        json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": finalizers}});
    Plan::of(vec![Op::merge(resource, meta, body)])
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const GOING: &str = "kind: PersistentVolumeClaim\nmetadata: {name: c, namespace: a, resourceVersion: '7', deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [x/y, kubernetes.io/pvc-protection]}\n";

    fn claim(text: &str) -> Vec<String> {
        reconcile_claim(&Key::new("a", "c"), &world(text)).lines()
    }

    #[test]
    fn a_claim_stays_while_a_pod_on_a_node_mounts_it() {
        let freed = claim(GOING);
        assert_eq!(freed.len(), 1);
        assert!(
            freed[0].contains("x/y") && !freed[0].contains("pvc-protection"),
            "{freed:?}"
        );
        let pod = |node: &str, volume: &str| {
            format!(
                "{GOING}---\nkind: Pod\nmetadata: {{name: p, namespace: a}}\nspec: {{nodeName: '{node}', volumes: [{volume}]}}\n"
            )
        };
        let mounting = "{name: v, persistentVolumeClaim: {claimName: c}}";
        assert!(claim(&pod("n", mounting)).is_empty());
        assert_eq!(claim(&pod("", mounting)).len(), 1);
        let other = "{name: v, persistentVolumeClaim: {claimName: d}}";
        assert_eq!(claim(&pod("n", other)).len(), 1);
        let own = pod("n", "{name: v, ephemeral: {}}").replace("name: c,", "name: p-v,");
        let plan = reconcile_claim(&Key::new("a", "p-v"), &world(&own));
        assert!(plan.lines().is_empty());
    }

    #[test]
    fn what_lives_is_protected() {
        let bare = "kind: PersistentVolumeClaim\nmetadata: {name: c, namespace: a}\n";
        assert!(claim(bare)[0].contains("pvc-protection"));
        assert!(claim("kind: PersistentVolumeClaim\nmetadata: {name: c, namespace: a, finalizers: [kubernetes.io/pvc-protection]}\n").is_empty());
    }

    #[test]
    fn a_volume_stays_while_it_is_bound() {
        let volume = |phase: &str| {
            let text = format!(
                "kind: PersistentVolume\nmetadata: {{name: v, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [kubernetes.io/pv-protection]}}\nstatus: {{phase: {phase}}}\n"
            );
            reconcile_volume(&Key::new("", "v"), &world(&text))
                .lines()
                .len()
        };
        assert_eq!((volume("Bound"), volume("Released")), (0, 1));
    }
}

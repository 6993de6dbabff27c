//! The storage class of the directories of nodes, which a cluster has from its beginning: made when controllers start, and
//! left alone after that. Who does not want it as the default says so in its annotation, and it stays.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::local_path::PROVISIONER;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::STORAGE_CLASSES;
use agent_runtime::{Key, Queue};
use serde_json::json;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "local-path-class-controller",
    help: "makes the storage class local-path where there is none",
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

const NAME: &str = "local-path";

fn wire(_: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    queue.add(Key::new("", NAME));
}

fn reconcile(key: &Key, world: &World) -> Plan {
    if world.caches.storage_classes.by_key(key).is_some() {
        return Plan::none();
    }
    let is_default = super::class::default(world).is_none();
    let annotations = json!({super::class::DEFAULT: is_default.to_string()});
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": NAME, "annotations": annotations},
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    });
    Plan::of(vec![Op::create(&STORAGE_CLASSES, "", class)])
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn it_is_made_once_and_takes_nobodys_place() {
        let made = |text: &str| {
            let plan = reconcile(&Key::new("", NAME), &world(text));
            let Some(Op::Create { body, .. }) = plan.ops.first() else {
                return "nothing".to_owned();
            };
            body["metadata"]["annotations"][super::super::class::DEFAULT].to_string()
        };
        assert_eq!(made(""), "\"true\"");
        let other = "kind: StorageClass\nmetadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}\n";
        assert_eq!(made(other), "\"false\"");
        assert_eq!(
            made("kind: StorageClass\nmetadata: {name: local-path}\n"),
            "nothing"
        );
    }
}

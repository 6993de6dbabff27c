//! Every namespace has a service account named `default`.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::SERVICE_ACCOUNTS;
use agent_runtime::{Key, Queue};
use serde_json::json;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "serviceaccount-controller",
    help: "keeps the default service account of every namespace",
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

const NAME: &str = "default";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .namespaces
        .subscribe(move |change| keys.add(Key::new("", &change.latest().metadata.name)));
    let keys = queue.clone();
    caches.service_accounts.subscribe(move |change| {
        if change.new.is_none() && change.latest().metadata.name == NAME {
            keys.add(Key::new("", &change.latest().metadata.namespace));
        }
    });
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(namespace) = world.caches.namespaces.by_key(key) else {
        return Plan::none();
    };
    let name = &namespace.metadata.name;
    if namespace.metadata.is_deleting()
        || namespace.status.phase == "Terminating"
        || world.caches.service_accounts.get(name, NAME).is_some()
    {
        return Plan::none();
    }
    let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": name}});
    Plan::of(vec![Op::create(&SERVICE_ACCOUNTS, name, body)])
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn only_a_living_namespace_without_one_gets_one() {
        let plan = |text: &str| reconcile(&Key::new("", "a"), &world(text)).lines();
        assert_eq!(
            plan("kind: Namespace\nmetadata: {name: a}\n"),
            ["create serviceaccounts a/default"]
        );
        assert!(plan("kind: Namespace\nmetadata: {name: a}\n---\nkind: ServiceAccount\nmetadata: {name: default, namespace: a}\n").is_empty());
        assert!(
            plan(
                "kind: Namespace\nmetadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}\n"
            )
            .is_empty()
        );
        assert!(plan("").is_empty());
    }
}

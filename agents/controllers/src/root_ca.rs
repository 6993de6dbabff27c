//! Every namespace has a ConfigMap with the cluster's CA, which pods mount to verify the API server.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::CONFIG_MAPS;
use agent_runtime::{Key, Queue};
use serde_json::json;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "root-ca-certificate-publisher-controller",
    help: "keeps the ConfigMap kube-root-ca.crt of every namespace",
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

/// Name of the ConfigMap.
pub(crate) const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .namespaces
        .subscribe(move |change| keys.add(Key::new("", &change.latest().metadata.name)));
    let keys = queue.clone();
    caches
        .root_ca_config_maps
        .subscribe(move |change| keys.add(Key::new("", &change.latest().metadata.namespace)));
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(namespace) = world.caches.namespaces.by_key(key) else {
        return Plan::none();
    };
    let name = &namespace.metadata.name;
    if namespace.metadata.is_deleting()
        || namespace.status.phase == "Terminating"
        || world.cluster_ca_pem.is_empty()
    {
        return Plan::none();
    }
    let pem = &*world.cluster_ca_pem;
    match world.caches.root_ca_config_maps.get(name, NAME) {
        None => {
            let metadata = json!({"name": NAME, "namespace": name, "annotations": {DESCRIPTION_KEY: DESCRIPTION}});
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": pem}});
            Plan::of(vec![Op::create(&CONFIG_MAPS, name, body)])
        }
        Some(map)
            if map.data.len() != 1 || map.data.get("ca.crt").map(String::as_str) != Some(pem) =>
        {
            // Every other key is taken away: clients trust what stands here.
            let mut data: serde_json::Map<_, _> = map
                .data
                .keys()
                .map(|key| (key.clone(), serde_json::Value::Null))
                .collect();
            data.insert("ca.crt".into(), pem.into());
            Plan::of(vec![Op::merge(
                &CONFIG_MAPS,
                &map.metadata,
                json!({"data": data}),
            )])
        }
        Some(_) => Plan::none(),
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn the_map_is_made_and_repaired() {
        let plan = |text: &str| reconcile(&Key::new("", "a"), &world(text)).lines();
        let namespace = "kind: Namespace\nmetadata: {name: a}\n";
        let map = |data: &str| {
            format!(
                "{namespace}---\nkind: ConfigMap\nmetadata: {{name: kube-root-ca.crt, namespace: a}}\ndata: {{{data}}}\n"
            )
        };
        assert_eq!(plan(namespace), ["create configmaps a/kube-root-ca.crt"]);
        assert!(plan(&map("ca.crt: CA")).is_empty());
        assert_eq!(
            plan(&map("ca.crt: evil, more: x")),
            ["patch configmaps a/kube-root-ca.crt {\"data\":{\"ca.crt\":\"CA\",\"more\":null}}"]
        );
    }
}

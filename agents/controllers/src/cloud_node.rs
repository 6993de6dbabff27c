//! What a cloud says of a node that waits for it (`kubelet --cloud-provider=external`): who it is, and that it may have pods.
//! The cloud is this cluster itself, so a node is what it says it is.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::{Node, Taint};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::NODES;
use agent_runtime::{EventType, Key, Queue};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "cloud-node-controller",
    help: "initializes nodes that wait for a cloud",
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Where the agent of a node says which addresses it was given.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.nodes.subscribe(move |change| {
        if change.new.as_ref().is_some_and(|node| waits(node)) {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
}

fn waits(node: &Node) -> bool {
    node.spec
        .taints
        .iter()
        .any(|taint| taint.key == UNINITIALIZED)
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let node = world.caches.nodes.by_key(key);
    let Some(node) = node.filter(|node| waits(node) && world.options.local_cloud) else {
        return Plan::none();
    };
    let mut plan = Plan::none();
    let addresses = addresses(&node);
    if let Some(addresses) = addresses {
        // Its own write, and the taint goes with the next look: pods come to a node whose address is known.
        plan.push(Op::status(
            &NODES,
            &node.metadata,
            json!({ "addresses": addresses }),
        ));
        return plan;
    }
    let taints: Vec<&Taint> = node
        .spec
        .taints
        .iter()
        .filter(|taint| taint.key != UNINITIALIZED)
        .collect();
    let mut spec = json!({"taints": if taints.is_empty() { Value::Null } else { json!(taints) }});
    if node.spec.provider_id.is_empty() {
        spec["providerID"] = format!("kontiki://{}", node.metadata.name).into();
    }
    let metadata =
        json!({"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version});
    let body = json!({"metadata": metadata, "spec": spec});
    plan.push(Op::merge(&NODES, &node.metadata, body));
    plan.push(Op::Event(Box::new(Report {
        regarding: reference(&NODES, &node.metadata),
        kind: EventType::Normal,
        reason: "Synced",
        message: "Node synced successfully".into(),
    })));
    plan
}

/// The addresses of a node that has none, by what its agent was told.
fn addresses(node: &Node) -> Option<Vec<Value>> {
    if !node.status.addresses.is_empty() {
        return None;
    }
    let provided = node.metadata.annotations.get(PROVIDED_IP)?;
    let ips = provided
        .split(',')
        .filter_map(|text| text.trim().parse::<std::net::IpAddr>().ok());
    let mut all: Vec<Value> = ips
        .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
        .collect();
    if all.is_empty() {
        return None;
    }
    all.push(json!({"type": "Hostname", "address": node.metadata.name}));
    Some(all)
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;
    use agent_runtime::ControllerOptions;

    fn lines(local_cloud: bool, text: &str) -> Vec<String> {
        let options = ControllerOptions {
            local_cloud,
            ..ControllerOptions::default()
        };
        let world = world(text).with_options(Arc::new(options));
        reconcile(&Key::new("", "n"), &world).lines()
    }

    const TAINTS: &str = "taints: [{key: a, effect: NoSchedule}, {key: node.cloudprovider.kubernetes.io/uninitialized, value: 'true', effect: NoSchedule}]";

    #[test]
    fn a_node_that_waits_is_told_who_it_is_and_let_go() {
        let known = format!(
            "kind: Node\nmetadata: {{name: n}}\nspec: {{{TAINTS}}}\nstatus: {{addresses: [{{type: InternalIP, address: 10.0.0.1}}]}}\n"
        );
        let done = [
            r#"patch nodes n {"spec":{"providerID":"kontiki://n","taints":[{"effect":"NoSchedule","key":"a"}]}}"#,
            "event Normal n Synced: Node synced successfully",
        ];
        assert_eq!(lines(true, &known), done);
        assert!(lines(false, &known).is_empty(), "the cluster is no cloud");
        let own = known.replace("spec: {", "spec: {providerID: 'aws://1', ");
        assert!(!lines(true, &own)[0].contains("providerID"));
        let free = known.replace("node.cloudprovider.kubernetes.io/uninitialized", "b");
        assert!(lines(true, &free).is_empty());
    }

    #[test]
    fn a_node_without_addresses_gets_those_that_its_agent_was_told() {
        let node = |provided: &str| {
            format!(
                "kind: Node\nmetadata: {{name: n, annotations: {{alpha.kubernetes.io/provided-node-ip: '{provided}'}}}}\nspec: {{{TAINTS}}}\n"
            )
        };
        let told = lines(true, &node("10.0.0.1,fd00::1"));
        assert_eq!(
            told,
            [
                r#"patch nodes/status n {"status":{"addresses":[{"address":"10.0.0.1","type":"InternalIP"},{"address":"fd00::1","type":"InternalIP"},{"address":"n","type":"Hostname"}]}}"#
            ]
        );
        // What nobody knows does not hold it for ever.
        assert!(lines(true, &node("nonsense"))[0].contains("providerID"));
    }
}

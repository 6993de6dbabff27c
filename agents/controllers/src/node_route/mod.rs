//! Routes to the pods of nodes, where the nodes themselves are the cloud: this keeps the table by which their agents route, and says
//! in a node's condition `NetworkUnavailable` what its agent says of it.
//!
//! Kubernetes' loop asks a cloud for its routes every ten seconds and goes through all nodes. Here the table is an object (see
//! [`agent_runtime::pod_routes`]), so that both sides are told of what changes, and nodes whose agents do not take part
//! (hollow ones, and all others unless they are told to) cost a look at an annotation and no write.

use crate::manager::{Body, Controller};
use crate::patches;
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::{Condition, ConfigMap, Labels, Node};
use agent_runtime::plan::{Op, Plan, Report as Told};
use agent_runtime::pod_routes::{self, NAMESPACE, REPORT, ROLE, Report, Route, TABLE};
use agent_runtime::resource_ref::{CONFIG_MAPS, NODES, ROLE_BINDINGS, ROLES};
use agent_runtime::timestamp;
use agent_runtime::{Cidr, EventType, Key, NodeRanges, Queue};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-route-controller",
    help: "keeps the table of routes to pods, and says which nodes have them",
    workers: 8,
    body: Body::Keyed { wire, reconcile },
};

const CONDITION: &str = "NetworkUnavailable";
const CREATED: (&str, &str) = ("RouteCreated", "RouteController created a route");
const NOT_CREATED: (&str, &str) = ("NoRouteCreated", "RouteController failed to create a route");

fn table_key() -> Key {
    Key::new(NAMESPACE, TABLE)
}

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.nodes.subscribe(move |change| {
        let concerned = |side: &Option<Arc<Node>>| side.clone().filter(|node| concerns(node));
        let (old, new) = (concerned(&change.old), concerned(&change.new));
        if old.is_none() && new.is_none() {
            return;
        }
        if old.as_deref().map(place) != new.as_deref().map(place) {
            keys.add(table_key());
        }
        if old.as_deref().map(facts) != new.as_deref().map(facts) {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
    let keys = queue.clone();
    caches.route_tables.subscribe(move |change| {
        if change.latest().metadata.namespace != NAMESPACE {
            return;
        }
        keys.add(table_key());
        let data = |side: &Option<Arc<ConfigMap>>| {
            let data = side.as_ref().map(|table| table.data.clone());
            data.unwrap_or_default()
        };
        for name in changed(&data(&change.old), &data(&change.new)) {
            keys.add(Key::new("", &name));
        }
    });
    for rights in [&caches.route_roles, &caches.route_role_bindings] {
        let keys = queue.clone();
        rights.subscribe(move |change| {
            if change.new.is_none() && change.latest().metadata.namespace == NAMESPACE {
                keys.add(table_key());
            }
        });
    }
}

/// The nodes of which two tables say something else.
fn changed(old: &Labels, new: &Labels) -> Vec<String> {
    let names = old.keys().chain(new.keys());
    let is_other = |name: &&String| old.get(*name) != new.get(*name);
    names.filter(is_other).cloned().collect()
}

/// Its agent takes part, or did.
fn concerns(node: &Node) -> bool {
    node.metadata.annotations.contains_key(REPORT) || has_our_condition(node)
}

fn has_our_condition(node: &Node) -> bool {
    let reasons = [CREATED.0, NOT_CREATED.0];
    node.condition(CONDITION)
        .is_some_and(|condition| reasons.contains(&condition.reason.as_str()))
}

/// What a node's place in the table comes of.
type Place<'a> = (bool, &'a [String], Vec<&'a str>);

fn place(node: &Node) -> Place<'_> {
    let takes_part = node.metadata.annotations.contains_key(REPORT);
    let addresses = node.status.addresses.iter();
    let internal = addresses.filter(|address| address.kind == "InternalIP");
    let internal = internal.map(|address| address.address.as_str());
    (takes_part, &node.spec.pod_cidrs, internal.collect())
}

/// What its condition comes of, and the condition.
fn facts(node: &Node) -> (Place<'_>, Option<&String>, Option<&str>) {
    let report = node.metadata.annotations.get(REPORT);
    let condition = node.condition(CONDITION);
    let condition = condition.map(|condition| condition.status.as_str());
    (place(node), report, condition)
}

fn reconcile(key: &Key, world: &World) -> Plan {
    if !world.options.local_cloud {
        let node = world.caches.nodes.by_key(key);
        let left = node.filter(|node| !node.metadata.is_deleting() && is_left_over(node, world));
        return left.map_or_else(Plan::none, |node| take_back(&node));
    }
    if *key == table_key() {
        return table(world);
    }
    match world.caches.nodes.by_key(key) {
        Some(node) if !node.metadata.is_deleting() => condition(&node, world),
        _ => Plan::none(),
    }
}

/// Whether a condition of this node was written here while this was the cloud: another cloud gives the same reasons, but has
/// neither the report nor the table.
fn is_left_over(node: &Node, world: &World) -> bool {
    let table = world.caches.route_tables.get(NAMESPACE, TABLE);
    let is_entered = table.is_some_and(|table| table.data.contains_key(&node.metadata.name));
    is_entered || node.metadata.annotations.contains_key(REPORT)
}

/// The routes to a node's pods, and what is wrong where there is none, or a range that is no node's. One family of addresses is
/// enough: agents tell one address, and the node's range of the other family would keep its pods away for ever.
fn routes(node: &Node, cluster: Option<&NodeRanges>) -> (Vec<Route>, Option<String>) {
    let (_, ranges, addresses) = place(node);
    let addresses: Vec<IpAddr> = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
    let (mut routes, mut problem, mut unreachable) = (Vec::new(), None, None);
    for text in ranges {
        let range = text.parse::<Cidr>().ok();
        // An agent may make its own node with any range: it must not draw what is not for pods.
        let is_ours = |range: &Cidr| {
            cluster.is_none_or(|cluster| {
                let mut all = cluster.ranges().iter();
                all.any(|(whole, _)| whole.contains(range))
            })
        };
        let Some(range) = range.filter(is_ours) else {
            problem.get_or_insert(format!("{text} is not a range of the cluster's pods"));
            continue;
        };
        let mut fitting = addresses.iter();
        match fitting.find(|address| address.is_ipv6() == range.is_v6()) {
            Some(via) => routes.push(Route { range, via: *via }),
            None => {
                _ = unreachable.get_or_insert(format!("the node has no address to reach {text} at"))
            }
        }
    }
    let problem = problem.or(unreachable.filter(|_| routes.is_empty()));
    (routes, problem)
}

/// The table. Of two nodes with addresses in common the older one has them: who comes later must not draw what is for another.
fn entries<'a>(
    nodes: impl Iterator<Item = &'a Arc<Node>>,
    cluster: Option<&NodeRanges>,
) -> BTreeMap<String, String> {
    let mut nodes: Vec<&Node> = nodes.map(|node| &**node).collect();
    nodes.sort_by(|a, b| {
        let (a, b) = (&a.metadata, &b.metadata);
        let made = a.creation_timestamp.cmp(&b.creation_timestamp);
        made.then_with(|| a.name.cmp(&b.name))
    });
    let mut given = BTreeSet::new();
    let mut table = BTreeMap::new();
    for node in nodes {
        let mut routes = routes(node, cluster).0;
        routes.retain(|route| give(&mut given, route.range));
        if !routes.is_empty() {
            table.insert(node.metadata.name.clone(), pod_routes::text(&routes));
        }
    }
    table
}

/// Gives the range away, if no part of it was given before. What was given has nothing in common, so that only the nearest count.
fn give(given: &mut BTreeSet<Cidr>, range: Cidr) -> bool {
    let before = given.range(..=range).next_back();
    let after = given.range(range..).next();
    let is_free = !before
        .into_iter()
        .chain(after)
        .any(|other| other.overlaps(&range));
    is_free && given.insert(range)
}

/// Makes the table what the nodes say, with the right to read it. It takes a look at all of them, and only when the place of
/// one has changed, or when somebody has taken away the table or the right.
fn table(world: &World) -> Plan {
    let cluster = world.options.node_ranges.as_ref();
    let nodes = world.caches.nodes.list();
    let wanted = entries(nodes.iter().filter(|node| place(node).0), cluster);
    let table = world.caches.route_tables.get(NAMESPACE, TABLE);
    let write = match &table {
        None if wanted.is_empty() => return Plan::none(),
        None => Some(make(&wanted)),
        Some(table) => update(table, wanted),
    };
    // What of it is there already, unknown to the caches, is no hindrance: the next look finds it.
    let ops: Vec<Op> = rights(world).into_iter().chain(write).collect();
    match ops.is_empty() {
        true => Plan::none(),
        false => Plan::of(vec![Op::Parallel(ops)]),
    }
}

fn make(wanted: &BTreeMap<String, String>) -> Op {
    let table = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": TABLE, "namespace": NAMESPACE}, "data": wanted,
    });
    Op::create(&CONFIG_MAPS, NAMESPACE, table)
}

/// One write of what is different.
fn update(table: &ConfigMap, wanted: BTreeMap<String, String>) -> Option<Op> {
    let gone = table.data.keys().filter(|name| !wanted.contains_key(*name));
    let mut data: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
    let news = wanted
        .into_iter()
        .filter(|(name, text)| table.data.get(name) != Some(text));
    data.extend(news.map(|(name, text)| (name, text.into())));
    if data.is_empty() {
        return None;
    }
    let meta = &table.metadata;
    let metadata = json!({"uid": meta.uid, "resourceVersion": meta.resource_version});
    let body = json!({"metadata": metadata, "data": data});
    Some(Op::merge(&CONFIG_MAPS, meta, body))
}

/// What is missing of the right of nodes to read the table.
fn rights(world: &World) -> Vec<Op> {
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": ROLE, "namespace": NAMESPACE});
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [TABLE], "verbs": ["get", "list", "watch"]});
    let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": [rule]});
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ROLE},
        "subjects": [{"apiGroup": rbac, "kind": "Group", "name": "system:nodes"}],
    });
    let caches = &world.caches;
    let both = [
        (&caches.route_roles, ROLES, role),
        (&caches.route_role_bindings, ROLE_BINDINGS, binding),
    ];
    let missing = both
        .into_iter()
        .filter(|(cache, ..)| cache.get(NAMESPACE, ROLE).is_none());
    missing
        .map(|(_, resource, body)| Op::create(&resource, NAMESPACE, body))
        .collect()
}

/// What is to be said of a node.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Created,
    Failed(String),
    /// Nothing new: it is as it was, and without a route where nothing was said before.
    Pending,
}

fn judge(report: Report, problem: Option<String>, is_entered: bool) -> Verdict {
    match (report, problem) {
        (Report::Failed(why), _) | (_, Some(why)) => Verdict::Failed(why),
        (Report::Programmed, None) if is_entered => Verdict::Created,
        (Report::Programmed | Report::Pending, None) => Verdict::Pending,
    }
}

fn condition(node: &Node, world: &World) -> Plan {
    let Some(report) = node.metadata.annotations.get(REPORT) else {
        return take_back(node);
    };
    if node.spec.pod_cidrs.is_empty() {
        return Plan::none();
    }
    let name = &node.metadata.name;
    let (routes, problem) = routes(node, world.options.node_ranges.as_ref());
    let table = world.caches.route_tables.get(NAMESPACE, TABLE);
    let entered = table.as_ref().and_then(|table| table.data.get(name));
    let is_entered = entered == Some(&pod_routes::text(&routes));
    let present = node.condition(CONDITION).map(|it| it.status.as_str());
    let mut plan = Plan::none();
    let is_created = match judge(Report::of(report), problem, is_entered) {
        Verdict::Created => true,
        Verdict::Pending if present.is_some() => return plan,
        Verdict::Pending => false,
        Verdict::Failed(why) => {
            plan.push(failure(node, &why));
            false
        }
    };
    if present != Some(if is_created { "False" } else { "True" }) {
        plan.ops.insert(0, status(node, is_created, world));
    }
    plan
}

fn status(node: &Node, is_created: bool, world: &World) -> Op {
    let (status, (reason, message)) = match is_created {
        true => ("False", CREATED),
        false => ("True", NOT_CREATED),
    };
    let condition = Condition {
        last_heartbeat_time: Some(timestamp::time(world.now)),
        ..patches::condition(CONDITION, status, reason, message, world.now)
    };
    patch(node, json!(condition))
}

/// The agent takes no part any more: what was said of its node holds no longer.
fn take_back(node: &Node) -> Plan {
    match has_our_condition(node) {
        true => Plan::of(vec![patch(
            node,
            json!({"type": CONDITION, "$patch": "delete"}),
        )]),
        false => Plan::none(),
    }
}

/// One condition, beside those that the agent writes.
fn patch(node: &Node, condition: Value) -> Op {
    patches::one_condition(&NODES, &node.metadata, &condition)
}

fn failure(node: &Node, why: &str) -> Op {
    let (name, uid) = (&node.metadata.name, &node.metadata.uid);
    let ranges = node.spec.pod_cidrs.join(",");
    Op::Event(Box::new(Told {
        regarding: reference(&NODES, &node.metadata),
        kind: EventType::Warning,
        reason: "FailedToCreateRoute",
        message: format!("Could not create route {uid} {ranges} for node {name}: {why}"),
    }))
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;

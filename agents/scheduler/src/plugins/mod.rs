//! The ordered lists of what decides where a pod goes. A plugin is one file and one line here.
//!
//! A *gate* keeps a pod out of the queue. A *filter* looks once at the pod and the whole cluster and gives back a
//! check for single nodes; the first filter that refuses a node names its reason. A *score* values all nodes that
//! passed, from 0 to [`SCORE_MAX`], and counts with its weight. A *sort* says which of two waiting pods is next. All are
//! plain functions of the pod and the snapshot.
//!
//! Not every one of them works where nothing is said: which do is the table in `config::profile`.

mod balanced_allocation;
mod change;
mod data_locality;
pub(crate) mod dynamic_resources;
mod earliest_deadline;
mod fair_share;
mod image_locality;
pub(crate) mod inter_pod_affinity;
pub(crate) mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
pub(crate) mod pod_topology_spread;
pub(crate) mod pressure_aware;
mod priority_sort;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

pub(crate) use crate::config::args::Args;
use crate::devices::Devices;
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::volume::bind::Hopeless;
use std::borrow::Cow;
use std::collections::BTreeSet;

pub use change::{Change, ChangeKind, DeviceChange, Near, VolumeChange};

/// The best that a score plugin can give.
pub const SCORE_MAX: i64 = 100;

/// Why a node does not take the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// As they stand in the event, one or more.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether it could change when pods leave the node; if not, preemption is not tried.
    pub resolvable: bool,
}

impl Rejection {
    /// A reason that pods leaving the node may remove.
    pub fn resolvable(reason: &'static str) -> Rejection {
        Rejection {
            reasons: vec![reason.into()],
            resolvable: true,
        }
    }

    /// A reason that stays, whoever leaves.
    pub fn lasting(reason: &'static str) -> Rejection {
        Rejection {
            reasons: vec![reason.into()],
            resolvable: false,
        }
    }

    /// A claim of the pod cannot be had on any node.
    pub(crate) fn hopeless(Hopeless(reason): Hopeless) -> Rejection {
        Rejection {
            reasons: vec![reason.into()],
            resolvable: false,
        }
    }
}

/// The check of one filter for one pod.
pub type Check<'a> = Box<dyn Fn(&NodeInfo) -> Result<(), Rejection> + 'a>;

/// What a filter concludes from the pod and the cluster before it looks at nodes.
pub enum Prepared<'a> {
    /// It has nothing to say about this pod.
    Pass,
    /// No node can do.
    RejectAll(Rejection),
    /// Only these nodes are worth a look; the check still runs on them.
    Only(BTreeSet<String>, Check<'a>),
    /// Every node is to be checked.
    Each(Check<'a>),
}

/// Keeps a pod out of the queue while it says why.
pub struct Gate {
    /// Name as in Kubernetes.
    pub name: &'static str,
    /// The message, or `None` to let the pod in, as far as the pod alone tells.
    pub closed: fn(&Pod) -> Option<String>,
    /// The same, as far as it depends on what the pod claims.
    pub waits: fn(&Pod, &Devices) -> Option<String>,
}

impl Gate {
    /// The message, or `None` to let the pod in.
    pub fn message(&self, pod: &Pod, devices: &Devices) -> Option<String> {
        (self.closed)(pod).or_else(|| (self.waits)(pod, devices))
    }
}

/// Says which of the pods that wait is next. Every profile of a configuration has the same, since there is one queue.
pub struct Sort {
    /// Name as in Kubernetes, or ours where it has none.
    pub name: &'static str,
    /// Where the pod stands before priority and time are compared: the smallest is first.
    pub rank: fn(&Pod) -> i64,
    /// Whether namespaces come first that have less than others of what the cluster has.
    pub by_share: bool,
}

/// The least priority of the pods without which a cluster does not work. They are ahead of all others in every sort.
pub(crate) const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// What a filter reads besides the pod and its own arguments, and so until when its verdict on a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The node and what is on it, and which extended resources devices stand for.
    Node,
    /// Pods anywhere, for spreading.
    Spread,
    /// Pods anywhere, for affinity.
    Affinity,
    /// What is claimed, volumes or devices, about which nothing is kept. Says nothing of a pod that claims nothing and asks for
    /// nothing that devices stand for.
    Claims,
}

/// What the values of a score come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Each from its node and what is on it, and they count as they are.
    Plain,
    /// Each from its node, and they count in relation to the largest.
    Compared {
        /// Whether the largest becomes 0.
        reverse: bool,
    },
    /// Each from its node, or [`UNKNOWN`], which counts as the mean of the others.
    Known,
    /// Each from the images of its node and the number of nodes that have them.
    Images,
    /// From pods anywhere, for spreading.
    Spread,
    /// From pods anywhere, for affinity.
    Affinity,
    /// From anything: asked at every decision, of the nodes that passed.
    Anything,
}

/// Sorts nodes out.
pub struct Filter {
    /// Name as in Kubernetes.
    pub name: &'static str,
    /// What has to be the same for the verdict on a node to be the same.
    pub reads: Reads,
    /// Looks at the pod and the cluster once a decision.
    pub prepare: for<'a> fn(&'a Pod, &'a Snapshot, &'a Args) -> Prepared<'a>,
    /// The changes that may remove this filter's reason against a pod, and how near to the pod they have to be: on any other
    /// [`wakes_on`](Filter::wakes_on) says no.
    pub hears: &'static [(ChangeKind, Near)],
    /// Whether the change may have removed this filter's reason against the pod. It reads only what `queue::parked` knows to
    /// be the same for all pods of a class.
    pub wakes_on: fn(&Pod, &Change, &Args) -> bool,
}

/// Values nodes.
pub struct Score {
    /// Name as in Kubernetes.
    pub name: &'static str,
    /// How much it counts where nothing else is said.
    pub weight: i64,
    /// What has to be the same for the raw value of a node to be the same.
    pub values: Values,
    /// A value for each of the nodes, or `None` when it has nothing to say.
    pub score: fn(&Pod, &Snapshot, &Args, &[&NodeInfo]) -> Option<Scores>,
}

/// The values that a score gives to nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scores {
    /// As they are before they are compared with each other.
    pub raw: Vec<i64>,
    /// From 0 to [`SCORE_MAX`].
    pub normalized: Vec<i64>,
}

impl Scores {
    /// Values that are from 0 to [`SCORE_MAX`] by themselves.
    fn plain(values: Vec<i64>) -> Scores {
        Scores {
            raw: values.clone(),
            normalized: values,
        }
    }

    /// Scaled so that the largest becomes [`SCORE_MAX`]; with `reverse` the largest becomes 0.
    fn scaled(raw: Vec<i64>, reverse: bool) -> Scores {
        Scores {
            normalized: normalize(raw.clone(), reverse),
            raw,
        }
    }
}

/// Plugins are told apart by their names.
macro_rules! named {
    ($($plugin:ident)*) => { $(
        impl PartialEq for $plugin {
            fn eq(&self, other: &Self) -> bool {
                self.name == other.name
            }
        }
        impl std::fmt::Debug for $plugin {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name)
            }
        }
    )* };
}
named!(Gate Filter Score Sort);

/// Gates.
pub static GATES: &[Gate] = &[scheduling_gates::GATE, dynamic_resources::GATE];

/// Filters in the order in which they are asked.
pub static FILTERS: &[Filter] = &[
    node_unschedulable::FILTER,
    node_name::FILTER,
    taint_toleration::FILTER,
    node_affinity::FILTER,
    node_ports::FILTER,
    node_resources_fit::FILTER,
    volume_restrictions::FILTER,
    node_volume_limits::FILTER,
    volume_binding::FILTER,
    volume_zone::FILTER,
    pod_topology_spread::FILTER,
    inter_pod_affinity::FILTER,
    dynamic_resources::FILTER,
    pressure_aware::FILTER,
];

/// Scores.
pub static SCORES: &[Score] = &[
    taint_toleration::SCORE,
    node_affinity::SCORE,
    node_resources_fit::SCORE,
    pod_topology_spread::SCORE,
    inter_pod_affinity::SCORE,
    dynamic_resources::SCORE,
    balanced_allocation::SCORE,
    image_locality::SCORE,
    data_locality::SCORE,
    pressure_aware::SCORE,
];

/// Sorts, of which one is in use.
pub static SORTS: &[Sort] = &[
    priority_sort::SORT,
    fair_share::SORT,
    earliest_deadline::SORT,
];

/// Scales raw values so that the largest becomes [`SCORE_MAX`]; with `reverse` the largest becomes 0.
fn normalize(mut values: Vec<i64>, reverse: bool) -> Vec<i64> {
    let largest = values.iter().copied().max().unwrap_or(0).max(0);
    for value in &mut values {
        *value = scale(*value, largest, reverse);
    }
    values
}

/// The raw value of a node of which nothing is known.
pub(crate) const UNKNOWN: i64 = -1;

/// Puts the mean of the others, rounded down, in the place of what is not known; 0 where nothing is.
pub(crate) fn or_mean(mut values: Vec<i64>) -> Vec<i64> {
    let known = values.iter().filter(|value| **value != UNKNOWN);
    let (sum, count) = known.fold((0, 0), |(sum, count), value| (sum + value, count + 1));
    let mean = if count == 0 { 0 } else { sum / count };
    for value in values.iter_mut().filter(|value| **value == UNKNOWN) {
        *value = mean;
    }
    values
}

/// One raw value in relation to the largest, which is not below zero.
pub(crate) fn scale(value: i64, largest: i64, reverse: bool) -> i64 {
    let scaled = if largest == 0 {
        0
    } else {
        (i128::from(SCORE_MAX) * i128::from(value) / i128::from(largest)) as i64
    };
    if reverse { SCORE_MAX - scaled } else { scaled }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Objects for the plugins' tables.

    use super::*;
    use crate::object::Node;
    use serde_json::{Value, json};
    use std::sync::Arc;

    pub(crate) fn pod(spec: Value) -> Pod {
        labelled_pod("p", json!({}), spec)
    }

    pub(crate) fn labelled_pod(name: &str, labels: Value, spec: Value) -> Pod {
        Pod::compile(&json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels}, "spec": spec,
        }))
    }

    pub(crate) fn node(name: &str, labels: Value, spec: Value) -> Node {
        Node::compile(&json!({
            "metadata": {"name": name, "labels": labels}, "spec": spec,
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
        }))
    }

    pub(crate) fn snapshot(nodes: Vec<Node>, pods: Vec<Pod>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        nodes
            .into_iter()
            .for_each(|node| snapshot.set_node(Arc::new(node)));
        pods.into_iter()
            .for_each(|pod| snapshot.set_pod(Arc::new(pod)));
        snapshot
    }

    /// The filter's verdict on one node: `None` when it passes, otherwise the reasons.
    pub(crate) fn verdict(
        filter: &Filter,
        pod: &Pod,
        snapshot: &Snapshot,
        node: &str,
    ) -> Option<String> {
        verdict_with(filter, pod, snapshot, &Args::default(), node)
    }

    pub(crate) fn verdict_with(
        filter: &Filter,
        pod: &Pod,
        snapshot: &Snapshot,
        args: &Args,
        node: &str,
    ) -> Option<String> {
        let info = snapshot.node(node).unwrap();
        let rejection = match (filter.prepare)(pod, snapshot, args) {
            Prepared::Pass => None,
            Prepared::RejectAll(rejection) => Some(rejection),
            Prepared::Only(names, _) if !names.contains(node) => {
                Some(Rejection::lasting("not in the list"))
            }
            Prepared::Only(_, check) | Prepared::Each(check) => check(info).err(),
        };
        rejection.map(|rejection| rejection.reasons.join(", "))
    }

    pub(crate) fn scores(score: &Score, pod: &Pod, snapshot: &Snapshot) -> Option<Vec<i64>> {
        scores_with(score, pod, snapshot, &Args::default())
    }

    pub(crate) fn scores_with(
        score: &Score,
        pod: &Pod,
        snapshot: &Snapshot,
        args: &Args,
    ) -> Option<Vec<i64>> {
        let nodes: Vec<&NodeInfo> = snapshot.nodes().collect();
        Some((score.score)(pod, snapshot, args, &nodes)?.normalized)
    }

    #[test]
    fn normalize_scales_to_the_largest() {
        assert_eq!(normalize(vec![0, 1, 4], false), [0, 25, 100]);
        assert_eq!(normalize(vec![0, 1, 4], true), [100, 75, 0]);
        assert_eq!(normalize(vec![0, 0], false), [0, 0]);
        assert_eq!(normalize(vec![0, 0], true), [100, 100]);
    }

    #[test]
    fn what_is_not_known_is_as_the_others_are_on_average() {
        assert_eq!(or_mean(vec![10, UNKNOWN, 13, UNKNOWN]), [10, 11, 13, 11]);
        assert_eq!(or_mean(vec![UNKNOWN, UNKNOWN]), [0, 0]);
    }
}

//! What the scheduler thinks of every node for one pod: the verdict of each filter and the value of each score. Pure,
//! over a picture of the cluster that is put together from API objects; the decision itself is made of the same
//! functions. How the objects come here from a cluster is in `read`.

mod beyond;
mod extenders;
mod picture;
mod read;

pub use beyond::{OfGroup, OfQueue};
pub use picture::{Picture, RESOURCES, objects_from};
pub use read::{AsOf, Unread};

use crate::config::Profile;
use crate::extender::Asked;
use crate::gang::Others;
use crate::object::Pod;
use crate::plugins::dynamic_resources::{DELETES, idle_claims, left_over};
use crate::plugins::{Filter, Prepared, Rejection};
use crate::preempt::{Budget, Preemption, preempt};
use crate::schedule::{Decision, not_named, schedule, schedule_asked, with_nominated};
use crate::snapshot::{NodeInfo, Snapshot};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// See the module head.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Whose profile holds.
    pub scheduler_name: String,
    /// The node where it is, if it is on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What keeps it out of the queue: then nothing of the rest is asked yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gated>,
    /// What decides when its turn is, where that is more than priority and time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<OfQueue>,
    /// The group that it is placed with, where the profile does that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<OfGroup>,
    /// Nodes with the highest total: one of these is chosen.
    pub best: Vec<String>,
    /// Extenders that were asked in vain, with what went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extender_errors: Vec<String>,
    /// What the event says when no node will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where preemption would make room, and whose pods would have to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Room>,
    /// Every node.
    pub nodes: Vec<OfNode>,
}

/// A closed gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gated {
    /// The plugin.
    pub plugin: &'static str,
    /// What it says.
    pub message: String,
}

/// Room that preemption would make.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Room {
    /// On this node
    pub node: String,
    /// these would have to go, by namespace and name.
    pub victims: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfNode {
    /// Its name.
    pub node: String,
    /// Whether every filter passes it.
    pub feasible: bool,
    /// Each filter in its order. The scheduler itself asks only until the first refusal.
    pub filters: Vec<OfFilter>,
    /// Each score; only of feasible nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<OfScore>,
    /// The sum of what they count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

/// What a filter says of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfFilter {
    /// The filter, or `Extender` and its address.
    pub plugin: Cow<'static, str>,
    /// Why not; empty when it passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The node is refused only because room is kept on it for pods that will come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub for_nominated_pods: bool,
}

/// What a score says of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfScore {
    /// The score, or `Extender` and its address.
    pub plugin: Cow<'static, str>,
    /// Before the nodes are compared; absent, as the next, when it has nothing to say about the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<i64>,
    /// From 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalized: Option<i64>,
    /// How much it counts.
    pub weight: i64,
    /// What it adds to the total.
    pub weighted: i64,
}

/// With what extenders have said, if any were asked.
fn explain(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    budgets: &[Budget],
    asked: Option<&Asked>,
) -> Explanation {
    let mut nodes = filter(pod, snapshot, profile);
    if let Some(asked) = asked {
        extenders::filter_asked(asked, &mut nodes);
    }
    score(pod, snapshot, profile, &mut nodes);
    if let Some(asked) = asked {
        extenders::score_asked(asked, &mut nodes);
    }
    let (message, preemption) = outcome(pod, snapshot, profile, budgets, asked);
    let highest = nodes.iter().filter_map(|node| node.total).max();
    let best = nodes
        .iter()
        .filter(|node| node.total.is_some() && node.total == highest);
    let gates = profile.gates.iter().filter_map(|gate| {
        Some(Gated {
            plugin: gate.name,
            message: gate.message(pod, &snapshot.devices)?,
        })
    });
    Explanation {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        scheduler_name: pod.scheduler_name.clone(),
        node: None,
        gates: gates.collect(),
        queue: None,
        group: None,
        best: best.map(|node| node.node.clone()).collect(),
        extender_errors: asked.map(extenders::errors).unwrap_or_default(),
        message,
        preemption,
        nodes,
    }
}

fn filter(pod: &Pod, snapshot: &Snapshot, profile: &Profile) -> Vec<OfNode> {
    let crowded = with_nominated(pod, snapshot);
    let mut nodes: Vec<OfNode> = snapshot
        .nodes()
        .map(|info| OfNode {
            node: info.name().to_owned(),
            feasible: true,
            filters: Vec::new(),
            scores: Vec::new(),
            total: None,
        })
        .collect();
    for filter in &profile.filters {
        let alone = verdicts(filter, pod, snapshot, profile);
        let with_others = crowded.as_ref().map(|(names, crowded)| {
            let mut verdicts = verdicts(filter, pod, crowded, profile);
            verdicts.retain(|node, _| names.contains(node));
            verdicts
        });
        for of_node in &mut nodes {
            let refused = alone.get(&of_node.node);
            let later = with_others.as_ref().and_then(|all| all.get(&of_node.node));
            let reasons = refused.or(later).map(|rejection| {
                let reasons = rejection.reasons.iter();
                reasons.map(ToString::to_string).collect()
            });
            of_node.feasible &= reasons.is_none();
            of_node.filters.push(OfFilter {
                plugin: filter.name.into(),
                reasons: reasons.unwrap_or_default(),
                for_nominated_pods: refused.is_none() && later.is_some(),
            });
        }
    }
    nodes
}

/// The refusals of one filter by node.
fn verdicts(
    filter: &Filter,
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
) -> BTreeMap<String, Rejection> {
    let names = snapshot.nodes().map(|info| info.name().to_owned());
    match (filter.prepare)(pod, snapshot, &profile.args) {
        Prepared::Pass => BTreeMap::new(),
        Prepared::RejectAll(rejection) => names.map(|name| (name, rejection.clone())).collect(),
        Prepared::Only(allowed, check) => refusals(snapshot, |info| {
            if !allowed.contains(info.name()) {
                return Err(not_named(&[filter.name]));
            }
            check(info)
        }),
        Prepared::Each(check) => refusals(snapshot, check),
    }
}

fn refusals(
    snapshot: &Snapshot,
    check: impl Fn(&NodeInfo) -> Result<(), Rejection>,
) -> BTreeMap<String, Rejection> {
    let refused = |info: &NodeInfo| Some((info.name().to_owned(), check(info).err()?));
    snapshot.nodes().filter_map(refused).collect()
}

fn score(pod: &Pod, snapshot: &Snapshot, profile: &Profile, nodes: &mut [OfNode]) {
    let infos: Vec<&NodeInfo> = nodes
        .iter()
        .filter(|node| node.feasible)
        .filter_map(|node| snapshot.node(&node.node))
        .collect();
    for (score, weight) in &profile.scores {
        let values = (score.score)(pod, snapshot, &profile.args, &infos);
        let feasible = nodes.iter_mut().filter(|node| node.feasible);
        for (at, node) in feasible.enumerate() {
            let of = |list: &Vec<i64>| list.get(at).copied();
            let normalized = values.as_ref().and_then(|values| of(&values.normalized));
            let weighted = weight * normalized.unwrap_or(0);
            node.scores.push(OfScore {
                plugin: score.name.into(),
                raw: values.as_ref().and_then(|values| of(&values.raw)),
                normalized,
                weight: *weight,
                weighted,
            });
            node.total = Some(node.total.unwrap_or(0) + weighted);
        }
    }
    // A profile without scores still has feasible nodes.
    for node in nodes.iter_mut().filter(|node| node.feasible) {
        node.total.get_or_insert(0);
    }
}

/// What the event says when no node will do, and what preemption would do about it.
fn outcome(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    budgets: &[Budget],
    asked: Option<&Asked>,
) -> (Option<String>, Option<Room>) {
    if let Some(error) = asked.and_then(|asked| asked.failed.clone()) {
        return (Some(error), None);
    }
    let pick = &mut |_| 0;
    let decision = match asked {
        Some(asked) => schedule_asked(pod, snapshot, profile, 0, pick, asked),
        None => schedule(pod, snapshot, profile, 0, pick),
    };
    let Decision::Unschedulable(diagnosis) = decision else {
        return (None, None);
    };
    let freed = match left_over(pod, snapshot, profile) {
        Some(_) => Some(DELETES),
        None => idle_claims(pod, snapshot, profile, &diagnosis).map(|(_, words)| words),
    };
    if !profile.preempts || diagnosis.nodes == 0 {
        return (Some(diagnosis.message_after(freed, None)), None);
    }
    let others = Others::default();
    match preempt(pod, snapshot, profile, &diagnosis, budgets, &others, 0) {
        Preemption::Waiting(words) | Preemption::Useless(words) => {
            (Some(diagnosis.message_after(freed, Some(&words))), None)
        }
        Preemption::Evict { node, victims } => {
            let names = victims
                .iter()
                .map(|v| format!("{}/{}", v.namespace, v.name));
            let victims = names.collect();
            (Some(diagnosis.message(None)), Some(Room { node, victims }))
        }
    }
}

#[cfg(test)]
mod tests;

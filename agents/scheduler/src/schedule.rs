//! One decision: which node takes the pod, or why none does. Pure: the only chance is the caller's `pick` among equals.

use crate::classes;
use crate::config::Profile;
use crate::extender::Asked;
use crate::object::Pod;
use crate::plugins::dynamic_resources;
use crate::plugins::{Check, Filter, Prepared, Reads, Rejection};
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// The outcome for one pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The node with the highest total score.
    Bind {
        /// Name of the node.
        node: String,
        /// How many nodes could have taken the pod.
        feasible: usize,
        /// How many nodes were looked at.
        evaluated: usize,
    },
    /// No node takes the pod now.
    Unschedulable(Diagnosis),
}

/// Why no node takes the pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// A reason that holds for all nodes at once and replaces the count by reason.
    pub for_all: Option<String>,
    /// By node: what refused.
    pub rejected: BTreeMap<String, Rejection>,
    /// The filters that refused at least one node; a change that none of them cares about cannot help.
    pub plugins: BTreeSet<&'static str>,
}

impl Diagnosis {
    /// The message of the event and the condition, with what preemption had to say, if it was tried.
    pub fn message(&self, preemption: Option<&str>) -> String {
        self.message_after(None, preemption)
    }

    /// The same with what was done about devices before.
    pub fn message_after(&self, devices: Option<&str>, preemption: Option<&str>) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut message = match &self.for_all {
            Some(reason) => format!("0/{} nodes are available: {reason}.", self.nodes),
            None => count_reasons(self.nodes, self.rejected.values()),
        };
        let preemption = preemption.map(|words| format!("preemption: {words}"));
        let tried = devices.into_iter().chain(preemption.as_deref());
        let tried: Vec<&str> = tried.collect();
        if !tried.is_empty() {
            message.push(' ');
            message.push_str(&tried.join(", "));
        }
        message
    }
}

/// `0/3 nodes are available: 1 this, 2 that.`
pub(crate) fn count_reasons<'a>(
    nodes: usize,
    rejections: impl Iterator<Item = &'a Rejection>,
) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in rejections.flat_map(|rejection| &rejection.reasons) {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort();
    match parts.is_empty() {
        true => format!("0/{nodes} nodes are available:"),
        false => format!("0/{nodes} nodes are available: {}.", parts.join(", ")),
    }
}

/// All filters, prepared for one pod and one state of the cluster.
pub(crate) struct Filters<'a> {
    /// Filters by which no node can do.
    pub(crate) reject_all: Option<(&'static str, Rejection)>,
    /// Only these nodes are worth a look, and the filters that say so.
    only: Option<(BTreeSet<String>, Vec<&'static str>)>,
    checks: Vec<(&'static str, Check<'a>)>,
}

impl<'a> Filters<'a> {
    pub(crate) fn prepare(
        pod: &'a Pod,
        snapshot: &'a Snapshot,
        profile: &'a Profile,
    ) -> Filters<'a> {
        Filters::prepare_those(pod, snapshot, profile, |_| true)
    }

    /// Only those filters that read what is wanted.
    pub(crate) fn prepare_some(
        pod: &'a Pod,
        snapshot: &'a Snapshot,
        profile: &'a Profile,
        wanted: impl Fn(Reads) -> bool,
    ) -> Filters<'a> {
        Filters::prepare_those(pod, snapshot, profile, |filter| wanted(filter.reads))
    }

    /// All filters without the one of this name.
    pub(crate) fn prepare_all_but(
        name: &str,
        pod: &'a Pod,
        snapshot: &'a Snapshot,
        profile: &'a Profile,
    ) -> Filters<'a> {
        Filters::prepare_those(pod, snapshot, profile, |filter| filter.name != name)
    }

    fn prepare_those(
        pod: &'a Pod,
        snapshot: &'a Snapshot,
        profile: &'a Profile,
        wanted: impl Fn(&Filter) -> bool,
    ) -> Filters<'a> {
        let mut filters = Filters {
            reject_all: None,
            only: None,
            checks: Vec::new(),
        };
        for filter in profile.filters.iter().filter(|filter| wanted(filter)) {
            match (filter.prepare)(pod, snapshot, &profile.args) {
                Prepared::Pass => {}
                Prepared::RejectAll(rejection) => {
                    filters.reject_all.get_or_insert((filter.name, rejection));
                }
                Prepared::Each(check) => filters.checks.push((filter.name, check)),
                Prepared::Only(names, check) => {
                    let (allowed, by) = filters
                        .only
                        .get_or_insert_with(|| (names.clone(), Vec::new()));
                    allowed.retain(|name| names.contains(name));
                    by.push(filter.name);
                    filters.checks.push((filter.name, check));
                }
            }
        }
        filters
    }

    /// Whether the node does.
    pub(crate) fn passes(&self, info: &NodeInfo) -> bool {
        self.reject_all.is_none() && self.check(info).is_ok()
    }

    /// The first filter that refuses the node, with its reasons.
    pub(crate) fn check(&self, info: &NodeInfo) -> Result<(), (&'static str, Rejection)> {
        if let Some((names, by)) = &self.only
            && !names.contains(info.name())
        {
            return Err((by.first().copied().unwrap_or_default(), not_named(by)));
        }
        self.checks
            .iter()
            .try_for_each(|(name, check)| check(info).map_err(|rejection| (*name, rejection)))
    }
}

/// A node is none of those that these filters have named.
pub(crate) fn not_named(by: &[&str]) -> Rejection {
    let reason = format!("node(s) didn't satisfy plugin(s) [{}]", by.join(" "));
    Rejection {
        reasons: vec![reason.into()],
        resolvable: false,
    }
}

/// Decides where the pod goes. `start` is the place among the nodes where the search begins, for profiles that do not
/// look at all of them; `pick(n)` chooses one of `n` equally good nodes, as an index below `n`.
pub fn schedule(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    start: usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Decision {
    classes::decide(pod, snapshot, profile, pick)
        .unwrap_or_else(|| from_scratch(pod, snapshot, profile, start, pick))
}

/// The same decision, with nothing taken from what was counted for pods before.
pub fn from_scratch(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    start: usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Decision {
    let Found {
        nodes,
        evaluated,
        diagnosis,
    } = search(pod, snapshot, profile, start);
    if nodes.is_empty() {
        return Decision::Unschedulable(diagnosis);
    }
    let totals = total_scores(pod, snapshot, profile, &nodes);
    choose(&nodes, &totals, evaluated, pick)
}

/// One of the nodes with the highest total.
fn choose(
    nodes: &[&NodeInfo],
    totals: &[i64],
    evaluated: usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Decision {
    let best = totals.iter().copied().max().unwrap_or(0);
    let equals: Vec<&NodeInfo> = nodes
        .iter()
        .zip(totals)
        .filter(|(_, t)| **t == best)
        .map(|(info, _)| *info)
        .collect();
    let chosen = equals[pick(equals.len()).min(equals.len() - 1)];
    Decision::Bind {
        node: chosen.name().to_string(),
        feasible: nodes.len(),
        evaluated,
    }
}

/// The nodes that pass every filter, until there are enough of them, and how many were looked at.
pub(crate) fn candidates<'s>(
    pod: &Pod,
    snapshot: &'s Snapshot,
    profile: &Profile,
    start: usize,
) -> (Vec<&'s NodeInfo>, usize) {
    match classes::candidates(pod, snapshot, profile) {
        Some(nodes) => (nodes, snapshot.node_count()),
        None => {
            let found = search(pod, snapshot, profile, start);
            (found.nodes, found.evaluated)
        }
    }
}

/// The nodes that would do if nobody else waited: those that pass the filters which read nothing but the node.
pub(crate) fn alone(pod: &Pod, snapshot: &Snapshot, profile: &Profile) -> Vec<String> {
    let filters = Filters::prepare_some(pod, snapshot, profile, |reads| reads == Reads::Node);
    let passing = snapshot.nodes().filter(|info| filters.passes(info));
    passing.map(|info| info.name().to_owned()).collect()
}

/// Decides with what extenders have said of the nodes.
pub(crate) fn schedule_asked(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    start: usize,
    pick: &mut dyn FnMut(usize) -> usize,
    asked: &Asked,
) -> Decision {
    let (mut nodes, evaluated) = candidates(pod, snapshot, profile, start);
    asked.retain(&mut nodes);
    if nodes.is_empty() {
        let mut diagnosis = search(pod, snapshot, profile, start).diagnosis;
        if diagnosis.for_all.is_none() {
            asked.explain(&mut diagnosis, snapshot);
        }
        return Decision::Unschedulable(diagnosis);
    }
    let mut totals = total_scores(pod, snapshot, profile, &nodes);
    asked.add_to(&mut totals, &nodes);
    choose(&nodes, &totals, evaluated, pick)
}

/// What a search among the nodes has brought.
struct Found<'s> {
    /// Those that pass every filter.
    nodes: Vec<&'s NodeInfo>,
    evaluated: usize,
    /// Why others do not.
    diagnosis: Diagnosis,
}

/// The nodes that pass every filter, until there are enough of them.
fn search<'s>(pod: &Pod, snapshot: &'s Snapshot, profile: &Profile, start: usize) -> Found<'s> {
    let mut diagnosis = Diagnosis {
        nodes: snapshot.node_count(),
        ..Diagnosis::default()
    };
    let filters = Filters::prepare(pod, snapshot, profile);
    if let Some((plugin, rejection)) = &filters.reject_all {
        diagnosis.for_all = Some(rejection.reasons.join(", "));
        diagnosis.plugins.insert(plugin);
        diagnosis.rejected = snapshot
            .nodes()
            .map(|info| (info.name().to_string(), rejection.clone()))
            .collect();
        return Found {
            nodes: Vec::new(),
            evaluated: 0,
            diagnosis,
        };
    }
    let crowded = with_nominated(pod, snapshot);
    let crowded = crowded
        .as_ref()
        .map(|(names, snapshot)| (names, snapshot, Filters::prepare(pod, snapshot, profile)));
    let enough = profile.enough(snapshot.node_count());
    let start = start % snapshot.node_count().max(1);
    let (mut nodes, mut evaluated) = (Vec::new(), 0);
    for info in snapshot
        .nodes()
        .skip(start)
        .chain(snapshot.nodes().take(start))
    {
        if nodes.len() >= enough {
            break;
        }
        evaluated += 1;
        let mut verdict = filters.check(info);
        if let (Ok(()), Some((names, crowded, filters))) = (&verdict, &crowded)
            && names.contains(info.name())
            && let Some(info) = crowded.node(info.name())
        {
            verdict = filters.check(info);
        }
        match verdict {
            Ok(()) => nodes.push(info),
            Err((plugin, rejection)) => {
                diagnosis.plugins.insert(plugin);
                diagnosis
                    .rejected
                    .insert(info.name().to_string(), rejection);
            }
        }
    }
    // Whichever filter was first: what brings devices, or nodes with some, is what such a pod waits for.
    let asks = |name: &str| profile.filters.iter().any(|filter| filter.name == name);
    if nodes.is_empty() && snapshot.devices.are_behind(pod) && asks(dynamic_resources::NAME) {
        diagnosis.plugins.insert(dynamic_resources::NAME);
    }
    Found {
        nodes,
        evaluated,
        diagnosis,
    }
}

/// The cluster with the pods for which room is kept in place, and the nodes where that makes a difference. A node must
/// take the pod both with them, since they will come, and without them, since they may not.
pub(crate) fn with_nominated(
    pod: &Pod,
    snapshot: &Snapshot,
) -> Option<(BTreeSet<String>, Snapshot)> {
    let nominated: Vec<_> = snapshot.nominated_above(pod.priority, &pod.uid).collect();
    if nominated.is_empty() {
        return None;
    }
    let mut crowded = snapshot.clone();
    for (node, other) in &nominated {
        crowded.assume((*other).clone(), node);
    }
    Some((
        nominated.iter().map(|(node, _)| node.to_string()).collect(),
        crowded,
    ))
}

/// The weighted sum over the score plugins, for each node.
pub(crate) fn total_scores(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    nodes: &[&NodeInfo],
) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    if nodes.len() < 2 {
        return totals;
    }
    for (plugin, weight) in &profile.scores {
        let Some(scores) = (plugin.score)(pod, snapshot, &profile.args, nodes) else {
            continue;
        };
        for (total, value) in totals.iter_mut().zip(scores.normalized) {
            *total += weight * value;
        }
    }
    totals
}

#[cfg(test)]
mod tests;

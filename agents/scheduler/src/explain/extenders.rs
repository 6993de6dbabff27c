//! What extenders say of a pod and its nodes, beside what plugins say. They are asked as the scheduler asks them, now.

use super::{OfFilter, OfNode, OfScore, filter};
use crate::config::Profile;
use crate::extender::{Asked, Extenders, whole};
use crate::object::Pod;
use crate::snapshot::Snapshot;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Asks those that are interested about the nodes that all plugins pass; `None` when there are none.
pub(super) async fn ask(
    extenders: &Extenders,
    pod: &Pod,
    object: &Value,
    snapshot: &Snapshot,
    profile: &Profile,
    whole_nodes: &BTreeMap<String, Arc<str>>,
) -> Option<Asked> {
    if !extenders.decide_about(pod) {
        return None;
    }
    let nodes = filter(pod, snapshot, profile).into_iter();
    let names: Vec<String> = nodes.filter(|n| n.feasible).map(|n| n.node).collect();
    if names.is_empty() {
        return None;
    }
    let node = |name: &str| whole_nodes.get(name).cloned();
    let silent = &mut BTreeSet::new();
    Some(
        extenders
            .ask(pod, &whole(object), names, node, silent)
            .await,
    )
}

/// Adds a verdict for each node that an extender was asked about.
pub(super) fn filter_asked(asked: &Asked, nodes: &mut [OfNode]) {
    for verdicts in &asked.filters {
        let about: BTreeSet<&String> = verdicts.asked.iter().collect();
        for of_node in nodes.iter_mut().filter(|n| about.contains(&n.node)) {
            let left = verdicts.left.contains(&of_node.node);
            let reasons = match verdicts.refused.get(&of_node.node) {
                _ if left => Vec::new(),
                Some(rejection) => rejection.reasons.iter().map(ToString::to_string).collect(),
                None => vec!["it gives no reason".to_owned()],
            };
            of_node.feasible &= left;
            of_node.filters.push(OfFilter {
                plugin: verdicts.label.clone().into(),
                reasons,
                for_nominated_pods: false,
            });
        }
    }
    if asked.failed.is_some() {
        // Nothing is decided then.
        nodes.iter_mut().for_each(|node| node.feasible = false);
    }
}

/// Adds what feasible nodes are worth to extenders.
pub(super) fn score_asked(asked: &Asked, nodes: &mut [OfNode]) {
    for scores in &asked.scores {
        for node in nodes.iter_mut().filter(|node| node.feasible) {
            let raw = scores.worths.get(&node.node).copied();
            let weighted = scores.of(&node.node);
            node.scores.push(OfScore {
                plugin: scores.label.clone().into(),
                raw,
                normalized: raw.map(|raw| raw.saturating_mul(10)),
                weight: scores.weight,
                weighted,
            });
            node.total = node.total.map(|total| total.saturating_add(weighted));
        }
    }
}

/// Those that were asked in vain.
pub(super) fn errors(asked: &Asked) -> Vec<String> {
    asked
        .passed_over
        .iter()
        .chain(&asked.failed)
        .cloned()
        .collect()
}

//! NodeAffinity: `nodeSelector` and required node affinity decide, preferred node affinity scores.

use super::{Change, Filter, Prepared, Rejection, Score, normalize};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeSet;

pub(super) const FILTER: Filter = Filter {
    name: "NodeAffinity",
    prepare,
    wakes_on,
};
pub(super) const SCORE: Score = Score {
    name: "NodeAffinity",
    weight: 2,
    score,
};

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot) -> Prepared<'a> {
    if pod.node_selector.is_empty() && pod.required_nodes.is_none() {
        return Prepared::Pass;
    }
    let check = Box::new(|info: &NodeInfo| match &info.node {
        Some(node) if pod.wants_node(&node.name, &node.labels) => Ok(()),
        _ => Err(Rejection::lasting(
            "node(s) didn't match Pod's node affinity/selector",
        )),
    });
    match pinned_names(pod) {
        None => Prepared::Each(check),
        Some(names) if names.is_empty() => {
            Prepared::RejectAll(Rejection::lasting("pod affinity terms conflict"))
        }
        Some(names) => Prepared::Only(names, check),
    }
}

/// The names to which the required terms pin the pod, when every term pins.
fn pinned_names(pod: &Pod) -> Option<BTreeSet<String>> {
    let terms = pod
        .required_nodes
        .as_ref()
        .filter(|terms| !terms.is_empty())?;
    let mut names = BTreeSet::new();
    for term in terms {
        names.extend(term.pinned_names()?.into_iter().map(str::to_string));
    }
    Some(names)
}

fn wakes_on(pod: &Pod, change: &Change) -> bool {
    change.node_part_changed(|node| &node.labels)
        && change
            .node()
            .is_some_and(|node| pod.wants_node(&node.name, &node.labels))
}

fn score(pod: &Pod, _: &Snapshot, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
    if pod.preferred_nodes.is_empty() {
        return None;
    }
    let value = |info: &&NodeInfo| {
        let Some(node) = &info.node else { return 0 };
        let matching = pod
            .preferred_nodes
            .iter()
            .filter(|(_, term)| term.matches(&node.name, &node.labels));
        matching.map(|(weight, _)| weight).sum()
    };
    Some(normalize(nodes.iter().map(value).collect(), false))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores, snapshot, verdict};
    use super::*;
    use serde_json::json;

    fn cluster() -> Snapshot {
        snapshot(
            vec![
                node("n1", json!({"disk": "ssd"}), json!({})),
                node("n2", json!({"disk": "hdd"}), json!({})),
            ],
            vec![],
        )
    }

    fn required(terms: serde_json::Value) -> Pod {
        pod(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}))
    }

    #[test]
    fn selector_and_terms_decide() {
        let disk = |values: serde_json::Value| json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": values}]});
        let field = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        let table = [
            (pod(json!({"nodeSelector": {"disk": "ssd"}})), [true, false]),
            (required(json!([disk(json!(["hdd"]))])), [false, true]),
            (
                required(json!([disk(json!(["ssd"])), disk(json!(["hdd"]))])),
                [true, true],
            ),
            (required(json!([{}])), [false, false]),
            (required(json!([field("n2")])), [false, true]),
        ];
        for (pod, expected) in table {
            let got = ["n1", "n2"].map(|n| verdict(&FILTER, &pod, &cluster(), n).is_none());
            assert_eq!(got, expected, "{:?}", pod.required_nodes);
        }
    }

    #[test]
    fn preference_scores_by_weight() {
        let term = |weight, disk: &str| json!({"weight": weight, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": [disk]}]}});
        let pod = pod(json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [term(10, "ssd"), term(40, "hdd")]}}}));
        assert_eq!(scores(&SCORE, &pod, &cluster()).unwrap(), [25, 100]);
    }
}

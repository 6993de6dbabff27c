//! NodeAffinity: `nodeSelector` and required node affinity decide, preferred node affinity scores.

use super::{
    Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, Score, Scores, Values,
};
use crate::object::Pod;
use crate::selector::NodeSelectorTerm;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeSet;

pub(super) const FILTER: Filter = Filter {
    name: "NodeAffinity",
    reads: Reads::Node,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
    ],
    wakes_on,
};
pub(super) const SCORE: Score = Score {
    name: "NodeAffinity",
    weight: 2,
    values: Values::Compared { reverse: false },
    score,
};

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot, args: &'a Args) -> Prepared<'a> {
    let added = args.added_affinity.required.as_ref();
    if pod.node_selector.is_empty() && pod.required_nodes.is_none() && added.is_none() {
        return Prepared::Pass;
    }
    let check = Box::new(move |info: &NodeInfo| {
        let Some(node) = &info.node else {
            return Ok(());
        };
        let matches = |term: &NodeSelectorTerm| term.matches(&node.name, &node.labels);
        if !added.is_none_or(|terms| terms.iter().any(matches)) {
            return Err(Rejection::lasting(
                "node(s) didn't match scheduler-enforced node affinity",
            ));
        }
        match pod.wants_node(&node.name, &node.labels) {
            true => Ok(()),
            false => Err(Rejection::lasting(
                "node(s) didn't match Pod's node affinity/selector",
            )),
        }
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
pub(crate) fn pinned_names(pod: &Pod) -> Option<BTreeSet<String>> {
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

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    change.node_part_changed(|node| &node.labels)
        && change
            .node()
            .is_some_and(|node| pod.wants_node(&node.name, &node.labels))
}

fn score(pod: &Pod, _: &Snapshot, args: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let added = &args.added_affinity.preferred;
    if pod.preferred_nodes.is_empty() && added.is_empty() {
        return None;
    }
    let value = |info: &&NodeInfo| {
        let Some(node) = &info.node else { return 0 };
        let terms = added.iter().chain(&pod.preferred_nodes);
        let matching = terms.filter(|(_, term)| term.matches(&node.name, &node.labels));
        matching.map(|(weight, _)| weight).sum()
    };
    Some(Scores::scaled(nodes.iter().map(value).collect(), false))
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
    fn what_the_profile_adds_holds_for_every_pod() {
        use super::super::testing::{scores_with, verdict_with};
        let disk = |disk: &str| {
            let term =
                json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": [disk]}]});
            crate::selector::NodeSelectorTerm::parse(&term).unwrap()
        };
        let mut args = Args::default();
        args.added_affinity.required = Some(vec![disk("ssd")]);
        args.added_affinity.preferred = vec![(5, disk("hdd"))];
        let plain = pod(json!({}));
        let got = ["n1", "n2"].map(|n| verdict_with(&FILTER, &plain, &cluster(), &args, n));
        let refused = "node(s) didn't match scheduler-enforced node affinity".to_string();
        assert_eq!(got, [None, Some(refused)]);
        assert_eq!(
            scores_with(&SCORE, &plain, &cluster(), &args).unwrap(),
            [0, 100]
        );
    }

    #[test]
    fn preference_scores_by_weight() {
        let term = |weight, disk: &str| json!({"weight": weight, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": [disk]}]}});
        let pod = pod(json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [term(10, "ssd"), term(40, "hdd")]}}}));
        assert_eq!(scores(&SCORE, &pod, &cluster()).unwrap(), [25, 100]);
    }
}

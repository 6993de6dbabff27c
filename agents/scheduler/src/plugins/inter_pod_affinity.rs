//! InterPodAffinity: pods that want to be near or away from other pods, and the anti-affinity of pods that are
//! already there against the newcomer.

use super::{
    Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, SCORE_MAX, Score, Scores,
    Values,
};
use crate::object::{AffinityTerm, Pod};
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeMap;

pub(super) const FILTER: Filter = Filter {
    name: "InterPodAffinity",
    reads: Reads::Affinity,
    prepare,
    hears: &[
        (ChangeKind::PodPlaced, Near::Anywhere),
        (ChangeKind::PodRelabelled, Near::Anywhere),
        (ChangeKind::PodGone, Near::Anywhere),
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
        (ChangeKind::Namespace, Near::Anywhere),
    ],
    wakes_on,
};
pub(super) const SCORE: Score = Score {
    name: "InterPodAffinity",
    weight: 2,
    values: Values::Affinity,
    score,
};

/// Counts by (topology key, its value).
type Counts<'a> = BTreeMap<(&'a str, &'a str), i64>;

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    let namespace = snapshot.namespace_labels(&pod.namespace);
    let mut against = Counts::new();
    for (info, other) in snapshot.pods_with_affinity() {
        for term in other
            .anti_affinity
            .iter()
            .filter(|term| term.matches(pod, namespace))
        {
            count(&mut against, term, info, 1);
        }
    }
    let (mut near, mut away) = (Counts::new(), Counts::new());
    if !pod.affinity.is_empty() || !pod.anti_affinity.is_empty() {
        for info in snapshot.nodes() {
            for other in info.pods.values() {
                let other_namespace = snapshot.namespace_labels(&other.namespace);
                let matches = |term: &&AffinityTerm| term.matches(other, other_namespace);
                if pod.affinity.iter().all(|term| matches(&term)) {
                    pod.affinity
                        .iter()
                        .for_each(|term| count(&mut near, term, info, 1));
                }
                pod.anti_affinity
                    .iter()
                    .filter(matches)
                    .for_each(|term| count(&mut away, term, info, 1));
            }
        }
    } else if against.is_empty() {
        return Prepared::Pass;
    }
    let first_of_its_group =
        near.is_empty() && pod.affinity.iter().all(|term| term.matches(pod, namespace));
    Prepared::Each(Box::new(move |info| {
        if !near_enough(pod, info, &near, first_of_its_group) {
            return Err(Rejection::lasting(
                "node(s) didn't match pod affinity rules",
            ));
        }
        if pod
            .anti_affinity
            .iter()
            .any(|term| at(&away, term, info) > 0)
        {
            return Err(Rejection::resolvable(
                "node(s) didn't match pod anti-affinity rules",
            ));
        }
        if against
            .iter()
            .any(|((key, value), count)| *count > 0 && info.label(key) == Some(value))
        {
            return Err(Rejection::resolvable(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }))
}

/// Every term has its label on the node and a matching pod in that place, or there is none anywhere and the pod would
/// be the first of a group that it belongs to itself.
fn near_enough(pod: &Pod, info: &NodeInfo, near: &Counts<'_>, first_of_its_group: bool) -> bool {
    let labelled = pod
        .affinity
        .iter()
        .all(|term| info.label(&term.topology_key).is_some());
    labelled && (first_of_its_group || pod.affinity.iter().all(|term| at(near, term, info) > 0))
}

fn count<'a>(counts: &mut Counts<'a>, term: &'a AffinityTerm, info: &'a NodeInfo, by: i64) {
    if let Some(value) = info.label(&term.topology_key) {
        *counts.entry((&term.topology_key, value)).or_default() += by;
    }
}

fn at(counts: &Counts<'_>, term: &AffinityTerm, info: &NodeInfo) -> i64 {
    let value = info.label(&term.topology_key);
    value
        .and_then(|value| counts.get(&(term.topology_key.as_str(), value)))
        .copied()
        .unwrap_or(0)
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::PodPlaced(_) => !pod.affinity.is_empty(),
        // The other may have become one that the pod wants to be near, or has ceased to be one that it keeps away from.
        Change::PodRelabelled(_) => pod.has_affinity(),
        Change::PodGone(_) => true,
        Change::NodeAdded(_) => true,
        Change::NodeUpdated { .. } => change.node_part_changed(|node| &node.labels),
        Change::Namespace => pod.has_affinity(),
        Change::NodeRemoved | Change::Volumes(_) | Change::Devices(_) => false,
    }
}

fn score(pod: &Pod, snapshot: &Snapshot, args: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let namespace = snapshot.namespace_labels(&pod.namespace);
    let args = &args.affinity;
    if args.ignore_preferences_of_placed && pod.preferred_affinity.is_empty() {
        return None;
    }
    let mut counts = Counts::new();
    for (info, other) in snapshot.pods_with_affinity() {
        for term in other
            .affinity
            .iter()
            .filter(|term| args.hard_weight > 0 && term.matches(pod, namespace))
        {
            count(&mut counts, term, info, args.hard_weight);
        }
        for (weight, term) in other
            .preferred_affinity
            .iter()
            .filter(|(_, term)| term.matches(pod, namespace))
        {
            count(&mut counts, term, info, *weight);
        }
    }
    if !pod.preferred_affinity.is_empty() {
        for info in snapshot.nodes() {
            for other in info.pods.values() {
                let other_namespace = snapshot.namespace_labels(&other.namespace);
                for (weight, term) in &pod.preferred_affinity {
                    if term.matches(other, other_namespace) {
                        count(&mut counts, term, info, *weight);
                    }
                }
            }
        }
    }
    if counts.is_empty() {
        return None;
    }
    let raw: Vec<i64> = nodes
        .iter()
        .map(|info| {
            counts
                .iter()
                .filter(|((key, value), _)| info.label(key) == Some(value))
                .map(|(_, n)| n)
                .sum()
        })
        .collect();
    // From the least to the most among the nodes, whatever their distance from zero.
    let smallest = raw.iter().copied().min().unwrap_or(0);
    let largest = raw.iter().copied().max().unwrap_or(0);
    let normalized = raw.iter().map(|raw| stretch(*raw, smallest, largest));
    Some(Scores {
        normalized: normalized.collect(),
        raw,
    })
}

/// A raw value in relation to the smallest and the largest.
pub(crate) fn stretch(raw: i64, smallest: i64, largest: i64) -> i64 {
    let range = largest.saturating_sub(smallest) as f64;
    match range > 0.0 {
        true => (SCORE_MAX as f64 * ((raw - smallest) as f64 / range)) as i64,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, node, scores, snapshot, verdict};
    use super::*;
    use serde_json::{Value, json};

    fn term(app: &str) -> Value {
        json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}})
    }

    fn required(kind: &str, app: &str, on: &str) -> Value {
        json!({"nodeName": on, "affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term(app)]}}})
    }

    fn nodes() -> Vec<crate::object::Node> {
        let zoned = |name: &str, zone: &str| node(name, json!({"zone": zone}), json!({}));
        vec![zoned("a1", "a"), zoned("a2", "a"), zoned("b1", "b")]
    }

    fn verdicts(pod: &Pod, cluster: &Snapshot) -> [Option<String>; 3] {
        ["a1", "a2", "b1"].map(|name| verdict(&FILTER, pod, cluster, name))
    }

    #[test]
    fn affinity_wants_the_place_of_a_matching_pod() {
        let cluster = snapshot(
            nodes(),
            vec![labelled_pod(
                "db",
                json!({"app": "db"}),
                json!({"nodeName": "a1"}),
            )],
        );
        let pod = labelled_pod(
            "new",
            json!({"app": "web"}),
            required("podAffinity", "db", ""),
        );
        let refused = Some("node(s) didn't match pod affinity rules".to_string());
        assert_eq!(verdicts(&pod, &cluster), [None, None, refused]);
    }

    #[test]
    fn the_first_pod_of_a_group_that_wants_its_own_kind_may_go_anywhere() {
        let cluster = snapshot(nodes(), vec![]);
        let own = labelled_pod(
            "new",
            json!({"app": "web"}),
            required("podAffinity", "web", ""),
        );
        assert_eq!(verdicts(&own, &cluster), [None, None, None]);
        let foreign = labelled_pod(
            "new",
            json!({"app": "web"}),
            required("podAffinity", "db", ""),
        );
        assert!(verdicts(&foreign, &cluster).iter().all(Option::is_some));
    }

    #[test]
    fn anti_affinity_works_in_both_directions() {
        let there = labelled_pod(
            "there",
            json!({"app": "web"}),
            required("podAntiAffinity", "web", "a1"),
        );
        let cluster = snapshot(nodes(), vec![there]);
        let same = labelled_pod(
            "new",
            json!({"app": "web"}),
            required("podAntiAffinity", "web", ""),
        );
        let mine = Some("node(s) didn't match pod anti-affinity rules".to_string());
        assert_eq!(verdicts(&same, &cluster), [mine.clone(), mine, None]);
        let plain = labelled_pod("new", json!({"app": "web"}), json!({}));
        let theirs = Some("node(s) didn't satisfy existing pods anti-affinity rules".to_string());
        assert_eq!(verdicts(&plain, &cluster), [theirs.clone(), theirs, None]);
    }

    #[test]
    fn preferences_score_by_weight() {
        let cluster = snapshot(
            nodes(),
            vec![labelled_pod(
                "db",
                json!({"app": "db"}),
                json!({"nodeName": "a1"}),
            )],
        );
        let preferring = |kind: &str| {
            let preferred = json!([{"weight": 10, "podAffinityTerm": term("db")}]);
            let affinity =
                json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
            labelled_pod("new", json!({}), json!({"affinity": affinity}))
        };
        assert_eq!(
            scores(&SCORE, &preferring("podAffinity"), &cluster).unwrap(),
            [100, 100, 0]
        );
        assert_eq!(
            scores(&SCORE, &preferring("podAntiAffinity"), &cluster).unwrap(),
            [0, 0, 100]
        );
    }

    #[test]
    fn values_are_stretched_over_the_whole_range() {
        let db = |name: &str, on: &str| {
            labelled_pod(name, json!({"app": "db"}), json!({"nodeName": on}))
        };
        let cluster = snapshot(
            nodes(),
            vec![db("d1", "a1"), db("d2", "a2"), db("d3", "b1")],
        );
        let preferred = json!([{"weight": 10, "podAffinityTerm": term("db")}]);
        let affinity =
            json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
        let pod = labelled_pod("new", json!({}), json!({"affinity": affinity}));
        // Zone a has twenty and zone b ten: the least is nothing although it is not zero.
        assert_eq!(scores(&SCORE, &pod, &cluster).unwrap(), [100, 100, 0]);
    }
}

//! PodTopologySpread: keeps the matching pods evenly over the places that a node label names.
//!
//! Hard constraints filter, soft ones score. A pod without constraints of its own is spread softly over hosts and
//! zones when a Service or its controller selects it, which is nearly every pod of a Deployment.

use super::{
    Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, SCORE_MAX, Score, Scores,
    Values,
};
use crate::object::{DefaultSpread, Pod, SpreadConstraint};
use crate::selector::LabelSelector;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeMap;

pub(super) const FILTER: Filter = Filter {
    name: "PodTopologySpread",
    reads: Reads::Spread,
    prepare,
    hears: &[
        (ChangeKind::PodPlaced, Near::Namespace),
        (ChangeKind::PodRelabelled, Near::Namespace),
        (ChangeKind::PodGone, Near::Namespace),
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
        (ChangeKind::NodeRemoved, Near::Anywhere),
    ],
    wakes_on,
};
pub(super) const SCORE: Score = Score {
    name: "PodTopologySpread",
    weight: 2,
    values: Values::Spread,
    score,
};

pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The places of one constraint with the number of matching pods in each.
type Places<'a> = BTreeMap<&'a str, i64>;

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, args: &'a Args) -> Prepared<'a> {
    let constraints = constraints(pod, snapshot, args, true);
    if constraints.is_empty() {
        return Prepared::Pass;
    }
    let mut places: Vec<Places<'a>> = vec![Places::new(); constraints.len()];
    for info in snapshot.nodes().filter(|info| {
        constraints
            .iter()
            .all(|c| info.label(&c.topology_key).is_some())
    }) {
        for (places, constraint) in places.iter_mut().zip(&constraints) {
            if let Some(place) = info
                .label(&constraint.topology_key)
                .filter(|_| counts(constraint, pod, info))
            {
                *places.entry(place).or_default() +=
                    matching(info, constraint.selector.as_ref(), pod);
            }
        }
    }
    Prepared::Each(Box::new(move |info| {
        for (places, constraint) in places.iter().zip(&constraints) {
            check(constraint, places, pod, info)?;
        }
        Ok(())
    }))
}

/// The hard or the soft constraints that hold for the pod, its own or those by default.
pub(crate) fn constraints(
    pod: &Pod,
    snapshot: &Snapshot,
    args: &Args,
    hard: bool,
) -> Vec<SpreadConstraint> {
    if !pod.spread.is_empty() {
        let wanted = pod.spread.iter().filter(|c| c.hard == hard);
        return wanted.cloned().collect();
    }
    if hard && args.spread == DefaultSpread::System {
        return Vec::new();
    }
    let mut defaults = default_constraints(pod, snapshot, &args.spread);
    defaults.retain(|c| c.hard == hard);
    defaults
}

/// Whether nodes take part in the score only if they say where they are in every respect. Hosts and zones for all are a
/// proposal: nodes that do not say where they are take part all the same.
pub(crate) fn all_labels_required(pod: &Pod, args: &Args) -> bool {
    !pod.spread.is_empty() || args.spread != DefaultSpread::System
}

fn check(
    constraint: &SpreadConstraint,
    places: &Places<'_>,
    pod: &Pod,
    info: &NodeInfo,
) -> Result<(), Rejection> {
    let Some(place) = info.label(&constraint.topology_key) else {
        return Err(Rejection::lasting(
            "node(s) didn't match pod topology spread constraints (missing required label)",
        ));
    };
    let emptiest = match places.values().min() {
        Some(_) if (places.len() as i64) < constraint.min_domains => 0,
        Some(emptiest) => *emptiest,
        None => return Ok(()),
    };
    let itself = i64::from(
        constraint
            .selector
            .as_ref()
            .is_some_and(|selector| selector.matches(&pod.labels)),
    );
    let here = places.get(place).copied().unwrap_or(0);
    if here + itself - emptiest > constraint.max_skew {
        return Err(Rejection::resolvable(
            "node(s) didn't match pod topology spread constraints",
        ));
    }
    Ok(())
}

/// Whether the node takes part in counting for the constraint.
pub(crate) fn counts(constraint: &SpreadConstraint, pod: &Pod, info: &NodeInfo) -> bool {
    let Some(node) = &info.node else { return false };
    (!constraint.honor_affinity || pod.wants_node(&node.name, &node.labels))
        && (!constraint.honor_taints || pod.tolerates_all(&node.taints))
}

/// How many pods on the node are of the pod's namespace, staying, and selected.
fn matching(info: &NodeInfo, selector: Option<&LabelSelector>, pod: &Pod) -> i64 {
    let Some(selector) = selector else { return 0 };
    let pods = info.pods.values().filter(|other| stays_with(other, pod));
    pods.filter(|other| selector.matches(&other.labels)).count() as i64
}

/// Whether a pod is of those among which the other one may count: of its namespace, and staying.
pub(crate) fn stays_with(other: &Pod, pod: &Pod) -> bool {
    !other.deleting && other.namespace == pod.namespace
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::PodPlaced(other) | Change::PodRelabelled(other) | Change::PodGone(other) => {
            other.namespace == pod.namespace
        }
        Change::NodeAdded(_) | Change::NodeRemoved => true,
        Change::NodeUpdated { .. } => {
            change.node_part_changed(|node| &node.labels)
                || change.node_part_changed(|node| &node.taints)
        }
        Change::Namespace | Change::Volumes(_) | Change::Devices(_) => false,
    }
}

fn score(pod: &Pod, snapshot: &Snapshot, args: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let all_labels_required = all_labels_required(pod, args);
    let constraints = constraints(pod, snapshot, args, false);
    if constraints.is_empty() {
        return None;
    }
    let scored: Vec<bool> = nodes
        .iter()
        .map(|info| {
            !all_labels_required
                || constraints
                    .iter()
                    .all(|c| info.label(&c.topology_key).is_some())
        })
        .collect();
    let taking_part: Vec<&NodeInfo> = nodes
        .iter()
        .zip(&scored)
        .filter(|(_, s)| **s)
        .map(|(info, _)| *info)
        .collect();
    let counted: Vec<Places<'_>> = constraints
        .iter()
        .map(|c| {
            count_places(
                c,
                &constraints,
                all_labels_required,
                pod,
                snapshot,
                &taking_part,
            )
        })
        .collect();

    let raw: Vec<i64> = nodes
        .iter()
        .map(|info| {
            let parts = constraints
                .iter()
                .zip(&counted)
                .map(|(constraint, places)| {
                    let Some(place) = info.label(&constraint.topology_key) else {
                        return 0.0;
                    };
                    let hosts = constraint.topology_key == HOSTNAME;
                    let (count, size) = match hosts {
                        true => (
                            matching(info, constraint.selector.as_ref(), pod),
                            taking_part.len(),
                        ),
                        false => (places.get(place).copied().unwrap_or(0), places.len()),
                    };
                    part(count, size, constraint)
                });
            parts.sum::<f64>().round() as i64
        })
        .collect();
    let normalized = spread_normalize(&raw, &scored);
    Some(Scores { raw, normalized })
}

/// What one constraint adds for a node with so many pods in its place, of which there are `size`.
pub(crate) fn part(count: i64, size: usize, constraint: &SpreadConstraint) -> f64 {
    count as f64 * ((size + 2) as f64).ln() + (constraint.max_skew - 1) as f64
}

/// Pods by place over all nodes that count, for the places of the nodes to be scored. Hosts are counted when scored.
fn count_places<'a>(
    constraint: &SpreadConstraint,
    all: &[SpreadConstraint],
    all_labels_required: bool,
    pod: &Pod,
    snapshot: &'a Snapshot,
    taking_part: &[&'a NodeInfo],
) -> Places<'a> {
    let mut places = Places::new();
    if constraint.topology_key == HOSTNAME {
        return places;
    }
    for info in taking_part {
        places.insert(info.label(&constraint.topology_key).unwrap_or_default(), 0);
    }
    for info in snapshot
        .nodes()
        .filter(|info| counts(constraint, pod, info))
    {
        if all_labels_required && all.iter().any(|c| info.label(&c.topology_key).is_none()) {
            continue;
        }
        if let Some(count) =
            places.get_mut(info.label(&constraint.topology_key).unwrap_or_default())
        {
            *count += matching(info, constraint.selector.as_ref(), pod);
        }
    }
    places
}

/// The emptiest place gets the most; nodes that take no part get nothing.
fn spread_normalize(raw: &[i64], scored: &[bool]) -> Vec<i64> {
    let taking_part = || {
        raw.iter()
            .zip(scored)
            .filter(|(_, scored)| **scored)
            .map(|(value, _)| *value)
    };
    let (smallest, largest) = (
        taking_part().min().unwrap_or(0),
        taking_part().max().unwrap_or(0),
    );
    let value = |(raw, scored): (&i64, &bool)| match *scored {
        true => spread_scale(*raw, smallest, largest),
        false => 0,
    };
    raw.iter().zip(scored).map(value).collect()
}

/// The raw value of a node that takes part, in relation to the smallest and the largest.
pub(crate) fn spread_scale(raw: i64, smallest: i64, largest: i64) -> i64 {
    match largest {
        0 => SCORE_MAX,
        _ => SCORE_MAX * (largest + smallest - raw) / largest,
    }
}

/// For a pod that says nothing itself, when anything selects it.
fn default_constraints(
    pod: &Pod,
    snapshot: &Snapshot,
    defaults: &DefaultSpread,
) -> Vec<SpreadConstraint> {
    let Some(selector) = snapshot.default_spread_selector(pod) else {
        return Vec::new();
    };
    let constraint = |topology_key: &str, max_skew| SpreadConstraint {
        max_skew,
        topology_key: topology_key.into(),
        hard: false,
        selector: Some(selector.clone()),
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    };
    match defaults {
        DefaultSpread::System => vec![constraint(HOSTNAME, 3), constraint(ZONE, 5)],
        DefaultSpread::List(list) => list
            .iter()
            .map(|given| SpreadConstraint {
                selector: Some(selector.clone()),
                ..given.clone()
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, node, scores, snapshot, verdict};
    use super::*;
    use serde_json::{Value, json};

    fn zoned(name: &str, zone: &str) -> crate::object::Node {
        node(name, json!({ZONE: zone, HOSTNAME: name}), json!({}))
    }

    fn web(name: &str, on: &str) -> Pod {
        labelled_pod(
            name,
            json!({"app": "web"}),
            json!({"nodeName": on, "containers": []}),
        )
    }

    fn spreading(constraints: Value) -> Pod {
        labelled_pod(
            "new",
            json!({"app": "web"}),
            json!({"topologySpreadConstraints": constraints}),
        )
    }

    fn constraint(key: &str, when: &str) -> Value {
        json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "web"}}})
    }

    #[test]
    fn a_place_may_not_be_more_than_max_skew_above_the_emptiest() {
        let cluster = snapshot(
            vec![
                zoned("a1", "a"),
                zoned("a2", "a"),
                zoned("b1", "b"),
                node("bare", json!({}), json!({})),
            ],
            vec![web("w1", "a1"), web("w2", "a2"), web("w3", "b1")],
        );
        let pod = spreading(json!([constraint(ZONE, "DoNotSchedule")]));
        let got = ["a1", "a2", "b1", "bare"].map(|n| verdict(&FILTER, &pod, &cluster, n));
        let skew = Some("node(s) didn't match pod topology spread constraints".to_string());
        let missing = Some(
            "node(s) didn't match pod topology spread constraints (missing required label)"
                .to_string(),
        );
        assert_eq!(got, [skew.clone(), skew, None, missing]);
    }

    #[test]
    fn with_fewer_places_than_min_domains_the_emptiest_counts_as_empty() {
        let cluster = snapshot(vec![zoned("a1", "a")], vec![web("w1", "a1")]);
        let mut wanted = constraint(ZONE, "DoNotSchedule");
        assert_eq!(
            verdict(&FILTER, &spreading(json!([wanted])), &cluster, "a1"),
            None
        );
        wanted["minDomains"] = json!(2);
        assert!(verdict(&FILTER, &spreading(json!([wanted])), &cluster, "a1").is_some());
    }

    #[test]
    fn soft_constraints_prefer_the_emptier_place() {
        let cluster = snapshot(
            vec![zoned("a1", "a"), zoned("b1", "b")],
            vec![web("w1", "a1"), web("w2", "a1"), web("w3", "b1")],
        );
        let pod = spreading(json!([constraint(ZONE, "ScheduleAnyway")]));
        // Two places weigh ln 4: 2 pods give 3, 1 pod gives 1; 100 * (3 + 1 - raw) / 3.
        assert_eq!(scores(&SCORE, &pod, &cluster).unwrap(), [33, 100]);
    }

    #[test]
    fn pods_that_a_service_selects_are_spread_by_default() {
        let mut cluster = snapshot(
            vec![zoned("a1", "a"), zoned("b1", "b")],
            vec![web("w1", "a1")],
        );
        let pod = labelled_pod("new", json!({"app": "web"}), json!({}));
        assert_eq!(scores(&SCORE, &pod, &cluster), None);
        let selector = LabelSelector::from_labels(&pod.labels);
        cluster
            .services
            .insert(("default".into(), "web".into()), selector);
        let values = scores(&SCORE, &pod, &cluster).unwrap();
        assert!(values[0] < values[1], "{values:?}");
    }

    #[test]
    fn a_profile_may_spread_by_rules_of_its_own() {
        use super::super::testing::verdict_with;
        let mut cluster = snapshot(
            vec![zoned("a1", "a"), zoned("b1", "b")],
            vec![web("w1", "a1")],
        );
        let pod = labelled_pod("new", json!({"app": "web"}), json!({}));
        let rule = json!({"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"});
        let list = vec![SpreadConstraint::without_selector(&rule)];
        let args = Args {
            spread: DefaultSpread::List(list),
            ..Args::default()
        };
        let verdicts = |cluster: &Snapshot| {
            ["a1", "b1"].map(|node| verdict_with(&FILTER, &pod, cluster, &args, node).is_some())
        };
        assert_eq!(
            verdicts(&cluster),
            [false, false],
            "nothing selects the pod"
        );
        let selector = LabelSelector::from_labels(&pod.labels);
        cluster
            .services
            .insert(("default".into(), "web".into()), selector);
        assert_eq!(verdicts(&cluster), [true, false]);
    }
}

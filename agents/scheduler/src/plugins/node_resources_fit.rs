//! NodeResourcesFit: what the pod asks for must be left on the node; emptier nodes score higher (LeastAllocated).

use super::{Change, Filter, Prepared, Rejection, SCORE_MAX, Score};
use crate::object::{Node, Pod};
use crate::snapshot::{NodeInfo, Snapshot};
use std::borrow::Cow;

pub(super) const FILTER: Filter = Filter {
    name: "NodeResourcesFit",
    prepare,
    wakes_on,
};
pub(super) const SCORE: Score = Score {
    name: "NodeResourcesFit",
    weight: 1,
    score,
};

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot) -> Prepared<'a> {
    Prepared::Each(Box::new(|info| check(pod, info)))
}

fn check(pod: &Pod, info: &NodeInfo) -> Result<(), Rejection> {
    let Some(node) = &info.node else {
        return Ok(());
    };
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    let mut resolvable = true;
    if info.pods.len() as i64 + 1 > node.pods_max {
        reasons.push("Too many pods".into());
    }
    let mut compare = |name: Cow<'static, str>, asked: i64, capacity: i64, used: i64| {
        if asked > 0 && asked > capacity.saturating_sub(used) {
            reasons.push(name);
            resolvable &= asked <= capacity;
        }
    };
    let (asked, capacity, used) = (&pod.requests, &node.allocatable, &info.requested);
    compare(
        "Insufficient cpu".into(),
        asked.milli_cpu,
        capacity.milli_cpu,
        used.milli_cpu,
    );
    compare(
        "Insufficient memory".into(),
        asked.memory,
        capacity.memory,
        used.memory,
    );
    compare(
        "Insufficient ephemeral-storage".into(),
        asked.ephemeral_storage,
        capacity.ephemeral_storage,
        used.ephemeral_storage,
    );
    for (name, amount) in &asked.scalar {
        let of = |resources: &crate::resources::Resources| {
            resources.scalar.get(name).copied().unwrap_or(0)
        };
        compare(
            format!("Insufficient {name}").into(),
            *amount,
            of(capacity),
            of(used),
        );
    }
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(Rejection {
            reasons,
            resolvable,
        })
    }
}

fn wakes_on(pod: &Pod, change: &Change) -> bool {
    match change {
        Change::PodGone(_) => true,
        Change::NodeAdded(node) => fits_empty(pod, node),
        Change::NodeUpdated { old, new } => {
            (old.allocatable != new.allocatable || old.pods_max != new.pods_max)
                && fits_empty(pod, new)
        }
        _ => false,
    }
}

/// Whether the node could hold the pod if nothing else were there.
fn fits_empty(pod: &Pod, node: &Node) -> bool {
    check(pod, &NodeInfo::empty(node.clone().into())).is_ok()
}

fn score(pod: &Pod, _: &Snapshot, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
    Some(
        nodes
            .iter()
            .map(|info| least_allocated(pod, info))
            .collect(),
    )
}

fn least_allocated(pod: &Pod, info: &NodeInfo) -> i64 {
    let Some(node) = &info.node else { return 0 };
    let parts = [
        (
            info.scored.0.saturating_add(pod.scored.0),
            node.allocatable.milli_cpu,
        ),
        (
            info.scored.1.saturating_add(pod.scored.1),
            node.allocatable.memory,
        ),
    ];
    let known = parts.into_iter().filter(|(_, capacity)| *capacity != 0);
    let (sum, count) = known.fold((0, 0), |(sum, count), (requested, capacity)| {
        let free = if requested > capacity || capacity < 0 {
            0
        } else {
            ((capacity - requested) as i128 * SCORE_MAX as i128 / capacity as i128) as i64
        };
        (sum + free, count + 1)
    });
    if count == 0 { 0 } else { sum / count }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, node, pod, scores, snapshot, verdict};
    use super::*;
    use serde_json::{Value, json};

    fn requests(value: Value) -> Value {
        json!({"nodeName": "n", "containers": [{"resources": {"requests": value}}]})
    }

    #[test]
    fn every_missing_resource_is_named() {
        let there = labelled_pod(
            "there",
            json!({}),
            requests(json!({"cpu": "3", "memory": "7Gi"})),
        );
        let cluster = snapshot(vec![node("n", json!({}), json!({}))], vec![there]);
        let table = [
            (json!({"cpu": "1", "memory": "1Gi"}), None),
            (json!({"cpu": "1001m"}), Some("Insufficient cpu")),
            (
                json!({"cpu": "2", "memory": "2Gi"}),
                Some("Insufficient cpu, Insufficient memory"),
            ),
            (
                json!({"ephemeral-storage": "1"}),
                Some("Insufficient ephemeral-storage"),
            ),
            (
                json!({"example.com/gpu": "1"}),
                Some("Insufficient example.com/gpu"),
            ),
            (json!({"example.com/gpu": "0"}), None),
        ];
        for (asked, expected) in table {
            let got = verdict(&FILTER, &pod(requests(asked.clone())), &cluster, "n");
            assert_eq!(got.as_deref(), expected, "{asked}");
        }
    }

    #[test]
    fn the_number_of_pods_is_bounded_and_preemption_helps_only_within_the_capacity() {
        let tiny = Node::compile(
            &json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "pods": "1"}}}),
        );
        let there = labelled_pod("there", json!({}), requests(json!({"cpu": "1"})));
        let cluster = snapshot(vec![tiny], vec![there]);
        let info = cluster.node("n").unwrap();
        let one = check(&pod(requests(json!({"cpu": "1"}))), info).unwrap_err();
        assert_eq!(one.reasons, ["Too many pods", "Insufficient cpu"]);
        assert!(one.resolvable);
        assert!(
            !check(&pod(requests(json!({"cpu": "2"}))), info)
                .unwrap_err()
                .resolvable
        );
    }

    #[test]
    fn amounts_beyond_all_numbers_do_no_harm() {
        let huge = json!({"cpu": "9E", "memory": "9E", "x/y": "-9E"});
        let there = labelled_pod("there", json!({}), requests(huge.clone()));
        let node = Node::compile(
            &json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "-9E", "memory": "9E", "pods": "-1", "x/y": "9E"},
                "images": [{"names": ["a:1"], "sizeBytes": i64::MAX}, {"names": ["b:1"], "sizeBytes": i64::MIN}]}}),
        );
        let cluster = snapshot(vec![node], vec![there]);
        let mut asking = requests(huge);
        asking["initContainers"] = json!([{"image": "a:1"}, {"image": "a:1"}, {"image": "b:1"}]);
        let pod = pod(asking);
        assert!(check(&pod, cluster.node("n").unwrap()).is_err());
        for score in super::super::SCORES {
            for value in scores(score, &pod, &cluster).unwrap_or_default() {
                assert!((0..=SCORE_MAX).contains(&value), "{} {value}", score.name);
            }
        }
    }

    #[test]
    fn emptier_nodes_score_higher() {
        let there = labelled_pod(
            "there",
            json!({}),
            requests(json!({"cpu": "2", "memory": "4Gi"})),
        );
        let cluster = snapshot(
            vec![
                node("n", json!({}), json!({})),
                node("o", json!({}), json!({})),
            ],
            vec![there],
        );
        let asking = pod(requests(json!({"cpu": "1", "memory": "2Gi"})));
        assert_eq!(scores(&SCORE, &asking, &cluster).unwrap(), [25, 75]);
        // Without requests a container counts 100m of 4 cores and 200Mi of 8Gi.
        assert_eq!(
            scores(&SCORE, &pod(json!({"containers": [{}]})), &cluster).unwrap(),
            [47, 97]
        );
    }
}

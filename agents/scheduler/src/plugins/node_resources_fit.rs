//! NodeResourcesFit: what the pod asks for must be left on the node; emptier nodes score higher (LeastAllocated).
//!
//! An extended resource that the node does not have is left to DynamicResources where devices stand for it.

use super::{
    Args, Change, ChangeKind, DeviceChange, Filter, Near, Prepared, Reads, Rejection, SCORE_MAX,
    Score, Scores, Values,
};
use crate::config::args::{FitArgs, Strategy};
use crate::devices::claim::DeviceClass;
use crate::devices::extended::PREFIX;
use crate::object::{Node, Pod};
use crate::snapshot::{NodeInfo, Snapshot};
use std::borrow::Cow;

pub(super) const FILTER: Filter = Filter {
    name: "NodeResourcesFit",
    reads: Reads::Node,
    prepare,
    hears: &[
        (ChangeKind::PodGone, Near::Anywhere),
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
        (ChangeKind::DeviceClass, Near::Anywhere),
    ],
    wakes_on,
};
pub(super) const SCORE: Score = Score {
    name: "NodeResourcesFit",
    weight: 1,
    values: Values::Plain,
    score,
};

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, args: &'a Args) -> Prepared<'a> {
    let behind = snapshot.devices.resources_behind(pod);
    Prepared::Each(Box::new(move |info| {
        check(pod, info, &args.fit, |name| behind.contains(name))
    }))
}

/// `is_backed`: whether devices stand for an extended resource.
fn check(
    pod: &Pod,
    info: &NodeInfo,
    args: &FitArgs,
    is_backed: impl Fn(&str) -> bool,
) -> Result<(), Rejection> {
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
    for (name, amount) in asked.scalar.iter().filter(|(name, _)| !args.ignores(name)) {
        let of = |resources: &crate::resources::Resources| {
            resources.scalar.get(name).copied().unwrap_or(0)
        };
        if of(capacity) == 0 && is_backed(name) {
            continue;
        }
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

fn wakes_on(pod: &Pod, change: &Change, args: &Args) -> bool {
    match change {
        Change::PodGone(_) => true,
        Change::NodeAdded(node) => fits_empty(pod, node, args),
        Change::NodeUpdated { old, new } => {
            (old.allocatable != new.allocatable || old.pods_max != new.pods_max)
                && fits_empty(pod, new, args)
        }
        Change::Devices(DeviceChange::Class(class)) => is_behind(class, pod),
        _ => false,
    }
}

/// Whether the node could hold the pod if nothing else were there.
fn fits_empty(pod: &Pod, node: &Node, args: &Args) -> bool {
    // For what devices stand, the pod waits by the other filter.
    let empty = NodeInfo::empty(node.clone().into());
    check(pod, &empty, &args.fit, |_| false).is_ok()
}

/// Whether devices of the class stand for a resource that the pod asks for.
fn is_behind(class: &DeviceClass, pod: &Pod) -> bool {
    let mut asked = pod.extended.iter().flat_map(|asking| &asking.resources);
    asked.any(|asked| {
        class.extended_resource.as_ref() == Some(&asked.name)
            || asked.name.strip_prefix(PREFIX) == Some(&*class.name)
    })
}

fn score(pod: &Pod, _: &Snapshot, args: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let values = nodes.iter().map(|info| value(pod, info, &args.fit));
    Some(Scores::plain(values.collect()))
}

/// The weighted mean over the resources that the node has.
fn value(pod: &Pod, info: &NodeInfo, args: &FitArgs) -> i64 {
    let Some(node) = &info.node else { return 0 };
    let (mut sum, mut weights) = (0, 0);
    for (name, weight) in &args.resources {
        let capacity = node.allocatable.get(name);
        let asked = match name.as_str() {
            "cpu" => pod.scored.0,
            "memory" => pod.scored.1,
            _ => pod.requests.get(name),
        };
        let used = match name.as_str() {
            "cpu" => info.scored.0,
            "memory" => info.scored.1,
            _ => info.requested.get(name),
        };
        // An extended resource that the pod does not ask for says nothing about where it should go.
        let usual = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
        if capacity == 0 || asked == 0 && !usual {
            continue;
        }
        let part = part(used.saturating_add(asked), capacity, &args.strategy);
        // By ratio, what scores nothing counts for nothing.
        if part > 0 || !matches!(args.strategy, Strategy::RequestedToCapacityRatio(_)) {
            sum += part * weight;
            weights += weight;
        }
    }
    match (weights, &args.strategy) {
        (0, _) => 0,
        (_, Strategy::RequestedToCapacityRatio(_)) => (sum as f64 / weights as f64).round() as i64,
        _ => sum / weights,
    }
}

/// What one resource says, with so much of its capacity in use.
fn part(used: i64, capacity: i64, strategy: &Strategy) -> i64 {
    let percent = |amount: i64| (i128::from(amount) * 100 / i128::from(capacity)) as i64;
    let overfull = used > capacity || capacity < 0;
    match strategy {
        Strategy::LeastAllocated if overfull => 0,
        Strategy::LeastAllocated => {
            (i128::from(capacity - used) * i128::from(SCORE_MAX) / i128::from(capacity)) as i64
        }
        Strategy::MostAllocated if capacity < 0 => 0,
        Strategy::MostAllocated => {
            (i128::from(used.min(capacity)) * i128::from(SCORE_MAX) / i128::from(capacity)) as i64
        }
        Strategy::RequestedToCapacityRatio(shape) if overfull => on_line(shape, 100),
        Strategy::RequestedToCapacityRatio(shape) => on_line(shape, percent(used)),
    }
}

/// The score at a percentage on the line through the points, level before the first and behind the last.
fn on_line(shape: &[(i64, i64)], percent: i64) -> i64 {
    let Some(next) = shape.iter().position(|(used, _)| percent <= *used) else {
        return shape.last().map_or(0, |(_, score)| *score);
    };
    let (used, score) = shape[next];
    let Some((used_before, score_before)) = next.checked_sub(1).map(|at| shape[at]) else {
        return score;
    };
    score_before + (score - score_before) * (percent - used_before) / (used - used_before)
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
        let one = check(
            &pod(requests(json!({"cpu": "1"}))),
            info,
            &Args::default().fit,
            |_| false,
        )
        .unwrap_err();
        assert_eq!(one.reasons, ["Too many pods", "Insufficient cpu"]);
        assert!(one.resolvable);
        assert!(
            !check(
                &pod(requests(json!({"cpu": "2"}))),
                info,
                &Args::default().fit,
                |_| false,
            )
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
        let (info, args) = (cluster.node("n").unwrap(), Args::default());
        assert!(check(&pod, info, &args.fit, |_| false).is_err());
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

    #[test]
    fn strategies() {
        use super::super::testing::scores_with;
        let there = labelled_pod(
            "there",
            json!({}),
            requests(json!({"cpu": "1", "memory": "2Gi"})),
        );
        let nodes = || {
            vec![
                node("n", json!({}), json!({})),
                node("o", json!({}), json!({})),
            ]
        };
        let cluster = snapshot(nodes(), vec![there]);
        let asking = pod(requests(json!({"cpu": "1", "memory": "4Gi"})));
        let by = |strategy: Strategy, cpu: i64, memory: i64| {
            let mut args = Args::default();
            args.fit.strategy = strategy;
            args.fit.resources = vec![
                ("cpu".into(), cpu),
                ("memory".into(), memory),
                ("x/y".into(), 9),
            ];
            scores_with(&SCORE, &asking, &cluster, &args).unwrap()
        };
        // In use with the pod: on n half of the cores and three quarters of the memory, on o a quarter and a half.
        assert_eq!(by(Strategy::LeastAllocated, 1, 1), [37, 62]);
        assert_eq!(by(Strategy::MostAllocated, 1, 1), [62, 37]);
        assert_eq!(by(Strategy::MostAllocated, 3, 1), [56, 31]);
        let shape = |points: &[(i64, i64)]| Strategy::RequestedToCapacityRatio(points.to_vec());
        assert_eq!(by(shape(&[(0, 0), (100, 100)]), 1, 1), [63, 38]);
        // Nothing for the memory on n, which then does not count.
        assert_eq!(by(shape(&[(50, 100), (75, 0)]), 1, 1), [100, 100]);
    }

    #[test]
    fn extended_resources_that_others_care_for_are_left_out() {
        use super::super::testing::verdict_with;
        let cluster = snapshot(vec![node("n", json!({}), json!({}))], vec![]);
        let asking = pod(requests(
            json!({"example.com/gpu": "1", "other.com/x": "1"}),
        ));
        let mut args = Args::default();
        args.fit.ignored_groups.insert("example.com".into());
        let verdict = |args: &Args| verdict_with(&FILTER, &asking, &cluster, args, "n");
        assert_eq!(verdict(&args).unwrap(), "Insufficient other.com/x");
        args.fit.ignored.insert("other.com/x".into());
        assert_eq!(verdict(&args), None);
    }

    #[test]
    fn what_devices_stand_for_is_left_to_them_where_the_node_has_none() {
        use crate::devices::extended::tests::gpu_class;
        use crate::devices::testing::devices;
        use std::sync::Arc;
        let gpus = |name: &str, amount: &str| {
            let allocatable =
                json!({"cpu": "4", "memory": "8Gi", "pods": "9", "example.com/gpu": amount});
            Node::compile(
                &json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}}),
            )
        };
        let nodes = vec![
            node("n", json!({}), json!({})),
            gpus("o", "1"),
            gpus("z", "0"),
        ];
        let mut cluster = snapshot(nodes, vec![]);
        let asking = pod(requests(json!({"example.com/gpu": "2"})));
        let words = |cluster: &Snapshot, node: &str| verdict(&FILTER, &asking, cluster, node);
        let refused = Some("Insufficient example.com/gpu".to_owned());
        assert_eq!(words(&cluster, "n"), refused);
        cluster.devices = Arc::new(devices(&[gpu_class()]));
        assert_eq!(words(&cluster, "n"), None);
        assert_eq!(words(&cluster, "z"), None);
        assert_eq!(words(&cluster, "o"), refused, "it has some itself");
    }

    #[test]
    fn a_class_behind_what_a_pod_asks_for_wakes_it() {
        use crate::devices::extended::tests::gpu_class;
        use std::sync::Arc;
        let wakes = |amounts: Value| {
            let class = Arc::new(DeviceClass::compile(&gpu_class()));
            let change = Change::Devices(DeviceChange::Class(class));
            wakes_on(&pod(requests(amounts)), &change, &Args::default())
        };
        assert!(wakes(json!({"example.com/gpu": "1"})));
        assert!(wakes(
            json!({"deviceclass.resource.kubernetes.io/card": "1"})
        ));
        assert!(!wakes(
            json!({"example.com/gpu": "0", "example.com/other": "1"})
        ));
        assert!(!wakes(json!({"cpu": "1"})));
    }
}

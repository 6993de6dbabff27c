//! What works only where a configuration asks for it: DataLocality, and the other strategies of NodeResourcesFit.

use super::nodes::tagged;
use super::property::{name, picture};
use super::random::{Dice, cluster, pod};
use super::resources::{amount, asked, asked_for_score};
use super::volumes::{SELECTED, claim_names, find, reaches, size};
use super::{Cluster, list, words};
use crate::config::Config;
use crate::config::args::Args;
use crate::object::Pod;
use crate::plugins::SCORES;
use crate::snapshot::NodeInfo;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;

const WEIGHTS: [(&str, i64); 3] = [("cpu", 3), ("memory", 1), ("example.com/gpu", 2)];
/// Percent in use, and what it scores.
const SHAPE: [(i64, i64); 3] = [(10, 0), (40, 100), (90, 30)];

/// The arguments of a file with this strategy and [`WEIGHTS`].
fn args(strategy: &str) -> Args {
    let text = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- pluginConfig:\n  \
         - name: NodeResourcesFit\n    args:\n      scoringStrategy:\n        resources: [{{name: cpu, weight: 3}}, \
         {{name: memory}}, {{name: example.com/gpu, weight: 2}}]\n        {strategy}\n"
    );
    let config = Config::parse(&text).unwrap();
    let profile = config.profiles().next().unwrap();
    profile.args.clone()
}

/// What counts of each resource: how much is in use with the pod, how much there is, and its weight.
fn in_use(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<(i64, i64, i64)> {
    let mut all = Vec::new();
    for (resource, weight) in WEIGHTS {
        let of = |pod: &Value| match resource {
            "cpu" | "memory" => asked_for_score(pod, resource),
            other => asked(pod, other, 0),
        };
        let there: i64 = cluster.pods_on(node).into_iter().map(of).sum();
        let capacity = amount(&node["status"]["allocatable"], resource);
        if capacity > 0 && of(pod) > 0 {
            all.push((there + of(pod), capacity, weight));
        }
    }
    all
}

fn fullest(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let all = in_use(cluster, pod, node);
    let weights: i64 = all.iter().map(|(_, _, weight)| weight).sum();
    let part = |(used, capacity, weight): &(i64, i64, i64)| {
        let used = (*used).min(*capacity);
        100 * used / capacity * weight
    };
    all.iter().map(part).sum::<i64>() / weights
}

/// The score at so many percent: on the straight line between the points around it.
fn on_shape(percent: i64) -> i64 {
    let (first, last) = (SHAPE[0], SHAPE[SHAPE.len() - 1]);
    if percent <= first.0 {
        return first.1;
    }
    for pair in SHAPE.windows(2) {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        if percent <= to {
            return low + (high - low) * (percent - from) / (to - from);
        }
    }
    last.1
}

fn by_ratio(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for (used, capacity, weight) in in_use(cluster, pod, node) {
        let part = on_shape((100 * used / capacity).min(100));
        if part > 0 {
            sum += part * weight;
            weights += weight;
        }
    }
    if weights == 0 {
        return 0;
    }
    (sum as f64 / weights as f64).round() as i64
}

/// Bytes of an image on a node.
fn image_on(node: &Value, image: &str) -> Option<i64> {
    let has = |listed: &&Value| list(&listed["names"]).iter().any(|name| name == image);
    let found = list(&node["status"]["images"]).iter().find(has)?;
    found["sizeBytes"].as_i64()
}

/// Whether the data of a claim are on a node.
fn holds_data(cluster: &Cluster, pod: &Value, claim: &Value, node: &Value) -> bool {
    let Some(volume) = find(&cluster.volumes, words(&claim["spec"]["volumeName"])) else {
        return claim["metadata"]["annotations"].get(SELECTED) == Some(&node["metadata"]["name"]);
    };
    let is_bound_to_places = volume["spec"]["nodeAffinity"]["required"].is_object();
    let is_used_here = cluster.pods_on(node).into_iter().any(|other| {
        other["metadata"]["namespace"] == pod["metadata"]["namespace"]
            && claim_names(other).contains(&words(&claim["metadata"]["name"]))
    });
    let is_attached = cluster.attachments.iter().any(|attachment| {
        attachment["spec"]["nodeName"] == node["metadata"]["name"]
            && attachment["spec"]["source"]["persistentVolumeName"] == volume["metadata"]["name"]
    });
    is_bound_to_places && reaches(volume, node) || is_attached || is_used_here
}

fn data_locality(cluster: &Cluster, pod: &Value) -> Option<(Vec<i64>, Vec<i64>)> {
    let init = list(&pod["spec"]["initContainers"]).iter();
    let containers = init.chain(list(&pod["spec"]["containers"]));
    let images: BTreeSet<String> = containers.map(|c| tagged(words(&c["image"]))).collect();
    let claims: BTreeSet<&str> = claim_names(pod).into_iter().collect();
    let claims: Vec<(&Value, i64)> = claims
        .into_iter()
        .filter_map(|name| find(&cluster.claims, name))
        .map(|claim| {
            let volume = find(&cluster.volumes, words(&claim["spec"]["volumeName"]));
            (claim, size(volume.unwrap_or(claim)))
        })
        .collect();
    let of_images = images.iter().filter_map(|image| {
        let sizes = cluster
            .nodes
            .iter()
            .filter_map(|node| image_on(node, image));
        sizes.max()
    });
    let needed = of_images.sum::<i64>() + claims.iter().map(|(_, size)| size).sum::<i64>();
    if needed < 23 << 20 {
        return None;
    }
    let here = |node: &Value| {
        let of_images = images.iter().filter_map(|image| image_on(node, image));
        let of_claims = claims
            .iter()
            .filter(|(claim, _)| holds_data(cluster, pod, claim, node));
        of_images.sum::<i64>() + of_claims.map(|(_, size)| size).sum::<i64>()
    };
    let raw: Vec<i64> = cluster.nodes.iter().map(here).collect();
    let normalized = raw.iter().map(|bytes| (100 * bytes / needed).min(100));
    Some((raw.clone(), normalized.collect()))
}

/// What a node is worth for a pod.
type ScoreOfNode = fn(&Cluster, &Value, &Value) -> i64;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_a_configuration_asks_for_agrees_with_the_slow_one(row in prop::collection::vec(any::<u32>(), 0..1200)) {
        let mut dice = Dice::new(row);
        let cluster = cluster(&mut dice);
        let pod = pod(&mut dice, "new");
        let picture = picture(&cluster);
        let snapshot = picture.snapshot();
        let compiled = Pod::compile(&pod);
        let nodes: Vec<&NodeInfo> = cluster.nodes.iter().map(|node| snapshot.node(name(node)).unwrap()).collect();
        let got = |plugin: &str, args: &Args| {
            let score = SCORES.iter().find(|score| score.name == plugin).unwrap();
            let scores = (score.score)(&compiled, snapshot, args, &nodes);
            scores.map(|scores| (scores.raw, scores.normalized))
        };
        prop_assert_eq!(got("DataLocality", &Args::default()), data_locality(&cluster, &pod));
        let ratio = "type: RequestedToCapacityRatio\n        requestedToCapacityRatio: {shape: \
            [{utilization: 10, score: 0}, {utilization: 40, score: 10}, {utilization: 90, score: 3}]}";
        let strategies: [(&str, ScoreOfNode); 2] =
            [("type: MostAllocated", fullest), (ratio, by_ratio)];
        for (strategy, value) in strategies {
            let expected: Vec<i64> = cluster.nodes.iter().map(|node| value(&cluster, &pod, node)).collect();
            let (raw, _) = got("NodeResourcesFit", &args(strategy)).unwrap();
            prop_assert_eq!(raw, expected, "{}", strategy);
        }
    }
}

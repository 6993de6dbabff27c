//! On random clusters the real scheduler and the reference say the same, plugin by plugin.

use super::random::{Dice, cluster, pod};
use super::{Cluster, filter, pressure, score};
use crate::config::{Config, Profile};
use crate::explain::Picture;
use crate::object::Pod;
use crate::plugins::testing::verdict_with;
use crate::schedule::{Decision, schedule};
use crate::snapshot::{NodeInfo, Snapshot};
use agent_runtime::resource_ref::{
    CSI_DRIVERS, CSI_NODES, CSI_STORAGE_CAPACITIES, NAMESPACES, NODES, PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES, PODS, SERVICES, STORAGE_CLASSES, VOLUME_ATTACHMENTS,
};
use proptest::prelude::*;
use serde_json::Value;

/// The usual plugins, and one that goes by what nodes say of themselves.
pub(super) fn config() -> Config {
    Config::parse(pressure::CONFIG).unwrap()
}

/// Of the only profile.
pub(super) fn profile() -> Profile {
    let config = config();
    let profile = config.profiles().next().unwrap();
    (**profile).clone()
}

/// The same cluster as the real scheduler sees it.
pub(super) fn picture(cluster: &Cluster) -> Picture {
    let mut picture = Picture::new(config());
    picture.set_clock(cluster.now);
    let all = [
        (NODES, &cluster.nodes),
        (NAMESPACES, &cluster.namespaces),
        (SERVICES, &cluster.services),
        (STORAGE_CLASSES, &cluster.classes),
        (CSI_NODES, &cluster.csi_nodes),
        (CSI_DRIVERS, &cluster.drivers),
        (CSI_STORAGE_CAPACITIES, &cluster.capacities),
        (VOLUME_ATTACHMENTS, &cluster.attachments),
        (PERSISTENT_VOLUMES, &cluster.volumes),
        (PERSISTENT_VOLUME_CLAIMS, &cluster.claims),
        (PODS, &cluster.pods),
    ];
    for (resource, objects) in all {
        objects
            .iter()
            .for_each(|object| picture.add(&resource, object));
    }
    picture
}

pub(super) fn name(node: &Value) -> &str {
    node["metadata"]["name"].as_str().unwrap()
}

/// Filters agree on every node; gives back the nodes that all of them pass.
fn filters_agree(
    cluster: &Cluster,
    pod: &Value,
    snapshot: &Snapshot,
) -> Result<Vec<String>, TestCaseError> {
    let compiled = Pod::compile(pod);
    let profile = profile();
    let mut feasible = Vec::new();
    for node in &cluster.nodes {
        let mut passes = true;
        for plugin in &profile.filters {
            let expected = filter(plugin.name, cluster, pod, node).join(", ");
            let got = verdict_with(plugin, &compiled, snapshot, &profile.args, name(node));
            let mut got = got.unwrap_or_default();
            // A filter that names the few nodes which are worth a look has no words for the others.
            if got == "not in the list" && !expected.is_empty() {
                got.clone_from(&expected);
            }
            prop_assert_eq!(
                got,
                expected.clone(),
                "{} on {}: {}",
                plugin.name,
                node,
                pod
            );
            passes &= expected.is_empty();
        }
        if passes {
            feasible.push(name(node).to_owned());
        }
    }
    Ok(feasible)
}

/// Scores agree on these nodes; gives back the totals.
fn scores_agree(
    cluster: &Cluster,
    pod: &Value,
    snapshot: &Snapshot,
    names: &[String],
) -> Result<Vec<i64>, TestCaseError> {
    let compiled = Pod::compile(pod);
    let nodes: Vec<&Value> = names
        .iter()
        .map(|wanted| cluster.nodes.iter().find(|n| name(n) == wanted).unwrap())
        .collect();
    let infos: Vec<&NodeInfo> = names
        .iter()
        .map(|name| snapshot.node(name).unwrap())
        .collect();
    let profile = profile();
    let mut totals = vec![0; names.len()];
    for (plugin, weight) in &profile.scores {
        let expected = score(plugin.name, cluster, pod, &nodes);
        let got = (plugin.score)(&compiled, snapshot, &profile.args, &infos);
        let got = got.map(|scores| (scores.raw, scores.normalized));
        prop_assert_eq!(&got, &expected, "{} on {:?}: {}", plugin.name, names, pod);
        for (total, value) in totals.iter_mut().zip(expected.unwrap_or_default().1) {
            *total += weight * value;
        }
    }
    Ok(totals)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_real_scheduler_agrees_with_the_slow_one(row in prop::collection::vec(any::<u32>(), 0..1200)) {
        let mut dice = Dice::new(row);
        let cluster = cluster(&mut dice);
        let pod = pod(&mut dice, "new");
        let picture = picture(&cluster);
        let snapshot = picture.snapshot();
        let feasible = filters_agree(&cluster, &pod, snapshot)?;
        // Scores are compared on nodes that no filter would let through as well: there are more of them.
        let all: Vec<String> = cluster.nodes.iter().map(|node| name(node).to_owned()).collect();
        scores_agree(&cluster, &pod, snapshot, &all)?;
        // Nobody scores nothing.
        let totals = match feasible.is_empty() {
            true => Vec::new(),
            false => scores_agree(&cluster, &pod, snapshot, &feasible)?,
        };
        let best = totals.iter().max();
        let mut expected: Vec<&String> = feasible.iter().zip(&totals).filter(|(_, t)| Some(*t) == best).map(|(n, _)| n).collect();
        // One node is taken without being scored.
        if feasible.len() == 1 {
            expected = feasible.iter().collect();
        }
        let (mut decided, mut equals) = (Vec::new(), 1);
        let profile = profile();
        for at in 0.. {
            if at >= equals {
                break;
            }
            let decision = schedule(&Pod::compile(&pod), snapshot, &profile, 0, &mut |n| {
                equals = n;
                at
            });
            match decision {
                Decision::Bind { node, .. } => decided.push(node),
                Decision::Unschedulable(diagnosis) => prop_assert!(feasible.is_empty(), "{}", diagnosis.message(None)),
            }
        }
        decided.sort();
        expected.sort();
        prop_assert_eq!(decided.iter().collect::<Vec<_>>(), expected);
    }
}

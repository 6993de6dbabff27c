//! The pressure on nodes, with the arguments that the tests give.

use super::{Cluster, list, words};
use agent_runtime::timestamp;
use serde_json::Value;

/// What the tests write into the configuration.
pub(super) const CONFIG: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
    - plugins: {multiPoint: {enabled: [{name: PressureAware, weight: 3}]}}\n  pluginConfig:\n  - name: PressureAware\n    \
    args: {resources: [{name: cpu, weight: 2}, {name: io}], maxPressure: {cpu: 80, memory: 50, io: 90}}\n";
const NAMES: [&str; 3] = ["cpu", "memory", "io"];
const WEIGHTS: [i64; 3] = [2, 0, 1];
const MOST: [i64; 3] = [80, 50, 90];

/// The figures that count.
fn figures(cluster: &Cluster, node: &Value) -> Option<Vec<i64>> {
    let text = node["metadata"]["annotations"]["node.kontiki.io/pressure"].as_str()?;
    let told: Value = serde_json::from_str(text).ok()?;
    let seconds = (cluster.now - timestamp::parse(words(&told["at"]))?) / 1_000_000;
    if !(-60..660).contains(&seconds) {
        return None;
    }
    let figures: Vec<i64> = NAMES
        .iter()
        .filter_map(|name| told[*name].as_i64())
        .collect();
    let possible = figures.len() == 3 && figures.iter().all(|figure| (0..=100).contains(figure));
    possible.then_some(figures)
}

fn weights(pod: &Value) -> Vec<i64> {
    let said = &pod["metadata"]["annotations"]["scheduling.kontiki.io/pressure-sensitivity"];
    let Some(said) = said.as_str() else {
        return WEIGHTS.to_vec();
    };
    let of = |name: &&str| {
        let mut parts = said.split(',').filter_map(|part| {
            let rest = part.strip_prefix(name)?;
            rest.strip_prefix('=').unwrap_or("1").parse::<i64>().ok()
        });
        parts.next().unwrap_or(0)
    };
    NAMES.iter().map(of).collect()
}

/// Whether each term, those that say nothing left out, asks for a node by its name, as daemons do.
fn names_its_nodes(pod: &Value) -> bool {
    let required =
        &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let fields = |term: &&Value| !list(&term["matchFields"]).is_empty();
    let expressions = |term: &&Value| !list(&term["matchExpressions"]).is_empty();
    let terms = list(&required["nodeSelectorTerms"]).iter();
    let terms: Vec<&Value> = terms.filter(|t| fields(t) || expressions(t)).collect();
    let names = |term: &&Value| {
        let mut fields = list(&term["matchFields"]).iter();
        fields.any(|field| field["operator"] == "In")
    };
    !terms.is_empty() && terms.iter().all(names)
}

pub(super) fn filter(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let critical = pod["spec"]["priority"].as_i64() >= Some(2_000_000_000);
    let exempt = critical || names_its_nodes(pod);
    let Some(figures) = figures(cluster, node).filter(|_| !exempt) else {
        return Vec::new();
    };
    let weights = weights(pod);
    let too_much = (0..3).filter(|at| weights[*at] > 0 && figures[*at] > MOST[*at]);
    too_much
        .map(|at| format!("node(s) had too much {} pressure", NAMES[at]))
        .collect()
}

pub(super) fn score(
    cluster: &Cluster,
    pod: &Value,
    nodes: &[&Value],
) -> Option<(Vec<i64>, Vec<i64>)> {
    let weights = weights(pod);
    let all: i64 = weights.iter().sum();
    if all == 0 {
        return None;
    }
    let mean = |figures: Vec<i64>| {
        let weighted = figures.iter().zip(&weights).map(|(f, w)| f * w);
        100 - weighted.sum::<i64>() / all
    };
    let values: Vec<Option<i64>> = nodes
        .iter()
        .map(|node| figures(cluster, node).map(mean))
        .collect();
    let known: Vec<i64> = values.iter().flatten().copied().collect();
    let usual = match known.len() as i64 {
        0 => 0,
        count => known.iter().sum::<i64>() / count,
    };
    let raw = values.iter().map(|value| value.unwrap_or(-1)).collect();
    let normalized = values.iter().map(|value| value.unwrap_or(usual)).collect();
    Some((raw, normalized))
}

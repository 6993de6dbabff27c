//! NodeResourcesBalancedAllocation: prefers the node whose cpu and memory use the pod brings closer together.

use super::{SCORE_MAX, Score};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) const SCORE: Score = Score {
    name: "NodeResourcesBalancedAllocation",
    weight: 1,
    score,
};

fn score(pod: &Pod, _: &Snapshot, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
    if pod.requests.milli_cpu == 0 && pod.requests.memory == 0 {
        return None;
    }
    let value = |info: &&NodeInfo| {
        let with = balance(info, pod.requests.milli_cpu, pod.requests.memory);
        let without = balance(info, 0, 0);
        SCORE_MAX / 2 + (SCORE_MAX / 2 + with - without) / 2
    };
    Some(nodes.iter().map(value).collect())
}

/// How close the used fractions of cpu and memory are, from 0 to [`SCORE_MAX`], with this much more used.
fn balance(info: &NodeInfo, milli_cpu: i64, memory: i64) -> i64 {
    let Some(node) = &info.node else { return 0 };
    let fraction = |used: i64, capacity: i64| {
        (capacity > 0).then(|| (used as f64 / capacity as f64).clamp(0.0, 1.0))
    };
    let cpu = fraction(
        info.requested.milli_cpu.saturating_add(milli_cpu),
        node.allocatable.milli_cpu,
    );
    let memory = fraction(
        info.requested.memory.saturating_add(memory),
        node.allocatable.memory,
    );
    let deviation = match (cpu, memory) {
        (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, node, pod, scores, snapshot};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_node_that_becomes_more_balanced_wins() {
        let asks = |cpu: &str, memory: &str, on: &str| json!({"nodeName": on, "containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]});
        let there = labelled_pod("there", json!({}), asks("2", "0", "n"));
        let cluster = snapshot(
            vec![
                node("n", json!({}), json!({})),
                node("o", json!({}), json!({})),
            ],
            vec![there],
        );
        // On n: cpu 0.5 and memory 0 become 0.5 and 0.5, from 75 to 100. On o: 0 and 0 become 0 and 0.5, from 100 to 75.
        assert_eq!(
            scores(&SCORE, &pod(asks("0", "4Gi", "")), &cluster).unwrap(),
            [87, 62]
        );
        assert_eq!(
            scores(&SCORE, &pod(json!({"containers": [{}]})), &cluster),
            None
        );
    }
}

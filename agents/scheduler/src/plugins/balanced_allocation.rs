//! NodeResourcesBalancedAllocation: prefers the node whose cpu and memory use the pod brings closer together.

use super::{Args, SCORE_MAX, Score, Scores, Values};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) const SCORE: Score = Score {
    name: "NodeResourcesBalancedAllocation",
    weight: 1,
    values: Values::Plain,
    score,
};

fn score(pod: &Pod, _: &Snapshot, args: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    if args.balanced.iter().all(|name| pod.requests.get(name) == 0) {
        return None;
    }
    let value = |info: &&NodeInfo| {
        let with = balance(info, pod, &args.balanced, true);
        let without = balance(info, pod, &args.balanced, false);
        SCORE_MAX / 2 + (SCORE_MAX / 2 + with - without) / 2
    };
    Some(Scores::plain(nodes.iter().map(value).collect()))
}

/// How close the used fractions of the resources are, from 0 to [`SCORE_MAX`], with the pod or without.
fn balance(info: &NodeInfo, pod: &Pod, resources: &[String], with: bool) -> i64 {
    let Some(node) = &info.node else { return 0 };
    let fraction = |name: &String| {
        let (asked, capacity) = (pod.requests.get(name), node.allocatable.get(name));
        let usual = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
        if capacity <= 0 || asked == 0 && !usual {
            return None;
        }
        let more = if with { asked } else { 0 };
        let used = info.requested.get(name).saturating_add(more);
        Some((used as f64 / capacity as f64).clamp(0.0, 1.0))
    };
    let fractions: Vec<f64> = resources.iter().filter_map(fraction).collect();
    let deviation = match fractions.as_slice() {
        [] | [_] => 0.0,
        [one, other] => ((one - other) / 2.0).abs(),
        more => {
            let mean = more.iter().sum::<f64>() / more.len() as f64;
            let squares = more.iter().map(|f| (f - mean) * (f - mean));
            (squares.sum::<f64>() / more.len() as f64).sqrt()
        }
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

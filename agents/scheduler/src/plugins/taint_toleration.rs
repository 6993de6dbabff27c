//! TaintToleration: taints keep pods out unless tolerated; the soft ones (`PreferNoSchedule`) only cost score.

use super::{
    Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, Score, Scores, Values,
};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) const FILTER: Filter = Filter {
    name: "TaintToleration",
    reads: Reads::Node,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
    ],
    wakes_on,
};
pub(super) const SCORE: Score = Score {
    name: "TaintToleration",
    weight: 3,
    values: Values::Compared { reverse: true },
    score,
};

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    Prepared::Each(Box::new(|info| {
        match info
            .node
            .as_ref()
            .is_none_or(|node| pod.tolerates_all(&node.taints))
        {
            true => Ok(()),
            false => Err(Rejection::lasting("node(s) had untolerated taint(s)")),
        }
    }))
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    change.node_part_changed(|node| &node.taints)
        && change
            .node()
            .is_some_and(|node| pod.tolerates_all(&node.taints))
}

fn score(pod: &Pod, _: &Snapshot, _: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let soft = |effect: &str| effect.is_empty() || effect == "PreferNoSchedule";
    let tolerations: Vec<_> = pod
        .tolerations
        .iter()
        .filter(|toleration| soft(&toleration.effect))
        .collect();
    let intolerable = |info: &&NodeInfo| {
        let taints = info
            .node
            .iter()
            .flat_map(|node| &node.taints)
            .filter(|t| t.effect == "PreferNoSchedule");
        taints
            .filter(|taint| !tolerations.iter().any(|t| t.tolerates(taint)))
            .count() as i64
    };
    Some(Scores::scaled(
        nodes.iter().map(intolerable).collect(),
        true,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores, snapshot, verdict};
    use super::*;
    use serde_json::json;

    #[test]
    fn hard_taints_reject_and_soft_ones_cost_score() {
        let taint =
            |effect: &str| json!({"taints": [{"key": "a", "value": "b", "effect": effect}]});
        let cluster = snapshot(
            vec![
                node("n1", json!({}), taint("NoSchedule")),
                node("n2", json!({}), taint("NoExecute")),
                node("n3", json!({}), taint("PreferNoSchedule")),
                node("n4", json!({}), json!({})),
            ],
            vec![],
        );
        let plain = pod(json!({}));
        let rejected = Some("node(s) had untolerated taint(s)".to_string());
        let verdicts = ["n1", "n2", "n3", "n4"].map(|n| verdict(&FILTER, &plain, &cluster, n));
        assert_eq!(verdicts, [rejected.clone(), rejected, None, None]);
        assert_eq!(
            scores(&SCORE, &plain, &cluster).unwrap(),
            [100, 100, 0, 100]
        );
        let tolerating = pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}]}));
        assert_eq!(verdict(&FILTER, &tolerating, &cluster, "n1"), None);
        assert_eq!(scores(&SCORE, &tolerating, &cluster).unwrap(), [100; 4]);
    }
}

//! NodeUnschedulable: a cordoned node takes only pods that tolerate the taint that a cordon stands for.

use super::{Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection};
use crate::object::{Pod, Taint};
use crate::snapshot::Snapshot;

pub(super) const FILTER: Filter = Filter {
    name: "NodeUnschedulable",
    reads: Reads::Node,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
    ],
    wakes_on,
};

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: String::new(),
        effect: "NoSchedule".into(),
    };
    if pod
        .tolerations
        .iter()
        .any(|toleration| toleration.tolerates(&cordon))
    {
        return Prepared::Pass;
    }
    Prepared::Each(Box::new(|info| {
        match info.node.as_ref().is_some_and(|node| node.unschedulable) {
            true => Err(Rejection::lasting("node(s) were unschedulable")),
            false => Ok(()),
        }
    }))
}

fn wakes_on(_: &Pod, change: &Change, _: &Args) -> bool {
    change.node_part_changed(|node| &node.unschedulable)
        && change.node().is_some_and(|node| !node.unschedulable)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, snapshot, verdict};
    use super::*;
    use serde_json::json;

    #[test]
    fn cordoned_nodes_take_only_tolerating_pods() {
        let cluster = snapshot(
            vec![node("n", json!({}), json!({"unschedulable": true}))],
            vec![],
        );
        assert_eq!(
            verdict(&FILTER, &pod(json!({})), &cluster, "n").unwrap(),
            "node(s) were unschedulable"
        );
        let tolerating = pod(
            json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}),
        );
        assert_eq!(verdict(&FILTER, &tolerating, &cluster, "n"), None);
    }
}

//! NodeName: a pod that names its node goes nowhere else.

use super::{Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection};
use crate::object::Pod;
use crate::snapshot::Snapshot;

pub(super) const FILTER: Filter = Filter {
    name: "NodeName",
    reads: Reads::Node,
    prepare,
    hears: &[(ChangeKind::NodeAdded, Near::Anywhere)],
    wakes_on,
};

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    if pod.node_name.is_empty() {
        return Prepared::Pass;
    }
    Prepared::Each(Box::new(|info| match info.name() == pod.node_name {
        true => Ok(()),
        false => Err(Rejection::lasting(
            "node(s) didn't match the requested node name",
        )),
    }))
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    matches!(change, Change::NodeAdded(node) if node.name == pod.node_name)
}

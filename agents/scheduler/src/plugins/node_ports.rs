//! NodePorts: a host port is given once a node.

use super::{Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection};
use crate::object::Pod;
use crate::snapshot::Snapshot;

pub(super) const FILTER: Filter = Filter {
    name: "NodePorts",
    reads: Reads::Node,
    prepare,
    hears: &[
        (ChangeKind::PodGone, Near::Anywhere),
        (ChangeKind::NodeAdded, Near::Anywhere),
    ],
    wakes_on,
};

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    if pod.host_ports.is_empty() {
        return Prepared::Pass;
    }
    Prepared::Each(Box::new(|info| match info.ports_free(&pod.host_ports) {
        true => Ok(()),
        false => Err(Rejection::resolvable(
            "node(s) didn't have free ports for the requested pod ports",
        )),
    }))
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::PodGone(gone) => gone
            .host_ports
            .iter()
            .any(|port| pod.host_ports.iter().any(|wanted| wanted.conflicts(port))),
        Change::NodeAdded(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, node, pod, snapshot, verdict};
    use super::*;
    use serde_json::{Value, json};

    fn on_port(port: Value) -> Value {
        json!({"nodeName": "n", "containers": [{"ports": [port]}]})
    }

    #[test]
    fn a_taken_port_rejects() {
        let there = labelled_pod(
            "there",
            json!({}),
            on_port(json!({"hostPort": 80, "hostIP": "10.0.0.1"})),
        );
        let cluster = snapshot(vec![node("n", json!({}), json!({}))], vec![there]);
        let table = [
            (json!({"hostPort": 80}), true),
            (json!({"hostPort": 81}), false),
            (json!({"hostPort": 80, "protocol": "UDP"}), false),
            (json!({"hostPort": 80, "hostIP": "10.0.0.2"}), false),
            (json!({"containerPort": 80}), false),
        ];
        for (port, rejected) in table {
            let pod = pod(json!({"containers": [{"ports": [port]}]}));
            assert_eq!(
                verdict(&FILTER, &pod, &cluster, "n").is_some(),
                rejected,
                "{:?}",
                pod.host_ports
            );
        }
    }
}

//! Whether the node takes a pod at all: who names the node in the pod's spec has not asked the scheduler.
//!
//! Pure. The reasons and messages are a kubelet's.

use super::status::Verdict;
use crate::spec::{ContainerPort, Pod, Role};

/// What the message of a pod begins with that was not taken; its event says only what follows.
pub(crate) const REJECTED: &str = "Pod was rejected: ";
const NO_FREE_PORTS: &str =
    "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";

/// Whether the pod was taken once, which nothing undoes.
pub(crate) fn was_taken(pod: &Pod) -> bool {
    pod.status["startTime"].is_string()
}

/// The ports of the node that a pod takes.
pub(crate) fn host_ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    pod.all_containers()
        .filter(|(role, _)| *role != Role::Init)
        .flat_map(|(_, container)| &container.ports)
        .filter(|port| port.host_port != 0)
}

/// Why a new pod is not taken beside these.
pub(crate) fn refusal(pod: &Pod, others: &[Pod]) -> Option<Verdict> {
    let taken = |port: &ContainerPort| {
        let mut ports = others.iter().flat_map(host_ports);
        ports.any(|other| conflict(port, other))
    };
    host_ports(pod).any(taken).then(|| Verdict {
        reason: "NodePorts",
        message: format!("{REJECTED}{NO_FREE_PORTS}"),
    })
}

fn conflict(a: &ContainerPort, b: &ContainerPort) -> bool {
    let everywhere = |port: &ContainerPort| matches!(port.host_ip.as_str(), "" | "0.0.0.0");
    a.host_port == b.host_port
        && protocol(a) == protocol(b)
        && (a.host_ip == b.host_ip || everywhere(a) || everywhere(b))
}

fn protocol(port: &ContainerPort) -> &str {
    match port.protocol.as_str() {
        "" => "TCP",
        protocol => protocol,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(port: Value) -> Pod {
        let spec = json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}, port]}]});
        Pod::decode(&json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_is_not_taken_beside_one_that_has_its_port() {
        let there = [pod(
            json!({"containerPort": 80, "hostPort": 21017, "hostIP": "10.0.0.1"}),
        )];
        let refused = |port: Value| refusal(&pod(port), &there).map(|verdict| verdict.reason);
        let same = json!({"containerPort": 1, "hostPort": 21017, "protocol": "TCP"});
        assert_eq!(refused(same), Some("NodePorts"));
        assert_eq!(refused(json!({"hostPort": 21017, "protocol": "UDP"})), None);
        assert_eq!(refused(json!({"hostPort": 21018})), None);
        assert_eq!(
            refused(json!({"hostPort": 21017, "hostIP": "10.0.0.2"})),
            None
        );
        assert_eq!(refused(json!({"containerPort": 21017})), None);
    }

    #[test]
    fn an_init_container_takes_no_port_for_good() {
        let spec = json!({"initContainers": [{"name": "i", "image": "i", "ports": [{"hostPort": 1}]},
                                             {"name": "s", "image": "i", "restartPolicy": "Always", "ports": [{"hostPort": 2}]}],
                          "containers": [{"name": "c", "image": "i"}]});
        let pod =
            Pod::decode(&json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).unwrap();
        let ports: Vec<u16> = host_ports(&pod).map(|port| port.host_port).collect();
        assert_eq!(ports, [2]);
    }
}

//! Whether the node takes a pod at all: who names the node in the pod's spec has not asked the scheduler.
//!
//! Pure. The reasons and messages are a kubelet's.

use std::collections::BTreeSet;

use super::plan::is_recorded_terminal;
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

/// Who has host ports on the node, by UID, known before the API has it: whoever decides under one lock that holds this never
/// gives a port twice.
#[derive(Debug, Default)]
pub(crate) struct Admitted(BTreeSet<String>);

impl Admitted {
    /// Takes a pod that has begun already or that gets the ports it asks for beside those that are present; else says why
    /// not.
    pub(crate) fn take(
        &mut self,
        pod: &Pod,
        has_begun: bool,
        present: impl FnOnce() -> Vec<Pod>,
    ) -> Option<Verdict> {
        let uid = &pod.metadata.uid;
        if self.0.contains(uid) {
            return None;
        }
        if !has_begun {
            let is_there = |other: &Pod| {
                other.metadata.uid != *uid
                    && !is_recorded_terminal(other)
                    && (was_taken(other) || self.0.contains(&other.metadata.uid))
            };
            let others: Vec<Pod> = present().into_iter().filter(is_there).collect();
            let verdict = refusal(pod, &others);
            if verdict.is_some() {
                return verdict;
            }
        }
        self.0.insert(uid.clone());
        None
    }

    /// The pod is gone, or its task has ended.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }
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
    fn of_two_that_come_at_once_the_first_is_taken_and_keeps_its_port_until_it_is_gone() {
        let asking = |uid: &str, status: Value| {
            let ports = json!([{"containerPort": 80, "hostPort": 21017}]);
            let spec = json!({"containers": [{"name": "c", "image": "i", "ports": ports}]});
            let metadata = json!({"name": uid, "uid": uid});
            Pod::decode(&json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
        };
        let new = |uid: &str| asking(uid, json!({}));
        let both = || vec![new("a"), new("b")];
        let mut admitted = Admitted::default();
        assert!(admitted.take(&new("b"), false, both).is_none());
        assert!(admitted.take(&new("a"), false, both).is_some());
        assert!(admitted.take(&new("b"), false, both).is_none(), "once");
        let ended = || vec![new("a"), asking("b", json!({"phase": "Failed"}))];
        assert!(admitted.take(&new("c"), false, ended).is_none());
        admitted.forget("b");
        admitted.forget("c");
        assert!(admitted.take(&new("a"), false, both).is_none());
        assert!(
            admitted.take(&new("b"), true, both).is_none(),
            "what has begun is not asked again"
        );
        let begun = || vec![asking("d", json!({"startTime": "2026-01-01T00:00:00Z"}))];
        let mut admitted = Admitted::default();
        assert!(admitted.take(&new("a"), false, begun).is_some());
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

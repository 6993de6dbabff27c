//! Pods: the status.

use super::{Condition, Few, List, Pod, Seldom, Text, Time, condition, fields};
use crate::timestamp::{self, Micros};

fields! {
    /// What became of a pod.
    pub struct PodStatus {
        pub observed_generation: i64,
        pub phase: Text,
        pub conditions: List<Condition>,
        pub reason: Seldom,
        #[serde(rename = "podIP")]
        pub pod_ip: Text,
        #[serde(rename = "podIPs")]
        pub pod_ips: Box<[PodIp]>,
        pub start_time: Time,
        pub init_container_statuses: List<ContainerStatus>,
        pub container_statuses: List<ContainerStatus>,
        pub resource_claim_statuses: Few<PodResourceClaimStatus>,
        pub extended_resource_claim_status: Option<Box<PodExtendedResourceClaimStatus>>,
    }
    /// The claim that was made for an entry of the pod's `resourceClaims`; without a name none was needed.
    pub struct PodResourceClaimStatus {
        pub name: String,
        pub resource_claim_name: Option<String>,
    }
    /// The claim that the scheduler has made for what containers ask for by the name of a resource.
    pub struct PodExtendedResourceClaimStatus {
        pub resource_claim_name: String,
    }
    /// An address of the pod.
    pub struct PodIp {
        pub ip: Text,
    }
    /// What became of a container.
    pub struct ContainerStatus {
        pub name: String,
        pub state: ContainerState,
        pub last_state: ContainerState,
        pub ready: bool,
        pub restart_count: i32,
        pub started: Option<bool>,
    }
    /// Exactly one is set.
    pub struct ContainerState {
        pub waiting: Option<ContainerStateWaiting>,
        pub running: Option<ContainerStateRunning>,
        pub terminated: Option<ContainerStateTerminated>,
    }
    /// Not yet running.
    pub struct ContainerStateWaiting {
        pub reason: String,
    }
    /// Running.
    pub struct ContainerStateRunning {
        pub started_at: Option<String>,
    }
    /// Ended.
    pub struct ContainerStateTerminated {
        pub exit_code: i32,
        pub finished_at: Option<String>,
    }
}

impl Pod {
    /// The condition of a kind.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        condition(&self.status.conditions, kind)
    }

    /// Whether the pod is `Ready`.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(Condition::is_true)
    }

    /// Whether the pod has been `Ready` for `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i64, now: Micros) -> bool {
        let Some(ready) = self.condition("Ready").filter(|c| c.is_true()) else {
            return false;
        };
        if min_ready_seconds == 0 {
            return true;
        }
        let since = ready
            .last_transition_time
            .as_deref()
            .and_then(timestamp::parse);
        since.is_some_and(|since| since + timestamp::seconds(min_ready_seconds) <= now)
    }

    /// Whether the pod has ended: `Succeeded` or `Failed`.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether the pod counts for its controller: neither ended nor being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.metadata.is_deleting()
    }
}

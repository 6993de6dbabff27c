//! The agents: programs that see the cluster only through its HTTP API. Those of the control plane stand in one list,
//! [`ALL`]; a server runs each of them, and one of all servers' does the work, elected by a Lease. The node agent runs
//! on each machine that has pods.

use std::future::Future;
use std::pin::Pin;

pub use agent_runtime::client::{Body, BoxError};
pub use agent_runtime::resource_ref;
pub use agent_runtime::{
    AgentContext, ApiError, Cidr, Client, ClientConfig, ControllerOptions, Identity,
    InProcessService, NodeRanges, PatchType, ResourceRef, Signing, SigningPair, kubeconfig,
};
pub use node_agent::hollow;
pub use node_agent::{
    EvictionHard, HollowConfig, NodeConfig, RuntimeKind, ServerIdentity, container_label,
    run as run_node,
};
pub use scheduler::config::Config as SchedulerConfig;
pub use scheduler::explain;

/// An agent of the control plane.
pub struct Agent {
    pub name: &'static str,
    pub help: &'static str,
    /// Who it is towards the API.
    pub user: &'static str,
    pub run: fn(AgentContext) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Every agent of the control plane.
pub static ALL: &[Agent] = &[
    Agent {
        name: "controller-manager",
        help: "keeps the cluster's objects as their specs say",
        user: "system:kube-controller-manager",
        run: |context| Box::pin(controllers::run(context)),
    },
    Agent {
        name: "scheduler",
        help: "chooses a node for each pod",
        user: "system:kube-scheduler",
        run: |context| Box::pin(scheduler::run(context)),
    },
];

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_users_are_unique() {
        let mut names: Vec<_> = super::ALL
            .iter()
            .flat_map(|agent| [agent.name, agent.user])
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(super::ALL.iter().all(|agent| !agent.help.is_empty()));
    }
}

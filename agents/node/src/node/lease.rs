//! The Lease that says that the node lives.

use std::sync::Arc;
use std::time::Duration;

use agent_runtime::ApiError;
use agent_runtime::resource_ref::{LEASES, NODES};
use serde_json::{Value, json};

use super::LEASE_RETRY;
use crate::agent::Agent;
use crate::clock;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i64 = 40;
const LEASE_PERIOD: Duration = Duration::from_secs(10);

/// Renews the node's lease; runs until dropped.
pub(crate) async fn keep_lease(agent: Arc<Agent>) {
    let mut current: Option<Value> = None;
    loop {
        let pause = match renew(&agent, current.take()).await {
            Ok(lease) => {
                current = Some(lease);
                LEASE_PERIOD
            }
            Err(error) => {
                tracing::warn!(error = %error.message, "cannot renew the node's lease");
                LEASE_RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Updates the lease that was read or written last, or reads or makes it.
async fn renew(agent: &Agent, current: Option<Value>) -> Result<Value, ApiError> {
    let name = agent.config.node_name.as_str();
    let known = match current {
        Some(lease) => Some(lease),
        None => match agent.client.get(&LEASES, LEASE_NAMESPACE, name).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        },
    };
    let spec = json!({
        "holderIdentity": name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": clock::format_micro(clock::now()),
    });
    if let Some(mut lease) = known {
        lease["spec"] = spec;
        return agent
            .client
            .update(&LEASES, LEASE_NAMESPACE, name, &lease)
            .await;
    }
    // The node owns its lease, so that both go together; before the node exists the lease waits for it.
    let node = agent.client.get(&NODES, "", name).await?;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [{
            "apiVersion": "v1", "kind": "Node", "name": name, "uid": node.pointer("/metadata/uid"),
        }]},
        "spec": spec,
    });
    agent.client.create(&LEASES, LEASE_NAMESPACE, &lease).await
}

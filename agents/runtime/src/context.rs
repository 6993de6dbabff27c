//! What an agent gets when it is started.

use crate::client::Client;
use tokio_util::sync::CancellationToken;

/// The world of one agent: how to reach the API, who it is, and when to stop.
#[derive(Clone)]
pub struct AgentContext {
    /// The API.
    pub client: Client,
    /// Unique identity of this process, used as the holder of leases (`<host>_<uuid>`).
    pub identity: String,
    /// Certificate of the cluster's CA in PEM: published to every namespace as `kube-root-ca.crt`. Empty when unknown.
    pub cluster_ca_pem: String,
    /// The scheduler's configuration: the text of a `KubeSchedulerConfiguration`, empty for the default.
    pub scheduler_config: std::sync::Arc<str>,
    /// Cancelled when the process stops; an agent returns soon after.
    pub stop: CancellationToken,
}

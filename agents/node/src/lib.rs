//! The node agent: runs the pods that are bound to its node, and says how they are.
//!
//! It follows the pods of one node in the API, gives each a task ([`pod`]) that compares what the pod's spec wants with
//! what the container [`runtime`] has, registers the node and keeps its heartbeat ([`node`]), and serves logs and exec
//! to the API server ([`server`]). Containers do not depend on the agent: it may be killed and started again, and finds
//! them by their labels.

mod agent;
mod clock;
mod configz;
mod etc;
mod eviction;
mod follow;
mod guard;
pub mod hollow;
mod local_path;
mod logs;
mod metrics;
mod node;
mod pod;
mod portforward;
mod quantity;
mod routes;
mod runtime;
mod server;
mod source;
mod spec;
mod stats;
mod streaming;
mod volumes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_runtime::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::eviction::EvictionHard;
use crate::runtime::docker::LABEL_OWNER;
pub use runtime::hollow::HollowConfig;

/// Version that the node reports as its kubelet's.
pub const KUBELET_VERSION: &str = "v1.36.1+kontiki";

/// The label, `KEY=VALUE`, by which Docker knows the containers of this node.
///
/// The same node in another cluster's directory is another owner: neither takes the other's containers away.
pub fn container_label(node_name: &str, data_dir: &Path) -> String {
    format!("{LABEL_OWNER}={}", owner(node_name, data_dir))
}

pub(crate) fn owner(node_name: &str, data_dir: &Path) -> String {
    format!("{node_name}@{}", data_dir.display())
}

/// What runs the containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeKind {
    /// The Docker daemon of this machine, at its usual socket or at the one that `DOCKER_HOST` names.
    Docker,
    /// A Docker daemon of this machine at another Unix socket.
    DockerAt(PathBuf),
    /// Nothing: containers are simulated.
    Hollow(HollowConfig),
}

/// A taint that the node registers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Qualified name.
    pub key: String,
    /// May be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// How the agent's own HTTPS server identifies itself and its clients.
#[derive(Clone)]
pub struct ServerIdentity {
    /// Certificate chain, PEM.
    pub certificate_pem: String,
    /// Private key, PEM.
    pub key_pem: String,
    /// CA that client certificates are verified against, PEM.
    pub client_ca_pem: String,
    /// Common names of the clients that may do everything: the API server's kubelet client.
    pub client_names: Vec<String>,
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerIdentity(..)")
    }
}

impl ServerIdentity {
    /// An error where the certificate, the key or the CA cannot be used, or do not belong together.
    pub fn check(&self) -> Result<(), String> {
        server::acceptor(self).map(|_| ())
    }
}

/// Everything that makes one node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of the Node object; also its host name label.
    pub node_name: String,
    /// Directory of the volumes and files of this node's pods. Nobody else may use it.
    pub data_dir: PathBuf,
    /// Where the agent's server listens; port 0 takes a free one. The node reports the port that was bound.
    pub listen: SocketAddr,
    /// What runs the containers.
    pub runtime: RuntimeKind,
    /// Address at which the API server reaches this node.
    pub node_ip: IpAddr,
    /// Domain of services, usually `cluster.local`.
    pub cluster_domain: String,
    /// Resolvers for pods with dnsPolicy ClusterFirst; empty gives them the node's own.
    pub cluster_dns: Vec<String>,
    /// Labels besides the standard ones.
    pub labels: BTreeMap<String, String>,
    /// Taints that a new Node object gets.
    pub taints: Vec<Taint>,
    /// Pods that the node takes.
    pub max_pods: u32,
    /// From when on the machine is short of memory or disk; a simulated one never is.
    pub eviction_hard: EvictionHard,
    /// Whether the machine shall route to the pods of other nodes, see `agent_runtime::pod_routes`.
    pub pod_routes: bool,
    /// Identity of the agent's server: new connections have the newest that is usable.
    pub server: watch::Receiver<ServerIdentity>,
}

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used; another directory or other permissions are needed.
    #[error("cannot use the data directory {path}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The agent's server cannot listen; another port is needed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no such number of hollow nodes.
    #[error("{0}")]
    Hollow(String),
    /// The certificates or keys in the configuration are unusable.
    #[error("the server identity is unusable: {0}")]
    Identity(String),
}

/// Runs a node until cancelled. Containers go on running when it returns.
pub async fn run(
    config: NodeConfig,
    client: Client,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let data_dir = |source| Error::DataDir {
        path: config.data_dir.clone(),
        source,
    };
    std::fs::create_dir_all(&config.data_dir).map_err(data_dir)?;
    let canonical = config.data_dir.canonicalize().map_err(data_dir)?;
    let config = NodeConfig {
        data_dir: canonical,
        ..config
    };
    // Secrets of the pods lie below: nobody but the node's owner looks in.
    let pods_dir = config.data_dir.join("pods");
    std::fs::create_dir_all(&pods_dir).map_err(data_dir)?;
    std::fs::set_permissions(&pods_dir, std::fs::Permissions::from_mode(0o750))
        .map_err(data_dir)?;
    let server = server::Server::bind(config.listen, &config.server).await?;
    let port = server.port();
    let guard = guard::Guard::new(client.clone(), &config.node_name);
    let agent = agent::Agent::new(config, client, &cancel);
    let answers = server::router(agent.clone()).merge(configz::router(&agent.config, port));
    tracing::info!(node = %agent.config.node_name, port, runtime = agent.runtime.scheme(), "node agent starts");
    // What waits for its time comes before what may always have something to do.
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = node::keep_lease(agent.clone()) => {}
        () = node::keep_status(agent.clone(), port) => {}
        () = agent.clone().sweep() => {}
        () = stats::keep(agent.clone()) => {}
        () = stats::volumes::keep(agent.clone()) => {}
        () = routes::keep(agent.clone()) => {}
        () = local_path::remove_unneeded(agent.clone()) => {}
        () = server.serve(answers, Some(guard)) => {}
        () = agent.clone().follow_runtime() => {}
        () = agent.clone().follow_pods() => {}
    }
    agent.drop_workers();
    Ok(())
}

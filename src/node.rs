//! The node agent as a process of its own, or inside a server's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use agents::{
    Client, ClientConfig, HollowConfig, Identity, NodeConfig, RuntimeKind, ServerIdentity,
};
use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::{AgentArgs, NodeArgs, host_name};
use crate::pki::{self, Pair};
use crate::{local, server, up};

/// `kontiki agent`: runs until SIGTERM or SIGINT.
pub(crate) async fn run_process(args: AgentArgs) -> Result<()> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let signals = tokio::spawn(async move {
        let name = server::stop_signal().await;
        info!(signal = name, "stopping; containers go on");
        stopping.cancel();
    });
    let outcome = run(
        &args.node,
        args.servers,
        &args.data_dir,
        &args.pki_dir,
        &args.cluster_domain,
        stop,
    )
    .await;
    signals.abort();
    outcome
}

/// Runs a node agent until `stop`. Containers go on when it ends.
pub(crate) async fn run(
    args: &NodeArgs,
    servers: Vec<String>,
    data_dir: &Path,
    pki_dir: &Path,
    cluster_domain: &str,
    stop: CancellationToken,
) -> Result<()> {
    // The Secrets that pods mount are below it.
    pki::create_private_dir(data_dir)?;
    let ca = pki::read(&pki_dir.join("ca.crt"))?;
    let client = Pair::in_dir(pki_dir, "client");
    let identity = Identity::Certificate {
        cert_pem: pki::read(&client.cert)?,
        key_pem: pki::read(&client.key)?,
    };
    let client = Client::connect(ClientConfig::new(servers, ca.clone(), identity))
        .map_err(anyhow::Error::msg)?;
    let serving = Pair::in_dir(pki_dir, "server");
    let address = args.node_ip.clone().unwrap_or_else(up::node_ip);
    let node_ip: IpAddr = address
        .parse()
        .with_context(|| format!("--node-ip {address} is not an IP address"))?;
    let config = NodeConfig {
        node_name: args.node_name.clone().unwrap_or_else(host_name),
        data_dir: data_dir.to_path_buf(),
        listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), args.node_port),
        runtime: match args.runtime.as_str() {
            "hollow" => RuntimeKind::Hollow(HollowConfig::default()),
            _ => RuntimeKind::Docker,
        },
        node_ip,
        cluster_domain: cluster_domain.to_string(),
        cluster_dns: Vec::new(),
        labels: Default::default(),
        taints: Vec::new(),
        max_pods: args.pods_max,
        server: ServerIdentity {
            certificate_pem: pki::read(&serving.cert)?,
            key_pem: pki::read(&serving.key)?,
            client_ca_pem: ca,
            client_names: vec![local::KUBELET_CLIENT.to_string()],
        },
    };
    info!(
        node = config.node_name,
        runtime = args.runtime,
        port = args.node_port,
        "node agent starts"
    );
    agents::run_node(config, client, stop)
        .await
        .context("the node agent does not run")
}

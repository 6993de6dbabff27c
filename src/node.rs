//! The node agent as a process of its own, or inside a server's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use agents::{
    Client, ClientConfig, HollowConfig, Identity, NodeConfig, RuntimeKind, ServerIdentity,
};
use anyhow::{Context, Result};
use apiserver::ApiServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::{AgentArgs, NodeArgs, host_name};
use crate::pki::{self, Pair};
use crate::reload::{self, Followed};
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
        None,
        stop,
    )
    .await;
    signals.abort();
    outcome
}

/// Runs a node agent until `stop`. Containers go on when it ends. What `api`, of the same process, shows in its metrics
/// includes this agent's certificates.
pub(crate) async fn run(
    args: &NodeArgs,
    servers: Vec<String>,
    data_dir: &Path,
    pki_dir: &Path,
    cluster_domain: &str,
    api: Option<Arc<ApiServer>>,
    stop: CancellationToken,
) -> Result<()> {
    // The Secrets that pods mount are below it.
    pki::create_private_dir(data_dir)?;
    let ca = pki::read(&pki_dir.join("ca.crt"))?;
    let pair = |name: &str| -> Result<(String, String)> {
        let pair = Pair::in_dir(pki_dir, name);
        Ok((pki::read(&pair.cert)?, pki::read(&pair.key)?))
    };
    let (cert, key) = pair("client")?;
    let identity = certificate(&cert, &key);
    let client = Client::connect(ClientConfig::new(servers.clone(), ca.clone(), identity))
        .map_err(anyhow::Error::msg)?;
    let (cert, key) = pair("server")?;
    let serving = watch::Sender::new(serving(&ca, &cert, &key));
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
        eviction_hard: args.eviction_hard,
        pod_routes: args.pod_routes,
        server: serving.subscribe(),
    };
    info!(
        node = config.node_name,
        runtime = args.runtime,
        port = args.node_port,
        "node agent starts"
    );
    let followed = followed(pki_dir, servers, client.clone(), serving);
    let following = reload::follow(followed, api, stop.clone());
    let running = async {
        agents::run_node(config, client, stop)
            .await
            .context("the node agent does not run")
    };
    tokio::pin!(following, running);
    tokio::select! {
        biased;
        () = &mut following => running.await,
        outcome = &mut running => outcome,
    }
}

fn certificate(cert: &str, key: &str) -> Identity {
    Identity::Certificate {
        cert_pem: cert.to_owned(),
        key_pem: key.to_owned(),
    }
}

fn serving(ca: &str, cert: &str, key: &str) -> ServerIdentity {
    ServerIdentity {
        certificate_pem: cert.to_owned(),
        key_pem: key.to_owned(),
        client_ca_pem: ca.to_owned(),
        client_names: vec![local::KUBELET_CLIENT.to_string()],
    }
}

/// What the agent takes anew when its files change.
fn followed(
    pki_dir: &Path,
    servers: Vec<String>,
    client: Client,
    server: watch::Sender<ServerIdentity>,
) -> Vec<Followed> {
    let ca = pki_dir.join("ca.crt");
    let of_client = Followed::pair(
        "node-client",
        std::slice::from_ref(&ca),
        Pair::in_dir(pki_dir, "client"),
        move |ca, cert, key| {
            client
                .replace_tls(&servers, ca, &certificate(cert, key))
                .map_err(anyhow::Error::msg)
        },
    );
    let of_server = Followed::pair(
        "node-server",
        std::slice::from_ref(&ca),
        Pair::in_dir(pki_dir, "server"),
        move |ca, cert, key| {
            let identity = serving(ca, cert, key);
            identity.check().map_err(anyhow::Error::msg)?;
            server.send_replace(identity);
            Ok(())
        },
    );
    vec![of_client, of_server]
}

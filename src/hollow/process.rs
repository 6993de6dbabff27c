//! The process of hollow nodes: `kontiki hollow`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use agents::{Client, ClientConfig, Identity, ServerIdentity, hollow, kubeconfig};
use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::HollowArgs;
use crate::pki::{self, Pair};
use crate::reload::{self, Followed};
use crate::{local, server, up};

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: HollowArgs) -> Result<()> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let signals = tokio::spawn(async move {
        let name = server::stop_signal().await;
        info!(signal = name, "stopping; the nodes stay on record");
        stopping.cancel();
    });
    let outcome = run_until(&args, stop).await;
    signals.abort();
    outcome
}

async fn run_until(args: &HollowArgs, stop: CancellationToken) -> Result<()> {
    let mut nodes = args.shape.nodes(args.nodes)?;
    let address = args.node_ip.clone().unwrap_or_else(up::node_ip);
    let ip: IpAddr = address
        .parse()
        .with_context(|| format!("--node-ip {address} is not an IP address"))?;
    let config = config(args)?;
    let clients = (0..nodes.clients()).map(|number| {
        let mut config = config.clone();
        // Watches are spread over the servers, as those of many machines would be.
        let turn = usize::try_from(number).unwrap_or(0);
        let turn = turn.checked_rem(config.servers.len()).unwrap_or(0);
        config.servers.rotate_left(turn);
        Client::connect(config)
    });
    let clients = clients.collect::<Result<Vec<Client>, String>>();
    let clients = clients.map_err(anyhow::Error::msg)?;
    let mut followed = Vec::new();
    let mut identity = None;
    if let Some(dir) = &args.pki_dir {
        let sender = watch::Sender::new(serving(dir)?);
        identity = Some(sender.subscribe());
        followed.push(server_followed(dir, sender));
        if !args.servers.is_empty() {
            followed.push(client_followed(dir, args.servers.clone(), clients.clone()));
        }
    }
    super::server(&mut nodes, ip, args.port, identity);
    let following = reload::follow(followed, None, stop.clone());
    let running = async {
        let ran = hollow::run(nodes, clients, stop).await;
        ran.context("the hollow nodes do not run")
    };
    tokio::pin!(following, running);
    tokio::select! {
        biased;
        () = &mut following => running.await,
        outcome = &mut running => outcome,
    }
}

/// Where the API is, and who the nodes are there.
fn config(args: &HollowArgs) -> Result<ClientConfig> {
    let Some(dir) = args.pki_dir.as_ref().filter(|_| !args.servers.is_empty()) else {
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let file = args.kubeconfig.clone();
        let file = file.unwrap_or_else(|| home().join(".kube/config"));
        return kubeconfig::load(&file).map_err(anyhow::Error::msg);
    };
    let pair = Pair::in_dir(dir, "client");
    let (cert, key) = (pki::read(&pair.cert)?, pki::read(&pair.key)?);
    let ca = pki::read(&dir.join("ca.crt"))?;
    Ok(ClientConfig::new(
        args.servers.clone(),
        ca,
        certificate(&cert, &key),
    ))
}

fn certificate(cert: &str, key: &str) -> Identity {
    Identity::Certificate {
        cert_pem: cert.to_owned(),
        key_pem: key.to_owned(),
    }
}

fn serving(dir: &Path) -> Result<ServerIdentity> {
    let pair = Pair::in_dir(dir, "server");
    let (cert, key) = (pki::read(&pair.cert)?, pki::read(&pair.key)?);
    Ok(identity(&pki::read(&dir.join("ca.crt"))?, &cert, &key))
}

fn identity(ca: &str, cert: &str, key: &str) -> ServerIdentity {
    ServerIdentity {
        certificate_pem: cert.to_owned(),
        key_pem: key.to_owned(),
        client_ca_pem: ca.to_owned(),
        // The administrator asks how far it is; nothing here runs that he could do harm to.
        client_names: vec![local::KUBELET_CLIENT.to_string(), local::ADMIN.to_string()],
    }
}

fn client_followed(dir: &Path, servers: Vec<String>, clients: Vec<Client>) -> Followed {
    Followed::pair(
        "hollow-client",
        &[dir.join("ca.crt")],
        Pair::in_dir(dir, "client"),
        move |ca, cert, key| {
            let identity = certificate(cert, key);
            let mut all = clients.iter();
            all.try_for_each(|client| client.replace_tls(&servers, ca, &identity))
                .map_err(anyhow::Error::msg)
        },
    )
}

fn server_followed(dir: &Path, sender: watch::Sender<ServerIdentity>) -> Followed {
    Followed::pair(
        "hollow-server",
        &[dir.join("ca.crt")],
        Pair::in_dir(dir, "server"),
        move |ca, cert, key| {
            let identity = identity(ca, cert, key);
            identity.check().map_err(anyhow::Error::msg)?;
            sender.send_replace(identity);
            Ok(())
        },
    )
}

//! Nodes for a cluster of the tests: node agents as they are, with simulated containers.

use agent_runtime::Client;
use agents::{EvictionHard, HollowConfig, NodeConfig, RuntimeKind, ServerIdentity};
use apiserver::KubeletIdentity;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The address that every one of them reports.
pub(crate) const NODE_IP: &str = "127.0.0.1";

const CLIENT: &str = "kube-apiserver-kubelet-client";

/// Who may ask the nodes, and by whose certificate they are known.
pub(crate) struct Asker {
    pub(crate) ca_pem: String,
    pub(crate) identity: KubeletIdentity,
}

/// Node agents that run. Dropped, they end, and their directories go.
pub(crate) struct Machines {
    pub(crate) asker: Asker,
    _stop: DropGuard,
    /// Dropped after the agents have been told to end.
    _dirs: Vec<TempDir>,
}

impl Machines {
    pub(crate) fn start(client: &Client, names: &[&str]) -> Machines {
        let stop = CancellationToken::new();
        let (identity, asker) = identities();
        let mut dirs = Vec::new();
        for name in names {
            let dir = tempfile::tempdir().unwrap();
            let config = config(name, dir.path(), identity.clone());
            tokio::spawn(agents::run_node(config, client.clone(), stop.clone()));
            dirs.push(dir);
        }
        Machines {
            asker,
            _stop: stop.drop_guard(),
            _dirs: dirs,
        }
    }
}

/// A node agent that has nothing to run containers with, and all the rest of a real one.
pub(crate) fn without_containers(client: &Client, name: &str) -> Machines {
    let stop = CancellationToken::new();
    let (identity, asker) = identities();
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        runtime: RuntimeKind::DockerAt(dir.path().join("no.sock")),
        ..config(name, dir.path(), identity)
    };
    tokio::spawn(agents::run_node(config, client.clone(), stop.clone()));
    Machines {
        asker,
        _stop: stop.drop_guard(),
        _dirs: vec![dir],
    }
}

/// A node agent that takes part in the routes to pods.
pub(crate) fn with_pod_routes(client: &Client, name: &str) -> Machines {
    let stop = CancellationToken::new();
    let (identity, asker) = identities();
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        pod_routes: true,
        ..config(name, dir.path(), identity)
    };
    tokio::spawn(agents::run_node(config, client.clone(), stop.clone()));
    Machines {
        asker,
        _stop: stop.drop_guard(),
        _dirs: vec![dir],
    }
}

fn config(name: &str, dir: &Path, server: ServerIdentity) -> NodeConfig {
    let hollow = HollowConfig {
        start_delay_min: Duration::ZERO,
        start_delay_max: Duration::from_millis(5),
        stop_delay: Duration::ZERO,
        ..HollowConfig::default()
    };
    NodeConfig {
        node_name: name.to_owned(),
        data_dir: dir.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        runtime: RuntimeKind::Hollow(hollow),
        node_ip: NODE_IP.parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        cluster_dns: Vec::new(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        max_pods: 110,
        eviction_hard: EvictionHard::OFF,
        pod_routes: false,
        server: watch::Sender::new(server).subscribe(),
    }
}

/// The identity of the nodes' servers, and that of the one client that they let in.
pub(crate) fn identities() -> (ServerIdentity, Asker) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |common_name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NODE_IP.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let certificate = params.signed_by(&key, &ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (certificate_pem, key_pem) = issue("system:node:n");
    let server = ServerIdentity {
        certificate_pem,
        key_pem,
        client_ca_pem: ca.pem(),
        client_names: vec![CLIENT.into()],
    };
    let (certificate_pem, key_pem) = issue(CLIENT);
    let asker = Asker {
        ca_pem: ca.pem(),
        identity: KubeletIdentity {
            certificate_pem,
            key_pem,
        },
    };
    (server, asker)
}

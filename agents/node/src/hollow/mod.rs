//! Thousands of hollow nodes in one process: their pods are simulated, and everything that is written of them is what a real
//! node would write.
//!
//! A node is an entry in a list and a pod a state machine ([`life`]) in a map; one heap ([`wheel`]) says what is due, and one
//! loop ([`engine`]) steps what is due or has changed and hands its writes to a bounded number of tasks. What a pod does is
//! said by [`stages`]; one HTTPS port ([`kubelet`]) answers the API server for all nodes.
//!
//! It is a part of the node agent and not a crate of its own, since it is made of the agent's inner parts: the plan of a pod,
//! its status and conditions, the Node object, the server, the load. A crate would have to publish all of them.

mod addresses;
mod delay;
mod engine;
mod follow;
mod health;
mod images;
mod interned;
mod kubelet;
mod life;
mod nodes;
mod runs;
mod slim;
mod stages;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod uids;
mod wheel;
mod words;
mod world;
mod writes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use agent_runtime::Client;
use agent_runtime::resource_ref::NODES;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use addresses::NODES_MAX;
pub use delay::Delay;
pub use nodes::{Behaviour, Periods};
pub use stages::Stages;

use crate::server::Server;
use crate::{Error, EvictionHard, NodeConfig, RuntimeKind, ServerIdentity, Taint, configz};
use nodes::{Names, Node, Template};
use world::World;

/// The taint that keeps pods off hollow nodes unless they tolerate it.
pub const TAINT: &str = "kontiki.io/hollow";
/// Streams that one connection of a client carries; API servers allow 250.
pub const WATCHES_A_CLIENT: u32 = 200;

/// Who watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watches {
    /// One watch of all pods that are bound.
    #[default]
    Shared,
    /// A watch for each node, as real nodes have.
    PerNode,
}

/// Whether hollow nodes are tainted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tainting {
    /// Where the cluster has a node that is not hollow.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// Everything about a set of hollow nodes.
#[derive(Debug, Clone)]
pub struct HollowNodes {
    /// How many.
    pub count: u32,
    /// What their names begin with; sets in one cluster need different ones.
    pub prefix: String,
    /// Zones over which they are spread; 0 for none.
    pub zones: u32,
    /// Labels besides the standard ones.
    pub labels: BTreeMap<String, String>,
    /// Whether they are tainted.
    pub taint: Tainting,
    /// Processors of each.
    pub cpu_count: u32,
    /// Memory of each.
    pub memory_bytes: u64,
    /// Pods that each takes.
    pub max_pods: u32,
    /// How they learn of their pods.
    pub watches: Watches,
    /// What their pods do.
    pub stages: Stages,
    /// The last so many are silent.
    pub silent: u32,
    /// So many before them are slow.
    pub slow: u32,
    /// So many before those are flapping.
    pub flapping: u32,
    /// How many times longer everything takes on a slow node.
    pub slow_factor: u32,
    /// How often they tell of themselves.
    pub periods: Periods,
    /// Requests at the same time.
    pub writes_max: usize,
    /// Events that are told at most in a second, of all nodes together.
    pub events_per_second: u32,
    /// Address at which the API server reaches them all.
    pub node_ip: IpAddr,
    /// Where the server for logs, exec and figures listens, and who it is; without it there is none.
    pub server: Option<(SocketAddr, watch::Receiver<ServerIdentity>)>,
}

impl HollowNodes {
    /// So many nodes with nothing said of them.
    pub fn new(count: u32) -> HollowNodes {
        HollowNodes {
            count,
            prefix: "hollow".to_owned(),
            zones: 0,
            labels: BTreeMap::new(),
            taint: Tainting::default(),
            cpu_count: 32,
            memory_bytes: 256 << 30,
            max_pods: 110,
            watches: Watches::default(),
            stages: Stages::default(),
            silent: 0,
            slow: 0,
            flapping: 0,
            slow_factor: 10,
            periods: Periods::default(),
            writes_max: 64,
            events_per_second: 20,
            node_ip: Ipv4Addr::LOCALHOST.into(),
            server: None,
        }
    }

    /// An error that says what is wrong with it.
    pub fn check(&self) -> Result<(), Error> {
        let most = NODES_MAX;
        let wrong = |text: String| Err(Error::Hollow(text));
        if self.count == 0 || self.count > most {
            return wrong(format!(
                "there can be 1 to {most} hollow nodes, not {}",
                self.count
            ));
        }
        if self.max_pods > addresses::PODS_MAX {
            return wrong(format!(
                "a hollow node has addresses for {} pods, not for {}",
                addresses::PODS_MAX,
                self.max_pods
            ));
        }
        let special = u64::from(self.silent) + u64::from(self.slow) + u64::from(self.flapping);
        if special > u64::from(self.count) {
            return wrong(format!(
                "{special} nodes are to be silent, slow or flapping, and there are only {}",
                self.count
            ));
        }
        Ok(())
    }

    /// How a node behaves unless its annotation says otherwise: the last ones are those that misbehave.
    fn behaviour(&self, number: u32) -> Behaviour {
        let from_end = self.count - 1 - number;
        if from_end < self.silent {
            Behaviour::Silent
        } else if from_end < self.silent + self.slow {
            Behaviour::Slow
        } else if from_end < self.silent + self.slow + self.flapping {
            Behaviour::Flapping
        } else {
            Behaviour::Steady
        }
    }

    /// Clients that it wants, so that each watch finds a place on a connection.
    pub fn clients(&self) -> u32 {
        match self.watches {
            Watches::Shared => 1,
            Watches::PerNode => 1 + self.count.div_ceil(WATCHES_A_CLIENT),
        }
    }
}

/// Runs the nodes until cancelled. The first client writes; where there are more, the others watch.
pub async fn run(
    nodes: HollowNodes,
    clients: Vec<Client>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    nodes.check()?;
    let Some(client) = clients.first() else {
        return Err(Error::Hollow("no client is given".to_owned()));
    };
    let server = match &nodes.server {
        Some((address, identity)) => Some(Server::bind(*address, identity).await?),
        None => None,
    };
    let port = server.as_ref().map_or(0, Server::port);
    let names = Names::new(&nodes.prefix, nodes.count);
    let tainted = match nodes.taint {
        Tainting::Always => true,
        Tainting::Never => false,
        Tainting::Auto => tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(()),
            found = real_nodes(client) => found,
        },
    };
    let made =
        (0..nodes.count).map(|number| Node::new(number, names.of(number), nodes.behaviour(number)));
    let world = Arc::new(Mutex::new(World::new(made)));
    let template = Template {
        config: config(&nodes, tainted),
        zones: nodes.zones,
        periods: nodes.periods,
        port,
    };
    let clock = engine::Clock::start();
    let size = kubelet::Size {
        cpu_count: nodes.cpu_count,
        memory_bytes: nodes.memory_bytes,
    };
    let settings = configz::configz(&template.config, port);
    let answers = kubelet::router(
        world.clone(),
        clock,
        names.clone(),
        (nodes.stages.clone(), nodes.slow_factor),
        size,
        settings,
        cancel.clone(),
    );
    tracing::info!(nodes = nodes.count, port, tainted, "hollow nodes start");
    let engine = engine::Engine::new(nodes, names, template, world, clients, clock, &cancel);
    let serving = async {
        match server {
            Some(server) => server.serve(answers, None).await,
            None => std::future::pending().await,
        }
    };
    // A task of its own: every word of a watch and every end of a write wakes it, and each time a sleeping thread would have to be
    // woken if it ran here.
    let mut tasks = JoinSet::new();
    tasks.spawn(engine.run());
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = serving => {}
        ended = tasks.join_next() => {
            if let Some(Err(error)) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
    Ok(())
}

/// What the nodes have in common, as that of a single one.
fn config(nodes: &HollowNodes, tainted: bool) -> NodeConfig {
    let taint = Taint {
        key: TAINT.to_owned(),
        value: "true".to_owned(),
        effect: "NoSchedule".to_owned(),
    };
    let nobody = ServerIdentity {
        certificate_pem: String::new(),
        key_pem: String::new(),
        client_ca_pem: String::new(),
        client_names: Vec::new(),
    };
    NodeConfig {
        node_name: String::new(),
        data_dir: PathBuf::from("/hollow"),
        listen: (Ipv4Addr::UNSPECIFIED, 0).into(),
        runtime: RuntimeKind::Hollow(nodes::size(nodes.cpu_count, nodes.memory_bytes)),
        node_ip: nodes.node_ip,
        cluster_domain: String::new(),
        cluster_dns: Vec::new(),
        labels: nodes.labels.clone(),
        taints: if tainted { vec![taint] } else { Vec::new() },
        max_pods: nodes.max_pods,
        eviction_hard: EvictionHard::default(),
        pod_routes: false,
        server: watch::Sender::new(nobody).subscribe(),
    }
}

/// Whether the cluster has a node that is not hollow; asked until there is an answer.
async fn real_nodes(client: &Client) -> bool {
    let params = agent_runtime::ListParams {
        label_selector: "type!=hollow".to_owned(),
        limit: 1,
        metadata_only: true,
        ..agent_runtime::ListParams::default()
    };
    loop {
        match client.list(&NODES, "", &params).await {
            Ok(list) => {
                return list["items"]
                    .as_array()
                    .is_some_and(|items| !items.is_empty());
            }
            Err(error) => {
                tracing::warn!(error = %error.message, "cannot look at the cluster's nodes yet")
            }
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

//! The command line. Each flag is one field here; its environment variable and its line in `--help` follow from it.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::local::{Home, SERVICE_CIDR, Wishes};
use crate::up;

#[derive(Parser)]
#[command(
    name = "kontiki",
    version,
    about = "A Kubernetes-compatible control plane in one binary, with no etcd."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make and start a cluster on this machine, or start what is missing of it, and say how to use it.
    Up(UpArgs),
    /// Stop the cluster on this machine. Its data and its containers are kept.
    Down(HomeArgs),
    /// Stop the cluster on this machine, remove its containers and wipe its data.
    Reset(HomeArgs),
    /// Show whether each process of the cluster on this machine runs and is ready.
    Status(HomeArgs),
    /// Run one member of the control plane: store, API server, scheduler and controllers.
    Server(Box<ServerArgs>),
    /// Run the node agent: it starts this machine's pods.
    Agent(Box<AgentArgs>),
    /// Make the certificates of a cluster on several machines.
    Pki(PkiArgs),
}

#[derive(Args, Clone)]
pub(crate) struct HomeArgs {
    /// Directory of the cluster [default: ~/.kontiki]
    #[arg(long, env = "KONTIKI_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
}

impl HomeArgs {
    pub(crate) fn home(&self) -> Home {
        let home = self.home.clone().unwrap_or_else(up::default_home);
        // The processes' command lines and what is printed must hold in any working directory.
        Home(std::path::absolute(&home).unwrap_or(home))
    }
}

/// What is not given stays as the cluster has it; for a new cluster the defaults hold.
#[derive(Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Members of the control plane: 1 for a laptop, 3 to survive the loss of one, 5 of two [default: 1]
    #[arg(long, env = "KONTIKI_MEMBERS", value_parser = members)]
    members: Option<usize>,
    /// What runs the containers: `docker`, or `hollow` to simulate them [default: docker]
    #[arg(long, env = "KONTIKI_RUNTIME", value_parser = ["docker", "hollow"])]
    runtime: Option<String>,
    /// API port of the first member; the others take the next ones [default: 6443]
    #[arg(long, env = "KONTIKI_API_PORT")]
    api_port: Option<u16>,
    /// Peer port of the first member; the others take the next ones [default: 6480]
    #[arg(long, env = "KONTIKI_PEER_PORT")]
    peer_port: Option<u16>,
    /// HTTPS port of the node agent [default: 10250]
    #[arg(long, env = "KONTIKI_NODE_PORT")]
    node_port: Option<u16>,
    /// Name of the node [default: the host name]
    #[arg(long, env = "KONTIKI_NODE_NAME", value_parser = name)]
    node_name: Option<String>,
}

impl UpArgs {
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            members: self.members,
            runtime: self.runtime.clone(),
            api_port: self.api_port,
            peer_port: self.peer_port,
            node_port: self.node_port,
            node_name: self.node_name.clone(),
        }
    }
}

fn members(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err(
            "1, 3 or 5: an even number survives no more failures than the odd one below it".into(),
        ),
    }
}

/// A name of a machine: that of a Node in Kubernetes, and a folder's here.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(inner)
    };
    // 63 and not 253: the name is also the value of a label.
    match text.len() <= 63 && text.split('.').all(label) {
        true => Ok(text.into()),
        false => Err(format!(
            "`{text}` is not at most 63 lower case letters, digits, `-` and `.`, with a letter or digit at each end"
        )),
    }
}

/// The host name in the form that a Node's name must have.
pub(crate) fn host_name() -> String {
    let raw = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    node_name_of(&raw)
}

fn node_name_of(host: &str) -> String {
    let allowed: String = host
        .trim()
        .to_ascii_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    name(allowed.trim_matches(['-', '.'])).unwrap_or_else(|_| "node-1".into())
}

#[derive(Args, Clone)]
pub(crate) struct ServerArgs {
    /// Name of this member, unique in the cluster
    #[arg(long, env = "KONTIKI_NAME")]
    pub(crate) name: String,
    /// Id of this member, hexadecimal; never used again for another member
    #[arg(long, env = "KONTIKI_MEMBER_ID", value_parser = hex)]
    pub(crate) member_id: u64,
    /// Id of the cluster, hexadecimal
    #[arg(long, env = "KONTIKI_CLUSTER_ID", value_parser = hex)]
    pub(crate) cluster_id: u64,
    /// All members of the new cluster: NAME=ID@HOST:PORT (peer address), separated by commas
    #[arg(
        long,
        env = "KONTIKI_INITIAL_MEMBERS",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) initial_members: Vec<InitialMember>,
    /// Directory of the store's data
    #[arg(long, env = "KONTIKI_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Directory with ca.crt, server.*, kubelet-client.*, peer-ca.crt, peer.* and sa.key
    #[arg(long, env = "KONTIKI_PKI_DIR", value_name = "DIR")]
    pub(crate) pki_dir: PathBuf,
    /// Address of the HTTPS API
    #[arg(long, env = "KONTIKI_API_LISTEN", default_value = "0.0.0.0:6443")]
    pub(crate) api_listen: String,
    /// Address under which clients, and the `kubernetes` Service, reach this member's API
    #[arg(long, env = "KONTIKI_API_ADVERTISE", value_name = "HOST:PORT")]
    pub(crate) api_advertise: String,
    /// Address for the other members (mutual TLS)
    #[arg(long, env = "KONTIKI_PEER_LISTEN", default_value = "0.0.0.0:6480")]
    pub(crate) peer_listen: String,
    /// Address under which the other members reach this one
    #[arg(long, env = "KONTIKI_PEER_ADVERTISE", value_name = "HOST:PORT")]
    pub(crate) peer_advertise: String,
    /// Address for etcd clients (mutual TLS with store-ca.crt, loopback only): it bypasses RBAC, so it is off unless given
    #[arg(long, env = "KONTIKI_ETCD_LISTEN")]
    pub(crate) etcd_listen: Option<std::net::SocketAddr>,
    /// Addresses for Services
    #[arg(long, env = "KONTIKI_SERVICE_CIDR", default_value = SERVICE_CIDR)]
    pub(crate) service_cidr: String,
    /// DNS domain of the cluster
    #[arg(long, env = "KONTIKI_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Run neither the scheduler nor the controllers in this process
    #[arg(long, env = "KONTIKI_NO_AGENTS")]
    pub(crate) no_agents: bool,
    /// Also run a node agent in this process; DIR holds its `data` and its `pki`
    #[arg(long, env = "KONTIKI_WITH_NODE", value_name = "DIR")]
    pub(crate) with_node: Option<PathBuf>,
    #[command(flatten, next_help_heading = "The node agent of --with-node")]
    pub(crate) node: NodeArgs,
}

/// `name=id@host:port`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InitialMember {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) peer_address: String,
}

impl FromStr for InitialMember {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not NAME=ID@HOST:PORT");
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let (id, address) = rest.split_once('@').ok_or_else(form)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
        if name.is_empty() || host.is_empty() || port.parse::<u16>().is_err() {
            return Err(form());
        }
        Ok(InitialMember {
            name: name.into(),
            id: hex(id)?,
            peer_address: address.into(),
        })
    }
}

fn hex(text: &str) -> Result<u64, String> {
    match u64::from_str_radix(text.trim_start_matches("0x"), 16) {
        Ok(0) => Err("an id is not 0".into()),
        Ok(id) => Ok(id),
        Err(_) => Err(format!(
            "`{text}` is not a hexadecimal number of at most 64 bits"
        )),
    }
}

#[derive(Args, Clone)]
pub(crate) struct AgentArgs {
    /// API servers, https://HOST:PORT, separated by commas; another is taken when one fails
    #[arg(long, env = "KONTIKI_SERVERS", value_delimiter = ',', required = true)]
    pub(crate) servers: Vec<String>,
    /// Directory of pod volumes and the like
    #[arg(long, env = "KONTIKI_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Directory with ca.crt, client.* (CN system:node:NAME) and server.*
    #[arg(long, env = "KONTIKI_PKI_DIR", value_name = "DIR")]
    pub(crate) pki_dir: PathBuf,
    /// DNS domain of the cluster
    #[arg(long, env = "KONTIKI_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// What a node agent is told, in a process of its own or in a server's.
#[derive(Args, Clone)]
pub(crate) struct NodeArgs {
    /// Name of the node [default: the host name]
    #[arg(long, env = "KONTIKI_NODE_NAME", value_parser = name)]
    pub(crate) node_name: Option<String>,
    /// What runs the containers: `docker`, or `hollow` to simulate them
    #[arg(long, env = "KONTIKI_RUNTIME", default_value = "docker", value_parser = ["docker", "hollow"])]
    pub(crate) runtime: String,
    /// Address of this machine [default: that of the default route]
    #[arg(long, env = "KONTIKI_NODE_IP")]
    pub(crate) node_ip: Option<String>,
    /// HTTPS port that serves logs and exec to the API servers
    #[arg(long, env = "KONTIKI_NODE_PORT", default_value_t = 10250)]
    pub(crate) node_port: u16,
    /// Most pods on this node
    #[arg(long, env = "KONTIKI_PODS_MAX", default_value_t = 110)]
    pub(crate) pods_max: u32,
}

#[derive(Args)]
pub(crate) struct PkiArgs {
    /// Directory that keeps the authorities; only `pki` needs it afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Members of the control plane: NAME=HOST, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) members: Vec<String>,
    /// Machines that run pods: NAME=HOST, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) nodes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_even_number_of_members_is_refused() {
        assert_eq!(members("3"), Ok(3));
        assert!(members("2").unwrap_err().contains("1, 3 or 5"));
    }

    #[test]
    fn a_name_is_what_a_node_may_be_called() {
        for good in ["a", "w1", "node-1.example.org"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "../a",
            "a/b",
            &"a".repeat(64),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn any_host_name_gives_a_node_name() {
        assert_eq!(node_name_of("Build_Host.lan\n"), "build-host.lan");
        assert_eq!(node_name_of("a_.b"), "node-1");
        assert_eq!(node_name_of("(none)"), "none");
        assert_eq!(node_name_of(""), "node-1");
    }

    #[test]
    fn initial_members_are_read_and_refused() {
        let member: InitialMember = "m1=1f@[::1]:6480".parse().unwrap();
        assert_eq!(
            (member.id, member.peer_address.as_str()),
            (0x1f, "[::1]:6480")
        );
        for bad in [
            "m1",
            "m1=1f",
            "m1=xyz@h:1",
            "m1=0@h:1",
            "m1=1@h:port",
            "=1@h:1",
        ] {
            assert!(bad.parse::<InitialMember>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_flag_says_what_it_is() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}

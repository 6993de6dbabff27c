//! `kontiki agent`, and what a server's node agent is told.

use std::path::PathBuf;

use agents::EvictionHard;
use clap::Args;

use super::text::name;

#[derive(Args, Clone)]
pub(crate) struct AgentArgs {
    /// API servers, https://HOST:PORT, separated by commas; another is taken when one fails
    #[arg(
        long,
        value_name = "URL",
        env = "KONTIKI_SERVERS",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) servers: Vec<String>,
    /// Directory of pod volumes and the like
    #[arg(long, env = "KONTIKI_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Directory with ca.crt, client.* (CN system:node:NAME) and server.*
    #[arg(long, env = "KONTIKI_PKI_DIR", value_name = "DIR")]
    pub(crate) pki_dir: PathBuf,
    /// DNS domain of the cluster
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "KONTIKI_CLUSTER_DOMAIN",
        default_value = "cluster.local"
    )]
    pub(crate) cluster_domain: String,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// What a node agent is told, in a process of its own or in a server's.
#[derive(Args, Clone)]
pub(crate) struct NodeArgs {
    /// Name of the node [default: the host name]
    #[arg(long, value_name = "NAME", env = "KONTIKI_NODE_NAME", value_parser = name)]
    pub(crate) node_name: Option<String>,
    /// What runs the containers: `docker`, or `hollow` to simulate them
    #[arg(long, env = "KONTIKI_RUNTIME", default_value = "docker", value_parser = ["docker", "hollow"])]
    pub(crate) runtime: String,
    /// Address of this machine [default: that of the default route]
    #[arg(long, value_name = "IP", env = "KONTIKI_NODE_IP")]
    pub(crate) node_ip: Option<String>,
    /// HTTPS port that serves logs and exec to the API servers
    #[arg(
        long,
        value_name = "PORT",
        env = "KONTIKI_NODE_PORT",
        default_value_t = 10250
    )]
    pub(crate) node_port: u16,
    /// At most so many pods run on this node
    #[arg(
        long,
        value_name = "COUNT",
        env = "KONTIKI_PODS_MAX",
        default_value_t = 110
    )]
    pub(crate) pods_max: u32,
    /// Below which the node is under pressure and takes only pods that bear it, as a kubelet's: memory.available,
    /// nodefs.available and nodefs.inodesFree, with a quantity or a percentage; those left out have no threshold
    #[arg(
        long,
        value_name = "SIGNAL<VALUE,...",
        env = "KONTIKI_EVICTION_HARD",
        default_value_t = EvictionHard::default()
    )]
    pub(crate) eviction_hard: EvictionHard,
    /// Route to the pods of other nodes that do so, too, by their ranges (spec.podCIDR); needs root, and servers with
    /// `--cloud-provider local`
    #[arg(long, env = "KONTIKI_POD_ROUTES")]
    pub(crate) pod_routes: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        node: NodeArgs,
    }

    #[test]
    fn thresholds_are_as_they_are_shown_and_none_where_nothing_is_given() {
        let read = |text: &str| {
            let line = Line::try_parse_from(["agent", "--eviction-hard", text]);
            line.map(|line| line.node.eviction_hard)
        };
        let usual = EvictionHard::default();
        assert_eq!(read(&usual.to_string()).unwrap(), usual);
        assert_eq!(read("").unwrap(), EvictionHard::OFF);
        assert!(read("memory.free<1").is_err());
    }
}

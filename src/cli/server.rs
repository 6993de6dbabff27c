//! `kontiki server`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::text::hex;
use super::{AccessArgs, AuditArgs, NodeArgs};
use crate::controller_args::ControllerArgs;
use crate::local::SERVICE_CIDR;

#[derive(Args, Clone)]
pub(crate) struct ServerArgs {
    /// Name of this member, unique in the cluster
    #[arg(long, env = "KONTIKI_NAME")]
    pub(crate) name: String,
    /// Id of this member, hexadecimal; never used again for another member
    #[arg(long, value_name = "ID", env = "KONTIKI_MEMBER_ID", value_parser = hex)]
    pub(crate) member_id: u64,
    /// Id of the cluster, hexadecimal
    #[arg(long, value_name = "ID", env = "KONTIKI_CLUSTER_ID", value_parser = hex)]
    pub(crate) cluster_id: u64,
    /// All members of the new cluster: NAME=ID@HOST:PORT (peer address), separated by commas
    #[arg(
        long,
        value_name = "MEMBERS",
        env = "KONTIKI_INITIAL_MEMBERS",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) initial_members: Vec<InitialMember>,
    /// Directory of the store's data
    #[arg(long, env = "KONTIKI_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Directory with ca.crt, server.*, kubelet-client.*, front-proxy-ca.crt, front-proxy-client.*, peer-ca.crt, peer.*, sa.key and encryption.yaml
    #[arg(long, env = "KONTIKI_PKI_DIR", value_name = "DIR")]
    pub(crate) pki_dir: PathBuf,
    /// What is stored encrypted, and with which keys: an EncryptionConfiguration (apiserver.config.k8s.io/v1). It is read
    /// again when it changes [default: encryption.yaml in --pki-dir]
    #[arg(long, env = "KONTIKI_ENCRYPTION_PROVIDER_CONFIG", value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    /// Address of the HTTPS API
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "KONTIKI_API_LISTEN",
        default_value = "0.0.0.0:6443"
    )]
    pub(crate) api_listen: String,
    /// Address under which clients, and the `kubernetes` Service, reach this member's API
    #[arg(long, env = "KONTIKI_API_ADVERTISE", value_name = "HOST:PORT")]
    pub(crate) api_advertise: String,
    /// Address for the other members (mutual TLS)
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "KONTIKI_PEER_LISTEN",
        default_value = "0.0.0.0:6480"
    )]
    pub(crate) peer_listen: String,
    /// Address under which the other members reach this one
    #[arg(long, env = "KONTIKI_PEER_ADVERTISE", value_name = "HOST:PORT")]
    pub(crate) peer_advertise: String,
    /// Address for etcd clients (mutual TLS with store-ca.crt, loopback only): it bypasses RBAC, so it is off unless given
    #[arg(long, value_name = "IP:PORT", env = "KONTIKI_ETCD_LISTEN")]
    pub(crate) etcd_listen: Option<std::net::SocketAddr>,
    /// The store's state is flushed after so many entries of its log, as etcd's --snapshot-count
    #[arg(long, value_name = "COUNT", env = "KONTIKI_SNAPSHOT_ENTRIES", default_value_t = store::Limits::default().snapshot_entries, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_entries: u64,
    /// So many entries stay in the log behind that, for members that are a little behind
    #[arg(long, value_name = "COUNT", env = "KONTIKI_LOG_ENTRIES_KEPT", default_value_t = store::Limits::default().log_entries_kept)]
    pub(crate) log_entries_kept: u64,
    /// A leader of the store gives a sign of life every so many milliseconds, and is replaced after 10 to 15 times that
    /// without one; longer than a message takes to the farthest member and back, and the same for all members
    #[arg(long, value_name = "MILLISECONDS", env = "KONTIKI_HEARTBEAT_MS", default_value_t = store::Limits::default().heartbeat.as_millis() as u64, value_parser = clap::value_parser!(u64).range(10..=5000))]
    pub(crate) heartbeat_ms: u64,
    /// Damage of the store's data is found within so many seconds, also where nobody reads it: all of it is read again in
    /// the background. 0 for never
    #[arg(long, value_name = "SECONDS", env = "KONTIKI_SCRUB_SECONDS", default_value_t = store::Limits::default().scrub_interval.as_secs())]
    pub(crate) scrub_seconds: u64,
    /// What objects of the API were is known for so many minutes, up to twice as long: for `kontiki history`, and for
    /// watches that were away. It takes room on the disk; the same for all members
    #[arg(long, value_name = "MINUTES", env = "KONTIKI_HISTORY_MINUTES", default_value_t = apiserver::HISTORY.as_secs() / 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    pub(crate) history_minutes: u64,
    /// Addresses for Services: a block, or one of IPv4 and one of IPv6, separated by a comma, first that of Services that ask
    /// for no family
    #[arg(long, value_name = "CIDR", env = "KONTIKI_SERVICE_CIDR", default_value = SERVICE_CIDR)]
    pub(crate) service_cidr: String,
    /// DNS domain of the cluster
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "KONTIKI_CLUSTER_DOMAIN",
        default_value = "cluster.local"
    )]
    pub(crate) cluster_domain: String,
    /// Run neither the scheduler nor the controllers in this process
    #[arg(long, env = "KONTIKI_NO_AGENTS")]
    pub(crate) no_agents: bool,
    /// How pods are scheduled: a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1), the same for all members
    /// [default: one profile, as Kubernetes has it]
    #[arg(long, env = "KONTIKI_SCHEDULER_CONFIG", value_name = "FILE")]
    pub(crate) scheduler_config: Option<PathBuf>,
    /// Also run a node agent in this process; DIR holds its `data` and its `pki`
    #[arg(long, env = "KONTIKI_WITH_NODE", value_name = "DIR")]
    pub(crate) with_node: Option<PathBuf>,
    #[command(flatten, next_help_heading = "The node agent of --with-node")]
    pub(crate) node: NodeArgs,
    #[command(flatten, next_help_heading = "The controllers")]
    pub(crate) controllers: ControllerArgs,
    #[command(flatten, next_help_heading = "Who is who, and who may do what")]
    pub(crate) access: AccessArgs,
    #[command(flatten, next_help_heading = "The audit log")]
    pub(crate) audit: AuditArgs,
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

#[cfg(test)]
mod tests {
    use super::*;

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
}

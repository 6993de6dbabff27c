//! The command line. Each flag is one field here; its environment variable and its line in `--help` follow from it.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::authorities::{self, Rotation};
use crate::local::{Home, SERVICE_CIDR, Wishes};
use crate::pki::Renew;
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
    /// Look at the store, back it up, and change its members.
    Store(StoreArgs),
    /// Write objects again that are stored in clear, or encrypted with an earlier key than the first.
    Reencrypt(ReencryptArgs),
    /// Show the versions of an object that are still known, newest first, and what each has changed.
    History(PastArgs),
    /// Show what differs between two versions of an object.
    Diff(DiffArgs),
    /// Make an object again what it was; one that was deleted is made anew.
    Undo(UndoArgs),
}

/// What else there is to know.
const REENCRYPT: &str = "Objects that are stored with the first key already are left as they are. It may be stopped and \
                         run again at any time.";

#[derive(Args)]
#[command(after_help = REENCRYPT)]
pub(crate) struct ReencryptArgs {
    /// Of which resources, as for kubectl: `secrets`, `deployments.apps`
    #[arg(default_value = "secrets", value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// How to reach the API server; its current context counts [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl ReencryptArgs {
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.kubeconfig.as_ref())
    }
}

fn kubeconfig(given: Option<&PathBuf>) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    given
        .cloned()
        .unwrap_or_else(|| home().join(".kube/config"))
}

/// How far back it goes.
const PAST: &str = "The API server keeps the history of the last five to ten minutes, or as long as it was told to \
                    (`kontiki server --history-minutes`). What a revision is, `kubectl get` shows as an object's \
                    resourceVersion.";

/// An object of the API, and how to come to it.
#[derive(Args)]
pub(crate) struct ObjectArgs {
    /// KIND NAME, or KIND/NAME; kinds as for kubectl: `deploy web`, `deployments.apps/web`
    #[arg(required = true, num_args = 1..=2, value_name = "OBJECT")]
    pub(crate) object: Vec<String>,
    /// Its namespace
    #[arg(long, short, default_value = "default")]
    pub(crate) namespace: String,
    /// How to reach the API server; its current context counts [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl ObjectArgs {
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.kubeconfig.as_ref())
    }

    pub(crate) fn kind_and_name(&self) -> anyhow::Result<(String, String)> {
        let words: Vec<&str> = match self.object.as_slice() {
            [one] => one.splitn(2, '/').collect(),
            more => more.iter().map(String::as_str).collect(),
        };
        match words.as_slice() {
            [kind, name] if !kind.is_empty() && !name.is_empty() => {
                Ok(((*kind).to_owned(), (*name).to_owned()))
            }
            _ => anyhow::bail!("which object? Say KIND NAME or KIND/NAME, such as `deploy web`"),
        }
    }
}

#[derive(Args)]
#[command(after_help = PAST)]
pub(crate) struct PastArgs {
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// Begin with the version of this revision; for an object that was deleted [default: the newest]
    #[arg(long, value_name = "REVISION")]
    pub(crate) at: Option<u64>,
    /// Only the newest so many versions [default: all]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) limit: usize,
}

#[derive(Args)]
#[command(after_help = PAST)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// The earlier version [default: the one before the later]
    #[arg(long, value_name = "REVISION")]
    pub(crate) from: Option<u64>,
    /// The later version [default: the newest]
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<u64>,
}

#[derive(Args)]
#[command(after_help = PAST)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// What it shall be as [default: before the last change of what clients say of it, its status aside]
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<u64>,
    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
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
    #[command(flatten)]
    pub(crate) wishes: WishArgs,
    #[command(flatten)]
    pub(crate) rotation: RotationArgs,
}

/// New certificates, and new authorities.
#[derive(Args)]
pub(crate) struct RotationArgs {
    /// Issue all certificates anew, whatever life they have left; what runs takes them without a restart
    #[arg(long)]
    renew: bool,
    /// A step to new authorities, when all machines have the files of the last one
    #[arg(long, value_name = "STEP", value_enum)]
    authorities: Option<authorities::Step>,
}

impl RotationArgs {
    pub(crate) fn wanted(&self) -> Rotation {
        Rotation {
            renew: Renew::all_if(self.renew),
            step: self.authorities,
        }
    }
}

/// What a cluster on this machine is to be like.
#[derive(Args)]
pub(crate) struct WishArgs {
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
    /// Port for etcd clients of the first member, on loopback; the others take the next ones [default: 6490]
    #[arg(long, env = "KONTIKI_ETCD_PORT")]
    etcd_port: Option<u16>,
    /// HTTPS port of the node agent [default: 10250]
    #[arg(long, env = "KONTIKI_NODE_PORT")]
    node_port: Option<u16>,
    /// Name of the node [default: the host name]
    #[arg(long, env = "KONTIKI_NODE_NAME", value_parser = name)]
    node_name: Option<String>,
}

impl WishArgs {
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            members: self.members,
            runtime: self.runtime.clone(),
            api_port: self.api_port,
            peer_port: self.peer_port,
            etcd_port: self.etcd_port,
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
    /// Directory with ca.crt, server.*, kubelet-client.*, front-proxy-ca.crt, front-proxy-client.*, peer-ca.crt, peer.*, sa.key and encryption.yaml
    #[arg(long, env = "KONTIKI_PKI_DIR", value_name = "DIR")]
    pub(crate) pki_dir: PathBuf,
    /// What is stored encrypted, and with which keys: an EncryptionConfiguration (apiserver.config.k8s.io/v1). It is read
    /// again when it changes [default: encryption.yaml in --pki-dir]
    #[arg(long, env = "KONTIKI_ENCRYPTION_PROVIDER_CONFIG", value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
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
    /// The store's state is flushed after so many entries of its log, as etcd's --snapshot-count
    #[arg(long, env = "KONTIKI_SNAPSHOT_ENTRIES", default_value_t = store::Limits::default().snapshot_entries, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_entries: u64,
    /// So many entries stay in the log behind that, for members that are a little behind
    #[arg(long, env = "KONTIKI_LOG_ENTRIES_KEPT", default_value_t = store::Limits::default().log_entries_kept)]
    pub(crate) log_entries_kept: u64,
    /// A leader of the store gives a sign of life every so many milliseconds, and is replaced after 10 to 15 times that
    /// without one; longer than a message takes to the farthest member and back, and the same for all members
    #[arg(long, env = "KONTIKI_HEARTBEAT_MS", default_value_t = store::Limits::default().heartbeat.as_millis() as u64, value_parser = clap::value_parser!(u64).range(10..=5000))]
    pub(crate) heartbeat_ms: u64,
    /// Damage of the store's data is found within so many seconds, also where nobody reads it: all of it is read again in
    /// the background. 0 for never
    #[arg(long, env = "KONTIKI_SCRUB_SECONDS", default_value_t = store::Limits::default().scrub_interval.as_secs())]
    pub(crate) scrub_seconds: u64,
    /// What objects of the API were is known for so many minutes, up to twice as long: for `kontiki history`, and for
    /// watches that were away. It takes room on the disk; the same for all members
    #[arg(long, env = "KONTIKI_HISTORY_MINUTES", default_value_t = apiserver::HISTORY.as_secs() / 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    pub(crate) history_minutes: u64,
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
    #[command(flatten, next_help_heading = "Who is who, and who may do what")]
    pub(crate) access: AccessArgs,
    #[command(flatten, next_help_heading = "The audit log")]
    pub(crate) audit: AuditArgs,
}

/// Files about users and rights; what they say holds anew whenever they change.
#[derive(Args, Clone)]
pub(crate) struct AccessArgs {
    /// AuthenticationConfiguration: issuers of tokens (OpenID Connect), and who may come without credentials
    #[arg(long, env = "KONTIKI_AUTHENTICATION_CONFIG", value_name = "FILE")]
    pub(crate) authentication_config: Option<PathBuf>,
    /// AuthorizationConfiguration: who is asked whether a user may do something [default: Node, then RBAC]
    #[arg(long, env = "KONTIKI_AUTHORIZATION_CONFIG", value_name = "FILE")]
    pub(crate) authorization_config: Option<PathBuf>,
    /// Kubeconfig of a webhook that knows tokens which nobody else knows
    #[arg(
        long,
        env = "KONTIKI_AUTHENTICATION_TOKEN_WEBHOOK_CONFIG",
        value_name = "FILE"
    )]
    pub(crate) authentication_token_webhook_config: Option<PathBuf>,
    /// Version of the TokenReviews that it gets
    #[arg(long, env = "KONTIKI_AUTHENTICATION_TOKEN_WEBHOOK_VERSION", default_value = "v1", value_parser = ["v1", "v1beta1"])]
    pub(crate) authentication_token_webhook_version: String,
    /// Its answers hold for so many seconds
    #[arg(
        long,
        env = "KONTIKI_AUTHENTICATION_TOKEN_WEBHOOK_CACHE_SECONDS",
        default_value_t = 120
    )]
    pub(crate) authentication_token_webhook_cache_seconds: u64,
    /// Static tokens, a line each: token,user,uid,"group1,group2"
    #[arg(long, env = "KONTIKI_TOKEN_AUTH_FILE", value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    /// Authorities of proxies that name users in headers
    #[arg(
        long,
        env = "KONTIKI_REQUESTHEADER_CLIENT_CA_FILE",
        value_name = "FILE"
    )]
    pub(crate) requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of these proxies, separated by commas [default: any]
    #[arg(
        long,
        env = "KONTIKI_REQUESTHEADER_ALLOWED_NAMES",
        value_delimiter = ','
    )]
    pub(crate) requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name
    #[arg(
        long,
        env = "KONTIKI_REQUESTHEADER_USERNAME_HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-User"
    )]
    pub(crate) requestheader_username_headers: Vec<String>,
    /// Headers with the user's uid
    #[arg(
        long,
        env = "KONTIKI_REQUESTHEADER_UID_HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-Uid"
    )]
    pub(crate) requestheader_uid_headers: Vec<String>,
    /// Headers with the user's groups
    #[arg(
        long,
        env = "KONTIKI_REQUESTHEADER_GROUP_HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-Group"
    )]
    pub(crate) requestheader_group_headers: Vec<String>,
    /// Prefixes of headers with whatever else is known of the user
    #[arg(
        long,
        env = "KONTIKI_REQUESTHEADER_EXTRA_HEADERS_PREFIX",
        value_delimiter = ',',
        default_value = "X-Remote-Extra-"
    )]
    pub(crate) requestheader_extra_headers_prefix: Vec<String>,
}

/// The audit log of a server.
#[derive(Args, Clone)]
pub(crate) struct AuditArgs {
    /// Write the audit log to this file, a line of JSON an event [default: none is written]
    #[arg(long, env = "KONTIKI_AUDIT_LOG_PATH", value_name = "FILE")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// What is told of which requests: a Policy (audit.k8s.io/v1) [default: the metadata of writes and of access to
    /// secrets]
    #[arg(long, env = "KONTIKI_AUDIT_POLICY_FILE", value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// The file is put aside when it has so many megabytes
    #[arg(long, env = "KONTIKI_AUDIT_LOG_MAXSIZE", value_name = "MB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) audit_log_maxsize: u64,
    /// So many files that were put aside are kept; 0 for all
    #[arg(
        long,
        env = "KONTIKI_AUDIT_LOG_MAXBACKUP",
        value_name = "FILES",
        default_value_t = 10
    )]
    pub(crate) audit_log_maxbackup: usize,
    /// Files that were put aside are kept for so many days; 0 for ever
    #[arg(
        long,
        env = "KONTIKI_AUDIT_LOG_MAXAGE",
        value_name = "DAYS",
        default_value_t = 30
    )]
    pub(crate) audit_log_maxage: u64,
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

/// A time, or how long ago.
fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let ago = || {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let seconds = digits.parse::<u32>().ok()?.checked_mul(seconds)?;
        OffsetDateTime::now_utc().checked_sub(time::Duration::seconds(seconds.into()))
    };
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(ago)
        .ok_or_else(|| {
            format!("`{text}` is neither a time like 2026-11-25T20:19:10Z nor a span like 10m")
        })
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
    #[command(flatten)]
    pub(crate) rotation: RotationArgs,
    /// A member that was added to the store, or that takes the place of the one of its name: NAME=HOST
    #[arg(long, value_name = "NAME=HOST", requires = "member_id")]
    pub(crate) add_member: Option<String>,
    /// The id that the store gave to it, hexadecimal
    #[arg(long, value_parser = hex, requires = "add_member")]
    pub(crate) member_id: Option<u64>,
    /// A member that was removed from the store
    #[arg(long, value_name = "NAME", conflicts_with = "add_member")]
    pub(crate) remove_member: Option<String>,
    /// The member that `kontiki store recover` has made the only one
    #[arg(long, value_name = "NAME", requires = "cluster_id", conflicts_with_all = ["add_member", "remove_member"])]
    pub(crate) recovered: Option<String>,
    /// The id of the cluster that it made, hexadecimal
    #[arg(long, value_parser = hex, requires = "recovered")]
    pub(crate) cluster_id: Option<u64>,
}

/// Where the store is: the cluster in the home unless endpoints are given.
#[derive(Args)]
#[command(next_help_heading = "Which store, and who asks")]
pub(crate) struct StoreArgs {
    /// Directory of the cluster [default: ~/.kontiki]
    #[arg(long, env = "KONTIKI_HOME", value_name = "DIR", global = true)]
    home: Option<PathBuf>,
    /// Ports for etcd clients, https://HOST:PORT, separated by commas [default: those of the cluster in the home]
    #[arg(long, value_delimiter = ',', value_name = "URL", global = true)]
    pub(crate) endpoints: Vec<String>,
    /// Authority of the members' certificates [default: pki/ca.crt in the home]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cacert: Option<PathBuf>,
    /// The store's client certificate [default: pki/store-admin.crt in the home]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cert: Option<PathBuf>,
    /// Key of that certificate [default: pki/store-admin.key in the home]
    #[arg(id = "client_key", long = "key", value_name = "FILE", global = true)]
    pub(crate) key: Option<PathBuf>,
    /// A user of the store, NAME or NAME:PASSWORD, where the store asks for one
    #[arg(long, value_name = "USER", global = true)]
    pub(crate) user: Option<String>,
    /// File with the user's password on its first line
    #[arg(long, value_name = "FILE", requires = "user", global = true)]
    pub(crate) password_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

impl StoreArgs {
    pub(crate) fn home(&self) -> Home {
        let home = self.home.clone();
        HomeArgs { home }.home()
    }

    /// Whether one was named.
    pub(crate) fn has_home(&self) -> bool {
        self.home.is_some()
    }
}

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Show each member: role, revision, lag behind the leader, size, alarms and health. Works without a quorum.
    #[command(after_help = STATUS)]
    Status(OutputArgs),
    /// Read keys, as they are now or as they were at a revision.
    Get(GetArgs),
    /// Show all that is retained of a key: each revision since the last compaction.
    History(HistoryArgs),
    /// Back the store up while it runs.
    Snapshot(SnapshotArgs),
    /// Make a saved copy out of what `etcdctl snapshot save` got from an etcd; `restore` makes a cluster of it.
    Import(ImportArgs),
    /// Copy what a running etcd has, and go on with every change of it, until it is stopped.
    Mirror(Box<MirrorArgs>),
    /// Make a new cluster out of a saved copy: a home that `kontiki up` starts or, with --data-dir, one member's data.
    Restore(Box<RestoreArgs>),
    /// Lost quorum: make the survivor with the longest log the only member of a new cluster.
    Recover(RecoverArgs),
    /// Put a new member in the place of a dead one of a cluster on this machine.
    Replace(ReplaceArgs),
    /// The members of the store, one by one.
    Member(MemberArgs),
    /// Let another member lead.
    MoveLeader {
        /// Name or id of a member that votes
        member: String,
    },
}

#[derive(Args)]
pub(crate) struct OutputArgs {
    /// `table`, or `json` for programs
    #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

impl OutputArgs {
    pub(crate) fn json(&self) -> bool {
        self.output == "json"
    }
}

/// Which keys are shown, and how: of all commands that show some.
#[derive(Args)]
pub(crate) struct KeyArgs {
    /// The key; the API's objects are under /registry/
    pub(crate) key: String,
    /// All keys that begin so
    #[arg(long)]
    pub(crate) prefix: bool,
    /// Show whole values of several keys or revisions, not only how they begin
    #[arg(long)]
    pub(crate) values: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// As of this revision, which must not have been compacted [default: now]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) rev: i64,
    /// As of this time (2026-11-25T20:19:10Z), which must not be yet to come, or so long ago (90s, 10m, 2h, 1d)
    #[arg(long, value_parser = moment, conflicts_with = "rev", value_name = "TIME")]
    pub(crate) at: Option<OffsetDateTime>,
    /// At most so many keys [default: all]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) limit: usize,
}

/// What else there is to know of the output.
const STATUS: &str = "REVISION, COMPACTED and SIZE are of what the member has applied (APPLIED): after a start that may be \
                      less than its log has (INDEX), until there is a leader. SIZE is what the state takes on the disk \
                      and in memory that is not flushed yet, without the log.";
/// The same.
const HISTORY: &str = "TIME is by the clock of the member that took the write. It is `-` for what was made before history \
                       begins, at the last compaction (a restore or an import, too, is one): of that it is only known \
                       what the keys were.";

#[derive(Args)]
#[command(after_help = HISTORY)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Only the newest so many revisions [default: all]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) limit: usize,
}

/// Where an etcd is, and how one proves oneself to it.
#[derive(Args)]
pub(crate) struct FromArgs {
    /// The etcd's client URLs, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "URL", required = true)]
    pub(crate) from: Vec<String>,
    /// Authority of the etcd's certificates
    #[arg(long, value_name = "FILE")]
    pub(crate) from_cacert: Option<PathBuf>,
    /// A client certificate for the etcd
    #[arg(long, value_name = "FILE", requires = "from_key")]
    pub(crate) from_cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "from_cert")]
    pub(crate) from_key: Option<PathBuf>,
    /// A user of the etcd, NAME or NAME:PASSWORD; to read is enough
    #[arg(long, value_name = "USER")]
    pub(crate) from_user: Option<String>,
    /// File with that user's password on its first line
    #[arg(long, value_name = "FILE", requires = "from_user")]
    pub(crate) from_password_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct MirrorArgs {
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// Only keys that begin so [default: all]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// What stands here in the place of --prefix [default: the same]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) dest_prefix: Option<String>,
    /// Name of the mirror, by which it finds out how far an earlier run has got
    #[arg(long, default_value = "mirror", value_parser = name)]
    pub(crate) name: String,
    /// Delete what is here under --dest-prefix and not in the etcd, and overwrite what differs
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Compare all keys again, whatever an earlier run has left
    #[arg(long)]
    pub(crate) restart: bool,
    /// For the cut-over: end once this store has all that the etcd has
    #[arg(long)]
    pub(crate) until_synced: bool,
}

#[derive(Args)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

#[derive(Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save a consistent copy of the store in a file, while it runs, and verify it.
    Save {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Verify a saved copy and say what is in it.
    Status {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The etcd's snapshot
    pub(crate) file: PathBuf,
    /// The copy to make, which must not exist
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The saved copy
    pub(crate) file: PathBuf,
    /// How far the revision is moved forward, so that no watch goes on from one that was never reached
    #[arg(long, default_value_t = store::backup::BUMP_REVISION, value_parser = clap::value_parser!(i64).range(1..=store::backup::BUMP_REVISION_MAX))]
    pub(crate) bump_revision: i64,
    #[command(flatten, next_help_heading = "The new home")]
    pub(crate) wishes: WishArgs,
    #[command(
        flatten,
        next_help_heading = "One member of a cluster on several machines, instead of a home"
    )]
    pub(crate) one: OneMemberArgs,
}

/// As in that member's `server.env`.
#[derive(Args)]
pub(crate) struct OneMemberArgs {
    /// Directory of the member's data, which must not exist or be empty
    #[arg(long, env = "KONTIKI_DATA_DIR", value_name = "DIR", requires_all = ["member_id", "cluster_id", "initial_members"])]
    pub(crate) data_dir: Option<PathBuf>,
    /// Id of this member, hexadecimal
    #[arg(long, env = "KONTIKI_MEMBER_ID", value_parser = hex)]
    pub(crate) member_id: Option<u64>,
    /// Id of the new cluster, hexadecimal
    #[arg(long, env = "KONTIKI_CLUSTER_ID", value_parser = hex)]
    pub(crate) cluster_id: Option<u64>,
    /// All members of the new cluster: NAME=ID@HOST:PORT (peer address), separated by commas
    #[arg(long, env = "KONTIKI_INITIAL_MEMBERS", value_delimiter = ',')]
    pub(crate) initial_members: Vec<InitialMember>,
}

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// Data directories of survivors, separated by commas [default: those of the cluster in the home]
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub(crate) data_dir: Vec<PathBuf>,
    /// Only show where the log of each survivor ends
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also where these are a quorum, which could go on without losing anything
    #[arg(long)]
    pub(crate) force: bool,
    /// How far the revision is moved forward, so that no watch goes on from one that was lost
    #[arg(long, default_value_t = store::backup::BUMP_REVISION, value_parser = clap::value_parser!(i64).range(1..=store::backup::BUMP_REVISION_MAX))]
    pub(crate) bump_revision: i64,
}

#[derive(Args)]
pub(crate) struct ReplaceArgs {
    /// Name of the dead member
    pub(crate) member: String,
}

#[derive(Args)]
pub(crate) struct MemberArgs {
    #[command(subcommand)]
    pub(crate) command: MemberCommand,
}

#[derive(Subcommand)]
pub(crate) enum MemberCommand {
    /// Show the members.
    List(OutputArgs),
    /// Add a member on another machine: say how it is started, wait until it has caught up, and let it vote.
    Add(MemberAddArgs),
    /// Put a new member on any machine in the place of a dead one: the same, after the dead one is removed.
    Replace(MemberAddArgs),
    /// Let a learner vote that has caught up.
    Promote {
        /// Its name or id
        member: String,
    },
    /// Remove a member for good; one of the cluster in the home with its process and its data.
    Remove {
        /// Its name or id
        member: String,
    },
}

#[derive(Args)]
pub(crate) struct MemberAddArgs {
    /// Name of the member
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Where the other members will reach it
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) peer: String,
    /// Do not wait for it: promote it later
    #[arg(long)]
    pub(crate) no_wait: bool,
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
    fn a_time_is_named_or_some_time_ago() {
        let named = moment("2026-11-25T20:19:10.5+01:00").unwrap();
        assert_eq!(named.unix_timestamp_nanos(), 1_795_634_350_500_000_000);
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)] {
            let then = moment(text).unwrap();
            let ago = OffsetDateTime::now_utc() - then;
            assert!(
                (seconds..seconds + 60).contains(&ago.whole_seconds()),
                "{text}"
            );
        }
        for bad in [
            "",
            "m",
            "-5m",
            "5",
            "5w",
            "99999999999d",
            "2026-11-25",
            "\u{e9}",
        ] {
            assert!(moment(bad).is_err(), "{bad}");
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

    /// A global flag of the same name as an argument below it is found only when the command runs.
    #[test]
    fn the_commands_of_the_store_are_read() {
        let lines = [
            "get /a --prefix --rev 5 --key k",
            "history /a --limit 3 -o json",
            "status --home h",
            "get /a --user root:pw",
            "snapshot save f",
            "snapshot status f -o json",
            "restore f --home h --members 3 --bump-revision 7",
            "restore f --data-dir d --member-id a --cluster-id b --initial-members m1=a@h:1",
            "recover --data-dir a,b --dry-run",
            "mirror --from http://h:2379 --prefix /a --until-synced",
            "mirror --from https://h:2379 --from-cert c --from-key k --key k --user u --password-file p",
            "replace m2",
            "move-leader m2",
            "member list",
            "member add b --peer h:1 --no-wait",
            "member replace b --peer h:1",
            "member promote b",
            "member remove b",
        ];
        for line in lines {
            let words = ["kontiki", "store"].into_iter().chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        let words = "kontiki store restore f --data-dir d".split(' ');
        assert!(Cli::try_parse_from(words).is_err(), "whose data?");
    }

    #[test]
    fn help_of_the_store_tells_its_own_options_from_those_of_all() {
        let mut cli = Cli::command();
        cli.build();
        let store = cli.find_subcommand("store").unwrap();
        for path in [&["get"][..], &["mirror"], &["member", "add"], &["restore"]] {
            let command = path
                .iter()
                .try_fold(store, |command, name| command.find_subcommand(name));
            let help = command.unwrap().clone().render_help().to_string();
            let (own, of_all) = help.split_once("Which store, and who asks:").unwrap();
            for flag in ["--home", "--endpoints", "--cacert", "--key", "--user"] {
                let line = format!("      {flag} <");
                assert!(of_all.contains(&line) && !own.contains(&line), "{help}");
            }
            let own_flag = ["--rev", "--from", "--peer", "--bump-revision"];
            assert!(own_flag.iter().any(|flag| own.contains(flag)), "{help}");
        }
    }

    #[test]
    fn every_flag_says_what_it_is() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let (name, id) = (command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{name} {id}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}

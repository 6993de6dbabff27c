//! What an API server is told at start.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use auth::token::{Signer, Verifier};

pub use crate::authenticate::RequestHeaderConfig;

/// The minor version of Kubernetes whose behaviour this server follows.
pub const VERSION_MINOR: &str = "36";

/// Kubernetes' interval of compaction.
pub const HISTORY: Duration = Duration::from_secs(300);

/// `gitVersion` of `/version`.
pub fn git_version() -> String {
    format!("v1.{VERSION_MINOR}.1+kontiki.{}", env!("CARGO_PKG_VERSION"))
}

/// `platform` of `/version`, in Go's words.
pub(crate) fn platform() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{machine}", std::env::consts::OS)
}

/// The client certificate with which this server calls node agents.
#[derive(Clone)]
pub struct KubeletIdentity {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// With what this server passes requests on to servers of other API versions.
#[derive(Clone)]
pub struct FrontProxy {
    /// The authority that those servers find in `kube-system/extension-apiserver-authentication`: whoever has a
    /// certificate of it is believed about who asks.
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
}

/// Settings of one API server. The cluster-wide ones must be the same on every member.
pub struct Config {
    /// Signs service account tokens.
    pub signer: Arc<Signer>,
    /// Accepts them; holds the signer's key and those being rotated out.
    pub verifier: Verifier,
    /// Audiences of tokens that this server accepts for itself; the first is the issuer by custom.
    pub api_audiences: Vec<String>,
    /// The cluster CA: signs client and serving certificates of the cluster.
    pub ca_pem: String,
    /// Where this member's API can be reached from nodes and pods.
    pub advertise_address: IpAddr,
    pub advertise_port: u16,
    /// Addresses of Services: a block, or one of each family, separated by a comma, first that of Services that ask for none
    /// ([`check_service_cidr`](crate::check_service_cidr)).
    pub service_cidr: String,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// `cluster.local` by custom.
    pub cluster_domain: String,
    /// What objects were is known for so long at least, and for twice as long at most.
    pub history: Duration,
    /// None: logs, exec and port-forward answer 503.
    pub kubelet_identity: Option<KubeletIdentity>,
    /// None: servers of other API versions are reached, and cannot know who asks.
    pub front_proxy: Option<FrontProxy>,
    /// Whether requests may be proxied to pods and nodes at loopback and link-local addresses. Not where others than the
    /// machine's owner use the API: what listens there expects nobody else.
    pub proxy_to_loopback: bool,
    pub static_tokens: auth::static_tokens::StaticTokens,
    /// Requests that are worked on at once, in seats, which priority levels divide; administrators and probes need none.
    pub seats: u32,
    /// None: nobody names users in headers.
    pub request_header: Option<RequestHeaderConfig>,
    /// What is stored encrypted, and with which keys; nothing by default. [`crate::ApiServer::encrypt_by`] changes it.
    pub encryption: crate::Encryption,
    /// Of which requests is told what, and whom; of none by default.
    pub auditing: Option<crate::Auditing>,
    /// Whether requests without credentials become `system:anonymous` (and so meet RBAC) or get 401.
    pub anonymous: bool,
}

impl Config {
    /// Settings with Kubernetes' customs for everything that is not a secret.
    pub fn new(
        signer: Arc<Signer>,
        issuer: &str,
        ca_pem: String,
        advertise_address: IpAddr,
        advertise_port: u16,
    ) -> Config {
        let verifier = Verifier::new(vec![signer.public_key().clone()], vec![issuer.to_owned()]);
        Config {
            signer,
            verifier,
            api_audiences: vec![issuer.to_owned()],
            ca_pem,
            advertise_address,
            advertise_port,
            service_cidr: "10.96.0.0/12".to_owned(),
            node_ports: (30_000, 32_767),
            cluster_domain: "cluster.local".to_owned(),
            history: HISTORY,
            kubelet_identity: None,
            front_proxy: None,
            proxy_to_loopback: false,
            static_tokens: auth::static_tokens::StaticTokens::default(),
            seats: crate::flow::SEATS,
            request_header: None,
            encryption: crate::Encryption::default(),
            auditing: None,
            anonymous: true,
        }
    }
}

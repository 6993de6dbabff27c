//! What an agent gets when it is started.

use crate::cidr::NodeRanges;
use crate::client::Client;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The world of one agent: how to reach the API, who it is, and when to stop.
#[derive(Clone)]
pub struct AgentContext {
    /// The API.
    pub client: Client,
    /// Unique identity of this process, used as the holder of leases (`<host>_<uuid>`).
    pub identity: String,
    /// Certificate of the cluster's CA in PEM: published to every namespace as `kube-root-ca.crt`. Empty when unknown.
    pub cluster_ca_pem: String,
    /// The scheduler's configuration: the text of a `KubeSchedulerConfiguration`, empty for the default.
    pub scheduler_config: Arc<str>,
    /// What the operator has chosen for the controllers.
    pub controllers: Arc<ControllerOptions>,
    /// Cancelled when the process stops; an agent returns soon after.
    pub stop: CancellationToken,
}

/// What the operator has chosen for the controllers. The default does nothing that needs a choice.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// The authority that signs the certificates of approved requests.
    pub signing: Signing,
    /// How long a certificate is valid at the most.
    pub signing_duration: Duration,
    /// The addresses of pods, of which each node gets a range. None: nodes get none.
    pub node_ranges: Option<NodeRanges>,
    /// Whether nodes and Services of type LoadBalancer are looked after as a cloud would do it.
    pub local_cloud: bool,
    /// Where the API is, for those who join with nothing but a token. Empty: that is not published.
    pub api_url: String,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            signing: Signing::default(),
            signing_duration: Duration::from_secs(365 * 24 * 60 * 60),
            node_ranges: None,
            local_cloud: false,
            api_url: String::new(),
        }
    }
}

/// The authority that signs, as it is now: it may be another one while agents run. Without one nothing is signed.
#[derive(Clone, Debug, Default)]
pub struct Signing(Arc<RwLock<Option<Arc<SigningPair>>>>);

impl Signing {
    /// By this authority.
    pub fn by(pair: Option<SigningPair>) -> Self {
        Self(Arc::new(RwLock::new(pair.map(Arc::new))))
    }

    /// The authority.
    pub fn pair(&self) -> Option<Arc<SigningPair>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets another one sign from now on.
    pub fn replace(&self, pair: SigningPair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pair));
    }
}

/// A certificate authority with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningPair {
    /// Its certificate, PEM: the first one, where there are several.
    pub certificate_pem: String,
    /// Its key, PEM (PKCS #8).
    pub key_pem: String,
}

impl fmt::Debug for SigningPair {
    /// Without the key, which belongs into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningPair").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_no_debug_text() {
        let pair = SigningPair {
            certificate_pem: "C".into(),
            key_pem: "SECRET".into(),
        };
        let options = ControllerOptions {
            signing: Signing::by(Some(pair)),
            ..ControllerOptions::default()
        };
        assert!(!format!("{options:?}").contains("SECRET"));
    }
}

//! Where the servers are, and how a client proves who it is.

use std::time::Duration;
use trust::Servers;

/// How the client proves who it is.
#[derive(Clone)]
pub enum Identity {
    /// No credentials.
    Anonymous,
    /// A bearer token.
    Token(String),
    /// A client certificate and its key, both PEM.
    Certificate {
        /// The chain, leaf first.
        cert_pem: String,
        /// The private key.
        key_pem: String,
    },
}

/// Where the servers are and how to talk to them.
#[derive(Clone)]
pub struct ClientConfig {
    /// Base addresses, such as `https://10.0.0.1:6443`; tried in order.
    pub servers: Vec<String>,
    /// The CA that signed the servers' certificates; empty allows only `http://` servers.
    pub ca_pem: String,
    /// Credentials.
    pub identity: Identity,
    /// Deadline of one call with all its retries (watches excepted).
    pub timeout: Duration,
    /// `User-Agent`.
    pub user_agent: String,
}

impl ClientConfig {
    /// The usual configuration: 30 s deadline.
    pub fn new(servers: Vec<String>, ca_pem: impl Into<String>, identity: Identity) -> Self {
        Self {
            servers,
            ca_pem: ca_pem.into(),
            identity,
            timeout: Duration::from_secs(30),
            user_agent: concat!("kontiki/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

pub(super) fn tls_config(
    servers: &[String],
    ca_pem: &str,
    identity: &Identity,
) -> Result<rustls::ClientConfig, String> {
    let authorities = trust::authorities(ca_pem.as_bytes());
    let authorities = authorities.map_err(|error| format!("CA certificate: {error}"))?;
    if authorities.is_empty() && servers.iter().any(|s| !s.starts_with("http://")) {
        return Err("no CA certificate is given for a TLS server".into());
    }
    let shown = match identity {
        Identity::Certificate { cert_pem, key_pem } => {
            Some((cert_pem.as_bytes(), key_pem.as_bytes()))
        }
        _ => None,
    };
    let mut tls = trust::client_config(Servers::Of(authorities), shown)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

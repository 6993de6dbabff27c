//! A JSON client of the Kubernetes API.
//!
//! Every call has a deadline. Connection failures of reads are retried on the next server; a write is repeated only
//! when it certainly did not reach a server, or when the server itself asked for it (429 or 5xx with `Retry-After`).

mod config;
mod params;
mod query;
mod reads;
mod send;
mod stored;
mod writes;

pub use config::{ClientConfig, Identity};
pub use params::{DeleteParams, ListParams, PatchType, Propagation, WatchParams};
pub(crate) use send::{encode, read_all};
pub use stored::Stored;

use crate::error::ApiError;
use crate::transport::{Remote, Transport};
use bytes::Bytes;
use config::tls_config;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Any error that may cross a tower service.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body type of requests and answers; `axum::body::Body` converts to and from it with `boxed_unsync`.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// An API server in this process.
pub type InProcessService =
    tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A client; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    timeout: Duration,
    user_agent: HeaderValue,
}

const ACCEPT: &str = "application/json";

impl Client {
    /// A client of remote servers. Fails on unusable addresses, certificates, keys or names; it does not connect yet.
    pub fn connect(config: ClientConfig) -> Result<Self, String> {
        let tls = tls_config(&config.servers, &config.ca_pem, &config.identity)?;
        let token = match &config.identity {
            Identity::Token(token) => Some(token.trim()),
            _ => None,
        };
        let remote = Remote::new(&config.servers, Arc::new(tls), token)?;
        let user_agent = HeaderValue::from_str(&config.user_agent)
            .map_err(|e| format!("User-Agent {:?}: {e}", config.user_agent))?;
        Ok(Self {
            inner: Arc::new(Inner {
                transport: Transport::Remote(Box::new(remote)),
                timeout: config.timeout,
                user_agent,
            }),
        })
    }

    /// From now on servers are checked against this CA, and a certificate among the credentials is shown to them; a token
    /// stays what it is. Requests under way end as they began. On an error nothing changes.
    pub fn replace_tls(
        &self,
        servers: &[String],
        ca_pem: &str,
        identity: &Identity,
    ) -> Result<(), String> {
        if let Transport::Remote(remote) = &self.inner.transport {
            remote.replace_tls(Arc::new(tls_config(servers, ca_pem, identity)?));
        }
        Ok(())
    }

    /// A client that calls an API server in this process. The service decides who the caller is.
    pub fn in_process(service: InProcessService) -> Self {
        let user_agent = concat!("kontiki/", env!("CARGO_PKG_VERSION"));
        let user_agent = HeaderValue::from_static(user_agent);
        Self {
            inner: Arc::new(Inner {
                transport: Transport::InProcess(service),
                timeout: Duration::from_secs(30),
                user_agent,
            }),
        }
    }

    /// The server in use, for messages.
    pub fn server(&self) -> String {
        self.inner.transport.current_server()
    }
}

/// A JSON value as a typed struct.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value)
        .map_err(|e| ApiError::malformed(format!("unexpected form of an object: {e}")))
}

//! Connections to a member's port for etcd clients: made explicitly, within the member's namespace, so that a call that was
//! never sent is told from one whose answer got lost.

use super::space::Space;
use crate::etcd::client::Connection;
use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Where a member's port for etcd clients is, on the loopback of its machine.
pub const PORT: u16 = 6490;
/// For a connection and its handshake.
const CONNECT: Duration = Duration::from_secs(2);

/// What the clients prove themselves with.
#[derive(Clone)]
pub struct Credentials(ClientTlsConfig);

impl Credentials {
    /// Of the administrator of the store, as `kontiki pki` made them.
    pub fn read(bundle: &Path) -> Result<Credentials> {
        let read = |name: &str| {
            let path = bundle.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let identity = Identity::from_pem(read("store-admin.crt")?, read("store-admin.key")?);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")?))
            .domain_name("127.0.0.1")
            .identity(identity);
        Ok(Credentials(tls))
    }
}

impl Connection<Channel> {
    /// A new connection, made within the member's namespace.
    pub async fn open(space: &Arc<Space>, credentials: &Credentials) -> Result<Connection> {
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{PORT}"))?
            .tls_config(credentials.0.clone())?
            .tcp_nodelay(true);
        let space = space.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let space = space.clone();
            async move { space.dial(PORT).await.map(TokioIo::new) }
        });
        let connect = endpoint.connect_with_connector(connector);
        let channel = tokio::time::timeout(CONNECT, connect)
            .await
            .context("no connection in time")??;
        Ok(Connection::over(channel))
    }
}

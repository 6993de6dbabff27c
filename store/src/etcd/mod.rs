//! The etcd v3 gRPC front: etcd's wire API over `kv::Store`. It bypasses the API server and its RBAC, so it is off
//! unless asked for, listens on loopback only, and takes none but clients with a certificate of an authority that has
//! issued none for the API.
//!
//! Served: KV (Range, Put, DeleteRange, Txn, Compact) and Maintenance.Status. The rest answers `Unimplemented`.

mod errors;
mod headed;
mod service;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kv::Store;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// Certificates of the front, PEM.
pub struct FrontTls {
    /// Who may call: clients with a certificate of this authority. Not the one of the API's clients.
    pub client_ca: String,
    pub cert: String,
    pub key: String,
}

#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The store's port bypasses RBAC: choose a loopback address.
    #[error("the store's client port listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the store's client port failed")]
    Serve(#[source] tonic::transport::Error),
}

/// Listens for etcd clients. Fails at once where the address is taken or is not loopback.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, FrontError> {
    if !address.ip().is_loopback() {
        return Err(FrontError::NotLoopback(address));
    }
    TcpListener::bind(address)
        .await
        .map_err(|source| FrontError::Listen { address, source })
}

/// Serves etcd clients until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    tls: FrontTls,
    store: Arc<dyn Store>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), FrontError> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(tls.cert, tls.key))
        .client_ca_root(Certificate::from_pem(tls.client_ca));
    Server::builder()
        .tls_config(tls)
        .map_err(FrontError::Serve)?
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .timeout(Duration::from_secs(30))
        .add_service(service::Kv::new(store.clone()))
        .add_service(service::Maintenance::new(store))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
        .await
        .map_err(FrontError::Serve)
}

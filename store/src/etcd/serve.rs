//! The port: TLS, HTTP/2 for gRPC, and HTTP/1.1 beside it for probes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::admission::{Class, Client};
use super::auth::ClientName;
use super::front::{Front, Options};
use super::handshakes::Handshakes;
use super::methods;
use super::rpc::HttpFuture;
use crate::node::Node;

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
    #[error("the certificates of the store's client port are not usable: {0}")]
    Tls(String),
}

/// Connections that have not shown a certificate yet, or nothing after it.
const HANDSHAKES: usize = 512;
/// To shake hands and say a first word.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A quiet connection is asked after so long whether it is alive, and has this long to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// Calls under way on one connection. Ten thousand watches, each on its own stream, are a use of etcd.
const STREAMS: u32 = 65_536;
/// Calls that a client may give up before they were looked at, until it counts as an attacker.
const RESETS: usize = 4096;
/// What a client may send ahead, on one stream and on all of a connection.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Of answers, on one stream, that the socket has not taken yet: beyond, nothing more is asked of who answers. For a client
/// with a large window that does not read.
const SEND_BUFFER: usize = 64 << 10;
/// For calls under way at a stop.
const DRAIN: Duration = Duration::from_secs(3);

impl FrontTls {
    /// What the port serves with.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, FrontError> {
        server_config(self).map(Arc::new)
    }
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

/// Serves etcd clients until `shutdown` completes, new connections with the newest of `tls`
/// ([`FrontTls::server_config`]).
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    store: Arc<Node>,
    shutdown: impl Future<Output = ()>,
) {
    let client_url = listener
        .local_addr()
        .map(|address| format!("https://{address}"))
        .unwrap_or_default();
    let options = Options {
        client_url,
        ..Options::default()
    };
    let front = Front::new(store, options);
    let connections = TaskTracker::new();
    let handshakes = Handshakes::new(HANDSHAKES);
    tokio::select! {
        biased;
        () = shutdown => {}
        () = accept(&listener, &tls, &front, &connections, &handshakes) => {}
    }
    front.stop.cancel();
    connections.close();
    front.tasks.close();
    let drained = async {
        connections.wait().await;
        front.tasks.wait().await;
    };
    if tokio::time::timeout(2 * DRAIN, drained).await.is_err() {
        tracing::warn!("some calls of etcd clients did not end in time");
    }
}

async fn accept(
    listener: &TcpListener,
    tls: &watch::Receiver<Arc<rustls::ServerConfig>>,
    front: &Arc<Front>,
    connections: &TaskTracker,
    handshakes: &Arc<Handshakes>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: serve those that are there and try again.
                tracing::warn!(%error, "a connection of an etcd client could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection of an etcd client stays slow");
        }
        let (front, acceptor) = (front.clone(), TlsAcceptor::from(tls.borrow().clone()));
        let handshake = handshakes.start();
        connections.spawn(async move {
            let shaken = tokio::select! {
                biased;
                shaken = tokio::time::timeout(HANDSHAKE, greet(&acceptor, stream)) => shaken,
                () = handshake.gone.cancelled() => {
                    return tracing::debug!("an etcd client gave way to others without a word");
                }
            };
            drop(handshake);
            match shaken {
                Ok(Ok(stream)) => welcome(front, stream).await,
                Ok(Err(error)) => tracing::debug!(%error, "an etcd client is not let in"),
                Err(_) => tracing::debug!("an etcd client did not shake hands in time"),
            }
        });
    }
}

/// Shakes hands, and waits for the first word: who has nothing to say has to go like one who shows nothing.
async fn greet(acceptor: &TlsAcceptor, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let mut stream = acceptor.accept(stream).await?;
    match stream.fill_buf().await? {
        [] => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(stream),
    }
}

/// Serves a client that has shown its certificate, unless it has too many connections already.
async fn welcome(front: Arc<Front>, stream: TlsStream<TcpStream>) {
    let certificates = stream.get_ref().1.peer_certificates();
    let (client, name) = match certificates.and_then(<[_]>::first) {
        Some(certificate) => (front.clients.named(certificate), client_name(certificate)),
        None => (front.clients.nameless(), None),
    };
    match client.enter(Class::Connection) {
        Ok(_place) => converse(front, client, name, stream).await,
        Err(error) => tracing::warn!(%error, "a connection of an etcd client is closed"),
    }
}

/// The common name in the client's certificate, which was found to be of the authority.
fn client_name(certificate: &[u8]) -> Option<ClientName> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    Some(ClientName(name.as_str().ok()?.into()))
}

/// Serves one connection until its client goes, or until the stop and a little longer.
pub(super) async fn converse(
    front: Arc<Front>,
    client: Arc<Client>,
    name: Option<ClientName>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let stop = front.stop.clone();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(STREAMS)
        // Clients that give up on many calls at once mean no harm.
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(client.clone());
        if let Some(name) = name.clone() {
            request.extensions_mut().insert(name);
        }
        let answered = answer(front.clone(), request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of an etcd client ended");
    }
}

/// gRPC says so in the content type; all else is plain HTTP.
fn answer(front: Arc<Front>, request: http::Request<Body>) -> HttpFuture {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    let grpc = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    match grpc {
        true => methods::dispatch(front, request),
        false => super::http::respond(front, request),
    }
}

/// None but clients with a certificate of the authority.
fn server_config(tls: &FrontTls) -> Result<rustls::ServerConfig, FrontError> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| FrontError::Tls(format!("{what}: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(tls.client_ca.as_bytes()) {
        let authority = authority.map_err(|error| wrong("authority", &error))?;
        roots
            .add(authority)
            .map_err(|error| wrong("authority", &error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| wrong("authority", &error))?;
    let chain = CertificateDer::pem_slice_iter(tls.cert.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("certificate", &error))?;
    let key =
        PrivateKeyDer::from_pem_slice(tls.key.as_bytes()).map_err(|error| wrong("key", &error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("protocol", &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong("certificate", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

//! The node's HTTPS API, which the API server uses: health, pods, logs, exec, attach and port-forward.
//!
//! A client that shows a certificate of the cluster's CA whose common name is among the configured ones may do everything;
//! of all others the API is asked ([`crate::guard`]), since exec is root on the node. HTTP/1.1 only: WebSockets upgrade its
//! connections.

mod answers;
mod found;
mod query;
mod refusal;
mod running;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use trust::Identity;

pub(crate) use self::answers::{Answers, exposed, router, routes};
pub(crate) use self::found::container_status;
pub(crate) use self::query::{exec_request, is_true, parse_query};
pub(crate) use self::refusal::{Refusal, bad, internal, missing};
pub(crate) use self::running::running_pods;
pub(crate) use self::streams::NO_WEBSOCKET;
use crate::guard::{Guard, asker};
use crate::{Error, ServerIdentity};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: usize = 1024;
/// So many of them are of others than the configured clients, whom nobody shall keep out.
const STRANGERS_MAX: usize = 256;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    listener: TcpListener,
    identity: watch::Receiver<ServerIdentity>,
    acceptor: TlsAcceptor,
    client_names: Arc<[String]>,
    port: u16,
}

impl Server {
    pub(crate) async fn bind(
        address: SocketAddr,
        identity: &watch::Receiver<ServerIdentity>,
    ) -> Result<Server, Error> {
        let mut identity = identity.clone();
        let first = identity.borrow_and_update().clone();
        let acceptor = acceptor(&first).map_err(Error::Identity)?;
        let listen = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let port = listener.local_addr().map_err(listen)?.port();
        Ok(Server {
            listener,
            identity,
            acceptor,
            client_names: first.client_names.into(),
            port,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Serves until dropped; every connection ends with it. Without a guard only configured clients are let in.
    pub(crate) async fn serve(mut self, router: Router, guard: Option<Arc<Guard>>) {
        let mut connections = JoinSet::new();
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            self.take_identity();
            let (acceptor, router) = (self.acceptor.clone(), router.clone());
            let (names, guard) = (self.client_names.clone(), guard.clone());
            let strangers = strangers.clone();
            connections.spawn(async move {
                let door = (&*names, guard, &*strangers);
                if let Err(error) = connection(stream, acceptor, door, router).await {
                    tracing::debug!(error, "a connection ended with an error");
                }
            });
        }
    }
}

impl Server {
    /// Takes a new identity if there is one, for the connection that has just come and for those after it.
    fn take_identity(&mut self) {
        if !self.identity.has_changed().unwrap_or(false) {
            return;
        }
        let identity = self.identity.borrow_and_update();
        match acceptor(&identity) {
            Ok(acceptor) => {
                self.acceptor = acceptor;
                self.client_names = identity.client_names.clone().into();
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the new server identity is unusable, the old one stays"
                );
            }
        }
    }
}

pub(crate) fn acceptor(identity: &ServerIdentity) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = trust::authorities(identity.client_ca_pem.as_bytes())?;
    let Identity { chain, key } = Identity::of_pem(
        identity.certificate_pem.as_bytes(),
        identity.key_pem.as_bytes(),
    )?;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(clients),
        provider.clone(),
    )
    .allow_unauthenticated()
    .build()
    .map_err(|error| error.to_string())?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    (names, guard, strangers): (&[String], Option<Arc<Guard>>, &Semaphore),
    router: Router,
) -> Result<(), String> {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = handshake
        .map_err(|_| "TLS handshake timed out")?
        .map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = certificates.and_then(|chain| subject(chain.first()?));
    let is_known = shown.as_ref().is_some_and(|(name, _)| names.contains(name));
    let _place = match is_known {
        true => None,
        false => Some(strangers.try_acquire().map_err(|_| "too many strangers")?),
    };
    let router = match (shown, guard) {
        _ if is_known => router,
        (shown, Some(guard)) => {
            let shown = shown.map(|(name, organizations)| asker(&name, &organizations));
            guard.before(router, shown)
        }
        (shown, None) => forbidden(&shown.unwrap_or_default().0),
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    connection.await.map_err(|error| error.to_string())
}

/// The name and the groups that a certificate is for. Nobody's, where they cannot be read.
fn subject(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations = subject.iter_organization();
    let organizations = organizations.map(|one| one.as_str().map(str::to_owned));
    let organizations = organizations.collect::<Result<_, _>>().ok()?;
    (!name.is_empty()).then_some((name, organizations))
}

fn forbidden(name: &str) -> Router {
    let text = format!("Forbidden (user={name}, resource=nodes, subresource=proxy)");
    Router::new().fallback(move || {
        let text = text.clone();
        async move { (StatusCode::FORBIDDEN, text) }
    })
}

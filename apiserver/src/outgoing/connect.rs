//! Opens connections: finds the addresses, takes one by chance, tries the next where nobody listens, speaks TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use schema::Object;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Destination;
use super::endpoints::{ResolveError, Resolved, resolve};
use crate::world::World;

/// An endpoint that does not answer for so long is given up for another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Endpoints tried for one connection.
const ENDPOINTS_MAX: usize = 4;

/// Why there is no connection, in the words of Go's dialer.
#[derive(Debug)]
pub(crate) struct Dial(String);

impl fmt::Display for Dial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Dial {}

/// The way to one destination.
#[derive(Clone)]
pub(super) struct Connector {
    world: Arc<World>,
    destination: Destination,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(
        world: Arc<World>,
        destination: Destination,
        tls: ClientConfig,
    ) -> Result<Connector, String> {
        let name = ServerName::try_from(destination.server_name());
        Ok(Connector {
            world,
            name: name.map_err(|error| error.to_string())?,
            destination,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    async fn connect(self) -> Result<Stream, Dial> {
        let addresses = self.addresses().await?;
        let mut refused = Dial("no address".to_owned());
        for address in addresses.into_iter().take(ENDPOINTS_MAX) {
            match dial(address).await {
                // Who answers is who is meant: a wrong certificate is no reason to ask another.
                Ok(stream) => {
                    let stream = self.tls.connect(self.name, stream).await;
                    return match stream {
                        Ok(stream) => Ok(Stream(TokioIo::new(stream))),
                        Err(error) => Err(handshake(&error)),
                    };
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The addresses of the destination, in the order in which they are tried.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Dial> {
        let resolved = match &self.destination {
            Destination::Host { host, port } => Resolved::Name(host.clone(), *port),
            Destination::Service {
                namespace,
                name,
                port,
            } => self
                .endpoints(namespace, name, *port)
                .map_err(|error| Dial(error.to_string()))?,
        };
        match resolved {
            Resolved::Addresses(mut addresses) => {
                let start = host::random::<u64>() as usize % addresses.len().max(1);
                addresses.rotate_left(start);
                Ok(addresses)
            }
            Resolved::Name(host, port) => {
                let found = tokio::net::lookup_host((host.as_str(), port)).await;
                found
                    .map(Iterator::collect)
                    .map_err(|_| Dial(format!("dial tcp: lookup {host}: no such host")))
            }
        }
    }

    fn endpoints(&self, namespace: &str, name: &str, port: u16) -> Result<Resolved, ResolveError> {
        let service = self.world.get("", "services", namespace, name);
        let service = service.ok_or_else(|| ResolveError::NoService(name.to_owned()))?;
        let slices: Vec<Object> = self
            .world
            .list("discovery.k8s.io", "endpointslices", namespace)
            .iter()
            .map(|entry| entry.object())
            .collect();
        resolve(&service.object(), &slices, port)
    }
}

pub(crate) async fn dial(address: SocketAddr) -> Result<TcpStream, Dial> {
    let failed = |text: &str| Dial(format!("dial tcp {address}: {text}"));
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(failed(&match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => format!("connect: {error}"),
        })),
        Err(_) => Err(failed("i/o timeout")),
    }
}

/// What Go says of a certificate for other names.
fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let is_address = matches!(expected, ServerName::IpAddress(_));
    let (head, expected) = (
        if is_address { "IpAddress(" } else { "DnsName(" },
        expected.to_str(),
    );
    let names: Vec<&str> = presented
        .iter()
        .filter_map(|name| name.strip_prefix(head)?.strip_suffix(')'))
        .map(|name| name.trim_matches('"'))
        .collect();
    match (names.is_empty(), is_address) {
        (false, _) => format!(
            "certificate is valid for {}, not {expected}",
            names.join(", ")
        ),
        (true, true) => format!(
            "cannot validate certificate for {expected} because it doesn't contain any IP SANs"
        ),
        (true, false) => {
            format!("certificate is not valid for any names, but wanted to match {expected}")
        }
    }
}

/// Kubernetes' texts of what is wrong with a certificate; users search for them.
fn handshake(error: &io::Error) -> Dial {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => {
            let problem = match problem {
                CertificateError::UnknownIssuer => {
                    "certificate signed by unknown authority".to_owned()
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    "certificate has expired or is not yet valid".to_owned()
                }
                CertificateError::NotValidForNameContext {
                    expected,
                    presented,
                } => wrong_name(expected, presented),
                // A certificate that is its own authority, and that is not among those that are trusted.
                CertificateError::Other(other)
                    if format!("{other:?}").contains("CaUsedAsEndEntity") =>
                {
                    "certificate signed by unknown authority".to_owned()
                }
                other => other.to_string(),
            };
            format!("tls: failed to verify certificate: x509: {problem}")
        }
        Some(other) => format!("tls: {other}"),
        None => error.to_string(),
    };
    Dial(text)
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = Dial;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Dial>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Dial>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// Runs a connection's work as a task of the machine that this runs on.
#[derive(Clone)]
pub(super) struct OnHost;

impl<F> Executor<F> for OnHost
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        host::spawn(future);
    }
}

/// A connection under TLS.
pub(super) struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_told_as_go_tells_them() {
        let text = |expected: &'static str, presented: &[&str]| {
            let presented: Vec<String> = presented.iter().map(|name| (*name).to_owned()).collect();
            wrong_name(&ServerName::try_from(expected).unwrap(), &presented)
        };
        let presented = [
            "DnsName(\"a.example\")",
            "IpAddress(192.0.2.1)",
            "DnsName(\"b.example\")",
        ];
        assert_eq!(
            text("hook.n.svc", &presented),
            "certificate is valid for a.example, b.example, not hook.n.svc"
        );
        assert_eq!(
            text("192.0.2.2", &presented),
            "certificate is valid for 192.0.2.1, not 192.0.2.2"
        );
        assert_eq!(
            text("192.0.2.2", &presented[..1]),
            "cannot validate certificate for 192.0.2.2 because it doesn't contain any IP SANs"
        );
        assert_eq!(
            text("hook.n.svc", &[]),
            "certificate is not valid for any names, but wanted to match hook.n.svc"
        );
    }
}

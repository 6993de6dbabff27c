//! One HTTPS request with the administrator's certificate: how `up` and `status` see whether a server is ready.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::pki::Pair;

const DEADLINE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Asks servers on this machine, as the administrator.
pub(crate) struct Probe {
    tls: tokio_rustls::TlsConnector,
}

impl Probe {
    pub(crate) fn new(ca: &Path, identity: &Pair) -> Result<Probe> {
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(ca)
            .with_context(|| format!("cannot read {}", ca.display()))?;
        roots.add(authority)?;
        let certs = CertificateDer::pem_file_iter(&identity.cert)
            .with_context(|| format!("cannot read {}", identity.cert.display()))?
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&identity.key)
            .with_context(|| format!("cannot read {}", identity.key.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certs, key)?;
        Ok(Probe {
            tls: tokio_rustls::TlsConnector::from(Arc::new(config)),
        })
    }

    /// GET from `127.0.0.1:<port>`; the status and the body.
    pub(crate) async fn get(&self, port: u16, path: &str) -> Result<(u16, Bytes)> {
        self.get_from("127.0.0.1", port, path).await
    }

    /// GET from any host that the certificate of its server names.
    pub(crate) async fn get_from(&self, host: &str, port: u16, path: &str) -> Result<(u16, Bytes)> {
        tokio::time::timeout(DEADLINE, self.request(host, port, path))
            .await
            .with_context(|| {
                format!("no answer from port {port} within {} s", DEADLINE.as_secs())
            })?
    }

    async fn request(&self, host: &str, port: u16, path: &str) -> Result<(u16, Bytes)> {
        let tcp = tokio::net::TcpStream::connect((host, port)).await?;
        let name = ServerName::try_from(host.to_string())?;
        let tls = self.tls.connect(name, tcp).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        let driver = tokio::spawn(connection);
        let request = http::Request::get(path)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?;
            Ok((status, body.to_bytes()))
        }
        .await;
        driver.abort();
        answer
    }
}

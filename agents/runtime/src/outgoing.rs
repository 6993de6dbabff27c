//! JSON to servers that are none of the API's, such as the scheduler's extenders: over HTTP, or over TLS as whoever runs the
//! agent says.

use crate::client::{Body, read_all};
use crate::transport::{Connector, chain, pool};
use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as PooledClient;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use trust::Servers;

/// Who a server has to be, and who we are to it. All PEM.
#[derive(Clone, Default)]
pub struct Trust {
    /// Any server will do.
    pub insecure: bool,
    /// Whom its certificate has to name, if that is not the host of the URL; empty for that.
    pub server_name: String,
    /// Whose certificates are trusted, or which certificates themselves; empty for those of the system's authorities.
    pub ca_pem: Vec<u8>,
    /// Certificate and key that are shown.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// A way to such a server. Clones share connections.
#[derive(Clone)]
pub struct Outgoing {
    pool: PooledClient<Connector, Body>,
    timeout: Duration,
}

/// What a server has answered.
pub struct Answer {
    /// The status.
    pub code: u16,
    /// The body.
    pub body: Bytes,
}

impl Outgoing {
    /// Each request takes so long at most, its answer included. Fails on unusable certificates; it does not connect yet.
    pub fn new(trust: &Trust, timeout: Duration) -> Result<Self, String> {
        let mut connector = Connector::new(Arc::new(tls_config(trust)?));
        if !trust.server_name.is_empty() {
            let name = ServerName::try_from(trust.server_name.clone());
            let name = name.map_err(|_| format!("no name of a server: {:?}", trust.server_name))?;
            connector = connector.expecting(name);
        }
        Ok(Self {
            pool: pool(connector),
            timeout,
        })
    }

    /// Posts JSON. The answer may have so many bytes: a broken server must not exhaust the agent.
    pub async fn post(&self, url: &str, body: String, bytes_max: usize) -> Result<Answer, String> {
        let failed = |why: &str| format!("Post {url:?}: {why}");
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("parse {url:?}: {error}"))?;
        let body: Body = Full::new(Bytes::from(body))
            .map_err(|never| match never {})
            .boxed_unsync();
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("kontiki/", env!("CARGO_PKG_VERSION")),
            )
            .body(body)
            .map_err(|error| failed(&error.to_string()))?;
        let answered = async {
            let response = self.pool.request(request).await;
            let response = response.map_err(|error| failed(&chain(&error)))?;
            let code = response.status().as_u16();
            let body = response.into_body();
            let body = body.map_err(|error| Box::new(error) as crate::BoxError);
            let body = read_all(body.boxed_unsync(), bytes_max).await;
            let body = body.map_err(|error| failed(&error.message))?;
            Ok(Answer { code, body })
        };
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(answered) => answered,
            Err(_) => Err(failed("context deadline exceeded")),
        }
    }
}

/// What a field of bytes holds in JSON.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn tls_config(trust: &Trust) -> Result<rustls::ClientConfig, String> {
    let servers = match trust.insecure {
        true => Servers::Anyone,
        false => Servers::Bundle(&trust.ca_pem),
    };
    let shown = trust.identity.as_ref();
    let shown = shown.map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
    let mut tls = trust::client_config(servers, shown)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::server::WebPkiClientVerifier;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use trust::Identity;

    #[test]
    fn certificates_that_cannot_be_are_found_before_anything_is_sent() {
        let made = |trust: Trust| Outgoing::new(&trust, Duration::from_secs(1)).err();
        assert_eq!(made(Trust::default()), None);
        let ca_pem = b"nothing".to_vec();
        let error = made(Trust {
            ca_pem,
            ..Trust::default()
        });
        assert_eq!(
            error.unwrap(),
            "unable to load root certificates: unable to parse bytes as PEM block"
        );
        let identity = Some((b"x".to_vec(), b"y".to_vec()));
        let error = made(Trust {
            identity,
            insecure: true,
            ..Trust::default()
        });
        assert!(error.unwrap().starts_with("the client certificate: "));
        let server_name = "not a name".to_owned();
        let error = made(Trust {
            server_name,
            ..Trust::default()
        });
        assert_eq!(error.unwrap(), "no name of a server: \"not a name\"");
    }

    /// A server that reads a request and says this.
    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        host::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut read = [0; 4096];
                let _ = stream.read(&mut read).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}/x")
    }

    #[tokio::test]
    async fn answers_are_bounded_in_bytes_and_in_time() {
        let out = |millis| Outgoing::new(&Trust::default(), Duration::from_millis(millis)).unwrap();
        let url = server("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull").await;
        let answer = out(60_000).post(&url, "{}".into(), 4).await.unwrap();
        assert_eq!((answer.code, &answer.body[..]), (200, &b"null"[..]));
        let error = out(60_000).post(&url, "{}".into(), 3).await.err();
        assert_eq!(
            error.unwrap(),
            format!("Post {url:?}: the answer is too large")
        );
        // It promises more than it says, and keeps the connection.
        let url = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
        let error = out(50).post(&url, "{}".into(), 9).await.err();
        assert!(error.is_some_and(|error| error.starts_with(&format!("Post {url:?}: "))));
        let error = out(50).post("no url", "{}".into(), 9).await.err();
        assert!(error.is_some_and(|error| error.starts_with("parse \"no url\": ")));
    }

    /// An authority, and the certificate of `extender.test` that it has signed.
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBQTCB56ADAgECAgEBMAoGCCqGSM49BAMCMA8xDTALBgNVBAMMBHRlc3QwIBcN
MjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMA8xDTALBgNVBAMMBHRlc3Qw
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARf2qsgXvTnfO5hS4+/FHOcX5L7KQGn
qj8cvyKGIexKpap2dj9gVfzkCK085kvtGijT6RjnVqrE2t9QNcnrA/P9ozIwMDAP
BgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBQJCTSKN8sbdxR8xdjpfRvNoLleHjAK
BggqhkjOPQQDAgNJADBGAiEAjYu8s1v6Xa9sDqyI08p8Dj24BzkTB/3Ll+a20/hA
IAICIQDNF5lEgwZevZnSqIsoBGVWzY5chnS+vq4YmGdSA/i/NA==
-----END CERTIFICATE-----
";
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDAR0ZXN0MCAX
DTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYDVQQDDA1leHRl
bmRlci50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEmv22zJUoNKK8KnF6
3rrWsAOOl4Gr/AhVkm2l3y7KwRN2PY3ZM62Y0itmlYauEdz+XLS1MNdoiP9H2g3k
Y9vY7KNnMGUwGAYDVR0RBBEwD4INZXh0ZW5kZXIudGVzdDAJBgNVHRMEAjAAMB0G
A1UdDgQWBBSW3F2923IdINsgJMfLhcggrC05QTAfBgNVHSMEGDAWgBQJCTSKN8sb
dxR8xdjpfRvNoLleHjAKBggqhkjOPQQDAgNIADBFAiBW+6rYsvV93d+jpahzje2z
7A8ESs3WTOrvq/q/Ee4qZQIhANO7PTXbYdYyTwGd8jXC4NpGJWhmE3WpCtA2MFbQ
Ffet
-----END CERTIFICATE-----
";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFMac7IpxecPOidAF
RyZAlGHeN9clcfFByiBju13huxGhRANCAASa/bbMlSg0orwqcXreutawA46Xgav8
CFWSbaXfLsrBE3Y9jdkzrZjSK2aVhq4R3P5ctLUw12iI/0faDeRj29js
-----END PRIVATE KEY-----
";

    /// A server that says over TLS whether its client has shown a certificate.
    async fn tls_server() -> String {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = Arc::new(trust::authorities(AUTHORITY.as_bytes()).unwrap());
        let clients = WebPkiClientVerifier::builder_with_provider(authority, provider.clone());
        let clients = clients.allow_unauthenticated().build().unwrap();
        let identity = Identity::of_pem(CERTIFICATE.as_bytes(), KEY.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(identity.chain, identity.key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        host::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let shown = stream.get_ref().1.peer_certificates().is_some();
                let mut read = [0; 4096];
                let _ = stream.read(&mut read).await;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{shown:<5}");
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        format!("https://{address}/x")
    }

    #[tokio::test]
    async fn servers_have_to_be_who_they_should_be() {
        let url = tls_server().await;
        let ask = async |trust: Trust| {
            let out = Outgoing::new(&trust, Duration::from_secs(60)).unwrap();
            let answer = out.post(&url, "{}".into(), 9).await?;
            Ok::<String, String>(String::from_utf8_lossy(&answer.body).trim().to_owned())
        };
        let trusted = Trust {
            server_name: "extender.test".into(),
            ca_pem: AUTHORITY.into(),
            ..Trust::default()
        };
        assert_eq!(ask(trusted.clone()).await, Ok("false".to_owned()));
        let known = Trust {
            identity: Some((CERTIFICATE.into(), KEY.into())),
            ..trusted.clone()
        };
        assert_eq!(ask(known).await, Ok("true".to_owned()));
        // Whoever has no authority gives its certificate itself.
        let itself = Trust {
            ca_pem: CERTIFICATE.into(),
            ..trusted.clone()
        };
        assert_eq!(ask(itself).await, Ok("false".to_owned()));
        // It is not the host of the URL, and nobody else has signed it.
        let of_host = Trust {
            server_name: String::new(),
            ..trusted.clone()
        };
        assert!(ask(of_host).await.is_err());
        let of_system = Trust {
            ca_pem: Vec::new(),
            ..trusted
        };
        assert!(ask(of_system).await.is_err());
        let anybody = Trust {
            insecure: true,
            ..Trust::default()
        };
        assert_eq!(ask(anybody).await, Ok("false".to_owned()));
    }

    #[test]
    fn bytes_are_base64() {
        assert_eq!(from_base64("aGk="), Some(b"hi".to_vec()));
        assert_eq!(from_base64("-"), None);
    }
}

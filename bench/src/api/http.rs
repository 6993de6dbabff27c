//! HTTP/2 over TLS and nothing else, as for the store: what a client library adds to a request would be load on the cores
//! that the servers are measured on. Every connection makes a handshake of its own, as clients do that have just started.

use std::sync::Arc;
use std::time::Duration;

use agent_runtime::client::{ClientConfig, Identity};
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderValue, Method, Uri, header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::store::wire::Failure;

/// Room for answers under way. A window of the standard's 64 KiB would measure round trips.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The text of a refusal is told up to here.
const REFUSAL_LETTERS: usize = 300;
/// Of one request: as long as a server may take for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// For all requests that only prepare and clean up.
pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// One server, and who its clients are.
#[derive(Clone)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    tls: Arc<rustls::ClientConfig>,
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// The first server of a configuration.
    pub(crate) fn new(config: &ClientConfig) -> Result<Endpoint> {
        let server = config.servers.first().context("no server is named")?;
        let (host, port) = host_and_port(server)?;
        let authorization = match &config.identity {
            Identity::Token(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                    .context("the token is no header")?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        Ok(Endpoint {
            host,
            port,
            tls: Arc::new(tls(config)?),
            authorization,
        })
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Of `https://host:port/`; nothing else is served at another path.
fn host_and_port(server: &str) -> Result<(String, u16)> {
    let uri: Uri = server
        .parse()
        .with_context(|| format!("{server} is no URL"))?;
    if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
        bail!("{server}: an URL like https://HOST:PORT is wanted");
    }
    let host = uri.host().context("an URL without a host")?;
    Ok((
        host.trim_matches(['[', ']']).to_owned(),
        uri.port_u16().unwrap_or(443),
    ))
}

fn tls(config: &ClientConfig) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.ca_pem.as_bytes()) {
        roots.add(certificate.context("the authority is no certificate in PEM")?)?;
    }
    if roots.is_empty() {
        bail!(
            "no authority of the server's certificate is named: give --ca, or a kubeconfig with one"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut tls = match &config.identity {
        Identity::Certificate { cert_pem, key_pem } => {
            let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| anyhow!("the client's certificate: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .map_err(|error| anyhow!("the client's key: {error}"))?;
            builder.with_client_auth_cert(chain, key)?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) accept: &'static str,
    /// With the body; none of both for reads.
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Request {
        Request {
            method: Method::GET,
            path: path.into(),
            accept: JSON,
            content_type: "",
            body: Bytes::new(),
        }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Request {
        Request {
            method: Method::DELETE,
            ..Request::get(path)
        }
    }

    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Request {
        Request {
            method: Method::POST,
            content_type: JSON,
            body: body.into(),
            ..Request::get(path)
        }
    }

    pub(crate) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Request {
        Request {
            method: Method::PUT,
            ..Request::post(path, body)
        }
    }

    pub(crate) fn patch(
        path: impl Into<String>,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Request {
        Request {
            method: Method::PATCH,
            content_type,
            ..Request::post(path, body)
        }
    }

    /// With a body that is protobuf, to be answered in the same.
    pub(crate) fn in_protobuf(self) -> Request {
        Request {
            accept: PROTOBUF,
            content_type: PROTOBUF,
            ..self
        }
    }

    pub(crate) fn accepting(self, accept: &'static str) -> Request {
        Request { accept, ..self }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) chunks: Vec<Bytes>,
}

impl Answer {
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.bytes()).context("the answer is no JSON")
    }

    /// An error unless it is a success.
    pub(crate) fn accepted(self) -> Result<Answer, Failure> {
        match self.status {
            200..300 => Ok(self),
            status => {
                let text = String::from_utf8_lossy(&self.bytes()).into_owned();
                let text: String = text.chars().take(REFUSAL_LETTERS).collect();
                Err(Failure(format!("HTTP status {status}: {}", text.trim())))
            }
        }
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    endpoint: Endpoint,
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Connection> {
        let socket = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .with_context(|| format!("no connection to {}", endpoint.address()))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(endpoint.host.clone())?;
        let connector = TlsConnector::from(endpoint.tls.clone());
        let socket = connector.connect(name, socket).await?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(socket)
            .await?;
        // Ends when the last request handle is dropped, or with an error that each request on it sees.
        tokio::spawn(connection);
        Ok(Connection {
            requests,
            endpoint: endpoint.clone(),
        })
    }

    /// The whole answer, whatever its status.
    pub(crate) async fn call(&self, request: &Request) -> Result<Answer, Failure> {
        let answer = async {
            let (status, mut body) = self.send(request).await?;
            let mut chunks = Vec::new();
            while let Some(chunk) = next_chunk(&mut body).await? {
                chunks.push(chunk);
            }
            Ok(Answer { status, chunks })
        };
        crate::store::wire::within(PATIENCE, answer).await
    }

    /// A success, or an error.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        self.call(request).await?.accepted()
    }

    /// An answer without end: the stream of its body, once the server has begun it.
    pub(crate) async fn stream(&self, request: &Request) -> Result<RecvStream, Failure> {
        let begun = crate::store::wire::within(PATIENCE, self.send(request)).await?;
        match begun {
            (200, body) => Ok(body),
            (status, _) => Err(Failure(format!("HTTP status {status}"))),
        }
    }

    async fn send(&self, request: &Request) -> Result<(u16, RecvStream), Failure> {
        let uri = format!("https://{}{}", self.endpoint.address(), request.path);
        let mut head = http::Request::builder()
            .method(&request.method)
            .uri(uri)
            .header(header::ACCEPT, request.accept)
            .header(header::USER_AGENT, "kontiki-bench");
        if !request.content_type.is_empty() {
            head = head.header(header::CONTENT_TYPE, request.content_type);
        }
        if let Some(authorization) = &self.endpoint.authorization {
            head = head.header(header::AUTHORIZATION, authorization);
        }
        let head = head.body(()).map_err(|error| Failure(error.to_string()))?;
        let ends = request.body.is_empty();
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut sender) = requests.send_request(head, ends)?;
        if !ends {
            sender.send_data(request.body.clone(), true)?;
        }
        let response = response.await?;
        Ok((response.status().as_u16(), response.into_body()))
    }
}

/// None at the end.
pub(crate) async fn next_chunk(body: &mut RecvStream) -> Result<Option<Bytes>, Failure> {
    let Some(chunk) = body.data().await else {
        return Ok(None);
    };
    let chunk = chunk?;
    body.flow_control().release_capacity(chunk.len())?;
    Ok(Some(chunk))
}

/// Hands on the lines of a watch until it ends.
pub(crate) async fn each_line(mut body: RecvStream, mut take: impl FnMut(&[u8])) {
    let mut rest = Vec::new();
    while let Ok(Some(chunk)) = next_chunk(&mut body).await {
        rest.extend_from_slice(&chunk);
        let used = whole_lines(&rest, &mut take);
        rest.drain(..used);
    }
}

/// Hands on the lines that are whole; how many bytes they are.
fn whole_lines(bytes: &[u8], take: &mut impl FnMut(&[u8])) -> usize {
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
        return 0;
    };
    bytes[..end].split(|byte| *byte == b'\n').for_each(take);
    end + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_handed_on() {
        let mut seen = Vec::new();
        let mut take = |line: &[u8]| seen.push(line.to_vec());
        assert_eq!(whole_lines(b"one\ntwo\nthr", &mut take), 8);
        assert_eq!(whole_lines(b"thr", &mut take), 0);
        assert_eq!(whole_lines(b"three\n", &mut take), 6);
        assert_eq!(seen, [&b"one"[..], b"two", b"three"]);
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (server, expected) in [
            ("https://10.0.0.1:6443", ("10.0.0.1", 6443)),
            ("https://api.example/", ("api.example", 443)),
            ("https://[::1]:6443", ("::1", 6443)),
        ] {
            let (host, port) = host_and_port(server).unwrap();
            assert_eq!((host.as_str(), port), expected, "{server}");
        }
        for wrong in ["http://a:1", "https://a:1/k8s/clusters/c", "a:1", ""] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_success_is_accepted() {
        let answer = |status| Answer {
            status,
            chunks: vec![Bytes::from_static(b"no\n")],
        };
        assert!(answer(201).accepted().is_ok());
        let refused = answer(409).accepted().err().unwrap();
        assert_eq!(refused.0, "HTTP status 409: no");
    }

    #[test]
    fn an_authority_is_needed() {
        let config = ClientConfig::new(vec!["https://a:1".into()], "", Identity::Anonymous);
        assert!(Endpoint::new(&config).is_err());
    }
}

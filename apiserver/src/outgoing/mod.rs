//! Calls that this server makes to programs outside: admission webhooks and whatever else a `clientConfig` names, webhooks
//! that a kubeconfig file names, and issuers of tokens.
//!
//! A Service is dialed without kube-proxy and without DNS: its endpoints stand in this process's caches. One [`Peer`] is one
//! `clientConfig`; it keeps some connections open and opens others as needed. Redirects are not followed: they would
//! let whoever answers choose where this server's requests go.

mod backend;
mod connect;
mod endpoints;
pub(crate) mod kubeconfig;
pub(crate) mod review;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;
use serde_json::Value;
use tokio::time::Instant;
use trust::Servers;

use crate::status::quoted;
use crate::world::World;
pub(crate) use backend::{Backend, Trust};
pub(crate) use connect::dial;
use connect::{Connector, Dial};
pub(crate) use endpoints::{ResolveError, resolve};

/// Connections to one peer that wait for their next request.
const IDLE_MAX: usize = 25;
const IDLE_TIME_MAX: Duration = Duration::from_secs(90);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
    Host {
        host: String,
        port: u16,
    },
}

impl Destination {
    /// The name that the peer's certificate has to have.
    fn server_name(&self) -> String {
        match self {
            Destination::Service {
                namespace, name, ..
            } => format!("{name}.{namespace}.svc"),
            Destination::Host { host, .. } => host.clone(),
        }
    }

    pub(crate) fn authority(&self) -> String {
        let (Destination::Service { port, .. } | Destination::Host { port, .. }) = self;
        let name = self.server_name();
        if name.contains(':') && !name.starts_with('[') {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        }
    }
}

/// A `clientConfig`, ready for calls.
pub(crate) struct Peer {
    /// `https://host:port/path`, without a query.
    url: String,
    client: Client<Connector, Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

/// Who this server is towards a peer.
#[derive(Default)]
pub(crate) struct Credentials {
    /// Certificate and key, PEM.
    pub(crate) certificate: Option<(String, String)>,
    /// The header of that name.
    pub(crate) authorization: Option<HeaderValue>,
}

/// What came back, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why a call brought no answer, in the words of Go's HTTP client.
#[derive(Debug)]
pub(crate) struct CallError {
    /// As Go spells it.
    method: &'static str,
    url: String,
    reason: String,
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?}: {}", self.method, self.url, self.reason)
    }
}

impl Peer {
    /// Reads the JSON of a `clientConfig`: `service` or `url`, and `caBundle`.
    pub(crate) fn of_client_config(world: &Arc<World>, config: &Value) -> Result<Peer, String> {
        let (destination, url) = match config.get("service").filter(|service| !service.is_null()) {
            Some(service) => of_service(service),
            None => of_url(
                config
                    .get("url")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            )?,
        };
        let bundle = config.get("caBundle").and_then(Value::as_str);
        let bundle = base64::engine::general_purpose::STANDARD
            .decode(bundle.unwrap_or_default())
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
        Peer::new(world, destination, url, &bundle)
    }

    /// A peer at an https URL.
    pub(crate) fn of_url(world: &Arc<World>, url: &str, ca_pem: &[u8]) -> Result<Peer, String> {
        Peer::of_url_as(world, url, ca_pem, Credentials::default())
    }

    /// The same, for which this server is somebody.
    pub(crate) fn of_url_as(
        world: &Arc<World>,
        url: &str,
        ca_pem: &[u8],
        credentials: Credentials,
    ) -> Result<Peer, String> {
        let (destination, url) = of_url(url)?;
        let identity = credentials.certificate.as_ref();
        let identity = identity.map(|(certificate, key)| (certificate.as_bytes(), key.as_bytes()));
        let tls = trust::client_config(Servers::Bundle(ca_pem), identity)?;
        let peer = Peer::over(world, destination, url, tls)?;
        Ok(Peer {
            authorization: credentials.authorization,
            ..peer
        })
    }

    /// `ca_pem` is what the peer's certificate is checked against; the system's roots where it is empty.
    pub(crate) fn new(
        world: &Arc<World>,
        destination: Destination,
        url: String,
        ca_pem: &[u8],
    ) -> Result<Peer, String> {
        let tls = trust::client_config(Servers::Bundle(ca_pem), None)?;
        Peer::over(world, destination, url, tls)
    }

    fn over(
        world: &Arc<World>,
        destination: Destination,
        url: String,
        tls: rustls::ClientConfig,
    ) -> Result<Peer, String> {
        let connector = Connector::new(world.clone(), destination, tls)?;
        let client = Client::builder(connect::OnHost)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Peer {
            url,
            client,
            authorization: None,
        })
    }

    /// Posts JSON. `query` is empty or `a=b&..`; the answer has to be complete at the deadline.
    pub(crate) async fn post(
        &self,
        query: &str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let url = match query {
            "" => self.url.clone(),
            query => format!("{}?{query}", self.url),
        };
        let request = Request::post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "kube-apiserver-admission");
        let call = self.send(request, body);
        in_time("Post", url, call, deadline).await
    }

    /// Gets what is there; the answer has to be complete at the deadline.
    pub(crate) async fn get(&self, deadline: Instant) -> Result<Answer, CallError> {
        let request = Request::get(&self.url).header(header::USER_AGENT, "kube-apiserver");
        let call = self.send(request, Bytes::new());
        in_time("Get", self.url.clone(), call, deadline).await
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<Answer, String> {
        let mut request = request
            .header(header::ACCEPT, "application/json, */*")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let response = self.client.request(request).await;
        let response = response.map_err(|error| reason(&error))?;
        let (parts, body) = response.into_parts();
        let body = read(&parts.headers, Body::new(body)).await?;
        Ok(Answer {
            status: parts.status,
            body,
        })
    }
}

async fn in_time(
    method: &'static str,
    url: String,
    call: impl Future<Output = Result<Answer, String>>,
    deadline: Instant,
) -> Result<Answer, CallError> {
    let reason = match tokio::time::timeout_at(deadline, call).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(reason)) => reason,
        Err(_) => "context deadline exceeded".to_owned(),
    };
    Err(CallError {
        method,
        url,
        reason,
    })
}

/// The innermost reason: what dialing said, else what the connection said.
fn reason(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    let mut last = error.to_string();
    while let Some(one) = cause {
        if let Some(dial) = one.downcast_ref::<Dial>() {
            return dial.to_string();
        }
        if is_end(one) {
            return "EOF".to_owned();
        }
        last = one.to_string();
        cause = one.source();
    }
    last
}

/// Whether the peer hung up rather than answer.
fn is_end(error: &(dyn std::error::Error + 'static)) -> bool {
    let of_http = error.downcast_ref::<hyper::Error>();
    let of_transport = error.downcast_ref::<std::io::Error>();
    of_http.is_some_and(hyper::Error::is_incomplete_message)
        || of_transport.is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// Reads an answer to its end; one that is too large is refused.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Bytes, String> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large = || format!("the answer is larger than {ANSWER_BYTES_MAX} bytes");
    if declared.is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

fn of_service(service: &Value) -> (Destination, String) {
    let text = |field: &str| {
        let text = service.get(field).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let port = service.get("port").and_then(Value::as_u64);
    let destination = Destination::Service {
        namespace: text("namespace"),
        name: text("name"),
        port: port.and_then(|port| port.try_into().ok()).unwrap_or(443),
    };
    let path = text("path");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!("https://{}{slash}{path}", destination.authority());
    (destination, url)
}

fn of_url(url: &str) -> Result<(Destination, String), String> {
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("unable to parse webhook URL: {error}"))?;
    let host = uri.host().unwrap_or_default();
    if uri.scheme_str() != Some("https") || host.is_empty() {
        return Err(format!("{url:?} is not an https URL"));
    }
    let destination = Destination::Host {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(443),
    };
    let slash = match url.split_once("://") {
        Some((_, rest)) if !rest.contains(['/', '?']) => "/",
        _ => "",
    };
    Ok((destination, format!("{url}{slash}")))
}

/// What Kubernetes' client says about an answer that is no success.
pub(crate) fn unexpected(code: u16, body: &[u8]) -> String {
    // A Status of a failure speaks for itself.
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let message = status.as_ref().and_then(|status| {
        let is = |key: &str, value: &str| status.get(key).and_then(Value::as_str) == Some(value);
        let is_failure = is("kind", "Status") && is("status", "Failure");
        is_failure.then(|| status.get("message")?.as_str())?
    });
    if let Some(message) = message.filter(|message| !message.is_empty()) {
        return message.to_owned();
    }
    let text = match code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        409 => "the server reported a conflict",
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        // Who is not let in, or not understood, is told why.
        403 | 406 | 415 => return shown(body),
        500.. => {
            return format!(
                "an error on the server ({}) has prevented the request from succeeding",
                quoted(&shown(body))
            );
        }
        code => {
            return format!(
                "the server responded with the status code {code} but did not return more information"
            );
        }
    };
    text.to_owned()
}

/// So much of a body as a message has room for.
fn shown(body: &[u8]) -> String {
    const BYTES_MAX: usize = 2_048;
    let body = String::from_utf8_lossy(&body[..body.len().min(BYTES_MAX)]);
    match body.trim() {
        "" => "unknown".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_is_a_name_in_its_namespace() {
        let (destination, url) = of_service(&json!({"namespace": "n", "name": "s"}));
        assert_eq!(url, "https://s.n.svc:443/");
        assert_eq!(destination.server_name(), "s.n.svc");
        let full = json!({"namespace": "n", "name": "s", "path": "/a/b", "port": 8443});
        assert_eq!(of_service(&full).1, "https://s.n.svc:8443/a/b");
    }

    #[test]
    fn urls_are_https() {
        let (destination, url) = of_url("https://[::1]:8443/x").unwrap();
        assert_eq!(destination.authority(), "[::1]:8443");
        assert_eq!(url, "https://[::1]:8443/x");
        assert_eq!(
            of_url("https://example.com").unwrap().1,
            "https://example.com/"
        );
        let (destination, _) = of_url("https://example.com/x").unwrap();
        assert_eq!(destination.authority(), "example.com:443");
        assert!(of_url("http://example.com").is_err());
        assert!(of_url("").is_err());
    }

    #[test]
    fn what_failed_is_told_as_kubernetes_does() {
        let failure = br#"{"kind": "Status", "status": "Failure", "message": "no room"}"#;
        let other = br#"{"kind": "Status", "message": "no room"}"#;
        for (code, body, text) in [
            (500, &failure[..], "no room"),
            (404, &failure[..], "no room"),
            (
                404,
                &other[..],
                "the server could not find the requested resource",
            ),
            (403, b"not you\n", "not you"),
            (403, b"", "unknown"),
            (
                502,
                b"bad gateway",
                "an error on the server (\"bad gateway\") has prevented the request from succeeding",
            ),
            (
                302,
                b"",
                "the server responded with the status code 302 but did not return more information",
            ),
        ] {
            assert_eq!(unexpected(code, body), text);
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let chunks = futures::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 20]))
        });
        let refused = read(&HeaderMap::new(), Body::from_stream(chunks)).await;
        assert!(refused.unwrap_err().contains("larger than"));
        let mut declared = HeaderMap::new();
        declared.insert(header::CONTENT_LENGTH, "99999999".parse().unwrap());
        assert!(read(&declared, Body::empty()).await.is_err());
    }
}

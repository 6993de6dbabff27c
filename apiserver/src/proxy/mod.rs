//! Passes a request on to a backend and its answer back, streaming both: pods, Services and nodes by their `proxy`
//! subresource. Servers of other API versions (`aggregation`) share what is said of headers and tunnels.
//!
//! A connection serves one request and ends with it, or when nothing moves on it for hours. Redirects go to the client.
//! An upgrade becomes a tunnel only where the backend agreed to one: a backend that answered otherwise and was still
//! given the client's bytes would be a way around authorization.

pub(crate) mod headers;
mod html;
mod idle;
mod links;
mod page_body;
pub(crate) mod target;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use trust::Servers;

use crate::body;
use crate::context::Context;
use crate::outgoing;
use crate::serve::PeerAddress;
use crate::status::{ApiError, ApiResult};
use crate::websocket;
use idle::Idle;
use links::Links;
use page_body::Coding;

/// A connection on which nothing moves for so long is dropped, as Kubernetes does.
const IDLE_MAX: Duration = Duration::from_secs(4 * 3_600);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// What is left of a request beside its [`Context`]: what only connections need.
pub(crate) struct Arrival<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) extensions: &'a mut Extensions,
    pub(crate) body: &'a mut body::Incoming,
}

/// A connection to a backend.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where a request goes.
pub(crate) struct Passage {
    /// `host:port` of the backend.
    pub(crate) authority: String,
    /// The path at the backend, with the query.
    pub(crate) path: String,
    /// The path under which clients see the backend's root.
    pub(crate) prefix: String,
}

/// Opens a connection. Whoever runs a pod chooses its certificate, which so proves nothing and is not looked at.
pub(crate) async fn open(address: SocketAddr, https: bool) -> Result<Box<dyn Stream>, String> {
    let stream = outgoing::dial(address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    if !https {
        return Ok(Box::new(stream));
    }
    let tls = trust::client_config(Servers::Anyone, None)?;
    let tls = TlsConnector::from(Arc::new(tls));
    let name = ServerName::from(address.ip());
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(format!("tls: {error}")),
        Err(_) => Err("net/http: TLS handshake timeout".to_owned()),
    }
}

/// The path of a request up to its subresource, which is its so manieth segment, and what follows. Both are still encoded.
pub(crate) fn split(path: &str, segments: usize) -> (&str, &str) {
    let mut end = 0;
    for _ in 0..segments {
        let rest = &path[end..];
        let start = end + rest.find(|letter| letter != '/').unwrap_or(rest.len());
        end = path[start..].find('/').map_or(path.len(), |at| start + at);
    }
    path.split_at(end)
}

/// A path from the root, without detours.
pub(crate) fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if path.ends_with('/') && !clean.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// Where a page without a path has to be asked for, so that its relative links lead below it. None for other requests.
pub(crate) fn to_root(context: &Context, arrival: &Arrival<'_>, rest: &str) -> Option<Response> {
    let is_page = matches!(*arrival.method, Method::GET | Method::HEAD);
    if !rest.is_empty() || !is_page || headers::is_upgrade(&context.headers) {
        return None;
    }
    let query = arrival.uri.query().map(|query| format!("?{query}"));
    let target = format!("{}/{}", arrival.uri.path(), query.unwrap_or_default());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(&target).ok()?;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

/// Sends the request over a connection and gives its answer to the client.
pub(crate) async fn pass(
    context: &Context,
    arrival: Arrival<'_>,
    passage: Passage,
    connection: impl Future<Output = Result<Box<dyn Stream>, String>>,
) -> ApiResult<Response> {
    let is_upgrade = headers::is_upgrade(&context.headers);
    let client = arrival.extensions.remove::<OnUpgrade>();
    if is_upgrade && client.is_none() {
        let text = "this connection cannot be upgraded; use HTTP/1.1";
        return Err(ApiError::bad_request(text));
    }
    let failed = |error: String| match is_upgrade {
        true => ApiError::unknown(format!("error dialing backend: {error}")),
        false => ApiError::unreachable(format!("error trying to reach service: {error}")),
    };
    let asked = asked_host(&context.headers, arrival.uri);
    let request = request(context, arrival, &passage, asked.clone(), is_upgrade)?;
    let stream = connection.await.map_err(failed)?;
    let answer = send(context, stream, request).await.map_err(failed)?;
    let links = Links {
        prefix: passage.prefix,
        backend: passage.authority,
        asked: asked
            .and_then(|host| host.to_str().ok().map(str::to_owned))
            .unwrap_or_default(),
    };
    match (answer.status(), client.filter(|_| is_upgrade)) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(client)) => Ok(tunnel(context, client, answer)),
        (status, Some(_)) if !(status.is_client_error() || status.is_server_error()) => {
            let code = status.as_u16();
            let text = format!("invalid upgrade response: status code {code}");
            Err(ApiError::unknown(text))
        }
        (StatusCode::SWITCHING_PROTOCOLS, None) => {
            Err(failed("the backend switched protocols unasked".to_owned()))
        }
        _ => Ok(relayed(answer.map(Body::new), links)),
    }
}

/// The name under which the client asked this server.
pub(crate) fn asked_host(headers: &HeaderMap, uri: &Uri) -> Option<HeaderValue> {
    let named = headers.get(header::HOST).cloned();
    named.or_else(|| HeaderValue::from_str(uri.authority()?.as_str()).ok())
}

/// Who sent a request; unknown within the process.
pub(crate) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<PeerAddress>()?;
    Some(peer.0.ip())
}

fn request(
    context: &Context,
    arrival: Arrival<'_>,
    passage: &Passage,
    asked: Option<HeaderValue>,
    upgrade: bool,
) -> ApiResult<Request<Body>> {
    let way = headers::Way {
        peer: peer(arrival.extensions),
        host: asked.clone(),
        path: arrival.uri.path(),
        upgrade,
    };
    let mut headers = headers::of_request(&context.headers, &way);
    let backend = || HeaderValue::from_str(&passage.authority);
    let host = asked.map_or_else(backend, Ok).map_err(ApiError::internal)?;
    headers.insert(header::HOST, host);
    let mut request = Request::new(arrival.body.take());
    *request.method_mut() = arrival.method.clone();
    let uri = passage.path.parse::<Uri>();
    *request.uri_mut() = uri.map_err(|error| ApiError::bad_request(error.to_string()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// One request on a connection of its own, which ends with the body of the answer or with its tunnel.
async fn send(
    context: &Context,
    stream: Box<dyn Stream>,
    request: Request<Body>,
) -> Result<Response<hyper::body::Incoming>, String> {
    let stream = TokioIo::new(Idle::new(stream, IDLE_MAX));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(stream)
        .await
        .map_err(|error| error.to_string())?;
    let stopping = context.server.stopping.clone();
    host::spawn(async move {
        tokio::select! {
            biased;
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a proxied connection broke");
            },
            () = stopping.cancelled() => {}
        }
    });
    let answer = sender.send_request(request).await;
    answer.map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    })
}

/// The backend's answer, with its links as the client has to follow them.
fn relayed(answer: Response<Body>, links: Links) -> Response {
    let (mut parts, body) = answer.into_parts();
    headers::of_answer(&mut parts.headers, false);
    parts.version = http::Version::HTTP_11;
    let text = |name: header::HeaderName| {
        let value = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let location = text(header::LOCATION);
    if !location.is_empty() {
        let new = links.rewrite(&location);
        if let Some(new) = new.and_then(|new| HeaderValue::from_str(&new).ok()) {
            parts.headers.insert(header::LOCATION, new);
        }
        return Response::from_parts(parts, body);
    }
    let content_type = text(header::CONTENT_TYPE);
    let is_page = content_type.split(';').next().unwrap_or_default().trim() == "text/html";
    let is_empty = http_body::Body::is_end_stream(&body);
    match Coding::of(&text(header::CONTENT_ENCODING)) {
        Some(coding) if is_page && !is_empty => {
            parts.headers.remove(header::CONTENT_LENGTH);
            let body = page_body::rewritten(body, coding, links);
            Response::from_parts(parts, body)
        }
        _ => Response::from_parts(parts, body),
    }
}

/// Agrees to the upgrade as the backend did, and carries bytes until one side ends.
pub(crate) fn tunnel(
    context: &Context,
    client: OnUpgrade,
    answer: Response<hyper::body::Incoming>,
) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    headers::of_answer(response.headers_mut(), true);
    let stopping = context.server.stopping.clone();
    // Ends with either side, with the server, or when nothing moves any more.
    host::spawn(async move {
        let carry = async {
            let client = client.await?;
            let backend = hyper::upgrade::on(answer).await?;
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            websocket::copy_until_idle(&mut client, &mut backend)
                .await
                .map_err(Box::<dyn std::error::Error + Send + Sync>::from)
        };
        tokio::select! {
            biased;
            outcome = carry => if let Err(error) = outcome {
                tracing::debug!(%error, "a tunnel to a backend broke");
            },
            () = stopping.cancelled() => {}
        }
    });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_at_the_backend_follows_the_subresource() {
        for (path, prefix, rest) in [
            ("/api/v1/nodes/n/proxy", "/api/v1/nodes/n/proxy", ""),
            ("/api/v1/nodes/n/proxy/", "/api/v1/nodes/n/proxy", "/"),
            (
                "//api/v1//nodes/n/proxy//a%2Fb",
                "//api/v1//nodes/n/proxy",
                "//a%2Fb",
            ),
            ("/api/v1/nodes", "/api/v1/nodes", ""),
        ] {
            assert_eq!(split(path, 5), (prefix, rest));
        }
        for (path, wanted) in [
            ("", "/"),
            ("/", "/"),
            ("//a%2Fb", "/a%2Fb"),
            ("/a/../../b/./c/", "/b/c/"),
            ("/a/..", "/"),
        ] {
            assert_eq!(clean(path), wanted);
        }
    }

    fn answer(pairs: &[(&'static str, &str)], body: &'static str) -> Response {
        let mut answer = Response::new(Body::from(body));
        for (name, value) in pairs {
            answer.headers_mut().insert(*name, value.parse().unwrap());
        }
        let links = Links {
            prefix: "/p".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            asked: "api".to_owned(),
        };
        relayed(answer, links)
    }

    #[tokio::test]
    async fn redirects_and_pages_lead_through_the_proxy() {
        let moved = answer(&[("location", "http://10.0.0.1:80/x")], "");
        assert_eq!(moved.headers()["location"], "/p/x");
        let away = answer(&[("location", "https://example.com/x")], "");
        assert_eq!(away.headers()["location"], "https://example.com/x");
        let read = async |response: Response| {
            let length = response.headers().contains_key("content-length");
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            (String::from_utf8(bytes.unwrap().to_vec()).unwrap(), length)
        };
        let link = "<a href='/x'>";
        let html = ("content-type", "text/html; charset=utf-8");
        let length = ("content-length", "13");
        let page = read(answer(&[html, length], link)).await;
        assert_eq!(page, ("<a href='/p/x'>".to_owned(), false));
        for other in [("content-type", "text/plain"), ("content-encoding", "br")] {
            let page = read(answer(&[html, other, length], link)).await;
            assert_eq!(page, (link.to_owned(), true), "{other:?}");
        }
    }
}

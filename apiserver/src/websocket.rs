//! Bridges a client's WebSocket to a node agent's: the handshake is passed on unchanged, the bytes after it untouched,
//! so every subprotocol that both ends know (`v4`/`v5.channel.k8s.io`) works without being known here.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::context::Context;
use crate::kubelet::{Kubelets, NodeAddress};
use crate::status::{ApiError, ApiResult};

/// Headers of the handshake that both ends must see alike.
const HANDSHAKE: &[&str] = &[
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
];
/// A protocol that carries the bearer token; it is for us and not for the node.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// A stream on which nothing moves for this long is dropped, as Kubernetes does.
const IDLE_MAX: Duration = Duration::from_secs(4 * 3_600);
const BUFFER_BYTES: usize = 32 * 1024;

pub(crate) fn is_requested(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What the client offers to speak, without the token that it may have put there.
pub(crate) fn protocols(headers: &HeaderMap) -> String {
    let texts = headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let list: Vec<&str> = texts
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|one| !one.starts_with(BEARER))
        .collect();
    list.join(", ")
}

/// Agrees to a WebSocket that ends here.
pub(crate) fn accept(
    context: &Context,
    extensions: &mut Extensions,
    protocol: Option<&str>,
) -> ApiResult<(OnUpgrade, Response)> {
    let key = context
        .headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| ApiError::bad_request("missing Sec-WebSocket-Key"))?;
    let client = extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let answer = derive_accept_key(key.as_bytes());
    for (name, value) in [
        (header::SEC_WEBSOCKET_ACCEPT, Some(answer.as_str())),
        (header::SEC_WEBSOCKET_PROTOCOL, protocol),
    ] {
        if let Some(value) = value {
            let value = HeaderValue::from_str(value).map_err(ApiError::internal)?;
            headers.insert(name, value);
        }
    }
    Ok((client, response))
}

pub(crate) async fn bridge(
    context: &Context,
    address: &NodeAddress,
    path: &str,
    extensions: &mut Extensions,
) -> ApiResult<Response> {
    let upgrade = extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?;
    let mut request = Request::get(path)
        .header(header::HOST, Kubelets::host(address))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket");
    for name in HANDSHAKE {
        if let Some(value) = context.headers.get(*name) {
            request = request.header(*name, value);
        }
    }
    let protocols = protocols(&context.headers);
    if !protocols.is_empty() {
        request = request.header("sec-websocket-protocol", protocols);
    }
    let request = request
        .body(Body::new(Empty::<Bytes>::new()))
        .map_err(ApiError::internal)?;
    let answer = context.server.kubelets.upgrade(address, request).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    for name in [
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    ] {
        if let Some(value) = answer.headers().get(name) {
            response
                .headers_mut()
                .insert(http::HeaderName::from_static(name), value.clone());
        }
    }
    let stopping = context.server.stopping.clone();
    // Ends with either side, with the server, or when nothing moves any more.
    tokio::spawn(async move {
        let copy = async {
            let client = upgrade.await?;
            let agent = hyper::upgrade::on(answer).await?;
            let (mut client, mut agent) = (TokioIo::new(client), TokioIo::new(agent));
            copy_until_idle(&mut client, &mut agent)
                .await
                .map_err(Box::<dyn std::error::Error + Send + Sync>::from)
        };
        tokio::select! {
            outcome = copy => if let Err(error) = outcome {
                tracing::debug!(%error, "a stream to a node agent broke");
            },
            () = stopping.cancelled() => {}
        }
    });
    Ok(response)
}

/// Copies both ways until one side ends or a direction stands still for [`IDLE_MAX`]. The directions do not wait for
/// each other: a command that blocks on its output reads no input, and must not keep its output from being taken.
pub(crate) async fn copy_until_idle<A, B>(a: &mut A, b: &mut B) -> std::io::Result<()>
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let moved = std::sync::Mutex::new(tokio::time::Instant::now());
    let (a_read, a_write) = tokio::io::split(a);
    let (b_read, b_write) = tokio::io::split(b);
    tokio::select! {
        // A WebSocket closes in both directions: what a side still had to say was said before its close.
        ended = copy_one_way(a_read, b_write, &moved) => ended,
        ended = copy_one_way(b_read, a_write, &moved) => ended,
        () = idle(&moved) => Ok(()),
    }
}

type Moved = std::sync::Mutex<tokio::time::Instant>;

fn last(moved: &Moved) -> std::sync::MutexGuard<'_, tokio::time::Instant> {
    moved
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn copy_one_way(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    moved: &Moved,
) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        *last(moved) = tokio::time::Instant::now();
    }
}

/// Returns when nothing has moved for [`IDLE_MAX`].
async fn idle(moved: &Moved) {
    loop {
        let until = *last(moved) + IDLE_MAX;
        if tokio::time::Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_full_direction_does_not_block_the_other() {
        let (mut client, mut near) = tokio::io::duplex(16);
        let (mut far, mut agent) = tokio::io::duplex(16);
        let bridge = tokio::spawn(async move { copy_until_idle(&mut near, &mut far).await });
        // More input than the agent's side, which reads none of it, can hold.
        let writer = tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(client_of(&mut client));
            let flood = async { write.write_all(&[1; 1 << 20]).await };
            let mut output = [0; 5];
            tokio::select! {
                _ = flood => unreachable!("nobody reads the input"),
                got = read.read_exact(&mut output) => { got.expect("the output comes through"); }
            }
            output
        });
        agent.write_all(b"hello").await.expect("the bridge reads");
        let output = tokio::time::timeout(Duration::from_secs(10), writer).await;
        assert_eq!(&output.expect("in time").expect("no panic"), b"hello");
        bridge.abort();
    }

    fn client_of(stream: &mut tokio::io::DuplexStream) -> &mut tokio::io::DuplexStream {
        stream
    }
}

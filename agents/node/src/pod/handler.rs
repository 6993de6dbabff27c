//! Running what a probe or a lifecycle hook names: a command in the container, an HTTP request, a TCP connection, a gRPC
//! health check, a pause.
//!
//! The texts of failures are those of a kubelet, which are in turn those of Go's network library, since users search
//! for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trust::Servers;

use crate::runtime::{Runtime, exec_sync};
use crate::spec::{Container, GrpcHandler, Handler, HttpHandler};

/// Where a handler finds its container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) container_id: String,
    /// Address of the pod.
    pub(crate) ip: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure(String),
    /// The handler could not be run at all.
    Unknown(String),
}

const BODY_BYTES_MAX: usize = 10 * 1024;
const REDIRECTS_MAX: usize = 10;

/// Runs a lifecycle hook with a deadline: a probe, but that any answer over HTTP will do, as for a kubelet.
pub(crate) async fn run_hook(
    runtime: &dyn Runtime,
    handler: &Handler,
    container: &Container,
    target: &Target,
    timeout: Duration,
) -> Outcome {
    match &handler.http_get {
        Some(request) if handler.exec.is_none() => {
            let answer = http(request, container, target, timeout).await;
            answer.map_or_else(|outcome| outcome, |_| Outcome::Success)
        }
        _ => run_probe(runtime, handler, container, target, timeout).await,
    }
}

/// Runs one handler with a deadline.
pub(crate) async fn run_probe(
    runtime: &dyn Runtime,
    handler: &Handler,
    container: &Container,
    target: &Target,
    timeout: Duration,
) -> Outcome {
    if let Some(exec) = &handler.exec {
        return match exec_sync(runtime, &target.container_id, &exec.command, timeout).await {
            Ok(Some((0, _))) => Outcome::Success,
            Ok(Some((_, output))) => {
                Outcome::Failure(String::from_utf8_lossy(&output).trim_end().to_owned())
            }
            Ok(None) => Outcome::Failure(format!(
                "command {:?} timed out after {}s",
                exec.command.join(" "),
                timeout.as_secs()
            )),
            Err(error) => Outcome::Unknown(error.to_string()),
        };
    }
    if let Some(request) = &handler.http_get {
        return match http(request, container, target, timeout).await {
            Ok(200..=399) => Outcome::Success,
            Ok(status) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
            Err(outcome) => outcome,
        };
    }
    if let Some(tcp) = &handler.tcp_socket {
        let host = if tcp.host.is_empty() {
            &target.ip
        } else {
            &tcp.host
        };
        let Some(port) = tcp.port.resolve(container) else {
            return Outcome::Unknown(format!("couldn't find port: {:?}", tcp.port));
        };
        return match connect(host, port, timeout).await {
            Ok(_) => Outcome::Success,
            Err(text) => Outcome::Failure(text),
        };
    }
    if let Some(grpc) = &handler.grpc {
        return match tokio::time::timeout(timeout, grpc_health(grpc, target, timeout)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failure(format!(
                "timeout: health rpc did not complete within {}s",
                timeout.as_secs()
            )),
        };
    }
    if let Some(sleep) = &handler.sleep {
        let pause = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(pause.min(timeout)).await;
        return Outcome::Success;
    }
    Outcome::Unknown("missing probe handler".to_owned())
}

async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let address = authority(host, port);
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {address}: {}", dial_error(&error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

fn dial_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn http(
    request: &HttpHandler,
    container: &Container,
    target: &Target,
    timeout: Duration,
) -> Result<u16, Outcome> {
    let port = request
        .port
        .resolve(container)
        .ok_or_else(|| Outcome::Unknown(format!("couldn't find port: {:?}", request.port)))?;
    let host = if request.host.is_empty() {
        target.ip.clone()
    } else {
        request.host.clone()
    };
    let secure = request.scheme.eq_ignore_ascii_case("https");
    let scheme = if secure { "https" } else { "http" };
    let mut path = request.path.clone();
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let deadline = tokio::time::Instant::now() + timeout;
    for _ in 0..=REDIRECTS_MAX {
        let url = format!("{scheme}://{}{path}", authority(&host, port));
        let attempt = http_once(&host, port, secure, &path, request, timeout);
        let (status, location, body) = match tokio::time::timeout_at(deadline, attempt).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(text)) => return Err(Outcome::Failure(format!("Get {url:?}: {text}"))),
            Err(_) => {
                return Err(Outcome::Failure(format!(
                    "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                )));
            }
        };
        match (status, location) {
            // A redirect that stays on this server is followed; one that leaves it counts as an answer.
            (300..=399, Some(location))
                if location.starts_with('/') && !location.starts_with("//") =>
            {
                path = location
            }
            _ => {
                if status >= 400 {
                    tracing::debug!(%url, status, body = %String::from_utf8_lossy(&body), "an HTTP handler failed");
                }
                return Ok(status);
            }
        }
    }
    Err(Outcome::Failure(format!(
        "Get {path:?}: stopped after {REDIRECTS_MAX} redirects"
    )))
}

async fn http_once(
    host: &str,
    port: u16,
    secure: bool,
    path: &str,
    handler: &HttpHandler,
    timeout: Duration,
) -> Result<(u16, Option<String>, Bytes), String> {
    let stream = connect(host, port, timeout).await?;
    let mut request = http::Request::get(path);
    let named = |name: &str| {
        handler
            .http_headers
            .iter()
            .any(|header| header.name.eq_ignore_ascii_case(name))
    };
    if !named("host") {
        request = request.header("host", authority(host, port));
    }
    if !named("user-agent") {
        request = request.header("user-agent", "kube-probe/1.36");
    }
    if !named("accept") {
        request = request.header("accept", "*/*");
    }
    request = request.header("connection", "close");
    for header in &handler.http_headers {
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    let request = request
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    if secure {
        let name = rustls_pki_types::ServerName::try_from(host.to_owned())
            .map_err(|error| error.to_string())?;
        let stream = unverified_tls()?
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Full<Bytes>>,
) -> Result<(u16, Option<String>, Bytes), String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    let converse = async move {
        let response = sender.send_request(request).await.map_err(|error| {
            match error.is_incomplete_message() {
                true => "EOF".to_owned(),
                false => error.to_string(),
            }
        })?;
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let mut body = BytesMut::new();
        let mut frames = response.into_body();
        while let Some(Ok(frame)) = frames.frame().await {
            if let Ok(data) = frame.into_data() {
                let room = BODY_BYTES_MAX.saturating_sub(body.len());
                body.extend_from_slice(&data[..data.len().min(room)]);
            }
            if body.len() >= BODY_BYTES_MAX {
                break;
            }
        }
        Ok((status, location, body.freeze()))
    };
    tokio::pin!(connection);
    tokio::pin!(converse);
    tokio::select! {
        biased;
        answer = &mut converse => answer,
        closed = &mut connection => match closed {
            Ok(()) => converse.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Asks the standard health service. The two messages are small enough to be written by hand.
async fn grpc_health(grpc: &GrpcHandler, target: &Target, timeout: Duration) -> Outcome {
    let service = grpc.service.clone().unwrap_or_default();
    let stream = match connect(&target.ip, grpc.port, timeout).await {
        Ok(stream) => stream,
        Err(text) => return Outcome::Failure(format!("error: failed to connect service: {text}")),
    };
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = match builder.handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => {
            return Outcome::Failure(format!("error: failed to connect service: {error}"));
        }
    };
    let converse = async {
        let request = http::Request::post(format!(
            "http://{}/grpc.health.v1.Health/Check",
            authority(&target.ip, grpc.port)
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(health_request(&service)))
        .map_err(|error| error.to_string())?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let code = |headers: &http::HeaderMap| {
            headers
                .get("grpc-status")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let early = code(response.headers());
        let collected = response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let status = early
            .or_else(|| collected.trailers().and_then(code))
            .unwrap_or_else(|| "0".to_owned());
        Ok::<_, String>((status, collected.to_bytes()))
    };
    tokio::pin!(connection);
    tokio::pin!(converse);
    let answer = tokio::select! {
        biased;
        answer = &mut converse => answer,
        closed = &mut connection => match closed {
            Ok(()) => converse.await,
            Err(error) => Err(error.to_string()),
        },
    };
    match answer {
        Err(text) => Outcome::Failure(format!("error: health rpc failed: {text}")),
        Ok((status, _)) if status == "12" => {
            Outcome::Failure("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into())
        }
        Ok((status, _)) if status != "0" => Outcome::Failure(format!("error: health rpc failed with code {status}")),
        Ok((_, body)) => match serving_status(&body) {
            1 => Outcome::Success,
            other => Outcome::Failure(format!(
                "service unhealthy (responded with {:?})",
                match other {
                    0 => "UNKNOWN",
                    2 => "NOT_SERVING",
                    3 => "SERVICE_UNKNOWN",
                    _ => "invalid",
                }
            )),
        },
    }
}

/// A gRPC frame with `HealthCheckRequest { service }`.
fn health_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// Field 1 of a `HealthCheckResponse` in a gRPC frame; absent means 0.
fn serving_status(frame: &[u8]) -> u8 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    }
}

/// Probes do not verify certificates: they ask whether a server answers, not who it is.
fn unverified_tls() -> Result<TlsConnector, String> {
    let config = trust::client_config(Servers::Anyone, None)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests;

//! Port-forward: pairs of streams, each pair one connection to a port of the pod.
//!
//! For every connection the client opens an `error` and a `data` stream with the same `requestid` and `port`.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::frame::reset;
use crate::session::{self, Limits, Stream, StreamReader, StreamWriter};

/// Connections at once; each has two streams.
const CONNECTIONS_MAX: usize = 256;
/// As long as the kubelet waits for the second stream of a pair, and we for the port to answer.
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 32 * 1024;
/// For what a port has said before it stopped to listen.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Half a pair, since when.
struct Waiting {
    stream: Stream,
    is_data: bool,
    since: Instant,
}

/// Serves a port-forward session over an upgraded connection until the client ends it; `connect` opens a
/// connection to a port of the pod. Its errors, and those of the connection, are told to the client in their own words.
pub async fn serve_portforward<IO, C, F, T>(io: IO, connect: C) -> Result<(), session::Error>
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
    C: Fn(u16) -> F,
    F: Future<Output = std::io::Result<T>>,
    T: AsyncRead + AsyncWrite,
{
    let (mut session, driver) = session::server(
        io,
        Limits {
            streams_max: 2 * CONNECTIONS_MAX,
            ..Limits::default()
        },
    );
    let serve = async {
        let mut waiting: HashMap<String, Waiting> = HashMap::new();
        let mut connections = FuturesUnordered::new();
        loop {
            let oldest = waiting.values().map(|half| half.since).min();
            tokio::select! {
                accepted = session.accept() => {
                    let Some(stream) = accepted else { return };
                    if let Some((port, data, error)) = pair(&mut waiting, stream).await {
                        connections.push(forward(port, data, error, &connect));
                    }
                }
                Some(()) = connections.next() => {}
                () = sleep_until(oldest.unwrap_or_else(Instant::now) + PAIR_TIMEOUT), if oldest.is_some() => {
                    let late: Vec<String> = waiting.iter().filter(|(_, half)| half.since.elapsed() >= PAIR_TIMEOUT).map(|(id, _)| id.clone()).collect();
                    for id in late {
                        if let Some(half) = waiting.remove(&id) {
                            half.stream.refuse().await;
                        }
                    }
                }
            }
        }
    };
    let (driven, ()) = tokio::join!(driver, serve);
    driven
}

/// Keeps a first half; completes a second one to `(port, data, error)`.
async fn pair(
    waiting: &mut HashMap<String, Waiting>,
    stream: Stream,
) -> Option<(u16, Stream, Stream)> {
    let port = stream
        .headers
        .get("port")
        .and_then(|port| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    let is_data = match stream.headers.get("streamtype") {
        Some("data") => true,
        Some("error") => false,
        _ => {
            stream.refuse().await;
            return None;
        }
    };
    let (Some(port), Some(id)) = (port, stream.headers.get("requestid").map(str::to_owned)) else {
        stream.refuse().await;
        return None;
    };
    match waiting.remove(&id) {
        Some(other) if other.is_data != is_data => {
            let (data, error) = if is_data {
                (stream, other.stream)
            } else {
                (other.stream, stream)
            };
            Some((port, data, error))
        }
        Some(same) => {
            waiting.insert(id, same);
            stream.refuse().await;
            None
        }
        None => {
            waiting.insert(
                id,
                Waiting {
                    stream,
                    is_data,
                    since: Instant::now(),
                },
            );
            None
        }
    }
}

async fn forward<F, T>(port: u16, data: Stream, error: Stream, connect: &impl Fn(u16) -> F)
where
    F: Future<Output = std::io::Result<T>>,
    T: AsyncRead + AsyncWrite,
{
    // What fails below is that the session closed; then there is nobody to tell.
    let outcome = match timeout(PAIR_TIMEOUT, connect(port)).await {
        Ok(Ok(target)) => copy(data.reader, &data.writer, target).await,
        Ok(Err(cause)) => {
            let _ = data.writer.reset(reset::CANCEL).await;
            Err(cause.to_string())
        }
        Err(_) => {
            let _ = data.writer.reset(reset::CANCEL).await;
            Err(format!(
                "error forwarding port {port}: the port did not answer in time"
            ))
        }
    };
    if let Err(cause) = outcome {
        let _ = error.writer.write(Bytes::from(cause)).await;
    }
    let _ = error.writer.finish().await;
}

/// Copies both ways until both have ended, or one has failed.
async fn copy<T: AsyncRead + AsyncWrite>(
    mut reader: StreamReader,
    writer: &StreamWriter,
    target: T,
) -> Result<(), String> {
    let (mut from_target, mut to_target) = tokio::io::split(target);
    let inward = async {
        while let Some(bytes) = reader.read().await {
            let written = async {
                to_target.write_all(&bytes).await?;
                to_target.flush().await
            };
            if let Err(error) = written.await {
                // Whoever left may have said why, which is better to know than that it left.
                tokio::time::sleep(LAST_WORDS).await;
                return Err(error.to_string());
            }
        }
        if reader.was_reset() {
            // The client wants no more in either direction.
            return Err(String::new());
        }
        to_target
            .shutdown()
            .await
            .map_err(|error| error.to_string())
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ_BYTES);
            let count = from_target
                .read_buf(&mut buffer)
                .await
                .map_err(|error| error.to_string())?;
            if count == 0 {
                break;
            }
            writer
                .write(buffer.split().freeze())
                .await
                .map_err(|_| String::new())?;
        }
        writer.finish().await.map_err(|_| String::new())
    };
    match tokio::try_join!(inward, outward) {
        Ok(_) => Ok(()),
        // Nothing to tell: the client reset the stream or left.
        Err(cause) if cause.is_empty() => Ok(()),
        Err(cause) => {
            // Fails only when the session is closed.
            let _ = writer.reset(reset::CANCEL).await;
            Err(cause)
        }
    }
}

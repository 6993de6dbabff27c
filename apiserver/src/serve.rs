//! The listener: hyper over rustls, with a bound on everything a client can do slowly or often.
//!
//! `axum::serve` is not used: it gives hyper no timer, so that hyper's header timeout never fires.

mod activity;
mod impatient;
mod together;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus::{IntCounter, register_int_counter};
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::client_certificate::PeerCertificate;
use crate::front::Front;
pub(crate) use activity::MayRest;
use activity::{Activity, Bounds, Verdict};
use impatient::Impatient;
use together::{Sending, together};

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Of one address; more are closed at once, so that nobody alone takes all.
    pub connections_per_address_max: usize,
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its headers, and from the handshake to the first request.
    pub header_timeout: Duration,
    pub header_bytes_max: usize,
    /// A connection without a request, as in Kubernetes.
    pub idle_timeout: Duration,
    /// A client that takes nothing of an answer; the answer is given up, and the connection where nothing at all can be
    /// written. Logs, exec and their like may rest.
    pub stall_timeout: Duration,
    /// Requests at once on one HTTP/2 connection, as in Kubernetes.
    pub streams_max: u32,
    /// Streams that a client opened and reset before they were looked at.
    pub resets_max: usize,
    /// Bytes of a request body that HTTP/2 takes before the server asks for them, for a stream and for a connection.
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
    /// Bytes of an answer that HTTP/2 keeps for a stream.
    pub send_buffer_bytes: usize,
    pub keep_alive_every: Duration,
    pub keep_alive_timeout: Duration,
    /// How long open requests may go on after shutdown began.
    pub drain_timeout: Duration,
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits {
            connections_max: 10_000,
            connections_per_address_max: 5_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            header_bytes_max: 1 << 20,
            idle_timeout: Duration::from_secs(90),
            stall_timeout: Duration::from_secs(60),
            streams_max: 250,
            resets_max: 64,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 1 << 20,
            send_buffer_bytes: 256 << 10,
            keep_alive_every: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Who sent a request: the other end of its connection. A request extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// How many connections each address has.
#[derive(Default)]
struct Addresses(Mutex<BTreeMap<IpAddr, usize>>);

/// One of them, until it is dropped.
struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn count(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self
            .addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Serves `front` until `shutdown`, then drains; new connections with the newest of `tls`. It may ask for a client
/// certificate but must not
/// require one: see [`crate::ask_client_certificate`].
pub async fn serve_tls(
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    front: Front,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    LazyLock::force(&HANDSHAKE_ERRORS);
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let addresses = Arc::new(Addresses::default());
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: ended connections give them back.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let address = peer.ip().to_canonical();
        let Some(counted) = addresses.count(address, limits.connections_per_address_max) else {
            tracing::debug!(%peer, "closed: its address has too many connections");
            continue;
        };
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        // One of its own: it is asked whenever something happens on the connection, and all would meet at one lock.
        let (front, stop) = (front.clone(), shutdown.child_token());
        connections.spawn(async move {
            let handshake = tokio::select! {
                handshake = tokio::time::timeout(limits.handshake_timeout, handshake(&acceptor, stream)) => handshake,
                () = stop.cancelled() => return,
            };
            match handshake {
                Ok(Ok(stream)) => serve_connection(stream, peer, front, &limits, stop).await,
                Ok(Err(error)) => {
                    HANDSHAKE_ERRORS.inc();
                    tracing::debug!(%error, %peer, "TLS handshake failed");
                }
                Err(_) => {
                    HANDSHAKE_ERRORS.inc();
                    tracing::debug!(%peer, "TLS handshake timed out");
                }
            }
            drop((slot, counted));
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain_timeout, drained)
        .await
        .is_err()
    {
        tracing::info!("some requests were still open when the time to drain was over");
    }
    connections.shutdown().await;
}

/// In the process's registry: listeners know no server.
static HANDSHAKE_ERRORS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "apiserver_tls_handshake_errors_total",
        "Connections whose TLS handshake did not come about."
    )
    .expect("each name is registered once in a process")
});

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;
/// Of hyper's connections.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> std::io::Result<TlsStream> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}

/// How requests are read.
fn protocol(limits: &ServeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.resets_max)
        .max_send_buf_size(limits.send_buffer_bytes)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .keep_alive_interval(limits.keep_alive_every)
        .keep_alive_timeout(limits.keep_alive_timeout);
    builder
}

async fn serve_connection(
    stream: TlsStream,
    peer: SocketAddr,
    front: Front,
    limits: &ServeLimits,
    shutdown: CancellationToken,
) {
    let certificate = stream.get_ref().1.peer_certificates().map(|chain| {
        let chain = chain.iter().map(|one| one.clone().into_owned());
        PeerCertificate::new(chain.collect::<Vec<_>>())
    });
    let resting = Arc::new(AtomicUsize::new(0));
    let activity = Arc::new(Activity::new(resting.clone()));
    let own = activity.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let (front, activity) = (front.clone(), own.clone());
        let open = activity.begin();
        async move {
            let response = front.oneshot(request.map(Body::new)).await?;
            Ok::<_, Infallible>(activity.answer(open, response))
        }
    });
    // HTTP/1.1 gives its stream away where a connection becomes another one.
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Impatient::new(stream, limits.stall_timeout, resting);
    let (stream, mut sending) = together(stream, is_h2.then(|| activity.clone()));
    let builder = protocol(limits);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let bounds = Bounds {
        first: limits.header_timeout,
        idle: limits.idle_timeout,
        stall: limits.stall_timeout,
    };
    let mut leaving = false;
    let mut look = Instant::now() + bounds.first;
    loop {
        tokio::select! {
            biased;
            outcome = poll_fn(|context| driven(connection.as_mut(), &mut sending, context)) => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, %peer, "connection ended");
                }
                return;
            }
            () = shutdown.cancelled(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(look) => match activity.judge(look, &bounds) {
                // The other side was told, and did not go.
                Verdict::Idle if leaving => return,
                Verdict::Idle => {
                    leaving = true;
                    look = Instant::now() + limits.keep_alive_timeout;
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::Until(next) => look = next,
            }
        }
    }
}

/// Asks a connection to go on, and sends what it says.
fn driven<S: AsyncWrite + Unpin>(
    connection: Pin<&mut impl Future<Output = Result<(), BoxError>>>,
    sending: &mut Sending<S>,
    context: &mut Context<'_>,
) -> Poll<Result<(), BoxError>> {
    if let Poll::Ready(outcome) = connection.poll(context) {
        sending.end(context);
        return Poll::Ready(outcome);
    }
    match sending.poll(context) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_and_forgotten() {
        let addresses = Arc::new(Addresses::default());
        let one: IpAddr = [192, 0, 2, 1].into();
        let other: IpAddr = [192, 0, 2, 2].into();
        let held = [addresses.count(one, 2), addresses.count(one, 2)];
        assert!(held.iter().all(Option::is_some));
        assert!(addresses.count(one, 2).is_none());
        assert!(addresses.count(other, 2).is_some());
        drop(held);
        assert!(addresses.0.lock().unwrap().is_empty());
    }
}

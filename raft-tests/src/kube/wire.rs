//! The network between clients of the API and the members: each request is a connection of its own, which takes time,
//! stands still while its link is cut, and breaks when the member's process is gone.
//!
//! What a member does for a request it does as a task of its machine, in its time: a member that is paused does not
//! answer, and one whose client has gone drops what it was doing, as hyper does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apiserver::{ApiServer, Body};
use auth::User;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use host::Host;
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// One way, at least.
const LATENCY_MIN: Duration = Duration::from_micros(100);
const LATENCY_MAX: Duration = Duration::from_micros(1500);
/// Pieces of an answer on their way.
const WINDOW: usize = 4;

/// Why there is no answer, or no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nobody listens: the request was not served.
    Refused,
    /// The connection broke: whether it was served nobody knows.
    Lost,
}

/// Why there is no event, or no more of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoEvent {
    /// The connection broke, perhaps in the middle of one.
    Broken,
    /// What came whole is no JSON, or the answer came to its end in the middle of an event. In words, what came.
    Garbled(String),
}

/// A member that serves the API.
#[derive(Clone)]
struct Serving {
    host: Arc<Host>,
    api: Arc<ApiServer>,
    gone: CancellationToken,
}

/// See the module head.
pub struct Wire {
    servers: Mutex<BTreeMap<u64, Serving>>,
    links: Mutex<Links>,
    healed: Notify,
}

struct Links {
    rng: SmallRng,
    cuts: BTreeSet<(u32, u64)>,
    latency_max: Duration,
}

impl Wire {
    pub fn new(seed: u64) -> Wire {
        Wire {
            servers: Mutex::default(),
            links: Mutex::new(Links {
                rng: SmallRng::seed_from_u64(seed),
                cuts: BTreeSet::new(),
                latency_max: LATENCY_MAX,
            }),
            healed: Notify::new(),
        }
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<u64, Serving>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member listens from now on, until its process is gone.
    pub fn listen(
        &self,
        member: u64,
        host: Arc<Host>,
        api: Arc<ApiServer>,
        gone: CancellationToken,
    ) {
        self.servers().insert(member, Serving { host, api, gone });
    }

    /// A process listens no more; the one that came after it does.
    pub fn close(&self, member: u64, host: &Arc<Host>) {
        let mut servers = self.servers();
        let own = |server: &Serving| Arc::ptr_eq(&server.host, host);
        if servers.get(&member).is_some_and(own) {
            servers.remove(&member);
        }
    }

    /// Members that listen and are ready to serve.
    pub fn ready(&self) -> Vec<u64> {
        let servers = self.servers();
        let ready = servers.iter().filter(|(_, server)| server.api.is_ready());
        ready.map(|(member, _)| *member).collect()
    }

    /// Nothing goes between a client and a member any more.
    pub fn cut(&self, client: u32, member: u64) {
        self.links().cuts.insert((client, member));
    }

    pub fn heal(&self, client: u32, member: u64) {
        self.links().cuts.remove(&(client, member));
        self.healed.notify_waiters();
    }

    pub fn heal_all(&self) {
        let mut links = self.links();
        links.cuts.clear();
        links.latency_max = LATENCY_MAX;
        drop(links);
        self.healed.notify_waiters();
    }

    /// How long anything takes at most from now on, one way.
    pub fn set_latency(&self, max: Option<Duration>) {
        self.links().latency_max = max.unwrap_or(LATENCY_MAX).max(2 * LATENCY_MIN);
    }

    /// The way between a client and a member, in either direction.
    async fn cross(&self, client: u32, member: u64) {
        loop {
            let healed = self.healed.notified();
            let (open, takes) = {
                let mut links = self.links();
                let most = links.latency_max;
                let takes = links.rng.random_range(LATENCY_MIN..most);
                (!links.cuts.contains(&(client, member)), takes)
            };
            if !open {
                healed.await;
            }
            tokio::time::sleep(takes).await;
            if open {
                return;
            }
        }
    }

    /// Sends a request as `user`, and waits for the beginning of its answer. Whoever asks has a deadline.
    ///
    /// # Errors
    /// See [`Broken`].
    pub async fn send(
        self: &Arc<Self>,
        client: u32,
        member: u64,
        user: Option<User>,
        request: Request<Bytes>,
    ) -> Result<Answer, Broken> {
        self.cross(client, member).await;
        let server = self.servers().get(&member).cloned();
        let server = server.ok_or(Broken::Refused)?;
        let (begins, begun) = oneshot::channel();
        let (pieces, arriving) = mpsc::channel(WINDOW);
        let mut request = request.map(Body::from);
        if let Some(user) = user {
            request.extensions_mut().insert(user);
        }
        let serving = serve(server.api.clone(), request, begins, pieces);
        tokio::spawn(server.host.run(serving));
        let head = tokio::select! {
            biased;
            () = server.gone.cancelled() => return Err(Broken::Lost),
            head = begun => head.map_err(|_| Broken::Lost)?,
        };
        self.cross(client, member).await;
        let pieces = Arriving {
            wire: self.clone(),
            link: (client, member),
            gone: server.gone,
            arriving,
        };
        Ok(Answer::new(head, pieces))
    }
}

/// How requests of clients come to members, here or over real connections.
pub trait Road: Send + Sync + 'static {
    /// Members that may be asked.
    fn ready(&self) -> Vec<u64>;
    /// Sends a request as `user`, and waits for the beginning of its answer; see [`Wire::send`].
    fn send(
        &self,
        client: u32,
        member: u64,
        user: Option<User>,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Answer, Broken>>;
}

impl Road for Arc<Wire> {
    fn ready(&self) -> Vec<u64> {
        Wire::ready(self)
    }

    fn send(
        &self,
        client: u32,
        member: u64,
        user: Option<User>,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Answer, Broken>> {
        Box::pin(Wire::send(self, client, member, user, request))
    }
}

/// An answer that has begun.
pub struct Answer {
    pub status: StatusCode,
    pieces: Box<dyn Pieces>,
    /// What has come of a body that is read by lines.
    text: BytesMut,
}

/// The body of an answer, as it comes.
pub trait Pieces: Send {
    /// The next one; none at its end.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, Broken>>>;
}

struct Arriving {
    wire: Arc<Wire>,
    link: (u32, u64),
    gone: CancellationToken,
    arriving: mpsc::Receiver<Result<Bytes, Broken>>,
}

impl Pieces for Arriving {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, Broken>>> {
        Box::pin(async {
            let piece = tokio::select! {
                biased;
                () = self.gone.cancelled() => return Some(Err(Broken::Lost)),
                piece = self.arriving.recv() => piece,
            };
            self.wire.cross(self.link.0, self.link.1).await;
            piece
        })
    }
}

impl Answer {
    pub fn new(status: StatusCode, pieces: impl Pieces + 'static) -> Answer {
        let pieces = Box::new(pieces);
        Answer {
            status,
            pieces,
            text: BytesMut::new(),
        }
    }

    /// The next event of a watch; none at its end. Who stops to wait loses nothing.
    ///
    /// # Errors
    /// See [`NoEvent`].
    pub async fn event(&mut self) -> Result<Option<Value>, NoEvent> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line = self.text.split_to(end + 1);
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|_| garbled(&line));
            }
            match self.pieces.next().await {
                // A server that ends a watch by itself does so between events.
                None if !self.text.is_empty() => return Err(garbled(&self.text)),
                None => return Ok(None),
                Some(Ok(piece)) => self.text.extend_from_slice(&piece),
                Some(Err(_)) => return Err(NoEvent::Broken),
            }
        }
    }

    /// All of the body.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn whole(&mut self) -> Result<Vec<u8>, Broken> {
        let mut whole = Vec::new();
        while let Some(piece) = self.pieces.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole)
    }
}

/// Characters that are told of what is no event.
const TOLD: usize = 200;

fn garbled(text: &[u8]) -> NoEvent {
    let text = String::from_utf8_lossy(text);
    NoEvent::Garbled(text.trim_end().chars().take(TOLD).collect())
}

/// What a member does for a request, on its own machine.
async fn serve(
    api: Arc<ApiServer>,
    request: Request<Body>,
    mut begins: oneshot::Sender<StatusCode>,
    pieces: mpsc::Sender<Result<Bytes, Broken>>,
) {
    let answered = tokio::select! {
        biased;
        () = begins.closed() => return,
        answered = api.front().oneshot(request) => answered,
    };
    let response = match answered {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (head, mut body) = response.into_parts();
    if begins.send(head.status).is_err() {
        return;
    }
    loop {
        let frame = tokio::select! {
            biased;
            () = pieces.closed() => return,
            frame = body.frame() => frame,
        };
        let piece = match frame {
            None => return,
            Some(Err(_)) => Err(Broken::Lost),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => Ok(bytes),
                Err(_) => continue,
            },
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

/// The parts of a request that a client sets.
pub fn request(method: http::Method, path: &str, body: Option<(&str, Vec<u8>)>) -> Request<Bytes> {
    let mut builder = Request::builder().method(method).uri(path);
    let bytes = match body {
        Some((content_type, bytes)) => {
            builder = builder.header(http::header::CONTENT_TYPE, content_type);
            Bytes::from(bytes)
        }
        None => Bytes::new(),
    };
    builder.body(bytes).expect("paths of this crate are paths")
}

/// The same for a service of the agents' client, whose bodies are whole.
pub fn of_parts(parts: Parts, body: Bytes) -> Request<Bytes> {
    Request::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body in pieces, and how it ends.
    struct Given(std::vec::IntoIter<Result<&'static str, Broken>>);

    impl Pieces for Given {
        fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, Broken>>> {
            let next = self.0.next();
            let piece = next.map(|piece| piece.map(|text| Bytes::from_static(text.as_bytes())));
            Box::pin(std::future::ready(piece))
        }
    }

    /// How many events come, and what comes after them.
    async fn heard(pieces: Vec<Result<&'static str, Broken>>) -> (usize, Result<(), NoEvent>) {
        let mut answer = Answer::new(StatusCode::OK, Given(pieces.into_iter()));
        let mut count = 0;
        loop {
            match answer.event().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => return (count, Ok(())),
                Err(error) => return (count, Err(error)),
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_json_is_not_a_connection_that_broke() {
        let garbled = |text: &str| Err(NoEvent::Garbled(text.into()));
        assert_eq!(
            heard(vec![Ok("{\"a\":"), Ok("1}\n{}\n")]).await,
            (2, Ok(()))
        );
        let broken = vec![Ok("{}\n{\"a\":"), Err(Broken::Lost)];
        assert_eq!(heard(broken).await, (1, Err(NoEvent::Broken)));
        let wrong = vec![Ok("{}\n{\"a\":\n{}\n"), Err(Broken::Lost)];
        assert_eq!(heard(wrong).await, (1, garbled("{\"a\":")));
        assert_eq!(heard(vec![Ok("{}\n{\"a\"")]).await, (1, garbled("{\"a\"")));
    }
}

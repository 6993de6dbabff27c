//! The network between members, in memory: streams of bytes that take time, stand still while their link is cut, and
//! break when an end is gone.
//!
//! It carries what TCP carries, so nothing is lost or exchanged within a stream: a cut holds bytes back, and after it
//! they arrive a while later, as retransmissions do. What loss looks like to a program, a broken connection, is a fault
//! of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::env::{BoxFuture, ByteStream, Listener, Network, Voucher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep};

/// Bytes in one direction of a stream that wait to be read, at most.
const WINDOW: usize = 256 << 10;
/// One way, at least.
const LATENCY_MIN: Duration = Duration::from_micros(100);
const LATENCY_MAX: Duration = Duration::from_micros(1500);
/// After a cut, until what it held back is sent again.
const RESENT_AFTER: Duration = Duration::from_millis(250);

/// Who looks at the members does so after so many deliveries.
const LOOK_EVERY: u64 = 8;
/// Connections that wait to be accepted; more are refused, as a kernel does it.
const ACCEPT_MAX: usize = 64;

/// See the module head. Clones are the same network.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Inner>>);

struct Inner {
    rng: SmallRng,
    cuts: BTreeSet<(u64, u64)>,
    latency_max: Duration,
    /// Links on which messages take longer than that.
    slow: BTreeMap<(u64, u64), Duration>,
    listeners: BTreeMap<u64, Listening>,
    /// By the number of the connection.
    pipes: BTreeMap<(u64, bool), Pipe>,
    connections: u64,
    /// Told when a link is healed or a member listens.
    changed: Arc<Notify>,
    /// Machines without power answer nothing at all.
    dark: BTreeSet<u64>,
    trace: DefaultHasher,
    delivered: u64,
    /// Told now and then when something was delivered.
    moved: Arc<Notify>,
    dials: u64,
}

struct Listening {
    life: u64,
    incoming: mpsc::Sender<(Stream, String)>,
}

/// One direction of a connection.
struct Pipe {
    from: u64,
    to: u64,
    /// With the time at which they arrive.
    chunks: VecDeque<(Instant, Chunk)>,
    waiting: usize,
    /// Nothing arrives before.
    not_before: Instant,
    reader: Option<Waker>,
    writer: Option<Waker>,
    reader_gone: bool,
    writer_gone: bool,
}

enum Chunk {
    Bytes(Bytes),
    /// No more will come.
    End,
    /// The connection is broken.
    Reset,
}

/// The address of a member.
pub fn address(member: u64) -> String {
    format!("m{member}:6480")
}

struct Members;

impl Voucher for Members {
    fn member_at(&self, address: &str) -> Option<u64> {
        address.strip_prefix('m')?.split(':').next()?.parse().ok()
    }
}

impl Net {
    pub fn new(seed: u64) -> Net {
        Net(Arc::new(Mutex::new(Inner {
            rng: SmallRng::seed_from_u64(seed),
            cuts: BTreeSet::new(),
            latency_max: LATENCY_MAX,
            slow: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pipes: BTreeMap::new(),
            connections: 0,
            changed: Arc::default(),
            dark: BTreeSet::new(),
            trace: DefaultHasher::new(),
            delivered: 0,
            moved: Arc::default(),
            dials: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network as the next process of a member has it.
    pub fn of(&self, member: u64, life: u64) -> Arc<dyn Network> {
        let mut inner = self.lock();
        if inner.dark.remove(&member) {
            // Its system knows nothing of the connections of before.
            inner.break_all(member);
        }
        drop(inner);
        Arc::new(Port {
            net: self.clone(),
            member,
            life,
        })
    }

    /// Nothing goes from one member to another any more.
    pub fn cut(&self, from: u64, to: u64) {
        self.lock().cuts.insert((from, to));
    }

    pub fn heal(&self, from: u64, to: u64) {
        let mut inner = self.lock();
        if inner.cuts.remove(&(from, to)) {
            inner.resend(|pipe| (pipe.from, pipe.to) == (from, to));
        }
    }

    pub fn heal_all(&self) {
        let mut inner = self.lock();
        inner.latency_max = LATENCY_MAX;
        inner.slow.clear();
        let cuts = std::mem::take(&mut inner.cuts);
        inner.resend(|pipe| cuts.contains(&(pipe.from, pipe.to)));
    }

    /// How long a message takes at most from now on.
    pub fn set_latency(&self, max: Option<Duration>) {
        self.lock().latency_max = max.unwrap_or(LATENCY_MAX).max(2 * LATENCY_MIN);
    }

    /// The same for what goes from one member to another.
    pub fn set_latency_of(&self, from: u64, to: u64, max: Option<Duration>) {
        let mut inner = self.lock();
        match max {
            Some(max) => inner.slow.insert((from, to), max.max(2 * LATENCY_MIN)),
            None => inner.slow.remove(&(from, to)),
        };
    }

    /// Breaks one connection that there is; false where there is none.
    pub fn reset_one(&self) -> bool {
        let mut inner = self.lock();
        let open = |pipe: &Pipe| !pipe.reader_gone && !pipe.writer_gone;
        let open = inner.pipes.iter().filter(|(_, pipe)| open(pipe));
        let ids: Vec<u64> = open.map(|((id, _), _)| *id).collect();
        if ids.is_empty() {
            return false;
        }
        let id = ids[inner.rng.random_range(0..ids.len())];
        inner.break_connection(id);
        true
    }

    /// The process of a member is gone: its system breaks what it had open.
    pub fn process_gone(&self, member: u64) {
        let mut inner = self.lock();
        inner.listeners.remove(&member);
        inner.break_all(member);
    }

    /// The machine of a member is gone, and with it whoever could say so.
    pub fn power_gone(&self, member: u64) {
        let mut inner = self.lock();
        inner.listeners.remove(&member);
        inner.dark.insert(member);
    }

    /// Ends when something was delivered, now and then.
    pub async fn moved(&self) {
        let moved = self.lock().moved.clone();
        moved.notified().await;
    }

    /// How often anybody has wanted a connection.
    pub fn dials(&self) -> u64 {
        self.lock().dials
    }

    /// A number that depends on every delivery so far, and how many there were.
    pub fn trace(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.trace.finish(), inner.delivered)
    }
}

impl Inner {
    fn latency(&mut self, from: u64, to: u64) -> Duration {
        let slow = self.slow.get(&(from, to)).copied();
        let max = self.latency_max.max(slow.unwrap_or_default());
        self.rng.random_range(LATENCY_MIN..max)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cuts.contains(&(from, to)) || self.dark.contains(&from) || self.dark.contains(&to)
    }

    fn resend(&mut self, healed: impl Fn(&Pipe) -> bool) {
        let now = Instant::now();
        let mut wakers = Vec::new();
        for pipe in self.pipes.values_mut().filter(|pipe| healed(pipe)) {
            pipe.not_before = now + self.rng.random_range(Duration::ZERO..RESENT_AFTER);
            wakers.extend(pipe.reader.take());
        }
        wakers.into_iter().for_each(Waker::wake);
        self.changed.notify_waiters();
    }

    fn break_all(&mut self, member: u64) {
        let of_member = |pipe: &Pipe| pipe.from == member || pipe.to == member;
        let pipes = self.pipes.iter().filter(|(_, pipe)| of_member(pipe));
        let ids: BTreeSet<u64> = pipes.map(|((id, _), _)| *id).collect();
        ids.into_iter().for_each(|id| self.break_connection(id));
    }

    fn break_connection(&mut self, id: u64) {
        for forward in [false, true] {
            self.send(id, forward, Chunk::Reset);
            if let Some(pipe) = self.pipes.get_mut(&(id, forward)) {
                pipe.writer_gone = true;
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
            }
        }
    }

    /// Puts a chunk on its way.
    fn send(&mut self, id: u64, forward: bool, chunk: Chunk) {
        let Some(pipe) = self.pipes.get(&(id, forward)) else {
            return;
        };
        let arrives = Instant::now() + self.latency(pipe.from, pipe.to);
        let Some(pipe) = self.pipes.get_mut(&(id, forward)) else {
            return;
        };
        if pipe.reader_gone {
            return;
        }
        let last = pipe.chunks.back().map(|(at, _)| *at);
        pipe.chunks
            .push_back((last.map_or(arrives, |last| last.max(arrives)), chunk));
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
    }

    fn connect(&mut self, net: &Net, from: u64, to: u64) -> (Stream, Stream) {
        self.connections += 1;
        let id = self.connections;
        let now = Instant::now();
        for (forward, (from, to)) in [(true, (from, to)), (false, (to, from))] {
            let pipe = Pipe {
                from,
                to,
                chunks: VecDeque::new(),
                waiting: 0,
                not_before: now,
                reader: None,
                writer: None,
                reader_gone: false,
                writer_gone: false,
            };
            self.pipes.insert((id, forward), pipe);
        }
        let end = |writes| Stream {
            net: net.clone(),
            id,
            writes,
            sleep: None,
        };
        (end(true), end(false))
    }
}

/// The network of one process.
struct Port {
    net: Net,
    member: u64,
    life: u64,
}

impl Network for Port {
    fn dial(&self, address: String) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        self.net.lock().dials += 1;
        Box::pin(async move {
            let unknown = || io::Error::from(io::ErrorKind::NotFound);
            let to = Members.member_at(&address).ok_or_else(unknown)?;
            let from = self.member;
            loop {
                let (answers, changed, round) = {
                    let mut inner = self.net.lock();
                    let answers = !inner.is_cut(from, to) && !inner.is_cut(to, from);
                    let round = inner.latency(from, to) + inner.latency(to, from);
                    (answers, inner.changed.clone(), round)
                };
                let changed = changed.notified();
                if answers {
                    tokio::time::sleep(round).await;
                    break;
                }
                // Whoever dials has a deadline of its own.
                changed.await;
                tokio::time::sleep(round).await;
            }
            let mut inner = self.net.lock();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listening = inner.listeners.get(&to).ok_or_else(refused)?;
            let incoming = listening.incoming.clone();
            let (near, far) = inner.connect(&self.net, from, to);
            drop(inner);
            let sent = incoming.try_send((far, format!("m{from}:0")));
            sent.map_err(|_| refused())?;
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }

    fn listen(&self, _: String) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let (incoming, connections) = mpsc::channel(ACCEPT_MAX);
        let life = self.life;
        let mut inner = self.net.lock();
        inner
            .listeners
            .insert(self.member, Listening { life, incoming });
        inner.changed.notify_waiters();
        drop(inner);
        let listener = Accepting {
            net: self.net.clone(),
            member: self.member,
            life,
            connections,
        };
        Box::pin(std::future::ready(Ok(
            Box::new(listener) as Box<dyn Listener>
        )))
    }

    fn voucher(&self) -> Option<Arc<dyn Voucher>> {
        Some(Arc::new(Members))
    }
}

struct Accepting {
    net: Net,
    member: u64,
    life: u64,
    connections: mpsc::Receiver<(Stream, String)>,
}

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>> {
        Box::pin(async move {
            match self.connections.recv().await {
                Some((stream, address)) => Ok((Box::new(stream) as Box<dyn ByteStream>, address)),
                None => std::future::pending().await,
            }
        })
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        let mut inner = self.net.lock();
        let mine = inner.listeners.get(&self.member);
        if mine.is_some_and(|listening| listening.life == self.life) {
            inner.listeners.remove(&self.member);
        }
    }
}

/// One end of a connection.
pub struct Stream {
    net: Net,
    id: u64,
    /// Which of the two pipes it writes to.
    writes: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.id)
    }
}

enum Next {
    Now,
    At(Instant),
    Waiting,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.read_now(context, buffer) {
                Ok(Next::Now) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Next::Waiting) => return Poll::Pending,
                Ok(Next::At(at)) => {
                    let sleep = self
                        .sleep
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    if sleep.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Stream {
    fn read_now(&self, context: &Context<'_>, buffer: &mut ReadBuf<'_>) -> io::Result<Next> {
        let inner = &mut *self.net.lock();
        let reads = (self.id, !self.writes);
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        let (from, to) = {
            let pipe = inner.pipes.get(&reads).ok_or_else(reset)?;
            (pipe.from, pipe.to)
        };
        let cut = inner.is_cut(from, to);
        let pipe = inner.pipes.get_mut(&reads).ok_or_else(reset)?;
        pipe.reader = Some(context.waker().clone());
        let Some((arrives, chunk)) = pipe.chunks.front_mut() else {
            return Ok(Next::Waiting);
        };
        if cut {
            return Ok(Next::Waiting);
        }
        let arrives = (*arrives).max(pipe.not_before);
        if arrives > Instant::now() {
            return Ok(Next::At(arrives));
        }
        match chunk {
            Chunk::End => Ok(Next::Now),
            Chunk::Reset => Err(reset()),
            Chunk::Bytes(bytes) => {
                let count = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..count]);
                bytes.advance(count);
                if bytes.is_empty() {
                    pipe.chunks.pop_front();
                }
                pipe.waiting -= count;
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
                inner.delivered += 1;
                if inner.delivered.is_multiple_of(LOOK_EVERY) {
                    inner.moved.notify_one();
                }
                (self.id, self.writes, count).hash(&mut inner.trace);
                Ok(Next::Now)
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.net.lock();
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let Some(pipe) = inner.pipes.get_mut(&(self.id, self.writes)) else {
            return Poll::Ready(Err(broken()));
        };
        if pipe.writer_gone || pipe.reader_gone {
            return Poll::Ready(Err(broken()));
        }
        let room = WINDOW.saturating_sub(pipe.waiting);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        pipe.waiting += count;
        let chunk = Chunk::Bytes(Bytes::copy_from_slice(&bytes[..count]));
        inner.send(self.id, self.writes, chunk);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.lock().send(self.id, self.writes, Chunk::End);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let inner = &mut *self.net.lock();
        inner.send(self.id, self.writes, Chunk::End);
        let (writes, reads) = ((self.id, self.writes), (self.id, !self.writes));
        if let Some(pipe) = inner.pipes.get_mut(&writes) {
            pipe.writer_gone = true;
        }
        let mut waker = None;
        if let Some(pipe) = inner.pipes.get_mut(&reads) {
            pipe.reader_gone = true;
            pipe.chunks.clear();
            waker = pipe.writer.take();
        }
        let gone = |pipe: Option<&Pipe>| pipe.is_none_or(|pipe| pipe.reader_gone);
        if gone(inner.pipes.get(&writes)) {
            inner.pipes.remove(&writes);
            inner.pipes.remove(&reads);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

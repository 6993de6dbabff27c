//! The async shell: a connection over a byte stream, with its streams as channels.
//!
//! One future drives everything: it reads, writes, and moves data between the connection and the streams. The
//! caller polls it next to the work on the session; when the session is dropped, the driver says goodbye and ends.
//! Nothing here grows without bound: while a reader is slow, nothing more is read from the peer; while the peer is
//! slow, nothing more is taken from the writers.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{Connection, Event, Role};
use crate::frame::{self, goaway, reset};
use crate::headers::Headers;

/// Messages that wait in a stream for its reader.
const MAILBOX: usize = 8;
/// Messages of all writers that wait for the driver.
const OUTGOING: usize = 16;
/// Beyond this much unsent output the writers, and answers to the peer, have to wait.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
const READ_BYTES: usize = 32 * 1024;
/// How long saying goodbye may take: sending what is left, and again until the peer has closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The bounds of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that the peer may have open at once.
    pub streams_max: usize,
    /// A session on which no byte moves for so long is ended.
    pub idle: Duration,
}

impl Default for Limits {
    /// The kubelet's default for idle connections is four hours; kubectl pings every few seconds.
    fn default() -> Self {
        Limits {
            streams_max: 64,
            idle: Duration::from_secs(4 * 3600),
        }
    }
}

/// Why a session ended before it was closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    #[error("the peer broke the protocol")]
    Protocol(#[from] frame::Error),
    #[error("the session was idle for too long")]
    Idle,
}

/// The session is over: nothing can be sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is closed")]
pub struct Closed;

/// The server's end of a session. Dropping it closes the session gracefully.
pub struct Session {
    accepted: mpsc::Receiver<Stream>,
    _close: oneshot::Sender<()>,
}

impl Session {
    /// The next stream that the peer opened; `None` when the session is over.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }
}

/// A stream, split by direction.
pub struct Stream {
    pub headers: Headers,
    pub reader: StreamReader,
    pub writer: StreamWriter,
}

pub struct StreamReader {
    id: u32,
    mailbox: mpsc::Receiver<Bytes>,
    control: mpsc::Sender<Control>,
    reset: Arc<AtomicBool>,
}

impl StreamReader {
    /// The next data; `None` once the peer finished or reset the stream, or the session is over.
    pub async fn read(&mut self) -> Option<Bytes> {
        let bytes = self.mailbox.recv().await?;
        // A closed session needs no window.
        let _ = self
            .control
            .send(Control::Consumed {
                id: self.id,
                count: bytes.len(),
            })
            .await;
        Some(bytes)
    }

    /// True when the peer reset the stream rather than finished it.
    pub fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }
}

/// Sends on a stream. Nothing is sent when it is dropped: finish or reset it.
pub struct StreamWriter {
    id: u32,
    outgoing: mpsc::Sender<Outgoing>,
    control: mpsc::Sender<Control>,
}

impl StreamWriter {
    /// Sends data; waits while the peer is slow. Data on a stream that the peer reset is dropped.
    pub async fn write(&self, bytes: Bytes) -> Result<(), Closed> {
        self.outgoing
            .send(Outgoing::Data { id: self.id, bytes })
            .await
            .map_err(|_| Closed)
    }

    /// Says that no more will come, after all that was written.
    pub async fn finish(&self) -> Result<(), Closed> {
        self.outgoing
            .send(Outgoing::Finish { id: self.id })
            .await
            .map_err(|_| Closed)
    }

    /// Ends the stream in both directions, at once.
    pub async fn reset(&self, status: u32) -> Result<(), Closed> {
        self.control
            .send(Control::Reset {
                id: self.id,
                status,
            })
            .await
            .map_err(|_| Closed)
    }
}

#[derive(Debug)]
enum Outgoing {
    Data { id: u32, bytes: Bytes },
    Finish { id: u32 },
}

#[derive(Debug)]
enum Control {
    Consumed { id: u32, count: usize },
    Reset { id: u32, status: u32 },
}

/// The server's side of a session over `io`, and the future that drives it.
pub fn server<IO>(
    io: IO,
    limits: Limits,
) -> (Session, impl Future<Output = Result<(), Error>> + Send)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (accept, accepted) = mpsc::channel(MAILBOX);
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING);
    let (control, control_receiver) = mpsc::channel(OUTGOING);
    let (close, closed) = oneshot::channel();
    let (reader, writer) = tokio::io::split(io);
    let driver = Driver {
        connection: Connection::new(Role::Server, limits.streams_max),
        reader,
        writer,
        accept,
        streams: Streams {
            mailboxes: HashMap::new(),
            outgoing,
            control,
        },
        undelivered: VecDeque::new(),
        outgoing: outgoing_receiver,
        control: control_receiver,
        unflushed: false,
    };
    (
        Session {
            accepted,
            _close: close,
        },
        driver.run(closed, limits.idle),
    )
}

/// What the driver keeps for each open stream, and what it gives to new ones.
struct Streams {
    mailboxes: HashMap<u32, (mpsc::Sender<Bytes>, Arc<AtomicBool>)>,
    outgoing: mpsc::Sender<Outgoing>,
    control: mpsc::Sender<Control>,
}

impl Streams {
    fn open(&mut self, id: u32, headers: Headers) -> Stream {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let reset = Arc::new(AtomicBool::new(false));
        self.mailboxes.insert(id, (sender, reset.clone()));
        let (outgoing, control) = (self.outgoing.clone(), self.control.clone());
        Stream {
            headers,
            reader: StreamReader {
                id,
                mailbox,
                control: control.clone(),
                reset,
            },
            writer: StreamWriter {
                id,
                outgoing,
                control,
            },
        }
    }
}

/// What waits for room in a channel.
enum Delivery {
    Stream(Stream),
    Data { id: u32, bytes: Bytes },
}

struct Driver<IO> {
    connection: Connection,
    reader: ReadHalf<IO>,
    writer: WriteHalf<IO>,
    accept: mpsc::Sender<Stream>,
    streams: Streams,
    undelivered: VecDeque<Event>,
    outgoing: mpsc::Receiver<Outgoing>,
    control: mpsc::Receiver<Control>,
    unflushed: bool,
}

impl<IO: AsyncRead + AsyncWrite> Driver<IO> {
    async fn run(mut self, closed: oneshot::Receiver<()>, idle: Duration) -> Result<(), Error> {
        let result = self.serve(closed, idle).await;
        match result {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.close().await;
                Ok(())
            }
            Err(error) => {
                // A GOAWAY may be waiting to be sent.
                self.close().await;
                Err(error)
            }
        }
    }

    /// Runs until the peer is gone (true) or the session was dropped (false).
    async fn serve(
        &mut self,
        mut closed: oneshot::Receiver<()>,
        idle: Duration,
    ) -> Result<bool, Error> {
        let mut buffer = vec![0; READ_BYTES];
        let mut last_progress = Instant::now();
        let mut waiting: Option<Delivery> = None;
        let (mut closing, mut drained) = (false, false);
        loop {
            waiting = self.deliver(waiting);
            let unsent = self.connection.output().len();
            // What was written before the session was dropped is sent, however slow the peer is.
            if drained && unsent == 0 && self.connection.pending_bytes() == 0 && !self.unflushed {
                return Ok(false);
            }
            let may_read = waiting.is_none() && unsent < OUTPUT_BYTES_MAX;
            let may_take = unsent + self.connection.pending_bytes() < OUTPUT_BYTES_MAX;
            tokio::select! {
                read = self.reader.read(&mut buffer), if may_read => {
                    let count = read?;
                    if count == 0 {
                        return Ok(true);
                    }
                    last_progress = Instant::now();
                    let received = self.connection.receive(&buffer[..count]);
                    self.undelivered.extend(std::iter::from_fn(|| self.connection.next_event()));
                    received?;
                }
                written = write_or_flush(&mut self.writer, self.connection.output()), if unsent > 0 || self.unflushed => {
                    let count = written?;
                    if count > 0 {
                        last_progress = Instant::now();
                        self.connection.output().advance(count);
                    }
                    self.unflushed = count > 0;
                }
                () = room_for(&waiting, &self.accept, &self.streams.mailboxes), if waiting.is_some() => {}
                message = self.outgoing.recv(), if may_take && !drained => match message {
                    Some(message) => send(&mut self.connection, message),
                    None => drained = true,
                },
                Some(message) = self.control.recv() => self.apply(message),
                _ = &mut closed, if !closing => {
                    closing = true;
                    self.outgoing.close();
                }
                () = sleep_until(last_progress + idle) => return Err(Error::Idle),
            }
        }
    }

    /// Hands over what there is room for; gives back the first that has to wait.
    fn deliver(&mut self, mut waiting: Option<Delivery>) -> Option<Delivery> {
        loop {
            let delivery = match waiting.take() {
                Some(delivery) => delivery,
                None => match self.undelivered.pop_front()? {
                    Event::Opened { id, headers } => {
                        Delivery::Stream(self.streams.open(id, headers))
                    }
                    Event::Data { id, bytes } => Delivery::Data { id, bytes },
                    Event::Finished { id } => {
                        self.streams.mailboxes.remove(&id);
                        continue;
                    }
                    Event::Reset { id, .. } => {
                        if let Some((_, reset)) = self.streams.mailboxes.remove(&id) {
                            reset.store(true, Ordering::Release);
                        }
                        continue;
                    }
                    Event::Replied { .. } | Event::GoAway => continue,
                },
            };
            // A channel whose receiver was dropped takes everything: nobody wants it.
            waiting = match delivery {
                Delivery::Stream(stream) => match self.accept.try_send(stream) {
                    Err(mpsc::error::TrySendError::Full(stream)) => Some(Delivery::Stream(stream)),
                    _ => None,
                },
                Delivery::Data { id, bytes } => match self
                    .streams
                    .mailboxes
                    .get(&id)
                    .map(|(mailbox, _)| mailbox.try_send(bytes))
                {
                    Some(Err(mpsc::error::TrySendError::Full(bytes))) => {
                        Some(Delivery::Data { id, bytes })
                    }
                    _ => None,
                },
            };
            if waiting.is_some() {
                return waiting;
            }
        }
    }

    fn apply(&mut self, message: Control) {
        match message {
            Control::Consumed { id, count } => self.connection.consumed(id, count),
            Control::Reset { id, status } => {
                self.connection.reset(id, status);
                self.streams.mailboxes.remove(&id);
            }
        }
    }

    /// Sends a GOAWAY and waits a little for the peer to close: closing a socket with unread input would make the
    /// kernel discard what the peer has not read yet.
    async fn close(&mut self) {
        self.streams.mailboxes.clear();
        self.connection.go_away(goaway::OK);
        let output = self.connection.output().split();
        let say_goodbye = async {
            self.writer.write_all(&output).await?;
            self.writer.flush().await?;
            self.writer.shutdown().await
        };
        if !matches!(timeout(CLOSE_TIMEOUT, say_goodbye).await, Ok(Ok(()))) {
            return;
        }
        let mut discarded = [0; 1024];
        let drain = async {
            while matches!(self.reader.read(&mut discarded).await, Ok(count) if count > 0) {}
        };
        // The peer may keep its half open for ever; then the connection is simply dropped.
        let _ = timeout(CLOSE_TIMEOUT, drain).await;
    }
}

fn send(connection: &mut Connection, message: Outgoing) {
    match message {
        Outgoing::Data { id, bytes } => connection.send(id, bytes),
        Outgoing::Finish { id } => connection.finish(id),
    }
}

/// Writes some of the output; flushes, and answers 0, when there is none.
async fn write_or_flush<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &[u8],
) -> std::io::Result<usize> {
    if output.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(output).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Waits until the channel of a delivery has room, or nobody who would take it.
async fn room_for(
    waiting: &Option<Delivery>,
    accept: &mpsc::Sender<Stream>,
    mailboxes: &HashMap<u32, (mpsc::Sender<Bytes>, Arc<AtomicBool>)>,
) {
    // Only the driver sends into these channels, so that the room is still there when the permit is dropped.
    match waiting {
        Some(Delivery::Stream(_)) => drop(accept.reserve().await),
        Some(Delivery::Data { id, .. }) => {
            if let Some((mailbox, _)) = mailboxes.get(id) {
                drop(mailbox.reserve().await);
            }
        }
        None => {}
    }
}

impl Stream {
    /// Refuses a stream that nobody expected.
    pub async fn refuse(self) {
        // A closed session has refused it already.
        let _ = self.writer.reset(reset::REFUSED_STREAM).await;
    }
}

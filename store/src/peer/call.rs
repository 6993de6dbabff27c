//! Calls to one member over one connection that is kept: many under way, answers in any order.
//!
//! For a write it matters whether a failed call can have had an effect, so each call knows whether it was handed to
//! the connection: before that it surely was not carried out and may be repeated elsewhere, after it nobody knows.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::host;
use crate::peer::codec;
use crate::peer::transport::Transport;
use crate::peer::wire::{
    ANSWER_BYTES_MAX, Answer, Call, Connection, FrameReader, Lane, Request, Response,
};
use crate::turns::others_first;

/// Calls waiting to be sent.
const QUEUE: usize = 1024;
/// Calls sent and not answered.
const UNDER_WAY: usize = 8192;
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// A connection with calls under way and no answer for so many times this long is given up.
const WATCH: Duration = Duration::from_secs(1);
const WATCH_LIMIT: u32 = 8;
/// Turns that all others have before calls are written, at most, and so many calls are worth a write: see
/// [`crate::hand_over`], at the other end.
const ROUNDS: usize = 3;
const BATCH: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not carried out.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The connection broke after it was sent.
    #[error("connection lost: {0}")]
    Broken(String),
    /// Sent, and not answered in time.
    #[error("no answer in time")]
    TimedOut,
}

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const ABANDONED: u8 = 2;

struct Outgoing {
    request: Request,
    stage: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<Response, CallError>>,
}

/// See the module head. The connection's task ends with the transport.
#[derive(Clone)]
pub struct Caller {
    queue: mpsc::Sender<Outgoing>,
}

impl Caller {
    pub fn start(transport: &Arc<Transport>, to: u64, lane: Lane) -> Caller {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let stop = transport.stop.clone();
        let weak = Arc::downgrade(transport);
        transport.tasks.spawn(host::here(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = keep_connected(weak, to, lane, outgoing) => {}
            }
        }));
        Caller { queue }
    }

    pub async fn call(&self, request: Request, deadline: Duration) -> Result<Response, CallError> {
        let stage = Arc::new(AtomicU8::new(QUEUED));
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing {
            request,
            stage: stage.clone(),
            reply,
        };
        match self.queue.try_send(outgoing) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(CallError::NotSent("too many calls wait".into()));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(CallError::NotSent("stopping".into()));
            }
        }
        match timeout(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Broken("stopping".into())),
            Err(_) => {
                match stage.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
                {
                    Ok(_) => Err(CallError::NotSent("no connection in time".into())),
                    Err(_) => Err(CallError::TimedOut),
                }
            }
        }
    }
}

type Pending = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Response, CallError>>>>>;

/// Connects when there is something to say, and again after it broke, with a growing pause while it fails.
async fn keep_connected(
    transport: Weak<Transport>,
    to: u64,
    lane: Lane,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let mut pause = BACKOFF_MIN;
    let mut not_before = Instant::now();
    while let Some(first) = outgoing.recv().await {
        if Instant::now() < not_before {
            fail(first, "the last attempt to connect has just failed");
            continue;
        }
        let Some(strong) = transport.upgrade() else {
            return;
        };
        let dialled = strong.dial(to, lane).await;
        let sign_of_life = strong.sign_of_life();
        drop(strong);
        match dialled {
            Ok(connection) => {
                pause = BACKOFF_MIN;
                let error = converse(connection, first, &mut outgoing, sign_of_life).await;
                tracing::debug!(peer = %format!("{to:016x}"), ?lane, %error, "connection closed");
            }
            Err(error) => {
                tracing::debug!(peer = %format!("{to:016x}"), ?lane, %error, "cannot connect");
                fail(first, &error.to_string());
                while let Ok(waiting) = outgoing.try_recv() {
                    fail(waiting, &error.to_string());
                }
                not_before = Instant::now() + pause;
                pause = (pause * 2).min(BACKOFF_MAX);
            }
        }
    }
}

fn fail(outgoing: Outgoing, why: &str) {
    // The caller may be gone.
    drop(outgoing.reply.send(Err(CallError::NotSent(why.into()))));
}

async fn converse(
    connection: Connection,
    first: Outgoing,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    sign_of_life: Duration,
) -> io::Error {
    let Connection { reader, mut writer } = connection;
    let pending = Pending::default();
    let answered = Arc::new(AtomicU64::new(0));
    let mut answers = AbortOnDropHandle::new(host::spawn(take_answers(
        reader,
        pending.clone(),
        answered.clone(),
    )));
    let mut next_id = 0;
    let mut next = Some(first);
    let mut watch = Watch {
        answered,
        last: 0,
        still: 0,
    };
    let mut ticks = tokio::time::interval(WATCH);
    let mut signs = tokio::time::interval(sign_of_life);
    let mut unsent = Unsent::default();
    let error = loop {
        let call = match next.take() {
            Some(call) => call,
            None => match outgoing.try_recv() {
                Ok(call) => call,
                Err(mpsc::error::TryRecvError::Disconnected) => break io::Error::other("stopping"),
                Err(mpsc::error::TryRecvError::Empty) => {
                    // Calls that are made at the same time are one write, one read at the other end, and one batch of the log.
                    if unsent.may_grow() && has_others(&pending) {
                        unsent.begin_round();
                        others_first().await;
                        continue;
                    }
                    if let Err(error) = writer.flush().await {
                        break error;
                    }
                    unsent = Unsent::default();
                    tokio::select! {
                        biased;
                        ended = &mut answers => break ended.unwrap_or_else(io::Error::other),
                        _ = signs.tick() => {
                            if let Err(error) = writer.alive().await {
                                break error;
                            }
                            continue;
                        }
                        _ = ticks.tick() => {
                            if watch.is_dead(&pending) {
                                break io::Error::new(io::ErrorKind::TimedOut, "no answers");
                            }
                            continue;
                        }
                        call = outgoing.recv() => match call {
                            Some(call) => call,
                            None => break io::Error::other("stopping"),
                        },
                    }
                }
            },
        };
        if answers.is_finished() {
            next = Some(call);
            break io::Error::from(io::ErrorKind::ConnectionReset);
        }
        next_id += 1;
        unsent.calls += 1;
        if let Err(error) = send(&mut writer, &pending, next_id, call).await {
            break error;
        }
    };
    drop(answers);
    if let Some(unsent) = next {
        fail(unsent, "the connection was lost");
    }
    let unanswered = std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner));
    for (_, reply) in unanswered {
        drop(reply.send(Err(CallError::Broken(error.to_string()))));
    }
    error
}

/// Calls that are buffered for the next write.
#[derive(Default)]
struct Unsent {
    calls: usize,
    /// Turns that others, who were about to call, have had since the first of them.
    rounds: usize,
    /// How many calls there were when the last of these turns began.
    before: usize,
}

impl Unsent {
    /// Whether another round is worth while: the last one brought something, and there are not enough.
    fn may_grow(&self) -> bool {
        self.calls > self.before && self.calls < BATCH && self.rounds < ROUNDS
    }

    fn begin_round(&mut self) {
        self.rounds += 1;
        self.before = self.calls;
    }
}

/// Whether more than one call has no answer yet.
fn has_others(pending: &Pending) -> bool {
    let pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    pending.len() > 1
}

async fn send(
    writer: &mut crate::peer::wire::FrameWriter,
    pending: &Pending,
    id: u64,
    call: Outgoing,
) -> io::Result<()> {
    let Outgoing {
        request,
        stage,
        reply,
    } = call;
    if let Err(error) = writer.encode(&Call { id, request }) {
        drop(reply.send(Err(CallError::NotSent(error.to_string()))));
        return Ok(());
    }
    {
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= UNDER_WAY {
            pending.retain(|_, reply| !reply.is_closed());
        }
        if pending.len() >= UNDER_WAY {
            drop(reply.send(Err(CallError::NotSent(
                "too many calls are under way".into(),
            ))));
            return Ok(());
        }
        if stage
            .compare_exchange(QUEUED, SENT, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return Ok(());
        }
        pending.insert(id, reply);
    }
    writer.encoded().await
}

/// Finds a connection on which nothing comes back, long before TCP gives up on it.
struct Watch {
    answered: Arc<AtomicU64>,
    last: u64,
    still: u32,
}

impl Watch {
    fn is_dead(&mut self, pending: &Pending) -> bool {
        let now = self.answered.load(Ordering::Relaxed);
        let waiting = !pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        self.still = if waiting && now == self.last {
            self.still + 1
        } else {
            0
        };
        self.last = now;
        self.still > WATCH_LIMIT
    }
}

async fn take_answers(
    mut reader: FrameReader,
    pending: Pending,
    answered: Arc<AtomicU64>,
) -> io::Error {
    let mut parts = Parts::default();
    loop {
        let answer = match reader.frame().await {
            Ok(Some(frame)) => codec::decode::<Answer>(&frame),
            Ok(None) => continue,
            Err(error) => return error,
        };
        match answer {
            Ok(Answer { id, response }) => {
                answered.fetch_add(1, Ordering::Relaxed);
                let response = match parts.take(id, response) {
                    Ok(Some(response)) => response,
                    Ok(None) => continue,
                    Err(error) => return error,
                };
                let reply = pending
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&id);
                if let Some(reply) = reply {
                    drop(reply.send(Ok(response)));
                }
            }
            Err(error) => return error,
        }
    }
}

/// Large answers on their way.
#[derive(Default)]
struct Parts(BTreeMap<u64, Vec<u8>>);

impl Parts {
    /// The whole answer, when it is there.
    fn take(&mut self, id: u64, response: Response) -> io::Result<Option<Response>> {
        match response {
            Response::Part(part) => {
                let whole = self.0.entry(id).or_default();
                if whole.len() + part.len() > ANSWER_BYTES_MAX {
                    let text = "an answer is larger than was agreed";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                whole.extend_from_slice(&part);
                Ok(None)
            }
            Response::Proposed(end) => Ok(Some(Response::Proposed(match self.0.remove(&id) {
                None => end,
                Some(mut whole) => {
                    whole.extend_from_slice(&end);
                    whole.into()
                }
            }))),
            other => Ok(Some(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::peer::wire::Counted;

    #[test]
    fn parts_of_two_answers_may_come_mixed() {
        let mut parts = Parts::default();
        let part = |text: &'static str| Response::Part(text.into());
        let end = |text: &'static str| Response::Proposed(text.into());
        let none = [(1, part("a")), (2, part("x")), (1, part("b"))];
        for (id, response) in none {
            assert!(parts.take(id, response).unwrap().is_none());
        }
        for (id, last, want) in [(3, "alone", "alone"), (1, "c", "abc"), (2, "y", "xy")] {
            let whole = parts.take(id, end(last)).unwrap();
            let Some(Response::Proposed(whole)) = whole else {
                panic!("{whole:?}")
            };
            assert_eq!(whole, want.as_bytes());
        }
        assert!(parts.0.is_empty());
    }

    fn greeting() -> Outgoing {
        let (reply, _) = oneshot::channel();
        Outgoing {
            request: Request::Greet,
            stage: Arc::new(AtomicU8::new(QUEUED)),
            reply,
        }
    }

    /// The lengths of the writes to a connection on which so many calls are made, one each turn of a task.
    async fn writes_of(calls: usize) -> Vec<usize> {
        let (near, _far) = tokio::io::duplex(1 << 16);
        let (stream, writes) = Counted::new(near);
        let (queue, mut outgoing) = mpsc::channel(calls);
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move {
            let connection = Connection::new(Box::new(stream));
            converse(
                connection,
                greeting(),
                &mut outgoing,
                Duration::from_secs(60),
            )
            .await
        });
        let calling = local.spawn_local(async move {
            for _ in 1..calls {
                assert!(queue.try_send(greeting()).is_ok());
                others_first().await;
            }
            for _ in 0..10 {
                others_first().await;
            }
        });
        local.run_until(calling).await.unwrap();
        let writes = writes.lock().unwrap();
        // The first sign of life is given at once.
        writes.iter().copied().filter(|bytes| *bytes != 4).collect()
    }

    #[tokio::test]
    async fn calls_of_tasks_that_are_ready_go_together() {
        let alone = writes_of(1).await;
        assert_eq!(alone.len(), 1);
        let together = writes_of(8).await;
        assert_eq!(together.iter().sum::<usize>(), 8 * alone[0]);
        assert!(together.len() <= 4, "{together:?}");
    }

    #[test]
    fn calls_are_waited_for_while_they_come_and_are_not_enough() {
        let mut unsent = Unsent::default();
        assert!(!unsent.may_grow(), "there is none");
        for _ in 0..ROUNDS {
            unsent.calls += 1;
            assert!(unsent.may_grow());
            unsent.begin_round();
            assert!(!unsent.may_grow(), "the round has brought none");
        }
        unsent.calls += 1;
        assert!(!unsent.may_grow(), "it was long enough");
        let many = |calls| Unsent {
            calls,
            ..Unsent::default()
        };
        assert!(many(BATCH - 1).may_grow());
        assert!(!many(BATCH).may_grow());
    }

    /// The listener closes what is silent (`FrameReader::frame_from_living`).
    #[tokio::test]
    async fn an_idle_connection_gives_signs_of_life() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (queue, mut outgoing) = mpsc::channel(1);
        let (reply, _answer) = oneshot::channel();
        let first = Outgoing {
            request: Request::Greet,
            stage: Arc::new(AtomicU8::new(QUEUED)),
            reply,
        };
        let talking = async move {
            let connection = Connection::new(Box::new(near));
            converse(connection, first, &mut outgoing, Duration::from_millis(5)).await
        };
        let listening = async {
            let mut calls = 0;
            let mut signs = 0;
            while signs < 3 {
                match far.read_u32().await.unwrap() {
                    crate::peer::wire::ALIVE => signs += 1,
                    len => {
                        let mut call = vec![0; len as usize];
                        far.read_exact(&mut call).await.unwrap();
                        calls += 1;
                    }
                }
            }
            assert_eq!(calls, 1);
        };
        tokio::select! {
            error = talking => panic!("{error}"),
            () = listening => drop(queue),
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("no sign of life"),
        }
    }
}

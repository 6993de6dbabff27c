//! The audit webhook: events go in batches to somebody outside. Requests never wait for it: what does not fit into the buffer,
//! or is not taken after all attempts, is lost and counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AuditSink;
use crate::held::Held;
use crate::outgoing::{Answer, CallError, Peer};

/// Bytes of events that wait.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Bytes of the events of one call.
const BATCH_BYTES_MAX: usize = 10 << 20;
/// Calls at once; a batch more waits, and the buffer with it.
const CALLS_MAX: u32 = 8;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// As Kubernetes' clients of webhooks do.
const ATTEMPTS_MAX: u32 = 5;
const BACKOFF_FACTOR: f64 = 1.5;

/// How events are put together.
#[derive(Clone, Debug)]
pub struct AuditBatches {
    /// Events that wait; more are lost.
    pub buffer_events: usize,
    /// Events of one call.
    pub batch_events: usize,
    /// A batch that is not full is sent after so long.
    pub batch_wait: Duration,
    /// Calls per second, and how many may come at once after a pause. None for as many as there are.
    pub throttle: Option<(f64, u32)>,
    /// How long the second attempt of a call waits.
    pub initial_backoff: Duration,
}

impl Default for AuditBatches {
    /// Kubernetes' customs.
    fn default() -> AuditBatches {
        AuditBatches {
            buffer_events: 10_000,
            batch_events: 400,
            batch_wait: Duration::from_secs(30),
            throttle: Some((10.0, 15)),
            initial_backoff: Duration::from_secs(10),
        }
    }
}

/// The way in; see the module head.
pub(crate) struct AuditWebhook {
    sender: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    peer: Arc<Held<Peer>>,
    counts: Arc<Counts>,
    ended: CancellationToken,
}

#[derive(Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
}

impl AuditSink for AuditWebhook {
    fn take(&self, line: Vec<u8>) {
        let length = line.len();
        let before = self
            .counts
            .waiting_bytes
            .fetch_add(length, Ordering::AcqRel);
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match &*sender {
            Some(sender) if before + length <= WAITING_BYTES_MAX => sender.try_send(line).is_ok(),
            _ => false,
        };
        if !taken {
            self.counts
                .waiting_bytes
                .fetch_sub(length, Ordering::AcqRel);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

impl AuditWebhook {
    pub(crate) fn start(peer: Peer, batches: AuditBatches) -> Arc<AuditWebhook> {
        let (sender, receiver) = mpsc::channel(batches.buffer_events.max(1));
        let webhook = Arc::new(AuditWebhook {
            sender: Mutex::new(Some(sender)),
            peer: Arc::new(Held::new(peer)),
            counts: Arc::default(),
            ended: CancellationToken::new(),
        });
        let delivery = Delivery {
            peer: webhook.peer.clone(),
            initial_backoff: batches.initial_backoff,
            counts: webhook.counts.clone(),
        };
        let ended = webhook.ended.clone();
        host::spawn(async move {
            run(Arc::new(delivery), batches, receiver).await;
            ended.cancel();
        });
        webhook
    }

    /// What is sent from now on goes there, further attempts included.
    pub(crate) fn send_to(&self, peer: Peer) {
        self.peer.set(peer);
    }

    /// Sends what waits, and ends.
    pub(crate) async fn close(&self) {
        let sender = self.sender.lock();
        drop(sender.unwrap_or_else(PoisonError::into_inner).take());
        self.ended.cancelled().await;
    }
}

async fn run(
    delivery: Arc<Delivery>,
    batches: AuditBatches,
    mut receiver: mpsc::Receiver<Vec<u8>>,
) {
    let mut batch = Batch::default();
    let mut throttle = batches.throttle.map(|(per_second, burst)| {
        let burst = f64::from(burst.max(1));
        Throttle::new(per_second, burst, Instant::now())
    });
    let calls = Arc::new(Semaphore::new(CALLS_MAX as usize));
    let mut open = true;
    while open {
        let due = batch.since.map(|since| since + batches.batch_wait);
        let full = tokio::select! {
            biased;
            () = until(due) => batch.take(),
            line = receiver.recv() => match line {
                Some(line) => {
                    let length = line.len();
                    delivery.counts.waiting_bytes.fetch_sub(length, Ordering::AcqRel);
                    batch.add(line, batches.batch_events, Instant::now())
                }
                None => {
                    open = false;
                    batch.take()
                }
            },
        };
        let Some(full) = full else { continue };
        if let Some(throttle) = &mut throttle {
            tokio::time::sleep(throttle.turn(Instant::now())).await;
        }
        let Ok(call) = calls.clone().acquire_owned().await else {
            return;
        };
        let delivery = delivery.clone();
        host::spawn(async move {
            delivery.deliver(full).await;
            drop(call);
        });
    }
    // The end of the last call.
    let _all = calls.acquire_many(CALLS_MAX).await;
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

struct Delivery {
    peer: Arc<Held<Peer>>,
    initial_backoff: Duration,
    counts: Arc<Counts>,
}

impl Delivery {
    async fn deliver(&self, events: Vec<Vec<u8>>) {
        let count = events.len() as u64;
        let body = Bytes::from(event_list(&events));
        drop(events);
        let mut backoff = self.initial_backoff;
        for attempt in 1..=ATTEMPTS_MAX {
            let deadline = Instant::now() + CALL_TIMEOUT;
            let peer = self.peer.get();
            let answer = peer.post("", body.clone(), deadline).await;
            match fate(&answer) {
                Fate::Taken => return,
                Fate::Refused(why) => {
                    tracing::warn!(why, count, "audit events are refused by their webhook");
                    break;
                }
                Fate::Again(why) if attempt == ATTEMPTS_MAX => {
                    tracing::warn!(why, count, "audit events are lost");
                }
                Fate::Again(why) => {
                    tracing::debug!(why, attempt, "audit events are sent again later");
                    tokio::time::sleep(backoff).await;
                    backoff = backoff.mul_f64(BACKOFF_FACTOR);
                }
            }
        }
        self.counts.lost.fetch_add(count, Ordering::Relaxed);
    }
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Refused(String),
    Again(String),
}

fn fate(answer: &Result<Answer, CallError>) -> Fate {
    match answer {
        Ok(answer) if answer.status.is_success() => Fate::Taken,
        Ok(answer) => {
            let code = answer.status.as_u16();
            let why = crate::outgoing::unexpected(code, &answer.body);
            match code {
                429 | 500.. => Fate::Again(why),
                _ => Fate::Refused(why),
            }
        }
        Err(error) => Fate::Again(error.to_string()),
    }
}

/// An EventList of events that are JSON already.
fn event_list(events: &[Vec<u8>]) -> Vec<u8> {
    let bytes: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut list = Vec::with_capacity(bytes + 96);
    list.extend_from_slice(
        br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#,
    );
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            list.push(b',');
        }
        list.extend_from_slice(event.trim_ascii_end());
    }
    list.extend_from_slice(b"]}");
    list
}

/// Events that are collected for a call.
#[derive(Default)]
struct Batch {
    events: Vec<Vec<u8>>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Batch {
    /// The batch, where it is full now.
    fn add(&mut self, event: Vec<u8>, events_max: usize, now: Instant) -> Option<Vec<Vec<u8>>> {
        self.since.get_or_insert(now);
        self.bytes += event.len();
        self.events.push(event);
        let full = self.events.len() >= events_max.max(1) || self.bytes >= BATCH_BYTES_MAX;
        if full { self.take() } else { None }
    }

    /// What there is, if anything.
    fn take(&mut self) -> Option<Vec<Vec<u8>>> {
        let taken = std::mem::take(self).events;
        (!taken.is_empty()).then_some(taken)
    }
}

/// A bucket of tokens, one for each call.
struct Throttle {
    per_second: f64,
    burst: f64,
    /// Below zero: taken in advance.
    tokens: f64,
    at: Instant,
}

impl Throttle {
    fn new(per_second: f64, burst: f64, now: Instant) -> Throttle {
        Throttle {
            per_second: per_second.max(0.001),
            burst,
            tokens: burst,
            at: now,
        }
    }

    /// How long the next call has to wait.
    fn turn(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_full_by_its_events_or_its_bytes() {
        let (mut batch, now) = (Batch::default(), Instant::now());
        assert_eq!(batch.take(), None);
        assert_eq!(batch.add(vec![1], 2, now), None);
        assert_eq!(batch.since, Some(now));
        let later = now + Duration::from_secs(1);
        assert_eq!(batch.add(vec![2], 2, later), Some(vec![vec![1], vec![2]]));
        assert_eq!((batch.since, batch.bytes), (None, 0));
        let large = batch.add(vec![0; BATCH_BYTES_MAX], 400, now);
        assert_eq!(large.map(|events| events.len()), Some(1));
        batch.add(vec![3], 400, now);
        assert_eq!(batch.take(), Some(vec![vec![3]]));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_come_in_bursts_and_then_evenly() {
        let start = Instant::now();
        let mut throttle = Throttle::new(10.0, 2.0, start);
        let waits: Vec<u128> = (0..4).map(|_| throttle.turn(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200]);
        let later = start + Duration::from_secs(60);
        assert_eq!(throttle.turn(later), Duration::ZERO);
        assert_eq!(throttle.turn(later), Duration::ZERO);
        assert_eq!(throttle.turn(later).as_millis(), 100);
    }

    #[test]
    fn events_are_put_into_one_list() {
        let list = event_list(&[b"{\"a\":1}\n".to_vec(), b"{\"b\":2}\n".to_vec()]);
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        assert_eq!(list["kind"], "EventList");
        assert_eq!(list["items"], serde_json::json!([{"a": 1}, {"b": 2}]));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_refused_is_not() {
        let answer = |code: u16| {
            fate(&Ok(Answer {
                status: StatusCode::from_u16(code).unwrap(),
                body: Bytes::new(),
            }))
        };
        assert_eq!(answer(200), Fate::Taken);
        assert!(matches!(answer(429), Fate::Again(_)));
        assert!(matches!(answer(503), Fate::Again(_)));
        assert!(matches!(answer(403), Fate::Refused(_)));
    }
}

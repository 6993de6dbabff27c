//! Ranges of any size in little memory.
//!
//! A large answer is read by a thread of its own, because an iterator of the database belongs to the snapshot under it
//! and the snapshot to whoever reads. The snapshot is taken at one moment with the catalog, which knows how large the
//! answer will be. The thread reads one part ahead and then waits until that is asked for. So a client that does not
//! read costs a part and a place among those who read, and when patience is at an end only what was sent to it.

mod pages;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv::{
    Answer, AnswerSize, Broken, Catalog, Data, Joined, KeyRange, KeyValue, PairSize, PartStream,
    PartWriter, RangeParts, RangePlan, RangeRequest, StoreError, StoreResult,
};
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::config::Limits;
use crate::core::Core;
use crate::host;
use crate::metrics::METRICS;
use crate::raft::machine::{Replica, unreadable};

/// What a transaction may read on a thread that serves others too.
const TXN_SMALL_BYTES: u64 = 256 << 10;

type Part = Result<Bytes, StoreError>;

impl Core {
    /// What can be read of this member now, without regard to other members.
    pub(crate) async fn range_parts(
        &self,
        request: RangeRequest,
        part_bytes: usize,
    ) -> StoreResult<RangeParts> {
        kv::check_range(&request)?;
        if self.is_small(&request, part_bytes) {
            let answer = self.replica.range_now(&request)?;
            return Ok(Answer {
                revision: answer.revision,
                body: RangeParts::of(&answer.body, part_bytes),
            });
        }
        let room = self.room_if_sorted(&request).await?;
        let place = self.place_to_scan().await?;
        METRICS.scans.inc();
        let (head, told) = oneshot::channel();
        let (asks, asked) = mpsc::channel(1);
        let scan = Scan {
            replica: self.replica.clone(),
            request,
            part_bytes,
            asked,
            patience: self.config.limits.part_patience,
            held_bytes: self.config.limits.held_bytes,
            runtime: Handle::current(),
            ahead: None,
            _place: place,
            _room: room,
        };
        match host::is_simulated() {
            true => drop(host::spawn(scan.run_ahead(head))),
            // Not `host::blocking`: it waits for its reader, which has to go on meanwhile.
            false => drop(tokio::task::spawn_blocking(move || {
                let mut scan = scan;
                scan.run(head);
            })),
        }
        let (revision, head) = told.await.map_err(|_| StoreError::Stopped)??;
        Ok(Answer {
            revision,
            body: RangeParts {
                bytes: head.size.bytes,
                more: head.size.more,
                count: head.count,
                parts: parts(asks, head.size.bytes),
            },
        })
    }
}

impl Core {
    /// Small enough to be read at once on a thread that serves others too.
    pub(crate) fn is_small(&self, request: &RangeRequest, part_bytes: usize) -> bool {
        let range = KeyRange::new(&request.key, &request.range_end);
        if request.count_only || matches!(range, KeyRange::One(_)) {
            return true;
        }
        // To go back to an older revision all changes in the range are looked at, whatever the limit.
        let now = request.revision <= 0;
        let first = request.read_at_most().filter(|_| now);
        let weight = self.replica.catalog().weigh(&range, first);
        weight.keys <= self.config.limits.small_keys && weight.whole <= part_bytes as u64
    }

    async fn place_to_scan(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.in_time(self.scans.clone().acquire_owned()).await
    }

    /// For the pairs that have to be held because they are sorted.
    async fn room_if_sorted(
        &self,
        request: &RangeRequest,
    ) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        if request.is_in_key_order() || request.count_only {
            return Ok(None);
        }
        let range = KeyRange::new(&request.key, &request.range_end);
        let bytes = self.replica.catalog().weigh(&range, None).whole;
        if bytes > self.config.limits.held_bytes {
            return Err(kv::Refusal::TooLarge.into());
        }
        self.room(bytes).await.map(Some)
    }

    /// To hold so much: there is so much for all together.
    async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let room = self.held.clone().acquire_many_owned(units(bytes));
        self.in_time(room).await
    }

    async fn in_time(
        &self,
        place: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    ) -> Result<OwnedSemaphorePermit, StoreError> {
        match timeout(self.config.limits.request_deadline, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(StoreError::Overloaded),
        }
    }

    /// Refuses a transaction that would read more than can be held; answers how much it reads.
    pub(crate) fn check_reads(&self, request: &kv::TxnRequest) -> Result<u64, kv::Refusal> {
        if !kv::reads_many(request) {
            return Ok(0);
        }
        let bytes = kv::bytes_read(&self.replica.catalog(), request);
        if bytes > self.config.limits.txn_bytes {
            return Err(kv::Refusal::TooLarge);
        }
        Ok(bytes)
    }

    /// What a transaction reads of this member now.
    pub(crate) async fn read_txn(&self, request: kv::TxnRequest) -> StoreResult<kv::TxnResponse> {
        let bytes = self.check_reads(&request)?;
        if bytes <= TXN_SMALL_BYTES {
            return self.replica.read_txn(&request);
        }
        let room = self.room(bytes).await?;
        let place = self.place_to_scan().await?;
        let replica = self.replica.clone();
        let read = host::blocking(move || {
            let _kept = (room, place);
            replica.read_txn(&request)
        });
        read.await.map_err(|_| StoreError::Stopped)?
    }
}

/// Semaphores count to four billion: in these units it is enough for any size that there is.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

/// Room for what is held, see [`Core::held`].
pub(crate) fn room_to_hold(limits: &Limits) -> Semaphore {
    Semaphore::new(units(limits.held_bytes) as usize)
}

/// The parts as the thread hands them out, exactly as many bytes as promised.
fn parts(asks: mpsc::Sender<oneshot::Sender<Part>>, bytes: u64) -> PartStream {
    let state = Some((asks, bytes));
    Box::pin(futures::stream::unfold(state, |state| async {
        let (asks, left) = state?;
        if left == 0 {
            return None;
        }
        let (reply, part) = oneshot::channel();
        // A thread that is gone before the end has given up on a slow client, or the member stops.
        let part = match asks.send(reply).await {
            Ok(()) => part.await.unwrap_or(Err(StoreError::TimedOut)),
            Err(_) => Err(StoreError::TimedOut),
        };
        match part {
            Ok(part) => {
                let left = left.checked_sub(part.len() as u64);
                let left = left.expect("the thread keeps to what it promised");
                Some((Ok(part), Some((asks, left))))
            }
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// What stands around the pairs.
struct Head {
    size: AnswerSize,
    count: i64,
}

/// Where the thread takes the pairs from.
enum Source<'a> {
    Data(Box<RangePlan>, &'a dyn Data),
    Sorted(Vec<KeyValue>),
}

impl Source<'_> {
    fn each(self, visit: &mut dyn FnMut(KeyValue) -> ControlFlow<()>) -> Result<(), Broken> {
        match self {
            Source::Data(plan, data) => plan.each(data, visit).map(drop),
            Source::Sorted(kvs) => {
                let _: ControlFlow<()> = kvs.into_iter().try_for_each(visit);
                Ok(())
            }
        }
    }
}

/// What the thread needs.
struct Scan {
    replica: Arc<Replica>,
    request: RangeRequest,
    part_bytes: usize,
    asked: mpsc::Receiver<oneshot::Sender<Part>>,
    patience: Duration,
    held_bytes: u64,
    runtime: Handle,
    /// Parts that nobody has asked for yet, where this has no thread to wait on.
    ahead: Option<Vec<Part>>,
    _place: OwnedSemaphorePermit,
    _room: Option<OwnedSemaphorePermit>,
}

impl Scan {
    fn run(&mut self, head: oneshot::Sender<Result<(i64, Head), StoreError>>) {
        let replica = self.replica.clone();
        let catalog = replica.catalog();
        let db = replica.disk().opened();
        let data = db.scan_snapshot();
        let revision = catalog.revision();
        let planned = self.plan(&catalog, data.as_ref());
        drop(catalog);
        match planned.and_then(|(plan, size)| begin(plan, size, data.as_ref())) {
            Ok((told, source)) => {
                let bytes = told.size.bytes;
                if head.send(Ok((revision, told))).is_ok() {
                    self.hand_out_all(source, bytes);
                }
            }
            // Whoever gave up waiting does not need it.
            Err(error) => drop(head.send(Err(error))),
        }
    }

    /// Reads all in one step, and hands it out as it is asked for: a simulated machine has no threads that could wait.
    async fn run_ahead(mut self, head: oneshot::Sender<Result<(i64, Head), StoreError>>) {
        self.ahead = Some(Vec::new());
        let read = host::blocking(move || {
            self.run(head);
            self
        });
        let Ok(mut scan) = read.await else {
            return;
        };
        for part in scan.ahead.take().into_iter().flatten() {
            let Ok(Some(reply)) = timeout(scan.patience, scan.asked.recv()).await else {
                return;
            };
            if reply.send(part).is_err() {
                return;
            }
        }
    }

    /// Under the catalog, so of the moment of the data.
    fn plan(
        &self,
        catalog: &Catalog,
        data: &dyn Data,
    ) -> Result<(RangePlan, Option<AnswerSize>), StoreError> {
        let plan = RangePlan::new(&Joined { catalog, data }, &self.request)?;
        let range = KeyRange::new(&self.request.key, &self.request.range_end);
        if !plan.is_in_key_order() && catalog.weigh(&range, None).whole > self.held_bytes {
            return Err(kv::Refusal::TooLarge.into());
        }
        let size = plan.known_size(catalog);
        Ok((plan, size))
    }

    fn hand_out_all(&mut self, source: Source<'_>, bytes: u64) {
        let mut writer = PartWriter::new(self.part_bytes);
        let mut left = bytes;
        let mut wanted = true;
        let read = source.each(&mut |kv| {
            if let Some(part) = writer.push(&kv) {
                wanted = self.hand_out(part, &mut left);
            }
            match wanted {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        match read {
            Err(broken) => drop(self.answer(Err(unreadable(broken)))),
            Ok(()) if wanted => {
                let last = writer.finish();
                let whole = last.len() as u64 == left;
                if !whole || !last.is_empty() {
                    self.hand_out(last, &mut left);
                }
                if !whole {
                    self.answer(Err(differs(bytes)));
                }
            }
            Ok(()) => {}
        }
    }

    /// Waits until a part is wanted; false where none will be. What is read is counted until it is sent.
    fn hand_out(&mut self, part: Bytes, left: &mut u64) -> bool {
        let Some(after) = left.checked_sub(part.len() as u64) else {
            self.answer(Err(differs(*left)));
            return false;
        };
        *left = after;
        self.answer(Ok(Bytes::from_owner(Counted::new(part))))
    }

    fn answer(&mut self, part: Part) -> bool {
        if let Some(ahead) = &mut self.ahead {
            ahead.push(part);
            return true;
        }
        let asked = timeout(self.patience, self.asked.recv());
        match self.runtime.block_on(asked) {
            Ok(Some(reply)) => reply.send(part).is_ok(),
            // The client is gone, or as good as that.
            Ok(None) | Err(_) => false,
        }
    }
}

/// A part that the metrics count for as long as anybody has it.
struct Counted(Bytes);

impl Counted {
    fn new(part: Bytes) -> Counted {
        METRICS.scanned_bytes.add(part.len() as i64);
        Counted(part)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        METRICS.scanned_bytes.sub(self.0.len() as i64);
    }
}

/// The length of an answer stands before it, so one that comes out otherwise can only be broken off.
fn differs(bytes: u64) -> StoreError {
    unreadable(Broken(format!(
        "a range was to have {bytes} bytes and has not"
    )))
}

/// Where the size is not known, a first pass over the data tells it.
fn begin(
    plan: RangePlan,
    size: Option<AnswerSize>,
    data: &dyn Data,
) -> Result<(Head, Source<'_>), StoreError> {
    let count = plan.count();
    if plan.is_in_key_order() {
        let size = size.map_or_else(|| plan.measure(data), Ok);
        let size = size.map_err(unreadable)?;
        return Ok((Head { size, count }, Source::Data(Box::new(plan), data)));
    }
    let response = plan.run(data).map_err(unreadable)?;
    let bytes = response.kvs.iter().map(|kv| PairSize::of(kv).whole);
    let size = AnswerSize {
        bytes: bytes.map(u64::from).sum(),
        more: response.more,
    };
    Ok((Head { size, count }, Source::Sorted(response.kvs)))
}

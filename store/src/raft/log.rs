//! Raft's log storage: one writer thread with group commit in front of a [`LogDisk`], and recent entries in memory.
//!
//! Everything that changes the log goes through one queue in the order in which Raft asked for it: entries, votes,
//! truncations. The writer takes whatever has accumulated, writes it as one batch with one sync, and reports the
//! completions in order. While it syncs, the next batch gathers: the batch size adapts to the disk by itself. Votes
//! are in the same stream, because a vote that overtakes an entry breaks Raft.
//!
//! Entries stay in memory until they are stored, and then while they are new (`kept.rs`), so that replication and apply
//! do not read the disk in steady state.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use futures::Stream;
use kv::mutants::{Bug, planted};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::disk;
use crate::env::{LogDisk, LogOp, ScrubPass};
use crate::host;
use crate::metrics::METRICS;
use crate::raft::kept::{Kept, entry_bytes};
use crate::raft::types::{Entry, LogId, TypeConfig, Vote};

/// Most requests waiting for the writer. Raft itself bounds what is in flight; this stops a runaway.
const QUEUE: usize = 4096;
/// A batch is written when it has this size, even if more is waiting.
const BATCH_BYTES: usize = 8 << 20;
/// One message to a member must fit a frame, and has at most so many entries.
const MESSAGE_BYTES: usize = 4 << 20;
const MESSAGE_ENTRIES: u64 = 1024;
/// Entries are read from the disk a few at a time, and no more of them than are asked for: they may be large.
const READ_ENTRIES: u64 = 32;
/// An entry that cannot be read is looked at again so many times before it is called damaged.
const LOOKS: u32 = 2;

/// See the module head. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    // Before the queue, so that the writer is the last to let go of it.
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
}

struct Shared {
    disk: Arc<dyn LogDisk>,
    state: Mutex<State>,
}

/// The log as Raft sees it, which may be ahead of the disk.
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// It has changed since it was last handed to the writer.
    commit_is_new: bool,
    purged: Option<LogId>,
    /// Index of the first entry there is, or would be.
    first: u64,
    last: Option<LogId>,
    cache: Kept,
    /// Entries below this index are stored. What is not stored stays in the cache.
    stored: u64,
    /// How often the end of the log was taken out.
    cuts: u64,
    /// Why the writer has stopped. Nothing is acknowledged after that.
    failure: Option<(io::ErrorKind, String)>,
}

struct Job {
    ops: Vec<LogOp>,
    durable: bool,
    done: Done,
}

enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Reply(oneshot::Sender<io::Result<()>>),
    Nobody,
}

impl Done {
    fn report(self, result: io::Result<()>) {
        match self {
            Done::Flushed(callback) => callback.io_completed(result),
            // The other side has given up waiting; the result stands all the same.
            Done::Reply(sender) => drop(sender.send(result)),
            Done::Nobody => {}
        }
    }
}

impl LogStore {
    /// Starts the writer thread, which ends, and with it closes the log, when the last clone is gone.
    pub fn start(disk: Arc<dyn LogDisk>) -> io::Result<(LogStore, JoinHandle<()>)> {
        let (log, jobs) = LogStore::open(disk);
        let writer = log.shared.clone();
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.write_loop(jobs))?;
        Ok((log, thread))
    }

    /// As [`LogStore::start`]; on a simulated machine the writer is one of its tasks.
    pub(crate) fn start_here(disk: Arc<dyn LogDisk>) -> io::Result<(LogStore, Writer)> {
        if !host::is_simulated() {
            let (log, thread) = LogStore::start(disk)?;
            return Ok((log, Writer::Thread(thread)));
        }
        let (log, jobs) = LogStore::open(disk);
        let writer = log.shared.clone();
        let task = host::spawn(async move { writer.write_in_steps(jobs).await });
        Ok((log, Writer::Task(task)))
    }

    fn open(disk: Arc<dyn LogDisk>) -> (LogStore, mpsc::Receiver<Job>) {
        let found = disk.found();
        let state = State {
            vote: found.vote,
            committed: found.committed,
            commit_is_new: false,
            purged: found.purged,
            first: found.purged.map_or(0, |id| id.index + 1),
            last: found.last,
            cache: Kept::new(Instant::now()),
            stored: found.last.map_or(0, |id| id.index + 1),
            cuts: 0,
            failure: None,
        };
        let shared = Arc::new(Shared {
            disk,
            state: Mutex::new(state),
        });
        let (queue, jobs) = mpsc::channel(QUEUE);
        (LogStore { shared, queue }, jobs)
    }

    /// True where nothing was ever stored, not even a vote.
    pub fn is_pristine(&self) -> bool {
        let state = self.shared.lock();
        state.vote.is_none() && state.last.is_none() && state.purged.is_none()
    }

    /// The last entry that is gone for good.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.lock().purged
    }

    /// Which entries there are, and how many bytes they take on disk.
    pub fn extent(&self) -> (Range<u64>, u64) {
        let entries = {
            let state = self.shared.lock();
            state.first..state.last.map_or(0, |id| id.index + 1)
        };
        (entries, self.shared.disk.bytes())
    }

    /// A pass over all stored entries, from the disk.
    pub(crate) fn stored_again(&self) -> Box<dyn ScrubPass> {
        Box::new(LogPass {
            shared: self.shared.clone(),
            next: 0,
        })
    }

    /// Why nothing is written any more, if that is so. Raft learns of it only when it wants to know what has become of
    /// a write.
    pub fn stopped(&self) -> Option<String> {
        let failed = self.shared.lock().failure.is_some();
        (failed || self.queue.is_closed()).then(|| self.shared.failure().to_string())
    }

    async fn submit(&self, mut ops: Vec<LogOp>, durable: bool, done: Done) -> io::Result<()> {
        ops.extend(self.shared.lock().take_commit());
        let job = Job { ops, durable, done };
        self.queue
            .send(job)
            .await
            .map_err(|_| self.shared.failure())
    }

    async fn submit_and_wait(&self, ops: Vec<LogOp>) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.submit(ops, true, Done::Reply(sender)).await?;
        receiver.await.map_err(|_| self.shared.failure())?
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each update of the state is one assignment or push: a panic between them leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> io::Error {
        match &self.lock().failure {
            Some((kind, text)) => io::Error::new(*kind, text.clone()),
            None => io::Error::other("the log writer has stopped"),
        }
    }

    fn write_loop(&self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            if !self.write(Batch::gather(first, &mut jobs)) {
                return;
            }
        }
        if let Some(last) = self.last_batch() {
            self.write(last);
        }
    }

    /// As `write_loop`, on a simulated machine.
    async fn write_in_steps(&self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let batch = Batch::gather(first, &mut jobs);
            tokio::time::sleep(self.disk.begin(&batch.ops, batch.durable)).await;
            if !self.write(batch) {
                return;
            }
        }
        if let Some(last) = self.last_batch() {
            tokio::time::sleep(self.disk.begin(&last.ops, last.durable)).await;
            self.write(last);
        }
    }

    /// What is left when nothing comes any more.
    fn last_batch(&self) -> Option<Batch> {
        let commit = self.lock().take_commit()?;
        Some(Batch {
            ops: vec![commit],
            durable: false,
            done: Vec::new(),
        })
    }

    /// Writes a batch and reports it. False where nothing can be written any more.
    fn write(&self, batch: Batch) -> bool {
        let timer = METRICS.wal_fsync.start_timer();
        let is_left = |op: &LogOp| match op {
            LogOp::Vote(_) => planted(Bug::VoteUnsynced),
            // It goes along with either.
            LogOp::Committed(_) => true,
            _ => planted(Bug::AcksUnsynced),
        };
        let durable = batch.durable && !batch.ops.iter().all(is_left);
        let mut result = self.disk.write(&batch.ops, durable);
        if planted(Bug::RetriesFailedSync) {
            result = Ok(());
        }
        if batch.durable {
            timer.observe_duration();
        } else {
            timer.stop_and_discard();
        }
        let failure = result
            .as_ref()
            .err()
            .map(|error| (error.kind(), error.to_string()));
        match &failure {
            None => self.lock().note_stored(&batch.ops),
            Some(_) => self.lock().failure = failure.clone(),
        }
        for done in batch.done {
            done.report(match &failure {
                None => Ok(()),
                Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            });
        }
        if let Some((_, text)) = &failure {
            // Not retried: what has reached the disk is unknown now, and a second sync would lie about it.
            tracing::error!(error = %text, "the log cannot be written; this member stops");
        }
        failure.is_none()
    }

    /// The first entries of a range: as many as have together so many bytes, and one at least. None where the first one
    /// is not there (any more).
    fn read_some(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut some: Vec<Entry> = Vec::new();
        let (mut next, mut bytes) = (start, 0);
        while next < end && bytes < bytes_max {
            let more = self.read(next, end.min(next.saturating_add(READ_ENTRIES)))?;
            // Purged meanwhile: a range without its beginning would make a hole in a follower's log.
            if more.first().is_none_or(|entry| entry.log_id.index != next) {
                break;
            }
            next += more.len() as u64;
            for entry in more {
                bytes += entry_bytes(&entry);
                if bytes > bytes_max && !some.is_empty() {
                    return Ok(some);
                }
                some.push(entry);
            }
        }
        Ok(some)
    }

    fn read(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let extent = || {
            let state = self.lock();
            (state.first, state.cuts)
        };
        loop {
            let before = extent();
            let read = self.read_once(start, end);
            // What was taken out meanwhile is neither missing nor damaged: who led until now may still read what nobody
            // committed, and the file of what was purged may be used for something else.
            if extent() == before {
                return read;
            }
        }
    }

    fn read_once(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (from_disk, mut cached) = {
            let state = self.lock();
            let start = start.max(state.first);
            let end = end.min(state.last.map_or(0, |id| id.index + 1));
            if start >= end {
                return Ok(Vec::new());
            }
            let first_cached = state.first_cached();
            let cached = state.cache.range(start..end);
            (start..end.min(first_cached), cached)
        };
        if from_disk.is_empty() {
            return Ok(cached);
        }
        let expected = from_disk.clone();
        let mut entries =
            Vec::with_capacity((expected.end - expected.start) as usize + cached.len());
        for (index, record) in self.disk.read(from_disk)? {
            entries.push(disk::decode_entry(index, record)?);
        }
        let whole = entries.len() as u64 == expected.end - expected.start
            && entries
                .first()
                .is_none_or(|entry| entry.log_id.index == expected.start);
        if !whole {
            return Err(disk::damaged(format!(
                "log entries {}..{} are not all there",
                expected.start, expected.end
            )));
        }
        entries.append(&mut cached);
        Ok(entries)
    }
}

/// See [`LogStore::stored_again`].
struct LogPass {
    shared: Arc<Shared>,
    next: u64,
}

impl ScrubPass for LogPass {
    fn step(&mut self) -> io::Result<Option<u64>> {
        // A file may be used for something else while it is read. Then its entries are gone at the next look.
        let mut looks = 0;
        loop {
            match self.look() {
                Err(error) if looks >= LOOKS => return Err(error),
                Err(_) => looks += 1,
                done => return done,
            }
        }
    }
}

impl LogPass {
    fn look(&mut self) -> io::Result<Option<u64>> {
        let range = {
            let state = self.shared.lock();
            let start = state.first.max(self.next);
            start..state.stored.min(start.saturating_add(READ_ENTRIES))
        };
        if range.is_empty() {
            return Ok(None);
        }
        let mut bytes = 0;
        for (index, record) in self.shared.disk.read(range.clone())? {
            bytes += record.len() as u64;
            disk::decode_entry(index, record)?;
        }
        self.next = range.end;
        Ok(Some(bytes))
    }
}

/// What is written with one sync.
struct Batch {
    ops: Vec<LogOp>,
    durable: bool,
    done: Vec<Done>,
}

impl Batch {
    /// All that waits, up to a size.
    fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>) -> Batch {
        let mut bytes = first.bytes();
        let mut batch = Batch {
            ops: first.ops,
            durable: first.durable,
            done: vec![first.done],
        };
        while bytes < BATCH_BYTES
            && let Ok(next) = jobs.try_recv()
        {
            bytes += next.bytes();
            batch.ops.extend(next.ops);
            batch.durable |= next.durable;
            batch.done.push(next.done);
        }
        batch
    }
}

/// Who writes the log.
pub(crate) enum Writer {
    Thread(JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Writer {
    /// Waits until it has come to its end; false if that was not in order.
    pub(crate) async fn ended(self) -> bool {
        match self {
            Writer::Thread(thread) => {
                let joined = tokio::task::spawn_blocking(move || thread.join().is_ok());
                joined.await.unwrap_or(false)
            }
            Writer::Task(task) => task.await.is_ok(),
        }
    }
}

impl Job {
    fn bytes(&self) -> usize {
        let size = |op: &LogOp| match op {
            LogOp::Append { record, .. } => record.length() + 32,
            _ => 32,
        };
        self.ops.iter().map(size).sum()
    }
}

impl State {
    /// How far the log is committed, if the writer does not know yet.
    fn take_commit(&mut self) -> Option<LogOp> {
        std::mem::take(&mut self.commit_is_new).then_some(LogOp::Committed(self.committed))
    }

    fn first_cached(&self) -> u64 {
        let next = || self.last.map_or(0, |id| id.index + 1);
        self.cache.first().unwrap_or_else(next)
    }

    fn note_stored(&mut self, ops: &[LogOp]) {
        for op in ops {
            match op {
                LogOp::Append { index, .. } => self.stored = index + 1,
                LogOp::Truncate { from } => self.stored = self.stored.min(*from),
                LogOp::Purge(id) => self.stored = self.stored.max(id.index + 1),
                LogOp::Vote(_) | LogOp::Committed(_) => {}
            }
        }
        self.cache.trim(self.stored, Instant::now());
    }
}

/// The first index of a range, and the one after its last.
fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = ends(&range);
        self.shared.read(start, end)
    }

    /// For applying, which may be far behind: a part at a time.
    async fn entries_stream<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend {
        let (start, mut end) = ends(&range);
        let shared = self.shared.clone();
        let mut next = start.max(shared.lock().first);
        let parts = std::iter::from_fn(move || {
            let part = shared.read_some(next, end, MESSAGE_BYTES);
            let part = part.and_then(|entries| {
                let stored = shared.lock().last.is_some_and(|last| last.index >= next);
                match entries.is_empty() && next < end && stored {
                    true => Err(disk::damaged(format!("log entry {next} is not there"))),
                    false => Ok(entries),
                }
            });
            match part {
                Ok(entries) => {
                    next += entries.len() as u64;
                    let entries: Vec<_> = entries.into_iter().map(Ok).collect();
                    (!entries.is_empty()).then_some(entries)
                }
                Err(error) => {
                    end = next;
                    Some(vec![Err(error)])
                }
            }
        });
        futures::stream::iter(parts.flatten())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.lock().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let end = end.min(start.saturating_add(MESSAGE_ENTRIES));
        self.shared.read_some(start, end, MESSAGE_BYTES)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.shared.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.submit_and_wait(vec![LogOp::Vote(*vote)]).await?;
        // Only now: a vote that is read must have survived.
        self.shared.lock().vote = Some(*vote);
        Ok(())
    }

    /// Goes along with the next change, or is written at the end: it need not survive a crash, and writing it by itself would
    /// wake the writer a second time for each batch.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if self.queue.is_closed() {
            return Err(self.shared.failure());
        }
        let mut state = self.shared.lock();
        state.committed = committed;
        state.commit_is_new = true;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut ops = Vec::new();
        {
            let mut state = self.shared.lock();
            for entry in entries {
                if state.last.is_none() {
                    state.first = entry.log_id.index;
                }
                ops.push(LogOp::Append {
                    index: entry.index(),
                    record: disk::entry_record(&entry),
                });
                state.last = Some(entry.log_id);
                state.cache.push(entry);
            }
        }
        self.submit(ops, true, Done::Flushed(callback)).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        {
            let mut state = self.shared.lock();
            state.cache.truncate(from);
            state.cuts += 1;
            if state.last.is_some_and(|last| last.index >= from) {
                state.last = last_log_id.max(state.purged);
            }
        }
        if planted(Bug::TruncatesInMemory) {
            return Ok(());
        }
        self.submit_and_wait(vec![LogOp::Truncate { from }]).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut state = self.shared.lock();
            state.cache.purge(log_id.index);
            state.purged = state.purged.max(Some(log_id));
            state.first = state.first.max(log_id.index + 1);
            if state.last.is_none_or(|last| last.index <= log_id.index) {
                state.last = Some(log_id);
            }
        }
        self.submit(vec![LogOp::Purge(log_id)], false, Done::Nobody)
            .await
    }
}

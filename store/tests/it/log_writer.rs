//! The log's writer: one sync for what has gathered, completions in order, and no word of success after a failure.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};
use store::disk::{encode_entry, log_id};
use store::env::{LogDisk, LogFound, LogOp};
use store::raft::log::LogStore;
use store::raft::types::{Entry, Proposal, TypeConfig, Vote};

/// A disk whose writes wait for permission, and that can break.
#[derive(Default)]
struct SlowDisk {
    permits: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    batches: Mutex<Vec<usize>>,
    broken: AtomicBool,
    writes: AtomicUsize,
}

impl LogDisk for SlowDisk {
    fn found(&self) -> LogFound {
        LogFound::default()
    }

    fn write(&self, ops: &[LogOp], _durable: bool) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if let Some(permits) = &*self.permits.lock().unwrap() {
            permits.recv().unwrap();
        }
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.batches.lock().unwrap().push(ops.len());
        Ok(())
    }

    fn read(&self, _range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>> {
        Ok(Vec::new())
    }
}

fn entry(index: u64) -> Entry {
    Entry::new(
        log_id(1, index),
        EntryPayload::Normal(Proposal(Bytes::from_static(b"x"))),
    )
}

async fn append(log: &mut LogStore, index: u64) -> impl Future<Output = io::Result<()>> + use<> {
    let (sender, receiver) = TypeConfig::oneshot();
    // A refusal to take the entry reaches the callback as a dropped sender.
    let taken = log.append([entry(index)], IOFlushed::signal(sender)).await;
    async move {
        taken?;
        receiver.await.map_err(|_| io::Error::other("dropped"))?
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gathers_during_a_sync_is_written_at_once() {
    let disk = Arc::new(SlowDisk::default());
    let (permit, permits) = std::sync::mpsc::channel();
    *disk.permits.lock().unwrap() = Some(permits);
    let (mut log, _) = LogStore::start(disk.clone()).unwrap();
    let first = append(&mut log, 0).await;
    crate::harness::eventually("first write", || async {
        (disk.writes.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    let mut waiting = Vec::new();
    for index in 1..=50 {
        waiting.push(append(&mut log, index).await);
    }
    // Readable before it is stored.
    assert_eq!(log.try_get_log_entries(0..51).await.unwrap().len(), 51);
    let mut voting = log.clone();
    let vote = tokio::spawn(async move { voting.save_vote(&Vote::new(2, 1)).await });
    permit.send(()).unwrap();
    first.await.unwrap();
    permit.send(()).unwrap();
    permit.send(()).unwrap();
    for done in waiting {
        done.await.unwrap();
    }
    vote.await.unwrap().unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(2, 1)));
    let batches = disk.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().sum::<usize>(), 52);
    assert!(batches.len() <= 3, "{batches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_the_log_is_committed_is_written_with_what_comes_next_or_at_the_end() {
    let disk = Arc::new(SlowDisk::default());
    let (mut log, writer) = LogStore::start(disk.clone()).unwrap();
    let batches = || disk.batches.lock().unwrap().clone();
    append(&mut log, 0).await.await.unwrap();
    log.save_committed(Some(log_id(1, 0))).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 0)));
    append(&mut log, 1).await.await.unwrap();
    assert_eq!(batches(), [1, 2]);
    append(&mut log, 2).await.await.unwrap();
    assert_eq!(batches(), [1, 2, 1], "said once");
    log.save_committed(Some(log_id(1, 1))).await.unwrap();
    log.save_committed(Some(log_id(1, 2))).await.unwrap();
    drop(log);
    writer.join().unwrap();
    assert_eq!(batches(), [1, 2, 1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    let disk = Arc::new(SlowDisk::default());
    let (mut log, writer) = LogStore::start(disk.clone()).unwrap();
    append(&mut log, 0).await.await.unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    let failed = append(&mut log, 1).await.await.unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    writer.join().unwrap();
    // The disk would work again, but nobody knows what it has.
    disk.broken.store(false, Ordering::SeqCst);
    assert!(append(&mut log, 2).await.await.is_err());
    assert!(log.save_vote(&Vote::new(3, 1)).await.is_err());
    assert_eq!(log.read_vote().await.unwrap(), None);
}

/// A change that nobody waits for can be what fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_has_stopped_can_be_seen_before_the_next_entry() {
    let disk = Arc::new(SlowDisk::default());
    let (mut log, writer) = LogStore::start(disk.clone()).unwrap();
    append(&mut log, 0).await.await.unwrap();
    assert_eq!(log.stopped(), None);
    disk.broken.store(true, Ordering::SeqCst);
    log.purge(log_id(1, 0)).await.unwrap();
    writer.join().unwrap();
    assert!(log.save_committed(Some(log_id(1, 0))).await.is_err());
    let why = log.stopped().unwrap();
    assert!(why.contains("storage"), "{why}");

    // A writer that has panicked has nothing to say.
    let disk = Arc::new(SlowDisk::default());
    let (permit, permits) = std::sync::mpsc::channel();
    *disk.permits.lock().unwrap() = Some(permits);
    drop(permit);
    let (mut log, writer) = LogStore::start(disk).unwrap();
    drop(append(&mut log, 0).await);
    assert!(writer.join().is_err());
    assert_eq!(log.stopped().as_deref(), Some("the log writer has stopped"));
}

/// A log of entries of half a megabyte, which counts how many of them are read.
#[derive(Default)]
struct LargeEntries(AtomicUsize);

impl LogDisk for LargeEntries {
    fn found(&self) -> LogFound {
        LogFound {
            last: Some(log_id(1, 999)),
            ..LogFound::default()
        }
    }

    fn write(&self, _ops: &[LogOp], _durable: bool) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>> {
        let record = |index| {
            self.0.fetch_add(1, Ordering::SeqCst);
            let payload = EntryPayload::Normal(Proposal(vec![7; 1 << 19].into()));
            let entry = Entry::new(log_id(1, index), payload);
            (index, encode_entry(&entry).into())
        };
        Ok(range.map(record).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_large_entries_only_a_few_are_read_at_once() {
    let disk = Arc::new(LargeEntries::default());
    let (mut log, _) = LogStore::start(disk.clone()).unwrap();
    let message = log.limited_get_log_entries(3, 1000).await.unwrap();
    assert_eq!(
        message.len(),
        7,
        "four megabytes, less what an entry says of itself"
    );
    assert_eq!(message[0].log_id, log_id(1, 3));
    assert!(disk.0.load(Ordering::SeqCst) <= 32);

    let entries = log.entries_stream(5..=100).await;
    let mut entries = std::pin::pin!(entries);
    for index in 5..=100 {
        let entry = futures::StreamExt::next(&mut entries)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(entry.log_id, log_id(1, index));
        if index == 11 {
            assert!(
                disk.0.load(Ordering::SeqCst) <= 64,
                "a part of what is asked for"
            );
        }
    }
    assert!(futures::StreamExt::next(&mut entries).await.is_none());
}

/// A log of ten entries, the first look at which takes so long that its end is taken out meanwhile.
#[derive(Default)]
struct CutWhileRead {
    next: Mutex<usize>,
    cut: Condvar,
    looks: AtomicUsize,
}

impl LogDisk for CutWhileRead {
    fn found(&self) -> LogFound {
        *self.next.lock().unwrap() = 10;
        LogFound {
            last: Some(log_id(1, 9)),
            ..LogFound::default()
        }
    }

    fn write(&self, ops: &[LogOp], _durable: bool) -> io::Result<()> {
        for op in ops {
            if let LogOp::Truncate { from } = op {
                *self.next.lock().unwrap() = *from as usize;
                self.cut.notify_all();
            }
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>> {
        let mut next = self.next.lock().unwrap();
        if self.looks.fetch_add(1, Ordering::SeqCst) == 0 {
            let patience = Duration::from_secs(30);
            let cut = self
                .cut
                .wait_timeout_while(next, patience, |next| *next == 10);
            next = cut.unwrap().0;
        }
        let next = *next as u64;
        let there = range.filter(|index| *index < next);
        Ok(there
            .map(|index| (index, encode_entry(&entry(index)).into()))
            .collect())
    }
}

/// The task that sent the entries to a slow member ends some time after their leader does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_out_while_it_is_read_is_no_damage() {
    let disk = Arc::new(CutWhileRead::default());
    let (mut log, _) = LogStore::start(disk.clone()).unwrap();
    let mut reader = log.clone();
    let reading = tokio::task::spawn_blocking(move || {
        futures::executor::block_on(reader.limited_get_log_entries(2, 10))
    });
    crate::harness::eventually("a look", || async {
        (disk.looks.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    log.truncate_after(Some(log_id(1, 5))).await.unwrap();
    let read = reading.await.unwrap().unwrap();
    let indexes: Vec<u64> = read.iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(indexes, [2, 3, 4, 5]);
}

//! The log's writer: one sync for what has gathered, completions in order, and no word of success after a failure.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};
use store::disk::log_id;
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

//! What becomes of a member's log over several lives, and what it does when its disk fails.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kv::{Broken, Data, EventId, KeyRange, Store, StoreError, Visit};
use store::disk::Position;
use store::env::tempdir::StagingDir;
use store::env::{Engine, LogDisk, ShowState, StateCheck, StateDb, StateDisk};
use store::rocks::Rocks;
use store::wal::files::{DataFile, Directory, Folder};
use store::wal::{Options, Wal};
use store::{Limits, Moment, Node};

use crate::harness::{Cluster, DEADLINE, copy, eventually, get, power_cut, put, put_request};

fn short_log() -> Limits {
    Limits {
        snapshot_entries: 50,
        log_entries_kept: 10,
        ..Limits::default()
    }
}

/// Waits until the log of a member, which may run and rest, is purged beyond an index.
async fn purged_beyond(cluster: &Cluster, index: u64) {
    let dir = cluster.dirs[&1].path();
    eventually("purge", || async {
        let now = tempfile::TempDir::new().unwrap();
        copy(&dir.join("wal"), &now.path().join("wal"));
        std::fs::copy(dir.join("wal.mark"), now.path().join("wal.mark")).unwrap();
        // Refused where it was written meanwhile.
        let log = Rocks.open_log(now.path(), false).ok()?;
        let purged = log.found().purged.map_or(0, |id| id.index);
        (purged > index).then_some(())
    })
    .await;
}

async fn put_thirty(cluster: &Cluster) {
    for n in 0..30 {
        put(cluster.node(1), "key", &n.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_member_that_never_runs_for_long_is_purged() {
    let mut cluster = Cluster::start(1, short_log()).await;
    for life in 0..4 {
        if life > 0 {
            cluster.run(1).await.unwrap();
        }
        put_thirty(&cluster).await;
        cluster.nodes.remove(&1).unwrap().shutdown().await;
    }
    purged_beyond(&cluster, 60).await;
    let node = cluster.run(1).await.unwrap();
    assert_eq!(get(&node, "key").await.as_deref(), Some("29"));
}

/// What was applied again after a crash is not flushed by that: it counts for the next flush.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_member_that_crashes_often_is_purged() {
    let mut cluster = Cluster::start(1, short_log()).await;
    put_thirty(&cluster).await;
    // Closing the member would flush the state.
    let crashed = tempfile::TempDir::new().unwrap();
    power_cut(cluster.dirs[&1].path(), crashed.path());
    cluster.kill(1).await;
    cluster.dirs.insert(1, crashed);
    cluster.run(1).await.unwrap();
    put_thirty(&cluster).await;
    purged_beyond(&cluster, 30).await;
}

/// By transactions that fail the state does not grow, and so is not flushed, and of entries there are not many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_large_entries_that_come_to_nothing_is_cut() {
    let limits = Limits {
        log_bytes_kept: 512 << 10,
        disk_interval: Duration::from_millis(20),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let value = "x".repeat(100 << 10);
    let mut failing = put_request("key", &value, 0);
    failing.compare.push(kv::Compare {
        key: "key".into(),
        operand: Some(kv::CompareOperand::Version(7)),
        ..kv::Compare::default()
    });
    for _ in 0..40 {
        let failed = cluster.node(1).txn(failing.clone()).await.unwrap();
        assert!(!failed.body.succeeded);
    }
    // Of 40 entries of 100 KiB at most 20 may stay.
    purged_beyond(&cluster, 18).await;
    put(cluster.node(1), "key", "value").await;
}

/// The machine's files, until told that what is written cannot be made durable.
struct Failing(Directory, Arc<Fault>);

#[derive(Default)]
struct Fault {
    fails: AtomicBool,
    failed: AtomicBool,
    /// Syncs and writes that were asked for after the one that failed.
    later: AtomicUsize,
}

impl Fault {
    fn check(&self, sync: bool) -> io::Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            self.later.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        if sync && self.fails.load(Ordering::SeqCst) {
            // As the kernel reports it: once, and then never again.
            self.failed.store(true, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

struct FailingFile(Arc<dyn DataFile>, Arc<Fault>);

impl Folder for Failing {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.0.make_dir(dir)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
        Ok(Arc::new(FailingFile(self.0.create(path)?, self.1.clone())))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
        Ok(Arc::new(FailingFile(self.0.open(path)?, self.1.clone())))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn room(&self) -> io::Result<u64> {
        self.0.room()
    }
}

impl DataFile for FailingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.check(false)?;
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.check(true)?;
        self.0.sync()
    }
}

struct FailingEngine(Arc<Fault>);

impl Engine for FailingEngine {
    fn open_log(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>> {
        let folder = Failing(Directory::new(dir), self.0.clone());
        let log = Wal::open_in(Arc::new(folder), Options::default(), create)?;
        Ok(Arc::new(log))
    }

    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>> {
        Rocks.open_state(dir, create)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_fsync_stops_the_member_which_says_why_and_it_is_not_tried_again() {
    let mut cluster = Cluster::of(1, Limits::default());
    let fault = Arc::new(Fault::default());
    let mut config = cluster.config(1);
    config.engine = Arc::new(FailingEngine(fault.clone()));
    let node = Node::start(config).await.unwrap();
    put(&node, "key", "before").await;
    fault.fails.store(true, Ordering::SeqCst);
    let lost = node.txn(put_request("key", "not durable", 0)).await;
    assert!(
        matches!(
            lost,
            Err(StoreError::Stopped | StoreError::LeaderChanged | StoreError::TimedOut)
        ),
        "{lost:?}"
    );
    let reason = tokio::time::timeout(DEADLINE, node.failed()).await.unwrap();
    assert!(reason.contains("os error 5"), "{reason}");
    let again = node.txn(put_request("key", "again", 0)).await;
    assert_eq!(again, Err(StoreError::Stopped));
    node.kill().await;
    drop(node);
    // A second sync would report success for what the kernel has dropped.
    assert_eq!(fault.later.load(Ordering::SeqCst), 0);

    let node = cluster.run(1).await.unwrap();
    put(&node, "after", "value").await;
    let value = get(&node, "key").await;
    assert!(
        ["before", "not durable"]
            .map(Some)
            .contains(&value.as_deref()),
        "{value:?}"
    );
}

/// The state on a disk that is full when a test says so: for what is applied, or for a flush.
#[derive(Default)]
struct Full {
    for_writes: AtomicBool,
    for_flushes: AtomicBool,
}

fn check_full(full: &AtomicBool) -> io::Result<()> {
    match full.load(Ordering::SeqCst) {
        true => Err(io::Error::from_raw_os_error(28)),
        false => Ok(()),
    }
}

struct FullEngine(Arc<Full>);

struct FullDisk(Arc<dyn StateDisk>, Arc<Full>);

struct FullDb(Arc<dyn StateDb>, Arc<Full>);

impl Engine for FullEngine {
    fn open_log(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>> {
        Rocks.open_log(dir, create)
    }

    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>> {
        let disk = Rocks.open_state(dir, create)?;
        Ok(Arc::new(FullDisk(disk, self.0.clone())))
    }
}

impl StateDisk for FullDisk {
    fn opened(&self) -> Arc<dyn StateDb> {
        Arc::new(FullDb(self.0.opened(), self.1.clone()))
    }

    fn staging(&self) -> io::Result<StagingDir> {
        self.0.staging()
    }

    fn install(&self, from: &Path, check: &mut StateCheck<'_>) -> io::Result<ShowState<'_>> {
        self.0.install(from, check)
    }
}

impl Data for FullDb {
    fn get(&self, key: &[u8]) -> Result<Option<kv::KeyValue>, Broken> {
        self.0.get(key)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        self.0.scan(range, visit)
    }

    fn event(&self, id: EventId) -> Result<kv::Event, Broken> {
        self.0.event(id)
    }
}

impl StateDb for FullDb {
    fn load(&self) -> io::Result<(Position, kv::Catalog)> {
        self.0.load()
    }

    fn write(&self, writes: &[kv::Write], position: &Position) -> io::Result<()> {
        check_full(&self.1.for_writes)?;
        self.0.write(writes, position)
    }

    fn flush(&self) -> io::Result<()> {
        check_full(&self.1.for_flushes)?;
        self.0.flush()
    }

    fn checkpoint(&self, to: &Path) -> io::Result<Position> {
        self.0.checkpoint(to)
    }

    fn snapshot(&self) -> Box<dyn Data + '_> {
        self.0.snapshot()
    }

    fn next_moment(&self, from: i64) -> Result<Option<Moment>, Broken> {
        self.0.next_moment(from)
    }

    fn scan_snapshot(&self) -> Box<dyn Data + '_> {
        self.0.scan_snapshot()
    }

    fn events(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(EventId, kv::Event) -> bool,
    ) -> Result<(), Broken> {
        self.0.events(from, to, visit)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_state_stops_the_member_which_says_why_and_loses_nothing() {
    for flushes in [false, true] {
        let mut cluster = Cluster::of(1, short_log());
        let full = Arc::new(Full::default());
        let mut config = cluster.config(1);
        config.engine = Arc::new(FullEngine(full.clone()));
        let node = Node::start(config).await.unwrap();
        put(&node, "key", "before").await;
        let which = if flushes {
            &full.for_flushes
        } else {
            &full.for_writes
        };
        which.store(true, Ordering::SeqCst);
        let mut acknowledged = "before".to_string();
        for n in 0..1000 {
            match node.txn(put_request("key", &n.to_string(), 0)).await {
                Ok(_) => acknowledged = n.to_string(),
                Err(_) => break,
            }
        }
        let reason = tokio::time::timeout(DEADLINE, node.failed()).await.unwrap();
        assert!(reason.contains("No space left"), "{reason}");
        assert_eq!(reason.contains("cannot be applied"), !flushes, "{reason}");
        node.kill().await;
        drop(node);

        let node = cluster.run(1).await.unwrap();
        let found = get(&node, "key").await.unwrap();
        // The write that was not acknowledged is in the log, and so has happened.
        let number = |text: &str| text.parse().unwrap_or(-1);
        let (found, least): (i64, i64) = (number(&found), number(&acknowledged));
        assert!((least..=least + 1).contains(&found), "{found}, not {least}");
    }
}

//! Data directories that must not be used: damaged, foreign, taken.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv::{Store, StoreError};
use store::env::{Engine, LogDisk, LogFound, LogOp, StateDisk};
use store::rocks::Rocks;
use store::{Config, DataDirError, Limits, Node, StartError};

use crate::harness::{AUTHORITY, CLUSTER, Cluster, all, copy, eventually, power_cut, put};

/// A single member with data, killed.
async fn written() -> Cluster {
    let mut cluster = Cluster::start(1, Limits::default()).await;
    for n in 0..40 {
        put(
            cluster.node(1),
            &format!("key{n:02}"),
            "some value that is long enough to be hit",
        )
        .await;
    }
    cluster.kill(1).await;
    cluster
}

fn newest(dir: &Path, extension: &str) -> PathBuf {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|have| have == extension))
        .collect();
    files.sort();
    files
        .pop()
        .unwrap_or_else(|| panic!("no .{extension} in {}", dir.display()))
}

async fn refuses_as_damaged(cluster: &mut Cluster, part: &str) {
    let error = cluster
        .run(1)
        .await
        .err()
        .expect("a damaged directory is refused");
    let StartError::DataDir(DataDirError::Damaged { what, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(*what, part, "{error}");
    assert!(
        error.to_string().contains("kontiki store replace"),
        "it says what to do: {error}"
    );
    // And again: the refusal has changed nothing.
    assert!(cluster.run(1).await.is_err());
}

/// Has the state flushed as of an earlier entry, and then as it was; and cuts the log between the two.
fn flush_twice_and_purge(dir: &Path) {
    let state = Rocks.open_state(dir, false).unwrap();
    let log = Rocks.open_log(dir, false).unwrap();
    let (position, _) = state.opened().load().unwrap();
    let mut earlier = position.clone();
    earlier.applied.as_mut().unwrap().index -= 20;
    for position in [earlier, position] {
        state.opened().write(&[], &position).unwrap();
        state.opened().flush().unwrap();
    }
    let mut upto = log.found().last.unwrap();
    upto.index -= 10;
    log.write(&[LogOp::Purge(upto)], true).unwrap();
}

/// RocksDB's list of files with a bit turned so that RocksDB does not notice, and goes on from the state before the last.
fn turned_unnoticed(dir: &Path, list: &Path) -> Vec<u8> {
    let whole = fs::read(list).unwrap();
    let applied = || Rocks.look_at_state(dir).ok().flatten()?.applied;
    let newest = applied().unwrap().index;
    let with_bit = |at: usize| {
        let mut turned = whole.clone();
        turned[at] ^= 1 << 6;
        turned
    };
    let found = (0..whole.len()).rev().map(with_bit).find(|turned| {
        fs::write(list, turned).unwrap();
        applied().is_some_and(|applied| applied.index < newest)
    });
    found.expect("it misses no bit")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_of_before_the_log_is_refused_and_nothing_is_changed() {
    let mut cluster = written().await;
    let dir = cluster.dirs[&1].path().to_path_buf();
    eventually("the state is closed", || {
        let closed = Rocks.open_state(&dir, false).is_ok();
        async move { closed.then_some(()) }
    })
    .await;
    flush_twice_and_purge(&dir);
    let state = dir.join("state").join("0000000001");
    let current = fs::read_to_string(state.join("CURRENT")).unwrap();
    let list = state.join(current.trim());
    let whole = fs::read(&list).unwrap();
    let turned = turned_unnoticed(&dir, &list);
    refuses_as_damaged(&mut cluster, "the state").await;
    assert_eq!(fs::read(&list).unwrap(), turned);
    // With the bit as it was it is all there.
    fs::write(&list, &whole).unwrap();
    let node = cluster.run(1).await.unwrap();
    node.wait_ready().await.unwrap();
    assert_eq!(node.range(all()).await.unwrap().body.count, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intact_directory_is_taken() {
    let mut cluster = written().await;
    let node = cluster.run(1).await.unwrap();
    node.wait_ready().await.unwrap();
    assert_eq!(node.range(all()).await.unwrap().body.count, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_flushed_is_recovered_from_the_log() {
    let mut cluster = Cluster::start(1, Limits::default()).await;
    for n in 0..40 {
        put(cluster.node(1), &format!("key{n:02}"), "value").await;
    }
    // Closing the member would flush the state.
    let crashed = tempfile::TempDir::new().unwrap();
    power_cut(cluster.dirs[&1].path(), crashed.path());
    cluster.kill(1).await;
    cluster.dirs.insert(1, crashed);
    let node = cluster.run(1).await.unwrap();
    node.wait_ready().await.unwrap();
    assert_eq!(node.range(all()).await.unwrap().body.count, 40);
}

/// The real thing, until told that the disk is full.
struct Filling(Arc<AtomicBool>);

struct FillingLog(Arc<dyn LogDisk>, Arc<AtomicBool>);

impl Engine for Filling {
    fn open_log(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>> {
        Ok(Arc::new(FillingLog(
            Rocks.open_log(dir, create)?,
            self.0.clone(),
        )))
    }

    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>> {
        Rocks.open_state(dir, create)
    }
}

impl LogDisk for FillingLog {
    fn found(&self) -> LogFound {
        self.0.found()
    }

    fn write(&self, ops: &[LogOp], durable: bool) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "No space left on device",
            ));
        }
        self.0.write(ops, durable)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>> {
        self.0.read(range)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_disk_is_full_says_so_and_the_others_go_on() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    let id = cluster.follower().await;
    cluster.kill(id).await;
    let full = Arc::new(AtomicBool::new(false));
    let mut config = cluster.config(id);
    config.engine = Arc::new(Filling(full.clone()));
    let node = Node::start(config).await.unwrap();
    node.wait_ready().await.unwrap();
    let mut watch = crate::harness::watch_all(&node, 0).await;
    full.store(true, Ordering::SeqCst);
    let other = cluster.leader().await;
    put(cluster.node(other), "key", "value").await;
    let reason = tokio::time::timeout(crate::harness::DEADLINE, node.failed())
        .await
        .unwrap();
    assert!(reason.contains("No space left"), "{reason}");
    assert_eq!(
        node.txn(crate::harness::put_request("a", "b", 0)).await,
        Err(StoreError::Stopped)
    );
    // Its watches end, so that their clients go elsewhere.
    while futures::StreamExt::next(&mut watch).await.is_some() {}
    put(cluster.node(other), "key", "value 2").await;
    node.kill().await;
    drop((node, watch));
    // With room again it starts with everything that it had acknowledged.
    let node = cluster.run(id).await.unwrap();
    assert_eq!(
        crate::harness::get(&node, "key").await.as_deref(),
        Some("value 2")
    );
}

/// The last segment of the log, and where its frames begin.
fn last_segment(cluster: &Cluster) -> (fs::File, Vec<u64>) {
    let path = newest(&cluster.dirs[&1].path().join("wal"), "seg");
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).open(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let sectors = bytes.chunks(512).enumerate();
    let frames = sectors.filter(|(_, sector)| sector.starts_with(b"KWFR"));
    (file, frames.map(|(at, _)| at as u64 * 512).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_log_is_refused() {
    for place in [0, 3, 7, 9] {
        let mut cluster = written().await;
        let (file, frames) = last_segment(&cluster);
        // The last frame may be one that was never acknowledged.
        let offset = frames[(frames.len() - 2) * place / 9] + 40;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        byte[0] ^= 0x10;
        file.write_all_at(&byte, offset).unwrap();
        refuses_as_damaged(&mut cluster, "the log").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_log_is_refused() {
    for (keep, of) in [(1, 2), (9, 10), (0, 1)] {
        let mut cluster = written().await;
        let (file, _) = last_segment(&cluster);
        let len = file.metadata().unwrap().len();
        file.set_len(len * keep / of).unwrap();
        refuses_as_damaged(&mut cluster, "the log").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_last_write_is_refused() {
    let mut cluster = written().await;
    let (file, frames) = last_segment(&cluster);
    // The last frame may say how far the log is committed; that one is never acknowledged and may be lost.
    for frame in &frames[frames.len() - 2..] {
        file.write_all_at(&[0; 512], *frame).unwrap();
    }
    refuses_as_damaged(&mut cluster, "the log").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_record_that_was_never_acknowledged_is_legal() {
    let mut cluster = written().await;
    let (file, frames) = last_segment(&cluster);
    // A frame of two sectors whose second one never came: its length is right, its checksum cannot be.
    let mut sector = [0; 512];
    let last = frames[frames.len() - 1];
    file.read_exact_at(&mut sector, last).unwrap();
    sector[12..16].copy_from_slice(&700u32.to_be_bytes());
    file.write_all_at(&sector, last + 512).unwrap();
    let node = cluster.run(1).await.unwrap();
    node.wait_ready().await.unwrap();
    assert_eq!(node.range(all()).await.unwrap().body.count, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_or_state_is_refused() {
    let mut cluster = written().await;
    fs::remove_dir_all(cluster.dirs[&1].path().join("wal")).unwrap();
    refuses_as_damaged(&mut cluster, "the log").await;
    let mut cluster = written().await;
    fs::remove_file(cluster.dirs[&1].path().join("wal.mark")).unwrap();
    refuses_as_damaged(&mut cluster, "the log").await;
    let mut cluster = written().await;
    fs::remove_dir_all(cluster.dirs[&1].path().join("state")).unwrap();
    refuses_as_damaged(&mut cluster, "the state").await;
    // CURRENT still names the state, whose directory is gone or empty.
    let mut cluster = written().await;
    let state = cluster.dirs[&1].path().join("state/0000000001");
    fs::remove_dir_all(&state).unwrap();
    refuses_as_damaged(&mut cluster, "the state").await;
    fs::create_dir(&state).unwrap();
    refuses_as_damaged(&mut cluster, "the state").await;
}

/// A state of before the log's beginning: what is between was purged, because it had been flushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_too_old_for_its_log_is_refused() {
    let limits = Limits {
        snapshot_entries: 20,
        log_entries_kept: 0,
        ..Limits::default()
    };
    let mut cluster = Cluster::start(1, limits).await;
    put(cluster.node(1), "key", "value").await;
    cluster.nodes.remove(&1).unwrap().shutdown().await;
    let old = tempfile::TempDir::new().unwrap();
    let state = cluster.dirs[&1].path().join("state");
    copy(&state, old.path());
    cluster.run(1).await.unwrap();
    for n in 0..100 {
        put(cluster.node(1), "key", &format!("value {n}")).await;
    }
    // In order, so that the purge is stored too.
    cluster.nodes.remove(&1).unwrap().shutdown().await;
    fs::remove_dir_all(&state).unwrap();
    copy(old.path(), &state);
    refuses_as_damaged(&mut cluster, "the state").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_state_is_refused() {
    let mut cluster = Cluster::start(1, Limits::default()).await;
    put(cluster.node(1), "key", &"value ".repeat(1000)).await;
    let node = cluster.nodes.remove(&1).unwrap();
    // In order, so that the state is flushed.
    node.shutdown().await;
    drop(node);
    let table = newest(
        &cluster.dirs[&1].path().join("state").join("0000000001"),
        "sst",
    );
    let mut bytes = fs::read(&table).unwrap();
    bytes[20] ^= 1;
    fs::write(&table, bytes).unwrap();
    refuses_as_damaged(&mut cluster, "the state").await;
}

fn config(dir: &Path, cluster: u64, member: u64) -> Config {
    let mut config = Config::new(
        dir.into(),
        cluster,
        member,
        AUTHORITY.identity(cluster, member),
    );
    config.peer_listen = "127.0.0.1:0".into();
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_of_others_are_refused() {
    let cluster = written().await;
    let dir = cluster.dirs[&1].path();
    for (cluster, member) in [(CLUSTER, 2), (CLUSTER + 1, 1)] {
        let error = Node::start(config(dir, cluster, member))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, StartError::DataDir(DataDirError::Foreign { .. })),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("point this member at its own directory")
        );
    }
    let identity = fs::read_to_string(dir.join("identity")).unwrap();
    fs::write(
        dir.join("identity"),
        identity.replace("member 0", "member 1"),
    )
    .unwrap();
    let error = Node::start(config(dir, CLUSTER, 1)).await.err().unwrap();
    assert!(
        matches!(error, StartError::DataDir(DataDirError::Damaged { .. })),
        "{error}"
    );
    fs::remove_file(dir.join("identity")).unwrap();
    let error = Node::start(config(dir, CLUSTER, 1)).await.err().unwrap();
    assert!(
        matches!(error, StartError::DataDir(DataDirError::Anonymous { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_is_refused_and_free_after_a_stop() {
    let mut cluster = Cluster::start(1, Limits::default()).await;
    let error = cluster.run(1).await.err().unwrap();
    assert!(
        matches!(error, StartError::DataDir(DataDirError::Locked { .. })),
        "{error}"
    );
    let node = cluster.nodes.remove(&1).unwrap();
    node.shutdown().await;
    drop(node);
    cluster.run(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cannot_be_written_is_told() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let error = Node::start(config(&file.join("data"), CLUSTER, 1))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, StartError::DataDir(DataDirError::Io { .. })),
        "{error}"
    );
    let mut taken = config(&dir.path().join("data"), CLUSTER, 1);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    taken.peer_listen = listener.local_addr().unwrap().to_string();
    let error = Node::start(taken).await.err().unwrap();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

//! What a member looks after by itself: that its state is that of the others, and that its disk has room.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kv::{Refusal, Store, StoreError};
use store::disk::Position;
use store::env::{Engine, LogDisk, StateDisk};
use store::rocks::Rocks;
use store::{Limits, Node, Space};

use crate::harness::{Cluster, DEADLINE, eventually, get, put, put_request};

fn watchful() -> Limits {
    Limits {
        compare_interval: Duration::from_millis(50),
        disk_interval: Duration::from_millis(20),
        ..Limits::default()
    }
}

/// Changes a value behind the back of a member that does not run, so well that it does not notice itself.
fn tamper(dir: &Path, key: &str) {
    let disk = Rocks.open_state(dir, false).unwrap();
    let db = disk.opened();
    let (position, catalog) = db.load().unwrap();
    let old = db.get(key.as_bytes()).unwrap().unwrap();
    let new = kv::KeyValue {
        value: Bytes::from_static(b"tampered"),
        ..old.clone()
    };
    let mut hash = catalog.state_hash();
    hash.remove_key(&old);
    hash.add_key(&new);
    let position = Position {
        state_hash: hash.to_bytes().to_vec(),
        ..position
    };
    db.write(&[kv::Write::Put(new)], &position).unwrap();
    db.flush().unwrap();
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path, suffix)),
            false if path.to_string_lossy().ends_with(suffix) => found.push(path),
            false => {}
        }
    }
    found
}

/// In the middle of what is there once in one of these files.
fn turn_a_bit(files: &[PathBuf], of: &[u8]) -> bool {
    files.iter().any(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        let found = bytes.windows(of.len()).position(|window| window == of);
        found.is_some_and(|at| {
            let at = at + of.len() / 2;
            let file = std::fs::OpenOptions::new().write(true).open(path);
            file.unwrap()
                .write_all_at(&[bytes[at] ^ 1], at as u64)
                .unwrap();
            true
        })
    })
}

async fn stops_when_a_bit_turns(suffix: &str) {
    let limits = Limits {
        scrub_interval: Duration::from_millis(100),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let node = cluster.node(cluster.leader().await);
    // In a form that nothing compresses.
    let needle: String = (0..200_u32)
        .map(|number| char::from(b'0' + (number.wrapping_mul(2_654_435_761) >> 9) as u8 % 75))
        .collect();
    put(node, "key", &needle).await;
    let dir = cluster.dirs.values().next().unwrap().path();
    eventually("a file with the value", async || {
        turn_a_bit(&files(dir, suffix), needle.as_bytes()).then_some(())
    })
    .await;
    let reason = tokio::time::timeout(DEADLINE, node.failed()).await.unwrap();
    assert!(reason.contains("what is stored is damaged"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_turns_in_the_state_of_a_running_member_is_found() {
    stops_when_a_bit_turns(".sst").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_turns_in_the_log_of_a_running_member_is_found() {
    stops_when_a_bit_turns(".seg").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_state_is_another_is_found_and_stops() {
    let mut cluster = Cluster::start(3, watchful()).await;
    let wrong = cluster.follower().await;
    put(cluster.node(wrong), "key", "value").await;
    // So that it has applied the write as well.
    assert!(get(cluster.node(wrong), "key").await.is_some());
    cluster.nodes.remove(&wrong).unwrap().shutdown().await;
    tamper(cluster.dirs[&wrong].path(), "key");
    let node = cluster.run(wrong).await.unwrap();

    let reason = tokio::time::timeout(DEADLINE, node.failed()).await.unwrap();
    assert!(reason.contains("is not that of the others"), "{reason}");
    assert_eq!(
        node.txn(put_request("a", "b", 0)).await,
        Err(StoreError::Stopped)
    );
    let leader = cluster.leader().await;
    put(cluster.node(leader), "after", "value").await;
    assert_eq!(
        get(cluster.node(leader), "key").await.as_deref(),
        Some("value")
    );

    // Started again it does not come back as if nothing were wrong.
    drop(node);
    cluster.kill(wrong).await;
    let node = cluster.run(wrong).await.unwrap();
    let reason = tokio::time::timeout(DEADLINE, node.failed()).await.unwrap();
    assert!(reason.contains("is not that of the others"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_does_not_fit_its_own_hash_is_refused_at_start() {
    let mut cluster = Cluster::start(1, Limits::default()).await;
    put(cluster.node(1), "key", "value").await;
    cluster.nodes.remove(&1).unwrap().shutdown().await;
    {
        let disk = Rocks.open_state(cluster.dirs[&1].path(), false).unwrap();
        let db = disk.opened();
        let (position, _) = db.load().unwrap();
        db.write(&[kv::Write::Delete("key".into())], &position)
            .unwrap();
        db.flush().unwrap();
    }
    let refused = cluster.run(1).await.err().map(|error| error.to_string());
    let refused = refused.expect("a state with a key missing");
    assert!(
        refused.contains("what is stored is not what was written"),
        "{refused}"
    );
}

/// RocksDB on disks of which a test says how full they are; this one is the member's.
struct Gauged {
    free: Arc<BTreeMap<u64, AtomicU64>>,
    member: u64,
}

impl Engine for Gauged {
    fn open_log(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>> {
        Rocks.open_log(dir, create)
    }

    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>> {
        Rocks.open_state(dir, create)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space {
            free: self.free[&self.member].load(Ordering::SeqCst),
            total: 100 << 30,
        })
    }
}

const ROOM: u64 = 50 << 30;
const NO_ROOM: u64 = 1 << 20;

struct Disks(Arc<BTreeMap<u64, AtomicU64>>);

impl Disks {
    fn set(&self, member: u64, free: u64) {
        self.0[&member].store(free, Ordering::SeqCst);
    }
}

async fn gauged(size: u64) -> (Cluster, Disks) {
    let free = (1..=size).map(|id| (id, AtomicU64::new(ROOM)));
    let free: Arc<BTreeMap<_, _>> = Arc::new(free.collect());
    let mut cluster = Cluster::of(size, watchful());
    for member in 1..=size {
        let mut config = cluster.config(member);
        config.engine = Arc::new(Gauged {
            free: free.clone(),
            member,
        });
        let node = Node::start(config).await.unwrap();
        cluster.nodes.insert(member, node);
    }
    cluster.leader().await;
    (cluster, Disks(free))
}

fn delete(key: &'static str) -> kv::TxnRequest {
    let delete = kv::DeleteRangeRequest {
        key: key.into(),
        ..kv::DeleteRangeRequest::default()
    };
    kv::TxnRequest {
        success: vec![kv::RequestOp {
            request: Some(kv::Request::DeleteRange(delete)),
        }],
        ..kv::TxnRequest::default()
    }
}

/// Until a put is refused for want of room.
async fn refused(node: &Arc<Node>) {
    let no_space = Err(StoreError::Refused(Refusal::NoSpace));
    eventually("refusal", || async {
        let answer = node.txn(put_request("more", "value", 0)).await;
        (answer == no_space).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_needs_room_until_there_is_some() {
    let (cluster, disks) = gauged(1).await;
    let node = cluster.node(1);
    put(node, "key", "value").await;
    disks.set(1, NO_ROOM);
    refused(node).await;
    let lease = node.lease_grant(0, 60).await;
    assert_eq!(lease, Err(StoreError::Refused(Refusal::NoSpace)));
    assert_eq!(get(node, "key").await.as_deref(), Some("value"));
    let deleted = node.txn(delete("key")).await.unwrap();
    node.compact(deleted.revision).await.unwrap();
    disks.set(1, ROOM);
    put(node, "key", "again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_leader_hands_on_and_two_full_members_of_three_stop_what_needs_room() {
    let (cluster, disks) = gauged(3).await;
    let first = cluster.leader().await;
    disks.set(first, NO_ROOM);
    let second = eventually("other leader", || async {
        let leader = cluster.leader().await;
        (leader != first).then_some(leader)
    })
    .await;
    put(cluster.node(first), "key", "one full disk of three").await;
    disks.set(second, NO_ROOM);
    refused(cluster.node(first)).await;
    disks.set(first, ROOM);
    put(cluster.node(second), "key", "room again").await;
}

//! A member's directory after its cluster is gone.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use prost::Message;

use super::*;
use crate::config::engine;
use crate::data_dir::DataDir;
use crate::disk::{self, Position};
use crate::env::{Engine, LogDisk, LogOp, StateDisk};
use crate::raft::machine::Replica;
use crate::raft::types::{Entry, Membership, PeerNode, Proposal, Vote};

fn member(id: u64) -> InitialMember {
    InitialMember {
        id,
        name: format!("m{id}"),
        peer_address: format!("127.0.0.1:{id}"),
    }
}

fn put(key: &str) -> Bytes {
    let put = kv::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..kv::PutRequest::default()
    };
    let txn = kv::TxnRequest {
        success: vec![kv::RequestOp {
            request: Some(kv::Request::Put(put)),
        }],
        ..kv::TxnRequest::default()
    };
    let entry = kv::Entry::new(1, kv::Command::Txn(txn));
    entry.encode_to_vec().into()
}

/// Of member 1 of cluster 0xc1: one entry is in the state, and so many more are in the log.
fn survivor(path: &Path, entries: u64) {
    let dir = DataDir::open(crate::files::real(), path, 0xc1, 1).unwrap();
    dir.peers().unwrap();
    let engine = engine();
    let state = engine.open_state(path, true).unwrap();
    let position = Position {
        applied: Some(disk::log_id(1, 1).into()),
        revision: 7,
        compact_revision: 3,
        cluster_id: 0xc1,
        ..Position::default()
    };
    state.opened().write(&[], &position).unwrap();
    state.opened().flush().unwrap();
    let log = engine.open_log(path, true).unwrap();
    let mut ops = vec![
        LogOp::Vote(Vote::new_committed(4, 2)),
        LogOp::Purge(disk::log_id(1, 1)),
    ];
    for index in 2..2 + entries {
        let payload = EntryPayload::Normal(Proposal(put(&format!("key-{index}"))));
        let entry = Entry::new(disk::log_id(3, index), payload);
        let record = disk::encode_entry(&entry).into();
        ops.push(LogOp::Append { index, record });
    }
    log.write(&ops, true).unwrap();
    dir.created().unwrap();
}

fn one_member() -> NewCluster {
    NewCluster {
        cluster_id: 0xc2,
        members: vec![member(1)],
        bump_revision: BUMP_REVISION,
    }
}

#[test]
fn the_longest_log_has_the_later_term_and_then_more_entries() {
    let end = |term, index| LogEnd { term, index };
    assert!(end(2, 5) > end(1, 900));
    assert!(end(2, 6) > end(2, 5));
}

#[tokio::test]
async fn a_survivor_goes_on_alone_with_all_of_its_log() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data");
    survivor(&path, 600);
    let engine = engine();
    let found = inspect(&path, engine.as_ref()).unwrap();
    assert_eq!(
        (found.cluster_id, found.member_id, found.revision),
        (0xc1, 1, 7)
    );
    assert_eq!(
        (found.last, found.applied_index),
        (
            LogEnd {
                term: 3,
                index: 601
            },
            1
        )
    );

    let (kept, revision) = recover(&path, &one_member(), engine.as_ref()).unwrap();
    assert_eq!(revision, 607 + BUMP_REVISION);
    // The old one is as it was.
    assert_eq!(inspect(&kept, engine.as_ref()).unwrap(), found);

    let old = DataDir::open(crate::files::real(), &path, 0xc1, 1);
    assert!(matches!(old, Err(DataDirError::Foreign { .. })));
    let dir = DataDir::open(crate::files::real(), &path, 0xc2, 1).unwrap();
    assert!(!dir.is_fresh() && dir.peers().unwrap().all().is_empty());
    let log = engine.open_log(&path, false).unwrap().found();
    assert_eq!(log.last, Some(disk::log_id(4, 603)));
    assert_eq!(log.vote, Some(Vote::new(4, 1)));
    let state = engine.open_state(&path, false).unwrap();
    let replica = Replica::load(0xc2, state).unwrap();
    let position = replica.position();
    assert_eq!(position.applied.map(|id| id.index), Some(603));
    assert_eq!(
        (position.revision, position.compact_revision),
        (revision, revision)
    );
    let membership = position.membership.unwrap();
    assert_eq!(membership.incarnation(1), Some(dir.incarnation()));
    assert_eq!(membership.nodes.len(), 1);
    let all = kv::RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..kv::RangeRequest::default()
    };
    assert_eq!(replica.range(all.clone()).await.unwrap().body.count, 600);
    let old = kv::RangeRequest {
        revision: 600,
        ..all
    };
    let compacted = kv::StoreError::Refused(kv::Refusal::Compacted {
        compact_revision: revision,
    });
    assert_eq!(replica.range(old).await.unwrap_err(), compacted);
}

/// Killed before its state was flushed for the first time.
#[tokio::test]
async fn a_young_survivor_has_all_of_it_in_its_log() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data");
    let dir = DataDir::open(crate::files::real(), &path, 0xc1, 1).unwrap();
    dir.peers().unwrap();
    let engine = engine();
    drop(engine.open_state(&path, true).unwrap());
    let nodes = [(
        1,
        PeerNode {
            name: "m1".into(),
            ..PeerNode::default()
        },
    )];
    let voters = vec![[1].into()];
    let membership = Membership::new(voters, std::collections::BTreeMap::from(nodes)).unwrap();
    let payloads = [
        EntryPayload::Membership(membership),
        EntryPayload::Normal(Proposal(put("key"))),
    ];
    let mut ops = vec![LogOp::Vote(Vote::new_committed(1, 1))];
    for (index, payload) in (0..).zip(payloads) {
        let entry = Entry::new(disk::log_id(1, index), payload);
        let record = disk::encode_entry(&entry).into();
        ops.push(LogOp::Append { index, record });
    }
    let log = engine.open_log(&path, true).unwrap();
    log.write(&ops, true).unwrap();
    drop(log);
    dir.created().unwrap();
    drop(dir);

    let found = inspect(&path, engine.as_ref()).unwrap();
    assert_eq!(found.members[&1].0, "m1");
    let (_, revision) = recover(&path, &one_member(), engine.as_ref()).unwrap();
    assert_eq!(revision, 2 + BUMP_REVISION);
    let state = engine.open_state(&path, false).unwrap();
    let replica = Replica::load(0xc2, state).unwrap();
    assert_eq!(replica.catalog().revision(), revision);
    assert!(replica.disk().opened().get(b"key").unwrap().is_some());
}

/// Between the two renames: the old directory is away, the new one is not in its place.
#[test]
fn a_recovery_that_was_cut_short_is_brought_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data");
    survivor(&path, 3);
    let engine = engine();
    assert_eq!(finish(&path, engine.as_ref()).unwrap(), None);
    let (kept, revision) = recover(&path, &one_member(), engine.as_ref()).unwrap();
    std::fs::rename(&path, found::beside(&path, ".recovering")).unwrap();

    // No member begins with nothing there, whether the directory has been made anew or not.
    for _ in 0..2 {
        let refused = DataDir::open(crate::files::real(), &path, 0xc2, 1).unwrap_err();
        assert!(
            matches!(refused, DataDirError::CutShort { .. }),
            "{refused}"
        );
        std::fs::create_dir_all(&path).unwrap();
    }
    let finished = finish(&path, engine.as_ref()).unwrap().unwrap();
    assert_eq!((finished.cluster_id, finished.revision), (0xc2, revision));
    assert_eq!(finished.voters, [1].into());
    assert!(DataDir::open(crate::files::real(), &path, 0xc2, 1).is_ok());
    assert!(kept.exists() && !found::beside(&path, ".recovering").exists());
    assert_eq!(finish(&path, engine.as_ref()).unwrap(), None);
}

/// An archive of so many keys, in which this is done to the last record.
pub(super) fn archive(path: &Path, keys: u32, last: impl Fn(u32) -> u32) {
    use crate::etcd::archive as format;
    let mut file = Vec::new();
    let mut take = |blob: format::Blob| {
        file.extend_from_slice(&blob.bytes);
        std::ops::ControlFlow::Continue(())
    };
    let mut writer = format::Writer::new(1 << 16, &mut take);
    let head = format::Head {
        format: format::FORMAT,
        cluster_id: 0xc1,
        member_id: 1,
        revision: 9,
        compact_revision: 1,
    };
    let _ = writer.record(format::HEAD, &head);
    for number in (0..keys).map(|number| {
        if number + 1 == keys {
            last(number)
        } else {
            number
        }
    }) {
        let kv = kv::KeyValue {
            key: format!("key-{number:06}").into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            ..kv::KeyValue::default()
        };
        let _ = writer.record(format::KEY, &kv);
    }
    let tail = format::Tail {
        keys: keys.into(),
        ..format::Tail::default()
    };
    let _ = writer.record(format::TAIL, &tail);
    writer.finish();
    std::fs::write(path, file).unwrap();
}

#[test]
fn a_restored_directory_is_its_owners_alone_and_a_failed_one_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let (file, data) = (home.path().join("copy"), home.path().join("a b/data"));
    std::fs::create_dir(home.path().join("a b")).unwrap();
    archive(&file, 50, |number| number);
    let engine = engine();
    let mut cluster = one_member();
    for bump_revision in [0, BUMP_REVISION_MAX + 1, i64::MAX - 5] {
        cluster.bump_revision = bump_revision;
        let refused = restore(&file, &data, 1, &cluster, engine.as_ref()).unwrap_err();
        assert!(matches!(refused, BackupError::Bump(_)), "{refused}");
    }
    let (revision, _) = restore(&file, &data, 1, &one_member(), engine.as_ref()).unwrap();
    assert_eq!(revision, 9 + BUMP_REVISION);
    let mode = std::fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // Where there is no room for the log, the state that was made before takes none any more.
    let other = home.path().join("a b/other");
    let refused = restore(&file, &other, 1, &one_member(), &NoRoomForLogs).unwrap_err();
    assert!(
        refused.to_string().contains("the disk is full"),
        "{refused}"
    );
    survivor(&other, 2);
    let found = inspect(&other, engine.as_ref()).unwrap();
    assert!(recover(&other, &one_member(), &NoRoomForLogs).is_err());
    assert_eq!(inspect(&other, engine.as_ref()).unwrap(), found);
    let mut left: Vec<_> = std::fs::read_dir(home.path().join("a b"))
        .unwrap()
        .collect();
    left.retain(|entry| {
        !["data", "other"].contains(&entry.as_ref().unwrap().file_name().to_str().unwrap())
    });
    assert!(left.is_empty(), "{left:?}");
}

/// Opens what is there, and has no room for a new log.
struct NoRoomForLogs;

impl Engine for NoRoomForLogs {
    fn open_log(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>> {
        match create {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => engine().open_log(dir, create),
        }
    }

    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>> {
        engine().open_state(dir, create)
    }
}

#[test]
fn an_archive_whose_keys_are_not_in_order_is_none() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("copy");
    archive(&file, 5, |number| number);
    assert_eq!(verify(&file).unwrap().keys, 5);
    for number in [3, 1] {
        archive(&file, 5, |_| number);
        let refused = verify(&file).unwrap_err().to_string();
        assert!(refused.contains("not in order"), "{refused}");
    }
}

/// Each prefix, and each byte changed: never a copy, never a panic.
#[test]
fn a_cut_or_changed_archive_is_none() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("copy");
    archive(&file, 5, |number| number);
    let whole = std::fs::read(&file).unwrap();
    let refused = |bytes: &[u8], what: usize| {
        std::fs::write(&file, bytes).unwrap();
        assert!(verify(&file).is_err(), "{what}");
    };
    for end in 0..whole.len() {
        refused(&whole[..end], end);
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        refused(&bytes, place);
    }
}

#[test]
fn nothing_is_recovered_from_what_is_no_directory_or_in_use() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data");
    let engine = engine();
    let none = recover(&path, &one_member(), engine.as_ref()).unwrap_err();
    assert!(
        matches!(none, BackupError::DataDir(DataDirError::NoData { .. })),
        "{none}"
    );
    survivor(&path, 1);
    let running = DataDir::open(crate::files::real(), &path, 0xc1, 1).unwrap();
    let locked = recover(&path, &one_member(), engine.as_ref()).unwrap_err();
    assert!(
        matches!(locked, BackupError::DataDir(DataDirError::Locked { .. })),
        "{locked}"
    );
    drop(running);
    let mut three = one_member();
    three.members.push(member(2));
    assert!(recover(&path, &three, engine.as_ref()).is_err());
    let mut backwards = one_member();
    backwards.bump_revision = 0;
    assert!(recover(&path, &backwards, engine.as_ref()).is_err());
    // What the attempts have left does not stand in the way.
    recover(&path, &one_member(), engine.as_ref()).unwrap();
}

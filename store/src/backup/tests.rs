//! A member's directory after its cluster is gone.

use std::path::Path;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use prost::Message;

use super::*;
use crate::config::engine;
use crate::data_dir::DataDir;
use crate::disk::{self, Position};
use crate::env::LogOp;
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
    let dir = DataDir::open(path, 0xc1, 1).unwrap();
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

    let old = DataDir::open(&path, 0xc1, 1);
    assert!(matches!(old, Err(DataDirError::Foreign { .. })));
    let dir = DataDir::open(&path, 0xc2, 1).unwrap();
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
    let dir = DataDir::open(&path, 0xc1, 1).unwrap();
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
    let running = DataDir::open(&path, 0xc1, 1).unwrap();
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

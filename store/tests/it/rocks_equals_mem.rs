//! The state on RocksDB and the state in maps are the same state, whatever happens to them.

use std::sync::Arc;

use bytes::Bytes;
use kv::mem::MemState;
use kv::{
    Alarm, AlarmChange, Command, Compact, DeleteRangeRequest, Entry, Joined, Lease, LeaseRevoke,
    PutRequest, RangeRequest, Request, RequestOp, Staged, TxnRequest, View,
};
use proptest::prelude::*;
use store::env::{StateDb, StateDisk};
use store::rocks::state::RocksState;

fn key(n: u8) -> Bytes {
    // Keys around the byte order's edges too.
    match n {
        0 => Bytes::from_static(&[0]),
        11 => Bytes::from_static(&[0xff, 0xff]),
        n => Bytes::from(vec![n * 20, n]),
    }
}

fn op() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => (0u8..12, 0usize..40, 0i64..3).prop_map(|(k, len, lease)| {
            Request::Put(PutRequest { key: key(k), value: vec![k; len].into(), lease, ..Default::default() })
        }),
        1 => (0u8..12, 0u8..12).prop_map(|(from, to)| {
            Request::DeleteRange(DeleteRangeRequest { key: key(from), range_end: key(to), prev_kv: true })
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let txn = proptest::collection::vec(op(), 1..4).prop_map(|ops| {
        let success = ops
            .into_iter()
            .map(|request| RequestOp {
                request: Some(request),
            })
            .collect();
        Command::Txn(TxnRequest {
            success,
            ..Default::default()
        })
    });
    prop_oneof![
        10 => txn,
        2 => (1i64..3).prop_map(|id| Command::LeaseGrant(Lease { id, ttl_seconds: 5, nonce: id as u64 })),
        1 => (1i64..3).prop_map(|id| Command::LeaseRevoke(LeaseRevoke { id })),
        1 => (1i64..20).prop_map(|revision| Command::Compact(Compact { revision })),
        1 => (1u64..3, 0i32..3, any::<bool>()).prop_map(|(member, kind, raised)| {
            Command::Alarm(AlarmChange { alarm: Alarm { member, kind }, raised })
        }),
        1 => (1u64..4).prop_map(|n| {
            let name = format!("role{n}");
            let change = match n {
                3 => kv::AuthChange::RoleDelete(kv::Named { name: "role1".into() }),
                _ => kv::AuthChange::RoleAdd(kv::Named { name }),
            };
            Command::Auth(kv::AuthCommand { change: Some(change) })
        }),
    ]
}

fn compare(rocks: &dyn View, mem: &dyn View) -> Result<(), TestCaseError> {
    let revision = mem.revision();
    prop_assert_eq!(rocks.revision(), revision);
    prop_assert_eq!(rocks.compact_revision(), mem.compact_revision());
    for (from, to) in [(0, 0), (2, 9), (5, 11), (9, 2)] {
        for revision in 0..=revision + 1 {
            let range_end = if to == 0 {
                Bytes::from_static(&[0])
            } else {
                key(to)
            };
            let request = RangeRequest {
                key: key(from),
                range_end,
                revision,
                ..Default::default()
            };
            prop_assert_eq!(
                kv::range(rocks, &request).unwrap(),
                kv::range(mem, &request).unwrap()
            );
        }
    }
    prop_assert_eq!(rocks.lease_ids(), mem.lease_ids());
    for id in 0..3 {
        prop_assert_eq!(rocks.lease_keys(id), mem.lease_keys(id));
    }
    prop_assert_eq!(rocks.records(b""), mem.records(b""));
    prop_assert_eq!(rocks.state_hash(), mem.state_hash());
    prop_assert_eq!(rocks.now_ms(), mem.now_ms());
    Ok(())
}

fn same(db: &Arc<dyn StateDb>, mem: &MemState) -> Result<(), TestCaseError> {
    // What was loaded from disk, not what was remembered.
    let (position, catalog) = db.load().unwrap();
    prop_assert_eq!(&position, &position.clone().of(&mem.view()));
    compare(
        &Joined {
            catalog: &catalog,
            data: db.as_ref(),
        },
        &mem.view(),
    )?;
    let snapshot = db.snapshot();
    compare(
        &Joined {
            catalog: &catalog,
            data: snapshot.as_ref(),
        },
        &mem.view(),
    )?;
    let mut events = Vec::new();
    db.events(
        mem.catalog.compact_revision(),
        i64::MAX,
        &mut |id, event| {
            events.push((id, event));
            true
        },
    )
    .unwrap();
    let want: Vec<_> = mem
        .data
        .events()
        .flat_map(|(revision, list)| {
            let numbered = list.iter().cloned().enumerate();
            numbered
                .map(move |(sub, event)| {
                    (
                        kv::EventId {
                            revision,
                            sub: sub as u32,
                        },
                        event,
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect();
    prop_assert_eq!(events, want);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn rocks_equals_mem(commands in proptest::collection::vec(command(), 1..60), batch in 1usize..9) {
        let dir = tempfile::TempDir::new().unwrap();
        let mut disk = RocksState::open(dir.path(), true).unwrap();
        let mut mem = MemState::default();
        for (n, batch) in commands.chunks(batch).enumerate() {
            let db = disk.opened();
            let (mut position, catalog) = db.load().unwrap();
            let writes = {
                let view = Joined { catalog: &catalog, data: db.as_ref() };
                let mut staged = Staged::new(&view);
                for command in batch {
                    let entry = Entry::new(n as i64, command.clone());
                    let (want, _) = mem.apply(&entry, 1).unwrap();
                    prop_assert_eq!(kv::apply(&mut staged, &entry, 1).unwrap(), want);
                }
                position = position.of(&staged);
                staged.into_writes()
            };
            db.write(&writes, &position).unwrap();
            same(&db, &mem)?;
            match n % 3 {
                // Restarted: what is flushed is all there.
                0 => {
                    db.flush().unwrap();
                    drop(db);
                    drop(disk);
                    disk = RocksState::open(dir.path(), false).unwrap();
                }
                // Replaced by its own snapshot.
                1 => {
                    let staging = disk.staging().unwrap();
                    let copy = staging.path().join("state");
                    db.checkpoint(&copy).unwrap();
                    disk.install(&copy, &mut |_| Ok(())).unwrap()();
                }
                _ => {}
            }
            same(&disk.opened(), &mem)?;
        }
    }
}

//! Edge cases in which clients of etcd rely on an exact answer, told as small stories.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use kv::mem::MemStore;
use kv::*;

fn now<T>(mut future: BoxFuture<'_, T>) -> T {
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store answers at once"),
    }
}

fn next(stream: &mut WatchStream) -> Option<WatchItem> {
    match Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(item) => item,
        Poll::Pending => None,
    }
}

fn put(key: &str, value: &str) -> Request {
    Request::Put(PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    })
}

fn delete(key: &str) -> Request {
    Request::DeleteRange(DeleteRangeRequest {
        key: bytes(key),
        ..Default::default()
    })
}

fn get(key: &str) -> Request {
    Request::Range(RangeRequest {
        key: bytes(key),
        ..Default::default()
    })
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn txn(ops: impl IntoIterator<Item = Request>) -> TxnRequest {
    let success = ops
        .into_iter()
        .map(|request| RequestOp {
            request: Some(request),
        })
        .collect();
    TxnRequest {
        success,
        ..Default::default()
    }
}

fn run(store: &Arc<MemStore>, ops: impl IntoIterator<Item = Request>) -> Result<i64, Refusal> {
    match now(store.txn(txn(ops))) {
        Ok(answer) => Ok(answer.revision),
        Err(StoreError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{other}"),
    }
}

fn list(store: &Arc<MemStore>, request: RangeRequest) -> Result<RangeResponse, StoreError> {
    now(store.range(request)).map(|answer| answer.body)
}

fn prefix() -> RangeRequest {
    RangeRequest {
        key: bytes("a"),
        range_end: bytes("b"),
        ..Default::default()
    }
}

#[test]
fn first_write_is_revision_two_and_nothing_else_raises_it() {
    let store = MemStore::new();
    assert_eq!(now(store.range(prefix())).unwrap().revision, 1);
    assert_eq!(run(&store, [delete("a")]), Ok(1));
    assert_eq!(run(&store, [get("a")]), Ok(1));
    assert_eq!(now(store.lease_grant(0, 10)).unwrap().revision, 1);
    assert_eq!(run(&store, [put("a", "1")]), Ok(2));
}

#[test]
fn one_revision_a_txn_and_versions_restart() {
    let store = MemStore::new();
    run(&store, [put("a", "1")]).unwrap();
    run(&store, [put("a", "2"), put("a2", "1"), get("a2")]).unwrap();
    let all = list(&store, prefix()).unwrap();
    let meta = |kv: &KeyValue| (kv.create_revision, kv.mod_revision, kv.version);
    assert_eq!(
        all.kvs.iter().map(meta).collect::<Vec<_>>(),
        [(2, 3, 2), (3, 3, 1)]
    );
    run(&store, [delete("a")]).unwrap();
    run(&store, [put("a", "3")]).unwrap();
    assert_eq!(meta(&list(&store, prefix()).unwrap().kvs[0]), (5, 5, 1));
}

#[test]
fn count_is_of_the_whole_range() {
    let store = MemStore::new();
    for n in 0..5 {
        run(&store, [put(&format!("a{n}"), "x")]).unwrap();
    }
    let part = list(
        &store,
        RangeRequest {
            limit: 2,
            keys_only: true,
            ..prefix()
        },
    )
    .unwrap();
    assert_eq!((part.kvs.len(), part.more, part.count), (2, true, 5));
    assert!(
        part.kvs
            .iter()
            .all(|kv| kv.value.is_empty() && kv.version == 1)
    );
    let filtered = list(
        &store,
        RangeRequest {
            min_mod_revision: 5,
            ..prefix()
        },
    )
    .unwrap();
    assert_eq!(
        (filtered.kvs.len(), filtered.more, filtered.count),
        (2, false, 5)
    );
    let counted = list(
        &store,
        RangeRequest {
            count_only: true,
            ..prefix()
        },
    )
    .unwrap();
    assert_eq!((counted.kvs.len(), counted.count), (0, 5));
    let last = RangeRequest {
        limit: 1,
        sort_order: SortOrder::Descend as i32,
        ..prefix()
    };
    let last = list(&store, last).unwrap();
    assert_eq!((last.kvs[0].key.as_ref(), last.more), (&b"a4"[..], true));
}

#[test]
fn refusals() {
    let store = MemStore::new();
    assert_eq!(run(&store, [put("", "1")]), Err(Refusal::EmptyKey));
    assert_eq!(
        run(&store, [put("a", "1"), put("a", "2")]),
        Err(Refusal::DuplicateKey)
    );
    assert_eq!(
        run(&store, [put("a", "1"), delete("a")]),
        Err(Refusal::DuplicateKey)
    );
    let nested = Request::Txn(TxnRequest {
        failure: txn([put("a", "1")]).success,
        ..txn([put("a", "2")])
    });
    assert_eq!(run(&store, [nested.clone()]), Ok(2));
    assert_eq!(
        run(&store, [nested, put("a", "1")]),
        Err(Refusal::DuplicateKey)
    );
    assert_eq!(
        run(&store, (0..129).map(|n| put(&format!("a{n}"), ""))),
        Err(Refusal::TooManyOps)
    );
    let leased = Request::Put(PutRequest {
        key: bytes("a"),
        lease: 99,
        ..Default::default()
    });
    assert_eq!(run(&store, [leased]), Err(Refusal::LeaseNotFound));
    let ignore = PutRequest {
        key: bytes("zz"),
        ignore_value: true,
        ..Default::default()
    };
    assert_eq!(
        run(&store, [Request::Put(ignore)]),
        Err(Refusal::KeyNotFound)
    );
    let future = list(
        &store,
        RangeRequest {
            revision: 50,
            ..prefix()
        },
    )
    .unwrap_err();
    assert_eq!(
        future.to_string(),
        "etcdserver: mvcc: required revision is a future revision"
    );
    assert_eq!(now(store.compact(50)), Err(Refusal::FutureRevision.into()));
    let large = run(&store, [put("a", &"x".repeat(REQUEST_BYTES_MAX))]);
    assert_eq!(large, Err(Refusal::TooLarge));
}

#[test]
fn what_is_deleted_from_a_key_on_may_be_put_again_in_the_same_txn() {
    let store = MemStore::new();
    let rest = || {
        Request::DeleteRange(DeleteRangeRequest {
            key: bytes("a"),
            range_end: bytes("\0"),
            ..Default::default()
        })
    };
    run(&store, [put("a1", "1"), put("a2", "1")]).unwrap();
    assert_eq!(run(&store, [rest(), put("a2", "2")]), Ok(3));
    let found = list(&store, prefix()).unwrap().kvs;
    let [kv] = &found[..] else {
        panic!("one is left: {found:?}")
    };
    assert_eq!((kv.key.as_ref(), kv.version), (&b"a2"[..], 1));
    // But what is to be kept has to be there when it is its turn.
    let keep = Request::Put(PutRequest {
        key: bytes("a2"),
        ignore_value: true,
        ..Default::default()
    });
    let nested = Request::Txn(txn([keep.clone()]));
    for op in [keep, nested] {
        assert_eq!(run(&store, [rest(), op]), Err(Refusal::DuplicateKey));
    }
}

#[test]
fn a_read_of_the_newest_revision_does_not_see_what_its_own_txn_has_changed() {
    let store = MemStore::new();
    assert_eq!(run(&store, [put("a", "1")]), Ok(2));
    let read = |revision| {
        Request::Range(RangeRequest {
            revision,
            ..prefix()
        })
    };
    let ops = [put("a", "2"), put("a1", "2"), read(2), read(0)];
    let answer = now(store.txn(txn(ops))).unwrap().body;
    let seen = |place: usize| match &answer.responses[place].response {
        Some(ResponseBody::Range(found)) => {
            let kvs = found.kvs.iter();
            let versions: Vec<i64> = kvs.map(|kv| kv.version).collect();
            (found.count, versions)
        }
        other => panic!("not a range: {other:?}"),
    };
    assert_eq!(seen(2), (1, vec![1]));
    assert_eq!(seen(3), (2, vec![2, 1]));
}

#[test]
fn nested_compares_see_the_state_before_the_txn() {
    let store = MemStore::new();
    let absent = Compare {
        target: CompareTarget::Version as i32,
        key: bytes("a"),
        ..Default::default()
    };
    let nested = TxnRequest {
        compare: vec![absent],
        ..txn([put("a2", "absent before")])
    };
    run(&store, [put("a", "1"), Request::Txn(nested)]).unwrap();
    assert_eq!(list(&store, prefix()).unwrap().count, 2);
}

#[test]
fn watch_at_the_compacted_revision_delivers_it_and_below_it_is_told() {
    let store = MemStore::new();
    run(&store, [put("a", "1")]).unwrap();
    run(&store, [delete("a")]).unwrap();
    run(&store, [put("a", "2")]).unwrap();
    now(store.compact(3)).unwrap();
    assert_eq!(
        now(store.compact(3)),
        Err(Refusal::Compacted {
            compact_revision: 3
        }
        .into())
    );
    let watch = |start_revision| {
        let request = WatchRequest {
            key: bytes("a"),
            range_end: Bytes::new(),
            start_revision,
        };
        now(store.watch(request)).unwrap()
    };
    let mut at = watch(3);
    let Some(WatchItem::Events {
        revision: 3,
        events,
    }) = next(&mut at)
    else {
        panic!("the deletion")
    };
    assert_eq!(events[0].kind, EventKind::Delete as i32);
    assert_eq!(events[0].prev_kv.as_ref().unwrap().value, bytes("1"));
    let mut below = watch(2);
    assert!(matches!(
        next(&mut below),
        Some(WatchItem::Compacted {
            compact_revision: 3
        })
    ));
    assert!(next(&mut below).is_none());
    let old = list(
        &store,
        RangeRequest {
            revision: 3,
            ..prefix()
        },
    )
    .unwrap();
    assert_eq!((old.kvs.len(), old.count), (0, 0));
    assert!(
        list(
            &store,
            RangeRequest {
                revision: 2,
                ..prefix()
            }
        )
        .is_err()
    );
}

#[test]
fn watch_of_the_future_is_silent_until_then() {
    let store = MemStore::new();
    let request = WatchRequest {
        key: bytes("a"),
        range_end: Bytes::new(),
        start_revision: 4,
    };
    let mut watch = now(store.watch(request)).unwrap();
    run(&store, [put("a", "1")]).unwrap();
    run(&store, [put("a", "2")]).unwrap();
    now(store.read_index()).unwrap();
    assert!(next(&mut watch).is_none());
    run(&store, [put("a", "3")]).unwrap();
    assert!(matches!(
        next(&mut watch),
        Some(WatchItem::Events { revision: 4, .. })
    ));
}

#[test]
fn progress_comes_when_asked_for_and_after_all_events() {
    let store = MemStore::new();
    let request = WatchRequest {
        key: bytes("a"),
        range_end: Bytes::new(),
        start_revision: 0,
    };
    let mut watch = now(store.watch(request)).unwrap();
    assert!(next(&mut watch).is_none());
    run(&store, [put("a", "1")]).unwrap();
    run(&store, [put("b", "1")]).unwrap();
    assert_eq!(now(store.read_index()), Ok(3));
    assert!(matches!(
        next(&mut watch),
        Some(WatchItem::Events { revision: 2, .. })
    ));
    assert!(matches!(
        next(&mut watch),
        Some(WatchItem::Progress { revision: 3 })
    ));
    assert!(next(&mut watch).is_none());
}

#[test]
fn lease_ends_with_its_keys_in_one_revision() {
    let store = MemStore::new();
    let (id, ttl) = now(store.lease_grant(0, 5)).unwrap().body;
    assert_eq!(ttl, 5);
    assert_eq!(
        now(store.lease_grant(id, 5)),
        Err(Refusal::LeaseExists.into())
    );
    let leased = |key: &str| {
        Request::Put(PutRequest {
            key: bytes(key),
            lease: id,
            ..Default::default()
        })
    };
    run(&store, [leased("a1"), leased("a2")]).unwrap();
    run(&store, [put("a2", "moved away")]).unwrap();
    run(&store, [leased("a3")]).unwrap();
    let status = now(store.lease_time_to_live(id, true)).unwrap().body;
    assert_eq!(status.keys, [bytes("a1"), bytes("a3")]);
    store.expire(4_000);
    assert_eq!(now(store.lease_keep_alive(id)).unwrap().body, 5);
    store.expire(8_999);
    assert_eq!(now(store.leases()).unwrap().body, [id]);
    store.expire(9_000);
    let left = now(store.range(prefix())).unwrap();
    assert_eq!((left.revision, left.body.count), (5, 1));
    assert_eq!(now(store.lease_keep_alive(id)).unwrap().body, 0);
    assert_eq!(
        now(store.lease_time_to_live(id, false))
            .unwrap()
            .body
            .ttl_seconds,
        -1
    );
    assert_eq!(
        now(store.lease_revoke(id)),
        Err(Refusal::LeaseNotFound.into())
    );
}

#[test]
fn closing_ends_watches() {
    let store = MemStore::new();
    let request = WatchRequest {
        key: bytes("a"),
        ..Default::default()
    };
    let mut watch = now(store.watch(request)).unwrap();
    store.close();
    assert!(matches!(
        Pin::new(&mut watch).poll_next(&mut Context::from_waker(Waker::noop())),
        Poll::Ready(None)
    ));
}

//! Laws of the model, over random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use kv::mem::{MemState, MemStore};
use kv::*;
use proptest::prelude::*;

fn key(n: u8) -> Bytes {
    Bytes::from(format!("k{n:02}"))
}

fn put(k: u8, value: u8, lease: i64) -> RequestOp {
    let put = PutRequest {
        key: key(k),
        value: vec![value].into(),
        lease,
        prev_kv: true,
        ..Default::default()
    };
    RequestOp {
        request: Some(Request::Put(put)),
    }
}

fn delete(from: u8, to: Option<u8>) -> RequestOp {
    let range_end = to.map(key).unwrap_or_default();
    let delete = DeleteRangeRequest {
        key: key(from),
        range_end,
        prev_kv: true,
    };
    RequestOp {
        request: Some(Request::DeleteRange(delete)),
    }
}

fn read(from: u8, to: u8, revision: i64) -> RequestOp {
    let range = RangeRequest {
        key: key(from),
        range_end: key(to),
        revision,
        ..Default::default()
    };
    RequestOp {
        request: Some(Request::Range(range)),
    }
}

fn op() -> impl Strategy<Value = RequestOp> {
    prop_oneof![
        6 => (0u8..12, any::<u8>(), 0i64..4).prop_map(|(k, v, l)| put(k, v, if l == 3 { 0 } else { l })),
        2 => (0u8..12).prop_map(|k| delete(k, None)),
        1 => (0u8..12, 0u8..12).prop_map(|(a, b)| delete(a, Some(b))),
        2 => (0u8..12, 0u8..12, 0i64..30).prop_map(|(a, b, r)| read(a, b, r)),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    (0u8..12, 0i32..4, 0i32..5, 0i64..6, any::<bool>()).prop_map(
        |(k, result, target, n, ranged)| Compare {
            result,
            target,
            key: key(k),
            operand: Some(match target {
                0 => CompareOperand::Version(n),
                1 => CompareOperand::CreateRevision(n * 3),
                2 => CompareOperand::ModRevision(n * 3),
                3 => CompareOperand::Value(vec![n as u8].into()),
                _ => CompareOperand::Lease(n),
            }),
            range_end: if ranged { key(k + 3) } else { Bytes::new() },
        },
    )
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let ops = || proptest::collection::vec(op(), 0..3);
    let flat = || {
        (proptest::collection::vec(compare(), 0..2), ops(), ops()).prop_map(
            |(compare, success, failure)| TxnRequest {
                compare,
                success,
                failure,
            },
        )
    };
    (flat(), proptest::option::of(flat())).prop_map(|(mut outer, nested)| {
        if let Some(nested) = nested {
            outer.success.push(RequestOp {
                request: Some(Request::Txn(nested)),
            });
        }
        outer
    })
}

fn auth_change() -> impl Strategy<Value = AuthChange> {
    let name = || prop_oneof![Just("root".to_string()), Just("u".to_string())];
    prop_oneof![
        Just(AuthChange::Enable(AuthEnable {
            token_key: "key".into()
        })),
        Just(AuthChange::Disable(AuthDisable {})),
        name().prop_map(|name| AuthChange::UserAdd(UserAdd {
            name,
            password_hash: "hash".into(),
            no_password: false,
        })),
        name().prop_map(|name| AuthChange::UserDelete(Named { name })),
        name().prop_map(|name| AuthChange::RoleAdd(Named { name })),
        name().prop_map(|name| AuthChange::RoleDelete(Named { name })),
        (name(), name())
            .prop_map(|(user, role)| AuthChange::UserGrantRole(UserRole { user, role })),
        (name(), 0u8..9, 0u8..9).prop_map(|(role, from, to)| AuthChange::RoleGrant(RoleGrant {
            role,
            permission: Some(Permission {
                kind: 2,
                key: key(from),
                range_end: key(to)
            }),
        })),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        12 => txn().prop_map(Command::Txn),
        2 => (1i64..3).prop_map(|id| Command::LeaseGrant(Lease { id, ttl_seconds: 5, nonce: 1 })),
        1 => (1i64..3).prop_map(|id| Command::LeaseRevoke(LeaseRevoke { id })),
        1 => (1u64..3).prop_map(|term| Command::LeaseExpire(LeaseExpire { ids: vec![1, 2], term, nonces: vec![1, 1] })),
        1 => (1u64..3, 0i32..3, any::<bool>()).prop_map(|(member, kind, raised)| {
            Command::Alarm(AlarmChange { alarm: Alarm { member, kind }, raised })
        }),
        1 => auth_change().prop_map(|change| Command::Auth(AuthCommand { change: Some(change) })),
        1 => (1i64..30).prop_map(|revision| Command::Compact(Compact { revision })),
    ]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (0i64..9, command()).prop_map(|(now_ms, command)| Entry::new(now_ms, command));
    proptest::collection::vec(entry, 1..60)
}

type Dump = (
    Vec<KeyValue>,
    Vec<(i64, Vec<Event>)>,
    Vec<(Lease, BTreeSet<Bytes>)>,
    i64,
    i64,
    usize,
    (StateHash, Vec<(Bytes, Bytes)>, i64),
);

fn dump(state: &MemState) -> Dump {
    let events = state
        .data
        .events()
        .map(|(revision, events)| (revision, events.to_vec()));
    let catalog = &state.catalog;
    let leases = catalog.leases();
    let leases = leases.map(|record| (record.lease, record.keys.clone()));
    let leases = leases.collect();
    let keys = state.data.keys().cloned().collect();
    let (revision, compacted) = (catalog.revision(), catalog.compact_revision());
    (
        keys,
        events.collect(),
        leases,
        revision,
        compacted,
        catalog.history_len(),
        (
            catalog.state_hash(),
            state.view().records(b""),
            catalog.now_ms(),
        ),
    )
}

fn all(revision: i64) -> RangeRequest {
    RangeRequest {
        key: key(0),
        range_end: Bytes::from_static(&[0]),
        revision,
        ..Default::default()
    }
}

fn poll(stream: &mut (impl Stream<Item = WatchItem> + Unpin)) -> Poll<Option<WatchItem>> {
    // The stream wakes itself while it works through the log.
    for _ in 0..100 {
        if let ready @ Poll::Ready(_) =
            Pin::new(&mut *stream).poll_next(&mut Context::from_waker(Waker::noop()))
        {
            return ready;
        }
    }
    Poll::Pending
}

fn now<T>(mut future: BoxFuture<'_, T>) -> T {
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store answers at once"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A batch applied to one overlay and stored at once is the same as its entries one by one.
    #[test]
    fn staged_is_flushed(entries in entries(), batch in 1usize..20) {
        let mut one_by_one = MemState::default();
        let mut batched = MemState::default();
        for batch in entries.chunks(batch) {
            let view = batched.view();
            let mut staged = Staged::new(&view);
            for entry in batch {
                let (want, _) = one_by_one.apply(entry, 1).unwrap();
                prop_assert_eq!(apply(&mut staged, entry, 1).unwrap(), want);
            }
            let flushed = one_by_one.view();
            prop_assert_eq!(staged.count(&KeyRange::all()), flushed.count(&KeyRange::all()));
            for revision in 0..flushed.revision() + 2 {
                prop_assert_eq!(range(&staged, &all(revision)).unwrap(), range(&flushed, &all(revision)).unwrap());
            }
            for id in 0..3 {
                prop_assert_eq!(staged.lease_keys(id), flushed.lease_keys(id));
            }
            prop_assert_eq!(staged.lease_ids(), flushed.lease_ids());
            let writes = staged.into_writes();
            batched.catalog.absorb(&writes);
            batched.data.store(&writes);
            prop_assert_eq!(dump(&batched), dump(&one_by_one));
        }
    }

    /// Revisions grow by one where something changed and else stand still; a refused entry changes nothing.
    #[test]
    fn revisions_grow_and_refusals_change_nothing(entries in entries()) {
        let mut state = MemState::default();
        for entry in &entries {
            let before = dump(&state);
            let (response, writes) = state.apply(entry, 1).unwrap();
            let events: Vec<i64> = writes.iter().filter_map(|write| match write {
                Write::Events { revision, .. } => Some(*revision),
                _ => None,
            }).collect();
            let grown: Vec<i64> = (before.3 + 1..=state.catalog.revision()).collect();
            prop_assert_eq!(events, grown);
            prop_assert_eq!(response.revision, state.catalog.revision());
            if response.body.is_err() {
                prop_assert_eq!(dump(&state), before);
            }
        }
    }

    /// A read at an old revision gives what a read gave then, in whole and in part.
    #[test]
    fn old_revisions_read_as_recorded(entries in entries(), limit in 1i64..6) {
        let mut state = MemState::default();
        let mut recorded: BTreeMap<i64, Vec<KeyValue>> = BTreeMap::new();
        for entry in &entries {
            let before = state.catalog.revision();
            state.apply(entry, 1).unwrap();
            if state.catalog.revision() > before + 1 {
                // An expiry of two leases makes two revisions, of which only the last can be recorded.
                recorded.remove(&(before + 1));
            }
            recorded.insert(state.catalog.revision(), state.data.keys().cloned().collect());
        }
        let view = state.view();
        for (revision, want) in &recorded {
            let got = range(&view, &all(*revision)).unwrap();
            if *revision < view.compact_revision() {
                let refusal = Refusal::Compacted { compact_revision: view.compact_revision() };
                prop_assert_eq!(got, Err(refusal));
                continue;
            }
            let got = got.unwrap();
            prop_assert_eq!(&got.kvs, want);
            prop_assert_eq!(got.count, want.len() as i64);
            let part = range(&view, &RangeRequest { limit, ..all(*revision) }).unwrap().unwrap();
            prop_assert_eq!(&part.kvs, &want[..want.len().min(limit as usize)]);
            prop_assert_eq!((part.more, part.count), (want.len() > limit as usize, want.len() as i64));
            for kv in want {
                let one = RangeRequest { key: kv.key.clone(), revision: *revision, ..Default::default() };
                prop_assert_eq!(&range(&view, &one).unwrap().unwrap().kvs, &vec![kv.clone()]);
            }
        }
    }

    /// A catalog loaded from the data is the one that grew with it.
    #[test]
    fn loaded_catalog_is_the_grown_one(entries in entries()) {
        let mut state = MemState::default();
        for entry in &entries {
            state.apply(entry, 1).unwrap();
        }
        let mut loaded = Catalog::new();
        loaded.load_revisions(state.catalog.revision(), state.catalog.compact_revision());
        loaded.load_clock(state.catalog.now_ms());
        for (name, value) in state.view().records(b"") {
            loaded.load_record(name, value);
        }
        state.catalog.leases().for_each(|record| loaded.load_lease(record.lease));
        state.data.keys().for_each(|kv| loaded.load_key(kv));
        for (revision, events) in state.data.events() {
            for (sub, event) in events.iter().enumerate() {
                loaded.load_event(EventId { revision, sub: sub as u32 }, event);
            }
        }
        prop_assert_eq!(dump(&MemState { catalog: loaded, data: state.data.clone() }), dump(&state));
    }

    /// Whatever the ring's size, where a watch starts and when it is polled, it delivers the history of its keys.
    #[test]
    fn watch_is_history(
        entries in entries(),
        ring in 1usize..6,
        keeps_taken in any::<bool>(),
        start in 1i64..20,
        created_at in 0usize..60,
        polls in proptest::collection::vec(0usize..4, 60),
    ) {
        let limits = HubLimits {
            revisions: ring,
            taken_bytes: if keeps_taken { 4 << 20 } else { 0 },
            history_bytes: 600,
            ..HubLimits::default()
        };
        let store = MemStore::with_limits(limits);
        let mut model = MemState::default();
        let mut want: Vec<(i64, Vec<Event>)> = Vec::new();
        let mut got: Vec<(i64, Vec<Event>)> = Vec::new();
        let mut told = start - 1;
        let mut now_ms = 0;
        let mut compacted = None;
        let watched = KeyRange::new(&key(3), &key(9));
        let request = WatchRequest { key: key(3), range_end: key(9), start_revision: start };
        let mut stream = None;
        let created_at = created_at.min(entries.len() - 1);
        let mut take = |stream: &mut WatchStream, most: usize, compact_revision_now: i64| -> Result<(), TestCaseError> {
            for _ in 0..most {
                match poll(stream) {
                    Poll::Ready(Some(WatchItem::Events { revision, events })) => {
                        prop_assert!(revision > told, "{revision} after {told}");
                        told = revision;
                        got.push((revision, events.to_vec()));
                    }
                    Poll::Ready(Some(WatchItem::Progress { revision })) => {
                        prop_assert!(revision >= told);
                        told = revision;
                    }
                    Poll::Ready(Some(WatchItem::Compacted { compact_revision })) => {
                        // Compared here and not at the end, since the history may be compacted further afterwards.
                        prop_assert_eq!(compact_revision, compact_revision_now);
                        compacted = Some((told, compact_revision));
                    }
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            Ok(())
        };
        for (n, entry) in entries.iter().enumerate() {
            if n == created_at {
                stream = Some(now(store.watch(request.clone())).unwrap());
            }
            let (_, writes) = model.apply(entry, 1).unwrap();
            for write in writes {
                if let Write::Events { revision, events, .. } = write && revision >= start {
                    let mine: Vec<Event> =
                        events.iter().filter(|event| watched.contains(&event.kv.key)).cloned().collect();
                    if !mine.is_empty() {
                        want.push((revision, mine));
                    }
                }
            }
            feed(&store, &mut now_ms, entry);
            if let Some(stream) = &mut stream {
                take(stream, polls[n], model.catalog.compact_revision())?;
            }
        }
        let revision = now(store.read_index()).unwrap();
        prop_assert_eq!(revision, model.catalog.revision());
        if let Some(stream) = &mut stream {
            take(stream, usize::MAX, model.catalog.compact_revision())?;
        }
        match compacted {
            None => {
                prop_assert_eq!(&got, &want);
                prop_assert!(told >= revision, "told {told} of {revision}");
            }
            Some((told, compact_revision)) => {
                prop_assert!(told + 1 < compact_revision);
                prop_assert_eq!(&got[..], &want[..got.len()]);
            }
        }
    }
}

/// Drives a store by an entry through its public face.
fn feed(store: &Arc<MemStore>, now_ms: &mut i64, entry: &Entry) {
    match entry.command.clone().unwrap() {
        Command::Txn(request) => drop(now(store.txn(request))),
        Command::Compact(request) => drop(now(store.compact(request.revision))),
        Command::LeaseGrant(lease) => drop(now(store.lease_grant(lease.id, lease.ttl_seconds))),
        Command::LeaseRevoke(lease) => drop(now(store.lease_revoke(lease.id))),
        // Of term 2 it does not count; else everything has run out that far in the future.
        Command::LeaseExpire(request) if request.term == 1 => {
            let ids = now(store.leases()).unwrap().body;
            let left = |id: &i64| {
                now(store.lease_time_to_live(*id, false))
                    .unwrap()
                    .body
                    .ttl_seconds
            };
            let most = ids.iter().map(left).max().unwrap_or(0);
            *now_ms += most * 1000;
            store.expire(*now_ms);
        }
        // No revision comes of it.
        Command::LeaseExpire(_) | Command::Alarm(_) | Command::Auth(_) => {}
    }
}

/// The lease clock goes by it.
#[test]
fn a_lease_that_is_granted_again_is_told_from_the_earlier_one() {
    let mut catalog = Catalog::new();
    let lease = Lease {
        id: 7,
        ttl_seconds: 5,
        nonce: 0,
    };
    let mut seen = BTreeSet::new();
    let ways: [&[Write]; 3] = [
        &[Write::Lease(lease)],
        &[Write::LeaseEnd(7), Write::Lease(lease)],
        // What is left of an end and a grant in one batch.
        &[Write::Lease(lease)],
    ];
    for writes in ways {
        catalog.absorb(writes);
        assert!(seen.insert(catalog.lease(7).unwrap().grant), "{writes:?}");
    }
}

fn expire(state: &mut MemState, ids: &[i64], nonces: &[u64]) {
    let expire = LeaseExpire {
        ids: ids.to_vec(),
        term: 1,
        nonces: nonces.to_vec(),
    };
    let entry = Entry::new(0, Command::LeaseExpire(expire));
    state.apply(&entry, 1).unwrap().0.body.unwrap();
}

#[test]
fn an_expiry_that_was_decided_before_a_lease_was_granted_anew_does_not_end_it() {
    let mut state = MemState::default();
    let grant = |state: &mut MemState, nonce| {
        let lease = Lease {
            id: 7,
            ttl_seconds: 5,
            nonce,
        };
        let entry = Entry::new(0, Command::LeaseGrant(lease));
        state.apply(&entry, 1).unwrap().0.body.unwrap();
    };
    grant(&mut state, 1);
    let revoke = Entry::new(0, Command::LeaseRevoke(LeaseRevoke { id: 7 }));
    state.apply(&revoke, 1).unwrap().0.body.unwrap();
    grant(&mut state, 2);
    expire(&mut state, &[7], &[1]);
    assert!(state.catalog.lease(7).is_some());
    expire(&mut state, &[7], &[2]);
    assert!(state.catalog.lease(7).is_none());
    // As members wrote it that knew no nonces.
    grant(&mut state, 3);
    expire(&mut state, &[7], &[]);
    assert!(state.catalog.lease(7).is_none());
}

#[test]
fn times_of_revisions_grow_whatever_clocks_say() {
    let mut state = MemState::default();
    let mut times = Vec::new();
    let compact = Command::Compact(Compact { revision: 1 });
    let write = |value| {
        Command::Txn(TxnRequest {
            success: vec![put(1, value, 0)],
            ..TxnRequest::default()
        })
    };
    // An entry that makes no revision moves no clock: members put entries into batches as they come.
    for (now_ms, command) in [(5, write(1)), (9, compact), (7, write(2)), (6, write(3))] {
        let (_, writes) = state.apply(&Entry::new(now_ms, command), 1).unwrap();
        times.extend(writes.iter().filter_map(|write| match write {
            Write::Events { now_ms, .. } => Some(*now_ms),
            _ => None,
        }));
    }
    assert_eq!(times, [5, 7, 7]);
    assert_eq!(state.catalog.now_ms(), 7);
}

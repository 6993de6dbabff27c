//! Leases: granted, revoked, and ended by a command. The model knows no time: when a lease has run out is the
//! leader's decision, which arrives as [`crate::LeaseExpire`].

use crate::command::{Lease, Refusal};
use crate::mutants::{Bug, planted};
use crate::store::LeaseStatus;
use crate::view::{Broken, Data, Staged, View};

/// Longest time to live: etcd's limit.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

pub(crate) fn grant(staged: &mut Staged<'_>, lease: Lease) -> Result<Lease, Refusal> {
    if lease.ttl_seconds > LEASE_TTL_SECONDS_MAX {
        return Err(Refusal::LeaseTtlTooLarge);
    }
    if lease.id == 0 || staged.lease(lease.id).is_some() {
        return Err(Refusal::LeaseExists);
    }
    let lease = Lease {
        ttl_seconds: lease.ttl_seconds.max(1),
        ..lease
    };
    staged.set_lease(lease.id, Some(lease));
    Ok(lease)
}

/// Ends a lease; its keys go in one revision, in key order.
pub(crate) fn revoke(staged: &mut Staged<'_>, id: i64) -> Result<Result<(), Refusal>, Broken> {
    if staged.lease(id).is_none() {
        return Ok(Err(Refusal::LeaseNotFound));
    }
    let keys = staged.lease_keys(id);
    // Together, since they may stand side by side in files, and their events hold all of them anyway.
    for pair in staged.get_many(&keys)?.into_iter().flatten() {
        staged.delete_read(pair);
        if planted(Bug::RevokesKeyByKey) {
            staged.seal();
        }
    }
    staged.seal();
    staged.set_lease(id, None);
    Ok(Ok(()))
}

/// What a client is told of a lease; `ttl_seconds` is what the lease clock says is left.
pub fn lease_status(view: &dyn View, id: i64, keys: bool, ttl_seconds: i64) -> LeaseStatus {
    match view.lease(id) {
        None => LeaseStatus {
            id,
            ttl_seconds: -1,
            ..LeaseStatus::default()
        },
        Some(lease) => LeaseStatus {
            id,
            ttl_seconds,
            granted_ttl_seconds: lease.ttl_seconds,
            keys: if keys {
                view.lease_keys(id)
            } else {
                Vec::new()
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mem::{MemData, MemState};
    use crate::view::{EventId, Joined, Visit, Write};
    use crate::{
        Command, Entry, Event, EventKind, KeyRange, KeyValue, LeaseRevoke, PutRequest, Request,
        RequestOp, TxnRequest, apply,
    };

    /// Gives several keys together, and none alone.
    struct Together<'a>(&'a MemData);

    impl Data for Together<'_> {
        fn get(&self, _: &[u8]) -> Result<Option<KeyValue>, Broken> {
            Err(Broken("a key was read alone".into()))
        }

        fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
            assert!(keys.is_sorted());
            self.0.get_many(keys)
        }

        fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
            self.0.scan(range, visit)
        }

        fn event(&self, id: EventId) -> Result<Event, Broken> {
            self.0.event(id)
        }
    }

    fn put(key: &'static str, lease: i64) -> Entry {
        let put = PutRequest {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(b"v"),
            lease,
            ..PutRequest::default()
        };
        let request = TxnRequest {
            success: vec![RequestOp {
                request: Some(Request::Put(put)),
            }],
            ..TxnRequest::default()
        };
        Entry::new(0, Command::Txn(request))
    }

    #[test]
    fn the_keys_of_a_lease_that_ends_are_read_together() {
        let mut state = MemState::default();
        let lease = Lease {
            id: 7,
            ttl_seconds: 60,
            ..Lease::default()
        };
        let grant = Entry::new(0, Command::LeaseGrant(lease));
        state.apply(&grant, 1).unwrap();
        for (key, lease) in [("d", 7), ("c", 0), ("a", 7)] {
            state.apply(&put(key, lease), 1).unwrap();
        }
        let base = Joined {
            catalog: &state.catalog,
            data: &Together(&state.data),
        };
        let mut staged = Staged::new(&base);
        // One of the same batch, which is not stored yet.
        apply(&mut staged, &put("b", 7), 1).unwrap();
        let revoke = Entry::new(0, Command::LeaseRevoke(LeaseRevoke { id: 7 }));
        let answer = apply(&mut staged, &revoke, 1).unwrap();
        assert!(answer.body.is_ok(), "{answer:?}");
        let writes = staged.into_writes();
        let events = writes.iter().filter_map(|write| match write {
            Write::Events { events, .. } => Some(events),
            _ => None,
        });
        let gone = events
            .flat_map(|events| events.iter())
            .filter(|event| event.kind == EventKind::Delete as i32)
            .map(|event| {
                let prev = event.prev_kv.as_ref().expect("it was there");
                (&*event.kv.key, &*prev.key, &*prev.value)
            });
        let expected = [b"a", b"b", b"d"].map(|key| (&key[..], &key[..], &b"v"[..]));
        assert_eq!(gone.collect::<Vec<_>>(), expected);
    }
}

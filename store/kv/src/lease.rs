//! Leases: granted, revoked, and ended by a command. The model knows no time: when a lease has run out is the
//! leader's decision, which arrives as [`crate::LeaseExpire`].

use crate::command::{Lease, Refusal};
use crate::mutants::{Bug, planted};
use crate::store::LeaseStatus;
use crate::view::{Broken, Staged, View};

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
    for key in staged.lease_keys(id) {
        staged.delete(&key)?;
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

//! etcd's Lock service.

use bytes::Bytes;
use kv::{Answer, DeleteRangeRequest, Request as Operation};

use super::auth::to_lock;
use super::errors::Fault;
use super::headed::Headed;
use super::kv::single;
use super::message::{Empty, LockBody, LockRequest, UnlockRequest};
use super::rpc::Call;
use super::turn::Place;

/// Waits for the lock. A client that goes away while it waits loses its place; one that has the lock keeps it until it
/// unlocks or its lease ends.
pub(super) async fn lock(call: Call, request: LockRequest) -> Result<Headed<LockBody>, Fault> {
    let front = &call.front;
    let needs = to_lock(&request)?;
    let (place, _) = Place::take(front, &request.name, request.lease, Bytes::new()).await?;
    let revision = place.wait().await?.ok_or(Fault::SessionExpired)?;
    // It may have been long: who may not lock any more does not get the lock.
    call.admit(needs).await?;
    let body = LockBody {
        key: place.key.clone(),
    };
    place.keep();
    Ok(front.headed(Answer { revision, body }))
}

pub(super) async fn unlock(call: Call, request: UnlockRequest) -> Result<Headed<Empty>, Fault> {
    let delete = DeleteRangeRequest {
        key: request.key,
        ..DeleteRangeRequest::default()
    };
    let answer = call
        .front
        .backend
        .txn(single(Operation::DeleteRange(delete)))
        .await?;
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body: Empty {},
    }))
}

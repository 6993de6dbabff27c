//! etcd's Lease service.

use kv::Answer;

use super::errors::Fault;
use super::headed::Headed;
use super::message::{
    Empty, LeaseGrantBody, LeaseGrantRequest, LeaseId, LeaseKeepAliveBody, LeaseLeasesBody,
    LeaseTimeToLiveBody, LeaseTimeToLiveRequest,
};
use super::rpc::{Answers, Asked, Call, Incoming};

pub(super) async fn grant(
    call: Call,
    request: LeaseGrantRequest,
) -> Result<Headed<LeaseGrantBody>, Fault> {
    let answer = call
        .front
        .backend
        .lease_grant(request.id, request.ttl)
        .await?;
    let (id, ttl) = answer.body;
    let body = LeaseGrantBody {
        id,
        ttl,
        error: String::new(),
    };
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body,
    }))
}

pub(super) async fn revoke(call: Call, request: LeaseId) -> Result<Headed<Empty>, Fault> {
    let answer = call.front.backend.lease_revoke(request.id).await?;
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body: Empty {},
    }))
}

/// One answer to each request, in order. An unknown lease has a time to live of 0, and is no error.
pub(super) async fn keep_alive(
    call: Call,
    requests: Incoming<LeaseId>,
) -> Result<Answers<Headed<LeaseKeepAliveBody>>, Fault> {
    let state = Some((call, requests));
    Ok(Box::pin(futures::stream::unfold(state, |state| async {
        let (call, mut requests) = state?;
        let stop = call.front.stop.clone();
        let answered = async {
            match requests.next().await? {
                None => Ok(None),
                // The store takes the header's revision before it renews, so that no renewal is reported at a
                // revision after the lease's end.
                Some(Asked { request, allowed }) => {
                    let LeaseId { id } = request;
                    allowed?;
                    let answer = call.front.backend.lease_keep_alive(id).await?;
                    Ok(Some(call.front.headed(Answer {
                        revision: answer.revision,
                        body: LeaseKeepAliveBody {
                            id,
                            ttl: answer.body,
                        },
                    })))
                }
            }
        };
        let answered = tokio::select! {
            biased;
            () = stop.cancelled() => Err(kv::StoreError::Stopped.into()),
            answered = answered => answered,
        };
        match answered {
            Ok(None) => None,
            Ok(Some(answer)) => Some((Ok(answer), Some((call, requests)))),
            Err(fault) => Some((Err(fault), None)),
        }
    })))
}

/// An unknown lease has a time to live of -1, and is no error.
pub(super) async fn time_to_live(
    call: Call,
    request: LeaseTimeToLiveRequest,
) -> Result<Headed<LeaseTimeToLiveBody>, Fault> {
    let answer = call
        .front
        .backend
        .lease_time_to_live(request.id, request.keys)
        .await?;
    let status = answer.body;
    // The very keys that are told: those of the lease may have been others when the question came.
    call.may_read(&status.keys).await?;
    let body = LeaseTimeToLiveBody {
        id: request.id,
        ttl: status.ttl_seconds,
        granted_ttl: status.granted_ttl_seconds,
        keys: status.keys,
    };
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body,
    }))
}

pub(super) async fn leases(call: Call, _: Empty) -> Result<Headed<LeaseLeasesBody>, Fault> {
    let answer = call.front.backend.leases().await?;
    let leases = answer.body.into_iter().map(|id| LeaseId { id }).collect();
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body: LeaseLeasesBody { leases },
    }))
}

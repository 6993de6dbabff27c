//! Whose turn it is: keys under one prefix, the first created one has it. Locks and elections are this, and clients
//! that do the same with plain transactions (as `etcdctl lock` does) stand in the same line.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use kv::{
    Compare, CompareOperand, CompareTarget, EventKind, KeyValue, PutRequest, RangeRequest,
    Request as Operation, RequestOp, ResponseBody, SortOrder, SortTarget, StoreError, TxnRequest,
    WatchItem, WatchRequest,
};

use super::errors::Fault;
use super::front::Front;
use super::kv::get;
use crate::host;

/// Time to live of a lease that nobody named, in seconds: that of etcd's sessions.
const SESSION_SECONDS: i64 = 60;
/// How often such a lease is renewed while its place is not first.
const RENEW: Duration = Duration::from_secs(SESSION_SECONDS as u64 / 3);

/// A place in the line, given up when this is dropped unless it was kept.
pub(super) struct Place {
    front: Arc<Front>,
    prefix: Bytes,
    pub(super) key: Bytes,
    /// Of the key's creation.
    pub(super) revision: i64,
    pub(super) lease: i64,
    /// Nobody else renews the lease: this does, so often, as long as it waits.
    pub(super) renew: Option<Duration>,
    kept: bool,
}

impl Place {
    /// Takes a place; one that this lease has taken before is kept as it is, and its pair is answered.
    pub(super) async fn take(
        front: &Arc<Front>,
        name: &Bytes,
        lease: i64,
        value: Bytes,
    ) -> Result<(Place, Option<KeyValue>), Fault> {
        let (lease, renew) = match lease {
            0 => {
                let granted = front.backend.lease_grant(0, SESSION_SECONDS).await?;
                (granted.body.0, Some(RENEW))
            }
            lease => (lease, None),
        };
        let prefix = prefix_of(name);
        let key = place_of(&prefix, lease);
        let put = PutRequest {
            key: key.clone(),
            value,
            lease,
            ..PutRequest::default()
        };
        let txn = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Operation::Put(put))],
            failure: vec![op(Operation::Range(RangeRequest {
                key: key.clone(),
                ..RangeRequest::default()
            }))],
        };
        let answer = front.backend.txn(txn).await?;
        let mut place = Place {
            front: front.clone(),
            prefix,
            key,
            revision: answer.revision,
            lease,
            renew,
            kept: false,
        };
        let found = answer.body.responses.into_iter().next();
        if let Some(Some(ResponseBody::Range(range))) = found.map(|found| found.response) {
            let kv = range.kvs.into_iter().next().ok_or(Fault::SessionExpired)?;
            place.revision = kv.create_revision;
            return Ok((place, Some(kv)));
        }
        Ok((place, None))
    }

    /// Waits until all who came before are gone; answers a revision at which that is so and this place is still there.
    /// `None` where it has gone meanwhile: the lease has ended, or somebody deleted the key.
    pub(super) async fn wait(&self) -> Result<Option<i64>, Fault> {
        tokio::select! {
            biased;
            first = self.first() => first?,
            never = self.stay() => match never {},
        }
        let own = get(&*self.front.backend, &self.key).await?;
        let created = own.body.map(|kv| kv.create_revision);
        Ok((created == Some(self.revision)).then_some(own.revision))
    }

    /// Renews a lease that nobody else renews.
    async fn stay(&self) -> Infallible {
        let Some(renew) = self.renew else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(renew).await;
            if let Err(error) = self.front.backend.lease_keep_alive(self.lease).await {
                tracing::debug!(%error, "the lease of a place in line is not renewed yet");
            }
        }
    }

    /// Waits until all who came before are gone.
    async fn first(&self) -> Result<(), Fault> {
        loop {
            let before = RangeRequest {
                max_create_revision: self.revision - 1,
                sort_order: SortOrder::Descend as i32,
                sort_target: SortTarget::Create as i32,
                limit: 1,
                ..under(&self.prefix)
            };
            let answer = self.front.backend.range(before).await?;
            let Some(ahead) = answer.body.kvs.into_iter().next() else {
                return Ok(());
            };
            gone(&self.front, ahead.key, answer.revision).await?;
        }
    }

    /// The place outlives this.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (front, key, revision) = (self.front.clone(), self.key.clone(), self.revision);
        // The store's calls have a deadline of their own.
        self.front.tasks.spawn(host::here(async move {
            if let Err(error) = front.backend.txn(delete_if(&key, revision)).await {
                tracing::debug!(%error, "a place in line was left; its lease will end it");
            }
        }));
    }
}

/// Waits until this key is deleted, later than at this revision.
async fn gone(front: &Front, key: Bytes, revision: i64) -> Result<(), Fault> {
    let request = WatchRequest {
        key,
        range_end: Bytes::new(),
        start_revision: revision + 1,
    };
    let mut watch = front.backend.watch(request).await?;
    let stop = front.stop.clone();
    loop {
        let item = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            item = watch.next() => item,
        };
        match item {
            Some(WatchItem::Events { events, .. }) => {
                let delete = EventKind::Delete as i32;
                if events.iter().any(|event| event.kind == delete) {
                    return Ok(());
                }
            }
            Some(WatchItem::Progress { .. }) => {}
            // Whether it is gone has to be looked at anew.
            Some(WatchItem::Compacted { .. }) => return Ok(()),
            None => return Err(StoreError::Stopped.into()),
        }
    }
}

/// Names end in a slash, so that `a` and `ab` are two.
pub(super) fn prefix_of(name: &Bytes) -> Bytes {
    let mut prefix = BytesMut::with_capacity(name.len() + 1);
    prefix.put_slice(name);
    prefix.put_u8(b'/');
    prefix.freeze()
}

/// The key of who stands in line by this lease.
pub(super) fn place_of(prefix: &Bytes, lease: i64) -> Bytes {
    let mut key = BytesMut::from(&prefix[..]);
    key.put_slice(format!("{lease:x}").as_bytes());
    key.freeze()
}

/// All keys with this prefix, which ends in a slash.
pub(super) fn under(prefix: &Bytes) -> RangeRequest {
    let mut end = BytesMut::from(&prefix[..]);
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    RangeRequest {
        key: prefix.clone(),
        range_end: end.freeze(),
        ..RangeRequest::default()
    }
}

/// Whose turn it is.
pub(super) fn first_under(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        limit: 1,
        ..under(prefix)
    }
}

pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Create as i32,
        key: key.clone(),
        operand: Some(CompareOperand::CreateRevision(revision)),
        ..Compare::default()
    }
}

/// Deletes the key if it is still the one that was created then.
pub(super) fn delete_if(key: &Bytes, revision: i64) -> TxnRequest {
    let delete = kv::DeleteRangeRequest {
        key: key.clone(),
        ..Default::default()
    };
    TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(Operation::DeleteRange(delete))],
        failure: Vec::new(),
    }
}

pub(super) fn op(request: Operation) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

//! The optimistic transaction under every write: read, decide, write if nobody wrote in between, else once more.
//!
//! The first attempt decides on the cached object, which saves a read; whatever that attempt would refuse is decided
//! again on the store's newest state before the client hears about it.

use std::time::Duration;

use bytes::Bytes;
use kv::{
    Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest,
    RangeRequest, Request, RequestOp, StoreError, TxnRequest,
};
use resources::Resource;
use schema::Object;

use crate::ApiServer;
use crate::codec::{self, Versioned};
use crate::entry;
use crate::status::{ApiError, ApiResult};

/// More lost races than this on one object mean that something is wrong with the client, not with luck.
const ATTEMPTS_MAX: usize = 64;
/// A write whose leader went away is sent again this often, with this pause: together longer than an election.
const UNSURE_ATTEMPTS_MAX: usize = 40;
const UNSURE_PAUSE: Duration = Duration::from_millis(100);

/// Keys that change in the same transaction as the object (service addresses).
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) compare: Vec<Compare>,
    pub(crate) ops: Vec<RequestOp>,
}

impl Extra {
    /// Takes `key`, or loses the transaction where somebody has it.
    pub(crate) fn claim(&mut self, key: String, owner: &str) {
        self.compare.push(created_at(&key, 0));
        self.ops.push(put(&key, Bytes::from(owner.to_owned()), 0));
    }

    pub(crate) fn release(&mut self, key: String) {
        self.ops.push(delete(&key));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.compare.is_empty() && self.ops.is_empty()
    }
}

pub(crate) enum Commit {
    /// Written, at this revision.
    Done(i64),
    /// A compare did not hold; nothing was written.
    Lost,
}

/// An object as it is stored now, in the shape of the request.
pub(crate) struct Current {
    pub(crate) object: Object,
    pub(crate) revision: i64,
}

/// What to do with the object that was read.
pub(crate) enum Step {
    Write(Object, Extra),
    Remove(Object, Extra),
    Keep(Object),
}

/// What became of it. `object` carries the resourceVersion after the write.
pub(crate) struct Outcome {
    pub(crate) object: Object,
    pub(crate) removed: bool,
}

fn created_at(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: Bytes::from(key.to_owned()),
        operand: Some(CompareOperand::CreateRevision(revision)),
        range_end: Bytes::new(),
    }
}

fn modified_at(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: Bytes::from(key.to_owned()),
        operand: Some(CompareOperand::ModRevision(revision)),
        range_end: Bytes::new(),
    }
}

fn put(key: &str, value: Bytes, lease: i64) -> RequestOp {
    let request = PutRequest {
        key: Bytes::from(key.to_owned()),
        value,
        lease,
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Request::Put(request)),
    }
}

fn delete(key: &str) -> RequestOp {
    let request = DeleteRangeRequest {
        key: Bytes::from(key.to_owned()),
        ..DeleteRangeRequest::default()
    };
    RequestOp {
        request: Some(Request::DeleteRange(request)),
    }
}

impl ApiServer {
    /// Writes once. A write whose fate is unknown, since the leader went away under it, is sent again: its compares let
    /// only one of the two take effect. Clients must not be told to repeat it, for their second attempt would meet the
    /// object that their first one made.
    async fn commit(&self, compare: Compare, op: RequestOp, extra: Extra) -> ApiResult<Commit> {
        let mut request = TxnRequest {
            compare: vec![compare],
            success: vec![op],
            failure: Vec::new(),
        };
        request.compare.extend(extra.compare);
        request.success.extend(extra.ops);
        let mut unsure = None;
        for _ in 0..UNSURE_ATTEMPTS_MAX {
            match self.store.txn(request.clone()).await {
                Ok(answer) if answer.body.succeeded => return Ok(Commit::Done(answer.revision)),
                Ok(_) if unsure.is_some() => return self.settle(&request.success[0]).await,
                Ok(_) => return Ok(Commit::Lost),
                Err(error @ StoreError::LeaderChanged) => unsure = Some(error),
                Err(error @ (StoreError::TimedOut | StoreError::Stopped)) => {
                    unsure = Some(error);
                    break;
                }
                Err(StoreError::NoLeader | StoreError::Overloaded) if unsure.is_some() => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(UNSURE_PAUSE).await;
        }
        Err(unsure.map_or_else(
            || ApiError::internal("the store did not answer"),
            ApiError::fate_unknown,
        ))
    }

    /// What a write that did not succeed the second time did the first time.
    async fn settle(&self, op: &RequestOp) -> ApiResult<Commit> {
        let (key, written) = match &op.request {
            Some(Request::Put(put)) => (put.key.clone(), Some(&put.value)),
            Some(Request::DeleteRange(delete)) => (delete.key.clone(), None),
            _ => return Ok(Commit::Lost),
        };
        let request = RangeRequest {
            key,
            ..RangeRequest::default()
        };
        let answer = self.store.range(request).await?;
        Ok(match (answer.body.kvs.first(), written) {
            // The uid in the value tells ours from everybody else's.
            (Some(pair), Some(value)) if pair.value == *value => Commit::Done(pair.mod_revision),
            (None, None) => Commit::Done(answer.revision),
            _ => Commit::Lost,
        })
    }

    /// Creates a key that must not exist.
    pub(crate) async fn commit_create(
        &self,
        resource: &Resource,
        key: &str,
        object: &Object,
        extra: Extra,
    ) -> ApiResult<Commit> {
        let lease = self.leases.for_write(self, resource).await?;
        let value = stored(resource, object);
        self.commit(created_at(key, 0), put(key, value, lease), extra)
            .await
    }

    async fn commit_update(
        &self,
        resource: &Resource,
        key: &str,
        revision: i64,
        object: &Object,
        extra: Extra,
    ) -> ApiResult<Commit> {
        let lease = self.leases.for_write(self, resource).await?;
        let value = stored(resource, object);
        self.commit(modified_at(key, revision), put(key, value, lease), extra)
            .await
    }

    /// The object under `key`: from the cache, or linearizably from the store when `fresh`.
    pub(crate) async fn current(
        &self,
        resource: &'static Resource,
        key: &str,
        fresh: bool,
    ) -> ApiResult<Option<Current>> {
        if !fresh {
            let entry = self.world.cache(resource).and_then(|cache| cache.get(key));
            return Ok(entry.map(|entry| Current {
                object: entry.object_as(resource),
                revision: entry.revision,
            }));
        }
        let request = RangeRequest {
            key: Bytes::from(key.to_owned()),
            ..RangeRequest::default()
        };
        let answer = self.store.range(request).await?.body;
        let Some(pair) = answer.kvs.first() else {
            return Ok(None);
        };
        let broken = || ApiError::internal(format!("the stored value of {key} is not an object"));
        let versioned = Versioned::splice(&pair.value, pair.mod_revision).ok_or_else(broken)?;
        let value = serde_json::from_slice(&versioned.json).map_err(|_| broken())?;
        let mut object = Object::new(value).map_err(|_| broken())?;
        entry::from_storage(resource, &mut object);
        Ok(Some(Current {
            object,
            revision: pair.mod_revision,
        }))
    }

    /// Reads, lets `decide` choose, and writes; again and again while others write in between.
    pub(crate) async fn change(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        dry_run: bool,
        decide: &mut (dyn FnMut(&Object) -> ApiResult<Step> + Send),
    ) -> ApiResult<Outcome> {
        let key = resources::storage_key(resource, namespace, name);
        // A dry run makes no comparison at its end that would find a stale copy.
        let mut fresh = dry_run;
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = self.current(resource, &key, fresh).await? else {
                if fresh {
                    return Err(ApiError::not_found(resource.group, resource.plural, name));
                }
                fresh = true;
                continue;
            };
            let step = match decide(&current.object) {
                Err(_) | Ok(Step::Keep(_)) if !fresh => {
                    fresh = true;
                    continue;
                }
                other => other?,
            };
            let (object, removed, commit) = match step {
                Step::Keep(object) => {
                    return Ok(Outcome {
                        object,
                        removed: false,
                    });
                }
                Step::Write(object, _) if dry_run => {
                    return Ok(Outcome {
                        object,
                        removed: false,
                    });
                }
                Step::Remove(object, _) if dry_run => {
                    return Ok(Outcome {
                        object,
                        removed: true,
                    });
                }
                Step::Write(object, extra) => {
                    let commit = self
                        .commit_update(resource, &key, current.revision, &object, extra)
                        .await?;
                    (object, false, commit)
                }
                Step::Remove(object, extra) => {
                    let commit = self
                        .commit(modified_at(&key, current.revision), delete(&key), extra)
                        .await?;
                    (object, true, commit)
                }
            };
            match commit {
                Commit::Done(revision) => {
                    let mut object = object;
                    object.set_resource_version(&revision.to_string());
                    return Ok(Outcome { object, removed });
                }
                Commit::Lost => fresh = true,
            }
        }
        Err(ApiError::modified(resource.group, resource.plural, name))
    }
}

/// The bytes under which an object of `resource` is stored.
fn stored(resource: &Resource, object: &Object) -> Bytes {
    if !entry::is_converted(resource) {
        return codec::encode(object.value());
    }
    let mut object = object.clone();
    entry::to_storage(resource, &mut object);
    codec::encode(object.value())
}

//! One write to the store, and what became of it where the store could not tell.

use std::time::Duration;

use bytes::Bytes;
use kv::mutants::{Bug, planted};
use kv::{KeyValue, RangeRequest, Request, RequestOp, StoreError, TxnRequest};
use resources::Resource;
use serde_json::Value;
use tokio::time::Instant;

use super::ops::{Extra, created_at, modified_at, put};
use super::written::Written;
use crate::ApiServer;
use crate::cache::Cache;
use crate::status::{ApiError, ApiResult};

/// A write whose leader went away is sent again this often, with this pause: together longer than an election.
const UNSURE_ATTEMPTS_MAX: usize = 40;
const UNSURE_PAUSE: Duration = Duration::from_millis(100);

pub(crate) enum Commit {
    /// Written, at this revision.
    Done(i64),
    /// A compare did not hold; nothing was written.
    Lost,
}

/// What a cache foresees of a write while that is under way. It is forgotten where the write took no effect, and where
/// nobody waits for the answer any more.
struct Foresight<'a> {
    cache: &'a Cache,
    key: &'a str,
    stored: &'a Bytes,
    came_true: bool,
}

impl Drop for Foresight<'_> {
    fn drop(&mut self) {
        if !self.came_true {
            self.cache.forget(self.key, self.stored);
        }
    }
}

/// What became of a write of which the store could not tell.
#[derive(Debug, PartialEq)]
enum Fate {
    /// It took effect at this revision.
    Done(i64),
    NotDone,
    /// It may have taken effect, or somebody else did the same. To decide it again might do it twice, and to take the
    /// other's for ours would tell two clients that they were the one.
    Unknown,
}

/// Judges by what is `found` under the key. `decided_on` is the revision that the write replaces or removes, 0 for a
/// create.
fn fate(op: &RequestOp, decided_on: i64, found: Option<&KeyValue>) -> Fate {
    match (&op.request, found) {
        // The uid tells ours from everybody else's, also after others have changed it.
        (Some(Request::Put(put)), Some(pair))
            if decided_on == 0 && uid(&pair.value) == uid(&put.value) =>
        {
            Fate::Done(pair.create_revision)
        }
        // Nobody wrote here: it was another compare that did not hold.
        (_, Some(pair)) if pair.mod_revision == decided_on => Fate::NotDone,
        _ => Fate::Unknown,
    }
}

/// The uid in a stored object; none where it has none, which is no object of this server's.
fn uid(value: &[u8]) -> Option<String> {
    let object: Value = serde_json::from_slice(value).ok()?;
    Some(object["metadata"]["uid"].as_str()?.to_owned())
}

/// What a write does, for figures.
fn operation(decided_on: i64, op: &RequestOp) -> &'static str {
    match &op.request {
        Some(Request::DeleteRange(_)) => "delete",
        _ if decided_on == 0 => "create",
        _ => "update",
    }
}

impl ApiServer {
    /// Writes once, where the key is still at the revision that was `decided_on` (0: absent). The store itself finds out
    /// what became of a write whose leader went away, nearly always. Where it cannot, the write is sent again: its
    /// compares let only one of the two take effect. Not so a create: what it made may be deleted by then, and would be
    /// there again. The store is asked for it instead. Clients must not be told to repeat a write, for their second
    /// attempt would meet what their first one made.
    pub(super) async fn commit(
        &self,
        resource: &Resource,
        key: &str,
        decided_on: i64,
        op: RequestOp,
        extra: Extra,
    ) -> ApiResult<Commit> {
        let unchanged = match decided_on {
            0 => created_at(key, 0),
            revision => modified_at(key, revision),
        };
        let mut request = TxnRequest {
            compare: vec![unchanged],
            success: vec![self.sealed(resource, key, op.clone())],
            failure: Vec::new(),
        };
        if planted(Bug::BindsWithoutCompare) && decided_on > 0 && key.contains("/pods/") {
            request.compare.clear();
        }
        request.compare.extend(extra.compare);
        request.success.extend(extra.ops);
        let mut unsure = None;
        for _ in 0..UNSURE_ATTEMPTS_MAX {
            let begun = Instant::now();
            let outcome = self.store.txn(request.clone()).await;
            let storage = &self.metrics.storage;
            let (operation, failed) = (operation(decided_on, &op), outcome.is_err());
            storage.wrote(operation, resource, begun.elapsed(), failed);
            match outcome {
                Ok(answer) if answer.body.succeeded => return Ok(Commit::Done(answer.revision)),
                Ok(_) => {
                    return match unsure {
                        Some(error) => self.settle(resource, key, decided_on, &op, error).await,
                        None => Ok(Commit::Lost),
                    };
                }
                Err(error @ StoreError::LeaderChanged) if decided_on == 0 => {
                    return self.settle(resource, key, 0, &op, error).await;
                }
                Err(error @ StoreError::LeaderChanged) => unsure = Some(error),
                Err(error @ (StoreError::TimedOut | StoreError::Stopped)) => {
                    unsure = Some(error);
                    break;
                }
                Err(StoreError::NoLeader | StoreError::Overloaded) if unsure.is_some() => {}
                Err(error) if unsure.is_some() => return Err(ApiError::fate_unknown(error)),
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(UNSURE_PAUSE).await;
        }
        Err(unsure.map_or_else(
            || ApiError::internal("the store did not answer"),
            ApiError::fate_unknown,
        ))
    }

    /// What a write did that did not succeed the second time, or is sent once only. Where that cannot be told, the client
    /// gets the `error` that made it unsure, as from Kubernetes.
    async fn settle(
        &self,
        resource: &Resource,
        key: &str,
        decided_on: i64,
        op: &RequestOp,
        error: StoreError,
    ) -> ApiResult<Commit> {
        let request = RangeRequest {
            key: Bytes::from(key.to_owned()),
            ..RangeRequest::default()
        };
        let answer = self.store.range(request).await;
        let answer = answer.map_err(ApiError::fate_unknown)?;
        let mut found = answer.body.kvs.into_iter().next();
        if let Some(pair) = &mut found {
            match self.opened(resource, pair, key) {
                Ok(opened) => pair.value = opened.value,
                Err(_) => return Err(ApiError::fate_unknown(error)),
            }
        }
        match fate(op, decided_on, found.as_ref()) {
            Fate::Done(revision) => Ok(Commit::Done(revision)),
            Fate::NotDone => Ok(Commit::Lost),
            Fate::Unknown => Err(ApiError::fate_unknown(error)),
        }
    }

    /// Creates a key that must not exist.
    pub(crate) async fn commit_create(
        &self,
        resource: &Resource,
        key: &str,
        written: &Written,
        extra: Extra,
    ) -> ApiResult<Commit> {
        self.commit_update(resource, key, 0, written, extra).await
    }

    pub(super) async fn commit_update(
        &self,
        resource: &Resource,
        key: &str,
        revision: i64,
        written: &Written,
        extra: Extra,
    ) -> ApiResult<Commit> {
        let lease = self.leases.for_write(self, resource).await?;
        let op = put(key, written.value.clone(), lease);
        let shown = &written.shown;
        let cache = match shown.room.is_some() && shown.stored.is_some() {
            true => self.world.cache(resource),
            false => None,
        };
        let foresight = cache.as_deref().map(|cache| {
            cache.foresee(key, &written.value, &shown.object);
            Foresight {
                cache,
                key,
                stored: &written.value,
                came_true: false,
            }
        });
        let commit = self.commit(resource, key, revision, op, extra).await;
        if let (Some(mut foresight), Ok(Commit::Done(_))) = (foresight, &commit) {
            foresight.came_true = true;
        }
        commit
    }
}

#[cfg(test)]
mod tests {
    use super::super::ops::delete;
    use super::*;

    fn pair(value: &'static str, create_revision: i64, mod_revision: i64) -> KeyValue {
        KeyValue {
            value: value.into(),
            create_revision,
            mod_revision,
            ..KeyValue::default()
        }
    }

    const OURS: &str = r#"{"metadata":{"uid":"ours"},"a":1}"#;
    const OURS_CHANGED: &str = r#"{"metadata":{"uid":"ours"},"a":2}"#;
    const THEIRS: &str = r#"{"metadata":{"uid":"theirs"},"a":1}"#;

    #[test]
    fn a_create_is_known_by_its_uid() {
        let create = put("k", OURS.into(), 0);
        let fate = |found: Option<&KeyValue>| fate(&create, 0, found);
        assert_eq!(fate(Some(&pair(OURS, 7, 7))), Fate::Done(7));
        // The scheduler was here already.
        assert_eq!(fate(Some(&pair(OURS_CHANGED, 7, 8))), Fate::Done(7));
        // Ours may have been there before.
        assert_eq!(fate(Some(&pair(THEIRS, 7, 7))), Fate::Unknown);
        assert_eq!(fate(None), Fate::Unknown);
    }

    #[test]
    fn an_update_is_not_done_again_and_not_taken_from_others() {
        let update = put("k", OURS_CHANGED.into(), 0);
        let fate = |found: Option<&KeyValue>| fate(&update, 5, found);
        // Two who bind a pod to one node write the same.
        assert_eq!(fate(Some(&pair(OURS_CHANGED, 3, 7))), Fate::Unknown);
        assert_eq!(fate(Some(&pair(OURS, 3, 5))), Fate::NotDone);
        assert_eq!(fate(Some(&pair(OURS, 3, 8))), Fate::Unknown);
        assert_eq!(fate(None), Fate::Unknown);
    }

    #[test]
    fn a_deletion_by_others_is_not_ours() {
        let delete = delete("k");
        let fate = |found: Option<&KeyValue>| fate(&delete, 5, found);
        assert_eq!(fate(None), Fate::Unknown);
        assert_eq!(fate(Some(&pair(THEIRS, 8, 8))), Fate::Unknown);
        assert_eq!(fate(Some(&pair(OURS, 3, 5))), Fate::NotDone);
    }
}

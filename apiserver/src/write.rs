//! The optimistic transaction under every write: read, decide, write if nobody wrote in between, else once more.
//!
//! The first attempt decides on the cached object, which saves a read; whatever that attempt would refuse is decided
//! again on the store's newest state before the client hears about it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use kv::mutants::{Bug, planted};
use kv::{
    Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue,
    PutRequest, RangeRequest, Request, RequestOp, StoreError, TxnRequest,
};
use resources::{Resource, Storage};
use schema::Object;
use serde_json::Value;
use tokio::time::Instant;

use crate::ApiServer;
use crate::cache::Cache;
use crate::codec::{self, Versioned};
use crate::definitions;
use crate::encryption::Opened;
use crate::entry::{self, Entry};
use crate::status::{ApiError, ApiResult};
use crate::trees;

/// More lost races than this on one object mean that something is wrong with the client, not with luck.
const ATTEMPTS_MAX: usize = 64;
/// A write whose leader went away is sent again this often, with this pause: together longer than an election.
const UNSURE_ATTEMPTS_MAX: usize = 40;
const UNSURE_PAUSE: Duration = Duration::from_millis(100);
/// Lists and maps in each other in one object, what the server writes into it included. JSON is read to a depth of 127,
/// and a list, an event or a review has a few levels of its own.
const DEPTH_MAX: usize = 120;

/// Keys that change in the same transaction as the object (service addresses, quotas).
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) compare: Vec<Compare>,
    pub(crate) ops: Vec<RequestOp>,
}

impl Extra {
    /// Takes `key`, or loses the transaction where somebody has it.
    pub(crate) fn claim(&mut self, key: String, owner: &str) {
        if !planted(Bug::ClaimsWithoutCompare) {
            self.compare.push(created_at(&key, 0));
        }
        self.ops.push(put(&key, Bytes::from(owner.to_owned()), 0));
    }

    pub(crate) fn release(&mut self, key: String) {
        self.ops.push(delete(&key));
    }

    /// Loses the transaction where `key` is not at this revision; 0 is absent.
    pub(crate) fn expect(&mut self, key: String, revision: i64) {
        self.compare.push(match revision {
            0 => created_at(&key, 0),
            revision => modified_at(&key, revision),
        });
    }

    /// The same, and moves the key on.
    pub(crate) fn replace(&mut self, key: String, revision: i64) {
        self.ops.push(put(&key, Bytes::new(), 0));
        self.expect(key, revision);
    }

    /// Both.
    pub(crate) fn and(mut self, other: Extra) -> Extra {
        self.compare.extend(other.compare);
        self.ops.extend(other.ops);
        self
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
    pub(crate) object: Arc<Object>,
    pub(crate) revision: i64,
    /// It is stored in another form than it would be now.
    stale: bool,
    /// As the cache holds it, where it is from there.
    entry: Option<Arc<Entry>>,
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

/// What to do with the object that was read.
pub(crate) enum Step {
    Write(Object, Extra),
    /// Leaves nothing of the object; the client is shown this of it.
    Remove(Object, Extra),
    /// The same, and shows the object as it is: it needs no copy.
    RemoveAsIs(Extra),
    Keep(Object),
    /// The client wants what is there already: written only where it is stored in another form, which is how objects move
    /// to the version of a custom resource in which they are to be stored, and to the newest key of their encryption.
    Same(Object),
}

/// What was decided on the cached object, and is not told before the store has said that it is the newest.
struct Doubt {
    object: Arc<Object>,
    revision: i64,
    step: ApiResult<Step>,
}

/// Decides what becomes of an object; again where somebody else was faster. Decisions that wait for nobody are plain
/// closures.
pub(crate) trait Decide: Send {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>>;
}

impl<F: FnMut(&Object) -> ApiResult<Step> + Send> Decide for F {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(std::future::ready(self(old)))
    }
}

/// What became of it. `object` carries the resourceVersion after the write.
pub(crate) struct Outcome {
    pub(crate) object: Arc<Object>,
    pub(crate) removed: bool,
    /// What was stored of it, where that is also what is shown.
    stored: Option<Bytes>,
}

impl Outcome {
    pub(crate) fn of(object: Object) -> Outcome {
        Outcome {
            object: Arc::new(object),
            removed: false,
            stored: None,
        }
    }

    /// What was stored under the object's version.
    pub(crate) fn versioned(&self) -> Option<Versioned> {
        let revision = self.object.resource_version().parse().ok()?;
        Versioned::splice(self.stored.as_ref()?, revision)
    }
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
    async fn commit(
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

    /// The write as the store gets to see it.
    fn sealed(&self, resource: &Resource, key: &str, mut op: RequestOp) -> RequestOp {
        if let Some(Request::Put(put)) = &mut op.request {
            let clear = std::mem::take(&mut put.value);
            let seal = |of: (&str, &str)| self.world.sealer.seal(of, key, clear);
            put.value = self.stored_as(resource, seal);
        }
        op
    }

    /// What the store has under a key, in clear.
    fn opened(&self, resource: &Resource, pair: &KeyValue, key: &str) -> ApiResult<Opened> {
        let open = |of: (&str, &str)| self.world.sealer.open(of, key, &pair.value);
        let opened = self.stored_as(resource, open);
        opened.map_err(|unreadable| ApiError::internal(unreadable.why))
    }

    /// Asks with group and plural of the resource as which objects of `resource` are stored.
    fn stored_as<T>(&self, resource: &Resource, ask: impl FnOnce((&str, &str)) -> T) -> T {
        if matches!(resource.storage, Storage::Shared(_))
            && let Some(cache) = self.world.cache(resource)
        {
            return ask(cache.resource());
        }
        ask((&resource.group, &resource.plural))
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

    /// Has another object become this in the transaction of `extra`, which is lost where that is not at this revision any more.
    pub(crate) async fn also_update(
        &self,
        resource: &Resource,
        key: &str,
        revision: i64,
        object: Object,
        extra: &mut Extra,
    ) -> ApiResult<()> {
        let written = self.written(resource, Version::Stored, object).await?;
        let op = put(key, written.value, 0);
        extra.ops.push(self.sealed(resource, key, op));
        if !planted(Bug::QuotasWithoutCompare) {
            extra.expect(key.to_owned(), revision);
        }
        Ok(())
    }

    /// Makes another object in the transaction of `extra`, which is lost where there is one of that name.
    pub(crate) async fn also_create(
        &self,
        resource: &Resource,
        key: &str,
        object: Object,
        extra: &mut Extra,
    ) -> ApiResult<()> {
        let written = self.written(resource, Version::Stored, object).await?;
        let op = put(key, written.value, 0);
        extra.ops.push(self.sealed(resource, key, op));
        if !planted(Bug::ClaimsWithoutCompare) {
            extra.expect(key.to_owned(), 0);
        }
        Ok(())
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

    async fn commit_update(
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

    /// The object under `key`: from the cache, or linearizably from the store when `fresh`.
    pub(crate) async fn current(
        &self,
        resource: &Resource,
        key: &str,
        fresh: bool,
    ) -> ApiResult<Option<Current>> {
        let known = (fresh, None);
        self.current_in(resource, Version::Asked, key, known).await
    }

    /// Whether there is anything under `key`, as of now.
    pub(crate) async fn is_there(&self, key: &str) -> ApiResult<bool> {
        let request = RangeRequest {
            key: Bytes::from(key.to_owned()),
            ..RangeRequest::default()
        };
        Ok(!self.store.range(request).await?.body.kvs.is_empty())
    }

    async fn current_in(
        &self,
        resource: &Resource,
        version: Version,
        key: &str,
        (fresh, known): (bool, Option<&Doubt>),
    ) -> ApiResult<Option<Current>> {
        if !fresh {
            let entry = self.world.cache(resource).and_then(|cache| cache.get(key));
            let Some(entry) = entry else { return Ok(None) };
            let stale = entry.is_stale() || self.is_outdated(resource, entry.mark);
            let revision = entry.revision;
            let object = match (self.kept(resource, key, revision), version) {
                (Some(kept), _) => {
                    debug_assert_eq!(*kept, entry.object(), "{key} is kept as it is stored");
                    kept
                }
                (None, Version::Asked) => {
                    let form = self.form(resource, entry.clone()).await?;
                    Arc::new(form.object_as(resource))
                }
                (None, Version::Stored) => Arc::new(entry.object()),
            };
            return Ok(Some(Current {
                object,
                revision,
                stale,
                entry: Some(entry),
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
        let opened = self.opened(resource, pair, key)?;
        let is_outdated = self.is_outdated(resource, opened.mark);
        let known = known.filter(|known| known.revision == pair.mod_revision);
        let known = known.filter(|_| is_shown_as_stored(resource));
        let known = known.map(|known| known.object.clone());
        if let Some(object) = known.or_else(|| self.kept(resource, key, pair.mod_revision)) {
            return Ok(Some(Current {
                object,
                revision: pair.mod_revision,
                stale: is_outdated,
                entry: None,
            }));
        }
        let versioned = Versioned::splice(&opened.value, pair.mod_revision).ok_or_else(broken)?;
        let value = serde_json::from_slice(&versioned.json.bytes()).map_err(|_| broken())?;
        let mut object = Object::new(value).map_err(|_| broken())?;
        let mut stale = false;
        match &resource.custom {
            Some(custom) => {
                let before = object.clone();
                custom.read_stored(&mut object);
                stale = object != before || object.version() != custom.storage_version();
                if version == Version::Asked {
                    object = self.converted(custom, object).await?;
                }
            }
            None => entry::from_storage(resource, &mut object),
        }
        Ok(Some(Current {
            object: Arc::new(object),
            revision: pair.mod_revision,
            stale: stale || is_outdated,
            entry: None,
        }))
    }

    /// The object under `key`, where this server has just written it at that revision.
    fn kept(&self, resource: &Resource, key: &str, revision: i64) -> Option<Arc<Object>> {
        match is_shown_as_stored(resource) {
            true => self.trees.get(key, revision),
            false => None,
        }
    }

    /// What became of a write that took effect at this revision. It is kept for the next one.
    pub(crate) fn wrote(
        &self,
        resource: &Resource,
        key: &str,
        revision: i64,
        shown: Shown,
    ) -> Outcome {
        let Shown {
            mut object,
            stored,
            room,
        } = shown;
        object.set_resource_version(&revision.to_string());
        let object = Arc::new(object);
        if let (Some(stored), Some(room)) = (&stored, room)
            && is_shown_as_stored(resource)
            && changes_soon(resource)
        {
            let (kept, now) = ((object.clone(), room), Instant::now());
            self.trees.put(key, revision, kept, stored.len(), now);
        }
        Outcome {
            object,
            removed: false,
            stored,
        }
    }

    /// What is shown of an object that is gone now: as it was. Whoever holds its tree alone need not copy it.
    fn last_shown(&self, resource: &Resource, key: &str, was: Current) -> Shown {
        drop(self.trees.take(key, was.revision));
        let entry = was.entry.filter(|_| is_shown_as_stored(resource));
        Shown {
            object: Arc::unwrap_or_clone(was.object),
            stored: entry.map(|entry| entry.opened().value),
            room: None,
        }
    }

    /// Whether objects of a resource are written under another key now than under that of this mark.
    fn is_outdated(&self, resource: &Resource, mark: u32) -> bool {
        self.stored_as(resource, |of| self.world.sealer.mark(of)) != mark
    }

    /// Reads, lets `decide` choose, and writes; again and again while others write in between. Where there is nothing to
    /// change, the error is [`ApiError::absent`].
    pub(crate) async fn change(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        dry_run: bool,
        decide: &mut dyn Decide,
    ) -> ApiResult<Outcome> {
        let place = (namespace, name);
        self.change_in(resource, Version::Asked, place, dry_run, decide)
            .await
    }

    /// The same for an object in this version of its resource.
    pub(crate) async fn change_in(
        &self,
        resource: &Resource,
        version: Version,
        (namespace, name): (&str, &str),
        dry_run: bool,
        decide: &mut dyn Decide,
    ) -> ApiResult<Outcome> {
        let key = resources::storage_key(resource, namespace, name);
        // A dry run makes no comparison at its end that would find a stale copy.
        let mut fresh = dry_run;
        let mut doubted: Option<Doubt> = None;
        for _ in 0..ATTEMPTS_MAX {
            let known = (fresh, doubted.as_ref());
            let current = self.current_in(resource, version, &key, known).await?;
            let Some(current) = current else {
                if fresh {
                    return Err(ApiError::absent(&resource.group, &resource.plural, name));
                }
                fresh = true;
                continue;
            };
            let step = match doubted.take() {
                // The cache was right: nobody is asked twice about the same.
                Some(doubt) if doubt.revision == current.revision => doubt.step,
                _ => decide.decide(&current.object).await,
            };
            let step = match step {
                Ok(Step::Same(object)) if current.stale => {
                    Ok(Step::Write(object, Extra::default()))
                }
                Ok(Step::Same(object)) => Ok(Step::Keep(object)),
                other => other,
            };
            let step = match step {
                step @ (Err(_) | Ok(Step::Keep(_))) if !fresh => {
                    fresh = true;
                    doubted = Some(Doubt {
                        object: current.object,
                        revision: current.revision,
                        step,
                    });
                    continue;
                }
                other => other?,
            };
            let (shown, removed, commit) = match step {
                Step::Keep(object) | Step::Same(object) => {
                    return Ok(Outcome::of(object));
                }
                Step::Write(object, _) if dry_run => {
                    return self.shown(resource, version, object).await.map(Outcome::of);
                }
                Step::Remove(object, _) if dry_run => {
                    return Ok(Outcome {
                        removed: true,
                        ..Outcome::of(object)
                    });
                }
                Step::RemoveAsIs(_) if dry_run => {
                    return Ok(Outcome {
                        object: current.object,
                        removed: true,
                        stored: None,
                    });
                }
                Step::Write(object, extra) => {
                    let written = self.written(resource, version, object).await?;
                    let commit = self
                        .commit_update(resource, &key, current.revision, &written, extra)
                        .await?;
                    (written.shown, false, commit)
                }
                Step::Remove(object, extra) => {
                    let commit = self
                        .commit(resource, &key, current.revision, delete(&key), extra)
                        .await?;
                    (Shown::of(object), true, commit)
                }
                Step::RemoveAsIs(extra) => {
                    let commit = self
                        .commit(resource, &key, current.revision, delete(&key), extra)
                        .await?;
                    if matches!(commit, Commit::Lost) {
                        fresh = true;
                        continue;
                    }
                    (self.last_shown(resource, &key, current), true, commit)
                }
            };
            match commit {
                Commit::Done(revision) => {
                    let outcome = self.wrote(resource, &key, revision, shown);
                    definitions::wait_served(self, resource, &outcome.object).await;
                    return Ok(Outcome { removed, ..outcome });
                }
                Commit::Lost => fresh = true,
            }
        }
        Err(ApiError::modified(&resource.group, &resource.plural, name))
    }
}

/// In which version an object is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// That of the resource.
    Asked,
    /// The one in which it is stored, and stays: what is about metadata needs no other.
    Stored,
}

/// An object that is about to be written.
pub(crate) struct Written {
    /// What is stored.
    pub(crate) value: Bytes,
    pub(crate) shown: Shown,
}

/// What the answer to a write shows.
pub(crate) struct Shown {
    pub(crate) object: Object,
    /// What is stored, where that is the same.
    stored: Option<Bytes>,
    /// About how many bytes of memory it takes, where it is read again just as it is.
    room: Option<usize>,
}

impl Shown {
    /// What is not stored like that, if at all.
    fn of(object: Object) -> Shown {
        Shown {
            object,
            stored: None,
            room: None,
        }
    }
}

impl ApiServer {
    /// An object of `resource` as it is stored, and as it is read again: what another version cannot hold is lost, and the
    /// client is shown that. A webhook that cannot convert back refuses the write before it is done. (Kubernetes converts
    /// back afterwards, and then fails a write that took effect.)
    pub(crate) async fn written(
        &self,
        resource: &Resource,
        version: Version,
        object: Object,
    ) -> ApiResult<Written> {
        let is_converted = version == Version::Asked && entry::is_converted(resource);
        if !is_converted {
            let found = check(&object)?;
            let value = codec::encode(object.value());
            let shown = Shown {
                object,
                stored: Some(value.clone()),
                room: found.is_exact.then_some(found.room),
            };
            return Ok(Written { value, shown });
        }
        check(&object)?;
        let Some(custom) = &resource.custom else {
            let mut stored = object.clone();
            entry::to_storage(resource, &mut stored);
            return Ok(Written {
                value: encoded(&stored)?,
                shown: Shown::of(object),
            });
        };
        let mut stored = self.converted(&custom.storage(), object).await?;
        let value = encoded(&stored)?;
        custom.read_stored(&mut stored);
        let shown = self.converted(custom, stored).await?;
        Ok(Written {
            value,
            shown: Shown::of(shown),
        })
    }
}

impl ApiServer {
    /// What is shown of an object that would be written.
    async fn shown(
        &self,
        resource: &Resource,
        version: Version,
        object: Object,
    ) -> ApiResult<Object> {
        if version == Version::Asked && entry::is_converted(resource) {
            let written = self.written(resource, version, object).await?;
            return Ok(written.shown.object);
        }
        check(&object)?;
        Ok(object)
    }
}

/// Whether the store's bytes are all there is to know of an object of `resource`: no definition says how it is read, and it
/// has one shape only.
fn is_shown_as_stored(resource: &Resource) -> bool {
    resource.custom.is_none() && !entry::is_converted(resource)
}

/// Whether an object of `resource` is likely to be written again before its tree is let go of: leases are renewed after that,
/// and most events never. Thousands of both would have all the room.
fn changes_soon(resource: &Resource) -> bool {
    resource.plural != "leases" && resource.plural != "events"
}

/// The bytes of an object that is stored like that. Refuses what could not be read again.
fn encoded(object: &Object) -> ApiResult<Bytes> {
    check(object)?;
    Ok(codec::encode(object.value()))
}

/// What one walk along an object finds out.
#[derive(Debug)]
struct Found {
    /// Whether it is read just as it was written: a fraction need not be, by its last digit.
    is_exact: bool,
    /// What [`trees::room`] says of it. Now it is at hand, and after the write it would have to be fetched from memory again.
    room: usize,
}

/// Refuses what could not be read again.
fn check(object: &Object) -> ApiResult<Found> {
    let mut found = Found {
        is_exact: true,
        room: 0,
    };
    if fits(object.value(), DEPTH_MAX, &mut found) {
        return Ok(found);
    }
    Err(ApiError::bad_request(format!(
        "the object is nested deeper than {DEPTH_MAX} levels"
    )))
}

/// Whether lists and maps are nested no deeper than `levels`. Looks no deeper itself, and then has not `found` all.
fn fits(value: &Value, levels: usize, found: &mut Found) -> bool {
    found.room += trees::own_room(value);
    let below = levels.checked_sub(1);
    match value {
        Value::Array(list) => {
            below.is_some_and(|below| list.iter().all(|item| fits(item, below, found)))
        }
        Value::Object(map) => below.is_some_and(|below| {
            map.iter().all(|(key, item)| {
                found.room += trees::room_of_text(key);
                fits(item, below, found)
            })
        }),
        Value::Number(number) => {
            found.is_exact &= !number.is_f64();
            true
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
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
    fn what_is_renewed_for_ever_or_never_changed_is_not_kept() {
        let soon =
            |group, version, plural| changes_soon(resources::find(group, version, plural).unwrap());
        assert!(soon("", "v1", "pods") && soon("apps", "v1", "deployments"));
        assert!(!soon("coordination.k8s.io", "v1", "leases"));
        assert!(!soon("", "v1", "events") && !soon("events.k8s.io", "v1", "events"));
    }

    #[test]
    fn what_is_stored_can_be_read() {
        let nested = |levels: usize| {
            let data = (1..levels).fold(Value::Null, |inner, level| match level % 2 {
                0 => Value::Array(vec![inner]),
                _ => serde_json::json!({"a": inner}),
            });
            let value = serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "x"}, "data": data});
            Object::new(value).unwrap()
        };
        let bytes = encoded(&nested(DEPTH_MAX)).unwrap();
        let read = entry::Entry::new("/registry/configmaps/n/x", 21, &bytes.into(), 7, &[], None);
        assert!(read.is_some());
        assert_eq!(encoded(&nested(DEPTH_MAX + 1)).unwrap_err().code, 400);
        let mut deep = nested(2);
        let fields = nested(DEPTH_MAX).get(&["data"]).unwrap().clone();
        deep.metadata_mut()
            .insert("managedFields".to_owned(), fields);
        assert!(encoded(&deep).is_err());
    }

    #[test]
    fn what_is_kept_is_what_is_read() {
        let of = |data: Value| {
            let labels = serde_json::json!({ "a\u{1}\"ü": "\u{2028}\\" });
            Object::new(serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "x", "resourceVersion": "6", "labels": labels}, "data": data}))
            .unwrap()
        };
        let mut object = of(
            serde_json::json!([null, true, i64::MIN, u64::MAX, 0, -1, "", {}, [], {"z": 1, "": 2}]),
        );
        assert!(check(&object).unwrap().is_exact);
        let bytes = encoded(&object).unwrap();
        let read = entry::Entry::new("/registry/configmaps/n/x", 21, &bytes.into(), 7, &[], None);
        object.set_resource_version("7");
        assert_eq!(read.unwrap().object(), object);
        let fraction = of(serde_json::json!([{"a": 0.1}, 1]));
        assert!(!check(&fraction).unwrap().is_exact);
        for object in [object, fraction, Object::default()] {
            let room = check(&object).unwrap().room;
            assert_eq!(room, trees::room(object.value()));
        }
    }

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

//! The optimistic transaction under every write: read, decide, write if nobody wrote in between, else once more.
//!
//! The first attempt decides on the cached object, which saves a read; whatever that attempt would refuse is decided
//! again on the store's newest state before the client hears about it.

mod around_spec;
mod commit;
mod current;
mod ops;
mod sealing;
mod written;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use kv::mutants::{Bug, planted};
use resources::Resource;
use schema::Object;
use schema::pick::Pick;
use tokio::time::Instant;

use crate::ApiServer;
use crate::codec::Versioned;
use crate::definitions;
use crate::entry;
use crate::status::{ApiError, ApiResult};
use crate::trees::Source;
use around_spec::Tried;
pub(crate) use commit::Commit;
use current::Current;
pub(crate) use ops::Extra;
use ops::{delete, put};
use written::Shown;
pub(crate) use written::{Like, Version, is_exact, written_like};

/// More lost races than this on one object mean that something is wrong with the client, not with luck.
const ATTEMPTS_MAX: usize = 64;

/// Makes of an object what is to be written in its place.
pub(crate) type Change = Box<dyn FnOnce(&mut Object) + Send + Sync>;

/// What to do with the object that was read.
pub(crate) enum Step {
    Write(Object, Extra),
    /// Writes the object as this leaves it: who holds its tree alone need not copy it.
    Change(Change, Extra),
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

    /// What it has to know of the object's `spec`, where it leaves that as it is, but for the node that a pod gets, and says
    /// nothing of the managed fields; none where it needs the whole object.
    fn needed_of_spec(&self) -> Option<&'static Pick> {
        None
    }

    /// Whether it then leaves the managed fields as they are, so that it may change a tree where it stands.
    fn leaves_entries(&self) -> bool {
        false
    }

    /// Decides on an object that has no more of its `spec` than that, and whose managed fields are `entries`, as they are stored:
    /// it makes those of what is written of them, which does not have them either. Only a write counts: of anything else nobody
    /// hears, and it is decided again on the whole object.
    fn decide_around_spec<'a>(
        &'a mut self,
        old: &'a Object,
        _entries: &'a mut Option<Bytes>,
    ) -> BoxFuture<'a, ApiResult<Step>> {
        self.decide(old)
    }
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
    /// Whether the object has only a part of its `spec`, and none of its managed fields.
    is_around_spec: bool,
}

impl Outcome {
    pub(crate) fn of(object: Object) -> Outcome {
        Outcome {
            object: Arc::new(object),
            removed: false,
            stored: None,
            is_around_spec: false,
        }
    }

    /// The whole object: what was stored is read again where only a part of it is in hand.
    pub(crate) fn whole(&self) -> Arc<Object> {
        let read = || {
            let json = self.versioned()?.json.bytes();
            Object::new(schema::read::json(&json).ok()?).ok()
        };
        match self.is_around_spec {
            true => read().map_or_else(|| self.object.clone(), Arc::new),
            false => self.object.clone(),
        }
    }

    /// What was stored under the object's version.
    pub(crate) fn versioned(&self) -> Option<Versioned> {
        let revision = self.object.resource_version().parse().ok()?;
        Versioned::splice(self.stored.as_ref()?, revision)
    }
}

impl ApiServer {
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

    /// What became of a write of an object, which may be new, that took effect at this revision. It is kept for the next one.
    pub(crate) fn wrote(
        &self,
        resource: &Resource,
        key: &str,
        revision: i64,
        shown: Shown,
        is_new: bool,
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
            let plural = &*resource.plural;
            let (kept, source) = ((object.clone(), room), Source { plural, is_new });
            let (bytes, now) = (stored.len(), Instant::now());
            self.trees.put(key, revision, kept, bytes, source, now);
        }
        Outcome {
            object,
            removed: false,
            stored,
            is_around_spec: false,
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

    /// An object after a change. The tree that is kept of it, if any, becomes the new one: should the write be lost to somebody
    /// else, nobody asks for it any more.
    fn changed(&self, key: &str, current: Current, change: Change) -> Object {
        drop(self.trees.take(key, current.revision));
        let mut object = Arc::unwrap_or_clone(current.object);
        change(&mut object);
        object
    }

    /// Writes an object in place of what is there at this revision.
    async fn replace(
        &self,
        resource: &Resource,
        version: Version,
        (key, revision): (&str, i64),
        object: Object,
        extra: Extra,
    ) -> ApiResult<(Shown, bool, Commit)> {
        let written = self.written(resource, version, object).await?;
        let commit = self
            .commit_update(resource, key, revision, &written, extra)
            .await?;
        Ok((written.shown, false, commit))
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
        if !dry_run && version == Version::Asked {
            match self.change_around_spec(resource, &key, decide).await? {
                Tried::Done(outcome) => return Ok(outcome),
                Tried::Lost => fresh = true,
                Tried::Left => {}
            }
        }
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
            if dry_run {
                return self.tried(resource, version, current, step).await;
            }
            let done = self.carry_out(resource, version, &key, current, step);
            match done.await? {
                Some(outcome) => return Ok(outcome),
                None => fresh = true,
            }
        }
        Err(ApiError::modified(&resource.group, &resource.plural, name))
    }

    /// What would become of an object.
    async fn tried(
        &self,
        resource: &Resource,
        version: Version,
        current: Current,
        step: Step,
    ) -> ApiResult<Outcome> {
        Ok(match step {
            Step::Keep(object) | Step::Same(object) => Outcome::of(object),
            Step::Write(object, _) => Outcome::of(self.shown(resource, version, object).await?),
            Step::Change(change, _) => {
                let mut object = Arc::unwrap_or_clone(current.object);
                change(&mut object);
                Outcome::of(self.shown(resource, version, object).await?)
            }
            Step::Remove(object, _) => Outcome {
                removed: true,
                ..Outcome::of(object)
            },
            Step::RemoveAsIs(_) => Outcome {
                object: current.object,
                removed: true,
                stored: None,
                is_around_spec: false,
            },
        })
    }

    /// What has become of an object; none where somebody else was faster.
    async fn carry_out(
        &self,
        resource: &Resource,
        version: Version,
        key: &str,
        current: Current,
        step: Step,
    ) -> ApiResult<Option<Outcome>> {
        let revision = current.revision;
        let (shown, removed, commit) = match step {
            Step::Keep(object) | Step::Same(object) => return Ok(Some(Outcome::of(object))),
            Step::Write(object, extra) => {
                let place = (key, revision);
                self.replace(resource, version, place, object, extra)
                    .await?
            }
            Step::Change(change, extra) => {
                let (place, object) = ((key, revision), self.changed(key, current, change));
                self.replace(resource, version, place, object, extra)
                    .await?
            }
            Step::Remove(object, extra) => {
                let commit = self
                    .commit(resource, key, revision, delete(key), extra)
                    .await?;
                (Shown::of(object), true, commit)
            }
            Step::RemoveAsIs(extra) => {
                let commit = self
                    .commit(resource, key, revision, delete(key), extra)
                    .await?;
                if matches!(commit, Commit::Lost) {
                    return Ok(None);
                }
                (self.last_shown(resource, key, current), true, commit)
            }
        };
        let Commit::Done(revision) = commit else {
            return Ok(None);
        };
        let outcome = self.wrote(resource, key, revision, shown, false);
        definitions::wait_served(self, resource, &outcome.object).await;
        Ok(Some(Outcome { removed, ..outcome }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_renewed_for_ever_or_never_changed_is_not_kept() {
        let soon =
            |group, version, plural| changes_soon(resources::find(group, version, plural).unwrap());
        assert!(soon("", "v1", "pods") && soon("apps", "v1", "deployments"));
        assert!(!soon("coordination.k8s.io", "v1", "leases"));
        assert!(!soon("", "v1", "events") && !soon("events.k8s.io", "v1", "events"));
    }
}

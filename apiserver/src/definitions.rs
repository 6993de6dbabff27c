//! CustomResourceDefinitions beyond the rules of other objects: names that only one may have, and the deletion of all
//! objects before a definition goes.
//!
//! Names are decided when a definition is written, in the same transaction: a key for the group changes with every
//! decision about names, so two members cannot give one name twice. What is left to do afterwards (names that come free,
//! objects that have to go) every member does, since whatever it writes it writes at most once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use kv::RangeRequest;
use resources::{Handle, Resource, custom, definition};
use schema::Object;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ApiServer;
use crate::bootstrap;
use crate::cache::Cache;
use crate::entry::Entry;
use crate::status::{ApiError, ApiResult};
use crate::verbs::delete::{self, DeleteOptions};
use crate::world::REVISION_WAIT;
use crate::write::{Decide, Extra, Step};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// Keys that change with every decision about the names of a group.
const NAMES_PREFIX: &str = "/kontiki/definitionnames/";
/// Deletions in flight at once, for one definition.
const IN_FLIGHT: usize = 16;
/// Definitions whose objects are being deleted at once.
pub(crate) const EMPTYING_MAX: usize = 4;
/// How long objects may take before they are looked at again.
const AGAIN: Duration = Duration::from_secs(5);
/// The pause after a store that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn is_definition(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

/// Decides names and conditions of a definition that is about to be written; what is answered belongs to the write.
pub(crate) async fn settle(
    server: &ApiServer,
    resource: &Resource,
    object: &mut Object,
    now: i64,
) -> ApiResult<Extra> {
    let mut extra = Extra::default();
    if !is_definition(resource) || object.deletion_timestamp().is_some() {
        return Ok(extra);
    }
    let group = object
        .get_str(&["spec", "group"])
        .unwrap_or_default()
        .to_owned();
    let key = format!("{NAMES_PREFIX}{group}");
    let request = RangeRequest {
        key: Bytes::from(key.clone()),
        ..RangeRequest::default()
    };
    let answer = server.store.range(request).await?;
    let decided = answer.body.kvs.first().map_or(0, |pair| pair.mod_revision);
    // Whoever decided last is in the caches then.
    let deadline = Instant::now() + REVISION_WAIT;
    server.world.wait_for(decided, deadline).await?;
    let before = definition::accepted(object);
    let own = object.name().to_owned();
    let customs = &server.world.customs;
    let taken = |sort, name: &str| customs.is_taken(&group, &own, sort, name);
    definition::settle(object, &taken, &schema::time::now_rfc3339(now));
    if definition::accepted(object) != before {
        extra.replace(key, decided);
    }
    Ok(extra)
}

/// Waits until this server serves what a write of a definition says. The write is done, so there is nothing to refuse.
pub(crate) async fn wait_served(server: &ApiServer, resource: &Resource, object: &Object) {
    if !is_definition(resource) {
        return;
    }
    let revision = object.resource_version().parse().unwrap_or(0);
    let deadline = Instant::now() + REVISION_WAIT;
    if server.world.wait_for(revision, deadline).await.is_err() {
        tracing::info!(revision, "a definition is written and not served here yet");
    }
}

/// No object is written under a definition that is gone, being deleted or another one of the same name: refuses it where
/// that is known, and else lets the write fail where the definition is not at this revision any more.
pub(crate) fn guard(
    server: &ApiServer,
    resource: &Resource,
    name: &str,
    extra: &mut Extra,
) -> ApiResult<()> {
    if let Some(custom) = &resource.custom {
        let revision = open_at(server, resource, name)?;
        let key = format!("/registry/{PLURAL}/{}", custom.definition.name);
        extra.expect(key, revision);
    }
    Ok(())
}

/// The revision at which the definition of a custom resource takes new objects, as far as this member knows.
fn open_at(server: &ApiServer, resource: &Resource, name: &str) -> ApiResult<i64> {
    let present = server.world.customs.present(resource);
    let (now, revision) = present.ok_or_else(ApiError::no_such_resource)?;
    refuse_terminating(&now, name)?;
    Ok(revision)
}

/// Whether an object of a custom resource may still come, asked of the newest definition.
pub(crate) async fn is_open(server: &ApiServer, resource: &Resource, name: &str) -> ApiResult<()> {
    if resource.custom.is_none() {
        return Ok(());
    }
    server.world.wait_most_recent(&*server.store).await?;
    open_at(server, resource, name).map(drop)
}

/// Kubernetes' refusal of new objects under a definition that is being deleted.
pub(crate) fn refuse_terminating(resource: &Resource, name: &str) -> ApiResult<()> {
    match &resource.custom {
        Some(custom) if custom.definition.terminating => Err(ApiError::forbidden(
            &resource.group,
            &resource.plural,
            name,
            "create not allowed while custom resource definition is terminating",
        )),
        _ => Ok(()),
    }
}

/// Follows the definitions.
pub(crate) async fn run(server: Arc<ApiServer>) {
    server.ready().await;
    let Some(cache) = server.world.named(GROUP, PLURAL).cloned() else {
        return;
    };
    let busy: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let mut finalizers = JoinSet::new();
    let mut wake = cache.subscribe();
    let mut cursor = None;
    let mut again = BTreeSet::new();
    loop {
        wake.mark_unchanged();
        let mut todo = changed(&cache, &mut cursor);
        todo.extend(std::mem::take(&mut again).into_iter().map(Changed::Names));
        for changed in todo {
            match changed {
                Changed::Deleting(name) => {
                    if let Some(mine) = Busy::take(&busy, &name) {
                        let server = server.clone();
                        finalizers.spawn(host::here(finalize_all(server, mine)));
                    }
                }
                Changed::Names(group) => {
                    if !resettle(&server, &group).await {
                        again.insert(group);
                    }
                }
            }
        }
        while finalizers.try_join_next().is_some() {}
        let is_closed = match again.is_empty() {
            true => wake.changed().await.is_err(),
            false => {
                let changed = tokio::time::timeout(PAUSE, wake.changed()).await;
                matches!(changed, Ok(Err(_)))
            }
        };
        if is_closed {
            return;
        }
    }
}

/// A definition whose objects are being deleted here, until it is dropped.
struct Busy {
    all: Arc<Mutex<BTreeSet<String>>>,
    name: String,
}

impl Busy {
    /// None where somebody else is at it.
    fn take(all: &Arc<Mutex<BTreeSet<String>>>, name: &str) -> Option<Busy> {
        let is_new = lock(all).insert(name.to_owned());
        is_new.then(|| Busy {
            all: all.clone(),
            name: name.to_owned(),
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.name);
    }
}

fn lock(busy: &Mutex<BTreeSet<String>>) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Changed {
    /// This definition waits for its objects to go.
    Deleting(String),
    /// Names of this group may have come free, or were never decided.
    Names(String),
}

/// What there is to do since the last call.
fn changed(cache: &Cache, cursor: &mut Option<u64>) -> Vec<Changed> {
    let mut todo = Vec::new();
    let mut look = |object: &Object| {
        if definition::is_terminating(object) {
            todo.push(Changed::Deleting(object.name().to_owned()));
        }
    };
    let group_of = |object: &Object| {
        let group = object.get_str(&["spec", "group"]);
        group.unwrap_or_default().to_owned()
    };
    let mut groups = BTreeSet::new();
    let read = cursor.as_mut().map(|at| cache.read_changes(at, usize::MAX));
    let Some(Ok(changes)) = read else {
        let snapshot = cache.snapshot(0);
        *cursor = Some(snapshot.cursor);
        for entry in snapshot.tree.iter_from("") {
            let object = entry.object();
            look(&object);
            // What came free in the meantime was not seen.
            if definition::is_refused(&object) {
                groups.insert(group_of(&object));
            }
        }
        todo.extend(groups.into_iter().map(Changed::Names));
        return todo;
    };
    for change in changes {
        let (old, new) = (&change.old, &change.new);
        let new = new.as_ref().map(|entry| entry.object());
        if let Some(new) = &new {
            look(new);
            if new.condition(definition::NAMES_ACCEPTED).is_none() {
                groups.insert(group_of(new));
            }
        }
        let Some(old) = old.as_ref().map(|entry| entry.object()) else {
            continue;
        };
        let names = |object: Option<&Object>| object.map(definition::accepted).unwrap_or_default();
        if names(Some(&old)) != names(new.as_ref()) {
            groups.insert(group_of(&old));
        }
    }
    todo.extend(groups.into_iter().map(Changed::Names));
    todo
}

/// Decides again about the definitions of a group that wait for names. False where that has to be tried once more.
async fn resettle(server: &Arc<ApiServer>, group: &str) -> bool {
    let Some(resource) = resources::find(GROUP, "v1", PLURAL) else {
        return true;
    };
    let mut done = true;
    for name in server.world.customs.refused(group) {
        let mut settling = Settling { server, resource };
        let outcome = server
            .change(resource, "", &name, false, &mut settling)
            .await;
        if let Err(error) = outcome {
            tracing::debug!(name, message = error.message, "names of a definition");
            // One that is gone by now waits for nothing.
            done &= error.code == 404;
        }
    }
    done
}

struct Settling<'s> {
    server: &'s Arc<ApiServer>,
    resource: &'s Resource,
}

impl Decide for Settling<'_> {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let mut new = old.clone();
            let now = crate::clock::unix_seconds();
            let extra = settle(self.server, self.resource, &mut new, now).await?;
            Ok(match new == *old {
                true => Step::Keep(new),
                false => Step::Write(new, extra),
            })
        })
    }
}

/// Does it for a definition, and again where one of the same name is to go by then: nobody else began while this was busy.
async fn finalize_all(server: Arc<ApiServer>, mine: Busy) {
    let mut mine = Some(mine);
    while let Some(busy) = mine.take() {
        finalize(&server, &busy.name).await;
        let (all, name) = (busy.all.clone(), busy.name.clone());
        drop(busy);
        let entry = server.world.get(GROUP, PLURAL, "", &name);
        if entry.is_some_and(|entry| definition::is_terminating(&entry.object())) {
            mine = Busy::take(&all, &name);
        }
    }
}

/// Deletes all objects of a definition, and then lets it go.
async fn finalize(server: &Arc<ApiServer>, name: &str) {
    loop {
        match finalize_once(server, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(
                    name,
                    message = error.message,
                    "deleting the objects of a definition"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One pass; true when there is nothing left to do.
async fn finalize_once(server: &Arc<ApiServer>, name: &str) -> ApiResult<bool> {
    server.world.wait_most_recent(&*server.store).await?;
    let entry = server.world.get(GROUP, PLURAL, "", name);
    let entry = entry.filter(|entry| definition::is_terminating(&entry.object()));
    let Some(entry) = entry else {
        return Ok(true);
    };
    let resource = stored_form(&entry);
    let cache = resource.as_ref().and_then(|r| server.world.cache(r));
    if let (Some(resource), Some(cache)) = (resource, cache)
        && cache.len() > 0
    {
        let mut wake = cache.subscribe();
        empty(server, &resource, &cache).await?;
        // Those with finalizers go when somebody takes them off.
        server.world.wait_most_recent(&*server.store).await?;
        while cache.len() > 0 && !cache.is_closed() {
            let changed = tokio::time::timeout(AGAIN, wake.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                break;
            }
        }
        return Ok(false);
    }
    let definition = resources::find(GROUP, "v1", PLURAL).ok_or_else(ApiError::no_such_resource)?;
    match server
        .change(definition, "", name, false, &mut Finishing)
        .await
    {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(true),
    }
}

/// What is stored under a definition, whether that version is served or not; none where it was never established.
fn stored_form(entry: &Entry) -> Option<Handle> {
    let mut object = entry.object();
    let versions = object.get_array(&["spec", "versions"]).cloned();
    let mut versions = versions.unwrap_or_default();
    for version in versions.iter_mut().filter_map(|one| one.as_object_mut()) {
        version.insert("served".to_owned(), true.into());
    }
    object.set(&["spec", "versions"], versions);
    let mut all = custom::served(&object, entry.source()).into_iter();
    let stored = all.find(|one| one.custom.as_ref().is_some_and(|one| one.is_storage()));
    stored.map(Handle::from)
}

struct Finishing;

impl Decide for Finishing {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            if !definition::is_terminating(old) {
                return Ok(Step::Keep(old.clone()));
            }
            let mut new = old.clone();
            let now = schema::time::now_rfc3339(crate::clock::unix_seconds());
            definition::finish(&mut new, &now);
            Ok(match new.finalizers().is_empty() {
                true => Step::Remove(new, Extra::default()),
                false => Step::Write(new, Extra::default()),
            })
        })
    }
}

/// Whether the deletion of an object is under way and waits for others: to ask again would only cost a read of the store.
fn is_held(object: &Object) -> bool {
    object.deletion_timestamp().is_some() && !object.finalizers().is_empty()
}

/// Asks for the deletion of every object, past admission: the definition goes, and nobody may keep what is under it.
async fn empty(server: &Arc<ApiServer>, resource: &Resource, cache: &Cache) -> ApiResult<()> {
    // However many definitions go at once, the others' requests go on.
    let _permit = server.emptying.acquire().await;
    let snapshot = cache.snapshot(0);
    let entries: Vec<_> = snapshot.tree.iter_from("").cloned().collect();
    let context = bootstrap::internal(server, resource, "", "");
    let mut outcomes = futures::stream::iter(entries)
        .map(|entry| {
            let (context, options) = (&context, DeleteOptions::default());
            async move {
                if is_held(&entry.object()) {
                    return Ok(());
                }
                let place = (entry.namespace(), entry.name());
                let deletion = delete::delete_unasked(context, resource, place, &options);
                deletion.await.map(drop)
            }
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Err(error) if error.code != 404 => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry(
        cache: &Cache,
        group: &str,
        conditions: Value,
        revision: i64,
    ) -> Arc<crate::entry::Entry> {
        let name = format!("widgets.{group}");
        let value = json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"name": name}, "spec": {"group": group}, "status": {"conditions": conditions}});
        let key = format!("/registry/{PLURAL}/{name}");
        let stored = crate::codec::encode(&value);
        cache.entry(&key, &stored.into(), revision).unwrap()
    }

    fn groups(todo: Vec<Changed>) -> Vec<String> {
        let group = |changed| match changed {
            Changed::Names(group) => Some(group),
            Changed::Deleting(_) => None,
        };
        todo.into_iter().filter_map(group).collect()
    }

    #[test]
    fn definitions_that_wait_are_found_at_the_start() {
        let cache = Cache::new(Vec::new(), format!("/registry/{PLURAL}/"));
        let names = |status: &str| json!([{"type": "NamesAccepted", "status": status}]);
        let mut cursor = None;
        cache.reset(
            vec![
                entry(&cache, "a.io", names("True"), 1),
                entry(&cache, "b.io", names("False"), 2),
                entry(&cache, "c.io", Value::Null, 3),
            ],
            3,
        );
        assert_eq!(groups(changed(&cache, &mut cursor)), ["b.io", "c.io"]);
        assert!(groups(changed(&cache, &mut cursor)).is_empty());
        // One that another writer left undecided.
        let new = entry(&cache, "d.io", Value::Null, 4);
        cache.apply(4, vec![(new.key().to_owned(), Some(new.clone()))]);
        assert_eq!(groups(changed(&cache, &mut cursor)), ["d.io"]);
    }

    #[test]
    fn what_waits_for_finalizers_is_not_asked_again() {
        for (deleted, finalizers, held) in [
            (Some("2026-01-01T00:00:00Z"), ["x.io/f"].as_slice(), true),
            (Some("2026-01-01T00:00:00Z"), &[], false),
            (None, &["x.io/f"], false),
        ] {
            let value =
                json!({"metadata": {"deletionTimestamp": deleted, "finalizers": finalizers}});
            assert_eq!(is_held(&Object::new(value).unwrap()), held);
        }
    }

    #[test]
    fn a_name_is_busy_until_its_holder_is_dropped() {
        let all = Arc::default();
        let first = Busy::take(&all, "a");
        assert!(first.is_some() && Busy::take(&all, "a").is_none());
        assert!(Busy::take(&all, "b").is_some());
        drop(first);
        assert!(Busy::take(&all, "a").is_some());
    }
}

//! All caches of the server, fed by one watch of the store: every cache moves through the same revisions in the same
//! order, so a reader of several caches (RBAC, admission) sees one consistent past, and one revision tells how far
//! they all are.

mod load;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use host::watch;
use kv::{EventKind, Store, StoreError, WatchItem, WatchRequest};
use resources::{Handle, Resource};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::{Cache, Snapshot};
use crate::customs::{self, Customs};
use crate::encryption::{Encryption, Sealer, Unreadable};
use crate::entry::Entry;
use crate::status::{ApiError, ApiResult};

/// The prefix of everything that is a Kubernetes object.
pub(crate) const REGISTRY: &str = "/registry/";
/// The prefix of the definitions of custom resources.
const DEFINITIONS: &str = "/registry/customresourcedefinitions/";
/// How long a read waits for a revision that this member has not reached, as Kubernetes' watch cache does.
pub(crate) const REVISION_WAIT: Duration = Duration::from_secs(3);

/// A key and what is there now; none after a deletion.
pub(crate) type KeyChange = (String, Option<Arc<Entry>>);

pub(crate) struct World {
    by_prefix: BTreeMap<String, Arc<Cache>>,
    /// The same for who has a key, as each change has: the prefixes begin alike, so that an order of them is slow to search.
    of_keys: HashMap<String, Arc<Cache>>,
    /// By group and plural.
    by_name: BTreeMap<&'static str, BTreeMap<&'static str, Arc<Cache>>>,
    /// What came at run time.
    pub(crate) customs: Customs,
    /// Revision up to which every cache is complete; 0 until the first load is done.
    revision: watch::Sender<i64>,
    /// What is stored encrypted, and how.
    pub(crate) sealer: Arc<Sealer>,
    /// Everything is to be read again.
    again: Notify,
    /// The newest revision when the first load began, which starts further back; 0 until then.
    first: AtomicI64,
}

impl World {
    pub(crate) fn new(all: &'static [Resource], encryption: Encryption) -> World {
        let mut shapes: BTreeMap<String, Vec<Handle>> = BTreeMap::new();
        for resource in all.iter().filter(|resource| !resource.is_virtual()) {
            let list = shapes
                .entry(resources::storage_prefix(resource))
                .or_default();
            if crate::entry::is_converted(resource) {
                list.push(resource.into())
            } else {
                list.insert(0, resource.into())
            }
        }
        let mut world = World {
            by_prefix: BTreeMap::new(),
            of_keys: HashMap::new(),
            by_name: BTreeMap::new(),
            customs: Customs::default(),
            revision: watch::Sender::new(0),
            sealer: Arc::new(Sealer::new(encryption)),
            again: Notify::new(),
            first: AtomicI64::new(0),
        };
        for (prefix, shapes) in shapes {
            let cache = Arc::new(Cache::new(shapes, prefix.clone()));
            for shape in all
                .iter()
                // What is not stored may bear the name of something that is.
                .filter(|shape| !shape.is_virtual() && resources::storage_prefix(shape) == prefix)
            {
                let of_group = world.by_name.entry(&shape.group).or_default();
                of_group.insert(&shape.plural, cache.clone());
            }
            world.of_keys.insert(prefix.clone(), cache.clone());
            world.by_prefix.insert(prefix, cache);
        }
        world
    }

    /// The cache behind a stored resource.
    pub(crate) fn cache(&self, resource: &Resource) -> Option<Arc<Cache>> {
        match resource.custom {
            Some(_) => self.customs.cache(resource),
            None => self.named(&resource.group, &resource.plural).cloned(),
        }
    }

    /// The resource served at `/apis/<group>/<version>/<plural>`.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Handle> {
        match resources::find(group, version, plural) {
            Some(resource) => Some(resource.into()),
            None => self.customs.find(group, version, plural),
        }
    }

    pub(crate) fn named(&self, group: &str, plural: &str) -> Option<&Arc<Cache>> {
        self.by_name.get(group)?.get(plural)
    }

    pub(crate) fn caches(&self) -> impl Iterator<Item = Arc<Cache>> {
        self.by_prefix
            .values()
            .cloned()
            .chain(self.customs.caches())
    }

    /// An object of a built-in kind, as of this member's cache.
    pub(crate) fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Entry>> {
        let cache = self.named(group, plural)?;
        let resource = cache.shapes.first()?;
        cache.get(&resources::storage_key(resource, namespace, name))
    }

    /// All objects of a built-in kind in a namespace (all namespaces when empty), as of this member's cache.
    pub(crate) fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Entry>> {
        let Some(cache) = self.named(group, plural) else {
            return Vec::new();
        };
        let prefix = if namespace.is_empty() {
            cache.prefix.clone()
        } else {
            format!("{}{namespace}/", cache.prefix)
        };
        cache
            .snapshot(0)
            .tree
            .iter_prefix(&prefix)
            .cloned()
            .collect()
    }

    /// Lets the caches forget what came up to a revision.
    pub(crate) fn age(&self, revision: i64) {
        self.caches().for_each(|cache| cache.age(revision));
    }

    /// Lets them forget of it what a storm of changes left.
    pub(crate) fn calm(&self, revision: i64) {
        self.caches().for_each(|cache| cache.calm(revision));
    }

    pub(crate) fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Whether the caches have ever shown the present.
    pub(crate) fn is_loaded(&self) -> bool {
        self.shows_present(self.revision())
    }

    fn shows_present(&self, revision: i64) -> bool {
        let first = self.first.load(Ordering::Acquire);
        first > 0 && revision >= first
    }

    /// Waits until the caches have shown the present once. Before that they are empty, which no reader may take for
    /// the state of the cluster.
    pub(crate) async fn wait_loaded(&self) -> ApiResult<()> {
        if self.is_loaded() {
            return Ok(());
        }
        let mut receiver = self.revision.subscribe();
        let loaded = receiver.wait_for(|now| self.shows_present(*now));
        match tokio::time::timeout(REVISION_WAIT, loaded).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ApiError::unavailable(
                "the server has just started and does not know the cluster yet, please try again later",
            )),
        }
    }

    /// Waits until every cache has reached `revision`; answers 504 when `deadline` passes first.
    pub(crate) async fn wait_for(&self, revision: i64, deadline: Instant) -> ApiResult<()> {
        let mut receiver = self.revision.subscribe();
        let reached =
            tokio::time::timeout_at(deadline, receiver.wait_for(|now| *now >= revision)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ApiError::revision_too_large(revision, self.revision())),
        }
    }

    /// Waits until the caches show everything that was acknowledged anywhere before this call.
    pub(crate) async fn wait_most_recent(&self, store: &dyn Store) -> ApiResult<i64> {
        let revision = store.read_index().await?;
        if self.revision() < revision {
            self.wait_for(revision, Instant::now() + REVISION_WAIT)
                .await?;
        }
        Ok(revision)
    }

    pub(crate) fn snapshot(&self, cache: &Cache) -> Snapshot {
        cache.snapshot(self.revision())
    }

    /// The present cache behind a stored resource, with its state.
    pub(crate) fn snapshot_of(&self, resource: &Resource) -> Option<(Arc<Cache>, Snapshot)> {
        loop {
            let cache = self.cache(resource)?;
            let snapshot = self.snapshot(&cache);
            // Another may have taken its place before that revision, and have gone on without it.
            if !cache.is_closed() {
                return Some((cache, snapshot));
            }
        }
    }

    /// The cache that a key belongs to; one of a custom resource is made where it is not there.
    fn cache_of_key(&self, key: &str, revision: i64) -> Option<Arc<Cache>> {
        if let Some(prefix) = customs::prefix_of(key) {
            return Some(self.customs.cache_at(prefix, revision - 1));
        }
        self.built_in_cache_of_key(key).cloned()
    }

    fn built_in_cache_of_key(&self, key: &str) -> Option<&Arc<Cache>> {
        let rest = key.strip_prefix(REGISTRY)?;
        let end = REGISTRY.len() + rest.find('/')? + 1;
        self.of_keys.get(&key[..end])
    }

    /// Follows the store for ever. The future ends only when it is dropped.
    pub(crate) async fn follow(self: Arc<World>, store: Arc<dyn Store>) {
        let mut pause = Duration::from_millis(20);
        let mut loaded = false;
        loop {
            let outcome = self.follow_once(&*store, &mut loaded).await;
            if let Err(error) = outcome {
                tracing::info!(%error, "the store's watch ended; it is opened again");
                // The store is electing, starting or stopping: there is no condition to wait for but its answer.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            } else {
                pause = Duration::from_millis(20);
            }
        }
    }

    async fn follow_once(
        self: &Arc<Self>,
        store: &dyn Store,
        loaded: &mut bool,
    ) -> Result<(), StoreError> {
        if !*loaded {
            self.load(store).await?;
            *loaded = true;
        }
        let all = Bytes::from_static(b"\0");
        let request = WatchRequest {
            key: all.clone(),
            range_end: all,
            start_revision: self.revision() + 1,
        };
        let mut stream = match store.watch(request).await {
            Err(StoreError::Refused(kv::Refusal::Compacted { .. })) => {
                *loaded = false;
                return Ok(());
            }
            other => other?,
        };
        let newest = self.first.load(Ordering::Acquire);
        if newest - self.revision() > load::REVISIONS_ALONG {
            match self.catch_up(stream, newest).await? {
                Some(rest) => stream = rest,
                None => {
                    *loaded = false;
                    return Ok(());
                }
            }
        }
        loop {
            let item = tokio::select! {
                biased;
                () = self.again.notified() => {
                    *loaded = false;
                    return Ok(());
                }
                item = stream.next() => match item {
                    Some(item) => item,
                    None => return Err(StoreError::Stopped),
                },
            };
            if !self.take(item) {
                *loaded = false;
                return Ok(());
            }
        }
    }

    /// Takes in what the watch brings; false where something is missing before it.
    fn take(&self, item: WatchItem) -> bool {
        let reached = self.take_in(item);
        if let Some(revision) = reached {
            self.advance(revision);
        }
        reached.is_some()
    }

    /// The same without telling anybody; answers up to which revision the caches are complete then.
    fn take_in(&self, item: WatchItem) -> Option<i64> {
        match item {
            WatchItem::Events { revision, events } => {
                self.apply(revision, &events);
                Some(revision)
            }
            WatchItem::Progress { revision } => Some(revision),
            WatchItem::Compacted { .. } => None,
        }
    }

    /// From now on another configuration of encryption holds. What could not be read before is tried again.
    pub(crate) fn encrypt_by(&self, encryption: Encryption) {
        self.sealer.replace(encryption);
        self.retry_unreadable();
    }

    /// Reads everything again where something was tried with an earlier configuration only.
    pub(crate) fn retry_unreadable(&self) {
        let version = self.sealer.version();
        let outdated = |cache: &Arc<Cache>| {
            let unreadable = cache.unreadables();
            unreadable.is_some_and(|(_, _, first)| first.tried < version)
        };
        if self.caches().any(|cache| outdated(&cache)) {
            self.again.notify_one();
        }
    }

    /// Says of what is missing here what is to be done.
    fn report_unreadable(&self) {
        for cache in self.caches() {
            if let Some((count, key, unreadable)) = cache.unreadables() {
                report(cache.resource().1, count, &key, &unreadable);
            }
        }
    }

    fn advance(&self, revision: i64) {
        self.revision.send_if_modified(|now| {
            let ahead = revision > *now;
            *now = revision.max(*now);
            ahead
        });
    }

    fn apply(&self, revision: i64, events: &[kv::Event]) {
        let mut changes: Vec<(Arc<Cache>, Vec<KeyChange>)> = Vec::new();
        for event in events {
            let Ok(key) = std::str::from_utf8(&event.kv.key) else {
                continue;
            };
            let Some(cache) = self.cache_of_key(key, revision) else {
                continue;
            };
            let change = if event.kind == EventKind::Delete as i32 {
                (key.to_owned(), None)
            } else {
                match self.sealer.open(cache.resource(), key, &event.kv.value) {
                    Ok(opened) => match cache.changed(key, &opened, revision) {
                        Some(entry) => (key.to_owned(), Some(entry)),
                        None => continue,
                    },
                    Err(unreadable) => {
                        report(cache.resource().1, 1, key, &unreadable);
                        cache.lose(key, revision, unreadable);
                        self.retry_unreadable();
                        continue;
                    }
                }
            };
            match changes.iter_mut().find(|(one, _)| Arc::ptr_eq(one, &cache)) {
                Some((_, list)) => list.push(change),
                None => changes.push((cache, vec![change])),
            }
        }
        let mut definitions: Vec<KeyChange> = Vec::new();
        for (cache, list) in changes {
            if cache.prefix == DEFINITIONS {
                definitions.clone_from(&list);
            }
            cache.apply(revision, list);
        }
        for (key, entry) in definitions {
            let name = &key[DEFINITIONS.len()..];
            self.customs.apply(name, entry.as_ref(), revision);
        }
    }
}

fn report(resource: &str, count: usize, key: &str, unreadable: &Unreadable) {
    tracing::error!(
        resource,
        count,
        key,
        error = unreadable.why,
        "stored objects cannot be decrypted; they answer 500 until the key with which they were written is in the file of \
         --encryption-provider-config again, also as the last one"
    );
}

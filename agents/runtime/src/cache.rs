//! The objects of one kind, as the last watch left them, with the indexes that agents ask for.
//!
//! One task (the reflector) writes, everybody reads. Subscribers are called synchronously after each change, in order,
//! outside the lock on the objects, so they may read caches; they must be quick: they only enqueue keys.

use crate::error::ApiError;
use crate::kinds::{Kind, LabelSelector, Labels, ObjectMeta};
use crate::reflector::{Parsed, Sink};
use crate::resource_ref::ResourceRef;
use crate::selector::contains_all;
use crate::watch::{Line, decode_line};
use futures::future::BoxFuture;
use host::HashMap;
use host::watch;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// Namespace (empty for cluster scoped objects) and name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace, or empty.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(&meta.namespace, &meta.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One change of a cache: added (no `old`), changed, or deleted (no `new`).
pub struct Change<T> {
    /// Before.
    pub old: Option<Arc<T>>,
    /// After.
    pub new: Option<Arc<T>>,
}

impl<T> Change<T> {
    /// The object as it is, or as it last was.
    pub fn latest(&self) -> &Arc<T> {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has a side")
    }

    /// Both sides that exist, old first.
    pub fn sides(&self) -> impl Iterator<Item = &Arc<T>> {
        self.old.iter().chain(self.new.iter())
    }
}

type Subscriber<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;
/// A subscriber to metadata of any kind: old and new.
pub type MetaSubscriber = Box<dyn Fn(Option<&ObjectMeta>, Option<&ObjectMeta>) + Send + Sync>;

/// See the module head.
pub struct Cache<T> {
    resource: ResourceRef,
    objects: RwLock<Objects<T>>,
    /// Held while a change is applied and told, so that every subscriber sees every change once and in order.
    subscribers: Mutex<Vec<Subscriber<T>>>,
    staged: Mutex<BTreeMap<Key, Arc<T>>>,
    version: watch::Sender<Version>,
}

/// How far a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Whether a complete state was seen.
    pub synced: bool,
    /// Revision of the last event or bookmark.
    pub revision: u64,
    /// Counts every change, so that waiters of anything can look again.
    pub changes: u64,
}

/// Objects by a value that several have. They are in it, not only their keys: who asks for thousands would otherwise look up each.
type Index<T> = HashMap<String, BTreeMap<Key, Arc<T>>>;

struct Objects<T> {
    map: BTreeMap<Key, Arc<T>>,
    by_owner: Index<T>,
    by_node: Index<T>,
    /// By namespace, those that nobody controls.
    uncontrolled: Index<T>,
}

impl<T: Kind> Cache<T> {
    /// An empty cache of `resource`, not yet synced. Tests fill it with [`Cache::apply`].
    pub fn new(resource: ResourceRef) -> Self {
        Self {
            resource,
            objects: RwLock::new(Objects {
                map: BTreeMap::new(),
                by_owner: HashMap::default(),
                by_node: HashMap::default(),
                uncontrolled: HashMap::default(),
            }),
            subscribers: Mutex::new(Vec::new()),
            staged: Mutex::new(BTreeMap::new()),
            version: watch::Sender::new(Version::default()),
        }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.read().map.get(&Key::new(namespace, name)).cloned()
    }

    /// One object by key.
    pub fn by_key(&self, key: &Key) -> Option<Arc<T>> {
        self.read().map.get(key).cloned()
    }

    /// Everything, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.read().map.values().cloned().collect()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.read().map.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of a namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        self.filter(namespace, |_| true)
    }

    /// The objects of a namespace that a selector matches.
    pub fn select(&self, namespace: &str, selector: &LabelSelector) -> Vec<Arc<T>> {
        self.filter(namespace, |meta| selector.matches(&meta.labels))
    }

    /// The objects of a namespace that have all these labels.
    pub fn with_labels(&self, namespace: &str, labels: &Labels) -> Vec<Arc<T>> {
        self.filter(namespace, |meta| contains_all(&meta.labels, labels))
    }

    fn filter(&self, namespace: &str, wanted: impl Fn(&ObjectMeta) -> bool) -> Vec<Arc<T>> {
        let objects = self.read();
        let all = objects
            .map
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| &*key.namespace == namespace);
        all.map(|(_, object)| object)
            .filter(|object| wanted(object.meta()))
            .cloned()
            .collect()
    }

    /// Whether a namespace has any.
    pub fn has_any_in(&self, namespace: &str) -> bool {
        let objects = self.read();
        let mut from = objects.map.range(Key::new(namespace, "")..);
        from.next()
            .is_some_and(|(key, _)| &*key.namespace == namespace)
    }

    /// The objects that name `uid` as an owner, controlling or not.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<T>> {
        self.indexed(|objects| objects.by_owner.get(uid))
    }

    /// The objects on a node.
    pub fn on_node(&self, node: &str) -> Vec<Arc<T>> {
        self.indexed(|objects| objects.by_node.get(node))
    }

    /// The objects of a namespace that nobody controls, so that whoever adopts need not look at all the others.
    pub fn uncontrolled_in(&self, namespace: &str) -> Vec<Arc<T>> {
        self.indexed(|objects| objects.uncontrolled.get(namespace))
    }

    fn indexed(&self, of: impl Fn(&Objects<T>) -> Option<&BTreeMap<Key, Arc<T>>>) -> Vec<Arc<T>> {
        let objects = self.read();
        let Some(found) = of(&objects) else {
            return Vec::new();
        };
        found.values().cloned().collect()
    }

    /// Calls `subscriber` for every object there is (as added) and for every change from now on.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<T>) + Send + Sync + 'static) {
        let mut subscribers = lock(&self.subscribers);
        let subscriber: Subscriber<T> = Box::new(subscriber);
        for object in self.list() {
            let change = Change {
                old: None,
                new: Some(object),
            };
            tell(std::slice::from_ref(&subscriber), &change);
        }
        subscribers.push(subscriber);
    }

    /// How far the cache is, to wait on.
    pub fn version(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }

    /// Waits until a complete state was seen.
    pub async fn wait_synced(&self) {
        // The sender lives in `self`, so that the wait cannot fail.
        let _ = self.version.subscribe().wait_for(|v| v.synced).await;
    }

    /// Waits until the cache is at least at `revision`.
    pub async fn wait_revision(&self, revision: u64) {
        let _ = self
            .version
            .subscribe()
            .wait_for(|v| v.revision >= revision)
            .await;
    }

    /// Puts one object, as a watch event would.
    pub fn apply(&self, object: T) {
        let subscribers = lock(&self.subscribers);
        self.put(&subscribers, Arc::new(object));
        self.bump(|_| {});
    }

    /// Removes one object, as a watch event would.
    pub fn remove(&self, key: &Key) {
        let subscribers = lock(&self.subscribers);
        self.drop_key(&subscribers, key);
        self.bump(|_| {});
    }

    /// Declares the cache complete at a revision (tests; the reflector does it for live caches).
    pub fn set_synced(&self, revision: u64) {
        self.bump(|v| {
            v.synced = true;
            v.revision = v.revision.max(revision);
        });
    }

    fn bump(&self, change: impl FnOnce(&mut Version)) {
        self.version.send_modify(|version| {
            version.changes += 1;
            change(version);
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<T>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, subscribers: &[Subscriber<T>], object: Arc<T>) {
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let key = objects.known(Key::of(object.meta()));
            let old = objects.map.insert(key.clone(), object.clone());
            // Nearly every change leaves an object where it was, and is put over it there.
            if let Some(old) = old.as_ref().filter(|old| is_elsewhere::<T>(old, &object)) {
                objects.unindex(&key, old);
            }
            objects.index(&key, &object);
            old
        };
        match old {
            // A new incarnation under an old name is a deletion and an addition to everybody who reckons with uids.
            Some(old) if old.meta().uid != object.meta().uid => {
                tell(
                    subscribers,
                    &Change {
                        old: Some(old),
                        new: None,
                    },
                );
                tell(
                    subscribers,
                    &Change {
                        old: None,
                        new: Some(object),
                    },
                );
            }
            old => tell(
                subscribers,
                &Change {
                    old,
                    new: Some(object),
                },
            ),
        }
    }

    fn drop_key(&self, subscribers: &[Subscriber<T>], key: &Key) {
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let old = objects.map.remove(key);
            if let Some(old) = &old {
                objects.unindex(key, old);
            }
            old
        };
        if old.is_some() {
            tell(subscribers, &Change { old, new: None });
        }
    }

    /// Takes the object under a key as a watch line left it (`None`: gone), into the staged state or into the live one.
    fn take_line(&self, key: Key, object: Option<Arc<T>>, revision: &str, staging: bool) {
        if staging {
            let mut staged = lock(&self.staged);
            match object {
                Some(object) => drop(staged.insert(key, object)),
                None => drop(staged.remove(&key)),
            }
            return;
        }
        let subscribers = lock(&self.subscribers);
        match object {
            Some(object) => self.put(&subscribers, object),
            None => self.drop_key(&subscribers, &key),
        }
        self.bump(|v| v.revision = revision.parse().unwrap_or(0).max(v.revision));
    }

    fn replace(&self, objects: BTreeMap<Key, Arc<T>>) {
        let subscribers = lock(&self.subscribers);
        let gone: Vec<Key> = self
            .read()
            .map
            .keys()
            .filter(|key| !objects.contains_key(key))
            .cloned()
            .collect();
        for key in &gone {
            self.drop_key(&subscribers, key);
        }
        for (key, object) in objects {
            let same = self.by_key(&key).is_some_and(|old| {
                old.meta().resource_version == object.meta().resource_version
                    && old.meta().uid == object.meta().uid
            });
            if !same {
                self.put(&subscribers, object);
            }
        }
    }
}

impl<T: Kind> Objects<T> {
    /// The same key in the texts of one that is there: each name stands in memory once, and a namespace for all that is in it.
    fn known(&self, key: Key) -> Key {
        if let Some((known, _)) = self.map.get_key_value(&key) {
            return known.clone();
        }
        let before = self.map.range::<Key, _>(..&key).next_back();
        match before.filter(|(before, _)| before.namespace == key.namespace) {
            Some((before, _)) => Key {
                namespace: before.namespace.clone(),
                name: key.name,
            },
            None => key,
        }
    }

    fn index(&mut self, key: &Key, object: &Arc<T>) {
        if !T::IS_INDEXED {
            return;
        }
        for owner in &object.meta().owner_references {
            add_to(&mut self.by_owner, &owner.uid, key, object);
        }
        if !object.node_name().is_empty() {
            add_to(&mut self.by_node, object.node_name(), key, object);
        }
        if object.meta().controller().is_none() {
            let namespace = &object.meta().namespace;
            add_to(&mut self.uncontrolled, namespace, key, object);
        }
    }

    fn unindex(&mut self, key: &Key, object: &T) {
        if !T::IS_INDEXED {
            return;
        }
        for owner in &object.meta().owner_references {
            remove_from(&mut self.by_owner, &owner.uid, key);
        }
        remove_from(&mut self.by_node, object.node_name(), key);
        remove_from(&mut self.uncontrolled, &object.meta().namespace, key);
    }
}

/// Whether an object was found by other owners or on another node before it changed.
fn is_elsewhere<T: Kind>(old: &T, new: &T) -> bool {
    old.meta().owner_references != new.meta().owner_references || old.node_name() != new.node_name()
}

fn add_to<T>(index: &mut Index<T>, value: &str, key: &Key, object: &Arc<T>) {
    match index.get_mut(value) {
        Some(found) => drop(found.insert(key.clone(), object.clone())),
        None => {
            let first = BTreeMap::from([(key.clone(), object.clone())]);
            index.insert(value.to_owned(), first);
        }
    }
}

fn remove_from<T>(index: &mut Index<T>, value: &str, key: &Key) {
    if let Some(found) = index.get_mut(value) {
        found.remove(key);
        if found.is_empty() {
            index.remove(value);
        }
    }
}

/// A subscriber that panics must not take the watch and all the other subscribers with it.
fn tell<T>(subscribers: &[Subscriber<T>], change: &Change<T>) {
    for subscriber in subscribers {
        let told = std::panic::catch_unwind(AssertUnwindSafe(|| subscriber(change)));
        if told.is_err() {
            tracing::error!("a subscriber of a cache panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cache whose kind the caller does not know.
pub trait AnyCache: Send + Sync {
    /// What it holds.
    fn resource(&self) -> &ResourceRef;
    /// How far it is.
    fn versions(&self) -> watch::Receiver<Version>;
    /// The uid of the object under a key, and whether it is being deleted.
    fn incarnation(&self, key: &Key) -> Option<(String, bool)>;
    /// Like [`Cache::subscribe`], for metadata.
    fn subscribe_meta(&self, subscriber: MetaSubscriber);
    /// Waits for a complete state.
    fn synced(&self) -> BoxFuture<'_, ()>;
}

impl<T: Kind> AnyCache for Cache<T> {
    fn resource(&self) -> &ResourceRef {
        &self.resource
    }
    fn versions(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }
    fn incarnation(&self, key: &Key) -> Option<(String, bool)> {
        self.by_key(key)
            .map(|object| (object.meta().uid.clone(), object.meta().is_deleting()))
    }
    fn subscribe_meta(&self, subscriber: MetaSubscriber) {
        self.subscribe(move |change| {
            subscriber(
                change.old.as_deref().map(Kind::meta),
                change.new.as_deref().map(Kind::meta),
            )
        });
    }
    fn synced(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.wait_synced())
    }
}

#[derive(Deserialize)]
struct ListPage {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default, deserialize_with = "crate::kinds::nullable")]
    items: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

impl<T: Kind> Sink for Cache<T> {
    fn begin(&self) {
        lock(&self.staged).clear();
    }

    fn page(&self, bytes: &[u8]) -> Result<(String, String), ApiError> {
        let page: ListPage = serde_json::from_slice(bytes)
            .map_err(|e| ApiError::malformed(format!("list of {}: {e}", self.resource)))?;
        let mut staged = lock(&self.staged);
        for item in page.items {
            match serde_json::from_value::<T>(item) {
                Ok(object) => {
                    staged.insert(Key::of(object.meta()), Arc::new(object));
                }
                Err(error) => {
                    tracing::warn!(resource = %self.resource, %error, "an object of an unexpected form is left out")
                }
            }
        }
        Ok((page.metadata.continue_token, page.metadata.resource_version))
    }

    fn commit(&self, revision: &str) {
        let staged = std::mem::take(&mut *lock(&self.staged));
        self.replace(staged);
        self.bump(|v| {
            v.synced = true;
            v.revision = revision.parse().unwrap_or(v.revision).max(v.revision);
        });
    }

    fn line(&self, line: &[u8], staging: bool) -> Result<Parsed, ApiError> {
        let (kind, object) = match decode_line::<T>(line) {
            Ok(Line::Object(kind, object)) => (kind, object),
            Ok(Line::Error(error)) => return Err(error),
            Ok(Line::Bookmark(object)) => {
                let revision = object
                    .pointer("/metadata/resourceVersion")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                let initial_end = object
                    .pointer("/metadata/annotations/k8s.io~1initial-events-end")
                    .and_then(Value::as_str)
                    == Some("true");
                if !staging {
                    self.bump(|v| v.revision = revision.parse().unwrap_or(0).max(v.revision));
                }
                return Ok(Parsed {
                    revision,
                    initial_end,
                });
            }
            Err(error) => {
                // One object of an unexpected form must not stop the others; a line that is not JSON must.
                let Line::Object(_, tree) = decode_line::<Value>(line)? else {
                    return Err(error);
                };
                tracing::warn!(resource = %self.resource, %error, "an object of an unexpected form is left out");
                let text = |field: &str| {
                    tree.pointer(field)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                };
                // What cannot be read is not there: an older form of it must not stay for ever.
                let key = Key::new(text("/metadata/namespace"), text("/metadata/name"));
                let revision = text("/metadata/resourceVersion").to_owned();
                self.take_line(key, None, &revision, staging);
                return Ok(Parsed {
                    revision,
                    initial_end: false,
                });
            }
        };
        let revision = object.meta().resource_version.clone();
        let key = Key::of(object.meta());
        let object = (kind != "DELETED").then(|| Arc::new(object));
        self.take_line(key, object, &revision, staging);
        Ok(Parsed {
            revision,
            initial_end: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Pod;
    use crate::resource_ref::PODS;
    use serde_json::json;

    fn pod(name: &str, uid: &str, node: &str, version: u32) -> Value {
        json!({"metadata": {"name": name, "namespace": "a", "uid": uid, "resourceVersion": version.to_string(), "labels": {"app": name},
            "ownerReferences": [{"uid": "owner", "name": "o", "kind": "X", "apiVersion": "v1"}]}, "spec": {"nodeName": node}})
    }

    fn recorded(cache: &Cache<Pod>) -> Arc<Mutex<Vec<String>>> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = log.clone();
        cache.subscribe(move |change| {
            let side = |s: &Option<Arc<Pod>>| {
                s.as_ref().map_or("-".to_owned(), |p| {
                    format!("{}@{}", p.metadata.uid, p.metadata.resource_version)
                })
            };
            sink.lock()
                .unwrap()
                .push(format!("{} -> {}", side(&change.old), side(&change.new)));
        });
        log
    }

    #[test]
    fn a_relist_tells_of_what_was_missed() {
        let cache = Cache::<Pod>::new(PODS);
        let log = recorded(&cache);
        let page = |items: Value, version: &str| {
            cache.begin();
            let text =
                json!({"metadata": {"resourceVersion": version}, "items": items}).to_string();
            cache.page(text.as_bytes()).unwrap();
            cache.commit(version);
        };
        page(
            json!([
                pod("x", "u1", "n", 1),
                pod("y", "u2", "n", 2),
                pod("z", "u3", "", 3)
            ]),
            "3",
        );
        page(
            json!([
                pod("y", "u2", "m", 5),
                pod("x", "u9", "n", 6),
                pod("w", "u4", "", 7)
            ]),
            "7",
        );
        assert_eq!(
            *log.lock().unwrap(),
            [
                "- -> u1@1",
                "- -> u2@2",
                "- -> u3@3",
                "u3@3 -> -",
                "- -> u4@7",
                "u1@1 -> -",
                "- -> u9@6",
                "u2@2 -> u2@5"
            ]
        );
        assert_eq!(cache.on_node("n").len(), 1);
        assert_eq!(cache.on_node("m").len(), 1);
        assert_eq!(cache.owned_by("owner").len(), 3);
        assert_eq!(
            cache
                .with_labels("a", &[("app".to_owned(), "w".to_owned())].into())
                .len(),
            1
        );
        assert!(cache.in_namespace("b").is_empty());
        assert!(cache.version().borrow().synced && cache.version().borrow().revision == 7);
    }

    #[test]
    fn an_object_that_changes_is_found_as_it_is_wherever_it_was() {
        let cache = Cache::<Pod>::new(PODS);
        let put = |node: &str, version: u32| {
            let pod = pod("x", "u", node, version);
            cache.apply(serde_json::from_value(pod).unwrap());
        };
        let versions = |found: Vec<Arc<Pod>>| -> Vec<u64> {
            found.iter().map(|pod| pod.metadata.version()).collect()
        };
        put("n", 1);
        put("n", 2);
        assert_eq!(versions(cache.on_node("n")), [2]);
        assert_eq!(versions(cache.owned_by("owner")), [2]);
        assert_eq!(versions(cache.uncontrolled_in("a")), [2]);
        put("m", 3);
        assert!(cache.on_node("n").is_empty());
        assert_eq!(versions(cache.on_node("m")), [3]);
        assert_eq!(versions(cache.owned_by("owner")), [3]);
    }

    #[test]
    fn names_of_objects_are_there_once() {
        let cache = Cache::<Pod>::new(PODS);
        let put = |name: &str, node: &str| {
            cache.apply(serde_json::from_value(pod(name, name, node, 1)).unwrap());
        };
        put("x", "");
        put("y", "");
        put("y", "n");
        let objects = cache.read();
        let keys: Vec<&Key> = objects.map.keys().collect();
        assert!(Arc::ptr_eq(&keys[0].namespace, &keys[1].namespace));
        let (on_node, _) = objects.by_node["n"].first_key_value().unwrap();
        assert!(Arc::ptr_eq(&on_node.name, &keys[1].name));
        assert!(Arc::ptr_eq(&on_node.namespace, &keys[0].namespace));
    }

    #[test]
    fn the_uncontrolled_are_found_without_looking_at_the_others() {
        let cache = Cache::<Pod>::new(PODS);
        let with = |controller: bool| {
            let mut pod = pod("x", "u", "", 1);
            pod["metadata"]["ownerReferences"][0]["controller"] = controller.into();
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        assert!(!cache.has_any_in("a"));
        cache.apply(with(false));
        assert_eq!(cache.uncontrolled_in("a").len(), 1);
        assert!(cache.uncontrolled_in("b").is_empty());
        assert!(cache.has_any_in("a") && !cache.has_any_in("") && !cache.has_any_in("b"));
        cache.apply(with(true));
        assert!(cache.uncontrolled_in("a").is_empty());
        cache.apply(with(false));
        cache.remove(&Key::new("a", "x"));
        assert!(cache.uncontrolled_in("a").is_empty());
    }

    #[test]
    fn a_subscriber_that_panics_does_not_stop_the_others() {
        let cache = Cache::<Pod>::new(PODS);
        cache.subscribe(|_| panic!("a bug in a subscriber (this test means it)"));
        let log = recorded(&cache);
        cache.apply(serde_json::from_value(pod("x", "u", "", 1)).unwrap());
        assert_eq!(*log.lock().unwrap(), ["- -> u@1"]);
    }

    #[test]
    fn broken_objects_are_left_out_and_broken_lines_refused() {
        let cache = Cache::<Pod>::new(PODS);
        let line =
            json!({"type": "ADDED", "object": {"metadata": {"name": 7, "resourceVersion": "9"}}})
                .to_string();
        assert_eq!(cache.line(line.as_bytes(), false).unwrap().revision, "9");
        assert!(cache.line(b"<html>", false).is_err());
        assert!(cache.is_empty());
        assert_eq!(cache.version().borrow().revision, 9, "who waits goes on");
        // One that was readable before does not stay as it was.
        cache.apply(serde_json::from_value(pod("x", "u", "", 1)).unwrap());
        let mut odd = pod("x", "u", "", 10);
        odd["spec"] = 7.into();
        let line = json!({"type": "MODIFIED", "object": odd}).to_string();
        assert!(cache.line(line.as_bytes(), false).is_ok());
        assert!(cache.is_empty());
    }
}

//! The objects of one kind, as the last watch left them, with the indexes that agents ask for.
//!
//! One task (the reflector) writes, everybody reads. Subscribers are called synchronously after each change, in order,
//! outside the lock on the objects, so they may read caches; they must be quick: they only enqueue keys.

mod all;
mod key;
mod lookup;
mod objects;
mod sink;
mod slots;

pub use key::Key;

use crate::kinds::{Kind, ObjectMeta};
use crate::resource_ref::ResourceRef;
use futures::future::BoxFuture;
use host::watch;
use objects::{Held, Named, Objects};
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

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

impl<T: Kind> Change<T> {
    /// The sides by which selectors find the object: the old one only where it had other labels.
    pub fn by_labels(&self) -> impl Iterator<Item = &Arc<T>> {
        let new = self.new.as_ref();
        let is_other = |old: &&Arc<T>| new.is_none_or(|new| new.meta().labels != old.meta().labels);
        let old = self.old.as_ref().filter(is_other);
        old.into_iter().chain(new)
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
    staged: Mutex<BTreeSet<Held<T>>>,
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

impl<T: Kind> Cache<T> {
    /// An empty cache of `resource`, not yet synced. Tests fill it with [`Cache::apply`].
    pub fn new(resource: ResourceRef) -> Self {
        Self {
            resource,
            objects: RwLock::new(Objects::new()),
            subscribers: Mutex::new(Vec::new()),
            staged: Mutex::new(BTreeSet::new()),
            version: watch::Sender::new(Version::default()),
        }
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
        self.drop_named(&subscribers, key);
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
            objects.put(object.clone())
        };
        match old {
            // A new incarnation under an old name is a deletion and an addition to everybody who reckons with uids.
            Some(old) if old.identity().uid != object.identity().uid => {
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

    fn drop_named(&self, subscribers: &[Subscriber<T>], name: &dyn Named) {
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            objects.take(name)
        };
        if old.is_some() {
            tell(subscribers, &Change { old, new: None });
        }
    }

    /// Takes the object of a name as a watch line left it (`None`: gone), into the staged state or into the live one.
    fn take_line(&self, name: &dyn Named, object: Option<Arc<T>>, revision: &str, staging: bool) {
        if staging {
            let mut staged = lock(&self.staged);
            match object {
                Some(object) => drop(staged.replace(Held::of(object))),
                None => drop(staged.take(name)),
            }
            return;
        }
        let subscribers = lock(&self.subscribers);
        match object {
            Some(object) => self.put(&subscribers, object),
            None => self.drop_named(&subscribers, name),
        }
        self.bump(|v| v.revision = revision.parse().unwrap_or(0).max(v.revision));
    }

    fn replace(&self, objects: BTreeSet<Held<T>>) {
        let subscribers = lock(&self.subscribers);
        let known = self.list_unsorted().into_iter().map(Held::of);
        let mut gone: Vec<Held<T>> = known.filter(|held| !objects.contains(held)).collect();
        // Hardly any is: all the others need no order.
        gone.sort_unstable();
        for held in &gone {
            self.drop_named(&subscribers, held);
        }
        for Held { object, .. } in objects {
            let id = object.identity();
            let same = self
                .get(id.namespace, id.name)
                .is_some_and(|old| old.identity() == id);
            if !same {
                self.put(&subscribers, object);
            }
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
        self.by_key(key).map(|object| {
            (
                object.identity().uid.to_owned(),
                object.meta().is_deleting(),
            )
        })
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

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

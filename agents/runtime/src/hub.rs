//! One list+watch per kind per process, shared by everything in it.

use crate::cache::{AnyCache, Cache, Key, Version};
use crate::client::Client;
use crate::kinds::{Kind, PartialObject};
use crate::reflector::{Reflector, Scope};
use crate::resource_ref::ResourceRef;
use host::HashMap;
use std::any::{Any, TypeId};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// See the module head. Dropping the hub ends its watches.
pub struct Hub {
    client: Client,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    caches: Mutex<HashMap<Id, Entry>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Id {
    kind: TypeId,
    resource: ResourceRef,
    field_selector: String,
}

struct Entry {
    typed: Arc<dyn Any + Send + Sync>,
    any: Arc<dyn AnyCache>,
    task: AbortHandle,
}

/// Something an executed plan wrote, to be seen in the caches before the same key is reconciled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// An object was stored at a revision.
    Version(ResourceRef, u64),
    /// An incarnation was deleted (or marked so).
    Deleted(ResourceRef, Key, String),
}

impl Hub {
    /// A hub without caches; its watches end when `stop` is cancelled or the hub dropped.
    pub fn new(client: Client, stop: &CancellationToken) -> Arc<Self> {
        let stop = stop.child_token();
        Arc::new(Self {
            client,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            caches: Mutex::default(),
        })
    }

    /// The client that the hub watches with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The cache of a kind; the first call starts its watch. Must be called within a tokio runtime.
    pub fn cache<T: Kind>(&self) -> Arc<Cache<T>> {
        self.open(T::resource(), Scope::default())
    }

    /// The cache of the objects of a kind that a field selector matches, such as `spec.nodeName=n1`.
    pub fn cache_where<T: Kind>(&self, field_selector: &str) -> Arc<Cache<T>> {
        self.open(
            T::resource(),
            Scope {
                field_selector: field_selector.to_owned(),
                ..Scope::default()
            },
        )
    }

    /// Metadata of any resource: from the cache of the whole kind when there is one, else by a watch of metadata only.
    pub fn metadata(&self, resource: &ResourceRef) -> Arc<dyn AnyCache> {
        if let Some(cache) = self.find(resource) {
            return cache;
        }
        self.open::<PartialObject>(
            resource.clone(),
            Scope {
                metadata_only: true,
                ..Scope::default()
            },
        )
    }

    /// Metadata of the objects of a resource that a field selector matches.
    pub fn metadata_where(
        &self,
        resource: &ResourceRef,
        field_selector: &str,
    ) -> Arc<Cache<PartialObject>> {
        self.open(
            resource.clone(),
            Scope {
                field_selector: field_selector.to_owned(),
                metadata_only: true,
                ..Scope::default()
            },
        )
    }

    /// Ends the metadata watch of a resource that is no longer served.
    pub fn forget_metadata(&self, resource: &ResourceRef) {
        let id = Id {
            kind: TypeId::of::<PartialObject>(),
            resource: resource.clone(),
            field_selector: String::new(),
        };
        if let Some(entry) = self.caches().remove(&id) {
            entry.task.abort();
        }
    }

    /// Waits until all caches there are have seen a complete state.
    pub async fn wait_synced(&self) {
        let caches: Vec<_> = self
            .caches()
            .values()
            .map(|entry| entry.any.clone())
            .collect();
        for cache in caches {
            cache.synced().await;
        }
    }

    /// Waits until the caches have seen what was written. Kinds without an (unfiltered) cache need no wait.
    pub async fn wait_seen(&self, written: &[Written]) {
        // The sender lives as long as the cache, so that no wait can fail.
        for (resource, revision) in newest(written) {
            if let Some(cache) = self.find(resource) {
                let mut versions = cache.versions();
                let _ = versions.wait_for(|v| v.revision >= revision).await;
            }
        }
        for write in written {
            let Written::Deleted(resource, key, uid) = write else {
                continue;
            };
            let Some(cache) = self.find(resource) else {
                continue;
            };
            let mut versions = cache.versions();
            let is_gone = |_: &Version| {
                let found = cache.incarnation(key);
                found.is_none_or(|(now, deleting)| now != *uid || deleting)
            };
            let _ = versions.wait_for(is_gone).await;
        }
    }

    fn find(&self, resource: &ResourceRef) -> Option<Arc<dyn AnyCache>> {
        let caches = self.caches();
        let matching = caches
            .iter()
            .filter(|(id, _)| id.resource == *resource && id.field_selector.is_empty());
        // The cache of whole objects first: it exists for more readers.
        matching
            .min_by_key(|(id, _)| id.kind == TypeId::of::<PartialObject>())
            .map(|(_, entry)| entry.any.clone())
    }

    fn open<T: Kind>(&self, resource: ResourceRef, scope: Scope) -> Arc<Cache<T>> {
        let id = Id {
            kind: TypeId::of::<T>(),
            resource: resource.clone(),
            field_selector: scope.field_selector.clone(),
        };
        let mut caches = self.caches();
        let entry = caches.entry(id).or_insert_with(|| {
            let cache = Arc::new(Cache::<T>::new(resource.clone()));
            let reflector = Reflector {
                client: self.client.clone(),
                resource,
                scope,
                sink: cache.clone(),
            };
            // The task ends with the hub's token; the handle ends it earlier.
            let task = host::spawn(reflector.run(self.stop.clone())).abort_handle();
            Entry {
                typed: cache.clone(),
                any: cache,
                task,
            }
        });
        entry
            .typed
            .clone()
            .downcast()
            .unwrap_or_else(|_| unreachable!("the id holds the type"))
    }

    fn caches(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Entry>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last version that was stored of each resource: whoever has seen it has seen the others.
fn newest(written: &[Written]) -> Vec<(&ResourceRef, u64)> {
    let mut newest: Vec<(&ResourceRef, u64)> = Vec::new();
    for write in written {
        let Written::Version(resource, revision) = write else {
            continue;
        };
        match newest.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, last)) => *last = (*last).max(*revision),
            None => newest.push((resource, *revision)),
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_ref::{NODES, PODS};

    #[test]
    fn of_each_resource_the_last_version_is_waited_for() {
        let version =
            |resource: &ResourceRef, revision| Written::Version(resource.clone(), revision);
        let gone = Written::Deleted(PODS, Key::new("a", "x"), "u".into());
        let written = [
            version(&PODS, 3),
            version(&NODES, 9),
            gone,
            version(&PODS, 7),
            version(&PODS, 5),
        ];
        assert_eq!(newest(&written), [(&PODS, 7), (&NODES, 9)]);
        assert!(newest(&[]).is_empty());
    }
}

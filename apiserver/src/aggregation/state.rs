//! Which group versions other servers serve, kept in step with the cache by whoever asks, and what those servers said
//! of themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use host::watch;

use super::discovered::Discovered;
use super::remote::{Remote, Target};
use crate::cache::Cache;
use crate::config::FrontProxy;
use crate::outgoing::{Backend, Destination, Trust};
use crate::world::World;

/// A remote group version with the way to its server.
pub(crate) struct Served {
    pub(crate) remote: Remote,
    /// Or why there is none.
    pub(crate) backend: Arc<Result<Backend, String>>,
}

/// By group and version.
type ByVersion = BTreeMap<(String, String), Arc<Served>>;

pub(crate) struct Aggregation {
    world: Arc<World>,
    identity: Mutex<Option<FrontProxy>>,
    followed: Mutex<Option<Followed>>,
    served: RwLock<Arc<ByVersion>>,
    /// The answer for all who ask while nobody has registered anything.
    is_empty: AtomicBool,
    /// By the name of the APIService.
    discovered: Mutex<BTreeMap<String, Arc<Discovered>>>,
    /// Goes up with every change of what is served.
    changes: AtomicU64,
}

struct Followed {
    cache: Arc<Cache>,
    wake: watch::Receiver<u64>,
    /// None: everything has to be read again.
    cursor: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Aggregation {
    pub(crate) fn new(world: &Arc<World>, identity: Option<FrontProxy>) -> Aggregation {
        let cache = world.named(super::GROUP, super::PLURAL).cloned();
        let followed = cache.map(|cache| {
            let mut wake = cache.subscribe();
            wake.mark_changed();
            Followed {
                cache,
                wake,
                cursor: None,
            }
        });
        Aggregation {
            world: world.clone(),
            identity: Mutex::new(identity),
            followed: Mutex::new(followed),
            served: RwLock::default(),
            is_empty: AtomicBool::new(true),
            discovered: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Who serves a group version, where it is not this server.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<Served>> {
        self.catch_up();
        if self.is_empty.load(Ordering::Acquire) {
            return None;
        }
        let key = (group.to_owned(), version.to_owned());
        self.served().get(&key).cloned()
    }

    /// All that other servers serve.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        self.catch_up();
        self.served().values().cloned().collect()
    }

    /// Goes up with every change of what is served, or of what is known of it.
    pub(crate) fn changes(&self) -> u64 {
        self.catch_up();
        self.changes.load(Ordering::Acquire)
    }

    /// What the server of an APIService said of itself last.
    pub(crate) fn discovered(&self, name: &str) -> Option<Arc<Discovered>> {
        lock(&self.discovered).get(name).cloned()
    }

    /// Takes in what it said.
    pub(crate) fn learn(&self, name: &str, discovered: Discovered) {
        let mut all = lock(&self.discovered);
        if all.get(name).is_none_or(|known| **known != discovered) {
            all.insert(name.to_owned(), Arc::new(discovered));
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// From now on requests are passed on with this certificate, over connections of their own.
    pub(crate) fn pass_on_as(&self, identity: &FrontProxy) -> Result<(), String> {
        let anybody = Target {
            namespace: "default".to_owned(),
            name: "any".to_owned(),
            port: 443,
            ca_bundle: String::new(),
            insecure: true,
        };
        self.backend(&anybody, Some(identity))?;
        // Nobody else changes what is served meanwhile.
        let _followed = lock(&self.followed);
        *lock(&self.identity) = Some(identity.clone());
        let served = self.served();
        let anew = served.iter().map(|(key, one)| {
            let backend = Arc::new(self.backend(&one.remote.service, Some(identity)));
            let remote = one.remote.clone();
            (key.clone(), Arc::new(Served { remote, backend }))
        });
        let anew: ByVersion = anew.collect();
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(anew);
        Ok(())
    }

    fn served(&self) -> Arc<ByVersion> {
        let served = self.served.read();
        served.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn catch_up(&self) {
        let mut followed = lock(&self.followed);
        let Some(followed) = followed.as_mut() else {
            return;
        };
        if !followed.wake.has_changed().unwrap_or(false) {
            return;
        }
        followed.wake.mark_unchanged();
        let before = self.served();
        let mut now: ByVersion = (*before).clone();
        if !self.follow(followed, &mut now) {
            now.clear();
            let snapshot = followed.cache.snapshot(0);
            for entry in snapshot.tree.iter_prefix(&followed.cache.prefix) {
                self.enter(&before, &mut now, Remote::of(&entry.object()));
            }
            followed.cursor = Some(snapshot.cursor);
        }
        let names = |all: &ByVersion| -> Vec<Remote> {
            all.values().map(|one| one.remote.clone()).collect()
        };
        if names(&before) == names(&now) {
            return;
        }
        lock(&self.discovered).retain(|name, _| now.values().any(|one| one.remote.name == *name));
        self.is_empty.store(now.is_empty(), Ordering::Release);
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Applies new changes; false where the ring has gone past us.
    fn follow(&self, followed: &mut Followed, now: &mut ByVersion) -> bool {
        let Some(mut cursor) = followed.cursor else {
            return false;
        };
        loop {
            let Ok(changes) = followed.cache.read_changes(&mut cursor, 1_024) else {
                return false;
            };
            if changes.is_empty() {
                followed.cursor = Some(cursor);
                return true;
            }
            for change in changes {
                let before = now.clone();
                if let Some(old) = &change.old {
                    now.retain(|_, one| one.remote.name != old.name());
                }
                if let Some(new) = &change.new {
                    self.enter(&before, now, Remote::of(&new.object()));
                }
            }
        }
    }

    /// Adds one, with the connections that it has already.
    fn enter(&self, before: &ByVersion, now: &mut ByVersion, remote: Option<Remote>) {
        let Some(remote) = remote else { return };
        // What this server has to have stays here, whoever registers for it.
        if super::is_own(&remote.group, &remote.version) {
            return;
        }
        let key = (remote.group.clone(), remote.version.clone());
        let known = before.get(&key);
        let known = known.filter(|known| known.remote.service == remote.service);
        let backend = match known {
            Some(known) => known.backend.clone(),
            None => {
                let identity = lock(&self.identity).clone();
                Arc::new(self.backend(&remote.service, identity.as_ref()))
            }
        };
        now.insert(key, Arc::new(Served { remote, backend }));
    }

    fn backend(&self, target: &Target, identity: Option<&FrontProxy>) -> Result<Backend, String> {
        let destination = Destination::Service {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            port: target.port,
        };
        let trust = match target.insecure {
            true => Trust::Anyone,
            false => Trust::Bundle(&target.ca_bundle),
        };
        let identity = identity.map(|one| (one.certificate_pem.as_str(), one.key_pem.as_str()));
        Backend::new(&self.world, destination, trust, identity)
    }
}

//! Objects of the API that this node follows: its pods, the cluster's services, and the ConfigMaps and Secrets that its
//! pods refer to, each of the latter by a watch of its own, since a node may only read what its pods use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use agent_runtime::resource_ref::{CONFIG_MAPS, SECRETS};
use agent_runtime::{Client, ResourceRef};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::follow::{Followed, Listener, Step};
use crate::volumes::payload::ObjectKind;

/// One step of keeping a local copy equal to the API.
#[derive(Debug)]
pub(crate) enum Change {
    /// Everything there is, after a (new) list.
    Replaced(Vec<Value>),
    Applied(Value),
    Deleted(Value),
}

/// Lists and watches until dropped; `on_change` sees every step in order.
pub(crate) async fn reflect(
    client: Client,
    resource: ResourceRef,
    namespace: String,
    field_selector: String,
    on_change: impl FnMut(Change) + Send,
) {
    let followed = Followed {
        client,
        resource,
        namespace,
        label_selector: String::new(),
        field_selector,
        cached: false,
        lists: Arc::new(Semaphore::new(1)),
    };
    let collector = Collector {
        on_change,
        number: 0,
        listed: Vec::new(),
    };
    followed.run(collector).await;
}

/// Puts a list together, which may break off and begin anew.
struct Collector<F> {
    on_change: F,
    number: u64,
    listed: Vec<Value>,
}

impl<F: FnMut(Change) + Send> Listener for Collector<F> {
    type Object = Value;

    fn take(&mut self, step: Step) -> impl Future<Output = bool> + Send {
        match step {
            Step::Item(number, object) => {
                if self.number != number {
                    self.number = number;
                    self.listed.clear();
                }
                self.listed.push(object);
            }
            Step::Listed(number) => {
                let mut all = std::mem::take(&mut self.listed);
                if self.number != number {
                    // This list is empty, and what is there is of one that broke off.
                    all.clear();
                }
                (self.on_change)(Change::Replaced(all));
            }
            Step::Changed(_, object) => (self.on_change)(Change::Applied(object)),
            Step::Deleted(object) => (self.on_change)(Change::Deleted(object)),
        }
        std::future::ready(true)
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Owned(JoinHandle<()>);

impl Owned {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Owned {
        Owned(tokio::spawn(future))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The services of the cluster, for environment variables.
pub(crate) struct Services {
    current: Arc<RwLock<BTreeMap<String, Value>>>,
    synced: watch::Receiver<bool>,
    _task: Owned,
}

impl Services {
    pub(crate) fn follow(client: Client) -> Services {
        let current: Arc<RwLock<BTreeMap<String, Value>>> = Arc::default();
        let (synced, receiver) = watch::channel(false);
        let store = current.clone();
        let task = reflect(
            client,
            agent_runtime::resource_ref::SERVICES,
            String::new(),
            String::new(),
            move |change| {
                let mut store = store.write().expect("no panic while locked");
                match change {
                    Change::Replaced(all) => {
                        *store = all
                            .into_iter()
                            .map(|object| (key(&object), object))
                            .collect()
                    }
                    Change::Applied(object) => drop(store.insert(key(&object), object)),
                    Change::Deleted(object) => drop(store.remove(&key(&object))),
                }
                synced.send_replace(true);
            },
        );
        Services {
            current,
            synced: receiver,
            _task: Owned::spawn(task),
        }
    }

    /// Every service of a namespace and `default/kubernetes`; `None` when none have been read before the deadline.
    pub(crate) async fn visible_from(
        &self,
        namespace: &str,
        patience: Duration,
    ) -> Option<Vec<Value>> {
        let mut synced = self.synced.clone();
        tokio::time::timeout(patience, synced.wait_for(|synced| *synced))
            .await
            .ok()?
            .ok()?;
        let current = self.current.read().expect("no panic while locked");
        let prefix = format!("{namespace}/");
        let visible = current
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) || *key == "default/kubernetes");
        Some(visible.map(|(_, object)| object.clone()).collect())
    }
}

fn key(object: &Value) -> String {
    let text = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

type ObjectKey = (ObjectKind, String, String);

/// ConfigMaps and Secrets, watched as long as somebody holds them.
pub(crate) struct Objects {
    client: Client,
    watched: Mutex<BTreeMap<ObjectKey, Weak<Watched>>>,
}

/// One followed object.
pub(crate) struct Watched {
    /// Outer `None`: not known yet. Inner `None`: there is no such object.
    current: watch::Receiver<Option<Option<Value>>>,
    waiting: Arc<Mutex<Vec<Weak<Notify>>>>,
    _task: Owned,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Objects {
        Objects {
            client,
            watched: Mutex::default(),
        }
    }

    /// Follows an object; `wake` is notified of every change while the result is held.
    pub(crate) fn follow(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        wake: &Arc<Notify>,
    ) -> Arc<Watched> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let mut all = self.watched.lock().expect("no panic while locked");
        let known = all.get(&key).and_then(Weak::upgrade);
        let watched = known.unwrap_or_else(|| {
            all.retain(|_, weak| weak.strong_count() > 0);
            let watched = Arc::new(self.start(&key));
            all.insert(key, Arc::downgrade(&watched));
            watched
        });
        let mut waiting = watched.waiting.lock().expect("no panic while locked");
        waiting.retain(|weak| weak.strong_count() > 0);
        let weak = Arc::downgrade(wake);
        if !waiting.iter().any(|other| other.ptr_eq(&weak)) {
            waiting.push(weak);
        }
        drop(waiting);
        watched
    }

    fn start(&self, (kind, namespace, name): &ObjectKey) -> Watched {
        let resource = match kind {
            ObjectKind::ConfigMap => CONFIG_MAPS,
            ObjectKind::Secret => SECRETS,
        };
        let (sender, current) = watch::channel(None);
        let waiting: Arc<Mutex<Vec<Weak<Notify>>>> = Arc::default();
        let wakes = waiting.clone();
        let on_change = move |change: Change| {
            let object = match change {
                Change::Replaced(all) => all.into_iter().next(),
                Change::Applied(object) => Some(object),
                Change::Deleted(_) => None,
            };
            sender.send_replace(Some(object));
            let wakes = wakes.lock().expect("no panic while locked");
            wakes
                .iter()
                .filter_map(Weak::upgrade)
                .for_each(|wake| wake.notify_one());
        };
        let selector = format!("metadata.name={name}");
        let task = reflect(
            self.client.clone(),
            resource,
            namespace.clone(),
            selector,
            on_change,
        );
        Watched {
            current,
            waiting,
            _task: Owned::spawn(task),
        }
    }
}

impl Watched {
    /// The object, waiting for the first answer; `None` when there was none before the deadline.
    pub(crate) async fn get(&self, patience: Duration) -> Option<Option<Value>> {
        let mut current = self.current.clone();
        let known = tokio::time::timeout(patience, current.wait_for(Option::is_some))
            .await
            .ok()?
            .ok()?;
        known.clone()
    }
}

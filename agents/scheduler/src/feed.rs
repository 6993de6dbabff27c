//! What the watches bring, compiled on arrival and handed to the loop as *keys that changed*, and pods as they are now.
//!
//! Only the set of changed keys waits between the watches and the loop, with one state of each pod, so a slow loop sees fewer, later
//! states and nothing piles up.

use crate::devices::claim::{DeviceClaim, DeviceClass};
use crate::devices::slice::Slice;
use crate::object::{Node, Pod};
use crate::preempt::Budget;
use crate::selector::{LabelSelector, Labels, labels};
use crate::volume::object::{Attachment, Capacity, Claim, Class, CsiNode, Driver, Volume};
use agent_runtime::kinds::{Identity, Kind, ObjectMeta};
use agent_runtime::resource_ref::{
    CSI_DRIVERS, CSI_NODES, CSI_STORAGE_CAPACITIES, DEVICE_CLASSES, NAMESPACES, NODES,
    PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_CLAIMS, RESOURCE_SLICES, SERVICES, STATEFUL_SETS,
    STORAGE_CLASSES, VOLUME_ATTACHMENTS,
};
use agent_runtime::watch::{MANAGED_FIELDS, Unread, without};
use agent_runtime::{Cache, Hub, Key, ResourceRef};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::sync::Notify;

/// Something compiled from objects of one resource.
pub(crate) trait Compiled: Send + Sync + 'static {
    /// Which resource.
    const RESOURCE: ResourceRef;
    /// What is passed over when an object is read: compiling does not look there.
    const UNREAD: Unread = MANAGED_FIELDS;
    /// Whether there may be very many: see [`Kind::IS_MANY`].
    const IS_MANY: bool = false;
    /// Compiles one object.
    fn compile(object: &Value) -> Self;
    /// Reads one object and compiles it.
    ///
    /// # Errors
    /// What is read is no JSON object.
    fn read<'de, D: Deserializer<'de>>(decoder: D) -> Result<Seen<Self>, D::Error>
    where
        Self: Sized,
    {
        let object = without(Self::UNREAD, decoder)?;
        let value = Arc::new(Self::compile(&object));
        let text = |pointer| crate::object::text(&object, pointer);
        // Only what identifies: annotations may be as large as the object.
        let meta = || ObjectMeta {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion").into(),
            ..ObjectMeta::default()
        };
        let meta = value.identity().is_none().then(|| Box::new(meta()));
        Ok(Seen { meta, value })
    }
    /// Who it is, where that was compiled with the rest. Of others a cache remembers it.
    fn identity(&self) -> Option<Identity<'_>> {
        None
    }
}

/// Of those that know who they are themselves.
static NOTHING: LazyLock<ObjectMeta> = LazyLock::new(ObjectMeta::default);

/// An object in a cache: what was compiled from it, and who it is where that does not say so.
pub(crate) struct Seen<T> {
    meta: Option<Box<ObjectMeta>>,
    /// The compiled form.
    pub(crate) value: Arc<T>,
}

impl<'de, T: Compiled> Deserialize<'de> for Seen<T> {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        T::read(decoder)
    }
}

impl<T: Compiled> Kind for Seen<T> {
    const IS_INDEXED: bool = false;
    const IS_MANY: bool = T::IS_MANY;

    fn resource() -> ResourceRef {
        T::RESOURCE
    }
    fn meta(&self) -> &ObjectMeta {
        self.meta.as_deref().unwrap_or(&NOTHING)
    }
    fn identity(&self) -> Identity<'_> {
        let of_value = self.value.identity();
        of_value.unwrap_or_else(|| self.meta().identity())
    }
}

/// A selector over pods with the identity of the object that owns it.
pub(crate) struct OwnedSelector {
    /// Uid of the owner.
    pub(crate) uid: String,
    /// `None` selects nothing.
    pub(crate) selector: Option<LabelSelector>,
}

/// Declares what is compiled from a resource.
macro_rules! compiled {
    ($( $(#[$doc:meta])* $name:ty, $resource:expr, $compile:expr; )*) => { $(
        impl Compiled for $name {
            const RESOURCE: ResourceRef = $resource;
            fn compile(object: &Value) -> Self {
                #[allow(clippy::redundant_closure_call, reason = "one form for functions and closures")]
                ($compile)(object)
            }
        }
    )* };
}

/// A node as it stands, for extenders that keep none.
pub(crate) struct WholeNode(pub(crate) Arc<str>);
/// Labels of a namespace.
pub(crate) struct NamespaceLabels(pub(crate) Labels);
/// Selector of a Service.
pub(crate) struct ServiceSelector(pub(crate) LabelSelector);
/// Selector of a ReplicaSet.
pub(crate) struct ReplicaSetSelector(pub(crate) OwnedSelector);
/// Selector of a StatefulSet.
pub(crate) struct StatefulSetSelector(pub(crate) OwnedSelector);
/// Selector of a ReplicationController.
pub(crate) struct ReplicationControllerSelector(pub(crate) OwnedSelector);

compiled! {
    Node, NODES, Node::compile;
    WholeNode, NODES, |object: &Value| WholeNode(crate::extender::whole(object));
    Budget, POD_DISRUPTION_BUDGETS, Budget::compile;
    Claim, PERSISTENT_VOLUME_CLAIMS, Claim::compile;
    Volume, PERSISTENT_VOLUMES, Volume::compile;
    Class, STORAGE_CLASSES, Class::compile;
    CsiNode, CSI_NODES, CsiNode::compile;
    Driver, CSI_DRIVERS, Driver::compile;
    Capacity, CSI_STORAGE_CAPACITIES, Capacity::compile;
    Attachment, VOLUME_ATTACHMENTS, Attachment::compile;
    DeviceClass, DEVICE_CLASSES, DeviceClass::compile;
    Slice, RESOURCE_SLICES, Slice::compile;
    DeviceClaim, RESOURCE_CLAIMS, DeviceClaim::compile;
    NamespaceLabels, NAMESPACES, |object: &Value| NamespaceLabels(labels(object.pointer("/metadata/labels")));
    ServiceSelector, SERVICES, |object: &Value| ServiceSelector(map_selector(object));
    ReplicaSetSelector, REPLICA_SETS, |object: &Value| ReplicaSetSelector(owned(object, label_selector(object)));
    StatefulSetSelector, STATEFUL_SETS, |object: &Value| StatefulSetSelector(owned(object, label_selector(object)));
    ReplicationControllerSelector, REPLICATION_CONTROLLERS,
        |object: &Value| ReplicationControllerSelector(owned(object, Some(map_selector(object))));
}

impl Compiled for Pod {
    const RESOURCE: ResourceRef = PODS;
    const IS_MANY: bool = true;

    fn compile(object: &Value) -> Self {
        Pod::compile(object)
    }

    fn read<'de, D: Deserializer<'de>>(decoder: D) -> Result<Seen<Self>, D::Error> {
        let value = Arc::new(Pod::read(decoder)?);
        Ok(Seen { meta: None, value })
    }

    fn identity(&self) -> Option<Identity<'_>> {
        Some(Identity {
            namespace: &self.namespace,
            name: &self.name,
            uid: &self.uid,
            resource_version: &self.resource_version,
        })
    }
}

pub(crate) fn label_selector(object: &Value) -> Option<LabelSelector> {
    LabelSelector::parse(object.pointer("/spec/selector"))
}

pub(crate) fn map_selector(object: &Value) -> LabelSelector {
    LabelSelector::from_labels(&labels(object.pointer("/spec/selector")))
}

fn owned(object: &Value, selector: Option<LabelSelector>) -> OwnedSelector {
    OwnedSelector {
        uid: crate::object::text(object, "/metadata/uid"),
        selector,
    }
}

/// Which cache a changed key is of; in the order in which changes are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// [`Feed::nodes`].
    Node,
    /// [`Feed::namespaces`].
    Namespace,
    /// [`Feed::services`].
    Service,
    /// [`Feed::replica_sets`].
    ReplicaSet,
    /// [`Feed::stateful_sets`].
    StatefulSet,
    /// [`Feed::replication_controllers`].
    ReplicationController,
    /// [`Feed::budgets`].
    Budget,
    /// [`Feed::classes`].
    Class,
    /// [`Feed::csi_nodes`].
    CsiNode,
    /// [`Feed::drivers`].
    Driver,
    /// [`Feed::capacities`].
    Capacity,
    /// [`Feed::attachments`].
    Attachment,
    /// [`Feed::volumes`].
    Volume,
    /// [`Feed::claims`].
    Claim,
    /// [`Feed::device_classes`].
    DeviceClass,
    /// [`Feed::slices`].
    Slice,
    /// [`Feed::device_claims`].
    DeviceClaim,
}

/// What has changed.
#[derive(Default)]
pub(crate) struct News {
    /// Everything but pods. It comes first, so that the first states arrive in a useful order.
    pub(crate) keys: BTreeSet<(Source, Key)>,
    /// Pods as they are now, `None` where one is gone. There are so many that none is looked up by its key once more.
    pub(crate) pods: BTreeMap<Key, Option<Arc<Pod>>>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.pods.is_empty()
    }
}

#[derive(Default)]
struct Changed {
    news: Mutex<News>,
    notify: Notify,
}

/// The caches and the keys in them that changed since they were last taken.
pub(crate) struct Feed {
    pub(crate) pods: Arc<Cache<Seen<Pod>>>,
    pub(crate) nodes: Arc<Cache<Seen<Node>>>,
    pub(crate) namespaces: Arc<Cache<Seen<NamespaceLabels>>>,
    pub(crate) services: Arc<Cache<Seen<ServiceSelector>>>,
    pub(crate) replica_sets: Arc<Cache<Seen<ReplicaSetSelector>>>,
    pub(crate) stateful_sets: Arc<Cache<Seen<StatefulSetSelector>>>,
    pub(crate) replication_controllers: Arc<Cache<Seen<ReplicationControllerSelector>>>,
    pub(crate) budgets: Arc<Cache<Seen<Budget>>>,
    pub(crate) claims: Arc<Cache<Seen<Claim>>>,
    pub(crate) volumes: Arc<Cache<Seen<Volume>>>,
    pub(crate) classes: Arc<Cache<Seen<Class>>>,
    pub(crate) csi_nodes: Arc<Cache<Seen<CsiNode>>>,
    pub(crate) drivers: Arc<Cache<Seen<Driver>>>,
    pub(crate) capacities: Arc<Cache<Seen<Capacity>>>,
    pub(crate) attachments: Arc<Cache<Seen<Attachment>>>,
    pub(crate) device_classes: Arc<Cache<Seen<DeviceClass>>>,
    pub(crate) slices: Arc<Cache<Seen<Slice>>>,
    pub(crate) device_claims: Arc<Cache<Seen<DeviceClaim>>>,
    /// Only where somebody wants them.
    whole_nodes: Option<Arc<Cache<Seen<WholeNode>>>>,
    changed: Arc<Changed>,
}

impl Feed {
    /// Opens the watches and waits until each has seen a complete state.
    pub(crate) async fn open(hub: &Hub, whole_nodes: bool) -> Feed {
        let changed = Arc::new(Changed::default());
        let feed = Feed {
            pods: hub.cache(),
            nodes: watch(hub, Source::Node, &changed),
            namespaces: watch(hub, Source::Namespace, &changed),
            services: watch(hub, Source::Service, &changed),
            replica_sets: watch(hub, Source::ReplicaSet, &changed),
            stateful_sets: watch(hub, Source::StatefulSet, &changed),
            replication_controllers: watch(hub, Source::ReplicationController, &changed),
            budgets: watch(hub, Source::Budget, &changed),
            claims: watch(hub, Source::Claim, &changed),
            volumes: watch(hub, Source::Volume, &changed),
            classes: watch(hub, Source::Class, &changed),
            csi_nodes: watch(hub, Source::CsiNode, &changed),
            drivers: watch(hub, Source::Driver, &changed),
            capacities: watch(hub, Source::Capacity, &changed),
            attachments: watch(hub, Source::Attachment, &changed),
            device_classes: watch(hub, Source::DeviceClass, &changed),
            slices: watch(hub, Source::Slice, &changed),
            device_claims: watch(hub, Source::DeviceClaim, &changed),
            whole_nodes: whole_nodes.then(|| hub.cache()),
            changed,
        };
        follow_pods(&feed.pods, &feed.changed);
        hub.wait_synced().await;
        feed
    }

    /// What has changed since the last call.
    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut *lock(&self.changed.news))
    }

    /// A node as it stands, if such are kept and it is there.
    pub(crate) fn whole_node(&self, name: &str) -> Option<Arc<str>> {
        let seen = self.whole_nodes.as_ref()?.get("", name)?;
        Some(seen.value.0.clone())
    }

    /// Waits until there is something to take. May return without.
    pub(crate) async fn wait(&self) {
        if lock(&self.changed.news).is_empty() {
            self.changed.notify.notified().await;
        }
    }
}

fn watch<T: Compiled>(hub: &Hub, source: Source, changed: &Arc<Changed>) -> Arc<Cache<Seen<T>>> {
    let cache = hub.cache::<Seen<T>>();
    let changed = changed.clone();
    cache.subscribe(move |change| {
        let key = change.latest().identity().key();
        lock(&changed.news).keys.insert((source, key));
        changed.notify.notify_one();
    });
    cache
}

fn follow_pods(cache: &Cache<Seen<Pod>>, changed: &Arc<Changed>) {
    let changed = changed.clone();
    cache.subscribe(move |change| {
        let key = change.latest().identity().key();
        let pod = change.new.as_ref().map(|seen| seen.value.clone());
        lock(&changed.news).pods.insert(key, pod);
        changed.notify.notify_one();
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_stands_around_a_compiled_object_is_small() {
        // There is one for each pod: with the two counts of its Arc it fills one of the allocator's sizes.
        assert_eq!(size_of::<Seen<Pod>>(), 32 - 16);
    }

    #[test]
    fn who_an_object_is_stands_in_one_place() {
        let object = json!({"metadata": {"name": "x", "namespace": "a", "uid": "u", "resourceVersion": "7"}});
        let pod: Seen<Pod> = serde_json::from_value(object.clone()).unwrap();
        let budget: Seen<Budget> = serde_json::from_value(object).unwrap();
        assert!(pod.meta.is_none() && budget.meta.is_some());
        let expected = Identity {
            namespace: "a",
            name: "x",
            uid: "u",
            resource_version: "7",
        };
        assert_eq!((pod.identity(), budget.identity()), (expected, expected));
    }

    #[test]
    fn a_pod_that_changes_twice_is_taken_once_and_as_it_is_now() {
        let cache = Cache::<Seen<Pod>>::new(PODS);
        let changed = Arc::<Changed>::default();
        follow_pods(&cache, &changed);
        let pod = |uid: &str| -> Seen<Pod> {
            let metadata = json!({"name": "p", "namespace": "a", "uid": uid});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let take = || -> Vec<Option<String>> {
            let news = std::mem::take(&mut *lock(&changed.news));
            let pods = news.pods.into_values();
            pods.map(|pod| pod.map(|pod| pod.uid.clone())).collect()
        };
        cache.apply(pod("u"));
        cache.apply(pod("v"));
        assert_eq!(take(), [Some("v".to_owned())]);
        cache.apply(pod("v"));
        cache.remove(&Key::new("a", "p"));
        assert_eq!(take(), [None::<String>]);
        assert!(take().is_empty());
    }
}

//! What the tasks of a node share, and the loops that feed them: pods from the API, hints from the runtime, and the
//! sweep for what belongs to no pod any more.

mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_runtime::kinds::ObjectReference;
use agent_runtime::resource_ref::PODS;
use agent_runtime::{Client, EventRecorder, EventType};
use futures::StreamExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::node::Capacity;
use crate::pod::admission::site::Site;
use crate::pod::admission::{self, Admitted};
use crate::pod::desired::Desired;
use crate::pod::env::Sources;
use crate::pod::worker::Worker;
use crate::runtime::docker::DockerRuntime;
use crate::runtime::hollow::HollowRuntime;
use crate::runtime::{Observed, Runtime};
use crate::source::{Change, Objects, Owned, Services, reflect};
use crate::spec::{Pod, Role};
use crate::stats::Stats;
use crate::{NodeConfig, RuntimeKind, owner, volumes};

const SWEEP_PERIOD: Duration = Duration::from_secs(30);
const EVENTS_RETRY: Duration = Duration::from_secs(1);
/// What a container whose pod is gone gets to end itself.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

pub(crate) struct Agent {
    pub(crate) config: NodeConfig,
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) objects: Objects,
    pub(crate) services: Services,
    pub(crate) capacity: Capacity,
    pub(crate) stats: Stats,
    /// Cancelled when the agent ends; containers go on.
    pub(crate) stop: CancellationToken,
    events: EventRecorder,
    host_ip: String,
    pods: Mutex<Pods>,
    /// Locked before the pods, never after them.
    admitted: Mutex<Admitted>,
    /// The node as it was seen last.
    site: Mutex<Option<Arc<Site>>>,
}

#[derive(Default)]
struct Pods {
    by_uid: BTreeMap<String, Entry>,
    /// The API has been read, so what is not in the map is not there.
    synced: bool,
}

impl Pods {
    /// The objects that the API still has.
    fn present(&self) -> Vec<Arc<Value>> {
        let entries = self.by_uid.values();
        entries
            .filter(|entry| !entry.desired.is_removed())
            .map(|entry| entry.desired.object())
            .collect()
    }
}

struct Entry {
    desired: Arc<Desired>,
    /// Holds the pod's task; it may have ended before the object is gone.
    _task: Option<Owned>,
}

impl Agent {
    pub(crate) fn new(config: NodeConfig, client: Client, stop: &CancellationToken) -> Arc<Agent> {
        let owner = owner(&config.node_name, &config.data_dir);
        let runtime: Arc<dyn Runtime> = match &config.runtime {
            RuntimeKind::Docker => Arc::new(DockerRuntime::new(owner, None)),
            RuntimeKind::DockerAt(socket) => {
                Arc::new(DockerRuntime::new(owner, Some(socket.clone())))
            }
            RuntimeKind::Hollow(hollow) => {
                Arc::new(HollowRuntime::new(hollow.clone(), &config.node_name))
            }
        };
        Arc::new(Agent {
            objects: Objects::new(client.clone()),
            services: Services::follow(client.clone()),
            events: EventRecorder::start(client.clone(), "kubelet", &config.node_name, stop),
            capacity: Capacity::of(&config),
            stats: Stats::default(),
            host_ip: config.node_ip.to_string(),
            stop: stop.clone(),
            client,
            runtime,
            pods: Mutex::default(),
            admitted: Mutex::default(),
            site: Mutex::default(),
            config,
        })
    }

    pub(crate) fn is_hollow(&self) -> bool {
        matches!(self.config.runtime, RuntimeKind::Hollow(_))
    }

    pub(crate) fn host_ip(&self) -> &str {
        &self.host_ip
    }

    pub(crate) fn cluster_domain(&self) -> &str {
        &self.config.cluster_domain
    }

    pub(crate) fn cluster_dns(&self) -> &[String] {
        &self.config.cluster_dns
    }

    pub(crate) fn memory_bytes(&self) -> i64 {
        self.capacity.memory_bytes
    }

    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.config.data_dir.join("pods")
    }

    pub(crate) fn seccomp_dir(&self) -> PathBuf {
        self.config.data_dir.join("seccomp")
    }

    /// What references can resolve to without asking anybody.
    pub(crate) fn sources_base(&self) -> Sources {
        Sources {
            host_ip: self.host_ip.clone(),
            allocatable_cpu_milli: i128::from(self.capacity.cpu_count) * 1000,
            allocatable_memory_bytes: i128::from(self.capacity.allocatable_memory_bytes()),
            ..Sources::default()
        }
    }

    /// Records an event about a pod or one of its containers.
    pub(crate) fn pod_event(
        &self,
        pod: &Pod,
        container: Option<(Role, &str)>,
        kind: EventType,
        reason: &'static str,
        text: String,
    ) {
        let field_path = container.map(|(role, name)| format!("{}{{{name}}}", role.field()));
        let regarding = ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: field_path.unwrap_or_default(),
        };
        self.events.event(regarding, kind, reason, text);
    }

    /// Records an event about the node itself.
    pub(crate) fn node_event(&self, kind: EventType, reason: &'static str, text: String) {
        let name = self.config.node_name.clone();
        // A node's events carry its name as UID, by which `kubectl describe node` finds them.
        let regarding = ObjectReference {
            kind: "Node".to_owned(),
            uid: name.clone(),
            name,
            ..ObjectReference::default()
        };
        self.events.event(regarding, kind, reason, text);
    }

    /// Keeps one task per pod of this node; runs until dropped.
    pub(crate) async fn follow_pods(self: Arc<Agent>) {
        let (client, node) = (self.client.clone(), self.config.node_name.clone());
        let on_change = move |change: Change| match change {
            Change::Replaced(all) => self.replace_pods(all),
            Change::Applied(object) => self.apply_pod(object),
            Change::Deleted(object) => self.remove_pod(uid(&object)),
        };
        reflect(
            client,
            PODS,
            String::new(),
            format!("spec.nodeName={node}"),
            on_change,
        )
        .await;
    }

    fn pods(&self) -> std::sync::MutexGuard<'_, Pods> {
        self.pods.lock().expect("no panic while locked")
    }

    /// The node as it was seen last, if it was.
    pub(crate) fn site(&self) -> Option<Arc<Site>> {
        self.site.lock().expect("no panic while locked").clone()
    }

    /// Notes how the node was seen.
    pub(crate) fn see_site(&self, site: Arc<Site>) {
        *self.site.lock().expect("no panic while locked") = Some(site);
    }

    /// Who was taken in.
    pub(crate) fn admitted(&self) -> std::sync::MutexGuard<'_, Admitted> {
        self.admitted.lock().expect("no panic while locked")
    }

    fn replace_pods(self: &Arc<Agent>, mut all: Vec<Value>) {
        admission::in_order(&mut all);
        let present: BTreeSet<String> = all.iter().map(|object| uid(object).to_owned()).collect();
        let gone: Vec<String> = self
            .pods()
            .by_uid
            .keys()
            .filter(|uid| !present.contains(*uid))
            .cloned()
            .collect();
        gone.iter().for_each(|uid| self.remove_pod(uid));
        all.into_iter().for_each(|object| self.apply_pod(object));
        self.pods().synced = true;
    }

    fn apply_pod(self: &Arc<Agent>, object: Value) {
        let uid = uid(&object).to_owned();
        let mut pods = self.pods();
        if let Some(entry) = pods.by_uid.get(&uid) {
            entry.desired.set(object);
            return;
        }
        let desired = Arc::new(Desired::new(object));
        let task = match Worker::new(self.clone(), desired.clone()) {
            Ok(worker) => {
                let (agent, uid) = (self.clone(), uid.clone());
                Some(Owned::spawn(async move {
                    worker.run().await;
                    agent.forget_pod(&uid);
                }))
            }
            Err(error) => {
                tracing::error!(%uid, %error, "cannot read a pod, it will not run");
                None
            }
        };
        pods.by_uid.insert(
            uid,
            Entry {
                desired,
                _task: task,
            },
        );
    }

    fn remove_pod(&self, uid: &str) {
        self.admitted().forget(uid);
        self.mark_removed(uid);
        self.wake_deferred();
    }

    fn mark_removed(&self, uid: &str) {
        let mut pods = self.pods();
        let Some(entry) = pods.by_uid.get(uid) else {
            return;
        };
        entry.desired.remove();
        if entry._task.as_ref().is_none_or(Owned::is_finished) {
            pods.by_uid.remove(uid);
        }
    }

    /// The task of a pod has ended. Its entry stays while the object does, lest a late event start it again.
    fn forget_pod(&self, uid: &str) {
        self.admitted().forget(uid);
        let mut pods = self.pods();
        if pods
            .by_uid
            .get(uid)
            .is_some_and(|entry| entry.desired.is_removed())
        {
            pods.by_uid.remove(uid);
        } else if let Some(entry) = pods.by_uid.get_mut(uid) {
            entry._task = None;
        }
    }

    pub(crate) fn drop_workers(&self) {
        self.pods().by_uid.clear();
    }

    /// The pods of this node without those whose object is gone, although something of them may still run.
    pub(crate) fn present_objects(&self) -> Vec<Arc<Value>> {
        self.pods().present()
    }

    /// The pods of this node as the API has them, or had them while something of them may still run.
    pub(crate) fn pod_objects(&self) -> Vec<Arc<Value>> {
        self.pods()
            .by_uid
            .values()
            .map(|entry| entry.desired.object())
            .collect()
    }

    /// The pod of that name, the one that is not going away when there are two.
    pub(crate) fn find_pod(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let text = |object: &Value, path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let matching = self.pod_objects().into_iter().filter(|object| {
            text(object, "/metadata/namespace").as_deref() == Some(namespace)
                && text(object, "/metadata/name").as_deref() == Some(name)
        });
        matching.min_by_key(|object| object.pointer("/metadata/deletionTimestamp").is_some())
    }

    /// Wakes the tasks of pods of which the runtime has news; runs until dropped.
    pub(crate) async fn follow_runtime(self: Arc<Agent>) {
        loop {
            let mut events = self.runtime.events();
            while let Some(event) = events.next().await {
                if let Some(entry) = self.pods().by_uid.get(&event.pod_uid) {
                    entry.desired.wake.notify_one();
                }
            }
            tokio::time::sleep(EVENTS_RETRY).await;
            // Events may have been missed in between.
            self.pods()
                .by_uid
                .values()
                .for_each(|entry| entry.desired.wake.notify_one());
        }
    }

    /// Removes containers and directories of pods that are not this node's any more; runs until dropped.
    pub(crate) async fn sweep(self: Arc<Agent>) {
        let mut ticks = tokio::time::interval(SWEEP_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.pods().synced {
                ticks.reset_after(Duration::from_secs(1));
                continue;
            }
            // What exists is read before what should exist, so that a pod that has just come is not mistaken.
            let containers = match self.runtime.list(None).await {
                Ok(containers) => containers,
                Err(error) => {
                    tracing::debug!(%error, "cannot look for orphaned containers");
                    continue;
                }
            };
            let dir = self.pods_dir();
            let listed = tokio::task::spawn_blocking(move || volumes::pod_uids(&dir)).await;
            let dirs = listed
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                .unwrap_or_default();
            let known: BTreeSet<String> = self.pods().by_uid.keys().cloned().collect();
            let orphans: Vec<Observed> = containers
                .into_iter()
                .filter(|container| !known.contains(&container.identity.pod_uid))
                .collect();
            self.remove_orphans(orphans).await;
            for uid in dirs.into_iter().filter(|uid| !known.contains(uid)) {
                let dir = self.pods_dir().join(&uid);
                let removed = tokio::task::spawn_blocking(move || volumes::remove(&dir)).await;
                if let Ok(Err(error)) = removed {
                    tracing::warn!(%uid, %error, "cannot remove the directory of a pod that is gone");
                }
            }
        }
    }

    async fn remove_orphans(&self, mut orphans: Vec<Observed>) {
        // Sandboxes last: containers are in their namespaces.
        orphans.sort_by_key(Observed::is_sandbox);
        for orphan in orphans {
            let identity = &orphan.identity;
            tracing::info!(
                pod = %format!("{}/{}", identity.pod_namespace, identity.pod_name),
                container = %identity.container,
                "removing a container whose pod is gone"
            );
            let stopped = self.runtime.stop(&orphan.id, ORPHAN_GRACE).await;
            if let Err(error) = stopped.and(self.runtime.remove(&orphan.id).await) {
                tracing::warn!(id = %orphan.id, %error, "cannot remove an orphaned container");
            }
        }
    }
}

fn uid(object: &Value) -> &str {
    object
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_whose_object_is_gone_is_not_present_while_its_task_ends() {
        let mut pods = Pods::default();
        for uid in ["gone", "there"] {
            let entry = Entry {
                desired: Arc::new(Desired::new(json!({"metadata": {"uid": uid}}))),
                _task: None,
            };
            pods.by_uid.insert(uid.to_owned(), entry);
        }
        assert_eq!(pods.present().len(), 2);
        pods.by_uid["gone"].desired.remove();
        let present = pods.present();
        let uids: Vec<&str> = present.iter().map(|object| uid(object)).collect();
        assert_eq!(uids, ["there"]);
    }
}

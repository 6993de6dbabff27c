//! A picture of a cluster, put together from API objects.

use super::{Explanation, Gated, beyond, explain, extenders};
use crate::config::{Config, GANG_SCHEDULING, Profile};
use crate::devices::claim::{DeviceClaim, DeviceClass};
use crate::devices::slice::Slice;
use crate::extender::{Asked, Extenders, whole};
use crate::gang;
use crate::object::{Node, Pod, text};
use crate::preempt::Budget;
use crate::selector::labels;
#[cfg(test)]
use crate::snapshot::Snapshot;
use crate::volume::object::{Attachment, Capacity, Claim, Class, CsiNode, Driver, Volume};
use crate::world::World;
use agent_runtime::ResourceRef;
use agent_runtime::resource_ref::{
    CSI_DRIVERS, CSI_NODES, CSI_STORAGE_CAPACITIES, DEVICE_CLASSES, NAMESPACES, NODES,
    PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_CLAIMS, RESOURCE_SLICES, SERVICES, STATEFUL_SETS,
    STORAGE_CLASSES, VOLUME_ATTACHMENTS,
};
use agent_runtime::timestamp::Micros;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that a decision depends on.
pub const RESOURCES: &[ResourceRef] = &[
    NODES,
    NAMESPACES,
    SERVICES,
    REPLICA_SETS,
    STATEFUL_SETS,
    REPLICATION_CONTROLLERS,
    POD_DISRUPTION_BUDGETS,
    STORAGE_CLASSES,
    CSI_NODES,
    CSI_DRIVERS,
    CSI_STORAGE_CAPACITIES,
    VOLUME_ATTACHMENTS,
    PERSISTENT_VOLUMES,
    PERSISTENT_VOLUME_CLAIMS,
    DEVICE_CLASSES,
    RESOURCE_SLICES,
    RESOURCE_CLAIMS,
    PODS,
];

/// A picture of the cluster.
pub struct Picture {
    world: World,
    config: Arc<Config>,
    /// It is of now. Otherwise it is of when the last of the nodes has said something.
    is_of_now: bool,
    /// Nodes as they stand, where extenders want to see them.
    whole_nodes: BTreeMap<String, Arc<str>>,
}

/// A pod that is about to be explained.
struct Subject {
    pod: Pod,
    profile: Arc<Profile>,
    on_node: String,
}

impl Picture {
    /// Of an empty cluster.
    pub fn new(config: Config) -> Picture {
        let config = Arc::new(config);
        Picture {
            world: World::new(config.clone()),
            config,
            is_of_now: false,
            whole_nodes: BTreeMap::new(),
        }
    }

    /// What nodes have said of themselves is as old as it is at this time.
    pub(crate) fn set_clock(&mut self, now: Micros) {
        self.is_of_now = true;
        self.world.set_clock(now, 0);
    }

    fn add_node(&mut self, object: &Value) {
        let node = Node::compile(object);
        if let Some(told) = node.pressure.filter(|_| !self.is_of_now) {
            let newest = told.at.max(self.world.clock());
            self.world.set_clock(newest, 0);
        }
        let name = node.name.clone();
        if self.config.extenders.iter().any(|e| e.wants_nodes()) {
            self.whole_nodes.insert(name.clone(), whole(object));
        }
        self.world.set_node(&name, Some(Arc::new(node)), 0);
    }

    /// Puts one object of [`RESOURCES`] into it.
    pub fn add(&mut self, resource: &ResourceRef, object: &Value) {
        let world = &mut self.world;
        let name = text(object, "/metadata/name");
        let full = (text(object, "/metadata/namespace"), name.clone());
        match &*resource.plural {
            "nodes" => self.add_node(object),
            "namespaces" => {
                world.set_namespace(&name, Some(labels(object.pointer("/metadata/labels"))), 0);
            }
            "services" => world.set_service(full, Some(crate::feed::map_selector(object))),
            "replicasets" => self.add_owner("ReplicaSet", full, object),
            "statefulsets" => self.add_owner("StatefulSet", full, object),
            "replicationcontrollers" => self.add_owner("ReplicationController", full, object),
            "poddisruptionbudgets" => {
                world.set_budget(full, Some(Arc::new(Budget::compile(object))));
            }
            "storageclasses" => world.set_class(&name, Some(Arc::new(Class::compile(object))), 0),
            "csinodes" => world.set_csi_node(&name, Some(Arc::new(CsiNode::compile(object))), 0),
            "csidrivers" => world.set_driver(&name, Some(Arc::new(Driver::compile(object))), 0),
            "csistoragecapacities" => {
                world.set_capacity(full, Some(Arc::new(Capacity::compile(object))), 0);
            }
            "volumeattachments" => {
                world.set_attachment(&name, Some(Arc::new(Attachment::compile(object))), 0);
            }
            "persistentvolumes" => {
                world.set_volume(&name, Some(Arc::new(Volume::compile(object))), 0);
            }
            "persistentvolumeclaims" => {
                world.set_claim(full, Some(Arc::new(Claim::compile(object))), 0);
            }
            "deviceclasses" => {
                world.set_device_class(&name, Some(Arc::new(DeviceClass::compile(object))), 0);
            }
            "resourceslices" => {
                world.set_slice(&name, Some(Arc::new(Slice::compile(object))), 0);
            }
            "resourceclaims" => {
                world.set_device_claim(full, Some(Arc::new(DeviceClaim::compile(object))), 0);
            }
            "pods" => world.set_pod(full, Some(Arc::new(Pod::compile(object))), 0),
            _ => {}
        }
    }

    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.world.snapshot
    }

    fn add_owner(&mut self, kind: &'static str, name: (String, String), object: &Value) {
        let selector = match kind {
            "ReplicationController" => Some(crate::feed::map_selector(object)),
            _ => crate::feed::label_selector(object),
        };
        let uid = text(object, "/metadata/uid");
        self.world
            .set_owner(kind, name, Some((&uid, selector.as_ref())));
    }

    /// What the scheduler thinks of every node for this pod, as if it were not on any; an error when none of the
    /// profiles is the pod's. Extenders are not asked.
    pub fn explain(mut self, object: &Value) -> Result<Explanation, String> {
        let subject = self.subject(object)?;
        Ok(self.explain_with(subject, None))
    }

    /// The same, with what extenders say now.
    pub async fn explain_asking(mut self, object: &Value) -> Result<Explanation, String> {
        let subject = self.subject(object)?;
        let all = Extenders::new(&self.config)?;
        let (pod, profile) = (&subject.pod, &subject.profile);
        let (snapshot, nodes) = (&self.world.snapshot, &self.whole_nodes);
        let asked = extenders::ask(&all, pod, object, snapshot, profile, nodes).await;
        Ok(self.explain_with(subject, asked.as_ref()))
    }

    fn subject(&mut self, object: &Value) -> Result<Subject, String> {
        let mut pod = Pod::compile(object);
        let Some(profile) = self.config.profile(&pod).cloned() else {
            let names: Vec<_> = self
                .config
                .profiles()
                .map(|p| p.scheduler_name.as_str())
                .collect();
            let (asked, known) = (&pod.scheduler_name, names.join(", "));
            return Err(format!(
                "the pod is scheduled by {asked:?}, which is none of the profiles: {known}"
            ));
        };
        let on_node = std::mem::take(&mut pod.node_name);
        self.world.snapshot.remove_pod(&pod.uid);
        // It was made when the pod had found its node, right before it was bound.
        self.world.devices().forget_made_for(&pod.uid);
        let name = (pod.namespace.clone(), pod.name.clone());
        self.world.set_pod(name, Some(Arc::new(pod.clone())), 0);
        Ok(Subject {
            pod,
            profile,
            on_node,
        })
    }

    fn explain_with(mut self, subject: Subject, asked: Option<&Asked>) -> Explanation {
        let Subject {
            pod,
            profile,
            on_node,
        } = subject;
        let budgets: Vec<Budget> = self.world.budgets.values().map(|b| (**b).clone()).collect();
        let mut explanation = explain(&pod, &self.world.snapshot, &profile, &budgets, asked);
        explanation.queue = beyond::of_queue(&pod, &self.world);
        explanation.group = beyond::of_group(&pod, &mut self.world);
        let group = explanation.group.as_ref();
        if group.is_some() {
            // Room is made for the group or not at all.
            explanation.preemption = None;
        }
        if group.is_some_and(|group| group.there < group.min_count) {
            explanation.gates.push(Gated {
                plugin: GANG_SCHEDULING,
                message: gang::INCOMPLETE.into(),
            });
        }
        explanation.node = Some(on_node).filter(|node| !node.is_empty());
        explanation
    }
}

/// The objects of a YAML or JSON file: one in each of its documents, or several in a List.
pub fn objects_from(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| format!("not YAML: {error}"))?;
    let mut objects = Vec::new();
    for mut document in documents {
        if !document.is_object() {
            return Err("a document of it is no object".into());
        }
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if document["kind"] == "List" => objects.extend(items),
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_documents_and_lists() {
        let text = "kind: Pod\n---\n---\nkind: List\nitems: [{kind: Node}, {kind: Node}]\n---\n{\"kind\": \"Service\"}\n";
        let objects = objects_from(text).unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| &object["kind"]).collect();
        assert_eq!(kinds, ["Pod", "Node", "Node", "Service"]);
        // What the server is to take strictly has nothing added to it.
        assert_eq!(objects[0], serde_json::json!({"kind": "Pod"}));
        assert_eq!(objects_from("").unwrap(), Vec::<Value>::new());
        assert!(objects_from("{").unwrap_err().starts_with("not YAML: "));
        for odd in ["5", "[]", "kind: Pod\n---\nword\n"] {
            assert_eq!(
                objects_from(odd).unwrap_err(),
                "a document of it is no object",
                "{odd}"
            );
        }
    }
}

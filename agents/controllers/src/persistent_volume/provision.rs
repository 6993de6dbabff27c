//! Volumes that are made for claims: by others, who are told by an annotation, or here, out of a directory of the node
//! that the scheduler has chosen.
//!
//! The name of such a volume follows from the claim, so that it is made once however often that is tried.

use super::claim::say;
use super::{BOUND_BY_CONTROLLER, PROVISIONED_BY, SELECTED_NODE, YES, binding, reclaim};
use crate::world::World;
use agent_runtime::EventType;
use agent_runtime::kinds::{Node, PersistentVolumeClaim, StorageClass};
use agent_runtime::local_path::{PROVISIONER, ROOT};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use serde_json::{Value, json};

const ASKED: &str = "volume.kubernetes.io/storage-provisioner";
const ASKED_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) fn plan(claim: &PersistentVolumeClaim, world: &World) -> Plan {
    let name = claim.class_name();
    let Some(class) = world.caches.storage_classes.get("", name) else {
        let text = format!("storageclass.storage.k8s.io \"{name}\" not found");
        return failed(claim, text);
    };
    let provisioner = &class.provisioner;
    if provisioner == PROVISIONER {
        return local(claim, &class, world);
    }
    if provisioner.starts_with("kubernetes.io/") {
        return failed(
            claim,
            format!("no volume plugin matched name: {provisioner}"),
        );
    }
    if let Some(op) = ask(claim, provisioner) {
        return Plan::of(vec![op]);
    }
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    Plan::of(vec![say(
        claim,
        EventType::Normal,
        "ExternalProvisioning",
        text,
    )])
}

fn failed(claim: &PersistentVolumeClaim, text: String) -> Plan {
    Plan::of(vec![say(
        claim,
        EventType::Warning,
        "ProvisioningFailed",
        text,
    )])
}

/// Tells the provisioner of the class that a volume is wanted; none where that is told.
fn ask(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<Op> {
    let asked = claim.metadata.annotations.get(ASKED);
    if asked.is_some_and(|asked| asked == provisioner) {
        return None;
    }
    let mut metadata = binding::versioned(&claim.metadata.resource_version);
    metadata["annotations"] = json!({ASKED: provisioner, ASKED_BETA: provisioner});
    let body = json!({ "metadata": metadata });
    Some(Op::merge(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, body))
}

fn local(claim: &PersistentVolumeClaim, class: &StorageClass, world: &World) -> Plan {
    let name = format!("pvc-{}", claim.metadata.uid);
    if world.caches.volumes.get("", &name).is_some() {
        // It is there and does not fit: somebody has changed it.
        return Plan::none();
    }
    let class_name = &class.metadata.name;
    let refused = |text: &str| {
        let text = format!("Failed to provision volume with StorageClass \"{class_name}\": {text}");
        failed(claim, text)
    };
    if !class.mount_options.is_empty() {
        let options = class.mount_options.join(" ");
        let text = format!(
            "Mount options are not supported by the provisioner but StorageClass \"{class_name}\" has mount options [{options}]"
        );
        return failed(claim, text);
    }
    if let Some(text) = unsupported(claim, class) {
        return refused(&text);
    }
    let Some(node_name) = claim.metadata.annotations.get(SELECTED_NODE) else {
        return refused(
            "no node was chosen; the class needs volumeBindingMode WaitForFirstConsumer",
        );
    };
    let Some(node) = world.caches.nodes.get("", node_name) else {
        return Plan::of(vec![choose_again(claim)]);
    };
    let (Some(root), Some(host)) = (
        node.metadata.annotations.get(ROOT),
        node.metadata.labels.get(HOSTNAME),
    ) else {
        let text = format!("node \"{node_name}\" does not offer directories");
        let mut plan = refused(&text);
        plan.push(choose_again(claim));
        return plan;
    };
    if let Some(op) = ask(claim, PROVISIONER) {
        return Plan::of(vec![op]);
    }
    let made = volume(claim, class, &name, (root, host));
    let text = format!("Successfully provisioned volume {name} using {PROVISIONER}");
    Plan::of(vec![
        Op::create(&PERSISTENT_VOLUMES, "", made),
        say(claim, EventType::Normal, "ProvisioningSucceeded", text),
    ])
}

/// What a directory of one node cannot be.
fn unsupported(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = &claim.spec;
    if let Some(name) = class.parameters.keys().next() {
        return Some(format!("unknown parameter \"{name}\""));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("block volumes are not supported".into());
    }
    if spec.selector.is_some() {
        return Some("claim.Spec.Selector is not supported".into());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("data sources are not supported".into());
    }
    // Attributes are those of CSI drivers: the API takes no other volume with a class of them.
    let attributes = spec.volume_attributes_class_name.as_deref();
    if attributes.is_some_and(|class| !class.is_empty()) {
        return Some("volume attributes classes are not supported".into());
    }
    let of_one_node = |mode: &String| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod";
    if !spec.access_modes.iter().all(of_one_node) {
        return Some("only access modes ReadWriteOnce and ReadWriteOncePod are supported".into());
    }
    None
}

/// Lets the scheduler choose another node.
fn choose_again(claim: &PersistentVolumeClaim) -> Op {
    let mut metadata = binding::versioned(&claim.metadata.resource_version);
    metadata["annotations"] = json!({SELECTED_NODE: null});
    let body = json!({ "metadata": metadata });
    Op::merge(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, body)
}

fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    name: &str,
    (root, host): (&String, &String),
) -> Value {
    let meta = &claim.metadata;
    let size = claim.spec.resources.requests.get("storage");
    let policy = class.reclaim_policy.as_deref().unwrap_or("Delete");
    let finalizers: &[&str] = match policy {
        "Delete" => &[reclaim::FINALIZER],
        _ => &[],
    };
    let on_node = json!({"key": HOSTNAME, "operator": "In", "values": [host]});
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "finalizers": finalizers,
            "annotations": {BOUND_BY_CONTROLLER: YES, PROVISIONED_BY: PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": size},
            "accessModes": claim.spec.access_modes,
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": class.metadata.name,
            "volumeMode": "Filesystem",
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace,
                "name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version,
            },
            "hostPath": {"path": format!("{root}/{name}"), "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    })
}

/// The node that has the directory of a volume that was made here; by its label, as the volume names it.
pub(super) fn node_of(affinity: Option<&Value>, world: &World) -> Option<std::sync::Arc<Node>> {
    let path = "/required/nodeSelectorTerms/0/matchExpressions/0/values/0";
    let host = affinity?.pointer(path)?.as_str()?;
    let is_it = |node: &std::sync::Arc<Node>| {
        node.metadata
            .labels
            .get(HOSTNAME)
            .is_some_and(|name| name == host)
    };
    let named = world.caches.nodes.get("", host).filter(is_it);
    named.or_else(|| world.caches.nodes.list().into_iter().find(is_it))
}

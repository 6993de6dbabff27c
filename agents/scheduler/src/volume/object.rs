//! Claims, volumes, classes and what drivers say of nodes, compiled once from the API objects.

use crate::object::{controller_uid, text};
use crate::quantity;
use crate::resources::items;
use crate::selector::{LabelSelector, Labels, NodeSelectorTerm, labels, strings};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// On a claim: which node the scheduler has chosen for the pod that waits for it.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: the controller is through with binding it.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a volume: it was bound by a program and not by a person.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Labels by which a volume says in which zone or region it is, the outdated ones first.
const TOPOLOGY_LABELS: [&str; 4] = [
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

/// A volume of a pod, as far as it matters where the pod runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PodVolume {
    /// A claim by its name.
    Claim(String),
    /// A claim that is made for this pod, by its name.
    Ephemeral(String),
    /// A disk of the old kinds, which says itself who may share it.
    Disk(Disk),
}

/// A disk that a pod names without a claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Disk {
    /// `gcePersistentDisk`: shared only by those who read.
    Gce { name: String, read_only: bool },
    /// `awsElasticBlockStore`: never shared.
    Ebs { id: String },
    /// `iscsi`: shared only by those who read.
    Iscsi { iqn: String, read_only: bool },
    /// `rbd`: shared only by those who read; the same with one monitor in common.
    Rbd {
        monitors: Vec<String>,
        pool: String,
        image: String,
        read_only: bool,
    },
}

impl Disk {
    /// Whether both cannot be in use on one node.
    pub fn conflicts(&self, other: &Disk) -> bool {
        match (self, other) {
            (
                Disk::Gce { name, read_only },
                Disk::Gce {
                    name: theirs,
                    read_only: they_read,
                },
            ) => name == theirs && !(*read_only && *they_read),
            (Disk::Ebs { id }, Disk::Ebs { id: theirs }) => id == theirs,
            (
                Disk::Iscsi { iqn, read_only },
                Disk::Iscsi {
                    iqn: theirs,
                    read_only: they_read,
                },
            ) => iqn == theirs && !(*read_only && *they_read),
            (
                Disk::Rbd {
                    monitors,
                    pool,
                    image,
                    read_only,
                },
                Disk::Rbd {
                    monitors: their_monitors,
                    pool: their_pool,
                    image: their_image,
                    read_only: they_read,
                },
            ) => {
                let shared = monitors.iter().any(|m| their_monitors.contains(m));
                shared && pool == their_pool && image == their_image && !(*read_only && *they_read)
            }
            _ => false,
        }
    }
}

/// The volumes of a pod.
pub fn pod_volumes(pod_name: &str, spec: &Value) -> Vec<PodVolume> {
    items(spec, "volumes")
        .filter_map(|volume| pod_volume(pod_name, volume))
        .collect()
}

fn pod_volume(pod_name: &str, volume: &Value) -> Option<PodVolume> {
    let part = |name: &str| volume.get(name).filter(|part| part.is_object());
    if let Some(claim) = part("persistentVolumeClaim") {
        return Some(PodVolume::Claim(text(claim, "/claimName")));
    }
    if part("ephemeral").is_some() {
        let name = format!("{pod_name}-{}", text(volume, "/name"));
        return Some(PodVolume::Ephemeral(name));
    }
    let read_only = |disk: &Value| flag(disk, "/readOnly").unwrap_or(false);
    let disk = if let Some(disk) = part("gcePersistentDisk") {
        Disk::Gce {
            name: text(disk, "/pdName"),
            read_only: read_only(disk),
        }
    } else if let Some(disk) = part("awsElasticBlockStore") {
        Disk::Ebs {
            id: text(disk, "/volumeID"),
        }
    } else if let Some(disk) = part("iscsi") {
        Disk::Iscsi {
            iqn: text(disk, "/iqn"),
            read_only: read_only(disk),
        }
    } else {
        let disk = part("rbd")?;
        Disk::Rbd {
            monitors: strings(disk.get("monitors")),
            pool: text(disk, "/pool"),
            image: text(disk, "/image"),
            read_only: read_only(disk),
        }
    };
    Some(PodVolume::Disk(disk))
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The identity of this incarnation.
    pub uid: String,
    /// The revision that this was read from.
    pub resource_version: String,
    /// The name of its class, empty for none.
    pub class: String,
    /// `spec.volumeName`, empty for none.
    pub volume_name: String,
    /// The controller is through with binding it.
    pub bind_completed: bool,
    /// Its volume is gone.
    pub lost: bool,
    /// Whether deletion was asked for.
    pub deleting: bool,
    /// Access modes.
    pub modes: BTreeSet<String>,
    /// Whether a raw device is wanted instead of a file system.
    pub block: bool,
    /// `spec.volumeAttributesClassName`, empty for none.
    pub attributes: String,
    /// Which volumes will do.
    selector: Selector,
    /// Bytes; `None` when it does not say.
    pub request: Option<i64>,
    /// The node that was chosen for it.
    pub selected_node: Option<String>,
    /// The uid of the controlling owner.
    pub controller_uid: Option<String>,
}

/// A selector that may be absent, which is as good as one that matches all, or wrong, which matches none.
#[derive(Debug, Clone, Default, PartialEq)]
enum Selector {
    #[default]
    Absent,
    Wrong,
    Given(LabelSelector),
}

impl Claim {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Claim {
        let selector = match object.pointer("/spec/selector").filter(|s| s.is_object()) {
            None => Selector::Absent,
            some => LabelSelector::parse(some).map_or(Selector::Wrong, Selector::Given),
        };
        let annotations = labels(object.pointer("/metadata/annotations"));
        let class = annotations.get(BETA_CLASS).cloned();
        Claim {
            namespace: text(object, "/metadata/namespace"),
            name: text(object, "/metadata/name"),
            uid: text(object, "/metadata/uid"),
            resource_version: text(object, "/metadata/resourceVersion"),
            class: class.unwrap_or_else(|| text(object, "/spec/storageClassName")),
            volume_name: text(object, "/spec/volumeName"),
            bind_completed: annotations.contains_key(BIND_COMPLETED),
            lost: text(object, "/status/phase") == "Lost",
            deleting: deleting(object),
            modes: modes(object),
            block: text(object, "/spec/volumeMode") == "Block",
            attributes: text(object, "/spec/volumeAttributesClassName"),
            selector,
            request: storage(object.pointer("/spec/resources/requests/storage")),
            selected_node: annotations.get(SELECTED_NODE).cloned(),
            controller_uid: controller_uid(object),
        }
    }

    /// Whether it has its volume, and the controller says so.
    pub fn is_bound(&self) -> bool {
        !self.volume_name.is_empty() && self.bind_completed
    }

    /// Whether a volume with these labels will do.
    pub fn selects(&self, volume: &Labels) -> bool {
        match &self.selector {
            Selector::Absent => true,
            Selector::Wrong => false,
            Selector::Given(selector) => selector.matches(volume),
        }
    }
}

/// To which claim a volume belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Empty when a person has written the reference.
    pub uid: String,
}

/// A PersistentVolume.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// The identity of this incarnation.
    pub uid: String,
    /// The revision that this was read from.
    pub resource_version: String,
    /// Labels.
    pub labels: Labels,
    /// The name of its class, empty for none.
    pub class: String,
    /// Bytes.
    pub capacity: i64,
    /// Access modes.
    pub modes: BTreeSet<String>,
    /// Whether it is a raw device instead of a file system.
    pub block: bool,
    /// `spec.volumeAttributesClassName`, empty for none.
    pub attributes: String,
    /// Nobody has it, and it can be had.
    pub available: bool,
    /// Whether deletion was asked for.
    pub deleting: bool,
    /// To which claim it belongs.
    pub claim: Option<ClaimRef>,
    /// From which nodes it can be reached: any of the terms; `None` from all.
    nodes: Option<Vec<NodeSelectorTerm>>,
    /// Driver and handle of a CSI volume.
    pub csi: Option<(String, String)>,
}

impl Volume {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Volume {
        let annotations = labels(object.pointer("/metadata/annotations"));
        let class = annotations.get(BETA_CLASS).cloned();
        let claim = object
            .pointer("/spec/claimRef")
            .filter(|claim| claim.is_object());
        let required = object
            .pointer("/spec/nodeAffinity/required")
            .filter(|required| required.is_object());
        let csi = object.pointer("/spec/csi").filter(|csi| csi.is_object());
        Volume {
            name: text(object, "/metadata/name"),
            uid: text(object, "/metadata/uid"),
            resource_version: text(object, "/metadata/resourceVersion"),
            labels: labels(object.pointer("/metadata/labels")),
            class: class.unwrap_or_else(|| text(object, "/spec/storageClassName")),
            capacity: storage(object.pointer("/spec/capacity/storage")).unwrap_or(0),
            modes: modes(object),
            block: text(object, "/spec/volumeMode") == "Block",
            attributes: text(object, "/spec/volumeAttributesClassName"),
            available: text(object, "/status/phase") == "Available",
            deleting: deleting(object),
            claim: claim.map(|claim| ClaimRef {
                namespace: text(claim, "/namespace"),
                name: text(claim, "/name"),
                uid: text(claim, "/uid"),
            }),
            nodes: required.map(|required| {
                items(required, "nodeSelectorTerms")
                    .filter_map(NodeSelectorTerm::parse)
                    .collect()
            }),
            csi: csi.map(|csi| (text(csi, "/driver"), text(csi, "/volumeHandle"))),
        }
    }

    /// Whether it can be reached from a node with these labels. Terms over fields never hold, as in Kubernetes.
    pub fn reachable_from(&self, node: &Labels) -> bool {
        let terms = self.nodes.as_ref();
        terms.is_none_or(|terms| terms.iter().any(|term| term.matches("", node)))
    }

    /// Whether it can be reached from some nodes only.
    pub fn has_places(&self) -> bool {
        self.nodes.is_some()
    }

    /// Whether it belongs to this claim, by its name and, where one is given, by its uid.
    pub fn belongs_to(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|of| {
            of.name == claim.name
                && of.namespace == claim.namespace
                && (of.uid.is_empty() || of.uid == claim.uid)
        })
    }

    /// The values that a node may have at each label of [`TOPOLOGY_LABELS`] that the volume has.
    pub fn topology(&self) -> Vec<(&'static str, BTreeSet<&str>)> {
        let of_label = |label: &&'static str| {
            let value = self.labels.get(*label)?;
            let values: BTreeSet<&str> = value.split("__").map(str::trim).collect();
            // A label that does not parse is as good as none.
            (!values.contains("")).then_some((*label, values))
        };
        TOPOLOGY_LABELS.iter().filter_map(of_label).collect()
    }
}

/// Whether a node is in any zone or region.
pub fn has_topology(node: &Labels) -> bool {
    TOPOLOGY_LABELS
        .iter()
        .any(|label| node.contains_key(*label))
}

/// The label that has replaced an outdated one.
pub fn current_label(label: &str) -> &str {
    match label {
        "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
        current => current,
    }
}

/// A StorageClass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Class {
    /// Name.
    pub name: String,
    /// Who makes its volumes.
    pub provisioner: String,
    /// Claims are bound when a pod needs them; `None` when the class does not say.
    pub waits: Option<bool>,
    /// Where volumes can be made: any of the terms, each with values by label.
    pub topologies: Option<Vec<Topology>>,
}

/// Values by label, all of which hold.
pub type Topology = Vec<(String, Vec<String>)>;

impl Class {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Class {
        let mode = text(object, "/volumeBindingMode");
        let term = |term: &Value| {
            let requirements = items(term, "matchLabelExpressions");
            requirements
                .map(|requirement| {
                    (
                        text(requirement, "/key"),
                        strings(requirement.get("values")),
                    )
                })
                .collect()
        };
        let topologies = object.get("allowedTopologies").and_then(Value::as_array);
        Class {
            name: text(object, "/metadata/name"),
            provisioner: text(object, "/provisioner"),
            waits: (!mode.is_empty()).then(|| mode == "WaitForFirstConsumer"),
            topologies: topologies
                .filter(|terms| !terms.is_empty())
                .map(|terms| terms.iter().map(term).collect()),
        }
    }

    /// Whether somebody makes volumes when they are needed.
    pub fn provisions(&self) -> bool {
        !self.provisioner.is_empty() && self.provisioner != NO_PROVISIONER
    }

    /// Whether a volume can be made for a node with these labels. A term without requirements means no node.
    pub fn provisions_for(&self, node: &Labels) -> bool {
        let holds = |(key, values): &(String, Vec<String>)| {
            node.get(key).is_some_and(|actual| values.contains(actual))
        };
        self.topologies.as_ref().is_none_or(|terms| {
            let mut terms = terms.iter();
            terms.any(|term| !term.is_empty() && term.iter().all(holds))
        })
    }
}

/// A CSINode: how many volumes of each driver its node can hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CsiNode {
    /// By driver; drivers without a limit are left out.
    pub limits: BTreeMap<String, i64>,
    /// Which drivers have taken over old kinds of disks there.
    pub migrated: String,
}

impl CsiNode {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> CsiNode {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let limit = |driver: &Value| {
            let count = driver.pointer("/allocatable/count")?.as_i64()?;
            Some((text(driver, "/name"), count))
        };
        let annotations = labels(object.pointer("/metadata/annotations"));
        let migrated = annotations.get("storage.alpha.kubernetes.io/migrated-plugins");
        CsiNode {
            limits: items(spec, "drivers").filter_map(limit).collect(),
            migrated: migrated.cloned().unwrap_or_default(),
        }
    }
}

/// A CSIDriver.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Driver {
    /// Whether it tells in CSIStorageCapacities how much room there is.
    pub tells_capacity: bool,
}

impl Driver {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Driver {
        Driver {
            tells_capacity: flag(object, "/spec/storageCapacity").unwrap_or(false),
        }
    }
}

/// A CSIStorageCapacity: how much room there is for volumes of a class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capacity {
    /// The class.
    pub class: String,
    /// The largest volume, in bytes; `None` when nothing is said.
    pub largest: Option<i64>,
    /// From where it can be reached; `None` from nowhere.
    nodes: Option<LabelSelector>,
}

impl Capacity {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Capacity {
        let largest = storage(object.get("maximumVolumeSize"));
        Capacity {
            class: text(object, "/storageClassName"),
            largest: largest.or_else(|| storage(object.get("capacity"))),
            nodes: LabelSelector::parse(object.get("nodeTopology")),
        }
    }

    /// Whether a node with these labels has a volume of this many bytes from it.
    pub fn has_room(&self, bytes: i64, node: &Labels) -> bool {
        self.largest.is_some_and(|largest| largest >= bytes)
            && self.nodes.as_ref().is_some_and(|nodes| nodes.matches(node))
    }
}

/// A VolumeAttachment: a volume that is attached to a node, or about to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attachment {
    /// The node.
    pub node: String,
    /// The driver.
    pub driver: String,
    /// The PersistentVolume, empty for another source.
    pub volume: String,
}

impl Attachment {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Attachment {
        Attachment {
            node: text(object, "/spec/nodeName"),
            driver: text(object, "/spec/attacher"),
            volume: text(object, "/spec/source/persistentVolumeName"),
        }
    }
}

fn deleting(object: &Value) -> bool {
    let time = object.pointer("/metadata/deletionTimestamp");
    time.is_some_and(Value::is_string)
}

fn modes(object: &Value) -> BTreeSet<String> {
    let modes = strings(object.pointer("/spec/accessModes"));
    modes.into_iter().collect()
}

fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer).and_then(Value::as_bool)
}

/// A quantity in bytes; a bare number is legal too.
fn storage(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => Some(quantity::value(text)),
        number @ Value::Number(_) => Some(quantity::value(&number.to_string())),
        _ => None,
    }
}

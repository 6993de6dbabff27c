//! What happens in a cluster, as far as it may let a waiting pod through.

use crate::devices::claim::{DeviceClaim, DeviceClass};
use crate::object::{Node, Pod};
use crate::volume::object::{Class, CsiNode, Volume};
use std::sync::Arc;

/// A change in the cluster that may let a waiting pod through.
#[derive(Debug, Clone)]
pub enum Change {
    /// A node appeared.
    NodeAdded(Arc<Node>),
    /// A node changed in something that scheduling reads.
    NodeUpdated { old: Arc<Node>, new: Arc<Node> },
    /// A node went away.
    NodeRemoved,
    /// A pod came onto a node.
    PodPlaced(Arc<Pod>),
    /// A pod on a node changed its labels, to these.
    PodRelabelled(Arc<Pod>),
    /// A pod left its node.
    PodGone(Arc<Pod>),
    /// A namespace appeared or changed its labels.
    Namespace,
    /// Something about volumes.
    Volumes(VolumeChange),
    /// Something about devices.
    Devices(DeviceChange),
}

/// A change of devices, or of who has them.
#[derive(Debug, Clone)]
pub enum DeviceChange {
    /// A claim appeared or changed. `old` is absent for one that is new.
    Claim {
        old: Option<Arc<DeviceClaim>>,
        new: Arc<DeviceClaim>,
    },
    /// Devices were given back without any claim having changed.
    Freed,
    /// A class appeared or changed.
    Class(Arc<DeviceClass>),
    /// A slice appeared or changed.
    Offer,
}

/// A change of volumes, or of what is said of them. `old` is absent for what is new.
#[derive(Debug, Clone)]
pub enum VolumeChange {
    /// A claim appeared or changed.
    Claim {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Whether it was not there before.
        new: bool,
    },
    /// A volume appeared or changed.
    Volume {
        old: Option<Arc<Volume>>,
        new: Arc<Volume>,
    },
    /// A class appeared or changed.
    Class {
        old: Option<Arc<Class>>,
        new: Arc<Class>,
    },
    /// What drivers say of a node has changed.
    CsiNode {
        old: Option<Arc<CsiNode>>,
        new: Arc<CsiNode>,
    },
    /// A driver does not tell any more how much room there is.
    DriverStopsTelling,
    /// There is more room than before for volumes of a class.
    MoreRoom,
    /// A volume was detached from a node.
    Detached {
        /// The node.
        node: String,
    },
}

/// What a change is about, as far as filters tell without a look at a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A node appeared.
    NodeAdded,
    /// A node changed.
    NodeUpdated,
    /// A node went away.
    NodeRemoved,
    /// A pod came onto a node.
    PodPlaced,
    /// A pod on a node changed its labels.
    PodRelabelled,
    /// A pod left its node.
    PodGone,
    /// A namespace appeared or changed.
    Namespace,
    /// A claim on a volume appeared or changed.
    VolumeClaim,
    /// A volume appeared or changed.
    Volume,
    /// A class of volumes appeared or changed.
    StorageClass,
    /// What drivers say of a node has changed.
    CsiNode,
    /// A driver does not tell any more how much room there is.
    DriverStopsTelling,
    /// There is more room than before for volumes of a class.
    MoreRoom,
    /// A volume was detached from a node.
    Detached,
    /// A claim on devices appeared or changed, and did not give devices back.
    DeviceClaim,
    /// Devices were given back.
    DevicesFreed,
    /// A class of devices appeared or changed.
    DeviceClass,
    /// A slice of devices appeared or changed.
    DeviceOffer,
}

/// How near to a pod a change has to be to matter to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Near {
    /// It may matter to any pod.
    Anywhere,
    /// It has to be in the pod's namespace.
    Namespace,
    /// It has to be of a claim in the pod's namespace that the pod names.
    Claim,
}

impl Change {
    /// What Kubernetes calls such an event.
    pub(crate) fn label(&self) -> &'static str {
        let change = match self {
            Change::NodeAdded(_) => return "NodeAdd",
            Change::NodeUpdated { .. } => return "NodeUpdate",
            Change::NodeRemoved => return "NodeDelete",
            Change::PodPlaced(_) => return "AssignedPodAdd",
            Change::PodRelabelled(_) => return "AssignedPodUpdate",
            Change::PodGone(_) => return "AssignedPodDelete",
            Change::Namespace => return "NamespaceUpdate",
            Change::Devices(DeviceChange::Claim { old: None, .. }) => return "ResourceClaimAdd",
            Change::Devices(DeviceChange::Claim { .. } | DeviceChange::Freed) => {
                return "ResourceClaimUpdate";
            }
            Change::Devices(DeviceChange::Class(_)) => return "DeviceClassUpdate",
            Change::Devices(DeviceChange::Offer) => return "ResourceSliceUpdate",
            Change::Volumes(change) => change,
        };
        match change {
            VolumeChange::Claim { new: true, .. } => "PersistentVolumeClaimAdd",
            VolumeChange::Claim { .. } => "PersistentVolumeClaimUpdate",
            VolumeChange::Volume { old: None, .. } => "PersistentVolumeAdd",
            VolumeChange::Volume { .. } => "PersistentVolumeUpdate",
            VolumeChange::Class { old: None, .. } => "StorageClassAdd",
            VolumeChange::Class { .. } => "StorageClassUpdate",
            VolumeChange::CsiNode { old: None, .. } => "CSINodeAdd",
            VolumeChange::CsiNode { .. } => "CSINodeUpdate",
            VolumeChange::DriverStopsTelling => "CSIDriverUpdate",
            VolumeChange::MoreRoom => "CSIStorageCapacityUpdate",
            VolumeChange::Detached { .. } => "VolumeAttachmentDelete",
        }
    }

    /// What it is about.
    pub(crate) fn kind(&self) -> ChangeKind {
        match self {
            Change::NodeAdded(_) => ChangeKind::NodeAdded,
            Change::NodeUpdated { .. } => ChangeKind::NodeUpdated,
            Change::NodeRemoved => ChangeKind::NodeRemoved,
            Change::PodPlaced(_) => ChangeKind::PodPlaced,
            Change::PodRelabelled(_) => ChangeKind::PodRelabelled,
            Change::PodGone(_) => ChangeKind::PodGone,
            Change::Namespace => ChangeKind::Namespace,
            Change::Volumes(change) => change.kind(),
            Change::Devices(change) => change.kind(),
        }
    }

    /// The namespace that it is in, if that matters to anybody.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Change::PodPlaced(pod) | Change::PodRelabelled(pod) | Change::PodGone(pod) => {
                Some(&pod.namespace)
            }
            Change::Volumes(VolumeChange::Claim { namespace, .. }) => Some(namespace),
            Change::Devices(DeviceChange::Claim { new, .. }) => Some(&new.namespace),
            _ => None,
        }
    }

    /// The name of the claim that it is of.
    pub(crate) fn claim(&self) -> Option<&str> {
        match self {
            Change::Volumes(VolumeChange::Claim { name, .. }) => Some(name),
            Change::Devices(DeviceChange::Claim { new, .. }) => Some(&new.name),
            _ => None,
        }
    }

    /// The node as it is now, when the change is about a node that is there.
    pub(super) fn node(&self) -> Option<&Node> {
        match self {
            Change::NodeAdded(node) | Change::NodeUpdated { new: node, .. } => Some(node),
            _ => None,
        }
    }

    /// Whether it is a new node, or one on which `part` differs from before.
    pub(super) fn node_part_changed<T: PartialEq>(&self, part: fn(&Node) -> &T) -> bool {
        match self {
            Change::NodeAdded(_) => true,
            Change::NodeUpdated { old, new } => part(old) != part(new),
            _ => false,
        }
    }
}

impl VolumeChange {
    fn kind(&self) -> ChangeKind {
        match self {
            VolumeChange::Claim { .. } => ChangeKind::VolumeClaim,
            VolumeChange::Volume { .. } => ChangeKind::Volume,
            VolumeChange::Class { .. } => ChangeKind::StorageClass,
            VolumeChange::CsiNode { .. } => ChangeKind::CsiNode,
            VolumeChange::DriverStopsTelling => ChangeKind::DriverStopsTelling,
            VolumeChange::MoreRoom => ChangeKind::MoreRoom,
            VolumeChange::Detached { .. } => ChangeKind::Detached,
        }
    }
}

impl DeviceChange {
    fn kind(&self) -> ChangeKind {
        match self {
            DeviceChange::Claim { old, new } if gives_back(old.as_deref(), new) => {
                ChangeKind::DevicesFreed
            }
            DeviceChange::Claim { .. } => ChangeKind::DeviceClaim,
            DeviceChange::Freed => ChangeKind::DevicesFreed,
            DeviceChange::Class(_) => ChangeKind::DeviceClass,
            DeviceChange::Offer => ChangeKind::DeviceOffer,
        }
    }
}

/// Whether a claim had devices and has none now.
pub(super) fn gives_back(old: Option<&DeviceClaim>, new: &DeviceClaim) -> bool {
    old.is_some_and(|old| old.allocation.is_some()) && new.allocation.is_none()
}

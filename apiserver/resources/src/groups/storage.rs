//! storage.k8s.io/v1.

use crate::builtin::{BuiltIn, CLUSTER, NAMESPACED, status};
use crate::{defaults, table, validate};

const GROUP: &str = "storage.k8s.io";

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        group: GROUP,
        kind: "CSIDriver",
        plural: "csidrivers",
        columns: table::volume::CSI_DRIVER,
        cells: table::volume::csi_driver,
        defaults: defaults::storage::csi_driver,
        check: validate::storage::csi_driver,
        check_update: validate::storage::csi_driver_update,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "CSINode",
        plural: "csinodes",
        columns: table::volume::CSI_NODE,
        cells: table::volume::csi_node,
        check: validate::storage::csi_node,
        check_update: validate::storage::csi_node_update,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "CSIStorageCapacity",
        plural: "csistoragecapacities",
        columns: table::volume::CSI_STORAGE_CAPACITY,
        cells: table::volume::csi_storage_capacity,
        check: validate::storage::csi_storage_capacity,
        check_update: validate::storage::csi_storage_capacity_update,
        advise: validate::warnings::storage_capacity,
        ..NAMESPACED
    },
    BuiltIn {
        group: GROUP,
        kind: "StorageClass",
        plural: "storageclasses",
        short_names: &["sc"],
        columns: table::volume::STORAGE_CLASS,
        cells: table::volume::storage_class,
        defaults: defaults::storage::storage_class,
        check: validate::storage::storage_class,
        check_update: validate::storage::storage_class_update,
        advise: validate::warnings::storage_class,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        subresources: &[status("VolumeAttachment")],
        columns: table::volume::VOLUME_ATTACHMENT,
        cells: table::volume::volume_attachment,
        check: validate::storage::volume_attachment,
        check_update: validate::storage::volume_attachment_update,
        on_create: defaults::prepare::volume_attachment_create,
        on_subresource_update: defaults::prepare::status_only,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "VolumeAttributesClass",
        plural: "volumeattributesclasses",
        short_names: &["vac"],
        columns: table::volume::VOLUME_ATTRIBUTES_CLASS,
        cells: table::volume::volume_attributes_class,
        check: validate::storage::volume_attributes_class,
        check_update: validate::storage::volume_attributes_class_update,
        ..CLUSTER
    },
];

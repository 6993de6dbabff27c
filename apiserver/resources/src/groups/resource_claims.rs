//! resource.k8s.io/v1: devices and claims on them.

use crate::builtin::{BuiltIn, CLUSTER, NAMESPACED, status};
use crate::{defaults, table, validate};

const GROUP: &str = "resource.k8s.io";

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        group: GROUP,
        kind: "DeviceClass",
        plural: "deviceclasses",
        generation: Some(&["spec"]),
        columns: table::NAME_AGE,
        cells: table::name_age,
        check: validate::devices::class,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "ResourceClaim",
        plural: "resourceclaims",
        subresources: &[status("ResourceClaim")],
        columns: table::devices::CLAIM,
        cells: table::devices::claim,
        defaults: defaults::resource_claim,
        on_subresource_update: defaults::prepare::claim_status,
        check: validate::devices::claim,
        check_update: validate::devices::spec_update,
        check_subresource_update: validate::devices::claim_status,
        ..NAMESPACED
    },
    BuiltIn {
        group: GROUP,
        kind: "ResourceClaimTemplate",
        plural: "resourceclaimtemplates",
        columns: table::NAME_AGE,
        cells: table::name_age,
        defaults: defaults::resource_claim_template,
        check: validate::devices::claim_template,
        check_update: validate::devices::spec_update,
        ..NAMESPACED
    },
    BuiltIn {
        group: GROUP,
        kind: "ResourceSlice",
        plural: "resourceslices",
        generation: Some(&["spec"]),
        field_selectors: &["spec.nodeName", "spec.driver"],
        columns: table::devices::SLICE,
        cells: table::devices::slice,
        times: Some(defaults::device_taints::stamp),
        check: validate::slice::slice,
        check_update: validate::slice::slice_update,
        ..CLUSTER
    },
];

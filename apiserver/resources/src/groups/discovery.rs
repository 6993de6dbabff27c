//! coordination.k8s.io/v1 and discovery.k8s.io/v1: what nodes and services write all the time.

use crate::builtin::{BuiltIn, NAMESPACED};
use crate::{defaults, table, validate};

pub(super) static LEASES: &[BuiltIn] = &[BuiltIn {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    create_on_update: true,
    unconditional_update: false,
    columns: table::cluster::LEASE,
    cells: table::cluster::lease,
    check: validate::lease::lease,
    ..NAMESPACED
}];

pub(super) static KINDS: &[BuiltIn] = &[BuiltIn {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    generation: Some(&["endpoints", "ports", "addressType"]),
    columns: table::service::ENDPOINT_SLICE,
    cells: table::service::endpoint_slice,
    defaults: defaults::service::endpoint_slice,
    check: validate::endpoints::endpoint_slice,
    check_update: validate::endpoints::endpoint_slice_update,
    advise: validate::warnings::endpoint_slice,
    ..NAMESPACED
}];

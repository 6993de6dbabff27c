//! metrics.k8s.io: what pods and nodes use now. Asked of the nodes when somebody wants to know it, and never stored.

use crate::builtin::{BuiltIn, NAMESPACED};
use crate::resource::Storage;
use crate::{METRICS, table};

const FIGURES: BuiltIn = BuiltIn {
    group: METRICS,
    version: "v1beta1",
    verbs: &["get", "list"],
    storage: Storage::Virtual,
    columns: table::metrics::FIGURES,
    ..NAMESPACED
};

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        kind: "NodeMetrics",
        plural: "nodes",
        namespaced: false,
        cells: table::metrics::node,
        ..FIGURES
    },
    BuiltIn {
        kind: "PodMetrics",
        plural: "pods",
        field_selectors: &["spec.nodeName"],
        cells: table::metrics::pod,
        ..FIGURES
    },
];

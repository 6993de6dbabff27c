//! flowcontrol.apiserver.k8s.io/v1.

use crate::builtin::{BuiltIn, CLUSTER, status};
use crate::{defaults, table, validate};

const FLOW: BuiltIn = BuiltIn {
    group: "flowcontrol.apiserver.k8s.io",
    generation: Some(&["spec"]),
    ..CLUSTER
};

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        kind: "FlowSchema",
        plural: "flowschemas",
        subresources: &[status("FlowSchema")],
        columns: table::policy::FLOW_SCHEMA,
        cells: table::policy::flow_schema,
        defaults: defaults::flow_schema,
        check: validate::policy::flow_schema,
        ..FLOW
    },
    BuiltIn {
        kind: "PriorityLevelConfiguration",
        plural: "prioritylevelconfigurations",
        subresources: &[status("PriorityLevelConfiguration")],
        columns: table::policy::PRIORITY_LEVEL,
        cells: table::policy::priority_level,
        defaults: defaults::priority_level,
        check: validate::policy::priority_level,
        ..FLOW
    },
];

//! scheduling.k8s.io/v1 and node.k8s.io/v1.

use crate::builtin::{BuiltIn, CLUSTER};
use crate::{defaults, meta, table, validate};

pub(super) static KINDS: &[BuiltIn] = &[BuiltIn {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    short_names: &["pc"],
    generation: Some(&[]),
    columns: table::policy::PRIORITY_CLASS,
    cells: table::policy::priority_class,
    defaults: defaults::priority_class,
    check: validate::policy::priority_class,
    check_update: validate::policy::priority_class_update,
    ..CLUSTER
}];

pub(super) static RUNTIMES: &[BuiltIn] = &[BuiltIn {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    name_rule: meta::subdomain,
    columns: table::node::RUNTIME_CLASS,
    cells: table::node::runtime_class,
    check: validate::node::runtime_class,
    check_update: validate::node::runtime_class_update,
    advise: validate::warnings::runtime_class,
    ..CLUSTER
}];

//! apps/v1: the workloads.

use crate::builtin::{BuiltIn, NAMESPACED, SCALE, status};
use crate::resource::{Scale, SelectorForm};
use crate::{defaults, meta, table, validate};

const APPS: BuiltIn = BuiltIn {
    group: "apps",
    ..NAMESPACED
};

const REPLICAS: Scale = Scale {
    spec_replicas: std::borrow::Cow::Borrowed("spec.replicas"),
    status_replicas: std::borrow::Cow::Borrowed("status.replicas"),
    selector: std::borrow::Cow::Borrowed("spec.selector"),
    selector_form: SelectorForm::Selector,
};

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        columns: table::workload::CONTROLLER_REVISION,
        cells: table::workload::controller_revision,
        check: validate::workload::controller_revision,
        check_update: validate::workload::controller_revision_update,
        ..APPS
    },
    BuiltIn {
        kind: "DaemonSet",
        plural: "daemonsets",
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[status("DaemonSet")],
        generation: Some(&["spec"]),
        columns: table::workload::DAEMON_SET,
        cells: table::workload::daemon_set,
        defaults: defaults::workload::daemon_set,
        on_create: defaults::prepare::daemon_set_create,
        on_update: defaults::prepare::daemon_set_update,
        check: validate::workload::daemon_set,
        check_update: validate::workload::selector_update,
        check_subresource_update: validate::workload::counts,
        advise: validate::warnings::workload,
        ..APPS
    },
    BuiltIn {
        kind: "Deployment",
        plural: "deployments",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[SCALE, status("Deployment")],
        scale: Some(REPLICAS),
        generation: Some(&["spec"]),
        columns: table::workload::DEPLOYMENT,
        cells: table::workload::deployment,
        defaults: defaults::workload::deployment,
        on_subresource_update: defaults::prepare::deployment_subresource,
        check: validate::workload::deployment,
        check_update: validate::workload::selector_update,
        check_subresource_update: validate::workload::counts,
        advise: validate::warnings::workload,
        ..APPS
    },
    BuiltIn {
        kind: "ReplicaSet",
        plural: "replicasets",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[SCALE, status("ReplicaSet")],
        scale: Some(REPLICAS),
        generation: Some(&["spec"]),
        columns: table::workload::REPLICA_SET,
        cells: table::workload::replica_set,
        defaults: defaults::workload::replica_set,
        on_create: defaults::prepare::replicas_create,
        check: validate::workload::replica_set,
        check_update: validate::workload::selector_update,
        check_subresource_update: validate::workload::counts,
        advise: validate::warnings::workload,
        ..APPS
    },
    BuiltIn {
        kind: "StatefulSet",
        plural: "statefulsets",
        short_names: &["sts"],
        categories: &["all"],
        name_rule: meta::label,
        subresources: &[SCALE, status("StatefulSet")],
        scale: Some(REPLICAS),
        generation: Some(&["spec"]),
        columns: table::workload::STATEFUL_SET,
        cells: table::workload::stateful_set,
        defaults: defaults::workload::stateful_set,
        on_create: defaults::prepare::stateful_set_create,
        check: validate::workload::stateful_set,
        check_update: validate::workload::stateful_set_update,
        check_subresource_update: validate::workload::counts,
        advise: validate::warnings::workload,
        ..APPS
    },
];

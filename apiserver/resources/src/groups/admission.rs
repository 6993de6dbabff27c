//! admissionregistration.k8s.io/v1.

use crate::builtin::{BuiltIn, CLUSTER, status};
use crate::{defaults, table, validate};

const ADMISSION: BuiltIn = BuiltIn {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    ..CLUSTER
};

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        kind: "MutatingAdmissionPolicy",
        plural: "mutatingadmissionpolicies",
        generation: Some(&["spec"]),
        columns: table::admission::MUTATING_POLICY,
        cells: table::admission::mutating_policy,
        defaults: defaults::admission::policy,
        check: validate::admission::mutating_policy,
        ..ADMISSION
    },
    BuiltIn {
        kind: "MutatingAdmissionPolicyBinding",
        plural: "mutatingadmissionpolicybindings",
        generation: Some(&["spec"]),
        columns: table::admission::POLICY_BINDING,
        cells: table::admission::policy_binding,
        defaults: defaults::admission::binding,
        check: validate::admission::mutating_binding,
        ..ADMISSION
    },
    BuiltIn {
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        generation: Some(&["webhooks"]),
        columns: table::admission::WEBHOOK,
        cells: table::admission::webhook,
        defaults: defaults::admission::mutating_webhook,
        check: validate::admission::webhooks,
        ..ADMISSION
    },
    BuiltIn {
        kind: "ValidatingAdmissionPolicy",
        plural: "validatingadmissionpolicies",
        subresources: &[status("ValidatingAdmissionPolicy")],
        on_subresource_update: defaults::prepare::status_only,
        generation: Some(&["spec"]),
        columns: table::admission::VALIDATING_POLICY,
        cells: table::admission::validating_policy,
        defaults: defaults::admission::policy,
        on_create: defaults::policy_status::create,
        on_update: defaults::policy_status::update,
        check: validate::admission::validating_policy,
        ..ADMISSION
    },
    BuiltIn {
        kind: "ValidatingAdmissionPolicyBinding",
        plural: "validatingadmissionpolicybindings",
        generation: Some(&["spec"]),
        columns: table::admission::POLICY_BINDING,
        cells: table::admission::policy_binding,
        defaults: defaults::admission::binding,
        check: validate::admission::validating_binding,
        ..ADMISSION
    },
    BuiltIn {
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        generation: Some(&["webhooks"]),
        columns: table::admission::WEBHOOK,
        cells: table::admission::webhook,
        defaults: defaults::admission::validating_webhook,
        check: validate::admission::webhooks,
        ..ADMISSION
    },
];

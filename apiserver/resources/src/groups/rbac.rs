//! rbac.authorization.k8s.io/v1 and certificates.k8s.io/v1: who may what.

use crate::builtin::{BuiltIn, CLUSTER, NAMESPACED, status};
use crate::resource::{GET_PATCH_UPDATE, Subresource};
use crate::{defaults, meta, table, validate};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        group: GROUP,
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        name_rule: meta::path_segment,
        columns: table::rbac::BINDING,
        cells: table::rbac::binding,
        defaults: defaults::rbac::binding,
        check: validate::rbac::cluster_role_binding,
        check_update: validate::rbac::binding_update,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "ClusterRole",
        plural: "clusterroles",
        name_rule: meta::path_segment,
        check: validate::rbac::cluster_role,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "RoleBinding",
        plural: "rolebindings",
        name_rule: meta::path_segment,
        columns: table::rbac::BINDING,
        cells: table::rbac::binding,
        defaults: defaults::rbac::binding,
        check: validate::rbac::role_binding,
        check_update: validate::rbac::binding_update,
        ..NAMESPACED
    },
    BuiltIn {
        group: GROUP,
        kind: "Role",
        plural: "roles",
        name_rule: meta::path_segment,
        check: validate::rbac::role,
        ..NAMESPACED
    },
];

pub(super) static CERTIFICATES: &[BuiltIn] = &[BuiltIn {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    short_names: &["csr"],
    subresources: &[
        Subresource {
            name: "approval",
            kind: "CertificateSigningRequest",
            group: "",
            version: "",
            verbs: GET_PATCH_UPDATE,
        },
        status("CertificateSigningRequest"),
    ],
    field_selectors: &["spec.signerName"],
    columns: table::rbac::SIGNING_REQUEST,
    cells: table::rbac::signing_request,
    on_update: defaults::signing::update,
    on_subresource_update: defaults::signing::subresource,
    stamp: Some(defaults::signing::stamp),
    check: validate::certificate::signing_request,
    check_subresource_update: validate::certificate::signing_request_subresource,
    ..CLUSTER
}];

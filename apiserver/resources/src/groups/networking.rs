//! networking.k8s.io/v1.

use crate::builtin::{BuiltIn, CLUSTER, NAMESPACED, status};
use crate::{defaults, meta, table, validate};

const GROUP: &str = "networking.k8s.io";

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        group: GROUP,
        kind: "IngressClass",
        plural: "ingressclasses",
        generation: Some(&["spec"]),
        columns: table::network::INGRESS_CLASS,
        cells: table::network::ingress_class,
        defaults: defaults::network::ingress_class,
        check: validate::network::ingress_class,
        check_update: validate::network::ingress_class_update,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "Ingress",
        plural: "ingresses",
        short_names: &["ing"],
        subresources: &[status("Ingress")],
        generation: Some(&["spec"]),
        on_create: defaults::prepare::ingress_create,
        columns: table::network::INGRESS,
        cells: table::network::ingress,
        check: validate::network::ingress,
        check_subresource_update: validate::network::ingress_subresource,
        ..NAMESPACED
    },
    BuiltIn {
        group: GROUP,
        kind: "IPAddress",
        plural: "ipaddresses",
        short_names: &["ip"],
        name_rule: meta::ip_address,
        columns: table::network::IP_ADDRESS,
        cells: table::network::ip_address,
        check: validate::network::ip_address,
        check_update: validate::network::ip_address_update,
        ..CLUSTER
    },
    BuiltIn {
        group: GROUP,
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        short_names: &["netpol"],
        generation: Some(&["spec"]),
        columns: table::network::NETWORK_POLICY,
        cells: table::network::network_policy,
        defaults: defaults::network::network_policy,
        check: validate::network::network_policy,
        advise: validate::warnings::network_policy,
        ..NAMESPACED
    },
    BuiltIn {
        group: GROUP,
        kind: "ServiceCIDR",
        plural: "servicecidrs",
        subresources: &[status("ServiceCIDR")],
        columns: table::network::SERVICE_CIDR,
        cells: table::network::service_cidr,
        check: validate::network::service_cidr,
        check_update: validate::network::service_cidr_update,
        ..CLUSTER
    },
];

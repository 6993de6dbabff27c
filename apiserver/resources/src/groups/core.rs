//! Core group, and events.k8s.io, which is the same objects in another shape.

use crate::builtin::{BuiltIn, CLUSTER, NAMESPACED, SCALE, status};
use crate::resource::{
    CREATE_ONLY, GET_PATCH_UPDATE, Scale, SelectorForm, Shared, Storage, Subresource,
};
use crate::{convert, defaults, meta, table, validate};

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
const CREATE_GET: &[&str] = &["create", "get"];

const fn connect(
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource {
        name,
        kind,
        group: "",
        version: "",
        verbs,
    }
}

const POD_SUBRESOURCES: &[Subresource] = &[
    connect("attach", "PodAttachOptions", CREATE_GET),
    connect("binding", "Binding", CREATE_ONLY),
    connect("ephemeralcontainers", "Pod", GET_PATCH_UPDATE),
    Subresource {
        name: "eviction",
        kind: "Eviction",
        group: "policy",
        version: "v1",
        verbs: CREATE_ONLY,
    },
    connect("exec", "PodExecOptions", CREATE_GET),
    connect("log", "Pod", &["get"]),
    connect("portforward", "PodPortForwardOptions", CREATE_GET),
    connect("proxy", "PodProxyOptions", PROXY_VERBS),
    connect("resize", "Pod", GET_PATCH_UPDATE),
    status("Pod"),
];

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

const NEW_EVENT_FIELDS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        kind: "Binding",
        plural: "bindings",
        verbs: CREATE_ONLY,
        storage: Storage::Virtual,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "ComponentStatus",
        plural: "componentstatuses",
        short_names: &["cs"],
        verbs: &["get", "list"],
        storage: Storage::Virtual,
        columns: table::cluster::COMPONENT_STATUS,
        cells: table::cluster::component_status,
        ..CLUSTER
    },
    BuiltIn {
        kind: "ConfigMap",
        plural: "configmaps",
        short_names: &["cm"],
        columns: table::config::CONFIG_MAP,
        cells: table::config::config_map,
        check: validate::config::config_map,
        check_update: validate::config::config_map_update,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "Endpoints",
        plural: "endpoints",
        short_names: &["ep"],
        columns: table::service::ENDPOINTS,
        cells: table::service::endpoints,
        defaults: defaults::service::endpoints,
        check: validate::endpoints::endpoints,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "Event",
        plural: "events",
        short_names: &["ev"],
        field_selectors: EVENT_FIELDS,
        create_on_update: true,
        columns: table::event::EVENT,
        cells: table::event::event,
        check: validate::event::core_event,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "LimitRange",
        plural: "limitranges",
        short_names: &["limits"],
        defaults: defaults::limit_range,
        check: validate::quota::limit_range,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "Namespace",
        plural: "namespaces",
        short_names: &["ns"],
        verbs: &[
            "create", "delete", "get", "list", "patch", "update", "watch",
        ],
        subresources: &[
            Subresource {
                name: "finalize",
                kind: "Namespace",
                group: "",
                version: "",
                verbs: &["update"],
            },
            status("Namespace"),
        ],
        field_selectors: &["status.phase"],
        name_rule: meta::label,
        columns: table::cluster::NAMESPACE,
        cells: table::cluster::namespace,
        defaults: defaults::namespace,
        on_create: defaults::prepare::namespace_create,
        on_update: defaults::prepare::namespace_update,
        check: validate::namespace::namespace,
        check_subresource_update: validate::namespace::namespace_subresource,
        ..CLUSTER
    },
    BuiltIn {
        kind: "Node",
        plural: "nodes",
        short_names: &["no"],
        subresources: &[
            connect("proxy", "NodeProxyOptions", PROXY_VERBS),
            status("Node"),
        ],
        field_selectors: &["spec.unschedulable"],
        columns: table::node::NODE,
        cells: table::node::node,
        defaults: defaults::node,
        on_create: defaults::prepare::keep_status,
        check: validate::node::node,
        check_update: validate::node::node_update,
        advise: validate::warnings::node,
        ..CLUSTER
    },
    BuiltIn {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        short_names: &["pvc"],
        subresources: &[status("PersistentVolumeClaim")],
        columns: table::volume::CLAIM,
        cells: table::volume::claim,
        defaults: defaults::storage::claim,
        on_create: defaults::prepare::pending,
        check: validate::volume::claim,
        check_update: validate::volume::claim_update,
        advise: validate::warnings::claim,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        short_names: &["pv"],
        subresources: &[status("PersistentVolume")],
        columns: table::volume::VOLUME,
        cells: table::volume::volume,
        defaults: defaults::storage::volume,
        on_create: defaults::prepare::pending,
        check: validate::volume::volume,
        check_update: validate::volume::volume_update,
        advise: validate::warnings::volume,
        ..CLUSTER
    },
    BuiltIn {
        kind: "Pod",
        plural: "pods",
        short_names: &["po"],
        categories: &["all"],
        subresources: POD_SUBRESOURCES,
        generation: Some(&["spec"]),
        field_selectors: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        graceful: true,
        columns: table::pod::POD,
        cells: table::pod::pod,
        defaults: defaults::pod::pod,
        on_create: defaults::prepare::pod_create,
        on_update: defaults::prepare::pod_update,
        on_subresource_update: defaults::prepare::pod_subresource,
        check: validate::pod::pod,
        check_update: validate::pod_update::pod_update,
        check_subresource_update: validate::pod_update::pod_subresource,
        advise: validate::warnings::pod,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "PodTemplate",
        plural: "podtemplates",
        generation: Some(&["template"]),
        columns: table::workload::POD_TEMPLATE,
        cells: table::workload::pod_template,
        defaults: defaults::workload::pod_template,
        check: validate::workload::pod_template,
        advise: validate::warnings::pod_template,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[SCALE, status("ReplicationController")],
        scale: Some(Scale {
            spec_replicas: std::borrow::Cow::Borrowed("spec.replicas"),
            status_replicas: std::borrow::Cow::Borrowed("status.replicas"),
            selector: std::borrow::Cow::Borrowed("spec.selector"),
            selector_form: SelectorForm::Map,
        }),
        generation: Some(&["spec"]),
        field_selectors: &["status.replicas"],
        columns: table::workload::REPLICATION_CONTROLLER,
        cells: table::workload::replication_controller,
        defaults: defaults::workload::replication_controller,
        on_create: defaults::prepare::replicas_create,
        check: validate::workload::replication_controller,
        check_subresource_update: validate::workload::counts,
        advise: validate::warnings::workload,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        short_names: &["quota"],
        subresources: &[status("ResourceQuota")],
        columns: table::cluster::RESOURCE_QUOTA,
        cells: table::cluster::resource_quota,
        check: validate::quota::resource_quota,
        check_update: validate::quota::resource_quota_update,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "Secret",
        plural: "secrets",
        field_selectors: &["type"],
        columns: table::config::SECRET,
        cells: table::config::secret,
        defaults: defaults::secret,
        on_create: defaults::prepare::secret_create,
        on_update: defaults::prepare::secret_update,
        check: validate::config::secret,
        check_update: validate::config::secret_update,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        short_names: &["sa"],
        subresources: &[Subresource {
            name: "token",
            kind: "TokenRequest",
            group: "authentication.k8s.io",
            version: "v1",
            verbs: CREATE_ONLY,
        }],
        columns: table::NAME_AGE,
        cells: table::name_age,
        advise: validate::warnings::service_account,
        ..NAMESPACED
    },
    BuiltIn {
        kind: "Service",
        plural: "services",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[
            connect("proxy", "ServiceProxyOptions", PROXY_VERBS),
            status("Service"),
        ],
        field_selectors: &["spec.clusterIP", "spec.type"],
        name_rule: meta::label,
        columns: table::service::SERVICE,
        cells: table::service::service,
        defaults: defaults::service::service,
        on_create: defaults::prepare::service_create,
        on_update: defaults::prepare::service_update,
        check: validate::service::service,
        check_update: validate::service::service_update,
        check_subresource_update: validate::service::service_subresource,
        advise: validate::warnings::service,
        ..NAMESPACED
    },
];

pub(super) static EVENTS: &[BuiltIn] = &[BuiltIn {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    short_names: &["ev"],
    field_selectors: NEW_EVENT_FIELDS,
    create_on_update: true,
    storage: Storage::Shared(&Shared {
        group: "",
        version: "v1",
        plural: "events",
        to_storage: convert::event_to_core,
        from_storage: convert::event_from_core,
    }),
    columns: table::event::EVENT,
    cells: table::event::event,
    check: validate::event::event,
    check_update: validate::event::event_update,
    ..NAMESPACED
}];

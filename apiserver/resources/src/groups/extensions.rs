//! apiregistration.k8s.io/v1 and apiextensions.k8s.io/v1: how the API is extended.

use crate::builtin::{BuiltIn, CLUSTER, status};
use crate::{defaults, meta, table, validate};

pub(super) static REGISTRATION: &[BuiltIn] = &[BuiltIn {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    categories: &["api-extensions"],
    subresources: &[status("APIService")],
    columns: table::extensions::API_SERVICE,
    cells: table::extensions::api_service,
    name_rule: meta::path_segment,
    defaults: defaults::api_service,
    on_create: defaults::prepare::api_service_create,
    on_subresource_update: defaults::prepare::status_only,
    check: validate::extensions::api_service,
    ..CLUSTER
}];

pub(super) static DEFINITIONS: &[BuiltIn] = &[BuiltIn {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    subresources: &[status("CustomResourceDefinition")],
    generation: Some(&["spec"]),
    defaults: defaults::custom_resource_definition,
    on_create: defaults::prepare::definition_create,
    on_update: defaults::prepare::definition_update,
    on_subresource_update: defaults::prepare::status_only,
    unconditional_update: false,
    check: validate::extensions::definition,
    advise: validate::versions::definition_warnings,
    check_update: validate::extensions::definition_update,
    ..CLUSTER
}];

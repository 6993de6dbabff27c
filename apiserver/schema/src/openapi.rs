//! OpenAPI documents, generated from the schema table and the list of served resources: version 3
//! with one document a group version, and version 2 (swagger) as a single one, also in protobuf.
//!
//! They carry what clients read: schemas with Kubernetes' extensions, operations with their kind,
//! the parameters and patch types they accept. Generating is pure and not cheap; callers keep the
//! bytes. The hash in the index depends on what the document is made of, not on its bytes, so that
//! the index costs nothing.

mod custom;
mod paths;
mod schemas;
mod v2_protobuf;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::types;

pub use v2_protobuf::{V2_PROTOBUF, V2_PROTOBUF_ASKED, v2_protobuf};

/// A resource that the server serves.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    pub version: &'a str,
    pub plural: &'a str,
    pub singular: &'a str,
    pub kind: &'a str,
    pub namespaced: bool,
    /// `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`.
    pub verbs: &'a [&'a str],
    pub subresources: &'a [ServedSubresource<'a>],
    /// What a custom resource says of itself; none for a built-in one.
    pub custom: Option<Custom<'a>>,
}

/// The parts of a definition that documents are made of.
#[derive(Debug, Clone, Copy)]
pub struct Custom<'a> {
    pub list_kind: &'a str,
    /// The `openAPIV3Schema` of the version, as it was written.
    pub schema: Option<&'a Value>,
}

/// A subresource, such as `status`. Empty `group` and `version` mean those of the resource.
#[derive(Debug, Clone, Copy)]
pub struct ServedSubresource<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub verbs: &'a [&'a str],
}

/// The two generations of OpenAPI, which differ in small ways all over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edition {
    V2,
    V3,
}

impl Edition {
    fn reference(self, type_name: &str) -> String {
        match self {
            Edition::V2 => format!("#/definitions/{type_name}"),
            Edition::V3 => format!("#/components/schemas/{type_name}"),
        }
    }
}

/// The path of a group version below the root: `api/v1`, `apis/apps/v1`.
pub fn root_path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        _ => format!("apis/{group}/{version}"),
    }
}

/// `/openapi/v3`: the documents and their URLs, which change when the content does.
pub fn v3_index(served: &[Served<'_>]) -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions(served) {
        let path = root_path(group, version);
        let hash = hash_of(served, group, version);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The hash that the index gives for a document; also good as its ETag.
pub fn hash_of(served: &[Served<'_>], group: &str, version: &str) -> String {
    let mut hasher = Sha256::new();
    types::hash_into(&mut hasher);
    for resource in of_group_version(served, group, version) {
        hasher.update(format!("{resource:?}"));
    }
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `/openapi/v3/<root path>`; `None` when nothing is served there. `server_version` is shown in
/// the document: `v1.36.0`.
pub fn v3_document(
    served: &[Served<'_>],
    group: &str,
    version: &str,
    server_version: &str,
) -> Option<Value> {
    let resources: Vec<&Served<'_>> = of_group_version(served, group, version).collect();
    if resources.is_empty() {
        return None;
    }
    let roots = schemas::roots(&resources);
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": paths::of(Edition::V3, &resources),
        "components": {
            "schemas": schemas::all(Edition::V3, &roots, &resources),
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    }))
}

/// `/openapi/v2`: everything in one document.
pub fn v2_document(served: &[Served<'_>], server_version: &str) -> Value {
    let resources: Vec<&Served<'_>> = served.iter().collect();
    let roots = schemas::roots(&resources);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": paths::of(Edition::V2, &resources),
        "definitions": schemas::all(Edition::V2, &roots, &resources),
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

fn bearer_token() -> Value {
    json!({
        "description": "A token in the Authorization header",
        "type": "apiKey",
        "name": "authorization",
        "in": "header",
    })
}

fn group_versions<'a>(served: &'a [Served<'a>]) -> Vec<(&'a str, &'a str)> {
    let mut found: Vec<(&str, &str)> = served.iter().map(|s| (s.group, s.version)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn of_group_version<'a>(
    served: &'a [Served<'a>],
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Served<'a>> {
    served
        .iter()
        .filter(move |s| s.group == group && s.version == version)
}

#[cfg(test)]
mod tests;

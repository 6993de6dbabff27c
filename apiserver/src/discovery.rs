//! Discovery, in the legacy form (`/api`, `/apis`, one list a version) and the aggregated one, and `/version`.
//! All of it is derived from `resources::ALL` and the custom resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use resources::{Handle, Resource};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::ApiServer;
use crate::aggregation::{Aggregation, discovered};
use crate::config::{VERSION_MINOR, git_version, platform};
use crate::context::Context;
use crate::customs::Customs;
use crate::health;
use crate::negotiate::{self, Output};
use crate::packed::Json;
use crate::status::ApiError;

const AGGREGATED: &[(&str, &str)] = &[
    ("v2", "apidiscovery.k8s.io/v2"),
    ("v2beta1", "apidiscovery.k8s.io/v2beta1"),
];

/// Documents that are kept until something changes.
#[derive(Default)]
pub(crate) struct Documents {
    core: [OnceLock<Tagged>; 2],
    /// With the change of the custom resources that they show.
    groups: [Mutex<Option<(u64, Tagged)>>; 2],
    /// Groups as the aggregated form has them, each with the change that it shows: a change of one group makes one anew.
    pieces: Mutex<BTreeMap<String, (u64, Arc<str>)>>,
}

impl Documents {
    fn aggregated_groups(&self, sources: &Sources<'_>, at: usize) -> Tagged {
        let changes = sources.changes();
        let mut kept = lock(&self.groups[at]);
        if let Some((known, tagged)) = kept.as_ref()
            && *known == changes
        {
            return tagged.clone();
        }
        let groups: Vec<Served> = all_groups(sources)
            .into_iter()
            .filter(|group| !group.name.is_empty())
            .collect();
        let mut pieces = lock(&self.pieces);
        let names: BTreeSet<&str> = groups.iter().map(|group| &*group.name).collect();
        pieces.retain(|name, _| names.contains(name.as_str()));
        let mut body = format!(
            r#"{{"kind":"APIGroupDiscoveryList","apiVersion":"{}","metadata":{{}},"items":["#,
            AGGREGATED[at].1
        );
        for (n, group) in groups.iter().enumerate() {
            let fresh = || {
                (
                    group.changed,
                    Arc::from(aggregated_group(sources, group).to_string()),
                )
            };
            let piece = pieces.entry(group.name.clone()).or_insert_with(fresh);
            if piece.0 != group.changed {
                *piece = fresh();
            }
            if n > 0 {
                body.push(',');
            }
            body.push_str(&piece.1);
        }
        body.push_str("]}");
        let tagged = Tagged::new(Bytes::from(body)).packed();
        *kept = Some((changes, tagged.clone()));
        tagged
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is served besides the built-in kinds.
pub(crate) struct Sources<'a> {
    pub(crate) customs: &'a Customs,
    pub(crate) aggregation: &'a Aggregation,
}

impl<'a> Sources<'a> {
    pub(crate) fn of(server: &'a ApiServer) -> Sources<'a> {
        Sources {
            customs: &server.world.customs,
            aggregation: &server.aggregation,
        }
    }

    /// Goes up with every change of it.
    pub(crate) fn changes(&self) -> u64 {
        self.customs.changes() + self.aggregation.changes()
    }
}

/// A group and its versions, preferred first.
struct Served {
    name: String,
    versions: Vec<String>,
    /// Those that other servers serve, with the names of their APIServices.
    remote: BTreeMap<String, String>,
    /// Groups of a higher one come first.
    priority: i64,
    /// The last change of its custom resources, or of what other servers say.
    changed: u64,
}

/// Groups of definitions stand here among the others.
const DEFINED_PRIORITY: i64 = 1_000;

/// All groups, by their priority.
fn all_groups(sources: &Sources<'_>) -> Vec<Served> {
    let customs = sources.customs;
    let mut groups: Vec<Served> = resources::groups()
        .iter()
        .map(|group| Served {
            name: group.name.to_owned(),
            versions: group.versions.iter().map(|v| (*v).to_owned()).collect(),
            remote: BTreeMap::new(),
            priority: resources::priorities(group.name, group.versions[0])
                .map_or(i64::MAX, |(of_group, _)| of_group),
            changed: 0,
        })
        .collect();
    let built_in = groups.len();
    for (name, changed) in customs.groups() {
        let mut versions: Vec<String> = customs
            .of_group(&name)
            .iter()
            .map(|resource| resource.version.to_string())
            .collect();
        versions.sort_by(|a, b| resources::compare_versions(a, b));
        versions.dedup();
        match groups[..built_in]
            .iter_mut()
            .find(|group| group.name == name)
        {
            Some(group) => {
                versions.retain(|version| !group.versions.contains(version));
                group.versions.extend(versions);
                group.changed = changed;
            }
            // It emptied since the groups were listed.
            None if versions.is_empty() => {}
            None => groups.push(Served {
                name,
                versions,
                remote: BTreeMap::new(),
                priority: DEFINED_PRIORITY,
                changed,
            }),
        }
    }
    add_remote(&mut groups, sources);
    groups
}

/// Adds what other servers serve; the preferred of their versions is the one of the highest priority.
fn add_remote(groups: &mut Vec<Served>, sources: &Sources<'_>) {
    let mut remote = sources.aggregation.all();
    if remote.is_empty() {
        return;
    }
    let changed = sources.changes();
    remote.sort_by(|a, b| {
        let (a, b) = (&a.remote, &b.remote);
        let by_version = || resources::compare_versions(&a.version, &b.version);
        b.version_priority
            .cmp(&a.version_priority)
            .then_with(by_version)
    });
    for one in remote.iter().map(|one| &one.remote) {
        let at = match groups.iter().position(|group| group.name == one.group) {
            Some(at) => at,
            None => {
                groups.push(Served {
                    name: one.group.clone(),
                    versions: Vec::new(),
                    remote: BTreeMap::new(),
                    priority: 0,
                    changed,
                });
                groups.len() - 1
            }
        };
        let group = &mut groups[at];
        group.priority = group.priority.max(one.group_priority);
        group.changed = changed;
        if !group.versions.contains(&one.version) {
            group.versions.push(one.version.clone());
        }
        group.remote.insert(one.version.clone(), one.name.clone());
    }
    // Built-in groups are in this order already, and those of definitions are alike.
    groups.sort_by_key(|group| std::cmp::Reverse(group.priority));
}

/// One group by its name; none where it serves nothing.
fn group_named(sources: &Sources<'_>, name: &str) -> Option<Served> {
    // All of them are looked at only where the name is that of a group.
    let known = resources::groups().iter().any(|group| group.name == name);
    let is_remote = || {
        sources
            .aggregation
            .all()
            .iter()
            .any(|one| one.remote.group == name)
    };
    if !known && sources.customs.of_group(name).is_empty() && !is_remote() {
        return None;
    }
    all_groups(sources)
        .into_iter()
        .find(|group| group.name == name)
}

/// A document and its entity tag.
#[derive(Clone)]
pub(crate) struct Tagged {
    body: Json,
    etag: String,
}

impl Tagged {
    pub(crate) fn new(body: Bytes) -> Tagged {
        let digest: String = Sha512::digest(&body)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        Tagged {
            body: Json::Plain(body),
            etag: format!("\"{digest}\""),
        }
    }

    /// The same for one that is kept: clients ask for it when they start, and then know its tag.
    pub(crate) fn packed(self) -> Tagged {
        match self.body.alone() {
            Some(body) => Tagged { body, ..self },
            None => self,
        }
    }

    /// 304 where the client has it.
    pub(crate) fn respond(&self, headers: &HeaderMap, content_type: &'static str) -> Response {
        let known = headers
            .get(header::IF_NONE_MATCH)
            .and_then(|value| value.to_str().ok());
        let mut response =
            if known.is_some_and(|known| known.split(',').any(|tag| tag.trim() == self.etag)) {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            } else {
                negotiate::respond_bytes(headers, StatusCode::OK, content_type, self.body.bytes())
            };
        if let Ok(value) = HeaderValue::from_str(&self.etag) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("Accept"));
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }
}

/// Whether Kubernetes has a route for GET alone under a path, so that other methods are refused there and not ignored.
pub(crate) fn is_get_only(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        ["version" | "api"] | ["openid", "v1", "jwks"] => true,
        [".well-known", "openid-configuration"] => true,
        ["api", version] => *version == "v1",
        ["apis", group, version] => resources::ALL
            .iter()
            .any(|resource| resource.group == *group && resource.version == *version),
        _ => false,
    }
}

/// Answers discovery paths; none for other paths.
pub(crate) fn respond(context: &Context, path: &str) -> Option<Response> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let sources = &Sources::of(&context.server);
    let customs = sources.customs;
    let value = match segments.as_slice() {
        ["version"] => version(),
        ["api"] | ["apis"] => {
            let core = segments[0] == "api";
            if let Some(at) = aggregated_version(&context.headers) {
                let documents = &context.server.discovery;
                let tagged = if core {
                    let make = || {
                        let value = aggregated_core(AGGREGATED[at].1);
                        Tagged::new(Bytes::from(value.to_string()))
                    };
                    documents.core[at].get_or_init(make).clone()
                } else {
                    documents.aggregated_groups(sources, at)
                };
                let content_type = if at == 0 {
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                } else {
                    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
                };
                return Some(tagged.respond(&context.headers, content_type));
            }
            if core {
                api_versions(context)
            } else {
                group_list(sources)
            }
        }
        ["api", version] => resource_list(customs, "", version)?,
        ["apis", group] => {
            let group = group_named(sources, group).filter(|group| !group.name.is_empty())?;
            let mut value = group_value(&group);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        ["apis", group, version] if !group.is_empty() => resource_list(customs, group, version)?,
        [""] => root(sources),
        _ => return None,
    };
    if let Err(error) = negotiate::output(
        &context.headers,
        &context.query,
        negotiate::Offer::EVERYTHING,
    ) {
        // `/version` and the root answer any client; discovery is negotiated.
        if !matches!(segments.as_slice(), ["version"] | [""]) {
            let error: ApiError = error;
            return Some(negotiate::respond_value(
                &context.headers,
                &context.output,
                error.status_code(),
                &error.to_status(),
            ));
        }
    }
    if let ["version"] | [""] = segments.as_slice() {
        let output = Output {
            pretty: context.output.pretty,
            ..Output::PLAIN
        };
        return Some(negotiate::respond_value(
            &context.headers,
            &output,
            StatusCode::OK,
            &value,
        ));
    }
    Some(context.respond_value(StatusCode::OK, &value))
}

/// The index of the aggregated form that Accept asks for first; none for the legacy form.
fn aggregated_version(headers: &HeaderMap) -> Option<usize> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    for clause in accept.split(',') {
        let parameters: Vec<&str> = clause.split(';').map(str::trim).collect();
        if parameters
            .first()
            .is_none_or(|media| *media != "application/json")
        {
            continue;
        }
        if !parameters.contains(&"as=APIGroupDiscoveryList") {
            return None;
        }
        let found = AGGREGATED
            .iter()
            .position(|(version, _)| parameters.contains(&format!("v={version}").as_str()));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn version() -> Value {
    json!({
        "major": "1", "minor": VERSION_MINOR,
        "emulationMajor": "1", "emulationMinor": VERSION_MINOR,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": git_version(), "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc",
        "platform": platform(),
    })
}

fn root(sources: &Sources<'_>) -> Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(health::paths());
    for group in all_groups(sources)
        .iter()
        .filter(|group| !group.name.is_empty())
    {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(
            group
                .versions
                .iter()
                .map(|version| format!("/apis/{}/{version}", group.name)),
        );
    }
    paths.sort();
    json!({ "paths": paths })
}

fn api_versions(context: &Context) -> Value {
    let config = &context.server.config;
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{
            "clientCIDR": "0.0.0.0/0",
            "serverAddress": std::net::SocketAddr::new(config.advertise_address, config.advertise_port).to_string()
        }]
    })
}

fn group_value(group: &Served) -> Value {
    let version = |version: &str| json!({ "groupVersion": format!("{}/{version}", group.name), "version": version });
    let versions: Vec<Value> = group.versions.iter().map(|name| version(name)).collect();
    json!({ "name": group.name, "versions": versions, "preferredVersion": versions[0] })
}

fn group_list(sources: &Sources<'_>) -> Value {
    let groups: Vec<Value> = all_groups(sources)
        .iter()
        .filter(|group| !group.name.is_empty())
        .map(group_value)
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn of_version(customs: &Customs, group: &str, version: &str) -> Vec<Handle> {
    let built_in = resources::ALL.iter().map(Handle::from);
    let list = built_in.filter(|resource| resource.group == group && resource.version == version);
    let mut list: Vec<Handle> = list.collect();
    let mut custom = customs.of_group(group);
    custom.retain(|resource| resource.version == version);
    list.extend(custom);
    list
}

/// The verbs that discovery shows.
fn verbs(resource: &Resource) -> &'static [&'static str] {
    match &resource.custom {
        Some(custom) => custom.listed_verbs(),
        None => resource.verbs,
    }
}

fn resource_list(customs: &Customs, group: &str, version: &str) -> Option<Value> {
    let mut list: Vec<Value> = Vec::new();
    for resource in &of_version(customs, group, version) {
        let mut value = json!({
            "name": &resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": &resource.kind, "verbs": verbs(resource)
        });
        if !resource.short_names.is_empty() {
            value["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            value["categories"] = json!(resource.categories);
        }
        if !resource.is_virtual() {
            value["storageVersionHash"] = storage_version_hash(resource).into();
        }
        list.push(value);
        for subresource in resource.subresources {
            let mut value = json!({
                "name": format!("{}/{}", &resource.plural, subresource.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": resource.kind_of(subresource), "verbs": subresource.verbs
            });
            if !subresource.version.is_empty() {
                value["group"] = subresource.group.into();
                value["version"] = subresource.version.into();
            }
            list.push(value);
        }
    }
    if list.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Some(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list }),
    )
}

/// Tells clients when the stored form changes. Calculated as by Kubernetes (`StorageVersionHash` in k8s.io/apiserver), so that
/// who compares two clusters finds the same forms the same.
fn storage_version_hash(resource: &Resource) -> String {
    use base64::Engine;
    let stored = resources::storage_resource(resource);
    let version = match &resource.custom {
        Some(custom) => custom.storage_version(),
        None => &stored.version,
    };
    let digest = Sha256::digest(format!("{}/{version}/{}", stored.group, stored.kind));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn aggregated_core(api_version: &str) -> Value {
    let groups = vec![aggregated_of(
        String::new(),
        &["v1".to_owned()],
        |version| aggregated_version_of(&Customs::default(), "", version),
    )];
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": groups })
}

fn aggregated_group(sources: &Sources<'_>, group: &Served) -> Value {
    aggregated_of(group.name.clone(), &group.versions, |version| {
        match group.remote.get(version) {
            Some(service) => {
                let found = sources.aggregation.discovered(service);
                discovered::aggregated(&group.name, version, found.as_deref())
            }
            None => aggregated_version_of(sources.customs, &group.name, version),
        }
    })
}

fn aggregated_of(name: String, versions: &[String], show: impl Fn(&str) -> Value) -> Value {
    let versions: Vec<Value> = versions.iter().map(|version| show(version)).collect();
    let mut metadata = Map::new();
    if !name.is_empty() {
        metadata.insert("name".into(), name.into());
    }
    metadata.insert("creationTimestamp".into(), Value::Null);
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_version_of(customs: &Customs, group: &str, version: &str) -> Value {
    let list = of_version(customs, group, version);
    let list: Vec<Value> = list.iter().map(|one| aggregated_resource(one)).collect();
    json!({ "version": version, "resources": list, "freshness": "Current" })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut value = json!({
        "resource": &resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource)
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        value["subresources"] = resource
            .subresources
            .iter()
            .map(|subresource| {
                let (group, version) = if subresource.version.is_empty() {
                    (&*resource.group, &*resource.version)
                } else {
                    (subresource.group, subresource.version)
                };
                json!({
                    "subresource": subresource.name,
                    "responseKind": kind(group, version, resource.kind_of(subresource)),
                    "verbs": subresource.verbs
                })
            })
            .collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_kept_is_the_same_and_takes_less() {
        let text = "what a schema says of its fields. ".repeat(3_000);
        let tagged = Tagged::new(Bytes::from(text.clone()));
        let kept = tagged.clone().packed();
        assert_eq!(kept.body.bytes(), text);
        assert_eq!(kept.etag, tagged.etag);
        assert!(kept.body.room() * 10 < tagged.body.room());
        let small = Tagged::new(Bytes::from_static(b"{}")).packed();
        assert_eq!(small.body.bytes(), "{}");
    }
}

//! `/openapi/v2` and `/openapi/v3`: generated from the schema table, the list of kinds and the custom resources when
//! first asked for, and kept as bytes, packed where they are many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use resources::Handle;
use resources::custom::Custom as CustomResource;
use schema::openapi::{self, Custom, Served, ServedSubresource};
use serde_json::{Value, json};

use crate::aggregation::{self, Discovered, discovered};
use crate::config::git_version;
use crate::context::Context;
use crate::customs::Customs;
use crate::discovery::{Sources, Tagged};
use crate::negotiate::{self, JSON};
use crate::status::ApiError;

/// Documents that are kept until what they show changes.
#[derive(Default)]
pub(crate) struct Documents {
    index: Kept,
    v2: Kept,
    v2_protobuf: Kept,
    v3: Mutex<BTreeMap<(String, String), Page>>,
}

/// A document of everything, with the change of the custom resources that it shows.
type Kept = Mutex<Option<(u64, Tagged)>>;

/// What is known of one group version; `changed` is the last change of the group's custom resources that it shows.
struct Page {
    changed: u64,
    hash: String,
    document: Option<Tagged>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The document that is kept, made anew when custom resources have changed since.
fn kept(kept: &Kept, sources: &Sources<'_>, make: impl FnOnce() -> Tagged) -> Tagged {
    let changes = sources.changes();
    let mut kept = lock(kept);
    if let Some((known, document)) = kept.as_ref()
        && *known == changes
    {
        return document.clone();
    }
    let document = make();
    *kept = Some((changes, document.clone()));
    document
}

/// Everything that is served.
fn everything(customs: &Customs) -> Vec<Handle> {
    let mut list: Vec<Handle> = resources::ALL.iter().map(Handle::from).collect();
    for (group, _) in customs.groups() {
        list.extend(customs.of_group(&group));
    }
    list
}

/// What is served in one version of a group.
fn of_version(customs: &Customs, group: &str, version: &str) -> Vec<Handle> {
    let mut list: Vec<Handle> = resources::ALL.iter().map(Handle::from).collect();
    list.extend(customs.of_group(group));
    list.retain(|resource| resource.group == group && resource.version == version);
    list
}

/// The kinds in the form that the generator takes.
fn with_served<T>(list: &[Handle], make: impl FnOnce(&[Served<'_>]) -> T) -> T {
    let subresources: Vec<Vec<ServedSubresource<'_>>> = list
        .iter()
        .map(|resource| {
            let list = resource.subresources.iter();
            list.map(|one| ServedSubresource {
                name: one.name,
                kind: resource.kind_of(one),
                group: one.group,
                version: one.version,
                verbs: one.verbs,
            })
            .collect()
        })
        .collect();
    let schemas: Vec<Option<Value>> = list
        .iter()
        .map(|resource| resource.custom.as_ref().map(CustomResource::written_schema))
        .collect();
    let served: Vec<Served<'_>> = list
        .iter()
        .zip(&subresources)
        .zip(&schemas)
        .map(|((resource, subresources), schema)| Served {
            group: &resource.group,
            version: &resource.version,
            plural: &resource.plural,
            singular: &resource.singular,
            kind: &resource.kind,
            namespaced: resource.namespaced,
            verbs: resource.verbs,
            subresources,
            custom: schema.as_ref().map(|schema| Custom {
                list_kind: &resource.list_kind,
                schema: Some(schema),
            }),
        })
        .collect();
    make(&served)
}

/// The hash of a group version, which is made anew only when the group has changed.
fn hash_of(context: &Context, group: &str, version: &str) -> String {
    let customs = &context.server.world.customs;
    let changed = customs.changed(group);
    let key = (group.to_owned(), version.to_owned());
    if let Some(page) = lock(&context.server.openapi.v3).get(&key)
        && page.changed == changed
    {
        return page.hash.clone();
    }
    let list = of_version(customs, group, version);
    let hash = with_served(&list, |served| openapi::hash_of(served, group, version));
    let page = Page {
        changed,
        hash: hash.clone(),
        document: None,
    };
    if !list.is_empty() {
        lock(&context.server.openapi.v3).insert(key, page);
    }
    hash
}

fn index(context: &Context) -> Value {
    let customs = &context.server.world.customs;
    let mut versions: BTreeSet<(String, String)> = BTreeSet::new();
    for resource in everything(customs) {
        versions.insert((resource.group.to_string(), resource.version.to_string()));
    }
    lock(&context.server.openapi.v3).retain(|key, _| versions.contains(key));
    let mut paths = serde_json::Map::new();
    let remote = remote(context);
    for (served, found) in &remote {
        let (group, version) = (&served.remote.group, &served.remote.version);
        versions.remove(&(group.clone(), version.clone()));
        if let Some((hash, _)) = &found.v3 {
            let path = openapi::root_path(group, version);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
    }
    for (group, version) in versions {
        let path = openapi::root_path(&group, &version);
        let hash = hash_of(context, &group, &version);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// What other servers serve and said of themselves.
fn remote(context: &Context) -> Vec<(Arc<aggregation::Served>, Arc<Discovered>)> {
    let aggregation = &context.server.aggregation;
    let all = aggregation.all().into_iter();
    all.filter_map(|served| {
        let found = aggregation.discovered(&served.remote.name)?;
        Some((served, found))
    })
    .collect()
}

fn tagged(value: &serde_json::Value) -> Tagged {
    Tagged::new(Bytes::from(value.to_string())).packed()
}

/// Answers the paths of OpenAPI; none for other paths.
pub(crate) fn respond(context: &Context, path: &str) -> Option<Response> {
    let documents = &context.server.openapi;
    let sources = &Sources::of(&context.server);
    let v2 = || {
        let mut document = with_served(&everything(sources.customs), |served| {
            openapi::v2_document(served, &git_version())
        });
        for (_, found) in remote(context) {
            if let Some(part) = &found.v2 {
                discovered::add_to_v2(&mut document, part);
            }
        }
        document
    };
    let is_protobuf =
        |media: &str| matches!(media, openapi::V2_PROTOBUF | openapi::V2_PROTOBUF_ASKED);
    if path == "/openapi/v2" && accepts(&context.headers, is_protobuf) {
        // kubectl takes nothing else.
        let document = kept(&documents.v2_protobuf, sources, || {
            Tagged::new(Bytes::from(openapi::v2_protobuf(&v2()))).packed()
        });
        return Some(document.respond(&context.headers, openapi::V2_PROTOBUF));
    }
    let document = match path {
        "/openapi/v2" => kept(&documents.v2, sources, || tagged(&v2())),
        "/openapi/v3" => kept(&documents.index, sources, || tagged(&index(context))),
        _ => return group_version(context, path.strip_prefix("/openapi/v3/")?),
    };
    Some(checked(context, || {
        document.respond(&context.headers, JSON)
    }))
}

/// Only JSON is written; clients that want nothing else get 406.
fn checked(context: &Context, respond: impl FnOnce() -> Response) -> Response {
    if accepts_json(&context.headers) {
        return respond();
    }
    let error = ApiError::not_acceptable(&[JSON]);
    negotiate::respond_value(
        &context.headers,
        &negotiate::Output::PLAIN,
        error.status_code(),
        &error.to_status(),
    )
}

fn accepts_json(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::ACCEPT)
        || accepts(headers, |media| {
            matches!(media, JSON | "application/*" | "*/*")
        })
}

/// Whether one of the media types that the client names is wanted here.
fn accepts(headers: &HeaderMap, is_wanted: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|clause| is_wanted(clause.split(';').next().unwrap_or_default().trim()))
}

fn group_version(context: &Context, rest: &str) -> Option<Response> {
    let (group, version) = match rest.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return None,
    };
    if let Some(served) = context.server.aggregation.find(&group, &version) {
        let found = context.server.aggregation.discovered(&served.remote.name)?;
        let (_, document) = found.v3.as_ref()?;
        let document = Tagged::new(document.clone());
        return Some(checked(context, || {
            document.respond(&context.headers, JSON)
        }));
    }
    let customs = &context.server.world.customs;
    // The hash first: what changes in between is shown too early under it, and never stays under the next one.
    let hash = hash_of(context, &group, &version);
    let list = of_version(customs, &group, &version);
    if list.is_empty() {
        return None;
    }
    let asked = context.query.get("hash").filter(|asked| !asked.is_empty());
    if asked.is_some_and(|asked| asked != hash) {
        // The client has an old index: send it to the present document.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let target = format!(
            "/openapi/v3/{}?hash={hash}",
            openapi::root_path(&group, &version)
        );
        response
            .headers_mut()
            .insert(header::LOCATION, HeaderValue::from_str(&target).ok()?);
        return Some(response);
    }
    let key = (group, version);
    let pages = &context.server.openapi.v3;
    let known = lock(pages).get(&key).and_then(|page| page.document.clone());
    let document = match known {
        Some(document) => document,
        None => {
            let value = with_served(&list, |served| {
                openapi::v3_document(served, &key.0, &key.1, &git_version())
            })?;
            let document = tagged(&value);
            if let Some(page) = lock(pages).get_mut(&key)
                && page.hash == hash
            {
                page.document = Some(document.clone());
            }
            document
        }
    };
    Some(checked(context, || {
        let mut response = document.respond(&context.headers, JSON);
        if asked.is_some() {
            response.headers_mut().insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("public, immutable"),
            );
        }
        response
    }))
}

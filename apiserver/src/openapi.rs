//! `/openapi/v2` and `/openapi/v3`: generated from the schema table and the list of kinds when first asked for, and
//! kept as bytes.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schema::openapi::{self, Served, ServedSubresource};

use crate::config::git_version;
use crate::context::Context;
use crate::discovery::Tagged;
use crate::negotiate::{self, JSON};
use crate::status::ApiError;

#[derive(Default)]
pub(crate) struct Documents {
    index: OnceLock<Tagged>,
    v2: OnceLock<Tagged>,
    v2_protobuf: OnceLock<Tagged>,
    v3: Mutex<BTreeMap<(String, String), Tagged>>,
}

/// The kinds in the form that the generator takes.
fn with_served<T>(make: impl FnOnce(&[Served<'_>]) -> T) -> T {
    let subresources: Vec<Vec<ServedSubresource<'_>>> = resources::ALL
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
    let served: Vec<Served<'_>> = resources::ALL
        .iter()
        .zip(&subresources)
        .map(|(resource, subresources)| Served {
            group: &resource.group,
            version: &resource.version,
            plural: &resource.plural,
            singular: &resource.singular,
            kind: &resource.kind,
            namespaced: resource.namespaced,
            verbs: resource.verbs,
            subresources,
            custom: None,
        })
        .collect();
    make(&served)
}

fn tagged(value: &serde_json::Value) -> Tagged {
    Tagged::new(Bytes::from(value.to_string()))
}

/// Answers the paths of OpenAPI; none for other paths.
pub(crate) fn respond(context: &Context, path: &str) -> Option<Response> {
    let documents = &context.server.openapi;
    let is_protobuf =
        |media: &str| matches!(media, openapi::V2_PROTOBUF | openapi::V2_PROTOBUF_ASKED);
    if path == "/openapi/v2" && accepts(&context.headers, is_protobuf) {
        // kubectl takes nothing else.
        let document = documents.v2_protobuf.get_or_init(|| {
            let document = with_served(|served| openapi::v2_document(served, &git_version()));
            Tagged::new(Bytes::from(openapi::v2_protobuf(&document)))
        });
        return Some(document.respond(&context.headers, openapi::V2_PROTOBUF));
    }
    let document = match path {
        "/openapi/v2" => documents.v2.get_or_init(|| {
            with_served(|served| tagged(&openapi::v2_document(served, &git_version())))
        }),
        "/openapi/v3" => documents
            .index
            .get_or_init(|| with_served(|served| tagged(&openapi::v3_index(served)))),
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
    let hash = with_served(|served| openapi::hash_of(served, &group, &version));
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
    let known = context
        .server
        .openapi
        .v3
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key)
        .cloned();
    let document = match known {
        Some(document) => document,
        None => {
            let value =
                with_served(|served| openapi::v3_document(served, &key.0, &key.1, &git_version()))?;
            let document = tagged(&value);
            context
                .server
                .openapi
                .v3
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key, document.clone());
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

//! Subresources. Those that read or write the object itself go through the generic verbs; the others are actions,
//! one file each.

pub(crate) mod binding;
mod eviction;
mod scale;
mod streams;
mod token;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Extensions, Method};
use resources::{Resource, Subresource};

use crate::context::Context;
use crate::status::{ApiError, ApiResult};
use crate::verbs;

/// Subresources that are connections to a node agent.
pub(crate) fn is_connect(name: &str) -> bool {
    matches!(name, "log" | "exec" | "attach" | "portforward" | "proxy")
}

pub(crate) async fn connect(
    context: &Context,
    resource: &'static Resource,
    method: &Method,
    extensions: &mut Extensions,
    body: Body,
) -> ApiResult<Response> {
    streams::connect(context, resource, method, extensions, body).await
}

pub(crate) async fn handle(
    context: &Context,
    resource: &'static Resource,
    subresource: &'static Subresource,
    body: Bytes,
) -> ApiResult<Response> {
    match (subresource.name, context.info.verb) {
        ("scale", verb) => scale::handle(context, resource, verb, &body).await,
        ("binding", "create") => binding::create(context, resource, &body).await,
        ("eviction", "create") => eviction::create(context, resource, &body).await,
        ("token", "create") => token::create(context, resource, &body).await,
        (_, "get") => verbs::get::get(context, resource).await,
        (name, "update") => verbs::update::update(context, resource, name, body).await,
        (name, "patch") => verbs::patch::patch(context, resource, name, body).await,
        _ => Err(ApiError::method_not_allowed(
            "the server does not allow this method on the requested resource",
        )),
    }
}

//! Subresources. Those that read or write the object itself go through the generic verbs; the others are actions,
//! one file each.

pub(crate) mod binding;
mod eviction;
mod log;
mod proxy;
pub(crate) mod scale;
mod streams;
mod token;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use resources::{Resource, Subresource};
use schema::Object;
use serde_json::Value;

use crate::context::Context;
use crate::proxy::Arrival;
use crate::status::{ApiError, ApiResult};
use crate::verbs;

/// Subresources that are connections to a node agent or to a program in a pod.
pub(crate) fn is_connect(name: &str) -> bool {
    matches!(name, "log" | "exec" | "attach" | "portforward" | "proxy")
}

pub(crate) async fn connect(
    context: &Context,
    resource: &Resource,
    arrival: Arrival<'_>,
) -> ApiResult<Response> {
    if context.info.is_proxied() {
        return proxy::connect(context, resource, arrival).await;
    }
    streams::connect(context, resource, arrival.method, arrival.extensions).await
}

/// The object of this name in the namespace of the request, as it is now.
async fn current(context: &Context, resource: &Resource, name: &str) -> ApiResult<Arc<Object>> {
    let key = resources::storage_key(resource, &context.info.namespace, name);
    let found = context.server.current(resource, &key, true).await?;
    let found = found.ok_or_else(|| context.not_found(resource, name))?;
    Ok(found.object)
}

pub(crate) async fn handle(
    context: &Context,
    resource: &Resource,
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

/// Puts a condition into the status, in place of the one of its type.
pub(crate) fn set_condition(object: &mut Object, condition: Value) {
    const PATH: &[&str] = &["status", "conditions"];
    let Some(conditions) = object.get_mut(PATH).and_then(Value::as_array_mut) else {
        object.set(PATH, Value::Array(vec![condition]));
        return;
    };
    let known = conditions
        .iter_mut()
        .find(|present| present["type"] == condition["type"]);
    match known {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
}

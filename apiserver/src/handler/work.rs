//! What is done for a request, once it is known what serves it.

use axum::response::Response;
use bytes::Bytes;
use http::Method;
use resources::Handle;

use super::in_time;
use super::pages::{not_found, page};
use super::place::{account, begins_with_state, enter, kind, stored};
use super::route::{Route, not_allowed, rerouted};
use crate::context::Context;
use crate::flow::{self, Kind};
use crate::proxy::Arrival;
use crate::status::{ApiError, ApiResult};
use crate::{aggregation, binding_batch, body, reviews, subresources, usage, verbs};

/// Serves what another server has to answer. It counts as work here until the answer begins.
pub(super) async fn pass_on(
    context: &Context,
    arrival: Arrival<'_>,
    other: &aggregation::Served,
    matched: Option<&flow::Matched>,
) -> ApiResult<Response> {
    if context.info.is_long_running() {
        return aggregation::pass(context, arrival, other).await;
    }
    let _held = match enter(context, matched, Kind::Small).await {
        Ok(held) => held,
        Err(refusal) => return Ok(refusal),
    };
    let _working = context.server.metrics.calls.begin(context.info.verb);
    in_time(context, aggregation::pass(context, arrival, other)).await
}

/// Serves what lives as long as its client.
pub(super) async fn serve_stream(
    context: &Context,
    route: Route,
    arrival: Arrival<'_>,
    matched: Option<&flow::Matched>,
) -> ApiResult<Response> {
    match route {
        Route::Connect(resource) => subresources::connect(context, &resource, arrival).await,
        Route::Read(resource) => {
            // A place until the watch is open, and its bytes until what there is already is sent.
            let kind = match begins_with_state(context) {
                true => Kind::List(stored(context, &resource)),
                false => Kind::Small,
            };
            let (_seat, bytes) = match enter(context, matched, kind).await {
                Ok(Some(held)) => (Some(held.seat), Some(held.bytes)),
                Ok(None) => (None, None),
                Err(refusal) => return Ok(refusal),
            };
            verbs::watch::watch(context, &resource, arrival.extensions, bytes).await
        }
        _ => not_found(context),
    }
}

/// Serves everything else: the whole body first, then a place among those that are worked on.
pub(super) async fn serve(
    context: &Context,
    route: Route,
    method: &Method,
    body: &mut body::Incoming,
    matched: Option<&flow::Matched>,
) -> ApiResult<Response> {
    let held = match route {
        Route::NotFound | Route::Page | Route::Read(_) | Route::Connect(_) => None,
        Route::Subresource(..) | Route::Virtual(_) | Route::Write(_) | Route::Bindings => {
            let account = account(&context.user, &context.info);
            let bodies = &context.server.bodies;
            let read = bodies.read(body, &context.headers, account);
            Some(Box::pin(read).await?)
        }
    };
    let body = held.as_ref().map(|held| held.bytes.clone());
    let body = body.unwrap_or_default();
    if let Route::Subresource(resource, _) | Route::Virtual(resource) | Route::Write(resource) =
        &route
    {
        let metrics = &context.server.metrics;
        metrics.observe_body(context.info.verb, resource, body.len());
    }
    context.audit.sent(&context.headers, &body);
    let route = rerouted(context, route, method).await?;
    let held = match enter(context, matched, kind(context, &route, &body)).await {
        Ok(held) => held,
        Err(refusal) => return Ok(refusal),
    };
    let working = context.server.metrics.calls.begin(context.info.verb);
    let response = work(context, route, body).await?;
    drop(working);
    Ok(match held {
        // The work is done: what is left is to send it.
        Some(flow::Held { seat: _seat, bytes }) => bytes.counted(response),
        None => response,
    })
}

/// A future has room for the largest of the futures that it may wait for, and it is moved a few times before it is first
/// polled. So what needs much room is boxed, each by itself: a request moves and allocates what its own work needs.
async fn work(context: &Context, route: Route, body: Bytes) -> ApiResult<Response> {
    let is_of_objects = matches!(
        route,
        Route::Subresource(..) | Route::Read(_) | Route::Write(_)
    );
    // A list has the name that its selector asks for, which may be any.
    if is_of_objects && !context.info.is_collection() {
        check_name(&context.info.name)?;
    }
    match route {
        Route::NotFound | Route::Connect(_) => not_found(context),
        Route::Page => Box::pin(page(context))
            .await
            .map_or_else(|| not_found(context), Ok),
        Route::Subresource(resource, subresource) => {
            Box::pin(subresources::handle(context, &resource, subresource, body)).await
        }
        Route::Virtual(resource) if resource.group == resources::METRICS => {
            Box::pin(usage::handle(context, &resource)).await
        }
        Route::Virtual(resource) => Box::pin(reviews::handle(context, &resource, body)).await,
        Route::Read(resource) if context.info.verb == "get" => {
            verbs::get::get(context, &resource).await
        }
        Route::Read(resource) => Box::pin(verbs::list::list(context, &resource)).await,
        Route::Write(resource) => write(context, &resource, body).await,
        Route::Bindings => Box::pin(binding_batch::create(context, &body)).await,
    }
}

async fn write(context: &Context, resource: &Handle, body: Bytes) -> ApiResult<Response> {
    match context.info.verb {
        "create" => Box::pin(verbs::create::create(context, resource, body)).await,
        "update" => Box::pin(verbs::update::update(context, resource, "", body)).await,
        "patch" => Box::pin(verbs::patch::patch(context, resource, "", body)).await,
        "delete" => Box::pin(verbs::delete::delete(context, resource, body)).await,
        "deletecollection" => {
            let deletion = verbs::delete_collection::delete_collection(context, resource, body);
            Box::pin(deletion).await
        }
        _ => Err(not_allowed()),
    }
}

/// 400 for a name in a path that no object can have.
fn check_name(name: &str) -> ApiResult<()> {
    let messages = schema::names::is_valid_path_segment_name(name);
    if messages.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "Name parameter invalid: {}: {}",
        crate::status::quoted(name),
        messages.join(";")
    )))
}

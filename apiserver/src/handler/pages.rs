//! Paths that are not about API objects, and those that nobody serves.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use crate::context::Context;
use crate::status::{ApiError, ApiResult};
use crate::{discovery, health, openapi};

/// Paths that are not about API objects. None where nobody serves the path.
pub(super) async fn page(context: &Context) -> Option<Response> {
    let path = context.info.path.as_str();
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    if let Some(response) = discovery::respond(context, path) {
        return Some(response);
    }
    if let Some(response) = openapi::respond(context, path) {
        return Some(response);
    }
    health::respond(context, path).await
}

/// What nobody serves. Under the paths of its own groups Kubernetes says so with a Status, and elsewhere with a page.
pub(super) fn not_found(context: &Context) -> ApiResult<Response> {
    match is_of_own_group(&context.info.path) {
        true => Err(ApiError::no_such_resource()),
        false => Ok(page_not_found()),
    }
}

fn is_of_own_group(path: &str) -> bool {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next(), parts.next()) {
        (Some("api"), _) => true,
        (Some("apis"), Some(group)) if !group.is_empty() => resources::ALL
            .iter()
            .any(|resource| resource.group == group),
        _ => false,
    }
}

/// What Kubernetes says about paths that nobody serves.
fn page_not_found() -> Response {
    let mut response = Response::new(Body::from("404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, private"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

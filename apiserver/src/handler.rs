//! The one pipeline that every request takes: identify, authenticate, impersonate, authorize, bound, dispatch, encode,
//! measure. A panic in any of it is a 500 and a log line, never a dead connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use auth::request::Attributes;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use resources::Resource;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::ApiServer;
use crate::context::Context;
use crate::negotiate::{self, Output};
use crate::request::{Query, RequestInfo};
use crate::status::{ApiError, ApiResult};
use crate::{authenticate, discovery, health, openapi, reviews, subresources, verbs};

/// Every request that is not long-running is answered within this time.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest request body, as in Kubernetes.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Paths that probes may ask for even while no policy is loaded.
const ALWAYS_ALLOWED: &[&str] = &["/healthz", "/livez", "/readyz"];

/// How many requests are worked on at once, with Kubernetes' defaults. Long-running ones do not count.
pub(crate) struct Limits {
    reading: Semaphore,
    writing: Semaphore,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            reading: Semaphore::new(400),
            writing: Semaphore::new(200),
        }
    }
}

impl Limits {
    fn enter(&self, method: &Method) -> ApiResult<SemaphorePermit<'_>> {
        let slots = if matches!(*method, Method::GET | Method::HEAD) {
            &self.reading
        } else {
            &self.writing
        };
        slots.try_acquire().map_err(|_| {
            ApiError::too_many_requests("too many requests, please try again later", 1)
        })
    }
}

pub(crate) async fn handle(State(server): State<Arc<ApiServer>>, request: Request) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let query = Query::parse(request.uri().query());
    let info = RequestInfo::parse(&method, request.uri().path(), &query);
    let headers = request.headers().clone();
    let output = negotiate::output(&headers, &query);
    let plain = Output {
        form: negotiate::Form::Object,
        ..output.clone().unwrap_or(Output::PLAIN)
    };
    let outcome = AssertUnwindSafe(pipeline(
        server.clone(),
        info.clone(),
        query,
        output,
        request,
    ))
    .catch_unwind()
    .await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond_error(&headers, &plain, &error),
        Err(_panic) => {
            tracing::error!(%method, path = info.path, "a request handler panicked");
            let text = "This request caused apiserver to panic. Look in the logs for details.";
            respond_error(&headers, &plain, &ApiError::internal(text))
        }
    };
    let id = headers
        .get("audit-id")
        .filter(|id| id.len() <= 64)
        .cloned()
        .or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok());
    if let Some(id) = id {
        response.headers_mut().insert("audit-id", id);
    }
    server
        .metrics
        .observe(&info, response.status(), started.elapsed());
    response
}

/// The Status of an error, in the encoding that was asked for.
fn respond_error(headers: &HeaderMap, output: &Output, error: &ApiError) -> Response {
    let mut response =
        negotiate::respond_value(headers, output, error.status_code(), &error.to_status());
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

async fn pipeline(
    server: Arc<ApiServer>,
    info: RequestInfo,
    query: Query,
    output: ApiResult<Output>,
    request: Request,
) -> ApiResult<Response> {
    let (mut parts, body) = request.into_parts();
    let now = crate::clock::unix_seconds();
    let user = server
        .authenticator
        .authenticate(&server, &parts.headers, &parts.extensions, now)
        .await?;
    let user = authenticate::impersonate(&server, user, &parts.headers)?;
    authorize(&server, &user, &info, &query)?;
    let limited = server.clone();
    let _open = if info.is_long_running() {
        None
    } else {
        Some(limited.limits.enter(&parts.method)?)
    };
    let output = match output {
        Ok(output) => output,
        // Only API objects are negotiated; other paths choose their own form.
        Err(_) if !info.is_resource => Output::PLAIN,
        Err(error) => return Err(error),
    };
    let context = Context::new(server, info, query, parts.headers, user, output);
    let work = dispatch(&context, &parts.method, &mut parts.extensions, body);
    let mut response = if context.info.is_long_running() {
        work.await?
    } else {
        tokio::time::timeout_at(context.deadline, work)
            .await
            .map_err(|_| {
                ApiError::timeout(
                    "request did not complete within requested timeout - context deadline exceeded",
                )
            })??
    };
    for text in context.take_warnings() {
        let escaped = text
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(['\r', '\n'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

fn authorize(
    server: &ApiServer,
    user: &auth::User,
    info: &RequestInfo,
    query: &Query,
) -> ApiResult<()> {
    let always = ALWAYS_ALLOWED.iter().any(|path| {
        info.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if !info.is_resource && always {
        return Ok(());
    }
    let mut attributes = Attributes {
        verb: info.verb,
        path: &info.path,
        ..Attributes::default()
    };
    if info.is_resource {
        attributes = Attributes {
            verb: info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: "",
            field_selector: query.get("fieldSelector").unwrap_or_default(),
        };
    }
    server.authorizer.require(user, &attributes)
}

async fn dispatch(
    context: &Context,
    method: &Method,
    extensions: &mut Extensions,
    body: Body,
) -> ApiResult<Response> {
    let info = &context.info;
    if !info.is_resource {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Ok(page_not_found());
        }
        return Ok(non_resource(context).await.unwrap_or_else(page_not_found));
    }
    let Some(resource) = resources::find(&info.group, &info.version, &info.resource) else {
        return Ok(page_not_found());
    };
    let named = !info.name.is_empty() && !info.is_collection();
    let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
    let misplaced = if resource.namespaced {
        // Without a namespace there are only lists and watches over all namespaces.
        info.namespace.is_empty() && named
    } else {
        !info.namespace.is_empty() && !is_namespace
    };
    if misplaced {
        return Ok(page_not_found());
    }
    if !info.subresource.is_empty() {
        let Some(subresource) = resource.subresource(&info.subresource) else {
            return Ok(page_not_found());
        };
        if !subresource.verbs.contains(&info.verb) {
            return Err(not_allowed());
        }
        if subresources::is_connect(subresource.name) {
            return subresources::connect(context, resource, method, extensions, body).await;
        }
        let body = read_body(body, &context.headers).await?;
        return subresources::handle(context, resource, subresource, body).await;
    }
    if !resource.allows(info.verb) {
        return Err(not_allowed());
    }
    if resource.is_virtual() {
        let body = read_body(body, &context.headers).await?;
        return reviews::handle(context, resource, body).await;
    }
    match info.verb {
        "get" => verbs::get::get(context, resource).await,
        "list" => verbs::list::list(context, resource).await,
        "watch" => verbs::watch::watch(context, resource).await,
        _ => write(context, resource, body).await,
    }
}

async fn write(context: &Context, resource: &'static Resource, body: Body) -> ApiResult<Response> {
    let info = &context.info;
    let needs_namespace = resource.namespaced && info.namespace.is_empty();
    match (info.verb, info.name.is_empty()) {
        ("create", true) if !needs_namespace => {
            verbs::create::create(context, resource, read_body(body, &context.headers).await?).await
        }
        ("update", false) => {
            verbs::update::update(
                context,
                resource,
                "",
                read_body(body, &context.headers).await?,
            )
            .await
        }
        ("patch", false) => {
            verbs::patch::patch(
                context,
                resource,
                "",
                read_body(body, &context.headers).await?,
            )
            .await
        }
        ("delete", false) => {
            verbs::delete::delete(context, resource, read_body(body, &context.headers).await?).await
        }
        ("deletecollection", _) if !needs_namespace => {
            verbs::delete_collection::delete_collection(
                context,
                resource,
                read_body(body, &context.headers).await?,
            )
            .await
        }
        _ => Err(not_allowed()),
    }
}

fn not_allowed() -> ApiError {
    ApiError::method_not_allowed("the server does not allow this method on the requested resource")
}

/// What Kubernetes says about paths that nobody serves.
pub(crate) fn page_not_found() -> Response {
    let mut response = Response::new(Body::from("404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Reads a body up to the limit; 413 above it, whatever Content-Length said.
pub(crate) async fn read_body(mut body: Body, headers: &HeaderMap) -> ApiResult<Bytes> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(ApiError::too_large(BODY_BYTES_MAX));
    }
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| coding != "identity")
    {
        return Err(ApiError::unsupported_media_text(
            "the Content-Encoding of the request is not supported",
        ));
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("unable to read the request body: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len() + data.len() > BODY_BYTES_MAX {
            return Err(ApiError::too_large(BODY_BYTES_MAX));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// Paths that are not about API objects. None where nobody serves the path.
async fn non_resource(context: &Context) -> Option<Response> {
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

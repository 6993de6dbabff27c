//! The one pipeline that every request takes: identify, authenticate, impersonate, classify, authorize, route, read the
//! body, wait for a place, serve, encode, measure. A panic in any of it is a 500 and a log line, never a dead connection.

mod access;
mod answer;
mod pages;
mod place;
mod route;
mod work;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use auth::user::GROUP_MASTERS;
use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt;
use http::Method;
use http::request::Parts;
use resources::{Handle, Resource};
use tokio::time::Instant;

use crate::ApiServer;
use crate::audit::{self, Audit};
use crate::context::{Context, Outside, Warnings};
use crate::flow;
use crate::metrics::Served;
use crate::negotiate::{self, Offer, Output};
use crate::proxy::Arrival;
use crate::request::{Query, RequestInfo};
use crate::serve::MayRest;
use crate::status::{ApiError, ApiResult, quoted};
use crate::{aggregation, body, verbs};
use access::{authorize, identify, is_probe};
use answer::{Kept, audit_id, dry_run_of, respond_error};
use work::{pass_on, serve, serve_stream};

/// Every request that is not long-running is answered within this time.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn handle(server: Arc<ApiServer>, request: Request) -> Response {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let mut body = body::Incoming::new(body);
    let query = Query::parse(parts.uri.query());
    let (known, output) = Known::of(&server, &parts, &query, begun);
    let (warnings, outside) = (Warnings::default(), Outside::default());
    let audit = Audit::of(server.auditors.now(), &known.id, &parts, &known.info);
    let mut matched = None;
    let asked = Asked {
        begun,
        info: known.info.clone(),
        served: known.served.clone(),
        query,
        output,
        parts,
    };
    let outcome = {
        let told = (warnings.clone(), outside.clone(), audit.clone());
        // Pinned where it is made: what is passed on by value is copied each time, and room is kept for each copy.
        let answer = pin!(pipeline(
            server.clone(),
            asked,
            &mut body,
            told,
            &mut matched
        ));
        AssertUnwindSafe(answer).catch_unwind().await
    };
    let response = known.answer(&server, &audit, outcome);
    let is_long_running = known.info.is_long_running();
    let mut response = audit::finish(&audit, is_long_running, response).await;
    if let Some(matched) = &matched {
        matched.mark(&mut response);
    }
    if is_long_running && known.info.verb != "watch" {
        response.extensions_mut().insert(MayRest);
    }
    answer::add_headers(&mut response, &warnings, &known.id);
    known.measure(&server, &response, outside.total());
    if response.status().is_client_error() || response.status().is_server_error() {
        body.drain(&known.kept.headers()).await;
    }
    response
}

/// What is known of a request before anything is done for it, and is told of it when that is over.
struct Known {
    begun: Instant,
    method: Method,
    info: Arc<RequestInfo>,
    /// The resource, as it was known when the request came.
    served: Option<Handle>,
    kept: Kept,
    /// How errors are written.
    plain: Output,
    dry_run: &'static str,
    applies: bool,
    id: String,
}

impl Known {
    /// That, and how the answer is to be written.
    fn of(
        server: &ApiServer,
        parts: &Parts,
        query: &Query,
        begun: Instant,
    ) -> (Known, ApiResult<Output>) {
        let method = parts.method.clone();
        let info = Arc::new(RequestInfo::parse(&method, parts.uri.path(), query));
        let served = server
            .world
            .find(&info.group, &info.version, &info.resource);
        let output = negotiate::output(&parts.headers, query, offer(served.as_deref()));
        let known = Known {
            begun,
            method,
            served,
            kept: Kept::of(&parts.headers),
            plain: Output {
                form: negotiate::Form::Object,
                ..output.as_ref().copied().unwrap_or(Output::PLAIN)
            },
            dry_run: dry_run_of(query),
            applies: info.verb == "patch" && verbs::patch::is_applied(&parts.headers),
            id: audit_id(&parts.headers),
            info,
        };
        (known, output)
    }

    /// The answer to whatever came of it.
    fn answer(
        &self,
        server: &ApiServer,
        audit: &Audit,
        outcome: std::thread::Result<ApiResult<Response>>,
    ) -> Response {
        let error = match outcome {
            Ok(Ok(response)) => return response,
            Ok(Err(error)) => {
                audit.fail(&error);
                error
            }
            Err(_panic) => {
                audit.panicked();
                panicked(server, &self.method, &self.info, self.served.as_deref())
            }
        };
        respond_error(&self.kept.headers(), &self.plain, &error)
    }

    fn measure(&self, server: &ApiServer, response: &Response, outside: Duration) {
        let request = Served {
            code: response.status(),
            dry_run: self.dry_run,
            applies: self.applies,
            elapsed: self.begun.elapsed(),
            outside,
            bytes: flow::bytes_of(response),
        };
        let served = self.served.as_deref();
        server.metrics.observe(&self.info, served, &request);
    }
}

/// Tells of a handler that panicked. What its client is told of it.
fn panicked(
    server: &ApiServer,
    method: &Method,
    info: &RequestInfo,
    served: Option<&Resource>,
) -> ApiError {
    server.metrics.terminate(info, served, 500);
    tracing::error!(%method, path = info.path, "a request handler panicked");
    ApiError::internal("This request caused apiserver to panic. Look in the logs for details.")
}

/// Reviews, which nobody lists, have no other forms.
fn offer(resource: Option<&Resource>) -> Offer {
    resource.map_or(Offer::EVERYTHING, |resource| Offer {
        other_forms: !resource.is_virtual() || resource.allows("list"),
        protobuf: resource.custom.is_none(),
    })
}

/// What a client asks for.
struct Asked {
    begun: Instant,
    info: Arc<RequestInfo>,
    /// The resource, as it was known when the request came.
    served: Option<Handle>,
    query: Query,
    output: ApiResult<Output>,
    parts: Parts,
}

async fn pipeline(
    server: Arc<ApiServer>,
    asked: Asked,
    body: &mut body::Incoming,
    (warnings, outside, audit): (Warnings, Outside, Audit),
    matched: &mut Option<flow::Matched>,
) -> ApiResult<Response> {
    let Asked {
        begun,
        info,
        served,
        query,
        output,
        mut parts,
    } = asked;
    let now = crate::clock::unix_seconds();
    let allowed = match info.is_long_running() {
        true => REQUEST_TIMEOUT,
        false => time_allowed(&query)?,
    };
    let user = identify(&server, &mut parts, (&info, &query), &audit, now).await?;
    // Objects and rights come from the caches; an administrator may ask a server that has none how it is.
    if !is_probe(&info) && (info.is_resource || !user.in_group(GROUP_MASTERS)) {
        server.world.wait_loaded().await?;
    }
    *matched = server.flow.classify(&user, &info);
    authorize(&server, &user, &info, &query, &audit).await?;
    let other = aggregation::server_of(&server, &info);
    let output = negotiated(output, &info, other.is_some())?;
    let context = Context {
        server,
        info,
        query,
        headers: std::mem::take(&mut parts.headers),
        user,
        output,
        deadline: begun + allowed,
        now,
        is_own: false,
        warnings,
        outside,
        audit,
    };
    warn_of_endpoints(&context);
    dispatch(
        &context,
        (other, served),
        &mut parts,
        body,
        matched.as_ref(),
    )
    .await
}

/// Has a request served that may be: by another server, or by what is served here.
async fn dispatch(
    context: &Context,
    (other, served): (Option<Arc<aggregation::Served>>, Option<Handle>),
    parts: &mut Parts,
    body: &mut body::Incoming,
    matched: Option<&flow::Matched>,
) -> ApiResult<Response> {
    if let Some(other) = other {
        let arrival = arrival(parts, body);
        return Box::pin(pass_on(context, arrival, &other, matched)).await;
    }
    let route = route::decide(context, served, &parts.method).await?;
    if context.info.is_long_running() {
        let arrival = arrival(parts, body);
        Box::pin(serve_stream(context, route, arrival, matched)).await
    } else {
        let work = pin!(serve(context, route, &parts.method, body, matched));
        in_time(context, work).await
    }
}

fn arrival<'a>(parts: &'a mut Parts, body: &'a mut body::Incoming) -> Arrival<'a> {
    Arrival {
        method: &parts.method,
        uri: &parts.uri,
        extensions: &mut parts.extensions,
        body,
    }
}

/// Only API objects are negotiated; other paths choose their own form, and other servers theirs.
fn negotiated(
    output: ApiResult<Output>,
    info: &RequestInfo,
    is_elsewhere: bool,
) -> ApiResult<Output> {
    match output {
        Err(_) if !info.is_resource || info.is_proxied() || is_elsewhere => Ok(Output::PLAIN),
        output => output,
    }
}

fn warn_of_endpoints(context: &Context) {
    if context.info.group.is_empty() && context.info.resource == "endpoints" {
        context.warn("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
        context.server.metrics.calls.deprecated("endpoints");
    }
}

/// How long a request may take: as long as its query says, and never longer than others.
fn time_allowed(query: &Query) -> ApiResult<Duration> {
    let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else {
        return Ok(REQUEST_TIMEOUT);
    };
    let nanos = schema::time::parse_duration(text).ok_or_else(|| {
        let text = quoted(text);
        ApiError::bad_request(format!(
            "invalid timeout specified in the request URL - time: invalid duration {text}"
        ))
    })?;
    let asked = u64::try_from(nanos).map(Duration::from_nanos);
    let asked = asked.ok().filter(|asked| !asked.is_zero());
    Ok(asked.map_or(REQUEST_TIMEOUT, |asked| asked.min(REQUEST_TIMEOUT)))
}

async fn in_time(
    context: &Context,
    work: impl Future<Output = ApiResult<Response>>,
) -> ApiResult<Response> {
    let text = "request did not complete within requested timeout - context deadline exceeded";
    let done = tokio::time::timeout_at(context.deadline, work).await;
    done.unwrap_or_else(|_| {
        terminate(context, 504);
        Err(ApiError::timeout(text))
    })
}

fn terminate(context: &Context, code: u16) {
    let info = &context.info;
    let world = &context.server.world;
    let served = world.find(&info.group, &info.version, &info.resource);
    let metrics = &context.server.metrics;
    metrics.terminate(info, served.as_deref(), code);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the future that a handler makes.
    fn future_bytes<F, A, B, Made>(_: F) -> usize
    where
        F: Fn(A, B) -> Made,
    {
        size_of::<Made>()
    }

    #[test]
    fn a_request_moves_no_more_than_it_needs() {
        let bytes = future_bytes(handle);
        assert!(bytes <= 8 << 10, "{bytes} bytes");
    }
}

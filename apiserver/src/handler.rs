//! The one pipeline that every request takes: identify, authenticate, impersonate, classify, authorize, route, read the
//! body, wait for a place, serve, encode, measure. A panic in any of it is a 500 and a log line, never a dead connection.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use auth::User;
use auth::request::Attributes;
use auth::user::GROUP_MASTERS;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use resources::{Handle, Resource, Subresource};
use tokio::time::Instant;

use crate::ApiServer;
use crate::audit::{self, Audit};
use crate::body;
use crate::context::{Context, Outside, Warnings};
use crate::flow::{self, Kind, Stored, Urgency};
use crate::metrics::Served;
use crate::negotiate::{self, Offer, Output};
use crate::proxy::Arrival;
use crate::request::{Query, RequestInfo};
use crate::selection::Selection;
use crate::serve::MayRest;
use crate::status::{ApiError, ApiResult, quoted};
use crate::{
    aggregation, authenticate, authorize, binding_batch, discovery, health, openapi, reviews,
    subresources, usage, verbs,
};

/// Every request that is not long-running is answered within this time.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Paths that probes may ask for even while no policy is loaded.
const ALWAYS_ALLOWED: &[&str] = &["/healthz", "/livez", "/readyz"];
/// Of this name nothing has to be checked with each request.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Where nodes and the control plane show that they live.
const HEARTBEAT_NAMESPACES: &[&str] = &["kube-node-lease", "kube-system"];

/// What a request's body counts against: administrators, nodes and heartbeats must get through to a server whose budget
/// others have spent.
fn account<'a>(user: &'a User, info: &RequestInfo) -> body::Account<'a> {
    let is_heartbeat = is_lease(info) && HEARTBEAT_NAMESPACES.contains(&info.namespace.as_str());
    if user.in_group(GROUP_MASTERS) {
        body::Account::Nothing
    } else if is_heartbeat || user.node_identity().is_some() {
        body::Account::User(&user.name)
    } else {
        body::Account::UserAndCommon(&user.name)
    }
}

fn is_lease(info: &RequestInfo) -> bool {
    info.group == "coordination.k8s.io" && info.resource == "leases"
}

/// What shows that a node or a part of the control plane lives is kept waiting by nobody: they would be taken for dead
/// just when there is much to do.
fn urgency(user: &User, info: &RequestInfo) -> Urgency {
    let own = match info.namespace.as_str() {
        // The name of a new one is in the body, where admission looks at it.
        "kube-node-lease" => user
            .node_identity()
            .is_some_and(|own| info.name.is_empty() || info.name == own),
        "kube-system" => user.name.starts_with("system:kube-"),
        _ => false,
    };
    match own && is_lease(info) && !info.is_collection() {
        true => Urgency::Now,
        false => Urgency::Ordinary,
    }
}

fn is_probe(info: &RequestInfo) -> bool {
    !info.is_resource
        && ALWAYS_ALLOWED.iter().any(|path| {
            info.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

pub(crate) async fn handle(server: Arc<ApiServer>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut body = body::Incoming::new(body);
    let method = parts.method.clone();
    let query = Query::parse(parts.uri.query());
    let info = Arc::new(RequestInfo::parse(&method, parts.uri.path(), &query));
    let kept = Kept::of(&parts.headers);
    let served = server
        .world
        .find(&info.group, &info.version, &info.resource);
    let output = negotiate::output(&parts.headers, &query, offer(served.as_deref()));
    let plain = Output {
        form: negotiate::Form::Object,
        ..output.as_ref().copied().unwrap_or(Output::PLAIN)
    };
    let (warnings, outside) = (Warnings::default(), Outside::default());
    let dry_run = dry_run_of(&query);
    let applies = info.verb == "patch" && verbs::patch::is_applied(&parts.headers);
    let id = audit_id(&parts.headers);
    let audit = Audit::of(server.auditors.now(), &id, &parts, &info);
    let mut matched = None;
    let asked = Asked {
        begun: started,
        info: info.clone(),
        served: served.clone(),
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
    let response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            audit.fail(&error);
            respond_error(&kept.headers(), &plain, &error)
        }
        Err(_panic) => {
            audit.panicked();
            server.metrics.terminate(&info, served.as_deref(), 500);
            tracing::error!(%method, path = info.path, "a request handler panicked");
            let text = "This request caused apiserver to panic. Look in the logs for details.";
            respond_error(&kept.headers(), &plain, &ApiError::internal(text))
        }
    };
    let mut response = audit::finish(&audit, info.is_long_running(), response).await;
    if let Some(matched) = &matched {
        matched.mark(&mut response);
    }
    if info.is_long_running() && info.verb != "watch" {
        response.extensions_mut().insert(MayRest);
    }
    for text in warnings.take() {
        if let Some(value) = warning(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    if let Some(id) = id_header(&id) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    let request = Served {
        code: response.status(),
        dry_run,
        applies,
        elapsed: started.elapsed(),
        outside: outside.total(),
        bytes: flow::bytes_of(&response),
    };
    server.metrics.observe(&info, served.as_deref(), &request);
    if response.status().is_client_error() || response.status().is_server_error() {
        body.drain(&kept.headers()).await;
    }
    response
}

/// Of a request's headers what counts when it is over and has failed: whether its error may come packed, and whether its body
/// is on its way.
struct Kept {
    accept_encoding: Option<HeaderValue>,
    expect: Option<HeaderValue>,
}

impl Kept {
    fn of(headers: &HeaderMap) -> Kept {
        Kept {
            accept_encoding: headers.get(header::ACCEPT_ENCODING).cloned(),
            expect: headers.get(header::EXPECT).cloned(),
        }
    }

    fn headers(&self) -> HeaderMap {
        let kept = [
            (header::ACCEPT_ENCODING, &self.accept_encoding),
            (header::EXPECT, &self.expect),
        ];
        let kept = kept.into_iter();
        kept.filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

/// Whether the request only tries, for figures: what it says is not looked through yet. Said twice it is said once.
fn dry_run_of(query: &Query) -> &'static str {
    let mut label = "";
    for value in query.all("dryRun") {
        match value {
            "All" => label = "All",
            _ => return "invalid",
        }
    }
    label
}

/// What the client calls the request, or a new name for it.
fn audit_id(headers: &HeaderMap) -> String {
    headers
        .get(AUDIT_ID)
        .filter(|id| id.len() <= 64)
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty())
        .map_or_else(crate::chance::name, str::to_owned)
}

/// The name of the request for its answer. It is of no use to answers that follow, so HTTP/2 is not to keep it in the table
/// of a connection's headers: there it would take the place of those that stay the same, and be compared with every later one.
fn id_header(id: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(id).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Reviews, which nobody lists, have no other forms.
fn offer(resource: Option<&Resource>) -> Offer {
    resource.map_or(Offer::EVERYTHING, |resource| Offer {
        other_forms: !resource.is_virtual() || resource.allows("list"),
        protobuf: resource.custom.is_none(),
    })
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
    let came = Instant::now();
    let user = server
        .authenticator
        .authenticate(
            &server,
            parts.uri.path(),
            &parts.headers,
            &parts.extensions,
            now,
        )
        .await
        .inspect(|user| {
            let calls = &server.metrics.calls;
            calls.authenticated(Some(&**user), came.elapsed());
        })
        .inspect_err(|error| {
            server.metrics.calls.authenticated(None, came.elapsed());
            audit.refuse_unknown(&parts.headers, error);
        })?;
    server.authenticator.strip(&mut parts.headers);
    audit.begin(&user);
    if audit.tells_answer() {
        // It is read once more.
        parts.headers.remove(header::ACCEPT_ENCODING);
    }
    let acting =
        authenticate::impersonate(&server, &user, &parts.headers, &attributes(&info, &query))
            .await?;
    let user = match acting {
        Some((other, mode)) => {
            audit.impersonate(&other, mode);
            other
        }
        None => user,
    };
    // Objects and rights come from the caches; an administrator may ask a server that has none how it is.
    if !is_probe(&info) && (info.is_resource || !user.in_group(GROUP_MASTERS)) {
        server.world.wait_loaded().await?;
    }
    *matched = server.flow.classify(&user, &info);
    authorize(&server, &user, &info, &query, &audit).await?;
    let other = aggregation::server_of(&server, &info);
    let output = match output {
        Ok(output) => output,
        // Only API objects are negotiated; other paths choose their own form, and other servers theirs.
        Err(_) if !info.is_resource || info.is_proxied() || other.is_some() => Output::PLAIN,
        Err(error) => return Err(error),
    };
    let context = Context {
        server,
        info,
        query,
        headers: parts.headers,
        user,
        output,
        deadline: begun + allowed,
        now,
        is_own: false,
        warnings,
        outside,
        audit,
    };
    if context.info.group.is_empty() && context.info.resource == "endpoints" {
        context.warn("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
        context.server.metrics.calls.deprecated("endpoints");
    }
    if let Some(other) = other {
        let arrival = Arrival {
            method: &parts.method,
            uri: &parts.uri,
            extensions: &mut parts.extensions,
            body,
        };
        return Box::pin(pass_on(&context, arrival, &other, matched.as_ref())).await;
    }
    let route = match binding_batch::is_asked(&context.info) {
        true => Route::Bindings,
        false => {
            let resource = match served {
                // What is built in stays what it is.
                Some(resource) if resource.custom.is_none() && context.info.is_resource => {
                    Some(resource)
                }
                _ => find(&context.server, &context.info).await?,
            };
            if let Some(text) = resource.as_deref().and_then(Resource::deprecation) {
                context.warn(text);
            }
            route(resource, &context.info, &parts.method)?
        }
    };
    if context.info.is_long_running() {
        let arrival = Arrival {
            method: &parts.method,
            uri: &parts.uri,
            extensions: &mut parts.extensions,
            body,
        };
        Box::pin(serve_stream(&context, route, arrival, matched.as_ref())).await
    } else {
        let method = &parts.method;
        let work = pin!(serve(&context, route, method, body, matched.as_ref()));
        in_time(&context, work).await
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

/// Serves what another server has to answer. It counts as work here until the answer begins.
async fn pass_on(
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

/// The header for a warning, in UTF-8.
fn warning(text: &str) -> Option<HeaderValue> {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace(char::is_control, " ");
    HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()).ok()
}

/// A request as the authorizers see it.
fn attributes<'a>(info: &'a RequestInfo, query: &'a Query) -> Attributes<'a> {
    if !info.is_resource {
        return Attributes {
            verb: info.verb,
            path: &info.path,
            ..Attributes::default()
        };
    }
    Attributes {
        verb: info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: "",
        field_selector: query.get("fieldSelector").unwrap_or_default(),
    }
}

async fn authorize(
    server: &ApiServer,
    user: &User,
    info: &RequestInfo,
    query: &Query,
    audit: &Audit,
) -> ApiResult<()> {
    if is_probe(info) {
        return Ok(());
    }
    if binding_batch::is_asked(info) {
        return binding_batch::authorize(user, info);
    }
    let attributes = attributes(info, query);
    let begun = Instant::now();
    let decision = server.authorizer.authorize(user, &attributes).await;
    let calls = &server.metrics.calls;
    calls.authorized(&decision, begun.elapsed());
    audit.decide(decision.allowed, &decision.reason);
    authorize::required(user, &attributes, &decision)
}

/// What serves a request, decided before its body is read (and again after it for custom resources).
enum Route {
    NotFound,
    /// A page about no API object.
    Page,
    /// A connection to a node agent, or to a backend.
    Connect(Handle),
    Subresource(Handle, &'static Subresource),
    /// Answered and not stored.
    Virtual(Handle),
    Read(Handle),
    Write(Handle),
    /// Many bindings at once.
    Bindings,
}

/// The resource of a request. One that a definition brought through another member may not be known here yet.
async fn find(server: &ApiServer, info: &RequestInfo) -> ApiResult<Option<Handle>> {
    let find = || {
        server
            .world
            .find(&info.group, &info.version, &info.resource)
    };
    if !info.is_resource {
        return Ok(None);
    }
    match find() {
        None if info.group.contains('.') => {
            server.world.wait_most_recent(&*server.store).await?;
            Ok(find())
        }
        found => Ok(found),
    }
}

fn route(resource: Option<Handle>, info: &RequestInfo, method: &Method) -> ApiResult<Route> {
    if !info.is_resource {
        return match *method == Method::GET || !discovery::is_get_only(&info.path) {
            true => Ok(Route::Page),
            false => Err(not_allowed()),
        };
    }
    let Some(resource) = resource else {
        return Ok(Route::NotFound);
    };
    let named = !info.name.is_empty() && !info.is_collection();
    let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
    let misplaced = if resource.namespaced {
        // Without a namespace there are only lists and watches over all namespaces. Routes of built-in kinds know the path, and
        // not the method; Kubernetes' handler of custom ones knows neither.
        let is_known = match resource.custom.is_some() {
            true => matches!(info.verb, "list" | "watch"),
            false => !named,
        };
        info.namespace.is_empty() && !is_known
    } else {
        !info.namespace.is_empty() && !is_namespace
    };
    if misplaced {
        return Ok(Route::NotFound);
    }
    // Authorized as a get. Routes of built-in kinds know it only where a backend answers; custom ones go by the verb.
    if *method == Method::HEAD && resource.custom.is_none() && !info.is_proxied() {
        return Err(not_allowed());
    }
    if !info.subresource.is_empty() {
        let Some(subresource) = resource.subresource(&info.subresource) else {
            return match resource.custom.is_some() {
                // Kubernetes says so of the object.
                true => Err(ApiError::not_found(
                    &resource.group,
                    &resource.plural,
                    &info.name,
                )),
                false => Ok(Route::NotFound),
            };
        };
        // A backend may know methods that are no verbs: who may use any verb may use them.
        let any_verb = info.is_proxied() && info.verb.is_empty();
        if !any_verb && !subresource.verbs.contains(&info.verb) {
            return Err(not_served(&resource, info.verb));
        }
        return Ok(if subresources::is_connect(subresource.name) {
            Route::Connect(resource)
        } else {
            Route::Subresource(resource, subresource)
        });
    }
    if !resource.allows(info.verb) {
        return Err(not_served(&resource, info.verb));
    }
    let needs_namespace = resource.namespaced && info.namespace.is_empty();
    match (info.verb, info.name.is_empty()) {
        _ if resource.is_virtual() => Ok(Route::Virtual(resource)),
        ("get" | "list" | "watch", _) => Ok(Route::Read(resource)),
        ("update" | "patch" | "delete", false) => Ok(Route::Write(resource)),
        ("create", true) | ("deletecollection", _) if !needs_namespace => {
            Ok(Route::Write(resource))
        }
        _ => Err(not_served(&resource, info.verb)),
    }
}

/// Serves what lives as long as its client.
async fn serve_stream(
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

/// Waits for a place; none is needed by probes. The answer to the client where there is no place for it.
async fn enter(
    context: &Context,
    matched: Option<&flow::Matched>,
    kind: Kind,
) -> Result<Option<flow::Held>, Response> {
    let Some(matched) = matched.filter(|_| !is_probe(&context.info)) else {
        return Ok(None);
    };
    let urgency = urgency(&context.user, &context.info);
    let who = (&*context.user, &context.info);
    let held = matched.enter(who, kind, urgency, context.deadline);
    let (waiting, begun) = (
        context.server.metrics.calls.wait(context.info.verb),
        Instant::now(),
    );
    let held = held.await;
    drop(waiting);
    context.outside.add(begun.elapsed());
    if let Err(refusal) = &held {
        terminate(context, refusal.status().as_u16());
    }
    held.map(Some)
}

/// Whether a watch sends what there is already.
fn begins_with_state(context: &Context) -> bool {
    let query = &context.query;
    let version = query.get("resourceVersion").unwrap_or_default();
    match query.get("sendInitialEvents") {
        Some(_) => query.flag("sendInitialEvents"),
        None => version.is_empty() || version == "0",
    }
}

/// What kind of work a request is.
fn kind(context: &Context, route: &Route, body: &Bytes) -> Kind {
    match route {
        Route::Bindings => Kind::Batch {
            writes: binding_batch::count(body),
        },
        Route::Read(resource) if context.info.verb == "list" => {
            Kind::List(stored(context, resource))
        }
        Route::Write(resource) | Route::Subresource(resource, _) if context.info.verb != "get" => {
            let cache = context.server.world.cache(resource);
            let namespace = &context.info.namespace;
            Kind::Write {
                watches: cache.map_or(0, |cache| cache.watches_of(namespace)),
            }
        }
        _ => Kind::Small,
    }
}

/// The objects of a list or of the beginning of a watch.
fn stored(context: &Context, resource: &Resource) -> Stored {
    let Some(cache) = context.server.world.cache(resource) else {
        return Stored::default();
    };
    let namespace = &context.info.namespace;
    let (objects, object_bytes) = cache.size(&Selection::all(resource, namespace).prefix);
    let objects = match context.info.name.is_empty() {
        true => objects,
        false => objects.min(1),
    };
    let limit = context
        .query
        .get("limit")
        .and_then(|text| text.parse().ok());
    let query = &context.query;
    let selects = |name: &str| query.get(name).is_some_and(|text| !text.is_empty());
    Stored {
        objects: objects as u64,
        object_bytes: object_bytes as u64,
        limit: limit.unwrap_or(0),
        streamed: context.output.is_streamed() || context.info.verb == "watch",
        selective: selects("labelSelector") || selects("fieldSelector"),
    }
}

/// Serves everything else: the whole body first, then a place among those that are worked on.
async fn serve(
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

/// The same route, or another one where the definition of a custom resource changed while the body was on its way.
async fn rerouted(context: &Context, decided: Route, method: &Method) -> ApiResult<Route> {
    match &decided {
        Route::Subresource(resource, _) | Route::Write(resource) if resource.custom.is_some() => {
            let resource = find(&context.server, &context.info).await?;
            if let Some(text) = resource.as_deref().and_then(Resource::deprecation) {
                context.warn(text);
            }
            route(resource, &context.info, method)
        }
        _ => Ok(decided),
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

/// A verb that a resource does not have. Custom resources have a handler of their own in Kubernetes, with words of its own.
fn not_served(resource: &Resource, verb: &str) -> ApiError {
    match resource.custom {
        Some(_) => ApiError::method_not_supported(&resource.group, &resource.plural, verb),
        None => not_allowed(),
    }
}

fn not_allowed() -> ApiError {
    ApiError::method_not_allowed("the server does not allow this method on the requested resource")
}

/// What nobody serves. Under the paths of its own groups Kubernetes says so with a Status, and elsewhere with a page.
fn not_found(context: &Context) -> ApiResult<Response> {
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
pub(crate) fn page_not_found() -> Response {
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

/// Paths that are not about API objects. None where nobody serves the path.
async fn page(context: &Context) -> Option<Response> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use body::Account;

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

    #[test]
    fn an_error_is_written_as_it_would_be_with_all_headers() {
        let of = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pairs = pairs.iter().map(|&(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            pairs.collect()
        };
        let gzip = ("accept-encoding", "gzip");
        let waits = ("expect", "100-continue");
        for headers in [
            of(&[]),
            of(&[gzip, ("accept", "application/json")]),
            of(&[waits, ("content-length", "7")]),
            of(&[gzip, waits]),
        ] {
            let kept = Kept::of(&headers).headers();
            let told = |headers: &HeaderMap| {
                let packed = negotiate::accepts_gzip(headers);
                (packed, headers.contains_key(header::EXPECT))
            };
            assert_eq!(told(&kept), told(&headers), "{headers:?}");
        }
    }

    #[test]
    fn the_name_of_a_request_is_kept_out_of_tables() {
        let value = id_header("one").unwrap();
        assert!(value == "one" && value.is_sensitive());
        assert!(id_header("a\nb").is_none());
    }

    #[test]
    fn figures_tell_tries_from_deeds_and_from_nonsense() {
        for (query, label) in [
            ("limit=5", ""),
            ("dryRun=All", "All"),
            ("dryRun=All&dryRun=All", "All"),
            ("dryRun=", "invalid"),
            ("dryRun=All&dryRun=Some", "invalid"),
        ] {
            assert_eq!(dry_run_of(&Query::parse(Some(query))), label, "{query}");
        }
    }

    #[test]
    fn only_own_signs_of_life_are_urgent() {
        let leases = "/apis/coordination.k8s.io/v1/namespaces";
        let node = User::node("n1");
        let scheduler = User::component("kube-scheduler");
        let account = User::service_account("kube-system", "x", "");
        for (user, uri, expected) in [
            (
                &node,
                format!("{leases}/kube-node-lease/leases/n1"),
                Urgency::Now,
            ),
            (
                &node,
                format!("{leases}/kube-node-lease/leases/n2"),
                Urgency::Ordinary,
            ),
            (
                &scheduler,
                format!("{leases}/kube-system/leases/kube-scheduler"),
                Urgency::Now,
            ),
            (
                &scheduler,
                format!("{leases}/default/leases/x"),
                Urgency::Ordinary,
            ),
            (
                &scheduler,
                "/api/v1/namespaces/kube-system/pods/x".into(),
                Urgency::Ordinary,
            ),
            (
                &account,
                format!("{leases}/kube-system/leases/x"),
                Urgency::Ordinary,
            ),
        ] {
            let info = RequestInfo::parse(&Method::PUT, &uri, &Query::parse(None));
            assert_eq!(urgency(user, &info), expected, "{} {uri}", user.name);
        }
    }

    #[test]
    fn methods_are_those_of_kubernetes_routes() {
        let code = |method: &Method, uri: &str| {
            let info = RequestInfo::parse(method, uri, &Query::parse(None));
            let resource = resources::find(&info.group, &info.version, &info.resource);
            match route(resource.map(Handle::from), &info, method) {
                Ok(Route::NotFound) => 404,
                Ok(_) => 200,
                Err(error) => error.code,
            }
        };
        let pods = "/api/v1/namespaces/default/pods";
        for (method, uri, expected) in [
            (Method::HEAD, pods.to_owned(), 405),
            (Method::HEAD, format!("{pods}/p"), 405),
            (Method::HEAD, format!("{pods}/p/log"), 405),
            (Method::HEAD, format!("{pods}/p/proxy/x"), 200),
            (Method::POST, "/healthz".to_owned(), 200),
            (Method::DELETE, "/readyz/ping".to_owned(), 200),
            (Method::POST, "/apis".to_owned(), 200),
            (Method::POST, "/version".to_owned(), 405),
            (Method::HEAD, "/api".to_owned(), 405),
            (Method::HEAD, "/apis/apps/v1/".to_owned(), 405),
            (Method::PUT, "/apis/apps/v1".to_owned(), 405),
            (Method::GET, "/apis/apps/v1".to_owned(), 200),
            (Method::POST, "/apis/example.com/v1".to_owned(), 200),
        ] {
            assert_eq!(code(&method, &uri), expected, "{method} {uri}");
        }
    }

    #[test]
    fn who_must_get_through_needs_no_room_among_all() {
        let account_of = |user: &User, uri: &str| {
            let info = RequestInfo::parse(&Method::POST, uri, &Query::parse(None));
            format!("{:?}", account(user, &info))
        };
        let (jane, node) = (User::new("jane", ["dev"]), User::node("n1"));
        let master = User::new("jane", [GROUP_MASTERS]);
        let leases = "/apis/coordination.k8s.io/v1/namespaces";
        let own = |name| format!("{:?}", Account::User(name));
        let common = |name| format!("{:?}", Account::UserAndCommon(name));
        let nothing = format!("{:?}", Account::Nothing);
        let other = "/api/v1/namespaces/kube-system/leases";
        for (user, uri, expected) in [
            (&master, "/api/v1/namespaces/a/pods".to_owned(), nothing),
            (
                &node,
                "/api/v1/nodes/n1/status".into(),
                own("system:node:n1"),
            ),
            (&jane, "/api/v1/namespaces/a/pods".into(), common("jane")),
            (&jane, format!("{leases}/kube-system/leases/x"), own("jane")),
            (
                &jane,
                format!("{leases}/kube-node-lease/leases"),
                own("jane"),
            ),
            // Whoever owns a namespace may make accounts and leases there without end.
            (&jane, format!("{leases}/a/leases"), common("jane")),
            (&jane, other.to_owned(), common("jane")),
        ] {
            assert_eq!(account_of(user, &uri), expected, "{uri}");
        }
    }
}

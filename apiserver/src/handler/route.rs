//! What serves a request.

use http::Method;
use resources::{Handle, Resource, Subresource};

use crate::ApiServer;
use crate::context::Context;
use crate::request::RequestInfo;
use crate::status::{ApiError, ApiResult};
use crate::{binding_batch, discovery, subresources};

/// What serves a request, decided before its body is read (and again after it for custom resources).
pub(super) enum Route {
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

/// Decides by what was `served` when the request came.
pub(super) async fn decide(
    context: &Context,
    served: Option<Handle>,
    method: &Method,
) -> ApiResult<Route> {
    if binding_batch::is_asked(&context.info) {
        return Ok(Route::Bindings);
    }
    let resource = match served {
        // What is built in stays what it is.
        Some(resource) if resource.custom.is_none() && context.info.is_resource => Some(resource),
        _ => find(&context.server, &context.info).await?,
    };
    routed(context, resource, method)
}

/// The same route, or another one where the definition of a custom resource changed while the body was on its way.
pub(super) async fn rerouted(
    context: &Context,
    decided: Route,
    method: &Method,
) -> ApiResult<Route> {
    match &decided {
        Route::Subresource(resource, _) | Route::Write(resource) if resource.custom.is_some() => {
            let resource = find(&context.server, &context.info).await?;
            routed(context, resource, method)
        }
        _ => Ok(decided),
    }
}

/// The route to a resource; its client is told where that is deprecated.
fn routed(context: &Context, resource: Option<Handle>, method: &Method) -> ApiResult<Route> {
    if let Some(text) = resource.as_deref().and_then(Resource::deprecation) {
        context.warn(text);
    }
    route(resource, &context.info, method)
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
    if is_misplaced(&resource, info) {
        return Ok(Route::NotFound);
    }
    // Authorized as a get. Routes of built-in kinds know it only where a backend answers; custom ones go by the verb.
    if *method == Method::HEAD && resource.custom.is_none() && !info.is_proxied() {
        return Err(not_allowed());
    }
    if !info.subresource.is_empty() {
        return route_to_subresource(resource, info);
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

/// Whether a path has a namespace that its resource does not have, or lacks one.
fn is_misplaced(resource: &Resource, info: &RequestInfo) -> bool {
    let named = !info.name.is_empty() && !info.is_collection();
    let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
    if resource.namespaced {
        // Without a namespace there are only lists and watches over all namespaces. Routes of built-in kinds know the path, and
        // not the method; Kubernetes' handler of custom ones knows neither.
        let is_known = match resource.custom.is_some() {
            true => matches!(info.verb, "list" | "watch"),
            false => !named,
        };
        info.namespace.is_empty() && !is_known
    } else {
        !info.namespace.is_empty() && !is_namespace
    }
}

fn route_to_subresource(resource: Handle, info: &RequestInfo) -> ApiResult<Route> {
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
    Ok(if subresources::is_connect(subresource.name) {
        Route::Connect(resource)
    } else {
        Route::Subresource(resource, subresource)
    })
}

/// A verb that a resource does not have. Custom resources have a handler of their own in Kubernetes, with words of its own.
fn not_served(resource: &Resource, verb: &str) -> ApiError {
    match resource.custom {
        Some(_) => ApiError::method_not_supported(&resource.group, &resource.plural, verb),
        None => not_allowed(),
    }
}

pub(super) fn not_allowed() -> ApiError {
    ApiError::method_not_allowed("the server does not allow this method on the requested resource")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;

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
}

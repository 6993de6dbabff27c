//! The place that a request takes among those that are worked on, and what its body counts against.

use auth::User;
use auth::user::GROUP_MASTERS;
use axum::response::Response;
use bytes::Bytes;
use resources::Resource;
use tokio::time::Instant;

use super::access::is_probe;
use super::route::Route;
use super::terminate;
use crate::context::Context;
use crate::flow::{self, Kind, Stored, Urgency};
use crate::request::RequestInfo;
use crate::selection::Selection;
use crate::{binding_batch, body};

/// Where nodes and the control plane show that they live.
const HEARTBEAT_NAMESPACES: &[&str] = &["kube-node-lease", "kube-system"];

/// What a request's body counts against: administrators, nodes and heartbeats must get through to a server whose budget
/// others have spent.
pub(super) fn account<'a>(user: &'a User, info: &RequestInfo) -> body::Account<'a> {
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

/// Waits for a place; none is needed by probes. The answer to the client where there is no place for it.
pub(super) async fn enter(
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
pub(super) fn begins_with_state(context: &Context) -> bool {
    let query = &context.query;
    let version = query.get("resourceVersion").unwrap_or_default();
    match query.get("sendInitialEvents") {
        Some(_) => query.flag("sendInitialEvents"),
        None => version.is_empty() || version == "0",
    }
}

/// What kind of work a request is.
pub(super) fn kind(context: &Context, route: &Route, body: &Bytes) -> Kind {
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
pub(super) fn stored(context: &Context, resource: &Resource) -> Stored {
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

#[cfg(test)]
mod tests {
    use body::Account;
    use http::Method;

    use super::*;
    use crate::request::Query;

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

//! Who asks, and whether they may.

use std::sync::Arc;

use auth::User;
use auth::request::Attributes;
use http::header;
use http::request::Parts;
use tokio::time::Instant;

use crate::ApiServer;
use crate::audit::Audit;
use crate::request::{Query, RequestInfo};
use crate::status::ApiResult;
use crate::{authenticate, binding_batch};

/// Paths that probes may ask for even while no policy is loaded.
const ALWAYS_ALLOWED: &[&str] = &["/healthz", "/livez", "/readyz"];

pub(super) fn is_probe(info: &RequestInfo) -> bool {
    !info.is_resource
        && ALWAYS_ALLOWED.iter().any(|path| {
            info.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// Whom the request is served as. What said so is for nobody else to see.
pub(super) async fn identify(
    server: &ApiServer,
    parts: &mut Parts,
    (info, query): (&RequestInfo, &Query),
    audit: &Audit,
    now: i64,
) -> ApiResult<Arc<User>> {
    let came = Instant::now();
    let user = server
        .authenticator
        .authenticate(
            server,
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
    let asked = attributes(info, query);
    let acting = authenticate::impersonate(server, &user, &parts.headers, &asked).await?;
    Ok(match acting {
        Some((other, mode)) => {
            audit.impersonate(&other, mode);
            other
        }
        None => user,
    })
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
    let selector = |name: &str| match info.has_selectors() {
        true => query.get(name).unwrap_or_default(),
        false => "",
    };
    Attributes {
        verb: info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: "",
        field_selector: selector("fieldSelector"),
        label_selector: selector("labelSelector"),
    }
}

pub(super) async fn authorize(
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
    crate::authorize::required(user, &attributes, &decision)
}

//! Who is asking: a trusted user from inside the process, a client certificate, a bearer token, or nobody.

use auth::bearer::{self, WebSocketToken};
use auth::bootstrap_token::{self, BootstrapToken};
use auth::user::GROUP_MASTERS;
use auth::{User, impersonation};
use http::{Extensions, HeaderMap, header};
use kv::mutants::{Bug, planted};
use serde_json::Value;
use tokio::time::Instant;

use crate::ApiServer;
use crate::client_certificate::{PeerCertificate, Trust};
use crate::config::Config;

use crate::status::{ApiError, ApiResult};

pub(crate) struct Authenticator {
    anonymous: bool,
    trust: Trust,
}

impl Authenticator {
    pub(crate) fn new(config: &Config) -> Authenticator {
        Authenticator {
            anonymous: config.anonymous,
            trust: Trust::new(&config.ca_pem),
        }
    }

    /// The user of a request. A credential that is present but wrong is 401, never anonymous.
    pub(crate) async fn authenticate(
        &self,
        server: &ApiServer,
        headers: &HeaderMap,
        extensions: &Extensions,
        now: i64,
    ) -> ApiResult<User> {
        if let Some(user) = extensions.get::<User>() {
            return Ok(user.clone());
        }
        let mut refused = false;
        if let Some(peer) = extensions.get::<PeerCertificate>() {
            // Time is checked with every request, since a connection may outlive its certificate.
            let verified = self.trust.verify(peer).map_err(|error| refuse(&error));
            let user = verified.and_then(|leaf| {
                auth::x509::user_from_cert(leaf, now).map_err(|error| refuse(&error))
            });
            match user {
                Ok(user) => return Ok(user.authenticated()),
                // A good token next to it still counts.
                Err(_) => refused = true,
            }
        }
        let mut token = None;
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
            match bearer::from_header(text) {
                Some(found) => token = Some(found.to_owned()),
                None if !text.trim().is_empty() => return Err(ApiError::unauthorized()),
                None => {}
            }
        }
        if token.is_none()
            && let Some(value) = headers
                .get("sec-websocket-protocol")
                .and_then(|value| value.to_str().ok())
        {
            match bearer::from_websocket_protocols(value) {
                WebSocketToken::Absent => {}
                WebSocketToken::Present { token: found, .. } => token = Some(found),
                WebSocketToken::Invalid => return Err(ApiError::unauthorized()),
            }
        }
        match token {
            Some(token) => user_of_token(server, &token, &server.config.api_audiences, now)
                .await
                .map(|(user, _)| user),
            None if refused => Err(ApiError::unauthorized()),
            None if self.anonymous => Ok(User::anonymous()),
            None => Err(ApiError::unauthorized()),
        }
    }
}

fn refuse(error: &dyn std::fmt::Display) -> ApiError {
    tracing::info!(%error, "authentication failed");
    ApiError::unauthorized()
}

/// The user behind a token, and the audiences that it is good for.
pub(crate) async fn user_of_token(
    server: &ApiServer,
    token: &str,
    audiences: &[String],
    now: i64,
) -> ApiResult<(User, Vec<String>)> {
    if let Some(user) = server.config.static_tokens.authenticate(token) {
        return Ok((user.authenticated(), meant_for_us(server, audiences)?));
    }
    if let Some(token) = BootstrapToken::parse(token) {
        let user = user_of_bootstrap_token(server, &token, now).await?;
        return Ok((user.authenticated(), meant_for_us(server, audiences)?));
    }
    let claims = server
        .config
        .verifier
        .verify(token, audiences, now)
        .map_err(|error| refuse(&error))?;
    // Before that the caches show nothing, or a past in which the token's owner may still have lived.
    server.world.wait_loaded().await?;
    for (resource, namespace, reference) in claims.bound() {
        let alive = || {
            planted(Bug::TokensOutliveAccounts)
                || server
                    .world
                    .get("", resource, namespace, &reference.name)
                    .map(|entry| entry.object())
                    .is_some_and(|object| object.uid() == reference.uid)
        };
        if !alive() {
            // A fresh token may name what this member has not seen yet.
            let caught_up = server.world.wait_most_recent(&*server.store);
            let in_time =
                tokio::time::timeout_at(Instant::now() + crate::world::REVISION_WAIT, caught_up)
                    .await;
            if !matches!(in_time, Ok(Ok(_))) {
                // Not the token's fault: clients that hear 401 give up.
                return Err(ApiError::unavailable(
                    "the server cannot check the token now, please try again later",
                ));
            }
            if !alive() {
                return Err(refuse(&format!(
                    "token bound to {resource} {namespace}/{} that is gone",
                    reference.name
                )));
            }
        }
    }
    let good_for = claims
        .aud
        .iter()
        .filter(|audience| audiences.contains(audience))
        .cloned()
        .collect();
    Ok((claims.user(), good_for))
}

/// The audiences of a token that has none of its own: it is meant for this server, and good for nobody else.
fn meant_for_us(server: &ApiServer, audiences: &[String]) -> ApiResult<Vec<String>> {
    let own = server.config.api_audiences.iter();
    let good_for: Vec<String> = own
        .filter(|audience| audiences.contains(audience))
        .cloned()
        .collect();
    if good_for.is_empty() {
        return Err(refuse(&"token without audiences shown to another audience"));
    }
    Ok(good_for)
}

async fn user_of_bootstrap_token(
    server: &ApiServer,
    token: &BootstrapToken<'_>,
    now: i64,
) -> ApiResult<User> {
    server.world.wait_loaded().await?;
    let namespace = bootstrap_token::NAMESPACE;
    let secret = server
        .world
        .get("", "secrets", namespace, &token.secret_name())
        .map(|entry| entry.object())
        .filter(|secret| secret.deletion_timestamp().is_none())
        .ok_or_else(|| refuse(&"bootstrap token without a secret"))?;
    let text = |key: &str| secret.value().get(key).and_then(Value::as_str);
    let data = secret.value().get("data").and_then(Value::as_object);
    let data = data.into_iter().flatten();
    let data = data.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    token
        .user(text("type").unwrap_or_default(), &data.collect(), now)
        .map_err(|error| refuse(&error))
}

/// Applies `Impersonate-*` headers: every part of the wanted identity is a right of its own.
pub(crate) async fn impersonate(
    server: &ApiServer,
    user: User,
    headers: &HeaderMap,
) -> ApiResult<User> {
    let unreadable = headers
        .iter()
        .any(|(name, value)| name.as_str().starts_with("impersonate-") && value.to_str().is_err());
    if unreadable {
        // Ignoring it would run the request as the user who wanted to be somebody lesser.
        return Err(ApiError::bad_request(
            "an Impersonate header is not readable text",
        ));
    }
    let pairs = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let Some(wanted) = impersonation::from_headers(pairs).map_err(ApiError::internal)? else {
        return Ok(user);
    };
    // A policy that is not loaded denies what it will allow; administrators need none.
    if !user.in_group(GROUP_MASTERS) {
        server.world.wait_loaded().await?;
    }
    for check in wanted.checks() {
        server.authorizer.require(&user, &check)?;
    }
    Ok(wanted.into_user())
}

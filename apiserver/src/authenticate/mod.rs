//! Who is asking: a trusted user from inside the process, somebody whom a front proxy names, a client certificate, a bearer
//! token, or nobody. In this order; one that fails does not keep the others from being asked.
//!
//! - `request_header`: names in headers, from proxies that are trusted
//! - `secret_token`: tokens that live in Secrets
//! - `token_webhook`: tokens that a webhook knows

mod request_header;
mod secret_token;
mod token_webhook;

use std::sync::Arc;

use auth::bearer::{self, WebSocketToken};
use auth::bootstrap_token::{self, BootstrapToken};
use auth::impersonation::{Impersonation, Mode};
use auth::static_tokens::StaticTokens;
use auth::token::{self, Error};
use auth::user::GROUP_MASTERS;
use auth::{Attributes, Forbidden, User, impersonation};
use http::{Extensions, HeaderMap, header};
use kv::mutants::{Bug, planted};
use serde_json::Value;
use tokio::time::Instant;

use crate::ApiServer;
use crate::authorize;
use crate::binding_batch;
use crate::client_certificate::{PeerCertificate, Trust};
use crate::config::Config;
use crate::held::Held;
use crate::oidc::config::Anonymous;
use crate::oidc::{self, Issuers};
use crate::status::{ApiError, ApiResult};
use crate::world::World;
use request_header::RequestHeader;
pub use request_header::RequestHeaderConfig;
pub(crate) use token_webhook::TokenWebhook;

pub(crate) struct Authenticator {
    trust: Held<Trust>,
    request_header: Held<Option<RequestHeader>>,
    static_tokens: Held<StaticTokens>,
    from_file: Held<FromFile>,
    /// What holds for anonymous requests where the file does not say it.
    anonymous: bool,
    webhook: Held<Option<TokenWebhook>>,
}

/// What the file of `--authentication-config` says.
struct FromFile {
    issuers: Issuers,
    anonymous: Anonymous,
}

impl Authenticator {
    pub(crate) fn new(config: &Config) -> Authenticator {
        let request_header = config.request_header.as_ref().and_then(|config| {
            let made = RequestHeader::new(config);
            if let Err(error) = &made {
                tracing::error!(error, "no front proxy is trusted");
            }
            made.ok()
        });
        Authenticator {
            trust: Held::new(Trust::new(&config.ca_pem)),
            request_header: Held::new(request_header),
            static_tokens: Held::new(config.static_tokens.clone()),
            from_file: Held::new(FromFile {
                issuers: Issuers::default(),
                anonymous: Anonymous::of(config.anonymous),
            }),
            anonymous: config.anonymous,
            webhook: Held::default(),
        }
    }

    pub(crate) fn trust_clients_of(&self, ca_pem: &str) -> Result<(), String> {
        self.trust.set(Trust::of(ca_pem)?);
        Ok(())
    }

    pub(crate) fn trust_front_proxies(&self, config: &RequestHeaderConfig) -> Result<(), String> {
        self.request_header.set(Some(RequestHeader::new(config)?));
        Ok(())
    }

    pub(crate) fn take_tokens(&self, tokens: StaticTokens) {
        self.static_tokens.set(tokens);
    }

    /// Takes the text of an AuthenticationConfiguration.
    pub(crate) fn take_file(
        &self,
        text: &str,
        world: &Arc<World>,
        own_issuers: &[String],
    ) -> Result<(), String> {
        let settings = oidc::config::parse(text, own_issuers)?;
        self.from_file.set(FromFile {
            issuers: Issuers::new(world, settings.issuers),
            anonymous: settings
                .anonymous
                .unwrap_or_else(|| Anonymous::of(self.anonymous)),
        });
        Ok(())
    }

    pub(crate) fn take_webhook(&self, webhook: TokenWebhook) {
        self.webhook.set(Some(webhook));
    }

    /// The user of a request for this path. A certificate or token that is present but wrong is 401, never anonymous.
    pub(crate) async fn authenticate(
        &self,
        server: &ApiServer,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
        now: i64,
    ) -> ApiResult<Arc<User>> {
        if let Some(user) = extensions.get::<Arc<User>>() {
            return Ok(user.clone());
        }
        if let Some(user) = extensions.get::<User>() {
            return Ok(Arc::new(user.clone()));
        }
        let mut refused = false;
        if let Some(peer) = extensions.get::<PeerCertificate>() {
            match self.user_of_certificate(peer, headers, now) {
                Ok(user) => {
                    if let Some(until) = peer.valid_until() {
                        server.metrics.calls.certified(until - now);
                    }
                    return Ok(user);
                }
                // A good token next to it still counts.
                Err(_) => refused = true,
            }
        }
        match token_of(headers)? {
            Some(token) => {
                let audiences = &server.config.api_audiences;
                // Whoever comes with a certificate needs no room for it.
                let found = Box::pin(user_of_token(server, &token, audiences, now)).await;
                found.map(|(user, _)| Arc::new(user))
            }
            None if refused => Err(ApiError::unauthorized()),
            None if self.from_file.get().anonymous.may_ask(path) => Ok(Arc::new(User::anonymous())),
            None => Err(ApiError::unauthorized()),
        }
    }

    /// A front proxy names the user; anybody else's certificate is the user's own.
    fn user_of_certificate(
        &self,
        peer: &PeerCertificate,
        headers: &HeaderMap,
        now: i64,
    ) -> ApiResult<Arc<User>> {
        if let Some(proxy) = self.request_header.get().as_ref() {
            match proxy.user(peer, headers, now) {
                Ok(Some(user)) => return Ok(Arc::new(user.authenticated())),
                Ok(None) => {}
                Err(error) => tracing::debug!(error, "not a front proxy"),
            }
        }
        // Time is checked with every request, since a connection may outlive its certificate.
        let trust = self.trust.get();
        trust.user(peer, now).map_err(|error| refuse(&error))
    }

    /// Takes from the headers what nothing behind this server may see; see [`request_header::strip`].
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        request_header::strip(headers, self.request_header.get().as_ref().as_ref());
    }
}

/// The bearer token of a request.
fn token_of(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let mut token = None;
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
        // Another scheme, or one without a token, is nothing that is asked for here: as in Kubernetes nobody looks at it.
        token = bearer::from_header(text).map(str::to_owned);
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
    Ok(token)
}

fn refuse(error: &dyn std::fmt::Display) -> ApiError {
    tracing::info!(%error, "authentication failed");
    ApiError::unauthorized()
}

/// The user behind a token, and the audiences that it is good for. Whoever knows the token is asked in Kubernetes' order:
/// the static ones, service accounts, bootstrap tokens, other issuers, the webhook.
pub(crate) async fn user_of_token(
    server: &ApiServer,
    token: &str,
    audiences: &[String],
    now: i64,
) -> ApiResult<(User, Vec<String>)> {
    if token.len() > auth::jwt::TOKEN_BYTES_MAX {
        return Err(refuse(&auth::jwt::Error::TooLong));
    }
    let authenticator = &server.authenticator;
    if let Some(user) = authenticator.static_tokens.get().authenticate(token) {
        return Ok((user.authenticated(), meant_for_us(server, audiences)?));
    }
    let mut refusal = match BootstrapToken::parse(token) {
        Some(token) => match user_of_bootstrap_token(server, &token, now).await {
            Ok(user) => return Ok((user.authenticated(), meant_for_us(server, audiences)?)),
            Err(error) => error,
        },
        None => match user_of_account_token(server, token, audiences, now).await {
            Ok(identity) => return Ok(identity),
            Err(error) => error,
        },
    };
    let from_file = authenticator.from_file.get();
    match from_file.issuers.authenticate(token, now).await {
        Some(Ok(user)) => return Ok((user.authenticated(), meant_for_us(server, audiences)?)),
        Some(Err(error)) => refusal = refuse(&error),
        None => {}
    }
    if let Some(webhook) = authenticator.webhook.get().as_ref() {
        let own = &server.config.api_audiences;
        match webhook.authenticate(token, audiences, own).await {
            Ok(Some((user, good_for))) => return Ok((user.authenticated(), good_for)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error, "the token webhook cannot tell whose a token is");
                refusal = ApiError::unauthorized();
            }
        }
    }
    Err(refusal)
}

/// A service account's token.
async fn user_of_account_token(
    server: &ApiServer,
    token: &str,
    audiences: &[String],
    now: i64,
) -> ApiResult<(User, Vec<String>)> {
    let keys = server.account_tokens.now();
    let verified = keys.verifier.verify(token, audiences, now);
    let claims = match verified {
        Ok(claims) => claims,
        Err(_) if !keys.verifier.may_be_ours(token) && token::may_be_of_secret(token) => {
            return Box::pin(secret_token::user_of(server, token, audiences, now)).await;
        }
        // Somebody else may know it, and says why not.
        Err(_) if !keys.verifier.may_be_ours(token) => {
            tracing::debug!("a token that is not of a service account");
            return Err(ApiError::unauthorized());
        }
        Err(error) => return Err(refuse(&error)),
    };
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
        if !is_so(server, alive).await? {
            return Err(refuse(&format!(
                "token bound to {resource} {namespace}/{} that is gone",
                reference.name
            )));
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

/// Whether the caches show that something is so, if not now then when they show all that was acknowledged before: a fresh
/// token may name what this member has not seen yet.
async fn is_so(server: &ApiServer, shown: impl Fn() -> bool + Send) -> ApiResult<bool> {
    if shown() {
        return Ok(true);
    }
    let caught_up = server.world.wait_most_recent(&*server.store);
    let in_time =
        tokio::time::timeout_at(Instant::now() + crate::world::REVISION_WAIT, caught_up).await;
    if !matches!(in_time, Ok(Ok(_))) {
        // Not the token's fault: clients that hear 401 give up.
        return Err(ApiError::unavailable(
            "the server cannot check the token now, please try again later",
        ));
    }
    Ok(shown())
}

/// Why a token of a service account is refused, where its owner may know.
pub(crate) fn refusal_of(
    server: &ApiServer,
    token: &str,
    audiences: &[String],
    now: i64,
) -> Option<String> {
    let keys = server.account_tokens.now();
    match keys.verifier.verify(token, audiences, now) {
        Err(error @ (Error::Audience { .. } | Error::Expired | Error::NotYetValid)) => {
            Some(error.to_string())
        }
        Err(_) => None,
        Ok(_) => Some("service account token has been invalidated".to_owned()),
    }
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

/// As whom `Impersonate-*` headers want `asked` done, and in which mode the user may; none without such headers. 400 where
/// they make no sense; where no mode will do, the refusal of the first that was tried.
pub(crate) async fn impersonate(
    server: &ApiServer,
    user: &User,
    headers: &HeaderMap,
    asked: &Attributes<'_>,
) -> ApiResult<Option<(Arc<User>, Mode)>> {
    // Their names are in lower case. Nearly no request has any.
    let said = || {
        let all = headers.iter();
        all.filter(|(name, _)| name.as_str().starts_with("impersonate-"))
    };
    if said().any(|(_, value)| value.to_str().is_err()) {
        // Ignoring it would run the request as the user who wanted to be somebody lesser.
        return Err(ApiError::bad_request(
            "an Impersonate header is not readable text",
        ));
    }
    let pairs = said().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let wanted = impersonation::from_headers(pairs)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    // A policy that is not loaded denies what it will allow; administrators need none.
    if !user.in_group(GROUP_MASTERS) {
        server.world.wait_loaded().await?;
    }
    // Each item of a batch is a request of its own, of which no bound is asked.
    let is_batch = asked.path == binding_batch::PATH;
    let mut refused = None;
    for mode in Mode::ALL {
        let is_bounded = mode.constraint().is_some();
        if !mode.applies(&wanted, user) || (is_batch && is_bounded) {
            continue;
        }
        // Boxed, for nearly no request needs the room.
        let allowed = Box::pin(allow(server, user, &wanted, mode, asked)).await;
        match allowed {
            Ok(()) => return Ok(Some((Arc::new(wanted.into_user(mode)), mode))),
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    Err(refused.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
}

/// Whether the user may do what is asked for as somebody else in this mode: the identity's every part is a right of its own.
async fn allow(
    server: &ApiServer,
    user: &User,
    wanted: &Impersonation,
    mode: Mode,
    asked: &Attributes<'_>,
) -> ApiResult<()> {
    let asking = mode.asking(user);
    if let Some(verb) = mode.verb_on(asked.verb) {
        let mut on: Attributes<'_> = *asked;
        on.verb = &verb;
        server.authorizer.require(&asking, &on).await?;
    }
    let mut checks = wanted.checks(mode).into_iter();
    while let Some(check) = checks.next() {
        if !check.refusal.is_empty() {
            let forbidden = Forbidden::by_authorizer(&asking, &check.attributes, &check.refusal);
            return Err(authorize::refusal(forbidden));
        }
        let allowed = server.authorizer.require(&asking, &check.attributes).await;
        match check.spares {
            0 => allowed?,
            _ if allowed.is_err() => {}
            spares => {
                checks.nth(spares - 1);
            }
        }
    }
    Ok(())
}

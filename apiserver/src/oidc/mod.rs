//! Tokens of other issuers (OpenID Connect), by `--authentication-config`.
//!
//! - `config`: the file, its validation, and what it compiles to
//! - `claims`: from claims to a user
//! - `keys`: the issuers' public keys

pub(crate) mod claims;
pub(crate) mod config;
pub(crate) mod keys;

use std::sync::Arc;

use auth::User;
use auth::jwt::Token;

use crate::world::World;
use config::IssuerSettings;
use keys::IssuerKeys;

/// A token may be used so much before the time that it says: clocks differ. It is not used after its end.
const LEEWAY_SECONDS: i64 = 300;

/// An issuer whose tokens name users.
pub(crate) struct Issuer {
    settings: IssuerSettings,
    keys: Arc<IssuerKeys>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Issuers(Vec<Issuer>);

impl Issuers {
    pub(crate) fn new(world: &Arc<World>, settings: Vec<IssuerSettings>) -> Issuers {
        let issuers = settings.into_iter().map(|settings| Issuer {
            keys: IssuerKeys::new(
                world.clone(),
                &settings.url,
                &settings.discovery_url,
                &settings.ca_pem,
            ),
            settings,
        });
        Issuers(issuers.collect())
    }

    /// The user of a token; none where it claims to be of nobody here, an error where it proves nothing.
    pub(crate) async fn authenticate(&self, token: &str, now: i64) -> Option<Result<User, String>> {
        if self.0.is_empty() {
            return None;
        }
        let token = Token::parse(token).ok()?;
        let issuer = self
            .0
            .iter()
            .find(|issuer| issuer.settings.url == token.issuer())?;
        Some(issuer.user(&token, now).await)
    }
}

impl Issuer {
    async fn user(&self, token: &Token<'_>, now: i64) -> Result<User, String> {
        // What costs nothing comes first: a token that could not be used anyway makes no work.
        check_audience(token, &self.settings.audiences)?;
        check_time(token, now)?;
        self.keys.verify(token).await?;
        self.settings.mapping.user(&claims::object(&token.claims))
    }
}

fn check_audience(token: &Token<'_>, audiences: &[String]) -> Result<(), String> {
    let of_token = token.audiences();
    match of_token
        .iter()
        .any(|one| audiences.iter().any(|own| own == one))
    {
        true => Ok(()),
        false => Err(format!(
            "oidc: expected audience in {audiences:?} got {of_token:?}"
        )),
    }
}

fn check_time(token: &Token<'_>, now: i64) -> Result<(), String> {
    let end = token.time("exp").ok_or("oidc: the token has no expiry")?;
    if now > end {
        return Err(format!("oidc: token is expired (Token Expiry: {end})"));
    }
    match token.time("nbf") {
        Some(start) if now.saturating_add(LEEWAY_SECONDS) < start => Err(format!(
            "oidc: current time {now} before the nbf (not before) time: {start}"
        )),
        _ => Ok(()),
    }
}

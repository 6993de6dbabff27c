//! Secrets that hold a token of a service account (`kubernetes.io/service-account-token`). In Kubernetes a controller puts the
//! token in; only the API server has the key here, so it does that itself with the write. A controller does the rest: the
//! authority's certificate, and the end of Secrets whose account is gone.

use auth::token::{Reference, SecretClaims};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use resources::Resource;
use schema::Object;

use crate::ApiServer;
use crate::context::Context;
use crate::status::{ApiError, ApiResult};
use crate::write::{Extra, Step};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The day on which the token was last shown to a server.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The ConfigMap in `kube-system` that says since when that is written down.
pub(crate) const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// Kubernetes' cleaner puts it on Secrets whose tokens count no more.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Puts a token, the account's uid and the namespace into a Secret that is to have them and has not. Says whether it has put
/// a token in. Where there is no such account, or another one of its name, nothing is put in.
pub(crate) async fn fill(
    context: &Context,
    resource: &Resource,
    secret: &mut Object,
) -> ApiResult<bool> {
    let is_secret = resource.group.is_empty() && resource.plural == "secrets";
    if !is_secret || !is_wanting(secret) {
        return Ok(false);
    }
    let server = &context.server;
    server.world.wait_loaded().await?;
    // An account of that name that was there before would make a token for nobody.
    server.world.wait_most_recent(&*server.store).await?;
    let name = secret.annotation(ACCOUNT).unwrap_or_default().to_owned();
    let account = server
        .world
        .get("", "serviceaccounts", secret.namespace(), &name);
    let Some(uid) = account.map(|entry| entry.object().uid().to_owned()) else {
        return Ok(false);
    };
    let known = secret.annotation(ACCOUNT_UID).unwrap_or_default();
    if !known.is_empty() && known != uid {
        return Ok(false);
    }
    let account = Reference { name, uid };
    let claims = SecretClaims::new(secret.namespace(), secret.name(), &account);
    let keys = server.account_tokens.now();
    let token = keys.signer.issue_for_secret(&claims);
    complete(secret, &account.uid, &token.map_err(ApiError::internal)?);
    Ok(true)
}

/// Takes the token out again, since the Secret gets another name.
pub(crate) fn empty(secret: &mut Object) {
    secret.remove(&["data", "token"]);
}

fn is_wanting(secret: &Object) -> bool {
    let is_named = secret
        .annotation(ACCOUNT)
        .is_some_and(|name| !name.is_empty());
    secret.get_str(&["type"]) == Some(TYPE)
        && is_named
        && secret.deletion_timestamp().is_none()
        && text(secret, "token").is_empty()
}

fn text<'a>(secret: &'a Object, key: &str) -> &'a str {
    secret.get_str(&["data", key]).unwrap_or_default()
}

fn complete(secret: &mut Object, account_uid: &str, token: &str) {
    secret.set_annotation(ACCOUNT_UID, account_uid);
    secret.set(&["data", "token"], STANDARD.encode(token));
    if text(secret, "namespace").is_empty() {
        let namespace = STANDARD.encode(secret.namespace());
        secret.set(&["data", "namespace"], namespace);
    }
}

/// Whether the Secret still stands behind the token.
pub(crate) fn holds(secret: &Object, token: &str) -> bool {
    secret.deletion_timestamp().is_none()
        && secret.label(INVALID_SINCE).is_none_or(str::is_empty)
        && STANDARD
            .decode(text(secret, "token"))
            .is_ok_and(|held| held == token.as_bytes())
}

/// The day of a time, in UTC: `2026-01-31`.
pub(crate) fn day(unix_seconds: i64) -> String {
    let mut time = schema::time::now_rfc3339(unix_seconds);
    time.truncate(time.find('T').unwrap_or(time.len()));
    time
}

/// Writes down on the Secret that its token was used today, as far as that is possible: the token counts all the same.
pub(crate) async fn note_use(server: &ApiServer, claims: &SecretClaims, now: i64) {
    let today = day(now);
    let (namespace, name) = (claims.namespace.as_str(), claims.secret.as_str());
    let entry = server.world.get("", "secrets", namespace, name);
    if entry.is_none_or(|entry| entry.object().label(LAST_USED) == Some(&*today)) {
        return;
    }
    let Some(resource) = resources::find("", "v1", "secrets") else {
        return;
    };
    let mut decide = |old: &Object| {
        let mut new = old.clone();
        new.set_label(LAST_USED, &today);
        Ok(match new == *old {
            true => Step::Keep(new),
            false => Step::Write(new, Extra::default()),
        })
    };
    let written = server.change(resource, namespace, name, false, &mut decide);
    match tokio::time::timeout(crate::world::REVISION_WAIT, written).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::debug!(
                message = error.message,
                "the use of a token is not written down"
            );
        }
        Err(_) => tracing::debug!("the use of a token is not written down in time"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret() -> Object {
        let annotations = json!({ACCOUNT: "bot"});
        let metadata = json!({"name": "t", "namespace": "ns", "annotations": annotations});
        Object::new(json!({"metadata": metadata, "type": TYPE})).unwrap()
    }

    #[test]
    fn a_day_is_a_label() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(1_800_000_000), "2027-01-15");
    }

    #[test]
    fn a_token_is_put_in_once() {
        let mut secret = secret();
        assert!(is_wanting(&secret) && !holds(&secret, "a.b.c"));
        complete(&mut secret, "bot-uid", "a.b.c");
        assert!(!is_wanting(&secret) && holds(&secret, "a.b.c"));
        assert_eq!(secret.annotation(ACCOUNT_UID), Some("bot-uid"));
        assert_eq!(text(&secret, "namespace"), STANDARD.encode("ns"));
        empty(&mut secret);
        assert!(is_wanting(&secret));
    }

    #[test]
    fn only_living_secrets_of_an_account_get_one() {
        let table: [fn(&mut Object); 4] = [
            |secret| secret.set(&["type"], "Opaque"),
            |secret| secret.set_annotation(ACCOUNT, ""),
            |secret| secret.set_deletion_timestamp(Some("2026-01-01T00:00:00Z")),
            |secret| secret.set(&["data", "token"], "eA=="),
        ];
        for (index, change) in table.iter().enumerate() {
            let mut secret = secret();
            change(&mut secret);
            assert!(!is_wanting(&secret), "{index}");
        }
    }

    #[test]
    fn a_token_is_good_while_its_secret_holds_it() {
        let table: [fn(&mut Object); 4] = [
            empty,
            |secret| secret.set(&["data", "token"], STANDARD.encode("another")),
            |secret| secret.set_label(INVALID_SINCE, "2026-01-01"),
            |secret| secret.set_deletion_timestamp(Some("2026-01-01T00:00:00Z")),
        ];
        for (index, change) in table.iter().enumerate() {
            let mut secret = secret();
            complete(&mut secret, "bot-uid", "a.b.c");
            change(&mut secret);
            assert!(!holds(&secret, "a.b.c"), "{index}");
        }
    }
}

//! Tokens of service accounts that live in Secrets. Nothing in them expires: they are as good as what their Secret holds.

use auth::User;
use schema::Object;

use super::{is_so, meant_for_us, refuse};
use crate::ApiServer;
use crate::account_secret;
use crate::status::ApiResult;

/// The owner of a token that lives in a Secret, which has to hold it still.
pub(super) async fn user_of(
    server: &ApiServer,
    token: &str,
    audiences: &[String],
    now: i64,
) -> ApiResult<(User, Vec<String>)> {
    let verified = server.account_tokens.now().verifier.verify_of_secret(token);
    let claims = verified.map_err(|error| refuse(&error))?;
    server.world.wait_loaded().await?;
    let object = |plural: &str, name: &str| -> Option<Object> {
        let entry = server.world.get("", plural, &claims.namespace, name);
        entry.map(|entry| entry.object())
    };
    let is_held = || {
        let secret = object("secrets", &claims.secret);
        let account = object("serviceaccounts", &claims.account);
        secret.is_some_and(|secret| account_secret::holds(&secret, token))
            && account.is_some_and(|account| {
                account.uid() == claims.account_uid && account.deletion_timestamp().is_none()
            })
    };
    if !is_so(server, is_held).await? {
        return Err(refuse(&"token has been invalidated"));
    }
    let good_for = meant_for_us(server, audiences)?;
    account_secret::note_use(server, &claims, now).await;
    Ok((claims.user(), good_for))
}

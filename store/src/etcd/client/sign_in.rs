//! Users with passwords: a token is got when it is needed, kept, and got anew when it is not taken any more.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::{Client, ClientError};
use crate::etcd::auth::{AuthenticateBody, AuthenticateRequest};
use crate::etcd::headed::Headed;

/// Name and password of a user of the store.
#[derive(Clone)]
pub struct Login {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Login");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Token {
    Unknown,
    /// Nobody is asked who he is.
    NotNeeded,
    Known(MetadataValue<Ascii>),
}

pub(super) struct SignIn {
    login: Login,
    token: Mutex<Token>,
}

impl SignIn {
    pub(super) fn new(login: Login) -> SignIn {
        SignIn {
            login,
            token: Mutex::new(Token::Unknown),
        }
    }

    fn token(&self) -> MutexGuard<'_, Token> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a refusal in etcd's words means that a token is missing or void.
fn is_about_token(text: &str) -> bool {
    const TEXTS: [&str; 3] = [
        "invalid auth token",
        "user name is empty",
        "revision of auth store is old",
    ];
    TEXTS.iter().any(|known| text.contains(known))
}

impl Client {
    /// A request that says who asks.
    pub(super) async fn signed<Q>(&self, message: Q) -> Result<Request<Q>, ClientError> {
        let mut request = Request::new(message);
        if let Some(sign_in) = &self.sign_in {
            let known = sign_in.token().clone();
            let token = match known {
                Token::Unknown => self.authenticate(sign_in).await?,
                known => known,
            };
            if let Token::Known(token) = token {
                request.metadata_mut().insert("token", token);
            }
        }
        Ok(request)
    }

    async fn authenticate(&self, sign_in: &SignIn) -> Result<Token, ClientError> {
        let request = AuthenticateRequest {
            name: sign_in.login.name.clone(),
            password: sign_in.login.password.clone(),
        };
        let path = "/etcdserverpb.Auth/Authenticate";
        let answer = self.call(path, Request::new(request)).await;
        let token = match answer {
            Ok(Headed { body, .. }) => {
                let AuthenticateBody { token } = body;
                let token = token.parse();
                Token::Known(token.map_err(|_| self.broken("its token cannot be sent"))?)
            }
            Err(ClientError::Refused { text, .. }) if text.contains("is not enabled") => {
                Token::NotNeeded
            }
            Err(error) => return Err(error),
        };
        *sign_in.token() = token.clone();
        Ok(token)
    }

    /// Whether a refusal is about the token alone, which is forgotten then.
    pub(super) fn has_to_sign_in(&self, refusal: &str) -> bool {
        let sign_in = self.sign_in.as_ref();
        let sign_in = sign_in.filter(|_| is_about_token(refusal));
        if let Some(sign_in) = sign_in {
            *sign_in.token() = Token::Unknown;
        }
        sign_in.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let login = Login {
            name: "root".into(),
            password: "secret".into(),
        };
        let shown = format!("{login:?}");
        assert!(shown.contains("root") && !shown.contains("secret"));
    }

    #[test]
    fn what_is_denied_is_not_tried_with_another_token() {
        assert!(is_about_token("invalid auth token"));
        assert!(!is_about_token("permission denied"));
    }
}

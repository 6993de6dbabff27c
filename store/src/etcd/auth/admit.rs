//! Who calls, and whether he may.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use kv::{KeyRange, Refusal, Right, User, Users};
use tonic::body::Body;

use super::token::Token;
use super::{Need, to_read_keys};
use crate::etcd::errors::Fault;
use crate::etcd::front::Front;
use crate::etcd::rpc::Call;
use crate::write::Allowed;

/// The name in the certificate that Kontiki makes itself, next to its authority's key. Whoever has it may administrate
/// without a password, so that nobody locks himself out; to touch keys it has to be a user like others.
const ADMIN: &str = "store-admin";

/// The name in the certificate of a connection's client.
#[derive(Clone, Debug)]
pub(in crate::etcd) struct ClientName(pub(in crate::etcd) Arc<str>);

/// What a call says of its sender.
#[derive(Clone, Default)]
pub(in crate::etcd) struct Credentials {
    token: Option<HeaderValue>,
    name: Option<ClientName>,
}

impl Credentials {
    pub(in crate::etcd) fn of(request: &http::Request<Body>) -> Credentials {
        let headers = request.headers();
        let token = headers
            .get("token")
            .or_else(|| headers.get("authorization"));
        Credentials {
            token: token.cloned(),
            name: request.extensions().get().cloned(),
        }
    }

    pub(in crate::etcd) fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
enum Caller {
    Nobody,
    /// By a token, for which a password was given when the user was of this generation.
    Token {
        user: String,
        generation: u64,
    },
    /// By a certificate, whether there is such a user or not.
    Named(Arc<str>),
}

impl Caller {
    /// As a user; `None` where there is none of this name.
    fn user<'a>(&self, users: &'a Users) -> Result<Option<&'a User>, Fault> {
        match self {
            Caller::Nobody => Err(Refusal::UserEmpty.into()),
            Caller::Named(name) => Ok(users.user(name)),
            Caller::Token { user, generation } => match users.user(user) {
                Some(user) if user.generation() == *generation => Ok(Some(user)),
                _ => Err(Fault::InvalidToken),
            },
        }
    }

    fn name(&self) -> &str {
        match self {
            Caller::Nobody => "",
            Caller::Named(name) => name,
            Caller::Token { user, .. } => user,
        }
    }
}

/// Whether this is so of all keys that a lease has, or that any has.
type AllLeased<'a> = &'a dyn Fn(Option<i64>, &dyn Fn(&Bytes) -> bool) -> bool;

/// Whether the caller may.
fn check(users: &Users, caller: &Caller, need: &Need, all: AllLeased<'_>) -> Result<(), Fault> {
    let user = caller.user(users)?;
    let is_root = user.is_some_and(User::is_root);
    let may = |right: Right, range: &KeyRange| match user {
        Some(user) if user.may(right, range) => Ok(()),
        _ => Err(Refusal::PermissionDenied.into()),
    };
    let may_all = |right: Right, lease: Option<i64>| {
        let may_one = |key: &Bytes| may(right, &KeyRange::One(key.clone())).is_ok();
        match is_root || all(lease, &may_one) {
            true => Ok(()),
            false => Err(Refusal::PermissionDenied.into()),
        }
    };
    let root = || match user {
        _ if is_root || *caller == Caller::Named(ADMIN.into()) => Ok(()),
        Some(_) => Err(Refusal::PermissionDenied.into()),
        None => Err(Refusal::UserNotFound.into()),
    };
    match need {
        Need::User => Ok(()),
        Need::Root | Need::LookAtAll => root(),
        Need::Read(range) => may(Right::Read, range),
        Need::Write(range) => may(Right::Write, range),
        Need::WriteLeases => Ok(()),
        Need::RenewLease(lease) => may_all(Right::Write, Some(*lease)),
        Need::ReadLeases => may_all(Right::Read, None),
        Need::LookAtUser(name) if user.is_some() && caller.name() == name => Ok(()),
        Need::LookAtRole(name) if user.is_some_and(|user| user.roles().contains(name)) => Ok(()),
        Need::LookAtUser(_) | Need::LookAtRole(_) => root(),
    }
}

/// That a request was found to be allowed, and under which users and roles.
pub(in crate::etcd) struct Guard {
    front: Arc<Front>,
    credentials: Credentials,
    /// `None` while nobody is asked who he is.
    caller: Option<Caller>,
    needs: Vec<Need>,
    revision: u64,
}

impl Guard {
    /// What is written under it.
    pub(in crate::etcd) fn allowed(&self) -> Allowed {
        let names_leases = self.needs.contains(&Need::WriteLeases);
        let caller = self.caller.as_ref().filter(|_| names_leases);
        Allowed {
            auth_revision: self.revision,
            lease_user: caller.map_or("", Caller::name).into(),
        }
    }

    pub(in crate::etcd) fn is_to_read(&self) -> bool {
        self.needs.iter().all(Need::is_to_read)
    }

    /// Whether it is allowed still. Costs next to nothing as long as users and roles have not changed.
    pub(in crate::etcd) fn still(&mut self) -> Result<(), Fault> {
        if self.front.backend.auth_revision() == self.revision {
            return Ok(());
        }
        let users = self.front.users()?;
        self.ask(&users)
    }

    fn ask(&mut self, users: &Users) -> Result<(), Fault> {
        self.revision = users.revision();
        if !users.enabled() || self.needs.is_empty() {
            return Ok(());
        }
        let caller = match self.caller.take() {
            Some(caller) => caller,
            None => self.front.caller(users, &self.credentials)?,
        };
        let caller = self.caller.insert(caller);
        let front = &self.front;
        let all =
            |lease: Option<i64>, is_so: &dyn Fn(&Bytes) -> bool| front.all_leased(lease, is_so);
        self.needs
            .iter()
            .try_for_each(|need| check(users, caller, need, &all))
    }
}

impl Call {
    /// Asks whether the sender may; what it may is what every member has acknowledged, not just this one.
    pub(in crate::etcd) async fn admit(&self, needs: Vec<Need>) -> Result<Guard, Fault> {
        let front = &self.front;
        let mut users = front.users()?;
        let of_leases = |need: &Need| matches!(need, Need::RenewLease(_) | Need::ReadLeases);
        if users.enabled() && needs.iter().any(of_leases) {
            // Which keys a lease has is known here as far as this member has got.
            users = front.users_now().await?;
        }
        let mut guard = Guard {
            front: front.clone(),
            credentials: self.credentials.clone(),
            caller: None,
            needs,
            revision: users.revision(),
        };
        match guard.ask(&users) {
            // The token may be of a user that this member has yet to hear of.
            Err(Fault::InvalidToken) => {
                users = front.users_now().await?;
                guard.ask(&users)?;
            }
            asked => asked?,
        }
        Ok(guard)
    }

    /// Whether the sender may read keys that an answer names.
    pub(in crate::etcd) async fn may_read(&self, keys: &[Bytes]) -> Result<(), Fault> {
        if self.front.users()?.enabled() {
            self.admit(to_read_keys(keys)).await?;
        }
        Ok(())
    }
}

impl Front {
    /// A token counts before a certificate.
    fn caller(&self, users: &Users, credentials: &Credentials) -> Result<Caller, Fault> {
        let Some(text) = &credentials.token else {
            let name = credentials.name.as_ref();
            let name = name.filter(|name| !name.0.is_empty());
            return Ok(name.map_or(Caller::Nobody, |name| Caller::Named(name.0.clone())));
        };
        let opened = Token::open(users.token_key(), text.as_bytes());
        let (token, signature) = opened.ok_or(Fault::InvalidToken)?;
        let now_s = self.backend.unix_s();
        let sessions = self.auth.sessions.lock();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        match sessions.renew(&token, signature, now_s) {
            true => Ok(Caller::Token {
                user: token.user,
                generation: token.generation,
            }),
            false => Err(Fault::InvalidToken),
        }
    }

    /// See [`AllLeased`].
    fn all_leased(&self, lease: Option<i64>, is_so: &dyn Fn(&Bytes) -> bool) -> bool {
        let mut all = true;
        self.backend.with_catalog(&mut |catalog| {
            all = match lease {
                Some(id) => catalog
                    .lease(id)
                    .is_none_or(|lease| lease.keys.iter().all(is_so)),
                None => catalog.leases().all(|lease| lease.keys.iter().all(is_so)),
            };
        });
        all
    }

    /// Who says that he calls, by a token that was given out here once, whether it is still good or not.
    pub(in crate::etcd) fn claimed_user(&self, request: &http::Request<Body>) -> Option<String> {
        let token = Credentials::of(request).token?;
        let users = self.users().ok().filter(|users| users.enabled())?;
        let (token, _) = Token::open(users.token_key(), token.as_bytes())?;
        Some(token.user)
    }
}

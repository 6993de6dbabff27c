//! etcd's Auth service, and who may do what: users and roles are replicated records of `kv`, and this asks them.
//!
//! Every method names, in [`super::methods`], a function from its request to what it needs (`needs.rs`); the shapes of
//! [`super::rpc`] have it asked (`admit.rs`) before the method runs, so none can forget. A write is carried out under the
//! revision of users and roles at which it was asked, or refused and asked again; a read is asked again after it, where
//! they have changed meanwhile. So what a user may not do any more is not done on a member that has yet to hear of it.
//!
//! Who calls is known by a token (`token.rs`), which a password buys (`password.rs`), or by the name in the client's
//! certificate. Calls from inside the process do not come by here: they are not asked.

mod admit;
mod message;
mod needs;
mod password;
mod token;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use kv::{AuthChange, Refusal, Users};
use rand::RngExt;

pub(super) use admit::{ClientName, Credentials, Guard};
pub(super) use message::*;
pub(super) use needs::*;

use self::password::Hashing;
use self::token::{Sessions, Token};
use crate::host;

use super::errors::Fault;
use super::front::Front;
use super::headed::Headed;
use super::message::Empty;
use super::rpc::Call;

/// What of users and roles stays in memory.
pub(super) struct State {
    users: RwLock<Arc<Users>>,
    sessions: Mutex<Sessions>,
    hashing: Hashing,
}

impl State {
    pub(super) fn new(bcrypt_cost: u32) -> State {
        State {
            users: RwLock::default(),
            sessions: Mutex::default(),
            hashing: Hashing::new(bcrypt_cost),
        }
    }
}

impl Front {
    /// Users and roles as this member has them now.
    pub(super) fn users(&self) -> Result<Arc<Users>, Fault> {
        let revision = self.backend.auth_revision();
        {
            let known = self.auth.users.read();
            let known = known.unwrap_or_else(PoisonError::into_inner);
            if known.revision() == revision {
                return Ok(known.clone());
            }
        }
        let mut found = None;
        let look = &mut |catalog: &kv::Catalog| found = Some(Users::of_catalog(catalog));
        self.backend.with_catalog(look);
        let users = match found {
            Some(Ok(users)) => Arc::new(users),
            Some(Err(broken)) => return Err(Fault::Internal(broken.to_string())),
            None => return Err(Fault::Internal("there is no catalog".into())),
        };
        let known = self.auth.users.write();
        *known.unwrap_or_else(PoisonError::into_inner) = users.clone();
        Ok(users)
    }

    /// Users and roles with all that was acknowledged anywhere.
    async fn users_now(&self) -> Result<Arc<Users>, Fault> {
        self.backend.read_index().await?;
        self.users()
    }
}

pub(super) async fn enable(call: Call, _: Empty) -> Result<Headed<Empty>, Fault> {
    let token_key: [u8; 32] = host::rng().random();
    let token_key = Bytes::copy_from_slice(&token_key);
    change(call, AuthChange::Enable(kv::AuthEnable { token_key })).await
}

pub(super) async fn disable(call: Call, _: Empty) -> Result<Headed<Empty>, Fault> {
    change(call, AuthChange::Disable(kv::AuthDisable {})).await
}

/// Answered to everybody: a client has to know whether it needs a password.
pub(super) async fn status(call: Call, _: Empty) -> Result<Headed<AuthStatusBody>, Fault> {
    let users = call.front.users_now().await?;
    Ok(call.front.now(AuthStatusBody {
        enabled: users.enabled(),
        auth_revision: users.revision(),
    }))
}

/// A token for a password. That takes the same time whether the user is there or not.
pub(super) async fn authenticate(
    call: Call,
    request: AuthenticateRequest,
) -> Result<Headed<AuthenticateBody>, Fault> {
    let front = &call.front;
    let users = front.users_now().await?;
    if !users.enabled() {
        return Err(Fault::AuthNotEnabled);
    }
    let user = users.user(&request.name);
    let hash = user.and_then(|user| user.password_hash());
    let hashing = &front.auth.hashing;
    let matches = hashing.verify(&front.tasks, request.password, hash).await?;
    match user {
        Some(user) if user.no_password() => Err(Fault::NoPasswordUser),
        Some(user) if matches => {
            let token = Token {
                user: request.name,
                generation: user.generation(),
                issued_s: front.backend.unix_s(),
                salt: host::rng().random(),
            };
            let token = token.signed(users.token_key());
            Ok(front.now(AuthenticateBody { token }))
        }
        _ => {
            tracing::warn!(user = request.name, "a wrong user or password");
            Err(Fault::AuthFailed)
        }
    }
}

pub(super) async fn user_add(call: Call, request: UserAddRequest) -> Result<Headed<Empty>, Fault> {
    if request.name.is_empty() {
        return Err(Refusal::UserEmpty.into());
    }
    let no_password = request.options.is_some_and(|options| options.no_password);
    let password_hash = match no_password {
        true => Bytes::new(),
        false => hash_of(&call, request.password, &request.hashed_password, true).await?,
    };
    let added = kv::UserAdd {
        name: request.name,
        password_hash,
        no_password,
    };
    change(call, AuthChange::UserAdd(added)).await
}

pub(super) async fn user_change_password(
    call: Call,
    request: UserChangePasswordRequest,
) -> Result<Headed<Empty>, Fault> {
    let password_hash = hash_of(&call, request.password, &request.hashed_password, false).await?;
    let changed = kv::UserPassword {
        name: request.name,
        password_hash,
    };
    change(call, AuthChange::UserPassword(changed)).await
}

/// The hash to store: of the password, or the one that the client has computed itself. Without either a new user has
/// the empty password, and an old one none that opens.
async fn hash_of(
    call: &Call,
    password: String,
    hashed: &str,
    is_new: bool,
) -> Result<Bytes, Fault> {
    if !hashed.is_empty() && password.is_empty() {
        let hash = BASE64_STANDARD.decode(hashed).ok();
        let hash = hash.filter(|hash| password::is_hash(hash));
        return hash.map(Bytes::from).ok_or(Fault::NoPasswordUser);
    }
    if password.is_empty() && !is_new {
        return Ok(Bytes::new());
    }
    let front = &call.front;
    let hash = front.auth.hashing.hash(&front.tasks, password).await?;
    Ok(hash.into())
}

pub(super) async fn user_get(
    call: Call,
    request: NameRequest,
) -> Result<Headed<UserGetBody>, Fault> {
    let users = call.front.users_now().await?;
    let user = users.user(&request.name).ok_or(Refusal::UserNotFound)?;
    let roles = user.roles().to_vec();
    Ok(call.front.now(UserGetBody { roles }))
}

pub(super) async fn user_list(call: Call, _: Empty) -> Result<Headed<NamesBody>, Fault> {
    let users = call.front.users_now().await?;
    let names = users.user_names().map(String::from).collect();
    Ok(call.front.now(NamesBody { names }))
}

pub(super) async fn user_delete(call: Call, request: NameRequest) -> Result<Headed<Empty>, Fault> {
    change(call, AuthChange::UserDelete(named(request))).await
}

pub(super) async fn user_grant_role(
    call: Call,
    request: UserRoleRequest,
) -> Result<Headed<Empty>, Fault> {
    change(call, AuthChange::UserGrantRole(user_role(request))).await
}

pub(super) async fn user_revoke_role(
    call: Call,
    request: UserRoleRequest,
) -> Result<Headed<Empty>, Fault> {
    change(call, AuthChange::UserRevokeRole(user_role(request))).await
}

pub(super) async fn role_add(call: Call, request: NameRequest) -> Result<Headed<Empty>, Fault> {
    change(call, AuthChange::RoleAdd(named(request))).await
}

pub(super) async fn role_get(
    call: Call,
    request: NameRequest,
) -> Result<Headed<RoleGetBody>, Fault> {
    let users = call.front.users_now().await?;
    let permissions = users.role(&request.name).ok_or(Refusal::RoleNotFound)?;
    Ok(call.front.now(RoleGetBody { permissions }))
}

pub(super) async fn role_list(call: Call, _: Empty) -> Result<Headed<NamesBody>, Fault> {
    let users = call.front.users_now().await?;
    let names = users.role_names().map(String::from).collect();
    Ok(call.front.now(NamesBody { names }))
}

pub(super) async fn role_delete(call: Call, request: NameRequest) -> Result<Headed<Empty>, Fault> {
    change(call, AuthChange::RoleDelete(named(request))).await
}

pub(super) async fn role_grant_permission(
    call: Call,
    request: RoleGrantRequest,
) -> Result<Headed<Empty>, Fault> {
    let grant = kv::RoleGrant {
        role: request.name,
        permission: request.permission,
    };
    change(call, AuthChange::RoleGrant(grant)).await
}

pub(super) async fn role_revoke_permission(
    call: Call,
    request: kv::RoleRevoke,
) -> Result<Headed<Empty>, Fault> {
    change(call, AuthChange::RoleRevoke(request)).await
}

fn named(request: NameRequest) -> kv::Named {
    kv::Named { name: request.name }
}

fn user_role(request: UserRoleRequest) -> kv::UserRole {
    kv::UserRole {
        user: request.user,
        role: request.role,
    }
}

async fn change(call: Call, change: AuthChange) -> Result<Headed<Empty>, Fault> {
    let change = Some(change);
    let command = kv::Command::Auth(kv::AuthCommand { change });
    let answer = call.front.backend.propose(command).await?;
    Ok(call.front.headed(kv::Answer {
        revision: answer.revision,
        body: Empty {},
    }))
}

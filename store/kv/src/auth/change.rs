//! Changes of users and roles, with etcd's rules.

use std::fmt;

use bytes::Bytes;
use prost::Message;

use super::{
    ENABLED, REVISION, ROLES, ROOT, RoleRecord, TOKEN_KEY, USERS, UserRecord, auth_revision,
    decoded, is_enabled, name_of,
};
use crate::command::Refusal;
use crate::keys::KeyRange;
use crate::view::{Broken, Staged, View};

/// A change of users and roles.
#[derive(Clone, PartialEq, Message)]
pub struct AuthCommand {
    #[prost(oneof = "AuthChange", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub change: Option<AuthChange>,
}

/// What can change.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum AuthChange {
    #[prost(message, tag = "1")]
    Enable(AuthEnable),
    #[prost(message, tag = "2")]
    Disable(AuthDisable),
    #[prost(message, tag = "3")]
    UserAdd(UserAdd),
    #[prost(message, tag = "4")]
    UserDelete(Named),
    #[prost(message, tag = "5")]
    UserPassword(UserPassword),
    #[prost(message, tag = "6")]
    UserGrantRole(UserRole),
    #[prost(message, tag = "7")]
    UserRevokeRole(UserRole),
    #[prost(message, tag = "8")]
    RoleAdd(Named),
    #[prost(message, tag = "9")]
    RoleDelete(Named),
    #[prost(message, tag = "10")]
    RoleGrant(RoleGrant),
    #[prost(message, tag = "11")]
    RoleRevoke(RoleRevoke),
}

/// From now on everybody has to be somebody.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct AuthEnable {
    /// What tokens are signed with until authentication is disabled: random, chosen by the proposer.
    #[prost(bytes = "bytes", tag = "1")]
    pub token_key: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct AuthDisable {}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct UserAdd {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub password_hash: Bytes,
    #[prost(bool, tag = "3")]
    pub no_password: bool,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct UserPassword {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub password_hash: Bytes,
}

/// A user or a role.
#[derive(Clone, PartialEq, Message)]
pub struct Named {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct UserRole {
    #[prost(string, tag = "1")]
    pub user: String,
    #[prost(string, tag = "2")]
    pub role: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RoleGrant {
    #[prost(string, tag = "1")]
    pub role: String,
    #[prost(message, optional, tag = "2")]
    pub permission: Option<Permission>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RoleRevoke {
    #[prost(string, tag = "1")]
    pub role: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub range_end: Bytes,
}

/// Keys, and what may be done with them; with etcd's field numbers.
#[derive(Clone, PartialEq, Message)]
pub struct Permission {
    #[prost(enumeration = "PermissionKind", tag = "1")]
    pub kind: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// As in a range request.
    #[prost(bytes = "bytes", tag = "3")]
    pub range_end: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PermissionKind {
    Read = 0,
    Write = 1,
    ReadWrite = 2,
}

// What opens doors is not printed.

impl fmt::Debug for AuthEnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthEnable").finish_non_exhaustive()
    }
}

impl fmt::Debug for UserAdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UserAdd");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for UserPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UserPassword");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether anything has changed by a request that was carried out.
type Changed = Result<bool, Refusal>;

/// Carries a change out, and raises the revision by one where it changes anything.
pub(crate) fn apply(
    staged: &mut Staged<'_>,
    command: &AuthCommand,
) -> Result<Result<(), Refusal>, Broken> {
    let Some(change) = &command.change else {
        return Err(Broken(
            "an entry of this version changes users or roles in a way that it does not know".into(),
        ));
    };
    let revision = auth_revision(staged) + 1;
    let changed = match change {
        AuthChange::Enable(request) => enable(staged, request)?,
        AuthChange::Disable(AuthDisable {}) => disable(staged),
        AuthChange::UserAdd(request) => user_add(staged, request, revision)?,
        AuthChange::UserDelete(request) => user_delete(staged, &request.name)?,
        AuthChange::UserPassword(request) => user_password(staged, request, revision)?,
        AuthChange::UserGrantRole(request) => user_grant_role(staged, request)?,
        AuthChange::UserRevokeRole(request) => user_revoke_role(staged, request)?,
        AuthChange::RoleAdd(request) => role_add(staged, &request.name)?,
        AuthChange::RoleDelete(request) => role_delete(staged, &request.name)?,
        AuthChange::RoleGrant(request) => role_grant(staged, request)?,
        AuthChange::RoleRevoke(request) => role_revoke(staged, request)?,
    };
    Ok(changed.map(|changed| {
        if changed {
            let revision = Bytes::copy_from_slice(&revision.to_be_bytes());
            staged.set_record(Bytes::from_static(REVISION), Some(revision));
        }
    }))
}

fn enable(staged: &mut Staged<'_>, request: &AuthEnable) -> Result<Changed, Broken> {
    if is_enabled(staged) {
        return Ok(Ok(false));
    }
    let Some(root) = user(staged, ROOT)? else {
        return Ok(Err(Refusal::RootUserMissing));
    };
    if !root.roles.iter().any(|role| role == ROOT) {
        return Ok(Err(Refusal::RootRoleMissing));
    }
    staged.set_record(Bytes::from_static(ENABLED), Some(Bytes::new()));
    let key = request.token_key.clone();
    staged.set_record(Bytes::from_static(TOKEN_KEY), Some(key));
    Ok(Ok(true))
}

fn disable(staged: &mut Staged<'_>) -> Changed {
    let enabled = is_enabled(staged);
    if enabled {
        staged.set_record(Bytes::from_static(ENABLED), None);
        staged.set_record(Bytes::from_static(TOKEN_KEY), None);
    }
    Ok(enabled)
}

fn user_add(staged: &mut Staged<'_>, request: &UserAdd, revision: u64) -> Result<Changed, Broken> {
    if request.name.is_empty() {
        return Ok(Err(Refusal::UserEmpty));
    }
    if user(staged, &request.name)?.is_some() {
        return Ok(Err(Refusal::UserExists));
    }
    let password_hash = match request.no_password {
        true => Bytes::new(),
        false => request.password_hash.clone(),
    };
    let added = UserRecord {
        password_hash,
        roles: Vec::new(),
        no_password: request.no_password,
        generation: revision,
    };
    set_user(staged, &request.name, Some(added));
    Ok(Ok(true))
}

fn user_delete(staged: &mut Staged<'_>, name: &str) -> Result<Changed, Broken> {
    if name == ROOT && is_enabled(staged) {
        return Ok(Err(Refusal::InvalidAuthManagement));
    }
    if user(staged, name)?.is_none() {
        return Ok(Err(Refusal::UserNotFound));
    }
    set_user(staged, name, None);
    Ok(Ok(true))
}

fn user_password(
    staged: &mut Staged<'_>,
    request: &UserPassword,
    revision: u64,
) -> Result<Changed, Broken> {
    let Some(mut record) = user(staged, &request.name)? else {
        return Ok(Err(Refusal::UserNotFound));
    };
    if !record.no_password {
        record.password_hash = request.password_hash.clone();
    }
    record.generation = revision;
    set_user(staged, &request.name, Some(record));
    Ok(Ok(true))
}

fn user_grant_role(staged: &mut Staged<'_>, request: &UserRole) -> Result<Changed, Broken> {
    let Some(mut record) = user(staged, &request.user)? else {
        return Ok(Err(Refusal::UserNotFound));
    };
    // The root role need not have been added.
    if request.role != ROOT && role(staged, &request.role)?.is_none() {
        return Ok(Err(Refusal::RoleNotFound));
    }
    let Err(place) = record.roles.binary_search(&request.role) else {
        return Ok(Ok(false));
    };
    record.roles.insert(place, request.role.clone());
    set_user(staged, &request.user, Some(record));
    Ok(Ok(true))
}

fn user_revoke_role(staged: &mut Staged<'_>, request: &UserRole) -> Result<Changed, Broken> {
    if request.user == ROOT && request.role == ROOT && is_enabled(staged) {
        return Ok(Err(Refusal::InvalidAuthManagement));
    }
    let Some(mut record) = user(staged, &request.user)? else {
        return Ok(Err(Refusal::UserNotFound));
    };
    let Ok(place) = record.roles.binary_search(&request.role) else {
        return Ok(Err(Refusal::RoleNotGranted));
    };
    record.roles.remove(place);
    set_user(staged, &request.user, Some(record));
    Ok(Ok(true))
}

fn role_add(staged: &mut Staged<'_>, name: &str) -> Result<Changed, Broken> {
    if name.is_empty() {
        return Ok(Err(Refusal::RoleEmpty));
    }
    if role(staged, name)?.is_some() {
        return Ok(Err(Refusal::RoleExists));
    }
    set_role(staged, name, Some(RoleRecord::default()));
    Ok(Ok(true))
}

fn role_delete(staged: &mut Staged<'_>, name: &str) -> Result<Changed, Broken> {
    if name == ROOT && is_enabled(staged) {
        return Ok(Err(Refusal::InvalidAuthManagement));
    }
    if role(staged, name)?.is_none() {
        return Ok(Err(Refusal::RoleNotFound));
    }
    set_role(staged, name, None);
    for (user, record) in staged.records(USERS) {
        let mut record: UserRecord = decoded(&record)?;
        if let Ok(place) = record
            .roles
            .binary_search_by(|role| role.as_str().cmp(name))
        {
            record.roles.remove(place);
            staged.set_record(user, Some(record.encode_to_vec().into()));
        }
    }
    Ok(Ok(true))
}

fn role_grant(staged: &mut Staged<'_>, request: &RoleGrant) -> Result<Changed, Broken> {
    let Some(permission) = &request.permission else {
        return Ok(Err(Refusal::PermissionNotGiven));
    };
    let range = KeyRange::new(&permission.key, &permission.range_end);
    let known = PermissionKind::try_from(permission.kind).is_ok();
    if permission.key.is_empty() || range.is_empty() || !known {
        return Ok(Err(Refusal::InvalidAuthManagement));
    }
    let Some(mut record) = role(staged, &request.role)? else {
        return Ok(Err(Refusal::RoleNotFound));
    };
    let same =
        |given: &Permission| given.key == permission.key && given.range_end == permission.range_end;
    record.permissions.retain(|given| !same(given));
    let by_keys = |given: &Permission| {
        let keys = |of: &Permission| (of.key.clone(), of.range_end.clone());
        keys(given) < keys(permission)
    };
    let place = record.permissions.partition_point(by_keys);
    record.permissions.insert(place, permission.clone());
    set_role(staged, &request.role, Some(record));
    Ok(Ok(true))
}

fn role_revoke(staged: &mut Staged<'_>, request: &RoleRevoke) -> Result<Changed, Broken> {
    let Some(mut record) = role(staged, &request.role)? else {
        return Ok(Err(Refusal::RoleNotFound));
    };
    let had = record.permissions.len();
    record
        .permissions
        .retain(|given| given.key != request.key || given.range_end != request.range_end);
    if record.permissions.len() == had {
        return Ok(Err(Refusal::PermissionNotGranted));
    }
    set_role(staged, &request.role, Some(record));
    Ok(Ok(true))
}

fn user(staged: &Staged<'_>, name: &str) -> Result<Option<UserRecord>, Broken> {
    let record = staged.record(&name_of(USERS, name));
    record.as_ref().map(decoded).transpose()
}

fn set_user(staged: &mut Staged<'_>, name: &str, record: Option<UserRecord>) {
    let record = record.map(|record| record.encode_to_vec().into());
    staged.set_record(name_of(USERS, name), record);
}

fn role(staged: &Staged<'_>, name: &str) -> Result<Option<RoleRecord>, Broken> {
    let record = staged.record(&name_of(ROLES, name));
    record.as_ref().map(decoded).transpose()
}

fn set_role(staged: &mut Staged<'_>, name: &str, record: Option<RoleRecord>) {
    let record = record.map(|record| record.encode_to_vec().into());
    staged.set_record(name_of(ROLES, name), record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AUTH_REVISION_FIRST, Users};
    use crate::command::{Command, Entry};
    use crate::mem::MemState;

    fn named(name: &str) -> Named {
        Named { name: name.into() }
    }

    fn user_role(user: &str, role: &str) -> UserRole {
        UserRole {
            user: user.into(),
            role: role.into(),
        }
    }

    fn add(name: &str) -> AuthChange {
        AuthChange::UserAdd(UserAdd {
            name: name.into(),
            password_hash: "hash".into(),
            no_password: false,
        })
    }

    fn grant(role: &str, key: &'static str, range_end: &'static str) -> AuthChange {
        AuthChange::RoleGrant(RoleGrant {
            role: role.into(),
            permission: Some(Permission {
                kind: PermissionKind::Read as i32,
                key: key.into(),
                range_end: range_end.into(),
            }),
        })
    }

    fn enable() -> AuthChange {
        AuthChange::Enable(AuthEnable {
            token_key: "key".into(),
        })
    }

    /// Answers the refusal, and by how much the revision has grown.
    fn change(state: &mut MemState, change: AuthChange) -> (Result<(), Refusal>, u64) {
        let before = auth_revision(&state.view());
        let command = Command::Auth(AuthCommand {
            change: Some(change),
        });
        let (response, _) = state.apply(&Entry::new(0, command), 1).unwrap();
        let grown = auth_revision(&state.view()) - before;
        (response.body.map(|_| ()), grown)
    }

    const DONE: (Result<(), Refusal>, u64) = (Ok(()), 1);
    const SAME: (Result<(), Refusal>, u64) = (Ok(()), 0);

    fn refused(refusal: Refusal) -> (Result<(), Refusal>, u64) {
        (Err(refusal), 0)
    }

    #[test]
    fn every_change_and_every_refusal() {
        use AuthChange::*;
        let script = [
            (enable(), refused(Refusal::RootUserMissing)),
            (add(""), refused(Refusal::UserEmpty)),
            (add("root"), DONE),
            (add("root"), refused(Refusal::UserExists)),
            (enable(), refused(Refusal::RootRoleMissing)),
            (UserGrantRole(user_role("root", "root")), DONE),
            (UserGrantRole(user_role("root", "root")), SAME),
            (Disable(AuthDisable {}), SAME),
            (enable(), DONE),
            (enable(), SAME),
            (add("u"), DONE),
            (RoleAdd(named("")), refused(Refusal::RoleEmpty)),
            (RoleAdd(named("r")), DONE),
            (RoleAdd(named("r")), refused(Refusal::RoleExists)),
            (
                UserGrantRole(user_role("nobody", "r")),
                refused(Refusal::UserNotFound),
            ),
            (
                UserGrantRole(user_role("u", "nothing")),
                refused(Refusal::RoleNotFound),
            ),
            (UserGrantRole(user_role("u", "r")), DONE),
            (
                RoleGrant(super::RoleGrant {
                    role: "r".into(),
                    permission: None,
                }),
                refused(Refusal::PermissionNotGiven),
            ),
            (
                grant("r", "b", "a"),
                refused(Refusal::InvalidAuthManagement),
            ),
            (grant("r", "", "a"), refused(Refusal::InvalidAuthManagement)),
            (grant("nothing", "a", "b"), refused(Refusal::RoleNotFound)),
            (grant("r", "b", ""), DONE),
            (grant("r", "a", "\0"), DONE),
            (
                RoleRevoke(super::RoleRevoke {
                    role: "r".into(),
                    key: "a".into(),
                    range_end: "b".into(),
                }),
                refused(Refusal::PermissionNotGranted),
            ),
            (
                RoleRevoke(super::RoleRevoke {
                    role: "r".into(),
                    key: "b".into(),
                    range_end: Bytes::new(),
                }),
                DONE,
            ),
            (
                UserRevokeRole(user_role("u", "root")),
                refused(Refusal::RoleNotGranted),
            ),
            (
                UserRevokeRole(user_role("root", "root")),
                refused(Refusal::InvalidAuthManagement),
            ),
            (
                UserDelete(named("root")),
                refused(Refusal::InvalidAuthManagement),
            ),
            (
                RoleDelete(named("root")),
                refused(Refusal::InvalidAuthManagement),
            ),
            (RoleDelete(named("r")), DONE),
            (RoleDelete(named("r")), refused(Refusal::RoleNotFound)),
            (UserDelete(named("u")), DONE),
            (UserDelete(named("u")), refused(Refusal::UserNotFound)),
            (Disable(AuthDisable {}), DONE),
            (UserDelete(named("root")), DONE),
        ];
        let mut state = MemState::default();
        for (step, expected) in script {
            assert_eq!(change(&mut state, step.clone()), expected, "{step:?}");
        }
        let left: Vec<_> = state.view().records(b"");
        assert_eq!(left.len(), 1, "the revision alone: {left:?}");
        assert_eq!(state.catalog.revision(), 1, "users are no keys");
    }

    #[test]
    fn a_role_that_goes_is_taken_from_its_users_and_a_new_password_is_a_new_generation() {
        let mut state = MemState::default();
        for step in [
            add("u"),
            AuthChange::RoleAdd(named("r")),
            AuthChange::RoleAdd(named("q")),
            AuthChange::UserGrantRole(user_role("u", "r")),
            AuthChange::UserGrantRole(user_role("u", "q")),
        ] {
            assert_eq!(change(&mut state, step), DONE);
        }
        let users = Users::of_catalog(&state.catalog).unwrap();
        let user = users.user("u").unwrap();
        assert_eq!(user.roles(), ["q", "r"]);
        let first = user.generation();
        assert_eq!(change(&mut state, AuthChange::RoleDelete(named("r"))), DONE);
        let password = AuthChange::UserPassword(UserPassword {
            name: "u".into(),
            password_hash: "other".into(),
        });
        assert_eq!(change(&mut state, password), DONE);
        let users = Users::of_catalog(&state.catalog).unwrap();
        let user = users.user("u").unwrap();
        assert_eq!(user.roles(), ["q"]);
        assert_eq!(user.password_hash(), Some("other"));
        assert!(user.generation() > first);
    }

    #[test]
    fn a_user_without_a_password_never_gets_one() {
        let mut state = MemState::default();
        let add = AuthChange::UserAdd(UserAdd {
            name: "u".into(),
            password_hash: "hash".into(),
            no_password: true,
        });
        assert_eq!(change(&mut state, add), DONE);
        let password = AuthChange::UserPassword(UserPassword {
            name: "u".into(),
            password_hash: "hash".into(),
        });
        assert_eq!(change(&mut state, password), DONE);
        let users = Users::of_catalog(&state.catalog).unwrap();
        let user = users.user("u").unwrap();
        assert!(user.no_password() && user.password_hash().is_none());
    }

    #[test]
    fn what_was_checked_under_other_users_is_refused() {
        let mut state = MemState::default();
        let add_under = |state: &mut MemState, name: &str, revision| {
            let change = Some(AuthChange::RoleAdd(named(name)));
            let entry = Entry::new(0, Command::Auth(AuthCommand { change }));
            let (response, _) = state.apply(&entry.under(revision), 1).unwrap();
            response.body.map(|_| ())
        };
        // Where nobody is asked, it does not matter when that was.
        assert_eq!(add_under(&mut state, "a", 7), Ok(()));
        let root = AuthChange::UserGrantRole(user_role("root", "root"));
        for step in [add("root"), root, enable()] {
            assert_eq!(change(&mut state, step), DONE);
        }
        let now = auth_revision(&state.view());
        let old = Err(Refusal::AuthOldRevision);
        for other in [AUTH_REVISION_FIRST, now - 1, now + 1] {
            assert_eq!(add_under(&mut state, "b", other), old);
        }
        assert_eq!(add_under(&mut state, "b", now), Ok(()));
        assert_eq!(add_under(&mut state, "c", now), old);
        assert_eq!(add_under(&mut state, "c", 0), Ok(()), "from inside");
    }

    #[test]
    fn a_lease_is_of_those_who_may_write_the_keys_that_it_has_when_it_counts() {
        use crate::command::{Lease, LeaseRevoke};
        use crate::message::{PutRequest, Request, RequestOp, TxnRequest};
        let mut state = MemState::default();
        let may = |role: &str, key: &'static str| {
            AuthChange::RoleGrant(RoleGrant {
                role: role.into(),
                permission: Some(Permission {
                    kind: PermissionKind::Write as i32,
                    key: key.into(),
                    range_end: Bytes::new(),
                }),
            })
        };
        for step in [
            add("root"),
            AuthChange::UserGrantRole(user_role("root", "root")),
            add("u"),
            AuthChange::RoleAdd(named("r")),
            may("r", "a"),
            AuthChange::UserGrantRole(user_role("u", "r")),
            enable(),
        ] {
            assert_eq!(change(&mut state, step), DONE);
        }
        let put = |key: &'static str, runs: bool| {
            let put = Request::Put(PutRequest {
                key: key.into(),
                lease: 7,
                ..PutRequest::default()
            });
            let op = |request| RequestOp {
                request: Some(request),
            };
            let mut nested = TxnRequest::default();
            match runs {
                true => nested.success.push(op(put)),
                false => nested.failure.push(op(put)),
            }
            Command::Txn(TxnRequest {
                success: vec![op(Request::Txn(nested))],
                ..TxnRequest::default()
            })
        };
        let revoke = || Command::LeaseRevoke(LeaseRevoke { id: 7 });
        let grant = Command::LeaseGrant(Lease {
            id: 7,
            ttl_seconds: 60,
            nonce: 1,
        });
        let mut does = |command: Command, user: &str| {
            let now = auth_revision(&state.view());
            let entry = Entry::new(0, command).under(now).with_leases_of(user);
            state.apply(&entry, 1).unwrap().0.body.map(|_| ())
        };
        let denied = Err(Refusal::PermissionDenied);
        assert_eq!(does(grant, "u"), Ok(()));
        assert_eq!(does(put("a", true), "u"), Ok(()));
        assert_eq!(does(put("z", true), "root"), Ok(()));
        assert_eq!(does(put("a", true), "u"), denied);
        assert_eq!(does(put("a", false), "u"), denied);
        assert_eq!(does(revoke(), "u"), denied);
        assert_eq!(does(revoke(), "who"), denied);
        assert_eq!(does(revoke(), "root"), Ok(()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let all = [enable(), add("u")];
        let password = AuthChange::UserPassword(UserPassword {
            name: "u".into(),
            password_hash: "hash".into(),
        });
        let text = format!("{all:?} {password:?}");
        assert!(
            !text.contains("hash\"") && !text.contains("key\""),
            "{text}"
        );
    }
}

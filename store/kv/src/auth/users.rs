//! Users and roles as they are asked: who may do what with which keys.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    ENABLED, PREFIX, Permission, PermissionKind, ROLES, ROOT, RoleRecord, TOKEN_KEY, USERS,
    UserRecord, auth_revision_in, decoded, name_of,
};
use crate::catalog::Catalog;
use crate::key_set::KeySet;
use crate::keys::KeyRange;
use crate::view::{Broken, View};

/// All users and roles of one revision.
#[derive(Debug, Default)]
pub struct Users {
    revision: u64,
    enabled: bool,
    token_key: Secret,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Vec<Permission>>,
}

#[derive(Default)]
struct Secret(Bytes);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

/// A user, with what all its roles let it do.
#[derive(Debug, Default)]
pub struct User {
    roles: Vec<String>,
    password_hash: Secret,
    no_password: bool,
    generation: u64,
    is_root: bool,
    read: KeySet,
    write: KeySet,
}

/// What is done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Read,
    Write,
}

impl Users {
    /// As a catalog has them.
    ///
    /// # Errors
    /// Where a record is damaged.
    pub fn of_catalog(catalog: &Catalog) -> Result<Users, Broken> {
        let mut found = Users {
            revision: auth_revision_in(catalog),
            ..Users::default()
        };
        let mut users: Vec<(String, UserRecord)> = Vec::new();
        for (name, value) in catalog.records(PREFIX) {
            if name == ENABLED {
                found.enabled = true;
            } else if name == TOKEN_KEY {
                found.token_key = Secret(value.clone());
            } else if let Some(role) = name.strip_prefix(ROLES) {
                let record: RoleRecord = decoded(value)?;
                found.roles.insert(text(role), record.permissions);
            } else if let Some(user) = name.strip_prefix(USERS) {
                users.push((text(user), decoded(value)?));
            }
        }
        for (name, record) in users {
            let user = User::new(record, &found.roles);
            found.users.insert(name, user);
        }
        Ok(found)
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether anybody is asked who he is.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// What tokens are signed with; empty while authentication is disabled.
    pub fn token_key(&self) -> &[u8] {
        &self.token_key.0
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// What a role lets do. The root role, once it was added, lets do everything.
    pub fn role(&self, name: &str) -> Option<Vec<Permission>> {
        let permissions = self.roles.get(name)?;
        Some(match name {
            ROOT => vec![Permission {
                kind: PermissionKind::ReadWrite as i32,
                key: Bytes::new(),
                range_end: Bytes::from_static(&[0]),
            }],
            _ => permissions.clone(),
        })
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Whether a user may write all keys that these leases have; nobody in particular may.
pub(crate) fn may_write_leases(
    view: &dyn View,
    leases: &[i64],
    user: &str,
) -> Result<bool, Broken> {
    if user.is_empty() || leases.is_empty() {
        return Ok(true);
    }
    let user = User::of_view(view, user)?;
    if user.is_root() {
        return Ok(true);
    }
    let mut keys = leases.iter().flat_map(|lease| view.lease_keys(*lease));
    Ok(keys.all(|key| user.may(Right::Write, &KeyRange::One(key))))
}

impl User {
    /// One who is not there may nothing.
    fn of_view(view: &dyn View, name: &str) -> Result<User, Broken> {
        let record = view.record(&name_of(USERS, name));
        let record: UserRecord = record.as_ref().map_or(Ok(UserRecord::default()), decoded)?;
        let mut roles = BTreeMap::new();
        for name in &record.roles {
            if let Some(role) = view.record(&name_of(ROLES, name)) {
                let role: RoleRecord = decoded(&role)?;
                roles.insert(name.clone(), role.permissions);
            }
        }
        Ok(User::new(record, &roles))
    }

    fn new(record: UserRecord, roles: &BTreeMap<String, Vec<Permission>>) -> User {
        let (mut read, mut write) = (KeySet::default(), KeySet::default());
        let granted = record.roles.iter().filter_map(|role| roles.get(role));
        for permission in granted.flatten() {
            let range = KeyRange::new(&permission.key, &permission.range_end);
            match PermissionKind::try_from(permission.kind) {
                Ok(PermissionKind::Read) => read.insert(&range),
                Ok(PermissionKind::Write) => write.insert(&range),
                Ok(PermissionKind::ReadWrite) => {
                    read.insert(&range);
                    write.insert(&range);
                }
                // Of a newer version: nothing that is known here.
                Err(_) => {}
            }
        }
        User {
            is_root: record.roles.iter().any(|role| role == ROOT),
            roles: record.roles,
            password_hash: Secret(record.password_hash),
            no_password: record.no_password,
            generation: record.generation,
            read,
            write,
        }
    }

    /// By name.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Has the root role.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// As bcrypt writes it.
    pub fn password_hash(&self) -> Option<&str> {
        let hash = std::str::from_utf8(&self.password_hash.0).ok()?;
        (!hash.is_empty()).then_some(hash)
    }

    pub fn no_password(&self) -> bool {
        self.no_password
    }

    /// Differs between any two passwords of a name.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this may be done with every key of the range.
    pub fn may(&self, right: Right, range: &KeyRange) -> bool {
        let allowed = match right {
            Right::Read => &self.read,
            Right::Write => &self.write,
        };
        self.is_root || allowed.covers(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(permissions: &[(PermissionKind, &'static str, &'static str)]) -> User {
        let given = permissions.iter().map(|(kind, key, range_end)| Permission {
            kind: *kind as i32,
            key: (*key).into(),
            range_end: (*range_end).into(),
        });
        let roles = BTreeMap::from([("r".to_string(), given.collect())]);
        let record = UserRecord {
            roles: vec!["r".into(), "gone".into()],
            ..UserRecord::default()
        };
        User::new(record, &roles)
    }

    fn range(key: &'static str, range_end: &'static str) -> KeyRange {
        KeyRange::new(&key.into(), &range_end.into())
    }

    #[test]
    fn permissions_of_all_roles_add_up_and_neighbours_merge() {
        let user = user(&[
            (PermissionKind::Read, "a", "c"),
            (PermissionKind::Read, "c", "e"),
            (PermissionKind::Write, "b", ""),
            (PermissionKind::ReadWrite, "x", "\0"),
        ]);
        let may_read = [("a", ""), ("a", "e"), ("b", "d"), ("z", "\0"), ("x", "\0")];
        for (key, end) in may_read {
            assert!(user.may(Right::Read, &range(key, end)), "{key} {end}");
        }
        // Beyond the end, over a hole, from a key on, and a range that a single key does not cover.
        let may_not = [("e", ""), ("a", "f"), ("a", "\0"), ("d", "y"), ("w", "\0")];
        for (key, end) in may_not {
            assert!(!user.may(Right::Read, &range(key, end)), "{key} {end}");
        }
        assert!(user.may(Right::Write, &range("b", "")));
        for (key, end) in [("a", ""), ("b", "c"), ("b", "\0"), ("ba", "")] {
            assert!(!user.may(Right::Write, &range(key, end)), "{key} {end}");
        }
    }

    #[test]
    fn the_root_role_may_everything_and_no_role_nothing() {
        let roles = BTreeMap::new();
        let root = UserRecord {
            roles: vec![ROOT.into()],
            ..UserRecord::default()
        };
        let root = User::new(root, &roles);
        assert!(root.is_root() && root.may(Right::Write, &KeyRange::all()));
        let nobody = User::new(UserRecord::default(), &roles);
        assert!(!nobody.is_root() && !nobody.may(Right::Read, &range("a", "")));
        assert!(!nobody.may(Right::Read, &range("b", "a")), "an empty range");
    }
}

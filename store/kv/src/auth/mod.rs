//! Users and roles: replicated records, how they change (`change.rs`), and what may be done under them (`users.rs`).
//!
//! The records, by name: `auth/revision` (eight bytes, big endian), `auth/enabled` (empty; there or not),
//! `auth/token-key` (what tokens are signed with, as long as authentication is enabled), `auth/user/NAME`
//! ([`UserRecord`]) and `auth/role/NAME` ([`RoleRecord`]). Nothing here knows a password: the commands carry hashes.

mod change;
mod users;

use bytes::Bytes;
use prost::Message;

use crate::catalog::Catalog;
use crate::view::{Broken, View};

pub(crate) use change::apply;
pub use change::*;
pub(crate) use users::may_write_leases;
pub use users::{Right, User, Users};

const REVISION: &[u8] = b"auth/revision";
const ENABLED: &[u8] = b"auth/enabled";
const TOKEN_KEY: &[u8] = b"auth/token-key";
const USERS: &[u8] = b"auth/user/";
const ROLES: &[u8] = b"auth/role/";
/// All of them.
const PREFIX: &[u8] = b"auth/";

/// The user who must be there, and the role that may do everything.
pub const ROOT: &str = "root";

#[derive(Clone, PartialEq, Message)]
struct UserRecord {
    /// As bcrypt writes it; empty where no password opens the account.
    #[prost(bytes = "bytes", tag = "1")]
    password_hash: Bytes,
    /// Sorted.
    #[prost(string, repeated, tag = "2")]
    roles: Vec<String>,
    /// Meant to have no password: known by certificate alone.
    #[prost(bool, tag = "3")]
    no_password: bool,
    /// The revision at which the password was last set: tokens of before are void.
    #[prost(uint64, tag = "4")]
    generation: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RoleRecord {
    /// By key.
    #[prost(message, repeated, tag = "1")]
    permissions: Vec<Permission>,
}

/// [`auth_revision`] before the first change: etcd's.
pub const AUTH_REVISION_FIRST: u64 = 1;

/// Which users and roles there are, as a number that grows with every change of them.
pub fn auth_revision(view: &dyn View) -> u64 {
    revision_of(view.record(REVISION).as_ref())
}

/// Whether anybody is asked who he is.
pub(crate) fn is_enabled(view: &dyn View) -> bool {
    view.record(ENABLED).is_some()
}

/// [`auth_revision`] of a catalog.
pub fn auth_revision_in(catalog: &Catalog) -> u64 {
    revision_of(catalog.record(REVISION))
}

fn revision_of(record: Option<&Bytes>) -> u64 {
    let bytes = record.and_then(|record| record.as_ref().try_into().ok());
    bytes.map_or(AUTH_REVISION_FIRST, u64::from_be_bytes)
}

fn name_of(prefix: &[u8], name: &str) -> Bytes {
    [prefix, name.as_bytes()].concat().into()
}

fn decoded<M: Message + Default>(record: &Bytes) -> Result<M, Broken> {
    M::decode(record.clone())
        .map_err(|error| Broken(format!("a record of users or roles is damaged: {error}")))
}

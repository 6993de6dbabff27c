//! Messages of etcd's Auth service, with etcd's field numbers. Several of them are the same on the wire.

use std::fmt;

use kv::Permission;

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(in crate::etcd) struct AuthStatusBody {
    #[prost(bool, tag = "2")]
    pub(in crate::etcd) enabled: bool,
    #[prost(uint64, tag = "3")]
    pub(in crate::etcd) auth_revision: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(in crate::etcd) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(in crate::etcd) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::etcd) password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(in crate::etcd) struct AuthenticateBody {
    #[prost(string, tag = "2")]
    pub(in crate::etcd) token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(in crate::etcd) struct UserAddRequest {
    #[prost(string, tag = "1")]
    pub(in crate::etcd) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::etcd) password: String,
    #[prost(message, optional, tag = "3")]
    pub(in crate::etcd) options: Option<UserAddOptions>,
    /// In base64.
    #[prost(string, tag = "4")]
    pub(in crate::etcd) hashed_password: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(in crate::etcd) struct UserAddOptions {
    #[prost(bool, tag = "1")]
    pub(in crate::etcd) no_password: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(in crate::etcd) struct UserChangePasswordRequest {
    #[prost(string, tag = "1")]
    pub(in crate::etcd) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::etcd) password: String,
    /// In base64.
    #[prost(string, tag = "3")]
    pub(in crate::etcd) hashed_password: String,
}

/// A user or a role.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::etcd) struct NameRequest {
    #[prost(string, tag = "1")]
    pub(in crate::etcd) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::etcd) struct UserRoleRequest {
    #[prost(string, tag = "1")]
    pub(in crate::etcd) user: String,
    #[prost(string, tag = "2")]
    pub(in crate::etcd) role: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::etcd) struct RoleGrantRequest {
    #[prost(string, tag = "1")]
    pub(in crate::etcd) name: String,
    #[prost(message, optional, tag = "2")]
    pub(in crate::etcd) permission: Option<Permission>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::etcd) struct UserGetBody {
    #[prost(string, repeated, tag = "2")]
    pub(in crate::etcd) roles: Vec<String>,
}

/// All users or all roles.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::etcd) struct NamesBody {
    #[prost(string, repeated, tag = "2")]
    pub(in crate::etcd) names: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::etcd) struct RoleGetBody {
    #[prost(message, repeated, tag = "2")]
    pub(in crate::etcd) permissions: Vec<Permission>,
}

// What opens doors is not printed.

impl fmt::Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AuthenticateRequest");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthenticateBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateBody").finish_non_exhaustive()
    }
}

impl fmt::Debug for UserAddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UserAddRequest");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for UserChangePasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UserChangePasswordRequest");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

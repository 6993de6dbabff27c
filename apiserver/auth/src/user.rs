//! The identity that a request carries after authentication, and the names that Kubernetes reserves.

use std::collections::BTreeMap;

use schema::names;

pub const ANONYMOUS: &str = "system:anonymous";
/// Members may do everything; the authorizer does not even look at a rule.
pub const GROUP_MASTERS: &str = "system:masters";
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
pub const GROUP_NODES: &str = "system:nodes";
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

const NODE_PREFIX: &str = "system:node:";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Keys of [`User::extra`] that Kubernetes defines.
pub const EXTRA_CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
pub const EXTRA_POD_NAME: &str = "authentication.kubernetes.io/pod-name";
pub const EXTRA_POD_UID: &str = "authentication.kubernetes.io/pod-uid";
pub const EXTRA_NODE_NAME: &str = "authentication.kubernetes.io/node-name";
pub const EXTRA_NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// An authenticated (or anonymous) requester.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Empty when the authenticator knows none.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user with a name and groups and nothing else; no group is added.
    pub fn new<G: Into<String>>(
        name: impl Into<String>,
        groups: impl IntoIterator<Item = G>,
    ) -> Self {
        User {
            name: name.into(),
            groups: groups.into_iter().map(Into::into).collect(),
            ..User::default()
        }
    }

    /// A request without credentials.
    pub fn anonymous() -> Self {
        User::new(ANONYMOUS, [GROUP_UNAUTHENTICATED])
    }

    /// The apiserver calling itself.
    pub fn loopback() -> Self {
        User::new("system:apiserver", [GROUP_MASTERS, GROUP_AUTHENTICATED])
    }

    /// A control plane component in the same process, such as `kube-scheduler`.
    pub fn component(name: &str) -> Self {
        User::new(format!("system:{name}"), [GROUP_AUTHENTICATED])
    }

    /// The agent of the node `name`.
    pub fn node(name: &str) -> Self {
        User::new(
            format!("{NODE_PREFIX}{name}"),
            [GROUP_NODES, GROUP_AUTHENTICATED],
        )
    }

    /// A service account as its token identifies it.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let mut groups = service_account_groups(namespace);
        groups.push(GROUP_AUTHENTICATED.to_owned());
        User {
            name: service_account_username(namespace, name),
            uid: uid.to_owned(),
            groups,
            extra: BTreeMap::new(),
        }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Adds `system:authenticated`, as happens after every successful authentication of a named user.
    pub fn authenticated(mut self) -> Self {
        if !self.is_anonymous()
            && !self.in_group(GROUP_AUTHENTICATED)
            && !self.in_group(GROUP_UNAUTHENTICATED)
        {
            self.groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        self
    }

    /// `Some(node name)` for a member of `system:nodes` with a node's user name; the name may be empty when
    /// the group is there and the user name is not a node's.
    pub fn node_identity(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX)?;
        self.in_group(GROUP_NODES).then_some(name)
    }

    /// `(namespace, name)` when this is a service account.
    pub fn service_account_identity(&self) -> Option<(&str, &str)> {
        split_service_account(&self.name)
    }

    /// The `UserInfo` of TokenReview, SelfSubjectReview and audit.
    pub fn to_user_info(&self) -> serde_json::Value {
        let mut info = serde_json::Map::new();
        info.insert("username".into(), self.name.clone().into());
        if !self.uid.is_empty() {
            info.insert("uid".into(), self.uid.clone().into());
        }
        if !self.groups.is_empty() {
            info.insert("groups".into(), self.groups.clone().into());
        }
        if !self.extra.is_empty() {
            let extra = self
                .extra
                .iter()
                .map(|(key, values)| (key.clone(), values.clone().into()))
                .collect();
            info.insert("extra".into(), serde_json::Value::Object(extra));
        }
        serde_json::Value::Object(info)
    }
}

/// `system:serviceaccount:<namespace>:<name>`.
pub fn service_account_username(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The two groups of every service account of `namespace`.
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![
        GROUP_SERVICE_ACCOUNTS.to_owned(),
        format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}"),
    ]
}

/// Splits a service account's user name; `None` for any other name, and for parts that no namespace or account can have.
pub fn split_service_account(username: &str) -> Option<(&str, &str)> {
    let (namespace, name) = username
        .strip_prefix(SERVICE_ACCOUNT_PREFIX)?
        .split_once(':')?;
    let valid = names::is_dns1123_label(namespace).is_empty()
        && names::is_dns1123_subdomain(name).is_empty();
    valid.then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_service_accounts_split_only_when_complete() {
        assert_eq!(
            split_service_account("system:serviceaccount:ns:default"),
            Some(("ns", "default"))
        );
        for other in [
            "system:serviceaccount:ns",
            "system:serviceaccount::x",
            "system:serviceaccount:ns:",
            "system:serviceaccount:a:b:c",
            "system:serviceaccount:A:b",
            "system:serviceaccount:a.b:c",
            "system:serviceaccount:a:*",
            "jane",
        ] {
            assert_eq!(split_service_account(other), None, "{other}");
        }
        let user = User::service_account("ns", "sa", "u1");
        assert_eq!(user.service_account_identity(), Some(("ns", "sa")));
        assert_eq!(
            user.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
    }

    #[test]
    fn a_node_needs_the_group_and_the_name() {
        assert_eq!(User::node("n1").node_identity(), Some("n1"));
        assert_eq!(User::new("system:node:n1", ["other"]).node_identity(), None);
        assert_eq!(User::new("jane", ["system:nodes"]).node_identity(), None);
    }

    #[test]
    fn authentication_adds_one_group_once() {
        let jane = User::new("jane", ["dev"]).authenticated().authenticated();
        assert_eq!(jane.groups, ["dev", "system:authenticated"]);
        assert_eq!(User::anonymous().authenticated(), User::anonymous());
    }
}

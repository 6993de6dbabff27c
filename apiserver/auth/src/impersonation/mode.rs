//! Constrained impersonation (KEP-5284): rights to act as somebody that hold only for what they say. One right says as whom
//! (`impersonate:user-info` on a user), another what is done in that name (`impersonate-on:user-info:list` on pods). The
//! right that is called `impersonate` and knows no such bounds is one mode more, the last to be tried.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::user::{EXTRA_NODE_NAME, GROUP_NODES, User, split_service_account};

use super::Impersonation;

/// What Kubernetes tells authorizers of a service account's extras where they ask about its own node.
const EXTRA_ASSOCIATED_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
const NODE_PREFIX: &str = "system:node:";

/// A kind of identity that can be taken on, each with verbs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The node that a service account's pod runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Anybody who is neither a node nor a service account.
    UserInfo,
    /// Anybody, for everything.
    Legacy,
}

impl Mode {
    /// In the order in which they are tried.
    pub const ALL: [Mode; 5] = [
        Mode::AssociatedNode,
        Mode::ArbitraryNode,
        Mode::ServiceAccount,
        Mode::UserInfo,
        Mode::Legacy,
    ];

    /// The verb of the questions about the parts of the identity.
    pub fn verb(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "impersonate:associated-node",
            Mode::ArbitraryNode => "impersonate:arbitrary-node",
            Mode::ServiceAccount => "impersonate:serviceaccount",
            Mode::UserInfo => "impersonate:user-info",
            Mode::Legacy => "impersonate",
        }
    }

    /// The verb that the real user needs on what is asked for with `verb`; none where any identity will do for everything.
    pub fn verb_on(self, verb: &str) -> Option<String> {
        let name = self.constraint()?.strip_prefix("impersonate:")?;
        Some(format!("impersonate-on:{name}:{verb}"))
    }

    /// What the audit calls the bounds; none without any.
    pub fn constraint(self) -> Option<&'static str> {
        (self != Mode::Legacy).then(|| self.verb())
    }

    /// Whether it is of this mode that `requestor` becomes `wanted`.
    pub fn applies(self, wanted: &Impersonation, requestor: &User) -> bool {
        let node = node_name(&wanted.name);
        let account = split_service_account(&wanted.name);
        match self {
            Mode::AssociatedNode => {
                wanted.is_only_a_name() && node.is_some() && node == own_node(requestor)
            }
            Mode::ArbitraryNode => wanted.is_only_a_name() && node.is_some(),
            Mode::ServiceAccount => wanted.is_only_a_name() && account.is_some(),
            Mode::UserInfo => node.is_none() && account.is_none(),
            Mode::Legacy => true,
        }
    }

    /// As whom the questions are put: about its own node a service account is the same on all of them.
    pub fn asking(self, requestor: &User) -> Cow<'_, User> {
        if self != Mode::AssociatedNode {
            return Cow::Borrowed(requestor);
        }
        let keys = requestor.extra.keys().cloned().collect();
        Cow::Owned(User {
            extra: BTreeMap::from([(EXTRA_ASSOCIATED_KEYS.to_owned(), keys)]),
            ..requestor.clone()
        })
    }

    /// The groups that such an identity has whatever is asked for.
    pub(super) fn groups(self) -> Option<Vec<String>> {
        matches!(self, Mode::AssociatedNode | Mode::ArbitraryNode)
            .then(|| vec![GROUP_NODES.to_owned()])
    }
}

/// The node of a user name that is one's.
pub(super) fn node_name(user: &str) -> Option<&str> {
    let name = user.strip_prefix(NODE_PREFIX)?;
    schema::names::is_dns1123_subdomain(name)
        .is_empty()
        .then_some(name)
}

/// Where the pod runs whose token a service account has.
fn own_node(requestor: &User) -> Option<&str> {
    requestor.service_account_identity()?;
    match requestor.extra.get(EXTRA_NODE_NAME)?.as_slice() {
        [name] => Some(name.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> Impersonation {
        Impersonation {
            name: name.to_owned(),
            ..Impersonation::default()
        }
    }

    fn modes(wanted: &Impersonation, requestor: &User) -> Vec<Mode> {
        let all = Mode::ALL.into_iter();
        all.filter(|mode| mode.applies(wanted, requestor)).collect()
    }

    /// An agent of a DaemonSet on this node.
    fn agent(node: &str) -> User {
        let mut agent = User::service_account("ns", "agent", "1");
        agent
            .extra
            .insert(EXTRA_NODE_NAME.to_owned(), vec![node.to_owned()]);
        agent
    }

    #[test]
    fn modes_are_tried_from_the_narrowest() {
        use Mode::{ArbitraryNode, AssociatedNode, Legacy, ServiceAccount, UserInfo};
        let ann = User::new("ann", ["dev"]);
        let cases: &[(&str, &User, &[Mode])] = &[
            (
                "system:node:n1",
                &agent("n1"),
                &[AssociatedNode, ArbitraryNode, Legacy],
            ),
            ("system:node:n1", &agent("n2"), &[ArbitraryNode, Legacy]),
            ("system:node:n1", &ann, &[ArbitraryNode, Legacy]),
            ("system:node:N_1", &ann, &[UserInfo, Legacy]),
            ("system:serviceaccount:a:b", &ann, &[ServiceAccount, Legacy]),
            ("jane", &ann, &[UserInfo, Legacy]),
        ];
        for (name, requestor, expected) in cases {
            assert_eq!(modes(&wanted(name), requestor), *expected, "{name}");
        }
        // With groups of its own a node or a service account is what only the old right allows.
        let mut half = wanted("system:node:n1");
        half.groups.push("dev".to_owned());
        assert_eq!(modes(&half, &agent("n1")), [Legacy]);
        half.name = "system:serviceaccount:a:b".to_owned();
        assert_eq!(modes(&half, &ann), [Legacy]);
    }

    #[test]
    fn verbs_name_their_mode() {
        assert_eq!(
            Mode::UserInfo.verb_on("list").unwrap(),
            "impersonate-on:user-info:list"
        );
        assert_eq!(
            Mode::AssociatedNode.verb_on("get").unwrap(),
            "impersonate-on:associated-node:get"
        );
        assert_eq!(Mode::Legacy.verb_on("get"), None);
        assert_eq!(Mode::Legacy.constraint(), None);
        assert_eq!(
            Mode::ServiceAccount.constraint(),
            Some("impersonate:serviceaccount")
        );
    }

    #[test]
    fn an_agent_asks_about_its_node_as_on_every_other() {
        let (one, other) = (agent("n1"), agent("n2"));
        assert_eq!(
            Mode::AssociatedNode.asking(&one),
            Mode::AssociatedNode.asking(&other)
        );
        assert_eq!(*Mode::ArbitraryNode.asking(&one), one);
        let told = Mode::AssociatedNode.asking(&one).into_owned();
        assert_eq!(told.extra[EXTRA_ASSOCIATED_KEYS], [EXTRA_NODE_NAME]);
    }
}

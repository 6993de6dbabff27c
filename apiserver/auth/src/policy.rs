//! The authorizers together: node, then RBAC; the first that allows wins, and all reasons of refusal are told.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::node;
use crate::node_graph::{NodeGraph, Pods, Target};
use crate::rbac::{Authorizer, Kind};
use crate::request::{Attributes, Decision};
use crate::rule::Rule;
use crate::user::{GROUP_MASTERS, User};

/// The `(group, resource)` pairs whose objects the policy must be told about.
pub const WATCHED: &[(&str, &str)] = &[
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceslices"),
];

/// Everything that decides about a request, kept up to date by [`Policy::upsert`] and [`Policy::remove`], and for pods, of
/// which it keeps only where they are, by [`NodeGraph::move_pod`].
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub rbac: Authorizer,
    pub nodes: NodeGraph,
    /// What every node may do beside its own objects: the rules of the bootstrap role `system:node`.
    pub node_rules: Vec<Rule>,
}

impl Policy {
    pub fn new(node_rules: Vec<Rule>, pods: Arc<dyn Pods>) -> Self {
        Policy {
            rbac: Authorizer::default(),
            nodes: NodeGraph::of(pods),
            node_rules,
        }
    }

    /// Takes over a created or changed object; objects that do not matter here are ignored.
    pub fn upsert(&mut self, group: &str, resource: &str, object: &Value) {
        match (group, resource) {
            ("rbac.authorization.k8s.io", _) => {
                if let Some(kind) = Kind::from_resource(resource) {
                    self.rbac.upsert(kind, object);
                }
            }
            ("", "persistentvolumes") => self.nodes.upsert_volume(object),
            ("storage.k8s.io", "volumeattachments") => {
                self.nodes.upsert_named(Target::VolumeAttachment, object)
            }
            ("resource.k8s.io", "resourceslices") => {
                self.nodes.upsert_named(Target::ResourceSlice, object)
            }
            _ => {}
        }
    }

    /// Forgets a deleted object; `namespace` is empty for cluster-scoped kinds.
    pub fn remove(&mut self, group: &str, resource: &str, namespace: &str, name: &str) {
        match (group, resource) {
            ("rbac.authorization.k8s.io", _) => {
                if let Some(kind) = Kind::from_resource(resource) {
                    self.rbac.remove(kind, namespace, name);
                }
            }
            ("", "persistentvolumes") => self.nodes.remove_volume(name),
            ("storage.k8s.io", "volumeattachments") => {
                self.nodes.remove_named(Target::VolumeAttachment, name)
            }
            ("resource.k8s.io", "resourceslices") => {
                self.nodes.remove_named(Target::ResourceSlice, name)
            }
            _ => {}
        }
    }

    /// May `user` do this?
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if user.in_group(GROUP_MASTERS) {
            return Decision::allow("");
        }
        let by_node = self.by_node(user, attributes);
        if by_node.allowed {
            return by_node;
        }
        let by_rbac = self.by_rbac(user, attributes);
        if by_rbac.allowed {
            return by_rbac;
        }
        let reasons: Vec<&str> = [&by_node.reason, &by_rbac.reason]
            .into_iter()
            .map(String::as_str)
            .filter(|reason| !reason.is_empty())
            .collect();
        Decision::no_opinion(reasons.join("\n"))
    }

    /// What the node authorizer says.
    pub fn by_node(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        node::authorize(&self.nodes, &self.node_rules, user, attributes)
    }

    /// What RBAC says.
    pub fn by_rbac(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        self.rbac.authorize(user, attributes)
    }

    /// `status` of a SelfSubjectRulesReview.
    pub fn rules_review(&self, user: &User, namespace: &str) -> Value {
        let found = self.rbac.rules_for(user, namespace);
        let picked = |fields: [&str; 4], rule: &Rule| {
            let mut value = rule.to_value();
            if let Some(object) = value.as_object_mut() {
                object.retain(|field, _| fields.contains(&field.as_str()));
            }
            value
        };
        let resources: Vec<Value> = found
            .rules
            .iter()
            .filter(|rule| !rule.resources.is_empty())
            .map(|rule| picked(["verbs", "apiGroups", "resources", "resourceNames"], rule))
            .collect();
        let paths: Vec<Value> = found
            .rules
            .iter()
            .filter(|rule| !rule.non_resource_urls.is_empty())
            .map(|rule| picked(["verbs", "nonResourceURLs", "", ""], rule))
            .collect();
        let is_node = user.node_identity().is_some();
        let mut errors = found.errors;
        if is_node {
            errors.insert(
                0,
                "node authorizer does not support user rule resolution".to_owned(),
            );
        }
        let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": is_node || !errors.is_empty()});
        match errors.as_slice() {
            [] => {}
            [error] => status["evaluationError"] = error.clone().into(),
            several => status["evaluationError"] = format!("[{}]", several.join(", ")).into(),
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Policy {
        let mut policy = Policy {
            node_rules: vec![Rule::from_value(
                &json!({"verbs": ["list"], "apiGroups": [""], "resources": ["services"]}),
            )],
            ..Policy::default()
        };
        let group = "rbac.authorization.k8s.io";
        policy.upsert(group, "clusterroles", &json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}, {"verbs": ["get"], "nonResourceURLs": ["/version"]}]}));
        policy.upsert(group, "clusterrolebindings", &json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "Group", "name": "system:authenticated"}]}));
        policy.upsert(group, "clusterrolebindings", &json!({"metadata": {"name": "lost"}, "roleRef": {"kind": "ClusterRole", "name": "x"}, "subjects": [{"kind": "User", "name": "system:node:n1"}]}));
        policy.nodes.move_pod("a", "p", "", "n1");
        policy
    }

    #[test]
    fn either_authorizer_may_allow() {
        let policy = fixture();
        let node = User::node("n1");
        let list = Attributes {
            verb: "list",
            resource: "services",
            ..Attributes::default()
        };
        let get = Attributes {
            verb: "get",
            group: "apps",
            resource: "deployments",
            namespace: "a",
            name: "web",
            ..Attributes::default()
        };
        assert!(policy.authorize(&node, &list).allowed);
        assert!(policy.authorize(&node, &get).allowed);
        assert!(
            !policy
                .authorize(&User::new("jane", ["system:authenticated"]), &list)
                .allowed
        );
        assert!(
            policy
                .authorize(&User::new("root", [GROUP_MASTERS]), &list)
                .allowed
        );
    }

    #[test]
    fn all_reasons_of_a_refusal_are_told() {
        let secret = Attributes {
            verb: "get",
            resource: "secrets",
            namespace: "a",
            name: "s",
            ..Attributes::default()
        };
        assert_eq!(
            fixture().authorize(&User::node("n1"), &secret).reason,
            "no relationship found between node 'n1' and this object\nRBAC: clusterrole.rbac.authorization.k8s.io \"x\" not found"
        );
    }

    #[test]
    fn rules_review_lists_both_kinds_of_rules() {
        let policy = fixture();
        let jane = policy.rules_review(&User::new("jane", ["system:authenticated"]), "a");
        assert_eq!(
            jane,
            json!({"resourceRules": [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version"]}], "incomplete": false})
        );
        let node = policy.rules_review(&User::node("n1"), "a");
        assert_eq!(node["incomplete"], true);
        assert!(
            node["evaluationError"]
                .as_str()
                .unwrap()
                .starts_with("[node authorizer does not support user rule resolution, ")
        );
    }

    #[test]
    fn removed_objects_are_forgotten() {
        let mut policy = fixture();
        policy.remove("rbac.authorization.k8s.io", "clusterrolebindings", "", "b");
        policy.nodes.move_pod("a", "p", "n1", "");
        let get = Attributes {
            verb: "get",
            group: "apps",
            resource: "deployments",
            namespace: "a",
            name: "web",
            ..Attributes::default()
        };
        assert!(!policy.authorize(&User::node("n1"), &get).allowed);
        let pod = Attributes {
            verb: "get",
            resource: "pods",
            namespace: "a",
            name: "p",
            ..Attributes::default()
        };
        assert!(!policy.authorize(&User::node("n1"), &pod).allowed);
    }
}

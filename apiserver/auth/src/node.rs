//! The node authorizer: what the agent of one node may do.
//!
//! Secrets, config maps, claims and volumes are open to a node only through a pod bound to it ([`NodeGraph`]);
//! a few kinds have rules of their own; everything else is the static list of the bootstrap role `system:node`.
//! What the authorizer cannot see, the written object, [`crate::node_restriction`] checks.

use crate::node_graph::{NodeGraph, Target};
use crate::request::{Attributes, Decision};
use crate::rule::Rule;
use crate::user::User;

/// Answers for users that are nodes; has no opinion about anybody else.
pub fn authorize(
    graph: &NodeGraph,
    rules: &[Rule],
    user: &User,
    attributes: &Attributes<'_>,
) -> Decision {
    let Some(node) = user.node_identity() else {
        return Decision::default();
    };
    if node.is_empty() {
        return Decision::no_opinion(format!(
            "unknown node for user {}",
            schema::field::go_quote(&user.name)
        ));
    }
    let request = Request {
        graph,
        node,
        attributes,
    };
    let answer = match (attributes.group, attributes.resource) {
        ("", "secrets") => request.read_namespaced(Target::Secret),
        ("", "configmaps") => request.read_namespaced(Target::ConfigMap),
        ("", "persistentvolumeclaims") if attributes.subresource == "status" => {
            request.update_status(Target::PersistentVolumeClaim)
        }
        ("", "persistentvolumeclaims") => request.get(Target::PersistentVolumeClaim),
        ("", "persistentvolumes") => request.get(Target::PersistentVolume),
        ("resource.k8s.io", "resourceclaims") => request.get(Target::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => request.get(Target::VolumeAttachment),
        ("", "serviceaccounts") => request.service_account(),
        ("coordination.k8s.io", "leases") => request.lease(),
        ("storage.k8s.io", "csinodes") => request.csi_node(),
        ("resource.k8s.io", "resourceslices") => request.resource_slice(),
        ("", "nodes") => request.node_object(),
        ("", "pods") => request.pod(),
        _ if rules.iter().any(|rule| rule.allows(attributes)) => Ok(()),
        _ => Err(String::new()),
    };
    match answer {
        Ok(()) => Decision::allow(""),
        Err(reason) => Decision::no_opinion(reason),
    }
}

/// `Err` carries the reason of a refusal.
type Answer = Result<(), String>;

struct Request<'a> {
    graph: &'a NodeGraph,
    node: &'a str,
    attributes: &'a Attributes<'a>,
}

impl Request<'_> {
    fn related(&self, target: Target) -> Answer {
        if self.attributes.name.is_empty() {
            return refuse("No Object name found");
        }
        if self.graph.related(
            self.node,
            target,
            self.attributes.namespace,
            self.attributes.name,
        ) {
            return Ok(());
        }
        Err(format!(
            "no relationship found between node '{}' and this object",
            self.node
        ))
    }

    fn read_namespaced(&self, target: Target) -> Answer {
        if !matches!(self.attributes.verb, "get" | "list" | "watch") {
            return refuse("can only read resources of this type");
        }
        if !self.attributes.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if self.attributes.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        self.related(target)
    }

    fn get(&self, target: Target) -> Answer {
        if self.attributes.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !self.attributes.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        self.related(target)
    }

    fn update_status(&self, target: Target) -> Answer {
        match self.attributes.verb {
            "update" | "patch" => self.related(target),
            _ => refuse("can only get/update/patch this type"),
        }
    }

    /// A token for a service account that one of the node's pods runs as; the account itself may be read.
    fn service_account(&self) -> Answer {
        if self.attributes.verb == "get" && self.attributes.subresource.is_empty() {
            return self.related(Target::ServiceAccount);
        }
        if self.attributes.verb != "create" || self.attributes.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if self.attributes.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        self.related(Target::ServiceAccount)
    }

    fn lease(&self) -> Answer {
        if !matches!(
            self.attributes.verb,
            "get" | "create" | "update" | "patch" | "delete"
        ) {
            return refuse("can only get, create, update, patch, or delete a node lease");
        }
        if self.attributes.namespace != "kube-node-lease" {
            return refuse(r#"can only access leases in the "kube-node-lease" system namespace"#);
        }
        // The name of a created object is in its body: node_restriction looks there.
        if self.attributes.verb != "create" && self.attributes.name != self.node {
            return refuse("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn csi_node(&self) -> Answer {
        if !matches!(
            self.attributes.verb,
            "get" | "create" | "update" | "patch" | "delete"
        ) {
            return refuse("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.attributes.subresource.is_empty() {
            return refuse("cannot authorize CSINode subresources");
        }
        if self.attributes.verb != "create" && self.attributes.name != self.node {
            return refuse("can only access CSINode with the same name as the requesting node");
        }
        Ok(())
    }

    fn resource_slice(&self) -> Answer {
        if !self.attributes.subresource.is_empty() {
            return refuse("cannot authorize ResourceSlice subresources");
        }
        match self.attributes.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(Target::ResourceSlice),
            "watch" | "list" | "deletecollection"
                if self.attributes.selects("spec.nodeName", self.node)
                    || self.attributes.selects("nodeName", self.node) =>
            {
                Ok(())
            }
            "watch" | "list" | "deletecollection" => refuse(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn node_object(&self) -> Answer {
        match (self.attributes.subresource, self.attributes.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match self.attributes.name {
                name if name == self.node => Ok(()),
                "" => Err(format!(
                    "node '{}' cannot read all nodes, only its own Node object",
                    self.node
                )),
                other => Err(format!(
                    "node '{}' cannot read '{other}', only its own Node object",
                    self.node
                )),
            },
            _ => refuse(""),
        }
    }

    fn pod(&self) -> Answer {
        match (self.attributes.subresource, self.attributes.verb) {
            ("", "get") => self.get(Target::Pod),
            ("", "list" | "watch") if self.attributes.selects("spec.nodeName", self.node) => Ok(()),
            ("", "list" | "watch") if !self.attributes.name.is_empty() => self.related(Target::Pod),
            ("", "list" | "watch") => {
                refuse("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => refuse(""),
        }
    }
}

fn refuse(reason: &str) -> Answer {
    Err(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::node_graph::Pods;

    fn ask<'a>(
        verb: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
        field_selector: &'a str,
    ) -> Attributes<'a> {
        let (group, resource) = resource.split_once(':').unwrap_or(("", resource));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            field_selector,
            ..Attributes::default()
        }
    }

    /// A pod on each of two nodes.
    #[derive(Debug)]
    struct Two;

    impl Pods for Two {
        fn pod(&self, _: &str, name: &str, _: &str) -> Option<Value> {
            let spec = match name {
                "p1" => {
                    json!({"nodeName": "n1", "serviceAccountName": "bot", "volumes": [{"secret": {"secretName": "s1"}}, {"configMap": {"name": "c1"}}, {"persistentVolumeClaim": {"claimName": "d1"}}]})
                }
                "p2" => json!({"nodeName": "n2", "volumes": [{"secret": {"secretName": "s2"}}]}),
                _ => return None,
            };
            Some(json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec}))
        }
    }

    fn graph() -> NodeGraph {
        let mut graph = NodeGraph::of(Arc::new(Two));
        graph.move_pod("a", "p1", "", "n1");
        graph.move_pod("a", "p2", "", "n2");
        graph
    }

    #[test]
    fn a_node_reaches_only_its_own() {
        let graph = graph();
        let rules = [Rule::from_value(
            &json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["services"]}),
        )];
        let node = User::node("n1");
        let table = [
            (ask("get", "secrets", "a", "s1", ""), true),
            (ask("watch", "secrets", "a", "s1", ""), true),
            (ask("get", "secrets", "a", "s2", ""), false),
            (ask("list", "secrets", "a", "", ""), false),
            (ask("list", "secrets", "", "", ""), false),
            (ask("update", "secrets", "a", "s1", ""), false),
            (ask("get", "configmaps", "a", "c1", ""), true),
            (ask("delete", "configmaps", "a", "c1", ""), false),
            (ask("get", "persistentvolumeclaims", "a", "d1", ""), true),
            (ask("list", "persistentvolumeclaims", "a", "", ""), false),
            (
                ask("patch", "persistentvolumeclaims/status", "a", "d1", ""),
                true,
            ),
            (ask("create", "serviceaccounts/token", "a", "bot", ""), true),
            (
                ask("create", "serviceaccounts/token", "a", "other", ""),
                false,
            ),
            (ask("create", "serviceaccounts", "a", "", ""), false),
            (ask("get", "serviceaccounts", "a", "bot", ""), true),
            (
                ask(
                    "update",
                    "coordination.k8s.io:leases",
                    "kube-node-lease",
                    "n1",
                    "",
                ),
                true,
            ),
            (
                ask(
                    "update",
                    "coordination.k8s.io:leases",
                    "kube-node-lease",
                    "n2",
                    "",
                ),
                false,
            ),
            (
                ask(
                    "create",
                    "coordination.k8s.io:leases",
                    "kube-node-lease",
                    "",
                    "",
                ),
                true,
            ),
            (
                ask(
                    "create",
                    "coordination.k8s.io:leases",
                    "kube-system",
                    "",
                    "",
                ),
                false,
            ),
            (
                ask(
                    "list",
                    "coordination.k8s.io:leases",
                    "kube-node-lease",
                    "",
                    "",
                ),
                false,
            ),
            (ask("get", "nodes", "", "n1", ""), true),
            (ask("get", "nodes", "", "n2", ""), false),
            (ask("list", "nodes", "", "", ""), false),
            (ask("create", "nodes", "", "", ""), true),
            (ask("patch", "nodes/status", "", "n1", ""), true),
            (ask("delete", "nodes", "", "n1", ""), false),
            (ask("list", "pods", "", "", "spec.nodeName=n1"), true),
            (ask("list", "pods", "", "", "spec.nodeName=n2"), false),
            (ask("list", "pods", "", "", ""), false),
            (ask("get", "pods", "a", "p1", ""), true),
            (ask("get", "pods", "a", "p2", ""), false),
            (ask("patch", "pods/status", "a", "p1", ""), true),
            (ask("update", "pods", "a", "p1", ""), false),
            (ask("create", "pods/exec", "a", "p1", ""), false),
            (ask("create", "pods/binding", "a", "p1", ""), false),
            (ask("list", "services", "", "", ""), true),
            (ask("create", "services", "a", "", ""), false),
        ];
        for (attributes, expected) in table {
            assert_eq!(
                authorize(&graph, &rules, &node, &attributes).allowed,
                expected,
                "{attributes:?}"
            );
        }
        let refused = authorize(&graph, &rules, &node, &ask("get", "secrets", "a", "s2", ""));
        assert_eq!(
            refused.reason,
            "no relationship found between node 'n1' and this object"
        );
    }

    #[test]
    fn others_are_none_of_its_business() {
        let everything = [Rule::all_resources()];
        for user in [
            User::new("system:node:n1", ["dev"]),
            User::new("jane", ["system:nodes"]),
            User::anonymous(),
        ] {
            assert_eq!(
                authorize(
                    &NodeGraph::default(),
                    &everything,
                    &user,
                    &ask("get", "x", "", "", "")
                ),
                Decision::default()
            );
        }
        let nameless = authorize(
            &NodeGraph::default(),
            &everything,
            &User::node(""),
            &ask("get", "x", "", "", ""),
        );
        assert_eq!(
            nameless,
            Decision::no_opinion("unknown node for user \"system:node:\"")
        );
    }
}

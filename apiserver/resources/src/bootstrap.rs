//! The objects that a cluster has from its first moment: namespaces, RBAC roles and bindings, priority classes, and what
//! keeps requests apart ([`flow`]). Clients
//! and tests name them, so their names and contents are facts; `bootstrap/rbac.tsv` holds the RBAC ones.
//!
//! Lines of the table: `ClusterRole name labels aggregation`, `Role namespace/name - -`, each followed by its
//! `rule verbs groups resources names urls`, and `ClusterRoleBinding name role subjects` (`RoleBinding` likewise), where
//! subjects are separated by spaces. Lists are separated by commas, `-` stands for nothing and `""` for the core group.

pub mod flow;

use schema::Object;
use serde_json::{Value, json};

use crate::{Resource, find};

const RBAC: &str = include_str!("bootstrap/rbac.tsv");
const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// Namespaces that always exist.
pub const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Every bootstrap object with its resource, namespaces first. Not defaulted, without uid and timestamps.
pub fn all() -> Vec<(&'static Resource, Object)> {
    let mut objects = Vec::new();
    let mut add = |group: &str, plural: &str, values: Vec<Object>| {
        if let Some(resource) = find(group, "v1", plural) {
            objects.extend(values.into_iter().map(|value| (resource, value)));
        }
    };
    add("", "namespaces", namespaces());
    add("scheduling.k8s.io", "priorityclasses", priority_classes());
    add(RBAC_GROUP, "clusterroles", cluster_roles());
    add(RBAC_GROUP, "clusterrolebindings", cluster_role_bindings());
    add(RBAC_GROUP, "roles", roles());
    add(RBAC_GROUP, "rolebindings", role_bindings());
    let levels = flow::priority_levels();
    add(flow::GROUP, "prioritylevelconfigurations", levels);
    add(flow::GROUP, "flowschemas", flow::flow_schemas());
    objects
}

/// The namespaces as objects.
pub fn namespaces() -> Vec<Object> {
    NAMESPACES
        .iter()
        .map(|name| {
            object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        })
        .collect()
}

/// The two classes that admission takes for system pods.
pub fn priority_classes() -> Vec<Object> {
    [
        ("system-cluster-critical", 2_000_000_000, "For pods that the cluster cannot do without, on whatever node."),
        ("system-node-critical", 2_000_001_000, "For pods that a node cannot do without, on that very node."),
    ]
    .into_iter()
    .map(|(name, value, description)| {
        object(json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority"}))
    })
    .collect()
}

/// Cluster roles, in the order of the table.
pub fn cluster_roles() -> Vec<Object> {
    roles_of("ClusterRole")
}

/// Namespaced roles.
pub fn roles() -> Vec<Object> {
    roles_of("Role")
}

/// Bindings of cluster roles.
pub fn cluster_role_bindings() -> Vec<Object> {
    bindings_of("ClusterRoleBinding")
}

/// Namespaced bindings.
pub fn role_bindings() -> Vec<Object> {
    bindings_of("RoleBinding")
}

fn object(value: Value) -> Object {
    Object::new(value).expect("bootstrap objects are JSON objects")
}

fn lines() -> impl Iterator<Item = Vec<&'static str>> {
    RBAC.lines().map(|line| line.split('\t').collect())
}

fn cell(line: &[&'static str], at: usize) -> &'static str {
    match line.get(at) {
        Some(&"-") | None => "",
        Some(text) => text,
    }
}

fn list(text: &str) -> Vec<&str> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',')
        .map(|item| if item == "\"\"" { "" } else { item })
        .collect()
}

fn named(kind: &str, name: &str) -> Object {
    let mut value = object(json!({"apiVersion": format!("{RBAC_GROUP}/v1"), "kind": kind}));
    match name.split_once('/') {
        Some((namespace, name)) => {
            value.set_namespace(namespace);
            value.set_name(name);
        }
        None => value.set_name(name),
    }
    value.set_label("kubernetes.io/bootstrapping", "rbac-defaults");
    value.set_annotation("rbac.authorization.kubernetes.io/autoupdate", "true");
    value
}

fn roles_of(kind: &str) -> Vec<Object> {
    let mut roles: Vec<(Object, Vec<Value>)> = Vec::new();
    let mut wanted = false;
    for line in lines() {
        if line[0] == "rule" {
            if let Some((_, rules)) = roles.last_mut().filter(|_| wanted) {
                rules.push(rule(&line));
            }
            continue;
        }
        wanted = line[0] == kind;
        if wanted {
            let mut role = named(kind, cell(&line, 1));
            if let Ok(Value::Object(labels)) = serde_json::from_str(cell(&line, 2)) {
                for (key, value) in &labels {
                    role.set_label(key, value.as_str().unwrap_or(""));
                }
            }
            if let Ok(selectors @ Value::Array(_)) = serde_json::from_str(cell(&line, 3)) {
                role.set(&["aggregationRule", "clusterRoleSelectors"], selectors);
            }
            roles.push((role, Vec::new()));
        }
    }
    roles
        .into_iter()
        .map(|(mut role, rules)| {
            role.set(&["rules"], Value::Array(rules));
            role
        })
        .collect()
}

fn rule(line: &[&'static str]) -> Value {
    let mut rule = json!({"verbs": list(cell(line, 1))});
    for (at, field) in [
        (2, "apiGroups"),
        (3, "resources"),
        (4, "resourceNames"),
        (5, "nonResourceURLs"),
    ] {
        let items = list(cell(line, at));
        if !items.is_empty() {
            rule[field] = items.into();
        }
    }
    rule
}

fn bindings_of(kind: &str) -> Vec<Object> {
    lines()
        .filter(|line| line[0] == kind)
        .map(|line| {
            let mut binding = named(kind, cell(&line, 1));
            let (role_kind, role) = cell(&line, 2)
                .split_once('/')
                .unwrap_or(("ClusterRole", ""));
            binding.set(
                &["roleRef"],
                json!({"apiGroup": RBAC_GROUP, "kind": role_kind, "name": role}),
            );
            let subjects: Vec<Value> = cell(&line, 3)
                .split_whitespace()
                .filter_map(subject)
                .collect();
            if !subjects.is_empty() {
                binding.set(&["subjects"], Value::Array(subjects));
            }
            binding
        })
        .collect()
}

/// `User:name`, `Group:name` or `ServiceAccount:namespace/name`.
fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "ServiceAccount" => {
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": kind, "name": name, "namespace": namespace}))
        }
        _ => Some(json!({"apiGroup": RBAC_GROUP, "kind": kind, "name": name})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_the_table_is_valid() {
        let mut rules = 0;
        for (resource, mut object) in all() {
            resource.default(&mut object);
            resource.prepare_create(&mut object);
            let errors = resource.validate(&object);
            assert!(
                errors.is_empty(),
                "{} {}: {errors:?}",
                resource.kind,
                object.name()
            );
            rules += object.get_array(&["rules"]).map_or(0, Vec::len);
        }
        assert_eq!(
            rules,
            RBAC.lines()
                .filter(|line| line.starts_with("rule\t"))
                .count()
        );
        assert_eq!(
            (cluster_roles().len(), cluster_role_bindings().len()),
            (71, 51)
        );
        assert_eq!((roles().len(), role_bindings().len()), (7, 7));
    }

    #[test]
    fn well_known_roles_read_as_in_a_real_cluster() {
        let all = cluster_roles();
        let find = |name: &str| all.iter().find(|role| role.name() == name).unwrap();
        assert_eq!(
            find("cluster-admin").get(&["rules"]),
            Some(
                &json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]}])
            )
        );
        assert_eq!(
            find("admin").get(&["aggregationRule", "clusterRoleSelectors"]),
            Some(
                &json!([{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}}])
            )
        );
        assert_eq!(
            find("view").label("rbac.authorization.k8s.io/aggregate-to-edit"),
            Some("true")
        );
    }
}

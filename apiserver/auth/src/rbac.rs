//! Role based access control, compiled so that a decision looks only at the bindings of the asking user and at
//! the rules about the asked resource.
//!
//! The authorizer is fed with objects, one at a time and in any order; a binding may come before its role.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::request::{Attributes, Decision};
use crate::rule::Rule;
use crate::user::{GROUP_MASTERS, User, service_account_username};
use schema::field::go_quote as quote;

/// The four kinds of `rbac.authorization.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl Kind {
    /// By the plural name of the resource.
    pub fn from_resource(resource: &str) -> Option<Self> {
        Some(match resource {
            "roles" => Kind::Role,
            "clusterroles" => Kind::ClusterRole,
            "rolebindings" => Kind::RoleBinding,
            "clusterrolebindings" => Kind::ClusterRoleBinding,
            _ => return None,
        })
    }
}

/// The rules a user holds in a namespace, with the role references that could not be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesFor {
    pub rules: Vec<Rule>,
    pub errors: Vec<String>,
}

/// Decides by roles and bindings. Cluster-wide objects sit under the empty namespace.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    roles: HashMap<String, HashMap<String, Arc<CompiledRole>>>,
    bindings: HashMap<String, Bindings>,
}

impl Authorizer {
    /// Builds from lists of objects.
    pub fn from_objects<'a>(objects: impl IntoIterator<Item = (Kind, &'a Value)>) -> Self {
        let mut authorizer = Authorizer::default();
        for (kind, object) in objects {
            authorizer.upsert(kind, object);
        }
        authorizer
    }

    /// Takes over a created or changed object.
    pub fn upsert(&mut self, kind: Kind, object: &Value) {
        let (namespace, name) = (metadata(object, "namespace"), metadata(object, "name"));
        match kind {
            Kind::Role | Kind::ClusterRole => {
                let role = Arc::new(CompiledRole::new(Rule::list_from_role(object)));
                self.roles
                    .entry(namespace.to_owned())
                    .or_default()
                    .insert(name.to_owned(), role);
            }
            Kind::RoleBinding | Kind::ClusterRoleBinding => {
                let binding = Binding::from_value(kind, namespace, name, object);
                self.bindings
                    .entry(namespace.to_owned())
                    .or_default()
                    .insert(binding);
            }
        }
    }

    /// Forgets a deleted object; `namespace` is empty for the cluster kinds.
    pub fn remove(&mut self, kind: Kind, namespace: &str, name: &str) {
        match kind {
            Kind::Role | Kind::ClusterRole => {
                if let Some(roles) = self.roles.get_mut(namespace) {
                    roles.remove(name);
                    if roles.is_empty() {
                        self.roles.remove(namespace);
                    }
                }
            }
            Kind::RoleBinding | Kind::ClusterRoleBinding => {
                if let Some(bindings) = self.bindings.get_mut(namespace) {
                    bindings.remove(name);
                    if bindings.by_name.is_empty() {
                        self.bindings.remove(namespace);
                    }
                }
            }
        }
    }

    /// Members of `system:masters` may do everything; everybody else needs a rule.
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if user.in_group(GROUP_MASTERS) {
            return Decision::allow("");
        }
        let mut errors = Vec::new();
        for binding in self.bindings_of(user, attributes.namespace) {
            match self.resolve(&binding.role_kind, &binding.role_name, &binding.namespace) {
                Ok(role) if role.allows(attributes) => {
                    if let Some(subject) = binding.subject_of(user) {
                        let to = subject.description.as_str();
                        return Decision::allow([binding.allowed.as_str(), to].concat());
                    }
                }
                Ok(_) => {}
                Err(error) if errors.contains(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => Decision::no_opinion(""),
            [error] => Decision::no_opinion(format!("RBAC: {error}")),
            several => Decision::no_opinion(format!("RBAC: [{}]", several.join(", "))),
        }
    }

    /// All rules of a user: cluster-wide ones and, when `namespace` is not empty, those of the namespace.
    pub fn rules_for(&self, user: &User, namespace: &str) -> RulesFor {
        let mut found = RulesFor::default();
        for binding in self.bindings_of(user, namespace) {
            match self.resolve(&binding.role_kind, &binding.role_name, &binding.namespace) {
                Ok(role) => found.rules.extend(role.rules.iter().cloned()),
                Err(error) if found.errors.contains(&error) => {}
                Err(error) => found.errors.push(error),
            }
        }
        found
    }

    /// The rules behind a `roleRef` of a binding in `namespace` (empty for a ClusterRoleBinding).
    pub fn role_rules(
        &self,
        role_kind: &str,
        role_name: &str,
        namespace: &str,
    ) -> Result<&[Rule], String> {
        self.resolve(role_kind, role_name, namespace)
            .map(|role| role.rules.as_slice())
    }

    fn bindings_of<'a>(
        &'a self,
        user: &'a User,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Binding> {
        let local = (!namespace.is_empty())
            .then(|| self.bindings.get(namespace))
            .flatten();
        self.bindings
            .get("")
            .into_iter()
            .chain(local)
            .flat_map(|bindings| bindings.of(user))
    }

    fn resolve(
        &self,
        role_kind: &str,
        role_name: &str,
        namespace: &str,
    ) -> Result<&Arc<CompiledRole>, String> {
        let (scope, resource) = match role_kind {
            "Role" => (namespace, "role"),
            "ClusterRole" => ("", "clusterrole"),
            other => return Err(format!("unsupported role reference kind: {}", quote(other))),
        };
        // A ClusterRoleBinding cannot name a Role: there would be no namespace to find it in.
        let roles = if resource == "role" && scope.is_empty() {
            None
        } else {
            self.roles.get(scope)
        };
        roles.and_then(|roles| roles.get(role_name)).ok_or_else(|| {
            format!(
                "{resource}.rbac.authorization.k8s.io {} not found",
                quote(role_name)
            )
        })
    }
}

/// Rules with an index from a resource term of a rule to the rules that name it.
#[derive(Debug)]
struct CompiledRole {
    rules: Vec<Rule>,
    by_resource: HashMap<String, Vec<usize>>,
    with_paths: Vec<usize>,
}

impl CompiledRole {
    fn new(rules: Vec<Rule>) -> Self {
        let mut by_resource: HashMap<String, Vec<usize>> = HashMap::new();
        let mut with_paths = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for resource in &rule.resources {
                by_resource.entry(resource.clone()).or_default().push(index);
            }
            if !rule.non_resource_urls.is_empty() {
                with_paths.push(index);
            }
        }
        CompiledRole {
            rules,
            by_resource,
            with_paths,
        }
    }

    fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let any = |indexes: &[usize]| {
            indexes
                .iter()
                .any(|index| self.rules[*index].allows(attributes))
        };
        if !attributes.is_resource_request() {
            return any(&self.with_paths);
        }
        let named = |term: &str| {
            self.by_resource
                .get(term)
                .is_some_and(|indexes| any(indexes))
        };
        if named("*") {
            return true;
        }
        match attributes.subresource {
            "" => named(attributes.resource),
            subresource => {
                named(&format!("{}/{subresource}", attributes.resource))
                    || named(&format!("*/{subresource}"))
            }
        }
    }
}

/// The bindings of one namespace, found by user name and by group.
#[derive(Clone, Debug, Default)]
struct Bindings {
    by_name: BTreeMap<String, Arc<Binding>>,
    by_user: HashMap<String, InOrder>,
    by_group: HashMap<String, InOrder>,
}

/// Bindings in the order of their names, each once.
type InOrder = Vec<Arc<Binding>>;

impl Bindings {
    fn insert(&mut self, binding: Binding) {
        self.remove(&binding.name);
        let binding = Arc::new(binding);
        for subject in &binding.subjects {
            if let Some((index, key)) = self.index_of(&subject.principal) {
                let list = index.entry(key).or_default();
                if let Err(at) = list.binary_search_by(|one| one.name.cmp(&binding.name)) {
                    list.insert(at, binding.clone());
                }
            }
        }
        self.by_name.insert(binding.name.clone(), binding);
    }

    fn remove(&mut self, name: &str) {
        let Some(binding) = self.by_name.remove(name) else {
            return;
        };
        for subject in &binding.subjects {
            if let Some((index, key)) = self.index_of(&subject.principal)
                && let Some(list) = index.get_mut(&key)
            {
                if let Ok(at) = list.binary_search_by(|one| one.name.as_str().cmp(name)) {
                    list.remove(at);
                }
                if list.is_empty() {
                    index.remove(&key);
                }
            }
        }
    }

    fn index_of(
        &mut self,
        principal: &Principal,
    ) -> Option<(&mut HashMap<String, InOrder>, String)> {
        match principal {
            Principal::User(name) => Some((&mut self.by_user, name.clone())),
            Principal::Group(name) => Some((&mut self.by_group, name.clone())),
            Principal::Nobody => None,
        }
    }

    /// The bindings of a user in name order, each once.
    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Binding> {
        let by_group = user
            .groups
            .iter()
            .filter_map(|group| self.by_group.get(group));
        let lists = self.by_user.get(&user.name).into_iter().chain(by_group);
        merged(lists.map(Vec::as_slice).collect())
    }
}

/// The bindings of all lists in name order, each once. Nothing is gathered: the first one that allows a request ends the
/// search, and nearly every request is allowed.
fn merged<'a>(mut lists: Vec<&'a [Arc<Binding>]>) -> impl Iterator<Item = &'a Binding> {
    let mut heads: BinaryHeap<Reverse<(&'a str, usize)>> = lists
        .iter()
        .enumerate()
        .filter_map(|(at, list)| Some(Reverse((list.first()?.name.as_str(), at))))
        .collect();
    let mut last: Option<&'a str> = None;
    std::iter::from_fn(move || {
        loop {
            let Reverse((name, at)) = heads.pop()?;
            let list: &'a [Arc<Binding>] = lists[at];
            let (binding, rest) = list.split_first()?;
            lists[at] = rest;
            if let Some(next) = rest.first() {
                heads.push(Reverse((next.name.as_str(), at)));
            }
            if last.replace(name) != Some(name) {
                return Some(binding.as_ref());
            }
        }
    })
}

#[derive(Debug)]
struct Binding {
    /// As in `RBAC: allowed by RoleBinding "b/ns" of Role "r" to `: what every request is told that it lets through.
    allowed: String,
    namespace: String,
    name: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<Subject>,
}

#[derive(Debug)]
struct Subject {
    principal: Principal,
    /// As in `User "jane"`.
    description: String,
}

#[derive(Debug)]
enum Principal {
    User(String),
    Group(String),
    Nobody,
}

impl Principal {
    fn is(&self, user: &User) -> bool {
        match self {
            Principal::User(name) => *name == user.name,
            Principal::Group(group) => user.in_group(group),
            Principal::Nobody => false,
        }
    }
}

impl Binding {
    /// Its first subject that is the user.
    fn subject_of(&self, user: &User) -> Option<&Subject> {
        let mut subjects = self.subjects.iter();
        subjects.find(|subject| subject.principal.is(user))
    }

    fn from_value(kind: Kind, namespace: &str, name: &str, value: &Value) -> Self {
        let role = |field: &str| {
            value
                .pointer(&format!("/roleRef/{field}"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let subjects = value
            .get("subjects")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let (role_kind, role_name) = (role("kind"), role("name"));
        let shown = match kind {
            Kind::RoleBinding => format!("RoleBinding {}", quote(&format!("{name}/{namespace}"))),
            _ => format!("ClusterRoleBinding {}", quote(name)),
        };
        let of = quote(&role_name);
        Binding {
            allowed: format!("RBAC: allowed by {shown} of {role_kind} {of} to "),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            role_kind,
            role_name,
            subjects: subjects
                .iter()
                .map(|subject| Subject::from_value(subject, namespace))
                .collect(),
        }
    }
}

impl Subject {
    fn from_value(value: &Value, binding_namespace: &str) -> Self {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("kind"), text("name"));
        // A service account without a namespace is one of the binding's own namespace.
        let namespace = if text("namespace").is_empty() {
            binding_namespace
        } else {
            text("namespace")
        };
        match kind {
            "User" => Subject {
                principal: Principal::User(name.to_owned()),
                description: format!("User {}", quote(name)),
            },
            "Group" => Subject {
                principal: Principal::Group(name.to_owned()),
                description: format!("Group {}", quote(name)),
            },
            "ServiceAccount" if !namespace.is_empty() => Subject {
                principal: Principal::User(service_account_username(namespace, name)),
                description: format!("ServiceAccount {}", quote(&format!("{name}/{namespace}"))),
            },
            _ => Subject {
                principal: Principal::Nobody,
                description: format!("{kind} {}", quote(name)),
            },
        }
    }
}

fn metadata<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fixture() -> Authorizer {
        let objects = [
            (
                Kind::ClusterRole,
                json!({"metadata": {"name": "view"}, "rules": [{"verbs": ["get", "list", "watch"], "apiGroups": ["", "apps"], "resources": ["pods", "pods/log", "deployments"]}]}),
            ),
            (
                Kind::ClusterRole,
                json!({"metadata": {"name": "info"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/version", "/healthz/*"]}]}),
            ),
            (
                Kind::Role,
                json!({"metadata": {"name": "one-secret", "namespace": "a"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["key"]}]}),
            ),
            (
                Kind::RoleBinding,
                json!({"metadata": {"name": "viewers", "namespace": "a"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "User", "name": "jane"}, {"kind": "Group", "name": "dev"}, {"kind": "ServiceAccount", "name": "bot"}]}),
            ),
            (
                Kind::RoleBinding,
                json!({"metadata": {"name": "secret", "namespace": "a"}, "roleRef": {"kind": "Role", "name": "one-secret"}, "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "b"}]}),
            ),
            (
                Kind::ClusterRoleBinding,
                json!({"metadata": {"name": "info"}, "roleRef": {"kind": "ClusterRole", "name": "info"}, "subjects": [{"kind": "Group", "name": "system:unauthenticated"}]}),
            ),
            (
                Kind::ClusterRoleBinding,
                json!({"metadata": {"name": "lost"}, "roleRef": {"kind": "ClusterRole", "name": "gone"}, "subjects": [{"kind": "User", "name": "joe"}]}),
            ),
            (
                // Role in a cluster binding: never resolves, even with a role of that name in the cluster scope map.
                Kind::ClusterRoleBinding,
                json!({"metadata": {"name": "bad"}, "roleRef": {"kind": "Role", "name": "view"}, "subjects": [{"kind": "User", "name": "eve"}, {"kind": "ServiceAccount", "name": "bot"}]}),
            ),
        ];
        Authorizer::from_objects(objects.iter().map(|(kind, object)| (*kind, object)))
    }

    fn ask(
        verb: &'static str,
        resource: &'static str,
        namespace: &'static str,
        name: &'static str,
    ) -> Attributes<'static> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::default()
        }
    }

    #[test]
    fn decisions() {
        let rbac = fixture();
        let jane = User::new("jane", ["system:authenticated"]);
        let dev = User::new("any", ["dev"]);
        let bot_a = User::service_account("a", "bot", "1");
        let bot_b = User::service_account("b", "bot", "2");
        let table = [
            (&jane, ask("list", "pods", "a", ""), true),
            (&jane, ask("list", "pods", "b", ""), false),
            (&jane, ask("list", "pods", "", ""), false),
            (&jane, ask("get", "pods/log", "a", "x"), true),
            (&jane, ask("get", "pods/exec", "a", "x"), false),
            (&jane, ask("delete", "pods", "a", "x"), false),
            (&dev, ask("watch", "pods", "a", ""), true),
            (&bot_a, ask("list", "pods", "a", ""), true),
            (&bot_a, ask("get", "secrets", "a", "key"), false),
            (&bot_b, ask("get", "secrets", "a", "key"), true),
            (&bot_b, ask("get", "secrets", "a", "other"), false),
            (&bot_b, ask("list", "secrets", "a", ""), false),
            (
                &User::anonymous(),
                Attributes {
                    verb: "get",
                    path: "/version",
                    ..Attributes::default()
                },
                true,
            ),
            (
                &User::anonymous(),
                Attributes {
                    verb: "get",
                    path: "/healthz/etcd",
                    ..Attributes::default()
                },
                true,
            ),
            (
                &User::anonymous(),
                Attributes {
                    verb: "get",
                    path: "/metrics",
                    ..Attributes::default()
                },
                false,
            ),
            (&User::loopback(), ask("delete", "nodes", "", "x"), true),
        ];
        for (user, attributes, expected) in table {
            assert_eq!(
                rbac.authorize(user, &attributes).allowed,
                expected,
                "{} {attributes:?}",
                user.name
            );
        }
        let reason = rbac.authorize(&bot_a, &ask("list", "pods", "a", "")).reason;
        assert_eq!(
            reason,
            r#"RBAC: allowed by RoleBinding "viewers/a" of ClusterRole "view" to ServiceAccount "bot/a""#
        );
    }

    #[test]
    fn lost_roles_are_named() {
        let rbac = fixture();
        let reason = |name: &str| {
            rbac.authorize(&User::new(name, [""]), &ask("get", "pods", "", "x"))
                .reason
        };
        assert_eq!(
            reason("joe"),
            r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#
        );
        assert_eq!(
            reason("eve"),
            r#"RBAC: role.rbac.authorization.k8s.io "view" not found"#
        );
        assert_eq!(reason("nobody"), "");
    }

    #[test]
    fn changes_take_effect_and_leave_nothing_behind() {
        let mut rbac = fixture();
        let jane = User::new("jane", ["dev"]);
        let list = ask("list", "pods", "a", "");
        rbac.upsert(
            Kind::RoleBinding,
            &json!({"metadata": {"name": "viewers", "namespace": "a"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "Group", "name": "ops"}]}),
        );
        assert!(!rbac.authorize(&jane, &list).allowed);
        assert!(rbac.authorize(&User::new("x", ["ops"]), &list).allowed);
        rbac.upsert(
            Kind::ClusterRole,
            &json!({"metadata": {"name": "view"}, "rules": []}),
        );
        assert!(!rbac.authorize(&User::new("x", ["ops"]), &list).allowed);
        rbac.remove(Kind::RoleBinding, "a", "viewers");
        rbac.remove(Kind::RoleBinding, "a", "secret");
        rbac.remove(Kind::Role, "a", "one-secret");
        rbac.remove(Kind::Role, "a", "never was");
        assert!(!rbac.bindings.contains_key("a") && !rbac.roles.contains_key("a"));
    }

    /// The names of the bindings that count for a user, as they are asked.
    fn asked<'a>(rbac: &'a Authorizer, user: &'a User) -> Vec<&'a str> {
        let bindings = rbac.bindings_of(user, "");
        bindings.map(|binding| binding.name.as_str()).collect()
    }

    #[test]
    fn bindings_are_asked_in_the_order_of_their_names_and_once() {
        let mut rbac = Authorizer::default();
        let subject = |kind: &str, name: &str| json!({"kind": kind, "name": name});
        let (jane, dev, ops) = (
            subject("User", "jane"),
            subject("Group", "dev"),
            subject("Group", "ops"),
        );
        let bind = |name: &str, subjects: &[&Value]| {
            json!({"metadata": {"name": name}, "subjects": subjects,
                "roleRef": {"kind": "ClusterRole", "name": "r"}})
        };
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let role = json!({"metadata": {"name": "r"}, "rules": [rule]});
        rbac.upsert(Kind::ClusterRole, &role);
        for (name, subjects) in [
            ("e", &[&jane][..]),
            ("b", &[&dev, &jane, &dev][..]),
            ("d", &[&ops, &dev][..]),
            ("a", &[&ops][..]),
            ("c", &[&jane, &ops][..]),
        ] {
            rbac.upsert(Kind::ClusterRoleBinding, &bind(name, subjects));
        }
        let user = User::new("jane", ["dev", "dev", "ops", "nobody"]);
        assert_eq!(asked(&rbac, &user), ["a", "b", "c", "d", "e"]);
        assert_eq!(asked(&rbac, &User::new("joe", ["dev"])), ["b", "d"]);
        let reason = |rbac: &Authorizer| rbac.authorize(&user, &ask("get", "pods", "", "x")).reason;
        assert!(reason(&rbac).ends_with(r#""a" of ClusterRole "r" to Group "ops""#));
        rbac.remove(Kind::ClusterRoleBinding, "", "a");
        assert!(reason(&rbac).ends_with(r#""b" of ClusterRole "r" to Group "dev""#));
        rbac.upsert(Kind::ClusterRoleBinding, &bind("b", &[&jane]));
        rbac.remove(Kind::ClusterRoleBinding, "", "d");
        assert_eq!(asked(&rbac, &user), ["b", "c", "e"]);
        let left = &rbac.bindings[""];
        assert!(!left.by_group.contains_key("dev"));
        assert_eq!(
            (left.by_user["jane"].len(), left.by_group["ops"].len()),
            (3, 1)
        );
    }

    #[test]
    fn rules_of_a_user() {
        let rbac = fixture();
        let rules = rbac.rules_for(&User::new("jane", ["system:unauthenticated"]), "a");
        assert_eq!(rules.rules.len(), 2);
        assert_eq!(rbac.rules_for(&User::new("joe", [""]), "a").errors.len(), 1);
        assert_eq!(rbac.role_rules("Role", "one-secret", "a").unwrap().len(), 1);
        assert!(rbac.role_rules("Role", "one-secret", "b").is_err());
        assert_eq!(
            rbac.role_rules("Pod", "x", "b").unwrap_err(),
            r#"unsupported role reference kind: "Pod""#
        );
    }

    #[test]
    fn odd_objects_grant_nothing() {
        let mut rbac = Authorizer::default();
        for object in [
            json!(null),
            json!([]),
            json!({"metadata": 3, "rules": 4, "subjects": {}, "roleRef": []}),
            json!({"rules": [1, {"verbs": "get", "resources": [1]}]}),
        ] {
            for kind in [
                Kind::Role,
                Kind::ClusterRole,
                Kind::RoleBinding,
                Kind::ClusterRoleBinding,
            ] {
                rbac.upsert(kind, &object);
            }
        }
        assert!(
            !rbac
                .authorize(&User::anonymous(), &ask("get", "pods", "", "x"))
                .allowed
        );
    }
}

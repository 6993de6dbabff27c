//! Role based access control, compiled so that a decision looks only at the bindings of the asking user and at
//! the rules about the asked resource.
//!
//! The authorizer is fed with objects, one at a time and in any order; a binding may come before its role.

mod bindings;
mod role;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::request::{Attributes, Decision};
use crate::rule::Rule;
use crate::user::{GROUP_MASTERS, User};
use bindings::{Binding, Bindings};
use role::CompiledRole;
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
                    if bindings.is_empty() {
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

fn metadata<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

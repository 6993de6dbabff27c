//! Bindings, found by whom they are for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use schema::field::go_quote as quote;
use serde_json::Value;

use super::Kind;
use crate::user::{User, service_account_username};

/// The bindings of one namespace, found by user name and by group.
#[derive(Clone, Debug, Default)]
pub(super) struct Bindings {
    by_name: BTreeMap<String, Arc<Binding>>,
    pub(super) by_user: HashMap<String, InOrder>,
    pub(super) by_group: HashMap<String, InOrder>,
}

/// Bindings in the order of their names, each once.
type InOrder = Vec<Arc<Binding>>;

impl Bindings {
    pub(super) fn insert(&mut self, binding: Binding) {
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

    pub(super) fn remove(&mut self, name: &str) {
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

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The bindings of a user in name order, each once.
    pub(super) fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Binding> {
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
pub(super) struct Binding {
    /// As in `RBAC: allowed by RoleBinding "b/ns" of Role "r" to `: what every request is told that it lets through.
    pub(super) allowed: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) role_kind: String,
    pub(super) role_name: String,
    subjects: Vec<Subject>,
}

#[derive(Debug)]
pub(super) struct Subject {
    principal: Principal,
    /// As in `User "jane"`.
    pub(super) description: String,
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
    pub(super) fn subject_of(&self, user: &User) -> Option<&Subject> {
        let mut subjects = self.subjects.iter();
        subjects.find(|subject| subject.principal.is(user))
    }

    pub(super) fn from_value(kind: Kind, namespace: &str, name: &str, value: &Value) -> Self {
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

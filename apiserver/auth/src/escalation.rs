//! Nobody may grant rights that they do not hold: the checks that guard writes of roles and bindings.
//!
//! A role may be written by who holds all its rules, or the verb `escalate` on it. A binding may be written by
//! who holds all the rules behind it, or the verb `bind` on the role. `system:masters` may do both.

use serde_json::Value;

use schema::field::go_quote as quote;

use crate::policy::Policy;
use crate::request::{Attributes, Forbidden};
use crate::rule::{Rule, compact, covers, missing, quote_list};
use crate::user::{GROUP_MASTERS, User};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Why a role or binding may not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 403.
    Forbidden(Forbidden),
    /// 404: a binding refers to a role that does not exist, and the writer may not bind it unseen.
    RoleNotFound,
}

/// May `user` write this Role (`namespace` not empty) or ClusterRole? `old` is the stored object on update.
pub fn check_role(
    policy: &Policy,
    user: &User,
    namespace: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Refusal> {
    let resource = if namespace.is_empty() {
        "clusterroles"
    } else {
        "roles"
    };
    let name = name_of(new);
    let escalate = Attributes {
        verb: "escalate",
        group: GROUP,
        version: "v1",
        resource,
        namespace,
        name,
        ..Attributes::default()
    };
    if user.in_group(GROUP_MASTERS)
        || only_garbage_collection(new, old)
        || policy.authorize(user, &escalate).allowed
    {
        return Ok(());
    }
    let aggregates = |role: &Value| {
        role.get("aggregationRule")
            .is_some_and(|rule| !rule.is_null())
    };
    // An aggregation rule can gather anything, now and later, so that only somebody with every right may set it.
    if namespace.is_empty() && (aggregates(new) || old.is_some_and(aggregates)) {
        let held = policy.rbac.rules_for(user, "").rules;
        if !covers(&held, &[Rule::all_resources(), Rule::all_paths()]) {
            return Err(forbidden(
                resource,
                name,
                "must have cluster-admin privileges to use the aggregationRule",
            ));
        }
    }
    confirm_no_escalation(policy, user, namespace, &Rule::list_from_role(new))
        .map_err(|text| forbidden(resource, name, &text))
}

/// May `user` write this RoleBinding (`namespace` not empty) or ClusterRoleBinding?
pub fn check_binding(
    policy: &Policy,
    user: &User,
    namespace: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Refusal> {
    let resource = if namespace.is_empty() {
        "clusterrolebindings"
    } else {
        "rolebindings"
    };
    let role = |field: &str| {
        new.get("roleRef")
            .and_then(|role| role.get(field))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if user.in_group(GROUP_MASTERS)
        || only_garbage_collection(new, old)
        || may_bind(policy, user, namespace, role)
    {
        return Ok(());
    }
    let rules = policy
        .rbac
        .role_rules(role("kind"), role("name"), namespace)
        .map_err(|_| Refusal::RoleNotFound)?;
    confirm_no_escalation(policy, user, namespace, rules)
        .map_err(|text| forbidden(resource, name_of(new), &text))
}

fn may_bind<'a>(
    policy: &Policy,
    user: &User,
    namespace: &str,
    role: impl Fn(&str) -> &'a str,
) -> bool {
    let resource = match role("kind") {
        "Role" => "roles",
        "ClusterRole" => "clusterroles",
        _ => return false,
    };
    let group = if role("apiGroup").is_empty() {
        GROUP
    } else {
        role("apiGroup")
    };
    let bind = Attributes {
        verb: "bind",
        group,
        version: "*",
        resource,
        namespace,
        name: role("name"),
        ..Attributes::default()
    };
    policy.authorize(user, &bind).allowed
}

/// The error text of Kubernetes when `user` does not hold all of `rules` in `namespace`.
pub fn confirm_no_escalation(
    policy: &Policy,
    user: &User,
    namespace: &str,
    rules: &[Rule],
) -> Result<(), String> {
    let held = policy.rbac.rules_for(user, namespace);
    let missing = missing(&held.rules, rules);
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = compact(&missing).iter().map(Rule::compact_text).collect();
    lines.sort_unstable();
    lines.dedup();
    let mut text = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quote(&user.name),
        quote_list(&user.groups),
        lines.join("\n")
    );
    match held.errors.as_slice() {
        [] => {}
        [error] => text.push_str(&format!("; resolution errors: [{error}]")),
        several => text.push_str(&format!("; resolution errors: [[{}]]", several.join(", "))),
    }
    Err(text)
}

/// An update that touches only finalizers and owner references grants nothing; the garbage collector needs it.
fn only_garbage_collection(new: &Value, old: Option<&Value>) -> bool {
    let stripped = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "finalizers",
                "ownerReferences",
                "managedFields",
                "resourceVersion",
            ] {
                metadata.remove(field);
            }
        }
        object
    };
    old.is_some_and(|old| stripped(old) == stripped(new))
}

fn forbidden(resource: &str, name: &str, text: &str) -> Refusal {
    Refusal::Forbidden(Forbidden::new(GROUP, resource, name, text))
}

fn name_of(object: &Value) -> &str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rbac::Kind;

    /// jane: reads pods and writes roles in `a`; lead: the same and may bind `admin`; boss: escalate on roles.
    fn fixture() -> Policy {
        let mut policy = Policy::default();
        let mut add = |kind, object: Value| policy.rbac.upsert(kind, &object);
        add(
            Kind::ClusterRole,
            json!({"metadata": {"name": "reader"}, "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]}),
        );
        add(
            Kind::ClusterRole,
            json!({"metadata": {"name": "admin"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
        );
        add(
            Kind::Role,
            json!({"metadata": {"name": "binder", "namespace": "a"}, "rules": [{"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["admin"]}]}),
        );
        add(
            Kind::Role,
            json!({"metadata": {"name": "escalator", "namespace": "a"}, "rules": [{"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"]}]}),
        );
        for (name, role, subject) in [
            ("1", ("ClusterRole", "reader"), "jane"),
            ("2", ("ClusterRole", "reader"), "lead"),
            ("3", ("Role", "binder"), "lead"),
            ("4", ("Role", "escalator"), "boss"),
        ] {
            add(
                Kind::RoleBinding,
                json!({"metadata": {"name": name, "namespace": "a"}, "roleRef": {"kind": role.0, "name": role.1}, "subjects": [{"kind": "User", "name": subject}]}),
            );
        }
        policy
    }

    fn user(name: &str) -> User {
        User::new(name, ["dev", "system:authenticated"])
    }

    fn role(verbs: &[&str]) -> Value {
        json!({"metadata": {"name": "r"}, "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}]})
    }

    #[test]
    fn roles_may_only_hold_what_the_writer_holds() {
        let policy = fixture();
        assert_eq!(
            check_role(&policy, &user("jane"), "a", &role(&["get"]), None),
            Ok(())
        );
        let refused = check_role(
            &policy,
            &user("jane"),
            "a",
            &role(&["get", "delete", "create"]),
            None,
        );
        let Err(Refusal::Forbidden(forbidden)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(
            forbidden.message,
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"create\"]}"
        );
        // Rights in one namespace are none in the cluster or elsewhere.
        assert!(check_role(&policy, &user("jane"), "", &role(&["get"]), None).is_err());
        assert!(check_role(&policy, &user("jane"), "b", &role(&["get"]), None).is_err());
        assert_eq!(
            check_role(&policy, &user("boss"), "a", &role(&["*"]), None),
            Ok(())
        );
        assert!(check_role(&policy, &user("boss"), "b", &role(&["*"]), None).is_err());
        assert_eq!(
            check_role(&policy, &User::loopback(), "", &role(&["*"]), None),
            Ok(())
        );
    }

    #[test]
    fn finalizers_may_change_without_rights() {
        let old = json!({"metadata": {"name": "r", "finalizers": ["x"], "resourceVersion": "1"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
        let mut new = old.clone();
        new["metadata"] = json!({"name": "r", "resourceVersion": "1"});
        assert_eq!(
            check_role(&fixture(), &user("eve"), "a", &new, Some(&old)),
            Ok(())
        );
        new["metadata"]["labels"] = json!({"a": "b"});
        assert!(check_role(&fixture(), &user("eve"), "a", &new, Some(&old)).is_err());
    }

    #[test]
    fn aggregation_needs_every_right() {
        let new = json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": []}, "rules": []});
        let refused = check_role(&fixture(), &user("jane"), "", &new, None);
        let Err(Refusal::Forbidden(forbidden)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            forbidden
                .message
                .ends_with("must have cluster-admin privileges to use the aggregationRule")
        );
        // Taking the rule away is as much a change of it.
        assert!(
            check_role(
                &fixture(),
                &user("jane"),
                "",
                &json!({"metadata": {"name": "r"}}),
                Some(&new)
            )
            .is_err()
        );
    }

    #[test]
    fn bindings_need_the_rules_or_the_verb_bind() {
        let policy = fixture();
        let binding = |kind: &str, name: &str| json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name}});
        assert_eq!(
            check_binding(
                &policy,
                &user("jane"),
                "a",
                &binding("ClusterRole", "reader"),
                None
            ),
            Ok(())
        );
        assert!(matches!(
            check_binding(
                &policy,
                &user("jane"),
                "",
                &binding("ClusterRole", "reader"),
                None
            ),
            Err(Refusal::Forbidden(_))
        ));
        assert!(matches!(
            check_binding(
                &policy,
                &user("jane"),
                "a",
                &binding("ClusterRole", "admin"),
                None
            ),
            Err(Refusal::Forbidden(_))
        ));
        assert_eq!(
            check_binding(
                &policy,
                &user("lead"),
                "a",
                &binding("ClusterRole", "admin"),
                None
            ),
            Ok(())
        );
        assert!(
            check_binding(
                &policy,
                &user("lead"),
                "",
                &binding("ClusterRole", "admin"),
                None
            )
            .is_err()
        );
        assert_eq!(
            check_binding(&policy, &user("jane"), "a", &binding("Role", "none"), None),
            Err(Refusal::RoleNotFound)
        );
        assert_eq!(
            check_binding(
                &policy,
                &User::loopback(),
                "",
                &binding("ClusterRole", "none"),
                None
            ),
            Ok(())
        );
    }
}

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

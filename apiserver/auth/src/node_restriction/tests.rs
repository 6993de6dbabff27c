use serde_json::json;

use super::*;

struct World {
    pods: Vec<Value>,
    node: Value,
}

impl World {
    fn new() -> Self {
        let pod = |name: &str, node: &str| json!({"metadata": {"name": name, "namespace": "a", "uid": format!("{name}-uid")}, "spec": {"nodeName": node, "serviceAccountName": "bot"}});
        World {
            pods: vec![pod("mine", "n1"), pod("theirs", "n2")],
            node: json!({"metadata": {"name": "n1", "uid": "u1"}}),
        }
    }

    fn check(
        &self,
        operation: Operation,
        path: (&str, &str, &str),
        names: (&str, &str),
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), String> {
        let write = Write {
            operation,
            group: path.0,
            resource: path.1,
            subresource: path.2,
            namespace: names.0,
            name: names.1,
            object,
            old,
        };
        check(
            &User::node("n1"),
            &write,
            |resource, _, name| match resource {
                "nodes" => Some(&self.node).filter(|_| name == "n1"),
                _ => self.pods.iter().find(|pod| meta(pod, "name") == name),
            },
        )
    }
}

#[test]
fn others_are_not_restricted() {
    let null = Value::Null;
    let write = Write {
        operation: Operation::Create,
        group: "",
        resource: "pods",
        subresource: "",
        name: "",
        namespace: "a",
        object: &null,
        old: None,
    };
    assert_eq!(
        check(&User::new("jane", [""]), &write, |_, _, _| None),
        Ok(())
    );
    assert!(check(&User::node(""), &write, |_, _, _| None).is_err());
}

#[test]
fn nodes_write_only_themselves() {
    let world = World::new();
    let node = |spec: Value, labels: Value| json!({"metadata": {"name": "n1", "labels": labels}, "spec": spec});
    let plain = node(
        json!({"taints": []}),
        json!({"kubernetes.io/hostname": "n1", "own": "x"}),
    );
    let create =
        |object: &Value| world.check(Operation::Create, ("", "nodes", ""), ("", ""), object, None);
    let update = |object: &Value| {
        world.check(
            Operation::Update,
            ("", "nodes", ""),
            ("", "n1"),
            object,
            Some(&plain),
        )
    };
    assert_eq!(create(&plain), Ok(()));
    assert_eq!(
        create(&json!({"metadata": {"name": "n2"}})).unwrap_err(),
        r#"node "n1" is not allowed to modify node "n2""#
    );
    assert_eq!(
        create(&node(json!({}), json!({"node-role.kubernetes.io/control-plane": "", "node-restriction.kubernetes.io/x": "y", "node.kubernetes.io/x": "y"}))).unwrap_err(),
        r#"node "n1" is not allowed to set the following labels: node-restriction.kubernetes.io/x, node-role.kubernetes.io/control-plane"#
    );
    assert_eq!(update(&plain), Ok(()));
    assert_eq!(
        update(&node(json!({"taints": [{"key": "k"}]}), json!({}))).unwrap_err(),
        r#"node "n1" is not allowed to modify taints"#
    );
    assert_eq!(
        update(&node(
            json!({}),
            json!({"kubernetes.io/hostname": "n1", "k8s.io/x": "1"})
        ))
        .unwrap_err(),
        "is not allowed to modify labels: k8s.io/x"
    );
    assert_eq!(
        update(&node(
            json!({}),
            json!({"kubernetes.io/hostname": "other", "new": "y", "evilkubernetes.io/x": "1"})
        )),
        Ok(())
    );
    assert!(
        update(&node(
            json!({"configSource": {}}),
            json!({"kubernetes.io/hostname": "n1", "own": "x"})
        ))
        .is_err()
    );
}

#[test]
fn only_mirror_pods_are_created() {
    let world = World::new();
    let create =
        |object: &Value| world.check(Operation::Create, ("", "pods", ""), ("a", ""), object, None);
    let good = json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}], "volumes": [{"name": "h", "hostPath": {"path": "/x"}}]}});
    assert_eq!(create(&good), Ok(()));
    let bad = [
        ("/metadata/annotations", json!({})),
        ("/spec/nodeName", json!("n2")),
        ("/metadata/ownerReferences", json!([])),
        ("/metadata/ownerReferences/0/uid", json!("u2")),
        ("/metadata/ownerReferences/0/controller", json!(false)),
        (
            "/spec/containers/0",
            json!({"envFrom": [{"secretRef": {"name": "s"}}]}),
        ),
        (
            "/spec/containers/0",
            json!({"env": [{"valueFrom": {"configMapKeyRef": {"name": "s"}}}]}),
        ),
        ("/spec/volumes/0", json!({"secret": {"secretName": "s"}})),
        (
            "/spec/volumes/0",
            json!({"projected": {"sources": [{"serviceAccountToken": {}}]}}),
        ),
        (
            "/spec/volumes/0",
            json!({"csi": {"nodePublishSecretRef": {"name": "s"}}}),
        ),
    ];
    for (pointer, value) in bad {
        let mut pod = good.clone();
        *pod.pointer_mut(pointer).unwrap() = value;
        assert!(create(&pod).is_err(), "{pointer}");
    }
    let mut with_account = good;
    with_account["spec"]["serviceAccountName"] = "bot".into();
    assert_eq!(
        create(&with_account).unwrap_err(),
        r#"node "n1" can not create pods that reference a service account"#
    );
}

#[test]
fn pods_of_other_nodes_are_out_of_reach() {
    let world = World::new();
    let (mine, theirs) = (&world.pods[0], &world.pods[1]);
    let status = |pod: &Value| {
        world.check(
            Operation::Update,
            ("", "pods", "status"),
            ("a", meta(pod, "name")),
            pod,
            Some(pod),
        )
    };
    assert_eq!(status(mine), Ok(()));
    assert!(status(theirs).is_err());
    let mut relabelled = mine.clone();
    relabelled["metadata"]["labels"] = json!({"app": "bait"});
    assert!(
        world
            .check(
                Operation::Update,
                ("", "pods", "status"),
                ("a", "mine"),
                &relabelled,
                Some(mine)
            )
            .is_err()
    );
    let delete = |pod: &Value| {
        world.check(
            Operation::Delete,
            ("", "pods", ""),
            ("a", meta(pod, "name")),
            &Value::Null,
            Some(pod),
        )
    };
    assert_eq!(delete(mine), Ok(()));
    assert!(delete(theirs).is_err());
    assert!(
        world
            .check(
                Operation::Update,
                ("", "pods", ""),
                ("a", "mine"),
                mine,
                Some(mine)
            )
            .is_err()
    );
    assert!(
        world
            .check(
                Operation::Create,
                ("", "pods", "binding"),
                ("a", "mine"),
                &json!({}),
                None
            )
            .is_err()
    );
    let evict = |name: &str| {
        world.check(
            Operation::Create,
            ("", "pods", "eviction"),
            ("a", name),
            &json!({}),
            None,
        )
    };
    assert_eq!(evict("mine"), Ok(()));
    assert!(evict("theirs").is_err() && evict("").is_err());
}

#[test]
fn tokens_are_for_own_pods() {
    let world = World::new();
    let ask = |account: &str, bound: Value| {
        world.check(
            Operation::Create,
            ("", "serviceaccounts", "token"),
            ("a", account),
            &json!({"spec": {"boundObjectRef": bound}}),
            None,
        )
    };
    let bound = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    assert_eq!(ask("bot", bound("mine", "mine-uid")), Ok(()));
    for refused in [
        ask("bot", Value::Null),
        ask(
            "bot",
            json!({"apiVersion": "v1", "kind": "Secret", "name": "mine", "uid": "x"}),
        ),
        ask("bot", bound("mine", "")),
        ask("bot", bound("mine", "other")),
        ask("bot", bound("theirs", "theirs-uid")),
        ask("bot", bound("none", "x")),
        ask("admin", bound("mine", "mine-uid")),
    ] {
        assert!(refused.is_err());
    }
}

#[test]
fn leases_and_claims() {
    let world = World::new();
    let lease = |namespace: &str, name: &str, object: &Value| {
        world.check(
            if name.is_empty() {
                Operation::Create
            } else {
                Operation::Update
            },
            ("coordination.k8s.io", "leases", ""),
            (namespace, name),
            object,
            None,
        )
    };
    assert_eq!(
        lease("kube-node-lease", "", &json!({"metadata": {"name": "n1"}})),
        Ok(())
    );
    assert!(lease("kube-node-lease", "", &json!({"metadata": {"name": "n2"}})).is_err());
    assert!(lease("kube-system", "n1", &json!({})).is_err());
    let old = json!({"metadata": {"name": "d", "resourceVersion": "1"}, "spec": {"x": 1}, "status": {"phase": "Bound"}});
    let claim = |new: Value| {
        world.check(
            Operation::Update,
            ("", "persistentvolumeclaims", "status"),
            ("a", "d"),
            &new,
            Some(&old),
        )
    };
    assert_eq!(
        claim(
            json!({"metadata": {"name": "d"}, "spec": {"x": 1}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
        ),
        Ok(())
    );
    assert!(
        claim(json!({"metadata": {"name": "d"}, "spec": {"x": 1}, "status": {"phase": "Lost"}}))
            .is_err()
    );
}

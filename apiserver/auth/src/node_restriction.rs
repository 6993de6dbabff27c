//! The admission check behind the node authorizer: what a node writes must be about itself.
//!
//! The authorizer sees only names; this sees the written object too, so that an agent whose host was taken over
//! can neither steer workloads to itself by labels and taints nor speak for other nodes and their pods.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::user::User;
use schema::field::go_quote as quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }
}

/// A write after defaulting and before storing.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// From the path; empty on create.
    pub name: &'a str,
    pub namespace: &'a str,
    /// `Null` on delete.
    pub object: &'a Value,
    /// The stored object on update and delete; the parent (a pod, say) for a created subresource.
    pub old: Option<&'a Value>,
}

/// Checks a write. `find(resource, namespace, name)` looks up pods and nodes. The error is the text after
/// `is forbidden: `; users that are no nodes are never restricted.
pub fn check<'a>(
    user: &User,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    let Some(node) = user.node_identity() else {
        return Ok(());
    };
    if node.is_empty() {
        return Err(format!(
            "could not determine node from user {}",
            quote(&user.name)
        ));
    }
    match (write.group, write.resource, write.subresource) {
        ("", "pods", "") => check_pod(node, write, find),
        ("", "pods", "status") => check_pod_status(node, write),
        ("", "pods", "eviction") => check_eviction(node, write, find),
        ("", "pods", other) => Err(format!(
            "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
            quote(other)
        )),
        ("", "nodes", _) => check_node(node, write),
        ("", "persistentvolumeclaims", "status") => check_claim_status(node, write),
        ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
        ("", "serviceaccounts", "token") if write.operation == Operation::Create => {
            check_token(node, write, find)
        }
        ("coordination.k8s.io", "leases", _) => check_lease(node, write),
        ("storage.k8s.io", "csinodes", _) if own_name(write) != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("resource.k8s.io", "resourceslices", _) => check_slice(node, write),
        _ => Ok(()),
    }
}

fn check_pod<'a>(
    node: &str,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    match write.operation {
        Operation::Create => check_mirror_pod(node, write.object, find),
        Operation::Delete if write.old.is_some_and(|old| node_of(old) != node) => Err(format!(
            "node {} can only delete pods with spec.nodeName set to itself",
            quote(node)
        )),
        Operation::Delete => Ok(()),
        other => Err(format!(
            "unexpected operation {}, node {} can only create and delete mirror pods",
            quote(other.name()),
            quote(node)
        )),
    }
}

fn check_mirror_pod<'a>(
    node: &str,
    pod: &Value,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    let quoted = quote(node);
    if pod
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get("kubernetes.io/config.mirror"))
        .is_none()
    {
        return Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {quoted} can only create mirror pods"
        ));
    }
    if node_of(pod) != node {
        return Err(format!(
            "node {quoted} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owner = match list(pod.pointer("/metadata/ownerReferences")) {
        [owner] => owner,
        [] => {
            return Err(format!(
                "node {quoted} can only create pods with an owner reference set to itself"
            ));
        }
        _ => {
            return Err(format!(
                "node {quoted} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if text(owner, "apiVersion") != "v1"
        || text(owner, "kind") != "Node"
        || text(owner, "name") != node
    {
        return Err(format!(
            "node {quoted} can only create pods with an owner reference set to itself"
        ));
    }
    if !flag(owner, "controller") {
        return Err(format!(
            "node {quoted} can only create pods with a controller owner reference set to itself"
        ));
    }
    if flag(owner, "blockOwnerDeletion") {
        return Err(format!(
            "node {quoted} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let stored = find("nodes", "", node)
        .map(|stored| meta(stored, "uid"))
        .ok_or_else(|| format!("nodes {quoted} not found"))?;
    if stored != text(owner, "uid") {
        return Err(format!(
            "node {node} UID mismatch: expected {} got {stored}",
            text(owner, "uid")
        ));
    }
    match reference_of(pod) {
        Some(what) => Err(format!(
            "node {quoted} can not create pods that reference {what}"
        )),
        None => Ok(()),
    }
}

/// A pod that a node creates must not open any other object to it.
fn reference_of(pod: &Value) -> Option<&'static str> {
    let spec = pod.get("spec")?;
    if !text(spec, "serviceAccountName").is_empty() {
        return Some("a service account");
    }
    if !list(spec.get("imagePullSecrets")).is_empty() {
        return Some("secrets");
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(spec.get(field)));
    for env in containers.flat_map(|container| {
        list(container.get("env"))
            .iter()
            .filter_map(|env| env.get("valueFrom"))
            .chain(list(container.get("envFrom")))
    }) {
        for (field, what) in [
            ("secretKeyRef", "secrets"),
            ("secretRef", "secrets"),
            ("configMapKeyRef", "configmaps"),
            ("configMapRef", "configmaps"),
        ] {
            if env.get(field).is_some_and(|reference| !reference.is_null()) {
                return Some(what);
            }
        }
    }
    let volumes = list(spec.get("volumes"));
    let sources = volumes
        .iter()
        .filter_map(|volume| volume.get("projected"))
        .flat_map(|projected| list(projected.get("sources")));
    for volume in volumes.iter().chain(sources) {
        let known = [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("serviceAccountToken", "a service account"),
            ("podCertificate", "a service account"),
        ];
        let mentions = |field: &str| volume.get(field).is_some_and(|source| !source.is_null());
        if let Some((_, what)) = known.into_iter().find(|(field, _)| mentions(field)) {
            return Some(what);
        }
        let by_driver = volume.as_object().into_iter().flatten().any(|(_, source)| {
            ["secretRef", "nodePublishSecretRef", "secretName"]
                .iter()
                .any(|field| source.get(*field).is_some_and(|it| !it.is_null()))
        });
        if by_driver {
            return Some("secrets");
        }
    }
    (!list(spec.get("resourceClaims")).is_empty()).then_some("resourceclaims")
}

fn check_pod_status(node: &str, write: &Write<'_>) -> Result<(), String> {
    let (Operation::Update, Some(old)) = (write.operation, write.old) else {
        return Err(format!(
            "unexpected operation {}",
            quote(write.operation.name())
        ));
    };
    if node_of(old) != node {
        return Err(format!(
            "node {} can only update pod status for pods with spec.nodeName set to itself",
            quote(node)
        ));
    }
    if labels(old) != labels(write.object) {
        return Err(format!(
            "node {} cannot update labels through pod status",
            quote(node)
        ));
    }
    if old.pointer("/status/resourceClaimStatuses")
        != write.object.pointer("/status/resourceClaimStatuses")
    {
        return Err(format!(
            "node {} cannot update resource claim statues",
            quote(node)
        ));
    }
    let extended = "/status/extendedResourceClaimStatus";
    if old.pointer(extended) != write.object.pointer(extended) {
        return Err(format!(
            "node {} cannot update extended resource claim status",
            quote(node)
        ));
    }
    Ok(())
}

fn check_eviction<'a>(
    node: &str,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    if write.operation != Operation::Create {
        return Err(format!("unexpected operation {}", write.operation.name()));
    }
    let name = own_name(write);
    if name.is_empty() {
        return Err("could not determine pod from request data".to_owned());
    }
    // A pod that is not there is the business of the handler, which answers 404.
    match find("pods", write.namespace, name) {
        Some(pod) if node_of(pod) != node => Err(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        )),
        _ => Ok(()),
    }
}

fn check_node(node: &str, write: &Write<'_>) -> Result<(), String> {
    let quoted = quote(node);
    let name = own_name(write);
    if name != node {
        return Err(format!(
            "node {quoted} is not allowed to modify node {}",
            quote(name)
        ));
    }
    let empty = Value::Null;
    let old = write.old.unwrap_or(&empty);
    let config_source = |object: &Value| {
        object
            .pointer("/spec/configSource")
            .filter(|source| !source.is_null())
            .cloned()
    };
    let new_labels = forbidden_labels(write.object, old);
    match write.operation {
        Operation::Delete => Ok(()),
        Operation::Create if config_source(write.object).is_some() => Err(format!(
            "node {quoted} is not allowed to create pods with a non-nil configSource"
        )),
        Operation::Create if !new_labels.is_empty() => Err(format!(
            "node {quoted} is not allowed to set the following labels: {}",
            new_labels.join(", ")
        )),
        Operation::Create => Ok(()),
        Operation::Update
            if config_source(write.object)
                .is_some_and(|source| Some(source) != config_source(old)) =>
        {
            Err(format!(
                "node {quoted} is not allowed to update configSource to a new non-nil configSource"
            ))
        }
        Operation::Update
            if list(old.pointer("/spec/taints")) != list(write.object.pointer("/spec/taints")) =>
        {
            Err(format!("node {quoted} is not allowed to modify taints"))
        }
        Operation::Update
            if meta_list(old, "ownerReferences") != meta_list(write.object, "ownerReferences") =>
        {
            Err(format!(
                "node {quoted} is not allowed to modify ownerReferences"
            ))
        }
        Operation::Update if !new_labels.is_empty() => Err(format!(
            "is not allowed to modify labels: {}",
            new_labels.join(", ")
        )),
        Operation::Update => Ok(()),
    }
}

/// The labels that differ and that a node may not set about itself, in order.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let (new, old) = (labels(new), labels(old));
    let changed: BTreeSet<&str> = new
        .symmetric_difference(&old)
        .map(|(key, _)| *key)
        .collect();
    changed
        .into_iter()
        .filter(|key| is_forbidden_label(key))
        .map(str::to_owned)
        .collect()
}

fn is_forbidden_label(key: &str) -> bool {
    let Some((namespace, _)) = key.split_once('/') else {
        return false;
    };
    let within = |domain: &str| {
        namespace == domain
            || namespace
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    (within("kubernetes.io") || within("k8s.io")) && !is_kubelet_label(key, within)
}

/// The labels under the domains of Kubernetes that nodes set about themselves.
fn is_kubelet_label(key: &str, within: impl Fn(&str) -> bool) -> bool {
    const OWN: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
    ];
    OWN.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// A claim's status may change, in capacity, conditions and the state of a resize; nothing else.
fn check_claim_status(node: &str, write: &Write<'_>) -> Result<(), String> {
    let (Operation::Update, Some(old)) = (write.operation, write.old) else {
        return Err(format!(
            "unexpected operation {}",
            quote(write.operation.name())
        ));
    };
    let stripped = |claim: &Value| {
        let mut claim = claim.clone();
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for field in [
                "capacity",
                "conditions",
                "allocatedResources",
                "allocatedResourceStatuses",
            ] {
                status.remove(field);
            }
        }
        if claim
            .get("status")
            .and_then(Value::as_object)
            .is_some_and(serde_json::Map::is_empty)
        {
            claim.as_object_mut().map(|claim| claim.remove("status"));
        }
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        claim
    };
    if stripped(old) != stripped(write.object) {
        return Err(format!(
            "node {} is not allowed to update fields other than status.capacity and status.conditions",
            quote(node)
        ));
    }
    Ok(())
}

/// A node asks for tokens only on behalf of a pod that runs on it.
fn check_token<'a>(
    node: &str,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    let empty = Value::Null;
    let bound = write
        .object
        .pointer("/spec/boundObjectRef")
        .unwrap_or(&empty);
    if text(bound, "apiVersion") != "v1"
        || text(bound, "kind") != "Pod"
        || text(bound, "name").is_empty()
    {
        return Err("node requested token not bound to a pod".to_owned());
    }
    let uid = text(bound, "uid");
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    let Some(pod) = find("pods", write.namespace, text(bound, "name")) else {
        return Err(format!("pods {} not found", quote(text(bound, "name"))));
    };
    if meta(pod, "uid") != uid {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if node_of(pod) != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    if text(pod.get("spec").unwrap_or(&empty), "serviceAccountName") != write.name {
        return Err(
            "node requested token for a service account that the pod does not use".to_owned(),
        );
    }
    Ok(())
}

fn check_lease(node: &str, write: &Write<'_>) -> Result<(), String> {
    if write.namespace != "kube-node-lease" {
        return Err(
            r#"can only access leases in the "kube-node-lease" system namespace"#.to_owned(),
        );
    }
    if own_name(write) != node {
        return Err(
            "can only access node lease with the same name as the requesting node".to_owned(),
        );
    }
    Ok(())
}

fn check_slice(node: &str, write: &Write<'_>) -> Result<(), String> {
    let object = if write.operation == Operation::Create {
        write.object
    } else {
        write.old.unwrap_or(write.object)
    };
    if node_of(object) != node {
        return Err(
            "can only create/delete ResourceSlice with the same NodeName as the requesting node"
                .to_owned(),
        );
    }
    Ok(())
}

/// On create the name is in the object.
fn own_name<'a>(write: &Write<'a>) -> &'a str {
    if write.name.is_empty() {
        meta(write.object, "name")
    } else {
        write.name
    }
}

fn node_of(object: &Value) -> &str {
    object
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn labels(object: &Value) -> BTreeSet<(&str, &str)> {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}

fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .map(|metadata| text(metadata, field))
        .unwrap_or_default()
}

fn meta_list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    list(
        object
            .get("metadata")
            .and_then(|metadata| metadata.get(field)),
    )
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, field: &str) -> bool {
    value
        .get(field)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
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
        let create = |object: &Value| {
            world.check(Operation::Create, ("", "nodes", ""), ("", ""), object, None)
        };
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
        let create = |object: &Value| {
            world.check(Operation::Create, ("", "pods", ""), ("a", ""), object, None)
        };
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
            claim(
                json!({"metadata": {"name": "d"}, "spec": {"x": 1}, "status": {"phase": "Lost"}})
            )
            .is_err()
        );
    }
}

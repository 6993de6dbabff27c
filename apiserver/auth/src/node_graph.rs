//! Which objects belong to which node: the relation that the node authorizer asks for.
//!
//! A node is related to its pods and, through them, to the secrets, config maps, claims, volumes and service
//! accounts they use. The graph is fed with pods, persistent volumes and volume attachments as they change.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// The kinds of objects that a node reads only through its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Pod,
    Secret,
    ConfigMap,
    PersistentVolumeClaim,
    PersistentVolume,
    ServiceAccount,
    ResourceClaim,
    VolumeAttachment,
    ResourceSlice,
}

/// Where [`NodeGraph::upsert_pod`] looks.
pub(crate) const READ_OF_POD: &[&str] = &[
    "metadata.namespace",
    "metadata.name",
    "metadata.annotations",
    "spec",
    "status.resourceClaimStatuses",
    "status.extendedResourceClaimStatus",
];

type Key = (Target, String, String);

/// The relation, as one edge set per fed object, with an index from a target to the objects that lead to it.
#[derive(Clone, Debug, Default)]
pub struct NodeGraph {
    /// Pods and attachments, by their own key: the node they are on and what they use there.
    owners: HashMap<Key, (String, HashSet<Key>)>,
    used_by: HashMap<Key, HashSet<Key>>,
    /// Persistent volumes by name: the claim they are bound to and the secrets they need.
    volumes: HashMap<String, (Key, HashSet<Key>)>,
    volume_of_secret: HashMap<Key, HashSet<String>>,
}

impl NodeGraph {
    /// Takes over a created or changed pod.
    pub fn upsert_pod(&mut self, pod: &Value) {
        let (namespace, name) = (meta(pod, "namespace"), meta(pod, "name"));
        let key = (Target::Pod, namespace.to_owned(), name.to_owned());
        self.remove_owner(&key);
        let node = text(pod, &["spec", "nodeName"]);
        if node.is_empty() {
            return;
        }
        let mirror = pod
            .pointer("/metadata/annotations")
            .is_some_and(|annotations| annotations.get("kubernetes.io/config.mirror").is_some());
        // A node writes its mirror pods itself; what they mention must not widen its rights.
        let mut used = if mirror {
            HashSet::new()
        } else {
            used_by_pod(namespace, name, pod)
        };
        used.insert(key.clone());
        self.insert_owner(key, node.to_owned(), used);
    }

    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        self.remove_owner(&(Target::Pod, namespace.to_owned(), name.to_owned()));
    }

    /// Takes over a created or changed PersistentVolume.
    pub fn upsert_volume(&mut self, volume: &Value) {
        let name = meta(volume, "name");
        self.remove_volume(name);
        let claim = (
            text(volume, &["spec", "claimRef", "namespace"]),
            text(volume, &["spec", "claimRef", "name"]),
        );
        if claim.1.is_empty() {
            return;
        }
        let secrets: HashSet<Key> = secrets_of_volume(volume, claim.0);
        for secret in &secrets {
            self.volume_of_secret
                .entry(secret.clone())
                .or_default()
                .insert(name.to_owned());
        }
        self.volumes.insert(
            name.to_owned(),
            (
                (
                    Target::PersistentVolumeClaim,
                    claim.0.to_owned(),
                    claim.1.to_owned(),
                ),
                secrets,
            ),
        );
    }

    pub fn remove_volume(&mut self, name: &str) {
        let Some((_, secrets)) = self.volumes.remove(name) else {
            return;
        };
        for secret in secrets {
            if let Some(volumes) = self.volume_of_secret.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.volume_of_secret.remove(&secret);
                }
            }
        }
    }

    /// Takes over an object that names its node itself: a VolumeAttachment or ResourceSlice.
    pub fn upsert_named(&mut self, target: Target, object: &Value) {
        let key = (target, String::new(), meta(object, "name").to_owned());
        self.remove_owner(&key);
        let node = text(object, &["spec", "nodeName"]);
        if !node.is_empty() {
            let used = HashSet::from([key.clone()]);
            self.insert_owner(key, node.to_owned(), used);
        }
    }

    pub fn remove_named(&mut self, target: Target, name: &str) {
        self.remove_owner(&(target, String::new(), name.to_owned()));
    }

    /// Does the object belong to the node?
    pub fn related(&self, node: &str, target: Target, namespace: &str, name: &str) -> bool {
        let key = (target, namespace.to_owned(), name.to_owned());
        if self.used_on(node, &key) {
            return true;
        }
        match target {
            Target::PersistentVolume => self
                .volumes
                .get(name)
                .is_some_and(|(claim, _)| self.used_on(node, claim)),
            Target::Secret => self.volume_of_secret.get(&key).is_some_and(|volumes| {
                volumes
                    .iter()
                    .filter_map(|volume| self.volumes.get(volume))
                    .any(|(claim, _)| self.used_on(node, claim))
            }),
            _ => false,
        }
    }

    fn used_on(&self, node: &str, key: &Key) -> bool {
        let owners = self.used_by.get(key).into_iter().flatten();
        owners
            .filter_map(|owner| self.owners.get(owner))
            .any(|(on, _)| on == node)
    }

    fn insert_owner(&mut self, key: Key, node: String, used: HashSet<Key>) {
        for target in &used {
            self.used_by
                .entry(target.clone())
                .or_default()
                .insert(key.clone());
        }
        self.owners.insert(key, (node, used));
    }

    fn remove_owner(&mut self, key: &Key) {
        let Some((_, used)) = self.owners.remove(key) else {
            return;
        };
        for target in used {
            if let Some(owners) = self.used_by.get_mut(&target) {
                owners.remove(key);
                if owners.is_empty() {
                    self.used_by.remove(&target);
                }
            }
        }
    }
}

fn used_by_pod(namespace: &str, pod_name: &str, pod: &Value) -> HashSet<Key> {
    let mut used = HashSet::new();
    let Some(spec) = pod.get("spec") else {
        return used;
    };
    let mut add = |target: Target, name: &str| {
        if !name.is_empty() {
            used.insert((target, namespace.to_owned(), name.to_owned()));
        }
    };
    add(Target::ServiceAccount, text(spec, &["serviceAccountName"]));
    for secret in items(spec, "imagePullSecrets") {
        add(Target::Secret, text(secret, &["name"]));
    }
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, field) {
            for env in items(container, "env") {
                add(
                    Target::Secret,
                    text(env, &["valueFrom", "secretKeyRef", "name"]),
                );
                add(
                    Target::ConfigMap,
                    text(env, &["valueFrom", "configMapKeyRef", "name"]),
                );
            }
            for env in items(container, "envFrom") {
                add(Target::Secret, text(env, &["secretRef", "name"]));
                add(Target::ConfigMap, text(env, &["configMapRef", "name"]));
            }
        }
    }
    for volume in items(spec, "volumes") {
        used_by_volume(pod_name, volume, &mut add);
    }
    for claim in items(spec, "resourceClaims") {
        add(Target::ResourceClaim, text(claim, &["resourceClaimName"]));
    }
    for claim in pod
        .get("status")
        .map(|status| items(status, "resourceClaimStatuses"))
        .unwrap_or_default()
    {
        add(Target::ResourceClaim, text(claim, &["resourceClaimName"]));
    }
    let extended = ["status", "extendedResourceClaimStatus", "resourceClaimName"];
    add(Target::ResourceClaim, text(pod, &extended));
    used
}

fn used_by_volume(pod_name: &str, volume: &Value, add: &mut impl FnMut(Target, &str)) {
    add(Target::Secret, text(volume, &["secret", "secretName"]));
    add(Target::ConfigMap, text(volume, &["configMap", "name"]));
    add(
        Target::PersistentVolumeClaim,
        text(volume, &["persistentVolumeClaim", "claimName"]),
    );
    if volume
        .get("ephemeral")
        .is_some_and(|ephemeral| !ephemeral.is_null())
    {
        add(
            Target::PersistentVolumeClaim,
            &format!("{pod_name}-{}", text(volume, &["name"])),
        );
    }
    if let Some(projected) = volume.get("projected") {
        for source in items(projected, "sources") {
            add(Target::Secret, text(source, &["secret", "name"]));
            add(Target::ConfigMap, text(source, &["configMap", "name"]));
        }
    }
    add(Target::Secret, text(volume, &["azureFile", "secretName"]));
    add(
        Target::Secret,
        text(volume, &["csi", "nodePublishSecretRef", "name"]),
    );
    for driver in [
        "cephfs",
        "cinder",
        "flexVolume",
        "iscsi",
        "rbd",
        "scaleIO",
        "storageos",
    ] {
        add(Target::Secret, text(volume, &[driver, "secretRef", "name"]));
    }
}

/// Secrets that the node needs to mount a volume; those of the attaching controller are not among them.
fn secrets_of_volume(volume: &Value, claim_namespace: &str) -> HashSet<Key> {
    let Some(spec) = volume.get("spec") else {
        return HashSet::new();
    };
    let reference = |path: &[&str]| {
        let reference = path
            .iter()
            .try_fold(spec, |value, field| value.get(field))?;
        let (namespace, name) = (text(reference, &["namespace"]), text(reference, &["name"]));
        let namespace = if namespace.is_empty() {
            claim_namespace
        } else {
            namespace
        };
        (!name.is_empty()).then(|| (Target::Secret, namespace.to_owned(), name.to_owned()))
    };
    let mut secrets: HashSet<Key> = [
        "cephfs",
        "cinder",
        "flexVolume",
        "iscsi",
        "rbd",
        "scaleIO",
        "storageos",
    ]
    .iter()
    .filter_map(|driver| reference(&[driver, "secretRef"]))
    .collect();
    secrets.extend(
        [
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
        ]
        .iter()
        .filter_map(|field| reference(&["csi", field])),
    );
    let (azure, namespace) = (
        text(spec, &["azureFile", "secretName"]),
        text(spec, &["azureFile", "secretNamespace"]),
    );
    if !azure.is_empty() {
        let namespace = if namespace.is_empty() {
            claim_namespace
        } else {
            namespace
        };
        secrets.insert((Target::Secret, namespace.to_owned(), azure.to_owned()));
    }
    secrets
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter()
        .try_fold(value, |value, field| value.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    text(object, &["metadata", field])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str) -> Value {
        json!({"metadata": {"name": "web", "namespace": "a"}, "spec": {
            "nodeName": node, "serviceAccountName": "bot", "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "env-map"}}}]}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env-secret"}}}], "envFrom": [{"secretRef": {"name": "all-secret"}}, {"configMapRef": {"name": "all-map"}}]}],
            "volumes": [{"name": "s", "secret": {"secretName": "vol-secret"}}, {"name": "c", "configMap": {"name": "vol-map"}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "proj-secret"}}, {"configMap": {"name": "proj-map"}}, {"serviceAccountToken": {}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {}}}],
            "resourceClaims": [{"name": "r", "resourceClaimName": "named"}]
        }, "status": {"resourceClaimStatuses": [{"name": "t", "resourceClaimName": "made"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "extended"}}})
    }

    fn volume() -> Value {
        json!({"metadata": {"name": "pv1"}, "spec": {"claimRef": {"namespace": "a", "name": "data"}, "csi": {"nodeStageSecretRef": {"namespace": "csi", "name": "stage"}, "controllerPublishSecretRef": {"namespace": "csi", "name": "attach"}}}})
    }

    #[test]
    fn a_node_is_related_to_what_its_pods_use() {
        let mut graph = NodeGraph::default();
        graph.upsert_pod(&pod("n1"));
        graph.upsert_volume(&volume());
        let related = [
            (Target::Pod, "web"),
            (Target::ServiceAccount, "bot"),
            (Target::Secret, "pull"),
            (Target::Secret, "env-secret"),
            (Target::Secret, "all-secret"),
            (Target::Secret, "vol-secret"),
            (Target::Secret, "proj-secret"),
            (Target::ConfigMap, "env-map"),
            (Target::ConfigMap, "all-map"),
            (Target::ConfigMap, "vol-map"),
            (Target::ConfigMap, "proj-map"),
            (Target::PersistentVolumeClaim, "data"),
            (Target::PersistentVolumeClaim, "web-tmp"),
            (Target::ResourceClaim, "named"),
            (Target::ResourceClaim, "made"),
            (Target::ResourceClaim, "extended"),
        ];
        for (target, name) in related {
            assert!(graph.related("n1", target, "a", name), "{target:?} {name}");
            assert!(!graph.related("n2", target, "a", name), "{target:?} {name}");
            assert!(!graph.related("n1", target, "b", name), "{target:?} {name}");
        }
        assert!(graph.related("n1", Target::PersistentVolume, "", "pv1"));
        assert!(graph.related("n1", Target::Secret, "csi", "stage"));
        assert!(!graph.related("n1", Target::Secret, "csi", "attach"));
        assert!(!graph.related("n1", Target::Secret, "a", "env-map"));
        assert!(!graph.related("", Target::Secret, "a", "pull"));
    }

    #[test]
    fn the_relation_ends_with_the_pod() {
        let mut graph = NodeGraph::default();
        graph.upsert_pod(&pod("n1"));
        graph.upsert_volume(&volume());
        graph.upsert_pod(&pod("n2"));
        assert!(!graph.related("n1", Target::Secret, "a", "pull"));
        assert!(graph.related("n2", Target::Secret, "csi", "stage"));
        graph.remove_pod("a", "web");
        graph.remove_volume("pv1");
        assert!(!graph.related("n2", Target::Secret, "a", "pull"));
        assert!(
            graph.owners.is_empty()
                && graph.used_by.is_empty()
                && graph.volumes.is_empty()
                && graph.volume_of_secret.is_empty()
        );
    }

    #[test]
    fn mirror_pods_and_unbound_pods_widen_nothing() {
        let mut graph = NodeGraph::default();
        let mut mirror = pod("n1");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        graph.upsert_pod(&mirror);
        assert!(graph.related("n1", Target::Pod, "a", "web"));
        assert!(!graph.related("n1", Target::Secret, "a", "pull"));
        graph.upsert_pod(&pod(""));
        assert!(graph.owners.is_empty());
    }

    #[test]
    fn attachments_name_their_node() {
        let mut graph = NodeGraph::default();
        graph.upsert_named(
            Target::VolumeAttachment,
            &json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}}),
        );
        assert!(graph.related("n1", Target::VolumeAttachment, "", "va"));
        graph.remove_named(Target::VolumeAttachment, "va");
        assert!(graph.used_by.is_empty());
    }
}

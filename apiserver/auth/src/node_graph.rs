//! Which objects belong to which node: the relation that the node authorizer asks for.
//!
//! A node is related to its pods and, through them, to the secrets, config maps, claims, volumes and service
//! accounts they use. Of pods only the names by node are kept: a cluster has a hundred thousand of them, each with several
//! such objects, and a node asks seldom and has few. What they use is read from them when it asks ([`Pods`]).

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

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

/// Where the pods are.
pub trait Pods: Debug + Send + Sync {
    /// The pod as it is now. It may also be `None` if the text `mentions` occurs nowhere in it, so that most need not be read.
    fn pod(&self, namespace: &str, name: &str, mentions: &str) -> Option<Value>;
}

/// There are none.
#[derive(Debug)]
struct NoPods;

impl Pods for NoPods {
    fn pod(&self, _: &str, _: &str, _: &str) -> Option<Value> {
        None
    }
}

type Key = (Target, String, String);

/// Pods of one node, each as `namespace/name`, in the order of both. They are few for each of many nodes: tables would take
/// more room than what is in them.
#[derive(Clone, Debug, Default)]
struct PodNames(Vec<Box<str>>);

impl PodNames {
    /// A list that is full gets room for so many more at least.
    const STEP: usize = 4;

    fn find(&self, namespace: &str, name: &str) -> Result<usize, usize> {
        let wanted = (namespace, name);
        self.0.binary_search_by(|known| {
            // Nearly all are in the same namespace, whose end need not be looked for.
            let known_name = known.strip_prefix(namespace);
            match known_name.and_then(|rest| rest.strip_prefix('/')) {
                Some(known_name) => known_name.cmp(name),
                None => parts(known).cmp(&wanted),
            }
        })
    }

    fn insert(&mut self, namespace: &str, name: &str) {
        let Err(at) = self.find(namespace, name) else {
            return;
        };
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(PodNames::STEP.max(self.0.len() / 4));
        }
        self.0.insert(at, [namespace, "/", name].concat().into());
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        if let Ok(at) = self.find(namespace, name) {
            self.0.remove(at);
        }
    }

    /// The names of those in a namespace.
    fn of(&self, namespace: &str) -> impl Iterator<Item = &str> {
        let from = self.0.partition_point(|known| parts(known).0 < namespace);
        let names = self.0[from..].iter().map(|known| parts(known));
        names
            .take_while(move |known| known.0 == namespace)
            .map(|known| known.1)
    }
}

/// Namespace and name; neither has a slash in it.
fn parts(pod: &str) -> (&str, &str) {
    pod.split_once('/').unwrap_or((pod, ""))
}

/// The relation, as the names of the pods on each node, with an index from a target to the objects that lead to it.
#[derive(Clone, Debug)]
pub struct NodeGraph {
    pods: Arc<dyn Pods>,
    /// By node.
    pods_on: HashMap<Box<str>, PodNames>,
    /// Attachments and slices by name: their node.
    named: HashMap<(Target, String), String>,
    /// Persistent volumes by name: the claim they are bound to and the secrets they need.
    volumes: HashMap<String, (Key, HashSet<Key>)>,
    volume_of_secret: HashMap<Key, HashSet<String>>,
}

impl Default for NodeGraph {
    fn default() -> NodeGraph {
        NodeGraph::of(Arc::new(NoPods))
    }
}

impl NodeGraph {
    /// With nothing in it yet.
    pub fn of(pods: Arc<dyn Pods>) -> NodeGraph {
        NodeGraph {
            pods,
            pods_on: HashMap::new(),
            named: HashMap::new(),
            volumes: HashMap::new(),
            volume_of_secret: HashMap::new(),
        }
    }

    /// A pod was on one node and is on another; the names are empty where it is on none.
    pub fn move_pod(&mut self, namespace: &str, name: &str, from: &str, to: &str) {
        if from == to {
            return;
        }
        if let Some(on) = self.pods_on.get_mut(from) {
            on.remove(namespace, name);
            if on.0.is_empty() {
                self.pods_on.remove(from);
            }
        }
        if !to.is_empty() {
            let on = self.pods_on.entry(to.into()).or_default();
            on.insert(namespace, name);
        }
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
        let key = (target, meta(object, "name").to_owned());
        match text(object, &["spec", "nodeName"]) {
            "" => self.named.remove(&key),
            node => self.named.insert(key, node.to_owned()),
        };
    }

    pub fn remove_named(&mut self, target: Target, name: &str) {
        self.named.remove(&(target, name.to_owned()));
    }

    /// Does the object belong to the node?
    pub fn related(&self, node: &str, target: Target, namespace: &str, name: &str) -> bool {
        if node.is_empty() {
            return false;
        }
        match target {
            Target::Pod => self.is_on(node, namespace, name),
            Target::VolumeAttachment | Target::ResourceSlice => {
                let on = self.named.get(&(target, name.to_owned()));
                namespace.is_empty() && on.is_some_and(|on| on == node)
            }
            Target::PersistentVolume => self
                .volumes
                .get(name)
                .is_some_and(|(claim, _)| self.used_on(node, claim)),
            _ => {
                let key = (target, namespace.to_owned(), name.to_owned());
                self.used_on(node, &key) || target == Target::Secret && self.mounted_on(node, &key)
            }
        }
    }

    fn is_on(&self, node: &str, namespace: &str, pod: &str) -> bool {
        let on = self.pods_on.get(node);
        on.is_some_and(|on| on.find(namespace, pod).is_ok())
    }

    /// Whether a volume that needs the secret is claimed there.
    fn mounted_on(&self, node: &str, secret: &Key) -> bool {
        let volumes = self.volume_of_secret.get(secret).into_iter().flatten();
        volumes
            .filter_map(|volume| self.volumes.get(volume))
            .any(|(claim, _)| self.used_on(node, claim))
    }

    fn used_on(&self, node: &str, key: &Key) -> bool {
        let (target, namespace, wanted) = key;
        let Some(on) = self.pods_on.get(node) else {
            return false;
        };
        let pods = on.of(namespace).filter_map(|name| {
            let mentions =
                match *target == Target::PersistentVolumeClaim && is_made_for(name, wanted) {
                    true => "",
                    false => wanted,
                };
            Some((name, self.pods.pod(namespace, name, mentions)?))
        });
        // A pod of the same name may have come onto another node, of which nothing was told yet.
        pods.filter(|(_, pod)| text(pod, &["spec", "nodeName"]) == node && !is_mirror(pod))
            .any(|(name, pod)| used_by_pod(namespace, name, &pod).contains(key))
    }
}

/// Whether a claim of this name may be made for the pod: its name is put together then, and stands nowhere in the pod.
fn is_made_for(pod: &str, claim: &str) -> bool {
    let rest = claim.strip_prefix(pod);
    rest.is_some_and(|rest| rest.starts_with('-'))
}

/// A node writes its mirror pods itself; what they mention must not widen its rights.
fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations")
        .is_some_and(|annotations| annotations.get("kubernetes.io/config.mirror").is_some())
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
    use std::sync::Mutex;

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

    /// One pod, which another may take the place of.
    #[derive(Debug, Default)]
    struct One(Mutex<Value>);

    impl Pods for One {
        fn pod(&self, namespace: &str, name: &str, mentions: &str) -> Option<Value> {
            let pod = self.0.lock().unwrap().clone();
            let named = meta(&pod, "namespace") == namespace && meta(&pod, "name") == name;
            (named && pod.to_string().contains(mentions)).then_some(pod)
        }
    }

    fn graph_of(pod: Value) -> NodeGraph {
        let (name, namespace) = (
            meta(&pod, "name").to_owned(),
            meta(&pod, "namespace").to_owned(),
        );
        let node = text(&pod, &["spec", "nodeName"]).to_owned();
        let mut graph = NodeGraph::of(Arc::new(One(Mutex::new(pod))));
        graph.move_pod(&namespace, &name, "", &node);
        graph
    }

    #[test]
    fn a_node_is_related_to_what_its_pods_use() {
        let mut graph = graph_of(pod("n1"));
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
        let pods = Arc::new(One(Mutex::new(pod("n1"))));
        let mut graph = NodeGraph::of(pods.clone());
        graph.move_pod("a", "web", "", "n1");
        graph.upsert_volume(&volume());
        assert!(graph.related("n1", Target::Secret, "a", "pull"));
        *pods.0.lock().unwrap() = pod("n2");
        assert!(
            !graph.related("n1", Target::Secret, "a", "pull"),
            "not told yet"
        );
        graph.move_pod("a", "web", "n1", "n2");
        assert!(!graph.related("n1", Target::Pod, "a", "web"));
        assert!(graph.related("n2", Target::Secret, "csi", "stage"));
        graph.move_pod("a", "web", "n2", "");
        graph.remove_volume("pv1");
        assert!(!graph.related("n2", Target::Secret, "a", "pull"));
        assert!(
            graph.pods_on.is_empty()
                && graph.volumes.is_empty()
                && graph.volume_of_secret.is_empty()
        );
    }

    #[test]
    fn mirror_pods_and_unbound_pods_widen_nothing() {
        let mut mirror = pod("n1");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        let graph = graph_of(mirror);
        assert!(graph.related("n1", Target::Pod, "a", "web"));
        assert!(!graph.related("n1", Target::Secret, "a", "pull"));
        let unbound = graph_of(pod(""));
        assert!(unbound.pods_on.is_empty());
        assert!(!unbound.related("", Target::Secret, "a", "pull"));
    }

    #[test]
    fn pods_of_a_node_are_those_that_came_and_did_not_go() {
        // Orders of text and of both parts differ: `-` and `.` stand before the slash.
        let all = ["a", "a-b", "a.b", "b"].map(|namespace| {
            let names = (0..30).map(move |at| (namespace, format!("web-{}", at * 7 % 30)));
            names.collect::<Vec<_>>()
        });
        let (mut names, mut model) = (PodNames::default(), std::collections::BTreeSet::new());
        for (turn, (namespace, name)) in all.concat().into_iter().cycle().take(300).enumerate() {
            if turn % 5 == 4 {
                names.remove(namespace, &name);
                model.remove(&(namespace, name));
            } else {
                names.insert(namespace, &name);
                model.insert((namespace, name));
            }
            assert_eq!(names.0.len(), model.len());
        }
        for namespace in ["", "a", "a-", "a-b", "a.b", "b", "c"] {
            let expected = model.iter().filter(|one| one.0 == namespace);
            assert!(names.of(namespace).eq(expected.map(|one| one.1.as_str())));
            for name in ["web-4", "web-9", "web", ""] {
                let known = model.contains(&(namespace, name.to_owned()));
                assert_eq!(names.find(namespace, name).is_ok(), known);
            }
        }
    }

    #[test]
    fn attachments_name_their_node() {
        let mut graph = NodeGraph::default();
        graph.upsert_named(
            Target::VolumeAttachment,
            &json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}}),
        );
        assert!(graph.related("n1", Target::VolumeAttachment, "", "va"));
        assert!(!graph.related("n2", Target::VolumeAttachment, "", "va"));
        graph.remove_named(Target::VolumeAttachment, "va");
        assert!(graph.named.is_empty());
    }
}

//! Pods and nodes as the scheduler sees them: compiled once from the API object, so that no plugin parses a quantity
//! or a selector in its inner loop. A field of the wrong type counts as absent; the API server validates, and one odd
//! object must not stop the rest.

use crate::resources::{Resources, items, pod_requests};
use crate::selector::{LabelSelector, Labels, NodeSelectorTerm, Requirement, labels, strings};
use crate::volume::object::{PodVolume, pod_volumes};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The scheduler name of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// A pod, compiled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The identity of this incarnation.
    pub uid: String,
    /// The revision that this was read from.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Labels.
    pub labels: Labels,
    /// The uid of the controlling owner.
    pub controller_uid: Option<String>,
    /// `metadata.creationTimestamp`; RFC 3339 text sorts by time.
    pub created: String,
    /// Whether deletion was asked for.
    pub deleting: bool,
    /// Whether it ran to its end (`Succeeded` or `Failed`) and uses nothing any more.
    pub finished: bool,
    /// `spec.nodeName`, empty when not yet bound.
    pub node_name: String,
    /// `spec.schedulerName`.
    pub scheduler_name: String,
    /// `spec.priority`.
    pub priority: i32,
    /// Whether `spec.preemptionPolicy` is not `Never`.
    pub may_preempt: bool,
    /// `status.nominatedNodeName`.
    pub nominated_node: String,
    /// `status.startTime`, empty when not started.
    pub started: String,
    /// Names of the scheduling gates that are still closed.
    pub gates: Vec<String>,
    /// What it asks for.
    pub requests: Resources,
    /// What it counts for when nodes are scored: thousandths of a core and bytes.
    pub scored: (i64, i64),
    /// Ports on the host.
    pub host_ports: Vec<HostPort>,
    /// Images of all containers, init containers and image volumes, normalized.
    pub images: Vec<String>,
    /// `spec.nodeSelector`.
    pub node_selector: Labels,
    /// Required node affinity: any of the terms; `None` when not given.
    pub required_nodes: Option<Vec<NodeSelectorTerm>>,
    /// Preferred node affinity.
    pub preferred_nodes: Vec<(i64, NodeSelectorTerm)>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Required pod affinity.
    pub affinity: Vec<AffinityTerm>,
    /// Required pod anti-affinity.
    pub anti_affinity: Vec<AffinityTerm>,
    /// Preferred pod affinity; anti-affinity has negative weights.
    pub preferred_affinity: Vec<(i64, AffinityTerm)>,
    /// Topology spread constraints.
    pub spread: Vec<SpreadConstraint>,
    /// Volumes that matter to where it runs.
    pub volumes: Vec<PodVolume>,
    /// The `PodScheduled` condition as (status, reason, message).
    pub scheduled_condition: Option<(String, String, String)>,
}

/// A port that a pod takes on its host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `0.0.0.0` takes every address.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port number.
    pub port: u16,
}

impl HostPort {
    /// Whether both cannot be on one host.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

/// What keeps pods away from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value, may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// What lets a pod onto a tainted node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    key: String,
    exists: bool,
    value: String,
    /// Empty means every effect.
    pub effect: String,
}

impl Toleration {
    /// Whether it tolerates the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() && self.exists || self.key == taint.key)
            && (self.exists || self.value == taint.value)
    }
}

/// A pod affinity or anti-affinity term.
#[derive(Debug, Clone, PartialEq)]
pub struct AffinityTerm {
    /// The node label whose equal values make one place.
    pub topology_key: String,
    /// `None` matches no pod.
    selector: Option<LabelSelector>,
    namespaces: BTreeSet<String>,
    namespace_selector: Option<LabelSelector>,
}

impl AffinityTerm {
    /// Whether the term means this pod. `namespace_labels` are those of the pod's namespace.
    pub fn matches(&self, pod: &Pod, namespace_labels: Option<&Labels>) -> bool {
        let namespace = self.namespaces.contains(&pod.namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|selector| match namespace_labels {
                    Some(labels) => selector.matches(labels),
                    None => selector.is_empty(),
                });
        namespace
            && self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&pod.labels))
    }

    fn parse(value: &Value, pod_namespace: &str, pod_labels: &Labels) -> AffinityTerm {
        let mut namespaces: BTreeSet<String> =
            strings(value.get("namespaces")).into_iter().collect();
        let namespace_selector = LabelSelector::parse(value.get("namespaceSelector"));
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.insert(pod_namespace.to_string());
        }
        AffinityTerm {
            topology_key: text(value, "/topologyKey"),
            selector: selector_with_keys(value, pod_labels),
            namespaces,
            namespace_selector,
        }
    }
}

/// A topology spread constraint.
#[derive(Debug, Clone, PartialEq)]
pub struct SpreadConstraint {
    /// How much fuller than the emptiest place a place may be.
    pub max_skew: i64,
    /// The node label whose equal values make one place.
    pub topology_key: String,
    /// `DoNotSchedule`; otherwise the constraint only scores.
    pub hard: bool,
    /// Which pods are counted; `None` counts none.
    pub selector: Option<LabelSelector>,
    /// With fewer places than this the emptiest counts as empty.
    pub min_domains: i64,
    /// Count only nodes that the pod's node affinity allows.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

impl SpreadConstraint {
    /// One that counts nothing yet.
    pub fn without_selector(value: &Value) -> SpreadConstraint {
        SpreadConstraint {
            selector: None,
            ..SpreadConstraint::parse(value, &Labels::new())
        }
    }

    fn parse(value: &Value, pod_labels: &Labels) -> SpreadConstraint {
        SpreadConstraint {
            max_skew: value.get("maxSkew").and_then(Value::as_i64).unwrap_or(1),
            topology_key: text(value, "/topologyKey"),
            hard: text(value, "/whenUnsatisfiable") != "ScheduleAnyway",
            selector: selector_with_keys(value, pod_labels),
            min_domains: value.get("minDomains").and_then(Value::as_i64).unwrap_or(1),
            honor_affinity: text(value, "/nodeAffinityPolicy") != "Ignore",
            honor_taints: text(value, "/nodeTaintsPolicy") == "Honor",
        }
    }
}

/// How pods without spread constraints of their own are spread.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultSpread {
    /// Over hosts and zones, softly.
    System,
    /// By these, which count the pods that belong to the same owner or Service.
    List(Vec<SpreadConstraint>),
}

/// `labelSelector`, narrowed to pods that share the values of `matchLabelKeys`.
fn selector_with_keys(value: &Value, pod_labels: &Labels) -> Option<LabelSelector> {
    let mut selector = LabelSelector::parse(value.get("labelSelector"))?;
    for key in strings(value.get("matchLabelKeys")) {
        if let Some(own) = pod_labels.get(&key) {
            selector.push(Requirement::equals(&key, own));
        }
    }
    Some(selector)
}

impl Pod {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Pod {
        let null = Value::Null;
        let spec = object.get("spec").unwrap_or(&null);
        let namespace = text(object, "/metadata/namespace");
        let pod_labels = labels(object.pointer("/metadata/labels"));
        let terms = |path: &str| -> Vec<AffinityTerm> {
            let terms = spec
                .pointer(path)
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            terms
                .map(|term| AffinityTerm::parse(term, &namespace, &pod_labels))
                .collect()
        };
        let weighted = |path: &str, sign: i64| -> Vec<(i64, AffinityTerm)> {
            let terms = spec
                .pointer(path)
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let empty = Value::Null;
            terms
                .map(|term| {
                    let inner = term.get("podAffinityTerm").unwrap_or(&empty);
                    (
                        sign * weight(term),
                        AffinityTerm::parse(inner, &namespace, &pod_labels),
                    )
                })
                .collect()
        };
        let node_affinity = spec.pointer("/affinity/nodeAffinity").unwrap_or(&null);
        let scored = pod_requests(spec, true);
        let mut preferred_affinity = weighted(
            "/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution",
            1,
        );
        preferred_affinity.extend(weighted(
            "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution",
            -1,
        ));
        Pod {
            name: text(object, "/metadata/name"),
            uid: text(object, "/metadata/uid"),
            resource_version: text(object, "/metadata/resourceVersion"),
            generation: object
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            controller_uid: controller_uid(object),
            created: text(object, "/metadata/creationTimestamp"),
            deleting: object
                .pointer("/metadata/deletionTimestamp")
                .is_some_and(Value::is_string),
            finished: matches!(
                text(object, "/status/phase").as_str(),
                "Succeeded" | "Failed"
            ),
            node_name: text(spec, "/nodeName"),
            scheduler_name: Some(text(spec, "/schedulerName"))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| DEFAULT_SCHEDULER.into()),
            priority: spec
                .get("priority")
                .and_then(Value::as_i64)
                .and_then(|p| p.try_into().ok())
                .unwrap_or(0),
            may_preempt: text(spec, "/preemptionPolicy") != "Never",
            nominated_node: text(object, "/status/nominatedNodeName"),
            started: text(object, "/status/startTime"),
            gates: items(spec, "schedulingGates")
                .map(|gate| text(gate, "/name"))
                .collect(),
            requests: pod_requests(spec, false),
            scored: (scored.milli_cpu, scored.memory),
            host_ports: host_ports(spec),
            images: images(spec),
            node_selector: labels(spec.get("nodeSelector")),
            required_nodes: required_terms(node_affinity),
            preferred_nodes: preferred_terms(node_affinity),
            tolerations: items(spec, "tolerations").map(toleration).collect(),
            affinity: terms("/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution"),
            anti_affinity: terms(
                "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution",
            ),
            preferred_affinity,
            spread: items(spec, "topologySpreadConstraints")
                .map(|c| SpreadConstraint::parse(c, &pod_labels))
                .collect(),
            volumes: pod_volumes(&text(object, "/metadata/name"), spec),
            scheduled_condition: object
                .pointer("/status/conditions")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|condition| text(condition, "/type") == "PodScheduled")
                .map(|c| (text(c, "/status"), text(c, "/reason"), text(c, "/message"))),
            labels: pod_labels,
            namespace,
        }
    }

    /// Whether a node with this name and these labels satisfies `nodeSelector` and required node affinity.
    pub fn wants_node(&self, name: &str, labels: &Labels) -> bool {
        self.node_selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .required_nodes
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// Whether every taint that keeps pods out (`NoSchedule`, `NoExecute`) is tolerated.
    pub fn tolerates_all(&self, taints: &[Taint]) -> bool {
        let keeps_out =
            |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
        taints
            .iter()
            .filter(keeps_out)
            .all(|taint| self.tolerations.iter().any(|t| t.tolerates(taint)))
    }

    /// The names of the claims that it uses, those made for it included.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|volume| match volume {
            PodVolume::Claim(name) | PodVolume::Ephemeral(name) => Some(name.as_str()),
            PodVolume::Disk(_) => None,
        })
    }

    /// The names of the claims that it names itself.
    pub fn named_claims(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|volume| match volume {
            PodVolume::Claim(name) => Some(name.as_str()),
            PodVolume::Ephemeral(_) | PodVolume::Disk(_) => None,
        })
    }

    /// Whether it takes part in affinity in either direction.
    pub fn has_affinity(&self) -> bool {
        !self.affinity.is_empty()
            || !self.anti_affinity.is_empty()
            || !self.preferred_affinity.is_empty()
    }
}

/// A node, compiled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`, what `kubectl cordon` sets.
    pub unschedulable: bool,
    /// `status.allocatable` without the number of pods.
    pub allocatable: Resources,
    /// How many pods it may hold.
    pub pods_max: i64,
    /// Size in bytes by image name.
    pub images: BTreeMap<String, i64>,
}

impl Node {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Node {
        let null = Value::Null;
        let status = object.get("status").unwrap_or(&null);
        let pods = status.pointer("/allocatable/pods");
        let mut by_name = BTreeMap::new();
        for image in items(status, "images") {
            let size = image.get("sizeBytes").and_then(Value::as_i64).unwrap_or(0);
            by_name.extend(
                strings(image.get("names"))
                    .into_iter()
                    .map(|name| (name, size)),
            );
        }
        Node {
            name: text(object, "/metadata/name"),
            labels: labels(object.pointer("/metadata/labels")),
            taints: object
                .pointer("/spec/taints")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|t| Taint {
                    key: text(t, "/key"),
                    value: text(t, "/value"),
                    effect: text(t, "/effect"),
                })
                .collect(),
            unschedulable: object
                .pointer("/spec/unschedulable")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            allocatable: Resources::parse(status.get("allocatable")),
            pods_max: pods
                .map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_string))
                .map_or(0, |p| crate::quantity::value(&p)),
            images: by_name,
        }
    }
}

/// The required terms of a node affinity; those that do not parse match no node and are left out.
pub(crate) fn required_terms(node_affinity: &Value) -> Option<Vec<NodeSelectorTerm>> {
    let required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    let terms = |required| {
        items(required, "nodeSelectorTerms")
            .filter_map(NodeSelectorTerm::parse)
            .collect()
    };
    required.filter(|r| r.is_object()).map(terms)
}

/// The preferred terms of a node affinity with their weights.
pub(crate) fn preferred_terms(node_affinity: &Value) -> Vec<(i64, NodeSelectorTerm)> {
    items(
        node_affinity,
        "preferredDuringSchedulingIgnoredDuringExecution",
    )
    .filter_map(|term| {
        let preference = NodeSelectorTerm::parse(term.get("preference")?)?;
        Some((weight(term), preference))
    })
    .collect()
}

fn host_ports(spec: &Value) -> Vec<HostPort> {
    let sidecars = items(spec, "initContainers").filter(|c| text(c, "/restartPolicy") == "Always");
    let mut ports = Vec::new();
    for port in items(spec, "containers")
        .chain(sidecars)
        .flat_map(|c| items(c, "ports"))
    {
        let number = port
            .get("hostPort")
            .and_then(Value::as_u64)
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(0);
        if number == 0 {
            continue;
        }
        let or = |field: &str, default: &str| {
            Some(text(port, field))
                .filter(|t| !t.is_empty())
                .unwrap_or(default.into())
        };
        ports.push(HostPort {
            ip: or("/hostIP", "0.0.0.0"),
            protocol: or("/protocol", "TCP"),
            port: number,
        });
    }
    ports
}

/// Image names as nodes report them: with `:latest` when neither tag nor digest is given.
fn images(spec: &Value) -> Vec<String> {
    let containers = items(spec, "initContainers")
        .chain(items(spec, "containers"))
        .map(|c| text(c, "/image"));
    let volumes = items(spec, "volumes")
        .map(|v| text(v, "/image/reference"))
        .filter(|image| !image.is_empty());
    containers
        .chain(volumes)
        .map(|image| {
            let tagged = image.rfind(':') > image.rfind('/');
            if tagged {
                image
            } else {
                format!("{image}:latest")
            }
        })
        .collect()
}

fn toleration(value: &Value) -> Toleration {
    Toleration {
        key: text(value, "/key"),
        exists: text(value, "/operator") == "Exists",
        value: text(value, "/value"),
        effect: text(value, "/effect"),
    }
}

pub(crate) fn controller_uid(object: &Value) -> Option<String> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let controller = owners
        .iter()
        .find(|o| o.get("controller").and_then(Value::as_bool) == Some(true))?;
    Some(text(controller, "/uid"))
}

fn weight(term: &Value) -> i64 {
    term.get("weight").and_then(Value::as_i64).unwrap_or(0)
}

/// The string at a JSON pointer, empty when there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn toleration_table() {
        let taint = Taint {
            key: "k".into(),
            value: "v".into(),
            effect: "NoSchedule".into(),
        };
        let table = [
            (
                json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}),
                true,
            ),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
        ];
        for (value, expected) in table {
            assert_eq!(toleration(&value).tolerates(&taint), expected, "{value}");
        }
    }

    #[test]
    fn images_without_tag_mean_latest() {
        let spec = json!({"containers": [{"image": "nginx"}, {"image": "reg:5000/app"}, {"image": "reg:5000/app:1"}]});
        assert_eq!(
            images(&spec),
            ["nginx:latest", "reg:5000/app:latest", "reg:5000/app:1"]
        );
    }

    #[test]
    fn host_ports_conflict_by_address_protocol_and_port() {
        let port = |ip: &str, protocol: &str, port| HostPort {
            ip: ip.into(),
            protocol: protocol.into(),
            port,
        };
        assert!(port("0.0.0.0", "TCP", 80).conflicts(&port("10.0.0.1", "TCP", 80)));
        assert!(!port("10.0.0.2", "TCP", 80).conflicts(&port("10.0.0.1", "TCP", 80)));
        assert!(!port("0.0.0.0", "UDP", 80).conflicts(&port("0.0.0.0", "TCP", 80)));
    }

    #[test]
    fn odd_objects_compile_to_something_harmless() {
        for odd in [
            json!(null),
            json!([]),
            json!({"spec": 5}),
            json!({"spec": {"tolerations": {"a": 1}}}),
        ] {
            assert_eq!(Pod::compile(&odd).host_ports, []);
            assert_eq!(Node::compile(&odd).pods_max, 0);
        }
    }
}

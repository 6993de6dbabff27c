//! Pods that say what another one said lately have its template, which need not be compiled again: a pod tells of itself several
//! times until it runs, and a thousand others say the same.

use super::outline::{Parts, parts, tree};
use super::{Pod, Template, controller_uid, field, text};
use crate::resources::items;
use crate::selector::{Labels, labels};
use serde::Deserializer;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// There are so many places: of a hundred templates hardly two have the same.
const REMEMBERED: usize = 1024;
/// Pods that take about so much more are not remembered: what is would stay when they are gone.
const BYTES_MAX: usize = 64 << 10;
/// By so much of a spec, besides its length and its owner, it is mostly told from others.
const MARK_BYTES: usize = 256;
/// A map takes room for so many fields at least.
const FIELDS_MIN: usize = 11;
/// What annotations are called that say something to the scheduler.
const OURS: &str = "scheduling.kontiki.io/";

/// One watch brings all pods, so that nobody waits here.
static LATELY: Mutex<Vec<Option<Arc<Known>>>> = Mutex::new(Vec::new());

/// All that a template is compiled from, of pods of which [`depends_on_more`] is not true.
struct Source<'a> {
    namespace: &'a str,
    labels: &'a Labels,
    controller_uid: Option<&'a str>,
    /// The outline of the spec, without the node.
    spec: &'a [u8],
}

/// A template and what it was compiled from.
struct Known {
    namespace: String,
    labels: Labels,
    controller_uid: Option<String>,
    outline: Box<[u8]>,
    /// What the outline is of.
    spec: Value,
    template: Arc<Template>,
}

/// Reads an API object and compiles it to what [`Pod::compile`] makes of it, with what is remembered.
pub(super) fn read<'de, D: Deserializer<'de>>(decoder: D) -> Result<Pod, D::Error> {
    let Parts { object, node, spec } = parts(decoder)?;
    let mut pod = compile(object, spec);
    if let Some(Value::String(node)) = node {
        pod.node_name = node;
    }
    Ok(pod)
}

/// Compiles an API object whose spec is given as an outline.
fn compile(mut object: Value, outline: Vec<u8>) -> Pod {
    let namespace = text(&object, "/metadata/namespace");
    let pod_labels = labels(field(&object, "/metadata/labels"));
    let controller_uid = controller_uid(&object);
    let source = Source {
        namespace: &namespace,
        labels: &pod_labels,
        controller_uid: controller_uid.as_deref(),
        spec: &outline,
    };
    let place = source.place();
    let known = recall(place, &source);
    if let Some(known) = known.filter(|known| !depends_on_more(&object, &known.spec)) {
        let template = known.template.clone();
        return Pod::of_template(&object, &known.spec, namespace, pod_labels, template);
    }
    let spec = tree(&outline).unwrap_or_default();
    let is_its_own = depends_on_more(&object, &spec);
    let is_small = source.bytes(&spec) <= BYTES_MAX;
    if let Some(fields) = object.as_object_mut() {
        fields.insert("spec".to_owned(), spec);
    }
    if is_its_own {
        return Pod::compile(&object);
    }
    let template = Template::compile(&object, &namespace, &pod_labels).shared();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let pod = Pod::of_template(&object, spec, namespace, pod_labels, template.clone());
    if is_small && template.is_small() {
        let known = Known {
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            controller_uid,
            outline: outline.into_boxed_slice(),
            spec: object.get_mut("spec").map(Value::take).unwrap_or_default(),
            template,
        };
        remember(place, known);
    }
    pod
}

/// Whether a template is compiled from more than its [`Source`]: from annotations, or from what containers have been given, where
/// that is not what they ask for.
fn depends_on_more(object: &Value, spec: &Value) -> bool {
    let annotations = field(object, "/metadata/annotations").and_then(Value::as_object);
    let is_told = annotations.is_some_and(|all| all.keys().any(|name| name.starts_with(OURS)));
    let status = object.get("status").unwrap_or(&Value::Null);
    let has_others = |containers: &str, statuses: &str| {
        items(status, statuses).any(|told| has_other(spec, containers, told))
    };
    is_told
        || has_others("containers", "containerStatuses")
        || has_others("initContainers", "initContainerStatuses")
}

/// Whether a status tells that a container was given, or has, other amounts than it asks for.
fn has_other(spec: &Value, containers: &str, told: &Value) -> bool {
    let given = told.get("allocatedResources");
    let has = field(told, "/resources/requests");
    if given.is_none() && has.is_none() {
        return false;
    }
    items(spec, containers)
        .filter(|container| container.get("name") == told.get("name"))
        .any(|container| {
            let asked = field(container, "/resources/requests");
            asked.is_none() || given != asked || has != asked
        })
}

impl Source<'_> {
    /// Where it is remembered: mostly not where another one is.
    fn place(&self) -> usize {
        let beginning = self.spec.len().min(MARK_BYTES);
        let mut hasher = DefaultHasher::new();
        let length = self.spec.len();
        (self.controller_uid, length, &self.spec[..beginning]).hash(&mut hasher);
        hasher.finish() as usize % REMEMBERED
    }

    /// About how much memory it takes when it is remembered with the tree of its spec.
    fn bytes(&self, spec: &Value) -> usize {
        let labels = self.labels.iter();
        let labels = labels.map(|(key, value)| key.len() + value.len());
        labels.sum::<usize>() + self.spec.len() + bytes(spec)
    }

    fn is_of(&self, known: &Known) -> bool {
        self.controller_uid == known.controller_uid.as_deref()
            && self.namespace == known.namespace
            && *self.labels == known.labels
            && *self.spec == *known.outline
    }
}

fn bytes(value: &Value) -> usize {
    let field = size_of::<(String, Value)>();
    let inside: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(bytes).sum(),
        Value::Object(fields) => {
            let spare = FIELDS_MIN.saturating_sub(fields.len()) * field;
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| field + name.len() + bytes(value));
            spare + fields.sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + inside
}

fn recall(place: usize, source: &Source<'_>) -> Option<Arc<Known>> {
    let lately = lately();
    let known = lately.get(place)?.as_ref()?;
    source.is_of(known).then(|| known.clone())
}

fn remember(place: usize, known: Known) {
    let mut lately = lately();
    if lately.is_empty() {
        lately.resize_with(REMEMBERED, || None);
    }
    lately[place] = Some(Arc::new(known));
}

fn lately() -> MutexGuard<'static, Vec<Option<Arc<Known>>>> {
    LATELY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(object: &Value) -> Pod {
        super::read(object.clone()).unwrap()
    }

    /// A pod by what is rolled for each of its sides.
    fn rolled(sides: [usize; 12]) -> Value {
        let [
            name,
            owner,
            label,
            annotation,
            node,
            image,
            volume,
            affinity,
            given,
            phase,
            claim,
            init,
        ] = sides;
        let one_of = |texts: [&'static str; 3], at: usize| texts[at];
        let controller = |uid: &str| json!([{"uid": uid, "controller": true}]);
        let owners = [json!(null), controller("o"), controller("p")];
        let annotations = [
            json!({"x": "y"}),
            json!({"scheduling.kontiki.io/pod-group-min-count": "2", "scheduling.kontiki.io/pressure-sensitivity": "io"}),
            json!({"scheduling.kontiki.io/deadline": "2026-01-01T00:00:00Z"}),
        ];
        let volumes = [
            json!([{"name": format!("token-{name}"), "projected": {"sources": []}}]),
            json!([{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}, {"name": "e", "ephemeral": {}}]),
            json!([{"name": "i", "image": {"reference": "r"}}, {"name": "s", "secret": {}, "rbd": {"image": "i"}}]),
        ];
        let terms =
            json!([{"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["app"]}]);
        let affinities = [
            json!(null),
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}),
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
        ];
        let statuses = [
            json!([{"name": "c", "image": "x", "state": {}}]),
            json!([{"name": "c", "allocatedResources": {"cpu": "7"}}, {"name": "d", "resources": {"requests": {"cpu": "8"}}}]),
            json!([{"name": "c", "resources": {"requests": {"cpu": "2", "example.com/gpu": 1}},
                "allocatedResources": {"cpu": "2", "example.com/gpu": 1}}]),
        ];
        let condition = json!({"type": "PodScheduled", "status": one_of(["True", "False", "x"], phase), "reason": "r",
            "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let claims = [
            json!(null),
            json!([{"name": "d", "resourceClaimName": "c"}]),
            json!([{"name": "d", "resourceClaimTemplateName": "t"}]),
        ];
        let deadlines = [json!(null), json!(9), json!("x")];
        let cpu = (image + 1).to_string();
        let container = json!({"name": "c", "image": one_of(["a", "b:1", "c"], image), "env": [{"name": "e", "value": cpu}],
            "restartPolicy": "Always", "ports": [{"hostPort": 80 * image}], "volumeMounts": [{"name": format!("token-{name}")}],
            "resources": {"requests": {"cpu": cpu, "example.com/gpu": 1}}});
        let inits = [json!(null), json!([container]), json!(5)];
        let nodes = [json!(null), json!("n"), json!(7)];
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": one_of(["x", "y", "z"], name), "namespace": one_of(["d", "e", "d"], name), "uid": "u",
                "resourceVersion": "5", "generation": 2, "creationTimestamp": "2026-01-01T00:00:01Z", "managedFields": [{}],
                "labels": {"app": one_of(["a", "b", "c"], label), "scheduling.kontiki.io/pod-group": "g"},
                "ownerReferences": owners[owner], "annotations": annotations[annotation]},
            "spec": {"nodeName": nodes[node], "containers": [container], "initContainers": inits[init],
                "volumes": volumes[volume], "affinity": affinities[affinity], "priority": 3 * image,
                "tolerations": [{"key": "k", "operator": "Exists"}], "topologySpreadConstraints": terms,
                "resourceClaims": claims[claim], "activeDeadlineSeconds": deadlines[claim],
                "restartPolicy": "Always", "preemptionPolicy": one_of(["", "Never", "x"], label)},
            "status": {"phase": one_of(["Running", "Succeeded", "Failed"], phase), "podIP": "10.0.0.1",
                "startTime": "2026-01-01T00:00:02Z", "nominatedNodeName": "m",
                "conditions": [condition, {"type": "PodResizePending", "reason": "Infeasible"}],
                "containerStatuses": statuses[given], "initContainerStatuses": statuses[phase], "resourceClaimStatuses": [{"name": "d", "resourceClaimName": "made"}]}})
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
        #[test]
        fn a_pod_that_is_read_is_the_one_that_is_compiled_whatever_was_read_before(
            pods in prop::collection::vec(prop::array::uniform12(0..3_usize), 1..8),
        ) {
            for sides in pods {
                let object = rolled(sides);
                let compiled = Pod::compile(&object);
                prop_assert_eq!(read(&object), compiled.clone());
                // Now it is known.
                prop_assert_eq!(read(&object), compiled);
            }
        }
    }

    #[test]
    fn what_is_bound_and_told_of_has_the_template_of_its_like() {
        let pod = |name: &str, node: Value, phase: &str| {
            let volume = json!({"name": format!("token-{name}"), "projected": {}});
            let owner = json!({"uid": "alike", "controller": true});
            read(
                &json!({"metadata": {"name": name, "ownerReferences": [owner]},
                "spec": {"nodeName": node, "volumes": [volume], "containers": [{"name": "c", "image": "alike"}]},
                "status": {"phase": phase}}),
            )
        };
        let one = pod("a", json!(null), "Pending");
        // Another thread, which shares no templates with this one otherwise.
        let other = std::thread::spawn(move || pod("b", json!("n"), "Failed"));
        let other = other.join().unwrap();
        assert!(Arc::ptr_eq(&one.template, &other.template));
        assert_eq!((&*one.node_name, &*other.node_name), ("", "n"));
        assert!(other.finished && !one.finished);
    }

    #[test]
    fn what_takes_much_memory_is_not_remembered() {
        let is_remembered = |uid: &str, bytes: usize| {
            let named = json!({"key": "k", "operator": "In", "values": ["x".repeat(bytes)]});
            let affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"topologyKey": "zone", "labelSelector": {"matchExpressions": [named]}}]}});
            let owner = json!({"uid": uid, "controller": true});
            let spec =
                json!({"containers": [{"name": "c", "image": "much"}], "affinity": affinity});
            let object =
                json!({"metadata": {"name": "p", "ownerReferences": [owner]}, "spec": spec});
            assert_eq!(read(&object), Pod::compile(&object));
            let labels = Labels::new();
            let outline = parts(json!({ "spec": spec })).unwrap().spec;
            let source = Source {
                namespace: "",
                labels: &labels,
                controller_uid: Some(uid),
                spec: &outline,
            };
            recall(source.place(), &source).is_some()
        };
        assert!(is_remembered("little", BYTES_MAX / 4));
        assert!(!is_remembered("much", BYTES_MAX));
    }

    #[test]
    fn odd_pods_are_read_as_they_are_compiled() {
        for odd in [
            json!(5),
            json!(null),
            json!([[]]),
            json!({"containers": [7]}),
        ] {
            let object = json!({"metadata": {"name": "p"}, "spec": odd, "status": odd});
            assert_eq!(read(&object), Pod::compile(&object));
        }
    }
}

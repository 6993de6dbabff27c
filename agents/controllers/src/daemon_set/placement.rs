//! Which nodes a DaemonSet runs on, and how its pods say for which node they are.

use agent_runtime::kinds::{Node, Pod, PodPlacement, Taint, Toleration};
use serde_json::{Map, Value, json};

/// The taints that daemons bear without being asked: they run on nodes that are not well, or not open to others.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// Borne by daemons that use the network of their node.
const NETWORK_UNAVAILABLE: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Whether a node gets a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// A pod has to be there.
    pub(super) runs: bool,
    /// A pod that is there may stay.
    pub(super) stays: bool,
}

/// What a template asks of nodes.
#[derive(Debug, PartialEq)]
pub(super) struct Rules {
    placement: PodPlacement,
}

impl Rules {
    pub(super) fn of(template: &Value) -> Self {
        let spec = template.get("spec").cloned().unwrap_or_default();
        let mut placement: PodPlacement = serde_json::from_value(spec).unwrap_or_default();
        let automatic = tolerated(placement.host_network).map(|(key, effect)| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            effect: effect.into(),
            ..Toleration::default()
        });
        placement.tolerations.extend(automatic);
        Self { placement }
    }

    pub(super) fn decide(&self, node: &Node) -> Decision {
        if !self.placement.selects(node) {
            return Decision::default();
        }
        let tolerated = |taint: &Taint| {
            self.placement
                .tolerations
                .iter()
                .any(|t| t.tolerates(taint))
        };
        let repelled_by = |effect: &str| {
            let mut taints = node.spec.taints.iter();
            taints.any(|taint| taint.effect == effect && !tolerated(taint))
        };
        let stays = !repelled_by("NoExecute");
        Decision {
            runs: stays && !repelled_by("NoSchedule"),
            stays,
        }
    }
}

fn tolerated(host_network: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    TOLERATED
        .into_iter()
        .chain(host_network.then_some(NETWORK_UNAVAILABLE))
}

/// The node that a pod is on, or was made for.
pub(super) fn target_node(pod: &Pod) -> Option<&str> {
    if !pod.spec.node_name.is_empty() {
        return Some(&pod.spec.node_name);
    }
    let nodes = pod.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = nodes
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| &term.match_fields);
    let by_name = fields.find(|f| f.key == "metadata.name" && f.operator == "In")?;
    match by_name.values.as_slice() {
        [name] => Some(name),
        _ => None,
    }
}

/// Ties the pods of a template to one node, and gives them the tolerations of daemons. What the template itself requires
/// of nodes was asked when the node was chosen, and is replaced.
pub(super) fn pin(template: &mut Value, node: &str) {
    let spec = object_at(template, "spec");
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    let tolerations = array_at(spec, "tolerations");
    for (key, effect) in tolerated(host_network) {
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    let terms =
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    let mut place = spec;
    for field in ["affinity", "nodeAffinity"] {
        place = object_in(place.entry(field).or_insert(Value::Null));
    }
    place.insert(
        "requiredDuringSchedulingIgnoredDuringExecution".into(),
        json!({"nodeSelectorTerms": terms}),
    );
}

/// The object at a field; anything else there is replaced by an empty one.
pub(super) fn object_at<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    object_in(object_in(value).entry(field).or_insert(Value::Null))
}

fn object_in(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made one above")
}

fn array_at<'a>(fields: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let place = fields.entry(field).or_insert(Value::Null);
    if !place.is_array() {
        *place = json!([]);
    }
    place.as_array_mut().expect("it was made one above")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    /// `+`: runs, `~`: what runs stays, `-`: neither.
    fn decide(spec: &str, node: &str) -> char {
        let template: Value = object(&format!("{{spec: {spec}}}"));
        let node: Node = object(node);
        match Rules::of(&template).decide(&node) {
            Decision { runs: true, .. } => '+',
            Decision { stays: true, .. } => '~',
            _ => '-',
        }
    }

    fn tainted(key: &str, effect: &str) -> String {
        format!("{{metadata: {{name: n}}, spec: {{taints: [{{key: {key}, effect: {effect}}}]}}}}")
    }

    #[test]
    fn a_node_is_chosen_by_name_labels_and_affinity() {
        let node = "{metadata: {name: n, labels: {disk: ssd}}, spec: {unschedulable: true}}";
        let required = |term: &str| {
            format!(
                "{{affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}}}}}"
            )
        };
        for (spec, wanted) in [
            ("{}".to_owned(), '+'),
            ("{nodeName: n}".to_owned(), '+'),
            ("{nodeName: m}".to_owned(), '-'),
            ("{nodeSelector: {disk: ssd}}".to_owned(), '+'),
            ("{nodeSelector: {disk: tape}}".to_owned(), '-'),
            (
                required("{matchExpressions: [{key: disk, operator: Exists}]}"),
                '+',
            ),
            (
                required("{matchExpressions: [{key: disk, operator: DoesNotExist}]}"),
                '-',
            ),
            (
                required("{matchFields: [{key: metadata.name, operator: In, values: [m]}]}"),
                '-',
            ),
            (required("{}"), '-'),
        ] {
            assert_eq!(decide(&spec, node), wanted, "{spec}");
        }
    }

    #[test]
    fn taints_keep_daemons_away_except_those_of_nodes_that_are_unwell() {
        for (key, effect, wanted) in [
            ("node.kubernetes.io/not-ready", "NoExecute", '+'),
            ("node.kubernetes.io/not-ready", "NoSchedule", '~'),
            ("node.kubernetes.io/unreachable", "NoExecute", '+'),
            ("node.kubernetes.io/disk-pressure", "NoSchedule", '+'),
            ("node.kubernetes.io/memory-pressure", "NoSchedule", '+'),
            ("node.kubernetes.io/pid-pressure", "NoSchedule", '+'),
            ("node.kubernetes.io/unschedulable", "NoSchedule", '+'),
            ("node.kubernetes.io/network-unavailable", "NoSchedule", '~'),
            ("mine", "NoSchedule", '~'),
            ("mine", "NoExecute", '-'),
            ("mine", "PreferNoSchedule", '+'),
        ] {
            assert_eq!(
                decide("{}", &tainted(key, effect)),
                wanted,
                "{key} {effect}"
            );
        }
        let network = tainted("node.kubernetes.io/network-unavailable", "NoSchedule");
        assert_eq!(decide("{hostNetwork: true}", &network), '+');
        let all = "{tolerations: [{operator: Exists}]}";
        assert_eq!(decide(all, &tainted("mine", "NoExecute")), '+');
    }

    #[test]
    fn a_pod_is_tied_to_its_node_and_keeps_its_preferences() {
        let mut template: Value = object(
            "{spec: {tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute}, {key: mine, operator: Exists}], \
             affinity: {podAffinity: {}, nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [], requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}]}}}}}",
        );
        pin(&mut template, "n1");
        let spec = &template["spec"];
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 7);
        let affinity = &spec["affinity"];
        assert!(affinity["podAffinity"].is_object());
        let nodes = &affinity["nodeAffinity"];
        assert!(nodes["preferredDuringSchedulingIgnoredDuringExecution"].is_array());
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        assert_eq!(target_node(&pod), Some("n1"));
        let mut odd = json!({"spec": {"tolerations": null, "affinity": 7, "hostNetwork": true}});
        pin(&mut odd, "n2");
        let pod: Pod = serde_json::from_value(odd).unwrap();
        assert_eq!(
            (target_node(&pod), pod.spec.tolerations.len()),
            (Some("n2"), 7)
        );
    }
}

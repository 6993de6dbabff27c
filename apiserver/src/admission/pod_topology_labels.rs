//! PodTopologyLabels: a pod that gets its node, or is made with it, gets the labels of that node's zone and region.

use schema::Object;

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

const LABELS: &[&str] = &[
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub(super) fn mutate(admission: &Admission<'_>, object: &mut Object) -> ApiResult<()> {
    if admission.operation != Operation::Create || !admission.is("", "pods") {
        return Ok(());
    }
    let Some(name) = node(admission.subresource, object) else {
        return Ok(());
    };
    let Some(node) = admission.context.server.world.get("", "nodes", "", name) else {
        // The scheduler was faster than this member's caches: the pod runs without the labels.
        return Ok(());
    };
    copy(node.labels(), object);
    Ok(())
}

/// The node of a pod, or of the binding of one.
fn node<'a>(subresource: &str, object: &'a Object) -> Option<&'a str> {
    let name = match subresource {
        "" => object.get_str(&["spec", "nodeName"]),
        "binding" => {
            let kind = object.get_str(&["target", "kind"]);
            let name = object.get_str(&["target", "name"]);
            name.filter(|_| matches!(kind, None | Some("" | "Node")))
        }
        _ => None,
    };
    name.filter(|name| !name.is_empty())
}

/// Adds the labels of the node that are not there yet.
fn copy<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, object: &mut Object) {
    for (key, value) in labels.filter(|(key, _)| LABELS.contains(key)) {
        if object.label(key).is_none() {
            object.set_label(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_where_a_node_stands_is_copied() {
        let mut binding = Object::new(json!({"kind": "Binding", "metadata": {}})).unwrap();
        let labels = [("topology.kubernetes.io/zone", "a"), ("disk", "ssd")];
        copy(labels.into_iter(), &mut binding);
        let labels: Vec<_> = binding.labels().collect();
        assert_eq!(labels, [("topology.kubernetes.io/zone", "a")]);
    }

    #[test]
    fn labels_that_are_there_stay() {
        let own = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "own"}}});
        let mut pod = Object::new(own).unwrap();
        let labels = [
            ("topology.kubernetes.io/zone", "a"),
            ("topology.kubernetes.io/region", "r"),
        ];
        copy(labels.into_iter(), &mut pod);
        assert_eq!(pod.label("topology.kubernetes.io/zone"), Some("own"));
        assert_eq!(pod.label("topology.kubernetes.io/region"), Some("r"));
    }

    #[test]
    fn pods_have_nodes_and_bindings_name_them() {
        let pod = Object::new(json!({"spec": {"nodeName": "n"}})).unwrap();
        assert_eq!(node("", &pod), Some("n"));
        assert_eq!(node("eviction", &pod), None);
        let binding =
            |kind: &str| Object::new(json!({"target": {"kind": kind, "name": "n"}})).unwrap();
        assert_eq!(node("binding", &binding("Node")), Some("n"));
        assert_eq!(node("binding", &binding("Service")), None);
    }
}

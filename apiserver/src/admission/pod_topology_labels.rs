//! PodTopologyLabels: a pod that gets its node gets the labels of that node's zone and region.

use schema::Object;

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

const LABELS: &[&str] = &[
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub(super) fn mutate(admission: &Admission<'_>, binding: &mut Object) -> ApiResult<()> {
    if admission.operation != Operation::Create || binding.kind() != "Binding" {
        return Ok(());
    }
    if !matches!(
        binding.get_str(&["target", "kind"]),
        None | Some("" | "Node")
    ) {
        return Ok(());
    }
    let name = binding.get_str(&["target", "name"]).unwrap_or_default();
    let Some(node) = admission.context.server.world.get("", "nodes", "", name) else {
        // The scheduler was faster than this member's caches: the pod runs without the labels.
        return Ok(());
    };
    copy(node.labels(), binding);
    Ok(())
}

fn copy<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, binding: &mut Object) {
    for (key, value) in labels.filter(|(key, _)| LABELS.contains(key)) {
        binding.set_label(key, value);
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
}

//! PodResizeValidator: a pod on a node is not resized beyond what that node has to give, nor where nodes cannot do it.

use resources::quota;
use schema::Object;
use schema::quantity::Quantity;

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

const OS: &str = "kubernetes.io/os";

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let (Some(pod), Some(old)) = (object, admission.old) else {
        return Ok(());
    };
    if admission.operation != Operation::Update
        || admission.subresource != "resize"
        || !admission.is("", "pods")
        || pod.generation() == old.generation()
    {
        return Ok(());
    }
    let name = pod.get_str(&["spec", "nodeName"]).unwrap_or_default();
    if name.is_empty() {
        return Ok(());
    }
    let Some(node) = admission.context.server.world.get("", "nodes", "", name) else {
        return Err(admission.forbid(pod, &format!("node {name:?} not found")));
    };
    refusal(pod, &node.object(), admission.context.now).map_or(Ok(()), |(reason, text)| {
        Err(admission.forbid(pod, &text).with_cause(reason, "", ""))
    })
}

/// Why the pod cannot become so on this node: a word for programs, and a text.
fn refusal(pod: &Object, node: &Object, now: i64) -> Option<(&'static str, String)> {
    let wanted = quota::usage("", "pods", pod, now);
    let there = node.get(&["status", "allocatable"]);
    let there = there.map(quota::amounts).unwrap_or_default();
    let mut lacking = Vec::new();
    for (name, number) in [
        ("cpu", Quantity::milli_value as fn(Quantity) -> i64),
        ("memory", Quantity::value),
    ] {
        let of = |amount: Option<&Quantity>| amount.map_or(0, |amount| number(*amount));
        let (requested, allocatable) = (
            of(wanted.get(&format!("requests.{name}"))),
            of(there.get(name)),
        );
        if requested > allocatable {
            lacking.push(format!(
                "{name}, requested: {requested}, allocatable: {allocatable}"
            ));
        }
    }
    if !lacking.is_empty() {
        let lacking = lacking.join("; ");
        let text = format!("Node didn't have enough allocatable resources: {lacking}");
        return Some(("NodeCapacity", text));
    }
    let os = node.label(OS).unwrap_or_default();
    (os != "linux").then(|| {
        let name = node.name();
        let text = format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
        ("UnsupportedPlatform", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_gives_what_it_has() {
        let pod = |cpu: &str, memory: &str| {
            let requests = json!({"cpu": cpu, "memory": memory});
            Object::new(json!({"spec": {"containers": [{"name": "a", "resources": {"requests": requests}}]}})).unwrap()
        };
        let node = |os: &str| {
            Object::new(json!({"metadata": {"name": "n", "labels": {OS: os}}, "status": {"allocatable": {"cpu": "2", "memory": "1Ki"}}})).unwrap()
        };
        assert_eq!(refusal(&pod("2", "1Ki"), &node("linux"), 0), None);
        assert_eq!(
            refusal(&pod("2500m", "2Ki"), &node("linux"), 0).unwrap(),
            (
                "NodeCapacity",
                "Node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000; memory, requested: 2048, allocatable: 1024".to_owned()
            )
        );
        assert_eq!(
            refusal(&pod("1", "1"), &node("windows"), 0).unwrap().1,
            "pod resize is only supported on linux nodes, node \"n\" is \"windows\""
        );
    }
}

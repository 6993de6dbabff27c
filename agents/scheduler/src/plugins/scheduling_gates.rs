//! SchedulingGates: a pod with gates waits outside the queue until the last one is removed.

use super::Gate;
use crate::object::Pod;

pub(super) const GATE: Gate = Gate {
    name: "SchedulingGates",
    closed,
    waits: |_, _| None,
};

fn closed(pod: &Pod) -> Option<String> {
    (!pod.gates.is_empty())
        .then(|| format!("waiting for scheduling gates: [{}]", pod.gates.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_with_gates_waits() {
        assert_eq!(closed(&pod(json!({}))), None);
        let gated = pod(json!({"schedulingGates": [{"name": "a"}, {"name": "b"}]}));
        assert_eq!(
            closed(&gated).unwrap(),
            "waiting for scheduling gates: [a b]"
        );
    }
}

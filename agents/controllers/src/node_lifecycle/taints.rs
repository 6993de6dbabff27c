//! The taints of a node, from its conditions. Pure.

use agent_runtime::kinds::{Node, Taint, condition};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::NODES;
use agent_runtime::timestamp::{self, Micros};
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition, its value, and the taint that keeps new pods away.
const NO_SCHEDULE: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];

pub(super) struct TaintOp {
    pub(super) op: Op,
    /// Whether the node's pods begin to leave.
    pub(super) starts_eviction: bool,
}

/// May the node get a taint that makes pods leave?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// Now.
    Allowed,
    /// Not now, the rate is spent; what is tainted stays so.
    Later,
    /// Every zone is dark: nothing is evicted, and taints that evict are taken back.
    Suspended,
}

pub(super) fn reconcile(node: &Node, eviction: Eviction, now: Micros) -> Option<TaintOp> {
    let (taints, starts_eviction) = wanted(node, eviction, now);
    if taints == node.spec.taints {
        return None;
    }
    let taints = if taints.is_empty() {
        Value::Null
    } else {
        json!(taints)
    };
    let metadata =
        json!({"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version});
    Some(TaintOp {
        op: Op::merge(
            &NODES,
            &node.metadata,
            json!({"metadata": metadata, "spec": {"taints": taints}}),
        ),
        starts_eviction,
    })
}

fn wanted(node: &Node, eviction: Eviction, now: Micros) -> (Vec<Taint>, bool) {
    let holds = |kind: &str, status: &str| {
        condition(&node.status.conditions, kind).is_some_and(|c| c.status == status)
    };
    let mut taints = node.spec.taints.clone();
    for (kind, status, key) in NO_SCHEDULE {
        set(&mut taints, key, "NoSchedule", holds(kind, status), now);
    }
    set(
        &mut taints,
        UNSCHEDULABLE,
        "NoSchedule",
        node.spec.unschedulable,
        now,
    );
    let has = |taints: &[Taint], key: &str| {
        taints
            .iter()
            .any(|t| t.key == key && t.effect == "NoExecute")
    };
    let evicting = has(&taints, NOT_READY) || has(&taints, UNREACHABLE);
    let may = eviction == Eviction::Allowed || (evicting && eviction == Eviction::Later);
    let mut starts = false;
    for (key, status) in [(NOT_READY, "False"), (UNREACHABLE, "Unknown")] {
        let want = holds("Ready", status) && may;
        starts |= want && !evicting;
        set(&mut taints, key, "NoExecute", want, now);
    }
    (taints, starts)
}

fn set(taints: &mut Vec<Taint>, key: &str, effect: &str, present: bool, now: Micros) {
    let is = |taint: &Taint| taint.key == key && taint.effect == effect;
    if !present {
        taints.retain(|taint| !is(taint));
    } else if !taints.iter().any(is) {
        taints.push(Taint {
            key: key.into(),
            effect: effect.into(),
            value: String::new(),
            time_added: Some(timestamp::time(now)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    fn taints(node: &str, eviction: Eviction) -> Vec<String> {
        wanted(&object(node), eviction, 0)
            .0
            .iter()
            .map(|t| {
                format!(
                    "{}:{}",
                    t.key.trim_start_matches("node.kubernetes.io/"),
                    t.effect
                )
            })
            .collect()
    }

    #[test]
    fn taints_say_since_when() {
        let node = "{status: {conditions: [{type: Ready, status: Unknown}]}}";
        let (taints, _) = wanted(&object(node), Eviction::Allowed, 0);
        let added = Some("1970-01-01T00:00:00Z");
        assert!(taints.iter().all(|t| t.time_added.as_deref() == added));
        assert_eq!(taints.len(), 2);
    }

    #[test]
    fn conditions_become_taints_and_go_with_them() {
        let node = |spec: &str, ready: &str| {
            format!(
                "{{spec: {{{spec}}}, status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
            )
        };
        assert!(taints(&node("", "True"), Eviction::Allowed).is_empty());
        assert_eq!(
            taints(&node("unschedulable: true", "True"), Eviction::Allowed),
            ["unschedulable:NoSchedule"]
        );
        assert_eq!(
            taints(&node("", "Unknown"), Eviction::Allowed),
            ["unreachable:NoSchedule", "unreachable:NoExecute"]
        );
        assert_eq!(
            taints(&node("", "Unknown"), Eviction::Later),
            ["unreachable:NoSchedule"]
        );
        let tainted = "taints: [{key: node.kubernetes.io/unreachable, effect: NoSchedule}, {key: node.kubernetes.io/unreachable, effect: NoExecute}, {key: mine, effect: NoSchedule}]";
        assert_eq!(taints(&node(tainted, "Unknown"), Eviction::Later).len(), 3);
        assert_eq!(
            taints(&node(tainted, "Unknown"), Eviction::Suspended),
            ["unreachable:NoSchedule", "mine:NoSchedule"]
        );
        assert_eq!(
            taints(&node(tainted, "True"), Eviction::Allowed),
            ["mine:NoSchedule"]
        );
        assert_eq!(
            taints(&node(tainted, "False"), Eviction::Later),
            [
                "mine:NoSchedule",
                "not-ready:NoSchedule",
                "not-ready:NoExecute"
            ]
        );
    }
}

//! Which pods go first when there are too many: the order of Kubernetes, so that users see what they know.

use agent_runtime::kinds::Pod;
use agent_runtime::timestamp::{self, Micros};
use std::cmp::Ordering;
use std::sync::Arc;

/// Lets users say which pods are cheap to lose.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod and how many related pods share its node.
pub(crate) struct Ranked {
    pub(crate) pod: Arc<Pod>,
    pub(crate) neighbours: usize,
}

/// `Less` goes first: not assigned, pending, not ready, cheap, doubled up on a node, ready for a shorter time (by powers
/// of two), restarted more often, younger (by powers of two).
pub(crate) fn compare(a: &Ranked, b: &Ranked, now: Micros) -> Ordering {
    let (pa, pb) = (&*a.pod, &*b.pod);
    let assigned = |pod: &Pod| !pod.spec.node_name.is_empty();
    assigned(pa)
        .cmp(&assigned(pb))
        .then_with(|| phase_rank(pa).cmp(&phase_rank(pb)))
        .then_with(|| pa.is_ready().cmp(&pb.is_ready()))
        .then_with(|| deletion_cost(pa).cmp(&deletion_cost(pb)))
        .then_with(|| b.neighbours.cmp(&a.neighbours))
        .then_with(|| {
            if pa.is_ready() && pb.is_ready() {
                by_age(ready_since(pa), ready_since(pb), pa, pb, now)
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| restarts(pb).cmp(&restarts(pa)))
        .then_with(|| by_age(pa.metadata.created(), pb.metadata.created(), pa, pb, now))
}

fn phase_rank(pod: &Pod) -> u8 {
    match pod.status.phase.as_str() {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.metadata
        .annotations
        .get(DELETION_COST)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn ready_since(pod: &Pod) -> Micros {
    pod.condition("Ready")
        .and_then(|c| c.last_transition_time.as_deref())
        .and_then(timestamp::parse)
        .unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    pod.status
        .container_statuses
        .iter()
        .map(|c| c.restart_count)
        .max()
        .unwrap_or(0)
}

/// Younger first, where ages of the same power of two are equal and the uid decides, so that not always the youngest go.
fn by_age(a: Micros, b: Micros, pa: &Pod, pb: &Pod, now: Micros) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    if a == 0 || b == 0 {
        return a.cmp(&b);
    }
    let magnitude = |t: Micros| {
        u64::try_from(now - t)
            .ok()
            .and_then(u64::checked_ilog2)
            .map_or(-1, i64::from)
    };
    magnitude(a)
        .cmp(&magnitude(b))
        .then_with(|| pa.metadata.uid.cmp(&pb.metadata.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    fn order(pods: &[&str]) -> Vec<String> {
        let mut ranked: Vec<Ranked> = pods
            .iter()
            .map(|text| Ranked {
                pod: Arc::new(object(text)),
                neighbours: 0,
            })
            .collect();
        let now = timestamp::parse("2026-01-01T10:00:00Z").unwrap();
        ranked.sort_by(|a, b| compare(a, b, now));
        ranked.iter().map(|r| r.pod.metadata.name.clone()).collect()
    }

    #[test]
    fn the_least_useful_go_first() {
        let ready = |name: &str, since: &str, more: &str| {
            format!(
                "{{metadata: {{name: {name}, uid: {name}, creationTimestamp: '2026-01-01T00:00:00Z'{more}}}, spec: {{nodeName: n}}, status: {{phase: Running, conditions: [{{type: Ready, status: 'True', lastTransitionTime: '{since}'}}]}}}}"
            )
        };
        let cheap = ready(
            "cheap",
            "2026-01-01T00:00:00Z",
            ", annotations: {controller.kubernetes.io/pod-deletion-cost: '-5'}",
        );
        let fresh = ready("fresh", "2026-01-01T09:59:00Z", "");
        let old = ready("old", "2026-01-01T00:00:00Z", "");
        let unready = "{metadata: {name: unready}, spec: {nodeName: n}, status: {phase: Running}}";
        let pending = "{metadata: {name: pending}, spec: {nodeName: n}, status: {phase: Pending}}";
        let unassigned = "{metadata: {name: unassigned}, status: {phase: Pending}}";
        assert_eq!(
            order(&[&old, &fresh, &cheap, unready, pending, unassigned]),
            ["unassigned", "pending", "unready", "cheap", "fresh", "old"]
        );
    }
}

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
/// of two), restarted more often, younger (by powers of two); the uid decides among equals, so that not always the
/// youngest go.
///
/// This is a total order, key after key: sorting by anything less may panic. (Kubernetes asks the uid earlier, for pods
/// that became ready at different times of the same power of two.)
pub(crate) fn compare(a: &Ranked, b: &Ranked, now: Micros) -> Ordering {
    let (pa, pb) = (&*a.pod, &*b.pod);
    let assigned = |pod: &Pod| !pod.spec.node_name.is_empty();
    let ready_for = |pod: &Pod| {
        if pod.is_ready() {
            magnitude(ready_since(pod), now)
        } else {
            0
        }
    };
    assigned(pa)
        .cmp(&assigned(pb))
        .then_with(|| phase_rank(pa).cmp(&phase_rank(pb)))
        .then_with(|| pa.is_ready().cmp(&pb.is_ready()))
        .then_with(|| deletion_cost(pa).cmp(&deletion_cost(pb)))
        .then_with(|| b.neighbours.cmp(&a.neighbours))
        .then_with(|| ready_for(pa).cmp(&ready_for(pb)))
        .then_with(|| restarts(pb).cmp(&restarts(pa)))
        .then_with(|| {
            magnitude(pa.metadata.created(), now).cmp(&magnitude(pb.metadata.created(), now))
        })
        .then_with(|| pa.metadata.uid.cmp(&pb.metadata.uid))
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

/// The most that a container was restarted, and the most that a sidecar was.
fn restarts(pod: &Pod) -> (i32, i32) {
    let sidecar = |name: &String| {
        pod.spec
            .init_containers
            .iter()
            .any(|c| c.name == *name && c.restart_policy.as_deref() == Some("Always"))
    };
    let most = |counts: &mut dyn Iterator<Item = i32>| counts.max().unwrap_or(0);
    let status = &pod.status;
    (
        most(&mut status.container_statuses.iter().map(|c| c.restart_count)),
        most(
            &mut status
                .init_container_statuses
                .iter()
                .filter(|c| sidecar(&c.name))
                .map(|c| c.restart_count),
        ),
    )
}

/// The age by powers of two (of nanoseconds, as in Kubernetes). What has no date goes first.
fn magnitude(since: Micros, now: Micros) -> i64 {
    if since == 0 {
        return i64::MIN;
    }
    u64::try_from(now.saturating_sub(since))
        .ok()
        .and_then(|age| age.saturating_mul(1000).checked_ilog2())
        .map_or(-1, i64::from)
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

    #[test]
    fn the_order_is_total() {
        let mut pods = Vec::new();
        for (i, (ready, restarts, created)) in [
            ("08:00:00", 0, "07:00:00"),
            ("08:00:00", 3, "07:00:01"),
            ("08:10:00", 0, "07:00:00"),
            ("08:10:00", 2, "07:00:02"),
            ("08:20:00", 1, "07:00:00"),
            ("23:00:00", 1, "23:00:00"),
        ]
        .into_iter()
        .enumerate()
        {
            // Uids in another order than all the rest.
            pods.push(Ranked {
                pod: Arc::new(object(&format!(
                    "{{metadata: {{uid: u{}, creationTimestamp: '2026-01-01T{created}Z'}}, spec: {{nodeName: n}}, status: {{phase: Running, containerStatuses: [{{restartCount: {restarts}}}], conditions: [{{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T{ready}Z'}}]}}}}",
                    [3, 5, 1, 4, 2, 0][i]
                ))),
                neighbours: 0,
            });
        }
        let now = timestamp::parse("2026-01-01T10:00:00Z").unwrap();
        let before = |a: &Ranked, b: &Ranked| compare(a, b, now) == Ordering::Less;
        for a in &pods {
            for b in &pods {
                assert_eq!(compare(a, b, now), compare(b, a, now).reverse());
                for c in &pods {
                    assert!(!(before(a, b) && before(b, c)) || before(a, c));
                }
            }
        }
    }

    #[test]
    fn the_more_often_restarted_go_first_sidecars_in_second_place() {
        let pod = |name: &str, app: i32, sidecar: i32| {
            format!(
                "{{metadata: {{name: {name}, uid: {name}}}, spec: {{nodeName: n, initContainers: [{{name: s, restartPolicy: Always}}, {{name: i}}]}}, status: {{phase: Running, containerStatuses: [{{restartCount: {app}}}], initContainerStatuses: [{{name: s, restartCount: {sidecar}}}, {{name: i, restartCount: 9}}]}}}}"
            )
        };
        let pods = [pod("a", 0, 1), pod("b", 2, 0), pod("c", 0, 4)];
        assert_eq!(order(&[&pods[0], &pods[1], &pods[2]]), ["b", "c", "a"]);
    }
}

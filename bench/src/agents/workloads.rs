//! What is scheduled: the cases of Kubernetes' own benchmark of its scheduler (`scheduler_perf`, 1.36), with their sizes, their
//! pods, and the threshold below which its CI complains. Pure.

use serde_json::{Value, json};

/// Namespaces of pods that are there before, and of those that are measured.
pub(super) const BEFORE: &str = "kontiki-bench-before";
pub(super) const MEASURED: &str = "kontiki-bench-measured";
/// On every pod that is measured.
pub(super) const MARK: &str = "kontiki-bench";
/// The node that daemons want.
pub(super) const WANTED_NODE: &str = "wanted";
const ZONES: [&str; 3] = ["moon-1", "moon-2", "moon-3"];
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// What goes on beside the measured pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// Five pods a second that push four others off a node.
    Preemptors,
    /// Five pods a second that no node takes.
    Impossible,
    /// A node, a pod and a Service, made and removed once a second.
    Churn,
}

/// One case. `nodes`, `before` and `measured` are its full sizes.
pub(super) struct Workload {
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) nodes: usize,
    pub(super) before: usize,
    pub(super) measured: usize,
    /// Pods a second below which Kubernetes' CI complains.
    pub(super) threshold: Option<f64>,
    /// The pods that are there before.
    pub(super) old: fn() -> Value,
    pub(super) new: fn() -> Value,
    pub(super) beside: Beside,
    /// Whether a Service selects the measured pods.
    pub(super) service: bool,
}

/// What our scheduler is to do better by.
pub(super) const TIMES: f64 = 10.0;

const BASIC: Workload = Workload {
    number: 1,
    name: "SchedulingBasic",
    nodes: 5_000,
    before: 1_000,
    measured: 10_000,
    threshold: Some(270.0),
    old: basic,
    new: basic,
    beside: Beside::Nothing,
    service: false,
};

/// All of them, by their numbers.
pub(super) const ALL: &[Workload] = &[
    BASIC,
    Workload {
        number: 2,
        name: "SchedulingDaemonset",
        nodes: 15_000,
        before: 0,
        measured: 30_000,
        threshold: Some(390.0),
        new: daemon,
        ..BASIC
    },
    Workload {
        number: 3,
        name: "SchedulingPodAntiAffinity",
        measured: 2_000,
        threshold: Some(60.0),
        old: apart,
        new: apart,
        ..BASIC
    },
    Workload {
        number: 4,
        name: "SchedulingPodAffinity",
        before: 5_000,
        measured: 5_000,
        threshold: Some(35.0),
        old: together,
        new: together,
        ..BASIC
    },
    Workload {
        number: 5,
        name: "TopologySpreading",
        before: 5_000,
        measured: 5_000,
        threshold: Some(85.0),
        new: || spread("DoNotSchedule"),
        ..BASIC
    },
    // The same number in Kubernetes' list: its softer form.
    Workload {
        number: 5,
        name: "PreferredTopologySpreading",
        before: 5_000,
        measured: 5_000,
        threshold: Some(125.0),
        new: || spread("ScheduleAnyway"),
        ..BASIC
    },
    Workload {
        number: 6,
        name: "PreemptionAsync",
        before: 20_000,
        measured: 5_000,
        threshold: Some(160.0),
        old: lowly,
        beside: Beside::Preemptors,
        ..BASIC
    },
    Workload {
        number: 7,
        name: "Unschedulable",
        before: 100,
        threshold: Some(170.0),
        beside: Beside::Impossible,
        ..BASIC
    },
    Workload {
        number: 8,
        name: "SchedulingWithMixedChurn",
        before: 0,
        threshold: Some(265.0),
        beside: Beside::Churn,
        ..BASIC
    },
    Workload {
        number: 9,
        name: "RequiredPodAntiAffinityWithNSSelector",
        nodes: 6_000,
        before: 4_000,
        measured: 2_000,
        threshold: Some(24.0),
        old: apart_by_team,
        new: apart_by_team,
        ..BASIC
    },
    Workload {
        number: 12,
        name: "DefaultTopologySpreading",
        before: 5_000,
        measured: 50_000,
        threshold: None,
        service: true,
        ..BASIC
    },
];

/// Nodes, pods before and pods measured of a run at this scale. Never so few that nothing can be said.
pub(super) fn sizes(workload: &Workload, scale: f64) -> (usize, usize, usize) {
    let scaled = |size: usize, least: usize| {
        let scaled = (size as f64 * scale).round() as usize;
        scaled.max(least.min(size))
    };
    (
        scaled(workload.nodes, 10),
        scaled(workload.before, 0),
        scaled(workload.measured, 100),
    )
}

/// A node of Kubernetes' benchmark. The one that daemons want takes them all.
pub(super) fn node(name: &str, number: usize) -> Value {
    let pods = if name == WANTED_NODE { "90000" } else { "110" };
    let amount = match name {
        WANTED_NODE => json!({"cpu": "90000", "memory": "90000Gi", "pods": pods}),
        _ => json!({"cpu": "4", "memory": "32Gi", "pods": pods}),
    };
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {HOST: name, ZONE: ZONES[number % ZONES.len()], "made-by": MARK}},
        "status": {"capacity": amount, "allocatable": amount,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Bench",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

fn with(labels: Value, requests: Value, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10.1", "ports": [{"containerPort": 80}],
                "resources": {"requests": requests}}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn usual() -> Value {
    json!({"cpu": "100m", "memory": "500Mi"})
}

fn basic() -> Value {
    with(json!({"app": "basic"}), usual(), json!({}))
}

fn daemon() -> Value {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [WANTED_NODE]});
    let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    with(
        json!({"app": "daemon"}),
        usual(),
        json!({"affinity": affinity}),
    )
}

fn required(kind: &str, mut term: Value, labels: Value, key: &str) -> Value {
    term["labelSelector"] = json!({"matchLabels": labels});
    term["topologyKey"] = key.into();
    let affinity = json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    with(labels, usual(), json!({"affinity": affinity}))
}

fn apart() -> Value {
    let both = json!({"namespaces": [BEFORE, MEASURED]});
    required("podAntiAffinity", both, json!({"color": "green"}), HOST)
}

fn together() -> Value {
    let both = json!({"namespaces": [BEFORE, MEASURED]});
    required("podAffinity", both, json!({"color": "blue"}), ZONE)
}

fn apart_by_team() -> Value {
    let team = json!({"namespaceSelector": {"matchLabels": {"team": "devops"}}});
    required("podAntiAffinity", team, json!({"color": "green"}), HOST)
}

fn spread(when: &str) -> Value {
    let labels = json!({"color": "blue"});
    let constraint = json!({"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": labels}});
    let spec = json!({"topologySpreadConstraints": [constraint]});
    with(labels, usual(), spec)
}

fn lowly() -> Value {
    let requests = json!({"cpu": "900m", "memory": "500Mi"});
    with(json!({"app": "lowly"}), requests, json!({}))
}

/// Fits only where four others leave.
pub(super) fn preemptor() -> Value {
    let requests = json!({"cpu": "3", "memory": "500Mi"});
    let spec = json!({"priorityClassName": MARK});
    with(json!({"app": "preemptor"}), requests, spec)
}

/// No node has so much.
pub(super) fn impossible() -> Value {
    with(json!({"app": "impossible"}), json!({"cpu": "9"}), json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_there_and_as_large_as_in_kubernetes() {
        let numbers: Vec<u8> = ALL.iter().map(|workload| workload.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 12]);
        let sum: f64 = ALL.iter().filter_map(|workload| workload.threshold).sum();
        assert_eq!(sum, 1_584.0);
        assert_eq!(sizes(&ALL[0], 1.0), (5_000, 1_000, 10_000));
        assert_eq!(sizes(&ALL[0], 0.1), (500, 100, 1_000));
    }

    #[test]
    fn a_small_run_is_still_a_run() {
        assert_eq!(sizes(&ALL[2], 0.001), (10, 1, 100));
        // More than there are at full size are never made.
        let tiny = Workload {
            measured: 40,
            nodes: 3,
            ..BASIC
        };
        assert_eq!(sizes(&tiny, 0.5), (3, 500, 40));
    }

    /// The anti-affine pods need a node each, and the low ones four to a node.
    #[test]
    fn every_case_has_room_for_its_pods() {
        for workload in ALL {
            for scale in [1.0, 0.1] {
                let (nodes, before, measured) = sizes(workload, scale);
                let pod = (workload.new)().to_string();
                let per_node = match pod.contains("podAntiAffinity") {
                    true => 1,
                    false if pod.contains("matchFields") => usize::MAX,
                    false => 40,
                };
                assert!(
                    before + measured <= nodes.saturating_mul(per_node),
                    "{}",
                    workload.name
                );
            }
        }
    }

    #[test]
    fn what_pods_ask_of_others_is_what_they_are() {
        for pod in [
            apart(),
            together(),
            apart_by_team(),
            spread("DoNotSchedule"),
        ] {
            let text = pod.to_string();
            let labels = &pod["metadata"]["labels"];
            assert!(
                text.contains(&json!({"matchLabels": labels}).to_string()),
                "{text}"
            );
        }
        assert_eq!(
            node(WANTED_NODE, 0)["status"]["allocatable"]["pods"],
            "90000"
        );
        assert_eq!(node("n", 4)["metadata"]["labels"][ZONE], "moon-2");
    }
}

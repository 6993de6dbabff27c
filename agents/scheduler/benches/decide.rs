//! Decisions and their assumptions, without API, queue and binding: `make bench-scheduler`. The workloads are those of
//! Kubernetes' own benchmark of its scheduler, by their names there. Each line says how long a decision takes at the median
//! and in the worst hundredth when everything is counted anew for each pod, and when what was counted is kept.

#![expect(clippy::print_stdout, reason = "it is for reading")]

use scheduler::config::Profile;
use scheduler::object::{Node, Pod};
use scheduler::schedule::{Decision, from_scratch, schedule};
use scheduler::selector::{LabelSelector, Labels};
use scheduler::snapshot::Snapshot;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Each case runs at most so long.
const FOR: Duration = Duration::from_secs(4);

/// A pod by its number.
type Make = fn(usize) -> Value;
type Decide = fn(&Pod, &Snapshot, &Profile, usize, &mut dyn FnMut(usize) -> usize) -> Decision;

struct Workload {
    name: &'static str,
    nodes: usize,
    zones: usize,
    placed: (usize, Make),
    measured: (usize, Make),
    /// How many Services select pods: one by `app`, more by `kind`.
    services: usize,
}

/// A pod of 100m and 500Mi with these labels and this affinity or these constraints.
fn pod(name: &str, namespace: &str, labels: Value, extra: Value) -> Value {
    let mut spec = json!({"containers": [{"image": "registry.k8s.io/pause:3.10.1",
        "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]});
    for (key, value) in extra.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "labels": labels}, "spec": spec})
}

fn plain(at: usize) -> Value {
    pod(&format!("p{at}"), "default", json!({}), json!({}))
}

fn web(at: usize) -> Value {
    pod(
        &format!("p{at}"),
        "default",
        json!({"app": "web"}),
        json!({}),
    )
}

/// Alone on its host among the green ones.
fn apart(at: usize) -> Value {
    let term = json!({"topologyKey": HOSTNAME, "namespaces": ["sched-0", "sched-1"],
        "labelSelector": {"matchLabels": {"color": "green"}}});
    let rule =
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let namespace = ["sched-0", "sched-1"][at % 2];
    pod(
        &format!("p{at}"),
        namespace,
        json!({"color": "green"}),
        json!({"affinity": rule}),
    )
}

/// In the zone where the blue ones are.
fn together(at: usize) -> Value {
    let term = json!({"topologyKey": ZONE, "namespaces": ["sched-0", "sched-1"],
        "labelSelector": {"matchLabels": {"color": "blue"}}});
    let rule = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let namespace = ["sched-0", "sched-1"][at % 2];
    pod(
        &format!("p{at}"),
        namespace,
        json!({"color": "blue"}),
        json!({"affinity": rule}),
    )
}

fn evenly(at: usize) -> Value {
    let constraint = json!({"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"color": "blue"}}});
    let extra = json!({"topologySpreadConstraints": [constraint]});
    pod(
        &format!("p{at}"),
        "default",
        json!({"color": "blue"}),
        extra,
    )
}

/// Alone on its host among those of all namespaces of a team.
fn apart_in_team(at: usize) -> Value {
    apart_from_team(at, &format!("team-{}", at % 100))
}

/// The same, all in one namespace.
fn apart_in_one(at: usize) -> Value {
    apart_from_team(at, "team-0")
}

fn apart_from_team(at: usize, namespace: &str) -> Value {
    let term = json!({"topologyKey": HOSTNAME, "namespaceSelector": {"matchLabels": {"team": "devops"}},
        "labelSelector": {"matchLabels": {"color": "green"}}});
    let rule =
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    pod(
        &format!("p{at}"),
        namespace,
        json!({"color": "green"}),
        json!({"affinity": rule}),
    )
}

/// For its own node, as of a DaemonSet.
fn pinned(at: usize) -> Value {
    let field =
        json!({"key": "metadata.name", "operator": "In", "values": [node_name(at % 15_000)]});
    let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    pod(
        &format!("p{at}"),
        "default",
        json!({}),
        json!({"affinity": affinity}),
    )
}

/// Forty kinds of pods, each behind a Service of its own, in turn.
fn many_kinds(at: usize) -> Value {
    let labels = json!({"app": "web", "kind": (at % 40).to_string()});
    pod(
        &format!("p{at}"),
        "default",
        labels,
        json!({"nodeSelector": {"even": (at % 2).to_string()}}),
    )
}

fn impossible(at: usize) -> Value {
    let asks = json!([{"resources": {"requests": {"cpu": "100"}}}]);
    pod(
        &format!("p{at}"),
        "default",
        json!({}),
        json!({"containers": asks}),
    )
}

/// By name, nodes and zones, placed and measured pods, and Services.
fn workload(
    name: &'static str,
    nodes: usize,
    zones: usize,
    placed: (usize, Make),
    measured: (usize, Make),
    services: usize,
) -> Workload {
    Workload {
        name,
        nodes,
        zones,
        placed,
        measured,
        services,
    }
}

fn workloads() -> [Workload; 12] {
    [
        workload(
            "1 SchedulingBasic",
            5_000,
            3,
            (1_000, plain),
            (10_000, plain),
            0,
        ),
        workload(
            "2 SchedulingDaemonset",
            15_000,
            3,
            (0, plain),
            (30_000, pinned),
            0,
        ),
        workload(
            "3 SchedulingPodAntiAffinity",
            5_000,
            3,
            (1_000, apart),
            (2_000, apart),
            0,
        ),
        workload(
            "4 SchedulingPodAffinity",
            5_000,
            1,
            (5_000, together),
            (5_000, together),
            0,
        ),
        workload(
            "5 TopologySpreading",
            5_000,
            3,
            (5_000, plain),
            (5_000, evenly),
            0,
        ),
        workload(
            "7 Unschedulable",
            5_000,
            3,
            (1_000, plain),
            (200, impossible),
            0,
        ),
        workload(
            "9 AntiAffinityWithNSSelector",
            6_000,
            3,
            (4_000, apart_in_team),
            (2_000, apart_in_one),
            0,
        ),
        workload(
            "9 in a hundred namespaces",
            6_000,
            3,
            (4_000, apart_in_team),
            (2_000, apart_in_team),
            0,
        ),
        workload(
            "12 DefaultTopologySpreading",
            5_000,
            3,
            (5_000, web),
            (20_000, web),
            1,
        ),
        workload(
            "12 of forty Services in turn",
            5_000,
            3,
            (5_000, many_kinds),
            (20_000, many_kinds),
            40,
        ),
        workload(
            "1 at 15,000 nodes",
            15_000,
            3,
            (1_000, plain),
            (10_000, plain),
            0,
        ),
        workload(
            "12 at 15,000 nodes",
            15_000,
            3,
            (5_000, web),
            (20_000, web),
            1,
        ),
    ]
}

fn node_name(at: usize) -> String {
    format!("node-{at:05}")
}

impl Workload {
    /// As the nodes of Kubernetes' benchmark: 4 cores, 32 GiB, 110 pods. Placed pods take the nodes in turn.
    fn cluster(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for at in 0..self.nodes {
            let name = node_name(at);
            let zone = format!("zone-{}", at % self.zones);
            let node = json!({
                "metadata": {"name": name, "labels": {HOSTNAME: name, ZONE: zone, "even": (at % 2).to_string()}},
                "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}},
            });
            snapshot.set_node(Arc::new(Node::compile(&node)));
        }
        for at in 0..100 {
            let labels = Labels::from([("team".to_owned(), "devops".to_owned())]);
            snapshot.namespaces.insert(format!("team-{at}"), labels);
        }
        for at in 0..self.placed.0 {
            let mut pod = Pod::compile(&(self.placed.1)(at));
            pod.node_name = node_name(at % self.nodes);
            pod.uid = format!("placed-{at}");
            snapshot.set_pod(Arc::new(pod));
        }
        for at in 0..self.services {
            let selector = match self.services {
                1 => json!({"matchLabels": {"app": "web"}}),
                _ => json!({"matchLabels": {"kind": at.to_string()}}),
            };
            let selector = LabelSelector::parse(Some(&selector)).expect("it is a selector");
            let name = ("default".to_owned(), format!("service-{at}"));
            snapshot.services.insert(name, selector);
        }
        snapshot
    }

    /// The times of decisions that follow each other.
    fn times(&self, mut snapshot: Snapshot, decide: Decide) -> Vec<Duration> {
        let profile = Profile::default();
        let (mut times, begin) = (Vec::new(), Instant::now());
        for at in 0..self.measured.0 {
            let pod = Arc::new(Pod::compile(&(self.measured.1)(at)));
            let before = Instant::now();
            let decision = decide(&pod, &snapshot, &profile, 0, &mut |n| (at * 7_919) % n);
            if let Decision::Bind { node, .. } = &decision {
                snapshot.assume(pod, node);
            }
            times.push(before.elapsed());
            drop(decision);
            if begin.elapsed() > FOR {
                break;
            }
        }
        times.sort_unstable();
        times
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let head = ["anew: median", "99 %", "kept: median", "99 %"];
    println!(
        "{:<32}{:>14}{:>12}{:>14}{:>12}{:>9}",
        "", head[0], head[1], head[2], head[3], "times"
    );
    for workload in workloads() {
        if !wanted.is_empty()
            && !wanted
                .iter()
                .any(|part| workload.name.contains(part.as_str()))
        {
            continue;
        }
        let snapshot = workload.cluster();
        let anew = workload.times(snapshot.clone(), from_scratch);
        let kept = workload.times(snapshot, schedule);
        let of = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
        let faster = of(&anew, 50).as_secs_f64() / of(&kept, 50).as_secs_f64();
        println!(
            "{:<32}{:>14.1?}{:>12.1?}{:>14.1?}{:>12.1?}{:>8.0}x",
            workload.name,
            of(&anew, 50),
            of(&anew, 99),
            of(&kept, 50),
            of(&kept, 99),
            faster
        );
    }
}

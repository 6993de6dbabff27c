//! Whatever happens to nodes, taints and pods, and wherever leaders are cut off, nobody is driven out before his time, who
//! may not stay goes in the end, and then nothing is written.

use super::reconcile;
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NODES: [&str; 2] = ["n0", "n1"];
/// Keys of the taints.
const TAINTS: [&str; 2] = ["k", "l"];

/// Since when nodes have taints, in seconds since the beginning.
type Tainted = BTreeMap<(String, String), u64>;

/// The tolerations of a sort of pods, and for how many seconds these may stay with each of [`TAINTS`]; none: for ever.
fn sort(number: u64) -> (Value, [Option<u64>; 2]) {
    let k = json!({"key": "k", "operator": "Exists", "tolerationSeconds": 60});
    let l = json!({"key": "l", "operator": "Exists", "effect": "NoExecute"});
    match number {
        0 => (json!([]), [Some(0), Some(0)]),
        1 => (json!([{"operator": "Exists"}]), [None, None]),
        2 => (json!([k]), [Some(60), Some(0)]),
        3 => (json!([k, l]), [Some(60), None]),
        _ => (json!([l]), [Some(0), None]),
    }
}

fn cluster() -> Simulation {
    let mut cluster = Simulation::new("");
    NODES.iter().for_each(|name| put_node(&mut cluster, name));
    (0..5).for_each(|number| add(&mut cluster, number, "n0", number));
    cluster
}

fn put_node(cluster: &mut Simulation, name: &str) {
    cluster.put(json!({"kind": "Node", "metadata": {"name": name, "uid": name}}));
}

fn add(cluster: &mut Simulation, number: u64, node: &str, of_sort: u64) {
    let (tolerations, _) = sort(of_sort);
    cluster.put(json!({
        "kind": "Pod",
        "metadata": {
            "name": format!("p{number}"), "namespace": "a", "uid": format!("u{number}"),
            "annotations": {"sort": of_sort.to_string()},
        },
        "spec": {"nodeName": node, "tolerations": tolerations},
        "status": {"phase": "Running"},
    }));
}

fn key(name: &str) -> Key {
    Key::new("a", name)
}

fn is_going(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// For each taint of its node that a pod may not bear for ever: since when it is there, and for how long the pod may stay.
fn limits(tainted: &Tainted, pod: &Value) -> Vec<(u64, u64)> {
    let number = pod["metadata"]["annotations"]["sort"].as_str().unwrap();
    let (_, patience) = sort(number.parse().unwrap());
    let node = pod["spec"]["nodeName"].as_str().unwrap();
    let mut limits = Vec::new();
    for (taint, seconds) in TAINTS.iter().zip(patience) {
        let since = tainted.get(&(node.to_owned(), (*taint).to_owned()));
        if let (Some(since), Some(seconds)) = (since, seconds) {
            limits.push((*since, seconds));
        }
    }
    limits
}

/// Somebody looks at a pod, perhaps one who is cut off after so many writes. It goes only when its time is over, and at
/// once where it has none. Whether there was anything to do, or will be.
fn look(
    cluster: &mut Simulation,
    tainted: &Tainted,
    name: &str,
    cut_off: Option<u64>,
    told: &str,
) -> bool {
    let before = cluster.get("Pod", name).unwrap();
    let busy = match cut_off {
        Some(writes) => {
            cluster.cut_off(&key(name), reconcile, writes);
            true
        }
        None => cluster.step(&key(name), reconcile),
    };
    if is_going(&before) {
        return busy;
    }
    let limits = limits(tainted, &before);
    let now = cluster.seconds;
    let after = cluster.get("Pod", name);
    if after.is_none_or(|pod| is_going(&pod)) {
        let is_over = limits.iter().any(|(since, may)| since + may <= now);
        assert!(is_over, "{told}: {name} goes before its time");
    } else if cut_off.is_none() {
        let stays = limits.iter().all(|(_, may)| *may > 0);
        assert!(stays, "{told}: {name} is not driven out");
    }
    busy
}

/// The node gets the taints that are noted, and one that drives nobody out; its pods are looked at.
fn write_taints(cluster: &mut Simulation, tainted: &Tainted, node: &str, told: &str) {
    let mut taints = vec![json!({"key": "other", "effect": "NoSchedule"})];
    for (name, taint) in tainted.keys() {
        if name == node {
            taints.push(json!({"key": taint, "effect": "NoExecute"}));
        }
    }
    if cluster.get("Node", node).is_some() {
        cluster.patch("Node", node, &json!({"spec": {"taints": taints}}));
    }
    for pod in cluster.all("Pod") {
        if pod["spec"]["nodeName"] == node {
            let name = pod["metadata"]["name"].as_str().unwrap();
            look(cluster, tainted, name, None, told);
        }
    }
}

fn disturb(
    cluster: &mut Simulation,
    tainted: &mut Tainted,
    dice: &mut Dice,
    turn: u64,
    told: &str,
) {
    let node = if dice.roll(2) == 0 { "n0" } else { "n1" };
    let taint = if dice.roll(2) == 0 { "k" } else { "l" };
    let pod = dice.pick(cluster.names("Pod"));
    match (dice.roll(14), pod) {
        (0..=2, _) => add(cluster, 10 + turn, node, dice.roll(5)),
        (3, Some(pod)) => cluster.remove("Pod", &pod),
        // Who goes is gone.
        (4 | 5, Some(pod)) => {
            cluster.run(&pod);
        }
        (6 | 7, _) if cluster.get("Node", node).is_some() => {
            let place = (node.to_owned(), taint.to_owned());
            if tainted.remove(&place).is_none() {
                tainted.insert(place, cluster.seconds);
            }
            write_taints(cluster, tainted, node, told);
        }
        (8, _) => {
            cluster.remove("Node", node);
            tainted.retain(|(name, _), _| name != node);
            write_taints(cluster, tainted, node, told);
        }
        (9, _) if cluster.get("Node", node).is_none() => put_node(cluster, node),
        (10, Some(pod)) => {
            look(cluster, tainted, &pod, Some(dice.roll(3)), told);
        }
        (_, Some(pod)) => {
            look(cluster, tainted, &pod, None, told);
        }
        (_, None) => {}
    }
    cluster.seconds += dice.roll(20);
}

fn settle(cluster: &mut Simulation, tainted: &Tainted, told: &str) {
    rest(cluster, 20, told, |cluster| {
        let mut busy = false;
        for name in cluster.names("Pod") {
            busy |= look(cluster, tainted, &name, None, told);
        }
        if busy {
            cluster.seconds += 20;
        }
        busy
    });
}

#[test]
fn who_may_not_stay_goes_in_time_whatever_happens_and_whoever_leads() {
    for seed in 0..200 {
        let (mut cluster, mut dice) = (cluster(), Dice(seed));
        let mut tainted = Tainted::new();
        for turn in 0..80 {
            let told = format!("seed {seed}, turn {turn}");
            disturb(&mut cluster, &mut tainted, &mut dice, turn, &told);
        }
        let told = format!("seed {seed}");
        settle(&mut cluster, &tainted, &told);
        for pod in cluster.all("Pod") {
            let stays = limits(&tainted, &pod).is_empty();
            assert!(stays || is_going(&pod), "{told}: {pod}");
        }
    }
}

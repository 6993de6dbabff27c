//! Preemption: who has to make room, found by taking all away who may have to and putting back one after the other.

use super::property::{name, picture, profile};
use super::random::{Dice, cluster, pod, selector};
use super::{Cluster, filter, selects, words};
use crate::config::Profile;
use crate::gang::Others;
use crate::object::Pod;
use crate::preempt::{Budget, Preemption, preempt};
use crate::schedule::{Decision, schedule};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What preemption takes for lasting, although it may be over without those who would go.
const LASTING: &str = "node(s) didn't match pod affinity rules";

fn priority(pod: &Value) -> i64 {
    pod["spec"]["priority"].as_i64().unwrap_or(0)
}

/// What has not started yet comes after all that have.
fn started(pod: &Value) -> (bool, &str) {
    let time = words(&pod["status"]["startTime"]);
    (time.is_empty(), time)
}

/// Those that would break a budget if all of them went in this order.
fn broken<'a>(pods: &[&'a Value], budgets: &[Value]) -> Vec<&'a Value> {
    let allowed = |budget: &Value| budget["status"]["disruptionsAllowed"].as_i64().unwrap();
    let mut left: Vec<i64> = budgets.iter().map(allowed).collect();
    let mut broken = Vec::new();
    for pod in pods {
        let mut breaks = false;
        for (left, budget) in left.iter_mut().zip(budgets) {
            let selector = &budget["spec"]["selector"];
            let of_none = selector.as_object().is_none_or(|of| of.is_empty());
            let same = budget["metadata"]["namespace"] == pod["metadata"]["namespace"];
            let gone = budget["status"]["disruptedPods"].get(words(&pod["metadata"]["name"]));
            if same && !of_none && selects(selector, pod) && gone.is_none() {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        if breaks {
            broken.push(*pod);
        }
    }
    broken
}

/// Who has to leave the node, and how many of them break a budget. Nothing where that is of no use.
fn victims<'a>(
    cluster: &'a Cluster,
    budgets: &[Value],
    pod: &Value,
    node: &Value,
    profile: &Profile,
) -> Option<(Vec<&'a Value>, usize)> {
    let refusals = |cluster: &Cluster| -> Vec<String> {
        let filters = profile.filters.iter();
        let mut refusals = filters.map(|f| filter(f.name, cluster, pod, node));
        refusals
            .find(|reasons| !reasons.is_empty())
            .unwrap_or_default()
    };
    if refusals(cluster) == [LASTING] {
        return None;
    }
    let may_go = |other: &&Value| {
        other["spec"]["nodeName"] == node["metadata"]["name"] && priority(other) < priority(pod)
    };
    let (mut lower, others): (Vec<&Value>, Vec<&Value>) = cluster.pods.iter().partition(may_go);
    lower.sort_by_cached_key(|other| {
        let (is_waiting, time) = started(other);
        let (time, name) = (time.to_owned(), name(other).to_owned());
        (Reverse(priority(other)), is_waiting, time, name)
    });
    let mut trial = Cluster {
        pods: others.into_iter().cloned().collect(),
        ..cluster.clone()
    };
    if lower.is_empty() || !refusals(&trial).is_empty() {
        return None;
    }
    let broken = broken(&lower, budgets);
    let breaks = |other: &Value| broken.iter().any(|broken| name(broken) == name(other));
    // Those whose going breaks a budget come back first.
    lower.sort_by_key(|other| !breaks(other));
    let (mut victims, mut violations) = (Vec::new(), 0);
    for other in lower {
        trial.pods.push(other.clone());
        if !refusals(&trial).is_empty() {
            trial.pods.pop();
            violations += usize::from(breaks(other));
            victims.push(other);
        }
    }
    Some((victims, violations)).filter(|(victims, _)| !victims.is_empty())
}

/// How many break a budget, the highest priority, the sum of all, how many there are, and since when the first of the highest
/// runs.
type Cost<'a> = (
    usize,
    Option<i64>,
    i64,
    usize,
    Reverse<Option<(bool, &'a str)>>,
);

/// The node where room costs least, the first of equals, and the names of those who leave it.
fn cheapest(
    cluster: &Cluster,
    budgets: &[Value],
    pod: &Value,
    profile: &Profile,
) -> Option<(String, BTreeSet<String>)> {
    let mut best: Option<(Cost<'_>, &Value, Vec<&Value>)> = None;
    for node in &cluster.nodes {
        let Some((victims, violations)) = victims(cluster, budgets, pod, node, profile) else {
            continue;
        };
        let top = victims.iter().map(|victim| priority(victim)).max();
        let weights = victims.iter().map(|victim| priority(victim) + (1 << 31));
        let tops = victims.iter().copied();
        let tops = tops.filter(|victim| Some(priority(victim)) == top);
        let earliest = tops.map(started).min();
        let sum: i64 = weights.sum();
        let cost = (violations, top, sum, victims.len(), Reverse(earliest));
        if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
            best = Some((cost, node, victims));
        }
    }
    let (_, node, victims) = best?;
    let names = victims.into_iter().map(|victim| name(victim).to_owned());
    Some((name(node).to_owned(), names.collect()))
}

fn budget(dice: &mut Dice) -> Value {
    let mut budget = json!({"metadata": {"namespace": dice.one(&["default", "default", "other"])},
        "spec": {"selector": selector(dice)}, "status": {"disruptionsAllowed": dice.below(3)}});
    if dice.once_in(3) {
        budget["status"]["disruptedPods"] = json!({"p0": "2026-01-01T00:00:00Z"});
    }
    budget
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn those_make_room_of_whom_the_slow_one_says_so(row in prop::collection::vec(any::<u32>(), 0..1200)) {
        let mut dice = Dice::new(row);
        let mut cluster = cluster(&mut dice);
        for pod in &mut cluster.pods {
            let level = [-10, 0, 5, 10][dice.below(4)];
            pod["spec"]["priority"] = json!(level);
            if !dice.once_in(4) {
                let day = dice.one(&["01", "02", "03"]);
                pod["status"]["startTime"] = json!(format!("2026-01-{day}T00:00:00Z"));
            }
        }
        let mut pod = pod(&mut dice, "new");
        pod["spec"]["priority"] = json!(10);
        // Otherwise most nodes would be out of the question whoever left.
        pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        pod["spec"]["nodeSelector"] = json!({});
        pod["spec"]["affinity"]["nodeAffinity"] = json!(null);
        let budgets: Vec<Value> = (0..dice.below(4)).map(|_| budget(&mut dice)).collect();

        let picture = picture(&cluster);
        let snapshot = picture.snapshot();
        let profile = profile();
        let compiled = Pod::compile(&pod);
        let decision = schedule(&compiled, snapshot, &profile, 0, &mut |_| 0);
        let Decision::Unschedulable(diagnosis) = decision else {
            return Ok(());
        };
        let protecting: Vec<Budget> = budgets.iter().map(Budget::compile).collect();
        let others = Others::default();
        let preemption = preempt(&compiled, snapshot, &profile, &diagnosis, &protecting, &others, 0);
        let found: Option<(String, BTreeSet<String>)> = match preemption {
            Preemption::Evict { node, victims } => {
                Some((node, victims.iter().map(|victim| victim.name.clone()).collect()))
            }
            Preemption::Waiting(_) | Preemption::Useless(_) => None,
        };
        prop_assert_eq!(found, cheapest(&cluster, &budgets, &pod, &profile), "{} under {:?}", pod, budgets);
    }
}

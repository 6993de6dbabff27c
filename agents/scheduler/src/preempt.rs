//! Preemption: which pods of lower priority have to leave a node so that the pod fits there, and which node is cheapest.
//! Pure; the loop does the evicting.

mod budget;
mod victims;

pub use budget::Budget;
pub(crate) use victims::{fits, in_order_of_reprieve};

use crate::config::Profile;
use crate::gang::Others;
use crate::object::Pod;
use crate::plugins::{Prepared, Rejection, dynamic_resources};
use crate::schedule::{Diagnosis, count_reasons};
use crate::snapshot::{NodeInfo, Snapshot};
use agent_runtime::timestamp::Micros;
use budget::split_by_budget;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use victims::select_victims;

/// What preemption can do.
#[derive(Debug, Clone, PartialEq)]
pub enum Preemption {
    /// When these pods leave this node, the pod fits there.
    Evict {
        /// Name of the node.
        node: String,
        /// At least one pod.
        victims: Vec<Arc<Pod>>,
    },
    /// Nothing now, because the victims of an earlier round are still leaving; with the words for the event.
    Waiting(String),
    /// Nothing, with the words for the event.
    Useless(String),
}

/// A node where room could be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) node: String,
    pub(crate) victims: Vec<Arc<Pod>>,
    /// How many of them a budget would protect.
    pub(crate) violations: usize,
}

impl Candidate {
    /// With those who are of no use without the victims.
    fn with_rest(mut self, others: &Others, budgets: &[Budget]) -> Candidate {
        let rest = others.rest_of(&self.victims);
        if !rest.is_empty() {
            self.victims.extend(rest);
            let (protected, _) = split_by_budget(self.victims.clone(), budgets);
            self.violations = protected.len();
        }
        self
    }
}

/// Looks for the cheapest node to make room on. `others` says what holds for groups of pods, and `offset` is where the search
/// starts among the nodes.
pub fn preempt(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    diagnosis: &Diagnosis,
    budgets: &[Budget],
    others: &Others,
    offset: usize,
) -> Preemption {
    let trial = &mut snapshot.clone();
    preempt_in(pod, trial, profile, diagnosis, budgets, others, offset)
}

/// The same over a cluster of one's own, which is changed meanwhile and in the end has everybody where he was.
pub(crate) fn preempt_in(
    pod: &Pod,
    trial: &mut Snapshot,
    profile: &Profile,
    diagnosis: &Diagnosis,
    budgets: &[Budget],
    others: &Others,
    offset: usize,
) -> Preemption {
    match candidates(pod, trial, profile, diagnosis, budgets, others, offset) {
        Ok(candidates) => cheapest(candidates),
        Err(preemption) => preemption,
    }
}

/// Makes room where that costs least.
pub(crate) fn cheapest(candidates: Vec<Candidate>) -> Preemption {
    match candidates.into_iter().min_by_key(cost) {
        Some(best) => Preemption::Evict {
            node: best.node,
            victims: best.victims,
        },
        // There were some, and extenders have left none.
        None => Preemption::Waiting("no candidate node for preemption".into()),
    }
}

/// Where room could be made: at least one node, or what is to be said instead. Otherwise as [`preempt_in`].
pub(crate) fn candidates(
    pod: &Pod,
    trial: &mut Snapshot,
    profile: &Profile,
    diagnosis: &Diagnosis,
    budgets: &[Budget],
    others: &Others,
    offset: usize,
) -> Result<Vec<Candidate>, Preemption> {
    if !pod.may_preempt {
        let words = "not eligible due to preemptionPolicy=Never.";
        return Err(Preemption::Useless(words.into()));
    }
    if victims_are_leaving(pod, trial, diagnosis) {
        let words = "not eligible due to a terminating pod on the nominated node.";
        return Err(Preemption::Waiting(words.into()));
    }
    let promising: Vec<&String> = diagnosis
        .rejected
        .iter()
        .filter(|(_, rejection)| rejection.resolvable)
        .map(|(name, _)| name)
        .collect();
    let args = &profile.args.preemption;
    let wanted = (promising.len() * args.percent / 100).max(args.at_least);
    let mut refusals = vec![
        Rejection::lasting("Preemption is not helpful for scheduling");
        diagnosis.nodes - promising.len()
    ];
    // Prepared once, so that what may be done for a decision is not done again for every node.
    let mut filters = profile.filters.iter();
    let devices = filters.find(|filter| filter.name == dynamic_resources::NAME);
    let claims = trial.with_devices_only();
    let devices = devices.map(|filter| (filter.prepare)(pod, &claims, &profile.args));
    let has_devices = |info: &NodeInfo| match &devices {
        Some(Prepared::RejectAll(rejection)) => Err(rejection.clone()),
        Some(Prepared::Only(_, check) | Prepared::Each(check)) => check(info),
        _ => Ok(()),
    };
    let (mut candidates, mut pointless) = (Vec::new(), BTreeSet::new());
    // Room that is kept for others of at least this priority is not there to be made once more.
    let nominated = trial.nominated_above(pod.priority, &pod.uid);
    let nominated = nominated.map(|(node, other)| (node.to_owned(), other.clone()));
    let nominated: Vec<(String, Arc<Pod>)> = nominated.collect();
    for (node, other) in &nominated {
        trial.assume(other.clone(), node);
    }
    let start = if promising.is_empty() {
        0
    } else {
        offset % promising.len()
    };
    for name in promising[start..].iter().chain(&promising[..start]) {
        let found = select_victims(pod, trial, profile, name, budgets, others, &has_devices);
        match found {
            // What keeps the pod away is not that there is no room.
            Ok(candidate) if candidate.victims.is_empty() => {
                pointless.insert(format!("expected at least one victim pod on node {name:?}"));
            }
            Ok(candidate) => candidates.push(candidate.with_rest(others, budgets)),
            Err(rejection) => refusals.push(rejection),
        }
        if candidates.len() >= wanted {
            break;
        }
    }
    for (node, other) in nominated {
        trial.remove_pod(&other.uid);
        trial.nominate(other, &node);
    }
    let pointless: Vec<String> = pointless.into_iter().collect();
    match pointless.as_slice() {
        _ if !candidates.is_empty() => Ok(candidates),
        [] => {
            let words = count_reasons(diagnosis.nodes, refusals.iter());
            Err(Preemption::Useless(words))
        }
        [one] => Err(Preemption::Waiting(one.clone())),
        more => Err(Preemption::Waiting(format!("[{}]", more.join(", ")))),
    }
}

/// Whether pods of lower priority are on their way out of the node that was nominated, unless it can never do.
fn victims_are_leaving(pod: &Pod, snapshot: &Snapshot, diagnosis: &Diagnosis) -> bool {
    let lasting = diagnosis
        .rejected
        .get(&*pod.nominated_node)
        .is_some_and(|rejection| !rejection.resolvable);
    let leaving = |info: &NodeInfo| {
        info.pods
            .values()
            .any(|p| snapshot.is_leaving(p) && p.priority < pod.priority)
    };
    !pod.nominated_node.is_empty()
        && !lasting
        && snapshot.node(&pod.nominated_node).is_some_and(leaving)
}

/// Fewest broken budgets, then the lowest top priority, then the least sum of priorities, then the fewest victims,
/// then the one whose most important victims started last.
fn cost(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<Micros>) {
    let top = candidate
        .victims
        .iter()
        .map(|victim| victim.priority)
        .max()
        .unwrap_or(i32::MIN);
    // Shifted, so that many pods of negative priority cost more than few.
    let sum = candidate
        .victims
        .iter()
        .map(|victim| i64::from(victim.priority) + i64::from(i32::MAX) + 1)
        .sum();
    let tops = candidate
        .victims
        .iter()
        .filter(|victim| victim.priority == top);
    let earliest = tops.map(|victim| victim.running_since()).min();
    (
        candidate.violations,
        top,
        sum,
        candidate.victims.len(),
        Reverse(earliest.unwrap_or(0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{node, snapshot};
    use crate::schedule::{Decision, schedule};
    use serde_json::json;

    fn pod(name: &str, priority: i32, cpu: &str, on: &str) -> Pod {
        Pod::compile(&json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"name": name}},
            "spec": {"priority": priority, "nodeName": on, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
            "status": {"startTime": "2026-01-01T00:00:00Z"},
        }))
    }

    fn plan(pod: &Pod, cluster: &Snapshot, budgets: &[Budget]) -> (String, Preemption) {
        let profile = Profile::default();
        match schedule(pod, cluster, &profile, 0, &mut |_| 0) {
            Decision::Unschedulable(diagnosis) => {
                let others = Others::default();
                let preemption = preempt(pod, cluster, &profile, &diagnosis, budgets, &others, 0);
                let words = match &preemption {
                    Preemption::Useless(words) | Preemption::Waiting(words) => Some(words.as_str()),
                    Preemption::Evict { .. } => None,
                };
                (diagnosis.message(words), preemption)
            }
            bound => panic!("{bound:?}"),
        }
    }

    fn victims(preemption: &Preemption) -> (&str, Vec<&str>) {
        match preemption {
            Preemption::Evict { node, victims } => {
                (node, victims.iter().map(|v| v.name.as_str()).collect())
            }
            useless => panic!("{useless:?}"),
        }
    }

    #[test]
    fn as_few_and_as_unimportant_pods_as_possible_leave() {
        let cluster = snapshot(
            vec![
                node("a", json!({}), json!({})),
                node("b", json!({}), json!({})),
            ],
            vec![
                pod("a1", 5, "2", "a"),
                pod("a2", 1, "2", "a"),
                pod("b1", 5, "4", "b"),
            ],
        );
        let (_, preemption) = plan(&pod("p", 10, "2", ""), &cluster, &[]);
        assert_eq!(victims(&preemption), ("a", vec!["a2"]));
        let (_, preemption) = plan(&pod("p", 10, "3", ""), &cluster, &[]);
        assert_eq!(
            victims(&preemption),
            ("b", vec!["b1"]),
            "one pod of priority 5 rather than that and another"
        );
    }

    #[test]
    fn a_pod_that_has_not_started_yet_leaves_before_one_that_runs() {
        let waiting = |name: &str, on: &str| {
            let mut waiting = pod(name, 1, "2", on);
            waiting.started = 0;
            waiting
        };
        let bare = |name: &str| node(name, json!({}), json!({}));
        for (runs, waits) in [("x", "y"), ("y", "x")] {
            let there = vec![pod(runs, 1, "2", "a"), waiting(waits, "a")];
            let cluster = snapshot(vec![bare("a")], there);
            let (_, preemption) = plan(&pod("p", 10, "2", ""), &cluster, &[]);
            assert_eq!(victims(&preemption), ("a", vec![waits]));
        }
        for (runs, waits) in [("a", "b"), ("b", "a")] {
            let there = vec![
                pod("r1", 1, "2", runs),
                pod("r2", 1, "2", runs),
                waiting("w1", waits),
                waiting("w2", waits),
            ];
            let cluster = snapshot(vec![bare("a"), bare("b")], there);
            let (_, preemption) = plan(&pod("p", 10, "4", ""), &cluster, &[]);
            assert_eq!(victims(&preemption).0, waits);
        }
    }

    #[test]
    fn a_budget_turns_the_choice() {
        let cluster = snapshot(
            vec![
                node("a", json!({}), json!({})),
                node("b", json!({}), json!({})),
            ],
            vec![pod("a1", 1, "4", "a"), pod("b1", 5, "4", "b")],
        );
        let budget = |selector: serde_json::Value| {
            Budget::compile(&json!({
                "metadata": {"namespace": "default"}, "spec": {"selector": selector},
                "status": {"disruptionsAllowed": 0},
            }))
        };
        assert_eq!(
            victims(&plan(&pod("p", 10, "2", ""), &cluster, &[]).1),
            ("a", vec!["a1"])
        );
        assert_eq!(
            victims(
                &plan(
                    &pod("p", 10, "2", ""),
                    &cluster,
                    &[budget(json!({"matchLabels": {"name": "a1"}}))]
                )
                .1
            ),
            ("b", vec!["b1"])
        );
        let of_all = budget(json!({}));
        assert_eq!(
            victims(&plan(&pod("p", 10, "2", ""), &cluster, &[of_all]).1),
            ("a", vec!["a1"]),
            "a budget of all pods is one of none"
        );
    }

    #[test]
    fn the_words_when_it_is_useless() {
        let tainted = json!({"taints": [{"key": "a", "effect": "NoSchedule"}]});
        let cluster = snapshot(
            vec![
                node("a", json!({}), tainted),
                node("b", json!({}), json!({})),
                node("c", json!({}), json!({})),
            ],
            vec![pod("b1", 0, "3", "b"), pod("c1", 0, "3", "c")],
        );
        let (message, _) = plan(&pod("p", 0, "2", ""), &cluster, &[]);
        assert_eq!(
            message,
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, \
             2 No preemption victims found for incoming pod."
        );
        let (message, _) = plan(&pod("p", 10, "5", ""), &cluster, &[]);
        assert_eq!(
            message,
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        );
    }

    #[test]
    fn nobody_has_to_go_where_that_is_of_no_use() {
        let nodes = ["a", "b"].map(|name| node(name, json!({}), json!({})));
        let pods = vec![pod("a1", 0, "1", "a"), pod("b1", 0, "1", "b")];
        let cluster = snapshot(nodes.to_vec(), pods);
        // Somebody who is no plugin refuses both.
        let rejected = ["a", "b"].map(|name| (name.to_owned(), Rejection::resolvable("no")));
        let diagnosis = Diagnosis {
            nodes: 2,
            rejected: rejected.into(),
            ..Diagnosis::default()
        };
        let others = Others::default();
        let profile = Profile::default();
        let asks = pod("p", 10, "1", "");
        assert_eq!(
            preempt(&asks, &cluster, &profile, &diagnosis, &[], &others, 0),
            Preemption::Waiting(
                "[expected at least one victim pod on node \"a\", expected at least one victim pod on node \"b\"]".into()
            )
        );
    }

    #[test]
    fn nobody_has_to_leave_a_node_that_lacks_the_devices() {
        use crate::devices::testing::{card_class, cards, claim, devices, using};
        let mut asking = pod("p", 10, "2", "");
        asking.resource_claims = crate::plugins::testing::pod(using(&["c"])).resource_claims;
        let on = |node_with_card: &str| {
            let mut cluster = snapshot(
                vec![node("a", json!({}), json!({}))],
                vec![pod("a1", 1, "4", "a")],
            );
            let objects = [claim("c"), card_class(), cards(node_with_card, &["x"])];
            cluster.devices = Arc::new(devices(&objects));
            plan(&asking, &cluster, &[]).1
        };
        assert_eq!(victims(&on("a")), ("a", vec!["a1"]));
        let Preemption::Useless(words) = on("elsewhere") else {
            panic!()
        };
        assert!(words.contains("1 cannot allocate all claims"), "{words}");
    }

    #[test]
    fn a_pod_may_decline_to_preempt() {
        let cluster = snapshot(
            vec![node("a", json!({}), json!({}))],
            vec![pod("a1", 0, "4", "a")],
        );
        let mut gentle = pod("p", 10, "2", "");
        gentle.may_preempt = false;
        assert!(
            plan(&gentle, &cluster, &[])
                .0
                .ends_with("preemption: not eligible due to preemptionPolicy=Never.")
        );
    }

    #[test]
    fn room_that_is_made_for_one_is_not_made_for_the_next_once_more() {
        let mut cluster = snapshot(
            vec![
                node("a", json!({}), json!({})),
                node("b", json!({}), json!({})),
            ],
            vec![pod("a1", 0, "4", "a"), pod("b1", 5, "4", "b")],
        );
        let first = pod("p", 10, "3", "");
        let (_, preemption) = plan(&first, &cluster, &[]);
        assert_eq!(victims(&preemption), ("a", vec!["a1"]));
        cluster.nominate(Arc::new(first), "a");
        let (_, preemption) = plan(&pod("q", 10, "3", ""), &cluster, &[]);
        assert_eq!(victims(&preemption), ("b", vec!["b1"]));
    }

    #[test]
    fn while_victims_leave_the_nominated_node_nobody_else_has_to() {
        let mut leaving = pod("a1", 0, "4", "a");
        leaving.deleting = true;
        let cluster = snapshot(
            vec![
                node("a", json!({}), json!({})),
                node("b", json!({}), json!({})),
            ],
            vec![leaving, pod("b1", 0, "4", "b")],
        );
        let mut waiting = pod("p", 10, "2", "");
        waiting.nominated_node = "a".into();
        assert!(matches!(
            plan(&waiting, &cluster, &[]).1,
            Preemption::Waiting(_)
        ));
    }

    #[test]
    fn nobody_else_has_to_either_while_the_eviction_is_only_being_written() {
        let mut cluster = snapshot(
            vec![
                node("a", json!({}), json!({})),
                node("b", json!({}), json!({})),
            ],
            vec![pod("a1", 5, "4", "a"), pod("b1", 0, "4", "b")],
        );
        let mut waiting = pod("p", 10, "2", "");
        waiting.nominated_node = "a".into();
        cluster.begin_eviction("a1");
        let (_, preemption) = plan(&waiting, &cluster, &[]);
        assert!(matches!(preemption, Preemption::Waiting(_)));
        cluster.end_eviction("a1");
        let (_, preemption) = plan(&waiting, &cluster, &[]);
        assert_eq!(victims(&preemption), ("b", vec!["b1"]));
    }
}

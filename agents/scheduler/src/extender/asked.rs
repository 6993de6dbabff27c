//! What extenders have said about a pod, for a decision.

use super::NAME;
use super::wire::{Sifted, sifted, worths};
use crate::config::Extender;
use crate::plugins::{Rejection, SCORE_MAX};
use crate::schedule::Diagnosis;
use crate::snapshot::{NodeInfo, Snapshot};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The best that an extender can give; ours are finer.
const WORTH_MAX: i64 = 10;

/// So many different reasons are told in a message; many nodes could have one each.
const REASONS_MAX: usize = 20;

/// What one extender has made of the nodes that those before it had left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdicts {
    /// Who.
    pub(crate) label: String,
    /// Of these
    pub(crate) asked: Vec<String>,
    /// it leaves these.
    pub(crate) left: BTreeSet<String>,
    /// What it says of others.
    pub(crate) refused: BTreeMap<String, Rejection>,
}

/// What one extender takes nodes to be worth.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Worths {
    /// Who.
    pub(crate) label: String,
    /// How much that counts.
    pub(crate) weight: i64,
    /// By node.
    pub(crate) worths: BTreeMap<String, i64>,
}

impl Worths {
    /// What it adds to the total of a node.
    pub(crate) fn of(&self, node: &str) -> i64 {
        let worth = self.worths.get(node).copied().unwrap_or(0);
        let scaled = worth.saturating_mul(SCORE_MAX / WORTH_MAX);
        scaled.saturating_mul(self.weight)
    }
}

/// See the module head.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    /// So many nodes were looked at to find those that plugins pass.
    pub(crate) evaluated: usize,
    /// What is left of the nodes.
    pub(crate) left: Vec<String>,
    /// In the order in which they were asked.
    pub(crate) filters: Vec<Verdicts>,
    /// In no order that matters.
    pub(crate) scores: Vec<Worths>,
    /// Those that failed, which did not matter.
    pub(crate) passed_over: Vec<String>,
    /// What failed and does matter: then nothing is decided.
    pub(crate) failed: Option<String>,
}

impl Asked {
    /// About these nodes, which all plugins pass.
    pub(crate) fn about(nodes: Vec<String>) -> Asked {
        Asked {
            left: nodes,
            ..Asked::default()
        }
    }

    /// Takes in which nodes will do for an extender.
    pub(super) fn sift(&mut self, extender: &Extender, answer: Result<Value, String>) {
        let by_name = extender.node_cache_capable;
        let read =
            answer.and_then(|answer| sifted(&answer, &self.left, by_name, &extender.url_prefix));
        match read {
            Ok(Sifted { left, refused }) => {
                let asked = std::mem::replace(&mut self.left, left);
                self.filters.push(Verdicts {
                    label: extender.label(),
                    asked,
                    left: self.left.iter().cloned().collect(),
                    refused,
                });
            }
            Err(error) if extender.ignorable => self.pass_over(extender, &error),
            Err(error) => self.failed = Some(error),
        }
    }

    /// Takes in what nodes are worth to an extender. One that fails gives nothing.
    pub(super) fn value(&mut self, extender: &Extender, answer: Result<Value, String>) {
        match answer.and_then(|answer| worths(&answer)) {
            Ok(worths) => self.scores.push(Worths {
                label: extender.label(),
                weight: extender.weight,
                worths,
            }),
            Err(error) => self.pass_over(extender, &error),
        }
    }

    fn pass_over(&mut self, extender: &Extender, error: &str) {
        tracing::info!(
            extender = extender.url_prefix,
            error,
            "an extender is passed over"
        );
        self.passed_over
            .push(format!("{}: {error}", extender.label()));
    }

    /// Those of the nodes that every extender leaves.
    pub(crate) fn retain(&self, nodes: &mut Vec<&NodeInfo>) {
        let left: BTreeSet<&str> = self.left.iter().map(String::as_str).collect();
        nodes.retain(|info| left.contains(info.name()));
    }

    /// Adds what the nodes are worth.
    pub(crate) fn add_to(&self, totals: &mut [i64], nodes: &[&NodeInfo]) {
        for scores in &self.scores {
            for (total, info) in totals.iter_mut().zip(nodes) {
                *total = total.saturating_add(scores.of(info.name()));
            }
        }
    }

    /// Puts what extenders refuse beside what plugins refuse. A node that one leaves out without a word has no reason.
    pub(crate) fn explain(&self, diagnosis: &mut Diagnosis, snapshot: &Snapshot) {
        let mut told = BTreeSet::new();
        for verdicts in &self.filters {
            if verdicts.left.len() != verdicts.asked.len() {
                diagnosis.plugins.insert(NAME);
            }
            for (node, rejection) in &verdicts.refused {
                if snapshot.node(node).is_none() {
                    continue;
                }
                let mut rejection = rejection.clone();
                if told.len() < REASONS_MAX {
                    told.insert(rejection.reasons.clone());
                }
                if !told.contains(&rejection.reasons) {
                    rejection.reasons = vec!["other reasons of extenders".into()];
                }
                diagnosis.rejected.insert(node.clone(), rejection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Profile};
    use crate::gang::{Verdict, place};
    use crate::object::Pod;
    use crate::plugins::testing::{self, node, snapshot};
    use crate::preempt::{Preemption, preempt};
    use crate::schedule::{Decision, schedule_asked};
    use crate::world::World;
    use serde_json::json;
    use std::sync::Arc;

    fn extenders(text: &str) -> Vec<Extender> {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration";
        let config = Config::parse(&format!("{head}\nextenders: [{text}]\n"));
        config.unwrap().extenders
    }

    fn pod() -> Pod {
        testing::pod(
            json!({"priority": 5, "containers": [{"resources": {"requests": {"cpu": "2"}}}]}),
        )
    }

    /// Three nodes, of which the first is full.
    fn cluster() -> Snapshot {
        let nodes = ["a", "b", "c"].map(|name| node(name, json!({}), json!({})));
        let full =
            json!({"nodeName": "a", "containers": [{"resources": {"requests": {"cpu": "3"}}}]});
        snapshot(
            nodes.to_vec(),
            vec![testing::labelled_pod("full", json!({}), full)],
        )
    }

    /// What is decided after these have answered about the nodes that are free.
    fn decide(text: &str, filters: &[Value], scores: &[Value]) -> Result<Decision, String> {
        let mut asked = Asked::about(vec!["b".into(), "c".into()]);
        let extenders = extenders(text);
        for (extender, answer) in extenders.iter().zip(filters) {
            asked.sift(extender, Ok(answer.clone()));
            if let Some(error) = asked.failed {
                return Err(error);
            }
        }
        for (extender, answer) in extenders.iter().zip(scores) {
            asked.value(extender, Ok(answer.clone()));
        }
        let profile = Profile::default();
        let pick = &mut |_| 0;
        Ok(schedule_asked(
            &pod(),
            &cluster(),
            &profile,
            0,
            pick,
            &asked,
        ))
    }

    fn node_of(decision: Result<Decision, String>) -> (String, usize) {
        match decision {
            Ok(Decision::Bind { node, feasible, .. }) => (node, feasible),
            other => panic!("{other:?}"),
        }
    }

    fn refusal_of(decision: Result<Decision, String>) -> Diagnosis {
        match decision {
            Ok(Decision::Unschedulable(diagnosis)) => diagnosis,
            other => panic!("{other:?}"),
        }
    }

    const TWO: &str = "{urlPrefix: 'http://one', filterVerb: f, prioritizeVerb: p, weight: 2, nodeCacheCapable: true}, \
        {urlPrefix: 'http://two', filterVerb: f, prioritizeVerb: p, weight: 1, nodeCacheCapable: true}";

    #[test]
    fn each_sorts_out_of_what_those_before_it_have_left() {
        let both = json!({"NodeNames": ["b", "c"]});
        let c = json!({"NodeNames": ["c"], "FailedNodes": {"b": "no b"}});
        let (node, feasible) = node_of(decide(TWO, &[both.clone(), c.clone()], &[]));
        assert_eq!((&*node, feasible), ("c", 1));
        // The second has to do with what is left.
        let error = decide(TWO, &[c.clone(), both], &[]).unwrap_err();
        assert!(error.contains("claims a filtered node \"b\""), "{error}");
        let none = json!({"NodeNames": [], "FailedNodes": {"c": "no c", "nowhere": "x"}});
        let diagnosis = refusal_of(decide(TWO, &[c, none], &[]));
        assert_eq!(
            diagnosis.message(None),
            "0/3 nodes are available: 1 Insufficient cpu, 1 no b, 1 no c."
        );
        assert_eq!(
            diagnosis.plugins,
            BTreeSet::from([NAME, "NodeResourcesFit"])
        );
    }

    #[test]
    fn of_very_many_reasons_some_are_told() {
        let names: Vec<String> = (0..30).map(|at| format!("n{at:02}")).collect();
        let nodes = names.iter().map(|name| node(name, json!({}), json!({})));
        let cluster = snapshot(nodes.collect(), vec![]);
        let reasons: BTreeMap<&String, String> = names
            .iter()
            .map(|name| (name, format!("not {name}")))
            .collect();
        let mut asked = Asked::about(names.clone());
        let none = json!({"NodeNames": [], "FailedNodes": reasons});
        asked.sift(&extenders(TWO)[0], Ok(none));
        let mut diagnosis = Diagnosis {
            nodes: 30,
            ..Diagnosis::default()
        };
        asked.explain(&mut diagnosis, &cluster);
        let message = diagnosis.message(None);
        assert!(
            message.contains("1 not n19, 10 other reasons of extenders."),
            "{message}"
        );
    }

    #[test]
    fn a_node_without_a_reason_is_refused_all_the_same() {
        let none = json!({"NodeNames": []});
        let diagnosis = refusal_of(decide(TWO, &[none], &[]));
        assert_eq!(
            diagnosis.message(None),
            "0/3 nodes are available: 1 Insufficient cpu."
        );
        assert!(diagnosis.plugins.contains(NAME));
    }

    #[test]
    fn values_count_ten_times_their_weight_beside_those_of_plugins() {
        let first = |scores: &[Value]| node_of(decide(TWO, &[], scores)).0;
        assert_eq!(first(&[]), "b", "both are the same");
        let of = |b: i64, c: i64| json!([{"Host": "b", "Score": b}, {"Host": "c", "Score": c}]);
        assert_eq!(first(&[of(0, 1)]), "c");
        assert_eq!(first(&[of(0, 1), of(2, 0)]), "b", "equal: 20 and 20");
        assert_eq!(first(&[of(0, 1), of(1, 0)]), "c", "20 and 10");
        assert_eq!(
            first(&[of(i64::MAX, 0), of(0, i64::MAX)]),
            "b",
            "no overflow"
        );
        // What cannot be read gives nothing, and nobody fails for it.
        assert_eq!(first(&[json!("x"), of(0, 1)]), "c");
    }

    #[test]
    fn who_may_fail_is_passed_over_and_others_fail_the_attempt() {
        let may_fail = "{urlPrefix: 'http://one', filterVerb: f, ignorable: true}";
        let broken = [json!({"Error": "out of order"})];
        assert_eq!(node_of(decide(may_fail, &broken, &[])).1, 2);
        let must_not = "{urlPrefix: 'http://one', filterVerb: f}";
        assert_eq!(decide(must_not, &broken, &[]).unwrap_err(), "out of order");
    }

    #[test]
    fn preemption_is_tried_only_where_somebody_going_could_help() {
        let low = |name: &str, on: &str| {
            let spec = json!({"nodeName": on, "priority": 0, "containers": [{"resources": {"requests": {"cpu": "3"}}}]});
            testing::labelled_pod(name, json!({}), spec)
        };
        let nodes = ["a", "b"].map(|name| node(name, json!({}), json!({})));
        let cluster = snapshot(nodes.to_vec(), vec![low("on-a", "a")]);
        let profile = Profile::default();
        let words = |answer: Value| {
            let mut asked = Asked::about(vec!["b".into()]);
            asked.sift(&extenders(TWO)[0], Ok(answer));
            let pick = &mut |_| 0;
            let decision = schedule_asked(&pod(), &cluster, &profile, 0, pick, &asked);
            let diagnosis = refusal_of(Ok(decision));
            let others = crate::gang::Others::default();
            match preempt(&pod(), &cluster, &profile, &diagnosis, &[], &others, 0) {
                Preemption::Evict { node, .. } => node,
                useless => panic!("{useless:?}"),
            }
        };
        let never = json!({"NodeNames": [], "FailedAndUnresolvableNodes": {"b": "never"}});
        assert_eq!(words(never), "a");
        // Nobody is on it whose going could help: it is looked at, and found to be of no use.
        let full = json!({"NodeNames": [], "FailedNodes": {"b": "full"}});
        assert_eq!(words(full), "a");
    }

    /// A group of two on two nodes, decided about after an extender has left these nodes for each.
    fn place_group(left: &[(&str, Value)]) -> Verdict {
        let config = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
            - plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}\n";
        let mut world = World::new(Arc::new(Config::parse(config).unwrap()));
        for name in ["a", "b"] {
            let node = Arc::new(node(name, json!({}), json!({})));
            world.set_node(name, Some(node), 0);
        }
        for (name, left) in left {
            let pod = Pod::compile(
                &json!({"metadata": {"name": name, "namespace": "default", "uid": name,
                "labels": {"scheduling.kontiki.io/pod-group": "g"},
                "annotations": {"scheduling.kontiki.io/pod-group-min-count": "2"}}, "spec": {}}),
            );
            world.set_pod(("default".into(), (*name).into()), Some(Arc::new(pod)), 0);
            let mut asked = Asked::about(vec!["a".into(), "b".into()]);
            asked.sift(&extenders(TWO)[0], Ok(left.clone()));
            world.asked.insert((*name).to_owned(), asked);
        }
        let first = world.queue.pop(0).unwrap();
        let key = world.queue.gang_of(&first.pod).unwrap();
        let mut waiting = world.queue.take_gang(&key);
        waiting.push(first);
        place(&mut world, &key, waiting, &mut 0, &mut |_| 0)
    }

    #[test]
    fn each_pod_of_a_group_goes_where_extenders_let_it() {
        let only_b = json!({"NodeNames": ["b"]});
        let none = json!({"NodeNames": [], "FailedNodes": {"a": "no", "b": "no"}});
        match place_group(&[("p", only_b.clone()), ("q", only_b.clone())]) {
            Verdict::Placed { bound, .. } => {
                assert!(bound.len() == 2 && bound.iter().all(|bound| bound.node == "b"));
            }
            other => panic!("{other:?}"),
        }
        match place_group(&[("p", only_b), ("q", none)]) {
            Verdict::Refused {
                message, plugins, ..
            } => {
                assert!(
                    message.ends_with("0/2 nodes are available: 2 no."),
                    "{message}"
                );
                assert!(plugins.contains(NAME));
            }
            other => panic!("{other:?}"),
        }
    }
}

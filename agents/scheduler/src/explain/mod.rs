//! What the scheduler thinks of every node for one pod: the verdict of each filter and the value of each score. Pure,
//! over a picture of the cluster that is put together from API objects; the decision itself is made of the same
//! functions. How the objects come here from a cluster is in `read`.

mod beyond;
mod extenders;
mod picture;
mod read;

pub use beyond::{OfGroup, OfQueue};
pub use picture::{Picture, RESOURCES, objects_from};
pub use read::{AsOf, Unread};

use crate::config::Profile;
use crate::extender::Asked;
use crate::gang::Others;
use crate::object::Pod;
use crate::plugins::dynamic_resources::{DELETES, idle_claims, left_over};
use crate::plugins::{Filter, Prepared, Rejection};
use crate::preempt::{Budget, Preemption, preempt};
use crate::schedule::{Decision, not_named, schedule, schedule_asked, with_nominated};
use crate::snapshot::{NodeInfo, Snapshot};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// See the module head.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Whose profile holds.
    pub scheduler_name: String,
    /// The node where it is, if it is on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What keeps it out of the queue: then nothing of the rest is asked yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gated>,
    /// What decides when its turn is, where that is more than priority and time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<OfQueue>,
    /// The group that it is placed with, where the profile does that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<OfGroup>,
    /// Nodes with the highest total: one of these is chosen.
    pub best: Vec<String>,
    /// Extenders that were asked in vain, with what went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extender_errors: Vec<String>,
    /// What the event says when no node will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where preemption would make room, and whose pods would have to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Room>,
    /// Every node.
    pub nodes: Vec<OfNode>,
}

/// A closed gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gated {
    /// The plugin.
    pub plugin: &'static str,
    /// What it says.
    pub message: String,
}

/// Room that preemption would make.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Room {
    /// On this node
    pub node: String,
    /// these would have to go, by namespace and name.
    pub victims: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfNode {
    /// Its name.
    pub node: String,
    /// Whether every filter passes it.
    pub feasible: bool,
    /// Each filter in its order. The scheduler itself asks only until the first refusal.
    pub filters: Vec<OfFilter>,
    /// Each score; only of feasible nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<OfScore>,
    /// The sum of what they count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

/// What a filter says of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfFilter {
    /// The filter, or `Extender` and its address.
    pub plugin: Cow<'static, str>,
    /// Why not; empty when it passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The node is refused only because room is kept on it for pods that will come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub for_nominated_pods: bool,
}

/// What a score says of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfScore {
    /// The score, or `Extender` and its address.
    pub plugin: Cow<'static, str>,
    /// Before the nodes are compared; absent, as the next, when it has nothing to say about the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<i64>,
    /// From 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalized: Option<i64>,
    /// How much it counts.
    pub weight: i64,
    /// What it adds to the total.
    pub weighted: i64,
}

/// With what extenders have said, if any were asked.
fn explain(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    budgets: &[Budget],
    asked: Option<&Asked>,
) -> Explanation {
    let mut nodes = filter(pod, snapshot, profile);
    if let Some(asked) = asked {
        extenders::filter_asked(asked, &mut nodes);
    }
    score(pod, snapshot, profile, &mut nodes);
    if let Some(asked) = asked {
        extenders::score_asked(asked, &mut nodes);
    }
    let (message, preemption) = outcome(pod, snapshot, profile, budgets, asked);
    let highest = nodes.iter().filter_map(|node| node.total).max();
    let best = nodes
        .iter()
        .filter(|node| node.total.is_some() && node.total == highest);
    let gates = profile.gates.iter().filter_map(|gate| {
        Some(Gated {
            plugin: gate.name,
            message: gate.message(pod, &snapshot.devices)?,
        })
    });
    Explanation {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        scheduler_name: pod.scheduler_name.clone(),
        node: None,
        gates: gates.collect(),
        queue: None,
        group: None,
        best: best.map(|node| node.node.clone()).collect(),
        extender_errors: asked.map(extenders::errors).unwrap_or_default(),
        message,
        preemption,
        nodes,
    }
}

fn filter(pod: &Pod, snapshot: &Snapshot, profile: &Profile) -> Vec<OfNode> {
    let crowded = with_nominated(pod, snapshot);
    let mut nodes: Vec<OfNode> = snapshot
        .nodes()
        .map(|info| OfNode {
            node: info.name().to_owned(),
            feasible: true,
            filters: Vec::new(),
            scores: Vec::new(),
            total: None,
        })
        .collect();
    for filter in &profile.filters {
        let alone = verdicts(filter, pod, snapshot, profile);
        let with_others = crowded.as_ref().map(|(names, crowded)| {
            let mut verdicts = verdicts(filter, pod, crowded, profile);
            verdicts.retain(|node, _| names.contains(node));
            verdicts
        });
        for of_node in &mut nodes {
            let refused = alone.get(&of_node.node);
            let later = with_others.as_ref().and_then(|all| all.get(&of_node.node));
            let reasons = refused.or(later).map(|rejection| {
                let reasons = rejection.reasons.iter();
                reasons.map(ToString::to_string).collect()
            });
            of_node.feasible &= reasons.is_none();
            of_node.filters.push(OfFilter {
                plugin: filter.name.into(),
                reasons: reasons.unwrap_or_default(),
                for_nominated_pods: refused.is_none() && later.is_some(),
            });
        }
    }
    nodes
}

/// The refusals of one filter by node.
fn verdicts(
    filter: &Filter,
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
) -> BTreeMap<String, Rejection> {
    let names = snapshot.nodes().map(|info| info.name().to_owned());
    match (filter.prepare)(pod, snapshot, &profile.args) {
        Prepared::Pass => BTreeMap::new(),
        Prepared::RejectAll(rejection) => names.map(|name| (name, rejection.clone())).collect(),
        Prepared::Only(allowed, check) => refusals(snapshot, |info| {
            if !allowed.contains(info.name()) {
                return Err(not_named(&[filter.name]));
            }
            check(info)
        }),
        Prepared::Each(check) => refusals(snapshot, check),
    }
}

fn refusals(
    snapshot: &Snapshot,
    check: impl Fn(&NodeInfo) -> Result<(), Rejection>,
) -> BTreeMap<String, Rejection> {
    let refused = |info: &NodeInfo| Some((info.name().to_owned(), check(info).err()?));
    snapshot.nodes().filter_map(refused).collect()
}

fn score(pod: &Pod, snapshot: &Snapshot, profile: &Profile, nodes: &mut [OfNode]) {
    let infos: Vec<&NodeInfo> = nodes
        .iter()
        .filter(|node| node.feasible)
        .filter_map(|node| snapshot.node(&node.node))
        .collect();
    for (score, weight) in &profile.scores {
        let values = (score.score)(pod, snapshot, &profile.args, &infos);
        let feasible = nodes.iter_mut().filter(|node| node.feasible);
        for (at, node) in feasible.enumerate() {
            let of = |list: &Vec<i64>| list.get(at).copied();
            let normalized = values.as_ref().and_then(|values| of(&values.normalized));
            let weighted = weight * normalized.unwrap_or(0);
            node.scores.push(OfScore {
                plugin: score.name.into(),
                raw: values.as_ref().and_then(|values| of(&values.raw)),
                normalized,
                weight: *weight,
                weighted,
            });
            node.total = Some(node.total.unwrap_or(0) + weighted);
        }
    }
    // A profile without scores still has feasible nodes.
    for node in nodes.iter_mut().filter(|node| node.feasible) {
        node.total.get_or_insert(0);
    }
}

/// What the event says when no node will do, and what preemption would do about it.
fn outcome(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    budgets: &[Budget],
    asked: Option<&Asked>,
) -> (Option<String>, Option<Room>) {
    if let Some(error) = asked.and_then(|asked| asked.failed.clone()) {
        return (Some(error), None);
    }
    let pick = &mut |_| 0;
    let decision = match asked {
        Some(asked) => schedule_asked(pod, snapshot, profile, 0, pick, asked),
        None => schedule(pod, snapshot, profile, 0, pick),
    };
    let Decision::Unschedulable(diagnosis) = decision else {
        return (None, None);
    };
    let freed = match left_over(pod, snapshot, profile) {
        Some(_) => Some(DELETES),
        None => idle_claims(pod, snapshot, profile, &diagnosis).map(|(_, words)| words),
    };
    if !profile.preempts || diagnosis.nodes == 0 {
        return (Some(diagnosis.message_after(freed, None)), None);
    }
    let others = Others::default();
    match preempt(pod, snapshot, profile, &diagnosis, budgets, &others, 0) {
        Preemption::Waiting(words) | Preemption::Useless(words) => {
            (Some(diagnosis.message_after(freed, Some(&words))), None)
        }
        Preemption::Evict { node, victims } => {
            let names = victims
                .iter()
                .map(|v| format!("{}/{}", v.namespace, v.name));
            let victims = names.collect();
            (Some(diagnosis.message(None)), Some(Room { node, victims }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use agent_runtime::ResourceRef;
    use agent_runtime::resource_ref::{NODES, PODS};
    use serde_json::{Value, json};

    fn node(name: &str, cpu: &str) -> Value {
        json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}})
    }

    fn pod(name: &str, cpu: &str, on: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"nodeName": on, "priority": 1, "containers": [{"resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn picture(objects: &[(ResourceRef, Value)]) -> Picture {
        let mut picture = Picture::new(Config::default());
        for (resource, object) in objects {
            picture.add(resource, object);
        }
        picture
    }

    #[test]
    fn claims_on_devices_are_told_of_and_what_a_pod_waits_for() {
        use crate::devices::testing::{card_class, cards, claim, using};
        use agent_runtime::resource_ref::{DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES};
        let mut asking = pod("p", "1", "");
        asking["spec"]["resourceClaims"] = using(&["c"])["resourceClaims"].clone();
        let mut objects = vec![
            (NODES, node("a", "4")),
            (NODES, node("b", "4")),
            (DEVICE_CLASSES, card_class()),
            (RESOURCE_SLICES, cards("b", &["x"])),
        ];
        let told = picture(&objects).explain(&asking).unwrap();
        let gate = told.gates.first().unwrap();
        assert_eq!(gate.plugin, "DynamicResources");
        assert_eq!(gate.message, "could not find ResourceClaim \"default/c\"");
        objects.push((RESOURCE_CLAIMS, claim("c")));
        let told = picture(&objects).explain(&asking).unwrap();
        assert_eq!((told.gates.len(), told.best), (0, vec!["b".to_string()]));
        let mut filters = told.nodes[0].filters.iter();
        let verdict = filters.find(|f| f.plugin == "DynamicResources").unwrap();
        assert_eq!(verdict.reasons, ["cannot allocate all claims"]);
        objects[3] = (RESOURCE_SLICES, cards("c", &["x"]));
        let told = picture(&objects).explain(&asking).unwrap();
        assert_eq!(
            told.message.unwrap(),
            "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        );
    }

    #[test]
    fn of_a_bound_pod_the_devices_that_it_got_by_the_name_of_a_resource_count_as_free() {
        use crate::devices::extended::tests::{gpu_class, made};
        use crate::devices::testing::{allocated, cards};
        use agent_runtime::resource_ref::{DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES};
        let mut asking = pod("p", "1", "b");
        let gpu = json!({"example.com/gpu": "1"});
        asking["spec"]["containers"][0]["resources"]["requests"] = gpu;
        let mut claim = made("m", "p");
        claim["status"] = allocated("m", "b", "x", &["p"])["status"].clone();
        let objects = [
            (NODES, node("a", "4")),
            (NODES, node("b", "4")),
            (DEVICE_CLASSES, gpu_class()),
            (RESOURCE_SLICES, cards("b", &["x"])),
            (RESOURCE_CLAIMS, claim.clone()),
        ];
        let told = picture(&objects).explain(&asking).unwrap();
        assert_eq!((told.best, told.message), (vec!["b".to_string()], None));
        // To another pod the device is taken.
        asking["metadata"]["uid"] = json!("q");
        let told = picture(&objects).explain(&asking).unwrap();
        let message = told.message.unwrap();
        let words = "0/2 nodes are available: 2 cannot allocate all claims.";
        assert!(message.starts_with(words), "{message}");
    }

    #[test]
    fn every_filter_and_every_score_is_told_for_every_node() {
        let mut cordoned = node("b", "1");
        cordoned["spec"] = json!({"unschedulable": true});
        let objects = [(NODES, node("a", "4")), (NODES, cordoned)];
        let told = picture(&objects).explain(&pod("p", "2", "")).unwrap();
        assert_eq!((told.best, told.message), (vec!["a".to_string()], None));
        let [a, b] = told.nodes.as_slice() else {
            panic!("{:?}", told.nodes)
        };
        assert!(a.feasible && a.filters.iter().all(|filter| filter.reasons.is_empty()));
        let fit = a
            .scores
            .iter()
            .find(|s| s.plugin == "NodeResourcesFit")
            .unwrap();
        assert_eq!(
            (fit.raw, fit.normalized, fit.weighted),
            (Some(73), Some(73), 73)
        );
        let sum: i64 = a.scores.iter().map(|score| score.weighted).sum();
        assert_eq!(a.total, Some(sum));
        // The scheduler would stop at the first of these.
        let refused: Vec<_> = b.filters.iter().filter(|f| !f.reasons.is_empty()).collect();
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(!b.feasible && b.total.is_none() && b.scores.is_empty());
    }

    #[test]
    fn a_pod_that_is_placed_is_explained_as_if_it_were_not() {
        let placed = pod("p", "3", "a");
        let objects = [(NODES, node("a", "4")), (PODS, placed.clone())];
        let told = picture(&objects).explain(&placed).unwrap();
        assert_eq!(
            (told.node.as_deref(), told.best),
            (Some("a"), vec!["a".to_string()])
        );
    }

    #[test]
    fn who_would_have_to_go_is_told() {
        let mut low = pod("low", "3", "a");
        low["spec"]["priority"] = json!(0);
        let objects = [(NODES, node("a", "4")), (PODS, low)];
        let told = picture(&objects).explain(&pod("p", "2", "")).unwrap();
        assert_eq!(
            told.message.unwrap(),
            "0/1 nodes are available: 1 Insufficient cpu."
        );
        let room = told.preemption.unwrap();
        assert_eq!(
            (room.node.as_str(), room.victims),
            ("a", vec!["default/low".to_string()])
        );
    }

    #[test]
    fn room_that_is_kept_for_others_is_told_as_such() {
        let mut nominated = pod("n", "3", "");
        nominated["status"] = json!({"nominatedNodeName": "a"});
        let objects = [(NODES, node("a", "4")), (PODS, nominated)];
        let told = picture(&objects).explain(&pod("p", "2", "")).unwrap();
        let fit = told.nodes[0]
            .filters
            .iter()
            .find(|f| f.plugin == "NodeResourcesFit");
        assert!(fit.unwrap().for_nominated_pods);
    }

    #[test]
    fn pressure_is_told_as_verdict_and_value_and_is_as_old_as_the_picture() {
        let config = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
            - plugins: {multiPoint: {enabled: [{name: PressureAware, weight: 2}]}}\n  pluginConfig:\n  \
            - {name: PressureAware, args: {resources: [{name: cpu}], maxPressure: {cpu: 80}}}\n";
        let told = |now: Option<&str>| {
            let mut picture = Picture::new(Config::parse(config).unwrap());
            if let Some(now) = now {
                picture.set_clock(agent_runtime::timestamp::parse(now).unwrap());
            }
            for (name, cpu) in [("a", 90), ("b", 30)] {
                let figures =
                    json!({"at": "2026-01-01T00:00:00Z", "cpu": cpu, "memory": 0, "io": 0});
                let mut node = node(name, "4");
                node["metadata"]["annotations"] =
                    json!({"node.kontiki.io/pressure": figures.to_string()});
                picture.add(&NODES, &node);
            }
            picture.explain(&pod("p", "1", "")).unwrap().nodes
        };
        let of_past = told(None);
        let refused = of_past[0].filters.last().unwrap();
        assert_eq!(refused.plugin, "PressureAware");
        assert_eq!(refused.reasons, ["node(s) had too much cpu pressure"]);
        let value = of_past[1].scores.last().unwrap();
        assert_eq!((value.raw, value.weighted), (Some(70), 140));
        let now = told(Some("2026-01-01T00:11:00Z"));
        assert!(now[0].feasible, "what was said is too old by now");
        assert_eq!(now[1].scores.last().unwrap().raw, Some(-1));
    }

    #[test]
    fn a_pod_of_another_scheduler_is_not_ours_to_explain() {
        let mut foreign = pod("p", "2", "");
        foreign["spec"]["schedulerName"] = json!("other");
        let error = picture(&[]).explain(&foreign).unwrap_err();
        assert_eq!(
            error,
            "the pod is scheduled by \"other\", which is none of the profiles: default-scheduler"
        );
    }
}

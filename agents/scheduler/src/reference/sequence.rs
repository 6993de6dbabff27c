//! While the cluster changes between decisions, decisions from what was counted before are those from scratch, and those
//! of the reference.

use super::property::{config, name, profile};
use super::random::{Dice, claim, cluster, node, pod};
use super::{Cluster, filter, score};
use crate::config::Profile;
use crate::object::{Node, Pod};
use crate::schedule::{Decision, from_scratch, schedule};
use crate::selector::{LabelSelector, labels};
use crate::snapshot::Snapshot;
use crate::volume::object::{Attachment, Capacity, Claim, Class, CsiNode, Driver, Volume};
use crate::world::World;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The cluster as the API has it and as the scheduler believes it to be.
struct Both {
    api: Cluster,
    world: World,
    /// Pods so far, for names.
    pods: usize,
}

fn full_name(object: &Value) -> (String, String) {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

impl Both {
    fn new(api: Cluster) -> Both {
        let mut world = World::new(Arc::new(config()));
        world.set_clock(api.now, 0);
        for class in &api.classes {
            world.set_class(name(class), Some(Arc::new(Class::compile(class))), 0);
        }
        for csi in &api.csi_nodes {
            world.set_csi_node(name(csi), Some(Arc::new(CsiNode::compile(csi))), 0);
        }
        for driver in &api.drivers {
            world.set_driver(name(driver), Some(Arc::new(Driver::compile(driver))), 0);
        }
        for capacity in &api.capacities {
            let compiled = Arc::new(Capacity::compile(capacity));
            world.set_capacity(full_name(capacity), Some(compiled), 0);
        }
        for attachment in &api.attachments {
            let compiled = Arc::new(Attachment::compile(attachment));
            world.set_attachment(name(attachment), Some(compiled), 0);
        }
        for volume in &api.volumes {
            world.set_volume(name(volume), Some(Arc::new(Volume::compile(volume))), 0);
        }
        let mut both = Both {
            api: Cluster::default(),
            world,
            pods: 0,
        };
        for claim in &api.claims {
            both.set_claim(claim);
        }
        for namespace in &api.namespaces {
            both.set_namespace(namespace);
        }
        for service in &api.services {
            both.set_service(service, true);
        }
        api.nodes.iter().for_each(|node| both.set_node(node));
        api.pods.iter().for_each(|pod| both.set_pod(pod));
        both.api.now = api.now;
        both.api.classes = api.classes;
        both.api.csi_nodes = api.csi_nodes;
        both.api.drivers = api.drivers;
        both.api.capacities = api.capacities;
        both.api.attachments = api.attachments;
        both.api.volumes = api.volumes;
        both
    }

    fn set_claim(&mut self, claim: &Value) {
        put(&mut self.api.claims, claim);
        let compiled = Arc::new(Claim::compile(claim));
        self.world.set_claim(full_name(claim), Some(compiled), 0);
    }

    fn set_namespace(&mut self, namespace: &Value) {
        put(&mut self.api.namespaces, namespace);
        let labels = labels(namespace.pointer("/metadata/labels"));
        self.world.set_namespace(name(namespace), Some(labels), 0);
    }

    fn set_service(&mut self, service: &Value, there: bool) {
        self.api
            .services
            .retain(|other| name(other) != name(service));
        if there {
            self.api.services.push(service.clone());
        }
        let selector = LabelSelector::from_labels(&labels(service.pointer("/spec/selector")));
        self.world
            .set_service(full_name(service), there.then_some(selector));
    }

    fn set_node(&mut self, node: &Value) {
        put(&mut self.api.nodes, node);
        let compiled = Arc::new(Node::compile(node));
        self.world.set_node(name(node), Some(compiled), 0);
    }

    fn set_pod(&mut self, pod: &Value) {
        put(&mut self.api.pods, pod);
        let compiled = Arc::new(Pod::compile(pod));
        self.world.set_pod(full_name(pod), Some(compiled), 0);
    }

    /// One change.
    fn change(&mut self, dice: &mut Dice, templates: &[Value]) {
        match dice.below(13) {
            0 | 1 => {
                let at = dice.below(7);
                let node = node(dice, at, self.api.now);
                self.set_node(&node);
            }
            2 if self.api.nodes.len() > 1 => {
                let gone = self.api.nodes.remove(dice.below(self.api.nodes.len()));
                self.world.set_node(name(&gone), None, 0);
            }
            3 | 4 if !self.api.pods.is_empty() => {
                let gone = self.api.pods.remove(dice.below(self.api.pods.len()));
                self.world.set_pod(full_name(&gone), None, 0);
            }
            5 if !self.api.pods.is_empty() => {
                let mut leaving = self.api.pods[dice.below(self.api.pods.len())].clone();
                leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                self.set_pod(&leaving);
            }
            6 => {
                let team = dice.one(&["red", "blue", "red"]);
                let name = dice.one(&["default", "other"]);
                self.set_namespace(&json!({"metadata": {"name": name, "labels": {"team": team}}}));
            }
            7 => {
                let app = dice.one(&["web", "db"]);
                let service = json!({"metadata": {"name": app, "namespace": "default"}, "spec": {"selector": {"app": app}}});
                let there = dice.once_in(2);
                self.set_service(&service, there);
            }
            8 => {
                let at = dice.below(5);
                let claim = claim(dice, at);
                self.set_claim(&claim);
            }
            9 => {
                self.api.now += [1, 60, 200, 260][dice.below(4)] * 1_000_000;
                self.world.set_clock(self.api.now, 0);
            }
            10 => {
                let placed = pod(dice, "");
                self.place(dice, placed);
            }
            // Most often there comes one more of those that are decided about.
            _ => {
                let like = templates[dice.below(templates.len())].clone();
                self.place(dice, like);
            }
        }
    }

    /// A pod comes onto a node, at once or as one that is assumed there first.
    fn place(&mut self, dice: &mut Dice, mut pod: Value) {
        if self.api.nodes.is_empty() {
            return;
        }
        self.pods += 1;
        let uid = format!("placed-{}", self.pods);
        let node = name(&self.api.nodes[dice.below(self.api.nodes.len())]).to_owned();
        pod["metadata"]["name"] = json!(uid);
        pod["metadata"]["uid"] = json!(uid);
        let assumed = Arc::new(Pod::compile(&pod));
        match dice.below(3) {
            0 => self.world.snapshot.assume(assumed, &node),
            1 => {
                self.world.snapshot.assume(assumed, &node);
                return self.world.snapshot.forget(&uid);
            }
            _ => {}
        }
        pod["spec"]["nodeName"] = json!(node);
        self.set_pod(&pod);
    }

    /// What the reference can say: pods of nodes that are gone count nowhere.
    fn seen(&self) -> Cluster {
        let mut seen = self.api.clone();
        let nodes: BTreeSet<&str> = self.api.nodes.iter().map(name).collect();
        let there = |pod: &Value| {
            pod["spec"]["nodeName"]
                .as_str()
                .is_some_and(|node| nodes.contains(node))
        };
        seen.pods.retain(there);
        seen
    }
}

fn put(objects: &mut Vec<Value>, object: &Value) {
    let same = |other: &&mut Value| full_name(other) == full_name(object);
    match objects.iter_mut().find(same) {
        Some(other) => *other = object.clone(),
        None => objects.push(object.clone()),
    }
}

/// The nodes that may be chosen, and the decision apart from which of them it was.
type Outcome = (
    BTreeSet<String>,
    Result<(usize, usize), Box<crate::schedule::Diagnosis>>,
);
type Decide = fn(&Pod, &Snapshot, &Profile, usize, &mut dyn FnMut(usize) -> usize) -> Decision;

fn outcome(decide: Decide, pod: &Pod, snapshot: &Snapshot, profile: &Profile) -> Outcome {
    let (mut names, mut equals, mut at) = (BTreeSet::new(), 1, 0);
    loop {
        let mut pick = |n| {
            equals = n;
            at
        };
        match decide(pod, snapshot, profile, 0, &mut pick) {
            Decision::Unschedulable(diagnosis) => return (names, Err(Box::new(diagnosis))),
            Decision::Bind {
                node,
                feasible,
                evaluated,
            } => {
                assert!(names.insert(node), "each of the equals is handed out once");
                at += 1;
                if at >= equals {
                    return (names, Ok((feasible, evaluated)));
                }
            }
        }
    }
}

/// The best nodes by the reference. Where room is kept for another pod, the node has to do with it and without it.
fn best(
    cluster: &Cluster,
    pod: &Value,
    profile: &Profile,
    kept_for: Option<(&Value, &str)>,
) -> BTreeSet<String> {
    let crowded = kept_for.map(|(other, node)| {
        let mut other = other.clone();
        other["spec"]["nodeName"] = json!(node);
        let mut crowded = cluster.clone();
        crowded.pods.push(other);
        (crowded, node)
    });
    let passes_in = |cluster: &Cluster, node: &Value| {
        let mut filters = profile.filters.iter();
        filters.all(|f| filter(f.name, cluster, pod, node).is_empty())
    };
    let passes = |node: &&Value| {
        let is_kept =
            |(crowded, on): &(Cluster, &str)| name(node) != *on || passes_in(crowded, node);
        passes_in(cluster, node) && crowded.as_ref().is_none_or(is_kept)
    };
    let feasible: Vec<&Value> = cluster.nodes.iter().filter(passes).collect();
    let mut totals = vec![0; feasible.len()];
    if feasible.len() > 1 {
        for (plugin, weight) in &profile.scores {
            let values = score(plugin.name, cluster, pod, &feasible)
                .unwrap_or_default()
                .1;
            totals
                .iter_mut()
                .zip(values)
                .for_each(|(total, value)| *total += weight * value);
        }
    }
    let highest = totals.iter().max();
    let best = feasible
        .iter()
        .zip(&totals)
        .filter(|(_, total)| Some(*total) == highest);
    best.map(|(node, _)| name(node).to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_kept_between_decisions_changes_none_of_them(row in prop::collection::vec(any::<u32>(), 0..3000)) {
        let mut dice = Dice::new(row);
        let mut both = Both::new(cluster(&mut dice));
        let mut templates: Vec<Value> = (0..3).map(|at| pod(&mut dice, &format!("t{at}"))).collect();
        // The commonest pods of all, one of which a Service selects.
        for app in ["web", "none"] {
            templates.push(json!({"metadata": {"name": "plain", "namespace": "default", "uid": "plain", "labels": {"app": app}},
                "spec": {"containers": [{"image": "web:1", "resources": {"requests": {"cpu": "250m"}}}]}}));
        }
        let profile = profile();
        for _ in 0..30 {
            for _ in 0..=dice.below(3) {
                both.change(&mut dice, &templates);
            }
            let wanted = &templates[dice.below(templates.len())];
            let compiled = Pod::compile(wanted);
            let snapshot = &both.world.snapshot;
            let kept = outcome(schedule, &compiled, snapshot, &profile);
            let anew = outcome(from_scratch, &compiled, snapshot, &profile);
            prop_assert_eq!(&kept, &anew, "{}", wanted);
            let expected = best(&both.seen(), wanted, &profile, None);
            prop_assert_eq!(&kept.0, &expected, "{}", wanted);

            // With room that is kept for another one, which counts unless it matters less.
            if dice.once_in(3) {
                let other = pod(&mut dice, "nominated");
                let node = format!("n{}", dice.below(7));
                both.world.snapshot.nominate(Arc::new(Pod::compile(&other)), &node);
                let mut wanted = wanted.clone();
                let priority = dice.below(3) as i64 - 1;
                wanted["spec"]["priority"] = json!(priority);
                let compiled = Pod::compile(&wanted);
                let snapshot = &both.world.snapshot;
                let kept = outcome(schedule, &compiled, snapshot, &profile);
                let anew = outcome(from_scratch, &compiled, snapshot, &profile);
                prop_assert_eq!(&kept, &anew, "{}", wanted);
                let counts = other["spec"]["priority"].as_i64().unwrap_or(0) >= priority;
                let kept_for = counts.then_some((&other, node.as_str()));
                let expected = best(&both.seen(), &wanted, &profile, kept_for);
                prop_assert_eq!(&kept.0, &expected, "{} beside {} on {}", wanted, other, node);
                both.world.snapshot.withdraw_nomination("nominated");
            }
        }
    }
}

//! Room for a group: which pods have to go so that as many of the group fit as it needs. All of them or none.
//!
//! First every pod of the group gets a node that nobody has to leave for it, if there is one. For each of the others, as long as
//! the group needs more, the cheapest node is taken as for a pod that is alone ([`preempt_in`]), over what was decided for those
//! before. In the end those are spared whose going was of no use in the light of the rest, the most important first.

use super::Key;
use super::others::{Others, spend};
use super::place::{depends_on_others, fares_as};
use crate::config::Profile;
use crate::object::Pod;
use crate::plan::Plan;
use crate::preempt::{Budget, Preemption, fits, in_order_of_reprieve, preempt_in};
use crate::queue::Queued;
use crate::schedule::{Decision, schedule};
use crate::snapshot::Snapshot;
use crate::world::{Rooms, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So often at most it is asked whether a pod of the group still fits when victims stay. The loop decides about nobody else
/// meanwhile; what is left then goes unasked, of the least important first.
const CHECKS_MAX: usize = 10_000;

/// What can be done for a group of which too few fit.
#[derive(Debug)]
pub(crate) enum Relief {
    /// When all victims are gone, these pods fit onto these nodes.
    Evict {
        nodes: Vec<(Arc<Pod>, String)>,
        /// Each with the pod that it leaves for.
        victims: Vec<(Arc<Pod>, Arc<Pod>)>,
    },
    /// Nothing now: the victims of an earlier round are still leaving.
    Waiting,
    /// Nothing, with the words for the event if it was tried.
    Useless(Option<String>),
}

/// Looks for room for so many of these pods. Room was `kept` for some of them since an earlier round. Changes nothing.
pub(super) fn make_room(
    world: &World,
    own: &Key,
    pods: Vec<Arc<Pod>>,
    needed: usize,
    kept: &[(Arc<Pod>, String)],
    pick: &mut dyn FnMut(usize) -> usize,
) -> Relief {
    let preempts = |pod: &Arc<Pod>| world.config.profile(pod).is_some_and(|p| p.preempts);
    if !pods.iter().any(preempts) || world.snapshot.node_count() == 0 {
        return Relief::Useless(None);
    }
    if kept
        .iter()
        .any(|(pod, node)| victims_are_leaving(pod, node, &world.snapshot))
    {
        return Relief::Waiting;
    }
    let mut trial = Trial::new(world, own);
    let mut open = trial.place_without_victims(pods, pick);
    if trial.nodes.len() + open.len() < needed {
        return Relief::Useless(None);
    }
    let mut words = None;
    loop {
        let before = trial.nodes.len();
        let round = trial.place_all(open, needed, pick);
        words = words.or(round.words);
        if trial.nodes.len() >= needed {
            trial.spare(CHECKS_MAX);
            return match trial.victims.is_empty() {
                // Another order than that of the decision would do; the next decision may find it.
                true => Relief::Useless(None),
                false => Relief::Evict {
                    nodes: trial.nodes,
                    victims: trial.victims,
                },
            };
        }
        // One pod may need another one of the group to be near.
        if !round.hope || trial.nodes.len() == before {
            return Relief::Useless(words);
        }
        open = round.refused;
    }
}

/// Whether pods of lower priority are on their way out of the node where room is kept for the pod.
fn victims_are_leaving(pod: &Pod, node: &str, snapshot: &Snapshot) -> bool {
    let leaving = |other: &Arc<Pod>| snapshot.is_leaving(other) && other.priority < pod.priority;
    let node = snapshot.node(node);
    node.is_some_and(|info| info.pods.values().any(leaving))
}

/// What came of a round over the pods that have no node yet.
struct Round {
    refused: Vec<Arc<Pod>>,
    /// What preemption said first.
    words: Option<String>,
    /// Whether any of the refused may fit since others were placed.
    hope: bool,
}

/// The cluster as it would be.
struct Trial<'w> {
    world: &'w World,
    cluster: Snapshot,
    budgets: Vec<Budget>,
    others: Others,
    nodes: Vec<(Arc<Pod>, String)>,
    victims: Vec<(Arc<Pod>, Arc<Pod>)>,
}

impl Trial<'_> {
    fn new<'w>(world: &'w World, own: &Key) -> Trial<'w> {
        let budgets = world.budgets.values().map(|budget| (**budget).clone());
        Trial {
            cluster: world.snapshot.clone(),
            budgets: budgets.collect(),
            others: Others::of(own, world),
            nodes: Vec::new(),
            victims: Vec::new(),
            world,
        }
    }

    fn profile(&self, pod: &Pod) -> Option<&Arc<Profile>> {
        self.world.config.profile(pod)
    }

    fn put(&mut self, pod: Arc<Pod>, node: String) {
        if let Some(profile) = self.world.config.profile(&pod) {
            let plan = Plan::of(&self.cluster, &pod, &node, profile);
            plan.assume(&mut self.cluster, &node);
        }
        self.cluster.assume(pod.clone(), &node);
        self.nodes.push((pod, node));
    }

    /// Those that find no node as it is.
    fn place_without_victims(
        &mut self,
        pods: Vec<Arc<Pod>>,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Vec<Arc<Pod>> {
        let mut rest = Vec::new();
        for pod in pods {
            let Some(profile) = self.profile(&pod).cloned() else {
                continue;
            };
            match schedule(&pod, &self.cluster, &profile, 0, pick) {
                Decision::Bind { node, .. } => self.put(pod, node),
                Decision::Unschedulable(_) => rest.push(pod),
            }
        }
        rest
    }

    /// Gives nodes to these pods until the group has as many as it needs, or cannot get them any more.
    fn place_all(
        &mut self,
        open: Vec<Arc<Pod>>,
        needed: usize,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Round {
        let world = self.world;
        let config = &world.config;
        let mut refused: Vec<Arc<Pod>> = Vec::new();
        let (mut words, mut hope) = (None, false);
        // Refusals before this are of a cluster that has changed since.
        let mut current = 0;
        let mut left = open.len();
        for pod in open {
            // Each costs a search over all nodes, so none is begun in vain.
            if self.nodes.len() >= needed || !hope && self.nodes.len() + left < needed {
                break;
            }
            left -= 1;
            let known = refused[current..].iter();
            let known = known.rev().any(|other| fares_as(other, &pod, config));
            let placed = match known {
                true => Err((pod, None)),
                false => self.place(pod, pick),
            };
            match placed {
                Ok(()) => current = refused.len(),
                Err((pod, why)) => {
                    words = words.or(why);
                    hope |= depends_on_others(&pod, config);
                    refused.push(pod);
                }
            }
        }
        Round {
            refused,
            words,
            hope,
        }
    }

    /// Gives the pod a node, with victims if need be; or gives it back with what preemption says.
    fn place(
        &mut self,
        pod: Arc<Pod>,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Result<(), (Arc<Pod>, Option<String>)> {
        let Some(profile) = self.profile(&pod).cloned() else {
            return Err((pod, None));
        };
        let diagnosis = match schedule(&pod, &self.cluster, &profile, 0, pick) {
            Decision::Bind { node, .. } => {
                self.put(pod, node);
                return Ok(());
            }
            Decision::Unschedulable(diagnosis) if profile.preempts => diagnosis,
            Decision::Unschedulable(_) => return Err((pod, None)),
        };
        // What the pod hoped for before does not keep it from looking elsewhere.
        let mut asking = (*pod).clone();
        asking.nominated_node = Box::default();
        let (budgets, others) = (&self.budgets, &self.others);
        let offset = pick(diagnosis.nodes.max(1));
        let cluster = &mut self.cluster;
        match preempt_in(
            &asking, cluster, &profile, &diagnosis, budgets, others, offset,
        ) {
            Preemption::Evict { node, victims } => {
                for victim in &victims {
                    self.cluster.remove_pod(&victim.uid);
                }
                spend(&mut self.budgets, &victims);
                self.others.take(&victims);
                self.victims
                    .extend(victims.into_iter().map(|victim| (victim, pod.clone())));
                self.put(pod, node);
                Ok(())
            }
            Preemption::Waiting(words) | Preemption::Useless(words) => Err((pod, Some(words))),
        }
    }

    /// Puts those back without whom the group fits all the same; of a group that would be broken all or none.
    fn spare(&mut self, mut checks: usize) {
        let all: Vec<Arc<Pod>> = self
            .victims
            .iter()
            .map(|(victim, _)| victim.clone())
            .collect();
        let mut bound: BTreeMap<Key, Vec<Arc<Pod>>> = BTreeMap::new();
        let mut units: Vec<Vec<Arc<Pod>>> = Vec::new();
        let budgets: Vec<Budget> = self.world.budgets.values().map(|b| (**b).clone()).collect();
        for victim in in_order_of_reprieve(all, &budgets) {
            match self.others.bound_to(&victim) {
                Some(key) => bound.entry(key).or_default().push(victim),
                None => units.push(vec![victim]),
            }
        }
        let config = &self.world.config;
        let depend = self.nodes.iter();
        let depend: Vec<bool> = depend
            .map(|(pod, _)| depends_on_others(pod, config))
            .collect();
        let mut stay: BTreeSet<String> = BTreeSet::new();
        // Groups first: they are what is hardest to have again.
        for unit in bound.into_values().chain(units) {
            for pod in &unit {
                if let Some(node) = self.world.snapshot.node_of(&pod.uid) {
                    self.cluster.assume(pod.clone(), node);
                }
            }
            let back = unit
                .iter()
                .all(|pod| self.all_fit_beside(pod, &depend, &mut checks));
            for pod in unit {
                match back {
                    true => {
                        stay.insert(pod.uid.clone());
                    }
                    false => drop(self.cluster.remove_pod(&pod.uid)),
                }
            }
            if checks == 0 {
                break;
            }
        }
        self.victims
            .retain(|(victim, _)| !stay.contains(&victim.uid));
    }

    /// Whether every pod of the group can still be where it was put, as far as that may be asked. `depend` says which of them
    /// go by what is elsewhere.
    fn all_fit_beside(&mut self, back: &Pod, depend: &[bool], checks: &mut usize) -> bool {
        let reaches = !back.anti_affinity.is_empty();
        let there = self.world.snapshot.node_of(&back.uid).unwrap_or_default();
        for (at, depends) in depend.iter().enumerate() {
            if !reaches && !depends && self.nodes[at].1 != there {
                continue;
            }
            let Some(left) = checks.checked_sub(1) else {
                return false;
            };
            *checks = left;
            let (pod, node) = self.nodes[at].clone();
            if !self.still_fits(&pod, &node) {
                return false;
            }
        }
        true
    }

    fn still_fits(&mut self, pod: &Arc<Pod>, node: &str) -> bool {
        let Some(profile) = self.profile(pod).cloned() else {
            return false;
        };
        self.cluster.remove_pod(&pod.uid);
        let fits = fits(pod, &self.cluster, &profile, node).is_ok();
        self.cluster.assume(pod.clone(), node);
        fits
    }
}

/// Gives up the room that is kept for pods of the group, and tells where it was: it is decided about all of them anew, and
/// none is to keep out another.
pub(super) fn give_up_room(waiting: &[Queued], world: &mut World) -> Rooms {
    let kept = world.rooms_of(waiting);
    for (pod, _) in &kept {
        world.snapshot.withdraw_nomination(&pod.uid);
    }
    kept
}

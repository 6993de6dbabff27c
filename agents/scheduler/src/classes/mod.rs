//! Decisions from what was counted for earlier ones.
//!
//! Pods come in classes: the replicas of a Deployment ask for the same and are told apart by their names. And from one
//! decision to the next little changes: the last pod came onto one node. So the parts of a decision are kept, each for
//! all pods that are the same in what that part reads, and before they are used again they are made good for the nodes
//! that have changed since, which the snapshot's [`Journal`] tells:
//!
//! * [`local`]: verdicts and values that a pod and one node give, from the plugins themselves,
//! * [`spread`]: pods by node and place for topology spread constraints,
//! * [`affinity`]: pods by place for affinity between pods, in both directions.
//!
//! Every part is a sum of what single nodes contribute, and a node that has changed contributes anew instead of by a
//! difference, so nothing drifts. A decision is then one pass over columns of numbers. It is the same as
//! [`from_scratch`](crate::schedule::from_scratch) makes, up to the order in which equals are handed to `pick`; the tests
//! in `reference::sequence` compare both after every change. What cannot be had so is left to it: why no node will do, a search that stops when
//! it has found enough, and room that is kept for others where more than the node itself matters.

mod affinity;
mod best;
mod journal;
mod local;
mod places;
mod recent;
mod spread;
mod verdicts;

pub(crate) use journal::Journal;

use crate::config::Profile;
use crate::object::{Pod, SpreadConstraint};
use crate::plugins::inter_pod_affinity::stretch;
use crate::plugins::node_affinity::pinned_names;
use crate::plugins::pod_topology_spread::{all_labels_required, constraints};
use crate::plugins::{Reads, Values, or_mean, scale};
use crate::schedule::{Decision, Filters, total_scores};
use crate::snapshot::{NodeInfo, Snapshot};
use affinity::{Own, Placed};
use best::nth_best;
use local::{Compared, How, Local};
use recent::Recent;
use spread::Spread;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a snapshot keeps for its decisions. A clone begins with nothing.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Parts>);

impl Clone for Kept {
    fn clone(&self) -> Kept {
        Kept::default()
    }
}

impl Kept {
    /// Forgets everything: what is asked for next is counted anew, in some milliseconds for thousands of nodes.
    pub(crate) fn clear(&self) {
        *self.parts() = Parts::default();
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.parts().local.len() == 0
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // A panic in between leaves parts that are half made good.
        self.0.lock().unwrap_or_else(|poisoned| {
            let mut parts = PoisonError::into_inner(poisoned);
            *parts = Parts::default();
            parts
        })
    }
}

#[derive(Debug, Default)]
struct Parts {
    local: Recent<Local>,
    spread: Recent<Spread>,
    own: Recent<Own>,
    placed: Recent<Placed>,
    /// Room for the totals of one decision after the other: of thousands of nodes it is too large to be had cheaply.
    totals: Vec<i64>,
}

/// Decides where the pod goes; `None` when that has to be done from scratch.
pub(crate) fn decide(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Option<Decision> {
    if let Some(names) = few_names(pod, profile) {
        return among(&names, pod, snapshot, profile, pick);
    }
    if profile.enough(snapshot.node_count()) < snapshot.node_count() {
        return None;
    }
    let mut parts = snapshot.kept.parts();
    let candidates = parts.filter(pod, snapshot, profile)?;
    let chosen = match candidates.as_slice() {
        [] => return None,
        [only] => nth_best(&[*only], &[0], pick)?,
        many => parts.best(many, pod, snapshot, profile, pick)?,
    };
    Some(Decision::Bind {
        node: snapshot.slot(chosen).name().to_owned(),
        feasible: candidates.len(),
        evaluated: snapshot.node_count(),
    })
}

/// The nodes that every filter passes; `None` when that has to be found from scratch.
pub(crate) fn candidates<'s>(
    pod: &Pod,
    snapshot: &'s Snapshot,
    profile: &Profile,
) -> Option<Vec<&'s NodeInfo>> {
    let all = profile.enough(snapshot.node_count()) >= snapshot.node_count();
    if !all || few_names(pod, profile).is_some() {
        return None;
    }
    let slots = snapshot.kept.parts().filter(pod, snapshot, profile)?;
    Some(slots.iter().map(|slot| snapshot.slot(*slot)).collect())
}

/// The names of the only nodes that come into question, if the pod says them and they are few: as pods of a DaemonSet.
fn few_names(pod: &Pod, profile: &Profile) -> Option<BTreeSet<String>> {
    const FEW: usize = 16;
    let names = pinned_names(pod)?;
    let asked = profile
        .filters
        .iter()
        .any(|filter| filter.name == "NodeAffinity");
    (asked && (1..=FEW).contains(&names.len())).then_some(names)
}

/// Decides among these nodes only.
fn among(
    names: &BTreeSet<String>,
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Option<Decision> {
    let mut nominated = snapshot.nominated_above(pod.priority, &pod.uid);
    if nominated.any(|(node, _)| names.contains(node)) {
        return None;
    }
    let filters = Filters::prepare(pod, snapshot, profile);
    let infos = names.iter().filter_map(|name| snapshot.node(name));
    let nodes: Vec<&NodeInfo> = infos.filter(|info| filters.passes(info)).collect();
    if nodes.is_empty() {
        return None;
    }
    let totals = total_scores(pod, snapshot, profile, &nodes);
    let best = totals.iter().max();
    let equals = nodes
        .iter()
        .zip(&totals)
        .filter(|(_, total)| Some(*total) == best);
    let equals: Vec<&NodeInfo> = equals.map(|(info, _)| *info).collect();
    let chosen = equals[pick(equals.len()).min(equals.len() - 1)];
    Some(Decision::Bind {
        node: chosen.name().to_owned(),
        feasible: nodes.len(),
        evaluated: snapshot.node_count(),
    })
}

impl Parts {
    fn local(&mut self, pod: &Pod, snapshot: &Snapshot, profile: &Profile) -> &mut Local {
        let behind = snapshot.devices.resources_behind(pod);
        let wanted = |local: &Local| local.is_of(pod, profile, &behind);
        let numbers = 4 * snapshot.slots();
        let make = || Local::new(pod, profile, &behind);
        let local = self.local.get(numbers, wanted, make);
        local.refresh(snapshot);
        local
    }

    fn spread(
        &mut self,
        pod: &Pod,
        snapshot: &Snapshot,
        constraints: &[SpreadConstraint],
        all_labels: bool,
    ) -> &Spread {
        let wanted = |spread: &Spread| spread.is_of(pod, constraints, all_labels);
        let numbers = 2 * constraints.len() * snapshot.slots();
        let make = || Spread::new(pod, constraints, all_labels);
        let spread = self.spread.get(numbers, wanted, make);
        spread.refresh(snapshot);
        spread
    }

    fn own(&mut self, pod: &Pod, snapshot: &Snapshot) -> &Own {
        let terms = pod.affinity.len() + pod.anti_affinity.len() + pod.preferred_affinity.len();
        let own = self.own.get(
            2 * terms * snapshot.slots(),
            |own| own.is_of(pod),
            || Own::new(pod),
        );
        own.refresh(snapshot);
        own
    }

    fn placed(&mut self, pod: &Pod, snapshot: &Snapshot, profile: &Profile) -> &Placed {
        let wanted = |placed: &Placed| placed.is_of(pod, &profile.args);
        let make = || Placed::new(pod, &profile.args);
        let placed = self.placed.get(4 * snapshot.slots(), wanted, make);
        placed.refresh(pod, snapshot);
        placed
    }

    /// The slots of the nodes that every filter passes; `None` when that has to be found from scratch.
    fn filter(&mut self, pod: &Pod, snapshot: &Snapshot, profile: &Profile) -> Option<Vec<u32>> {
        let asks = |reads: Reads| profile.filters.iter().any(|filter| filter.reads == reads);
        let hard = match asks(Reads::Spread) {
            true => constraints(pod, snapshot, &profile.args, true),
            false => Vec::new(),
        };
        let own =
            asks(Reads::Affinity) && (!pod.affinity.is_empty() || !pod.anti_affinity.is_empty());
        let nominated = nominated(pod, snapshot);
        // Those for whom room is kept would count in more places than their own.
        let claims = pod.has_claims() || snapshot.devices.are_behind(pod);
        let only_there = hard.is_empty() && !own && !claims;
        let reach =
            |other: &Arc<Pod>| !other.anti_affinity.is_empty() || snapshot.holds(&other.uid);
        if !nominated.is_empty() && !only_there
            || nominated.values().flatten().any(|other| reach(other))
        {
            return None;
        }

        let local = self.local(pod, snapshot, profile);
        let mut candidates: Vec<u32> = Vec::with_capacity(local.passes.len());
        let passing = (0_u32..).zip(&local.passes).filter(|(_, passes)| **passes);
        candidates.extend(passing.map(|(slot, _)| slot));
        for (node, others) in &nominated {
            let slot = snapshot.slot_of(node);
            candidates.retain(|candidate| {
                Some(*candidate) != slot
                    || local.would_pass(
                        snapshot,
                        &snapshot.slot(*candidate).with(others.iter().copied()),
                    )
            });
        }
        if claims {
            let filters =
                Filters::prepare_some(pod, snapshot, profile, |reads| reads == Reads::Claims);
            candidates.retain(|slot| filters.passes(snapshot.slot(*slot)));
        }
        if !hard.is_empty() {
            self.spread(pod, snapshot, &hard, true)
                .filter(pod, &mut candidates);
        }
        if own {
            let namespace = snapshot.namespace_labels(&pod.namespace);
            self.own(pod, snapshot)
                .filter(pod, namespace, &mut candidates);
        }
        if asks(Reads::Affinity) && snapshot.any_affinity() {
            self.placed(pod, snapshot, profile).filter(&mut candidates);
        }
        Some(candidates)
    }

    /// One of the slots whose total is the highest.
    fn best(
        &mut self,
        candidates: &[u32],
        pod: &Pod,
        snapshot: &Snapshot,
        profile: &Profile,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Option<u32> {
        let mut totals = std::mem::take(&mut self.totals);
        totals.clear();
        let local = self.local(pod, snapshot, profile);
        totals.extend(candidates.iter().map(|slot| local.plain[*slot as usize]));
        for compared in &local.compared {
            compared.score(candidates, &mut totals);
        }
        if let Some(images) = &local.images {
            for (total, slot) in totals.iter_mut().zip(candidates) {
                *total += images.values[*slot as usize];
            }
        }
        for (score, weight) in &profile.scores {
            match score.values {
                Values::Plain | Values::Compared { .. } | Values::Known | Values::Images => {}
                Values::Spread => {
                    let soft = constraints(pod, snapshot, &profile.args, false);
                    if !soft.is_empty() {
                        let all_labels = all_labels_required(pod, &profile.args);
                        let spread = self.spread(pod, snapshot, &soft, all_labels);
                        spread.score(candidates, *weight, &mut totals);
                    }
                }
                Values::Affinity => {
                    self.score_affinity(candidates, pod, snapshot, profile, *weight, &mut totals)
                }
                Values::Anything => {
                    let infos = candidates.iter().map(|slot| snapshot.slot(*slot));
                    let infos: Vec<&NodeInfo> = infos.collect();
                    let scores = (score.score)(pod, snapshot, &profile.args, &infos);
                    let values = scores.into_iter().flat_map(|scores| scores.normalized);
                    for (total, value) in totals.iter_mut().zip(values) {
                        *total += weight * value;
                    }
                }
            }
        }
        let chosen = nth_best(candidates, &totals, pick);
        self.totals = totals;
        chosen
    }

    fn score_affinity(
        &mut self,
        candidates: &[u32],
        pod: &Pod,
        snapshot: &Snapshot,
        profile: &Profile,
        weight: i64,
        totals: &mut [i64],
    ) {
        let own = !pod.preferred_affinity.is_empty();
        let asked = own || !profile.args.affinity.ignore_preferences_of_placed;
        let placed = asked && snapshot.any_affinity();
        if !own && !placed {
            return;
        }
        let mut raw = vec![0; candidates.len()];
        if own {
            self.own(pod, snapshot).score(candidates, &mut raw);
        }
        if placed {
            self.placed(pod, snapshot, profile)
                .score(candidates, &mut raw);
        }
        let smallest = raw.iter().copied().min().unwrap_or(0);
        let largest = raw.iter().copied().max().unwrap_or(0);
        if smallest < largest {
            let mut value = remembering(|raw| weight * stretch(raw, smallest, largest));
            for (total, raw) in totals.iter_mut().zip(raw) {
                *total += value(raw);
            }
        }
    }
}

impl Compared {
    fn score(&self, candidates: &[u32], totals: &mut [i64]) {
        if self.is_zero() {
            return;
        }
        let raw = || candidates.iter().map(|slot| self.raw[*slot as usize]);
        let reverse = match self.how {
            How::ByLargest { reverse } => reverse,
            How::OrMean => {
                let values = or_mean(raw().collect());
                for (total, value) in totals.iter_mut().zip(values) {
                    *total += self.weight * value;
                }
                return;
            }
        };
        let largest = raw().max().unwrap_or(0).max(0);
        let mut value = remembering(|raw| self.weight * scale(raw, largest, reverse));
        for (total, raw) in totals.iter_mut().zip(raw()) {
            *total += value(raw);
        }
    }
}

/// The function, which is not asked again for what it was asked last: many nodes in a row have the same numbers.
fn remembering(function: impl Fn(i64) -> i64) -> impl FnMut(i64) -> i64 {
    let mut last = (0, function(0));
    move |argument| {
        if argument != last.0 {
            last = (argument, function(argument));
        }
        last.1
    }
}

/// Pods for which room is kept that this pod may not take, by node.
fn nominated<'s>(pod: &Pod, snapshot: &'s Snapshot) -> BTreeMap<&'s str, Vec<&'s Arc<Pod>>> {
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for (node, other) in snapshot.nominated_above(pod.priority, &pod.uid) {
        by_node.entry(node).or_default().push(other);
    }
    by_node
}

//! For affinity between pods: how many pods in each place a term means, in both directions. What the newcomer says of
//! those that are there is kept in [`Own`], what those that are there say of the newcomer in [`Placed`].

use super::journal::Reader;
use super::places::Sums;
use crate::object::{AffinityTerm, Pod};
use crate::plugins::Args;
use crate::selector::Labels;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// With more topology keys than that, those by which no placed pod says anything any more are dropped.
const KEYS_FEW: usize = 4;

/// Of all pods with the same terms.
#[derive(Debug)]
pub(super) struct Own {
    affinity: Vec<AffinityTerm>,
    anti_affinity: Vec<AffinityTerm>,
    preferred: Vec<(i64, AffinityTerm)>,
    /// How often labels of namespaces had changed.
    namespaces: u64,
    reader: Reader,
    /// Each by topology key: pods that all required terms mean; pods that a forbidding term means, once a term; the
    /// weights of the preferences that pods fulfil.
    near: BTreeMap<String, Sums>,
    away: BTreeMap<String, Sums>,
    preferences: BTreeMap<String, Sums>,
}

impl Own {
    pub(super) fn new(pod: &Pod) -> Own {
        Own {
            affinity: pod.affinity.clone(),
            anti_affinity: pod.anti_affinity.clone(),
            preferred: pod.preferred_affinity.clone(),
            namespaces: 0,
            reader: Reader::default(),
            near: BTreeMap::new(),
            away: BTreeMap::new(),
            preferences: BTreeMap::new(),
        }
    }

    pub(super) fn is_of(&self, pod: &Pod) -> bool {
        self.affinity == pod.affinity
            && self.anti_affinity == pod.anti_affinity
            && self.preferred == pod.preferred_affinity
    }

    /// Counts again on the nodes that have changed.
    pub(super) fn refresh(&mut self, snapshot: &Snapshot) {
        let slots = snapshot.slots();
        let all = self
            .near
            .values()
            .chain(self.away.values())
            .chain(self.preferences.values());
        if all.into_iter().any(|sums| sums.is_stale(slots)) {
            for sums in [&mut self.near, &mut self.away, &mut self.preferences] {
                sums.clear();
            }
            self.reader.forget();
        }
        if self.namespaces != snapshot.namespaces.changes() {
            self.namespaces = snapshot.namespaces.changes();
            self.reader.forget();
        }
        for slot in self.reader.changed(snapshot.journal(), slots) {
            self.count(snapshot, slot);
        }
    }

    fn count(&mut self, snapshot: &Snapshot, slot: u32) {
        let info = snapshot.slot(slot);
        let mut near = 0;
        let mut away = vec![0; self.anti_affinity.len()];
        let mut preferred = vec![0; self.preferred.len()];
        let pods = info.node.iter().flat_map(|_| info.pods.values());
        for other in pods {
            let namespace = snapshot.namespace_labels(&other.namespace);
            let means = |term: &AffinityTerm| term.matches(other, namespace);
            if !self.affinity.is_empty() && self.affinity.iter().all(means) {
                near += 1;
            }
            for (sum, term) in away.iter_mut().zip(&self.anti_affinity) {
                *sum += i64::from(means(term));
            }
            for (sum, (weight, term)) in preferred.iter_mut().zip(&self.preferred) {
                *sum += weight * i64::from(means(term));
            }
        }
        let required = self.affinity.iter().map(|term| (term, near));
        set_all(&mut self.near, required, slot, info);
        set_all(
            &mut self.away,
            self.anti_affinity.iter().zip(away),
            slot,
            info,
        );
        let terms = self.preferred.iter().map(|(_, term)| term);
        set_all(&mut self.preferences, terms.zip(preferred), slot, info);
    }

    /// Keeps the slots where the required terms hold.
    pub(super) fn filter(&self, pod: &Pod, namespace: Option<&Labels>, candidates: &mut Vec<u32>) {
        // With nobody there, the first of a group that it belongs to itself may go anywhere.
        let first = self.near.values().all(Sums::is_zero)
            && self
                .affinity
                .iter()
                .all(|term| term.matches(pod, namespace));
        for sums in self.near.values() {
            candidates.retain(|slot| sums.is_somewhere(*slot) && (first || sums.at(*slot) > 0));
        }
        for sums in self.away.values().filter(|sums| !sums.is_zero()) {
            candidates.retain(|slot| sums.at(*slot) == 0);
        }
    }

    /// Adds the weights of fulfilled preferences to the raw values of the slots.
    pub(super) fn score(&self, candidates: &[u32], raw: &mut [i64]) {
        add_all(&self.preferences, candidates, raw);
    }
}

/// Of all pods with the same labels in the same namespace.
#[derive(Debug)]
pub(super) struct Placed {
    namespace: String,
    labels: Labels,
    hard_weight: i64,
    namespaces: u64,
    reader: Reader,
    /// Each by topology key: pods that do not want pods like these near; weights of those that do, or rather not.
    against: BTreeMap<String, Sums>,
    preferences: BTreeMap<String, Sums>,
}

impl Placed {
    pub(super) fn new(pod: &Pod, args: &Args) -> Placed {
        Placed {
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            hard_weight: args.affinity.hard_weight,
            namespaces: 0,
            reader: Reader::default(),
            against: BTreeMap::new(),
            preferences: BTreeMap::new(),
        }
    }

    pub(super) fn is_of(&self, pod: &Pod, args: &Args) -> bool {
        self.hard_weight == args.affinity.hard_weight
            && self.namespace == pod.namespace
            && self.labels == pod.labels
    }

    /// Counts again on the nodes that have changed.
    pub(super) fn refresh(&mut self, pod: &Pod, snapshot: &Snapshot) {
        let slots = snapshot.slots();
        let all = self.against.values().chain(self.preferences.values());
        if all.into_iter().any(|sums| sums.is_stale(slots)) {
            self.against.clear();
            self.preferences.clear();
            self.reader.forget();
        }
        if self.namespaces != snapshot.namespaces.changes() {
            self.namespaces = snapshot.namespaces.changes();
            self.reader.forget();
        }
        for slot in self.reader.changed(snapshot.journal(), slots) {
            self.count(pod, snapshot, slot);
        }
        for sums in [&mut self.against, &mut self.preferences] {
            if sums.len() > KEYS_FEW {
                sums.retain(|_, sums| !sums.is_unused());
            }
        }
    }

    fn count(&mut self, pod: &Pod, snapshot: &Snapshot, slot: u32) {
        let info = snapshot.slot(slot);
        let namespace = snapshot.namespace_labels(&pod.namespace);
        let (mut against, mut preferences) = (BTreeMap::new(), BTreeMap::new());
        let others: &[Arc<Pod>] = match info.node.is_some() {
            true => info.pods_with_affinity(),
            false => &[],
        };
        for other in others {
            let hard = other.affinity.iter().map(|term| (self.hard_weight, term));
            let hard = hard.filter(|(weight, _)| *weight > 0);
            let preferred = other
                .preferred_affinity
                .iter()
                .map(|(weight, term)| (*weight, term));
            let forbidding = other.anti_affinity.iter().map(|term| (1, term));
            for (weight, term) in hard
                .chain(preferred)
                .filter(|(_, term)| term.matches(pod, namespace))
            {
                *preferences.entry(term.topology_key.as_str()).or_default() += weight;
            }
            for (weight, term) in forbidding.filter(|(_, term)| term.matches(pod, namespace)) {
                *against.entry(term.topology_key.as_str()).or_default() += weight;
            }
        }
        place_all(&mut self.against, &against, slot, snapshot);
        place_all(&mut self.preferences, &preferences, slot, snapshot);
    }

    /// Keeps the slots where nobody is against the newcomer.
    pub(super) fn filter(&self, candidates: &mut Vec<u32>) {
        for sums in self.against.values().filter(|sums| !sums.is_zero()) {
            candidates.retain(|slot| sums.at(*slot) == 0);
        }
    }

    /// Adds what those that are there think of the newcomer to the raw values of the slots.
    pub(super) fn score(&self, candidates: &[u32], raw: &mut [i64]) {
        add_all(&self.preferences, candidates, raw);
    }
}

/// The node in the slot adds these amounts to its places by the terms' topology keys.
fn set_all<'a>(
    all: &mut BTreeMap<String, Sums>,
    amounts: impl Iterator<Item = (&'a AffinityTerm, i64)>,
    slot: u32,
    info: &NodeInfo,
) {
    let mut by_key: BTreeMap<&str, i64> = BTreeMap::new();
    for (term, amount) in amounts {
        *by_key.entry(&term.topology_key).or_default() += amount;
    }
    for (key, amount) in by_key {
        if !all.contains_key(key) {
            all.insert(key.to_owned(), Sums::default());
        }
        if let Some(sums) = all.get_mut(key) {
            sums.set(slot, info.label(key), amount);
        }
    }
}

/// The node in the slot adds these amounts to its places by topology key, and nothing by any other key. A key that was
/// not met before finds all nodes in their places.
fn place_all(
    all: &mut BTreeMap<String, Sums>,
    amounts: &BTreeMap<&str, i64>,
    slot: u32,
    snapshot: &Snapshot,
) {
    for key in amounts.keys() {
        if !all.contains_key(*key) {
            let mut sums = Sums::default();
            for slot in 0..snapshot.slots() as u32 {
                sums.set(slot, snapshot.slot(slot).label(key), 0);
            }
            all.insert((*key).to_owned(), sums);
        }
    }
    for (key, sums) in all {
        let amount = amounts.get(key.as_str()).copied().unwrap_or(0);
        sums.set(slot, snapshot.slot(slot).label(key), amount);
    }
}

fn add_all(all: &BTreeMap<String, Sums>, candidates: &[u32], raw: &mut [i64]) {
    for sums in all.values().filter(|sums| !sums.is_zero()) {
        for (value, slot) in raw.iter_mut().zip(candidates) {
            *value += sums.at(*slot);
        }
    }
}

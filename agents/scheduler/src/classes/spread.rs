//! For topology spread constraints: how many of the counted pods are on each node and in each place.

use super::journal::Reader;
use super::places::{NOWHERE, Numbered};
use super::verdicts::Verdicts;
use crate::object::{Pod, SpreadConstraint};
use crate::plugins::pod_topology_spread::{HOSTNAME, counts, part, spread_scale, stays_with};
use crate::selector::{LabelSelector, Labels};
use crate::snapshot::{NodeInfo, Snapshot};
use host::HashMap;

/// Of all pods that are spread by the same constraints in the same namespace, and whose constraints leave the same nodes
/// out.
#[derive(Debug)]
pub(super) struct Spread {
    pod: Pod,
    constraints: Vec<SpreadConstraint>,
    /// What they count, each once: the default ones all count the same pods.
    selectors: Vec<LabelSelector>,
    /// Which of these each constraint has.
    selector_of: Vec<Option<usize>>,
    /// Whether any of them means pods with these labels.
    verdicts: Verdicts,
    /// Whether nodes count only if they have the labels of all constraints.
    all_labels_required: bool,
    reader: Reader,
    columns: Vec<Column>,
    groups: Groups,
    /// Room for what is found of one node after the other.
    alike: Alike,
}

/// All that the value of a node depends on: nodes with the same are valued together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Alike {
    takes_part: bool,
    /// By constraint.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Part {
    labelled: bool,
    /// The pods on the node where hosts are the places, otherwise the place.
    number: i64,
}

/// Which nodes are alike. A group that was met once stays, though no node may be in it any more.
#[derive(Debug, Default)]
struct Groups {
    ids: HashMap<Alike, u32>,
    /// By number.
    all: Vec<Alike>,
    /// By slot: the number.
    of: Vec<u32>,
    /// The number that was asked for last: many nodes in a row are alike.
    last: usize,
}

impl Groups {
    fn id(&mut self, alike: &Alike) -> u32 {
        if self.all.get(self.last) != Some(alike) {
            self.last = match self.ids.get(alike) {
                Some(id) => *id as usize,
                None => self.begin(alike),
            };
        }
        self.last as u32
    }

    fn begin(&mut self, alike: &Alike) -> usize {
        let id = self.all.len();
        self.all.push(alike.clone());
        self.ids.insert(alike.clone(), id as u32);
        id
    }

    /// Room for slots, of which nothing is known yet.
    fn resize(&mut self, slots: usize, constraints: &[SpreadConstraint]) {
        if self.of.len() < slots {
            let unknown = |constraint: &SpreadConstraint| Part {
                labelled: false,
                number: match constraint.topology_key == HOSTNAME {
                    true => 0,
                    false => i64::from(NOWHERE),
                },
            };
            let id = self.id(&Alike {
                takes_part: false,
                parts: constraints.iter().map(unknown).collect(),
            });
            self.of.resize(slots, id);
        }
    }

    fn set(&mut self, at: usize, alike: &Alike) {
        let id = self.id(alike);
        self.of[at] = id;
    }

    /// Whether most of the groups can be of no node any more.
    fn is_stale(&self, slots: usize) -> bool {
        self.all.len() > 2 * slots + 64
    }

    /// Whether each of them has any of these slots.
    fn met(&self, slots: &[u32]) -> Vec<bool> {
        let mut met = vec![false; self.all.len()];
        for slot in slots {
            met[self.of[*slot as usize] as usize] = true;
        }
        met
    }

    fn takes_part(&self, slot: u32) -> bool {
        self.all[self.of[slot as usize] as usize].takes_part
    }
}

/// One constraint.
#[derive(Debug, Default)]
struct Column {
    numbered: Numbered,
    /// By slot: the place. A node without the label is in the place without a name if it takes part all the same.
    places: Vec<u32>,
    /// By slot: whether it has the label.
    labelled: Vec<bool>,
    /// By slot: the pods there that the constraint means.
    pods: Vec<i64>,
    /// By slot: whether the node is counted in its place.
    counted: Vec<bool>,
    /// By place: pods on counted nodes, and counted nodes.
    sums: Vec<(i64, u32)>,
}

impl Column {
    fn resize(&mut self, slots: usize) {
        self.places.resize(slots, NOWHERE);
        self.labelled.resize(slots, false);
        self.pods.resize(slots, 0);
        self.counted.resize(slots, false);
    }

    fn set(
        &mut self,
        at: usize,
        label: Option<&str>,
        place: Option<&str>,
        pods: i64,
        counted: bool,
    ) {
        if self.counted[at] {
            let sum = &mut self.sums[self.places[at] as usize];
            *sum = (sum.0 - self.pods[at], sum.1 - 1);
        }
        let place = place.map_or(NOWHERE, |place| self.numbered.id(place));
        self.sums.resize(self.numbered.len(), (0, 0));
        let counted = counted && place != NOWHERE;
        if counted {
            let sum = &mut self.sums[place as usize];
            *sum = (sum.0 + pods, sum.1 + 1);
        }
        self.places[at] = place;
        self.labelled[at] = label.is_some();
        self.pods[at] = pods;
        self.counted[at] = counted;
    }
}

impl Spread {
    pub(super) fn new(
        pod: &Pod,
        constraints: &[SpreadConstraint],
        all_labels_required: bool,
    ) -> Spread {
        let mut selectors: Vec<LabelSelector> = Vec::new();
        for selector in constraints.iter().filter_map(|c| c.selector.as_ref()) {
            if !selectors.contains(selector) {
                selectors.push(selector.clone());
            }
        }
        let selector_of = constraints.iter().map(|constraint| {
            let selector = constraint.selector.as_ref()?;
            selectors.iter().position(|other| other == selector)
        });
        Spread {
            pod: pod.clone(),
            constraints: constraints.to_vec(),
            selector_of: selector_of.collect(),
            selectors,
            verdicts: Verdicts::default(),
            all_labels_required,
            reader: Reader::default(),
            groups: Groups::default(),
            alike: Alike::default(),
            columns: constraints.iter().map(|_| Column::default()).collect(),
        }
    }

    pub(super) fn is_of(
        &self,
        pod: &Pod,
        constraints: &[SpreadConstraint],
        all_labels_required: bool,
    ) -> bool {
        let honors = |what: fn(&SpreadConstraint) -> bool| constraints.iter().any(what);
        self.pod.namespace == pod.namespace
            && self.all_labels_required == all_labels_required
            && self.constraints == constraints
            && (!honors(|c| c.honor_affinity)
                || self.pod.node_selector == pod.node_selector
                    && self.pod.required_nodes == pod.required_nodes)
            && (!honors(|c| c.honor_taints) || self.pod.tolerations == pod.tolerations)
    }

    /// Counts again on the nodes that have changed.
    pub(super) fn refresh(&mut self, snapshot: &Snapshot) {
        let slots = snapshot.slots();
        let mut columns = self.columns.iter();
        if columns.any(|column| column.numbered.is_stale(slots)) || self.groups.is_stale(slots) {
            self.columns = self.constraints.iter().map(|_| Column::default()).collect();
            self.groups = Groups::default();
            self.reader.forget();
        }
        let (selectors, verdicts) = (&self.selectors, &mut self.verdicts);
        let counted = |labels: &Labels| verdicts.of(labels, |labels| means(selectors, labels));
        let changed = self.reader.changed_by(snapshot.journal(), slots, counted);
        self.groups.resize(slots, &self.constraints);
        self.columns
            .iter_mut()
            .for_each(|column| column.resize(slots));
        for slot in changed {
            self.count(snapshot, slot);
        }
    }

    fn count(&mut self, snapshot: &Snapshot, slot: u32) {
        let (info, at) = (snapshot.slot(slot), slot as usize);
        let label = |c: &SpreadConstraint| info.label(&c.topology_key);
        let all_labels = self.constraints.iter().all(|c| label(c).is_some());
        let takes_part = info.node.is_some() && (all_labels || !self.all_labels_required);
        let meant = self.meant(info);
        let mut alike = std::mem::take(&mut self.alike);
        alike.takes_part = takes_part;
        alike.parts.clear();
        let columns = self.columns.iter_mut().zip(&self.selector_of);
        for (constraint, (column, selector)) in self.constraints.iter().zip(columns) {
            let label = label(constraint);
            let unnamed = takes_part && !self.all_labels_required;
            let place = label.or(unnamed.then_some(""));
            let pods = selector.map_or(0, |selector| meant[selector]);
            let counted = takes_part && counts(constraint, &self.pod, info);
            column.set(at, label, place, pods, counted);
            alike.parts.push(Part {
                labelled: label.is_some(),
                number: match constraint.topology_key == HOSTNAME {
                    true => pods,
                    false => i64::from(column.places[at]),
                },
            });
        }
        self.groups.set(at, &alike);
        self.alike = alike;
    }

    /// By selector: how many pods on the node it means.
    fn meant(&mut self, info: &NodeInfo) -> Vec<i64> {
        let (selectors, verdicts) = (&self.selectors, &mut self.verdicts);
        let mut sums = vec![0; selectors.len()];
        if info.node.is_none() {
            return sums;
        }
        for other in info.pods.values() {
            // Nearly all that are on a node belong to others.
            let any = verdicts.of(&other.labels, |labels| means(selectors, labels));
            if any && stays_with(other, &self.pod) {
                for (sum, selector) in sums.iter_mut().zip(selectors) {
                    *sum += i64::from(selector.matches(&other.labels));
                }
            }
        }
        sums
    }

    /// Keeps the slots that hard constraints allow.
    pub(super) fn filter(&self, pod: &Pod, candidates: &mut Vec<u32>) {
        for (constraint, column) in self.constraints.iter().zip(&self.columns) {
            let selector = constraint.selector.as_ref();
            let itself = i64::from(selector.is_some_and(|selector| selector.matches(&pod.labels)));
            let counted = || column.sums.iter().filter(|(_, nodes)| *nodes > 0);
            let emptiest = match counted().map(|(pods, _)| *pods).min() {
                Some(_) if (counted().count() as i64) < constraint.min_domains => 0,
                Some(emptiest) => emptiest,
                // Nothing to be even with.
                None => i64::MAX,
            };
            let most = emptiest
                .saturating_add(constraint.max_skew)
                .saturating_sub(itself);
            candidates.retain(|slot| {
                let at = *slot as usize;
                column.labelled[at] && column.sums[column.places[at] as usize].0 <= most
            });
        }
    }

    /// Adds to each total what the soft constraints give, times `weight`.
    pub(super) fn score(&self, candidates: &[u32], weight: i64, totals: &mut [i64]) {
        let (groups, met) = (&self.groups, self.groups.met(candidates));
        let alikes = || groups.all.iter().zip(&met).filter(|(_, met)| **met);
        let taking_part = || alikes().filter(|(alike, _)| alike.takes_part);
        let nodes = match alikes().count() == taking_part().count() {
            true => candidates.len(),
            false => {
                let taking_part = |slot: &&u32| groups.takes_part(**slot);
                candidates.iter().filter(taking_part).count()
            }
        };
        let sizes: Vec<usize> = self
            .constraints
            .iter()
            .enumerate()
            .map(|(at, constraint)| {
                if constraint.topology_key == HOSTNAME {
                    return nodes;
                }
                let places = taking_part().map(|(alike, _)| alike.parts[at].number);
                let mut places: Vec<i64> = places.collect();
                places.sort_unstable();
                places.dedup();
                places.len()
            })
            .collect();
        let raw = |(alike, met): (&Alike, &bool)| {
            let valued = *met && alike.takes_part;
            valued.then(|| self.raw(alike, &sizes))
        };
        let raw: Vec<Option<i64>> = groups.all.iter().zip(&met).map(raw).collect();
        let smallest = raw.iter().flatten().copied().min().unwrap_or(0);
        let largest = raw.iter().flatten().copied().max().unwrap_or(0);
        let value = |raw: i64| weight * spread_scale(raw, smallest, largest);
        let values: Vec<i64> = raw.iter().map(|raw| raw.map_or(0, value)).collect();
        for (total, slot) in totals.iter_mut().zip(candidates) {
            *total += values[groups.of[*slot as usize] as usize];
        }
    }

    /// The raw value of nodes that are like this.
    fn raw(&self, alike: &Alike, sizes: &[usize]) -> i64 {
        let constraints = self.constraints.iter().zip(&self.columns);
        let parts = constraints.zip(&alike.parts).zip(sizes);
        let parts = parts.map(|(((constraint, column), numbers), size)| {
            if !numbers.labelled {
                return 0.0;
            }
            let count = match constraint.topology_key == HOSTNAME {
                true => numbers.number,
                false => column.sums[numbers.number as usize].0,
            };
            part(count, *size, constraint)
        });
        parts.sum::<f64>().round() as i64
    }
}

/// Whether any of the selectors means pods with these labels.
fn means(selectors: &[LabelSelector], labels: &Labels) -> bool {
    selectors.iter().any(|selector| selector.matches(labels))
}

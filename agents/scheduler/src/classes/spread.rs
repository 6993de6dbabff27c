//! For topology spread constraints: how many of the counted pods are on each node and in each place.

use super::journal::Reader;
use super::places::{NOWHERE, Numbered};
use crate::object::{Pod, SpreadConstraint};
use crate::plugins::pod_topology_spread::{HOSTNAME, counts, matching, part, spread_scale};
use crate::selector::{LabelSelector, Labels};
use crate::snapshot::Snapshot;
use host::HashMap;

/// Of all pods that are spread by the same constraints in the same namespace, and whose constraints leave the same nodes
/// out.
#[derive(Debug)]
pub(super) struct Spread {
    pod: Pod,
    constraints: Vec<SpreadConstraint>,
    /// What they count, each once: the default ones all count the same pods.
    selectors: Vec<LabelSelector>,
    /// Whether nodes count only if they have the labels of all constraints.
    all_labels_required: bool,
    reader: Reader,
    /// By slot: whether the node takes part.
    takes_part: Vec<bool>,
    columns: Vec<Column>,
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
        Spread {
            pod: pod.clone(),
            constraints: constraints.to_vec(),
            selectors,
            all_labels_required,
            reader: Reader::default(),
            takes_part: Vec::new(),
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
        if self
            .columns
            .iter()
            .any(|column| column.numbered.is_stale(slots))
        {
            self.columns = self.constraints.iter().map(|_| Column::default()).collect();
            self.reader.forget();
        }
        let counted = |labels: &Labels| self.selectors.iter().any(|s| s.matches(labels));
        let changed = self.reader.changed_by(snapshot.journal(), slots, counted);
        self.takes_part.resize(slots, false);
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
        self.takes_part[at] = takes_part;
        for (constraint, column) in self.constraints.iter().zip(&mut self.columns) {
            let label = label(constraint);
            let unnamed = takes_part && !self.all_labels_required;
            let place = label.or(unnamed.then_some(""));
            let pods = match info.node.is_some() {
                true => matching(info, constraint.selector.as_ref(), &self.pod),
                false => 0,
            };
            let counted = takes_part && counts(constraint, &self.pod, info);
            column.set(at, label, place, pods, counted);
        }
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
    ///
    /// Nodes with the same numbers in every respect get the same: they are valued together.
    pub(super) fn score(&self, candidates: &[u32], weight: i64, totals: &mut [i64]) {
        let (group_of, groups) = self.groups(candidates);
        let representatives: Vec<usize> =
            groups.iter().map(|at| candidates[*at] as usize).collect();
        let taking_part = candidates
            .iter()
            .filter(|slot| self.takes_part[**slot as usize])
            .count();
        let sizes: Vec<usize> = self
            .constraints
            .iter()
            .zip(&self.columns)
            .map(|(constraint, column)| {
                if constraint.topology_key == HOSTNAME {
                    return taking_part;
                }
                let mut places: Vec<u32> = representatives
                    .iter()
                    .filter(|at| self.takes_part[**at])
                    .map(|at| column.places[*at])
                    .collect();
                places.sort_unstable();
                places.dedup();
                places.len()
            })
            .collect();
        let raw: Vec<i64> = representatives
            .iter()
            .map(|at| self.raw(*at, &sizes))
            .collect();
        let of_taking_part = || {
            raw.iter()
                .zip(&representatives)
                .filter(|(_, at)| self.takes_part[**at])
                .map(|(raw, _)| *raw)
        };
        let smallest = of_taking_part().min().unwrap_or(0);
        let largest = of_taking_part().max().unwrap_or(0);
        let values: Vec<i64> = raw
            .iter()
            .zip(&representatives)
            .map(|(raw, at)| match self.takes_part[*at] {
                true => weight * spread_scale(*raw, smallest, largest),
                false => 0,
            })
            .collect();
        for (total, group) in totals.iter_mut().zip(group_of) {
            *total += values[group as usize];
        }
    }

    /// The raw value of the node in a slot.
    fn raw(&self, at: usize, sizes: &[usize]) -> i64 {
        let parts = self.constraints.iter().zip(&self.columns).zip(sizes);
        let parts = parts.map(|((constraint, column), size)| {
            if !column.labelled[at] {
                return 0.0;
            }
            let count = match constraint.topology_key == HOSTNAME {
                true => column.pods[at],
                false => column.sums[column.places[at] as usize].0,
            };
            part(count, *size, constraint)
        });
        parts.sum::<f64>().round() as i64
    }

    /// For each candidate its group, and for each group the index of one candidate in it.
    fn groups(&self, candidates: &[u32]) -> (Vec<u32>, Vec<usize>) {
        let mut group_of = Vec::with_capacity(candidates.len());
        let mut groups = Vec::new();
        let Some(strides) = self.strides(candidates) else {
            let mut known: HashMap<Vec<u64>, u32> = HashMap::default();
            for (index, slot) in candidates.iter().enumerate() {
                let numbers = self.numbers(*slot as usize);
                let next = groups.len() as u32;
                let group = *known.entry(numbers.collect()).or_insert(next);
                if group == next {
                    groups.push(index);
                }
                group_of.push(group);
            }
            return (group_of, groups);
        };
        let codes = strides.last().map_or(1, |(stride, radix)| stride * radix);
        let mut known = vec![u32::MAX; codes as usize];
        for (index, slot) in candidates.iter().enumerate() {
            let numbers = self.numbers(*slot as usize).zip(&strides);
            let code: u64 = numbers.map(|(number, (stride, _))| number * stride).sum();
            let group = &mut known[code as usize];
            if *group == u32::MAX {
                *group = groups.len() as u32;
                groups.push(index);
            }
            group_of.push(*group);
        }
        (group_of, groups)
    }

    /// All that the value of the node in a slot depends on.
    fn numbers(&self, at: usize) -> impl Iterator<Item = u64> {
        let parts = self
            .constraints
            .iter()
            .zip(&self.columns)
            .map(move |(constraint, column)| {
                let number = match constraint.topology_key == HOSTNAME {
                    true => column.pods[at] as u64,
                    false => u64::from(column.places[at].wrapping_add(1)),
                };
                2 * number + u64::from(column.labelled[at])
            });
        std::iter::once(u64::from(self.takes_part[at])).chain(parts)
    }

    /// By which the numbers make one, and how many values each can have; `None` when there would be too many.
    fn strides(&self, candidates: &[u32]) -> Option<Vec<(u64, u64)>> {
        const CODES_MAX: u64 = 1 << 16;
        let mut strides: Vec<(u64, u64)> = vec![(1, 2)];
        for (constraint, column) in self.constraints.iter().zip(&self.columns) {
            let largest = match constraint.topology_key == HOSTNAME {
                true => candidates
                    .iter()
                    .map(|slot| column.pods[*slot as usize])
                    .max()
                    .unwrap_or(0) as u64,
                false => column.numbered.len() as u64,
            };
            let (stride, radix) = *strides.last()?;
            let stride = stride * radix;
            let radix = 2 * (largest + 1);
            if stride.checked_mul(radix)? > CODES_MAX {
                return None;
            }
            strides.push((stride, radix));
        }
        Some(strides)
    }
}

//! What depends on a pod and one node alone: whether the node's own filters pass it, and the values of the scores that look
//! at no other node. The verdicts and values are those of the plugins; here they are kept until the node changes.

use super::journal::Reader;
use crate::config::Profile;
use crate::object::Pod;
use crate::plugins::{Reads, SYSTEM_CRITICAL, Values};
use crate::schedule::Filters;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeSet;

/// Of all pods that are the same to node and profile, whatever they are called and belong to.
#[derive(Debug)]
pub(super) struct Local {
    pod: Pod,
    /// For which of what it asks devices stand.
    behind: BTreeSet<String>,
    profile: Profile,
    reader: Reader,
    /// By slot: whether the node is there and passes.
    pub(super) passes: Vec<bool>,
    /// By slot: the weighted sum of what counts as it is.
    pub(super) plain: Vec<i64>,
    pub(super) compared: Vec<Compared>,
    pub(super) images: Option<Images>,
}

/// How values of nodes are compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// In relation to the largest, which becomes 0 with `reverse`.
    ByLargest { reverse: bool },
    /// As they are, with their mean in the place of what is not known.
    OrMean,
}

/// Raw values of a score that count only beside each other.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) weight: i64,
    pub(super) how: How,
    /// By slot.
    pub(super) raw: Vec<i64>,
    /// How many of them are not zero.
    some: usize,
}

impl Compared {
    fn set(&mut self, slot: u32, raw: i64) {
        let old = std::mem::replace(&mut self.raw[slot as usize], raw);
        self.some = self.some + usize::from(raw != 0) - usize::from(old != 0);
    }

    /// Whether every node has nothing, and so all count the same.
    pub(super) fn is_zero(&self) -> bool {
        self.some == 0
    }
}

/// The weighted values of the images that a node has. They change for all nodes when images come and go on any.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// How many nodes there are, and on how many each image is.
    counted: (usize, Vec<i64>),
    /// By slot.
    pub(super) values: Vec<i64>,
}

/// Whether node and profile cannot tell these pods from each other.
fn same(one: &Pod, other: &Pod) -> bool {
    one.requests == other.requests
        && one.scored == other.scored
        && one.node_name == other.node_name
        && one.images == other.images
        && one.host_ports == other.host_ports
        && one.tolerations == other.tolerations
        && one.node_selector == other.node_selector
        && one.required_nodes == other.required_nodes
        && one.preferred_nodes == other.preferred_nodes
        && one.pressure_sensitivity == other.pressure_sensitivity
        && (one.priority >= SYSTEM_CRITICAL) == (other.priority >= SYSTEM_CRITICAL)
}

impl Local {
    pub(super) fn new(pod: &Pod, profile: &Profile, behind: &BTreeSet<String>) -> Local {
        let compared = profile.scores.iter().filter_map(|(score, weight)| {
            let how = match score.values {
                Values::Compared { reverse } => How::ByLargest { reverse },
                Values::Known => How::OrMean,
                _ => return None,
            };
            Some(Compared {
                weight: *weight,
                how,
                raw: Vec::new(),
                some: 0,
            })
        });
        let scores_images =
            |(score, _): &(&crate::plugins::Score, i64)| score.values == Values::Images;
        Local {
            compared: compared.collect(),
            images: profile
                .scores
                .iter()
                .any(scores_images)
                .then(Images::default),
            pod: pod.clone(),
            behind: behind.clone(),
            profile: profile.clone(),
            reader: Reader::default(),
            passes: Vec::new(),
            plain: Vec::new(),
        }
    }

    pub(super) fn is_of(&self, pod: &Pod, profile: &Profile, behind: &BTreeSet<String>) -> bool {
        same(&self.pod, pod)
            && self.behind == *behind
            && self.profile.args == profile.args
            && self.profile.filters == profile.filters
            && self.profile.scores == profile.scores
    }

    /// Looks again at the nodes that have changed.
    pub(super) fn refresh(&mut self, snapshot: &Snapshot) {
        let slots = snapshot.slots();
        let changed = self.reader.changed(snapshot.journal(), slots);
        self.passes.resize(slots, false);
        self.plain.resize(slots, 0);
        for compared in &mut self.compared {
            compared.raw.resize(slots, 0);
        }
        if !changed.is_empty() {
            let passing = self.passing(snapshot, &changed);
            for slot in &changed {
                self.passes[*slot as usize] = false;
            }
            for slot in &passing {
                self.passes[*slot as usize] = true;
            }
            // What does not pass is not scored.
            self.score(snapshot, &passing);
        }
        self.refresh_images(snapshot, &changed);
    }

    fn filters<'a>(&'a self, snapshot: &'a Snapshot) -> Filters<'a> {
        Filters::prepare_some(&self.pod, snapshot, &self.profile, |reads| {
            reads == Reads::Node
        })
    }

    /// Those of the slots whose node is there and passes.
    fn passing(&self, snapshot: &Snapshot, slots: &[u32]) -> Vec<u32> {
        let filters = self.filters(snapshot);
        let passes = |slot: &u32| {
            let info = snapshot.slot(*slot);
            info.node.is_some() && filters.passes(info)
        };
        slots.iter().copied().filter(passes).collect()
    }

    /// Whether the node's own filters pass a node that is like this.
    pub(super) fn would_pass(&self, snapshot: &Snapshot, info: &NodeInfo) -> bool {
        self.filters(snapshot).passes(info)
    }

    fn score(&mut self, snapshot: &Snapshot, slots: &[u32]) {
        let infos: Vec<&NodeInfo> = slots.iter().map(|slot| snapshot.slot(*slot)).collect();
        for slot in slots {
            self.plain[*slot as usize] = 0;
        }
        let mut compared = self.compared.iter_mut();
        for (score, weight) in &self.profile.scores {
            let column = match score.values {
                Values::Compared { .. } | Values::Known => compared.next(),
                Values::Plain => None,
                _ => continue,
            };
            let Some(scores) = (score.score)(&self.pod, snapshot, &self.profile.args, &infos)
            else {
                continue;
            };
            let values = slots.iter().zip(scores.raw);
            match column {
                Some(column) => values.for_each(|(slot, raw)| column.set(*slot, raw)),
                None => values.for_each(|(slot, raw)| self.plain[*slot as usize] += weight * raw),
            }
        }
    }

    fn refresh_images(&mut self, snapshot: &Snapshot, changed: &[u32]) {
        let Some(images) = &mut self.images else {
            return;
        };
        let on = self
            .pod
            .images
            .iter()
            .map(|image| snapshot.image_node_count(image));
        let on: Vec<i64> = on.collect();
        images.values.resize(snapshot.slots(), 0);
        // What is nowhere gives nothing to any node, however many there are.
        let nowhere = on.iter().all(|nodes| *nodes == 0);
        let counted = (if nowhere { 0 } else { snapshot.node_count() }, on);
        let slots: Vec<u32> = match images.counted == counted {
            true if nowhere => return,
            true => changed.to_vec(),
            false => (0..snapshot.slots() as u32).collect(),
        };
        images.counted = counted;
        let infos: Vec<&NodeInfo> = slots.iter().map(|slot| snapshot.slot(*slot)).collect();
        let scores = self.profile.scores.iter();
        for (score, weight) in scores.filter(|(score, _)| score.values == Values::Images) {
            let scores = (score.score)(&self.pod, snapshot, &self.profile.args, &infos);
            for (slot, value) in slots.iter().zip(scores.into_iter().flat_map(|s| s.raw)) {
                images.values[*slot as usize] = weight * value;
            }
        }
    }
}

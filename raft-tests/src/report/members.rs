//! A strip for each member: its role and term, and how far it has applied. And what members are called.

use crate::recording::{Recording, Role, Sample};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// Short names: the id where it is short, or else the first digits of what etcd prints, as many as tell all members
/// apart. Ids are text to the page in any case, since a script's numbers do not hold all of them.
#[derive(Debug)]
pub(super) struct Names(BTreeMap<u64, String>);

/// Ids below this are short.
const SHORT: u64 = 10_000;

impl Names {
    pub(super) fn of(recording: &Recording) -> Names {
        let asked = recording
            .operations
            .iter()
            .map(|operation| operation.member);
        let rest = recording.rest.iter().map(|call| call.member);
        let watched = recording.all_watches().map(|(_, watch, _)| watch.member);
        let hit = recording
            .faults
            .iter()
            .flat_map(|fault| fault.members.iter().copied());
        let ids: BTreeSet<u64> = members(recording)
            .chain(asked)
            .chain(rest)
            .chain(watched)
            .chain(hit)
            .collect();
        if ids.iter().all(|id| *id < SHORT) {
            return Names(ids.into_iter().map(|id| (id, id.to_string())).collect());
        }
        let digits =
            |id: u64, count: usize| format!("{id:x}").chars().take(count).collect::<String>();
        let apart = |count: &usize| {
            let names: BTreeSet<String> = ids.iter().map(|id| digits(*id, *count)).collect();
            names.len() == ids.len()
        };
        let count = (4..16).find(apart).unwrap_or(16);
        Names(ids.iter().map(|id| (*id, digits(*id, count))).collect())
    }

    pub(super) fn name(&self, id: u64) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// Those that the run names, and those of the samples: members come and go.
fn members(recording: &Recording) -> impl Iterator<Item = u64> {
    let sampled = recording.samples.iter().map(|sample| sample.member);
    recording.run.members.iter().copied().chain(sampled)
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strip {
    pub member: String,
    /// All of it.
    pub id: String,
    pub states: Vec<State>,
    /// When the applied index became what: changes only.
    pub applied: Vec<(u64, u64)>,
}

/// A role in a term for a time. It is written as a list, in the order of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub from: u64,
    pub until: u64,
    pub role: Role,
    pub term: u64,
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.from, self.until, self.role, self.term).serialize(serializer)
    }
}

/// Points of one applied line; more cannot be seen.
const POINTS_MAX: usize = 4000;

pub(super) fn paint(recording: &Recording, names: &Names, length: u64) -> Vec<Strip> {
    let members: BTreeSet<u64> = members(recording).collect();
    members
        .into_iter()
        .map(|member| {
            let samples = recording.samples.iter();
            let mut own: Vec<&Sample> = samples.filter(|one| one.member == member).collect();
            own.sort_by_key(|sample| sample.at);
            Strip {
                member: names.name(member),
                id: member.to_string(),
                states: states(&own, length),
                applied: thinned(applied(&own)),
            }
        })
        .collect()
}

/// A state lasts until the next sample says otherwise.
fn states(samples: &[&Sample], length: u64) -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    for sample in samples {
        match states.last_mut() {
            Some(last) if (last.role, last.term) == (sample.role, sample.term) => continue,
            Some(last) => last.until = sample.at,
            None => {}
        }
        states.push(State {
            from: sample.at,
            until: length,
            role: sample.role,
            term: sample.term,
        });
    }
    states
}

/// While a member is down nobody knows how far it is, so its line pauses: the index 0 stands for that.
fn applied(samples: &[&Sample]) -> Vec<(u64, u64)> {
    let mut points: Vec<(u64, u64)> = Vec::new();
    for sample in samples {
        let index = match sample.role {
            Role::Down => 0,
            _ => sample.applied,
        };
        if points.last().is_none_or(|(_, last)| *last != index) {
            points.push((sample.at, index));
        }
    }
    points
}

/// Every so-manieth point; where the member went down or came back, always.
fn thinned(points: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    let last = points.len().saturating_sub(1);
    let jumps = |index: usize| {
        let previous = index.checked_sub(1).map(|before| points[before].1);
        points[index].1 == 0 || previous == Some(0)
    };
    (0..points.len())
        .filter(|index| index % every == 0 || *index == last || jumps(*index))
        .map(|index| points[index])
        .collect()
}

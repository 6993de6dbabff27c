//! What preemption has to know of groups of pods: whom it may not touch, and who has to go as well when one goes.
//!
//! A group of which fewer run than it needs is of no use to anybody, and what is left of it only takes room. So whoever goes
//! takes the whole group along, unless the group has more than it needs: then those can go one by one. And a group counts as
//! important as the most important of its pods.

use super::Key;
use crate::object::Pod;
use crate::preempt::Budget;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Groups that have pods on nodes, and whose pods never have to make room.
#[derive(Debug, Default)]
pub struct Others {
    own: Option<Key>,
    groups: BTreeMap<Key, Group>,
}

#[derive(Debug)]
struct Group {
    min_count: usize,
    priority: i32,
    /// By uid.
    placed: BTreeMap<String, Arc<Pod>>,
    /// Those of them that were taken already.
    gone: BTreeSet<String>,
}

impl Group {
    /// Whether too few are left when so many more go.
    fn breaks(&self, going: usize) -> bool {
        self.placed.len() - self.gone.len() < self.min_count + going
    }
}

impl Others {
    /// All groups, seen from one of them.
    pub(crate) fn of(own: &Key, world: &World) -> Others {
        let members = world.queue.members();
        let groups = members.keys().map(|key| {
            let placed = members.of(key).filter_map(|(uid, _)| {
                let pod = world.snapshot.pod(uid)?;
                Some((uid.to_owned(), pod.clone()))
            });
            let placed: BTreeMap<String, Arc<Pod>> = placed.collect();
            let group = Group {
                min_count: members.min_count(key),
                priority: placed.values().map(|pod| pod.priority).max().unwrap_or(0),
                placed,
                gone: BTreeSet::new(),
            };
            (key.clone(), group)
        });
        Others {
            own: Some(own.clone()),
            groups: groups
                .filter(|(_, group)| !group.placed.is_empty())
                .collect(),
        }
    }

    fn group_of(&self, pod: &Pod) -> Option<(Key, &Group)> {
        let key = super::key(pod)?;
        let group = self.groups.get(&key)?;
        Some((key, group))
    }

    /// Whether the group of a pod is out of bounds for somebody who could drive out the pod alone.
    pub(crate) fn spares(&self, pod: &Pod, preemptor: &Pod) -> bool {
        if self.own.is_some() && super::key(pod) == self.own {
            return true;
        }
        self.group_of(pod)
            .is_some_and(|(_, group)| group.priority >= preemptor.priority)
    }

    /// Who is left of groups that are not whole any more when these pods go.
    pub(crate) fn rest_of(&self, victims: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let mut going: BTreeMap<Key, usize> = BTreeMap::new();
        for victim in victims {
            let group = self.group_of(victim);
            if let Some((key, _)) =
                group.filter(|(_, group)| group.placed.contains_key(&victim.uid))
            {
                *going.entry(key).or_default() += 1;
            }
        }
        let broken = going.into_iter().filter_map(|(key, going)| {
            let group = self.groups.get(&key)?;
            group.breaks(going).then_some(group)
        });
        let left = broken.flat_map(|group| {
            let left = group.placed.values();
            left.filter(|pod| !group.gone.contains(&pod.uid))
        });
        left.filter(|pod| !victims.iter().any(|victim| victim.uid == pod.uid))
            .cloned()
            .collect()
    }

    /// These go.
    pub(crate) fn take(&mut self, victims: &[Arc<Pod>]) {
        for victim in victims {
            let group = super::key(victim).and_then(|key| self.groups.get_mut(&key));
            if let Some(group) = group.filter(|group| group.placed.contains_key(&victim.uid)) {
                group.gone.insert(victim.uid.clone());
            }
        }
    }

    /// The group with which a pod that was taken has to go and may stay; none for one that is its own master.
    pub(crate) fn bound_to(&self, pod: &Pod) -> Option<Key> {
        let (key, group) = self.group_of(pod)?;
        group.breaks(0).then_some(key)
    }
}

/// These have gone: what budgets allow is less.
pub(crate) fn spend(budgets: &mut [Budget], victims: &[Arc<Pod>]) {
    for victim in victims {
        budgets.iter_mut().for_each(|budget| budget.spend(victim));
    }
}

//! Pods of groups in the queue: who is kept out until the group is complete, and the taking out of a whole group.

use super::arrivals::LET_IN;
use super::{Place, Queue, Queued};
use crate::gang::{self, Members};
use crate::object::Pod;
use crate::snapshot::Millis;
use std::sync::Arc;

impl Queue {
    /// The group of a pod, where the profile places groups together.
    pub fn gang_of(&self, pod: &Pod) -> Option<gang::Key> {
        let key = gang::key(pod)?;
        let profile = self.config.profile(pod)?;
        profile.gangs.then_some(key)
    }

    /// Who is in which group.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// A pod of a group has a node, or has had one and ended well.
    pub fn member_placed(&mut self, pod: &Pod, now: Millis) {
        if let Some(key) = self.gang_of(pod) {
            self.members.join(pod, true);
            self.let_in(&key, now);
        }
    }

    /// A pod counts for its group no more.
    pub fn member_gone(&mut self, pod: &Pod) {
        self.members.leave(pod);
    }

    /// Takes out all of the group that wait and are not kept out.
    pub fn take_gang(&mut self, key: &gang::Key) -> Vec<Queued> {
        let uids: Vec<String> = self
            .members
            .of(key)
            .map(|(uid, _)| uid.to_owned())
            .collect();
        let gated = |place: &Place| matches!(place, Place::Gated(_));
        let mut taken = Vec::new();
        for uid in uids {
            if self
                .entries
                .get(&uid)
                .is_some_and(|(_, place)| !gated(place))
                && let Some((mut queued, _)) = self.take(&uid)
            {
                queued.attempts += 1;
                taken.push(queued);
            }
        }
        taken
    }

    /// A pod that was taken out is to be tried again without more ado; one whose group is not complete any more waits.
    pub fn put_back(&mut self, queued: Queued, now: Millis) {
        self.activate(queued, now, LET_IN);
    }

    /// Pods that were kept out for their group since the last call, and are still.
    pub fn take_kept_out(&mut self) -> Vec<Arc<Pod>> {
        let mut pods = std::mem::take(&mut self.kept_out);
        pods.retain(|pod| self.is_kept_out(pod));
        pods
    }

    /// Whether the pod is kept out for its group.
    pub fn is_kept_out(&self, pod: &Pod) -> bool {
        let entry = self.entries.get(&pod.uid);
        entry.is_some_and(|(queued, place)| {
            matches!(place, Place::Gated(_)) && !self.is_gated(&queued.pod)
        })
    }

    /// Lets those in that have waited for their group, if it is complete.
    pub(super) fn let_in(&mut self, key: &gang::Key, now: Millis) {
        for uid in self.members.let_in(key) {
            let entry = self.entries.get(&uid);
            if entry.is_some_and(|(_, place)| matches!(place, Place::Gated(_)))
                && let Some((queued, _)) = self.take(&uid)
            {
                self.activate(queued, now, LET_IN);
            }
        }
    }
}

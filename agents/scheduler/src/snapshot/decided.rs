//! What was decided and the API need not show yet: pods assumed onto nodes, room kept for others, and evictions.

use super::{ASSUMED_TTL_MS, Millis, Snapshot};
use crate::object::Pod;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Assumed {
    node: String,
    /// Set when binding has finished.
    expires: Option<Millis>,
}

impl Snapshot {
    /// The decision was taken: the pod occupies the node from now on.
    pub fn assume(&mut self, pod: Arc<Pod>, node: &str) {
        self.remove_pod(&pod.uid);
        self.assumed.insert(
            pod.uid.clone(),
            Assumed {
                node: node.to_string(),
                expires: None,
            },
        );
        self.place(node, pod);
    }

    /// Binding has succeeded; the confirmation is due within [`ASSUMED_TTL_MS`].
    pub fn finish_binding(&mut self, uid: &str, now: Millis) {
        if let Some(assumed) = self.assumed.get_mut(uid) {
            let expires = now + ASSUMED_TTL_MS;
            assumed.expires = Some(expires);
            let first = self.first_expiry.unwrap_or(expires);
            self.first_expiry = Some(first.min(expires));
        }
    }

    /// Binding has failed: the pod occupies nothing. A confirmed pod is left alone.
    pub fn forget(&mut self, uid: &str) {
        if self.assumed.contains_key(uid) {
            self.remove_pod(uid);
        }
    }

    /// Drops and returns the assumed pods whose confirmation is overdue.
    pub fn expire(&mut self, now: Millis) -> Vec<Arc<Pod>> {
        if self.first_expiry.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let overdue = |assumed: &Assumed| assumed.expires.is_some_and(|expires| expires <= now);
        let uids: Vec<String> = self
            .assumed
            .iter()
            .filter(|(_, assumed)| overdue(assumed))
            .map(|(uid, _)| uid.clone())
            .collect();
        let pods: Vec<Arc<Pod>> = uids.iter().filter_map(|uid| self.remove_pod(uid)).collect();
        self.first_expiry = self.next_expiry();
        pods
    }

    /// When the next assumption expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.assumed
            .values()
            .filter_map(|assumed| assumed.expires)
            .min()
    }

    /// The node an assumed pod waits on.
    pub fn assumed_node(&self, uid: &str) -> Option<&str> {
        self.assumed.get(uid).map(|assumed| assumed.node.as_str())
    }

    /// Keeps room on a node for a pod whose victims are leaving.
    pub fn nominate(&mut self, pod: Arc<Pod>, node: &str) {
        self.nominated
            .insert(pod.uid.clone(), (node.to_string(), pod));
    }

    /// The node where room is kept for the pod.
    pub fn nominated_node(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(|(node, _)| node.as_str())
    }

    /// Gives up the room that is kept for the pod.
    pub fn withdraw_nomination(&mut self, uid: &str) {
        self.nominated.remove(uid);
    }

    /// The same, and answers the pod if room was kept for it.
    pub(crate) fn take_nomination(&mut self, uid: &str) -> Option<Arc<Pod>> {
        self.nominated.remove(uid).map(|(_, pod)| pod)
    }

    /// Pods of at least this priority, other than `uid`, for which room is kept, by node.
    pub fn nominated_above(
        &self,
        priority: i32,
        uid: &str,
    ) -> impl Iterator<Item = (&str, &Arc<Pod>)> {
        self.nominated
            .iter()
            .filter(move |(other, (_, pod))| other.as_str() != uid && pod.priority >= priority)
            .map(|(_, (node, pod))| (node.as_str(), pod))
    }

    /// It was decided that the pod goes.
    pub(crate) fn begin_eviction(&mut self, uid: &str) {
        self.evicting.insert(uid.to_owned());
    }

    /// The pod is gone, or whoever was to evict it has done what it could.
    pub(crate) fn end_eviction(&mut self, uid: &str) {
        self.evicting.remove(uid);
    }

    /// Whether the pod is on its way out.
    pub(crate) fn is_leaving(&self, pod: &Pod) -> bool {
        pod.deleting || self.evicting.contains(&pod.uid)
    }
}

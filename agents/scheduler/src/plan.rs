//! What has to be written before a pod can be bound to the node that was found for it: of its volumes, and of its devices.

use crate::config::Profile;
use crate::devices::ClaimPlan;
use crate::devices::wanted::Wanted;
use crate::object::Pod;
use crate::snapshot::Snapshot;
use crate::volume::bind::{Claims, VolumePlan};
use std::sync::Arc;

/// See the module head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Volumes that are given to claims, and claims that order some.
    pub volumes: VolumePlan,
    /// Claims that get devices, or one more user.
    pub claims: ClaimPlan,
}

impl Plan {
    /// For a pod and a node that was found to do. Empty where there is nothing to write, or the profile does not do it.
    pub fn of(snapshot: &Snapshot, pod: &Pod, node: &str, profile: &Profile) -> Plan {
        let mut plan = Plan::default();
        if !pod.has_claims() && !snapshot.devices.are_behind(pod) {
            return plan;
        }
        let Some(node) = snapshot.node(node).and_then(|info| info.node.as_ref()) else {
            return plan;
        };
        if profile.binds_volumes {
            let claims = Claims::of(pod, &snapshot.volumes).ok().flatten();
            let volumes = claims.map(|claims| claims.plan(&node.name, &node.labels));
            plan.volumes = volumes.and_then(Result::ok).unwrap_or_default();
        }
        if profile.allocates_devices {
            let wanted = Wanted::of(pod, &snapshot.devices, &snapshot.effort)
                .ok()
                .flatten();
            plan.claims = wanted.map_or_else(ClaimPlan::default, |wanted| wanted.plan(node));
        }
        plan
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.claims.is_empty()
    }

    /// It holds from now on, before it is written.
    pub fn assume(&self, snapshot: &mut Snapshot, node: &str) {
        if !self.volumes.is_empty() {
            Arc::make_mut(&mut snapshot.volumes).assume(&self.volumes, node);
        }
        if !self.claims.is_empty() {
            Arc::make_mut(&mut snapshot.devices).promise(&self.claims);
        }
    }

    /// It will not come true. Whether devices are free by that.
    pub fn revert(&self, snapshot: &mut Snapshot) -> bool {
        if !self.volumes.is_empty() {
            Arc::make_mut(&mut snapshot.volumes).revert(&self.volumes);
        }
        !self.claims.is_empty() && Arc::make_mut(&mut snapshot.devices).settle(&self.claims)
    }
}

//! What was decided for claims and is not written yet.
//!
//! A claim that one pod was promised keeps other pods waiting until it is written. Only the pods of a group, which are decided
//! about in one go and are bound together or not at all, see what those before them were promised and share it.

use super::claim::{Allocation, DeviceClaim};
use super::{ClaimPlan, ClaimStep};
use std::collections::BTreeMap;
use std::sync::Arc;

/// By the uid of the claim. Cloning shares the objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Promised {
    claims: BTreeMap<String, Promise>,
    /// While it is decided about a group: what its pods were promised.
    group: Option<BTreeMap<String, Shared>>,
}

#[derive(Debug, Clone)]
struct Promise {
    allocation: Allocation,
    /// How many pods it was made to.
    pods: usize,
    /// Whether the claim has it, or something else in its place.
    kept: bool,
}

#[derive(Debug, Clone)]
struct Shared {
    /// As it was decided for the first of them.
    step: ClaimStep,
    /// The claim as it will be.
    claim: Arc<DeviceClaim>,
}

impl Promised {
    /// What was decided holds from now on. Gives back what nobody was promised before.
    pub(super) fn add(&mut self, plan: &ClaimPlan) -> Vec<Allocation> {
        let mut news = Vec::new();
        for step in &plan.steps {
            let Some((_, allocation)) = &step.gets else {
                continue;
            };
            let uid = &step.claim.uid;
            if let Some(known) = self.claims.get_mut(uid) {
                known.pods += 1;
                continue;
            }
            let promise = Promise {
                allocation: allocation.clone(),
                pods: 1,
                kept: false,
            };
            self.claims.insert(uid.clone(), promise);
            news.push(allocation.clone());
            if let Some(group) = &mut self.group {
                let claim = DeviceClaim {
                    allocation: Some(allocation.clone()),
                    ..(*step.claim).clone()
                };
                let shared = Shared {
                    step: step.clone(),
                    claim: Arc::new(claim),
                };
                group.insert(uid.clone(), shared);
            }
        }
        news
    }

    /// The claim has devices now. Gives back what it was promised, the first time.
    pub(super) fn keep(&mut self, uid: &str) -> Option<Allocation> {
        let promise = self.claims.get_mut(uid)?;
        let first = !std::mem::replace(&mut promise.kept, true);
        first.then(|| promise.allocation.clone())
    }

    /// It was written for a pod, or will not be. Gives back one for each promise that nobody has any more, with what it was
    /// about if it was not kept.
    pub(super) fn remove(&mut self, plan: &ClaimPlan) -> Vec<Option<Allocation>> {
        let mut over = Vec::new();
        for step in plan.steps.iter().filter(|step| step.gets.is_some()) {
            let uid = &step.claim.uid;
            let Some(promise) = self.claims.get_mut(uid) else {
                continue;
            };
            promise.pods -= 1;
            if promise.pods == 0
                && let Some(promise) = self.claims.remove(uid)
            {
                over.push((!promise.kept).then_some(promise.allocation));
                self.group.as_mut().and_then(|group| group.remove(uid));
            }
        }
        over
    }

    /// To how many pods the claim is promised.
    pub(super) fn pods_of(&self, uid: &str) -> usize {
        self.claims.get(uid).map_or(0, |promise| promise.pods)
    }

    /// From now on pods share what those before them are promised; or not any more.
    pub(super) fn for_group(&mut self, begins: bool) {
        self.group = begins.then(BTreeMap::new);
    }

    fn shared(&self, uid: &str) -> Option<&Shared> {
        self.group.as_ref()?.get(uid)
    }

    /// The claim as it will be, where it is shared.
    pub(super) fn shared_claim(&self, uid: &str) -> Option<&Arc<DeviceClaim>> {
        self.shared(uid).map(|shared| &shared.claim)
    }

    /// What is to be written about it then.
    pub(super) fn shared_step(&self, uid: &str) -> Option<&ClaimStep> {
        self.shared(uid).map(|shared| &shared.step)
    }
}

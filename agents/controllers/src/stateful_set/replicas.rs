//! Makes the pods that are wanted, and takes those that are not.

use super::claims::Readiness;
use super::{BURST, Replicas};
use agent_runtime::kinds::Pod;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::PODS;
use std::sync::Arc;
use std::time::Duration;

/// Before a pod is replaced that ended again and again.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

impl Replicas<'_> {
    /// One step: what is wanted first, then what is not, then the update.
    pub(super) fn work(&self, plan: &mut Plan) {
        let goes_on = if self.in_order() {
            self.tend_in_order(plan) && {
                self.leave_claims(&mut plan.ops);
                self.shrink_in_order(&mut plan.ops)
            }
        } else {
            self.tend_at_once(plan);
            self.leave_claims(&mut plan.ops);
            self.shrink_at_once(&mut plan.ops);
            true
        };
        if goes_on && self.set.spec.update_strategy.kind != "OnDelete" {
            self.update(&mut plan.ops);
        }
    }

    /// Makes the first pod that is missing. Whether all are there and available.
    fn tend_in_order(&self, plan: &mut Plan) -> bool {
        for ordinal in self.ordinals() {
            let Some(pod) = self.pods.get(&ordinal) else {
                plan.ops.extend(self.create(ordinal));
                return false;
            };
            let work = self.tend(pod, ordinal, plan);
            plan.ops.extend(work);
            if self.is_unavailable(pod) {
                return false;
            }
        }
        true
    }

    /// Makes all pods that are missing, so many at a time.
    fn tend_at_once(&self, plan: &mut Plan) {
        let mut missing = 0;
        let mut batch = Vec::new();
        for ordinal in self.ordinals() {
            let work = match self.pods.get(&ordinal) {
                Some(pod) => self.tend(pod, ordinal, plan),
                None if missing == BURST => break,
                None => {
                    missing += 1;
                    self.create(ordinal)
                }
            };
            if !work.is_empty() {
                batch.push(Op::Sequence(work));
            }
        }
        if !batch.is_empty() {
            plan.push(Op::SlowStart(batch));
        }
    }

    /// Makes the pod of an ordinal and its claims.
    fn create(&self, ordinal: i64) -> Vec<Op> {
        match self.claims_before(ordinal) {
            Readiness::Waits(ops) => ops,
            Readiness::Missing(mut ops) => {
                let namespace = &self.set.metadata.namespace;
                ops.push(Op::create(&PODS, namespace, self.pod(ordinal)));
                vec![self.told("create", &self.pod_name(ordinal), Op::Sequence(ops))]
            }
        }
    }

    /// Looks after a pod that is wanted. One that ended is deleted whether it failed or not: pods that are evicted, or
    /// whose node started anew, may end as if they were done. One that ends each time at once has to wait a little.
    fn tend(&self, pod: &Arc<Pod>, ordinal: i64, plan: &mut Plan) -> Vec<Op> {
        let meta = &pod.metadata;
        if meta.is_deleting() {
            return Vec::new();
        }
        if pod.is_finished() {
            let what = format!("{}/{ordinal}", self.set.metadata.uid);
            return match self.world.permit(self.key, &what, LONGEST_DELAY) {
                Ok(()) => vec![self.delete(meta)],
                Err(wait) => {
                    plan.again(wait);
                    Vec::new()
                }
            };
        }
        let mut ops = Vec::new();
        if pod.status.phase == "Pending" {
            ops.extend(self.missing_claims(ordinal));
        }
        ops.extend(self.identify(meta, ordinal));
        ops.extend(self.claim_owners(meta, ordinal));
        ops
    }

    /// The claims of the pods that are not wanted may have to go with them.
    fn leave_claims(&self, ops: &mut Vec<Op>) {
        for (ordinal, pod) in &self.condemned {
            ops.extend(self.claim_owners(&pod.metadata, *ordinal));
        }
    }

    /// Takes the highest pod, unless it has to wait for another. Whether there is none to take.
    fn shrink_in_order(&self, ops: &mut Vec<Op>) -> bool {
        let Some((ordinal, pod)) = self.condemned.first() else {
            return true;
        };
        // Of those that do not serve the lowest goes first, or nothing would move any more.
        let unavailable = |(_, pod): &&(i64, Arc<Pod>)| self.is_unavailable(pod);
        let lowest = self.condemned.iter().rev().find(unavailable);
        let waits = lowest.is_some_and(|(lowest, _)| lowest != ordinal);
        let stuck = waits && self.is_unavailable(pod);
        if !(stuck || pod.metadata.is_deleting()) {
            ops.push(self.delete(&pod.metadata));
        }
        false
    }

    fn shrink_at_once(&self, ops: &mut Vec<Op>) {
        let staying = |(_, pod): &&(i64, Arc<Pod>)| !pod.metadata.is_deleting();
        let leaving = self.condemned.iter().filter(staying).take(BURST);
        let deletes: Vec<Op> = leaving.map(|(_, pod)| self.delete(&pod.metadata)).collect();
        if !deletes.is_empty() {
            ops.push(Op::Parallel(deletes));
        }
    }
}

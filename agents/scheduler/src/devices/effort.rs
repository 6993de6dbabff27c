//! How much may be done about devices in one decision: for all nodes, and in all its parts.
//!
//! A claim is somebody else's text, and a search for devices can be made to take as long as one likes. So each decision has
//! a store of steps that looking for nodes, comparing them and making room all take from. What goes on for a node after
//! that counts as if the time was up there. Steps and not time, so that equal clusters are decided about equally.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What may be done for one node.
pub(crate) const NODE_STEPS: u64 = 50_000;
/// What may be done in a decision about one pod.
const DECISION_STEPS: u64 = 300_000;
/// So many steps of each node are taken from nobody: what an ordinary claim costs there must not depend on how many nodes
/// there are. It is enough to see by two expressions that none of eight devices is what is asked for.
const FREE_STEPS: u64 = 512;
/// A group has at most so many times what a pod has.
const GROUP_MAX: u64 = 8;

/// What is left of it. Cloning shares it: the copies of a snapshot belong to the same decision.
#[derive(Debug, Clone)]
pub struct Effort(Arc<AtomicU64>);

impl Default for Effort {
    fn default() -> Effort {
        Effort(Arc::new(AtomicU64::new(DECISION_STEPS)))
    }
}

impl Effort {
    /// A decision about so many pods begins.
    pub fn renew(&self, pods: usize) {
        let times = u64::try_from(pods).unwrap_or(GROUP_MAX);
        let steps = DECISION_STEPS * times.clamp(1, GROUP_MAX);
        self.0.store(steps, Ordering::Relaxed);
    }

    /// How much may be done for the next node.
    pub(super) fn for_node(&self) -> u64 {
        let left = self.0.load(Ordering::Relaxed);
        left.saturating_add(FREE_STEPS).min(NODE_STEPS)
    }

    /// So much was done for a node.
    pub(super) fn spend(&self, steps: u64) {
        let left = self.0.load(Ordering::Relaxed);
        let paid = steps.saturating_sub(FREE_STEPS);
        self.0.store(left.saturating_sub(paid), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_little_on_a_node_goes_on_for_ever_and_what_costs_much_does_not() {
        let effort = Effort::default();
        for _ in 0..100_000 {
            effort.spend(FREE_STEPS);
        }
        assert_eq!(effort.for_node(), NODE_STEPS);
        let nodes = (0..1_000).take_while(|_| {
            let may = effort.for_node();
            effort.spend(may);
            may > FREE_STEPS
        });
        assert_eq!(nodes.count(), 7);
    }

    #[test]
    fn the_next_decision_has_as_much_again_and_a_group_no_more_than_some_times_that() {
        let effort = Effort::default();
        let copy = effort.clone();
        let all = |effort: &Effort| effort.0.load(Ordering::Relaxed);
        effort.spend(u64::MAX);
        assert_eq!((all(&copy), copy.for_node()), (0, FREE_STEPS));
        for (pods, times) in [(0, 1), (1, 1), (3, 3), (1_000, GROUP_MAX)] {
            copy.renew(pods);
            assert_eq!(all(&effort), DECISION_STEPS * times, "{pods}");
        }
    }
}

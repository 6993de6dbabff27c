//! The two kinds of rolling updates: old pods go before new ones come (`maxUnavailable`), or after them (`maxSurge`).

use super::{Daemons, Work};
use agent_runtime::kinds::{IntOrString, Pod, RollingUpdateDaemonSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The new and the old pod of a node.
type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

impl Daemons<'_> {
    /// Whether new pods come first.
    pub(super) fn surges(&self) -> bool {
        let strategy = &self.set.spec.update_strategy;
        let surge = strategy
            .rolling_update
            .as_ref()
            .and_then(|r| r.max_surge.as_ref());
        // A percentage of anything but nothing is at least one: it is rounded up.
        strategy.kind == "RollingUpdate" && surge.is_some_and(|surge| scaled(surge, 1) > 0)
    }

    /// Nodes that may be without an available pod, and nodes that may have two, for so many nodes. Both are rounded up.
    fn bounds(&self, desired: usize) -> (usize, usize) {
        let default = RollingUpdateDaemonSet::default();
        let rolling = self.set.spec.update_strategy.rolling_update.as_ref();
        let rolling = rolling.unwrap_or(&default);
        let unavailable = rolling.max_unavailable.as_ref();
        let unavailable = unavailable.map_or(1, |bound| scaled(bound, desired));
        let surge = rolling.max_surge.as_ref();
        let surge = surge.map_or(0, |bound| scaled(bound, desired));
        if desired > 0 && unavailable == 0 && surge == 0 {
            // Nothing could ever move.
            return (1, 0);
        }
        (unavailable, surge)
    }

    pub(super) fn rolling_update(&self) -> Work {
        let wanted = self.nodes.iter().filter(|(_, decision)| decision.runs);
        let mut nodes: BTreeMap<&str, &[Arc<Pod>]> =
            wanted.map(|(name, _)| (&**name, &[][..])).collect();
        let desired = nodes.len();
        nodes.extend(
            self.pods
                .iter()
                .map(|(n, pods)| (n.as_str(), pods.as_slice())),
        );
        let (max_unavailable, max_surge) = self.bounds(desired);
        if max_surge == 0 {
            self.replace(&nodes, max_unavailable)
        } else {
            self.surge(&nodes, desired, max_surge)
        }
    }

    /// Deletes old pods; what is missing then is created by the next reconcile.
    fn replace(&self, nodes: &BTreeMap<&str, &[Arc<Pod>]>, max_unavailable: usize) -> Work {
        let mut unavailable = 0;
        let mut work = Work::default();
        let mut available_old = Vec::new();
        for pods in nodes.values() {
            match self.pair(pods) {
                Some((Some(new), None)) if self.is_available(new) => {}
                Some((None, Some(old))) if self.is_available(old) => {
                    available_old.push(old.clone());
                }
                Some((None, Some(old))) => {
                    unavailable += 1;
                    work.delete.push(old.clone());
                }
                _ => unavailable += 1,
            }
        }
        let budget = max_unavailable.saturating_sub(unavailable);
        work.delete.extend(available_old.into_iter().take(budget));
        work
    }

    /// Creates new pods beside old ones, and deletes the old ones that are not needed any more.
    fn surge(&self, nodes: &BTreeMap<&str, &[Arc<Pod>]>, desired: usize, max_surge: usize) -> Work {
        let (mut surging, mut available) = (0_usize, 0_usize);
        let mut work = Work::default();
        let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
        for (node, pods) in nodes {
            let Some((new, old)) = self.pair(pods) else {
                surging += 1;
                continue;
            };
            available += usize::from(old.or(new).is_some_and(|pod| self.is_available(pod)));
            let Some(old) = old else { continue };
            let runs = self.nodes.get(*node).is_some_and(|decision| decision.runs);
            match new {
                Some(new) if self.is_available(new) => work.delete.push(old.clone()),
                Some(_) => surging += 1,
                None => match (self.is_available(old), runs) {
                    (false, false) => work.delete.push(old.clone()),
                    (false, true) => work.create.push((*node).to_owned()),
                    (true, false) => misplaced.push(old.clone()),
                    (true, true) => candidates.push((*node).to_owned()),
                },
            }
        }
        // A pod of a node that is not wanted any more serves until enough others do.
        let spare = available.saturating_sub(desired);
        work.delete.extend(misplaced.into_iter().take(spare));
        let budget = max_surge.saturating_sub(surging);
        work.create.extend(candidates.into_iter().take(budget));
        work
    }

    /// The new and the old pod of a node; `None` while there are several of either.
    fn pair<'p>(&self, pods: &'p [Arc<Pod>]) -> Option<Pair<'p>> {
        let (mut new, mut old) = (None, None);
        for pod in pods.iter().filter(|pod| !pod.metadata.is_deleting()) {
            let place = if self.is_updated(pod) {
                &mut new
            } else {
                &mut old
            };
            if place.replace(pod).is_some() {
                return None;
            }
        }
        Some((new, old))
    }
}

fn scaled(bound: &IntOrString, total: usize) -> usize {
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    let number = bound.scaled(total, true).unwrap_or(0);
    usize::try_from(number).unwrap_or(0)
}

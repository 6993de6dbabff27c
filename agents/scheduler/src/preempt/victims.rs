//! Who has to leave one node so that the pod fits there.

use super::Candidate;
use super::budget::{Budget, split_by_budget};
use crate::config::Profile;
use crate::gang::Others;
use crate::object::Pod;
use crate::plugins::{Rejection, dynamic_resources};
use crate::schedule::Filters;
use crate::snapshot::{NodeInfo, Snapshot};
use agent_runtime::timestamp::Micros;
use std::cmp::Reverse;
use std::sync::Arc;

/// The smallest set found by taking all lower pods away and putting back, the most important first, what may stay.
/// Leaves `trial` as it was. `has_devices` says whether a node has those that the pod claims.
pub(super) fn select_victims(
    pod: &Pod,
    trial: &mut Snapshot,
    profile: &Profile,
    node: &str,
    budgets: &[Budget],
    others: &Others,
    has_devices: &dyn Fn(&NodeInfo) -> Result<(), Rejection>,
) -> Result<Candidate, Rejection> {
    let lower: Vec<Arc<Pod>> = trial
        .node(node)
        .map(|info| {
            info.pods
                .values()
                .filter(|other| other.priority < pod.priority && !others.spares(other, pod))
                .cloned()
                .collect()
        })
        .unwrap_or_default();
    if lower.is_empty() {
        return Err(Rejection::lasting(
            "No preemption victims found for incoming pod",
        ));
    }
    for victim in &lower {
        trial.remove_pod(&victim.uid);
    }
    let selected = fits(pod, trial, profile, node)
        .and_then(|()| trial.node(node).map_or(Ok(()), has_devices))
        .map(|()| reprieve(pod, trial, profile, node, lower.clone(), budgets));
    for victim in lower {
        if !trial.holds(&victim.uid) {
            trial.assume(victim, node);
        }
    }
    let (victims, violations) = selected?;
    Ok(Candidate {
        node: node.to_string(),
        victims,
        violations,
    })
}

/// Whether the node takes the pod, not counting devices: no pod that leaves gives them back, and to look for them takes long.
pub(crate) fn fits(
    pod: &Pod,
    trial: &Snapshot,
    profile: &Profile,
    node: &str,
) -> Result<(), Rejection> {
    let filters = Filters::prepare_all_but(dynamic_resources::NAME, pod, trial, profile);
    if let Some((_, rejection)) = filters.reject_all {
        return Err(rejection);
    }
    match trial.node(node) {
        Some(info) => filters.check(info).map_err(|(_, rejection)| rejection),
        None => Err(Rejection::lasting(
            "Preemption is not helpful for scheduling",
        )),
    }
}

/// Those of `lower` that must go, the most important first, and how many of them a budget would protect.
fn reprieve(
    pod: &Pod,
    trial: &mut Snapshot,
    profile: &Profile,
    node: &str,
    mut lower: Vec<Arc<Pod>>,
    budgets: &[Budget],
) -> (Vec<Arc<Pod>>, usize) {
    lower.sort_by_cached_key(|other| importance(other));
    let (protected, free) = split_by_budget(lower, budgets);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (others, protected) in [(protected, true), (free, false)] {
        for other in others {
            trial.assume(other.clone(), node);
            if fits(pod, trial, profile, node).is_err() {
                trial.remove_pod(&other.uid);
                violations += usize::from(protected);
                victims.push(other);
            }
        }
    }
    victims.sort_by_cached_key(|other| importance(other));
    (victims, violations)
}

/// Those that a budget protects, and then the others, the most important first.
pub(crate) fn in_order_of_reprieve(mut pods: Vec<Arc<Pod>>, budgets: &[Budget]) -> Vec<Arc<Pod>> {
    pods.sort_by_cached_key(|other| importance(other));
    let (mut protected, free) = split_by_budget(pods, budgets);
    protected.extend(free);
    protected
}

/// Sorts the most important first: higher priority, then started earlier.
fn importance(pod: &Pod) -> (Reverse<i32>, Micros) {
    (Reverse(pod.priority), pod.running_since())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{card_class, cards, claim, devices, using};
    use crate::plan::Plan;
    use crate::plugins::testing::{node, pod, snapshot};
    use serde_json::json;

    #[test]
    fn a_pod_that_was_promised_its_devices_fits_where_they_are() {
        let asking = pod(using(&["c"]));
        let mut cluster = snapshot(vec![node("a", json!({}), json!({}))], vec![]);
        let objects = [claim("c"), card_class(), cards("a", &["x"])];
        cluster.devices = Arc::new(devices(&objects));
        let profile = Profile::default();
        let plan = Plan::of(&cluster, &asking, "a", &profile);
        plan.assume(&mut cluster, "a");
        assert!(cluster.devices.is_promised("uid-c"));
        assert_eq!(fits(&asking, &cluster, &profile, "a"), Ok(()));
    }
}

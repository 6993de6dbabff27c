//! Whether a pod that is there may have other amounts than it was taken with, and who comes first of those that wait. Pure.
//!
//! As a kubelet decides, with its texts: what the node could not give to anybody is infeasible, what others have is waited for.

use std::cmp::Reverse;

use serde_json::Value;

use super::preempt::Rank;
use super::share::{Share, Used};
use super::site::Site;
use super::{Short, shortages};

/// What becomes of a resize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Fits,
    /// Others have what it takes.
    Deferred(String),
    /// The node does not have it.
    Infeasible(String),
}

/// Whether a pod may have this share on a node of which the others use so much.
pub(crate) fn decide(site: &Site, used: &Used, share: &Share) -> Outcome {
    let mut lacking = ["memory", "cpu"].into_iter().filter_map(|resource| {
        let (requested, capacity) = (share.amounts.get(resource), site.room.get(resource));
        let text = format!("{resource}, requested: {requested}, capacity: {capacity}");
        (requested > capacity).then_some(text)
    });
    if let Some(lacking) = lacking.next() {
        return Outcome::Infeasible(format!("Node didn't have enough capacity: {lacking}"));
    }
    // It has its place among the pods already.
    let mut short = shortages(site, used, share).into_iter();
    match short
        .find(|short| short.resource != "pods")
        .as_ref()
        .map(Short::why)
    {
        None => Outcome::Fits,
        Some((_, message)) => Outcome::Deferred(message),
    }
}

/// In this order pods that wait get what they ask for: first those that ask for no more than they have, then the more important
/// ones, by their class, and those that wait for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    grows: bool,
    priority: Reverse<i64>,
    class: u8,
    turn: u64,
}

impl Order {
    /// Of a pod that has this share.
    pub(super) fn of(pod: &Value, has: &Share, turn: u64) -> Order {
        Order::among(Rank::of(pod), has, &Share::asked(pod), turn)
    }

    /// Of a pod that has one share and asks for another. `turn` is the lower the longer it waits.
    pub(crate) fn among(rank: Rank, has: &Share, asks: &Share, turn: u64) -> Order {
        let grows = |resource| asks.amounts.get(resource) > has.amounts.get(resource);
        let (priority, class) = rank.turn();
        Order {
            grows: ["cpu", "memory"].into_iter().any(grows),
            priority,
            class,
            turn,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::Admitted;
    use super::*;

    fn site() -> Site {
        Site::of(&json!({"status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "3"}}}))
    }

    /// A pod that was given the first and asks for the second.
    fn pod(uid: &str, priority: i64, given: &str, asked: &str) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"uid": uid},
            "spec": {"priority": priority, "containers": [
                {"name": "c", "resources": {"requests": {"cpu": asked}}}]},
            "status": {"startTime": "2026-01-01T00:00:00Z", "qosClass": "Burstable",
                       "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": given}}]},
        }))
    }

    #[test]
    fn what_the_node_lacks_is_infeasible_and_what_others_have_is_waited_for() {
        let other = pod("b", 0, "2", "2");
        let cases = [
            ("2", Outcome::Fits),
            (
                "3",
                Outcome::Deferred(
                    "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000".into(),
                ),
            ),
            (
                "5",
                Outcome::Infeasible(
                    "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000".into(),
                ),
            ),
        ];
        for (asked, expected) in cases {
            let a = pod("a", 0, "1", asked);
            let mut admitted = Admitted::default();
            let outcome = admitted.resize(&site(), &a, &[a.clone(), other.clone()]);
            assert_eq!(outcome, expected, "{asked}");
        }
    }

    #[test]
    fn what_was_given_is_given_once() {
        let present = [pod("a", 0, "1", "3"), pod("b", 0, "1", "3")];
        let mut admitted = Admitted::default();
        assert_eq!(
            admitted.resize(&site(), &present[0], &present),
            Outcome::Fits
        );
        let second = admitted.resize(&site(), &present[1], &present);
        assert!(matches!(second, Outcome::Deferred(_)));
        assert_eq!(admitted.deferred(), ["b"]);
    }

    #[test]
    fn room_goes_to_the_more_important_first_and_shrinking_before_all() {
        let (a, b) = (pod("a", 0, "1", "2"), pod("b", 9, "1", "2"));
        let hog = |has: &str| pod("c", 0, "2", has);
        let mut admitted = Admitted::default();
        for (one, other) in [(&a, &b), (&b, &a)] {
            let present = [one.clone(), other.clone(), hog("2")];
            let told = admitted.resize(&site(), one, &present);
            assert!(matches!(told, Outcome::Deferred(_)));
        }
        let present = [a.clone(), b.clone(), hog("1")];
        assert_eq!(
            admitted.resize(&site(), &present[2], &present),
            Outcome::Fits
        );
        assert_eq!(admitted.deferred(), ["a", "b"]);
        assert_eq!(admitted.resize(&site(), &b, &present), Outcome::Fits);
        assert_eq!(admitted.deferred(), ["a"]);
        let told = admitted.resize(&site(), &a, &present);
        assert!(matches!(told, Outcome::Deferred(_)));
        admitted.forget("b");
        let told = admitted.resize(&site(), &a, &[a.clone(), present[2].clone()]);
        assert_eq!(told, Outcome::Fits);
    }
}

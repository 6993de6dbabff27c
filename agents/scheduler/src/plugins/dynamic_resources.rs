//! DynamicResources: the pod goes where its claims have their devices, or can get them. What they get is found in
//! [`crate::devices`]; it is written before the pod is bound.

use super::change::gives_back;
use super::{
    Args, Change, ChangeKind, DeviceChange, Filter, Gate, Near, Prepared, Reads, Rejection, Score,
    Scores, Values,
};
use crate::config::Profile;
use crate::devices::claim::DeviceClaim;
use crate::devices::wanted::{NOT_AVAILABLE, Wanted, missing};
use crate::object::Pod;
use crate::schedule::Diagnosis;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name as in Kubernetes.
pub(crate) const NAME: &str = "DynamicResources";

/// Waits outside the queue while a claim is not there yet: somebody makes it, and nobody need hear of it.
pub(super) const GATE: Gate = Gate {
    name: NAME,
    closed: |_| None,
    waits: missing,
};

pub(super) const FILTER: Filter = Filter {
    name: NAME,
    reads: Reads::Claims,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
        (ChangeKind::DeviceClass, Near::Anywhere),
        (ChangeKind::DeviceOffer, Near::Anywhere),
        (ChangeKind::DevicesFreed, Near::Anywhere),
        (ChangeKind::DeviceClaim, Near::Claim),
    ],
    wakes_on,
};

pub(super) const SCORE: Score = Score {
    name: NAME,
    weight: 2,
    values: Values::Anything,
    score,
};

/// What is said where an idle claim is made to give its devices back, where there is none, and where no claim could be looked
/// at.
const GIVES_BACK: &str = "deallocation of ResourceClaim completed";
const NOTHING_TO_GIVE_BACK: &str = "still not schedulable";
const NOTHING_TO_LOOK_AT: &str = "no new claims to deallocate";
/// What is said where a claim for extended resources is left over from an earlier attempt, and is deleted.
pub(crate) const DELETES: &str = "deletion of ResourceClaim completed";

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    let wanted = match Wanted::of(pod, &snapshot.devices, &snapshot.effort) {
        Err(words) => return Prepared::RejectAll(lasting(words)),
        Ok(None) => return Prepared::Pass,
        Ok(Some(wanted)) => wanted,
    };
    Prepared::Each(Box::new(move |info: &NodeInfo| match &info.node {
        Some(node) => wanted.check(node).map_err(lasting),
        None => Ok(()),
    }))
}

/// No pod that leaves helps: devices are given back when claims are.
fn lasting(words: String) -> Rejection {
    Rejection {
        reasons: vec![words.into()],
        resolvable: false,
    }
}

/// Earlier alternatives of requests are better. Nodes without a choice say nothing.
fn score(pod: &Pod, snapshot: &Snapshot, _: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let wanted = Wanted::of(pod, &snapshot.devices, &snapshot.effort)
        .ok()
        .flatten()?;
    if !wanted.has_choices() {
        return None;
    }
    let of = |info: &&NodeInfo| info.node.as_ref().map_or(0, |node| wanted.score(node));
    Some(Scores::scaled(nodes.iter().map(of).collect(), false))
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::NodeAdded(_) => true,
        Change::NodeUpdated { old, new } => {
            // What a node begins to have itself, it need not have devices for.
            let has_more = old.allocatable != new.allocatable || old.pods_max != new.pods_max;
            old.labels != new.labels || (!pod.extended.is_empty() && has_more)
        }
        Change::Devices(DeviceChange::Class(_) | DeviceChange::Offer | DeviceChange::Freed) => true,
        Change::Devices(DeviceChange::Claim { old, new }) => match old.as_deref() {
            old if gives_back(old, new) => true,
            Some(old) => names(pod, new) && !is_same(old, new),
            None => names(pod, new),
        },
        _ => false,
    }
}

/// Whether the pod may mean this claim.
pub(crate) fn names(pod: &Pod, claim: &DeviceClaim) -> bool {
    let mut named = pod.device_claims();
    pod.namespace == claim.namespace && named.any(|name| name == claim.name)
}

/// Whether nothing has happened to the claim that pods could notice: drivers may write to it as they like.
fn is_same(old: &DeviceClaim, new: &DeviceClaim) -> bool {
    let of = |claim: &DeviceClaim| {
        let DeviceClaim {
            uid,
            controller_uid,
            deleting,
            ..
        } = claim;
        (uid.clone(), controller_uid.clone(), *deleting)
    };
    of(old) == of(new)
        && old.allocation == new.allocation
        && old.readiness == new.readiness
        && old.reserved_for == new.reserved_for
}

/// The claims that keep the pod from nodes, since what they have cannot be reached from there, and that nobody else uses:
/// one of them might as well give it back. With what is said of it; `None` for pods of which nothing is said.
pub(crate) fn idle_claims(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
    diagnosis: &Diagnosis,
) -> Option<(Vec<Arc<DeviceClaim>>, &'static str)> {
    let wants_none = pod.resource_claims.is_empty() && !snapshot.devices.are_behind(pod);
    if wants_none || !profile.deallocates || diagnosis.nodes == 0 {
        return None;
    }
    let Some(wanted) = Wanted::of(pod, &snapshot.devices, &snapshot.effort)
        .ok()
        .flatten()
    else {
        return Some((Vec::new(), NOTHING_TO_LOOK_AT));
    };
    let mut idle: BTreeMap<&str, &Arc<DeviceClaim>> = BTreeMap::new();
    for (name, rejection) in &diagnosis.rejected {
        if !rejection
            .reasons
            .iter()
            .any(|reason| reason == NOT_AVAILABLE)
        {
            continue;
        }
        if let Some(node) = snapshot.node(name).and_then(|info| info.node.as_ref()) {
            let unavailable = wanted.unavailable(&node.name, &node.labels);
            idle.extend(unavailable.map(|claim| (claim.name.as_str(), claim)));
        }
    }
    let idle = idle.into_values().cloned();
    let idle = idle.filter(|claim| claim.is_idle_but_for(&pod.uid));
    let idle: Vec<Arc<DeviceClaim>> = idle.collect();
    let words = match idle.is_empty() {
        true => NOTHING_TO_GIVE_BACK,
        false => GIVES_BACK,
    };
    Some((idle, words))
}

/// The claim for extended resources that an earlier attempt has left, where the profile cleans up.
pub(crate) fn left_over(
    pod: &Pod,
    snapshot: &Snapshot,
    profile: &Profile,
) -> Option<Arc<DeviceClaim>> {
    let devices = &snapshot.devices;
    let refused = profile.deallocates && devices.are_behind(pod);
    refused
        .then(|| devices.made_for(&pod.uid).cloned())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores, snapshot, verdict};
    use super::*;
    use crate::devices::testing::{
        allocated, card_class, cards, claim, conditional, devices, using,
    };
    use crate::schedule::{Decision, schedule};
    use serde_json::{Value, json};

    fn cluster(objects: &[Value]) -> Snapshot {
        let host = |name: &str| node(name, json!({}), json!({}));
        let mut cluster = snapshot(vec![host("a"), host("b")], vec![]);
        cluster.devices = Arc::new(devices(objects));
        cluster
    }

    fn refused(pod: &Pod, cluster: &Snapshot) -> Diagnosis {
        match schedule(pod, cluster, &Profile::default(), 0, &mut |_| 0) {
            Decision::Unschedulable(diagnosis) => diagnosis,
            bound => panic!("{bound:?}"),
        }
    }

    fn message(spec: Value, objects: &[Value]) -> String {
        refused(&pod(spec), &cluster(objects)).message(None)
    }

    #[test]
    fn the_pod_goes_where_its_devices_are() {
        let cluster = cluster(&[claim("c"), card_class(), cards("b", &["x"])]);
        let asking = pod(using(&["c"]));
        let decision = schedule(&asking, &cluster, &Profile::default(), 0, &mut |_| 0);
        let Decision::Bind { node, feasible, .. } = decision else {
            panic!("{decision:?}");
        };
        assert_eq!((node.as_str(), feasible), ("b", 1));
        assert_eq!(verdict(&FILTER, &pod(json!({})), &cluster, "a"), None);
    }

    #[test]
    fn messages_are_those_of_kubernetes() {
        let offer = [card_class(), cards("a", &["x"])];
        assert_eq!(
            message(using(&["c"]), &[]),
            "0/2 nodes are available: could not find ResourceClaim \"default/c\"."
        );
        assert_eq!(
            message(using(&["c"]), &[claim("c")]),
            "0/2 nodes are available: request r: device class card does not exist."
        );
        assert_eq!(
            message(using(&["c"]), &[claim("c"), card_class()]),
            "0/2 nodes are available: 2 cannot allocate all claims."
        );
        let elsewhere = [allocated("c", "z", "x", &["q"]), offer[0].clone()];
        assert_eq!(
            message(using(&["c"]), &elsewhere),
            "0/2 nodes are available: 2 resourceclaim not available on the node."
        );
    }

    #[test]
    fn a_claim_over_which_one_could_brood_for_ever_does_not_hold_up_the_cluster() {
        let nodes: Vec<String> = (0..12).map(|n| format!("n{n:02}")).collect();
        let mut endless = claim("endless");
        endless["spec"]["devices"]["requests"][0]["exactly"]["count"] = json!(16);
        endless["spec"]["devices"]["constraints"] = json!([{"matchAttribute": "d/group"}]);
        let mut objects = vec![endless, claim("c"), card_class()];
        for node in &nodes {
            // Of no group there are sixteen, and no two devices of one are alike to the search.
            let names: Vec<String> = (0..60).map(|n| format!("d{n:02}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut slice = cards(node, &names);
            let devices = slice["spec"]["devices"].as_array_mut().unwrap();
            for (n, device) in devices.iter_mut().enumerate() {
                device["attributes"] = json!({"group": {"int": n / 15}});
            }
            objects.push(slice);
        }
        let hosts = nodes.iter().map(|name| node(name, json!({}), json!({})));
        let mut cluster = snapshot(hosts.collect(), vec![]);
        cluster.devices = Arc::new(devices(&objects));
        assert_eq!(
            refused(&pod(using(&["endless"])), &cluster).message(None),
            "0/12 nodes are available: 12 timed out trying to allocate devices."
        );
        // What is left of the decision is enough for what is simple, and for it to be reserved.
        let simple = pod(using(&["c"]));
        let decision = schedule(&simple, &cluster, &Profile::default(), 0, &mut |_| 0);
        let Decision::Bind { node, feasible, .. } = decision else {
            panic!("{decision:?}");
        };
        assert_eq!(feasible, 12);
        let plan = crate::plan::Plan::of(&cluster, &simple, &node, &Profile::default());
        assert!(plan.claims.steps[0].gets.is_some());
    }

    #[test]
    fn better_alternatives_draw() {
        let mut asking = claim("c");
        asking["spec"]["devices"]["requests"] = json!([{"name": "r", "firstAvailable": [
            {"name": "two", "deviceClassName": "card", "allocationMode": "ExactCount", "count": 2},
            {"name": "one", "deviceClassName": "card", "allocationMode": "ExactCount", "count": 1}]}]);
        let offer = [
            asking,
            card_class(),
            cards("a", &["x"]),
            cards("b", &["y", "z"]),
        ];
        let cluster = cluster(&offer);
        let values = scores(&SCORE, &pod(using(&["c"])), &cluster);
        assert_eq!(values, Some(vec![87, 100]));
        assert_eq!(scores(&SCORE, &pod(json!({})), &cluster), None);
    }

    #[test]
    fn what_may_help_wakes_and_what_cannot_does_not() {
        let asking = pod(using(&["c"]));
        let wakes = |old: Option<Value>, new: Value| {
            let compiled = |object: &Value| Arc::new(DeviceClaim::compile(object));
            let change = DeviceChange::Claim {
                old: old.as_ref().map(compiled),
                new: compiled(&new),
            };
            wakes_on(&asking, &Change::Devices(change), &Args::default())
        };
        assert!(wakes(None, claim("c")) && !wakes(None, claim("d")));
        let others = allocated("d", "a", "x", &[]);
        assert!(
            wakes(Some(others.clone()), claim("d")),
            "somebody's device is free"
        );
        assert!(!wakes(Some(claim("d")), others));
        let mine = allocated("c", "a", "x", &[]);
        assert!(wakes(Some(claim("c")), mine.clone()));
        let mut labelled = mine.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert!(!wakes(Some(mine), labelled));
        let class = DeviceChange::Class(Arc::default());
        for change in [class, DeviceChange::Offer, DeviceChange::Freed] {
            assert!(wakes_on(
                &asking,
                &Change::Devices(change),
                &Args::default()
            ));
        }
        assert!(!wakes_on(&asking, &Change::NodeRemoved, &Args::default()));
    }

    #[test]
    fn a_node_that_takes_more_pods_wakes_those_that_may_get_devices_there() {
        let host = |pods: i64| {
            let mut node = node("n", json!({}), json!({}));
            node.pods_max = pods;
            Arc::new(node)
        };
        let wakes = |requests: Value| {
            let asking = pod(json!({"containers": [{"resources": {"requests": requests}}]}));
            let (old, new) = (host(1), host(2));
            wakes_on(&asking, &Change::NodeUpdated { old, new }, &Args::default())
        };
        assert!(wakes(json!({"example.com/gpu": "1"})));
        assert!(!wakes(json!({"cpu": "1"})));
    }

    #[test]
    fn a_claim_that_nobody_uses_gives_back_what_cannot_be_reached() {
        let idle = |objects: &[Value]| {
            let cluster = cluster(objects);
            let asking = pod(using(&["c", "d"]));
            let (profile, diagnosis) = (Profile::default(), refused(&asking, &cluster));
            let (claims, words) = idle_claims(&asking, &cluster, &profile, &diagnosis).unwrap();
            let names = claims.iter().map(|claim| claim.name.as_str());
            (names.collect::<Vec<_>>().join(" "), words)
        };
        let elsewhere = |name: &str, by: &[&str]| allocated(name, "z", "x", by);
        let here = allocated("d", "a", "y", &[]);
        let both = ("c d".to_owned(), GIVES_BACK);
        assert_eq!(idle(&[elsewhere("c", &[]), here.clone()]), both);
        assert_eq!(idle(&[elsewhere("c", &["p"]), here.clone()]), both);
        let one = ("d".to_owned(), GIVES_BACK);
        assert_eq!(idle(&[elsewhere("c", &["q"]), here.clone()]), one);
        let used = [elsewhere("c", &["q"]), elsewhere("d", &["q"])];
        assert_eq!(idle(&used), (String::new(), NOTHING_TO_GIVE_BACK));
        assert_eq!(idle(&[here]), (String::new(), NOTHING_TO_LOOK_AT));
    }
    #[test]
    fn a_claim_whose_devices_cannot_be_made_ready_gives_them_back() {
        let of =
            |told: &[(&str, &str)], by: &[&str]| conditional(allocated("c", "a", "x", by), told);
        let asking = pod(using(&["c"]));
        let decide = |claim: Value| {
            let cluster = cluster(&[claim]);
            schedule(&asking, &cluster, &Profile::default(), 0, &mut |_| 0)
        };
        let fine = decide(of(&[], &["p"]));
        assert!(matches!(fine, Decision::Bind { .. }), "it is waited for");
        let lost = [("lost", "True")];
        for (by, words) in [(["p"], GIVES_BACK), (["q"], NOTHING_TO_GIVE_BACK)] {
            let cluster = cluster(&[of(&lost, &by)]);
            let diagnosis = refused(&asking, &cluster);
            assert_eq!(
                diagnosis.message(None),
                "0/2 nodes are available: 2 resourceclaim not available on the node."
            );
            let told = idle_claims(&asking, &cluster, &Profile::default(), &diagnosis);
            assert_eq!(told.unwrap().1, words);
        }
    }
}

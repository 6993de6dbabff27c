//! The claims of one pod: whether it can be decided about them at all, and what they get on a node.

use super::allocate::{Allotted, Offer, Refusal, Work, allocate};
use super::claim::{ClaimSource, DeviceClaim, PodClaim, RESERVED_MAX};
use super::effort::{Effort, NODE_STEPS};
use super::extended::{Extended, SpecialClaim};
use super::slice::DeviceId;
use super::{ClaimPlan, ClaimStep, Devices};
use crate::object::{Node, Pod};
use crate::selector::Labels;
use std::borrow::Cow;
use std::sync::Arc;

/// A claim has devices that cannot be reached from the node, or that could not be made ready.
pub const NOT_AVAILABLE: &str = "resourceclaim not available on the node";

/// Why the pod cannot be decided about yet, in words: one of its claims is not there, or is not for it.
pub fn missing(pod: &Pod, devices: &Devices) -> Option<String> {
    let mut claims = pod.resource_claims.iter();
    claims.find_map(|claim| find(pod, claim, devices).err())
}

/// The claim, if one is needed.
fn find<'a>(
    pod: &Pod,
    claim: &PodClaim,
    devices: &'a Devices,
) -> Result<Option<&'a Arc<DeviceClaim>>, String> {
    let Pod {
        namespace, name, ..
    } = pod;
    let (wanted, made) = match &claim.source {
        ClaimSource::Needless => return Ok(None),
        ClaimSource::Named(wanted) => (wanted, false),
        ClaimSource::Made(Some(wanted)) => (wanted, true),
        ClaimSource::Made(None) => {
            return Err(format!(
                "pod \"{namespace}/{name}\": ResourceClaim not created yet"
            ));
        }
        ClaimSource::Unknown => {
            let claim = &claim.name;
            return Err(format!(
                "pod \"{namespace}/{name}\", spec.resourceClaim {claim:?}: none of the supported fields are set"
            ));
        }
    };
    let Some(found) = devices.claim(namespace, wanted) else {
        return Err(format!(
            "could not find ResourceClaim \"{namespace}/{wanted}\""
        ));
    };
    if found.deleting {
        return Err(format!("resourceclaim {wanted:?} is being deleted"));
    }
    if made && found.controller_uid.as_ref() != Some(&pod.uid) {
        return Err(format!(
            "ResourceClaim {namespace}/{wanted} was not created for pod {namespace}/{name} (pod is not owner)"
        ));
    }
    Ok(Some(found))
}

/// The claims of a pod, sorted out once a decision.
pub struct Wanted<'a> {
    devices: &'a Devices,
    claims: Vec<&'a Arc<DeviceClaim>>,
    extended: Option<Extended<'a>>,
    effort: Effort,
}

impl<'a> Wanted<'a> {
    /// `None` for a pod without claims, which asks for no resource that devices stand for either; an error in words when no node
    /// can do.
    pub fn of(
        pod: &'a Pod,
        devices: &'a Devices,
        effort: &Effort,
    ) -> Result<Option<Wanted<'a>>, String> {
        let extended = Extended::of(pod, devices)?;
        if pod.resource_claims.is_empty() && extended.is_none() {
            return Ok(None);
        }
        let mut claims = Vec::with_capacity(pod.resource_claims.len());
        for claim in &pod.resource_claims {
            let found = find(pod, claim, devices)?;
            claims.extend(found.map(|claim| {
                let shared = devices.promised.shared_claim(&claim.uid);
                shared.unwrap_or(claim)
            }));
        }
        for claim in &claims {
            match claim.allocation {
                Some(_) => may_be_used(claim, &pod.uid, devices)?,
                None => may_be_allocated(claim, devices)?,
            }
        }
        let wanted = Wanted {
            devices,
            claims,
            extended,
            effort: effort.clone(),
        };
        let any = !wanted.claims.is_empty() || wanted.extended.is_some();
        Ok(any.then_some(wanted))
    }

    fn open(&self) -> impl Iterator<Item = &'a DeviceClaim> {
        let claims = self.claims.iter().map(|claim| &***claim);
        claims.filter(|claim| claim.allocation.is_none())
    }

    /// What those get on the node that have nothing yet, as long as the decision may take.
    pub fn allot(&self, node: &Node) -> Result<Vec<Allotted>, Refusal> {
        let work = Work::new(self.effort.for_node());
        let special = self.special(node);
        let allotted = self.allot_within(node, special.as_deref(), &work);
        self.effort.spend(work.done());
        allotted
    }

    /// The claim for the extended resources that the node does not have itself.
    fn special(&self, node: &Node) -> Option<Cow<'_, SpecialClaim>> {
        self.extended.as_ref()?.claim_on(node)
    }

    fn allot_within(
        &self,
        node: &Node,
        special: Option<&SpecialClaim>,
        work: &Work,
    ) -> Result<Vec<Allotted>, Refusal> {
        let Node { name, labels, .. } = node;
        let mut open: Vec<&DeviceClaim> = Vec::new();
        for claim in self.open() {
            // A claim that the pod names twice gets devices once.
            if !open.iter().any(|other| other.uid == claim.uid) {
                open.push(claim);
            }
        }
        open.extend(special.map(|special| &*special.claim));
        if open.is_empty() {
            return Ok(Vec::new());
        }
        if !work.spend(self.devices.pools.looks_at(name)) {
            return Err(Refusal::TooLong);
        }
        let in_use = |id: &DeviceId| self.devices.is_taken(id);
        let offer = Offer {
            node: name,
            labels,
            pools: self.devices.pools_at(name, labels),
            classes: &self.devices.classes,
            in_use: &in_use,
            shares: &self.devices.taken.shares,
        };
        allocate(&open, &offer, work)
    }

    /// Those with devices that cannot be reached from the node, or not made ready at all.
    pub fn unavailable(
        &self,
        node: &str,
        labels: &Labels,
    ) -> impl Iterator<Item = &'a Arc<DeviceClaim>> {
        let elsewhere = |claim: &Arc<DeviceClaim>| {
            let nodes = claim.allocation.as_ref().and_then(|a| a.nodes.as_ref());
            nodes.is_some_and(|terms| !terms.iter().any(|term| term.matches(node, labels)))
        };
        let claims = self.claims.iter().copied();
        claims.filter(move |claim| elsewhere(claim) || self.devices.is_hopeless(claim))
    }

    /// Whether the node does; the error is in the words of the event.
    pub fn check(&self, node: &Node) -> Result<(), String> {
        let allotted = self.allot(node);
        allotted.map_err(|refusal| refusal.words())?;
        match self.unavailable(&node.name, &node.labels).next() {
            Some(_) => Err(NOT_AVAILABLE.into()),
            None => Ok(()),
        }
    }

    /// How good the alternatives are that the node would give; higher is better.
    pub fn score(&self, node: &Node) -> i64 {
        let allotted = self.allot(node).unwrap_or_default();
        allotted.iter().map(|allotted| allotted.score).sum()
    }

    /// Whether there is anything to choose from.
    pub fn has_choices(&self) -> bool {
        let mut requests = self.open().flat_map(|claim| &claim.spec.requests);
        requests.any(|request| request.is_choice)
    }

    /// What has to be written before the pod can be bound to a node that was found to do. Claims that know the pod already are in
    /// it, too: an earlier attempt may just be taking that back. It costs what it cost to find the node, which was no more
    /// than a node may; so what is left of the decision does not matter.
    pub fn plan(&self, node: &Node) -> ClaimPlan {
        let work = Work::new(NODE_STEPS);
        let special = self.special(node).map(Cow::into_owned);
        let allotted = self.allot_within(node, special.as_ref(), &work);
        let allotted = allotted.unwrap_or_default();
        let mut allotted = allotted.into_iter();
        let mut steps: Vec<ClaimStep> = Vec::new();
        let made = special.as_ref().map(|special| &special.claim);
        for claim in self.claims.iter().copied().chain(made) {
            if steps.iter().any(|step| step.claim.uid == claim.uid) {
                continue;
            }
            if let Some(step) = self.devices.promised.shared_step(&claim.uid) {
                steps.push(step.clone());
                continue;
            }
            let gets = match claim.allocation {
                Some(_) => None,
                None => allotted.next().map(|a| a.with_shares(host::random)),
            };
            steps.push(ClaimStep {
                claim: claim.clone(),
                gets,
            });
        }
        ClaimPlan { steps, special }
    }
}

fn may_be_used(claim: &DeviceClaim, uid: &str, devices: &Devices) -> Result<(), String> {
    let to_come = devices.promised.pods_of(&claim.uid);
    let full = claim.reserved_for.len() + to_come >= RESERVED_MAX;
    match full && !claim.is_reserved_for(uid) {
        true => Err("resourceclaim in use".into()),
        false => Ok(()),
    }
}

fn may_be_allocated(claim: &DeviceClaim, devices: &Devices) -> Result<(), String> {
    let full_name = claim.full_name();
    if devices.is_promised(&claim.uid) {
        return Err(format!(
            "resource claim {full_name} is in the process of being allocated"
        ));
    }
    for request in &claim.spec.requests {
        if request.asks.is_empty() {
            let name = &request.name;
            return Err(format!(
                "resource claim {full_name}, request {name}: unknown request type"
            ));
        }
        for ask in &request.asks {
            let (name, class) = (&ask.full_name, &ask.class);
            if class.is_empty() {
                return Err(format!("request {name}: unsupported request type"));
            }
            if !devices.classes.contains_key(class) {
                return Err(format!(
                    "request {name}: device class {class} does not exist"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{allocated, card_class, cards, claim, devices, using};
    use super::*;
    use crate::plugins::testing::{node, pod};
    use serde_json::{Value, json};

    fn words(spec: Value, objects: &[Value]) -> String {
        let known = devices(objects);
        let pod = pod(spec);
        let error = Wanted::of(&pod, &known, &Effort::default())
            .err()
            .unwrap_or_default();
        assert!(missing(&pod, &known).is_none_or(|words| words == error));
        error
    }

    #[test]
    fn a_pod_waits_for_claims_that_are_there_and_for_it() {
        assert_eq!(words(json!({}), &[]), "");
        assert_eq!(
            words(using(&["c"]), &[]),
            "could not find ResourceClaim \"default/c\""
        );
        let mut leaving = claim("c");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            words(using(&["c"]), &[leaving]),
            "resourceclaim \"c\" is being deleted"
        );
        let mut nothing = using(&["c"]);
        nothing["resourceClaims"] = json!([{"name": "x"}]);
        assert_eq!(
            words(nothing, &[]),
            "pod \"default/p\", spec.resourceClaim \"x\": none of the supported fields are set"
        );
    }

    #[test]
    fn a_claim_from_a_template_is_found_by_the_status_and_belongs_to_the_pod() {
        let asking = |statuses: Value| {
            Pod::compile(
                &json!({"metadata": {"name": "p", "namespace": "default", "uid": "p"},
                "spec": {"resourceClaims": [{"name": "x", "resourceClaimTemplateName": "t"}]},
                "status": {"resourceClaimStatuses": statuses}}),
            )
        };
        let words = |statuses: Value, objects: &[Value]| {
            let known = devices(objects);
            Wanted::of(&asking(statuses), &known, &Effort::default())
                .err()
                .unwrap_or_default()
        };
        assert_eq!(
            words(json!([]), &[]),
            "pod \"default/p\": ResourceClaim not created yet"
        );
        assert_eq!(words(json!([{"name": "x"}]), &[]), "", "none is needed");
        let made = json!([{"name": "x", "resourceClaimName": "c"}]);
        assert_eq!(
            words(made.clone(), &[claim("c")]),
            "ResourceClaim default/c was not created for pod default/p (pod is not owner)"
        );
        let mut own = claim("c");
        own["metadata"]["ownerReferences"] = json!([{"uid": "p", "controller": true}]);
        assert_eq!(words(made, &[own, card_class()]), "");
    }

    #[test]
    fn what_keeps_a_claim_from_being_allocated_or_used() {
        assert_eq!(
            words(using(&["c"]), &[claim("c")]),
            "request r: device class card does not exist"
        );
        let users: Vec<String> = (0..RESERVED_MAX).map(|n| n.to_string()).collect();
        let mut users: Vec<&str> = users.iter().map(String::as_str).collect();
        let full = allocated("c", "n", "a", &users);
        assert_eq!(words(using(&["c"]), &[full]), "resourceclaim in use");
        users[7] = "p";
        let mine = allocated("c", "n", "a", &users);
        assert_eq!(words(using(&["c"]), &[mine]), "");
        let mut known = devices(&[claim("c"), card_class(), cards("n", &["a"])]);
        let first = pod(using(&["c"]));
        let here = node("n", json!({}), json!({}));
        let plan = Wanted::of(&first, &known, &Effort::default())
            .unwrap()
            .unwrap()
            .plan(&here);
        known.promise(&plan);
        assert_eq!(
            Wanted::of(&first, &known, &Effort::default())
                .err()
                .unwrap(),
            "resource claim default/c is in the process of being allocated"
        );
    }

    #[test]
    fn a_node_does_if_it_has_what_is_asked_for_and_reaches_what_is_there() {
        let objects = [
            claim("new"),
            allocated("old", "n", "a", &[]),
            card_class(),
            cards("n", &["a"]),
            cards("m", &["a", "b"]),
        ];
        let known = devices(&objects);
        let check = |claims: &[&str], name: &str| {
            let pod = pod(using(claims));
            let here = node(name, json!({}), json!({}));
            let wanted = Wanted::of(&pod, &known, &Effort::default())
                .unwrap()
                .unwrap();
            wanted.check(&here).err().unwrap_or_default()
        };
        assert_eq!(check(&["new"], "n"), "cannot allocate all claims");
        assert_eq!(check(&["new"], "m"), "");
        assert_eq!(check(&["old"], "n"), "");
        assert_eq!(check(&["old"], "m"), NOT_AVAILABLE);
        assert_eq!(check(&["new", "old"], "n"), "cannot allocate all claims");
        assert_eq!(check(&["new", "old"], "m"), NOT_AVAILABLE);
    }

    #[test]
    fn a_claim_that_is_named_twice_is_written_once() {
        let known = devices(&[claim("c"), card_class(), cards("n", &["a", "b"])]);
        let mut spec = using(&["c", "c"]);
        spec["resourceClaims"][1]["name"] = json!("again");
        let pod = pod(spec);
        let here = node("n", json!({}), json!({}));
        let plan = Wanted::of(&pod, &known, &Effort::default())
            .unwrap()
            .unwrap()
            .plan(&here);
        assert_eq!(plan.steps.len(), 1);
        let (_, allocation) = plan.steps[0].gets.as_ref().unwrap();
        assert_eq!(allocation.devices.len(), 1);
    }

    #[test]
    fn claims_that_have_devices_are_only_told_of_the_pod() {
        let known = devices(&[
            allocated("mine", "n", "a", &["p"]),
            allocated("shared", "n", "b", &["q"]),
        ]);
        let pod = pod(using(&["mine", "shared"]));
        let here = node("n", json!({}), json!({}));
        let plan = Wanted::of(&pod, &known, &Effort::default())
            .unwrap()
            .unwrap()
            .plan(&here);
        let steps = plan.steps.iter();
        let steps: Vec<_> = steps.map(|s| (&*s.claim.name, s.gets.is_some())).collect();
        assert_eq!(steps, [("mine", false), ("shared", false)]);
    }
}

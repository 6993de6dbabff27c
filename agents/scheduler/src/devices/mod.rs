//! Devices as the scheduler sees them: what drivers offer, what claims have, and over it what was decided and not yet
//! written.
//!
//! What a decision gives to a claim is *promised* until the API shows it, or the next decision would give the same devices
//! away again. A claim that was written is as it was written until the watch shows that state or a newer one.

pub mod allocate;
pub mod capacity;
pub mod claim;
pub mod effort;
pub mod extended;
pub mod pool;
mod promised;
pub mod readiness;
pub mod selector;
pub mod slice;
mod taken;
pub mod wanted;

use claim::{Allocation, DeviceClaim, DeviceClass};
use extended::SpecialClaim;
use pool::{Pool, Pools};
use promised::Promised;
use readiness::Readiness;
use serde_json::Value;
use slice::{DeviceId, PoolId, Slice};
use std::collections::BTreeMap;
use std::sync::Arc;
use taken::Taken;

/// Namespace and name.
type Name = (String, String);

/// What is to be written about one claim before its pod can be bound.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimStep {
    /// As it was decided about.
    pub claim: Arc<DeviceClaim>,
    /// What it gets; absent for one that has devices already, and is only to know of its new user.
    pub gets: Option<(Value, Allocation)>,
}

/// What is to be written about the claims of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClaimPlan {
    /// In the order of the pod.
    pub steps: Vec<ClaimStep>,
    /// What the last step is about, if that is a claim which is yet to be made.
    pub special: Option<SpecialClaim>,
}

impl ClaimPlan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// See the module head. Cloning shares the objects.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    claims: BTreeMap<Name, Arc<DeviceClaim>>,
    /// What we have written and the watch has not shown yet.
    written: BTreeMap<Name, Arc<DeviceClaim>>,
    promised: Promised,
    /// What claims have, or were promised.
    taken: Taken,
    /// What was not ready in time, by the uid of the claim that has it.
    given_up: BTreeMap<String, Allocation>,
    /// Classes by name.
    pub classes: BTreeMap<String, Arc<DeviceClass>>,
    /// Names of classes by that of the resource that their devices stand for.
    resources: BTreeMap<String, String>,
    /// Claims that were made for extended resources.
    made: extended::Made,
    slices: BTreeMap<String, Arc<Slice>>,
    pools: Pools,
}

impl Devices {
    /// A claim as it is.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<DeviceClaim>> {
        let key = (namespace.to_owned(), name.to_owned());
        let written = self.written.get(&key);
        written.or_else(|| self.claims.get(&key))
    }

    /// The API says that a claim is like this, or gone. Gives back what it was.
    pub fn set_claim(
        &mut self,
        key: Name,
        new: Option<Arc<DeviceClaim>>,
    ) -> Option<Arc<DeviceClaim>> {
        let old = self.claim(&key.0, &key.1).cloned();
        self.made.set(old.as_deref(), new.as_deref());
        let revision_now = new.as_ref().map(|claim| revision(claim));
        if self
            .written
            .get(&key)
            .is_some_and(|written| revision_now.is_none_or(|now| now >= revision(written)))
        {
            self.written.remove(&key);
        }
        match new {
            Some(claim) => drop(self.claims.insert(key.clone(), claim)),
            None => drop(self.claims.remove(&key)),
        }
        self.recount(&key, old.as_deref());
        old
    }

    /// We have written a claim, and this came of it. Gives back what it was.
    pub fn wrote(&mut self, claim: Arc<DeviceClaim>) -> Option<Arc<DeviceClaim>> {
        let key = claim.key();
        let old = self.claim(&key.0, &key.1).cloned()?;
        if revision(&old) >= revision(&claim) || old.uid != claim.uid {
            return None;
        }
        self.written.insert(key.clone(), claim);
        self.recount(&key, Some(&old));
        Some(old)
    }

    /// Counts what a claim has now in the place of what it had, or was promised: a promise that was kept counts no more.
    fn recount(&mut self, key: &Name, old: Option<&DeviceClaim>) {
        let new = self.claim(&key.0, &key.1).cloned();
        let had = |claim: Option<&DeviceClaim>| claim.and_then(|claim| claim.allocation.clone());
        let (before, now) = (had(old), had(new.as_deref()));
        if before == now {
            return;
        }
        if let Some(old) = old {
            self.given_up.remove(&old.uid);
        }
        now.iter().for_each(|a| self.taken.take(a));
        before.iter().for_each(|a| self.taken.give_back(a));
        if let (Some(new), Some(_)) = (new, now)
            && let Some(promised) = self.promised.keep(&extended::promised_as(&new))
        {
            self.taken.give_back(&promised);
        }
    }

    /// A class is now like this, or gone. Whether that is news.
    pub fn set_class(&mut self, name: &str, new: Option<Arc<DeviceClass>>) -> bool {
        let old = match &new {
            Some(class) => self.classes.insert(name.to_owned(), class.clone()),
            None => self.classes.remove(name),
        };
        self.resources = extended::classes_by_resource(&self.classes);
        old != new
    }

    /// A slice is now like this, or gone. Whether that is news.
    pub fn set_slice(&mut self, name: &str, new: Option<Arc<Slice>>) -> bool {
        let old = match &new {
            Some(slice) => self.slices.insert(name.to_owned(), slice.clone()),
            None => self.slices.remove(name),
        };
        if old == new {
            return false;
        }
        self.pools.set(old.as_ref(), new.as_ref());
        true
    }

    /// What was decided holds from now on.
    pub fn promise(&mut self, plan: &ClaimPlan) {
        for allocation in self.promised.add(plan) {
            self.taken.take(&allocation);
        }
    }

    /// It was written, or will not be. Whether nobody is promised any of it any more.
    pub fn settle(&mut self, plan: &ClaimPlan) -> bool {
        let over = self.promised.remove(plan);
        let not_kept = over.iter().flatten();
        not_kept.for_each(|allocation| self.taken.give_back(allocation));
        !over.is_empty()
    }

    /// From now on it is decided about a group, whose pods share what is promised to any of them; or it is not any more.
    pub(crate) fn decide_about_group(&mut self, begins: bool) {
        self.promised.for_group(begins);
    }

    /// Whether a claim was promised devices.
    pub fn is_promised(&self, uid: &str) -> bool {
        self.promised.pods_of(uid) > 0
    }

    /// Whether a claim has all of the device, or was promised it.
    pub fn is_taken(&self, id: &DeviceId) -> bool {
        self.taken.is_alone(id)
    }

    /// What the claim has was not ready in time; unless it has something else by now.
    pub(crate) fn give_up(&mut self, claim: &DeviceClaim) {
        let now = self.claim(&claim.namespace, &claim.name);
        let same = now.is_some_and(|n| n.uid == claim.uid && n.allocation == claim.allocation);
        if let (true, Some(allocation)) = (same, &claim.allocation) {
            self.given_up.insert(claim.uid.clone(), allocation.clone());
        }
    }

    /// Whether the claim has devices that cannot be made ready, so that it had better have others.
    pub(crate) fn is_hopeless(&self, claim: &DeviceClaim) -> bool {
        match &claim.readiness {
            Readiness::Ready => false,
            Readiness::Failed(_) => true,
            Readiness::Waiting => self.given_up.get(&claim.uid) == claim.allocation.as_ref(),
        }
    }

    fn pools_at(&self, node: &str, labels: &crate::selector::Labels) -> Vec<(&PoolId, &Pool)> {
        self.pools.at(node, labels)
    }
}

/// 0 for what is no number, which is before everything.
fn revision(claim: &DeviceClaim) -> u64 {
    claim.resource_version.parse().unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Claims, slices and classes for tables.

    use super::*;
    use serde_json::json;

    /// Devices from API objects, told apart by their kind.
    pub(crate) fn devices(objects: &[Value]) -> Devices {
        let mut devices = Devices::default();
        for object in objects {
            let name = crate::object::text(object, "/metadata/name");
            match crate::object::text(object, "/kind").as_str() {
                "ResourceClaim" => {
                    let claim = Arc::new(DeviceClaim::compile(object));
                    devices.set_claim(claim.key(), Some(claim));
                }
                "ResourceSlice" => {
                    devices.set_slice(&name, Some(Arc::new(Slice::compile(object))));
                }
                "DeviceClass" => {
                    devices.set_class(&name, Some(Arc::new(DeviceClass::compile(object))));
                }
                other => panic!("{other}"),
            }
        }
        devices
    }

    /// A claim on one device of the class `card`.
    pub(crate) fn claim(name: &str) -> Value {
        json!({"kind": "ResourceClaim", "apiVersion": "resource.k8s.io/v1",
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1"},
            "spec": {"devices": {"requests": [
                {"name": "r", "exactly": {"deviceClassName": "card", "allocationMode": "ExactCount", "count": 1}}]}}})
    }

    /// The same with a device of a node, used by these pods.
    pub(crate) fn allocated(name: &str, node: &str, device: &str, by: &[&str]) -> Value {
        let mut claim = claim(name);
        let users: Vec<Value> = by
            .iter()
            .map(|uid| json!({"resource": "pods", "name": uid, "uid": uid}))
            .collect();
        claim["status"] = json!({
            "allocation": {
                "devices": {"results": [{"request": "r", "driver": "d", "pool": node, "device": device}]},
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": [node]}]}]}},
            "reservedFor": users});
        claim
    }

    /// The same where the device has to be `attached` first and may be `lost`, with what its driver has said of that.
    pub(crate) fn conditional(mut claim: Value, told: &[(&str, &str)]) -> Value {
        let status = &mut claim["status"];
        let result = &mut status["allocation"]["devices"]["results"][0];
        result["bindingConditions"] = json!(["attached"]);
        result["bindingFailureConditions"] = json!(["lost"]);
        let mut device = result.clone();
        let conditions = told.iter().map(
            |(kind, status)| json!({"type": kind, "status": status, "reason": "R", "message": "m"}),
        );
        device["conditions"] = conditions.collect();
        status["devices"] = json!([device]);
        claim
    }

    pub(crate) fn card_class() -> Value {
        json!({"kind": "DeviceClass", "metadata": {"name": "card"}, "spec": {}})
    }

    /// What a node has, in a pool of its own.
    pub(crate) fn cards(node: &str, names: &[&str]) -> Value {
        let devices: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"kind": "ResourceSlice", "metadata": {"name": node}, "spec": {"driver": "d", "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}, "devices": devices}})
    }

    /// The spec of a pod that uses these claims.
    pub(crate) fn using(claims: &[&str]) -> Value {
        let claims: Vec<Value> = claims
            .iter()
            .map(|name| json!({"name": name, "resourceClaimName": name}))
            .collect();
        json!({"containers": [{}], "resourceClaims": claims})
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{allocated, claim, conditional, devices};
    use super::*;
    use serde_json::json;

    fn id(device: &str) -> DeviceId {
        DeviceId::compile(&json!({"driver": "d", "pool": "n", "device": device}))
    }

    fn compiled(object: &Value) -> Arc<DeviceClaim> {
        Arc::new(DeviceClaim::compile(object))
    }

    fn plan(claim: &Value, device: &str) -> ClaimPlan {
        let json = allocated("c", "n", device, &[])["status"]["allocation"].clone();
        let allocation = Allocation::compile(&json);
        ClaimPlan {
            steps: vec![ClaimStep {
                claim: compiled(claim),
                gets: Some((json, allocation)),
            }],
            special: None,
        }
    }

    #[test]
    fn a_device_is_taken_from_the_promise_until_its_claim_gives_it_back() {
        let mut known = devices(&[claim("c")]);
        let plan = plan(&claim("c"), "a");
        known.promise(&plan);
        assert!(known.is_taken(&id("a")) && known.is_promised("uid-c"));
        let mut written = allocated("c", "n", "a", &["p"]);
        written["metadata"]["resourceVersion"] = json!("3");
        assert!(known.wrote(compiled(&written)).is_some());
        assert!(known.settle(&plan) && !known.is_promised("uid-c"));
        assert!(known.is_taken(&id("a")));
        // What the watch shows late is no news.
        let mut between = claim("c");
        between["metadata"]["resourceVersion"] = json!("2");
        known.set_claim(("default".into(), "c".into()), Some(compiled(&between)));
        assert!(known.is_taken(&id("a")));
        known.set_claim(("default".into(), "c".into()), Some(compiled(&written)));
        assert!(known.is_taken(&id("a")));
        let mut free = claim("c");
        free["metadata"]["resourceVersion"] = json!("4");
        let old = known.set_claim(("default".into(), "c".into()), Some(compiled(&free)));
        assert!(old.unwrap().allocation.is_some());
        assert!(!known.is_taken(&id("a")) && known.taken.is_empty());
    }

    #[test]
    fn a_promise_that_is_not_kept_frees_its_devices() {
        let mut known = devices(&[claim("c")]);
        let plan = plan(&claim("c"), "a");
        known.promise(&plan);
        assert!(known.settle(&plan) && !known.settle(&plan));
        assert!(known.taken.is_empty());
    }

    #[test]
    fn a_claim_that_is_gone_is_gone_although_it_was_written() {
        let mut known = devices(&[claim("c")]);
        let mut written = allocated("c", "n", "a", &["p"]);
        written["metadata"]["resourceVersion"] = json!("3");
        known.wrote(compiled(&written));
        known.set_claim(("default".into(), "c".into()), None);
        assert!(known.claim("default", "c").is_none() && known.taken.is_empty());
        assert!(
            known.wrote(compiled(&written)).is_none(),
            "nobody would take it away again"
        );
    }
    #[test]
    fn a_share_that_was_promised_counts_once_when_the_claim_has_it() {
        let mut known = devices(&[claim("c")]);
        let mut written = allocated("c", "n", "a", &["p"]);
        written["metadata"]["resourceVersion"] = json!("3");
        let result = &mut written["status"]["allocation"]["devices"]["results"][0];
        result["shareID"] = json!("s");
        result["consumedCapacity"] = json!({"memory": "3"});
        let allocation = written["status"]["allocation"].clone();
        let mut plan = plan(&claim("c"), "a");
        plan.steps[0].gets = Some((allocation.clone(), Allocation::compile(&allocation)));
        let consumed = |known: &Devices| known.taken.shares.consumed(&id("a"), "memory");
        known.promise(&plan);
        assert_eq!(consumed(&known), 3_000);
        known.wrote(compiled(&written));
        assert_eq!(consumed(&known), 3_000, "while others wait for its pod");
        assert!(known.settle(&plan));
        assert_eq!((consumed(&known), known.is_taken(&id("a"))), (3_000, false));
        let mut free = claim("c");
        free["metadata"]["resourceVersion"] = json!("4");
        known.set_claim(("default".into(), "c".into()), Some(compiled(&free)));
        assert!(known.taken.is_empty());
    }

    #[test]
    fn a_share_of_a_claim_that_is_made_for_a_pod_counts_once_too() {
        let mut written = allocated("made", "n", "a", &["p"]);
        let metadata = &mut written["metadata"];
        metadata["annotations"] = json!({extended::ANNOTATION: "true"});
        metadata["ownerReferences"] = json!([{"uid": "p", "controller": true}]);
        let result = &mut written["status"]["allocation"]["devices"]["results"][0];
        result["shareID"] = json!("s");
        result["consumedCapacity"] = json!({"memory": "3"});
        let allocation = written["status"]["allocation"].clone();
        let mut plan = plan(&claim("c"), "a");
        let unmade = DeviceClaim {
            uid: extended::promised_as(&compiled(&written)).into_owned(),
            ..(*plan.steps[0].claim).clone()
        };
        assert_ne!(unmade.uid, compiled(&written).uid);
        plan.steps[0].claim = Arc::new(unmade);
        plan.steps[0].gets = Some((allocation.clone(), Allocation::compile(&allocation)));
        let mut known = devices(&[]);
        known.promise(&plan);
        let made = compiled(&written);
        known.set_claim(made.key(), Some(made));
        assert_eq!(known.taken.shares.consumed(&id("a"), "memory"), 3_000);
        assert!(known.settle(&plan));
        assert_eq!(known.taken.shares.consumed(&id("a"), "memory"), 3_000);
    }

    #[test]
    fn devices_that_were_not_ready_in_time_are_given_up_until_the_claim_has_others() {
        let mut known = devices(&[conditional(allocated("c", "n", "a", &["p"]), &[])]);
        let waiting = known.claim("default", "c").unwrap().clone();
        assert!(!known.is_hopeless(&waiting));
        known.give_up(&waiting);
        assert!(known.is_hopeless(&waiting));
        let ready = conditional(allocated("c", "n", "a", &["p"]), &[("attached", "True")]);
        let ready = compiled(&ready);
        known.set_claim(ready.key(), Some(ready.clone()));
        assert!(
            !known.is_hopeless(&ready),
            "late, but before it was given back"
        );
        let free = compiled(&claim("c"));
        known.set_claim(free.key(), Some(free));
        known.give_up(&waiting);
        assert!(known.given_up.is_empty() && !known.is_hopeless(&waiting));
        let lost = conditional(allocated("c", "n", "a", &["p"]), &[("lost", "True")]);
        assert!(known.is_hopeless(&compiled(&lost)));
    }
}

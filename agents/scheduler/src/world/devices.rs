//! Devices, and the pods that are kept out of the queue until the claims are there that they name.

use super::{Name, World};
use crate::devices::Devices;
use crate::devices::claim::{ClaimSource, DeviceClaim, DeviceClass};
use crate::devices::slice::Slice;
use crate::object::Pod;
use crate::plan::Plan;
use crate::plugins::{Change, DeviceChange};
use crate::snapshot::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which pods wait for which claims.
#[derive(Default)]
pub(super) struct KeptOut {
    /// By uid: the claims that the pod names.
    claims: BTreeMap<String, Vec<Name>>,
    /// By claim and uid: the pod.
    pods: BTreeMap<Name, BTreeMap<String, Name>>,
}

impl KeptOut {
    fn put(&mut self, pod: &Pod) {
        self.forget(&pod.uid);
        let named = pod.resource_claims.iter().filter_map(|claim| {
            let (ClaimSource::Named(name) | ClaimSource::Made(Some(name))) = &claim.source else {
                return None;
            };
            Some((pod.namespace.clone(), name.clone()))
        });
        let named: Vec<Name> = named.collect();
        for claim in &named {
            let pods = self.pods.entry(claim.clone()).or_default();
            pods.insert(pod.uid.clone(), (pod.namespace.clone(), pod.name.clone()));
        }
        self.claims.insert(pod.uid.clone(), named);
    }

    pub(super) fn forget(&mut self, uid: &str) {
        for claim in self.claims.remove(uid).unwrap_or_default() {
            if let Some(pods) = self.pods.get_mut(&claim) {
                pods.remove(uid);
                if pods.is_empty() {
                    self.pods.remove(&claim);
                }
            }
        }
    }

    fn naming(&self, claim: &Name) -> Vec<Name> {
        let pods = self.pods.get(claim).into_iter();
        pods.flat_map(|pods| pods.values().cloned()).collect()
    }
}

impl World {
    pub(crate) fn devices(&mut self) -> &mut Devices {
        Arc::make_mut(&mut self.snapshot.devices)
    }

    fn wake_by_devices(&mut self, change: DeviceChange, now: Millis) {
        self.queue.wake(&Change::Devices(change), now);
    }

    /// A claim on devices is now like this, or gone.
    pub fn set_device_claim(&mut self, name: Name, new: Option<Arc<DeviceClaim>>, now: Millis) {
        let old = self.devices().set_claim(name.clone(), new);
        let now_is = self.snapshot.devices.claim(&name.0, &name.1).cloned();
        match (old, now_is) {
            // We have written it since: what is late is no news.
            (Some(old), Some(new)) if Arc::ptr_eq(&old, &new) => {}
            (old, Some(new)) => self.wake_by_devices(DeviceChange::Claim { old, new }, now),
            // One for extended resources that goes lets its pod be decided about again.
            (Some(old), None) if old.allocation.is_some() || old.extended => {
                self.wake_by_devices(DeviceChange::Freed, now);
            }
            (_, None) => {}
        }
        for pod in self.kept_out.naming(&name) {
            let Some(pod) = self.pods.get(&pod.0, &pod.1).cloned() else {
                continue;
            };
            self.look_for_claims(&pod);
            if !self.queue.is_held(&pod.uid) {
                self.queue.set(pod, now);
            }
        }
    }

    /// We have written a claim, which the watch need not show yet.
    pub(crate) fn wrote_claim(&mut self, claim: Arc<DeviceClaim>, now: Millis) {
        if let Some(old) = self.devices().wrote(claim.clone()) {
            let old = Some(old);
            self.wake_by_devices(DeviceChange::Claim { old, new: claim }, now);
        }
    }

    /// A class of devices is now like this, or gone.
    pub fn set_device_class(&mut self, name: &str, new: Option<Arc<DeviceClass>>, now: Millis) {
        if self.devices().set_class(name, new.clone())
            && let Some(class) = new
        {
            self.wake_by_devices(DeviceChange::Class(class), now);
        }
    }

    /// What a driver offers is now this, or nothing.
    pub fn set_slice(&mut self, name: &str, new: Option<Arc<Slice>>, now: Millis) {
        // One that goes may make the pool whole that it was too much in.
        if self.devices().set_slice(name, new) {
            self.wake_by_devices(DeviceChange::Offer, now);
        }
    }

    /// What was promised to claims is written.
    pub(crate) fn settle_claims(&mut self, plan: &Plan) {
        if !plan.claims.is_empty() {
            self.devices().settle(&plan.claims);
        }
    }

    /// The plan will not come true.
    pub(crate) fn revert_plan(&mut self, plan: &Plan, now: Millis) {
        if plan.revert(&mut self.snapshot) {
            self.wake_by_devices(DeviceChange::Freed, now);
        }
    }

    /// The claims that know the pod as their user.
    pub(crate) fn claims_reserved_for(&self, pod: &Pod) -> Vec<Arc<DeviceClaim>> {
        let claims = pod.resource_claims.iter().filter_map(|claim| {
            let (ClaimSource::Named(name) | ClaimSource::Made(Some(name))) = &claim.source else {
                return None;
            };
            self.snapshot.devices.claim(&pod.namespace, name)
        });
        let reserved = claims.filter(|claim| claim.is_reserved_for(&pod.uid));
        reserved.cloned().collect()
    }

    /// Keeps a pod out of the queue whose claims are not there, and lets it in when they are.
    pub(super) fn look_for_claims(&mut self, pod: &Pod) {
        if pod.resource_claims.is_empty() {
            return;
        }
        let profile = self.config.profile(pod);
        let mut gates = profile.into_iter().flat_map(|profile| &profile.gates);
        let waits = gates.any(|gate| (gate.waits)(pod, &self.snapshot.devices).is_some());
        self.queue.hold(&pod.uid, waits);
        match waits {
            true => self.kept_out.put(pod),
            false => self.kept_out.forget(&pod.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Profile};
    use crate::devices::testing::{allocated, card_class, cards, claim, using};
    use crate::plugins::testing::node;
    use crate::schedule::{Decision, schedule};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn key(name: &str) -> Name {
        ("default".into(), name.into())
    }

    fn world() -> World {
        let mut world = World::new(Arc::new(Config::default()));
        world.set_node("n", Some(Arc::new(node("n", json!({}), json!({})))), 0);
        let class = DeviceClass::compile(&card_class());
        world.set_device_class("card", Some(Arc::new(class)), 0);
        let slice = Slice::compile(&cards("n", &["a"]));
        world.set_slice("n", Some(Arc::new(slice)), 0);
        world
    }

    fn put(world: &mut World, object: &Value, now: Millis) {
        let claim = Arc::new(DeviceClaim::compile(object));
        world.set_device_claim(claim.key(), Some(claim), now);
    }

    fn pod(name: &str, claim: &str) -> Arc<Pod> {
        Arc::new(Pod::compile(&json!({
            "metadata": {"name": name, "namespace": "default", "uid": name}, "spec": using(&[claim])})))
    }

    #[test]
    fn a_pod_is_let_in_when_its_claim_is_there() {
        let mut world = world();
        world.set_pod(key("p"), Some(pod("p", "c")), 0);
        assert!(world.pop(0).is_none());
        put(&mut world, &claim("other"), 1);
        assert!(world.pop(1).is_none());
        put(&mut world, &claim("c"), 2);
        assert_eq!(world.pop(2).unwrap().pod.name, "p");
    }

    #[test]
    fn a_claim_that_is_made_for_a_pod_is_known_by_the_pods_status() {
        let mut world = world();
        let from_template = |statuses: Value| {
            Arc::new(Pod::compile(
                &json!({"metadata": {"name": "p", "namespace": "default", "uid": "p"},
                "spec": {"resourceClaims": [{"name": "x", "resourceClaimTemplateName": "t"}]},
                "status": {"resourceClaimStatuses": statuses}}),
            ))
        };
        world.set_pod(key("p"), Some(from_template(json!([]))), 0);
        let mut made = claim("c");
        made["metadata"]["ownerReferences"] = json!([{"uid": "p", "controller": true}]);
        put(&mut world, &made, 1);
        assert!(world.pop(1).is_none());
        let known = json!([{"name": "x", "resourceClaimName": "c"}]);
        world.set_pod(key("p"), Some(from_template(known)), 2);
        assert_eq!(world.pop(2).unwrap().pod.name, "p");
    }

    #[test]
    fn nothing_is_remembered_of_pods_that_are_gone() {
        let mut world = world();
        world.set_pod(key("p"), Some(pod("p", "c")), 0);
        world.set_pod(key("p"), None, 1);
        put(&mut world, &claim("c"), 2);
        assert!(world.pop(2).is_none() && world.queue.is_empty());
        assert!(world.kept_out.pods.is_empty() && world.kept_out.claims.is_empty());
    }

    #[test]
    fn a_device_is_given_once_and_who_is_refused_wakes_when_it_is_free() {
        let mut world = world();
        let profile = Profile::default();
        for name in ["c", "d"] {
            put(&mut world, &claim(name), 0);
        }
        let decide =
            |world: &World, pod: &Pod| schedule(pod, &world.snapshot, &profile, 0, &mut |_| 0);
        let first = pod("p", "c");
        assert!(matches!(decide(&world, &first), Decision::Bind { .. }));
        let plan = Plan::of(&world.snapshot, &first, "n", &profile);
        assert_eq!(plan.claims.steps.len(), 1);
        plan.assume(&mut world.snapshot, "n");
        let second = pod("q", "d");
        assert!(matches!(
            decide(&world, &second),
            Decision::Unschedulable(_)
        ));
        world.set_pod(key("q"), Some(second.clone()), 0);
        let refused_by = BTreeSet::from(["DynamicResources"]);
        let queued = world.pop(0).unwrap();
        world.queue.park(queued, refused_by.clone(), 0);
        // The plan comes to nothing.
        world.revert_plan(&plan, 20_000);
        let queued = world.pop(20_000).unwrap();
        assert!(matches!(decide(&world, &second), Decision::Bind { .. }));
        // It comes true, and then the claim gives its device back.
        plan.assume(&mut world.snapshot, "n");
        let mut written = allocated("c", "n", "a", &["p"]);
        written["metadata"]["resourceVersion"] = json!("2");
        world.wrote_claim(Arc::new(DeviceClaim::compile(&written)), 20_000);
        world.settle_claims(&plan);
        assert_eq!(world.claims_reserved_for(&first).len(), 1);
        assert!(matches!(
            decide(&world, &second),
            Decision::Unschedulable(_)
        ));
        world.queue.park(queued, refused_by, 20_000);
        put(&mut world, &claim("c"), 50_000);
        assert!(
            world.pop(50_000).is_none(),
            "the watch lags behind our write"
        );
        let mut free = claim("c");
        free["metadata"]["resourceVersion"] = json!("3");
        put(&mut world, &free, 60_000);
        assert!(world.pop(60_000).is_some());
        assert!(matches!(decide(&world, &second), Decision::Bind { .. }));
    }

    #[test]
    fn a_pod_is_woken_when_the_claim_that_was_left_of_it_is_gone() {
        use crate::devices::extended::LEFT_OVER;
        use crate::devices::extended::tests::made;
        let mut world = world();
        put(&mut world, &made("m", "p"), 0);
        let requests = json!({"deviceclass.resource.kubernetes.io/card": "1"});
        let asking = Arc::new(Pod::compile(&json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "p"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}})));
        world.set_pod(key("p"), Some(asking.clone()), 0);
        let decide =
            |world: &World| schedule(&asking, &world.snapshot, &Profile::default(), 0, &mut |_| 0);
        let queued = world.pop(0).unwrap();
        let Decision::Unschedulable(diagnosis) = decide(&world) else {
            panic!("the claim is still there")
        };
        assert_eq!(diagnosis.for_all.as_deref(), Some(LEFT_OVER));
        world.queue.park(queued, diagnosis.plugins, 0);
        world.set_device_claim(key("m"), None, 20_000);
        assert!(world.pop(20_000).is_some());
        assert!(matches!(decide(&world), Decision::Bind { .. }));
    }
}

//! Deletes pods that use a device with a NoExecute taint which their claim does not tolerate, or tolerates for a limited time.
//!
//! The time runs from when the taint was added, as in Kubernetes; where nobody has said when, from when this controller first saw it.
//! Taints stand in ResourceSlices. DeviceTaintRules, which add to them, are off in Kubernetes 1.36 unless somebody turns them on.

use crate::driven_out::{Words, drive_out};
use crate::manager::{Body, Controller};
use crate::resource_claim::claims_of;
use crate::world::{Caches, World};
use agent_runtime::kinds::{Pod, ResourceClaim, ResourceSlice, Taint, Toleration};
use agent_runtime::plan::Plan;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{Cache, Key, Queue};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "device-taint-eviction-controller",
    help: "evicts pods whose devices have NoExecute taints",
    workers: 8,
    body: Body::Keyed { wire, reconcile },
};

/// Who may stay for longer is looked at again after this time.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(86_400);

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (slices, claims) = (&caches.resource_slices, &caches.resource_claims);
    let (all, of_all, keys) = (slices.clone(), claims.clone(), queue.clone());
    slices.subscribe(move |change| {
        let (driver, pool) = pool_of(change.latest());
        // A slice without taints may put an end to others that have some: to those of an older generation.
        let others = all.on_node(pool);
        let mut pool_now = others.iter().filter(|other| pool_of(other).0 == driver);
        if change.sides().any(|side| is_tainted(side)) || pool_now.any(|other| is_tainted(other)) {
            for claim in of_all.list() {
                let mut had = results(&claim);
                if had.any(|result| result["driver"] == *driver && result["pool"] == *pool) {
                    consumers(&claim).for_each(|key| keys.add(key));
                }
            }
        }
    });
    let (slices, keys) = (caches.resource_slices.clone(), queue.clone());
    caches.resource_claims.subscribe(move |change| {
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        if old.map(|claim| &claim.status) == new.map(|claim| &claim.status) {
            return;
        }
        for side in change.sides().filter(|side| is_threatened(side, &slices)) {
            consumers(side).for_each(|key| keys.add(key));
        }
    });
    let (slices, claims) = (
        caches.resource_slices.clone(),
        caches.resource_claims.clone(),
    );
    let keys = queue.clone();
    caches.pods.subscribe(move |change| {
        let Some(pod) = &change.new else {
            let gone = change.latest();
            if claims_of(gone).next().is_some() {
                // What has been seen of it is forgotten.
                keys.add(Key::of(&gone.metadata));
            }
            return;
        };
        let moved = change.old.as_ref().is_none_or(|old| {
            old.metadata.uid != pod.metadata.uid
                || old.spec.node_name != pod.spec.node_name
                || !claims_of(old).eq(claims_of(pod))
        });
        let is_threatened = |name: &str| {
            let claim = claims.get(&pod.metadata.namespace, name);
            claim.is_some_and(|claim| is_threatened(&claim, &slices))
        };
        if moved && claims_of(pod).any(is_threatened) {
            keys.add(Key::of(&pod.metadata));
        }
    });
}

fn pool_of(slice: &ResourceSlice) -> (&str, &str) {
    (&slice.spec.driver, &slice.spec.pool.name)
}

fn is_tainted(slice: &ResourceSlice) -> bool {
    let mut devices = slice.spec.devices.iter();
    devices.any(|device| device.taints.iter().any(is_no_execute))
}

fn is_no_execute(taint: &Taint) -> bool {
    taint.effect == "NoExecute"
}

/// Whether a device of the claim has a taint that may drive pods out, tolerated or not.
fn is_threatened(claim: &ResourceClaim, slices: &Cache<ResourceSlice>) -> bool {
    results(claim).any(|result| !taints(result, slices).is_empty())
}

/// The devices that a claim has, as they stand in its status.
fn results(claim: &ResourceClaim) -> impl Iterator<Item = &Value> {
    let allocation = claim.status.allocation.as_ref();
    let results = allocation.and_then(|allocation| allocation["devices"]["results"].as_array());
    results.into_iter().flatten()
}

/// The pods that use a claim.
fn consumers(claim: &ResourceClaim) -> impl Iterator<Item = Key> {
    let pods = claim.status.reserved_for.iter();
    let pods = pods.filter(|consumer| consumer["resource"] == "pods");
    pods.map(|pod| Key::new(&claim.metadata.namespace, text(pod, "name")))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The NoExecute taints of a device, by the newest generation of its pool.
fn taints(result: &Value, slices: &Cache<ResourceSlice>) -> Vec<Taint> {
    let (driver, pool) = (text(result, "driver"), text(result, "pool"));
    let mut slices = slices.on_node(pool);
    slices.retain(|slice| slice.spec.driver == driver);
    let generation = |slice: &Arc<ResourceSlice>| slice.spec.pool.generation;
    let Some(newest) = slices.iter().map(generation).max() else {
        return Vec::new();
    };
    let slices = slices.iter().filter(|slice| generation(slice) == newest);
    let mut devices = slices.flat_map(|slice| &slice.spec.devices);
    let device = devices.find(|device| device.name == text(result, "device"));
    let taints = device.map(|device| device.taints.as_slice());
    let taints = taints.unwrap_or_default().iter();
    taints
        .filter(|taint| is_no_execute(taint))
        .cloned()
        .collect()
}

/// A taint of a device that a pod uses, and what the claim tolerates of that device.
struct Threat {
    device: String,
    taint: Taint,
    tolerations: Vec<Toleration>,
}

/// Everything that may drive the pod out.
fn threats(pod: &Pod, caches: &Caches) -> Vec<Threat> {
    let mut threats = Vec::new();
    for name in claims_of(pod) {
        let claim = caches.resource_claims.get(&pod.metadata.namespace, name);
        // Of another pod, perhaps one of this name that was there before.
        let Some(claim) = claim.filter(|claim| claim.is_reserved_for(&pod.metadata.uid)) else {
            continue;
        };
        for result in results(&claim) {
            let of_device = ["driver", "pool", "device"].map(|field| text(result, field));
            let tolerations: Vec<Toleration> =
                serde_json::from_value(result["tolerations"].clone()).unwrap_or_default();
            let taints = taints(result, &caches.resource_slices);
            threats.extend(taints.into_iter().map(|taint| Threat {
                device: of_device.join("/"),
                taint,
                tolerations: tolerations.clone(),
            }));
        }
    }
    threats
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let stays = |pod: &Arc<Pod>| !pod.spec.node_name.is_empty() && pod.is_active();
    let Some(pod) = world.caches.pods.by_key(key).filter(stays) else {
        world.ages(key, &[]);
        return Plan::none();
    };
    let threats = threats(&pod, &world.caches);
    let sighting = |Threat { device, taint, .. }: &Threat| {
        let uid = &pod.metadata.uid;
        format!("{uid} {device} {}={}", taint.key, taint.value)
    };
    let sightings: Vec<String> = threats.iter().map(sighting).collect();
    let ages = world.ages(key, &sightings);
    match left(&threats, &ages, world.now) {
        None => Plan::none(),
        Some(Duration::ZERO) => evict(&pod, world.now),
        Some(left) => {
            let mut plan = Plan::none();
            plan.again(left.min(LOOK_AGAIN_MAX) + Duration::from_millis(1));
            plan
        }
    }
}

/// For how long the pod may still stay with what has been seen for so long; `None`: for ever.
fn left(threats: &[Threat], ages: &[Duration], now: Micros) -> Option<Duration> {
    let each = threats.iter().zip(ages).filter_map(|(threat, age)| {
        let tolerated = tolerated_for(threat)?;
        let added = threat.taint.time_added.as_deref();
        let since = match added.and_then(timestamp::parse) {
            Some(added) => {
                Duration::from_micros(u64::try_from(now.saturating_sub(added)).unwrap_or(0))
            }
            None => *age,
        };
        Some(tolerated.saturating_sub(since))
    });
    each.min()
}

/// For how long a taint is tolerated, by the toleration that covers it for the least time; `None`: for ever, which one that names
/// no time does for all.
fn tolerated_for(
    Threat {
        taint, tolerations, ..
    }: &Threat,
) -> Option<Duration> {
    let covering = tolerations.iter().filter(|t| t.tolerates(taint));
    let mut least: Option<i64> = None;
    for toleration in covering {
        let seconds = toleration.toleration_seconds?;
        least = Some(least.map_or(seconds, |least| least.min(seconds)));
    }
    let seconds = u64::try_from(least.unwrap_or(0)).unwrap_or(0);
    Some(Duration::from_secs(seconds))
}

fn evict(pod: &Pod, now: Micros) -> Plan {
    const WORDS: Words = Words {
        reason: "DeletionByDeviceTaintManager",
        message: "Device Taint manager: deleting due to NoExecute taint",
        event: "DeviceTaintManagerEviction",
    };
    drive_out(pod, &WORDS, "Marking for deletion".to_owned(), now)
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;
    use agent_runtime::timestamp::seconds;

    /// A pod on a node that uses the device `x` by a claim with these tolerations, and the slices of its pool.
    fn scene(slices: &[String], tolerations: &str) -> World {
        let pod = "kind: Pod\nmetadata: {name: p, namespace: a, uid: u}\nspec: {nodeName: n, resourceClaims: [{name: d, resourceClaimName: c}]}\n";
        let claim = format!(
            "kind: ResourceClaim\nmetadata: {{name: c, namespace: a, uid: cu}}\nstatus: {{allocation: {{devices: {{results: [{{driver: d, pool: n, device: x, tolerations: [{tolerations}]}}]}}}}, reservedFor: [{{resource: pods, name: p, uid: u}}]}}\n"
        );
        let slices = slices.join("---\n");
        world(&format!("{pod}---\n{claim}---\n{slices}"))
    }

    fn slice(name: &str, generation: u32, device: &str, taint: &str) -> String {
        format!(
            "kind: ResourceSlice\nmetadata: {{name: {name}, uid: {name}}}\nspec: {{driver: d, pool: {{name: n, generation: {generation}}}, devices: [{{name: {device}, taints: [{taint}]}}]}}\n"
        )
    }

    fn look(world: &World) -> Vec<String> {
        reconcile(&Key::new("a", "p"), world).lines()
    }

    /// Added a minute before the time of test worlds.
    const TAINT: &str = "{key: k, value: v, effect: NoExecute, timeAdded: '2026-01-01T09:59:00Z'}";
    const UNDATED: &str = "{key: k, value: v, effect: NoExecute}";
    const GONE: &str = "delete pods a/p";

    fn plan(taint: &str, tolerations: &str) -> Vec<String> {
        look(&scene(&[slice("s", 1, "x", taint)], tolerations))
    }

    #[test]
    fn a_taint_that_is_not_tolerated_drives_the_pod_out() {
        let lines = plan(TAINT, "");
        assert!(
            lines[0].contains("DeviceTaintManagerEviction: Marking for deletion"),
            "{lines:?}"
        );
        assert!(
            lines[1].contains("DeletionByDeviceTaintManager"),
            "{lines:?}"
        );
        assert_eq!(lines[2], GONE);
        assert!(plan("{key: k, effect: NoSchedule}", "").is_empty());
        assert!(plan("", "").is_empty());
        assert!(look(&scene(&[slice("s", 1, "y", TAINT)], "")).is_empty());
    }

    #[test]
    fn tolerations_of_the_claim_decide_when() {
        let table = [
            ("{operator: Exists}", vec![]),
            ("{key: k, value: v, effect: NoExecute}", vec![]),
            (
                "{key: k, operator: Exists, tolerationSeconds: 90}",
                vec!["again in 30.001s"],
            ),
            (
                "{key: k, operator: Exists, tolerationSeconds: 90}, {operator: Exists, tolerationSeconds: 70}",
                vec!["again in 10.001s"],
            ),
            (
                "{key: k, operator: Exists, tolerationSeconds: 9}, {operator: Exists}",
                vec![],
            ),
            (
                "{operator: Exists, tolerationSeconds: 9223372036854775807}",
                vec!["again in 86400.001s"],
            ),
        ];
        for (tolerations, expected) in table {
            assert_eq!(plan(TAINT, tolerations), expected, "{tolerations}");
        }
        for over in [
            "{key: k, operator: Exists, tolerationSeconds: 60}",
            "{operator: Exists, tolerationSeconds: -5}",
            "{key: k, value: other}",
            "{operator: Exists, effect: NoSchedule}",
        ] {
            assert_eq!(
                plan(TAINT, over).last().map(String::as_str),
                Some(GONE),
                "{over}"
            );
        }
    }

    #[test]
    fn of_a_taint_without_a_date_the_time_runs_from_when_it_was_seen() {
        let slices = [slice("s", 1, "x", UNDATED)];
        let mut world = scene(&slices, "{operator: Exists, tolerationSeconds: 100}");
        assert_eq!(look(&world), ["again in 100.001s"]);
        world.steady += Duration::from_secs(40);
        world.now += seconds(750);
        assert_eq!(look(&world), ["again in 60.001s"]);
        world.steady += Duration::from_secs(60);
        assert_eq!(look(&world)[2], GONE);
    }

    #[test]
    fn the_newest_generation_of_the_pool_counts() {
        let both = [slice("old", 1, "x", TAINT), slice("new", 2, "x", "")];
        assert!(look(&scene(&both, "")).is_empty());
        let both = [slice("old", 1, "x", ""), slice("new", 2, "x", TAINT)];
        assert_eq!(look(&scene(&both, ""))[2], GONE);
        let parts = [slice("one", 2, "y", ""), slice("two", 2, "x", TAINT)];
        assert_eq!(look(&scene(&parts, ""))[2], GONE);
    }

    #[test]
    fn pods_that_do_not_run_or_have_no_part_in_the_claim_stay() {
        let slices = [slice("s", 1, "x", TAINT)];
        let changed = |change: fn(&mut Pod)| {
            let world = scene(&slices, "");
            let mut pod = Pod::clone(&world.caches.pods.get("a", "p").unwrap());
            change(&mut pod);
            world.caches.pods.apply(pod);
            look(&world)
        };
        assert_eq!(changed(|_| {})[2], GONE);
        assert!(changed(|pod| pod.spec.node_name = "".into()).is_empty());
        assert!(changed(|pod| pod.status.phase = "Succeeded".into()).is_empty());
        assert!(changed(|pod| pod.metadata.uid = "successor".into()).is_empty());
    }

    #[test]
    fn what_changes_about_devices_brings_the_pods_that_use_them() {
        let world = scene(&[slice("s", 1, "x", "")], "");
        let queue = Arc::new(Queue::new());
        wire(&world.caches, &queue);
        assert!(queue.is_empty());
        let object = |text: &str| crate::testing::object::<ResourceSlice>(text);
        world
            .caches
            .resource_slices
            .apply(object(&slice("s", 1, "x", TAINT)));
        assert_eq!(queue.len(), 1);
    }
}

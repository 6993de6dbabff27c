//! However claims and volumes come and go, and however late the controller is: once it is left alone, no volume is free that a
//! waiting claim could take, though a volume does not wake all that wait.

use super::super::*;
use crate::testing::{object, world};
use agent_runtime::kinds::ObjectReference;
use futures::FutureExt;
use std::cell::RefCell;
use std::collections::BTreeSet;

const STEPS: usize = 60;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

fn name(dice: &mut Dice, kind: &str) -> String {
    format!("{kind}{}", dice.below(6))
}

fn claim(name: &str, gibibytes: u64, more: &str) -> PersistentVolumeClaim {
    object(&format!(
        "{{metadata: {{name: {name}, namespace: a, uid: {name}}}, spec: {{storageClassName: slow, resources: {{requests: {{storage: {gibibytes}Gi}}}}{more}}}}}"
    ))
}

fn volume(name: &str, gibibytes: u64) -> PersistentVolume {
    object(&format!(
        "{{metadata: {{name: {name}, uid: {name}}}, spec: {{storageClassName: slow, capacity: {{storage: {gibibytes}Gi}}}}, status: {{phase: Available}}}}"
    ))
}

struct Cluster {
    world: World,
    queue: Arc<Queue<Key>>,
    /// Volumes that are gone, of which the controller has not heard yet.
    gone: RefCell<BTreeSet<Key>>,
}

impl Cluster {
    fn new() -> Self {
        let (world, queue) = (world(""), Arc::new(Queue::new()));
        wire(&world.caches, &queue);
        let gone = RefCell::default();
        Self { world, queue, gone }
    }

    /// The controller hears of the volumes that are gone.
    fn hear(&self) {
        for key in self.gone.take() {
            self.world.caches.volumes.remove(&key);
        }
    }

    /// The claims that are to be looked at, and then no more.
    fn woken(&self) -> Vec<String> {
        let mut woken = Vec::new();
        while let Some(Some(key)) = self.queue.next().now_or_never() {
            self.queue.done(&key);
            if !key.namespace.is_empty() {
                woken.push(key.name.to_string());
            }
        }
        woken.sort();
        woken
    }

    fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) {
        let (mut claim, mut volume) = (claim.clone(), volume.clone());
        volume.spec.claim_ref = Some(ObjectReference {
            namespace: claim.metadata.namespace.clone(),
            name: claim.metadata.name.clone(),
            uid: claim.metadata.uid.clone(),
            ..ObjectReference::default()
        });
        volume.status.phase = "Bound".into();
        claim.spec.volume_name = volume.metadata.name.clone();
        self.world.caches.volumes.apply(volume);
        self.world.caches.claims.apply(claim);
    }

    /// One key is looked at; of the steps of a binding nothing is left out here. A volume that is gone cannot be had, and that
    /// is no failure.
    fn work(&self) -> bool {
        let Some(Some(key)) = self.queue.next().now_or_never() else {
            return false;
        };
        let claim = self.world.caches.claims.by_key(&key);
        if let Some(claim) = claim.filter(|claim| is_pending(claim))
            && let Some(volume) = matching::best(&claim, &self.world)
            && !self.gone.borrow().contains(&Key::of(&volume.metadata))
        {
            self.bind(&claim, &volume);
        }
        self.queue.done(&key);
        true
    }

    fn act(&self, dice: &mut Dice) {
        let caches = &self.world.caches;
        match dice.below(7) {
            0 => {
                let name = name(dice, "c");
                if caches.claims.get("a", &name).is_none() {
                    caches.claims.apply(claim(&name, 1 + dice.below(3), ""));
                }
            }
            1 | 2 => {
                let name = name(dice, "v");
                if caches.volumes.get("", &name).is_none() {
                    caches.volumes.apply(volume(&name, 1 + dice.below(3)));
                }
            }
            3 => {
                let name = name(dice, "c");
                caches.claims.remove(&Key::new("a", &name));
            }
            4 => {
                let name = name(dice, "v");
                if caches.volumes.get("", &name).is_some() {
                    self.gone.borrow_mut().insert(Key::new("", &name));
                }
            }
            5 => self.hear(),
            _ => {
                let name = name(dice, "v");
                caches.volumes.remove(&Key::new("", &name));
            }
        }
    }
}

#[test]
fn no_claim_waits_for_a_volume_that_is_there() {
    for seed in 0..200 {
        let (cluster, mut dice) = (Cluster::new(), Dice(seed));
        for _ in 0..STEPS {
            cluster.act(&mut dice);
            for _ in 0..dice.below(3) {
                cluster.work();
            }
        }
        while cluster.work() {}
        cluster.hear();
        while cluster.work() {}
        for claim in cluster.world.caches.claims.list() {
            if is_pending(&claim) {
                let best = matching::best(&claim, &cluster.world);
                assert!(best.is_none(), "seed {seed}: {claim:?} {best:?}");
            }
        }
    }
}

#[test]
fn a_free_volume_wakes_one_claim_that_could_take_it() {
    let cluster = Cluster::new();
    let caches = &cluster.world.caches;
    for (name, size, more) in [
        ("large", 9, ""),
        ("picky", 1, ", selector: {matchLabels: {disk: ssd}}"),
        ("raw", 1, ", volumeMode: Block"),
        ("shared", 1, ", accessModes: [ReadWriteMany]"),
        ("x", 2, ""),
        ("y", 2, ""),
    ] {
        caches.claims.apply(claim(name, size, more));
    }
    let mut other = claim("other", 1, "");
    other.spec.storage_class_name = Some("fast".into());
    caches.claims.apply(other);
    cluster.woken();
    caches.volumes.apply(volume("v", 2));
    assert_eq!(cluster.woken(), ["x"]);
    caches.volumes.remove(&Key::new("", "v"));
    assert_eq!(cluster.woken(), ["x", "y"], "who may have tried to take it");
    caches.volumes.apply(volume("small", 1));
    let others = cluster.woken();
    assert!(others.is_empty(), "{others:?}");
    caches.volumes.apply(volume("v", 2));
    caches.volumes.apply(volume("w", 3));
    assert_eq!(cluster.woken(), ["x", "y"], "each volume another claim");
    let x = caches.claims.get("a", "x").unwrap();
    let v = caches.volumes.get("", "v").unwrap();
    cluster.bind(&x, &v);
    assert_eq!(cluster.woken(), ["x", "y"], "w is handed on");
}

#[test]
fn a_free_volume_that_goes_wakes_all_that_could_have_taken_it() {
    let cluster = Cluster::new();
    let caches = &cluster.world.caches;
    for (name, size) in [("large", 9), ("x", 2), ("y", 1)] {
        caches.claims.apply(claim(name, size, ""));
    }
    caches.volumes.apply(volume("v", 2));
    caches.volumes.apply(volume("small", 1));
    cluster.woken();
    let mut going = volume("v", 2);
    going.metadata.deletion_timestamp = Some(Box::new("2026-01-01T00:00:00Z".into()));
    caches.volumes.apply(going);
    assert_eq!(cluster.woken(), ["x", "y"]);
    caches.volumes.remove(&Key::new("", "v"));
    assert!(cluster.woken().is_empty(), "they know already");
    caches.volumes.remove(&Key::new("", "small"));
    assert_eq!(cluster.woken(), ["y"]);
    caches.volumes.apply(volume("v", 2));
    cluster.woken();
    let y = caches.claims.get("a", "y").unwrap();
    cluster.bind(&y, &caches.volumes.get("", "v").unwrap());
    cluster.woken();
    caches.volumes.remove(&Key::new("", "v"));
    assert_eq!(cluster.woken(), ["y"], "it was not free");
}

#[test]
fn claims_that_wait_for_a_pod_take_no_volume_by_themselves() {
    let cluster = Cluster::new();
    let caches = &cluster.world.caches;
    caches.storage_classes.apply(object(
        "{metadata: {name: slow}, volumeBindingMode: WaitForFirstConsumer}",
    ));
    caches.claims.apply(claim("x", 1, ""));
    cluster.woken();
    caches.volumes.apply(volume("v", 2));
    assert!(cluster.woken().is_empty());
}

//! Which changes wake which claims and volumes.
//!
//! A volume that becomes free wakes one claim that could take it, not all that wait: a thousand claims that look at a thousand
//! volumes each time one is added would do nothing else. That none is forgotten follows from this: while a volume is free and
//! somebody could take it, one of those is to be looked at, or is being looked at. It takes the volume, or another one that it
//! likes better; then it is bound, and hands the volume on to the next. If what it would take is gone already, it is looked at
//! again when that is heard of.

use super::{class, is_pending, matching};
use crate::world::Caches;
use agent_runtime::kinds::{
    LabelSelector, Mention, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass,
};
use agent_runtime::{Cache, Change, Key, Queue};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn wire_claims(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (waiting, keys) = (Waiting::of(caches), queue.clone());
    caches.claims.subscribe(move |change| {
        let latest = change.latest();
        keys.add(Key::of(&latest.metadata));
        waiting.hand_on(change, &keys);
        let names = |claim: &Arc<PersistentVolumeClaim>| claim.spec.volume_name.clone();
        let [old, new] = [&change.old, &change.new].map(|side| side.as_ref().map(names));
        if old == new {
            return;
        }
        for name in old.iter().chain(&new).filter(|name| !name.is_empty()) {
            keys.add(Key::new("", name));
        }
        // What was taken for the claim and is not its volume has to be told.
        let taken = Mention::Claim(Key::of(&latest.metadata));
        for volume in waiting.volumes.mentioning(&taken) {
            keys.add(Key::of(&volume.metadata));
        }
    });
}

pub(super) fn wire_volumes(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (waiting, keys) = (Waiting::of(caches), queue.clone());
    caches.volumes.subscribe(move |change| {
        let latest = change.latest();
        keys.add(Key::of(&latest.metadata));
        for claim in change.sides().filter_map(|v| v.spec.claim_ref.as_ref()) {
            keys.add(Key::new(&claim.namespace, &claim.name));
        }
        let is_free = latest.spec.claim_ref.is_none() && latest.status.phase == "Available";
        if change.old.is_none() || change.new.is_none() || is_free {
            let asked = Mention::Volume(latest.metadata.name.clone());
            for claim in waiting.claims.mentioning(&asked) {
                keys.add(Key::of(&claim.metadata));
            }
        }
        if let Some(volume) = change.new.as_ref().filter(|_| is_free) {
            waiting.offer(volume, &keys);
        }
        waiting.withdraw(change, &keys);
    });
}

/// Claims tell for which pod they wait.
pub(super) fn wire_pods(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (claims, keys) = (caches.claims.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        let waits = |pod: &Arc<Pod>| pod.spec.node_name.is_empty() && !pod.is_finished();
        if change.old.as_ref().is_some_and(waits) == change.new.as_ref().is_some_and(waits) {
            return;
        }
        let namespace = &change.latest().metadata.namespace;
        for name in change.latest().volume_claims() {
            if claims
                .get(namespace, &name)
                .is_some_and(|claim| is_pending(&claim))
            {
                keys.add(Key::new(namespace, &name));
            }
        }
    });
}

/// The claims that wait, and for what.
struct Waiting {
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
    classes: Arc<Cache<StorageClass>>,
}

impl Waiting {
    fn of(caches: &Caches) -> Self {
        Self {
            claims: caches.claims.clone(),
            volumes: caches.volumes.clone(),
            classes: caches.storage_classes.clone(),
        }
    }

    /// A free volume wakes the first claim that could take it and is not to be looked at anyway: of several volumes that come
    /// together each wakes another claim.
    fn offer(&self, volume: &PersistentVolume, keys: &Queue<Key>) {
        for key in takers(volume, &self.claims_of(volume.class_name())) {
            if keys.add_new(key.clone()) && is_sound(&key, keys) {
                return;
            }
        }
    }

    /// A free volume that goes wakes all that could have taken it: to write to what is gone is no failure, so that whoever has
    /// tried does not try again by itself.
    fn withdraw(&self, change: &Change<PersistentVolume>, keys: &Queue<Key>) {
        let stays = |volume: &Arc<PersistentVolume>| !volume.metadata.is_deleting();
        if change.new.as_ref().is_some_and(stays) {
            return;
        }
        let old = change.old.as_ref();
        if let Some(volume) = old.filter(|old| old.spec.claim_ref.is_none()) {
            let claims = self.claims_of(volume.class_name());
            takers(volume, &claims).for_each(|key| keys.add(key));
        }
    }

    /// A claim that no longer asks for what it has asked for may leave volumes that only it was woken for.
    fn hand_on(&self, change: &Change<PersistentVolumeClaim>, keys: &Queue<Key>) {
        let Some(claim) = &change.old else {
            return;
        };
        let asked = asks(claim);
        if asked.is_none() || asked == change.new.as_deref().and_then(asks) {
            return;
        }
        let free = Mention::FreeOfClass(claim.class_name().to_owned());
        let mut free = self.volumes.mentioning(&free);
        free.retain(|volume| matching::could_take(claim, volume));
        if free.is_empty() {
            return;
        }
        let claims = self.claims_of(claim.class_name());
        for volume in free {
            for key in takers(&volume, &claims) {
                keys.add(key.clone());
                if is_sound(&key, keys) {
                    break;
                }
            }
        }
    }

    /// The claims of a class that take any volume; none where the scheduler chooses theirs.
    fn claims_of(&self, class: &str) -> Vec<Arc<PersistentVolumeClaim>> {
        if class::waits_for_consumer(class, &self.classes) {
            return Vec::new();
        }
        let waiting = Mention::FreeOfClass(class.to_owned());
        self.claims.mentioning(&waiting)
    }
}

/// Whether nothing went wrong with a claim lately. One that fails again would keep a volume from the others.
fn is_sound(key: &Key, keys: &Queue<Key>) -> bool {
    keys.failures(key) == 0
}

/// Those of the claims that could take the volume, in their order.
fn takers(
    volume: &PersistentVolume,
    claims: &[Arc<PersistentVolumeClaim>],
) -> impl Iterator<Item = Key> {
    let takers = claims
        .iter()
        .filter(move |claim| matching::could_take(claim, volume));
    takers.map(|claim| Key::of(&claim.metadata))
}

/// What a claim that takes any volume asks of it.
#[derive(PartialEq)]
struct Asked<'a> {
    class: &'a str,
    access_modes: &'a [String],
    mode: Option<&'a String>,
    requests: &'a BTreeMap<String, Value>,
    selector: Option<&'a LabelSelector>,
    attributes: Option<&'a String>,
}

fn asks(claim: &PersistentVolumeClaim) -> Option<Asked<'_>> {
    let spec = &claim.spec;
    matching::is_open(claim).then(|| Asked {
        class: claim.class_name(),
        access_modes: &spec.access_modes,
        mode: spec.volume_mode.as_ref(),
        requests: &spec.resources.requests,
        selector: spec.selector.as_ref(),
        attributes: spec.volume_attributes_class_name.as_ref(),
    })
}

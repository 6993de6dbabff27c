//! Which pod is next. Pods wait in one of three pools: *active* (by priority, then by age), *backoff* (tried in vain
//! lately), *unschedulable* (nothing has changed that could help).
//!
//! A pod that was refused remembers which filters refused it. A change in the cluster moves it on only when one of
//! these filters cares about the change. What nothing wakes is tried again after five minutes all the same.
//!
//! Deciding is one step of one loop, so no change can slip in between taking a pod out and parking it.
//!
//! What comes before priority is up to the [`Sort`](crate::plugins::Sort) of the configuration. Where namespaces take turns,
//! the active pods of each stand together, and whose turn it is, is kept beside them. Where groups are placed together, a pod
//! is kept out like one with a closed gate until its group is complete.

mod arrivals;
mod gangs;
mod parked;
mod place;

use crate::config::Config;
use crate::gang::Members;
use crate::object::Pod;
use crate::plugins::{Change, SYSTEM_CRITICAL};
use crate::shares::{Share, Turns};
use crate::snapshot::Millis;
use parked::Parked;
use place::{Place, Standing, same_pool};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

pub use arrivals::{Arrivals, Counts, Pool};
use arrivals::{BACKOFF_OVER, FAILED, LET_IN, POD_ADDED, POD_UPDATED, WAITED_LONG};

/// How long a pod stays unschedulable at most.
const UNSCHEDULABLE_MAX_MS: Millis = 300_000;

/// A pod in or out of the queue, with its history.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The pod as last seen.
    pub pod: Arc<Pod>,
    /// How often it was taken out to be scheduled.
    pub attempts: u32,
    /// When it could first be taken out; a closed gate kept it from that before.
    pub first_active: Option<Millis>,
    /// When the scheduler began the last attempt, for figures alone.
    pub begun: Option<Instant>,
    /// When it was last queued.
    since: Millis,
    /// Filters that refused it last time.
    refused_by: BTreeSet<&'static str>,
}

impl Queued {
    fn backoff_until(&self, config: &Config) -> Millis {
        let doublings = self.attempts.saturating_sub(1).min(30);
        let backoff = config.backoff_first.saturating_mul(1 << doublings);
        self.since.saturating_add(backoff.min(config.backoff_max))
    }
}

/// The queue. All times are passed in.
#[derive(Debug, Default)]
pub struct Queue {
    config: Arc<Config>,
    /// Where namespaces take turns: whose is next.
    turns: Option<Turns>,
    /// Who is in which group.
    members: Members,
    /// Pods that were kept out for their group since this was last asked for.
    kept_out: Vec<Arc<Pod>>,
    /// Uids of pods that wait outside until what they claim is there.
    held: BTreeSet<String>,
    entries: BTreeMap<String, (Queued, Place)>,
    /// Every entry once more, ordered: active ones first, then by pool and time.
    order: BTreeSet<Place>,
    /// The unschedulable ones once more, by what could help them.
    parked: Parked,
    counts: Counts,
    arrivals: Arrivals,
}

impl Queue {
    /// An empty queue for pods of these profiles.
    pub fn new(config: Arc<Config>) -> Queue {
        Queue {
            turns: config.sort.by_share.then(Turns::default),
            config,
            ..Queue::default()
        }
    }

    /// A pod that waits to be scheduled has appeared or changed. Status changes of a known pod do not move it.
    pub fn set(&mut self, pod: Arc<Pod>, now: Millis) {
        let key = self.gang_of(&pod);
        if key.is_some() && !self.is_gated(&pod) {
            self.members.join(&pod, false);
        }
        self.put(pod, now);
        if let Some(key) = key {
            self.let_in(&key, now);
        }
    }

    fn put(&mut self, pod: Arc<Pod>, now: Millis) {
        let Some((mut queued, place)) = self.take(&pod.uid) else {
            let queued = Queued {
                pod,
                attempts: 0,
                first_active: None,
                begun: None,
                since: now,
                refused_by: BTreeSet::new(),
            };
            return self.activate(queued, now, POD_ADDED);
        };
        let moved = asks_differently(&queued.pod, &pod);
        queued.pod = pod;
        match place {
            Place::Gated(_) => self.activate(queued, now, POD_UPDATED),
            Place::Unschedulable(..) if moved => self.back_off(queued, now, POD_UPDATED),
            Place::Active(standing) => {
                let place = self.active(&queued.pod, standing.since);
                self.insert(queued, place);
            }
            place => self.insert(queued, place),
        }
    }

    /// The pod is gone or somebody else has placed it.
    pub fn remove(&mut self, uid: &str) {
        self.held.remove(uid);
        self.take(uid);
    }

    /// Keeps the pod out from the next time on that it would come in, or does so no more.
    pub fn hold(&mut self, uid: &str, held: bool) {
        if held {
            self.held.insert(uid.to_owned());
        } else {
            self.held.remove(uid);
        }
    }

    /// Whether the pod is kept out so.
    pub fn is_held(&self, uid: &str) -> bool {
        self.held.contains(uid)
    }

    /// The next pod to schedule. When nothing is active, the pod whose backoff ends soonest is taken early.
    pub fn pop(&mut self, now: Millis) -> Option<Queued> {
        self.flush(now);
        let next = self.first()?;
        let (Place::Active(Standing { uid, .. }) | Place::Backoff(_, uid)) = next else {
            return None;
        };
        let uid = uid.clone();
        let (mut queued, _) = self.take(&uid)?;
        queued.attempts += 1;
        Some(queued)
    }

    /// The place of the pod that is next, if that is one that can be taken.
    fn first(&self) -> Option<&Place> {
        let first = self.order.first()?;
        let (Some(turns), Place::Active(standing)) = (&self.turns, first) else {
            return Some(first);
        };
        match turns.next().filter(|_| !standing.namespace.is_empty()) {
            Some(namespace) => {
                let start = Place::Active(Standing::first_of(namespace));
                self.order.range(start..).next()
            }
            None => Some(first),
        }
    }

    /// Where namespaces take turns: one has this share from now on.
    pub fn set_share(&mut self, namespace: &str, share: Share) {
        if let Some(turns) = &mut self.turns {
            turns.set_share(namespace, share);
        }
    }

    /// Whether a gate of the pod itself is closed.
    fn is_gated(&self, pod: &Pod) -> bool {
        if self.held.contains(&pod.uid) {
            return true;
        }
        let profile = self.config.profile(pod);
        let mut gates = profile.into_iter().flat_map(|profile| &profile.gates);
        gates.any(|gate| (gate.closed)(pod).is_some())
    }

    /// These filters refused the pod; it waits for a change that one of them cares about.
    pub fn park(&mut self, mut queued: Queued, refused_by: BTreeSet<&'static str>, now: Millis) {
        queued.since = now;
        queued.refused_by = refused_by;
        let place = Place::Unschedulable(now, queued.pod.uid.clone());
        self.arrivals.add(&place, FAILED);
        self.insert(queued, place);
    }

    /// Something else went wrong (binding failed); tries again after the backoff.
    pub fn retry(&mut self, mut queued: Queued, now: Millis) {
        queued.since = now;
        let place = Place::ErrorBackoff(queued.backoff_until(&self.config), queued.pod.uid.clone());
        self.arrivals.add(&place, FAILED);
        self.insert(queued, place);
    }

    /// The cluster has changed: moves on the pods that it may help. Returns how many.
    pub fn wake(&mut self, change: &Change, now: Millis) -> usize {
        let config = self.config.clone();
        let woken = self.parked.helped_by(change, &config);
        for uid in &woken {
            if let Some((queued, _)) = self.take(uid) {
                self.back_off(queued, now, change.label());
            }
        }
        woken.len()
    }

    /// What a refused pod waits for may not come: it is tried again after its backoff.
    pub fn rouse(&mut self, uid: &str, now: Millis) {
        let entry = self.entries.get(uid);
        if entry.is_some_and(|(_, place)| matches!(place, Place::Unschedulable(..)))
            && let Some((queued, _)) = self.take(uid)
        {
            self.back_off(queued, now, LET_IN);
        }
    }

    /// When the queue has something to do next without any change from outside.
    pub fn next_wakeup(&self) -> Option<Millis> {
        // Within a pool the places are ordered by time, so each is asked only for its first.
        let first_of = |start: Place| {
            let first = self.order.range(&start..).next();
            first.filter(|place| same_pool(place, &start))
        };
        let takeable = |place: &&Place| matches!(place, Place::Active(..) | Place::Backoff(..));
        if self.order.first().as_ref().is_some_and(takeable) {
            return Some(0);
        }
        let error = first_of(Place::ErrorBackoff(0, String::new()));
        let refused = first_of(Place::Unschedulable(0, String::new()));
        let due = |place: &Place| match place {
            Place::ErrorBackoff(until, _) => Some(*until),
            Place::Unschedulable(since, _) => Some(since + UNSCHEDULABLE_MAX_MS),
            _ => None,
        };
        error
            .and_then(due)
            .into_iter()
            .chain(refused.and_then(due))
            .min()
    }

    /// How many pods wait in each pool.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What has come into the pools since the last call.
    pub fn take_arrivals(&mut self) -> Arrivals {
        std::mem::take(&mut self.arrivals)
    }

    /// How many pods wait, in every pool.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no pod waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Moves on what has waited long enough.
    fn flush(&mut self, now: Millis) {
        let due = |place: &Place| match place {
            Place::Backoff(until, _) | Place::ErrorBackoff(until, _) => *until <= now,
            Place::Unschedulable(since, _) => since + UNSCHEDULABLE_MAX_MS <= now,
            Place::Active(..) | Place::Gated(_) => false,
        };
        // Within a pool the places are ordered by time, so each pool is asked only for its first.
        let pools: [fn() -> Place; 3] = [
            || Place::Backoff(0, String::new()),
            || Place::ErrorBackoff(0, String::new()),
            || Place::Unschedulable(0, String::new()),
        ];
        for first_of_pool in pools {
            let start = first_of_pool();
            while let Some(place) = self
                .order
                .range(&start..)
                .next()
                .filter(|place| same_pool(place, &start) && due(place))
            {
                let uid = place.uid().to_string();
                let Some((queued, place)) = self.take(&uid) else {
                    break;
                };
                let event = match place {
                    Place::Unschedulable(..) => WAITED_LONG,
                    _ => BACKOFF_OVER,
                };
                self.activate(queued, now, event);
            }
        }
    }

    /// Into the active pool, unless a gate is closed.
    fn activate(&mut self, mut queued: Queued, now: Millis, event: &'static str) {
        let gated = self.is_gated(&queued.pod);
        let key = self.gang_of(&queued.pod).filter(|_| !gated);
        let incomplete = key.filter(|key| !self.members.is_complete(key));
        if gated || incomplete.is_some() {
            if let Some(key) = incomplete {
                self.members.keep_out(key, &queued.pod.uid);
                self.kept_out.push(queued.pod.clone());
            }
            let place = Place::Gated(queued.pod.uid.clone());
            if event != POD_UPDATED {
                self.arrivals.add(&place, event);
            }
            return self.insert(queued, place);
        }
        queued.since = now;
        queued.first_active.get_or_insert(now);
        let place = self.active(&queued.pod, now);
        self.arrivals.add(&place, event);
        self.insert(queued, place);
    }

    fn back_off(&mut self, queued: Queued, now: Millis, event: &'static str) {
        let until = queued.backoff_until(&self.config);
        if until <= now {
            return self.activate(queued, now, event);
        }
        let place = Place::Backoff(until, queued.pod.uid.clone());
        self.arrivals.add(&place, event);
        self.insert(queued, place);
    }

    fn active(&self, pod: &Pod, since: Millis) -> Place {
        let takes_turns = self.turns.is_some() && pod.priority < SYSTEM_CRITICAL;
        Place::Active(Standing {
            namespace: match takes_turns {
                true => pod.namespace.clone(),
                false => String::new(),
            },
            rank: (self.config.sort.rank)(pod),
            priority: Reverse(pod.priority),
            since,
            created: pod.created,
            uid: pod.uid.clone(),
        })
    }

    fn insert(&mut self, queued: Queued, place: Place) {
        self.occupy(&place);
        self.parked.put(&queued, &place, &self.config);
        let uid = queued.pod.uid.clone();
        if let Some((_, old)) = self.entries.insert(uid, (queued, place.clone()))
            && old != place
        {
            self.vacate(&old);
        }
    }

    fn take(&mut self, uid: &str) -> Option<(Queued, Place)> {
        let (queued, place) = self.entries.remove(uid)?;
        self.parked.remove(uid);
        self.vacate(&place);
        Some((queued, place))
    }

    fn occupy(&mut self, place: &Place) {
        if !self.order.insert(place.clone()) {
            return;
        }
        *self.counts.of(Pool::of(place)) += 1;
        if let (Some(turns), Some(namespace)) = (&mut self.turns, place.takes_turns()) {
            turns.add(namespace);
        }
    }

    fn vacate(&mut self, place: &Place) {
        if !self.order.remove(place) {
            return;
        }
        *self.counts.of(Pool::of(place)) -= 1;
        if let (Some(turns), Some(namespace)) = (&mut self.turns, place.takes_turns()) {
            turns.remove(namespace);
        }
    }
}

/// Whether anything changed that a filter could read; what the scheduler itself writes into the status does not count.
fn asks_differently(old: &Pod, new: &Pod) -> bool {
    let essence = |pod: &Pod| Pod {
        resource_version: Box::default(),
        generation: 0,
        nominated_node: Box::default(),
        scheduled_condition: None,
        started: 0,
        ..pod.clone()
    };
    essence(old) != essence(new)
}

#[cfg(test)]
mod tests;

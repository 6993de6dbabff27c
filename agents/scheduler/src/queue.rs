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

use crate::config::Config;
use crate::extender;
use crate::gang::Members;
use crate::object::Pod;
use crate::plugins::{Change, SYSTEM_CRITICAL};
use crate::shares::{Share, Turns};
use crate::snapshot::Millis;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

pub use arrivals::{Arrivals, Counts, Pool};
use arrivals::{BACKOFF_OVER, FAILED, POD_ADDED, POD_UPDATED, WAITED_LONG};

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

/// Where a pod waits; the key by which it stands there, so that it can be found again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Active(Standing),
    Backoff(Millis, String),
    /// After an error, as opposed to a refusal; not taken early.
    ErrorBackoff(Millis, String),
    Unschedulable(Millis, String),
    Gated(String),
}

/// Where an active pod stands. The fields are compared in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    /// The namespace where namespaces take turns; empty for pods that are not part of that.
    namespace: String,
    /// From the plugin that sorts.
    rank: i64,
    priority: Reverse<i32>,
    since: Millis,
    created: String,
    uid: String,
}

impl Standing {
    /// Before all of the namespace.
    fn first_of(namespace: &str) -> Standing {
        Standing {
            namespace: namespace.to_owned(),
            rank: i64::MIN,
            priority: Reverse(i32::MAX),
            since: 0,
            created: String::new(),
            uid: String::new(),
        }
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
        let helps = |queued: &Queued| {
            queued.refused_by.is_empty()
                // What such a one goes by is not known here.
                || queued.refused_by.contains(extender::NAME)
                || config.profile(&queued.pod).is_none_or(|profile| {
                    profile.filters.iter().any(|filter| {
                        queued.refused_by.contains(filter.name)
                            && (filter.wakes_on)(&queued.pod, change, &profile.args)
                    })
                })
        };
        // Only that pool is walked: most changes meet a long queue, or one in which nobody is refused.
        let start = Place::Unschedulable(0, String::new());
        let woken: Vec<String> = self
            .order
            .range(&start..)
            .take_while(|place| same_pool(place, &start))
            .map(Place::uid)
            .filter(|uid| {
                self.entries
                    .get(*uid)
                    .is_some_and(|(queued, _)| helps(queued))
            })
            .map(str::to_owned)
            .collect();
        for uid in &woken {
            if let Some((queued, _)) = self.take(uid) {
                self.back_off(queued, now, change.label());
            }
        }
        woken.len()
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
            created: pod.created.clone(),
            uid: pod.uid.clone(),
        })
    }

    fn insert(&mut self, queued: Queued, place: Place) {
        self.occupy(&place);
        let uid = queued.pod.uid.clone();
        if let Some((_, old)) = self.entries.insert(uid, (queued, place.clone()))
            && old != place
        {
            self.vacate(&old);
        }
    }

    fn take(&mut self, uid: &str) -> Option<(Queued, Place)> {
        let (queued, place) = self.entries.remove(uid)?;
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

impl Place {
    /// The namespace whose turn has to come.
    fn takes_turns(&self) -> Option<&str> {
        match self {
            Place::Active(standing) if !standing.namespace.is_empty() => Some(&standing.namespace),
            _ => None,
        }
    }

    fn uid(&self) -> &str {
        match self {
            Place::Active(Standing { uid, .. })
            | Place::Backoff(_, uid)
            | Place::ErrorBackoff(_, uid)
            | Place::Unschedulable(_, uid)
            | Place::Gated(uid) => uid,
        }
    }
}

fn same_pool(a: &Place, b: &Place) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Whether anything changed that a filter could read; what the scheduler itself writes into the status does not count.
fn asks_differently(old: &Pod, new: &Pod) -> bool {
    let essence = |pod: &Pod| Pod {
        resource_version: String::new(),
        generation: 0,
        nominated_node: String::new(),
        scheduled_condition: None,
        started: String::new(),
        ..pod.clone()
    };
    essence(old) != essence(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, priority: i32) -> Arc<Pod> {
        Arc::new(Pod::compile(&json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {"priority": priority},
        })))
    }

    fn pop(queue: &mut Queue, now: Millis) -> Option<String> {
        queue.pop(now).map(|queued| queued.pod.uid.clone())
    }

    #[test]
    fn priority_first_then_age() {
        let mut queue = Queue::default();
        queue.set(pod("old", 0), 1);
        queue.set(pod("high", 5), 3);
        queue.set(pod("new", 0), 2);
        assert_eq!(
            [pop(&mut queue, 4), pop(&mut queue, 4), pop(&mut queue, 4)].map(Option::unwrap),
            ["high", "old", "new"]
        );
        assert_eq!(pop(&mut queue, 4), None);
    }

    #[test]
    fn a_refused_pod_waits_for_a_change_that_its_filter_cares_about() {
        let mut queue = Queue::default();
        queue.set(pod("p", 0), 0);
        let queued = queue.pop(0).unwrap();
        queue.park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
        assert_eq!(queue.wake(&Change::Namespace, 1), 0);
        assert_eq!(pop(&mut queue, 100_000), None);
        assert_eq!(queue.wake(&Change::PodGone(pod("other", 0)), 100_000), 1);
        assert_eq!(pop(&mut queue, 100_000).unwrap(), "p");
    }

    #[test]
    fn what_an_extender_refused_is_tried_again_whatever_changes() {
        let mut queue = Queue::default();
        queue.set(pod("p", 0), 0);
        let queued = queue.pop(0).unwrap();
        queue.park(queued, BTreeSet::from([extender::NAME, "NodeName"]), 0);
        assert_eq!(queue.wake(&Change::Namespace, 1), 1);
    }

    #[test]
    fn a_pod_in_backoff_gives_way_to_active_ones_but_is_taken_when_there_are_none() {
        let mut queue = Queue::default();
        queue.set(pod("p", 0), 0);
        let queued = queue.pop(0).unwrap();
        queue.park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
        queue.wake(&Change::PodGone(pod("other", 0)), 1);
        queue.set(pod("q", -5), 2);
        assert_eq!(
            [pop(&mut queue, 2), pop(&mut queue, 2)].map(Option::unwrap),
            ["q", "p"]
        );
    }

    #[test]
    fn errors_back_off_doubling_up_to_ten_seconds() {
        let mut queue = Queue::default();
        queue.set(pod("p", 0), 0);
        let mut now = 0;
        for expected in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let queued = queue.pop(now).unwrap();
            queue.retry(queued, now);
            assert_eq!(queue.next_wakeup(), Some(now + expected));
            assert_eq!(pop(&mut queue, now + expected - 1), None);
            now += expected;
        }
    }

    #[test]
    fn the_unschedulable_pool_is_flushed_after_five_minutes() {
        let mut queue = Queue::default();
        queue.set(pod("p", 0), 0);
        let queued = queue.pop(0).unwrap();
        queue.park(queued, BTreeSet::from(["NodeName"]), 0);
        assert_eq!(pop(&mut queue, UNSCHEDULABLE_MAX_MS - 1), None);
        assert_eq!(queue.next_wakeup(), Some(UNSCHEDULABLE_MAX_MS));
        assert_eq!(pop(&mut queue, UNSCHEDULABLE_MAX_MS).unwrap(), "p");
    }

    #[test]
    fn gates_keep_a_pod_out_until_they_are_gone() {
        let mut queue = Queue::default();
        let gated = |gates: serde_json::Value| {
            Arc::new(Pod::compile(
                &json!({"metadata": {"uid": "p"}, "spec": {"schedulingGates": gates}}),
            ))
        };
        queue.set(gated(json!([{"name": "g"}])), 0);
        assert_eq!((pop(&mut queue, 0), queue.next_wakeup()), (None, None));
        queue.set(gated(json!([])), 1);
        assert_eq!(pop(&mut queue, 1).unwrap(), "p");
    }

    #[test]
    fn a_changed_pod_is_tried_again_but_not_because_of_our_own_status_write() {
        let mut queue = Queue::default();
        queue.set(pod("p", 0), 0);
        let queued = queue.pop(0).unwrap();
        queue.park(queued, BTreeSet::from(["NodeAffinity"]), 0);
        let mut status = (*pod("p", 0)).clone();
        status.scheduled_condition = Some(Box::new((
            "False".into(),
            "Unschedulable".into(),
            "m".into(),
        )));
        queue.set(Arc::new(status.clone()), 5_000);
        assert_eq!(pop(&mut queue, 5_000), None);
        status.node_selector.insert("a".into(), "b".into());
        queue.set(Arc::new(status), 5_000);
        assert_eq!(pop(&mut queue, 5_000).unwrap(), "p");
        assert!(queue.is_empty());
    }
}

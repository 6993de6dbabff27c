//! Pods that no node takes: what is told to them, and who makes room.

use super::Scheduler;
use crate::config::Profile;
use crate::gang::Others;
use crate::metrics::{self, Outcome};
use crate::object::Pod;
use crate::preempt::{Preemption, candidates, cheapest};
use crate::queue::Queued;
use crate::schedule::Diagnosis;
use crate::write;
use agent_runtime::{Client, EventRecorder, EventType, timestamp};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use tokio::task::{self, JoinError, JoinSet};

/// Where room is made for a pod, and who leaves.
struct Room {
    node: String,
    victims: Vec<Arc<Pod>>,
}

/// What a write under way is about that evicts somebody.
pub(super) struct Evicting {
    /// Uids of those who leave.
    victims: Vec<String>,
    /// Uids of those who wait for it.
    waiting: BTreeSet<String>,
    /// Whether one of them could not be evicted.
    has_failed: Arc<AtomicBool>,
}

/// Who leaves a node, and for whom.
pub(super) struct Eviction {
    pub(super) victim: Arc<Pod>,
    pub(super) pod: Arc<Pod>,
    pub(super) node: String,
}

impl Scheduler {
    /// Nothing takes the pod: makes room if that helps, says why, and parks the pod.
    pub(super) async fn refuse(&mut self, queued: Queued, profile: &Profile, diagnosis: Diagnosis) {
        let pod = queued.pod.clone();
        let freed = self.free_devices(&pod, profile, &diagnosis);
        let (words, room) = self.make_room(&pod, profile, &diagnosis).await;
        metrics::ended(&queued, Outcome::Unschedulable);
        let freed = freed.filter(|_| room.is_none());
        let message = diagnosis.message_after(freed, words.as_deref());
        tracing::debug!(
            namespace = pod.namespace,
            name = pod.name,
            message,
            "unschedulable"
        );
        self.tell(&pod, EventType::Warning, "FailedScheduling", &message);
        self.world.queue.park(queued, diagnosis.plugins, self.now());

        let nominated = self
            .world
            .snapshot
            .nominated_node(&pod.uid)
            .unwrap_or_default();
        let status = status_of(&pod, "Unschedulable", &message, nominated);
        let Some(Room { node, victims }) = room else {
            if let Some(status) = status {
                self.write_status(pod, status);
            }
            return;
        };
        let eviction = |victim| Eviction {
            victim,
            pod: pod.clone(),
            node: node.clone(),
        };
        let evictions = victims.into_iter().map(eviction).collect();
        self.evict(status.map(|status| (pod.clone(), status)), evictions);
    }

    /// Writes a status, if there is one to be written first, and then evicts these all at once. Until that is done nobody else
    /// has to go in their stead.
    pub(super) fn evict(
        &mut self,
        first: Option<(Arc<Pod>, serde_json::Value)>,
        evictions: Vec<Eviction>,
    ) {
        let waiting = evictions.iter().map(|eviction| eviction.pod.uid.clone());
        let victims = evictions.iter().map(|eviction| &eviction.victim.uid);
        let evicting = Evicting {
            victims: victims.cloned().collect(),
            waiting: waiting.collect(),
            has_failed: Arc::default(),
        };
        for uid in &evicting.victims {
            self.world.snapshot.begin_eviction(uid);
        }
        let client = self.client.clone();
        let (events, permits) = (self.events.clone(), self.evictors.clone());
        let has_failed = evicting.has_failed.clone();
        let write = self.writes.spawn(host::here(async move {
            if let Some((pod, status)) = first {
                write_refusal(&client, &pod, &status).await;
            }
            if !evict_all(&client, &events, &permits, evictions).await {
                has_failed.store(true, Ordering::Relaxed);
            }
        }));
        self.evicting.insert(write.id(), evicting);
    }

    pub(super) fn finish_write(&mut self, done: Result<(task::Id, ()), JoinError>) {
        let (id, is_done) = match done {
            Ok((id, ())) => (id, true),
            Err(error) => {
                tracing::error!(%error, "a background write ended abnormally");
                (error.id(), false)
            }
        };
        let Some(evicting) = self.evicting.remove(&id) else {
            return;
        };
        for uid in &evicting.victims {
            self.world.snapshot.end_eviction(uid);
        }
        if !is_done || evicting.has_failed.load(Ordering::Relaxed) {
            // Nobody else would say that these wait in vain.
            let now = self.now();
            for uid in &evicting.waiting {
                self.world.queue.rouse(uid, now);
            }
        }
    }

    pub(super) fn write_status(&mut self, pod: Arc<Pod>, status: serde_json::Value) {
        let client = self.client.clone();
        self.writes.spawn(host::here(async move {
            write_refusal(&client, &pod, &status).await;
        }));
    }

    /// What preemption says and, if it helps, the node and who has to leave. Keeps the room for the pod.
    async fn make_room(
        &mut self,
        pod: &Arc<Pod>,
        profile: &Profile,
        diagnosis: &Diagnosis,
    ) -> (Option<String>, Option<Room>) {
        if diagnosis.nodes == 0 || !profile.preempts {
            return (None, None);
        }
        let budgets: Vec<_> = self
            .world
            .budgets
            .values()
            .map(|budget| (**budget).clone())
            .collect();
        let found = candidates(
            pod,
            &mut self.world.snapshot.clone(),
            profile,
            diagnosis,
            &budgets,
            &Others::default(),
            host::rng().random_range(0..diagnosis.nodes),
        );
        let preemption = match found {
            Ok(found) => match self.ask_about_victims(pod, found).await {
                Ok(left) => cheapest(left),
                Err(error) => Preemption::Waiting(error),
            },
            Err(preemption) => preemption,
        };
        metrics::preempted(match &preemption {
            Preemption::Evict { victims, .. } => Some(victims.len()),
            _ => None,
        });
        match preemption {
            Preemption::Waiting(words) => (Some(words), None),
            Preemption::Useless(words) => {
                let now = self.now();
                self.world.give_up_room(&pod.uid, now);
                (Some(words), None)
            }
            Preemption::Evict { node, victims } => {
                let now = self.now();
                self.world.keep_room(pod.clone(), &node, now);
                (None, Some(Room { node, victims }))
            }
        }
    }
}

/// The status that says why the pod waits, unless it says so already.
pub(super) fn status_of(
    pod: &Pod,
    reason: &str,
    message: &str,
    nominated: &str,
) -> Option<serde_json::Value> {
    let now = timestamp::time(timestamp::now());
    write::refusal(pod, reason, message, nominated, &now)
}

async fn write_refusal(client: &Client, pod: &Pod, status: &serde_json::Value) {
    if let Err(error) = write::report(client, pod, status).await
        && !error.is_not_found()
    {
        tracing::warn!(namespace = pod.namespace, name = pod.name, %error, "the pod's condition could not be written");
    }
}

/// All at once, as far as there are permits; whether all of them leave.
async fn evict_all(
    client: &Client,
    events: &BTreeMap<String, EventRecorder>,
    permits: &Arc<Semaphore>,
    evictions: Vec<Eviction>,
) -> bool {
    let mut open = JoinSet::new();
    for eviction in evictions {
        let Some(events) = events.get(&eviction.pod.scheduler_name).cloned() else {
            continue;
        };
        let (client, permits) = (client.clone(), permits.clone());
        open.spawn(host::here(async move {
            let _permit = permits.acquire().await;
            evict(&client, &events, &eviction).await
        }));
    }
    let mut all_leave = true;
    while let Some(done) = open.join_next().await {
        all_leave &= done.unwrap_or_else(|error| {
            tracing::error!(%error, "an eviction ended abnormally");
            false
        });
    }
    all_leave
}

/// Whether the victim leaves.
async fn evict(client: &Client, events: &EventRecorder, eviction: &Eviction) -> bool {
    let Eviction { victim, pod, node } = eviction;
    match write::evict(client, pod, victim).await {
        Ok(()) => {
            let message = format!("Preempted by pod {} on node {node}", pod.uid);
            events.event(
                write::reference(victim),
                EventType::Normal,
                "Preempted",
                message,
            );
            true
        }
        Err(error) => {
            tracing::warn!(namespace = victim.namespace, name = victim.name, %error, "a victim could not be evicted");
            false
        }
    }
}

//! The loop around the pure parts: while elected, takes in what changed, decides about one pod after the other, and
//! lets bindings and reports go on in the background, a bounded number at a time.

use crate::feed::{Feed, OwnedSelector, Source};
use crate::object::{DEFAULT_SCHEDULER, Pod};
use crate::preempt::{Preemption, preempt};
use crate::queue::Queued;
use crate::schedule::{Decision, Diagnosis, schedule};
use crate::snapshot::Millis;
use crate::world::World;
use crate::write;
use agent_runtime::{
    AgentContext, ApiError, Client, Elector, ElectorConfig, EventRecorder, EventType, Hub, Key,
    timestamp,
};
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Writes under way at once; when so many are, deciding waits.
const WRITES_MAX: usize = 64;

/// Schedules pods whenever elected, until `context.stop`.
pub async fn run(context: AgentContext) {
    let config = ElectorConfig::new("kube-system", "kube-scheduler", &context.identity);
    let elector = Elector::new(context.client.clone(), config);
    elector
        .run(context.stop.clone(), |stop| {
            lead(context.client.clone(), stop)
        })
        .await;
}

/// What happens while elected.
async fn lead(client: Client, stop: CancellationToken) {
    let hub = Hub::new(client.clone(), &stop);
    let feed = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        feed = Feed::open(&hub) => feed,
    };
    let events = EventRecorder::start(client.clone(), DEFAULT_SCHEDULER, "", &stop);
    let scheduler = Scheduler {
        world: World::new(DEFAULT_SCHEDULER),
        client,
        feed,
        events,
        writes: JoinSet::new(),
        started: Instant::now(),
    };
    scheduler.run(&stop).await;
}

struct Scheduler {
    world: World,
    client: Client,
    feed: Feed,
    events: EventRecorder,
    /// Dropped, and with it every write under way, when the leadership ends.
    writes: JoinSet<Done>,
    started: Instant,
}

/// Where room is made for a pod, and who leaves.
struct Room {
    node: String,
    victims: Vec<Arc<Pod>>,
}

/// The end of a background write.
enum Done {
    Bound {
        queued: Queued,
        node: String,
        result: Result<(), ApiError>,
    },
    Reported,
}

impl Scheduler {
    async fn run(mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.take_in();
            while let Some(done) = self.writes.try_join_next() {
                self.finish(done);
            }
            self.world.expire(self.now());
            if self.writes.len() < WRITES_MAX
                && let Some(queued) = self.world.queue.pop(self.now())
            {
                self.decide(queued);
                tokio::task::yield_now().await;
                continue;
            }
            let wakeup = self.wakeup();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.feed.wait() => {}
                Some(done) = self.writes.join_next() => self.finish(done),
                () = tokio::time::sleep_until(wakeup) => {}
            }
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// When to look again at the latest. With the background full, only its progress matters.
    fn wakeup(&self) -> Instant {
        const AT_LATEST: Duration = Duration::from_secs(60);
        let due = self
            .world
            .next_wakeup()
            .filter(|_| self.writes.len() < WRITES_MAX);
        let latest = Instant::now() + AT_LATEST;
        due.map_or(latest, |due| {
            (self.started + Duration::from_millis(due)).min(latest)
        })
    }

    /// Applies to the world what the watches brought.
    fn take_in(&mut self) {
        let now = self.now();
        for (source, key) in self.feed.take() {
            let (namespace, name) = (&*key.namespace, &*key.name);
            let full = (namespace.to_string(), name.to_string());
            match source {
                Source::Node => self
                    .world
                    .set_node(name, value(&self.feed.nodes, &key), now),
                Source::Pod => self.world.set_pod(full, value(&self.feed.pods, &key), now),
                Source::Budget => self.world.set_budget(full, value(&self.feed.budgets, &key)),
                Source::Namespace => {
                    let labels =
                        value(&self.feed.namespaces, &key).map(|namespace| namespace.0.clone());
                    self.world.set_namespace(name, labels, now);
                }
                Source::Service => {
                    let selector =
                        value(&self.feed.services, &key).map(|service| service.0.clone());
                    self.world.set_service(full, selector);
                }
                Source::ReplicaSet => {
                    let owner = value(&self.feed.replica_sets, &key);
                    self.world.set_owner(
                        "ReplicaSet",
                        full,
                        owner.as_ref().map(|owner| selector_of(&owner.0)),
                    );
                }
                Source::StatefulSet => {
                    let owner = value(&self.feed.stateful_sets, &key);
                    self.world.set_owner(
                        "StatefulSet",
                        full,
                        owner.as_ref().map(|owner| selector_of(&owner.0)),
                    );
                }
                Source::ReplicationController => {
                    let owner = value(&self.feed.replication_controllers, &key);
                    let owner = owner.as_ref().map(|owner| selector_of(&owner.0));
                    self.world.set_owner("ReplicationController", full, owner);
                }
            }
        }
    }

    fn decide(&mut self, queued: Queued) {
        let pod = queued.pod.clone();
        let decision = schedule(&pod, &self.world.snapshot, &mut |n| {
            host::rng().random_range(0..n)
        });
        match decision {
            Decision::Bind { node, feasible } => {
                tracing::debug!(
                    namespace = pod.namespace,
                    name = pod.name,
                    node,
                    feasible,
                    "pod assumed"
                );
                self.world.snapshot.assume(pod.clone(), &node);
                let client = self.client.clone();
                self.writes.spawn(host::here(async move {
                    let result = write::bind(&client, &pod, &node).await;
                    Done::Bound {
                        queued,
                        node,
                        result,
                    }
                }));
            }
            Decision::Unschedulable(diagnosis) => self.refuse(queued, diagnosis),
        }
    }

    /// Nothing takes the pod: makes room if that helps, says why, and parks the pod.
    fn refuse(&mut self, queued: Queued, diagnosis: Diagnosis) {
        let pod = queued.pod.clone();
        let (words, room) = self.make_room(&pod, &diagnosis);
        let message = diagnosis.message(words.as_deref());
        tracing::debug!(
            namespace = pod.namespace,
            name = pod.name,
            message,
            "unschedulable"
        );
        self.events.event(
            write::reference(&pod),
            EventType::Warning,
            "FailedScheduling",
            message.clone(),
        );
        self.world.queue.park(queued, diagnosis.plugins, self.now());

        let nominated = self
            .world
            .snapshot
            .nominated_node(&pod.uid)
            .unwrap_or_default();
        let now = timestamp::time(timestamp::now());
        let status = write::refusal(&pod, "Unschedulable", &message, nominated, &now);
        if status.is_none() && room.is_none() {
            return;
        }
        let (client, events) = (self.client.clone(), self.events.clone());
        self.writes.spawn(host::here(async move {
            if let Some(status) = status
                && let Err(error) = write::report(&client, &pod, &status).await
                && !error.is_not_found()
            {
                tracing::warn!(namespace = pod.namespace, name = pod.name, %error, "the pod's condition could not be written");
            }
            if let Some(Room { node, victims }) = room {
                evict_all(&client, &events, &pod, &node, &victims).await;
            }
            Done::Reported
        }));
    }

    /// What preemption says and, if it helps, the node and who has to leave. Keeps the room for the pod.
    fn make_room(
        &mut self,
        pod: &Arc<Pod>,
        diagnosis: &Diagnosis,
    ) -> (Option<String>, Option<Room>) {
        if diagnosis.nodes == 0 {
            return (None, None);
        }
        let budgets: Vec<_> = self
            .world
            .budgets
            .values()
            .map(|budget| (**budget).clone())
            .collect();
        match preempt(
            pod,
            &self.world.snapshot,
            diagnosis,
            &budgets,
            host::rng().random_range(0..diagnosis.nodes),
        ) {
            Preemption::Waiting(words) => (Some(words), None),
            Preemption::Useless(words) => {
                self.world.snapshot.withdraw_nomination(&pod.uid);
                (Some(words), None)
            }
            Preemption::Evict { node, victims } => {
                self.world.snapshot.nominate(pod.clone(), &node);
                (None, Some(Room { node, victims }))
            }
        }
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.now();
        match done {
            Ok(Done::Reported) => {}
            Ok(Done::Bound {
                queued,
                node,
                result: Ok(()),
            }) => {
                let pod = &queued.pod;
                self.world.snapshot.finish_binding(&pod.uid, now);
                let message = format!(
                    "Successfully assigned {}/{} to {node}",
                    pod.namespace, pod.name
                );
                self.events.event(
                    write::reference(pod),
                    EventType::Normal,
                    "Scheduled",
                    message,
                );
            }
            Ok(Done::Bound {
                queued,
                node,
                result: Err(error),
            }) => {
                tracing::warn!(namespace = queued.pod.namespace, name = queued.pod.name, node, %error, "binding failed");
                if !error.is_not_found() {
                    let message = format!(
                        "binding rejected: running Bind plugin \"DefaultBinder\": {}",
                        error.message
                    );
                    self.events.event(
                        write::reference(&queued.pod),
                        EventType::Warning,
                        "FailedScheduling",
                        message,
                    );
                }
                self.world.binding_failed(queued, now);
            }
            // A panic in a write is a bug; the assumption it leaves behind ends with this leadership.
            Err(error) => tracing::error!(%error, "a background write ended abnormally"),
        }
    }
}

/// The compiled object in a cache, if it is there.
fn value<T: crate::feed::Compiled>(
    cache: &agent_runtime::Cache<crate::feed::Seen<T>>,
    key: &Key,
) -> Option<Arc<T>> {
    cache.by_key(key).map(|seen| seen.value.clone())
}

fn selector_of(owner: &OwnedSelector) -> (&str, Option<&crate::selector::LabelSelector>) {
    (&owner.uid, owner.selector.as_ref())
}

async fn evict_all(
    client: &Client,
    events: &EventRecorder,
    pod: &Pod,
    node: &str,
    victims: &[Arc<Pod>],
) {
    for victim in victims {
        match write::evict(client, pod, victim).await {
            Ok(()) => {
                let message = format!("Preempted by pod {} on node {node}", pod.uid);
                events.event(
                    write::reference(victim),
                    EventType::Normal,
                    "Preempted",
                    message,
                );
            }
            Err(error) => {
                tracing::warn!(namespace = victim.namespace, name = victim.name, %error, "a victim could not be evicted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    /// The process that starts the agents spawns them.
    #[test]
    fn the_future_can_move_between_threads() {
        fn spawnable<F: Future + Send + 'static>(_: fn(agent_runtime::AgentContext) -> F) {}
        spawnable(super::run);
    }
}

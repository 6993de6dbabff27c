//! The loop around the pure parts: while elected, takes in what changed, decides about one pod after the other, and
//! lets bindings and reports go on in the background, a bounded number at a time.

mod extenders;
mod gangs;
mod pre_bind;

use crate::bind_claims::Turns;
use crate::binder::{Binder, Placed};
use crate::config::{Config, Profile};
use crate::extender::Extenders;
use crate::feed::{Feed, OwnedSelector, Source};
use crate::gang::{Held, Others};
use crate::metrics::{self, Outcome};
use crate::object::Pod;
use crate::preempt::{Preemption, candidates, cheapest};
use crate::queue::Queued;
use crate::schedule::{Decision, Diagnosis, schedule, schedule_asked};
use crate::snapshot::Millis;
use crate::world::World;
use crate::write;
use agent_runtime::{
    AgentContext, Client, Elector, ElectorConfig, EventRecorder, EventType, Hub, Key, timestamp,
};
use rand::RngExt;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Writes under way at once beside bindings; when so many are, deciding waits.
const WRITES_MAX: usize = 64;

/// Schedules pods whenever elected, until `context.stop`. Whoever starts it has read the configuration once, so that a
/// wrong one is not met here.
pub async fn run(context: AgentContext) {
    let scheduling = match Config::parse(&context.scheduler_config) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            tracing::error!(
                error,
                "the scheduler does not run: its configuration is wrong"
            );
            return;
        }
    };
    let extenders = match Extenders::new(&scheduling) {
        Ok(extenders) => Arc::new(extenders),
        Err(error) => {
            tracing::error!(error, "the scheduler does not run: its extenders");
            return;
        }
    };
    let config = ElectorConfig::new("kube-system", "kube-scheduler", &context.identity);
    let elector = Elector::new(context.client.clone(), config);
    elector
        .run(context.stop.clone(), |stop| {
            let (scheduling, extenders) = (scheduling.clone(), extenders.clone());
            lead(context.client.clone(), scheduling, extenders, stop)
        })
        .await;
}

/// What happens while elected.
async fn lead(
    client: Client,
    config: Arc<Config>,
    extenders: Arc<Extenders>,
    stop: CancellationToken,
) {
    let hub = Hub::new(client.clone(), &stop);
    let whole_nodes = config.extenders.iter().any(|e| e.wants_nodes());
    let feed = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        feed = Feed::open(&hub, whole_nodes) => feed,
    };
    // A recorder for each profile: events say which scheduler they are of.
    let recorders = config.profiles().map(|profile| {
        let name = &profile.scheduler_name;
        let recorder = EventRecorder::start(client.clone(), name, "", &stop);
        (name.clone(), recorder)
    });
    let events = recorders.collect();
    let scheduler = Scheduler {
        world: World::new(config),
        start: 0,
        client,
        feed: Arc::new(feed),
        events,
        binder: Binder::default(),
        bindings: JoinSet::new(),
        writes: JoinSet::new(),
        evicting: BTreeMap::new(),
        evictors: Arc::new(Semaphore::new(WRITES_MAX)),
        pre_binding: JoinSet::new(),
        pre_writers: Arc::new(Semaphore::new(WRITES_MAX)),
        claim_turns: Arc::default(),
        extenders,
        delegated: JoinSet::new(),
        delegates: extenders::permits(),
        held: Held::default(),
        reports: VecDeque::new(),
        pending: metrics::Pending::default(),
        started: Instant::now(),
    };
    scheduler.run(&stop).await;
}

struct Scheduler {
    world: World,
    client: Client,
    feed: Arc<Feed>,
    events: BTreeMap<String, EventRecorder>,
    /// Where the next search among the nodes begins.
    start: usize,
    binder: Binder,
    /// Dropped, and with them every write under way, when the leadership ends.
    bindings: JoinSet<Sent>,
    writes: JoinSet<()>,
    /// Uids of those whom a write under way evicts.
    evicting: BTreeMap<task::Id, Vec<String>>,
    evictors: Arc<Semaphore>,
    /// Pods whose volumes and devices are being bound, as many as there are: waiting for a volume must not keep others waiting.
    pre_binding: JoinSet<pre_bind::PreBound>,
    pre_writers: Arc<Semaphore>,
    claim_turns: Arc<Turns>,
    extenders: Arc<Extenders>,
    /// Pods that extenders bind, so many at once.
    delegated: JoinSet<extenders::Delegated>,
    delegates: Arc<Semaphore>,
    /// Pods of groups that wait for the volumes and devices of each other.
    held: Held<Placed>,
    /// What has to be told to pods of groups, a few at a time: no more than there are pods that wait.
    reports: VecDeque<gangs::Report>,
    pending: metrics::Pending,
    started: Instant,
}

/// Where room is made for a pod, and who leaves.
struct Room {
    node: String,
    victims: Vec<Arc<Pod>>,
}

/// Who leaves a node, and for whom.
struct Eviction {
    victim: Arc<Pod>,
    pod: Arc<Pod>,
    node: String,
}

/// Bindings that were sent, and what became of each; nothing where the server takes no batches.
struct Sent {
    batch: Vec<Placed>,
    results: Option<Vec<write::Bound>>,
}

impl Scheduler {
    async fn run(mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.world.set_clock(timestamp::now(), self.now());
            self.take_in();
            while let Some(done) = self.bindings.try_join_next() {
                self.finish_bindings(done);
            }
            while let Some(done) = self.writes.try_join_next_with_id() {
                self.finish_write(done);
            }
            while let Some(done) = self.pre_binding.try_join_next() {
                self.finish_pre_bind(done);
            }
            while let Some(done) = self.delegated.try_join_next() {
                self.finish_delegated(done);
            }
            self.world.expire(self.now());
            self.send_bindings();
            self.send_reports();
            let queue = &mut self.world.queue;
            self.pending.show(queue.counts(), &queue.take_arrivals());
            if !self.is_behind()
                && let Some(queued) = self.world.pop(self.now())
            {
                self.decide(queued).await;
                tokio::task::yield_now().await;
                continue;
            }
            let wakeup = self.wakeup();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.feed.wait() => {}
                Some(done) = self.bindings.join_next() => self.finish_bindings(done),
                Some(done) = self.writes.join_next_with_id() => self.finish_write(done),
                Some(done) = self.pre_binding.join_next() => self.finish_pre_bind(done),
                Some(done) = self.delegated.join_next() => self.finish_delegated(done),
                () = tokio::time::sleep_until(wakeup) => {}
            }
        }
    }

    /// An event about the pod, in the name of the scheduler that it asks for.
    fn tell(&self, pod: &Pod, kind: EventType, reason: &'static str, message: &str) {
        if let Some(events) = self.events.get(&pod.scheduler_name) {
            events.event(write::reference(pod), kind, reason, message);
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Whether the background has to catch up before more is decided.
    fn is_behind(&self) -> bool {
        self.writes.len() >= WRITES_MAX || self.binder.is_full() || self.delegates_are_behind()
    }

    /// When to look again at the latest. With the background full, only its progress matters.
    fn wakeup(&self) -> Instant {
        const AT_LATEST: Duration = Duration::from_secs(60);
        let due = self.world.next_wakeup().filter(|_| !self.is_behind());
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
                Source::Claim
                | Source::Volume
                | Source::Class
                | Source::CsiNode
                | Source::Driver
                | Source::Capacity
                | Source::Attachment => self.take_in_volumes(source, &key, now),
                Source::DeviceClass | Source::Slice | Source::DeviceClaim => {
                    self.take_in_devices(source, &key, now);
                }
            }
        }
    }

    fn take_in_volumes(&mut self, source: Source, key: &Key, now: Millis) {
        let name = &*key.name;
        let full = (key.namespace.to_string(), name.to_string());
        let (world, feed) = (&mut self.world, &self.feed);
        match source {
            Source::Claim => world.set_claim(full, value(&feed.claims, key), now),
            Source::Volume => world.set_volume(name, value(&feed.volumes, key), now),
            Source::Class => world.set_class(name, value(&feed.classes, key), now),
            Source::CsiNode => world.set_csi_node(name, value(&feed.csi_nodes, key), now),
            Source::Driver => world.set_driver(name, value(&feed.drivers, key), now),
            Source::Capacity => world.set_capacity(full, value(&feed.capacities, key), now),
            Source::Attachment => world.set_attachment(name, value(&feed.attachments, key), now),
            _ => {}
        }
    }

    fn take_in_devices(&mut self, source: Source, key: &Key, now: Millis) {
        let name = &*key.name;
        let full = (key.namespace.to_string(), name.to_string());
        let (world, feed) = (&mut self.world, &self.feed);
        match source {
            Source::DeviceClass => {
                world.set_device_class(name, value(&feed.device_classes, key), now);
            }
            Source::Slice => world.set_slice(name, value(&feed.slices, key), now),
            Source::DeviceClaim => {
                world.set_device_claim(full, value(&feed.device_claims, key), now);
            }
            _ => {}
        }
    }

    async fn decide(&mut self, mut queued: Queued) {
        let begun = Instant::now();
        queued.begun = Some(begun);
        let pod = queued.pod.clone();
        let Some(profile) = self.world.config.profile(&pod).cloned() else {
            return;
        };
        self.world.snapshot.effort.renew(1);
        if let Some(key) = self.world.queue.gang_of(&pod) {
            return self.decide_gang(key, queued).await;
        }
        let asked = match self.ask(&pod, &profile).await {
            Ok(asked) => asked,
            Err(error) => return self.fail(queued, &error),
        };
        let pick = &mut |n| host::rng().random_range(0..n);
        let (snapshot, start) = (&self.world.snapshot, self.start);
        let decision = match &asked {
            Some(asked) => schedule_asked(&pod, snapshot, &profile, start, pick, asked),
            None => schedule(&pod, snapshot, &profile, start, pick),
        };
        metrics::decided(begun.elapsed());
        match decision {
            Decision::Bind {
                node,
                feasible,
                evaluated,
            } => {
                self.start = (self.start + evaluated) % self.world.snapshot.node_count().max(1);
                tracing::debug!(
                    namespace = pod.namespace,
                    name = pod.name,
                    node,
                    feasible,
                    "pod assumed"
                );
                let plan = self.world.plan(&pod, &node, &profile);
                self.world.snapshot.assume(pod, &node);
                match plan.is_empty() {
                    true => self.bind_placed(queued, node),
                    false => {
                        plan.assume(&mut self.world.snapshot, &node);
                        self.pre_bind(queued, node, plan, &profile, None);
                    }
                }
            }
            Decision::Unschedulable(diagnosis) => {
                // Others may have been looked at if these had not been enough.
                let evaluated = asked.map_or(0, |asked| asked.evaluated);
                self.start = (self.start + evaluated) % self.world.snapshot.node_count().max(1);
                self.refuse(queued, &profile, diagnosis).await;
            }
        }
    }

    fn send_bindings(&mut self) {
        loop {
            let batch = self.binder.next();
            if batch.is_empty() {
                return;
            }
            let client = self.client.clone();
            let together = self.together(&batch);
            self.bindings.spawn(host::here(async move {
                let results = bind(&client, &batch, &together).await;
                Sent { batch, results }
            }));
        }
    }

    /// Nothing takes the pod: makes room if that helps, says why, and parks the pod.
    async fn refuse(&mut self, queued: Queued, profile: &Profile, diagnosis: Diagnosis) {
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
    fn evict(&mut self, first: Option<(Arc<Pod>, serde_json::Value)>, evictions: Vec<Eviction>) {
        let victims = evictions.iter().map(|eviction| &eviction.victim.uid);
        let victims: Vec<String> = victims.cloned().collect();
        for uid in &victims {
            self.world.snapshot.begin_eviction(uid);
        }
        let client = self.client.clone();
        let (events, permits) = (self.events.clone(), self.evictors.clone());
        let write = self.writes.spawn(host::here(async move {
            if let Some((pod, status)) = first {
                write_refusal(&client, &pod, &status).await;
            }
            evict_all(&client, &events, &permits, evictions).await;
        }));
        self.evicting.insert(write.id(), victims);
    }

    fn finish_write(&mut self, done: Result<(task::Id, ()), JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a background write ended abnormally");
                error.id()
            }
        };
        for uid in self.evicting.remove(&id).unwrap_or_default() {
            self.world.snapshot.end_eviction(&uid);
        }
    }

    fn write_status(&mut self, pod: Arc<Pod>, status: serde_json::Value) {
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
                self.world.snapshot.withdraw_nomination(&pod.uid);
                (Some(words), None)
            }
            Preemption::Evict { node, victims } => {
                self.world.snapshot.nominate(pod.clone(), &node);
                (None, Some(Room { node, victims }))
            }
        }
    }

    fn finish_bindings(&mut self, done: Result<Sent, JoinError>) {
        self.binder.finish();
        match done {
            Ok(Sent {
                batch,
                results: Some(results),
            }) => {
                for ((queued, node), result) in batch.into_iter().zip(results) {
                    self.finish_binding(queued, node, result);
                }
            }
            Ok(Sent { batch, .. }) => {
                tracing::info!("this API server takes bindings one by one");
                self.binder.go_singly(batch);
            }
            // A panic in a write is a bug; the assumptions it leaves behind end with this leadership.
            Err(error) => tracing::error!(%error, "a binding ended abnormally"),
        }
    }

    fn finish_binding(&mut self, queued: Queued, node: String, result: write::Bound) {
        let now = self.now();
        let Err(error) = result else {
            let pod = &queued.pod;
            metrics::bound(&queued, now);
            self.world.snapshot.finish_binding(&pod.uid, now);
            let message = format!(
                "Successfully assigned {}/{} to {node}",
                pod.namespace, pod.name
            );
            return self.tell(pod, EventType::Normal, "Scheduled", &message);
        };
        let message = format!(
            "binding rejected: running Bind plugin \"DefaultBinder\": {}",
            error.message
        );
        let message = Some(message).filter(|_| !error.is_not_found());
        self.binding_refused(queued, &node, message);
    }

    /// The pod was not bound, which is told unless it is gone.
    fn binding_refused(&mut self, queued: Queued, node: &str, message: Option<String>) {
        let (pod, now) = (&queued.pod, self.now());
        metrics::ended(&queued, Outcome::Error);
        tracing::warn!(
            namespace = pod.namespace,
            name = pod.name,
            node,
            message,
            "binding failed"
        );
        if let Some(message) = message {
            self.tell(pod, EventType::Warning, "FailedScheduling", &message);
        }
        let key = self.world.queue.gang_of(pod);
        self.unreserve(&queued.pod);
        self.world.binding_failed(queued, now);
        if let Some(key) = key {
            self.withdraw_gang(&key);
        }
    }
}

/// Sends a batch; a pod that is alone goes through the door that every API server has.
async fn bind(
    client: &Client,
    batch: &[Placed],
    together: &[write::Together],
) -> Option<Vec<write::Bound>> {
    if let [(queued, node)] = batch {
        return Some(vec![write::bind(client, &queued.pod, node).await]);
    }
    let pods: Vec<write::Assignment> = batch
        .iter()
        .map(|(queued, node)| (queued.pod.clone(), node.clone()))
        .collect();
    write::bind_all(client, &pods, together).await
}

/// The status that says why the pod waits, unless it says so already.
fn status_of(pod: &Pod, reason: &str, message: &str, nominated: &str) -> Option<serde_json::Value> {
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

/// All at once, as far as there are permits.
async fn evict_all(
    client: &Client,
    events: &BTreeMap<String, EventRecorder>,
    permits: &Arc<Semaphore>,
    evictions: Vec<Eviction>,
) {
    let mut open = JoinSet::new();
    for eviction in evictions {
        let Some(events) = events.get(&eviction.pod.scheduler_name).cloned() else {
            continue;
        };
        let (client, permits) = (client.clone(), permits.clone());
        open.spawn(host::here(async move {
            let _permit = permits.acquire().await;
            evict(&client, &events, &eviction).await;
        }));
    }
    while let Some(done) = open.join_next().await {
        if let Err(error) = done {
            tracing::error!(%error, "an eviction ended abnormally");
        }
    }
}

async fn evict(client: &Client, events: &EventRecorder, eviction: &Eviction) {
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
        }
        Err(error) => {
            tracing::warn!(namespace = victim.namespace, name = victim.name, %error, "a victim could not be evicted");
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

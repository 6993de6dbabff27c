//! The loop around the pure parts: while elected, takes in what changed, decides about one pod after the other, and
//! lets bindings and reports go on in the background, a bounded number at a time.

mod bindings;
mod extenders;
mod gangs;
mod intake;
mod pre_bind;
mod refusals;

use crate::bind_claims::Turns;
use crate::binder::{Binder, Placed};
use crate::config::Config;
use crate::extender::Extenders;
use crate::feed::Feed;
use crate::gang::Held;
use crate::metrics;
use crate::object::Pod;
use crate::queue::Queued;
use crate::schedule::{Decision, schedule, schedule_asked};
use crate::snapshot::Millis;
use crate::world::World;
use crate::write;
use agent_runtime::{
    AgentContext, Client, Elector, ElectorConfig, EventRecorder, EventType, Hub, timestamp,
};
use rand::RngExt;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{self, JoinSet};
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
    bindings: JoinSet<bindings::Sent>,
    writes: JoinSet<()>,
    /// What the writes under way that evict somebody are about.
    evicting: BTreeMap<task::Id, refusals::Evicting>,
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
                let kept = self.world.snapshot.nominated_node(&pod.uid);
                if kept.is_some_and(|kept| kept != node) {
                    let now = self.now();
                    self.world.give_up_room(&pod.uid, now);
                }
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

//! Asking extenders, and what follows from their answers. The loop waits for them, each within its deadline, as it would in
//! Kubernetes: what changes meanwhile waits as keys beside the loop, and a decision is made over the state that was asked about.

use super::refusals::status_of;
use super::{Scheduler, WRITES_MAX};
use crate::config::Profile;
use crate::extender::{Asked, Extenders, Reached, whole};
use crate::feed::Feed;
use crate::metrics::{self, Outcome};
use crate::object::Pod;
use crate::preempt::Candidate;
use crate::queue::Queued;
use crate::schedule::candidates;
use crate::write;
use agent_runtime::resource_ref::PODS;
use agent_runtime::{Client, EventType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// Victims that are read at once.
const READS_MAX: usize = 16;

/// Pods of a group that are asked about at once.
const ASKED_MAX: usize = 16;

/// So many times as long as for one pod it may take for a group.
const PATIENCE_TIMES: u32 = 3;
/// But never less than this: the pods of the group are read meanwhile, and a large one is asked about in many rounds.
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// How to ask extenders beside the loop.
struct Way {
    client: Client,
    extenders: Arc<Extenders>,
    feed: Arc<Feed>,
}

impl Way {
    async fn ask(
        &self,
        pod: &Pod,
        nodes: Vec<String>,
        silent: &mut BTreeSet<String>,
    ) -> Result<Asked, String> {
        let whole_pod = whole_pod(&self.client, pod).await?;
        let node = |name: &str| self.feed.whole_node(name);
        let asked = self.extenders.ask(pod, &whole_pod, nodes, node, silent);
        let mut asked = asked.await;
        match asked.failed.take() {
            Some(error) => Err(error),
            None => Ok(asked),
        }
    }
}

/// What became of a pod that an extender was to bind.
pub(super) struct Delegated {
    queued: Queued,
    node: String,
    by: Arc<Reached>,
    result: Result<(), String>,
}

impl Scheduler {
    /// What extenders say of the nodes that all plugins pass; `None` where none is asked. An error when nothing can be decided.
    pub(super) async fn ask(
        &mut self,
        pod: &Pod,
        profile: &Profile,
    ) -> Result<Option<Asked>, String> {
        if !self.extenders.decide_about(pod) {
            return Ok(None);
        }
        let (names, evaluated) = {
            let (nodes, evaluated) = candidates(pod, &self.world.snapshot, profile, self.start);
            let names = nodes.iter().map(|info| info.name().to_owned());
            (names.collect::<Vec<String>>(), evaluated)
        };
        let mut asked = self.ask_about(pod, names, &mut BTreeSet::new()).await?;
        if let Some(asked) = &mut asked {
            asked.evaluated = evaluated;
        }
        Ok(asked)
    }

    async fn ask_about(
        &mut self,
        pod: &Pod,
        nodes: Vec<String>,
        silent: &mut BTreeSet<String>,
    ) -> Result<Option<Asked>, String> {
        // Without a node the plugins have said all there is to say.
        if nodes.is_empty() {
            return Ok(None);
        }
        self.way().ask(pod, nodes, silent).await.map(Some)
    }

    fn way(&self) -> Way {
        Way {
            client: self.client.clone(),
            extenders: self.extenders.clone(),
            feed: self.feed.clone(),
        }
    }

    /// The same for all pods of a group that wait, by uid. Since each is placed over what was decided for those before it, and
    /// may need them near, they are asked about all nodes that would do by themselves. Some are asked about at once, and all
    /// within a time that does not grow with the group: one that answers slowly must not hold up everybody else.
    pub(super) async fn ask_for_all(
        &mut self,
        waiting: &[Queued],
    ) -> Result<BTreeMap<String, Asked>, String> {
        let waiting = waiting.iter().map(|queued| &queued.pod);
        let pods: Vec<Arc<Pod>> = waiting
            .filter(|pod| self.extenders.decide_about(pod))
            .cloned()
            .collect();
        let patience = pods.iter().map(|pod| self.extenders.patience(pod));
        let Some(patience) = patience.max() else {
            return Ok(BTreeMap::new());
        };
        let within = patience.saturating_mul(PATIENCE_TIMES).max(PATIENCE_MIN);
        match tokio::time::timeout(within, self.ask_at_once(&pods)).await {
            Ok(asked) => asked,
            Err(_) => Err(format!(
                "extenders have not answered about all {} pods of the group within {} s",
                pods.len(),
                within.as_secs()
            )),
        }
    }

    async fn ask_at_once(&self, pods: &[Arc<Pod>]) -> Result<BTreeMap<String, Asked>, String> {
        let mut all = BTreeMap::new();
        let mut silent = BTreeSet::new();
        for pods in pods.chunks(ASKED_MAX) {
            let mut open = JoinSet::new();
            for pod in pods {
                let Some(profile) = self.world.config.profile(pod) else {
                    continue;
                };
                let nodes = crate::schedule::alone(pod, &self.world.snapshot, profile);
                if nodes.is_empty() {
                    continue;
                }
                let (way, pod, mut silent) = (self.way(), pod.clone(), silent.clone());
                open.spawn(host::here(async move {
                    let asked = way.ask(&pod, nodes, &mut silent).await;
                    (pod, asked, silent)
                }));
            }
            while let Some(done) = open.join_next().await {
                let (pod, asked, fell_silent) = done.map_err(|error| error.to_string())?;
                all.insert(pod.uid.clone(), asked?);
                silent.extend(fell_silent);
            }
        }
        Ok(all)
    }

    /// What extenders leave of the nodes where room could be made.
    pub(super) async fn ask_about_victims(
        &mut self,
        pod: &Pod,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<Candidate>, String> {
        let (asked, whole) = self.extenders.decide_about_victims(pod);
        if !asked {
            return Ok(candidates);
        }
        let pod_text = whole_pod(&self.client, pod).await?;
        let victims = match whole {
            true => whole_victims(&self.client, &candidates).await,
            false => BTreeMap::new(),
        };
        let (extenders, snapshot) = (self.extenders.clone(), &self.world.snapshot);
        let narrowed = extenders.ask_about_victims(pod, &pod_text, &victims, candidates, snapshot);
        narrowed.await
    }

    /// Nothing could be decided: the pod is tried again after its backoff.
    pub(super) fn fail(&mut self, queued: Queued, message: &str) {
        let (pod, now) = (queued.pod.clone(), self.now());
        tracing::warn!(
            namespace = pod.namespace,
            name = pod.name,
            message,
            "deciding failed"
        );
        metrics::ended(&queued, Outcome::Error);
        self.tell(&pod, EventType::Warning, "FailedScheduling", message);
        self.world.give_up_room(&pod.uid, now);
        if let Some(status) = status_of(&pod, "SchedulerError", message, "") {
            self.write_status(pod, status);
        }
        self.world.queue.retry(queued, now);
    }

    /// A pod that has its node is bound: by an extender if that is what it does, and with others otherwise.
    pub(super) fn bind_placed(&mut self, queued: Queued, node: String) {
        let Some(by) = self.extenders.binder_of(&queued.pod) else {
            return self.binder.add(queued, node);
        };
        let (client, permits) = (self.client.clone(), self.delegates.clone());
        self.delegated.spawn(host::here(async move {
            let _permit = permits.acquire().await;
            let mut result = by.bind(&queued.pod, &node).await;
            // When nobody knows what the extender has done, the pod itself tells.
            if result.is_err() && write::is_there(&client, &queued.pod, &node).await {
                result = Ok(());
            }
            Delegated {
                queued,
                node,
                by,
                result,
            }
        }));
    }

    /// Whether extenders have to catch up before more is decided.
    pub(super) fn delegates_are_behind(&self) -> bool {
        self.delegated.len() >= WRITES_MAX
    }

    pub(super) fn finish_delegated(&mut self, done: Result<Delegated, JoinError>) {
        let Delegated {
            queued,
            node,
            by,
            result,
        } = match done {
            Ok(done) => done,
            // What it leaves behind ends with this leadership.
            Err(error) => return tracing::error!(%error, "a binding ended abnormally"),
        };
        match result {
            Ok(()) => self.finish_binding(queued, node, Ok(())),
            Err(error) if by.config.ignorable => {
                let extender = &by.config.url_prefix;
                tracing::info!(extender, error, "an extender is passed over in binding");
                self.binder.add(queued, node);
            }
            Err(error) => self.binding_refused(queued, &node, Some(error)),
        }
    }
}

pub(super) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(WRITES_MAX))
}

/// The pod as it stands, which the scheduler does not keep.
async fn whole_pod(client: &Client, pod: &Pod) -> Result<Arc<str>, String> {
    let read = write::bounded(client.get(&PODS, &pod.namespace, &pod.name)).await;
    match read {
        Ok(object) if crate::object::text(&object, "/metadata/uid") == pod.uid => {
            Ok(whole(&object))
        }
        Ok(_) => Err(format!("pod {:?} is another one by now", pod.name)),
        Err(error) => Err(error.message),
    }
}

/// Those of the victims that are there, by uid.
async fn whole_victims(client: &Client, candidates: &[Candidate]) -> BTreeMap<String, Arc<str>> {
    let permits = Arc::new(Semaphore::new(READS_MAX));
    let mut open = JoinSet::new();
    for victim in candidates.iter().flat_map(|candidate| &candidate.victims) {
        let (client, permits, victim) = (client.clone(), permits.clone(), victim.clone());
        open.spawn(host::here(async move {
            let _permit = permits.acquire().await;
            let read = whole_pod(&client, &victim).await.ok()?;
            Some((victim.uid.clone(), read))
        }));
    }
    let mut read = BTreeMap::new();
    while let Some(done) = open.join_next().await {
        read.extend(done.ok().flatten());
    }
    read
}

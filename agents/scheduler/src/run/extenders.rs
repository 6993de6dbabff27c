//! Asking extenders, and what follows from their answers. The loop waits for them, each within its deadline, as it would in
//! Kubernetes: what changes meanwhile waits as keys beside the loop, and a decision is made over the state that was asked about.

use super::{Scheduler, WRITES_MAX, status_of};
use crate::config::Profile;
use crate::extender::{Asked, Reached, whole};
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
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// Victims that are read at once.
const READS_MAX: usize = 16;

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
        let whole_pod = whole_pod(&self.client, pod).await?;
        let (extenders, feed) = (self.extenders.clone(), self.feed.clone());
        let node = move |name: &str| feed.whole_node(name);
        let asked = extenders.ask(pod, &whole_pod, nodes, node, silent).await;
        match asked.failed {
            Some(error) => Err(error),
            None => Ok(Some(asked)),
        }
    }

    /// The same for all pods of a group that wait, by uid. Since each is placed over what was decided for those before it, and
    /// may need them near, they are asked about all nodes that would do by themselves.
    pub(super) async fn ask_for_all(
        &mut self,
        waiting: &[Queued],
    ) -> Result<BTreeMap<String, Asked>, String> {
        let mut all = BTreeMap::new();
        let mut silent = BTreeSet::new();
        for queued in waiting {
            let pod = queued.pod.clone();
            let Some(profile) = self.world.config.profile(&pod).cloned() else {
                continue;
            };
            if !self.extenders.decide_about(&pod) {
                continue;
            }
            let nodes = crate::schedule::alone(&pod, &self.world.snapshot, &profile);
            if let Some(asked) = self.ask_about(&pod, nodes, &mut silent).await? {
                all.insert(pod.uid.clone(), asked);
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
        self.world.snapshot.withdraw_nomination(&pod.uid);
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

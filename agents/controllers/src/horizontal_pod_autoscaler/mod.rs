//! Follows what pods use, or what other sources say, with the number of replicas of whatever has a scale.
//!
//! Every autoscaler is looked at every 15 seconds: the scale of its target is read, then its measures, then the size is
//! changed, and the status says what was found. The reckoning is pure ([`reckoning`], [`metrics`], [`calculator`],
//! [`behavior`]); what is asked is in [`source`].

mod behavior;
mod calculator;
#[cfg(test)]
mod convergence;
mod metrics;
mod reckoning;
mod selector;
mod source;

use crate::manager::{Body, Controller, TaskContext};
use crate::queue_names::queue_of;
use agent_runtime::client::PatchType;
use agent_runtime::events::reference;
use agent_runtime::kinds::{HorizontalPodAutoscaler, LabelSelector, Labels, Pod};
use agent_runtime::resource_ref::HORIZONTAL_POD_AUTOSCALERS;
use agent_runtime::timestamp::Moment;
use agent_runtime::worker::{self, Next};
use agent_runtime::{ApiError, EventRecorder, Key, ResourceRef};
use behavior::Memory;
use calculator::{Subject, Tolerances};
use futures::future::BoxFuture;
use host::HashMap;
use metrics::Verdict;
use reckoning::{Need, Reckoning, Rescale};
use serde_json::json;
use source::{Scale, Sources};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "horizontal-pod-autoscaler-controller",
    help: "scales workloads by what their pods use",
    workers: 5,
    body: Body::Task(run),
};

/// Between two looks at an autoscaler.
const PERIOD: Duration = Duration::from_secs(15);

/// What is remembered between looks.
#[derive(Default)]
struct Known(Mutex<HashMap<Key, Kept>>);

#[derive(Clone, Default)]
struct Kept {
    memory: Memory,
    /// What its target selected at the last look.
    selector: Option<LabelSelector>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self, key: &Key) -> Memory {
        let known = self.lock();
        known
            .get(key)
            .map(|kept| kept.memory.clone())
            .unwrap_or_default()
    }

    fn keep(&self, key: &Key, memory: Memory) {
        self.lock().entry(key.clone()).or_default().memory = memory;
    }

    /// Keeps what the autoscaler's target selects, and gives all autoscalers whose targets select some of these pods.
    fn rivals(&self, key: &Key, selector: &LabelSelector, pods: &[Arc<Pod>]) -> Vec<String> {
        let mut known = self.lock();
        known.entry(key.clone()).or_default().selector = Some(selector.clone());
        // Pods of one template have the same labels, and need not be asked one by one.
        let mut different: Vec<&Labels> = pods.iter().map(|pod| &pod.metadata.labels).collect();
        different.sort_unstable();
        different.dedup();
        let selects = |kept: &Kept| {
            let selector = kept.selector.as_ref();
            selector.is_some_and(|one| different.iter().any(|labels| one.matches(labels)))
        };
        let rivals = known.iter();
        let rivals =
            rivals.filter(|(other, kept)| other.namespace == key.namespace && selects(kept));
        let mut rivals: Vec<String> = rivals.map(|(other, _)| other.to_string()).collect();
        rivals.sort_unstable();
        rivals
    }
}

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = queue_of(CONTROLLER.name);
        let keys = queue.clone();
        context.caches.autoscalers.subscribe(move |change| {
            // A status that was written is no reason to look again.
            let specs = change.old.as_ref().zip(change.new.as_ref());
            if specs.is_none_or(|(old, new)| old.spec != new.spec) {
                keys.add(Key::of(&change.latest().metadata));
            }
        });
        let known: Arc<Known> = Arc::default();
        // Events bear the name that Kubernetes' have.
        let (client, stop) = (context.client.clone(), context.stop.clone());
        let recorder = EventRecorder::start(client, "horizontal-pod-autoscaler", "", &stop);
        worker::run(queue, CONTROLLER.workers, stop, move |key| {
            let (context, known, recorder) = (context.clone(), known.clone(), recorder.clone());
            async move {
                let Some(autoscaler) = context.caches.autoscalers.by_key(&key) else {
                    known.lock().remove(&key);
                    return Next::Done;
                };
                match look(&context, &known, &recorder, &key, &autoscaler).await {
                    Ok(()) => Next::After(PERIOD),
                    Err(error) if error.is_conflict() => Next::Backoff,
                    Err(error) => {
                        tracing::warn!(autoscaler = %key, error = %error.message, "looking at an autoscaler");
                        Next::After(PERIOD)
                    }
                }
            }
        })
        .await;
    })
}

/// One look, and what comes of it.
async fn look(
    context: &TaskContext,
    known: &Known,
    recorder: &EventRecorder,
    key: &Key,
    autoscaler: &HorizontalPodAutoscaler,
) -> Result<(), ApiError> {
    let mut reckoning = Reckoning::new(autoscaler, Moment::now());
    let mut memory = known.memory(key);
    let done = act(context, known, key, autoscaler, &mut reckoning, &mut memory).await;
    known.keep(key, memory);
    done?;
    let regarding = reference(&HORIZONTAL_POD_AUTOSCALERS, &autoscaler.metadata);
    for (kind, reason, message) in std::mem::take(&mut reckoning.events) {
        recorder.event(regarding.clone(), kind, reason, message);
    }
    let Some(patch) = reckoning.patch() else {
        return Ok(());
    };
    let (namespace, name) = (&key.namespace, &key.name);
    let resource = &HORIZONTAL_POD_AUTOSCALERS;
    let client = &context.client;
    let written = client
        .patch_status(resource, namespace, name, PatchType::Merge, &patch)
        .await;
    match written {
        Err(error) if error.is_not_found() => Ok(()),
        written => written.map(drop),
    }
}

/// Reads, reckons and changes the size. Only a conflict is an error: somebody else has just changed it.
async fn act(
    context: &TaskContext,
    known: &Known,
    key: &Key,
    autoscaler: &HorizontalPodAutoscaler,
    reckoning: &mut Reckoning<'_>,
    memory: &mut Memory,
) -> Result<(), ApiError> {
    let target = &autoscaler.spec.scale_target_ref;
    let client = &context.client;
    let found = async {
        let resource = source::resource_of(client, target).await?;
        let scale = source::scale(client, &resource, &key.namespace, &target.name).await?;
        Ok::<_, ApiError>((resource, scale))
    };
    let (resource, scale) = match found.await {
        Ok(found) => found,
        Err(error) => {
            reckoning.without_scale(&error.message);
            return Ok(());
        }
    };
    let (rescale, statuses) = match reckoning.need(&scale, memory) {
        Need::Nothing => (None, Vec::new()),
        Need::Rescale(rescale) => (Some(rescale), Vec::new()),
        Need::Measures => {
            let Some(verdict) = measure(context, known, key, autoscaler, &scale, reckoning).await
            else {
                return Ok(());
            };
            let rescale = reckoning.follow(&scale, &verdict, memory);
            if verdict.wanted.is_none() {
                return Ok(());
            }
            (rescale, verdict.statuses)
        }
    };
    let Some(rescale) = rescale else {
        reckoning.settled(&scale, scale.wanted, statuses);
        return Ok(());
    };
    match change(context, &resource, key, &target.name, &scale, &rescale).await {
        Ok(()) => reckoning.rescaled(&scale, &rescale, statuses, memory),
        Err(error) if error.is_conflict() => return Err(error),
        Err(error) => reckoning.not_rescaled(&scale, &rescale, &error.message),
    }
    Ok(())
}

/// What all measures say; none where the pods of the target cannot be told.
async fn measure(
    context: &TaskContext,
    known: &Known,
    key: &Key,
    autoscaler: &HorizontalPodAutoscaler,
    scale: &Scale,
    reckoning: &mut Reckoning<'_>,
) -> Option<Verdict> {
    if scale.selector.is_empty() {
        let condition = "the HPA target's scale is missing a selector";
        let (event, reason) = ("SelectorRequired", "InvalidSelector");
        reckoning.without_pods(
            scale,
            event,
            reason,
            "selector is required",
            Some(condition),
        );
        return None;
    }
    let selector = match source::pods_of(scale) {
        Ok(selector) => selector,
        Err(message) => {
            reckoning.without_pods(scale, "InvalidSelector", "InvalidSelector", &message, None);
            return None;
        }
    };
    let pods = context.caches.pods.select(&key.namespace, &selector);
    let rivals = known.rivals(key, &selector, &pods);
    if rivals.len() > 1 {
        let (selector, rivals) = (&scale.selector, rivals.join(" "));
        let message =
            format!("pods by selector {selector} are controlled by multiple HPAs: [{rivals}]");
        let reason = "AmbiguousSelector";
        reckoning.without_pods(scale, reason, reason, &message, None);
        return None;
    }
    let mut sources = Sources::new(&context.client, &key.namespace, &scale.selector);
    let mut readings = Vec::new();
    for spec in &autoscaler.spec.metrics {
        readings.push(sources.read(spec).await);
    }
    let behavior = autoscaler.spec.behavior.clone().unwrap_or_default();
    let (up, down) = (
        behavior.scale_up.unwrap_or_default(),
        behavior.scale_down.unwrap_or_default(),
    );
    let subject = Subject {
        namespace: &key.namespace,
        pods: &pods,
        replicas: scale.wanted,
        tolerances: Tolerances::new(up.tolerance.as_ref(), down.tolerance.as_ref()),
        now: Moment::now().wall,
    };
    let specs = &autoscaler.spec.metrics;
    Some(metrics::judge(specs, readings, &subject, scale.present))
}

/// Changes the size, unless somebody did since it was read.
async fn change(
    context: &TaskContext,
    resource: &ResourceRef,
    key: &Key,
    name: &str,
    scale: &Scale,
    rescale: &Rescale,
) -> Result<(), ApiError> {
    let body = json!({"metadata": {"resourceVersion": scale.resource_version}, "spec": {"replicas": rescale.replicas}});
    let client = &context.client;
    let changed = client
        .patch_sub(
            resource,
            &key.namespace,
            name,
            "scale",
            PatchType::Merge,
            &body,
        )
        .await?;
    let replicas = changed.pointer("/spec/replicas");
    tracing::info!(autoscaler = %key, ?replicas, before = scale.wanted, "rescaled");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    #[test]
    fn autoscalers_whose_targets_select_the_same_pods_are_rivals() {
        let known = Known::default();
        let look = |namespace: &str, name: &str, app: &str, pods: &[&str]| {
            let selector: LabelSelector = object(&format!("{{matchLabels: {{app: {app}}}}}"));
            let pod = |labels: &&str| -> Arc<Pod> {
                Arc::new(object(&format!("{{metadata: {{labels: {{{labels}}}}}}}")))
            };
            let pods: Vec<Arc<Pod>> = pods.iter().map(pod).collect();
            known.rivals(&Key::new(namespace, name), &selector, &pods)
        };
        let web = ["app: web", "app: web", "app: web, tier: x"];
        assert_eq!(look("a", "one", "web", &web), ["a/one"]);
        assert_eq!(look("b", "other", "web", &web), ["b/other"]);
        assert_eq!(look("a", "db", "db", &["app: db"]), ["a/db"]);
        assert_eq!(look("a", "two", "web", &web), ["a/one", "a/two"]);
        assert!(look("a", "two", "web", &[]).is_empty());
    }
}

//! What is written before a pod is bound, about its volumes and its devices, and what becomes of that.

use super::Scheduler;
use crate::bind_claims::{bind_claims, deallocate, unreserve};
use crate::bind_special::give_back;
use crate::bind_volumes::bind_volumes;
use crate::config::Profile;
use crate::devices::claim::DeviceClaim;
use crate::feed::Source;
use crate::metrics::{self, Outcome};
use crate::object::Pod;
use crate::plan::Plan;
use crate::plugins::dynamic_resources::{self, DELETES, idle_claims, left_over};
use crate::queue::Queued;
use crate::schedule::Diagnosis;
use crate::wait_devices::{has_to_wait, wait_for_devices};
use agent_runtime::EventType;
use rand::RngExt;
use std::sync::Arc;
use tokio::task::JoinError;

/// The end of binding volumes and devices.
pub(super) struct PreBound {
    queued: Queued,
    node: String,
    plan: Plan,
    /// Who waits for it, if it is of a group.
    held: Option<u64>,
    /// Claims as they were written, in the end or not.
    written: Vec<Arc<DeviceClaim>>,
    /// Those whose devices were not ready in time.
    given_up: Vec<Arc<DeviceClaim>>,
    /// What failed in which plugin, in the words of the event.
    result: Result<(), (&'static str, String)>,
}

impl Scheduler {
    /// The volumes and devices first, and then the pod; one of a group also after those of the others, which `held` stands for.
    pub(super) fn pre_bind(
        &mut self,
        queued: Queued,
        node: String,
        plan: Plan,
        profile: &Profile,
        held: Option<u64>,
    ) {
        if has_to_wait(&plan.claims) {
            let message = format!("waiting for binding conditions for device on node {node}");
            let (kind, reason) = (EventType::Normal, "BindingConditionsPending");
            self.tell(&queued.pod, kind, reason, &message);
        }
        let timeout = profile.args.volumes_timeout;
        let devices_timeout = profile.args.devices_timeout;
        let (client, feed) = (self.client.clone(), self.feed.clone());
        let (writers, turns) = (self.pre_writers.clone(), self.claim_turns.clone());
        self.pre_binding.spawn(host::here(async move {
            let pod = &queued.pod;
            let (mut written, mut given_up) = (Vec::new(), Vec::new());
            let mut result = Ok(());
            if !plan.volumes.is_empty() {
                let volumes = &plan.volumes;
                let bound = bind_volumes(&client, &feed, &writers, pod, &node, volumes, timeout);
                result = bound.await.map_err(|words| ("VolumeBinding", words));
            }
            if result.is_ok() && !plan.claims.is_empty() {
                let (plan, written) = (&plan.claims, &mut written);
                let bound = bind_claims(&client, &feed, &writers, &turns, pod, plan, written);
                let name = dynamic_resources::NAME;
                result = bound.await.map_err(|words| (name, words));
            }
            if result.is_ok() {
                let ready = wait_for_devices(&feed, pod, &written, devices_timeout).await;
                result = ready.map_err(|error| {
                    given_up = error.given_up;
                    (dynamic_resources::NAME, error.words)
                });
            }
            if result.is_err() {
                for made in written.iter().filter(|claim| claim.was_made_for(&pod.uid)) {
                    give_back(&client, pod, made).await;
                }
                written = unreserve(&client, pod, written).await;
            }
            PreBound {
                queued,
                node,
                plan,
                held,
                written,
                given_up,
                result,
            }
        }));
    }

    pub(super) fn finish_pre_bind(&mut self, done: Result<PreBound, JoinError>) {
        let done = match done {
            Ok(done) => done,
            // A bug; the promises that it leaves behind end with this leadership.
            Err(error) => {
                tracing::error!(%error, "binding volumes and devices ended abnormally");
                return;
            }
        };
        let now = self.now();
        for claim in done.written {
            let DeviceClaim {
                namespace, name, ..
            } = &*claim;
            // One that was made for the pod the watch has shown, but it need not have been taken in.
            if self.world.snapshot.devices.claim(namespace, name).is_none() {
                let key = agent_runtime::Key::new(namespace, name);
                self.take_in_devices(Source::DeviceClaim, &key, now);
            }
            self.world.wrote_claim(claim, now);
        }
        for claim in &done.given_up {
            self.world.devices().give_up(claim);
        }
        let Err((plugin, words)) = done.result else {
            self.world.settle_claims(&done.plan);
            return match done.held {
                Some(number) => self.finish_held(number, Some((done.queued, done.node))),
                None => self.bind_placed(done.queued, done.node),
            };
        };
        let pod = &done.queued.pod;
        let message = format!("running PreBind plugin {plugin:?}: {words}");
        tracing::warn!(
            namespace = pod.namespace,
            name = pod.name,
            node = done.node,
            message,
            "binding failed"
        );
        metrics::ended(&done.queued, Outcome::Error);
        self.world.revert_plan(&done.plan, now);
        if self.world.pod(pod).is_some() {
            self.tell(pod, EventType::Warning, "FailedScheduling", &message);
        }
        self.world.binding_failed(done.queued, now);
        if let Some(number) = done.held {
            self.finish_held(number, None);
        }
    }

    /// The pod was not bound: its claims need not know of it, and one that was made for it goes.
    pub(super) fn unreserve(&mut self, pod: &Arc<Pod>) {
        let made = self.world.snapshot.devices.made_for(&pod.uid).cloned();
        let claims = self.world.claims_reserved_for(pod);
        if claims.is_empty() && made.is_none() {
            return;
        }
        let (client, pod) = (self.client.clone(), pod.clone());
        self.writes.spawn(host::here(async move {
            unreserve(&client, &pod, claims).await;
            if let Some(made) = made {
                give_back(&client, &pod, &made).await;
            }
        }));
    }

    /// Where devices that nobody uses keep the pod from nodes, a claim gives some back. What is said of it.
    pub(super) fn free_devices(
        &mut self,
        pod: &Arc<Pod>,
        profile: &Profile,
        diagnosis: &Diagnosis,
    ) -> Option<&'static str> {
        let snapshot = &self.world.snapshot;
        if let Some(claim) = left_over(pod, snapshot, profile) {
            let (client, pod) = (self.client.clone(), pod.clone());
            self.writes.spawn(host::here(async move {
                give_back(&client, &pod, &claim).await;
            }));
            return Some(DELETES);
        }
        let (mut idle, words) = idle_claims(pod, snapshot, profile, diagnosis)?;
        if !idle.is_empty() {
            let claim = idle.swap_remove(host::rng().random_range(0..idle.len()));
            let (client, pod) = (self.client.clone(), pod.clone());
            self.writes.spawn(host::here(async move {
                deallocate(&client, &pod, &claim).await;
            }));
        }
        Some(words)
    }
}

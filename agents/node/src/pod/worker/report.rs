//! What the API is told of a pod: its status, and events about back-offs.

use std::collections::BTreeSet;

use agent_runtime::resource_ref::PODS;
use agent_runtime::{EventType, PatchType};
use serde_json::Value;

use super::Worker;
use crate::clock;
use crate::pod::desired::version;
use crate::pod::plan::{self, Plan};
use crate::pod::resize::{self, Allocation, Resize};
use crate::pod::status::{self, Inputs};
use crate::spec::Role;

impl Worker {
    /// Writes an event for every container that has come to wait for its back-off.
    pub(super) fn announce(&mut self, plan: &Plan) {
        for name in plan.waiting.keys() {
            let Some(id) = self
                .observed
                .latest(name)
                .map(|container| container.id.clone())
            else {
                continue;
            };
            if self.announced.insert(id) {
                let role = self.pod.container(name).map_or(Role::App, |(role, _)| role);
                let text = format!(
                    "Back-off restarting failed container {name} in pod {}",
                    self.pod.display()
                );
                self.event(Some((role, name)), EventType::Warning, "BackOff", text);
            }
        }
        let ids: BTreeSet<&String> = self
            .observed
            .all_containers()
            .map(|container| &container.id)
            .collect();
        self.announced.retain(|id| ids.contains(id));
    }

    /// Sends the status when it differs from what is on record. False when the API did not take it.
    pub(in crate::pod) async fn publish(&mut self, plan: &Plan, over: bool) -> bool {
        let status = self.assemble_status(plan, over);
        let known = version(&self.desired.object());
        let sent = self.last_status.as_ref() == Some(&status) && known <= self.last_version;
        if sent || status::is_recorded(&self.pod, &status) {
            return true;
        }
        let patch = status::patch(&self.pod, status.clone());
        let (namespace, name) = (&self.pod.metadata.namespace, &self.pod.metadata.name);
        match self
            .agent
            .client
            .patch_status(&PODS, namespace, name, PatchType::Strategic, &patch)
            .await
        {
            Ok(object) => {
                self.last_version = version(&object);
                self.last_status = Some(status);
                if object.pointer("/metadata/uid").and_then(Value::as_str)
                    == Some(&self.pod.metadata.uid)
                {
                    self.desired.keep(object);
                    self.refresh();
                }
                true
            }
            Err(error) if error.is_invalid() => {
                // Sending it again would not help, and a pod that is going away must not wait for it.
                tracing::error!(pod = %self.pod.display(), error = %error.message, "the API refuses the pod's status");
                self.last_status = Some(status);
                true
            }
            // The pod is gone, or another one has its name: nobody wants this status.
            Err(error) if error.is_not_found() || error.is_conflict() => true,
            Err(error) => {
                tracing::warn!(pod = %self.pod.display(), error = %error.message, "cannot store the pod's status");
                false
            }
        }
    }

    fn assemble_status(&self, plan: &Plan, over: bool) -> Value {
        let mut waiting = self.waiting.clone();
        waiting.extend(plan.waiting.clone());
        let over = over || plan::is_recorded_terminal(&self.pod);
        let in_force = match self.resize.progress {
            Some(_) => resize::lagging(&self.pod, &self.observed, &self.resize_updates()),
            None => Allocation::new(),
        };
        // One that is over is not resized any more.
        let resize = match over {
            true => Resize::default(),
            false => self.resize.clone(),
        };
        status::assemble(&Inputs {
            pod: &self.pod,
            observed: &self.observed,
            resize: &resize,
            in_force: &in_force,
            probes: &self.probes,
            waiting: &waiting,
            messages: &self.messages,
            verdict: self.verdict.as_ref(),
            over,
            scheme: self.agent.runtime.scheme(),
            host_ip: self.agent.host_ip(),
            started_at: self.started_at,
            now: clock::now(),
        })
    }
}

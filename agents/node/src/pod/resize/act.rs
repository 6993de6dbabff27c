//! Resizes a pod: asks whether it fits, and tells the runtime.

use std::sync::Arc;

use agent_runtime::EventType;

use super::super::admission::resize::Outcome;
use super::super::admission::site::Site;
use super::super::worker::Worker;
use super::{DEFERRED, INFEASIBLE, Pending, Progress, Update};
use crate::node;
use crate::runtime::RuntimeError;

impl Worker {
    /// Gives the pod what it asks for by now, or notes why not.
    pub(in crate::pod) async fn decide_resize(&mut self) {
        let uid = self.pod.metadata.uid.clone();
        let object = Arc::clone(&self.object);
        if super::is_same(&self.wanted, &self.allocated) {
            if self.resize.pending.take().is_some() {
                self.agent.admitted().settle(&uid, &object);
                self.agent.wake_deferred();
            }
            return;
        }
        let decide = |site: &Site| {
            let mut admitted = self.agent.admitted();
            admitted.resize(site, &object, &self.agent.present_objects())
        };
        let known = self.agent.site().map(|site| decide(&site));
        let outcome = match known {
            Some(Outcome::Fits) => Outcome::Fits,
            // What is known of the node may be a little old: nobody is kept waiting for that.
            _ => decide(&*node::look(&self.agent).await),
        };
        let generation = self.pod.metadata.generation;
        let (reason, message) = match outcome {
            Outcome::Fits => return self.take_resize(generation),
            Outcome::Deferred(message) => (DEFERRED, message),
            Outcome::Infeasible(message) => (INFEASIBLE, message),
        };
        let pending = Pending {
            reason,
            message,
            generation,
        };
        if self.resize.pending.as_ref() != Some(&pending) {
            let mut asked = self.pod.clone();
            super::overlay(&mut asked, &self.wanted);
            let text = super::text(reason, &asked, generation, Some(&pending.message));
            let event = match reason {
                INFEASIBLE => "ResizeInfeasible",
                _ => "ResizeDeferred",
            };
            self.event(None, EventType::Warning, event, text);
            self.resize.pending = Some(pending);
        }
    }

    fn take_resize(&mut self, generation: i64) {
        self.allocated.clone_from(&self.wanted);
        super::overlay(&mut self.pod, &self.allocated);
        self.resize.pending = None;
        self.resize.progress = Some(Progress {
            generation,
            error: None,
        });
        let text = super::text("started", &self.pod, generation, None);
        self.event(None, EventType::Normal, "ResizeStarted", text);
        self.agent.wake_deferred();
    }

    /// Tells the runtime what the containers were given, as far as they need not be made anew for that.
    pub(in crate::pod) async fn carry_out_resize(&mut self) -> Result<(), RuntimeError> {
        let Some(progress) = self.resize.progress.clone() else {
            return Ok(());
        };
        let updates = self.resize_updates();
        let error = match updates.is_empty() {
            true => None,
            false => self.tell_limits(&updates).await?,
        };
        if error.is_some() && error != progress.error {
            let text = super::text("error", &self.pod, progress.generation, error.as_deref());
            self.event(None, EventType::Warning, "ResizeError", text);
        }
        self.resize.progress = Some(Progress { error, ..progress });
        let left = self.resize_updates();
        if super::lagging(&self.pod, &self.observed, &left).is_empty() {
            self.resize.progress = None;
            let text = super::text("completed", &self.pod, progress.generation, None);
            self.event(None, EventType::Normal, "ResizeCompleted", text);
        }
        Ok(())
    }

    /// What containers have to be told while a resize is under way; at other times nobody compares.
    pub(in crate::pod) fn resize_updates(&self) -> Vec<Update> {
        if self.resize.progress.is_none() {
            return Vec::new();
        }
        let memory_bytes = self.agent.memory_bytes();
        super::updates(&self.pod, &self.observed, &self.told, memory_bytes)
    }

    /// Gives what went wrong.
    async fn tell_limits(&mut self, updates: &[Update]) -> Result<Option<String>, RuntimeError> {
        let runtime = self.agent.runtime.clone();
        let shrinks = updates.iter().any(|one| one.lower_memory().is_some());
        if shrinks && !self.agent.is_hollow() {
            let used = runtime.usage(&[]).await?;
            let usage = |id: &str| {
                let found = used.iter().find(|used| used.id == id);
                found.map(|used| used.memory.usage)
            };
            if let Some(text) = super::obstacle(updates, usage) {
                return Ok(Some(text));
            }
        }
        for update in updates {
            match runtime.update(&update.id, &update.limits).await {
                Ok(()) => {
                    self.told.insert(update.id.clone(), update.limits.clone());
                }
                Err(RuntimeError::Unavailable(text)) => {
                    return Err(RuntimeError::Unavailable(text));
                }
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        Ok(None)
    }
}

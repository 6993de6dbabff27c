//! Bindings that are sent, and what becomes of them.

use super::Scheduler;
use crate::binder::Placed;
use crate::metrics::{self, Outcome};
use crate::queue::Queued;
use crate::write;
use agent_runtime::{Client, EventType};
use tokio::task::JoinError;

/// Bindings that were sent, and what became of each; nothing where the server takes no batches.
pub(super) struct Sent {
    batch: Vec<Placed>,
    results: Option<Vec<write::Bound>>,
}

impl Scheduler {
    pub(super) fn send_bindings(&mut self) {
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

    pub(super) fn finish_bindings(&mut self, done: Result<Sent, JoinError>) {
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

    pub(super) fn finish_binding(&mut self, queued: Queued, node: String, result: write::Bound) {
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
    pub(super) fn binding_refused(&mut self, queued: Queued, node: &str, message: Option<String>) {
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

//! Deletes what has lost its owners, and carries out foreground and orphan deletion.
//!
//! The graph of owners is fed by metadata watches of every kind that can be deleted. It only proposes: before anything
//! is deleted, the object and the owners that seem absent are read live, past all caches. An owner of a kind that cannot
//! be resolved blocks the decision instead of counting as absent.

#[cfg(test)]
mod convergence;
mod decision;
mod dependents;
mod graph;

use crate::discovery::discover;
use crate::manager::{Body, Controller, TaskContext};
use crate::queue_names::queue_of;
use agent_runtime::client::{DeleteParams, PatchType};
use agent_runtime::kinds::{ObjectMeta, OwnerReference, PartialObject};
use agent_runtime::worker::{self, Next};
use agent_runtime::{ApiError, EventType, Queue, ResourceRef};
use decision::{Decision, OwnerState, decide};
use futures::future::BoxFuture;
use graph::{Graph, Node, Work, may_concern};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "garbage-collector-controller",
    help: "deletes objects whose owners are gone",
    workers: 20,
    body: Body::Task(run),
};

const REDISCOVER: Duration = Duration::from_secs(30);
const SYNC_MAX: Duration = Duration::from_secs(60);
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

struct Collector {
    context: TaskContext,
    graph: Mutex<Graph>,
    queue: Arc<Queue<Work>>,
    /// Every served resource by group and kind, deletable or not, to resolve owner references.
    kinds: RwLock<BTreeMap<(String, String), ResourceRef>>,
}

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let stop = context.stop.clone();
        let queue = queue_of(CONTROLLER.name);
        let collector = Arc::new(Collector {
            context,
            graph: Mutex::default(),
            queue: queue.clone(),
            kinds: RwLock::default(),
        });
        let watching = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            watching = collector.clone().first_sight() => watching,
        };
        let workers = worker::run(queue, CONTROLLER.workers, stop.clone(), {
            let collector = collector.clone();
            move |work| {
                let collector = collector.clone();
                async move { collector.work(work).await }
            }
        });
        tokio::join!(workers, collector.keep_discovering(watching, stop));
    })
}

impl Collector {
    /// Watches every kind and waits until all are known: an owner not seen yet must not look absent for long.
    async fn first_sight(self: Arc<Self>) -> Vec<ResourceRef> {
        let mut watching = Vec::new();
        while !self.rediscover(&mut watching).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // Decisions are verified live, so that a kind that cannot be listed delays the others, but not for ever.
        if tokio::time::timeout(SYNC_MAX, self.context.hub.wait_synced())
            .await
            .is_err()
        {
            tracing::warn!(
                "some kinds cannot be listed, the garbage collector starts without them"
            );
        }
        watching
    }

    async fn keep_discovering(
        self: Arc<Self>,
        mut watching: Vec<ResourceRef>,
        stop: tokio_util::sync::CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REDISCOVER) => {}
            }
            self.rediscover(&mut watching).await;
        }
    }

    /// Opens watches of new kinds and closes those of kinds that are no longer served. Whether discovery succeeded.
    async fn rediscover(self: &Arc<Self>, watching: &mut Vec<ResourceRef>) -> bool {
        let found = match discover(&self.context.client).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = %error.message, "discovery fails, the garbage collector keeps to the kinds it knows");
                return false;
            }
        };
        let kinds = found.served.iter().map(|s| {
            (
                (s.resource.group.to_string(), s.resource.kind.to_string()),
                s.resource.clone(),
            )
        });
        let mut known = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        if found.failures.is_empty() {
            known.clear();
        }
        known.extend(kinds);
        drop(known);
        let collectable: Vec<ResourceRef> = found
            .served
            .into_iter()
            .filter(|s| s.can(&["delete", "list", "watch"]) && s.resource.plural != "events")
            .map(|s| s.resource)
            .collect();
        if found.failures.is_empty() {
            for gone in watching.iter().filter(|r| !collectable.contains(r)) {
                self.context.hub.forget_metadata(gone);
            }
            watching.retain(|r| collectable.contains(r));
        }
        for resource in collectable {
            if !watching.contains(&resource) {
                self.watch(&resource);
                watching.push(resource);
            }
        }
        true
    }

    fn watch(self: &Arc<Self>, resource: &ResourceRef) {
        let collector = Arc::downgrade(self);
        let resource_of = resource.clone();
        self.context
            .hub
            .metadata(resource)
            .subscribe_meta(Box::new(move |old, new| {
                let Some(collector) = collector.upgrade() else {
                    return;
                };
                let work = match (old, new) {
                    (old, Some(meta)) if !may_concern(old, meta) => Vec::new(),
                    (_, Some(meta)) => collector.graph().observe(&resource_of, meta),
                    (Some(meta), None) => collector.graph().remove(&meta.uid),
                    (None, None) => Vec::new(),
                };
                work.into_iter().for_each(|work| collector.queue.add(work));
            }));
    }

    async fn work(&self, work: Work) -> Next {
        let node = match &work {
            Work::Verify(uid) | Work::Examine(uid) | Work::Orphan(uid) => {
                self.graph().get(uid).cloned()
            }
        };
        // Gone meanwhile.
        let Some(node) = node else { return Next::Done };
        let result = match &work {
            // Seen meanwhile, as most are when the watches begin.
            Work::Verify(_) if !node.is_virtual() => Ok(()),
            Work::Verify(_) | Work::Examine(_) => self.examine(&node).await,
            Work::Orphan(_) => self.orphan_dependents(&node).await,
        };
        match result {
            Ok(()) => Next::Done,
            Err(error) if error.is_not_found() || error.is_conflict() => Next::Backoff,
            Err(error) => {
                tracing::debug!(%work, error = %error.message, "garbage collection is tried again");
                Next::Backoff
            }
        }
    }

    async fn examine(&self, node: &Node) -> Result<(), ApiError> {
        let Some(resource) = self.resource_of(node) else {
            return Err(ApiError::malformed(format!(
                "kind {:?} cannot be resolved",
                node.kind()
            )));
        };
        let live = self
            .live(&resource, &node.namespace, &node.name)
            .await?
            .filter(|meta| *meta.uid == *node.uid);
        let Some(meta) = live else {
            // Never seen, or seen no more: its dependents are looked at as after a deletion.
            let work = match node.is_virtual() {
                true => self
                    .graph()
                    .absent(&node.uid, &node.namespace, resource.namespaced),
                false => self.graph().remove(&node.uid),
            };
            work.into_iter().for_each(|work| self.queue.add(work));
            return Ok(());
        };
        if node.is_virtual() {
            let work = self.graph().observe(&resource, &meta);
            work.into_iter().for_each(|work| self.queue.add(work));
        }
        if meta.is_deleting() && has_finalizer(&meta, FOREGROUND) {
            return self.finish_foreground(&resource, &meta).await;
        }
        let mut owners = Vec::new();
        for reference in &meta.owner_references {
            let state = self.owner_state(&resource, &meta, reference).await?;
            if state != OwnerState::Absent {
                let work = self.graph().exists(&meta.uid, reference);
                work.into_iter().for_each(|work| self.queue.add(work));
            }
            owners.push((reference.clone(), state));
        }
        let (has_dependents, blocked) = self.graph().dependents_of(&meta.uid);
        match decide(&meta, &owners, has_dependents, blocked) {
            Decision::Keep => Ok(()),
            Decision::DropReferences(uids) => self.drop_references(&resource, &meta, &uids).await,
            Decision::Delete { policy, unblock } => {
                if unblock {
                    self.unblock_owners(&resource, &meta).await?;
                }
                tracing::debug!(%resource, namespace = %meta.namespace, name = %meta.name, "deleting, its owners are gone");
                let params = DeleteParams {
                    uid: Some(meta.uid.clone()),
                    resource_version: Some(meta.resource_version.to_string()),
                    propagation: Some(policy),
                    grace_seconds: None,
                };
                ignore_absent(
                    self.context
                        .client
                        .delete(&resource, &meta.namespace, &meta.name, &params)
                        .await,
                )
            }
        }
    }

    /// The owner goes once no dependent blocks it; until then the dependents are examined.
    async fn finish_foreground(
        &self,
        resource: &ResourceRef,
        meta: &ObjectMeta,
    ) -> Result<(), ApiError> {
        let blocking = self.graph().blocking_dependents(&meta.uid);
        if blocking.is_empty() {
            return self.remove_finalizer(resource, meta, FOREGROUND).await;
        }
        if self.graph().waits_in_a_circle(&meta.uid) {
            // Each was deleted before it was known that the next one waits, too.
            self.unblock_owners(resource, meta).await?;
        }
        for (uid, deleting) in blocking {
            if !deleting {
                self.queue.add(Work::Examine(uid));
            }
        }
        Ok(())
    }

    async fn orphan_dependents(&self, node: &Node) -> Result<(), ApiError> {
        let Some(resource) = self.resource_of(node) else {
            return Ok(());
        };
        let dependents = self.graph().all_dependents(&node.uid);
        for dependent in dependents {
            let Some(of) = self.resource_of(&dependent) else {
                continue;
            };
            let live = self
                .live(&of, &dependent.namespace, &dependent.name)
                .await?;
            if let Some(meta) = live.filter(|meta| *meta.uid == *dependent.uid) {
                self.drop_references(&of, &meta, &[node.uid.to_string()])
                    .await?;
            }
        }
        match self.live(&resource, &node.namespace, &node.name).await? {
            Some(meta) if *meta.uid == *node.uid && has_finalizer(&meta, ORPHAN) => {
                self.remove_finalizer(&resource, &meta, ORPHAN).await
            }
            _ => Ok(()),
        }
    }

    /// Reads an owner live. One in another namespace can never be meant by a namespaced reference.
    async fn owner_state(
        &self,
        resource: &ResourceRef,
        meta: &ObjectMeta,
        reference: &OwnerReference,
    ) -> Result<OwnerState, ApiError> {
        let group = reference
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let owner = self.kind(group, &reference.kind).ok_or_else(|| {
            ApiError::malformed(format!(
                "kind {:?} of {:?} cannot be resolved",
                reference.kind, reference.api_version
            ))
        })?;
        if owner.namespaced && meta.namespace.is_empty() {
            let message = format!(
                "ownerRef [{}/{}, namespace: , name: {}, uid: {}] does not exist in namespace \"\"",
                reference.api_version, reference.kind, reference.name, reference.uid
            );
            self.context.recorder.event(
                agent_runtime::events::reference(resource, meta),
                EventType::Warning,
                "OwnerRefInvalidNamespace",
                message,
            );
            return Err(ApiError::malformed(
                "a cluster scoped object cannot have a namespaced owner",
            ));
        }
        let namespace = if owner.namespaced {
            &*meta.namespace
        } else {
            ""
        };
        Ok(
            match self
                .live(&owner, namespace, &reference.name)
                .await?
                .filter(|found| found.uid == reference.uid)
            {
                None => OwnerState::Absent,
                Some(found) if found.is_deleting() && has_finalizer(&found, FOREGROUND) => {
                    OwnerState::WaitsForDependents
                }
                Some(_) => OwnerState::Solid,
            },
        )
    }

    async fn live(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ObjectMeta>, ApiError> {
        match self
            .context
            .client
            .get_metadata(resource, namespace, name)
            .await
        {
            Ok(value) => agent_runtime::client::typed::<PartialObject>(value)
                .map(|object| Some(object.metadata)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn drop_references(
        &self,
        resource: &ResourceRef,
        meta: &ObjectMeta,
        uids: &[String],
    ) -> Result<(), ApiError> {
        let rest: Vec<_> = meta
            .owner_references
            .iter()
            .filter(|r| !uids.contains(&r.uid))
            .cloned()
            .collect();
        if rest.len() == meta.owner_references.len() {
            return Ok(());
        }
        self.patch(
            resource,
            meta,
            json!({"ownerReferences": crate::patches::owners(&rest)}),
        )
        .await
    }

    /// Two objects that wait for each other in the foreground would wait for ever: this one stops blocking its owners.
    async fn unblock_owners(
        &self,
        resource: &ResourceRef,
        meta: &ObjectMeta,
    ) -> Result<(), ApiError> {
        let mut owners = meta.owner_references.to_vec();
        owners
            .iter_mut()
            .filter(|r| r.block_owner_deletion == Some(true))
            .for_each(|r| r.block_owner_deletion = Some(false));
        self.patch(resource, meta, json!({"ownerReferences": owners}))
            .await
    }

    async fn remove_finalizer(
        &self,
        resource: &ResourceRef,
        meta: &ObjectMeta,
        finalizer: &str,
    ) -> Result<(), ApiError> {
        let rest: Vec<&String> = meta.finalizers.iter().filter(|f| *f != finalizer).collect();
        let rest = if rest.is_empty() {
            Value::Null
        } else {
            json!(rest)
        };
        self.patch(resource, meta, json!({"finalizers": rest}))
            .await
    }

    async fn patch(
        &self,
        resource: &ResourceRef,
        meta: &ObjectMeta,
        mut metadata: Value,
    ) -> Result<(), ApiError> {
        metadata["uid"] = meta.uid.as_str().into();
        metadata["resourceVersion"] = meta.resource_version.as_str().into();
        ignore_absent(
            self.context
                .client
                .patch(
                    resource,
                    &meta.namespace,
                    &meta.name,
                    PatchType::Merge,
                    &json!({"metadata": metadata}),
                )
                .await,
        )
    }

    fn resource_of(&self, node: &Node) -> Option<ResourceRef> {
        node.resource()
            .cloned()
            .or_else(|| self.kind(node.group(), node.kind()))
    }

    fn kind(&self, group: &str, kind: &str) -> Option<ResourceRef> {
        self.kinds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(group.to_owned(), kind.to_owned()))
            .cloned()
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().any(|f| f == finalizer)
}

fn ignore_absent(result: Result<Value, ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

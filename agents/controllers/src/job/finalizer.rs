//! The finalizer that keeps a Job's pods until they are counted: put on with adoption, taken off when a pod is counted,
//! released, or when its Job is no more.

use super::is_managed_elsewhere;
use crate::manager::{Body, Controller};
use crate::pod_control::{Claim, claim, controller_reference};
use crate::world::{Caches, World};
use agent_runtime::kinds::{LabelSelector, ObjectMeta, OwnerReference, Pod};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{JOBS, PODS};
use agent_runtime::{Key, PatchType, Queue};
use serde_json::{Value, json};
use std::sync::Arc;

/// Kubernetes' name of it.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";

pub(crate) const ORPHANS: Controller = Controller {
    name: "job-orphan-pods",
    help: "lets pods go whose Job is finished or gone",
    workers: 2,
    body: Body::Keyed { wire, reconcile },
};

/// Whether the pod still has to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().any(|f| f == TRACKING)
}

/// Takes the finalizer off; other finalizers that come and go meanwhile stay as they are.
pub(super) fn release(pod: &ObjectMeta) -> Op {
    Op::Patch {
        resource: PODS,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        subresource: None,
        form: PatchType::Strategic,
        body: json!({"metadata": {"uid": pod.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING]}}),
    }
}

/// The same, refused when the pod has changed: it may have been adopted.
fn release_orphan(pod: &ObjectMeta) -> Op {
    let mut op = release(pod);
    if let Op::Patch { body, .. } = &mut op {
        body["metadata"]["resourceVersion"] = pod.resource_version.as_str().into();
    }
    op
}

/// Takes it off all that have it.
pub(super) fn release_all(pods: &[Arc<Pod>]) -> Option<Op> {
    let tracked = pods.iter().filter(|pod| is_tracked(pod));
    let ops: Vec<Op> = tracked.map(|pod| release(&pod.metadata)).collect();
    (!ops.is_empty()).then_some(Op::Parallel(ops))
}

/// Adoptions and releases, which put the finalizer on and take it off; `None` when nothing has to change.
pub(super) fn claim_plan(
    job: &ObjectMeta,
    selector: &LabelSelector,
    candidates: &[Arc<Pod>],
) -> Option<Vec<Op>> {
    let (mut adoptions, mut releases) = (Vec::new(), Vec::new());
    for pod in candidates {
        let meta = &pod.metadata;
        let mut owners = meta.owner_references.to_vec();
        owners.retain(|owner| owner.uid != job.uid);
        let mut finalizers = meta.finalizers.to_vec();
        finalizers.retain(|finalizer| finalizer != TRACKING);
        match claim(job, selector.matches(&meta.labels), meta) {
            Claim::Adopt => {
                owners.push(controller_reference(&JOBS, job));
                finalizers.push(TRACKING.into());
                adoptions.push(ownership(meta, &owners, &finalizers));
            }
            Claim::Release => releases.push(ownership(meta, &owners, &finalizers)),
            Claim::Keep | Claim::Ignore => {}
        }
    }
    let mut ops = Vec::new();
    if !releases.is_empty() {
        ops.push(Op::Parallel(releases));
    }
    if !adoptions.is_empty() {
        ops.push(Op::confirm(&JOBS, job));
        ops.push(Op::Parallel(adoptions));
    }
    (!ops.is_empty()).then_some(ops)
}

/// Replaces both lists, guarded by the version, since merge patches know no list elements.
fn ownership(pod: &ObjectMeta, owners: &[OwnerReference], finalizers: &[String]) -> Op {
    let or_null = |list: Value| {
        let empty = list.as_array().is_some_and(Vec::is_empty);
        if empty { Value::Null } else { list }
    };
    let metadata = json!({"uid": pod.uid, "resourceVersion": pod.resource_version,
        "ownerReferences": or_null(json!(owners)), "finalizers": or_null(json!(finalizers))});
    Op::merge(&PODS, pod, json!({"metadata": metadata}))
}

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.pods.subscribe(move |change| {
        if let Some(pod) = &change.new
            && is_tracked(pod)
            && (pod.metadata.is_deleting() || pod.metadata.controller().is_none())
        {
            keys.add(Key::of(&pod.metadata));
        }
    });
    let (pods, keys) = (caches.pods.clone(), queue.clone());
    caches.jobs.subscribe(move |change| {
        // A Job that went and came again between two looks is another one: the first is no more.
        for job in change.sides() {
            let now = change.new.as_ref();
            let same = now.filter(|now| now.metadata.uid == job.metadata.uid);
            if same.is_none_or(|job| job.finished().is_some()) {
                let pods = pods.owned_by(&job.metadata.uid);
                for pod in pods.iter().filter(|pod| is_tracked(pod)) {
                    keys.add(Key::of(&pod.metadata));
                }
            }
        }
    });
}

fn reconcile(key: &Key, world: &World) -> Plan {
    match world.caches.pods.by_key(key) {
        Some(pod) if is_tracked(&pod) && is_orphan(&pod, world) => {
            Plan::of(vec![release_orphan(&pod.metadata)])
        }
        _ => Plan::none(),
    }
}

/// Whether no Job will count this pod any more.
fn is_orphan(pod: &Pod, world: &World) -> bool {
    let meta = &pod.metadata;
    let Some(owner) = meta.controller() else {
        return true;
    };
    if owner.kind != "Job" || owner.api_version != "batch/v1" {
        return false;
    }
    let job = world.caches.jobs.get(&meta.namespace, &owner.name);
    match job.filter(|job| job.metadata.uid == owner.uid) {
        Some(job) => !is_managed_elsewhere(&job) && job.finished().is_some(),
        // A Job that we have never heard of may be newer than our cache of Jobs; whatever belongs to one that is really
        // gone is deleted by the garbage collector first.
        None => meta.is_deleting(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, world};

    #[test]
    fn a_job_that_comes_again_under_its_name_wakes_the_pods_of_the_one_before() {
        let pod = format!(
            "kind: Pod\nmetadata: {{name: p, namespace: a, uid: p, finalizers: [{TRACKING}], ownerReferences: [{{apiVersion: batch/v1, kind: Job, uid: j, name: j, controller: true}}]}}\n"
        );
        let job = "---\nkind: Job\nmetadata: {name: j, namespace: a, uid: j}\n";
        let world = world(&[pod.as_str(), job].concat());
        let queue = Arc::new(Queue::new());
        wire(&world.caches, &queue);
        let again = |uid: &str, version: &str| {
            let text = format!(
                "{{metadata: {{name: j, namespace: a, uid: {uid}, resourceVersion: '{version}'}}}}"
            );
            world.caches.jobs.apply(object(&text));
        };
        again("j", "2");
        assert!(queue.is_empty(), "its Job goes on");
        again("next", "3");
        assert_eq!(queue.len(), 1);
    }

    fn released(owner: &str, deleting: bool, job: &str) -> bool {
        let owners = if owner.is_empty() {
            String::new()
        } else {
            format!(", ownerReferences: [{{{owner}, name: j, controller: true}}]")
        };
        let deleting = if deleting {
            ", deletionTimestamp: '2026-01-01T09:00:00Z'"
        } else {
            ""
        };
        let text = format!(
            "kind: Pod\nmetadata: {{name: p, namespace: a, uid: p, finalizers: [x, {TRACKING}]{owners}{deleting}}}\n---\n{job}"
        );
        let lines = reconcile(&Key::new("a", "p"), &world(&text)).lines();
        let patch = "patch pods a/p {\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"batch.kubernetes.io/job-tracking\"]}}";
        assert!(lines.is_empty() || lines == [patch], "{lines:#?}");
        !lines.is_empty()
    }

    #[test]
    fn only_what_no_job_counts_any_more_is_let_go() {
        let ours = "apiVersion: batch/v1, kind: Job, uid: j";
        let job =
            |more: &str| format!("kind: Job\nmetadata: {{name: j, namespace: a, uid: j}}\n{more}");
        let finished = job("status: {conditions: [{type: Failed, status: 'True'}]}\n");
        assert!(released("", false, ""), "nobody's");
        assert!(!released(
            "apiVersion: apps/v1, kind: ReplicaSet, uid: r",
            true,
            ""
        ));
        assert!(!released(ours, true, &job("")), "its Job counts it");
        assert!(released(ours, false, &finished));
        let foreign = finished.replace(
            "status: {",
            "spec: {managedBy: example.com/other}\nstatus: {",
        );
        assert!(!released(ours, true, &foreign), "others count themselves");
        assert!(
            !released(ours, false, ""),
            "the Job may be younger than the cache"
        );
        assert!(released(ours, true, ""));
        let next = job("").replace("uid: j", "uid: next");
        assert!(released(ours, true, &next), "another Job of the name");
    }
}

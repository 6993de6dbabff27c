//! What a ReplicaSet and a ReplicationController have in common: a number of pods of one template.

mod census;
mod pace;

use crate::patches::{self, or_absent};
use crate::pod_control::{Mould, candidates, claim_plan, delete_pod};
use crate::ranking::{Ranked, compare};
use crate::world::World;
use agent_runtime::kinds::{Condition, LabelSelector, ObjectMeta, Pod, ReplicaSetStatus};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::PODS;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{ApiError, Change, Key, Queue, ResourceRef};
use census::Census;
use host::HashMap;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Pods created or deleted in one reconcile.
const BURST: usize = 500;
/// Pods made within this time that failed delay others.
const FAILED_LATELY: Micros = timestamp::seconds(600);

/// A ReplicaSet or ReplicationController, seen alike.
pub(crate) struct Target<'a> {
    pub(crate) resource: ResourceRef,
    pub(crate) meta: &'a ObjectMeta,
    pub(crate) replicas: i64,
    pub(crate) min_ready_seconds: i64,
    pub(crate) selector: LabelSelector,
    pub(crate) template: &'a Value,
    pub(crate) status: &'a ReplicaSetStatus,
    /// Uids of the objects whose pods count as related when victims are chosen; asked for only then.
    pub(crate) related_owners: &'a dyn Fn() -> Vec<String>,
    /// ReplicaSets report pods that are going away; ReplicationControllers have no such field.
    pub(crate) reports_terminating: bool,
}

pub(crate) fn reconcile(target: &Target<'_>, world: &World) -> Plan {
    // While a thousand pods become ready one after the other nothing else is to be done, a thousand times.
    match Census::at_a_glance(target, world) {
        Some(census) => {
            let mut plan = Plan::none();
            tell(target, census, world, &mut plan);
            plan
        }
        None => by_pods(target, world),
    }
}

/// The long way, by a look at each pod.
fn by_pods(target: &Target<'_>, world: &World) -> Plan {
    let meta = target.meta;
    let candidates = candidates(&world.caches.pods, meta, &target.selector);
    let active = || candidates.iter().filter(|pod| pod.is_active());
    if let Some(ops) = claim_plan(
        &target.resource,
        meta,
        &target.selector,
        &PODS,
        active().map(|pod| &pod.metadata),
    ) {
        // The changed pods bring this key back.
        return Plan::of(ops);
    }
    let mine: Vec<Arc<Pod>> = candidates
        .into_iter()
        .filter(|pod| pod.metadata.is_controlled_by(&meta.uid))
        .collect();
    let (ended, live): (Vec<_>, Vec<_>) = mine.into_iter().partition(|pod| pod.is_finished());
    let (going, rest): (Vec<_>, Vec<_>) =
        live.into_iter().partition(|pod| pod.metadata.is_deleting());
    let mut plan = Plan::none();
    let census = Census::of(target, &rest, going.len(), world);
    tell(target, census, world, &mut plan);
    if let Some(delay) = until_available(&rest, target.min_ready_seconds, world.now) {
        plan.again(delay);
    }
    if !meta.is_deleting() {
        manage(target, &rest, &ended, world, &mut plan);
    }
    plan
}

fn manage(
    target: &Target<'_>,
    pods: &[Arc<Pod>],
    ended: &[Arc<Pod>],
    world: &World,
    plan: &mut Plan,
) {
    let wanted = usize::try_from(target.replicas).unwrap_or(0);
    if pods.len() < wanted {
        if let Some(wait) = hold_back(ended, wanted, world.now) {
            return plan.again(wait);
        }
        let count = (wanted - pods.len()).min(BURST);
        let prefix = format!("{}-", target.meta.name);
        let mould = Mould::new(&target.resource, target.meta, &prefix, target.template);
        plan.push(Op::SlowStart(mould.create_pods(count, world)));
    } else if pods.len() > wanted {
        let count = (pods.len() - wanted).min(BURST);
        let victims = victims(target, pods, count, world);
        plan.push(Op::Parallel(
            victims
                .iter()
                .map(|pod| delete_pod(&target.resource, target.meta, &pod.metadata))
                .collect(),
        ));
    }
}

/// How long nothing is to be made, because more pods than are wanted have failed in a short time: what refuses every pod
/// would otherwise be asked as fast as pods can be made. It follows from the pods that failed, so that the next leader knows
/// it, too; a clock that is wrong makes it no longer than it can be anyway.
fn hold_back(ended: &[Arc<Pod>], wanted: usize, now: Micros) -> Option<Duration> {
    let since = now.saturating_sub(FAILED_LATELY);
    let failed = ended.iter().filter(|pod| pod.status.phase == "Failed");
    let created: Vec<Micros> = failed
        .map(|pod| pod.metadata.created())
        .filter(|at| *at > since)
        .collect();
    let newest = *created.iter().max()?;
    let doublings = u32::try_from((created.len() / wanted.max(1)).min(9)).unwrap_or(9);
    let delay = timestamp::seconds(1) << doublings.checked_sub(1)?;
    let left = newest.saturating_add(delay).saturating_sub(now).min(delay);
    let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
    Some(Duration::from_micros(left))
}

fn victims(target: &Target<'_>, pods: &[Arc<Pod>], count: usize, world: &World) -> Vec<Arc<Pod>> {
    if count == pods.len() {
        return pods.to_vec();
    }
    let mut per_node: HashMap<String, usize> = HashMap::default();
    for uid in (target.related_owners)() {
        for pod in world
            .caches
            .pods
            .owned_by(&uid)
            .iter()
            .filter(|pod| pod.is_active())
        {
            *per_node.entry(pod.spec.node_name.to_string()).or_default() += 1;
        }
    }
    let mut ranked: Vec<Ranked> = pods
        .iter()
        .map(|pod| Ranked {
            pod: pod.clone(),
            neighbours: per_node
                .get(pod.spec.node_name.as_str())
                .copied()
                .unwrap_or(0),
        })
        .collect();
    ranked.sort_by(|a, b| compare(a, b, world.now));
    ranked
        .into_iter()
        .take(count)
        .map(|ranked| ranked.pod)
        .collect()
}

/// Tells in the status what there is, when that has to change, or looks again when it has to.
fn tell(target: &Target<'_>, census: Census, world: &World, plan: &mut Plan) {
    let new = status(target, census, world);
    if new == *target.status {
        return;
    }
    match pace::wait(target, &new, world) {
        Some(wait) => plan.again(wait),
        None => plan.push(status_op(target, &new)),
    }
}

fn status(target: &Target<'_>, census: Census, world: &World) -> ReplicaSetStatus {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let observed = target.status.observed_generation;
    ReplicaSetStatus {
        replicas: number(census.active),
        fully_labeled_replicas: number(census.labelled),
        ready_replicas: number(census.ready),
        available_replicas: number(census.available),
        terminating_replicas: target.reports_terminating.then(|| number(census.going)),
        observed_generation: target.meta.generation.max(observed),
        conditions: conditions(target, census.active, world),
    }
}

fn status_op(target: &Target<'_>, new: &ReplicaSetStatus) -> Op {
    let mut status = json!({
        "replicas": new.replicas,
        "fullyLabeledReplicas": or_absent(new.fully_labeled_replicas.into()),
        "readyReplicas": or_absent(new.ready_replicas.into()),
        "availableReplicas": or_absent(new.available_replicas.into()),
        "observedGeneration": or_absent(new.observed_generation),
        "conditions": patches::conditions(&new.conditions),
    });
    if let Some(terminating) = new.terminating_replicas {
        status["terminatingReplicas"] = terminating.into();
    }
    Op::status(&target.resource, target.meta, status)
}

/// Whether a failure says something about the ability to create or delete pods: a lost race or a server that cannot
/// answer now does not.
pub(crate) fn is_refusal(error: &ApiError) -> bool {
    !error.is_conflict()
        && !error.is_already_exists()
        && !error.is_transport()
        && !error.is_namespace_terminating()
        && !matches!(error.code, 429 | 503 | 504)
}

/// `ReplicaFailure` appears when the last plan could not create or delete, and goes when a plan succeeded.
fn conditions(target: &Target<'_>, pods: usize, world: &World) -> Vec<Condition> {
    let mut conditions = target.status.conditions.clone();
    let failure = world
        .last_failure
        .as_ref()
        .filter(|error| is_refusal(error));
    match failure {
        Some(error) => {
            let reason = if i64::try_from(pods).unwrap_or(i64::MAX) < target.replicas {
                "FailedCreate"
            } else {
                "FailedDelete"
            };
            if !conditions.iter().any(|c| c.kind == "ReplicaFailure") {
                conditions.push(patches::condition(
                    "ReplicaFailure",
                    "True",
                    reason,
                    &error.message,
                    world.now,
                ));
            }
        }
        None => conditions.retain(|c| c.kind != "ReplicaFailure"),
    }
    conditions
}

/// When the next pod that is ready becomes available.
pub(crate) fn until_available(
    pods: &[Arc<Pod>],
    min_ready_seconds: i64,
    now: Micros,
) -> Option<Duration> {
    if min_ready_seconds == 0 {
        return None;
    }
    let waiting = pods
        .iter()
        .filter(|pod| pod.is_ready() && !pod.is_available(min_ready_seconds, now));
    let due = waiting.filter_map(|pod| {
        pod.condition("Ready")
            .and_then(|c| c.last_transition_time.as_deref())
            .and_then(timestamp::parse)
    });
    let earliest = due.min()? + timestamp::seconds(min_ready_seconds);
    Some(
        Duration::from_micros(u64::try_from(earliest - now).unwrap_or(0))
            + Duration::from_millis(1),
    )
}

/// Whether a pod counts for whoever keeps a number of pods as it did before: it was put on a node, got its address, or a
/// container of it was restarted. A look at thousands of pods would find the same.
pub(crate) fn counts_as_before(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return false;
    };
    let (before, after) = (&old.metadata, &new.metadata);
    before.uid == after.uid
        && before.labels == after.labels
        && before.owner_references == after.owner_references
        && before.is_deleting() == after.is_deleting()
        && old.status.phase == new.status.phase
        && readiness(old) == readiness(new)
}

/// Whether a pod is ready, and since when.
fn readiness(pod: &Pod) -> Option<(bool, Option<&str>)> {
    let ready = pod.condition("Ready")?;
    Some((ready.is_true(), ready.last_transition_time.as_deref()))
}

/// Enqueues the controllers of `kind` that a pod change concerns: its owner before and after, or, for a pod without
/// one, all whose selector matches (`selecting` lists them).
pub(crate) fn enqueue_owners(
    queue: &Queue<Key>,
    kind: &str,
    [old, new]: [Option<&Arc<Pod>>; 2],
    selecting: impl Fn(&Pod) -> Vec<Key>,
) {
    // Most pods have the owner that they had.
    let is_told_by = |old: &&Arc<Pod>| {
        new.is_some_and(|new| {
            let (old, new) = (&old.metadata, &new.metadata);
            new.controller().is_some() && old.owner_references == new.owner_references
        })
    };
    let old = old.filter(|old| !is_told_by(old));
    for pod in old.into_iter().chain(new) {
        match pod.metadata.controller() {
            Some(owner) if owner.kind == kind => {
                queue.add(Key::new(&pod.metadata.namespace, &owner.name))
            }
            Some(_) => {}
            None if pod.is_active() => selecting(pod).into_iter().for_each(|key| queue.add(key)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    #[test]
    fn only_what_is_counted_wakes_who_counts() {
        let pod = |meta: &str, spec: &str, status: &str| -> Option<Arc<Pod>> {
            let text = format!(
                "{{metadata: {{name: p, namespace: a, uid: u{meta}}}, spec: {{{spec}}}, status: {{{status}}}}}"
            );
            Some(Arc::new(object(&text)))
        };
        let ready = |at: &str| {
            format!("conditions: [{{type: Ready, status: 'True', lastTransitionTime: '{at}'}}]")
        };
        let [early, late] = [ready("2026-01-01T00:00:00Z"), ready("2026-01-01T00:00:01Z")];
        let made = || pod("", "", "phase: Pending");
        for (old, new, expected) in [
            (None, made(), false),
            (made(), None, false),
            (made(), made(), true),
            (made(), pod("", "nodeName: n", "phase: Pending"), true),
            (made(), pod("", "", "phase: Pending, podIP: 10.0.0.1"), true),
            (
                made(),
                pod(", annotations: {a: b}", "", "phase: Pending"),
                true,
            ),
            (made(), pod("", "", "phase: Running"), false),
            (made(), pod(", labels: {a: b}", "", "phase: Pending"), false),
            (
                made(),
                pod(
                    ", deletionTimestamp: '2026-01-01T00:00:00Z'",
                    "",
                    "phase: Pending",
                ),
                false,
            ),
            (
                made(),
                pod(", ownerReferences: [{uid: o}]", "", "phase: Pending"),
                false,
            ),
            (pod("", "", ""), pod("", "", &early), false),
            (pod("", "", &early), pod("", "", &early), true),
            (pod("", "", &early), pod("", "", &late), false),
        ] {
            let change = Change { old, new };
            let told = format!("{:?} -> {:?}", change.old, change.new);
            assert_eq!(counts_as_before(&change), expected, "{told}");
        }
    }
}

//! Which ReplicaSet carries the current template, its name, and the annotations by which `kubectl rollout` finds its
//! way through the history.

use super::Rollout;
use crate::patches::{self, drop_empty_claim_metadata, set_path, without_nulls};
use crate::pod_control::{controller_reference, reported};
use crate::replication::is_refusal;
use crate::world::{SAFE_CHARACTERS, World};
use agent_runtime::kinds::{Deployment, Labels, ReplicaSet};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{DEPLOYMENTS, REPLICA_SETS};
use serde_json::{Value, json};
use std::cell::LazyCell;
use std::sync::Arc;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK_REVISION: &str = "deprecated.deployment.rollback.to";
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Length of the history annotation at which old entries are dropped.
const HISTORY_BYTES_MAX: usize = 2000;

/// The oldest set with the Deployment's template.
pub(super) fn find_new(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
) -> Option<Arc<ReplicaSet>> {
    let template = &deployment.spec.template;
    let wanted = LazyCell::new(|| comparable(template));
    let is_wanted = |set: &&Arc<ReplicaSet>| {
        let other = &set.spec.template;
        is_plainly_same(other, template) || comparable(other) == *wanted
    };
    sets.iter().find(is_wanted).cloned()
}

/// Whether two templates differ in nothing but the hash label and nulls. Those are [`comparable`] as the same, and it is seen
/// without a copy of either; others may be, too.
fn is_plainly_same(one: &Value, other: &Value) -> bool {
    let both = |path: &str| one.pointer(path).zip(other.pointer(path));
    let labels = both("/metadata/labels");
    same_fields(one, other, Some("metadata"))
        && both("/metadata").is_some_and(|(one, other)| same_fields(one, other, Some("labels")))
        && labels.is_some_and(|(one, other)| same_fields(one, other, Some(TEMPLATE_HASH)))
}

/// Whether two are objects with the same fields, but for one that is left out and for nulls.
fn same_fields(one: &Value, other: &Value, left_out: Option<&str>) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return false;
    };
    let counts =
        |field: &(&String, &Value)| Some(field.0.as_str()) != left_out && !field.1.is_null();
    let number = other.iter().filter(counts).count();
    one.iter().filter(counts).count() == number
        && one.iter().filter(counts).all(|(name, value)| {
            other
                .get(name)
                .is_some_and(|other| is_same_but_nulls(value, other))
        })
}

fn is_same_but_nulls(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(_), Value::Object(_)) => same_fields(one, other, None),
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other);
            one.len() == other.len() && pairs.all(|(one, other)| is_same_but_nulls(one, other))
        }
        _ => one == other,
    }
}

/// A template without what does not make a difference: the hash label that we add, nulls, and empty metadata.
fn comparable(template: &Value) -> Value {
    let mut template = without_nulls(template);
    drop_empty_claim_metadata(&mut template);
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(TEMPLATE_HASH);
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| value.as_object().is_none_or(|fields| !fields.is_empty()));
    }
    template
}

/// A short name for a template: FNV-1a of its canonical JSON and the collision count, in letters that make no words.
fn template_hash(template: &Value, collision_count: Option<i32>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    comparable(template).to_string().bytes().for_each(&mut feed);
    if let Some(count) = collision_count {
        count.to_le_bytes().into_iter().for_each(&mut feed);
    }
    hash.to_string()
        .bytes()
        .map(|digit| char::from(SAFE_CHARACTERS[usize::from(digit) % SAFE_CHARACTERS.len()]))
        .collect()
}

pub(super) fn revision_of(annotations: &Labels) -> i64 {
    annotations
        .get(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

impl Rollout<'_> {
    /// Creates the set for the current template, with as many replicas as the strategy allows at once.
    pub(super) fn create_new_set(&self, world: &World) -> Plan {
        let deployment = self.deployment;
        let meta = &deployment.metadata;
        let hash = template_hash(&deployment.spec.template, deployment.status.collision_count);
        let name = format!("{}-{hash}", meta.name);
        if world
            .caches
            .replica_sets
            .get(&meta.namespace, &name)
            .is_some()
        {
            // The name is taken by a set with another template: the next hash will differ.
            let count = deployment
                .status
                .collision_count
                .unwrap_or(0)
                .saturating_add(1);
            return Plan::of(vec![Op::status(
                &DEPLOYMENTS,
                meta,
                json!({"collisionCount": count}),
            )]);
        }
        let failing = format!("Failed to create new replica set {name:?}: ");
        let refused = world.last_failure.as_ref().filter(|e| is_refusal(e));
        if let Some(op) = refused.and_then(|error| {
            let message = format!("{failing}{}", error.message);
            self.progress("False", "ReplicaSetCreateError", &message)
        }) {
            return Plan::of(vec![op]);
        }
        let size = self.size_of_new_set(0);
        let revision = self.next_revision().to_string();
        let mut template = deployment.spec.template.clone();
        let mut selector = json!(deployment.spec.selector);
        set_path(&mut template, &["metadata", "labels", TEMPLATE_HASH], &hash);
        set_path(&mut selector, &["matchLabels", TEMPLATE_HASH], &hash);
        let mut annotations = inherited(&meta.annotations);
        annotations.insert(REVISION.into(), revision.clone());
        annotations.insert(DESIRED_REPLICAS.into(), self.desired().to_string());
        annotations.insert(
            MAX_REPLICAS.into(),
            (self.desired() + self.max_surge()).to_string(),
        );
        let body = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": name, "namespace": meta.namespace, "annotations": annotations,
                "labels": template.pointer("/metadata/labels"), "ownerReferences": [controller_reference(&DEPLOYMENTS, meta)],
            },
            "spec": {"replicas": size, "minReadySeconds": deployment.spec.min_ready_seconds, "selector": selector, "template": template},
        });
        let create = Op::create(&REPLICA_SETS, &meta.namespace, body);
        let failure = ("ReplicaSetCreateError", failing.as_str());
        let mut plan = Plan::none();
        plan.push(if size > 0 {
            reported(
                &DEPLOYMENTS,
                meta,
                create,
                (
                    "ScalingReplicaSet",
                    format!("Scaled up replica set {name} from 0 to {size}"),
                ),
                failure,
            )
        } else {
            create
        });
        plan.ops.extend(self.progress(
            "True",
            "NewReplicaSetCreated",
            &format!("Created new replica set {name:?}"),
        ));
        plan.ops.extend(self.revision_patch(&revision));
        plan
    }

    /// Brings the annotations of the new set, and the revision on the Deployment, up to date: an old template that
    /// becomes the current one again gets the next revision, and remembers the ones it had.
    pub(super) fn adjust_new_set(&self) -> Vec<Op> {
        let Some(new) = &self.new else {
            return Vec::new();
        };
        let had = revision_of(&new.metadata.annotations);
        let next = self.next_revision();
        let mut annotations = inherited(&self.deployment.metadata.annotations);
        annotations.retain(|key, value| new.metadata.annotations.get(key) != Some(value));
        let revision = had.max(next);
        if had < next {
            annotations.insert(REVISION.into(), next.to_string());
            if had > 0 {
                annotations.insert(
                    REVISION_HISTORY.into(),
                    extended_history(new.metadata.annotations.get(REVISION_HISTORY), had),
                );
            }
        }
        let mut ops = Vec::new();
        let ready_seconds = self.deployment.spec.min_ready_seconds;
        if !annotations.is_empty() || new.spec.min_ready_seconds != ready_seconds {
            let body = json!({"metadata": {"uid": new.metadata.uid, "annotations": annotations}, "spec": {"minReadySeconds": patches::or_absent(ready_seconds.into())}});
            ops.push(Op::merge(&REPLICA_SETS, &new.metadata, body));
        }
        if !self
            .deployment
            .status
            .conditions
            .iter()
            .any(|c| c.kind == "Progressing")
        {
            ops.extend(self.progress(
                "True",
                "FoundNewReplicaSet",
                &format!("Found new replica set {:?}", new.metadata.name),
            ));
        }
        ops.extend(self.revision_patch(&revision.to_string()));
        ops
    }

    /// One more than any old set has.
    fn next_revision(&self) -> i64 {
        let old = self.old.iter();
        let last = old.map(|set| revision_of(&set.metadata.annotations)).max();
        last.unwrap_or(0).saturating_add(1)
    }

    fn revision_patch(&self, revision: &str) -> Option<Op> {
        let meta = &self.deployment.metadata;
        let up_to_date = meta
            .annotations
            .get(REVISION)
            .is_some_and(|r| r == revision);
        (!up_to_date).then(|| {
            Op::merge(
                &DEPLOYMENTS,
                meta,
                json!({"metadata": {"uid": meta.uid, "annotations": {REVISION: revision}}}),
            )
        })
    }

    /// Deletes the oldest sets beyond the history limit, of those that hold no replicas.
    pub(super) fn cleanup(&self) -> Vec<Op> {
        let Some(limit) = self.deployment.spec.revision_history_limit else {
            return Vec::new();
        };
        let mut old: Vec<_> = self
            .old
            .iter()
            .filter(|set| !set.metadata.is_deleting())
            .collect();
        let surplus = old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|set| {
            (
                revision_of(&set.metadata.annotations),
                set.metadata.created(),
            )
        });
        let empty = |set: &ReplicaSet| {
            super::replicas(set) == 0
                && set.status.replicas == 0
                && set.metadata.generation <= set.status.observed_generation
        };
        old.into_iter()
            .take(surplus)
            .filter(|set| empty(set))
            .map(|set| Op::delete(&REPLICA_SETS, &set.metadata))
            .collect()
    }
}

/// The annotations that a set takes over from its Deployment.
fn inherited(annotations: &Labels) -> Labels {
    let own = [
        LAST_APPLIED,
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        ROLLBACK_REVISION,
    ];
    annotations
        .iter()
        .filter(|(key, _)| !own.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

fn extended_history(history: Option<&String>, revision: i64) -> String {
    let mut entries: Vec<String> = history
        .map(|text| {
            text.split(',')
                .filter(|e| !e.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    entries.push(revision.to_string());
    let mut text = entries.join(",");
    while text.len() > HISTORY_BYTES_MAX {
        entries.remove(0);
        text = entries.join(",");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parts of a template, most of them of no importance.
    fn template() -> impl Strategy<Value = Value> {
        let part = |values: Vec<Value>| prop::sample::select(values);
        let labels = part(vec![
            json!({"app": "web"}),
            json!({"app": "web", TEMPLATE_HASH: "x"}),
            json!({"app": "web", TEMPLATE_HASH: "y", "tier": null}),
            json!({TEMPLATE_HASH: "x"}),
            json!({}),
            json!(null),
            json!("web"),
        ]);
        let created = part(vec![json!(null), json!({}), json!("now")]);
        let claim = part(vec![
            json!({"metadata": {}, "spec": {"a": null}}),
            json!({"metadata": {"creationTimestamp": null}, "spec": {}}),
            json!({"spec": {}}),
            json!({"metadata": {"labels": {}}, "spec": {}}),
        ]);
        let containers = part(vec![
            json!([{"name": "c", "ports": null}]),
            json!([{"name": "c"}]),
            json!([{"name": "c"}, null]),
            json!([{"name": "", "": 1}]),
            json!([{"name": "", "": 2}]),
        ]);
        (labels, created, claim, containers, any::<bool>()).prop_map(
            |(labels, created, claim, containers, is_whole)| {
                let metadata = match is_whole {
                    true => json!({"labels": labels, "creationTimestamp": created}),
                    false => json!({"labels": labels}),
                };
                let volumes = json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": claim}}]);
                json!({"metadata": metadata, "spec": {"containers": containers, "volumes": volumes}})
            },
        )
    }

    #[test]
    fn the_hash_and_nulls_make_no_difference() {
        let one = json!({"metadata": {"labels": {"a": "b"}, "name": null}, "spec": {"containers": [{"name": "c"}]}});
        let mut other = one.clone();
        set_path(&mut other, &["metadata", "labels", TEMPLATE_HASH], "x");
        other["spec"]["containers"][0]["ports"] = Value::Null;
        assert!(is_plainly_same(&one, &other));
        other["spec"]["containers"][0]["name"] = "d".into();
        assert!(!is_plainly_same(&one, &other));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]
        #[test]
        fn what_is_plainly_the_same_is_comparable_as_that(one in template(), other in template()) {
            if is_plainly_same(&one, &other) {
                prop_assert_eq!(comparable(&one), comparable(&other));
            }
        }
    }
}

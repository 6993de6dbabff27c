//! The claims of the pods: one for each template and ordinal, which stay when their pod goes, unless the set says that they
//! belong to it or, once it is not wanted any more, to their pod.

use super::Replicas;
use super::identity::member;
use crate::pod_control::{controller_reference, event, owners_patch, reported};
use agent_runtime::EventType;
use agent_runtime::kinds::{ObjectMeta, OwnerReference, PersistentVolumeClaim, StatefulSet};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use serde_json::{Value, json};
use std::sync::Arc;

/// The volumes that are claims, and the claims of an ordinal.
pub(super) fn names(set: &StatefulSet, ordinal: i64) -> impl Iterator<Item = (&str, String)> {
    templates(set).map(move |(name, _)| {
        let claim = format!("{name}-{}-{ordinal}", set.metadata.name);
        (name, claim)
    })
}

fn templates(set: &StatefulSet) -> impl Iterator<Item = (&str, &Value)> {
    let templates = set.spec.volume_claim_templates.iter();
    templates.filter_map(|template| {
        let name = template.pointer("/metadata/name")?.as_str()?;
        Some((name, template))
    })
}

/// The names of the sets that may have a claim of this name, `template-set-ordinal`: both names may have dashes in them.
pub(super) fn sets_of(claim: &str) -> impl Iterator<Item = &str> {
    let both = member(claim).map(|(both, _)| both).into_iter();
    both.flat_map(|both| {
        let dashes = both.match_indices('-');
        dashes.filter_map(move |(at, _)| both.get(at + 1..))
    })
}

/// Whether a claim of this name is one of the set's.
pub(super) fn has_claim(set: &StatefulSet, claim: &str) -> bool {
    member(claim).is_some_and(|(_, ordinal)| names(set, ordinal).any(|(_, name)| name == claim))
}

/// Whether claims are owned by the set, and whether by a pod that is not wanted any more.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    policy.map_or((false, false), |policy| {
        (
            policy.when_deleted == "Delete",
            policy.when_scaled == "Delete",
        )
    })
}

/// What claims say of a pod that is to be made.
pub(super) enum Readiness {
    /// The missing ones are to be made first.
    Missing(Vec<Op>),
    /// A claim is going: it must be gone before.
    Waits(Vec<Op>),
}

impl Replicas<'_> {
    fn claim(&self, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        let namespace = &self.set.metadata.namespace;
        self.world.caches.claims.get(namespace, name)
    }

    /// Looks at the claims of a pod that does not exist.
    pub(super) fn claims_before(&self, ordinal: i64) -> Readiness {
        let pod = self.pod_name(ordinal);
        for (_, name) in names(self.set, ordinal) {
            let Some(claim) = self.claim(&name) else {
                continue;
            };
            // The collector takes what a pod of this name left behind.
            let of_pod = |owner: &OwnerReference| owner.kind == "Pod" && owner.name == pod;
            if claim.metadata.owner_references.iter().any(of_pod) {
                return Readiness::Waits(Vec::new());
            }
            if claim.metadata.is_deleting() {
                let set = &self.set.metadata;
                let message = format!(
                    "create Pod {pod} in StatefulSet {} failed error: pvc {name} is being deleted",
                    set.name
                );
                let (kind, reason) = (EventType::Warning, "FailedCreate");
                return Readiness::Waits(vec![event(&STATEFUL_SETS, set, kind, reason, message)]);
            }
        }
        Readiness::Missing(self.missing_claims(ordinal))
    }

    /// Makes the claims of an ordinal that do not exist.
    pub(super) fn missing_claims(&self, ordinal: i64) -> Vec<Op> {
        let set = &self.set.metadata;
        let pod = self.pod_name(ordinal);
        templates(self.set)
            .zip(names(self.set, ordinal))
            .filter(|(_, (_, name))| self.claim(name).is_none())
            .map(|((_, template), (_, name))| {
                let body = self.claim_body(template, &name);
                let create = Op::create(&PERSISTENT_VOLUME_CLAIMS, &set.namespace, body);
                let told = format!("Pod {pod} in StatefulSet {}", set.name);
                let success = format!("create Claim {name} {told} success");
                let failure = format!("create Claim {name} for {told} failed error: ");
                reported(
                    &STATEFUL_SETS,
                    set,
                    create,
                    ("SuccessfulCreate", success),
                    ("FailedCreate", &failure),
                )
            })
            .collect()
    }

    fn claim_body(&self, template: &Value, name: &str) -> Value {
        let set = &self.set.metadata;
        let mut metadata = json!({"name": name, "namespace": set.namespace, "labels": {}});
        for (field, fits) in [
            ("labels", Value::is_object as fn(&Value) -> bool),
            ("annotations", Value::is_object),
            ("finalizers", Value::is_array),
        ] {
            let own = template.pointer(&format!("/metadata/{field}"));
            if let Some(value) = own.filter(|value| fits(value)) {
                metadata[field] = value.clone();
            }
        }
        let selector = self.set.spec.selector.iter();
        for (key, value) in selector.flat_map(|selector| &selector.match_labels) {
            metadata["labels"][key] = value.as_str().into();
        }
        if policy(self.set).0 {
            metadata["ownerReferences"] = json!([controller_reference(&STATEFUL_SETS, set)]);
        }
        let spec = template.get("spec").cloned().unwrap_or_default();
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    }

    /// Brings the owners of a pod's claims in line with the policy.
    pub(super) fn claim_owners(&self, pod: &ObjectMeta, ordinal: i64) -> Vec<Op> {
        let claims = names(self.set, ordinal).filter_map(|(_, name)| self.claim(&name));
        claims
            .filter_map(|claim| {
                let owners = self.owners(&claim.metadata.owner_references, pod, ordinal);
                let change = owners.len() != claim.metadata.owner_references.len()
                    || owners
                        .iter()
                        .any(|o| !claim.metadata.owner_references.contains(o));
                change.then(|| owners_patch(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, &owners))
            })
            .collect()
    }

    /// The owners that a claim should have. Where somebody else controls it, or an earlier set or pod of the same name, it
    /// is left to them.
    fn owners(
        &self,
        now: &[OwnerReference],
        pod: &ObjectMeta,
        ordinal: i64,
    ) -> Vec<OwnerReference> {
        let set = &self.set.metadata;
        let (with_set, with_pod) = policy(self.set);
        let named = |owner: &OwnerReference| {
            let of_set = owner.api_version.starts_with("apps/")
                && owner.kind == "StatefulSet"
                && owner.name == set.name;
            let of_pod = owner.api_version == "v1" && owner.kind == "Pod" && owner.name == pod.name;
            of_set || of_pod
        };
        let foreign = |owner: &OwnerReference| {
            if named(owner) {
                owner.uid != set.uid && owner.uid != pod.uid
            } else {
                owner.controller == Some(true)
            }
        };
        let mut owners: Vec<_> = now.iter().filter(|owner| !named(owner)).cloned().collect();
        if now.iter().any(foreign) {
            return owners;
        }
        let wanted = self.ordinals().contains(&ordinal);
        if !wanted && with_pod {
            owners.push(controller_reference(&PODS, pod));
        } else if with_set && (wanted || !with_pod) {
            owners.push(controller_reference(&STATEFUL_SETS, set));
        }
        owners
    }
}

//! What a pod gets: its claims, their names in its status, and, where it came to its node without the scheduler, the
//! reservations.

use super::{claim_of, name, text};
use crate::pod_control::controller_reference;
use crate::world::World;
use agent_runtime::events::reference;
use agent_runtime::kinds::{Pod, ResourceClaim};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::{PODS, RESOURCE_CLAIMS};
use agent_runtime::{EventType, PatchType};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// For which entry of a pod's `resourceClaims` a claim was made.
const ENTRY: &str = "resource.kubernetes.io/pod-claim-name";
/// As many may use a claim at a time.
const CONSUMERS_MAX: usize = 256;

pub(super) fn reconcile(pod: &Pod, world: &World) -> Plan {
    let mut plan = Plan::none();
    let mut made = Vec::new();
    for entry in &pod.spec.resource_claims {
        if !lacks_claim(pod, entry, world) {
            continue;
        }
        let name = match find(pod, text(entry, "name"), world) {
            Some(claim) => claim.metadata.name.clone(),
            None => match create(pod, entry, world) {
                Ok((name, op)) => {
                    plan.push(op);
                    name
                }
                // It comes back with the template; what was made until then is found by its owner.
                Err(text) => {
                    plan.push(Op::Event(Box::new(failure(pod, entry, &text))));
                    return plan;
                }
            },
        };
        made.push((text(entry, "name"), name));
    }
    if !made.is_empty() {
        plan.push(record(pod, &made));
    }
    if !pod.spec.node_name.is_empty() {
        plan.ops.extend(reservations(pod, world));
    }
    plan
}

/// Whether a claim has to be found or made for the entry, and be recorded.
fn lacks_claim(pod: &Pod, entry: &Value, world: &World) -> bool {
    if text(entry, "resourceClaimTemplateName").is_empty() {
        return false;
    }
    let mut recorded = pod.status.resource_claim_statuses.iter();
    let recorded = recorded.find(|status| status.name == text(entry, "name"));
    match recorded.map(|status| status.resource_claim_name.as_deref()) {
        None => true,
        // None is needed.
        Some(None) => false,
        Some(Some(name)) => {
            let claims = &world.caches.resource_claims;
            let claim = claims.get(&pod.metadata.namespace, name);
            claim.is_none_or(|claim| !claim.metadata.is_controlled_by(&pod.metadata.uid))
        }
    }
}

/// The claim that was made for the entry before somebody could say so in the pod's status.
fn find(pod: &Pod, entry: &str, world: &World) -> Option<Arc<ResourceClaim>> {
    let owned = world.caches.resource_claims.owned_by(&pod.metadata.uid);
    owned.into_iter().find(|claim| {
        let meta = &claim.metadata;
        meta.namespace == pod.metadata.namespace
            && meta.is_controlled_by(&pod.metadata.uid)
            && meta.annotations.get(ENTRY).is_some_and(|of| of == entry)
    })
}

fn failure(pod: &Pod, entry: &Value, message: &str) -> Report {
    Report {
        regarding: reference(&PODS, &pod.metadata),
        kind: EventType::Warning,
        reason: "FailedResourceClaimCreation",
        message: format!("PodResourceClaim {}: {message}", text(entry, "name")),
    }
}

/// A claim from its template, and its name.
fn create(pod: &Pod, entry: &Value, world: &World) -> Result<(String, Op), String> {
    let (meta, caches) = (&pod.metadata, &world.caches);
    let template = text(entry, "resourceClaimTemplateName");
    let found = caches
        .resource_claim_templates
        .get(&meta.namespace, template);
    let Some(found) = found else {
        return Err(format!(
            "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
        ));
    };
    let of = text(entry, "name");
    let base = name::base(&meta.name, of);
    let is_taken = |name: &str| caches.resource_claims.get(&meta.namespace, name).is_some();
    let name = name::unique(&base, &meta.uid, of, is_taken);
    let template = &found.spec;
    let mut annotations = template["metadata"]["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    annotations.insert(ENTRY.into(), of.into());
    let metadata = json!({
        "name": name, "generateName": base, "namespace": meta.namespace,
        "labels": template["metadata"]["labels"], "annotations": annotations,
        "ownerReferences": [controller_reference(&PODS, meta)],
    });
    let body = json!({"apiVersion": RESOURCE_CLAIMS.api_version(), "kind": "ResourceClaim", "metadata": metadata, "spec": template["spec"]});
    let op = Op::Refused {
        op: Box::new(Op::create(&RESOURCE_CLAIMS, &meta.namespace, body)),
        // Where Kubernetes would say a name it has none yet, for the server makes it.
        failure: Box::new(failure(pod, entry, "create ResourceClaim : ")),
    };
    Ok((name, op))
}

/// Says in the pod's status which claims are its own. Those that are there already are repeated: they are a list by name.
fn record(pod: &Pod, made: &[(&str, String)]) -> Op {
    let is_new = |name: &str| made.iter().any(|(entry, _)| *entry == name);
    let mut statuses: Vec<Value> = Vec::new();
    for status in &pod.status.resource_claim_statuses {
        if !is_new(&status.name) {
            let mut kept = Map::new();
            kept.insert("name".into(), status.name.as_str().into());
            if let Some(claim) = &status.resource_claim_name {
                kept.insert("resourceClaimName".into(), claim.as_str().into());
            }
            statuses.push(kept.into());
        }
    }
    let new = made.iter();
    statuses.extend(new.map(|(entry, claim)| json!({"name": entry, "resourceClaimName": claim})));
    Op::Patch {
        resource: PODS,
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        subresource: Some("status"),
        form: PatchType::Strategic,
        body: json!({"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": statuses}}),
    }
}

/// Who has set a pod's node by hand, or with a scheduler that does not know of claims, has reserved nothing.
fn reservations(pod: &Pod, world: &World) -> Vec<Op> {
    let (meta, claims) = (&pod.metadata, &world.caches.resource_claims);
    let mut ops = Vec::new();
    for entry in &pod.spec.resource_claims {
        let claim = claim_of(pod, entry).and_then(|name| claims.get(&meta.namespace, name));
        let Some(claim) = claim else {
            continue;
        };
        let is_generated = text(entry, "resourceClaimName").is_empty();
        let is_others = is_generated && !claim.metadata.is_controlled_by(&meta.uid);
        let consumers = &claim.status.reserved_for;
        let can_be = claim.status.allocation.is_some()
            && !claim.metadata.is_deleting()
            && consumers.len() < CONSUMERS_MAX;
        if !is_others && can_be && !claim.is_reserved_for(&meta.uid) {
            let mut consumers = consumers.clone();
            consumers.push(json!({"resource": "pods", "name": meta.name, "uid": meta.uid}));
            let status = json!({ "reservedFor": consumers });
            ops.push(Op::status(&RESOURCE_CLAIMS, &claim.metadata, status));
        }
    }
    ops
}

//! Making pods from templates, and deciding which pods belong to whom.

use crate::patches;
use crate::world::World;
use agent_runtime::events::reference;
use agent_runtime::kinds::{Kind, LabelSelector, ObjectMeta, OwnerReference};
use agent_runtime::plan::{Op, Report};
use agent_runtime::resource_ref::PODS;
use agent_runtime::{Cache, EventType, Nameless, ResourceRef};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The reference that makes `owner` the controller of what carries it.
pub(crate) fn controller_reference(resource: &ResourceRef, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Creates a pod from a template for its controller, with the events that tell of it.
pub(crate) fn create_pod(
    world: &World,
    resource: &ResourceRef,
    owner: &ObjectMeta,
    template: &Value,
) -> Op {
    let prefix = format!("{}-", owner.name);
    create_pod_named(world, resource, owner, &prefix, template)
}

/// The same with another beginning of its name.
pub(crate) fn create_pod_named(
    world: &World,
    resource: &ResourceRef,
    owner: &ObjectMeta,
    prefix: &str,
    template: &Value,
) -> Op {
    Mould::new(resource, owner, prefix, template).create_pod(world)
}

/// What pods of one template for one controller have alike, which is put together once for all of them.
pub(crate) struct Mould<'a> {
    resource: &'a ResourceRef,
    owner: &'a ObjectMeta,
    prefix: &'a str,
    /// All but the name.
    body: Value,
}

impl<'a> Mould<'a> {
    /// Of pods whose names begin so.
    pub(crate) fn new(
        resource: &'a ResourceRef,
        owner: &'a ObjectMeta,
        prefix: &'a str,
        template: &Value,
    ) -> Self {
        let mut body = pod_body(resource, owner, template, "");
        body["metadata"]["generateName"] = prefix.into();
        Self {
            resource,
            owner,
            prefix,
            body,
        }
    }

    /// Creates one of them, with the events that tell of it.
    pub(crate) fn create_pod(&self, world: &World) -> Op {
        let name = world.generate_name(self.prefix);
        let mut pod = self.body.clone();
        pod["metadata"]["name"] = name.as_str().into();
        self.told(&name, Op::create(&PODS, &self.owner.namespace, pod))
    }

    /// Creates so many of them, whose text is written once.
    pub(crate) fn create_pods(&self, count: usize, world: &World) -> Vec<Op> {
        let object = Arc::new(Nameless::new(self.body.clone()));
        let create = |_| {
            let name = world.generate_name(self.prefix);
            let create = Op::CreateLike {
                resource: PODS,
                namespace: self.owner.namespace.clone(),
                name: name.clone(),
                object: object.clone(),
            };
            self.told(&name, create)
        };
        (0..count).map(create).collect()
    }

    fn told(&self, name: &str, create: Op) -> Op {
        reported(
            self.resource,
            self.owner,
            create,
            ("SuccessfulCreate", format!("Created pod: {name}")),
            ("FailedCreate", "Error creating: "),
        )
    }
}

/// A pod of a template for its controller.
pub(crate) fn pod_body(
    resource: &ResourceRef,
    owner: &ObjectMeta,
    template: &Value,
    name: &str,
) -> Value {
    let mut metadata = Map::new();
    for key in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template
            .pointer(&format!("/metadata/{key}"))
            .filter(|v| !v.is_null())
        {
            metadata.insert(key.into(), value.clone());
        }
    }
    metadata.insert("name".into(), name.into());
    metadata.insert("generateName".into(), format!("{}-", owner.name).into());
    metadata.insert("namespace".into(), owner.namespace.as_str().into());
    metadata.insert(
        "ownerReferences".into(),
        json!([controller_reference(resource, owner)]),
    );
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec").cloned().unwrap_or_default()})
}

/// Deletes a pod of a controller, with the events that tell of it.
pub(crate) fn delete_pod(resource: &ResourceRef, owner: &ObjectMeta, pod: &ObjectMeta) -> Op {
    reported(
        resource,
        owner,
        Op::delete(&PODS, pod),
        ("SuccessfulDelete", format!("Deleted pod: {}", pod.name)),
        ("FailedDelete", "Error deleting: "),
    )
}

/// An operation with an event for either end.
pub(crate) fn reported(
    resource: &ResourceRef,
    about: &ObjectMeta,
    op: Op,
    success: (&'static str, String),
    failure: (&'static str, &str),
) -> Op {
    let report = |kind, reason, message| {
        Box::new(Report {
            regarding: reference(resource, about),
            kind,
            reason,
            message,
        })
    };
    Op::Reported {
        op: Box::new(op),
        success: report(EventType::Normal, success.0, success.1),
        failure: report(EventType::Warning, failure.0, failure.1.to_owned()),
    }
}

/// An event about an object.
pub(crate) fn event(
    resource: &ResourceRef,
    about: &ObjectMeta,
    kind: EventType,
    reason: &'static str,
    message: String,
) -> Op {
    Op::Event(Box::new(Report {
        regarding: reference(resource, about),
        kind,
        reason,
        message,
    }))
}

/// What a controller is to one candidate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Owned and selected.
    Keep,
    /// Selected and without controller: to be adopted.
    Adopt,
    /// Owned and no longer selected: to be released.
    Release,
    /// Somebody else's, or nobody's and not selected.
    Ignore,
}

/// The rules of ownership, as in Kubernetes.
pub(crate) fn claim(owner: &ObjectMeta, selected: bool, candidate: &ObjectMeta) -> Claim {
    match candidate.controller() {
        Some(controller) if controller.uid != owner.uid => Claim::Ignore,
        Some(_) if selected => Claim::Keep,
        Some(_) if owner.is_deleting() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if !selected || owner.is_deleting() || candidate.is_deleting() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// What a controller has to look at: what names it as an owner, and what it might adopt, each once. A reference across
/// namespaces names nothing.
pub(crate) fn candidates<T: Kind>(
    cache: &Cache<T>,
    owner: &ObjectMeta,
    selector: &LabelSelector,
) -> Vec<Arc<T>> {
    let mut found = cache.owned_in(&owner.namespace, &owner.uid);
    found.extend(cache.uncontrolled_where(&owner.namespace, |meta| {
        let mut owners = meta.owner_references.iter();
        selector.matches(&meta.labels) && owners.all(|other| other.uid != owner.uid)
    }));
    found
}

/// Makes `owner` the controller of `candidate`; must follow an [`Op::Confirm`] of the owner.
pub(crate) fn adopt(
    resource: &ResourceRef,
    owner: &ObjectMeta,
    of: &ResourceRef,
    candidate: &ObjectMeta,
) -> Op {
    let mut owners = candidate.owner_references.to_vec();
    owners.retain(|reference| reference.uid != owner.uid);
    owners.push(controller_reference(resource, owner));
    owners_patch(of, candidate, &owners)
}

/// Takes `owner` off `candidate`.
pub(crate) fn release(owner: &ObjectMeta, of: &ResourceRef, candidate: &ObjectMeta) -> Op {
    let mut owners = candidate.owner_references.to_vec();
    owners.retain(|reference| reference.uid != owner.uid);
    owners_patch(of, candidate, &owners)
}

/// Replaces the whole list, guarded by the version, since merge patches know no list elements.
pub(crate) fn owners_patch(
    of: &ResourceRef,
    candidate: &ObjectMeta,
    owners: &[OwnerReference],
) -> Op {
    let metadata = json!({"uid": candidate.uid, "resourceVersion": candidate.resource_version, "ownerReferences": patches::owners(owners)});
    Op::merge(of, candidate, json!({"metadata": metadata}))
}

/// Claims and releases in one go: `None` when nothing has to change.
pub(crate) fn claim_plan<'a>(
    resource: &ResourceRef,
    owner: &ObjectMeta,
    selector: &LabelSelector,
    of: &ResourceRef,
    candidates: impl Iterator<Item = &'a ObjectMeta>,
) -> Option<Vec<Op>> {
    let selected = |candidate: &ObjectMeta| selector.matches(&candidate.labels);
    claim_plan_where(resource, owner, &selected, of, candidates)
}

/// The same for owners that look at more than labels.
pub(crate) fn claim_plan_where<'a>(
    resource: &ResourceRef,
    owner: &ObjectMeta,
    selected: &dyn Fn(&ObjectMeta) -> bool,
    of: &ResourceRef,
    candidates: impl Iterator<Item = &'a ObjectMeta>,
) -> Option<Vec<Op>> {
    let mut adoptions = Vec::new();
    let mut releases = Vec::new();
    for candidate in candidates {
        match claim(owner, selected(candidate), candidate) {
            Claim::Adopt => adoptions.push(adopt(resource, owner, of, candidate)),
            Claim::Release => releases.push(release(owner, of, candidate)),
            Claim::Keep | Claim::Ignore => {}
        }
    }
    if adoptions.is_empty() && releases.is_empty() {
        return None;
    }
    let mut ops = Vec::new();
    if !releases.is_empty() {
        ops.push(Op::Parallel(releases));
    }
    if !adoptions.is_empty() {
        ops.push(Op::confirm(resource, owner));
        ops.push(Op::Parallel(adoptions));
    }
    Some(ops)
}

//! Extended resources that devices stand for: which class is behind the name of a resource, and the claim that is made for a pod
//! that asks for such resources.
//!
//! A node that has a resource itself gives it as ever. On one that does not, the pod gets devices of the class instead: the scheduler
//! makes a claim for all of it together, which differs from node to node by what they have themselves. So it stands only in memory until
//! the pod is bound. (Kubernetes: KEP-5004.)

mod requests;

pub use requests::{Asked, Asking, askings};

use super::claim::{DeviceClaim, DeviceClass};
use super::{Devices, Name};
use crate::object::{Node, Pod};
use requests::Requests;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name of the claim until it is made. No claim in the API can be called so.
pub const UNMADE: &str = "<extended-resources>";
/// Says of a claim that it was made for extended resources of its owner.
pub const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// Before the name of a class in the name of the resource that it stands for in any case.
pub const PREFIX: &str = "deviceclass.resource.kubernetes.io/";
/// Why a pod is refused whose claim is left over from an attempt that came to nothing.
pub const LEFT_OVER: &str = "cannot schedule extended resource claim";

/// The claim for the extended resources of a pod on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecialClaim {
    /// As it is decided about.
    pub claim: Arc<DeviceClaim>,
    /// As it is made.
    pub body: Value,
    /// Which of its requests is for which container, for the status of the pod.
    pub mappings: Vec<Value>,
}

/// By resource: the class behind it. Of several with the same name the newest counts, and of equally old ones the first by name.
pub(super) fn classes_by_resource(
    classes: &BTreeMap<String, Arc<DeviceClass>>,
) -> BTreeMap<String, String> {
    let mut named: Vec<&Arc<DeviceClass>> = classes.values().collect();
    named.sort_by(|one, other| {
        let by_age = other.created.cmp(&one.created);
        by_age.then_with(|| one.name.cmp(&other.name))
    });
    let mut by_resource = BTreeMap::new();
    for class in named {
        if let Some(resource) = &class.extended_resource {
            let known = by_resource.entry(resource.clone());
            known.or_insert_with(|| class.name.clone());
        }
    }
    let implicit = classes.keys();
    by_resource.extend(implicit.map(|class| (format!("{PREFIX}{class}"), class.clone())));
    by_resource
}

/// Claims that were made for extended resources, by the uid of their pod.
#[derive(Debug, Clone, Default)]
pub(super) struct Made(BTreeMap<String, Name>);

impl Made {
    /// A claim was like this, and is now like that.
    pub(super) fn set(&mut self, old: Option<&DeviceClaim>, new: Option<&DeviceClaim>) {
        let owner = |claim: &DeviceClaim| {
            let owner = claim.controller_uid.clone().filter(|_| claim.extended);
            owner.map(|uid| (uid, claim.key()))
        };
        if let Some((uid, name)) = old.and_then(owner)
            && self.0.get(&uid) == Some(&name)
        {
            self.0.remove(&uid);
        }
        self.0.extend(new.and_then(owner));
    }
}

impl Devices {
    /// The class whose devices stand for the resource, if there is one.
    pub fn class_behind(&self, resource: &str) -> Option<&Arc<DeviceClass>> {
        self.classes.get(self.resources.get(resource)?)
    }

    /// Whether the pod asks for a resource that devices stand for.
    pub(crate) fn are_behind(&self, pod: &Pod) -> bool {
        let mut asked = pod.extended.iter().flat_map(|asking| &asking.resources);
        asked.any(|asked| self.class_behind(&asked.name).is_some())
    }

    /// Which resources that the pod asks for devices stand for.
    pub(crate) fn resources_behind(&self, pod: &Pod) -> BTreeSet<String> {
        let asked = pod.extended.iter().flat_map(|asking| &asking.resources);
        let behind = asked.filter(|asked| self.class_behind(&asked.name).is_some());
        behind.map(|asked| asked.name.clone()).collect()
    }

    /// The claim that was made for the extended resources of a pod.
    pub(crate) fn made_for(&self, pod_uid: &str) -> Option<&Arc<DeviceClaim>> {
        let (namespace, name) = self.made.0.get(pod_uid)?;
        self.claim(namespace, name)
    }

    /// As if none had been made.
    pub(crate) fn forget_made_for(&mut self, pod_uid: &str) {
        if let Some(name) = self.made.0.get(pod_uid).cloned() {
            self.set_claim(name, None);
        }
    }
}

/// What a pod asks for that devices stand for.
pub(super) struct Extended<'a> {
    pod: &'a Pod,
    /// Resources, and the class of each; in the order of the resources.
    behind: Vec<(&'a str, &'a str)>,
    /// The claim on a node that has none of them itself, as most have.
    usual: SpecialClaim,
}

impl<'a> Extended<'a> {
    /// `None` for a pod that asks for nothing of that kind; an error in words when no node can do.
    pub(super) fn of(pod: &'a Pod, devices: &'a Devices) -> Result<Option<Extended<'a>>, String> {
        let mut behind: BTreeMap<&str, &str> = BTreeMap::new();
        for asked in pod.extended.iter().flat_map(|asking| &asking.resources) {
            if let Some(class) = devices.class_behind(&asked.name) {
                behind.insert(&asked.name, &class.name);
            }
        }
        if behind.is_empty() {
            return Ok(None);
        }
        if devices.made_for(&pod.uid).is_some() {
            return Err(LEFT_OVER.into());
        }
        let behind: Vec<(&str, &str)> = behind.into_iter().collect();
        let usual = special(pod, &behind);
        if devices.is_promised(&usual.claim.uid) {
            let name = usual.claim.full_name();
            return Err(format!(
                "resource claim {name} is in the process of being allocated"
            ));
        }
        Ok(Some(Extended { pod, behind, usual }))
    }

    /// The claim for what the node does not have itself.
    pub(super) fn claim_on(&self, node: &Node) -> Option<Cow<'_, SpecialClaim>> {
        let has = |resource: &str| node.allocatable.get(resource) != 0;
        let lacking = self.behind.iter().filter(|(resource, _)| !has(resource));
        let lacking: Vec<(&str, &str)> = lacking.copied().collect();
        match lacking.len() {
            0 => None,
            all if all == self.behind.len() => Some(Cow::Borrowed(&self.usual)),
            _ => Some(Cow::Owned(special(self.pod, &lacking))),
        }
    }
}

/// The uid under which a pod is promised its claim before there is one.
fn unmade_uid(pod_uid: &str) -> String {
    format!("{UNMADE} of {pod_uid}")
}

/// The uid under which the devices of a claim were promised.
pub(super) fn promised_as(claim: &DeviceClaim) -> Cow<'_, str> {
    let owner = claim.controller_uid.as_ref().filter(|_| claim.extended);
    owner.map_or(Cow::Borrowed(&*claim.uid), |pod| {
        Cow::Owned(unmade_uid(pod))
    })
}

fn special(pod: &Pod, wanted: &[(&str, &str)]) -> SpecialClaim {
    let Requests { requests, mappings } = requests::requests(&pod.extended, wanted);
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid, "controller": true});
    let body = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {
            "namespace": pod.namespace, "generateName": format!("{}-extended-resources-", pod.name),
            "annotations": {ANNOTATION: "true"}, "ownerReferences": [owner],
        },
        "spec": {"devices": {"requests": requests}},
    });
    let claim = DeviceClaim {
        name: UNMADE.into(),
        uid: unmade_uid(&pod.uid),
        ..DeviceClaim::compile(&body)
    };
    SpecialClaim {
        claim: Arc::new(claim),
        body,
        mappings,
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Volumes as the scheduler sees them: what the API says, and over it what was decided and not yet written.
//!
//! A decision for a pod with unbound claims gives volumes to claims, or orders new ones at a node. Until the API shows
//! it, the decision stands here as an *assumption*, or the next decision would give the same volume away again. A
//! newer state of the object from the API replaces the assumption, whatever it says.

pub mod bind;
pub mod object;

use bind::{Binding, VolumePlan};
use object::{Attachment, Capacity, Claim, ClaimRef, Class, CsiNode, Driver, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Namespace and name.
type Name = (String, String);

/// See the module head. Cloning shares the objects.
#[derive(Debug, Clone, Default)]
pub struct Volumes {
    claims: BTreeMap<Name, Arc<Claim>>,
    assumed_claims: BTreeMap<Name, Arc<Claim>>,
    volumes: BTreeMap<String, Arc<Volume>>,
    assumed_volumes: BTreeMap<String, Arc<Volume>>,
    by_class: BTreeMap<String, BTreeSet<String>>,
    /// Classes by name.
    pub classes: BTreeMap<String, Arc<Class>>,
    /// By the name of the node.
    pub csi_nodes: BTreeMap<String, Arc<CsiNode>>,
    /// By name.
    pub drivers: BTreeMap<String, Arc<Driver>>,
    /// By namespace and name.
    pub capacities: BTreeMap<Name, Arc<Capacity>>,
    attachments: BTreeMap<String, Arc<Attachment>>,
    attached: BTreeMap<String, BTreeSet<String>>,
}

impl Volumes {
    /// A claim as it is, or as it was decided to become.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<Claim>> {
        let key = (namespace.to_owned(), name.to_owned());
        let assumed = self.assumed_claims.get(&key);
        assumed.or_else(|| self.claims.get(&key))
    }

    /// A volume as it is, or as it was decided to become.
    pub fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        let assumed = self.assumed_volumes.get(name);
        assumed.or_else(|| self.volumes.get(name))
    }

    /// The volumes of a class, by name.
    pub fn of_class(&self, class: &str) -> impl Iterator<Item = &Arc<Volume>> {
        let names = self.by_class.get(class).into_iter().flatten();
        names.filter_map(move |name| self.volume(name))
    }

    /// What is attached to a node, or about to be.
    pub fn attached_to(&self, node: &str) -> impl Iterator<Item = &Arc<Attachment>> {
        let names = self.attached.get(node).into_iter().flatten();
        names.filter_map(move |name| self.attachments.get(name))
    }

    /// A claim is now like this, or gone. Returns what it was.
    pub fn set_claim(&mut self, key: Name, new: Option<Arc<Claim>>) -> Option<Arc<Claim>> {
        let newer = |assumed: &Arc<Claim>| {
            let of = |claim: &Arc<Claim>| claim.resource_version.clone();
            new.as_ref().map(of) != Some(of(assumed))
        };
        if self.assumed_claims.get(&key).is_some_and(newer) {
            self.assumed_claims.remove(&key);
        }
        match new {
            Some(claim) => self.claims.insert(key, claim),
            None => self.claims.remove(&key),
        }
    }

    /// A volume is now like this, or gone. Returns what it was.
    pub fn set_volume(&mut self, name: &str, new: Option<Arc<Volume>>) -> Option<Arc<Volume>> {
        let newer = |assumed: &Arc<Volume>| {
            let of = |volume: &Arc<Volume>| volume.resource_version.clone();
            new.as_ref().map(of) != Some(of(assumed))
        };
        if self.assumed_volumes.get(name).is_some_and(newer) {
            self.assumed_volumes.remove(name);
        }
        let old = match &new {
            Some(volume) => self.volumes.insert(name.to_owned(), volume.clone()),
            None => self.volumes.remove(name),
        };
        if let Some(old) = &old {
            forget(&mut self.by_class, &old.class, name);
        }
        if let Some(new) = new {
            let names = self.by_class.entry(new.class.clone()).or_default();
            names.insert(name.to_owned());
        }
        old
    }

    /// An attachment is now like this, or gone. Returns what it was.
    pub fn set_attachment(
        &mut self,
        name: &str,
        new: Option<Arc<Attachment>>,
    ) -> Option<Arc<Attachment>> {
        let old = match &new {
            Some(new) => self.attachments.insert(name.to_owned(), new.clone()),
            None => self.attachments.remove(name),
        };
        if let Some(old) = &old {
            forget(&mut self.attached, &old.node, name);
        }
        if let Some(new) = new {
            let names = self.attached.entry(new.node.clone()).or_default();
            names.insert(name.to_owned());
        }
        old
    }

    /// What was decided holds from now on.
    pub fn assume(&mut self, plan: &VolumePlan, node: &str) {
        for Binding { claim, volume } in &plan.bindings {
            let mut assumed = (**volume).clone();
            assumed.claim = Some(ClaimRef {
                namespace: claim.namespace.clone(),
                name: claim.name.clone(),
                uid: claim.uid.clone(),
            });
            self.assumed_volumes
                .insert(volume.name.clone(), Arc::new(assumed));
        }
        for claim in &plan.provisions {
            let mut assumed = (**claim).clone();
            assumed.selected_node = Some(node.to_owned());
            let key = (claim.namespace.clone(), claim.name.clone());
            self.assumed_claims.insert(key, Arc::new(assumed));
        }
    }

    /// What was decided will not be done.
    pub fn revert(&mut self, plan: &VolumePlan) {
        for binding in &plan.bindings {
            self.assumed_volumes.remove(&binding.volume.name);
        }
        for claim in &plan.provisions {
            let key = (claim.namespace.clone(), claim.name.clone());
            self.assumed_claims.remove(&key);
        }
    }
}

fn forget(index: &mut BTreeMap<String, BTreeSet<String>>, key: &str, name: &str) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Claims, volumes and classes for tables.

    use super::*;
    use serde_json::{Value, json};

    /// Volumes from API objects, told apart by their kind.
    pub(crate) fn volumes(objects: &[Value]) -> Volumes {
        let mut volumes = Volumes::default();
        for object in objects {
            let text = |pointer: &str| crate::object::text(object, pointer);
            let name = text("/metadata/name");
            let key = (text("/metadata/namespace"), name.clone());
            match text("/kind").as_str() {
                "PersistentVolumeClaim" => {
                    volumes.set_claim(key, Some(Arc::new(Claim::compile(object))));
                }
                "PersistentVolume" => {
                    volumes.set_volume(&name, Some(Arc::new(Volume::compile(object))));
                }
                "StorageClass" => {
                    volumes
                        .classes
                        .insert(name, Arc::new(Class::compile(object)));
                }
                "CSINode" => {
                    volumes
                        .csi_nodes
                        .insert(name, Arc::new(CsiNode::compile(object)));
                }
                "CSIDriver" => {
                    volumes
                        .drivers
                        .insert(name, Arc::new(Driver::compile(object)));
                }
                "CSIStorageCapacity" => {
                    let capacity = Arc::new(Capacity::compile(object));
                    volumes.capacities.insert(key, capacity);
                }
                "VolumeAttachment" => {
                    volumes.set_attachment(&name, Some(Arc::new(Attachment::compile(object))));
                }
                other => panic!("{other}"),
            }
        }
        volumes
    }

    pub(crate) fn claim(name: &str, class: &str, size: &str) -> Value {
        json!({"kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1"},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
    }

    pub(crate) fn bound_claim(name: &str, volume: &str) -> Value {
        let mut claim = claim(name, "", "1Gi");
        claim["spec"]["volumeName"] = json!(volume);
        claim["metadata"]["annotations"] = json!({object::BIND_COMPLETED: "yes"});
        claim
    }

    /// A volume that is reachable from nodes with `host` in `hosts`, or from all when there are none.
    pub(crate) fn volume(name: &str, class: &str, size: &str, hosts: &[&str]) -> Value {
        let mut volume = json!({"kind": "PersistentVolume",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}},
            "status": {"phase": "Available"}});
        if !hosts.is_empty() {
            let term =
                json!({"matchExpressions": [{"key": "host", "operator": "In", "values": hosts}]});
            volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [term]}});
        }
        volume
    }

    pub(crate) fn class(name: &str, provisioner: &str, mode: &str) -> Value {
        json!({"kind": "StorageClass", "metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
    }

    /// The spec of a pod that uses these claims.
    pub(crate) fn using(claims: &[&str]) -> Value {
        let volumes: Vec<Value> = claims
            .iter()
            .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
            .collect();
        json!({"containers": [{}], "volumes": volumes})
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{claim, volume, volumes};
    use super::*;
    use serde_json::json;

    #[test]
    fn an_assumption_holds_until_a_newer_state_comes_or_it_is_taken_back() {
        let mut known = volumes(&[volume("v", "c", "1Gi", &[]), claim("p", "c", "1Gi")]);
        let of_claim = known.claim("default", "p").unwrap().clone();
        let plan = VolumePlan {
            bindings: vec![Binding {
                claim: of_claim.clone(),
                volume: known.volume("v").unwrap().clone(),
            }],
            provisions: vec![of_claim],
        };
        known.assume(&plan, "n");
        let belongs = |known: &Volumes| known.volume("v").unwrap().claim.is_some();
        let selected = |known: &Volumes| known.claim("default", "p").unwrap().selected_node.clone();
        assert!(belongs(&known));
        assert_eq!(selected(&known).as_deref(), Some("n"));
        // The same state once more is no news.
        known.set_volume(
            "v",
            Some(Arc::new(Volume::compile(&volume("v", "c", "1Gi", &[])))),
        );
        assert!(belongs(&known));
        known.revert(&plan);
        assert!(!belongs(&known) && selected(&known).is_none());
        known.assume(&plan, "n");
        let mut newer = volume("v", "c", "1Gi", &[]);
        newer["metadata"]["resourceVersion"] = json!("2");
        known.set_volume("v", Some(Arc::new(Volume::compile(&newer))));
        known.set_claim(("default".into(), "p".into()), None);
        assert!(!belongs(&known) && known.claim("default", "p").is_none());
    }

    #[test]
    fn a_volume_that_changes_its_class_is_found_under_the_new_one_only() {
        let mut known = volumes(&[volume("v", "a", "1Gi", &[])]);
        known.set_volume(
            "v",
            Some(Arc::new(Volume::compile(&volume("v", "b", "1Gi", &[])))),
        );
        assert_eq!(known.of_class("a").count(), 0);
        assert_eq!(known.of_class("b").count(), 1);
        known.set_volume("v", None);
        assert_eq!(known.of_class("b").count(), 0);
    }
}

//! Which volumes a pod gets on a node: the claims that are bound must be reachable from there, those that wait for their
//! first pod get a volume that is there already, the smallest that will do, or one that is made for the node.

use super::Volumes;
use super::object::{Claim, PodVolume, Volume};
use crate::object::Pod;
use crate::selector::Labels;
use std::sync::Arc;

/// The claim is bound, and its volume cannot be reached.
pub const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
/// No volume is there, and none can be made.
pub const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
/// A driver says that it has no room.
pub const NO_SPACE: &str = "node(s) did not have enough free storage";
/// The claim is bound to a volume that does not exist.
pub const NO_SUCH_VOLUME: &str =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
/// A claim that does not wait for a pod waits for the controller.
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

/// A volume that was given to a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The claim.
    pub claim: Arc<Claim>,
    /// As it was before.
    pub volume: Arc<Volume>,
}

/// What is to be written before the pod can be bound to its node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VolumePlan {
    /// Volumes that are there already.
    pub bindings: Vec<Binding>,
    /// Claims for which a volume is to be made at the node.
    pub provisions: Vec<Arc<Claim>>,
}

impl VolumePlan {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

/// Why a claim cannot be had at all, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hopeless(pub String);

/// The claims of a pod with the volumes that come into question, sorted out once a decision.
#[derive(Debug)]
pub struct Claims<'a> {
    volumes: &'a Volumes,
    bound: Vec<&'a Arc<Claim>>,
    waiting: Vec<(&'a Arc<Claim>, Candidates<'a>)>,
}

/// The volumes that could be given to a claim.
#[derive(Debug)]
enum Candidates<'a> {
    /// It was promised this one.
    Promised(&'a Arc<Volume>),
    /// Any of these, the smallest first.
    Free(Vec<&'a Arc<Volume>>),
}

impl<'a> Claims<'a> {
    /// `None` for a pod without claims; an error when no node can do.
    pub fn of(pod: &Pod, volumes: &'a Volumes) -> Result<Option<Claims<'a>>, Hopeless> {
        let mut claims = Vec::new();
        for volume in &pod.volumes {
            match volume {
                PodVolume::Claim(name) => claims.push(usable(pod, volumes, name, false)?),
                PodVolume::Ephemeral(name) => claims.push(usable(pod, volumes, name, true)?),
                PodVolume::Disk(_) => {}
            }
        }
        if claims.is_empty() {
            return Ok(None);
        }
        let (bound, unbound): (Vec<_>, Vec<_>) = claims.into_iter().partition(|c| c.is_bound());
        let mut waiting: Vec<&'a Arc<Claim>> = Vec::new();
        for claim in unbound {
            // One that already names its volume waits for the controller and not for us.
            if !waits(claim, volumes)? || !claim.volume_name.is_empty() {
                return Err(Hopeless(UNBOUND.into()));
            }
            // A claim may be mounted twice.
            if !waiting.iter().any(|other| other.name == claim.name) {
                waiting.push(claim);
            }
        }
        waiting.sort_by_key(|claim| claim.request.unwrap_or(0));
        let waiting = waiting
            .into_iter()
            .map(|claim| (claim, candidates(claim, volumes)))
            .collect();
        Ok(Some(Claims {
            volumes,
            bound,
            waiting,
        }))
    }

    /// What has to be written to run the pod on a node with this name and these labels, or why it cannot run there.
    pub fn plan(&self, node: &str, labels: &Labels) -> Result<VolumePlan, Vec<&'static str>> {
        let mut reasons = Vec::new();
        let mut missing = false;
        for claim in &self.bound {
            match self.volumes.volume(&claim.volume_name) {
                Some(volume) if volume.reachable_from(labels) => {}
                Some(_) => {
                    reasons.push(NODE_CONFLICT);
                    break;
                }
                None => {
                    missing = true;
                    break;
                }
            }
        }
        let plan = self.plan_waiting(node, labels).map_err(|reason| {
            reasons.push(reason);
        });
        if missing {
            reasons.push(NO_SUCH_VOLUME);
        }
        match plan {
            Ok(plan) if reasons.is_empty() => Ok(plan),
            _ => Err(reasons),
        }
    }

    fn plan_waiting(&self, node: &str, labels: &Labels) -> Result<VolumePlan, &'static str> {
        let mut plan = VolumePlan::default();
        let elsewhere = |claim: &Claim| {
            let selected = claim.selected_node.as_deref();
            selected.is_some_and(|selected| selected != node)
        };
        if self.waiting.iter().any(|(claim, _)| elsewhere(claim)) {
            return Err(NO_VOLUME);
        }
        for (claim, candidates) in &self.waiting {
            let found = match claim.selected_node {
                // Its volume is being made.
                Some(_) => None,
                None => candidates.find(labels, &plan.bindings),
            };
            match found {
                Some(volume) => plan.bindings.push(Binding {
                    claim: (*claim).clone(),
                    volume: volume.clone(),
                }),
                None => plan.provisions.push((*claim).clone()),
            }
        }
        for claim in &plan.provisions {
            self.check_provisioning(claim, labels)?;
        }
        Ok(plan)
    }

    fn check_provisioning(&self, claim: &Claim, labels: &Labels) -> Result<(), &'static str> {
        let class = self.volumes.classes.get(&claim.class);
        let class = class
            .filter(|class| class.provisions() && class.provisions_for(labels))
            .ok_or(NO_VOLUME)?;
        let driver = self.volumes.drivers.get(&class.provisioner);
        let Some(bytes) = claim
            .request
            .filter(|_| driver.is_some_and(|d| d.tells_capacity))
        else {
            return Ok(());
        };
        let room = self
            .volumes
            .capacities
            .values()
            .any(|capacity| capacity.class == class.name && capacity.has_room(bytes, labels));
        room.then_some(()).ok_or(NO_SPACE)
    }
}

impl<'a> Candidates<'a> {
    fn find(&self, labels: &Labels, taken: &[Binding]) -> Option<&'a Arc<Volume>> {
        match self {
            Candidates::Promised(volume) => Some(*volume).filter(|v| v.reachable_from(labels)),
            Candidates::Free(volumes) => volumes.iter().copied().find(|volume| {
                volume.reachable_from(labels)
                    && !taken.iter().any(|taken| taken.volume.name == volume.name)
            }),
        }
    }
}

/// The claim, if it can be used by the pod.
fn usable<'a>(
    pod: &Pod,
    volumes: &'a Volumes,
    name: &str,
    ephemeral: bool,
) -> Result<&'a Arc<Claim>, Hopeless> {
    let Some(claim) = volumes.claim(&pod.namespace, name) else {
        return Err(Hopeless(match ephemeral {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            ),
            false => not_found(name).0,
        }));
    };
    if claim.lost {
        let volume = &claim.volume_name;
        return Err(Hopeless(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        )));
    }
    if claim.deleting {
        return Err(Hopeless(format!(
            "persistentvolumeclaim {name:?} is being deleted"
        )));
    }
    if ephemeral && claim.controller_uid.as_deref() != Some(&pod.uid) {
        let namespace = &pod.namespace;
        return Err(Hopeless(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
            pod.name
        )));
    }
    Ok(claim)
}

/// A claim that is not there.
pub fn not_found(claim: &str) -> Hopeless {
    Hopeless(format!("persistentvolumeclaim {claim:?} not found"))
}

/// Whether the claim is bound when a pod needs it.
fn waits(claim: &Claim, volumes: &Volumes) -> Result<bool, Hopeless> {
    let Some(class) = volumes.classes.get(&claim.class) else {
        return Ok(false);
    };
    class.waits.ok_or_else(|| mode_not_set(&class.name))
}

/// A class that does not say when its claims are bound.
pub fn mode_not_set(class: &str) -> Hopeless {
    Hopeless(format!(
        "VolumeBindingMode not set for StorageClass {class:?}"
    ))
}

fn candidates<'a>(claim: &Claim, volumes: &'a Volumes) -> Candidates<'a> {
    let request = claim.request.unwrap_or(0);
    let large_enough = volumes.of_class(&claim.class).filter(|volume| {
        volume.capacity >= request
            && volume.block == claim.block
            && volume.attributes == claim.attributes
            && !volume.deleting
    });
    let (promised, others): (Vec<_>, Vec<_>) =
        large_enough.partition(|volume| volume.belongs_to(claim));
    if let Some(&volume) = promised.first() {
        return Candidates::Promised(volume);
    }
    let mut free: Vec<&Arc<Volume>> = others
        .into_iter()
        .filter(|volume| {
            volume.claim.is_none()
                && volume.available
                && claim.selects(&volume.labels)
                && claim.modes.is_subset(&volume.modes)
        })
        .collect();
    free.sort_by_key(|volume| volume.capacity);
    Candidates::Free(free)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bound_claim, claim, class, using, volume, volumes};
    use super::*;
    use crate::plugins::testing::pod;
    use serde_json::{Value, json};

    fn host(name: &str) -> Labels {
        Labels::from([("host".into(), name.into())])
    }

    fn hopeless(spec: Value, objects: &[Value]) -> String {
        Claims::of(&pod(spec), &volumes(objects)).unwrap_err().0
    }

    /// What is written for a pod with these claims on the host: `claim=volume` or `claim+` for a new one.
    fn plan(
        claims: &[&str],
        objects: &[Value],
        name: &str,
    ) -> Result<Vec<String>, Vec<&'static str>> {
        let known = volumes(objects);
        let plan = Claims::of(&pod(using(claims)), &known).unwrap().unwrap();
        let plan = plan.plan(name, &host(name))?;
        let bound = plan.bindings.iter();
        let bound = bound.map(|b| format!("{}={}", b.claim.name, b.volume.name));
        let made = plan.provisions.iter().map(|c| format!("{}+", c.name));
        Ok(bound.chain(made).collect())
    }

    #[test]
    fn what_makes_a_pod_wait_for_its_claims_in_words() {
        assert_eq!(
            hopeless(using(&["p"]), &[]),
            "persistentvolumeclaim \"p\" not found"
        );
        let mut odd = claim("p", "slow", "1Gi");
        assert_eq!(
            hopeless(using(&["p"]), &[odd.clone()]),
            "pod has unbound immediate PersistentVolumeClaims"
        );
        odd["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            hopeless(using(&["p"]), &[odd.clone()]),
            "persistentvolumeclaim \"p\" is being deleted"
        );
        odd["status"] = json!({"phase": "Lost"});
        odd["spec"]["volumeName"] = json!("v");
        assert_eq!(
            hopeless(using(&["p"]), &[odd]),
            "persistentvolumeclaim \"p\" bound to non-existent persistentvolume \"v\""
        );
        let ephemeral = json!({"volumes": [{"name": "tmp", "ephemeral": {}}]});
        assert_eq!(
            hopeless(ephemeral.clone(), &[]),
            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-tmp\""
        );
        assert_eq!(
            hopeless(ephemeral, &[claim("p-tmp", "slow", "1Gi")]),
            "PVC default/p-tmp was not created for pod default/p (pod is not owner)"
        );
    }

    #[test]
    fn a_claim_that_names_its_volume_is_bound_by_the_controller_even_in_a_class_that_waits() {
        let mut named = claim("p", "w", "1Gi");
        named["spec"]["volumeName"] = json!("v");
        let objects = [named, class("w", "x", "WaitForFirstConsumer")];
        assert_eq!(
            hopeless(using(&["p"]), &objects),
            "pod has unbound immediate PersistentVolumeClaims"
        );
    }

    #[test]
    fn bound_claims_bind_the_pod_to_where_their_volume_is() {
        let objects = [
            bound_claim("p", "v"),
            bound_claim("q", "gone"),
            volume("v", "", "1Gi", &["a"]),
        ];
        assert_eq!(plan(&["p"], &objects, "a"), Ok(vec![]));
        assert_eq!(plan(&["p"], &objects, "b"), Err(vec![NODE_CONFLICT]));
        assert_eq!(plan(&["q"], &objects, "a"), Err(vec![NO_SUCH_VOLUME]));
    }

    #[test]
    fn the_smallest_volume_that_will_do_is_taken_and_no_volume_twice() {
        let objects = [
            class("w", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
            claim("p", "w", "2Gi"),
            claim("q", "w", "1Gi"),
            volume("large", "w", "9Gi", &["a"]),
            volume("small", "w", "3Gi", &["a"]),
            volume("tiny", "w", "512Mi", &["a"]),
            volume("there", "w", "2Gi", &["b"]),
            volume("other", "x", "2Gi", &["a", "b"]),
        ];
        assert_eq!(plan(&["p"], &objects, "a").unwrap(), ["p=small"]);
        assert_eq!(plan(&["p"], &objects, "b").unwrap(), ["p=there"]);
        assert_eq!(plan(&["p"], &objects, "c"), Err(vec![NO_VOLUME]));
        // The smaller claim chooses first.
        assert_eq!(
            plan(&["p", "q"], &objects, "a").unwrap(),
            ["q=small", "p=large"]
        );
        assert_eq!(plan(&["p", "q"], &objects, "b"), Err(vec![NO_VOLUME]));
    }

    #[test]
    fn volumes_must_suit_in_every_respect() {
        let waiting = class("w", "kubernetes.io/no-provisioner", "WaitForFirstConsumer");
        let suits = |change: fn(&mut Value, &mut Value)| {
            let (mut claim, mut volume) = (claim("p", "w", "1Gi"), volume("v", "w", "1Gi", &[]));
            change(&mut claim, &mut volume);
            plan(&["p"], &[waiting.clone(), claim, volume], "a").is_ok()
        };
        assert!(suits(|_, _| {}));
        assert!(!suits(
            |_, volume| volume["spec"]["volumeMode"] = json!("Block")
        ));
        assert!(!suits(
            |_, volume| volume["status"]["phase"] = json!("Released")
        ));
        assert!(!suits(
            |_, volume| volume["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
        ));
        assert!(!suits(
            |claim, _| claim["spec"]["accessModes"] = json!(["ReadWriteMany"])
        ));
        assert!(!suits(
            |claim, _| claim["spec"]["selector"] = json!({"matchLabels": {"a": "b"}})
        ));
        assert!(suits(|claim, volume| {
            claim["spec"]["selector"] = json!({"matchLabels": {"a": "b"}});
            volume["metadata"]["labels"] = json!({"a": "b"});
        }));
        assert!(!suits(|_, volume| volume["spec"]["claimRef"] =
            json!({"namespace": "default", "name": "other"})));
        assert!(!suits(
            |claim, _| claim["spec"]["volumeAttributesClassName"] = json!("gold")
        ));
        assert!(suits(|claim, volume| {
            claim["spec"]["volumeAttributesClassName"] = json!("gold");
            volume["spec"]["volumeAttributesClassName"] = json!("gold");
        }));
        // A volume that was promised needs not be available.
        assert!(suits(|_, volume| {
            volume["spec"]["claimRef"] = json!({"namespace": "default", "name": "p"});
            volume["status"]["phase"] = json!("Pending");
        }));
        assert!(!suits(|_, volume| volume["spec"]["claimRef"] =
            json!({"namespace": "default", "name": "p", "uid": "earlier"})));
    }

    #[test]
    fn volumes_are_made_where_the_class_allows_it_and_there_is_room() {
        let mut making = class("w", "disks.example.com", "WaitForFirstConsumer");
        let mut objects = vec![claim("p", "w", "2Gi"), making.clone()];
        assert_eq!(plan(&["p"], &objects, "a").unwrap(), ["p+"]);
        making["allowedTopologies"] =
            json!([{"matchLabelExpressions": [{"key": "host", "values": ["b", "c"]}]}]);
        objects[1] = making;
        assert_eq!(plan(&["p"], &objects, "a"), Err(vec![NO_VOLUME]));
        assert_eq!(plan(&["p"], &objects, "b").unwrap(), ["p+"]);
        objects.push(json!({"kind": "CSIDriver", "metadata": {"name": "disks.example.com"}, "spec": {"storageCapacity": true}}));
        assert_eq!(plan(&["p"], &objects, "b"), Err(vec![NO_SPACE]));
        let room = |name: &str, largest: &str, host: &str| {
            json!({"kind": "CSIStorageCapacity",
            "metadata": {"name": name, "namespace": "default"}, "storageClassName": "w",
            "capacity": "9Gi", "maximumVolumeSize": largest, "nodeTopology": {"matchLabels": {"host": host}}})
        };
        objects.push(room("b", "1Gi", "b"));
        objects.push(room("c", "2Gi", "c"));
        assert_eq!(plan(&["p"], &objects, "b"), Err(vec![NO_SPACE]));
        assert_eq!(plan(&["p"], &objects, "c").unwrap(), ["p+"]);
    }

    #[test]
    fn a_volume_that_is_being_made_keeps_the_pod_at_its_node() {
        let mut ordered = claim("p", "w", "2Gi");
        ordered["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "a"});
        let objects = [
            ordered,
            class("w", "disks.example.com", "WaitForFirstConsumer"),
            volume("v", "w", "2Gi", &[]),
        ];
        assert_eq!(plan(&["p"], &objects, "a").unwrap(), ["p+"]);
        assert_eq!(plan(&["p"], &objects, "b"), Err(vec![NO_VOLUME]));
    }
}

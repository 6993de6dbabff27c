//! Claims and volumes. Static matching is done by trying: which of the volumes would be the one?

use super::nodes::{refuse, term_matches};
use super::resources::amount;
use super::{Cluster, label, list, selects, words};
use serde_json::Value;
use std::collections::BTreeSet;

const BOUND: &str = "pv.kubernetes.io/bind-completed";
pub(super) const SELECTED: &str = "volume.kubernetes.io/selected-node";

pub(super) fn claim_names(pod: &Value) -> Vec<&str> {
    let volumes = list(&pod["spec"]["volumes"]).iter();
    volumes
        .filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str())
        .collect()
}

/// Disks that the pod names without a claim, and whether each is only read.
fn disks(pod: &Value) -> Vec<(&str, bool)> {
    let mut disks = Vec::new();
    for volume in list(&pod["spec"]["volumes"]) {
        let (google, amazon) = (
            &volume["gcePersistentDisk"],
            &volume["awsElasticBlockStore"],
        );
        if google.is_object() {
            disks.push((words(&google["pdName"]), google["readOnly"] == true));
        }
        if amazon.is_object() {
            disks.push((words(&amazon["volumeID"]), false));
        }
    }
    disks
}

pub(super) fn find<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|object| words(&object["metadata"]["name"]) == name)
}

fn class_of(object: &Value) -> &str {
    words(&object["spec"]["storageClassName"])
}

pub(super) fn size(object: &Value) -> i64 {
    let claimed = &object["spec"]["resources"]["requests"];
    amount(
        if claimed.is_object() {
            claimed
        } else {
            &object["spec"]["capacity"]
        },
        "storage",
    )
}

fn is_bound(claim: &Value) -> bool {
    let completed = claim["metadata"]["annotations"].get(BOUND).is_some();
    completed && !words(&claim["spec"]["volumeName"]).is_empty()
}

pub(super) fn reaches(volume: &Value, node: &Value) -> bool {
    let required = &volume["spec"]["nodeAffinity"]["required"];
    let mut terms = list(&required["nodeSelectorTerms"]).iter();
    !required.is_object() || terms.any(|term| term_matches(term, node))
}

fn belongs(volume: &Value, claim: &Value) -> bool {
    let (of, claim) = (&volume["spec"]["claimRef"], &claim["metadata"]);
    of["name"] == claim["name"]
        && of["namespace"] == claim["namespace"]
        && (words(&of["uid"]).is_empty() || of["uid"] == claim["uid"])
}

pub(super) fn restrictions(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let mut in_use = false;
    for name in claim_names(pod) {
        let Some(claim) = find(&cluster.claims, name) else {
            return refuse(true, &format!("persistentvolumeclaim \"{name}\" not found"));
        };
        let for_one = list(&claim["spec"]["accessModes"])
            .iter()
            .any(|m| m == "ReadWriteOncePod");
        let used = cluster.pods.iter().any(|other| {
            other["metadata"]["namespace"] == pod["metadata"]["namespace"]
                && claim_names(other).contains(&name)
        });
        in_use |= for_one && used;
    }
    for other in cluster.pods_on(node) {
        for (disk, reads) in disks(pod) {
            let same =
                |(theirs, they_read): &(&str, bool)| *theirs == disk && !(reads && *they_read);
            if disks(other).iter().any(same) {
                return refuse(true, "node(s) had no available disk");
            }
        }
    }
    refuse(
        in_use,
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
    )
}

/// Driver and handle of a volume.
fn handle(csi: &Value) -> (String, String) {
    let text = |field: &str| words(&csi[field]).to_owned();
    (text("driver"), text("volumeHandle"))
}

/// What a driver would have to attach for a pod.
fn attached(cluster: &Cluster, pod: &Value) -> BTreeSet<(String, String)> {
    let mut handles = BTreeSet::new();
    for name in claim_names(pod) {
        let Some(claim) = find(&cluster.claims, name) else {
            continue;
        };
        if let Some(volume) = find(&cluster.volumes, words(&claim["spec"]["volumeName"])) {
            let csi = &volume["spec"]["csi"];
            if csi.is_object() {
                handles.insert(handle(csi));
            }
        } else if let Some(class) = find(&cluster.classes, class_of(claim)) {
            let maker = words(&class["provisioner"]).to_owned();
            if maker != "kubernetes.io/no-provisioner" {
                handles.insert((maker, format!("claim {name}")));
            }
        }
    }
    handles
}

pub(super) fn limits(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let Some(csi) = find(&cluster.csi_nodes, words(&node["metadata"]["name"])) else {
        return Vec::new();
    };
    let mut there = BTreeSet::new();
    for other in cluster.pods_on(node) {
        there.extend(attached(cluster, other));
    }
    // What is attached stays so for a while when its pod has gone.
    for attachment in &cluster.attachments {
        let volume = words(&attachment["spec"]["source"]["persistentVolumeName"]);
        let volume =
            find(&cluster.volumes, volume).filter(|volume| volume["spec"]["csi"].is_object());
        if let Some(volume) = volume
            && attachment["spec"]["nodeName"] == node["metadata"]["name"]
        {
            there.insert(handle(&volume["spec"]["csi"]));
        }
    }
    let mut too_many = false;
    for driver in list(&csi["spec"]["drivers"]) {
        let of = |all: &BTreeSet<(String, String)>| -> BTreeSet<String> {
            let here = all
                .iter()
                .filter(|(name, _)| *name == words(&driver["name"]));
            here.map(|(_, handle)| handle.clone()).collect()
        };
        let (old, wanted) = (of(&there), of(&attached(cluster, pod)));
        let new = wanted.difference(&old).count();
        let limit = driver["allocatable"]["count"].as_u64().unwrap() as usize;
        too_many |= new > 0 && old.len() + new > limit;
    }
    refuse(too_many, "node(s) exceed max volume count")
}

pub(super) fn binding(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let mut claims = Vec::new();
    for name in claim_names(pod) {
        let Some(claim) = find(&cluster.claims, name) else {
            return refuse(true, &format!("persistentvolumeclaim \"{name}\" not found"));
        };
        if claim["status"]["phase"] == "Lost" {
            let volume = words(&claim["spec"]["volumeName"]);
            let words = format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
            );
            return refuse(true, &words);
        }
        if !claim["metadata"]["deletionTimestamp"].is_null() {
            let words = format!("persistentvolumeclaim \"{name}\" is being deleted");
            return refuse(true, &words);
        }
        claims.push(claim);
    }
    let waits = |claim: &Value| {
        let class = find(&cluster.classes, class_of(claim));
        class.is_some_and(|class| class["volumeBindingMode"] == "WaitForFirstConsumer")
    };
    for claim in claims.iter().filter(|claim| !is_bound(claim)) {
        if !waits(claim) || !words(&claim["spec"]["volumeName"]).is_empty() {
            return refuse(true, "pod has unbound immediate PersistentVolumeClaims");
        }
    }
    let mut reasons = Vec::new();
    let mut missing = false;
    for claim in claims.iter().filter(|claim| is_bound(claim)) {
        match find(&cluster.volumes, words(&claim["spec"]["volumeName"])) {
            None => missing = true,
            Some(volume) if !reaches(volume, node) => {
                reasons.push("node(s) didn't match PersistentVolume's node affinity".to_owned());
            }
            Some(_) => continue,
        }
        break;
    }
    let mut waiting: Vec<&Value> = Vec::new();
    for claim in claims.into_iter().filter(|claim| !is_bound(claim)) {
        if !waiting.contains(&claim) {
            waiting.push(claim);
        }
    }
    waiting.sort_by_key(|claim| size(claim));
    reasons.extend(no_volumes(cluster, &waiting, node).map(str::to_owned));
    if missing {
        let words = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
        reasons.push(words.to_owned());
    }
    reasons
}

/// The node that was chosen for a claim before.
fn selected(claim: &Value) -> Option<&str> {
    claim["metadata"]["annotations"].get(SELECTED).map(words)
}

/// Why these claims do not get volumes on a node.
fn no_volumes(cluster: &Cluster, waiting: &[&Value], node: &Value) -> Option<&'static str> {
    const NONE: &str = "node(s) didn't find available persistent volumes to bind";
    let here = words(&node["metadata"]["name"]);
    let elsewhere = |claim: &&Value| selected(claim).is_some_and(|selected| selected != here);
    if waiting.iter().any(elsewhere) {
        return Some(NONE);
    }
    let (mut taken, mut to_make) = (Vec::new(), Vec::new());
    for claim in waiting {
        let found = match selected(claim) {
            Some(_) => None,
            None => volume_for(cluster, claim, node, &taken),
        };
        match found {
            Some(volume) => taken.push(words(&volume["metadata"]["name"])),
            None => to_make.push(*claim),
        }
    }
    for claim in to_make {
        if !can_be_made(cluster, claim, node) {
            return Some(NONE);
        }
        if !has_room(cluster, claim, node) {
            return Some("node(s) did not have enough free storage");
        }
    }
    None
}

/// Whether who makes the volume has room for it, or does not say.
fn has_room(cluster: &Cluster, claim: &Value, node: &Value) -> bool {
    let class = class_of(claim);
    let maker = words(&find(&cluster.classes, class).unwrap()["provisioner"]);
    let driver = find(&cluster.drivers, maker);
    let tells = driver.is_some_and(|driver| driver["spec"]["storageCapacity"] == true);
    let suffices = |capacity: &Value| {
        let largest = match capacity.get("maximumVolumeSize") {
            Some(_) => amount(capacity, "maximumVolumeSize"),
            None => amount(capacity, "capacity"),
        };
        capacity["storageClassName"] == class
            && largest >= size(claim)
            && selects(&capacity["nodeTopology"], node)
    };
    !tells || cluster.capacities.iter().any(suffices)
}

fn volume_for<'a>(
    cluster: &'a Cluster,
    claim: &Value,
    node: &Value,
    taken: &[&str],
) -> Option<&'a Value> {
    let suits = |volume: &&Value| {
        class_of(volume) == class_of(claim)
            && size(volume) >= size(claim)
            && volume["spec"]["volumeMode"] == claim["spec"]["volumeMode"]
            && volume["spec"]["volumeAttributesClassName"]
                == claim["spec"]["volumeAttributesClassName"]
            && volume["metadata"]["deletionTimestamp"].is_null()
    };
    let suiting: Vec<&Value> = cluster.volumes.iter().filter(suits).collect();
    if let Some(promised) = suiting.iter().find(|volume| belongs(volume, claim)) {
        return reaches(promised, node).then_some(promised);
    }
    let mut best: Option<&Value> = None;
    for volume in suiting {
        let modes = list(&volume["spec"]["accessModes"]);
        let selector = &claim["spec"]["selector"];
        let free = volume["spec"]["claimRef"].is_null()
            && (selector.is_null() || selects(selector, volume))
            && volume["status"]["phase"] == "Available"
            && !taken.contains(&words(&volume["metadata"]["name"]));
        let able = list(&claim["spec"]["accessModes"])
            .iter()
            .all(|mode| modes.contains(mode));
        if free && able && reaches(volume, node) && best.is_none_or(|b| size(volume) < size(b)) {
            best = Some(volume);
        }
    }
    best
}

fn can_be_made(cluster: &Cluster, claim: &Value, node: &Value) -> bool {
    let class = find(&cluster.classes, class_of(claim)).unwrap();
    let terms = list(&class["allowedTopologies"]);
    let allowed = terms.is_empty()
        || terms.iter().any(|term| {
            list(&term["matchLabelExpressions"])
                .iter()
                .all(|requirement| {
                    let value = label(node, words(&requirement["key"]));
                    list(&requirement["values"])
                        .iter()
                        .any(|v| v.as_str() == value)
                })
        });
    class["provisioner"] != "kubernetes.io/no-provisioner" && allowed
}

pub(super) fn zone(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let mut wrong = false;
    for name in claim_names(pod) {
        let Some(claim) = find(&cluster.claims, name) else {
            return refuse(true, &format!("persistentvolumeclaim \"{name}\" not found"));
        };
        let volume = words(&claim["spec"]["volumeName"]);
        if volume.is_empty() {
            match find(&cluster.classes, class_of(claim)) {
                Some(class) if class["volumeBindingMode"] == "WaitForFirstConsumer" => continue,
                Some(_) => return refuse(true, "PersistentVolume had no name"),
                None => {
                    let words = "PersistentVolumeClaim had no pv name and storageClass name";
                    return refuse(true, words);
                }
            }
        }
        let Some(volume) = find(&cluster.volumes, volume) else {
            return refuse(true, &format!("persistentvolume \"{volume}\" not found"));
        };
        if let (Some(wanted), Some(zone)) = (label(volume, ZONE), label(node, ZONE)) {
            wrong |= !wanted.split("__").any(|wanted| wanted == zone);
        }
    }
    refuse(wrong, "node(s) had no available volume zone")
}

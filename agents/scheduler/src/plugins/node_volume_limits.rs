//! NodeVolumeLimits: a node holds only as many volumes of a driver as the driver says in its CSINode.

use super::{Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, VolumeChange};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::volume::Volumes;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const FILTER: Filter = Filter {
    name: "NodeVolumeLimits",
    reads: Reads::Claims,
    prepare,
    hears: &[
        (ChangeKind::PodGone, Near::Anywhere),
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::VolumeClaim, Near::Claim),
        (ChangeKind::CsiNode, Near::Anywhere),
        (ChangeKind::Detached, Near::Anywhere),
    ],
    wakes_on,
};

/// A volume by its driver and handle. One that is not made yet stands by its claim.
type Unique = (String, String);

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    let volumes = &*snapshot.volumes;
    // No driver has a limit anywhere: the common case costs nothing.
    if volumes
        .csi_nodes
        .values()
        .all(|node| node.limits.is_empty())
    {
        return Prepared::Pass;
    }
    let wanted: BTreeSet<Unique> = csi_volumes(pod, volumes).collect();
    if wanted.is_empty() {
        return Prepared::Pass;
    }
    Prepared::Each(Box::new(move |info: &NodeInfo| {
        check(&wanted, volumes, info)
    }))
}

fn check(wanted: &BTreeSet<Unique>, volumes: &Volumes, info: &NodeInfo) -> Result<(), Rejection> {
    let Some(csi) = volumes.csi_nodes.get(info.name()) else {
        return Ok(());
    };
    if csi.limits.is_empty() {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    for pod in info.pods.values() {
        there.extend(csi_volumes(pod, volumes));
    }
    for attachment in volumes.attached_to(info.name()) {
        let volume = volumes.volume(&attachment.volume);
        there.extend(volume.and_then(|volume| volume.csi.clone()));
    }
    let mut counts: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (driver, _) in &there {
        counts.entry(driver).or_default().0 += 1;
    }
    for (driver, _) in wanted.difference(&there) {
        counts.entry(driver).or_default().1 += 1;
    }
    let too_many = |(driver, (there, more)): (&&str, &(i64, i64))| {
        let limit = csi.limits.get(*driver);
        *more > 0 && limit.is_some_and(|limit| there + more > *limit)
    };
    match counts.iter().any(too_many) {
        true => Err(Rejection::resolvable("node(s) exceed max volume count")),
        false => Ok(()),
    }
}

/// The volumes of the pod that a driver attaches. What cannot be looked up cannot be counted; a claim that is missing
/// is VolumeBinding's business.
fn csi_volumes<'a>(pod: &'a Pod, volumes: &'a Volumes) -> impl Iterator<Item = Unique> + 'a {
    let claims = pod.claims();
    claims.filter_map(move |name| csi_volume(pod, name, volumes))
}

fn csi_volume(pod: &Pod, name: &str, volumes: &Volumes) -> Option<Unique> {
    let claim = volumes.claim(&pod.namespace, name)?;
    if let Some(volume) = volumes.volume(&claim.volume_name) {
        return volume.csi.clone();
    }
    // Not made yet, or just gone: its class tells which driver will have it.
    let class = volumes.classes.get(&claim.class)?;
    let by_claim = format!("{}/{name}", pod.namespace);
    Some((class.provisioner.clone(), by_claim)).filter(|_| class.provisions())
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::PodGone(gone) => gone.claims().next().is_some(),
        // What its drivers say may be known before the node is, and is then no news any more.
        Change::NodeAdded(_) => pod.claims().next().is_some(),
        Change::Volumes(change) => match change {
            VolumeChange::Claim {
                namespace,
                name,
                new,
            } => *new && *namespace == pod.namespace && pod.claims().any(|claim| claim == name),
            VolumeChange::CsiNode { old, new } => old.as_ref().is_none_or(|old| {
                let raised = |(driver, limit): (&String, &i64)| {
                    old.limits.get(driver).is_some_and(|before| limit > before)
                };
                new.limits.iter().any(raised)
                    || old
                        .limits
                        .keys()
                        .any(|driver| !new.limits.contains_key(driver))
            }),
            VolumeChange::Detached { .. } => pod.claims().next().is_some(),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, node, pod, snapshot, verdict};
    use super::*;
    use crate::volume::testing::{bound_claim, claim, class, using, volume, volumes};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn csi(name: &str) -> Value {
        let mut volume = volume(name, "", "1Gi", &[]);
        volume["spec"]["csi"] =
            json!({"driver": "disks", "volumeHandle": format!("handle-{name}")});
        volume
    }

    fn objects() -> Vec<Value> {
        let limit = json!({"name": "disks", "allocatable": {"count": 2}});
        let mut objects = vec![
            json!({"kind": "CSINode", "metadata": {"name": "a"}, "spec": {"drivers": [limit, {"name": "other"}]}}),
            class("w", "disks", "WaitForFirstConsumer"),
            claim("new", "w", "1Gi"),
        ];
        for name in ["1", "2", "3"] {
            objects.push(bound_claim(&format!("p{name}"), &format!("v{name}")));
            objects.push(csi(&format!("v{name}")));
        }
        objects
    }

    fn on_a(name: &str, claims: &[&str]) -> Pod {
        let mut spec = using(claims);
        spec["nodeName"] = json!("a");
        labelled_pod(name, json!({}), spec)
    }

    fn cluster(there: Vec<Pod>, objects: &[Value]) -> Snapshot {
        let bare = |name: &str| node(name, json!({}), json!({}));
        let mut cluster = snapshot(vec![bare("a"), bare("b")], there);
        cluster.volumes = Arc::new(volumes(objects));
        cluster
    }

    #[test]
    fn a_node_takes_no_more_volumes_than_its_driver_says() {
        let full = Some("node(s) exceed max volume count".to_string());
        let cluster = cluster(vec![on_a("x", &["p1"]), on_a("y", &["p1"])], &objects());
        let on =
            |claims: &[&str], name: &str| verdict(&FILTER, &pod(using(claims)), &cluster, name);
        assert_eq!(on(&["p2"], "a"), None);
        assert_eq!(on(&["p2", "p3"], "a"), full, "three of two");
        assert_eq!(
            on(&["p1", "p2"], "a"),
            None,
            "what is there already is not counted twice"
        );
        assert_eq!(
            on(&["p2", "new"], "a"),
            full,
            "one that will be made counts"
        );
        assert_eq!(on(&["p2", "p3"], "b"), None, "no driver, no limit");
    }

    #[test]
    fn what_is_still_attached_counts_although_its_pod_is_gone() {
        let mut objects = objects();
        for name in ["1", "2"] {
            objects.push(json!({"kind": "VolumeAttachment", "metadata": {"name": name},
                "spec": {"nodeName": "a", "attacher": "disks", "source": {"persistentVolumeName": format!("v{name}")}}}));
        }
        let cluster = cluster(vec![], &objects);
        assert!(verdict(&FILTER, &pod(using(&["p3"])), &cluster, "a").is_some());
        assert_eq!(verdict(&FILTER, &pod(using(&["p2"])), &cluster, "a"), None);
    }

    #[test]
    fn a_new_node_may_have_room_for_volumes() {
        let come = Change::NodeAdded(Arc::new(node("c", json!({}), json!({}))));
        let wakes = |pod: Pod| wakes_on(&pod, &come, &Args::default());
        assert!(wakes(pod(using(&["p1"]))) && !wakes(pod(json!({}))));
    }
}

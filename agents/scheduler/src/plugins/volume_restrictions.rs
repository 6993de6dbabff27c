//! VolumeRestrictions: disks of the old kinds are not shared on a node, and a claim that is for one pod
//! (`ReadWriteOncePod`) is in use by one pod in the whole cluster.

use super::{Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, VolumeChange};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::volume::bind::{Hopeless, not_found};
use crate::volume::object::{Disk, PodVolume};

pub(super) const FILTER: Filter = Filter {
    name: "VolumeRestrictions",
    reads: Reads::Claims,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::PodGone, Near::Anywhere),
        (ChangeKind::VolumeClaim, Near::Claim),
    ],
    wakes_on,
};

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    let disks: Vec<&Disk> = disks(pod).collect();
    let exclusive = match exclusive_claims(pod, snapshot) {
        Ok(exclusive) => exclusive,
        Err(hopeless) => return Prepared::RejectAll(Rejection::hopeless(hopeless)),
    };
    let used = |other: &Pod| {
        other.namespace == pod.namespace
            && other.named_claims().any(|claim| exclusive.contains(&claim))
    };
    // Whoever uses the claim, and wherever: no node will do until that pod has left.
    let in_use = !exclusive.is_empty()
        && snapshot
            .nodes()
            .any(|info| info.pods.values().any(|other| used(other)));
    if disks.is_empty() && !in_use {
        return Prepared::Pass;
    }
    Prepared::Each(Box::new(move |info: &NodeInfo| {
        let conflicts = |other: &Pod| {
            let taken = |disk: &Disk| disks.iter().any(|wanted| wanted.conflicts(disk));
            self::disks(other).any(taken)
        };
        if !disks.is_empty() && info.pods.values().any(|other| conflicts(other)) {
            return Err(Rejection::resolvable("node(s) had no available disk"));
        }
        if in_use {
            return Err(Rejection::resolvable(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ));
        }
        Ok(())
    }))
}

fn disks(pod: &Pod) -> impl Iterator<Item = &Disk> {
    pod.volumes.iter().filter_map(|volume| match volume {
        PodVolume::Disk(disk) => Some(disk),
        PodVolume::Claim(_) | PodVolume::Ephemeral(_) => None,
    })
}

/// The claims of the pod that are for one pod only.
fn exclusive_claims<'a>(pod: &'a Pod, snapshot: &Snapshot) -> Result<Vec<&'a str>, Hopeless> {
    let mut exclusive = Vec::new();
    for name in pod.named_claims() {
        let claim = snapshot.volumes.claim(&pod.namespace, name);
        let claim = claim.ok_or_else(|| not_found(name))?;
        if claim.modes.contains("ReadWriteOncePod") {
            exclusive.push(name);
        }
    }
    Ok(exclusive)
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::NodeAdded(_) => true,
        Change::PodGone(gone) => {
            let disk = |disk: &Disk| disks(gone).any(|other| disk.conflicts(other));
            let shared = |claim: &str| gone.named_claims().any(|other| other == claim);
            disks(pod).any(disk)
                || gone.namespace == pod.namespace && pod.named_claims().any(shared)
        }
        Change::Volumes(VolumeChange::Claim {
            namespace,
            name,
            new,
        }) => *new && *namespace == pod.namespace && pod.named_claims().any(|claim| claim == name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, node, pod, snapshot, verdict};
    use super::*;
    use crate::volume::testing::{bound_claim, using, volumes};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn nodes() -> Vec<crate::object::Node> {
        let bare = |name: &str| node(name, json!({}), json!({}));
        vec![bare("a"), bare("b")]
    }

    fn with_disk(disk: &Value) -> Value {
        json!({"nodeName": "a", "volumes": [disk]})
    }

    #[test]
    fn disks_are_shared_as_their_kind_allows() {
        let gce = |name: &str, read_only: bool| json!({"gcePersistentDisk": {"pdName": name, "readOnly": read_only}});
        let ebs = |id: &str| json!({"awsElasticBlockStore": {"volumeID": id, "readOnly": true}});
        let iscsi =
            |iqn: &str, read_only: bool| json!({"iscsi": {"iqn": iqn, "readOnly": read_only}});
        let rbd = |monitors: Value, image: &str, read_only: bool| json!({"rbd": {"monitors": monitors, "pool": "p", "image": image, "readOnly": read_only}});
        let table = [
            (gce("x", false), gce("x", true), true),
            (gce("x", true), gce("x", true), false),
            (gce("x", false), gce("y", false), false),
            (ebs("x"), ebs("x"), true),
            (ebs("x"), ebs("y"), false),
            (iscsi("x", false), iscsi("x", false), true),
            (iscsi("x", true), iscsi("x", true), false),
            (
                rbd(json!(["a", "b"]), "i", false),
                rbd(json!(["b", "c"]), "i", true),
                true,
            ),
            (
                rbd(json!(["a"]), "i", false),
                rbd(json!(["c"]), "i", false),
                false,
            ),
            (
                rbd(json!(["a"]), "i", true),
                rbd(json!(["a"]), "i", true),
                false,
            ),
            (
                rbd(json!(["a"]), "i", false),
                rbd(json!(["a"]), "j", false),
                false,
            ),
            (gce("x", false), ebs("x"), false),
        ];
        for (wanted, taken, refused) in table {
            let there = labelled_pod("there", json!({}), with_disk(&taken));
            let cluster = snapshot(nodes(), vec![there]);
            let pod = pod(json!({"volumes": [wanted]}));
            let got = verdict(&FILTER, &pod, &cluster, "a");
            let expected = refused.then(|| "node(s) had no available disk".to_string());
            assert_eq!(got, expected, "{:?} {taken}", pod.volumes);
            assert_eq!(verdict(&FILTER, &pod, &cluster, "b"), None);
        }
    }

    #[test]
    fn a_claim_for_one_pod_is_not_given_to_a_second_anywhere() {
        let mut for_one = bound_claim("p", "v");
        for_one["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
        let mut spec = using(&["p"]);
        spec["nodeName"] = json!("a");
        let there = labelled_pod("there", json!({}), spec.clone());
        let mut cluster = snapshot(nodes(), vec![there.clone()]);
        cluster.volumes = Arc::new(volumes(&[for_one, bound_claim("q", "w")]));
        let refused = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        let second = pod(using(&["p"]));
        for name in ["a", "b"] {
            assert_eq!(verdict(&FILTER, &second, &cluster, name).unwrap(), refused);
        }
        assert_eq!(verdict(&FILTER, &pod(using(&["q"])), &cluster, "a"), None);
        assert_eq!(
            verdict(&FILTER, &pod(using(&["none"])), &cluster, "a").unwrap(),
            "persistentvolumeclaim \"none\" not found"
        );
        assert!(wakes_on(
            &second,
            &Change::PodGone(Arc::new(there)),
            &Args::default()
        ));
        cluster.remove_pod("there");
        assert_eq!(verdict(&FILTER, &second, &cluster, "b"), None);
    }
}

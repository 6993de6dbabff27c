//! VolumeZone: a volume that says by its labels in which zone or region it is keeps the pod there.

use super::{Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, VolumeChange};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::volume::bind::{Hopeless, mode_not_set, not_found};
use crate::volume::object::{Volume, current_label, has_topology};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const FILTER: Filter = Filter {
    name: "VolumeZone",
    reads: Reads::Claims,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
        (ChangeKind::VolumeClaim, Near::Claim),
        (ChangeKind::Volume, Near::Anywhere),
        (ChangeKind::StorageClass, Near::Anywhere),
    ],
    wakes_on,
};

type Topology<'a> = Vec<(&'static str, BTreeSet<&'a str>)>;

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    let topology = match topology(pod, snapshot) {
        Err(hopeless) => return Prepared::RejectAll(Rejection::hopeless(hopeless)),
        Ok(topology) if topology.is_empty() => return Prepared::Pass,
        Ok(topology) => topology,
    };
    Prepared::Each(Box::new(move |info: &NodeInfo| {
        let labels = match &info.node {
            // One zone for all: nodes need not say so.
            Some(node) if has_topology(&node.labels) => &node.labels,
            _ => return Ok(()),
        };
        let holds = |(label, values): &(&'static str, BTreeSet<&str>)| {
            let value = labels
                .get(*label)
                .or_else(|| labels.get(current_label(label)));
            value.is_some_and(|value| values.contains(value.as_str()))
        };
        match topology.iter().all(holds) {
            true => Ok(()),
            false => Err(Rejection::lasting("node(s) had no available volume zone")),
        }
    }))
}

/// What the volumes of the pod's bound claims demand.
fn topology<'a>(pod: &Pod, snapshot: &'a Snapshot) -> Result<Topology<'a>, Hopeless> {
    let volumes = &snapshot.volumes;
    let mut topology = Vec::new();
    for name in pod.named_claims() {
        if name.is_empty() {
            return Err(Hopeless("PersistentVolumeClaim had no name".into()));
        }
        let claim = volumes
            .claim(&pod.namespace, name)
            .ok_or_else(|| not_found(name))?;
        if claim.volume_name.is_empty() {
            if claim.class.is_empty() {
                let words = "PersistentVolumeClaim had no pv name and storageClass name";
                return Err(Hopeless(words.into()));
            }
            let class = volumes.classes.get(&claim.class).ok_or_else(|| {
                Hopeless(format!(
                    "storageclass.storage.k8s.io {:?} not found",
                    claim.class
                ))
            })?;
            match class.waits {
                Some(true) => continue,
                Some(false) => return Err(Hopeless("PersistentVolume had no name".into())),
                None => return Err(mode_not_set(&class.name)),
            }
        }
        let volume: &Arc<Volume> = volumes.volume(&claim.volume_name).ok_or_else(|| {
            Hopeless(format!(
                "persistentvolume {:?} not found",
                claim.volume_name
            ))
        })?;
        topology.extend(volume.topology());
    }
    Ok(topology)
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::NodeAdded(_) => true,
        Change::NodeUpdated { .. } => change.node_part_changed(|node| &node.labels),
        Change::Volumes(change) => match change {
            VolumeChange::Claim {
                namespace, name, ..
            } => *namespace == pod.namespace && pod.named_claims().any(|claim| claim == name),
            VolumeChange::Volume { old, new } => old
                .as_ref()
                .is_none_or(|old| old.topology() != new.topology()),
            VolumeChange::Class { old, new } => old.is_none() && new.waits == Some(true),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, snapshot, verdict};
    use super::*;
    use crate::volume::testing::{bound_claim, using, volume, volumes};
    use serde_json::{Value, json};

    fn verdicts(labels: Value) -> [Option<String>; 3] {
        let mut volume = volume("v", "", "1Gi", &[]);
        volume["metadata"]["labels"] = labels;
        let zoned = |name: &str, zone: &str| {
            node(
                name,
                json!({"topology.kubernetes.io/zone": zone}),
                json!({}),
            )
        };
        let bare = node("bare", json!({}), json!({}));
        let mut cluster = snapshot(vec![zoned("a", "a"), zoned("b", "b"), bare], vec![]);
        cluster.volumes = Arc::new(volumes(&[bound_claim("p", "v"), volume]));
        let pod = pod(using(&["p"]));
        ["a", "b", "bare"].map(|name| verdict(&FILTER, &pod, &cluster, name))
    }

    #[test]
    fn zones_must_agree_where_nodes_have_any() {
        let refused = Some("node(s) had no available volume zone".to_string());
        assert_eq!(
            verdicts(json!({"topology.kubernetes.io/zone": "a"})),
            [None, refused.clone(), None]
        );
        assert_eq!(
            verdicts(json!({"topology.kubernetes.io/zone": "a__b"})),
            [None, None, None]
        );
        // An outdated label of the volume is compared with the current one of the node.
        assert_eq!(
            verdicts(json!({"failure-domain.beta.kubernetes.io/zone": "b"})),
            [refused.clone(), None, None]
        );
        assert_eq!(
            verdicts(json!({"topology.kubernetes.io/region": "r"})),
            [refused.clone(), refused, None]
        );
        // What does not parse is as good as nothing.
        assert_eq!(
            verdicts(json!({"topology.kubernetes.io/zone": "a__"})),
            [None, None, None]
        );
    }
}

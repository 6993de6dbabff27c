//! VolumeBinding: the pod goes where its claims have their volumes, or can get them. The matching is in
//! [`crate::volume::bind`]; what it decides is written before the pod is bound.

use super::{Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, VolumeChange};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::volume::bind::Claims;

pub(super) const FILTER: Filter = Filter {
    name: "VolumeBinding",
    reads: Reads::Claims,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
        (ChangeKind::VolumeClaim, Near::Claim),
        (ChangeKind::Volume, Near::Anywhere),
        (ChangeKind::StorageClass, Near::Anywhere),
        (ChangeKind::CsiNode, Near::Anywhere),
        (ChangeKind::DriverStopsTelling, Near::Anywhere),
        (ChangeKind::MoreRoom, Near::Anywhere),
    ],
    wakes_on,
};

fn prepare<'a>(pod: &'a Pod, snapshot: &'a Snapshot, _: &'a Args) -> Prepared<'a> {
    let claims = match Claims::of(pod, &snapshot.volumes) {
        Err(hopeless) => return Prepared::RejectAll(Rejection::hopeless(hopeless)),
        Ok(None) => return Prepared::Pass,
        Ok(Some(claims)) => claims,
    };
    Prepared::Each(Box::new(move |info: &NodeInfo| {
        let Some(node) = &info.node else {
            return Ok(());
        };
        let plan = claims.plan(&node.name, &node.labels);
        plan.map(drop).map_err(|reasons| Rejection {
            reasons: reasons.into_iter().map(Into::into).collect(),
            resolvable: false,
        })
    }))
}

fn wakes_on(pod: &Pod, change: &Change, _: &Args) -> bool {
    match change {
        Change::NodeAdded(_) => true,
        Change::NodeUpdated { .. } => change.node_part_changed(|node| &node.labels),
        Change::Volumes(change) => match change {
            VolumeChange::Claim {
                namespace, name, ..
            } => *namespace == pod.namespace && pod.claims().any(|claim| claim == name),
            VolumeChange::Volume { .. } => true,
            VolumeChange::Class { old, new } => {
                let topologies =
                    |old: &crate::volume::object::Class| old.topologies != new.topologies;
                old.as_ref().is_none_or(|old| topologies(old))
            }
            VolumeChange::CsiNode { old, new } => {
                let migrated = |old: &crate::volume::object::CsiNode| old.migrated != new.migrated;
                old.as_ref().is_none_or(|old| migrated(old))
            }
            VolumeChange::DriverStopsTelling => true,
            VolumeChange::MoreRoom => true,
            VolumeChange::Detached { .. } => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, snapshot, verdict};
    use super::*;
    use crate::config::Profile;
    use crate::schedule::{Decision, schedule};
    use crate::volume::testing::{bound_claim, claim, class, using, volume, volumes};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn cluster(objects: &[Value]) -> Snapshot {
        let host = |name: &str| node(name, json!({"host": name}), json!({}));
        let mut cluster = snapshot(vec![host("a"), host("b")], vec![]);
        cluster.volumes = Arc::new(volumes(objects));
        cluster
    }

    fn message(spec: Value, cluster: &Snapshot) -> String {
        match schedule(&pod(spec), cluster, &Profile::default(), 0, &mut |_| 0) {
            Decision::Unschedulable(diagnosis) => diagnosis.message(None),
            bound => panic!("{bound:?}"),
        }
    }

    #[test]
    fn the_pod_follows_its_volume() {
        let cluster = cluster(&[bound_claim("p", "v"), volume("v", "", "1Gi", &["b"])]);
        let pod = pod(using(&["p"]));
        assert_eq!(verdict(&FILTER, &pod, &cluster, "b"), None);
        assert_eq!(
            verdict(&FILTER, &pod, &cluster, "a").unwrap(),
            "node(s) didn't match PersistentVolume's node affinity"
        );
    }

    #[test]
    fn messages_are_those_of_kubernetes() {
        assert_eq!(
            message(using(&["p"]), &cluster(&[])),
            "0/2 nodes are available: persistentvolumeclaim \"p\" not found."
        );
        assert_eq!(
            message(using(&["p"]), &cluster(&[claim("p", "", "1Gi")])),
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        );
        let waiting = class("w", "kubernetes.io/no-provisioner", "WaitForFirstConsumer");
        assert_eq!(
            message(using(&["p"]), &cluster(&[claim("p", "w", "1Gi"), waiting])),
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
        );
        let elsewhere = [bound_claim("p", "v"), volume("v", "", "1Gi", &["c"])];
        assert_eq!(
            message(using(&["p"]), &cluster(&elsewhere)),
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."
        );
    }

    #[test]
    fn only_its_own_claims_wake_a_pod() {
        let pod = pod(using(&["p"]));
        let wakes = |namespace: &str, name: &str| {
            let change = VolumeChange::Claim {
                namespace: namespace.into(),
                name: name.into(),
                new: true,
            };
            wakes_on(&pod, &Change::Volumes(change), &Args::default())
        };
        assert!(wakes("default", "p"));
        assert!(!wakes("default", "q") && !wakes("other", "p"));
    }
}

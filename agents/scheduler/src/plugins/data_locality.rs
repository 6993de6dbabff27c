//! DataLocality: prefers the nodes that have most of the bytes that the pod needs: its images, and the volumes of its claims
//! that are there already. Of no say for pods that need next to nothing.
//!
//! A volume *is* on a node when it can be reached from some nodes only, and this is one of them (as volumes on the disks of
//! nodes), when it is attached there, or when another pod there uses the same claim. A claim that waits for a volume is
//! where a node was selected for it. ImageLocality scales images down by how few nodes have them, so that a popular one does
//! not pull everything onto one node; this one does not, since for data that is what is wanted.

use super::{Args, SCORE_MAX, Score, Scores, Values};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::volume::Volumes;
use crate::volume::object::{Claim, Volume};
use host::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const SCORE: Score = Score {
    name: "DataLocality",
    weight: 1,
    values: Values::Anything,
    score,
};

/// Below so many bytes there is nothing to gain.
const SMALLEST: i64 = 23 * 1024 * 1024;

fn score(pod: &Pod, snapshot: &Snapshot, _: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    // A claim that several volumes of the pod name is the same data.
    let names: BTreeSet<&str> = pod.claims().collect();
    let claims: Vec<Data<'_>> = names
        .into_iter()
        .filter_map(|name| Data::of(pod, name, &snapshot.volumes))
        .collect();
    let images = image_sizes(pod, nodes);
    let of_images = images.values().copied().fold(0, i64::saturating_add);
    let of_claims = claims.iter().map(|data| data.size);
    let needed = of_claims.fold(of_images, i64::saturating_add);
    if needed < SMALLEST {
        return None;
    }
    let here = |info: &&NodeInfo| {
        let of_images = images.keys().filter_map(|image| image_size(info, image));
        let held = claims
            .iter()
            .filter(|data| data.is_on(info, pod, &snapshot.volumes));
        let sum = of_images.chain(held.map(|data| data.size));
        sum.fold(0, i64::saturating_add)
    };
    let raw: Vec<i64> = nodes.iter().map(here).collect();
    let percent = |bytes: &i64| {
        let part = i128::from(*bytes) * i128::from(SCORE_MAX) / i128::from(needed);
        (part as i64).clamp(0, SCORE_MAX)
    };
    let normalized = raw.iter().map(percent).collect();
    Some(Scores { raw, normalized })
}

/// The size of each image of the pod that any of the nodes has; the largest, where they tell different ones.
fn image_sizes<'a>(pod: &'a Pod, nodes: &[&NodeInfo]) -> HashMap<&'a str, i64> {
    let mut sizes = HashMap::default();
    for image in &pod.images {
        let size = nodes
            .iter()
            .filter_map(|info| image_size(info, image))
            .max();
        if let Some(size) = size {
            sizes.insert(image.as_str(), size);
        }
    }
    sizes
}

fn image_size(info: &NodeInfo, image: &str) -> Option<i64> {
    let size = info.node.as_ref()?.images.get(image)?;
    Some((*size).max(0))
}

/// The data behind one claim.
struct Data<'a> {
    claim: &'a Arc<Claim>,
    volume: Option<&'a Arc<Volume>>,
    size: i64,
}

impl<'a> Data<'a> {
    fn of(pod: &Pod, name: &str, volumes: &'a Volumes) -> Option<Data<'a>> {
        let claim = volumes.claim(&pod.namespace, name)?;
        let volume = volumes.volume(&claim.volume_name);
        let size = volume.map(|volume| volume.capacity).or(claim.request)?;
        (size > 0).then_some(Data {
            claim,
            volume,
            size,
        })
    }

    fn is_on(&self, info: &NodeInfo, pod: &Pod, volumes: &Volumes) -> bool {
        let Some(node) = &info.node else { return false };
        let Some(volume) = self.volume else {
            return self.claim.selected_node.as_deref() == Some(&node.name);
        };
        volume.has_places() && volume.reachable_from(&node.labels)
            || volumes
                .attached_to(&node.name)
                .any(|attachment| attachment.volume == volume.name)
            || info.pods.values().any(|other| {
                other.uid != pod.uid
                    && other.namespace == pod.namespace
                    && other.claims().any(|name| name == self.claim.name)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{labelled_pod, pod, scores, snapshot};
    use super::*;
    use crate::config::{Config, Profile};
    use crate::object::Node;
    use crate::schedule::{from_scratch, schedule};
    use crate::volume::testing::{bound_claim, claim, using, volume, volumes};
    use serde_json::{Value, json};

    const MEBIBYTE: i64 = 1024 * 1024;

    /// Nodes `a` and `b`, each with a label `host` and these images.
    fn cluster(images: [Value; 2], of_volumes: &[Value], there: Vec<Pod>) -> Snapshot {
        let nodes = ["a", "b"].iter().zip(images).map(|(name, images)| {
            Node::compile(&json!({"metadata": {"name": name, "labels": {"host": name}},
                "status": {"images": images, "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}}))
        });
        let mut cluster = snapshot(nodes.collect(), there);
        cluster.volumes = Arc::new(volumes(of_volumes));
        cluster
    }

    fn image(name: &str, mebibytes: i64) -> Value {
        json!({"names": [name], "sizeBytes": mebibytes * MEBIBYTE})
    }

    #[test]
    fn a_volume_counts_where_it_is_by_its_size() {
        let none = || [json!([]), json!([])];
        let local = |size: &str| volume("v", "", size, &["a"]);
        let shared = || volume("v", "", "1Gi", &[]);
        let attachment = json!({"kind": "VolumeAttachment", "metadata": {"name": "x"}, "spec": {"nodeName": "b",
            "attacher": "d", "source": {"persistentVolumeName": "v"}}});
        let mut selected = claim("c", "", "1Gi");
        selected["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "b"});
        let mut user = labelled_pod("user", json!({}), using(&["c"]));
        user.node_name = "b".into();
        let mut stranger = user.clone();
        stranger.namespace = "other".into();
        let bound = || bound_claim("c", "v");
        let table = [
            (vec![local("1Gi"), bound()], vec![], Some([100, 0])),
            (vec![local("1Mi"), bound()], vec![], None),
            (vec![shared(), bound()], vec![], Some([0, 0])),
            (vec![shared(), bound(), attachment], vec![], Some([0, 100])),
            (vec![shared(), bound()], vec![user], Some([0, 100])),
            (vec![shared(), bound()], vec![stranger], Some([0, 0])),
            (vec![selected], vec![], Some([0, 100])),
            (vec![], vec![], None),
        ];
        for (at, (objects, there, expected)) in table.into_iter().enumerate() {
            let cluster = cluster(none(), &objects, there);
            let found = scores(&SCORE, &pod(using(&["c"])), &cluster);
            assert_eq!(found, expected.map(Vec::from), "case {at}");
        }
    }

    #[test]
    fn images_and_volumes_are_added_up() {
        let objects = [volume("v", "", "300Mi", &["a"]), bound_claim("c", "v")];
        let images = [json!([]), json!([image("app:1", 700)])];
        let cluster = cluster(images, &objects, vec![]);
        let mut spec = using(&["c"]);
        spec["containers"] = json!([{"image": "app:1"}, {"image": "nowhere"}]);
        assert_eq!(
            scores(&SCORE, &pod(spec.clone()), &cluster).unwrap(),
            [30, 70]
        );
        let again = json!({"name": "again", "persistentVolumeClaim": {"claimName": "c"}});
        spec["volumes"].as_array_mut().unwrap().push(again);
        assert_eq!(scores(&SCORE, &pod(spec), &cluster).unwrap(), [30, 70]);
    }

    #[test]
    fn a_profile_with_it_decides_the_same_with_and_without_what_is_kept() {
        let config = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- plugins:\n    \
            score: {enabled: [{name: DataLocality, weight: 50}]}\n";
        let config = Config::parse(config).unwrap();
        let profile: &Profile = config.profiles().next().unwrap();
        let images = [json!([]), json!([image("app:1", 700)])];
        let mut cluster = cluster(images, &[], vec![]);
        for at in 0..8 {
            let name = format!("p{at}");
            let pod = labelled_pod(
                &name,
                json!({}),
                json!({"containers": [{"image": "app:1"}]}),
            );
            let kept = schedule(&pod, &cluster, profile, 0, &mut |_| 0);
            assert_eq!(kept, from_scratch(&pod, &cluster, profile, 0, &mut |_| 0));
            assert!(format!("{kept:?}").contains("\"b\""), "{kept:?}");
            cluster.assume(Arc::new(pod), "b");
        }
    }
}

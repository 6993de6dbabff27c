//! ImageLocality: prefers nodes that have the images already, scaled down for images that few nodes have, so that a
//! popular image does not pull everything onto one node.

use super::{Args, SCORE_MAX, Score, Scores, Values};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) const SCORE: Score = Score {
    name: "ImageLocality",
    weight: 1,
    values: Values::Images,
    score,
};

const MEBIBYTE: i64 = 1024 * 1024;
/// Below this sum of sizes there is nothing to gain.
const SMALLEST: i64 = 23 * MEBIBYTE;
/// A container's share of the sum at which more does not count.
const LARGEST_PER_CONTAINER: i64 = 1000 * MEBIBYTE;

fn score(pod: &Pod, snapshot: &Snapshot, _: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let total = snapshot.node_count().max(1) as f64;
    let largest = (LARGEST_PER_CONTAINER * pod.images.len() as i64).max(SMALLEST + 1);
    let value = |info: &&NodeInfo| {
        let size_of = |image: &String| {
            let size = info.node.as_ref()?.images.get(image)?;
            Some((*size as f64 * (snapshot.image_node_count(image) as f64 / total)) as i64)
        };
        let sizes = pod.images.iter().filter_map(size_of);
        let sum: i64 = sizes.fold(0, i64::saturating_add);
        SCORE_MAX * (sum.clamp(SMALLEST, largest) - SMALLEST) / (largest - SMALLEST)
    };
    Some(Scores::plain(nodes.iter().map(value).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{pod, scores, snapshot};
    use super::*;
    use crate::object::Node;
    use serde_json::json;

    #[test]
    fn present_images_count_by_size_and_spread() {
        let with = |name: &str, images: serde_json::Value| {
            Node::compile(&json!({"metadata": {"name": name}, "status": {"images": images}}))
        };
        let image = |name: &str, mebibytes: i64| json!({"names": [name], "sizeBytes": mebibytes * MEBIBYTE});
        let cluster = snapshot(
            vec![
                with("n1", json!([image("app:1", 2000), image("shared:1", 523)])),
                with("n2", json!([image("shared:1", 523)])),
            ],
            vec![],
        );
        let one = |image: &str| pod(json!({"containers": [{"image": image}]}));
        assert_eq!(scores(&SCORE, &one("app:1"), &cluster).unwrap(), [100, 0]);
        assert_eq!(
            scores(&SCORE, &one("shared:1"), &cluster).unwrap(),
            [51, 51]
        );
        assert_eq!(scores(&SCORE, &one("none"), &cluster).unwrap(), [0, 0]);
    }
}

//! Volumes that somebody made by hand out of a directory of a host.

use super::super::*;
use crate::testing::world;

const ASKED: &str = "kontiki.io/local-path-removal-asked: n1u";

/// A volume that is no longer claimed.
fn volume(policy: &str, path: &str, annotations: &str, more: &str) -> String {
    format!(
        "---\nkind: PersistentVolume\nmetadata: {{name: v, uid: vu, resourceVersion: '3', annotations: {{{annotations}}}}}\n\
         spec: {{capacity: {{storage: 1Gi}}, persistentVolumeReclaimPolicy: {policy}, hostPath: {{path: {path}}}, \
         claimRef: {{kind: PersistentVolumeClaim, namespace: a, name: c, uid: cu}}{more}}}\nstatus: {{phase: Released}}\n"
    )
}

fn node(name: &str, annotations: &str) -> String {
    format!(
        "---\nkind: Node\nmetadata: {{name: {name}, uid: {name}u, labels: {{kubernetes.io/hostname: {name}, disk: ssd}}, annotations: {{{annotations}}}}}\n"
    )
}

fn plan(parts: &[&str]) -> Vec<String> {
    let mut lines = reconcile(&Key::new("", "v"), &world(&parts.concat())).lines();
    lines.retain(|line| !line.starts_with("absent"));
    lines
}

fn failure(lines: &[String]) -> &str {
    lines.last().map_or("", String::as_str)
}

#[test]
fn only_what_is_below_tmp_is_reclaimed() {
    let n1 = node("n1", "");
    for (policy, path, wanted) in [
        (
            "Delete",
            "/srv/x",
            "event Warning v VolumeFailedDelete: host_path deleter only supports /tmp/.+ but received provided /srv/x",
        ),
        (
            "Delete",
            "/tmp/../etc",
            "event Warning v VolumeFailedDelete: host_path deleter only supports /tmp/.+ but received provided /tmp/../etc",
        ),
        (
            "Recycle",
            "/tmp",
            "event Warning v VolumeFailedRecycle: host_path recycler only supports /tmp/.+ but received provided /tmp",
        ),
    ] {
        assert_eq!(
            failure(&plan(&[&volume(policy, path, "", ""), &n1])),
            wanted
        );
    }
    let kept = plan(&[&volume("Retain", "/tmp/x", "", ""), &n1]);
    assert!(kept.is_empty(), "{kept:#?}");
}

#[test]
fn the_one_node_that_may_have_it_is_asked_and_then_the_volume_goes() {
    let free = volume("Delete", "/tmp/x", "", "");
    let asked = volume("Delete", "/tmp/x", ASKED, "");
    let listed = r#"kontiki.io/host-path-reclaim: '{"v":{"remove":"/tmp/x"}}'"#;
    let note = "patch persistentvolumes v {\"metadata\":{\"annotations\":{\"kontiki.io/local-path-removal-asked\":\"n1u\"}}}";
    assert_eq!(
        plan(&[&free, &node("n1", "")]),
        [
            r#"patch nodes n1 {"metadata":{"annotations":{"kontiki.io/host-path-reclaim":"{\"v\":{\"remove\":\"/tmp/x\"}}"}}}"#,
            note
        ]
    );
    assert_eq!(
        plan(&[&free, &node("n1", listed)]),
        [note],
        "cut off between the two"
    );
    assert!(
        plan(&[&asked, &node("n1", listed)]).is_empty(),
        "the agent is at it"
    );
    assert_eq!(
        plan(&[&asked, &node("n1", "")]),
        ["delete persistentvolumes v"]
    );
    // Nobody has it any more, or ever had.
    assert_eq!(plan(&[&asked]), ["delete persistentvolumes v"]);
    let simulated = node("n1", "kontiki.io/hollow: 'true'");
    assert_eq!(plan(&[&free, &simulated]), ["delete persistentvolumes v"]);
}

#[test]
fn of_several_nodes_the_affinity_has_to_name_one() {
    let nodes = [node("n1", ""), node("n2", "")].concat();
    let with = |expression: &str| {
        let more = format!(
            ", nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{expression}]}}]}}}}"
        );
        plan(&[&volume("Delete", "/tmp/x", "", &more), &nodes])
    };
    let unclear = "event Warning v VolumeFailedDelete: the directory may be on several nodes: nodeAffinity has to name one";
    assert_eq!(
        failure(&plan(&[&volume("Delete", "/tmp/x", "", ""), &nodes])),
        unclear
    );
    assert_eq!(
        failure(&with("{key: disk, operator: In, values: [ssd]}")),
        unclear
    );
    let one = with("{key: kubernetes.io/hostname, operator: In, values: [n2]}");
    assert!(one[0].starts_with("patch nodes n2"), "{one:#?}");
    let gone = with("{key: kubernetes.io/hostname, operator: In, values: [n3]}");
    assert_eq!(gone, ["delete persistentvolumes v"]);
}

#[test]
fn a_volume_that_is_emptied_can_be_had_again() {
    let taken = format!("{ASKED}, pv.kubernetes.io/bound-by-controller: 'yes'");
    let n1 = node("n1", "");
    let first = plan(&[&volume("Recycle", "/tmp/x", "", ""), &n1]);
    assert!(
        first[0].contains(r#"{\"v\":{\"scrub\":\"/tmp/x\"}}"#),
        "{first:#?}"
    );
    let recycled = "event Normal v VolumeRecycled: Volume recycled";
    assert_eq!(
        plan(&[&volume("Recycle", "/tmp/x", &taken, ""), &n1]),
        [
            "patch persistentvolumes v {\"metadata\":{\"annotations\":{\"kontiki.io/local-path-removal-asked\":null,\"pv.kubernetes.io/bound-by-controller\":null}},\"spec\":{\"claimRef\":null}}",
            recycled
        ]
    );
    let reserved = plan(&[&volume("Recycle", "/tmp/x", ASKED, ""), &n1]);
    assert!(
        reserved[0].contains("\"claimRef\":{\"uid\":null}"),
        "{reserved:#?}"
    );
    let pod = "---\nkind: Pod\nmetadata: {name: p, namespace: a}\nspec: {volumes: [{name: x, persistentVolumeClaim: {claimName: c}}]}\n";
    assert_eq!(
        plan(&[&volume("Recycle", "/tmp/x", "", ""), &n1, pod]),
        [
            "event Normal v VolumeFailedRecycle: Volume is used by pods: a/p",
            "again in 15s"
        ]
    );
}

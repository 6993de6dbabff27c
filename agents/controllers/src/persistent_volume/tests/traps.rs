use super::super::*;
use crate::testing::world;

const CLASSES: &str = "
kind: StorageClass
metadata: {name: waiting}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
kind: StorageClass
metadata: {name: outside}
provisioner: csi.example.com
volumeBindingMode: Immediate
---
kind: StorageClass
metadata: {name: local}
provisioner: kontiki.io/local-path
reclaimPolicy: Delete
allowVolumeExpansion: true
volumeBindingMode: WaitForFirstConsumer
---
kind: Node
metadata: {name: n1, uid: nu, labels: {kubernetes.io/hostname: host1}, annotations: {kontiki.io/local-path: /data/local}}
";

/// A claim for 5Gi of class `slow`, with more metadata, spec and status.
fn claim(meta: &str, spec: &str, status: &str) -> String {
    format!(
        "---\nkind: PersistentVolumeClaim\nmetadata: {{name: c, namespace: a, uid: cu, resourceVersion: '7'{meta}}}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 5Gi}}}}, {spec}}}\nstatus: {{{status}}}\n"
    )
}

fn volume(name: &str, size: &str, more: &str, status: &str) -> String {
    format!(
        "---\nkind: PersistentVolume\nmetadata: {{name: {name}, uid: {name}-u, resourceVersion: '3', labels: {{disk: {name}}}}}\nspec: {{capacity: {{storage: {size}}}, accessModes: [ReadWriteOnce], storageClassName: slow, persistentVolumeReclaimPolicy: Retain{more}}}\nstatus: {{phase: {status}}}\n"
    )
}

const SLOW: &str = "storageClassName: slow";
const OURS: &str = ", claimRef: {kind: PersistentVolumeClaim, namespace: a, name: c, uid: cu}";
const COMPLETE: &str = ", annotations: {pv.kubernetes.io/bind-completed: 'yes'}";

fn plan(namespace: &str, name: &str, text: &str) -> Vec<String> {
    let text = [CLASSES, text].concat();
    reconcile(&Key::new(namespace, name), &world(&text)).lines()
}

fn of_claim(parts: &[&str]) -> Vec<String> {
    plan("a", "c", &parts.concat())
}

fn of_volume(parts: &[&str]) -> Vec<String> {
    plan("", "v", &parts.concat())
}

/// The volume that a claim takes among these; empty for none.
fn chosen(claim: &str, volumes: &[String]) -> String {
    let lines = of_claim(&[claim, &volumes.concat()]);
    let patch = lines
        .iter()
        .find_map(|line| line.strip_prefix("patch persistentvolumes "));
    patch
        .map_or("", |patch| patch.split(' ').next().unwrap())
        .to_owned()
}

#[test]
fn a_claim_takes_the_smallest_volume_that_fits() {
    let pending = claim("", SLOW, "phase: Pending");
    let free = |name: &str, size: &str| volume(name, size, "", "Available");
    assert_eq!(
        chosen(
            &pending,
            &[
                free("big", "20Gi"),
                free("fit", "6Gi"),
                free("small", "4Gi")
            ]
        ),
        "fit"
    );
    assert_eq!(
        chosen(&pending, &[free("b", "5Gi"), free("a", "5368709120")]),
        "a"
    );
    assert_eq!(chosen(&pending, &[free("small", "4Gi")]), "");
    // Fewest modes first, then the size.
    let many = free("many", "5Gi").replace("[ReadWriteOnce]", "[ReadWriteOnce, ReadOnlyMany]");
    assert_eq!(chosen(&pending, &[many.clone(), free("one", "9Gi")]), "one");
    assert_eq!(chosen(&pending, &[many]), "many");
}

#[test]
fn what_differs_is_not_taken() {
    let pending = claim("", SLOW, "phase: Pending");
    let fits = volume("v", "5Gi", "", "Available");
    assert_eq!(chosen(&pending, std::slice::from_ref(&fits)), "v");
    for (what, with) in [
        ("ReadWriteOnce", "ReadOnlyMany"),
        ("storageClassName: slow", "storageClassName: fast"),
        (
            "storageClassName: slow",
            "storageClassName: slow, volumeMode: Block",
        ),
        (
            "storageClassName: slow",
            "storageClassName: slow, volumeAttributesClassName: gold",
        ),
        ("phase: Available", "phase: Pending"),
        ("phase: Available", "phase: Released"),
        (
            "uid: v-u",
            "uid: v-u, deletionTimestamp: '2026-01-01T00:00:00Z'",
        ),
        (
            "storageClassName: slow",
            "storageClassName: slow, claimRef: {namespace: a, name: other}",
        ),
        (
            "storageClassName: slow",
            "storageClassName: slow, claimRef: {namespace: a, name: c, uid: older}",
        ),
    ] {
        let other = fits.replace(what, with);
        assert_ne!(other, fits, "{what}");
        assert_eq!(chosen(&pending, &[other]), "", "{with}");
    }
    let selecting = |labels: &str| {
        claim(
            "",
            &format!("{SLOW}, selector: {{matchLabels: {{{labels}}}}}"),
            "phase: Pending",
        )
    };
    assert_eq!(
        chosen(
            &selecting("disk: w"),
            &[volume("w", "9Gi", "", "Available"), fits.clone()]
        ),
        "w"
    );
    assert_eq!(chosen(&selecting("disk: x"), &[fits]), "");
    // The older form of the class counts.
    let old = claim(
        ", annotations: {volume.beta.kubernetes.io/storage-class: gold}",
        "",
        "phase: Pending",
    );
    assert_eq!(
        chosen(
            &old,
            &[volume("v", "5Gi", "", "Available").replace("slow", "gold")]
        ),
        "v"
    );
}

#[test]
fn a_volume_that_is_kept_for_the_claim_comes_before_better_ones() {
    let pending = claim("", SLOW, "phase: Pending");
    let kept = volume(
        "kept",
        "50Gi",
        ", claimRef: {namespace: a, name: c}",
        "Available",
    );
    assert_eq!(
        chosen(
            &pending,
            &[volume("fit", "5Gi", "", "Available"), kept.clone()]
        ),
        "kept"
    );
    // A class of its own does not matter then, and the node neither: whoever kept it has chosen.
    let waiting = claim("", "storageClassName: waiting", "phase: Pending");
    assert_eq!(chosen(&waiting, &[kept]), "kept");
    assert_eq!(
        chosen(
            &waiting,
            &[volume("v", "5Gi", "", "Available").replace("slow", "waiting")]
        ),
        ""
    );
}

#[test]
fn a_binding_goes_step_by_step() {
    let pending = claim("", SLOW, "phase: Pending");
    let free = volume("v", "6Gi", "", "Available");
    assert_eq!(
        of_claim(&[&pending, &free]),
        [
            "patch persistentvolumes v {\"metadata\":{\"annotations\":{\"pv.kubernetes.io/bound-by-controller\":\"yes\"}},\"spec\":{\"claimRef\":{\"apiVersion\":\"v1\",\"fieldPath\":null,\"kind\":\"PersistentVolumeClaim\",\"name\":\"c\",\"namespace\":\"a\",\"resourceVersion\":\"7\",\"uid\":\"cu\"}}}"
        ]
    );
    let named = volume("v", "6Gi", OURS, "Available");
    assert_eq!(
        of_claim(&[&pending, &named]),
        [
            "patch persistentvolumes/status v {\"status\":{\"lastPhaseTransitionTime\":\"2026-01-01T10:00:00Z\",\"message\":null,\"phase\":\"Bound\"}}",
            "patch persistentvolumeclaims a/c {\"metadata\":{\"annotations\":{\"pv.kubernetes.io/bind-completed\":\"yes\",\"pv.kubernetes.io/bound-by-controller\":\"yes\"}},\"spec\":{\"volumeName\":\"v\"}}",
        ]
    );
    let bound = volume("v", "6Gi", OURS, "Bound");
    let complete = claim(
        COMPLETE,
        &format!("{SLOW}, volumeName: v"),
        "phase: Pending",
    );
    assert_eq!(
        of_claim(&[&complete, &bound]),
        [
            "patch persistentvolumeclaims/status a/c {\"status\":{\"accessModes\":[\"ReadWriteOnce\"],\"capacity\":{\"storage\":\"6Gi\"},\"phase\":\"Bound\"}}"
        ]
    );
    let done = complete.replace(
        "phase: Pending",
        "phase: Bound, accessModes: [ReadWriteOnce], capacity: {storage: 6Gi}",
    );
    assert!(of_claim(&[&done, &bound]).is_empty());
    assert!(of_volume(&[&done, &bound]).is_empty());
}

#[test]
fn a_claim_may_ask_for_one_volume() {
    let asking = claim("", &format!("{SLOW}, volumeName: v"), "phase: Pending");
    // What the user has bound is not marked as the controller's.
    let named = of_claim(&[&asking, &volume("v", "6Gi", OURS, "Bound")]);
    assert_eq!(
        named,
        [
            "patch persistentvolumeclaims a/c {\"metadata\":{\"annotations\":{\"pv.kubernetes.io/bind-completed\":\"yes\"}},\"spec\":{\"volumeName\":\"v\"}}"
        ]
    );
    assert!(of_claim(&[&asking]).is_empty(), "it may come yet");
    let small = of_claim(&[&asking, &volume("v", "1Gi", "", "Available")]);
    assert_eq!(
        small,
        [
            "event Warning a/c VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small"
        ]
    );
    let taken = of_claim(&[
        &asking,
        &volume("v", "6Gi", &OURS.replace("cu", "older"), "Released"),
    ]);
    assert_eq!(
        taken,
        ["event Warning a/c FailedBinding: volume \"v\" already bound to a different claim."]
    );
    for (with, why) in [
        ("fast", "storageClassName does not match"),
        ("slow, volumeMode: Block", "incompatible volumeMode"),
        (
            "slow, volumeAttributesClassName: x",
            "volumeAttributesClassName does not match",
        ),
    ] {
        let other = volume("v", "6Gi", "", "Available").replace(
            "storageClassName: slow",
            &format!("storageClassName: {with}"),
        );
        assert!(of_claim(&[&asking, &other])[0].ends_with(why), "{why}");
    }
}

#[test]
fn a_bound_claim_that_lost_its_volume_says_so_once() {
    let lost = claim(
        COMPLETE,
        &format!("{SLOW}, volumeName: v"),
        "phase: Bound, accessModes: [ReadWriteOnce], capacity: {storage: 6Gi}",
    );
    let lines = of_claim(&[&lost]);
    assert_eq!(
        lines,
        [
            "patch persistentvolumeclaims/status a/c {\"status\":{\"accessModes\":null,\"capacity\":null,\"phase\":\"Lost\"}}",
            "event Warning a/c ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ]
    );
    assert!(of_claim(&[&lost.replace("phase: Bound", "phase: Lost")]).is_empty());
    let other = volume("v", "6Gi", &OURS.replace("cu", "other"), "Bound");
    assert!(of_claim(&[&lost, &other])[1].contains("ClaimMisbound"));
    let nameless = lost.replace(", volumeName: v", "");
    assert!(of_claim(&[&nameless])[1].contains("has lost reference to PersistentVolume"));
    // A volume that has lost its side gets it again.
    assert!(of_claim(&[&lost, &volume("v", "6Gi", "", "Available")])[0].contains("claimRef"));
}

#[test]
fn classes_say_when_and_by_whom_a_volume_is_made() {
    let of_class = |class: &str, meta: &str| {
        claim(
            meta,
            &format!("storageClassName: {class}"),
            "phase: Pending",
        )
    };
    let told = |claim: &str, more: &str| of_claim(&[claim, more]).join("\n");
    assert_eq!(
        told(&of_class("''", ""), ""),
        "event Normal a/c FailedBinding: no persistent volumes available for this claim and no storage class is set"
    );
    assert_eq!(
        told(&of_class("nosuch", ""), ""),
        "event Warning a/c ProvisioningFailed: storageclass.storage.k8s.io \"nosuch\" not found"
    );
    let waiting = of_class("waiting", "");
    assert_eq!(
        told(&waiting, ""),
        "event Normal a/c WaitForFirstConsumer: waiting for first consumer to be created before binding"
    );
    let pod = |name: &str, node: &str| {
        format!(
            "---\nkind: Pod\nmetadata: {{name: {name}, namespace: a}}\nspec: {{nodeName: '{node}', volumes: [{{name: x, persistentVolumeClaim: {{claimName: c}}}}]}}\n"
        )
    };
    assert_eq!(
        told(&waiting, &pod("p", "")),
        "event Normal a/c WaitForPodScheduled: waiting for pod p to be scheduled"
    );
    assert_eq!(
        told(
            &waiting,
            &[pod("p", ""), pod("q", ""), pod("r", "n")].concat()
        ),
        "event Normal a/c WaitForPodScheduled: waiting for pods p,q to be scheduled"
    );
    let placed = of_class(
        "waiting",
        ", annotations: {volume.kubernetes.io/selected-node: n1}",
    );
    assert_eq!(
        told(&placed, ""),
        "event Warning a/c ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner"
    );
    assert_eq!(
        told(&of_class("outside", ""), ""),
        "patch persistentvolumeclaims a/c {\"metadata\":{\"annotations\":{\"volume.beta.kubernetes.io/storage-provisioner\":\"csi.example.com\",\"volume.kubernetes.io/storage-provisioner\":\"csi.example.com\"}}}"
    );
    let asked = of_class(
        "outside",
        ", annotations: {volume.kubernetes.io/storage-provisioner: csi.example.com}",
    );
    assert!(told(&asked, "").starts_with("event Normal a/c ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'csi.example.com' or manually"));
}

#[test]
fn a_claim_without_a_word_gets_the_default_class_later() {
    let silent = claim("", "volumeName: ''", "phase: Pending");
    let class = |name: &str, day: &str| {
        format!(
            "---\nkind: StorageClass\nmetadata: {{name: {name}, creationTimestamp: '2026-01-{day}T00:00:00Z', annotations: {{storageclass.kubernetes.io/is-default-class: 'true'}}}}\nprovisioner: x/y\n"
        )
    };
    let defaults = [class("older", "01"), class("b", "02"), class("a", "02")].concat();
    assert_eq!(
        of_claim(&[&silent, &defaults]),
        ["patch persistentvolumeclaims a/c {\"spec\":{\"storageClassName\":\"a\"}}"]
    );
    // Not where a volume without class fits, nor where none was asked for.
    let free = volume("v", "5Gi", "", "Available")
        .replace("storageClassName: slow", "storageClassName: ''");
    assert!(of_claim(&[&silent, &defaults, &free])[0].contains("claimRef"));
    let none = claim("", "storageClassName: ''", "phase: Pending");
    assert!(of_claim(&[&none, &defaults])[0].contains("FailedBinding"));
}

#[test]
fn a_directory_of_the_chosen_node_is_a_volume() {
    let at = |node: &str, more: &str| {
        claim(
            &format!(
                ", annotations: {{volume.kubernetes.io/storage-provisioner: kontiki.io/local-path, volume.kubernetes.io/selected-node: {node}}}"
            ),
            &format!("storageClassName: local{more}"),
            "phase: Pending",
        )
    };
    let text = [CLASSES, &at("n1", "")].concat();
    let made = reconcile(&Key::new("a", "c"), &world(&text));
    assert_eq!(
        made.lines(),
        [
            "create persistentvolumes pvc-cu",
            "event Normal a/c ProvisioningSucceeded: Successfully provisioned volume pvc-cu using kontiki.io/local-path"
        ]
    );
    let Op::Create { body, .. } = &made.ops[0] else {
        panic!("{made:?}")
    };
    assert_eq!(body["spec"]["hostPath"]["path"], "/data/local/pvc-cu");
    assert_eq!(body["spec"]["capacity"]["storage"], "5Gi");
    assert_eq!(body["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(body["spec"]["claimRef"]["uid"], "cu");
    assert_eq!(
        body["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
            [0],
        "host1"
    );
    // Made once, and then bound.
    let stored = format!("---\n{body}\n");
    let bound = plan("a", "c", &[at("n1", "").as_str(), &stored].concat());
    assert!(
        bound[0].contains("Bound") && bound[1].contains("volumeName"),
        "{bound:#?}"
    );
    let gone = of_claim(&[&at("n9", "")]);
    assert_eq!(
        gone,
        [
            "patch persistentvolumeclaims a/c {\"metadata\":{\"annotations\":{\"volume.kubernetes.io/selected-node\":null}}}"
        ]
    );
    for (more, why) in [
        (", volumeMode: Block", "block volumes are not supported"),
        (
            ", selector: {matchLabels: {a: b}}",
            "claim.Spec.Selector is not supported",
        ),
        (
            ", dataSource: {kind: PersistentVolumeClaim, name: x}",
            "data sources are not supported",
        ),
        (
            ", volumeAttributesClassName: gold",
            "volume attributes classes are not supported",
        ),
    ] {
        let refused = of_claim(&[&at("n1", more)]);
        assert_eq!(
            refused,
            [format!(
                "event Warning a/c ProvisioningFailed: Failed to provision volume with StorageClass \"local\": {why}"
            )]
        );
    }
    let many = at("n1", "").replace("[ReadWriteOnce]", "[ReadWriteMany]");
    assert!(of_claim(&[&many])[0].contains("only access modes"));
}

#[test]
fn volumes_show_what_they_are() {
    let phase = |volume: &str, claim: &str| {
        let lines = of_volume(&[volume, claim]);
        let status = lines
            .iter()
            .find(|line| line.contains("\"phase\""))
            .cloned()
            .unwrap_or_default();
        let from = status
            .find("\"phase\":\"")
            .map_or(status.len(), |at| at + 9);
        status[from..]
            .split('"')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let pending = claim("", SLOW, "phase: Pending");
    let elsewhere = claim(COMPLETE, &format!("{SLOW}, volumeName: w"), "phase: Bound");
    let here = elsewhere.replace("volumeName: w", "volumeName: v");
    assert_eq!(phase(&volume("v", "6Gi", "", "Pending"), ""), "Available");
    assert_eq!(
        phase(
            &volume("v", "6Gi", ", claimRef: {namespace: a, name: c}", "Pending"),
            &pending
        ),
        "Available"
    );
    assert_eq!(
        phase(&volume("v", "6Gi", "", "Released"), ""),
        "Available",
        "somebody took the claim away"
    );
    assert_eq!(
        phase(&volume("v", "6Gi", OURS, "Available"), &here),
        "Bound"
    );
    assert_eq!(
        phase(&volume("v", "6Gi", OURS, "Available"), &pending),
        "",
        "the claim does it"
    );
    assert_eq!(phase(&volume("v", "6Gi", OURS, "Bound"), ""), "Released");
    assert_eq!(
        phase(
            &volume("v", "6Gi", &OURS.replace("cu", "older"), "Bound"),
            &here
        ),
        "Released"
    );
    assert_eq!(phase(&volume("v", "6Gi", OURS, "Released"), ""), "");
    // Taken by the controller for a claim that got another: free again. Kept by a user: kept for the name.
    let taken = volume("v", "6Gi", OURS, "Bound").replace(
        "uid: v-u",
        "uid: v-u, annotations: {pv.kubernetes.io/bound-by-controller: 'yes'}",
    );
    assert_eq!(
        of_volume(&[&taken, &elsewhere]),
        [
            "patch persistentvolumes v {\"metadata\":{\"annotations\":{\"pv.kubernetes.io/bound-by-controller\":null}},\"spec\":{\"claimRef\":null}}"
        ]
    );
    assert_eq!(
        of_volume(&[&volume("v", "6Gi", OURS, "Bound"), &elsewhere]),
        ["patch persistentvolumes v {\"spec\":{\"claimRef\":{\"uid\":null}}}"]
    );
}

#[test]
fn the_claim_of_a_volume_is_looked_for_before_it_is_taken_for_gone() {
    let lines = of_volume(&[&volume("v", "6Gi", OURS, "Bound")]);
    assert_eq!(lines[0], "absent persistentvolumeclaims a/c");
    assert!(lines[1].contains("Released"), "{lines:#?}");
}

#[test]
fn released_volumes_are_reclaimed_by_their_policy() {
    let told = |policy: &str, source: &str, by: &str| {
        let released =
            volume("v", "6Gi", &format!("{OURS}{source}"), "Released").replace("Retain", policy);
        let by = format!("uid: v-u, annotations: {{pv.kubernetes.io/provisioned-by: '{by}'}}");
        let lines = of_volume(&[&released.replace("uid: v-u", &by)]);
        lines.last().cloned().unwrap_or_default()
    };
    assert_eq!(told("Retain", "", ""), "");
    assert_eq!(
        told("Delete", "", "csi.example.com"),
        "",
        "its provisioner does it"
    );
    let failed = |reason: &str, text: &str| format!("event Warning v {reason}: {text}");
    assert_eq!(
        told("Delete", ", nfs: {server: s, path: /x}", ""),
        failed(
            "VolumeFailedDelete",
            "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched"
        )
    );
    assert_eq!(
        told("Delete", "", ""),
        failed(
            "VolumeFailedDelete",
            "error getting deleter volume plugin for volume \"v\": no volume plugin matched"
        )
    );
    assert_eq!(
        told("Recycle", ", nfs: {server: s, path: /x}", ""),
        failed(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!"
        )
    );
    assert_eq!(
        told("Burn", "", ""),
        failed(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy"
        )
    );
    let again = volume("v", "6Gi", OURS, "Failed").replace("Retain", "Recycle");
    assert!(of_volume(&[&again]).is_empty(), "it is said once");
}

#[test]
fn a_directory_is_removed_by_its_node_before_its_volume_goes() {
    let affinity = ", nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [host1]}]}]}}";
    let released = |asked: &str| {
        volume("v", "6Gi", &format!("{OURS}{affinity}"), "Released")
            .replace("Retain", "Delete")
            .replace("uid: v-u", &format!("uid: v-u, annotations: {{pv.kubernetes.io/provisioned-by: kontiki.io/local-path{asked}}}"))
    };
    let with = |volume: &str, listed: &str| {
        let node = CLASSES.replace(
            "/data/local}",
            &format!("/data/local, kontiki.io/local-path-remove: '{listed}'}}"),
        );
        let world = world(&[node.as_str(), volume].concat());
        let mut lines = reconcile(&Key::new("", "v"), &world).lines();
        lines.retain(|line| !line.starts_with("absent"));
        lines
    };
    let asked = ", kontiki.io/local-path-removal-asked: nu";
    let note = "patch persistentvolumes v {\"metadata\":{\"annotations\":{\"kontiki.io/local-path-removal-asked\":\"nu\"}}}";
    assert_eq!(
        with(&released(""), "w"),
        [
            "patch nodes n1 {\"metadata\":{\"annotations\":{\"kontiki.io/local-path-remove\":\"w,v\"}}}",
            note
        ]
    );
    assert_eq!(with(&released(""), "v"), [note]);
    assert!(with(&released(asked), "v").is_empty(), "the agent is at it");
    assert_eq!(with(&released(asked), ""), ["delete persistentvolumes v"]);
    let other = released(", kontiki.io/local-path-removal-asked: older");
    assert!(
        with(&other, "")[0].starts_with("patch nodes"),
        "a node of the same name is another machine"
    );
    let full: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
    assert!(with(&released(""), &full.join(",")).is_empty());
    assert_eq!(
        with(&released("").replace("host1", "host2"), ""),
        ["delete persistentvolumes v"]
    );
    assert_eq!(
        with(&released(""), "', kontiki.io/hollow: 'x"),
        ["delete persistentvolumes v"]
    );
}

#[test]
fn a_volume_that_is_deleted_by_hand_goes_after_its_directory() {
    let affinity = ", nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [host1]}]}]}}";
    let held = "finalizers: [x/y, external-provisioner.volume.kubernetes.io/finalizer]";
    let look = |phase: &str, policy: &str, more: &str, asked: &str, claim: &str| {
        let volume = volume("v", "6Gi", &format!("{OURS}{affinity}"), phase)
            .replace("Retain", policy)
            .replace("uid: v-u", &format!("uid: v-u, {more}, annotations: {{pv.kubernetes.io/provisioned-by: kontiki.io/local-path{asked}}}"));
        let world = world(&[CLASSES, claim, &volume].concat());
        let mut lines = reconcile(&Key::new("", "v"), &world).lines();
        lines.retain(|line| !line.starts_with("absent"));
        lines
    };
    let going = format!("deletionTimestamp: '2026-01-01T00:00:00Z', {held}");
    let asked = ", kontiki.io/local-path-removal-asked: nu";
    let freed = "patch persistentvolumes v {\"metadata\":{\"finalizers\":[\"x/y\"]}}";
    let asks = |lines: Vec<String>| lines.len() == 2 && lines[0].starts_with("patch nodes n1");
    assert!(asks(look("Released", "Delete", &going, "", "")));
    assert_eq!(look("Released", "Delete", &going, asked, ""), [freed]);
    assert_eq!(
        look("Released", "Delete", held, asked, ""),
        ["delete persistentvolumes v"]
    );
    let let_go = "deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [x/y]";
    assert!(look("Released", "Delete", let_go, asked, "").is_empty());
    // While its claim is there, its directory is.
    let claim = claim(COMPLETE, &format!("{SLOW}, volumeName: v"), "phase: Bound");
    assert!(look("Bound", "Delete", &going, "", &claim).is_empty());
    assert_eq!(look("Bound", "Retain", &going, "", &claim), [freed]);
    // Those of before it get it, and those whose policy has changed lose it.
    let added = "patch persistentvolumes v {\"metadata\":{\"finalizers\":[\"x/y\",\"external-provisioner.volume.kubernetes.io/finalizer\"]}}";
    assert_eq!(
        look("Bound", "Delete", "finalizers: [x/y]", "", &claim),
        [added]
    );
    assert!(look("Bound", "Delete", held, "", &claim).is_empty());
    assert_eq!(look("Bound", "Retain", held, "", &claim), [freed]);
    assert!(look("Bound", "Retain", "finalizers: [x/y]", "", &claim).is_empty());
}

#[test]
fn claims_grow_with_their_directory_and_others_wait() {
    let bound = |size: &str, by: &str| {
        volume("v", size, OURS, "Bound").replace(
            "uid: v-u",
            &format!("uid: v-u, annotations: {{pv.kubernetes.io/provisioned-by: {by}}}"),
        )
    };
    let grown = claim(
        COMPLETE,
        &format!("{SLOW}, volumeName: v"),
        "phase: Bound, accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, conditions: [{type: Resizing, status: 'True'}]",
    );
    let ours = "kontiki.io/local-path";
    assert_eq!(
        of_claim(&[&grown, &bound("1Gi", ours)]),
        ["patch persistentvolumes v {\"spec\":{\"capacity\":{\"storage\":\"5Gi\"}}}"]
    );
    assert_eq!(
        of_claim(&[&grown, &bound("5Gi", ours)]),
        [
            "patch persistentvolumeclaims/status a/c {\"status\":{\"capacity\":{\"storage\":\"5Gi\"},\"conditions\":null}}",
            "event Normal a/c VolumeResizeSuccessful: Resize volume succeeded"
        ]
    );
    assert_eq!(
        of_claim(&[&grown, &bound("1Gi", "csi.example.com")]),
        [
            "event Normal a/c ExternalExpanding: Ignoring the PVC: didn't find a plugin capable of expanding the volume; waiting for an external controller to process this PVC."
        ]
    );
    let full = grown.replace("storage: 1Gi", "storage: 5Gi");
    assert!(of_claim(&[&full, &bound("5Gi", ours)]).is_empty());
}

/// The keys that a change wakes.
fn woken(text: &str, change: impl FnOnce(&Caches)) -> Vec<String> {
    let world = world(text);
    let queue = Arc::new(Queue::new());
    wire(&world.caches, &queue);
    let drain = || {
        let mut woken = Vec::new();
        while let Some(Some(key)) = futures::FutureExt::now_or_never(queue.next()) {
            woken.push(key.to_string());
            queue.done(&key);
        }
        woken.sort();
        woken
    };
    drain();
    change(&world.caches);
    drain()
}

#[test]
fn each_side_wakes_the_other() {
    let object = |text: String| text.trim_start_matches("---\n").to_owned();
    let pending = claim("", SLOW, "phase: Pending");
    let free = volume("v", "6Gi", "", "Available");
    let taken = volume("v", "6Gi", OURS, "Bound");
    let apply = |text: &str, volume: &str| {
        woken(text, |caches| {
            caches
                .volumes
                .apply(crate::testing::object(&object(volume.to_owned())))
        })
    };
    assert_eq!(apply(&pending, &free), ["a/c", "v"], "a free volume");
    assert_eq!(apply(&pending, &free.replace("slow", "fast")), ["v"]);
    assert_eq!(
        apply(&[pending.as_str(), &free].concat(), &taken),
        ["a/c", "v"]
    );
    let gone = |text: &str| woken(text, |caches| caches.claims.remove(&Key::new("a", "c")));
    assert_eq!(
        gone(&[pending.as_str(), &taken].concat()),
        ["a/c", "v"],
        "bound half"
    );
    let bound = claim(COMPLETE, &format!("{SLOW}, volumeName: v"), "phase: Bound");
    assert_eq!(gone(&[bound.as_str(), &taken].concat()), ["a/c", "v"]);
    let lost = woken(&[bound.as_str(), &free].concat(), |caches| {
        caches.volumes.remove(&Key::new("", "v"))
    });
    assert_eq!(lost, ["a/c", "v"]);
    let class = "{metadata: {name: slow}, provisioner: x/y}";
    assert_eq!(
        woken(&pending, |caches| caches
            .storage_classes
            .apply(crate::testing::object(class))),
        ["a/c"]
    );
    let pod = "{metadata: {name: p, namespace: a}, spec: {volumes: [{name: x, persistentVolumeClaim: {claimName: c}}]}}";
    assert_eq!(
        woken(&pending, |caches| caches
            .pods
            .apply(crate::testing::object(pod))),
        ["a/c"]
    );
}

use super::*;
use crate::testing::{object, world};
use agent_runtime::plan::Op;
use serde_json::{Value, json};

/// A StatefulSet with the template of image `new`; `spec` is what its spec has besides, `status` what it reports.
fn set(spec: &str, status: &str) -> String {
    format!(
        "kind: StatefulSet\nmetadata: {{name: web, namespace: a, uid: sts, generation: 2}}\n\
         spec: {{serviceName: svc, selector: {{matchLabels: {{app: web}}}}, revisionHistoryLimit: 1, {spec}, template: {}}}\nstatus: {{{status}}}\n",
        template("new")
    )
}

fn template(image: &str) -> String {
    format!(
        "{{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: {image}}}], volumes: [{{name: data, emptyDir: {{}}}}, {{name: tmp, emptyDir: {{}}}}]}}}}"
    )
}

fn revision(image: &str, number: i64) -> String {
    let data = history::data(&object(&template(image)));
    format!(
        "---\nkind: ControllerRevision\nmetadata: {{name: web-{image}, namespace: a, uid: r-{image}, labels: {{app: web}}, \
         ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: sts, controller: true}}]}}\ndata: {data}\nrevision: {number}\n"
    )
}

fn pod(ordinal: i64, image: &str, status: &str) -> String {
    format!(
        "---\nkind: Pod\nmetadata: {{name: web-{ordinal}, namespace: a, uid: p{ordinal}, labels: {{app: web, controller-revision-hash: web-{image}, statefulset.kubernetes.io/pod-name: web-{ordinal}}}, \
         ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: sts, controller: true}}]}}\nspec: {{nodeName: n}}\nstatus: {{{status}}}\n"
    )
}

fn going(pod: &str) -> String {
    pod.replace(
        "namespace: a",
        "namespace: a, deletionTimestamp: '2026-01-01T09:59:00Z'",
    )
}

fn claim(name: &str, owners: &str) -> String {
    format!(
        "---\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}, namespace: a, uid: {name}, ownerReferences: [{owners}]}}\n"
    )
}

const READY: &str = "phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T09:00:00Z'}]";
const UNREADY: &str = "phase: Running, conditions: [{type: Ready, status: 'False'}]";
const ROLLING: &str = "updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}";
const PARALLEL: &str = "podManagementPolicy: Parallel, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}";
const CLAIMS: &str = "volumeClaimTemplates: [{metadata: {name: data, labels: {tier: db}}, spec: {accessModes: [ReadWriteOnce]}}]";

fn run(parts: &[&str]) -> Plan {
    reconcile(&Key::new("a", "web"), &world(&parts.concat()))
}

/// The lines of a plan without those of the status and of events that tell of an operation.
fn plan(parts: &[&str]) -> Vec<String> {
    run(parts)
        .lines()
        .into_iter()
        .filter(|line| !line.contains("/status") && !line.starts_with("  then"))
        .collect()
}

/// A set of this many replicas whose pods from 0 on are `new` or `old`, ready or not: `N`, `n`, `O`, `o`, `F` for one that
/// failed, `-` for one that is going and `.` for none.
fn with_pods(replicas: i64, spec: &str, pods: &str) -> Vec<String> {
    let mut text = set(
        &format!("replicas: {replicas}, {spec}"),
        "currentRevision: web-old",
    );
    text.push_str(&[revision("old", 1), revision("new", 2)].concat());
    for (ordinal, state) in (0..).zip(pods.chars()) {
        text.push_str(&match state {
            'N' => pod(ordinal, "new", READY),
            'n' => pod(ordinal, "new", UNREADY),
            'O' => pod(ordinal, "old", READY),
            'o' => pod(ordinal, "old", UNREADY),
            'F' => pod(ordinal, "new", "phase: Failed, reason: Evicted"),
            'S' => pod(ordinal, "new", "phase: Succeeded"),
            '-' => going(&pod(ordinal, "new", READY)),
            _ => String::new(),
        });
    }
    plan(&[&text])
        .into_iter()
        .map(|line| line.replace(" pods a/web-", " "))
        .collect()
}

fn check(spec: &str, cases: &[(i64, &str, &[&str])]) {
    for (replicas, pods, wanted) in cases {
        assert_eq!(
            with_pods(*replicas, spec, pods),
            *wanted,
            "{spec}: {replicas} {pods}"
        );
    }
}

/// The only object that a plan creates.
fn created(plan: &Plan, kind: &str) -> Value {
    fn look(op: &Op, kind: &str) -> Option<Value> {
        match op {
            Op::Create { body, .. } if body["kind"] == kind => Some(body.clone()),
            Op::Reported { op, .. } => look(op, kind),
            Op::Sequence(ops) | Op::SlowStart(ops) | Op::Parallel(ops) => {
                ops.iter().find_map(|op| look(op, kind))
            }
            _ => None,
        }
    }
    let found = plan.ops.iter().find_map(|op| look(op, kind));
    found.unwrap_or_else(|| panic!("{:#?}", plan.lines()))
}

#[test]
fn the_history_comes_first() {
    let text = set(ROLLING, "").replace(
        "generation: 2",
        "generation: 2, annotations: {why: because}",
    );
    let plan = run(&[&text]);
    assert_eq!(plan.ops.len(), 1);
    let made = created(&plan, "ControllerRevision");
    assert_eq!(made["revision"], 1);
    assert_eq!(made["metadata"]["annotations"]["why"], "because");
    let hash = made["metadata"]["labels"]["controller.kubernetes.io/hash"]
        .as_str()
        .unwrap();
    assert_eq!(made["metadata"]["name"], format!("web-{hash}"));
    let taken = revision("x", 1)
        .replace("name: web-x", &format!("name: web-{hash}"))
        .replace("uid: sts", "uid: other");
    assert_eq!(
        run(&[&text, &taken]).lines(),
        ["patch statefulsets.apps/status a/web {\"status\":{\"collisionCount\":1}}"]
    );
    let back = [revision("new", 3), revision("old", 5)].concat();
    assert_eq!(
        run(&[&text, &back]).lines(),
        ["patch controllerrevisions.apps a/web-new {\"revision\":6}"]
    );
}

#[test]
fn pods_are_made_one_after_the_other() {
    check(
        ROLLING,
        &[
            (3, "", &["create 0"]),
            (3, "n", &[]),
            (3, "N", &["create 1"]),
            (3, "N.N", &["create 1"]),
            (3, "Nn", &[]),
            (3, "NN", &["create 2"]),
            (3, "NNN", &[]),
            (3, "N-N", &[]),
            // A pod that ended is replaced, and the others wait.
            (3, "NFN", &["delete 1"]),
            (3, "SN", &["delete 0"]),
            (0, "", &[]),
        ],
    );
}

#[test]
fn a_pod_that_ends_each_time_is_made_anew_less_and_less_often() {
    let text = set(&format!("replicas: 1, {ROLLING}"), "");
    let failed = pod(0, "new", "phase: Failed");
    let world = world(&[text, revision("new", 1), failed].concat());
    let lines = || reconcile(&Key::new("a", "web"), &world).lines();
    assert!(lines().contains(&"delete pods a/web-0".to_owned()));
    assert_eq!(lines()[1..], ["again in 1s"]);
}

#[test]
fn in_parallel_nobody_waits() {
    check(
        PARALLEL,
        &[
            (3, "", &["create 0", "create 1", "create 2"]),
            (3, "n.N", &["create 1"]),
            (4, "F-n.", &["delete 0", "create 3"]),
            (1, "nNn-N", &["delete 4", "delete 2", "delete 1"]),
        ],
    );
    let many = with_pods(2_147_483_647, PARALLEL, "N");
    assert_eq!(many.len(), BURST);
}

#[test]
fn the_highest_goes_first_and_waits_for_those_that_do_not_serve() {
    check(
        ROLLING,
        &[
            (1, "NNN", &["delete 2"]),
            (0, "NNN", &["delete 2"]),
            (1, "NN-", &[]),
            // The wanted ones come first.
            (1, "nNN", &[]),
            (2, "N.N", &["create 1"]),
            // Of those that serve nobody the lowest need not wait.
            (1, "NnN", &["delete 2"]),
            (1, "NNn", &["delete 2"]),
            (1, "Nnn", &[]),
        ],
    );
}

#[test]
fn an_update_goes_from_the_highest_down_to_the_partition() {
    check(
        ROLLING,
        &[
            (3, "OOO", &["delete 2"]),
            (3, "OO-", &[]),
            (3, "OO", &["create 2"]),
            (3, "OOn", &[]),
            (3, "OON", &["delete 1"]),
            (3, "ONN", &["delete 0"]),
            // A new template that does not work is not rolled back by itself.
            (3, "OOo", &[]),
        ],
    );
    let partitioned = |partition: i64| {
        format!(
            "updateStrategy: {{type: RollingUpdate, rollingUpdate: {{partition: {partition}}}}}"
        )
    };
    check(
        &partitioned(2),
        &[(3, "OOO", &["delete 2"]), (3, "OON", &[])],
    );
    check(&partitioned(9), &[(3, "OOO", &[])]);
    check(
        "updateStrategy: {type: OnDelete}",
        &[(3, "OOO", &[]), (3, "OO", &["create 2"])],
    );
}

#[test]
fn a_broken_pod_does_not_keep_a_parallel_set_from_its_update() {
    check(
        PARALLEL,
        &[
            (3, "OOo", &["delete 2"]),
            (3, "OoN", &["delete 1"]),
            (3, "OOn", &[]),
        ],
    );
}

#[test]
fn as_many_pods_are_updated_at_once_as_may_be_missing() {
    let bounded = |management: &str, bound: &str| {
        format!(
            "podManagementPolicy: {management}, updateStrategy: {{type: RollingUpdate, rollingUpdate: {{partition: 1, maxUnavailable: {bound}}}}}"
        )
    };
    check(
        &bounded("OrderedReady", "2"),
        &[
            (4, "OOOO", &["delete 3", "delete 2"]),
            (4, "OONN", &["delete 1"]),
            (4, "OOO", &["create 3"]),
        ],
    );
    // Rounded down, and one at least.
    check(
        &bounded("OrderedReady", "70%"),
        &[(4, "OOOO", &["delete 3", "delete 2"])],
    );
    check(
        &bounded("OrderedReady", "1%"),
        &[(4, "OOOO", &["delete 3"])],
    );
    check(
        &bounded("Parallel", "2"),
        &[
            (4, "OOOn", &["delete 2"]),
            (4, "OOnn", &[]),
            // Those that serve nobody go first, and at once.
            (4, "OooO", &["delete 2", "delete 1"]),
            (4, "OoOO", &["delete 1", "delete 3"]),
        ],
    );
}

#[test]
fn a_pod_has_the_identity_of_its_ordinal() {
    let spec = format!("replicas: 1, ordinals: {{start: 5}}, {CLAIMS}, {ROLLING}");
    let plan = run(&[&set(&spec, ""), &revision("new", 1)]);
    let pod = created(&plan, "Pod");
    assert_eq!(pod["metadata"]["name"], "web-5");
    assert_eq!(pod["metadata"]["generateName"], "web-");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "web", "controller-revision-hash": "web-new", "statefulset.kubernetes.io/pod-name": "web-5", "apps.kubernetes.io/pod-index": "5"})
    );
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "sts");
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("web-5"), &json!("svc"))
    );
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-5"}}, {"name": "tmp", "emptyDir": {}}])
    );
    let made = created(&plan, "PersistentVolumeClaim");
    assert_eq!(
        made["metadata"],
        json!({"name": "data-web-5", "namespace": "a", "labels": {"tier": "db", "app": "web"}})
    );
    assert_eq!(made["spec"], json!({"accessModes": ["ReadWriteOnce"]}));
    assert_eq!(
        plan.lines()[1..],
        [
            "create persistentvolumeclaims a/data-web-5",
            "  then event Normal a/web SuccessfulCreate: create Claim data-web-5 Pod web-5 in StatefulSet web success",
            "create pods a/web-5",
            "  then event Normal a/web SuccessfulCreate: create Pod web-5 in StatefulSet web successful",
        ]
    );
    let there = run(&[
        &set(&spec, ""),
        &revision("new", 1),
        &claim("data-web-5", ""),
    ]);
    assert!(
        there.lines()[1].starts_with("create pods"),
        "{:#?}",
        there.lines()
    );
}

#[test]
fn below_the_partition_pods_come_back_as_they_were() {
    let spec = "replicas: 3, podManagementPolicy: Parallel, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}";
    let image = |missing: i64| {
        let mut text = [
            set(spec, "currentRevision: web-old"),
            revision("old", 1),
            revision("new", 2),
        ]
        .concat();
        for ordinal in (0..3).filter(|ordinal| *ordinal != missing) {
            text.push_str(&pod(
                ordinal,
                if ordinal < 2 { "old" } else { "new" },
                READY,
            ));
        }
        let pod = created(&run(&[&text]), "Pod");
        let label = pod["metadata"]["labels"]["controller-revision-hash"].clone();
        assert_eq!(
            label,
            format!(
                "web-{}",
                pod["spec"]["containers"][0]["image"].as_str().unwrap()
            )
        );
        label
    };
    assert_eq!((image(1), image(2)), (json!("web-old"), json!("web-new")));
}

#[test]
fn claims_that_are_missing_for_a_pending_pod_are_made() {
    let spec = format!("replicas: 1, {CLAIMS}, {ROLLING}");
    let pending = pod(0, "new", "phase: Pending");
    assert_eq!(
        plan(&[&set(&spec, ""), &revision("new", 1), &pending]),
        ["create persistentvolumeclaims a/data-web-0"]
    );
    assert_eq!(
        plan(&[
            &set(&spec, ""),
            &revision("new", 1),
            &pod(0, "new", UNREADY)
        ]),
        Vec::<String>::new()
    );
}

#[test]
fn a_pod_waits_for_claims_that_are_going() {
    let spec = format!("replicas: 1, {CLAIMS}, {ROLLING}");
    let left = claim(
        "data-web-0",
        "{apiVersion: v1, kind: Pod, name: web-0, uid: before, controller: true}",
    );
    assert_eq!(
        plan(&[&set(&spec, ""), &revision("new", 1), &left]),
        Vec::<String>::new()
    );
    let deleted = going(&claim("data-web-0", ""));
    assert_eq!(
        plan(&[&set(&spec, ""), &revision("new", 1), &deleted]),
        [
            "event Warning a/web FailedCreate: create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"
        ]
    );
}

#[test]
fn claims_belong_to_whom_the_policy_says() {
    let of_set = "{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: sts, controller: true, blockOwnerDeletion: true}";
    let of_pod = "{apiVersion: v1, kind: Pod, name: web-0, uid: p0, controller: true, blockOwnerDeletion: true}";
    let stale = of_set.replace("uid: sts", "uid: before");
    let foreign = "{apiVersion: x/v1, kind: Other, name: o, uid: o, controller: true}";
    let guest = "{apiVersion: x/v1, kind: Other, name: o, uid: o}";
    let both = format!("{guest}, {of_set}");
    // Whether the set deletes its claims, and those of pods that are not wanted; replicas; owners before and after.
    for (deleted, scaled, replicas, before, after) in [
        ("Retain", "Retain", 1, "", None),
        ("Retain", "Retain", 1, of_set, Some("[]")),
        ("Delete", "Retain", 1, "", Some(of_set)),
        ("Delete", "Retain", 0, "", Some(of_set)),
        ("Delete", "Retain", 1, of_set, None),
        ("Delete", "Retain", 1, guest, Some(&*both)),
        ("Delete", "Retain", 1, foreign, None),
        ("Delete", "Retain", 1, &*stale, Some("[]")),
        ("Retain", "Delete", 1, "", None),
        ("Retain", "Delete", 1, of_pod, Some("[]")),
        ("Retain", "Delete", 0, "", Some(of_pod)),
        ("Delete", "Delete", 1, "", Some(of_set)),
        ("Delete", "Delete", 0, of_set, Some(of_pod)),
        ("Delete", "Delete", 0, of_pod, None),
    ] {
        let spec = format!(
            "replicas: {replicas}, persistentVolumeClaimRetentionPolicy: {{whenDeleted: {deleted}, whenScaled: {scaled}}}, {CLAIMS}, {ROLLING}"
        );
        let lines = plan(&[
            &set(&spec, ""),
            &revision("new", 1),
            &pod(0, "new", READY),
            &claim("data-web-0", before),
        ]);
        let patches: Vec<Value> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("patch persistentvolumeclaims a/data-web-0 "))
            .map(|body| {
                serde_json::from_str::<Value>(body).unwrap()["metadata"]["ownerReferences"].clone()
            })
            .collect();
        let wanted: Vec<Value> = after
            .map(|owners| match owners {
                "[]" => Value::Null,
                owners => object(&format!("[{owners}]")),
            })
            .into_iter()
            .collect();
        assert_eq!(patches, wanted, "{deleted} {scaled} {replicas} {before}");
        assert_eq!(
            lines.contains(&"delete pods a/web-0".to_owned()),
            replicas == 0
        );
    }
    let spec = format!(
        "replicas: 1, persistentVolumeClaimRetentionPolicy: {{whenDeleted: Delete, whenScaled: Retain}}, {CLAIMS}, {ROLLING}"
    );
    let made = created(
        &run(&[&set(&spec, ""), &revision("new", 1)]),
        "PersistentVolumeClaim",
    );
    assert_eq!(
        made["metadata"]["ownerReferences"],
        object::<Value>(&format!("[{of_set}]"))
    );
}

#[test]
fn only_pods_of_its_name_are_adopted_and_they_get_its_labels() {
    let owned = ", ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: sts, controller: true}]";
    let orphan = pod(0, "new", READY).replace(owned, "");
    let other = orphan.replace("web-0", "other-0");
    let padded = orphan.replace("web-0", "web-00");
    let text = set(ROLLING, "");
    assert_eq!(
        plan(&[&text, &revision("new", 1), &other, &padded]),
        ["create pods a/web-0"]
    );
    let lines = plan(&[&text, &revision("new", 1), &orphan]);
    assert_eq!(lines[0], "confirm statefulsets.apps a/web");
    assert!(
        lines.len() == 2 && lines[1].starts_with("patch pods a/web-0"),
        "{lines:#?}"
    );
    let stray = pod(0, "new", READY).replace("app: web", "app: else");
    let lines = plan(&[&text, &revision("new", 1), &stray]);
    assert!(lines.len() == 1 && lines[0].contains("null"), "{lines:#?}");
    let misnamed =
        pod(0, "new", READY).replace("name: web-0, namespace", "name: other-0, namespace");
    let lines = plan(&[&text, &revision("new", 1), &misnamed]);
    assert!(lines.len() == 1 && lines[0].contains("null"), "{lines:#?}");
    let bare = pod(0, "new", READY).replace(", statefulset.kubernetes.io/pod-name: web-0", "");
    assert_eq!(
        run(&[&text, &revision("new", 1), &bare]).lines()[1..],
        [
            "patch pods a/web-0 {\"metadata\":{\"labels\":{\"apps.kubernetes.io/pod-index\":\"0\",\"statefulset.kubernetes.io/pod-name\":\"web-0\"}}}",
            "  then event Normal a/web SuccessfulUpdate: update Pod web-0 in StatefulSet web successful",
        ]
    );
}

fn status(parts: &[&str]) -> Value {
    let line = run(parts)
        .lines()
        .into_iter()
        .find(|line| line.contains("/status"));
    let line = line.expect("a status");
    let body = line
        .strip_prefix("patch statefulsets.apps/status a/web ")
        .unwrap();
    serde_json::from_str::<Value>(body).unwrap()["status"].clone()
}

#[test]
fn the_status_counts_pods_and_ends_an_update() {
    let revisions = [revision("old", 1), revision("new", 2)].concat();
    let text = set(
        &format!("replicas: 3, {ROLLING}"),
        "currentRevision: web-old, collisionCount: 2",
    );
    let pods = [
        pod(0, "old", READY),
        pod(1, "old", UNREADY),
        going(&pod(2, "new", READY)),
        pod(3, "new", READY),
    ]
    .concat();
    assert_eq!(
        status(&[&text, &revisions, &pods]),
        json!({"observedGeneration": 2, "replicas": 4, "readyReplicas": 3, "currentReplicas": 2, "updatedReplicas": 1,
            "availableReplicas": 3, "currentRevision": "web-old", "updateRevision": "web-new", "collisionCount": 2})
    );
    let done = [
        pod(0, "new", READY),
        pod(1, "new", READY),
        pod(2, "new", READY),
    ]
    .concat();
    let complete = status(&[&text, &revisions, &done]);
    assert_eq!(
        (&complete["currentRevision"], &complete["currentReplicas"]),
        (&json!("web-new"), &json!(3))
    );
    let on_delete = text.replace("type: RollingUpdate", "type: OnDelete");
    assert_eq!(
        status(&[&on_delete, &revisions, &done])["currentRevision"],
        "web-old"
    );
}

#[test]
fn a_pod_counts_when_it_has_been_ready_for_long_enough() {
    let text = set(&format!("replicas: 2, minReadySeconds: 30, {ROLLING}"), "");
    let young = pod(0, "new", &READY.replace("09:00:00", "09:59:50"));
    assert_eq!(
        plan(&[&text, &revision("new", 1), &young]),
        ["again in 20.001s"]
    );
    let old = pod(0, "new", READY);
    assert_eq!(
        plan(&[&text, &revision("new", 1), &old]),
        ["create pods a/web-1"]
    );
}

#[test]
fn old_revisions_go_unless_something_has_them() {
    let revisions: String = (1..)
        .zip(["a", "b", "c", "old", "new"])
        .map(|(n, image)| revision(image, n))
        .collect();
    let text = set(
        &format!("replicas: 2, {ROLLING}"),
        "currentRevision: web-old",
    );
    let pods = [pod(0, "a", READY), pod(1, "new", UNREADY)].concat();
    assert_eq!(
        plan(&[&text, &revisions, &pods]),
        ["delete controllerrevisions.apps a/web-b"]
    );
}

#[test]
fn a_set_that_is_deleted_only_reports() {
    let deleted = set(&format!("replicas: 3, {ROLLING}"), "").replace(
        "uid: sts, gen",
        "uid: sts, deletionTimestamp: '2026-01-01T00:00:00Z', gen",
    );
    let lines = run(&[
        &deleted,
        &revision("new", 1),
        &pod(0, "new", "phase: Failed"),
    ])
    .lines();
    assert!(
        lines.len() == 1 && lines[0].contains("/status"),
        "{lines:#?}"
    );
    assert_eq!(run(&[&deleted]), Plan::none());
    assert_eq!(run(&[""]), Plan::none());
}

#[test]
fn odd_objects_do_no_harm() {
    for spec in [
        "replicas: -4, ordinals: {start: 2147483647}, minReadySeconds: -1",
        "replicas: 2147483647, ordinals: {start: 2147483647}, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: -9, maxUnavailable: 99999999999%}}",
        "podManagementPolicy: Parallel, updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: x}}, volumeClaimTemplates: [{}, null, {metadata: {name: v}}]",
        "updateStrategy: {type: RollingUpdate}",
    ] {
        for pods in ["", "NOo-F", "OO"] {
            let mut text = [
                set(spec, "currentReplicas: -1"),
                revision("new", i64::MAX),
                revision("old", i64::MAX),
            ]
            .concat();
            for (ordinal, _) in (0..).zip(pods.chars()) {
                text.push_str(&pod(ordinal, "old", READY));
            }
            assert!(plan(&[&text]).len() < 20, "{spec}");
        }
    }
    assert_eq!(member("web-0"), Some(("web", 0)));
    for name in [
        "web",
        "web-",
        "web--1x",
        "web-01",
        "web-+1",
        "web-2147483648",
        "-",
    ] {
        assert_eq!(member(name), None, "{name}");
    }
}

#[test]
fn a_claim_tells_by_its_name_of_which_sets_it_may_be() {
    for (claim, sets) in [
        ("data-web-0", "web"),
        ("my-data-web-1", "data-web web"),
        ("data-web-db-12", "web-db db"),
        ("data-web", ""),
        ("data-web-01", ""),
        ("data-0", ""),
        ("-0", ""),
    ] {
        let found: Vec<&str> = claims::sets_of(claim).collect();
        assert_eq!(found.join(" "), sets, "{claim}");
    }
}

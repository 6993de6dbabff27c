use super::*;
use crate::testing::{object, world};
use agent_runtime::kinds::ControllerRevision;
use serde_json::{Value, json};

/// A DaemonSet with the template of image `new`, and what its spec has besides.
fn set(spec: &str) -> String {
    format!(
        "kind: DaemonSet\nmetadata: {{name: d, namespace: a, uid: ds, generation: 2}}\n\
         spec: {{selector: {{matchLabels: {{app: d}}}}, revisionHistoryLimit: 1, {spec}, template: {}}}\n",
        template("new")
    )
}

fn template(image: &str) -> String {
    format!(
        "{{metadata: {{labels: {{app: d}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}"
    )
}

const ROLLING: &str =
    "updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}";
const SURGING: &str =
    "updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}";
const ON_DELETE: &str = "updateStrategy: {type: OnDelete}";

/// A revision of the set, labelled with its image.
fn revision(image: &str, number: i64) -> String {
    let data = history::data(&object(&template(image)));
    format!(
        "---\nkind: ControllerRevision\nmetadata: {{name: d-{image}, namespace: a, uid: r-{image}, labels: {{app: d, controller-revision-hash: {image}}}, \
         ownerReferences: [{{apiVersion: apps/v1, kind: DaemonSet, name: d, uid: ds, controller: true}}]}}\ndata: {data}\nrevision: {number}\n"
    )
}

fn node(name: &str, taint: &str) -> String {
    let taints = if taint.is_empty() {
        String::new()
    } else {
        format!("spec: {{taints: [{{key: t, effect: {taint}}}]}}\n")
    };
    format!("---\nkind: Node\nmetadata: {{name: {name}, uid: {name}}}\n{taints}")
}

fn pod(name: &str, node: &str, hash: &str, status: &str) -> String {
    format!(
        "---\nkind: Pod\nmetadata: {{name: {name}, namespace: a, uid: {name}, creationTimestamp: '2026-01-01T00:00:00Z', labels: {{app: d, controller-revision-hash: {hash}}}, \
         ownerReferences: [{{apiVersion: apps/v1, kind: DaemonSet, name: d, uid: ds, controller: true}}]}}\nspec: {{nodeName: {node}}}\nstatus: {{{status}}}\n"
    )
}

fn going(pod: &str) -> String {
    pod.replace(
        "namespace: a",
        "namespace: a, deletionTimestamp: '2026-01-01T09:59:00Z'",
    )
}

const READY: &str = "phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T09:00:00Z'}]";
const UNREADY: &str = "phase: Running, conditions: [{type: Ready, status: 'False'}]";

fn run(parts: &[&str]) -> Plan {
    reconcile(&Key::new("a", "d"), &world(&parts.concat()))
}

/// The lines of a plan without those of the status and of events that tell of an operation.
fn plan(parts: &[&str]) -> Vec<String> {
    run(parts)
        .lines()
        .into_iter()
        .filter(|line| !line.contains("/status") && !line.starts_with("  then"))
        .collect()
}

fn status(parts: &[&str]) -> Value {
    let ops = run(parts).ops.into_iter();
    ops.filter_map(|op| match op {
        Op::Patch {
            subresource: Some("status"),
            body,
            ..
        } => Some(body["status"].clone()),
        _ => None,
    })
    .next()
    .unwrap_or_default()
}

/// The nodes for which pods are made.
fn nodes_of_creates(plan: &Plan) -> Vec<String> {
    let mut nodes = Vec::new();
    for op in &plan.ops {
        let Op::SlowStart(creates) = op else { continue };
        for create in creates {
            let Op::Reported { op, .. } = create else {
                panic!("{create:?}")
            };
            let Op::Create { body, .. } = &**op else {
                panic!("{op:?}")
            };
            let pod: Pod = serde_json::from_value(body.clone()).unwrap();
            nodes.push(target_node(&pod).unwrap().to_owned());
        }
    }
    nodes
}

#[test]
fn the_history_comes_first() {
    let text = set(ROLLING).replace(
        "generation: 2",
        "generation: 2, annotations: {why: because}",
    );
    let made = run(&[&text, &node("n1", "")]);
    let [Op::Create { body, .. }] = made.ops.as_slice() else {
        panic!("{:#?}", made.lines())
    };
    assert_eq!(body["kind"], "ControllerRevision");
    assert_eq!(body["revision"], 1);
    assert_eq!(body["data"]["spec"]["template"]["$patch"], "replace");
    assert_eq!(body["metadata"]["annotations"]["why"], "because");
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "ds");
    let labels = &body["metadata"]["labels"];
    let name = body["metadata"]["name"].as_str().unwrap();
    assert_eq!(labels["app"], "d");
    assert_eq!(
        name,
        format!("d-{}", labels["controller-revision-hash"].as_str().unwrap())
    );
}

#[test]
fn a_template_that_comes_back_gets_its_revision_back_under_the_next_number() {
    let text = [set(ROLLING), revision("new", 1), revision("old", 2)].concat();
    assert_eq!(
        plan(&[&text]),
        ["patch controllerrevisions.apps a/d-new {\"revision\":3}"]
    );
}

#[test]
fn a_name_that_is_taken_counts_a_collision() {
    let made = run(&[&set(ROLLING)]);
    let name = made.lines()[0].rsplit('/').next().unwrap().to_owned();
    let foreign = revision("other", 1)
        .replace("name: d-other", &format!("name: {name}"))
        .replace("uid: ds", "uid: someone");
    assert_eq!(
        run(&[&set(ROLLING), &foreign]).lines(),
        ["patch daemonsets.apps/status a/d {\"status\":{\"collisionCount\":1}}"]
    );
    let counted = format!("{}status: {{collisionCount: 1}}\n", set(ROLLING));
    let next = run(&[&counted, &foreign]).lines();
    assert!(next[0].starts_with("create controllerrevisions.apps") && !next[0].ends_with(&name));
}

#[test]
fn revisions_of_one_template_become_one() {
    let twin = revision("new", 1)
        .replace("d-new", "d-twin")
        .replace("hash: new", "hash: twin");
    let parts = [
        set(ROLLING),
        revision("new", 2),
        twin,
        node("n1", ""),
        pod("p1", "n1", "twin", READY),
        pod("p2", "n2", "older", READY),
    ];
    assert_eq!(
        plan(&[&parts.concat()]),
        [
            "patch pods a/p1 {\"metadata\":{\"labels\":{\"controller-revision-hash\":\"new\"}}}",
            "delete controllerrevisions.apps a/d-twin",
        ]
    );
    let bare = revision("new", 2).replace(", controller-revision-hash: new", "");
    assert_eq!(
        plan(&[&set(ROLLING), &bare]),
        [
            "patch controllerrevisions.apps a/d-new {\"metadata\":{\"labels\":{\"controller-revision-hash\":\"d-new\"}}}"
        ]
    );
}

#[test]
fn old_revisions_go_unless_a_pod_has_them() {
    let parts = [
        set(ON_DELETE),
        revision("a", 1),
        revision("b", 2),
        revision("c", 3),
        revision("new", 4),
        node("n1", ""),
        pod("p1", "n1", "a", READY),
    ];
    assert_eq!(
        plan(&[&parts.concat()]),
        [
            "delete controllerrevisions.apps a/d-b",
            "delete controllerrevisions.apps a/d-c"
        ]
    );
}

#[test]
fn orphans_are_adopted_and_strangers_released() {
    let owned = ", ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, uid: ds, controller: true}]";
    let orphan = |text: String| text.replace(owned, "");
    let parts = [
        set(ROLLING),
        orphan(revision("new", 1)),
        orphan(pod("orphan", "n1", "new", READY)),
        pod("stray", "n1", "new", READY).replace("app: d", "app: e"),
        pod("foreign", "n1", "new", READY).replace("uid: ds", "uid: someone"),
    ];
    let lines = plan(&[&parts.concat()]);
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(lines[0].starts_with("patch pods a/stray") && lines[0].contains("null"));
    assert_eq!(lines[1], "confirm daemonsets.apps a/d");
    assert!(lines[2].starts_with("patch pods a/orphan"));
    assert_eq!(lines[3], "confirm daemonsets.apps a/d");
    assert!(lines[4].starts_with("patch controllerrevisions.apps a/d-new"));
}

#[test]
fn pods_come_to_the_nodes_that_fit_and_leave_those_that_do_not() {
    let parts = [
        set(ROLLING),
        revision("new", 1),
        node("bare", ""),
        node("taken", ""),
        pod("p1", "taken", "new", READY),
        node("closed", "NoSchedule"),
        pod("p2", "closed", "new", READY),
        node("closed-and-empty", "NoSchedule"),
        node("forbidden", "NoExecute"),
        pod("p3", "forbidden", "new", READY),
        node("leaving", ""),
        going(&pod("p4", "leaving", "new", READY)),
        node("ended", ""),
        going(&pod("p5", "ended", "new", "phase: Failed")),
    ];
    let plan = run(&[&parts.concat()]);
    assert_eq!(nodes_of_creates(&plan), ["bare", "ended"]);
    assert!(plan.lines().contains(&"delete pods a/p3".to_owned()));
    assert_eq!(
        plan.lines()
            .iter()
            .filter(|l| l.starts_with("delete"))
            .count(),
        1
    );
    let status = status(&[&parts.concat()]);
    assert_eq!(
        status,
        json!({"currentNumberScheduled": 2, "desiredNumberScheduled": 4, "numberMisscheduled": 2, "numberReady": 2,
            "observedGeneration": 2, "updatedNumberScheduled": 2, "numberAvailable": 2, "numberUnavailable": 2})
    );
}

#[test]
fn a_new_pod_is_labelled_tied_and_owned() {
    let text = set(ROLLING).replace(
        "generation: 2",
        "generation: 2, annotations: {deprecated.daemonset.template.generation: '7'}",
    );
    let plan = run(&[&text, &revision("new", 1), &node("n1", "")]);
    let created = plan.ops.iter().find_map(|op| match op {
        Op::SlowStart(creates) => match &creates[0] {
            Op::Reported { op, .. } => Some(op.clone()),
            _ => None,
        },
        _ => None,
    });
    let Some(Op::Create { body, .. }) = created.as_deref() else {
        panic!("{:#?}", plan.lines())
    };
    let metadata = &body["metadata"];
    assert_eq!(
        metadata["labels"],
        json!({"app": "d", "controller-revision-hash": "new", "pod-template-generation": "7"})
    );
    assert_eq!(metadata["generateName"], "d-");
    assert_eq!(metadata["ownerReferences"][0]["kind"], "DaemonSet");
    assert!(body["spec"]["nodeName"].is_null(), "the scheduler binds it");
    assert_eq!(body["spec"]["tolerations"].as_array().unwrap().len(), 6);
    let lines = plan.lines();
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("  then event Normal a/d SuccessfulCreate: Created pod: d-")
    );
}

#[test]
fn of_several_pods_on_a_node_the_oldest_that_has_it_stays() {
    let waiting = "spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]}}}}";
    let parts = [
        set(ROLLING),
        revision("new", 1),
        node("n1", ""),
        pod("older", "n1", "new", READY).replace("T00:00:00Z', labels", "T01:00:00Z', labels"),
        pod("newer", "n1", "new", READY).replace("T00:00:00Z', labels", "T02:00:00Z', labels"),
        pod("unbound", "n1", "new", "phase: Pending").replace("spec: {nodeName: n1}", waiting),
    ];
    assert_eq!(
        plan(&[&parts.concat()]),
        ["delete pods a/newer", "delete pods a/unbound"]
    );
}

#[test]
fn a_pod_that_waits_for_a_node_that_is_gone_goes_too() {
    let waiting = "spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [gone]}]}]}}}}";
    let parts = [
        set(ROLLING),
        revision("new", 1),
        pod("waits", "gone", "new", "phase: Pending").replace("spec: {nodeName: gone}", waiting),
        pod("was-there", "gone", "new", READY),
    ];
    assert_eq!(plan(&[&parts.concat()]), ["delete pods a/waits"]);
}

#[test]
fn pods_that_ended_are_replaced_and_said() {
    let parts = [
        set(ROLLING),
        revision("new", 1),
        node("n1", ""),
        pod("failed", "n1", "new", "phase: Failed"),
        node("n2", ""),
        pod("done", "n2", "new", "phase: Succeeded"),
    ];
    let world = world(&parts.concat());
    let first = reconcile(&Key::new("a", "d"), &world).lines();
    assert_eq!(
        first[1..],
        [
            "event Warning a/d FailedDaemonPod: Found failed daemon pod a/failed on node n1, will try to kill it",
            "event Normal a/d SucceededDaemonPod: Found succeeded daemon pod a/done on node n2, will try to delete it",
            "delete pods a/failed",
            "  then event Normal a/d SuccessfulDelete: Deleted pod: failed",
            "delete pods a/done",
            "  then event Normal a/d SuccessfulDelete: Deleted pod: done",
        ]
    );
    // The node failed it again at once.
    let second = reconcile(&Key::new("a", "d"), &world).lines();
    assert!(
        !second.contains(&"delete pods a/failed".to_owned()),
        "{second:#?}"
    );
    assert_eq!(second.last().unwrap(), "again in 1s");
}

#[test]
fn of_a_thousand_failing_pods_a_bounded_number_is_replaced_at_a_time() {
    let mut text = [set(ON_DELETE), revision("new", 1)].concat();
    for n in 0..1000 {
        text.push_str(&node(&format!("n{n}"), ""));
        text.push_str(&pod(
            &format!("p{n}"),
            &format!("n{n}"),
            "new",
            "phase: Failed",
        ));
    }
    let world = world(&text);
    let key = Key::new("a", "d");
    let mut deleted = Vec::new();
    loop {
        let lines = reconcile(&key, &world).lines();
        let now = lines
            .iter()
            .filter(|line| line.starts_with("delete pods"))
            .count();
        let said = lines
            .iter()
            .filter(|line| line.contains("FailedDaemonPod"))
            .count();
        assert!(now <= BURST && said == now);
        deleted.push(now);
        if now == 0 {
            assert!(lines.last().unwrap().starts_with("again in"), "{lines:?}");
            break;
        }
    }
    assert_eq!(deleted, [250, 250, 250, 250, 0]);
    let mut bare = [set(ON_DELETE), revision("new", 1)].concat();
    (0..1000).for_each(|n| bare.push_str(&node(&format!("n{n}"), "")));
    assert_eq!(nodes_of_creates(&run(&[&bare])).len(), BURST);
}

/// Five nodes whose pods are `old` or `new`, ready or not: `O`, `o`, `N`, `n`, `-` for a pod that is going.
fn rollout(spec: &str, pods: &str) -> Plan {
    let mut text = [set(spec), revision("old", 1), revision("new", 2)].concat();
    for (n, state) in pods.chars().enumerate() {
        let name = format!("n{n}");
        text.push_str(&node(&name, ""));
        let of = |hash, status| pod(&format!("p{n}"), &name, hash, status);
        text.push_str(&match state {
            'O' => of("old", READY),
            'o' => of("old", UNREADY),
            'N' => of("new", READY),
            'n' => of("new", UNREADY),
            // Both, the new one not ready and ready.
            'x' => {
                of("old", READY) + &of("new", UNREADY).replace(&format!("p{n}"), &format!("q{n}"))
            }
            'X' => of("old", READY) + &of("new", READY).replace(&format!("p{n}"), &format!("q{n}")),
            _ => going(&of("old", READY)),
        });
    }
    run(&[&text])
}

fn deletes(plan: &Plan) -> Vec<String> {
    let lines = plan.lines().into_iter();
    lines
        .filter_map(|line| line.strip_prefix("delete pods a/").map(str::to_owned))
        .collect()
}

#[test]
fn a_rolling_update_takes_as_many_pods_down_as_may_be_missing() {
    for (bound, pods, wanted) in [
        ("1", "OOOOO", vec!["p0"]),
        ("2", "OOOOO", vec!["p0", "p1"]),
        ("1", "-OOOO", vec![]),
        ("1", "nOOOO", vec![]),
        ("1", "NOOOO", vec!["p1"]),
        // Old pods that serve nobody go whatever the bound.
        ("1", "oOoOO", vec!["p0", "p2"]),
        ("3", "oOOOO", vec!["p0", "p1", "p2"]),
        // 30 % of five is rounded up.
        ("30%", "OOOOO", vec!["p0", "p1"]),
        ("0", "OOOOO", vec!["p0"]),
        ("1", "NNNNN", vec![]),
    ] {
        let spec = ROLLING.replace("maxUnavailable: 1", &format!("maxUnavailable: {bound}"));
        assert_eq!(deletes(&rollout(&spec, pods)), wanted, "{bound} {pods}");
    }
}

#[test]
fn a_surging_update_brings_new_pods_before_it_takes_old_ones() {
    for (surge, pods, created) in [
        ("1", "OOOOO", vec!["n0"]),
        ("30%", "OOOOO", vec!["n0", "n1"]),
        ("1", "xOOOO", vec![]),
        ("2", "xOOOO", vec!["n1"]),
        // Where the old pod serves nobody, the new one comes at once and does not count.
        ("1", "oOOOO", vec!["n0", "n1"]),
        ("1", "-OOOO", vec!["n0"]),
    ] {
        let spec = SURGING.replace("maxSurge: 1", &format!("maxSurge: {surge}"));
        let plan = rollout(&spec, pods);
        assert_eq!(nodes_of_creates(&plan), created, "{surge} {pods}");
        assert_eq!(deletes(&plan).len(), 0, "{surge} {pods}");
    }
    let plan = rollout(SURGING, "XOOOO");
    assert_eq!(deletes(&plan), ["p0"]);
}

#[test]
fn while_surging_pods_of_a_node_that_is_not_wanted_serve_until_others_do() {
    let parts = |ready: &str| {
        [
            set(SURGING),
            revision("old", 1),
            revision("new", 2),
            node("closed", "NoSchedule"),
            pod("p0", "closed", "old", READY),
            node("n1", ""),
            pod("p1", "n1", "new", ready),
        ]
        .concat()
    };
    assert_eq!(plan(&[&parts(UNREADY)]), Vec::<String>::new());
    assert_eq!(plan(&[&parts(READY)]), ["delete pods a/p0"]);
}

#[test]
fn on_delete_leaves_old_pods_alone() {
    let plan = rollout(ON_DELETE, "OONNo");
    assert_eq!(
        (deletes(&plan).len(), nodes_of_creates(&plan).len()),
        (0, 0)
    );
}

#[test]
fn a_pod_is_of_the_current_template_by_its_number_too() {
    let numbered = set(ROLLING).replace(
        "generation: 2",
        "generation: 2, annotations: {deprecated.daemonset.template.generation: '4'}",
    );
    let with = |label: &str| {
        let older = pod("p0", "n0", "unknown", READY);
        let labelled = older.replace(
            "app: d,",
            &format!("app: d, pod-template-generation: '{label}',"),
        );
        plan(&[&numbered, &revision("new", 2), &node("n0", ""), &labelled])
    };
    assert_eq!(with("4"), Vec::<String>::new());
    assert_eq!(with("3"), ["delete pods a/p0"]);
}

#[test]
fn a_pod_counts_when_it_has_been_ready_for_long_enough() {
    let text = [
        set(&format!("minReadySeconds: 30, {ROLLING}")),
        revision("new", 1),
        node("n0", ""),
        pod("p0", "n0", "new", &READY.replace("09:00:00", "09:59:50")),
    ]
    .concat();
    let status = status(&[&text]);
    assert_eq!(
        (&status["numberReady"], &status["numberAvailable"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(run(&[&text]).lines().last().unwrap(), "again in 20.001s");
}

#[test]
fn a_set_that_is_deleted_or_selects_everything_does_not_act() {
    let deleted = set(ROLLING).replace(
        "uid: ds",
        "uid: ds, deletionTimestamp: '2026-01-01T00:00:00Z'",
    );
    assert_eq!(run(&[&deleted, &node("n", "")]), Plan::none());
    let all = set(ROLLING).replace("{matchLabels: {app: d}}", "{}");
    assert_eq!(
        run(&[&all, &node("n", "")]).lines(),
        [
            "event Warning a/d SelectingAll: This daemon set is selecting all pods. A non-empty selector is required."
        ]
    );
    assert_eq!(run(&[""]), Plan::none());
}

#[test]
fn odd_objects_do_no_harm() {
    for spec in [
        "updateStrategy: {rollingUpdate: {maxUnavailable: -5, maxSurge: x}}, minReadySeconds: -1",
        "updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 900%, maxSurge: 99999999999%}}, minReadySeconds: 2147483647",
        "updateStrategy: {type: RollingUpdate}",
    ] {
        let text = set(spec).replace("revisionHistoryLimit: 1", "revisionHistoryLimit: -1");
        let broken = ControllerRevision::default();
        assert!(history::template(&broken).is_none());
        let lines = plan(&[
            &text,
            &revision("new", i64::MAX),
            &revision("old", i64::MAX - 1),
            &node("n", ""),
            &pod("p", "n", "old", READY),
        ]);
        assert!(lines.len() < 10, "{lines:#?}");
    }
    let plain = set(ROLLING).replace(&template("new"), "null");
    assert!(run(&[&plain]).lines()[0].starts_with("create controllerrevisions"));
}

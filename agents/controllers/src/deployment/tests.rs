use super::*;
use crate::testing::world;

fn deployment(spec: &str, status: &str) -> String {
    format!(
        "kind: Deployment\nmetadata: {{name: web, namespace: a, uid: d, generation: 1, annotations: {{deployment.kubernetes.io/revision: '1'}}}}\n\
         spec: {{selector: {{matchLabels: {{app: web}}}}, progressDeadlineSeconds: 600, revisionHistoryLimit: 1, {spec}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: new}}]}}}}}}\n\
         status: {{{status}}}\n"
    )
}

/// A set of the Deployment: image, wanted size, available replicas, revision, desired and maximal total it was sized for.
fn set(
    name: &str,
    image: &str,
    size: i32,
    available: i32,
    revision: i32,
    totals: (i32, i32),
) -> String {
    let (desired, max) = totals;
    format!(
        "---\nkind: ReplicaSet\nmetadata: {{name: {name}, namespace: a, uid: {name}, labels: {{app: web}}, creationTimestamp: '2026-01-01T0{revision}:00:00Z', ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, uid: d, controller: true}}], \
         annotations: {{deployment.kubernetes.io/revision: '{revision}', deployment.kubernetes.io/desired-replicas: '{desired}', deployment.kubernetes.io/max-replicas: '{max}'}}}}\n\
         spec: {{replicas: {size}, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web, pod-template-hash: {name}}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}}}\n\
         status: {{replicas: {size}, readyReplicas: {available}, availableReplicas: {available}}}\n"
    )
}

fn plan(text: &str) -> Vec<String> {
    reconcile(&Key::new("a", "web"), &world(text)).lines()
}

fn sizes(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter(|l| l.starts_with("  then event"))
        .map(|l| l.rsplit("replica set ").next().unwrap().to_owned())
        .collect()
}

const PROGRESSING: &str = "conditions: [{type: Progressing, status: 'True', reason: ReplicaSetUpdated, lastUpdateTime: '2026-01-01T09:59:00Z', lastTransitionTime: '2026-01-01T09:00:00Z'}]";

#[test]
fn the_first_set_is_created_whole() {
    let lines = plan(&deployment("replicas: 3", ""));
    assert!(
        lines[0].starts_with("create replicasets.apps a/web-"),
        "{lines:#?}"
    );
    assert!(lines[1].ends_with("from 0 to 3"), "{lines:#?}");
    assert!(lines[2].contains("NewReplicaSetCreated"), "{lines:#?}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_new_template_starts_within_the_surge_and_gets_the_next_revision() {
    let text = [
        deployment("replicas: 4", ""),
        set("old", "old", 4, 4, 1, (4, 5)),
    ]
    .concat();
    let lines = plan(&text);
    assert!(lines[1].ends_with("from 0 to 1"), "{lines:#?}");
    assert!(
        lines[3].contains("\"deployment.kubernetes.io/revision\":\"2\""),
        "{lines:#?}"
    );
}

#[test]
fn metadata_that_is_there_by_default_makes_no_other_set_of_a_template() {
    let with = |text: String, claim: &str| {
        let volume = format!("{{name: v, ephemeral: {{volumeClaimTemplate: {{{claim}}}}}}}");
        text.replace(
            "image: new}]",
            &format!("image: new}}], volumes: [{volume}]"),
        )
    };
    let bare = "spec: {storageClassName: fast}";
    let empty = format!("metadata: {{}}, {bare}");
    let named = format!("metadata: {{labels: {{a: b}}}}, {bare}");
    let created = |claim: &str, sets: &str| {
        let head = with(deployment("replicas: 2", PROGRESSING), claim);
        let lines = plan(&[head.as_str(), sets].concat());
        let line = lines.into_iter().find(|line| line.starts_with("create "))?;
        Some(line.split_whitespace().nth(2)?.to_owned())
    };
    for claim in [bare, empty.as_str()] {
        let stored = with(set("one", "new", 2, 2, 1, (2, 3)), claim);
        assert_eq!(created(bare, &stored), None);
        assert_eq!(created(&empty, &stored), None);
        assert!(created(&named, &stored).is_some());
    }
    // The name, which is by a hash, is as it was.
    assert!(created(bare, "").is_some());
    assert_eq!(created(bare, ""), created(&empty, ""));
    assert_ne!(created(bare, ""), created(&named, ""));
}

#[test]
fn old_replicas_go_as_new_ones_become_available() {
    let spec = "replicas: 4, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}";
    let head = deployment(spec, PROGRESSING).replace("revision: '1'", "revision: '2'");
    let with = |old: (i32, i32), new: (i32, i32)| {
        plan(
            &[
                head.clone(),
                set("old", "old", old.0, old.1, 1, (4, 5)),
                set("new", "new", new.0, new.1, 2, (4, 5)),
            ]
            .concat(),
        )
    };
    assert_eq!(sizes(&with((4, 4), (1, 0))), ["old from 4 to 3"]);
    assert_eq!(sizes(&with((3, 3), (1, 1))), ["new from 1 to 2"]);
    assert_eq!(sizes(&with((3, 3), (2, 0))), Vec::<String>::new());
    assert_eq!(sizes(&with((3, 1), (2, 1))), ["old from 3 to 2"]);
    assert_eq!(sizes(&with((1, 1), (4, 4))), ["old from 1 to 0"]);
}

#[test]
fn what_a_smaller_set_still_counts_as_available_is_not_spent() {
    let spec = "replicas: 5, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 3, maxUnavailable: 2}}";
    let head = deployment(spec, PROGRESSING).replace("revision: '1'", "revision: '2'");
    let with = |old: (i32, i32), new: (i32, i32)| {
        plan(
            &[
                head.clone(),
                set("old", "old", old.0, old.1, 1, (5, 8)),
                set("new", "new", new.0, new.1, 2, (5, 8)),
            ]
            .concat(),
        )
    };
    assert_eq!(sizes(&with((4, 18), (5, 0))), ["old from 4 to 3"]);
    assert_eq!(sizes(&with((3, 3), (5, 9))), ["old from 3 to 0"]);
    assert_eq!(sizes(&with((3, 3), (5, 0))), Vec::<String>::new());
}

#[test]
fn what_a_set_says_of_an_earlier_size_is_not_spent() {
    let spec = "replicas: 4, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}";
    let head = deployment(spec, PROGRESSING).replace("revision: '1'", "revision: '2'");
    let with = |observed: i32| {
        // It was as large before, was made smaller, and is growing again.
        let new = set("new", "new", 3, 3, 2, (4, 5))
            .replace("uid: new,", "uid: new, generation: 3,")
            .replace(
                "status: {",
                &format!("status: {{observedGeneration: {observed}, "),
            );
        plan(&[head.clone(), set("old", "old", 2, 2, 1, (4, 5)), new].concat())
    };
    assert_eq!(sizes(&with(2)), Vec::<String>::new());
    assert_eq!(sizes(&with(3)), ["old from 2 to 0"]);
}

#[test]
fn no_surge_and_no_unavailability_still_moves() {
    let head = deployment("replicas: 1, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}", PROGRESSING).replace("revision: '1'", "revision: '2'");
    let lines = plan(
        &[
            head,
            set("old", "old", 1, 1, 1, (1, 1)),
            set("new", "new", 0, 0, 2, (1, 1)),
        ]
        .concat(),
    );
    assert_eq!(sizes(&lines), ["old from 1 to 0"]);
}

#[test]
fn completion_is_said_and_the_history_cut() {
    let head = deployment("replicas: 2", PROGRESSING).replace("revision: '1'", "revision: '4'");
    let sets = [
        set("a", "a", 0, 0, 1, (2, 3)),
        set("b", "b", 0, 0, 2, (2, 3)),
        set("c", "c", 0, 0, 3, (2, 3)),
        set("d", "new", 2, 2, 4, (2, 3)),
    ]
    .concat();
    let lines = plan(&[head, sets].concat());
    assert_eq!(
        lines[..2],
        ["delete replicasets.apps a/a", "delete replicasets.apps a/b"]
    );
    assert!(
        lines[2].contains("ReplicaSet \\\"d\\\" has successfully progressed.")
            && lines[2].contains("NewReplicaSetAvailable"),
        "{lines:#?}"
    );
    assert!(
        lines[2].contains("MinimumReplicasAvailable") && lines[2].contains("\"updatedReplicas\":2"),
        "{lines:#?}"
    );
}

#[test]
fn going_back_gives_the_old_set_the_next_revision_and_its_history() {
    let head = deployment("replicas: 2", PROGRESSING).replace("revision: '1'", "revision: '2'");
    let lines = plan(
        &[
            head,
            set("first", "new", 0, 0, 1, (2, 3)),
            set("second", "other", 2, 2, 2, (2, 3)),
        ]
        .concat(),
    );
    assert!(
        lines[0].contains("a/first")
            && lines[0].contains("revision\":\"3\"")
            && lines[0].contains("revision-history\":\"1\""),
        "{lines:#?}"
    );
    assert!(
        lines[1].starts_with("patch deployments.apps a/web") && lines[1].contains("\"3\""),
        "{lines:#?}"
    );
}

#[test]
fn a_change_of_size_in_mid_rollout_is_spread_in_proportion() {
    let head = deployment("replicas: 20, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 2, maxUnavailable: 2}}", PROGRESSING).replace("revision: '1'", "revision: '2'");
    let lines = plan(
        &[
            head,
            set("old", "old", 8, 8, 1, (10, 12)),
            set("new", "new", 4, 1, 2, (10, 12)),
        ]
        .concat(),
    );
    assert_eq!(sizes(&lines), ["old from 8 to 15", "new from 4 to 7"]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let head = deployment("replicas: 2, strategy: {type: Recreate}", PROGRESSING)
        .replace("revision: '1'", "revision: '2'");
    let lines = plan(&[head.clone(), set("old", "old", 2, 2, 1, (2, 2))].concat());
    assert_eq!(sizes(&lines), ["old from 2 to 0"]);
    let pod = "---\nkind: Pod\nmetadata: {name: p, namespace: a, uid: p, deletionTimestamp: '2026-01-01T00:00:00Z', labels: {app: web}, ownerReferences: [{kind: ReplicaSet, name: old, uid: old, controller: true}]}\n";
    let lines = plan(
        &[
            head.clone(),
            set("old", "old", 0, 0, 1, (2, 2)),
            pod.to_owned(),
        ]
        .concat(),
    );
    assert!(lines.iter().all(|l| !l.starts_with("create")), "{lines:#?}");
    let lines = plan(&[head, set("old", "old", 0, 0, 1, (2, 2))].concat());
    assert!(
        lines[0].starts_with("create replicasets") && lines[1].ends_with("from 0 to 2"),
        "{lines:#?}"
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let lines = plan(
        &[
            deployment(
                "replicas: 3, paused: true",
                "conditions: [{type: Progressing, status: Unknown, reason: DeploymentPaused}]",
            ),
            set("old", "old", 2, 2, 1, (2, 3)),
        ]
        .concat(),
    );
    assert_eq!(sizes(&lines), ["old from 2 to 3"]);
    let lines = plan(
        &[
            deployment("replicas: 2, paused: true", PROGRESSING),
            set("old", "old", 2, 2, 1, (2, 3)),
        ]
        .concat(),
    );
    assert!(
        lines[0].contains("DeploymentPaused") && lines.len() == 1,
        "{lines:#?}"
    );
}

#[test]
fn the_deadline_passes() {
    let late = PROGRESSING.replace("09:59:00", "09:00:00");
    let counts = "observedGeneration: 1, replicas: 1, updatedReplicas: 1, unavailableReplicas: 1, terminatingReplicas: 0,";
    let available = "{type: Available, status: 'False', reason: MinimumReplicasUnavailable}";
    let status = |progress: &str| {
        format!(
            "{counts} {}",
            progress.replace("conditions: [", &format!("conditions: [{available}, "))
        )
    };
    let lines = plan(
        &[
            deployment("replicas: 1", &status(&late)),
            set("new", "new", 1, 0, 1, (1, 2)),
        ]
        .concat(),
    );
    assert!(
        lines[0].contains("ProgressDeadlineExceeded")
            && lines[0].contains("has timed out progressing."),
        "{lines:#?}"
    );
    let lines = plan(
        &[
            deployment("replicas: 1", &status(PROGRESSING)),
            set("new", "new", 1, 0, 1, (1, 2)),
        ]
        .concat(),
    );
    assert_eq!(lines, ["again in 541s"]);
}

#[test]
fn a_taken_name_raises_the_collision_count() {
    let head = deployment("replicas: 1", "");
    let name = plan(&head)[0].rsplit('/').next().unwrap().to_owned();
    let foreign = format!(
        "---\nkind: ReplicaSet\nmetadata: {{name: {name}, namespace: a, uid: x, ownerReferences: [{{kind: Deployment, name: y, uid: y, controller: true}}]}}\nspec: {{template: {{}}}}\n"
    );
    assert_eq!(
        plan(&[head, foreign].concat()),
        ["patch deployments.apps/status a/web {\"status\":{\"collisionCount\":1}}"]
    );
}

#[test]
fn a_set_that_cannot_be_created_is_said_and_tried_again() {
    let with = |status: &str| {
        let mut world = world(&deployment("replicas: 1", status));
        world.last_failure = Some(agent_runtime::ApiError {
            code: 403,
            message: "exceeded quota".into(),
            ..Default::default()
        });
        reconcile(&Key::new("a", "web"), &world).lines()
    };
    let lines = with("");
    assert!(
        lines.len() == 1
            && lines[0].contains("ReplicaSetCreateError")
            && lines[0].contains("\"status\":\"False\"")
            && lines[0].contains("\\\": exceeded quota"),
        "{lines:#?}"
    );
    let said = "conditions: [{type: Progressing, status: 'False', reason: ReplicaSetCreateError}]";
    let lines = with(said);
    assert!(
        lines[0].starts_with("create replicasets.apps")
            && lines[2].contains("NewReplicaSetCreated"),
        "{lines:#?}"
    );
}

#[test]
fn annotations_follow_while_paused() {
    let head = deployment(
        "replicas: 2, paused: true",
        "conditions: [{type: Progressing, status: Unknown, reason: DeploymentPaused}]",
    )
    .replace(
        "revision: '1'",
        "revision: '1', kubernetes.io/change-cause: why",
    );
    let lines = plan(&[head, set("new", "new", 2, 2, 1, (2, 3))].concat());
    assert!(
        lines[0].starts_with("patch replicasets.apps a/new") && lines[0].contains("\"why\""),
        "{lines:#?}"
    );
}

#[test]
fn recreate_believes_the_set_before_its_own_cache_of_pods() {
    let head = deployment("replicas: 2, strategy: {type: Recreate}", PROGRESSING)
        .replace("revision: '1'", "revision: '2'");
    let old =
        set("old", "old", 0, 0, 1, (2, 2)).replace("status: {replicas: 0", "status: {replicas: 1");
    let lines = plan(&[head, old].concat());
    assert!(
        lines.iter().all(|line| !line.starts_with("create")),
        "{lines:#?}"
    );
}

#[test]
fn odd_annotations_and_numbers_do_no_harm() {
    let huge = set("old", "old", 1, 1, 1, (1, 2))
        .replace("revision: '1'", "revision: '9223372036854775807'")
        .replace("desired-replicas: '1'", "desired-replicas: 'x'")
        .replace("max-replicas: '2'", "max-replicas: '0'");
    let other =
        set("other", "other", 3, 3, 2, (4, 5)).replace("max-replicas: '5'", "max-replicas: '-7'");
    for spec in [
        "replicas: 2147483647, strategy: {rollingUpdate: {maxSurge: 100%, maxUnavailable: 100%}}",
        "replicas: -3, minReadySeconds: -1",
        "replicas: 0, strategy: {rollingUpdate: {maxSurge: -1, maxUnavailable: x}}",
        "replicas: 7, strategy: {type: Recreate}",
    ] {
        let head = deployment(spec, PROGRESSING)
            .replace("revisionHistoryLimit: 1", "revisionHistoryLimit: -1");
        for newest in [
            other.clone(),
            set("new", "new", 2, 1, 3, (9, 0)),
            set("new", "new", 7, -1, 3, (7, 9)),
        ] {
            let lines = plan(&[head.clone(), huge.clone(), newest].concat());
            assert!(!lines.is_empty(), "{spec}");
        }
    }
}

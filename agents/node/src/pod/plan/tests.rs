use serde_json::json;

use super::*;
use crate::pod::container::LABEL_SANDBOX;
use crate::runtime::{Exit, Identity, SANDBOX};

pub(super) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
}

fn pod(policy: &str) -> Pod {
    Pod::decode(&json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": [
                {"name": "i", "image": "x"},
                {"name": "s", "image": "x", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}},
            ],
            "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}],
        },
    }))
    .unwrap()
}

fn container(name: &str, attempt: u32, state: State) -> Observed {
    let hash = definition_hash(&Container {
        name: name.into(),
        image: "x".into(),
        ..Container::default()
    });
    Observed {
        id: format!("{name}{attempt}"),
        identity: Identity {
            pod_name: "p".into(),
            pod_namespace: "d".into(),
            pod_uid: "u".into(),
            container: name.into(),
            attempt,
        },
        state,
        created_at: at(0),
        image: "x".into(),
        image_id: String::new(),
        labels: [
            (LABEL_SANDBOX.to_owned(), format!("{SANDBOX}0")),
            (LABEL_HASH.to_owned(), hash),
        ]
        .into(),
        ip: None,
        pid: None,
        limits: None,
    }
}

fn running() -> State {
    State::Running { started_at: at(1) }
}

fn exited(code: i64) -> State {
    State::Exited(Exit {
        code,
        oom_killed: false,
        start_error: None,
        started_at: Some(at(1)),
        finished_at: at(100),
    })
}

/// Plans one second after the last exit and writes the actions down.
fn steps(pod: &Pod, containers: &[(&str, u32, State)], probes: &[(&str, Results)]) -> Vec<String> {
    let backoffs = Backoffs::default();
    write(&planned(pod, containers, probes, &backoffs))
}

fn planned(
    pod: &Pod,
    containers: &[(&str, u32, State)],
    probes: &[(&str, Results)],
    backoffs: &Backoffs,
) -> Plan {
    let all = containers
        .iter()
        .map(|(name, attempt, state)| container(name, *attempt, state.clone()))
        .collect();
    let probes = probes
        .iter()
        .map(|(id, results)| ((*id).to_owned(), *results))
        .collect();
    let observed = Observation::new(all);
    let holds = BTreeMap::new();
    plan(&Facts {
        pod,
        observed: &observed,
        backoffs,
        probes: &probes,
        holds: &holds,
        now: at(101),
    })
}

fn write(plan: &Plan) -> Vec<String> {
    let write = |action: &Action| match action {
        Action::Stop { id, reason, .. } => format!("stop {id} {reason:?}"),
        Action::StopSandbox { id } => format!("stop {id}"),
        Action::Remove { id } => format!("remove {id}"),
        Action::RunSandbox { attempt } => format!("sandbox {attempt}"),
        Action::Start {
            container, attempt, ..
        } => format!("start {container}{attempt}"),
    };
    plan.actions.iter().map(write).collect()
}

const STARTED: Results = Results {
    startup: Some(true),
    liveness: None,
    readiness: None,
};

#[test]
fn a_pod_comes_up_in_order() {
    let pod = pod("Always");
    let mut world = vec![];
    assert_eq!(steps(&pod, &world, &[]), ["sandbox 0"]);
    world.push((SANDBOX, 0, running()));
    assert_eq!(steps(&pod, &world, &[]), ["start i0"]);
    world.push(("i", 0, running()));
    assert!(
        steps(&pod, &world, &[]).is_empty(),
        "an init container has to end"
    );
    world[1].2 = exited(0);
    assert_eq!(steps(&pod, &world, &[]), ["start s0"]);
    world.push(("s", 0, running()));
    assert!(
        steps(&pod, &world, &[]).is_empty(),
        "a sidecar has to be started"
    );
    assert_eq!(
        steps(&pod, &world, &[("s0", STARTED)]),
        ["start a0", "start b0"]
    );
    world.push(("a", 0, running()));
    world.push(("b", 0, running()));
    assert!(steps(&pod, &world, &[]).is_empty(), "everything runs");
}

#[test]
fn an_ephemeral_container_is_started_once_whatever_the_others_do() {
    let mut pod = pod("Always");
    pod.spec.ephemeral_containers = vec![Container {
        name: "e".into(),
        image: "x".into(),
        ..Container::default()
    }];
    let mut world = vec![(SANDBOX, 0, running())];
    assert_eq!(steps(&pod, &world, &[]), ["start e0", "start i0"]);
    world.extend([("i", 0, running()), ("e", 0, State::Created)]);
    assert_eq!(steps(&pod, &world, &[]), ["start e0"], "it has not begun");
    for state in [running(), exited(0), exited(1)] {
        world[2].2 = state;
        assert!(steps(&pod, &world, &[]).is_empty());
    }
    world.pop();
    pod.status = json!({"ephemeralContainerStatuses": [
        {"name": "e", "restartCount": 0, "containerID": "docker://e0"}]});
    assert!(
        steps(&pod, &world, &[]).is_empty(),
        "somebody has removed it"
    );
}

#[test]
fn restart_policies() {
    let base = [
        (SANDBOX, 0, running()),
        ("i", 0, exited(0)),
        ("s", 0, running()),
    ];
    let cases: &[(&str, i64, i64, &[&str])] = &[
        ("Always", 0, 1, &["start a1", "start b1"]),
        ("OnFailure", 0, 1, &["start b1"]),
        ("OnFailure", 0, 0, &["stop s0 PodFinished"]),
        ("Never", 0, 1, &["stop s0 PodFinished"]),
    ];
    for (policy, a, b, expected) in cases {
        let mut world = base.to_vec();
        world.extend([("a", 0, exited(*a)), ("b", 0, exited(*b))]);
        assert_eq!(
            steps(&pod(policy), &world, &[("s0", STARTED)]),
            *expected,
            "{policy} {a} {b}"
        );
    }
}

#[test]
fn a_container_may_have_a_policy_of_its_own() {
    let mut pod = pod("Never");
    pod.spec.init_containers.clear();
    let container = |fields: serde_json::Value| -> Container {
        let mut container = json!({"name": "a", "image": "x"});
        container
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        serde_json::from_value(container).unwrap()
    };
    let rule = |operator: &str| {
        json!({"restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": operator, "values": [42, 43]}}]})
    };
    let cases = [
        (json!({}), 1, false),
        (json!({"restartPolicy": "OnFailure"}), 1, true),
        (json!({"restartPolicy": "OnFailure"}), 0, false),
        (json!({"restartPolicy": "Always"}), 0, true),
        (rule("In"), 42, true),
        (rule("In"), 1, false),
        (rule("NotIn"), 1, true),
        (rule("NotIn"), 43, false),
    ];
    for (fields, code, expected) in cases {
        pod.spec.containers[0] = container(fields.clone());
        let in_sandbox = [
            (SANDBOX, 0, running()),
            ("a", 0, exited(code)),
            ("b", 0, exited(0)),
        ];
        let restarted = steps(&pod, &in_sandbox, &[]) == ["start a1"];
        assert_eq!(restarted, expected, "{fields} {code}");
        let without = [("a", 0, exited(code)), ("b", 0, exited(0))];
        let anew = steps(&pod, &without, &[]) == ["sandbox 0"];
        assert_eq!(anew, expected, "{fields} {code}");
    }
}

#[test]
fn a_failed_init_container_is_retried_or_ends_the_pod() {
    let world = [(SANDBOX, 0, running()), ("i", 0, exited(1))];
    assert_eq!(steps(&pod("Always"), &world, &[]), ["start i1"]);
    assert_eq!(steps(&pod("OnFailure"), &world, &[]), ["start i1"]);
    assert_eq!(steps(&pod("Never"), &world, &[]), ["stop POD0"]);
}

#[test]
fn sidecars_are_restarted_for_ever_and_init_containers_never_again() {
    let world = [
        (SANDBOX, 0, running()),
        ("s", 0, exited(0)),
        ("a", 0, running()),
        ("b", 0, running()),
    ];
    assert_eq!(steps(&pod("Never"), &world, &[]), ["start s1"]);
}

#[test]
fn crashes_wait_for_their_backoff() {
    let mut backoffs = Backoffs::default();
    backoffs.next("a", at(90), at(90));
    backoffs.next("a", at(100), at(100));
    let world = [
        (SANDBOX, 0, running()),
        ("i", 0, exited(0)),
        ("s", 0, running()),
        ("a", 2, exited(1)),
        ("a", 1, exited(1)),
        ("a", 0, exited(1)),
        ("b", 0, running()),
    ];
    let plan = planned(&pod("Always"), &world, &[("s0", STARTED)], &backoffs);
    assert_eq!(write(&plan), ["remove a0"]);
    assert_eq!(plan.wake_at, Some(at(120)));
    assert_eq!(plan.waiting["a"].reason, "CrashLoopBackOff");
    assert_eq!(
        plan.waiting["a"].message,
        "back-off 20s restarting failed container=a pod=p_d(u)"
    );
}

#[test]
fn probes_and_changed_images_stop_a_container() {
    let base = [
        (SANDBOX, 0, running()),
        ("i", 0, exited(0)),
        ("s", 0, running()),
        ("b", 0, running()),
    ];
    let mut world = base.to_vec();
    world.push(("a", 0, running()));
    let dead = Results {
        liveness: Some(false),
        ..Results::default()
    };
    let probes = [("s0", STARTED), ("a0", dead)];
    assert_eq!(
        steps(&pod("Always"), &world, &probes),
        ["stop a0 Probe(Liveness)"]
    );
    let mut changed = pod("Always");
    changed.spec.containers[0].image = "y".into();
    assert_eq!(
        steps(&changed, &world, &[("s0", STARTED)]),
        ["stop a0 DefinitionChanged"]
    );
}

#[test]
fn other_amounts_restart_a_container_that_asks_for_it() {
    let mut pod = pod("OnFailure");
    pod.spec.init_containers.clear();
    let resized = |memory: &str| {
        serde_json::from_value::<Container>(json!({"name": "a", "image": "x",
            "resources": {"limits": {"memory": memory}},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}))
        .unwrap()
    };
    pod.spec.containers = vec![resized("2Gi")];
    let steps = |state: State| {
        let mut one = container("a", 0, state);
        let before = definition_hash(&resized("1Gi"));
        one.labels.insert(LABEL_HASH.to_owned(), before);
        let observed = Observation::new(vec![container(SANDBOX, 0, running()), one]);
        write(&plan(&Facts {
            pod: &pod,
            observed: &observed,
            backoffs: &Backoffs::default(),
            probes: &BTreeMap::new(),
            holds: &BTreeMap::new(),
            now: at(101),
        }))
    };
    assert_eq!(steps(running()), ["stop a0 Resized"]);
    for code in [0, 143] {
        assert_eq!(steps(exited(code)), ["start a1"], "{code}");
    }
}

#[test]
fn a_dead_sandbox_is_replaced_and_restarts_everything() {
    let world = [
        (SANDBOX, 0, exited(0)),
        ("i", 0, exited(0)),
        ("a", 0, running()),
        ("b", 0, exited(0)),
    ];
    assert_eq!(
        steps(&pod("Always"), &world, &[]),
        ["stop a0 SandboxChanged", "remove POD0", "sandbox 1"]
    );
    assert_eq!(
        steps(&pod("Never"), &world, &[]),
        ["stop a0 SandboxChanged"]
    );
    let world = [
        (SANDBOX, 1, running()),
        (SANDBOX, 0, exited(0)),
        ("i", 0, exited(0)),
        ("a", 0, exited(0)),
    ];
    assert_eq!(
        steps(&pod("Always"), &world, &[]),
        ["start i1", "remove POD0"]
    );
}

#[test]
fn half_created_containers_are_made_again_under_the_same_number() {
    let world = [(SANDBOX, 0, running()), ("i", 3, State::Created)];
    assert_eq!(steps(&pod("Always"), &world, &[]), ["start i3"]);
}

#[test]
fn restarts_are_counted_on_when_somebody_has_removed_the_containers() {
    let mut pod = pod("Always");
    pod.spec.init_containers.clear();
    pod.status = json!({"containerStatuses": [
        {"name": "a", "restartCount": 4, "containerID": "docker://x"},
        {"name": "b", "restartCount": 0}]});
    let world = [(SANDBOX, 0, running())];
    assert_eq!(steps(&pod, &world, &[]), ["start a5", "start b0"]);
    pod.status = json!({"containerStatuses": [{"name": "a", "restartCount": 4}]});
    assert_eq!(steps(&pod, &world, &[])[0], "start a5");
}

#[test]
fn an_ended_pod_stays_ended() {
    let mut pod = pod("Always");
    pod.status = json!({"phase": "Failed"});
    assert!(steps(&pod, &[], &[]).is_empty());
    let mut world = [
        (SANDBOX, 0, running()),
        ("a", 0, running()),
        ("s", 0, running()),
    ];
    for (index, expected) in [(1, "stop a0 PodFinished"), (2, "stop s0 PodFinished")] {
        assert_eq!(steps(&pod, &world, &[]), [expected]);
        world[index].2 = exited(0);
    }
    assert_eq!(steps(&pod, &world, &[]), ["stop POD0"]);
}

#[test]
fn sidecars_stop_last_in_reverse() {
    let mut pod = pod("Always");
    let mut second = pod.spec.init_containers[1].clone();
    second.name = "t".into();
    pod.spec.init_containers.push(second);
    let all = ["a", "b", "s", "t"]
        .map(|name| container(name, 0, running()))
        .into();
    let groups: Vec<Vec<String>> = termination(&pod, &Observation::new(all))
        .into_iter()
        .map(|group| {
            write(&Plan {
                actions: group,
                ..Plan::default()
            })
        })
        .collect();
    assert_eq!(
        groups,
        [
            vec!["stop a0 Terminating", "stop b0 Terminating"],
            vec!["stop t0 Terminating"],
            vec!["stop s0 Terminating"]
        ]
    );
}

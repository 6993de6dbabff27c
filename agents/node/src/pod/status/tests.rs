use time::Duration;

use super::container::image;
use super::record::without_nulls;
use super::*;
use crate::pod::container::{LABEL_HASH, LABEL_SANDBOX, definition_hash, identity};
use crate::pod::resize;
use crate::runtime::{Exit, Observed, SANDBOX, State};

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
}

fn pod(policy: &str, init: bool) -> Pod {
    let init = if init {
        json!([{"name": "i", "image": "x"}])
    } else {
        json!([])
    };
    Pod::decode(&json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1},
        "spec": {"restartPolicy": policy, "initContainers": init, "containers": [
            {"name": "a", "image": "img:1"},
            {"name": "b", "image": "img:1", "readinessProbe": {"tcpSocket": {"port": 1}}},
        ]},
    }))
    .unwrap()
}

fn observed(pod: &Pod, name: &str, attempt: u32, state: State) -> Observed {
    Observed {
        id: format!("{name}{attempt}"),
        identity: identity(pod, name, attempt),
        state,
        created_at: at(0),
        image: "img:1".into(),
        image_id: "docker://sha256:1".into(),
        labels: [(LABEL_SANDBOX.to_owned(), format!("{SANDBOX}0"))].into(),
        ip: (name == SANDBOX).then(|| "10.1.2.3".to_owned()),
        pid: None,
        limits: None,
    }
}

fn running() -> State {
    State::Running { started_at: at(5) }
}

fn exited(code: i64) -> State {
    let exit = Exit {
        code,
        oom_killed: code == 137,
        start_error: None,
        started_at: Some(at(5)),
        finished_at: at(9),
    };
    State::Exited(exit)
}

struct Case<'a> {
    pod: Pod,
    containers: &'a [(&'a str, u32, State)],
    ready: bool,
    waiting: Option<(&'a str, &'a str)>,
    over: bool,
    verdict: Option<Verdict>,
    resize: Resize,
}

fn case<'a>(pod: Pod, containers: &'a [(&'a str, u32, State)]) -> Case<'a> {
    Case {
        pod,
        containers,
        ready: true,
        waiting: None,
        over: false,
        verdict: None,
        resize: Resize::default(),
    }
}

#[test]
fn an_ephemeral_container_has_a_status_and_counts_for_nothing() {
    let mut pod = pod("Never", false);
    pod.spec.ephemeral_containers = vec![Container {
        name: "e".into(),
        image: "img:1".into(),
        ..Container::default()
    }];
    let world = [
        (SANDBOX, 0, running()),
        ("a", 0, running()),
        ("b", 0, running()),
        ("e", 0, exited(1)),
    ];
    let told = status(&case(pod, &world));
    assert_eq!(told["phase"], "Running");
    let e = &told["ephemeralContainerStatuses"][0];
    assert_eq!(e["state"]["terminated"]["exitCode"], 1);
    assert_eq!(e["ready"], false);
    assert_eq!(e.get("started"), None);
}

fn status(case: &Case<'_>) -> Value {
    let pod = &case.pod;
    let all = case
        .containers
        .iter()
        .map(|(name, attempt, state)| observed(pod, name, *attempt, state.clone()));
    let readiness = Results {
        readiness: Some(case.ready),
        ..Results::default()
    };
    let waiting = case.waiting.iter().map(|(name, reason)| {
        (
            (*name).to_owned(),
            Waiting {
                reason: (*reason).to_owned(),
                message: String::new(),
            },
        )
    });
    let probes: BTreeMap<String, Results> = [("b0".to_owned(), readiness)].into();
    let inputs = Inputs {
        pod,
        observed: &Observation::new(all.collect()),
        resize: &case.resize,
        in_force: &Allocation::new(),
        probes: &probes,
        waiting: &waiting.collect(),
        messages: &BTreeMap::new(),
        verdict: case.verdict.as_ref(),
        over: case.over,
        scheme: "docker",
        host_ip: "192.168.0.1",
        started_at: at(1),
        now: at(20),
    };
    let tree = assemble(&inputs);
    check_text(&inputs, &tree);
    tree
}

/// A status that is written down at once says what its tree says, in the same order.
fn check_text(inputs: &Inputs<'_>, tree: &Value) {
    let (pod, status) = (inputs.pod, Status::of(inputs));
    assert_eq!(status.is_recorded(pod), is_recorded(pod, tree));
    let text = patch(pod, tree.clone()).to_string();
    assert_eq!(String::from_utf8(status.patch(pod)).unwrap(), text);
}

fn brief(status: &Value) -> String {
    let conditions = status["conditions"].as_array().unwrap();
    let truth =
        |kind: &str| conditions.iter().find(|c| c["type"] == kind).unwrap()["status"] == "True";
    let states = status["containerStatuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            let (state, detail) = c["state"].as_object().unwrap().iter().next().unwrap();
            format!("{state}:{}", detail["reason"].as_str().unwrap_or("-"))
        });
    format!(
        "{} {} ready={} init={}",
        status["phase"].as_str().unwrap(),
        states.collect::<Vec<_>>().join(","),
        truth("Ready"),
        truth("Initialized")
    )
}

#[test]
fn phases_and_states_through_a_life() {
    let sandbox = (SANDBOX, 0, running());
    let both = |a: State, b: State| vec![(SANDBOX, 0, running()), ("a", 0, a), ("b", 0, b)];
    let check = |case: Case<'_>, expected: &str| assert_eq!(brief(&status(&case)), expected);
    check(
        case(pod("Always", false), &[]),
        "Pending waiting:ContainerCreating,waiting:ContainerCreating ready=false init=true",
    );
    check(
        case(pod("Always", true), &[sandbox.clone(), ("i", 0, running())]),
        "Pending waiting:PodInitializing,waiting:PodInitializing ready=false init=false",
    );
    check(
        case(pod("Always", false), &both(running(), running())),
        "Running running:-,running:- ready=true init=true",
    );
    let mut unready = both(running(), running());
    check(
        Case {
            ready: false,
            ..case(pod("Always", false), &unready)
        },
        "Running running:-,running:- ready=false init=true",
    );
    unready[1].2 = exited(1);
    check(
        Case {
            waiting: Some(("a", "CrashLoopBackOff")),
            ..case(pod("Always", false), &unready)
        },
        "Running waiting:CrashLoopBackOff,running:- ready=false init=true",
    );
    check(
        Case {
            waiting: Some(("b", "ErrImagePull")),
            ..case(pod("Always", false), &both(running(), State::Created))
        },
        "Pending running:-,waiting:ErrImagePull ready=false init=true",
    );
    check(
        case(pod("Never", false), &both(exited(0), exited(0))),
        "Succeeded terminated:Completed,terminated:Completed ready=false init=true",
    );
    check(
        case(pod("Never", false), &both(exited(0), exited(137))),
        "Failed terminated:Completed,terminated:OOMKilled ready=false init=true",
    );
    check(
        case(pod("OnFailure", false), &both(exited(0), exited(2))),
        "Running terminated:Completed,terminated:Error ready=false init=true",
    );
    check(
        Case {
            over: true,
            ..case(pod("Always", false), &both(exited(0), exited(0)))
        },
        "Succeeded terminated:Completed,terminated:Completed ready=false init=true",
    );
    check(
        case(pod("Never", true), &[sandbox, ("i", 0, exited(1))]),
        "Failed waiting:PodInitializing,waiting:PodInitializing ready=false init=false",
    );
    let verdict = Some(Verdict {
        reason: "DeadlineExceeded",
        message: "late".into(),
    });
    check(
        Case {
            verdict,
            over: true,
            ..case(pod("Always", false), &both(exited(143), exited(143)))
        },
        "Failed terminated:Error,terminated:Error ready=false init=true",
    );
}

#[test]
fn a_pod_that_was_not_taken_has_no_containers() {
    let verdict = Some(Verdict {
        reason: "OutOfcpu",
        message: format!("{REJECTED}why"),
    });
    let rejected = status(&Case {
        verdict,
        over: true,
        ..case(pod("Always", true), &[])
    });
    assert_eq!(
        (&rejected["phase"], &rejected["reason"]),
        (&json!("Failed"), &json!("OutOfcpu"))
    );
    assert_eq!(rejected.get("containerStatuses"), None);
    assert_eq!(rejected.get("initContainerStatuses"), None);
}

#[test]
fn a_container_that_comes_back_by_its_own_policy_keeps_the_pod_running() {
    let mut pod = pod("Never", false);
    let containers = [
        (SANDBOX, 0, running()),
        ("a", 0, exited(3)),
        ("b", 0, exited(0)),
    ];
    assert_eq!(status(&case(pod.clone(), &containers))["phase"], "Failed");
    pod.spec.containers[0].restart_policy = Some("OnFailure".into());
    assert_eq!(status(&case(pod, &containers))["phase"], "Running");
}

#[test]
fn a_resize_has_conditions_while_it_goes_on() {
    let world = [
        (SANDBOX, 0, running()),
        ("a", 0, running()),
        ("b", 0, running()),
    ];
    let mut before = case(pod("Always", false), &world);
    before.resize.pending = Some(resize::Pending {
        reason: resize::DEFERRED,
        message: "why".into(),
        generation: 3,
    });
    let told = status(&before);
    let conditions = told["conditions"].as_array().unwrap();
    let pending = conditions.iter().find(|one| one["type"] == resize::PENDING);
    let pending = pending.unwrap();
    assert_eq!(pending["reason"], "Deferred");
    assert_eq!(pending["message"], "why");
    assert_eq!(pending["observedGeneration"], 3);
    let mut pod = pod("Always", false);
    pod.status = told.clone();
    assert!(is_recorded(&pod, &told));
    let after = status(&case(pod.clone(), &world));
    assert!(!is_recorded(&pod, &after));
    let patch = patch(&pod, after);
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    let gone = json!({"$patch": "delete", "type": "PodResizePending"});
    assert!(conditions.contains(&gone));
}

#[test]
fn the_image_is_the_one_that_runs() {
    let mut pod = pod("Always", false);
    pod.status = json!({"containerStatuses": [{"name": "a", "image": "img:1"}, {"name": "b", "image": "img:1"}]});
    let before = definition_hash(&pod.spec.containers[0]);
    let mut old = observed(&pod, "a", 0, running());
    old.labels.insert(LABEL_HASH.to_owned(), before);
    assert_eq!(image(&pod, &pod.spec.containers[0], Some(&old)), "img:1");
    pod.spec.containers[0].image = "img:2".into();
    let changed = &pod.spec.containers[0];
    assert_eq!(image(&pod, changed, Some(&old)), "img:1");
    assert_eq!(image(&pod, changed, None), "img:2");
    let hash = definition_hash(changed);
    old.labels.insert(LABEL_HASH.to_owned(), hash);
    assert_eq!(image(&pod, changed, Some(&old)), "img:2");
}

#[test]
fn restarts_carry_the_last_state() {
    let containers = [
        (SANDBOX, 0, running()),
        ("a", 1, running()),
        ("a", 0, exited(3)),
        ("b", 0, running()),
    ];
    let status = status(&case(pod("Always", false), &containers));
    let a = &status["containerStatuses"][0];
    assert_eq!(a["restartCount"], 1);
    assert_eq!(a["containerID"], "docker://a1");
    assert_eq!(a["imageID"], "docker://sha256:1");
    assert_eq!(a["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(a["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(status["podIP"], "10.1.2.3");
    let mut lost = case(pod("Always", false), &containers[..1]);
    lost.pod.status = without_nulls(&status);
    let lost = self::status(&lost);
    assert_eq!(
        lost["containerStatuses"][0]["restartCount"], 1,
        "never counted backwards"
    );
    assert_eq!(status["startTime"], "1970-01-01T00:00:01Z");
}

#[test]
fn an_ended_pod_tells_what_was_lost_from_what_never_began() {
    let over = |policy: &str, init: bool, containers: &[(&str, u32, State)]| {
        status(&Case {
            over: true,
            ..case(pod(policy, init), containers)
        })
    };
    let failed = over("Never", true, &[("i", 0, exited(1))]);
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    assert_eq!(failed["containerStatuses"][0]["state"], waiting);
    assert_eq!(failed["phase"], "Failed");
    let lost = over("Never", true, &[("i", 0, exited(0)), ("a", 0, exited(0))]);
    let reason = "/containerStatuses/1/state/terminated/reason";
    assert_eq!(lost.pointer(reason), Some(&json!("ContainerStatusUnknown")));
    // What is on record of a container that somebody has removed since stays.
    let mut pruned = case(pod("Never", false), &[]);
    let containers = [("a", 0, exited(3)), ("b", 0, exited(0))];
    pruned.pod.status = without_nulls(&over("Never", false, &containers));
    pruned.over = true;
    let pruned = status(&pruned);
    let code = "/containerStatuses/0/state/terminated/exitCode";
    assert_eq!(pruned.pointer(code), Some(&json!(3)));
}

#[test]
fn the_time_of_a_transition_stays_and_a_recorded_status_is_recognised() {
    let containers = [
        (SANDBOX, 0, running()),
        ("a", 0, running()),
        ("b", 0, running()),
    ];
    let mut case = case(pod("Always", false), &containers);
    let first = status(&case);
    case.pod.status = without_nulls(&first);
    let since = json!("1970-01-01T00:00:07Z");
    case.pod.status["conditions"][2]["lastTransitionTime"] = since.clone();
    let second = status(&case);
    assert_eq!(second["conditions"][2]["lastTransitionTime"], since);
    assert!(is_recorded(&case.pod, &second));
    case.ready = false;
    let third = status(&case);
    assert_eq!(
        third["conditions"][2]["lastTransitionTime"],
        "1970-01-01T00:00:20Z"
    );
    assert_eq!(
        third["conditions"][2]["message"],
        "containers with unready status: [b]"
    );
    assert!(!is_recorded(&case.pod, &third));
}

#[test]
fn a_new_address_replaces_the_old_one() {
    let containers = [(SANDBOX, 0, running())];
    let mut case = case(pod("Always", false), &containers);
    let status = status(&case);
    assert_eq!(
        patch(&case.pod, status.clone())["status"]["podIPs"],
        json!([{"ip": "10.1.2.3"}])
    );
    case.pod.status = json!({"podIPs": [{"ip": "10.9.9.9"}], "reason": "Old"});
    let patch = patch(&case.pod, status);
    assert_eq!(
        patch["status"]["podIPs"],
        json!([{"$patch": "replace"}, {"ip": "10.1.2.3"}])
    );
    assert_eq!(patch["status"]["reason"], Value::Null);
}

#[test]
fn what_is_written_down_is_escaped_and_takes_the_place_of_what_is_on_record() {
    let odd = "\"why\" \\ \u{7}\n\u{2028}\u{e9}\u{1f600}\u{7f}";
    let containers = [(SANDBOX, 0, running())];
    let mut case = case(pod("Always", false), &containers);
    case.verdict = Some(Verdict {
        reason: "Evicted",
        message: odd.into(),
    });
    case.resize.pending = Some(resize::Pending {
        reason: resize::INFEASIBLE,
        message: odd.into(),
        generation: 0,
    });
    case.pod.status = json!({"podIPs": [{"ip": "10.9.9.9"}], "conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": odd},
        {"type": resize::IN_PROGRESS, "status": "True"},
        {"type": "example.com/gate", "status": "True"},
    ]});
    // The text is compared with the tree as the status is made.
    let told = status(&case);
    assert_eq!(told["message"], odd);
    let conditions = told["conditions"].as_array().unwrap();
    let find = |kind: &str| conditions.iter().find(|one| one["type"] == kind);
    assert_eq!(find("Ready").unwrap()["lastTransitionTime"], odd);
    let pending = find(resize::PENDING).unwrap();
    assert_eq!(
        (&pending["message"], &pending["observedGeneration"]),
        (&json!(odd), &json!(0))
    );
    assert_eq!(find("example.com/gate"), None, "it is somebody else's");
    let patch = patch(&case.pod, told.clone());
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    let over = json!({"$patch": "delete", "type": resize::IN_PROGRESS});
    assert_eq!(conditions.last(), Some(&over));
}

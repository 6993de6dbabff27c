//! One pod or a few, from their beginning to their end.

use super::*;
use crate::pod::admission::resize::Outcome;
use crate::pod::status::Verdict;
use crate::spec::Pod;

#[test]
fn a_pod_starts_runs_and_leaves_with_its_address() {
    let mut sim = Sim::new();
    let pod = sim.bind("", one("Always", &[]));
    sim.advance(secs(2));
    let status = sim.status(pod);
    assert_eq!(
        (&status["phase"], &status["hostIP"]),
        (&json!("Running"), &json!("10.0.0.1"))
    );
    assert_eq!(status["podIP"], "100.64.1.1");
    assert_eq!(status["containerStatuses"][0]["imageID"], "hollow://i");
    assert_eq!(status["containerStatuses"][0]["resources"], json!({}));
    assert_eq!(sim.condition(pod, "Ready"), "True");
    let writes = sim.writes;
    sim.advance(secs(3600));
    assert_eq!(sim.writes, writes, "one that runs writes nothing");
    sim.delete(pod, 30);
    sim.advance(Duration::from_millis(150));
    assert_eq!(
        sim.status(pod)["phase"],
        "Running",
        "who deleted it still finds it"
    );
    sim.advance(secs(1));
    assert_eq!(sim.pods[pod].object, None);
    assert_eq!(sim.addresses.count(), 0);
    assert_eq!(sim.pods[pod].notes, ["Started", "Killing"]);
}

#[test]
fn what_runs_at_once_is_told_of_once() {
    let mut sim = Sim::new();
    for _ in 0..20 {
        sim.bind("", one("Always", &[]));
    }
    assert_eq!(sim.writes, 0);
    sim.advance(secs(2));
    assert!((0..20).all(|pod| sim.status(pod)["phase"] == "Running"));
    assert_eq!(sim.writes, 20);
}

/// That another look would find nothing is asserted wherever one is saved, here and in all other lives.
#[test]
fn the_word_of_its_own_status_needs_no_look_unless_others_have_changed_more() {
    let mut sim = Sim::new();
    let pods = [
        ("", one("Always", &[])),
        ("", probed("Always")),
        ("", one("Always", &["sleep", "7"])),
        ("unready", one("Always", &[])),
    ];
    let [pod, others @ ..] = pods.map(|(stage, spec)| sim.bind(stage, spec));
    sim.advance(secs(2));
    let is_as_left = |pod: usize, field: &str, value: Value| {
        let mut object = sim.pods[pod].object.clone().unwrap();
        object["metadata"][field] = value;
        let life = sim.pods[pod].life.as_ref().unwrap();
        life.is_as_left(&Slim::of(object).unwrap())
    };
    assert!(is_as_left(pod, "generation", json!(1)));
    for (field, value) in [
        ("annotations", json!({"a": "b"})),
        ("deletionGracePeriodSeconds", json!(1)),
        ("deletionTimestamp", json!("2027-01-01T00:00:00Z")),
        ("generation", json!(2)),
        ("labels", json!({"stage": "slow"})),
        ("ownerReferences", json!([{"uid": "o"}])),
        ("resourceVersion", json!("1000")),
    ] {
        assert!(!is_as_left(pod, field, value), "{field}");
    }
    for other in others {
        assert_eq!(sim.status(other)["phase"], "Running");
        assert!(!is_as_left(other, "generation", json!(1)), "{other}");
    }
}

#[test]
fn what_starts_slowly_is_told_to_be_starting() {
    let mut sim = Sim::new();
    let pod = sim.bind("slow", one("Always", &[]));
    let waiting =
        |sim: &Sim| sim.status(pod)["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    assert_eq!(waiting(&sim), "ContainerCreating");
    assert_eq!(sim.writes, 1);
    sim.advance(secs(100));
    assert_eq!(sim.status(pod)["phase"], "Running");
    assert_eq!(sim.writes, 2);
}

#[test]
fn what_is_told_of_its_end_is_told_before_the_object_goes() {
    let mut sim = Sim::new();
    let pod = sim.bind("stubborn", one("Always", &[]));
    sim.advance(secs(2));
    sim.delete(pod, 10);
    sim.advance(secs(9));
    assert_eq!(
        sim.status(pod)["phase"],
        "Running",
        "it is killed after its grace period"
    );
    let before = sim.writes;
    sim.advance(secs(2));
    assert_eq!(
        (sim.pods[pod].object.is_none(), sim.writes - before),
        (true, 2)
    );
    assert_eq!(
        sim.pods[pod].phases,
        ["Pending", "Running", "Failed"],
        "137 is no success"
    );
}

#[test]
fn a_grace_period_that_is_cut_counts() {
    let mut sim = Sim::new();
    let pod = sim.bind("stubborn", one("Always", &[]));
    sim.advance(secs(2));
    sim.delete(pod, 1000);
    sim.advance(secs(5));
    sim.delete(pod, 3);
    sim.advance(secs(4));
    assert_eq!(sim.pods[pod].object, None);
}

#[test]
fn commands_and_policies_decide_how_a_pod_ends() {
    for (policy, command, phase, restarts) in [
        ("Never", &["sleep", "5"][..], "Succeeded", 0),
        ("Never", &["sh", "-c", "exit 3"], "Failed", 0),
        ("OnFailure", &["true"], "Succeeded", 0),
        ("OnFailure", &["false"], "Running", 4),
        ("Always", &["true"], "Running", 4),
    ] {
        let mut sim = Sim::new();
        let pod = sim.bind("", one(policy, command));
        sim.advance(secs(90));
        let status = sim.status(pod);
        assert_eq!(status["phase"], phase, "{policy} {command:?}");
        assert_eq!(
            status["containerStatuses"][0]["restartCount"], restarts,
            "{policy} {command:?}"
        );
        let ended = phase != "Running";
        assert_eq!(
            sim.addresses.count(),
            u32::from(!ended),
            "the address of an ended pod is free"
        );
    }
}

#[test]
fn a_crashing_container_waits_ever_longer() {
    let mut sim = Sim::new();
    let pod = sim.bind("crashing", one("Always", &[]));
    let mut restarts = Vec::new();
    for _ in 0..12 {
        sim.advance(secs(60));
        restarts.push(
            sim.status(pod)["containerStatuses"][0]["restartCount"]
                .as_u64()
                .unwrap(),
        );
    }
    // At once, then after 10, 20, 40, 80, 160 and 300 seconds, each run taking 2 more.
    assert_eq!(restarts, [3, 4, 5, 5, 5, 6, 6, 6, 6, 6, 7, 7]);
    let state = &sim.status(pod)["containerStatuses"][0];
    assert_eq!(state["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(state["lastState"]["terminated"]["exitCode"], 3);
    let told = sim.pods[pod]
        .notes
        .iter()
        .filter(|note| **note == "BackOff");
    assert!(told.count() <= 8);
}

#[test]
fn init_containers_run_one_after_the_other_before_the_rest() {
    let mut sim = Sim::new();
    let spec = json!({"restartPolicy": "Always", "initContainers": [
        {"name": "i", "image": "x", "command": ["sleep", "3"]}, {"name": "s", "image": "x", "restartPolicy": "Always"},
        {"name": "j", "image": "x", "command": ["sleep", "3"]}], "containers": [{"name": "c", "image": "x"}]});
    let pod = sim.bind("", spec);
    let states = |sim: &Sim| {
        let of = |list: &str| {
            sim.status(pod)[list]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        let all = of("initContainerStatuses")
            .into_iter()
            .chain(of("containerStatuses"));
        all.map(|status| {
            status["state"]
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .clone()
        })
        .collect::<Vec<_>>()
        .join(" ")
    };
    sim.advance(secs(2));
    assert_eq!(states(&sim), "running waiting waiting waiting");
    assert_eq!(sim.condition(pod, "Initialized"), "False");
    sim.advance(secs(3));
    assert_eq!(states(&sim), "terminated running running waiting");
    sim.advance(secs(5));
    assert_eq!(states(&sim), "terminated running terminated running");
    assert_eq!(sim.condition(pod, "Ready"), "True");
}

#[test]
fn readiness_comes_after_the_delays_of_the_probes() {
    let mut sim = Sim::new();
    let container = json!({"name": "c", "image": "i",
        "startupProbe": {"httpGet": {"port": 80}, "initialDelaySeconds": 10, "periodSeconds": 1, "successThreshold": 1},
        "readinessProbe": {"httpGet": {"port": 80}, "initialDelaySeconds": 30, "periodSeconds": 5, "successThreshold": 2}});
    let spec = json!({"restartPolicy": "Always", "containers": [container]});
    let pod = sim.bind("", spec.clone());
    let unready = sim.bind("unready", spec);
    let found = |sim: &Sim, pod: usize| {
        let started = sim.status(pod)["containerStatuses"][0]["started"].clone();
        (started, sim.condition(pod, "Ready").to_owned())
    };
    for (seconds, started, ready, by_stage) in [
        (9, false, "False", "True"),
        (3, true, "False", "True"),
        (22, true, "False", "True"),
        (3, true, "True", "True"),
    ] {
        sim.advance(secs(seconds));
        assert_eq!(found(&sim, pod), (json!(started), ready.to_owned()));
        assert_eq!(sim.condition(unready, "Ready"), by_stage);
    }
}

#[test]
fn readiness_comes_when_the_stage_says_and_slow_nodes_take_longer() {
    for (slow, before, after) in [(1, 4, 2), (10, 50, 10)] {
        let mut sim = Sim::new();
        sim.slow = slow;
        let pod = sim.bind("unready", one("Always", &[]));
        sim.advance(secs(before));
        assert_eq!(
            (&sim.status(pod)["phase"], sim.condition(pod, "Ready")),
            (&json!("Running"), "False")
        );
        sim.advance(secs(after));
        assert_eq!(sim.condition(pod, "Ready"), "True");
    }
}

#[test]
fn a_deadline_fails_the_pod() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &[]);
    spec["activeDeadlineSeconds"] = 10.into();
    let pod = sim.bind("", spec);
    sim.advance(secs(9));
    assert_eq!(sim.status(pod)["phase"], "Running");
    sim.advance(secs(2));
    assert_eq!(
        (&sim.status(pod)["phase"], &sim.status(pod)["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
    let state = &sim.status(pod)["containerStatuses"][0]["state"];
    assert!(state["terminated"].is_object(), "{state}");
}

#[test]
fn a_restart_of_the_process_changes_nothing() {
    let mut sim = Sim::new();
    let stages = ["", "crashing", "ending", "unready", "slow"];
    for stage in stages {
        sim.bind(stage, one("Always", &[]));
    }
    let done = sim.bind("", one("Never", &["true"]));
    sim.advance(secs(30));
    let before: Vec<Value> = (0..sim.pods.len())
        .map(|pod| sim.status(pod).clone())
        .collect();
    let writes = sim.writes;
    sim.restart();
    sim.check();
    for (pod, before) in before
        .iter()
        .enumerate()
        .filter(|(pod, _)| *pod != 1 && *pod != 2)
    {
        assert_eq!(sim.status(pod), before);
    }
    assert!(
        sim.writes <= writes + 2,
        "only what crashes may be started early: it lost its back-off"
    );
    assert_eq!(sim.status(done)["phase"], "Succeeded");
    sim.advance(secs(60));
}

#[test]
fn a_node_without_a_free_address_says_so_once_and_goes_on_when_there_is_one() {
    let mut sim = Sim::new();
    for _ in 0..254 {
        sim.bind("", one("Always", &[]));
    }
    let late = sim.bind("", one("Always", &[]));
    sim.advance(secs(20));
    assert_eq!(sim.status(late)["phase"], "Pending");
    assert_eq!(sim.pods[late].notes, ["FailedCreatePodSandBox"]);
    sim.delete(0, 0);
    sim.advance(secs(10));
    assert_eq!(sim.status(late)["phase"], "Running");
}

#[test]
fn nothing_of_a_pod_begins_before_its_claims_are_there() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &[]);
    spec["resourceClaims"] = json!([{"name": "c", "resourceClaimName": "x"}]);
    let (pod, gone) = (sim.bind("", spec.clone()), sim.bind("", spec));
    sim.advance(secs(30));
    let status = sim.status(pod);
    assert_eq!(status["phase"], "Pending");
    assert!(status["podIP"].is_null(), "{status}");
    let waits = &status["containerStatuses"][0]["state"]["waiting"]["reason"];
    assert_eq!(waits, "ContainerCreating");
    sim.delete(gone, 30);
    sim.advance(secs(5));
    assert!(sim.pods[gone].object.is_none(), "it may go while it waits");
    sim.claims_are_there = true;
    sim.tell(pod);
    sim.advance(secs(10));
    assert_eq!(sim.status(pod)["phase"], "Running");
    sim.claims_are_there = false;
    sim.restart();
    sim.advance(secs(10));
    assert_eq!(sim.status(pod)["phase"], "Running");
}

#[test]
fn what_keeps_a_pod_waiting_is_told_once() {
    let object = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}});
    let mut life = Life::new(Slim::of(object).unwrap());
    let mut told = |text: &str| life.unclear(text.to_owned()).map(|note| note.text);
    assert_eq!(told("this").as_deref(), Some("this"));
    assert_eq!(told("this"), None);
    assert_eq!(told("that").as_deref(), Some("that"));
}

#[test]
fn a_status_that_comes_back_otherwise_is_not_sent_for_ever() {
    let mut sim = Sim::new();
    let pod = sim.bind("", one("Always", &[]));
    sim.advance(secs(2));
    // Somebody else takes a field that the node writes.
    let mut life = sim.pods[pod].life.take().unwrap();
    let mut object = sim.pods[pod].object.clone().unwrap();
    object["status"].as_object_mut().unwrap().remove("qosClass");
    object["metadata"]["resourceVersion"] = "1000".into();
    let slim = Slim::of(object).unwrap();
    let stages = Stages::read(STAGES).unwrap();
    let mut place = Place {
        node: 1,
        node_name: "hollow-00001",
        host_ip: "10.0.0.1",
        addresses: &mut sim.addresses,
        images: &mut sim.images,
        stage: stages.get(u16::MAX),
        slow: 1,
    };
    assert!(
        life.step(Event::Seen(slim), &mut place, sim.now)
            .write
            .is_some()
    );
    life.taken(1000);
    assert_eq!(life.step(Event::Look, &mut place, sim.now).write, None);
}

#[test]
fn a_pod_that_the_node_does_not_take_fails_and_nothing_of_it_runs() {
    let object = json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "1", "generation": 1},
        "spec": one("Always", &[]),
        "status": {"phase": "Pending"},
    });
    let mut life = Life::new(Slim::of(object).unwrap());
    life.refuse(Verdict {
        reason: "NodePorts",
        message: "Pod was rejected: why".to_owned(),
    });
    let (stages, mut addresses) = (Stages::default(), Addresses::default());
    let mut images = Images::default();
    let mut place = Place {
        node: 1,
        node_name: "hollow-00001",
        host_ip: "10.0.0.1",
        addresses: &mut addresses,
        images: &mut images,
        stage: stages.get(0),
        slow: 1,
    };
    let now = OffsetDateTime::UNIX_EPOCH + secs(1_800_000_000);
    let step = life.step(Event::Look, &mut place, now);
    let Some(Write::Status(patch)) = step.write else {
        panic!("{step:?}")
    };
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    let status = &patch["status"];
    assert_eq!(
        [&status["phase"], &status["reason"], &status["message"]],
        ["Failed", "NodePorts", "Pod was rejected: why"]
    );
    assert!(life.has_begun() && life.is_refused(), "it holds no port");
    assert_eq!((life.address(), addresses.count()), (None, 0));
}

#[test]
fn a_pod_that_is_ended_for_a_critical_one_fails_and_says_so() {
    let mut sim = Sim::new();
    let pod = sim.bind("", one("Always", &[]));
    sim.advance(secs(2));
    let life = sim.pods[pod].life.as_mut().unwrap();
    assert_eq!(life.preempt().map(|note| note.reason), Some("Preempting"));
    assert!(life.is_preempted() && life.preempt().is_none());
    sim.step(pod, Event::Look);
    sim.advance(secs(60));
    let status = sim.status(pod);
    assert_eq!(
        [&status["phase"], &status["reason"], &status["message"]],
        [
            "Failed",
            "Preempting",
            "Preempted in order to admit critical pod"
        ]
    );
    assert_eq!(sim.condition(pod, "DisruptionTarget"), "True");
    assert_eq!(sim.addresses.count(), 0);
}

#[test]
fn an_image_that_nobody_has_is_tried_again_and_again_until_there_is_another() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &[]);
    spec["containers"][0]["image"] = "foo:non-existent".into();
    let pod = sim.bind("", spec);
    let waits = |sim: &Sim| sim.status(pod)["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(
        waits(&sim),
        json!({"reason": "ErrImagePull", "message": "foo:non-existent: not found"})
    );
    sim.advance(secs(9));
    let text =
        "Back-off pulling image \"foo:non-existent\": ErrImagePull: foo:non-existent: not found";
    assert_eq!(
        waits(&sim),
        json!({"reason": "ImagePullBackOff", "message": text})
    );
    let once = ["Pulling", "Failed", "Failed", "BackOff", "Failed"];
    assert_eq!(sim.pods[pod].notes, once);
    sim.advance(secs(2));
    assert_eq!(waits(&sim)["reason"], "ErrImagePull", "it is tried again");
    assert_eq!(sim.status(pod)["phase"], "Pending");
    // After 10, 20, 40, 80 and 160 seconds, then every five minutes; each try is told in two writes.
    sim.advance(secs(3600 - 11));
    assert_eq!(sim.pods[pod].notes, once.repeat(16));
    assert_eq!(sim.writes, 32);
    sim.pods[pod].object.as_mut().unwrap()["spec"]["containers"][0]["image"] = "foo".into();
    sim.store(pod);
    sim.tell(pod);
    sim.advance(secs(2));
    assert_eq!(sim.status(pod)["phase"], "Running");
    assert_eq!(sim.condition(pod, "Ready"), "True");
}

#[test]
fn a_container_of_another_image_is_ready_until_it_gives_way() {
    let mut sim = Sim::new();
    let pod = sim.bind("", one("Always", &[]));
    sim.advance(secs(2));
    sim.pods[pod].object.as_mut().unwrap()["spec"]["containers"][0]["image"] = "other".into();
    sim.store(pod);
    sim.tell(pod);
    sim.advance(Duration::from_millis(400));
    assert_eq!(sim.condition(pod, "Ready"), "True");
    sim.advance(secs(30));
    assert_eq!(
        sim.status(pod)["containerStatuses"][0]["imageID"],
        "hollow://other"
    );
    assert_eq!(sim.condition(pod, "Ready"), "True");
}

#[test]
fn a_container_that_is_made_anew_for_a_resize_has_its_amounts_afterwards() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &[]);
    spec["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    spec["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    let pod = sim.bind("", spec);
    sim.advance(secs(2));
    let object = sim.pods[pod].object.as_mut().unwrap();
    object["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
    object["metadata"]["generation"] = 2.into();
    let decoded = Pod::decode(object).unwrap();
    let life = sim.pods[pod].life.as_mut().unwrap();
    let notes = life.resized(&decoded, Outcome::Fits);
    assert_eq!(notes[0].reason, "ResizeStarted");
    sim.store(pod);
    sim.tell(pod);
    let has = |sim: &Sim| {
        let status = &sim.status(pod)["containerStatuses"][0];
        let amount = |path: &str| status.pointer(path).cloned().unwrap_or_default();
        [
            amount("/allocatedResources/cpu"),
            amount("/resources/requests/cpu"),
            amount("/restartCount"),
        ]
    };
    assert_eq!(has(&sim), [json!("2"), json!("1"), json!(0)]);
    assert_eq!(sim.condition(pod, "PodResizeInProgress"), "True");
    let writes = sim.writes;
    sim.restart();
    assert_eq!(sim.writes, writes, "it goes on as it is on record");
    sim.advance(secs(30));
    assert_eq!(has(&sim), [json!("2"), json!("2"), json!(1)]);
    let conditions = sim.status(pod)["conditions"].as_array().unwrap();
    assert!(
        !conditions
            .iter()
            .any(|one| one["type"] == "PodResizeInProgress")
    );
    assert!(sim.pods[pod].notes.contains(&"ResizeCompleted"));
}

#[test]
fn what_was_asked_for_while_the_process_was_away_is_done_when_it_is_back() {
    let mut sim = Sim::new();
    let (image, amounts) = (sim.bind("", one("Always", &[])), {
        let mut spec = one("Always", &[]);
        spec["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
        spec["containers"][0]["resizePolicy"] =
            json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        sim.bind("", spec)
    });
    sim.advance(secs(2));
    let container = |sim: &mut Sim, pod: usize, path: &str, value: &str| {
        let object = sim.pods[pod].object.as_mut().unwrap();
        let container = &mut object["spec"]["containers"][0];
        *container.pointer_mut(path).unwrap() = value.into();
        sim.store(pod);
    };
    container(&mut sim, image, "/image", "other");
    container(&mut sim, amounts, "/resources/limits/cpu", "2");
    sim.restart();
    sim.advance(secs(30));
    let status = |pod: usize| &sim.status(pod)["containerStatuses"][0];
    assert_eq!(status(image)["imageID"], "hollow://other");
    assert_eq!(status(image)["restartCount"], 1);
    assert_eq!(status(amounts)["restartCount"], 1);
    assert_eq!(status(amounts)["resources"]["limits"]["cpu"], "2");
}

#[test]
fn what_a_container_leaves_is_in_its_status() {
    let mut sim = Sim::new();
    let script = "echo -n why > /dev/termination-log; exit 3";
    let pod = sim.bind("", one("Never", &["sh", "-c", script]));
    sim.advance(secs(3));
    let state = &sim.status(pod)["containerStatuses"][0]["state"]["terminated"];
    assert_eq!([&state["message"], &state["reason"]], ["why", "Error"]);
}

#[test]
fn a_container_without_memory_says_so_also_after_a_restart_of_the_process() {
    let mut sim = Sim::new();
    let pod = sim.bind("hungry", one("Never", &[]));
    sim.advance(secs(5));
    let told = |sim: &Sim| sim.status(pod)["containerStatuses"][0]["state"]["terminated"].clone();
    let before = told(&sim);
    assert_eq!(
        [&before["reason"], &before["exitCode"]],
        [&json!("OOMKilled"), &json!(137)]
    );
    sim.restart();
    sim.advance(secs(5));
    assert_eq!(told(&sim), before);
    let stopped = sim.bind("hungry", one("Never", &[]));
    sim.advance(secs(1));
    sim.delete(stopped, 1);
    sim.advance(secs(3));
    assert!(sim.pods[stopped].object.is_none());
}

#[test]
fn times_that_no_calendar_has_are_never() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &["sleep", "1e18"]);
    spec["terminationGracePeriodSeconds"] = i64::MAX.into();
    spec["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": i64::MAX}}});
    let pod = sim.bind("", spec);
    sim.advance(secs(3));
    assert_eq!(sim.status(pod)["phase"], "Running");
    sim.delete(pod, i64::MAX);
    sim.advance(secs(60));
    assert_eq!(sim.status(pod)["phase"], "Running");
    sim.delete(pod, 1);
    sim.advance(secs(3));
    assert!(sim.pods[pod].object.is_none());
}

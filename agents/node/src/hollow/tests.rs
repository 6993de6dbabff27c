//! Lives of simulated pods, told to a stand-in of the API that keeps what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::addresses::Addresses;
use super::life::{Event, Life, Place, Write};
use super::slim::Slim;
use super::stages::Stages;

const STAGES: &str = "
stages:
  - {name: unready, select: {labels: {stage: unready}}, ready: 5s}
  - {name: crashing, select: {labels: {stage: crashing}}, fail: {rate: 1, after: 2s, exit-code: 3}}
  - {name: flaky, select: {labels: {stage: flaky}}, fail: {rate: 0.5, after: 1s}, run: 3s}
  - {name: stubborn, select: {labels: {stage: stubborn}}, delete: 1h}
  - {name: ending, select: {labels: {stage: ending}}, run: {duration: 4s, jitter: 2s}}
  - {name: slow, select: {labels: {stage: slow}}, start: {p50: 2s, p99: 20s}, init: 3s}
";

/// A pod as the API has it, and its life on the node.
struct Kept {
    object: Option<Value>,
    life: Option<Life>,
    wake: Option<OffsetDateTime>,
    phases: Vec<String>,
    restarts: BTreeMap<String, u64>,
    notes: Vec<&'static str>,
}

struct Sim {
    stages: Stages,
    addresses: Addresses,
    slow: u32,
    now: OffsetDateTime,
    version: u64,
    pods: Vec<Kept>,
    writes: usize,
}

impl Sim {
    fn new() -> Sim {
        Sim {
            stages: Stages::read(STAGES).unwrap(),
            addresses: Addresses::default(),
            slow: 1,
            now: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            version: 0,
            pods: Vec::new(),
            writes: 0,
        }
    }

    /// A pod that has just been bound.
    fn bind(&mut self, stage: &str, mut spec: Value) -> usize {
        let number = self.pods.len();
        spec["nodeName"] = "hollow-00001".into();
        let object = json!({
            "metadata": {"name": format!("p{number}"), "namespace": "d", "uid": format!("u{number}"), "generation": 1,
                         "labels": {"stage": stage}},
            "spec": spec,
            "status": {"phase": "Pending"},
        });
        self.pods.push(Kept {
            object: Some(object),
            life: None,
            wake: None,
            phases: vec!["Pending".to_owned()],
            restarts: BTreeMap::new(),
            notes: Vec::new(),
        });
        self.store(number);
        self.tell(number);
        number
    }

    /// A new version of the object.
    fn store(&mut self, number: usize) {
        self.version += 1;
        if let Some(object) = &mut self.pods[number].object {
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
        }
    }

    /// The watch shows the object, and the node goes on until there is nothing to do now.
    fn tell(&mut self, number: usize) {
        match self.pods[number].object.clone() {
            Some(object) => {
                let slim = Slim::of(object).unwrap();
                if self.pods[number].life.is_none() {
                    self.pods[number].life = Some(Life::new(slim.clone()));
                }
                self.step(number, Event::Seen(slim));
            }
            None => self.step(number, Event::Removed),
        }
    }

    fn step(&mut self, number: usize, mut event: Event) {
        for round in 0.. {
            assert!(round < 50, "it never rests: {:?}", self.pods[number].object);
            let Some(mut life) = self.pods[number].life.take() else {
                return;
            };
            let object = self.pods[number].object.clone().unwrap_or_default();
            let mut place = Place {
                node: 1,
                node_name: "hollow-00001",
                host_ip: "10.0.0.1",
                addresses: &mut self.addresses,
                stage: self.stages.get(self.stages.choose(&object)),
                slow: self.slow,
            };
            let step = life.step(event, &mut place, self.now);
            self.pods[number]
                .notes
                .extend(step.notes.iter().map(|note| note.reason));
            self.pods[number].wake = step.wake;
            assert!(
                step.wake.is_none_or(|at| at > self.now),
                "it would be woken at once"
            );
            if step.gone {
                return;
            }
            let written = match step.write {
                None => {
                    self.pods[number].life = Some(life);
                    return;
                }
                Some(Write::Status(patch)) => self.patch(number, &patch),
                Some(Write::Delete) => {
                    self.pods[number].object = None;
                    None
                }
            };
            self.writes += 1;
            event = match written {
                Some(slim) => {
                    life.taken(slim.version);
                    Event::Seen(slim)
                }
                None => Event::Removed,
            };
            self.pods[number].life = Some(life);
        }
    }

    /// What the API makes of a status; it never goes backwards.
    fn patch(&mut self, number: usize, patch: &Value) -> Option<Slim> {
        let kept = &mut self.pods[number];
        let object = kept.object.as_mut()?;
        assert_eq!(patch["metadata"]["uid"], object["metadata"]["uid"]);
        for (field, value) in patch["status"].as_object().unwrap() {
            let mut value = value.clone();
            if let Some(items) = value.as_array_mut() {
                items.retain(|item| item.get("$patch").is_none());
            }
            object["status"][field] = value;
        }
        let phase = object["status"]["phase"].as_str().unwrap().to_owned();
        let before = kept.phases.last().unwrap();
        let rank = |phase: &str| {
            ["Pending", "Running", "Succeeded", "Failed"]
                .iter()
                .position(|one| *one == phase)
                .unwrap()
        };
        let ended = rank(before) >= 2;
        assert!(
            phase == *before || (rank(&phase) > rank(before) && !ended),
            "{before} became {phase}"
        );
        if phase != *before {
            kept.phases.push(phase);
        }
        for list in ["containerStatuses", "initContainerStatuses"] {
            for status in object["status"][list].as_array().into_iter().flatten() {
                let count = status["restartCount"].as_u64().unwrap();
                let name = status["name"].as_str().unwrap().to_owned();
                let before = kept.restarts.insert(name, count).unwrap_or(0);
                assert!(count >= before, "restarts went from {before} to {count}");
            }
        }
        self.store(number);
        Slim::of(self.pods[number].object.clone()?)
    }

    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due =
                (0..self.pods.len()).filter_map(|number| Some((self.pods[number].wake?, number)));
            match due.min() {
                Some((at, number)) if at <= end => {
                    self.now = self.now.max(at);
                    self.step(number, Event::Look);
                }
                _ => break,
            }
            self.check();
        }
        self.now = end;
    }

    fn delete(&mut self, number: usize, grace: i64) {
        let Some(object) = &mut self.pods[number].object else {
            return;
        };
        object["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z".into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        object["metadata"]["generation"] = 2.into();
        self.store(number);
        self.tell(number);
    }

    /// The process ends and begins again: all that it knows is what is on record.
    fn restart(&mut self) {
        self.addresses = Addresses::default();
        for number in 0..self.pods.len() {
            self.pods[number].life = None;
            self.pods[number].wake = None;
        }
        for number in 0..self.pods.len() {
            if self.pods[number].object.is_some() {
                self.tell(number);
            }
        }
    }

    /// No two pods have an address, and none is kept by nobody.
    fn check(&self) {
        let lives = self.pods.iter().filter_map(|kept| kept.life.as_ref());
        let held: Vec<Ipv4Addr> = lives.filter_map(Life::address).collect();
        let unique: BTreeSet<&Ipv4Addr> = held.iter().collect();
        assert_eq!(
            unique.len(),
            held.len(),
            "an address is given twice: {held:?}"
        );
        assert_eq!(self.addresses.count() as usize, held.len());
    }

    fn status(&self, number: usize) -> &Value {
        &self.pods[number].object.as_ref().expect("the pod is there")["status"]
    }

    fn condition(&self, number: usize, kind: &str) -> &str {
        let all = self.status(number)["conditions"].as_array().unwrap();
        let found = all
            .iter()
            .find(|condition| condition["type"] == kind)
            .unwrap();
        found["status"].as_str().unwrap()
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn one(policy: &str, command: &[&str]) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i", "command": command}]})
}

#[test]
fn a_pod_starts_runs_and_leaves_with_its_address() {
    let mut sim = Sim::new();
    let pod = sim.bind("", one("Always", &[]));
    assert_eq!(
        sim.status(pod)["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    sim.advance(secs(2));
    let status = sim.status(pod);
    assert_eq!(
        (&status["phase"], &status["hostIP"]),
        (&json!("Running"), &json!("10.0.0.1"))
    );
    assert_eq!(status["podIP"], "100.64.1.1");
    assert_eq!(status["containerStatuses"][0]["imageID"], "hollow://i");
    assert_eq!(sim.condition(pod, "Ready"), "True");
    let writes = sim.writes;
    sim.advance(secs(3600));
    assert_eq!(sim.writes, writes, "one that runs writes nothing");
    sim.delete(pod, 30);
    assert_eq!(sim.status(pod)["phase"], "Running");
    sim.advance(secs(1));
    assert_eq!(sim.pods[pod].object, None);
    assert_eq!(sim.addresses.count(), 0);
    assert_eq!(sim.pods[pod].notes, ["Started", "Killing"]);
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
        stage: stages.get(usize::MAX),
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

#[derive(Debug, Clone)]
enum Op {
    Bind(usize, usize, usize),
    Advance(u64),
    Delete(usize, i64),
    Force(usize),
    Tell(usize),
    Restart,
    Slow(u32),
}

const KINDS: [&str; 7] = [
    "", "unready", "crashing", "flaky", "stubborn", "ending", "slow",
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..KINDS.len(), 0..3_usize, 0..4_usize).prop_map(|(stage, policy, form)| Op::Bind(stage, policy, form)),
        4 => (0..40_000_u64).prop_map(Op::Advance),
        2 => (0..8_usize, 0..30_i64).prop_map(|(pod, grace)| Op::Delete(pod, grace)),
        1 => (0..8_usize).prop_map(Op::Force),
        1 => (0..8_usize).prop_map(Op::Tell),
        1 => Just(Op::Restart),
        1 => (1..20_u32).prop_map(Op::Slow),
    ]
}

fn spec(policy: usize, form: usize) -> Value {
    let policy = ["Always", "OnFailure", "Never"][policy];
    let mut spec = match form {
        0 => one(policy, &[]),
        1 => one(policy, &["sh", "-c", "sleep 3; exit 1"]),
        2 => one(policy, &["sleep", "7"]),
        _ => {
            json!({"restartPolicy": policy, "initContainers": [{"name": "i", "image": "x"}, {"name": "s", "image": "x", "restartPolicy": "Always"}],
                    "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x", "command": ["sleep", "2"]}]})
        }
    };
    spec["terminationGracePeriodSeconds"] = 30.into();
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Phases and restarts only go forwards and addresses are unique after every step (see `patch` and `check`); in the end
    /// what is deleted is gone, and what is left has nothing more to say.
    #[test]
    fn any_interleaving_converges(ops in prop::collection::vec(op(), 1..40)) {
        let mut sim = Sim::new();
        for op in ops {
            match op {
                Op::Bind(stage, policy, form) => {
                    sim.bind(KINDS[stage], spec(policy, form));
                }
                Op::Advance(millis) => sim.advance(Duration::from_millis(millis)),
                Op::Delete(pod, grace) if pod < sim.pods.len() => sim.delete(pod, grace),
                Op::Force(pod) if pod < sim.pods.len() => {
                    sim.pods[pod].object = None;
                    sim.tell(pod);
                }
                Op::Tell(pod) if pod < sim.pods.len() => sim.tell(pod),
                Op::Restart => sim.restart(),
                Op::Slow(factor) => sim.slow = factor,
                _ => {}
            }
            sim.check();
        }
        for pod in 0..sim.pods.len() {
            if pod % 2 == 0 {
                sim.delete(pod, 10);
            }
        }
        sim.advance(secs(3600));
        for pod in 0..sim.pods.len() {
            if pod % 2 == 0 {
                prop_assert!(sim.pods[pod].object.is_none());
                continue;
            }
            let before = sim.writes;
            if sim.pods[pod].object.is_some() {
                sim.step(pod, Event::Look);
                prop_assert_ne!(sim.status(pod)["phase"].as_str(), Some("Pending"));
            }
            prop_assert_eq!(sim.writes, before);
        }
        sim.check();
    }
}

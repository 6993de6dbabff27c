//! Lives of simulated pods, told to a stand-in of the API that keeps what is written.

mod health;
mod interleavings;
mod lives;
mod obstacles;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::addresses::Addresses;
use super::images::Images;
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
  - {name: hungry, select: {labels: {stage: hungry}}, fail: {rate: 1, after: 2s, reason: OOMKilled}}
  - {name: sick, select: {labels: {stage: sick}}, probes: {liveness: {after: 10s}}}
  - {name: blinking, select: {labels: {stage: blinking}}, probes: {readiness: {after: 10s, for: 20s}}}
  - {name: stillborn, select: {labels: {stage: stillborn}}, probes: {startup: {}}}
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
    images: Images,
    slow: u32,
    now: OffsetDateTime,
    version: u64,
    pods: Vec<Kept>,
    writes: usize,
    /// Whether claims on devices are reserved by now.
    claims_are_there: bool,
}

impl Sim {
    fn new() -> Sim {
        Sim {
            stages: Stages::read(STAGES).unwrap(),
            addresses: Addresses::default(),
            images: Images::default(),
            slow: 1,
            now: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            version: 0,
            pods: Vec::new(),
            writes: 0,
            claims_are_there: false,
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
                images: &mut self.images,
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
                Some(Write::LookAtClaims) => {
                    if self.claims_are_there {
                        life.clear();
                    }
                    self.pods[number].life = Some(life);
                    if !self.claims_are_there {
                        return;
                    }
                    event = Event::Look;
                    continue;
                }
                Some(Write::Status(patch)) => {
                    let patch: Value = serde_json::from_slice(&patch).unwrap();
                    self.patch(number, &patch)
                }
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
        self.images = Images::default();
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

/// A container with a probe of each kind, asked every second; two answers that are bad count.
fn probed(policy: &str) -> Value {
    let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 1, "failureThreshold": 2});
    let mut spec = one(policy, &[]);
    for kind in ["startupProbe", "livenessProbe", "readinessProbe"] {
        spec["containers"][0][kind] = probe.clone();
    }
    spec
}

//! A Job among pods that do what a test says: plans are carried out on it as a server and its nodes would.

use super::finalizer::TRACKING;
use super::reconcile;
use crate::simulation::merge;
use crate::testing::{NOW, after, object, world};
use crate::world::{Caches, Sightings, World};
use agent_runtime::kinds::{Job, JobStatus, Pod};
use agent_runtime::plan::Op;
use agent_runtime::{Key, PatchType};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Simulation {
    pub(super) job: Value,
    pub(super) pods: BTreeMap<String, Value>,
    /// Pods that succeeded while they still were to be counted.
    pub(super) successes: usize,
    /// All events, as text.
    pub(super) events: Vec<String>,
    caches: Arc<Caches>,
    sightings: Arc<Sightings>,
    pub(super) seconds: u64,
    seed: u64,
}

impl Simulation {
    /// A Job `j` of this spec.
    pub(super) fn new(spec: &str) -> Self {
        let text = format!(
            "{{kind: Job, metadata: {{name: j, namespace: a, uid: j, generation: 1, resourceVersion: '1'}}, spec: {{{spec}}}, status: {{}}}}"
        );
        let mut job: Value = object(&text);
        job["spec"]["selector"] = json!({"matchLabels": {"job": "j"}});
        let template = &mut job["spec"]["template"];
        template["metadata"]["labels"]["job"] = "j".into();
        template["spec"]["containers"] = json!([{"name": "c", "image": "i"}]);
        let mut simulation = Self {
            job,
            pods: BTreeMap::new(),
            successes: 0,
            events: Vec::new(),
            caches: world("").caches.clone(),
            sightings: Arc::default(),
            seconds: 0,
            seed: 0,
        };
        simulation.store_job();
        simulation
    }

    fn store_job(&mut self) {
        let version = self.job["metadata"]["resourceVersion"].as_str().unwrap();
        let version: u64 = version.parse().unwrap();
        self.job["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        self.caches
            .jobs
            .apply(serde_json::from_value(self.job.clone()).unwrap());
    }

    /// Changes the Job's spec.
    pub(super) fn set(&mut self, field: &str, value: Value) {
        self.job["spec"][field] = value;
        self.store_job();
    }

    pub(super) fn status(&self) -> JobStatus {
        serde_json::from_value(self.job["status"].clone()).unwrap()
    }

    /// The Job's conditions that hold, with their reasons.
    pub(super) fn conditions(&self) -> Vec<String> {
        let conditions = self.status().conditions.into_iter().filter(|c| c.is_true());
        conditions
            .map(|c| format!("{} {}", c.kind, c.reason))
            .collect()
    }

    pub(super) fn finished(&self) -> bool {
        let job: Job = serde_json::from_value(self.job.clone()).unwrap();
        job.finished().is_some()
    }

    /// The pods as the controller reads them.
    pub(super) fn pods(&self) -> Vec<Pod> {
        self.pods
            .values()
            .map(|pod| serde_json::from_value(pod.clone()).unwrap())
            .collect()
    }

    pub(super) fn active(&self) -> Vec<String> {
        let active = self.pods().into_iter().filter(Pod::is_active);
        active.map(|pod| pod.metadata.name).collect()
    }

    fn now(&self) -> String {
        agent_runtime::timestamp::time(after(self.seconds).wall)
    }

    /// A new leader, who remembers nothing.
    pub(super) fn take_over(&mut self) {
        self.sightings = Arc::default();
    }

    /// One reconcile, of which only so many operations are carried out. What it wanted.
    pub(super) fn interrupted(&mut self, operations: usize) -> Vec<String> {
        self.seed += 1;
        let world = World::new(
            self.caches.clone(),
            self.sightings.clone(),
            after(self.seconds),
            None,
            "CA".into(),
            self.seed,
        );
        let plan = reconcile(&Key::new("a", "j"), &world);
        let lines = plan.lines();
        let mut left = operations;
        for op in plan.ops {
            self.perform(op, &mut left);
        }
        lines
    }

    /// One reconcile.
    pub(super) fn reconcile(&mut self) -> Vec<String> {
        self.interrupted(usize::MAX)
    }

    /// Reconciles until nothing is left to do; what the last one said of the time.
    pub(super) fn settle(&mut self) -> Vec<String> {
        for _ in 0..40 {
            let lines = self.reconcile();
            if lines.iter().all(|line| line.starts_with("again in")) {
                return lines;
            }
        }
        let next = self.reconcile();
        panic!("no end: {:#?}\n{next:#?}", self.job["status"]);
    }

    fn perform(&mut self, op: Op, left: &mut usize) {
        if *left == 0 {
            return;
        }
        match op {
            Op::Sequence(ops) | Op::SlowStart(ops) | Op::Parallel(ops) => {
                for op in ops {
                    self.perform(op, left);
                }
                return;
            }
            Op::Reported { op, success, .. } => {
                self.perform(*op, left);
                self.events
                    .push(format!("{}: {}", success.reason, success.message));
                return;
            }
            Op::Event(report) => self
                .events
                .push(format!("{}: {}", report.reason, report.message)),
            Op::Create { body, .. } => self.create(body),
            Op::Delete { name, .. } => self.delete(&name),
            Op::Patch {
                resource,
                name,
                form,
                body,
                ..
            } => self.patch(&resource.plural, &name, form, &body),
            Op::Confirm { .. } => {}
            Op::CreateLike { .. }
            | Op::Absent { .. }
            | Op::Refused { .. }
            | Op::Follow { .. }
            | Op::Update { .. } => {
                panic!("no Job is treated like that")
            }
        }
        *left -= 1;
    }

    fn create(&mut self, mut pod: Value) {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        pod["metadata"]["uid"] = name.as_str().into();
        pod["metadata"]["creationTimestamp"] = self.now().into();
        pod["status"]["phase"] = "Pending".into();
        assert!(
            self.pods.insert(name.clone(), pod).is_none(),
            "{name} twice"
        );
        self.store(&name);
    }

    /// Adds a pod that nobody of us made.
    pub(super) fn add(&mut self, pod: &str) {
        self.create(object(pod));
    }

    fn store(&mut self, name: &str) {
        self.caches
            .pods
            .apply(serde_json::from_value(self.pods[name].clone()).unwrap());
    }

    /// Changes a pod, as whoever may.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.pods.get_mut(name).expect("a pod"));
        self.store(name);
    }

    /// What anybody's `kubectl delete` does: the pod runs until its node has ended it.
    pub(super) fn delete(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            if pod["metadata"]["deletionTimestamp"].is_null() {
                pod["metadata"]["deletionTimestamp"] = NOW.into();
            }
            self.store(name);
            self.remove_if_free(name);
        }
    }

    fn patch(&mut self, plural: &str, name: &str, form: PatchType, body: &Value) {
        if plural == "jobs" {
            let version = &body["metadata"]["resourceVersion"];
            assert_eq!(
                *version, self.job["metadata"]["resourceVersion"],
                "a stale copy"
            );
            merge(&mut self.job["status"], &body["status"]);
            return self.store_job();
        }
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        match form {
            PatchType::Merge => {
                let mut body = body.clone();
                body["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .remove("resourceVersion");
                merge(pod, &body);
            }
            _ => {
                let gone = body["metadata"]["$deleteFromPrimitiveList/finalizers"][0].clone();
                let finalizers = pod["metadata"]["finalizers"].as_array_mut().unwrap();
                finalizers.retain(|finalizer| *finalizer != gone);
            }
        }
        self.store(name);
        self.remove_if_free(name);
    }

    fn remove_if_free(&mut self, name: &str) {
        let pod = &self.pods[name];
        let ended = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        let free = pod["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty);
        if ended && free && !pod["metadata"]["deletionTimestamp"].is_null() {
            self.pods.remove(name);
            self.caches.pods.remove(&Key::new("a", name));
        }
    }

    /// What a node says of a pod: it ended with this code.
    pub(super) fn finish(&mut self, name: &str, code: i32) {
        let now = self.now();
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        if matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        ) {
            return;
        }
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let tracked = pod["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| f.contains(&TRACKING.into()));
        self.successes += usize::from(code == 0 && tracked);
        pod["status"]["phase"] = phase.into();
        pod["status"]["containerStatuses"] =
            json!([{"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": now}}}]);
        self.store(name);
        self.remove_if_free(name);
    }

    /// All pods that still run end with this code.
    pub(super) fn finish_all(&mut self, code: i32) {
        let names: Vec<String> = self.pods.keys().cloned().collect();
        for name in names {
            self.finish(&name, code);
        }
    }

    /// Nodes end what is being deleted.
    pub(super) fn end_deleted(&mut self) {
        let deleting = self
            .pods()
            .into_iter()
            .filter(|pod| pod.metadata.is_deleting());
        for pod in deleting {
            self.finish(&pod.metadata.name, 143);
        }
    }
}

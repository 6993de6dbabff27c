//! A cluster in memory that takes plans at their word: what a controller wants is done, and it is asked again. For tests
//! that a controller arrives somewhere, and rests there.

mod held;
mod lag;
mod patching;
mod rest;

pub(crate) use patching::merge;
pub(crate) use rest::{Leader, Woken, rest};

use crate::testing::{after, documents, world};
use crate::world::{Caches, Sightings, World};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::{ApiError, ControllerOptions, Key, PatchType};
use patching::by_type;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers that look random, the same for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// One of `0..sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// One of the names, if there is any.
    pub(crate) fn pick(&mut self, names: Vec<String>) -> Option<String> {
        let count = u64::try_from(names.len()).ok();
        let at = self.roll(count.filter(|count| *count > 0)?);
        names.into_iter().nth(usize::try_from(at).ok()?)
    }
}

/// See the module head.
pub(crate) struct Simulation {
    caches: Arc<Caches>,
    /// What the operator has chosen.
    pub(crate) options: Arc<ControllerOptions>,
    sightings: Arc<Sightings>,
    objects: BTreeMap<(String, Key), Value>,
    version: u64,
    /// Since the beginning.
    pub(crate) seconds: u64,
    /// Reasons of the events so far.
    pub(crate) events: Vec<String>,
    /// How many writes a leader can still do that is cut off.
    left: Option<u64>,
    /// What was removed since somebody cleared this, as it was at last.
    pub(crate) removed: Vec<Value>,
}

impl Simulation {
    /// A cluster that holds the objects of a YAML stream.
    pub(crate) fn new(text: &str) -> Self {
        let mut simulation = Self {
            caches: world("").caches,
            options: Arc::default(),
            sightings: Arc::default(),
            objects: BTreeMap::new(),
            version: 0,
            seconds: 0,
            events: Vec::new(),
            left: None,
            removed: Vec::new(),
        };
        documents(text)
            .into_iter()
            .for_each(|object| simulation.put(object));
        simulation
    }

    pub(crate) fn world(&self) -> World {
        // CronJobs ask how far the cache is.
        self.caches.jobs.set_synced(self.version);
        self.world_by(self.caches.clone())
    }

    /// The objects of a kind, by name.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        let of_kind = self.objects.iter().filter(|((k, _), _)| k == kind);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let mut all = self.objects.iter();
        all.find(|((k, key), _)| k == kind && *key.name == *name)
            .map(|(_, object)| object.clone())
    }

    /// Merges a patch into an object.
    pub(crate) fn patch(&mut self, kind: &str, name: &str, patch: &Value) {
        let mut object = self.get(kind, name).expect("an object to patch");
        let before = object["spec"].clone();
        merge(&mut object, patch);
        if kind == "ReplicaSet" && object["spec"] != before {
            // As the server counts them; the tests of other kinds say it themselves.
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = (generation + 1).into();
        }
        let metadata = &object["metadata"];
        let is_free = metadata["finalizers"].as_array().is_some_and(Vec::is_empty);
        if is_free && !metadata["deletionTimestamp"].is_null() {
            self.remove(kind, name);
        } else {
            self.put(object);
        }
    }

    /// Reconciles, and does what is wanted; whether there was anything to do, or will be.
    pub(crate) fn step(&mut self, key: &Key, reconcile: fn(&Key, &World) -> Plan) -> bool {
        let plan = reconcile(key, &self.world());
        let busy = !plan.ops.is_empty() || plan.again_in.is_some();
        for op in plan.ops {
            if self.perform(op).is_err() {
                break;
            }
        }
        busy
    }

    /// A leader is cut off after so many writes of a reconcile, and another one takes over who remembers nothing.
    pub(crate) fn cut_off(&mut self, key: &Key, reconcile: fn(&Key, &World) -> Plan, writes: u64) {
        self.left = Some(writes);
        self.step(key, reconcile);
        self.left = None;
        self.sightings = Arc::default();
    }

    /// Nothing reaches the cluster any more of who is cut off.
    fn write(&mut self) -> Result<(), ApiError> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(conflict()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn perform(&mut self, op: Op) -> Result<(), ApiError> {
        if matches!(op, Op::Create { .. } | Op::Patch { .. } | Op::Delete { .. }) {
            self.write()?;
        }
        match op {
            Op::Event(report) => self.events.push(report.reason.to_owned()),
            Op::Reported { op, success, .. } => {
                self.perform(*op)?;
                self.events.push(success.reason.to_owned());
            }
            Op::Refused { op, .. } => self.perform(*op)?,
            Op::Follow { first, mut then } => {
                self.perform(*first)?;
                if let Op::Patch {
                    resource,
                    name,
                    body,
                    ..
                } = &mut *then
                    && let Some(object) = self.get(&resource.kind, name)
                {
                    let version = &object["metadata"]["resourceVersion"];
                    body["metadata"]["resourceVersion"] = version.clone();
                }
                self.perform(*then)?;
            }
            Op::Absent {
                resource,
                name,
                uid,
                ..
            } => {
                let object = self.get(&resource.kind, &name);
                if object.is_some_and(|object| uid.is_empty() || object["metadata"]["uid"] == uid) {
                    return Err(conflict());
                }
            }
            Op::Sequence(ops) | Op::SlowStart(ops) => {
                for op in ops {
                    self.perform(op)?;
                }
            }
            Op::Parallel(ops) => {
                let outcomes: Vec<_> = ops.into_iter().map(|op| self.perform(op)).collect();
                return outcomes.into_iter().collect();
            }
            Op::Confirm {
                resource,
                name,
                uid,
                ..
            } => {
                let object = self.get(&resource.kind, &name);
                if object.is_none_or(|object| object["metadata"]["uid"] != uid) {
                    return Err(conflict());
                }
            }
            Op::Create {
                resource, mut body, ..
            } => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                if self.get(&resource.kind, &name).is_some() {
                    return Err(conflict());
                }
                body["metadata"]["uid"] = format!("uid-{}", self.version).into();
                let created = agent_runtime::timestamp::time(after(self.seconds).wall);
                body["metadata"]["creationTimestamp"] = created.into();
                match body["kind"].as_str() {
                    Some("Pod") => body["status"] = json!({"phase": "Pending"}),
                    Some("ReplicaSet") => body["metadata"]["generation"] = 1.into(),
                    _ => {}
                }
                self.put(body);
            }
            Op::CreateLike {
                resource,
                namespace,
                name,
                object,
            } => {
                let object = object.object(&name);
                return self.perform(Op::create(&resource, &namespace, object));
            }
            Op::Patch {
                resource,
                name,
                form,
                mut body,
                ..
            } => {
                let Some(object) = self.get(&resource.kind, &name) else {
                    return Ok(());
                };
                for field in ["uid", "resourceVersion"] {
                    let wanted = &body["metadata"][field];
                    if !wanted.is_null() && *wanted != object["metadata"][field] {
                        return Err(conflict());
                    }
                }
                if form == PatchType::Strategic {
                    by_type(&mut body, &object);
                }
                self.patch(&resource.kind, &name, &body);
            }
            Op::Update { .. } => panic!("no controller of the simulation does that"),
            Op::Delete {
                resource,
                name,
                params,
                ..
            } => {
                let object = self.get(&resource.kind, &name);
                let version = object.map(|object| object["metadata"]["resourceVersion"].clone());
                let is_other = |wanted: String| version.is_some_and(|version| version != wanted);
                if params.resource_version.is_some_and(is_other) {
                    return Err(conflict());
                }
                let uid = params.uid.unwrap_or_default();
                let at_once = params.grace_seconds == Some(0);
                self.delete(&resource.kind, &name, &uid, at_once);
            }
        }
        Ok(())
    }

    /// Pods that run go later unless they have to go at once, and so does what finalizers hold; everything else goes.
    fn delete(&mut self, kind: &str, name: &str, uid: &str, at_once: bool) {
        let Some(object) = self.get(kind, name) else {
            return;
        };
        if object["metadata"]["uid"] != uid {
            return;
        }
        let finalizers = object["metadata"]["finalizers"].as_array();
        let is_held = finalizers.is_some_and(|finalizers| !finalizers.is_empty());
        let takes_time = kind == "Pod" && object["status"]["phase"] == "Running" && !at_once;
        if is_held || takes_time {
            if !object["metadata"]["deletionTimestamp"].is_null() {
                return;
            }
            let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
            self.patch(kind, name, &mark);
        } else {
            self.remove(kind, name);
        }
    }

    pub(crate) fn remove(&mut self, kind: &str, name: &str) {
        let found = self
            .objects
            .keys()
            .find(|(k, key)| k == kind && *key.name == *name);
        if let Some((kind, key)) = found.cloned() {
            let last = self.objects.remove(&(kind.clone(), key.clone()));
            self.removed.extend(last);
            for cache in held::of(&self.caches, &kind) {
                cache.lose(&key);
            }
        }
    }

    /// Stores an object under its next version.
    pub(crate) fn put(&mut self, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let kind = object["kind"].as_str().unwrap().to_owned();
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let key = Key::new(&text("namespace"), &text("name"));
        for cache in held::of(&self.caches, &kind) {
            cache.hold(&object);
        }
        self.objects.insert((kind, key), object);
    }

    /// A pod becomes ready; one that is going is gone. Whether either happened.
    pub(crate) fn run(&mut self, name: &str) -> bool {
        let Some(pod) = self.get("Pod", name) else {
            return false;
        };
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            self.remove("Pod", name);
            return true;
        }
        let bound = pod.pointer("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0");
        let node = bound.and_then(Value::as_str).unwrap_or("n");
        if bound.is_some() && self.get("Node", node).is_none() {
            // Nobody binds it to a node that is not there.
            return false;
        }
        let now = agent_runtime::timestamp::time(after(self.seconds).wall);
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]});
        let waiting = pod["status"]["phase"] == "Pending";
        if waiting {
            self.patch(
                "Pod",
                name,
                &json!({"spec": {"nodeName": node}, "status": status}),
            );
        }
        waiting
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let all = self.all(kind).into_iter();
        all.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn conflict() -> ApiError {
    ApiError {
        code: 409,
        reason: "Conflict".into(),
        ..ApiError::default()
    }
}

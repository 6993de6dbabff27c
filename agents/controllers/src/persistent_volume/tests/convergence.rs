//! Whatever users, schedulers and nodes do, whenever the controller is cut short, and however old what it sees: nobody gets
//! the volume of somebody else, and when it is left alone it comes to an end at which both sides agree.

use super::super::*;
use crate::simulation::merge;
use crate::testing::world_of;
use agent_runtime::local_path::REMOVE;
use serde_json::{Value, json};

const STEPS: usize = 120;
const PASSES_MAX: usize = 40;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % bound as u64).unwrap()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// A server as far as the controller needs one.
#[derive(Clone)]
struct Server {
    objects: Vec<Value>,
    version: u64,
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl Server {
    fn new() -> Server {
        let node = json!({"kind": "Node", "metadata": {"name": "n", "uid": "node", "resourceVersion": "1",
            "labels": {"kubernetes.io/hostname": "n"}, "annotations": {"kontiki.io/local-path": "/data"}}});
        let class = |name: &str, provisioner: &str, mode: &str| json!({"kind": "StorageClass", "metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
        let local = class("local", "kontiki.io/local-path", "WaitForFirstConsumer");
        let outside = class("outside", "csi.example.com", "Immediate");
        Server {
            objects: vec![node, local, outside],
            version: 1,
        }
    }

    fn at(&self, kind: &str, name: &str) -> Option<usize> {
        let is_it = |o: &Value| o["kind"] == kind && text(o, "/metadata/name") == name;
        self.objects.iter().position(is_it)
    }

    fn put(&mut self, mut object: Value) {
        if self
            .at(text(&object, "/kind"), text(&object, "/metadata/name"))
            .is_some()
        {
            return;
        }
        self.version += 1;
        object["metadata"]["uid"] = format!("u{}", self.version).into();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object.get("status").is_none() && object["kind"] != "Node" {
            object["status"] = json!({"phase": "Pending"});
        }
        self.objects.push(object);
    }

    fn change(&mut self, kind: &str, name: &str, patch: &Value) {
        let Some(at) = self.at(kind, name) else {
            return;
        };
        self.version += 1;
        let before = text(&self.objects[at], "/spec/claimRef/uid").to_owned();
        merge(&mut self.objects[at], patch);
        self.objects[at]["metadata"]["resourceVersion"] = self.version.to_string().into();
        let after = text(&self.objects[at], "/spec/claimRef/uid");
        let is_same = before.is_empty() || after.is_empty() || before == after;
        assert!(is_same, "{name} was {before}'s and is {after}'s");
    }

    /// Whether the operation was taken.
    fn perform(&mut self, op: &Op) -> bool {
        match op {
            Op::Event(_) => true,
            Op::Absent { name, uid, .. } => {
                let at = self.at("PersistentVolumeClaim", name);
                at.is_none_or(|at| text(&self.objects[at], "/metadata/uid") != uid)
            }
            Op::Create { body, .. } => {
                let is_new = self
                    .at(text(body, "/kind"), text(body, "/metadata/name"))
                    .is_none();
                self.put(body.clone());
                is_new
            }
            Op::Patch {
                resource,
                name,
                body,
                ..
            } => {
                let Some(at) = self.at(&resource.kind, name) else {
                    return true;
                };
                let meta = &self.objects[at]["metadata"];
                let same = |field: &str| {
                    let wanted = &body["metadata"][field];
                    wanted.is_null() || *wanted == meta[field]
                };
                let is_fresh = same("resourceVersion") && same("uid");
                if is_fresh {
                    self.change(&resource.kind, name, body);
                    self.let_go(&resource.kind, name);
                }
                is_fresh
            }
            Op::Delete {
                resource,
                name,
                params,
                ..
            } => {
                if let Some(at) = self.at(&resource.kind, name)
                    && params.uid.as_deref() == Some(text(&self.objects[at], "/metadata/uid"))
                {
                    self.delete(&resource.kind, name);
                }
                true
            }
            other => panic!("{other:?}"),
        }
    }

    /// Marks an object as being deleted, and lets it go unless a finalizer holds it.
    fn delete(&mut self, kind: &str, name: &str) {
        let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let at = self.at(kind, name);
        if at.is_some_and(|at| text(&self.objects[at], "/metadata/deletionTimestamp").is_empty()) {
            self.change(kind, name, &mark);
        }
        self.let_go(kind, name);
    }

    fn let_go(&mut self, kind: &str, name: &str) {
        let Some(at) = self.at(kind, name) else {
            return;
        };
        let meta = &self.objects[at]["metadata"];
        let is_held = meta["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        if !meta["deletionTimestamp"].is_null() && !is_held {
            self.objects.remove(at);
        }
    }

    fn keys(&self) -> Vec<Key> {
        let key = |object: &Value| match text(object, "/kind") {
            "PersistentVolume" => Some(Key::new("", text(object, "/metadata/name"))),
            "PersistentVolumeClaim" => Some(Key::new("a", text(object, "/metadata/name"))),
            _ => None,
        };
        self.objects.iter().filter_map(key).collect()
    }

    /// What somebody else than the controller does.
    fn act(&mut self, dice: &mut Dice) {
        let claim = dice.pick(&["c1", "c2", "c3"]);
        let volume = dice.pick(&["v1", "v2", "v3"]);
        match dice.below(8) {
            0 | 1 => {
                let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": dice.pick(&["1Gi", "2Gi"])}},
                    "storageClassName": dice.pick(&["", "", "local", "outside"])});
                if dice.below(4) == 0 {
                    spec["volumeName"] = volume.into();
                }
                self.put(json!({"kind": "PersistentVolumeClaim", "metadata": {"name": claim, "namespace": "a"}, "spec": spec}));
            }
            2 | 3 => {
                let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": dice.pick(&["1Gi", "2Gi", "3Gi"])},
                    "persistentVolumeReclaimPolicy": dice.pick(&["Retain", "Delete", "Recycle"]), "hostPath": {"path": "/x"}});
                if dice.below(3) == 0 {
                    spec["claimRef"] = json!({"namespace": "a", "name": claim});
                    let bound = self
                        .at("PersistentVolumeClaim", claim)
                        .filter(|_| dice.below(2) == 0);
                    if let Some(at) = bound {
                        spec["claimRef"]["uid"] = self.objects[at]["metadata"]["uid"].clone();
                    }
                }
                self.put(
                    json!({"kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec}),
                );
            }
            4 => self.objects.retain(|o| text(o, "/metadata/name") != claim),
            5 if dice.below(2) == 0 => {
                let volumes = self
                    .objects
                    .iter()
                    .filter(|o| o["kind"] == "PersistentVolume");
                let names: Vec<String> =
                    volumes.map(|o| text(o, "/metadata/name").into()).collect();
                if !names.is_empty() {
                    self.delete("PersistentVolume", &names[dice.below(names.len())]);
                }
            }
            5 => self
                .objects
                .retain(|o| text(o, "/metadata/name") != volume || dice.below(2) == 0),
            6 => {
                let node = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": dice.pick(&["n", "gone"])}}});
                self.change("PersistentVolumeClaim", claim, &node);
            }
            _ => self.remove_directories(),
        }
    }

    fn remove_directories(&mut self) {
        let at = self.at("Node", "n").unwrap();
        if !text(
            &self.objects[at],
            "/metadata/annotations/kontiki.io~1local-path-remove",
        )
        .is_empty()
        {
            self.change(
                "Node",
                "n",
                &json!({"metadata": {"annotations": {REMOVE: null}}}),
            );
        }
    }

    fn settle(&mut self) {
        for _ in 0..PASSES_MAX {
            let before = self.version + self.objects.len() as u64;
            for key in self.keys() {
                let plan = reconcile(&key, &world_of(&self.objects));
                let _ = plan.ops.iter().all(|op| self.perform(op));
            }
            self.remove_directories();
            if before == self.version + self.objects.len() as u64 {
                return;
            }
        }
        panic!("there is no end: {:#?}", self.objects);
    }

    fn judge(&self) {
        let of_kind = |kind: &'static str| self.objects.iter().filter(move |o| o["kind"] == kind);
        let of_name = |kind: &str, name: &str| self.at(kind, name).map(|at| &self.objects[at]);
        for claim in of_kind("PersistentVolumeClaim") {
            let phase = text(claim, "/status/phase");
            if phase == "Bound" {
                let volume = of_name("PersistentVolume", text(claim, "/spec/volumeName")).unwrap();
                assert_eq!(
                    text(volume, "/spec/claimRef/uid"),
                    text(claim, "/metadata/uid")
                );
                assert_eq!(text(volume, "/status/phase"), "Bound", "{volume:#}");
                continue;
            }
            let world = world_of(&self.objects);
            let name = text(claim, "/metadata/name");
            let typed = world.caches.claims.get("a", name).unwrap();
            let is_open = phase == "Pending" && typed.spec.volume_name.is_empty();
            assert!(
                !is_open || matching::best(&typed, &world).is_none(),
                "{claim:#}"
            );
        }
        for volume in of_kind("PersistentVolume") {
            let (uid, phase) = (
                text(volume, "/spec/claimRef/uid"),
                text(volume, "/status/phase"),
            );
            let claim = of_name("PersistentVolumeClaim", text(volume, "/spec/claimRef/name"))
                .filter(|claim| text(claim, "/metadata/uid") == uid);
            let wanted: &[&str] = match claim {
                _ if uid.is_empty() => &["Available"],
                Some(claim)
                    if text(claim, "/spec/volumeName") == text(volume, "/metadata/name") =>
                {
                    &["Bound"]
                }
                // Somebody has kept for the claim what does not fit it.
                Some(_) => &["Pending", "Available", "Bound"],
                None => &["Released", "Failed"],
            };
            assert!(wanted.contains(&phase), "{volume:#} {claim:#?}");
        }
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut server = Server::new();
    let mut seen = vec![server.clone()];
    for _ in 0..STEPS {
        if dice.below(3) == 0 {
            server.act(&mut dice);
        } else {
            // From what was true a while ago, and perhaps not to the end.
            let back = dice.below(seen.len().min(4));
            let old = &seen[seen.len() - 1 - back];
            let keys = old.keys();
            if !keys.is_empty() {
                let key = &keys[dice.below(keys.len())];
                let plan = reconcile(key, &world_of(&old.objects));
                let until = dice.below(plan.ops.len() + 1);
                let _ = plan.ops[..until].iter().all(|op| server.perform(op));
            }
        }
        seen.push(server.clone());
    }
    server.settle();
    server.judge();
}

#[test]
fn every_state_leads_to_an_end_at_which_both_sides_agree() {
    for seed in 0..120 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

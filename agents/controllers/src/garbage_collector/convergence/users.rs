//! What users do to owners and dependents.

use super::{FOREIGN, Run, kinds, owners, text};
use crate::api::is_deleting;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Owners are chosen among so many of the last objects that were made.
const RECENT: usize = 7;

impl Run {
    /// A reference to something that there is, or was, or never was.
    pub(super) fn reference(&mut self) -> Value {
        let recent = self.made.len().min(RECENT);
        let back = self.up_to(recent + 1);
        let mut reference = match back {
            0 => json!({"apiVersion": "v1", "kind": "Pod", "name": "ghost", "uid": "ghost"}),
            back => self.made[self.made.len() - back].clone(),
        };
        reference["blockOwnerDeletion"] = (self.dice.roll(2) == 0).into();
        reference
    }

    /// Somebody makes an object, perhaps under the name of one that is gone.
    pub(super) fn make(&mut self) {
        let kind = kinds()[self.up_to(3)].clone();
        let name = format!("o{}", self.dice.roll(4));
        let namespace = ["z", "a"][usize::from(self.dice.roll(6) > 0)];
        if self.api.get(&kind.plural, namespace, &name).is_some() {
            return;
        }
        let uid = format!("u{}", self.made.len());
        let mut references: Vec<Value> = Vec::new();
        for _ in 0..self.dice.roll(3) {
            let reference = self.reference();
            if references.iter().all(|one| one["uid"] != reference["uid"]) {
                references.push(reference);
            }
        }
        let held = if self.dice.roll(5) == 0 {
            json!([FOREIGN])
        } else {
            json!([])
        };
        let (version, kind_name) = (kind.api_version(), &*kind.kind);
        self.made
            .push(json!({"apiVersion": version, "kind": kind_name, "name": name, "uid": uid}));
        let metadata = json!({"name": name, "namespace": namespace, "uid": uid, "finalizers": held, "ownerReferences": references});
        self.api.put(
            &kind.plural,
            json!({"apiVersion": version, "kind": kind_name, "metadata": metadata}),
        );
    }

    /// Any object that there is, and its plural.
    pub(super) fn any(&mut self) -> Option<(String, Value)> {
        let mut all = Vec::new();
        for kind in kinds() {
            let plural = kind.plural.to_string();
            all.extend(
                self.api
                    .all(&plural)
                    .into_iter()
                    .map(|one| (plural.clone(), one)),
            );
        }
        if all.is_empty() {
            return None;
        }
        let at = self.up_to(all.len());
        Some(all.swap_remove(at))
    }

    pub(super) fn delete(&mut self, plural: &str, object: &Value, propagation: &str) {
        let uid = text(object, "uid").to_owned();
        self.hear();
        self.orphans.retain(|(_, owner)| *owner != uid);
        let all_is_known = self.news.values().all(VecDeque::is_empty);
        if propagation == "Orphan" && !is_deleting(object) && all_is_known {
            for (dependent, one) in self.objects() {
                let is_beside = text(&one, "namespace") == text(object, "namespace");
                if is_beside && !is_deleting(&one) && owners(&one).contains(&uid) {
                    self.orphans.insert((dependent, uid.clone()));
                }
            }
        }
        let (namespace, name) = (text(object, "namespace"), text(object, "name"));
        self.api.delete(plural, namespace, name, propagation);
    }

    pub(super) fn patch(&mut self, plural: &str, object: &Value, metadata: &Value) {
        let (namespace, name) = (text(object, "namespace"), text(object, "name"));
        let patch = json!({"metadata": metadata});
        self.api.patch(plural, namespace, name, &patch);
    }

    /// Somebody gives an object one more owner, perhaps one that it owns.
    pub(super) fn adopt(&mut self, plural: &str, object: &Value, reference: Value) {
        let owner = reference["uid"].as_str().unwrap().to_owned();
        if owners(object).contains(&owner) {
            return;
        }
        self.orphans
            .remove(&(text(object, "uid").to_owned(), owner));
        let all = object["metadata"]["ownerReferences"].as_array();
        let mut all = all.cloned().unwrap_or_default();
        all.push(reference);
        self.patch(plural, object, &json!({"ownerReferences": all}));
    }

    /// Somebody has some objects own each other in a circle, and perhaps deletes one after the other.
    pub(super) fn entangle(&mut self) {
        let mut circle: BTreeMap<String, (String, Value)> = BTreeMap::new();
        for _ in 0..2 + self.dice.roll(2) {
            let one = self.any().filter(|(_, one)| text(one, "namespace") == "a");
            circle.extend(one.map(|(plural, one)| (text(&one, "uid").to_owned(), (plural, one))));
        }
        let circle: Vec<(String, Value)> = circle.into_values().collect();
        for (at, (plural, object)) in circle.iter().enumerate() {
            let (_, owner) = &circle[(at + 1) % circle.len()];
            let (name, uid) = (text(owner, "name"), text(owner, "uid"));
            let reference = json!({
                "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name, "uid": uid, "blockOwnerDeletion": true,
            });
            self.adopt(plural, object, reference);
        }
        if self.dice.roll(2) == 0 {
            for (plural, object) in &circle {
                self.delete(plural, object, "Foreground");
            }
        }
    }
}

//! `Object`: the one way the server looks at an API object.
//!
//! It wraps a JSON value that is known to be an object, so that the representation can change
//! behind it. Reading never fails: a field of an odd shape reads as absent, since validation is
//! somebody else's job and must be able to look at broken input.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// An API object: a JSON value whose root is a JSON object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object(Value);

/// The value given to [`Object::new`] is not a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an API object must be a JSON object, not {0}")]
pub struct NotAnObject(pub &'static str);

/// One entry of `metadata.ownerReferences`; absent strings read as empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

impl Default for Object {
    /// An object that says nothing.
    fn default() -> Object {
        Object(Value::Object(Map::new()))
    }
}

impl Object {
    /// Wraps a value; refuses anything but a JSON object.
    pub fn new(value: Value) -> Result<Object, NotAnObject> {
        if value.is_object() {
            Ok(Object(value))
        } else {
            Err(NotAnObject(kind_of(&value)))
        }
    }

    /// An object that has only its type.
    pub fn empty(api_version: &str, kind: &str) -> Object {
        let mut map = Map::new();
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("kind".to_owned(), kind.into());
        Object(Value::Object(map))
    }

    /// The object as a plain JSON value.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The value, to be changed in place; it must stay a JSON object (anything else reads as an
    /// object without fields).
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    pub fn into_value(self) -> Value {
        self.0
    }

    /// The fields of the root, to be changed.
    pub fn fields_mut(&mut self) -> &mut Map<String, Value> {
        if !self.0.is_object() {
            self.0 = Value::Object(Map::new());
        }
        self.0.as_object_mut().expect("it was just made an object")
    }

    /// `apiVersion`, empty when absent.
    pub fn api_version(&self) -> &str {
        self.root_str("apiVersion")
    }

    /// `kind`, empty when absent.
    pub fn kind(&self) -> &str {
        self.root_str("kind")
    }

    /// The group of `apiVersion`; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version().rsplit_once('/').map_or("", |(g, _)| g)
    }

    /// The version of `apiVersion`.
    pub fn version(&self) -> &str {
        let api_version = self.api_version();
        api_version.rsplit_once('/').map_or(api_version, |(_, v)| v)
    }

    pub fn set_api_version(&mut self, api_version: &str) {
        self.fields_mut()
            .insert("apiVersion".to_owned(), api_version.into());
    }

    pub fn set_kind(&mut self, kind: &str) {
        self.fields_mut().insert("kind".to_owned(), kind.into());
    }

    pub fn name(&self) -> &str {
        self.meta_str("name")
    }

    pub fn namespace(&self) -> &str {
        self.meta_str("namespace")
    }

    pub fn uid(&self) -> &str {
        self.meta_str("uid")
    }

    pub fn resource_version(&self) -> &str {
        self.meta_str("resourceVersion")
    }

    pub fn generate_name(&self) -> &str {
        self.meta_str("generateName")
    }

    pub fn creation_timestamp(&self) -> Option<&str> {
        self.meta("creationTimestamp")?.as_str()
    }

    /// Set once deletion was asked for.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.meta("deletionTimestamp")?.as_str()
    }

    pub fn deletion_grace_period_seconds(&self) -> Option<i64> {
        self.meta("deletionGracePeriodSeconds")?.as_i64()
    }

    /// `metadata.generation`, 0 when absent.
    pub fn generation(&self) -> i64 {
        self.meta("generation").and_then(Value::as_i64).unwrap_or(0)
    }

    /// The string pairs of `metadata.labels`, in key order.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        string_pairs(self.meta("labels"))
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.meta("labels")?.get(key)?.as_str()
    }

    /// The string pairs of `metadata.annotations`, in key order.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        string_pairs(self.meta("annotations"))
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.meta("annotations")?.get(key)?.as_str()
    }

    pub fn finalizers(&self) -> Vec<&str> {
        self.meta("finalizers")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    }

    pub fn owner_references(&self) -> Vec<OwnerReference<'_>> {
        let Some(list) = self.meta("ownerReferences").and_then(Value::as_array) else {
            return Vec::new();
        };
        list.iter()
            .filter(|v| v.is_object())
            .map(|v| {
                let text = |k: &str| v.get(k).and_then(Value::as_str).unwrap_or("");
                let flag = |k: &str| v.get(k).and_then(Value::as_bool).unwrap_or(false);
                OwnerReference {
                    api_version: text("apiVersion"),
                    kind: text("kind"),
                    name: text("name"),
                    uid: text("uid"),
                    controller: flag("controller"),
                    block_owner_deletion: flag("blockOwnerDeletion"),
                }
            })
            .collect()
    }

    /// The owner with `controller: true`, of which there is at most one.
    pub fn controller(&self) -> Option<OwnerReference<'_>> {
        self.owner_references().into_iter().find(|o| o.controller)
    }

    /// The entry of `status.conditions` with this `type`.
    pub fn condition(&self, condition_type: &str) -> Option<&Value> {
        self.get(&["status", "conditions"])?
            .as_array()?
            .iter()
            .find(|c| c.get("type").and_then(Value::as_str) == Some(condition_type))
    }

    /// `status` of the condition with this `type`: "True", "False" or "Unknown".
    pub fn condition_status(&self, condition_type: &str) -> Option<&str> {
        self.condition(condition_type)?.get("status")?.as_str()
    }

    /// `metadata`, when it is there and is an object.
    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.0.get("metadata")?.as_object()
    }

    /// `metadata`, made when it is not there (or is not an object).
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        object_at(self.fields_mut(), "metadata")
    }

    pub fn set_name(&mut self, name: &str) {
        self.set_meta_str("name", name);
    }

    /// An empty namespace removes the field.
    pub fn set_namespace(&mut self, namespace: &str) {
        self.set_meta_str("namespace", namespace);
    }

    pub fn set_uid(&mut self, uid: &str) {
        self.set_meta_str("uid", uid);
    }

    /// An empty version removes the field.
    pub fn set_resource_version(&mut self, version: &str) {
        self.set_meta_str("resourceVersion", version);
    }

    pub fn set_generate_name(&mut self, prefix: &str) {
        self.set_meta_str("generateName", prefix);
    }

    pub fn set_creation_timestamp(&mut self, rfc3339: &str) {
        self.set_meta_str("creationTimestamp", rfc3339);
    }

    pub fn set_deletion_timestamp(&mut self, rfc3339: Option<&str>) {
        self.set_meta_str("deletionTimestamp", rfc3339.unwrap_or(""));
    }

    pub fn set_deletion_grace_period_seconds(&mut self, seconds: Option<i64>) {
        match seconds {
            Some(s) => {
                self.metadata_mut()
                    .insert("deletionGracePeriodSeconds".to_owned(), s.into());
            }
            None => {
                self.metadata_mut().remove("deletionGracePeriodSeconds");
            }
        }
    }

    pub fn set_generation(&mut self, generation: i64) {
        let metadata = self.metadata_mut();
        match metadata.get_mut("generation") {
            Some(present) => *present = generation.into(),
            None => {
                metadata.insert("generation".to_owned(), generation.into());
            }
        }
    }

    pub fn set_label(&mut self, key: &str, value: &str) {
        object_at(self.metadata_mut(), "labels").insert(key.to_owned(), value.into());
    }

    pub fn remove_label(&mut self, key: &str) -> Option<String> {
        remove_from(self.metadata_mut(), "labels", key)
    }

    pub fn set_annotation(&mut self, key: &str, value: &str) {
        object_at(self.metadata_mut(), "annotations").insert(key.to_owned(), value.into());
    }

    pub fn remove_annotation(&mut self, key: &str) -> Option<String> {
        remove_from(self.metadata_mut(), "annotations", key)
    }

    /// Replaces the finalizers; an empty list removes the field.
    pub fn set_finalizers<S: AsRef<str>>(&mut self, finalizers: &[S]) {
        let list: Vec<Value> = finalizers.iter().map(|f| f.as_ref().into()).collect();
        if list.is_empty() {
            self.metadata_mut().remove("finalizers");
        } else {
            self.metadata_mut()
                .insert("finalizers".to_owned(), list.into());
        }
    }

    /// Replaces the owner references; an empty list removes the field.
    pub fn set_owner_references(&mut self, references: Vec<Value>) {
        if references.is_empty() {
            self.metadata_mut().remove("ownerReferences");
        } else {
            self.metadata_mut()
                .insert("ownerReferences".to_owned(), references.into());
        }
    }

    /// The value at a path of field names; `None` where a step is missing.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        if path.is_empty() {
            return None;
        }
        path.iter()
            .try_fold(&self.0, |value, step| value.get(*step))
    }

    pub fn get_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        if path.is_empty() {
            return None;
        }
        path.iter()
            .try_fold(&mut self.0, |value, step| value.get_mut(*step))
    }

    pub fn get_str(&self, path: &[&str]) -> Option<&str> {
        self.get(path)?.as_str()
    }

    pub fn get_i64(&self, path: &[&str]) -> Option<i64> {
        self.get(path)?.as_i64()
    }

    pub fn get_bool(&self, path: &[&str]) -> Option<bool> {
        self.get(path)?.as_bool()
    }

    pub fn get_array(&self, path: &[&str]) -> Option<&Vec<Value>> {
        self.get(path)?.as_array()
    }

    pub fn get_object(&self, path: &[&str]) -> Option<&Map<String, Value>> {
        self.get(path)?.as_object()
    }

    /// Sets the value at a path, making the objects on the way. An empty path changes nothing.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let parent = parents
            .iter()
            .fold(self.fields_mut(), |map, step| object_at(map, step));
        parent.insert((*last).to_owned(), value.into());
    }

    /// Sets the value at a path when nothing (or null) is there: the form of most defaults.
    pub fn set_default(&mut self, path: &[&str], value: impl Into<Value>) {
        if self.get(path).is_none_or(Value::is_null) {
            self.set(path, value);
        }
    }

    /// Takes the value at a path out; leaves the objects on the way, even when they get empty.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        if parents.is_empty() {
            return self.fields_mut().remove(*last);
        }
        self.get_mut(parents)?.as_object_mut()?.remove(*last)
    }

    fn root_str(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or("")
    }

    fn meta(&self, key: &str) -> Option<&Value> {
        self.0.get("metadata")?.get(key)
    }

    fn meta_str(&self, key: &str) -> &str {
        self.meta(key).and_then(Value::as_str).unwrap_or("")
    }

    fn set_meta_str(&mut self, key: &str, value: &str) {
        let metadata = self.metadata_mut();
        if value.is_empty() {
            metadata.remove(key);
            return;
        }
        match metadata.get_mut(key) {
            // The text before it was mostly as long.
            Some(Value::String(present)) => value.clone_into(present),
            Some(present) => *present = value.into(),
            None => {
                metadata.insert(key.to_owned(), value.into());
            }
        }
    }
}

impl TryFrom<Value> for Object {
    type Error = NotAnObject;
    fn try_from(value: Value) -> Result<Object, NotAnObject> {
        Object::new(value)
    }
}

impl From<Map<String, Value>> for Object {
    fn from(map: Map<String, Value>) -> Object {
        Object(Value::Object(map))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Value {
        object.into_value()
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        Map::deserialize(deserializer).map(|map| Object(Value::Object(map)))
    }
}

/// The JSON name of a value's type, as error texts say it.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The object at `key`, put there when something else (or nothing) is in its place.
fn object_at<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    if !map.get(key).is_some_and(Value::is_object) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    let object = map.get_mut(key).and_then(Value::as_object_mut);
    object.expect("it was just made an object")
}

/// Removes `key` from the object `field`, and the field itself when it gets empty.
fn remove_from(metadata: &mut Map<String, Value>, field: &str, key: &str) -> Option<String> {
    let map = metadata.get_mut(field)?.as_object_mut()?;
    let removed = map.remove(key);
    if map.is_empty() {
        metadata.remove(field);
    }
    removed?.as_str().map(str::to_owned)
}

fn string_pairs(value: Option<&Value>) -> impl Iterator<Item = (&str, &str)> + Clone {
    value
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Object {
        Object::new(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "a", "namespace": "n", "labels": {"x": "1", "odd": 3}, "finalizers": ["f"],
                "ownerReferences": [{"kind": "Deployment", "uid": "u", "controller": true}, "odd"]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    }

    #[test]
    fn reads_what_is_there() {
        let o = pod();
        assert_eq!(
            (o.group(), o.version(), o.kind()),
            ("apps", "v1", "ReplicaSet")
        );
        assert_eq!((o.name(), o.namespace(), o.uid()), ("a", "n", ""));
        assert_eq!(o.labels().collect::<Vec<_>>(), [("x", "1")]);
        assert_eq!(o.finalizers(), ["f"]);
        assert_eq!(o.controller().map(|c| c.kind), Some("Deployment"));
        assert_eq!(o.condition_status("Ready"), Some("True"));
        assert_eq!(o.get(&["metadata", "name", "deeper"]), None);
        assert_eq!(o.get(&[]), None);
    }

    #[test]
    fn odd_shapes_read_as_absent_and_are_replaced_on_write() {
        let mut o = Object::new(json!({"metadata": "text", "status": [1]})).unwrap();
        assert_eq!(o.name(), "");
        assert!(o.owner_references().is_empty());
        assert_eq!(o.generation(), 0);
        o.set_name("b");
        o.set(&["status", "phase"], "Running");
        o.set_label("k", "v");
        assert_eq!(o.remove_label("k"), Some("v".to_owned()));
        assert_eq!(
            o.into_value(),
            json!({"metadata": {"name": "b"}, "status": {"phase": "Running"}})
        );
        assert!(Object::new(json!([])).is_err());
    }

    #[test]
    fn a_text_of_the_metadata_takes_the_place_of_whatever_was_there() {
        for before in [
            json!("1"),
            json!("a longer text"),
            json!(7),
            json!(null),
            json!({}),
        ] {
            let mut o = Object::new(json!({"metadata": {"resourceVersion": before}})).unwrap();
            o.set_resource_version("12");
            o.set_name("b");
            let metadata = json!({"name": "b", "resourceVersion": "12"});
            assert_eq!(o.clone().into_value(), json!({"metadata": metadata}));
            o.set_resource_version("");
            assert_eq!(o.into_value(), json!({"metadata": {"name": "b"}}));
        }
    }

    #[test]
    fn set_default_and_remove() {
        let mut o = pod();
        o.set_default(&["metadata", "name"], "other");
        o.set_default(&["spec", "replicas"], 1);
        assert_eq!(o.name(), "a");
        assert_eq!(o.remove(&["spec", "replicas"]), Some(json!(1)));
        assert_eq!(o.remove(&["spec", "x", "y"]), None);
        assert_eq!(o.remove(&["spec"]), Some(json!({})));
    }
}

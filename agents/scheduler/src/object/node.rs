//! Nodes.

use super::pressure::{self, Told};
use super::{Taint, text};
use crate::resources::{Resources, items};
use crate::selector::{Labels, labels, strings};
use serde_json::Value;
use std::collections::BTreeMap;

/// A node, compiled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`, what `kubectl cordon` sets.
    pub unschedulable: bool,
    /// `status.allocatable` without the number of pods.
    pub allocatable: Resources,
    /// How many pods it may hold.
    pub pods_max: i64,
    /// Size in bytes by image name.
    pub images: BTreeMap<String, i64>,
    /// How long work waits there, for the profiles that go by it.
    pub pressure: Option<Told>,
}

impl Node {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Node {
        let null = Value::Null;
        let status = object.get("status").unwrap_or(&null);
        let pods = status.pointer("/allocatable/pods");
        let mut by_name = BTreeMap::new();
        for image in items(status, "images") {
            let size = image.get("sizeBytes").and_then(Value::as_i64).unwrap_or(0);
            by_name.extend(
                strings(image.get("names"))
                    .into_iter()
                    .map(|name| (name, size)),
            );
        }
        Node {
            name: text(object, "/metadata/name"),
            labels: labels(object.pointer("/metadata/labels")),
            taints: object
                .pointer("/spec/taints")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|t| Taint {
                    key: text(t, "/key"),
                    value: text(t, "/value"),
                    effect: text(t, "/effect"),
                })
                .collect(),
            unschedulable: object
                .pointer("/spec/unschedulable")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            allocatable: Resources::parse(status.get("allocatable")),
            pods_max: pods
                .map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_string))
                .map_or(0, |p| crate::quantity::value(&p)),
            images: by_name,
            pressure: pressure::told(object),
        }
    }
}

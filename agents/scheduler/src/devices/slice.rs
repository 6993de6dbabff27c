//! ResourceSlices: what drivers have to offer, and from which nodes it can be reached.

use super::capacity::{Amount, Capacity, taken};
use super::readiness::Conditions;
use crate::object::{Taint, text};
use crate::quantity;
use crate::resources::{items, quantity_text};
use crate::selector::{Labels, NodeSelectorTerm};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A pool of a driver: what its slices are parts of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId {
    /// The driver.
    pub driver: Arc<str>,
    /// The name that the driver gives it.
    pub pool: Arc<str>,
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.driver, self.pool)
    }
}

/// A device, by the names that are unique in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId {
    /// Where it is.
    pub pool: PoolId,
    /// Its name there.
    pub device: Arc<str>,
}

impl DeviceId {
    /// From the fields of a result.
    pub(crate) fn compile(object: &Value) -> DeviceId {
        DeviceId {
            pool: PoolId {
                driver: text(object, "/driver").into(),
                pool: text(object, "/pool").into(),
            },
            device: text(object, "/device").into(),
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.device)
    }
}

/// From which nodes something can be reached.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Nodes {
    /// Nothing is said that we know of.
    #[default]
    None,
    /// From this one.
    Named(String),
    /// From all.
    All,
    /// From those that any of the terms means; with the selector as it was given.
    Selected(Vec<NodeSelectorTerm>, Value),
}

impl Nodes {
    fn compile(object: &Value) -> Nodes {
        let name = text(object, "/nodeName");
        if !name.is_empty() {
            return Nodes::Named(name);
        }
        if object.get("allNodes").and_then(Value::as_bool) == Some(true) {
            return Nodes::All;
        }
        match object.get("nodeSelector").filter(|s| s.is_object()) {
            Some(selector) => Nodes::Selected(terms(selector), selector.clone()),
            None => Nodes::None,
        }
    }

    /// Whether the node is one of them.
    pub fn have(&self, node: &str, labels: &Labels) -> bool {
        match self {
            Nodes::None => false,
            Nodes::Named(name) => name == node,
            Nodes::All => true,
            Nodes::Selected(terms, _) => terms.iter().any(|term| term.matches(node, labels)),
        }
    }
}

/// The terms of a node selector that can mean a node.
pub(super) fn terms(selector: &Value) -> Vec<NodeSelectorTerm> {
    items(selector, "nodeSelectorTerms")
        .filter_map(NodeSelectorTerm::parse)
        .collect()
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// A semantic version.
    Version(String),
    /// One of a kind that we do not know. It is equal to nothing.
    Unknown,
}

impl Attribute {
    fn compile(object: &Value) -> Attribute {
        let field = |name: &str| object.get(name).filter(|value| !value.is_null());
        let word = |value: &Value| value.as_str().map(str::to_owned);
        if let Some(value) = field("int").and_then(Value::as_i64) {
            Attribute::Int(value)
        } else if let Some(value) = field("bool").and_then(Value::as_bool) {
            Attribute::Bool(value)
        } else if let Some(value) = field("string").and_then(word) {
            Attribute::Text(value)
        } else if let Some(value) = field("version").and_then(word) {
            Attribute::Version(value)
        } else {
            Attribute::Unknown
        }
    }
}

/// Amounts by name, in thousandths.
pub type Amounts = BTreeMap<String, i128>;

/// What a device takes from a set of counters that devices share.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumption {
    /// The set.
    pub set: String,
    /// How much of each counter.
    pub counters: Amounts,
}

/// A device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its names.
    pub id: DeviceId,
    /// By name as the slice has it, with or without domain.
    pub attributes: BTreeMap<String, Attribute>,
    /// By name, as attributes.
    pub capacity: BTreeMap<String, Capacity>,
    /// Whether several allocations may share it.
    pub shared: bool,
    /// What keeps requests away that do not tolerate it.
    pub taints: Vec<Taint>,
    /// From where it can be reached, where slices say so device by device.
    pub nodes: Nodes,
    /// What it takes from shared counters.
    pub consumes: Vec<Consumption>,
    /// What its driver has to say before a pod can have it.
    pub conditions: Conditions,
    /// Whether it can be reached from no other node once it was given to a pod on one.
    pub binds_to_node: bool,
}

impl Device {
    fn compile(object: &Value, pool: &PoolId) -> Device {
        let map = |field: &str| {
            let fields = object.get(field).and_then(Value::as_object);
            fields.into_iter().flatten()
        };
        let consumption = |item: &Value| Consumption {
            set: text(item, "/counterSet"),
            counters: amounts(item),
        };
        Device {
            id: DeviceId {
                pool: pool.clone(),
                device: text(object, "/name").into(),
            },
            attributes: map("attributes")
                .map(|(name, value)| (name.clone(), Attribute::compile(value)))
                .collect(),
            capacity: map("capacity")
                .filter_map(|(name, value)| Some((name.clone(), Capacity::compile(value)?)))
                .collect(),
            shared: flag(object, "allowMultipleAllocations"),
            taints: items(object, "taints")
                .map(|taint| Taint {
                    key: text(taint, "/key"),
                    value: text(taint, "/value"),
                    effect: text(taint, "/effect"),
                })
                .collect(),
            nodes: Nodes::compile(object),
            consumes: items(object, "consumesCounters").map(consumption).collect(),
            conditions: Conditions::compile(object),
            binds_to_node: flag(object, "bindsToNode"),
        }
    }

    /// An attribute by its name with domain: the driver's own names stand without one.
    pub fn attribute(&self, full_name: &str) -> Option<&Attribute> {
        let own = || {
            let (domain, name) = full_name.split_once('/')?;
            let of_driver = domain == &*self.id.pool.driver;
            of_driver.then(|| self.attributes.get(name)).flatten()
        };
        self.attributes.get(full_name).or_else(own)
    }

    /// What a request takes of each capacity, by name; none where the device has not all of it, or does not give it so.
    pub fn taken_by(&self, asked: &BTreeMap<String, Amount>) -> Option<BTreeMap<&str, Amount>> {
        taken(&self.capacity, &self.id.pool.driver, asked)
    }
}

fn flag(object: &Value, field: &str) -> bool {
    object.get(field).and_then(Value::as_bool) == Some(true)
}

/// The values of `counters`.
fn amounts(object: &Value) -> Amounts {
    let counters = object.get("counters").and_then(Value::as_object);
    let counters = counters.into_iter().flatten();
    counters
        .filter_map(|(name, value)| {
            let text = quantity_text(value.get("value")?);
            Some((name.clone(), quantity::thousandths(&text)))
        })
        .collect()
}

/// A ResourceSlice.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// The pool that it is a part of.
    pub pool: PoolId,
    /// Of which state of the pool it is. Only the newest counts.
    pub generation: i64,
    /// Of how many slices that state is.
    pub count: usize,
    /// From where its devices can be reached.
    pub nodes: Nodes,
    /// Each device says itself from where.
    pub per_device: bool,
    /// Whether any of its devices has to be made ready first.
    pub is_conditional: bool,
    /// The devices.
    pub devices: Vec<Device>,
    /// What devices of the pool share, by the name of the set.
    pub counters: BTreeMap<String, Amounts>,
}

impl Slice {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Slice {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let number = |pointer: &str| spec.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let pool = PoolId {
            driver: text(spec, "/driver").into(),
            pool: text(spec, "/pool/name").into(),
        };
        let devices = items(spec, "devices").map(|device| Device::compile(device, &pool));
        let devices: Vec<Device> = devices.collect();
        Slice {
            name: text(object, "/metadata/name"),
            generation: number("/pool/generation"),
            count: usize::try_from(number("/pool/resourceSliceCount")).unwrap_or(0),
            nodes: Nodes::compile(spec),
            per_device: flag(spec, "perDeviceNodeSelection"),
            is_conditional: devices.iter().any(|d| !d.conditions.is_empty()),
            devices,
            counters: items(spec, "sharedCounters")
                .map(|set| (text(set, "/name"), amounts(set)))
                .collect(),
            pool,
        }
    }

    /// Whether any of its devices may be reachable from the node.
    pub fn reaches(&self, node: &str, labels: &Labels) -> bool {
        match &self.nodes {
            Nodes::None if self.per_device => {
                let mut devices = self.devices.iter();
                devices.any(|device| device.nodes.have(node, labels))
            }
            nodes => nodes.have(node, labels),
        }
    }

    /// From where one of its devices can be reached.
    pub fn nodes_of<'a>(&'a self, device: &'a Device) -> &'a Nodes {
        match self.per_device {
            true => &device.nodes,
            false => &self.nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn device(object: &Value) -> Device {
        let pool = PoolId {
            driver: "d.example.com".into(),
            pool: "p".into(),
        };
        Device::compile(object, &pool)
    }

    #[test]
    fn attributes_without_domain_are_the_drivers() {
        let device = device(&json!({"name": "a", "attributes": {
            "model": {"string": "x"}, "other.example.com/model": {"int": 3}, "odd": {"ints": [1]}}}));
        let model = |name: &str| device.attribute(name).cloned();
        assert_eq!(
            model("d.example.com/model"),
            Some(Attribute::Text("x".into()))
        );
        assert_eq!(model("other.example.com/model"), Some(Attribute::Int(3)));
        assert_eq!(model("third.example.com/model"), None);
        assert_eq!(model("d.example.com/odd"), Some(Attribute::Unknown));
    }

    #[test]
    fn a_slice_reaches_the_nodes_that_it_names() {
        let labels: Labels = [("zone".to_owned(), "a".to_owned())].into();
        let reaches = |spec: Value| Slice::compile(&json!({"spec": spec})).reaches("n", &labels);
        assert!(reaches(json!({"nodeName": "n"})) && !reaches(json!({"nodeName": "m"})));
        assert!(reaches(json!({"allNodes": true})) && !reaches(json!({})));
        let of_zone = |zone: &str| {
            json!({"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "zone", "operator": "In", "values": [zone]}]}]})
        };
        assert!(reaches(json!({"nodeSelector": of_zone("a")})));
        assert!(!reaches(json!({"nodeSelector": of_zone("b")})));
        let one_by_one =
            |nodes: Value| reaches(json!({"perDeviceNodeSelection": true, "devices": [nodes]}));
        assert!(one_by_one(json!({"name": "a", "nodeName": "n"})));
        assert!(!one_by_one(
            json!({"name": "a", "nodeSelector": of_zone("b")})
        ));
    }

    #[test]
    fn odd_objects_compile_to_something_harmless() {
        for odd in [
            json!(null),
            json!({"spec": 5}),
            json!({"spec": {"devices": [5]}}),
        ] {
            let slice = Slice::compile(&odd);
            assert!(
                !slice.reaches("n", &Labels::new()) && slice.count == 0,
                "{odd}"
            );
        }
    }
}

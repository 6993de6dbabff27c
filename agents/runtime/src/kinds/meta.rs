//! `meta/v1`.

use super::{Exact, Few, Labels, List, Text, Time, fields};
use crate::cache::Key;
use crate::timestamp::Micros;
use serde::{Deserialize, Serialize};

fields! {
    /// Metadata of every object.
    pub struct ObjectMeta {
        pub name: String,
        pub namespace: String,
        pub uid: String,
        pub resource_version: Text,
        pub generation: i64,
        pub creation_timestamp: Time,
        pub deletion_timestamp: Option<Box<Text>>,
        /// 0 where it is not being deleted.
        pub deletion_grace_period_seconds: i64,
        pub labels: Labels,
        pub annotations: Labels,
        pub owner_references: List<OwnerReference>,
        pub finalizers: Few<String>,
    }

    /// A reference to the object that owns this one.
    pub struct OwnerReference {
        pub api_version: String,
        pub kind: String,
        pub name: String,
        pub uid: String,
        pub controller: Option<bool>,
        pub block_owner_deletion: Option<bool>,
    }

    /// A label selector; an empty one selects everything, an absent one nothing.
    pub struct LabelSelector {
        pub match_labels: Labels,
        pub match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// One requirement: `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub struct LabelSelectorRequirement {
        pub key: String,
        pub operator: String,
        pub values: Vec<String>,
    }

    /// A condition of any object's status.
    pub struct Condition {
        #[serde(rename = "type")]
        pub kind: String,
        pub status: String,
        pub observed_generation: i64,
        pub last_heartbeat_time: Option<String>,
        pub last_probe_time: Option<String>,
        pub last_update_time: Option<String>,
        pub last_transition_time: Option<String>,
        pub reason: String,
        pub message: String,
    }

    /// A reference to an object within its namespace.
    pub struct LocalObjectReference {
        pub name: String,
    }

    /// A reference to any object.
    pub struct ObjectReference {
        pub api_version: String,
        pub kind: String,
        pub namespace: String,
        pub name: String,
        pub uid: String,
        pub resource_version: String,
        pub field_path: String,
    }
}

/// Who an object is, and which state of it this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Of this incarnation.
    pub uid: &'a str,
    /// The revision of this state.
    pub resource_version: &'a str,
}

impl Identity<'_> {
    /// What it is found by.
    pub fn key(&self) -> Key {
        Key::new(self.namespace, self.name)
    }
}

impl ObjectMeta {
    /// Whose metadata this is.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            namespace: &self.namespace,
            name: &self.name,
            uid: &self.uid,
            resource_version: &self.resource_version,
        }
    }

    /// The owner that controls this object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references
            .iter()
            .find(|r| r.controller == Some(true))
    }

    /// Whether the object is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Whether `uid` controls this object.
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|r| r.uid == uid)
    }

    /// Creation time; 0 when it is missing.
    pub fn created(&self) -> Micros {
        self.creation_timestamp.micros().unwrap_or(0)
    }

    /// The version as a number; 0 when it is not one.
    pub fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }
}

impl Condition {
    /// Whether the condition holds.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of a kind.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.kind == kind)
}

/// A number or text (a port name, a percentage).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// Text.
    Text(String),
}

impl Exact for IntOrString {}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl IntOrString {
    /// The number, or the percentage of `total` rounded as asked. `None` for other text.
    pub fn scaled(&self, total: i64, round_up: bool) -> Option<i64> {
        match self {
            Self::Int(number) => Some(i64::from(*number)),
            Self::Text(text) => {
                let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
                let product = percent.checked_mul(total)?;
                Some(if round_up {
                    product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0)
                } else {
                    product.div_euclid(100)
                })
            }
        }
    }
}

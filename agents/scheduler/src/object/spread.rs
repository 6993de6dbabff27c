//! Topology spread constraints.

use super::affinity::selector_with_keys;
use super::text;
use crate::selector::{LabelSelector, Labels};
use serde_json::Value;

/// A topology spread constraint.
#[derive(Debug, Clone, PartialEq)]
pub struct SpreadConstraint {
    /// How much fuller than the emptiest place a place may be.
    pub max_skew: i64,
    /// The node label whose equal values make one place.
    pub topology_key: String,
    /// `DoNotSchedule`; otherwise the constraint only scores.
    pub hard: bool,
    /// Which pods are counted; `None` counts none.
    pub selector: Option<LabelSelector>,
    /// With fewer places than this the emptiest counts as empty.
    pub min_domains: i64,
    /// Count only nodes that the pod's node affinity allows.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

impl SpreadConstraint {
    /// One that counts nothing yet.
    pub fn without_selector(value: &Value) -> SpreadConstraint {
        SpreadConstraint {
            selector: None,
            ..SpreadConstraint::parse(value, &Labels::new())
        }
    }

    pub(super) fn parse(value: &Value, pod_labels: &Labels) -> SpreadConstraint {
        SpreadConstraint {
            max_skew: value.get("maxSkew").and_then(Value::as_i64).unwrap_or(1),
            topology_key: text(value, "/topologyKey"),
            hard: text(value, "/whenUnsatisfiable") != "ScheduleAnyway",
            selector: selector_with_keys(value, pod_labels),
            min_domains: value.get("minDomains").and_then(Value::as_i64).unwrap_or(1),
            honor_affinity: text(value, "/nodeAffinityPolicy") != "Ignore",
            honor_taints: text(value, "/nodeTaintsPolicy") == "Honor",
        }
    }
}

/// How pods without spread constraints of their own are spread.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultSpread {
    /// Over hosts and zones, softly.
    System,
    /// By these, which count the pods that belong to the same owner or Service.
    List(Vec<SpreadConstraint>),
}

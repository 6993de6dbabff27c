//! How long work waits on a node, and how much a pod minds.

use agent_runtime::pressure::{self, FIGURES, Pressure};
use agent_runtime::timestamp::Micros;
use serde_json::Value;

/// What a pod minds, as `cpu=3,io`: replaces the weights of the configuration. `none` for nothing.
const SENSITIVITY: &str = "scheduling.kontiki.io/pressure-sensitivity";
/// The largest weight.
pub(crate) const WEIGHT_MAX: u8 = 100;

/// What the agent of a node has said, and when. It is the same as long as the figures are.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The figures.
    pub pressure: Pressure,
    /// When they were measured.
    pub at: Micros,
}

impl PartialEq for Told {
    fn eq(&self, other: &Told) -> bool {
        self.pressure == other.pressure
    }
}

/// What a Node says, if it can be.
pub(super) fn told(object: &Value) -> Option<Told> {
    let annotation = annotation(object, pressure::ANNOTATION)?;
    let (pressure, at) = Pressure::read(annotation)?;
    Some(Told { pressure, at })
}

/// The weights of a pod in the order of [`FIGURES`], if it says any; nothing where one of them cannot be.
pub(super) fn sensitivity(object: &Value) -> Option<[u8; 3]> {
    let text = annotation(object, SENSITIVITY)?.trim();
    let mut weights = [0; 3];
    if text == "none" {
        return Some(weights);
    }
    for part in text.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let at = FIGURES.iter().position(|known| *known == name.trim())?;
        let weight = weight.trim().parse().ok();
        weights[at] = weight.filter(|weight| *weight <= WEIGHT_MAX)?;
    }
    Some(weights)
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(name)?
        .as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_names_what_it_minds() {
        let of =
            |text: Value| sensitivity(&json!({"metadata": {"annotations": {SENSITIVITY: text}}}));
        let table = [
            (json!("cpu"), Some([1, 0, 0])),
            (json!("cpu=3, io"), Some([3, 0, 1])),
            (json!("memory=100"), Some([0, 100, 0])),
            (json!("none"), Some([0, 0, 0])),
            (json!("cpu=0"), Some([0, 0, 0])),
            (json!(""), None),
            (json!("cpu=101"), None),
            (json!("cpu=-1"), None),
            (json!("gpu"), None),
            (json!(3), None),
        ];
        for (text, expected) in table {
            assert_eq!(of(text.clone()), expected, "{text}");
        }
    }
}

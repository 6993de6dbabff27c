//! Devices that have to be made ready for a pod: what their drivers have to say before it is bound, and what they have said.
//!
//! The rules are those of Kubernetes' DRADeviceBindingConditions. Unlike there, the failure of any device counts at once,
//! also while others have said nothing yet.

use super::claim::{Allocation, Had};
use crate::object::text;
use crate::resources::items;
use crate::selector::strings;
use serde_json::Value;

/// What the driver has to say of a device, as types of conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// All of them have to be true.
    pub ready: Vec<String>,
    /// None of them may be.
    pub failed: Vec<String>,
}

impl Conditions {
    /// Compiles those of a device, or of a result.
    pub(super) fn compile(object: &Value) -> Conditions {
        Conditions {
            ready: strings(object.get("bindingConditions")),
            failed: strings(object.get("bindingFailureConditions")),
        }
    }

    /// Whether there is nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

/// How far the devices of a claim are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing has to be waited for.
    #[default]
    Ready,
    /// Some driver has not said yet that its device is ready.
    Waiting,
    /// Some driver has said that it cannot be made ready; in the words of the event.
    Failed(String),
}

impl Readiness {
    /// Compiles it from what was allocated and what the status of the claim says of that.
    pub(super) fn of(claim: &str, allocation: &Allocation, status: &Value) -> Readiness {
        let mut readiness = Readiness::Ready;
        for had in allocation.devices.iter().filter(|had| had.waits()) {
            let told = items(status, "devices").find(|device| is_about(device, had));
            let is_true = |kind: &String| {
                let mut conditions = told.into_iter().flat_map(|told| items(told, "conditions"));
                conditions.find(|condition| {
                    text(condition, "/type") == *kind && text(condition, "/status") == "True"
                })
            };
            if let Some(failure) = had.conditions.failed.iter().find_map(is_true) {
                let (reason, message) = (text(failure, "/reason"), text(failure, "/message"));
                return Readiness::Failed(format!(
                    "claim {claim} binding failed: reason={reason}, message={message:?}"
                ));
            }
            if had
                .conditions
                .ready
                .iter()
                .any(|kind| is_true(kind).is_none())
            {
                readiness = Readiness::Waiting;
            }
        }
        readiness
    }
}

/// Whether an entry of `status.devices` is about the device.
fn is_about(entry: &Value, had: &Had) -> bool {
    let share = had.share.as_ref().map_or("", |share| share.id.as_str());
    text(entry, "/driver") == *had.id.pool.driver
        && text(entry, "/pool") == *had.id.pool.pool
        && text(entry, "/device") == *had.id.device
        && text(entry, "/shareID") == share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::claim::DeviceClaim;
    use serde_json::json;

    fn readiness(told: Value) -> Readiness {
        let result = |device: &str| {
            json!({"request": "r", "driver": "d", "pool": "p", "device": device,
                "bindingConditions": ["attached", "wired"], "bindingFailureConditions": ["lost"]})
        };
        let mut shared = result("b");
        shared["shareID"] = json!("s");
        let plain = json!({"request": "r", "driver": "d", "pool": "p", "device": "c"});
        let claim = json!({"metadata": {"name": "c", "namespace": "ns"}, "status": {
            "allocation": {"devices": {"results": [result("a"), shared, plain]}}, "devices": told}});
        DeviceClaim::compile(&claim).readiness
    }

    fn told(device: &str, conditions: &[(&str, &str)]) -> Value {
        let condition = |(kind, status): &(&str, &str)| json!({"type": kind, "status": status, "reason": "Why", "message": "what \"it\" says"});
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        let share = if device == "b" {
            json!("s")
        } else {
            json!(null)
        };
        json!({"driver": "d", "pool": "p", "device": device, "shareID": share, "conditions": conditions})
    }

    #[test]
    fn a_claim_is_ready_when_all_conditions_of_all_its_devices_are_true() {
        let both = [("attached", "True"), ("wired", "True")];
        for (devices, expected) in [
            (vec![], Readiness::Waiting),
            (vec![told("a", &both)], Readiness::Waiting),
            (
                vec![told("a", &both), told("b", &both[..1])],
                Readiness::Waiting,
            ),
            (
                vec![
                    told("a", &both),
                    told("b", &[both[0], ("wired", "Unknown")]),
                ],
                Readiness::Waiting,
            ),
            (vec![told("a", &both), told("b", &both)], Readiness::Ready),
            (
                vec![
                    told("a", &[both[0], both[1], ("lost", "False")]),
                    told("b", &both),
                ],
                Readiness::Ready,
            ),
        ] {
            assert_eq!(readiness(json!(devices)), expected, "{devices:?}");
        }
        let mut another = told("b", &both);
        another["shareID"] = json!("t");
        let devices = json!([told("a", &both), another]);
        assert_eq!(readiness(devices), Readiness::Waiting, "another share");
    }

    #[test]
    fn one_failure_is_enough_and_is_told_in_the_words_of_kubernetes() {
        let lost = [("lost", "True")];
        let words = "claim c binding failed: reason=Why, message=\"what \\\"it\\\" says\"";
        let failed = Readiness::Failed(words.into());
        assert_eq!(readiness(json!([told("b", &lost)])), failed);
    }
}

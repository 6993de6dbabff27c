//! Pods and nodes as the scheduler sees them: compiled once from the API object, so that no plugin parses a quantity
//! or a selector in its inner loop. A field of the wrong type counts as absent; the API server validates, and one odd
//! object must not stop the rest.

mod affinity;
mod group;
mod node;
mod pod;
mod port;
mod pressure;
mod spread;
mod taint;
mod template;

pub use affinity::AffinityTerm;
pub(crate) use affinity::{preferred_terms, required_terms};
pub use group::{GROUP_LABEL, Group};
pub use node::Node;
pub use pod::Pod;
pub use port::HostPort;
pub use pressure::Told;
pub(crate) use pressure::WEIGHT_MAX;
pub use spread::{DefaultSpread, SpreadConstraint};
pub(crate) use taint::toleration;
pub use taint::{Taint, Toleration};
pub use template::Template;

use serde_json::Value;

/// The scheduler name of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

pub(crate) fn controller_uid(object: &Value) -> Option<String> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let controller = owners
        .iter()
        .find(|o| o.get("controller").and_then(Value::as_bool) == Some(true))?;
    Some(text(controller, "/uid"))
}

/// The string at a JSON pointer, empty when there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn odd_objects_compile_to_something_harmless() {
        for odd in [
            json!(null),
            json!([]),
            json!({"spec": 5}),
            json!({"spec": {"tolerations": {"a": 1}}}),
        ] {
            assert_eq!(Pod::compile(&odd).host_ports, []);
            assert_eq!(Node::compile(&odd).pods_max, 0);
        }
    }
}

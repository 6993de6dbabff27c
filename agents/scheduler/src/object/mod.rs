//! Pods and nodes as the scheduler sees them: compiled once from the API object, so that no plugin parses a quantity
//! or a selector in its inner loop. A field of the wrong type counts as absent; the API server validates, and one odd
//! object must not stop the rest.

mod affinity;
mod alike;
mod group;
mod node;
mod outline;
mod pod;
mod port;
mod pressure;
mod spread;
mod taint;
mod template;
mod unread;

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
#[cfg(test)]
pub(crate) use unread::POD_UNREAD;

use serde_json::Value;

/// The scheduler name of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

pub(crate) fn controller_uid(object: &Value) -> Option<String> {
    let owners = field(object, "/metadata/ownerReferences")?.as_array()?;
    let controller = owners
        .iter()
        .find(|o| o.get("controller").and_then(Value::as_bool) == Some(true))?;
    Some(text(controller, "/uid"))
}

/// What is at a JSON pointer. Unlike [`Value::pointer`] it writes no part of the pointer down anew: dozens are looked up in each
/// state of each pod, and hardly any has an escaped character.
pub(crate) fn field<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer.is_empty() || pointer.contains('~') {
        return value.pointer(pointer);
    }
    let mut tokens = pointer.strip_prefix('/')?.split('/');
    tokens.try_fold(value, |value, token| match value {
        Value::Object(fields) => fields.get(token),
        other => other.pointer(&format!("/{token}")),
    })
}

/// The string at a JSON pointer, empty when there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    field(value, pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_is_found_as_by_a_pointer() {
        let object = json!({"a": {"b": [{"c": 1}, null], "": {"": 2}, "d/e": 3, "~": 4}, "0": "5"});
        let pointers = [
            "", "/", "a", "/a", "/a/b", "/a/b/0", "/a/b/0/c", "/a/b/1", "/a/b/1/c", "/a/b/00",
            "/a/b/-", "/a/b/+1", "/a/b/2", "/a//", "/a/", "/a/d~1e", "/a/d/e", "/a/~0", "/a/~",
            "/0", "/0/a", "/x/y", "a/b",
        ];
        for pointer in pointers {
            for value in [&object, &object["a"], &object["a"]["b"], &Value::Null] {
                assert_eq!(
                    field(value, pointer),
                    value.pointer(pointer),
                    "{pointer} of {value}"
                );
            }
        }
    }

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

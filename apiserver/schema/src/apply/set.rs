//! Sets of field paths, as trees of the written path elements (`f:spec`, `k:{"name":"a"}`).
//!
//! Elements stay in their written form: a path is compared with what is stored without parsing
//! either, and the set of an entry moves in and out of its JSON without being rewritten.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use super::{atom, element};

/// The place itself, in the written form of a set.
const SELF: &str = ".";
/// Deeper sets are refused: nobody wrote them here.
const DEPTH_MAX: usize = atom::DEPTH_MAX + 1;

/// A set of paths below one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set(BTreeMap<Box<str>, Node>);

/// A place: whether it is in the set itself, and what is in the set below it. Never empty within a
/// [`Set`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) member: bool,
    pub(super) below: Set,
}

impl Node {
    pub(super) fn leaf() -> Node {
        Node {
            member: true,
            below: Set::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    /// Reads `FieldsV1` that a client wrote. None where it is malformed.
    pub(super) fn read(value: &Value) -> Option<Set> {
        read(value, 0, &element::canonical)
    }

    /// Reads `FieldsV1` that [`Set::write`] wrote, whose elements have their one spelling.
    pub(super) fn read_own(value: &Value) -> Option<Set> {
        read(value, 0, &|text| Some(text.to_owned()))
    }

    /// `FieldsV1`.
    pub(super) fn write(self) -> Value {
        let mut map = Map::new();
        for (element, node) in self.0 {
            let Value::Object(mut below) = node.below.write() else {
                continue;
            };
            if node.member && !below.is_empty() {
                below.insert(SELF.to_owned(), Value::Object(Map::new()));
            }
            map.insert(element.into(), Value::Object(below));
        }
        Value::Object(map)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a place; nothing where it is empty.
    pub(super) fn put(&mut self, element: String, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.0.entry(element.into_boxed_str()) {
            Entry::Vacant(slot) => {
                slot.insert(node);
            }
            Entry::Occupied(mut slot) => {
                let present = slot.get_mut();
                present.member |= node.member;
                present.below.add(node.below);
            }
        }
    }

    /// Becomes the union with `other`.
    pub(super) fn add(&mut self, other: Set) {
        for (element, node) in other.0 {
            self.put(element.into(), node);
        }
    }

    /// Drops the paths of `other`. A path below or above one of them stays.
    pub(super) fn subtract(&mut self, other: &Set) {
        if self.is_empty() || other.is_empty() {
            return;
        }
        self.0.retain(|element, node| {
            if let Some(gone) = other.0.get(element) {
                node.member &= !gone.member;
                node.below.subtract(&gone.below);
            }
            !node.is_empty()
        });
    }

    /// The paths that are in both.
    pub(super) fn intersection(&self, other: &Set) -> Set {
        let mut both = BTreeMap::new();
        for (element, node) in &self.0 {
            let Some(theirs) = other.0.get(element) else {
                continue;
            };
            let shared = Node {
                member: node.member && theirs.member,
                below: node.below.intersection(&theirs.below),
            };
            if !shared.is_empty() {
                both.insert(element.clone(), shared);
            }
        }
        Set(both)
    }

    /// Adds a field.
    pub(super) fn put_field(&mut self, path: &[&str]) {
        let Some((name, rest)) = path.split_first() else {
            return;
        };
        let mut node = Node::default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.put_field(rest);
        }
        self.put(element::field(name), node);
    }

    /// Drops a field and all below it.
    pub(super) fn drop_field(&mut self, path: &[&str]) {
        let Some((name, rest)) = path.split_first() else {
            return;
        };
        let key = element::field(name);
        let Some(node) = self.0.get_mut(key.as_str()) else {
            return;
        };
        if !rest.is_empty() {
            node.below.drop_field(rest);
        }
        if rest.is_empty() || node.is_empty() {
            self.0.remove(key.as_str());
        }
    }

    /// What is said of one place.
    pub(super) fn at(&self, element: &str) -> Option<&Node> {
        self.0.get(element)
    }

    pub(super) fn places_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.0.iter_mut().map(|(element, node)| (&**element, node))
    }

    /// Whether every path is also in `other`.
    pub(super) fn is_within(&self, other: &Set) -> bool {
        self.0.iter().all(|(element, node)| {
            other.0.get(element).is_some_and(|theirs| {
                (!node.member || theirs.member) && node.below.is_within(&theirs.below)
            })
        })
    }

    /// Every path as messages show it (`.spec.containers[name="a"].image`), in Kubernetes' order:
    /// at each place first what ends there.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect("", &mut found);
        found
    }

    fn collect(&self, prefix: &str, found: &mut Vec<String>) {
        let mut places: Vec<(&str, &Node)> = self.0.iter().map(|(e, n)| (&**e, n)).collect();
        places.sort_by(|a, b| element::order(a.0, b.0));
        let shown = |element: &str| format!("{prefix}{}", element::shown(element));
        for (element, _) in places.iter().filter(|(_, node)| node.member) {
            found.push(shown(element));
        }
        for (element, node) in places {
            if !node.below.is_empty() {
                node.below.collect(&shown(element), found);
            }
        }
    }
}

fn read(value: &Value, depth: usize, spell: &impl Fn(&str) -> Option<String>) -> Option<Set> {
    let map = value.as_object()?;
    if depth > DEPTH_MAX {
        return None;
    }
    let mut set = Set::default();
    for (key, value) in map {
        if key == SELF {
            continue;
        }
        let below = read(value, depth + 1, spell)?;
        let has_self = value.get(SELF).is_some();
        let node = Node {
            member: has_self || below.is_empty(),
            below,
        };
        set.put(spell(key)?, node);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> Set {
        Set::read(&value).unwrap_or_else(|| panic!("{value}"))
    }

    #[test]
    fn what_is_read_is_written_again() {
        for value in [
            json!({}),
            json!({"f:a": {}}),
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"k:{\"name\":\"x\"}": {".": {}, "f:y": {}}}}),
            json!({"f:finalizers": {".": {}, "v:\"a\"": {}}, "f:l": {"i:0": {}}}),
        ] {
            assert_eq!(set(value.clone()).write(), value);
        }
        // Only what ends there, and other spellings of a key.
        assert_eq!(set(json!({"f:a": {".": {}}})).write(), json!({"f:a": {}}));
        assert_eq!(
            set(json!({"k:{ \"b\": 1, \"a\":\"x\" }": {}})).write(),
            json!({"k:{\"a\":\"x\",\"b\":1}": {}})
        );
    }

    #[test]
    fn malformed_sets_are_refused() {
        for value in [
            json!(null),
            json!([]),
            json!({"f:a": 1}),
            json!({"a": {}}),
            json!({"x:a": {}}),
            json!({"k:[1]": {}}),
            json!({"k:{": {}}),
            json!({"v:": {}}),
            json!({"i:x": {}}),
        ] {
            assert_eq!(Set::read(&value), None, "{value}");
        }
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({ "f:a": deep });
        }
        assert_eq!(Set::read(&deep), None);
    }

    #[test]
    fn the_algebra_is_that_of_sets_of_paths() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = set(json!({"f:a": {"f:b": {}, "f:d": {}}, "f:c": {"f:e": {}}}));
        assert_eq!(a.intersection(&b), set(json!({"f:a": {"f:b": {}}})));
        let mut less = a.clone();
        less.subtract(&b);
        assert_eq!(less, set(json!({"f:a": {}, "f:c": {}})));
        let mut union = a.clone();
        union.add(b.clone());
        assert_eq!(
            union,
            set(json!({"f:a": {".": {}, "f:b": {}, "f:d": {}}, "f:c": {".": {}, "f:e": {}}}))
        );
        assert!(a.is_within(&union) && b.is_within(&union) && !union.is_within(&a));
        union.drop_field(&["a", "b"]);
        union.drop_field(&["c"]);
        assert_eq!(union, set(json!({"f:a": {".": {}, "f:d": {}}})));
    }

    #[test]
    fn paths_are_shown_as_kubernetes_shows_them() {
        let set = set(json!({"f:spec": {"f:replicas": {}, "f:ports": {
            "k:{\"containerPort\":443,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}},
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}}},
            "f:metadata": {"f:finalizers": {"v:\"x\"": {}}}, "f:kind": {}}));
        assert_eq!(
            set.paths(),
            [
                ".kind",
                ".metadata.finalizers[=\"x\"]",
                ".spec.replicas",
                ".spec.ports[containerPort=80,protocol=\"TCP\"]",
                ".spec.ports[containerPort=443,protocol=\"TCP\"]",
                ".spec.ports[containerPort=443,protocol=\"TCP\"].name",
            ]
        );
    }
}

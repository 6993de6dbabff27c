//! Sets of field paths, kept in the form in which they are written: `FieldsV1`, a tree of path elements (`f:spec`,
//! `k:{"name":"a"}`).
//!
//! Elements stay in their written form: a path is compared with what is stored without parsing
//! either, and the set of an entry moves in and out of its JSON without being rewritten.

use serde_json::map::Entry;
use serde_json::{Map, Value};

use super::{atom, element};

/// The place itself, in the written form of a set. It sorts before every path element.
pub(super) const SELF: &str = ".";
/// Deeper sets are refused: nobody wrote them here.
const DEPTH_MAX: usize = atom::DEPTH_MAX + 1;

/// What is written below one place: objects, each under its path element. A place is in the set itself where nothing is below
/// it, or where it says so by [`SELF`], which stands only next to something else.
type Written = Map<String, Value>;

/// A set of paths below one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set(Written);

/// A place while it is made: whether it is in the set itself, and what is in the set below it. Never empty within a [`Set`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) member: bool,
    pub(super) below: Set,
}

/// A place of a set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a>(&'a Written);

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// The written form, which does not say of an empty node that it is not there.
    fn write(self) -> Written {
        let is_member = self.member && !self.below.is_empty();
        self.below.into_place(is_member)
    }
}

impl<'a> Place<'a> {
    pub(super) fn is_member(self) -> bool {
        is_member(self.0)
    }

    pub(super) fn has_below(self) -> bool {
        has_below(self.0)
    }

    /// A place below this one.
    pub(super) fn at(self, element: &str) -> Option<Place<'a>> {
        self.0.get(element)?.as_object().map(Place)
    }

    /// All places below this one.
    fn below(self) -> impl Iterator<Item = (&'a String, Place<'a>)> {
        let places = self.0.iter().filter(|(element, _)| *element != SELF);
        places.filter_map(|(element, place)| Some((element, Place(place.as_object()?))))
    }
}

impl Set {
    /// Reads `FieldsV1` that a client wrote. None where it is malformed.
    pub(super) fn read(value: &Value) -> Option<Set> {
        read(value, 0, &element::canonical)
    }

    /// Reads `FieldsV1` that [`Set::write`] wrote, whose elements have their one spelling.
    pub(super) fn read_own(value: Value) -> Option<Set> {
        match value {
            Value::Object(map) if is_settled(&map, 0) => Some(Set(map)),
            other => read(&other, 0, &|text| Some(text.to_owned())),
        }
    }

    /// A set whose written form is this.
    pub(super) fn of(written: Map<String, Value>) -> Set {
        Set(written)
    }

    /// `FieldsV1`.
    pub(super) fn write(self) -> Value {
        Value::Object(self.0)
    }

    /// What is below a place, and itself where it is a member, for [`written`].
    pub(super) fn into_place(self, is_member: bool) -> Map<String, Value> {
        let mut below = self.0;
        if is_member {
            below.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        below
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path begins with this element.
    pub(super) fn begins_with(&self, element: &str) -> bool {
        self.0.contains_key(element)
    }

    /// The place that the paths of the set begin at.
    pub(super) fn root(&self) -> Place<'_> {
        Place(&self.0)
    }

    /// Adds a place; nothing where it is empty.
    pub(super) fn put(&mut self, element: String, node: Node) {
        if !node.is_empty() {
            put(&mut self.0, element, node.write());
        }
    }

    /// Adds a place in its written form.
    pub(super) fn put_written(&mut self, element: String, place: Value) {
        if let Value::Object(place) = place {
            put(&mut self.0, element, place);
        }
    }

    /// Becomes the union with `other`.
    pub(super) fn add(&mut self, other: Set) {
        if self.is_empty() {
            *self = other;
            return;
        }
        add_below(&mut self.0, other.0);
    }

    /// Drops the paths of `other`. A path below or above one of them stays.
    pub(super) fn subtract(&mut self, other: &Set) {
        if !self.is_empty() {
            subtract_below(&mut self.0, &other.0);
        }
    }

    /// The paths that are in both.
    pub(super) fn intersection(&self, other: &Set) -> Set {
        Set(intersection(self.root(), other.root()).below.0)
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
        drop_field(&mut self.0, path);
    }

    /// Makes those places members that have something below them and that `step` says it of. `step` answers for an element
    /// below a state what the state there is, and whether the place becomes a member.
    pub(super) fn enter_parents<S: Copy>(&mut self, root: S, step: &impl Fn(S, &str) -> (S, bool)) {
        enter_parents(&mut self.0, root, step);
    }

    /// Whether every path is also in `other`.
    pub(super) fn is_within(&self, other: &Set) -> bool {
        is_within(self.root(), other.root())
    }

    /// Every path as messages show it (`.spec.containers[name="a"].image`), in Kubernetes' order:
    /// at each place first what ends there.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(self.root(), "", &mut found);
        found
    }
}

impl FromIterator<(String, Value)> for Set {
    /// A set of places in their written form; of two with the same element the second is kept.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(places: I) -> Set {
        Set(places.into_iter().collect())
    }
}

/// The written form of a place from what is below it, with [`SELF`] where it is a member; none where it is empty.
pub(super) fn written(mut below: Map<String, Value>, is_member: bool) -> Option<Value> {
    match is_member {
        false if below.is_empty() => return None,
        true if below.len() == 1 => below.clear(),
        _ => {}
    }
    Some(Value::Object(below))
}

fn is_member(place: &Written) -> bool {
    place.is_empty() || says_self(place)
}

fn has_below(place: &Written) -> bool {
    place.len() > usize::from(says_self(place))
}

/// Nearly always the first key tells.
fn says_self(place: &Written) -> bool {
    let first = place.keys().next();
    first.is_some_and(|first| first == SELF || first.as_str() < SELF && place.contains_key(SELF))
}

/// Writes down whether a place is in the set itself, after what is below it changed. False where nothing is left of it.
fn settle(place: &mut Written, member: bool) -> bool {
    let (says_self, has_below) = (says_self(place), has_below(place));
    match (member && has_below, says_self) {
        (true, false) => {
            place.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        (false, true) => {
            place.remove(SELF);
        }
        _ => {}
    }
    member || has_below
}

fn put(into: &mut Written, element: String, place: Written) {
    match into.entry(element) {
        Entry::Vacant(slot) => {
            slot.insert(Value::Object(place));
        }
        Entry::Occupied(mut slot) => {
            if let Value::Object(present) = slot.get_mut() {
                let member = is_member(present) || is_member(&place);
                add_below(present, place);
                settle(present, member);
            }
        }
    }
}

fn add_below(into: &mut Written, other: Written) {
    for (element, place) in other {
        if let (true, Value::Object(place)) = (element != SELF, place) {
            put(into, element, place);
        }
    }
}

fn subtract_below(from: &mut Written, gone: &Written) {
    for (element, gone) in Place(gone).below() {
        let Some(Value::Object(place)) = from.get_mut(element) else {
            continue;
        };
        let member = is_member(place) && !gone.is_member();
        subtract_below(place, gone.0);
        if !settle(place, member) {
            from.remove(element);
        }
    }
}

fn intersection(one: Place<'_>, other: Place<'_>) -> Node {
    let shared = one.below().filter_map(|(element, mine)| {
        let shared = intersection(mine, other.at(element)?);
        let there = !shared.is_empty();
        there.then(|| (element.clone(), Value::Object(shared.write())))
    });
    Node {
        below: shared.collect(),
        member: one.is_member() && other.is_member(),
    }
}

fn drop_field(from: &mut Written, path: &[&str]) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    let key = element::field(name);
    let Some(Value::Object(place)) = from.get_mut(&key) else {
        return;
    };
    let mut stays = false;
    if !rest.is_empty() {
        let member = is_member(place);
        drop_field(place, rest);
        stays = settle(place, member);
    }
    if !stays {
        from.remove(&key);
    }
}

fn enter_parents<S: Copy>(below: &mut Written, state: S, step: &impl Fn(S, &str) -> (S, bool)) {
    for (element, place) in below.iter_mut() {
        let (true, Value::Object(place)) = (element != SELF, place) else {
            continue;
        };
        let (state, enters) = step(state, element);
        enter_parents(place, state, step);
        if enters && has_below(place) {
            settle(place, true);
        }
    }
}

fn is_within(one: Place<'_>, other: Place<'_>) -> bool {
    one.below().all(|(element, mine)| {
        other.at(element).is_some_and(|theirs| {
            (!mine.is_member() || theirs.is_member()) && is_within(mine, theirs)
        })
    })
}

fn collect(place: Place<'_>, prefix: &str, found: &mut Vec<String>) {
    let mut places: Vec<(&String, Place<'_>)> = place.below().collect();
    places.sort_by(|a, b| element::order(a.0, b.0));
    let shown = |element: &str| format!("{prefix}{}", element::shown(element));
    for (element, _) in places.iter().filter(|(_, place)| place.is_member()) {
        found.push(shown(element));
    }
    for (element, place) in places {
        if place.has_below() {
            collect(place, &shown(element), found);
        }
    }
}

/// Whether the text of a set is as [`Set::write`] writes it, but for the spelling of its elements.
fn is_settled(below: &Written, depth: usize) -> bool {
    depth <= DEPTH_MAX
        && below.iter().all(|(element, place)| match place {
            Value::Object(place) if element == SELF => {
                place.is_empty() && depth > 0 && below.len() > 1
            }
            Value::Object(place) => is_settled(place, depth + 1),
            _ => false,
        })
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

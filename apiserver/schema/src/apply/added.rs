//! The fields of an object that is new: what [`compare`](super::compare::compare) finds added to nothing, in one walk along the
//! one object that makes the written form at once. Creates are frequent, and most of an object is new in them, as most of a
//! status is in the first write of that.

use serde_json::map::Entry;
use serde_json::{Map, Value};

use super::atom::{self, Atom, Identity, Items, Shape};
use super::compare::inner;
use super::element;
use super::set::{self, SELF, Set};
use crate::structural::Schema;

/// The fields of a new object, but for those under `skipped` paths. It counts as an object before that has its kind and empty
/// metadata.
pub(super) fn added(schema: Schema<'_>, new: &Value, skipped: &[&[&str]]) -> Set {
    let (root, bare) = (Atom::root(schema), nothing());
    let fields = new.as_object().into_iter().flatten();
    let places = fields.filter_map(|(key, value)| {
        let skipped = inner(skipped, key)?;
        let was = match key.as_str() {
            "metadata" => Some(&bare),
            other => root.implied(other),
        };
        let place = place(root.member(key).0, was, value, &skipped, 1)?;
        Some((element::field(key), place))
    });
    places.collect()
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

/// What is written of a place; none where it is not in the set. `old` is at most what is implied there: it has no parts.
fn place(
    atom: Atom<'_>,
    old: Option<&Value>,
    new: &Value,
    skipped: &[&[&str]],
    depth: usize,
) -> Option<Value> {
    if old == Some(new) {
        return None;
    }
    let shape = atom.shape(new, depth);
    // A value of another form that is replaced counts as nothing.
    let old = old.filter(|old| {
        let was = atom.shape(old, depth);
        matches!(was, Shape::Leaf) == matches!(shape, Shape::Leaf)
    });
    let below = match shape {
        Shape::Leaf => None,
        Shape::Map(atom) => map(atom, old, new, (skipped, depth), old.is_none()),
        Shape::List(of, identity) => list(of, identity, new, depth, old.is_none()),
    };
    // What stands as a whole is a path, and so is what has parts and was not there.
    match below {
        Some(below) => set::written(below, old.is_none()),
        None => Some(nothing()),
    }
}

/// What is in the set below a place that was not there before, and is in it itself.
pub(super) fn gained(atom: Atom<'_>, new: &Value, skipped: &[&[&str]], depth: usize) -> Set {
    let below = match atom.shape(new, depth) {
        Shape::Leaf => None,
        Shape::Map(atom) => map(atom, None, new, (skipped, depth), false),
        Shape::List(of, identity) => list(of, identity, new, depth, false),
    };
    Set::of(below.unwrap_or_default())
}

/// What is written below an object, with its own place where it `says_self`; none where it stands as a whole.
fn map(
    atom: Atom<'_>,
    old: Option<&Value>,
    new: &Value,
    (skipped, depth): (&[&[&str]], usize),
    says_self: bool,
) -> Option<Map<String, Value>> {
    let (before, after) = (old.and_then(Value::as_object), new.as_object());
    let has_implied = || atom.all_implied().next().is_some();
    let has_parts = |map: &Map<String, Value>| !map.is_empty() || has_implied();
    if !before.is_some_and(has_parts) && !after.is_some_and(has_parts) {
        return None;
    }
    let mut places = Vec::with_capacity(1 + after.map_or(0, Map::len));
    places.extend(says_self.then(|| (SELF.to_owned(), nothing())));
    let mut member = |key: &str, was: Option<&Value>, is: &Value| {
        let Some(skipped) = inner(skipped, key) else {
            return;
        };
        if let Some(place) = place(atom.member(key).0, was, is, &skipped, depth + 1) {
            places.push((element::field(key), place));
        }
    };
    for (key, is) in after.into_iter().flatten() {
        member(key, before.and_then(|_| atom.implied(key)), is);
    }
    if let (None, Some(after)) = (before, after) {
        for (name, is) in atom.all_implied() {
            if !after.contains_key(name) {
                member(name, None, is);
            }
        }
    }
    // In order already but for what is implied, so that the map is built in one go.
    Some(places.into_iter().collect())
}

/// What is written below a list, with its own place where it `says_self`; none where it stands as a whole.
fn list(
    of: Items<'_>,
    identity: Identity,
    new: &Value,
    depth: usize,
    says_self: bool,
) -> Option<Map<String, Value>> {
    let items = new.as_array().filter(|items| !items.is_empty())?;
    let mut places = Map::new();
    if says_self {
        places.insert(SELF.to_owned(), nothing());
    }
    for item in items {
        // What validation lets through without keys stands as a whole, ..
        let element = atom::item(of, identity, item).ok()?;
        match places.entry(element) {
            Entry::Vacant(slot) => {
                if let Some(place) = place(of.item(), None, item, &[], depth + 1) {
                    slot.insert(place);
                }
            }
            // .. and so do items that bear the same key.
            Entry::Occupied(mut slot) => {
                slot.insert(nothing());
            }
        }
    }
    Some(places)
}

#[cfg(test)]
mod tests;

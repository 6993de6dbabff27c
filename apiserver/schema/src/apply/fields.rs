//! The paths of an object: what a configuration says, and with which parts.

use serde_json::{Map, Value};

use super::atom::{self, Atom, Shape};
use super::element;
use super::set::{self, SELF, Set};
use crate::structural::Schema;

/// The paths of an object of a type. Items of lists that have no key are left out.
pub(super) fn fields(schema: Schema<'_>, object: &Value) -> Set {
    match walk(Atom::root(schema), object, 0, false) {
        Some(Value::Object(written)) => Set::of(written),
        _ => Set::default(),
    }
}

/// What is written of a place, which is a member where it stands as a whole and where `is_member` says so; none where it is not
/// in the set.
fn walk(atom: Atom<'_>, value: &Value, depth: usize, is_member: bool) -> Option<Value> {
    let below = match atom.shape(value, depth) {
        Shape::Leaf => return Some(Value::Object(Map::new())),
        Shape::Map(atom) => {
            let itself = is_member.then(|| (SELF.to_owned(), Value::Object(Map::new())));
            let fields = value.as_object().into_iter().flatten();
            let fields = fields.filter_map(|(key, value)| {
                let (member, named) = atom.member(key);
                let is_empty = value.as_object().is_some_and(Map::is_empty);
                let enters = value.is_null() || is_empty || !named;
                let place = walk(member, value, depth + 1, enters)?;
                Some((element::field(key), place))
            });
            // In order, so that the map is built in one go.
            itself.into_iter().chain(fields).collect()
        }
        Shape::List(of, identity) => {
            let mut items = Set::default();
            for value in value.as_array().into_iter().flatten() {
                let element = atom::item(of, identity, value);
                let place = walk(of.item(), value, depth + 1, true);
                if let (Ok(element), Some(place)) = (element, place) {
                    items.put_written(element, place);
                }
            }
            items.into_place(is_member)
        }
    };
    set::written(below, is_member)
}

/// Makes every named field that has a path below it a path itself: whoever owns `spec.replicas`
/// has a part in `spec`.
pub(super) fn with_parents(schema: Schema<'_>, mut set: Set) -> Set {
    set.enter_parents(
        Atom::root(schema),
        &|atom, element| match (element.strip_prefix("f:"), atom) {
            (Some(key), _) => atom.member(key),
            (None, Atom::List(of, _)) => (of.item(), false),
            (None, _) => (Atom::Deduced, false),
        },
    );
    set
}

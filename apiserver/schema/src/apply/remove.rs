//! An object without the fields and items at some paths.

use serde_json::{Map, Value};

use super::atom::{self, Atom, Shape};
use super::element;
use super::set::{Place, Set};
use crate::structural::Schema;

/// What becomes of a field that is empty because of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptied {
    /// It goes too: objects are stored like that.
    Gone,
    /// It stays, as a null: whoever owns the field itself still does. Ownership is told from this.
    Null,
}

/// The object without what stands at the paths of `gone`.
pub(super) fn remove(schema: Schema<'_>, object: &Value, gone: &Set, emptied: Emptied) -> Value {
    walk(Atom::root(schema), object, gone.root(), emptied, 0)
        .unwrap_or_else(|| Value::Object(Map::new()))
}

/// None where nothing is left.
fn walk(
    atom: Atom<'_>,
    value: &Value,
    gone: Place<'_>,
    emptied: Emptied,
    depth: usize,
) -> Option<Value> {
    if !gone.has_below() {
        return Some(value.clone());
    }
    match (atom.shape(value, depth), value) {
        (Shape::Map(atom), Value::Object(map)) => {
            let kept = map.iter().filter_map(|(key, value)| {
                let value = match gone.at(&element::field(key)) {
                    None => Some(value.clone()),
                    Some(place) if place.is_member() => None,
                    Some(place) => {
                        let left = walk(atom.member(key).0, value, place, emptied, depth + 1);
                        left.or((emptied == Emptied::Null).then_some(Value::Null))
                    }
                };
                Some((key.clone(), value?))
            });
            let kept: Map<String, Value> = kept.collect();
            (!kept.is_empty() || map.is_empty()).then_some(Value::Object(kept))
        }
        (Shape::List(of, identity), Value::Array(list)) => {
            let kept = list.iter().filter_map(|value| {
                let element = atom::item(of, identity, value).unwrap_or_default();
                match gone.at(&element) {
                    None => Some(value.clone()),
                    Some(place) if place.is_member() => None,
                    Some(place) => walk(of.item(), value, place, emptied, depth + 1),
                }
            });
            let kept: Vec<Value> = kept.collect();
            (!kept.is_empty() || list.is_empty()).then_some(Value::Array(kept))
        }
        _ => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests;

//! An object without the fields and items at some paths.

use serde_json::{Map, Value};

use super::atom::{self, Atom, Shape};
use super::element;
use super::set::{Place, Set};
use crate::structural::Schema;

/// The object without what stands at the paths of `gone`, and without what is empty because of it.
pub(super) fn remove(schema: Schema<'_>, object: &Value, gone: &Set) -> Value {
    walk(Atom::root(schema), object, gone.root(), 0).unwrap_or_else(|| Value::Object(Map::new()))
}

/// None where nothing is left.
fn walk(atom: Atom<'_>, value: &Value, gone: Place<'_>, depth: usize) -> Option<Value> {
    if !gone.has_below() {
        return Some(value.clone());
    }
    match (atom.shape(value, depth), value) {
        (Shape::Map(atom), Value::Object(map)) => {
            let kept = map.iter().filter_map(|(key, value)| {
                let value = match gone.at(&element::field(key)) {
                    None => Some(value.clone()),
                    Some(place) if place.is_member() => None,
                    Some(place) => walk(atom.member(key).0, value, place, depth + 1),
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
                    Some(place) => walk(of.item(), value, place, depth + 1),
                }
            });
            let kept: Vec<Value> = kept.collect();
            (!kept.is_empty() || list.is_empty()).then_some(Value::Array(kept))
        }
        _ => Some(value.clone()),
    }
}

//! The paths of an object: what a configuration says, and with which parts.

use serde_json::Value;

use super::atom::{self, Atom, Shape};
use super::element;
use super::set::{Node, Set};
use crate::structural::Schema;

/// The paths of an object of a type. Items of lists that have no key are left out.
pub(super) fn fields(schema: Schema<'_>, object: &Value) -> Set {
    walk(Atom::root(schema), object, 0).below
}

fn walk(atom: Atom<'_>, value: &Value, depth: usize) -> Node {
    match atom.shape(value, depth) {
        Shape::Leaf => Node::leaf(),
        Shape::Map(atom) => {
            let mut node = Node::default();
            for (key, value) in value.as_object().into_iter().flatten() {
                let (member, named) = atom.member(key);
                let mut below = walk(member, value, depth + 1);
                let is_empty = value.as_object().is_some_and(|map| map.is_empty());
                below.member |= value.is_null() || is_empty || !named;
                node.below.put(element::field(key), below);
            }
            node
        }
        Shape::List(of, identity) => {
            let mut node = Node::default();
            for value in value.as_array().into_iter().flatten() {
                let Ok(element) = atom::item(of, identity, value) else {
                    continue;
                };
                let mut below = walk(of.item(), value, depth + 1);
                below.member = true;
                node.below.put(element, below);
            }
            node
        }
    }
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

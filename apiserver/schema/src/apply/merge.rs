//! A configuration laid over an object.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::atom::{self, Atom, Identity, Items as Of, Shape};
use crate::renew::renew;
use crate::structural::Schema;

/// The object with everything that the configuration says.
pub(super) fn merge(schema: Schema<'_>, live: &Value, config: &Value) -> Value {
    let mut merged = live.clone();
    merge_into(schema, &mut merged, config);
    merged
}

/// The same in place.
pub(super) fn merge_into(schema: Schema<'_>, live: &mut Value, config: &Value) {
    walk(Atom::root(schema), live, config, 0);
}

fn walk(atom: Atom<'_>, live: &mut Value, config: &Value, depth: usize) {
    match (atom.shape(live, depth), atom.shape(config, depth)) {
        (Shape::Map(_), Shape::Map(atom)) => map(atom, live, config, depth + 1),
        (Shape::List(..), Shape::List(of, identity)) => list(of, identity, live, config, depth + 1),
        _ => renew(live, config),
    }
}

fn map(atom: Atom<'_>, live: &mut Value, config: &Value, depth: usize) {
    match (live, config.as_object()) {
        (Value::Object(before), Some(wanted)) if !before.is_empty() => {
            for (key, wanted) in wanted {
                match before.get_mut(key) {
                    Some(value) => walk(atom.member(key).0, value, wanted, depth),
                    None => {
                        before.insert(key.clone(), wanted.clone());
                    }
                }
            }
        }
        // A null says nothing of an object that has parts.
        (Value::Object(before), None) if !before.is_empty() => {}
        (live, _) => renew(live, config),
    }
}

/// Items in the order of the configuration; those that only the object has stay next to what was
/// before them.
fn list(of: Of<'_>, identity: Identity, live: &mut Value, config: &Value, depth: usize) {
    let (before, wanted) = match (live, config.as_array()) {
        (Value::Array(before), Some(wanted)) if !before.is_empty() => (before, wanted),
        (Value::Array(before), None) if !before.is_empty() => return,
        (live, _) => return renew(live, config),
    };
    let old = atom::items(of, identity, before);
    let new = atom::items(of, identity, wanted);
    let (Some(old), Some(new)) = (old, new) else {
        before.clone_from(wanted);
        return;
    };
    // Nearly always the same items are applied again.
    if old == new && old.iter().collect::<HashSet<_>>().len() == old.len() {
        for (value, wanted) in before.iter_mut().zip(wanted) {
            walk(of.item(), value, wanted, depth);
        }
        return;
    }
    let merged = zip(of.item(), (&old, &before[..]), (&new, wanted), depth);
    *before = merged;
}

type Items<'a> = (&'a [String], &'a [Value]);

fn zip(
    item: Atom<'_>,
    (old, before): Items<'_>,
    (new, wanted): Items<'_>,
    depth: usize,
) -> Vec<Value> {
    // Of items with the same key none is merged.
    let mut of_old: HashMap<&str, Option<&Value>> = HashMap::new();
    for (key, value) in old.iter().zip(before) {
        let slot = of_old.entry(key).and_modify(|slot| *slot = None);
        slot.or_insert(Some(value));
    }
    let of_new: HashSet<&str> = new.iter().map(String::as_str).collect();
    let mut shared = new.iter().filter(|key| of_old.contains_key(key.as_str()));
    let mut next_shared = shared.next();
    let mut taken: HashSet<&str> = HashSet::new();
    let mut out = Vec::with_capacity(old.len().max(new.len()));
    let merged = |at: usize| match of_old.get(new[at].as_str()) {
        Some(Some(before)) => {
            let mut merged = Value::clone(before);
            walk(item, &mut merged, &wanted[at], depth);
            merged
        }
        _ => wanted[at].clone(),
    };
    let (mut l, mut r) = (0, 0);
    while l < old.len() || r < new.len() {
        if l < old.len() && r < new.len() {
            if old[l] == new[r] {
                out.push(merged(r));
                taken.insert(&new[r]);
                next_shared = shared.next();
                l += 1;
                r += 1;
                continue;
            }
            if of_new.contains(old[l].as_str()) && next_shared.is_some_and(|key| *key != old[l]) {
                // It comes later in the configuration.
                l += 1;
                continue;
            }
        }
        if l < old.len() {
            if !of_new.contains(old[l].as_str()) {
                out.push(before[l].clone());
                l += 1;
                continue;
            }
            if taken.contains(old[l].as_str()) {
                l += 1;
                continue;
            }
        }
        if r < new.len() {
            out.push(merged(r));
            taken.insert(&new[r]);
            if next_shared == Some(&new[r]) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    out
}

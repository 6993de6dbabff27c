//! A configuration laid over an object.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::atom::{self, Atom, Identity, Items as Of, Shape};
use crate::structural::Schema;

/// The object with everything that the configuration says.
pub(super) fn merge(schema: Schema<'_>, live: &Value, config: &Value) -> Value {
    merge_but(schema, live, config, &[])
}

/// The same, without a field of the object that the configuration does not name: it is not copied for somebody who writes
/// another one in its place. Where nothing is merged above it, it may be there.
pub(super) fn merge_but(
    schema: Schema<'_>,
    live: &Value,
    config: &Value,
    left_out: &[&str],
) -> Value {
    walk(Atom::root(schema), live, config, left_out, 0)
}

fn walk(atom: Atom<'_>, live: &Value, config: &Value, left_out: &[&str], depth: usize) -> Value {
    match (atom.shape(live, depth), atom.shape(config, depth)) {
        (Shape::Map(_), Shape::Map(atom)) => map(atom, live, config, left_out, depth + 1),
        (Shape::List(..), Shape::List(of, identity)) => list(of, identity, live, config, depth + 1),
        _ => config.clone(),
    }
}

fn map(atom: Atom<'_>, live: &Value, config: &Value, left_out: &[&str], depth: usize) -> Value {
    let (before, wanted) = match (live.as_object(), config.as_object()) {
        (Some(before), Some(wanted)) if !before.is_empty() => (before, wanted),
        // A null says nothing of an object that has parts.
        (Some(before), None) if !before.is_empty() => return live.clone(),
        _ => return config.clone(),
    };
    let merged = before.iter().filter_map(|(key, value)| {
        let below = match left_out.split_first() {
            Some((name, rest)) if name == key => Some(rest),
            _ => None,
        };
        let value = match (wanted.get(key), below) {
            (Some(wanted), below) => {
                let below = below.unwrap_or_default();
                walk(atom.member(key).0, value, wanted, below, depth)
            }
            (None, Some([])) => return None,
            (None, _) => value.clone(),
        };
        Some((key.clone(), value))
    });
    let added = wanted.iter().filter(|(key, _)| !before.contains_key(*key));
    let added = added.map(|(key, value)| (key.clone(), value.clone()));
    Value::Object(merged.chain(added).collect())
}

/// Items in the order of the configuration; those that only the object has stay next to what was
/// before them.
fn list(of: Of<'_>, identity: Identity, live: &Value, config: &Value, depth: usize) -> Value {
    let (before, wanted) = match (live.as_array(), config.as_array()) {
        (Some(before), Some(wanted)) if !before.is_empty() => (before, wanted),
        (Some(before), None) if !before.is_empty() => return live.clone(),
        _ => return config.clone(),
    };
    let (Some(old), Some(new)) = (
        atom::items(of, identity, before),
        atom::items(of, identity, wanted),
    ) else {
        return config.clone();
    };
    Value::Array(zip(of.item(), (&old, before), (&new, wanted), depth))
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
        Some(Some(before)) => walk(item, before, &wanted[at], &[], depth),
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

//! What changed between two objects: paths that were added, removed and modified.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::added::gained;
use super::atom::{self, Atom, Identity, Items, Shape};
use super::element;
use super::set::{Node, Set};
use crate::structural::Schema;

/// The difference of two objects.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Set,
    pub(super) removed: Set,
    pub(super) modified: Set,
}

/// The difference at one place.
#[derive(Default)]
struct Diff {
    added: Node,
    removed: Node,
    modified: Node,
}

/// Compares two objects of a type, but for the fields under `skipped` paths.
pub(super) fn compare(
    schema: Schema<'_>,
    old: &Value,
    new: &Value,
    skipped: &[&[&str]],
) -> Changes {
    let diff = map(Atom::root(schema), Some(old), Some(new), skipped, 0);
    Changes {
        added: diff.added.below,
        removed: diff.removed.below,
        modified: diff.modified.below,
    }
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    /// What the writer wrote.
    pub(super) fn taken(&self) -> Set {
        let mut taken = self.added.clone();
        taken.add(self.modified.clone());
        taken
    }

    /// The same of changes that nobody needs any more.
    pub(super) fn into_taken(self) -> Set {
        let mut taken = self.added;
        taken.add(self.modified);
        taken
    }
}

impl Diff {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    fn put(&mut self, element: String, below: Diff) {
        for (into, node) in [
            (&mut self.removed, below.removed),
            (&mut self.modified, below.modified),
        ] {
            if !node.is_empty() {
                into.below.put(element.clone(), node);
            }
        }
        // Most of what is named is new.
        self.added.below.put(element, below.added);
    }

    /// A value that was not there, with this below it.
    fn gained(below: Set) -> Diff {
        let added = Node {
            member: true,
            below,
        };
        Diff {
            added,
            ..Diff::default()
        }
    }

    /// A value that stands as a whole.
    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Diff {
        let mut diff = Diff::default();
        match (old, new) {
            (None, Some(_)) => diff.added.member = true,
            (Some(_), None) => diff.removed.member = true,
            (Some(old), Some(new)) => diff.modified.member = !are_alike(old, new),
            (None, None) => {}
        }
        diff
    }
}

/// Whether both say the same: a number is the same with a fraction of zero and without, as it may have been stored.
fn are_alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() != other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_alike(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| are_alike(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => a == b,
    }
}

/// Whether both objects are the same but for their managers, down to the order of items.
pub(super) fn are_alike_but_managers(old: &Value, new: &Value) -> bool {
    fn fields<'v>(value: Option<&'v Value>, but: &str) -> Vec<(&'v String, &'v Value)> {
        let fields = value.and_then(Value::as_object).into_iter().flatten();
        fields.filter(|(name, _)| *name != but).collect()
    }
    let same = |old: Option<&Value>, new: Option<&Value>, but: &str| {
        let (old, new) = (fields(old, but), fields(new, but));
        let mut both = old.iter().zip(&new);
        old.len() == new.len() && both.all(|((a, old), (b, new))| a == b && are_alike(old, new))
    };
    same(Some(old), Some(new), "metadata")
        && same(old.get("metadata"), new.get("metadata"), "managedFields")
}

/// Of values that differ. What stands in a place is looked up where it matters.
fn walk<'a>(
    atom: impl FnOnce() -> Atom<'a>,
    old: Option<&Value>,
    new: Option<&Value>,
    skipped: &[&[&str]],
    depth: usize,
) -> Diff {
    let mut diff = match (old, new) {
        (None, None) => return Diff::default(),
        (None, Some(new)) => return Diff::gained(gained(atom(), new, skipped, depth)),
        (Some(one), None) => shaped(atom().shape(one, depth), old, new, skipped, depth),
        (Some(before), Some(after)) => {
            let atom = atom();
            let (from, to) = (atom.shape(before, depth), atom.shape(after, depth));
            match (from, to) {
                (Shape::Leaf, Shape::Map(_)) | (Shape::Map(_), Shape::Leaf) => {
                    // A value of another form took its place.
                    let mut diff = shaped(from, old, None, skipped, depth);
                    let gained = shaped(to, None, new, skipped, depth);
                    diff.added.below = gained.added.below;
                    diff.added.member = false;
                    diff.removed.member = false;
                    diff.modified.member = true;
                    diff
                }
                _ => shaped(to, old, new, skipped, depth),
            }
        }
    };
    // What has parts is also a path itself.
    diff.removed.member |= new.is_none();
    diff
}

fn shaped(
    shape: Shape<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    skipped: &[&[&str]],
    depth: usize,
) -> Diff {
    match shape {
        Shape::Leaf => Diff::leaf(old, new),
        Shape::Map(atom) => map(atom, old, new, skipped, depth),
        Shape::List(of, identity) => list(of, identity, old, new, depth),
    }
}

fn map(
    atom: Atom<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    skipped: &[&[&str]],
    depth: usize,
) -> Diff {
    let before = old.and_then(Value::as_object);
    let after = new.and_then(Value::as_object);
    let has_parts = |map: Option<&Map<String, Value>>| {
        map.is_some_and(|map| !map.is_empty() || atom.all_implied().next().is_some())
    };
    if !has_parts(before) && !has_parts(after) {
        return Diff::leaf(old, new);
    }
    let mut diff = Diff::default();
    let mut member = |key: &str| {
        let was = before.and_then(|map| map.get(key).or_else(|| atom.implied(key)));
        let is = after.and_then(|map| map.get(key).or_else(|| atom.implied(key)));
        // Most of an object stays as it is, and to see that is cheaper than to name its parts, or those that are skipped.
        if was == is {
            return;
        }
        let Some(inner) = inner(skipped, key) else {
            return;
        };
        let below = walk(|| atom.member(key).0, was, is, &inner, depth + 1);
        if !below.is_empty() {
            diff.put(element::field(key), below);
        }
    };
    for key in before.into_iter().flat_map(Map::keys) {
        member(key);
    }
    let is_new = |key: &&String| before.is_none_or(|map| !map.contains_key(*key));
    for key in after.into_iter().flat_map(Map::keys).filter(is_new) {
        member(key);
    }
    if before.is_some() != after.is_some() {
        let written = |name: &str| before.or(after).is_some_and(|map| map.contains_key(name));
        for (name, _) in atom.all_implied().filter(|(name, _)| !written(name)) {
            member(name);
        }
    }
    diff
}

/// The paths to skip below a key; none where the key itself is one of them.
pub(super) fn inner<'p>(skipped: &[&'p [&'p str]], key: &str) -> Option<Vec<&'p [&'p str]>> {
    let below = skipped.iter().filter_map(|path| match path.split_first() {
        Some((name, rest)) if *name == key => Some(rest),
        _ => None,
    });
    let below: Vec<&[&str]> = below.collect();
    below.iter().all(|rest| !rest.is_empty()).then_some(below)
}

fn list(
    of: Items<'_>,
    identity: Identity,
    old: Option<&Value>,
    new: Option<&Value>,
    depth: usize,
) -> Diff {
    let items = |value: Option<&'_ Value>| value.and_then(Value::as_array).map_or(0, Vec::len);
    if items(old) == 0 && items(new) == 0 {
        return Diff::leaf(old, new);
    }
    let mut both: BTreeMap<String, (Alike<'_>, Alike<'_>)> = BTreeMap::new();
    for (value, is_new) in [(old, false), (new, true)] {
        let list = value
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        // What validation lets through without keys stands as a whole.
        let Some(elements) = atom::items(of, identity, list) else {
            return Diff::leaf(old, new);
        };
        for (element, item) in elements.into_iter().zip(list) {
            let (was, is) = both.entry(element).or_default();
            if is_new { is } else { was }.push(item);
        }
    }
    let item = of.item();
    let mut diff = Diff::default();
    for (element, (was, is)) in both {
        diff.put(element, items_of_one_key(item, &was, &is, depth + 1));
    }
    diff
}

/// Items of one list that bear the same key: nearly always one.
#[derive(Default, PartialEq)]
struct Alike<'v> {
    first: Option<&'v Value>,
    others: Vec<&'v Value>,
}

impl<'v> Alike<'v> {
    fn push(&mut self, item: &'v Value) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.others.push(item),
        }
    }

    fn are_many(&self) -> bool {
        !self.others.is_empty()
    }
}

/// Items that bear the same key are compared together.
fn items_of_one_key(item: Atom<'_>, was: &Alike<'_>, is: &Alike<'_>, depth: usize) -> Diff {
    match (was.are_many(), is.are_many()) {
        (false, false) if was.first == is.first => Diff::default(),
        (false, false) => walk(|| item, was.first, is.first, &[], depth),
        (true, true) => {
            let mut diff = Diff::default();
            diff.modified.member = was != is;
            diff
        }
        (true, false) => {
            let mut diff = walk(|| item, None, is.first, &[], depth);
            diff.removed.member = true;
            diff
        }
        (false, true) => {
            let mut diff = walk(|| item, was.first, None, &[], depth);
            diff.added.member = true;
            diff
        }
    }
}

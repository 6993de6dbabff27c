//! Strategic merge patch: `application/strategic-merge-patch+json`, a merge patch that knows which
//! lists are merged by a key. It is what `kubectl apply`, `set image`, `edit` and `patch` send.
//!
//! Directives, beside the plain values:
//! - `$patch: replace | delete` in a map replaces or empties it; in an item of a list it replaces
//!   the list or deletes the item of that key,
//! - `$retainKeys: [..]` drops all other keys of the map,
//! - `$deleteFromPrimitiveList/<field>: [..]` removes scalars from a list,
//! - `$setElementOrder/<field>: [..]` orders the merged list.
//!
//! The algorithm is Kubernetes', oddities included: ports are merged by `containerPort` alone, so
//! one port with two protocols cannot be told apart.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::map::Entry;
use serde_json::{Map, Value};

use super::PatchError;
use crate::types::{Container, Element, Form, Type, type_by_id};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Applies a patch to an object of a type. Without a type, or inside fields that have none, lists
/// are replaced.
pub fn apply(ty: Option<&Type>, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    apply_to(ty, original.clone(), patch.clone())
}

/// The same on an object that nobody else needs, with a patch that is not needed any more.
pub fn apply_to(ty: Option<&Type>, original: Value, patch: Value) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(bad("invalid JSON document"));
    };
    let schema = ty.map_or(Schema::Unknown, Schema::Type);
    merge_map(original, patch, schema).map(Value::Object)
}

type Object = Map<String, Value>;

/// What is known of the map that is merged.
#[derive(Clone, Copy)]
enum Schema<'a> {
    Type(&'a Type),
    /// A map whose values are all alike.
    Values(Element),
    Unknown,
}

/// How a field is merged.
#[derive(Clone, Copy)]
struct Meta<'a> {
    schema: Schema<'a>,
    merge: bool,
    replace: bool,
    key: Option<&'a str>,
}

impl<'a> Schema<'a> {
    fn of(element: Element) -> Schema<'a> {
        match element {
            Element::Message(id) => match type_by_id(id) {
                ty if ty.form == Form::Object => Schema::Type(ty),
                _ => Schema::Unknown,
            },
            _ => Schema::Unknown,
        }
    }

    fn meta(self, field: &str) -> Result<Meta<'a>, PatchError> {
        let plain = |schema| Meta {
            schema,
            merge: false,
            replace: false,
            key: None,
        };
        match self {
            Schema::Unknown => Ok(plain(Schema::Unknown)),
            Schema::Values(element) => Ok(plain(Schema::of(element))),
            Schema::Type(ty) => {
                let Some(found) = ty.field(field) else {
                    let name = ty.name.rsplit('.').next().unwrap_or("");
                    return Err(refused(format!(
                        "unable to find api field in struct {name} for the json field {field:?}"
                    )));
                };
                Ok(Meta {
                    schema: match found.ty.container {
                        Container::Map => Schema::Values(found.ty.element),
                        Container::One | Container::List => Schema::of(found.ty.element),
                    },
                    merge: found.patch.merge,
                    replace: found.patch.replace,
                    key: found.patch.key,
                })
            }
        }
    }
}

fn bad(text: &str) -> PatchError {
    PatchError::BadRequest(text.to_owned())
}

fn refused(text: String) -> PatchError {
    PatchError::Refused(text)
}

/// A directive that is none, in the map that it stands in.
fn unknown_directive(directive: &Value, map: &Object) -> PatchError {
    let directive = match directive {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Bool(bool) => format!("%!s(bool={bool})"),
        Value::Number(number) if number.is_f64() => format!("%!s(float64={number})"),
        Value::Number(number) => format!("%!s(int64={number})"),
        other => printed(other),
    };
    let map = printed_map(map);
    refused(format!("unknown patch type: {directive} in map: {map}"))
}

/// A value as Go prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => printed_list(items),
        Value::Object(map) => printed_map(map),
        other => other.to_string(),
    }
}

fn printed_list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(printed).collect();
    format!("[{}]", items.join(" "))
}

fn printed_map(map: &Object) -> String {
    let member = |(key, value): (&String, &Value)| format!("{key}:{}", printed(value));
    let members: Vec<String> = map.iter().map(member).collect();
    format!("map[{}]", members.join(" "))
}

/// What Go calls a value that is not of the expected type.
fn bad_type(expected: &str, actual: &Value) -> PatchError {
    let actual = match actual {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => LIST,
        Value::Object(_) => MAP,
    };
    refused(format!("expected a {expected}, but received a {actual}"))
}

const LIST: &str = "[]interface {}";
const MAP: &str = "map[string]interface {}";

fn merge_map(
    mut original: Object,
    mut patch: Object,
    schema: Schema<'_>,
) -> Result<Object, PatchError> {
    match patch
        .get(PATCH)
        .map(|directive| (directive, directive.as_str()))
    {
        None => {}
        Some((_, Some("replace"))) => {
            patch.remove(PATCH);
            return Ok(patch);
        }
        Some((_, Some("delete"))) => return Ok(Map::new()),
        Some((directive, _)) => return Err(unknown_directive(directive, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        match key.strip_prefix(DELETE_FROM_LIST) {
            Some(rest) => {
                let field = rest
                    .strip_prefix('/')
                    .ok_or_else(|| bad("invalid patch format of primitive list"))?;
                delete_scalars(&mut original, field, &value);
            }
            None => merge_field(&mut original, key, value, schema)?,
        }
    }
    Ok(original)
}

fn merge_field(
    original: &mut Object,
    key: String,
    value: Value,
    schema: Schema<'_>,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let mut slot = match original.entry(key) {
        Entry::Occupied(slot) => slot,
        Entry::Vacant(slot) => {
            if let Some(new) = alone(value) {
                slot.insert(new);
            }
            return Ok(());
        }
    };
    let merged = match (slot.get_mut().take(), value) {
        (Value::Object(old), Value::Object(new)) => {
            let meta = schema.meta(slot.key())?;
            Value::Object(if meta.replace {
                new
            } else {
                merge_map(old, new, meta.schema)?
            })
        }
        (Value::Array(old), Value::Array(new)) => {
            let meta = schema.meta(slot.key())?;
            // What stands in the place of another list does so as it is, directives included, which are unknown fields.
            match meta.merge {
                true => Value::Array(merge_list(old, new, meta)?),
                false => Value::Array(new),
            }
        }
        (_, new) => match alone(new) {
            Some(new) => new,
            None => {
                slot.remove();
                return Ok(());
            }
        },
    };
    slot.insert(merged);
    Ok(())
}

/// A value that has no counterpart, or only one of another sort; none where it is not taken.
fn alone(mut value: Value) -> Option<Value> {
    if value.get(PATCH).is_some() {
        return None;
    }
    without_directives(&mut value);
    Some(value)
}

/// A value that has no counterpart is taken as it is, without its nulls and directives; a map that
/// only says what to do with its counterpart (`$patch`) is not taken at all.
fn without_directives(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let is_directive = key == RETAIN_KEYS
                    || key.starts_with(DELETE_FROM_LIST)
                    || key.starts_with(SET_ORDER);
                !is_directive && !value.is_null() && value.get(PATCH).is_none()
            });
            map.values_mut().for_each(without_directives);
        }
        Value::Array(items) => {
            items.retain(|item| item.get(PATCH).is_none());
            items.iter_mut().for_each(without_directives);
        }
        _ => {}
    }
}

/// `$retainKeys`: all fields of the patch must be in it; fields of the original that are not go.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let wrong = || bad("invalid patch format of retainKeys");
    let keys = directive.as_array().ok_or_else(wrong)?;
    let kept = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    for (key, value) in patch.iter() {
        let is_directive = key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
        if !value.is_null() && !is_directive && !kept(key) {
            return Err(wrong());
        }
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

fn delete_scalars(original: &mut Object, field: &str, gone: &Value) {
    // As in Kubernetes, anything but a list deletes nothing.
    let gone = gone.as_array().map(Vec::as_slice).unwrap_or_default();
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !gone.contains(&item.to_string()));
    }
}

/// What tells an item of a list from the others: the value of its key, or itself. Nearly all are texts, of which it takes no
/// more than the text; all else is told apart by its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Id<'a> {
    Text(Cow<'a, str>),
    Json(String),
}

impl<'a> Id<'a> {
    fn of(value: &'a Value) -> Id<'a> {
        match value {
            Value::String(text) => Id::Text(Cow::Borrowed(text)),
            other => Id::Json(other.to_string()),
        }
    }

    fn into_owned(self) -> Id<'static> {
        match self {
            Id::Text(text) => Id::Text(Cow::Owned(text.into_owned())),
            Id::Json(json) => Id::Json(json),
        }
    }
}

fn identity<'a>(item: &'a Value, key: Option<&str>) -> Option<Id<'a>> {
    match key {
        Some(key) => item.get(key).map(Id::of),
        None => Some(Id::of(item)),
    }
}

/// So many items are looked at one by one: that takes less than to hash what tells them apart.
const FEW: usize = 8;

/// The first position of each item, by identity. Lists can be long, so only short ones are searched, and none is copied.
enum Positions {
    Few(Vec<(Id<'static>, usize)>),
    Many(HashMap<Id<'static>, usize>),
}

impl Positions {
    /// Of no items yet, with room for so many.
    fn of(expected: usize) -> Positions {
        match expected <= FEW {
            true => Positions::Few(Vec::with_capacity(expected)),
            false => Positions::Many(HashMap::with_capacity(expected)),
        }
    }

    fn get(&self, id: &Id<'_>) -> Option<usize> {
        match self {
            Positions::Few(items) => {
                let found = items.iter().find(|(known, _)| *known == *id);
                found.map(|(_, at)| *at)
            }
            Positions::Many(items) => items.get(id).copied(),
        }
    }

    /// Nothing where there is one of that identity.
    fn put(&mut self, id: Id<'static>, at: usize) {
        match self {
            Positions::Few(items) if items.iter().any(|(known, _)| *known == id) => {}
            Positions::Few(items) if items.len() < FEW => items.push((id, at)),
            Positions::Few(items) => {
                let mut all: HashMap<Id<'static>, usize> = items.drain(..).collect();
                all.insert(id, at);
                *self = Positions::Many(all);
            }
            Positions::Many(items) => {
                items.entry(id).or_insert(at);
            }
        }
    }
}

fn positions<'a>(list: impl IntoIterator<Item = &'a Value>, key: Option<&str>) -> Positions {
    let list = list.into_iter();
    let mut found = Positions::of(list.size_hint().0);
    for (i, item) in list.enumerate() {
        if let Some(id) = identity(item, key) {
            found.put(id.into_owned(), i);
        }
    }
    found
}

/// `$setElementOrder/<field>`: merges the list of that field and orders the result. Both lists are
/// taken out of the patch.
fn merge_ordered_lists(
    original: &mut Object,
    patch: &mut Object,
    schema: Schema<'_>,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|k| k.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let wrong = || bad("invalid patch format of setElementOrder list");
        let field = directive[SET_ORDER.len()..]
            .strip_prefix('/')
            .ok_or_else(wrong)?;
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(bad_type(LIST, &other.unwrap_or_default())),
        };
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(bad_type(LIST, &other)),
        };
        let of_patch = list(patch.remove(field))?;
        // Its successor takes its place, unless the patch is refused.
        let of_original = list(original.remove(field))?;
        let meta = schema.meta(field)?;
        check_order(of_patch.as_deref().unwrap_or_default(), &order, meta.key)?;
        let server_order = server_order(
            of_original.as_deref().unwrap_or_default(),
            of_patch.as_deref().unwrap_or_default(),
            meta.key,
        );
        let merged = match (of_original, of_patch) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => {
                let mut new = Value::Array(new);
                without_directives(&mut new);
                new.as_array_mut().map(std::mem::take).unwrap_or_default()
            }
            (Some(old), Some(new)) if meta.merge => merge_list(old, new, meta)?,
            (Some(_), Some(new)) => new,
        };
        check_keys(merged.iter().chain(&order), meta.key)?;
        let order = positions(&order, meta.key);
        let ordered = in_order(merged, &order, &server_order, meta.key);
        original.insert(field.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// The order of the items before the patch. As in Kubernetes, an item that the patch adds counts as
/// old where it takes the place of one that the patch deletes.
fn server_order(original: &[Value], patch: &[Value], key: Option<&str>) -> Positions {
    let known = positions(original, key);
    let is_deletion = |item: &&Value| item.get(PATCH).is_some();
    let deleted = positions(patch.iter().filter(is_deletion), key);
    let is_in = |set: &Positions, item: &Value| {
        identity(item, key).is_some_and(|id| set.get(&id).is_some())
    };
    let kept = original.iter().filter(|item| !is_in(&deleted, item));
    let added = patch
        .iter()
        .filter(|item| item.get(PATCH).is_none() && !is_in(&known, item));
    positions(kept.chain(added).take(original.len()), key)
}

/// The items of the patch, directives aside, must stand in the order that the directive gives.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    let kept = patch.iter().filter(|item| item.get(PATCH).is_none());
    for item in kept {
        loop {
            let Some(next) = rest.next() else {
                return Err(refused(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                    printed_list(patch),
                    printed_list(order)
                )));
            };
            if let Some(key) = key {
                keyed(item, key)?;
                keyed(next, key)?;
            }
            if same_item(next, item, key) {
                break;
            }
        }
    }
    Ok(())
}

/// Refuses what is no map with this key.
fn keyed(item: &Value, key: &str) -> Result<(), PatchError> {
    match item {
        Value::Object(map) if map.contains_key(key) => Ok(()),
        Value::Object(_) => Err(no_merge_key(item, key)),
        other => Err(bad_type(MAP, other)),
    }
}

fn same_item(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    let map = printed(item);
    refused(format!(
        "map: {map} does not contain declared merge key: {key}"
    ))
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    meta: Meta<'_>,
) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    check_items(&original, &patch)?;
    let are_maps = original.iter().chain(&patch).any(Value::is_object);
    if !are_maps {
        return Ok(merge_scalars(original, patch));
    }
    let Some(key) = meta.key else {
        return Err(refused("cannot merge lists without merge key".to_owned()));
    };
    let (original, patch) = apply_item_directives(original, patch, key)?;
    let server_order = positions(&original, Some(key));
    let order = positions(&patch, Some(key));
    let mut merged = original;
    let mut added = Positions::of(0);
    for item in patch {
        let id = identity(&item, Some(key)).ok_or_else(|| no_merge_key(&item, key))?;
        let known = server_order.get(&id).or_else(|| added.get(&id));
        let new_id = known.is_none().then(|| id.into_owned());
        match (known, item) {
            (Some(at), Value::Object(new)) => {
                let old = merged[at].as_object_mut().map(std::mem::take);
                merged[at] = Value::Object(merge_map(old.unwrap_or_default(), new, meta.schema)?);
            }
            (_, item) => {
                if let Some(id) = new_id {
                    added.put(id, merged.len());
                }
                merged.push(item);
            }
        }
    }
    // All of the patch have it.
    check_keys(&merged, Some(key))?;
    Ok(in_order(merged, &order, &server_order, Some(key)))
}

/// Items are maps or scalars, never both, and never lists.
fn check_items(original: &[Value], patch: &[Value]) -> Result<(), PatchError> {
    let mut all = original.iter().chain(patch);
    if all.clone().any(Value::is_array) {
        let text = "lists of lists are not supported".to_owned();
        return Err(PatchError::Unprocessable(text));
    }
    let mut kinds = all.clone().map(Value::is_object);
    let first = kinds.next();
    if kinds.any(|k| Some(k) != first) || all.any(Value::is_null) {
        let lists = [original, patch].map(printed_list).join(" ");
        return Err(refused(format!(
            "list element types are not identical: [{lists}]"
        )));
    }
    Ok(())
}

/// The union, where the items of the patch keep its order.
fn merge_scalars(original: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::with_capacity(original.len() + patch.len());
    let all = original.iter().chain(&patch);
    let merged = all
        .filter(|&item| seen.insert(Id::of(item)))
        .cloned()
        .collect();
    let (order, server_order) = (positions(&patch, None), positions(&original, None));
    in_order(merged, &order, &server_order, None)
}

/// `$patch` in items: deletions are done on the original, a replacement drops it.
fn apply_item_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut replace = false;
    let mut deleted = HashSet::new();
    let mut plain = Vec::with_capacity(patch.len());
    for item in patch {
        match item.get(PATCH).map(|d| d.as_str().unwrap_or("")) {
            None => plain.push(item),
            Some("delete") => {
                let id = identity(&item, Some(key)).map(Id::into_owned);
                deleted.insert(id.ok_or_else(|| no_merge_key(&item, key))?);
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(refused(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            Some(_) => {
                let map = item.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(&item[PATCH], &map));
            }
        }
    }
    if !deleted.is_empty() {
        original.retain(|item| identity(item, Some(key)).is_none_or(|id| !deleted.contains(&id)));
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    Ok((original, plain))
}

/// Refuses items without the key that tells them apart, where there is one.
fn check_keys<'a>(
    items: impl IntoIterator<Item = &'a Value>,
    key: Option<&str>,
) -> Result<(), PatchError> {
    let Some(key) = key else {
        return Ok(());
    };
    let mut items = items.into_iter();
    items.try_for_each(|item| keyed(item, key))
}

/// Orders a merged list: the items that `order` names follow it, the others follow the server's
/// order, and where both are known to the server its order decides which comes first.
fn in_order(
    merged: Vec<Value>,
    order: &Positions,
    server_order: &Positions,
    key: Option<&str>,
) -> Vec<Value> {
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in merged {
        let id = identity(&item, key);
        let at = |places: &Positions| -> Option<usize> { places.get(id.as_ref()?) };
        let (at_patch, at_server) = (at(order), at(server_order));
        match at_patch {
            Some(at) => named.push((at, at_server, item)),
            None => others.push((at_server.unwrap_or(usize::MAX), at_server, item)),
        }
    }
    named.sort_by_key(|(at, ..)| *at);
    others.sort_by_key(|(at, ..)| *at);
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut left, mut right) = (others.into_iter().peekable(), named.into_iter().peekable());
    loop {
        let takes_left = match (left.peek(), right.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((_, l, _)), Some((_, r, _))) => matches!((l, r), (Some(l), Some(r)) if l < r),
        };
        let next = if takes_left {
            left.next()
        } else {
            right.next()
        };
        result.extend(next.map(|(.., item)| item));
    }
}

#[cfg(test)]
mod tests;

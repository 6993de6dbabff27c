//! `metadata.managedFields`: who owns which fields, and what an ordinary write changes in that.

use serde_json::{Map, Value};

use super::added::added;
use super::compare::{Changes, compare};
use super::set::Set;
use super::versions::{Seen, Versions, has_unknown};
use crate::structural::Schema;
use crate::time;

/// Updates by more managers than this are kept together as one of long ago.
pub(super) const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Nobody owns these: they identify the object, or are the server's.
pub(super) const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Who writes, and through which door.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// `v1` or `apps/v1`: the version of the object in the request.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339, to the second.
    pub now: &'a str,
    /// Paths that the door does not write, whatever the request says of them.
    pub reset: &'a [&'a [&'a str]],
    /// The versions that entries may have; none where all of them name the same fields.
    pub versions: Option<&'a dyn Versions>,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) applied: bool,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) set: Set,
}

/// The entries of one object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Managers(pub(super) Vec<Entry>);

impl Entry {
    pub(super) fn new(who: &Who<'_>, applied: bool) -> Entry {
        Entry {
            manager: who.manager.to_owned(),
            applied,
            api_version: who.api_version.to_owned(),
            subresource: who.subresource.to_owned(),
            time: None,
            set: Set::default(),
        }
    }

    /// Whether both are entries of the same manager. An applier is the same whatever version it
    /// speaks.
    pub(super) fn is_same(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.applied == other.applied
            && self.subresource == other.subresource
            && (self.applied || self.api_version == other.api_version)
    }

    pub(super) fn read(value: Value, fields: fn(Value) -> Option<Set>) -> Option<Entry> {
        let Value::Object(map) = value else {
            return None;
        };
        let mut entry = Entry {
            manager: String::new(),
            applied: false,
            api_version: String::new(),
            subresource: String::new(),
            time: None,
            set: Set::default(),
        };
        let (mut operation, mut form) = (String::new(), String::new());
        for (key, value) in map {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                ("fieldsV1", set) => entry.set = fields(set)?,
                ("manager", value) => entry.manager = text(value)?,
                ("operation", value) => operation = text(value)?,
                ("apiVersion", value) => entry.api_version = text(value)?,
                ("subresource", value) => entry.subresource = text(value)?,
                ("fieldsType", value) => form = text(value)?,
                ("time", value) => entry.time = Some(text(value)?).filter(|time| !time.is_empty()),
                _ => {}
            }
        }
        entry.applied = match operation.as_str() {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        (!entry.api_version.is_empty() && form == "FieldsV1").then_some(entry)
    }

    pub(super) fn write(self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("apiVersion", self.api_version.into());
        put("fieldsType", "FieldsV1".into());
        put("fieldsV1", self.set.write());
        if !self.manager.is_empty() {
            put("manager", self.manager.into());
        }
        put("operation", operation(self.applied).into());
        if !self.subresource.is_empty() {
            put("subresource", self.subresource.into());
        }
        if let Some(time) = self.time {
            put("time", time.into());
        }
        Value::Object(map)
    }

    pub(super) fn names(&self) -> [&str; 3] {
        [&self.manager, &self.api_version, &self.subresource]
    }

    pub(super) fn seconds(&self) -> i64 {
        let time = self.time.as_deref();
        time.and_then(time::parse).unwrap_or(0)
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

pub(super) fn operation(applied: bool) -> &'static str {
    if applied { "Apply" } else { "Update" }
}

impl Managers {
    /// Reads `managedFields` that a client sent. None where an entry is malformed.
    pub(super) fn read(value: Option<&Value>) -> Option<Managers> {
        let value = value.cloned().unwrap_or_default();
        Managers::read_with(value, |set| Set::read(&set))
    }

    /// Reads the `managedFields` of a stored object, all of which [`Managers::write`] wrote.
    pub(super) fn stored(object: &Value) -> Managers {
        entries(object)
            .cloned()
            .map(Managers::own)
            .unwrap_or_default()
    }

    /// Takes over `managedFields` that are as they are stored.
    pub(super) fn own(entries: Value) -> Managers {
        Managers::read_with(entries, Set::read_own).unwrap_or_default()
    }

    fn read_with(entries: Value, fields: fn(Value) -> Option<Set>) -> Option<Managers> {
        let mut managers = Managers::default();
        let Value::Array(entries) = entries else {
            return Some(managers);
        };
        for value in entries {
            let entry = Entry::read(value, fields)?;
            match managers.0.iter_mut().find(|known| known.is_same(&entry)) {
                Some(known) => *known = entry,
                None => managers.0.push(entry),
            }
        }
        Some(managers)
    }

    /// `managedFields`, sorted; none where there are no entries.
    pub(super) fn write(self) -> Option<Value> {
        if self.0.is_empty() {
            return None;
        }
        let timed = self.0.into_iter().map(|entry| (entry.seconds(), entry));
        let mut timed: Vec<(i64, Entry)> = timed.collect();
        timed.sort_by(|(a_seconds, a), (b_seconds, b)| {
            let time = (operation(a.applied), a_seconds).cmp(&(operation(b.applied), b_seconds));
            time.then_with(|| a.names().cmp(&b.names()))
        });
        Some(timed.into_iter().map(|(_, entry)| entry.write()).collect())
    }

    /// After an ordinary write: the writer owns what it changed, and the others do not. An object
    /// that is there and has no managers gets none: its fields have unknown owners.
    pub(super) fn update(mut self, old: &Value, seen: Seen, who: &Who<'_>) -> Managers {
        let untracked = self.0.is_empty() && old.pointer("/metadata/uid").is_some();
        self.forget_unknown(who);
        if untracked || seen.own().is_empty() {
            return self;
        }
        self.take(seen, who);
        self.cap();
        self
    }

    /// Gives to the writer what it wrote, and takes that from the others.
    pub(super) fn take(&mut self, seen: Seen, who: &Who<'_>) {
        self.give_up(&seen, |_| true);
        let taken = seen.into_own().into_taken();
        if !taken.is_empty() {
            let own = Entry::new(who, false);
            let own = self.entry(own);
            own.set.add(taken);
            own.time = Some(who.now.to_owned());
        }
    }

    /// Takes from the chosen entries what was written, and from them what is gone.
    pub(super) fn give_up(&mut self, seen: &Seen, chosen: impl Fn(&Entry) -> bool) {
        for entry in &mut self.0 {
            if chosen(entry) {
                let Changes {
                    added,
                    removed,
                    modified,
                } = seen.by(entry);
                for gone in [added, modified, removed] {
                    entry.set.subtract(gone);
                }
            }
        }
        self.0.retain(|entry| !entry.set.is_empty());
    }

    /// The entry of that manager, made where there is none.
    pub(super) fn entry(&mut self, entry: Entry) -> &mut Entry {
        let at = self.0.iter().position(|known| known.is_same(&entry));
        let at = at.unwrap_or_else(|| {
            self.0.push(entry);
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// Merges the oldest updates into one, until there are not too many.
    fn cap(&mut self) {
        let mut updaters: Vec<usize> = (0..self.0.len()).filter(|i| !self.0[*i].applied).collect();
        if updaters.len() <= UPDATERS_MAX {
            return;
        }
        updaters.sort_by_key(|i| {
            let entry = &self.0[*i];
            let names = (entry.manager.clone(), entry.api_version.clone());
            (entry.seconds(), names, entry.subresource.clone())
        });
        let mut left = updaters.len();
        let mut buckets: Vec<Entry> = Vec::new();
        let mut gone: Vec<usize> = Vec::new();
        for i in updaters {
            if left <= UPDATERS_MAX {
                break;
            }
            let entry = &self.0[i];
            match buckets
                .iter_mut()
                .find(|b| b.api_version == entry.api_version)
            {
                Some(bucket) => {
                    bucket.set.add(entry.set.clone());
                    bucket.time.clone_from(&entry.time);
                    left -= 1;
                }
                None => buckets.push(Entry {
                    manager: ANCIENT.to_owned(),
                    subresource: String::new(),
                    ..entry.clone()
                }),
            }
            gone.push(i);
        }
        // A version whose only old entry was looked at keeps it as it is.
        let alone = |bucket: &Entry| {
            let mut of_version = gone
                .iter()
                .filter(|i| self.0[**i].api_version == bucket.api_version);
            of_version.nth(1).is_none()
        };
        buckets.retain(|bucket| !alone(bucket));
        let merged: Vec<usize> = gone
            .into_iter()
            .filter(|i| {
                buckets
                    .iter()
                    .any(|b| b.api_version == self.0[*i].api_version)
            })
            .collect();
        let mut i = 0;
        self.0.retain(|_| {
            i += 1;
            !merged.contains(&(i - 1))
        });
        self.0.extend(buckets);
    }
}

/// The `managedFields` of the object that an ordinary write makes of `old`; none where it has no
/// managers. `new` is the object as the client wants it, and `sent` the managers that it sent.
///
/// A client may send others than are stored, or none at all by an empty list or entry. One that
/// does not know the field does not lose it, and a subresource cannot change it.
pub fn updated<'a>(
    schema: impl Into<Schema<'a>>,
    old: &Value,
    new: &Value,
    sent: Option<Value>,
    who: &Who<'_>,
) -> Option<Value> {
    let stored = entries(old);
    let schema = schema.into();
    let changes = compare(schema, old, new, &skipped(who));
    let is_stored = sent.as_ref() == stored;
    let managers = match sent {
        Some(sent) if !is_stored && who.subresource.is_empty() => sent_in_place(&sent, old),
        sent => {
            // What came back as it is stored needs no copy.
            let sent = sent.filter(|_| is_stored);
            let kept = sent.or_else(|| stored.cloned());
            return carried_on(schema, (old, new), changes, kept, who);
        }
    };
    let seen = Seen::of(schema, (old, new), changes, &managers, who);
    managers.update(old, seen, who).write()
}

/// What becomes of `stored` managers by these changes.
pub(super) fn carried_on(
    schema: Schema<'_>,
    (old, new): (&Value, &Value),
    changes: Changes,
    stored: Option<Value>,
    who: &Who<'_>,
) -> Option<Value> {
    if changes.is_empty() && !has_unknown(stored.as_ref(), who) {
        return stored;
    }
    let managers = stored.map(Managers::own).unwrap_or_default();
    let seen = Seen::of(schema, (old, new), changes, &managers, who);
    managers.update(old, seen, who).write()
}

/// The managers that a client sends to stand in place of those that are stored.
fn sent_in_place(sent: &Value, old: &Value) -> Managers {
    if is_reset(sent) {
        return Managers::default();
    }
    let managers = Managers::read(Some(sent));
    let managers = managers.filter(|managers| !managers.0.is_empty());
    managers.unwrap_or_else(|| Managers::stored(old))
}

/// The `managedFields` of an object that is new and came without any: what [`updated`] makes of nothing and it.
pub fn entered<'a>(schema: impl Into<Schema<'a>>, new: &Value, who: &Who<'_>) -> Option<Value> {
    let set = added(schema.into(), new, &skipped(who));
    let entry = Entry {
        set,
        time: Some(who.now.to_owned()),
        ..Entry::new(who, false)
    };
    (!entry.set.is_empty()).then(|| Value::Array(vec![entry.write()]))
}

/// The `managedFields` of an object.
fn entries(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// What a comparison leaves out.
pub(super) fn skipped<'a>(who: &Who<'a>) -> Vec<&'a [&'a str]> {
    UNOWNED.iter().chain(who.reset).copied().collect()
}

/// Whether the client asks to forget all managers.
fn is_reset(sent: &Value) -> bool {
    match sent.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Whether two stored `managedFields` say the same, whenever it was that they came to.
pub fn same_but_times(a: Option<&Value>, b: Option<&Value>) -> bool {
    const FIELDS: [&str; 5] = [
        "manager",
        "operation",
        "apiVersion",
        "subresource",
        "fieldsV1",
    ];
    let same = |a: &Value, b: &Value| FIELDS.iter().all(|field| a.get(field) == b.get(field));
    let none = Vec::new();
    let a = a.and_then(Value::as_array).unwrap_or(&none);
    let b = b.and_then(Value::as_array).unwrap_or(&none);
    a.len() == b.len() && a.iter().all(|one| b.iter().any(|other| same(one, other)))
}

//! The versions in which the managers of one object wrote: an entry's fields are those of its own version, so that what
//! a write changes is compared in each version that some entry has.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::compare::{Changes, compare};
use super::managers::{Entry, Managers, Who, skipped};
use super::set::Set;
use crate::structural::Schema;

/// The other versions of an object than that of the request.
pub trait Versions: fmt::Debug {
    /// What describes objects of a version; none where there is no such version any more.
    fn schema(&self, api_version: &str) -> Option<Schema<'_>>;
    /// The objects as ones of that version, in their order, or why they cannot be had.
    fn convert(&self, objects: &[&Value], api_version: &str) -> Result<Vec<Value>, String>;
}

/// A scale is entered in the version of the object under it. Kubernetes enters it in its own, and the fields that such an
/// entry names are there in all versions of the objects that have it.
const SCALE: (&str, &str) = ("scale", "autoscaling/v1");

impl<'a> Who<'a> {
    /// The version in which the fields of an entry are named; none where there is no such version any more.
    pub(super) fn version_of<'e>(&self, entry: &'e Entry) -> Option<&'e str>
    where
        'a: 'e,
    {
        let api_version = entry.api_version.as_str();
        let Some(versions) = self.versions.filter(|_| api_version != self.api_version) else {
            return Some(self.api_version);
        };
        if (entry.subresource.as_str(), api_version) == SCALE {
            return Some(self.api_version);
        }
        versions.schema(api_version).map(|_| api_version)
    }

    /// What describes objects of a version that [`Who::version_of`] answered.
    pub(super) fn schema_of(&self, own: Schema<'a>, api_version: &str) -> Schema<'a> {
        let versions = self.versions.filter(|_| api_version != self.api_version);
        let other = versions.and_then(|versions| versions.schema(api_version));
        other.unwrap_or(own)
    }

    /// The objects of a version as ones of another.
    pub(super) fn converted<const N: usize>(
        &self,
        objects: [Value; N],
        from: &str,
        to: &str,
    ) -> Result<[Value; N], String> {
        let Some(versions) = self.versions.filter(|_| from != to) else {
            return Ok(objects);
        };
        let converted = versions.convert(&objects.each_ref(), to)?;
        let count = converted.len();
        <[Value; N]>::try_from(converted).map_err(|_| format!("{count} objects were made of {N}"))
    }
}

/// What a write changes, in each version that an entry has.
pub(super) struct Seen {
    own: Changes,
    others: BTreeMap<String, Changes>,
    /// Why the changes are not known in a version.
    pub(super) problem: Option<String>,
}

impl Seen {
    /// `own` are the changes in the version of the request. Where an object cannot be converted, those count for the other
    /// version too.
    pub(super) fn of(
        schema: Schema<'_>,
        (old, new): (&Value, &Value),
        own: Changes,
        managers: &Managers,
        who: &Who<'_>,
    ) -> Seen {
        let mut seen = Seen {
            own,
            others: BTreeMap::new(),
            problem: None,
        };
        let Some(versions) = who.versions.filter(|_| !seen.own.is_empty()) else {
            return seen;
        };
        for entry in &managers.0 {
            let Some(version) = who.version_of(entry).filter(|v| *v != who.api_version) else {
                continue;
            };
            if seen.others.contains_key(version) || seen.problem.is_some() {
                continue;
            }
            match versions.convert(&[old, new], version).as_deref() {
                Ok([old, new]) => {
                    let schema = who.schema_of(schema, version);
                    let changes = compare(schema, old, new, &skipped(who));
                    seen.others.insert(version.to_owned(), changes);
                }
                Ok(_) => seen.problem = Some("an object is missing".to_owned()),
                Err(problem) => seen.problem = Some(problem.clone()),
            }
        }
        seen
    }

    /// The changes as an entry names them.
    pub(super) fn by(&self, entry: &Entry) -> &Changes {
        self.others.get(&entry.api_version).unwrap_or(&self.own)
    }

    /// Those in the version of the request.
    pub(super) fn own(&self) -> &Changes {
        &self.own
    }

    pub(super) fn into_own(self) -> Changes {
        self.own
    }
}

impl Managers {
    /// Forgets the entries of versions that are gone: nobody knows any more what their fields are.
    pub(super) fn forget_unknown(&mut self, who: &Who<'_>) {
        self.0.retain(|entry| who.version_of(entry).is_some());
    }

    /// What the entries own, together for each version.
    pub(super) fn owned_by_version<'e>(&'e self, who: &Who<'e>) -> BTreeMap<&'e str, Set> {
        let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
        for entry in &self.0 {
            if let Some(version) = who.version_of(entry) {
                owned.entry(version).or_default().add(entry.set.clone());
            }
        }
        owned
    }
}

/// Whether some entry is of a version that is gone.
pub(super) fn has_unknown(entries: Option<&Value>, who: &Who<'_>) -> bool {
    let entries = entries.and_then(Value::as_array).into_iter().flatten();
    let Some(versions) = who.versions else {
        return false;
    };
    let text = |entry: &Value, key: &str| {
        let text = entry.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    entries
        .map(|entry| (text(entry, "subresource"), text(entry, "apiVersion")))
        .any(|(subresource, version)| {
            version != who.api_version
                && (subresource.as_str(), version.as_str()) != SCALE
                && versions.schema(&version).is_none()
        })
}

#[cfg(test)]
mod tests;

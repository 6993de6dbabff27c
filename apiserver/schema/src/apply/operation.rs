//! Applying a configuration: the merged object with its new owners, or why not.

use serde_json::{Value, json};

use super::client_side;
use super::compare::{are_alike_but_managers, compare};
use super::fields::{fields, with_parents};
use super::managers::{Entry, Managers, UNOWNED, Who, skipped};
use super::merge::merge_into;
use super::remove::{Emptied, remove};
use super::set::Set;
use super::versions::Seen;
use super::{check, managers};
use crate::decode::{self, FieldValidation};
use crate::field::go_quote;
use crate::structural::Schema;

/// Why a configuration cannot be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration does not fit its type.
    #[error("{0}")]
    Misfit(String),
    /// Others own what would change.
    #[error("{message}")]
    Conflicts {
        message: String,
        conflicts: Vec<Conflict>,
    },
}

impl ApplyError {
    /// As it is told to whoever applies the scale of an object: in there are the count, wherever it is in the object, and its
    /// owners, as owners of the scale's version.
    #[must_use]
    pub fn of_scale(self) -> ApplyError {
        let ApplyError::Conflicts { conflicts, .. } = self else {
            return self;
        };
        let mut owners: Vec<String> = conflicts
            .into_iter()
            .map(|one| of_scale(one.owner))
            .collect();
        owners.dedup();
        let conflict = |owner| Conflict {
            owner,
            path: ".spec.replicas".to_owned(),
        };
        told(owners.into_iter().map(conflict).collect())
    }
}

/// An owner as an owner of a scale. A name ends with a quotation mark.
fn of_scale(owner: String) -> String {
    match owner.rsplit_once(" using ") {
        Some((name, _)) if !owner.ends_with('"') => format!("{name} using autoscaling/v1"),
        _ => owner,
    }
}

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The owner, as Kubernetes writes it: `"kubectl-edit" using apps/v1`.
    pub owner: String,
    /// `.spec.replicas`
    pub path: String,
}

/// Who owns what was there before anybody was entered.
const BEFORE: &str = "before-first-apply";

/// What others own, each by name.
type Conflicts = Vec<(String, Set)>;

/// `live` with the configuration applied, `metadata.managedFields` included. `config` may name
/// another object or version; that is the caller's to check.
pub fn apply<'a>(
    schema: impl Into<Schema<'a>>,
    live: &Value,
    config: &Value,
    who: &Who<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let copy = || live.clone();
    apply_to(schema, (live, &copy), config, who, force)
}

/// The same, with what makes a copy of `live` to apply it to.
pub fn apply_to<'a>(
    schema: impl Into<Schema<'a>>,
    (live, copy): (&Value, &dyn Fn() -> Value),
    config: &Value,
    who: &Who<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let schema = schema.into();
    fits(schema, config)?;
    let operation = Operation {
        schema,
        live,
        copy,
        config,
        who,
    };
    let conflicts = match operation.run(force)? {
        Ok(object) => return Ok(operation.synced(object)),
        Err(conflicts) => conflicts,
    };
    // kubectl may take over what it applied itself before the server did.
    let allowed = client_side::owned(schema, live, who);
    let mut left = conflicts;
    if let Some(allowed) = allowed {
        left.iter_mut().for_each(|(_, set)| set.subtract(&allowed));
        left.retain(|(_, set)| !set.is_empty());
    }
    if !left.is_empty() {
        return Err(refusal(&left));
    }
    match operation.run(true)? {
        Ok(object) => Ok(operation.synced(object)),
        Err(conflicts) => Err(refusal(&conflicts)),
    }
}

/// Whether a configuration has only fields that its type has, with values that fit them.
pub fn fits<'a>(schema: impl Into<Schema<'a>>, config: &Value) -> Result<(), ApplyError> {
    check::check(schema.into(), config).map_err(|error| {
        let (metadata, text) = (config.get("metadata"), |value: Option<&Value>| {
            value.and_then(Value::as_str).unwrap_or("").to_owned()
        });
        let of_metadata = |key: &str| text(metadata.and_then(|metadata| metadata.get(key)));
        let api_version = text(config.get("apiVersion"));
        // The core group is named too, by nothing.
        let group = if api_version.contains('/') { "" } else { "/" };
        ApplyError::Misfit(format!(
            "failed to create typed patch object ({}/{}; {group}{api_version}, Kind={}): {error}",
            of_metadata("namespace"),
            of_metadata("name"),
            text(config.get("kind")),
        ))
    })
}

struct Operation<'a> {
    schema: Schema<'a>,
    live: &'a Value,
    /// Makes a copy of it.
    copy: &'a dyn Fn() -> Value,
    config: &'a Value,
    who: &'a Who<'a>,
}

/// What is left of an object.
struct Pruned {
    object: Value,
    /// The same with a null for every field that was emptied, where there is one.
    shell: Option<Value>,
}

impl Operation<'_> {
    fn run(&self, force: bool) -> Result<Result<Value, Conflicts>, ApplyError> {
        let mut merged = (self.copy)();
        // They are taken out of the copy, which gets others in the end.
        let stored = merged.pointer_mut("/metadata/managedFields");
        let stored = stored.map(|entries| Managers::own(entries.take()));
        let mut managers = stored.unwrap_or_default();
        if managers.0.is_empty() {
            let before = Who {
                manager: BEFORE,
                ..*self.who
            };
            // An object has metadata before anybody writes it.
            let nothing = json!({"metadata": {}});
            let all = compare(self.schema, &nothing, self.live, &skipped(&before));
            let all = Seen::of(self.schema, (&nothing, self.live), all, &managers, &before);
            managers = managers.update(&nothing, all, &before);
        }
        managers.forget_unknown(self.who);
        let mut set = fields(self.schema, self.config);
        for path in UNOWNED.iter().chain(self.who.reset) {
            set.drop_field(path);
        }
        let own = managers.entry(Entry::new(self.who, true));
        let last = std::mem::replace(&mut own.set, set);
        let own_version = self.who.api_version.to_owned();
        let last_version = std::mem::replace(&mut own.api_version, own_version);
        // In the form in which objects are stored, so that another spelling is no change.
        merge_into(self.schema, &mut merged, self.config);
        let mut merged = decode::value(self.schema, merged, FieldValidation::Ignore)
            .map_err(|error| ApplyError::Misfit(error.to_string()))?
            .value;
        if let Schema::Custom(schema) = self.schema {
            schema.default(&mut merged);
        }
        let pruned = self.prune(merged, &managers, (&last, &last_version))?;
        let Pruned { mut object, shell } = pruned;

        let new = shell.as_ref().unwrap_or(&object);
        let changes = compare(self.schema, self.live, new, &skipped(self.who));
        let both = (self.live, new);
        let seen = Seen::of(self.schema, both, changes, &managers, self.who);
        if let Some(problem) = &seen.problem {
            return Err(ApplyError::Misfit(format!(
                "failed to convert old object: {problem}"
            )));
        }
        let own = Entry::new(self.who, true);
        let others = managers.0.iter().filter(|entry| !entry.is_same(&own));
        let conflicts: Conflicts = others
            .map(|entry| {
                let taken = seen.by(entry).taken();
                (shown(entry), entry.set.intersection(&taken))
            })
            .filter(|(_, set)| !set.is_empty())
            .collect();
        if !force && !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        managers.give_up(&seen, |entry| !entry.is_same(&own));
        // Who changes nothing of the object, and only says what it owns, leaves no time.
        // Another order of items is a change that no owner is told of.
        let changed = !seen.own().is_empty() || self.is_other(new);
        let mut entries = managers.0.iter_mut();
        if let Some(entry) = entries.find(|entry| changed && entry.is_same(&own)) {
            entry.time = Some(self.who.now.to_owned());
        }
        write(&mut object, managers);
        Ok(Ok(object))
    }

    /// Whether `new` is another object than the live one, which may lack what is written by itself: one that came
    /// through another version, or was stored by an older build.
    fn is_other(&self, new: &Value) -> bool {
        if are_alike_but_managers(self.live, new) {
            return false;
        }
        let live = decode::value(self.schema, self.live.clone(), FieldValidation::Ignore);
        let Ok(live) = live else { return true };
        let mut live = live.value;
        if let Schema::Custom(schema) = self.schema {
            schema.default(&mut live);
        }
        !are_alike_but_managers(&live, new)
    }

    /// Drops what this manager applied before, in the version of then, applies no longer, and nobody
    /// else owns.
    fn prune(
        &self,
        merged: Value,
        managers: &Managers,
        (last, last_version): (&Set, &str),
    ) -> Result<Pruned, ApplyError> {
        let whole = |object: Value| Pruned {
            object,
            shell: None,
        };
        let who = self.who;
        let last_version = match who.versions {
            Some(_) => last_version,
            None => who.api_version,
        };
        // Nearly always all of it is applied again, and who else owns it does not matter.
        let this = Entry::new(who, true);
        let own = managers.0.iter().find(|entry| entry.is_same(&this));
        let applies_again =
            |own: &Entry| last_version == who.api_version && last.is_within(&own.set);
        if last.is_empty() || own.is_some_and(applies_again) {
            return Ok(whole(merged));
        }
        let mut owned = managers.owned_by_version(who);
        let of_last = owned.remove(last_version).unwrap_or_default();
        if last.is_within(&of_last) {
            return Ok(whole(merged));
        }
        let failed = |problem: String| {
            ApplyError::Misfit(format!(
                "failed to convert merged object to last applied version: {problem}"
            ))
        };
        let schema = who.schema_of(self.schema, last_version);
        let convert_one = |object: Value, from: &str, to: &str| {
            let converted = who.converted([object], from, to).map_err(failed);
            converted.map(|[object]| object)
        };
        let merged = convert_one(merged, who.api_version, last_version)?;
        let last = with_parents(schema, last.clone());
        let bare = remove(schema, &merged, &last, Emptied::Null);
        // Back comes what others own, what the version at hand names first, ..
        let mut pruned = add_back(schema, &merged, &bare, of_last);
        for (version, owned) in owned {
            let both = [merged.clone(), pruned];
            let both = who.converted(both, last_version, version);
            let [whole, part] = both.map_err(failed)?;
            let schema = who.schema_of(self.schema, version);
            let added = add_back(schema, &whole, &part, owned);
            pruned = convert_one(added, version, last_version)?;
        }
        // .. and what this manager never had.
        let mut gone = with_parents(schema, fields(schema, &merged));
        gone.subtract(&with_parents(schema, fields(schema, &pruned)));
        let gone = gone.intersection(&last);
        let kept =
            [Emptied::Gone, Emptied::Null].map(|emptied| remove(schema, &merged, &gone, emptied));
        let kept = who.converted(kept, last_version, who.api_version);
        let [kept, shell] = kept.map_err(failed)?;
        let shell = (shell != kept).then_some(shell);
        let object = match self.schema {
            // Fields that are always written come back, with nothing in them.
            Schema::BuiltIn(_) => decode::value(self.schema, kept, FieldValidation::Ignore)
                .map(|decoded| decoded.value)
                .map_err(|error| ApplyError::Misfit(error.to_string()))?,
            Schema::Custom(_) | Schema::Any => kept,
        };
        Ok(Pruned { object, shell })
    }

    /// With the annotation of client-side apply kept up.
    fn synced(&self, mut object: Value) -> Value {
        client_side::sync(&mut object, self.config, self.who);
        object
    }
}

/// `pruned` with what is owned of what was there before.
fn add_back(schema: Schema<'_>, merged: &Value, pruned: &Value, mut owned: Set) -> Value {
    // What identifies the object has no owner, and stays.
    for path in UNOWNED {
        owned.put_field(path);
    }
    let mut kept = with_parents(schema, fields(schema, pruned));
    kept.add(with_parents(schema, owned));
    let mut gone = with_parents(schema, fields(schema, merged));
    gone.subtract(&kept);
    remove(schema, merged, &gone, Emptied::Null)
}

fn write(object: &mut Value, managers: managers::Managers) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match managers.write() {
        Some(entries) => metadata.insert("managedFields".to_owned(), entries),
        None => metadata.remove("managedFields"),
    };
}

/// An owner as messages show it.
fn shown(entry: &Entry) -> String {
    let mut text = go_quote(&entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(
            " with subresource {}",
            go_quote(&entry.subresource)
        ));
    }
    if !entry.applied {
        text.push_str(&format!(" using {}", entry.api_version));
    }
    text
}

fn refusal(conflicts: &Conflicts) -> ApplyError {
    let mut sorted: Vec<&(String, Set)> = conflicts.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let of_owner = |(owner, set): &(String, Set)| -> Vec<Conflict> {
        let paths = set.paths().into_iter();
        let conflict = |path| Conflict {
            owner: owner.clone(),
            path,
        };
        paths.map(conflict).collect()
    };
    told(sorted.into_iter().flat_map(of_owner).collect())
}

/// Conflicts, those of an owner after each other, with what is said of all.
fn told(conflicts: Vec<Conflict>) -> ApplyError {
    let mut lines = Vec::new();
    let mut last = None;
    for Conflict { owner, path } in &conflicts {
        if last.replace(owner) != Some(owner) {
            lines.push(format!("conflicts with {owner}:"));
        }
        lines.push(format!("- {path}"));
    }
    let message = match conflicts.as_slice() {
        [one] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.owner, one.path
        ),
        all => format!(
            "Apply failed with {} conflicts: {}",
            all.len(),
            lines.join("\n")
        ),
    };
    ApplyError::Conflicts { message, conflicts }
}

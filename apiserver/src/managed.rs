//! Who owns which fields of an object: the manager that a request names, and its entry in `metadata.managedFields`.

mod versions;

use bytes::Bytes;
use resources::Resource;
use schema::Object;
use schema::apply::{ApplyError, Who, entered, same_but_times, updated, updated_apart};
use schema::field::{FieldError, Path};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::status::{ApiError, ApiResult};

pub(crate) use versions::Versions;

/// Longest name of a manager.
const NAME_BYTES_MAX: usize = 128;
/// The manager of what the server writes by itself.
pub(crate) const SERVER: &str = "kube-apiserver";

/// Whom the fields of a write belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// This manager, through this subresource.
    Manager(&'a str, &'a str),
    /// It is in the object already, as apply leaves it.
    Entered,
}

/// The manager of a create, update or patch: the one that the query names, else what the client calls itself.
pub(crate) fn manager(context: &Context, options_kind: &str) -> ApiResult<String> {
    let errors = name_errors(context);
    if !errors.is_empty() {
        return Err(ApiError::invalid("meta.k8s.io", options_kind, "", &errors));
    }
    if let Some(named) = named(context) {
        return Ok(named.to_owned());
    }
    let agent = context.headers.get(http::header::USER_AGENT);
    let agent = agent.map_or(&[][..], |value| value.as_bytes());
    Ok(of_user_agent(&String::from_utf8_lossy(agent)))
}

/// The manager that the query names.
pub(crate) fn named(context: &Context) -> Option<&str> {
    let name = context.query.get("fieldManager")?;
    (!name.is_empty()).then_some(name)
}

/// What is wrong with the manager's name.
pub(crate) fn name_errors(context: &Context) -> Vec<FieldError> {
    let name = named(context).unwrap_or_default();
    let path = Path::new("fieldManager");
    let mut errors = Vec::new();
    if name.len() > NAME_BYTES_MAX {
        errors.push(FieldError::too_long(&path, NAME_BYTES_MAX));
    }
    let unprintable = name.char_indices().filter(|(_, c)| !is_printable(*c));
    for (at, letter) in unprintable {
        let detail = format!(
            "invalid character U+{:04X} (at position {at})",
            letter as u32
        );
        errors.push(FieldError::invalid(&path, name, detail));
    }
    errors
}

/// `kubectl` of `kubectl/v1.36.0 (linux/amd64) ..`
fn of_user_agent(agent: &str) -> String {
    let mut name = String::new();
    let head = agent.split('/').next().unwrap_or_default();
    for letter in head.chars().filter(|c| is_printable(*c)) {
        if name.len() + letter.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        name.push(letter);
    }
    if name.is_empty() {
        name.push_str("unknown");
    }
    name
}

fn is_printable(letter: char) -> bool {
    letter == ' ' || !(letter.is_control() || letter.is_whitespace())
}

/// Runs `with` the facts that managed fields are made of.
pub(crate) fn with_who<T>(
    context: &Context,
    resource: &Resource,
    (manager, subresource): (&str, &str),
    versions: Option<&Versions<'_>>,
    with: impl FnOnce(&Who<'_>) -> T,
) -> T {
    // A scale is written through the object itself.
    let door = if subresource == "scale" {
        ""
    } else {
        subresource
    };
    with(&Who {
        manager,
        api_version: &resource.api_version(),
        subresource,
        now: &schema::time::now_rfc3339(context.now),
        reset: resource.reset_fields(door),
        versions: versions.map(|versions| versions as &dyn schema::apply::Versions),
    })
}

/// Enters what the create of an object sets into its managed fields. A client may send entries with it, of other versions
/// too: they lose what the create sets, like those of an object that is there already.
pub(crate) async fn track_new(
    context: &Context,
    resource: &Resource,
    owner: Owner<'_>,
    new: &mut Object,
) {
    let Owner::Manager(manager, subresource) = owner else {
        return;
    };
    let Some(sent) = new.metadata_mut().remove("managedFields") else {
        let owner = (manager, subresource);
        let entries = with_who(context, resource, owner, None, |who| {
            entered(resource.schema(), new.value(), who)
        });
        return put(new, entries);
    };
    let nothing = json!({ "apiVersion": new.api_version(), "kind": new.kind(), "metadata": {} });
    let versions = Versions::of(resource);
    let entries = loop {
        let (owner, known) = ((manager, subresource), Some(&versions));
        let entries = with_who(context, resource, owner, known, |who| {
            let sent = Some(sent.clone());
            updated(resource.schema(), &nothing, new.value(), sent, who)
        });
        let dead = context.server.seems_inconvertible(resource);
        if dead || !versions.answer(context).await {
            break entries;
        }
    };
    put(new, entries);
}

/// Enters what the write of `new` in place of `old` changes into its managed fields. A conversion webhook that fails stands
/// in no update's way: then fields of the same name count as the same.
pub(crate) async fn track(
    context: &Context,
    resource: &Resource,
    owner: Owner<'_>,
    old: &Object,
    new: &mut Object,
) {
    let Owner::Manager(manager, subresource) = owner else {
        return;
    };
    let mut sent = new.metadata_mut().remove("managedFields");
    let versions = Versions::of(resource);
    let entries = loop {
        let known = Some(&versions);
        // What comes back as it is stored is taken over, unless there may be a second time.
        let sent = match versions.may_ask() {
            true => sent.clone(),
            false => sent.take(),
        };
        let entries = with_who(context, resource, (manager, subresource), known, |who| {
            let (old, new) = (old.value(), new.value());
            updated(resource.schema(), old, new, sent, who)
        });
        // Nobody waits for a webhook that did not answer a moment ago.
        let dead = context.server.seems_inconvertible(resource);
        if dead || !versions.answer(context).await {
            break entries;
        }
    };
    put(new, entries);
}

/// The same for a built-in kind where neither object has the managed fields, which the write leaves alone: `entries` are those of
/// the old one, in JSON, and become those of the new one. An error where they cannot be read.
pub(crate) fn track_apart(
    context: &Context,
    resource: &Resource,
    owner: Owner<'_>,
    (old, new): (&Object, &Object),
    entries: &mut Option<Bytes>,
) -> ApiResult<()> {
    let Owner::Manager(manager, subresource) = owner else {
        return Ok(());
    };
    let broken = || ApiError::internal("the managed fields cannot be read");
    let stored = entries.as_deref().map(std::str::from_utf8).transpose();
    let stored = stored.map_err(|_| broken())?;
    let versions = Versions::of(resource);
    let (owner, known) = ((manager, subresource), Some(&versions));
    let updated = with_who(context, resource, owner, known, |who| {
        updated_apart(resource.schema(), old.value(), new.value(), stored, who)
    });
    *entries = updated.map_err(|_| broken())?.map(Bytes::from);
    Ok(())
}

/// Leaves the managed fields as they were where only their times differ: a write that changes nothing else changes
/// nothing.
pub(crate) fn keep_times(new: &mut Object, old: &Object) {
    let (is, was) = (entries(new), entries(old));
    if is == was || !same_but_times(is, was) || !same_but_entries(new, old) {
        return;
    }
    let was = was.cloned();
    put(new, was);
}

/// A copy of an object without its managed fields, which are a large part of many.
pub(crate) fn copy_without_entries(object: &Object) -> Object {
    let copy = |(name, value): (&String, &Value)| (name.clone(), value.clone());
    let members = object.value().as_object().into_iter().flatten();
    let members = members.map(|(name, value)| match value {
        Value::Object(metadata) if name == "metadata" => {
            let kept = metadata.iter().filter(|(name, _)| *name != "managedFields");
            (name.clone(), Value::Object(kept.map(copy).collect()))
        }
        _ => copy((name, value)),
    });
    Object::from(members.collect::<Map<String, Value>>())
}

/// Whether two objects differ in nothing but their managed fields.
pub(crate) fn same_but_entries(a: &Object, b: &Object) -> bool {
    fn members<'o>(
        map: Option<&'o Map<String, Value>>,
        but: &'static str,
    ) -> impl Iterator<Item = (&'o String, &'o Value)> {
        let members = map.into_iter().flatten();
        members.filter(move |(name, _)| *name != but)
    }
    let metadata = |object: &Object| object.metadata().is_some();
    // Most writes change what is in here.
    metadata(a) == metadata(b)
        && members(a.metadata(), "managedFields").eq(members(b.metadata(), "managedFields"))
        && members(a.value().as_object(), "metadata").eq(members(b.value().as_object(), "metadata"))
}

/// The managed fields of an object.
pub(crate) fn entries(object: &Object) -> Option<&Value> {
    object.metadata()?.get("managedFields")
}

/// Puts the managed fields back as they were before admission, where a webhook left something else than such entries.
pub(crate) fn restore_where_broken(context: &Context, before: Option<Value>, object: &mut Object) {
    let after = entries(object);
    if after == before.as_ref() {
        return;
    }
    if let Some(problem) = problem(after) {
        context.warn(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {problem}"
        ));
        put(object, before);
    }
}

/// What is wrong with entries of managed fields.
fn problem(entries: Option<&Value>) -> Option<String> {
    let list = match entries {
        None | Some(Value::Null) => return None,
        Some(Value::Array(list)) => list,
        Some(_) => return Some("metadata.managedFields: Invalid value: must be a list".to_owned()),
    };
    list.iter().enumerate().find_map(|(index, entry)| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let at = format!("metadata.managedFields[{index}]");
        if !matches!(text("operation"), "Apply" | "Update") {
            return Some(format!(
                "{at}.operation: Invalid value: {:?}: must be `Apply` or `Update`",
                text("operation")
            ));
        }
        (text("fieldsType") != "FieldsV1").then(|| {
            format!(
                "{at}.fieldsType: Invalid value: {:?}: must be `FieldsV1`",
                text("fieldsType")
            )
        })
    })
}

/// Gives an object these managed fields.
pub(crate) fn put(object: &mut Object, entries: Option<Value>) {
    let metadata = object.metadata_mut();
    match entries {
        Some(entries) => metadata.insert("managedFields".to_owned(), entries),
        None => metadata.remove("managedFields"),
    };
}

/// Why a configuration is not applied, as Kubernetes says it.
pub(crate) fn refuse(error: ApplyError) -> ApiError {
    match error {
        ApplyError::Misfit(text) => ApiError::unknown(text),
        ApplyError::Conflicts { message, conflicts } => {
            ApiError::apply_conflict(message, &conflicts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of nothing but times, and one of something else too, against what [`keep_times`] stands for.
    #[test]
    fn times_are_kept_where_nothing_else_changes() {
        let entry = |manager: &str, time: &str| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}, "time": time})
        };
        let object = |entries: Value, label: &str, data: &str| {
            Object::new(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": data},
                "metadata": {"name": "c", "labels": {"l": label}, "managedFields": entries}}),
            )
            .unwrap()
        };
        let mut all = vec![Object::empty("v1", "ConfigMap")];
        for manager in ["a", "b"] {
            for time in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"] {
                for (label, data) in [("x", "x"), ("x", "y"), ("y", "x")] {
                    all.push(object(json!([entry(manager, time)]), label, data));
                }
            }
        }
        let mut kept = 0;
        for old in &all {
            for new in &all {
                let mut with_old_entries = new.clone();
                put(&mut with_old_entries, entries(old).cloned());
                let changes_times_only = same_but_times(entries(new), entries(old))
                    && with_old_entries == *old
                    && new != old;
                let mut is = new.clone();
                keep_times(&mut is, old);
                let expected = if changes_times_only { old } else { new };
                assert_eq!(is, *expected);
                kept += usize::from(changes_times_only);
            }
        }
        assert_eq!(kept, 12);
    }

    #[test]
    fn clients_that_name_no_manager_are_called_by_their_program() {
        for (agent, manager) in [
            ("kubectl/v1.36.0 (linux/amd64) kubernetes/abc", "kubectl"),
            ("Mozilla", "Mozilla"),
            ("a\tb/1", "ab"),
            ("", "unknown"),
            ("/1", "unknown"),
        ] {
            assert_eq!(of_user_agent(agent), manager, "{agent}");
        }
        assert_eq!(of_user_agent(&"ü".repeat(100)), "ü".repeat(64));
    }
}

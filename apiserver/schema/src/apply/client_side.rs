//! Objects that `kubectl apply` made before it applied on the server: the annotation says what it
//! applied last.

use serde_json::Value;

use super::check;
use super::compare::compare;
use super::fields::fields;
use super::managers::Who;
use super::set::Set;
use crate::read;
use crate::structural::Schema;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The one manager whose objects are taken over.
const KUBECTL: &str = "kubectl";
/// All annotations together may have this many bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

fn last_applied(object: &Value) -> Option<&str> {
    let text = object
        .get("metadata")?
        .get("annotations")?
        .get(LAST_APPLIED)?;
    text.as_str().filter(|text| !text.is_empty())
}

/// The fields that are as kubectl last applied them, and thus its own.
pub(super) fn owned(schema: Schema<'_>, live: &Value, who: &Who<'_>) -> Option<Set> {
    if who.manager != KUBECTL {
        return None;
    }
    let last = read::json(last_applied(live)?.as_bytes()).ok()?;
    if last.get("apiVersion")?.as_str()? != who.api_version || check::check(schema, &last).is_err()
    {
        return None;
    }
    let mut owned = fields(schema, &last);
    let changes = compare(schema, &last, live, &[]);
    for changed in [&changes.modified, &changes.added, &changes.removed] {
        owned.subtract(changed);
    }
    Some(owned)
}

/// Keeps the annotation up to date for those who still read it.
pub(super) fn sync(object: &mut Value, config: &Value, who: &Who<'_>) {
    if who.manager != KUBECTL || last_applied(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty()
            && let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(LAST_APPLIED.to_owned(), text(&config).into());
    let bytes = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(bytes).sum::<usize>() > ANNOTATIONS_BYTES_MAX {
        annotations.remove(LAST_APPLIED);
    }
}

/// JSON as Go's encoder writes it.
fn text(config: &Value) -> String {
    let mut text = config.to_string();
    for (plain, escaped) in [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")] {
        if text.contains(plain) {
            text = text.replace(plain, escaped);
        }
    }
    text.push('\n');
    text
}

//! Rules of `metadata`, which are the same for every kind, and the rules for names that kinds choose from.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use crate::look::Look;
use crate::validate::complain_of;

/// All annotations of an object together may have this many bytes.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const IMMUTABLE: &str = "field is immutable";

/// DNS-1123 subdomain: the rule of most kinds.
pub(crate) fn subdomain(name: &str, prefix: bool) -> Vec<String> {
    names::is_dns1123_subdomain(&masked(name, prefix))
}

/// DNS-1123 label: namespaces, and what names of pods or hosts are made from.
pub(crate) fn label(name: &str, prefix: bool) -> Vec<String> {
    names::is_dns1123_label(&masked(name, prefix))
}

/// Anything that may stand in a path: RBAC.
pub(crate) fn path_segment(name: &str, _prefix: bool) -> Vec<String> {
    names::is_valid_path_segment_name(name)
}

/// An address in its one canonical spelling: IPAddress.
pub(crate) fn ip_address(name: &str, _prefix: bool) -> Vec<String> {
    let messages = names::is_valid_ip(name);
    let spelled = name
        .parse()
        .map(|address: std::net::IpAddr| address.to_string());
    match spelled {
        Ok(spelled) if messages.is_empty() && spelled != name => {
            vec![format!("must be in canonical form (\"{spelled}\")")]
        }
        _ => messages,
    }
}

fn masked(name: &str, prefix: bool) -> Cow<'_, str> {
    match prefix {
        true => names::mask_trailing_dash(name).into(),
        false => name.into(),
    }
}

/// Validates the metadata of an object that is to be stored.
pub fn validate(
    object: &Object,
    namespaced: bool,
    name_rule: fn(&str, bool) -> Vec<String>,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("metadata");
    let generate_name = object.generate_name();
    if !generate_name.is_empty() {
        for message in name_rule(generate_name, true) {
            errors.push(FieldError::invalid(
                &path.child("generateName"),
                generate_name,
                message,
            ));
        }
    }
    let name = object.name();
    if name.is_empty() {
        errors.push(FieldError::required(
            &path.child("name"),
            "name or generateName is required",
        ));
    } else {
        for message in name_rule(name, false) {
            errors.push(FieldError::invalid(&path.child("name"), name, message));
        }
    }
    let namespace = object.namespace();
    if namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required(&path.child("namespace"), ""));
        } else {
            for message in names::is_dns1123_label(namespace) {
                errors.push(FieldError::invalid(
                    &path.child("namespace"),
                    namespace,
                    message,
                ));
            }
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(
            &path.child("namespace"),
            "not allowed on this type",
        ));
    }
    common(object, &path, &mut errors);
    errors
}

/// Validates the metadata of a template (pod template, claim template): labels and annotations only.
pub(crate) fn validate_template(metadata: &Value, path: &Path, errors: &mut ErrorList) {
    labels_and_annotations(metadata, path, errors);
}

/// Validates what an update may change in the metadata.
pub fn validate_update(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("metadata");
    if old.deletion_timestamp().is_some() {
        let before: BTreeSet<&str> = old.finalizers().into_iter().collect();
        let added: Vec<String> = new
            .finalizers()
            .into_iter()
            .filter(|f| !before.contains(f))
            .map(schema::field::go_quote)
            .collect();
        if !added.is_empty() {
            errors.push(FieldError::forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    added.join(", ")
                ),
            ));
        }
    }
    let generate_name = new.generate_name();
    // Of what begins a name, updates only demand that it could stand in a path.
    for bad in ["/", "%"]
        .into_iter()
        .filter(|bad| generate_name.contains(bad))
    {
        errors.push(FieldError::invalid(
            &path.child("generateName"),
            generate_name,
            format!("may not contain '{bad}'"),
        ));
    }
    let both = |field: &str| (meta_field(new, field), meta_field(old, field));
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (now, before) = both(field);
        if !now.is_null() && now != before {
            errors.push(FieldError::invalid(
                &path.child(field),
                now.clone(),
                IMMUTABLE,
            ));
        }
    }
    if new.generation() < old.generation() {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            new.generation(),
            "must not be decremented",
        ));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (now, before) = both(field);
        if text_or_empty(now) != text_or_empty(before) {
            errors.push(FieldError::invalid(
                &path.child(field),
                now.clone(),
                IMMUTABLE,
            ));
        }
    }
    common(new, &path, &mut errors);
    errors
}

/// Fills in server-owned metadata that an update left out, and keeps what an update may never change.
pub(crate) fn carry_over(new: &mut Object, old: &Object) {
    let metadata = new.metadata_mut();
    let before = |field: &str| meta_field(old, field);
    // Who names no version means the one that is there: without it, an object would count as a new one.
    if matches!(metadata.text("resourceVersion"), "" | "0") && !before("resourceVersion").is_null()
    {
        metadata.insert(
            "resourceVersion".to_owned(),
            before("resourceVersion").clone(),
        );
    }
    if metadata.text("uid").is_empty() && !before("uid").is_null() {
        metadata.insert("uid".to_owned(), before("uid").clone());
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        let before = before(field);
        if !before.is_null() && metadata.at(field) != before {
            metadata.insert(field.to_owned(), before.clone());
        }
    }
    if !metadata.has("deletionGracePeriodSeconds")
        && !before("deletionGracePeriodSeconds").is_null()
    {
        metadata.insert(
            "deletionGracePeriodSeconds".to_owned(),
            before("deletionGracePeriodSeconds").clone(),
        );
    }
}

/// What a write through `status` may not touch for kinds whose status has one writer.
pub(crate) fn keep_client_metadata(new: &mut Object, old: &Object) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let before = meta_field(old, field);
        if before.is_null() {
            new.metadata_mut().remove(field);
        } else {
            let before = before.clone();
            new.metadata_mut().insert(field.to_owned(), before);
        }
    }
}

fn meta_field<'a>(object: &'a Object, field: &str) -> &'a Value {
    object.at("metadata").at(field)
}

fn text_or_empty(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn common(object: &Object, path: &Path, errors: &mut ErrorList) {
    if object.generation() < 0 {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            object.generation(),
            "must be greater than or equal to 0",
        ));
    }
    labels_and_annotations(object.at("metadata"), path, errors);
    let list = object.at("metadata").list("ownerReferences");
    if !list.is_empty() {
        owner_references(list, &path.child("ownerReferences"), errors);
    }
    let list = object.finalizers();
    if !list.is_empty() {
        finalizers(&list, &path.child("finalizers"), errors);
    }
}

/// Paths are made for what there is: most objects have few labels and no annotations.
fn labels_and_annotations(metadata: &Value, path: &Path, errors: &mut ErrorList) {
    let map = metadata.at("labels");
    if map.is_object() {
        labels(map, &path.child("labels"), errors);
    }
    let map = metadata.at("annotations");
    if map.is_object() {
        annotations(map, &path.child("annotations"), errors);
    }
}

/// Keys and values of labels.
pub fn labels(map: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(map) = map.as_object() else { return };
    for (key, value) in map {
        label_name(key, path, errors);
        let value = text_or_empty(value);
        for message in names::is_valid_label_value(value) {
            errors.push(FieldError::invalid(path, value, message));
        }
    }
}

/// A label key.
pub(crate) fn label_name(key: &str, path: &Path, errors: &mut ErrorList) {
    for message in names::is_qualified_name(key) {
        errors.push(FieldError::invalid(path, key, message));
    }
}

/// The label key in a field, whose path is made where something is wrong.
pub(crate) fn label_name_of(parent: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    let key = parent.text(field);
    complain_of(names::is_qualified_name(key), field, path, key, errors);
}

/// Keys and total size of annotations.
pub fn annotations(map: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(map) = map.as_object() else { return };
    let mut size = 0;
    for (key, value) in map {
        for message in names::is_qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path, key.as_str(), message));
        }
        size += key.len() + text_or_empty(value).len();
    }
    if size > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn owner_references(list: &[Value], path: &Path, errors: &mut ErrorList) {
    let mut controller: Option<String> = None;
    for owner in list {
        let api_version = owner.text("apiVersion");
        // What has more slashes is no version at all.
        let (group, version) = match api_version.split_once('/') {
            None => ("", api_version),
            Some((_, version)) if version.contains('/') => ("", ""),
            Some(both) => both,
        };
        if version.is_empty() {
            errors.push(FieldError::invalid(
                &path.child("apiVersion"),
                api_version,
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if owner.text(field).is_empty() {
                errors.push(FieldError::invalid(
                    &path.child(field),
                    "",
                    "must not be empty",
                ));
            }
        }
        if group.is_empty() && version == "v1" && owner.text("kind") == "Event" {
            errors.push(FieldError::invalid(
                path,
                owner.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.flag("controller") {
            let this = format!("{}/{}", owner.text("kind"), owner.text("name"));
            match &controller {
                Some(first) => errors.push(FieldError::invalid(
                    path,
                    Value::from(list.to_vec()),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                )),
                None => controller = Some(this),
            }
        }
    }
}

/// Drops owners that an object has twice, and answers their uids.
pub fn dedup_owners(object: &mut Object) -> Vec<String> {
    let owners = object.at("metadata").list("ownerReferences");
    if owners.len() < 2 {
        return Vec::new();
    }
    // By their texts, for there may be as many of them as a body has room for.
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut uids = Vec::new();
    for owner in owners {
        match seen.insert(owner.to_string()) {
            true => kept.push(owner.clone()),
            false => uids.push(owner.text("uid").to_owned()),
        }
    }
    let metadata = object.metadata_mut();
    metadata.insert("ownerReferences".to_owned(), Value::Array(kept));
    uids
}

/// What the kinds of Kubernetes' own API add to the rules of all objects: a finalizer without a slash has to be one of
/// Kubernetes'. Those that the object had before are left alone (`validateKubeFinalizerName`).
pub(crate) fn own_finalizers(new: &Object, old: Option<&Object>, errors: &mut ErrorList) {
    let before = old.map(Object::finalizers).unwrap_or_default();
    let before: BTreeSet<&str> = before.into_iter().collect();
    for (at, name) in new.finalizers().into_iter().enumerate() {
        if !before.contains(name) {
            let path = Path::new("metadata").child("finalizers").index(at);
            standard_or_qualified(name, &path, errors);
        }
    }
}

fn is_standard_finalizer(name: &str) -> bool {
    matches!(name, "kubernetes" | "orphan" | "foregroundDeletion")
}

/// What Kubernetes advises about the finalizers that a custom resource did not have before, in the order of their letters.
pub(crate) fn finalizer_warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
    let before = old.map(Object::finalizers).unwrap_or_default();
    let before: BTreeSet<&str> = before.into_iter().collect();
    let now = new.finalizers().into_iter();
    let added: BTreeSet<&str> = now.filter(|name| !before.contains(name)).collect();
    let mut warnings = Vec::new();
    for name in added {
        let quoted = schema::field::go_quote(name);
        let mut texts = names::is_qualified_name(name);
        if !name.contains('/') && !is_standard_finalizer(name) {
            let form = match name.contains('.') {
                true => "name including a path (/)",
                false => "name",
            };
            texts.push(format!(
                "prefer a domain-qualified finalizer {form} to avoid accidental conflicts with other finalizer writers"
            ));
        }
        let texts = texts.into_iter();
        warnings.extend(texts.map(|text| format!("metadata.finalizers: {quoted}: {text}")));
    }
    warnings
}

/// A finalizer that has no slash has to be one of Kubernetes'.
pub(crate) fn standard_or_qualified(name: &str, path: &Path, errors: &mut ErrorList) {
    if !name.contains('/') && !is_standard_finalizer(name) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn finalizers(finalizers: &[&str], path: &Path, errors: &mut ErrorList) {
    for finalizer in finalizers {
        for message in names::is_qualified_name(finalizer) {
            errors.push(FieldError::invalid(path, *finalizer, message));
        }
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        errors.push(FieldError::invalid(
            path,
            finalizers
                .iter()
                .map(|f| Value::from(*f))
                .collect::<Vec<_>>(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

#[cfg(test)]
mod tests;

//! Volumes of a pod.

use std::collections::{BTreeMap, BTreeSet};

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::container_env::{Use, field_ref, resource_field_ref};
use super::volume_source::{self, driver_name, shown, shown_as_second};
use super::{complain, complain_of, items, require};
use crate::look::Look;
use crate::meta;

/// Everything a volume can come from, in the order in which Kubernetes looks at it.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// Volumes by name; those that are wrong are not among them. `pod`: whose they are, where it is a pod and no template.
pub(crate) fn volumes<'a>(
    spec: &'a Value,
    pod: Option<&Object>,
    path: &Path,
    errors: &mut ErrorList,
) -> BTreeMap<&'a str, &'a Value> {
    let pod = pod.map_or("", Object::name);
    let made = claims_of(pod, spec);
    let mut all = BTreeMap::new();
    for (path, volume) in items(spec, "volumes", path) {
        let name = volume.text("name");
        let before = errors.len();
        source(volume, pod, &path, errors);
        if require(volume, "name", &path, errors) {
            complain_of(names::is_dns1123_label(name), "name", &path, name, errors);
        }
        if all.contains_key(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if errors.len() == before {
            all.insert(name, volume);
        }
        let claim = volume.at("persistentVolumeClaim").text("claimName");
        if made.contains(claim) {
            let path = path.child("persistentVolumeClaim").child("claimName");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(FieldError::invalid(&path, claim, detail));
        }
    }
    all
}

/// The claims that are made for the volumes of a pod.
fn claims_of(pod: &str, spec: &Value) -> BTreeSet<String> {
    let volumes = spec.list("volumes").iter();
    volumes
        .filter(|volume| !pod.is_empty() && volume.has("ephemeral"))
        .map(|volume| format!("{pod}-{}", volume.text("name")))
        .collect()
}

/// The sources of a volume in the order of [`SOURCES`].
fn sources(volume: &Value) -> Vec<&'static str> {
    let fields = volume.as_object().into_iter().flatten();
    let mut found: Vec<usize> = fields
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, _)| SOURCES.iter().position(|source| source == name))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|at| SOURCES[at]).collect()
}

fn source(volume: &Value, pod: &str, path: &Path, errors: &mut ErrorList) {
    let sources = sources(volume);
    let Some((first, others)) = sources.split_first() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    one_source(first, volume, pod, path, errors);
    for other in others {
        let detail = "may not specify more than 1 volume type";
        let path = path.child(shown_as_second(other));
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn one_source(kind: &str, volume: &Value, pod: &str, path: &Path, errors: &mut ErrorList) {
    let (source, whole) = (volume.at(kind), path);
    let path = &whole.child(shown(kind));
    match kind {
        "emptyDir" => empty_dir(source, path, errors),
        "secret" => {
            require(source, "secretName", path, errors);
            mode(source, "defaultMode", path, errors);
            keys(source, path, errors);
        }
        "configMap" => {
            require(source, "name", path, errors);
            mode(source, "defaultMode", path, errors);
            keys(source, path, errors);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            source
                .list("items")
                .iter()
                .for_each(|file| downward(file, path, errors));
        }
        "projected" => projected(source, path, errors),
        "persistentVolumeClaim" => {
            require(source, "claimName", path, errors);
        }
        "gitRepo" => volume_source::git_repo(source, path, errors),
        "csi" => csi(source, path, errors),
        "ephemeral" => ephemeral(volume, pod, whole, errors),
        "image" => {
            // In a template it may be left to whoever makes pods of it.
            if !pod.is_empty() {
                require(source, "reference", path, errors);
            }
            let policies = ["Always", "IfNotPresent", "Never"];
            super::one_of(source, "pullPolicy", &policies, path, errors);
        }
        "iscsi" => {
            volume_source::source(kind, source, false, path, errors);
            let name = volume.text("name");
            let length = name.len() + 1 + source.text("targetPortal").len();
            if source.has("initiatorName") && length > 64 {
                let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
                errors.push(FieldError::invalid(&whole.child("name"), name, detail));
            }
        }
        _ => volume_source::source(kind, source, false, path, errors),
    }
}

fn empty_dir(source: &Value, path: &Path, errors: &mut ErrorList) {
    let limit = schema::quantity::Quantity::from_json(source.at("sizeLimit"));
    if limit.is_ok_and(|limit| limit.sign() < 0) {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.push(FieldError::forbidden(&path.child("sizeLimit"), detail));
    }
}

fn csi(source: &Value, path: &Path, errors: &mut ErrorList) {
    driver_name(source.text("driver"), &path.child("driver"), errors);
    let secret = source.at("nodePublishSecretRef");
    if secret.is_null() {
        return;
    }
    if require(secret, "name", &path.child("nodePublishSecretRef"), errors) {
        let name = secret.text("name");
        complain_of(
            names::is_dns1123_subdomain(name),
            "name",
            path,
            name,
            errors,
        );
    }
}

/// A claim that is made with the pod, and named after it and the volume.
fn ephemeral(volume: &Value, pod: &str, path: &Path, errors: &mut ErrorList) {
    let (template, place) = (
        volume.at("ephemeral").at("volumeClaimTemplate"),
        path.child("ephemeral").child("volumeClaimTemplate"),
    );
    if template.is_null() {
        errors.push(FieldError::required(&place, ""));
    } else {
        claim_metadata(template.at("metadata"), &place.child("metadata"), errors);
        super::volume::claim_spec(template.at("spec"), &place.child("spec"), errors);
    }
    let name = volume.text("name");
    if !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{name}");
        for message in names::is_dns1123_subdomain(&claim) {
            let detail = format!("PVC name {}: {message}", schema::field::go_quote(&claim));
            errors.push(FieldError::invalid(&path.child("name"), name, detail));
        }
    }
}

/// Of the metadata of a claim that is to be, labels and annotations are taken, and nothing else may be said.
fn claim_metadata(metadata: &Value, path: &Path, errors: &mut ErrorList) {
    meta::annotations(
        metadata.at("annotations"),
        &path.child("annotations"),
        errors,
    );
    meta::labels(metadata.at("labels"), &path.child("labels"), errors);
    for (field, value) in metadata.as_object().into_iter().flatten() {
        let is_taken = matches!(field.as_str(), "annotations" | "labels");
        let is_said = !is_taken && !value.is_null() && value != "";
        if is_said {
            errors.push(FieldError::forbidden(&path.child(field), "cannot be set"));
        }
    }
}

fn mode(source: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    if let Some(mode) = source.int(field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(FieldError::invalid(
            &path.child(field),
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        ));
    }
}

fn keys(source: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, item) in items(source, "items", path) {
        require(item, "key", &path, errors);
        require(item, "path", &path, errors);
        inside(item.text("path"), &path.child("path"), errors);
        mode(item, "mode", &path, errors);
    }
}

/// A file with a field of the pod. Kubernetes does not say which one of them is wrong.
fn downward(file: &Value, path: &Path, errors: &mut ErrorList) {
    require(file, "path", path, errors);
    inside(file.text("path"), &path.child("path"), errors);
    let (field, resource) = (file.at("fieldRef"), file.at("resourceFieldRef"));
    if !field.is_null() {
        field_ref(field, Use::File, &path.child("fieldRef"), errors);
        if !resource.is_null() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(FieldError::invalid(path, "resource", detail));
        }
    } else if resource.is_null() {
        let detail = "one of fieldRef and resourceFieldRef is required";
        errors.push(FieldError::required(path, detail));
    } else {
        let path = path.child("resourceFieldRef");
        resource_field_ref(resource, Use::File, &path, errors);
    }
    mode(file, "mode", path, errors);
}

/// A volume put together from several sources, none of which takes the place of another's file.
fn projected(source: &Value, path: &Path, errors: &mut ErrorList) {
    mode(source, "defaultMode", path, errors);
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for (place, source) in items(source, "sources", path) {
        let kinds = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        let mut count = 0;
        for kind in kinds.into_iter().filter(|kind| source.has(kind)) {
            count += 1;
            projection(kind, source.at(kind), &mut taken, path, &place, errors);
        }
        if count > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(&place, detail));
        }
    }
}

/// One of them. Some complaints of Kubernetes are about the volume.
fn projection<'a>(
    kind: &str,
    part: &'a Value,
    taken: &mut BTreeSet<&'a str>,
    whole: &Path,
    place: &Path,
    errors: &mut ErrorList,
) {
    let path = place.child(kind);
    match kind {
        "secret" | "configMap" => {
            require(part, "name", &path, errors);
            keys(part, &path, errors);
        }
        "downwardAPI" => {
            let files = part.list("items").iter();
            files.for_each(|file| downward(file, &path, errors));
        }
        "serviceAccountToken" => token(part, whole, &path, errors),
        "clusterTrustBundle" => {
            require(part, "path", &path, errors);
            inside(part.text("path"), &path.child("path"), errors);
        }
        _ => {
            require(part, "signerName", &path, errors);
        }
    }
    let name = part.text("name");
    for file in part.list("items") {
        let file = file.text("path");
        if !file.is_empty() && !taken.insert(file) {
            let shown = if kind == "downwardAPI" { file } else { name };
            let detail = "conflicting duplicate paths";
            errors.push(FieldError::invalid(whole, shown, detail));
        }
    }
}

fn token(part: &Value, whole: &Path, path: &Path, errors: &mut ErrorList) {
    let seconds = part.int("expirationSeconds").unwrap_or(0);
    let detail = match seconds {
        ..600 => Some("may not specify a duration less than 10 minutes"),
        seconds if seconds > 1 << 32 => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let Some(detail) = detail {
        let path = path.child("expirationSeconds");
        errors.push(FieldError::invalid(&path, seconds, detail));
    }
    if require(part, "path", whole, errors) {
        inside(part.text("path"), &whole.child("path"), errors);
    }
}

/// A path below a root: relative, without `..`.
pub(crate) fn descending(text: &str, path: &Path, errors: &mut ErrorList) {
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    no_backsteps(text, path, errors);
}

/// A path in a volume of ours, which keeps names that start with `..` for itself.
fn inside(text: &str, path: &Path, errors: &mut ErrorList) {
    descending(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

pub(crate) fn no_backsteps(text: &str, path: &Path, errors: &mut ErrorList) {
    if text.split('/').any(|part| part == "..") {
        complain(vec!["must not contain '..'".to_owned()], path, text, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_source_is_found_and_the_second_one_is_one_too_many() {
        for (at, name) in SOURCES.iter().enumerate() {
            assert_eq!(sources(&json!({"name": "v", *name: {}})), [*name]);
            let other = (at + 1) % SOURCES.len();
            let mut errors = ErrorList::new();
            let volume = json!({"name": "v", *name: {}, SOURCES[other]: {}, "nothing": {}});
            source(&volume, "", &Path::new("v"), &mut errors);
            let second = shown_as_second(SOURCES[at.max(other)]);
            let refused = FieldError::forbidden(
                &Path::new("v").child(second),
                "may not specify more than 1 volume type",
            );
            assert!(errors.contains(&refused), "{name}: {errors:?}");
        }
        assert!(sources(&json!({"emptyDir": null})).is_empty());
        assert!(sources(&json!("odd")).is_empty());
    }
}

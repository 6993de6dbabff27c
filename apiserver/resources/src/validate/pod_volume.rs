//! Volumes of a pod and the places where containers mount them.

use std::collections::BTreeMap;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{amount, complain, complain_of, items, optional_one_of, require};
use crate::look::Look;

/// Everything a volume can come from, sorted.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];

const HOST_PATH_TYPES: &[&str] = &[
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

const NAMED_FIELDS: &[&str] = &["metadata.name", "metadata.namespace", "metadata.uid"];

/// Volumes by name.
pub(crate) fn volumes<'a>(
    spec: &'a Value,
    path: &Path,
    errors: &mut ErrorList,
) -> BTreeMap<&'a str, &'a Value> {
    let mut all = BTreeMap::new();
    for (path, volume) in items(spec, "volumes", path) {
        let name = volume.text("name");
        source(volume, &path, errors);
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
            continue;
        }
        complain_of(names::is_dns1123_label(name), "name", &path, name, errors);
        if all.insert(name, volume).is_some() {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
    all
}

/// The sources of a volume in the order of [`SOURCES`], which is that of the fields: a volume has few of them.
fn sources(volume: &Value) -> impl Iterator<Item = &'static str> {
    let fields = volume.as_object().into_iter().flatten();
    fields
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, _)| {
            let at = SOURCES.binary_search(&name.as_str());
            at.ok().map(|at| SOURCES[at])
        })
}

fn source(volume: &Value, path: &Path, errors: &mut ErrorList) {
    let mut found = 0;
    for name in sources(volume) {
        found += 1;
        let path = path.child(name);
        if found > 1 {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        one_source(name, volume.at(name), &path, errors);
    }
    if found == 0 {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn one_source(name: &str, source: &Value, path: &Path, errors: &mut ErrorList) {
    match name {
        "emptyDir" if source.has("sizeLimit") => {
            amount(source.at("sizeLimit"), &path.child("sizeLimit"), errors);
        }
        "hostPath" => {
            if require(source, "path", path, errors) {
                no_backsteps(source.text("path"), &path.child("path"), errors);
            }
            optional_one_of(source, "type", HOST_PATH_TYPES, path, errors);
        }
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
            downward(source, path, errors);
        }
        "projected" => projected(source, path, errors),
        "persistentVolumeClaim" => {
            require(source, "claimName", path, errors);
        }
        "nfs" => {
            require(source, "server", path, errors);
            if require(source, "path", path, errors) && !source.text("path").starts_with('/') {
                errors.push(FieldError::invalid(
                    &path.child("path"),
                    source.text("path"),
                    "must be an absolute path",
                ));
            }
        }
        "csi" => {
            require(source, "driver", path, errors);
        }
        "ephemeral" if !source.at("volumeClaimTemplate").is_object() => {
            errors.push(FieldError::required(&path.child("volumeClaimTemplate"), ""));
        }
        "ephemeral" => {
            let template = source.at("volumeClaimTemplate");
            super::volume::claim_spec(
                template.at("spec"),
                &path.child("volumeClaimTemplate").child("spec"),
                errors,
            );
        }
        _ => {}
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
        if require(item, "path", &path, errors) {
            inside(item.text("path"), &path.child("path"), errors);
        }
        mode(item, "mode", &path, errors);
    }
}

fn downward(source: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, item) in items(source, "items", path) {
        if require(item, "path", &path, errors) {
            inside(item.text("path"), &path.child("path"), errors);
        }
        match (item.has("fieldRef"), item.has("resourceFieldRef")) {
            (true, true) => errors.push(FieldError::invalid(
                &path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            )),
            (true, false) => field_ref(
                item.at("fieldRef"),
                NAMED_FIELDS,
                &path.child("fieldRef"),
                errors,
            ),
            (false, true) => {
                resource_field_ref(
                    item.at("resourceFieldRef"),
                    true,
                    &path.child("resourceFieldRef"),
                    errors,
                );
            }
            (false, false) => {
                errors.push(FieldError::required(
                    &path,
                    "one of fieldRef and resourceFieldRef is required",
                ));
            }
        }
        mode(item, "mode", &path, errors);
    }
}

fn projected(source: &Value, path: &Path, errors: &mut ErrorList) {
    mode(source, "defaultMode", path, errors);
    for (path, source) in items(source, "sources", path) {
        let mut found = 0;
        for name in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            if !source.has(name) {
                continue;
            }
            found += 1;
            let (part, path) = (source.at(name), path.child(name));
            if found > 1 {
                errors.push(FieldError::forbidden(
                    &path,
                    "may not specify more than 1 volume type",
                ));
                continue;
            }
            match name {
                "secret" | "configMap" => {
                    require(part, "name", &path, errors);
                    keys(part, &path, errors);
                }
                "downwardAPI" => downward(part, &path, errors),
                "serviceAccountToken" => {
                    if let Some(seconds) = part.int("expirationSeconds") {
                        if seconds < 600 {
                            errors.push(FieldError::invalid(
                                &path.child("expirationSeconds"),
                                seconds,
                                "may not specify a duration less than 10 minutes",
                            ));
                        } else if seconds > 1 << 32 {
                            errors.push(FieldError::invalid(
                                &path.child("expirationSeconds"),
                                seconds,
                                "may not specify a duration larger than 2^32 seconds",
                            ));
                        }
                    }
                    if require(part, "path", &path, errors) {
                        inside(part.text("path"), &path.child("path"), errors);
                    }
                }
                _ => {
                    require(
                        part,
                        if name == "podCertificate" {
                            "signerName"
                        } else {
                            "path"
                        },
                        &path,
                        errors,
                    );
                }
            }
        }
        if found == 0 {
            errors.push(FieldError::required(&path, "must specify a volume type"));
        }
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
    if text.starts_with("..") && !text.starts_with("../") && text != ".." {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

pub(crate) fn no_backsteps(text: &str, path: &Path, errors: &mut ErrorList) {
    if text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}

/// A reference to a field of the pod.
pub(crate) fn field_ref(
    reference: &Value,
    supported: &[&str],
    path: &Path,
    errors: &mut ErrorList,
) {
    require(reference, "apiVersion", path, errors);
    if !require(reference, "fieldPath", path, errors) {
        return;
    }
    let text = reference.text("fieldPath");
    let path = path.child("fieldPath");
    if let Some((field, rest)) = text.split_once("['") {
        let key = rest.strip_suffix("']").unwrap_or(rest);
        match field {
            "metadata.annotations" => complain(
                names::is_qualified_name(&key.to_lowercase()),
                &path,
                key,
                errors,
            ),
            "metadata.labels" => complain(names::is_qualified_name(key), &path, key, errors),
            _ => errors.push(FieldError::invalid(
                &path,
                field,
                "does not support subscript",
            )),
        }
        return;
    }
    let known = NAMED_FIELDS.contains(&text)
        || matches!(
            text,
            "metadata.labels"
                | "metadata.annotations"
                | "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.serviceAccountName"
                | "spec.schedulerName"
                | "status.phase"
                | "status.hostIP"
                | "status.hostIPs"
                | "status.podIP"
                | "status.podIPs"
        );
    let whole_maps =
        supported == NAMED_FIELDS && matches!(text, "metadata.labels" | "metadata.annotations");
    if !known {
        let detail = format!("error converting fieldPath: field label not supported: {text}");
        errors.push(FieldError::invalid(&path, text, detail));
    } else if !supported.contains(&text) && !whole_maps {
        errors.push(FieldError::not_supported(&path, text, supported));
    }
}

/// A reference to a resource of a container.
pub(crate) fn resource_field_ref(
    reference: &Value,
    in_volume: bool,
    path: &Path,
    errors: &mut ErrorList,
) {
    const KNOWN: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    if in_volume {
        require(reference, "containerName", path, errors);
    }
    if !require(reference, "resource", path, errors) {
        return;
    }
    let resource = reference.text("resource");
    let huge =
        resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if !KNOWN.contains(&resource) && !huge {
        errors.push(FieldError::not_supported(
            &path.child("resource"),
            resource,
            KNOWN,
        ));
    }
}

/// Mounts and devices of a container.
pub(crate) fn mounts(
    container: &Value,
    volumes: &BTreeMap<&str, &Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let devices: Vec<(&str, &str)> = container
        .list("volumeDevices")
        .iter()
        .map(|d| (d.text("name"), d.text("devicePath")))
        .collect();
    let mut places: Vec<&str> = Vec::new();
    for (path, mount) in items(container, "volumeMounts", path) {
        let (name, place) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !volumes.contains_key(name) {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        if place.is_empty() {
            errors.push(FieldError::required(&path.child("mountPath"), ""));
        } else if places.contains(&place) {
            errors.push(FieldError::invalid(
                &path.child("mountPath"),
                place,
                "must be unique",
            ));
        }
        places.push(place);
        if devices.iter().any(|(device, _)| *device == name) {
            errors.push(FieldError::invalid(
                &path.child("name"),
                name,
                "must not already exist in volumeDevices",
            ));
        }
        if devices.iter().any(|(_, device)| *device == place) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&path.child("mountPath"), place, detail));
        }
        let (sub_path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        if !sub_path.is_empty() {
            descending(sub_path, &path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if sub_path.is_empty() {
                descending(expression, &path.child("subPathExpr"), errors);
            } else {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(FieldError::invalid(
                    &path.child("subPathExpr"),
                    expression,
                    detail,
                ));
            }
        }
        let propagation = ["Bidirectional", "HostToContainer", "None"];
        optional_one_of(mount, "mountPropagation", &propagation, &path, errors);
        if mount.text("mountPropagation") == "Bidirectional"
            && !container.at("securityContext").flag("privileged")
        {
            errors.push(FieldError::forbidden(
                &path.child("mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            ));
        }
    }
    for (path, device) in items(container, "volumeDevices", path) {
        let name = device.text("name");
        if !require(device, "name", &path, errors) {
            continue;
        }
        match volumes.get(name) {
            None => errors.push(FieldError::not_found(&path.child("name"), name)),
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&path.child("name"), name, detail));
            }
            Some(_) => {}
        }
        if require(device, "devicePath", &path, errors) {
            no_backsteps(device.text("devicePath"), &path.child("devicePath"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_source_is_found_and_the_second_one_is_one_too_many() {
        for (at, name) in SOURCES.iter().enumerate() {
            let found: Vec<_> = sources(&json!({"name": "v", *name: {}})).collect();
            assert_eq!(found, [*name]);
            let other = SOURCES[(at + 1) % SOURCES.len()];
            let mut errors = ErrorList::new();
            let volume = json!({"name": "v", *name: {}, other: {}, "nothing": {}});
            source(&volume, &Path::new("v"), &mut errors);
            let second = format!("v.{}", name.max(&other));
            let refused = FieldError::forbidden(
                &Path::new(&second),
                "may not specify more than 1 volume type",
            );
            assert!(errors.contains(&refused), "{name}: {errors:?}");
        }
        assert_eq!(sources(&json!({"emptyDir": null})).count(), 0);
        assert_eq!(sources(&json!("odd")).count(), 0);
    }
}

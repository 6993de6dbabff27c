//! Where volumes come from: the sources that pods and persistent volumes share, old plugins among them.

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::pod_volume::{descending, no_backsteps};
use super::{complain, complain_of, require};
use crate::look::Look;

/// Fields that a source cannot be without, for those of which nothing else is asked.
const NEEDED: &[(&str, &[&str])] = &[
    ("cephfs", &["monitors"]),
    ("glusterfs", &["endpoints", "path"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// The path under which Kubernetes complains of a source.
pub(crate) fn shown(name: &str) -> &str {
    match name {
        "gcePersistentDisk" => "persistentDisk",
        other => other,
    }
}

/// The path under which it refuses one source too many.
pub(crate) fn shown_as_second(name: &str) -> &str {
    match name {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        other => other,
    }
}

/// One source. `is_volume`: it is that of a persistent volume, whose secrets have namespaces.
pub(crate) fn source(
    name: &str,
    source: &Value,
    is_volume: bool,
    path: &Path,
    errors: &mut ErrorList,
) {
    if let Some((_, fields)) = NEEDED.iter().find(|(plugin, _)| *plugin == name) {
        fields
            .iter()
            .for_each(|field| needs(source, field, path, errors));
    }
    match name {
        "hostPath" => host_path(source, path, errors),
        "nfs" => nfs(source, path, errors),
        "iscsi" => iscsi(source, is_volume, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "gcePersistentDisk" => disk(source, "pdName", path, errors),
        "awsElasticBlockStore" => disk(source, "volumeID", path, errors),
        "cinder" => {
            needs(source, "volumeID", path, errors);
            secret_ref(source, is_volume, path, errors);
        }
        "flexVolume" => flex(source, path, errors),
        "flocker" => flocker(source, path, errors),
        "quobyte" => quobyte(source, path, errors),
        "azureFile" => {
            needs(source, "secretName", path, errors);
            needs(source, "shareName", path, errors);
            if source.at("secretNamespace") == "" {
                errors.push(FieldError::required(&path.child("secretNamespace"), ""));
            }
        }
        "azureDisk" => azure_disk(source, path, errors),
        "storageos" => {
            needs(source, "volumeName", path, errors);
            for field in ["volumeName", "volumeNamespace"] {
                let name = source.text(field);
                if !name.is_empty() {
                    complain_of(names::is_dns1123_label(name), field, path, name, errors);
                }
            }
            secret_ref(source, is_volume, path, errors);
        }
        _ => {}
    }
}

/// A text or list that must be there.
fn needs(source: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    if source.text(field).is_empty() && source.list(field).is_empty() {
        errors.push(FieldError::required(&path.child(field), ""));
    }
}

fn secret_ref(source: &Value, is_volume: bool, path: &Path, errors: &mut ErrorList) {
    if source.has("secretRef") {
        let path = path.child("secretRef");
        require(source.at("secretRef"), "name", &path, errors);
        if is_volume {
            require(source.at("secretRef"), "namespace", &path, errors);
        }
    }
}

fn host_path(source: &Value, path: &Path, errors: &mut ErrorList) {
    if !require(source, "path", path, errors) {
        return;
    }
    no_backsteps(source.text("path"), &path.child("path"), errors);
    let kind = source.text("type");
    if !HOST_PATH_TYPES.contains(&kind) {
        let path = path.child("type");
        errors.push(FieldError::not_supported(&path, kind, HOST_PATH_TYPES));
    }
}

fn nfs(source: &Value, path: &Path, errors: &mut ErrorList) {
    require(source, "server", path, errors);
    require(source, "path", path, errors);
    let text = source.text("path");
    if !text.starts_with('/') {
        let detail = "must be an absolute path";
        errors.push(FieldError::invalid(&path.child("path"), text, detail));
    }
}

fn iscsi(source: &Value, is_volume: bool, path: &Path, errors: &mut ErrorList) {
    require(source, "targetPortal", path, errors);
    if require(source, "iqn", path, errors) {
        initiator(source.text("iqn"), &path.child("iqn"), errors);
    }
    number(source, "lun", path, errors);
    let is_authenticated = source.flag("chapAuthDiscovery") || source.flag("chapAuthSession");
    if is_authenticated && !source.has("secretRef") {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
    if is_volume && source.has("secretRef") {
        require(
            source.at("secretRef"),
            "name",
            &path.child("secretRef"),
            errors,
        );
    }
    if source.has("initiatorName") {
        let path = path.child("initiatorname");
        initiator(source.text("initiatorName"), &path, errors);
    }
}

/// The name of a side of iSCSI: `iqn.2001-04.com.example:storage`.
fn initiator(name: &str, path: &Path, errors: &mut ErrorList) {
    let alphanumeric = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let fits = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        // The dots of Kubernetes' patterns are any characters.
        Some("eui") => name.get(4..).is_some_and(|rest| alphanumeric(rest, 16)),
        Some("naa") => name.get(4..).is_some_and(|rest| alphanumeric(rest, 32)),
        _ => {
            let detail = "must be valid format starting with iqn, eui, or naa";
            errors.push(FieldError::invalid(path, name, detail));
            return;
        }
    };
    if !fits {
        errors.push(FieldError::invalid(path, name, "must be valid format"));
    }
}

fn is_iqn(name: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((date, rest)) = name
        .strip_prefix("iqn.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let is_date = date.split_once('-').is_some_and(|(year, month)| {
        year.len() == 4 && month.len() == 2 && digits(year) && digits(month)
    });
    let in_authority = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    is_date
        && rest.split_once(':').is_some_and(|(authority, label)| {
            !authority.is_empty()
                && authority.bytes().all(in_authority)
                && !label.is_empty()
                && !label.contains(|c: char| c.is_whitespace() || ",;*&$|".contains(c))
        })
}

fn fibre_channel(source: &Value, path: &Path, errors: &mut ErrorList) {
    let (targets, ids) = (source.list("targetWWNs"), source.list("wwids"));
    let place = path.child("targetWWNs");
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => {
            let detail = "must specify either targetWWNs or wwids, but not both";
            errors.push(FieldError::required(&place, detail));
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(FieldError::invalid(&place, targets.to_vec(), detail));
        }
        _ => {}
    }
    if targets.is_empty() {
        return;
    }
    if source.has("lun") {
        number(source, "lun", path, errors);
    } else {
        let detail = "lun is required if targetWWNs is specified";
        errors.push(FieldError::required(&path.child("lun"), detail));
    }
}

fn number(source: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    let number = source.int(field).unwrap_or(0);
    if !(0..=255).contains(&number) {
        let detail = names::inclusive_range_error(0, 255);
        errors.push(FieldError::invalid(&path.child(field), number, detail));
    }
}

fn disk(source: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    needs(source, field, path, errors);
    let partition = source.int("partition").unwrap_or(0);
    if !(0..=255).contains(&partition) {
        let path = path.child("partition");
        let detail = names::inclusive_range_error(1, 255);
        errors.push(FieldError::invalid(&path, partition, detail));
    }
}

fn flex(source: &Value, path: &Path, errors: &mut ErrorList) {
    needs(source, "driver", path, errors);
    for (key, _) in source.entries("options") {
        let domain = key.split_once('/').map_or(key, |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let path = path.child("options").key(key);
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&path, key, detail));
        }
    }
}

fn flocker(source: &Value, path: &Path, errors: &mut ErrorList) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        let detail = "one of datasetName and datasetUUID is required";
        errors.push(FieldError::required(path, detail));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(path, "resource", detail));
    }
    if name.contains('/') {
        let path = path.child("datasetName");
        errors.push(FieldError::invalid(&path, name, "must not contain '/'"));
    }
}

fn quobyte(source: &Value, path: &Path, errors: &mut ErrorList) {
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.push(FieldError::required(&path.child("registry"), detail));
    } else if source.text("tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&path.child("tenant"), detail));
    } else {
        for _ in registry.split(',').filter(|pair| !pair.contains(':')) {
            let path = path.child("registry");
            errors.push(FieldError::invalid(&path, registry, detail));
        }
    }
    needs(source, "volume", path, errors);
}

fn azure_disk(source: &Value, path: &Path, errors: &mut ErrorList) {
    needs(source, "diskName", path, errors);
    needs(source, "diskURI", path, errors);
    let caching = ["None", "ReadOnly", "ReadWrite"];
    super::optional_one_of(source, "cachingMode", &caching, path, errors);
    let kinds = ["Dedicated", "Managed", "Shared"];
    super::optional_one_of(source, "kind", &kinds, path, errors);
    let (kind, uri) = (source.text("kind"), source.text("diskURI"));
    let (start, form) = match kind {
        "" => return,
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if !uri.starts_with(start) {
        let path = path.child("diskURI");
        errors.push(FieldError::not_supported(&path, uri, &[form]));
    }
}

/// The name of a CSI driver, wherever it stands.
pub(crate) fn driver_name(name: &str, path: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    let lower = name.to_lowercase();
    complain(names::is_dns1123_subdomain(&lower), path, name, errors);
}

/// A repository of code.
pub(crate) fn git_repo(source: &Value, path: &Path, errors: &mut ErrorList) {
    needs(source, "repository", path, errors);
    descending(source.text("directory"), &path.child("directory"), errors);
}

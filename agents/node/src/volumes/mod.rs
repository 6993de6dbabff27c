//! The volumes of a pod on this node: making them, keeping them current, and taking them away.
//!
//! Everything of a pod lies under one directory named after its UID, so that removing the pod is removing the
//! directory, and an agent that starts again finds (and may remove) what an earlier one has left.
//! All functions here block on the file system; the worker calls them on a blocking thread.

pub(crate) mod atomic;
pub(crate) mod payload;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use time::OffsetDateTime;

use crate::pod::env::{Sources, expand};
use crate::quantity;
use crate::runtime::BindMount;
use crate::spec::{Container, EmptyDirVolume, HostPathVolume, Pod};
use payload::Tokens;

/// A volume cannot be provided; becomes a `FailedMount` event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
pub(crate) struct MountError {
    pub(crate) volume: String,
    pub(crate) message: String,
}

/// Where the volumes of a pod are on the node, by name.
pub(crate) type Paths = BTreeMap<String, PathBuf>;

/// Makes the pod's volumes, or brings those made of API objects up to date. Safe to repeat.
pub(crate) fn prepare(
    pod: &Pod,
    pod_dir: &Path,
    sources: &Sources,
    tokens: &Tokens,
    now: OffsetDateTime,
) -> Result<Paths, MountError> {
    let group = pod
        .spec
        .security_context
        .fs_group
        .and_then(|group| u32::try_from(group).ok());
    let mut paths = Paths::new();
    for volume in &pod.spec.volumes {
        let failure = |message: String| MountError {
            volume: volume.name.clone(),
            message,
        };
        let dir = pod_dir.join("volumes").join(&volume.name);
        let path = if let Some(source) = &volume.host_path {
            host_path(source).map_err(failure)?
        } else if let Some(files) = payload::files(pod, volume, sources, tokens).map_err(failure)? {
            atomic::write(&dir, &files, group, now).map_err(|error| failure(error.to_string()))?;
            dir
        } else if let Some(kind) = volume
            .other
            .keys()
            .next()
            .filter(|_| volume.empty_dir.is_none())
        {
            return Err(failure(format!(
                "this node does not support volumes of kind {kind}"
            )));
        } else {
            let source = volume.empty_dir.clone().unwrap_or_default();
            empty_dir(&dir, &source, group).map_err(|error| failure(error.to_string()))?;
            dir
        };
        paths.insert(volume.name.clone(), path);
    }
    Ok(paths)
}

fn empty_dir(dir: &Path, source: &EmptyDirVolume, group: Option<u32>) -> io::Result<()> {
    let existed = dir.exists();
    fs::create_dir_all(dir)?;
    if source.medium == "Memory" && !is_mounted(dir)? {
        let size = source
            .size_limit
            .as_ref()
            .and_then(quantity::units_of)
            .filter(|bytes| *bytes > 0);
        let options = size.map_or_else(
            || "mode=0777".to_owned(),
            |bytes| format!("mode=0777,size={bytes}"),
        );
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir)
            .output()?;
        if !mount.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&mount.stderr).trim().to_owned(),
            ));
        }
    } else if existed {
        return Ok(());
    }
    if group.is_some() {
        chown(dir, None, group)?;
    }
    // The set-group-id bit makes new files belong to the pod's group too.
    fs::set_permissions(
        dir,
        fs::Permissions::from_mode(if group.is_some() { 0o2777 } else { 0o777 }),
    )
}

fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(unescape_mount);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// Mount tables write blanks and backslashes in octal.
fn unescape_mount(text: &str) -> PathBuf {
    PathBuf::from(
        text.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\"),
    )
}

fn is_mounted(dir: &Path) -> io::Result<bool> {
    let canonical = fs::canonicalize(dir)?;
    Ok(mounts_below(&canonical)?.contains(&canonical))
}

fn host_path(source: &HostPathVolume) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let metadata = fs::metadata(&path).ok();
    let check = |what: &str, matches: &dyn Fn(&fs::Metadata) -> bool| match &metadata {
        Some(found) if matches(found) => Ok(()),
        _ => Err(format!(
            "hostPath type check failed: {} is not a {what}",
            source.path
        )),
    };
    let text = |error: io::Error| error.to_string();
    match source.kind.as_str() {
        "DirectoryOrCreate" | "" if metadata.is_none() => {
            fs::create_dir_all(&path).map_err(text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(text)?;
        }
        "FileOrCreate" if metadata.is_none() => {
            fs::write(&path, b"").map_err(text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(text)?;
        }
        "" => {}
        "Directory" | "DirectoryOrCreate" => check("directory", &fs::Metadata::is_dir)?,
        "File" | "FileOrCreate" => check("file", &fs::Metadata::is_file)?,
        "Socket" => check("socket file", &|found| found.file_type().is_socket())?,
        "CharDevice" => check("character device", &|found| {
            found.file_type().is_char_device()
        })?,
        "BlockDevice" => check("block device", &|found| found.file_type().is_block_device())?,
        other => return Err(format!("unknown hostPath type {other:?}")),
    }
    Ok(path)
}

/// The mounts of a container from the pod's volumes; the error goes into `CreateContainerConfigError`.
pub(crate) fn container_mounts(
    container: &Container,
    paths: &Paths,
    env: &[(String, String)],
    read_only: &dyn Fn(&str) -> bool,
) -> Result<Vec<BindMount>, String> {
    let lookup = |name: &str| {
        env.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let mut mounts = Vec::new();
    for mount in &container.volume_mounts {
        let root = paths
            .get(&mount.name)
            .ok_or_else(|| format!("volume \"{}\" is not mounted", mount.name))?;
        let sub_path = match mount.sub_path_expr.as_str() {
            "" => mount.sub_path.clone(),
            expression => expand(expression, &lookup),
        };
        let source = match sub_path.as_str() {
            "" => root.clone(),
            sub_path => resolve_sub_path(root, sub_path).map_err(|error| {
                format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}",
                    mount.name, container.name
                )
            })?,
        };
        let mut target = mount.mount_path.clone();
        if !target.starts_with('/') {
            target.insert(0, '/');
        }
        mounts.push(BindMount {
            source: source.to_string_lossy().into_owned(),
            target,
            read_only: mount.read_only || read_only(&mount.name),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => "rslave",
                Some("Bidirectional") => "rshared",
                _ => "rprivate",
            },
        });
    }
    Ok(mounts)
}

/// The path of a subPath, links resolved, which must not lead out of the volume. Missing directories are made.
fn resolve_sub_path(root: &Path, sub_path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    let plain = |part| {
        matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    };
    if relative.is_absolute() || !relative.components().all(plain) {
        return Err(format!("{sub_path:?} must be a relative path without '..'"));
    }
    let root = fs::canonicalize(root).map_err(|error| error.to_string())?;
    let mut path = root.clone();
    for part in relative.components() {
        path.push(part);
        match fs::canonicalize(&path) {
            Ok(resolved) if resolved.starts_with(&root) => path = resolved,
            Ok(_) => return Err(format!("{sub_path:?} leads out of the volume")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path).map_err(|error| error.to_string())?;
                let mode = fs::metadata(&root)
                    .map_err(|error| error.to_string())?
                    .permissions();
                fs::set_permissions(&path, mode).map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(path)
}

/// Whether a volume is made of API objects, which containers must not write to.
pub(crate) fn is_read_only(pod: &Pod, name: &str) -> bool {
    pod.spec.volumes.iter().any(|volume| {
        let from_api = volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some();
        volume.name == name && from_api
    })
}

/// Removes everything of a pod. Safe to repeat; an error means that something is still mounted or in use.
pub(crate) fn remove(pod_dir: &Path) -> io::Result<()> {
    let Ok(canonical) = fs::canonicalize(pod_dir) else {
        return Ok(());
    };
    for point in mounts_below(&canonical)? {
        let unmount = Command::new("umount").arg(&point).output()?;
        if !unmount.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&unmount.stderr).trim().to_owned(),
            ));
        }
    }
    match fs::remove_dir_all(&canonical) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// UIDs of the pods that have a directory here.
pub(crate) fn pod_uids(pods_dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(pods_dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(volumes: Value, mounts: Value) -> Pod {
        Pod::decode(&json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]},
        }))
        .unwrap()
    }

    fn prepared(pod: &Pod, dir: &Path) -> Result<Paths, MountError> {
        let sources = Sources {
            config_maps: [("cm".to_owned(), Some(json!({"data": {"k": "v"}})))].into(),
            ..Sources::default()
        };
        prepare(
            pod,
            dir,
            &sources,
            &Tokens::new(),
            OffsetDateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn volumes_are_made_mounted_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host/deep");
        let pod = pod(
            json!([
                {"name": "e", "emptyDir": {}},
                {"name": "m", "configMap": {"name": "cm"}},
                {"name": "h", "hostPath": {"path": host, "type": "DirectoryOrCreate"}},
            ]),
            json!([
                {"name": "e", "mountPath": "/e", "subPathExpr": "x/$(NAME)"},
                {"name": "m", "mountPath": "/k", "subPath": "k"},
                {"name": "h", "mountPath": "/h", "readOnly": true, "mountPropagation": "HostToContainer"},
            ]),
        );
        let pod_dir = dir.path().join("pods/u");
        let paths = prepared(&pod, &pod_dir).unwrap();
        assert!(host.is_dir());
        let env = [("NAME".to_owned(), "n".to_owned())];
        let read_only = |name: &str| is_read_only(&pod, name);
        let mounts = container_mounts(&pod.spec.containers[0], &paths, &env, &read_only).unwrap();
        assert!(mounts[0].source.ends_with("/volumes/e/x/n") && !mounts[0].read_only);
        assert_eq!(fs::read_to_string(&mounts[1].source).unwrap(), "v");
        assert!(mounts[1].read_only);
        assert_eq!(
            (mounts[2].read_only, mounts[2].propagation),
            (true, "rslave")
        );
        fs::write(paths["e"].join("x/keep"), "1").unwrap();
        prepared(&pod, &pod_dir).unwrap();
        assert!(
            paths["e"].join("x/keep").exists(),
            "what a container has written stays"
        );
        assert_eq!(pod_uids(&dir.path().join("pods")).unwrap(), ["u"]);
        remove(&pod_dir).unwrap();
        assert!(!pod_dir.exists() && host.is_dir());
        remove(&pod_dir).unwrap();
    }

    #[test]
    fn problems_name_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let cases = [
            (
                json!({"hostPath": {"path": file, "type": "Directory"}}),
                "hostPath type check failed: ",
            ),
            (
                json!({"hostPath": {"path": "/no/such", "type": "Socket"}}),
                "hostPath type check failed: /no/such is not a socket file",
            ),
            (
                json!({"nfs": {"server": "x"}}),
                "this node does not support volumes of kind nfs",
            ),
            (
                json!({"secret": {"secretName": "s"}}),
                "failed to sync secret cache: d/s",
            ),
        ];
        for (mut volume, text) in cases {
            volume["name"] = json!("v");
            let error =
                prepared(&pod(json!([volume]), json!([])), &dir.path().join("u")).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("MountVolume.SetUp failed for volume \"v\" : ")
            );
            assert!(error.message.starts_with(text), "{error}");
        }
    }

    #[test]
    fn sub_paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        for path in ["../x", "/etc", "out", "out/passwd"] {
            assert!(resolve_sub_path(dir.path(), path).is_err(), "{path}");
        }
        assert!(resolve_sub_path(dir.path(), "a/./b").unwrap().is_dir());
    }
}

//! The volumes of a pod on this node: making them, keeping them current, and taking them away.
//!
//! Everything of a pod lies under one directory named after its UID, so that removing the pod is removing the
//! directory, and an agent that starts again finds (and may remove) what an earlier one has left.
//! All functions here block on the file system; the worker calls them on a blocking thread.

pub(crate) mod atomic;
pub(crate) mod claimed;
pub(crate) mod payload;
mod sub_path;
#[cfg(test)]
mod together;
mod tree;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use agent_runtime::host_path::{Task, below_tmp};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use time::OffsetDateTime;

use crate::pod::env::Sources;
use crate::quantity;
use crate::runtime::BindMount;
use crate::spec::{Container, EmptyDirVolume, HostPathVolume, Pod};
use claimed::Claimed;
use payload::Tokens;
pub(crate) use sub_path::Pinned;

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
        } else if let Some(name) = claimed::claim_name(pod, volume) {
            let place = sources
                .claimed
                .get(&volume.name)
                .ok_or_else(|| failure(format!("failed to sync claim cache: {name}")))?;
            match place {
                Claimed::Path(source) => host_path(source).map_err(failure)?,
                Claimed::Directory(path) => {
                    empty_dir(path, &EmptyDirVolume::default(), None, group).map_err(failure)?;
                    path.clone()
                }
            }
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
            empty_dir(&dir, &source, memory_bytes_max(pod, &source), group).map_err(failure)?;
            dir
        };
        paths.insert(volume.name.clone(), path);
    }
    Ok(paths)
}

fn empty_dir(
    dir: &Path,
    source: &EmptyDirVolume,
    bytes_max: Option<i128>,
    group: Option<u32>,
) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    match source.medium.as_str() {
        "" | "Memory" => {}
        other => return Err(format!("unknown storage medium {other:?}")),
    }
    let existed = dir.exists();
    fs::create_dir_all(dir).map_err(text)?;
    if source.medium == "Memory" && !is_mounted(dir) {
        let options = bytes_max.map_or_else(
            || "mode=0777".to_owned(),
            |bytes| format!("mode=0777,size={bytes}"),
        );
        let options = CString::new(options).map_err(|error| error.to_string())?;
        rustix::mount::mount("tmpfs", dir, "tmpfs", MountFlags::empty(), Some(&*options))
            .map_err(|error| format!("cannot mount a tmpfs: {error}"))?;
    } else if existed {
        return Ok(());
    }
    if group.is_some() {
        chown(dir, None, group).map_err(text)?;
    }
    // The set-group-id bit makes new files belong to the pod's group too.
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(text)
}

/// What a volume in memory may hold: its own limit, and no more than the containers of the pod may use together.
fn memory_bytes_max(pod: &Pod, source: &EmptyDirVolume) -> Option<i128> {
    let positive = |bytes: &i128| *bytes > 0;
    let own = source
        .size_limit
        .as_ref()
        .and_then(quantity::units_of)
        .filter(positive);
    let limits = pod.spec.containers.iter().map(|container| {
        let limit = container.resources.limits.get("memory");
        limit.and_then(quantity::units_of).filter(positive)
    });
    let all: Option<i128> = limits.sum();
    own.into_iter().chain(all.filter(positive)).min()
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

/// Whether something is mounted exactly there.
fn is_mounted(path: &Path) -> bool {
    let mounted = |path: PathBuf| Some(mounts_below(&path).ok()?.contains(&path));
    fs::canonicalize(path).ok().and_then(mounted) == Some(true)
}

/// Takes a mount away, with everything that is mounted inside.
fn unmount(point: &Path) -> io::Result<()> {
    // Not even what a container has mounted there may be unmounted elsewhere, where it came from.
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(point, alone)?;
    Ok(rustix::mount::unmount(point, UnmountFlags::DETACH)?)
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

/// What a container mounts of the pod's volumes.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) binds: Vec<BindMount>,
    /// Mounts that some of the sources are; held until the container has been started.
    pub(crate) pins: Vec<Pinned>,
}

/// The mounts of a container from the pod's volumes; the error goes into `CreateContainerConfigError`.
pub(crate) fn container_mounts(
    container: &Container,
    pod_dir: &Path,
    paths: &Paths,
    env: &[(String, String)],
    read_only: &dyn Fn(&str) -> bool,
) -> Result<Mounts, String> {
    let mut mounts = Mounts::default();
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let root = paths
            .get(&mount.name)
            .ok_or_else(|| format!("volume \"{}\" is not mounted", mount.name))?;
        let sub_path = sub_path::named(mount, env)?;
        let source = match sub_path.as_str() {
            "" => root.clone(),
            sub_path => {
                let target = pod_dir.join("subpaths").join(&container.name);
                let target = target.join(index.to_string());
                let pinned = sub_path::pin(root, sub_path, target).map_err(|error| {
                    format!(
                        "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}",
                        mount.name, container.name
                    )
                })?;
                let path = pinned.path().to_owned();
                mounts.pins.push(pinned);
                path
            }
        };
        let mut target = mount.mount_path.clone();
        if !target.starts_with('/') {
            target.insert(0, '/');
        }
        mounts.binds.push(BindMount {
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

/// Whether a container may mount the parts of volumes that it asks for, where there are no volumes; errors as from
/// [`container_mounts`].
pub(crate) fn check_parts(container: &Container, env: &[(String, String)]) -> Result<(), String> {
    let mut mounts = container.volume_mounts.iter();
    mounts.try_for_each(|mount| sub_path::named(mount, env).map(drop))
}

/// Whether a volume is made of API objects, which containers must not write to, or a claim that the pod only reads.
pub(crate) fn is_read_only(pod: &Pod, name: &str) -> bool {
    pod.spec.volumes.iter().any(|volume| {
        let from_api = volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some();
        let claim = volume.persistent_volume_claim.as_ref();
        volume.name == name && (from_api || claim.is_some_and(|claim| claim.read_only))
    })
}

/// Removes everything of a pod. Safe to repeat; an error means that something is still mounted or in use.
pub(crate) fn remove(pod_dir: &Path) -> io::Result<()> {
    let Ok(canonical) = fs::canonicalize(pod_dir) else {
        return Ok(());
    };
    // The last mounted first: it may be inside another.
    for point in mounts_below(&canonical)?.iter().rev() {
        unmount(point)?;
    }
    if let Some(point) = mounts_below(&canonical)?.first() {
        // Its files are somebody else's.
        return Err(io::Error::other(format!(
            "{} is still mounted",
            point.display()
        )));
    }
    match tree::remove(&canonical) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes or empties a directory below `/tmp` that somebody made a volume of.
pub(crate) fn reclaim(task: &Task) -> io::Result<()> {
    let Some(below) = below_tmp(&task.path) else {
        return Err(io::Error::other("only what is below /tmp is reclaimed"));
    };
    tree::reclaim(Path::new("/tmp"), below, task.how)
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
        let container = &pod.spec.containers[0];
        let mounts = match container_mounts(container, &pod_dir, &paths, &env, &read_only) {
            Err(text) if text.ends_with("Operation not permitted (os error 1)") => {
                eprintln!("skipped: {text}");
                return;
            }
            mounts => mounts.unwrap(),
        };
        let (mounts, pins) = (mounts.binds, mounts.pins);
        fs::write(paths["e"].join("x/n/seen"), "1").unwrap();
        assert!(Path::new(&mounts[0].source).join("seen").exists() && !mounts[0].read_only);
        assert_eq!(fs::read_to_string(&mounts[1].source).unwrap(), "v");
        assert!(mounts[1].read_only);
        assert_eq!(
            (mounts[2].read_only, mounts[2].propagation),
            (true, "rslave")
        );
        drop(pins);
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
                json!({"emptyDir": {"medium": "HugePages"}}),
                "unknown storage medium \"HugePages\"",
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
    fn memory_volumes_are_bounded_by_their_pod() {
        let limited = |limit: Value| json!({"resources": {"limits": {"memory": limit}}});
        let cases = [
            (json!([{}]), json!({}), None),
            (json!([{}]), json!({"sizeLimit": "1Ki"}), Some(1024)),
            (json!([limited(json!("1Ki")), {}]), json!({}), None),
            (
                json!([limited(json!("1Ki")), limited(json!("2Ki"))]),
                json!({"sizeLimit": "1Mi"}),
                Some(3072),
            ),
            (
                json!([limited(json!("1Mi"))]),
                json!({"sizeLimit": 5}),
                Some(5),
            ),
        ];
        for (containers, volume, expected) in cases {
            let pod = Pod::decode(&json!({"spec": {"containers": containers}})).unwrap();
            let source: EmptyDirVolume = serde_json::from_value(volume.clone()).unwrap();
            assert_eq!(
                memory_bytes_max(&pod, &source),
                expected,
                "{containers} {volume}"
            );
        }
    }
}

//! The files of a container that the node owns: hosts, resolv.conf, and the one for its last words.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::message::message_path;
use crate::runtime::BindMount;
use crate::spec::Container;

pub(super) struct NodeFiles {
    pub(super) hosts: String,
    pub(super) resolv_conf: String,
}

pub(super) fn read_text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Writes and mounts the files that the node owns, unless the pod mounts something of its own there.
pub(super) fn own_files(
    mounts: &mut Vec<BindMount>,
    pod_dir: &Path,
    container: &Container,
    attempt: u32,
    files: &NodeFiles,
) -> std::io::Result<()> {
    let message = message_path(pod_dir, &container.name, attempt);
    if let Some(parent) = message.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&message, b"")?;
    // The container of that attempt is gone, or goes now: two are kept.
    if let Some(old) = attempt.checked_sub(2) {
        remove_if_there(&message_path(pod_dir, &container.name, old))?;
    }
    // Whatever user the container runs as may write here.
    std::fs::set_permissions(&message, std::fs::Permissions::from_mode(0o666))?;
    let message_target = match container.termination_message_path.as_str() {
        "" => "/dev/termination-log",
        path => path,
    };
    let (hosts, resolv) = (pod_dir.join("etc-hosts"), pod_dir.join("resolv.conf"));
    write_if_changed(&hosts, &files.hosts)?;
    write_if_changed(&resolv, &files.resolv_conf)?;
    for (source, target) in [
        (hosts, "/etc/hosts"),
        (resolv, "/etc/resolv.conf"),
        (message, message_target),
    ] {
        if mounts.iter().any(|mount| mount.target == target) {
            continue;
        }
        mounts.push(BindMount {
            source: source.to_string_lossy().into_owned(),
            target: target.to_owned(),
            read_only: false,
            propagation: "rprivate",
        });
    }
    Ok(())
}

/// Leaves a file alone that says so already: other containers of the pod may be reading it.
fn write_if_changed(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::read(path) {
        Ok(current) if current == text.as_bytes() => Ok(()),
        _ => std::fs::write(path, text),
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_are_mounted_kept_and_tidied() {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles {
            hosts: "1.2.3.4 p".into(),
            resolv_conf: String::new(),
        };
        let container = Container {
            name: "c".into(),
            termination_message_path: "/said".into(),
            ..Container::default()
        };
        let mounted = |attempt, mut mounts: Vec<BindMount>| {
            own_files(&mut mounts, dir.path(), &container, attempt, &files).unwrap();
            mounts
        };
        let targets: Vec<String> = mounted(0, Vec::new())
            .into_iter()
            .map(|m| m.target)
            .collect();
        assert_eq!(targets, ["/etc/hosts", "/etc/resolv.conf", "/said"]);
        let own = BindMount {
            source: "/own".into(),
            target: "/etc/hosts".into(),
            read_only: true,
            propagation: "rprivate",
        };
        assert_eq!(mounted(0, vec![own.clone()])[0], own);
        let hosts = dir.path().join("etc-hosts");
        let old = std::time::SystemTime::UNIX_EPOCH;
        let file = std::fs::File::options().write(true).open(&hosts).unwrap();
        file.set_modified(old).unwrap();
        mounted(1, Vec::new());
        mounted(2, Vec::new());
        let unchanged = std::fs::metadata(&hosts).unwrap().modified().unwrap();
        assert_eq!(unchanged, old, "a reader never sees it empty");
        let left = |attempt| message_path(dir.path(), "c", attempt).exists();
        assert_eq!([left(0), left(1), left(2)], [false, true, true]);
    }
}

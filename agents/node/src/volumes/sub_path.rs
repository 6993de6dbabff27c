//! The part of a volume that a container mounts by `subPath`.
//!
//! Containers of the pod may write to the volume while its parts are looked up, so a path checked first and used later
//! proves nothing: a link put in its place would lead out of the volume, to any file of the node. The kernel resolves
//! the path in one step that cannot leave the volume, and what it finds, held open, is mounted where no container can
//! reach: that mount is what the runtime gets to see, until it has made its own of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};

use crate::pod::env::expand;
use crate::spec::VolumeMount;

/// The kernel gives up a lookup that a rename disturbs; containers can do that as often as they like.
const TRIES_MAX: u32 = 100;

/// A mount of exactly what was found; it must be held until the container has been started.
#[derive(Debug)]
pub(crate) struct Pinned(PathBuf);

impl Pinned {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Were this to fail, the mount would go with the pod.
        if let Err(error) = super::unmount(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "cannot unmount a part of a volume");
        }
        // A start that the runtime carries out late has to fail: what is written to the bare place is lost.
        if let Err(error) = remove_bare(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "cannot remove the place of a mount");
        }
    }
}

/// The part of its volume that a container asks for, with variables of its environment put in; empty for all of it.
///
/// The error says, as a kubelet does, which variables are missing or empty, or why nobody may ask for such a part.
pub(super) fn named(mount: &VolumeMount, env: &[(String, String)]) -> Result<String, String> {
    let found = |name: &str| {
        let variable = env.iter().find(|(key, _)| key == name);
        variable.map(|(_, value)| value.clone())
    };
    let missing = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        let value = found(name).filter(|value| !value.is_empty());
        if value.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        value
    };
    let part = match mount.sub_path_expr.as_str() {
        "" => mount.sub_path.clone(),
        expression => expand(expression, &lookup),
    };
    let missing = Vec::from_iter(missing.into_inner());
    if !missing.is_empty() {
        return Err(format!("missing value for {}", missing.join(", ")));
    }
    if part.starts_with('/') {
        return Err(format!(
            "error SubPath `{part}` must not be an absolute path"
        ));
    }
    if part.split('/').any(|step| step == "..") {
        return Err(format!(
            "unable to provision SubPath `{part}`: must not contain '..'"
        ));
    }
    Ok(part)
}

/// Finds the part of a volume and mounts it at `target`, which is made.
pub(super) fn pin(volume: &Path, sub_path: &str, target: PathBuf) -> Result<Pinned, String> {
    let found = find(volume, sub_path)?;
    mount(&found, target, receive_only)
        .map_err(|error| format!("cannot mount {sub_path:?}: {error}"))
}

/// Mounts what was found and has the mount settled; if that fails, nothing of it stays.
fn mount(
    found: &OwnedFd,
    target: PathBuf,
    settle: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<Pinned> {
    let is_dir = FileType::from_raw_mode(fstat(found)?.st_mode) == FileType::Directory;
    // An agent that was killed has left its mount.
    while super::is_mounted(&target) {
        super::unmount(&target)?;
    }
    // It has left the place too, made for what may have been a file then and is a directory now.
    if let Err(error) = remove_bare(&target) {
        // A directory that is not empty serves as well; anything else fails below.
        tracing::debug!(path = %target.display(), %error, "cannot remove the place of a mount");
    }
    if is_dir {
        fs::create_dir_all(&target)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(Path::new("/")))?;
        fs::write(&target, b"")?;
    }
    let pinned = Pinned(target);
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    mount_bind_recursive(source, pinned.path())?;
    settle(pinned.path())?;
    Ok(pinned)
}

/// What is unmounted here later must not be unmounted where it came from.
fn receive_only(target: &Path) -> io::Result<()> {
    let receiving = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change(target, receiving)?)
}

/// Removes the file or the empty directory on which nothing is mounted any more.
fn remove_bare(place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir(place),
        Ok(_) => fs::remove_file(place),
    }
}

/// Opens the part of a volume; missing directories are made, with the permissions of the volume itself.
fn find(volume: &Path, sub_path: &str) -> Result<OwnedFd, String> {
    let relative = Path::new(sub_path);
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if relative.is_absolute() || !relative.components().all(plain) {
        return Err(format!("{sub_path:?} must be a relative path without '..'"));
    }
    let text = |error: Errno| match error {
        Errno::XDEV => format!("{sub_path:?} leads out of the volume"),
        other => other.to_string(),
    };
    let root = open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(text)?;
    match beneath(&root, relative, OFlags::PATH) {
        Err(Errno::NOENT) => make(&root, relative).map_err(text)?,
        Err(error) => return Err(text(error)),
        Ok(found) => return Ok(found),
    }
    beneath(&root, relative, OFlags::PATH).map_err(text)
}

fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES_MAX => tries += 1,
            result => return result,
        }
    }
}

/// Makes what is missing of a path, one directory in the one before.
fn make(root: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(fstat(root)?.st_mode & 0o7777);
    let mut above = PathBuf::from(".");
    for part in path.components().filter(|part| *part != Component::CurDir) {
        let parent = beneath(root, &above, OFlags::PATH | OFlags::DIRECTORY)?;
        above.push(part);
        match mkdirat(&parent, part.as_os_str(), mode) {
            // Not by its path: whatever the name stands for by now, it stands in the volume and is no link.
            Ok(()) => fchmod(
                beneath(
                    &parent,
                    Path::new(part.as_os_str()),
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                )?,
                mode,
            )?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::*;

    fn path(found: &OwnedFd) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()))
    }

    #[test]
    fn a_part_is_named_by_what_variables_say() {
        let env = [("A", "a"), ("UP", ".."), ("ROOT", "/tmp"), ("NONE", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let missing = "missing value for";
        let back = "must not contain '..'";
        for (expression, expected) in [
            ("x/$(A)/y", Ok("x/a/y".to_owned())),
            ("$(A)..", Ok("a..".to_owned())),
            ("", Ok(String::new())),
            ("$(NONE)/$(A)", Err(format!("{missing} NONE"))),
            ("$(Z)/$(NONE)/$(Z)", Err(format!("{missing} NONE, Z"))),
            (
                "a/$(UP)",
                Err(format!("unable to provision SubPath `a/..`: {back}")),
            ),
            (
                "$(ROOT)",
                Err("error SubPath `/tmp` must not be an absolute path".to_owned()),
            ),
        ] {
            let mount = VolumeMount {
                sub_path_expr: expression.to_owned(),
                ..VolumeMount::default()
            };
            assert_eq!(named(&mount, &env), expected, "{expression}");
        }
        let plain = VolumeMount {
            sub_path: "$(A)".to_owned(),
            ..VolumeMount::default()
        };
        assert_eq!(named(&plain, &env), Ok("$(A)".to_owned()));
    }

    #[test]
    fn paths_stay_in_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2777)).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("..", volume.join("up")).unwrap();
        symlink("nowhere", volume.join("dangling")).unwrap();
        symlink("real/deep", volume.join("inside")).unwrap();
        for path in [
            "../x",
            "/etc",
            "out",
            "out/passwd",
            "up",
            "up/new",
            "dangling/x",
        ] {
            assert!(find(&volume, path).is_err(), "{path}");
        }
        assert!(!dir.path().join("new").exists() && !volume.join("nowhere").exists());
        assert_eq!(
            find(&volume, "out").unwrap_err(),
            "\"out\" leads out of the volume"
        );
        let made = find(&volume, "real/./deep").unwrap();
        let mode = fs::metadata(volume.join("real/deep"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o2777, "whatever the umask says");
        let real = fs::canonicalize(volume.join("real/deep")).unwrap();
        assert_eq!(fs::canonicalize(path(&made)).unwrap(), real);
        assert_eq!(
            fs::canonicalize(path(&find(&volume, "inside").unwrap())).unwrap(),
            real
        );
        fs::write(real.join("file"), "1").unwrap();
        let file = find(&volume, "inside/file").unwrap();
        assert_eq!(fs::read_to_string(path(&file)).unwrap(), "1");
    }

    #[test]
    fn what_was_found_stays_found_when_its_name_becomes_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let pinned = find(dir.path(), "sub").unwrap();
        fs::write(dir.path().join("sub/mine"), "mine").unwrap();
        fs::rename(dir.path().join("sub"), dir.path().join("old")).unwrap();
        symlink("/", dir.path().join("sub")).unwrap();
        assert_eq!(
            fs::read_to_string(path(&pinned).join("mine")).unwrap(),
            "mine"
        );
    }

    /// A container swaps a directory for a link while the node looks it up.
    #[test]
    fn a_link_race_is_never_won() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("a/b")).unwrap();
        symlink("..", volume.join("link")).unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        // By number: names are what cannot be trusted here.
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        let outside = inode(dir.path().join("b"));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, link) = (volume.join("a"), volume.join("link"));
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &a, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
            });
            // Both outcomes have to come, or nothing was raced.
            let (mut inside, mut refused, mut escaped) = (0, 0, 0);
            for _ in 0..1_000_000 {
                match find(&volume, "a/b") {
                    Ok(pinned) if inode(path(&pinned)) == outside => escaped += 1,
                    Ok(_) => inside += 1,
                    Err(_) => refused += 1,
                }
                if inside > 100 && refused > 100 {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(
                escaped == 0 && inside > 100 && refused > 100,
                "{inside} {refused} {escaped}"
            );
        });
    }

    #[test]
    fn what_was_found_is_mounted_while_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("sub")).unwrap();
        fs::write(volume.join("sub/file"), "1").unwrap();
        for (sub_path, read) in [("sub", "file"), ("sub/file", "")] {
            let target = dir.path().join("pins").join(sub_path.replace('/', "-"));
            let pinned = match pin(&volume, sub_path, target.clone()) {
                Ok(pinned) => pinned,
                Err(text) if text.ends_with("Operation not permitted (os error 1)") => {
                    eprintln!("skipped: {text}");
                    return;
                }
                Err(text) => panic!("{text}"),
            };
            let read = if read.is_empty() {
                target.clone()
            } else {
                target.join(read)
            };
            assert_eq!(fs::read_to_string(&read).unwrap(), "1");
            // As an agent does that was killed in between.
            std::mem::forget(pinned);
            let again = pin(&volume, sub_path, target.clone()).unwrap();
            assert_eq!(again.path(), target);
            drop(again);
            assert!(!crate::volumes::is_mounted(&target), "every mount is gone");
            assert!(volume.join("sub/file").exists());
            assert!(
                !target.exists(),
                "a late start must find nothing to write to"
            );
        }
    }

    #[test]
    fn a_directory_may_become_a_file_and_a_file_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, target) = (dir.path().join("volume"), dir.path().join("pins/0"));
        fs::create_dir_all(volume.join("dir")).unwrap();
        fs::write(volume.join("file"), "1").unwrap();
        for sub_path in ["dir", "file", "dir"] {
            let pinned = match pin(&volume, sub_path, target.clone()) {
                Err(text) if text.ends_with("Operation not permitted (os error 1)") => {
                    eprintln!("skipped: {text}");
                    return;
                }
                pinned => pinned.unwrap(),
            };
            assert_eq!(target.is_dir(), sub_path == "dir");
            // As after a restart of the machine: the mount is gone, its place is not.
            std::mem::forget(pinned);
            crate::volumes::unmount(&target).unwrap();
            assert!(target.exists());
        }
    }

    #[test]
    fn a_mount_that_cannot_be_settled_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, target) = (dir.path().join("volume"), dir.path().join("pins/0"));
        fs::create_dir_all(volume.join("sub")).unwrap();
        let mut was_mounted = false;
        let refuse = |at: &Path| {
            was_mounted = crate::volumes::is_mounted(at);
            Err(io::Error::other("refused"))
        };
        let error = mount(&find(&volume, "sub").unwrap(), target.clone(), refuse).unwrap_err();
        if error.kind() == io::ErrorKind::PermissionDenied {
            eprintln!("skipped: {error}");
            return;
        }
        assert!(was_mounted && error.to_string() == "refused", "{error}");
        assert!(!crate::volumes::is_mounted(&target) && !target.exists());
    }
}

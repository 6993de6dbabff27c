//! Removing the directory of a pod, and nothing of what is mounted in it.
//!
//! A start that was given up may still be mounting a part of a volume, which may be a directory of the node. Looking for
//! mounts first therefore proves nothing: the kernel is asked, step by step, not to enter one. What is open stays what
//! it was, whatever is mounted over it later.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agent_runtime::host_path::How;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, open, openat2, unlinkat};
use rustix::io::Errno;

/// A directory that is being emptied.
struct Level {
    name: CString,
    entries: Dir,
}

impl Level {
    /// Fails when something is mounted there.
    fn enter(parent: impl AsFd, name: CString) -> io::Result<Level> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let dir = openat2(parent, &name, flags, Mode::empty(), resolve)?;
        let entries = Dir::new(dir)?;
        Ok(Level { name, entries })
    }
}

/// Removes a directory with everything in it; an error where something is mounted, and what is mounted stays whole.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = open(parent, FOLDER, Mode::empty())?;
    clear(&parent, CString::new(name.as_bytes())?, How::Remove)
}

/// Removes what is at a path below a directory that is trusted, or only what is in it. No link on the way is followed, and
/// one at its end is removed instead of what it leads to. What is not there is no error.
pub(super) fn reclaim(root: &Path, below: &Path, how: How) -> io::Result<()> {
    let Some(name) = below.file_name() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = CString::new(name.as_bytes())?;
    let root = open(root, FOLDER, Mode::empty())?;
    let cleared = open_parent(&root, below).and_then(|parent| {
        if how == How::Scrub {
            return clear(&parent, name, how);
        }
        match unlinkat(&parent, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => clear(&parent, name, how),
            removed => Ok(removed?),
        }
    });
    match cleared {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        cleared => cleared,
    }
}

/// The directory in which the last part of the path is.
fn open_parent(root: &OwnedFd, below: &Path) -> io::Result<OwnedFd> {
    let parent = below.parent().filter(|path| !path.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, parent, FOLDER, Mode::empty(), resolve)?)
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Empties a directory, and removes it if it is to go.
fn clear(parent: &OwnedFd, name: CString, how: How) -> io::Result<()> {
    let mut levels = vec![Level::enter(parent, name)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.read() else {
            let emptied = levels.pop().expect("there was a last one");
            match levels.last() {
                Some(above) => unlinkat(above.entries.fd()?, &emptied.name, AtFlags::REMOVEDIR)?,
                None if how == How::Scrub => {}
                None => unlinkat(parent, &emptied.name, AtFlags::REMOVEDIR)?,
            }
            continue;
        };
        let entry = entry?;
        let (name, here) = (entry.file_name(), level.entries.fd()?);
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(here, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                let inside = Level::enter(here, name.to_owned())?;
                levels.push(inside);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::mount::mount_bind_recursive;

    use super::*;

    #[test]
    fn everything_goes_but_what_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let (pod, outside) = (dir.path().join("pod"), dir.path().join("outside"));
        fs::create_dir_all(pod.join("a/b/c")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "1").unwrap();
        symlink(&outside, pod.join("a/link")).unwrap();
        for number in 0..3000 {
            fs::write(pod.join(format!("a/b/{number}")), "").unwrap();
        }
        remove(&pod).unwrap();
        assert!(!pod.exists() && outside.join("file").exists());
        assert_eq!(remove(&pod).unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(&outside, &pod).unwrap();
        assert!(remove(&pod).is_err() && outside.join("file").exists());
    }

    #[test]
    fn a_directory_is_removed_or_emptied_and_no_link_on_the_way_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        let fill = || {
            fs::create_dir_all(root.join("a/b/c")).unwrap();
            fs::write(root.join("a/b/c/file"), "1").unwrap();
            fs::write(root.join("a/b/.hidden"), "1").unwrap();
        };
        fs::create_dir_all(outside.join("b")).unwrap();
        fs::write(outside.join("b/file"), "1").unwrap();
        fill();
        reclaim(&root, Path::new("a/b"), How::Scrub).unwrap();
        assert_eq!(fs::read_dir(root.join("a/b")).unwrap().count(), 0);
        fill();
        reclaim(&root, Path::new("a/b"), How::Remove).unwrap();
        assert!(!root.join("a/b").exists() && root.join("a").exists());
        for how in [How::Scrub, How::Remove] {
            reclaim(&root, Path::new("a/b"), how).unwrap();
            reclaim(&root, Path::new("no/such"), how).unwrap();
        }
        symlink(&outside, root.join("link")).unwrap();
        for how in [How::Scrub, How::Remove] {
            assert!(reclaim(&root, Path::new("link/b"), how).is_err());
            assert!(reclaim(&root, Path::new("../outside"), how).is_err());
        }
        reclaim(&root, Path::new("link"), How::Remove).unwrap();
        assert!(!root.join("link").exists() && outside.join("b/file").exists());
    }

    /// As when the mount comes after the look at the mount table.
    #[test]
    fn what_is_mounted_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (pod, host) = (dir.path().join("pod"), dir.path().join("host"));
        fs::create_dir_all(host.join("deep")).unwrap();
        fs::write(host.join("deep/file"), "1").unwrap();
        for source in ["deep", "deep/file"] {
            fs::create_dir_all(pod.join("subpaths/c")).unwrap();
            let target = pod.join("subpaths/c/0");
            match source {
                "deep" => fs::create_dir(&target).unwrap(),
                _ => fs::write(&target, "").unwrap(),
            }
            match mount_bind_recursive(host.join(source), &target) {
                Err(Errno::PERM) => {
                    eprintln!("skipped: this process may not mount");
                    return;
                }
                mounted => mounted.unwrap(),
            }
            remove(&pod).unwrap_err();
            assert_eq!(fs::read_to_string(host.join("deep/file")).unwrap(), "1");
            crate::volumes::unmount(&target).unwrap();
            remove(&pod).unwrap();
            assert!(!pod.exists() && host.join("deep/file").exists());
        }
    }
}

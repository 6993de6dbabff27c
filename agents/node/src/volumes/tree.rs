//! Removing the directory of a pod, and nothing of what is mounted in it.
//!
//! A start that was given up may still be mounting a part of a volume, which may be a directory of the node. Looking for
//! mounts first therefore proves nothing: the kernel is asked, step by step, not to enter one. What is open stays what
//! it was, whatever is mounted over it later.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = open(parent, flags, Mode::empty())?;
    let mut levels = vec![Level::enter(&parent, CString::new(name.as_bytes())?)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.read() else {
            let emptied = levels.pop().expect("there was a last one");
            match levels.last() {
                Some(above) => unlinkat(above.entries.fd()?, &emptied.name, AtFlags::REMOVEDIR)?,
                None => unlinkat(&parent, &emptied.name, AtFlags::REMOVEDIR)?,
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

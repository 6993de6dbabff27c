//! Replaces the files of a volume all at once.
//!
//! The files live in a directory named after the time, the link `..data` points at it, and every visible name is a link
//! through `..data`; renaming a new `..data` over the old one is the single step that readers can see. Containers that
//! mounted the volume follow the links and thus see the change. Nothing is written when nothing has changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use time::OffsetDateTime;
use time::macros::format_description;

use super::payload::Files;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes the directory show exactly these files. With a group, the files belong to it and it may read them.
/// True when something has changed.
pub(crate) fn write(
    dir: &Path,
    files: &Files,
    group: Option<u32>,
    now: OffsetDateTime,
) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && shows(&dir.join(current), files, group)?
        && visible_names(dir)? == top_names(files)
    {
        return Ok(false);
    }
    let format =
        format_description!("..[year]_[month]_[day]_[hour]_[minute]_[second].[subsecond digits:9]");
    let stamp = now.format(format).map_err(io::Error::other)?;
    let fresh = dir.join(&stamp);
    fs::create_dir_all(&fresh)?;
    set(&fresh, 0o755, group)?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            create_parents(&fresh, parent, group)?;
        }
        fs::write(&target, &file.content)?;
        set(&target, effective_mode(file.mode, group), group)?;
    }
    let pending = dir.join(DATA_NEW);
    match fs::remove_file(&pending) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&stamp, &pending)?;
    fs::rename(&pending, dir.join(DATA))?;
    let wanted = top_names(files);
    let shown = visible_names(dir)?;
    for name in wanted.difference(&shown) {
        symlink(Path::new(DATA).join(name), dir.join(name))?;
    }
    for name in shown.difference(&wanted) {
        fs::remove_file(dir.join(name))?;
    }
    if let Some(old) = current.filter(|old| *old != Path::new(&stamp)) {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(true)
}

fn create_parents(root: &Path, parent: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    let inside = parent.strip_prefix(root).unwrap_or(Path::new(""));
    let mut path = root.to_owned();
    for part in inside {
        path.push(part);
        set(&path, 0o755, group)?;
    }
    Ok(())
}

fn effective_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn set(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        chown(path, None, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn top_names(files: &Files) -> BTreeSet<String> {
    files
        .keys()
        .filter_map(|path| path.split('/').next())
        .map(str::to_owned)
        .collect()
}

fn visible_names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Whether a data directory has exactly these files.
fn shows(data: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    let mut pending = vec![data.to_owned()];
    while let Some(dir) = pending.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let name = path
                .strip_prefix(data)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let Some(file) = files.get(&name) else {
                return Ok(false);
            };
            let mode = fs::metadata(&path)?.permissions().mode() & 0o7777;
            if mode != effective_mode(file.mode, group) || fs::read(&path)? != file.content {
                return Ok(false);
            }
            found.insert(name);
        }
    }
    Ok(found.len() == files.len())
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn files(list: &[(&str, &str, u32)]) -> Files {
        list.iter()
            .map(|(path, content, mode)| {
                (
                    (*path).to_owned(),
                    File {
                        content: content.as_bytes().to_vec(),
                        mode: *mode,
                    },
                )
            })
            .collect()
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second)
    }

    #[test]
    fn files_change_all_at_once_and_only_when_they_differ() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volume");
        let first = files(&[("a", "1", 0o644), ("deep/er/b", "2", 0o400)]);
        assert!(write(&root, &first, None, at(1)).unwrap());
        assert!(!write(&root, &first, None, at(2)).unwrap());
        assert_eq!(fs::read_to_string(root.join("deep/er/b")).unwrap(), "2");
        assert_eq!(
            fs::read_link(root.join("a")).unwrap(),
            Path::new("..data/a")
        );
        let open_before = fs::canonicalize(root.join("a")).unwrap();

        let second = files(&[("a", "one", 0o600), ("c", "3", 0o644)]);
        assert!(write(&root, &second, None, at(3)).unwrap());
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "one");
        assert!(!root.join("deep").exists() && !open_before.exists());
        assert_eq!(
            fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let names: BTreeSet<_> = fs::read_dir(&root)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        let stamp = "..1970_01_01_00_00_03.000000000";
        assert_eq!(names, ["..data", stamp, "a", "c"].map(str::to_owned).into());

        assert!(write(&root, &Files::new(), None, at(4)).unwrap());
        assert!(visible_names(&root).unwrap().is_empty());
    }

    #[test]
    fn an_interrupted_write_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = files(&[("a", "1", 0o644)]);
        write(dir.path(), &wanted, None, at(1)).unwrap();
        fs::remove_file(dir.path().join("a")).unwrap();
        symlink("nowhere", dir.path().join(DATA_NEW)).unwrap();
        assert!(write(dir.path(), &wanted, None, at(2)).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
    }
}

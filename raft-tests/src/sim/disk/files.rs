//! The small files of a data directory on a simulated disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use store::env::{Files, Lock, NewFile};

use super::{Crash, Life};

/// Files by path. Directories are where there are files; nobody asks for an empty one.
#[derive(Debug, Default)]
pub(super) struct FileTree {
    seen: BTreeMap<PathBuf, Bytes>,
    /// What is there for certain after a power loss.
    synced: BTreeMap<PathBuf, Bytes>,
    locked: bool,
}

impl FileTree {
    /// The files of a directory, by their paths in it.
    pub(super) fn below<'a>(
        &'a self,
        dir: &'a Path,
    ) -> impl Iterator<Item = (&'a Path, &'a Bytes)> {
        let files = self.seen.iter();
        files.filter_map(move |(file, contents)| Some((file.strip_prefix(dir).ok()?, contents)))
    }

    pub(super) fn unlock(&mut self) {
        self.locked = false;
    }

    pub(super) fn crash(&mut self, how: Crash) {
        match how {
            Crash::Kill => {}
            Crash::PowerLoss => self.seen = self.synced.clone(),
        }
        self.locked = false;
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// The lock goes with the process.
#[derive(Debug)]
struct Locked;

impl Lock for Locked {}

struct Writing {
    life: Life,
    path: PathBuf,
    contents: Vec<u8>,
}

impl io::Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.contents.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Writing {
    fn sync(&mut self) -> io::Result<()> {
        let contents = std::mem::take(&mut self.contents);
        let mut inner = self.life.lock()?;
        inner.sync()?;
        inner.files.seen.insert(self.path.clone(), contents.into());
        Ok(())
    }
}

impl Files for Life {
    fn exists(&self, path: &Path) -> bool {
        let there = |tree: &FileTree| tree.seen.keys().any(|file| file.starts_with(path));
        Life::lock(self).is_ok_and(|inner| there(&inner.files))
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Life::lock(self).map(drop)
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        let mut inner = Life::lock(self)?;
        match std::mem::replace(&mut inner.files.locked, true) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(Box::new(Locked)),
        }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let inner = Life::lock(self)?;
        let contents = inner.files.seen.get(path).ok_or_else(not_found)?;
        String::from_utf8(contents.to_vec()).map_err(io::Error::other)
    }

    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut inner = Life::lock(self)?;
        inner.sync()?;
        let contents = Bytes::copy_from_slice(contents);
        inner.files.seen.insert(path.into(), contents);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = Life::lock(self)?;
        let contents = inner.files.seen.remove(from).ok_or_else(not_found)?;
        inner.files.seen.insert(to.into(), contents);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = Life::lock(self)?;
        inner.sync()?;
        let tree = &mut inner.files;
        tree.synced.retain(|file, _| file.parent() != Some(path));
        let here = tree
            .seen
            .iter()
            .filter(|(file, _)| file.parent() == Some(path));
        let here: Vec<_> = here
            .map(|(file, contents)| (file.clone(), contents.clone()))
            .collect();
        tree.synced.extend(here);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = Life::lock(self)?;
        inner.files.seen.retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let inner = Life::lock(self)?;
        let here = inner.files.seen.iter();
        let here = here.filter(|(file, _)| file.parent() == Some(path));
        Ok(here
            .filter_map(|(file, contents)| {
                let name = file.file_name()?.to_str()?.to_string();
                Some((name, contents.len() as u64))
            })
            .collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        let inner = Life::lock(self)?;
        let contents = inner.files.seen.get(path).ok_or_else(not_found)?;
        Ok(Box::new(io::Cursor::new(contents.clone())))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut inner = Life::lock(self)?;
        if inner.files.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.files.seen.insert(path.into(), Bytes::new());
        Ok(Box::new(Writing {
            life: self.clone(),
            path: path.into(),
            contents: Vec::new(),
        }))
    }
}

//! The few file operations that the log needs, as a seam: a test can stand in for the disk, forget what was not synced
//! and fail where it likes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files below one directory, by their path in it. `""` is the directory itself.
pub trait Folder: Send + Sync + 'static {
    /// Names in a directory; none where it does not exist.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a directory that may exist already.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes an empty file, or empties one.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DataFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DataFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Names made, renamed and removed in the directory before the call are durable after it.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Bytes that new files may take.
    fn room(&self) -> io::Result<u64>;
}

/// An opened file.
pub trait DataFile: Send + Sync + 'static {
    fn bytes(&self) -> io::Result<u64>;
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// What was written before the call is durable after it, and so is the length of the file.
    fn sync(&self) -> io::Result<()>;
}

/// The machine's file system.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(path: &Path) -> Directory {
        Directory(path.into())
    }
}

impl Folder for Directory {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.0.join(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        fs::create_dir_all(self.0.join(dir))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(self.0.join(path))?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        Ok(Arc::new(options.open(self.0.join(path))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.0.join(dir))?.sync_all()
    }

    fn room(&self) -> io::Result<u64> {
        Ok(crate::disk_space::space_of(&self.0)?.free)
    }
}

impl DataFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

//! The small files of a data directory, and snapshots on their way: what a member keeps besides its log and its state.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where they are. A simulation has its own.
pub trait Files: Debug + Send + Sync + 'static {
    fn exists(&self, path: &Path) -> bool;
    /// Makes a directory, and those above it. Secrets may be in it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes a directory for this process alone, until the answer is dropped. `WouldBlock` where another one has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    fn read(&self, path: &Path) -> io::Result<String>;
    /// Makes a file, or makes it anew, and its contents durable; its name may not be yet.
    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file, or a directory with all that is in it. Neither has to be there.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names and lengths of the files in a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>>;
    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>>;
    /// A new file.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
}

/// Held as long as it lives.
pub trait Lock: Debug + Send + Sync {}

/// A file that is being written.
pub trait NewFile: io::Write + Send {
    /// Makes its contents durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Those of the operating system.
pub(crate) fn real() -> Arc<dyn Files> {
    Arc::new(Real)
}

#[derive(Debug)]
struct Real;

impl Lock for File {}

impl NewFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Files for Real {
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock = options.open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Box::new(lock)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        io::Write::write_all(&mut file, contents)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|_| crate::disk::damaged("a file name is not text"))?;
            found.push((name, entry.metadata()?.len()));
        }
        Ok(found)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(File::create_new(path)?))
    }
}

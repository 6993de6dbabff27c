//! The storage engine: the state in RocksDB, which has no WAL there and is recovered from the log, and the log in its own
//! format (`wal`). Only this module names rocksdb. `log` is the log of earlier versions, kept to take their data over and
//! to compare with.

mod former_log;
pub mod log;
mod scrub;
pub mod state;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::Position;
use crate::env::{Engine, LogDisk, StateDisk};

/// The engine of the product.
pub struct Rocks;

impl Engine for Rocks {
    fn open_log(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>> {
        Ok(Arc::new(former_log::open_log(dir, create)?))
    }

    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>> {
        Ok(Arc::new(state::RocksState::open(dir, create)?))
    }

    fn look_at_state(&self, dir: &Path) -> io::Result<Option<Position>> {
        state::look_at(dir)
    }
}

/// RocksDB's error as one of I/O, keeping "no space" and "read-only" apart from damage.
pub(crate) fn io_error(error: rocksdb::Error) -> io::Error {
    let text = error.to_string();
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        _ if text.contains("LOCK") => io::ErrorKind::ResourceBusy,
        _ if text.contains("No space left") => io::ErrorKind::StorageFull,
        _ if text.contains("Read-only file system") => io::ErrorKind::ReadOnlyFilesystem,
        _ if text.contains("Permission denied") => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, text)
}

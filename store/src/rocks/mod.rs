//! The storage engine: two RocksDB databases. The log is written through a synced WAL; the state has no WAL and is
//! recovered from the log. Only this module names rocksdb.

pub mod log;
pub mod state;

use std::io;

/// RocksDB's error as one of I/O, keeping "no space" and "read-only" apart from damage.
pub(crate) fn io_error(error: rocksdb::Error) -> io::Error {
    let text = error.to_string();
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        _ if text.contains("No space left") => io::ErrorKind::StorageFull,
        _ if text.contains("Read-only file system") => io::ErrorKind::ReadOnlyFilesystem,
        _ if text.contains("Permission denied") => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, text)
}

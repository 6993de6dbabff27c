//! A member's data directory: whose it is, and that one process has it.
//!
//! ```text
//! identity    format, cluster id and member id as text, with a checksum
//! lock        locked while a process uses the directory
//! log/        the Raft log; log.mark beside it is the last acknowledged write
//! state/      the state; CURRENT names the directory in use
//! staging/    snapshots on their way; emptied at start
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Layout of the directory as a whole.
const FORMAT: u32 = 1;

/// Why a data directory cannot be used. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("data directory {path}: {text}")]
    Io {
        path: PathBuf,
        /// What failed, in words for the operator.
        text: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "data directory {path} is in use by another process: stop that one first, or give each its own"
    )]
    Locked { path: PathBuf },
    #[error(
        "data directory {path} belongs to member {found_member:016x} of cluster {found_cluster:016x}, not to member \
         {member:016x} of cluster {cluster:016x}: point this member at its own directory"
    )]
    Foreign {
        path: PathBuf,
        found_cluster: u64,
        found_member: u64,
        cluster: u64,
        member: u64,
    },
    #[error(
        "data directory {path} holds data but no identity file: it is not known whose it is. Restore the file, or \
         remove this member from the cluster, empty the directory and add the member anew under a new id"
    )]
    Anonymous { path: PathBuf },
    #[error(
        "data directory {path} has format {found}, and this version knows only {FORMAT}: start a newer version"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "data directory {path}: {what} is damaged ({source}). Nothing was changed. This member must not start with \
         what is left, because it may have acknowledged what is missing: remove it from the cluster, empty the \
         directory and add it anew under a new id; the other members have its data. A single member: restore a backup"
    )]
    Damaged {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// A locked data directory of this member.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Made by this start: there is no data in it yet.
    fresh: bool,
    _lock: File,
}

impl DataDir {
    /// Locks the directory and checks whose it is; a new or empty one becomes this member's.
    pub(crate) fn open(path: &Path, cluster: u64, member: u64) -> Result<DataDir, DataDirError> {
        let failed = |text: &str| {
            let (path, text) = (path.to_path_buf(), text.to_string());
            move |source: io::Error| DataDirError::Io {
                path,
                text: explain(&text, &source),
                source,
            }
        };
        std::fs::create_dir_all(path).map_err(failed("cannot be created"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"));
        let lock = lock.map_err(failed("the lock file cannot be opened"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::Locked { path: path.into() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("cannot be locked")(error)),
        }
        let fresh = match std::fs::read_to_string(path.join("identity")) {
            Ok(text) => {
                check_identity(path, &text, cluster, member)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let data = ["log", "state", "log.mark"].map(|name| path.join(name));
                if path.join("identity.new").exists() {
                    // A creation that was cut short: the member never ran on it.
                    for part in data {
                        remove(&part)
                            .map_err(failed("what a cut creation left cannot be removed"))?;
                    }
                } else if data.iter().any(|part| part.exists()) {
                    return Err(DataDirError::Anonymous { path: path.into() });
                }
                write_identity(path, cluster, member)
                    .map_err(failed("the identity file cannot be written"))?;
                true
            }
            Err(error) => return Err(failed("the identity file cannot be read")(error)),
        };
        Ok(DataDir {
            path: path.into(),
            fresh,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Declares a fresh directory complete: log and state have been created in it.
    pub(crate) fn created(&self) -> Result<(), DataDirError> {
        let rename = || {
            std::fs::rename(self.path.join("identity.new"), self.path.join("identity"))?;
            File::open(&self.path)?.sync_all()
        };
        match rename() {
            Err(error) if self.fresh => Err(self.failed("the identity file", error)),
            _ => Ok(()),
        }
    }

    /// An error of a part of the directory, told as what it is: damage, or a disk that cannot be used.
    pub(crate) fn failed(&self, what: &'static str, source: io::Error) -> DataDirError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied => DataDirError::Io {
                path,
                text: explain(&format!("{what} cannot be opened"), &source),
                source,
            },
            io::ErrorKind::ResourceBusy => DataDirError::Locked { path },
            _ => DataDirError::Damaged { path, what, source },
        }
    }
}

fn explain(text: &str, source: &io::Error) -> String {
    let what_to_do = match source.kind() {
        io::ErrorKind::StorageFull => "; the disk is full: make room and start again",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is read-only: mount it writable and start again"
        }
        io::ErrorKind::PermissionDenied => "; this user may not write there",
        _ => "",
    };
    format!("{text} ({source}){what_to_do}")
}

fn identity(cluster: u64, member: u64) -> String {
    let body =
        format!("kontiki store\nformat {FORMAT}\ncluster {cluster:016x}\nmember {member:016x}\n");
    format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()))
}

fn write_identity(path: &Path, cluster: u64, member: u64) -> io::Result<()> {
    let mut file = File::create(path.join("identity.new"))?;
    file.write_all(identity(cluster, member).as_bytes())?;
    file.sync_all()?;
    File::open(path)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
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

fn check_identity(path: &Path, text: &str, cluster: u64, member: u64) -> Result<(), DataDirError> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_default().to_string()
    };
    let damaged = || DataDirError::Damaged {
        path: path.into(),
        what: "the identity file",
        source: io::Error::new(
            io::ErrorKind::InvalidData,
            "its checksum or a field is wrong",
        ),
    };
    let format: u32 = field("format").parse().map_err(|_| damaged())?;
    if format > FORMAT {
        return Err(DataDirError::Newer {
            path: path.into(),
            found: format,
        });
    }
    let found_cluster = u64::from_str_radix(&field("cluster"), 16).map_err(|_| damaged())?;
    let found_member = u64::from_str_radix(&field("member"), 16).map_err(|_| damaged())?;
    if identity(found_cluster, found_member) != text {
        return Err(damaged());
    }
    if (found_cluster, found_member) != (cluster, member) {
        return Err(DataDirError::Foreign {
            path: path.into(),
            found_cluster,
            found_member,
            cluster,
            member,
        });
    }
    Ok(())
}

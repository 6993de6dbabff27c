//! A member's data directory: whose it is, and that one process has it.
//!
//! ```text
//! identity    format, cluster id, member id and incarnation as text, with a checksum
//! peers       the incarnations of the other members, see `incarnations.rs`
//! lock        locked while a process uses the directory
//! wal/        the Raft log; wal.mark beside it is the last acknowledged write (log/ and log.mark of earlier versions)
//! state/      the state; CURRENT names the directory in use
//! staging/    snapshots on their way; emptied at start
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{self, Files, Lock};
use crate::incarnations::{self, Incarnations};

/// Layout of the directory as a whole. 1 was without incarnations, and is read as it is.
const FORMAT: u32 = 2;

/// Beside a directory's name: what a restore is making of it.
pub(crate) const RESTORING: &str = ".restoring";
/// Beside a directory's name: what a recovery is making of it.
pub(crate) const RECOVERING: &str = ".recovering";

/// How a member that has lost its data, or must not use it, is brought back.
pub(crate) const REPLACE: &str = "`kontiki store replace NAME` does it where all members are on one machine, `kontiki \
                                  store member replace NAME` where they are on several";

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
        "data directory {path} holds data but no identity file: it is not known whose it is. Restore the file, or put a \
         new member in the place of this one, under a new id and with an empty directory: {REPLACE}"
    )]
    Anonymous { path: PathBuf },
    #[error(
        "data directory {path} has no data, and {staged} is beside it: a restore or a recovery was cut short. Do it again \
         with the same command, which brings it to its end; or remove {staged}, to begin with nothing"
    )]
    CutShort { path: PathBuf, staged: PathBuf },
    #[error("{path} is no data directory: it has no identity file")]
    NoData { path: PathBuf },
    #[error(
        "data directory {path} has format {found}, and this version knows only {FORMAT}: start a newer version"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "data directory {path}: {what} is damaged ({source}). Nothing was changed. This member must not start with \
         what is left, because it may have acknowledged what is missing. The other members have its data: put a new \
         member in its place, under a new id and with an empty directory ({REPLACE}). A single member: restore a backup"
    )]
    Damaged {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Whose a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    /// What tells this directory from any other that the same member may get.
    pub incarnation: u64,
}

/// A locked data directory of this member.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    files: Arc<dyn Files>,
    /// Made by this start: there is no data in it yet.
    fresh: bool,
    incarnation: u64,
    _lock: Box<dyn Lock>,
}

impl DataDir {
    /// Locks the directory and checks whose it is; a new or empty one becomes this member's.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        path: &Path,
        cluster: u64,
        member: u64,
    ) -> Result<DataDir, DataDirError> {
        let failed = |text: &str| failed(path, text);
        require_none_cut_short(&*files, path)?;
        let created = files.create_dir(path);
        created.map_err(failed("cannot be created"))?;
        let lock = lock(&*files, path)?;
        let (fresh, incarnation) = match files.read(&path.join("identity")) {
            Ok(text) => (false, check_identity(path, &text, cluster, member)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let data = ["wal", "state", "wal.mark", "peers", "log", "log.mark"]
                    .map(|name| path.join(name));
                if files.exists(&path.join("identity.new")) {
                    // A creation that was cut short: the member never ran on it.
                    for part in data {
                        let removed = files.remove(&part);
                        removed.map_err(failed("what a cut creation left cannot be removed"))?;
                    }
                } else if data.iter().any(|part| files.exists(part)) {
                    return Err(DataDirError::Anonymous { path: path.into() });
                }
                let incarnation = incarnations::mint();
                let identity = Identity {
                    cluster_id: cluster,
                    member_id: member,
                    incarnation,
                };
                write_identity(&*files, path, &identity)
                    .map_err(failed("the identity file cannot be written"))?;
                (true, incarnation)
            }
            Err(error) => return Err(failed("the identity file cannot be read")(error)),
        };
        Ok(DataDir {
            path: path.into(),
            files,
            fresh,
            incarnation,
            _lock: lock,
        })
    }

    /// Locks a directory that has data, whoever's it is, and answers that.
    pub(crate) fn of_whomever(path: &Path) -> Result<(DataDir, Identity), DataDirError> {
        let files = files::real();
        let text = match files.read(&path.join("identity")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataDirError::NoData { path: path.into() });
            }
            other => other.map_err(failed(path, "the identity file cannot be read"))?,
        };
        let lock = lock(&*files, path)?;
        let identity = parse_identity(path, &text)?;
        let dir = DataDir {
            path: path.into(),
            files,
            fresh: false,
            incarnation: identity.incarnation,
            _lock: lock,
        };
        Ok((dir, identity))
    }

    /// Begins a new directory for a member that is decided already, and that has met these others. Until
    /// [`DataDir::created`] it counts as one whose creation was cut short.
    pub(crate) fn begin(
        path: &Path,
        identity: &Identity,
        met: &BTreeMap<u64, u64>,
    ) -> Result<DataDir, DataDirError> {
        let files = files::real();
        let created = files.create_dir(path);
        created.map_err(failed(path, "cannot be created"))?;
        let lock = lock(&*files, path)?;
        write_identity(&*files, path, identity)
            .and_then(|()| incarnations::store(&*files, path, met))
            .map_err(failed(path, "the identity cannot be written"))?;
        Ok(DataDir {
            path: path.into(),
            files,
            fresh: true,
            incarnation: identity.incarnation,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// What tells this directory from any other that the same member may get.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The members that were met with this directory.
    pub(crate) fn peers(&self) -> Result<Arc<Incarnations>, DataDirError> {
        let create = self.fresh || self.incarnation == incarnations::LEGACY;
        Incarnations::open(self.files.clone(), &self.path, create)
            .map_err(|error| self.failed("the file of known peers", error))
    }

    /// Declares a fresh directory complete: log and state have been created in it.
    pub(crate) fn created(&self) -> Result<(), DataDirError> {
        let rename = || {
            let (new, name) = (self.path.join("identity.new"), self.path.join("identity"));
            self.files.rename(&new, &name)?;
            self.files.sync_dir(&self.path)
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
            io::ErrorKind::ResourceBusy => DataDirError::Locked { path },
            // What is there is not what was written, or RocksDB does not say what kind of error it is.
            io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotFound
            | io::ErrorKind::Other => DataDirError::Damaged { path, what, source },
            // The system refuses: nobody has to be removed for that.
            _ => DataDirError::Io {
                path,
                text: explain(&format!("{what} cannot be opened"), &source),
                source,
            },
        }
    }
}

/// For `map_err`: what could not be done with a directory.
fn failed(path: &Path, text: &str) -> impl FnOnce(io::Error) -> DataDirError + use<> {
    let (path, text) = (path.to_path_buf(), text.to_string());
    move |source: io::Error| DataDirError::Io {
        path,
        text: explain(&text, &source),
        source,
    }
}

/// An empty directory beside one that was being made is not a new member's: it would begin without the data.
fn require_none_cut_short(files: &dyn Files, path: &Path) -> Result<(), DataDirError> {
    if files.exists(&path.join("identity")) {
        return Ok(());
    }
    for suffix in [RESTORING, RECOVERING] {
        let mut staged = path.as_os_str().to_owned();
        staged.push(suffix);
        let staged = PathBuf::from(staged);
        if files.exists(&staged) {
            let path = path.into();
            return Err(DataDirError::CutShort { path, staged });
        }
    }
    Ok(())
}

fn lock(files: &dyn Files, path: &Path) -> Result<Box<dyn Lock>, DataDirError> {
    files.lock(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DataDirError::Locked { path: path.into() },
        _ => failed(path, "cannot be locked")(error),
    })
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

fn identity(of: &Identity) -> String {
    let (cluster, member) = (of.cluster_id, of.member_id);
    let whose = format!("cluster {cluster:016x}\nmember {member:016x}\n");
    let body = match of.incarnation {
        incarnations::LEGACY => format!("kontiki store\nformat 1\n{whose}"),
        incarnation => {
            format!("kontiki store\nformat {FORMAT}\n{whose}incarnation {incarnation:016x}\n")
        }
    };
    format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()))
}

fn write_identity(files: &dyn Files, path: &Path, of: &Identity) -> io::Result<()> {
    files.write(&path.join("identity.new"), identity(of).as_bytes())?;
    files.sync_dir(path)
}

/// Answers the incarnation.
fn check_identity(path: &Path, text: &str, cluster: u64, member: u64) -> Result<u64, DataDirError> {
    let found = parse_identity(path, text)?;
    if (found.cluster_id, found.member_id) != (cluster, member) {
        return Err(DataDirError::Foreign {
            path: path.into(),
            found_cluster: found.cluster_id,
            found_member: found.member_id,
            cluster,
            member,
        });
    }
    Ok(found.incarnation)
}

fn parse_identity(path: &Path, text: &str) -> Result<Identity, DataDirError> {
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
    let number = |name| u64::from_str_radix(&field(name), 16).map_err(|_| damaged());
    let found = Identity {
        cluster_id: number("cluster")?,
        member_id: number("member")?,
        incarnation: match format {
            1 => incarnations::LEGACY,
            _ => number("incarnation")?,
        },
    };
    match identity(&found) == text {
        true => Ok(found),
        false => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(path: &Path) -> u64 {
        let dir = DataDir::open(files::real(), path, 0xc1, 1).unwrap();
        dir.peers().unwrap();
        dir.created().unwrap();
        dir.incarnation()
    }

    #[test]
    fn a_directory_keeps_its_incarnation_and_a_new_one_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        let first = make(dir.path());
        for _ in 0..2 {
            let again = DataDir::open(files::real(), dir.path(), 0xc1, 1).unwrap();
            assert_eq!((again.incarnation(), again.is_fresh()), (first, false));
        }
        let wiped = tempfile::tempdir().unwrap();
        assert_ne!(make(wiped.path()), first);
        std::fs::remove_file(dir.path().join("peers")).unwrap();
        let lost = DataDir::open(files::real(), dir.path(), 0xc1, 1).unwrap();
        assert!(matches!(lost.peers(), Err(DataDirError::Damaged { .. })));
    }

    #[test]
    fn only_damage_is_called_damage() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::open(files::real(), place.path(), 0xc1, 1).unwrap();
        let told = |error: io::Error| dir.failed("the log", error).to_string();
        let damage = [
            crate::disk::damaged("a wrong checksum"),
            io::ErrorKind::UnexpectedEof.into(),
        ];
        for error in damage {
            let text = told(error);
            assert!(text.contains("`kontiki store replace NAME`"), "{text}");
        }
        // An error of the disk, too many open files, no room.
        for number in [5, 24, 28] {
            let text = told(io::Error::from_raw_os_error(number));
            assert!(text.contains("the log cannot be opened"), "{text}");
            assert!(!text.contains("kontiki store replace"), "{text}");
        }
    }

    #[test]
    fn data_of_nobody_and_of_a_lost_member_say_how_to_go_on() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        std::fs::create_dir(dir.path().join("wal")).unwrap();
        std::fs::remove_file(dir.path().join("identity")).unwrap();
        let anonymous = DataDir::open(files::real(), dir.path(), 0xc1, 1).unwrap_err();
        let lost = crate::peer::wire::Refusal::OtherDirectory {
            member: 1,
            known: 2,
            shown: 3,
        };
        for text in [anonymous.to_string(), lost.to_string()] {
            assert!(text.contains("`kontiki store replace NAME`"), "{text}");
            assert!(text.contains("under a new id"), "{text}");
        }
    }

    /// Data directories outlive versions: these must be readable for ever.
    #[test]
    fn golden_identities() {
        let whose = "cluster 00000000000000c1\nmember 0000000000000001\n";
        let one = format!("kontiki store\nformat 1\n{whose}checksum 314d45b7\n");
        let two = format!(
            "kontiki store\nformat 2\n{whose}incarnation 00000000000000ab\nchecksum c99131e7\n"
        );
        for (text, incarnation) in [(&one, incarnations::LEGACY), (&two, 0xab)] {
            let whole = Identity {
                cluster_id: 0xc1,
                member_id: 1,
                incarnation,
            };
            assert_eq!(&identity(&whole), text);
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("identity"), text).unwrap();
            let open = DataDir::open(files::real(), dir.path(), 0xc1, 1).unwrap();
            assert_eq!((open.incarnation(), open.is_fresh()), (incarnation, false));
        }
        // One of before incarnations has met nobody yet.
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("identity"), &one).unwrap();
        let open = DataDir::open(files::real(), dir.path(), 0xc1, 1).unwrap();
        assert!(open.peers().unwrap().all().is_empty());
        let three = two.replace("format 2", "format 3");
        std::fs::write(dir.path().join("identity"), three).unwrap();
        drop(open);
        let newer = DataDir::open(files::real(), dir.path(), 0xc1, 1);
        assert!(matches!(newer, Err(DataDirError::Newer { found: 3, .. })));
    }
}

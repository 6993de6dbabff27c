//! The store at rest: reading archives, and making data directories out of one or out of what is left of a member.
//!
//! All of it works on files alone, while no member runs on them. A directory is prepared beside its place and moved
//! there by a rename when it is whole, so that whatever ends the process leaves either nothing or all of it. Only a
//! recovery takes two renames; what is left between them is recognised, and no member starts on it before [`finish`].

mod found;
mod read;
mod recover;
mod restore;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use read::{Contents, verify};
pub use recover::{LogEnd, Survivor, finish, inspect, recover};
pub use restore::restore;

#[cfg(test)]
pub(crate) use read::{Part, read};

use crate::config::InitialMember;
use crate::data_dir::DataDirError;

/// By how much the revision is moved forward at least: more than any cluster writes between a backup and its loss.
pub const BUMP_REVISION: i64 = 1_000_000_000;

/// Further would leave too few revisions to go on with.
pub const BUMP_REVISION_MAX: i64 = 1 << 60;

/// A cluster that is to go on from what another one has left.
#[derive(Clone, Debug)]
pub struct NewCluster {
    /// Never that of the old one.
    pub cluster_id: u64,
    /// Its voters, in any order.
    pub members: Vec<InitialMember>,
    /// How far its revision is beyond what is known of the old one's.
    pub bump_revision: i64,
}

/// Why nothing was made. The texts say what to do; nothing that was there before has been changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} is not usable: {source}")]
    Archive {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0} holds data, which is not overwritten: choose another place, or move it away")]
    Occupied(PathBuf),
    #[error("member {0:016x} is not among the members of the new cluster")]
    NotAMember(u64),
    #[error("a cluster is recovered with one member; the others are added to it afterwards")]
    NotAlone,
    #[error("the revision cannot be moved forward by {0}")]
    Bump(i64),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{what} {path}: {source}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl BackupError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
        let path = path.to_path_buf();
        move |source| BackupError::Io { what, path, source }
    }
}

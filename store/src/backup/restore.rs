//! A new cluster out of an archive: the data directory of each of its members.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::found::{self, Members};
use super::read::{Contents, Part, read, verify};
use super::{BackupError, NewCluster};
use crate::data_dir::{Identity, RESTORING};
use crate::disk::Position;
use crate::env::Engine;
use crate::etcd::archive::Record;
use crate::incarnations::LEGACY;
use crate::raft::machine::Replica;
use crate::raft::types::Vote;

/// Live keys are stored in batches of about so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// What a record takes in memory beside its bytes.
const RECORD_BYTES: usize = 128;
/// With which all members begin.
const TERM: u64 = 1;

/// Makes the data directory of one member of a new cluster, which has what is in the archive. Called with the same
/// cluster for each of its members. Answers the revision with which it begins, and what the archive holds.
///
/// The directory must not exist, or be empty. Nothing is written before the archive has been read to its end.
pub fn restore(
    archive: &Path,
    data_dir: &Path,
    member_id: u64,
    cluster: &NewCluster,
    engine: &dyn Engine,
) -> Result<(i64, Contents), BackupError> {
    let not_whole = |source| BackupError::Archive {
        path: archive.into(),
        source,
    };
    require_unused(data_dir)?;
    let contents = verify(archive).map_err(not_whole)?;
    found::moved_forward(contents.revision, cluster.bump_revision)?;
    let members = cluster.members.iter().map(|member| {
        let incarnation = incarnation(cluster.cluster_id, member.id, &contents.sha256);
        (member.id, (member.clone(), incarnation))
    });
    let members: Members = members.collect();
    let (_, incarnation) = members
        .get(&member_id)
        .ok_or(BackupError::NotAMember(member_id))?;
    let identity = Identity {
        cluster_id: cluster.cluster_id,
        member_id,
        incarnation: *incarnation,
    };
    let staged = found::beside(data_dir, RESTORING);
    let made = make(
        archive, &staged, &identity, &contents, cluster, &members, engine,
    )
    .and_then(|revision| found::rename(&staged, data_dir).map(|()| revision));
    let revision = found::or_nothing(&staged, made)?;
    Ok((revision, contents))
}

/// The whole directory, beside its place; closed when it is made.
fn make(
    archive: &Path,
    staged: &Path,
    identity: &Identity,
    contents: &Contents,
    cluster: &NewCluster,
    members: &Members,
    engine: &dyn Engine,
) -> Result<i64, BackupError> {
    let dir = found::begin(staged, identity, members)?;
    let damaged = |error| dir.failed("the state", error);
    let state = engine.open_state(dir.path(), true).map_err(damaged)?;
    let position = Position {
        revision: contents.revision,
        compact_revision: contents.revision,
        cluster_id: cluster.cluster_id,
        ..Position::default()
    };
    let db = state.opened();
    fill(archive, position, &mut |writes, position| {
        db.write(writes, position)
    })
    .map_err(|unfilled| match unfilled {
        Unfilled::Archive(source) => BackupError::Archive {
            path: archive.into(),
            source,
        },
        Unfilled::Disk(error) => damaged(error).into(),
    })?;
    let replica = Replica::load(cluster.cluster_id, state).map_err(damaged)?;
    let voted = Vote::new(TERM, identity.member_id);
    found::complete(dir, replica, engine, &voted, cluster, members)
}

fn require_unused(data_dir: &Path) -> Result<(), BackupError> {
    let occupied = match std::fs::read_dir(data_dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(BackupError::io("cannot read", data_dir)(error)),
    };
    match occupied {
        true => Err(BackupError::Occupied(data_dir.into())),
        false => Ok(()),
    }
}

/// The same for all who restore the same archive into the same cluster, so that each member knows the others'
/// directories before it has met them.
fn incarnation(cluster_id: u64, member_id: u64, archive: &[u8]) -> u64 {
    let mut digest = Sha256::new();
    digest.update(b"kontiki restore");
    digest.update(cluster_id.to_be_bytes());
    digest.update(member_id.to_be_bytes());
    digest.update(archive);
    let digest: [u8; 32] = digest.finalize().into();
    let (number, _) = digest.split_at(8);
    let number = number.try_into().map_or(0, u64::from_be_bytes);
    // Neither "unknown" nor "of before there were any".
    number.max(LEGACY + 1)
}

/// Why an archive was not stored: a backup must not be taken for bad when the disk is full.
#[derive(Debug)]
enum Unfilled {
    Archive(io::Error),
    Disk(io::Error),
}

/// Stores a batch.
type Store<'a> = &'a mut dyn FnMut(&[kv::Write], &Position) -> io::Result<()>;

/// Stores what is in the archive, at this position.
fn fill(archive: &Path, mut position: Position, write: Store<'_>) -> Result<(), Unfilled> {
    let mut unwritten = false;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut hash = kv::StateHash::default();
    read(archive, &mut |part| {
        batch.push(match part {
            Part::Lease(lease) => {
                hash.add_lease(lease);
                kv::Write::Lease(lease)
            }
            Part::Record(Record { name, value }) => {
                hash.add_record(&name, &value);
                let value = Some(value);
                kv::Write::Record { name, value }
            }
            Part::Key(kv) => {
                hash.add_key(&kv);
                bytes += kv.key.len() + kv.value.len();
                kv::Write::Put(kv)
            }
        });
        bytes += RECORD_BYTES;
        if bytes >= BATCH_BYTES {
            write(&batch, &position).inspect_err(|_| unwritten = true)?;
            batch.clear();
            bytes = 0;
        }
        Ok(())
    })
    .map_err(|error| match unwritten {
        true => Unfilled::Disk(error),
        false => Unfilled::Archive(error),
    })?;
    // Checked when it is loaded.
    position.state_hash = hash.to_bytes().to_vec();
    write(&batch, &position).map_err(Unfilled::Disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_taken_for_a_bad_archive() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("copy");
        // More than a batch, so that it fails in the middle, and less, so that it fails at the end.
        for keys in [2 * (BATCH_BYTES / RECORD_BYTES) as u32, 3] {
            crate::backup::tests::archive(&file, keys, |number| number);
            let full = &mut |_: &[kv::Write], _: &Position| Err(io::ErrorKind::StorageFull.into());
            let unfilled = fill(&file, Position::default(), full).unwrap_err();
            assert!(
                matches!(&unfilled, Unfilled::Disk(error) if error.kind() == io::ErrorKind::StorageFull),
                "{unfilled:?}"
            );
        }
        std::fs::write(&file, "x").unwrap();
        let unfilled = fill(&file, Position::default(), &mut |_, _| Ok(())).unwrap_err();
        assert!(matches!(unfilled, Unfilled::Archive(_)), "{unfilled:?}");
    }
}

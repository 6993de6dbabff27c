//! Data directories of before the log had its own format: their log, in RocksDB, is taken over once, at start.
//!
//! The new log is written beside the old one, read again and compared, and then gets its name in one step; only after
//! that the old one is removed. A crash before the step leaves the old log as it was, and the next start begins anew; a
//! crash after it leaves the new one, and the next start removes what is left of the old one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk;
use crate::env::{LogDisk, LogFound, LogOp};
use crate::rocks::log::RocksLog;
use crate::wal::files::{Directory, Folder};
use crate::wal::{self, Names, Options, Wal};

const LOG: &str = "log";
const MARK: &str = "log.mark";
const STAGING: &str = "wal.new";

/// Read and written at once.
const ENTRIES: u64 = 64;

/// Opens the log of a data directory, whichever format it has.
pub(super) fn open_log(dir: &Path, create: bool) -> io::Result<Wal> {
    take_over(dir, Arc::new(Directory::new(dir)))?;
    Wal::open(dir, create)
}

fn take_over(dir: &Path, folder: Arc<dyn Folder>) -> io::Result<()> {
    if !dir.join(LOG).is_dir() {
        return Ok(());
    }
    if !dir.join(wal::DIR).exists() {
        if !dir.join(LOG).join("CURRENT").exists() {
            return Err(disk::damaged("the log is missing"));
        }
        tracing::info!("the log is taken over from the format of an earlier version");
        convert(dir, folder.clone())?;
    }
    // First what makes it a log, so that the rest is never taken for one.
    forget(fs::remove_file(dir.join(LOG).join("CURRENT")))?;
    folder.sync_dir(LOG)?;
    forget(fs::remove_dir_all(dir.join(LOG)))?;
    forget(fs::remove_file(dir.join(MARK)))?;
    folder.sync_dir("")
}

fn forget(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn convert(dir: &Path, folder: Arc<dyn Folder>) -> io::Result<()> {
    forget(fs::remove_dir_all(dir.join(STAGING)))?;
    let names = Names {
        dir: STAGING,
        mark: wal::MARK,
    };
    let found = {
        let old = RocksLog::open(dir, false)?;
        let new = Wal::open_named(folder.clone(), names, Options::default(), true)?;
        copy(&old, &new)?;
        old.found()
    };
    let again = Wal::open_named(folder.clone(), names, Options::default(), false)?;
    if again.found() != found {
        return Err(io::Error::other(
            "the log could not be taken over into the new format; the old one is unchanged",
        ));
    }
    drop(again);
    folder.rename(STAGING, wal::DIR)?;
    folder.sync_dir("")
}

fn copy(old: &dyn LogDisk, new: &dyn LogDisk) -> io::Result<()> {
    let LogFound {
        vote,
        committed,
        purged,
        last,
    } = old.found();
    let mut ops = Vec::new();
    ops.extend(vote.map(LogOp::Vote));
    ops.extend(purged.map(LogOp::Purge));
    ops.push(LogOp::Committed(committed));
    new.write(&ops, true)?;
    let mut next = purged.map_or(0, |id| id.index + 1);
    let end = last.map_or(0, |id| id.index + 1);
    while next < end {
        let entries = old.read(next..end.min(next + ENTRIES))?;
        let ops = entries.into_iter().map(|(index, record)| LogOp::Append {
            index,
            record: record.into(),
        });
        let ops: Vec<LogOp> = ops.collect();
        if ops.is_empty() {
            return Err(disk::damaged(format!("log entry {next} cannot be read")));
        }
        next += ops.len() as u64;
        new.write(&ops, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;

    use super::*;
    use crate::disk::log_id;
    use crate::raft::types::{Entry, Proposal, Vote};
    use crate::wal::files::DataFile;

    /// A log as an earlier version left it: 300 entries, of which 40 are purged.
    fn former(dir: &Path) -> (LogFound, Vec<(u64, Bytes)>) {
        let log = RocksLog::open(dir, true).unwrap();
        let entry = |index| {
            let payload = EntryPayload::Normal(Proposal(vec![index as u8; 200].into()));
            let record = disk::encode_entry(&Entry::new(log_id(2, index), payload)).into();
            LogOp::Append { index, record }
        };
        let ops: Vec<LogOp> = (0..300).map(entry).collect();
        log.write(&ops, true).unwrap();
        let rest = [
            LogOp::Purge(log_id(2, 39)),
            LogOp::Vote(Vote::new_committed(3, 1)),
            LogOp::Committed(Some(log_id(2, 280))),
        ];
        log.write(&rest, true).unwrap();
        drop(log);
        let log = RocksLog::open(dir, false).unwrap();
        (log.found(), log.read(0..u64::MAX).unwrap())
    }

    fn is_taken_over(dir: &Path, former: &(LogFound, Vec<(u64, Bytes)>)) {
        let log = open_log(dir, false).unwrap();
        assert_eq!(log.found(), former.0);
        assert!(log.read(0..u64::MAX).unwrap() == former.1);
        assert!(!dir.join(LOG).exists() && !dir.join(MARK).exists());
    }

    #[test]
    fn a_former_log_is_taken_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let former = former(dir.path());
        is_taken_over(dir.path(), &former);
        is_taken_over(dir.path(), &former);
    }

    #[test]
    fn an_empty_former_log_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        drop(RocksLog::open(dir.path(), true).unwrap());
        is_taken_over(dir.path(), &(LogFound::default(), Vec::new()));
    }

    #[test]
    fn a_damaged_former_log_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        former(dir.path());
        fs::write(dir.path().join(MARK), "not a mark").unwrap();
        for _ in 0..2 {
            let error = open_log(dir.path(), false).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert!(dir.path().join(LOG).join("CURRENT").exists());
            assert!(!dir.path().join(wal::DIR).exists());
        }
    }

    /// A directory whose steps end at some point, as those of a process that dies.
    struct Dying {
        dir: Directory,
        left: Arc<AtomicUsize>,
    }

    struct DyingFile {
        file: Arc<dyn DataFile>,
        left: Arc<AtomicUsize>,
    }

    fn step(left: &AtomicUsize) -> io::Result<()> {
        let less = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
        less.map(drop).map_err(|_| io::Error::other("dead"))
    }

    impl Folder for Dying {
        fn list(&self, dir: &str) -> io::Result<Vec<String>> {
            self.dir.list(dir)
        }

        fn make_dir(&self, dir: &str) -> io::Result<()> {
            step(&self.left)?;
            self.dir.make_dir(dir)
        }

        fn create(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
            step(&self.left)?;
            let (file, left) = (self.dir.create(path)?, self.left.clone());
            Ok(Arc::new(DyingFile { file, left }))
        }

        fn open(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
            let (file, left) = (self.dir.open(path)?, self.left.clone());
            Ok(Arc::new(DyingFile { file, left }))
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            step(&self.left)?;
            self.dir.rename(from, to)
        }

        fn remove(&self, path: &str) -> io::Result<()> {
            step(&self.left)?;
            self.dir.remove(path)
        }

        fn sync_dir(&self, dir: &str) -> io::Result<()> {
            step(&self.left)?;
            self.dir.sync_dir(dir)
        }

        fn room(&self) -> io::Result<u64> {
            self.dir.room()
        }
    }

    impl DataFile for DyingFile {
        fn bytes(&self) -> io::Result<u64> {
            self.file.bytes()
        }

        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.file.read_exact_at(buffer, offset)
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            step(&self.left)?;
            self.file.write_all_at(bytes, offset)
        }

        fn sync(&self) -> io::Result<()> {
            step(&self.left)?;
            self.file.sync()
        }
    }

    fn copy_dir(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_dir(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    #[test]
    fn a_death_at_any_step_loses_nothing() {
        let original = tempfile::tempdir().unwrap();
        let former = former(original.path());
        for steps in 0.. {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(original.path(), dir.path());
            let dying = Dying {
                dir: Directory::new(dir.path()),
                left: Arc::new(AtomicUsize::new(steps)),
            };
            let lived = take_over(dir.path(), Arc::new(dying)).is_ok();
            is_taken_over(dir.path(), &former);
            if lived {
                assert!(steps > 20, "only {steps} steps");
                break;
            }
        }
    }

    #[test]
    fn what_is_left_of_a_former_log_is_removed_and_never_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let former = former(dir.path());
        is_taken_over(dir.path(), &former);
        fs::create_dir(dir.path().join(LOG)).unwrap();
        fs::write(dir.path().join(LOG).join("000004.log"), "old").unwrap();
        is_taken_over(dir.path(), &former);
        // The new log is lost and something is left of the old one.
        fs::rename(dir.path().join(wal::DIR), dir.path().join("elsewhere")).unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        let error = open_log(dir.path(), false).err().unwrap();
        assert_eq!(error.to_string(), "the log is missing");
    }
}

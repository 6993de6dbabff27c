//! The Raft log in RocksDB, written through a synced write-ahead log (RocksDB's). Earlier versions kept their log so; now
//! it is only read once to take it over, and written to compare the log of `wal` with.
//!
//! What may be missing after a crash, and what not: RocksDB's WAL is appended and then synced, and only after the sync
//! is anything acknowledged. A crash can leave a torn, never acknowledged record at its end; that is legal, so RocksDB
//! opens with `TolerateCorruptedTailRecords`, which drops exactly that and refuses damage anywhere else. A file cut
//! short at its end looks the same to RocksDB, although acknowledged entries are missing. So every batch also carries a
//! sequence number, and after each synced batch the number is written to a small file beside the database, `log.mark`,
//! without a sync: it can lag behind, never run ahead. A log whose own number is below the mark has lost acknowledged
//! writes and is refused. After a power cut, as opposed to the death of the process, the mark may be up to the kernel's
//! write-back time old and cannot vouch for what came after.
//!
//! Never acknowledging again after a failed write, and never repairing: a member whose log is damaged is wiped and
//! joins again, because another member has what it lost, and a vote given twice would break the cluster.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use rocksdb::{DB, DBRecoveryMode, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions};

use crate::disk;
use crate::env::{LogDisk, LogFound, LogOp};
use crate::rocks::io_error;

const ENTRY: u8 = b'e';
const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";
const SEQUENCE: &[u8] = b"sequence";

/// See the module head.
pub struct RocksLog {
    db: DB,
    mark: File,
    found: LogFound,
    /// Sequence number of the last batch. Only the one writer touches it.
    sequence: std::sync::atomic::AtomicU64,
}

impl RocksLog {
    /// Opens the log under `dir/log`, or creates it where `create` is set, and checks every record.
    pub fn open(dir: &Path, create: bool) -> io::Result<RocksLog> {
        let path = dir.join("log");
        let mark_path = dir.join("log.mark");
        let fresh = !path.join("CURRENT").exists();
        if fresh && !create {
            return Err(disk::damaged("the log is missing"));
        }
        let db = DB::open(&options(), &path).map_err(io_error)?;
        let sequence = match get(&db, SEQUENCE)? {
            None => 0,
            Some(bytes) => u64::from_be_bytes(
                bytes
                    .as_ref()
                    .try_into()
                    .map_err(|_| disk::damaged("sequence"))?,
            ),
        };
        let marked = read_mark(&mark_path)?;
        if sequence < marked {
            return Err(disk::damaged(format!(
                "the log ends at write {sequence}, but write {marked} was acknowledged: its end is missing"
            )));
        }
        let mark = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&mark_path)?;
        let found = check(&db)?;
        Ok(RocksLog {
            db,
            mark,
            found,
            sequence: sequence.into(),
        })
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    // A WAL file that has vanished is found, not only one that is damaged.
    options.set_track_and_verify_wals_in_manifest(true);
    // Most entries are purged before they would reach a table.
    options.set_write_buffer_size(64 << 20);
    options.set_max_background_jobs(2);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 << 20);
    options
}

fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn get(db: &DB, key: &[u8]) -> io::Result<Option<Bytes>> {
    Ok(db.get(key).map_err(io_error)?.map(Bytes::from))
}

/// `sequence u64 | crc u32`, big endian.
fn encode_mark(sequence: u64) -> [u8; 12] {
    let mut mark = [0; 12];
    mark[..8].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&mark[..8]);
    mark[8..].copy_from_slice(&crc.to_be_bytes());
    mark
}

/// 0 where there is no mark: an empty file is a creation that a crash cut short.
fn read_mark(path: &Path) -> io::Result<u64> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    if bytes.is_empty() {
        return Ok(0);
    }
    let whole: [u8; 12] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| disk::damaged("log.mark has a wrong length"))?;
    let (number, crc) = whole.split_at(8);
    if crc32c::crc32c(number).to_be_bytes() != crc {
        return Err(disk::damaged("log.mark has a wrong checksum"));
    }
    Ok(u64::from_be_bytes(
        number.try_into().map_err(|_| disk::damaged("log.mark"))?,
    ))
}

/// Reads every record: no hole, no wrong checksum, terms that do not fall.
fn check(db: &DB) -> io::Result<LogFound> {
    let mut found = LogFound {
        vote: get(db, VOTE)?.map(disk::decode_vote).transpose()?,
        committed: get(db, COMMITTED)?.map(disk::decode_log_id).transpose()?,
        purged: get(db, PURGED)?.map(disk::decode_log_id).transpose()?,
        last: None,
    };
    let mut last = found.purged;
    let first = entry_key(found.purged.map_or(0, |id| id.index + 1));
    for item in db.iterator(IteratorMode::From(&first, rocksdb::Direction::Forward)) {
        let (key, record) = item.map_err(io_error)?;
        if key.first() != Some(&ENTRY) {
            break;
        }
        let index = decode_key(&key)?;
        let entry = disk::decode_entry(index, Bytes::from(record))?;
        let expected = last.map_or(0, |id| id.index + 1);
        if index != expected {
            return Err(disk::damaged(format!(
                "the log has entry {index} where {expected} should be"
            )));
        }
        if last.is_some_and(|last| last.leader_id > entry.log_id.leader_id) {
            return Err(disk::damaged(format!(
                "the term of log entry {index} is below the one before it"
            )));
        }
        last = Some(entry.log_id);
    }
    found.last = last;
    Ok(found)
}

fn decode_key(key: &[u8]) -> io::Result<u64> {
    let number = key
        .get(1..)
        .and_then(|number| <[u8; 8]>::try_from(number).ok());
    number
        .map(u64::from_be_bytes)
        .ok_or_else(|| disk::damaged("a log key has a wrong length"))
}

impl LogDisk for RocksLog {
    fn found(&self) -> LogFound {
        self.found.clone()
    }

    fn write(&self, ops: &[LogOp], durable: bool) -> io::Result<()> {
        let sequence = self.sequence.load(std::sync::atomic::Ordering::Relaxed) + 1;
        let mut batch = WriteBatch::default();
        batch.put(SEQUENCE, sequence.to_be_bytes());
        for op in ops {
            match op {
                LogOp::Append { index, record } => batch.put(entry_key(*index), record.to_bytes()),
                LogOp::Vote(vote) => batch.put(VOTE, disk::encode_vote(vote)),
                LogOp::Truncate { from } => {
                    batch.delete_range(entry_key(*from), entry_key(u64::MAX))
                }
                LogOp::Purge(id) => {
                    batch.delete_range(entry_key(0), entry_key(id.index + 1));
                    batch.put(PURGED, disk::encode_log_id(id));
                }
                LogOp::Committed(Some(id)) => batch.put(COMMITTED, disk::encode_log_id(id)),
                LogOp::Committed(None) => batch.delete(COMMITTED),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durable);
        self.db.write_opt(batch, &options).map_err(io_error)?;
        self.sequence
            .store(sequence, std::sync::atomic::Ordering::Relaxed);
        if durable {
            self.mark.write_all_at(&encode_mark(sequence), 0)?;
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(entry_key(range.end));
        let first = entry_key(range.start);
        let items = self.db.iterator_opt(
            IteratorMode::From(&first, rocksdb::Direction::Forward),
            options,
        );
        let read = items.map(|item| {
            let (key, record) = item.map_err(io_error)?;
            Ok((decode_key(&key)?, Bytes::from(record)))
        });
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data directories outlive versions: these must be readable for ever.
    #[test]
    fn golden_mark_and_key() {
        let mark = [0, 0, 0, 0, 0, 0, 1, 0x2c, 0xf2, 0x74, 0x6b, 0xf3];
        assert_eq!(encode_mark(300), mark);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.mark");
        std::fs::write(&path, mark).unwrap();
        assert_eq!(read_mark(&path).unwrap(), 300);
        assert_eq!(entry_key(300), [b'e', 0, 0, 0, 0, 0, 0, 1, 0x2c]);
        assert_eq!(decode_key(&entry_key(300)).unwrap(), 300);
    }
}

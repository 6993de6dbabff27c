//! Moving in: what an etcd has saved becomes an archive of this store.
//!
//! The file that `etcdctl snapshot save` gets from an etcd is its bbolt database, followed by the SHA-256 of it. Its
//! bucket `key` is the log of all changes that are not compacted, by revision; the newest of each key that is not a
//! tombstone is live. Users, roles and alarms are not taken over, and neither is history.
//!
//! Read once to verify the hash, once for which keys are live, and once more for the values: in memory are the live keys'
//! names, not their values.

mod bolt;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use kv::KeyValue;
use prost::Message;
use sha2::{Digest, Sha256};

use self::bolt::{Bolt, Source};
use crate::disk::damaged;
use crate::etcd::archive;

/// Of which a saved database is a multiple, before its hash.
const BLOCK: u64 = 512;
const DIGEST_BYTES: u64 = 32;
/// A revision as a key: main, `_`, sub; one letter more for a deletion.
const REVISION_BYTES: usize = 17;
const TOMBSTONE: u8 = b't';
/// Largest value that is read: etcd's largest request is far smaller.
const VALUE_BYTES_MAX: u64 = 256 << 20;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The newest revision of the etcd. The archive has it, too.
    pub revision: i64,
    /// Up to which history was compacted; 0 is never.
    pub compact_revision: i64,
    pub keys: u64,
    pub leases: u64,
    /// Keys of a lease that is no more: they stay, without one.
    pub leaseless: u64,
}

/// etcd's `leasepb.Lease`; what was left of its time is not taken over: it begins anew.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct EtcdLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

/// Reads a file of `etcdctl snapshot save` and writes an archive, which `backup::restore` makes a cluster of. An error is
/// one of reading, of writing, or says what is wrong with the file; what was written until then is no archive.
pub fn etcd_snapshot(path: &Path, out: &mut dyn Write) -> io::Result<Imported> {
    let file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    import(&Opened(file), size_bytes, out)
}

struct Opened(File);

impl Source for Opened {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, at)
    }
}

fn import(source: &dyn Source, size_bytes: u64, out: &mut dyn Write) -> io::Result<Imported> {
    if size_bytes < BLOCK || size_bytes % BLOCK != DIGEST_BYTES {
        return Err(damaged(format!(
            "{size_bytes} bytes are not the length of a saved etcd snapshot: it was cut short, or is something else (a \
             database that was copied has no hash; save one with etcdctl snapshot save)"
        )));
    }
    let size_bytes = size_bytes - DIGEST_BYTES;
    verify(source, size_bytes)?;
    let bolt = Bolt::open(source, size_bytes)?;
    let (live, newest) = live_keys(&bolt)?;
    let leases = leases(&bolt)?;
    let compact_revision = compact_revision(&bolt)?;
    let mut imported = Imported {
        // After a compaction of all there is nothing newer than it; an etcd begins with 1.
        revision: newest.max(compact_revision).max(1),
        compact_revision,
        keys: live.len() as u64,
        leases: leases.len() as u64,
        leaseless: 0,
    };
    let mut failed = None;
    let mut take = |blob: archive::Blob| match out.write_all(&blob.bytes) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    };
    let written = write(source, &live, leases, &mut imported, &mut take);
    match failed {
        Some(error) => Err(error),
        None => written.map(|_| imported),
    }
}

fn verify(source: &dyn Source, size_bytes: u64) -> io::Result<()> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < size_bytes {
        let part = buffer.len().min((size_bytes - at) as usize);
        source.read_at(at, &mut buffer[..part])?;
        digest.update(&buffer[..part]);
        at += part as u64;
    }
    let mut stored = [0; DIGEST_BYTES as usize];
    source.read_at(size_bytes, &mut stored)?;
    match digest.finalize()[..] == stored {
        true => Ok(()),
        false => Err(damaged("its hash does not fit: it was changed or damaged")),
    }
}

/// Where the value of a live key is: the whole `KeyValue`.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    bytes: u64,
}

/// The live keys, and the newest revision.
fn live_keys(bolt: &Bolt<'_>) -> io::Result<(BTreeMap<Bytes, Place>, i64)> {
    let mut live = BTreeMap::new();
    let mut newest = 0;
    let bucket = bolt.bucket(b"key")?;
    let bucket = bucket.ok_or_else(|| damaged("it has no keys: is it an etcd's?"))?;
    bolt.walk(&bucket, &mut |pair| {
        let (revision, deleted) = revision(pair.key)?;
        let kv = KeyValue::decode(pair.value).map_err(damaged)?;
        newest = newest.max(revision);
        if deleted {
            live.remove(&kv.key);
            return Ok(());
        }
        if kv.mod_revision != revision || kv.key.is_empty() {
            return Err(damaged(format!("revision {revision} is of another one")));
        }
        let place = Place {
            at: pair.value_at,
            bytes: pair.value.len() as u64,
        };
        live.insert(kv.key, place);
        Ok(())
    })?;
    Ok((live, newest))
}

/// The main revision of a change, and whether it is a deletion.
fn revision(key: &[u8]) -> io::Result<(i64, bool)> {
    let deleted = match key.get(REVISION_BYTES..) {
        Some([]) => false,
        Some([TOMBSTONE]) => true,
        _ => return Err(damaged("a change has no revision")),
    };
    match main_revision(key) {
        Some(main) if main > 0 => Ok((main, deleted)),
        _ => Err(damaged("a change has no revision")),
    }
}

fn main_revision(key: &[u8]) -> Option<i64> {
    let main = i64::from_be_bytes(*key.first_chunk()?);
    (main >= 0 && key.get(8) == Some(&b'_')).then_some(main)
}

fn leases(bolt: &Bolt<'_>) -> io::Result<BTreeMap<i64, kv::Lease>> {
    let mut leases = BTreeMap::new();
    if let Some(bucket) = bolt.bucket(b"lease")? {
        bolt.walk(&bucket, &mut |pair| {
            let lease = EtcdLease::decode(pair.value).map_err(damaged)?;
            let longest = kv::LEASE_TTL_SECONDS_MAX;
            if lease.id == 0 || lease.ttl > longest {
                return Err(damaged(format!("lease {:x} cannot be", lease.id)));
            }
            let taken = kv::Lease {
                id: lease.id,
                ttl_seconds: lease.ttl.max(1),
                ..kv::Lease::default()
            };
            leases.insert(lease.id, taken);
            Ok(())
        })?;
    }
    Ok(leases)
}

/// Up to where readers were told that history is gone: also of a compaction that had begun and not ended.
fn compact_revision(bolt: &Bolt<'_>) -> io::Result<i64> {
    let mut compacted = 0;
    if let Some(bucket) = bolt.bucket(b"meta")? {
        bolt.walk(&bucket, &mut |pair| {
            if pair.key == b"finishedCompactRev" || pair.key == b"scheduledCompactRev" {
                // 0 as well: etcd takes `compaction 0` for one.
                let main = main_revision(pair.value);
                let main = main.ok_or_else(|| damaged("a compaction has no revision"))?;
                compacted = compacted.max(main);
            }
            Ok(())
        })?;
    }
    Ok(compacted)
}

/// Writes all of it, as long as it is taken.
fn write(
    source: &dyn Source,
    live: &BTreeMap<Bytes, Place>,
    leases: BTreeMap<i64, kv::Lease>,
    imported: &mut Imported,
    take: &mut dyn FnMut(archive::Blob) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let known: BTreeSet<i64> = leases.keys().copied().collect();
    let mut writer = archive::Writer::new(archive::BLOB_BYTES, take);
    let head = archive::Head {
        format: archive::FORMAT,
        // Of an etcd they mean nothing here.
        cluster_id: 0,
        member_id: 0,
        revision: imported.revision,
        compact_revision: imported.compact_revision,
    };
    let mut flow = writer.record(archive::HEAD, &head);
    for lease in leases.into_values() {
        if flow.is_continue() {
            flow = writer.record(archive::LEASE, &lease);
        }
    }
    for (key, place) in live {
        if flow.is_break() {
            return Ok(flow);
        }
        let mut kv = read(source, *place)?;
        if kv.key != key {
            return Err(damaged("it changed while it was read"));
        }
        if kv.lease != 0 && !known.contains(&kv.lease) {
            kv.lease = 0;
            imported.leaseless += 1;
        }
        flow = writer.record(archive::KEY, &kv);
    }
    let tail = archive::Tail {
        leases: imported.leases,
        keys: imported.keys,
        records: 0,
    };
    if flow.is_continue() && writer.record(archive::TAIL, &tail).is_continue() {
        writer.finish();
    }
    Ok(flow)
}

fn read(source: &dyn Source, place: Place) -> io::Result<KeyValue> {
    if place.bytes > VALUE_BYTES_MAX {
        return Err(damaged("a value is larger than any"));
    }
    let mut value = vec![0; place.bytes as usize];
    source.read_at(place.at, &mut value)?;
    KeyValue::decode(value.as_slice()).map_err(damaged)
}

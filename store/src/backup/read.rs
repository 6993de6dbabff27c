//! Reading an archive (`etcd/archive.rs` writes it): from its head to its tail, with its hash.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::disk::damaged;
use crate::etcd::archive::{
    BLOCK, DIGEST_BYTES, FORMAT, HEAD, Head, KEY, LEASE, MAGIC, RECORD, Record, TAIL, Tail,
};

/// Longest record: a key with its value is never so large.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// What is in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Of the cluster that it was taken from.
    pub cluster_id: u64,
    /// Of the member that it was taken from.
    pub member_id: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub leases: u64,
    pub keys: u64,
    /// Of the file.
    pub size_bytes: u64,
    /// Of the file without its last 32 bytes, which are this.
    pub sha256: [u8; DIGEST_BYTES],
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Lease(kv::Lease),
    /// Users and roles, for example.
    Record(Record),
    Key(kv::KeyValue),
}

/// Reads all of an archive and answers what it is of. An error where it is not whole; nothing of it may be used then.
pub fn verify(path: &Path) -> io::Result<Contents> {
    read(path, &mut |_| Ok(()))
}

/// The same, showing the visitor each record. What it has seen is only good when the answer is.
pub(crate) fn read(
    path: &Path,
    visit: &mut dyn FnMut(Part) -> io::Result<()>,
) -> io::Result<Contents> {
    let file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    let whole = size_bytes % BLOCK as u64 == DIGEST_BYTES as u64 && size_bytes > BLOCK as u64;
    if !whole {
        return Err(damaged(format!(
            "{size_bytes} bytes are not the length of an archive: it was cut short, or is something else"
        )));
    }
    let mut records = Records {
        file: BufReader::with_capacity(1 << 20, file),
        left: size_bytes - DIGEST_BYTES as u64,
        digest: Sha256::new(),
    };
    if records.bytes(MAGIC.len())? != MAGIC {
        return Err(damaged(
            "it does not begin as an archive of this store does; what was saved of an etcd becomes one by `kontiki store \
             import`",
        ));
    }
    let (kind, body) = records.record()?;
    if kind != HEAD {
        return Err(damaged("its first record is not the head"));
    }
    let head = Head::decode(body.as_slice()).map_err(damaged)?;
    if head.format != FORMAT {
        return Err(damaged(format!(
            "it has format {}, and this version knows {FORMAT}: use a newer version",
            head.format
        )));
    }
    let mut found = Tail::default();
    let mut last = Bytes::new();
    loop {
        let (kind, body) = records.record()?;
        let body = body.as_slice();
        match kind {
            LEASE => {
                found.leases += 1;
                visit(Part::Lease(kv::Lease::decode(body).map_err(damaged)?))?;
            }
            RECORD => {
                found.records += 1;
                visit(Part::Record(Record::decode(body).map_err(damaged)?))?;
            }
            KEY => {
                found.keys += 1;
                let kv = kv::KeyValue::decode(body).map_err(damaged)?;
                if kv.key <= last {
                    return Err(damaged("its keys are not in order"));
                }
                last = kv.key.clone();
                visit(Part::Key(kv))?;
            }
            TAIL if Tail::decode(body).map_err(damaged)? == found => break,
            TAIL => return Err(damaged("it has not as many records as it says")),
            other => {
                return Err(damaged(format!(
                    "it has a record of kind {other}, which this version does not know: use a newer version"
                )));
            }
        }
    }
    let padding = usize::try_from(records.left).unwrap_or(usize::MAX);
    if padding >= BLOCK || records.bytes(padding)?.iter().any(|byte| *byte != 0) {
        return Err(damaged("something follows its last record"));
    }
    let sha256 = records.finish()?;
    Ok(Contents {
        cluster_id: head.cluster_id,
        member_id: head.member_id,
        revision: head.revision,
        compact_revision: head.compact_revision,
        leases: found.leases,
        keys: found.keys,
        size_bytes,
        sha256,
    })
}

/// The file up to its hash.
struct Records {
    file: BufReader<File>,
    left: u64,
    digest: Sha256,
}

impl Records {
    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count as u64 > self.left {
            return Err(damaged("it ends within a record"));
        }
        let mut bytes = vec![0; count];
        self.file.read_exact(&mut bytes)?;
        self.left -= count as u64;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    /// Kind and message.
    fn record(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let length = self.bytes(4)?;
        let length = u32::from_be_bytes(length.try_into().map_err(|_| damaged("a length"))?);
        let length = length as usize;
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(damaged(format!("a record has the length {length}")));
        }
        let kind = self.bytes(1)?;
        Ok((kind[0], self.bytes(length - 1)?))
    }

    fn finish(mut self) -> io::Result<[u8; DIGEST_BYTES]> {
        let mut stored = [0; DIGEST_BYTES];
        self.file.read_exact(&mut stored)?;
        let computed: [u8; DIGEST_BYTES] = self.digest.finalize().into();
        match stored == computed {
            true => Ok(computed),
            false => Err(damaged("its hash does not fit: it was changed or damaged")),
        }
    }
}

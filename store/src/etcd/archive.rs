//! The archive that a snapshot call sends: the whole state at one revision, without history.
//!
//! `KONTIKI-ARCHIVE\0`, then records: a length (u32, big endian, of what follows it), a kind (u8), and a protobuf message. Kinds: 1
//! [`Head`], first; 2 a lease (`kv::Lease`); 3 a live key (`kv::KeyValue`), ascending; 4 a [`Record`]; 255 [`Tail`], last.
//! Leases and records come before keys. Then zeros
//! up to a multiple of 512 bytes, then the SHA-256 of all before it: the shape that `etcdctl snapshot save` checks.
//! docs/reference/store-archive.md tells it to users.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kv::StoreError;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::backend::Backend;
use crate::export::Exported;

pub(crate) const MAGIC: &[u8; 16] = b"KONTIKI-ARCHIVE\0";
pub(crate) const FORMAT: u32 = 1;
pub(crate) const BLOCK: usize = 512;
pub(crate) const DIGEST_BYTES: usize = 32;

pub(crate) const HEAD: u8 = 1;
pub(crate) const LEASE: u8 = 2;
pub(crate) const KEY: u8 = 3;
pub(crate) const RECORD: u8 = 4;
pub(crate) const TAIL: u8 = 255;

/// Size of one blob.
pub(crate) const BLOB_BYTES: usize = 256 << 10;
/// A client that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Head {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(fixed64, tag = "2")]
    pub(crate) cluster_id: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) member_id: u64,
    #[prost(int64, tag = "4")]
    pub(crate) revision: i64,
    #[prost(int64, tag = "5")]
    pub(crate) compact_revision: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Tail {
    #[prost(uint64, tag = "1")]
    pub(crate) leases: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) keys: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) records: u64,
}

/// Alarms, users, roles: what is replicated beside the keys.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) last: bool,
}

/// Writes an archive in blobs of about this size until the taker breaks. Blocks.
pub(super) fn write(
    backend: &dyn Backend,
    blob_bytes: usize,
    take: &mut dyn FnMut(Blob) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let status = backend.status();
    let mut writer = Writer::new(blob_bytes, take);
    let mut tail = Tail::default();
    let mut stopped = false;
    backend.export(&mut |part| {
        let flow = match part {
            Exported::Head {
                revision,
                compact_revision,
            } => {
                let head = Head {
                    format: FORMAT,
                    cluster_id: status.cluster_id,
                    member_id: status.member_id,
                    revision,
                    compact_revision,
                };
                writer.record(HEAD, &head)
            }
            Exported::Lease(lease) => {
                tail.leases += 1;
                writer.record(LEASE, &lease)
            }
            Exported::Record { name, value } => {
                tail.records += 1;
                writer.record(RECORD, &Record { name, value })
            }
            Exported::Key(kv) => {
                tail.keys += 1;
                writer.record(KEY, &kv)
            }
        };
        stopped = flow.is_break();
        flow
    })?;
    if !stopped && writer.record(TAIL, &tail).is_continue() {
        writer.finish();
    }
    Ok(())
}

/// Records in, blobs out. What it writes is an archive when the first record is the head, the last the tail, and
/// [`Writer::finish`] was called.
pub(crate) struct Writer<'a> {
    buffer: BytesMut,
    digest: Sha256,
    bytes: usize,
    blob_bytes: usize,
    take: &'a mut dyn FnMut(Blob) -> ControlFlow<()>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        blob_bytes: usize,
        take: &'a mut dyn FnMut(Blob) -> ControlFlow<()>,
    ) -> Writer<'a> {
        Writer {
            buffer: BytesMut::from(&MAGIC[..]),
            digest: Sha256::new(),
            bytes: 0,
            blob_bytes,
            take,
        }
    }

    pub(crate) fn record(&mut self, kind: u8, message: &impl Message) -> ControlFlow<()> {
        let length = message.encoded_len() + 1;
        self.buffer.reserve(length + 4);
        self.buffer.put_u32(length as u32);
        self.buffer.put_u8(kind);
        message
            .encode(&mut self.buffer)
            .expect("a growing buffer has room");
        if self.buffer.len() < self.blob_bytes {
            return ControlFlow::Continue(());
        }
        self.flush(false)
    }

    fn flush(&mut self, last: bool) -> ControlFlow<()> {
        let bytes = self.buffer.split().freeze();
        self.digest.update(&bytes);
        self.bytes += bytes.len();
        (self.take)(Blob { bytes, last })
    }

    pub(crate) fn finish(mut self) {
        let total = self.bytes + self.buffer.len();
        self.buffer
            .put_bytes(0, total.next_multiple_of(BLOCK) - total);
        if self.flush(false).is_continue() {
            let digest = self.digest.finalize();
            let last = Blob {
                bytes: Bytes::copy_from_slice(&digest),
                last: true,
            };
            // Nothing comes after it, whatever the answer.
            let _: ControlFlow<()> = (self.take)(last);
        }
    }
}

/// Hands a blob over, waiting for a client that is slow but not for one that is gone. Blocks.
pub(super) fn send_within(
    blobs: &mpsc::Sender<Result<Blob, StoreError>>,
    blob: Result<Blob, StoreError>,
) -> bool {
    let runtime = tokio::runtime::Handle::current();
    runtime
        .block_on(tokio::time::timeout(PATIENCE, blobs.send(blob)))
        .is_ok_and(|sent| sent.is_ok())
}

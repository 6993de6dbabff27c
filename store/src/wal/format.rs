//! The bytes of a segment: a header, then frames. Pure; see the module head of `wal` for what they are good for.
//!
//! All numbers are big endian. A sector is 512 bytes; header and frames begin at sectors and fill them up with zeros,
//! so that a write of one frame never touches a sector with another.
//!
//! ```text
//! header   magic 8 | format u32 | log u64 | segment u64 | bytes u64 | sequence u64 | chain u32 | first u64 | next u64
//!          | vote, purged, committed: each length u8 and a record of `disk.rs` | zeros | crc u32     (one sector)
//! frame    magic u32 | crc u32 | chain u32 | length u32 | segment u64 | sequence u64 | records | zeros
//! record   kind u8 | zeros 3 | length u32 | index u64 | payload
//! mark     log u64 | sequence u64 | crc u32, twice: at the beginning, and at the second sector
//! ```
//!
//! A frame's `chain` is the crc of the frame before it, or of the header; its `crc` covers everything after that field,
//! zeros included, and starts from the log's and the segment's number, so that nothing of an earlier life of a recycled
//! file, and nothing that a client put into a value, passes for a frame. Of the two marks the greater counts; the first
//! logs of this format had only the one at the beginning.

use std::io;

use bytes::{Buf, BufMut, Bytes};

use crate::disk;
use crate::env::LogOp;
use crate::raft::types::{LogId, Vote};

pub(super) const SECTOR: usize = 512;
pub(super) const FRAME_HEAD: usize = 32;
pub(super) const RECORD_HEAD: usize = 16;
/// Covers magic and crc themselves, which are not in the crc.
const UNCOVERED: usize = 8;

const HEADER_MAGIC: &[u8; 8] = b"KONTIWAL";
const FRAME_MAGIC: u32 = u32::from_be_bytes(*b"KWFR");
const FORMAT: u32 = 1;

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const COMMIT: u8 = 5;

/// What the log says besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
}

impl Standing {
    pub(super) fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::Vote(vote) => self.vote = Some(*vote),
            LogOp::Purge(id) => self.purged = self.purged.max(Some(*id)),
            LogOp::Committed(id) => self.committed = *id,
            LogOp::Append { .. } | LogOp::Truncate { .. } => {}
        }
    }
}

/// The first sector of a segment: whose it is, and where the log stood when it was begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    /// Random number of the log, the same in all its segments.
    pub(super) log: u64,
    /// Number of the segment, counting up; never used twice in a log.
    pub(super) segment: u64,
    /// Size of the file.
    pub(super) bytes: u64,
    /// Number and crc of the last frame of the segment before.
    pub(super) sequence: u64,
    pub(super) chain: u32,
    /// The entries at that time.
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) standing: Standing,
}

pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    let mut sector = Vec::with_capacity(SECTOR);
    sector.put_slice(HEADER_MAGIC);
    sector.put_u32(FORMAT);
    sector.put_u64(header.log);
    sector.put_u64(header.segment);
    sector.put_u64(header.bytes);
    sector.put_u64(header.sequence);
    sector.put_u32(header.chain);
    sector.put_u64(header.first);
    sector.put_u64(header.next);
    let standing = &header.standing;
    let parts = [
        standing.vote.as_ref().map(disk::encode_vote),
        standing.purged.as_ref().map(disk::encode_log_id),
        standing.committed.as_ref().map(disk::encode_log_id),
    ];
    for part in parts {
        let part = part.unwrap_or_default();
        sector.put_u8(part.len() as u8);
        sector.put_slice(&part);
    }
    sector.resize(SECTOR - 4, 0);
    sector.put_u32(crc32c::crc32c(&sector));
    sector
}

/// The header and its crc, with which the chain of its frames begins.
pub(super) fn decode_header(sector: &[u8]) -> io::Result<(Header, u32)> {
    let wrong = || disk::damaged("its header is damaged");
    if sector.len() != SECTOR {
        return Err(wrong());
    }
    let (body, crc) = sector.split_at(SECTOR - 4);
    let crc = u32::from_be_bytes(crc.try_into().map_err(|_| wrong())?);
    if crc32c::crc32c(body) != crc || !body.starts_with(HEADER_MAGIC) {
        return Err(wrong());
    }
    let mut body = Bytes::copy_from_slice(body);
    body.advance(HEADER_MAGIC.len());
    let format = body.get_u32();
    if format != FORMAT {
        return Err(disk::damaged(format!(
            "it has format {format}, this version knows {FORMAT}"
        )));
    }
    let mut header = Header {
        log: body.get_u64(),
        segment: body.get_u64(),
        bytes: body.get_u64(),
        sequence: body.get_u64(),
        chain: body.get_u32(),
        first: body.get_u64(),
        next: body.get_u64(),
        standing: Standing::default(),
    };
    let mut part = || {
        let length = usize::from(body.get_u8());
        (length > 0).then(|| body.split_to(length))
    };
    let (vote, purged, committed) = (part(), part(), part());
    header.standing.vote = vote.map(disk::decode_vote).transpose()?;
    header.standing.purged = purged.map(disk::decode_log_id).transpose()?;
    header.standing.committed = committed.map(disk::decode_log_id).transpose()?;
    Ok((header, crc))
}

/// What the crc of the frames of a segment begins with.
pub(super) fn seed(log: u64, segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log.to_be_bytes()), &segment.to_be_bytes())
}

/// A frame in the making: room for its head, then records.
#[derive(Default)]
pub(super) struct FrameBuffer(Vec<u8>);

/// A buffer that a large frame has made larger than this is not kept when a small one follows.
const BUFFER_KEPT: usize = 256 << 10;

impl FrameBuffer {
    /// Begins a frame with records that are encoded already, and with room for so many bytes more of them.
    pub(super) fn begin(&mut self, records: &[u8], room: usize) {
        self.0.clear();
        // And what it is filled up with to whole sectors.
        let needed = FRAME_HEAD + records.len() + room + SECTOR;
        if needed <= BUFFER_KEPT {
            self.0.shrink_to(BUFFER_KEPT);
        }
        self.0.reserve(needed);
        self.0.resize(FRAME_HEAD, 0);
        self.0.extend_from_slice(records);
    }

    /// Adds a record; answers where in the frame its payload begins. See [`record_bytes`].
    pub(super) fn push(&mut self, op: &LogOp) -> usize {
        match op {
            LogOp::Append { index, record } => self.record(APPEND, *index, &record.parts()),
            LogOp::Vote(vote) => self.record(VOTE, 0, &[disk::encode_vote(vote).as_slice()]),
            LogOp::Truncate { from } => self.record(TRUNCATE, *from, &[]),
            LogOp::Purge(id) => self.record(PURGE, id.index, &[disk::encode_log_id(id).as_slice()]),
            LogOp::Committed(None) => self.record(COMMIT, 0, &[]),
            LogOp::Committed(Some(id)) => {
                self.record(COMMIT, id.index, &[disk::encode_log_id(id).as_slice()])
            }
        }
    }

    fn record(&mut self, kind: u8, index: u64, payload: &[&[u8]]) -> usize {
        let length = payload.iter().map(|part| part.len()).sum::<usize>();
        self.0.put_u32(u32::from(kind) << 24);
        self.0.put_u32(length as u32);
        self.0.put_u64(index);
        for part in payload {
            self.0.put_slice(part);
        }
        self.0.len() - length
    }

    pub(super) fn records(&self) -> &[u8] {
        &self.0[FRAME_HEAD..]
    }

    /// What it will take on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.0.len().next_multiple_of(SECTOR) as u64
    }

    /// Closes it; answers its crc.
    pub(super) fn seal(&mut self, seed: u32, chain: u32, segment: u64, sequence: u64) -> u32 {
        let length = (self.0.len() - FRAME_HEAD) as u32;
        self.0.resize(self.0.len().next_multiple_of(SECTOR), 0);
        let mut head = &mut self.0[..FRAME_HEAD];
        head.put_u32(FRAME_MAGIC);
        head.put_u32(0);
        head.put_u32(chain);
        head.put_u32(length);
        head.put_u64(segment);
        head.put_u64(sequence);
        let crc = crc32c::crc32c_append(seed, &self.0[UNCOVERED..]);
        self.0[4..UNCOVERED].copy_from_slice(&crc.to_be_bytes());
        crc
    }

    pub(super) fn sealed(&self) -> &[u8] {
        &self.0
    }
}

/// What a change takes in a frame, at most.
pub(super) fn record_bytes(op: &LogOp) -> usize {
    RECORD_HEAD
        + match op {
            LogOp::Append { record, .. } => record.length(),
            LogOp::Vote(_) | LogOp::Truncate { .. } | LogOp::Purge(_) | LogOp::Committed(_) => 32,
        }
}

/// The head of what may be a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) crc: u32,
    pub(super) chain: u32,
    pub(super) length: u32,
    pub(super) sequence: u64,
}

impl FrameHead {
    /// None where no frame of this segment begins.
    pub(super) fn decode(mut bytes: &[u8], segment: u64) -> Option<FrameHead> {
        if bytes.len() < FRAME_HEAD || bytes.get_u32() != FRAME_MAGIC {
            return None;
        }
        let (crc, chain, length) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u32());
        let (found, sequence) = (bytes.get_u64(), bytes.get_u64());
        (found == segment).then_some(FrameHead {
            crc,
            chain,
            length,
            sequence,
        })
    }

    /// What the frame takes on disk.
    pub(super) fn bytes(&self) -> usize {
        (FRAME_HEAD + self.length as usize).next_multiple_of(SECTOR)
    }

    /// Whether these bytes, as many as it takes, are what was written.
    pub(super) fn verify(&self, frame: &[u8], seed: u32) -> bool {
        crc32c::crc32c_append(seed, &frame[UNCOVERED..]) == self.crc
    }
}

/// The records of a verified frame, each with where in the frame its payload begins. Entries are decoded once, to check
/// them.
pub(super) fn decode_records(frame: &[u8], length: u32) -> io::Result<Vec<(LogOp, usize)>> {
    let end = FRAME_HEAD + length as usize;
    let frame = Bytes::copy_from_slice(frame.get(..end).unwrap_or_default());
    let mut at = FRAME_HEAD;
    let mut records = Vec::new();
    while at < end {
        let wrong = || disk::damaged("a record has an impossible length");
        let mut head = frame.get(at..at + RECORD_HEAD).ok_or_else(wrong)?;
        let (kind, length, index) = (head.get_u32(), head.get_u32() as usize, head.get_u64());
        let payload_at = at + RECORD_HEAD;
        if end - payload_at < length {
            return Err(wrong());
        }
        let payload = frame.slice(payload_at..payload_at + length);
        let kind = u8::try_from(kind >> 24).unwrap_or_default();
        records.push((decode_record(kind, index, payload)?, payload_at));
        at = payload_at + length;
    }
    Ok(records)
}

fn decode_record(kind: u8, index: u64, payload: Bytes) -> io::Result<LogOp> {
    Ok(match kind {
        APPEND => LogOp::Append {
            index,
            record: payload.into(),
        },
        VOTE => LogOp::Vote(disk::decode_vote(payload)?),
        TRUNCATE => LogOp::Truncate { from: index },
        PURGE => LogOp::Purge(disk::decode_log_id(payload)?),
        COMMIT if payload.is_empty() => LogOp::Committed(None),
        COMMIT => LogOp::Committed(Some(disk::decode_log_id(payload)?)),
        kind => {
            return Err(disk::damaged(format!(
                "a record has the unknown kind {kind}"
            )));
        }
    })
}

const MARK_BYTES: usize = 20;

pub(super) fn encode_mark(log: u64, sequence: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..8].copy_from_slice(&log.to_be_bytes());
    mark[8..16].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&mark[..16]);
    mark[16..].copy_from_slice(&crc.to_be_bytes());
    mark
}

/// Where in the file a mark goes: one that is torn must not harm the one before.
pub(super) fn mark_place(sequence: u64) -> u64 {
    sequence % 2 * SECTOR as u64
}

/// The file of a log that has no frame yet.
pub(super) fn encode_marks(log: u64) -> Vec<u8> {
    let mark = encode_mark(log, 0);
    let mut file = mark.to_vec();
    file.resize(SECTOR, 0);
    file.extend_from_slice(&mark);
    file
}

/// The number of the log and of its last acknowledged frame. One of the two places may hold a mark that a power cut has
/// torn.
pub(super) fn decode_marks(file: &[u8]) -> io::Result<(u64, u64)> {
    if ![MARK_BYTES, SECTOR + MARK_BYTES].contains(&file.len()) {
        return Err(disk::damaged("it has a wrong length"));
    }
    let places = [file.get(..MARK_BYTES), file.get(SECTOR..)];
    let marks: Vec<(u64, u64)> = places
        .into_iter()
        .flatten()
        .filter_map(decode_mark)
        .collect();
    let newest = marks.iter().max_by_key(|(_, sequence)| *sequence);
    match newest {
        None => Err(disk::damaged("it has a wrong checksum")),
        Some((log, _)) if marks.iter().any(|(other, _)| other != log) => {
            Err(disk::damaged("it belongs to two logs"))
        }
        Some(newest) => Ok(*newest),
    }
}

fn decode_mark(mut mark: &[u8]) -> Option<(u64, u64)> {
    let expected = crc32c::crc32c(&mark[..MARK_BYTES - 4]);
    let (log, sequence) = (mark.get_u64(), mark.get_u64());
    (mark.get_u32() == expected).then_some((log, sequence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::log_id;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Without the zeros at the end.
    fn trimmed(bytes: &[u8]) -> String {
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        hex(&bytes[..end])
    }

    fn header() -> Header {
        Header {
            log: 0xab,
            segment: 3,
            bytes: 1 << 20,
            sequence: 300,
            chain: 7,
            first: 5,
            next: 9,
            standing: Standing {
                vote: Some(Vote::new_committed(2, 1)),
                purged: Some(log_id(1, 4)),
                committed: None,
            },
        }
    }

    /// Data directories outlive versions: these must be readable for ever.
    #[test]
    fn golden_header_frame_and_mark() {
        let sector = encode_header(&header());
        let (body, crc) = sector.split_at(SECTOR - 4);
        assert_eq!(trimmed(body), GOLDEN_HEADER);
        assert_eq!(hex(crc), GOLDEN_HEADER_CRC);
        assert_eq!(decode_header(&sector).unwrap().0, header());

        let ops = [
            LogOp::Append {
                index: 9,
                record: Bytes::from_static(b"entry").into(),
            },
            LogOp::Vote(Vote::new(3, 2)),
            LogOp::Truncate { from: 9 },
            LogOp::Purge(log_id(1, 5)),
            LogOp::Committed(Some(log_id(1, 6))),
            LogOp::Committed(None),
        ];
        let mut frame = FrameBuffer::default();
        frame.begin(&[], 0);
        for op in &ops {
            frame.push(op);
        }
        let crc = frame.seal(seed(0xab, 3), 7, 3, 301);
        assert_eq!(trimmed(frame.sealed()), GOLDEN_FRAME);
        let head = FrameHead::decode(frame.sealed(), 3).unwrap();
        assert_eq!((head.crc, head.chain, head.sequence), (crc, 7, 301));
        assert!(head.verify(frame.sealed(), seed(0xab, 3)));
        let decoded = decode_records(frame.sealed(), head.length).unwrap();
        let decoded: Vec<LogOp> = decoded.into_iter().map(|(op, _)| op).collect();
        assert_eq!(format!("{decoded:?}"), format!("{ops:?}"));

        let mark = encode_mark(0xab, 300);
        assert_eq!(hex(&mark), "00000000000000ab000000000000012cd18f9f78");
        assert_eq!(decode_marks(&mark).unwrap(), (0xab, 300));
        let marks = encode_marks(0xab);
        assert_eq!(marks.len(), SECTOR + MARK_BYTES);
        assert_eq!(decode_marks(&marks).unwrap(), (0xab, 0));
    }

    #[test]
    fn of_two_marks_the_newest_whole_one_counts() {
        let mut file = encode_marks(7);
        for sequence in 1..6 {
            let place = mark_place(sequence) as usize;
            file[place..place + MARK_BYTES].copy_from_slice(&encode_mark(7, sequence));
            assert_eq!(decode_marks(&file).unwrap(), (7, sequence));
            let mut torn = file.clone();
            torn[place + 9..place + MARK_BYTES].fill(0xee);
            assert_eq!(decode_marks(&torn).unwrap(), (7, sequence - 1));
            torn[..MARK_BYTES].fill(0);
            torn[SECTOR..].fill(0);
            assert!(decode_marks(&torn).is_err());
        }
        let place = mark_place(6) as usize;
        file[place..place + MARK_BYTES].copy_from_slice(&encode_mark(8, 6));
        assert!(decode_marks(&file).is_err(), "of two logs");
        assert!(decode_marks(&file[..SECTOR]).is_err());
    }

    const GOLDEN_HEADER: &str = "4b4f4e544957414c0000000100000000000000ab00000000000000030000000000100000000000000000012c00000007\
        0000000000000005000000000000000916010000000000000002000000000000000101dc82f422150100000000000000\
        010000000000000004b2ae6a71";
    const GOLDEN_HEADER_CRC: &str = "983f2dee";
    const GOLDEN_FRAME: &str = "4b5746522167bd6600000007000000a50000000000000003000000000000012d01000000000000050000000000000009\
        656e747279020000000000001600000000000000000100000000000000030000000000000002007fc3da5f0300000000\
        00000000000000000000090400000000000015000000000000000501000000000000000100000000000000054690bc39\
        0500000000000015000000000000000601000000000000000100000000000000065f3fb01005";

    #[test]
    fn a_frame_is_of_its_log_segment_and_place() {
        let mut frame = FrameBuffer::default();
        frame.begin(&[], 0);
        frame.push(&LogOp::Truncate { from: 9 });
        frame.seal(seed(1, 3), 0, 3, 1);
        let frame = frame.sealed();
        assert_eq!(FrameHead::decode(frame, 4), None);
        let head = FrameHead::decode(frame, 3).unwrap();
        assert!(head.verify(frame, seed(1, 3)));
        assert!(!head.verify(frame, seed(2, 3)));
        assert!(!head.verify(frame, seed(1, 4)));
    }

    #[test]
    fn a_header_of_a_newer_format_is_told() {
        let mut sector = encode_header(&header());
        sector[11] = 2;
        let crc = crc32c::crc32c(&sector[..SECTOR - 4]);
        sector[SECTOR - 4..].copy_from_slice(&crc.to_be_bytes());
        let error = decode_header(&sector).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
    }

    #[test]
    fn the_largest_standing_fits_a_header() {
        let id = Some(log_id(u64::MAX, u64::MAX));
        let standing = Standing {
            vote: Some(Vote::new(u64::MAX, u64::MAX)),
            purged: id,
            committed: id,
        };
        let full = Header {
            standing,
            ..header()
        };
        let sector = encode_header(&full);
        assert_eq!(sector.len(), SECTOR);
        assert_eq!(decode_header(&sector).unwrap().0, full);
    }
}

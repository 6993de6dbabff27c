//! Reads a log as it was left, and tells a torn end from damage. Changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::disk;
use crate::env::{LogFound, LogOp};
use crate::raft::types::LogId;
use crate::wal::files::{DataFile, Folder};
use crate::wal::format::{self, FRAME_HEAD, FrameHead, Header, SECTOR, Standing};
use crate::wal::index::{Index, Place};
use crate::wal::{Names, Segment};

/// Read at once.
const WINDOW: usize = 1 << 20;

/// A log that may go on.
pub(super) struct Recovered {
    pub(super) log: u64,
    pub(super) mark: Arc<dyn DataFile>,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Left by a removal that was cut short.
    pub(super) obsolete: Vec<u64>,
    pub(super) index: Index,
    pub(super) standing: Standing,
    pub(super) last: Option<LogId>,
    pub(super) tail: Tail,
}

/// Where the last segment ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    pub(super) segment: u64,
    /// Where the next frame goes.
    pub(super) end: u64,
    pub(super) sequence: u64,
    pub(super) chain: u32,
    /// Where the last frame is and its size. It is not known to be durable.
    pub(super) last_frame: Option<(u64, usize)>,
}

impl Recovered {
    pub(super) fn found(&self) -> LogFound {
        LogFound {
            vote: self.standing.vote,
            committed: self.standing.committed,
            purged: self.standing.purged,
            last: self.last,
        }
    }
}

/// None where no log was ever begun.
pub(super) fn recover(folder: &dyn Folder, names: &Names) -> io::Result<Option<Recovered>> {
    let numbers = segment_numbers(&folder.list(names.dir)?)?;
    let Some(newest) = numbers.last() else {
        return Ok(None);
    };
    let mark = match folder.open(names.mark) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(disk::damaged(format!("{} is missing", names.mark)));
        }
        other => other?,
    };
    let (log, acknowledged) =
        read_marks(mark.as_ref()).map_err(|error| in_file(names.mark, &error))?;
    // A gap is a removal that was cut short, or a segment that is missing: the entries will tell.
    let run = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1);
    let (obsolete, run) = numbers.split_at(run.map_or(0, |at| at + 1));
    let mut segments = BTreeMap::new();
    let mut headers = Vec::new();
    for number in run {
        let path = names.segment(*number);
        let segment = Segment::open(folder, &path)?;
        let (header, crc) =
            read_header(&segment, log, *number).map_err(|error| in_file(&path, &error))?;
        headers.push((header, crc, path));
        segments.insert(*number, segment);
    }
    let mut replay = Replay::begin(&headers[0].0);
    for (at, (header, crc, path)) in headers.iter().enumerate() {
        let ends = headers
            .get(at + 1)
            .map(|(next, ..)| (next.sequence, next.chain));
        let segment = &segments[&header.segment];
        replay
            .segment(segment, header, *crc, ends)
            .map_err(|error| in_file(path, &error))?;
    }
    let sequence = replay.tail.sequence;
    if sequence < acknowledged {
        return Err(disk::damaged(format!(
            "the log ends at write {sequence} in {}, but write {acknowledged} was acknowledged: its end is missing",
            names.segment(*newest)
        )));
    }
    let last = replay.finish(&headers[0].0, names)?;
    Ok(Some(Recovered {
        log,
        mark,
        segments,
        obsolete: obsolete.to_vec(),
        index: replay.index,
        standing: replay.standing,
        last,
        tail: replay.tail,
    }))
}

fn in_file(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// Ascending. A file that only looks like a segment is damage: its content might be missed.
fn segment_numbers(names: &[String]) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for name in names {
        let Some(stem) = name.strip_suffix(super::SEGMENT_SUFFIX) else {
            continue;
        };
        let number = u64::from_str_radix(stem, 16).ok();
        let number = number.filter(|number| super::segment_name(*number) == *name);
        numbers
            .push(number.ok_or_else(|| disk::damaged(format!("{name} is not a segment's name")))?);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_marks(file: &dyn DataFile) -> io::Result<(u64, u64)> {
    // One that is longer is not read to its end.
    let bytes = file.bytes()?.min(2 * SECTOR as u64);
    let mut whole = vec![0; bytes as usize];
    file.read_exact_at(&mut whole, 0)?;
    format::decode_marks(&whole)
}

fn read_header(segment: &Segment, log: u64, number: u64) -> io::Result<(Header, u32)> {
    if segment.bytes < SECTOR as u64 {
        return Err(disk::damaged("it is too short"));
    }
    let mut sector = vec![0; SECTOR];
    segment.file.read_exact_at(&mut sector, 0)?;
    let (header, crc) = format::decode_header(&sector)?;
    if header.log != log {
        return Err(disk::damaged(format!(
            "it belongs to log {:016x}, and this is log {log:016x}",
            header.log
        )));
    }
    if header.segment != number {
        return Err(disk::damaged(format!("it is segment {:x}", header.segment)));
    }
    if header.bytes != segment.bytes {
        return Err(disk::damaged(format!(
            "it has {} bytes and was made with {}",
            segment.bytes, header.bytes
        )));
    }
    Ok((header, crc))
}

/// A file, read through a window.
struct Window<'a> {
    segment: &'a Segment,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// None beyond the end.
    fn get(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let left = self.segment.bytes.saturating_sub(offset);
        if left < length as u64 {
            return Ok(None);
        }
        let inside =
            offset >= self.start && offset + length as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            self.start = offset;
            self.bytes
                .resize(left.min(length.max(WINDOW) as u64) as usize, 0);
            self.segment.file.read_exact_at(&mut self.bytes, offset)?;
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.bytes[at..at + length]))
    }

    /// A whole and unharmed frame of this segment, or none.
    fn frame(&mut self, offset: u64, number: u64, seed: u32) -> io::Result<Option<FrameHead>> {
        let head = match self.get(offset, FRAME_HEAD)? {
            Some(bytes) => FrameHead::decode(bytes, number),
            None => None,
        };
        let Some(head) = head else {
            return Ok(None);
        };
        let whole = self.get(offset, head.bytes())?;
        Ok(whole
            .is_some_and(|whole| head.verify(whole, seed))
            .then_some(head))
    }
}

/// The log up to some frame.
struct Replay {
    index: Index,
    standing: Standing,
    /// From which index on which term, ascending. The newest tells the term of the last entry.
    terms: Vec<LogId>,
    tail: Tail,
}

impl Replay {
    fn begin(header: &Header) -> Replay {
        Replay {
            index: Index::of_unknown(header.first, header.next),
            standing: header.standing,
            terms: Vec::new(),
            tail: Tail {
                sequence: header.sequence,
                chain: header.chain,
                ..Tail::default()
            },
        }
    }

    /// Replays one segment: to its known end, which only the last one has not.
    fn segment(
        &mut self,
        segment: &Segment,
        header: &Header,
        crc: u32,
        ends: Option<(u64, u32)>,
    ) -> io::Result<()> {
        let number = header.segment;
        let seed = format::seed(header.log, number);
        let mut window = Window {
            segment,
            start: 0,
            bytes: Vec::new(),
        };
        self.tail = Tail {
            segment: number,
            end: SECTOR as u64,
            sequence: self.tail.sequence,
            chain: crc,
            last_frame: None,
        };
        while ends.is_none_or(|(sequence, _)| self.tail.sequence < sequence) {
            let at = self.tail.end;
            let Some(head) = window.frame(at, number, seed)? else {
                return match ends {
                    Some((sequence, _)) => Err(disk::damaged(format!(
                        "write {} at byte {at} cannot be read, and the log goes on to write {sequence}",
                        self.tail.sequence + 1
                    ))),
                    None => nothing_follows(&mut window, &self.tail, seed),
                };
            };
            if (head.sequence, head.chain) != (self.tail.sequence + 1, self.tail.chain) {
                return Err(disk::damaged(format!(
                    "write {} at byte {at} does not follow write {}",
                    head.sequence, self.tail.sequence
                )));
            }
            let frame = window.get(at, head.bytes())?.unwrap_or_default();
            for (op, payload) in format::decode_records(frame, head.length)? {
                self.apply(&op, number, at + payload as u64)?;
            }
            if ends.is_none() {
                self.tail.last_frame = Some((at, head.bytes()));
            }
            self.tail.end = at + head.bytes() as u64;
            self.tail.sequence = head.sequence;
            self.tail.chain = head.crc;
        }
        match ends {
            Some((sequence, chain))
                if (self.tail.sequence, self.tail.chain) != (sequence, chain) =>
            {
                Err(disk::damaged(format!(
                    "it ends with another write {sequence} than the next segment says"
                )))
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, op: &LogOp, segment: u64, offset: u64) -> io::Result<()> {
        self.standing.apply(op);
        match op {
            LogOp::Append { index, record } => {
                let id = disk::decode_entry(*index, record.to_bytes())?.log_id;
                let place = Place {
                    segment,
                    offset: u32::try_from(offset).map_err(disk::damaged)?,
                    length: record.length() as u32,
                };
                if !self.index.append(*index, place) {
                    return Err(disk::damaged(format!(
                        "the log has entry {index} where {} should be",
                        self.index.next()
                    )));
                }
                self.note_term(id)?;
            }
            LogOp::Truncate { from } => {
                self.index.truncate(*from);
                self.terms.retain(|id| id.index < *from);
            }
            LogOp::Purge(id) => {
                if id.index >= self.index.next() {
                    self.terms = vec![*id];
                }
                self.index.purge(id.index);
            }
            LogOp::Vote(_) | LogOp::Committed(_) => {}
        }
        Ok(())
    }

    fn note_term(&mut self, id: LogId) -> io::Result<()> {
        match self.terms.last() {
            Some(newest) if newest.leader_id > id.leader_id => Err(disk::damaged(format!(
                "the term of log entry {} is below the one before it",
                id.index
            ))),
            Some(newest) if newest.leader_id == id.leader_id => Ok(()),
            _ => {
                self.terms.push(id);
                Ok(())
            }
        }
    }

    /// Checks that all entries are there; answers the last one.
    fn finish(&self, oldest: &Header, names: &Names) -> io::Result<Option<LogId>> {
        let purged = self.standing.purged;
        let unknown = self.index.unknown();
        if !unknown.is_empty() {
            return Err(disk::damaged(format!(
                "log entries {} to {} are missing, and with them {} or older files",
                unknown.start,
                unknown.end - 1,
                names.segment(oldest.segment.saturating_sub(1))
            )));
        }
        if self.index.next() == self.index.first() {
            return Ok(purged);
        }
        let expected = purged.map_or(0, |id| id.index + 1);
        if self.index.first() != expected {
            return Err(disk::damaged(format!(
                "the log has entry {} where {expected} should be",
                self.index.first()
            )));
        }
        let term = self.terms.last().map_or(0, |id| id.leader_id.term);
        Ok(Some(disk::log_id(term, self.index.next() - 1)))
    }
}

/// Where the last segment seems to end. A frame that is written begins only after the one before it is durable, so a
/// later one that is whole proves that what cannot be read was durable once.
fn nothing_follows(window: &mut Window<'_>, tail: &Tail, seed: u32) -> io::Result<()> {
    let mut at = tail.end + SECTOR as u64;
    while at + SECTOR as u64 <= window.segment.bytes {
        if let Some(later) = window.frame(at, tail.segment, seed)? {
            return Err(disk::damaged(format!(
                "write {} at byte {} cannot be read, and write {} at byte {at} can",
                tail.sequence + 1,
                tail.end,
                later.sequence
            )));
        }
        at += SECTOR as u64;
    }
    Ok(())
}

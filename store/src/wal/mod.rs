//! The Raft log in segments: files that are written from end to end once and then used again and again, so that the
//! sync of a batch never waits for the file system to store where the file's blocks are.
//!
//! ```text
//! wal/0000000000000001.seg ..   segments, see `format.rs`; all but the last are complete
//! wal/0.spare ..                files for the next segments; wal/new is one that is being made
//! wal.mark                      the number of the last acknowledged write, and of the one before
//! ```
//!
//! A batch is one frame, one write and one sync. The next frame is written only after the one before it is durable, and
//! each carries the checksum of the one before. Changes that need not survive a crash (how far the log is committed or
//! purged) are written as a frame without a sync, and written again, as the beginning of the next frame, over that one:
//! so there is never more than one frame of which the disk might have only a part. A segment is begun when a frame does
//! not fit; its header says where the log stood, and it is durable before it has its name. Segments whose entries are all
//! purged are used again under a new number. Entries are found through an index in memory, 16 bytes an entry.
//!
//! # What a crash leaves, and what it cannot leave
//! After a crash the end of the last segment may hold a frame that was never acknowledged, whole or in part. A part is
//! dropped. It is told from damage so:
//! - A frame that cannot be read, with a whole frame of the same segment anywhere behind it, or a later segment: damage.
//!   The later one was only begun when the unreadable one was durable.
//! - A frame that cannot be read and has none behind it: it was the last. After each sync its number goes to `wal.mark`,
//!   without a sync: the mark can lag behind, never run ahead. Is the number acknowledged, so it is damage; else a torn
//!   end. The same finds a log that was cut short, or whose last segment is gone or is an old copy. Numbers go to two
//!   places in turn: the kernel may write a page out while one is being written to it, and half a number is none.
//! - A segment that is missing in between leaves entries missing; one of another log, under another's name, shortened or
//!   with a damaged header is refused, because none of it can come from a crash.
//!
//! What cannot be told: after a power cut, as opposed to the death of the process, the mark may be as old as the kernel's
//! write-back time. If the same power cut harms a frame that was acknowledged in that time and that is the very last one,
//! it looks like a torn end. Damage to the mark is found by its own checksums and refused: a wrong mark vouches for
//! nothing. Nor can it be told when the folder and the mark are exchanged together for older copies. A sector that is
//! not being written is taken to be safe, as in etcd's log: a disk that loses power while it writes one sector must not
//! harm the one beside it.
//!
//! A damaged log is never repaired: the member is wiped and joins again under a new id, because another member has what
//! it lost, and a vote given twice would break the cluster. After a failed write or sync nothing is written any more:
//! what the disk has is not known then, and a second sync may report success for pages that the kernel has dropped.

pub mod files;
mod format;
mod index;
mod recover;
mod spare;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk;
use crate::env::{LogDisk, LogFound, LogOp};
use crate::metrics::METRICS;
use files::{DataFile, Directory, Folder};
use format::{FrameBuffer, Header, SECTOR, Standing};
use index::{Index, Place};
use recover::{Recovered, Tail};
use spare::{Spare, Spares};

/// Folder of the log in a data directory.
pub const DIR: &str = "wal";
/// File of the mark in a data directory.
pub const MARK: &str = "wal.mark";
pub const SEGMENT_SUFFIX: &str = ".seg";

const SPARE_SUFFIX: &str = ".spare";
const UNFINISHED: &str = "new";

/// What is larger is written as more than one frame, so that no batch is too large.
const FRAME_BYTES: usize = 32 << 20;
/// Largest frame, of one change: far more than a client may ask for, and offsets in a segment have 32 bits.
const FRAME_BYTES_MAX: u64 = 1 << 30;
/// Changes that wait for the next sync; with more of them, there is one at once.
const PENDING_BYTES: usize = 64 << 10;
/// Read from the disk at once.
const READ_BYTES: u32 = 1 << 20;

/// Sizes, and how the work beside the writer is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the first segment; a new one has half the size of all that the log needs, up to the largest.
    pub first_bytes: u64,
    pub largest_bytes: u64,
    /// Files are made ready by another thread. Without it a test sees each step at its time.
    pub beside: bool,
}

impl Default for Options {
    /// A log that stays small takes little room, and a busy one seldom changes files.
    fn default() -> Options {
        Options {
            first_bytes: 1 << 20,
            largest_bytes: 64 << 20,
            beside: true,
        }
    }
}

/// Where the parts are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    pub(crate) dir: &'static str,
    pub(crate) mark: &'static str,
}

impl Names {
    fn segment(&self, number: u64) -> String {
        format!("{}/{}", self.dir, segment_name(number))
    }

    fn spare(&self, number: u64) -> String {
        format!("{}/{number:x}{SPARE_SUFFIX}", self.dir)
    }

    fn unfinished(&self) -> String {
        format!("{}/{UNFINISHED}", self.dir)
    }
}

fn segment_name(number: u64) -> String {
    format!("{number:016x}{SEGMENT_SUFFIX}")
}

/// A file of a segment.
#[derive(Clone)]
struct Segment {
    file: Arc<dyn DataFile>,
    bytes: u64,
}

impl Segment {
    fn open(folder: &dyn Folder, path: &str) -> io::Result<Segment> {
        let file = folder.open(path)?;
        let bytes = file.bytes()?;
        Ok(Segment { file, bytes })
    }
}

/// See the module head.
pub struct Wal {
    found: LogFound,
    writer: Mutex<Writer>,
    shelf: Mutex<Shelf>,
}

/// What readers need.
struct Shelf {
    index: Index,
    /// All but those that are not needed any more. The last one is being written.
    segments: BTreeMap<u64, Segment>,
}

struct Writer {
    folder: Arc<dyn Folder>,
    names: Names,
    options: Options,
    log: u64,
    mark: Arc<dyn DataFile>,
    spares: Spares,
    standing: Standing,
    /// The segment that is being written.
    segment: Segment,
    tail: Tail,
    /// Records that were written without a sync, and are written again with the next frame.
    pending: Vec<u8>,
    frame: FrameBuffer,
    /// A write has failed: see the module head.
    broken: bool,
}

impl Wal {
    /// Opens the log of a data directory, or creates it where `create` is set, and checks every record.
    pub fn open(dir: &Path, create: bool) -> io::Result<Wal> {
        Wal::open_in(Arc::new(Directory::new(dir)), Options::default(), create)
    }

    pub fn open_in(folder: Arc<dyn Folder>, options: Options, create: bool) -> io::Result<Wal> {
        let names = Names {
            dir: DIR,
            mark: MARK,
        };
        Wal::open_named(folder, names, options, create)
    }

    pub(crate) fn open_named(
        folder: Arc<dyn Folder>,
        names: Names,
        options: Options,
        create: bool,
    ) -> io::Result<Wal> {
        let recovered = match recover::recover(folder.as_ref(), &names)? {
            Some(recovered) => recovered,
            None if create => begin(folder.as_ref(), names, options)?,
            None => return Err(disk::damaged("the log is missing")),
        };
        settle(folder.as_ref(), &names, &recovered)?;
        let segment = recovered.segments[&recovered.tail.segment].clone();
        let mut spares = Spares::new(folder.clone(), names, options.beside);
        spares.adopt(
            next_bytes(&recovered.segments, options),
            &recovered.obsolete,
        )?;
        Ok(Wal {
            found: recovered.found(),
            writer: Mutex::new(Writer {
                folder,
                names,
                options,
                log: recovered.log,
                mark: recovered.mark,
                spares,
                standing: recovered.standing,
                segment,
                tail: recovered.tail,
                pending: Vec::new(),
                frame: FrameBuffer::default(),
                broken: false,
            }),
            shelf: Mutex::new(Shelf {
                index: recovered.index,
                segments: recovered.segments,
            }),
        })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Only values are assigned under the lock.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log without anything in it, durable.
fn begin(folder: &dyn Folder, names: Names, options: Options) -> io::Result<Recovered> {
    folder.make_dir(names.dir)?;
    let log = rand::random();
    let mark = folder.create(names.mark)?;
    mark.write_all_at(&format::encode_marks(log), 0)?;
    mark.sync()?;
    folder.sync_dir("")?;
    let spare = spare::make(folder, &names, names.spare(0), options.first_bytes)?;
    let header = Header {
        log,
        segment: 1,
        bytes: spare.segment.bytes,
        sequence: 0,
        chain: 0,
        first: 0,
        next: 0,
        standing: Standing::default(),
    };
    put_in_place(folder, &names, &spare, &header)?;
    let recovered = recover::recover(folder, &names)?;
    recovered.ok_or_else(|| disk::damaged("the log that was just made is missing"))
}

/// Makes the spare file a segment, durably: first what it is, then its name. Answers the crc of the header.
fn put_in_place(
    folder: &dyn Folder,
    names: &Names,
    spare: &Spare,
    header: &Header,
) -> io::Result<u32> {
    let sector = format::encode_header(header);
    spare.segment.file.write_all_at(&sector, 0)?;
    spare.segment.file.sync()?;
    folder.rename(&spare.path, &names.segment(header.segment))?;
    folder.sync_dir(names.dir)?;
    let (_, crc) = format::decode_header(&sector)?;
    Ok(crc)
}

/// Makes durable what was found: the process before this one may have ended between a write and its sync, or after a
/// sync that has failed. Only the last frame can be in that state. What is found counts from now on, acknowledged or not,
/// so the mark says so.
fn settle(folder: &dyn Folder, names: &Names, recovered: &Recovered) -> io::Result<()> {
    let file = &recovered.segments[&recovered.tail.segment].file;
    if let Some((at, bytes)) = recovered.tail.last_frame {
        // Written again, because pages whose write-back has failed count as clean, and a sync would pass them over.
        let mut frame = vec![0; bytes];
        file.read_exact_at(&mut frame, at)?;
        file.write_all_at(&frame, at)?;
    }
    file.sync()?;
    folder.sync_dir(names.dir)?;
    write_mark(
        recovered.mark.as_ref(),
        recovered.log,
        recovered.tail.sequence,
    )
}

fn write_mark(mark: &dyn DataFile, log: u64, sequence: u64) -> io::Result<()> {
    mark.write_all_at(
        &format::encode_mark(log, sequence),
        format::mark_place(sequence),
    )
}

/// Size of the segment after this one.
fn next_bytes(segments: &BTreeMap<u64, Segment>, options: Options) -> u64 {
    let needed: u64 = segments.values().map(|segment| segment.bytes).sum();
    // Of few sizes, so that a file fits again later.
    let half = (needed / 2).max(1);
    (1 << half.ilog2()).clamp(options.first_bytes, options.largest_bytes)
}

/// Whether these may be written one after the other: entries leave no hole.
fn check_order(index: &Index, ops: &[LogOp]) -> io::Result<()> {
    let (mut first, mut next) = (index.first(), index.next());
    for op in ops {
        match op {
            LogOp::Append { index, .. } if next == 0 => (first, next) = (*index, index + 1),
            LogOp::Append { index, .. } if *index == next => next += 1,
            LogOp::Append { index, .. } => {
                let text = format!("entry {index} was to be written where {next} should be");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            LogOp::Truncate { from } => next = next.min((*from).max(first)),
            LogOp::Purge(id) => {
                first = first.max(id.index + 1);
                next = next.max(first);
            }
            LogOp::Vote(_) | LogOp::Committed(_) => {}
        }
    }
    Ok(())
}

/// How many of these changes, from the first on, go into one frame: as many as have so many bytes, and one at least.
fn frame_of(ops: &[LogOp], bytes: usize) -> usize {
    let mut sum = 0;
    let fit = ops.iter().take_while(|op| {
        sum += format::record_bytes(op);
        sum <= bytes
    });
    fit.count().max(1).min(ops.len())
}

fn must_survive(op: &LogOp) -> bool {
    !matches!(op, LogOp::Purge(_) | LogOp::Committed(_))
}

impl Writer {
    /// Writes a frame.
    fn write(&mut self, shelf: &Mutex<Shelf>, ops: &[LogOp], durable: bool) -> io::Result<Written> {
        let room = ops.iter().map(format::record_bytes).sum();
        self.frame.begin(&self.pending, room);
        let payloads = ops.iter().map(|op| self.frame.push(op)).collect();
        let bytes = self.frame.bytes();
        if bytes > FRAME_BYTES_MAX {
            let text = format!("a batch of {bytes} bytes is too large for the log");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.tail.end + bytes > self.segment.bytes {
            self.roll(shelf, bytes)?;
        }
        if !durable {
            self.pending.clear();
            self.pending.extend_from_slice(self.frame.records());
        }
        let (at, segment) = (self.tail.end, self.tail.segment);
        let sequence = self.tail.sequence + 1;
        let seed = format::seed(self.log, segment);
        let crc = self.frame.seal(seed, self.tail.chain, segment, sequence);
        self.segment.file.write_all_at(self.frame.sealed(), at)?;
        METRICS.wal_write_bytes.inc_by(bytes);
        if durable {
            self.segment.file.sync()?;
            self.pending.clear();
            (self.tail.sequence, self.tail.chain) = (sequence, crc);
            self.tail.end += bytes;
            write_mark(self.mark.as_ref(), self.log, sequence)?;
        }
        Ok(Written { at, payloads })
    }

    /// Goes on to a new segment that has room for a frame.
    fn roll(&mut self, shelf: &Mutex<Shelf>, frame: u64) -> io::Result<()> {
        let (first, next, wanted) = {
            let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = next_bytes(&shelf.segments, self.options);
            (shelf.index.first(), shelf.index.next(), wanted)
        };
        let least = self.options.first_bytes.max(frame + SECTOR as u64);
        let spare = self.spares.take(wanted.max(least), least)?;
        let header = Header {
            log: self.log,
            segment: self.tail.segment + 1,
            bytes: spare.segment.bytes,
            sequence: self.tail.sequence,
            chain: self.tail.chain,
            first,
            next,
            standing: self.standing,
        };
        self.tail.chain = put_in_place(self.folder.as_ref(), &self.names, &spare, &header)?;
        self.tail.segment = header.segment;
        self.tail.end = SECTOR as u64;
        self.segment = spare.segment.clone();
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.segments.insert(header.segment, spare.segment);
        Ok(())
    }
}

/// Where in the segment a frame went and, for each change, where in the frame its payload is.
struct Written {
    at: u64,
    payloads: Vec<usize>,
}

impl Shelf {
    fn apply(&mut self, ops: &[LogOp], segment: u64, written: &Written) {
        let mut payloads = written.payloads.iter();
        for op in ops {
            let payload = payloads.next();
            match op {
                LogOp::Append { index, record } => {
                    let offset = written.at + payload.map_or(0, |at| *at as u64);
                    let follows = self.index.append(
                        *index,
                        Place {
                            segment,
                            offset: offset as u32,
                            length: record.length() as u32,
                        },
                    );
                    debug_assert!(follows, "the order was checked");
                }
                LogOp::Truncate { from } => self.index.truncate(*from),
                LogOp::Purge(id) => self.index.purge(id.index),
                LogOp::Vote(_) | LogOp::Committed(_) => {}
            }
        }
    }

    /// Takes out the segments in which nothing is that is needed.
    fn take_unneeded(&mut self, writing: u64) -> Vec<(u64, Segment)> {
        let oldest = self
            .index
            .first_place()
            .map_or(writing, |place| place.segment);
        let needed = self.segments.split_off(&oldest.min(writing));
        std::mem::replace(&mut self.segments, needed)
            .into_iter()
            .collect()
    }
}

impl LogDisk for Wal {
    fn found(&self) -> LogFound {
        self.found.clone()
    }

    fn write(&self, ops: &[LogOp], durable: bool) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.broken {
            return Err(io::Error::other(
                "the log is closed, because a write has failed before",
            ));
        }
        let durable =
            durable || ops.iter().any(must_survive) || writer.pending.len() > PENDING_BYTES;
        // Whatever ends this early has left the disk in a state that is not known.
        writer.broken = true;
        check_order(&self.shelf().index, ops)?;
        let mut rest = ops;
        loop {
            let frame;
            (frame, rest) = rest.split_at(frame_of(rest, FRAME_BYTES));
            let written = writer.write(&self.shelf, frame, durable)?;
            frame.iter().for_each(|op| writer.standing.apply(op));
            self.shelf().apply(frame, writer.tail.segment, &written);
            if rest.is_empty() {
                break;
            }
        }
        if durable {
            // What has been purged is so durably now.
            let (unneeded, next) = {
                let mut shelf = self.shelf();
                let unneeded = shelf.take_unneeded(writer.tail.segment);
                (unneeded, next_bytes(&shelf.segments, writer.options))
            };
            writer.spares.release(unneeded, next);
            if writer.tail.end > writer.segment.bytes / 2 {
                let least = writer.options.first_bytes;
                writer.spares.prepare(next, least);
            }
        }
        writer.broken = false;
        Ok(())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>> {
        let found = {
            let shelf = self.shelf();
            let files = |(index, place): (u64, Place)| {
                let segment = shelf.segments.get(&place.segment)?;
                Some((index, place, segment.file.clone()))
            };
            let places = shelf.index.range(range).into_iter();
            places.map(files).collect::<Option<Vec<_>>>()
        };
        let found = found.ok_or_else(|| disk::damaged("a segment in use is missing"))?;
        let mut read = Vec::with_capacity(found.len());
        let together = |a: &(u64, Place, Arc<dyn DataFile>), b: &(u64, Place, _)| {
            // Entries of one frame follow each other; between two frames there is a head and some zeros.
            a.1.segment == b.1.segment && a.1.offset / READ_BYTES == b.1.offset / READ_BYTES
        };
        for group in found.chunk_by(together) {
            let start = group[0].1.offset;
            let last = group[group.len() - 1].1;
            let mut bytes = vec![0; (last.offset - start + last.length) as usize];
            group[0].2.read_exact_at(&mut bytes, start.into())?;
            let bytes = Bytes::from(bytes);
            read.extend(group.iter().map(|(index, place, _)| {
                let at = (place.offset - start) as usize;
                (*index, bytes.slice(at..at + place.length as usize))
            }));
        }
        Ok(read)
    }

    fn bytes(&self) -> u64 {
        self.shelf().index.bytes()
    }
}

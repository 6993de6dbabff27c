//! One bit of one file of a member: which one, and what that place is good for as far as the file's form tells.

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A segment of the Raft log.
    Log,
    /// A file that waits to become one.
    Spare,
    /// What the log's acknowledged end is.
    Mark,
    /// Data of the state.
    Table,
    /// Which tables the state has.
    Manifest,
    /// Which of several is in use: state, manifest.
    Current,
    /// Whose the directory is, and whom the member has met.
    Small,
    /// Text of RocksDB that says nothing of the state.
    Text,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Log => "log",
            Class::Spare => "spare log file",
            Class::Mark => "log mark",
            Class::Table => "table",
            Class::Manifest => "manifest",
            Class::Current => "CURRENT",
            Class::Small => "small file",
            Class::Text => "text of RocksDB",
        })
    }
}

/// By its name within the data directory.
pub fn class(path: &Path) -> Class {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = |suffix: &str| name.ends_with(suffix);
    let begins = |prefix: &str| name.starts_with(prefix);
    match () {
        () if ends(".seg") => Class::Log,
        () if path.starts_with("wal") => Class::Spare,
        () if name == "wal.mark" => Class::Mark,
        () if ends(".sst") => Class::Table,
        () if begins("MANIFEST-") => Class::Manifest,
        () if name == "CURRENT" => Class::Current,
        () if begins("LOG") || begins("OPTIONS-") || name == "IDENTITY" => Class::Text,
        () => Class::Small,
    }
}

/// A bit that was turned.
#[derive(Clone, Debug)]
pub struct Flip {
    /// Within the data directory.
    pub file: PathBuf,
    pub class: Class,
    pub at: u64,
    bit: u8,
    pub bytes: u64,
    pub part: Part,
}

/// What the bit is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the file says.
    Data,
    /// Nothing: beyond the end of the log, for one.
    Nothing,
    /// A filter of a table, which saves reads. It has a checksum, and RocksDB goes without one that is damaged.
    Filter,
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bit {} of byte {} of {} of {}",
            self.bit,
            self.at,
            self.bytes,
            self.file.display()
        )
    }
}

/// What became of the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    AsFlipped,
    WrittenOver,
    Gone,
}

/// Turns a bit: of any class of files that is there, of any file of it, of any byte.
pub fn flip(data: &Path, rng: &mut StdRng) -> Result<Flip> {
    let mut classes: BTreeMap<Class, Vec<PathBuf>> = BTreeMap::new();
    for file in files(data, data)? {
        classes.entry(class(&file)).or_default().push(file);
    }
    let drawn = rng.random_range(0..classes.len().max(1));
    let (class, files) = classes
        .into_iter()
        .nth(drawn)
        .context("there is no file to damage")?;
    let file = files[rng.random_range(0..files.len())].clone();
    let content = fs::read(data.join(&file))?;
    let used = used(class, &content);
    let bytes = content.len() as u64;
    // Most of a segment is not written yet; it is hit in one of five, not in nearly all.
    let at = match used.end > 0 && used.end < content.len() && rng.random_bool(0.8) {
        true => rng.random_range(0..used.end),
        false => rng.random_range(0..content.len()),
    };
    let flip = Flip {
        file,
        class,
        at: at as u64,
        bit: rng.random_range(0..8),
        bytes,
        part: used.part(at),
    };
    write(data, &flip, content[at] ^ 1 << flip.bit)?;
    Ok(flip)
}

/// Turns it back, if nobody has written there since.
pub fn undo(data: &Path, flip: &Flip, flipped: u8) -> Result<()> {
    match now(data, flip, flipped)? {
        Now::AsFlipped => write(data, flip, flipped ^ 1 << flip.bit),
        Now::WrittenOver | Now::Gone => Ok(()),
    }
}

/// The byte as it stands.
pub fn byte(data: &Path, flip: &Flip) -> Result<Option<u8>> {
    let file = match fs::File::open(data.join(&flip.file)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut byte = [0];
    match file.read_at(&mut byte, flip.at)? {
        0 => Ok(None),
        _ => Ok(Some(byte[0])),
    }
}

/// Whether the byte is still the one that was written when it was flipped.
pub fn now(data: &Path, flip: &Flip, flipped: u8) -> Result<Now> {
    Ok(match byte(data, flip)? {
        None => Now::Gone,
        Some(byte) if byte == flipped => Now::AsFlipped,
        Some(_) => Now::WrittenOver,
    })
}

fn write(data: &Path, flip: &Flip, byte: u8) -> Result<()> {
    let file = OpenOptions::new().write(true).open(data.join(&flip.file))?;
    Ok(file.write_all_at(&[byte], flip.at)?)
}

/// All that have something in them.
fn files(data: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let (path, meta) = (
            entry.as_ref().map(|it| it.path()),
            entry.as_ref().map(|it| it.metadata()),
        );
        let (Ok(path), Ok(meta)) = (path, meta) else {
            continue;
        };
        let meta = meta?;
        if meta.is_dir() {
            found.extend(files(data, &path)?);
        } else if meta.is_file() && meta.len() > 0 {
            found.push(path.strip_prefix(data).unwrap_or(&path).to_path_buf());
        }
    }
    found.sort();
    Ok(found)
}

/// Which part of a file says something.
struct Used {
    end: usize,
    /// A part before the end that is something else.
    other: (Range<usize>, Part),
}

impl Used {
    fn part(&self, at: usize) -> Part {
        match self.other.0.contains(&at) {
            true => self.other.1,
            false if at < self.end => Part::Data,
            false => Part::Nothing,
        }
    }
}

fn used(class: Class, content: &[u8]) -> Used {
    let (end, other) = match class {
        Class::Log => (log_end(content), (0..0, Part::Nothing)),
        Class::Spare => (0, (0..0, Part::Nothing)),
        Class::Mark => (SECTOR + MARK, (MARK..SECTOR, Part::Nothing)),
        Class::Table => {
            let filter = filter(content).unwrap_or_default();
            (content.len(), (filter, Part::Filter))
        }
        _ => (content.len(), (0..0, Part::Nothing)),
    };
    Used { end, other }
}

/// Where the filter of a table is, if it has one: the first entry of the block that says where the other blocks are, with
/// the lengths of its name and of its value before it, and as the value a place and a size of seven bits a byte.
fn filter(content: &[u8]) -> Option<Range<usize>> {
    let name = b"fullfilter.";
    let at = content
        .windows(name.len())
        .rposition(|bytes| bytes == name)?;
    let length = usize::from(*content.get(at.checked_sub(2)?)?);
    let mut rest = content.get(at + length..)?.iter();
    let mut number = || {
        let mut sum = 0;
        for shift in (0..35).step_by(7) {
            let byte = usize::from(*rest.next()?);
            sum |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(sum);
            }
        }
        None
    };
    let (start, size) = (number()?, number()?);
    // Its checksum and how it is compressed.
    Some(start..start + size + 5)
}

const SECTOR: usize = 512;
/// Two numbers and a checksum.
const MARK: usize = 20;
const FRAME_HEAD: usize = 32;

/// Where the frames of a segment end, by their heads alone: sequences without a hole, of this segment. The form is told
/// in `store/src/wal/format.rs`; this is a second reading of it.
fn log_end(content: &[u8]) -> usize {
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = content.get(at..at + length)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    // Of the header: magic, format, log, segment.
    let Some(segment) = number(20, 8) else {
        return 0;
    };
    let (mut at, mut last) = (SECTOR, None);
    while number(at, 4) == Some(u64::from(u32::from_be_bytes(*b"KWFR")))
        && number(at + 16, 8) == Some(segment)
        && let (Some(length), Some(sequence)) = (number(at + 12, 4), number(at + 24, 8))
        && last.is_none_or(|last| sequence == last + 1)
    {
        last = Some(sequence);
        at += (FRAME_HEAD + length as usize).next_multiple_of(SECTOR);
    }
    at.min(content.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn segment(frames: &[(u64, u64, usize)]) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR];
        bytes[20..28].copy_from_slice(&7_u64.to_be_bytes());
        for (segment, sequence, length) in frames {
            let start = bytes.len();
            bytes.extend(b"KWFR");
            bytes.extend([0; 8]);
            bytes.extend((*length as u32).to_be_bytes());
            bytes.extend(segment.to_be_bytes());
            bytes.extend(sequence.to_be_bytes());
            let whole = (FRAME_HEAD + length).next_multiple_of(SECTOR);
            bytes.resize(start + whole, 1);
        }
        bytes.resize(bytes.len() + 10 * SECTOR, 0);
        bytes
    }

    #[test]
    fn the_log_ends_with_the_last_frame_of_its_own() {
        assert_eq!(log_end(&segment(&[])), SECTOR);
        let own = [(7, 40, 100), (7, 41, 600)];
        assert_eq!(log_end(&segment(&own)), 4 * SECTOR);
        let recycled = [(7, 40, 100), (7, 41, 600), (5, 9, 10), (7, 42, 10)];
        assert_eq!(log_end(&segment(&recycled)), 4 * SECTOR);
        let older = [(7, 40, 100), (7, 39, 600)];
        assert_eq!(log_end(&segment(&older)), 2 * SECTOR);
    }

    #[test]
    fn the_log_of_the_store_is_read_as_the_store_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let ops: Vec<usize> = vec![10, 2000, 300];
        let end = write_log(folder.path(), &ops);
        let wal = fs::read_dir(folder.path().join("wal")).unwrap();
        let mut segments = wal.filter_map(|entry| {
            let path = entry.ok()?.path();
            path.to_string_lossy().ends_with(".seg").then_some(path)
        });
        let content = fs::read(segments.next().unwrap()).unwrap();
        assert_eq!(log_end(&content), end);
    }

    #[test]
    fn the_filter_of_a_table_is_found() {
        let mut table = vec![9; 300];
        table.extend([0, 31, 3]);
        table.extend(b"fullfilter.rocksdb.BuiltinBloom");
        // 130 and 70.
        table.extend([0x82, 0x01, 70]);
        table.resize(500, 9);
        assert_eq!(filter(&table), Some(130..205));
        let part = |at| used(Class::Table, &table).part(at);
        assert_eq!(
            [part(129), part(130), part(204)],
            [Part::Data, Part::Filter, Part::Filter]
        );
        assert_eq!(part(205), Part::Data);
        assert_eq!(filter(&[9; 400]), None);
    }

    /// Answers where its end has to be.
    fn write_log(dir: &Path, records: &[usize]) -> usize {
        use store::env::{LogDisk, LogOp};
        let log = store::wal::Wal::open(dir, true).unwrap();
        let mut end = SECTOR;
        for (index, bytes) in records.iter().enumerate() {
            let record = vec![3; *bytes].into();
            let index = index as u64;
            log.write(&[LogOp::Append { index, record }], true).unwrap();
            // A head, and a record's head.
            end += (FRAME_HEAD + 16 + bytes).next_multiple_of(SECTOR);
        }
        end
    }

    #[test]
    fn every_class_has_its_turn_and_one_byte_changes() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "wal/0000000000000001.seg",
            "wal/0.spare",
            "wal.mark",
            "state/0000000001/000012.sst",
            "state/0000000001/MANIFEST-000005",
            "state/CURRENT",
            "state/0000000001/CURRENT",
            "state/0000000001/LOG",
            "identity",
            "peers",
        ];
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [5; 2000]).unwrap();
        }
        fs::write(folder.path().join("lock"), []).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let flip = flip(folder.path(), &mut rng).unwrap();
            let flipped = byte(folder.path(), &flip).unwrap().unwrap();
            assert_eq!((flipped ^ 5).count_ones(), 1);
            assert_eq!(now(folder.path(), &flip, flipped).unwrap(), Now::AsFlipped);
            undo(folder.path(), &flip, flipped).unwrap();
            for name in names {
                assert_eq!(fs::read(folder.path().join(name)).unwrap(), [5; 2000]);
            }
            assert_eq!(
                now(folder.path(), &flip, flipped).unwrap(),
                Now::WrittenOver
            );
            assert!(flip.part == Part::Nothing || flip.class != Class::Spare);
            seen.insert(flip.class);
        }
        assert_eq!(seen.len(), 8);
    }
}

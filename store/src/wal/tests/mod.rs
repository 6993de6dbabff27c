//! The log against a simulated disk: crashes at every step, damage in every bit, a full disk; and against the log in
//! RocksDB.

mod crash;
mod damage;
mod disk_full;
mod equals_rocks;
mod sim;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;

use crate::disk::{self, log_id};
use crate::env::{LogDisk, LogFound, LogOp};
use crate::raft::types::{Entry, LogId, Proposal, Vote};
use crate::wal::{FRAME_BYTES, MARK, Options, Wal, format, frame_of};
use sim::Sim;

/// Segments of a few frames, and each step at its time.
const SMALL: Options = Options {
    first_bytes: 4 << 10,
    largest_bytes: 8 << 10,
    beside: false,
};

fn open(sim: &Sim) -> io::Result<Wal> {
    Wal::open_in(Arc::new(sim.clone()), SMALL, false)
}

fn create(sim: &Sim) -> Wal {
    Wal::open_in(Arc::new(sim.clone()), SMALL, true).unwrap()
}

fn append(term: u64, index: u64, bytes: usize) -> LogOp {
    let fill = (term * 31 + index) as u8;
    let payload = EntryPayload::Normal(Proposal(vec![fill; bytes].into()));
    let entry = Entry::new(log_id(term, index), payload);
    LogOp::Append {
        index,
        record: disk::encode_entry(&entry).into(),
    }
}

/// All that a log says.
#[derive(Clone, Default, PartialEq)]
struct Said {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: Vec<(u64, Bytes)>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: &Option<LogId>| id.map(|id| (id.leader_id.term, id.index));
        let entries = self.entries.iter();
        let entries: Vec<_> = entries.map(|(at, record)| (at, record.len())).collect();
        f.debug_struct("Said")
            .field("vote", &self.vote)
            .field("committed", &id(&self.committed))
            .field("purged", &id(&self.purged))
            .field("last", &id(&self.last))
            .field("entries", &entries)
            .finish()
    }
}

/// What it found when it was opened, and its entries now.
fn said(log: &dyn LogDisk) -> Said {
    let LogFound {
        vote,
        committed,
        purged,
        last,
    } = log.found();
    Said {
        vote,
        committed,
        purged,
        last,
        entries: log.read(0..u64::MAX).unwrap(),
    }
}

/// The log as a list in memory.
#[derive(Clone, Debug, Default)]
struct Model(Said);

impl Model {
    fn apply(&mut self, ops: &[LogOp]) {
        let said = &mut self.0;
        for op in ops {
            match op {
                LogOp::Append { index, record } => said.entries.push((*index, record.to_bytes())),
                LogOp::Vote(vote) => said.vote = Some(*vote),
                LogOp::Truncate { from } => said.entries.retain(|(index, _)| index < from),
                LogOp::Purge(id) => {
                    said.entries.retain(|(index, _)| *index > id.index);
                    said.purged = said.purged.max(Some(*id));
                }
                LogOp::Committed(id) => said.committed = *id,
            }
        }
        let last = said.entries.last();
        let last = last.map(|(at, record)| disk::decode_entry(*at, record.clone()).unwrap().log_id);
        said.last = last.or(said.purged);
    }
}

/// Splitmix: the tests' own dice, so that a seed means the same for ever.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What Raft could ask of a log: batches of changes, each with whether it must be durable.
struct Workload {
    dice: Dice,
    term: u64,
    model: Model,
    entry_bytes_max: u64,
}

impl Workload {
    fn new(seed: u64, entry_bytes_max: u64) -> Workload {
        Workload {
            dice: Dice(seed),
            term: 1,
            model: Model::default(),
            entry_bytes_max,
        }
    }

    fn batch(&mut self) -> (Vec<LogOp>, bool) {
        let mut ops = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            self.step(&mut ops);
        }
        let lazy = |op: &LogOp| matches!(op, LogOp::Purge(_) | LogOp::Committed(_));
        let durable = !ops.iter().all(lazy) || self.dice.below(4) == 0;
        (ops, durable)
    }

    fn step(&mut self, ops: &mut Vec<LogOp>) {
        let start = ops.len();
        let (first, next) = {
            let said = &self.model.0;
            let first = said.purged.map_or(0, |id| id.index + 1);
            (first, said.last.map_or(0, |id| id.index + 1))
        };
        let have = next - first;
        match self.dice.below(16) {
            0..=6 => {
                for index in next..next + 1 + self.dice.below(4) {
                    ops.push(append(
                        self.term,
                        index,
                        self.dice.below(self.entry_bytes_max) as usize,
                    ));
                }
            }
            7 => {
                self.term += 1;
                ops.push(LogOp::Vote(Vote::new(self.term, self.dice.below(3))));
            }
            8 => {
                // Another leader's entries in the place of these.
                self.term += 1;
                let from = first + self.dice.below(have + 1);
                ops.push(LogOp::Truncate { from });
                ops.push(append(self.term, from, 9));
            }
            9 | 10 if have > 0 => {
                let at = self.dice.below(have.min(8)) as usize;
                let (index, record) = self.model.0.entries[at].clone();
                let id = disk::decode_entry(index, record).unwrap().log_id;
                ops.push(LogOp::Purge(id));
            }
            11 if self.dice.below(4) == 0 => {
                // By a snapshot of the leader.
                ops.push(LogOp::Purge(log_id(self.term, next + self.dice.below(5))));
            }
            _ => ops.push(LogOp::Committed(self.model.0.last)),
        }
        self.model.apply(&ops[start..]);
    }
}

#[test]
fn what_is_written_is_read_again() {
    for seed in 0..40 {
        let sim = Sim::default();
        let mut log = create(&sim);
        let mut work = Workload::new(seed, 1500);
        for round in 0..60 {
            let (ops, durable) = work.batch();
            log.write(&ops, durable).unwrap();
            let entries = &work.model.0.entries;
            assert!(&log.read(0..u64::MAX).unwrap() == entries, "seed {seed}");
            if let Some((middle, _)) = entries.get(entries.len() / 2) {
                let part = log.read(*middle..middle + 3).unwrap();
                assert!(!part.is_empty());
                assert!(part == entries[entries.len() / 2..][..part.len()]);
            }
            if round % 7 == 0 {
                drop(log);
                log = open(&sim).unwrap();
                assert_eq!(said(&log), work.model.0, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_size() {
    let sim = Sim::default();
    let log = create(&sim);
    log.write(&[append(1, 0, 10)], true).unwrap();
    log.write(&[append(1, 1, 100_000), append(1, 2, 3)], true)
        .unwrap();
    log.write(&[append(1, 3, 10)], true).unwrap();
    let entries = log.read(0..9).unwrap();
    assert_eq!(entries.len(), 4);
    assert!(entries[1].1.len() > 100_000);
    drop(log);
    assert!(open(&sim).unwrap().read(0..9).unwrap() == entries);
}

#[test]
fn no_batch_is_too_large_for_frames() {
    let ops = [append(1, 0, 100), append(1, 1, 100), append(1, 2, 5000)];
    let one = format::record_bytes(&ops[0]);
    assert_eq!(frame_of(&ops, one), 1);
    assert_eq!(frame_of(&ops, 2 * one - 1), 1);
    assert_eq!(frame_of(&ops, 2 * one), 2);
    assert_eq!(frame_of(&ops[2..], one), 1, "one at least");
    assert_eq!(frame_of(&[], one), 0);
    assert_eq!(frame_of(&ops, FRAME_BYTES), 3);

    let sim = Sim::default();
    let log = create(&sim);
    let entries = (0..3).map(|index| append(1, index, FRAME_BYTES / 2 - 100));
    let entries: Vec<LogOp> = entries.collect();
    log.write(&entries, true).unwrap();
    let mark = format::decode_marks(sim.image().content(MARK)).unwrap();
    assert_eq!(mark.1, 2, "two entries a frame");
    drop(log);
    assert_eq!(open(&sim).unwrap().found().last, Some(log_id(1, 2)));
}

#[test]
fn segments_are_used_again_and_the_log_stays_small() {
    let sim = Sim::default();
    let mut log = create(&sim);
    let mut made = std::collections::BTreeSet::new();
    for index in 0..500 {
        log.write(&[append(1, index, 700)], true).unwrap();
        if index >= 4 {
            log.write(&[LogOp::Purge(log_id(1, index - 4))], false)
                .unwrap();
        }
        if index % 100 == 50 {
            drop(log);
            log = open(&sim).unwrap();
        }
        let image = sim.image();
        assert!(image.names.len() <= 8, "{:?}", image.names);
        made.extend(image.names.values().copied());
    }
    // Each file is made once; all the others that would have been needed are old ones.
    assert!(made.len() <= 8, "{made:?}");
    assert_eq!(log.read(0..u64::MAX).unwrap().len(), 4);
}

/// A log that was small for a while keeps small files, which are of no use when it has grown.
#[test]
fn spare_files_that_the_log_has_outgrown_make_room_for_others() {
    let sim = Sim::default();
    let options = Options {
        first_bytes: 4 << 10,
        largest_bytes: 16 << 10,
        beside: false,
    };
    let log = Wal::open_in(Arc::new(sim.clone()), options, true).unwrap();
    let keep = |from: u64, to: u64, kept: u64| {
        for index in from..to {
            let mut ops = vec![append(1, index, 900)];
            ops.extend((index >= kept).then(|| LogOp::Purge(log_id(1, index - kept))));
            log.write(&ops, true).unwrap();
        }
    };
    let made = || {
        let steps = sim.journal().into_iter();
        steps
            .filter(|step| matches!(step, sim::Step::Create { path, .. } if path == "wal/new"))
            .count()
    };
    // Grown and cut at once, which leaves four small files.
    keep(0, 24, 1000);
    keep(24, 60, 2);
    keep(60, 160, 64);
    let before = made();
    keep(160, 400, 64);
    assert_eq!(made(), before, "files are made though there are old ones");
}

#[test]
fn a_new_segment_has_half_the_size_of_the_log() {
    let sim = Sim::default();
    let options = Options {
        first_bytes: 4 << 10,
        largest_bytes: 16 << 10,
        beside: false,
    };
    let log = Wal::open_in(Arc::new(sim.clone()), options, true).unwrap();
    for index in 0..80 {
        log.write(&[append(1, index, 900)], true).unwrap();
    }
    let sizes: Vec<u64> = (log.shelf().segments.values())
        .map(|segment| segment.bytes >> 10)
        .collect();
    assert_eq!(sizes[..8], [4, 4, 4, 4, 8, 8, 16, 16]);
}

#[test]
fn a_segment_that_is_still_read_is_not_used_again() {
    let sim = Sim::default();
    let log = create(&sim);
    let mut index = 0;
    let mut fill = |log: &Wal| {
        for _ in 0..10 {
            log.write(&[append(1, index, 700)], true).unwrap();
            index += 1;
        }
    };
    fill(&log);
    // As a reader holds it between looking for an entry and reading it.
    let reading = log.shelf().segments[&1].file.clone();
    let mut before = vec![0; 4 << 10];
    reading.read_exact_at(&mut before, 0).unwrap();
    for _ in 0..10 {
        let last = log.shelf().index.next() - 1;
        log.write(&[LogOp::Purge(log_id(1, last))], true).unwrap();
        fill(&log);
    }
    let mut after = vec![0; 4 << 10];
    reading.read_exact_at(&mut after, 0).unwrap();
    assert!(before == after, "the file was written over");
}

#[test]
fn an_entry_that_leaves_a_hole_is_not_written() {
    let sim = Sim::default();
    let log = create(&sim);
    log.write(&[append(1, 0, 1)], true).unwrap();
    let error = log.write(&[append(1, 2, 1)], true).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    drop(log);
    assert_eq!(open(&sim).unwrap().found().last, Some(log_id(1, 0)));
}

#[test]
fn many_segments_are_opened() {
    let sim = Sim::default();
    let log = create(&sim);
    let mut model = Model::default();
    for index in 0..2000 {
        let ops = [append(1 + index / 300, index, 900)];
        log.write(&ops, true).unwrap();
        model.apply(&ops);
    }
    drop(log);
    assert!(sim.image().names.len() > 250);
    assert_eq!(said(&open(&sim).unwrap()), model.0);
}

/// The work beside the writer, on a real disk.
#[test]
fn files_are_made_ready_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        first_bytes: 16 << 10,
        largest_bytes: 64 << 10,
        beside: true,
    };
    let folder = || Arc::new(crate::wal::files::Directory::new(dir.path()));
    let mut work = Workload::new(7, 5000);
    let mut log = Wal::open_in(folder(), options, true).unwrap();
    for round in 0..400 {
        let (ops, durable) = work.batch();
        log.write(&ops, durable).unwrap();
        if round % 100 == 99 {
            drop(log);
            log = Wal::open_in(folder(), options, false).unwrap();
            assert_eq!(said(&log), work.model.0);
        }
    }
}

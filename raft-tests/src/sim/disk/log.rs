//! The Raft log on a simulated disk: what is synced, and what was written after that.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;
use store::Place;
use store::disk::{damaged, decode_entry};
use store::env::{LogDisk, LogFound, LogOp};
use store::raft::types::{LogId, Vote};

use super::super::raft::{Logged, Voted};
use super::{Crash, Flaw, Life};

/// A log as a process would find it.
#[derive(Clone, Debug, Default)]
struct Image {
    made: bool,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    records: BTreeMap<u64, Bytes>,
}

/// What is on the disk, and what is on its way there.
#[derive(Debug, Default)]
pub(super) struct StoredLog {
    synced: Image,
    /// As the process sees it: with what is not synced.
    seen: Image,
    unsynced: Vec<LogOp>,
    /// Told of and not written yet.
    under_way: Vec<LogOp>,
    /// What stood where a bit is wrong.
    rotten: Option<(u64, Bytes)>,
    /// Since then a process has opened it and found nothing wrong.
    taken_rotten: bool,
    /// What has become durable, and nobody has been told of.
    journal: Vec<Logged>,
}

impl Image {
    fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::Append { index, record } => {
                self.records.insert(*index, record.to_bytes());
            }
            LogOp::Vote(vote) => self.vote = Some(*vote),
            LogOp::Truncate { from } => drop(self.records.split_off(from)),
            LogOp::Purge(id) => {
                self.purged = self.purged.max(Some(*id));
                self.records = self.records.split_off(&(id.index + 1));
            }
            LogOp::Committed(committed) => self.committed = *committed,
        }
    }

    /// Reads it as the product's log does: every record has to be right, and none may be missing.
    fn found(&self) -> io::Result<LogFound> {
        let mut last = self.purged;
        let mut expected = self.purged.map(|id| id.index + 1);
        for (index, record) in &self.records {
            if expected.is_some_and(|expected| expected != *index) {
                return Err(damaged(format!("log entry {index} does not follow")));
            }
            last = Some(decode_entry(*index, record.clone())?.log_id);
            expected = Some(index + 1);
        }
        Ok(LogFound {
            vote: self.vote,
            committed: self.committed,
            purged: self.purged,
            last,
        })
    }
}

fn voted(vote: &Vote) -> Voted {
    Voted {
        term: vote.leader_id.term,
        candidate: vote.leader_id.voted_for,
        won: vote.committed,
    }
}

/// What is kept in mind of an operation that has become durable.
fn logged(op: &LogOp) -> Option<Logged> {
    match op {
        LogOp::Append { index, record } => {
            let record = record.to_bytes();
            let term = record.get(1..9).and_then(|term| term.try_into().ok());
            let mut hash = DefaultHasher::new();
            record.hash(&mut hash);
            Some(Logged::Appended {
                place: Place {
                    term: term.map_or(0, u64::from_be_bytes),
                    index: *index,
                },
                hash: hash.finish(),
            })
        }
        LogOp::Truncate { from } => Some(Logged::Truncated { from: *from }),
        LogOp::Purge(id) => Some(Logged::Purged(Place::from(*id))),
        LogOp::Vote(_) | LogOp::Committed(_) => None,
    }
}

impl StoredLog {
    /// What makes an empty log into this one, as a process sees it.
    pub(super) fn as_ops(&self) -> Vec<LogOp> {
        let Image {
            vote,
            committed,
            purged,
            records,
            ..
        } = &self.seen;
        let entries = records.iter().map(|(index, record)| LogOp::Append {
            index: *index,
            record: record.clone().into(),
        });
        let purged = purged.map(LogOp::Purge).into_iter();
        let ops = purged.chain(vote.map(LogOp::Vote)).chain(entries);
        ops.chain([LogOp::Committed(*committed)]).collect()
    }

    pub(super) fn take_journal(&mut self) -> Vec<Logged> {
        std::mem::take(&mut self.journal)
    }

    /// It is on the disk for good.
    fn keep(&mut self, op: &LogOp) {
        self.synced.apply(op);
        self.journal.extend(logged(op));
    }

    /// How much of what was not synced is there after a crash: all that was written where the system lives on, and in any
    /// case some first part.
    pub(super) fn draw_kept(&self, how: Crash, rng: &mut SmallRng) -> usize {
        let written = self.unsynced.len();
        let least = match how {
            Crash::Kill => written,
            Crash::PowerLoss => 0,
        };
        rng.random_range(least..=written + self.under_way.len())
    }

    /// So many changes are left of those that were not synced.
    pub(super) fn crash(&mut self, flaw: Flaw, kept: usize) {
        let mut maybe = std::mem::take(&mut self.unsynced);
        maybe.append(&mut self.under_way);
        let kept = kept.min(maybe.len());
        for op in &maybe[..kept] {
            let forgotten = flaw == Flaw::ForgetsVotes && matches!(op, LogOp::Vote(_));
            if !forgotten {
                self.keep(op);
            }
        }
        self.seen = self.synced.clone();
    }

    pub(super) fn flip_bit(&mut self, rng: &mut SmallRng) -> bool {
        let count = self.synced.records.len();
        if count == 0 || self.rotten.is_some() {
            return false;
        }
        let place = rng.random_range(0..count);
        let Some((index, record)) = self.synced.records.iter_mut().nth(place) else {
            return false;
        };
        self.rotten = Some((*index, record.clone()));
        let mut bytes = record.to_vec();
        let bit = rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        *record = bytes.into();
        self.seen = self.synced.clone();
        true
    }

    pub(super) fn is_rotten(&self) -> bool {
        self.rotten.is_some()
    }

    pub(super) fn is_taken_rotten(&self) -> bool {
        self.taken_rotten
    }

    /// Takes the wrong bit back, on a disk that nobody uses.
    pub(super) fn mend(&mut self) {
        self.taken_rotten = false;
        if let Some((index, record)) = self.rotten.take() {
            self.synced.records.insert(index, record);
            self.seen = self.synced.clone();
        }
    }

    fn write(&mut self, ops: &[LogOp]) {
        self.under_way.clear();
        for op in ops {
            self.seen.apply(op);
            self.unsynced.push(op.clone());
        }
    }

    fn sync(&mut self, flaw: Flaw) {
        match flaw {
            Flaw::AcksBeforeSync => {}
            Flaw::ForgetsVotes => {
                let (votes, others) = std::mem::take(&mut self.unsynced)
                    .into_iter()
                    .partition(|op| matches!(op, LogOp::Vote(_)));
                self.unsynced = votes;
                let others: Vec<LogOp> = others;
                others.iter().for_each(|op| self.keep(op));
            }
            Flaw::None => {
                for op in std::mem::take(&mut self.unsynced) {
                    self.keep(&op);
                }
            }
        }
    }
}

/// The log as one process has it.
pub(super) struct Log {
    life: Life,
    found: LogFound,
}

impl Log {
    pub(super) fn open(life: Life, create: bool) -> io::Result<Log> {
        let mut inner = life.lock()?;
        let log = &mut inner.log;
        if create {
            *log = StoredLog::default();
            log.journal.push(Logged::Made);
            log.synced.made = true;
            log.seen.made = true;
        } else if !log.synced.made {
            return Err(damaged("the log is missing"));
        }
        let found = log.seen.found()?;
        log.taken_rotten |= log.is_rotten();
        log.journal
            .push(Logged::Found(found.vote.as_ref().map(voted)));
        drop(inner);
        Ok(Log { life, found })
    }
}

impl LogDisk for Log {
    fn found(&self) -> LogFound {
        self.found.clone()
    }

    fn write(&self, ops: &[LogOp], durable: bool) -> io::Result<()> {
        let mut inner = self.life.lock()?;
        inner.log.write(ops);
        if durable {
            inner.sync()?;
            let flaw = inner.flaw;
            inner.log.sync(flaw);
            let votes = ops.iter().filter_map(|op| match op {
                LogOp::Vote(vote) => Some(Logged::Voted(voted(vote))),
                _ => None,
            });
            inner.log.journal.extend(votes);
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>> {
        let inner = self.life.lock()?;
        let records = inner.log.seen.records.range(range);
        Ok(records
            .map(|(index, record)| (*index, record.clone()))
            .collect())
    }

    fn bytes(&self) -> u64 {
        let bytes = |log: &Image| log.records.values().map(|record| record.len() as u64).sum();
        self.life.lock().map_or(0, |inner| bytes(&inner.log.seen))
    }

    fn begin(&self, ops: &[LogOp], durable: bool) -> Duration {
        let Ok(mut inner) = self.life.lock() else {
            return Duration::ZERO;
        };
        inner.log.under_way = ops.to_vec();
        if durable {
            inner.sync_time()
        } else {
            Duration::ZERO
        }
    }
}

//! The simulated disk and the product's, side by side: the same writes, crashes and reads have to show the same, else what
//! the simulation proves would not be about the product. `ENGINES_CASES` runs more of them, new ones each time.
//!
//! A crash of the product's is a copy of its files, which is opened instead: of the state as it is at that moment, without
//! what is in memory, and of the log as it was after some of the changes that were not synced.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kv::mem::MemState;
use kv::{Catalog, Command, Compact, Joined, KeyRange, RangeRequest, Staged, Write};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raft_tests::sim::disk::{Crash, Disk, Flaw};
use store::disk::{LogIdRecord, Position, encode_proposal, log_id};
use store::env::tempdir::StagingDir;
use store::env::{Engine, LogDisk, LogOp, StateDb, StateDisk};
use store::raft::types::{LogId, Vote};
use store::rocks::Rocks;
use store::wal;

const CASES: u32 = 8;

fn config() -> ProptestConfig {
    let wanted = std::env::var("ENGINES_CASES").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(CASES),
        rng_seed: wanted.map_or(RngSeed::Fixed(4), |_: u32| RngSeed::Random),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch for the state.
    Apply(Vec<Change>),
    Flush,
    Checkpoint,
    /// The checkpoint takes the place of the state.
    Install,
    Read {
        key: u8,
        end: u8,
        back: i64,
        limit: i64,
    },
    Append {
        entries: usize,
        term: u64,
    },
    Vote(u64, u64, bool),
    Truncate(usize),
    Purge(usize, bool),
    Committed(usize),
    /// Of the changes of the log that were not synced, so many are left.
    Crash(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Put { key: u8, value: u8, lease: bool },
    Delete { key: u8, end: u8 },
    Grant,
    Revoke,
    Compact(i64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (0..8u8, any::<u8>(), any::<bool>())
            .prop_map(|(key, value, lease)| Change::Put { key, value, lease }),
        3 => (0..8u8, 0..9u8).prop_map(|(key, end)| Change::Delete { key, end }),
        2 => Just(Change::Grant),
        1 => Just(Change::Revoke),
        1 => (0..12i64).prop_map(Change::Compact),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => vec(change(), 1..5).prop_map(Step::Apply),
        3 => Just(Step::Flush),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Install),
        8 => (0..8u8, 0..10u8, 0..9i64, 0..4i64)
            .prop_map(|(key, end, back, limit)| Step::Read { key, end, back, limit }),
        8 => (1..5usize, 0..2u64).prop_map(|(entries, term)| Step::Append { entries, term }),
        2 => (0..3u64, 1..4u64, any::<bool>()).prop_map(|(term, node, won)| Step::Vote(term, node, won)),
        2 => (0..4usize).prop_map(Step::Truncate),
        3 => (0..8usize, any::<bool>()).prop_map(|(keep, synced)| Step::Purge(keep, synced)),
        4 => (0..5usize).prop_map(Step::Committed),
        2 => (0..4usize).prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_simulated_disk_is_like_the_products(steps in vec(step(), 1..60)) {
        let mut both = Both::new();
        for step in &steps {
            both.run(step);
            both.compare();
        }
        both.run(&Step::Crash(0));
        both.compare();
    }
}

/// A comparison that cannot fail proves nothing.
#[test]
fn a_disk_that_forgets_what_was_synced_is_told_apart() {
    let run = |flaw| {
        let mut both = Both::with(flaw);
        both.run(&Step::Append {
            entries: 3,
            term: 1,
        });
        both.compare();
        both.run(&Step::Crash(0));
        both.compare();
    };
    run(Flaw::None);
    assert!(std::panic::catch_unwind(|| run(Flaw::AcksBeforeSync)).is_err());
}

/// One of the two, opened.
struct Opened {
    log: Arc<dyn LogDisk>,
    state: Arc<dyn StateDisk>,
    catalog: Catalog,
    checkpoint: Option<StagingDir>,
}

const SNAPSHOT: &str = "state";

impl Opened {
    fn new(engine: &dyn Engine, dir: &Path, create: bool) -> Opened {
        let log = engine.open_log(dir, create).unwrap();
        let state = engine.open_state(dir, create).unwrap();
        let (_, catalog) = state.opened().load().unwrap();
        Opened {
            log,
            state,
            catalog,
            checkpoint: None,
        }
    }

    fn write(&mut self, writes: &[Write], position: &Position) {
        self.state.opened().write(writes, position).unwrap();
        self.catalog.absorb(writes);
    }

    fn checkpoint(&mut self) -> Position {
        let dir = self.state.staging().unwrap();
        let to = dir.path().join(SNAPSHOT);
        let position = self.state.opened().checkpoint(&to).unwrap();
        self.checkpoint = Some(dir);
        position
    }

    fn install(&mut self) {
        let Some(dir) = self.checkpoint.take() else {
            return;
        };
        let mut loaded = None;
        let mut check = |db: &dyn StateDb| {
            loaded = Some(db.load()?);
            Ok(())
        };
        let show = self.state.install(&dir.path().join(SNAPSHOT), &mut check);
        show.unwrap()();
        self.catalog = loaded.unwrap().1;
    }

    /// What a client would be told, or why not.
    fn range(&self, request: &RangeRequest) -> String {
        let db = self.state.opened();
        let view = Joined {
            catalog: &self.catalog,
            data: &*db as &dyn StateDb,
        };
        format!("{:?}", kv::range(&view, request).unwrap())
    }

    /// All that is there, in words.
    fn all(&self) -> String {
        let db = self.state.opened();
        let (position, catalog) = db.load().unwrap();
        let mut events = Vec::new();
        let from = position.compact_revision;
        db.events(from, i64::MAX, &mut |id, event| {
            events.push((id, event));
            true
        })
        .unwrap();
        let mut keys = Vec::new();
        db.scan(&KeyRange::all(), &mut |kv| {
            keys.push(kv);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        let leases: Vec<_> = catalog.leases().map(|record| record.lease).collect();
        let moments: Vec<_> = (0..3)
            .map(|ahead| {
                let moment = db.next_moment(position.compact_revision + ahead).unwrap();
                moment.map(|moment| (moment.revision, moment.unix_ms))
            })
            .collect();
        format!("{position:?} {events:?} {keys:?} {leases:?} {moments:?}")
    }
}

/// A log as it has to be.
#[derive(Debug, Default)]
struct Expected {
    term: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    committed: u64,
}

impl Expected {
    fn first(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    fn next(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }
}

struct Both {
    home: tempfile::TempDir,
    /// The product's directory, and copies of its log: before any change that is not synced, and after each.
    dir: PathBuf,
    copies: Vec<PathBuf>,
    copied: usize,
    disk: Disk,
    product: Opened,
    simulated: Opened,
    log: Expected,
    state: MemState,
    applied: u64,
    /// The state as it was flushed last, and as it is in the checkpoint.
    flushed: (MemState, u64),
    checkpoint: Option<(MemState, u64)>,
}

impl Both {
    fn new() -> Both {
        Both::with(Flaw::None)
    }

    fn with(flaw: Flaw) -> Both {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("0");
        fs::create_dir(&dir).unwrap();
        let disk = Disk::new(1, flaw);
        let product = Opened::new(&Rocks, &dir, true);
        let simulated = Opened::new(&*disk.engine(), Path::new("/sim"), true);
        let mut both = Both {
            home,
            dir,
            copies: Vec::new(),
            copied: 0,
            disk,
            product,
            simulated,
            log: Expected::default(),
            state: MemState::default(),
            applied: 0,
            flushed: Default::default(),
            checkpoint: None,
        };
        // A member's state has a position from the beginning.
        both.apply(&[Change::Grant]);
        both.flush();
        both
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Apply(changes) => self.apply(changes),
            Step::Flush => self.flush(),
            Step::Checkpoint => {
                let (one, other) = (self.product.checkpoint(), self.simulated.checkpoint());
                assert_eq!(one, other);
                self.checkpoint = Some((self.state.clone(), self.applied));
                self.flushed = (self.state.clone(), self.applied);
            }
            Step::Install => {
                let Some((state, applied)) = self.checkpoint.take() else {
                    return;
                };
                self.product.install();
                self.simulated.install();
                self.flushed = (state.clone(), applied);
                (self.state, self.applied) = (state, applied);
            }
            Step::Read {
                key,
                end,
                back,
                limit,
            } => self.read(*key, *end, *back, *limit),
            Step::Crash(kept) => self.crash(*kept),
            Step::Append { entries, term } => {
                self.log.term = self.log.term.max(1) + term;
                let ops = (0..*entries).map(|_| self.append()).collect();
                self.write_log(ops, true);
            }
            Step::Vote(term, node, won) => {
                self.log.term += term;
                let term = self.log.term;
                let vote = match won {
                    true => Vote::new_committed(term, *node),
                    false => Vote::new(term, *node),
                };
                self.write_log(vec![LogOp::Vote(vote)], true);
            }
            Step::Truncate(entries) => {
                let from = self.log.next().saturating_sub(*entries as u64);
                let from = from.max(self.log.first());
                self.write_log(vec![LogOp::Truncate { from }], true);
                self.truncated(from);
            }
            Step::Purge(keep, synced) => {
                let Some(upto) = self.log.next().checked_sub(1 + *keep as u64) else {
                    return;
                };
                if upto < self.log.first() {
                    return;
                }
                let (index, record) = self.product.log.read(upto..upto + 1).unwrap().remove(0);
                let id = store::disk::decode_entry(index, record).unwrap().log_id;
                self.log.purged = Some(id);
                self.write_log(vec![LogOp::Purge(id)], *synced);
            }
            Step::Committed(ahead) => {
                self.log.committed += *ahead as u64;
                let id = log_id(1, self.log.committed);
                self.write_log(vec![LogOp::Committed(Some(id))], false);
            }
        }
    }

    fn append(&mut self) -> LogOp {
        let id = log_id(self.log.term, self.log.next());
        self.log.last = Some(id);
        let proposal = Bytes::from(format!("entry {id:?}"));
        LogOp::Append {
            index: id.index,
            record: encode_proposal(id, proposal).into(),
        }
    }

    fn truncated(&mut self, from: u64) {
        self.log.last = match from.checked_sub(1) {
            Some(index) if index >= self.log.first() => {
                let (index, record) = self.product.log.read(index..from).unwrap().remove(0);
                Some(store::disk::decode_entry(index, record).unwrap().log_id)
            }
            _ => self.log.purged,
        };
    }

    fn write_log(&mut self, ops: Vec<LogOp>, durable: bool) {
        if !durable && self.copies.is_empty() {
            self.keep_copy();
        }
        self.product.log.write(&ops, durable).unwrap();
        self.simulated.log.write(&ops, durable).unwrap();
        match durable {
            true => self.copies.clear(),
            false => self.keep_copy(),
        }
    }

    fn keep_copy(&mut self) {
        let copy = self.new_dir();
        copy_log(&self.dir, &copy);
        self.copies.push(copy);
    }

    fn new_dir(&mut self) -> PathBuf {
        self.copied += 1;
        let dir = self.home.path().join(self.copied.to_string());
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn apply(&mut self, changes: &[Change]) {
        let (position, writes) = {
            let view = self.state.view();
            let mut staged = Staged::new(&view);
            for change in changes {
                self.applied += 1;
                let command = command(change, kv::View::revision(&staged));
                let entry = kv::Entry::new(1_700_000_000_000 + self.applied as i64, command);
                // Refusals are answers, too.
                drop(kv::apply(&mut staged, &entry, 1).unwrap());
            }
            let applied = LogIdRecord {
                term: 1,
                index: self.applied,
            };
            let position = Position {
                applied: Some(applied),
                ..Position::default()
            };
            (position.of(&staged), staged.into_writes())
        };
        self.state.catalog.absorb(&writes);
        self.state.data.store(&writes);
        self.product.write(&writes, &position);
        self.simulated.write(&writes, &position);
    }

    fn flush(&mut self) {
        self.product.state.opened().flush().unwrap();
        self.simulated.state.opened().flush().unwrap();
        self.flushed = (self.state.clone(), self.applied);
    }

    fn read(&self, key: u8, end: u8, back: i64, limit: i64) {
        let newest = kv::View::revision(&self.state.view());
        let request = RangeRequest {
            key: name(key),
            range_end: match end {
                0 => Bytes::new(),
                9 => Bytes::from_static(b"\0"),
                end => name(end),
            },
            revision: match back {
                0 => 0,
                back => (newest + 2 - back).max(1),
            },
            limit,
            ..RangeRequest::default()
        };
        let expected = format!("{:?}", kv::range(&self.state.view(), &request).unwrap());
        assert_eq!(self.product.range(&request), expected);
        assert_eq!(self.simulated.range(&request), expected);
    }

    /// Both are gone, and opened again.
    fn crash(&mut self, kept: usize) {
        if self.copies.is_empty() {
            self.keep_copy();
        }
        let kept = kept.min(self.copies.len() - 1);
        let dir = self.copies[kept].clone();
        copy_quiet(&self.dir.join("state"), &dir.join("state"));
        self.copies.clear();
        self.checkpoint = None;
        self.disk.crash_keeping(Crash::PowerLoss, kept, 0);
        self.simulated = Opened::new(&*self.disk.engine(), Path::new("/sim"), false);
        self.product = Opened::new(&Rocks, &dir, false);
        self.dir = dir;
        let found = self.product.log.found();
        assert_eq!(found, self.simulated.log.found());
        self.log.last = found.last;
        self.log.purged = found.purged;
        (self.state, self.applied) = self.flushed.clone();
    }

    fn compare(&self) {
        let (one, other) = (&self.product, &self.simulated);
        assert_eq!(one.all(), other.all());
        let expected = kv::View::state_hash(&self.state.view());
        assert_eq!(one.catalog.state_hash(), expected);
        assert_eq!(other.catalog.state_hash(), expected);
        let entries = |opened: &Opened| opened.log.read(0..u64::MAX).unwrap();
        assert_eq!(entries(one), entries(other));
        let indexes: Vec<u64> = entries(one).iter().map(|(index, _)| *index).collect();
        let expected: Vec<u64> = (self.log.first()..self.log.next()).collect();
        assert_eq!(indexes, expected);
    }
}

fn name(key: u8) -> Bytes {
    Bytes::from(format!("k{key}"))
}

const LEASE: i64 = 7;

fn command(change: &Change, revision: i64) -> Command {
    use kv::{DeleteRangeRequest, PutRequest, Request, RequestOp, TxnRequest};
    let one = |request| {
        Command::Txn(TxnRequest {
            success: vec![RequestOp {
                request: Some(request),
            }],
            ..TxnRequest::default()
        })
    };
    match change {
        Change::Put { key, value, lease } => one(Request::Put(PutRequest {
            key: name(*key),
            value: Bytes::from(vec![*value; 1 + *value as usize]),
            lease: if *lease { LEASE } else { 0 },
            ..PutRequest::default()
        })),
        Change::Delete { key, end } => one(Request::DeleteRange(DeleteRangeRequest {
            key: name(*key),
            range_end: match end {
                0 => Bytes::new(),
                end => name(*end),
            },
            ..DeleteRangeRequest::default()
        })),
        Change::Grant => Command::LeaseGrant(kv::Lease {
            id: LEASE,
            ttl_seconds: 5,
            nonce: 9,
        }),
        Change::Revoke => Command::LeaseRevoke(kv::LeaseRevoke { id: LEASE }),
        Change::Compact(back) => Command::Compact(Compact {
            revision: revision - back,
        }),
    }
}

fn copy_log(from: &Path, to: &Path) {
    copy_all(&from.join(wal::DIR), &to.join(wal::DIR));
    fs::copy(from.join(wal::MARK), to.join(wal::MARK)).unwrap();
}

/// As long as something changes meanwhile (RocksDB tidies up beside its callers) the copy is of no moment, and made again.
fn copy_quiet(from: &Path, to: &Path) {
    loop {
        let before = listing(from);
        copy_all(from, to);
        if listing(from) == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
}

fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(listing(&path)),
            Ok(metadata) => found.push((path, metadata.len())),
            Err(_) => {}
        }
    }
    found.sort();
    found
}

/// What goes away meanwhile is not copied.
fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &name),
            false => drop(fs::copy(entry.path(), name)),
        }
    }
}

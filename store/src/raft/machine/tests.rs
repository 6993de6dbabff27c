use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::env::{ShowState, StateCheck};
use crate::raft::types::Proposal;
use crate::rocks::state::RocksState;
use openraft::entry::RaftEntry;

/// A state directory that looks, while a snapshot is checked, whether readers are let in.
struct Looking {
    inner: RocksState,
    replica: OnceLock<Arc<Replica>>,
    readers_let_in: AtomicBool,
}

impl StateDisk for Looking {
    fn opened(&self) -> Arc<dyn StateDb> {
        self.inner.opened()
    }

    fn staging(&self) -> io::Result<StagingDir> {
        self.inner.staging()
    }

    fn install(&self, from: &Path, check: &mut StateCheck<'_>) -> io::Result<ShowState<'_>> {
        let replica = self.replica.get().unwrap();
        self.inner.install(from, &mut |db| {
            let free = replica.catalog.try_read().is_ok();
            self.readers_let_in.store(free, Ordering::SeqCst);
            check(db)
        })
    }
}

#[test]
fn readers_go_on_while_a_snapshot_is_installed() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let source = RocksState::open(dirs[0].path(), true).unwrap();
    let source = Replica::load(1, Arc::new(source)).unwrap();
    let position = Position {
        applied: Some(disk::log_id(1, 5).into()),
        revision: 7,
        cluster_id: 1,
        ..Position::default()
    };
    source
        .commit(vec![Write::Revision(7)], position.clone(), Vec::new())
        .unwrap();
    let reached = [4, 5, 6].map(|index| source.reached(index));
    assert_eq!(reached, [Some(7), Some(7), None]);

    let disk = Arc::new(Looking {
        inner: RocksState::open(dirs[1].path(), true).unwrap(),
        replica: OnceLock::new(),
        readers_let_in: false.into(),
    });
    let target = Replica::load(1, disk.clone()).unwrap();
    assert!(disk.replica.set(target.clone()).is_ok());
    let staging = target.disk().staging().unwrap();
    let copy = staging.path().join("state");
    let meta = source.checkpoint(&copy).unwrap();
    target.install(&meta, &copy).unwrap();
    assert!(disk.readers_let_in.load(Ordering::SeqCst));
    assert_eq!(target.catalog().revision(), 7);
    assert_eq!(target.position(), position);
    assert_eq!(disk.opened().load().unwrap().0, position);
}

fn record(name: &'static str) -> Vec<Write> {
    let value = Some("value".into());
    vec![Write::Record {
        name: name.into(),
        value,
    }]
}

fn at(index: u64) -> Position {
    Position {
        applied: Some(disk::log_id(1, index).into()),
        revision: 1,
        cluster_id: 1,
        ..Position::default()
    }
}

/// As a version left it, or sends it, that knew no hash: members compare what is there.
#[test]
fn the_first_digest_is_of_what_was_read() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let state = dirs
        .each_ref()
        .map(|dir| Arc::new(RocksState::open(dir.path(), true).unwrap()));
    state[0].opened().write(&record("name"), &at(5)).unwrap();
    let source = Replica::load(1, state[0].clone()).unwrap();
    let hash = source.catalog().state_hash().0;
    let first = |replica: &Replica| replica.last_digest().map(|(at, digest)| (at, digest.hash));
    assert_ne!(hash, 0);
    assert_eq!(first(&source), Some((5, hash)));
    let target = Replica::load(1, state[1].clone()).unwrap();
    let staging = target.disk().staging().unwrap();
    let copy = staging.path().join("state");
    let meta = source.checkpoint(&copy).unwrap();
    target.install(&meta, &copy).unwrap();
    assert_eq!(first(&target), Some((5, hash)));
}

/// Without a leader nothing is applied for long, and the figures are asked for all the same.
#[test]
fn metrics_say_where_a_state_stands_that_was_only_opened() {
    let dir = tempfile::tempdir().unwrap();
    let state = RocksState::open(dir.path(), true).unwrap();
    let position = Position {
        compact_revision: 5,
        revision: 7,
        ..at(9)
    };
    state.opened().write(&record("name"), &position).unwrap();
    Replica::load(1, Arc::new(state)).unwrap();
    let figures = [
        &METRICS.compact_revision,
        &METRICS.current_revision,
        &METRICS.proposals_applied,
    ];
    assert_eq!(figures.map(|figure| figure.get()), [5, 7, 9]);
    assert!(METRICS.db_size.get() > 0 && METRICS.db_size_in_use.get() > 0);
}

#[tokio::test]
async fn the_snapshot_that_raft_counts_from_is_what_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let state = RocksState::open(dir.path(), true).unwrap();
    let replica = Replica::load(1, Arc::new(state)).unwrap();
    let mut machine = Machine::new(replica.clone());
    let blank = |index| Entry::new(disk::log_id(1, index), EntryPayload::Blank);
    machine.replay((0..5).map(blank).collect()).unwrap();
    assert!(machine.get_current_snapshot().await.unwrap().is_none());
    let mut builder = machine.get_snapshot_builder().await;
    let built = builder.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(disk::log_id(1, 4)));
    machine.replay((5..9).map(blank).collect()).unwrap();
    let current = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, built.meta);
    let (applied, _) = machine.applied_state().await.unwrap();
    assert_eq!(applied, Some(disk::log_id(1, 8)));
    assert_eq!(replica.flushed(), built.meta.last_log_id);
}

/// An entry that puts the key `k`.
fn put_at(index: u64) -> Entry {
    let put = kv::PutRequest {
        key: "k".into(),
        ..kv::PutRequest::default()
    };
    entry_of(index, kv::Request::Put(put))
}

/// An entry of one operation.
fn entry_of(index: u64, request: kv::Request) -> Entry {
    let op = kv::RequestOp {
        request: Some(request),
    };
    let txn = kv::TxnRequest {
        success: vec![op],
        ..kv::TxnRequest::default()
    };
    let entry = kv::Entry::new(0, kv::Command::Txn(txn)).encode_to_vec();
    let payload = EntryPayload::Normal(Proposal(entry.into()));
    Entry::new(disk::log_id(1, index), payload)
}

#[test]
fn after_a_snapshot_nothing_is_taken_from_the_state_before_it() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [source, target] = dirs.each_ref().map(|dir| {
        let state = RocksState::open(dir.path(), true).unwrap();
        Replica::load(1, Arc::new(state)).unwrap()
    });
    let puts = (1..=3).map(put_at).collect();
    Machine::new(source.clone()).replay(puts).unwrap();
    let machine = Machine::new(target.clone());
    machine.replay(vec![put_at(1)]).unwrap();
    let staging = target.disk().staging().unwrap();
    let copy = staging.path().join("state");
    let meta = source.checkpoint(&copy).unwrap();
    target.install(&meta, &copy).unwrap();
    machine.replay(vec![put_at(4)]).unwrap();
    let kv = target.disk().opened().get(b"k").unwrap().unwrap();
    assert_eq!(kv.version, 4);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(12))]

    /// What stands before the state answers what the state would.
    #[test]
    fn what_was_written_last_is_what_the_state_has(
        ops in proptest::collection::vec((0..4_u8, 0..6_u8, 0..3_usize), 1..60),
        batch in 1..7_usize,
    ) {
        use kv::Data;
        let key = |n: u8| vec![b'a' + n];
        let dir = tempfile::tempdir().unwrap();
        let state = RocksState::open(dir.path(), true).unwrap();
        let replica = Replica::load(1, Arc::new(state)).unwrap();
        let machine = Machine::new(replica.clone());
        let entries = ops.into_iter().zip(1..).map(|((kind, n, size), index)| {
            let delete = |range_end: Vec<u8>| kv::Request::DeleteRange(kv::DeleteRangeRequest {
                key: key(n).into(),
                range_end: range_end.into(),
                ..kv::DeleteRangeRequest::default()
            });
            let request = match kind {
                0 => delete(Vec::new()),
                1 => delete(key(n + 2)),
                _ => kv::Request::Put(kv::PutRequest {
                    key: key(n).into(),
                    // The last is too large to be held.
                    value: vec![n; [10, 1000, 70_000][size]].into(),
                    ..kv::PutRequest::default()
                }),
            };
            entry_of(index, request)
        });
        let entries: Vec<Entry> = entries.collect();
        for batch in entries.chunks(batch) {
            machine.replay(batch.to_vec()).unwrap();
            let (recent, db) = (replica.recent(), replica.disk().opened());
            let fronted = Fronted { recent: &recent, data: &*db };
            for n in 0..8 {
                if let Some(held) = fronted.at_hand(&key(n)) {
                    proptest::prop_assert_eq!(db.get(&key(n)), Ok(Some(held)));
                }
            }
        }
    }
}

/// A value that waits packed is the one that the next write of its key takes out of the hash of the state.
#[test]
fn what_was_written_last_and_waits_packed_is_what_the_state_has() {
    use kv::Data;
    const KEYS: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let state = RocksState::open(dir.path(), true).unwrap();
    let replica = Replica::load(1, Arc::new(state)).unwrap();
    // Three of these pairs have room on the first shelf.
    *replica.recent() = Recent::with_limits([4 << 10, 4 << 10, 64 << 10]);
    let machine = Machine::new(replica.clone());
    let key = |n: u64| format!("/registry/pods/n/{:02}", n % KEYS);
    let put = |index: u64| {
        let put = kv::PutRequest {
            key: key(index).into(),
            value: format!("{index:05}").repeat(200).into(),
            ..kv::PutRequest::default()
        };
        entry_of(index, kv::Request::Put(put))
    };
    for round in 0..3 {
        let puts = (1..=KEYS).map(|n| put(round * KEYS + n)).collect();
        machine.replay(puts).unwrap();
        let (recent, db) = (replica.recent(), replica.disk().opened());
        let fronted = Fronted {
            recent: &recent,
            data: &*db,
        };
        let mut held = 0;
        for key in (0..KEYS).map(key) {
            if let Some(kv) = fronted.at_hand(key.as_bytes()) {
                held += 1;
                assert_eq!(db.get(key.as_bytes()), Ok(Some(kv)));
            }
        }
        assert!(held > KEYS / 2, "{held} in round {round}");
    }
    // Loading compares the hash of what is stored with the one that all the writes have led to.
    replica.disk().opened().load().unwrap();
}

#[test]
fn an_entry_that_cannot_be_applied_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = RocksState::open(dir.path(), true).unwrap();
    let machine = Machine::new(Replica::load(1, Arc::new(state)).unwrap());
    let poison = EntryPayload::Normal(Proposal("no entry".into()));
    let entries = vec![
        Entry::new(disk::log_id(1, 6), EntryPayload::Blank),
        Entry::new(disk::log_id(1, 7), poison),
    ];
    let error = machine.replay(entries).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("log entry 7 cannot"), "{error}");
    assert_eq!(machine.replica.position().applied, None, "all or nothing");

    let panicked = told(&Cell::new(8), || -> io::Result<()> {
        panic!("at {}", "random")
    });
    let text = panicked.unwrap_err().to_string();
    assert!(text.contains("log entry 8"), "{text}");
    assert!(text.contains("has panicked: at random"), "{text}");
}

//! The state in RocksDB: live keys, events, leases and the position, in one database without a WAL.
//!
//! A batch and the index up to which it has been applied are one atomic write, and all column families are flushed
//! together, so whatever a crash leaves is the state after some applied index; the log has the rest. Replacing the
//! state by a snapshot is one rename: each state lives in its own directory and `CURRENT` names the one in use.

mod load;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use kv::{Broken, Catalog, Data, Event, EventId, KeyRange, KeyValue, Visit};
use prost::Message;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice,
    Direction, FlushOptions, IteratorMode, Options, ReadOptions, Snapshot, WriteBatch,
    WriteOptions,
};

use crate::backlog::footprint;
use crate::disk::{self, Position};
use crate::env::tempdir::StagingDir;
use crate::env::{ScrubPass, ShowState, StateCheck, StateDb, StateDisk};
use crate::history::Moment;
use crate::rocks::io_error;
use crate::rocks::scrub::StatePass;

const KEYS: &str = "cur";
const EVENTS: &str = "evt";
const LEASES: &str = "lease";
const META: &str = "meta";
const FAMILIES: &[&str] = &[KEYS, EVENTS, LEASES, META];
const POSITION: &[u8] = b"position";
/// Before the name of a record, in the same family as the position.
const RECORD: &[u8] = b"r";

/// RocksDB's own, in text: each start makes one when it looks, and one when it opens.
const LOG_FILES: usize = 6;

/// The state directory of a member.
pub struct RocksState {
    dir: PathBuf,
    staging: PathBuf,
    opened: RwLock<Arc<OpenState>>,
    next_staging: AtomicU64,
}

/// One opened database.
pub struct OpenState {
    db: DB,
    path: PathBuf,
    /// Set when another state took its place: the files go when the last reader does.
    replaced: std::sync::atomic::AtomicBool,
}

impl RocksState {
    /// Opens the state under `dir/state`, or creates an empty one where `create` is set.
    pub fn open(dir: &Path, create: bool) -> io::Result<RocksState> {
        let state = dir.join("state");
        let staging = dir.join("staging");
        // Whatever a crash left half done was not in use.
        match std::fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&staging)?,
        }
        std::fs::create_dir_all(&state)?;
        let current = match current_of(&state)? {
            Some(name) => name,
            None if create => {
                let name = generation_name(1);
                name_current(&state, &name)?;
                name
            }
            None => return Err(disk::damaged("the state is missing")),
        };
        let path = state.join(&current);
        if !create {
            must_be_there(&path, &current)?;
        }
        for entry in std::fs::read_dir(&state)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name().to_string_lossy() != current {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        let opened = RwLock::new(Arc::new(OpenState::open(path, create)?));
        Ok(RocksState {
            dir: state,
            staging,
            opened,
            next_staging: AtomicU64::new(0),
        })
    }

    fn current(&self) -> Arc<OpenState> {
        self.opened
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What [`Engine::look_at_state`](crate::env::Engine::look_at_state) is for RocksDB: opened only to be read, it writes no
/// new list of its files, and removes none. A bit that is wrong in the length of a change in that list looks like a change
/// that a crash has cut short; RocksDB goes on from the changes before it, which may be a state long gone by.
pub fn look_at(dir: &Path) -> io::Result<Option<Position>> {
    let state = dir.join("state");
    let current = current_of(&state)?.ok_or_else(|| disk::damaged("the state is missing"))?;
    let path = state.join(&current);
    must_be_there(&path, &current)?;
    position_in(&path)
}

/// The position that is flushed in the database of this directory, which nobody has open to write.
fn position_in(path: &Path) -> io::Result<Option<Position>> {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_keep_log_file_num(LOG_FILES);
    let db = DB::open_cf_for_read_only(&options, path, [META], false).map_err(io_error)?;
    let family = db.cf_handle(META).expect("opened with it");
    let stored = db.get_cf(family, POSITION).map_err(io_error)?;
    let position = stored.map(|stored| Position::decode(stored.as_slice()));
    position.transpose().map_err(disk::damaged)
}

/// The name of the state in use; nothing where there is none yet.
fn current_of(state: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(state.join("CURRENT")) {
        Ok(text) => match named(&text) {
            Some(name) => Ok(Some(name.to_string())),
            None => Err(disk::damaged("state/CURRENT does not name a state")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// By RocksDB's own CURRENT: without it RocksDB would make an empty database here.
fn must_be_there(path: &Path, name: &str) -> io::Result<()> {
    match path.join("CURRENT").exists() {
        true => Ok(()),
        false => Err(disk::damaged(format!(
            "state/CURRENT names state/{name}, which is missing"
        ))),
    }
}

fn generation_name(generation: u64) -> String {
    format!("{generation:010}")
}

/// The state that this content of `CURRENT` names: to the byte as [`name_current`] writes it.
fn named(text: &str) -> Option<&str> {
    let name = text.strip_suffix('\n')?;
    let generation = name.parse().ok()?;
    (generation_name(generation) == name).then_some(name)
}

/// Makes a state the one in use, durably and atomically.
fn name_current(state: &Path, name: &str) -> io::Result<()> {
    let temporary = state.join("CURRENT.new");
    std::fs::write(&temporary, format!("{name}\n"))?;
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, state.join("CURRENT"))?;
    std::fs::File::open(state)?.sync_all()
}

impl StateDisk for RocksState {
    fn opened(&self) -> Arc<dyn StateDb> {
        self.current()
    }

    fn staging(&self) -> io::Result<StagingDir> {
        let number = self.next_staging.fetch_add(1, Ordering::Relaxed);
        StagingDir::create(self.staging.join(format!("{number}")))
    }

    fn install(&self, from: &Path, check: &mut StateCheck<'_>) -> io::Result<ShowState<'_>> {
        let old = self.current();
        let number: u64 = old
            .path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .unwrap_or(0);
        let name = generation_name(number + 1);
        let path = self.dir.join(&name);
        std::fs::rename(from, &path)?;
        std::fs::File::open(&self.dir)?.sync_all()?;
        let new = Arc::new(OpenState::open(path, false)?);
        if let Err(refused) = check(new.as_ref()) {
            new.replaced.store(true, Ordering::Relaxed);
            return Err(refused);
        }
        name_current(&self.dir, &name)?;
        old.replaced.store(true, Ordering::Relaxed);
        Ok(Box::new(move || {
            *self.opened.write().unwrap_or_else(PoisonError::into_inner) = new;
        }))
    }

    fn scrub(&self) -> io::Result<Option<Box<dyn ScrubPass>>> {
        let dir = self.staging()?;
        let copy = dir.path().join("copy");
        self.current().copy(&copy)?;
        let pass = StatePass::open(dir, &copy, FAMILIES, family_options)?;
        Ok(Some(Box::new(pass)))
    }
}

impl Drop for OpenState {
    fn drop(&mut self) {
        if self.replaced.load(Ordering::Relaxed) {
            self.db.cancel_all_background_work(true);
            if let Err(error) = std::fs::remove_dir_all(&self.path) {
                tracing::warn!(path = %self.path.display(), %error, "an old state was left behind");
            }
        }
    }
}

impl OpenState {
    fn open(path: PathBuf, create: bool) -> io::Result<OpenState> {
        let mut options = Options::default();
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        options.set_atomic_flush(true);
        options.set_paranoid_checks(true);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        options.set_writable_file_max_buffer_size(FILE_BUFFER_BYTES);
        options.set_keep_log_file_num(LOG_FILES);
        options.set_max_log_file_size(4 << 20);
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let families = [KEYS, EVENTS, LEASES, META]
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(name, &cache)));
        let db = DB::open_cf_descriptors(&options, &path, families).map_err(io_error)?;
        let state = OpenState {
            db,
            path,
            replaced: false.into(),
        };
        // Else each file of events is written again for nothing but a few bits less in each key, as soon as no reader
        // holds an older snapshot.
        let never = [("bottommost_file_compaction_delay", "4294967295")];
        let events = state.family(EVENTS);
        state.db.set_options_cf(events, &never).map_err(io_error)?;
        Ok(state)
    }

    /// What is flushed, by links to its files.
    fn copy(&self, to: &Path) -> io::Result<()> {
        let checkpoint = Checkpoint::new(&self.db).map_err(io_error)?;
        checkpoint.create_checkpoint(to).map_err(io_error)
    }

    fn family(&self, name: &str) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(name).expect("opened with all families")
    }

    fn reader<'a>(&'a self, snapshot: Option<&'a Snapshot<'a>>) -> Reader<'a> {
        Reader {
            state: self,
            snapshot,
            keep: true,
        }
    }
}

/// For what clients read, of which a server above keeps much in memory as well: the files' blocks stand in the kernel's memory,
/// so a block here saves a copy of 16 KiB and its LZ4, and the cache is no larger than that pays for. The value before a write
/// is not kept here: what is written again soon is held pair by pair ([`crate::recent`]), and the rest comes in no order, so
/// that a block is of use for one pair of it, once. Memory of blocks that are let go at once stays in the processor's cache.
const BLOCK_CACHE_BYTES: usize = 2 << 20;
/// Keys of one question to RocksDB, which reads as many at a time: of more, it would only hold more values that are copied.
const KEYS_AT_ONCE: usize = 32;
/// Of what is on its way to a file, for each file: it stays in the processor's cache until the kernel takes it, which the
/// 1 MiB that is usual does not.
const FILE_BUFFER_BYTES: u64 = 256 << 10;
/// No less than a member flushes by itself ([`crate::Limits::snapshot_bytes`]), which gives the memory back at rest.
const WRITE_BUFFER_BYTES: usize = 48 << 20;

/// Files of keys, as they were flushed, that are merged with all others at once. To merge them takes time with each of all
/// keys that there are; that a read asks the filters of all files takes less than is saved by merging half as often.
const KEYS_FILES: i32 = 20;
/// Of a file of merged keys. Where a part of the keys is written again and again, as leases are, only the files with these are
/// merged with the new ones.
const KEYS_FILE_BYTES: u64 = 8 << 20;
/// Keys of an index that stand whole; those between two of them say how they differ from the one before. An index is always in
/// memory, and keys of one kind have a long beginning in common.
const INDEX_RESTART: i32 = 8;
/// Of a table of keys in memory, for its filter: 96 KiB, which is sixteen bits for each key even where values are small.
const MEMTABLE_FILTER: f64 = 0.002;

/// Of a batch, its head and what the position takes besides itself.
const BATCH_ROOM: usize = 64;

fn family_options(name: &str, cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(if name == EVENTS { 64 << 10 } else { 16 << 10 });
    blocks.set_index_block_restart_interval(INDEX_RESTART);
    if name == KEYS {
        blocks.set_bloom_filter(10.0, false);
    }
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(match name {
        KEYS | EVENTS => WRITE_BUFFER_BYTES,
        _ => 4 << 20,
    });
    // Values of now are written again and again as they are merged: pods take 16 % of their size, and 11 % with zstd, which
    // takes two and a half times as long. Events come in order, so that a file of them is moved down and never written again;
    // a value and the one before it stand side by side, and one of the two is saved. The quickest level of zstd, in which
    // earlier versions wrote them, takes two thirds of the room and nearly three times as long.
    options.set_compression_type(DBCompressionType::Lz4);
    // Compaction of history drops whole files if they are small.
    options.set_target_file_size_base(32 << 20);
    if name == KEYS {
        options.set_target_file_size_base(KEYS_FILE_BYTES);
        // Objects that are written often are merged with all others less often. The files are small, since the state is
        // flushed by all that is written, of which keys are a third.
        options.set_level_zero_file_num_compaction_trigger(KEYS_FILES);
        options.set_level_zero_slowdown_writes_trigger(KEYS_FILES + 12);
        options.set_level_zero_stop_writes_trigger(KEYS_FILES + 28);
        // Nearly all keys that are asked for are there, so one that is in no other file is in the last: it needs no filter.
        options.set_optimize_filters_for_hits(true);
        // Most values before a write that must be looked up stand in files: a few bits tell that without a search.
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER);
        options.set_memtable_whole_key_filtering(true);
        // Objects that come and go leave tombstones behind; a file full of them is worth compacting.
        options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
    }
    options
}

/// What was read is what was written: all of it, and nothing else.
fn check_hash(position: &Position, catalog: &Catalog) -> io::Result<()> {
    let found = catalog.state_hash();
    match kv::StateHash::from_bytes(&position.state_hash) {
        Some(stored) if stored != found => Err(disk::damaged(format!(
            "what is stored is not what was written: its hash is {:032x} and should be {:032x}",
            found.0, stored.0
        ))),
        _ => Ok(()),
    }
}

/// Reads, of now or of a snapshot.
struct Reader<'a> {
    state: &'a OpenState,
    snapshot: Option<&'a Snapshot<'a>>,
    /// Whether the cache shall keep what is read.
    keep: bool,
}

fn broken(error: impl std::fmt::Display) -> Broken {
    Broken(error.to_string())
}

impl Reader<'_> {
    /// For one pass over much, or for what is not asked for again.
    fn passing(self) -> Self {
        Reader {
            keep: false,
            ..self
        }
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options.fill_cache(self.keep);
        options
    }
}

impl Data for Reader<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        let found = self
            .state
            .db
            .get_cf_opt(self.state.family(KEYS), key, &self.options())
            .map_err(broken)?;
        let decode = |record| {
            disk::decode_value(Bytes::copy_from_slice(key), Bytes::from(record)).map_err(broken)
        };
        found.map(decode).transpose()
    }

    /// A block of several keys that stand in order is read once for [`KEYS_AT_ONCE`] of them, whether the cache keeps it or not.
    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
        let (db, family) = (&self.state.db, self.state.family(KEYS));
        let (options, is_sorted) = (self.options(), keys.is_sorted());
        let mut pairs = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let records = db.batched_multi_get_cf_opt(family, keys, is_sorted, &options);
            for (key, record) in keys.iter().zip(records) {
                let decode = |record: DBPinnableSlice<'_>| {
                    let key = Bytes::copy_from_slice(key);
                    disk::decode_value(key, Bytes::copy_from_slice(&record)).map_err(broken)
                };
                pairs.push(record.map_err(broken)?.map(decode).transpose()?);
            }
        }
        Ok(pairs)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        if range.is_empty() {
            return Ok(());
        }
        let mut options = self.options();
        match range {
            KeyRange::One(key) => {
                let after = [key.as_ref(), &[0]].concat();
                options.set_iterate_upper_bound(after);
            }
            KeyRange::Span { end, .. } => options.set_iterate_upper_bound(end.as_ref()),
            KeyRange::From(_) => {}
        }
        let from = IteratorMode::From(range.start(), Direction::Forward);
        for item in self
            .state
            .db
            .iterator_cf_opt(self.state.family(KEYS), options, from)
        {
            let (key, record) = item.map_err(broken)?;
            let kv = disk::decode_value(Bytes::from(key), Bytes::from(record)).map_err(broken)?;
            if let ControlFlow::Break(()) = visit(kv) {
                break;
            }
        }
        Ok(())
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        let key = disk::event_key(id.revision, id.sub);
        let found = self
            .state
            .db
            .get_cf_opt(self.state.family(EVENTS), key, &self.options())
            .map_err(broken)?;
        let record =
            found.ok_or_else(|| Broken(format!("event {}.{} is missing", id.revision, id.sub)))?;
        disk::decode_event(record.into()).map_err(broken)
    }
}

impl Data for OpenState {
    /// For what is applied, which asks for the value before a write: see [`BLOCK_CACHE_BYTES`].
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.reader(None).passing().get(key)
    }

    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
        self.reader(None).passing().get_many(keys)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        self.reader(None).scan(range, visit)
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        self.reader(None).event(id)
    }
}

/// A snapshot that reads as data.
struct Frozen<'a> {
    state: &'a OpenState,
    snapshot: Snapshot<'a>,
    keep: bool,
}

impl Frozen<'_> {
    fn reader(&self) -> Reader<'_> {
        Reader {
            keep: self.keep,
            ..self.state.reader(Some(&self.snapshot))
        }
    }
}

impl Data for Frozen<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.reader().get(key)
    }

    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
        self.reader().get_many(keys)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        self.reader().scan(range, visit)
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        self.reader().event(id)
    }
}

impl StateDb for OpenState {
    fn load(&self) -> io::Result<(Position, Catalog)> {
        let stored = self
            .db
            .get_cf(self.family(META), POSITION)
            .map_err(io_error)?;
        let position = match stored {
            None => Position {
                revision: 1,
                ..Position::default()
            },
            Some(bytes) => Position::decode(bytes.as_slice()).map_err(disk::damaged)?,
        };
        let mut catalog = Catalog::new();
        catalog.load_revisions(position.revision, position.compact_revision);
        catalog.load_clock(position.now_ms);
        let records = IteratorMode::From(RECORD, Direction::Forward);
        for item in self.db.iterator_cf(self.family(META), records) {
            let (name, value) = item.map_err(io_error)?;
            let Some(name) = name.strip_prefix(RECORD) else {
                break;
            };
            catalog.load_record(Bytes::copy_from_slice(name), Bytes::from(value));
        }
        for item in self
            .db
            .iterator_cf(self.family(LEASES), IteratorMode::Start)
        {
            let (_, record) = item.map_err(io_error)?;
            catalog.load_lease(kv::Lease::decode(record.as_ref()).map_err(disk::damaged)?);
        }
        self.load_many(&position, &mut catalog)?;
        check_hash(&position, &catalog)?;
        Ok((position, catalog))
    }

    fn write(&self, writes: &[kv::Write], position: &Position) -> io::Result<()> {
        let (keys, events, leases) = (self.family(KEYS), self.family(EVENTS), self.family(LEASES));
        // So large at once that it is not copied as it grows.
        let bytes = footprint(writes) as usize + position.encoded_len() + BATCH_ROOM;
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        // One piece of memory for each record in turn: it stays in the processor's cache.
        let mut record = Vec::new();
        for write in writes {
            match write {
                kv::Write::Put(kv) => {
                    disk::write_value(kv, &mut record);
                    batch.put_cf(keys, &kv.key, &record);
                }
                kv::Write::Delete(key) => batch.delete_cf(keys, key),
                kv::Write::Events {
                    revision,
                    now_ms,
                    events: list,
                } => {
                    for (sub, event) in list.iter().enumerate() {
                        let key = disk::event_key(*revision, sub as u32);
                        disk::write_event(*now_ms, event, &mut record);
                        batch.put_cf(events, key, &record);
                    }
                }
                kv::Write::Lease(lease) => {
                    batch.put_cf(leases, lease.id.to_be_bytes(), lease.encode_to_vec());
                }
                kv::Write::LeaseEnd(id) => batch.delete_cf(leases, id.to_be_bytes()),
                kv::Write::Compact(revision) => {
                    batch.delete_range_cf(
                        events,
                        disk::event_key(0, 0),
                        disk::event_key(*revision, 0),
                    );
                }
                kv::Write::Record { name, value } => {
                    let key = [RECORD, name].concat();
                    match value {
                        Some(value) => batch.put_cf(self.family(META), key, value),
                        None => batch.delete_cf(self.family(META), key),
                    }
                }
                // These stand in the position.
                kv::Write::Revision(_) | kv::Write::Hash(_) => {}
            }
        }
        batch.put_cf(self.family(META), POSITION, position.encode_to_vec());
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(io_error)
    }

    fn flush(&self) -> io::Result<()> {
        let families = [KEYS, EVENTS, LEASES, META].map(|name| self.family(name));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(io_error)
    }

    fn checkpoint(&self, to: &Path) -> io::Result<Position> {
        // Without a WAL the checkpoint is what is flushed; creating it flushes too, this makes it explicit.
        self.flush()?;
        self.copy(to)?;
        position_in(to)?.ok_or_else(|| disk::damaged("the copy has no position"))
    }

    fn snapshot(&self) -> Box<dyn Data + '_> {
        Box::new(Frozen {
            state: self,
            snapshot: self.db.snapshot(),
            keep: true,
        })
    }

    fn scan_snapshot(&self) -> Box<dyn Data + '_> {
        Box::new(Frozen {
            state: self,
            snapshot: self.db.snapshot(),
            keep: false,
        })
    }

    fn next_moment(&self, from: i64) -> Result<Option<Moment>, Broken> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(disk::event_key(from, 0));
        let mut events = self
            .db
            .iterator_cf_opt(self.family(EVENTS), options, IteratorMode::Start);
        let Some(first) = events.next() else {
            return Ok(None);
        };
        let (key, record) = first.map_err(broken)?;
        Ok(Some(Moment {
            revision: disk::decode_event_key(&key).map_err(broken)?.revision,
            unix_ms: disk::event_time(record.into()).map_err(broken)?,
        }))
    }

    fn events(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(EventId, Event) -> bool,
    ) -> Result<(), Broken> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(disk::event_key(from, 0));
        if to < i64::MAX {
            options.set_iterate_upper_bound(disk::event_key(to + 1, 0));
        }
        for item in self
            .db
            .iterator_cf_opt(self.family(EVENTS), options, IteratorMode::Start)
        {
            let (key, record) = item.map_err(broken)?;
            let id = disk::decode_event_key(&key).map_err(broken)?;
            if !visit(id, disk::decode_event(record.into()).map_err(broken)?) {
                break;
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        let property = |name: &str, family: &str| {
            let value = self.db.property_int_value_cf(self.family(family), name);
            value.ok().flatten().unwrap_or(0)
        };
        let of = |family: &str| {
            property("rocksdb.total-sst-files-size", family)
                + property("rocksdb.cur-size-all-mem-tables", family)
        };
        [KEYS, EVENTS, LEASES, META].into_iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    use super::*;

    /// A state of this revision, flushed.
    fn stand_at(state: &RocksState, revision: i64) {
        let position = Position {
            revision,
            ..Position::default()
        };
        state.opened().write(&[], &position).unwrap();
        state.opened().flush().unwrap();
    }

    fn revision(state: &RocksState) -> i64 {
        state.opened().load().unwrap().0.revision
    }

    /// Of the states that are there.
    fn generations(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join("state")).unwrap();
        let entries = entries.map(|entry| entry.unwrap());
        let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        directories
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    /// A directory with a state of revision 9 and, beside it, a snapshot of revision 5 that shall take its place.
    fn with_snapshot(dir: &Path) -> (RocksState, PathBuf) {
        let state = RocksState::open(dir, true).unwrap();
        stand_at(&state, 5);
        let snapshot = dir.join("snapshot");
        state.opened().checkpoint(&snapshot).unwrap();
        stand_at(&state, 9);
        (state, snapshot)
    }

    fn manifest(dir: &Path) -> PathBuf {
        let files = fs::read_dir(dir.join("state").join(generation_name(1))).unwrap();
        let mut paths = files.map(|entry| entry.unwrap().path());
        let is_manifest = |path: &PathBuf| path.to_string_lossy().contains("/MANIFEST-");
        paths.find(is_manifest).expect("it has one")
    }

    /// Where the lengths of the records of this file begin, which is of one block: each is a checksum of four bytes, two
    /// bytes of length, one of kind, and so much data.
    fn lengths(bytes: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut at = 4;
        while let Some(length) = bytes.get(at..at + 2) {
            found.push(at);
            at += 7 + usize::from(u16::from_le_bytes([length[0], length[1]]));
        }
        found
    }

    #[test]
    fn a_look_at_a_state_with_a_bit_turned_in_its_list_of_files_takes_nothing_away() {
        let dir = tempfile::tempdir().unwrap();
        let state = RocksState::open(dir.path(), true).unwrap();
        (1..=6).for_each(|revision| stand_at(&state, revision));
        drop(state);
        let look = || look_at(dir.path()).map(|found| found.unwrap_or_default().revision);
        let (path, mut refused, mut older) = (manifest(dir.path()), 0, 0);
        let bytes = fs::read(&path).unwrap();
        // Half a length more, which is beyond the end for the last ones.
        for at in lengths(&bytes) {
            let mut turned = bytes.clone();
            turned[at + 1] ^= 1;
            fs::write(&path, &turned).unwrap();
            match look() {
                Err(_) => refused += 1,
                Ok(6) => {}
                Ok(revision) => {
                    assert!(revision < 6);
                    older += 1;
                }
            }
            assert_eq!(manifest(dir.path()), path);
            fs::write(&path, &bytes).unwrap();
        }
        // Where it is not as described, nobody would have to look first.
        assert!(refused > 0 && older > 0, "{refused} {older}");
        assert_eq!(look().unwrap(), 6);
        assert_eq!(revision(&RocksState::open(dir.path(), false).unwrap()), 6);
    }

    #[test]
    fn a_replacement_that_a_crash_cut_short_is_whole_or_has_not_happened() {
        let next = generation_name(2);
        for cut in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let (state, snapshot) = with_snapshot(dir.path());
            drop(state);
            let states = dir.path().join("state");
            fs::rename(&snapshot, states.join(&next)).unwrap();
            match cut {
                // Renamed into its place.
                0 => {}
                // Of the rename of a directory across a crash, half of its files.
                1 => fs::remove_file(states.join(&next).join("CURRENT")).unwrap(),
                2 => fs::write(states.join("CURRENT.new"), "00").unwrap(),
                // Named, and the old one is not removed yet.
                _ => name_current(&states, &next).unwrap(),
            }
            for _ in 0..2 {
                let state = RocksState::open(dir.path(), false).unwrap();
                let (expected, left) = if cut < 3 { (9, 1) } else { (5, 2) };
                assert_eq!(revision(&state), expected, "cut {cut}");
                assert_eq!(generations(dir.path()), [generation_name(left)]);
            }
        }
    }

    #[test]
    fn the_value_before_a_write_is_not_kept_in_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let state = OpenState::open(dir.path().into(), true).unwrap();
        let pair = KeyValue {
            key: "key".into(),
            value: vec![b'v'; 100].into(),
            mod_revision: 7,
            ..KeyValue::default()
        };
        let writes = [kv::Write::Put(pair.clone())];
        state.write(&writes, &Position::default()).unwrap();
        state.flush().unwrap();
        let cached = || {
            let family = state.family(KEYS);
            let usage = state
                .db
                .property_int_value_cf(family, "rocksdb.block-cache-usage");
            usage.unwrap().unwrap()
        };
        let before = cached();
        assert_eq!(state.get(b"key").unwrap(), Some(pair.clone()));
        assert_eq!(cached(), before);
        assert_eq!(state.snapshot().get(b"key").unwrap(), Some(pair));
        assert!(cached() > before);
    }

    #[test]
    fn a_block_of_many_keys_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let state = OpenState::open(dir.path().into(), true).unwrap();
        let pair = |number: u32| KeyValue {
            key: format!("{number:03}").into(),
            value: vec![b'v'; 50].into(),
            mod_revision: 7,
            ..KeyValue::default()
        };
        let pairs: Vec<KeyValue> = (0..100).map(pair).collect();
        let writes: Vec<kv::Write> = pairs.iter().cloned().map(kv::Write::Put).collect();
        state.write(&writes, &Position::default()).unwrap();
        state.flush().unwrap();
        // Whatever opens the file is not counted.
        assert_eq!(state.get(b"000").unwrap().as_ref(), Some(&pairs[0]));
        let cached = || {
            let family = state.family(KEYS);
            let usage = state
                .db
                .property_int_value_cf(family, "rocksdb.block-cache-usage");
            usage.unwrap().unwrap()
        };
        let before = cached();
        let keys: Vec<Bytes> = pairs.iter().map(|pair| pair.key.clone()).collect();
        let mut counted = PerfContext::default();
        set_perf_stats(PerfStatsLevel::EnableCount);
        counted.reset();
        let found = state.get_many(&keys).unwrap();
        let blocks = counted.metric(PerfMetric::BlockReadCount);
        set_perf_stats(PerfStatsLevel::Disable);
        assert!(found.iter().flatten().eq(&pairs), "{found:?}");
        assert!(
            (1..=8).contains(&blocks),
            "{blocks} blocks for keys that stand in one"
        );
        assert_eq!(cached(), before);

        let keys = ["042", "none", "007"].map(Bytes::from);
        let found = state.get_many(&keys).unwrap();
        let expected = [Some(pair(42)), None, Some(pair(7))];
        assert_eq!(found, expected, "in no order, and one that is not there");
        assert!(state.get_many(&[]).unwrap().is_empty());
    }

    #[test]
    fn events_of_earlier_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let event = Event {
            kv: KeyValue {
                key: "key".into(),
                value: vec![b'v'; 100_000].into(),
                mod_revision: 7,
                ..KeyValue::default()
            },
            ..Event::default()
        };
        {
            let cache = Cache::new_lru_cache(1 << 20);
            let mut options = Options::default();
            options.create_if_missing(true);
            options.create_missing_column_families(true);
            let families = FAMILIES.iter().map(|name| {
                let mut options = family_options(name, &cache);
                options.set_compression_type(DBCompressionType::Zstd);
                ColumnFamilyDescriptor::new(*name, options)
            });
            let db = DB::open_cf_descriptors(&options, dir.path(), families).unwrap();
            let family = db.cf_handle(EVENTS).unwrap();
            let mut record = Vec::new();
            disk::write_event(1, &event, &mut record);
            db.put_cf(family, disk::event_key(7, 0), record).unwrap();
            db.flush_cf(family).unwrap();
        }
        let state = OpenState::open(dir.path().into(), false).unwrap();
        let id = EventId {
            revision: 7,
            sub: 0,
        };
        assert_eq!(state.event(id).unwrap(), event);
    }

    #[test]
    fn no_bit_of_what_names_the_state_may_be_another() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = with_snapshot(dir.path());
        drop(state);
        let current = dir.path().join("state/CURRENT");
        let content = fs::read(&current).unwrap();
        for bit in 0..content.len() * 8 {
            let mut turned = content.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            fs::write(&current, turned).unwrap();
            let error = RocksState::open(dir.path(), false).map(|_| ()).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidData,
                "bit {bit}: {error}"
            );
        }
        fs::write(&current, content).unwrap();
        assert_eq!(revision(&RocksState::open(dir.path(), false).unwrap()), 9);
    }

    #[test]
    fn a_snapshot_that_is_refused_leaves_the_state_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (state, snapshot) = with_snapshot(dir.path());
        let refused = state.install(&snapshot, &mut |db| {
            assert_eq!(db.load().unwrap().0.revision, 5);
            Err(disk::damaged("of another cluster"))
        });
        assert!(refused.is_err());
        drop(refused);
        assert_eq!(revision(&state), 9);
        assert_eq!(generations(dir.path()), [generation_name(1)]);
        stand_at(&state, 10);
        drop(state);
        assert_eq!(revision(&RocksState::open(dir.path(), false).unwrap()), 10);
    }
}

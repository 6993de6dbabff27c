//! A pass over all of the state as it is on the disk. What the running database has read once it keeps, so the pass
//! opens a copy: it shares the files, and has a memory of its own. Opening it checks what names the tables and what is at
//! their ends; then every block of data is read. A filter, which only saves reads, RocksDB leaves aside without a word
//! when it is damaged.

use std::io;
use std::path::Path;

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Options, ReadOptions};

use crate::env::ScrubPass;
use crate::env::tempdir::StagingDir;
use crate::rocks::io_error;

/// Of keys and values, at once.
const STEP: u64 = 1 << 20;
/// What is read is not read again.
const CACHE_BYTES: usize = 1 << 20;

pub(super) struct StatePass {
    // First, so that it is closed when its directory goes.
    db: DB,
    _dir: StagingDir,
    families: &'static [&'static str],
    /// Which of them it is at, and the key to go on with.
    at: usize,
    next: Option<Vec<u8>>,
}

impl StatePass {
    /// Of a copy in this directory. `options` are those of each family, with this cache.
    pub(super) fn open(
        dir: StagingDir,
        copy: &Path,
        families: &'static [&'static str],
        options: impl Fn(&str, &Cache) -> Options,
    ) -> io::Result<StatePass> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let mut whole = Options::default();
        whole.set_paranoid_checks(true);
        let descriptors = families
            .iter()
            .map(|name| ColumnFamilyDescriptor::new(*name, options(name, &cache)));
        let db = DB::open_cf_descriptors_read_only(&whole, copy, descriptors, false);
        Ok(StatePass {
            db: db.map_err(io_error)?,
            _dir: dir,
            families,
            at: 0,
            next: None,
        })
    }
}

impl ScrubPass for StatePass {
    fn step(&mut self) -> io::Result<Option<u64>> {
        let Some(name) = self.families.get(self.at) else {
            return Ok(None);
        };
        let family = self.db.cf_handle(name).expect("opened with it");
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_verify_checksums(true);
        let mut records = self.db.raw_iterator_cf_opt(family, options);
        match &self.next {
            Some(key) => records.seek(key),
            None => records.seek_to_first(),
        }
        let mut bytes = 0;
        while let (Some(key), Some(value)) = (records.key(), records.value()) {
            if bytes >= STEP {
                self.next = Some(key.to_vec());
                return Ok(Some(bytes));
            }
            bytes += (key.len() + value.len()) as u64;
            records.next();
        }
        records.status().map_err(io_error)?;
        self.at += 1;
        self.next = None;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

    use kv::{Event, KeyValue, Write};

    use crate::disk::Position;
    use crate::env::StateDisk;
    use crate::rocks::state::RocksState;

    use super::*;

    fn pass(state: &RocksState) -> io::Result<u64> {
        let mut pass = state.scrub()?.expect("a state on a disk");
        let mut bytes = 0;
        while let Some(step) = pass.step()? {
            bytes += step;
        }
        Ok(bytes)
    }

    /// Nothing that can be compressed.
    fn noise(of: i64) -> Vec<u8> {
        let numbers = (0..300).map(|at| (of * 300 + at) as u32);
        let mixed = numbers.map(|number| number.wrapping_mul(2_654_435_761).rotate_left(15));
        mixed
            .map(|number| (number.wrapping_mul(number | 1) >> 24) as u8)
            .collect()
    }

    /// Keys with values of some size, and their events.
    fn fill(state: &RocksState, revisions: std::ops::Range<i64>) {
        for revision in revisions {
            let kv = KeyValue {
                key: format!("key/{revision:06}").into(),
                value: noise(revision).into(),
                mod_revision: revision,
                ..KeyValue::default()
            };
            let event = Event {
                kv: kv.clone(),
                ..Event::default()
            };
            let writes = [
                Write::Put(kv),
                Write::Events {
                    revision,
                    now_ms: 1,
                    events: vec![event].into(),
                },
            ];
            let position = Position {
                revision,
                ..Position::default()
            };
            state.opened().write(&writes, &position).unwrap();
        }
        state.opened().flush().unwrap();
    }

    fn tables(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.join("state/0000000001")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "sst"))
            .collect()
    }

    fn flip(path: &Path, at: u64) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    #[test]
    fn a_pass_reads_all_there_is_in_steps_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let state = RocksState::open(dir.path(), true).unwrap();
        // Nothing but where it stands.
        fill(&state, 2..3);
        let least = pass(&state).unwrap();
        fill(&state, 3..6000);
        let mut steps = state.scrub().unwrap().unwrap();
        let (mut count, mut bytes) = (0, 0);
        while let Some(step) = steps.step().unwrap() {
            assert!(step < 2 * STEP);
            (count, bytes) = (count + 1, bytes + step);
        }
        // Each value is there twice.
        assert!(bytes > 6000 * 2 * 300 && bytes > least, "{bytes}");
        assert!(count > 4, "{count} steps");
        drop(steps);
        assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
    }

    /// Also where the running database has it in memory, and reads on as if nothing were wrong.
    #[test]
    fn a_bit_that_has_turned_in_a_table_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let state = RocksState::open(dir.path(), true).unwrap();
        fill(&state, 2..400);
        state.opened().load().unwrap();
        pass(&state).unwrap();
        let tables = tables(dir.path());
        assert!(tables.len() >= 3, "{tables:?}");
        for table in &tables {
            let bytes = fs::metadata(table).unwrap().len();
            // Of the large ones the last part has the filter.
            let places = (0..16).map(|part| bytes * part / 16 + part % 7);
            let end = (1..50).step_by(9).map(|back| bytes - back);
            for at in places.chain(end) {
                flip(table, at);
                let found = pass(&state).map_err(|error| error.kind());
                assert_eq!(
                    found.err(),
                    Some(io::ErrorKind::InvalidData),
                    "{at} of {bytes} of {table:?}"
                );
                flip(table, at);
            }
        }
        pass(&state).unwrap();
    }

    #[test]
    fn a_bit_that_has_turned_in_what_names_the_tables_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let state = RocksState::open(dir.path(), true).unwrap();
        fill(&state, 2..50);
        let manifest = fs::read_dir(dir.path().join("state/0000000001")).unwrap();
        let mut names = manifest.map(|entry| entry.unwrap().path());
        let manifest = names
            .find(|path| path.to_string_lossy().contains("MANIFEST-"))
            .unwrap();
        flip(&manifest, 40);
        assert!(pass(&state).is_err());
        flip(&manifest, 40);
        pass(&state).unwrap();
    }
}

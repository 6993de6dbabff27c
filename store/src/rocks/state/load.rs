//! What a start waits for where there is much: all live keys and all retained events are read, by several threads.

use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::thread;

use kv::{Catalog, History};

use super::{EVENTS, KEYS, OpenState};
use crate::disk::{self, Position};
use crate::rocks::io_error;

/// Events are read by so many threads at most.
const THREADS_MAX: usize = 4;
/// Fewer revisions are not worth a thread.
const REVISIONS_EACH: i64 = 10_000;

/// Some revisions, from the first on, as one range for each of at most so many threads. The last one has no end.
fn parts(first: i64, last: i64, threads: usize) -> Vec<Range<i64>> {
    let revisions = last.saturating_sub(first);
    let threads = i64::try_from(threads.clamp(1, THREADS_MAX)).unwrap_or(1);
    let parts = (revisions / REVISIONS_EACH).clamp(1, threads);
    let begin = |part: i64| match part == parts {
        true => i64::MAX,
        false => first + revisions / parts * part,
    };
    (0..parts)
        .map(|part| begin(part)..begin(part + 1))
        .collect()
}

impl OpenState {
    /// Has the catalog take note of keys and changes; of the rest it knows already. Every block of both is read, and its
    /// checksum compared.
    pub(super) fn load_many(&self, position: &Position, catalog: &mut Catalog) -> io::Result<()> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let parts = parts(position.compact_revision, position.revision, threads);
        let history = thread::scope(|scope| {
            let mut reading = Vec::new();
            for part in parts {
                let thread = thread::Builder::new().name("load-history".into());
                reading.push(thread.spawn_scoped(scope, move || self.history(&part))?);
            }
            self.load_keys(catalog)?;
            let mut history = History::default();
            for part in reading {
                let panicked = |_| {
                    Err(io::Error::other(
                        "a thread that reads the events has panicked",
                    ))
                };
                history.append(part.join().unwrap_or_else(panicked)?);
            }
            Ok::<_, io::Error>(history)
        });
        catalog.load_history(history?);
        Ok(())
    }

    /// What the events of these revisions say of which keys changed when.
    fn history(&self, revisions: &Range<i64>) -> io::Result<History> {
        let mut options = self.reader(None).passing().options();
        options.set_iterate_lower_bound(disk::event_key(revisions.start, 0));
        if revisions.end < i64::MAX {
            options.set_iterate_upper_bound(disk::event_key(revisions.end, 0));
        }
        let mut history = History::default();
        let mut events = (self.db).raw_iterator_cf_opt(self.family(EVENTS), options);
        events.seek_to_first();
        while let (Some(key), Some(record)) = (events.key(), events.value()) {
            let id = disk::decode_event_key(key)?;
            let (key, change) = disk::decode_change(id, record)?;
            history.push(&key, change);
            events.next();
        }
        events.status().map_err(io_error)?;
        Ok(history)
    }

    /// All live keys. None of the values is copied: they are read for nothing but the hash.
    fn load_keys(&self, catalog: &mut Catalog) -> io::Result<()> {
        let options = self.reader(None).passing().options();
        let mut keys = self.db.raw_iterator_cf_opt(self.family(KEYS), options);
        keys.seek_to_first();
        while let (Some(key), Some(record)) = (keys.key(), keys.value()) {
            catalog.load_key(disk::decode_pair(key, record)?);
            keys.next();
        }
        keys.status().map_err(disk::damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_revision_is_of_one_part() {
        const END: i64 = i64::MAX;
        for (first, last, threads, expected) in [
            (0, 1, 8, &[(0, END)][..]),
            (5, 0, 8, &[(5, END)]),
            (0, 19_999, 8, &[(0, END)]),
            (7, 20_008, 8, &[(7, 10_007), (10_007, END)]),
            (0, 100_000, 0, &[(0, END)]),
            (0, 100_000, 1, &[(0, END)]),
            (0, 100_000, 2, &[(0, 50_000), (50_000, END)]),
            (
                0,
                45_000,
                64,
                &[
                    (0, 11_250),
                    (11_250, 22_500),
                    (22_500, 33_750),
                    (33_750, END),
                ],
            ),
        ] {
            let parts = parts(first, last, threads);
            let parts: Vec<_> = parts.iter().map(|part| (part.start, part.end)).collect();
            assert_eq!(parts, expected, "{first} {last} {threads}");
        }
    }
}

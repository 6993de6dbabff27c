//! The `raft-log` crate under the load of the other candidates, with memory for as many entries as they have, and
//! without the wait for more to sync with which it would otherwise begin each sync: there is one writer.

#[path = "../../load.rs"]
mod load;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{Config, RaftLog, Types};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Plain;

impl Types for Plain {
    type LogId = (u64, u64);
    type LogPayload = Vec<u8>;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = SyncSender<io::Result<()>>;

    fn log_index(id: &Self::LogId) -> u64 {
        id.1
    }

    fn payload_size(payload: &Self::LogPayload) -> u64 {
        payload.len() as u64
    }
}

struct Crate(RaftLog<Plain>);

impl load::Log for Crate {
    fn append(&mut self, first: u64, count: u64, bytes: usize) {
        let entry = |index| ((1, index), load::payload(index, bytes));
        self.0
            .append((first..first + count).map(entry))
            .expect("appended");
        let (sender, done) = sync_channel(1);
        self.0.flush(true, Some(sender)).expect("flushing");
        done.recv().expect("an answer").expect("flushed");
    }

    fn commit(&mut self, index: u64) {
        self.0.commit((1, index)).expect("committed");
        self.0.flush(false, None).expect("written");
    }

    fn purge(&mut self, index: u64) {
        self.0.purge((1, index)).expect("purged");
        self.0.flush(false, None).expect("written");
    }
}

fn open(_engine: &str, dir: &Path) -> Box<dyn load::Log> {
    let mut config = Config::new(dir.display());
    config.log_cache_max_items = Some(8192);
    config.log_cache_capacity = Some(32 << 20);
    config.wal.chunk_max_size = Some(64 << 20);
    config.wal.flush_batch_wait = Some(Duration::ZERO);
    Box::new(Crate(RaftLog::open(Arc::new(config)).expect("opened")))
}

fn main() {
    load::child(&open);
}

//! openraft's own test suite for log storage and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use store::raft::log::LogStore;
use store::raft::machine::{Machine, Replica};
use store::raft::types::TypeConfig;
use store::rocks::state::RocksState;
use store::wal::Wal;
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let log = Wal::open(dir.path(), true).unwrap();
        let log = LogStore::start(Arc::new(log)).unwrap().0;
        let state = RocksState::open(dir.path(), true).unwrap();
        let machine = Machine::new(Replica::load(1, Arc::new(state)).unwrap());
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_suite() {
    Suite::<TypeConfig, LogStore, Machine, Builder, TempDir>::test_all(Builder)
        .await
        .unwrap();
}

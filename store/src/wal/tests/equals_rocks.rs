//! The same changes to this log and to the one in RocksDB: both must say the same, now and after each opening.

use proptest::prelude::*;

use super::{Workload, said};
use crate::env::LogDisk;
use crate::rocks::log::RocksLog;
use crate::wal::files::Directory;
use crate::wal::{Options, Wal};

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_logs_say_the_same(seed: u64, large in 16u64..6000, reopen in 2usize..15) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { first_bytes: 8 << 10, largest_bytes: 32 << 10, beside: true };
        let open = |create| {
            let folder = std::sync::Arc::new(Directory::new(dir.path()));
            let ours = Wal::open_in(folder, options, create).unwrap();
            (ours, RocksLog::open(dir.path(), create).unwrap())
        };
        let (mut ours, mut rocks) = open(true);
        let mut work = Workload::new(seed, large);
        for round in 0..45 {
            let (ops, durable) = work.batch();
            ours.write(&ops, durable).unwrap();
            rocks.write(&ops, durable).unwrap();
            prop_assert_eq!(ours.read(0..u64::MAX).unwrap(), rocks.read(0..u64::MAX).unwrap());
            let from = work.dice.below(40);
            let part = from..from + work.dice.below(20);
            prop_assert_eq!(ours.read(part.clone()).unwrap(), rocks.read(part).unwrap());
            if round % reopen == 0 {
                drop((ours, rocks));
                (ours, rocks) = open(false);
                prop_assert_eq!(said(&ours), said(&rocks));
                prop_assert_eq!(&said(&ours), &work.model.0);
            }
        }
    }
}

//! Which revision was the newest when.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use kv::{Refusal, Store, StoreError};
use store::env::Clock;
use store::{Limits, Moment};

use crate::harness::{Cluster, put};

/// Tells the time that a test has set.
struct WallClock {
    unix_ms: AtomicI64,
    start: Instant,
}

impl Clock for WallClock {
    fn unix_ms(&self) -> i64 {
        self.unix_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_names_the_newest_revision_also_after_a_restart_and_a_compaction() {
    let clock = Arc::new(WallClock {
        unix_ms: 1000.into(),
        start: Instant::now(),
    });
    let mut cluster = Cluster::start_with(1, Limits::default(), Some(clock.clone())).await;
    let moment = |revision, unix_ms| Ok(Moment { revision, unix_ms });
    assert_eq!(cluster.node(1).revision_at(5000), moment(1, 0));
    // The clock goes back once, which no reader shall notice.
    for (n, now) in [1000, 2000, 1500, 3000].into_iter().enumerate() {
        clock.unix_ms.store(now, Ordering::SeqCst);
        let revision = put(cluster.node(1), "key", &format!("{n}")).await;
        assert_eq!(revision, n as i64 + 2);
    }
    for restarted in [false, true] {
        if restarted {
            cluster.nodes.remove(&1).unwrap().shutdown().await;
            cluster.run(1).await.unwrap().wait_ready().await.unwrap();
        }
        let node = cluster.node(1);
        assert_eq!(node.revision_at(999), moment(1, 0));
        assert_eq!(node.revision_at(1000), moment(2, 1000));
        assert_eq!(node.revision_at(1999), moment(2, 1000));
        assert_eq!(node.revision_at(2000), moment(4, 2000));
        assert_eq!(node.revision_at(i64::MAX), moment(5, 3000));
        assert_eq!(node.time_of(3), moment(3, 2000));
        let future = Err(StoreError::Refused(Refusal::FutureRevision));
        assert_eq!(node.time_of(6), future);
    }
    let node = cluster.node(1);
    node.compact(4).await.unwrap();
    let compacted = Refusal::Compacted {
        compact_revision: 4,
    };
    assert_eq!(node.revision_at(1999), Err(StoreError::Refused(compacted)));
    assert_eq!(node.revision_at(2000), moment(4, 2000));
    assert_eq!(node.revision_at(3000), moment(5, 3000));
}

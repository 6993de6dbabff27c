//! Leases on a real clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv::Store;
use store::Limits;
use store::env::Clock;

use crate::harness::{Cluster, eventually, get, put, put_request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_nobody_renews_ends_and_a_renewed_one_does_not() {
    let cluster = Cluster::start(1, Limits::default()).await;
    let node = cluster.node(1);
    let (dying, ttl) = node.lease_grant(0, 1).await.unwrap().body;
    assert_eq!(ttl, 2, "raised to one and a half elections");
    let (living, _) = node.lease_grant(0, 3).await.unwrap().body;
    node.txn(put_request("dying", "x", dying)).await.unwrap();
    node.txn(put_request("living", "x", living)).await.unwrap();
    let status = node.lease_time_to_live(living, true).await.unwrap().body;
    assert_eq!((status.granted_ttl_seconds, status.keys.len()), (3, 1));
    eventually("end of the lease", || async {
        assert_eq!(node.lease_keep_alive(living).await.unwrap().body, 3);
        get(node, "dying").await.is_none().then_some(())
    })
    .await;
    assert_eq!(node.leases().await.unwrap().body, [living]);
    assert_eq!(get(node, "living").await.as_deref(), Some("x"));
    assert_eq!(node.lease_keep_alive(dying).await.unwrap().body, 0);
    assert_eq!(
        node.lease_time_to_live(dying, false)
            .await
            .unwrap()
            .body
            .ttl_seconds,
        -1
    );
    node.lease_revoke(living).await.unwrap();
    assert_eq!(get(node, "living").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_outlive_a_leader_and_are_renewed_through_any_member() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    let survivor = cluster.follower().await;
    let (id, _) = cluster
        .node(survivor)
        .lease_grant(0, 600)
        .await
        .unwrap()
        .body;
    cluster
        .node(survivor)
        .txn(put_request("key", "x", id))
        .await
        .unwrap();
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let renewed = cluster.node(survivor).lease_keep_alive(id).await.unwrap();
    assert_eq!(renewed.body, 600);
    let left = cluster
        .node(survivor)
        .lease_time_to_live(id, false)
        .await
        .unwrap()
        .body
        .ttl_seconds;
    assert!((590..=600).contains(&left), "{left} seconds");
    assert_eq!(
        get(cluster.node(survivor), "key").await.as_deref(),
        Some("x")
    );
}

/// Leases run on this, everything else on the real clock.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn unix_ms(&self) -> i64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// The end of a lease is proposed while no follower can be reached, and the proposal is late. A renewal that comes now
/// must not be acknowledged: the proposal is still in the log and is committed when the followers are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_renewal_is_not_overtaken_by_an_end_that_was_proposed_before() {
    let limits = Limits {
        request_deadline: Duration::from_millis(100),
        ..Limits::default()
    };
    let clock = Arc::new(Hand::default());
    let cluster = Cluster::start_with(3, limits, Some(clock.clone())).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader).clone();
    let id = eventually("lease", || async { node.lease_grant(0, 60).await.ok() })
        .await
        .body
        .0;
    // So that the leader follows the lease from now on.
    eventually("renewal", || async { node.lease_keep_alive(id).await.ok() }).await;
    put(&node, "key", "value").await;

    cluster.wires.cut(&format!("m{leader}"));
    clock.0.fetch_add(61, Ordering::SeqCst);
    // Shorter than an election, so that the same leader goes on; longer than a tick and the deadline of a request.
    let end = Instant::now() + Duration::from_millis(700);
    let mut acknowledged = false;
    while !acknowledged && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(360)).await;
        acknowledged = matches!(node.lease_keep_alive(id).await, Ok(answer) if answer.body > 0);
    }
    cluster.wires.mend(&format!("m{leader}"));
    // Behind everything that was in the log.
    put(&node, "key", "value 2").await;
    let left = eventually("leases", || async { node.leases().await.ok() }).await;
    if acknowledged {
        assert_eq!(left.body, [id], "the lease was renewed, and is gone");
    }
}

/// A wall clock that a test sets; what measures time is the real one.
struct Wall {
    unix_ms: AtomicI64,
    start: Instant,
}

impl Wall {
    fn at(unix_ms: i64) -> Arc<Wall> {
        Arc::new(Wall {
            unix_ms: unix_ms.into(),
            start: Instant::now(),
        })
    }
}

impl Clock for Wall {
    fn unix_ms(&self) -> i64 {
        self.unix_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Members whose clocks are years apart, and jump.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jumps_of_the_wall_clock_end_no_lease_and_stop_no_member() {
    const YEAR: i64 = 365 * 24 * 3600 * 1000;
    let limits = Limits {
        compare_interval: Duration::from_millis(20),
        ..Limits::default()
    };
    let mut cluster = Cluster::of(3, limits);
    let clocks = [40, 56, 90].map(|years| Wall::at(years * YEAR));
    for (id, clock) in (1..).zip(&clocks) {
        cluster.clock = Some(clock.clone());
        cluster.run(id).await.unwrap();
    }
    let leader = cluster.leader().await;
    put(cluster.node(leader), "key", "value").await;
    let granted = cluster.node(leader).lease_grant(0, 60).await.unwrap();
    let (id, _) = granted.body;
    // So that the leader follows the lease from now on.
    cluster.node(leader).lease_keep_alive(id).await.unwrap();
    let mut last = 0;
    for (round, jump) in [0, 50 * YEAR, -80 * YEAR, YEAR].into_iter().enumerate() {
        for clock in &clocks {
            clock.unix_ms.fetch_add(jump, Ordering::SeqCst);
        }
        // The leader looks at its leases four times a second, and nothing shall come of it.
        tokio::time::sleep(Duration::from_millis(600)).await;
        // Through each member: it is the clock of the proposer that goes into the entry.
        for member in 1..=3 {
            let node = cluster.node(member);
            let key = format!("{round} {member}");
            let written = node.txn(put_request(&key, "value", id)).await.unwrap();
            let moment = eventually("its time", || async { node.time_of(written.revision).ok() });
            let now = moment.await.unix_ms;
            assert!(now >= last, "times grow with revisions");
            last = now;
            let status = node.lease_time_to_live(id, true).await.unwrap().body;
            assert!((30..=60).contains(&status.ttl_seconds), "{status:?}");
            assert_eq!(status.keys.len(), round * 3 + member as usize);
        }
    }
    // All of them, and compared many times meanwhile.
    for node in cluster.nodes.values() {
        let failed = tokio::time::timeout(Duration::from_millis(200), node.failed()).await;
        assert!(failed.is_err(), "{failed:?}");
    }
    cluster.node(leader).lease_revoke(id).await.unwrap();
    assert_eq!(get(cluster.node(leader), "0 1").await, None);
}

//! Leases on a real clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

//! Leases on a real clock.

use kv::Store;
use store::Limits;

use crate::harness::{Cluster, eventually, get, put_request};

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

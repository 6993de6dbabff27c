//! Three members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv::{Store, StoreError};
use store::Limits;

use crate::harness::{Cluster, all, eventually, get, put, put_request, watch_all, watch_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_writes_and_reads_what_is_newest() {
    let cluster = Cluster::start(3, Limits::default()).await;
    let mut last = 1;
    for round in 0..5 {
        for (id, node) in &cluster.nodes {
            let revision = put(node, "key", &format!("{round} {id}")).await;
            assert!(revision > last);
            last = revision;
            for other in cluster.nodes.values() {
                assert_eq!(get(other, "key").await, Some(format!("{round} {id}")));
            }
        }
    }
    let status = cluster.node(1).status();
    assert_eq!(status.members.len(), 3);
    eventually("addresses", || async {
        let members = cluster.node(1).status().members;
        members
            .iter()
            .all(|member| member.client_address == format!("api{}:6443", member.id))
            .then_some(())
    })
    .await;
    for node in cluster.nodes.values() {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    let survivor = cluster.follower().await;
    let mut watch = watch_all(cluster.node(survivor), 2).await;
    let before = put(cluster.node(survivor), "a", "before").await;
    let leader = cluster.leader().await;
    cluster.kill(leader).await;

    let after = put(cluster.node(survivor), "b", "after").await;
    assert_eq!(
        get(cluster.node(survivor), "a").await.as_deref(),
        Some("before")
    );
    let seen = watch_until(&mut watch, after).await;
    assert_eq!(
        seen,
        (2..=after).collect::<Vec<_>>(),
        "no gap and nothing twice"
    );
    assert!(after > before);

    cluster.run(leader).await.unwrap();
    assert_eq!(
        get(cluster.node(leader), "b").await.as_deref(),
        Some("after")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_die_and_everything_acknowledged_is_there() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    for n in 0..50 {
        put(cluster.node(1 + n % 3), &format!("key{n:02}"), "value").await;
    }
    let before = cluster
        .node(1)
        .range(kv::RangeRequest {
            serializable: false,
            ..all()
        })
        .await
        .unwrap();
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    for id in 1..=3 {
        cluster.run(id).await.unwrap();
    }
    for node in cluster.nodes.values() {
        eventually("recovery", || async { node.wait_ready().await.ok() }).await;
        let after = node.range(all()).await.unwrap();
        assert_eq!(after.body.kvs, before.body.kvs);
        assert_eq!(after.revision, before.revision);
    }
}

/// By bytes, however many entries they are: else large objects fill memory, and their log the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_that_was_written_is_flushed_and_leaves_the_log() {
    let limits = Limits {
        snapshot_bytes: 256 << 10,
        log_bytes_kept: 256 << 10,
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    for n in 0..100 {
        let value = "value ".repeat(4000);
        put(cluster.node(1), &format!("key{:02}", n % 10), &value).await;
    }
    let first = cluster.dirs[&1].path().join("wal/0000000000000001.seg");
    // What is not needed goes with a later write.
    eventually("the log to begin later", || async {
        put(cluster.node(1), "key00", &"value ".repeat(4000)).await;
        (!first.exists()).then_some(())
    })
    .await;
    let written = cluster.node(1).range(all()).await.unwrap();
    assert_eq!(written.body.count, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_member_catches_up_by_snapshot() {
    let limits = Limits {
        snapshot_entries: 50,
        log_entries_kept: 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::start(3, limits).await;
    let lagging = cluster.follower().await;
    cluster.kill(lagging).await;
    let leader = cluster.leader().await;
    let mut last = 0;
    for n in 0..300 {
        last = put(
            cluster.node(leader),
            &format!("key{:03}", n % 100),
            &format!("value {n}"),
        )
        .await;
    }
    let want = cluster.node(leader).range(all()).await.unwrap().body.kvs;
    cluster.run(lagging).await.unwrap();
    let behind = cluster.node(lagging).clone();
    // A watch from the past, opened while the member is still behind.
    let mut watch = watch_all(&behind, 2).await;
    eventually("catching up", || async {
        (behind.status().revision >= last).then_some(())
    })
    .await;
    assert_eq!(behind.range(all()).await.unwrap().body.kvs, want);
    assert_eq!(
        watch_until(&mut watch, last).await,
        (2..=last).collect::<Vec<_>>()
    );
    let old = kv::RangeRequest {
        revision: 150,
        ..all()
    };
    assert_eq!(
        behind.range(old.clone()).await,
        cluster.node(leader).range(old).await
    );
    // And it takes part again.
    let again = put(&behind, "again", "yes").await;
    assert_eq!(watch_until(&mut watch, again).await.last(), Some(&again));
    drop((watch, behind));
    cluster.kill(lagging).await;
    cluster.run(lagging).await.unwrap();
    assert_eq!(
        get(cluster.node(lagging), "again").await.as_deref(),
        Some("yes")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_leader_acknowledges_nothing() {
    let limits = Limits {
        request_deadline: std::time::Duration::from_secs(4),
        ..Limits::default()
    };
    let cluster = Cluster::start(3, limits).await;
    let leader = cluster.leader().await;
    put(cluster.node(leader), "key", "old").await;
    cluster.wires.cut(&format!("m{leader}"));
    let cut = cluster.node(leader).clone();
    let lonely = tokio::spawn(async move {
        let write = cut.txn(put_request("key", "never", 0)).await;
        let read = cut
            .range(kv::RangeRequest {
                serializable: false,
                ..all()
            })
            .await;
        (write, read)
    });
    let others: Vec<u64> = cluster
        .nodes
        .keys()
        .copied()
        .filter(|id| *id != leader)
        .collect();
    let new = put(cluster.node(others[0]), "key", "new").await;
    let (write, read) = lonely.await.unwrap();
    assert!(
        matches!(
            write,
            Err(StoreError::NoLeader | StoreError::TimedOut | StoreError::LeaderChanged)
        ),
        "{write:?}"
    );
    assert!(
        matches!(read, Err(StoreError::NoLeader | StoreError::TimedOut)),
        "{read:?}"
    );
    cluster.wires.mend(&format!("m{leader}"));
    let mended = cluster.node(leader).clone();
    eventually("healing", || async {
        (mended.status().revision >= new).then_some(())
    })
    .await;
    assert_eq!(get(&mended, "key").await.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_at_a_stop() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    put(cluster.node(1), "key", "value").await;
    let leader = cluster.leader().await;
    let stopping = cluster.nodes.remove(&leader).unwrap();
    assert!(stopping.hand_over().await);
    stopping.shutdown().await;
    assert!(matches!(
        stopping.txn(put_request("key", "x", 0)).await,
        Err(StoreError::Stopped)
    ));
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    put(cluster.node(next), "key", "value 2").await;
}

/// Whose answers do not come because the leader goes away: each client hears what became of its write all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_leader_goes_away_is_done_once_and_answered() {
    let cluster = Cluster::start(3, Limits::default()).await;
    for round in 0..2 {
        let leader = cluster.leader().await;
        let enough = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for writer in 0..32 {
            let followers: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
            let node = cluster.node(followers[writer % 2]).clone();
            let enough = enough.clone();
            writers.push(tokio::spawn(async move {
                let mut revisions = BTreeMap::new();
                while !enough.load(Ordering::Relaxed) {
                    let key = format!("{round}-{writer:02}-{:05}", revisions.len());
                    let answer = node.txn(put_request(&key, "value", 0)).await;
                    revisions.insert(key, answer.unwrap().revision);
                }
                revisions
            }));
        }
        let survivor = cluster.node(1 + leader % 3);
        let revision = survivor.status().revision;
        eventually("writes", || async {
            (survivor.status().revision > revision + 100).then_some(())
        })
        .await;
        cluster.wires.cut(&format!("m{leader}"));
        eventually("another leader", || async {
            let now = survivor.status().leader_id;
            (now != 0 && now != leader).then_some(())
        })
        .await;
        enough.store(true, Ordering::Relaxed);
        let mut answered = BTreeMap::new();
        for writer in writers {
            answered.extend(writer.await.unwrap());
        }
        let newest = kv::RangeRequest {
            serializable: false,
            ..all()
        };
        let kvs = survivor.range(newest).await.unwrap().body.kvs;
        let found: BTreeMap<_, _> = kvs.iter().map(|pair| (pair.key.as_ref(), pair)).collect();
        for (key, revision) in answered {
            let pair = found[key.as_bytes()];
            assert_eq!((pair.version, pair.mod_revision), (1, revision), "{key}");
        }
        cluster.wires.mend(&format!("m{leader}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once() {
    let cluster = Cluster::start(3, Limits::default()).await;
    let mut writers = Vec::new();
    for writer in 0..32 {
        let node = cluster.node(1 + writer % 3).clone();
        writers.push(tokio::spawn(async move {
            for n in 0..10 {
                put(&node, &format!("w{writer:02}-{n}"), "value").await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let answer = cluster
        .node(1)
        .range(kv::RangeRequest {
            serializable: false,
            ..all()
        })
        .await
        .unwrap();
    assert_eq!(answer.body.count, 320);
    assert_eq!(answer.revision, 321);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_members_could_not_read_is_refused_for_what_it_is() {
    let cluster = Cluster::start(3, Limits::default()).await;
    // Innermost is a write, or it would not go through the log.
    let mut txn = put_request("a", "1", 0);
    for _ in 0..60 {
        let nested = kv::RequestOp {
            request: Some(kv::Request::Txn(txn)),
        };
        txn = kv::TxnRequest {
            success: vec![nested],
            ..Default::default()
        };
    }
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for id in [leader, follower] {
        let refused = cluster.node(id).txn(txn.clone()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unreadable(_)), "{refused}");
        let words = "grpc: error unmarshalling request: ";
        assert!(refused.to_string().starts_with(words), "{refused}");
    }
}

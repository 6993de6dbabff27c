//! Members come and go, and strangers are kept out.

use std::sync::Arc;
use std::time::Duration;

use kv::Store;
use store::{Limits, MemberError, Node, StartError};

use crate::harness::{
    AUTHORITY, Authority, CLUSTER, Cluster, DEADLINE, all, eventually, get, put, put_request,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_joins_is_promoted_and_removed() {
    let limits = Limits {
        snapshot_entries: 50,
        log_entries_kept: 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::start(1, limits).await;
    for n in 0..200 {
        put(cluster.node(1), &format!("key{n:03}"), "value").await;
    }
    cluster
        .node(1)
        .add_learner(2, "m2".into(), "m2".into())
        .await
        .unwrap();
    let again = cluster
        .node(1)
        .add_learner(2, "m2".into(), "m2".into())
        .await;
    assert!(matches!(again, Err(MemberError::Refused(why)) if why.contains("already exists")));
    let joined = cluster.run(2).await.unwrap();
    eventually("promotion", || async {
        cluster.node(1).promote(2).await.ok()
    })
    .await;
    eventually("voting", || async {
        (!joined.status().is_learner).then_some(())
    })
    .await;
    assert_eq!(
        joined
            .range(kv::RangeRequest {
                serializable: false,
                ..all()
            })
            .await
            .unwrap()
            .body
            .count,
        200
    );
    put(&joined, "by", "2").await;
    eventually("addresses", || async {
        let members = cluster.node(1).members();
        members
            .iter()
            .any(|member| member.id == 2 && member.client_address == "api2:6443")
            .then_some(())
    })
    .await;
    eventually("removal", || async { joined.remove(2).await.ok() }).await;
    eventually("one member", || async {
        (cluster.node(1).members().len() == 1).then_some(())
    })
    .await;
    cluster.kill(2).await;
    put(cluster.node(1), "by", "1").await;
    let last = cluster.node(1).remove(1).await;
    assert!(matches!(last, Err(MemberError::Refused(why)) if why.contains("last voting member")));
}

/// It has the lead until somebody else takes it, and those who have just started ask it to publish their addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_removed_changes_the_membership_no_more() {
    for _ in 0..3 {
        let cluster = Cluster::start(3, Limits::default()).await;
        let leader = cluster.leader().await;
        let removed = cluster.node(leader).clone();
        let removal = {
            let removed = removed.clone();
            tokio::spawn(async move { removed.remove(leader).await })
        };
        let reason = tokio::time::timeout(DEADLINE, removed.failed()).await;
        let Ok(reason) = reason else {
            panic!("it is not removed: {:?}", removal.await);
        };
        assert!(reason.contains("not in the cluster"), "{reason}");
        // Done, or asked again where nobody knows of it any more.
        drop(removal.await.unwrap());
        put(cluster.node(1 + leader % 3), "key", "value").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_impostors_are_kept_out() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    put(cluster.node(1), "key", "value").await;
    let outsider = cluster.follower().await;
    cluster.kill(outsider).await;

    // Its own certificate does not name it: it does not even start.
    let mut config = cluster.config(outsider);
    config.tls = AUTHORITY.identity(CLUSTER, outsider + 10);
    let refused = Node::start(config).await.err().unwrap();
    assert!(matches!(refused, StartError::Tls(_)), "{refused}");
    let mut config = cluster.config(outsider);
    config.tls = AUTHORITY.identity(CLUSTER + 1, outsider);
    assert!(matches!(
        Node::start(config).await.err().unwrap(),
        StartError::Tls(_)
    ));

    // Signed by another authority it starts, but nobody talks to it.
    let mut config = cluster.config(outsider);
    config.tls = Authority::new().identity(CLUSTER, outsider);
    config.limits.request_deadline = std::time::Duration::from_secs(3);
    let impostor = Node::start(config).await.unwrap();
    assert!(impostor.wait_ready().await.is_err());
    impostor.kill().await;
    drop(impostor);

    let node = cluster.run(outsider).await.unwrap();
    assert_eq!(get(&node, "key").await.as_deref(), Some("value"));
    let _: &Arc<Node> = &node;
}

/// Runs a member that cannot stay; answers why. It learns so at its start, or from a member that was slow to answer.
async fn refusal(cluster: &mut Cluster, id: u64) -> String {
    match cluster.run(id).await {
        Err(StartError::LostData(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(node) => {
            let why = tokio::time::timeout(DEADLINE, node.failed()).await.unwrap();
            drop(node);
            cluster.kill(id).await;
            why
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_data_does_not_vote_again() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    put(cluster.node(1), "key", "value").await;
    let forgetful = cluster.follower().await;
    let leader = cluster.leader().await;
    eventually("addresses", || async {
        let members = cluster.node(leader).members();
        members
            .iter()
            .all(|member| !member.client_address.is_empty())
            .then_some(())
    })
    .await;
    cluster.kill(forgetful).await;
    cluster.dirs.remove(&forgetful);
    for _ in 0..2 {
        let why = refusal(&mut cluster, forgetful).await;
        assert!(why.contains("under a new id"), "{why}");
    }
    // Under a new id it is welcome.
    let node = cluster.node(leader).clone();
    eventually("removal", || async { node.remove(forgetful).await.ok() }).await;
    eventually("addition", || async {
        node.add_learner(9, "m9".into(), "m9".into()).await.ok()
    })
    .await;
    let new = cluster.run(9).await.unwrap();
    eventually("promotion", || async { node.promote(9).await.ok() }).await;
    assert_eq!(get(&new, "key").await.as_deref(), Some("value"));
}

/// Between this member and the old leader there is no third one that could tell it, when it starts, that it has lost
/// its data. A vote of it would elect a leader that may not have what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_that_can_ask_nobody_does_not_make_a_quorum() {
    let limits = Limits {
        request_deadline: Duration::from_secs(3),
        ..Limits::default()
    };
    let mut cluster = Cluster::start(3, limits).await;
    put(cluster.node(1), "key", "value").await;
    let (leader, forgetful) = (cluster.leader().await, cluster.follower().await);
    cluster.kill(forgetful).await;
    cluster.dirs.remove(&forgetful);
    cluster.kill(leader).await;
    let (_, other) = cluster.nodes.first_key_value().unwrap();
    let other = other.clone();

    let name = format!("m{forgetful}");
    cluster.wires.cut(&name);
    let wiped = cluster.run(forgetful).await.unwrap();
    cluster.wires.mend(&name);
    let why = tokio::time::timeout(DEADLINE, wiped.failed())
        .await
        .unwrap();
    assert!(why.contains("under a new id"), "{why}");
    assert!(other.txn(put_request("key", "other", 0)).await.is_err());
    drop(wiped);
    cluster.kill(forgetful).await;

    cluster.run(leader).await.unwrap();
    assert_eq!(get(&other, "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_added_member_that_lost_its_data_is_refused_and_its_id_is_not_used_again() {
    let mut cluster = Cluster::start(1, Limits::default()).await;
    let node = cluster.node(1).clone();
    node.add_learner(2, "m2".into(), "m2".into()).await.unwrap();
    let added = cluster.run(2).await.unwrap();
    put(&added, "key", "value").await;
    drop(added);
    cluster.kill(2).await;
    // It comes back with what it had.
    let added = cluster.run(2).await.unwrap();
    assert_eq!(get(&added, "key").await.as_deref(), Some("value"));
    drop(added);
    cluster.kill(2).await;
    cluster.dirs.remove(&2);
    let why = refusal(&mut cluster, 2).await;
    assert!(why.contains("under a new id"), "{why}");

    node.remove(2).await.unwrap();
    let again = node.add_learner(2, "m2".into(), "m2".into()).await;
    assert!(
        matches!(&again, Err(MemberError::Refused(why)) if why.contains("not used again")),
        "{again:?}"
    );
    node.add_learner(3, "m3".into(), "m3".into()).await.unwrap();
    let new = cluster.run(3).await.unwrap();
    assert_eq!(get(&new, "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_formed_by_all_its_members_in_any_order() {
    let limits = Limits {
        request_deadline: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut cluster = Cluster::of(3, limits);
    cluster.run(3).await.unwrap();
    let early = cluster.run(1).await.unwrap();
    let refused = early.txn(put_request("key", "early", 0)).await;
    assert_eq!(refused, Err(kv::StoreError::NoLeader));
    assert_eq!(early.status().raft_index, 0);
    drop(early);
    // What it has met it still knows after a restart.
    cluster.kill(1).await;
    cluster.run(1).await.unwrap();
    cluster.run(2).await.unwrap();
    put(cluster.node(1), "key", "value").await;
    // From now on a majority is enough.
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    cluster.run(2).await.unwrap();
    let node = cluster.run(3).await.unwrap();
    assert_eq!(get(&node, "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_lost_before_the_cluster_was_formed_is_told_what_to_do() {
    let mut cluster = Cluster::of(3, Limits::default());
    cluster.run(1).await.unwrap();
    let other = cluster.run(2).await.unwrap();
    eventually("a meeting", || async {
        // Asked for what it does not have yet, a member that has been met is not a stranger any more.
        let peers = cluster.dirs[&2].path().join("peers");
        let text = std::fs::read_to_string(peers).unwrap();
        text.contains("member 0000000000000001").then_some(())
    })
    .await;
    drop(other);
    cluster.kill(1).await;
    cluster.dirs.remove(&1);
    let why = refusal(&mut cluster, 1).await;
    assert!(why.contains("has never worked yet"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_heard_no_more() {
    let limits = Limits {
        request_deadline: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut cluster = Cluster::start(3, limits).await;
    let (leader, gone) = (cluster.leader().await, cluster.follower().await);
    let removed = cluster.node(gone).clone();
    // Its connections are there.
    put(&removed, "key", "value").await;
    let node = cluster.node(leader).clone();
    eventually("removal", || async { node.remove(gone).await.ok() }).await;
    eventually("refusal of what comes on old connections", || async {
        removed.txn(put_request("key", "late", 0)).await.err()
    })
    .await;
    // It learns of it and ends, so that nobody waits for it.
    let why = tokio::time::timeout(DEADLINE, removed.failed()).await;
    let why = why.expect("it ends");
    assert!(why.contains("is not in the cluster (any more)"), "{why}");
    drop(removed);
    cluster.kill(gone).await;
    let removed = cluster.run(gone).await.unwrap();
    tokio::time::timeout(DEADLINE, removed.failed())
        .await
        .expect("and again");
    assert!(removed.txn(put_request("key", "late", 0)).await.is_err());
    assert!(removed.wait_ready().await.is_err());
    put(&node, "key", "value 2").await;
    assert_eq!(get(&node, "key").await.as_deref(), Some("value 2"));
}

/// It knows nothing, and would wait for ever to be added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_ends_with_an_empty_directory_too_and_a_new_one_waits() {
    let mut cluster = Cluster::start(3, Limits::default()).await;
    put(cluster.node(1), "key", "value").await;
    let (leader, gone) = (cluster.leader().await, cluster.follower().await);
    let node = cluster.node(leader).clone();
    eventually("removal", || async { node.remove(gone).await.ok() }).await;
    cluster.kill(gone).await;
    cluster.dirs.remove(&gone);
    for _ in 0..2 {
        let why = refusal(&mut cluster, gone).await;
        assert!(why.contains("it was removed"), "{why}");
        assert!(why.contains("under a new id"), "{why}");
    }
    // One that was never in the cluster is refused as long as it is not added, and stays.
    let early = cluster.run(9).await.unwrap();
    eventually("addition", || async {
        node.add_learner(9, "m9".into(), "m9".into()).await.ok()
    })
    .await;
    assert_eq!(get(&early, "key").await.as_deref(), Some("value"));
}

/// The next change is decided on what is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_change_has_done_is_seen_as_soon_as_it_is_answered() {
    let cluster = Cluster::start(1, Limits::default()).await;
    let node = cluster.node(1);
    for id in 10..110 {
        let name = format!("m{id}");
        node.add_learner(id, name.clone(), name.clone())
            .await
            .unwrap();
        let ids: Vec<u64> = node.members().iter().map(|member| member.id).collect();
        assert_eq!(ids, [1, id]);
        node.remove(id).await.unwrap();
        assert_eq!(node.members().len(), 1, "after the removal of {id}");
    }
}

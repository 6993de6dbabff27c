//! Members come and go, and strangers are kept out.

use std::sync::Arc;

use kv::Store;
use store::{Limits, MemberError, Node, StartError};

use crate::harness::{AUTHORITY, Authority, CLUSTER, Cluster, all, eventually, get, put};

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
        let refused = cluster.run(forgetful).await.err().unwrap();
        assert!(
            matches!(refused, StartError::AlreadyBootstrapped(_)),
            "{refused}"
        );
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

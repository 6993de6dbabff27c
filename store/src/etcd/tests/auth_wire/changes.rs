//! What somebody may while that changes.

use super::*;

#[tokio::test]
async fn a_watch_shows_what_may_be_read_for_as_long_as_it_may() {
    let Guarded { root, u, bench } = Guarded::new().await;
    let mut watch = u.watch().await;
    let denied = format!("rpc error: code = PermissionDenied desc = {}", DENIED.1);
    // A key and all after it is more than the keys up to c; so is the range beyond.
    for (key, range_end) in [("c", ""), ("a", "\0"), ("a", "d"), ("", "\0")] {
        watch.say(create(key, range_end)).await;
        let answer = watch.next().await.body;
        assert!(answer.created && answer.canceled && answer.watch_id == -1);
        assert_eq!(answer.cancel_reason, denied, "{key} {range_end}");
    }
    watch.say(create("a", "c")).await;
    let created = watch.next().await.body;
    assert!(created.created && !created.canceled);
    root.put("a").await.unwrap();
    assert_eq!(watch.next().await.body.events.len(), 1);
    // Something else changes: it goes on.
    root.may("r", PermissionKind::Read, "x", "").await;
    root.put("b").await.unwrap();
    assert_eq!(watch.next().await.body.events.len(), 1);
    let revoke = kv::RoleRevoke {
        role: "r".into(),
        key: bytes("a"),
        range_end: bytes("c"),
    };
    root.auth("RoleRevokePermission", revoke).await.unwrap();
    root.put("a").await.unwrap();
    let ended = watch.next().await.body;
    assert!(ended.canceled && !ended.created && ended.events.is_empty());
    assert_eq!(
        (ended.watch_id, ended.cancel_reason),
        (created.watch_id, denied)
    );
    // Who was nobody when nobody was asked is not shown more, either.
    root.auth("AuthDisable", Empty {}).await.unwrap();
    let mut watch = nobody(&bench).await.watch().await;
    watch.say(create("a", "")).await;
    assert!(watch.next().await.body.created);
    let open = nobody(&bench).await;
    open.auth("AuthEnable", Empty {}).await.unwrap();
    bench
        .backend
        .store
        .propose_under(kv::Command::Txn(txn_of(vec![put_op("a", "1")])), 0, "")
        .unwrap();
    let want = format!("rpc error: code = InvalidArgument desc = {}", NOBODY.1);
    assert_eq!(watch.next().await.body.cancel_reason, want);
}

#[tokio::test]
async fn what_changes_between_question_and_deed_counts() {
    let Guarded { root, u, bench } = Guarded::new().await;
    let meanwhile = |change: kv::AuthChange| {
        *bench.backend.meanwhile.lock().unwrap() = Some(Box::new(move |store: &MemStore| {
            let change = Some(change);
            let command = kv::Command::Auth(kv::AuthCommand { change });
            store.propose_under(command, 0, "").unwrap();
        }));
    };
    let other = |name: &str| kv::AuthChange::RoleAdd(kv::Named { name: name.into() });
    let revoke = kv::AuthChange::UserRevokeRole(kv::UserRole {
        user: "u".into(),
        role: "r".into(),
    });
    // Something else: asked again and done.
    meanwhile(other("x"));
    assert_eq!(u.put("b").await, Ok(()));
    meanwhile(other("y"));
    assert_eq!(u.get("b", "").await, Ok(()));
    let before = bench.backend.store.revision();
    meanwhile(revoke.clone());
    assert_eq!(u.put("b").await, refused(DENIED));
    assert_eq!(
        bench.backend.store.revision(),
        before,
        "nothing was written"
    );
    let grant = root.auth("UserGrantRole", user_role("u", "r"));
    grant.await.unwrap();
    // A read that began before is not shown after.
    meanwhile(revoke);
    assert_eq!(u.get("b", "").await, refused(DENIED));
}

/// A lease of `u`, and what somebody else does to it when `u` was found to be allowed already.
#[tokio::test]
async fn keys_that_a_lease_gets_between_question_and_deed_count() {
    let Guarded { root, u, bench } = Guarded::new().await;
    let grant = |id| LeaseGrantRequest { ttl: 60, id };
    for id in [1, 2] {
        let granted = u.does("/etcdserverpb.Lease/LeaseGrant", grant(id)).await;
        assert_eq!(granted, Ok(()));
    }
    let leased = |key: &str, lease| kv::PutRequest { lease, ..put(key) };
    let put_with = "/etcdserverpb.KV/Put";
    assert_eq!(u.does(put_with, leased("b", 1)).await, Ok(()));
    let meanwhile = |lease| {
        let put = kv::Request::Put(leased("z", lease));
        let op = kv::RequestOp { request: Some(put) };
        *bench.backend.meanwhile.lock().unwrap() = Some(Box::new(move |store: &MemStore| {
            let command = kv::Command::Txn(txn_of(vec![op]));
            store.propose_under(command, 0, "").unwrap();
        }));
    };
    meanwhile(1);
    let revoke = u.does("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 1 });
    assert_eq!(revoke.await, refused(DENIED));
    meanwhile(2);
    let put = u.does(put_with, leased("b", 2));
    assert_eq!(put.await, refused(DENIED));
    // Nor are the keys told that it has by then.
    meanwhile(2);
    let look = LeaseTimeToLiveRequest { id: 2, keys: true };
    let looked = u.does("/etcdserverpb.Lease/LeaseTimeToLive", look).await;
    assert_eq!(looked, refused(DENIED));
    let left: Headed<RangeResponse> = root
        .ask("/etcdserverpb.KV/Range", range("b", "\0"))
        .await
        .unwrap();
    let left = left.body.kvs.iter().map(|kv| (&kv.key[..], kv.lease));
    assert_eq!(left.collect::<Vec<_>>(), [(&b"b"[..], 1), (b"z", 2)]);
    let revoke = root.does("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 2 });
    assert_eq!(revoke.await, Ok(()));
}

#[tokio::test]
async fn who_may_not_lock_any_more_when_the_turn_comes_does_not_get_it() {
    let Guarded { root, u, bench } = Guarded::new().await;
    root.may("r", PermissionKind::ReadWrite, "line/", "line0")
        .await;
    let lock = || LockRequest {
        name: bytes("line"),
        lease: 0,
    };
    let campaign = || CampaignRequest {
        name: bytes("line"),
        ..CampaignRequest::default()
    };
    let held: Headed<LockBody> = root.ask("/v3lockpb.Lock/Lock", lock()).await.unwrap();
    let length = async |wanted: i64| {
        let path = "/etcdserverpb.KV/Range";
        let reached = async {
            loop {
                let line: Headed<RangeResponse> =
                    root.ask(path, range("line/", "line0")).await.unwrap();
                if line.body.count == wanted {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(SOON, reached).await;
        reached.unwrap_or_else(|_| panic!("{wanted} in line"));
    };
    let waiting = async {
        tokio::join!(
            u.does("/v3lockpb.Lock/Lock", lock()),
            u.does("/v3electionpb.Election/Campaign", campaign()),
        )
    };
    let meanwhile = async {
        length(3).await;
        let revoke = root.auth("UserRevokeRole", user_role("u", "r"));
        revoke.await.unwrap();
        let key = held.body.key.clone();
        root.does("/v3lockpb.Lock/Unlock", UnlockRequest { key })
            .await
            .unwrap();
    };
    let ((locked, elected), ()) = tokio::join!(waiting, meanwhile);
    assert_eq!(locked, refused(DENIED));
    assert_eq!(elected, refused(DENIED));
    // And nobody waits behind those who went.
    length(0).await;
    drop(bench);
}

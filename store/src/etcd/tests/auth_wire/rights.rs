//! What somebody may.

use super::*;

/// A method that asks nobody fails here, and a new one has to be added.
#[tokio::test]
async fn no_method_forgets_to_ask() {
    let guarded = Guarded::new().await;
    let nobody = nobody(&guarded.bench).await;
    let leader = Some(LeaderKey {
        key: bytes("k"),
        ..LeaderKey::default()
    });
    let raw = |path: &str| -> Vec<u8> {
        match path {
            "/etcdserverpb.KV/Range" | "/etcdserverpb.KV/RangeStream" => {
                range("k", "").encode_to_vec()
            }
            "/etcdserverpb.KV/Put" => put("k").encode_to_vec(),
            // Both have the key first.
            "/etcdserverpb.KV/DeleteRange" | "/v3lockpb.Lock/Unlock" => {
                range("k", "").encode_to_vec()
            }
            "/v3electionpb.Election/Proclaim" | "/v3electionpb.Election/Resign" => {
                let leader = leader.clone();
                ResignRequest { leader }.encode_to_vec()
            }
            "/etcdserverpb.Auth/UserAdd" => user("new", "pw").encode_to_vec(),
            _ => Vec::new(),
        }
    };
    let mut open = Vec::new();
    for method in METHODS {
        if method.path == "/etcdserverpb.Watch/Watch" {
            // Says so of each watch, and stays open.
            let mut watch = nobody.watch().await;
            watch.say(create("k", "")).await;
            let want = format!("rpc error: code = InvalidArgument desc = {}", NOBODY.1);
            assert_eq!(watch.next().await.body.cancel_reason, want);
            continue;
        }
        let mut frame = vec![0];
        let request = raw(method.path);
        frame.extend((request.len() as u32).to_be_bytes());
        frame.extend(request);
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("http://pipe{}", method.path))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(http_body_util::Full::new(
                Bytes::from(frame),
            )))
            .unwrap();
        let mut channel = nobody.channel.clone();
        std::future::poll_fn(|context| tower::Service::poll_ready(&mut channel, context))
            .await
            .unwrap();
        let answer = tower::Service::call(&mut channel, request).await.unwrap();
        let status = match Status::from_header_map(answer.headers()) {
            Some(status) => status,
            None => {
                let collected = http_body_util::BodyExt::collect(answer.into_body());
                let collected = tokio::time::timeout(SOON, collected)
                    .await
                    .expect(method.path);
                match collected {
                    Ok(body) => Status::from_header_map(body.trailers().unwrap()).unwrap(),
                    Err(status) => status,
                }
            }
        };
        match (status.code(), status.message()) == NOBODY {
            true => {}
            false => open.push(method.path),
        }
    }
    assert_eq!(
        open,
        [
            "/etcdserverpb.Auth/AuthStatus",
            "/etcdserverpb.Auth/Authenticate",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ]
    );
}

#[tokio::test]
async fn keys_are_read_and_written_as_far_as_roles_go() {
    let Guarded { root, u, .. } = Guarded::new().await;
    for key in ["a", "b", "c", "d", "z"] {
        assert_eq!(root.put(key).await, Ok(()));
    }
    assert_eq!(root.get("\0", "\0").await, Ok(()));
    for (key, range_end, may) in [
        ("a", "", true),
        ("a", "c", true),
        ("b", "bb", true),
        ("c", "", false),
        ("a", "d", false),
        ("a", "\0", false),
        ("\0", "\0", false),
    ] {
        let want = if may { Ok(()) } else { refused(DENIED) };
        assert_eq!(u.get(key, range_end).await, want, "{key} {range_end}");
        let count = RangeRequest {
            count_only: true,
            ..range(key, range_end)
        };
        assert_eq!(u.does("/etcdserverpb.KV/Range", count).await, want);
        let mut grpc = Grpc::new(u.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/RangeStream");
        let codec: ProstCodec<RangeRequest, RangeStreamResponse> = ProstCodec::default();
        let streamed = grpc.server_streaming(u.signed(range(key, range_end)), path, codec);
        assert_eq!(streamed.await.is_ok(), may, "{key} {range_end}");
    }
    assert_eq!(u.put("a").await, refused(DENIED));
    assert_eq!(u.put("b").await, Ok(()));
    assert_eq!(u.put("c").await, Ok(()));
    // What was there before is read.
    for (key, want) in [("b", Ok(())), ("c", refused(DENIED))] {
        let with_previous = kv::PutRequest {
            prev_kv: true,
            ..put(key)
        };
        assert_eq!(u.does("/etcdserverpb.KV/Put", with_previous).await, want);
        let delete = kv::DeleteRangeRequest {
            key: bytes(key),
            prev_kv: true,
            ..Default::default()
        };
        assert_eq!(u.does("/etcdserverpb.KV/DeleteRange", delete).await, want);
    }
    for (key, range_end, want) in [
        ("b", "d", Ok(())),
        ("b", "e", refused(DENIED)),
        ("b", "\0", refused(DENIED)),
    ] {
        let delete = kv::DeleteRangeRequest {
            key: bytes(key),
            range_end: bytes(range_end),
            ..Default::default()
        };
        assert_eq!(u.does("/etcdserverpb.KV/DeleteRange", delete).await, want);
    }
}

#[tokio::test]
async fn a_transaction_may_what_all_its_branches_may() {
    let Guarded { u, .. } = Guarded::new().await;
    let nested = |op: kv::RequestOp| kv::RequestOp {
        request: Some(kv::Request::Txn(TxnRequest {
            failure: vec![op],
            ..TxnRequest::default()
        })),
    };
    let compare = |key: &str| TxnRequest {
        compare: vec![kv::Compare {
            key: bytes(key),
            target: kv::CompareTarget::Version as i32,
            ..kv::Compare::default()
        }],
        ..TxnRequest::default()
    };
    let failing = |op: kv::RequestOp| TxnRequest {
        failure: vec![op],
        ..TxnRequest::default()
    };
    for (txn, may) in [
        (txn_of(vec![range_op("a"), put_op("b", "1")]), true),
        (txn_of(vec![put_op("a", "1")]), false),
        (txn_of(vec![range_op("c")]), false),
        (txn_of(vec![delete_op("z")]), false),
        (failing(put_op("z", "1")), false),
        (failing(range_op("z")), false),
        (txn_of(vec![nested(put_op("z", "1"))]), false),
        (txn_of(vec![nested(nested(range_op("z")))]), false),
        (txn_of(vec![nested(put_op("c", "1"))]), true),
        (compare("a"), true),
        (compare("z"), false),
        (TxnRequest::default(), true),
    ] {
        let done = u.does("/etcdserverpb.KV/Txn", txn.clone()).await;
        let want = if may { Ok(()) } else { refused(DENIED) };
        assert_eq!(done, want, "{txn:?}");
    }
}

#[tokio::test]
async fn a_lease_is_of_those_who_may_write_its_keys() {
    let Guarded { root, u, .. } = Guarded::new().await;
    let leased = |key: &str, lease| kv::PutRequest { lease, ..put(key) };
    let grant = |id| LeaseGrantRequest { ttl: 60, id };
    for id in [1, 2] {
        assert_eq!(
            u.does("/etcdserverpb.Lease/LeaseGrant", grant(id)).await,
            Ok(())
        );
    }
    assert_eq!(u.does("/etcdserverpb.KV/Put", leased("b", 1)).await, Ok(()));
    assert_eq!(
        root.does("/etcdserverpb.KV/Put", leased("z", 2)).await,
        Ok(())
    );
    let denied = u.does("/etcdserverpb.KV/Put", leased("b", 2)).await;
    assert_eq!(denied, refused(DENIED));
    let nested = txn_of(vec![kv::RequestOp {
        request: Some(kv::Request::Put(leased("b", 2))),
    }]);
    assert_eq!(
        u.does("/etcdserverpb.KV/Txn", nested).await,
        refused(DENIED)
    );
    let look = |id, keys| LeaseTimeToLiveRequest { id, keys };
    for (id, keys, want) in [
        (1, true, Ok(())),
        (2, false, Ok(())),
        (2, true, refused(DENIED)),
    ] {
        let looked = u.does("/etcdserverpb.Lease/LeaseTimeToLive", look(id, keys));
        assert_eq!(looked.await, want, "{id} {keys}");
    }
    let path = "/etcdserverpb.Lease/LeaseLeases";
    assert_eq!(u.does(path, Empty {}).await, refused(DENIED));
    assert_eq!(root.does(path, Empty {}).await, Ok(()));
    let revoke = "/etcdserverpb.Lease/LeaseRevoke";
    assert_eq!(u.does(revoke, LeaseId { id: 2 }).await, refused(DENIED));
    assert_eq!(root.get("z", "").await, Ok(()));
    assert_eq!(u.does(revoke, LeaseId { id: 1 }).await, Ok(()));
    let mut grpc = Grpc::new(u.channel.clone());
    grpc.ready().await.unwrap();
    let renew = u.signed(tokio_stream::iter([LeaseId { id: 2 }]));
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    let codec: ProstCodec<LeaseId, Headed<LeaseKeepAliveBody>> = ProstCodec::default();
    let denied = match grpc.streaming(renew, path, codec).await {
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!((denied.code(), denied.message()), DENIED);
}

#[tokio::test]
async fn who_may_not_operate_a_cluster_does_not() {
    let Guarded { root, u, .. } = Guarded::new().await;
    for path in [
        "/etcdserverpb.KV/Compact",
        "/etcdserverpb.Cluster/MemberAdd",
        "/etcdserverpb.Cluster/MemberRemove",
        "/etcdserverpb.Cluster/MemberUpdate",
        "/etcdserverpb.Cluster/MemberPromote",
        "/etcdserverpb.Maintenance/Status",
        "/etcdserverpb.Maintenance/Defragment",
        "/etcdserverpb.Maintenance/Hash",
        "/etcdserverpb.Maintenance/HashKV",
        "/etcdserverpb.Maintenance/Snapshot",
        "/etcdserverpb.Maintenance/MoveLeader",
    ] {
        assert_eq!(u.does(path, Empty {}).await, refused(DENIED), "{path}");
        assert_ne!(root.does(path, Empty {}).await, refused(DENIED), "{path}");
    }
    let alarm = |action: AlarmAction| AlarmRequest {
        action: action as i32,
        ..AlarmRequest::default()
    };
    let path = "/etcdserverpb.Maintenance/Alarm";
    assert_eq!(u.does(path, alarm(AlarmAction::Get)).await, Ok(()));
    for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
        assert_eq!(u.does(path, alarm(action)).await, refused(DENIED));
    }
    let list = u.does("/etcdserverpb.Cluster/MemberList", Empty {}).await;
    assert_eq!(list, Ok(()));
}

#[tokio::test]
async fn locks_and_elections_need_their_keys() {
    let Guarded { root, u, .. } = Guarded::new().await;
    root.may("r", PermissionKind::ReadWrite, "mine/", "mine0")
        .await;
    let lock = |name: &str| LockRequest {
        name: bytes(name),
        lease: 0,
    };
    let path = "/v3lockpb.Lock/Lock";
    assert_eq!(u.does(path, lock("theirs")).await, refused(DENIED));
    let locked: Headed<LockBody> = u.ask(path, lock("mine")).await.unwrap();
    let key = locked.body.key;
    assert_eq!(
        u.does("/v3lockpb.Lock/Unlock", UnlockRequest { key }).await,
        Ok(())
    );
    let key = bytes("theirs/1");
    assert_eq!(
        u.does("/v3lockpb.Lock/Unlock", UnlockRequest { key }).await,
        refused(DENIED)
    );
    let campaign = |name: &str| CampaignRequest {
        name: bytes(name),
        ..CampaignRequest::default()
    };
    let path = "/v3electionpb.Election/Campaign";
    assert_eq!(u.does(path, campaign("theirs")).await, refused(DENIED));
    let won: Headed<CampaignBody> = u.ask(path, campaign("mine")).await.unwrap();
    let leader = won.body.leader;
    let proclaim = ProclaimRequest {
        leader: leader.clone(),
        value: bytes("v"),
    };
    assert_eq!(
        u.does("/v3electionpb.Election/Proclaim", proclaim).await,
        Ok(())
    );
    let ask = |name: &str| LeaderRequest { name: bytes(name) };
    let path = "/v3electionpb.Election/Leader";
    assert_eq!(u.does(path, ask("mine")).await, Ok(()));
    assert_eq!(u.does(path, ask("theirs")).await, refused(DENIED));
    let resign = ResignRequest { leader };
    assert_eq!(
        u.does("/v3electionpb.Election/Resign", resign).await,
        Ok(())
    );
}

#[tokio::test]
async fn a_user_with_too_much_under_way_is_refused_and_not_others_with_the_same_certificate() {
    let Guarded { root, u, bench } = Guarded::new().await;
    // Both by one connection's certificate.
    let root = Client {
        channel: u.channel.clone(),
        ..root
    };
    let mut places = Vec::new();
    let user = bench.front.clients.user("u".into());
    while let Ok(place) = user.enter(Class::Write) {
        places.push(place);
    }
    let overloaded = (Code::ResourceExhausted, "etcdserver: too many requests");
    assert_eq!(u.put("b").await, refused(overloaded));
    assert_eq!(u.get("b", "").await, Ok(()), "another class");
    assert_eq!(root.put("b").await, Ok(()));
    places.pop();
    assert_eq!(u.put("b").await, Ok(()));
}

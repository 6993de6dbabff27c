//! Users and roles, as clients meet them.

use super::super::auth::*;
use super::super::message::WatchRequest;
use super::super::methods::METHODS;
use super::*;
use kv::{Permission, PermissionKind, RangeRequest};
use tonic::Code;

type Outcome = Result<(), (Code, String)>;

const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const NOBODY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");

fn refused(with: (Code, &str)) -> Outcome {
    Err((with.0, with.1.into()))
}

/// Somebody: by a token, by the name in a certificate, or nobody.
struct Client {
    channel: Channel,
    token: Option<String>,
}

impl Client {
    async fn ask<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let answer = grpc.unary(self.signed(request), path, codec);
        Ok(tokio::time::timeout(SOON, answer)
            .await
            .expect("an answer comes")?
            .into_inner())
    }

    fn signed<T>(&self, request: T) -> Request<T> {
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            let token = token.parse().unwrap();
            request.metadata_mut().insert("token", token);
        }
        request
    }

    /// Whether it was done.
    async fn does<Q: Message + 'static>(&self, path: &'static str, request: Q) -> Outcome {
        match self.ask::<Q, Headed<Empty>>(path, request).await {
            Ok(_) => Ok(()),
            Err(status) => Err((status.code(), status.message().into())),
        }
    }

    async fn auth<Q: Message + 'static>(&self, method: &'static str, request: Q) -> Outcome {
        let mut methods = METHODS.iter().map(|method| method.path);
        let path = methods.find(|path| path.strip_prefix("/etcdserverpb.Auth/") == Some(method));
        self.does(path.expect(method), request).await
    }

    async fn add_user(&self, name: &str, role: &str) {
        self.auth("UserAdd", user(name, "pw")).await.unwrap();
        let granted = self.auth("UserGrantRole", user_role(name, role));
        granted.await.unwrap();
    }

    async fn may(&self, role: &str, kind: PermissionKind, key: &str, range_end: &str) {
        let permission = Permission {
            kind: kind as i32,
            key: bytes(key),
            range_end: bytes(range_end),
        };
        let grant = RoleGrantRequest {
            name: role.into(),
            permission: Some(permission),
        };
        self.auth("RoleGrantPermission", grant).await.unwrap();
    }

    async fn put(&self, key: &str) -> Outcome {
        self.does("/etcdserverpb.KV/Put", put(key)).await
    }

    async fn get(&self, key: &str, range_end: &str) -> Outcome {
        self.does("/etcdserverpb.KV/Range", range(key, range_end))
            .await
    }

    async fn watch(&self) -> Talk<WatchRequest, Headed<WatchBody>> {
        let (say, said) = mpsc::channel(64);
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let request = self.signed(ReceiverStream::new(said));
        let answers = grpc.streaming(request, path, ProstCodec::default()).await;
        Talk {
            say,
            heard: answers.unwrap().into_inner(),
        }
    }
}

fn user(name: &str, password: &str) -> UserAddRequest {
    UserAddRequest {
        name: name.into(),
        password: password.into(),
        ..UserAddRequest::default()
    }
}

fn name(name: &str) -> NameRequest {
    NameRequest { name: name.into() }
}

fn user_role(user: &str, role: &str) -> UserRoleRequest {
    UserRoleRequest {
        user: user.into(),
        role: role.into(),
    }
}

fn password(name: &str, password: &str) -> UserChangePasswordRequest {
    UserChangePasswordRequest {
        name: name.into(),
        password: password.into(),
        ..UserChangePasswordRequest::default()
    }
}

fn put(key: &str) -> kv::PutRequest {
    kv::PutRequest {
        key: bytes(key),
        value: bytes("v"),
        ..kv::PutRequest::default()
    }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..RangeRequest::default()
    }
}

fn create(key: &str, range_end: &str) -> WatchRequest {
    WatchRequest {
        union: Some(WatchUnion::Create(WatchCreate {
            key: bytes(key),
            range_end: bytes(range_end),
            ..WatchCreate::default()
        })),
    }
}

/// A server with the user `root` and, in role `r`, the user `u`, who reads a to c and writes b to d.
struct Guarded {
    bench: Bench,
    root: Client,
    u: Client,
}

impl Guarded {
    async fn new() -> Guarded {
        let options = Options {
            bcrypt_cost: 4,
            ..Options::default()
        };
        let bench = Bench::of(MemStore::new(), options).await;
        let mut root = nobody(&bench).await;
        root.add_user("root", "root").await;
        root.auth("RoleAdd", name("r")).await.unwrap();
        root.add_user("u", "r").await;
        root.may("r", PermissionKind::Read, "a", "c").await;
        root.may("r", PermissionKind::Write, "b", "d").await;
        root.auth("AuthEnable", Empty {}).await.unwrap();
        root = signed_in(&bench, "root").await.unwrap();
        let u = signed_in(&bench, "u").await.unwrap();
        Guarded { bench, root, u }
    }
}

async fn nobody(bench: &Bench) -> Client {
    Client {
        channel: connect(&bench.front, bench.front.clients.nameless()).await,
        token: None,
    }
}

async fn by_certificate(bench: &Bench, name: &str) -> Client {
    let endpoint = Endpoint::from_static("http://pipe");
    Client {
        channel: connect_as(endpoint, &bench.front, Some(name)).await,
        token: None,
    }
}

async fn signed_in(bench: &Bench, name: &str) -> Result<Client, Status> {
    let mut client = nobody(bench).await;
    client.token = Some(token(bench, name, "pw").await?);
    Ok(client)
}

async fn token(bench: &Bench, name: &str, password: &str) -> Result<String, Status> {
    let request = AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    };
    let path = "/etcdserverpb.Auth/Authenticate";
    let answer: Headed<AuthenticateBody> = bench.call(path, request).await?;
    Ok(answer.body.token)
}

#[tokio::test]
async fn users_and_roles_are_administrated_with_etcds_words() {
    let options = Options {
        bcrypt_cost: 4,
        ..Options::default()
    };
    let bench = Bench::of(MemStore::new(), options).await;
    let mut root = nobody(&bench).await;
    let precondition = |text: &str| refused((Code::FailedPrecondition, text));
    let invalid = |text: &str| refused((Code::InvalidArgument, text));
    let not_enabled = token(&bench, "root", "pw").await.unwrap_err();
    assert_eq!(not_enabled.code(), Code::FailedPrecondition);
    assert_eq!(
        not_enabled.message(),
        "etcdserver: authentication is not enabled"
    );
    let enable = root.auth("AuthEnable", Empty {}).await;
    assert_eq!(enable, precondition("etcdserver: root user does not exist"));
    let add = root.auth("UserAdd", user("", "pw")).await;
    assert_eq!(add, invalid("etcdserver: user name is empty"));
    assert_eq!(root.auth("UserAdd", user("root", "pw")).await, Ok(()));
    let again = root.auth("UserAdd", user("root", "pw")).await;
    assert_eq!(again, precondition("etcdserver: user name already exists"));
    let enable = root.auth("AuthEnable", Empty {}).await;
    let want = precondition("etcdserver: root user does not have root role");
    assert_eq!(enable, want);
    let grant = root.auth("UserGrantRole", user_role("root", "root"));
    assert_eq!(grant.await, Ok(()));
    assert_eq!(root.auth("AuthEnable", Empty {}).await, Ok(()));

    assert_eq!(root.auth("UserList", Empty {}).await, refused(NOBODY));
    root = signed_in(&bench, "root").await.unwrap();
    assert_eq!(
        root.auth("RoleAdd", name("")).await,
        invalid("etcdserver: role name is empty")
    );
    assert_eq!(root.auth("RoleAdd", name("r")).await, Ok(()));
    let again = root.auth("RoleAdd", name("r")).await;
    assert_eq!(again, precondition("etcdserver: role name already exists"));
    let not_given = RoleGrantRequest {
        name: "r".into(),
        permission: None,
    };
    assert_eq!(
        root.auth("RoleGrantPermission", not_given).await,
        invalid("etcdserver: permission not given")
    );
    root.may("r", PermissionKind::ReadWrite, "foo", "fop").await;
    let revoke = |key: &str| kv::RoleRevoke {
        role: "r".into(),
        key: bytes(key),
        range_end: Bytes::new(),
    };
    let want = precondition("etcdserver: permission is not granted to the role");
    assert_eq!(root.auth("RoleRevokePermission", revoke("foo")).await, want);
    root.may("r", PermissionKind::Read, "x", "").await;
    assert_eq!(root.auth("RoleRevokePermission", revoke("x")).await, Ok(()));
    root.add_user("alice", "r").await;
    let no_such = precondition("etcdserver: role name not found");
    let grant = root.auth("UserGrantRole", user_role("alice", "no"));
    assert_eq!(grant.await, no_such);
    assert_eq!(root.auth("RoleDelete", name("no")).await, no_such);
    assert_eq!(root.auth("RoleGet", name("no")).await, no_such);
    let no_such = precondition("etcdserver: user name not found");
    assert_eq!(root.auth("UserDelete", name("no")).await, no_such);
    assert_eq!(root.auth("UserGet", name("no")).await, no_such);
    let change = root.auth("UserChangePassword", password("no", "pw")).await;
    assert_eq!(change, no_such);
    let want = precondition("etcdserver: role is not granted to the user");
    let revoke = root.auth("UserRevokeRole", user_role("alice", "no"));
    assert_eq!(revoke.await, want);
    let refusal = invalid("etcdserver: invalid auth management");
    assert_eq!(root.auth("UserDelete", name("root")).await, refusal);
    assert_eq!(root.auth("RoleDelete", name("root")).await, refusal);
    let revoke = root.auth("UserRevokeRole", user_role("root", "root"));
    assert_eq!(revoke.await, refusal);

    let list: Headed<NamesBody> = root
        .ask("/etcdserverpb.Auth/UserList", Empty {})
        .await
        .unwrap();
    assert_eq!(list.body.names, ["alice", "root"]);
    let list: Headed<NamesBody> = root
        .ask("/etcdserverpb.Auth/RoleList", Empty {})
        .await
        .unwrap();
    assert_eq!(list.body.names, ["r"]);
    let alice = signed_in(&bench, "alice").await.unwrap();
    let got: Headed<UserGetBody> = alice
        .ask("/etcdserverpb.Auth/UserGet", name("alice"))
        .await
        .unwrap();
    assert_eq!(got.body.roles, ["r"]);
    let got: Headed<RoleGetBody> = alice
        .ask("/etcdserverpb.Auth/RoleGet", name("r"))
        .await
        .unwrap();
    assert_eq!(got.body.permissions[0].range_end, "fop");
    for denied in [
        alice.auth("UserGet", name("root")).await,
        alice.auth("RoleGet", name("root")).await,
        alice.auth("UserList", Empty {}).await,
        alice.auth("AuthDisable", Empty {}).await,
    ] {
        assert_eq!(denied, refused(DENIED));
    }
    let status: Headed<AuthStatusBody> = alice
        .ask("/etcdserverpb.Auth/AuthStatus", Empty {})
        .await
        .unwrap();
    assert!(status.body.enabled);
    assert_eq!(status.body.auth_revision, 10);
    assert_eq!(root.auth("AuthEnable", Empty {}).await, Ok(()), "it is");
    assert_eq!(root.auth("AuthDisable", Empty {}).await, Ok(()));
    assert_eq!(nobody(&bench).await.get("x", "").await, Ok(()));
}

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
        .propose_under(kv::Command::Txn(txn_of(vec![put_op("a", "1")])), 0)
        .unwrap();
    let want = format!("rpc error: code = InvalidArgument desc = {}", NOBODY.1);
    assert_eq!(watch.next().await.body.cancel_reason, want);
}

#[tokio::test]
async fn tokens_end_by_time_and_with_the_password() {
    let Guarded { root, u, bench } = Guarded::new().await;
    let sleep = |seconds| bench.backend.unix_s.fetch_add(seconds, Ordering::Relaxed);
    sleep(299);
    assert_eq!(u.get("a", "").await, Ok(()));
    assert_eq!(root.get("a", "").await, Ok(()));
    sleep(299);
    assert_eq!(u.get("a", "").await, Ok(()), "use renews it");
    sleep(2);
    assert_eq!(root.get("a", "").await, refused(BAD_TOKEN));
    let root = signed_in(&bench, "root").await.unwrap();
    root.auth("UserChangePassword", password("u", "other"))
        .await
        .unwrap();
    assert_eq!(u.get("a", "").await, refused(BAD_TOKEN));
    let wrong = signed_in(&bench, "u").await.err().unwrap();
    let want = "etcdserver: authentication failed, invalid user ID or password";
    assert_eq!(
        (wrong.code(), wrong.message()),
        (Code::InvalidArgument, want)
    );
    let wrong = token(&bench, "who", "pw").await.unwrap_err();
    assert_eq!(
        (wrong.code(), wrong.message()),
        (Code::InvalidArgument, want)
    );
    let mut u = nobody(&bench).await;
    u.token = Some(token(&bench, "u", "other").await.unwrap());
    assert_eq!(u.get("a", "").await, Ok(()));
    let mut forged = u.token.clone().unwrap().into_bytes();
    forged[3] ^= 1;
    let forged = Client {
        token: Some(String::from_utf8(forged).unwrap()),
        ..nobody(&bench).await
    };
    assert_eq!(forged.get("a", "").await, refused(BAD_TOKEN));
    root.auth("UserDelete", name("u")).await.unwrap();
    assert_eq!(u.get("a", "").await, refused(BAD_TOKEN));
    // The same name is another user.
    root.add_user("u", "r").await;
    assert_eq!(u.get("a", "").await, refused(BAD_TOKEN));
    // Tokens of one time are void in another.
    let u = signed_in(&bench, "u").await.unwrap();
    root.auth("AuthDisable", Empty {}).await.unwrap();
    assert_eq!(u.get("z", "").await, Ok(()));
    root.auth("AuthEnable", Empty {}).await.unwrap();
    assert_eq!(u.get("a", "").await, refused(BAD_TOKEN));
}

#[tokio::test]
async fn a_hash_computed_by_the_client_is_a_password_and_no_password_is_none() {
    let Guarded { root, bench, .. } = Guarded::new().await;
    let hashed = |hash: &str| {
        let hash = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, hash);
        UserAddRequest {
            hashed_password: hash,
            ..user("h", "")
        }
    };
    let no_hash = root.auth("UserAdd", hashed("plain")).await;
    assert_eq!(no_hash.unwrap_err().0, Code::Unknown);
    let hash = bcrypt::hash("pw", 4).unwrap();
    assert_eq!(root.auth("UserAdd", hashed(&hash)).await, Ok(()));
    assert!(signed_in(&bench, "h").await.is_ok());
    let none = UserAddRequest {
        options: Some(UserAddOptions { no_password: true }),
        ..user("n", "")
    };
    assert_eq!(root.auth("UserAdd", none).await, Ok(()));
    let refusal = signed_in(&bench, "n").await.err().unwrap();
    assert_eq!(refusal.code(), Code::Unknown);
    assert_eq!(
        refusal.message(),
        "auth: authentication failed, password was given for no password user"
    );
    let long = root.auth("UserAdd", user("l", &"p".repeat(73))).await;
    let want = (Code::Unknown, "bcrypt: password length exceeds 72 bytes");
    assert_eq!(long, refused(want));
}

#[tokio::test]
async fn a_certificate_counts_as_its_name_unless_there_is_a_token() {
    let Guarded { root, bench, .. } = Guarded::new().await;
    let mut by_name = by_certificate(&bench, "u").await;
    assert_eq!(by_name.put("b").await, Ok(()));
    assert_eq!(by_name.put("z").await, refused(DENIED));
    by_name.token = root.token.clone();
    assert_eq!(by_name.put("z").await, Ok(()));
    by_name.token = Some("wrong".into());
    assert_eq!(by_name.put("b").await, refused(BAD_TOKEN));
    let stranger = by_certificate(&bench, "stranger").await;
    assert_eq!(stranger.get("b", "").await, refused(DENIED));
    let want = (Code::FailedPrecondition, "etcdserver: user name not found");
    assert_eq!(stranger.auth("UserList", Empty {}).await, refused(want));
    assert_eq!(
        by_certificate(&bench, "").await.get("b", "").await,
        refused(NOBODY)
    );
    // The operator gets in again, and touches no keys.
    let admin = by_certificate(&bench, "store-admin").await;
    assert_eq!(admin.get("b", "").await, refused(DENIED));
    assert_eq!(admin.put("b").await, refused(DENIED));
    assert_eq!(
        admin
            .auth("UserChangePassword", password("root", "new"))
            .await,
        Ok(())
    );
    assert!(token(&bench, "root", "new").await.is_ok());
    assert_eq!(
        admin
            .does("/etcdserverpb.Maintenance/Snapshot", Empty {})
            .await,
        Ok(())
    );
    assert_eq!(admin.auth("AuthDisable", Empty {}).await, Ok(()));
    assert_eq!(admin.get("b", "").await, Ok(()));
}

#[tokio::test]
async fn what_changes_between_question_and_deed_counts() {
    let Guarded { root, u, bench } = Guarded::new().await;
    let meanwhile = |change: kv::AuthChange| {
        *bench.backend.meanwhile.lock().unwrap() = Some(Box::new(move |store: &MemStore| {
            let change = Some(change);
            let command = kv::Command::Auth(kv::AuthCommand { change });
            store.propose_under(command, 0).unwrap();
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

#[tokio::test]
async fn the_gateway_passes_tokens_on() {
    let Guarded { bench, .. } = Guarded::new().await;
    let post = async |path: &str, body: serde_json::Value, token: Option<&str>| {
        let mut request = http::Request::builder()
            .method("POST")
            .uri(path)
            .header("host", "etcd");
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let body = http_body_util::Full::new(Bytes::from(body.to_string()));
        let mut client = bench.plain().await;
        let answer = client
            .send_request(request.body(body).unwrap())
            .await
            .unwrap();
        let status = answer.status();
        let body = http_body_util::BodyExt::collect(answer.into_body())
            .await
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        (status, body)
    };
    let credentials = serde_json::json!({"name": "u", "password": "pw"});
    let (_, answer) = post("/v3/auth/authenticate", credentials, None).await;
    let token = answer["token"].as_str().unwrap();
    let key = || serde_json::json!({"key": "YQ=="});
    let (status, _) = post("/v3/kv/range", key(), Some(token)).await;
    assert_eq!(status, 200);
    let (status, answer) = post("/v3/kv/range", key(), None).await;
    assert_eq!(
        (status.as_u16(), answer["error"].as_str()),
        (400, Some(NOBODY.1))
    );
    let (status, answer) = post("/v3/kv/range", key(), Some("no")).await;
    assert_eq!(
        (status.as_u16(), answer["error"].as_str()),
        (401, Some(BAD_TOKEN.1))
    );
    let denied = serde_json::json!({"key": "eg=="});
    let (status, _) = post("/v3/kv/range", denied, Some(token)).await;
    assert_eq!(status, 403);
}

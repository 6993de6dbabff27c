//! How users, roles and passwords are administrated, and who somebody is.

use super::*;

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

//! The `etcd-client` crate against members, over TLS, first without and then with users and roles.
//!
//! `etcd-client-test ENDPOINTS CA CERT KEY`: endpoints with commas between them. Prints "well" and ends with 0, or panics.

use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmType, Certificate, Client, Compare, CompareOp, ConnectOptions, DeleteOptions,
    Error, EventType, GetOptions, Identity, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions,
    MemberAddOptions, Permission, ProclaimOptions, PutOptions, ResignOptions, SortOrder,
    SortTarget, TlsOptions, Txn, TxnOp, TxnOpResponse, UserAddOptions, WatchFilterType,
    WatchOptions, WatchResponse, WatchStream,
};

/// Every wait ends.
const SOON: Duration = Duration::from_secs(20);

type Outcome<T = ()> = Result<T, Error>;

struct Members {
    endpoints: Vec<String>,
    tls: TlsOptions,
}

impl Members {
    async fn connect(&self, endpoints: &[String], user: Option<(&str, &str)>) -> Outcome<Client> {
        let mut options = ConnectOptions::new()
            .with_tls(self.tls.clone())
            .with_timeout(SOON)
            .with_keep_alive(Duration::from_secs(1), SOON)
            .with_require_leader(true);
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        Client::connect(endpoints, Some(options)).await
    }

    /// Of the first member.
    async fn one(&self, user: Option<(&str, &str)>) -> Client {
        let one = self.connect(&self.endpoints[..1], user).await;
        one.expect("a connection")
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoints, ca, cert, key] = &arguments[..] else {
        panic!("usage: etcd-client-test ENDPOINTS CA CERT KEY");
    };
    let read = |path: &String| std::fs::read(path).expect("a file");
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read(ca)))
        .identity(Identity::from_pem(read(cert), read(key)));
    let members = Members {
        endpoints: endpoints.split(',').map(String::from).collect(),
        tls,
    };
    let all = tokio::time::timeout(6 * SOON, run(&members)).await;
    all.expect("it ends in time").expect("all is well");
    println!("well");
}

async fn run(members: &Members) -> Outcome {
    let mut one = members.one(None).await;
    use_keys(&mut one).await?;
    watch(&mut one).await?;
    use_leases(&mut one).await?;
    lock(&mut one).await?;
    elect(&mut one).await?;
    maintain(members, &mut one).await?;
    administrate_members(&mut one).await?;
    // Whatever member a call comes to.
    let mut balanced = members.connect(&members.endpoints, None).await?;
    for _ in 0..5 {
        use_keys(&mut balanced).await?;
    }
    protect(members, &mut one).await
}

async fn use_keys(client: &mut Client) -> Outcome {
    let put = client.put("app/a", "1", None).await?;
    let revision = put.header().expect("a header").revision();
    let previous = PutOptions::new().with_prev_key();
    let put = client.put("app/a", "2", Some(previous)).await?;
    assert_eq!(put.prev_key().expect("it was there").value(), b"1");
    let old = GetOptions::new().with_revision(revision);
    assert_eq!(client.get("app/a", Some(old)).await?.kvs()[0].value(), b"1");
    let txn = Txn::new()
        .when([
            Compare::value("app/a", CompareOp::Equal, "2"),
            Compare::version("app/b", CompareOp::Equal, 0),
        ])
        .and_then([
            TxnOp::put("app/b", "3", None),
            TxnOp::get("app/b", None),
            TxnOp::txn(Txn::new().and_then([TxnOp::put("app/c", "4", None)])),
        ])
        .or_else([TxnOp::get("app/a", None)]);
    let done = client.txn(txn.clone()).await?;
    assert!(done.succeeded());
    let [_, TxnOpResponse::Get(got), TxnOpResponse::Txn(nested)] = &done.op_responses()[..] else {
        panic!("{done:?}");
    };
    assert_eq!(got.kvs()[0].value(), b"3");
    assert!(nested.succeeded());
    assert!(!client.txn(txn).await?.succeeded());
    let keys = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(2);
    let list = client.get("app/", Some(keys)).await?;
    let keys: Vec<_> = list.kvs().iter().map(|kv| kv.key().to_vec()).collect();
    assert_eq!((list.count(), list.more()), (3, true));
    assert!(!keys.contains(&b"app/a".to_vec()), "the oldest: {keys:?}");
    let count = GetOptions::new().with_prefix().with_count_only();
    assert_eq!(client.get("app/", Some(count)).await?.count(), 3);
    let local = GetOptions::new().with_serializable().with_keys_only();
    client.get("app/a", Some(local)).await?;
    let delete = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("app/", Some(delete)).await?;
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (3, 3));
    let revision = deleted.header().expect("a header").revision();
    client.compact(revision, None).await?;
    let compacted = GetOptions::new().with_revision(revision - 1);
    let gone = client.get("app/a", Some(compacted)).await;
    says(gone, "required revision has been compacted");
    Ok(())
}

async fn heard(stream: &mut WatchStream) -> WatchResponse {
    let heard = tokio::time::timeout(SOON, stream.message()).await;
    let heard = heard.expect("an answer comes").expect("no error");
    heard.expect("the stream goes on")
}

async fn watch(client: &mut Client) -> Outcome {
    let first = client.put("app/a", "1", None).await?;
    let first = first.header().expect("a header").revision();
    let options = WatchOptions::new()
        .with_prefix()
        .with_prev_key()
        .with_start_revision(first);
    let mut stream = client.watch("app/", Some(options)).await?;
    let created = heard(&mut stream).await;
    assert!(created.created());
    assert_eq!(heard(&mut stream).await.events().len(), 1);
    client.put("app/a", "2", None).await?;
    let told = heard(&mut stream).await;
    let event = &told.events()[0];
    assert_eq!(event.event_type(), EventType::Put);
    assert_eq!(event.prev_kv().expect("it was there").value(), b"1");
    // A second one on the same stream, which wants no puts.
    let deletes = WatchOptions::new().with_filters([WatchFilterType::NoPut]);
    stream.watch("app/b", Some(deletes)).await?;
    let second = heard(&mut stream).await;
    assert!(second.created() && second.watch_id() != created.watch_id());
    let put = client.put("app/b", "3", None).await?;
    let last = put.header().expect("a header").revision();
    assert_eq!(heard(&mut stream).await.watch_id(), created.watch_id());
    stream.request_progress().await?;
    let progress = heard(&mut stream).await;
    assert!(progress.events().is_empty() && progress.watch_id() == -1);
    assert!(progress.header().expect("a header").revision() >= last);
    stream.cancel(created.watch_id()).await?;
    assert!(heard(&mut stream).await.canceled());
    client.delete("app/b", None).await?;
    let deleted = heard(&mut stream).await;
    assert_eq!(deleted.watch_id(), second.watch_id());
    assert_eq!(deleted.events()[0].event_type(), EventType::Delete);
    // One from before history begins.
    let options = WatchOptions::new().with_start_revision(1);
    stream.watch("app/a", Some(options)).await?;
    assert!(heard(&mut stream).await.created());
    let canceled = heard(&mut stream).await;
    assert!(canceled.canceled() && canceled.compact_revision() > 1);
    client.delete("app/a", None).await?;
    Ok(())
}

async fn use_leases(client: &mut Client) -> Outcome {
    let wanted = LeaseGrantOptions::new().with_id(7);
    let granted = client.lease_grant(60, Some(wanted)).await?;
    assert_eq!((granted.id(), granted.ttl()), (7, 60));
    let again = LeaseGrantOptions::new().with_id(7);
    says(
        client.lease_grant(60, Some(again)).await,
        "lease already exists",
    );
    let leased = PutOptions::new().with_lease(7);
    client.put("app/leased", "x", Some(leased)).await?;
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    let status = client.lease_time_to_live(7, Some(keys)).await?;
    assert_eq!(
        (status.granted_ttl(), status.keys()),
        (60, &[b"app/leased".to_vec()][..])
    );
    assert!(
        client
            .leases()
            .await?
            .leases()
            .iter()
            .any(|lease| lease.id() == 7)
    );
    let (mut keeper, mut kept) = client.lease_keep_alive(7).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let renewed = tokio::time::timeout(SOON, kept.message()).await;
        let renewed = renewed
            .expect("an answer comes")?
            .expect("the stream goes on");
        assert_eq!((renewed.id(), renewed.ttl()), (7, 60));
    }
    client.lease_revoke(7).await?;
    assert_eq!(client.get("app/leased", None).await?.count(), 0);
    assert_eq!(client.lease_time_to_live(7, None).await?.ttl(), -1);
    says(client.lease_keep_alive(7).await, "lease not found");
    says(client.lease_revoke(7).await, "requested lease not found");
    Ok(())
}

async fn lock(client: &mut Client) -> Outcome {
    let lease = client.lease_grant(60, None).await?.id();
    let held = client.lock("app/lock", None).await?;
    let waiting = {
        let mut client = client.clone();
        let options = LockOptions::new().with_lease(lease);
        tokio::spawn(async move { client.lock("app/lock", Some(options)).await })
    };
    let in_line = GetOptions::new().with_prefix().with_count_only();
    while client
        .get("app/lock/", Some(in_line.clone()))
        .await?
        .count()
        < 2
    {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    client.unlock(held.key()).await?;
    let next = waiting.await.expect("it waits in peace")?;
    assert_eq!(next.key(), format!("app/lock/{lease:x}").as_bytes());
    client.unlock(next.key()).await?;
    client.lease_revoke(lease).await?;
    Ok(())
}

async fn elect(client: &mut Client) -> Outcome {
    says(client.leader("app/seat").await, "no leader");
    let lease = client.lease_grant(60, None).await?.id();
    let elected = client.campaign("app/seat", "me", lease).await?;
    let leader = elected.leader().expect("a leader").clone();
    let mut observed = client.observe("app/seat").await?;
    let proclaim = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("still me", Some(proclaim)).await?;
    assert_eq!(
        client
            .leader("app/seat")
            .await?
            .kv()
            .expect("a leader")
            .value(),
        b"still me"
    );
    loop {
        let told = tokio::time::timeout(SOON, observed.message()).await;
        let told = told.expect("an answer comes")?.expect("the stream goes on");
        if told.kv().expect("a leader").value() == b"still me" {
            break;
        }
    }
    let resign = ResignOptions::new().with_leader(leader);
    client.resign(Some(resign)).await?;
    says(client.leader("app/seat").await, "no leader");
    client.lease_revoke(lease).await?;
    Ok(())
}

async fn maintain(members: &Members, client: &mut Client) -> Outcome {
    let status = client.status().await?;
    assert!(status.version().starts_with("3.6.") && status.db_size() > 0);
    assert!(status.raft_applied_index() > 0 && !status.is_learner());
    assert!(client.hash().await?.header().is_some());
    let revision = status.header().expect("a header").revision();
    let mut hashes = Vec::new();
    for endpoint in &members.endpoints {
        let mut member = members
            .connect(std::slice::from_ref(endpoint), None)
            .await?;
        // Until it has come so far.
        member.get("app/", None).await?;
        hashes.push(member.hash_kv(revision).await?.hash());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    client.defragment().await?;
    let (get, any) = (AlarmAction::Get, AlarmType::None);
    assert_eq!(client.alarm(get, any, None).await?.alarms().len(), 0);
    client.alarm(AlarmAction::Deactivate, any, None).await?;
    let mut snapshot = client.snapshot().await?;
    let (mut bytes, mut left) = (0, 1);
    while let Some(part) = snapshot.message().await? {
        bytes += part.blob().len();
        left = part.remaining_bytes();
    }
    assert_eq!((left, bytes % 512), (0, 32), "with the hash at the end");
    move_leader(members).await
}

/// To the next member, and the one that does not lead refuses.
async fn move_leader(members: &Members) -> Outcome {
    let mut leads = None;
    for endpoint in &members.endpoints {
        let mut member = members
            .connect(std::slice::from_ref(endpoint), None)
            .await?;
        let status = member.status().await?;
        let me = status.header().expect("a header").member_id();
        if status.leader() == me {
            leads = Some((me, member));
        }
    }
    let (me, mut leader) = leads.expect("one leads");
    let list = leader.member_list().await?;
    let mut others = list.members().iter().filter(|other| other.id() != me);
    let target = others.next().expect("there are others").id();
    leader.move_leader(target).await?;
    assert_eq!(leader.status().await?.leader(), target);
    says(leader.move_leader(target).await, "not leader");
    Ok(())
}

async fn administrate_members(client: &mut Client) -> Outcome {
    let before = client.member_list().await?.members().len();
    let learner = MemberAddOptions::new().with_is_learner();
    let added = client
        .member_add(["https://127.0.0.1:9"], Some(learner))
        .await?;
    let id = added.member().expect("the new one").id();
    assert_eq!(added.member_list().len(), before + 1);
    client
        .member_update(id, ["https://127.0.0.1:10".into()])
        .await?;
    let list = client.member_list().await?;
    let mut all = list.members().iter();
    let found = all.find(|member| member.id() == id).expect("it is there");
    assert!(found.is_learner());
    assert_eq!(found.peer_urls(), ["https://127.0.0.1:10"]);
    says(client.member_promote(id).await, "in sync with leader");
    client.member_remove(id).await?;
    says(client.member_remove(id).await, "member not found");
    assert_eq!(client.member_list().await?.members().len(), before);
    Ok(())
}

/// With users and roles, until they are switched off again.
async fn protect(members: &Members, open: &mut Client) -> Outcome {
    says(open.auth_enable().await, "root user does not exist");
    for user in ["root", "app"] {
        open.user_add(user, "pw", None).await?;
    }
    let nameless = UserAddOptions::new().with_no_pwd();
    open.user_add("nobody", "", Some(nameless)).await?;
    open.user_grant_role("root", "root").await?;
    open.role_add("app").await?;
    let all_of_app = Permission::read_write("app/").with_prefix();
    open.role_grant_permission("app", all_of_app).await?;
    open.user_grant_role("app", "app").await?;
    open.put("other", "1", None).await?;
    open.auth_enable().await?;

    says(open.get("app/a", None).await, DENIED);
    let wrong = members
        .connect(&members.endpoints, Some(("app", "no")))
        .await;
    says(wrong, "authentication failed, invalid user ID or password");
    let mut app = members.one(Some(("app", "pw"))).await;
    let mut root = members
        .connect(&members.endpoints, Some(("root", "pw")))
        .await?;
    // All that a user does with its own keys.
    app.put("app/a", "1", None).await?;
    app.delete("app/a", None).await?;
    watch_as_user(&mut app).await?;
    lock(&mut app).await?;
    elect(&mut app).await?;
    says(app.put("other", "2", None).await, DENIED);
    says(app.get("other", None).await, DENIED);
    let more = GetOptions::new().with_from_key();
    says(app.get("app/", Some(more)).await, DENIED);
    let nested = Txn::new().or_else([TxnOp::delete("other", None)]);
    says(
        app.txn(Txn::new().and_then([TxnOp::txn(nested)])).await,
        DENIED,
    );
    says(app.lock("other", None).await, DENIED);
    says(app.user_list().await, DENIED);
    says(app.status().await, DENIED);
    says(app.compact(1, None).await, DENIED);
    says(app.auth_disable().await, DENIED);
    assert_eq!(app.user_get("app").await?.roles(), ["app"]);
    assert_eq!(app.role_get("app").await?.permissions().len(), 1);

    share_a_lease(&mut app, &mut root).await?;

    assert_eq!(root.get("other", None).await?.kvs()[0].value(), b"1");
    assert_eq!(root.user_list().await?.users(), ["app", "nobody", "root"]);
    assert_eq!(root.role_list().await?.roles(), ["app"]);
    use_leases(&mut root).await?;
    // A new password ends what the old one opened; who knows the new one goes on.
    root.user_change_password("app", "new").await?;
    says(app.get("app/a", None).await, "invalid auth token");
    app.update_user(Some(("app".into(), "new".into()))).await?;
    app.get("app/a", None).await?;
    root.user_revoke_role("app", "app").await?;
    says(app.get("app/a", None).await, DENIED);
    root.role_delete("app").await?;
    root.user_delete("app").await?;
    root.user_delete("nobody").await?;
    root.auth_disable().await?;
    open.delete("other", None).await?;
    use_keys(open).await
}

/// It is of those who may write all keys that it has, whoever has granted it.
async fn share_a_lease(app: &mut Client, root: &mut Client) -> Outcome {
    let lease = app.lease_grant(60, None).await?.id();
    let leased = PutOptions::new().with_lease(lease);
    app.put("app/leased", "1", Some(leased.clone())).await?;
    app.lease_keep_alive(lease).await?;
    root.put("other/leased", "1", Some(leased.clone())).await?;
    says(
        app.put("app/leased", "2", Some(leased.clone())).await,
        DENIED,
    );
    let nested = Txn::new().and_then([TxnOp::put("app/leased", "2", Some(leased))]);
    says(
        app.txn(Txn::new().or_else([TxnOp::txn(nested)])).await,
        DENIED,
    );
    says(app.lease_revoke(lease).await, DENIED);
    says(app.lease_keep_alive(lease).await, DENIED);
    says(app.leases().await, DENIED);
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    says(app.lease_time_to_live(lease, Some(keys)).await, DENIED);
    assert!(app.lease_time_to_live(lease, None).await?.ttl() > 0);
    assert_eq!(app.get("app/leased", None).await?.kvs()[0].value(), b"1");
    root.lease_revoke(lease).await?;
    assert_eq!(app.get("app/leased", None).await?.count(), 0);
    Ok(())
}

const DENIED: &str = "permission denied";

/// A watch is of what may be read, and what may not is said of it alone.
async fn watch_as_user(app: &mut Client) -> Outcome {
    let options = WatchOptions::new().with_prefix();
    let mut stream = app.watch("app/", Some(options)).await?;
    assert!(heard(&mut stream).await.created());
    stream.watch("other", None).await?;
    let refused = heard(&mut stream).await;
    assert!(refused.canceled() && refused.cancel_reason().contains(DENIED));
    app.put("app/a", "1", None).await?;
    assert_eq!(heard(&mut stream).await.events().len(), 1);
    app.delete("app/a", None).await?;
    Ok(())
}

/// It was refused in these words.
#[track_caller]
fn says<T>(outcome: Outcome<T>, words: &str) {
    let said = match outcome {
        Err(Error::GRpcStatus(status)) => status.message().to_string(),
        Err(error) => error.to_string(),
        Ok(_) => panic!("done instead of {words:?}"),
    };
    assert!(said.contains(words), "{said:?} instead of {words:?}");
}

//! Requests that reach a server before it has caught up with its store: they are judged by the present or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use auth::User;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, StatusCode};
use kv::mem::MemStore;
use kv::{
    BoxFuture, LeaseStatus, RangeRequest, RangeResponse, Store, StoreError, StoreResult,
    StoreStatus, TxnRequest, TxnResponse, WatchRequest, WatchStream,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::server::{MAPS, Server, config_map};

const DEADLINE: Duration = Duration::from_secs(30);

/// A store whose watches open only when the test says so: until then a server knows the past that it has read.
struct Late {
    inner: Arc<MemStore>,
    open: watch::Sender<bool>,
    asked: watch::Sender<bool>,
    /// Without a leader nobody knows whether what is there is all.
    has_leader: watch::Sender<bool>,
    /// How often a server began to read everything.
    loads: watch::Sender<usize>,
}

impl Late {
    fn over(inner: Arc<MemStore>) -> Arc<Late> {
        Arc::new(Late {
            inner,
            open: watch::Sender::new(false),
            asked: watch::Sender::new(false),
            has_leader: watch::Sender::new(true),
            loads: watch::Sender::new(0),
        })
    }

    /// Waits until a server has read what it starts from.
    async fn read(&self) {
        let mut asked = self.asked.subscribe();
        let asked = timeout(DEADLINE, asked.wait_for(|asked| *asked)).await;
        asked.expect("the server watches").unwrap();
    }
}

impl Store for Late {
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        Box::pin(async move {
            self.asked.send_replace(true);
            let mut open = self.open.subscribe();
            let opened = open.wait_for(|open| *open).await;
            opened.map_err(|_| StoreError::Stopped)?;
            self.inner.watch(request).await
        })
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        if request.key[..] == *b"/registry/" && request.revision > 0 {
            self.loads.send_modify(|loads| *loads += 1);
        }
        self.inner.range(request)
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, StoreResult<TxnResponse>> {
        self.inner.txn(request)
    }

    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        if !*self.has_leader.borrow() {
            return Box::pin(std::future::ready(Err(StoreError::NoLeader)));
        }
        self.inner.read_index()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.compact(revision)
    }

    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> BoxFuture<'_, StoreResult<(i64, i64)>> {
        self.inner.lease_grant(id, ttl_seconds)
    }

    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, StoreResult<i64>> {
        self.inner.lease_keep_alive(id)
    }

    fn lease_time_to_live(&self, id: i64, keys: bool) -> BoxFuture<'_, StoreResult<LeaseStatus>> {
        self.inner.lease_time_to_live(id, keys)
    }

    fn leases(&self) -> BoxFuture<'_, StoreResult<Vec<i64>>> {
        self.inner.leases()
    }

    fn status(&self) -> StoreStatus {
        self.inner.status()
    }
}

/// A server whose history begins now, and that knows nothing newer until the store's watches open.
async fn late(before: &Server, changes: impl AsyncFnOnce(&Server)) -> (Server, Arc<Late>) {
    let now = before.store.read_index().await.unwrap();
    before.store.compact(now).await.unwrap();
    changes(before).await;
    let store = Late::over(before.store.clone());
    let server = Server::unready(store.clone(), before.store.clone(), "CA".to_owned());
    store.read().await;
    (server, store)
}

fn impersonating(user: User, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri("/version").extension(user);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_right_to_impersonate_that_is_not_known_yet_is_waited_for() {
    let before = Server::start().await;
    let (server, store) = late(&before, async |before| {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "ann"},
            "subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}});
        let uri = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        before.post(uri, binding).await.ok();
    })
    .await;
    // An administrator needs no policy, neither to impersonate nor to ask.
    let root = impersonating(
        User::loopback(),
        &[
            ("impersonate-user", "root"),
            ("impersonate-group", "system:masters"),
        ],
    );
    assert_eq!(server.read(root).await.code, StatusCode::OK);
    let ann = User::new("ann", ["system:authenticated"]);
    let mut answer = Box::pin(server.read(impersonating(ann, &[("impersonate-user", "bob")])));
    assert!(
        futures::poll!(&mut answer).is_pending(),
        "it is judged already"
    );
    store.open.send_replace(true);
    let answer = timeout(DEADLINE, answer).await.expect("in time");
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn a_token_whose_account_is_gone_is_not_judged_by_the_past() {
    let before = Server::start().await;
    before.account("default").await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts/default";
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let issued = before.post(&format!("{accounts}/token"), request).await;
    let issued = issued.ok();
    let token = issued["status"]["token"].as_str().unwrap();
    let (server, store) = late(&before, async |before| {
        before.delete(accounts, Value::Null).await.ok();
    })
    .await;
    let request = Request::builder()
        .uri("/version")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    let mut answer = Box::pin(server.read(request));
    assert!(
        futures::poll!(&mut answer).is_pending(),
        "it is judged already"
    );
    store.open.send_replace(true);
    let answer = timeout(DEADLINE, answer).await.expect("in time");
    assert_eq!(answer.refused().0, 401, "{}", answer.text);
}

/// The client of a server that is not ready is still sending, too.
#[tokio::test]
async fn the_body_of_an_unavailable_write_is_taken() {
    const CHUNKS: usize = 20;
    let before = Server::start().await;
    let (server, _store) = late(&before, async |before| {
        before.account("default").await;
    })
    .await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let chunks = futures::stream::iter(0..CHUNKS).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(MAPS)
        .header("authorization", "Bearer jane-token")
        .body(Body::from_stream(chunks))
        .unwrap();
    let answer = timeout(DEADLINE, server.read(request)).await;
    assert_eq!(answer.expect("in time").refused().0, 503);
    assert_eq!(sent.load(Ordering::Relaxed), CHUNKS);
}

/// More objects than are read at once, and more history than is taken in as it is read.
#[tokio::test]
async fn all_objects_are_there_after_a_start_and_so_is_what_came_last() {
    const OBJECTS: usize = 600;
    const CHANGES: usize = 80;
    let before = Server::start().await;
    let make = async |number: usize| {
        let name = format!("map-{number:04}");
        before.post(MAPS, config_map(&name, "value")).await.ok();
        name
    };
    for number in 0..OBJECTS {
        make(number).await;
    }
    let now = before.store.read_index().await.unwrap();
    before.store.compact(now).await.unwrap();
    let mut last = Vec::new();
    for number in OBJECTS..OBJECTS + CHANGES {
        last.push(make(number).await);
    }
    before
        .delete(&format!("{MAPS}/map-0000"), Value::Null)
        .await
        .ok();

    let after = Server::over(before.store.clone()).await;
    let maps = |list: Value| list["items"].as_array().cloned().unwrap_or_default();
    let there = maps(after.get(MAPS).await.ok());
    assert_eq!(there, maps(before.get(MAPS).await.ok()));
    assert!(there.len() >= OBJECTS + CHANGES - 1, "{}", there.len());
    let mut events = after
        .watch(&format!("{MAPS}?watch=true&resourceVersion={now}"))
        .await;
    for name in last {
        assert_eq!(events.line().await, format!("ADDED {name}"));
    }
    assert_eq!(events.line().await, "DELETED map-0000");
}

#[tokio::test]
async fn what_is_read_before_there_is_a_leader_is_not_shown_and_not_read_again() {
    let before = Server::start().await;
    before.post(MAPS, config_map("early", "value")).await.ok();
    let now = before.store.read_index().await.unwrap();
    before.store.compact(now).await.unwrap();
    let store = Late::over(before.store.clone());
    store.open.send_replace(true);
    store.has_leader.send_replace(false);
    let after = Server::unready(store.clone(), before.store.clone(), "CA".to_owned());
    let mut loads = store.loads.subscribe();
    let read = timeout(DEADLINE, loads.wait_for(|loads| *loads > 0)).await;
    read.expect("it reads").unwrap();
    before.post(MAPS, config_map("late", "value")).await.ok();
    assert_eq!(after.get(MAPS).await.refused().0, 503);
    assert!(!*store.asked.borrow(), "it goes on from what may be old");

    store.has_leader.send_replace(true);
    let ready = timeout(DEADLINE, after.api.ready()).await;
    ready.expect("the server gets ready");
    let list = after.get(MAPS).await.ok();
    let maps = list["items"].as_array().unwrap().iter();
    let names: Vec<&str> = maps
        .map(|map| map["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["early", "late"]);
    assert_eq!(*store.loads.borrow(), 1);
}

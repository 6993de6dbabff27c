//! A store that meddles at chosen moments: what happens between two steps of one request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use http::StatusCode;
use kv::mem::MemStore;
use kv::{
    Answer, BoxFuture, DeleteRangeRequest, LeaseStatus, PutRequest, RangeRequest, RangeResponse,
    Request, RequestOp, Store, StoreError, StoreResult, StoreStatus, TxnRequest, TxnResponse,
    WatchRequest, WatchStream,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::definitions::{DEFINITIONS, WIDGETS, any, definition, widget};
use crate::server::{MAPS, PODS, Server, config_map, pod};

/// What to do when a write to a key with this prefix arrives.
enum Trick {
    /// Carry it out, and then this.
    Then(&'static str, TxnRequest),
    /// Carry it out, and say that nobody knows whether it was.
    Lose(&'static str),
    /// The same, and then this.
    LoseThen(&'static str, TxnRequest),
    /// Do not carry it out, and say that nobody knows whether it was.
    Drop(&'static str),
}

struct Odd {
    inner: Arc<MemStore>,
    trick: Mutex<Option<Trick>>,
    played: AtomicUsize,
    /// No member leads.
    orphaned: AtomicBool,
    /// Whether watches go on; while they do not, this member's caches show the past.
    awake: watch::Sender<bool>,
}

impl Odd {
    fn play(&self, trick: Trick) {
        *self.trick.lock().unwrap() = Some(trick);
    }

    /// The trick, when this is its moment; each is played once.
    fn take(&self, request: &TxnRequest) -> Option<Trick> {
        let mut trick = self.trick.lock().unwrap();
        let prefix = match trick.as_ref()? {
            Trick::Then(prefix, _)
            | Trick::Lose(prefix)
            | Trick::LoseThen(prefix, _)
            | Trick::Drop(prefix) => *prefix,
        };
        let key = match &request.success.first()?.request {
            Some(Request::Put(put)) => &put.key,
            Some(Request::DeleteRange(delete)) => &delete.key,
            _ => return None,
        };
        if !key.starts_with(prefix.as_bytes()) {
            return None;
        }
        self.played.fetch_add(1, Ordering::Relaxed);
        trick.take()
    }
}

impl Store for Odd {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        self.inner.range(request)
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, StoreResult<TxnResponse>> {
        match self.take(&request) {
            None => self.inner.txn(request),
            Some(Trick::Then(_, next)) => Box::pin(async move {
                let answer = self.inner.txn(request).await;
                self.inner.txn(next).await?;
                answer
            }),
            Some(Trick::Lose(_)) => Box::pin(async move {
                self.inner.txn(request).await?;
                Err(StoreError::LeaderChanged)
            }),
            Some(Trick::LoseThen(_, next)) => Box::pin(async move {
                self.inner.txn(request).await?;
                self.inner.txn(next).await?;
                Err(StoreError::LeaderChanged)
            }),
            Some(Trick::Drop(_)) => Box::pin(async move { Err(StoreError::LeaderChanged) }),
        }
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        Box::pin(async move {
            let stream = self.inner.watch(request).await?;
            let awake = self.awake.subscribe();
            let stream = stream.then(move |item| {
                let mut awake = awake.clone();
                async move {
                    awake
                        .wait_for(|awake| *awake)
                        .await
                        .expect("it outlives the server");
                    item
                }
            });
            Ok(stream.boxed() as WatchStream)
        })
    }

    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        if self.orphaned.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::NoLeader) });
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

fn odd_over(inner: Arc<MemStore>) -> Arc<Odd> {
    Arc::new(Odd {
        inner,
        trick: Mutex::new(None),
        played: AtomicUsize::new(0),
        orphaned: AtomicBool::new(false),
        awake: watch::Sender::new(true),
    })
}

async fn start() -> (Server, Arc<Odd>) {
    let inner = MemStore::new();
    let odd = odd_over(inner.clone());
    let server = Server::behind(odd.clone(), inner, "CA".to_owned()).await;
    (server, odd)
}

/// The pod under its name, but with another uid: what a StatefulSet makes after the first one went.
async fn successor(odd: &Odd, name: &str) -> TxnRequest {
    let key = format!("/registry/pods/default/{name}");
    let request = RangeRequest {
        key: key.clone().into(),
        ..RangeRequest::default()
    };
    let Answer { body, .. } = odd.inner.range(request).await.unwrap();
    let mut object: Value = serde_json::from_slice(&body.kvs[0].value).unwrap();
    object["metadata"]["uid"] = "00000000-0000-4000-8000-000000000001".into();
    let put = PutRequest {
        key: key.into(),
        value: object.to_string().into(),
        ..PutRequest::default()
    };
    TxnRequest {
        success: vec![RequestOp {
            request: Some(Request::Put(put)),
        }],
        ..TxnRequest::default()
    }
}

/// An older server stored it.
#[tokio::test]
async fn what_lacks_a_default_of_today_can_be_labelled() {
    let (server, odd) = start().await;
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    let key = "/registry/pods/default/p";
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    let Answer { body, .. } = odd.inner.range(request).await.unwrap();
    let mut object: Value = serde_json::from_slice(&body.kvs[0].value).unwrap();
    let spec = object["spec"].as_object_mut().unwrap();
    assert_eq!(spec.remove("enableServiceLinks"), Some(true.into()));
    let put = PutRequest {
        key: key.into(),
        value: object.to_string().into(),
        ..PutRequest::default()
    };
    let request = TxnRequest {
        success: vec![RequestOp {
            request: Some(Request::Put(put)),
        }],
        ..TxnRequest::default()
    };
    odd.inner.txn(request).await.unwrap();
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let uri = format!("{PODS}/p");
    let labelled = server.patch(&uri, "merge-patch+json", label).await.ok();
    assert_eq!(labelled["spec"]["enableServiceLinks"], true);
    assert_eq!(labelled["metadata"]["labels"]["a"], "b");
    assert_eq!(labelled["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_budget_pays_for_one_pod_and_not_for_its_successor() {
    let (server, odd) = start().await;
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = server.post(&format!("{PODS}/p/binding"), binding).await;
    bound.ok();
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let kind = "strategic-merge-patch+json";
    let status = format!("{PODS}/p/status");
    server.patch(&status, kind, running).await.ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    server.post(budgets, budget).await.ok();
    let one = json!({"status": {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "observedGeneration": 1}});
    let kind = "merge-patch+json";
    server
        .patch(&format!("{budgets}/b/status"), kind, one)
        .await
        .ok();

    let next = successor(&odd, "p").await;
    odd.play(Trick::Then("/registry/poddisruptionbudgets/", next));
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let refused = server.post(&format!("{PODS}/p/eviction"), eviction).await;
    assert_eq!(odd.played.load(Ordering::Relaxed), 1);
    assert_eq!(
        (refused.refused().0, refused.refused().1),
        (429, "TooManyRequests"),
        "the one disruption went with the first pod"
    );
    let left = server.get(&format!("{PODS}/p")).await.ok();
    assert!(left["metadata"]["deletionTimestamp"].is_null(), "{left}");
}

/// A client that comes from another member must not see here what was before, also where it says that any version will do.
#[tokio::test]
async fn version_zero_is_not_the_past() {
    let (server, odd) = start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    odd.awake.send_replace(false);
    server.post(MAPS, config_map("b", "1")).await.ok();
    let any = format!("{MAPS}?resourceVersion=0");
    let one = format!("{MAPS}/b?resourceVersion=0");
    let watched = format!("{MAPS}?watch=1&resourceVersion=0");
    let caches_go_on = async {
        // Whoever does not wait for them has answered by then.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        odd.awake.send_replace(true);
    };
    let (list, got, mut events, ()) = tokio::join!(
        server.get(&any),
        server.get(&one),
        server.watch(&watched),
        caches_go_on
    );
    let list = list.ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(got.ok()["metadata"]["name"], "b");
    for name in ["a", "b"] {
        let event = events.next().await.unwrap();
        assert_eq!(event["object"]["metadata"]["name"], name);
    }
}

/// The request waits with its member's caches, and one of them is replaced meanwhile.
#[tokio::test]
async fn a_definition_that_changes_while_a_list_waits_hides_nothing() {
    let (server, odd) = start().await;
    let created = definition("example.com", "Widget", any());
    let mut changed = server.post(DEFINITIONS, created).await.ok();
    server.post(WIDGETS, widget("a", json!({}))).await.ok();
    let mut second = server.get(&format!("{WIDGETS}/a")).await.ok();
    odd.awake.send_replace(false);
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    changed.pointer_mut(schema).unwrap()["description"] = "Another.".into();
    second["metadata"]["name"] = "b".into();
    for (key, mut value) in [
        ("customresourcedefinitions/widgets.example.com", changed),
        ("example.com/widgets/default/b", second),
    ] {
        value["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        let put = PutRequest {
            key: format!("/registry/{key}").into(),
            value: value.to_string().into(),
            ..PutRequest::default()
        };
        let request = TxnRequest {
            success: vec![RequestOp {
                request: Some(Request::Put(put)),
            }],
            ..TxnRequest::default()
        };
        odd.inner.txn(request).await.unwrap();
    }
    let watched = format!("{WIDGETS}?watch=1");
    let caches_go_on = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        odd.awake.send_replace(true);
    };
    let (list, mut events, ()) =
        tokio::join!(server.get(WIDGETS), server.watch(&watched), caches_go_on);
    let list = list.ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    for name in ["a", "b"] {
        assert_eq!(events.line().await, format!("ADDED {name}"));
    }
}

#[tokio::test]
async fn a_server_that_knows_nothing_says_so() {
    let before = Server::start().await;
    before.post(MAPS, config_map("a", "1")).await.ok();
    let odd = odd_over(before.store.clone());
    odd.orphaned.store(true, Ordering::Relaxed);
    let server = Server::unready(odd.clone(), before.store.clone(), "CA".to_owned());
    // A list that may be old must still not be empty, and rights that are not loaded are not missing.
    let jane = http::Request::builder()
        .uri(MAPS)
        .header("authorization", "Bearer jane-token")
        .body(Default::default())
        .unwrap();
    let any = format!("{MAPS}?resourceVersion=0");
    let one = format!("{MAPS}/a?resourceVersion=0");
    let answers = tokio::join!(server.get(&any), server.get(&one), server.read(jane));
    for answer in [answers.0, answers.1, answers.2] {
        assert_eq!(
            (answer.refused().0, answer.refused().1),
            (503, "ServiceUnavailable")
        );
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(server.get("/version").await.code, StatusCode::OK);
    assert_eq!(server.get("/readyz").await.code.as_u16(), 500);
    assert_eq!(server.get("/readyz/etcd").await.code.as_u16(), 500);
    // As in Kubernetes, which takes it out with `exclude`.
    assert_eq!(server.get("/livez/etcd").await.code.as_u16(), 500);
    let livez = server.get("/livez?exclude=etcd").await;
    assert_eq!(livez.code, StatusCode::OK);
    odd.orphaned.store(false, Ordering::Relaxed);
    let list = server.get(&any).await.ok();
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert_eq!(server.get("/readyz/etcd").await.code.as_u16(), 200);
    assert_eq!(server.get("/livez/etcd").await.code.as_u16(), 200);
}

#[tokio::test]
async fn a_write_of_unknown_fate_is_settled_here() {
    const PREFIX: &str = "/registry/configmaps/default/";
    let (server, odd) = start().await;
    let uri = format!("{MAPS}/a");
    for happened in [true, false] {
        let trick = || {
            if happened {
                Trick::Lose(PREFIX)
            } else {
                Trick::Drop(PREFIX)
            }
        };
        odd.play(trick());
        let mut created = server.post(MAPS, config_map("a", "1")).await;
        if !happened {
            // It may have been made and be gone again.
            assert_eq!(created.refused().0, 500, "{}", created.text);
            assert!(created.headers.get("retry-after").is_none());
            assert_eq!(server.get(&uri).await.code, 404);
            created = server.post(MAPS, config_map("a", "1")).await;
        }
        assert_eq!(created.code, StatusCode::CREATED, "{}", created.text);
        let got = server.get(&uri).await.ok();
        assert_eq!(got, created.ok(), "happened: {happened}");

        odd.play(trick());
        let mut changed = got.clone();
        changed["data"]["key"] = "2".into();
        let updated = server.put(&uri, changed).await;
        let now = server.get(&uri).await.ok();
        assert_eq!(now["data"]["key"], "2");
        if happened {
            // Another client may have written the same.
            assert_eq!(updated.refused().0, 500, "{}", updated.text);
            assert!(updated.headers.get("retry-after").is_none());
        } else {
            assert_eq!(updated.ok(), now);
        }

        odd.play(trick());
        let deleted = server.delete(&uri, Value::Null).await;
        let code = if happened { 500 } else { 200 };
        assert_eq!(deleted.code, code, "{}", deleted.text);
        assert_eq!(server.get(&uri).await.code, 404);
    }
    assert_eq!(odd.played.load(Ordering::Relaxed), 6);

    // Somebody else's object is not taken for ours. Ours may have been there before it.
    server.post(MAPS, config_map("b", "1")).await.ok();
    odd.play(Trick::Lose(PREFIX));
    let taken = server.post(MAPS, config_map("b", "1")).await;
    assert_eq!(taken.refused().0, 500, "{}", taken.text);
    assert_eq!(odd.played.load(Ordering::Relaxed), 7);
    let taken = server.post(MAPS, config_map("b", "1")).await;
    assert_eq!(taken.refused().1, "AlreadyExists");
}

/// The answer for one of many bindings is lost with the leader: it alone is in doubt.
#[tokio::test]
async fn one_binding_of_unknown_fate_leaves_the_others_alone() {
    let (server, odd) = start().await;
    server.account("default").await;
    for name in ["a", "b", "c"] {
        server.post(PODS, pod(name)).await.ok();
    }
    odd.play(Trick::Lose("/registry/pods/default/b"));
    let items = ["a", "b", "c"].map(
        |name| json!({"metadata": {"name": name, "namespace": "default"}, "target": {"name": "n"}}),
    );
    let answer = server.post("/kontiki/v1/bindings", json!({"items": items}));
    let answer = answer.await.ok();
    let codes = answer["items"].as_array().unwrap().iter();
    let codes: Vec<_> = codes.map(|item| item["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [201, 500, 201]);
    assert_eq!(odd.played.load(Ordering::Relaxed), 1);
}

/// Others write between a write whose answer is lost and its second attempt.
#[tokio::test]
async fn a_write_of_unknown_fate_is_done_once_whatever_others_do() {
    const PREFIX: &str = "/registry/pods/default/";
    let (server, odd) = start().await;
    server.account("default").await;

    // Another object of the same name came after the one that a deletion removed: it stays.
    server.post(PODS, pod("p")).await.ok();
    let next = successor(&odd, "p").await;
    odd.play(Trick::LoseThen(PREFIX, next));
    let uri = format!("{PODS}/p?gracePeriodSeconds=0");
    let unsure = server.delete(&uri, Value::Null).await;
    assert_eq!(unsure.refused().0, 500, "{}", unsure.text);
    assert_eq!(odd.played.load(Ordering::Relaxed), 1);
    let left = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(
        left["metadata"]["uid"],
        "00000000-0000-4000-8000-000000000001"
    );

    // What a create has made is deleted before anybody knows: it does not come back.
    let gone = TxnRequest {
        success: vec![RequestOp {
            request: Some(Request::DeleteRange(DeleteRangeRequest {
                key: format!("{PREFIX}r").into(),
                ..DeleteRangeRequest::default()
            })),
        }],
        ..TxnRequest::default()
    };
    odd.play(Trick::LoseThen(PREFIX, gone));
    let unsure = server.post(PODS, pod("r")).await;
    assert_eq!(odd.played.load(Ordering::Relaxed), 2);
    assert_eq!(unsure.refused().0, 500, "{}", unsure.text);
    assert_eq!(server.get(&format!("{PODS}/r")).await.code, 404);

    // A patch that appends was perhaps made before another client wrote over it: it is not made again.
    server.post(PODS, pod("q")).await.ok();
    let over = successor(&odd, "q").await;
    odd.play(Trick::LoseThen(PREFIX, over));
    let append = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/a"]}]);
    let unsure = server
        .patch(&format!("{PODS}/q"), "json-patch+json", append)
        .await;
    assert_eq!(odd.played.load(Ordering::Relaxed), 3);
    assert_eq!(unsure.refused().0, 500, "{}", unsure.text);
    assert!(unsure.headers.get("retry-after").is_none());
    let left = server.get(&format!("{PODS}/q")).await.ok();
    assert!(left["metadata"]["finalizers"].is_null(), "{left}");
}

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::{
    Compare, CompareOperand, CompareTarget, EventKind, KeyValue, PutRequest, RangeRequest,
    TxnRequest,
};
use tokio::time::interval;
use tonic::Code;

use super::wire::*;
use crate::etcd_front::Fronts;
use crate::harness::{DEADLINE, eventually};

const PODS: &str = "/registry/pods/";

async fn one() -> (Fronts, Client) {
    let fronts = Fronts::start(1).await;
    let client = Client::of(&fronts, 1).await;
    (fronts, client)
}

fn keys(kvs: &[KeyValue]) -> Vec<String> {
    let key = |kv: &KeyValue| String::from_utf8(kv.key.to_vec()).unwrap();
    kvs.iter().map(key).collect()
}

/// Creates `k000` and so on below the prefix, a hundred in one revision.
async fn fill(client: &Client, prefix: &str, count: usize) {
    let put = |n: usize| {
        op(kv::Request::Put(PutRequest {
            key: bytes(&format!("{prefix}k{n:05}")),
            value: bytes("object"),
            ..Default::default()
        }))
    };
    for from in (0..count).step_by(100) {
        let request = TxnRequest {
            success: (from..count.min(from + 100)).map(put).collect(),
            ..TxnRequest::default()
        };
        client.txn(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_is_of_one_key_now_or_at_a_revision() {
    let (_fronts, client) = one().await;
    let none = client.get("/registry/pods/a").await;
    assert_eq!(
        (none.kvs.len(), none.count, none.header.revision),
        (0, 0, 1)
    );
    let created = client.create("/registry/pods/a", "1").await;
    client.create("/registry/pods/ab", "other").await;
    let updated = client
        .optimistic_put("/registry/pods/a", "2", created, 0, true)
        .await;
    let now = client.get("/registry/pods/a").await;
    assert_eq!((now.kvs.len(), now.count, now.more), (1, 1, false));
    assert_eq!(now.kvs[0].mod_revision, updated.header.revision);
    assert_eq!(now.kvs[0].value, "2");
    assert_eq!(now.header.revision, updated.header.revision);
    let then = RangeRequest {
        revision: created,
        ..get_request("/registry/pods/a")
    };
    let then = client.range(then).await.unwrap();
    assert_eq!(then.kvs[0].value, "1");
    // The header is of now.
    assert_eq!(then.header.revision, updated.header.revision);
    let future = RangeRequest {
        revision: 1000,
        ..get_request("/registry/pods/a")
    };
    let refused = client.range(future).await.unwrap_err();
    let words = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::OutOfRange, words)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_sees_on_each_member_what_another_has_acknowledged() {
    let fronts = Fronts::start(3).await;
    let mut clients = Vec::new();
    for id in 1..=3 {
        clients.push(Client::of(&fronts, id).await);
    }
    for n in 0..30 {
        let key = format!("/registry/pods/p{n}");
        let created = clients[n % 3].create(&key, "x").await;
        let read = clients[(n + 1) % 3].get(&key).await;
        assert_eq!(read.kvs[0].mod_revision, created);
        assert!(read.header.revision >= created);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_has_pages_of_one_revision_and_counts_what_remains() {
    let (_fronts, client) = one().await;
    fill(&client, PODS, 25).await;
    client.create("/registry/podsecurity/x", "outside").await;
    let mut request = RangeRequest {
        limit: 10,
        ..list(PODS)
    };
    let mut seen = Vec::new();
    for (remaining, more) in [(25, true), (15, true), (5, false)] {
        let page = client.range(request.clone()).await.unwrap();
        // `hasMore` and `remainingItemCount` are computed from the count.
        assert_eq!((page.count, page.more), (remaining, more));
        assert_eq!((page.kvs.len() as i64) < page.count, more);
        if request.revision == 0 {
            request.revision = page.header.revision;
        }
        request.key = after(page.kvs.last().unwrap());
        seen.extend(page.kvs);
        // Between the pages the world goes on.
        client
            .create(&format!("{PODS}k{:05}x", seen.len()), "new")
            .await;
        let last = client.get(&format!("{PODS}k00024")).await;
        if let Some(kv) = last.kvs.first() {
            client
                .optimistic_delete(&format!("{PODS}k00024"), kv.mod_revision)
                .await;
        }
    }
    let wanted: Vec<String> = (0..25).map(|n| format!("{PODS}k{n:05}")).collect();
    assert_eq!(keys(&seen), wanted);
    // A limit that is exactly what is there leaves nothing.
    let now = client.range(list(PODS)).await.unwrap();
    assert_eq!(now.count, 27);
    let exact = RangeRequest {
        limit: 27,
        ..list(PODS)
    };
    let exact = client.range(exact).await.unwrap();
    assert_eq!((exact.kvs.len(), exact.count, exact.more), (27, 27, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_current_revision_is_that_of_a_list_of_one() {
    let (_fronts, client) = one().await;
    let request = RangeRequest {
        limit: 1,
        ..list(PODS)
    };
    let empty = client.range(request.clone()).await.unwrap();
    assert_eq!(
        (empty.header.revision, empty.count, empty.more),
        (1, 0, false)
    );
    fill(&client, PODS, 300).await;
    // Also of what happened elsewhere.
    let newest = client.create("/registry/nodes/n", "x").await;
    let answer = client.range(request).await.unwrap();
    assert_eq!(answer.header.revision, newest);
    assert_eq!(
        (answer.kvs.len(), answer.count, answer.more),
        (1, 300, true)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watch_cache_fills_from_pages_of_ten_thousand_at_its_first_revision() {
    let (_fronts, client) = one().await;
    fill(&client, PODS, 20_500).await;
    let mut request = RangeRequest {
        limit: 10_000,
        ..list(PODS)
    };
    let mut sizes = Vec::new();
    loop {
        let page = client.range(request.clone()).await.unwrap();
        sizes.push(page.kvs.len());
        if request.revision == 0 {
            request.revision = page.header.revision;
        }
        assert!(
            page.kvs
                .iter()
                .all(|kv| kv.mod_revision <= request.revision)
        );
        if !page.more {
            break;
        }
        request.key = after(page.kvs.last().unwrap());
        client
            .create(&format!("{PODS}z{}", sizes.len()), "late")
            .await;
    }
    assert_eq!(sizes, [10_000, 10_000, 500]);
    // What came in the meantime comes from the watch that follows.
    let mut watch = client.watch(watch_of(PODS, request.revision + 1)).await;
    for key in ["z1", "z2"] {
        let told = watch.next().await;
        assert_eq!(told.events[0].kv.key, format!("{PODS}{key}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_and_keys_come_without_values() {
    let (_fronts, client) = one().await;
    fill(&client, PODS, 250).await;
    let count = RangeRequest {
        count_only: true,
        ..list(PODS)
    };
    let count = client.range(count).await.unwrap();
    assert_eq!((count.count, count.kvs.len(), count.more), (250, 0, false));
    let all = RangeRequest {
        keys_only: true,
        ..list(PODS)
    };
    let all = client.range(all).await.unwrap();
    assert_eq!((all.count, all.kvs.len()), (250, 250));
    let bare = |kv: &KeyValue| kv.value.is_empty() && kv.version == 1 && kv.mod_revision > 1;
    assert!(all.kvs.iter().all(bare));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_is_a_put_of_a_key_that_is_not_there() {
    let (_fronts, client) = one().await;
    let key = "/registry/pods/a";
    let created = client.optimistic_put(key, "1", 0, 0, false).await;
    assert!(created.succeeded);
    assert_eq!(created.header.revision, 2);
    let put = created.responses[0].put.unwrap();
    assert_eq!(put.header.revision, 2);
    // No Else: nothing is answered, nothing changes.
    let again = client.optimistic_put(key, "2", 0, 0, false).await;
    assert!(!again.succeeded && again.responses.is_empty());
    assert_eq!(again.header.revision, 2);
    let kv = client.get(key).await.kvs.remove(0);
    assert_eq!(kv.value, "1");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 2, 1));
    // With a lease, as events are.
    let lease = client.grant(3600).await;
    let key = "/registry/events/e";
    let leased = client.optimistic_put(key, "e", 0, lease.id, false).await;
    assert!(leased.succeeded);
    assert_eq!(client.get(key).await.kvs[0].lease, lease.id);
    // With one that is not there.
    let put = PutRequest {
        key: bytes(key),
        lease: 77,
        ..Default::default()
    };
    let unknown = TxnRequest {
        success: vec![op(kv::Request::Put(put))],
        ..TxnRequest::default()
    };
    let refused = client.txn(unknown).await.unwrap_err();
    let words = "etcdserver: requested lease not found";
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, words));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_is_a_put_of_the_revision_that_was_read_or_answers_the_newer_one() {
    let (_fronts, client) = one().await;
    let key = "/registry/pods/a";
    let created = client.create(key, "1").await;
    let updated = client.optimistic_put(key, "2", created, 0, true).await;
    assert!(updated.succeeded && updated.responses[0].put.is_some());
    let late = client.optimistic_put(key, "3", created, 0, true).await;
    assert!(!late.succeeded);
    let found = &late.responses[0].range.as_ref().unwrap().kvs[0];
    assert_eq!(found.value, "2");
    assert_eq!(found.mod_revision, updated.header.revision);
    assert_eq!((found.create_revision, found.version), (created, 2));
    assert_eq!(late.header.revision, updated.header.revision);
    // A lease comes and goes with each put.
    let lease = client.grant(3600).await.id;
    let leased = client
        .optimistic_put(key, "4", updated.header.revision, lease, true)
        .await;
    assert_eq!(client.get(key).await.kvs[0].lease, lease);
    client
        .optimistic_put(key, "5", leased.header.revision, 0, true)
        .await;
    assert_eq!(client.get(key).await.kvs[0].lease, 0);
    // Of one that is not there: no key in the answer.
    let gone = client
        .optimistic_put("/registry/pods/b", "1", 5, 0, true)
        .await;
    assert!(!gone.succeeded);
    assert_eq!(gone.responses[0].range.as_ref().unwrap().kvs, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_is_of_the_revision_that_was_read_or_answers_the_newer_one() {
    let (_fronts, client) = one().await;
    let key = "/registry/pods/a";
    let created = client.create(key, "1").await;
    let updated = client.optimistic_put(key, "2", created, 0, true).await;
    let late = client.optimistic_delete(key, created).await;
    assert!(!late.succeeded);
    let found = &late.responses[0].range.as_ref().unwrap().kvs[0];
    assert_eq!(found.mod_revision, updated.header.revision);
    let deleted = client.optimistic_delete(key, found.mod_revision).await;
    assert!(deleted.succeeded);
    // The revision of the deletion becomes the object's last one.
    assert_eq!(deleted.header.revision, updated.header.revision + 1);
    assert_eq!(deleted.responses[0].delete.unwrap().deleted, 1);
    let again = client.optimistic_delete(key, updated.header.revision).await;
    assert!(!again.succeeded);
    assert_eq!(again.responses[0].range.as_ref().unwrap().kvs, []);
    assert_eq!(again.header.revision, deleted.header.revision);
    // And the name is free.
    let anew = client.create(key, "3").await;
    let kv = client.get(key).await.kvs.remove(0);
    assert_eq!((kv.create_revision, kv.version), (anew, 1));
}

/// One turn of an apiserver's compactor: it remembers the version of the key and the revision that it is to compact
/// the next time. Only whoever wins the key compacts.
struct Compactor {
    client: Client,
    version: i64,
    revision: i64,
}

const COMPACT_KEY: &str = "compact_rev_key";

impl Compactor {
    fn new(client: &Client) -> Compactor {
        Compactor {
            client: client.clone(),
            version: 0,
            revision: 0,
        }
    }

    /// The revision that it compacted, if it won and had one.
    async fn turn(&mut self) -> Option<i64> {
        let put = PutRequest {
            key: bytes(COMPACT_KEY),
            value: bytes(&self.revision.to_string()),
            ..Default::default()
        };
        let request = TxnRequest {
            compare: vec![Compare {
                target: CompareTarget::Version as i32,
                key: bytes(COMPACT_KEY),
                operand: Some(CompareOperand::Version(self.version)),
                ..Default::default()
            }],
            success: vec![op(kv::Request::Put(put))],
            failure: vec![op(kv::Request::Range(RangeRequest {
                key: bytes(COMPACT_KEY),
                ..RangeRequest::default()
            }))],
        };
        let answer = self.client.txn(request).await.unwrap();
        let target = std::mem::replace(&mut self.revision, answer.header.revision);
        if !answer.succeeded {
            self.version = answer.responses[0].range.as_ref().unwrap().kvs[0].version;
            return None;
        }
        self.version += 1;
        if target == 0 {
            return None;
        }
        self.client.compact(target).await.unwrap();
        Some(target)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_compactors_one_wins_each_turn_and_others_see_it_on_the_key() {
    let fronts = Fronts::start(3).await;
    let clients = (Client::of(&fronts, 1).await, Client::of(&fronts, 2).await);
    let (mut a, mut b) = (Compactor::new(&clients.0), Compactor::new(&clients.1));
    // As the snapshots of the watch cache follow it.
    let watching = WatchCreate {
        key: bytes(COMPACT_KEY),
        prev_kv: false,
        ..WatchCreate::default()
    };
    let mut watch = Client::of(&fronts, 3).await.watch(watching).await;
    let old = clients.0.create("/registry/pods/a", "1").await;
    assert_eq!((a.turn().await, b.turn().await), (None, None));
    let mut compacted = Vec::new();
    for turn in 0..4 {
        clients
            .0
            .create(&format!("/registry/pods/{turn}"), "x")
            .await;
        // Whoever is first wins; the other learns the version and may win the next turn.
        let (first, second) = match turn % 2 {
            0 => (b.turn().await, a.turn().await),
            _ => (a.turn().await, b.turn().await),
        };
        assert_eq!(second, None, "turn {turn}");
        compacted.push(first.expect("the first one wins"));
    }
    assert!(compacted.is_sorted_by(|a, b| a < b), "{compacted:?}");
    let mut told: Vec<i64> = Vec::new();
    for version in 1..=5 {
        let answer = watch.next().await;
        let kv = &answer.events[0].kv;
        assert_eq!(kv.version, version);
        told.push(std::str::from_utf8(&kv.value).unwrap().parse().unwrap());
    }
    assert_eq!(told[0], 0);
    assert_eq!(told[1..], compacted);

    let last = *compacted.last().unwrap();
    let words = "etcdserver: mvcc: required revision has been compacted";
    for (id, client) in [(1, &clients.0), (2, &clients.1)] {
        let read = |revision| {
            client.range(RangeRequest {
                revision,
                ..list(PODS)
            })
        };
        let refused = read(old).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::OutOfRange, words)
        );
        assert!(read(last).await.is_ok(), "the compacted revision itself");
        let again = client.compact(last).await.unwrap_err();
        assert_eq!((again.code(), again.message()), (Code::OutOfRange, words));
        let future = client.compact(last + 1000).await.unwrap_err();
        let words = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!((future.code(), future.message()), (Code::OutOfRange, words));
        let mut late = client.watch(watch_of(PODS, old)).await;
        let told = late.next().await;
        assert!(told.canceled, "member {id}");
        assert_eq!(told.compact_revision, last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_from_the_list_with_what_was_before() {
    let (_fronts, client) = one().await;
    let created = client.create("/registry/pods/a", "1").await;
    let (listed, objects) = pages(&client, PODS, 0, 500).await.unwrap();
    assert_eq!((listed, objects.len()), (created, 1));
    let updated = client
        .optimistic_put("/registry/pods/a", "2", created, 0, true)
        .await
        .header
        .revision;
    let mut watch = client.watch(watch_of(PODS, listed + 1)).await;
    client.create("/registry/nodes/n", "outside").await;
    let deleted = client.optimistic_delete("/registry/pods/a", updated).await;
    let deleted = deleted.header.revision;
    let made = client.create("/registry/pods/b", "3").await;

    let put = watch.next().await;
    assert_eq!((put.watch_id, put.events.len()), (0, 1));
    assert_eq!(put.events[0].kind, EventKind::Put as i32);
    assert_eq!(put.events[0].kv.mod_revision, updated);
    // Not a creation: how it is known.
    assert_eq!(put.events[0].kv.create_revision, created);
    assert_eq!(put.events[0].prev_kv, Some(objects[0].clone()));
    let delete = watch.next().await.events.remove(0);
    assert_eq!(delete.kind, EventKind::Delete as i32);
    assert_eq!(delete.kv.mod_revision, deleted);
    assert!(delete.kv.value.is_empty());
    assert_eq!(delete.prev_kv.unwrap().value, "2");
    let create = watch.next().await.events.remove(0);
    assert_eq!(
        (create.kv.create_revision, create.kv.mod_revision),
        (made, made)
    );
    assert_eq!(create.prev_kv, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_needs_a_leader_ends_when_its_member_has_none() {
    let fronts = Fronts::start(3).await;
    let alone = fronts.cluster.follower().await;
    let client = Client::of(&fronts, alone).await;
    let mut watch = client.watch(watch_of(PODS, 0)).await;
    let created = client.create("/registry/pods/a", "1").await;
    assert_eq!(watch.next().await.events[0].kv.mod_revision, created);
    fronts.cluster.wires.cut(&format!("m{alone}"));
    let ended = loop {
        match watch.hear().await {
            Ok(Some(answer)) => assert!(answer.is_progress(), "{answer:?}"),
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    let words = "etcdserver: no leader";
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, words));
    // Neither reads nor the probe are answered from what may be old, within the probe's two seconds.
    let probe = tokio::time::timeout(
        Duration::from_secs(2),
        client.range(RangeRequest {
            key: bytes("/registry/health"),
            ..RangeRequest::default()
        }),
    );
    assert!(!matches!(probe.await, Ok(Ok(_))));
    fronts.cluster.wires.mend(&format!("m{alone}"));
    // And it goes on where it was.
    let other = Client::of(&fronts, fronts.cluster.leader().await).await;
    let next = eventually("a write", || async {
        Some(other.create("/registry/pods/b", "1").await)
    })
    .await;
    let mut watch = eventually("a watch", || async {
        let again = client.range(get_request("/registry/pods/b")).await;
        again.ok()?;
        Some(client.watch(watch_of(PODS, created + 1)).await)
    })
    .await;
    assert_eq!(watch.next().await.events[0].kv.mod_revision, next);
}

/// Consistent reads from the watch cache wait for a mark of the revision that they need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_each_100_ms_under_writes_is_never_early_and_never_missing() {
    let fronts = Fronts::start(3).await;
    let writer = Client::of(&fronts, 1).await;
    let reader = Client::of(&fronts, 2).await;
    let mut watch = reader.watch(watch_of(PODS, 2)).await;
    // Every other write is one that the watch does not see.
    let writing = tokio::spawn(async move {
        let begin = Instant::now();
        let mut written = Vec::new();
        let mut n = 0;
        while begin.elapsed() < Duration::from_secs(3) {
            for prefix in [PODS, "/registry/leases/"] {
                let revision = writer.create(&format!("{prefix}{n:06}"), "x").await;
                written.push((revision, prefix == PODS));
            }
            n += 1;
        }
        written
    });
    let mut ticks = interval(Duration::from_millis(100));
    let mut seen: Vec<i64> = Vec::new();
    // Marks with how many events came before each.
    let mut marks: Vec<(i64, usize)> = Vec::new();
    let mut asked = 0;
    while !writing.is_finished() {
        tokio::select! {
            _ = ticks.tick() => {
                watch.ask_progress().await;
                asked += 1;
            }
            answer = watch.hear() => {
                let answer = answer.unwrap().unwrap();
                seen.extend(answer.events.iter().map(|event| event.kv.mod_revision));
                if answer.is_progress() {
                    assert_eq!(answer.watch_id, -1);
                    marks.push((answer.header.revision, seen.len()));
                }
            }
        }
    }
    let written = writing.await.unwrap();
    let newest = written.last().unwrap().0;
    // The store rests, and one more question is answered for all of it.
    let last = tokio::time::timeout(DEADLINE, async {
        loop {
            watch.ask_progress().await;
            let answer = watch.next().await;
            seen.extend(answer.events.iter().map(|event| event.kv.mod_revision));
            if answer.is_progress() {
                marks.push((answer.header.revision, seen.len()));
                if answer.header.revision >= newest {
                    return answer.header.revision;
                }
            }
        }
    });
    assert_eq!(last.await.expect("a mark comes"), newest);
    let visible: Vec<i64> = written
        .iter()
        .filter(|(_, visible)| *visible)
        .map(|(revision, _)| *revision)
        .collect();
    assert_eq!(seen, visible);
    assert!(
        marks.is_sorted_by_key(|(revision, _)| *revision),
        "{marks:?}"
    );
    for (mark, before) in &marks {
        let due = visible.iter().filter(|revision| *revision <= mark).count();
        assert_eq!(*before, due, "at the mark {mark}");
    }
    // One that is asked for while another is under way is answered with it; none waits for a quiet moment.
    assert!(marks.len() * 2 > asked, "{} of {asked}", marks.len());
    let distinct: BTreeMap<i64, ()> = marks.iter().map(|(mark, _)| (*mark, ())).collect();
    assert!(distinct.len() > 10, "{marks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_granted_once_for_many_objects_and_takes_them_in_one_revision() {
    let (_fronts, client) = one().await;
    let before = client.get("/registry/health").await.header.revision;
    let long = client.grant(3660).await;
    assert!(long.id > 0 && long.ttl == 3660 && long.error.is_empty());
    assert_eq!(long.header.revision, before);
    for n in 0..50 {
        let key = format!("/registry/events/long{n:02}");
        let put = client.optimistic_put(&key, "e", 0, long.id, false).await;
        assert!(put.succeeded);
    }
    let short = client.grant(5).await;
    assert_ne!(short.id, long.id);
    assert_eq!(short.ttl, 5);
    let put = |n| {
        op(kv::Request::Put(PutRequest {
            key: bytes(&format!("/registry/events/short{n:02}")),
            lease: short.id,
            ..Default::default()
        }))
    };
    let request = TxnRequest {
        success: (0..50).map(put).collect(),
        ..TxnRequest::default()
    };
    client.txn(request).await.unwrap();
    let end = before + 52;
    let mut watch = client.watch(watch_of("/registry/events/", end)).await;
    let gone = watch.next().await;
    assert_eq!(gone.events.len(), 50);
    assert!(
        gone.events.iter().all(|event| {
            event.kind == EventKind::Delete as i32 && event.kv.mod_revision == end
        })
    );
    let left = client.range(list("/registry/events/")).await.unwrap();
    assert_eq!(left.count, 50);
    assert!(left.kvs.iter().all(|kv| kv.lease == long.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_reads_a_key_that_is_never_there() {
    let fronts = Fronts::start(3).await;
    for id in 1..=3 {
        let client = Client::of(&fronts, id).await;
        let answer = client.range(RangeRequest {
            key: bytes("/registry/health"),
            ..RangeRequest::default()
        });
        let answer = tokio::time::timeout(Duration::from_secs(2), answer).await;
        assert_eq!(answer.unwrap().unwrap().kvs, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_names_a_version_with_progress_and_the_size() {
    let fronts = Fronts::start(3).await;
    let leader = fronts.cluster.leader().await;
    for id in 1..=3 {
        let client = Client::of(&fronts, id).await;
        client.create(&format!("/registry/pods/{id}"), "x").await;
        let status = client.status().await;
        let parts: Vec<u64> = status
            .version
            .split('.')
            .map(|part| part.parse().expect("a number"))
            .collect();
        assert!(parts.len() == 3 && parts >= vec![3, 5, 13], "{parts:?}");
        assert!(status.db_size > 0);
        assert_eq!((status.header.member_id, status.leader), (id, leader));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_range_is_the_range_in_parts() {
    let (_fronts, client) = one().await;
    let value = "v".repeat(60_000);
    for n in 0..60 {
        client.create(&format!("{PODS}{n:03}"), &value).await;
    }
    let pinned = client.get("/registry/health").await.header.revision;
    client.create(&format!("{PODS}late"), "x").await;
    for (limit, revision) in [(0, 0), (0, pinned), (50, pinned), (10_000, 0)] {
        let request = RangeRequest {
            limit,
            revision,
            ..list(PODS)
        };
        let whole = client.range(request.clone()).await.unwrap();
        let parts = client.range_stream(request).await.unwrap();
        assert!(parts.len() > 1);
        let (last, others) = parts.split_last().unwrap();
        assert!(others.iter().all(|part| part.count == 0 && !part.more));
        assert_eq!((last.count, last.more), (whole.count, whole.more));
        assert_eq!(last.header.revision, whole.header.revision);
        let kvs: Vec<KeyValue> = parts.into_iter().flat_map(|part| part.kvs).collect();
        assert_eq!(kvs, whole.kvs);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubeadm_adds_a_learner_promotes_it_when_it_is_in_sync_and_removes_it() {
    let mut fronts = Fronts::start(1).await;
    let client = Client::of(&fronts, 1).await;
    fill(&client, PODS, 2000).await;
    let members = async |client: &Client| -> Vec<Member> {
        let request = MemberListRequest { linearizable: true };
        let answer: MembersAnswer = client.call("Cluster/MemberList", request).await.unwrap();
        answer.members
    };
    let first = members(&client).await;
    assert_eq!(first.len(), 1);
    assert!(!first[0].is_learner && first[0].peer_urls.len() == 1);

    let address = "m2:2380";
    let request = MemberAddRequest {
        peer_urls: vec![format!("https://{address}")],
        is_learner: true,
    };
    let added: MemberAddAnswer = client.call("Cluster/MemberAdd", request).await.unwrap();
    let id = added.member.id;
    // The new etcd's initial cluster is made of this answer: one that has not started has no name.
    assert!(added.member.is_learner && added.member.name.is_empty());
    assert_eq!(added.members.len(), 2);
    assert_eq!(added.member.peer_urls, [format!("https://{address}")]);
    // Before it runs it cannot be in sync.
    let promote = MemberId { id };
    let early = client
        .call::<_, MembersAnswer>("Cluster/MemberPromote", promote)
        .await
        .unwrap_err();
    let words = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_eq!(
        (early.code(), early.message()),
        (Code::FailedPrecondition, words)
    );

    let mut config = fronts.cluster.config(id);
    config.peer_listen = address.into();
    config.peer_advertise = address.into();
    let node = store::Node::start(config).await.unwrap();
    fronts.cluster.nodes.insert(id, node);
    // It asks again until it may.
    let promoted = eventually("promotion", || async {
        let asked = client.call::<_, MembersAnswer>("Cluster/MemberPromote", promote);
        asked.await.ok()
    })
    .await;
    let member = promoted.members.iter().find(|member| member.id == id);
    assert!(!member.unwrap().is_learner);
    let again = client
        .call::<_, MembersAnswer>("Cluster/MemberPromote", promote)
        .await
        .unwrap_err();
    let words = "etcdserver: can only promote a learner member";
    assert_eq!(
        (again.code(), again.message()),
        (Code::FailedPrecondition, words)
    );
    // Named now, and of the quorum.
    eventually("its name", || async {
        let members = members(&client).await;
        let member = members.iter().find(|member| member.id == id)?;
        (!member.name.is_empty()).then_some(())
    })
    .await;
    client.create("/registry/pods/by-two", "x").await;
    assert_eq!(client.status().await.header.member_id, 1);

    let removed: MembersAnswer = client.call("Cluster/MemberRemove", promote).await.unwrap();
    assert_eq!(removed.members.len(), 1);
    let unknown = client
        .call::<_, MembersAnswer>("Cluster/MemberRemove", promote)
        .await
        .unwrap_err();
    let words = "etcdserver: member not found";
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, words));
    client.create("/registry/pods/alone", "x").await;
}

/// A list of many megabytes in one answer: clients receive without a limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answer_may_be_of_many_megabytes() {
    let (_fronts, client) = one().await;
    let value = "v".repeat(1_000_000);
    for n in 0..12 {
        client.create(&format!("{PODS}{n:03}"), &value).await;
    }
    let all = client.range(list(PODS)).await.unwrap();
    let bytes: usize = all.kvs.iter().map(|kv| kv.value.len()).sum();
    assert_eq!(bytes, 12_000_000);
    // And its first page again, from a key that is none.
    let from = list_from(PODS, Bytes::from_static(b"/registry/pods/005\0"));
    assert_eq!(client.range(from).await.unwrap().count, 6);
}

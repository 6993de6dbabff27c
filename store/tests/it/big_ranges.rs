//! Ranges too large to be held: whole, of one revision, and in little memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http_body_util::BodyExt;
use kv::{
    KeyValue, PageStream, RangeRequest, RangeResponse, Refusal, Store, StoreError, WatchItem,
};
use prost::Message;
use rand::RngExt;
use store::{Limits, Node};

use crate::etcd_front::Fronts;
use crate::harness::{Cluster, DEADLINE, all, eventually, watch_all};

async fn whole(
    node: &Arc<Node>,
    request: RangeRequest,
    part_bytes: usize,
) -> Result<(i64, RangeResponse, usize), StoreError> {
    let answer = node.range_parts(request, part_bytes).await?;
    let mut range = answer.body;
    let (mut encoded, mut parts) = (BytesMut::new(), 0);
    while let Some(part) = range.parts.next().await {
        let part = part?;
        assert!(!part.is_empty());
        encoded.extend_from_slice(&part);
        parts += 1;
    }
    assert_eq!(encoded.len() as u64, range.bytes);
    let mut response = RangeResponse::decode(encoded).unwrap();
    assert_eq!((response.more, response.count), (false, 0));
    (response.more, response.count) = (range.more, range.count);
    Ok((answer.revision, response, parts))
}

/// All pairs of the pages, and how many of these there were.
async fn paged(mut pages: PageStream) -> Result<(Vec<KeyValue>, usize), StoreError> {
    let (mut pairs, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.next().await {
        let page = page?;
        assert!(!page.is_empty());
        pairs.extend(page);
        count += 1;
    }
    Ok((pairs, count))
}

fn key(n: usize) -> Bytes {
    format!("k{n:04}").into()
}

fn puts(pairs: impl Iterator<Item = (Bytes, usize)>) -> kv::TxnRequest {
    let op = |(key, bytes)| {
        let put = kv::PutRequest {
            key,
            value: vec![b'v'; bytes].into(),
            ..Default::default()
        };
        kv::RequestOp {
            request: Some(kv::Request::Put(put)),
        }
    };
    kv::TxnRequest {
        success: pairs.map(op).collect(),
        ..Default::default()
    }
}

async fn fill(node: &Arc<Node>, keys: usize, bytes: usize) {
    for from in (0..keys).step_by(100) {
        let pairs = (from..keys.min(from + 100)).map(|n| (key(n), bytes));
        node.txn(puts(pairs)).await.unwrap();
    }
}

const KEYS: usize = 600;

fn random_write() -> kv::TxnRequest {
    let mut rng = rand::rng();
    let mut used = std::collections::BTreeSet::new();
    while used.len() < rng.random_range(1..6) {
        used.insert(rng.random_range(0..KEYS));
    }
    let mut txn = puts(
        used.into_iter()
            .map(|n| (key(n), rand::rng().random_range(0..4000))),
    );
    if rng.random_bool(0.3) {
        let from = rng.random_range(0..KEYS);
        let delete = kv::DeleteRangeRequest {
            key: key(from),
            range_end: key(from + rng.random_range(1..20)),
            ..Default::default()
        };
        txn.success = vec![kv::RequestOp {
            request: Some(kv::Request::DeleteRange(delete)),
        }];
    }
    txn
}

fn random_request(revision: i64) -> RangeRequest {
    let mut rng = rand::rng();
    let mut request = RangeRequest {
        key: key(rng.random_range(0..200)),
        range_end: key(rng.random_range(300..700)),
        serializable: true,
        keys_only: rng.random_bool(0.2),
        ..RangeRequest::default()
    };
    if rng.random_bool(0.5) {
        request.limit = rng.random_range(1..700);
    }
    if rng.random_bool(0.4) {
        request.revision = rng.random_range(2..=revision);
    }
    if rng.random_bool(0.2) {
        request.min_mod_revision = revision / 2;
    }
    if rng.random_bool(0.2) {
        request.sort_order = 2;
    }
    request
}

/// What the request is answered with, by the rules of etcd, where this is the state.
fn expected(state: &BTreeMap<Bytes, KeyValue>, request: &RangeRequest) -> RangeResponse {
    let inside: Vec<&KeyValue> = state
        .range(request.key.clone()..request.range_end.clone())
        .map(|(_, kv)| kv)
        .collect();
    let count = inside.len() as i64;
    let mut kvs: Vec<KeyValue> = inside
        .into_iter()
        .filter(|kv| kv.mod_revision >= request.min_mod_revision)
        .cloned()
        .collect();
    if request.sort_order == 2 {
        kvs.reverse();
    }
    let limit = match request.limit {
        0 => usize::MAX,
        limit => limit as usize,
    };
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    RangeResponse { kvs, more, count }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_are_whole_and_of_their_revision_whatever_is_written_meanwhile() {
    let cluster = Cluster::start(1, Limits::default()).await;
    let node = cluster.node(1).clone();
    let history = watch_all(&node, 1).await;
    let (seen, watched) = tokio::sync::watch::channel((0, Vec::new()));
    let watching = tokio::spawn(history.for_each(move |item| {
        if let WatchItem::Events { revision, events } = item {
            seen.send_modify(|(newest, history)| {
                *newest = revision;
                history.push((revision, events));
            });
        }
        std::future::ready(())
    }));
    let caught_up = |revision: i64| {
        let mut watched = watched.clone();
        async move {
            let caught_up = watched.wait_for(|(newest, _)| *newest >= revision);
            let caught_up = tokio::time::timeout(DEADLINE, caught_up).await;
            caught_up.expect("the events come").unwrap().1.clone()
        }
    };
    fill(&node, KEYS, 1500).await;
    let done = Arc::new(AtomicBool::new(false));
    let read = |node: Arc<Node>, done: Arc<AtomicBool>| async move {
        let mut answers = Vec::new();
        while !done.load(Ordering::SeqCst) || answers.len() < 50 {
            let request = random_request(node.revision());
            let part_bytes = rand::rng().random_range(1000..100_000);
            match whole(&node, request.clone(), part_bytes).await {
                Ok((revision, response, parts)) => {
                    answers.push((revision, request, response, parts));
                }
                Err(StoreError::Refused(Refusal::Compacted { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        answers
    };
    let readers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(read(node.clone(), done.clone())))
        .collect();
    let mut newest = 0;
    for n in 0..400 {
        newest = node.txn(random_write()).await.unwrap().revision;
        if n % 100 == 99 {
            caught_up(newest).await;
            node.compact(newest - 60).await.unwrap();
        }
    }
    done.store(true, Ordering::SeqCst);
    let mut answers = Vec::new();
    for reader in readers {
        answers.extend(reader.await.unwrap());
    }
    // All answers by the revision that they are of, beside the history as it was watched.
    answers.sort_by_key(|(revision, request, ..)| match request.revision {
        0 => *revision,
        old => old,
    });
    let streamed = answers.iter().filter(|(.., parts)| *parts > 3).count();
    assert!(
        streamed > 20,
        "{streamed} of {} came in parts",
        answers.len()
    );
    let mut answers = answers.into_iter().peekable();
    let mut state = BTreeMap::new();
    let mut at = 1;
    for (revision, events) in caught_up(newest).await {
        let before = |(now, request, ..): &(i64, RangeRequest, _, _)| match request.revision {
            0 => *now < revision,
            old => old < revision,
        };
        while let Some((_, request, response, _)) = answers.next_if(before) {
            assert_eq!(response, expected(&state, &request), "{request:?} at {at}");
        }
        for event in events.iter() {
            match event.kind {
                0 => state.insert(event.kv.key.clone(), event.kv.clone()),
                _ => state.remove(&event.kv.key),
            };
        }
        at = revision;
    }
    for (_, request, response, _) in answers {
        assert_eq!(
            response,
            expected(&state, &request),
            "{request:?} at the end"
        );
    }
    watching.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_take_its_parts_gives_up_its_place_to_others() {
    let limits = Limits {
        large_ranges: 1,
        part_patience: Duration::from_millis(100),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let node = cluster.node(1).clone();
    fill(&node, 300, 1000).await;
    let mut slow = node.range_parts(all(), 10_000).await.unwrap().body;
    assert!(slow.parts.next().await.unwrap().is_ok());
    // Waits for the only place.
    let (_, response, parts) = whole(&node, all(), 10_000).await.unwrap();
    assert_eq!((response.kvs.len(), parts > 20), (300, true));
    let told = slow.parts.next().await;
    assert_eq!(told, Some(Err(StoreError::TimedOut)));
    assert_eq!(slow.parts.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_of_one_revision_whatever_is_written_meanwhile() {
    let cluster = Cluster::start(1, Limits::default()).await;
    let node = cluster.node(1).clone();
    fill(&node, KEYS, 1000).await;
    let mut revision = 0;
    for _ in 0..50 {
        revision = node.txn(random_write()).await.unwrap().revision;
    }
    let past = RangeRequest { revision, ..all() };
    let now = node.range(past.clone()).await.unwrap().body;
    for _ in 0..50 {
        node.txn(random_write()).await.unwrap();
    }
    let answer = node.range_pages(past, 10_000).await.unwrap();
    assert!(answer.revision > revision);
    for _ in 0..50 {
        node.txn(random_write()).await.unwrap();
    }
    let (pairs, pages) = paged(answer.body).await.unwrap();
    assert_eq!(pairs, now.kvs);
    assert!(pages > 20, "{pages}");
    let sorted = RangeRequest {
        sort_order: 2,
        ..all()
    };
    let descending = node.range(sorted.clone()).await.unwrap().body;
    let answer = node.range_pages(sorted, 10_000).await.unwrap();
    assert_eq!(paged(answer.body).await.unwrap(), (descending.kvs, 1));
    let none = RangeRequest {
        key: Bytes::from_static(b"nothing"),
        range_end: Bytes::from_static(b"nowhere"),
        ..all()
    };
    let answer = node.range_pages(none, 10_000).await.unwrap();
    assert_eq!(paged(answer.body).await.unwrap(), (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_the_next_page_is_told_that_not_all_came() {
    let limits = Limits {
        large_ranges: 1,
        part_patience: Duration::from_secs(1),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let node = cluster.node(1).clone();
    fill(&node, 300, 1000).await;
    let slow = node.range_pages(all(), 10_000).await.unwrap().body;
    // Waits for the only place.
    let answer = node.range_pages(all(), 10_000).await.unwrap();
    assert_eq!(paged(answer.body).await.unwrap().0.len(), 300);
    assert_eq!(paged(slow).await, Err(StoreError::TimedOut));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_too_long_for_a_place_is_told_that_there_are_too_many() {
    let limits = Limits {
        large_ranges: 1,
        request_deadline: Duration::from_millis(300),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let node = cluster.node(1).clone();
    fill(&node, 300, 1000).await;
    let first = node.range_parts(all(), 10_000).await.unwrap();
    let second = node.range_parts(all(), 10_000).await;
    assert_eq!(second.err(), Some(StoreError::Overloaded));
    // A small one needs no place.
    let small = RangeRequest {
        range_end: key(5),
        ..all()
    };
    assert_eq!(whole(&node, small, 10_000).await.unwrap().1.count, 5);
    drop(first);
    assert_eq!(whole(&node, all(), 10_000).await.unwrap().1.count, 300);
}

fn reading(ranges: usize, range: &RangeRequest) -> kv::TxnRequest {
    let op = kv::RequestOp {
        request: Some(kv::Request::Range(range.clone())),
    };
    kv::TxnRequest {
        success: vec![op; ranges],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_reads_no_more_than_can_be_held() {
    let limits = Limits {
        txn_bytes: 2_000_000,
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let node = cluster.node(1).clone();
    fill(&node, 300, 1000).await;
    let too_large = Some(StoreError::Refused(Refusal::TooLarge));
    let read = node.txn(reading(6, &all())).await.unwrap();
    assert_eq!(read.body.responses.len(), 6);
    let refused = node.txn(reading(7, &all())).await;
    assert_eq!(refused.err(), too_large);
    // What is not read does not count.
    let limited = RangeRequest { limit: 5, ..all() };
    let counted = RangeRequest {
        count_only: true,
        ..all()
    };
    for range in [limited, counted] {
        assert!(node.txn(reading(100, &range)).await.is_ok());
    }
    // Both branches may run, nested ones too, and what writes is read on every member.
    let nested = kv::RequestOp {
        request: Some(kv::Request::Txn(reading(7, &all()))),
    };
    let before = node.revision();
    let writing = kv::TxnRequest {
        failure: vec![nested],
        ..puts([(key(0), 1)].into_iter())
    };
    assert_eq!(node.txn(writing).await.err(), too_large);
    let compare = kv::Compare {
        key: all().key,
        range_end: all().range_end,
        ..Default::default()
    };
    let comparing = kv::TxnRequest {
        compare: vec![compare; 7],
        ..puts([(key(0), 1)].into_iter())
    };
    assert_eq!(node.txn(comparing).await.err(), too_large);
    let delete = kv::RequestOp {
        request: Some(kv::Request::DeleteRange(kv::DeleteRangeRequest {
            key: all().key,
            range_end: all().range_end,
            prev_kv: true,
        })),
    };
    let deleting = kv::TxnRequest {
        success: vec![delete; 7],
        ..Default::default()
    };
    assert_eq!(node.txn(deleting).await.err(), too_large);
    assert_eq!(node.revision(), before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_are_sorted_are_held_one_after_the_other() {
    let limits = Limits {
        held_bytes: 500_000,
        request_deadline: Duration::from_millis(300),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let node = cluster.node(1).clone();
    fill(&node, 300, 1000).await;
    let sorted = || RangeRequest {
        sort_order: 2,
        ..all()
    };
    let held = node.range_parts(sorted(), 10_000).await.unwrap();
    let refused = node.range_parts(sorted(), 10_000).await;
    assert_eq!(refused.err(), Some(StoreError::Overloaded));
    assert_eq!(whole(&node, all(), 10_000).await.unwrap().1.count, 300);
    drop(held);
    assert_eq!(whole(&node, sorted(), 10_000).await.unwrap().1.count, 300);
    fill(&node, 600, 1000).await;
    let refused = node.range_parts(sorted(), 10_000).await;
    let too_large = StoreError::Refused(Refusal::TooLarge);
    assert_eq!(refused.err(), Some(too_large));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_pairs_of_a_long_range_need_no_place_of_a_large_one() {
    let limits = Limits {
        large_ranges: 0,
        request_deadline: Duration::from_millis(300),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let node = cluster.node(1).clone();
    fill(&node, 600, 1000).await;
    let first = RangeRequest { limit: 10, ..all() };
    let (_, response, _) = whole(&node, first, 100_000).await.unwrap();
    assert_eq!(
        (response.kvs.len(), response.more, response.count),
        (10, true, 600)
    );
    // A filter looks at all of them, whatever it lets through.
    let filtered = RangeRequest {
        limit: 10,
        min_mod_revision: 2,
        ..all()
    };
    // So does one that goes back, to find what has changed since.
    let older = RangeRequest {
        limit: 10,
        revision: 2,
        ..all()
    };
    for request in [filtered, older] {
        let refused = node.range_parts(request, 100_000).await;
        assert_eq!(refused.err(), Some(StoreError::Overloaded));
    }
}

async fn call(
    channel: &mut tonic::transport::Channel,
    request: http::Request<tonic::body::Body>,
) -> tonic::body::Body {
    let ready = tower::ServiceExt::ready(channel).await.unwrap();
    let answer = tower::Service::call(ready, request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

const IN_MEMORY: &str = "kontiki_store_large_range_bytes";

/// Through TLS and HTTP/2, to clients that read on at once, late, or never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_large_lists_at_once_take_less_than_sixteen_mebibytes() {
    const CLIENTS: usize = 8;
    const MOST: i64 = 16 << 20;
    let fronts = Fronts::start(1).await;
    let node = fronts.cluster.node(1).clone();
    for n in 0..40 {
        let pairs = (0..10).map(|m| (key(10 * n + m), 100_000));
        node.txn(puts(pairs)).await.unwrap();
    }
    let watching = fronts.channel(1).await;
    let in_memory = || fronts.metric(watching.clone(), IN_MEMORY);
    let message = all().encode_to_vec();
    let framed = Bytes::from([&[0, 0, 0, 0, message.len() as u8], &message[..]].concat());
    let mut bodies = Vec::new();
    let mut channels = Vec::new();
    for _ in 0..CLIENTS {
        let mut channel = fronts.channel(1).await;
        let request = http::Request::post("https://etcd/etcdserverpb.KV/Range")
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(http_body_util::Full::new(
                framed.clone(),
            )))
            .unwrap();
        bodies.push(call(&mut channel, request).await);
        channels.push(channel);
    }
    // Nobody has read anything, and each has got what there was room for.
    eventually("all have begun", || async {
        (in_memory().await > 0).then_some(())
    })
    .await;
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(in_memory().await);
    }
    let never = bodies.pop();
    let reading: Vec<_> = bodies
        .into_iter()
        .map(|mut body| {
            tokio::spawn(async move {
                let mut bytes = 0;
                while let Some(frame) = body.frame().await {
                    bytes += frame.unwrap().data_ref().map_or(0, Bytes::len);
                }
                bytes
            })
        })
        .collect();
    while !reading.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max(in_memory().await);
    }
    for read in reading {
        assert!(read.await.unwrap() > 400 * 100_000);
    }
    assert!(most > 0 && most < MOST, "{most} bytes of {CLIENTS} lists");
    drop(never);
    channels.clear();
    eventually("nothing is left", || async {
        (in_memory().await == 0).then_some(())
    })
    .await;
    fronts.stop.cancel();
}

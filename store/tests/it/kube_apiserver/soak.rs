//! Everything that an API server does at once: objects come, change and go, some with a lease; lists come in pages;
//! old revisions are compacted; and a watch cache, filled by a list and kept by a watch that moves from member to
//! member, is compared with a list of the same revision at each mark of progress.
//!
//! The short one belongs to the suite. The long one is run by hand, for as many minutes as it is told (60 unless):
//! `KONTIKI_SOAK_MINUTES=600 cargo nextest run -p store --run-ignored only -E 'test(soak::)' --no-capture`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::{Compare, CompareOperand, CompareTarget, EventKind, KeyValue, PutRequest, TxnRequest};
use rand::RngExt;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::wire::*;
use crate::etcd_front::Fronts;

const PREFIX: &str = "/registry/";
/// Of one writer, so that creations, updates and deletions meet each other.
const KEYS: u32 = 60;
const WRITERS: u32 = 4;
const PAGE: i64 = 50;
/// After so many marks a cache goes on at another member.
const MARKS_UNTIL_MOVE: usize = 7;

/// A watch cache: live objects at a revision.
#[derive(Debug, Default)]
struct Cache {
    objects: BTreeMap<Bytes, KeyValue>,
    revision: i64,
}

impl Cache {
    fn of((revision, kvs): (i64, Vec<KeyValue>)) -> Cache {
        Cache {
            objects: kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect(),
            revision,
        }
    }

    /// Takes what a watch tells, and objects to everything that does not follow from what it knows.
    fn told(&mut self, answer: &WatchAnswer) {
        for event in &answer.events {
            let kv = &event.kv;
            assert!(kv.mod_revision > self.revision, "told twice: {event:?}");
            assert_eq!(kv.mod_revision, answer.header.revision);
            let known = self.objects.get(&kv.key);
            assert_eq!(event.prev_kv.as_ref(), known, "what was before: {event:?}");
            if event.kind == EventKind::Delete as i32 {
                assert!(known.is_some(), "nothing was there: {event:?}");
                self.objects.remove(&kv.key);
                continue;
            }
            let (created, version) = match known {
                Some(known) => (known.create_revision, known.version + 1),
                None => (kv.mod_revision, 1),
            };
            assert_eq!((kv.create_revision, kv.version), (created, version));
            self.objects.insert(kv.key.clone(), kv.clone());
        }
        if !answer.events.is_empty() {
            self.revision = answer.header.revision;
        }
    }
}

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    writes: u64,
    /// Marks at which cache and list were compared.
    compared: u64,
    /// Marks whose revision was compacted before it could be listed.
    too_old: u64,
    moves: u64,
    /// What a watch was to tell was compacted before, so the cache was filled anew, as kube-apiserver does.
    filled_anew: u64,
    compactions: u64,
    expired: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.writes += other.writes;
        self.compared += other.compared;
        self.too_old += other.too_old;
        self.moves += other.moves;
        self.filled_anew += other.filled_anew;
        self.compactions += other.compactions;
        self.expired += other.expired;
    }
}

/// Objects of its own: the revision that it remembers is the one that they have, unless a lease has taken them.
async fn write(client: Client, writer: u32, stop: CancellationToken) -> Tally {
    let mut tally = Tally::default();
    let mut known: BTreeMap<u32, i64> = BTreeMap::new();
    // Reused for many objects, then renewed by another one.
    let mut lease = (0, 0);
    while !stop.is_cancelled() {
        let n = rand::random_range(0..KEYS);
        let kind = ["pods", "leases", "events"][n as usize % 3];
        let key = format!("{PREFIX}{kind}/w{writer}-{n:03}");
        let value = "v".repeat(rand::random_range(0..600));
        if kind == "events" && lease.1 == 0 {
            lease = (client.grant(2).await.id, 20);
        }
        let with = if kind == "events" { lease.0 } else { 0 };
        let revision = known.get(&n).copied().unwrap_or(0);
        let delete = revision > 0 && rand::rng().random_bool(0.3);
        let answer = match delete {
            true => client.optimistic_delete(&key, revision).await,
            false => match put(&client, &key, &value, revision, with).await {
                Some(answer) => answer,
                // The lease has ended by itself.
                None => {
                    lease = (0, 0);
                    continue;
                }
            },
        };
        tally.writes += u64::from(answer.succeeded);
        lease.1 -= i32::from(with != 0 && lease.1 > 0);
        match (answer.succeeded, delete) {
            (true, false) => known.insert(n, answer.header.revision),
            (true, true) => known.remove(&n),
            (false, _) => {
                // Nobody but its lease touches an object of this writer.
                let found = &answer.responses[0].range.as_ref().unwrap().kvs;
                assert!(found.is_empty() && kind == "events", "{key}: {found:?}");
                tally.expired += 1;
                known.remove(&n)
            }
        };
    }
    tally
}

/// An update with the object as it is on failure; none if the lease is not there.
async fn put(
    client: &Client,
    key: &str,
    value: &str,
    revision: i64,
    lease: i64,
) -> Option<TxnAnswer> {
    let put = PutRequest {
        key: bytes(key),
        value: bytes(value),
        lease,
        ..Default::default()
    };
    let request = TxnRequest {
        compare: vec![Compare {
            target: CompareTarget::Mod as i32,
            key: bytes(key),
            operand: Some(CompareOperand::ModRevision(revision)),
            ..Default::default()
        }],
        success: vec![op(kv::Request::Put(put))],
        failure: vec![op(kv::Request::Range(get_request(key)))],
    };
    match client.txn(request).await {
        Ok(answer) => Some(answer),
        Err(status) if status.message() == "etcdserver: requested lease not found" => None,
        Err(status) => panic!("{key}: {status}"),
    }
}

async fn compact(client: Client, each: Duration, stop: CancellationToken) -> Tally {
    let mut tally = Tally::default();
    let mut ticks = interval(each);
    let mut next = 0;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = client.get("compact_rev_key").await.header.revision;
        if next > 0 && next < now {
            client.compact(next).await.unwrap();
            tally.compactions += 1;
        }
        next = now;
    }
    tally
}

async fn cache(clients: Vec<Client>, stop: CancellationToken) -> Tally {
    let mut tally = Tally::default();
    let mut cache = filled(&clients[0]).await;
    let mut member = 0;
    while !stop.is_cancelled() {
        let client = &clients[member % clients.len()];
        let mut watch = client.watch(watch_of(PREFIX, cache.revision + 1)).await;
        follow(client, &mut cache, &mut watch, &mut tally, &stop).await;
        member += 1;
        tally.moves += 1;
    }
    tally
}

/// From a list, whose later pages may be compacted before they are read.
async fn filled(client: &Client) -> Cache {
    loop {
        match pages(client, PREFIX, 0, PAGE).await {
            Ok(listed) => return Cache::of(listed),
            Err(status) => is_compacted(&status),
        }
    }
}

fn is_compacted(status: &tonic::Status) {
    let words = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!((status.code(), status.message()), (Code::OutOfRange, words));
}

/// Follows one watch for a while, from mark to mark.
async fn follow(
    client: &Client,
    cache: &mut Cache,
    watch: &mut Watch,
    tally: &mut Tally,
    stop: &CancellationToken,
) {
    let mut ticks = interval(Duration::from_millis(100));
    let mut marks = 0;
    while marks < MARKS_UNTIL_MOVE && !stop.is_cancelled() {
        let answer = tokio::select! {
            _ = ticks.tick() => {
                watch.ask_progress().await;
                continue;
            }
            answer = watch.hear() => answer.unwrap().expect("the stream goes on"),
        };
        if answer.canceled {
            // It was behind what is compacted, and said nothing of what lies between.
            assert!(answer.compact_revision > cache.revision + 1, "{answer:?}");
            *cache = filled(client).await;
            tally.filled_anew += 1;
            return;
        }
        cache.told(&answer);
        if !answer.is_progress() {
            continue;
        }
        marks += 1;
        let mark = answer.header.revision;
        assert!(mark >= cache.revision, "a mark of the past");
        match pages(client, PREFIX, mark, PAGE).await {
            Ok(listed) => {
                let listed = Cache::of(listed);
                assert_eq!(cache.objects, listed.objects, "at the mark {mark}");
                tally.compared += 1;
            }
            Err(status) => {
                is_compacted(&status);
                tally.too_old += 1;
            }
        }
        // A watch that is resumed goes on from here.
        cache.revision = mark;
    }
}

async fn soak(length: Duration, compact_each: Duration) -> Tally {
    let fronts = Fronts::start(3).await;
    let mut clients = Vec::new();
    for id in 1..=3 {
        clients.push(Client::of(&fronts, id).await);
    }
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = clients[writer as usize % clients.len()].clone();
        tasks.spawn(write(client, writer, stop.clone()));
    }
    tasks.spawn(compact(clients[0].clone(), compact_each, stop.clone()));
    for _ in 0..2 {
        tasks.spawn(cache(clients.clone(), stop.clone()));
        clients.rotate_left(1);
    }
    // A task that ends before its time has failed.
    let begin = Instant::now();
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        ended = tasks.join_next() => panic!("after {:?}: {ended:?}", begin.elapsed()),
    }
    stop.cancel();
    let mut tally = Tally::default();
    while let Some(ended) = tasks.join_next().await {
        tally.add(&ended.unwrap());
    }
    eprintln!("{length:?}: {tally:?}");
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_cache_is_the_list_at_every_mark() {
    let tally = soak(Duration::from_secs(6), Duration::from_millis(700)).await;
    assert!(tally.writes > 50 && tally.compared > 5, "{tally:?}");
    assert!(tally.compactions > 0 && tally.moves > 1, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs for hours"]
async fn a_watch_cache_is_the_list_at_every_mark_for_hours() {
    let minutes = std::env::var("KONTIKI_SOAK_MINUTES");
    let minutes = minutes.map_or(60, |text| text.parse().expect("a number of minutes"));
    let tally = soak(
        Duration::from_secs(60 * minutes),
        Duration::from_secs(5 * 60).min(Duration::from_secs(6 * minutes)),
    )
    .await;
    assert!(tally.compared > 60 * minutes, "{tally:?}");
    assert!(tally.compactions > 5 && tally.expired > 0, "{tally:?}");
}

use kv::{EventKind, HubLimits};

use super::super::headed::Header;
use super::*;

type WatchTalk = Talk<super::super::message::WatchRequest, Headed<WatchBody>>;

const PATH: &str = "/etcdserverpb.Watch/Watch";

fn create(create: WatchCreate) -> super::super::message::WatchRequest {
    super::super::message::WatchRequest {
        union: Some(WatchUnion::Create(create)),
    }
}

fn all_keys() -> WatchCreate {
    WatchCreate {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..WatchCreate::default()
    }
}

fn progress() -> super::super::message::WatchRequest {
    super::super::message::WatchRequest {
        union: Some(WatchUnion::Progress(Empty {})),
    }
}

fn cancel(watch_id: i64) -> super::super::message::WatchRequest {
    super::super::message::WatchRequest {
        union: Some(WatchUnion::Cancel(WatchCancel { watch_id })),
    }
}

impl Bench {
    pub(super) async fn watch(&self, request: WatchCreate) -> WatchTalk {
        let mut talk: WatchTalk = self.both(PATH, false).await.unwrap();
        talk.say(create(request)).await;
        let created = talk.next().await;
        assert!(
            created.body.created && !created.body.canceled,
            "{created:?}"
        );
        talk
    }
}

/// Puts `p`, deletes `d`, with the keys.
fn told(answer: &Headed<WatchBody>) -> String {
    let event = |event: &kv::Event| {
        let kind = match event.kind == EventKind::Put as i32 {
            true => "p",
            false => "d",
        };
        format!("{kind} {}", String::from_utf8_lossy(&event.kv.key))
    };
    let events: Vec<_> = answer.body.events.iter().map(event).collect();
    format!("{}: {}", answer.header.revision, events.join(", "))
}

#[tokio::test]
async fn created_comes_before_events_and_history_before_news() {
    let bench = Bench::new().await;
    bench.put("a", "1").await;
    bench.put("b", "1").await;
    bench.delete("a").await;
    let mut talk: WatchTalk = bench.both(PATH, false).await.unwrap();
    talk.say(create(WatchCreate {
        start_revision: 2,
        ..all_keys()
    }))
    .await;
    let created = talk.next().await;
    assert_eq!(
        created.header,
        Header {
            cluster_id: 1,
            member_id: 1,
            revision: 4,
            raft_term: 1
        }
    );
    assert!(created.body.created && created.body.events.is_empty());
    bench.put("c", "1").await;
    for want in ["2: p a", "3: p b", "4: d a", "5: p c"] {
        assert_eq!(told(&talk.next().await), want);
    }
}

/// Clients that lose their connection go on from the revision that `created` had.
#[tokio::test]
async fn created_tells_a_revision_from_before_the_watch_began() {
    let bench = Bench::new().await;
    let before = bench.put("a", "1").await;
    *bench.backend.meanwhile.lock().unwrap() = Some(Box::new(|store: &MemStore| {
        let put = kv::Command::Txn(txn_of(vec![put_op("a", "2")]));
        store.propose(put).unwrap();
    }));
    let mut talk: WatchTalk = bench.both(PATH, false).await.unwrap();
    talk.say(create(all_keys())).await;
    let created = talk.next().await;
    assert_eq!(
        (created.body.created, created.header.revision),
        (true, before)
    );
    assert_eq!(told(&talk.next().await), format!("{}: p a", before + 1));
}

#[tokio::test]
async fn a_start_below_the_compacted_revision_is_canceled_and_one_at_it_is_served() {
    let bench = Bench::new().await;
    bench.put("a", "1").await;
    bench.put("a", "2").await;
    bench.delete("a").await;
    bench.put("b", "1").await;
    bench.compact(4).await.unwrap();
    let from = |start_revision| WatchCreate {
        start_revision,
        ..all_keys()
    };
    let mut late = bench.watch(from(3)).await;
    let answer = late.next().await.body;
    assert!(answer.canceled);
    assert_eq!(answer.compact_revision, 4);
    assert_eq!(answer.watch_id, 0);
    // The deletion at the compacted revision is part of it.
    let mut exact = bench.watch(from(4)).await;
    assert_eq!(told(&exact.next().await), "4: d a");
    assert_eq!(told(&exact.next().await), "5: p b");
    // The stream lives on, and the number is free.
    late.say(create(from(5))).await;
    assert!(late.next().await.body.created);
    assert_eq!(told(&late.next().await), "5: p b");
}

#[tokio::test]
async fn a_watch_on_a_future_revision_hears_neither_older_events_nor_early_progress() {
    let bench = Bench::new().await;
    bench.put("a", "1").await;
    let mut talk = bench
        .watch(WatchCreate {
            start_revision: 5,
            ..all_keys()
        })
        .await;
    talk.say(progress()).await;
    for n in 0..4 {
        bench.put("a", &n.to_string()).await;
    }
    assert_eq!(told(&talk.next().await), "5: p a");
    assert_eq!(told(&talk.next().await), "6: p a");
    talk.say(progress()).await;
    let mark = talk.next().await;
    assert_eq!((mark.body.watch_id, mark.header.revision), (-1, 6));
}

#[tokio::test]
async fn progress_of_the_stream_comes_after_all_events_up_to_it() {
    let store = MemStore::with_limits(HubLimits {
        revisions: 2,
        bytes: 100,
        ..HubLimits::default()
    });
    let bench = Bench::of(store, Options::default()).await;
    for n in 0..2000 {
        bench.put(&format!("k{}", n % 7), "x").await;
    }
    let mut talk: WatchTalk = bench.both(PATH, false).await.unwrap();
    talk.say(progress()).await;
    for n in 0..7 {
        talk.say(create(WatchCreate {
            key: bytes(&format!("k{n}")),
            start_revision: 2,
            ..WatchCreate::default()
        }))
        .await;
    }
    talk.say(create(WatchCreate {
        key: bytes("quiet"),
        ..WatchCreate::default()
    }))
    .await;
    talk.say(progress()).await;
    let mut events = 0;
    let mut created = 0;
    let revision = loop {
        let answer = talk.next().await;
        created += usize::from(answer.body.created);
        if answer.body.watch_id == -1 {
            break answer.header.revision;
        }
        events += answer.body.events.len();
    };
    assert_eq!((created, events, revision), (8, 2000, 2001));
    // Caught up, an answer comes at once, of a watch with no news, too.
    bench.put("elsewhere", "x").await;
    talk.say(progress()).await;
    let mark = talk.next().await;
    assert_eq!((mark.body.watch_id, mark.header.revision), (-1, 2002));
}

#[tokio::test]
async fn a_revision_is_one_answer_and_a_large_one_is_cut_only_for_who_asked() {
    let bench = Bench::new().await;
    let mut whole = bench.watch(all_keys()).await;
    let mut cut = bench
        .watch(WatchCreate {
            fragment: true,
            prev_kv: true,
            ..all_keys()
        })
        .await;
    let large = || (0..14).map(|n| put_op(&format!("k{n:02}"), &"x".repeat(100_000)));
    // With the previous values twice the size of what was written.
    bench.txn(txn_of(large().collect())).await.unwrap();
    let revision = bench
        .txn(txn_of(large().collect()))
        .await
        .unwrap()
        .header
        .revision;
    for _ in 0..2 {
        assert_eq!(whole.next().await.body.events.len(), 14);
    }
    assert_eq!(cut.next().await.body.events.len(), 14);
    let mut pieces = Vec::new();
    loop {
        let piece = cut.next().await;
        assert_eq!(piece.header.revision, revision);
        let more = piece.body.fragment;
        pieces.push(piece.body.events.len());
        if !more {
            break;
        }
    }
    assert!(pieces.len() > 1, "{pieces:?}");
    assert_eq!(pieces.iter().sum::<usize>(), 14);
}

#[tokio::test]
async fn a_lease_takes_its_keys_in_one_revision() {
    let bench = Bench::new().await;
    let lease: Headed<LeaseGrantBody> = bench
        .call(
            "/etcdserverpb.Lease/LeaseGrant",
            LeaseGrantRequest { ttl: 60, id: 5 },
        )
        .await
        .unwrap();
    for key in ["a", "b", "c"] {
        let put = kv::PutRequest {
            key: bytes(key),
            lease: lease.body.id,
            ..Default::default()
        };
        let _: Headed<kv::PutResponse> = bench.call("/etcdserverpb.KV/Put", put).await.unwrap();
    }
    let mut talk = bench.watch(all_keys()).await;
    let _: Headed<Empty> = bench
        .call("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 5 })
        .await
        .unwrap();
    assert_eq!(told(&talk.next().await), "5: d a, d b, d c");
}

#[tokio::test]
async fn filters_and_previous_values_are_as_asked() {
    let bench = Bench::new().await;
    let no_put = WatchCreate {
        filters: vec![WatchFilter::NoPut as i32],
        prev_kv: true,
        ..all_keys()
    };
    let no_delete = WatchCreate {
        filters: vec![WatchFilter::NoDelete as i32],
        ..all_keys()
    };
    let (mut deletes, mut puts) = (bench.watch(no_put).await, bench.watch(no_delete).await);
    bench.put("a", "1").await;
    bench.put("a", "2").await;
    bench.delete("a").await;
    bench.put("b", "1").await;
    let deleted = deletes.next().await;
    assert_eq!(told(&deleted), "4: d a");
    let event = &deleted.body.events[0];
    assert_eq!(event.prev_kv.as_ref().unwrap().value, "2");
    assert_eq!((event.kv.mod_revision, event.kv.value.len()), (4, 0));
    for want in ["2: p a", "3: p a", "5: p b"] {
        let put = puts.next().await;
        assert_eq!(told(&put), want);
        assert_eq!(put.body.events[0].prev_kv, None);
    }
}

#[tokio::test]
async fn numbers_of_watches_are_the_clients_or_the_next_free_one() {
    let bench = Bench::new().await;
    let mut talk: WatchTalk = bench.both(PATH, false).await.unwrap();
    let numbered = |watch_id| WatchCreate {
        watch_id,
        ..all_keys()
    };
    for (ask, want) in [(1, 1), (0, 0), (0, 2), (7, 7)] {
        talk.say(create(numbered(ask))).await;
        let answer = talk.next().await.body;
        assert_eq!(
            (answer.watch_id, answer.created, answer.canceled),
            (want, true, false)
        );
    }
    talk.say(create(numbered(7))).await;
    let twice = talk.next().await.body;
    assert_eq!(
        (twice.watch_id, twice.created, twice.canceled),
        (-1, true, true)
    );
    assert_eq!(
        twice.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    talk.say(cancel(99)).await;
    talk.say(cancel(7)).await;
    let canceled = talk.next().await.body;
    assert_eq!(
        (canceled.watch_id, canceled.created, canceled.canceled),
        (7, false, true)
    );
    talk.say(create(numbered(7))).await;
    assert!(!talk.next().await.body.canceled);
}

#[tokio::test]
async fn bad_watches_are_canceled_with_a_reason_and_the_stream_lives_on() {
    let bench = Bench::new().await;
    let mut talk: WatchTalk = bench.both(PATH, false).await.unwrap();
    let cases = [
        (
            WatchCreate {
                start_revision: -1,
                ..all_keys()
            },
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            WatchCreate {
                key: bytes("b"),
                range_end: bytes("a"),
                ..WatchCreate::default()
            },
            "mvcc: watcher range is empty",
        ),
        (
            WatchCreate {
                key: bytes("b"),
                range_end: bytes("b"),
                ..WatchCreate::default()
            },
            "mvcc: watcher range is empty",
        ),
    ];
    for (request, reason) in cases {
        talk.say(create(request)).await;
        let answer = talk.next().await.body;
        assert_eq!(
            (answer.watch_id, answer.created, answer.canceled),
            (-1, true, true)
        );
        assert_eq!(answer.cancel_reason, reason);
    }
    // The empty key is the smallest key, and nothing at all is no request.
    talk.say(super::super::message::WatchRequest { union: None })
        .await;
    talk.say(create(WatchCreate::default())).await;
    assert!(!talk.next().await.body.canceled);
    let put = kv::PutRequest {
        key: Bytes::from_static(&[0]),
        ..Default::default()
    };
    let _: Headed<kv::PutResponse> = bench.call("/etcdserverpb.KV/Put", put).await.unwrap();
    assert_eq!(told(&talk.next().await), "2: p \0");
}

#[tokio::test]
async fn the_rule_of_ranges_is_that_of_reads() {
    let bench = Bench::new().await;
    let keys: [&[u8]; 6] = [&[0], b"a", b"a\0", b"ab", &[0xff], &[0xff, 0xff]];
    let ranges: [(&[u8], &[u8]); 6] = [
        (b"a", b""),
        (b"a", b"b"),
        (b"a", &[0]),
        (&[0], &[0]),
        (&[0xff], &[0]),
        (b"a", &[0xff]),
    ];
    let mut talks = Vec::new();
    for (key, range_end) in ranges {
        let request = WatchCreate {
            key: Bytes::copy_from_slice(key),
            range_end: Bytes::copy_from_slice(range_end),
            ..WatchCreate::default()
        };
        talks.push(bench.watch(request).await);
    }
    for key in keys {
        let put = kv::PutRequest {
            key: Bytes::copy_from_slice(key),
            ..Default::default()
        };
        let _: Headed<kv::PutResponse> = bench.call("/etcdserverpb.KV/Put", put).await.unwrap();
    }
    for ((key, range_end), mut talk) in ranges.into_iter().zip(talks) {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key),
            range_end: Bytes::copy_from_slice(range_end),
            ..RangeRequest::default()
        };
        let read = bench.range(request).await.unwrap().body.kvs;
        for kv in read {
            assert_eq!(talk.next().await.body.events[0].kv, kv);
        }
        talk.say(progress()).await;
        assert_eq!(talk.next().await.body.watch_id, -1, "and nothing else");
    }
}

#[tokio::test]
async fn quiet_watches_that_asked_are_told_how_far_they_are() {
    let options = Options {
        progress_interval: Duration::from_millis(50),
        ..Options::default()
    };
    let bench = Bench::of(MemStore::new(), options).await;
    let mut talk = bench
        .watch(WatchCreate {
            key: bytes("quiet"),
            progress_notify: true,
            ..WatchCreate::default()
        })
        .await;
    let mut silent = bench.watch(all_keys()).await;
    let revision = bench.put("elsewhere", "x").await;
    loop {
        let mark = talk.next().await;
        assert_eq!((mark.body.watch_id, mark.body.events.len()), (0, 0));
        assert!(!mark.body.created && !mark.body.canceled);
        if mark.header.revision >= revision {
            break;
        }
    }
    assert_eq!(told(&silent.next().await), "2: p elsewhere");
    bench.put("elsewhere", "y").await;
    assert_eq!(
        told(&silent.next().await),
        "3: p elsewhere",
        "no mark before it"
    );
}

#[tokio::test]
async fn a_stream_that_needs_a_leader_ends_when_there_is_none_for_long() {
    let bench = Bench::new().await;
    let mut talk: WatchTalk = bench.both(PATH, true).await.unwrap();
    talk.say(create(all_keys())).await;
    assert!(talk.next().await.body.created);
    let mut calm = bench.watch(all_keys()).await;
    *bench.backend.leader.lock().unwrap() = None;
    let ended = talk.hear().await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::Unavailable);
    assert_eq!(ended.message(), "etcdserver: no leader");
    let refused = bench.both::<super::super::message::WatchRequest, Headed<WatchBody>>(PATH, true);
    let refused = refused.await.err().unwrap();
    assert_eq!(refused.message(), "etcdserver: no leader");
    // Who did not ask is not bothered.
    bench.put("a", "1").await;
    assert_eq!(told(&calm.next().await), "2: p a");
}

#[tokio::test]
async fn a_client_that_reads_late_misses_nothing_and_costs_nothing_meanwhile() {
    let store = MemStore::with_limits(HubLimits {
        revisions: 4,
        bytes: 1000,
        ..HubLimits::default()
    });
    let bench = Bench::of(store, Options::default()).await;
    let mut talk = bench.watch(all_keys()).await;
    // More than fits into all the windows and buffers between the two.
    for n in 0..3000 {
        bench.put("a", &format!("{n:03000}")).await;
    }
    for n in 0..3000 {
        let answer = talk.next().await;
        assert_eq!(answer.header.revision, n + 2);
    }
}

#[tokio::test]
async fn a_slow_client_whose_history_is_compacted_is_told_so() {
    let store = MemStore::with_limits(HubLimits {
        revisions: 4,
        bytes: 1000,
        ..HubLimits::default()
    });
    let bench = Bench::of(store, Options::default()).await;
    let mut talk = bench.watch(all_keys()).await;
    let mut last = 0;
    for n in 0..3000 {
        last = bench.put("a", &format!("{n:03000}")).await;
    }
    bench.compact(last).await.unwrap();
    let mut before = 1;
    loop {
        let answer = talk.next().await;
        if answer.body.canceled {
            assert_eq!(answer.body.compact_revision, last);
            break;
        }
        assert_eq!(answer.header.revision, before + 1, "no gap before the end");
        before += 1;
    }
    assert!(before < last);
}

#[tokio::test]
async fn a_client_that_has_said_all_goes_on_listening() {
    let bench = Bench::new().await;
    let talk = bench.watch(all_keys()).await;
    let Talk { say, mut heard } = talk;
    drop(say);
    bench.put("a", "1").await;
    let answer = tokio::time::timeout(SOON, heard.message()).await.unwrap();
    assert_eq!(told(&answer.unwrap().unwrap()), "2: p a");
}

#[tokio::test]
async fn a_stopping_member_and_a_closing_port_end_their_streams() {
    for port_alone in [false, true] {
        let bench = Bench::new().await;
        let mut talk = bench.watch(all_keys()).await;
        match port_alone {
            true => bench.front.stop.cancel(),
            false => bench.backend.stop.cancel(),
        }
        let ended = talk.hear().await.unwrap_err();
        assert_eq!(ended.code(), tonic::Code::Unavailable);
        assert_eq!(ended.message(), "etcdserver: server stopped");
    }
}

#[tokio::test]
async fn ten_thousand_watches_on_one_stream_and_ten_thousand_streams_on_one_connection() {
    let bench = Bench::new().await;
    let mut talk: WatchTalk = bench.both(PATH, false).await.unwrap();
    let key = |n: i64| format!("key{n:05}");
    for n in 0..10_000 {
        talk.say(create(WatchCreate {
            key: bytes(&key(n)),
            ..WatchCreate::default()
        }))
        .await;
        let created = talk.next().await.body;
        assert_eq!((created.watch_id, created.created), (n, true));
    }
    let mut talks = Vec::new();
    for n in 0..10_000 {
        talks.push(
            bench
                .watch(WatchCreate {
                    key: bytes(&key(n)),
                    ..WatchCreate::default()
                })
                .await,
        );
    }
    for n in [0, 999, 9999] {
        bench.put(&key(n), "x").await;
        let answer = talk.next().await;
        assert_eq!((answer.body.watch_id, answer.body.events.len()), (n, 1));
    }
    assert_eq!(told(&talks[999].next().await), "3: p key00999");
    assert_eq!(told(&talks[9999].next().await), "4: p key09999");
    talk.say(progress()).await;
    let mark = talk.next().await;
    assert_eq!((mark.body.watch_id, mark.header.revision), (-1, 4));
}

#[tokio::test]
async fn ten_thousand_streams_on_many_connections() {
    let mut bench = Bench::new().await;
    let mut talks = Vec::new();
    for connection in 0..100 {
        let client = bench.front.clients.nameless();
        bench.channel = connect(&bench.front, client).await;
        for n in 0..100 {
            let watch = WatchCreate {
                key: bytes(&format!("key{}", connection * 100 + n)),
                ..WatchCreate::default()
            };
            talks.push(bench.watch(watch).await);
        }
    }
    // All of them hear of their own, and of nothing else.
    for (n, talk) in talks.iter_mut().enumerate().step_by(97) {
        let revision = bench.put(&format!("key{n}"), "x").await;
        assert_eq!(told(&talk.next().await), format!("{revision}: p key{n}"));
    }
    drop(talks);
    let gone = async {
        while bench.backend.store.watchers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, gone)
        .await
        .expect("they leave nothing behind");
}

#[tokio::test]
async fn busy_watches_of_a_stream_do_not_keep_a_quiet_one_waiting() {
    let bench = Bench::new().await;
    for n in 0..3000 {
        bench.put("hot", &n.to_string()).await;
    }
    let newest = bench.put("cold", "x").await;
    let mut talk: WatchTalk = bench.both(PATH, false).await.unwrap();
    for n in 0..20 {
        let (key, start_revision) = if n < 19 { ("hot", 1) } else { ("cold", newest) };
        let watch = WatchCreate {
            key: bytes(key),
            start_revision,
            ..WatchCreate::default()
        };
        talk.say(create(watch)).await;
    }
    let mut before = 0;
    loop {
        let body = talk.next().await.body;
        match (body.watch_id, body.created) {
            (19, true) => before = 0,
            (19, false) => break,
            _ => before += body.events.len(),
        }
    }
    // A turn of each of them with the history that it has in its hands then, of 57,000 events.
    assert!(before < 19 * 300, "{before} events came before");
}

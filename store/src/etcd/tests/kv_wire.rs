use bytes::Bytes;
use kv::{CompareOperand, RangeRequest, TxnRequest};
use tonic::{Code, Request, Status};

use super::super::headed::Header;
use super::*;

fn words(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

#[tokio::test]
async fn the_first_write_is_revision_two_and_what_changes_nothing_raises_nothing() {
    let bench = Bench::new().await;
    let empty = bench.range(everything()).await.unwrap();
    assert_eq!(empty.header.revision, 1);
    assert_eq!(bench.delete("a").await.header.revision, 1);
    let failed = TxnRequest {
        compare: vec![kv::Compare {
            result: kv::CompareResult::Greater as i32,
            target: kv::CompareTarget::Mod as i32,
            key: bytes("a"),
            operand: Some(CompareOperand::ModRevision(7)),
            ..Default::default()
        }],
        success: vec![put_op("a", "x")],
        ..Default::default()
    };
    let failed = bench.txn(failed).await.unwrap();
    assert!(!failed.body.succeeded);
    assert_eq!(failed.header.revision, 1);
    let read = bench.txn(txn_of(vec![range_op("a")])).await.unwrap();
    assert_eq!(read.header.revision, 1);
    let lease: Headed<LeaseGrantBody> = bench
        .call(
            "/etcdserverpb.Lease/LeaseGrant",
            LeaseGrantRequest { ttl: 60, id: 0 },
        )
        .await
        .unwrap();
    assert_eq!(lease.header.revision, 1);
    assert_eq!(bench.put("a", "1").await, 2);
    bench.put("b", "1").await;
    let a = bench.get("a").await;
    // The store's revision at the read, not the key's.
    assert_eq!((a.header.revision, a.body.kvs[0].mod_revision), (3, 2));
}

#[tokio::test]
async fn every_header_names_cluster_member_and_term() {
    let bench = Bench::new().await;
    let answer = bench.get("a").await;
    let header = Header {
        cluster_id: 1,
        member_id: 1,
        revision: 1,
        raft_term: 1,
    };
    assert_eq!(answer.header, header);
    let members: Headed<MembersBody> = bench
        .call(
            "/etcdserverpb.Cluster/MemberList",
            MemberListRequest { linearizable: true },
        )
        .await
        .unwrap();
    assert_eq!(members.header, header);
}

#[tokio::test]
async fn operations_of_a_txn_see_earlier_ones_share_a_revision_and_restart_versions() {
    let bench = Bench::new().await;
    bench.put("a", "1").await;
    bench.put("a", "2").await;
    let answer = bench
        .txn(txn_of(vec![
            range_op("a"),
            delete_op("a"),
            range_op("a"),
            put_op("b", "1"),
        ]))
        .await
        .unwrap();
    assert_eq!(answer.header.revision, 4);
    let bodies: Vec<TxnOpBody> = answer
        .body
        .responses
        .into_iter()
        .map(|op| op.response.unwrap())
        .collect();
    let (TxnOpBody::Range(before), TxnOpBody::DeleteRange(deleted), TxnOpBody::Range(after)) =
        (&bodies[0], &bodies[1], &bodies[2])
    else {
        panic!("{bodies:?}");
    };
    assert_eq!((before.body.count, before.header.revision), (1, 3));
    assert_eq!((deleted.body.deleted, deleted.header.revision), (1, 4));
    assert_eq!((after.body.count, after.header.revision), (0, 4));
    bench.put("a", "3").await;
    let kv = bench.get("a").await.body.kvs.remove(0);
    assert_eq!((kv.version, kv.create_revision, kv.mod_revision), (1, 5, 5));
}

#[tokio::test]
async fn future_and_compacted_revisions_have_etcds_words_and_the_compacted_one_itself_is_readable()
{
    let bench = Bench::new().await;
    for value in ["1", "2", "3"] {
        bench.put("a", value).await;
    }
    let at = |revision| RangeRequest {
        key: bytes("a"),
        revision,
        ..RangeRequest::default()
    };
    let future = bench.range(at(9)).await.unwrap_err();
    assert_eq!(
        words(&future),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision"
        )
    );
    bench.compact(3).await.unwrap();
    let compacted = bench.range(at(2)).await.unwrap_err();
    let gone = (
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
    assert_eq!(words(&compacted), gone);
    let kept = bench.range(at(3)).await.unwrap();
    assert_eq!(kept.body.kvs[0].value, "2");
    assert_eq!(words(&bench.compact(3).await.unwrap_err()), gone);
    assert_eq!(words(&bench.compact(9).await.unwrap_err()), words(&future));
}

#[tokio::test]
async fn count_is_of_the_whole_range_and_keys_only_keeps_all_but_the_value() {
    let bench = Bench::new().await;
    for n in 0..5 {
        bench.put(&format!("a{n}"), "value").await;
    }
    bench.put("a0", "value").await;
    let request = RangeRequest {
        limit: 2,
        keys_only: true,
        min_mod_revision: 3,
        ..everything()
    };
    let answer = bench.range(request).await.unwrap().body;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (5, 2, true));
    assert!(answer.kvs[0].value.is_empty());
    assert_eq!((answer.kvs[0].version, answer.kvs[0].mod_revision), (2, 7));
    let _: Headed<LeaseGrantBody> = bench
        .call(
            "/etcdserverpb.Lease/LeaseGrant",
            LeaseGrantRequest { ttl: 60, id: 5 },
        )
        .await
        .unwrap();
    let leased = kv::PutRequest {
        key: bytes("a0"),
        value: bytes("value"),
        lease: 5,
        ..Default::default()
    };
    let _: Headed<kv::PutResponse> = bench.call("/etcdserverpb.KV/Put", leased).await.unwrap();
    let keys = RangeRequest {
        keys_only: true,
        ..everything()
    };
    let first = bench.range(keys).await.unwrap().body.kvs.remove(0);
    assert_eq!((first.lease, first.version, first.value.len()), (5, 3, 0));
    let count = RangeRequest {
        count_only: true,
        ..everything()
    };
    let answer = bench.range(count).await.unwrap().body;
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (5, 0, false));
}

#[tokio::test]
async fn all_range_forms_and_sorts() {
    let bench = Bench::new().await;
    for (key, value) in [("a", "3"), ("ab", "1"), ("b", "2"), ("a", "9")] {
        bench.put(key, value).await;
    }
    let keys = |answer: Headed<RangeResponse>| -> String {
        let keys = answer.body.kvs.iter().map(|kv| kv.key.clone());
        let keys: Vec<_> = keys
            .map(|key| String::from_utf8(key.to_vec()).unwrap())
            .collect();
        keys.join(" ")
    };
    let of = |key: &str, range_end: &[u8]| RangeRequest {
        key: bytes(key),
        range_end: Bytes::copy_from_slice(range_end),
        ..RangeRequest::default()
    };
    assert_eq!(keys(bench.range(of("a", b"")).await.unwrap()), "a");
    assert_eq!(keys(bench.range(of("a", b"b")).await.unwrap()), "a ab");
    assert_eq!(keys(bench.range(of("ab", b"\0")).await.unwrap()), "ab b");
    assert_eq!(keys(bench.range(of("b", b"a")).await.unwrap()), "");
    let inverted = kv::DeleteRangeRequest {
        key: bytes("b"),
        range_end: bytes("a"),
        prev_kv: true,
    };
    let deleted: Headed<kv::DeleteRangeResponse> = bench
        .call("/etcdserverpb.KV/DeleteRange", inverted)
        .await
        .unwrap();
    assert_eq!((deleted.body.deleted, deleted.header.revision), (0, 5));
    let sorts = [
        (0, kv::SortTarget::Value, "ab b a"),
        (2, kv::SortTarget::Value, "a b ab"),
        (1, kv::SortTarget::Create, "a ab b"),
        (2, kv::SortTarget::Mod, "a b ab"),
        (2, kv::SortTarget::Key, "b ab a"),
        (1, kv::SortTarget::Version, "ab b a"),
    ];
    for (sort_order, target, want) in sorts {
        let request = RangeRequest {
            sort_order,
            sort_target: target as i32,
            ..everything()
        };
        assert_eq!(
            keys(bench.range(request).await.unwrap()),
            want,
            "{target:?}"
        );
    }
    let unknown = RangeRequest {
        sort_order: 7,
        ..everything()
    };
    let refused = bench.range(unknown).await.unwrap_err();
    assert_eq!(
        words(&refused),
        (Code::InvalidArgument, "etcdserver: invalid sort option")
    );
}

#[tokio::test]
async fn keys_are_opaque_bytes_values_may_be_empty_and_a_key_may_not() {
    let bench = Bench::new().await;
    let odd = [&[0][..], &[0xff, 0xff], &[0xc3, 0x28], b"a\0b"];
    for key in odd {
        let put = kv::PutRequest {
            key: Bytes::copy_from_slice(key),
            ..Default::default()
        };
        let _: Headed<kv::PutResponse> = bench.call("/etcdserverpb.KV/Put", put).await.unwrap();
    }
    let all = bench.range(everything()).await.unwrap().body;
    let keys: Vec<&[u8]> = all.kvs.iter().map(|kv| kv.key.as_ref()).collect();
    assert_eq!(keys, [&[0][..], b"a\0b", &[0xc3, 0x28], &[0xff, 0xff]]);
    let empty = (Code::InvalidArgument, "etcdserver: key is not provided");
    let refused = bench.range(RangeRequest::default()).await.unwrap_err();
    assert_eq!(words(&refused), empty);
    let refused = bench.txn(txn_of(vec![put_op("", "x")])).await.unwrap_err();
    assert_eq!(words(&refused), empty);
}

#[tokio::test]
async fn bad_transactions_are_refused_in_etcds_words() {
    let bench = Bench::new().await;
    let many = (0..129).map(|n| put_op(&format!("k{n}"), "x")).collect();
    let cases: [(TxnRequest, &str); 4] = [
        (
            txn_of(many),
            "etcdserver: too many operations in txn request",
        ),
        (
            txn_of(vec![put_op("a", "1"), put_op("a", "2")]),
            "etcdserver: duplicate key given in txn request",
        ),
        (
            txn_of(vec![put_op("a", "1"), delete_op("a")]),
            "etcdserver: duplicate key given in txn request",
        ),
        (
            txn_of(vec![kv::RequestOp { request: None }]),
            "etcdserver: key not found",
        ),
    ];
    for (request, text) in cases {
        let refused = bench.txn(request).await.unwrap_err();
        assert_eq!(words(&refused), (Code::InvalidArgument, text));
    }
    let unknown_lease = kv::PutRequest {
        key: bytes("a"),
        lease: 77,
        ..Default::default()
    };
    let refused: Result<Headed<kv::PutResponse>, _> =
        bench.call("/etcdserverpb.KV/Put", unknown_lease).await;
    assert_eq!(
        words(&refused.unwrap_err()),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
    assert_eq!(bench.get("a").await.header.revision, 1);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_answered_and_the_connection_lives_on() {
    let bench = Bench::new().await;
    let too_large = (Code::InvalidArgument, "etcdserver: request is too large");
    // Over etcd's limit, and over what the decoder takes at all.
    for bytes_over in [kv::REQUEST_BYTES_MAX + 1, 3 << 20] {
        let put = kv::PutRequest {
            key: bytes("a"),
            value: vec![b'x'; bytes_over].into(),
            ..Default::default()
        };
        let refused: Result<Headed<kv::PutResponse>, _> =
            bench.call("/etcdserverpb.KV/Put", put).await;
        assert_eq!(words(&refused.unwrap_err()), too_large);
        assert_eq!(bench.get("a").await.body.count, 0);
    }
}

#[tokio::test]
async fn without_a_leader_a_client_that_asks_for_one_is_told_so() {
    let bench = Bench::new().await;
    *bench.backend.leader.lock().unwrap() = None;
    let mut request = Request::new(RangeRequest {
        key: bytes("a"),
        serializable: true,
        ..RangeRequest::default()
    });
    let calm: Headed<RangeResponse> = bench
        .call("/etcdserverpb.KV/Range", request.get_ref().clone())
        .await
        .unwrap();
    assert_eq!(calm.body.count, 0);
    let yes = "true".parse().unwrap();
    request.metadata_mut().insert("hasleader", yes);
    let told: Result<Headed<RangeResponse>, _> =
        bench.call_with("/etcdserverpb.KV/Range", request).await;
    assert_eq!(
        words(&told.unwrap_err()),
        (Code::Unavailable, "etcdserver: no leader")
    );
}

#[tokio::test]
async fn a_learner_answers_local_reads_and_its_status_alone() {
    let bench = Bench::new().await;
    bench.put("a", "1").await;
    bench.backend.members.lock().unwrap()[0].is_voter = false;
    let local = RangeRequest {
        serializable: true,
        ..everything()
    };
    assert_eq!(bench.range(local).await.unwrap().body.count, 1);
    let status: Result<Headed<StatusBody>, _> = bench
        .call("/etcdserverpb.Maintenance/Status", Empty {})
        .await;
    assert!(status.is_ok());
    let refusal = (
        Code::FailedPrecondition,
        "etcdserver: rpc not supported for learner",
    );
    let refused = bench.range(everything()).await.unwrap_err();
    assert_eq!(words(&refused), refusal);
    let refused = bench.txn(txn_of(vec![put_op("a", "2")])).await.unwrap_err();
    assert_eq!(words(&refused), refusal);
    let refused = bench.both::<super::super::message::WatchRequest, Headed<WatchBody>>(
        "/etcdserverpb.Watch/Watch",
        false,
    );
    assert_eq!(words(&refused.await.err().unwrap()), refusal);
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let bench = Bench::new().await;
    let answer: Result<Empty, _> = bench.call("/etcdserverpb.KV/Fly", Empty {}).await;
    assert_eq!(
        words(&answer.unwrap_err()),
        (
            Code::Unimplemented,
            "unknown method Fly for service etcdserverpb.KV"
        )
    );
    let answer: Result<Empty, _> = bench.call("/no.Such/Service", Empty {}).await;
    assert_eq!(
        words(&answer.unwrap_err()),
        (Code::Unimplemented, "unknown service no.Such")
    );
}

/// The parts of a stream put together as protobuf merges messages.
async fn streamed(
    bench: &Bench,
    request: RangeRequest,
) -> Result<(Headed<RangeResponse>, usize), Status> {
    let mut parts: Streaming<RangeStreamResponse> = bench
        .stream("/etcdserverpb.KV/RangeStream", request)
        .await?;
    let mut merged = Headed::<RangeResponse>::default();
    let mut count = 0;
    while let Some(part) = parts.message().await? {
        let bytes = part.range_response.unwrap().encode_to_vec();
        merged.merge(&bytes[..]).unwrap();
        count += 1;
    }
    Ok((merged, count))
}

#[tokio::test]
async fn a_streamed_range_put_together_is_the_range() {
    let bench = Bench::new().await;
    for n in 0..300 {
        bench.put(&format!("k{n:03}"), &"v".repeat(20_000)).await;
    }
    let requests = [
        everything(),
        RangeRequest {
            limit: 37,
            ..everything()
        },
        RangeRequest {
            limit: 300,
            keys_only: true,
            ..everything()
        },
        RangeRequest {
            count_only: true,
            ..everything()
        },
        RangeRequest {
            revision: 100,
            ..everything()
        },
        RangeRequest {
            key: bytes("k007"),
            ..RangeRequest::default()
        },
        RangeRequest {
            key: bytes("none"),
            ..RangeRequest::default()
        },
    ];
    for request in requests {
        let whole = bench.range(request.clone()).await.unwrap();
        let (merged, parts) = streamed(&bench, request.clone()).await.unwrap();
        assert_eq!(merged, whole, "{request:?}");
        if request == everything() {
            assert!(parts > 3, "{parts} parts of 6 MB");
        }
    }
    let sorted = RangeRequest {
        sort_order: 2,
        ..everything()
    };
    let refused = streamed(&bench, sorted).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let refused = streamed(&bench, RangeRequest::default()).await.unwrap_err();
    assert_eq!(
        words(&refused),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
}

#[tokio::test]
async fn a_streamed_range_is_of_one_revision_whatever_is_written_meanwhile() {
    let bench = Bench::new().await;
    for n in 0..100 {
        bench.put(&format!("k{n:03}"), &"v".repeat(50_000)).await;
    }
    let whole = bench.range(everything()).await.unwrap();
    let mut parts: Streaming<RangeStreamResponse> = bench
        .stream("/etcdserverpb.KV/RangeStream", everything())
        .await
        .unwrap();
    let mut merged = Headed::<RangeResponse>::default();
    let mut n = 0;
    while let Some(part) = parts.message().await.unwrap() {
        n += 1;
        bench.put("k050", "changed").await;
        bench.put(&format!("k099{n}"), "new").await;
        bench.delete("k098").await;
        let bytes = part.range_response.unwrap().encode_to_vec();
        merged.merge(&bytes[..]).unwrap();
    }
    assert_eq!(merged, whole);
}

#[tokio::test]
async fn a_message_that_is_none_is_an_error_and_the_connection_lives_on() {
    let bench = Bench::new().await;
    // A number where the key should be, and a length beyond the end.
    let number = super::super::message::MemberId { id: 7 };
    let refused: Result<Headed<RangeResponse>, _> =
        bench.call("/etcdserverpb.KV/Range", number).await;
    assert_eq!(refused.unwrap_err().code(), Code::Internal);
    let mut deep = kv::TxnRequest::default();
    for _ in 0..60 {
        let nested = kv::RequestOp {
            request: Some(kv::Request::Txn(deep)),
        };
        deep = txn_of(vec![nested]);
    }
    let refused = bench.txn(deep).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    assert_eq!(bench.get("a").await.header.revision, 1);
}

#[tokio::test]
async fn a_transaction_that_branches_widely_is_checked_in_a_moment() {
    let bench = Bench::new().await;
    let mut n = 0;
    let mut leaf = || {
        n += 1;
        match n % 2 {
            0 => put_op(&format!("p{n}"), ""),
            _ => delete_op(&format!("d{n}")),
        }
    };
    let nested = |ops| kv::RequestOp {
        request: Some(kv::Request::Txn(txn_of(ops))),
    };
    let mut level = |width| {
        (0..width)
            .map(|_| nested((0..32).map(|_| leaf()).collect()))
            .collect()
    };
    let wide: Vec<_> = (0..64).map(|_| nested(level(32))).collect();
    let request = txn_of(wide);
    assert!(request.encoded_len() > 700_000);
    // Within the deadline of every call here; each branch against each other would take hours.
    bench.txn(request).await.unwrap();
}

#[tokio::test]
async fn pings_as_often_as_a_client_likes_do_not_end_its_connection() {
    let store = MemStore::new();
    let backend = MemBackend::new(store);
    let front = Front::new(backend.clone(), Options::default());
    let often = Duration::from_millis(1);
    let eager = Endpoint::from_static("http://pipe")
        .http2_keep_alive_interval(often)
        .keep_alive_while_idle(true);
    // The pipe connects once: a connection that ended would not come back.
    let client = front.clients.nameless();
    let channel = connect_by(eager, &front, client.clone()).await;
    let bench = Bench {
        backend,
        front,
        client,
        channel,
    };
    let before = std::time::Instant::now();
    let mut revision = 0;
    while before.elapsed() < 100 * often {
        revision = bench.put("a", "x").await;
    }
    assert_eq!(bench.get("a").await.header.revision, revision);
}

#[tokio::test]
async fn an_answer_may_be_far_larger_than_a_request() {
    let bench = Bench::new().await;
    for n in 0..40 {
        bench.put(&format!("k{n}"), &"v".repeat(1 << 20)).await;
    }
    let all = bench.range(everything()).await.unwrap();
    assert_eq!(all.body.kvs.len(), 40);
    assert!(all.encoded_len() > 40 << 20);
}

#[tokio::test]
async fn a_large_answer_that_breaks_off_is_an_error_and_never_a_short_answer() {
    let bench = Bench::new().await;
    let parts = vec![Ok(100_000), Ok(100_000), Err(StoreError::Stopped)];
    *bench.backend.parts.lock().unwrap() = Some((parts, Arc::default()));
    let broken = bench.range(everything()).await.unwrap_err();
    assert_ne!(broken.code(), Code::Ok);
    // Before anything was sent, it is a status.
    let parts = vec![Err(StoreError::Stopped)];
    *bench.backend.parts.lock().unwrap() = Some((parts, Arc::default()));
    let refused = bench.range(everything()).await.unwrap_err();
    assert_eq!(
        words(&refused),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    assert_eq!(bench.get("a").await.header.revision, 1);
}

#[tokio::test]
async fn an_answer_beyond_what_a_message_can_be_is_refused_in_the_words_of_grpc() {
    let bench = Bench::new().await;
    let parts = vec![Ok(1 << 30), Ok(1 << 30)];
    *bench.backend.parts.lock().unwrap() = Some((parts, Arc::default()));
    let refused = bench.range(everything()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let text = "grpc: trying to send message larger than max (";
    assert!(refused.message().starts_with(text), "{refused:?}");
}

#[tokio::test]
async fn a_large_answer_is_read_no_faster_than_its_client_reads() {
    const PART: usize = 256 << 10;
    let mut bench = Bench::new().await;
    let taken = Arc::new(AtomicUsize::new(0));
    *bench.backend.parts.lock().unwrap() = Some((vec![Ok(PART); 400], taken.clone()));
    let request = everything().encode_to_vec();
    let mut framed = vec![0, 0, 0, 0, request.len() as u8];
    framed.extend(request);
    let call = http::Request::post("http://pipe/etcdserverpb.KV/Range")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(http_body_util::Full::new(
            Bytes::from(framed),
        )))
        .unwrap();
    let answer = tower::ServiceExt::ready(&mut bench.channel).await.unwrap();
    let answer = tower::Service::call(answer, call).await.unwrap();
    // Others on the connection are served, and what nobody reads stays where it is.
    for n in 0..50 {
        bench.put("a", &n.to_string()).await;
    }
    let early = taken.load(Ordering::SeqCst);
    assert!(
        early < 40,
        "{early} parts were taken for one that does not read"
    );
    let body = http_body_util::BodyExt::collect(answer.into_body());
    let body = tokio::time::timeout(SOON, body).await.unwrap().unwrap();
    assert_eq!(taken.load(Ordering::SeqCst), 400);
    assert!(body.to_bytes().len() > 400 * PART);
}

#[tokio::test]
async fn a_client_with_too_much_under_way_is_refused_and_others_are_served() {
    let mut bench = Bench::new().await;
    let mut places = Vec::new();
    while let Ok(place) = bench.client.enter(Class::Write) {
        places.push(place);
    }
    let refused = bench.txn(txn_of(vec![put_op("a", "1")])).await.unwrap_err();
    assert_eq!(
        words(&refused),
        (Code::ResourceExhausted, "etcdserver: too many requests")
    );
    assert_eq!(bench.get("a").await.header.revision, 1, "nothing was done");
    let other = bench.front.clients.nameless();
    let channel = connect(&bench.front, other).await;
    let own = std::mem::replace(&mut bench.channel, channel);
    assert_eq!(bench.put("a", "1").await, 2);
    drop(places);
    bench.channel = own;
    assert_eq!(bench.put("a", "2").await, 3);
}

#[tokio::test]
async fn the_places_of_calls_are_given_back_when_they_end() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.put("a", &n.to_string()).await;
        bench.get("a").await;
    }
    let watch = bench
        .both::<super::super::message::WatchRequest, Headed<WatchBody>>(
            "/etcdserverpb.Watch/Watch",
            false,
        )
        .await
        .unwrap();
    let left = |class| {
        let mut places = Vec::new();
        while let Ok(place) = bench.client.enter(class) {
            places.push(place);
        }
        places.len()
    };
    assert_eq!(left(Class::Stream), 32_767);
    drop(watch);
    let given_back = async {
        while (left(Class::Write), left(Class::Read), left(Class::Stream)) != (4096, 8192, 32_768) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, given_back)
        .await
        .expect("all places are free again");
}

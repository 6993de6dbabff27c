use tonic::Code;

use super::*;

type KeepAlive = Talk<LeaseId, Headed<LeaseKeepAliveBody>>;

impl Bench {
    async fn grant(&self, id: i64, ttl: i64) -> Result<Headed<LeaseGrantBody>, Status> {
        self.call(
            "/etcdserverpb.Lease/LeaseGrant",
            LeaseGrantRequest { ttl, id },
        )
        .await
    }

    async fn time_to_live(&self, id: i64) -> LeaseTimeToLiveBody {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let answer: Headed<LeaseTimeToLiveBody> = self
            .call("/etcdserverpb.Lease/LeaseTimeToLive", request)
            .await
            .unwrap();
        answer.body
    }
}

#[tokio::test]
async fn leases_are_granted_listed_kept_alive_and_revoked() {
    let bench = Bench::new().await;
    let chosen = bench.grant(0, 60).await.unwrap().body;
    assert!(chosen.id != 0 && chosen.ttl == 60 && chosen.error.is_empty());
    bench.grant(77, 30).await.unwrap();
    let put = kv::PutRequest {
        key: bytes("a"),
        lease: 77,
        ..Default::default()
    };
    let _: Headed<kv::PutResponse> = bench.call("/etcdserverpb.KV/Put", put).await.unwrap();
    let status = bench.time_to_live(77).await;
    assert_eq!((status.id, status.ttl, status.granted_ttl), (77, 30, 30));
    assert_eq!(status.keys, ["a"]);
    let all: Headed<LeaseLeasesBody> = bench
        .call("/etcdserverpb.Lease/LeaseLeases", Empty {})
        .await
        .unwrap();
    let ids: Vec<i64> = all.body.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids, [chosen.id, 77]);
    let mut talk: KeepAlive = bench
        .both("/etcdserverpb.Lease/LeaseKeepAlive", false)
        .await
        .unwrap();
    for id in [77, chosen.id, 77] {
        talk.say(LeaseId { id }).await;
        let answer = talk.next().await.body;
        assert_eq!(answer.id, id);
        assert!(answer.ttl >= 30);
    }
    let revoked: Headed<Empty> = bench
        .call("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 77 })
        .await
        .unwrap();
    assert_eq!(revoked.header.revision, 3);
    assert_eq!(bench.get("a").await.body.count, 0);
}

#[tokio::test]
async fn a_keep_alive_of_an_unknown_lease_answers_zero_and_its_time_to_live_is_minus_one() {
    let bench = Bench::new().await;
    let mut talk: KeepAlive = bench
        .both("/etcdserverpb.Lease/LeaseKeepAlive", false)
        .await
        .unwrap();
    talk.say(LeaseId { id: 404 }).await;
    let answer = talk.next().await.body;
    assert_eq!((answer.id, answer.ttl), (404, 0));
    let status = bench.time_to_live(404).await;
    assert_eq!((status.id, status.ttl, status.granted_ttl), (404, -1, 0));
    drop(talk.say);
    assert!(
        talk.heard.message().await.unwrap().is_none(),
        "ends with its client"
    );
}

#[tokio::test]
async fn a_short_lease_is_made_longer_silently_and_bad_ones_are_refused() {
    let bench = Bench::new().await;
    for ttl in [0, -5] {
        assert!(bench.grant(0, ttl).await.unwrap().body.ttl >= 1);
    }
    bench.grant(5, 10).await.unwrap();
    let twice = bench.grant(5, 10).await.unwrap_err();
    assert_eq!(
        (twice.code(), twice.message()),
        (Code::FailedPrecondition, "etcdserver: lease already exists")
    );
    let long = bench.grant(6, 9_000_000_001).await.unwrap_err();
    assert_eq!(
        (long.code(), long.message()),
        (Code::OutOfRange, "etcdserver: too large lease TTL")
    );
    let unknown: Result<Headed<Empty>, _> = bench
        .call("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 404 })
        .await;
    let unknown = unknown.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
}

#[tokio::test]
async fn a_kept_lease_shows_the_revision_before_it_was_renewed() {
    let bench = Bench::new().await;
    bench.grant(5, 10).await.unwrap();
    let mut talk: KeepAlive = bench
        .both("/etcdserverpb.Lease/LeaseKeepAlive", false)
        .await
        .unwrap();
    let revision = bench.put("a", "1").await;
    talk.say(LeaseId { id: 5 }).await;
    let kept = talk.next().await;
    assert_eq!((kept.header.revision, kept.body.ttl), (revision, 10));
    bench.backend.store.expire(11_000);
    talk.say(LeaseId { id: 5 }).await;
    assert_eq!(talk.next().await.body.ttl, 0);
}

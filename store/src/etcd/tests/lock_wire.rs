use super::*;

impl Bench {
    async fn lock(&self, name: &str, lease: i64) -> Result<Headed<LockBody>, Status> {
        let request = LockRequest {
            name: bytes(name),
            lease,
        };
        self.call("/v3lockpb.Lock/Lock", request).await
    }

    async fn unlock(&self, key: Bytes) -> Headed<Empty> {
        self.call("/v3lockpb.Lock/Unlock", UnlockRequest { key })
            .await
            .unwrap()
    }

    async fn lease(&self, id: i64) {
        let _: Headed<LeaseGrantBody> = self
            .call(
                "/etcdserverpb.Lease/LeaseGrant",
                LeaseGrantRequest { ttl: 60, id },
            )
            .await
            .unwrap();
    }

    async fn campaign(&self, lease: i64, value: &str) -> Result<LeaderKey, Status> {
        let request = CampaignRequest {
            name: bytes("seat"),
            lease,
            value: bytes(value),
        };
        let won: Headed<CampaignBody> = self
            .call("/v3electionpb.Election/Campaign", request)
            .await?;
        Ok(won.body.leader.unwrap())
    }

    async fn leader(&self) -> Result<Headed<LeaderBody>, Status> {
        let request = LeaderRequest {
            name: bytes("seat"),
        };
        self.call("/v3electionpb.Election/Leader", request).await
    }

    /// Waits until so many stand in line.
    async fn line(&self, prefix: &str, length: i64) {
        let waiting = async {
            let request = RangeRequest {
                key: bytes(&format!("{prefix}/")),
                range_end: bytes(&format!("{prefix}0")),
                count_only: true,
                ..RangeRequest::default()
            };
            while self.range(request.clone()).await.unwrap().body.count != length {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, waiting)
            .await
            .expect("the line has this length");
    }
}

#[tokio::test]
async fn a_lock_is_held_by_one_and_goes_on_in_order() {
    let bench = Arc::new(Bench::new().await);
    for id in [10, 11, 12] {
        bench.lease(id).await;
    }
    let first = bench.lock("l", 10).await.unwrap();
    assert_eq!(first.body.key, "l/a");
    assert!(first.header.revision > 1);
    // The same lease has it already.
    assert_eq!(bench.lock("l", 10).await.unwrap().body.key, "l/a");
    // A name that only begins alike is another lock.
    bench.lock("ll", 11).await.unwrap();
    let wait_for = |id: i64| {
        let bench = bench.clone();
        tokio::spawn(async move { bench.lock("l", id).await.unwrap().body.key })
    };
    let second = wait_for(11);
    bench.line("l", 2).await;
    let third = wait_for(12);
    bench.line("l", 3).await;
    assert!(!second.is_finished());
    bench.unlock(first.body.key).await;
    let key = tokio::time::timeout(SOON, second).await.unwrap().unwrap();
    assert_eq!(key, "l/b");
    assert!(!third.is_finished());
    // A lease that ends unlocks, too.
    let _: Headed<Empty> = bench
        .call("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 11 })
        .await
        .unwrap();
    let key = tokio::time::timeout(SOON, third).await.unwrap().unwrap();
    assert_eq!(key, "l/c");
}

#[tokio::test]
async fn who_goes_away_while_waiting_leaves_the_line() {
    let bench = Arc::new(Bench::new().await);
    for id in [10, 11] {
        bench.lease(id).await;
    }
    bench.lock("l", 10).await.unwrap();
    let waiting = {
        let bench = bench.clone();
        tokio::spawn(async move { bench.lock("l", 11).await })
    };
    bench.line("l", 2).await;
    waiting.abort();
    bench.line("l", 1).await;
}

#[tokio::test]
async fn a_lock_without_a_lease_gets_one_and_with_an_unknown_one_none() {
    let bench = Bench::new().await;
    let held = bench.lock("l", 0).await.unwrap().body.key;
    let kv = bench
        .get(std::str::from_utf8(&held).unwrap())
        .await
        .body
        .kvs;
    assert_ne!(kv[0].lease, 0);
    let refused = bench.lock("m", 404).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: requested lease not found");
}

#[tokio::test]
async fn a_lease_that_ends_while_it_waits_does_not_get_the_lock() {
    let bench = Arc::new(Bench::new().await);
    for id in [10, 11] {
        bench.lease(id).await;
    }
    let first = bench.lock("l", 10).await.unwrap();
    let waiting = {
        let bench = bench.clone();
        tokio::spawn(async move { bench.lock("l", 11).await })
    };
    bench.line("l", 2).await;
    let _: Headed<Empty> = bench
        .call("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 11 })
        .await
        .unwrap();
    bench.unlock(first.body.key).await;
    let refused = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    assert_eq!(refused.unwrap_err().message(), "mutex: session is expired");
}

#[tokio::test]
async fn a_lease_that_nobody_named_is_renewed_while_it_waits() {
    use super::super::turn::Place;
    let bench = Bench::new().await;
    bench.lease(10).await;
    let first = bench.lock("l", 10).await.unwrap();
    let name = bytes("l");
    let take = |lease| Place::take(&bench.front, &name, lease, Bytes::new());
    let (named, _) = take(10).await.unwrap();
    assert_eq!(named.renew, None);
    named.keep();
    let (mut place, _) = take(0).await.unwrap();
    assert!(place.renew < Some(Duration::from_secs(30)) && place.renew.is_some());
    place.renew = Some(Duration::from_millis(1));
    let renewed = || bench.backend.renewed.lock().unwrap().clone();
    let lease = place.lease;
    let others = async {
        while renewed().len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bench.unlock(first.body.key.clone()).await;
    };
    let both = async { tokio::join!(place.wait(), others) };
    let (first, ()) = tokio::time::timeout(SOON, both).await.unwrap();
    assert!(first.unwrap().is_some());
    assert!(renewed().iter().all(|renewed| *renewed == lease));
}

#[tokio::test]
async fn a_lease_that_ends_while_it_waits_is_not_elected() {
    let bench = Arc::new(Bench::new().await);
    for id in [10, 11] {
        bench.lease(id).await;
    }
    let first = bench.campaign(10, "one").await.unwrap();
    let waiting = {
        let bench = bench.clone();
        tokio::spawn(async move { bench.campaign(11, "two").await })
    };
    bench.line("seat", 2).await;
    let _: Headed<Empty> = bench
        .call("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: 11 })
        .await
        .unwrap();
    let resign = ResignRequest {
        leader: Some(first),
    };
    let _: Headed<Empty> = bench
        .call("/v3electionpb.Election/Resign", resign)
        .await
        .unwrap();
    let refused = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    assert_eq!(refused.unwrap_err().message(), "election: not leader");
}

#[tokio::test]
async fn an_election_has_one_leader_who_proclaims_and_resigns() {
    let bench = Arc::new(Bench::new().await);
    for id in [10, 11] {
        bench.lease(id).await;
    }
    let nobody = bench.leader().await.unwrap_err();
    assert_eq!(nobody.message(), "election: no leader");
    let request = LeaderRequest {
        name: bytes("seat"),
    };
    let mut seen: Streaming<Headed<LeaderBody>> = bench
        .stream("/v3electionpb.Election/Observe", request)
        .await
        .unwrap();
    let mut observed = async || {
        let next = tokio::time::timeout(SOON, seen.message()).await.unwrap();
        next.unwrap().unwrap().body.kv.unwrap().value
    };
    let first = bench.campaign(10, "one").await.unwrap();
    assert_eq!((&first.name[..], first.lease), (&b"seat"[..], 10));
    assert_eq!(observed().await, "one");
    let second = {
        let bench = bench.clone();
        tokio::spawn(async move { bench.campaign(11, "two").await.unwrap() })
    };
    bench.line("seat", 2).await;
    let proclaim = |leader: &LeaderKey, value: &str| {
        let request = ProclaimRequest {
            leader: Some(leader.clone()),
            value: bytes(value),
        };
        bench.call::<_, Headed<Empty>>("/v3electionpb.Election/Proclaim", request)
    };
    proclaim(&first, "still one").await.unwrap();
    assert_eq!(observed().await, "still one");
    assert_eq!(
        bench.leader().await.unwrap().body.kv.unwrap().value,
        "still one"
    );
    let resign = ResignRequest {
        leader: Some(first.clone()),
    };
    let _: Headed<Empty> = bench
        .call("/v3electionpb.Election/Resign", resign)
        .await
        .unwrap();
    let second = tokio::time::timeout(SOON, second).await.unwrap().unwrap();
    assert_eq!(observed().await, "two");
    assert_eq!(
        proclaim(&first, "again").await.unwrap_err().message(),
        "election: not leader"
    );
    proclaim(&second, "more").await.unwrap();
    assert_eq!(observed().await, "more");
    let missing: Result<Headed<Empty>, _> = bench
        .call(
            "/v3electionpb.Election/Proclaim",
            ProclaimRequest::default(),
        )
        .await;
    assert_eq!(
        missing.unwrap_err().message(),
        "\"leader\" field must be provided"
    );
}

#[tokio::test]
async fn who_stands_twice_keeps_the_seat_and_says_the_newer_word() {
    let bench = Bench::new().await;
    bench.lease(10).await;
    let first = bench.campaign(10, "one").await.unwrap();
    let again = bench.campaign(10, "two").await.unwrap();
    assert_eq!(first, again);
    assert_eq!(bench.leader().await.unwrap().body.kv.unwrap().value, "two");
}

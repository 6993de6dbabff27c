use sha2::{Digest, Sha256};
use tonic::Code;

use super::super::archive;
use super::*;

#[tokio::test]
async fn status_has_all_its_fields_and_works_without_a_leader() {
    let bench = Bench::new().await;
    bench.put("a", "1").await;
    let status = || async {
        let answer: Headed<StatusBody> = bench
            .call("/etcdserverpb.Maintenance/Status", Empty {})
            .await
            .unwrap();
        assert_eq!(answer.header.revision, 2);
        answer.body
    };
    let calm = status().await;
    assert_eq!(calm.version, "3.6.14");
    assert_eq!(calm.storage_version, "3.6.0");
    assert!(calm.db_size > 0 && calm.db_size_in_use > 0);
    assert_eq!((calm.leader, calm.raft_term), (1, 1));
    assert_eq!((calm.raft_index, calm.raft_applied_index), (1, 1));
    assert!(calm.errors.is_empty() && !calm.is_learner);
    assert_eq!(calm.downgrade_info, Some(DowngradeInfo::default()));
    *bench.backend.leader.lock().unwrap() = None;
    let alone = status().await;
    assert_eq!(
        (alone.leader, alone.errors),
        (0, vec!["etcdserver: no leader".to_string()])
    );
    let members = |linearizable| {
        let request = MemberListRequest { linearizable };
        bench.call::<_, Headed<MembersBody>>("/etcdserverpb.Cluster/MemberList", request)
    };
    assert_eq!(members(false).await.unwrap().body.members.len(), 1);
    assert_eq!(
        members(true).await.unwrap_err().message(),
        "etcdserver: no leader"
    );
}

#[tokio::test]
async fn alarms_are_listed_raised_and_ended_and_there_is_nothing_to_defragment() {
    use AlarmAction::{Activate, Deactivate, Get};
    let bench = Bench::new().await;
    let alarms = |action: AlarmAction, member_id: u64, alarm: i32| {
        let request = AlarmRequest {
            action: action as i32,
            member_id,
            alarm,
        };
        let bench = &bench;
        async move {
            let answer: Headed<AlarmBody> = bench
                .call("/etcdserverpb.Maintenance/Alarm", request)
                .await
                .unwrap();
            let alarms = answer.body.alarms.into_iter();
            alarms
                .map(|alarm| (alarm.member_id, alarm.alarm))
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(alarms(Get, 0, 0).await, []);
    assert_eq!(alarms(Activate, 7, 1).await, [(7, 1)]);
    assert_eq!(alarms(Activate, 7, 1).await, [(7, 1)], "as before");
    assert_eq!(alarms(Activate, 8, 2).await, [(8, 2)]);
    assert_eq!(alarms(Get, 0, 0).await, [(7, 1), (8, 2)]);
    assert_eq!(alarms(Get, 0, 2).await, [(8, 2)]);
    assert_eq!(alarms(Get, 7, 0).await, [(7, 1)]);
    let status: Headed<StatusBody> = bench
        .call("/etcdserverpb.Maintenance/Status", Empty {})
        .await
        .unwrap();
    assert_eq!(
        status.body.errors,
        ["memberID:7 alarm:NOSPACE ", "memberID:8 alarm:CORRUPT "]
    );
    assert_eq!(alarms(Deactivate, 7, 2).await, []);
    assert_eq!(alarms(Deactivate, 7, 1).await, [(7, 1)]);
    assert_eq!(alarms(Deactivate, 0, 0).await, [(8, 2)]);
    assert_eq!(alarms(Get, 0, 0).await, []);
    let _: Headed<Empty> = bench
        .call("/etcdserverpb.Maintenance/Defragment", Empty {})
        .await
        .unwrap();
}

#[tokio::test]
async fn no_downgrade_is_valid_and_none_is_under_way() {
    let bench = Bench::new().await;
    let answers = [
        (0, "3.5", "etcdserver: invalid downgrade target version"),
        (1, "3.5.0", "etcdserver: invalid downgrade target version"),
        (0, "x", "etcdserver: wrong downgrade target version format"),
        (0, "", "etcdserver: wrong downgrade target version format"),
        (
            1,
            "3.5.x",
            "etcdserver: wrong downgrade target version format",
        ),
        (2, "", "etcdserver: no inflight downgrade job"),
    ];
    for (action, version, text) in answers {
        let request = DowngradeRequest {
            action,
            version: version.into(),
        };
        let refused: Result<Headed<DowngradeBody>, _> = bench
            .call("/etcdserverpb.Maintenance/Downgrade", request)
            .await;
        let refused = refused.unwrap_err();
        let code = match action {
            2 => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        };
        assert_eq!((refused.message(), refused.code()), (text, code));
    }
}

impl Bench {
    async fn hash_kv(&self, revision: i64) -> Result<HashKvBody, Status> {
        let request = HashKvRequest { revision };
        let answer: Headed<HashKvBody> = self
            .call("/etcdserverpb.Maintenance/HashKV", request)
            .await?;
        Ok(answer.body)
    }
}

#[tokio::test]
async fn the_hash_of_a_revision_stays_and_differs_from_others() {
    let bench = Bench::new().await;
    for n in 0..1200 {
        bench.put(&format!("k{n}"), "x").await;
    }
    let then = bench.hash_kv(0).await.unwrap();
    assert_eq!((then.hash_revision, then.compact_revision), (1201, 0));
    bench.put("k7", "y").await;
    bench.delete("k8").await;
    assert_ne!(bench.hash_kv(0).await.unwrap().hash, then.hash);
    assert_eq!(bench.hash_kv(1201).await.unwrap().hash, then.hash);
    bench.compact(1201).await.unwrap();
    let compacted = bench.hash_kv(1201).await.unwrap();
    assert_eq!(
        (compacted.hash, compacted.compact_revision),
        (then.hash, 1201)
    );
    assert_eq!(
        bench.hash_kv(1200).await.unwrap_err().message(),
        "etcdserver: mvcc: required revision has been compacted"
    );
    assert_eq!(
        bench.hash_kv(9999).await.unwrap_err().message(),
        "etcdserver: mvcc: required revision is a future revision"
    );
    let _: Headed<HashBody> = bench
        .call("/etcdserverpb.Maintenance/Hash", Empty {})
        .await
        .unwrap();
}

#[tokio::test]
async fn leadership_moves_to_members_only() {
    let bench = Bench::new().await;
    let move_to = |target_id| {
        let request = MoveLeaderRequest { target_id };
        bench.call::<_, Headed<Empty>>("/etcdserverpb.Maintenance/MoveLeader", request)
    };
    move_to(1).await.unwrap();
    let refused = move_to(9).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::FailedPrecondition,
            "etcdserver: bad leader transferee"
        )
    );
}

/// Records of an archive as (kind, message).
fn records(archive: &[u8]) -> Vec<(u8, Vec<u8>)> {
    assert_eq!(&archive[..16], b"KONTIKI-ARCHIVE\0");
    let mut rest = &archive[16..];
    let mut records = Vec::new();
    loop {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let record = &rest[4..4 + length];
        records.push((record[0], record[1..].to_vec()));
        rest = &rest[4 + length..];
        if record[0] == 255 {
            assert!(rest.len() < 512 && rest.iter().all(|byte| *byte == 0));
            return records;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_whole_and_has_the_shape_that_clients_check() {
    let bench = Bench::new().await;
    for n in 0..50 {
        bench.put(&format!("k{n:02}"), &"v".repeat(20_000)).await;
    }
    let mut blobs: Streaming<Headed<SnapshotBody>> = bench
        .stream("/etcdserverpb.Maintenance/Snapshot", Empty {})
        .await
        .unwrap();
    let mut file = Vec::new();
    let mut remaining = u64::MAX;
    let mut parts = 0;
    while let Some(blob) = blobs.message().await.unwrap() {
        parts += 1;
        file.extend_from_slice(&blob.body.blob);
        remaining = blob.body.remaining_bytes;
        assert_eq!(blob.body.version, "3.6.0");
    }
    assert!(parts > 3);
    assert_eq!(remaining, 0);
    assert_eq!(file.len() % 512, 32);
    let (archive, digest) = file.split_at(file.len() - 32);
    assert_eq!(&Sha256::digest(archive)[..], digest);
    let records = records(archive);
    let head = archive::Head::decode(&records[0].1[..]).unwrap();
    assert_eq!((records[0].0, head.format, head.revision), (1, 1, 51));
    let keys: Vec<kv::KeyValue> = records
        .iter()
        .filter(|(kind, _)| *kind == 3)
        .map(|(_, message)| kv::KeyValue::decode(&message[..]).unwrap())
        .collect();
    assert_eq!(keys, bench.range(everything()).await.unwrap().body.kvs);
    let tail = archive::Tail::decode(&records.last().unwrap().1[..]).unwrap();
    assert_eq!((tail.keys, tail.leases), (50, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_nobody_takes_ends_with_its_client() {
    let bench = Bench::new().await;
    for n in 0..200 {
        bench.put(&format!("k{n:03}"), &"v".repeat(20_000)).await;
    }
    let blobs: Streaming<Headed<SnapshotBody>> = bench
        .stream("/etcdserverpb.Maintenance/Snapshot", Empty {})
        .await
        .unwrap();
    drop(blobs);
    bench.front.tasks.close();
    tokio::time::timeout(SOON, bench.front.tasks.wait())
        .await
        .expect("the writer ends");
}

#[tokio::test]
async fn an_archive_that_breaks_off_is_a_failure_and_a_whole_one_ends_in_order() {
    use futures::StreamExt;
    let bench = Bench::new().await;
    let blob = |last| archive::Blob {
        bytes: bytes("x"),
        last,
    };
    for whole in [false, true] {
        let (blobs, received) = mpsc::channel(2);
        blobs.send(Ok(blob(false))).await.unwrap();
        if whole {
            blobs.send(Ok(blob(true))).await.unwrap();
        }
        drop(blobs);
        let answers = super::super::maintenance::answers(bench.front.clone(), received, 9);
        let answers: Vec<_> = answers.collect().await;
        assert_eq!(answers.len(), 2);
        assert_eq!(answers[0].as_ref().unwrap().body.remaining_bytes, 8);
        match &answers[1] {
            Ok(last) => assert!(whole && last.body.remaining_bytes == 0),
            Err(fault) => assert!(!whole && fault.code() == Code::Unavailable, "{fault}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_snapshots_are_sent_at_once() {
    let bench = Bench::new().await;
    let all = super::super::front::SNAPSHOTS as u32;
    let snapshots = bench.front.snapshots.clone();
    let others = snapshots.try_acquire_many_owned(all).unwrap();
    let first = async || {
        let mut blobs: Streaming<Headed<SnapshotBody>> = bench
            .stream("/etcdserverpb.Maintenance/Snapshot", Empty {})
            .await?;
        blobs.message().await
    };
    let refused = first().await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "etcdserver: too many requests")
    );
    drop(others);
    assert!(first().await.unwrap().is_some());
}

#[tokio::test]
async fn the_list_of_members_has_where_clients_reach_each() {
    let options = Options {
        client_url: "https://127.0.0.1:6490".into(),
        ..Options::default()
    };
    let bench = Bench::of(MemStore::new(), options).await;
    bench.backend.members.lock().unwrap().push(MemberStatus {
        id: 2,
        ..MemberStatus::default()
    });
    let urls = || async {
        let request = MemberListRequest { linearizable: true };
        let list: Headed<MembersBody> = bench
            .call("/etcdserverpb.Cluster/MemberList", request)
            .await
            .unwrap();
        let urls = list.body.members.into_iter();
        urls.map(|member| member.client_urls).collect::<Vec<_>>()
    };
    let own = "https://127.0.0.1:6490".to_string();
    assert_eq!(urls().await, [vec![own.clone()], vec![]]);
    let other = "https://10.0.0.2:6490".to_string();
    let published = BTreeMap::from([(2, other.clone())]);
    *bench.backend.urls.lock().unwrap() = published;
    assert_eq!(urls().await, [vec![own], vec![other]]);
}

#[tokio::test]
async fn members_are_added_as_learners_promoted_moved_and_removed_with_etcds_words() {
    let bench = Bench::new().await;
    let add = |url: &str, is_learner| {
        let request = MemberAddRequest {
            peer_urls: vec![url.into()],
            is_learner,
        };
        bench.call::<_, Headed<MemberAddBody>>("/etcdserverpb.Cluster/MemberAdd", request)
    };
    let words = |status: Status| (status.code(), status.message().to_string());
    let added = add("https://10.0.0.2:2380", false).await.unwrap().body;
    let member = added.member.unwrap();
    assert!(member.is_learner && member.name.is_empty());
    assert_eq!(member.peer_urls, ["https://10.0.0.2:2380"]);
    assert_eq!(added.members.len(), 2);
    let cases = [
        (
            "https://10.0.0.2:2380",
            Code::FailedPrecondition,
            "etcdserver: Peer URLs already exists",
        ),
        (
            "https://10.0.0.3:2380",
            Code::FailedPrecondition,
            "etcdserver: too many learner members in cluster",
        ),
        (
            "ftp://x",
            Code::InvalidArgument,
            "etcdserver: given member URLs are invalid",
        ),
    ];
    for (url, code, text) in cases {
        let refused = words(add(url, true).await.unwrap_err());
        assert_eq!(refused, (code, text.to_string()));
    }
    let id = member.id;
    let of = |path, id| bench.call::<_, Headed<MembersBody>>(path, MemberId { id });
    let promoted = of("/etcdserverpb.Cluster/MemberPromote", id).await.unwrap();
    assert!(
        promoted
            .body
            .members
            .iter()
            .all(|member| !member.is_learner)
    );
    let again = of("/etcdserverpb.Cluster/MemberPromote", id).await;
    assert_eq!(
        words(again.unwrap_err()).1,
        "etcdserver: can only promote a learner member"
    );
    let update = MemberUpdateRequest {
        id,
        peer_urls: vec!["https://10.0.0.9:2380".into()],
    };
    let updated: Headed<MembersBody> = bench
        .call("/etcdserverpb.Cluster/MemberUpdate", update)
        .await
        .unwrap();
    assert_eq!(updated.body.members[1].peer_urls, ["https://10.0.0.9:2380"]);
    let removed = of("/etcdserverpb.Cluster/MemberRemove", id).await.unwrap();
    assert_eq!(removed.body.members.len(), 1);
    for path in [
        "/etcdserverpb.Cluster/MemberRemove",
        "/etcdserverpb.Cluster/MemberPromote",
    ] {
        let gone = words(of(path, id).await.unwrap_err());
        assert_eq!(
            gone,
            (Code::NotFound, "etcdserver: member not found".to_string())
        );
    }
}

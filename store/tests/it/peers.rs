//! Connections between members.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::time::Duration;

use kv::{ResponseBody, Store};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use rustls::pki_types::ServerName;
use store::disk::log_id;
use store::env::{ByteStream, Network, Tcp};
use store::peer::tls::Tls;
use store::peer::wire::{
    Answer, Call, Connection, Hello, Lane, Refusal, Request, Response, Welcome,
};
use store::raft::types::{Entry, Membership, PeerNode, Vote};
use store::{Limits, TlsIdentity};
use tokio_rustls::TlsConnector;

use crate::harness::{
    AUTHORITY, Authority, CLUSTER, Cluster, DEADLINE, eventually, get, put, put_request,
};

/// Comes in at member 1 as another one, which shows this directory.
async fn come(cluster: &Cluster, lane: Lane, from: u64, incarnation: u64) -> (Connection, Welcome) {
    let address = cluster.wires.address("m1");
    let tls = Tls::new(&AUTHORITY.identity(CLUSTER, from), CLUSTER, from).unwrap();
    let stream = Tcp.dial(address).await.unwrap();
    let connector = TlsConnector::from(tls.client(1).unwrap());
    let name = ServerName::try_from("member.kontiki.internal").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    let mut connection = Connection::new(Box::new(stream) as Box<dyn ByteStream>);
    let hello = Hello {
        cluster_id: CLUSTER,
        from,
        to: 1,
        lane,
        incarnation,
        to_incarnation: 0,
        // Added by a change that the other does not know yet.
        membership: Some(log_id(99, 99)),
    };
    connection.writer.message(&hello).await.unwrap();
    let welcome = connection.reader.message(DEADLINE).await.unwrap();
    (connection, welcome)
}

/// A member that connects and then says nothing any more, as one does whose machine was switched off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_sign_of_life_is_closed() {
    let limits = Limits {
        peer_silence: Duration::from_secs(1),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    for lane in [Lane::Raft, Lane::Client, Lane::Append] {
        let (mut connection, welcome) = come(&cluster, lane, 9, 99).await;
        assert!(matches!(welcome, Welcome::Accepted { .. }), "{welcome:?}");
        let closed = tokio::time::timeout(DEADLINE, connection.reader.frame()).await;
        assert!(closed.expect("it is closed").is_err());
    }
}

/// More than fits a frame, and other calls on the same connection meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_any_size_reaches_the_member_that_asked() {
    let limits = Limits {
        request_deadline: Duration::from_secs(60),
        ..Limits::default()
    };
    let cluster = Cluster::start(3, limits).await;
    let node = cluster.node(cluster.follower().await).clone();
    let value = "x".repeat(1 << 20);
    put(&node, "big", &value).await;
    let mut request = put_request("small", "written", 0);
    for _ in 0..100 {
        let range = kv::RangeRequest {
            key: "big".into(),
            ..Default::default()
        };
        request.success.push(kv::RequestOp {
            request: Some(kv::Request::Range(range)),
        });
    }
    let others = {
        let node = node.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                let put = node.txn(put_request("other", &n.to_string(), 0)).await;
                assert!(put.is_ok(), "{put:?}");
            }
        })
    };
    let answer = node.txn(request).await.unwrap();
    others.await.unwrap();
    assert_eq!(answer.body.responses.len(), 101);
    for response in &answer.body.responses[1..] {
        let Some(ResponseBody::Range(range)) = &response.response else {
            panic!("not a range")
        };
        assert_eq!(range.kvs[0].value, value.as_bytes());
    }
    assert_eq!(get(&node, "small").await.as_deref(), Some("written"));
}

/// Who votes, and from which directory, holds from when it stands in the log: before it is committed, and so applied. Of
/// three founders this one alone runs, so nothing is ever committed; the test is the other two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_judged_by_the_newest_membership_in_the_log_applied_or_not() {
    let mut cluster = Cluster::of(3, Limits::default());
    let node = cluster.run(1).await.unwrap();
    let (mut leader, welcome) = come(&cluster, Lane::Raft, 2, 22).await;
    assert!(matches!(welcome, Welcome::Accepted { .. }), "{welcome:?}");
    let member = |(id, incarnation)| {
        let node = PeerNode {
            peer_address: format!("m{id}"),
            incarnation,
            ..PeerNode::default()
        };
        (id, node)
    };
    let members: BTreeMap<u64, PeerNode> = [(1, 0), (2, 22), (3, 33)].map(member).into();
    let voters = BTreeSet::from([1, 2, 3]);
    let membership = Membership::new(vec![voters], members).unwrap();
    let append = AppendEntriesRequest {
        vote: Vote::new_committed(5, 2),
        prev_log_id: None,
        entries: vec![Entry::new(
            log_id(5, 0),
            EntryPayload::Membership(membership),
        )],
        leader_commit: None,
    };
    let call = Call {
        id: 1,
        request: Request::Append(append),
    };
    leader.writer.message(&call).await.unwrap();
    let answer: Answer = leader.reader.message(DEADLINE).await.unwrap();
    let Response::Append(appended) = answer.response else {
        panic!("{answer:?}")
    };
    assert!(appended.is_success(), "{appended:?}");
    eventually("the membership", || async {
        (node.members().len() == 3).then_some(())
    })
    .await;
    assert_eq!(node.status().raft_applied_index, 0, "nothing is applied");

    let (_, welcome) = come(&cluster, Lane::Raft, 3, 44).await;
    let Welcome::Refused(refusal) = welcome else {
        panic!("another directory of member 3 is let in")
    };
    let other = Refusal::OtherDirectory {
        member: 3,
        known: 33,
        shown: 44,
    };
    assert_eq!(refusal, other);
    let (_, welcome) = come(&cluster, Lane::Raft, 3, 33).await;
    assert!(matches!(welcome, Welcome::Accepted { .. }), "{welcome:?}");
}

/// A metric's value for a member; nothing where it has none yet. All members of this test count in the same process.
fn counted(name: &str, member: u64) -> Option<f64> {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == name)?;
    let of_member = family.get_metric().iter().find(|metric| {
        let labels = metric.get_label();
        labels
            .iter()
            .any(|label| label.value() == format!("{member:x}"))
    })?;
    let value = match family.get_field_type() {
        prometheus::proto::MetricType::HISTOGRAM => {
            of_member.get_histogram().get_sample_count() as f64
        }
        _ => of_member.get_counter().get_value(),
    };
    Some(value).filter(|value| *value > 0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_each_member_is_measured_and_its_traffic_counted() {
    let cluster = Cluster::start(3, Limits::default()).await;
    for metric in [
        "peer_round_trip_time_seconds",
        "peer_sent_bytes_total",
        "peer_received_bytes_total",
    ] {
        let name = format!("etcd_network_{metric}");
        for member in 1..=3 {
            eventually(&name, || ready(counted(&name, member))).await;
        }
    }
    let failures = "etcd_network_peer_sent_failures_total";
    cluster.wires.cut("m3");
    eventually(failures, || ready(counted(failures, 3))).await;
}

/// All members trust a second authority first, then show certificates of it, then trust the first one no more; clients write
/// meanwhile. At each step connections are made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_their_authority_are_replaced_under_writes() {
    let cluster = Cluster::start(3, Limits::default()).await;
    let second = Authority::new();
    let both = [AUTHORITY.pem(), second.pem()].concat();
    let steps = [
        (both.as_str(), &*AUTHORITY),
        (both.as_str(), &second),
        (second.pem(), &second),
    ];
    for (number, (trusted, issuer)) in steps.into_iter().enumerate() {
        for (id, node) in &cluster.nodes {
            let identity = TlsIdentity {
                ca_pem: trusted.as_bytes().to_vec(),
                ..issuer.identity(CLUSTER, *id)
            };
            node.replace_tls(&identity).unwrap();
            put(node, "step", &number.to_string()).await;
        }
        for id in 1..=3 {
            let name = format!("m{id}");
            cluster.wires.cut(&name);
            cluster.wires.mend(&name);
            let node = cluster.node(id);
            put(node, &name, &number.to_string()).await;
            assert_eq!(get(node, &name).await, Some(number.to_string()));
        }
    }
    let node = cluster.node(1);
    let broken = TlsIdentity {
        cert_pem: b"nothing".to_vec(),
        ..second.identity(CLUSTER, 1)
    };
    assert!(node.replace_tls(&broken).is_err());
    let of_another = second.identity(CLUSTER, 2);
    assert!(node.replace_tls(&of_another).is_err());
    put(node, "step", "last").await;
    // Nobody of the first authority is let in any more.
    let tls = Tls::new(&AUTHORITY.identity(CLUSTER, 9), CLUSTER, 9).unwrap();
    let stream = Tcp.dial(cluster.wires.address("m1")).await.unwrap();
    let name = ServerName::try_from("member.kontiki.internal").unwrap();
    let connector = TlsConnector::from(tls.client(1).unwrap());
    assert!(connector.connect(name, stream).await.is_err());
}

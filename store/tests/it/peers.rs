//! Connections between members.

use std::time::Duration;

use kv::{ResponseBody, Store};
use rustls::pki_types::ServerName;
use store::Limits;
use store::disk::log_id;
use store::env::{ByteStream, Network, Tcp};
use store::peer::tls::Tls;
use store::peer::wire::{Connection, Hello, Lane, Welcome};
use tokio_rustls::TlsConnector;

use crate::harness::{AUTHORITY, CLUSTER, Cluster, DEADLINE, get, put, put_request};

/// A member that connects and then says nothing any more, as one does whose machine was switched off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_sign_of_life_is_closed() {
    let limits = Limits {
        peer_silence: Duration::from_secs(1),
        ..Limits::default()
    };
    let cluster = Cluster::start(1, limits).await;
    let address = cluster.wires.address("m1");
    let tls = Tls::new(&AUTHORITY.identity(CLUSTER, 9), CLUSTER, 9).unwrap();
    for lane in [Lane::Raft, Lane::Client, Lane::Append] {
        let stream = Tcp.dial(address.clone()).await.unwrap();
        let connector = TlsConnector::from(tls.client(1).unwrap());
        let name = ServerName::try_from("member.kontiki.internal").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let mut connection = Connection::new(Box::new(stream) as Box<dyn ByteStream>);
        let hello = Hello {
            cluster_id: CLUSTER,
            from: 9,
            to: 1,
            lane,
            incarnation: 99,
            to_incarnation: 0,
            // Added by a change that the other does not know yet.
            membership: Some(log_id(99, 99)),
        };
        connection.writer.message(&hello).await.unwrap();
        let welcome: Welcome = connection.reader.message(DEADLINE).await.unwrap();
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

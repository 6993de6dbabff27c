//! Measurements of what a member costs, run by hand:
//! `cargo nextest run -p store --run-ignored only -E 'test(measure::)' --no-capture`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use kv::{Catalog, KeyRange, KeyValue, Store};
use prost::Message;
use tower::{Service, ServiceExt};

use crate::etcd_front::Fronts;
use crate::harness::all;

/// Of this process, now.
pub(crate) fn resident_bytes() -> u64 {
    status("VmRSS:")
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() << 10
}

#[test]
#[ignore = "a measurement"]
fn a_million_keys_are_counted() {
    const KEYS: u64 = 1_000_000;
    let mixed = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let before = resident_bytes();
    let mut catalog = Catalog::new();
    let start = Instant::now();
    for n in 0..KEYS {
        let key = format!("{:016x}{:016x}{:038x}", mixed(n), mixed(!n), mixed(n + 7));
        catalog.load_key(&KeyValue {
            key: key.into(),
            ..KeyValue::default()
        });
    }
    let load = start.elapsed() / KEYS as u32;
    let each = (resident_bytes() - before) / KEYS;
    let range = KeyRange::Span {
        start: Bytes::from_static(b"1"),
        end: Bytes::from_static(b"e"),
    };
    let start = Instant::now();
    let mut keys = 0;
    for _ in 0..10_000 {
        keys = catalog.count(std::hint::black_box(&range));
    }
    let count = start.elapsed() / 10_000;
    eprintln!("{each} bytes a key are resident, load {load:?} each, count {keys} in {count:?}");
    assert!(keys > 0 && count.as_micros() < 100);
}

fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Server and clients are one process; the clients let go of what they read at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn ten_clients_list_a_hundred_thousand_pairs() {
    const CLIENTS: usize = 10;
    let fronts = Fronts::start(1).await;
    let node = fronts.cluster.node(1).clone();
    for from in (0..100_000).step_by(100) {
        let put = |n: usize| {
            // Half of it can be compressed.
            let mut value = vec![b'v'; 1024];
            value[..512].fill_with(rand::random);
            let put = kv::PutRequest {
                key: format!("/registry/pods/{n:06}").into(),
                value: value.into(),
                ..Default::default()
            };
            kv::RequestOp {
                request: Some(kv::Request::Put(put)),
            }
        };
        let txn = kv::TxnRequest {
            success: (from..from + 100).map(put).collect(),
            ..Default::default()
        };
        node.txn(txn).await.unwrap();
    }
    let request = all().encode_to_vec();
    let framed = [&[0, 0, 0, 0, request.len() as u8], &request[..]].concat();
    let framed = Bytes::from(framed);
    let list = |mut channel: tonic::transport::Channel, framed: Bytes| async move {
        let call = http::Request::post("https://etcd/etcdserverpb.KV/Range")
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(http_body_util::Full::new(framed)))
            .unwrap();
        let answer = channel.ready().await.unwrap().call(call).await.unwrap();
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        bytes
    };
    for round in 0..3 {
        let mut channels = Vec::new();
        for _ in 0..CLIENTS {
            channels.push(fronts.channel(1).await);
        }
        reset_peak();
        let before = resident_bytes();
        let start = Instant::now();
        let lists: Vec<_> = channels
            .into_iter()
            .map(|channel| tokio::spawn(list(channel, framed.clone())))
            .collect();
        let mut bytes = 0;
        for list in lists {
            bytes += list.await.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        let peak = status("VmHWM:");
        assert!(bytes > CLIENTS * 100_000 * 1024);
        eprintln!(
            "round {round}: {} MiB more at the peak, {:.0} MB/s",
            peak.saturating_sub(before) >> 20,
            bytes as f64 / seconds / 1e6
        );
    }
    // As it was: each answer is collected, then encoded.
    reset_peak();
    let before = resident_bytes();
    let start = Instant::now();
    let collected: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let node: Arc<store::Node> = node.clone();
            tokio::spawn(async move {
                let answer = node.range(all()).await.unwrap();
                (answer.body.encode_to_vec().len(), answer)
            })
        })
        .collect();
    let mut bytes = 0;
    for list in collected {
        bytes += list.await.unwrap().0;
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "collected and encoded, not sent: {} MiB more at the peak, {:.0} MB/s",
        status("VmHWM:").saturating_sub(before) >> 20,
        bytes as f64 / seconds / 1e6
    );
}

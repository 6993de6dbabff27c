//! Measurements of what a member costs, run by hand:
//! `cargo nextest run -p store --run-ignored only -E 'test(measure::)' --no-capture`.

use std::time::Instant;

use bytes::Bytes;
use kv::{Catalog, KeyRange, KeyValue};

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
    assert!(keys > 0 && each <= 120 && count.as_micros() < 100);
}

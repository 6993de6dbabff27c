//! No room for the next segment.

use std::io;

use super::sim::Sim;
use super::{append, create, open};
use crate::env::LogDisk;

#[test]
fn a_full_disk_is_told_before_anything_is_half_written() {
    let sim = Sim::default();
    let log = create(&sim);
    sim.set_room(Some(sim.used() + 100));
    let mut written = 0;
    let error = loop {
        match log.write(&[append(1, written, 700)], true) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the segments must end some time");
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("no room"), "{error}");
    assert!(written > 2, "what was made before is used up first");
    assert!(log.write(&[append(1, written, 1)], true).is_err());
    drop(log);
    // Still full: everything is there, and nothing half made is in the way.
    let log = open(&sim).unwrap();
    assert_eq!(log.read(0..u64::MAX).unwrap().len() as u64, written);
    drop(log);
    let names: Vec<String> = sim.image().names.into_keys().collect();
    assert!(!names.iter().any(|name| name.ends_with("new")), "{names:?}");
    // With room again it goes on.
    sim.set_room(None);
    let log = open(&sim).unwrap();
    log.write(&[append(1, written, 700)], true).unwrap();
    drop(log);
    let log = open(&sim).unwrap();
    assert_eq!(log.read(0..u64::MAX).unwrap().len() as u64, written + 1);
}

/// Room for small segments, not for one of the size that is due.
#[test]
fn a_disk_with_little_room_gets_small_segments() {
    let sim = Sim::default();
    let log = create(&sim);
    let least = super::SMALL.first_bytes as usize;
    sim.set_room(Some(sim.used() + 3 * least));
    let mut written = 0;
    while log.write(&[append(1, written, 700)], true).is_ok() {
        written += 1;
    }
    // Three frames of 1024 bytes fit a segment with its header.
    assert_eq!(written, 4 * 3);
    drop(log);
    assert_eq!(
        open(&sim).unwrap().read(0..99).unwrap().len() as u64,
        written
    );
}

#[test]
fn a_disk_too_small_for_the_first_segment_is_told() {
    let sim = Sim::default();
    sim.set_room(Some(1000));
    let error = crate::wal::Wal::open_in(std::sync::Arc::new(sim), super::SMALL, true).err();
    assert_eq!(error.unwrap().kind(), io::ErrorKind::StorageFull);
}

//! Logs that were changed by something else than a crash.

use std::io;

use super::sim::{Image, Sim};
use super::{Said, Workload, append, create, open, said};
use crate::disk::log_id;
use crate::env::{LogDisk, LogOp};
use crate::raft::types::Vote;
use crate::wal::format::{self, SECTOR};
use crate::wal::{MARK, Names, segment_name};

/// Some segments and a bit of another, all acknowledged.
fn written() -> (Image, Said) {
    let sim = Sim::default();
    let log = create(&sim);
    log.write(&[LogOp::Vote(Vote::new(1, 1))], true).unwrap();
    for index in 0..12 {
        let committed = LogOp::Committed(Some(log_id(1, index)));
        log.write(&[append(1, index, 600), committed], true)
            .unwrap();
    }
    log.write(&[LogOp::Truncate { from: 11 }, append(2, 11, 9)], true)
        .unwrap();
    // Two frames in the last segment.
    let newest = [
        LogOp::Committed(Some(log_id(1, 11))),
        LogOp::Purge(log_id(1, 0)),
    ];
    for op in newest {
        log.write(&[op], true).unwrap();
    }
    drop(log);
    let said = said(&open(&sim).unwrap());
    assert_eq!((said.entries.len(), said.last), (11, Some(log_id(2, 11))));
    (sim.image(), said)
}

fn segments(image: &Image) -> Vec<String> {
    let names = image.names.keys();
    names
        .filter(|name| name.ends_with(".seg"))
        .cloned()
        .collect()
}

fn refusal(image: Image, what: &str) -> String {
    match open(&Sim::of(image)) {
        Ok(log) => panic!("{what} is taken: {:?}", log.found()),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
            error.to_string()
        }
    }
}

/// Refused, or it has changed nothing.
fn refused_or_whole(image: Image, whole: &Said, what: &str) -> bool {
    match open(&Sim::of(image)) {
        Ok(log) => {
            assert_eq!(&said(&log), whole, "{what}");
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
            true
        }
    }
}

/// As the first logs of this format had it.
fn set_mark(image: &mut Image, log: u64, sequence: u64) {
    *image.content(MARK) = format::encode_mark(log, sequence).to_vec();
}

/// Where the last frame of the last segment ends.
fn end(image: &Image) -> usize {
    let sim = Sim::of(image.clone());
    let log = open(&sim).unwrap();
    let tail = log.writer.lock().unwrap().tail.clone();
    tail.end as usize
}

#[test]
fn every_flipped_bit_of_what_was_written_is_refused() {
    let (image, whole) = written();
    let files = segments(&image);
    assert!(files.len() >= 3, "{files:?}");
    let last = files.last().unwrap().clone();
    let used = end(&image);
    for path in image.names.keys() {
        let bytes = image.clone().content(path).len();
        for byte in 0..bytes {
            let is_used = path == MARK || path.ends_with(".seg") && (*path != last || byte < used);
            // A segment that is not the last may have room that no frame took.
            for bit in 0..if is_used { 8 } else { 1 } {
                let mut flipped = image.clone();
                flipped.content(path)[byte] ^= 1 << bit;
                let what = format!("bit {bit} of byte {byte} of {path}");
                let refused = refused_or_whole(flipped, &whole, &what);
                if *path == last {
                    assert_eq!(refused, byte < used, "{what}");
                } else if path == MARK {
                    // The mark of the write before is there still.
                    assert!(!refused, "{what}");
                }
            }
        }
    }
}

/// After a power cut the mark may be old. Then later frames, and later segments, tell damage from a torn end; only for
/// the very last frame there is none.
#[test]
fn damage_before_the_last_frame_is_refused_even_with_an_old_mark() {
    let (mut image, whole) = written();
    let (log, newest) = format::decode_marks(image.content(MARK)).unwrap();
    set_mark(&mut image, log, 1);
    let files = segments(&image);
    let mut frames = 0;
    for path in &files {
        for at in (SECTOR..image.clone().content(path).len()).step_by(SECTOR) {
            let sector = image.clone().content(path)[at..at + SECTOR].to_vec();
            if !sector.starts_with(b"KWFR") {
                continue;
            }
            frames += 1;
            let is_last = sector[24..32] == newest.to_be_bytes();
            for byte in 0..40 {
                let mut flipped = image.clone();
                flipped.content(path)[at + byte] ^= 1;
                match open(&Sim::of(flipped)) {
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
                    Ok(log) => {
                        assert!(is_last, "byte {byte} at {at} of {path}");
                        let without_purge = said(&log);
                        assert_eq!(without_purge.entries.len(), whole.entries.len() + 1);
                    }
                }
            }
        }
    }
    assert!(frames >= 12, "{frames}");
}

#[test]
fn every_lost_sector_and_page_is_refused() {
    let (image, whole) = written();
    let mut refused = 0;
    for path in segments(&image) {
        for size in [SECTOR, 2 * SECTOR, 4096] {
            let bytes = image.clone().content(&path).len();
            for at in (0..bytes).step_by(size) {
                for fill in [0, 0xff] {
                    let mut lost = image.clone();
                    lost.content(&path)[at..(at + size).min(bytes)].fill(fill);
                    let what = format!("{size} bytes at {at} of {path}");
                    refused += usize::from(refused_or_whole(lost, &whole, &what));
                }
            }
        }
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn a_shortened_or_longer_file_is_refused() {
    let (image, _) = written();
    for path in segments(&image).into_iter().chain([MARK.to_string()]) {
        let bytes = image.clone().content(&path).len();
        for length in (0..bytes)
            .step_by(if path == MARK { 1 } else { 100 })
            .chain([bytes + SECTOR])
            // The length of a mark of the first logs.
            .filter(|length| path != MARK || *length != 20)
        {
            let mut cut = image.clone();
            cut.content(&path).resize(length, 0);
            refusal(cut, &format!("{path} of {length} bytes"));
        }
    }
}

#[test]
fn a_missing_file_is_refused() {
    let (image, _) = written();
    let files = segments(&image);
    let missing = |path: &str| {
        let mut without = image.clone();
        without.names.remove(path).unwrap();
        refusal(without, path)
    };
    assert!(
        missing(&files[0]).contains("entries 1 to"),
        "{}",
        missing(&files[0])
    );
    assert!(
        missing(&files[1]).contains("are missing"),
        "{}",
        missing(&files[1])
    );
    assert!(missing(files.last().unwrap()).contains("its end is missing"));
    assert!(missing(MARK).contains("wal.mark is missing"));
    let mut empty = image.clone();
    empty.names.retain(|path, _| !files.contains(path));
    assert!(refusal(empty, "nothing").contains("the log is missing"));
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let (image, _) = written();
    let files = segments(&image);
    for from in &files {
        for to in files.iter().filter(|to| *to != from) {
            let mut copied = image.clone();
            *copied.content(to) = image.clone().content(from).clone();
            refusal(copied, &format!("{from} as {to}"));
        }
        let next = format!("wal/{}", segment_name(files.len() as u64 + 1));
        let mut copied = image.clone();
        copied.names.insert(next, image.names[from]);
        assert!(refusal(copied, "a copy as the next").contains("it is segment"));
    }
    let mut odd = image.clone();
    odd.names.insert("wal/7.seg".into(), image.names[&files[0]]);
    assert!(refusal(odd, "7.seg").contains("not a segment's name"));
}

#[test]
fn a_segment_or_mark_of_another_log_is_refused() {
    let ((image, _), (mut other, _)) = (written(), written());
    for path in segments(&image) {
        let mut mixed = image.clone();
        *mixed.content(&path) = other.content(&path).clone();
        assert!(refusal(mixed, &path).contains("it belongs to log"));
    }
    let mut mixed = image.clone();
    *mixed.content(MARK) = other.content(MARK).clone();
    refusal(mixed, "the mark of another log");
}

#[test]
fn an_old_copy_of_the_last_segment_is_refused() {
    let sim = Sim::default();
    let log = create(&sim);
    log.write(&[append(1, 0, 9)], true).unwrap();
    let mut old = sim.image();
    log.write(&[append(1, 1, 9)], true).unwrap();
    let mut image = sim.image();
    let path = segments(&image).pop().unwrap();
    *image.content(&path) = old.content(&path).clone();
    let text = refusal(image, "an old copy");
    assert!(text.contains("ends at write 1"), "{text}");
    assert!(text.contains("write 2 was acknowledged"), "{text}");
}

/// The kernel may write the mark's page out while a number is being written to it.
#[test]
fn half_a_mark_is_no_damage_and_two_halves_are() {
    let (mut image, whole) = written();
    let (_, newest) = format::decode_marks(image.content(MARK)).unwrap();
    let place = |sequence| format::mark_place(sequence) as usize;
    image.content(MARK)[place(newest) + 14..][..6].fill(0xee);
    assert_eq!(said(&open(&Sim::of(image.clone())).unwrap()), whole);
    // What the other one vouches for is still asked for.
    let mut cut = image.clone();
    let path = segments(&cut).pop().unwrap();
    cut.content(&path)[SECTOR..].fill(0);
    assert!(refusal(cut, "without its end").contains("its end is missing"));
    image.content(MARK)[place(newest + 1)..][..20].fill(0);
    assert!(refusal(image, "no mark").contains("wrong checksum"));
}

/// A process dies between the sync of a frame and the mark. The next one goes on from that frame, and so vouches for it.
#[test]
fn what_was_found_at_the_start_is_not_taken_for_a_torn_end_later() {
    let (mut image, whole) = written();
    let (log, newest) = format::decode_marks(image.content(MARK)).unwrap();
    set_mark(&mut image, log, newest - 1);
    let sim = Sim::of(image);
    assert_eq!(said(&open(&sim).unwrap()), whole);
    let mut harmed = sim.image();
    let last = end(&harmed) - SECTOR;
    let path = segments(&harmed).pop().unwrap();
    harmed.content(&path)[last + 40] ^= 1;
    assert!(refusal(harmed, "the last frame").contains("its end is missing"));
}

/// A file that is used again is full of the frames of its earlier life.
#[test]
fn frames_of_an_earlier_life_are_never_taken() {
    let mut work = Workload::new(11, 600);
    let sim = Sim::default();
    let log = create(&sim);
    for _ in 0..400 {
        let (ops, durable) = work.batch();
        log.write(&ops, durable).unwrap();
        if let Some(last) = work.model.0.last
            && work.model.0.entries.len() > 4
        {
            let purge = [LogOp::Purge(last)];
            log.write(&purge, true).unwrap();
            work.model.apply(&purge);
        }
        let found = said(&open(&Sim::of(sim.image())).unwrap());
        assert_eq!(found, work.model.0);
    }
    let names = Names {
        dir: "wal",
        mark: MARK,
    };
    let newest = segments(&sim.image()).pop().unwrap();
    assert!(newest > names.segment(20), "{newest} is not the twentieth");
}

/// What a client puts into a value is not taken for a frame.
#[test]
fn a_value_that_looks_like_a_frame_is_none() {
    let sim = Sim::default();
    let log = create(&sim);
    log.write(&[append(1, 0, 9)], true).unwrap();
    let mut image = sim.image();
    let path = segments(&image).pop().unwrap();
    // The frame of another log at the same place: right in everything but what the client cannot know.
    let other = Sim::default();
    let others = create(&other);
    others.write(&[append(1, 0, 9)], true).unwrap();
    others.write(&[append(1, 1, 9)], true).unwrap();
    let frame = other.image().content(&path)[2 * SECTOR..3 * SECTOR].to_vec();
    image.content(&path)[2 * SECTOR..3 * SECTOR].copy_from_slice(&frame);
    image.content(&path)[4 * SECTOR..5 * SECTOR].copy_from_slice(&frame);
    let log = open(&Sim::of(image)).unwrap();
    assert_eq!(log.found().last, Some(log_id(1, 0)));
}

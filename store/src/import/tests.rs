use proptest::prelude::*;

use super::*;
use crate::backup::{Part, read as read_archive};

impl Source for Vec<u8> {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let part = usize::try_from(at).ok().and_then(|at| self.get(at..));
        let part = part.and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn hashed(mut file: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&file);
    file.extend_from_slice(&digest);
    file
}

fn imported(file: &Vec<u8>) -> io::Result<(Imported, Vec<u8>)> {
    let mut out = Vec::new();
    import(file, file.len() as u64, &mut out).map(|imported| (imported, out))
}

fn name(main: i64, sub: i64, deleted: bool) -> Vec<u8> {
    let mut name = [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()].concat();
    name.extend(deleted.then_some(TOMBSTONE));
    name
}

fn put(key: &str, revision: i64, version: i64, lease: i64) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        value: format!("{key} at {revision}")
            .repeat(revision as usize * 20)
            .into(),
        create_revision: revision - version + 1,
        mod_revision: revision,
        version,
        lease,
    }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Puts of a, b and c, then a again, and the end of b: the changes as etcd stores them.
fn changes() -> Pairs {
    let puts = [
        (name(2, 0, false), put("a", 2, 1, 0)),
        (name(3, 0, false), put("b", 3, 1, 5)),
        (name(4, 0, false), put("a", 4, 2, 7)),
        (name(4, 1, false), put("c", 4, 1, 5)),
    ];
    let mut pairs: Pairs = puts
        .into_iter()
        .map(|(name, kv)| (name, kv.encode_to_vec()))
        .collect();
    let gone = KeyValue {
        key: "b".into(),
        ..KeyValue::default()
    };
    pairs.push((name(6, 0, true), gone.encode_to_vec()));
    pairs
}

fn etcd(inline: bool) -> Vec<u8> {
    let lease = EtcdLease { id: 5, ttl: 60 };
    let leases = vec![(5_i64.to_be_bytes().to_vec(), lease.encode_to_vec())];
    let meta = vec![
        (b"consistent_index".to_vec(), vec![0; 8]),
        (b"finishedCompactRev".to_vec(), name(3, 0, false)),
    ];
    let buckets = [
        ("alarm", Vec::new(), true),
        ("key", changes(), inline),
        ("lease", leases, true),
        ("meta", meta, true),
    ];
    bolt::build::file(&buckets, 2)
}

#[test]
fn what_is_live_is_taken_with_its_revisions_and_leases() {
    for inline in [false, true] {
        let (found, archive) = imported(&hashed(etcd(inline))).unwrap();
        let expected = Imported {
            revision: 6,
            compact_revision: 3,
            keys: 2,
            leases: 1,
            leaseless: 1,
        };
        assert_eq!(found, expected);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        std::fs::write(&path, archive).unwrap();
        let mut parts = Vec::new();
        let contents = read_archive(&path, &mut |part| {
            parts.push(part);
            Ok(())
        });
        let contents = contents.unwrap();
        assert_eq!((contents.revision, contents.compact_revision), (6, 3));
        let lease = kv::Lease {
            id: 5,
            ttl_seconds: 60,
            ..kv::Lease::default()
        };
        let a = KeyValue {
            // Lease 7 is no more.
            lease: 0,
            ..put("a", 4, 2, 7)
        };
        let wanted = [
            Part::Lease(lease),
            Part::Key(a),
            Part::Key(put("c", 4, 1, 5)),
        ];
        assert_eq!(parts, wanted);
    }
}

#[test]
fn an_empty_etcd_is_at_revision_one() {
    let file = hashed(bolt::build::file(&[("key", Vec::new(), true)], 2));
    let (found, _) = imported(&file).unwrap();
    assert_eq!((found.revision, found.keys), (1, 0));
}

/// etcd answers `compaction 0` with success, and stores it.
#[test]
fn a_compaction_of_nothing_is_none() {
    let meta = vec![(b"finishedCompactRev".to_vec(), name(0, 0, false))];
    let buckets = [("key", changes(), false), ("meta", meta, true)];
    let file = hashed(bolt::build::file(&buckets, 2));
    let (found, _) = imported(&file).unwrap();
    assert_eq!((found.revision, found.compact_revision), (6, 0));
    let meta = vec![(b"finishedCompactRev".to_vec(), b"?".to_vec())];
    let buckets = [("key", changes(), false), ("meta", meta, true)];
    let refused = imported(&hashed(bolt::build::file(&buckets, 2))).unwrap_err();
    assert!(refused.to_string().contains("a compaction has no revision"));
}

#[test]
fn a_meta_page_that_is_damaged_leaves_the_other_one() {
    let mut file = etcd(false);
    // Both copies say the same, then the first is damaged.
    file.copy_within(0..4096, 4096);
    file[20] ^= 1;
    assert_eq!(imported(&hashed(file.clone())).unwrap().0.keys, 2);
    file[4096 + 20] ^= 1;
    let refused = imported(&hashed(file)).unwrap_err().to_string();
    assert!(refused.contains("no meta page"), "{refused}");
}

#[test]
fn a_file_that_is_cut_or_changed_is_refused() {
    let whole = hashed(etcd(false));
    for length in [0, 31, 32, 511, 544, whole.len() - 512, whole.len() - 32] {
        assert!(imported(&whole[..length].to_vec()).is_err(), "{length}");
    }
    for place in (0..whole.len()).step_by(97) {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        assert!(imported(&changed).is_err(), "byte {place}");
    }
}

#[test]
fn a_tree_that_is_a_circle_ends() {
    let file = etcd(false);
    let branch = (0..file.len())
        .step_by(4096)
        .find(|at| *at > 8192 && file[at + 8] == 1);
    let branch = branch.unwrap();
    let id = file[branch..branch + 8].to_vec();
    let mut file = file;
    // Its last child is itself.
    let last = branch + 16 + 16 * 2 + 8;
    file[last..last + 8].copy_from_slice(&id);
    assert!(imported(&hashed(file)).is_err());
}

/// A leaf without pairs in a run of many pages, named again and again: it would be read each time.
#[test]
fn a_long_run_is_not_read_over_and_over() {
    struct Counting<'a>(&'a [u8], std::cell::Cell<usize>);
    impl Source for Counting<'_> {
        fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.1.set(self.1.get() + buffer.len());
            let at = usize::try_from(at).unwrap();
            buffer.copy_from_slice(&self.0[at..at + buffer.len()]);
            Ok(())
        }
    }
    const PAGES: usize = 200;
    let mut file = etcd(false);
    let branch = (0..file.len())
        .step_by(4096)
        .find(|at| *at > 8192 && file[at + 8] == 1);
    let branch = branch.unwrap();
    let run = file.len();
    file.resize(run + PAGES * 4096, 0);
    file[run..run + 8].copy_from_slice(&((run / 4096) as u64).to_le_bytes());
    file[run + 8] = 2;
    file[run + 12..run + 16].copy_from_slice(&(PAGES as u32 - 1).to_le_bytes());
    // All children of the branch are that run.
    let children = PAGES / 2;
    file[branch + 10..branch + 12].copy_from_slice(&(children as u16).to_le_bytes());
    for child in 0..children {
        let at = branch + 16 + child * 16 + 8;
        file[at..at + 8].copy_from_slice(&((run / 4096) as u64).to_le_bytes());
    }
    let file = hashed(file);
    let source = Counting(&file, Default::default());
    assert!(import(&source, file.len() as u64, &mut Vec::new()).is_err());
    let read = source.1.get();
    assert!(read < 6 * file.len(), "{read} of {}", file.len());
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_archive_that_cannot_be_written_is_an_error() {
    let file = hashed(etcd(false));
    let failed = import(&file, file.len() as u64, &mut Full).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_are_too_strange(blocks in prop::collection::vec(any::<[u8; 32]>(), 0..300)) {
        let mut file = blocks.concat();
        file.resize(file.len().next_multiple_of(512), 0);
        // Whatever comes of it, it ends.
        let _ = imported(&hashed(file));
    }

    #[test]
    fn no_change_of_a_file_whose_hash_fits_is_too_strange(
        inline: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in 0..4_usize,
    ) {
        let mut file = etcd(inline);
        // Where something stands: heads, elements and the first of the data.
        let places: Vec<usize> = (0..file.len()).filter(|at| at % 4096 < 200).collect();
        for (place, value) in changes {
            file[places[place.index(places.len())]] = value;
        }
        file.truncate(file.len() - cut * 4096);
        // The meta pages' checksums stand in the way of what lies behind them.
        let _ = imported(&hashed(file));
    }
}

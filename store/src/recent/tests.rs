use kv::{Catalog, Joined};

use super::kinds::{SAMPLE, WORTH_MAX};
use super::*;

fn kv(key: &str, mod_revision: i64, value_bytes: usize) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: 2,
        mod_revision,
        version: 3,
        value: vec![7; value_bytes].into(),
        lease: 4,
    }
}

fn put(key: &str, mod_revision: i64, value_bytes: usize) -> Write {
    Write::Put(kv(key, mod_revision, value_bytes))
}

fn bytes(recent: &Recent) -> [usize; 3] {
    std::array::from_fn(|place| recent.shelves[place].bytes)
}

fn pod_key(n: usize) -> String {
    format!("/registry/pods/default/pod-{n:05}")
}

/// A pod of one template, in the given version.
fn pod(n: usize, version: i64) -> KeyValue {
    let filler = "\"same\":\"for all of them\",".repeat(80);
    let value = format!("{{\"name\":\"pod-{n:05}\",{filler}\"version\":\"{version}\"}}");
    KeyValue {
        key: pod_key(n).into(),
        create_revision: n as i64,
        mod_revision: n as i64 + version,
        version,
        value: value.into(),
        lease: 0,
    }
}

fn put_pod(recent: &mut Recent, n: usize, version: i64) {
    recent.absorb(&[Write::Put(pod(n, version))]);
}

fn get_pod(recent: &Recent, n: usize) -> Option<KeyValue> {
    recent.get(pod_key(n).as_bytes())
}

#[test]
fn what_is_held_is_what_was_written_last() {
    let mut recent = Recent::default();
    recent.absorb(&[put("a", 5, 10), put("b", 5, 10), put("a", 6, 20)]);
    assert_eq!(recent.get(b"a"), Some(kv("a", 6, 20)));
    assert_eq!(recent.get(b"b"), Some(kv("b", 5, 10)));
    recent.absorb(&[Write::Delete("a".into()), put("b", 7, PAIR_BYTES)]);
    assert_eq!(recent.get(b"a"), None);
    assert_eq!(recent.get(b"b"), None, "too large");
    assert_eq!(bytes(&recent), [0, 0, 0]);
    let long = "k".repeat(PAIR_BYTES);
    recent.absorb(&[put(&long, 8, 1), put(&long, 9, 1)]);
    assert_eq!(recent.get(long.as_bytes()), None);
    assert!(recent.held.is_empty());
}

#[test]
fn of_keys_with_one_hash_the_last_is_held() {
    let mut recent = Recent::default();
    let hash = key_hash(b"b");
    recent.put(hash, &kv("a", 5, 10));
    // Nobody is given the value of another key.
    assert_eq!(recent.get(b"b"), None);
    recent.put(hash, &kv("b", 6, 20));
    assert_eq!(recent.get(b"b"), Some(kv("b", 6, 20)));
    recent.put(hash, &kv("a", 7, 10));
    assert_eq!(recent.get(b"b"), None);
    assert_eq!(bytes(&recent), [footprint(&kv("a", 7, 10)), 0, 0]);
}

#[test]
fn only_so_much_is_held() {
    let mut recent = Recent::default();
    let large = PAIR_BYTES / 2;
    for revision in 0..400 {
        recent.absorb(&[put(&revision.to_string(), revision, large)]);
        assert!(bytes(&recent)[FIRST] <= BYTES[FIRST]);
    }
    assert_eq!(recent.get(b"399"), Some(kv("399", 399, large)));
    assert_eq!(recent.get(b"0"), None, "too large to be packed");
    // One key that is written all the time pushes out others, and stays itself.
    for revision in 400..400 + 2 * WRITES[FIRST] as i64 {
        recent.absorb(&[put("one", revision, 1)]);
        assert!(recent.shelves[FIRST].turns.len() <= WRITES[FIRST]);
    }
    assert_eq!(recent.held.len(), 1);
    assert_eq!(bytes(&recent), [footprint(&kv("one", 0, 1)), 0, 0]);
    assert!(recent.get(b"one").is_some());
}

#[test]
fn what_is_written_again_and_again_is_not_pushed_out_by_what_comes_once() {
    let mut recent = Recent::default();
    let renewed = |key, mod_revision| KeyValue {
        version: VERSIONS + 1,
        ..kv(key, mod_revision, 100)
    };
    recent.absorb(&[put("lease", 1, 100)]);
    recent.absorb(&[Write::Put(renewed("lease", 2))]);
    assert_eq!(bytes(&recent), [0, footprint(&renewed("lease", 2)), 0]);
    for revision in 3..1000 {
        recent.absorb(&[put(&revision.to_string(), revision, PAIR_BYTES / 2)]);
    }
    assert_eq!(recent.get(b"lease"), Some(renewed("lease", 2)));
    // Made anew, it is a key like others.
    recent.absorb(&[Write::Delete("lease".into()), put("lease", 1001, 100)]);
    assert_eq!(recent.get(b"lease"), Some(kv("lease", 1001, 100)));
    assert_eq!(bytes(&recent)[OFTEN], 0);
}

#[test]
fn what_is_pushed_out_unread_waits_packed() {
    const PODS: usize = 10_000;
    let mut recent = Recent::default();
    // Some are read at once, which shows that it is worth to hold them.
    let is_early = |n: usize| n.is_multiple_of(4);
    for n in 0..PODS {
        put_pod(&mut recent, n, 1);
        if is_early(n) {
            assert_eq!(get_pod(&recent, n), Some(pod(n, 1)));
        }
        assert!(bytes(&recent)[FIRST] <= BYTES[FIRST]);
    }
    let packed = recent.held.values().filter(|held| held.shelf() == PACKED);
    let packed = packed.count();
    assert!(packed > PODS / 3, "{packed}");
    let taken = bytes(&recent)[PACKED] + recent.kinds.bytes();
    assert!(taken < packed * footprint(&pod(0, 1)) / 4, "{taken}");
    // All but the few against which others are packed.
    let (mut late, mut known) = (0, 0);
    for n in (0..PODS).filter(|n| !is_early(*n)) {
        late += 1;
        if let Some(pair) = get_pod(&recent, n) {
            assert_eq!(pair, pod(n, 1));
            known += 1;
        }
    }
    assert!(known > late - PODS / 100, "{known} of {late}");
    for n in 0..10 {
        put_pod(&mut recent, n, 2);
        assert_eq!(get_pod(&recent, n), Some(pod(n, 2)));
        recent.absorb(&[Write::Delete(pod_key(n + 1).into())]);
        assert_eq!(get_pod(&recent, n + 1), None);
    }
}

#[test]
fn of_a_kind_that_goes_unread_a_sample_is_held() {
    let mut recent = Recent::with_limits([16 << 10, 16 << 10, 1 << 20]);
    // Each is read in its second version, later than the first shelf reaches back, and not in its third.
    let mut hits = 0;
    for n in 0..10_000_usize {
        put_pod(&mut recent, n, 2);
        if let Some(before) = n.checked_sub(100) {
            hits += usize::from(get_pod(&recent, before).is_some());
            put_pod(&mut recent, before, 3);
        }
    }
    assert!(hits > 9_500, "{hits}");
    let worth = |version| recent.kinds.worth(kind_of(&pod(0, version)));
    assert!(worth(2) > WORTH_MAX / 2);
    assert_eq!(worth(3), 0);
    // How many of so many new ones are held, at first.
    let held_of = |recent: &mut Recent, version, pods: std::ops::Range<usize>| {
        let held = pods.filter(|n| {
            put_pod(recent, *n, version);
            recent.held.contains_key(&key_hash(pod_key(*n).as_bytes()))
        });
        held.count()
    };
    let sampled = 10 * SAMPLE as usize;
    assert_eq!(held_of(&mut recent, 3, 20_000..20_000 + sampled), 10);
    assert_eq!(held_of(&mut recent, 2, 30_000..30_000 + sampled), sampled);
    // Of what is not held any more nobody is given the value of before.
    let last = 30_000 + sampled - 1;
    for turn in 0..sampled {
        put_pod(&mut recent, last, 3);
        let known = get_pod(&recent, last);
        assert!(known.is_none_or(|kv| kv == pod(last, 3)), "{turn}");
    }
    // One was read: others may be.
    assert_eq!(held_of(&mut recent, 3, 40_000..40_005), 5);
}

#[test]
fn at_rest_little_is_held() {
    const PODS: usize = REST_AT_ONCE + 10_000;
    let mut recent = Recent::default();
    for n in 0..PODS {
        put_pod(&mut recent, n, 2);
        get_pod(&recent, n / 2);
    }
    let before = bytes(&recent);
    assert!(before[FIRST] > REST_BYTES && before[PACKED] > 0);
    recent.rest();
    let once = bytes(&recent);
    assert!(once[PACKED] > 0, "not all at once");
    assert!(once[PACKED] < before[PACKED]);
    recent.rest();
    let after = bytes(&recent);
    assert!(after[FIRST] <= REST_BYTES && after[FIRST] > REST_BYTES / 2);
    assert_eq!((after[PACKED], recent.kinds.bytes()), (0, 0));
    assert_eq!(recent.shelves[PACKED].turns.capacity(), 0);
    assert_eq!(get_pod(&recent, PODS - 1), Some(pod(PODS - 1, 2)));
    // What is written again and again stays.
    let lease = KeyValue {
        version: VERSIONS + 1,
        ..kv("lease", 1, 100)
    };
    recent.absorb(&[Write::Put(lease.clone())]);
    recent.rest();
    assert_eq!(recent.get(b"lease"), Some(lease));
}

#[test]
fn kinds_go_by_the_beginning_of_a_key_and_its_version() {
    let kind = |key: &str, version| {
        kind_of(&KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            version,
            ..KeyValue::default()
        })
    };
    let pods = kind("/registry/pods/a/b", 2);
    assert_eq!(pods, kind("/registry/pods/c/d/e", 2));
    assert_ne!(pods, kind("/registry/pods/a/b", 3));
    // One of them might have the same hash.
    let others = ["leases", "events", "nodes"];
    let mut others = others
        .map(|other| kind(&format!("/registry/{other}/a/b"), 2))
        .into_iter();
    assert!(others.any(|other| other != pods));
    assert_eq!(kind("a", 1), kind("b", 1));
    assert_eq!(kind("", VERSIONS + 1), kind("", VERSIONS + 100));
}

/// Values of which some are alike, and none is that of another write.
fn value_of(mod_revision: i64, size: usize) -> Bytes {
    let mut value = format!("{mod_revision:08}").into_bytes();
    value.resize(size, b'v');
    value.into()
}

proptest::proptest! {
    /// In whatever order keys come and go that share a hash, move from one shelf to another, and are let go of at rest.
    #[test]
    fn what_is_held_is_true_and_counted_on_its_shelf(
        limits in (2000..4000_usize, 2000..4000_usize, 1000..4000_usize),
        ops in proptest::collection::vec(
            (0..12_u8, 0..4_usize, proptest::option::weighted(0.9, 0..2 * VERSIONS)),
            1..200,
        ),
    ) {
        let mut recent = Recent::with_limits(limits.into());
        let mut state: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
        for (mod_revision, (key, size, version)) in (1..).zip(ops) {
            let hash = u64::from(key % 8);
            let name = key.to_string();
            match version {
                None => {
                    recent.remove(hash);
                    state.remove(name.as_bytes());
                }
                Some(0) => recent.rest(),
                Some(version) => {
                    // The last is too large to be held.
                    let size = [10, 600, 1000, PAIR_BYTES][size];
                    let kv = KeyValue {
                        version,
                        value: value_of(mod_revision, size),
                        ..kv(&name, mod_revision, 0)
                    };
                    recent.put(hash, &kv);
                    state.insert(kv.key.clone(), kv);
                }
            }
            let mut counted = [0; 3];
            let mut likes: BTreeMap<*const Bytes, usize> = recent.kinds.likes().collect();
            for held in recent.held.values() {
                let pair = held.pair();
                proptest::prop_assert_eq!(state.get(&held.kv.key), pair.as_ref());
                counted[held.shelf()] += footprint(&held.kv);
                likes.extend(held.packed_by.as_ref().map(PackedBy::like));
            }
            proptest::prop_assert_eq!(bytes(&recent), counted);
            proptest::prop_assert_eq!(recent.kinds.bytes(), likes.values().sum::<usize>());
        }
    }
}

/// Says that nothing can be read.
struct Unreadable;

impl Data for Unreadable {
    fn get(&self, _: &[u8]) -> Result<Option<KeyValue>, Broken> {
        Err(Broken("read".into()))
    }

    fn scan(&self, _: &KeyRange, _: Visit<'_>) -> Result<(), Broken> {
        Err(Broken("scanned".into()))
    }

    fn event(&self, _: EventId) -> Result<Event, Broken> {
        Err(Broken("an event was read".into()))
    }
}

#[test]
fn what_is_held_is_not_read() {
    let mut recent = Recent::default();
    recent.absorb(&[put("a", 5, 10)]);
    let fronted = Fronted {
        recent: &recent,
        data: &Unreadable,
    };
    let mut catalog = Catalog::new();
    for key in ["a", "b"] {
        catalog.load_key(&kv(key, 5, 10));
    }
    let joined = Joined {
        catalog: &catalog,
        data: &fronted,
    };
    assert_eq!(joined.get(b"a"), Ok(Some(kv("a", 5, 10))));
    assert!(joined.get(b"b").is_err());
    assert_eq!(joined.get(b"c"), Ok(None));
}

use proptest::prelude::*;

use super::*;

fn change(revision: i64) -> Change {
    Change::new(EventId { revision, sub: 0 }, revision > 2, true)
}

fn after(history: &History, revision: i64) -> Vec<(i64, bool)> {
    let changed = history.changed_after(&KeyRange::all(), revision);
    let changed = changed.iter();
    changed
        .map(|(_, first, _)| (first.id().revision, first.before))
        .collect()
}

#[test]
fn a_key_is_known_by_its_first_change_after_a_revision() {
    let mut history = History::default();
    for (key, revision) in [("a", 2), ("b", 3), ("a", 5), ("a", 9)] {
        history.push(key.as_bytes(), change(revision));
    }
    assert_eq!(history.len(), 4);
    assert_eq!(after(&history, 1), [(2, false), (3, true)]);
    assert_eq!(after(&history, 2), [(5, true), (3, true)]);
    assert_eq!(after(&history, 5), [(9, true)]);
    assert_eq!(after(&history, 9), []);
    history.compact(5);
    assert_eq!(after(&history, 1), [(5, true)]);
    history.compact(9);
    assert_eq!((after(&history, 1), history.len()), (vec![(9, true)], 1));
    history.push(b"a", change(12));
    assert_eq!(after(&history, 9), [(12, true)]);
    history.compact(13);
    assert_eq!(history.len(), 0);
}

#[test]
fn what_was_noted_in_parts_is_the_same() {
    let changes = [("a", 2), ("b", 3), ("a", 5), ("c", 7), ("a", 9), ("b", 9)];
    let noted = |changes: &[(&str, i64)]| {
        let mut history = History::default();
        for (key, revision) in changes {
            history.push(key.as_bytes(), change(*revision));
        }
        history
    };
    let whole = noted(&changes[..]);
    for cut in 0..=changes.len() {
        let mut history = noted(&changes[..cut]);
        history.append(noted(&changes[cut..]));
        assert_eq!(history.len(), whole.len());
        for revision in 0..10 {
            let (found, expected) = (after(&history, revision), after(&whole, revision));
            assert_eq!(found, expected, "{cut} {revision}");
        }
    }
}

/// There is one for each key that lives.
#[test]
fn the_changes_of_a_key_take_little_room() {
    const KEYS: i64 = 20_000;
    // Pods as the API server names them, in no order: made, bound, and running.
    let mixed = |n: i64| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    let mut history = History::default();
    for turn in 0..3 {
        for n in 0..KEYS {
            let key = format!(
                "/registry/pods/default/app-{}-5d8f7b9c-{:05x}",
                n % 20,
                mixed(n)
            );
            history.push(key.as_bytes(), change(100_000 + turn * KEYS + n));
        }
    }
    let each = history.memory_bytes() / KEYS as usize;
    assert!(each < 60, "{each} bytes a key");
    history.compact(100_000 + 3 * KEYS);
    assert_eq!(history.len(), 0);
    assert!(history.memory_bytes() < 200);
}

proptest! {
    #[test]
    fn what_is_noted_comes_back(
        changes in prop::collection::vec((0..3_usize, prop_oneof![0..3_i64, 0..1_i64 << 40], any::<u32>(), any::<(bool, bool)>()), 0..60),
        compacted in prop::collection::vec(0..60_usize, 0..3),
    ) {
        let keys: [&[u8]; 3] = [b"a", b"b", b"c"];
        let mut history = History::default();
        let mut model: [Vec<Change>; 3] = Default::default();
        let mut revision = 0;
        for (turn, (key, step, sub, (before, after))) in changes.into_iter().enumerate() {
            if compacted.contains(&turn) {
                let upto = revision - revision / 3;
                history.compact(upto);
                model.iter_mut().for_each(|all| all.retain(|one| one.revision >= upto));
            }
            revision += step;
            let change = Change::new(EventId { revision, sub }, before, after);
            history.push(keys[key], change);
            model[key].push(change);
            for asked in [0, revision / 2, revision - 1, revision] {
                let expected = keys.iter().zip(&model).filter_map(|(&key, all)| {
                    let first = all.iter().find(|one| one.revision > asked)?;
                    Some((Bytes::from_static(key), *first, all.last()?.after))
                });
                let expected: Vec<_> = expected.collect();
                prop_assert_eq!(history.changed_after(&KeyRange::all(), asked), expected);
            }
            prop_assert_eq!(history.len(), model.iter().map(Vec::len).sum::<usize>());
        }
    }

    /// So many keys that leaves are split and joined.
    #[test]
    fn many_keys_are_as_in_a_plain_map(
        changes in prop::collection::vec((0..600_u16, any::<(bool, bool)>()), 1..1500),
        compacted in prop::collection::vec((0..1500_usize, 0..600_i64), 0..4),
        ranges in prop::collection::vec((0..600_u16, 0..600_u16), 6),
        cut in 0..1500_usize,
    ) {
        // Of several lengths, some of which are prefixes of others.
        let key = |n: u16| Bytes::from(match n % 3 {
            0 => format!("/registry/pods/{:03}", n / 3),
            1 => format!("/registry/pods/{:03}/status", n / 3),
            _ => format!("{:03}", n / 3),
        });
        let (mut history, mut parts) = (History::default(), [History::default(), History::default()]);
        let mut model: BTreeMap<Bytes, Vec<Change>> = BTreeMap::new();
        let mut revision = 1_i64;
        for (turn, (n, (before, after))) in changes.into_iter().enumerate() {
            revision += 1;
            if let Some((_, back)) = compacted.iter().find(|(at, _)| *at == turn) {
                let upto = revision - *back;
                history.compact(upto);
                parts.iter_mut().for_each(|part| part.compact(upto));
                model.retain(|_, all| {
                    all.retain(|one| one.revision >= upto);
                    !all.is_empty()
                });
            }
            let change = Change::new(EventId { revision, sub: 0 }, before, after);
            history.push(&key(n), change);
            parts[usize::from(turn >= cut)].push(&key(n), change);
            model.entry(key(n)).or_default().push(change);
        }
        let [mut whole, later] = parts;
        whole.append(later);
        let noted = model.values().map(Vec::len).sum::<usize>();
        prop_assert_eq!((history.len(), whole.len()), (noted, noted));
        for (from, to) in ranges {
            let (start, end) = (key(from), key(to));
            let span = KeyRange::Span { start: start.clone(), end };
            for range in [KeyRange::One(start.clone()), span, KeyRange::From(start)] {
                for asked in [0, revision / 2, revision - 1] {
                    let inside = model.iter().filter(|(key, _)| range.contains(key));
                    let expected = inside.filter_map(|(key, all)| {
                        let first = all.iter().find(|one| one.revision > asked)?;
                        Some((key.clone(), *first, all.last()?.after))
                    });
                    let expected: Vec<_> = expected.collect();
                    prop_assert_eq!(&history.changed_after(&range, asked), &expected);
                    prop_assert_eq!(whole.changed_after(&range, asked), expected);
                }
            }
        }
    }
}

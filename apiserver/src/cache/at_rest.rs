//! Packs what a cache holds of some time ago: objects that nobody has changed since, and the states that changes in the ring
//! have replaced. Nobody sees a difference: entries and changes do not change, others that say the same take their places.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::{Cache, Change};
use crate::entry::Entry;
use crate::packed::Packer;
use crate::tree::Tree;

/// A cache with fewer bytes is left as it is.
const PACKED_BYTES_MIN: usize = 1 << 20;
/// Objects that are looked at in one step, and bytes that are packed in it: some milliseconds.
const PACKED_AT_ONCE: usize = 256;
pub(super) const PACKED_BYTES_AT_ONCE: usize = 2 << 20;
/// A replaced state of fewer bytes is not worth it: leases are renewed for ever, and leave the ring soon.
const REPLACED_BYTES_MIN: usize = 1 << 10;
/// In a cache with fewer bytes of objects, these stay as they are for lists, which are faster so, until their changes are
/// forgotten.
const OBJECTS_BYTES_MIN: usize = 8 << 20;
/// Changes are packed as many looks after they were seen. A ring in which much comes has dropped them by then.
const LOOKS: usize = 4;

/// How far a cache was at each of the latest looks, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Looks([i64; LOOKS]);

impl Looks {
    /// Takes note of one more; answers the oldest.
    fn look(&mut self, now: i64) -> i64 {
        let oldest = self.0[0];
        self.0.rotate_left(1);
        self.0[LOOKS - 1] = now;
        oldest
    }
}

/// How far what a cache holds is packed. Either is none when it is done.
pub(crate) struct AtRest {
    objects: Option<Objects>,
    changes: Option<Changes>,
}

/// Objects whose last change is no longer in the ring.
struct Objects {
    /// Their revisions: after the first, up to the second.
    after: i64,
    upto: i64,
    packer: Packer,
    /// The key to go on at.
    start: String,
}

/// Changes in the ring, and the objects as these left them.
struct Changes {
    /// The sequence number to go on at.
    next: u64,
    /// The last revision.
    upto: i64,
    packer: Packer,
    /// Whether the objects are to be as they are in the changes.
    objects_too: bool,
    /// By key, what was packed last: the next change of the same object has replaced it.
    packed: HashMap<String, Arc<Entry>>,
}

impl Cache {
    /// What there is to pack. To be called every few seconds.
    pub(crate) fn at_rest(&self) -> Option<AtRest> {
        let state = self.read();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let upto = looks.look(state.changed);
        drop(looks);
        let after = self.packed.load(Ordering::Relaxed);
        let is_worth_it = state.tree_bytes >= PACKED_BYTES_MIN && state.floor > after;
        let objects = is_worth_it.then(|| Objects {
            after,
            upto: state.floor,
            packer: Packer::default(),
            start: String::new(),
        });
        let next = self.packed_changes.load(Ordering::Relaxed);
        let next = next.max(state.first);
        let change = state.ring.get((next - state.first) as usize);
        let is_worth_it = state.tree_bytes + state.bytes >= PACKED_BYTES_MIN
            && change.is_some_and(|change| change.revision <= upto);
        let changes = is_worth_it.then(|| Changes {
            next,
            upto,
            packer: Packer::default(),
            objects_too: state.tree_bytes >= OBJECTS_BYTES_MIN,
            packed: HashMap::new(),
        });
        let is_all_done = objects.is_none() && changes.is_none();
        (!is_all_done).then_some(AtRest { objects, changes })
    }

    /// Packs some of it, and answers whether there is more.
    pub(crate) fn pack(&self, rest: &mut AtRest) -> bool {
        if let Some(objects) = &mut rest.objects {
            if !self.pack_objects(objects) {
                rest.objects = None;
            }
        } else if let Some(changes) = &mut rest.changes
            && !self.pack_changes(changes)
        {
            rest.changes = None;
        }
        rest.objects.is_some() || rest.changes.is_some()
    }

    fn pack_objects(&self, rest: &mut Objects) -> bool {
        let tree = self.read().tree.clone();
        let mut all = tree.iter_from(&rest.start);
        let mut packed = Vec::new();
        let (mut looked_at, mut bytes) = (0, 0);
        let next = loop {
            let Some(entry) = all.next() else { break None };
            if looked_at == PACKED_AT_ONCE || bytes >= PACKED_BYTES_AT_ONCE {
                break Some(entry.key().to_owned());
            }
            looked_at += 1;
            if entry.revision <= rest.after || entry.revision > rest.upto {
                rest.packer.pass(&entry.encoded.json);
                continue;
            }
            bytes += entry.json_len();
            if let Some(one) = entry.packed(&mut rest.packer) {
                packed.push((entry.clone(), Arc::new(one)));
            }
        };
        // Else the chunks would be copied.
        drop(all);
        drop(tree);
        if !packed.is_empty() {
            let mut state = self.write();
            for (plain, packed) in &packed {
                state.tree.replace(plain, packed);
            }
        }
        let Some(next) = next else {
            self.packed.store(rest.upto, Ordering::Relaxed);
            return false;
        };
        rest.start = next;
        true
    }

    fn pack_changes(&self, rest: &mut Changes) -> bool {
        let (tree, changes) = {
            let state = self.read();
            rest.next = rest.next.max(state.first);
            let skip = (rest.next - state.first) as usize;
            let (upto, mut bytes) = (rest.upto, 0);
            let changes = state.ring.iter().skip(skip).take(PACKED_AT_ONCE);
            let changes = changes.take_while(|change| {
                let is_one_more = change.revision <= upto && bytes < PACKED_BYTES_AT_ONCE;
                bytes += change.bytes() + change.new.as_ref().map_or(0, |new| new.json_len());
                is_one_more
            });
            (state.tree.clone(), changes.cloned().collect::<Vec<_>>())
        };
        let packed: Vec<_> = changes.iter().map(|one| rest.change(&tree, one)).collect();
        drop(tree);
        let mut state = self.write();
        let first = state.first;
        for (number, (change, packed)) in (rest.next..).zip(changes.iter().zip(packed)) {
            let Some(packed) = packed else { continue };
            if rest.objects_too
                && let (Some(plain), Some(new)) = (&change.new, &packed.new)
            {
                state.tree.replace(plain, new);
            }
            let Some(at) = number.checked_sub(first) else {
                continue;
            };
            let (before, after) = (change.bytes(), packed.bytes());
            if let Some(place) = state.ring.get_mut(at as usize) {
                *place = Arc::new(packed);
                state.bytes = (state.bytes + after).saturating_sub(before);
            }
        }
        drop(state);
        rest.next += changes.len() as u64;
        self.packed_changes.store(rest.next, Ordering::Relaxed);
        !changes.is_empty()
    }
}

impl Changes {
    /// The change with its states packed, and without what can be made of them; none where it stays as it is.
    fn change(&mut self, tree: &Tree, change: &Change) -> Option<Change> {
        if let Some(one) = change.one() {
            let one = self.state(tree, one, !self.objects_too)?;
            let both = (Some(one.clone()), Some(one));
            return Some(Change {
                superseded: change.superseded,
                ..Change::as_shown(change.revision, both.0, both.1, None)
            });
        }
        // One that is there as it was made would be there twice.
        let stays = change.old.is_none() && !self.objects_too;
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let old = old.and_then(|old| self.state(tree, old, false));
        let new = new.and_then(|new| self.state(tree, new, stays));
        if old.is_none() && new.is_none() && change.gone.is_none() {
            return None;
        }
        Some(Change::as_shown(
            change.revision,
            old.or_else(|| change.old.clone()),
            new.or_else(|| change.new.clone()),
            None,
        ))
    }

    /// The same entry, packed; none where it stays as it is, as the present one does where it `stays`.
    fn state(&mut self, tree: &Tree, entry: &Arc<Entry>, stays: bool) -> Option<Arc<Entry>> {
        let is_small = entry.json_len() < REPLACED_BYTES_MIN;
        // What is small is packed with the objects only: where these stay as they are, it need not be looked for among them.
        if entry.encoded.json.is_packed() || is_small && !self.objects_too {
            return None;
        }
        let around = tree.around(entry.key());
        let now = around.iter().find(|one| one.key() == entry.key());
        let is_now = now.is_some_and(|now| Arc::ptr_eq(now, entry));
        if is_now && stays || !is_now && is_small {
            return None;
        }
        let is_same =
            |one: &&Arc<Entry>| one.revision == entry.revision && one.encoded.json.is_packed();
        let known = self.packed.get(entry.key());
        if let Some(same) = [known, now].into_iter().flatten().find(is_same) {
            return Some(same.clone());
        }
        // Those beside it by name, or what it has become, are most like it.
        let packed = around.iter().map(|one| &one.encoded.json);
        let packed = packed.filter(|json| json.is_packed());
        packed.for_each(|json| self.packer.pass(json));
        let packed = Arc::new(entry.packed(&mut self.packer)?);
        self.packed.insert(entry.key().to_owned(), packed.clone());
        Some(packed)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::encryption::Opened;

    const OBJECTS: usize = 300;

    fn key(at: usize) -> String {
        format!("/registry/configmaps/n/{at:03}")
    }

    fn entry(cache: &Cache, at: usize, revision: i64) -> Arc<Entry> {
        let data = "abcdefgh".repeat(500);
        // Selectors tell the states of an object from each other: else a change has one for both.
        let value = format!(
            r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{at:03}","labels":{{"b":"{revision}"}}}},"data":{{"a":"{data}"}}}}"#
        );
        let stored = Opened::from(Bytes::from(value));
        cache.entry(&key(at), &stored, revision).unwrap()
    }

    fn put(cache: &Cache, at: usize, revision: i64) {
        let new = entry(cache, at, revision);
        cache.apply(revision, vec![(key(at), Some(new))]);
    }

    /// As of a large cache.
    fn pack(cache: &Cache) -> bool {
        let Some(mut rest) = cache.at_rest() else {
            return false;
        };
        rest.changes
            .iter_mut()
            .for_each(|changes| changes.objects_too = true);
        while cache.pack(&mut rest) {}
        true
    }

    /// Bytes of all states that the ring and the tree hold, each once.
    fn room(cache: &Cache) -> usize {
        let state = cache.read();
        let of_ring = state.ring.iter();
        let of_ring = of_ring.flat_map(|change| change.old.iter().chain(&change.new));
        let all = of_ring.chain(state.tree.iter_from(""));
        let all: std::collections::BTreeMap<_, _> = all
            .map(|one| (Arc::as_ptr(one) as usize, one.encoded.json.room()))
            .collect();
        all.values().sum()
    }

    fn shown(cache: &Cache) -> Vec<(i64, [Option<Bytes>; 2])> {
        let mut cursor = cache.cursor_after(5).unwrap();
        let changes = cache.read_changes(&mut cursor, usize::MAX).unwrap();
        let json = |state: &Option<Arc<Entry>>| state.as_ref().map(|one| one.json());
        let shown =
            |change: &Arc<Change>| (change.revision, [json(&change.old), json(&change.new)]);
        changes.iter().map(shown).collect()
    }

    #[test]
    fn changes_of_some_time_ago_are_packed_where_they_stand() {
        let cache = Cache::new(Vec::new(), "/registry/configmaps/".into());
        let all = (0..OBJECTS).map(|at| entry(&cache, at, 3));
        cache.reset(all.collect(), 5);
        for round in 0..3 {
            for at in 0..OBJECTS {
                put(&cache, at, (6 + round * OBJECTS + at) as i64);
            }
        }
        cache.apply(5_000, vec![(key(7), None)]);
        let (before, plain) = (shown(&cache), room(&cache));
        assert!(plain > 4 * OBJECTS * 4_000);
        for _ in 0..LOOKS {
            pack(&cache);
            assert_eq!(room(&cache), plain, "they are not old enough");
        }
        assert!(pack(&cache));
        assert!(room(&cache) * 10 < plain, "{} of {plain}", room(&cache));
        assert_eq!(shown(&cache), before);
        let state = cache.read();
        let bytes: usize = state.ring.iter().map(|change| change.bytes()).sum();
        assert_eq!(state.bytes, bytes);
        assert!(state.ring.iter().all(|change| change.gone.is_none()));
        drop(state);
        // What a change has made of an object is what the next one finds, and what is there now.
        let state = cache.read();
        let last = |at: usize| {
            state
                .ring
                .iter()
                .rfind(|one| one.new.as_ref().is_some_and(|new| new.key() == key(at)))
        };
        assert!(Arc::ptr_eq(
            last(9).unwrap().new.as_ref().unwrap(),
            state.tree.get(&key(9)).unwrap()
        ));
        drop(state);
        assert!(!pack(&cache), "there is nothing to do");
        put(&cache, 9, 6_000);
        let plain = cache.get(&key(9)).unwrap();
        assert!(!plain.encoded.json.is_packed());
        for _ in 0..LOOKS {
            pack(&cache);
            assert!(Arc::ptr_eq(&plain, &cache.get(&key(9)).unwrap()));
        }
        assert!(pack(&cache));
        assert!(cache.get(&key(9)).unwrap().encoded.json.is_packed());
        assert_eq!(cache.get(&key(9)).unwrap().json(), plain.json());
    }

    #[test]
    fn a_small_cache_has_its_objects_as_they_are_sent_while_their_changes_are_kept() {
        let cache = Cache::new(Vec::new(), "/registry/configmaps/".into());
        let all = (0..OBJECTS).map(|at| entry(&cache, at, 3));
        cache.reset(all.collect(), 5);
        for at in 0..OBJECTS {
            put(&cache, at, 6 + at as i64);
        }
        let made = (0..OBJECTS).map(|at| (key(OBJECTS + at), entry(&cache, OBJECTS + at, 1_000)));
        let made = made.map(|(key, entry)| (key, Some(entry)));
        cache.apply(1_000, made.collect());
        let before = shown(&cache);
        for _ in 0..=LOOKS {
            if let Some(mut rest) = cache.at_rest() {
                while cache.pack(&mut rest) {}
            }
        }
        let state = cache.read();
        let is_plain = |one: &Arc<Entry>| !one.encoded.json.is_packed();
        assert!(state.tree.iter_from("").all(is_plain));
        let of_ring = state.ring.iter();
        let of_ring = of_ring.flat_map(|change| change.old.iter().chain(&change.new));
        assert_eq!(of_ring.filter(|one| is_plain(one)).count(), 1 + OBJECTS);
        drop(state);
        assert_eq!(shown(&cache), before);
    }

    #[test]
    fn a_state_that_stands_for_two_is_packed_once() {
        let cache = Cache::new(Vec::new(), "/registry/configmaps/".into());
        let of = |at: usize, revision: i64| {
            let data = "abcdefgh".repeat(500);
            let value = format!(
                r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{}},"data":{{"a":"{data}","b":"{revision}"}}}}"#
            );
            let stored = Opened::from(Bytes::from(value));
            cache.entry(&key(at), &stored, revision).unwrap()
        };
        cache.reset((0..OBJECTS).map(|at| of(at, 3)).collect(), 5);
        for at in 0..OBJECTS {
            let revision = 6 + at as i64;
            cache.apply(revision, vec![(key(at), Some(of(at, revision)))]);
        }
        let before = shown(&cache);
        assert_eq!(cache.read().bytes, 0, "what was there before is let go of");
        let plain = room(&cache);
        for _ in 0..LOOKS {
            pack(&cache);
        }
        assert!(pack(&cache));
        assert!(room(&cache) * 10 < plain, "{} of {plain}", room(&cache));
        assert_eq!(shown(&cache), before);
        let state = cache.read();
        for change in &state.ring {
            let one = change.one().expect("it still stands for both");
            assert!(Arc::ptr_eq(one, state.tree.get(one.key()).unwrap()));
        }
        assert_eq!(state.bytes, 0);
    }

    #[test]
    fn a_change_that_comes_meanwhile_stays_and_changes_that_go_are_left_out() {
        let cache = Cache::new(Vec::new(), "/registry/configmaps/".into());
        let all = (0..OBJECTS).map(|at| entry(&cache, at, 3));
        cache.reset(all.collect(), 5);
        for at in 0..OBJECTS {
            put(&cache, at, 6 + at as i64);
        }
        for _ in 0..LOOKS {
            cache.at_rest();
        }
        let mut rest = cache.at_rest().unwrap();
        assert!(cache.pack(&mut rest));
        put(&cache, 1, 7_000);
        cache.age(6 + 150);
        while cache.pack(&mut rest) {}
        assert_eq!(cache.get(&key(1)).unwrap().revision, 7_000);
        let mut cursor = cache.cursor_after(6 + 150).unwrap();
        let changes = cache.read_changes(&mut cursor, usize::MAX).unwrap();
        let revisions = changes.iter().map(|change| change.revision);
        let expected = (157..6 + OBJECTS as i64).chain([7_000]);
        assert!(revisions.eq(expected));
    }
}

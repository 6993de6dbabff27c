//! From the changes of the source to transactions of the destination. Plain functions: nothing here waits or asks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kv::{
    Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, Request,
    RequestOp, TxnRequest,
};

use super::checkpoint::{CHECKPOINTS, Checkpoint, Place};
use crate::etcd::client::{Keys, Page, Record, Revision};

/// Operations of one transaction: with the checkpoint as many as fit into two levels of etcd's 128 (see [`transaction`]).
pub(super) const OPS_MAX: usize = (GROUPS - 1) * GROUP;
const GROUPS: usize = 64;
const GROUP: usize = 64;
/// Largest transaction, encoded: what a store takes by default, less the checkpoint's share. A single change that is
/// larger is tried all the same.
const BYTES_MAX: usize = kv::REQUEST_BYTES_MAX - (32 << 10);
/// Nothing is added to a transaction that has so much.
const BYTES_ENOUGH: usize = 512 << 10;
/// What an operation takes besides key and value.
const OP_BYTES: usize = 24;

/// Which keys are mirrored, and what they are called in the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub prefix: Bytes,
    pub dest_prefix: Bytes,
}

impl Names {
    pub(super) fn source(&self) -> Keys {
        Keys::prefix(self.prefix.clone())
    }

    pub(super) fn destination(&self) -> Keys {
        Keys::prefix(self.dest_prefix.clone())
    }

    /// What a key of the source is called in the destination; nothing where it is not mirrored.
    pub(super) fn there(&self, key: &[u8]) -> Option<Bytes> {
        let name = replaced(key, &self.prefix, &self.dest_prefix)?;
        (!name.starts_with(CHECKPOINTS)).then_some(name)
    }

    /// Where a place among the keys of the source is in the destination; nothing before the first one.
    pub(super) fn place_there(&self, key: &[u8]) -> Bytes {
        replaced(key, &self.prefix, &self.dest_prefix).unwrap_or_default()
    }

    /// The other way round.
    pub(super) fn place_here(&self, key: &[u8]) -> Bytes {
        replaced(key, &self.dest_prefix, &self.prefix).unwrap_or_default()
    }

    /// Whether checkpoints are among the keys of the destination.
    pub(super) fn have_checkpoints(&self) -> bool {
        CHECKPOINTS.starts_with(&self.dest_prefix)
    }

    /// Whether all of the destination's keys would be taken for checkpoints.
    pub(super) fn are_checkpoints(&self) -> bool {
        self.dest_prefix.starts_with(CHECKPOINTS)
    }
}

/// Up to which key of the destination both of these parts, which begin at the same place, have all there is; nothing
/// where they have all to the end.
fn common_end(names: &Names, source: &Page, destination: &Page) -> Option<Bytes> {
    let source_end = source.records.last().filter(|_| source.more);
    let source_end = source_end.map(|record| names.place_there(&record.key));
    let destination_end = destination.records.last().filter(|_| destination.more);
    let destination_end = destination_end.map(|record| record.key.clone());
    source_end.into_iter().chain(destination_end).min()
}

/// Leaves what is up to the common end, and answers that.
pub(super) fn cut_to_common_end(
    names: &Names,
    source: &mut Page,
    destination: &mut Page,
) -> Option<Bytes> {
    let end = common_end(names, source, destination)?;
    let within = |key: &Bytes| *key <= end;
    source
        .records
        .retain(|record| within(&names.place_there(&record.key)));
    destination.records.retain(|record| within(&record.key));
    Some(end)
}

fn replaced(key: &[u8], from: &[u8], to: &[u8]) -> Option<Bytes> {
    let rest = key.strip_prefix(from)?;
    let name = [to, rest].concat();
    // With an empty prefix a key that is the other prefix would have no name at all.
    (!name.is_empty()).then(|| name.into())
}

/// A change of a key of the destination.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
    /// The value stays.
    Attach {
        key: Bytes,
        lease: i64,
    },
}

impl Op {
    pub(super) fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key } | Op::Attach { key, .. } => key,
        }
    }

    /// 0 is none.
    pub(super) fn lease(&self) -> i64 {
        match self {
            Op::Attach { lease, .. } => *lease,
            Op::Put { .. } | Op::Delete { .. } => 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let value = match self {
            Op::Put { value, .. } => value.len(),
            Op::Delete { .. } | Op::Attach { .. } => 0,
        };
        OP_BYTES + self.key().len() + value
    }

    fn request(self) -> RequestOp {
        let request = match self {
            Op::Put { key, value } => Request::Put(PutRequest {
                key,
                value,
                ..PutRequest::default()
            }),
            Op::Delete { key } => Request::DeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
            Op::Attach { key, lease } => Request::Put(PutRequest {
                key,
                lease,
                ignore_value: true,
                ..PutRequest::default()
            }),
        };
        RequestOp {
            request: Some(request),
        }
    }
}

/// What fits into one transaction, as it is filled.
#[derive(Default)]
struct Room {
    ops: usize,
    bytes: usize,
    keys: BTreeSet<Bytes>,
}

impl Room {
    /// Whether these go in, too. A single one always goes in when nothing else is there.
    fn takes(&mut self, ops: &[Op]) -> bool {
        let bytes: usize = ops.iter().map(Op::bytes).sum();
        let enough = match self.ops {
            0 => BYTES_MAX,
            _ => BYTES_ENOUGH,
        };
        let fits = self.ops + ops.len() <= OPS_MAX && self.bytes + bytes <= enough;
        let again = ops.iter().any(|op| self.keys.contains(op.key()));
        let alone = self.ops == 0 && ops.len() == 1;
        if (!fits && !alone) || again {
            return false;
        }
        self.ops += ops.len();
        self.bytes += bytes;
        self.keys.extend(ops.iter().map(|op| op.key().clone()));
        true
    }
}

/// One transaction of the destination.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) ops: Vec<Op>,
    /// Where the source is followed from when it is applied.
    pub(super) next: Place,
}

/// The changes that have come and are not applied, in order.
pub(super) struct Backlog {
    names: Names,
    next: Place,
    /// Of one revision each: all of its changes that have come, in order, with those that are applied already.
    revisions: VecDeque<(i64, Vec<Option<Op>>)>,
    /// Nothing is missing up to here.
    whole: i64,
    bytes: usize,
}

impl Backlog {
    pub(super) fn new(names: Names, next: Place) -> Backlog {
        Backlog {
            names,
            next,
            revisions: VecDeque::new(),
            whole: 0,
            bytes: 0,
        }
    }

    /// More than one transaction is there: no need to wait for more.
    pub(super) fn is_large(&self) -> bool {
        self.bytes > BYTES_ENOUGH
    }

    pub(super) fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// Takes what has come. Where the last revision is not `whole`, the rest of it comes next.
    pub(super) fn take(&mut self, events: Vec<Revision>, whole: bool) {
        let Some(last) = events.last().map(Revision::revision) else {
            return;
        };
        for event in events {
            let revision = event.revision();
            if revision < self.next.revision {
                continue;
            }
            let op = self.op(event);
            self.bytes += op.as_ref().map_or(0, Op::bytes);
            match self.revisions.back_mut() {
                Some((known, ops)) if *known == revision => ops.push(op),
                _ => self.revisions.push_back((revision, vec![op])),
            }
        }
        self.whole = self.whole.max(if whole { last } else { last - 1 });
    }

    fn op(&self, event: Revision) -> Option<Op> {
        let key = self.names.there(event.key())?;
        Some(match event {
            Revision::Put(record) => Op::Put {
                key,
                value: record.value,
            },
            Revision::Delete(..) => Op::Delete { key },
        })
    }

    /// All changes up to this revision have come: with nothing left of them, the source is followed from after it.
    pub(super) fn progress(&mut self, revision: i64) {
        self.whole = self.whole.max(revision);
        if self.revisions.is_empty() && self.next.revision <= revision {
            self.next = Place::after(revision);
        }
    }

    pub(super) fn next(&self) -> Place {
        self.next
    }

    /// What is applied next, as one transaction: whole revisions, as many as fit without changing a key twice, or a part
    /// of one that does not fit at all. Nothing where more has to come first.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        let mut room = Room::default();
        let mut ops = Vec::new();
        while let Some((revision, changes)) = self.revisions.front() {
            let done = match *revision == self.next.revision {
                true => self.next.done,
                false => 0,
            };
            let left = settled(changes.get(done..).unwrap_or_default());
            if *revision <= self.whole && room.takes(&left) {
                self.next = Place::after(*revision);
                self.drop_front();
                ops.extend(left);
                continue;
            }
            // A revision too large for one transaction goes in parts, and nothing else with them.
            let too_large = ops.is_empty() && !Room::default().takes(&left) && left.len() > 1;
            if too_large {
                return Some(self.part(done));
            }
            break;
        }
        let next = self.next;
        (!ops.is_empty()).then_some(Batch { ops, next })
    }

    /// The next part of the first revision, of which so many changes are applied.
    fn part(&mut self, done: usize) -> Batch {
        let (revision, changes) = &mut self.revisions[0];
        let (ops, count) = first_part(&changes[done..]);
        let next = Place {
            revision: *revision,
            done: done + count,
        };
        // They count, but what they were is not needed any more.
        let taken = changes[done..next.done].iter_mut().filter_map(Option::take);
        let bytes: usize = taken.map(|op| op.bytes()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.next = next;
        Batch { ops, next }
    }

    fn drop_front(&mut self) {
        if let Some((_, changes)) = self.revisions.pop_front() {
            let bytes: usize = changes.iter().flatten().map(Op::bytes).sum();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

/// The changes of one revision with each key once: the last one counts.
fn settled(changes: &[Option<Op>]) -> Vec<Op> {
    let mut seen = BTreeSet::new();
    let mut ops: Vec<Op> = changes.iter().rev().flatten().cloned().collect();
    ops.retain(|op| seen.insert(op.key().clone()));
    ops.reverse();
    ops
}

/// As many of these as fit, each key once, and how many changes that are.
fn first_part(changes: &[Option<Op>]) -> (Vec<Op>, usize) {
    let mut room = Room::default();
    let mut ops = Vec::new();
    for (place, change) in changes.iter().enumerate() {
        let Some(op) = change else { continue };
        if !room.takes(std::slice::from_ref(op)) {
            return (ops, place);
        }
        ops.push(op.clone());
    }
    (ops, changes.len())
}

/// Splits into parts that fit into a transaction each.
pub(super) fn parts(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut parts: Vec<Vec<Op>> = Vec::new();
    let mut room = Room::default();
    for op in ops {
        if !room.takes(std::slice::from_ref(&op)) || parts.is_empty() {
            room = Room::default();
            room.takes(std::slice::from_ref(&op));
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(op);
        }
    }
    parts
}

/// What a part of the destination lacks, and has too much, to be that part of the source; in the order of the keys.
pub(super) fn difference(names: &Names, source: &[Record], destination: &[Record]) -> Vec<Op> {
    let wanted = source.iter().filter_map(|record| {
        let key = names.there(&record.key)?;
        Some((key, &record.value))
    });
    let mut wanted = wanted.peekable();
    let mut ops = Vec::new();
    let put = |(key, value): (Bytes, &Bytes)| Op::Put {
        key,
        value: value.clone(),
    };
    for have in destination {
        while let Some(missing) = wanted.next_if(|(key, _)| *key < have.key) {
            ops.push(put(missing));
        }
        match wanted.next_if(|(key, _)| *key == have.key) {
            Some((_, value)) if *value == have.value => {}
            Some(changed) => ops.push(put(changed)),
            None if have.key.starts_with(CHECKPOINTS) => {}
            None => ops.push(Op::Delete {
                key: have.key.clone(),
            }),
        }
    }
    ops.extend(wanted.map(put));
    ops
}

/// The keys of the destination's part that are not of the lease that they have in the source, of those that have one.
pub(super) fn unleased(names: &Names, source: &[Record], destination: &[Record]) -> Vec<Op> {
    let have: BTreeMap<&Bytes, i64> = destination
        .iter()
        .map(|record| (&record.key, record.lease))
        .collect();
    let leased = source.iter().filter(|record| record.lease != 0);
    let attach = leased.filter_map(|record| {
        let key = names.there(&record.key)?;
        let lease = record.lease;
        let other = have.get(&key).is_some_and(|have| *have != lease);
        other.then_some(Op::Attach { key, lease })
    });
    attach.collect()
}

/// The transaction that carries out the changes and moves the checkpoint, if the checkpoint is still the one that was
/// written at this revision (0: there is none). More than one level takes is put into transactions inside.
pub(super) fn transaction(
    ops: Vec<Op>,
    key: &Bytes,
    checkpoint: &Checkpoint,
    written_at: i64,
) -> TxnRequest {
    let mut success: Vec<RequestOp> = ops.into_iter().map(Op::request).collect();
    if success.len() >= kv::TXN_OPS_MAX {
        let groups = success.chunks(GROUP).map(|group| RequestOp {
            request: Some(Request::Txn(TxnRequest {
                success: group.to_vec(),
                ..TxnRequest::default()
            })),
        });
        success = groups.collect();
    }
    let moved = Op::Put {
        key: key.clone(),
        value: checkpoint.encode(),
    };
    success.push(moved.request());
    let unchanged = Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.clone(),
        operand: Some(CompareOperand::ModRevision(written_at)),
        ..Compare::default()
    };
    TxnRequest {
        compare: vec![unchanged],
        success,
        ..TxnRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(prefix: &'static str, dest_prefix: &'static str) -> Names {
        Names {
            prefix: prefix.into(),
            dest_prefix: dest_prefix.into(),
        }
    }

    fn record(key: impl Into<Bytes>, value: impl Into<Bytes>, mod_revision: i64) -> Record {
        Record {
            key: key.into(),
            value: value.into(),
            mod_revision,
            ..Record::default()
        }
    }

    fn put(key: &'static str, value: &'static str, revision: i64) -> Revision {
        Revision::Put(record(key, value, revision))
    }

    fn gone(key: &'static str, revision: i64) -> Revision {
        Revision::Delete(key.into(), revision)
    }

    fn puts(key: &'static str, value: &'static str) -> Op {
        Op::Put {
            key: key.into(),
            value: value.into(),
        }
    }

    fn deletes(key: &'static str) -> Op {
        Op::Delete { key: key.into() }
    }

    fn follow(revision: i64) -> Backlog {
        Backlog::new(names("", ""), Place { revision, done: 0 })
    }

    fn next(revision: i64, done: usize) -> Place {
        Place { revision, done }
    }

    #[test]
    fn a_transaction_of_the_source_is_one_of_the_destination() {
        let mut backlog = follow(5);
        backlog.take(vec![put("a", "1", 5), gone("b", 5), put("c", "1", 5)], true);
        let batch = backlog.batch().unwrap();
        assert_eq!(batch.ops, [puts("a", "1"), deletes("b"), puts("c", "1")]);
        assert_eq!(batch.next, next(6, 0));
        assert_eq!(backlog.batch(), None);
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_backlog_goes_together_but_no_change_of_a_key_is_swallowed() {
        let mut backlog = follow(5);
        let events = vec![
            put("a", "1", 5),
            put("b", "1", 6),
            put("a", "2", 7),
            gone("c", 9),
        ];
        backlog.take(events, true);
        let batch = backlog.batch().unwrap();
        assert_eq!(
            (batch.ops, batch.next),
            (vec![puts("a", "1"), puts("b", "1")], next(7, 0))
        );
        let batch = backlog.batch().unwrap();
        assert_eq!(
            (batch.ops, batch.next),
            (vec![puts("a", "2"), deletes("c")], next(10, 0))
        );
    }

    #[test]
    fn what_has_not_come_as_a_whole_waits() {
        let mut backlog = follow(5);
        backlog.take(vec![put("a", "1", 5), put("b", "1", 6)], false);
        let batch = backlog.batch().unwrap();
        assert_eq!((batch.ops, batch.next), (vec![puts("a", "1")], next(6, 0)));
        assert_eq!(backlog.batch(), None);
        backlog.take(vec![put("c", "1", 6)], true);
        let batch = backlog.batch().unwrap();
        assert_eq!(
            (batch.ops, batch.next),
            (vec![puts("b", "1"), puts("c", "1")], next(7, 0))
        );
    }

    #[test]
    fn a_revision_that_fits_into_no_transaction_goes_in_parts_and_is_resumed_in_the_middle() {
        let key = |n: usize| format!("k{n:06}");
        let event = |n: usize| Revision::Delete(key(n).into(), 5);
        let all: Vec<Revision> = (0..OPS_MAX * 2 + 10).map(event).collect();
        let mut place = next(5, 0);
        let mut seen = Vec::new();
        // Each time a new process, which is told all of it again.
        loop {
            let mut backlog = Backlog::new(names("", ""), place);
            backlog.take(all.clone(), true);
            backlog.take(vec![put("z", "1", 6)], true);
            let batch = backlog.batch().unwrap();
            assert!(batch.ops.len() <= OPS_MAX);
            seen.extend(batch.ops.iter().map(|op| op.key().clone()));
            place = batch.next;
            if place.revision > 5 {
                break;
            }
            assert_eq!(place.done, seen.len());
        }
        assert_eq!(place, next(7, 0), "the end goes with what follows");
        let expected = (0..all.len()).map(|n| Bytes::from(key(n)));
        assert!(seen.into_iter().eq(expected.chain([Bytes::from("z")])));
    }

    #[test]
    fn bytes_count_too_and_one_large_change_goes_alone() {
        let large = |key: &'static str, bytes: usize, revision| {
            Revision::Put(record(key, vec![b'x'; bytes], revision))
        };
        let mut backlog = follow(5);
        let huge = kv::REQUEST_BYTES_MAX - (40 << 10);
        backlog.take(
            vec![large("a", 300 << 10, 5), large("b", 300 << 10, 6)],
            true,
        );
        backlog.take(vec![large("c", huge / 2, 7), large("d", huge / 2, 7)], true);
        backlog.take(vec![large("e", 3 << 20, 8)], true);
        backlog.take(vec![large("f", 1 << 20, 9), large("g", 1 << 20, 9)], true);
        assert!(backlog.is_large());
        let mut batches = Vec::new();
        while let Some(batch) = backlog.batch() {
            let keys: Vec<_> = batch.ops.iter().map(|op| op.key().clone()).collect();
            batches.push((keys.concat(), batch.next));
        }
        let expected: [(&[u8], Place); 6] = [
            (b"a", next(6, 0)),
            (b"b", next(7, 0)),
            // What one request of the source may have is one here.
            (b"cd", next(8, 0)),
            (b"e", next(9, 0)),
            (b"f", next(9, 1)),
            (b"g", next(10, 0)),
        ];
        let expected = expected.map(|(keys, place)| (keys.to_vec(), place));
        assert_eq!(batches, expected);
        assert!(!backlog.is_large());
    }

    #[test]
    fn what_is_not_mirrored_is_passed_over() {
        let mut backlog = Backlog::new(names("/a/", "/kontiki/"), next(5, 0));
        backlog.take(vec![put("/a/x", "1", 5), put("/a/mirror/m", "1", 6)], true);
        let batch = backlog.batch().unwrap();
        assert_eq!(
            (batch.ops, batch.next),
            (vec![puts("/kontiki/x", "1")], next(7, 0))
        );
        // And so is what is said again, or that nothing happens.
        backlog.take(vec![put("/a/x", "1", 5)], true);
        assert_eq!(backlog.batch(), None);
        backlog.progress(20);
        assert_eq!(backlog.next(), next(21, 0));
        backlog.progress(10);
        assert_eq!(backlog.next(), next(21, 0));
    }

    #[test]
    fn names_are_exchanged_at_the_front() {
        let names = names("/a/", "/b/c/");
        assert_eq!(names.there(b"/a/x").as_deref(), Some(&b"/b/c/x"[..]));
        assert_eq!(names.there(b"/x"), None);
        assert_eq!(&names.place_here(b"/b/c/x")[..], b"/a/x");
        assert_eq!(&names.place_there(b"")[..], b"");
        assert!(!names.have_checkpoints() && !names.are_checkpoints());
        let all = self::names("", "");
        assert!(all.have_checkpoints());
        assert_eq!(all.there(b"/kontiki/mirror/m"), None);
    }

    fn ops_of(request: &TxnRequest) -> usize {
        let count = |op: &RequestOp| match &op.request {
            Some(Request::Txn(nested)) => nested.success.len(),
            _ => 1,
        };
        request.success.iter().map(count).sum()
    }

    #[test]
    fn the_checkpoint_moves_with_the_data_in_a_transaction_that_a_store_takes() {
        let checkpoint = Checkpoint {
            source: 1,
            names: names("", ""),
            session: 2,
            stage: super::super::checkpoint::Stage::Following(next(5, 0)),
        };
        let key = super::super::checkpoint::key("m");
        for count in [0, 1, 127, 128, OPS_MAX] {
            let ops = (0..count).map(|n| Op::Put {
                key: format!("{n}").into(),
                value: Bytes::new(),
            });
            let request = transaction(ops.collect(), &key, &checkpoint, 7);
            kv::check_txn(&request).unwrap();
            assert_eq!(ops_of(&request), count + 1);
            let operand = request.compare[0].operand.clone();
            assert_eq!(operand, Some(CompareOperand::ModRevision(7)));
        }
    }

    #[test]
    fn pages_of_both_sides_are_compared_as_far_as_both_go() {
        let page = |keys: &[&'static str], more| Page {
            records: keys.iter().map(|key| record(*key, "", 1)).collect(),
            more,
            ..Page::default()
        };
        let names = names("/a/", "/b/");
        let end = |source: &Page, destination: &Page| common_end(&names, source, destination);
        let source = page(&["/a/1", "/a/5"], true);
        assert_eq!(
            end(&source, &page(&[], false)).as_deref(),
            Some(&b"/b/5"[..])
        );
        assert_eq!(
            end(&source, &page(&["/b/3"], true)).as_deref(),
            Some(&b"/b/3"[..])
        );
        assert_eq!(end(&page(&["/a/1"], false), &page(&["/b/3"], false)), None);
    }

    #[test]
    fn keys_get_the_lease_that_they_have_in_the_source() {
        let leased = |key: &'static str, lease| Record {
            lease,
            ..record(key, "", 1)
        };
        let source = [
            leased("/a/1", 5),
            leased("/a/2", 5),
            leased("/a/3", 0),
            leased("/a/4", 7),
        ];
        // One has it already, and one was deleted meanwhile.
        let destination = [leased("/b/1", 0), leased("/b/2", 5), leased("/b/3", 0)];
        let ops = unleased(&names("/a/", "/b/"), &source, &destination);
        let expected = Op::Attach {
            key: "/b/1".into(),
            lease: 5,
        };
        assert_eq!(ops, [expected]);
    }

    type Model = std::collections::BTreeMap<Bytes, Bytes>;

    fn carry_out(model: &mut Model, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Put { key, value } => model.insert(key, value),
                Op::Delete { key } => model.remove(&key),
                Op::Attach { .. } => None,
            };
        }
    }

    fn small_map() -> impl Strategy<Value = Model> {
        let key = "[ab]{1,3}".prop_map(Bytes::from);
        proptest::collection::btree_map(key, "[01]".prop_map(Bytes::from), 0..8)
    }

    fn records(model: &Model) -> Vec<Record> {
        let all = model.iter();
        all.map(|(key, value)| record(key.clone(), value.clone(), 1))
            .collect()
    }

    proptest! {
        #[test]
        fn the_difference_makes_one_the_other(source in small_map(), destination in small_map()) {
            let names = names("", "");
            let ops = difference(&names, &records(&source), &records(&destination));
            let again = ops.len();
            let mut made = destination.clone();
            for part in parts(ops) {
                carry_out(&mut made, part);
            }
            prop_assert_eq!(&made, &source);
            let left = difference(&names, &records(&source), &records(&made));
            prop_assert!(left.is_empty());
            prop_assert!(again <= source.len() + destination.len());
        }

        /// However the changes are told, and wherever it ends and begins again, the result is the same.
        #[test]
        fn a_mirror_that_is_killed_at_any_time_applies_each_change_once(
            changes in proptest::collection::vec(
                proptest::collection::btree_map("[abc]", proptest::option::of("[0-9]"), 1..4), 1..12),
            kills in proptest::collection::vec(any::<bool>(), 40),
            cut in 1_usize..5,
        ) {
            let mut events = Vec::new();
            let mut wanted = Model::new();
            for (revision, change) in (5..).zip(&changes) {
                for (key, value) in change {
                    let key = Bytes::from(key.clone());
                    events.push(match value {
                        Some(value) => Revision::Put(record(key.clone(), value.clone(), revision)),
                        None => Revision::Delete(key.clone(), revision),
                    });
                    match value {
                        Some(value) => wanted.insert(key, value.clone().into()),
                        None => wanted.remove(&key),
                    };
                }
            }
            let (mut place, mut made, mut applied) = (next(5, 0), Model::new(), 0);
            let mut kills = kills.into_iter();
            'process: loop {
                let mut backlog = Backlog::new(names("", ""), place);
                let told: Vec<Revision> = events.iter().filter(|event| event.revision() >= place.revision).cloned().collect();
                let mut rest = &told[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(cut.min(rest.len()));
                    let whole = later.first().map(Revision::revision) != now.last().map(Revision::revision);
                    backlog.take(now.to_vec(), whole);
                    rest = later;
                    while let Some(batch) = backlog.batch() {
                        applied += batch.ops.len();
                        carry_out(&mut made, batch.ops);
                        place = batch.next;
                        if kills.next() == Some(true) {
                            continue 'process;
                        }
                    }
                }
                break;
            }
            prop_assert_eq!(made, wanted);
            prop_assert_eq!(applied, events.len());
        }
    }
}

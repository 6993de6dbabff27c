//! What happened, revision by revision, as far as the recording tells.
//!
//! Answered writes name their revisions. Of the revisions between them, those that somebody has seen something of are
//! given to the write without an answer, or to the end of the lease, that explains what was seen. What remains is
//! open: a write without an answer that nobody has seen, or one of somebody who is not in the recording.

use super::lease::{self, Lease};
use super::shape::{self, as_answered, as_response, as_txn, may_write};
use super::traces::{Seen, Source, Span, Trace, traces};
use super::{violation, words};
use crate::model::Model;
use crate::recording::{Event, Operation, Outcome, Pair, Recording, Request, Response, Violation};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Keys of the API server, which writes to the same store and is in no recording.
const FOREIGN: &str = "/registry/";
/// Open revisions in a row that are remembered: more cannot be told apart.
const OPEN_MAX: i64 = 1000;

/// Who made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// By its place in the recording.
    Operation(usize),
    /// The lease ran out.
    LeaseEnd(i64),
    /// Somebody who is not in the recording, or who is in a line for a lock or an election.
    Foreign,
    /// The key of the place in a line that this lock or campaign has taken is deleted.
    LeavesLine(usize),
    /// Nobody could have: a violation tells of it.
    Nobody,
}

/// An answer that is not what the model says.
#[derive(Clone, Debug)]
pub(super) struct Mismatch {
    pub(super) source: Source,
    /// Of the state from which was answered.
    pub(super) revision: i64,
    /// The key in question, where it is one.
    pub(super) key: String,
    pub(super) expected: String,
    pub(super) answered: String,
    /// What is told where nothing explains it, if not the usual.
    pub(super) told: Option<Box<Violation>>,
}

/// See the module head.
pub(super) struct Timeline<'a> {
    pub(super) recording: &'a Recording,
    pub(super) model: Model,
    pub(super) made: BTreeMap<i64, Maker>,
    /// Revisions whose makers were searched for: others may have made them.
    pub(super) guessed: BTreeSet<i64>,
    /// Revisions of which nothing is known, ascending.
    pub(super) open: Vec<i64>,
    /// Writes without an answer that nobody has seen an effect of, by place.
    pub(super) unplaced: Vec<usize>,
    pub(super) seen: Seen,
    pub(super) spans: Vec<Span>,
    pub(super) leases: BTreeMap<i64, Lease<'a>>,
    /// Open revisions of which something was seen that nobody could have done in the state as it is known, with the
    /// keys that were seen.
    pub(super) doubted: BTreeMap<i64, BTreeSet<&'a str>>,
    /// Revisions that somebody names: where an unanswered write took effect may matter to them.
    pub(super) named: BTreeSet<i64>,
    /// Revisions that more than one may have made; the first was chosen.
    pub(super) choices: BTreeMap<i64, Vec<Maker>>,
    /// Keys of leases of which only a part went: (lease, revision).
    pub(super) split: Vec<(i64, i64)>,
    pub(super) mismatches: Vec<Mismatch>,
    /// What contradicts itself already.
    pub(super) found: Vec<Violation>,
    /// By the key of a place in a line: the locks, campaigns and proclamations that may have written it.
    pub(super) lines: BTreeMap<String, Vec<usize>>,
    /// Keys about which the search has spoken already; see [`super::linear`].
    pub(super) judged: BTreeSet<String>,
}

/// Operations without an answer, and refused ones, by what they would do.
#[derive(Default)]
struct Index<'a> {
    puts: HashMap<&'a str, Vec<usize>>,
    deletes: Vec<usize>,
    revokes: HashMap<i64, Vec<usize>>,
    used: HashSet<usize>,
}

impl<'a> Index<'a> {
    fn new(operations: &'a [Operation]) -> Index<'a> {
        let mut index = Index::default();
        for (place, operation) in operations.iter().enumerate() {
            if !shape::is_unknown(operation) {
                continue;
            }
            // There is no lease 0.
            if let Request::Revoke { lease } = operation.request
                && lease != 0
            {
                index.revokes.entry(lease).or_default().push(place);
            }
            let puts = shape::may_put(&operation.request);
            if may_write(&operation.request).len() > puts.len() {
                index.deletes.push(place);
            }
            for (key, _) in puts {
                index.puts.entry(key).or_default().push(place);
            }
        }
        index
    }
}

impl<'a> Timeline<'a> {
    /// `hints` are makers of open revisions that were found before.
    pub(super) fn new(recording: &'a Recording, hints: &BTreeMap<i64, Maker>) -> Timeline<'a> {
        let operations = &recording.operations;
        let mut writers: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut revokes: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (place, operation) in operations.iter().enumerate() {
            if let Some(revision) = shape::written(operation) {
                writers.entry(revision).or_default().push(place);
            } else if let (Request::Revoke { .. }, Some(revision)) =
                (&operation.request, shape::revision(operation))
            {
                revokes.entry(revision).or_default().push(place);
            }
        }
        let left = left(operations);
        let traces = traces(recording, &|revision| writers.contains_key(&revision));
        let mut revisions: BTreeSet<i64> = writers.keys().copied().collect();
        revisions.extend(revokes.keys().chain(traces.keys()).chain(hints.keys()));
        revisions.extend(left.keys());
        let seen = Seen::new(recording);
        let mut timeline = Timeline {
            recording,
            model: Model::default(),
            made: BTreeMap::new(),
            guessed: hints.keys().copied().collect(),
            open: Vec::new(),
            unplaced: Vec::new(),
            spans: Span::all(recording, &seen),
            seen,
            leases: lease::leases(operations),
            doubted: BTreeMap::new(),
            named: operations.iter().flat_map(shape::named_revisions).collect(),
            choices: BTreeMap::new(),
            split: Vec::new(),
            mismatches: Vec::new(),
            found: Vec::new(),
            judged: BTreeSet::new(),
            lines: lines(operations),
        };
        let mut index = Index::new(operations);
        for hint in hints.values() {
            if let Maker::Operation(place) = hint {
                index.used.insert(*place);
            }
        }
        for revision in revisions.into_iter().filter(|revision| *revision > 1) {
            let shown = traces.get(&revision).map_or(&[][..], Vec::as_slice);
            let revoked = revokes.get(&revision).map_or(&[][..], Vec::as_slice);
            if let Some(writers) = writers.get(&revision) {
                timeline.advance(revision);
                timeline.replay(revision, writers[0]);
                timeline.one_writer(revision, writers, revoked);
            } else if let Some(hint) = hints.get(&revision) {
                timeline.advance(revision);
                match hint {
                    // Of nobody in particular: it stays open.
                    Maker::Nobody if shown.is_empty() => {}
                    Maker::Nobody => timeline.made_by(revision, shown, &[], true, &mut index),
                    maker => timeline.repeat(revision, *maker),
                }
            } else if !shown.is_empty() {
                timeline.advance(revision);
                timeline.place(revision, shown, revoked, &mut index);
            } else if let Some(maker) = timeline
                .revocation(revision, revoked)
                .or_else(|| timeline.leave(revision, left.get(&revision)))
            {
                timeline.repeat(revision, maker);
                let others = vec![maker, Maker::Nobody];
                timeline.choices.insert(revision, others);
            }
        }
        let newest = timeline
            .seen
            .by_time
            .iter()
            .map(|(_, revision, _)| *revision);
        let newest = newest.max().unwrap_or(1);
        timeline.advance(newest + 1);
        timeline.unplaced = (0..operations.len())
            .filter(|place| shape::is_unknown(&operations[*place]))
            .filter(|place| !index.used.contains(place))
            .filter(|place| {
                let request = &operations[*place].request;
                !may_write(request).is_empty()
                    || matches!(request, Request::Revoke { lease } if *lease != 0)
            })
            .collect();
        timeline
    }

    pub(super) fn operation(&self, place: usize) -> &'a Operation {
        &self.recording.operations[place]
    }

    /// The operation that made a revision, where one did.
    pub(super) fn maker(&self, revision: i64) -> Option<&'a Operation> {
        match self.made.get(&revision)? {
            Maker::Operation(place) => Some(self.operation(*place)),
            _ => None,
        }
    }

    /// "c1's put of 2 (operation 7) at revision 42", as far as it is known.
    pub(super) fn cause(&self, revision: i64) -> String {
        match self.made.get(&revision) {
            Some(Maker::Operation(place)) => words::operation(self.operation(*place)),
            Some(Maker::LeaseEnd(lease)) => format!("the end of lease {lease}"),
            _ => format!("the write of revision {revision}"),
        }
    }

    /// Goes to the state before a revision; what is passed over is open.
    fn advance(&mut self, revision: i64) {
        let from = self.model.revision() + 1;
        self.open.extend(from..revision.min(from + OPEN_MAX));
        self.model.skip_to(revision - 1);
    }

    fn one_writer(&mut self, revision: i64, writers: &[usize], revoked: &[usize]) {
        if let [first, second, ..] = writers {
            let told = self.given_twice(revision, *first, *second);
            self.found.push(told);
        }
        for place in revoked {
            let Request::Revoke { lease } = self.operation(*place).request else {
                continue;
            };
            // A revocation that found keys would have made the next revision.
            let keys = self.model.keys_of_lease(lease, revision);
            if let Some(key) = keys.into_iter().next() {
                let told = self.given_twice(revision, writers[0], *place);
                self.mismatches.push(Mismatch {
                    source: Source::Operation(*place),
                    revision,
                    key,
                    expected: "a revision of its own".into(),
                    answered: "one that was taken".into(),
                    told: Some(Box::new(told)),
                });
            }
        }
    }

    fn given_twice(&self, revision: i64, first: usize, second: usize) -> Violation {
        let (first, second) = (self.operation(first), self.operation(second));
        let story = format!(
            "{} was acknowledged at revision {revision}. {} was acknowledged at the same revision.",
            words::operation(first),
            words::operation(second),
        );
        violation("revision given twice", story, &[first.id, second.id], &[])
    }

    /// Carries out an answered write, and goes on as it was answered.
    fn replay(&mut self, revision: i64, place: usize) {
        self.made.insert(revision, Maker::Operation(place));
        let operation = self.operation(place);
        let Some(response) = shape::response(operation) else {
            return;
        };
        let expected = self.carry_out(&operation.request);
        if expected.as_ref() == Some(response) && self.model.revision() == revision {
            return;
        }
        let (key, expected, answered) = match &expected {
            Some(expected) => words::difference(expected, response),
            None => Default::default(),
        };
        self.mismatches.push(Mismatch {
            source: Source::Operation(place),
            revision,
            key,
            expected,
            answered,
            told: None,
        });
        if self.model.revision() == revision {
            self.model.undo();
        }
        if let Some(txn) = as_answered(&operation.request, response) {
            // Not refused, or else there is nothing better than to do nothing.
            let _ = self.model.txn(&txn);
        }
        self.model.skip_to(revision);
    }

    fn carry_out(&mut self, request: &Request) -> Option<Response> {
        for lease in shape::leases(request) {
            self.model.assume_lease(lease);
        }
        let answered = self.model.txn(&as_txn(request)?).ok()?;
        as_response(request, answered)
    }

    /// Carries out what is known to have made a revision, whatever its answer was.
    fn repeat(&mut self, revision: i64, maker: Maker) {
        self.made.insert(revision, maker);
        let lease = match maker {
            Maker::LeavesLine(place) => {
                if let Some(leave) = shape::leaving_line(&self.operation(place).request) {
                    let _ = self.model.txn(&leave);
                }
                None
            }
            Maker::Operation(place) => {
                let request = &self.operation(place).request;
                self.carry_out(request);
                match request {
                    Request::Revoke { lease } => Some(*lease),
                    _ => None,
                }
            }
            Maker::LeaseEnd(lease) => Some(lease),
            Maker::Foreign | Maker::Nobody => None,
        };
        if let Some(lease) = lease {
            self.model.assume_lease(lease);
            let _ = self.model.revoke(lease);
        }
        self.model.skip_to(revision);
    }

    /// The answered revocation that has made this revision, of which nothing was seen.
    fn revocation(&mut self, revision: i64, revoked: &[usize]) -> Option<Maker> {
        let with_keys = revoked.iter().copied().filter(|place| {
            let request = &self.operation(*place).request;
            let has_keys = |lease| !self.model.keys_of_lease(lease, revision - 1).is_empty();
            matches!(request, Request::Revoke { lease } if has_keys(*lease))
        });
        let with_keys: Vec<usize> = with_keys.collect();
        if with_keys.is_empty() {
            return None;
        }
        self.advance(revision);
        let makers = self.fitting(revision, &[], &with_keys);
        makers.into_iter().next()
    }

    /// Who has left a line by this revision, as the answer says: the key was there, and it is not said of anything else.
    fn leave(&mut self, revision: i64, keys: Option<&Vec<&str>>) -> Option<Maker> {
        let there = keys?.iter().find_map(|key| {
            self.model.pair_at(key, revision - 1)?;
            let writers = self.lines.get(*key)?;
            writers.last().copied()
        });
        let maker = Maker::LeavesLine(there?);
        self.advance(revision);
        self.repeat(revision, maker);
        let hidden = matches!(
            fits(self.model.events_at(revision), &[], &self.spans),
            Fit::More
        );
        self.take_back(revision);
        hidden.then_some(maker)
    }

    /// Finds who made a revision that something was seen of.
    fn place(&mut self, revision: i64, shown: &[Trace<'a>], revoked: &[usize], index: &mut Index) {
        let is_foreign = |trace: &Trace| trace.pair.key.starts_with(FOREIGN);
        if shown.iter().all(is_foreign) || self.is_in_line(revision, shown) {
            self.made.insert(revision, Maker::Foreign);
            self.force(revision, shown);
            return;
        }
        let candidates = self.candidates(shown, index);
        let in_time = |place: &usize| {
            let first = self.seen.first(revision);
            first.is_none_or(|(at, _)| self.operation(*place).called < at)
        };
        let free: Vec<usize> = revoked
            .iter()
            .chain(&candidates)
            .copied()
            .filter(|place| !index.used.contains(place))
            .filter(in_time)
            .collect();
        let mut makers = self.fitting(revision, shown, &free);
        let ended = self.ended_lease(revision, shown);
        if makers.is_empty() {
            // Then it was the lease, if it can have been, even if not all of its keys went.
            makers.extend(ended.map(Maker::LeaseEnd));
        }
        self.made_by(revision, shown, &makers, !free.is_empty(), index);
        if !makers.is_empty() {
            // Or somebody that did not fit as things seem to be.
            makers.push(Maker::Nobody);
            self.choices.insert(revision, makers);
        }
    }

    /// Whether this is the key of a place in a line, taken, changed or left by one who stands in it; see
    /// [`crate::recording::place_key`]. Where the end of its lease explains more, it is that.
    fn is_in_line(&mut self, revision: i64, shown: &[Trace]) -> bool {
        let [trace] = shown else {
            return false;
        };
        let Some(writers) = self.lines.get(trace.pair.key.as_str()) else {
            return false;
        };
        let first = self.seen.first(revision);
        let may_have = |place: &usize| {
            let operation = self.operation(*place);
            let in_time = first.is_none_or(|(at, _)| operation.called < at);
            in_time && shape::may_stand(&operation.request, trace.deleted, &trace.pair.value)
        };
        let lease = self.lease_before(trace.pair);
        let others = lease != 0 && self.model.keys_of_lease(lease, revision - 1).len() > 1;
        writers.iter().any(may_have) && !(trace.deleted && others)
    }

    /// The first of these has made it, or somebody that is to be searched for.
    fn made_by(
        &mut self,
        revision: i64,
        shown: &[Trace<'a>],
        makers: &[Maker],
        may_be_put: bool,
        index: &mut Index,
    ) {
        match makers.first() {
            Some(Maker::LeaseEnd(lease)) => self.end_lease(revision, *lease, shown),
            Some(maker) => {
                if let Maker::Operation(place) = maker {
                    index.used.insert(*place);
                }
                self.repeat(revision, *maker);
            }
            None => {
                let candidates = self.candidates(shown, index);
                let told = self.told_of_nobody(revision, shown, &candidates, index);
                // In another state, that is because of something in the open, it may be.
                let may_be =
                    |trace: &&Trace| !self.open.is_empty() && (trace.deleted || may_be_put);
                match shown.first().filter(may_be) {
                    Some(trace) => {
                        self.leave_open(revision, shown);
                        self.doubt(revision, trace, told);
                    }
                    None => {
                        self.made.insert(revision, Maker::Nobody);
                        self.found.extend(told);
                    }
                }
                self.force(revision, shown);
            }
        }
    }

    /// Who can have done what was seen, those first who have done nothing else.
    fn fitting(&mut self, revision: i64, shown: &[Trace], free: &[usize]) -> Vec<Maker> {
        let operations = free.iter().map(|place| Maker::Operation(*place));
        let lease = self.ended_lease(revision, shown).map(Maker::LeaseEnd);
        let (mut exact, mut more, mut early) = (Vec::new(), Vec::new(), Vec::new());
        for maker in operations.chain(lease) {
            self.repeat(revision, maker);
            match fits(self.model.events_at(revision), shown, &self.spans) {
                Fit::Exact | Fit::More if self.is_early(maker, revision) => early.push(maker),
                Fit::Exact => exact.push(maker),
                Fit::More => more.push(maker),
                Fit::No => {}
            }
            self.take_back(revision);
        }
        exact.extend(more);
        exact.extend(early);
        exact
    }

    /// Whether a lease would have ended before its time, or be used after it.
    pub(super) fn is_early(&self, maker: Maker, revision: i64) -> bool {
        let Maker::LeaseEnd(id) = maker else {
            return false;
        };
        let (lease, first) = (self.leases.get(&id), self.seen.first(revision));
        lease.zip(first).is_some_and(|(lease, (at, _))| {
            lease.lives_at(at).is_some() || lease.lives_after(revision, at)
        })
    }

    fn take_back(&mut self, revision: i64) {
        self.made.remove(&revision);
        if self.model.events_at(revision).is_empty() {
            self.model.go_back_to(revision - 1);
        } else {
            self.model.undo();
        }
    }

    /// Writes without an answer that may have done this, in the order in which they were asked for.
    fn candidates(&self, shown: &[Trace], index: &Index) -> Vec<usize> {
        if let Some(put) = shown.iter().find(|trace| !trace.deleted) {
            let same = |place: &&usize| {
                let puts = shape::may_put(&self.operation(**place).request);
                let mut puts = puts.iter();
                puts.any(|(key, value)| {
                    *key == put.pair.key && (!put.whole || *value == put.pair.value)
                })
            };
            let puts = index.puts.get(put.pair.key.as_str());
            return puts.into_iter().flatten().filter(same).copied().collect();
        }
        let Some(first) = shown.first() else {
            return Vec::new();
        };
        let lease = self.lease_before(first.pair);
        let revokes = index.revokes.get(&lease).into_iter().flatten();
        let deletes = index.deletes.iter().filter(|place| {
            let ranges = may_write(&self.operation(**place).request);
            shape::touches(&ranges, &first.pair.key)
        });
        let mut all: Vec<usize> = revokes.chain(deletes).copied().collect();
        all.sort_unstable();
        all
    }

    /// The lease that a key had before its revision; 0 is none.
    fn lease_before(&self, pair: &Pair) -> i64 {
        let before = self.model.pair_at(&pair.key, pair.modified - 1);
        before.map_or(0, |before| before.lease)
    }

    /// The lease whose keys these deletions are.
    fn ended_lease(&self, revision: i64, shown: &[Trace]) -> Option<i64> {
        let lease = self.lease_before(shown.first()?.pair);
        let of_it = |trace: &Trace| {
            trace.deleted
                && trace.pair.modified == revision
                && self.lease_before(trace.pair) == lease
        };
        (lease != 0 && shown.iter().all(of_it)).then_some(lease)
    }

    fn end_lease(&mut self, revision: i64, lease: i64, shown: &[Trace]) {
        let keys = self.model.keys_of_lease(lease, revision - 1);
        let kept = keys.iter().any(|key| {
            let gone = shown.iter().any(|trace| trace.pair.key == *key);
            !gone
                && self
                    .spans
                    .iter()
                    .any(|span| span.shows(key, true, revision))
        });
        if kept {
            self.made.insert(revision, Maker::LeaseEnd(lease));
            self.split.push((lease, revision));
            self.force(revision, shown);
        } else {
            self.repeat(revision, Maker::LeaseEnd(lease));
        }
    }

    fn force(&mut self, revision: i64, shown: &[Trace]) {
        let event = |trace: &Trace| Event {
            deleted: trace.deleted,
            pair: trace.pair.clone(),
            prev: None,
        };
        let events: Vec<Event> = shown.iter().map(event).collect();
        self.model.force(&events);
        self.model.skip_to(revision);
    }

    /// Whoever made it is searched for.
    fn leave_open(&mut self, revision: i64, shown: &[Trace<'a>]) {
        self.open.push(revision);
        let keys = shown.iter().map(|trace| trace.pair.key.as_str());
        self.doubted.insert(revision, keys.collect());
    }

    fn doubt(&mut self, revision: i64, trace: &Trace, told: Option<Violation>) {
        let pair = Some(trace.pair).filter(|_| !trace.deleted);
        self.mismatches.push(Mismatch {
            source: trace.source,
            revision,
            key: trace.pair.key.clone(),
            expected: "nothing new".into(),
            answered: words::pair(&trace.pair.key, pair),
            told: told.map(Box::new),
        });
    }

    /// Tells of a change that nobody can have made.
    fn told_of_nobody(
        &self,
        revision: i64,
        shown: &[Trace],
        candidates: &[usize],
        index: &Index,
    ) -> Option<Violation> {
        let put = shown.iter().find(|trace| !trace.deleted);
        let trace = put.or(shown.first())?;
        let what = match trace.deleted {
            true => format!("{} deleted", words::name(&trace.pair.key)),
            false => words::pair(&trace.pair.key, Some(trace.pair)),
        };
        let (who, operations, watches) = self.who(trace.source);
        let said = format!("{who} shows {what} at revision {revision}.");
        let (rule, because, other) = self.reason(trace, candidates, index);
        let mut ids = operations;
        ids.extend(other.map(|place| self.operation(place).id));
        let story = format!("{said} {because}");
        Some(violation(rule, story, &ids, &watches))
    }

    fn reason(
        &self,
        trace: &Trace,
        candidates: &[usize],
        index: &Index,
    ) -> (&'static str, String, Option<usize>) {
        let told = |place: usize| words::operation(self.operation(place));
        let same = |operation: &Operation| {
            let request = &operation.request;
            match trace.deleted {
                true => shape::touches(&may_write(request), &trace.pair.key),
                false => shape::may_put(request)
                    .contains(&(trace.pair.key.as_str(), trace.pair.value.as_str())),
            }
        };
        let find = |wanted: &dyn Fn(&Operation) -> bool| {
            let mut all = self.recording.operations.iter();
            all.position(|operation| same(operation) && wanted(operation))
        };
        if let Some(place) = find(&|o| matches!(o.outcome, Outcome::Failed { .. })) {
            let words = format!("{} was answered as not done.", told(place));
            return ("refused write", words, Some(place));
        }
        let done = |place: &usize| index.used.contains(place);
        let answered = |o: &Operation| shape::written(o).is_some();
        let again = candidates.iter().copied().find(done);
        if let Some(place) = again.or_else(|| find(&answered).filter(|_| !trace.deleted)) {
            let words = format!("{} has had its effect at another revision.", told(place));
            return ("done twice", words, Some(place));
        }
        match candidates.first() {
            Some(place) => {
                let words = format!(
                    "{} is the only one that could have done it, and not in that state or not yet.",
                    told(*place)
                );
                ("phantom write", words, Some(*place))
            }
            None => ("phantom write", "Nobody has asked for that.".into(), None),
        }
    }

    /// Who says so: words, and ids of operations and watches.
    pub(super) fn who(&self, source: Source) -> (String, Vec<u64>, Vec<u64>) {
        match source {
            Source::Operation(place) => {
                let operation = self.operation(place);
                (words::operation(operation), vec![operation.id], Vec::new())
            }
            Source::Watch(place, _) => {
                let watch = &self.recording.watches[place];
                (words::watch(watch), Vec::new(), vec![watch.id])
            }
            Source::Dump(place) => {
                let member = self.recording.dumps[place].member;
                let words = format!("Member {member} in the end");
                (words, Vec::new(), Vec::new())
            }
        }
    }
}

fn lines(operations: &[Operation]) -> BTreeMap<String, Vec<usize>> {
    let mut lines: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, operation) in operations.iter().enumerate() {
        if let Some(key) = shape::line_key(&operation.request) {
            lines.entry(key).or_default().push(place);
        }
    }
    lines
}

/// Keys of places in lines, by the revisions at which their owners are said to have left.
fn left(operations: &[Operation]) -> BTreeMap<i64, Vec<&str>> {
    let mut all: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for operation in operations {
        let key = shape::leaves(&operation.request);
        if let Some((key, revision)) = key.zip(shape::revision(operation)) {
            all.entry(revision).or_default().push(key);
        }
    }
    all
}

enum Fit {
    Exact,
    /// It has also done what was not seen.
    More,
    No,
}

fn fits(events: &[Event], shown: &[Trace], spans: &[Span]) -> Fit {
    let would_show = |event: &Event| {
        let shows = |span: &Span| span.shows(&event.pair.key, event.deleted, event.pair.modified);
        spans.iter().any(shows)
    };
    let is_shown = |event: &&Event| shown.iter().any(|trace| trace.pair.key == event.pair.key);
    let same = |trace: &&Trace| {
        events.iter().any(|event| {
            event.deleted == trace.deleted
                && event.pair.key == trace.pair.key
                && (trace.deleted || !trace.whole || event.pair.value == trace.pair.value)
                && event.pair.lease == trace.pair.lease
        })
    };
    let mut hidden = events.iter().filter(|event| !is_shown(event));
    if shown.iter().filter(same).count() < shown.len() || hidden.any(would_show) {
        Fit::No
    } else if events.len() == shown.len() {
        Fit::Exact
    } else {
        Fit::More
    }
}

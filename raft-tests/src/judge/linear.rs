//! Whether writes whose outcome nobody knows explain what the timeline alone does not.
//!
//! A search after Wing and Gong, with Lowe's memory of what was tried. The order of all that was answered is given by
//! revisions, so what is searched is only where, in the open revisions, which of the unanswered writes took effect, if
//! any: at most once each, not before it was asked for, and not where a watch would have shown it. A component is the
//! keys that hang together by such writes and by transactions; several components may claim one open revision, so
//! what is found unexplainable is so, but not the other way round.

use super::claims::{Claim, each_claim};
use super::shape::{self, as_response, as_txn, depends_on, may_write};
use super::timeline::{Maker, Mismatch, Timeline};
use super::traces::Source;
use super::{violation, witness, words};
use crate::model::{self, Model};
use crate::recording::{Found, Operation, Outcome, Range, Request, Response, Step, Txn, Violation};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound;

/// Steps of one search. What is not decided by then is told as such.
pub(super) const STEPS_MAX: usize = 200_000;
/// The same for the many searches that make a set of operations small.
const SMALL_STEPS_MAX: usize = 5_000;
const SMALLER_TRIES_MAX: usize = 200;
/// A name for the doubt itself, that is no key.
pub(super) fn mark(doubt: &Mismatch) -> String {
    format!("\0{:?}", doubt.source)
}

/// Whether the search has already spoken of what this is about.
pub(super) fn is_judged(timeline: &Timeline, doubt: &Mismatch) -> bool {
    timeline.judged.contains(&doubt.key) || timeline.judged.contains(&mark(doubt))
}

/// Whether there may be something, in the open, that explains it.
pub(super) fn is_open(timeline: &Timeline, doubt: &Mismatch) -> bool {
    let Some(first) = timeline.open.first() else {
        return false;
    };
    if *first > doubt.revision {
        return false;
    }
    let ranges = ranges_of(timeline, doubt);
    let by_write = timeline.unplaced.iter().any(|place| {
        let request = &timeline.operation(*place).request;
        match request {
            // Which keys that concerns is known further down.
            Request::Revoke { .. } => true,
            _ => may_write(request)
                .iter()
                .any(|a| ranges.iter().any(|b| overlap(*a, (&b.0, &b.1)))),
        }
    });
    let by_lease = || {
        ranges.iter().any(|(key, end)| {
            let revision = doubt.revision;
            let mut before = timeline.model.pairs_at(key, end, revision);
            before.any(|pair| pair.lease != 0)
                || timeline
                    .model
                    .pairs_at(key, end, revision - 1)
                    .any(|pair| pair.lease != 0)
        })
    };
    let by_line = || {
        let mut lines = timeline.lines.keys();
        lines.any(|line| {
            ranges
                .iter()
                .any(|(key, end)| model::contains(key, end, line))
        })
    };
    by_write || by_lease() || by_line()
}

fn overlap(a: (&str, &str), b: (&str, &str)) -> bool {
    model::contains(a.0, a.1, b.0) || model::contains(b.0, b.1, a.0)
}

/// The keys that it is about, or may be about.
fn ranges_of(timeline: &Timeline, doubt: &Mismatch) -> Vec<(String, String)> {
    let key = vec![(doubt.key.clone(), String::new())];
    let Source::Operation(place) = doubt.source else {
        return key;
    };
    let request = &timeline.operation(place).request;
    // A read is as good as what it shows of each key; of others the parts do not stand alone.
    if matches!(request, Request::Range(_) | Request::Revoke { .. }) && !doubt.key.is_empty() {
        return key;
    }
    depends_on(request)
        .into_iter()
        .map(|(key, end)| (key.to_string(), end.to_string()))
        .collect()
}

/// What watches and the members' last states show that is not as in the model.
pub(super) fn shown_mismatches(timeline: &Timeline) -> Vec<Mismatch> {
    // Where nothing is in the open there is nothing to be explained by it.
    if timeline.open.is_empty() && timeline.choices.is_empty() {
        return Vec::new();
    }
    let mut all = Vec::new();
    each_claim(timeline, &mut |claim| {
        let expected = timeline.model.pair_at(claim.key, claim.revision);
        if !claim.state.is(expected) {
            all.push(Mismatch {
                source: claim.source,
                revision: claim.revision,
                key: claim.key.to_string(),
                expected: words::pair(claim.key, expected),
                answered: claim.words(),
                told: None,
            });
        }
    });
    all
}

/// Keys that hang together, and all that is known about them from the first open revision on.
pub(super) struct Component<'t, 'a> {
    timeline: &'t Timeline<'a>,
    pub(super) keys: BTreeSet<String>,
    /// Every key that there ever was.
    known: BTreeSet<String>,
    start: Model,
    slots: Vec<Slot<'a>>,
    /// Unanswered writes that may have taken effect, by place.
    optional: Vec<Maker>,
}

enum Slot<'a> {
    /// Open revisions with nothing between them.
    Open(Vec<i64>),
    Write {
        revision: i64,
        maker: Maker,
    },
    /// Something that was answered from the state of a revision.
    Answer {
        revision: i64,
        place: usize,
    },
    Claim(Claim<'a>),
    /// A lease was revoked without a revision: it has no keys.
    Gone {
        revision: i64,
        place: usize,
        lease: i64,
    },
}

pub(super) enum Verdict {
    /// With what at which open revision.
    Explained(BTreeMap<i64, Maker>),
    Unexplainable,
    Undecided,
}

impl Verdict {
    /// What has to stand where, if that explains it.
    pub(super) fn placed(&self) -> Option<&BTreeMap<i64, Maker>> {
        match self {
            Verdict::Explained(placed) => Some(placed).filter(|placed| !placed.is_empty()),
            Verdict::Unexplainable | Verdict::Undecided => None,
        }
    }
}

impl<'t, 'a> Component<'t, 'a> {
    pub(super) fn around(timeline: &'t Timeline<'a>, doubt: &Mismatch) -> Component<'t, 'a> {
        let known = known_keys(timeline);
        let mut keys = BTreeSet::new();
        for (key, end) in ranges_of(timeline, doubt) {
            add_range(&known, &key, &end, &mut keys);
        }
        close(timeline, &known, &mut keys);
        let first = timeline.open.first().copied().unwrap_or(i64::MAX);
        let start = timeline.model.section(first - 1, |key| keys.contains(key));
        let mut slots = pinned(timeline, &keys, first);
        slots.extend(
            timeline
                .open
                .iter()
                .map(|revision| (*revision, 0, Slot::Open(vec![*revision]))),
        );
        slots.sort_by_key(|(revision, rank, _)| (*revision, *rank));
        let mut merged: Vec<Slot> = Vec::new();
        for (_, _, slot) in slots {
            match (merged.last_mut(), slot) {
                (Some(Slot::Open(all)), Slot::Open(more)) => all.extend(more),
                (_, slot) => merged.push(slot),
            }
        }
        Component {
            optional: optional(timeline, &keys),
            timeline,
            known,
            keys,
            start,
            slots: merged,
        }
    }

    /// Everything that has to be explained, by place in the slots.
    pub(super) fn all(&self) -> BTreeSet<usize> {
        let has_to = |slot: &Slot| match slot {
            Slot::Open(_) => false,
            Slot::Write { maker, .. } => match maker {
                Maker::Operation(place) => {
                    shape::response(self.timeline.operation(*place)).is_some()
                }
                _ => false,
            },
            Slot::Answer { .. } | Slot::Claim(_) | Slot::Gone { .. } => true,
        };
        (0..self.slots.len())
            .filter(|place| has_to(&self.slots[*place]))
            .collect()
    }

    /// That a lease ended before its time is the last thing to be thought of: only where it is said.
    pub(super) fn search(
        &self,
        checked: &BTreeSet<usize>,
        steps_max: usize,
        early: bool,
    ) -> Verdict {
        let mut tried: HashSet<(usize, u64)> = HashSet::new();
        let mut steps = 0;
        let mut branches = vec![Branch {
            slot: 0,
            state: self.start.clone(),
            placed: BTreeMap::new(),
        }];
        while let Some(mut branch) = branches.pop() {
            loop {
                steps += 1;
                if steps > steps_max {
                    return Verdict::Undecided;
                }
                let Some(slot) = self.slots.get(branch.slot) else {
                    return Verdict::Explained(branch.placed);
                };
                if let Slot::Open(open) = slot {
                    if !tried.insert((branch.slot, branch.memory())) {
                        break;
                    }
                    // Nothing more in here is tried first: it comes last onto the stack.
                    for maker in &self.optional {
                        branches.extend(self.with(&branch, *maker, open, early));
                    }
                } else if !self.passes(slot, &mut branch.state, checked.contains(&branch.slot)) {
                    break;
                }
                branch.slot += 1;
            }
        }
        Verdict::Unexplainable
    }

    /// The branches in which this write takes an open revision: the next one that it may have, or one that is named
    /// somewhere. Between others there is nothing to choose.
    fn with(&self, branch: &Branch, maker: Maker, open: &[i64], early: bool) -> Vec<Branch> {
        if branch.placed.values().any(|placed| *placed == maker) {
            return Vec::new();
        }
        let free = open.iter().copied().filter(|revision| {
            *revision > branch.state.revision()
                && self.in_time(maker, *revision)
                && (early || !self.timeline.is_early(maker, *revision))
        });
        let next = free.clone().next();
        let named = |revision: &i64| {
            self.timeline.named.contains(revision) || self.timeline.doubted.contains_key(revision)
        };
        let revisions = free.filter(|revision| Some(*revision) == next || named(revision));
        revisions
            .filter_map(|revision| self.with_at(branch, maker, revision))
            .collect()
    }

    fn with_at(&self, branch: &Branch, maker: Maker, revision: i64) -> Option<Branch> {
        let mut state = branch.state.clone();
        state.skip_to(revision - 1);
        self.carry_out(maker, &mut state);
        let events = state.events_at(revision);
        // What was shown at this revision is a claim, and is looked at as such.
        let shown = self.timeline.doubted.get(&revision);
        let hidden = |key: &str, deleted: bool| {
            let spans = &self.timeline.spans;
            shown.is_some_and(|shown| shown.contains(key))
                || !spans.iter().any(|span| span.shows(key, deleted, revision))
        };
        if events.is_empty() || !events.iter().all(|e| hidden(&e.pair.key, e.deleted)) {
            return None;
        }
        state.forget_history();
        let mut placed = branch.placed.clone();
        placed.insert(revision, maker);
        Some(Branch {
            slot: branch.slot,
            state,
            placed,
        })
    }

    fn in_time(&self, maker: Maker, revision: i64) -> bool {
        let (Maker::Operation(place) | Maker::LeavesLine(place)) = maker else {
            return true;
        };
        let first = self.timeline.seen.first(revision);
        first.is_none_or(|(at, _)| self.timeline.operation(place).called < at)
    }

    fn carry_out(&self, maker: Maker, state: &mut Model) -> Option<Response> {
        let lease = match maker {
            Maker::LeaseEnd(lease) => lease,
            Maker::Operation(place) => match &self.timeline.operation(place).request {
                Request::Revoke { lease } => *lease,
                request => {
                    for lease in shape::leases(request) {
                        state.assume_lease(lease);
                    }
                    let answered = state.txn(&newest(request, as_txn(request)?)).ok()?;
                    return as_response(request, answered);
                }
            },
            Maker::LeavesLine(place) => {
                let request = &self.timeline.operation(place).request;
                if let Some(leave) = shape::leaving_line(request) {
                    let _ = state.txn(&leave);
                }
                return None;
            }
            Maker::Foreign | Maker::Nobody => return None,
        };
        state.assume_lease(lease);
        let _ = state.revoke(lease);
        None
    }

    fn passes(&self, slot: &Slot, state: &mut Model, checked: bool) -> bool {
        match slot {
            Slot::Open(_) => true,
            Slot::Write { revision, maker } => {
                if state.revision() >= *revision {
                    return false;
                }
                state.skip_to(revision - 1);
                let expected = self.carry_out(*maker, state);
                if *maker == Maker::Foreign {
                    // What somebody has shown of it is all that is known.
                    state.force(self.timeline.model.events_at(*revision));
                }
                let wrote = state.revision() == *revision;
                let fits = match maker {
                    Maker::Operation(place) => {
                        match shape::response(self.timeline.operation(*place)) {
                            Some(answered) if !matches!(answered, Response::Lease { .. }) => {
                                wrote
                                    && expected.is_some_and(|expected| {
                                        self.agree(&expected, answered, *place)
                                    })
                            }
                            _ => true,
                        }
                    }
                    _ => true,
                };
                state.skip_to(*revision);
                state.forget_history();
                fits || !checked
            }
            Slot::Answer { revision, place } => {
                state.skip_to(*revision);
                let operation = self.timeline.operation(*place);
                let Some(txn) = as_txn(&operation.request) else {
                    return true;
                };
                let expected = state.answer_at(&newest(&operation.request, txn), *revision);
                let expected = expected.and_then(|a| as_response(&operation.request, a));
                let fits = match (&expected, shape::response(operation)) {
                    (Some(expected), Some(answered)) => self.agree(expected, answered, *place),
                    _ => false,
                };
                fits || !checked
            }
            Slot::Gone {
                revision, lease, ..
            } => {
                state.skip_to(*revision);
                !checked || state.keys_of_lease(*lease, i64::MAX).is_empty()
            }
            Slot::Claim(claim) => {
                state.skip_to(claim.revision);
                !checked || claim.state.is(state.pair_at(claim.key, i64::MAX))
            }
        }
    }

    /// Whether two answers say the same, as far as this state knows.
    fn agree(&self, expected: &Response, answered: &Response, place: usize) -> bool {
        match (expected, answered, &self.timeline.operation(place).request) {
            (Response::Range(expected), Response::Range(answered), Request::Range(range)) => {
                self.agree_on(range, expected, answered)
            }
            (expected, answered, Request::Txn(txn)) => self.agree_on_txn(txn, expected, answered),
            _ => expected == answered,
        }
    }

    fn agree_on_txn(&self, txn: &Txn, expected: &Response, answered: &Response) -> bool {
        let (
            Response::Txn {
                succeeded: a,
                steps: expected,
            },
            Response::Txn {
                succeeded: b,
                steps: answered,
            },
        ) = (expected, answered)
        else {
            return false;
        };
        let steps = if *a { &txn.then } else { &txn.otherwise };
        let agree = |(step, (expected, answered)): (&Step, (&Response, &Response))| {
            match (step, expected, answered) {
                // Of the past there is nothing in this state.
                (Step::Range(range), ..) if range.revision > 0 => true,
                (Step::Range(range), Response::Range(expected), Response::Range(answered)) => {
                    self.agree_on(range, expected, answered)
                }
                (Step::Txn(nested), expected, answered) => {
                    self.agree_on_txn(nested, expected, answered)
                }
                _ => expected == answered,
            }
        };
        let both = expected.iter().zip(answered);
        a == b && expected.len() == answered.len() && steps.iter().zip(both).all(agree)
    }

    /// Whether there is no key in the range but those of the component.
    fn covers(&self, range: &Range) -> bool {
        let mut inside = BTreeSet::new();
        add_range(&self.known, &range.key, &range.end, &mut inside);
        inside.is_subset(&self.keys)
    }

    /// Of keys that are not in the component nothing is known.
    fn agree_on(&self, range: &Range, expected: &Found, answered: &Found) -> bool {
        if range.end.is_empty() {
            return expected == answered;
        }
        let own = |found: &Found| {
            let inside = found
                .pairs
                .iter()
                .filter(|pair| self.keys.contains(&pair.key));
            inside.cloned().collect::<Vec<_>>()
        };
        if expected.count != answered.count && self.covers(range) {
            return false;
        }
        match (expected.more, answered.more) {
            _ if range.count_only => true,
            (false, false) => own(expected) == own(answered),
            // As many as were let through.
            (false, true) => own(answered)
                .iter()
                .all(|pair| expected.pairs.contains(pair)),
            (true, _) => true,
        }
    }

    /// The fewest of the slots that cannot be explained together.
    fn smallest(&self) -> BTreeSet<usize> {
        let mut kept: Vec<usize> = self.all().into_iter().collect();
        let mut tries = 0;
        let mut fails = |some: &[usize]| {
            tries += 1;
            let checked = some.iter().copied().collect();
            tries <= SMALLER_TRIES_MAX
                && matches!(
                    self.search(&checked, SMALL_STEPS_MAX, true),
                    Verdict::Unexplainable
                )
        };
        let mut parts = 2;
        while kept.len() > 1 {
            let size = kept.len().div_ceil(parts);
            let chunks: Vec<Vec<usize>> = kept.chunks(size).map(<[usize]>::to_vec).collect();
            let alone = chunks.iter().find(|chunk| fails(chunk));
            if let Some(alone) = alone {
                kept = alone.clone();
                parts = 2;
                continue;
            }
            let without = chunks.iter().map(|chunk| {
                let rest = kept.iter().filter(|place| !chunk.contains(place));
                rest.copied().collect::<Vec<usize>>()
            });
            let without = without.filter(|rest| !rest.is_empty());
            match without.into_iter().find(|rest| fails(rest)) {
                Some(rest) => {
                    kept = rest;
                    parts = (parts - 1).max(2);
                }
                None if size > 1 => parts = (parts * 2).min(kept.len()),
                None => break,
            }
        }
        kept.into_iter().collect()
    }

    /// `smallest`: with the fewest operations that cannot be explained together, which takes its time.
    pub(super) fn unexplainable(&self, doubt: &Mismatch, smallest: bool) -> Violation {
        let (mut ids, mut watches, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let together = if smallest {
            self.smallest()
        } else {
            BTreeSet::new()
        };
        for place in together {
            let source = match &self.slots[place] {
                Slot::Answer { place, .. }
                | Slot::Gone { place, .. }
                | Slot::Write {
                    maker: Maker::Operation(place),
                    ..
                } => Source::Operation(*place),
                Slot::Claim(claim) => claim.source,
                _ => continue,
            };
            let (who, operations, shown) = self.timeline.who(source);
            ids.extend(operations);
            watches.extend(shown);
            told.push(who);
        }
        let made = self.timeline.model.pair_at(&doubt.key, doubt.revision);
        let maker = made.and_then(|pair| self.timeline.maker(pair.modified));
        ids.extend(maker.map(|operation| operation.id));
        told.truncate(4);
        let story = format!(
            "At revision {} there should be {}, but {} was answered. None of the writes with unknown outcome explains {}, wherever it took effect.",
            doubt.revision,
            doubt.expected,
            doubt.answered,
            told.join(" together with "),
        );
        violation("not linearizable", story, &ids, &watches)
    }

    pub(super) fn undecided(&self, doubt: &Mismatch) -> Violation {
        let (who, ids, watches) = self.timeline.who(doubt.source);
        let story = format!(
            "Whether {who} can be explained at revision {} is undecided after {STEPS_MAX} steps. There are {} writes with unknown outcome for {} keys.",
            doubt.revision,
            self.optional.len(),
            self.keys.len(),
        );
        violation("undecided", story, &ids, &watches)
    }
}

struct Branch {
    slot: usize,
    state: Model,
    placed: BTreeMap<i64, Maker>,
}

impl Branch {
    /// Stands for all that matters for what comes.
    fn memory(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.state.hash(&mut hasher);
        let mut used: Vec<String> = self.placed.values().map(|m| format!("{m:?}")).collect();
        used.sort_unstable();
        used.hash(&mut hasher);
        hasher.finish()
    }
}

/// A plain read of the past is looked at where it was the present; what transactions read of it is passed over, but for
/// that it was not the future. Limits are for what was let through, which is known from the answer.
fn newest(request: &Request, mut txn: model::Txn) -> model::Txn {
    fn unlimited(txn: &mut model::Txn) {
        for step in txn.then.iter_mut().chain(&mut txn.otherwise) {
            match step {
                model::Step::Range(range) => range.limit = 0,
                model::Step::Txn(nested) => unlimited(nested),
                _ => {}
            }
        }
    }
    unlimited(&mut txn);
    if let (Request::Range(_), [model::Step::Range(range)]) = (request, txn.then.as_mut_slice()) {
        range.revision = 0;
    }
    txn
}

fn known_keys(timeline: &Timeline) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = timeline.model.all_keys().map(String::from).collect();
    for place in &timeline.unplaced {
        for (key, _) in shape::may_put(&timeline.operation(*place).request) {
            known.insert(key.to_string());
        }
    }
    known
}

fn add_range(known: &BTreeSet<String>, key: &str, end: &str, keys: &mut BTreeSet<String>) {
    if end.is_empty() {
        keys.insert(key.to_string());
        return;
    }
    let from = (Bound::Included(key), Bound::Unbounded);
    let inside = known.range::<str, _>(from);
    let inside = inside.take_while(|other| model::contains(key, end, other));
    keys.extend(inside.cloned());
}

/// Adds the keys that hang together with those that are there.
fn close(timeline: &Timeline, known: &BTreeSet<String>, keys: &mut BTreeSet<String>) {
    loop {
        let before = keys.len();
        let mut leases = BTreeSet::new();
        for operation in &timeline.recording.operations {
            // A plain read shows its keys one by one. All else is as a whole or not at all.
            let whole = !matches!(operation.request, Request::Range(_));
            let ranges = depends_on(&operation.request);
            let concerned = ranges.iter().any(|(key, end)| has_one(keys, key, end));
            if whole && concerned && !matches!(operation.outcome, Outcome::Failed { .. }) {
                for (key, end) in ranges {
                    add_range(known, key, end, keys);
                }
                leases.extend(shape::leases(&operation.request));
            }
            if let Some((key, lease)) = place_and_lease(&operation.request)
                && keys.contains(&key)
            {
                leases.insert(lease);
            }
        }
        for operation in &timeline.recording.operations {
            if let Some((key, lease)) = place_and_lease(&operation.request)
                && leases.contains(&lease)
            {
                keys.insert(key);
            }
            if shape::leases(&operation.request)
                .iter()
                .any(|lease| leases.contains(lease))
            {
                for (key, _) in shape::may_put(&operation.request) {
                    keys.insert(key.to_string());
                }
            }
        }
        if keys.len() == before {
            return;
        }
    }
}

fn place_and_lease(request: &Request) -> Option<(String, i64)> {
    shape::line_key(request).zip(shape::line_lease(request))
}

fn has_one(keys: &BTreeSet<String>, key: &str, end: &str) -> bool {
    if end.is_empty() {
        return keys.contains(key);
    }
    let mut from = keys.range::<str, _>((Bound::Included(key), Bound::Unbounded));
    from.next()
        .is_some_and(|first| model::contains(key, end, first))
}

/// All that has its revision, with a rank among those of the same: what is written comes before what is read.
fn pinned<'a>(
    timeline: &Timeline<'a>,
    keys: &BTreeSet<String>,
    first: i64,
) -> Vec<(i64, u8, Slot<'a>)> {
    let mut slots = Vec::new();
    for (revision, maker) in timeline.made.range(first..) {
        let revision = *revision;
        let events = timeline.model.events_at(revision);
        let mut concerned = events.iter().any(|event| keys.contains(&event.pair.key));
        if let Maker::Operation(place) = maker {
            let writes = may_write(&timeline.operation(*place).request);
            concerned |= writes.iter().any(|(key, end)| has_one(keys, key, end));
        }
        if concerned {
            let maker = *maker;
            slots.push((revision, 1, Slot::Write { revision, maker }));
        }
    }
    for (place, operation) in timeline.recording.operations.iter().enumerate() {
        if let (Request::Revoke { lease }, Some(revision)) =
            (&operation.request, shape::revision(operation))
            && revision >= first
            && timeline.made.get(&revision) != Some(&Maker::Operation(place))
        {
            let lease = *lease;
            let gone = Slot::Gone {
                revision,
                place,
                lease,
            };
            slots.push((revision, 2, gone));
        }
        let Some(revision) = witness::answered_from(operation) else {
            continue;
        };
        let ranges = depends_on(&operation.request);
        if revision >= first && ranges.iter().any(|(key, end)| has_one(keys, key, end)) {
            slots.push((revision, 2, Slot::Answer { revision, place }));
        }
    }
    each_claim(timeline, &mut |claim| {
        if claim.revision >= first && keys.contains(claim.key) {
            slots.push((claim.revision, 3, Slot::Claim(claim)));
        }
    });
    slots
}

/// Whether a place may have been left otherwise than with its lease: by one who was asked to, or by the server for a
/// client that did not get it.
fn may_leave(timeline: &Timeline, place: usize, key: &str) -> bool {
    let has_it = shape::response(timeline.operation(place)).is_some();
    let mut operations = timeline.recording.operations.iter();
    !has_it
        || operations.any(|operation| {
            let failed = matches!(operation.outcome, Outcome::Failed { .. });
            !failed && shape::leaves(&operation.request) == Some(key)
        })
}

/// Unanswered writes, and ends of leases, that concern the keys.
fn optional(timeline: &Timeline, keys: &BTreeSet<String>) -> Vec<Maker> {
    let concerns = |operation: &Operation| match operation.request {
        Request::Revoke { .. } => true,
        _ => may_write(&operation.request)
            .iter()
            .any(|(key, end)| has_one(keys, key, end)),
    };
    let writes = timeline.unplaced.iter().copied();
    let mut all: Vec<Maker> = writes
        .filter(|place| concerns(timeline.operation(*place)))
        .map(Maker::Operation)
        .collect();
    let mut leases = BTreeSet::new();
    for operation in &timeline.recording.operations {
        let own = |(key, _): &(&str, &str)| keys.contains(*key);
        if shape::may_put(&operation.request).iter().any(own) {
            leases.extend(shape::leases(&operation.request));
        }
        let place = place_and_lease(&operation.request);
        leases.extend(
            place
                .filter(|(key, _)| keys.contains(key))
                .map(|(_, lease)| lease),
        );
    }
    all.extend(leases.into_iter().map(Maker::LeaseEnd));
    for key in keys {
        let writers = timeline.lines.get(key).into_iter().flatten().copied();
        let may_leave = writers.filter(|place| may_leave(timeline, *place, key));
        all.extend(may_leave.map(Maker::LeavesLine));
    }
    all
}

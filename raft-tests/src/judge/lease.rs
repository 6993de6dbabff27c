//! Leases: not ended early, not left standing, gone with all their keys at once, and of no use afterwards.
//!
//! Early: an acknowledged grant or renewal took effect after it was asked for. So a lease whose end was known at a time
//! must not have such a one asked for less than its time to live (less [`EARLY_SLACK`]) before.
//!
//! Late: when the last fault is over, and there is a leader, a key of a lease is gone after the time to live and
//! [`LATE_BOUND`] since the last grant or renewal, the healing, or the last change of the leader (who gives each lease
//! its whole time anew), whichever came last.

use super::shape;
use super::timeline::{Maker, Timeline};
use super::traces::Span;
use super::{violation, words};
use crate::recording::{Operation, Outcome, Pair, Request, Response, Role, Violation};
use std::collections::BTreeMap;

/// For clocks that do not go at the same speed, nanoseconds.
pub(super) const EARLY_SLACK: u64 = 100_000_000;
/// For an election, and for what ends leases to come round, nanoseconds.
pub(super) const LATE_BOUND: u64 = 5_000_000_000;
/// A renewal without an answer has had its effect by then, or never has, nanoseconds.
const UNKNOWN_UNTIL: u64 = 10_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// What was done with one lease.
#[derive(Default)]
pub(super) struct Lease<'a> {
    /// Grants that may have had an effect.
    pub(super) grants: Vec<&'a Operation>,
    /// Acknowledged grants and renewals of a lease that was there, with the time to live.
    renewed: Vec<(&'a Operation, u64)>,
    /// Grants and renewals without an answer.
    unknown: Vec<&'a Operation>,
    /// Revocations that may have had an effect.
    pub(super) revoked: Vec<&'a Operation>,
    /// Writes that gave it a key, and locks and campaigns that succeeded with it.
    used: Vec<&'a Operation>,
    ttl: u64,
}

/// The violations of this family.
pub(super) fn judge(timeline: &Timeline) -> Vec<Violation> {
    let leases = &timeline.leases;
    let mut found = Vec::new();
    for (revision, maker) in &timeline.made {
        if let Maker::LeaseEnd(id) = maker
            && let Some(lease) = leases.get(id)
        {
            found.extend(early(timeline, *id, lease, *revision));
        }
    }
    for (id, revision) in &timeline.split {
        found.push(split(timeline, *id, *revision));
    }
    let (ends, shown, leader_since) =
        (ends(timeline), Shown::all(timeline), leader_since(timeline));
    for (id, lease) in leases {
        found.extend(after_end(timeline, *id, lease, ends.get(id).copied()));
        if let Some(shown) = shown.get(id) {
            found.extend(late(timeline, lease, shown, leader_since));
        }
    }
    found
}

/// The first revision at which each lease is known to have ended.
fn ends(timeline: &Timeline) -> BTreeMap<i64, i64> {
    let mut all = BTreeMap::new();
    for (revision, maker) in &timeline.made {
        let lease = match maker {
            Maker::LeaseEnd(lease) => *lease,
            Maker::Operation(place) => match timeline.operation(*place).request {
                Request::Revoke { lease } => lease,
                _ => continue,
            },
            Maker::Foreign | Maker::LeavesLine(_) | Maker::Nobody => continue,
        };
        if !timeline.guessed.contains(revision) {
            all.entry(lease).or_insert(*revision);
        }
    }
    all
}

/// Keys of one lease as they were shown of the newest state.
#[derive(Default)]
struct Shown<'a> {
    /// The first of each read.
    reads: Vec<(&'a Operation, &'a Pair)>,
    /// With the member.
    dump: Option<(u64, &'a Pair)>,
}

impl<'a> Shown<'a> {
    fn all(timeline: &Timeline<'a>) -> BTreeMap<i64, Shown<'a>> {
        let mut all: BTreeMap<i64, Shown> = BTreeMap::new();
        for operation in &timeline.recording.operations {
            let (Request::Range(range), Some(Response::Range(found))) =
                (&operation.request, shape::response(operation))
            else {
                continue;
            };
            if range.serializable || range.revision > 0 {
                continue;
            }
            for pair in found.pairs.iter().filter(|pair| pair.lease != 0) {
                let reads = &mut all.entry(pair.lease).or_default().reads;
                if reads.last().is_none_or(|(last, _)| last.id != operation.id) {
                    reads.push((operation, pair));
                }
            }
        }
        for dump in &timeline.recording.dumps {
            for pair in dump.pairs.iter().filter(|pair| pair.lease != 0) {
                let shown = &mut all.entry(pair.lease).or_default().dump;
                shown.get_or_insert((dump.member, pair));
            }
        }
        all
    }
}

/// All leases that operations speak of, by id.
pub(super) fn leases(operations: &[Operation]) -> BTreeMap<i64, Lease<'_>> {
    let mut all: BTreeMap<i64, Lease> = BTreeMap::new();
    for operation in operations {
        if matches!(operation.outcome, Outcome::Failed { .. }) {
            continue;
        }
        let answered = match shape::response(operation) {
            Some(Response::Lease { ttl }) => *ttl,
            _ => 0,
        };
        match &operation.request {
            Request::Grant { lease, ttl } => {
                let lease = all.entry(*lease).or_default();
                let ttl = if answered > 0 { answered } else { *ttl };
                let ttl = ttl.max(0).unsigned_abs().saturating_mul(SECOND);
                lease.grants.push(operation);
                lease.ttl = lease.ttl.max(ttl);
                match operation.returned.filter(|_| !shape::is_unknown(operation)) {
                    Some(_) => lease.renewed.push((operation, ttl)),
                    None => lease.unknown.push(operation),
                }
            }
            Request::KeepAlive { lease } => {
                let lease = all.entry(*lease).or_default();
                if answered > 0 {
                    let ttl = answered.unsigned_abs().saturating_mul(SECOND);
                    lease.renewed.push((operation, ttl));
                } else if shape::is_unknown(operation) {
                    lease.unknown.push(operation);
                }
            }
            Request::Revoke { lease } => all.entry(*lease).or_default().revoked.push(operation),
            Request::Lock { lease, .. } | Request::Campaign { lease, .. } => {
                if shape::response(operation).is_some() {
                    all.entry(*lease).or_default().used.push(operation);
                }
            }
            request => {
                for lease in shape::leases(request) {
                    if shape::written(operation).is_some() {
                        all.entry(lease).or_default().used.push(operation);
                    }
                }
            }
        }
    }
    all
}

impl Lease<'_> {
    /// The grant or renewal, and its time to live, that forbids that the lease had run out by this time.
    pub(super) fn lives_at(&self, at: u64) -> Option<(&Operation, u64)> {
        if self.revoked.iter().any(|revoke| revoke.called < at) {
            return None;
        }
        let too_near = |(renewal, ttl): &&(&Operation, u64)| {
            renewal.called < at && at + EARLY_SLACK < renewal.called.saturating_add(*ttl)
        };
        let renewed = self.renewed.iter().rev().find(too_near);
        renewed.map(|(renewal, ttl)| (*renewal, *ttl))
    }

    /// Whether it was of use, as the only one of its id, after this revision that was first known of at this time.
    pub(super) fn lives_after(&self, revision: i64, at: u64) -> bool {
        let used = |write: &Operation| shape::written(write) > Some(revision);
        let renewed = |(renewal, _): &(&Operation, u64)| renewal.called > at;
        self.grants.len() <= 1
            && (self.used.iter().any(|write| used(write)) || self.renewed.iter().any(renewed))
    }
}

fn early(timeline: &Timeline, id: i64, lease: &Lease, revision: i64) -> Option<Violation> {
    let (at, source) = timeline.seen.first(revision)?;
    let (renewal, ttl) = lease.lives_at(at)?;
    let (who, mut ids, watches) = timeline.who(source);
    ids.push(renewal.id);
    let story = format!(
        "{} was acknowledged, for {} s from {} on at the least. {who} knew at {} of revision {revision}, at which lease {id} had ended.",
        words::operation(renewal),
        ttl / SECOND,
        words::time(renewal.called),
        words::time(at),
    );
    Some(violation("lease: ended early", story, &ids, &watches))
}

fn split(timeline: &Timeline, id: i64, revision: i64) -> Violation {
    let keys = timeline.model.keys_of_lease(id, revision);
    let gone: Vec<String> = timeline
        .model
        .events_at(revision)
        .iter()
        .map(|event| words::name(&event.pair.key))
        .collect();
    let kept: Vec<String> = keys.iter().map(|key| words::name(key)).collect();
    let watches: Vec<u64> = timeline
        .recording
        .watches
        .iter()
        .filter(|watch| {
            let shows = |span: Span| keys.iter().any(|key| span.shows(key, true, revision));
            Span::new(watch).is_some_and(shows)
        })
        .map(|watch| watch.id)
        .collect();
    let story = format!(
        "At revision {revision} lease {id} ended and {} went. {} of the same lease did not.",
        gone.join(", "),
        kept.join(", ")
    );
    violation("lease: keys went one by one", story, &[], &watches)
}

/// A lease whose id was granted once is not used after it has ended.
fn after_end(timeline: &Timeline, id: i64, lease: &Lease, ended: Option<i64>) -> Vec<Violation> {
    if lease.grants.len() > 1 {
        return Vec::new();
    }
    let revoked = lease.revoked.iter().filter_map(|revoke| {
        let at = revoke.returned.filter(|_| !shape::is_unknown(revoke))?;
        Some((at, *revoke))
    });
    let revoked = revoked.min_by_key(|(at, _)| *at);
    let by_end = ended.and_then(|revision| timeline.seen.first(revision));
    let known = revoked
        .map(|(at, _)| at)
        .into_iter()
        .chain(by_end.map(|(at, _)| at));
    let known = known.min().unwrap_or(u64::MAX);
    let mut late: Vec<&Operation> = lease.used.clone();
    late.extend(lease.renewed.iter().map(|(renewal, _)| *renewal));
    let is_after = |operation: &&&Operation| {
        let by_revision = match (shape::written(operation), ended) {
            (Some(revision), Some(ended)) => revision > ended,
            _ => false,
        };
        !matches!(operation.request, Request::Grant { .. })
            && (by_revision || operation.called > known)
    };
    let tell = |operation: &&Operation| {
        let mut ids = vec![operation.id];
        let end = match (revoked, ended) {
            (Some((_, revoke)), _) => {
                ids.push(revoke.id);
                format!("{} had been acknowledged before", words::operation(revoke))
            }
            (None, Some(revision)) => format!("The lease had ended at revision {revision}"),
            (None, None) => "The lease had ended".into(),
        };
        let story = format!(
            "{} succeeded. {end}, and lease {id} was not granted anew.",
            words::operation(operation)
        );
        violation("lease: used after its end", story, &ids, &[])
    };
    late.iter().filter(is_after).map(tell).collect()
}

/// A key that its lease should have taken along.
fn late(timeline: &Timeline, lease: &Lease, shown: &Shown, leader_since: u64) -> Option<Violation> {
    let run = &timeline.recording.run;
    let healed = run.healed.filter(|_| !lease.grants.is_empty())?;
    let answered = lease
        .renewed
        .iter()
        .filter_map(|(renewal, _)| renewal.returned);
    let unknown = lease.unknown.iter().map(|renewal| {
        let latest = renewal.called + UNKNOWN_UNTIL;
        renewal.returned.map_or(latest, |at| at.max(latest))
    });
    let last = answered.chain(unknown).max()?;
    let since = last.max(healed).max(leader_since);
    let deadline = since.saturating_add(lease.ttl).saturating_add(LATE_BOUND);
    let read = shown.reads.iter().find(|(read, _)| read.called > deadline);
    let read = read.map(|(read, pair)| (words::operation(read), read.called, *pair, vec![read.id]));
    let dump = shown.dump.filter(|_| run.length > deadline);
    let dumped = dump.map(|(member, pair)| {
        let who = format!("Member {member} in the end");
        (who, run.length, pair, Vec::new())
    });
    let (who, at, pair, ids) = read.or(dumped)?;
    let story = format!(
        "{who} has {} at {}. Its lease had to end by {}.",
        words::pair(&pair.key, Some(pair)),
        words::time(at),
        words::time(deadline)
    );
    Some(violation("lease: ended late", story, &ids, &[]))
}

/// Since when the last leader leads, as far as it was looked at.
fn leader_since(timeline: &Timeline) -> u64 {
    let samples = || timeline.recording.samples.iter();
    let leads = samples().filter(|sample| sample.role == Role::Leader);
    let term = leads.clone().map(|sample| sample.term).max();
    let of_term = leads.filter(|sample| Some(sample.term) == term);
    of_term.map(|sample| sample.at).min().unwrap_or(0)
}

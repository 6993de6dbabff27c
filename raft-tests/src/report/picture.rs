//! What the page shows, as values: every decision on what is drawn where is made here, and the page's script only
//! scales, colours and answers clicks. Times are nanoseconds since the run began.

use super::clients::{self, Lane};
use super::dumps::{self, Row};
use super::faults::{self, Band};
use super::members::{self, Names, Strip};
use super::part::{Part, Span, nearest};
use super::revisions::{self, Made};
use super::watches::{self, WatchLane};
use crate::recording::{Operation, Outcome, Recording, Role, Violation, Watch, WatchBody};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How much of a run a page carries.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub operations: usize,
    /// Messages of watches.
    pub messages: usize,
    /// Lanes of watches.
    pub watches: usize,
    pub findings: usize,
    /// For the words of all operations and messages together.
    pub text_bytes: usize,
}

impl Default for Limits {
    /// Some 25 MB of page at the most, which a browser opens in a second or two.
    fn default() -> Limits {
        Limits {
            operations: 50_000,
            messages: 50_000,
            watches: 200,
            findings: 100,
            text_bytes: 16 << 20,
        }
    }
}

/// See the module head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Picture {
    pub run: Run,
    pub counts: Counts,
    pub findings: Vec<Finding>,
    /// What the view opens on; nothing for the whole run.
    pub focus: Option<Span>,
    /// What is drawn one by one, where that is not all.
    pub part: Option<Part>,
    /// What this page leaves out, in sentences.
    pub notes: Vec<String>,
    pub overview: Overview,
    pub bands: Vec<Band>,
    pub lanes: Vec<Lane>,
    pub watches: Vec<WatchLane>,
    pub strips: Vec<Strip>,
    pub revisions: Vec<Made>,
    pub dumps: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    pub level: String,
    /// Decimal, as text: it may be more than a script's numbers hold.
    pub seed: String,
    pub replay: String,
    pub members: Vec<String>,
    pub began: String,
    pub length: u64,
    pub healed: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    pub ok: usize,
    pub failed: usize,
    pub unknown: usize,
    pub clients: usize,
    pub watches: usize,
    pub events: usize,
    /// By kind, the most frequent first.
    pub faults: Vec<(String, usize)>,
    /// How often a member was seen to lead a new term.
    pub elections: usize,
    pub term: u64,
    pub revision: i64,
}

/// A violation, and what of it can be pointed at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub rule: String,
    pub story: String,
    /// Ids, those of the Kubernetes API's calls too, in the order of their calls; the page numbers them 1, 2, 3.
    pub operations: Vec<u64>,
    pub watches: Vec<u64>,
    pub span: Option<Span>,
}

/// How much went on when, over all of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// Length of one bucket.
    pub bucket: u64,
    /// Calls that began in it: answered, failed, unknown.
    pub buckets: Vec<[u32; 3]>,
}

/// How many buckets an overview has at most.
const BUCKETS: u64 = 600;

pub fn paint(recording: &Recording, violations: &[Violation], limits: Limits) -> Picture {
    let length = length(recording);
    let findings: Vec<Finding> = violations
        .iter()
        .take(limits.findings)
        .map(|violation| finding(recording, violation))
        .collect();
    let unexplained = findings.iter().find_map(|finding| finding.span);
    let focus = unexplained.map(|span| span.padded(length));
    let centre = unexplained.map_or_else(|| first_fault(recording), |span| span.middle());
    let named = Named::of(&findings);
    let names = Names::of(recording);
    let mut notes = Vec::new();

    let calls = recording
        .operations
        .iter()
        .map(|operation| operation.called);
    let part = nearest(calls.collect(), centre, limits.operations);
    let texts = (recording.operations.len().min(limits.operations) + recording.rest.len()) * 2
        + messages(recording).min(limits.messages);
    let room = (limits.text_bytes / texts.max(1)).clamp(60, 4000);
    if let Some(part) = &part {
        notes.push(format!(
            "Of {} operations this page draws {} one by one, those around {}; the others are counted per client and time.",
            recording.operations.len(),
            part.shown,
            if focus.is_some() { "what is unexplained" } else { "the first fault" },
        ));
    }
    if violations.len() > findings.len() {
        notes.push(format!(
            "Of {} violations this page shows the first {}.",
            violations.len(),
            findings.len()
        ));
    }
    let scale = Scale {
        length,
        centre,
        room,
        limits,
    };
    let watches = watches::paint(recording, &named, &names, &scale, &mut notes);
    let revisions = revisions::paint(recording, part.map(|part| part.span));
    if part.is_some() || !notes.is_empty() {
        notes.push("All of it is in recording.json, beside this page.".into());
    }
    if !recording.run.smaller.is_empty() {
        notes.push(recording.run.smaller.clone());
    }
    Picture {
        run: run(recording, &names, length),
        counts: counts(recording),
        focus,
        part,
        notes,
        overview: overview(calls_of_all(recording), length),
        bands: faults::paint(&recording.faults, &names, length),
        lanes: clients::paint(recording, &named, &names, part, length, room),
        watches,
        strips: members::paint(recording, &names, length),
        revisions,
        dumps: dumps::paint(recording, &names),
        findings,
    }
}

/// How all of a run is drawn.
#[derive(Debug)]
pub(super) struct Scale {
    pub(super) length: u64,
    /// Around which time, where not all is drawn.
    pub(super) centre: u64,
    /// For the words of one item, in characters.
    pub(super) room: usize,
    pub(super) limits: Limits,
}

/// What violations point at.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) operations: BTreeSet<u64>,
    pub(super) watches: BTreeSet<u64>,
}

impl Named {
    fn of(findings: &[Finding]) -> Named {
        let ids = |of: fn(&Finding) -> &Vec<u64>| findings.iter().flat_map(of).copied().collect();
        Named {
            operations: ids(|finding| &finding.operations),
            watches: ids(|finding| &finding.watches),
        }
    }
}

/// As the run says, or what it takes to hold everything.
fn length(recording: &Recording) -> u64 {
    let operations = recording.operations.iter();
    let times = operations
        .map(|operation| operation.returned.unwrap_or(operation.called))
        .chain(
            recording
                .rest
                .iter()
                .map(|call| call.returned.unwrap_or(call.called)),
        )
        .chain(recording.samples.iter().map(|sample| sample.at))
        .chain(recording.faults.iter().map(|fault| fault.from))
        .chain(recording.faults.iter().filter_map(|fault| fault.until))
        .chain(recording.all_watches().map(|(_, watch, _)| watch.called))
        .chain(
            recording
                .all_watches()
                .filter_map(|(_, watch, _)| Some(watch.messages.last()?.at)),
        );
    times.fold(recording.run.length.max(1), u64::max)
}

fn first_fault(recording: &Recording) -> u64 {
    recording
        .faults
        .iter()
        .map(|fault| fault.from)
        .min()
        .unwrap_or(0)
}

fn messages(recording: &Recording) -> usize {
    let watches = recording.all_watches();
    watches.map(|(_, watch, _)| watch.messages.len()).sum()
}

/// What there is of a violation in the recording: ids that are not in it are left out.
fn finding(recording: &Recording, violation: &Violation) -> Finding {
    let operations = recording.operations.iter();
    let operations = operations.map(|one| (one.called, one.id, one.returned));
    let rest = recording.rest_calls();
    let calls = operations.chain(rest.map(|(id, call)| (call.called, id, call.returned)));
    let calls: BTreeSet<(u64, u64, Option<u64>)> = calls
        .filter(|(_, id, _)| violation.operations.contains(id))
        .collect();
    let watches = recording.all_watches();
    let watches: Vec<(u64, &Watch, bool)> = watches
        .filter(|(id, ..)| violation.watches.contains(id))
        .collect();
    let mut span = calls.iter().fold(None, |span, (called, _, returned)| {
        Span::joined(span, *called, *returned)
    });
    // A watch may last as long as the run: where there are operations, they tell where to look.
    if span.is_none() {
        span = watches.iter().fold(None, |span, (_, watch, _)| {
            let last = watch.messages.last().map(|message| message.at);
            Span::joined(span, watch.called, last)
        });
    }
    Finding {
        rule: violation.rule.clone(),
        story: violation.story.clone(),
        operations: calls.iter().map(|(_, id, _)| *id).collect(),
        watches: watches.iter().map(|(id, ..)| *id).collect(),
        span,
    }
}

fn run(recording: &Recording, names: &Names, length: u64) -> Run {
    let run = &recording.run;
    Run {
        level: run.level.clone(),
        seed: run.seed.to_string(),
        replay: run.replay.clone(),
        members: run.members.iter().map(|id| names.name(*id)).collect(),
        began: date(run.began_unix_ms),
        length,
        healed: run.healed,
    }
}

/// `2026-11-26 03:01:02` in UTC; empty for 0, which a simulation has.
fn date(unix_ms: i64) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    let (days, seconds) = (
        unix_ms.div_euclid(86_400_000),
        unix_ms.rem_euclid(86_400_000) / 1000,
    );
    // Howard Hinnant's days-to-civil: years begin in March, so that the leap day is the last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn counts(recording: &Recording) -> Counts {
    let of = |wanted: usize| {
        let calls = calls_of_all(recording);
        calls.filter(|(_, sort)| *sort == wanted).count()
    };
    let operations = recording.operations.iter().map(|one| (false, one.client));
    let rest = recording.rest.iter().map(|call| (true, call.client));
    let clients: BTreeSet<(bool, u32)> = operations.chain(rest).collect();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in &recording.faults {
        *kinds.entry(&fault.kind).or_default() += 1;
    }
    let mut faults: Vec<(String, usize)> = kinds
        .into_iter()
        .map(|(kind, count)| (kind.to_string(), count))
        .collect();
    faults.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let led = recording.samples.iter();
    let leaders: BTreeSet<(u64, u64)> = led
        .filter(|sample| sample.role == Role::Leader)
        .map(|sample| (sample.term, sample.member))
        .collect();
    Counts {
        ok: of(0),
        failed: of(1),
        unknown: of(2),
        clients: clients.len(),
        watches: recording.all_watches().count(),
        events: events(recording),
        faults,
        elections: leaders.len(),
        term: recording
            .samples
            .iter()
            .map(|one| one.term)
            .max()
            .unwrap_or(0),
        revision: revisions::newest(recording),
    }
}

fn events(recording: &Recording) -> usize {
    let watches = recording.all_watches();
    let messages = watches.flat_map(|(_, watch, _)| &watch.messages);
    messages
        .map(|message| match &message.body {
            WatchBody::Events { events, .. } => events.len(),
            _ => 0,
        })
        .sum()
}

/// 0 answered, 1 failed, 2 unknown: the order of every list of three.
/// All calls of all clients, with their time and their sort.
fn calls_of_all(recording: &Recording) -> impl Iterator<Item = (u64, usize)> {
    let operations = recording.operations.iter();
    let rest = recording.rest.iter();
    operations
        .map(|one| (one.called, sort(one)))
        .chain(rest.map(|call| (call.called, clients::rest_sort(call))))
}

pub(super) fn sort(operation: &Operation) -> usize {
    match operation.outcome {
        Outcome::Ok { .. } => 0,
        Outcome::Failed { .. } => 1,
        Outcome::Unknown { .. } => 2,
    }
}

/// Of calls with their time and their sort.
pub(super) fn overview(calls: impl Iterator<Item = (u64, usize)>, length: u64) -> Overview {
    let bucket = length.div_ceil(BUCKETS).max(1);
    let mut buckets = vec![[0; 3]; usize::try_from(length / bucket + 1).expect("at most 601")];
    for (called, sort) in calls {
        let at = usize::try_from(called / bucket).expect("within the length");
        buckets[at][sort] += 1;
    }
    Overview { bucket, buckets }
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;

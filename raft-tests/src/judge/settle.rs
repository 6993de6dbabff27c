//! Where the unanswered writes stand, as far as that can be settled: what the search finds, and what leaves less that is
//! wrong, round by round.

use super::linear::{Component, STEPS_MAX, Verdict, is_judged, is_open, mark, shown_mismatches};
use super::shape;
use super::timeline::{Maker, Mismatch, Timeline};
use super::traces::Source;
use super::witness;
use crate::recording::{Recording, Violation};
use std::collections::{BTreeMap, BTreeSet};

/// Revisions that are tried with another maker.
const CHOICES_MAX: usize = 200;
/// Components that are looked at before the timeline is taken as it is.
const ROUNDS_MAX: usize = 200;

/// The timeline in which unanswered writes stand where they have to, and what cannot be explained by any of them.
/// Revisions in `fixed` have these makers, whoever fits better. The timeline's choices are all that were met.
/// What is found is told as small as it can be only `in_full`, for that takes its time.
pub(super) fn settled<'a>(
    recording: &'a Recording,
    fixed: &BTreeMap<i64, Maker>,
    in_full: bool,
) -> (Timeline<'a>, Vec<Violation>) {
    let mut settling = Settling::new(recording, fixed);
    settling.in_full = in_full;
    let mut timeline = settling.settle();
    timeline.choices = settling.choices;
    (timeline, settling.found)
}

/// What the search finds, for as many groups of keys as have nothing to do with each other.
fn placed_by_all(timeline: &Timeline, doubts: &[Mismatch]) -> BTreeMap<i64, Maker> {
    let mut open: Vec<&Mismatch> = doubts.iter().filter(|d| is_open(timeline, d)).collect();
    open.sort_by_key(|doubt| doubt.revision);
    let mut looked_at: BTreeSet<String> = BTreeSet::new();
    let mut all = BTreeMap::new();
    for doubt in open {
        if looked_at.contains(&doubt.key) {
            continue;
        }
        let component = Component::around(timeline, doubt);
        if !component.keys.is_disjoint(&looked_at) {
            continue;
        }
        let said = component.search(&component.all(), STEPS_MAX, false);
        looked_at.extend(component.keys);
        let placed = said.placed().cloned().unwrap_or_default();
        // Who claims a revision that is taken by now is looked at again.
        if placed.keys().all(|revision| !all.contains_key(revision)) {
            all.extend(placed);
        }
    }
    all
}

fn first_open<'d>(timeline: &Timeline, doubts: &'d [Mismatch]) -> Option<&'d Mismatch> {
    let open = doubts.iter().filter(|doubt| is_open(timeline, doubt));
    open.min_by_key(|doubt| doubt.revision)
}

/// What the search says of the first doubt that it may explain; `early` as in [`Component::search`].
fn verdict(timeline: &Timeline, doubts: &[Mismatch], early: bool) -> Option<Verdict> {
    let component = Component::around(timeline, first_open(timeline, doubts)?);
    Some(component.search(&component.all(), STEPS_MAX, early))
}

/// How much there is that may be told in the end.
fn count_wrong(timeline: &Timeline, doubts: &[Mismatch]) -> usize {
    let made = timeline.made.iter();
    let early = made.filter(|(revision, maker)| timeline.is_early(**maker, **revision));
    timeline.found.len() + doubts.len() + early.count()
}

/// How far the timeline is settled.
struct Settling<'a> {
    recording: &'a Recording,
    /// Makers of revisions that the search has found.
    hints: BTreeMap<i64, Maker>,
    /// Who may have made revisions, in all timelines together.
    choices: BTreeMap<i64, Vec<Maker>>,
    /// Choices that were made otherwise once.
    tried: BTreeSet<i64>,
    /// Keys of which a violation was told.
    judged: BTreeSet<String>,
    /// Doubts that the search does not share.
    passed: BTreeSet<String>,
    found: Vec<Violation>,
    /// What is told is made small, for people.
    in_full: bool,
}

impl<'a> Settling<'a> {
    fn new(recording: &'a Recording, fixed: &BTreeMap<i64, Maker>) -> Settling<'a> {
        Settling {
            recording,
            hints: fixed.clone(),
            choices: BTreeMap::new(),
            tried: BTreeSet::new(),
            judged: BTreeSet::new(),
            passed: BTreeSet::new(),
            found: Vec::new(),
            in_full: false,
        }
    }

    fn settle(&mut self) -> Timeline<'a> {
        let mut timeline = self.timeline();
        for _ in 0..ROUNDS_MAX {
            let doubts = self.doubts(&timeline);
            let placed = placed_by_all(&timeline, &doubts);
            if !placed.is_empty() {
                self.hints.extend(placed);
                timeline = self.timeline();
                continue;
            }
            let said = verdict(&timeline, &doubts, false);
            if let Some(other) = self.other_choice(&timeline, &doubts) {
                timeline = other;
            } else if let Some(Verdict::Unexplainable) = said
                && let Some(early) = verdict(&timeline, &doubts, true)
                && let Some(placed) = early.placed()
            {
                self.hints.extend(placed);
                timeline = self.timeline();
            } else if let (Some(doubt), Some(said)) = (first_open(&timeline, &doubts), said) {
                self.give_up(&timeline, doubt, &said);
                timeline.judged = self.judged.clone();
            } else {
                return timeline;
            }
        }
        // What is left was not looked at, so nothing can be said of it.
        let doubts = self.doubts(&timeline);
        if let Some(doubt) = first_open(&timeline, &doubts) {
            let told = Component::around(&timeline, doubt).undecided(doubt);
            self.found.push(told);
            let open = doubts.iter().filter(|doubt| is_open(&timeline, doubt));
            let left: Vec<String> = open.map(mark).collect();
            timeline.judged.extend(left);
        }
        timeline
    }

    fn timeline(&mut self) -> Timeline<'a> {
        let mut timeline = Timeline::new(self.recording, &self.hints);
        for (revision, makers) in &timeline.choices {
            let known = self.choices.entry(*revision).or_default();
            known.extend(
                makers
                    .iter()
                    .filter(|maker| !known.contains(maker))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        timeline.judged = self.judged.clone();
        let answers = witness::answers(&timeline);
        timeline.mismatches.extend(answers);
        timeline
    }

    fn doubts(&self, timeline: &Timeline) -> Vec<Mismatch> {
        let mut doubts = timeline.mismatches.clone();
        doubts.extend(shown_mismatches(timeline));
        doubts.retain(|doubt| !is_judged(timeline, doubt) && !self.passed.contains(&mark(doubt)));
        doubts
    }

    /// The timeline in which another one has made a revision, where that leaves less that is wrong, at once or with
    /// what the search then finds.
    fn other_choice(&mut self, timeline: &Timeline, doubts: &[Mismatch]) -> Option<Timeline<'a>> {
        let wrong = count_wrong(timeline, doubts);
        if wrong == 0 {
            return None;
        }
        for (revision, makers) in timeline.choices.iter().rev() {
            if self.tried.len() >= CHOICES_MAX || !self.tried.insert(*revision) {
                continue;
            }
            for maker in &makers[1..] {
                let before = self.hints.clone();
                self.hints.insert(*revision, *maker);
                let other = self.timeline();
                if self.wrong(&other) < wrong {
                    return Some(other);
                }
                let doubts = self.doubts(&other);
                let said = verdict(&other, &doubts, false);
                if let Some(placed) = said.as_ref().and_then(Verdict::placed) {
                    self.hints.extend(placed);
                    let other = self.timeline();
                    if self.wrong(&other) < wrong {
                        return Some(other);
                    }
                }
                self.hints = before;
            }
        }
        None
    }

    fn wrong(&self, timeline: &Timeline) -> usize {
        count_wrong(timeline, &self.doubts(timeline))
    }

    fn give_up(&mut self, timeline: &Timeline, doubt: &Mismatch, verdict: &Verdict) {
        let component = Component::around(timeline, doubt);
        let told = match verdict {
            Verdict::Explained(_) => {
                // What the search does not see, it can do nothing about. What transactions have counted in the past
                // may be due to what is open, and is let go.
                let counted = matches!(doubt.source, Source::Operation(place)
                    if shape::counts_past(timeline.operation(place)));
                let set = if counted {
                    &mut self.judged
                } else {
                    &mut self.passed
                };
                set.insert(mark(doubt));
                return;
            }
            Verdict::Unexplainable => match &doubt.told {
                Some(told) => (**told).clone(),
                None => component.unexplainable(doubt, self.in_full),
            },
            Verdict::Undecided => component.undecided(doubt),
        };
        self.found.push(told);
        self.judged.extend(component.keys.iter().cloned());
        self.judged.insert(mark(doubt));
    }
}

//! The explanation of a run that leaves least unexplained.
//!
//! Where several writes without an answer, or ends of leases, fit what was seen of a revision, the first is taken, or
//! the one that leaves less open. If something is wrong in the end, the others are tried, one after the other, and what
//! leaves least wrong is gone on with.

use super::settle::settled;
use super::timeline::{Maker, Timeline};
use super::{dumps, lease, lines, watch, witness};
use crate::recording::{Recording, Violation};
use std::collections::BTreeMap;

/// Other explanations that are tried, and operations that are judged again for them, at the most. Of 100,000 random
/// recordings of a perfect cluster none has needed more than 20.
const TRIES_MAX: usize = 60;
const OPERATIONS_MAX: usize = 500_000;

/// Makers of revisions that are taken as given.
type Fixed = BTreeMap<i64, Maker>;

/// One way to see a run.
struct Explanation {
    fixed: Fixed,
    found: Vec<Violation>,
    choices: BTreeMap<i64, Vec<Maker>>,
}

impl Explanation {
    fn new(recording: &Recording, fixed: Fixed) -> Explanation {
        let (timeline, mut found) = settled(recording, &fixed, false);
        found.extend(families(&timeline));
        Explanation {
            fixed,
            found,
            choices: timeline.choices,
        }
    }

    /// Those that differ from it in the maker of one revision, the last ones first.
    fn others(&self) -> impl Iterator<Item = Fixed> {
        let choices = self.choices.iter().rev();
        let choices = choices.flat_map(|(revision, makers)| {
            let makers = makers.iter();
            makers.map(move |maker| (*revision, *maker))
        });
        choices.map(|(revision, maker)| {
            let mut fixed = self.fixed.clone();
            fixed.insert(revision, maker);
            fixed
        })
    }

    /// Whether more of the same would take too long.
    fn is_undecided(&self) -> bool {
        self.found
            .iter()
            .any(|violation| violation.rule == "undecided")
    }
}

fn families(timeline: &Timeline) -> Vec<Violation> {
    let mut found = witness::judge(timeline);
    found.extend(watch::judge(timeline));
    found.extend(lease::judge(timeline));
    found.extend(lines::judge(timeline));
    found.extend(dumps::judge(timeline));
    found
}

/// What is wrong in the best explanation that was found.
pub(super) fn explained(recording: &Recording) -> Vec<Violation> {
    let mut best = Explanation::new(recording, Fixed::new());
    let mut tries = (OPERATIONS_MAX / recording.operations.len().max(1)).min(TRIES_MAX);
    while !best.found.is_empty() && !best.is_undecided() {
        let mut better: Option<Explanation> = None;
        for fixed in best.others() {
            if tries == 0 {
                break;
            }
            tries -= 1;
            let other = Explanation::new(recording, fixed);
            if other.is_undecided() {
                tries = 0;
            }
            let least = better.as_ref().unwrap_or(&best).found.len();
            if other.found.len() < least {
                let is_it = other.found.is_empty();
                better = Some(other);
                if is_it {
                    break;
                }
            }
        }
        match better {
            Some(better) => best = better,
            None => break,
        }
    }
    if best.found.is_empty() {
        return best.found;
    }
    let (timeline, mut found) = settled(recording, &best.fixed, true);
    found.extend(families(&timeline));
    found
}

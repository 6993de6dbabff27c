//! Kubernetes' invariants, as pure functions over a [`History`].

mod applied;
mod control;
mod counted;
mod informers;
mod objects;
mod reads;
mod running;

pub use running::unfinished;

use super::history::{History, Seen, Truth, digest};

/// Something of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// By its id.
    Call(u64),
    /// Whatever made this revision.
    Change(i64),
    /// What an informer was told: its place, and that of the step.
    Told(usize, usize),
    /// A write of the controllers, by its place.
    Deed(usize),
    /// A pod that ran, by its place.
    Ran(usize),
    /// A request that is no call, by its place.
    Ask(usize),
}

/// What is wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub rule: String,
    /// Two sentences: what happened, and what it contradicts.
    pub story: String,
    /// What contradicts each other, as little of it as shows it.
    pub evidence: Vec<Evidence>,
}

/// Everything that is wrong with a run.
pub fn check(history: &History) -> Vec<Verdict> {
    let mut found = reads::check(history);
    found.extend(informers::check(history));
    found.extend(objects::check(history));
    found.extend(running::check(history));
    found.extend(control::check(history));
    found.extend(applied::check(history));
    found.extend(counted::check(history));
    found
}

fn verdict<const N: usize>(rule: &str, story: String, evidence: [Evidence; N]) -> Verdict {
    Verdict {
        rule: rule.into(),
        story,
        evidence: evidence.into(),
    }
}

/// The rules that are broken. Every verdict has to have a story of two sentences, and evidence.
#[cfg(test)]
fn rules_of(verdicts: &[Verdict]) -> Vec<String> {
    for Verdict {
        rule,
        story,
        evidence,
    } in verdicts
    {
        let ends = story.matches(". ").count() + usize::from(story.ends_with('.'));
        assert_eq!(ends, 2, "{rule}: {story}");
        assert!(!evidence.is_empty(), "{rule}");
        let mut once = evidence.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), evidence.len(), "{rule}: {evidence:?}");
    }
    verdicts.iter().map(|found| found.rule.clone()).collect()
}

/// Whether an object was what it is shown to be at the version that it is shown with; else in words what is wrong, without
/// a stop.
fn is_shown_right(truth: &Truth, seen: &Seen) -> Result<(), String> {
    let Seen { key, revision, .. } = seen;
    let last = truth.last();
    if *revision > last {
        return Err(format!(
            "{key} is shown at version {revision}, and the store has only come to {last}"
        ));
    }
    match truth.change(key, *revision) {
        Some(Some(object)) if digest(object) == seen.digest => Ok(()),
        Some(Some(_)) => Err(format!(
            "{key} at version {revision} is shown with another content than was stored then"
        )),
        _ => Err(format!(
            "{key} is shown at version {revision}, and was not written then"
        )),
    }
}

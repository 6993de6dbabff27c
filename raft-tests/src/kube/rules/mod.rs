//! Kubernetes' invariants, as pure functions over a [`History`].

mod control;
mod informers;
mod objects;
mod reads;
mod running;

pub use running::unfinished;

use super::history::{History, Seen, Truth, digest};
use crate::recording::Violation;

/// Everything that is wrong with a run.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = reads::check(history);
    found.extend(informers::check(history));
    found.extend(objects::check(history));
    found.extend(running::check(history));
    found.extend(control::check(history));
    found
}

fn violation(rule: &str, story: String) -> Violation {
    Violation {
        rule: rule.into(),
        story,
        ..Violation::default()
    }
}

/// Whether an object was what it is shown to be at the version that it is shown with; else in words what is wrong.
fn is_shown_right(truth: &Truth, seen: &Seen) -> Result<(), String> {
    if seen.revision > truth.last() {
        return Err(format!(
            "{} is shown at version {}, and the store has only come to {}.",
            seen.key,
            seen.revision,
            truth.last()
        ));
    }
    match truth.change(&seen.key, seen.revision) {
        Some(Some(object)) if digest(object) == seen.digest => Ok(()),
        Some(Some(_)) => Err(format!(
            "{} at version {} is shown with another content than was stored then.",
            seen.key, seen.revision
        )),
        _ => Err(format!(
            "{} is shown at version {}, and was not written then.",
            seen.key, seen.revision
        )),
    }
}

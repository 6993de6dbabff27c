//! Whether a run was as etcd promises. A recording goes in, violations come out; nothing else is looked at.
//!
//! What happened is reconstructed first ([`timeline`]): every answered write names its revision, so the order of
//! writes is known, and what stands between them is told by what watches and reads have shown. The families of
//! rules then hold the recording against it, one file each.

mod claims;
pub mod command;
mod dumps;
mod explain;
mod hashes;
mod lease;
mod linear;
mod lines;
mod sets;
mod settle;
mod shape;
pub mod simulated;
mod timeline;
mod traces;
mod watch;
mod witness;
mod words;

#[cfg(test)]
mod tests;

use crate::recording::{Recording, Violation};
use std::collections::BTreeMap;

/// At most so many violations of one rule are told: one cause often breaks many.
pub const TOLD_MAX: usize = 10;

/// All that is wrong with a run, the most telling rules first; empty where nothing is.
pub fn judge(recording: &Recording) -> Vec<Violation> {
    let mut found = explain::explained(recording);
    found.extend(sets::judge(recording));
    found.extend(hashes::judge(recording));
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    found.retain(|violation| {
        let count = told.entry(violation.rule.clone()).or_default();
        *count += 1;
        *count <= TOLD_MAX
    });
    found
}

fn violation(rule: &str, story: String, operations: &[u64], watches: &[u64]) -> Violation {
    let mut operations = operations.to_vec();
    operations.sort_unstable();
    operations.dedup();
    Violation {
        rule: rule.into(),
        story,
        operations,
        watches: watches.to_vec(),
    }
}

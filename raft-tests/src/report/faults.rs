//! A band for each fault, over all lanes.

use super::members::Names;
use crate::recording::Fault;
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Band {
    pub kind: String,
    pub what: String,
    /// Whom it hit; empty for all.
    pub members: Vec<String>,
    pub from: u64,
    pub until: u64,
    /// It lasted to the end.
    pub open: bool,
    /// Where its label stands: faults at one time stand below each other.
    pub row: usize,
}

/// More faults at once than this share the last row.
const ROWS_MAX: usize = 6;

pub(super) fn paint(faults: &[Fault], names: &Names, length: u64) -> Vec<Band> {
    let mut sorted: Vec<&Fault> = faults.iter().collect();
    sorted.sort_by_key(|fault| fault.from);
    // A label needs room also where the fault was a moment: a fiftieth of the run.
    let label = length / 50;
    let mut ends: Vec<u64> = Vec::new();
    let mut bands = Vec::new();
    for fault in sorted {
        let until = fault.until.unwrap_or(length).max(fault.from);
        let free = ends.iter().position(|end| *end <= fault.from);
        let row = free.unwrap_or_else(|| ends.len().min(ROWS_MAX - 1));
        let taken = until.max(fault.from + label);
        match ends.get_mut(row) {
            Some(end) => *end = taken.max(*end),
            None => ends.push(taken),
        }
        bands.push(Band {
            kind: fault.kind.clone(),
            what: fault.what.clone(),
            members: fault.members.iter().map(|id| names.name(*id)).collect(),
            from: fault.from,
            until,
            open: fault.until.is_none(),
            row,
        });
    }
    bands
}

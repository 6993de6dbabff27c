//! Tests of the tests: bugs are planted ([`kv::mutants`]) in the store and the API server, one at a time, and runs are
//! made until somebody objects.
//!
//! The judges and invariants know nothing of the bugs. One that they do not see is a reason for another workload, fault
//! or rule, and not for a look at that bug. The same seeds without a bug have to pass.

#[cfg(feature = "mutants")]
pub mod command;

use kv::mutants::{BUGS, Bug, MUTANTS, Mutant};

use crate::sim::disk::Flaw;

/// A bug by its name, as on the command line.
///
/// # Errors
/// In words, where there is none, or this program cannot have it.
pub fn parse(name: &str) -> Result<Bug, String> {
    let found = BUGS.iter().find(|mutant| mutant.name == name);
    let Some(mutant) = found else {
        let names: Vec<_> = BUGS.iter().map(|mutant| mutant.name).collect();
        return Err(format!("there are {}", names.join(", ")));
    };
    if !MUTANTS && flaw(Some(mutant.bug)) == Flaw::None {
        return Err(
            "this bug is in the product: build raft-tests with `--features mutants`".into(),
        );
    }
    Ok(mutant.bug)
}

/// How the line of a bug begins in docs/reference/mutants.md; what was measured comes after it.
pub fn row(mutant: &Mutant) -> String {
    let Mutant {
        name,
        level,
        what,
        origin,
        ..
    } = mutant;
    format!("| `{name}` | {what} | {origin} | {} |", level.name())
}

/// What is wrong with the disks, where the bug is there and not in the product.
pub fn flaw(bug: Option<Bug>) -> Flaw {
    match bug {
        Some(Bug::DiskAcksBeforeSync) => Flaw::AcksBeforeSync,
        Some(Bug::DiskForgetsVotes) => Flaw::ForgetsVotes,
        _ => Flaw::None,
    }
}

/// A bug is planted on this thread as long as this lives.
#[derive(Debug)]
pub struct Planted(());

/// Plants a bug, or makes sure that there is none.
///
/// # Panics
/// Where this program cannot have it.
pub fn plant(bug: Option<Bug>) -> Planted {
    #[cfg(feature = "mutants")]
    kv::mutants::plant(bug);
    #[cfg(not(feature = "mutants"))]
    assert!(
        bug.is_none() || flaw(bug) != Flaw::None,
        "built without bugs"
    );
    Planted(())
}

impl Drop for Planted {
    fn drop(&mut self) {
        #[cfg(feature = "mutants")]
        kv::mutants::plant(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_every_bug_once() {
        let page = include_str!("../../../docs/reference/mutants.md");
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let missing: Vec<_> = BUGS
            .iter()
            .map(row)
            .filter(|row| !rows.iter().any(|line| line.starts_with(row)))
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
        assert_eq!(rows.len(), BUGS.len());
    }

    #[test]
    fn a_bug_is_chosen_by_its_name_where_this_program_can_have_it() {
        assert_eq!(
            parse("disk-forgets-votes"),
            Ok(Bug::DiskForgetsVotes),
            "it is not in the product"
        );
        assert_eq!(parse("acks-unsynced").is_ok(), MUTANTS);
        assert!(parse("no-such-bug").unwrap_err().contains("acks-unsynced"));
        assert_eq!(parse("finalizers-ignored").is_ok(), MUTANTS);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_bug_is_planted_in_its_thread_and_until_its_run_is_over() {
        use kv::mutants::planted;

        let bug = Bug::AcksUnsynced;
        let here = plant(Some(bug));
        assert!(planted(bug) && !planted(Bug::VoteUnsynced));
        let beside = std::thread::spawn(move || planted(bug));
        assert!(!beside.join().unwrap());
        drop(here);
        assert!(!planted(bug));
    }
}

//! The simulation, a few seeds of it; many are `make sim`.

use std::time::Duration;

use raft_tests::sim::disk::Flaw;
use raft_tests::sim::{Options, run};

fn options(seed: u64, flaw: Flaw) -> Options {
    Options {
        seed,
        length: Duration::from_secs(4),
        flaw,
    }
}

#[test]
fn a_cluster_keeps_its_word_whatever_is_done_to_it() {
    for seed in 1..=8 {
        let ran = run(&options(seed, Flaw::None));
        assert!(
            ran.violations.is_empty(),
            "seed {seed}: {:#?}",
            ran.violations
        );
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let first = run(&options(100, Flaw::None));
    // Others in between and beside it make no difference.
    let beside = std::thread::spawn(|| run(&options(101, Flaw::None)).trace);
    let again = run(&options(100, Flaw::None));
    assert_eq!(again.recording, first.recording);
    assert_eq!(again.trace, first.trace);
    assert_ne!(beside.join().unwrap(), first.trace);
}

/// A simulation that cannot fail proves nothing: of so many seeds one at least has to show what is wrong.
fn is_noticed(flaw: Flaw) -> bool {
    const SEEDS: u64 = 30;
    (1..=SEEDS).any(|seed| !run(&options(seed, flaw)).violations.is_empty())
}

#[test]
fn a_disk_that_acknowledges_before_it_has_synced_is_noticed() {
    assert!(is_noticed(Flaw::AcksBeforeSync));
}

#[test]
fn a_disk_that_forgets_votes_is_noticed() {
    assert!(is_noticed(Flaw::ForgetsVotes));
}

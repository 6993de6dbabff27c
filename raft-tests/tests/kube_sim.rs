//! The control plane's simulation, a few seeds of it; many are `make kube-sim`.

use std::time::Duration;

use raft_tests::kube::{Options, run};

fn options(seed: u64) -> Options {
    Options {
        seed,
        length: Duration::from_secs(4),
    }
}

#[test]
fn a_control_plane_keeps_its_word_whatever_is_done_to_it() {
    for seed in 1..=3 {
        let outcome = run(&options(seed));
        assert!(
            outcome.violations.is_empty(),
            "seed {seed}: {:#?}",
            outcome.violations
        );
    }
}

#[test]
fn a_seed_is_the_same_control_plane_every_time() {
    let first = run(&options(100));
    // Others in between and beside it make no difference.
    let beside = std::thread::spawn(|| run(&options(101)).trace);
    assert_eq!(run(&options(100)).trace, first.trace);
    assert_ne!(beside.join().unwrap(), first.trace);
}

//! The simulation, a few seeds of it; many are `make sim`.

use std::time::Duration;

use kv::mutants::Bug;
use raft_tests::recording::{Outcome, Put, Request};
use raft_tests::sim::batch::breaks;
use raft_tests::sim::disk::{Crash, Flaw};
use raft_tests::sim::schedule::Schedule;
use raft_tests::sim::smaller::smaller;
use raft_tests::sim::world::World;
use raft_tests::sim::{Options, Ran, becomes, run, run_schedule, schedule};
use store::Limits;

const SECOND: Duration = Duration::from_secs(1);

fn options(seed: u64, bug: Option<Bug>) -> Options {
    Options {
        seed,
        length: Duration::from_secs(4),
        bug,
    }
}

#[test]
fn a_cluster_keeps_its_word_whatever_is_done_to_it() {
    for seed in 1..=8 {
        let ran = run(&options(seed, None));
        assert!(
            ran.violations.is_empty(),
            "seed {seed}: {:#?}",
            ran.violations
        );
    }
}

/// Of seed 931, made small: a member that starts with a damaged log is ended by a power loss before it has come to the log.
const ENDED_WHILE_IT_STARTS: &str = r#"{
    "strikes": [
        {"at_ms": 1783, "hand": 0, "kind": "PowerLoss", "target": "Leader", "lasts_ms": 252, "seed": 2186545787281040855},
        {"at_ms": 1780, "hand": 1, "kind": "BitRot", "target": "Leader", "lasts_ms": 40, "seed": 15910935445921994830}
    ],
    "turns": [{"at_ms": 121, "client": 0, "seat": 55, "seed": 4490790745086251295}],
    "watchers": []
}"#;

#[test]
fn what_ends_before_it_reads_its_log_has_not_taken_the_damage() {
    let options = Options {
        length: 10 * SECOND,
        ..options(931, None)
    };
    let schedule = serde_json::from_str(ENDED_WHILE_IT_STARTS).unwrap();
    let ran = run_schedule(&options, &schedule);
    assert!(ran.violations.is_empty(), "{:#?}", ran.violations);
    assert!(
        ran.recording
            .faults
            .iter()
            .any(|fault| fault.kind == "bit rot")
    );
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let first = run(&options(100, None));
    // Others in between and beside it make no difference.
    let beside = std::thread::spawn(|| run(&options(101, None)).trace);
    let again = run(&options(100, None));
    assert_eq!(again.recording, first.recording);
    assert_eq!(again.trace, first.trace);
    assert_ne!(beside.join().unwrap(), first.trace);
}

#[test]
fn a_member_that_is_down_is_asked_for_with_pauses() {
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let world = World::new(1, Limits::default(), Flaw::None);
        world.found(&[1, 2, 3]);
        (1..=3).for_each(|id| world.boot(id));
        assert!(becomes(10 * SECOND, async || world.leader().is_some()).await);
        let leader = world.leader().unwrap();
        let other = if leader == 1 { 2 } else { 1 };
        assert!(world.end(other, Crash::Kill));
        let put = Request::Put(Put {
            key: "k".into(),
            ..Put::default()
        });
        let put = world.line(leader, "c").unwrap().perform(&put, SECOND).await;
        assert!(matches!(put, Outcome::Ok { .. }), "{put:?}");
        let before = world.net.dials();
        tokio::time::sleep(SECOND).await;
        // Signs of life and appends; thousands where nobody waits after a refusal.
        let dials = world.net.dials() - before;
        assert!((5..100).contains(&dials), "{dials}");
    });
}

/// A simulation that cannot fail proves nothing: of so many seeds one at least has to show what is wrong. Answers the first
/// that does, and what it breaks.
fn noticed(bug: Bug, rule: impl Fn(&str) -> bool) -> Option<(Options, String)> {
    const SEEDS: u64 = 30;
    (1..=SEEDS).find_map(|seed| {
        let options = options(seed, Some(bug));
        let broken = rules(&run(&options)).into_iter().find(|name| rule(name));
        Some((options, broken?))
    })
}

fn rules(ran: &Ran) -> Vec<String> {
    let violations = ran.violations.iter();
    violations.map(|violation| violation.rule.clone()).collect()
}

fn is_seen_by_clients(rule: &str) -> bool {
    !rule.starts_with("raft") && rule != "panic"
}

#[test]
fn a_disk_that_acknowledges_before_it_has_synced_is_noticed_at_once() {
    let broken = noticed(Bug::DiskAcksBeforeSync, |rule| rule.starts_with("raft"));
    let (options, rule) = broken.unwrap();
    assert_eq!(
        (options.seed, rule.as_str()),
        (1, "raft: committed without a quorum")
    );
}

#[test]
fn a_disk_that_forgets_votes_is_noticed() {
    let broken = noticed(Bug::DiskForgetsVotes, |rule| {
        rule == "raft: vote taken back"
    });
    assert!(broken.is_some());
}

#[test]
fn a_run_that_fails_is_made_small_and_is_the_same_again() {
    let broken = noticed(Bug::DiskAcksBeforeSync, is_seen_by_clients);
    let (options, rule) = broken.expect("clients notice it, too");
    let whole = schedule(&options);
    let run = |schedule: &Schedule| run_schedule(&options, schedule);
    let fails = |ran: &Ran| breaks(ran, &rule);
    let small = smaller(whole.clone(), 40, &run, &fails, &mut |_, _| {}).unwrap();
    assert!(breaks(&small.ran, &rule));
    assert!(small.schedule.strikes.len() <= 3, "{:?}", small.schedule);
    assert!(small.schedule.turns.len() * 10 < whole.turns.len());
    let text = serde_json::to_string(&small.schedule).unwrap();
    let again = run_schedule(&options, &serde_json::from_str(&text).unwrap());
    assert_eq!(again.trace, small.ran.trace);
}

//! The control plane's simulation, a few seeds of it; many are `make kube-sim`.

use std::time::Duration;

use kv::mutants::Bug;
use raft_tests::kube::command::CONTROL_PLANES;
use raft_tests::kube::schedule::{Schedule, Work};
use raft_tests::kube::{run, run_schedule, schedule};
use raft_tests::recording::Violation;
use raft_tests::sim::batch::keep_in;
use raft_tests::sim::smaller::smaller;
use raft_tests::sim::{Options, Ran};

fn options(seed: u64) -> Options {
    Options {
        seed,
        length: Duration::from_secs(4),
        bug: None,
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

/// Raft's own rules hold under a control plane, too.
#[test]
fn a_disk_that_acknowledges_before_it_has_synced_is_noticed_at_once() {
    let ran = run(&Options {
        bug: Some(Bug::DiskAcksBeforeSync),
        ..options(1)
    });
    let rules = ran.violations.iter().map(|found| found.rule.as_str());
    let rules: Vec<&str> = rules.collect();
    assert!(
        rules.contains(&"raft: committed without a quorum"),
        "{rules:?}"
    );
}

#[test]
fn a_seed_is_the_same_control_plane_every_time() {
    let first = run(&options(100));
    // Others in between and beside it make no difference.
    let beside = std::thread::spawn(|| run(&options(101)).trace);
    assert_eq!(run(&options(100)).trace, first.trace);
    assert_ne!(beside.join().unwrap(), first.trace);
}

/// What is there of a run on which nothing was asked and to which nothing was done is little, but all of it is repeatable.
#[test]
fn a_schedule_decides_what_is_asked_and_done() {
    let options = options(7);
    let mut drawn = schedule(&options);
    drawn.turns.retain(|turn| turn.client == 1);
    drawn.strikes.clear();
    drawn.harms.clear();
    let text = serde_json::to_string(&drawn).unwrap();
    let ran = run_schedule(&options, &drawn);
    assert!(ran.recording.faults.is_empty());
    assert!(ran.violations.is_empty(), "{:#?}", ran.violations);
    let asks = |client: u32| {
        ran.recording
            .rest
            .iter()
            .filter(move |call| call.client == client)
    };
    assert!(asks(1).count() > 20);
    assert_eq!(asks(0).count(), 0);
    assert!(!ran.recording.rest_watches.is_empty() && !ran.recording.samples.is_empty());
    let read: Schedule = serde_json::from_str(&text).unwrap();
    assert_eq!(run_schedule(&options, &read).trace, ran.trace);
}

/// A short run with several faults, in which nobody wants anything to run.
fn plain() -> (Options, Schedule) {
    let mut drawn = (1..).map(|seed| {
        let options = Options {
            length: Duration::from_secs(2),
            ..options(seed)
        };
        (options, schedule(&options))
    });
    let is_plain = |(_, drawn): &(Options, Schedule)| {
        let objects = drawn.turns.iter().all(|turn| turn.work == Work::Objects);
        objects && drawn.strikes.len() >= 2 && drawn.harms.len() >= 2 && drawn.harms[0].kind.lasts()
    };
    drawn.find(is_plain).expect("there are many")
}

#[test]
fn a_run_is_made_small_under_its_seed() {
    let (options, whole) = plain();
    let run = |schedule: &Schedule| run_schedule(&options, schedule);
    let name = whole.harms[0].kind.name();
    let fails = |ran: &Ran| ran.recording.faults.iter().any(|fault| fault.kind == name);
    let small = smaller(whole.clone(), 12, &run, &fails, &mut |_, _| {}).unwrap();
    assert!(small.schedule.strikes.is_empty(), "{:?}", small.schedule);
    assert!(small.schedule.turns.is_empty() && small.tries <= 12);
    assert!(
        small
            .schedule
            .harms
            .iter()
            .any(|harm| harm.kind.name() == name)
    );
    let text = serde_json::to_string(&small.schedule).unwrap();
    assert_eq!(
        run(&serde_json::from_str(&text).unwrap()).trace,
        small.ran.trace
    );
}

#[test]
fn a_run_that_fails_is_kept_with_its_page_and_what_it_needs() {
    let (options, mut whole) = plain();
    whole.turns.clear();
    whole.harms.clear();
    let mut ran = run_schedule(&options, &whole);
    assert_eq!(ran.violations, []);
    ran.violations.push(Violation {
        rule: "K1: lost write".into(),
        story: "It was written. It is not there.".into(),
        operations: vec![0],
        ..Violation::default()
    });
    let folder = tempfile::tempdir().unwrap();
    keep_in(&CONTROL_PLANES, &options, &ran, folder.path(), 0, &|_| {}).unwrap();
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    let again = format!("kube-sim --replay {} --seconds 2", options.seed);
    assert!(page.contains("K1: lost write") && page.contains(&again));
    assert!(folder.path().join("recording.json").exists());
}

/// The clock of the machine of the controllers is set forward while nobody reaches it, and what was heard of the nodes seconds
/// ago looked old: they were taken for dead, and so were their pods.
const CLOCK_IS_SET: &str = r#"{
    "strikes": [
        {"at_ms": 528, "hand": 0, "kind": "HandOver", "target": {"Nth": 42}, "lasts_ms": 146, "seed": 11548354800756004865},
        {"at_ms": 915, "hand": 0, "kind": "ClockJump", "target": "Leader", "lasts_ms": 784, "seed": 679481371873020331}
    ],
    "harms": [],
    "turns": [
        {"at_ms": 1670, "client": 50, "work": "Deployments", "seat": 28, "seed": 1567407833881053275}
    ],
    "informers": []
}"#;

/// The seed that found it.
const CLOCK_SEED: u64 = 2_298_138_006;

/// Writes of the controllers that say how something of this kind is.
fn verdicts(ran: &Ran, path: &str) -> usize {
    let said = |request: &str| {
        request.starts_with("PATCH") && request.contains(path) && request.contains("/status as m")
    };
    let rest = ran.recording.rest.iter();
    rest.filter(|call| said(&call.request)).count()
}

#[test]
fn seed_2298138006_no_node_is_dead_because_a_clock_was_set() {
    let schedule: Schedule = serde_json::from_str(CLOCK_IS_SET).unwrap();
    let options = Options {
        length: Duration::from_secs(10),
        ..options(CLOCK_SEED)
    };
    let ran = run_schedule(&options, &schedule);
    assert_eq!(ran.violations, []);
    let jumps = ran.recording.faults.iter();
    assert_eq!(jumps.filter(|fault| fault.kind == "clock jump").count(), 1);
    assert_eq!(verdicts(&ran, "/nodes/"), 0);
}

#[test]
fn a_node_that_was_silent_for_long_is_ready_again_and_so_are_its_pods() {
    let mut schedule: Schedule = serde_json::from_str(CLOCK_IS_SET).unwrap();
    schedule.strikes.clear();
    let stopped =
        r#"[{"at_ms": 5000, "kind": "NodeAgentStopped", "nth": 0, "lasts_ms": 65000, "seed": 1}]"#;
    schedule.harms = serde_json::from_str(stopped).unwrap();
    // Which node falls silent, and whether it has pods, is up to the seed.
    let noticed = (CLOCK_SEED..CLOCK_SEED + 20).find(|seed| {
        let options = Options {
            length: Duration::from_secs(70),
            ..options(*seed)
        };
        let ran = run_schedule(&options, &schedule);
        assert_eq!(ran.violations, []);
        verdicts(&ran, "/nodes/") > 0 && verdicts(&ran, "/pods/") > 0
    });
    assert!(noticed.is_some(), "no node was found silent");
}

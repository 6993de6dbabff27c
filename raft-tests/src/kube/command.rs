//! The command line of the control plane's simulation.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::{Options, Outcome, run};
use crate::recording::Violation;

/// One seed in so many runs twice.
const TWICE: u64 = 50;
/// More failures than this are not worth waiting for.
const FAILURES_MAX: usize = 10;

#[derive(Args)]
pub struct KubeSimArgs {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    seed_from: u64,
    /// For how long harm is done in each run, in virtual seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Threads [default: one a processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Run this one seed, and tell what happens
    #[arg(long)]
    replay: Option<u64>,
}

/// What many runs came to.
#[derive(Default)]
struct Summary {
    seeds: u64,
    twice: u64,
    simulated: Duration,
    calls: usize,
    answered: usize,
    changes: usize,
    shown: usize,
    faults: BTreeMap<String, u64>,
    failed: Vec<u64>,
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.lasted;
        self.calls += outcome.calls;
        self.answered += outcome.answered;
        self.changes += outcome.changes;
        self.shown += outcome.shown;
        for fault in &outcome.faults {
            *self.faults.entry(fault.kind.clone()).or_default() += 1;
        }
    }

    fn told(&self, took: Duration) -> String {
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let rate = self.seeds as f64 / took.as_secs_f64() * 60.0;
        let mut lines = vec![
            format!(
                "{} seeds in {:.1} s, {rate:.0} a minute; {hours:.2} simulated hours, {} of the runs twice with equal traces",
                self.seeds,
                took.as_secs_f64(),
                self.twice
            ),
            format!(
                "{} requests, {} of them answered with success; {} changes of objects; informers were told {} things",
                self.calls, self.answered, self.changes, self.shown
            ),
        ];
        let faults = self.faults.iter();
        lines.extend(faults.map(|(kind, count)| format!("  {count:>8}  {kind}")));
        lines.push(format!("{} failed", self.failed.len()));
        lines.join("\n")
    }
}

fn options(args: &KubeSimArgs, seed: u64) -> Options {
    Options {
        seed,
        length: Duration::from_secs(args.seconds),
    }
}

/// Runs many seeds, or one again.
pub fn kube_sim(args: &KubeSimArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    if let Some(seed) = args.replay {
        return Ok(replay(&options(args, seed), say));
    }
    let began = Instant::now();
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.seeds || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    let options = options(args, args.seed_from + number);
                    let twice = number % TWICE == 0;
                    let outcome = run_and_tell(&options, twice, say);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(&outcome);
                    summary.twice += u64::from(twice);
                    if !outcome.violations.is_empty() {
                        summary.failed.push(options.seed);
                        let many = summary.failed.len() >= FAILURES_MAX;
                        enough.fetch_or(many, Ordering::Relaxed);
                    }
                    if summary.seeds % 100 == 0 {
                        let rate = summary.seeds as f64 / began.elapsed().as_secs_f64() * 60.0;
                        say(format!("{} seeds, {rate:.0} a minute", summary.seeds));
                    }
                }
            });
        }
    });
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(summary.told(began.elapsed()));
    if !summary.failed.is_empty() {
        say(format!("failed: {:?}", summary.failed));
    }
    Ok(code(summary.failed.is_empty()))
}

fn code(good: bool) -> ExitCode {
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs one seed and, if `twice`, again: the two must be the same.
fn run_and_tell(options: &Options, twice: bool, say: &(dyn Fn(String) + Sync)) -> Outcome {
    let Options { seed, length } = options;
    let mut outcome = run(options);
    if twice && run(options).trace != outcome.trace {
        outcome.violations.push(Violation {
            rule: "not repeatable".into(),
            story: format!("Seed {seed} has gone differently the second time."),
            ..Violation::default()
        });
    }
    for violation in outcome.violations.iter().take(3) {
        say(format!(
            "seed {seed}: {}: {}",
            violation.rule, violation.story
        ));
    }
    if !outcome.violations.is_empty() {
        let seconds = length.as_secs();
        say(format!(
            "again: cargo run --release -p raft-tests -- kube-sim --seconds {seconds} --replay {seed}"
        ));
    }
    outcome
}

/// Runs one seed and tells all of it.
fn replay(options: &Options, say: &(dyn Fn(String) + Sync)) -> ExitCode {
    let outcome = run_and_tell(options, true, &|_| {});
    let mut lines: Vec<(u64, String)> = outcome.notes.clone();
    for fault in &outcome.faults {
        lines.push((fault.from, format!("{}: {}", fault.kind, fault.what)));
        if let Some(until) = fault.until.filter(|until| *until > fault.from) {
            lines.push((until, format!("over: {}: {}", fault.kind, fault.what)));
        }
    }
    lines.sort();
    for (at, text) in lines {
        say(format!("{:9.3}  {text}", at as f64 / 1e9));
    }
    let mut summary = Summary::default();
    summary.add(&outcome);
    say(summary.told(Duration::from_secs(1)));
    say(format!("trace {:016x}", outcome.trace));
    for violation in &outcome.violations {
        say(format!("{}: {}", violation.rule, violation.story));
    }
    code(outcome.violations.is_empty())
}

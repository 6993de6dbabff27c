//! The command line of the simulation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::disk::Flaw;
use super::{Options, Ran, run};
use crate::report;

/// One seed in so many runs twice.
const TWICE: u64 = 50;
/// More failures than this are not worth waiting for.
const FAILURES_MAX: usize = 10;

#[derive(Args)]
pub struct SimArgs {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
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
    /// Have something wrong with the disks, to see that it is noticed
    #[arg(long, value_enum, default_value_t = Flaw::None)]
    flaw: Flaw,
    /// Where to write the report of each seed that fails [default: in the directory for temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Args)]
pub struct ReplayArgs {
    #[arg(long)]
    seed: u64,
    /// As in the run that is repeated
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// As in the run that is repeated
    #[arg(long, value_enum, default_value_t = Flaw::None)]
    flaw: Flaw,
    /// Write the report here
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// The command that does a run again.
pub fn replay(options: &Options) -> String {
    let seconds = options.length.as_secs();
    let seed = options.seed;
    let flaw = match options.flaw {
        Flaw::None => String::new(),
        flaw => format!(" --flaw {}", name(flaw)),
    };
    format!("cargo run --release -p raft-tests -- replay --seed {seed} --seconds {seconds}{flaw}")
}

fn name(flaw: Flaw) -> String {
    let value = flaw.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().into())
}

/// What many runs came to.
#[derive(Debug, Default)]
struct Summary {
    seeds: u64,
    twice: u64,
    simulated: Duration,
    operations: u64,
    answered: u64,
    watched: u64,
    faults: BTreeMap<String, u64>,
    failed: Vec<u64>,
}

impl Summary {
    fn add(&mut self, ran: &Ran) {
        let recording = &ran.recording;
        self.seeds += 1;
        self.simulated += ran.lasted;
        self.operations += recording.operations.len() as u64;
        let answered = recording.operations.iter();
        let answered = answered.filter(|operation| super::check::is_answered(&operation.outcome));
        self.answered += answered.count() as u64;
        let messages = recording.watches.iter().map(|watch| watch.messages.len());
        self.watched += messages.sum::<usize>() as u64;
        for fault in &recording.faults {
            *self.faults.entry(fault.kind.clone()).or_default() += 1;
        }
    }
}

fn options(seed: u64, seconds: u64, flaw: Flaw) -> Options {
    Options {
        seed,
        length: Duration::from_secs(seconds),
        flaw,
    }
}

/// Runs many seeds, on all processors.
pub fn sim(args: &SimArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
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
                    let options = options(args.seed_from + number, args.seconds, args.flaw);
                    let ran = run_and_tell(&options, number % TWICE == 0, say);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(&ran);
                    summary.twice += u64::from(number % TWICE == 0);
                    if !ran.violations.is_empty() {
                        keep(&ran, args.folder.as_deref(), say);
                        summary.failed.push(options.seed);
                        let many = summary.failed.len() >= FAILURES_MAX;
                        enough.fetch_or(many, Ordering::Relaxed);
                    }
                    if summary.seeds % 200 == 0 {
                        let rate = summary.seeds as f64 / began.elapsed().as_secs_f64() * 60.0;
                        say(format!("{} seeds, {rate:.0} a minute", summary.seeds));
                    }
                }
            });
        }
    });
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(told(&summary, began.elapsed()));
    match summary.failed.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        failed => {
            say(format!("failed: {failed:?}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn told(summary: &Summary, took: Duration) -> String {
    let hours = summary.simulated.as_secs_f64() / 3600.0;
    let rate = summary.seeds as f64 / took.as_secs_f64() * 60.0;
    let mut lines = vec![
        format!(
            "{} seeds in {:.1} s, {rate:.0} a minute; {hours:.2} simulated hours, {} of the runs twice with equal traces",
            summary.seeds,
            took.as_secs_f64(),
            summary.twice
        ),
        format!(
            "{} operations, {} answered; {} messages of watches",
            summary.operations, summary.answered, summary.watched
        ),
    ];
    let faults = summary.faults.iter();
    lines.extend(faults.map(|(kind, count)| format!("  {count:>8}  {kind}")));
    lines.push(format!("{} failed", summary.failed.len()));
    lines.join("\n")
}

/// Writes the report of a run that failed.
fn keep(ran: &Ran, folder: Option<&Path>, say: &(dyn Fn(String) + Sync)) {
    let name = format!("kontiki-sim-{}", ran.recording.run.seed);
    let folder = folder
        .map_or_else(std::env::temp_dir, Path::to_path_buf)
        .join(name);
    match report::write(&folder, &ran.recording, &ran.violations) {
        Ok(()) => say(format!("report: {}", folder.join("report.html").display())),
        Err(error) => say(format!("no report in {}: {error}", folder.display())),
    }
}

/// Runs one seed and, if `twice`, again: the two must be the same.
fn run_and_tell(options: &Options, twice: bool, say: &(dyn Fn(String) + Sync)) -> Ran {
    let mut ran = run(options);
    if twice {
        let again = run(options);
        if again.trace != ran.trace {
            ran.violations.push(crate::recording::Violation {
                rule: "not repeatable".into(),
                story: format!(
                    "Seed {} has gone differently the second time.",
                    options.seed
                ),
                ..Default::default()
            });
        }
    }
    for violation in ran.violations.iter().take(3) {
        say(format!(
            "seed {}: {}: {}",
            options.seed, violation.rule, violation.story
        ));
    }
    if !ran.violations.is_empty() {
        say(format!("again: {}", replay(options)));
    }
    ran
}

/// Runs one seed and tells all of it.
pub fn replay_one(args: &ReplayArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    let options = options(args.seed, args.seconds, args.flaw);
    let ran = run_and_tell(&options, true, &|_| {});
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let mut lines: Vec<(u64, String)> = ran.notes.clone();
    for fault in &ran.recording.faults {
        lines.push((fault.from, format!("{}: {}", fault.kind, fault.what)));
        if let Some(until) = fault.until.filter(|until| *until > fault.from) {
            lines.push((until, format!("over: {}: {}", fault.kind, fault.what)));
        }
    }
    lines.sort();
    for (at, text) in lines {
        say(format!("{:9.3}  {text}", seconds(at)));
    }
    let mut summary = Summary::default();
    summary.add(&ran);
    say(told(&summary, Duration::from_secs(1)));
    say(format!("trace {:016x}", ran.trace));
    if let Some(folder) = &args.folder {
        report::write(folder, &ran.recording, &ran.violations)?;
        say(format!("report: {}", folder.join("report.html").display()));
    }
    for violation in &ran.violations {
        say(format!("{}: {}", violation.rule, violation.story));
    }
    Ok(match ran.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

//! The command line of the simulation.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use kv::mutants::Bug;

use super::coverage::{BATCH, Coverage};
use super::schedule::Schedule;
use super::smaller::smaller;
use super::{Options, Ran, run_schedule, schedule};
use crate::{mutants, report};

/// One seed in so many runs twice.
const TWICE: u64 = 50;
/// More failures than this are not worth waiting for.
const FAILURES_MAX: usize = 10;
/// So many of them are made smaller.
const SHRUNK_MAX: usize = 3;

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
    /// Have something wrong on purpose: see `mutants --list`
    #[arg(long, value_name = "NAME", value_parser = mutants::parse)]
    bug: Option<Bug>,
    /// How often a run that fails is tried again with less, to find what it needs; 0 not to
    #[arg(long, default_value_t = 200)]
    tries: usize,
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
    #[arg(long, value_name = "NAME", value_parser = mutants::parse)]
    bug: Option<Bug>,
    /// What to ask and to do instead of what the seed draws: a file as `sim` writes it for a seed that fails
    #[arg(long)]
    schedule: Option<PathBuf>,
    /// Write the report here
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// The command that does a run again.
pub fn replay(options: &Options) -> String {
    let seconds = options.length.as_secs();
    let seed = options.seed;
    let (features, bug) = match options.bug {
        None => ("", String::new()),
        Some(bug) => (
            " --features mutants",
            format!(" --bug {}", bug.mutant().name),
        ),
    };
    format!(
        "cargo run --release -p raft-tests{features} -- replay --seed {seed} --seconds {seconds}{bug}"
    )
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
    coverage: Coverage,
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
        self.coverage.add(ran);
    }
}

fn options(seed: u64, seconds: u64, bug: Option<Bug>) -> Options {
    Options {
        seed,
        length: Duration::from_secs(seconds),
        bug,
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
                    let options = options(args.seed_from + number, args.seconds, args.bug);
                    let drawn = schedule(&options);
                    let ran = run_and_tell(&options, &drawn, number % TWICE == 0, say);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(&ran);
                    summary.twice += u64::from(number % TWICE == 0);
                    if !ran.violations.is_empty() {
                        summary.failed.push(options.seed);
                        let many = summary.failed.len() >= FAILURES_MAX;
                        enough.fetch_or(many, Ordering::Relaxed);
                        let tries = match summary.failed.len() {
                            ..=SHRUNK_MAX => args.tries,
                            _ => 0,
                        };
                        drop(summary);
                        keep(&options, &ran, args.folder.as_deref(), tries, say);
                        continue;
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
    let missing = match summary.seeds {
        ..BATCH => Vec::new(),
        _ => summary.coverage.missing(),
    };
    if !missing.is_empty() {
        say(format!("never happened: {}", missing.join(", ")));
    }
    if !summary.failed.is_empty() {
        say(format!("failed: {:?}", summary.failed));
    }
    Ok(match summary.failed.is_empty() && missing.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
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
    lines.extend(summary.coverage.told());
    lines.push(format!("{} failed", summary.failed.len()));
    lines.join("\n")
}

/// Writes the report of a run that failed, and of a smaller one that fails in the same way.
fn keep(
    options: &Options,
    ran: &Ran,
    folder: Option<&Path>,
    tries: usize,
    say: &(dyn Fn(String) + Sync),
) {
    let name = format!("kontiki-sim-{}", options.seed);
    let folder = folder
        .map_or_else(std::env::temp_dir, Path::to_path_buf)
        .join(name);
    if let Err(error) = keep_in(options, ran, &folder, tries, say) {
        say(format!("no report in {}: {error}", folder.display()));
    }
}

fn keep_in(
    options: &Options,
    ran: &Ran,
    folder: &Path,
    tries: usize,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    report::write(folder, &ran.recording, &ran.violations)?;
    say(format!("report: {}", folder.join("report.html").display()));
    let Some(violation) = ran.violations.first().filter(|_| tries > 0) else {
        return Ok(());
    };
    let seed = options.seed;
    let mut tell = |tried: &Schedule, tries: usize| {
        if tries.is_multiple_of(20) {
            let (faults, turns) = (tried.strikes.len(), tried.turns.len());
            say(format!(
                "seed {seed}: {tries} tries to make it smaller, now with {faults} faults and {turns} requests"
            ));
        }
    };
    let Some(found) = smaller(options, &violation.rule, tries, &mut tell) else {
        say(format!("seed {seed}: it does not fail again"));
        return Ok(());
    };
    let file = folder.join("schedule.min.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&found.schedule)?)?;
    let again = format!("{} --schedule {}", replay(options), file.display());
    let mut ran = found.ran;
    ran.recording.run.replay = again.clone();
    let small = folder.join("small");
    report::write(&small, &ran.recording, &ran.violations)?;
    let (faults, turns) = (found.schedule.strikes.len(), found.schedule.turns.len());
    let less = match found.minimal {
        true => "none of them can go",
        false => "fewer may do",
    };
    say(format!(
        "seed {seed} fails with {faults} faults and {turns} requests as well ({} tries, {less}): {}\nagain: {again}",
        found.tries,
        small.join("report.html").display()
    ));
    Ok(())
}

/// Runs a schedule and, if `twice`, again: the two must be the same.
fn run_and_tell(
    options: &Options,
    schedule: &Schedule,
    twice: bool,
    say: &(dyn Fn(String) + Sync),
) -> Ran {
    let mut ran = run_schedule(options, schedule);
    if twice {
        let again = run_schedule(options, schedule);
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
    let options = options(args.seed, args.seconds, args.bug);
    let schedule = match &args.schedule {
        None => schedule(&options),
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)
            .with_context(|| format!("{} is not a schedule", file.display()))?,
    };
    let ran = run_and_tell(&options, &schedule, true, &|_| {});
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

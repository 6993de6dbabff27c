//! Many seeds of a simulation, on all processors, and one of them again: the same for whatever is simulated. What fails is
//! kept with its report, and made small.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use kv::mutants::Bug;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::coverage::{BATCH, Coverage};
use super::smaller::{Lists, smaller};
use super::world::home;
use super::{Options, Ran};
use crate::recording::{RestFate, Violation};
use crate::{mutants, report};

/// One seed in so many runs twice.
const TWICE: u64 = 50;
/// More failures than this are not worth waiting for.
const FAILURES_MAX: usize = 10;
/// So many of them are made smaller.
const SHRUNK_MAX: usize = 3;
/// Between two lines of progress, in seeds.
const PROGRESS: u64 = 100;

/// How each run is.
#[derive(Args)]
pub struct RunArgs {
    /// For how long harm is done in each run, in virtual seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Have something wrong on purpose: see `mutants --list`
    #[arg(long, value_name = "NAME", value_parser = mutants::parse)]
    bug: Option<Bug>,
    /// Where reports are written: that of each seed that fails into a folder of its own [default: in the directory for
    /// temporary files], that of a replay into this one [default: nowhere]
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl RunArgs {
    fn options(&self, seed: u64) -> Options {
        Options {
            seed,
            length: Duration::from_secs(self.seconds),
            bug: self.bug,
        }
    }
}

/// Which seeds are run, and how.
#[derive(Args)]
pub struct BatchArgs {
    /// How many seeds [default: 1000 of clusters, 300 of control planes]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    seed_from: u64,
    /// Threads [default: one a processor]
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// How often a run that fails is tried again with less, to find what it needs; 0 not to
    #[arg(long, default_value_t = 200)]
    tries: usize,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Something that is simulated, by seeds.
pub struct Simulation<S> {
    /// In recordings, and in the names of its folders.
    pub name: &'static str,
    /// How many seeds are run where nobody says.
    pub seeds: u64,
    /// What of the command line does one seed again, up to its number.
    pub replay: &'static str,
    /// What a seed has asked and done.
    pub schedule: fn(&Options) -> S,
    pub run: fn(&Options, &S) -> Ran,
    /// What has to happen in a batch.
    pub coverage: fn() -> Coverage,
}

impl<S> Simulation<S> {
    /// The command that does a run again.
    pub fn replay(&self, options: &Options) -> String {
        let replay = self.replay;
        let (seed, seconds) = (options.seed, options.length.as_secs());
        let (features, bug) = match options.bug {
            None => ("", String::new()),
            Some(bug) => (
                " --features mutants",
                format!(" --bug {}", bug.mutant().name),
            ),
        };
        format!(
            "cargo run --release -p raft-tests{features} -- {replay} {seed} --seconds {seconds}{bug}"
        )
    }
}

/// A schedule that can be made smaller, and be in a file.
pub trait Scheduled: Lists + Serialize + DeserializeOwned {}

impl<S: Lists + Serialize + DeserializeOwned> Scheduled for S {}

/// What many runs came to.
struct Summary {
    seeds: u64,
    twice: u64,
    simulated: Duration,
    calls: usize,
    answered: usize,
    watched: usize,
    looks: u64,
    coverage: Coverage,
    failed: Vec<u64>,
}

impl Summary {
    fn new(coverage: Coverage) -> Summary {
        Summary {
            seeds: 0,
            twice: 0,
            simulated: Duration::ZERO,
            calls: 0,
            answered: 0,
            watched: 0,
            looks: 0,
            coverage,
            failed: Vec::new(),
        }
    }

    fn add(&mut self, ran: &Ran) {
        let recording = &ran.recording;
        self.seeds += 1;
        self.simulated += ran.lasted;
        self.calls += recording.operations.len() + recording.rest.len();
        let answered = recording.operations.iter();
        let answered = answered.filter(|operation| super::check::is_answered(&operation.outcome));
        let rest = recording.rest.iter();
        let done = rest.filter(|call| matches!(call.fate, RestFate::Done(_)));
        self.answered += answered.count() + done.count();
        let watches = recording.all_watches();
        let messages = watches.map(|(_, watch, _)| watch.messages.len());
        self.watched += messages.sum::<usize>();
        self.looks += ran.looks;
        self.coverage.add(ran);
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
                "{} requests, {} answered; {} messages of watches; {} looks at members by Raft's rules",
                self.calls, self.answered, self.watched, self.looks
            ),
        ];
        lines.extend(self.coverage.told());
        lines.push(format!("{} failed", self.failed.len()));
        lines.join("\n")
    }
}

/// How many threads run seeds, where so many are wished for.
pub(crate) fn threads(wished: Option<NonZero<usize>>) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, NonZero::get);
    wished.map_or_else(all, NonZero::get)
}

type Say<'a> = &'a (dyn Fn(String) + Sync);

fn code(good: bool) -> ExitCode {
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs many seeds, on all processors.
pub fn batch<S: Scheduled>(
    simulation: &Simulation<S>,
    args: &BatchArgs,
    say: Say<'_>,
) -> Result<ExitCode> {
    let began = Instant::now();
    let threads = threads(args.threads);
    let seeds = args.seeds.unwrap_or(simulation.seeds);
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary::new((simulation.coverage)()));
    let one = |number: u64| {
        let options = args.run.options(args.seed_from.wrapping_add(number));
        let twice = number.is_multiple_of(TWICE);
        let ran = run_and_tell(
            simulation,
            &options,
            &(simulation.schedule)(&options),
            twice,
            say,
        );
        let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.add(&ran);
        summary.twice += u64::from(twice);
        if summary.seeds.is_multiple_of(PROGRESS) {
            let rate = summary.seeds as f64 / began.elapsed().as_secs_f64() * 60.0;
            say(format!("{} seeds, {rate:.0} a minute", summary.seeds));
        }
        if ran.violations.is_empty() {
            return;
        }
        summary.failed.push(options.seed);
        let failed = summary.failed.len();
        enough.fetch_or(failed >= FAILURES_MAX, Ordering::Relaxed);
        drop(summary);
        let tries = if failed <= SHRUNK_MAX { args.tries } else { 0 };
        keep(simulation, &options, &ran, &args.run, tries, say);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    one(number);
                }
            });
        }
    });
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(summary.told(began.elapsed()));
    let missing = match summary.seeds {
        ..BATCH => Vec::new(),
        _ => summary.coverage.missing(),
    };
    if summary.seeds < BATCH {
        say(format!(
            "fewer than {BATCH} seeds: of what they have to go through together nothing is demanded"
        ));
    }
    if !missing.is_empty() {
        say(format!("never happened: {}", missing.join(", ")));
    }
    if !summary.failed.is_empty() {
        say(format!("failed: {:?}", summary.failed));
    }
    Ok(code(summary.failed.is_empty() && missing.is_empty()))
}

/// Writes the report of a run that failed, and of a smaller one that fails in the same way.
fn keep<S: Scheduled>(
    simulation: &Simulation<S>,
    options: &Options,
    ran: &Ran,
    args: &RunArgs,
    tries: usize,
    say: Say<'_>,
) {
    let folder = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = folder.join(format!("kontiki-{}-{}", simulation.name, options.seed));
    if let Err(error) = keep_in(simulation, options, ran, &folder, tries, say) {
        say(format!("no report in {}: {error}", folder.display()));
    }
}

fn written(folder: &Path, ran: &Ran, say: Say<'_>) -> Result<()> {
    report::write(folder, &ran.recording, &ran.violations)?;
    for (id, disk) in &ran.disks {
        let to = folder.join(format!("data-m{id}"));
        // Of an earlier run of this seed.
        if to.exists() {
            std::fs::remove_dir_all(&to)?;
        }
        if let Err(error) = disk.save(&home(*id), &to) {
            say(format!("the data of m{id} is not kept: {error}"));
        }
    }
    say(format!("report: {}", folder.join("report.html").display()));
    Ok(())
}

/// As [`keep`], into this folder.
///
/// # Errors
/// It cannot be written.
pub fn keep_in<S: Scheduled>(
    simulation: &Simulation<S>,
    options: &Options,
    ran: &Ran,
    folder: &Path,
    tries: usize,
    say: Say<'_>,
) -> Result<()> {
    written(folder, ran, say)?;
    let Some(violation) = ran.violations.first().filter(|_| tries > 0) else {
        return Ok(());
    };
    let seed = options.seed;
    let mut tell = |tried: &S, tries: usize| {
        if tries.is_multiple_of(20) {
            say(format!(
                "seed {seed}: {tries} tries to make it smaller, now with {}",
                tried.told()
            ));
        }
    };
    let run = |schedule: &S| (simulation.run)(options, schedule);
    let fails = |ran: &Ran| breaks(ran, &violation.rule);
    let whole = (simulation.schedule)(options);
    let Some(found) = smaller(whole, tries, &run, &fails, &mut tell) else {
        say(format!("seed {seed}: it does not fail again"));
        return Ok(());
    };
    let file = folder.join("schedule.min.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&found.schedule)?)?;
    let again = format!(
        "{} --schedule {}",
        simulation.replay(options),
        file.display()
    );
    let mut ran = found.ran;
    ran.recording.run.replay = again.clone();
    let less = match found.minimal {
        true => "none of them can go",
        false => "fewer may do",
    };
    say(format!(
        "seed {seed} fails with {} as well ({} tries, {less})\nagain: {again}",
        found.schedule.told(),
        found.tries,
    ));
    written(&folder.join("small"), &ran, say)
}

/// Whether a run breaks this rule.
pub fn breaks(ran: &Ran, rule: &str) -> bool {
    ran.violations.iter().any(|found| found.rule == rule)
}

/// Runs a schedule and, if `twice`, again: the two must be the same.
fn run_and_tell<S: Scheduled>(
    simulation: &Simulation<S>,
    options: &Options,
    schedule: &S,
    twice: bool,
    say: Say<'_>,
) -> Ran {
    let seed = options.seed;
    let mut ran = (simulation.run)(options, schedule);
    if twice && (simulation.run)(options, schedule).trace != ran.trace {
        ran.violations.push(Violation {
            rule: "not repeatable".into(),
            story: format!("Seed {seed} has gone differently the second time."),
            ..Violation::default()
        });
    }
    for Violation { rule, story, .. } in ran.violations.iter().take(3) {
        say(format!("seed {seed}: {rule}: {story}"));
    }
    if !ran.violations.is_empty() {
        say(format!("again: {}", simulation.replay(options)));
    }
    ran
}

/// Runs one seed, with the schedule of a file where there is one, and tells all of it.
pub fn replay_one<S: Scheduled>(
    simulation: &Simulation<S>,
    seed: u64,
    schedule: Option<&Path>,
    args: &RunArgs,
    say: Say<'_>,
) -> Result<ExitCode> {
    let options = args.options(seed);
    let schedule = match schedule {
        None => (simulation.schedule)(&options),
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)
            .with_context(|| format!("{} is not a schedule", file.display()))?,
    };
    let ran = run_and_tell(simulation, &options, &schedule, true, &|_| {});
    let mut lines: Vec<(u64, String)> = ran.notes.clone();
    for fault in &ran.recording.faults {
        lines.push((fault.from, format!("{}: {}", fault.kind, fault.what)));
        if let Some(until) = fault.until.filter(|until| *until > fault.from) {
            lines.push((until, format!("over: {}: {}", fault.kind, fault.what)));
        }
    }
    lines.sort();
    for (at, text) in lines {
        say(format!("{:9.3}  {text}", at as f64 / 1e9));
    }
    let mut summary = Summary::new((simulation.coverage)());
    summary.add(&ran);
    say(summary.told(Duration::from_secs(1)));
    say(format!("trace {:016x}", ran.trace));
    if let Some(folder) = &args.folder {
        written(folder, &ran, say)?;
    }
    for violation in &ran.violations {
        say(format!("{}: {}", violation.rule, violation.story));
    }
    Ok(code(ran.violations.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        batch: BatchArgs,
    }

    #[test]
    fn nothing_is_not_run() {
        let fits = |words: [&str; 3]| Cli::try_parse_from(words).is_ok();
        assert!(fits(["sim", "--threads", "1"]) && fits(["sim", "--seeds", "1"]));
        assert!(!fits(["sim", "--threads", "0"]) && !fits(["sim", "--seeds", "0"]));
        let cli = Cli::parse_from(["sim", "--threads", "3"]);
        assert_eq!(threads(cli.batch.threads), 3);
    }
}

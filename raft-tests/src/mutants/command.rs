//! `raft-tests mutants`: which bugs are found, by which rule, and after how many seeds.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use kv::mutants::{BUGS, Bug, Level, Mutant, passed};

use crate::kube::command::CONTROL_PLANES;
use crate::recording::Violation;
use crate::sim::Options;
use crate::sim::batch::threads;
use crate::sim::command::CLUSTERS;
use crate::{kube, sim};

/// Plant bugs in the store and the API server, one at a time, and see whether they are found. Fails if one is not, or if
/// something is found where there is none.
#[derive(Args)]
pub struct Mutants {
    /// Only this bug; may be given several times
    #[arg(long, value_name = "NAME", value_parser = super::parse)]
    only: Vec<Bug>,
    /// Give up on a bug after so many seeds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds_max: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed_from: u64,
    /// For how long harm is done in each run, in virtual seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Threads [default: one a processor]
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// As the rows of docs/reference/mutants.md
    #[arg(long)]
    markdown: bool,
    /// Say what there is, and run nothing
    #[arg(long)]
    list: bool,
}

/// What became of one bug.
struct Line {
    mutant: &'static Mutant,
    seeds: u64,
    took: Duration,
    caught: Option<Caught>,
    /// How often a run came by where the bug stands.
    passed: u64,
}

/// The first rule that objected, and how to see it again.
struct Caught {
    rule: String,
    again: String,
}

/// Runs them all; `say` gets progress, `tell` the table.
pub fn mutants(args: &Mutants, say: &(dyn Fn(String) + Sync), tell: &dyn Fn(String)) -> ExitCode {
    let wanted = |mutant: &&Mutant| args.only.is_empty() || args.only.contains(&mutant.bug);
    let wanted: Vec<&'static Mutant> = BUGS.iter().filter(wanted).collect();
    if args.list {
        for mutant in wanted {
            let level = mutant.level.name();
            let (name, what, origin) = (mutant.name, mutant.what, mutant.origin);
            tell(format!("{name:28}{level:10}{what} ({origin})"));
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let done = AtomicUsize::new(0);
    let lines = each(args, wanted.len(), |place| {
        let line = hunt(args, wanted[place]);
        let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
        let took = began.elapsed().as_secs();
        say(format!(
            "{so_far}/{} after {took} s: {}",
            wanted.len(),
            shown(&line)
        ));
        line
    });
    tell(match args.markdown {
        true => rows(&lines),
        false => lines.iter().map(shown).collect::<Vec<_>>().join("\n"),
    });
    let innocent = [Level::Sim, Level::KubeSim].map(|level| without(args, level, &lines, say));
    let is_good = innocent.iter().all(Result::is_ok);
    for told in innocent {
        tell(told.unwrap_or_else(|story| format!("WITHOUT A BUG, {story}")));
    }
    let caught = lines.iter().filter(|line| line.caught.is_some()).count();
    tell(format!(
        "{caught} of {} are caught, in {:.0} s.",
        lines.len(),
        began.elapsed().as_secs_f64()
    ));
    match caught == lines.len() && is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Does all of so many things, a few at a time; the answers are in their order.
fn each<T: Send>(args: &Mutants, count: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = threads(args.threads);
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count {
                        return;
                    }
                    let done = one(place);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.push((place, done));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, done)| done).collect()
}

/// Runs one seed; answers what is objected to first, and how to see it again.
fn attempt(
    args: &Mutants,
    level: Level,
    number: u64,
    bug: Option<Bug>,
) -> Option<(Violation, String)> {
    let options = Options {
        seed: args.seed_from.wrapping_add(number),
        length: Duration::from_secs(args.seconds),
        bug,
    };
    let (ran, again) = match level {
        Level::Sim => (sim::run(&options), CLUSTERS.replay(&options)),
        Level::KubeSim => (kube::run(&options), CONTROL_PLANES.replay(&options)),
    };
    Some((ran.violations.into_iter().next()?, again))
}

/// One seed after the other, until somebody objects.
fn hunt(args: &Mutants, mutant: &'static Mutant) -> Line {
    let began = Instant::now();
    passed();
    let caught = (0..args.seeds_max).find_map(|number| {
        let (first, again) = attempt(args, mutant.level, number, Some(mutant.bug))?;
        let rule = first.rule;
        Some((number + 1, Caught { rule, again }))
    });
    Line {
        mutant,
        seeds: caught.as_ref().map_or(args.seeds_max, |(seeds, _)| *seeds),
        took: began.elapsed(),
        caught: caught.map(|(_, caught)| caught),
        passed: passed(),
    }
}

/// The same seeds without a bug. An error says what is found there.
fn without(
    args: &Mutants,
    level: Level,
    lines: &[Line],
    say: &(dyn Fn(String) + Sync),
) -> Result<String, String> {
    let here = lines.iter().filter(|line| line.mutant.level == level);
    let seeds = here.map(|line| line.seeds).max().unwrap_or(0);
    let name = level.name();
    say(format!("without a bug: {seeds} seeds of {name}"));
    let enough = AtomicBool::new(false);
    let found = each(
        args,
        usize::try_from(seeds).unwrap_or(usize::MAX),
        |place| {
            if enough.load(Ordering::Relaxed) {
                return None;
            }
            let (first, again) = attempt(args, level, place as u64, None)?;
            enough.store(true, Ordering::Relaxed);
            Some(format!("{}: {} Again: {again}", first.rule, first.story))
        },
    );
    match found.into_iter().flatten().next() {
        None => Ok(format!(
            "Without a bug, nothing is objected to in {seeds} seeds of {name}."
        )),
        Some(story) => Err(story),
    }
}

fn shown(line: &Line) -> String {
    let (name, seeds, took) = (line.mutant.name, line.seeds, line.took.as_secs_f64());
    match &line.caught {
        Some(Caught { rule, again }) => {
            format!("{name:28}caught{seeds:>6} seeds {took:>6.1} s  {rule:36}{again}")
        }
        None => format!(
            "{name:28}MISSED{seeds:>6} seeds {took:>6.1} s  its place was passed {} times",
            line.passed
        ),
    }
}

/// See [`super::row`].
fn rows(lines: &[Line]) -> String {
    let rows = lines.iter().map(|line| {
        let caught = line.caught.as_ref();
        let rule = caught.map_or("missed", |caught| &caught.rule);
        format!("{} {rule} | {} |", super::row(line.mutant), line.seeds)
    });
    let rows: Vec<_> = rows.collect();
    rows.join("\n")
}

//! `raft-tests mutants`: which bugs are found, by which rule, and after how many seeds.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use kv::mutants::{BUGS, Bug, Mutant};

use crate::sim::command::replay;
use crate::sim::{Options, run};

/// Plant bugs in the store, one at a time, and see whether they are found. Fails if one is not, or if something is found
/// where there is none.
#[derive(Args)]
pub struct Mutants {
    /// Only this bug; may be given several times
    #[arg(long, value_name = "NAME", value_parser = super::parse)]
    only: Vec<Bug>,
    /// Give up on a bug after so many seeds
    #[arg(long, default_value_t = 1000)]
    seeds_max: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed_from: u64,
    /// For how long harm is done in each run, in virtual seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Threads [default: one a processor]
    #[arg(long)]
    threads: Option<usize>,
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
    /// The first rule that objected, and how to see it again.
    caught: Option<(String, String)>,
}

/// Runs them all; `say` gets progress, `tell` the table.
pub fn mutants(args: &Mutants, say: &(dyn Fn(String) + Sync), tell: &dyn Fn(String)) -> ExitCode {
    let wanted = |mutant: &&Mutant| args.only.is_empty() || args.only.contains(&mutant.bug);
    let wanted: Vec<&'static Mutant> = BUGS.iter().filter(wanted).collect();
    if args.list {
        for mutant in wanted {
            tell(format!(
                "{:28}{} ({})",
                mutant.name, mutant.what, mutant.origin
            ));
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let done = AtomicUsize::new(0);
    let lines = each(args, wanted.len(), |place| {
        let line = hunt(args, wanted[place]);
        let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
        let (what, seeds) = (shown(&line), line.seeds);
        let name = line.mutant.name;
        let took = began.elapsed().as_secs();
        say(format!(
            "{so_far}/{} after {took} s: {name} {what}, {seeds} seeds",
            wanted.len()
        ));
        line
    });
    let most = lines.iter().map(|line| line.seeds).max().unwrap_or(0);
    let innocent = without(args, most, say);
    tell(match args.markdown {
        true => rows(&lines),
        false => table(&lines),
    });
    match &innocent {
        None => tell(format!(
            "Without a bug, nothing is objected to in the {most} seeds."
        )),
        Some(story) => tell(format!("WITHOUT A BUG, {story}")),
    }
    let caught = lines.iter().filter(|line| line.caught.is_some()).count();
    tell(format!(
        "{caught} of {} are caught, in {:.0} s.",
        lines.len(),
        began.elapsed().as_secs_f64()
    ));
    match caught == lines.len() && innocent.is_none() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Does all of so many things, a few at a time; the answers are in their order.
fn each<T: Send>(args: &Mutants, count: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.unwrap_or_else(processors);
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

fn options(args: &Mutants, number: u64, bug: Option<Bug>) -> Options {
    Options {
        seed: args.seed_from + number,
        length: Duration::from_secs(args.seconds),
        bug,
    }
}

/// One seed after the other, until somebody objects.
fn hunt(args: &Mutants, mutant: &'static Mutant) -> Line {
    let caught = (0..args.seeds_max).find_map(|number| {
        let options = options(args, number, Some(mutant.bug));
        let violations = run(&options).violations;
        let first = violations.into_iter().next()?;
        Some((number + 1, first.rule, replay(&options)))
    });
    let seeds = caught.as_ref().map_or(args.seeds_max, |(seeds, ..)| *seeds);
    Line {
        mutant,
        seeds,
        caught: caught.map(|(_, rule, again)| (rule, again)),
    }
}

/// The same seeds without a bug. What is found there, if anything.
fn without(args: &Mutants, seeds: u64, say: &(dyn Fn(String) + Sync)) -> Option<String> {
    say(format!("without a bug: {seeds} seeds"));
    let enough = AtomicBool::new(false);
    let found = each(
        args,
        usize::try_from(seeds).unwrap_or(usize::MAX),
        |place| {
            if enough.load(Ordering::Relaxed) {
                return None;
            }
            let options = options(args, place as u64, None);
            let first = run(&options).violations.into_iter().next()?;
            enough.store(true, Ordering::Relaxed);
            let (rule, story) = (first.rule, first.story);
            Some(format!("{rule}: {story} Again: {}", replay(&options)))
        },
    );
    found.into_iter().flatten().next()
}

fn shown(line: &Line) -> &'static str {
    match line.caught {
        Some(_) => "caught",
        None => "MISSED",
    }
}

fn table(lines: &[Line]) -> String {
    let rows = lines.iter().map(|line| {
        let (rule, again) = match &line.caught {
            Some((rule, again)) => (rule.as_str(), again.as_str()),
            None => ("", ""),
        };
        let (name, seeds) = (line.mutant.name, line.seeds);
        format!("{name:28}{:8}{seeds:>6}  {rule:32}{again}", shown(line))
    });
    let rows: Vec<_> = rows.collect();
    rows.join("\n")
}

/// See [`super::row`].
fn rows(lines: &[Line]) -> String {
    let rows = lines.iter().map(|line| {
        let rule = line.caught.as_ref().map_or("missed", |(rule, _)| rule);
        format!("{} {rule} | {} |", super::row(line.mutant), line.seeds)
    });
    let rows: Vec<_> = rows.collect();
    rows.join("\n")
}

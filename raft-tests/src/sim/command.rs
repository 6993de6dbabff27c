//! The command line of the simulation.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::batch::{BatchArgs, RunArgs, Simulation, batch};
use super::coverage::{self, Coverage};
use super::schedule::Schedule;
use super::{Options, Ran, batch as many, run_schedule, schedule};

#[derive(Args)]
pub struct SimArgs {
    #[command(flatten)]
    batch: BatchArgs,
}

#[derive(Args)]
pub struct ReplayArgs {
    #[arg(long)]
    seed: u64,
    /// What to ask and to do instead of what the seed draws: a file as `sim` writes it for a seed that fails
    #[arg(long)]
    schedule: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Clusters of the store.
#[derive(Clone, Copy, Debug)]
pub struct Clusters;

impl Simulation for Clusters {
    type Schedule = Schedule;
    const NAME: &'static str = "sim";
    const SEEDS: u64 = 1000;

    fn schedule(&self, options: &Options) -> Schedule {
        schedule(options)
    }

    fn run(&self, options: &Options, schedule: &Schedule) -> Ran {
        run_schedule(options, schedule)
    }

    fn replay(&self, options: &Options) -> String {
        replay(options)
    }

    fn coverage(&self) -> Coverage {
        coverage::of_clusters()
    }
}

/// The command that does a run again.
pub fn replay(options: &Options) -> String {
    many::replay("replay", "--seed", options)
}

/// Runs many seeds, on all processors.
pub fn sim(args: &SimArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    batch(&Clusters, &args.batch, say)
}

/// Runs one seed and tells all of it.
pub fn replay_one(args: &ReplayArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    many::replay_one(
        &Clusters,
        args.seed,
        args.schedule.as_deref(),
        &args.run,
        say,
    )
}

//! The command line of the simulation.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::batch::{self, BatchArgs, RunArgs, Simulation, batch};
use super::coverage::of_clusters;
use super::schedule::Schedule;
use super::{run_schedule, schedule};

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
pub const CLUSTERS: Simulation<Schedule> = Simulation {
    name: "sim",
    seeds: 1000,
    replay: "replay --seed",
    schedule,
    run: run_schedule,
    coverage: of_clusters,
};

/// Runs many seeds, on all processors.
pub fn sim(args: &SimArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    batch(&CLUSTERS, &args.batch, say)
}

/// Runs one seed and tells all of it.
pub fn replay_one(args: &ReplayArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    let schedule = args.schedule.as_deref();
    batch::replay_one(&CLUSTERS, args.seed, schedule, &args.run, say)
}

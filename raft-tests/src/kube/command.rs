//! The command line of the control plane's simulation.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::coverage::of_control_planes;
use super::schedule::Schedule;
use super::{run_schedule, schedule};
use crate::sim::batch::{BatchArgs, Simulation, batch, replay_one};

#[derive(Args)]
pub struct KubeSimArgs {
    #[command(flatten)]
    batch: BatchArgs,
    /// Run this one seed, and tell what happens
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
    /// What to ask and to do in it instead of what the seed draws: a file as it is written for a seed that fails
    #[arg(long, requires = "replay")]
    schedule: Option<PathBuf>,
}

/// Clusters with a control plane on top.
pub const CONTROL_PLANES: Simulation<Schedule> = Simulation {
    name: "kube-sim",
    seeds: 300,
    replay: "kube-sim --replay",
    schedule,
    run: run_schedule,
    coverage: of_control_planes,
};

/// Runs many seeds, or one again.
pub fn kube_sim(args: &KubeSimArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    match args.replay {
        None => batch(&CONTROL_PLANES, &args.batch, say),
        Some(seed) => {
            let schedule = args.schedule.as_deref();
            replay_one(&CONTROL_PLANES, seed, schedule, &args.batch.run, say)
        }
    }
}

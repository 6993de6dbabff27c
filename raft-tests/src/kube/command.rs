//! The command line of the control plane's simulation.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::coverage::of_control_planes;
use super::schedule::Schedule;
use super::{run_schedule, schedule};
use crate::sim::batch::{self, BatchArgs, Simulation, batch, replay_one};
use crate::sim::coverage::Coverage;
use crate::sim::{Options, Ran};

/// In recordings, and as the command.
pub const LEVEL: &str = "kube-sim";

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
#[derive(Clone, Copy, Debug)]
pub struct ControlPlanes;

impl Simulation for ControlPlanes {
    type Schedule = Schedule;
    const NAME: &'static str = LEVEL;
    const SEEDS: u64 = 200;

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
        of_control_planes()
    }
}

/// The command that does a run again.
pub fn replay(options: &Options) -> String {
    batch::replay(LEVEL, "--replay", options)
}

/// Runs many seeds, or one again.
pub fn kube_sim(args: &KubeSimArgs, say: &(dyn Fn(String) + Sync)) -> Result<ExitCode> {
    match args.replay {
        None => batch(&ControlPlanes, &args.batch, say),
        Some(seed) => {
            let schedule = args.schedule.as_deref();
            replay_one(&ControlPlanes, seed, schedule, &args.batch.run, say)
        }
    }
}

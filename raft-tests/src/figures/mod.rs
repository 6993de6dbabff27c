//! Figures: one thing done to a real cluster many times, under clients whose history is judged. Each command is bounded
//! in time, says what it found in few lines, and ends with 1 where something is wrong with the store.

pub mod failover;
pub mod flip;
pub mod flips;
pub mod ground;
pub mod kills;
pub mod numbers;
pub mod power;
pub mod pulse;

use crate::chaos::members::Limits;
use crate::chaos::plan::Kind;
use crate::chaos::say;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use ground::Ground;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// What `raft-tests measure` is told.
#[derive(Args, Clone, Debug)]
pub struct MeasureArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// SIGKILL of the leader under a steady writer, default configuration: time to the next acknowledged write
    Failover(Common),
    /// SIGTERM of the leader under a steady writer, default configuration: longest time between acknowledged writes
    Handover(Common),
    /// SIGKILL of random members at random moments under load
    Kills(Common),
    /// Power losses of one member or of all of them under load
    PowerLosses {
        #[command(flatten)]
        common: Common,
        /// In so many of the rounds all members lose their power at once [default: a fifth]
        #[arg(long)]
        all: Option<usize>,
    },
    /// A bit is flipped in a file of a stopped member, which is started again
    Flips(Common),
}

/// What they have in common.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// How many times [default: as many as the figure is promised for]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
    /// Nothing more is done to the cluster after so many seconds
    #[arg(long, default_value_t = 5400)]
    seconds: u64,
    /// Draw the same again [default: something new]
    #[arg(long)]
    seed: Option<u64>,
    /// Members of the cluster
    #[arg(long, default_value_t = 3, value_parser = crate::chaos::members_count)]
    members: usize,
    /// Clients that read and write, where there is load
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..64))]
    clients: u32,
    /// A slow machine: a healed cluster may take so many times longer to serve
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..100))]
    patience: u32,
    /// The binary under test [default: the one beside this program]
    #[arg(long)]
    kontiki: Option<PathBuf>,
    /// Where the logs go, and the report where something is wrong [default: among the temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// What is going to be done, with all defaults filled in.
#[derive(Clone, Debug)]
pub struct Task {
    /// Of the command.
    pub name: &'static str,
    pub times: usize,
    pub seed: u64,
    pub members: usize,
    pub clients: u32,
    pub patience: u32,
    /// When to begin nothing more.
    pub until: Instant,
    pub limits: Limits,
    /// What the members and their machines have to be ready for.
    pub kinds: &'static [Kind],
    /// The same again.
    pub replay: String,
}

impl What {
    fn common(&self) -> &Common {
        match self {
            What::Failover(common)
            | What::Handover(common)
            | What::Kills(common)
            | What::Flips(common)
            | What::PowerLosses { common, .. } => common,
        }
    }

    fn task(&self) -> Task {
        let (name, times, limits, kinds): (_, _, _, &[Kind]) = match self {
            What::Failover(_) => ("failover", 50, Limits::Default, &[]),
            What::Handover(_) => ("handover", 50, Limits::Default, &[]),
            What::Kills(_) => ("kills", 1000, Limits::Small, &[]),
            What::PowerLosses { .. } => ("power-losses", 1000, Limits::Small, &[Kind::Power]),
            What::Flips(_) => ("flips", 500, Limits::Small, &[]),
        };
        let common = self.common();
        let times = common.times.map_or(times, |times| times as usize);
        let seed = common.seed.unwrap_or_else(rand::random);
        Task {
            name,
            times,
            seed,
            members: common.members,
            clients: common.clients,
            patience: common.patience,
            until: Instant::now() + Duration::from_secs(common.seconds),
            limits,
            kinds,
            replay: format!(
                "cargo run --release -p raft-tests -- measure {name} --times {times} --members {} --clients {} --seed {seed}",
                common.members, common.clients
            ),
        }
    }
}

/// What a command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    /// Something is wrong with the store.
    Violated,
    /// As far as it went it is sound; the time was up before all was done, or the harness had trouble.
    Incomplete,
}

/// Exit code 1 where something is wrong with the store, 2 where less was done than asked for.
pub async fn main(args: MeasureArgs) -> ExitCode {
    match run(&args.what).await {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Violated) => ExitCode::from(1),
        Ok(Verdict::Incomplete) => ExitCode::from(2),
        Err(error) => {
            eprintln!("measure: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(what: &What) -> Result<Verdict> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        verdict = perform(what) => verdict,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn perform(what: &What) -> Result<Verdict> {
    let task = what.task();
    let common = what.common();
    let all = match what {
        What::PowerLosses { all, .. } => all.unwrap_or(task.times / 5),
        _ => 0,
    };
    if all > task.times {
        bail!("--all is more than --times");
    }
    say(&format!(
        "{}: {} times, {} members, seed {}",
        task.name, task.times, task.members, task.seed
    ));
    let mut ground = Ground::prepare(task, common.kontiki.as_deref(), common.folder.as_deref())?;
    let done = match what {
        What::Failover(_) => failover::failover(&mut ground).await?,
        What::Handover(_) => failover::handover(&mut ground).await?,
        What::Kills(_) => kills::run(&mut ground).await?,
        What::PowerLosses { .. } => power::run(&mut ground, all).await?,
        What::Flips(_) => flips::run(&mut ground).await?,
    };
    Ok(ground.conclude(&done))
}

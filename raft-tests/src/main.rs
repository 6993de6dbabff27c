//! `raft-tests crash` runs the crash test; `raft-tests member` is one of its members.

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use raft_tests::kube::command::{KubeSimArgs, kube_sim};
use raft_tests::sim::command::{self, ReplayArgs, SimArgs};
use raft_tests::{chaos, crash, figures, judge, member, report, tiers};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// As the product; simulations ask for much memory in small pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(
    name = "raft-tests",
    about = "Takes members of the store apart and looks whether anything is lost."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kill members under writes and check that nothing acknowledged is lost.
    Crash {
        /// How many kills
        #[arg(long, default_value_t = 200)]
        kills: usize,
        /// Repeat the schedule of this seed [default: a new one]
        #[arg(long)]
        seed: Option<u64>,
        /// Give up after so many seconds
        #[arg(long, default_value_t = 900)]
        seconds: u64,
    },
    Report(report::command::Report),
    /// Run clusters in virtual time, one a seed, and judge what their clients saw.
    Sim(SimArgs),
    /// Run one seed of `sim` again, and tell what happens.
    Replay(ReplayArgs),
    #[cfg(feature = "mutants")]
    Mutants(raft_tests::mutants::command::Mutants),
    /// Run control planes in virtual time, one a seed, and judge what clients of the API saw.
    KubeSim(KubeSimArgs),
    Judge(judge::command::Judge),
    /// Break the network, the processes and the disks of a real cluster under clients, and judge what they saw.
    Chaos(chaos::ChaosArgs),
    /// Break a real cluster under clients by hand, on a local page.
    ChaosUi(chaos::live::UiArgs),
    /// Do one thing to a real cluster many times, judge what its clients saw, and say how long it took.
    Measure(figures::MeasureArgs),
    /// What is worth trying after each change: a hundred runs in virtual time, and a short one of real processes.
    Smoke(tiers::TierArgs),
    /// Everything there is, for so many hours, whatever fails; and a page of figures.
    Nightly(tiers::NightlyArgs),
    /// One member, as configured in a file. Started by the test.
    #[command(hide = true)]
    Member {
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let say = |line: String| eprintln!("{line}");
    match Cli::parse().command {
        // With runtimes of their own, on threads of their own.
        Command::Sim(args) => {
            tokio::task::spawn_blocking(move || command::sim(&args, &say)).await?
        }
        Command::Replay(args) => {
            tokio::task::spawn_blocking(move || command::replay_one(&args, &say)).await?
        }
        #[cfg(feature = "mutants")]
        Command::Mutants(args) => {
            let tell = |line: String| chaos::say(&line);
            let hunt = move || raft_tests::mutants::command::mutants(&args, &say, &tell);
            Ok(tokio::task::spawn_blocking(hunt).await?)
        }
        Command::KubeSim(args) => {
            tokio::task::spawn_blocking(move || kube_sim(&args, &say)).await?
        }
        Command::Report(report) => {
            eprintln!("{}", report::command::run(&report)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Judge(wish) => {
            let found = judge::command::run(&wish, &say)?;
            found.iter().for_each(|line| chaos::say(line));
            Ok(match found.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            })
        }
        Command::Chaos(args) => Ok(chaos::main(args).await),
        Command::Smoke(args) => Ok(tiers::smoke(args, commands()).await),
        Command::Nightly(args) => Ok(tiers::nightly(args, commands()).await),
        Command::Measure(args) => Ok(figures::main(args).await),
        Command::ChaosUi(args) => Ok(chaos::live::main(args).await),
        Command::Member { config } => member::run(&config).await.map(|()| ExitCode::SUCCESS),
        Command::Crash {
            kills,
            seed,
            seconds,
        } => {
            let options = crash::Options {
                program: std::env::current_exe()?,
                kills,
                seed: seed.unwrap_or_else(rand::random),
                time_max: Duration::from_secs(seconds),
            };
            let outcome = crash::run(&options, &|line| eprintln!("{line}")).await?;
            eprintln!("nothing acknowledged is lost: {outcome:?}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The names of all that this program can do.
fn commands() -> Vec<String> {
    let cli = Cli::command();
    let names = cli.get_subcommands().map(|command| command.get_name());
    names.map(String::from).collect()
}

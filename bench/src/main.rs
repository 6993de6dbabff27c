//! Figures against etcd, measured in the same run on the same machine: three members each, the same certificates, TLS
//! for clients and between members, an fsync on a quorum before each answer, rounds that alternate. A target, never a
//! test: it prints medians, and ratios with the etcd of this run. And figures of the API, alone or of any other cluster.

mod agents;
mod api;
mod client;
mod cluster;
mod failover;
mod first_pod;
mod machine;
mod memory;
mod puts;
mod store;
mod watchers;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "bench",
    about = "Measures Kontiki's store against etcd (Debian's etcd-server), and the whole of it alone."
)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// The kontiki binary to measure [default: the one beside this program]
    #[arg(long, env = "KONTIKI_BIN", global = true)]
    kontiki: Option<PathBuf>,
    /// Where the members keep their data; the disk below it is part of what is measured
    #[arg(long, env = "KONTIKI_BENCH_DIR", global = true, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Rounds; each measures both systems, and the order changes from one to the next [default: 5, of `store` 3]
    #[arg(long, global = true)]
    rounds: Option<usize>,
}

#[derive(Subcommand)]
enum What {
    /// Puts per second and latency with 1 and with 256 clients
    Puts {
        /// Seconds of each measurement
        #[arg(long, default_value_t = 8)]
        seconds: u64,
    },
    /// How long writes pause after `kill -9` of the leader
    Failover {
        /// Leaders to kill, of each system
        #[arg(long, default_value_t = 20)]
        kills: usize,
    },
    /// Resident memory of one idle server
    Memory,
    /// What ten thousand watchers, and events that they do not read, cost a server's memory
    Watchers,
    /// From `make up` on a built tree to the first pod that runs
    FirstPod,
    /// Puts, updates, reads, lists, watches, leases, compaction, restart and catch-up: about 22 minutes
    Store(store::StoreArgs),
    /// Every verb of the API, watches, custom resources, memory: of members started for it, or of any cluster
    Api(Box<api::ApiArgs>),
    /// Kubernetes' benchmark of its scheduler, rollouts, a lost node, the end of a namespace: of members started for it
    Agents(agents::AgentsArgs),
    /// Everything but `store`, `api`, `agents` and `watchers`, with the default sizes: about 12 minutes
    All,
}

/// What every measurement is told.
pub(crate) struct Setting {
    pub(crate) kontiki: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) rounds: usize,
    began: Instant,
}

impl Setting {
    /// Progress goes to standard error, so that the answer can be kept.
    pub(crate) fn progress(&self, text: &str) {
        let seconds = self.began.elapsed().as_secs();
        eprintln!("[{:2}:{:02}] {text}", seconds / 60, seconds % 60);
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let What::Store(_) | What::Api(_) | What::Agents(_) = cli.what {
        // The servers need the cores; one thread drives them all, and none of its time goes into passing work around.
        runtime.worker_threads(1);
    }
    let runtime = runtime.enable_all().build()?;
    let result = runtime.block_on(until_stopped(cli));
    // A load whose workload has failed may still wait for an answer.
    runtime.shutdown_background();
    result
}

/// Ends early on a signal: what is dropped then stops its processes and removes its directories.
async fn until_stopped(cli: Cli) -> Result<()> {
    if let What::Api(args) = &cli.what {
        // What was made on a cluster that stays is removed first.
        let setting = setting(&cli, !args.is_foreign())?;
        if !args.is_foreign() {
            machine::describe_alone(&setting)?;
        }
        return api::run(&setting, args, signalled()).await;
    }
    if let What::Agents(args) = &cli.what {
        let setting = setting(&cli, true)?;
        machine::describe_alone(&setting)?;
        return agents::run(&setting, args).await;
    }
    tokio::select! {
        result = measure(cli) => result,
        stopped = signalled() => stopped,
    }
}

/// Answers only when the program is to end.
pub(crate) async fn signalled() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
        _ = hangup.recv() => bail!("the terminal is gone"),
    }
}

fn setting(cli: &Cli, needs_kontiki: bool) -> Result<Setting> {
    let kontiki = match &cli.kontiki {
        Some(given) => given.clone(),
        None if needs_kontiki => cluster::built_kontiki()?,
        None => PathBuf::new(),
    };
    let rounds = cli.rounds.unwrap_or(match cli.what {
        What::Store(_) => 3,
        _ => 5,
    });
    Ok(Setting {
        kontiki,
        dir: cli.dir.clone(),
        rounds: rounds.max(1),
        began: Instant::now(),
    })
}

async fn measure(cli: Cli) -> Result<()> {
    let setting = setting(&cli, true)?;
    machine::describe(&setting)?;
    match cli.what {
        What::Puts { seconds } => puts::run(&setting, seconds).await,
        What::Failover { kills } => failover::run(&setting, kills).await,
        What::Memory => memory::run(&setting).await,
        What::Watchers => watchers::run(&setting).await,
        What::FirstPod => first_pod::run(&setting).await,
        What::Store(args) => store::run(&setting, &args).await,
        What::Api(args) => api::run(&setting, &args, std::future::pending()).await,
        What::Agents(args) => agents::run(&setting, &args).await,
        What::All => {
            puts::run(&setting, 8).await?;
            failover::run(&setting, 20).await?;
            memory::run(&setting).await?;
            first_pod::run(&setting).await
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the program's answer")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Of an even number of values, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.len() % 2, sorted.as_slice()) {
        (_, []) => f64::NAN,
        (1, values) => values[half],
        (_, values) => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}

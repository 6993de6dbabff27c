//! Figures against etcd, on the same machine, in alternating rounds, three members each, both with an fsync on a
//! quorum before each answer. A target, never a test: it prints a table with medians.

mod client;
mod cluster;
mod failover;
mod puts;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "bench",
    about = "Measures Kontiki's store against etcd (Debian's etcd-server)."
)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// The kontiki binary to measure
    #[arg(long, env = "KONTIKI_BIN", global = true)]
    kontiki: Option<PathBuf>,
    /// Rounds of each system; they alternate
    #[arg(long, default_value_t = 3, global = true)]
    rounds: usize,
}

#[derive(Subcommand)]
enum What {
    /// Puts per second and latency with 1 and with 256 clients
    Puts {
        /// Seconds of each measurement
        #[arg(long, default_value_t = 5)]
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
    /// Everything, with the default sizes
    All,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let kontiki = cli
        .kontiki
        .clone()
        .map_or_else(cluster::built_kontiki, Ok)?;
    match cli.what {
        What::Puts { seconds } => puts::run(&kontiki, cli.rounds, seconds).await,
        What::Failover { kills } => failover::run(&kontiki, kills).await,
        What::Memory => cluster::memory(&kontiki).await,
        What::All => {
            puts::run(&kontiki, cli.rounds, 5).await?;
            failover::run(&kontiki, 20).await?;
            cluster::memory(&kontiki).await
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the program's answer")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

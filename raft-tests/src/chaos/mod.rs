//! Real processes of `kontiki`, each in a network namespace of its own, driven through etcd's public API by clients that
//! record everything, while the network, the processes and the disks under them fail in ways that follow from a seed.
//! At the end all is mended; then the cluster has to serve again, and the judges look at the recording.

pub mod again;
pub mod api;
pub mod backup;
pub mod bandwidth;
pub mod check;
pub mod clock;
pub mod compare;
pub mod damage;
pub mod disk;
pub mod door;
pub mod heal;
pub mod links;
pub mod live;
pub mod lives;
pub mod load;
pub mod members;
pub mod nodes;
pub mod plan;
pub mod process;
pub mod program;
pub mod proxy;
pub mod quota;
pub mod recorder;
pub mod rig;
pub mod rights;
pub mod road;
pub mod run;
pub mod shared;
pub mod space;
pub mod strike;
pub mod topology;
pub mod truth;
pub mod under;
pub mod upgrade;
pub mod watchers;

use clap::Args;
use plan::Kind;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `raft-tests chaos` is told.
#[derive(Args, Clone, Debug)]
pub struct ChaosArgs {
    /// How long faults come
    #[arg(long, default_value_t = 2.0, value_parser = minutes)]
    pub minutes: f64,
    /// Kinds of faults, separated by commas [default: each seed draws a mix of its own]
    #[arg(long, value_delimiter = ',')]
    pub nemesis: Vec<Kind>,
    /// Members of the cluster
    #[arg(long, default_value_t = 3, value_parser = members_count)]
    pub members: usize,
    /// Repeat the schedule of this seed, as far as the machine's timing lets it [default: a new one]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Clients that read and write; watchers come on top
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..200))]
    pub clients: u32,
    /// The binary under test [default: the one beside this program]
    #[arg(long)]
    pub kontiki: Option<PathBuf>,
    /// Another build of it, for members of two versions in one cluster (`upgrade`)
    #[arg(long)]
    pub other_binary: Option<PathBuf>,
    /// No nodes, no scheduler, no controllers: the store and the API alone
    #[arg(long)]
    pub no_nodes: bool,
    /// Where the recording, the report and the logs go [default: kontiki-recording-SEED among the temporary files, the seed hexadecimal]
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// A slow machine: a healed cluster may take so many times longer to serve
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..100))]
    pub patience: u32,
    /// Do what this file says, such as `schedule.min.json` of a run that failed, and not what the seed draws
    #[arg(long, conflicts_with = "minutes")]
    pub schedule: Option<PathBuf>,
    /// Minutes of running parts of a schedule again that has failed, to find a smaller one that fails; 0 for none at all
    /// [default: as long again as the run took]
    #[arg(long, value_parser = shrink_minutes)]
    pub shrink_minutes: Option<f64>,
    /// Show what would be done, and when, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Show the kinds of faults, and what this machine lacks for them
    #[arg(long)]
    pub list: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.1..=1440.0).contains(&minutes) => Ok(minutes),
        _ => Err("between 0.1 and 1440".into()),
    }
}

fn shrink_minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.0..=1440.0).contains(&minutes) => Ok(minutes),
        _ => Err("between 0 and 1440".into()),
    }
}

pub(crate) fn members_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(members @ (3 | 5)) => Ok(members),
        _ => Err("3 or 5".into()),
    }
}

/// Exit code 1 where something is wrong with the store, 2 where the test could not be done, or proves too little.
pub async fn main(args: ChaosArgs) -> ExitCode {
    if args.list {
        list();
        return ExitCode::SUCCESS;
    }
    match run::run(args).await {
        Ok(run::Verdict::Sound) => ExitCode::SUCCESS,
        Ok(run::Verdict::Violated) => ExitCode::from(1),
        Ok(run::Verdict::ProvesTooLittle) => ExitCode::from(2),
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for (kind, name, does) in plan::KINDS {
        let lacking = rights::lacking_for(*kind);
        let note = match lacking.as_slice() {
            [] => String::new(),
            lacking => format!(" [lacking: {}]", lacking.join(", ")),
        };
        say(&format!("{name:12} {does}{note}"));
    }
}

/// To standard output, where somebody reads it.
pub fn say(line: &str) {
    use std::io::Write;
    // Whoever does not read any more need not be told.
    let _ = writeln!(std::io::stdout(), "{line}");
}

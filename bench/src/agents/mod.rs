//! The scheduler and the controllers: Kubernetes' own benchmark of its scheduler against ours in its server, next to the
//! thresholds of Kubernetes' CI; and how long a rollout, the loss of a node and the end of a large namespace take.
//!
//! Nodes are objects and nothing else, but where thousands of them run pods: those are `kontiki hollow`.

mod changes;
mod hollow;
mod rates;
mod report;
mod scheduling;
mod stage;
mod workloads;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{Setting, say};
use report::Row;
use stage::Stage;

/// How pods come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// While the scheduler works, as in Kubernetes' benchmark
    Created,
    /// All of them before it begins
    Prefilled,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Created => "created",
            Mode::Prefilled => "prefilled",
        }
    }
}

/// Which lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Workload(u8),
    Rollout,
    Failure,
    Namespace,
    Memory,
    Hollow,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let number = text.parse().ok();
        let known = |number: &u8| workloads::ALL.iter().any(|one| one.number == *number);
        match (text, number.filter(known)) {
            (_, Some(number)) => Ok(Wanted::Workload(number)),
            ("rollout", _) => Ok(Wanted::Rollout),
            ("failure", _) => Ok(Wanted::Failure),
            ("namespace", _) => Ok(Wanted::Namespace),
            ("memory", _) => Ok(Wanted::Memory),
            ("hollow", _) => Ok(Wanted::Hollow),
            _ => Err(
                "a number of a workload (1 to 9, 12), or rollout, failure, namespace, memory, hollow"
                    .into(),
            ),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct AgentsArgs {
    /// Measure only these, separated by commas: numbers of workloads (1 to 9, 12), rollout, failure, namespace, memory, hollow
    #[arg(long, value_delimiter = ',')]
    only: Vec<Wanted>,
    /// Part of the full sizes, as 0.1
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Members of the clusters that are started, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1,3", value_parser = clap::value_parser!(u8).range(1..=3))]
    members: Vec<u8>,
    /// How pods come
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "created,prefilled"
    )]
    modes: Vec<Mode>,
    /// Seconds that one measurement may take
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// Seconds after the load of `hollow` at which to look a second time at what the cluster costs at rest: the store forgets
    /// the states of before after five to ten minutes. Not before the first look has ended, after 90 seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(90..))]
    rest_after: Option<u64>,
    /// Write the figures to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 10.0 => Ok(scale),
        _ => Err("a number above 0, at most 10".into()),
    }
}

impl AgentsArgs {
    fn wants(&self, wanted: Wanted) -> bool {
        self.only.is_empty() || self.only.contains(&wanted)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// Never nothing.
    fn scaled(&self, size: usize) -> usize {
        ((size as f64 * self.scale).round() as usize).max(1)
    }
}

/// Measures one after the other; what is known when something fails is told all the same.
pub(crate) async fn run(setting: &Setting, args: &AgentsArgs) -> Result<()> {
    let mut rows = Vec::new();
    let outcome = tokio::select! {
        outcome = every(setting, args, &mut rows) => outcome,
        stopped = crate::signalled() => stopped,
    };
    let told = tell(&rows, args);
    outcome.and(told)
}

async fn every(setting: &Setting, args: &AgentsArgs, rows: &mut Vec<Row>) -> Result<()> {
    for members in &args.members {
        for workload in workloads::ALL {
            if !args.wants(Wanted::Workload(workload.number)) {
                continue;
            }
            for mode in &args.modes {
                setting.progress(&format!("{} {}", workload.name, mode.name()));
                let mut stage = Stage::start(setting, usize::from(*members)).await?;
                let row = scheduling::run(args, &stage, workload, *mode, *members).await;
                keep(setting, rows, said(&mut stage, row).context(workload.name)?);
            }
        }
        for (wanted, name) in [
            (Wanted::Rollout, "rollout"),
            (Wanted::Failure, "node failure"),
            (Wanted::Namespace, "namespace"),
            (Wanted::Memory, "memory"),
            (Wanted::Hollow, "hollow nodes"),
        ] {
            if !args.wants(wanted) {
                continue;
            }
            setting.progress(name);
            let mut stage = Stage::start(setting, usize::from(*members)).await?;
            let measured = match wanted {
                Wanted::Rollout => alone(changes::rollout(args, &stage, *members).await),
                Wanted::Failure => alone(changes::failure(args, &stage, *members).await),
                Wanted::Namespace => alone(changes::namespace(args, &stage, *members).await),
                Wanted::Hollow => hollow::run(setting, args, &stage, *members).await,
                Wanted::Memory | Wanted::Workload(_) => {
                    alone(changes::memory(args, &stage, *members).await)
                }
            };
            for row in said(&mut stage, measured).context(name)? {
                keep(setting, rows, row);
            }
        }
    }
    Ok(())
}

fn alone(row: Result<Row>) -> Result<Vec<Row>> {
    row.map(|row| vec![row])
}

/// A failure together with what servers said that ended by themselves.
fn said<T>(stage: &mut Stage, measured: Result<T>) -> Result<T> {
    match stage.casualties() {
        said if said.is_empty() => measured,
        said => measured.context(said),
    }
}

fn keep(setting: &Setting, rows: &mut Vec<Row>, row: Row) {
    setting.progress(&row.told());
    rows.push(row);
}

fn tell(rows: &[Row], args: &AgentsArgs) -> Result<()> {
    if rows.is_empty() {
        bail!("nothing was measured");
    }
    say(&report::text(rows));
    let (met, all) = report::score(rows);
    for note in [
        "pods/s median is of whole seconds, as in Kubernetes' benchmark; overall is from the first pod to the last",
        "p50 and p99 are from the request that makes a pod until a watch shows its node",
        "CPU is of all servers together, API, store and scheduler; the clients share the cores, so rates are lower bounds",
        "Kubernetes' is the threshold of its CI for the average of the full size, on other machines; the aim is ten times that",
    ] {
        say(&format!("- {note}"));
    }
    say(&format!("- scale {}; aims met: {met} of {all}", args.scale));
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(
            &serde_json::json!({ "scale": args.scale, "rows": rows }),
        )?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AgentsArgs,
    }

    fn parsed(line: &str) -> Result<AgentsArgs, clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.args)
    }

    #[test]
    fn parts_are_chosen_by_number_and_name() {
        let args = parsed("agents --only 1,12,rollout --members 3").unwrap();
        assert!(args.wants(Wanted::Workload(12)) && args.wants(Wanted::Rollout));
        assert!(!args.wants(Wanted::Hollow) && parsed("agents --only hollow").is_ok());
        assert!(!args.wants(Wanted::Workload(2)) && !args.wants(Wanted::Memory));
        assert_eq!(args.members, [3]);
        let all = parsed("agents").unwrap();
        assert!(all.wants(Wanted::Workload(9)) && all.wants(Wanted::Failure));
        assert_eq!((all.modes.len(), all.scaled(1_000)), (2, 1_000));
        for wrong in ["10", "13", "0", "256", "basic"] {
            assert!(
                parsed(&format!("agents --only {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_scale_is_a_part() {
        assert_eq!(parsed("agents --scale 0.1").unwrap().scaled(1_000), 100);
        assert_eq!(parsed("agents --scale 0.0001").unwrap().scaled(100), 1);
        for wrong in ["0", "-1", "11", "NaN", "inf", "x"] {
            assert!(
                parsed(&format!("agents --scale={wrong}")).is_err(),
                "{wrong}"
            );
        }
        assert!(parsed("agents --members 4").is_err());
        assert!(parsed("agents --modes prefilled").is_ok());
    }
}

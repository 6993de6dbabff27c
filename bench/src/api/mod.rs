//! The API alone, of Kontiki or of any other cluster: what each verb costs the servers, what watches and definitions do,
//! and how much memory it all takes. Figures are of the servers' CPU seconds, which a busy machine does not change much;
//! rates and latencies are what this machine allowed at the time.

mod definitions;
pub(crate) mod http;
pub(crate) mod objects;
pub(crate) mod plane;
mod population;
mod reads;
mod report;
mod watches;
mod writes;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::store::load::{Span, WARM_UP};
use crate::store::process::Usage;
use crate::{Setting, say};
use plane::{ForeignArgs, Plane};
use report::Row;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// GET, and LIST in all forms
    Reads,
    /// Create, patches, apply, update, delete
    Writes,
    /// To open them, to deliver to them, to pass them by
    Watches,
    /// Memory idle and with many pods, and the restart with them
    Population,
    /// Large and many custom resources
    Definitions,
}

impl Part {
    /// What a member of many does as well as a member that is alone.
    fn is_of_one_member(self) -> bool {
        matches!(self, Part::Population | Part::Definitions)
    }
}

#[derive(clap::Args)]
pub(crate) struct ApiArgs {
    /// Measure only these, separated by commas
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Members of the clusters that are started, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1,3", value_parser = clap::value_parser!(u8).range(1..=3))]
    members: Vec<u8>,
    #[command(flatten)]
    foreign: ForeignArgs,
    /// Seconds of each measurement that goes by time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Pods in the lists
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    listed_pods: u64,
    /// Pods that are created and deleted
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    writes: u64,
    /// Watches at once
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    watchers: u16,
    /// Events that each of them gets
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Pods with which memory is measured
    #[arg(long, value_delimiter = ',', default_value = "5000,50000")]
    population: Vec<u64>,
    /// Pods with which a server is started again
    #[arg(long, default_value_t = 100_000)]
    objects: u64,
    /// Definitions with the schema of a pod
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    large_definitions: u64,
    /// Small definitions
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    small_definitions: u64,
    /// Write the figures to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a part is told.
struct Bench<'a> {
    args: &'a ApiArgs,
    setting: &'a Setting,
}

impl Bench<'_> {
    fn span(&self) -> Span {
        Span::Time {
            warm_up: WARM_UP,
            counted: Duration::from_secs(self.args.seconds),
        }
    }

    fn progress(&self, plane: &Plane, text: &str) {
        self.setting.progress(&format!("{:<9} {text}", plane.name));
    }
}

/// What was measured so far, each told as soon as it is known.
struct Rows<'a> {
    all: Vec<Row>,
    setting: &'a Setting,
}

impl Rows<'_> {
    fn keep(&mut self, row: Row) {
        self.setting.progress(&row.told());
        self.all.push(row);
    }
}

impl ApiArgs {
    /// Whether the API of another cluster is to be measured, for which no binary of ours is needed.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign.is_given()
    }
}

/// Measures until all is done or `stop` says why not; then what was made is removed, and what is known is told.
pub(crate) async fn run(
    setting: &Setting,
    args: &ApiArgs,
    stop: impl Future<Output = Result<()>>,
) -> Result<()> {
    let bench = Bench { args, setting };
    let mut rows = Rows {
        all: Vec::new(),
        setting,
    };
    let foreign = Plane::foreign(&args.foreign)?;
    let outcome = {
        let measure = async {
            match foreign {
                Some(mut plane) => {
                    let outcome = tokio::select! {
                        outcome = every_part(&bench, &mut plane, &mut rows) => outcome,
                        stopped = stop => stopped,
                    };
                    bench.progress(&plane, "removes what was made");
                    let cleaned = plane.clean_up(args.large_definitions + args.small_definitions);
                    outcome.and(cleaned.await.context("something may be left"))
                }
                None => tokio::select! {
                    outcome = own_clusters(&bench, &mut rows) => outcome,
                    stopped = stop => stopped,
                },
            }
        };
        measure.await
    };
    let told = tell(&rows.all, args);
    outcome.and(told)
}

async fn own_clusters(bench: &Bench<'_>, rows: &mut Rows<'_>) -> Result<()> {
    for members in &bench.args.members {
        for part in Part::value_variants() {
            let skipped = part.is_of_one_member() && *members != 1;
            if skipped || !wanted(bench.args, *part) {
                continue;
            }
            if *part == Part::Population {
                idle_with_agents(bench, rows).await?;
            }
            // Each part begins with empty servers, so that none pays for what another has left.
            let mut plane = Plane::start(bench.setting, usize::from(*members), false).await?;
            one_part(bench, *part, &mut plane, rows).await?;
        }
    }
    Ok(())
}

async fn every_part(bench: &Bench<'_>, plane: &mut Plane, rows: &mut Rows<'_>) -> Result<()> {
    for part in Part::value_variants() {
        if wanted(bench.args, *part) {
            one_part(bench, *part, plane, rows).await?;
        }
    }
    Ok(())
}

fn wanted(args: &ApiArgs, part: Part) -> bool {
    args.only.is_empty() || args.only.contains(&part)
}

async fn one_part(
    bench: &Bench<'_>,
    part: Part,
    plane: &mut Plane,
    rows: &mut Rows<'_>,
) -> Result<()> {
    bench.progress(plane, &format!("{part:?}").to_lowercase());
    plane.prepare().await?;
    let outcome = match part {
        Part::Reads => reads::run(bench, plane, rows).await,
        Part::Writes => writes::run(bench, plane, rows).await,
        Part::Watches => watches::run(bench, plane, rows).await,
        Part::Population => population::run(bench, plane, rows).await,
        Part::Definitions => definitions::run(bench, plane, rows).await,
    };
    let said = plane.own.as_mut().map(|cluster| cluster.casualties());
    match said.filter(|said| !said.is_empty()) {
        Some(said) => outcome.context(said),
        None => outcome,
    }
    .with_context(|| format!("{part:?} of {}", plane.name))
}

/// The whole of a server, as it is when people start one.
async fn idle_with_agents(bench: &Bench<'_>, rows: &mut Rows<'_>) -> Result<()> {
    let plane = Plane::start(bench.setting, 1, true).await?;
    let bytes = plane.settled_memory().await?;
    rows.keep(Row::amount(
        &plane.name,
        report::IDLE_ALL,
        bytes / 1e6,
        "MB",
    ));
    Ok(())
}

/// Of the servers since they were started.
fn cpu_seconds(plane: &Plane) -> Result<f64> {
    Ok(Usage::of(&plane.pids())?.cpu_seconds)
}

fn tell(rows: &[Row], args: &ApiArgs) -> Result<()> {
    say(&report::text(rows));
    let (met, all) = report::score(rows);
    for note in [
        "CPU is of all servers together, user and kernel mode; the clients' is not in it, but they share the cores, so \
         that rates and latencies are lower bounds",
        "a MB/s a core is answers' bytes by the CPU seconds for them",
        "an event's CPU is what the same writes cost more than without watchers, by the events",
        "kube-apiserver: published figures of 1.36 with etcd on two cores, not of this run",
    ] {
        say(&format!("- {note}"));
    }
    say(&format!("- aims met: {met} of {all} that were measured"));
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report::json(rows))?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if rows.is_empty() {
        bail!("nothing was measured");
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
        args: ApiArgs,
    }

    fn parsed(line: &str) -> Result<ApiArgs, clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.args)
    }

    #[test]
    fn parts_are_named() {
        let args = parsed("api --only reads,watches").unwrap();
        assert!(wanted(&args, Part::Watches) && !wanted(&args, Part::Writes));
        assert!(wanted(&parsed("api").unwrap(), Part::Definitions));
        assert!(parsed("api --only everything").is_err());
    }

    #[test]
    fn another_cluster_is_named_completely() {
        assert!(!parsed("api").unwrap().is_foreign());
        assert!(parsed("api --kubeconfig k").unwrap().is_foreign());
        assert!(parsed("api --url https://a:1 --ca c").unwrap().is_foreign());
        for wrong in [
            "api --url https://a:1",
            "api --url https://a:1 --ca c --cert x",
            "api --kubeconfig k --url https://a:1 --ca c",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}

//! The store against etcd: one file a workload, one line each in [`WORKLOADS`]. Both systems are driven through the
//! etcd v3 API by the same clients, with three members each, in rounds that begin with one and with the other in turn.

mod catch_up;
mod compact;
mod count;
mod defragment;
mod get;
mod identity;
mod keys;
mod lease;
mod list;
pub(crate) mod load;
pub(crate) mod message;
mod million;
pub(crate) mod process;
mod put;
pub(crate) mod report;
mod restart;
mod scan;
mod sync;
mod txn;
mod watch;
pub(crate) mod wire;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::builder::PossibleValuesParser;
use futures::future::BoxFuture;
use rand::RngExt;

use crate::cluster::{Cluster, System, order};
use crate::{Setting, say};
use report::{Bound, ERRORS, Figure};
use wire::Connection;

const WORKLOADS: &[Workload] = &[
    put::WORKLOAD,
    txn::WORKLOAD,
    get::WORKLOAD,
    list::WORKLOAD,
    watch::WORKLOAD,
    lease::WORKLOAD,
    sync::WORKLOAD,
    million::WORKLOAD,
    count::WORKLOAD,
    keys::WORKLOAD,
    restart::WORKLOAD,
    catch_up::WORKLOAD,
    compact::WORKLOAD,
    defragment::WORKLOAD,
];

/// Connections that many clients share.
const CONNECTIONS: usize = 30;
/// Of `put`, and of the keys that are many.
const VALUE_BYTES: usize = 256;
/// Puts in one transaction where data is only prepared.
const BULK_PUTS: u64 = 128;

struct Workload {
    name: &'static str,
    stage: Stage,
    run: for<'a> fn(&'a Bench, &'a mut Cluster) -> BoxFuture<'a, Result<Vec<Figure>>>,
}

/// What a workload finds.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Empty members of its own.
    Fresh,
    /// The same, in the first round only.
    Once,
    /// Members with a million keys, that the workload before it leaves.
    Loaded,
}

#[derive(clap::Args)]
pub(crate) struct StoreArgs {
    /// Measure only these, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAME",
        value_parser = PossibleValuesParser::new(WORKLOADS.iter().map(|workload| workload.name)))]
    only: Vec<String>,
    /// Keys where the workload is about a million of them; fewer for a trial
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    keys: u64,
    /// Seconds of each measurement that goes by time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Write the table to this file as well, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// What a workload is told.
struct Bench {
    keys: u64,
    span: Duration,
    /// Without order, so that compression is nobody's advantage.
    noise: Bytes,
}

impl Bench {
    fn span(&self) -> load::Span {
        load::Span::Time {
            warm_up: load::WARM_UP,
            counted: self.span,
        }
    }
}

const NOISE_BYTES: usize = 4 << 20;

/// Another piece for each number, up to some millions.
fn slice_of(noise: &Bytes, bytes: usize, number: u64) -> Bytes {
    let from = (number.wrapping_mul(7919) % (noise.len() - bytes) as u64) as usize;
    noise.slice(from..from + bytes)
}

pub(crate) async fn run(setting: &Setting, args: &StoreArgs) -> Result<()> {
    let mut noise = vec![0; NOISE_BYTES];
    rand::rng().fill(&mut noise[..]);
    let bench = Bench {
        keys: args.keys,
        span: Duration::from_secs(args.seconds),
        noise: noise.into(),
    };
    let mut results = Results::default();
    for round in 0..setting.rounds {
        for system in order(round) {
            let now = Turn {
                setting,
                bench: &bench,
                system,
                round,
            };
            for workload in due(&args.only, round, setting.rounds) {
                if workload.stage != Stage::Loaded {
                    now.on_fresh_members(workload, &mut results).await;
                }
            }
            let loaded: Vec<_> = due(&args.only, round, setting.rounds)
                .filter(|workload| workload.stage == Stage::Loaded)
                .collect();
            if !loaded.is_empty() {
                now.on_loaded_members(&loaded, &mut results).await;
            }
        }
    }
    results.tell(setting, args)
}

/// What is to be measured in this round. Loading takes longest: half of the rounds have to do.
fn due(only: &[String], round: usize, rounds: usize) -> impl Iterator<Item = &'static Workload> {
    let wanted = move |workload: &&Workload| {
        let named = only.is_empty() || only.iter().any(|name| name == workload.name);
        let now = match workload.stage {
            Stage::Fresh => true,
            Stage::Once => round == 0,
            Stage::Loaded => round < rounds.div_ceil(2),
        };
        named && now
    };
    WORKLOADS.iter().filter(wanted)
}

#[derive(Default)]
struct Results {
    figures: Vec<(System, Figure)>,
    failures: Vec<String>,
}

struct Turn<'a> {
    setting: &'a Setting,
    bench: &'a Bench,
    system: System,
    round: usize,
}

impl Turn<'_> {
    async fn on_fresh_members(&self, workload: &Workload, results: &mut Results) {
        match self.start().await {
            Ok(mut cluster) => self.measure(workload, &mut cluster, results).await,
            Err(error) => self.failed(workload.name, error, results),
        }
    }

    /// After all that the one before has left to be written is on disk.
    async fn start(&self) -> Result<Cluster> {
        let synced = tokio::process::Command::new("sync")
            .arg("-f")
            .arg(&self.setting.dir)
            .status();
        synced.await.context("running `sync`")?;
        Cluster::start(self.setting, self.system, false).await
    }

    async fn on_loaded_members(&self, workloads: &[&Workload], results: &mut Results) {
        self.progress(&format!("loads {} keys", self.bench.keys));
        let loading = async {
            let cluster = self.start().await?;
            let figures = million::load(self.bench, &cluster).await?;
            anyhow::Ok((cluster, figures))
        };
        let (mut cluster, figures) = match loading.await {
            Ok(loaded) => loaded,
            Err(error) => return self.failed("loading", error, results),
        };
        if workloads
            .iter()
            .any(|workload| workload.name == million::WORKLOAD.name)
        {
            self.keep(figures, results);
        }
        for workload in workloads {
            self.measure(workload, &mut cluster, results).await;
        }
    }

    /// What fails is told, and the rest is measured nevertheless: a table with a hole is better than none.
    async fn measure(&self, workload: &Workload, cluster: &mut Cluster, results: &mut Results) {
        match (workload.run)(self.bench, cluster).await {
            Ok(figures) => self.keep(figures, results),
            Err(error) => {
                let error = match cluster.casualties() {
                    said if said.is_empty() => error,
                    said => error.context(said),
                };
                self.failed(workload.name, error, results);
            }
        }
    }

    fn keep(&self, figures: Vec<Figure>, results: &mut Results) {
        let mut workloads: Vec<&str> = figures.iter().map(|f| f.workload.as_str()).collect();
        workloads.dedup();
        for workload in workloads {
            let of = figures.iter().filter(|figure| figure.workload == workload);
            let told: Vec<String> = of
                .filter(|figure| figure.measure != ERRORS || figure.value > 0.0)
                .map(|figure| {
                    let value = report::number(figure.value);
                    format!("{} {value} {}", figure.measure, figure.unit)
                })
                .collect();
            self.progress(&format!("{workload}: {}", told.join(", ")));
        }
        let own = figures.into_iter().map(|figure| (self.system, figure));
        results.figures.extend(own);
    }

    fn failed(&self, what: &str, error: anyhow::Error, results: &mut Results) {
        let text = format!("{what} on {} failed: {error:#}", self.system.name());
        self.progress(&text);
        results.failures.push(text);
    }

    fn progress(&self, text: &str) {
        self.setting.progress(&format!(
            "round {}/{} {:<8} {text}",
            self.round + 1,
            self.setting.rounds,
            self.system.name()
        ));
    }
}

impl Results {
    fn tell(&self, setting: &Setting, args: &StoreArgs) -> Result<()> {
        let rows = report::rows(&self.figures);
        let (met, all) = report::score(&rows);
        say(&report::text(&rows));
        let notes = [
            format!(
                "medians of {} rounds ({} with loaded members), three members each; server CPU and bytes are sums over \
                 them, per million operations; peak memory is that of the largest",
                setting.rounds,
                setting.rounds.div_ceil(2)
            ),
            "ratio is ours / etcd; spread is from the lowest to the highest round, ours / etcd".to_string(),
            "the load generator's CPU is not in the servers'; the three of them and it share the cores".to_string(),
            format!("aims met: {met} of {all}"),
        ];
        notes.iter().for_each(|note| say(note));
        for failure in &self.failures {
            say(&format!("FAILED: {failure}"));
        }
        if let Some(file) = &args.markdown {
            let mut text = report::markdown(&rows);
            for note in notes.iter().chain(&self.failures) {
                text.push_str(&format!("\n{note}\n"));
            }
            std::fs::write(file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        match self.failures.len() {
            0 => Ok(()),
            count => bail!("{count} measurements failed"),
        }
    }
}

/// Connections to the member that leads.
async fn to_leader(cluster: &Cluster, count: usize) -> Result<Vec<Connection>> {
    let leader = cluster.leader().await?;
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(cluster.connect(leader).await?);
    }
    Ok(connections)
}

/// So many clients, each on one of the connections in turn.
fn clients<S>(
    count: usize,
    connections: &[Connection],
    client: impl Fn(usize, Connection) -> S,
) -> Vec<S> {
    let connection = |number: usize| connections[number % connections.len()].clone();
    (0..count)
        .map(|number| client(number, connection(number)))
        .collect()
}

/// The end of the range that begins with a prefix. Prefixes here end with a `/`.
fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// `1,000,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const fn at_most(limit: f64) -> report::Aim {
    report::Aim::Alone(Bound::AtMost(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WORKLOADS.len());
    }

    #[test]
    fn what_takes_longest_is_measured_in_half_of_the_rounds() {
        let names = |only: &[String], round| -> Vec<&str> {
            due(only, round, 3).map(|workload| workload.name).collect()
        };
        assert_eq!(names(&[], 0).len(), WORKLOADS.len());
        assert!(names(&[], 1).contains(&"count") && !names(&[], 1).contains(&"sync"));
        assert!(names(&[], 2).contains(&"put") && !names(&[], 2).contains(&"count"));
        let only = ["get".to_string(), "sync".to_string()];
        assert_eq!(names(&only, 0), ["get", "sync"]);
        assert_eq!(names(&only, 1), ["get"]);
        assert_eq!(due(&[], 0, 1).count(), WORKLOADS.len());
    }

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(&prefix_end("a/")[..], b"a0");
    }

    #[test]
    fn thousands_are_grouped() {
        let texts = [7, 1000, 100_000, 1_000_000].map(grouped);
        assert_eq!(texts, ["7", "1,000", "100,000", "1,000,000"]);
    }

    #[test]
    fn values_differ_and_have_their_length() {
        let noise: Bytes = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        let (one, two) = (slice_of(&noise, 256, 1), slice_of(&noise, 256, 2));
        assert!(one != two && one.len() == 256 && two.len() == 256);
        assert_eq!(slice_of(&noise, 256, u64::MAX).len(), 256);
    }
}

//! Whether both systems are equally durable: how often the members ask the disk for it. In a round of its own, because
//! strace slows down what it watches.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::FutureExt;

use super::load::{Span, drive};
use super::process::{counted_calls, is_traced, synchronous_files};
use super::put::{MANY, PUTTING, Putter};
use super::report::{Aim, Bound, Figure};
use super::{Bench, CONNECTIONS, Stage, Workload, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "sync",
    stage: Stage::Once,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

/// The first two are told also where there are none.
const CALLS: &[&str] = &[
    "fdatasync",
    "fsync",
    "sync_file_range",
    "msync",
    "syncfs",
    "pwritev2",
    "io_uring_enter",
];
const ALWAYS_TOLD: usize = 2;
const PATIENCE: Duration = Duration::from_secs(10);

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let connections = to_leader(cluster, CONNECTIONS).await?;
    let scratch = tempfile::tempdir()?;
    let mut figures = Vec::new();
    let cases = [
        ("1000 puts by 1 client, all members", 1, 500),
        ("1000 puts by 1000 clients, all members", MANY, 10_000),
    ];
    for (name, count, operations) in cases {
        let tracer = Tracer::start(&cluster.pids(), &scratch.path().join("calls")).await?;
        let putters = Putter::many(bench, count, &connections, "", operations);
        let load = drive(cluster, Span::Operations(operations), putters, PUTTING).await?;
        load.complete()?;
        let per_thousand = |calls: u64| calls as f64 * 1000.0 / operations as f64;
        let counted = told(&tracer.end().await?);
        for (call, calls) in &counted {
            figures.push(Figure::new(name, call, "calls", per_thousand(*calls)));
        }
        // One put after the other: each has to be on the disks of two members before its answer.
        if count == 1 {
            let both: u64 = counted
                .iter()
                .take(ALWAYS_TOLD)
                .map(|(_, calls)| calls)
                .sum();
            let quorum = Aim::Alone(Bound::AtLeast(2000.0));
            figures.push(Figure::new(name, "both", "calls", per_thousand(both)).aim(quorum));
        }
    }
    let files = cluster.pids().into_iter().map(synchronous_files);
    let files = files
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .sum::<usize>();
    figures.push(Figure::new(
        "files that need no such call (O_DSYNC)",
        "open",
        "",
        files as f64,
    ));
    Ok(figures)
}

fn told(counted: &[(String, u64)]) -> Vec<(&'static str, u64)> {
    let calls = CALLS.iter().enumerate().map(|(place, call)| {
        let found = counted.iter().find(|(name, _)| name == call);
        (place, *call, found.map_or(0, |(_, calls)| *calls))
    });
    let worth = calls.filter(|(place, _, calls)| *place < ALWAYS_TOLD || *calls > 0);
    worth.map(|(_, call, calls)| (call, calls)).collect()
}

/// strace at work; it lets go of the servers when it is dropped.
struct Tracer {
    child: Child,
    table: PathBuf,
}

impl Tracer {
    async fn start(pids: &[u32], table: &Path) -> Result<Tracer> {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-c",
            "-e",
            &format!("trace={}", CALLS.join(",")),
            "-o",
        ]);
        command.arg(table);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .context("starting strace (package strace)")?;
        let mut tracer = Tracer {
            child,
            table: table.into(),
        };
        let deadline = Instant::now() + PATIENCE;
        while !all_traced(pids)? {
            if let Some(status) = tracer.child.try_wait()? {
                bail!("strace may not look at the servers: it ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("strace does not reach all threads of the servers");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(tracer)
    }

    async fn end(mut self) -> Result<Vec<(String, u64)>> {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status()?;
        if !told.success() {
            bail!("strace cannot be stopped");
        }
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("strace does not stop");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let table = std::fs::read_to_string(&self.table).context("reading what strace counted")?;
        Ok(counted_calls(&table))
    }
}

fn all_traced(pids: &[u32]) -> Result<bool> {
    for pid in pids {
        if !is_traced(*pid)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_called_is_told_of_the_first_two() {
        assert_eq!(told(&[]), [("fdatasync", 0), ("fsync", 0)]);
        let counted = [("msync".to_string(), 3), ("fsync".to_string(), 1)];
        assert_eq!(
            told(&counted),
            [("fdatasync", 0), ("fsync", 1), ("msync", 3)]
        );
    }
}

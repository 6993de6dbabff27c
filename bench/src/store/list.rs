//! All of a hundred thousand objects of a kibibyte in one answer, and the memory that this takes of the server.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::FutureExt;
use kv::{RangeRequest, RangeResponse};

use super::load::{Meter, Span, drive};
use super::message::RANGE;
use super::million::bulk;
use super::process::{Memory, reset_peak};
use super::put::{MANY, PUTTING, Putter};
use super::report::{Aim, Figure};
use super::scan;
use super::wire::{Connection, first_message, joined, within};
use super::{Bench, CONNECTIONS, Stage, Workload, at_most, grouped, prefix_end, to_leader};
use crate::cluster::Cluster;
use crate::median;

pub(super) const WORKLOAD: Workload = Workload {
    name: "list",
    stage: Stage::Fresh,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const PREFIX: &str = "/registry/list/";
const OBJECTS_MAX: u64 = 100_000;
const OBJECT_BYTES: usize = 1024;
const SMALL_KEYS: u64 = 1000;
const SMALL_PUTS: u64 = 15_000;
const TIMES: usize = 5;
const PAGE: i64 = 500;
/// Field number of the pairs in an answer.
const PAIRS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(120);
/// For garbage collections that are put off.
const IDLE: Duration = Duration::from_secs(2);
/// Mebibytes.
const EXTRA_MEMORY_MIB: f64 = 16.0;

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let objects = OBJECTS_MAX.min(bench.keys);
    let name = format!("list of {} x 1 KiB", grouped(objects));
    let connections = to_leader(cluster, CONNECTIONS).await?;
    bulk(
        bench,
        cluster,
        &connections,
        (PREFIX, objects, OBJECT_BYTES, 0),
    )
    .await?;
    // What loading took and did not give back would hide what an answer takes, and so would a replay of it: both
    // systems start from a state that they have saved since, if so many entries are enough for them.
    let few = Putter::many(bench, MANY, &connections, "small/", SMALL_KEYS);
    drive(cluster, Span::Operations(SMALL_PUTS), few, PUTTING)
        .await?
        .complete()?;
    cluster.restart().await?;
    let connection = &to_leader(cluster, 1).await?.remove(0);
    // Nor are caches and mapped files what it takes: all of it is read in pages first.
    read_in_pages(connection, objects).await?;
    tokio::time::sleep(IDLE).await;

    let pid = cluster.pid(cluster.leader().await?)?;
    let meter = Meter::start(cluster)?;
    reset_peak(pid)?;
    let before = Memory::of(pid)?.resident_bytes;
    let mut rates = Vec::new();
    for _ in 0..TIMES {
        rates.push(timed(connection, objects).await?);
    }
    let peak = Memory::of(pid)?.peak_bytes;
    let cost = meter.stop()?;
    let extra = peak.saturating_sub(before) as f64 / f64::from(1 << 20);
    let mut figures = vec![
        Figure::new(&name, "rate", "MB/s", median(&rates)).aim(Aim::at_least(2.0)),
        Figure::new(&name, "extra memory at the peak", "MiB", extra).aim(at_most(EXTRA_MEMORY_MIB)),
    ];
    figures.extend(cost.figures(&name, objects * TIMES as u64, false));
    Ok(figures)
}

/// Megabytes of the whole answer per second.
async fn timed(connection: &Connection, objects: u64) -> Result<f64> {
    let request = RangeRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX),
        ..Default::default()
    };
    let sent = Instant::now();
    let chunks = within(PATIENCE, connection.call_chunks(RANGE, &request)).await?;
    let seconds = sent.elapsed().as_secs_f64();
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    let (answer, _) = first_message(joined(chunks))?;
    let pairs = scan::parts(&answer).filter(|(number, _)| *number == PAIRS);
    let pairs = pairs.count() as u64;
    if pairs != objects {
        bail!("{pairs} pairs came of {objects}");
    }
    Ok(bytes as f64 / 1e6 / seconds)
}

async fn read_in_pages(connection: &Connection, objects: u64) -> Result<()> {
    let mut from = Bytes::from_static(PREFIX.as_bytes());
    let mut seen = 0;
    loop {
        let request = RangeRequest {
            key: from,
            range_end: prefix_end(PREFIX),
            limit: PAGE,
            ..Default::default()
        };
        let page: RangeResponse = within(PATIENCE, connection.ask(RANGE, &request)).await?;
        seen += page.kvs.len() as u64;
        match page.kvs.last() {
            Some(last) if page.more => from = [&last.key[..], b"\0"].concat().into(),
            _ if seen == objects => return Ok(()),
            _ => bail!("{seen} pairs came of {objects}, in pages"),
        }
    }
}

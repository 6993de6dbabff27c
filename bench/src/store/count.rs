//! How many keys there are, asked of a million.

use anyhow::{Result, bail};
use futures::FutureExt;
use kv::{RangeRequest, RangeResponse};
use std::time::{Duration, Instant};

use super::load::{Latencies, micros_since};
use super::message::RANGE;
use super::million::PREFIX;
use super::report::{Aim, Figure};
use super::wire::{Connection, within};
use super::{Bench, Stage, Workload, at_most, grouped, prefix_end, put, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "count",
    stage: Stage::Loaded,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const TIMES_MAX: usize = 2000;
const TIMES_MIN: usize = 5;
const SPAN: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let name = format!("count of {} keys", grouped(bench.keys));
    let connection = to_leader(cluster, 1).await?.remove(0);
    let counting = |serializable| RangeRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX),
        count_only: true,
        serializable,
        ..Default::default()
    };
    let one = RangeRequest {
        key: put::key(PREFIX, bench.keys / 2),
        serializable: true,
        ..Default::default()
    };
    let keys = i64::try_from(bench.keys)?;
    let linearizable = repeated(&connection, &counting(false), keys).await?;
    let serializable = repeated(&connection, &counting(true), keys).await?;
    let get = repeated(&connection, &one, 1).await?;
    let us = |latencies: &Latencies| latencies.quantile_ms(0.5) * 1000.0;
    let beyond = us(&serializable) - us(&get);
    Ok(vec![
        Figure::new(&name, "linearizable, p50", "us", us(&linearizable)).aim(at_most(100.0)),
        Figure::new(&name, "serializable, p50", "us", us(&serializable)).aim(at_most(100.0)),
        Figure::new(&name, "beyond a get of one key, p50", "us", beyond.max(0.0))
            .aim(at_most(100.0)),
        Figure::new(&name, "a get of one key, p50", "us", us(&get)).aim(Aim::None),
    ])
}

async fn repeated(
    connection: &Connection,
    request: &RangeRequest,
    expected: i64,
) -> Result<Latencies> {
    let began = Instant::now();
    let mut micros = Vec::new();
    while micros.len() < TIMES_MIN || (micros.len() < TIMES_MAX && began.elapsed() < SPAN) {
        let sent = Instant::now();
        let answer: RangeResponse = within(PATIENCE, connection.ask(RANGE, request)).await?;
        micros.push(micros_since(sent));
        if answer.count != expected {
            bail!(
                "{} keys are counted, and {expected} are there",
                answer.count
            );
        }
    }
    // The first ones fill caches.
    micros.drain(..micros.len() / 10);
    Ok(Latencies::new(micros))
}

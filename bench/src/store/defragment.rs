//! Defragmentation of the leader, while clients write: how long none of them is answered. There is to be none.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;

use super::compact::{WRITERS, WRITERS_KEYS, WRITERS_PREFIX};
use super::load::{beside, longest_silence};
use super::message::{DEFRAGMENT, Empty};
use super::put::{PUTTING, Putter};
use super::report::{ERRORS, Figure};
use super::wire::within;
use super::{Bench, Stage, Workload, at_most, grouped, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "defragment",
    stage: Stage::Loaded,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const WARM_UP: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(300);
/// In seconds. Puts of a loaded disk pause that long by themselves.
const NONE: f64 = 0.1;

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let name = format!("defragmentation, {} keys", grouped(bench.keys));
    let connections = to_leader(cluster, WRITERS).await?;
    let putters = Putter::many(bench, WRITERS, &connections, WRITERS_PREFIX, WRITERS_KEYS);
    let writers = beside(putters, PUTTING);
    tokio::time::sleep(WARM_UP).await;
    let began = Instant::now();
    within(PATIENCE, connections[0].call(DEFRAGMENT, &Empty {})).await?;
    let took = began.elapsed().as_secs_f64();
    tokio::time::sleep(AFTER).await;
    let ended = Instant::now();
    let (answers, errors) = writers.end().await?;
    let silence = longest_silence(&answers, began, ended).as_secs_f64();
    Ok(vec![
        Figure::new(&name, "until it is done", "s", took).aim(at_most(NONE)),
        Figure::new(&name, "longest pause of all puts", "s", silence),
        Figure::new(&name, ERRORS, "", errors.count as f64),
    ])
}

//! Compaction of a million revisions, while clients write: how their puts fare from its beginning to its end, against
//! the seconds before.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use kv::RangeRequest;

use super::load::{beside, between};
use super::message::{COMPACT, CompactionRequest, Headed, RANGE};
use super::million::{self, bulk};
use super::put::{PUTTING, Putter};
use super::report::{ERRORS, Figure};
use super::wire::within;
use super::{Bench, CONNECTIONS, Stage, VALUE_BYTES, Workload, at_most, grouped, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "compact",
    stage: Stage::Loaded,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

pub(super) const WRITERS: usize = 10;
pub(super) const WRITERS_PREFIX: &str = "/registry/writers/";
pub(super) const WRITERS_KEYS: u64 = 1000;
const WARM_UP: Duration = Duration::from_secs(1);
const BEFORE: Duration = Duration::from_secs(5);
/// Looked at from the beginning of the compaction, if it does not take longer itself.
const DURING: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(300);

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let name = format!("compaction of {} revisions", grouped(bench.keys));
    let connections = to_leader(cluster, CONNECTIONS).await?;
    // What was put before has one revision a key; from here on none of them is the newest of its key.
    let before = (million::PREFIX, bench.keys, VALUE_BYTES, 1);
    bulk(bench, cluster, &connections, before).await?;
    let here: Headed = connections[0]
        .ask(
            RANGE,
            &RangeRequest {
                key: "x".into(),
                ..Default::default()
            },
        )
        .await?;
    ensure!(
        here.revision() > i64::try_from(bench.keys)?,
        "there are fewer revisions than keys"
    );

    let putters = Putter::many(bench, WRITERS, &connections, WRITERS_PREFIX, WRITERS_KEYS);
    let writers = beside(putters, PUTTING);
    tokio::time::sleep(WARM_UP + BEFORE).await;
    let request = CompactionRequest {
        revision: here.revision(),
        physical: true,
    };
    let began = Instant::now();
    within(PATIENCE, connections[0].call(COMPACT, &request)).await?;
    let took = began.elapsed();
    tokio::time::sleep(DURING.saturating_sub(took)).await;
    let ended = Instant::now();
    let (answers, errors) = writers.end().await?;

    let p99 = |from, to| between(&answers, from, to).quantile_ms(0.99);
    let (calm, busy) = (p99(began - BEFORE, began), p99(began, ended));
    Ok(vec![
        Figure::new(&name, "until it is done", "s", took.as_secs_f64()),
        Figure::new(&name, "p99 of puts before", "ms", calm),
        Figure::new(&name, "p99 of puts during", "ms", busy),
        Figure::new(&name, "p99 during / before", "", busy / calm).aim(at_most(1.1)),
        Figure::new(&name, ERRORS, "", errors.count as f64),
    ])
}

//! A hundred thousand keys without their values.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::FutureExt;
use kv::{RangeRequest, RangeResponse};
use prost::Message;

use super::load::Meter;
use super::message::RANGE;
use super::million::PREFIX;
use super::report::{Aim, Figure};
use super::wire::{first_message, joined, within};
use super::{Bench, Stage, Workload, grouped, put, to_leader};
use crate::cluster::Cluster;
use crate::median;

pub(super) const WORKLOAD: Workload = Workload {
    name: "keys",
    stage: Stage::Loaded,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const KEYS_MAX: u64 = 100_000;
const TIMES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let keys = KEYS_MAX.min(bench.keys);
    let name = format!("keys_only of {} keys", grouped(keys));
    let connection = to_leader(cluster, 1).await?.remove(0);
    let request = RangeRequest {
        key: put::key(PREFIX, 0),
        range_end: put::key(PREFIX, keys),
        keys_only: true,
        ..Default::default()
    };
    let mut rates = Vec::new();
    let mut meter = Meter::start(cluster)?;
    // The first one fills caches.
    for time in 0..=TIMES {
        if time == 1 {
            meter = Meter::start(cluster)?;
        }
        let sent = Instant::now();
        let chunks = within(PATIENCE, connection.call_chunks(RANGE, &request)).await?;
        let seconds = sent.elapsed().as_secs_f64();
        let answer = RangeResponse::decode(first_message(joined(chunks))?.0)?;
        if answer.kvs.len() as u64 != keys || answer.kvs.iter().any(|kv| !kv.value.is_empty()) {
            bail!(
                "{} keys came of {keys}, or values with them",
                answer.kvs.len()
            );
        }
        if time > 0 {
            rates.push(keys as f64 / seconds);
        }
    }
    let cost = meter.stop()?;
    let mut figures =
        vec![Figure::new(&name, "keys", "/s", median(&rates)).aim(Aim::at_least(2.0))];
    figures.extend(cost.figures(&name, keys * TIMES as u64, false));
    Ok(figures)
}

//! `kill -9` of a follower that has a million keys, and how long it takes from its start to a linearizable read.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::FutureExt;
use kv::{RangeRequest, RangeResponse};

use super::message::RANGE;
use super::million::PREFIX;
use super::report::{Aim, Figure};
use super::wire::{Failure, within};
use super::{Bench, Stage, Workload, grouped, put};
use crate::cluster::Cluster;
use crate::median;

pub(super) const WORKLOAD: Workload = Workload {
    name: "restart",
    stage: Stage::Loaded,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

pub(super) const PATIENCE: Duration = Duration::from_secs(120);
const ATTEMPT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let name = format!("restart with {} keys", grouped(bench.keys));
    let leader = cluster.leader().await?;
    let mut seconds = Vec::new();
    for follower in (0..3).filter(|index| *index != leader) {
        cluster.kill(follower)?;
        let began = Instant::now();
        cluster.start_member(follower, false)?;
        readable(cluster, follower, bench.keys, began + PATIENCE).await?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(vec![
        Figure::new(&name, "until it answers", "s", median(&seconds)).aim(Aim::at_most(0.3)),
    ])
}

/// Waits until a member answers a linearizable read of the last key.
pub(super) async fn readable(
    cluster: &Cluster,
    index: usize,
    keys: u64,
    deadline: Instant,
) -> Result<()> {
    let request = RangeRequest {
        key: put::key(PREFIX, keys - 1),
        ..Default::default()
    };
    loop {
        let attempt = async {
            let connection = cluster
                .connect(index)
                .await
                .map_err(|error| Failure(format!("{error:#}")))?;
            connection.ask::<RangeResponse>(RANGE, &request).await
        };
        let error = match within(ATTEMPT, attempt).await {
            Ok(answer) if answer.kvs.len() == 1 => return Ok(()),
            Ok(_) => bail!("the member answers, and the key is not there"),
            Err(failure) => failure,
        };
        if Instant::now() > deadline {
            bail!("the member does not answer: {error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

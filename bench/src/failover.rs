//! From `kill -9` of the leader to the first write that a surviving member acknowledges.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::cluster::{Cluster, System, order};
use crate::{Setting, median, say};

const PATIENCE: Duration = Duration::from_secs(60);
/// A new attempt so often, through either survivor in turn, whatever became of the ones before: a system that drops
/// what it was asked without a leader must not look slower than one that keeps it, nor the other way round.
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);
/// Kills of one system before it is the other's turn.
const KILLS_IN_A_ROW: usize = 5;

pub(crate) async fn run(setting: &Setting, kills: usize) -> Result<()> {
    let mut gaps = [Vec::new(), Vec::new()];
    let mut done = 0;
    for round in 0.. {
        if done == kills {
            break;
        }
        let now = KILLS_IN_A_ROW.min(kills - done);
        for system in order(round) {
            let mut cluster = Cluster::start(setting, system, false).await?;
            for kill in 0..now {
                let gap = kill_leader(&mut cluster).await?.as_secs_f64() * 1000.0;
                setting.progress(&format!(
                    "failover {:<8} {:2}/{kills}: {gap:5.0} ms",
                    system.name(),
                    done + kill + 1
                ));
                gaps[system as usize].push(gap);
            }
        }
        done += now;
    }
    say(
        "failover: as they come: heartbeats every 50 ms and elections after 500 to 750 ms of silence, etcd's every 100 ms and \
         after 1000 ms and more",
    );
    for system in [System::Kontiki, System::Etcd] {
        let gaps = &gaps[system as usize];
        say(&format!(
            "failover {:<8} median {:5.0} ms, worst {:5.0} ms of {}",
            system.name(),
            median(gaps),
            gaps.iter().copied().fold(0.0, f64::max),
            gaps.len()
        ));
    }
    say(&format!(
        "failover ratio   {:.2} (below 1: sooner than etcd)",
        median(&gaps[System::Kontiki as usize]) / median(&gaps[System::Etcd as usize])
    ));
    Ok(())
}

async fn kill_leader(cluster: &mut Cluster) -> Result<Duration> {
    let leader = cluster.leader().await?;
    let survivors = [
        cluster.client((leader + 1) % 3)?,
        cluster.client((leader + 2) % 3)?,
    ];
    // So that no connection is made within the time that counts.
    for client in &survivors {
        client
            .put(b"failover/before".to_vec(), Bytes::from_static(b"x"))
            .await?;
    }
    cluster.kill(leader)?;
    let killed = Instant::now();
    let mut attempts = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(ATTEMPT_EVERY);
    let mut turns = survivors.iter().cycle();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Some(client) = turns.next() {
                    attempts.push(client.put(b"failover/after".to_vec(), Bytes::from_static(b"x")));
                }
            }
            Some(answer) = attempts.next() => {
                if answer.is_ok() {
                    break;
                }
            }
        }
        if killed.elapsed() > PATIENCE {
            bail!(
                "{}: no write {PATIENCE:?} after the leader was killed",
                cluster.system.name()
            );
        }
    }
    let gap = killed.elapsed();
    drop(attempts);
    cluster.start_member(leader, false)?;
    cluster.wait_serving(leader).await?;
    Ok(gap)
}

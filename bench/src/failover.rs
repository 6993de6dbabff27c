//! From `kill -9` of the leader to the first write that a surviving member acknowledges.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;

use crate::cluster::{Cluster, System};
use crate::{median, say};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(kontiki: &Path, kills: usize) -> Result<()> {
    let mut medians = Vec::new();
    for system in [System::Kontiki, System::Etcd] {
        let mut cluster = Cluster::start(system, kontiki, false).await?;
        let mut gaps = Vec::new();
        for _ in 0..kills {
            gaps.push(kill_leader(&mut cluster).await?.as_secs_f64() * 1000.0);
        }
        let worst = gaps.iter().copied().fold(0.0, f64::max);
        let middle = median(&mut gaps);
        say(&format!(
            "failover {:<8} median {middle:6.0} ms, worst {worst:6.0} ms of {kills}",
            system.name()
        ));
        medians.push(middle);
    }
    if let [ours, theirs] = medians[..] {
        say(&format!("failover ratio {:.2}", ours / theirs));
    }
    Ok(())
}

async fn kill_leader(cluster: &mut Cluster) -> Result<Duration> {
    let leader = cluster.leader().await?;
    let survivors = [
        cluster.client((leader + 1) % 3)?,
        cluster.client((leader + 2) % 3)?,
    ];
    for client in &survivors {
        client
            .put(b"failover/before".to_vec(), Bytes::from_static(b"x"))
            .await?;
    }
    cluster.kill(leader)?;
    let killed = Instant::now();
    let mut attempt = 0;
    loop {
        let put = survivors[attempt % 2].put(b"failover/after".to_vec(), Bytes::from_static(b"x"));
        // Ask again soon: a call that a member holds until its own deadline would measure that deadline.
        if matches!(
            tokio::time::timeout(Duration::from_millis(500), put).await,
            Ok(Ok(()))
        ) {
            break;
        }
        if killed.elapsed() > PATIENCE {
            bail!(
                "{}: no write {PATIENCE:?} after the leader was killed",
                cluster.system.name()
            );
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let gap = killed.elapsed();
    cluster.start_member(leader, false)?;
    cluster.wait_serving(leader).await?;
    Ok(gap)
}

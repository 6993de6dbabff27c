//! Kills members at random moments while clients write, restarts them, and asks the judge.

use crate::cluster::Cluster;
use crate::history::{Dump, violations};
use crate::wire::{Connection, Reply, Request};
use crate::workload::{self, Shared};
use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Writers; each waits for its answer before it goes on.
const WRITERS: u32 = 6;
/// Acknowledgements that must come between two kills: a crash of an idle cluster proves little.
const ACKS_BETWEEN_KILLS: u64 = 10;
/// A cluster whose members all run and that acknowledges nothing for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// This crate's binary, which is also the member.
    pub program: PathBuf,
    /// How many times something is killed.
    pub kills: usize,
    /// Everything that is random follows from it, except the timing of the machine.
    pub seed: u64,
    /// Gives up when the kills take longer.
    pub time_max: Duration,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub kills: usize,
    pub acknowledged: usize,
    pub unknown: usize,
    pub refused: usize,
    pub revision: i64,
    pub elapsed: Duration,
}

/// Whom a kill hits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victims {
    Leader,
    One(usize),
    Two(usize),
    All,
}

/// One step of the schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kill {
    /// How long to wait once the cluster makes progress.
    after: Duration,
    victims: Victims,
    /// How long the victims stay dead.
    down: Duration,
}

/// The whole schedule follows from the seed. A step that kills several counts once.
fn schedule(seed: u64, kills: usize, members: usize) -> Vec<Kill> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut step = |_| {
        let victims = match rng.random_range(0..20) {
            0 => Victims::All,
            1 => Victims::Two(rng.random_range(0..members)),
            2..10 => Victims::Leader,
            _ => Victims::One(rng.random_range(0..members)),
        };
        let after = Duration::from_millis(rng.random_range(0..120));
        // Half of the time the victim comes back at once, before the others have noticed.
        let down = if rng.random_bool(0.5) {
            0
        } else {
            rng.random_range(0..300)
        };
        Kill {
            after,
            victims,
            down: Duration::from_millis(down),
        }
    };
    (0..kills).map(&mut step).collect()
}

/// Runs the test. An error says what is wrong and how to repeat it.
pub async fn run(options: &Options, say: &(dyn Fn(&str) + Sync)) -> Result<Outcome> {
    say(&format!(
        "crash test: {} kills, seed {}",
        options.kills, options.seed
    ));
    let mut ids = StdRng::seed_from_u64(options.seed ^ 0x1d);
    let mut cluster = Cluster::new(&options.program, 3, &mut || ids.next_u64() | 1)?;
    let outcome = run_on(options, &mut cluster, say).await;
    outcome.map_err(|error| {
        let left = cluster.keep();
        error.context(format!(
            "data and logs of the members are left in {}; repeat with: cargo run -p raft-tests -- crash --kills {} --seed {}",
            left.display(), options.kills, options.seed
        ))
    })
}

async fn run_on(
    options: &Options,
    cluster: &mut Cluster,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Outcome> {
    let began = Instant::now();
    for index in 0..cluster.len() {
        cluster.start(index)?;
    }
    let shared = Shared::new(cluster.ports());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(workload::write(shared.clone(), writer, options.seed));
    }
    let mut watchers = JoinSet::new();
    for pinned in (0..cluster.len()).map(Some).chain([None]) {
        let name = pinned.map_or("roaming".into(), |index| {
            format!("at {}", cluster.name(index))
        });
        watchers.spawn(workload::watch(shared.clone(), name, pinned));
    }
    progress(cluster, &shared)
        .await
        .context("the new cluster does not work")?;
    say(&format!(
        "the cluster works after {:.1} s",
        began.elapsed().as_secs_f32()
    ));

    let kills = schedule(options.seed, options.kills, cluster.len());
    for (number, kill) in kills.iter().enumerate() {
        strike(cluster, *kill).await?;
        progress(cluster, &shared)
            .await
            .with_context(|| format!("after kill {}: {kill:?}", number + 1))?;
        if (number + 1) % 20 == 0 {
            let acknowledged = shared.acknowledged.load(Ordering::SeqCst);
            let elapsed = began.elapsed().as_secs_f32();
            say(&format!(
                "{elapsed:6.1} s: {} kills, {acknowledged} writes acknowledged",
                number + 1
            ));
        }
        if began.elapsed() > options.time_max {
            bail!(
                "only {} of {} kills in {:?}",
                number + 1,
                options.kills,
                options.time_max
            );
        }
    }

    shared.writers_stop.store(true, Ordering::SeqCst);
    tokio::time::timeout(SETTLE_DEADLINE, writers.join_all())
        .await
        .context("the writers do not end")?;
    let dumps = settled(cluster).await?;
    let revision = dumps.iter().map(|dump| dump.revision).max().unwrap_or(0);
    shared.watch_until.store(revision, Ordering::SeqCst);
    let watches = tokio::time::timeout(SETTLE_DEADLINE, watchers.join_all());
    let watches = watches.await.context("a watch does not reach the end")?;

    let history = shared.history();
    let found = violations(&history, &dumps, &watches);
    if !found.is_empty() {
        bail!("{} violations:\n{}", found.len(), found.join("\n"));
    }
    Ok(Outcome {
        kills: kills.len(),
        acknowledged: history.acks.len(),
        unknown: history.unknown,
        refused: history.refused.len(),
        revision,
        elapsed: began.elapsed(),
    })
}

/// One step: waits, kills, waits, starts again.
async fn strike(cluster: &mut Cluster, kill: Kill) -> Result<()> {
    tokio::time::sleep(kill.after).await;
    if let Some(fallen) = cluster.fallen() {
        bail!(fallen);
    }
    let count = cluster.len();
    let victims: Vec<usize> = match kill.victims {
        Victims::Leader => vec![cluster.leader().await.unwrap_or(0)],
        Victims::One(index) => vec![index],
        Victims::Two(spared) => (0..count).filter(|index| *index != spared).collect(),
        Victims::All => (0..count).collect(),
    };
    for victim in &victims {
        cluster.kill(*victim)?;
    }
    tokio::time::sleep(kill.down).await;
    for victim in &victims {
        cluster.start(*victim)?;
    }
    Ok(())
}

/// Waits until the writers got some more acknowledgements.
async fn progress(cluster: &mut Cluster, shared: &Arc<Shared>) -> Result<()> {
    let wanted = shared.acknowledged.load(Ordering::SeqCst) + ACKS_BETWEEN_KILLS;
    let deadline = Instant::now() + STUCK_AFTER;
    while shared.acknowledged.load(Ordering::SeqCst) < wanted {
        if let Some(fallen) = cluster.fallen() {
            bail!(fallen);
        }
        if Instant::now() > deadline {
            bail!("all members run, but nothing was acknowledged for {STUCK_AFTER:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The state of every member, read linearizably after the last write; so each must be at least there.
async fn settled(cluster: &Cluster) -> Result<Vec<Dump>> {
    let deadline = Instant::now() + SETTLE_DEADLINE;
    loop {
        let mut dumps = Vec::new();
        for (index, port) in cluster.ports().into_iter().enumerate() {
            match dump(port).await {
                Ok((revision, pairs)) => dumps.push(Dump {
                    member: cluster.name(index).into(),
                    revision,
                    pairs,
                }),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context("a member does not come back"));
                }
                Err(_) => break,
            }
        }
        // A write whose answer was lost may still be applied between two dumps.
        let equal = dumps
            .windows(2)
            .all(|pair| pair[0].revision == pair[1].revision);
        if dumps.len() == cluster.len() && (equal || Instant::now() > deadline) {
            return Ok(dumps);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn dump(port: u16) -> Result<(i64, Vec<crate::wire::Pair>)> {
    match Connection::open(port).await?.call(&Request::Dump).await? {
        Reply::Pairs { revision, pairs } => Ok((revision, pairs)),
        other => bail!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_follows_from_the_seed() {
        assert_eq!(schedule(7, 50, 3), schedule(7, 50, 3));
        assert_ne!(schedule(7, 50, 3), schedule(8, 50, 3));
        let steps = schedule(7, 200, 3);
        assert!(
            [Victims::Leader, Victims::All]
                .iter()
                .all(|wanted| steps.iter().any(|kill| kill.victims == *wanted))
        );
    }
}

//! SIGKILL of random members at random moments, under load.

use super::ground::{Done, Ground};
use crate::chaos::links::Pick;
use crate::chaos::plan::{Kind, Planned, Victims};
use crate::chaos::rig::Rig;
use crate::chaos::say;
use crate::chaos::strike::strike;
use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

/// Kills in one recording.
const SLICE: usize = 50;
const PROGRESS: usize = 10;

/// One fault, and the time that the cluster has after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    pub fault: Planned,
    /// Members that it hits.
    pub count: usize,
    pub rest: Duration,
}

/// So many kills: mostly of one member, the leader more often than others, some of a majority or of all. A member is
/// away for up to three seconds, mostly much less; there is time for less than a second between most of them.
pub fn plan(seed: u64, times: usize, members: usize) -> Vec<Round> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut rounds = Vec::new();
    let mut left = times;
    while left > 0 {
        let victims = match rng.random_range(0..20) {
            0 => Victims::All,
            1 | 2 => Victims::Majority(rng.random_range(0..members)),
            3..10 => Victims::One(Pick::Leader),
            _ => Victims::One(Pick::Member(rng.random_range(0..members))),
        };
        let hit = victims.of(members, None).len();
        let (victims, count) = match hit <= left {
            true => (victims, hit),
            false => (Victims::One(Pick::Leader), 1),
        };
        left -= count;
        let share: f64 = rng.random();
        rounds.push(Round {
            fault: fault(&mut rng, Kind::Kill, victims, 3.0 * share * share),
            count,
            rest: Duration::from_secs_f64(rng.random_range(0.05..1.4)),
        });
    }
    rounds
}

/// Now, and for so many seconds.
pub fn fault(rng: &mut StdRng, kind: Kind, victims: Victims, seconds: f64) -> Planned {
    Planned {
        kind,
        at: Duration::ZERO,
        length: Duration::from_secs_f64(seconds),
        cut: crate::chaos::links::Cut::All,
        victims,
        dice: rng.random(),
    }
}

/// See the command line.
pub async fn run(ground: &mut Ground) -> Result<Done> {
    let task = ground.task().clone();
    let began = Instant::now();
    let mut done = 0;
    let mut rounds = plan(task.seed, task.times, task.members);
    while !rounds.is_empty() && ground.goes_on() {
        let mut count = 0;
        let take = rounds.iter().take_while(|round| {
            count += round.count;
            count <= SLICE
        });
        let rest = rounds.split_off(take.count().max(1));
        let now = std::mem::replace(&mut rounds, rest);
        let slice = ground.slice().await?;
        let clients = ground.load(&slice);
        let before = done;
        done += ground
            .play(slice, clients, move |rig| {
                all(rig, &now, task.until, before)
            })
            .await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let each = seconds / done.max(1) as f64;
    Ok(Done {
        lines: vec![format!("{done} kills of {}, {each:.2} s each", task.times)],
        times: done,
    })
}

/// Answers how many members were hit.
fn all(rig: &Rig, rounds: &[Round], until: Instant, before: usize) -> usize {
    let mut done = 0;
    for round in rounds {
        if Instant::now() > until || rig.halt.wait(round.rest) {
            break;
        }
        strike(rig, &round.fault);
        if (before + done) / PROGRESS < (before + done + round.count) / PROGRESS {
            say(&format!("{} kills", before + done + round.count));
        }
        done += round.count;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_kills_as_asked_for_and_the_cluster_has_time_between_them() {
        for (seed, members) in [(1, 3), (2, 5), (3, 3)] {
            let rounds = plan(seed, 1000, members);
            assert_eq!(rounds, plan(seed, 1000, members));
            let sum: usize = rounds.iter().map(|round| round.count).sum();
            assert_eq!(sum, 1000);
            let alone = rounds.iter().filter(|round| round.count == 1).count();
            assert!(alone > rounds.len() * 3 / 4);
            assert!(rounds.iter().any(|round| round.count == members));
            assert!(
                rounds
                    .iter()
                    .all(|round| round.fault.length.as_secs_f64() <= 3.0)
            );
            let length: f64 = rounds
                .iter()
                .map(|round| (round.fault.length + round.rest).as_secs_f64())
                .sum();
            assert!(
                (600.0..1800.0).contains(&length),
                "half an hour at most: {length}"
            );
        }
    }
}

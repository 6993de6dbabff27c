//! The leader goes, by force or in good order, and writers look how long nobody acknowledges anything.

use super::ground::{Done, Ground, Slice};
use super::numbers::{Aim, first_after, longest_gap, summary};
use super::pulse::Pulse;
use crate::chaos::rig::Rig;
use crate::chaos::say;
use anyhow::{Context, Result, bail};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Times in one recording.
const SLICE: usize = 25;
/// Everybody is at work before the next one, for so long.
const QUIET: Duration = Duration::from_millis(700);
/// For a write after the leader is gone, and for a member to come back.
const PATIENCE: Duration = Duration::from_secs(20);
/// A gap may come when the member has ended.
const AFTER: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);

const FAILOVER: Aim = Aim {
    median: Duration::from_millis(700),
    p99: Some(Duration::from_millis(1500)),
};
const HANDOVER: Aim = Aim {
    median: Duration::from_millis(50),
    p99: None,
};

/// See the command line.
pub async fn failover(ground: &mut Ground) -> Result<Done> {
    let gaps = Arc::new(Mutex::new(Vec::new()));
    rounds(ground, gaps.clone(), |rig, pulse, leader| {
        let killed = now(rig);
        let fault = rig.recorder().fault(
            "kill",
            format!("{} killed", rig.names([leader])),
            rig.ids([leader]),
        );
        rig.members()[leader].kill()?;
        let deadline = Instant::now() + PATIENCE;
        let gap = loop {
            if let Some(gap) = first_after(&pulse.acks(), killed) {
                break gap;
            }
            if Instant::now() > deadline {
                let story = format!(
                    "The leader was killed. No write was acknowledged within {PATIENCE:?}."
                );
                rig.recorder().violation("liveness: no write", story);
                bail!("no write after the leader was killed");
            }
            std::thread::sleep(POLL);
        };
        rig.members()[leader].start()?;
        rig.recorder().undone(fault);
        Ok(vec![gap])
    })
    .await?;
    let gaps = gaps.lock().unwrap_or_else(PoisonError::into_inner);
    let what = "from kill -9 of the leader to the next acknowledged write";
    Ok(Done {
        lines: vec![summary(what, &column(&gaps, 0), Some(FAILOVER))],
        times: gaps.len(),
    })
}

/// See the command line.
pub async fn handover(ground: &mut Ground) -> Result<Done> {
    let gaps = Arc::new(Mutex::new(Vec::new()));
    rounds(ground, gaps.clone(), |rig, pulse, leader| {
        let told = now(rig);
        let fault = rig.recorder().fault(
            "restart",
            format!("{} told to stop", rig.names([leader])),
            rig.ids([leader]),
        );
        let began = Instant::now();
        // So that nobody else starts it again.
        rig.members()[leader].excuse(true);
        let status = rig.members()[leader].stop()?;
        let took = began.elapsed();
        if !status.success() {
            rig.recorder().violation(
                "restart: ends badly",
                format!(
                    "Member {} was told to stop. It ended with {status}.",
                    rig.names([leader])
                ),
            );
        }
        rig.halt.wait(AFTER);
        let until = now(rig);
        let acks = pulse.acks();
        rig.members()[leader].start()?;
        rig.members()[leader].excuse(false);
        rig.recorder().undone(fault);
        let (own, others): (Vec<_>, Vec<_>) = acks.into_iter().partition(|ack| ack.home == leader);
        let gap = |acks| longest_gap(acks, told, until).context("no write before the stop");
        Ok(vec![gap(&others)?, gap(&own)?, took])
    })
    .await?;
    let gaps = gaps.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = vec![
        summary(
            "SIGTERM of the leader, longest time between acknowledged writes through the others",
            &column(&gaps, 0),
            Some(HANDOVER),
        ),
        summary(
            "the same of a client of the one that stops, which goes on to another one",
            &column(&gaps, 1),
            None,
        ),
        summary("until the process has ended", &column(&gaps, 2), None),
    ];
    Ok(Done {
        lines,
        times: gaps.len(),
    })
}

fn column(rows: &[Vec<Duration>], at: usize) -> Vec<Duration> {
    rows.iter().filter_map(|row| row.get(at).copied()).collect()
}

fn now(rig: &Rig) -> Duration {
    Duration::from_nanos(rig.recorder().now())
}

type Once = fn(&Rig, &Pulse, usize) -> Result<Vec<Duration>>;

/// Does it so many times, in slices. What each time comes to goes to `found`.
async fn rounds(
    ground: &mut Ground,
    found: Arc<Mutex<Vec<Vec<Duration>>>>,
    once: Once,
) -> Result<()> {
    let mut left = ground.task().times;
    while left > 0 && ground.goes_on() {
        let slice = ground.slice().await?;
        let pulse = Pulse::new(slice.shared().clone());
        let work = load(&slice, pulse.clone());
        let (times, until) = (left.min(SLICE), ground.task().until);
        let found = found.clone();
        let done = ground
            .play(slice, work, move |rig| {
                let mut done = 0;
                while done < times && Instant::now() < until && !rig.halt.is_halted() {
                    let values = match settled(rig).and_then(|leader| once(rig, &pulse, leader)) {
                        Ok(values) => values,
                        Err(error) => {
                            rig.recorder().trouble(format!("{error:#}"));
                            break;
                        }
                    };
                    let words: Vec<String> = values
                        .iter()
                        .map(|time| format!("{:.0} ms", time.as_secs_f64() * 1e3))
                        .collect();
                    say(&format!("{:4}: {}", done + 1, words.join(", ")));
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(values);
                    done += 1;
                }
                done
            })
            .await?;
        left -= done;
    }
    Ok(())
}

/// A writer at each member.
fn load(slice: &Slice, pulse: Arc<Pulse>) -> tokio::task::JoinSet<()> {
    let mut work = tokio::task::JoinSet::new();
    for member in 0..slice.shared().members.len() {
        work.spawn(pulse.clone().keep(member));
        let client = slice.first_client() + member as u32;
        work.spawn(pulse.clone().beat(member, client));
    }
    work
}

/// Waits until all members follow one leader, and then some. Answers which.
fn settled(rig: &Rig) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut since = Instant::now();
    let mut last = None;
    loop {
        let views: Option<Vec<_>> = (0..rig.members().len())
            .map(|index| rig.shared.view(index).map(|view| (view.leader, view.term)))
            .collect();
        let agreed = views.filter(|views| views.iter().all(|view| *view == views[0]));
        let now = agreed.map(|views| views[0]);
        if now.is_none() || now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > QUIET
            && let Some(leader) = rig.shared.leader()
        {
            return Ok(leader);
        }
        if Instant::now() > deadline || rig.halt.is_halted() {
            bail!("the members do not follow one leader within {PATIENCE:?}");
        }
        std::thread::sleep(POLL);
    }
}

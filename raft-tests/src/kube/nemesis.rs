//! What is done to the control plane: everything that is done to the store ([`crate::sim::nemesis`]), and harm between the
//! members and their clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv::Store;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Run;
use super::kubelet::node;
use crate::sim::nemesis;
use crate::sim::schedule::{Wish, strikes};
use crate::sim::world::World;

/// Numbers of clients, at most.
const CLIENTS: [std::ops::Range<u32>; 4] = [0..6, 50..60, 100..105, 200..203];

/// Does harm until the time is over.
pub async fn torment(run: &Arc<Run>, rng: &mut SmallRng, length: Duration) {
    let until = Instant::now() + length;
    let calm = Duration::from_nanos(run.scribe.now());
    let wish = Wish {
        seed: 0,
        length: calm + length,
        think_max: Duration::ZERO,
    };
    let mut torments = JoinSet::new();
    for hand in 0..rng.random_range(0..3) {
        let strikes = strikes(hand, calm, &wish, rng);
        torments.spawn(nemesis::torment(run.world.clone(), strikes, until));
    }
    if rng.random_bool(0.7) {
        let own = SmallRng::seed_from_u64(rng.random());
        torments.spawn(between(run.clone(), own, until));
    }
    while let Some(ended) = torments.join_next().await {
        ended.expect("what does harm comes to no harm itself");
    }
    tokio::time::sleep_until(until).await;
}

/// Harm between members and clients, and to what members show them.
async fn between(run: Arc<Run>, mut rng: SmallRng, until: Instant) {
    let rest = Duration::from_millis(rng.random_range(200..2000));
    loop {
        let pause = rng.random_range(Duration::ZERO..rest);
        let lasts = rng.random_range(Duration::from_millis(50)..Duration::from_secs(4));
        if Instant::now() + pause >= until {
            return;
        }
        tokio::time::sleep(pause).await;
        let harm = one(&run, &mut rng, lasts);
        drop(tokio::time::timeout_at(until, harm).await);
    }
}

async fn one(run: &Run, rng: &mut SmallRng, lasts: Duration) {
    let members = run.world.members();
    let member = members[rng.random_range(0..members.len())];
    let record = &run.world.record;
    let kinds = match run.plane.crew {
        Some(_) => 8,
        None => 5,
    };
    match rng.random_range(0..kinds) {
        0 => {
            let clients = CLIENTS[rng.random_range(0..CLIENTS.len())].clone();
            let client = rng.random_range(clients);
            let what = format!("client {client} does not reach {member}");
            let fault = record.fault("client cut off", what, &[member]);
            run.plane.wire.cut(client, member);
            tokio::time::sleep(lasts).await;
            run.plane.wire.heal(client, member);
            record.fault_over(fault);
        }
        1 => {
            let what = format!("no client reaches {member}");
            let fault = record.fault("clients cut off", what, &[member]);
            let clients = || CLIENTS.into_iter().flatten();
            clients().for_each(|client| run.plane.wire.cut(client, member));
            tokio::time::sleep(lasts).await;
            clients().for_each(|client| run.plane.wire.heal(client, member));
            record.fault_over(fault);
        }
        2 => {
            let most = Duration::from_millis(rng.random_range(20..500));
            let what = format!("between clients and members anything takes up to {most:?}");
            let fault = record.fault("slow clients", what, &[]);
            run.plane.wire.set_latency(Some(most));
            tokio::time::sleep(lasts).await;
            run.plane.wire.set_latency(None);
            record.fault_over(fault);
        }
        3 => {
            let what = format!("{member} shows the past");
            let fault = record.fault("stale member", what, &[member]);
            run.plane.held.hold(member);
            tokio::time::sleep(lasts).await;
            run.plane.held.release(member);
            record.fault_over(fault);
        }
        4 => compact(run, &run.world, rng, member).await,
        5 => {
            let what = format!("the agents of {member} crash");
            let fault = record.fault("agents crash", what, &[member]);
            if let Some(crew) = &run.plane.crew {
                crew.crash(member);
            }
            record.fault_over(fault);
        }
        6 => {
            let number = rng.random_range(0..run.kubelets.len());
            let what = format!("the agent of {} is stopped", node(number as u32));
            let fault = record.fault("node agent stopped", what, &[]);
            run.kubelets[number].stopped.store(true, Ordering::Relaxed);
            tokio::time::sleep(lasts).await;
            run.kubelets[number].stopped.store(false, Ordering::Relaxed);
            record.fault_over(fault);
        }
        _ => {
            let number = rng.random_range(0..run.kubelets.len());
            let what = format!("{} starts anew", node(number as u32));
            let fault = record.fault("node reboot", what, &[]);
            run.kubelets[number].reboot.store(true, Ordering::Relaxed);
            record.fault_over(fault);
        }
    }
}

/// Drops history that the run itself has read.
async fn compact(run: &Run, world: &World, rng: &mut SmallRng, member: u64) {
    let revision = run.scribe.followed() - rng.random_range(0..40);
    if revision < 1 {
        return;
    }
    let what = format!("history up to {revision} is dropped");
    let fault = world.record.fault("compaction", what, &[]);
    let asked = world.ask(member, Duration::from_secs(2), |node| async move {
        node.compact(revision).await
    });
    drop(asked.await);
    world.record.fault_over(fault);
}

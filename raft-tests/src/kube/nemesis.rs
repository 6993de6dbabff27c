//! What is done to the control plane: everything that is done to the store ([`crate::sim::nemesis`]), and harm between the
//! members and their clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv::Store;
use rand::RngExt;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Run;
use super::kubelet::node;
use super::schedule::{Harm, Schedule};
use crate::kinds::kinds;
use crate::sim::nemesis;
use crate::sim::schedule::{Strike, by};

/// Numbers of clients, at most.
const CLIENTS: [std::ops::Range<u32>; 4] = [0..6, 50..60, 100..105, 200..203];

kinds! {
    /// A kind of fault.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Kind {
        /// One client and one member.
        ClientCutOff = "client cut off",
        /// All clients and one member.
        ClientsCutOff = "clients cut off",
        SlowClients = "slow clients",
        /// A member's watches are held, so that it shows the past.
        StaleMember = "stale member",
        /// History is dropped that the run itself has read.
        Compaction = "compaction",
        /// The scheduler and the controllers of a member, in the middle of something.
        AgentsCrash = "agents crash",
        NodeAgentStopped = "node agent stopped",
        /// Nothing runs on it any more, and its agent knows nothing.
        NodeReboot = "node reboot",
    }
}

use Kind::*;

impl Kind {
    pub fn needs_agents(self) -> bool {
        matches!(self, AgentsCrash | NodeAgentStopped | NodeReboot)
    }

    /// Whether it is more than a moment.
    pub fn lasts(self) -> bool {
        !matches!(self, Compaction | AgentsCrash | NodeReboot)
    }
}

/// Does harm from `began` on, when clients have begun, until `until`.
pub async fn torment(run: &Arc<Run>, schedule: &Schedule, began: Instant, until: Instant) {
    let mut torments = JoinSet::new();
    // The store's are told in time since the run began.
    let began_ms = (began - run.start).as_millis() as u64;
    for strikes in by(|strike| strike.hand, &schedule.strikes).into_values() {
        let later = |strike: Strike| Strike {
            at_ms: strike.at_ms + began_ms,
            ..strike
        };
        let strikes = strikes.into_iter().map(later).collect();
        torments.spawn(nemesis::torment(run.world.clone(), strikes, until));
    }
    let harms = schedule.harms.clone();
    torments.spawn(between(run.clone(), harms, began, until));
    while let Some(ended) = torments.join_next().await {
        ended.expect("what does harm comes to no harm itself");
    }
    sleep_until(until).await;
}

/// Harm between members and clients, and to what members show them.
async fn between(run: Arc<Run>, harms: Vec<Harm>, began: Instant, until: Instant) {
    for harm in harms {
        sleep_until(began + Duration::from_millis(harm.at_ms)).await;
        if Instant::now() >= until {
            return;
        }
        drop(timeout_at(until, one(&run, &harm)).await);
    }
}

async fn one(run: &Run, harm: &Harm) {
    let rng = &mut harm.seed.rng();
    let members = run.world.members();
    let member = members[harm.nth as usize % members.len()];
    let lasts = Duration::from_millis(harm.lasts_ms);
    let record = &run.world.record;
    let tell = |what: String, members: &[u64]| record.fault(harm.kind.name(), what, members);
    match harm.kind {
        ClientCutOff => {
            let clients = CLIENTS[rng.random_range(0..CLIENTS.len())].clone();
            let client = rng.random_range(clients);
            let fault = tell(
                format!("client {client} does not reach {member}"),
                &[member],
            );
            run.plane.wire.cut(client, member);
            tokio::time::sleep(lasts).await;
            run.plane.wire.heal(client, member);
            record.fault_over(fault);
        }
        ClientsCutOff => {
            let fault = tell(format!("no client reaches {member}"), &[member]);
            let clients = || CLIENTS.into_iter().flatten();
            clients().for_each(|client| run.plane.wire.cut(client, member));
            tokio::time::sleep(lasts).await;
            clients().for_each(|client| run.plane.wire.heal(client, member));
            record.fault_over(fault);
        }
        SlowClients => {
            let most = Duration::from_millis(rng.random_range(20..500));
            let what = format!("between clients and members anything takes up to {most:?}");
            let fault = tell(what, &[]);
            run.plane.wire.set_latency(Some(most));
            tokio::time::sleep(lasts).await;
            run.plane.wire.set_latency(None);
            record.fault_over(fault);
        }
        StaleMember => {
            let fault = tell(format!("{member} shows the past"), &[member]);
            run.plane.held.hold(member);
            tokio::time::sleep(lasts).await;
            run.plane.held.release(member);
            record.fault_over(fault);
        }
        Compaction => compact(run, rng, member).await,
        AgentsCrash => {
            let fault = tell(format!("the agents of {member} crash"), &[member]);
            if let Some(crew) = &run.plane.crew {
                crew.crash(member);
            }
            record.fault_over(fault);
        }
        NodeAgentStopped | NodeReboot if run.kubelets.is_empty() => {}
        NodeAgentStopped => {
            let number = rng.random_range(0..run.kubelets.len());
            let what = format!("the agent of {} is stopped", node(number as u32));
            let fault = tell(what, &[]);
            run.kubelets[number].stopped.store(true, Ordering::Relaxed);
            tokio::time::sleep(lasts).await;
            run.kubelets[number].stopped.store(false, Ordering::Relaxed);
            record.fault_over(fault);
        }
        NodeReboot => {
            let number = rng.random_range(0..run.kubelets.len());
            let fault = tell(format!("{} starts anew", node(number as u32)), &[]);
            run.kubelets[number].reboot.store(true, Ordering::Relaxed);
            record.fault_over(fault);
        }
    }
}

/// Drops history that the run itself has read.
async fn compact(run: &Run, rng: &mut SmallRng, member: u64) {
    let revision = run.scribe.followed() - rng.random_range(0..40);
    if revision < 1 {
        return;
    }
    let record = &run.world.record;
    let what = format!("history up to {revision} is dropped");
    let fault = record.fault(Compaction.name(), what, &[]);
    let asked = run
        .world
        .ask(member, Duration::from_secs(2), |node| async move {
            node.compact(revision).await
        });
    drop(asked.await);
    record.fault_over(fault);
}

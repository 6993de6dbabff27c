//! Clients that do what their schedule says, one turn after the other.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};

use super::objects::Known;
use super::rest::{Rest, Shared};
use super::schedule::{Turn, Work};
use super::{objects, workloads};
use crate::sim::schedule::Seed;

/// A client that was busy for longer does not make up for it.
const LATE_MAX: Duration = Duration::from_millis(300);

/// A client that does one sort of work until it is over, without a schedule.
pub async fn work(shared: Arc<Shared>, client: u32, work: Work, mut rng: SmallRng) {
    let mut rest = Rest::new(shared, client, SmallRng::seed_from_u64(rng.random()));
    let (mut known, mut seat) = (Known::new(), rng.random_range(0..60));
    for at_ms in 0.. {
        if rest.shared.is_over() {
            return;
        }
        // Mostly stays where it is, as a client with a connection does.
        if rng.random_bool(0.15) {
            seat = rng.random_range(0..60);
        }
        let turn = Turn {
            at_ms,
            client,
            work,
            seat,
            seed: Seed::draw(&mut rng),
        };
        take(&mut rest, &mut known, &turn).await;
        rest.pause(work.think_max()).await;
    }
}

/// One client, until it is over. Its turns are told in time since `began`.
pub async fn talk(shared: Arc<Shared>, client: u32, turns: Vec<Turn>, began: Instant) {
    let mut rest = Rest::new(shared, client, SmallRng::seed_from_u64(0));
    let mut known = Known::new();
    for turn in turns {
        let at = began + Duration::from_millis(turn.at_ms);
        sleep_until(at).await;
        if rest.shared.is_over() {
            return;
        }
        if at.elapsed() <= LATE_MAX {
            take(&mut rest, &mut known, &turn).await;
        }
    }
}

async fn take(rest: &mut Rest, known: &mut Known, turn: &Turn) {
    rest.sit(turn);
    if rest.member == 0 {
        // Nobody has served yet.
        return;
    }
    match turn.work {
        Work::Objects => objects::turn(rest, known, turn).await,
        Work::Deployments => workloads::operate(rest).await,
        Work::Ordinals => workloads::keep_ordinals(rest).await,
        Work::Bindings => workloads::bind(rest, turn).await,
        Work::Services => workloads::serve(rest).await,
        Work::Namespaces => workloads::come_and_go(rest, turn).await,
        Work::Sets => workloads::keep_sets(rest).await,
        Work::Jobs => workloads::do_once(rest, turn).await,
        Work::CronJobs => workloads::plan_ahead(rest).await,
        Work::Quotas => workloads::fill(rest).await,
    }
}

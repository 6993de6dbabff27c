//! Leases: of keys that live as long as they do, and of their owners' places in line.

use std::sync::Arc;

use rand::RngExt;

use super::{Client, Shared};
use crate::recording::{Outcome, Put, Request, Response};
use crate::sim::schedule::Keeper;

/// One that has a lease with a key all the time, as a node of Kubernetes or who leads has.
pub async fn keep(shared: Arc<Shared>, keeper: Keeper) {
    let mut rng = keeper.seed.rng();
    while !shared.is_over() {
        let mut client = Client {
            shared: &shared,
            number: keeper.client,
            member: 0,
            rng: &mut rng,
        };
        client.move_on();
        client.keep_one().await;
        client.pause(50, 500).await;
    }
}

impl Client<'_> {
    /// A lease of a few seconds; nothing where it was not granted.
    pub(super) async fn granted(&mut self) -> Option<i64> {
        let ttl = self.rng.random_range(1..4);
        self.granted_for(ttl).await
    }

    async fn granted_for(&mut self, ttl: i64) -> Option<i64> {
        let lease = self.shared.unique() as i64 + 1000;
        let outcome = self.ask(Request::Grant { lease, ttl }).await;
        matches!(outcome, Outcome::Ok { .. }).then_some(lease)
    }

    /// Through any member.
    pub(super) async fn renew(&mut self, lease: i64) -> Outcome {
        let own = self.member;
        self.move_on();
        let outcome = self.ask(Request::KeepAlive { lease }).await;
        self.member = own;
        outcome
    }

    async fn put_under(&mut self, lease: i64, name: &str) {
        let put = Put {
            key: format!("l/{lease}/{name}"),
            value: format!("v{}", self.shared.unique()),
            lease,
            prev: false,
        };
        self.ask(Request::Put(put)).await;
    }

    /// Renews one lease in good time, at the same member as long as that answers, until it is gone or not wanted any more.
    async fn keep_one(&mut self) {
        let ttl = self.rng.random_range(1..4);
        let Some(lease) = self.granted_for(ttl).await else {
            return;
        };
        self.put_under(lease, "kept").await;
        let sixth = ttl as u64 * 1000 / 6;
        for _ in 0..self.rng.random_range(5..40) {
            self.pause(sixth, 3 * sixth).await;
            if self.shared.is_over() {
                return;
            }
            match self.ask(Request::KeepAlive { lease }).await {
                Outcome::Ok {
                    response: Response::Lease { ttl: 0 },
                    ..
                } => return,
                Outcome::Ok { .. } if self.rng.random_bool(0.9) => {}
                _ => self.move_on(),
            }
        }
    }

    /// Grants a lease, puts keys under it, keeps it alive for a while, and revokes it or lets it run out.
    pub(super) async fn use_lease(&mut self) {
        let ttl = self.rng.random_range(1..4);
        let Some(lease) = self.granted_for(ttl).await else {
            return;
        };
        for number in 0..self.rng.random_range(1..3) {
            self.put_under(lease, &number.to_string()).await;
        }
        // Some live for longer than most leaders.
        let most = if self.rng.random_bool(0.2) { 14 } else { 4 };
        for _ in 0..self.rng.random_range(0..most) {
            if self.shared.is_over() {
                return;
            }
            self.pause(100, 800).await;
            self.renew(lease).await;
        }
        if self.rng.random_bool(0.4) {
            self.ask(Request::Revoke { lease }).await;
        } else if self.rng.random_bool(0.5) {
            // Until about its end: what comes now is either in time or too late.
            let ms = ttl as u64 * 1000;
            self.pause(ms - 300, ms + 700).await;
            self.renew(lease).await;
        }
        if !self.shared.is_over() && self.rng.random_bool(0.5) {
            self.put_under(lease, "late").await;
        }
    }
}

//! Leases: of keys that live as long as they do, and of their owners' places in line.

use rand::RngExt;

use super::Client;
use crate::recording::{Outcome, Put, Request};

impl Client<'_> {
    /// A lease of a few seconds; nothing where it was not granted.
    pub(super) async fn granted(&mut self) -> Option<i64> {
        let lease = self.shared.unique() as i64 + 1000;
        let ttl = self.rng.random_range(1..4);
        let outcome = self.ask(Request::Grant { lease, ttl }).await;
        matches!(outcome, Outcome::Ok { .. }).then_some(lease)
    }

    /// Through any member.
    pub(super) async fn renew(&mut self, lease: i64) {
        let own = self.member;
        self.move_on();
        self.ask(Request::KeepAlive { lease }).await;
        self.member = own;
    }

    /// Grants a lease, puts keys under it, keeps it alive for a while, and revokes it or lets it run out.
    pub(super) async fn use_lease(&mut self) {
        let Some(lease) = self.granted().await else {
            return;
        };
        for number in 0..self.rng.random_range(1..3) {
            let put = Put {
                key: format!("l/{lease}/{number}"),
                value: format!("v{}", self.shared.unique()),
                lease,
                prev: false,
            };
            self.ask(Request::Put(put)).await;
        }
        for _ in 0..self.rng.random_range(0..4) {
            if self.shared.is_over() {
                return;
            }
            self.pause(100, 800).await;
            self.renew(lease).await;
        }
        if self.rng.random_bool(0.4) {
            self.ask(Request::Revoke { lease }).await;
        }
    }
}

//! Who stands in line: for a lock, or to be elected. That only one has it is true of the store alone, not of what the client
//! believes: its lease may have ended. So it does everything under the condition that the key of its place is still the
//! one that was created then.

use rand::RngExt;

use super::Client;
use super::requests::{equals, one, put};
use crate::recording::{Operand, Outcome, Request, Response, Step, Txn};

const NAMES: u32 = 2;

impl Client<'_> {
    /// Waits for a lock, uses it for a while, and unlocks it, or leaves that to the end of its lease.
    pub(super) async fn lock(&mut self) {
        let Some(lease) = self.granted().await else {
            return;
        };
        let name = format!("lock/{}", self.rng.random_range(0..NAMES));
        let locked = self
            .ask(Request::Lock {
                name: name.clone(),
                lease,
            })
            .await;
        let Outcome::Ok {
            response: Response::Held { key, .. },
            ..
        } = locked
        else {
            return;
        };
        let Some(created) = self.created(&key).await else {
            return;
        };
        for _ in 0..self.rng.random_range(1..4) {
            let fenced = self.fenced(&key, created, &name);
            self.ask(fenced).await;
            if self.shared.is_over() {
                return;
            }
            self.pause(20, 700).await;
            if self.rng.random_bool(0.4) {
                self.renew(lease).await;
            }
        }
        match self.rng.random_range(0..4) {
            0 => {}
            1 => drop(self.ask(Request::Revoke { lease }).await),
            _ => drop(self.ask(Request::Unlock { key }).await),
        }
    }

    /// The revision at which the key was created.
    async fn created(&mut self, key: &str) -> Option<i64> {
        match self.ask(Request::Range(one(key))).await {
            Outcome::Ok {
                response: Response::Range(found),
                ..
            } => found.pairs.first().map(|pair| pair.created),
            _ => None,
        }
    }

    /// Something that only who has the lock may do.
    fn fenced(&self, key: &str, created: i64, name: &str) -> Request {
        let mine = format!("v/{name}");
        Request::Txn(Txn {
            compares: vec![equals(key, Operand::CreateRevision(created))],
            then: vec![Step::Put(put(self.shared, mine.clone(), true))],
            otherwise: vec![Step::Range(one(&mine))],
        })
    }

    /// Stands for election; who is elected says a few things and resigns, or lets its lease end. Others ask who leads.
    pub(super) async fn stand(&mut self) {
        let name = format!("election/{}", self.rng.random_range(0..NAMES));
        if self.rng.random_bool(0.5) {
            self.ask(Request::Leader { name }).await;
            return;
        }
        let Some(lease) = self.granted().await else {
            return;
        };
        let campaign = Request::Campaign {
            name: name.clone(),
            lease,
            value: format!("v{}", self.shared.unique()),
        };
        let Outcome::Ok {
            response: Response::Held { key, created },
            ..
        } = self.ask(campaign).await
        else {
            return;
        };
        for _ in 0..self.rng.random_range(0..4) {
            if self.shared.is_over() {
                return;
            }
            let proclaim = Request::Proclaim {
                key: key.clone(),
                created,
                lease,
                value: format!("v{}", self.shared.unique()),
            };
            self.ask(proclaim).await;
            self.pause(20, 700).await;
            if self.rng.random_bool(0.4) {
                self.renew(lease).await;
            }
        }
        if self.rng.random_bool(0.7) {
            self.ask(Request::Resign { key, created }).await;
        }
    }
}

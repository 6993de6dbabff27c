//! Who stands in line: for a lock, or to be elected.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::Client;
use crate::etcd::turns::{self, Caller};
use crate::recording::{Outcome, Request};

impl Caller for Client<'_> {
    type Dice = SmallRng;

    fn dice(&mut self) -> &mut SmallRng {
        self.rng
    }

    fn unique(&mut self) -> u64 {
        self.shared.unique()
    }

    fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    async fn ask(&mut self, request: Request) -> Outcome {
        Client::ask(self, request).await
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        Client::pause(self, from_ms, to_ms).await;
    }

    async fn renew(&mut self, lease: i64) -> Outcome {
        Client::renew(self, lease).await
    }
}

impl Client<'_> {
    /// Waits for a lock, and uses it.
    pub(super) async fn lock(&mut self) {
        if let Some(lease) = self.granted().await {
            turns::lock(self, lease).await;
        }
    }

    /// Stands for election, or asks who was elected.
    pub(super) async fn stand(&mut self) {
        let name = turns::election(self);
        if self.rng.random_bool(0.5) {
            self.ask(Request::Leader { name }).await;
        } else if let Some(lease) = self.granted().await {
            turns::stand(self, name, lease).await;
        }
    }
}

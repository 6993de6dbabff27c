//! Lists in pages.

use rand::RngExt;

use super::Client;
use crate::recording::{Outcome, Range, Request, Response};

impl Client<'_> {
    /// As the API server lists: the first page of now, the others of the same revision, each after the last key.
    pub(super) async fn leaf_through(&mut self) {
        let mut range = Range {
            key: "r/".into(),
            end: "y".into(),
            limit: self.rng.random_range(1..12),
            ..Range::default()
        };
        loop {
            range.streamed = self.rng.random_bool(0.3);
            let outcome = self.ask(Request::Range(range.clone())).await;
            let Outcome::Ok {
                revision,
                response: Response::Range(found),
            } = outcome
            else {
                return;
            };
            let Some(last) = found.pairs.last().filter(|_| found.more) else {
                return;
            };
            range.key = format!("{}\0", last.key);
            if range.revision == 0 {
                range.revision = revision;
            }
            if self.rng.random_bool(0.3) {
                self.move_on();
            }
        }
    }
}
